"""Billing in advance: the `billing_schedules` of a subscription. `billing/cycle.py` bills them.

https://docs.stripe.com/billing/subscriptions/prebilling
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from . import redemption, terms
from .billing import cycle
from .billing.cycle import Contract
from .billing.lines import is_metered
from .billing.periods import Anchor, Interval
from .errors import refuse, within
from .router import Call
from .wire import Obj

#: https://docs.stripe.com/billing/subscriptions/prebilling
MOST_CYCLES_AHEAD: Final = 50
LONGEST_AHEAD: Final = {"day": 1826, "week": 260, "month": 60, "year": 5}


def plan(call: Call, contract: Contract, params: Mapping[str, Any], now: int, prefix: str = "") -> None:
    """`billing_schedules`: which items are billed in advance, and until when; the result is an item's `_bill_until`.

    The rules are from https://docs.stripe.com/billing/subscriptions/prebilling. The list is replaced as a whole; an
    entry with a known `key` may omit its `bill_until`.
    """
    subscription, where = contract.subscription, within(prefix, "billing_schedules")
    given = params["billing_schedules"] or ()
    if given:
        _check(contract, params, where)
        check_coupons(call, subscription, now, where)
    present = {entry["key"]: entry for entry in subscription["billing_schedules"]}
    subscription["billing_schedules"] = []
    covered: set[str] = set()
    cycles = 0
    for index, entry in enumerate(given):
        named = f"{where}[{index}]"
        key = entry.get("key") or call.mint("", 24)
        if not (key.isascii() and key.isalnum()):
            raise refuse("prebill", param=f"{named}[key]", rule="a key is made of letters and digits")
        if any(other["key"] == key for other in subscription["billing_schedules"]):
            raise refuse("prebill", param=f"{named}[key]", rule="a key can be used once")
        if not entry.get("bill_until") and key not in present:
            raise refuse("missing", param=f"{named}[bill_until]")
        until = _bill_until(entry["bill_until"], now, named) if entry.get("bill_until") else present[key]["bill_until"]
        applies_to = entry.get("applies_to") or (
            None if "applies_to" in entry else present.get(key, {}).get("applies_to")
        )
        end = until["computed_timestamp"]
        if not now < end <= Anchor(now).boundary(Interval("year", 5), 1):
            raise refuse("prebill", param=f"{named}[bill_until]", rule="it must end within the next five years")
        for item in _items(contract, applies_to, end, named):
            if item["id"] in covered:
                raise refuse("prebill", param=named, rule=f"the price {item['price']} has a schedule already")
            covered.add(item["id"])
            item["_bill_until"] = end
            cycles += 1 + len(cycle.spans_ahead(contract, {**item, "billed_until": None}, end))
        subscription["billing_schedules"].append({"applies_to": applies_to, "bill_until": until, "key": key})
    if cycles > MOST_CYCLES_AHEAD:
        raise refuse("prebill", param=where, rule=f"at most {MOST_CYCLES_AHEAD} periods of all items together")


def _check(contract: Contract, params: Mapping[str, Any], where: str) -> None:
    subscription = contract.subscription
    if not contract.flexible:
        raise refuse("prebill", param=where, rule="it needs billing_mode flexible")
    if subscription["schedule"]:
        raise refuse("prebill", param=where, rule="a subscription of a schedule cannot be billed in advance")
    if params.get("proration_behavior") == "none":
        raise refuse("prebill", param="proration_behavior", rule="it needs prorations")
    if contract.trialing:
        raise refuse("not_implemented_param", param=f"{where} in a trial")


def check_coupons(call: Call, subscription: Obj, now: int, where: str) -> None:
    """Stripe bills in advance only with percentage discounts for once or forever."""
    for coupon in _coupons(call, subscription, now):
        if coupon["percent_off"] is None or coupon["duration"] == "repeating":
            raise refuse("prebill", param=where, rule="only coupons of percent_off, once or forever, go with it")


def used_up_once(call: Call, subscription: Obj, now: int) -> bool:
    return any(coupon["duration"] == "once" for coupon in _coupons(call, subscription, now))


def _coupons(call: Call, subscription: Obj, now: int) -> list[Obj]:
    held = [subscription["discounts"], *(item["discounts"] for item in subscription["items"]["data"])]
    return [discount["coupon"] for discount in redemption.active(call, [id for ids in held for id in ids], now)]


def _bill_until(given: Mapping[str, Any], now: int, where: str) -> Obj:
    kind = given["type"]
    if given.get(kind) is None:
        raise refuse("missing", param=f"{where}[bill_until][{kind}]")
    if kind == "timestamp":
        end = terms.in_range(given["timestamp"], f"{where}[bill_until][timestamp]")
        return {"computed_timestamp": end, "duration": None, "timestamp": end, "type": kind}
    every = terms.duration(given["duration"], LONGEST_AHEAD, f"{where}[bill_until][duration]")
    end = Anchor(now).boundary(Interval.of(every), 1)
    return {"computed_timestamp": end, "duration": every, "timestamp": None, "type": kind}


def _items(contract: Contract, applies_to: Sequence[Mapping[str, Any]] | None, end: int, where: str) -> list[Obj]:
    """The items of a billing schedule: the named ones, else every licensed one whose period ends by then."""
    licensed = [item for item in contract.items if not is_metered(contract.price(item))]
    if not applies_to:
        found = [item for item in licensed if item["current_period_end"] <= end]
        if not found:
            raise refuse("prebill", param=f"{where}[bill_until]", rule="no licensed item's period ends by then")
        return found
    found = []
    for index, entry in enumerate(applies_to):
        named = f"{where}[applies_to][{index}][price]"
        if not entry.get("price"):
            raise refuse("missing", param=named)
        item = next((item for item in licensed if item["price"] == entry["price"]), None)
        if item is None:
            raise refuse("prebill", param=named, rule=f"no licensed item has the price {entry['price']}")
        if item["current_period_end"] > end:
            raise refuse("prebill", param=f"{where}[bill_until]", rule="it must not end before an item's period")
        found.append(item)
    return found


def check_end(subscription: Obj, where: str) -> None:
    """Refuse billing in advance for the time after a planned end."""
    cancel_at = subscription["cancel_at"]
    for item in subscription["items"]["data"]:
        if cancel_at is not None and (item.get("_bill_until") or 0) > cancel_at:
            raise refuse("prebill", param=where, rule="it must not end after the subscription")
