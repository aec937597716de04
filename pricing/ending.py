"""How a command of `pricing` ends: its exit code, and a mistake as one line on standard error."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Final, ParamSpec

from components.account import AccountError
from components.settings import SettingsError

#: The exit codes: done, or nothing to say; somebody must decide; a mistake.
DONE, DECIDE, ERROR = 0, 2, 3

#: What any command can meet; each message is one line.
_MISTAKES: Final = (AccountError, SettingsError)

P = ParamSpec("P")


class Undecided(Exception):
    """Somebody must decide before the command can do it; the message is one line."""


def say(sentence: str) -> None:
    """A line for the person who runs the command."""
    print(f"pricing: {sentence}", file=sys.stderr, flush=True)


def reported(
    *mistakes: type[Exception], interrupted: str | None = None
) -> Callable[[Callable[P, int]], Callable[P, int]]:
    """Let a command end with one line and an exit code, whatever it meets.

    Args:
        mistakes: the command's own exceptions, whose messages are one line.
        interrupted: what Ctrl-C has left; None if the command cannot tell.
    """

    known: tuple[type[Exception], ...] = (*_MISTAKES, *mistakes)

    def decorate(run: Callable[P, int]) -> Callable[P, int]:
        @functools.wraps(run)
        def command(*args: P.args, **options: P.kwargs) -> int:
            try:
                return run(*args, **options)
            except Undecided as problem:
                say(str(problem))
                return DECIDE
            except known as problem:
                say(str(problem))
            except OSError as problem:
                say(f"{problem.filename}: {problem.strerror}" if problem.filename else str(problem))
            except KeyboardInterrupt:
                if interrupted is None:
                    raise
                say(f"interrupted; {interrupted}")
            return ERROR

        return command

    return decorate
