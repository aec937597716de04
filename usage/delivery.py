"""Delivery: claimed events go out by the v2 stream or one by one through v1, and every fate is written down."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from .api import is_duplicate
from .errors import AuthenticationFailed, DestinationError, NotStripe, StripeError, Unreachable, UsageError
from .events import DEFAULT_CUSTOMER_KEY, DEFAULT_VALUE_KEY, PAST_SECONDS, iso, v1_form, v2_object
from .results import Refused
from .spool import DeliveryLock, Refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from .api import Api
    from .spool import Claimed, Spool

    Halted = Callable[[], bool]

BATCH = 100  # https://docs.stripe.com/api/v2/billing-meter-stream: events a request
CHUNK = 4000  # events taken from the spool at a time: one fsync for forty batches
SESSION_SECONDS = 14 * 60  # a token lives 15 minutes; we renew before
METERS_SECONDS = 300.0
LOST_CALLS = 2  # after so many calls in a row without an answer, the rest waits for the next delivery
BUSY = "another process is delivering from this spool and did not finish in time"
OUT_OF_TIME = "the time given for delivery ran out"


class Meter(NamedTuple):
    """What delivery and reading need to know of a meter."""

    id: str
    event_name: str
    formula: str
    event_time_window: str | None
    customer_key: str
    value_key: str
    status: str


class Meters:
    """The account's active meters, read once and again when a name is not among them."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._lock = threading.Lock()
        self._read_at: float | None = None
        self._by_name: dict[str, Meter] = {}
        self.readable = True

    def find(self, event_name: str, deadline: float | None = None) -> Meter | None:
        """The active meter of that event name, or None. Raises StripeError or Unreachable."""
        with self._lock:
            age = None if self._read_at is None else time.monotonic() - self._read_at
            stale = age is None or age > METERS_SECONDS or (event_name not in self._by_name and age > 1.0)
            if stale and self.readable:
                self._read(deadline)
            return self._by_name.get(event_name)

    def keys(self, event_name: str) -> tuple[str, str]:
        """The payload keys of customer and value, as last read; makes no call."""
        meter = self._by_name.get(event_name)
        return (meter.customer_key, meter.value_key) if meter else (DEFAULT_CUSTOMER_KEY, DEFAULT_VALUE_KEY)

    def names(self) -> list[str]:
        """Event names of the active meters, as last read."""
        return sorted(self._by_name)

    def _read(self, deadline: float | None) -> None:
        try:
            found = list(self._api.pages("/v1/billing/meters", [("status", "active")], deadline=deadline))
        except AuthenticationFailed as problem:
            if problem.status != 403:
                raise
            # a restricted key that may write events and not read meters: the default payload keys have to do
            self.readable = False
            return
        self._by_name = {meter.event_name: meter for meter in map(meter_of, found)}
        self._read_at = time.monotonic()


def meter_of(data: dict[str, Any]) -> Meter:
    """A meter from Stripe's JSON."""

    def inner(field: str, key: str, default: str) -> str:
        return str((data.get(field) or {}).get(key, default))

    return Meter(
        id=str(data["id"]),
        event_name=str(data["event_name"]),
        formula=inner("default_aggregation", "formula", "sum"),
        event_time_window=data.get("event_time_window") or None,
        customer_key=inner("customer_mapping", "event_payload_key", DEFAULT_CUSTOMER_KEY),
        value_key=inner("value_settings", "event_payload_key", DEFAULT_VALUE_KEY),
        status=str(data.get("status", "active")),
    )


class Fates:
    """What became of a group of events, in the words of the spool. Not thread-safe: one for each group."""

    def __init__(self) -> None:
        self.delivered: list[Claimed] = []
        self.duplicates = 0
        self.refused: list[tuple[Claimed, Refusal]] = []
        self.doubtful: set[int] = set()
        """Row ids among the refused that an earlier attempt, whose answer was lost, may have delivered."""
        self.released: list[Claimed] = []
        """Certainly not delivered, and still to be sent."""
        self.perhaps: list[Claimed] = []
        """Perhaps delivered, and still to be sent, with the same identifier."""
        self.lost: str | None = None
        """Why the last call of the group got no answer."""

    def keep(self, group: Iterable[Claimed], *, maybe_done: bool) -> None:
        """These are still to be sent; maybe_done: one of the attempts may have delivered them."""
        for claimed in group:
            (self.perhaps if maybe_done or claimed.perhaps_since else self.released).append(claimed)

    def refuse(self, claimed: Claimed, code: str, message: str, status: int = 0, request_id: str | None = None) -> None:
        """This one is refused for good."""
        self.refused.append((claimed, Refusal(code, message, status, request_id)))

    def settle(self, spool: Spool, state: str = "delivered") -> None:
        """Write them down, in one commit."""
        spool.settle(
            delivered=[claimed.id for claimed in self.delivered],
            refused=[
                (claimed.id, refusal, claimed.perhaps_since is None and claimed.id not in self.doubtful)
                for claimed, refusal in self.refused
            ],
            released=[claimed.id for claimed in self.released],
            state=state,
        )


