"""Test clocks: create, retrieve, list, advance, delete. Advancing bills whatever falls due up to the new time."""

from __future__ import annotations

from typing import Final

from . import customers, life, terms
from .billing.periods import Anchor, Interval
from .errors import refuse
from .router import Call, Kind, declare_kind, retrieves, route
from .wire import Obj

KIND: Final = "test_helpers.test_clock"
#: Stripe deletes a test clock thirty days after its creation.
LIFETIME: Final = 30 * 86_400

declare_kind(Kind(KIND, missing_param="test_clock", noun="test clock"))
retrieves("/v1/test_helpers/test_clocks/{test_clock}", KIND)


@route("POST", "/v1/test_helpers/test_clocks")
def create(call: Call) -> Obj:
    """POST /v1/test_helpers/test_clocks: a separate time for the customers that name it."""
    if call.livemode:
        raise refuse("clock_live")
    if call.params.get("customer"):
        raise refuse("not_implemented_param", param="customer")
    terms.in_range(call.params["frozen_time"], "frozen_time")
    now = call.now()
    clock: Obj = {
        **call.head(KIND, call.mint("clock_1", 23), at=now),
        "deletes_after": now + LIFETIME,
        "frozen_time": call.params["frozen_time"],
        "name": call.params.get("name") or None,
        "status": "ready",
        "status_details": {},
    }
    return call.add(clock, "test_helpers.test_clock.created")


@route("GET", "/v1/test_helpers/test_clocks")
def list_clocks(call: Call) -> Obj:
    """GET /v1/test_helpers/test_clocks."""
    return call.page(KIND)


@route("POST", "/v1/test_helpers/test_clocks/{test_clock}/advance")
def advance(call: Call) -> Obj:
    """POST .../advance: at most two intervals of the shortest subscription on the clock at a time.

    Stripe answers `advancing` and works in the background; here the request does all the work, and the next GET says
    `ready`.
    """
    clock = call.fetch(KIND, call.args["test_clock"])
    target = call.params["frozen_time"]
    terms.in_range(target, "frozen_time")
    if target <= clock["frozen_time"]:
        raise refuse("clock_backwards")
    furthest = _furthest(call, clock)
    if furthest is not None and target > furthest:
        raise refuse("clock_too_far", furthest=furthest)
    life.advance(call, clock["id"], target)
    clock["frozen_time"] = target
    call.store.put(clock)
    advancing: Obj = {**clock, "status": "advancing", "status_details": {"advancing": {"target_frozen_time": target}}}
    call.event("test_helpers.test_clock.advancing", advancing)
    call.event("test_helpers.test_clock.ready", clock)
    return advancing


def _furthest(call: Call, clock: Obj) -> int | None:
    """Two of the shortest intervals that bill on this clock from now; None if nothing bills."""
    intervals = [
        Interval.of(call.fetch("price", item["price"])["recurring"])
        for subscription in call.store.query("subscription", {"test_clock": clock["id"]})
        if subscription["status"] not in life.ENDED
        for item in subscription["items"]["data"]
    ]
    if not intervals:
        return None
    shortest = min(intervals, key=lambda interval: interval.length)
    return Anchor(clock["frozen_time"]).boundary(shortest, 2)


@route("DELETE", "/v1/test_helpers/test_clocks/{test_clock}")
def delete(call: Call) -> Obj:
    """DELETE /v1/test_helpers/test_clocks/{test_clock}: deletes its customers and their subscriptions too."""
    clock = call.fetch(KIND, call.args["test_clock"])
    for customer in call.store.query("customer", {"test_clock": clock["id"]}):
        customers.remove(call, customer)
    call.store.remove(KIND, clock["id"])
    gone: Obj = {"id": clock["id"], "object": KIND, "deleted": True}
    call.event("test_helpers.test_clock.deleted", clock)
    return gone
