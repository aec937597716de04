"""Discounts: redeeming coupons and promotion codes on anything that can be discounted.

Subscriptions, their items, invoices, invoice items and the phases of schedules all take `discounts`, a list of coupons,
promotion codes and existing discounts. This module reads it for all of them.
https://docs.stripe.com/billing/subscriptions/coupons
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from . import coupons, promotion_codes
from .billing import discounts
from .errors import StripeError, refuse
from .router import Call, Kind, declare_kind
from .wire import Obj

MOST: Final = 20
_FORMS: Final = ("coupon", "discount", "promotion_code")
#: The fields of a discount that name its target.
_ON: Final = ("invoice", "invoice_item", "subscription", "subscription_item")

declare_kind(Kind("discount", missing_param="discount"))


@dataclass(frozen=True)
class Target:
    """The target of discounts, and when they begin."""

    customer: str
    currency: str
    now: int
    #: The field and id that a discount names: `{"subscription": "sub_1"}`.
    on: Mapping[str, str]
    #: Its own discounts, and those of the object it belongs to: both can be named by id.
    present: Sequence[str] = ()
    inherited: Sequence[str] = ()
    #: Whether promotion codes with a minimum amount can be redeemed; `check_minimum` then looks at the amount.
    minimums: bool = False
    #: When redeemed discounts begin, if not `now`: at the start of a backdated subscription.
    begins: int | None = None

    @classmethod
    def of(cls, holder: Obj, name: str, now: int, **more: Any) -> Target:
        """An object with a customer and a currency, which discounts name in the field `name`."""
        on = {name: holder["id"]}
        return cls(holder["customer"], holder["currency"], now, on, present=holder["discounts"], **more)


def replace(call: Call, target: Target, given: Any, where: str) -> list[str]:
    """The ids of the discounts that a list of `discounts` names, after redeeming the new ones.

    A coupon or promotion code that is already redeemed keeps its discount. "" and None mean none.
    """
    kept: list[str] = []
    for _, found in _read(call, target, given, (), where):
        assert found is not None, "nothing was planned"
        kept.append(_redeem(call, target, found) if found.id is None else found.id)
    return kept


def plan(call: Call, target: Target, given: Any, already: Sequence[Obj], where: str) -> list[Obj]:
    """A list of `discounts` as a schedule's phase keeps it until the phase begins and `begin` redeems it.

    Refuses what could not be redeemed now, except what was `already` planned.
    """
    return [planned for planned, _ in _read(call, target, given, already, where)]


def _read(
    call: Call, target: Target, given: Any, already: Sequence[Obj], where: str
) -> Iterator[tuple[Obj, _Found | None]]:
    """Each entry of a list of `discounts` as a phase keeps it, and its discount or coupon unless it was `already`
    planned; refuses a coupon that appears twice."""
    entries: Sequence[Mapping[str, Any]] = given or ()
    if len(entries) > MOST:
        raise refuse("too_many_discounts", param=where, count=len(entries))
    seen: set[str] = set()
    for index, entry in enumerate(entries):
        form = _form(entry, f"{where}[{index}]")
        planned = {name: entry[form] if name == form else None for name in _FORMS}
        found = None
        if planned not in already:
            found = _found(call, target, form, entry[form], f"{where}[{index}][{form}]")
            if found.coupon in seen:
                raise refuse("discount_twice", param=where, coupon=found.coupon)
            seen.add(found.coupon)
        yield planned, found


def begin(call: Call, target: Target, planned: Sequence[Obj], before: Sequence[Obj] = ()) -> list[Obj]:
    """The phase's discounts that can be redeemed when it begins, as parameters of `replace`.

    A coupon that has expired or run out since it was planned is omitted: the phase begins without it. A discount that
    applied `before` and is gone has been used up, and is not granted again.
    """
    possible = []
    for entry in planned:
        [(form, id)] = [(name, entry[name]) for name in _FORMS if entry[name]]
        try:
            found = _found(call, target, form, id, form)
        except StripeError:
            continue
        if found.id is not None or entry not in before:
            possible.append({form: id})
    return possible


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


@dataclass(frozen=True)
class _Found:
    """What an entry names: an existing discount, or a coupon (maybe by a code) that can be redeemed."""

    coupon: str
    id: str | None = None
    code: str | None = None


def _found(call: Call, target: Target, form: str, id: str, where: str) -> _Found:
    """What an entry names; refuses an unknown one, and one that cannot be redeemed here and now."""
    if form == "discount":
        if id not in {*target.present, *target.inherited}:
            raise refuse("no_such", kind="discount", id=id, param=where)
        return _Found(_stored(call, id)["source"]["coupon"], id)
    code = None
    if form == "promotion_code":
        code = call.fetch("promotion_code", id, param=where, status=400)
    word = str(id if code is None else code["promotion"]["coupon"])
    code_id = None if code is None else str(code["id"])
    for present in target.present:
        held = call.store.get("discount", present)
        if held is not None and (held["source"]["coupon"], held["promotion_code"]) == (word, code_id):
            return _Found(word, present, code_id)
    if code is not None:
        _check_code(call, target, code, where)
    coupon = call.fetch("coupon", word, param=where, status=400)
    if not coupons.redeemable(coupon, target.now):
        raise refuse("coupon_expired", param=where, coupon=word)
    if coupon["amount_off"] is not None:
        currencies = {coupon["currency"], *(coupon.get("currency_options") or {})}
        if target.currency not in currencies:
            raise refuse("coupon_other_currency", param=where, coupon=word, currency=target.currency)
    return _Found(word, None, code_id)


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


def _redeem(call: Call, target: Target, found: _Found) -> str:
    coupon = call.fetch("coupon", found.coupon)
    begins = target.now if target.begins is None else target.begins
    discount: Obj = {
        "id": call.mint("di_1", 23),
        "object": "discount",
        "checkout_session": None,
        "customer": target.customer,
        "customer_account": call.fetch("customer", target.customer).get("customer_account"),
        "end": discounts.end_of(coupon, begins),
        "promotion_code": found.code,
        "source": {"type": "coupon", "coupon": coupon["id"]},
        "start": begins,
        **{name: target.on.get(name) for name in _ON},
        # The discount keeps the coupon's terms, whatever happens to the coupon.
        "_coupon": coupon,
    }
    call.store.put(discount)
    coupon["times_redeemed"] += 1
    call.store.put(coupon)
    if found.code is not None:
        code = call.fetch("promotion_code", found.code)
        code["times_redeemed"] += 1
        call.store.put(code)
    return str(discount["id"])


def active(call: Call, ids: Sequence[str], at: int) -> list[Obj]:
    """The discounts that still apply at a moment, each as its `id` and its `coupon` as redeemed."""
    found = []
    for id in ids:
        discount = call.store.get("discount", id)
        if discount is not None and (discount["end"] is None or at < discount["end"]):
            found.append({"id": id, "coupon": discount["_coupon"]})
    return found


def expire(call: Call, ids: list[str], used: set[str], at: int) -> list[str]:
    """The discounts left after an invoice: without those for `once` that it used, and without expired ones."""
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
