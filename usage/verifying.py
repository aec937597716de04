"""The spool against Stripe's summaries, hour by hour: what agrees, what is missing, what nobody can say.

It compares and reports, and changes nothing: another producer, Stripe's lag or a clock can explain almost any total.
"""

from __future__ import annotations

import time
from decimal import Decimal
from typing import TYPE_CHECKING

from .errors import StripeError
from .events import exact_sum, utc_seconds
from .reading import aligned, customer_summaries, find_meter
from .results import Difference, Verification

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from .api import Api
    from .delivery import Meter
    from .events import Timestamp
    from .spool import Spool

DRIFT_SECONDS = 120.0  # a clock this much off is said; at 300 Stripe rejects events as too far in the future
GAP_SECONDS = 5 * 86_400  # hours further apart than this are asked for in two windows


class _Hour:
    """What the spool holds for one event name, customer and UTC hour."""

    def __init__(self) -> None:
        self.total = Decimal(0)
        self.count = 0
        self.last = Decimal(0)
        self.unknown: list[str] = []

    def expected(self, formula: str) -> Decimal:
        """What Stripe should have, without the events of unknown fate."""
        return {"sum": self.total, "count": Decimal(self.count)}.get(formula, self.last)


def verify(
    spool: Spool,
    api: Api,
    mine: Sequence[str],
    window: tuple[Timestamp | None, Timestamp | None],
    event_name: str | None,
    customers: Sequence[str],
    wait: float,
) -> Verification:
    """See `Client.verify`."""
    start, end = (None if moment is None else utc_seconds(moment) for moment in window)
    first = None if start is None else aligned(start, start + 1, "hour")[0]
    last = None if end is None else aligned(end - 1, end, "hour")[1]
    pairs = _kept(spool, mine, first, last, event_name, customers)
    began = time.monotonic()
    meters = {name: _comparable(api, name) for name in dict.fromkeys(name for name, _ in pairs)}
    open_pairs = {pair: hours for pair, hours in pairs.items() if meters[pair[0]] is not None}
    checked = sum(map(len, open_pairs.values()))
    unchecked = sum(map(len, pairs.values())) - checked
    pause = 0.5
    while True:
        differences: list[Difference] = []
        for (name, customer), hours in list(open_pairs.items()):
            meter = meters[name]
            assert meter is not None
            wrong = _compared(api, meter, name, customer, hours)
            differences += wrong
            if not wrong:
                del open_pairs[name, customer]  # not asked again while the others lag
        left = wait - (time.monotonic() - began)
        if left <= 0 or not any(item.verdict == "short" for item in differences):
            break
        time.sleep(min(pause, left))
        pause = min(5.0, pause * 2)
    wrong_hours = {(item.event_name, item.customer, item.hour) for item in differences}
    return Verification(
        destination=api.destination.label,
        sandbox=api.destination.sandbox,
        checked=checked,
        matching=checked - len(wrong_hours),
        unchecked=unchecked,
        unknown=sum(spool.counts().get(name, {}).get("unknown", 0) for name in mine),
        differences=tuple(differences),
        waited=int(time.monotonic() - began),
        clock=_clock(api.skew),
    )


def _comparable(api: Api, name: str) -> Meter | None:
    try:
        found = find_meter(api, name)
    except StripeError as problem:
        if problem.status in (0, 404):
            return None  # the meter is gone
        raise
    return found if found.status == "active" and found.event_time_window is None else None


def _clock(skew: float | None) -> str | None:
    if skew is None or abs(skew) < DRIFT_SECONDS:
        return None
    way = "ahead of" if skew > 0 else "behind"
    return (
        f"this machine's clock is {abs(skew):,.0f} seconds {way} Stripe's: events recorded here carry a wrong time, "
        f"and Stripe rejects those more than 5 minutes in the future"
    )


def _kept(
    spool: Spool,
    mine: Sequence[str],
    start: int | None,
    end: int | None,
    event_name: str | None,
    customers: Sequence[str],
) -> dict[tuple[str, str], dict[int, _Hour]]:
    """Every hour for which the spool delivered something, wherever on the calendar a recorder's clock put it."""
    pairs: dict[tuple[str, str], dict[int, _Hour]] = {}
    rows = spool.totals(mine, start, end, event_name=event_name, customers=customers)
    for name, customer, hour, total, count, last in rows:
        kept = pairs.setdefault((name, customer), {}).setdefault(hour, _Hour())
        kept.total, kept.count, kept.last = Decimal(total), count, Decimal(last)
    for row in spool.with_state("unknown", mine):
        event = row.event
        inside = (start is None or event.timestamp >= start) and (end is None or event.timestamp < end)
        if inside and event_name in (None, event.event_name) and (not customers or event.customer in customers):
            hours = pairs.setdefault((event.event_name, event.customer), {})
            hours.setdefault(event.timestamp - event.timestamp % 3600, _Hour()).unknown.append(event.value)
    return pairs


def _windows(hours: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Windows that hold all hours, without the long gaps between them."""
    first = before = hours[0]
    for hour in hours[1:]:
        if hour - before > GAP_SECONDS:
            yield first, before + 3600
            first = hour
        before = hour
    yield first, before + 3600


def _compared(api: Api, meter: Meter, name: str, customer: str, hours: dict[int, _Hour]) -> list[Difference]:
    """The hours of one customer whose totals do not agree, or hold events of unknown fate."""
    found: dict[int, Decimal] = {}
    try:
        for first, last in _windows(sorted(hours)):
            found |= {row.start: row.value for row in customer_summaries(api, meter.id, customer, first, last, "hour")}
    except StripeError as problem:
        if problem.code != "resource_missing":
            raise
        # the stream takes events of customers that do not exist: nothing of them is there
    wrong: list[Difference] = []
    for hour, kept in sorted(hours.items()):
        there = found.get(hour, Decimal(0))
        expected = kept.expected(meter.formula)
        arrived = expected + (len(kept.unknown) if meter.formula == "count" else exact_sum(kept.unknown))
        if there == expected and not kept.unknown:
            continue
        if kept.unknown and meter.formula != "last" and there in (expected, arrived) and arrived != expected:
            verdict = "missing" if there == expected else "arrived"
        else:
            verdict = "short" if there < expected else "over"
        wrong.append(Difference(name, customer, hour, expected, there, len(kept.unknown), verdict))
    return wrong
