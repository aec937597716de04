"""Delivery: claimed events go through the v2 stream, or a single one through v1, and every outcome is recorded."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import quote

from .api import Api, is_duplicate
from .errors import AuthenticationFailed, DestinationError, NotStripe, StripeError, Unreachable, UsageError
from .events import CUSTOMER_KEY, PAST_SECONDS, VALUE_KEY, iso, v1_form, v2_object
from .spool import Kept, Spool

Meter = dict[str, Any]  # as Stripe's API gives it
Halted = Callable[[], bool]
Done = Callable[[Sequence[Kept]], None]
Ready = tuple[Kept, str, str]  # an event, and its meter's payload keys

BATCH = 100  # https://docs.stripe.com/api/v2/billing-meter-stream: events a request
CHUNK = 4000  # events taken from the spool at a time: one fsync for forty batches
LANES = 4  # concurrent calls of the stream
SESSION_SECONDS = 14 * 60  # a token is valid for 15 minutes; we renew it earlier
METERS_SECONDS = 300.0
LOST_CALLS = 2  # after this many calls in a row without an answer, the rest waits for the next delivery
SHOWN_REFUSALS = 20
BUSY = "another process is delivering from this spool and did not finish in time"
OUT_OF_TIME = "the time given for delivery ran out"


class Meters:
    """The account's meters, read once, and again after a while or when no active meter has a name."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._lock = threading.Lock()
        self._read_at: float | None = None
        self._found: dict[str, Meter] = {}

    def find(self, wanted: str, deadline: float | None = None) -> Meter | None:
        """The meter with that event name (an active one first) or id, or None. Raises StripeError or Unreachable."""
        with self._lock:
            age = None if self._read_at is None else time.monotonic() - self._read_at
            if age is None or age > METERS_SECONDS or (age > 1.0 and not is_active(self._found.get(wanted))):
                found = sorted(self._api.pages("/v1/billing/meters", deadline=deadline), key=is_active)
                self._found = {meter[key]: meter for meter in found for key in ("id", "event_name")}
                self._read_at = time.monotonic()
            return self._found.get(wanted)

    def names(self, *, active: bool = False) -> str:
        """The first event names, as last read, for an error message."""
        found = {meter["event_name"] for meter in self._found.values() if is_active(meter) or not active}
        return ", ".join(sorted(found)[:8]) or "none"


def is_active(meter: Meter | None) -> bool:
    """Whether Stripe accepts events for it."""
    return meter is not None and meter.get("status", "active") == "active"


def inner(meter: Meter, field: str, key: str, default: str) -> str:
    """A value inside one of the meter's fields."""
    return str((meter.get(field) or {}).get(key, default))


class Tally:
    """Running totals of deliveries, and what stopped the last one. Thread-safe."""

    def __init__(self) -> None:
        self.counts = Counter(delivered=0, duplicates=0, refused_count=0)  # as in `results.Flush`
        self.refused: tuple[Kept, ...] = ()  # the first ones
        self.stopped: str | None = None
        self._lock = threading.Lock()

    def add(self, rows: Sequence[Kept]) -> None:
        """Count the outcomes of some events."""
        refused = [row for row in rows if row.state == "dead"]
        delivered = [row for row in rows if row.state in ("delivered", "queued")]
        duplicates = sum(row.code != "" for row in delivered)
        self._count({"delivered": len(delivered), "duplicates": duplicates, "refused_count": len(refused)}, refused)

    def merge(self, other: Tally) -> None:
        """Add the counts of another delivery."""
        self._count(other.counts, other.refused)

    def _count(self, counts: dict[str, int], refused: Sequence[Kept]) -> None:
        with self._lock:
            self.counts.update(counts)
            self.refused = (*self.refused, *refused)[:SHOWN_REFUSALS]

    def as_flush(self) -> dict[str, Any]:
        """The fields of `results.Flush` that it knows."""
        return {**self.counts, "refused": self.refused, "stopped": self.stopped}


