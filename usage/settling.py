"""After delivery: cancelling an event, comparing Stripe's hourly totals with the spool's, and Stripe's error reports.

`verify` only reports: another producer, Stripe's lag or a clock can explain almost any total. An error report names
events that Stripe accepted and rejected later; those become dead letters.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from decimal import Decimal
from functools import partial
from typing import Any, NamedTuple
from urllib.parse import quote, unquote

from .api import Api
from .delivery import Delivery, inner, is_active
from .errors import InvalidEvent, SpoolMissing, StripeError, UsageError
from .events import Timestamp, digest_of, exact_sum, utc_seconds
from .reading import aligned, customer_summaries
from .results import Difference, Reports, Verification
from .spool import UNIQUENESS_SECONDS, Kept, Spool

# -- cancelling: https://docs.stripe.com/api/billing/meter-event_adjustment/create ------------------------------------

_NO_WAY = {
    "queued": "is in the outbox queue; cancel it where the queue is drained",
    "replaced": "was sent again under another identifier; cancel that one",
    "cancelled": "was cancelled meanwhile",
    "pending": "is being sent right now; cancel it again when `usage flush` is done",
    "cancelling": "has been waiting for more than 24 hours for Stripe to cancel it; compare with `usage verify`",
    "dead": "may have arrived more than 24 hours ago, although it was refused; compare with `usage verify`",
    "unknown": "may have arrived more than 24 hours ago, too long for Stripe to cancel; compare with `usage verify`",
}


def cancel(
    spool: Spool,
    api: Callable[[], Api],
    mine: Callable[[], Sequence[str]],
    identifier: str,
    event_name: str | None,
    patience: float,
) -> str:
    """Cancel an event, and return what that meant. See `Client.cancel`.

    patience: seconds to wait for a delivery that holds the event.
    """
    kept = None
    with suppress(SpoolMissing):
        kept = spool.find(identifier)
    if kept is None:
        if event_name is None:
            where = f"is not in the spool {spool.path}"
            raise UsageError(f"{identifier} {where}; give its event name (`--event`) to cancel it at Stripe")
        return _cancel_at_stripe(api(), identifier, event_name)
    unsent = partial(spool.move, identifier, ("pending", "dead"), "cancelled", unsent=True)
    if unsent():
        return "not sent"
    kept = spool.find(identifier) or kept
    if kept.state == "cancelled":
        return "cancelled"
    if kept.destination not in mine():
        raise UsageError(f"{identifier} was recorded for {kept.destination}, which is not where this client delivers")
    # another delivery holds a pending event, or its answer was lost: the lock tells which, and keeps it from being sent
    with spool.delivering(patience) if kept.state == "pending" else nullcontext(True) as alone:
        if not alone:
            raise UsageError(f"{identifier} {_NO_WAY['pending']}")
        return "not sent" if unsent() else _decided(spool, api, spool.find(identifier) or kept)


def _decided(spool: Spool, api: Callable[[], Api], kept: Kept) -> str:
    """Cancel an event that Stripe has or may have."""
    identifier, delivered = kept.identifier, kept.state == "delivered"
    since = kept.unknown_since or kept.settled_at or kept.recorded_at
    if kept.state in ("queued", "replaced", "cancelled") or spool.clock() - since >= UNIQUENESS_SECONDS:
        raise StripeError(_too_late(kept)) if delivered else UsageError(f"{identifier} {_NO_WAY[kept.state]}")
    # set aside first: after a crash it is neither sent again nor counted as delivered
    if not spool.move(identifier, [kept.state], "cancelling"):
        raise UsageError(f"{identifier} {_NO_WAY['pending']}")
    try:
        _cancel_at_stripe(api(), identifier, kept.event_name)
    except UsageError as problem:
        refused = isinstance(problem, StripeError)
        if refused or not problem.maybe_done:
            spool.move(identifier, ["cancelling"], "delivered" if delivered else "unknown")
        if refused and not delivered:
            raise UsageError(
                f"the first answer for {identifier} was lost, and Stripe does not know it (yet): {problem}. It is "
                f"set aside and not sent; cancel it again in a minute, or compare with `usage verify`"
            ) from None
        raise
    spool.move(identifier, ["cancelling"], "cancelled")
    return "cancelled"


def _too_late(kept: Kept) -> str:
    """The command that takes an event back after Stripe's 24 hours; run twice, it is still one correction."""
    from shlex import join

    dimensions = [f"--dimension={key}={value}" for key, value in json.loads(kept.dimensions or "{}").items()]
    options = ["--timestamp", str(kept.timestamp), *dimensions, "--correction"]
    name = ["--identifier", f"correction-{digest_of(kept.identifier)}"]
    amount = f"--value={-Decimal(kept.value):f}"
    command = join(["usage", "send", kept.event_name, "--customer", kept.customer, amount, *options, *name])
    why = "was delivered more than 24 hours ago, and Stripe cancels only within 24 hours"
    return f"{kept.identifier} {why}; a negative event of the same time takes its {kept.value} units back: {command}"


def _cancel_at_stripe(api: Api, identifier: str, event_name: str) -> str:
    form = [("event_name", event_name), ("type", "cancel"), ("cancel[identifier]", identifier)]
    try:
        api.call("POST", "/v1/billing/meter_event_adjustments", form=form)
    except StripeError as problem:
        text = str(problem.args[0]).lower()
        if not ("already" in text and "cancel" in text):  # otherwise an earlier answer was lost, and it is cancelled
            raise
    return "cancelled"


# -- verifying --------------------------------------------------------------------------------------------------------


