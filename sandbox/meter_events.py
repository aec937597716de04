"""Meter events over /v1: create, cancel (adjustments), event summaries."""

from __future__ import annotations

import hashlib
from decimal import Decimal
from typing import Any, Final

from . import inflight, metering, usage_totals
from .errors import refuse
from .router import Call, Kind, declare_kind, route
from .store import Store, mint
from .wire import Obj

declare_kind(Kind("billing.meter_event_summary"))

#: The maximum length of a value in a payload, from Stripe's description of the answer.
LONGEST_VALUE: Final = 100


def alone(store: Store, raw: dict[str, Any]) -> inflight.Claim | None:
    """Stripe accepts one event at a time for a customer and meter; it refuses a concurrent second one with 409."""
    name, payload = raw.get("event_name"), raw.get("payload")
    if not isinstance(name, str) or not isinstance(payload, dict):
        return None
    meter = store.first("billing.meter", {"event_name": name, "status": "active"})
    if meter is None:
        return None
    customer = payload.get(meter["customer_mapping"]["event_payload_key"])
    return inflight.Claim(f"meter event {meter['id']} {customer}", lambda: refuse("event_in_flight"))


@route("POST", "/v1/billing/meter_events", claim=alone)
def create(call: Call) -> Obj:
    """POST /v1/billing/meter_events: checked at once, counted later."""
    params = call.params
    for key, value in params["payload"].items():
        if len(value) > LONGEST_VALUE:
            shown = f"{value[:30]}...{value[-10:]}"
            raise refuse("too_long", param=f"payload[{key}]", value=shown, most=LONGEST_VALUE)
    event = metering.Event(
        params["event_name"], params["payload"], params.get("identifier") or mint("", 32), params.get("timestamp")
    )
    verdict = metering.Desk(call).judge(event)
    if isinstance(verdict, metering.Rejected) and verdict.at_once:
        raise verdict.refusal
    if metering.taken(call, [event.identifier]):
        raise refuse("event_exists", identifier=event.identifier)
    metering.keep(call, [verdict])
    return {
        "object": "billing.meter_event",
        "created": call.now(),
        "event_name": event.event_name,
        "identifier": event.identifier,
        "livemode": call.livemode,
        "payload": event.payload,
        "timestamp": verdict.timestamp,
    }


@route("POST", "/v1/billing/meter_event_adjustments")
def adjust(call: Call) -> Obj:
    """POST /v1/billing/meter_event_adjustments: cancel an event within 24 hours."""
    params = call.params
    identifier = (params.get("cancel") or {}).get("identifier")
    if not identifier:
        raise refuse("missing", param="cancel[identifier]")
    status = metering.cancel(call, params["event_name"], identifier)
    return {
        "object": "billing.meter_event_adjustment",
        "cancel": {"identifier": identifier},
        "event_name": params["event_name"],
        "livemode": call.livemode,
        "status": status,
        "type": "cancel",
    }


@route("GET", "/v1/billing/meters/{id}/event_summaries")
def summaries(call: Call) -> Obj:
    """GET .../event_summaries: newest first, without hours and days that have no events."""
    params = call.params
    meter = call.fetch("billing.meter", call.args["id"])
    customer = call.fetch("customer", params["customer"], param="customer", status=400)
    start, end = params["start_time"], params["end_time"]
    window = params.get("value_grouping_window")
    length, unit = (60, "minute") if window is None else (usage_totals.SECONDS[window], window)
    for name, value in (("start_time", start), ("end_time", end)):
        if value % length != 0:
            raise refuse("summary_aligned", param=name, unit=unit)
    if end <= start:
        raise refuse("summary_order")
    found = usage_totals.buckets(call.store, meter, customer["id"], start, end, call.now(customer), window)
    rows = [_summary(call, meter, customer["id"], *bucket) for bucket in reversed(found)]
    return call.page_of(rows, "meter event summary")


def _summary(call: Call, meter: Obj, customer: str, start: int, end: int, value: Decimal) -> Obj:
    # The same summary always has the same id, so cursors work without storing them.
    digest = hashlib.sha256(f"{call.store.scope} {meter['id']} {customer} {start} {end}".encode()).hexdigest()
    return {
        "id": f"mtrusg_{'' if call.livemode else 'test_'}{digest[:24]}",
        "object": "billing.meter_event_summary",
        "aggregated_value": int(value) if value == int(value) else float(value),
        "end_time": end,
        "livemode": call.livemode,
        "meter": meter["id"],
        "start_time": start,
    }
