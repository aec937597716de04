"""Trial offers: create, retrieve, update, list. `billing/cycle.py` bills items in a trial offer.

They are newer than the description: the shape is stripe-python's `product_catalog.TrialOffer`.
"""

from __future__ import annotations

from typing import Final

from .billing.lines import is_metered
from .errors import refuse
from .router import Call, Kind, declare_kind, retrieves, route
from .wire import Obj

KIND: Final = "product_catalog.trial_offer"
#: Stripe does not show `created`, but lists are sorted by it.
declare_kind(Kind(KIND, noun="trial offer", hidden=frozenset({"created"})))
retrieves("/v1/product_catalog/trial_offers/{id}", KIND)


@route("POST", "/v1/product_catalog/trial_offers")
def create(call: Call) -> Obj:
    """POST /v1/product_catalog/trial_offers: a price for a limited time, and the price that follows."""
    params = call.params
    price = _recurring(call, params["price"], "price")
    transition = params["end_behavior"]["transition"]["price"]
    next_price = _recurring(call, transition, "end_behavior[transition][price]")
    if is_metered(price) != is_metered(next_price):
        # What happens to the quantity is not documented.
        raise refuse("not_implemented_param", param="end_behavior[transition][price] of another usage_type")
    iterations = params["duration"]["relative"]["iterations"]
    offer: Obj = {
        **call.head(KIND, call.mint("to_1", 23)),
        "active": params.get("active", True),
        "duration": {"relative": {"iterations": iterations}, "type": "relative"},
        "end_behavior": {"transition": {"price": next_price["id"]}, "type": "transition"},
        "nickname": params.get("nickname") or None,
        "price": price["id"],
    }
    call.store.put(offer)
    return offer


def _recurring(call: Call, id: str, param: str) -> Obj:
    """An active recurring price: trial offers take no others."""
    price = call.fetch("price", id, param=param, status=400)
    if not price["active"]:
        raise refuse("price_inactive", param=param)
    if price["recurring"] is None:
        raise refuse("price_one_time", param=param)
    return price


@route("GET", "/v1/product_catalog/trial_offers")
def list_offers(call: Call) -> Obj:
    """GET /v1/product_catalog/trial_offers, filtered by `active` and the `prices` of the trial."""
    where = call.given("active")
    if "prices" in call.params:
        where["price"] = call.params["prices"]
    return call.page(KIND, where)


@route("POST", "/v1/product_catalog/trial_offers/{id}")
def update(call: Call) -> Obj:
    """POST /v1/product_catalog/trial_offers/{id}: an archived offer begins no new trial; running trials continue."""
    offer = call.fetch(KIND, call.args["id"])
    if call.params.get("active", offer["active"]) != offer["active"]:
        offer["active"] = call.params["active"]
        call.store.put(offer)
    return offer
