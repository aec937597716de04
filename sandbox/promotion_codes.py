"""Promotion codes: create, retrieve, update, list. A code that customers enter for a coupon, with its own limits.

https://docs.stripe.com/billing/subscriptions/coupons#promotion-codes. The refusals of a bad code, coupon or date are
recorded on 2026-08-26.dahlia (Kiln-AI/stripe_world).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from . import amounts, connect, coupons
from .errors import refuse
from .router import Call, Kind, declare_kind, retrieves, route
from .store import declare_index
from .wire import Obj

_CODE: Final = re.compile(r"\A[a-zA-Z0-9\-_]+\Z")
_LETTERS: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
_LONGEST: Final = 5 * 365 * 86_400


def redeemable(call: Call, code: Obj, now: int) -> bool:
    """Whether a code can be redeemed at `now`: it is active, and neither it nor its coupon has expired or run out."""
    coupon = call.store.get("coupon", code["promotion"]["coupon"])
    late = code["expires_at"] is not None and code["expires_at"] <= now
    full = code["max_redemptions"] is not None and code["times_redeemed"] >= code["max_redemptions"]
    return bool(code["active"] and not late and not full and coupon is not None and coupons.redeemable(coupon, now))


def _wire(call: Call, code: Obj) -> Obj:
    """Whether it is active depends on the time and on its coupon."""
    return {**code, "active": redeemable(call, code, call.now())}


declare_kind(Kind("promotion_code", missing_param="promotion_code", noun="promotion code", wire=_wire))
retrieves("/v1/promotion_codes/{promotion_code}", "promotion_code")
declare_index("promotion_code", "_code")


@route("POST", "/v1/promotion_codes")
def create(call: Call) -> Obj:
    """POST /v1/promotion_codes: a code for a coupon, for all customers or for one."""
    params = call.params
    if not params["promotion"].get("coupon"):
        raise refuse("promotion_coupon")
    coupon = call.fetch("coupon", params["promotion"]["coupon"], param="promotion[coupon]", status=400)
    customer = connect.payer(call, params, status=400) or {"id": None}
    word = params.get("code") or "".join(_LETTERS[letter % len(_LETTERS)] for letter in call.mint("", 8).encode())
    if not _CODE.match(word):
        raise refuse("promotion_code_text", code=word)
    code: Obj = {
        **call.head("promotion_code", call.mint("promo_1", 23)),
        "active": params.get("active", True),
        "code": word,
        "customer": customer["id"],
        "customer_account": customer.get("customer_account"),
        "expires_at": _expiry(call, params.get("expires_at"), coupon),
        "max_redemptions": params.get("max_redemptions"),
        "metadata": call.metadata({}, params.get("metadata", {})),
        "promotion": {"coupon": coupon["id"], "type": "coupon"},
        "restrictions": _restrictions(params.get("restrictions") or {}),
        "times_redeemed": 0,
        # Stripe ignores the case of codes.
        "_code": word.lower(),
    }
    most = coupon["max_redemptions"]
    if most is not None and (code["max_redemptions"] or 0) > most:
        raise refuse("out_of_range", param="max_redemptions", rule=f"at most the coupon's {most}")
    if code["active"]:
        _refuse_taken(call, code)
    return call.add(code, "promotion_code.created")


def _expiry(call: Call, given: int | None, coupon: Obj) -> int | None:
    until: int | None = coupon["redeem_by"]
    if given is None:
        return until
    if given <= call.now():
        raise refuse("time_past", param="expires_at", value=given)
    if given > call.now() + _LONGEST:
        raise refuse("promotion_code_far")
    if until is not None and given > until:
        raise refuse("out_of_range", param="expires_at", rule=f"at most the coupon's redeem_by, {until}")
    return given


def _restrictions(given: Mapping[str, Any]) -> Obj:
    least, currency = given.get("minimum_amount"), given.get("minimum_amount_currency")
    for name, value, other in (("minimum_amount", least, currency), ("minimum_amount_currency", currency, least)):
        if value is None and (other is not None or given.get("currency_options")):
            raise refuse("missing", param=f"restrictions[{name}]")
    where = "restrictions[minimum_amount_currency]"
    restrictions: Obj = {
        "first_time_transaction": given.get("first_time_transaction", False),
        "minimum_amount": least,
        "minimum_amount_currency": None if currency is None else amounts.currency(currency, where),
    }
    if given.get("currency_options"):
        restrictions["currency_options"] = _options(given["currency_options"], currency)
    return restrictions


def _options(given: Mapping[str, Any], own: str | None) -> Obj:
    where = "restrictions[currency_options]"
    return {
        amounts.currency_key(name, where, own): {"minimum_amount": option.get("minimum_amount", 0)}
        for name, option in given.items()
    }


def _refuse_taken(call: Call, code: Obj) -> None:
    """The same text can be one active code for all customers, or one for each customer."""
    for other in call.store.query("promotion_code", {"_code": code["_code"]}):
        shared = None in (other["customer"], code["customer"]) or other["customer"] == code["customer"]
        if other["id"] != code["id"] and shared and redeemable(call, other, call.now()):
            raise refuse("promotion_code_taken", code=code["code"])


@route("GET", "/v1/promotion_codes")
def list_codes(call: Call) -> Obj:
    """GET /v1/promotion_codes, filtered by `active`, `code` (in either case), `coupon`, `customer` or its account."""
    params = call.params
    where: dict[str, Any] = {}
    if "code" in params:
        where["_code"] = params["code"].lower()
    if "coupon" in params:
        where["promotion.coupon"] = call.fetch("coupon", params["coupon"], param="coupon", status=400)["id"]
    customer = connect.payer(call, params, status=400)
    if customer is not None:
        where["customer"] = customer["id"]
    if "active" in params:
        found = call.store.query("promotion_code", where)
        where["id"] = [code["id"] for code in found if redeemable(call, code, call.now()) == params["active"]]
    return call.page("promotion_code", where)


@route("POST", "/v1/promotion_codes/{promotion_code}")
def update(call: Call) -> Obj:
    """POST /v1/promotion_codes/{promotion_code}: whether it is active, metadata, minimum amounts in more currencies."""
    code = call.fetch("promotion_code", call.args["promotion_code"])
    old = dict(code)
    params = call.params
    if "active" in params:
        code["active"] = params["active"]
        if params["active"]:
            if not redeemable(call, code, call.now()):
                raise refuse("promotion_code_over")
            _refuse_taken(call, code)
    call.set_metadata(code)
    if (params.get("restrictions") or {}).get("currency_options"):
        if code["restrictions"]["minimum_amount"] is None:
            raise refuse("missing", param="restrictions[minimum_amount]")
        options = {
            **code["restrictions"].get("currency_options", {}),
            **_options(params["restrictions"]["currency_options"], code["restrictions"]["minimum_amount_currency"]),
        }
        code["restrictions"] = {**code["restrictions"], "currency_options": options}
    return call.save(code, old, "promotion_code.updated")
