"""Makes Pulumi's Python SDK faster where it loses time to nobody's benefit: five gains, each measured and reported.

`program()` and the providers switch it on. Every gain reaches something private of the SDK: where an SDK does not have
that name, or has it in another shape, it works as it is. docs/performance.md has what each gain brings and the text of
its issue for Pulumi; `tests/components/test_pulumi_speed.py` fails once an SDK no longer needs one.
"""

from __future__ import annotations

import asyncio
import functools
import os
import sys
import threading
import weakref
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from types import CodeType, ModuleType
from typing import Any, Final

#: Set to anything, the SDK stays as it is: to see its debug messages and stack traces, or to compare.
STOCK_VARIABLE: Final = "STRIPE_PRICING_STOCK_SDK"
#: So many calls of a provider at a time. Pulumi's own number is 4, whatever `--parallel` says.
PROVIDER_THREADS: Final = 16
#: How long an output can have failed before a program that waits for other outputs notices.
NOTICED_AFTER_SECONDS = 2.0
#: The SDK's modules that send debug messages.
_TALKATIVE: Final = ("resource", "rpc", "rpc_manager", "stack", "invoke")


def speed_up_program() -> None:
    """Speed up the process that runs the program; call it before the first resource."""
    if os.environ.get(STOCK_VARIABLE):
        return
    from pulumi import _types
    from pulumi.runtime import resource, stack

    leave_out_stack_traces(resource)
    remember_types(_types)
    if wait_once(stack):
        # Alone this makes things worse: what the SDK waits for in between keeps its quadratic wait from being reached.
        leave_out_debug_messages()


def speed_up_providers() -> None:
    """Speed up the process of the providers; call it in one of the threads that serve them."""
    if not os.environ.get(STOCK_VARIABLE):
        add_threads(threading.current_thread())


# -- the program ----------------------------------------------------------------------------------------------------


def leave_out_stack_traces(resource: Any) -> None:
    """Keep the stack trace of each resource out of the state, where it is 44 % of a resource.

    It names files of the machine that ran the program last, and the engine shows it nowhere.
    """
    from pulumi.runtime.proto import source_pb2

    nothing = getattr(source_pb2, "StackTrace", None)
    if nothing is not None and callable(getattr(resource, "_get_stack_trace", None)):
        resource._get_stack_trace = nothing


def remember_types(types: Any) -> None:
    """Read the annotations of a resource class once, not for each of its resources."""
    read = getattr(types, "resource_types", None)
    if callable(read) and not hasattr(read, "cache_info"):
        types.resource_types = functools.cache(read)


def wait_once(stack: Any) -> bool:
    """Let the SDK wait for all outputs together, not for all that are left whenever one is done.

    Returns:
        Whether the SDK waits that way now.
    """
    if isinstance(getattr(stack, "asyncio", None), _PatientAsyncio):
        return True
    code = getattr(getattr(stack, "wait_for_rpcs", None), "__code__", None)
    if not isinstance(code, CodeType) or not {"asyncio", "wait", "FIRST_COMPLETED"} <= {*code.co_names}:
        return False
    stack.asyncio = _PatientAsyncio()
    return True


class _PatientAsyncio:
    """`asyncio` as one module sees it: a wait for the first of many is a wait for the first that fails.

    Outputs that succeed remove themselves from what the SDK waits for. The pauses find those that fail among outputs
    that were made in the meantime, and those that were cancelled.
    """

    def __getattr__(self, name: str) -> Any:
        return getattr(asyncio, name)

    async def wait(
        self, tasks: Collection[asyncio.Future[Any]], *, timeout: float | None = None, return_when: str
    ) -> tuple[set[asyncio.Future[Any]], set[asyncio.Future[Any]]]:
        if return_when == asyncio.FIRST_COMPLETED and timeout is None:
            return_when, timeout = asyncio.FIRST_EXCEPTION, NOTICED_AFTER_SECONDS
        return await asyncio.wait(tasks, timeout=timeout, return_when=return_when)


def leave_out_debug_messages() -> None:
    """Send none of the SDK's own debug messages to the engine: one call each, several for each resource.

    `pulumi.log.debug` itself goes on working for the program.
    """
    from pulumi import log

    for name in _TALKATIVE:
        module: Any = sys.modules.get(f"pulumi.runtime.{name}")
        if getattr(module, "log", None) is log:
            module.log = _Quiet(log)


class _Quiet:
    """`pulumi.log` without debug messages."""

    def __init__(self, log: ModuleType) -> None:
        self._log = log

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    def debug(self, *_: Any, **__: Any) -> None:
        """Send nothing."""


# -- the providers --------------------------------------------------------------------------------------------------


def add_threads(thread: threading.Thread) -> None:
    """Let the pool of a worker thread have `PROVIDER_THREADS` threads, and start those that it can use now.

    A destroy hands over everything before the first call gets here, so more threads than later calls ask for.
    """
    pool = _pool_of(thread)
    if pool is None or pool._max_workers >= PROVIDER_THREADS:
        return
    with pool._shutdown_lock:
        pool._max_workers = PROVIDER_THREADS
        for _ in range(PROVIDER_THREADS - len(pool._threads)):
            pool._adjust_thread_count()


def _pool_of(thread: threading.Thread) -> Any:
    """The thread pool that a thread works for; None if it works for none, or Python keeps it elsewhere."""
    for each in getattr(thread, "_args", None) or ():
        pool = each() if isinstance(each, weakref.ref) else None
        if isinstance(pool, ThreadPoolExecutor) and all(
            hasattr(pool, name) for name in ("_max_workers", "_threads", "_shutdown_lock", "_adjust_thread_count")
        ):
            return pool
    return None
