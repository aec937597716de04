"""The spool against Stripe's summaries, hour by hour: what arrived, what is missing, what nobody can say."""

from __future__ import annotations

import time
from decimal import Decimal
from itertools import combinations

from .errors import StripeError
from .events import PAST_SECONDS
from .reading import aligned, customer_summaries, find_meter
from .results import Difference, Verification

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from .client import Client
    from .delivery import Meter
    from .events import Timestamp
    from .spool import Kept

MOST_UNKNOWN = 14
"""More events of unknown fate in one hour than this have too many explanations to try."""


class _Hour:
    """What the spool holds for one event name, customer and UTC hour."""

    __slots__ = ("count", "last", "last_at", "total", "unknown")

    def __init__(self) -> None:
        self.total = 0
        self.count = 0
        self.last = 0
        self.last_at = -1
        self.unknown: list[Kept] = []


def verify(
    client: Client,
    start: Timestamp | None,
    end: Timestamp | None,
    *,
    event_name: str | None,
    customers: Sequence[str],
    wait: float,
) -> Verification:
    """See `Client.verify`."""
    from .client import moment

    now = client.clock()
    first, last = aligned(moment(start, now - PAST_SECONDS), moment(end, now + 600), "hour")
    where = client.destination
    pairs = _kept(client, where.mode, first, last, event_name, customers)
    meters: dict[str, Meter | None] = {}
    began = time.monotonic()
    checked = unchecked = 0
    settled: dict[str, list[int]] = {"delivered": [], "pending": []}
    open_pairs: dict[tuple[str, str], dict[int, _Hour]] = {}
    for (name, customer), hours in pairs.items():
        if name not in meters:
            found = find_meter(client, name)
            comparable = found.status == "active" and found.event_time_window is None
            meters[name] = found if comparable else None
        if meters[name] is None:
            unchecked += len(hours)
        else:
            checked += len(hours)
            open_pairs[name, customer] = hours
    differences: list[Difference] = []
    pause = 0.5
    while True:
        differences = []
        for (name, customer), hours in list(open_pairs.items()):
            meter = meters[name]
            assert meter is not None
            wrong = _compared(client, meter, name, customer, hours, settled)
            if wrong:
                differences += wrong
            else:
                del open_pairs[name, customer]  # settled: not asked again while the others lag
        left = wait - (time.monotonic() - began)
        if not differences or left <= 0 or all(item.verdict == "over" for item in differences):
            break
        time.sleep(min(pause, left))
        pause = min(5.0, pause * 2)
    done = client.spool.move(settled["delivered"], "unknown", "delivered")
    again = client.spool.move(settled["pending"], "unknown", "pending")
    unknown = sum(states.get("unknown", 0) for name, states in client.spool.counts().items() if name == where.mode)
    return Verification(
        destination=where.label,
        sandbox=where.sandbox,
        start=first,
        end=last,
        checked=checked,
        matching=checked - len({(item.event_name, item.customer, item.hour) for item in differences}),
        settled_delivered=done,
        settled_pending=again,
        unknown=unknown,
        unchecked=unchecked,
        differences=tuple(differences),
        waited=int(time.monotonic() - began),
    )


def _kept(
    client: Client, mode: str, start: int, end: int, event_name: str | None, customers: Sequence[str]
) -> dict[tuple[str, str], dict[int, _Hour]]:
    pairs: dict[tuple[str, str], dict[int, _Hour]] = {}
    rows = client.spool.totals(mode, start, end, event_name=event_name, customers=customers)
    for name, customer, hour, state, total, count, last_at, last in rows:
        kept = pairs.setdefault((name, customer), {}).setdefault(hour, _Hour())
        if state == "delivered":
            kept.total, kept.count, kept.last_at, kept.last = total, count, last_at, last
    for row in client.spool.with_states(["unknown"], mode):
        hours = pairs.get((row.event.event_name, row.event.customer), {})
        found = hours.get(row.event.timestamp - row.event.timestamp % 3600)
        if found is not None:
            found.unknown.append(row)
    return pairs


def _compared(
    client: Client, meter: Meter, name: str, customer: str, hours: dict[int, _Hour], settled: dict[str, list[int]]
) -> list[Difference]:
    """Compare one customer's hours; what is explained is removed from `hours` or noted in `settled`."""
    start, end = min(hours), max(hours) + 3600
    found: dict[int, Decimal] = {}
    try:
        found = {row.start: row.value for row in customer_summaries(client, meter.id, customer, start, end, "hour")}
    except StripeError as problem:
        if problem.code != "resource_missing":
            raise
        # the stream takes events of customers that do not exist: nothing of them is there
    wrong: list[Difference] = []
    for hour, kept in sorted(hours.items()):
        there = found.get(hour, Decimal(0))
        expected = Decimal({"sum": kept.total, "count": kept.count}.get(meter.formula, kept.last))
        if not kept.unknown:
            if there == expected:
                continue
            verdict = "ambiguous" if meter.formula == "last" else "short" if there < expected else "over"
            wrong.append(Difference(name, customer, hour, expected, there, 0, verdict))
            continue
        arrived = _explained(meter.formula, kept.unknown, there - expected)
        if arrived is None:
            wrong.append(Difference(name, customer, hour, expected, there, len(kept.unknown), "ambiguous"))
            continue
        # remembered once: a later look at the same hour must not count them twice
        for row in kept.unknown:
            settled["delivered" if row in arrived else "pending"].append(row.id)
        kept.total += sum(row.event.value for row in arrived)
        kept.count += len(arrived)
        kept.unknown = []
    return wrong


def _explained(formula: str, unknown: list[Kept], missing: Decimal) -> list[Kept] | None:
    """The one set of unknown events whose arrival explains what Stripe has beyond the delivered ones, or None."""
    if formula == "count":
        return [] if missing == 0 else list(unknown) if missing == len(unknown) else None
    if formula != "sum" or len(unknown) > MOST_UNKNOWN:
        return None
    answers: list[list[Kept]] = []
    for size in range(len(unknown) + 1):
        for chosen in combinations(unknown, size):
            if sum(row.event.value for row in chosen) == missing:
                answers.append(list(chosen))
                if len(answers) > 1:
                    return None
    return answers[0] if answers else None
