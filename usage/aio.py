"""The asyncio face: the same client, each call on a worker thread, so that the event loop never waits for a disk."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import update_wrapper
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

from .client import Client

__all__ = ["AsyncClient"]

P = ParamSpec("P")
T = TypeVar("T")


def _awaited(
    method: Callable[Concatenate[Client, P], T],
) -> Callable[Concatenate[AsyncClient, P], Coroutine[Any, Any, T]]:
    async def call(self: AsyncClient, /, *arguments: P.args, **options: P.kwargs) -> T:
        return await asyncio.to_thread(method, self.client, *arguments, **options)

    update_wrapper(call, method)
    return call


class AsyncClient:
    """`Client` for asyncio: the same arguments, errors and files; every method is awaited.

    All methods are here but `import_file` and `drain`, which are whole programs. A call that is cancelled while it
    waits still finishes on its thread: what was recorded stays recorded.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self.client = Client(*arguments, **options)

    record = _awaited(Client.record)
    record_many = _awaited(Client.record_many)
    send = _awaited(Client.send)
    flush = _awaited(Client.flush)
    status = _awaited(Client.status)
    dead_letters = _awaited(Client.dead_letters)
    retry = _awaited(Client.retry)
    cancel = _awaited(Client.cancel)
    error_report = _awaited(Client.error_report)
    fetch_error_reports = _awaited(Client.fetch_error_reports)
    summaries = _awaited(Client.summaries)
    preview_invoice = _awaited(Client.preview_invoice)
    verify = _awaited(Client.verify)
    close = _awaited(Client.close)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
