"""The stack's own state, for the one question that a provider is not told the answer to: who else holds an object.

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
from pathlib import Path
from typing import Any, Final

#: An export takes about half a second; a backend far away, some more.
TIMEOUT_SECONDS: Final = 60

Holders = Counter[tuple[str, str]]
"""How many resources of a state hold an object, by (kind's name, id)."""


class StateUnreadable(Exception):
    """The state cannot be read; one line that says why."""


def read_holders(stack: str) -> Holders | None:
    """Who holds what in a stack's state as it is now; None where no engine runs this process.

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
        return holders_in(json.loads(done.stdout))
    except (ValueError, AttributeError) as error:
        raise StateUnreadable(f"pulumi stack export printed no state: {error}") from None


def holders_in(export: dict[str, Any]) -> Holders:
    """Who holds what in an exported state; what a replacement has yet to delete counts too."""
    resources = (export.get("deployment") or {}).get("resources") or []
    # `pulumi-python:dynamic/stripe:Price` -> `Price`
    return Counter((str(each["type"]).rpartition(":")[2], str(each["id"])) for each in resources if each.get("id"))


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
