"""`Client`: record into the spool, deliver from it, read back. Everything public of `usage` is a method here."""

from __future__ import annotations

import atexit
import os
import threading
import time
import weakref
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial, update_wrapper
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

from . import importing, reading, settling, sqs
from . import spool as spools
from .api import Api
from .delivery import BUSY, Delivery, Sender, Tally, is_active
from .destination import Destination, resolve
from .errors import DestinationError, InvalidEvent, NotDelivered, StripeError, UsageError
from .events import Event, Timestamp, Value, make_event
from .results import Cancelled, Flush, Imported, Sent, Status
from .spool import Kept, Spool
from .text import count

__all__ = [
    "Client", "cancel", "flush", "preview_invoice", "record", "record_many", "send", "status", "summaries", "verify",
]  # fmt: skip

P = ParamSpec("P")
T = TypeVar("T")
U = TypeVar("U")

INTERVAL = 1.0
"""The background thread looks for new events this often, in seconds."""
EXIT_SECONDS = 5.0
"""How long a script waits for delivery when it ends; the rest stays in the spool for `usage flush`."""
SLOWEST = 60.0
"""The background thread waits longer after each problem, up to this many seconds."""
UNASSIGNED = "unassigned"
"""The name of events that were recorded without a destination."""
BACKGROUND_CHUNK = 1000
"""Events that the background claims at a time: `record` waits while it claims them."""


def _through(part: str, method: Callable[Concatenate[U, P], T]) -> Callable[Concatenate[Client, P], T]:
    """A method that the client delegates to one of its parts."""

    def call(self: Client, /, *arguments: P.args, **options: P.kwargs) -> T:
        return method(getattr(self, part), *arguments, **options)

    return update_wrapper(call, method)