class Sender:
    """Sends a spool's events somewhere. `stopped`: why it makes no further call.

    mine: returns the identities whose events may go there.
    """

    def __init__(self, spool: Spool, mine: Callable[[], list[str]]) -> None:
        self.spool = spool
        self.mine = mine
        self.begin()

    def run(
        self,
        deadline: float | None,
        *,
        identifier: str | None = None,
        chunk: int = CHUNK,
        patience: float | None = None,
        halted: Halted = bool,
    ) -> Tally:
        """Send until nothing is left, `deadline` (monotonic) passes or `halted` is true; only the named event, if any.

        Waits up to `patience` seconds for another delivery from the same spool, by default until the deadline.
        """
        tally = Tally()

        def done(rows: Sequence[Kept]) -> None:
            self.spool.settle(rows)
            tally.add(rows)

        if patience is None:
            patience = 86_400.0 if deadline is None else max(0.0, deadline - time.monotonic())
        with self.spool.delivering(patience, halted) as alone:
            if not alone:
                tally.stopped = BUSY
                return tally
            self.begin(halted)
            if identifier is None:
                self.spool.prune()
            self._prepare(deadline)
            after = 0
            while not self._over(deadline):
                claimed = self.spool.claim(self.mine(), chunk, after=after, identifier=identifier)
                if not claimed:
                    break
                after = claimed[-1].id
                ready = [row for row in claimed if row.state == "pending"]
                self.send(ready, deadline, done, alone=identifier is not None)
        late = deadline is not None and time.monotonic() >= deadline
        tally.stopped = self.stopped or self.lost or (OUT_OF_TIME if late else None)
        return tally

    def begin(self, halted: Halted = bool) -> None:
        """Begin a new delivery: the cause that stopped the last one may be gone."""
        self._halted = halted
        self.stopped: str | None = None
        self.lost: str | None = None  # why the last call got no answer
        self._lost_in_a_row = 0

    def send(self, rows: Sequence[Kept], deadline: float | None, done: Done, *, alone: bool = False) -> None:
        """Send events; calls `done` with those that are settled, and those that certainly were not sent."""
        raise NotImplementedError

    def _prepare(self, deadline: float | None) -> None:
        """Learn what it needs before it claims the first event."""

    def _over(self, deadline: float | None) -> bool:
        late = deadline is not None and time.monotonic() >= deadline
        return late or self.stopped is not None or self._halted()


