"""The frame of a Pulumi program here: reads settings, and reports mistakes as one line each instead of a traceback."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import pulumi
from pulumi.runtime.settings import SETTINGS, get_root_resource
from pulumi.runtime.stack import Stack
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from components import leaving, pricing
from components.adopted import file_name, project_folder
from components.placement import followed, undecided
from components.plan import PublishedPlan
from components.pricing import Plan, PricingError, unknown_argument
from components.prover import Finding, prove
from components.pulumi_speed import speed_up_program
from components.safekeeping import objections
from components.settings import NAMESPACE, Settings, SettingsError, StackConfig, offers
from components.this_run import this_run

#: A catalogue of a hundred plans has thousands of pairs.
MOST_DOUBTS: Final = 20


@contextmanager
def program(*, meant: Collection[str] = ()) -> Iterator[Settings]:
    """Run the body of a program with its stack's settings, then warn of suspicious prices and of resources that were
    removed since the last run.

    Args:
        meant: the names of warnings to silence, as the warnings show them.

    Raises:
        pulumi.RunError: a setting or a pricing value is invalid, or a live stack has an unsafe backend (a preview only
            warns of that); Pulumi prints the message unchanged, and nothing is applied.
    """
    config = StackConfig(pulumi.runtime.get_config, pulumi.runtime.is_config_secret)
    if config.hint:
        pulumi.log.warn(config.hint)
    declared = _Withdrawable()
    speed_up_program()
    try:
        settings = Settings.read(config, os.environ)
        for objection in objections(settings, project_folder(Path.cwd()), pulumi.get_stack(), os.environ):
            if not pulumi.runtime.is_dry_run():
                raise SettingsError(objection)
            pulumi.log.warn(f"pulumi up will be refused: {objection}")
        run = this_run()
        run.gathers_undecided = True
        yield settings
        if said := undecided(run):
            raise PricingError(said)
        for name in offers(config).keys() - run.plans.keys():
            known = ", ".join(sorted(run.plans)) or "none"
            raise PricingError(f"{NAMESPACE}:offers names {name}, and there is no such plan; this program has {known}")
        leaving.say()
        for kind, names in (run.adopted or {}).items():
            for each in sorted(name for name in names if (kind, name) not in run.declared):
                pulumi.log.warn(
                    f"{file_name(pulumi.get_stack())} names {kind} '{each}', which the program does not declare: "
                    f"{names[each]} is not adopted"
                )
        for sentence in followed(run):
            pulumi.log.warn(sentence)
        found = [each for each in doubts(run.plans) if not is_meant(each, meant)]
        for finding in found[:MOST_DOUBTS]:
            pulumi.log.warn(f'{finding.sentence}; if that is meant: program(meant=["{finding.name}"])')
        if len(found) > MOST_DOUBTS:
            pulumi.log.warn(f"there are {len(found) - MOST_DOUBTS:,} more warnings of what plans cost")
    except (SettingsError, PricingError) as error:
        declared.withdraw()
        raise pulumi.RunError(str(error)) from None
    except ValidationError as error:
        declared.withdraw()
        raise pulumi.RunError("\n".join(validation_messages(error))) from None


class _Withdrawable:
    """The resources that a program declares from now on, before Pulumi's engine knows them.

    Pulumi's SDK registers resources after the program's body, even if that has failed: an `up` without a preview would
    apply the part of the model before a mistake.
    """

    def __init__(self) -> None:
        self._tasks, self._outputs = self._waiting(), set(SETTINGS.outputs)

    def withdraw(self) -> None:
        """Drop the resources."""
        for task in self._waiting() - self._tasks:
            task.cancel()
        SETTINGS.outputs.intersection_update(self._outputs)
        # Exports would wait forever for resources that are never registered.
        root = get_root_resource()
        if isinstance(root, Stack):
            root.outputs.clear()

    @staticmethod
    def _waiting() -> set[asyncio.Task[Any]]:
        try:
            return asyncio.all_tasks()
        except RuntimeError:
            # No engine runs this program.
            return set()


def doubts(published: Mapping[str, PublishedPlan]) -> list[Finding]:
    """Suspicious prices of plans, in the offered versions and in newer ones.

    Each version is compared with the previous one, and each offered version with the other offers. Versions older than
    the offered one are not reported again: they cannot change. Neither can those that the stack adopts.
    """
    plans: dict[str, Plan] = {}
    before: dict[str, str] = {}
    offered: list[str] = []
    for name, plan in published.items():
        names = {n: name if len(plan.versions) == 1 else f"{name}@{n}" for n in plan.versions}
        if not plan.offered.is_adopted:
            offered.append(names[plan.offered.number])
        for old, new in pairwise([None, *plan.versions]):
            if new is not None and new >= plan.offered.number and not plan.versions[new].is_adopted:
                plans[names[new]] = plan.versions[new].plan
                if old is not None:
                    plans[names[old]] = plan.versions[old].plan
                    before[names[new]] = names[old]
    return prove(plans, before=before, offered=offered)


def is_meant(finding: Finding, meant: Collection[str]) -> bool:
    """Whether a warning is acknowledged; an acknowledgement for a plan without versions also holds for version 1."""
    return finding.name in meant or re.sub(r"@1(?!\d)", "", finding.name) in meant


def validation_messages(error: ValidationError) -> list[str]:
    """One line for each mistake, with the path of the field: `Plan.overage.per: Input should be ...`."""
    return [_message(error.title, detail) for detail in error.errors(include_url=False, include_context=False)]


def _message(title: str, detail: ErrorDetails) -> str:
    *above, last = title, *(str(part) for part in detail["loc"])
    if detail["type"] == "extra_forbidden":
        model = getattr(pricing, title, None) if above == [title] else None
        return f"{'.'.join(above)}: {unknown_argument(last, getattr(model, 'model_fields', ()))}"
    return f"{'.'.join([*above, last])}: {detail['msg'].removeprefix('Value error, ')}"
