"""Discounts: what redeeming a coupon or a promotion code makes, on whatever can be discounted.

Subscriptions, their items, invoices, invoice items and the phases of schedules all take `discounts` as a list of
coupons, promotion codes and discounts that are there already; all read it here.
https://docs.stripe.com/billing/subscriptions/coupons
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from . import coupons, promotion_codes, spec
from .billing import discounts
from .errors import refuse
from .router import Call, Kind, declare_kind
from .store import Obj

MOST: Final = 20
_FORMS: Final = ("coupon", "discount", "promotion_code")
#: What a discount names as the thing it is on.
_ON: Final = ("invoice", "invoice_item", "subscription", "subscription_item")

declare_kind(Kind("discount", missing_param="discount"))
spec.declare_reference("discount", "customer", "customer")
spec.declare_reference("discount", "promotion_code", "promotion_code")
for _holder in ("invoice", "invoiceitem", "line_item", "subscription", "subscription_item"):
    spec.declare_reference(_holder, "discounts", "discount")


@dataclass(frozen=True)
class Target:
    """What discounts are put on, and when."""

    customer: str
    currency: str
    now: int
    #: The field and id that a discount names: `{"subscription": "sub_1"}`.
    on: Mapping[str, str]
    #: The discounts that are on it, and those of what it belongs to: both can be named by their id.
    present: Sequence[str] = ()
    inherited: Sequence[str] = ()
    #: Whether promotion codes with a minimum amount can be redeemed; `check_minimum` then looks at the amount.
    minimums: bool = False


def replace(call: Call, target: Target, given: Any, where: str) -> list[str]:
    """The ids of the discounts that a list of `discounts` asks for, those that are new redeemed.

    A coupon or promotion code that is there already keeps its discount. "" and None ask for none.
    """
    entries: Sequence[Mapping[str, Any]] = given or ()
    if len(entries) > MOST:
        raise refuse("too_many_discounts", param=where, count=len(entries))
    kept: list[str] = []
    seen: set[str] = set()
    for index, entry in enumerate(entries):
        named = f"{where}[{index}]"
        form = _form(entry, named)
        id = _discount(call, target, form, entry[form], f"{named}[{form}]")
        coupon = _stored(call, id)["source"]["coupon"]
        if coupon in seen:
            raise refuse("discount_twice", param=where, coupon=coupon)
        seen.add(coupon)
        kept.append(id)
    return kept


def check(call: Call, given: Any, where: str) -> list[Obj]:
    """Entries of `discounts` as a phase keeps them until it begins: of the right form, and what they name there."""
    entries: Sequence[Mapping[str, Any]] = given or ()
    if len(entries) > MOST:
        raise refuse("too_many_discounts", param=where, count=len(entries))
    kept: list[Obj] = []
    for index, entry in enumerate(entries):
        form = _form(entry, f"{where}[{index}]")
        kind = "promotion_code" if form == "promotion_code" else form
        call.fetch(kind, entry[form], param=f"{where}[{index}][{form}]", status=400)
        kept.append({name: entry[form] if name == form else None for name in _FORMS})
    return kept


def _form(entry: Mapping[str, Any], where: str) -> str:
    forms = [name for name in _FORMS if entry.get(name)]
    if not forms:
        raise refuse("discount_form", param=where)
    if len(forms) > 1:
        raise refuse("only_one", param=f"{where}[{forms[1]}]", names=", ".join(forms))
    return forms[0]


def _stored(call: Call, id: str) -> Obj:
    found = call.store.get("discount", id)
    assert found is not None
    return found


def _discount(call: Call, target: Target, form: str, id: str, where: str) -> str:
    if form == "discount":
        if id not in {*target.present, *target.inherited}:
            raise refuse("no_such", kind="discount", id=id, param=where)
        return id
    code = None
    if form == "promotion_code":
        code = call.fetch("promotion_code", id, param=where, status=400)
    word = id if code is None else code["promotion"]["coupon"]
    for present in target.present:
        held = call.store.get("discount", present)
        if held is not None and (held["source"]["coupon"], held["promotion_code"]) == (word, code and code["id"]):
            return present
    if code is not None:
        _check_code(call, target, code, where)
    return _redeem(call, target, call.fetch("coupon", word, param=where, status=400), code, where)


def _check_code(call: Call, target: Target, code: Obj, where: str) -> None:
    if not promotion_codes.redeemable(call, code, target.now):
        raise refuse("promotion_code_inactive", param=where, code=code["code"])
    if code["customer"] not in (None, target.customer):
        raise refuse("promotion_code_customer", param=where, code=code["code"], customer=target.customer)
    restrictions = code["restrictions"]
    if restrictions["first_time_transaction"] and _bought_before(call, target.customer):
        raise refuse("promotion_code_not_first", param=where)
    if restrictions["minimum_amount"] is not None and not target.minimums:
        raise refuse("promotion_code_amounts", param=where, code=code["code"])


def _bought_before(call: Call, customer: str) -> bool:
    """Whether a customer has been billed or has had a subscription, a trial included."""
    billed = call.store.first("invoice", {"customer": customer, "status": ("open", "paid", "uncollectible")})
    return billed is not None or call.store.first("subscription", {"customer": customer}) is not None


def check_minimum(call: Call, ids: Sequence[str], currency: str, amount: int, where: str) -> None:
    """Refuse promotion codes whose minimum amount a first payment (minor units, before discounts) does not reach."""
    for index, id in enumerate(ids):
        discount = _stored(call, id)
        if discount["promotion_code"] is None:
            continue
        code = call.store.get("promotion_code", discount["promotion_code"])
        restrictions = {} if code is None else code["restrictions"]
        least = restrictions.get("minimum_amount")
        if least is None:
            continue
        if restrictions["minimum_amount_currency"] != currency:
            option = restrictions.get("currency_options", {}).get(currency)
            if option is None:
                raise refuse("promotion_code_minimum", param=f"{where}[{index}][promotion_code]")
            least = option["minimum_amount"]
        if amount < least:
            raise refuse("promotion_code_minimum", param=f"{where}[{index}][promotion_code]")


def _redeem(call: Call, target: Target, coupon: Obj, code: Obj | None, where: str) -> str:
    if not coupons.redeemable(coupon, target.now):
        raise refuse("coupon_expired", param=where, coupon=coupon["id"])
    if coupon["amount_off"] is not None:
        currencies = {coupon["currency"], *(coupon.get("currency_options") or {})}
        if target.currency not in currencies:
            raise refuse("coupon_other_currency", param=where, coupon=coupon["id"], currency=target.currency)
    discount: Obj = {
        "id": call.mint("di_1", 23),
        "object": "discount",
        "checkout_session": None,
        "created": target.now,
        "customer": target.customer,
        "customer_account": None,
        "end": discounts.end_of(coupon, target.now),
        "promotion_code": None if code is None else code["id"],
        "source": {"type": "coupon", "coupon": coupon["id"]},
        "start": target.now,
        **{name: target.on.get(name) for name in _ON},
        # What was promised stays, whatever happens to the coupon.
        "_coupon": coupon,
    }
    call.store.put(discount)
    coupon["times_redeemed"] += 1
    call.store.put(coupon)
    if code is not None:
        code["times_redeemed"] += 1
        call.store.put(code)
    return str(discount["id"])


def active(call: Call, ids: Sequence[str], at: int) -> list[Obj]:
    """The discounts that still apply at a moment: each its `id` and its `coupon` as it was redeemed."""
    found = []
    for id in ids:
        discount = call.store.get("discount", id)
        if discount is not None and (discount["end"] is None or at < discount["end"]):
            found.append({"id": id, "coupon": discount["_coupon"]})
    return found


def expire(call: Call, ids: list[str], used: set[str], at: int) -> list[str]:
    """What is left of discounts after an invoice: not those for `once` that it used, nor those that have run out."""
    left = []
    for id in ids:
        discount = _stored(call, id)
        once = discount["_coupon"]["duration"] == "once" and id in used
        if once or (discount["end"] is not None and discount["end"] <= at):
            discount["end"] = discount["end"] or at
            call.store.put(discount)
        else:
            left.append(id)
    return left
