"""Asynchronous error reports: Stripe takes an event, rejects it later, and says so in an event of its own."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

from .errors import InvalidEvent
from .results import Reports
from .spool import Refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from .api import Api
    from .spool import Spool

# https://docs.stripe.com/billing/subscriptions/usage-based/recording-usage#handle-meter-event-errors
TYPES = ("v1.billing.meter.error_report_triggered", "v1.billing.meter.no_meter_found")


def take(spool: Spool, api: Callable[[], Api], report: str | bytes | Mapping[str, Any]) -> Reports:
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
        report = api().call("GET", f"/v2/core/events/{quote(report_id, safe='')}").data
    data = report.get("data") or {}
    reason = data.get("reason") or {}
    samples: list[tuple[list[str], Refusal]] = []
    for error_type in reason.get("error_types") or ():
        code = str(error_type.get("code"))
        if code == "duplicate_meter_event":
            continue  # Stripe had the event already: it is delivered
        for sample in error_type.get("sample_errors") or ():
            named = str((sample.get("request") or {}).get("identifier") or "")
            refusal = Refusal(code, str(sample.get("error_message") or code), 0, report_id)
            samples.append((_names(named), refusal))
    count = int(reason.get("error_count") or len(samples))
    matched, strangers = spool.report(report_id, report.get("created"), samples)
    return Reports(1, count, matched, tuple(strangers))


def _names(named: str) -> list[str]:
    """The identifiers that a sample may mean: the event's own, or, as Stripe's types say, the idempotency key of its
    request, which is ours: the identifier, quoted, and a suffix for each attempt."""
    stem, slash, suffix = named.rpartition("/")
    return [named, unquote(stem)] if slash and len(suffix) == 8 else [named]


def fetch(spool: Spool, api: Api) -> Reports:
    """See `Client.fetch_error_reports`."""
    query = [(f"types[{position}]", kind) for position, kind in enumerate(TYPES)]
    since = spool.last_report()
    if since is not None:
        query.append(("created[gte]", since))
    answer = api.call("GET", "/v2/core/events", query=query).data
    taken: list[Reports] = []
    while True:
        taken += [take(spool, lambda: api, event) for event in answer.get("data") or ()]
        following = answer.get("next_page_url")
        if not following:
            break
        answer = api.call("GET", str(following)).data
    strangers = tuple(name for one in taken for name in one.strangers)
    return Reports(len(taken), sum(one.errors for one in taken), sum(one.matched for one in taken), strangers)
