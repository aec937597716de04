"""What a stack's state holds, asked of the `pulumi` on PATH."""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import Final

from components.providers.state import TIMEOUT_SECONDS, state_in

Held = frozenset[tuple[str, str]]
"""Objects by kind and id: `("Price", "price_1")`."""

NO_ENGINE: Final = "there is no pulumi on PATH"


def in_state(stack: str) -> tuple[Held | None, str | None]:
    """The objects in a stack's state; None, with a sentence that says why, if they are unknown."""
    pulumi = shutil.which("pulumi")
    why = NO_ENGINE
    if pulumi is not None:
        command = [pulumi, "stack", "export", "--non-interactive", "--stack", stack]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=False)
            if done.returncode == 0:
                return frozenset(state_in(json.loads(done.stdout)).holders), None
            why = " ".join(done.stderr.split())[-200:]
        except (OSError, ValueError, subprocess.TimeoutExpired) as error:
            why = str(error)
    return None, f"the state of {stack} is unknown, so owners in metadata tell alone what it has: {why}"