class Totals:
    """Running totals of deliveries. Thread-safe."""

    def __init__(self) -> None:
        self.delivered = 0
        self.duplicates = 0
        self.refused: list[Refused] = []
        self.refused_count = 0
        self.stopped: str | None = None
        self.lost: str | None = None
        self._lock = threading.Lock()

    def add(self, fates: Fates) -> None:
        """Count what became of one group."""
        with self._lock:
            self.delivered += len(fates.delivered)
            self.duplicates += fates.duplicates
            self.refused_count += len(fates.refused)
            self.lost = fates.lost
            for claimed, why in fates.refused[: max(0, 20 - len(self.refused))]:
                event = claimed.event
                self.refused.append(
                    Refused(event.identifier, event.event_name, event.customer, why.code, why.message, why.request_id)
                )

    def merge(self, other: Totals) -> None:
        """Add what another delivery did."""
        with self._lock:
            self.delivered += other.delivered
            self.duplicates += other.duplicates
            self.refused_count += other.refused_count
            self.refused += other.refused[: max(0, 20 - len(self.refused))]


class Sender:
    """Sends claimed events to one destination; what became of them is handed to a callback, group by group."""

    def __init__(self, api: Api, method: str, meters: Meters, clock: Callable[[], float] = time.time) -> None:
        self.api = api
        self.method = method
        self.meters = meters
        self.clock = clock
        self.stopped: str | None = None
        self.halted: Halted = bool
        self._lost_in_a_row = 0
        self._token: str | None = None
        self._token_at = 0.0
        self._session_lock = threading.Lock()

    def start(self, halted: Halted = bool) -> None:
        """Begin a new delivery: what stopped the one before may be over."""
        self.stopped, self.halted, self._lost_in_a_row = None, halted, 0

    def over(self, deadline: float | None) -> bool:
        """True when no further call should be made."""
        late = deadline is not None and time.monotonic() >= deadline
        return late or self.stopped is not None or self.halted()

    def send(
        self, claimed: Sequence[Claimed], deadline: float | None, done: Callable[[Fates], None], lanes: int
    ) -> None:
        """Send them all; `done` is called with the fates as soon as they are known. The stream has several calls under
        way at a time, v1 only one: it takes one at a time for each customer and meter."""
        size = BATCH if self.method == "stream" else 1
        groups = iter([claimed[first : first + size] for first in range(0, len(claimed), size)])
        taking = threading.Lock()
        broken: list[BaseException] = []

        def lane() -> None:
            try:
                while not broken:
                    with taking:
                        group = next(groups, None)
                    if group is None:
                        return
                    done(self._group(group, deadline))
            except BaseException as problem:  # noqa: BLE001 - raised again by the thread that asked
                broken.append(problem)

        threads = []
        for _ in range(min(lanes if self.method == "stream" else 1, -(-len(claimed) // size)) - 1):
            thread = threading.Thread(target=lane, name="usage-lane", daemon=True)
            try:
                thread.start()
            except RuntimeError:
                break  # the interpreter ends and starts no more threads: this one is enough
            threads.append(thread)
        try:
            lane()
            if not broken:
                for thread in threads:
                    thread.join()
            if broken:
                raise broken[0]
        except BaseException:  # Ctrl-C does not wait for calls that hang
            self.api.abort()
            for thread in threads:
                thread.join(2.0)
            self.api.halt.clear()
            raise

    def _group(self, group: Sequence[Claimed], deadline: float | None) -> Fates:
        fates = Fates()
        ready = self._checked(list(group), deadline, fates)
        if ready and self.over(deadline):
            fates.keep(ready, maybe_done=False)
        elif ready and self.method == "stream":
            self._stream(ready, deadline, fates)
        elif ready:
            self._single(ready[0], deadline, fates)
        return fates

    def _checked(self, group: list[Claimed], deadline: float | None, fates: Fates) -> list[Claimed]:
        """Refuse here what Stripe would refuse later and less clearly, and find each event's meter."""
        ready: list[Claimed] = []
        names: dict[str, Meter | None] = {}
        oldest = self.clock() - PAST_SECONDS
        for position, claimed in enumerate(group):
            event = claimed.event
            if event.timestamp < oldest and not claimed.perhaps_since:
                why = f"its time {iso(event.timestamp)} is more than 35 days ago; Stripe takes it no more"
                fates.refuse(claimed, "timestamp_too_far_in_past", why)
                continue
            if event.event_name not in names:
                try:
                    if not self.over(deadline):
                        names[event.event_name] = self.meters.find(event.event_name, deadline)
                except UsageError as problem:
                    self.stopped = str(problem)
                if self.over(deadline):
                    fates.keep(group[position:], maybe_done=False)
                    return ready
            if names[event.event_name] is None and self.meters.readable:
                known = ", ".join(self.meters.names()[:8]) or "none"
                why = f'No active meter found for event name "{event.event_name}" (active ones: {known}).'
                fates.refuse(claimed, "no_meter", why)
                continue
            ready.append(claimed)
        return ready

    def _stream(self, batch: list[Claimed], deadline: float | None, fates: Fates) -> None:
        if self.over(deadline):
            fates.keep(batch, maybe_done=False)
            return
        objects = [v2_object(claimed.event, *self.meters.keys(claimed.event.event_name)) for claimed in batch]
        body = json.dumps({"events": objects}, separators=(",", ":")).encode("ascii")
        try:
            self._post_stream(body, deadline)
        except StripeError as problem:
            if isinstance(problem, AuthenticationFailed) or len(batch) == 1:
                self._failed(problem, batch, fates)
                return
            # one event spoils the batch and the answer need not say which: halve until it stands alone
            middle = len(batch) // 2
            self._stream(batch[:middle], deadline, fates)
            self._stream(batch[middle:], deadline, fates)
        except (Unreachable, DestinationError) as problem:
            self._failed(problem, batch, fates)
        else:
            self._delivered(batch, fates)

    def _post_stream(self, body: bytes, deadline: float | None) -> None:
        token = self._session(deadline, refused=None)
        path = "/v2/billing/meter_event_stream"
        how: dict[str, Any] = {"pace": "stream", "host": "meter_events", "json_body": body, "deadline": deadline}
        for last in (False, True):
            try:
                self.api.call("POST", path, token=token, **how)
                return
            except AuthenticationFailed as problem:
                # 401 billing_meter_event_session_expired: the batch stays in hand, the session is renewed
                if last or problem.status != 401:
                    raise
                token = self._session(deadline, refused=token)

    def _session(self, deadline: float | None, *, refused: str | None) -> str:
        """A session token that is good for another minute; a new one when the current one is `refused` or old."""
        with self._session_lock:
            now = time.monotonic()
            if self._token is None or self._token == refused or now - self._token_at > SESSION_SECONDS:
                path = "/v2/billing/meter_event_session"
                try:
                    data = self.api.call("POST", path, json_body=b"{}", deadline=deadline).data
                except StripeError as problem:
                    # of the session, not of an event: no event is given up for it
                    raise DestinationError(f"Stripe gives no session for meter events: {problem}") from None
                except Unreachable as problem:
                    problem.maybe_done = False  # no event was in that call
                    raise
                token = data.get("authentication_token")
                if not isinstance(token, str) or not token.isascii():
                    raise NotStripe(f"{self.api.destination.label} gave a session without a token")
                self._token, self._token_at = token, now
            return self._token

    def _single(self, claimed: Claimed, deadline: float | None, fates: Fates) -> None:
        from urllib.parse import quote

        event, path = claimed.event, "/v1/billing/meter_events"
        form = v1_form(event, *self.meters.keys(event.event_name))
        key = quote(event.identifier, safe="")[:240]  # a header is ASCII, and Stripe takes 255 characters
        try:
            self.api.call("POST", path, pace="meter_events", form=form, idempotency=key, deadline=deadline)
        except (StripeError, Unreachable, DestinationError) as problem:
            self._failed(problem, [claimed], fates)
        else:
            self._delivered([claimed], fates)

    def _delivered(self, batch: list[Claimed], fates: Fates) -> None:
        self._lost_in_a_row = 0
        fates.delivered.extend(batch)

    def _failed(self, problem: UsageError, batch: list[Claimed], fates: Fates) -> None:
        """What a failed call means for its events: kept, or (one event, refused by Stripe itself) delivered or dead."""
        if isinstance(problem, (AuthenticationFailed, DestinationError)):
            self.stopped = str(problem)
            fates.keep(batch, maybe_done=getattr(problem, "maybe_done", False))
        elif isinstance(problem, Unreachable):
            fates.lost = str(problem)
            fates.keep(batch, maybe_done=problem.maybe_done)
            self._lost_in_a_row += 1
            if self._lost_in_a_row >= LOST_CALLS or isinstance(problem, NotStripe):
                self.stopped = fates.lost
        elif isinstance(problem, StripeError):
            self._lost_in_a_row = 0
            (claimed,) = batch
            if is_duplicate(problem):
                self._delivered(batch, fates)
                fates.duplicates += 1
                return
            message = str(problem.args[0])
            code = problem.code or ("no_meter" if "No active meter" in message else f"http_{problem.status}")
            fates.refuse(claimed, code, message, problem.status, problem.request_id)
            if problem.maybe_done:
                fates.doubtful.add(claimed.id)


@contextlib.contextmanager
def delivering(
    spool: Spool, deadline: float | None, totals: Totals, patience: float | None = None, halted: Halted = bool
) -> Iterator[bool]:
    """Whether this process alone delivers from the spool, after up to `patience` seconds (default: until the deadline)
    of waiting for another one; `totals` says it when not."""
    if patience is None:
        patience = 86_400.0 if deadline is None else max(0.0, deadline - time.monotonic())
    spool.counts()  # makes the file, so that the lock has a folder to be in
    lock = DeliveryLock(spool.path)
    alone = lock.acquire(patience, halted)
    if not alone:
        totals.stopped = BUSY
    try:
        yield alone
    finally:
        lock.release()


class Delivery:
    """Takes the events of one destination out of a spool and sends them."""

    def __init__(self, spool: Spool, api: Api, clock: Callable[[], float]) -> None:
        self.spool = spool
        self.api = api
        self.meters = Meters(api)
        self._senders = {method: Sender(api, method, self.meters, clock) for method in ("stream", "v1")}
        self._account_known = api.destination.sandbox

    def mine(self) -> list[str]:
        """The identities whose events may go to this destination: those of its account and mode."""
        return self.spool.same_account(self.api.destination.identity)

    def run(
        self,
        deadline: float | None,
        *,
        method: str = "stream",
        identifier: str | None = None,
        lanes: int = 1,
        chunk: int = CHUNK,
        patience: float | None = None,
        halted: Halted = bool,
    ) -> Totals:
        """Deliver until nothing is left, `deadline` (monotonic) is over or `halted` says so; one event when it is
        named. Waits up to `patience` seconds for another deliverer of the same spool, by default until the deadline."""
        totals = Totals()
        sender = self._senders[method]

        def done(fates: Fates) -> None:
            fates.settle(self.spool)
            totals.add(fates)

        with delivering(self.spool, deadline, totals, patience, halted) as alone:
            if not alone:
                return totals
            sender.start(halted)
            if identifier is None:
                self.spool.prune()
            self._learn_account(sender, deadline)
            after = 0
            while not sender.over(deadline):
                claimed = self.spool.claim(self.mine(), chunk, after=after, identifier=identifier)
                if not claimed:
                    break
                after = claimed[-1].id
                sender.send(claimed, deadline, done, lanes)
        totals.stopped = sender.stopped or totals.lost
        if totals.stopped is None and deadline is not None and time.monotonic() >= deadline:
            totals.stopped = OUT_OF_TIME
        return totals

    def sender(self, method: str) -> Sender:
        """The sender itself, for events that come from a queue."""
        return self._senders[method]

    def _learn_account(self, sender: Sender, deadline: float | None) -> None:
        """Ask once which account the key belongs to: events recorded with other keys of it may go out, too."""
        if self._account_known:
            return
        try:
            account = self.api.call("GET", "/v1/account", deadline=deadline).data.get("id")
        except StripeError as problem:
            if problem.status == 401:
                sender.stopped = str(problem)
                return
            account = None  # a restricted key may not ask; then each key is an account of its own
        except (Unreachable, DestinationError) as problem:
            sender.stopped = str(problem)
            return
        self._account_known = True
        if isinstance(account, str):
            self.spool.learn_account(self.api.destination.identity, account)
