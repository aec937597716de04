"""Subscription item endpoints: create, retrieve, update, list, delete; each is an update of the subscription."""

from __future__ import annotations

from typing import Any

from . import life, subscriptions, terms
from .errors import refuse
from .router import Call, Kind, declare_kind
from .wire import Obj


def wire(call: Call, pointer: Obj) -> Obj:
    """An item as stored in its subscription; the object stored under its own id only names that subscription."""
    if "current_period_end" in pointer:
        return life.item_wire(call, pointer)
    found = _find(call, pointer)
    return pointer if found is None else life.item_wire(call, found)


declare_kind(Kind("subscription_item", missing_param="item", noun="subscription item", wire=wire))


def _find(call: Call, pointer: Obj) -> Obj | None:
    subscription = call.store.get("subscription", pointer["subscription"])
    items = [] if subscription is None else subscription["items"]["data"]
    return next((item for item in items if item["id"] == pointer["id"]), None)


@life.route("GET", "/v1/subscription_items/{item}")
def retrieve(call: Call) -> Obj:
    """GET /v1/subscription_items/{item}."""
    found = call.store.get("subscription_item", call.args["item"])
    if found is None or found.get("deleted"):
        # Recorded: a special answer, with neither code nor param.
        raise refuse("invalid_item_id", status=404, id=call.args["item"])
    return found


@life.route("GET", "/v1/subscription_items")
def list_items(call: Call) -> Obj:
    """GET /v1/subscription_items of one subscription. Recorded: the only list that begins with the oldest."""
    if not call.params.get("subscription"):
        raise refuse("missing", param="subscription")
    subscription = call.fetch("subscription", call.params["subscription"], param="subscription")
    return call.page_of(subscription["items"]["data"], "subscription item", url=subscription["items"]["url"])


@life.route("POST", "/v1/subscription_items")
def create(call: Call) -> Obj:
    """POST /v1/subscription_items: add an item."""
    subscription = call.fetch("subscription", call.params["subscription"], param="subscription")
    if subscription["status"] in life.ENDED:
        # Recorded: for this endpoint, a subscription that has ended does not exist.
        raise refuse("no_such", status=404, kind="subscription", id=subscription["id"], param="subscription")
    before = {item["id"] for item in subscription["items"]["data"]}
    _change(call, subscription, {})
    return next(item for item in subscription["items"]["data"] if item["id"] not in before)


@life.route("POST", "/v1/subscription_items/{item}")
def update(call: Call) -> Obj:
    """POST /v1/subscription_items/{item}."""
    pointer = call.fetch("subscription_item", call.args["item"])
    subscription = call.fetch("subscription", pointer["subscription"])
    _change(call, subscription, {"id": pointer["id"]})
    return next(item for item in subscription["items"]["data"] if item["id"] == pointer["id"])


@life.route("DELETE", "/v1/subscription_items/{item}")
def delete(call: Call) -> Obj:
    """DELETE /v1/subscription_items/{item}; the last one cannot be deleted."""
    pointer = call.fetch("subscription_item", call.args["item"])
    subscription = call.fetch("subscription", pointer["subscription"])
    terms.check_clear_usage(subscription, call.params, "clear_usage")
    _change(call, subscription, {"id": pointer["id"], "deleted": True})
    return {"id": pointer["id"], "object": "subscription_item", "deleted": True}


#: Parameters of the subscription's update; the others describe the item.
_OF_CHANGE = ("payment_behavior", "proration_behavior", "proration_date", "off_session")


def _change(call: Call, subscription: Obj, entry: dict[str, Any]) -> None:
    given = {name: value for name, value in call.params.items() if name not in ("expand", "subscription")}
    params: dict[str, Any] = {name: given.pop(name) for name in _OF_CHANGE if name in given}
    params["items"] = [{**given, **entry}]
    subscriptions.change(call, subscription, params)
