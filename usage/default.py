"""The functions of `usage` itself: one client for the process, made from the environment when it is first used."""

from __future__ import annotations

import threading
from functools import partial
from typing import TYPE_CHECKING, Concatenate, ParamSpec, TypeVar

from .client import EXIT_SECONDS, Client

if TYPE_CHECKING:
    from collections.abc import Callable

P = ParamSpec("P")
T = TypeVar("T")

_lock = threading.Lock()
_client: Client | None = None


def client() -> Client:
    """The process's own client: the environment's destination and spool, delivering in the background."""
    global _client
    if _client is None:
        with _lock:
            if _client is None:
                _client = Client(exit_timeout=EXIT_SECONDS)
    return _client


def reset() -> None:
    """Close the process's client; the next call makes a new one from the environment as it is then."""
    global _client
    made, _client = _client, None
    if made is not None:
        made.close()


def _shared(method: Callable[Concatenate[Client, P], T]) -> Callable[P, T]:
    def call(*arguments: P.args, **options: P.kwargs) -> T:
        return method(client(), *arguments, **options)

    call.__name__, call.__qualname__, call.__doc__ = method.__name__, method.__name__, method.__doc__
    call.__wrapped__ = partial(method, None)  # type: ignore[attr-defined, arg-type] # its signature, without `self`
    return call


record = _shared(Client.record)
record_many = _shared(Client.record_many)
send = _shared(Client.send)
flush = _shared(Client.flush)
status = _shared(Client.status)
cancel = _shared(Client.cancel)
summaries = _shared(Client.summaries)
preview_invoice = _shared(Client.preview_invoice)
verify = _shared(Client.verify)
