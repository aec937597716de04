"""Reads the stack's own state, which alone knows who else holds an object: Pulumi does not tell a provider.

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
from pathlib import Path
from typing import Any, Final

#: An export takes about half a second, and longer from a remote backend.
TIMEOUT_SECONDS: Final = 60

Holders = Counter[tuple[str, str]]
"""How many resources in a state hold an object, by (kind's name, id)."""


class StateUnreadable(Exception):
    """The state cannot be read; one line that says why."""


def read_holders(stack: str) -> Holders | None:
    """The holders in the stack's current state; None if no engine started this process.

    Raises:
        StateUnreadable: the export failed.
    """
    if not runs_under_engine():
        return None
    cli = _cli()
    if cli is None:
        raise StateUnreadable("the pulumi that started this run is not on PATH")
    command = [cli, "stack", "export", "--stack", stack, "--non-interactive"]
    quiet = {**os.environ, "PULUMI_SKIP_UPDATE_CHECK": "true"}
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, env=quiet, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise StateUnreadable(f"pulumi stack export: {error}") from None
    if done.returncode != 0:
        raise StateUnreadable(f"pulumi stack export: {' '.join(done.stderr.split())[-300:]}")
    try:
        return holders_in(json.loads(done.stdout))
    except (ValueError, AttributeError) as error:
        raise StateUnreadable(f"pulumi stack export printed no state: {error}") from None


def holders_in(export: dict[str, Any]) -> Holders:
    """The holders in an exported state, including objects that a replacement has yet to delete."""
    resources = (export.get("deployment") or {}).get("resources") or []
    # `pulumi-python:dynamic/stripe:Price` -> `Price`
    return Counter((str(each["type"]).rpartition(":")[2], str(each["id"])) for each in resources if each.get("id"))


def runs_under_engine() -> bool:
    """Whether the engine has started this process: `python -m pulumi.dynamic <engine address>`."""
    return len(sys.argv) == 2 and ":" in sys.argv[1] and "pulumi" in sys.argv[0]


def _cli() -> str | None:
    """The CLI that started this process, which may not be on PATH; otherwise the one on PATH."""
    process = os.getppid()
    # The language plugin's shell is between the two.
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
