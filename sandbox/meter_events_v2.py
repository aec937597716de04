"""Meter events over /v2: single events, the stream with its sessions, and the error reports."""

from __future__ import annotations

import re
from typing import Any, Final

from . import metering, v2
from .errors import refuse
from .router import Call, Kind, declare_kind, retrieves, route
from .store import mint
from .wire import Obj

declare_kind(Kind("v2.core.event"))
retrieves("/v2/core/events/{id}", "v2.core.event")

MAX_STREAM_EVENTS: Final = 100


@route("POST", "/v2/billing/meter_event_session")
def session(call: Call) -> Obj:
    """POST /v2/billing/meter_event_session: a token for the stream, valid for 15 minutes."""
    now = call.now()
    mode = "live" if call.livemode else "test"
    token, id = mint("token_", 60), mint(f"mes_{mode}_", 24)
    call.store.connection.execute(
        "INSERT INTO meter_event_sessions VALUES (?, ?, ?, ?, ?)", (token, id, call.account, call.livemode, now)
    )
    call.store.connection.execute("DELETE FROM meter_event_sessions WHERE created < ?", (now - 2 * v2.SESSION_SECONDS,))
    return {
        "object": "v2.billing.meter_event_session",
        "authentication_token": token,
        "created": metering.rfc3339(now),
        "expires_at": metering.rfc3339(now + v2.SESSION_SECONDS),
        "id": id,
        "livemode": call.livemode,
    }


@route("POST", v2.STREAM_PATH)
def stream(call: Call) -> Obj:
    """POST /v2/billing/meter_event_stream: up to 100 events, each validated after the answer.

    An event with a known identifier is dropped silently: Stripe's answer to that is not published.
    """
    given = call.params["events"]
    if not 1 <= len(given) <= MAX_STREAM_EVENTS:
        raise refuse("stream_size", count=len(given))
    desk = metering.Desk(call)
    verdicts: dict[str, metering.Accepted | metering.Rejected] = {}
    for item in given:
        timestamp: int | None = None
        if "timestamp" in item:
            timestamp = metering.parse_rfc3339(item["timestamp"], "events[timestamp]")
        identifier = item.get("identifier") or mint("", 32)
        if identifier not in verdicts:
            event = metering.Event(item["event_name"], item["payload"], identifier, timestamp)
            verdicts[identifier] = desk.judge(event)
    known = metering.taken(call, list(verdicts))
    metering.keep(call, [verdict for identifier, verdict in verdicts.items() if identifier not in known])
    return {}


@route("GET", "/v2/core/events", writes=True)
def list_events(call: Call) -> Obj:
    """GET /v2/core/events: thin events, here the error reports of meter events; newest first."""
    metering.report(call)
    params = call.params
    where: dict[str, Any] = {}
    if "types" in params:
        where["type"] = params["types"]
    if "object_id" in params:
        where["related_object.id"] = params["object_id"]
    if "created" in params:
        where["_created"] = {
            name: metering.parse_rfc3339(value, f"created[{name}]") for name, value in params["created"].items()
        }
    limit = min(max(params.get("limit", 20), 1), 100)
    before = int(params["page"]) if re.fullmatch(r"[0-9]{1,15}", params.get("page", "")) else None
    rows = call.store.query("v2.core.event", where, before=before, limit=limit + 1)
    following = None
    if len(rows) > limit:
        rows = rows[:limit]
        place = call.store.seq("v2.core.event", rows[-1]["id"])
        following = f"/v2/core/events?limit={limit}&page={place}"
    return {"data": [call.wire(row) for row in rows], "next_page_url": following, "previous_page_url": None}
