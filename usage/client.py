"""`Client`: record into the spool, deliver from it, read back. Everything public of `usage` is a method here."""

from __future__ import annotations

import os
import threading
import time
import weakref

from .destination import resolve
from .errors import DestinationError, NotDelivered, SpoolFull, StripeError, UsageError
from .events import make_event
from .spool import DeliveryLock, Spool

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from datetime import datetime
    from types import TracebackType
    from typing import IO, Any, Literal, Self

    from .api import Api
    from .delivery import Fates, Sender
    from .destination import Destination
    from .events import Event, Timestamp, Value
    from .importing import Progress
    from .results import (
        Cancelled,
        Drained,
        Flush,
        Imported,
        InvoicePreview,
        Refused,
        Reports,
        Sent,
        Status,
        Summaries,
        Verification,
    )
    from .spool import DeadLetter
    from .sqs import Queue
    from .transport import Transport

AGGREGATION_GRACE = 300
"""Seconds after its end in which a bucket still takes late events before it is folded."""
BUSY = "another process is delivering from this spool and did not finish in time"
CHUNK = 4000
"""Events taken from the spool at a time: one fsync for forty batches."""


class Client:
    """Records meter events and delivers them; see `docs/usage.md`.

    Where it delivers comes from the arguments or the environment and is never guessed (`usage.destination.resolve`);
    without a destination recording works, and delivery raises DestinationError with what is missing.

    spool: path of the spool file; default STRIPE_USAGE_SPOOL, else `.stripe-usage/spool.db` in the working directory.
    mode: "sandbox", "test" or "live"; a live key is used only when `mode` or STRIPE_MODE says "live".
    delivery: "stream" (v2, 100 events a call) or "v1" (one event a call, refusals at once).
    outbox: "sqs://..." hands batches to an Amazon SQS queue instead; `usage drain` delivers them.
    aggregate: "hour" or "day" sums the events of a customer in closed UTC buckets before sending (`sum` meters only).
    max_pending, when_full: bound of undelivered events; at the bound `record` raises SpoolFull ("raise") or waits for
        room up to `block_timeout` seconds, delivering meanwhile ("block").
    durable: fsync every record (about 3 ms); without it a record survives any crash of the process, and a power cut
        only once a delivery or a checkpoint has synced it.
    background: deliver from a thread every `interval` seconds; the context manager delivers the rest on exit anyway.
    limits: "test", "live" or "none" (calls a second, `usage.pacing.LIMITS`); default by mode. share: number of workers
        that share the account's limits.
    """

    def __init__(
        self,
        spool: str | os.PathLike[str] | None = None,
        *,
        mode: str | None = None,
        api_key: str | None = None,
        api_base: str | None = None,
        sandbox_file: str | None = None,
        delivery: Literal["stream", "v1"] = "stream",
        outbox: str | None = None,
        aggregate: Literal["hour", "day"] | None = None,
        max_pending: int = 1_000_000,
        when_full: Literal["raise", "block"] = "raise",
        block_timeout: float = 60.0,
        durable: bool = False,
        background: bool = False,
        interval: float = 1.0,
        exit_timeout: float = 30.0,
        limits: Literal["test", "live", "none"] | None = None,
        share: int = 1,
        connections: int = 4,
        timeout: float = 30.0,
        attempts: int = 6,
        patience: float = 10.0,
        transport: Transport | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if delivery not in ("stream", "v1"):
            raise ValueError(f'delivery {delivery!r} is neither "stream" nor "v1"')
        if aggregate not in (None, "hour", "day"):
            raise ValueError(f'aggregate {aggregate!r} is neither "hour" nor "day"')
        if when_full not in ("raise", "block"):
            raise ValueError(f'when_full {when_full!r} is neither "raise" nor "block"')
        self.clock = clock
        self.spool = Spool(spool, max_pending=max_pending, durable=durable, patience=patience, clock=clock)
        self._destination: Destination | None = None
        self._problem = ""
        try:
            self._destination = resolve(mode=mode, api_key=api_key, api_base=api_base, sandbox_file=sandbox_file)
        except DestinationError as problem:
            if mode is not None or api_key is not None:
                raise  # asked for by name: say it now, not at the first delivery
            self._problem = str(problem)
        self._mode = self._destination.mode if self._destination else ""
        self._delivery = delivery
        self._aggregate = aggregate
        self._when_full = when_full
        self._block_timeout = block_timeout
        self._background = background
        self._interval = interval
        self._exit_timeout = exit_timeout
        self._limits = limits
        self._share = share
        self._connections = max(1, connections)
        self._timeout = timeout
        self._attempts = attempts
        self._transport = transport
        self._outbox_address = outbox
        if outbox is not None:
            from .sqs import check_address

            check_address(outbox)
        self._reset_runtime()
        _CLIENTS.add(self)

    def _reset_runtime(self) -> None:
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        self._senders: dict[str, Sender] = {}
        self._api: Api | None = None
        self._queue: Queue | None = None
        self._warned = ""

    # -- where ---------------------------------------------------------------------------------------------------

    @property
    def destination(self) -> Destination:
        """Where this client delivers. Raises DestinationError when nothing says so."""
        if self._destination is None:
            raise DestinationError(self._problem)
        return self._destination

    @property
    def api(self) -> Api:
        """Paced and retried calls to the destination."""
        with self._lock:
            if self._api is None:
                from .api import Api
                from .pacing import Paces
                from .transport import transport_for

                destination = self.destination
                limits = self._limits or ("none" if destination.sandbox else destination.mode)
                self._api = Api(
                    destination,
                    self._transport or transport_for(destination),
                    Paces(limits, self._share),
                    timeout=self._timeout,
                    attempts=self._attempts,
                    sleep=self._closing.wait,
                )
            return self._api

    def _sender(self, method: str) -> Sender:
        sender = self._senders.get(method)
        if sender is None:
            from .delivery import Sender

            sender = self._senders[method] = Sender(self.api, method=method, clock=self.clock)
        return sender

    # -- recording -----------------------------------------------------------------------------------------------

    def record(
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
        """Record one meter event on disk and return its identifier; nothing is sent by this call.

        value: whole units, as int, str or Decimal; negative only with `correction=True`.
        timestamp: Unix seconds, an aware datetime or ISO 8601 with an offset; default now.
        identifier: names the fact, at most 100 characters; the same one recorded again is the same event. Default: new.
        dimensions: further payload keys.
        Raises InvalidEvent, SpoolFull or another SpoolError; then nothing was recorded.
        """
        event = make_event(
            event_name, customer, value, timestamp, identifier, dimensions, correction=correction, now=self.clock()
        )
        self._add((event,), compare_timestamp=timestamp is not None)
        return event.identifier

    def record_many(self, events: Iterable[Mapping[str, Any]]) -> list[str]:
        """Record many events in one commit (all or none) and return their identifiers.

        Each is a mapping with the arguments of `record` as keys.
        """
        now = self.clock()
        made = [make_event(**event, now=now) for event in events]
        if made:
            self._add(made, compare_timestamp=False)
        return [event.identifier for event in made]

    def _add(self, events: Sequence[Event], *, compare_timestamp: bool) -> int:
        try:
            new = self.spool.add(
                events, self._mode, aggregate_window=self._aggregate, compare_timestamp=compare_timestamp
            )
        except SpoolFull:
            if self._when_full != "block":
                raise
            new = self._add_when_room(events, compare_timestamp)
        if self._background:
            self._start()
        return new

    def _add_when_room(self, events: Sequence[Event], compare_timestamp: bool) -> int:
        deadline = time.monotonic() + self._block_timeout
        while True:
            if self._destination is not None or self._outbox_address is not None:
                self.flush(timeout=max(0.1, deadline - time.monotonic()))
            try:
                return self.spool.add(
                    events, self._mode, aggregate_window=self._aggregate, compare_timestamp=compare_timestamp
                )
            except SpoolFull:
                if time.monotonic() >= deadline:
                    raise
            time.sleep(0.05)

    # -- delivering ----------------------------------------------------------------------------------------------

    def send(
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
        """Record one event, deliver it now and wait for the answer.

        Raises StripeError when Stripe refuses it (it is a dead letter then), NotDelivered when it did not get through
        within `timeout` seconds (it stays in the spool), and what `record` raises. Sends through v1 unless told
        otherwise, since v1 answers for the event itself.
        """
        from .results import Sent

        where = self.destination if self._outbox_address is None else None
        event = make_event(
            event_name, customer, value, timestamp, identifier, dimensions, correction=correction, now=self.clock()
        )
        new = self.spool.add((event,), self._mode, compare_timestamp=timestamp is not None)
        before = None if new else self.spool.find(event.identifier)
        name = event.identifier
        if before is not None and before.state == "dead":
            name = self.spool.retry(identifiers=[name])[0]
        flushed = self._deliver(timeout, [name], delivery)
        kept = self.spool.find(name)
        assert kept is not None
        if kept.state in ("delivered", "queued"):
            again = bool(flushed.duplicates) or (before is not None and before.state == kept.state)
            return Sent(
                where.label if where else f"the queue {self._outbox_address}",
                self._mode == "sandbox",
                name,
                event.event_name,
                event.customer,
                event.value,
                kept.event.timestamp,
                again,
                kept.state,
            )
        if kept.state == "dead":
            letter = next(letter for letter in self.spool.dead_letters() if letter.event.identifier == name)
            raise StripeError(letter.message, status=letter.status, code=letter.code, request_id=letter.request_id)
        reason = flushed.stopped or {
            "unknown": "its fate is unknown since more than 24 hours; `usage verify` settles it",
            "cancelled": "it was cancelled; a new event needs its own identifier",
            "replaced": "it was sent again under another identifier",
        }.get(kept.state, f"it is recorded for {kept.destination or 'another destination'}")
        raise NotDelivered(f"the event {name} is safe in {self.spool.path} and not delivered: {reason}", name)

    def flush(self, timeout: float | None = None) -> Flush:
        """Deliver everything recorded for this destination and say what happened; `timeout` in seconds.

        Safe at any moment and from any number of processes: one of them delivers, the others wait for it. Never raises
        for an event or a refused key (see the result's `refused` and `stopped`), only DestinationError and SpoolError.
        """
        return self._deliver(timeout, None, self._delivery)

    def _deliver(
        self,
        timeout: float | None,
        identifiers: Sequence[str] | None,
        method: str,
        *,
        lanes: int | None = None,
        patience: float | None = None,
        interrupted: Callable[[], bool] = bool,
    ) -> Flush:
        deadline = None if timeout is None else time.monotonic() + timeout
        queue = self._outbox()
        mode = self._mode if queue is not None else self.destination.mode
        run = _Run()
        lock = DeliveryLock(self.spool.path)
        self.spool.counts()  # makes the file, so that the lock has a folder to be in
        wait = timeout if patience is None else patience
        if not lock.acquire(86_400.0 if wait is None else wait):
            run.stopped = BUSY
            return self._flushed(run)
        try:
            if queue is not None:
                self._hand_over(queue, mode, run, deadline)
            else:
                sender = self._sender(method)
                sender.reset()
                sender.interrupted = interrupted
                if identifiers is None:
                    self._fold(sender, mode, run)
                    self.spool.prune()
                self._send_claimed(sender, mode, run, deadline, identifiers, lanes)
        finally:
            lock.release()
        return self._flushed(run)

    def _send_claimed(
        self,
        sender: Sender,
        mode: str,
        run: _Run,
        deadline: float | None,
        identifiers: Sequence[str] | None,
        lanes: int | None,
    ) -> None:
        after = 0
        count = lanes or (1 if self.destination.api_base is None else self._connections)

        def settle(fates: Fates) -> None:
            self._settle(mode, fates, run)

        while not sender.over(deadline):
            chunk = self.spool.claim(mode, CHUNK, after=after, identifiers=identifiers)
            if not chunk:
                break
            after = chunk[-1].id
            groups = sender.groups(chunk, count)
            if count == 1 or len(groups) == 1:
                for group in groups:
                    sender.send(group, deadline, settle)
                continue
            from concurrent.futures import ThreadPoolExecutor

            with ThreadPoolExecutor(count, thread_name_prefix="usage-deliver") as pool:
                for future in [pool.submit(sender.send, group, deadline, settle) for group in groups]:
                    future.result()
        run.stopped = run.stopped or sender.stopped
        if run.stopped is None and deadline is not None and time.monotonic() >= deadline:
            run.stopped = "the time given for delivery ran out"
        if run.stopped is None and run.lost is not None:
            run.stopped = run.lost

    def _settle(self, mode: str, fates: Fates, run: _Run, state: str = "delivered") -> None:
        from .results import Refused

        self.spool.settle(
            mode,
            delivered=[claimed.id for claimed in fates.delivered],
            refused=[
                (claimed.id, refusal, claimed.perhaps_since is None and claimed.id not in fates.doubtful)
                for claimed, refusal in fates.refused
            ],
            released=[claimed.id for claimed in fates.released],
            state=state,
        )
        with self._lock:
            run.delivered += len(fates.delivered)
            run.duplicates += fates.duplicates
            run.refused_count += len(fates.refused)
            run.lost = fates.lost or run.lost
            for claimed, refusal in fates.refused[: 20 - len(run.refused)]:
                event = claimed.event
                run.refused.append(
                    Refused(
                        event.identifier,
                        event.event_name,
                        event.customer,
                        refusal.code,
                        refusal.message,
                        refusal.request_id,
                    )
                )

    def _fold(self, sender: Sender, mode: str, run: _Run) -> None:
        """Fold closed aggregation buckets, for `sum` meters only."""
        for event_name in self.spool.closed_buckets(mode, AGGREGATION_GRACE):
            try:
                meter = sender.meters.find(event_name)
            except UsageError as problem:
                run.stopped = str(problem)
                return
            if meter is not None and (meter.formula != "sum" or meter.event_time_window is not None):
                what = (
                    f"is a {meter.formula} meter"
                    if meter.formula != "sum"
                    else f"keeps one event an {meter.event_time_window}"
                )
                count = self.spool.unfold(event_name)
                run.notes.append(
                    f"{event_name} {what}, so its {count} events go out one by one: only sum meters can be aggregated"
                )
                continue
            while self.spool.fold(event_name, mode, AGGREGATION_GRACE) == 500:
                pass

    def _flushed(self, run: _Run) -> Flush:
        from .results import Flush

        counts = self.spool.counts()
        held = sum(
            states.get("pending", 0) + states.get("aggregating", 0)
            for destination, states in counts.items()
            if destination not in ("", self._mode)
        )
        mine = [counts.get(destination, {}) for destination in {"", self._mode}]
        if self._outbox_address is not None:
            where = f"the queue {self._outbox_address}"
        else:
            where = self.destination.label
        return Flush(
            destination=where,
            sandbox=self._mode == "sandbox",
            delivered=run.delivered,
            duplicates=run.duplicates,
            refused=tuple(run.refused),
            refused_count=run.refused_count,
            unknown=sum(states.get("unknown", 0) for states in mine),
            pending=sum(states.get("pending", 0) for states in mine),
            held=held,
            waiting=sum(states.get("aggregating", 0) for states in mine),
            stopped=run.stopped,
            notes=tuple(run.notes),
        )

    # -- the outbox of a fleet -----------------------------------------------------------------------------------

    def _outbox(self) -> Queue | None:
        if self._outbox_address is None:
            return None
        with self._lock:
            if self._queue is None:
                from .sqs import Queue

                self._queue = Queue(self._outbox_address)
            return self._queue

    def _hand_over(self, queue: Queue, mode: str, run: _Run, deadline: float | None) -> None:
        after = 0
        while deadline is None or time.monotonic() < deadline:
            chunk = self.spool.claim(mode, CHUNK, after=after)
            if not chunk:
                return
            after = chunk[-1].id
            for fates in queue.put(chunk, mode):
                self._settle(mode, fates, run, state="queued")
            if run.lost is not None:
                run.stopped = run.lost
                return
        run.stopped = "the time given for delivery ran out"

    def drain(
        self,
        queue: str | None = None,
        *,
        max_messages: int | None = None,
        idle_seconds: float | None = None,
        visibility: int = 120,
        stop: threading.Event | None = None,
    ) -> Drained:
        """Deliver batches from an SQS queue until it has been empty for `idle_seconds` (None: for ever).

        Any number of drains may work on one queue; give each `share=N` so that together they keep to the limits. A
        message is deleted only after all its events are settled; a killed drain's messages reappear after `visibility`
        seconds and their identifiers make the repeat harmless.
        """
        from .sqs import Drain, Queue

        address = queue or self._outbox_address
        if address is None:
            raise DestinationError('drain needs a queue: usage.Client(outbox="sqs://...") or --queue sqs://...')
        return Drain(self, Queue(address), visibility=visibility).run(
            max_messages=max_messages, idle_seconds=idle_seconds, stop=stop
        )

    # -- the spool by hand ---------------------------------------------------------------------------------------

    def status(self) -> Status:
        """What is in the spool, and where delivery would go. Makes no call."""
        from .results import Status

        counts = self.spool.counts()
        oldest = self.spool.oldest_pending()

        def all_of(state: str) -> int:
            return sum(states.get(state, 0) for states in counts.values())

        held = 0
        if self._destination is not None:
            held = sum(
                states.get("pending", 0) + states.get("aggregating", 0)
                for destination, states in counts.items()
                if destination not in ("", self._mode)
            )
        return Status(
            spool=self.spool.path,
            destination=self._destination.label if self._destination else self._problem,
            sandbox=self._mode == "sandbox",
            configured=self._destination is not None,
            pending=all_of("pending"),
            waiting=all_of("aggregating"),
            unknown=all_of("unknown"),
            dead=all_of("dead"),
            delivered=all_of("delivered"),
            queued=all_of("queued"),
            held=held,
            oldest_pending_seconds=None if oldest is None else max(0, int(self.clock()) - oldest),
            dead_by_code=self.spool.dead_letter_codes(),
            by_destination=counts,
        )

    def dead_letters(self, limit: int = -1) -> list[DeadLetter]:
        """Events refused for good, newest refusal first."""
        return self.spool.dead_letters(limit)

    def retry(self, *, codes: Sequence[str] = (), identifiers: Sequence[str] = ()) -> list[str]:
        """Put dead letters back among the pending (all of them, or those with these codes or identifiers).

        Returns the identifiers they go out under: their own, or a new one for events that Stripe had accepted and
        rejected later. The next flush sends them.
        """
        return self.spool.retry(codes=codes, identifiers=identifiers)

    def cancel(self, identifier: str, *, event_name: str | None = None, correct: bool = False) -> Cancelled:
        """Take an event back. Inside 24 hours of its delivery Stripe removes it from its totals.

        An event that was not sent, or refused, is just not sent any more. After 24 hours raises StripeError, unless
        `correct=True`: then a negative event of the same time is recorded (`usage flush` delivers it). `event_name` is
        needed only for an event that this spool does not know.
        """
        from .cancelling import cancel

        return cancel(self, identifier, event_name=event_name, correct=correct)

    # -- asynchronous error reports ------------------------------------------------------------------------------

    def error_report(self, report: str | bytes | Mapping[str, Any]) -> Reports:
        """Take in one `v1.billing.meter.error_report_triggered` (or `.no_meter_found`) event, as a webhook receives it.

        Its sample errors find their events by identifier; those become dead letters with Stripe's code. A report taken
        before changes nothing. A thin notification without `data` is completed by a call to Stripe.
        """
        from .reports import take

        return take(self, report)

    def fetch_error_reports(self) -> Reports:
        """Ask Stripe for the error reports since the last one taken (its event list goes back 30 days)."""
        from .reports import fetch

        return fetch(self)

    # -- reading -------------------------------------------------------------------------------------------------

    def summaries(
        self,
        meter: str,
        customer: str | Sequence[str],
        start: Timestamp | None = None,
        end: Timestamp | None = None,
        *,
        group: Literal["hour", "day"] | None = None,
    ) -> Summaries:
        """Usage as Stripe aggregated it, for one customer or many.

        meter: an event name or a meter id. start, end: as in `record`; default from the start of this UTC month to now.
        The window is widened to the boundaries that Stripe asks for (minutes, or the group's hours or UTC days), and
        the result says so. Aggregation lags: events of the last minutes may be missing.
        """
        from .reading import summaries

        return summaries(self, meter, customer, start, end, group=group)

    def preview_invoice(self, *, subscription: str | None = None, customer: str | None = None) -> InvoicePreview:
        """The next invoice of a subscription (or of a customer's) as it would be now, line by line, in minor units."""
        from .reading import preview_invoice

        return preview_invoice(self, subscription=subscription, customer=customer)

    def verify(
        self,
        start: Timestamp | None = None,
        end: Timestamp | None = None,
        *,
        event_name: str | None = None,
        customers: Sequence[str] = (),
        wait: float = 0.0,
    ) -> Verification:
        """Compare what the spool delivered with Stripe's hourly summaries, waiting up to `wait` seconds for its lag.

        Events of unknown fate are settled only where the totals leave one explanation; nothing is resent on a guess.
        Default window: the past 35 days.
        """
        from .verifying import verify

        return verify(self, start, end, event_name=event_name, customers=customers, wait=wait)

    # -- importing -----------------------------------------------------------------------------------------------

    def import_file(
        self,
        source: str | os.PathLike[str] | IO[bytes],
        *,
        format: Literal["csv", "jsonl"] | None = None,
        event_name: str | None = None,
        import_id: str | None = None,
        timestamp: Timestamp | Literal["now"] | None = None,
        corrections: bool = False,
        dry_run: bool = False,
        rejects: IO[bytes] | None = None,
        progress: Progress | None = None,
    ) -> Imported:
        """Record the events of a CSV or JSON Lines file; see docs/usage.md for the columns. Resumes where it stopped.

        Bad lines are reported and left out, all others recorded. Nothing is sent: `flush` does that.
        """
        from .importing import import_file

        return import_file(
            self,
            source,
            format=format,
            event_name=event_name,
            import_id=import_id,
            timestamp=timestamp,
            corrections=corrections,
            dry_run=dry_run,
            rejects=rejects,
            progress=progress,
        )

    # -- life ----------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        if self._thread is not None or self._closing.is_set():
            return
        if self._destination is None and self._outbox_address is None:
            return
        with self._lock:
            if self._thread is None:
                thread = threading.Thread(target=self._run_background, name="usage-background", daemon=True)
                self._thread = thread
                thread.start()

    def _run_background(self) -> None:
        wait = self._interval
        while not self._closing.wait(wait):
            if self.spool.oldest_pending() is None and not self._aggregate:
                wait = self._interval
                continue
            try:
                # one lane: pools cannot be started while the interpreter ends, and one lane is plenty
                closing = self._closing.is_set
                result = self._deliver(None, None, self._delivery, lanes=1, patience=0.0, interrupted=closing)
                problem = None if result.stopped == BUSY else result.stopped
            except UsageError as failure:
                problem = str(failure)
            if problem is None:
                wait = self._interval
            else:
                self._warn(problem)
                wait = min(60.0, wait * 2)

    def _warn(self, problem: str) -> None:
        if problem != self._warned:
            import logging

            logging.getLogger("usage").warning("usage is recorded and waits in %s: %s", self.spool.path, problem)
            self._warned = problem

    def close(self, timeout: float | None = None) -> Flush | None:
        """Deliver what is left, for up to `timeout` seconds (default `exit_timeout`), and let go of everything.

        Never raises for what cannot be delivered: that stays in the spool, and a warning says so. Returns the last
        delivery's result, or None when there was nothing to deliver or nowhere to deliver to.
        """
        patience = self._exit_timeout if timeout is None else timeout
        deadline = time.monotonic() + patience
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            self._closing.set()
            thread.join(patience)
            self._thread = None
        result = None
        try:
            if self._destination is not None or self._outbox_address is not None:
                counts = self.spool.counts()
                mine = [counts.get(destination, {}) for destination in {"", self._mode}]
                if any(states.get("pending") or states.get("aggregating") for states in mine):
                    self._closing.clear()
                    left = max(0.0, deadline - time.monotonic())
                    result = self._deliver(left, None, self._delivery, lanes=1)
                    if result.stopped:
                        self._warn(result.stopped)
        except UsageError as problem:
            self._warn(str(problem))
        finally:
            if self._api is not None and self._transport is None:
                self._api.transport.close()
            self.spool.close()
            self._reset_runtime()
        return result

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Run:
    """Running totals of one delivery."""

    def __init__(self) -> None:
        self.delivered = 0
        self.duplicates = 0
        self.refused: list[Refused] = []
        self.refused_count = 0
        self.stopped: str | None = None
        self.lost: str | None = None
        self.notes: list[str] = []


_CLIENTS: weakref.WeakSet[Client] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    """A child has no background thread, and must not share sockets or a token's lock with its parent."""
    for client in list(_CLIENTS):
        client._reset_runtime()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


def moment(value: Timestamp | datetime | None, default: float) -> int:
    """UTC seconds of an optional timestamp."""
    from .events import utc_seconds

    return int(default) if value is None else utc_seconds(value)
