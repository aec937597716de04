"""What Stripe says after delivery: its hourly totals beside the spool's, and its asynchronous error reports.

`verify` compares and reports, and changes nothing: another producer, Stripe's lag or a clock can explain almost any
total. An error report names events that Stripe took and rejected later; those become dead letters.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any, NamedTuple
from urllib.parse import quote, unquote

from .api import Api
from .delivery import Delivery, Meter, inner, is_active
from .errors import InvalidEvent, StripeError
from .events import Timestamp, exact_sum, utc_seconds
from .reading import aligned, customer_summaries
from .results import Difference, Reports, Verification
from .spool import Spool

DRIFT_SECONDS = 120.0  # a clock this much off is said; at 300 Stripe rejects events as too far in the future
GAP_SECONDS = 5 * 86_400  # hours further apart than this are asked for in two windows


class _Amount(NamedTuple):
    """How many events of one hour have one value and are "delivered" or "unknown", and the time of the latest."""

    state: str
    value: Decimal
    events: int
    latest: int


Hours = dict[int, list[_Amount]]
"""What the spool holds of one event name and customer, by UTC hour."""


def _expected(formula: str, amounts: Sequence[_Amount]) -> Decimal:
    """What a meter of that formula makes of them."""
    if formula == "count":
        return Decimal(sum(one.events for one in amounts))
    if formula == "sum":
        return exact_sum(one.value * one.events for one in amounts)
    return max(amounts, key=lambda one: one.latest).value if amounts else Decimal(0)


def verify(
    at: Delivery,
    /,
    start: Timestamp | None = None,
    end: Timestamp | None = None,
    *,
    event_name: str | None = None,
    customers: Sequence[str] = (),
    wait: float = 0.0,
) -> Verification:
    """Compare what the spool delivered with Stripe's hourly summaries, waiting up to `wait` seconds for its lag.

    Reports and changes nothing. Without a window every event that the spool still has is compared, whatever time
    its recorder's clock gave it.
    """
    api, mine = at.api, at.mine()
    since, until = (None if moment is None else utc_seconds(moment) for moment in (start, end))
    first = None if since is None else aligned(since, since + 1, "hour")[0]
    last = None if until is None else aligned(until - 1, until, "hour")[1]
    pairs: dict[tuple[str, str], Hours] = {}
    for name, customer, hour, state, value, events, latest in at.spool.totals(mine, first, last):
        if event_name in (None, name) and (not customers or customer in customers):
            amount = _Amount(state, Decimal(value), events, latest)
            pairs.setdefault((name, customer), {}).setdefault(hour, []).append(amount)
    began = time.monotonic()
    found = {name: at.meters.find(name) for name in {name for name, _ in pairs}}
    comparable = {
        name: one for name, one in found.items() if one and is_active(one) and not one.get("event_time_window")
    }
    open_pairs = {pair: hours for pair, hours in pairs.items() if pair[0] in comparable}
    checked = sum(map(len, open_pairs.values()))
    unchecked = sum(map(len, pairs.values())) - checked
    pause = 0.5
    while True:
        differences: list[Difference] = []
        for (name, customer), hours in list(open_pairs.items()):
            wrong = _compared(api, comparable[name], customer, hours)
            differences += wrong
            if not wrong:
                del open_pairs[name, customer]  # not asked again while the others lag
        left = wait - (time.monotonic() - began)
        if left <= 0 or not any(item.verdict == "short" for item in differences):
            break
        time.sleep(min(pause, left))
        pause = min(5.0, pause * 2)
    return Verification(
        destination=api.destination.label,
        sandbox=api.destination.sandbox,
        checked=checked,
        matching=checked - len(differences),
        unchecked=unchecked,
        unknown=sum(at.spool.counts().get(name, {}).get("unknown", 0) for name in mine),
        differences=tuple(differences),
        waited=int(time.monotonic() - began),
        clock=_clock(api.skew),
    )


def _clock(skew: float | None) -> str | None:
    if skew is None or abs(skew) < DRIFT_SECONDS:
        return None
    way = "ahead of" if skew > 0 else "behind"
    return (
        f"this machine's clock is {abs(skew):,.0f} seconds {way} Stripe's: events recorded here carry a wrong time, "
        f"and Stripe rejects those more than 5 minutes in the future"
    )


def _windows(hours: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Windows that hold all hours, without the long gaps between them."""
    first = before = hours[0]
    for hour in hours[1:]:
        if hour - before > GAP_SECONDS:
            yield first, before + 3600
            first = hour
        before = hour
    yield first, before + 3600


