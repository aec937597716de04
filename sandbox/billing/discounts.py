"""Discounts: what coupons take off an invoice's lines, to the last minor unit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from sandbox.billing.money import EXACT, split, to_minor_units
from sandbox.billing.periods import Anchor, Interval

Obj = dict[str, Any]


def apply(lines: Sequence[Obj], discounts: Sequence[Mapping[str, Any]], currency: str) -> None:
    """Set every line's `discount_amounts`. `discounts` are (`id`, `coupon`) in the order they apply.

    A percentage is taken of what the discounts before it have left, an amount at most of that; either is shared out
    over the lines in proportion. Lines that give money back, and those not `discountable`, are left alone.
    """
    left = [line["amount"] if line["discountable"] and line["amount"] > 0 else 0 for line in lines]
    for line in lines:
        line["discount_amounts"] = []
    for discount in discounts:
        coupon = discount["coupon"]
        weights = [rest if _covers(coupon, line) else 0 for rest, line in zip(left, lines, strict=True)]
        for index, off in enumerate(split(_off(coupon, sum(weights), currency), weights)):
            if weights[index]:
                left[index] -= off
                lines[index]["discount_amounts"].append({"amount": off, "discount": discount["id"]})


def _off(coupon: Mapping[str, Any], base: int, currency: str) -> int:
    if coupon["percent_off"] is not None:
        return to_minor_units(EXACT.multiply(Decimal(base), percent(coupon) / 100))
    amount = coupon["amount_off"]
    if coupon["currency"] != currency:
        amount = (coupon.get("currency_options") or {}).get(currency, {}).get("amount_off", 0)
    return min(base, int(amount))


def _covers(coupon: Mapping[str, Any], line: Obj) -> bool:
    products = (coupon.get("applies_to") or {}).get("products") or ()
    return not products or (line["pricing"] is not None and line["pricing"]["price_details"]["product"] in products)


def percent(coupon: Mapping[str, Any]) -> Decimal:
    """`percent_off` as the decimal that was asked for."""
    return Decimal(str(coupon["percent_off"]))


def end_of(coupon: Mapping[str, Any], start: int) -> int | None:
    """When a discount that begins at `start` stops to apply; None for `once` (used up, not timed) and `forever`."""
    if coupon["duration"] != "repeating":
        return None
    return Anchor(start).boundary(Interval("month", coupon["duration_in_months"]), 1)


def kept(coupons: Sequence[Mapping[str, Any]]) -> Decimal | None:
    """The share of a fee that percentages leave, for prorations; None where an amount or a product limit is in play."""
    share = Decimal(1)
    for coupon in coupons:
        if coupon["percent_off"] is None or (coupon.get("applies_to") or {}).get("products"):
            return None
        share = EXACT.multiply(share, 1 - percent(coupon) / 100)
    return share
