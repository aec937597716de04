"""What surrounds a Pulumi program here: settings in, mistakes out as one line each instead of a traceback."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

import pulumi
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from components import leaving, pricing
from components.plan import PLANS
from components.pricing import PricingError, unknown_argument
from components.prover import prove
from components.safekeeping import objections
from components.settings import Settings, SettingsError, StackConfig


@contextmanager
def program(*, meant: Collection[str] = ()) -> Iterator[Settings]:
    """Run the body of a program with its stack's settings, then warn of what its plans surely do not mean
    and of what has left it since the last run.

    Args:
        meant: the names of warnings that are meant, as the warnings give them.

    Raises:
        pulumi.RunError: for a setting or a pricing value that cannot be meant, or a live stack that is kept where
            none should be (a preview warns of that); Pulumi prints it as it is, and nothing is applied.
    """
    config = StackConfig(pulumi.runtime.get_config, pulumi.runtime.is_config_secret)
    if config.hint:
        pulumi.log.warn(config.hint)
    try:
        settings = Settings.read(config, os.environ)
        for objection in objections(settings, project_folder(Path.cwd()), pulumi.get_stack(), os.environ):
            if not pulumi.runtime.is_dry_run():
                raise SettingsError(objection)
            pulumi.log.warn(f"pulumi up will be refused: {objection}")
        yield settings
        leaving.say()
        for finding in prove(PLANS):
            if finding.name not in meant:
                pulumi.log.warn(f'{finding.sentence}; if that is meant: program(meant=["{finding.name}"])')
    except (SettingsError, PricingError) as error:
        raise pulumi.RunError(str(error)) from None
    except ValidationError as error:
        raise pulumi.RunError("\n".join(validation_messages(error))) from None


def project_folder(inside: Path) -> Path:
    """The folder with Pulumi.yaml that a program runs in (`main:` there may name one below it)."""
    folders = (inside, *inside.parents)
    return next((each for each in folders if (each / "Pulumi.yaml").is_file()), inside)


def validation_messages(error: ValidationError) -> list[str]:
    """One line for each thing wrong, with the path of the field: `Plan.overage.per: Input should be ...`."""
    return [_message(error.title, detail) for detail in error.errors(include_url=False, include_context=False)]


def _message(title: str, detail: ErrorDetails) -> str:
    *above, last = title, *(str(part) for part in detail["loc"])
    if detail["type"] == "extra_forbidden":
        model = getattr(pricing, title, None) if above == [title] else None
        return f"{'.'.join(above)}: {unknown_argument(last, getattr(model, 'model_fields', ()))}"
    return f"{'.'.join([*above, last])}: {detail['msg'].removeprefix('Value error, ')}"