def _compared(api: Api, meter: Meter, customer: str, hours: Hours) -> list[Difference]:
    """The hours of one customer whose totals do not agree, or hold events of unknown fate."""
    found: dict[int, Decimal] = {}
    try:
        for first, last in _windows(sorted(hours)):
            found |= {
                row.start: row.value for row in customer_summaries(api, meter["id"], customer, first, last, "hour")
            }
    except StripeError as problem:
        if problem.code != "resource_missing":
            raise
        # the stream takes events of customers that do not exist: nothing of them is there
    wrong: list[Difference] = []
    formula = inner(meter, "default_aggregation", "formula", "sum")
    for hour, kept in sorted(hours.items()):
        there = found.get(hour, Decimal(0))
        expected = _expected(formula, [one for one in kept if one.state == "delivered"])
        arrived = _expected(formula, kept)
        unknown = sum(one.events for one in kept if one.state == "unknown")
        if there == expected and not unknown:
            continue
        verdict = "short" if there < expected else "over"
        if there in (expected, arrived) and arrived != expected:
            verdict = "missing" if there == expected else "arrived"
        wrong.append(Difference(meter["event_name"], customer, hour, expected, there, unknown, verdict))
    return wrong


# -- error reports: https://docs.stripe.com/billing/subscriptions/usage-based/recording-usage#handle-meter-event-errors

TYPES = ("v1.billing.meter.error_report_triggered", "v1.billing.meter.no_meter_found")


def take_report(spool: Spool, api: Callable[[], Api], report: str | bytes | Mapping[str, Any]) -> Reports:
    """See `Client.error_report`."""
    if isinstance(report, (str, bytes)):
        try:
            report = json.loads(report)
        except (ValueError, RecursionError):
            raise InvalidEvent("report", "is not JSON") from None
    if not isinstance(report, dict):
        raise InvalidEvent("report", "is not an event object")
    kind, report_id = report.get("type"), report.get("id")
    if kind not in TYPES or not isinstance(report_id, str):
        raise InvalidEvent("report", f"is a {kind!r} event; expected one of {', '.join(TYPES)}")
    if not report.get("data"):  # a thin notification
        report = api().get(f"/v2/core/events/{quote(report_id, safe='')}")
    reason = (report.get("data") or {}).get("reason") or {}
    samples: list[tuple[list[str], str, str]] = []
    for error_type in reason.get("error_types") or ():
        code = str(error_type.get("code"))
        if code == "duplicate_meter_event":
            continue  # Stripe had the event already: it is delivered
        for sample in error_type.get("sample_errors") or ():
            named = str((sample.get("request") or {}).get("identifier") or "")
            samples.append((_names(named), code, str(sample.get("error_message") or code)))
    count = int(reason.get("error_count") or len(samples))
    matched, strangers = spool.report(report_id, report.get("created"), samples)
    return Reports(1, count, matched, tuple(strangers))


def _names(named: str) -> list[str]:
    """The identifiers that a sample may mean: the event's own, or, as Stripe's types say, the idempotency key of its
    request, which is ours: the identifier, quoted, and a suffix for each attempt."""
    stem, slash, suffix = named.rpartition("/")
    return [named, unquote(stem)] if slash and len(suffix) == 8 else [named]


def fetch_error_reports(at: Delivery, /) -> Reports:
    """Ask Stripe for the error reports since the last one taken (its event list goes back 30 days)."""
    query = [(f"types[{place}]", kind) for place, kind in enumerate(TYPES)]
    since = at.spool.last_report()
    answer = at.api.get("/v2/core/events", *query, *([("created[gte]", since)] if since else ()))
    taken: list[Reports] = []
    while True:
        taken += [take_report(at.spool, lambda: at.api, event) for event in answer.get("data") or ()]
        if not answer.get("next_page_url"):
            break
        answer = at.api.get(str(answer["next_page_url"]))
    strangers = tuple(name for one in taken for name in one.strangers)
    return Reports(len(taken), sum(one.errors for one in taken), sum(one.matched for one in taken), strangers)
