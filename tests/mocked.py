"""What a program under Pulumi's mocks needs: an event loop of its own, closed with the test."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch


def _forget(loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
    """Log no error of a future that nobody asks: a failed run raises its first one.

    Such a future is collected at any moment, and Python 3.11 cannot format its traceback while it compiles something
    else (cpython issue 106905): the next program failed.
    """


@contextmanager
def event_loop() -> Iterator[None]:
    """The thread's event loop, closed in the end with those that Pulumi's mocks make in their worker threads."""
    make, made = asyncio.new_event_loop, list[asyncio.AbstractEventLoop]()

    def kept() -> asyncio.AbstractEventLoop:
        made.append(make())
        made[-1].set_exception_handler(_forget)
        return made[-1]

    with patch("asyncio.new_event_loop", kept):
        loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)
        try:
            yield
        finally:
            asyncio.set_event_loop(None)
            loop.run_until_complete(loop.shutdown_default_executor())
            for each in made:
                each.close()
