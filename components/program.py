"""What surrounds a Pulumi program here: settings in, mistakes out as one line each instead of a traceback."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import pulumi
from pydantic import ValidationError

from components import leaving
from components.settings import Settings, SettingsError, StackConfig


@contextmanager
def program() -> Iterator[Settings]:
    """Run the body of a program with its stack's settings, and warn of what has left it since the last run.

    Raises:
        pulumi.RunError: for a setting or a pricing value that cannot be meant; Pulumi prints it as it is,
            and nothing is applied.
    """
    config = StackConfig(pulumi.runtime.get_config)
    if config.hint:
        pulumi.log.warn(config.hint)
    try:
        yield Settings.read(config, os.environ)
        leaving.say()
    except SettingsError as error:
        raise pulumi.RunError(str(error)) from None
    except ValidationError as error:
        raise pulumi.RunError("\n".join(validation_messages(error))) from None


def validation_messages(error: ValidationError) -> list[str]:
    """One line for each thing wrong, with the path of the field: `Plan.overage.per: Input should be ...`."""
    lines = []
    for detail in error.errors(include_url=False, include_context=False):
        path = ".".join([error.title, *(str(part) for part in detail["loc"])])
        lines.append(f"{path}: {detail['msg'].removeprefix('Value error, ')}")
    return lines
