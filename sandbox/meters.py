"""Meters: create, retrieve, update, list, deactivate, reactivate. A meter has no DELETE and no metadata."""

from __future__ import annotations

from .errors import refuse
from .router import Call, Kind, changes, declare_kind, retrieves, route
from .store import declare_index
from .wire import Obj

declare_kind(Kind("billing.meter", missing_param="id", noun="meter"))
retrieves("/v1/billing/meters/{id}", "billing.meter")
declare_index("billing.meter", "event_name")
declare_index("billing.meter", "status")


@route("POST", "/v1/billing/meters")
def create(call: Call) -> Obj:
    """POST /v1/billing/meters; the event name must be free among active meters."""
    params = call.params
    _claim_event_name(call, params["event_name"])
    now = call.now()
    meter: Obj = {
        **call.head("billing.meter", call.mint("mtr_61" if call.livemode else "mtr_test_61", 30), at=now),
        "customer_mapping": params.get("customer_mapping")
        or {"event_payload_key": "stripe_customer_id", "type": "by_id"},
        "default_aggregation": params["default_aggregation"],
        "display_name": params["display_name"],
        "event_name": params["event_name"],
        "event_time_window": params.get("event_time_window"),
        "status": "active",
        "status_transitions": {"deactivated_at": None},
        "updated": now,
        "value_settings": params.get("value_settings") or {"event_payload_key": "value"},
    }
    return call.add(meter, "billing.meter.created")


def _claim_event_name(call: Call, event_name: str) -> None:
    if call.store.first("billing.meter", {"event_name": event_name, "status": "active"}) is not None:
        raise refuse("meter_event_name_taken", event_name=event_name)


@route("GET", "/v1/billing/meters")
def list_meters(call: Call) -> Obj:
    """GET /v1/billing/meters, filtered by `status`."""
    return call.page("billing.meter", {"status": call.params["status"]} if "status" in call.params else {})


@route("POST", "/v1/billing/meters/{id}")
def update(call: Call) -> Obj:
    """POST /v1/billing/meters/{id}: only the display name can change."""
    meter = call.fetch("billing.meter", call.args["id"])
    old = dict(meter)
    if "display_name" in call.params:
        if not call.params["display_name"]:
            raise refuse("empty", param="display_name")
        meter["display_name"] = call.params["display_name"]
    return _save(call, meter, old, "billing.meter.updated")


@route("POST", "/v1/billing/meters/{id}/deactivate")
def deactivate(call: Call) -> Obj:
    """POST .../deactivate: no more events are accepted and no price can be attached."""
    meter = call.fetch("billing.meter", call.args["id"])
    old = dict(meter)
    if meter["status"] != "active":
        raise refuse("meter_status", meter=meter["id"], already="inactive")
    meter["status"] = "inactive"
    meter["status_transitions"] = {"deactivated_at": call.now()}
    return _save(call, meter, old, "billing.meter.deactivated")


@route("POST", "/v1/billing/meters/{id}/reactivate")
def reactivate(call: Call) -> Obj:
    """POST .../reactivate; its event name must be free again."""
    meter = call.fetch("billing.meter", call.args["id"])
    old = dict(meter)
    if meter["status"] == "active":
        raise refuse("meter_status", meter=meter["id"], already="active")
    _claim_event_name(call, meter["event_name"])
    meter["status"] = "active"
    meter["status_transitions"] = {"deactivated_at": None}
    return _save(call, meter, old, "billing.meter.reactivated")


def _save(call: Call, meter: Obj, old: Obj, event: str) -> Obj:
    changed = changes(old, meter)
    if changed:
        meter["updated"] = call.now()
        call.store.put(meter)
        call.event(event, meter, changed)
    return meter
