"""What a program needs that runs under Pulumi's mocks: an event loop of its own, gone with the test."""

from __future__ import annotations

import asyncio
import gc
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def event_loop() -> Iterator[None]:
    """The thread's event loop, closed in the end with those that Pulumi's mocks leave in its worker threads."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        yield
    finally:
        asyncio.set_event_loop(None)
        with warnings.catch_warnings():
            # The mocks make a loop in each worker thread and close none of them.
            warnings.simplefilter("ignore", ResourceWarning)
            loop.run_until_complete(loop.shutdown_default_executor())
            loop.close()
            gc.collect()