class _Amount(NamedTuple):
    """The number of "delivered" or "unknown" events with one value in one hour, and the time of the latest."""

    state: str
    value: Decimal
    events: int
    latest: int


Hours = dict[int, list[_Amount]]
"""The spool's events of one event name and customer, by UTC hour."""


def verify(
    at: Delivery,
    /,
    start: Timestamp | None = None,
    end: Timestamp | None = None,
    *,
    event_name: str | None = None,
    customer: Sequence[str] = (),
) -> Verification:
    """Compare what the spool delivered with Stripe's hourly summaries, which lag by seconds to minutes.

    Changes nothing. Without a window, it compares every event still in the spool, whatever its timestamp. customer:
    only these customers.
    """
    mine = at.mine()
    since, until = (None if moment is None else utc_seconds(moment) for moment in (start, end))
    first = None if since is None else aligned(since, since + 1, "hour")[0]
    last = None if until is None else aligned(until - 1, until, "hour")[1]
    pairs: dict[tuple[str, str], Hours] = {}
    for name, who, hour, state, value, events, latest in at.spool.totals(mine, first, last):
        if event_name in (None, name) and (not customer or who in customer):
            amount = _Amount(state, Decimal(value), events, latest)
            pairs.setdefault((name, who), {}).setdefault(hour, []).append(amount)
    differences: list[Difference] = []
    checked = unchecked = 0
    for (name, who), hours in pairs.items():
        meter = at.meters.find(name)
        if meter is None or not is_active(meter) or meter.get("event_time_window"):
            unchecked += len(hours)
            continue
        checked += len(hours)
        formula = inner(meter, "default_aggregation", "formula", "sum")
        differences += _compared(at.api, meter["id"], formula, name, who, hours)
    unknown = sum(at.spool.counts().get(name, {}).get("unknown", 0) for name in mine)
    counts = (checked, checked - len(differences), unchecked, unknown)
    where = at.api.destination
    return Verification(where.label, where.sandbox, *counts, tuple(differences))


def _compared(api: Api, meter_id: str, formula: str, event_name: str, customer: str, hours: Hours) -> list[Difference]:
    """The hours of one customer whose totals do not agree, or that have events of unknown fate."""
    found: dict[int, Decimal] = {}
    try:
        rows = customer_summaries(api, meter_id, customer, min(hours), max(hours) + 3600, "hour")
        found = {row.start: row.value for row in rows}
    except StripeError as problem:
        if problem.code != "resource_missing":
            raise
        # the stream accepts events for customers that do not exist: they have no totals
    wrong: list[Difference] = []
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
        wrong.append(Difference(event_name, customer, hour, expected, there, unknown, verdict))
    return wrong


def _expected(formula: str, amounts: Sequence[_Amount]) -> Decimal:
    """Their total by the meter's formula."""
    if formula == "count":
        return Decimal(sum(one.events for one in amounts))
    if formula == "sum":
        return exact_sum(one.value * one.events for one in amounts)
    return max(amounts, key=lambda one: one.latest).value if amounts else Decimal(0)


# -- error reports: https://docs.stripe.com/billing/subscriptions/usage-based/recording-usage#handle-meter-event-errors

TYPES = ("v1.billing.meter.error_report_triggered", "v1.billing.meter.no_meter_found")


def take_report(at: Delivery, /, report: str | bytes | Mapping[str, Any]) -> Reports:
    """Apply one `v1.billing.meter.error_report_triggered` (or `.no_meter_found`) event, as a webhook receives it.

    Its sample errors name events by identifier; those become dead letters with Stripe's code. A report that was applied
    before changes nothing. For a thin notification without `data`, it asks Stripe for the rest.
    """
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
        report = at.api.get(f"/v2/core/events/{quote(report_id, safe='')}")
    reason = (report.get("data") or {}).get("reason") or {}
    samples: list[tuple[list[str], str, str]] = []
    for error_type in reason.get("error_types") or ():
        code = str(error_type.get("code"))
        if code == "duplicate_meter_event":
            continue  # Stripe already had the event: it is delivered
        for sample in error_type.get("sample_errors") or ():
            named = str((sample.get("request") or {}).get("identifier") or "")
            samples.append((_names(named), code, str(sample.get("error_message") or code)))
    count = int(reason.get("error_count") or len(samples))
    matched, strangers = at.spool.report(report_id, report.get("created"), samples)
    return Reports(at.api.destination.label, at.api.destination.sandbox, 1, count, matched, tuple(strangers))


def _names(named: str) -> list[str]:
    """The identifiers that a sample may mean: the event's own, or, according to Stripe's types, the idempotency key of
    its request, which we build from the quoted identifier and a suffix for each attempt."""
    stem, slash, suffix = named.rpartition("/")
    return [named, unquote(stem)] if slash and len(suffix) == 8 else [named]


def fetch_error_reports(at: Delivery, /) -> Reports:
    """Fetch the error reports since the last one applied (Stripe's event list goes back 30 days)."""
    query = [(f"types[{place}]", kind) for place, kind in enumerate(TYPES)]
    since = at.spool.last_report()
    answer = at.api.get("/v2/core/events", *query, *([("created[gte]", since)] if since else ()))
    taken: list[Reports] = []
    while True:
        taken += [take_report(at, event) for event in answer.get("data") or ()]
        if not answer.get("next_page_url"):
            break
        answer = at.api.get(str(answer["next_page_url"]))
    where = at.api.destination
    counts = (len(taken), sum(one.errors for one in taken), sum(one.matched for one in taken))
    return Reports(where.label, where.sandbox, *counts, tuple(name for one in taken for name in one.strangers))
