"""Reads the stack's own state, for what a provider is not told: who else holds an object, and what is left to delete.

It runs `pulumi stack export` from inside the run. The export takes no lock, and the provider process inherits the CLI's
environment and working directory.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from components.providers.values import Inputs

#: An export takes about half a second, and longer from a remote backend.
TIMEOUT_SECONDS: Final = 60

ObjectName = tuple[str, str]
"""A kind's name and an id: `("Price", "price_1")`."""


@dataclass(frozen=True)
class StackState:
    """What a stack's state says of Stripe's objects.

    Attributes:
        holders: how many resources hold an object, including objects that a replacement has yet to delete.
        replaced: the properties of objects that a replacement has yet to delete, because its run failed.
    """

    holders: Counter[ObjectName] = field(default_factory=Counter)
    replaced: Mapping[ObjectName, Inputs] = field(default_factory=dict)


class StateUnreadable(Exception):
    """The state cannot be read; one line that says why."""


def read_state(stack: str) -> StackState | None:
    """A stack's current state; None if no engine started this process.

    Raises:
        StateUnreadable: the export failed.
    """
    if not runs_under_engine():
        return None
    for command in _exports(stack):
        quiet = {**os.environ, "PULUMI_SKIP_UPDATE_CHECK": "true"}
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, env=quiet, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise StateUnreadable(f"pulumi stack export: {error}") from None
        if done.returncode == 0:
            break
    else:
        raise StateUnreadable(f"pulumi stack export: {' '.join(done.stderr.split())[-300:]}")
    try:
        return state_in(json.loads(done.stdout))
    except (ValueError, AttributeError) as error:
        raise StateUnreadable(f"pulumi stack export printed no state: {error}") from None


def state_in(export: dict[str, Any]) -> StackState:
    """What an exported state says."""
    resources = (export.get("deployment") or {}).get("resources") or []
    # `pulumi-python:dynamic/stripe:Price` -> `Price`
    named = [((str(each["type"]).rpartition(":")[2], str(each["id"])), each) for each in resources if each.get("id")]
    return StackState(
        Counter(name for name, _ in named),
        {name: each.get("outputs") or {} for name, each in named if each.get("delete")},
    )


def runs_under_engine() -> bool:
    """Whether the engine has started this process: `python -m pulumi.dynamic <engine address>`."""
    return len(sys.argv) == 2 and ":" in sys.argv[1] and "pulumi" in sys.argv[0]


def _exports(stack: str) -> list[list[str]]:
    """The commands that export the state of the stack that the CLI works on, the next for where one fails.

    By the CLI that started this process, which need not be on PATH, and as it was told which stack: `dev` alone is a
    stack of the default organization, which on Pulumi Cloud need not be that of `pulumi up --stack acme/dev`. Told
    nothing, the CLI works on the selected stack; where none is selected, it has asked for one.

    Raises:
        StateUnreadable: there is no CLI.
    """
    process = os.getppid()
    # The language plugin's shell is between the two.
    for _ in range(4):
        try:
            executable = os.readlink(f"/proc/{process}/exe")
            status = Path(f"/proc/{process}/stat").read_text()
            arguments = Path(f"/proc/{process}/cmdline").read_text().split("\0")
        except OSError:
            break
        if Path(executable).name == "pulumi":
            export = [executable, "stack", "export", "--non-interactive"]
            named = _stack_in(arguments)
            return [[*export, "--stack", named]] if named else [export, [*export, "--stack", stack]]
        process = int(status.rpartition(")")[2].split()[1])
    found = shutil.which("pulumi")
    if found is None:
        raise StateUnreadable("the pulumi that started this run is not on PATH")
    return [[found, "stack", "export", "--non-interactive", "--stack", stack]]


def _stack_in(arguments: list[str]) -> str | None:
    """The stack that a command line names: `--stack acme/dev`, `--stack=acme/dev`, `-s acme/dev`."""
    for argument, after in zip(arguments, [*arguments[1:], ""], strict=True):
        if argument in ("--stack", "-s"):
            return after
        if argument.startswith("--stack="):
            return argument.partition("=")[2]
    return None
