"""The thread that delivers while the program goes on, and that ends when it is told to."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from .errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

SLOWEST = 60.0


class Background:
    """Calls `deliver` every `interval` seconds while `waiting` says that there is something; it survives every problem.

    deliver: takes the deadline (monotonic; None but at the end) and returns what stopped it, or None.
    say: told of each problem.
    """

    def __init__(
        self,
        deliver: Callable[[float | None], UsageError | None],
        waiting: Callable[[], bool],
        say: Callable[[UsageError], object],
        interval: float,
    ) -> None:
        self._deliver = deliver
        self._waiting = waiting
        self._say = say
        self._interval = interval
        self._closing = threading.Event()
        self._deadline = 0.0
        self._thread: threading.Thread | None = None

    def start(self) -> bool:
        """Start the thread, unless it runs; False when the interpreter ends and starts no more threads."""
        if self._thread is None:
            thread = threading.Thread(target=self._run, name="usage-background", daemon=True)
            try:
                thread.start()
            except RuntimeError:
                return False
            self._thread = thread
        return True

    def closing(self) -> bool:
        """True when the delivery under way should end soon, so that the last one can begin."""
        return self._closing.is_set()

    def stop(self, deadline: float, abort: Callable[[], None]) -> None:
        """Deliver once more, until `deadline`, and end the thread: a call that hangs beyond it is cut off."""
        thread = self._thread
        if thread is None or thread is threading.current_thread():
            return
        self._deadline = deadline
        self._closing.set()
        thread.join(max(0.0, deadline - time.monotonic()))
        if thread.is_alive():
            abort()
            thread.join(2.0)
        self._thread = None

    def _run(self) -> None:
        wait = self._interval
        last = False
        while not last:
            last = self._closing.wait(wait)
            problem: UsageError | None = None
            try:
                if self._waiting():
                    problem = self._deliver(self._deadline if last else None)
            except UsageError as failure:
                problem = failure
            except Exception as failure:  # noqa: BLE001 - whatever an answer does to us, the next one is asked for
                problem = UsageError(f"delivery in the background failed: {type(failure).__name__}: {failure}")
            if problem is not None and not last:
                self._say(problem)
            wait = self._interval if problem is None else min(SLOWEST, max(wait, 0.1) * 2)
