"""The asyncio face: the same client, each call on a worker thread, so that the event loop never waits for a disk."""

from __future__ import annotations

import asyncio
from functools import partial

from .client import Client

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from types import TracebackType
    from typing import Any, Literal, ParamSpec, Self, TypeVar

    from .events import Timestamp, Value
    from .results import Cancelled, Flush, InvoicePreview, Reports, Sent, Status, Summaries, Verification
    from .spool import DeadLetter

    P = ParamSpec("P")
    T = TypeVar("T")


class AsyncClient:
    """`Client` for asyncio: the same arguments, errors and files; every method is awaited.

    All methods are here but `import_file` and `drain`, which are whole programs.

    A call that is cancelled while it waits still finishes on its thread: what was recorded stays recorded.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        self.client = Client(*args, **options)

    async def _run(self, function: Callable[P, T], *args: P.args, **options: P.kwargs) -> T:
        return await asyncio.to_thread(partial(function, *args, **options))

    async def record(
        self,
        event_name: str,
        customer: str,
        value: Value = 1,
        timestamp: Timestamp | None = None,
        identifier: str | None = None,
        dimensions: Mapping[str, object] | None = None,
        *,
        correction: bool = False,
    ) -> str:
        """See `Client.record`."""
        return await self._run(
            self.client.record, event_name, customer, value, timestamp, identifier, dimensions, correction=correction
        )

    async def record_many(self, events: Iterable[Mapping[str, Any]]) -> list[str]:
        """See `Client.record_many`."""
        return await self._run(self.client.record_many, list(events))

    async def send(
        self,
        event_name: str,
        customer: str,
        value: Value = 1,
        timestamp: Timestamp | None = None,
        identifier: str | None = None,
        dimensions: Mapping[str, object] | None = None,
        *,
        correction: bool = False,
        delivery: Literal["stream", "v1"] = "v1",
        timeout: float | None = 60.0,
    ) -> Sent:
        """See `Client.send`."""
        return await self._run(
            self.client.send,
            event_name,
            customer,
            value,
            timestamp,
            identifier,
            dimensions,
            correction=correction,
            delivery=delivery,
            timeout=timeout,
        )

    async def flush(self, timeout: float | None = None) -> Flush:
        """See `Client.flush`."""
        return await self._run(self.client.flush, timeout)

    async def status(self) -> Status:
        """See `Client.status`."""
        return await self._run(self.client.status)

    async def summaries(
        self,
        meter: str,
        customer: str | Sequence[str],
        start: Timestamp | None = None,
        end: Timestamp | None = None,
        *,
        group: Literal["hour", "day"] | None = None,
    ) -> Summaries:
        """See `Client.summaries`."""
        return await self._run(self.client.summaries, meter, customer, start, end, group=group)

    async def preview_invoice(self, *, subscription: str | None = None, customer: str | None = None) -> InvoicePreview:
        """See `Client.preview_invoice`."""
        return await self._run(self.client.preview_invoice, subscription=subscription, customer=customer)

    async def verify(
        self,
        start: Timestamp | None = None,
        end: Timestamp | None = None,
        *,
        event_name: str | None = None,
        customers: Sequence[str] = (),
        wait: float = 0.0,
    ) -> Verification:
        """See `Client.verify`."""
        return await self._run(self.client.verify, start, end, event_name=event_name, customers=customers, wait=wait)

    async def retry(self, *, codes: Sequence[str] = (), identifiers: Sequence[str] = ()) -> list[str]:
        """See `Client.retry`."""
        return await self._run(self.client.retry, codes=codes, identifiers=identifiers)

    async def cancel(self, identifier: str, *, event_name: str | None = None, correct: bool = False) -> Cancelled:
        """See `Client.cancel`."""
        return await self._run(self.client.cancel, identifier, event_name=event_name, correct=correct)

    async def dead_letters(self, limit: int = -1) -> list[DeadLetter]:
        """See `Client.dead_letters`."""
        return await self._run(self.client.dead_letters, limit)

    async def error_report(self, report: str | bytes | Mapping[str, Any]) -> Reports:
        """See `Client.error_report`."""
        return await self._run(self.client.error_report, report)

    async def fetch_error_reports(self) -> Reports:
        """See `Client.fetch_error_reports`."""
        return await self._run(self.client.fetch_error_reports)

    async def close(self, timeout: float | None = None) -> Flush | None:
        """See `Client.close`."""
        return await self._run(self.client.close, timeout)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
