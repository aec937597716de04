"""Delivery: claimed events go out by the v2 stream or one by one through v1, and every fate is written down."""

from __future__ import annotations

import json
import threading
import time
from collections import namedtuple

from .api import Failed, is_duplicate
from .errors import AuthenticationFailed, DestinationError, StripeError, Unreachable
from .events import (
    DEFAULT_CUSTOMER_KEY,
    DEFAULT_VALUE_KEY,
    PAST_SECONDS,
    iso,
    v1_form,
    v2_object,
)
from .spool import Refusal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import NamedTuple

    from .api import Api
    from .spool import Claimed

    class Meter(NamedTuple):
        """What delivery and reading need to know of a meter."""

        id: str
        event_name: str
        formula: str
        event_time_window: str | None
        customer_key: str
        value_key: str
        status: str
else:
    Meter = namedtuple("Meter", "id event_name formula event_time_window customer_key value_key status")

BATCH = 100  # https://docs.stripe.com/api/v2/billing-meter-stream: events a request
SESSION_SECONDS = 14 * 60  # a token lives 15 minutes; we renew before
METERS_SECONDS = 300.0
LOST_CALLS = 2  # after so many calls in a row without an answer, the rest waits for the next delivery
METHODS = ("stream", "v1")


class Meters:
    """The account's active meters, read once and again when a name is not among them."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._lock = threading.Lock()
        self._read_at: float | None = None
        self._by_name: dict[str, Meter] = {}
        self.readable = True

    def find(self, event_name: str) -> Meter | None:
        """The active meter of that event name, or None. Raises StripeError or Unreachable."""
        with self._lock:
            age = None if self._read_at is None else time.monotonic() - self._read_at
            stale = age is None or age > METERS_SECONDS or (event_name not in self._by_name and age > 1.0)
            if stale and self.readable:
                self._read()
            return self._by_name.get(event_name)

    def known(self, event_name: str) -> Meter | None:
        """The meter as last read; makes no call."""
        return self._by_name.get(event_name)

    def names(self) -> list[str]:
        """Event names of the active meters, as last read."""
        return sorted(self._by_name)

    def _read(self) -> None:
        try:
            found = list(self._api.pages("/v1/billing/meters", [("status", "active")]))
        except AuthenticationFailed as problem:
            if problem.status != 403:
                raise
            # a restricted key that may write events and not read meters: the default payload keys have to do
            self.readable = False
            return
        self._by_name = {meter.event_name: meter for meter in map(meter_of, found)}
        self._read_at = time.monotonic()


def meter_of(data: dict[str, object]) -> Meter:
    """A meter from Stripe's JSON."""
    mapping, settings, aggregation = (
        data.get(key) or {} for key in ("customer_mapping", "value_settings", "default_aggregation")
    )
    assert isinstance(mapping, dict)
    assert isinstance(settings, dict)
    assert isinstance(aggregation, dict)
    window = data.get("event_time_window")
    return Meter(
        str(data["id"]),
        str(data["event_name"]),
        str(aggregation.get("formula", "sum")),
        str(window) if window else None,
        str(mapping.get("event_payload_key", DEFAULT_CUSTOMER_KEY)),
        str(settings.get("event_payload_key", DEFAULT_VALUE_KEY)),
        str(data.get("status", "active")),
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
        """Perhaps delivered, and to be sent again inside Stripe's uniqueness window."""
        self.lost: str | None = None


class Sender:
    """Sends events to one destination, by `stream` or `v1`, and sorts the answers. Thread-safe."""

    def __init__(self, api: Api, *, method: str = "stream", clock: Callable[[], float] = time.time) -> None:
        if method not in METHODS:
            raise ValueError(f"delivery {method!r} is none of {', '.join(METHODS)}")
        self.api = api
        self.method = method
        self.clock = clock
        self.meters = Meters(api)
        self.stopped: str | None = None
        """Why no further call makes sense (the key is refused), in one sentence."""
        self.interrupted: Callable[[], bool] = bool
        """Says whether to stop before the next call."""
        self._lost_in_a_row = 0
        self._session_lock = threading.Lock()
        self._token: str | None = None
        self._token_at = 0.0

    def reset(self) -> None:
        """Begin a new delivery: what stopped the last one may be over."""
        self.stopped = None
        self._lost_in_a_row = 0

    def groups(self, events: Sequence[Claimed], lanes: int) -> list[list[Claimed]]:
        """Split events into groups that may travel at the same time.

        v1 takes one call at a time for each customer and meter, so all events of a pair share a group; the stream has
        no such rule, so any hundred do.
        """
        if self.method == "stream":
            return [list(events[first : first + BATCH]) for first in range(0, len(events), BATCH)]
        spread: dict[int, list[Claimed]] = {}
        for claimed in events:
            spread.setdefault(hash((claimed.event.customer, claimed.event.event_name)) % lanes, []).append(claimed)
        return list(spread.values())

    def send(self, group: Iterable[Claimed], deadline: float | None, settle: Callable[[Fates], None]) -> None:
        """Send a group; `settle` is called with the fates as soon as they are known, once or several times."""
        fates = Fates()
        ready = self._checked(list(group), fates)
        if self.method == "stream":
            if ready:
                self._stream(ready, deadline, fates)
            settle(fates)
            return
        if fates.refused or fates.released:
            settle(fates)
        for claimed in ready:
            fates = Fates()
            self._single(claimed, deadline, fates)
            settle(fates)

    def over(self, deadline: float | None) -> bool:
        """True when no further call should be made."""
        late = deadline is not None and time.monotonic() >= deadline
        return late or self.stopped is not None or self.interrupted()

    def _checked(self, group: list[Claimed], fates: Fates) -> list[Claimed]:
        """Refuse here what Stripe would refuse later and less clearly, and find each event's meter."""
        ready: list[Claimed] = []
        names: dict[str, Meter | None] = {}
        oldest = self.clock() - PAST_SECONDS
        for position, claimed in enumerate(group):
            event = claimed.event
            if event.timestamp < oldest and not claimed.perhaps_since:
                why = f"its time {iso(event.timestamp)} is more than 35 days ago; Stripe takes it no more"
                fates.refused.append((claimed, Refusal("timestamp_too_far_in_past", why, 0, None)))
                continue
            if event.event_name not in names:
                try:
                    names[event.event_name] = self.meters.find(event.event_name) if self.stopped is None else None
                except (StripeError, Unreachable, DestinationError) as problem:
                    self.stopped = str(problem)
                if self.stopped is not None:
                    self._keep(group[position:], fates, maybe_done=False)
                    return ready
            if names[event.event_name] is None and self.meters.readable:
                known = ", ".join(self.meters.names()[:8]) or "none"
                why = f'No active meter found for event name "{event.event_name}" (active ones: {known}).'
                fates.refused.append((claimed, Refusal("no_meter", why, 0, None)))
                continue
            ready.append(claimed)
        return ready

    def _keep(self, group: Iterable[Claimed], fates: Fates, *, maybe_done: bool) -> None:
        for claimed in group:
            (fates.perhaps if maybe_done or claimed.perhaps_since else fates.released).append(claimed)

    def _keys(self, event_name: str) -> tuple[str, str]:
        meter = self.meters.known(event_name)
        return (meter.customer_key, meter.value_key) if meter else (DEFAULT_CUSTOMER_KEY, DEFAULT_VALUE_KEY)

    def _stream(self, batch: list[Claimed], deadline: float | None, fates: Fates) -> None:
        if self.over(deadline):
            self._keep(batch, fates, maybe_done=False)
            return
        keys = {name: self._keys(name) for name in {claimed.event.event_name for claimed in batch}}
        objects = [v2_object(claimed.event, *keys[claimed.event.event_name]) for claimed in batch]
        body = json.dumps({"events": objects}, separators=(",", ":")).encode("ascii")
        try:
            self._post_stream(body, deadline)
        except (AuthenticationFailed, DestinationError) as problem:
            self.stopped = str(problem)
            self._keep(batch, fates, maybe_done=False)
        except StripeError as problem:
            if len(batch) == 1:
                self._refused(batch[0], problem, fates)
                return
            # one event spoils the batch and the answer need not say which: halve until it stands alone
            middle = len(batch) // 2
            self._stream(batch[:middle], deadline, fates)
            self._stream(batch[middle:], deadline, fates)
        except Failed as problem:
            self._lost(problem, batch, fates)
        else:
            self._lost_in_a_row = 0
            fates.delivered.extend(batch)

    def _post_stream(self, body: bytes, deadline: float | None) -> None:
        token = self._session(deadline, refused=None)
        for last in (False, True):
            try:
                self.api.call(
                    "POST",
                    "/v2/billing/meter_event_stream",
                    pace="stream",
                    host="meter_events",
                    json_body=body,
                    token=token,
                    deadline=deadline,
                )
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
                data = self.api.call("POST", "/v2/billing/meter_event_session", json_body=b"{}", deadline=deadline).data
                self._token = str(data.get("authentication_token") or "")
                self._token_at = now
            return self._token

    def _single(self, claimed: Claimed, deadline: float | None, fates: Fates) -> None:
        if self.over(deadline):
            self._keep([claimed], fates, maybe_done=False)
            return
        form = v1_form(claimed.event, *self._keys(claimed.event.event_name))
        try:
            self.api.call(
                "POST",
                "/v1/billing/meter_events",
                pace="meter_events",
                form=form,
                idempotency=claimed.event.identifier,
                deadline=deadline,
            )
        except (AuthenticationFailed, DestinationError) as problem:
            self.stopped = str(problem)
            self._keep([claimed], fates, maybe_done=False)
        except StripeError as problem:
            self._refused(claimed, problem, fates)
        except Failed as problem:
            self._lost(problem, [claimed], fates)
        else:
            self._lost_in_a_row = 0
            fates.delivered.append(claimed)

    def _refused(self, claimed: Claimed, problem: StripeError, fates: Fates) -> None:
        self._lost_in_a_row = 0
        if is_duplicate(problem):
            fates.delivered.append(claimed)
            fates.duplicates += 1
            return
        code = problem.code or ("no_meter" if "No active meter" in str(problem.args[0]) else f"http_{problem.status}")
        fates.refused.append((claimed, Refusal(code, str(problem.args[0]), problem.status, problem.request_id)))
        if problem.maybe_done:
            fates.doubtful.add(claimed.id)

    def _lost(self, problem: Failed, group: list[Claimed], fates: Fates) -> None:
        fates.lost = str(problem)
        self._keep(group, fates, maybe_done=problem.maybe_done)
        self._lost_in_a_row += 1
        if self._lost_in_a_row >= LOST_CALLS:
            self.stopped = fates.lost
