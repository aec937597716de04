"""The functions of `usage` itself: one client for the process, made from the environment when it is first used."""

from __future__ import annotations

import atexit
import threading

from .client import Client

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any, Literal

    from .events import Timestamp, Value
    from .results import Cancelled, Flush, InvoicePreview, Sent, Status, Summaries, Verification

EXIT_SECONDS = 5.0
"""How long the end of a script may wait for delivery; what is left stays in the spool for `usage flush`."""

_lock = threading.Lock()
_client: Client | None = None


def client() -> Client:
    """The process's own client: the environment's destination and spool, delivering in the background."""
    global _client
    if _client is None:
        with _lock:
            if _client is None:
                made = Client(background=True)
                atexit.register(_close)
                _client = made
    return _client


def _close() -> None:
    global _client
    made, _client = _client, None
    if made is not None:
        made.close(EXIT_SECONDS)


def reset() -> None:
    """Close the process's client; the next call makes a new one from the environment as it is then."""
    _close()
    atexit.unregister(_close)


def record(
    event_name: str,
    customer: str,
    value: Value = 1,
    timestamp: Timestamp | None = None,
    identifier: str | None = None,
    dimensions: Mapping[str, object] | None = None,
    *,
    correction: bool = False,
) -> str:
    """Record one meter event on disk, return its identifier, deliver in the background (`Client.record`)."""
    return client().record(event_name, customer, value, timestamp, identifier, dimensions, correction=correction)


def record_many(events: Iterable[Mapping[str, Any]]) -> list[str]:
    """Record many events in one commit, all or none (`Client.record_many`)."""
    return client().record_many(events)


def send(
    event_name: str,
    customer: str,
    value: Value = 1,
    timestamp: Timestamp | None = None,
    identifier: str | None = None,
    dimensions: Mapping[str, object] | None = None,
    *,
    correction: bool = False,
    timeout: float | None = 60.0,
) -> Sent:
    """Record one event, deliver it now and wait for Stripe's answer (`Client.send`)."""
    return client().send(
        event_name, customer, value, timestamp, identifier, dimensions, correction=correction, timeout=timeout
    )


def flush(timeout: float | None = None) -> Flush:
    """Deliver everything recorded and say what happened (`Client.flush`)."""
    return client().flush(timeout)


def status() -> Status:
    """What is in the spool, and where delivery would go (`Client.status`)."""
    return client().status()


def summaries(
    meter: str,
    customer: str | Sequence[str],
    start: Timestamp | None = None,
    end: Timestamp | None = None,
    *,
    group: Literal["hour", "day"] | None = None,
) -> Summaries:
    """Usage as Stripe aggregated it, for one customer or many (`Client.summaries`)."""
    return client().summaries(meter, customer, start, end, group=group)


def preview_invoice(*, subscription: str | None = None, customer: str | None = None) -> InvoicePreview:
    """The next invoice as it would be now, line by line (`Client.preview_invoice`)."""
    return client().preview_invoice(subscription=subscription, customer=customer)


def verify(
    start: Timestamp | None = None,
    end: Timestamp | None = None,
    *,
    event_name: str | None = None,
    customers: Sequence[str] = (),
    wait: float = 0.0,
) -> Verification:
    """Compare the spool with Stripe's summaries (`Client.verify`)."""
    return client().verify(start, end, event_name=event_name, customers=customers, wait=wait)


def cancel(identifier: str, *, event_name: str | None = None, correct: bool = False) -> Cancelled:
    """Take an event back (`Client.cancel`)."""
    return client().cancel(identifier, event_name=event_name, correct=correct)
