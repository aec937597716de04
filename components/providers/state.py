"""The stack's own state, for what a provider is not told: who else holds an object, and what is yet to be deleted.

Asked with `pulumi stack export`, which takes no lock, from inside the run: the provider process inherits the CLI's
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

#: An export takes about half a second; a backend far away, some more.
TIMEOUT_SECONDS: Final = 60

ObjectName = tuple[str, str]
"""A kind's name and an id: `("Price", "price_1")`."""


@dataclass(frozen=True)
class StackState:
    """What a stack's state says of Stripe's objects.

    Attributes:
        holders: how many resources hold an object; what a replacement has yet to delete counts too.
        replaced: the properties of what a replacement has yet to delete: the run that replaced it failed.
    """

    holders: Counter[ObjectName] = field(default_factory=Counter)
    replaced: Mapping[ObjectName, Inputs] = field(default_factory=dict)


class StateUnreadable(Exception):
    """The state cannot be read; one line that says why."""


def read_state(stack: str) -> StackState | None:
    """A stack's state as it is now; None where no engine runs this process.

    Raises:
        StateUnreadable: the export failed.
    """
    if not runs_under_engine():
        return None
    cli = _cli()
    if cli is None:
        raise StateUnreadable("the pulumi that runs this is not on PATH")
    command = [cli, "stack", "export", "--stack", stack, "--non-interactive"]
    quiet = {**os.environ, "PULUMI_SKIP_UPDATE_CHECK": "true"}
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, env=quiet, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise StateUnreadable(f"pulumi stack export: {error}") from None
    if done.returncode != 0:
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


def _cli() -> str | None:
    """The CLI that runs this process, which need not be on PATH; else the one on PATH."""
    process = os.getppid()
    # Between the two is the language plugin's shell.
    for _ in range(4):
        try:
            executable = os.readlink(f"/proc/{process}/exe")
            status = Path(f"/proc/{process}/stat").read_text()
        except OSError:
            break
        if Path(executable).name == "pulumi":
            return executable
        process = int(status.rpartition(")")[2].split()[1])
    return shutil.which("pulumi")
