"""Discounts: what coupons deduct from an invoice's lines, to the minor unit, and from prorated fees.

Line item discounts apply before invoice discounts (https://docs.stripe.com/api/invoices/object), each list in
order: a percentage applies to what the earlier discounts have left, and an amount is at most that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from sandbox.billing.money import EXACT, split, to_minor_units
from sandbox.billing.periods import Anchor, Interval
from sandbox.wire import Obj

Discount = Mapping[str, Any]
"""`id` and `coupon`."""


@dataclass(frozen=True)
class Part:
    """A target of discounts: an amount in minor units, its product, its own discounts."""

    amount: Decimal
    product: str | None
    own: Sequence[Discount] = ()
    #: The ids of the invoice's discounts that apply to it; None for all.
    under: frozenset[str] | None = None


def apply(lines: Sequence[Obj], whole: Sequence[Discount], currency: str) -> None:
    """Set every line's `discount_amounts`: from its own discounts (`_discounts`), then from the `whole` invoice's.

    Credit lines and lines that are not `discountable` get none; prorations keep the discounts from their creation
    (`_prorated`).
    """
    parts = [
        Part(
            Decimal(max(line["amount"], 0) if line["discountable"] else 0),
            line["pricing"]["price_details"]["product"] if line["pricing"] is not None else None,
            line.get("_discounts", ()),
            frozenset(line["_under"]) if "_under" in line else None,
        )
        for line in lines
    ]
    for line, taken in zip(lines, _take(parts, whole, currency, whole_units=True), strict=True):
        line["discount_amounts"] = [
            *line.get("_prorated", ()),
            *({"amount": int(amount), "discount": id} for id, amount in taken.items()),
        ]


def reductions(parts: Sequence[Part], whole: Sequence[Discount], currency: str) -> list[dict[str, Decimal]]:
    """What discounts deduct from fees of the same periods, exactly: by discount, for each part."""
    return _take(parts, whole, currency, whole_units=False)


def _take(
    parts: Sequence[Part], whole: Sequence[Discount], currency: str, *, whole_units: bool
) -> list[dict[str, Decimal]]:
    """The deductions of each discount, for each part.

    A discount of several parts, or of a part and the invoice, counts as one: its amount is spent once, and it reduces
    no part twice.
    """
    left = [part.amount for part in parts]
    taken: list[dict[str, Decimal]] = [{} for _ in parts]
    spent: dict[str, Decimal] = {}
    own = {discount["id"]: discount for part in parts for discount in part.own}
    rounds = [*((discount, True) for discount in own.values()), *((discount, False) for discount in whole)]
    for discount, of_its_own in rounds:
        id = discount["id"]
        weights = [
            rest if _meets(part, discount, of_its_own=of_its_own) else Decimal(0)
            for part, rest in zip(parts, left, strict=True)
        ]
        coupon = discount["coupon"]
        amount = _off(coupon, sum(weights, Decimal(0)), currency, spent.get(id, Decimal(0)))
        spent[id] = spent.get(id, Decimal(0)) + amount
        if whole_units:
            whole_amount = to_minor_units(amount)
            shares = [Decimal(share) for share in split(whole_amount, [int(weight) for weight in weights])]
        else:
            shares = _shares(amount, weights)
        for index, share in enumerate(shares):
            if weights[index]:
                left[index] -= share
                taken[index][id] = share
    return taken


def _meets(part: Part, discount: Discount, *, of_its_own: bool) -> bool:
    if any(each["id"] == discount["id"] for each in part.own) != of_its_own:
        return False
    here = of_its_own or part.under is None or discount["id"] in part.under
    return here and covers(discount["coupon"], part)


def _off(coupon: Mapping[str, Any], base: Decimal, currency: str, spent: Decimal) -> Decimal:
    if coupon["percent_off"] is not None:
        return EXACT.multiply(base, percent(coupon) / 100)
    amount = coupon["amount_off"]
    if coupon["currency"] != currency:
        amount = (coupon.get("currency_options") or {}).get(currency, {}).get("amount_off", 0)
    return min(base, max(Decimal(amount) - spent, Decimal(0)))


def _shares(amount: Decimal, weights: Sequence[Decimal]) -> list[Decimal]:
    whole = sum(weights, Decimal(0))
    if not whole:
        return [Decimal(0) for _ in weights]
    return [EXACT.divide(EXACT.multiply(amount, weight), whole) for weight in weights]


def covers(coupon: Mapping[str, Any], part: Part) -> bool:
    """Whether a coupon is for a part's product: `applies_to` names those it is for, none meaning all."""
    products = (coupon.get("applies_to") or {}).get("products") or ()
    return not products or part.product in products


def percent(coupon: Mapping[str, Any]) -> Decimal:
    """`percent_off` as the requested decimal."""
    return Decimal(str(coupon["percent_off"]))


def end_of(coupon: Mapping[str, Any], start: int) -> int | None:
    """When a discount that begins at `start` stops applying; None for `once` (used up, not timed) and `forever`."""
    if coupon["duration"] != "repeating":
        return None
    return Anchor(start).boundary(Interval("month", coupon["duration_in_months"]), 1)