class Delivery(Sender):
    """Sends to Stripe or the sandbox: through the stream, or an event `alone` through v1, which answers for it."""

    def __init__(self, spool: Spool, api: Api, clock: Callable[[], float]) -> None:
        super().__init__(spool, lambda: spool.same_account(api.destination.identity))
        self.api = api
        self.meters = Meters(api)
        self.clock = clock
        self._meters_readable = True
        self._account_known = api.destination.sandbox
        self._token: str | None = None
        self._token_at = 0.0
        self._session_lock = threading.Lock()

    def _prepare(self, deadline: float | None) -> None:
        """Ask once which account the key belongs to: events recorded with its other keys may be sent too."""
        if self._account_known:
            return
        try:
            self.spool.learn_account(
                self.api.destination.identity, str(self.api.get("/v1/account", deadline=deadline)["id"])
            )
        except (StripeError, Unreachable, DestinationError) as problem:
            if not isinstance(problem, StripeError) or problem.status == 401:
                self.stopped = str(problem)
                return
            # a restricted key may not ask; then it counts as an account of its own
        self._account_known = True

    def send(self, rows: Sequence[Kept], deadline: float | None, done: Done, *, alone: bool = False) -> None:
        groups = iter([rows[first : first + BATCH] for first in range(0, len(rows), BATCH)])
        taking = threading.Lock()
        broken: list[BaseException] = []

        def lane() -> None:
            try:
                while not broken:
                    with taking:
                        group = next(groups, None)
                    if group is None:
                        return
                    ready, settled = self._checked(group, deadline)
                    done(settled + self._post(ready, deadline, alone))
            except BaseException as problem:  # noqa: BLE001 - the calling thread raises it again
                broken.append(problem)

        embedded = self.api.destination.api_base is None
        threads = [
            threading.Thread(target=lane, name="usage-lane", daemon=True)
            for _ in range(0 if embedded else min(LANES, -(-len(rows) // BATCH)))
        ]
        try:
            for thread in threads:
                thread.start()
        except RuntimeError:
            threads = [thread for thread in threads if thread.is_alive()]  # the interpreter is shutting down
        try:
            if not threads:
                lane()
            for thread in threads:
                thread.join(None if deadline is None else max(0.0, deadline - time.monotonic()))
        finally:
            if any(thread.is_alive() for thread in threads):  # Ctrl-C, or an answer that trickles in at the deadline
                self.api.abort()
                for thread in threads:
                    thread.join(2.0)
                self.api.halt.clear()
        if broken:
            raise broken[0]

    def _checked(self, group: Sequence[Kept], deadline: float | None) -> tuple[list[Ready], list[Kept]]:
        """The events that Stripe would accept, and the others: refused here, since Stripe would refuse them later and
        less clearly, or left for the next delivery."""
        ready: list[Ready] = []
        others: list[Kept] = []
        keys: dict[str, tuple[str, str] | None] = {}
        oldest = self.clock() - PAST_SECONDS
        for row in group:
            if row.timestamp < oldest and not row.unknown_since:
                why = f"its time {iso(row.timestamp)} is more than 35 days ago; Stripe no longer accepts it"
                others.append(row.refused("timestamp_too_far_in_past", why))
                continue
            if row.event_name not in keys and not self._over(deadline):
                try:
                    keys[row.event_name] = self._keys(row.event_name, deadline)
                except UsageError as problem:
                    self.stopped = str(problem)
            found = keys.get(row.event_name)
            if found is not None:
                ready.append((row, *found))
            elif row.event_name in keys:
                known = self.meters.names(active=True)
                why = f'No active meter found for event name "{row.event_name}" (active ones: {known}).'
                others.append(row.refused("no_meter", why))
            else:
                others.append(row)
        return ready, others

    def _keys(self, event_name: str, deadline: float | None) -> tuple[str, str] | None:
        """The payload keys of the meter, or None if there is no active one."""
        try:
            meter = self.meters.find(event_name, deadline) if self._meters_readable else {}
        except AuthenticationFailed as problem:
            if problem.status != 403:
                raise
            # a restricted key may write events but not read meters: use the default payload keys
            self._meters_readable, meter = False, {}
        if meter is None or not is_active(meter):
            return None
        key = "event_payload_key"
        return inner(meter, "customer_mapping", key, CUSTOMER_KEY), inner(meter, "value_settings", key, VALUE_KEY)

    def _post(self, ready: Sequence[Ready], deadline: float | None, alone: bool) -> list[Kept]:
        """Send events in one call; returns those that are settled, and those that certainly were not sent."""
        rows = [row for row, _, _ in ready]
        if not rows or self._over(deadline):
            return rows
        try:
            if alone:
                key = quote(rows[0].identifier, safe="")[:240]  # a header is ASCII, and Stripe takes 255 characters
                form = v1_form(*ready[0])  # type: ignore[arg-type]
                self.api.call("POST", "/v1/billing/meter_events", form=form, idempotency=key, deadline=deadline)
            else:
                self._post_stream([v2_object(*one) for one in ready], deadline)  # type: ignore[arg-type]
        except (StripeError, Unreachable, DestinationError) as problem:
            middle = len(ready) // 2
            if middle and isinstance(problem, StripeError) and not isinstance(problem, AuthenticationFailed):
                # one event fails the batch, and the answer may not say which: halve until it stands alone
                return [*self._post(ready[:middle], deadline, alone), *self._post(ready[middle:], deadline, alone)]
            return self._failed(problem, rows)
        return self._delivered(rows)

    def _post_stream(self, events: Sequence[dict[str, Any]], deadline: float | None) -> None:
        body = json.dumps({"events": events}, separators=(",", ":")).encode("ascii")
        refused: str | None = None
        while True:
            token = self._session(deadline, refused)
            how: dict[str, Any] = {"base": self.api.destination.meter_events_base, "token": token, "deadline": deadline}
            try:
                self.api.call("POST", "/v2/billing/meter_event_stream", json_body=body, **how)
                return
            except AuthenticationFailed as problem:
                if problem.status != 401 or refused is not None:
                    raise
                refused = token  # 401 billing_meter_event_session_expired: keep the batch, renew the session once

    def _session(self, deadline: float | None, refused: str | None) -> str:
        """A session token that is valid for another minute; a new one if the current one is `refused` or old."""
        with self._session_lock:
            now = time.monotonic()
            if self._token is None or self._token == refused or now - self._token_at > SESSION_SECONDS:
                path = "/v2/billing/meter_event_session"
                try:
                    token = self.api.call("POST", path, json_body=b"{}", deadline=deadline).get("authentication_token")
                except StripeError as problem:
                    # it refuses the session, not an event: no event becomes a dead letter
                    raise DestinationError(f"Stripe refuses a session for meter events: {problem}") from None
                except Unreachable as problem:
                    problem.maybe_done = False  # no event was in that call
                    raise
                if not isinstance(token, str) or not token.isascii():
                    raise NotStripe(f"{self.api.destination.label} returned a session without a token")
                self._token, self._token_at = token, now
            return self._token

    def _delivered(self, rows: Sequence[Kept], code: str = "") -> list[Kept]:
        self.lost, self._lost_in_a_row = None, 0
        return [row._replace(state="delivered", unknown_since=None, code=code) for row in rows]

    def _failed(self, problem: UsageError, rows: list[Kept]) -> list[Kept]:
        """What is known after a failed call: one event, answered by Stripe itself, is delivered or dead; else they stay
        pending, and those that may have arrived are left out."""
        if isinstance(problem, StripeError) and not isinstance(problem, AuthenticationFailed):
            (row,) = rows
            if is_duplicate(problem):
                return self._delivered(rows, "duplicate")
            self.lost, self._lost_in_a_row = None, 0
            message = str(problem.args[0])
            code = problem.code or ("no_meter" if "No active meter" in message else f"http_{problem.status}")
            if problem.maybe_done and not row.unknown_since:  # an attempt without an answer may have delivered it
                row = row._replace(unknown_since=int(self.clock()))
            return [row.refused(code, message, problem.status, problem.request_id)]
        if isinstance(problem, Unreachable):
            self.lost = str(problem)
            self._lost_in_a_row += 1
        if not isinstance(problem, Unreachable) or isinstance(problem, NotStripe) or self._lost_in_a_row >= LOST_CALLS:
            self.stopped = str(problem)
        return [] if problem.maybe_done else rows