class Client:
    """Records meter events and delivers them; see `docs/usage.md`. Threads can share one client.

    Where it delivers comes from the arguments or the environment and is never guessed (`usage.destination.resolve`);
    without a destination, recording works and warns that nothing will be delivered.

    spool: path of the spool file; default STRIPE_USAGE_SPOOL, else the user's default (`usage status` shows it).
    mode: "sandbox", "test", "live" or "off"; a live key is used only when `mode` or STRIPE_MODE says "live".
    background: deliver from a thread. `close` and the end of the script deliver the rest.
    on_error: called with a UsageError for events that the background cannot deliver; without it, the logger "usage"
        warns. Each problem is reported once.
    outbox: "sqs://..." hands batches to an Amazon SQS queue instead; `usage drain` delivers them.
    durable: fsync every record (about 3 ms); without it, a record survives any crash of the process, but a power
        cut only after a delivery or a checkpoint has synced it.
    create: whether the spool file may be created; if not, a missing file raises SpoolMissing.
    """

    def __init__(
        self,
        spool: str | os.PathLike[str] | None = None,
        *,
        mode: str | None = None,
        api_key: str | None = None,
        api_base: str | None = None,
        sandbox_file: str | None = None,
        background: bool = True,
        on_error: Callable[[UsageError], object] | None = None,
        outbox: str | None = None,
        durable: bool = False,
        create: bool = True,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.clock = clock
        self._on_error = on_error
        self._said: set[str] = set()
        self.spool = Spool(
            spool,
            durable=durable,
            create=create,
            clock=lambda: self.clock(),
            on_lost=lambda happened: self._say(UsageError(happened)),
        )
        self._problem, self._destination = "", None
        try:
            self._destination = resolve(mode=mode, api_key=api_key, api_base=api_base, sandbox_file=sandbox_file)
        except DestinationError as problem:
            if mode is not None or api_key is not None:
                raise  # it was set explicitly: fail now, not at the first delivery
            self._problem = str(problem)
        self._mode = self._destination.mode if self._destination else ""
        self._identity = self._destination.identity if self._destination and self._mode != "off" else ""
        # in test mode and the sandbox, Stripe's test clocks decide what is in the future
        self._future = self._mode not in ("test", "sandbox")
        self._background_wanted = background
        self._outbox = outbox
        if outbox is not None:
            sqs.check_address(outbox)
        self._reset_runtime()
        _CLIENTS.add(self)

    def _reset_runtime(self) -> None:
        self._lock = threading.RLock()
        self._foreground = 0
        self._thread: threading.Thread | None = None
        self._closing = threading.Event()
        self._deadline: float | None = None
        self._delivery: Delivery | None = None
        self._outbox_sender: Sender | None = None
        self._tally = Tally()  # what the background has done since the last flush

    @property
    def destination(self) -> Destination:
        """Where this client delivers. Raises DestinationError if no destination is set."""
        if self._destination is None:
            raise DestinationError(self._problem)
        return self._destination

    @property
    def api(self) -> Api:
        """Retried calls to the destination."""
        return self._deliverer.api

    @property
    def _deliverer(self) -> Delivery:
        if self.destination.mode == "off":
            raise DestinationError("STRIPE_MODE=off: nothing is recorded, and there is nothing to ask")
        with self._lock:
            if self._delivery is None:
                self._delivery = Delivery(self.spool, Api(self.destination), lambda: self.clock())
            return self._delivery

    @property
    def _sender(self) -> Sender:
        """The delivery from the spool to Stripe or to the outbox."""
        if self._outbox is None:
            return self._deliverer
        with self._lock, spools.IMPORTING:
            if self._outbox_sender is None:
                self._outbox_sender = sqs.Outbox(self.spool, self._mine, sqs.Queue(self._outbox))
            return self._outbox_sender

    def _mine(self) -> list[str]:
        """The identities whose events this client delivers."""
        return self.spool.same_account(self._identity) if self._identity else [""] if self._outbox else []

    def _where(self) -> tuple[str, bool]:
        """The destination's label, and whether it is the sandbox, for results."""
        label = self._destination.label if self._destination else self._problem
        return f"the queue {self._outbox}" if self._outbox else label, self._mode == "sandbox"

    def _delivers(self) -> bool:
        """Whether there is a destination."""
        return self._destination is not None or self._outbox is not None

    def _left(self) -> dict[str, Any]:
        """The events that are left in the spool, counted as in `Flush`."""
        counts, mine = ({}, []) if self._mode == "off" else (self.spool.counts(), self._mine())
        own = sum((Counter(counts.get(name, {})) for name in mine), Counter[str]())
        held = sum(states.get("pending", 0) for name, states in counts.items() if name not in mine)
        return {**{state: own[state] for state in ("pending", "unknown", "dead", "cancelling")}, "held": held}

    def _say(self, problem: UsageError) -> None:
        """Report a problem to `on_error` or the log, once."""
        text = str(problem)
        if text in self._said:
            return
        self._said.add(text)
        try:
            if self._on_error is not None:
                self._on_error(problem)
                return
        except Exception as failure:  # noqa: BLE001 - a broken `on_error` must not end delivery
            text += f" (and on_error failed: {failure!r})"
        import logging

        logging.getLogger("usage").warning("usage: %s", text)

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
        """Record one meter event on disk and return its identifier; this call sends nothing.

        value: units, as int, str or Decimal (15 digits, 12 places); negative only with `correction=True`.
        timestamp: Unix seconds, an aware datetime or ISO 8601 with an offset; default now.
        identifier: names the fact, at most 100 characters; recording it again is the same event. Default: a new one.
        dimensions: additional payload keys.
        Raises InvalidEvent or SpoolError, and then records nothing.
        """
        event = self._event(event_name, customer, value, timestamp, identifier, dimensions, correction=correction)
        self._add((event,), timeless=timestamp is None)
        return event.identifier

    def _event(self, *given: Any, **named: Any) -> Event:
        return make_event(*given, **named, now=self.clock(), future=self._future)

    def record_many(self, events: Iterable[Mapping[str, Any]]) -> list[str]:
        """Record many events in one commit (all or none) and return their identifiers.

        Each is a mapping with the arguments of `record` as keys; an InvalidEvent says which one is wrong.
        """
        made: list[Event] = []
        for place, event in enumerate(events):
            try:
                made.append(self._event(**event))
            except InvalidEvent as problem:
                raise InvalidEvent(f"events[{place}].{problem.field}", problem.problem) from None
            except TypeError as problem:
                why = str(problem).partition("() ")[2] or str(problem)
                raise InvalidEvent(f"events[{place}]", why) from None
        if made:
            self._add(made, timeless=True)
        return [event.identifier for event in made]

    def _add(self, events: Sequence[Event], *, timeless: bool | Collection[str]) -> int:
        if self._mode == "off":
            self._say(UsageError("STRIPE_MODE=off: usage is not recorded"))
            return 0
        new = self.spool.add(events, self._identity, timeless=timeless)
        _OPEN.add(self)
        if not self._delivers():
            self._say(DestinationError(f"usage is recorded in {self.spool.path} but not delivered: {self._problem}"))
        elif self._background_wanted and self._thread is None:
            self._start()
        return new

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
        timeout: float | None = 60.0,
    ) -> Sent:
        """Record one event, deliver it now and wait for the answer. It goes through v1, which answers for each event.

        Raises StripeError when Stripe refuses it (it is then a dead letter), NotDelivered when it was not delivered
        within `timeout` seconds (it stays in the spool), and every error of `record`.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        event = self._event(event_name, customer, value, timestamp, identifier, dimensions, correction=correction)
        (label, sandbox), name = self._where(), event.identifier
        if self._mode == "off":
            self._add((event,), timeless=True)
            return Sent(label, sandbox, name, "off")
        sender = self._sender
        with self._in_foreground():
            new = self.spool.add((event,), self._identity, timeless=timestamp is None)
            before = None if new else self.spool.find(name)
            if before is not None and before.state == "dead":
                name = self.spool.retry(identifiers=[name])[0]
            tally = sender.run(deadline, identifier=name)
        kept = self.spool.find(name)
        assert kept is not None
        if kept.state in ("delivered", "queued"):
            again = before is not None and before.state == kept.state
            return Sent(label, sandbox, name, kept.state, again or bool(tally.counts["duplicates"]))
        if kept.state == "dead":
            raise StripeError(kept.message, status=kept.status, code=kept.code, request_id=kept.request_id)
        reason = tally.stopped or {
            "unknown": "its fate has been unknown for more than 24 hours; compare with `usage verify`",
            "cancelled": "it was cancelled; a new event needs its own identifier",
            "cancelling": "it is being cancelled; a new event needs its own identifier",
            "replaced": "it was sent again under another identifier",
        }.get(kept.state, f"it is recorded for {kept.destination or 'no destination'}, and this is {self._identity}")
        raise NotDelivered(f"the event {name} is not delivered but safe in {self.spool.path}: {reason}", name)

    def flush(self, timeout: float | None = None, *, take: str | None = None) -> Flush:
        """Deliver everything recorded for this destination and report what happened; `timeout` in seconds.

        Safe at any time and from any number of processes: one of them delivers, the others wait for it. A refused event
        or key raises nothing (see the result's `refused` and `stopped`). Raises DestinationError and SpoolError.
        take: first moves the undelivered events of another destination to this one, if you know that they belong here;
        the name is as in `status().by_destination`, "unassigned" for events recorded without a destination.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        if self._mode == "off":
            return self._flushed(Tally())
        sender = self._sender
        if take is not None:
            self.spool.hand_over("" if take == UNASSIGNED else take, self._identity)
        with self._in_foreground():
            tally = sender.run(deadline)
        with self._lock:
            tally.merge(self._tally)
            self._tally = Tally()
        return self._flushed(tally)

    @contextmanager
    def _in_foreground(self) -> Iterator[None]:
        """The background thread releases the delivery lock while a caller waits for an answer."""
        with self._lock:
            self._foreground += 1
        try:
            yield
        finally:
            with self._lock:
                self._foreground -= 1

    def _flushed(self, tally: Tally) -> Flush:
        label, sandbox = self._where()
        return Flush(label, sandbox, **tally.as_flush(), **self._left())

    def drain(self, queue: str, *, idle_seconds: float | None = None, stop: threading.Event | None = None) -> Flush:
        """Deliver batches from an SQS queue until it has been empty for `idle_seconds` (None: for ever), or `stop`.

        Any number of drains can work on one queue. A message is deleted only after all its events are settled; a killed
        drain's messages reappear after two minutes, and their identifiers make the repeat harmless.
        """
        drain = sqs.Drain(self._deliverer, sqs.Queue(queue), self.clock)
        return drain.run(idle_seconds, stop or threading.Event())

    def status(self) -> Status:
        """What is in the spool, and where it would be delivered. Does not call Stripe."""
        off = self._mode == "off"
        counts, oldest = ({}, None) if off else (self.spool.counts(), self.spool.oldest_pending())
        names = ("pending", "unknown", "cancelling", "dead", "delivered", "queued")
        amounts: dict[str, Any] = {name: sum(one.get(name, 0) for one in counts.values()) for name in names}
        label, sandbox = self._where()
        return Status(
            label,
            sandbox,
            **amounts,
            held=self._left()["held"] if self._destination is not None else 0,
            spool=self.spool.path,
            configured=self._destination is not None,
            oldest_pending_seconds=None if oldest is None else max(0, int(self.clock()) - oldest),
            by_destination={name or UNASSIGNED: by_state for name, by_state in counts.items()},
        )

    def dead_letters(self, limit: int = -1) -> list[Kept]:
        """Events refused for good, newest refusal first, with `code`, `message`, `status` and `request_id`."""
        return self.spool.with_state("dead", limit)

    retry = _through("spool", Spool.retry)

    def cancel(self, identifier: str, *, event_name: str | None = None, timeout: float = 60.0) -> Cancelled:
        """Cancel an event. Within 24 hours of its delivery, Stripe removes it from its totals.

        An event that was never sent, or was refused, will not be sent. After 24 hours it raises StripeError, whose
        message has the command for a negative event. `event_name` is needed only for an event that is not in this
        spool. timeout: seconds to wait for a delivery in progress.
        """
        with self._in_foreground():
            done = settling.cancel(self.spool, lambda: self.api, self._mine, identifier, event_name, timeout)
        return Cancelled(*self._where(), identifier, done)

    error_report = _through("_deliverer", settling.take_report)
    fetch_error_reports = _through("_deliverer", settling.fetch_error_reports)
    summaries = _through("_deliverer", reading.summaries)
    preview_invoice = _through("_deliverer", reading.preview_invoice)
    verify = _through("_deliverer", settling.verify)

    import_file = importing.import_file

    def _unknown_event_names(self, imported: Imported) -> tuple[str, ...]:
        """The event names of an import without an active meter, if there is a destination to ask."""
        names = [one.event_name for one in imported.totals] if self._identity else []
        return tuple(name for name in names if not is_active(self._deliverer.meters.find(name)))

    def _start(self) -> None:
        with self._lock:
            thread = threading.Thread(target=self._run, name="usage-background", daemon=True)
            if self._thread is None:
                try:
                    thread.start()
                except RuntimeError:
                    return  # the interpreter is shutting down and starts no more threads
                self._thread = thread

    def _run(self) -> None:
        """Deliver every INTERVAL seconds while there are events; survive and report every problem."""
        closing, wait, last = self._closing, INTERVAL, False

        def halted() -> bool:
            return not last and (self._foreground > 0 or closing.is_set())

        while not last:
            last = closing.wait(wait)
            problem: UsageError | None = None
            try:
                if self._left()["pending"]:
                    patience = None if last else 0.0
                    deadline = self._deadline if last else None
                    tally = self._sender.run(deadline, chunk=BACKGROUND_CHUNK, patience=patience, halted=halted)
                    self._count(tally)
                    if tally.stopped not in (None, BUSY):
                        problem = UsageError(f"usage waits in {self.spool.path}: {tally.stopped}")
            except UsageError as failure:
                problem = failure
            except Exception as failure:  # noqa: BLE001 - no answer may end the background thread
                problem = UsageError(f"delivery in the background failed: {type(failure).__name__}: {failure}")
            if problem is not None and not last:
                self._say(problem)
            wait = INTERVAL if problem is None else min(SLOWEST, max(wait, 0.1) * 2)

    def _count(self, tally: Tally) -> None:
        """Keep the counts for the next flush to report, and report one event for each cause of refusal."""
        for one in tally.refused:
            if f"refused {one.code}" not in self._said:
                self._said.add(f"refused {one.code}")
                why = f"was refused and is not billed: {one.message}; `usage errors` lists all"
                self._say(StripeError(f"the event {one.identifier} {why}", code=one.code, request_id=one.request_id))
        with self._lock:
            tally.merge(self._tally)
            self._tally = tally

    def close(self, timeout: float = 30.0) -> Flush | None:
        """Deliver the rest, for up to `timeout` seconds, and close files and connections.

        Undelivered events raise nothing: they stay in the spool, and `on_error` or a warning reports them. Returns what
        was delivered since the last flush, or None if this client has recorded nothing. The next use reopens it.
        """
        deadline = time.monotonic() + timeout
        result = None
        try:
            if self._thread is not None:
                self._stop(self._thread, deadline)
            elif timeout > 0 and self in _OPEN and self._delivers() and self._left()["pending"]:
                self._count(self._sender.run(deadline))
            if self in _OPEN:
                result = self._flushed(self._tally)
                if result.pending:  # without a destination, recording has already warned
                    waiting = f"{count(result.pending)} not delivered, waiting in {self.spool.path} for `usage flush`"
                    self._say(UsageError(f"{waiting}: {result.stopped or 'they were not sent'}"))
        except UsageError as failure:
            self._say(failure)
        finally:
            self._release()
        return result

    def _stop(self, thread: threading.Thread, deadline: float) -> None:
        """Let the background deliver once more, until `deadline`, and end it; a call that still hangs is cut off."""
        self._deadline = deadline
        self._closing.set()
        if thread is threading.current_thread():
            return  # closed by `on_error`
        thread.join(max(0.0, deadline - time.monotonic()))
        if thread.is_alive():
            if self._delivery is not None:
                self._delivery.api.abort()
            thread.join(2.0)

    def _release(self) -> None:
        """Close files and connections, without delivering or reporting the rest."""
        _OPEN.discard(self)
        if self._delivery is not None:
            self._delivery.api.close()
        self.spool.close()
        self._reset_runtime()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


_CLIENTS: weakref.WeakSet[Client] = weakref.WeakSet()
_OPEN: set[Client] = set()
"""Clients that have recorded something and are not closed: each is closed at exit."""


def _at_exit() -> None:
    """At the end of the program: deliver for up to EXIT_SECONDS, and report what is left."""
    deadline = time.monotonic() + EXIT_SECONDS
    for client in list(_OPEN):
        client.close(max(0.0, deadline - time.monotonic()) if client._background_wanted else 0.0)


def _after_fork_in_child() -> None:
    """A child has no background thread, and must not share sockets, a token or a lock with its parent. The parent
    delivers what the parent has recorded."""
    _OPEN.clear()
    for client in list(_CLIENTS):
        client._reset_runtime()


atexit.register(_at_exit)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


_default: Client | None = None


def client() -> Client:
    """The process's own client: the environment's destination and spool, delivering in the background."""
    global _default
    if _default is None:
        with spools.IMPORTING:  # no fork until it is done
            if _default is None:
                _default = Client()
    return _default


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
