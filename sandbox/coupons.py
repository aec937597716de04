"""Coupons: create, retrieve, update, list, delete."""

from __future__ import annotations

from typing import Any, Final

from . import amounts
from .errors import refuse
from .router import Call, Kind, assign, declare_kind, retrieves, route
from .wire import Obj

LEAST_PERCENT: Final = 0.01


def redeemable(coupon: Obj, now: int) -> bool:
    """Whether a coupon can be redeemed at `now`: until `redeem_by`, and `max_redemptions` times over all customers."""
    late = coupon["redeem_by"] is not None and coupon["redeem_by"] <= now
    full = coupon["max_redemptions"] is not None and coupon["times_redeemed"] >= coupon["max_redemptions"]
    return bool(coupon["valid"] and not late and not full)


def _wire(call: Call, coupon: Obj) -> Obj:
    """Adds whether it can still be redeemed, which depends on the time."""
    return {**coupon, "valid": redeemable(coupon, call.now())}


declare_kind(Kind("coupon", missing_param="coupon", hidden=frozenset({"applies_to", "currency_options"}), wire=_wire))
retrieves("/v1/coupons/{coupon}", "coupon")


@route("POST", "/v1/coupons")
def create(call: Call) -> Obj:
    """POST /v1/coupons: an amount or a percentage off, once, for some months, or forever."""
    params = call.params
    id = params.get("id") or call.mint("", 8)
    if call.store.get("coupon", id) is not None:
        raise refuse("coupon_exists")
    _check_off(params)
    duration = params.get("duration", "once")
    if duration == "repeating" and "duration_in_months" not in params:
        raise refuse("coupon_months_missing")
    if duration != "repeating" and "duration_in_months" in params:
        raise refuse("coupon_months")
    if "redeem_by" in params and params["redeem_by"] <= call.now():
        raise refuse("time_past", param="redeem_by", value=params["redeem_by"])
    coupon: Obj = {
        **call.head("coupon", id),
        **call.given("amount_off", "duration_in_months", "max_redemptions", "percent_off", "redeem_by"),
        "applies_to": params.get("applies_to", {"products": []}),
        "currency": amounts.currency(params["currency"]) if "amount_off" in params else None,
        "currency_options": _currency_options(params.get("currency_options") or {}, params.get("currency")),
        "duration": duration,
        "metadata": call.metadata({}, params.get("metadata", {})),
        "name": params.get("name") or None,
        "valid": True,
    }
    for index, product in enumerate(coupon["applies_to"].get("products", ())):
        call.fetch("product", product, param=f"applies_to[products][{index}]", status=400)
    return call.add(coupon, "coupon.created")


def _check_off(params: dict[str, Any]) -> None:
    """An amount in a currency, maybe with others, or a percentage."""
    amount, percent = params.get("amount_off"), params.get("percent_off")
    if amount is None and percent is None:
        raise refuse("coupon_discount")
    if amount is not None and percent is not None:
        raise refuse("coupon_both")
    if amount is not None:
        if amount < 1:
            raise refuse("divide_by", param="amount_off")
        if not params.get("currency"):
            raise refuse("coupon_currency")
    if percent is not None:
        if percent < LEAST_PERCENT:
            raise refuse("too_small", param="percent_off", least=LEAST_PERCENT, value=percent)
        if percent > 100:
            raise refuse("too_great", param="percent_off", most=100, value=percent)
        if params.get("currency_options"):
            raise refuse("only_one", param="currency_options", names="currency_options, percent_off")


def _currency_options(given: dict[str, Any], own: str | None) -> dict[str, Any]:
    return {
        amounts.currency_key(code, "currency_options", own): {"amount_off": option["amount_off"]}
        for code, option in given.items()
    }


@route("GET", "/v1/coupons")
def list_coupons(call: Call) -> Obj:
    """GET /v1/coupons."""
    return call.page("coupon")


@route("POST", "/v1/coupons/{coupon}")
def update(call: Call) -> Obj:
    """POST /v1/coupons/{coupon}: its name, metadata and additional currencies; what it takes off cannot change."""
    coupon = call.fetch("coupon", call.args["coupon"])
    old = dict(coupon)
    assign(coupon, call.params, "name")
    call.set_metadata(coupon)
    if "currency_options" in call.params:
        coupon["currency_options"] = {
            **coupon["currency_options"],
            **_currency_options(call.params["currency_options"], coupon["currency"]),
        }
    return call.save(coupon, old, "coupon.updated")


@route("DELETE", "/v1/coupons/{coupon}")
def delete(call: Call) -> Obj:
    """DELETE /v1/coupons/{coupon}: it can no longer be redeemed; existing discounts stay."""
    coupon = call.fetch("coupon", call.args["coupon"])
    call.store.remove("coupon", coupon["id"])
    call.event("coupon.deleted", {**coupon, "valid": False})
    return {"id": coupon["id"], "object": "coupon", "deleted": True}
