"""Asynchronous error reports: Stripe takes an event, rejects it later, and says so in an event of its own."""

from __future__ import annotations

import json

from .errors import InvalidEvent
from .results import Reports
from .spool import Refusal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from .client import Client

# https://docs.stripe.com/billing/subscriptions/usage-based/recording-usage#handle-meter-event-errors
TYPES = ("v1.billing.meter.error_report_triggered", "v1.billing.meter.no_meter_found")


def take(client: Client, report: str | bytes | Mapping[str, Any]) -> Reports:
    """See `Client.error_report`."""
    if isinstance(report, (str, bytes)):
        try:
            report = json.loads(report)
        except ValueError:
            raise InvalidEvent("report", "is not JSON") from None
    if not isinstance(report, dict):
        raise InvalidEvent("report", "is not an event object")
    kind, report_id = report.get("type"), report.get("id")
    if kind not in TYPES or not isinstance(report_id, str):
        raise InvalidEvent("report", f"is a {kind!r} event; expected one of {', '.join(TYPES)}")
    if not report.get("data"):
        from urllib.parse import quote

        report = client.api.call("GET", f"/v2/core/events/{quote(report_id, safe='')}").data
    return _kept(client, report_id, str(kind), report)


def _kept(client: Client, report_id: str, kind: str, report: Mapping[str, Any]) -> Reports:
    data = report.get("data") or {}
    reason = data.get("reason") or {}
    samples: list[tuple[str, Refusal]] = []
    for error_type in reason.get("error_types") or ():
        code = str(error_type.get("code"))
        if code == "duplicate_meter_event":
            continue  # Stripe had the event already: it is delivered
        for sample in error_type.get("sample_errors") or ():
            named = str((sample.get("request") or {}).get("identifier") or "")
            refusal = Refusal(code, str(sample.get("error_message") or code), 0, report_id)
            # documented as the request's idempotency key; ours begins with the identifier, so either is found
            stem, slash, nonce = named.rpartition("/")
            known = client.spool.find(named) is not None or not slash or len(nonce) != 8
            samples.append((named if known else stem, refusal))
    count = int(reason.get("error_count") or len(samples))
    related = report.get("related_object") or {}
    matched, strangers = client.spool.report(
        report_id,
        kind,
        report.get("created"),
        related.get("id"),
        data.get("developer_message_summary"),
        count,
        json.dumps(report, default=str),
        samples,
    )
    return Reports(1, count, matched, tuple(strangers))


def fetch(client: Client) -> Reports:
    """See `Client.fetch_error_reports`."""
    query = [(f"types[{position}]", kind) for position, kind in enumerate(TYPES)]
    since = client.spool.last_report()
    if since is not None:
        query.append(("created[gte]", since))
    answer = client.api.call("GET", "/v2/core/events", query=query).data
    taken: list[Reports] = []
    while True:
        taken += [take(client, event) for event in answer.get("data") or ()]
        following = answer.get("next_page_url")
        if not following:
            break
        answer = client.api.call("GET", str(following)).data
    strangers = tuple(name for one in taken for name in one.strangers)
    return Reports(len(taken), sum(one.errors for one in taken), sum(one.matched for one in taken), strangers)
