"""Discounts of a subscription or an item: how Stripe has them, and what to send to change them. Pure.

A used-up discount disappears by itself. Sending it again would grant it a second time.
"""

from __future__ import annotations

import calendar
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from components.providers.values import MISSING, Inputs, id_of

UsedUp = Callable[[Inputs], bool]
"""Whether a declared discount that Stripe no longer has was used up rather than removed by somebody."""


def is_assumed(declared: Inputs) -> bool:
    """Assume that a missing discount was used up."""
    return True


def as_declared(remote: Mapping[str, Any]) -> Inputs:
    """A discount in Stripe, in the form that a program declares."""
    if remote.get("promotion_code"):
        return {"promotion_code": id_of(remote["promotion_code"])}
    return {"coupon": id_of((remote.get("source") or {}).get("coupon") or remote.get("coupon"))}


def projection(declared: Any, remote: Any, used_up: UsedUp) -> Any:
    """The declared discounts that are still there or used up, then those that somebody else added."""
    wanted = list(declared) if isinstance(declared, list) else []
    there = list(remote) if isinstance(remote, list) else []
    if any(isinstance(each, str) for each in there):
        # Bare ids do not tell which coupon they came from; the first ones are the declared ones.
        result = [*wanted, *({"discount": each} for each in there[len(wanted) :])]
    else:
        kept = [each for each in wanted if any(_is_one(each, other) for other in there) or used_up(each)]
        result = [*kept, *(as_declared(each) for each in there if not any(_is_one(other, each) for other in wanted))]
    return result or ([] if declared == [] else MISSING)


def changes(old: list[Any], new: list[Any], remote: list[Any]) -> list[Any]:
    """The complete list to send to change the discounts from `old` to `new`.

    Discounts that Stripe has are sent by id. One that the program does not change and Stripe no longer has is not sent.
    One that neither list names stays: somebody else added it, and no refresh has shown it yet.
    """
    sent: list[Any] = []
    for each in new:
        held = _held(each, old, remote)
        if held is not None:
            sent.append({"discount": held})
        elif each not in old or "discount" in each:
            sent.append(each)
    named = [*old, *new]
    if all(isinstance(each, Mapping) for each in remote):
        sent += [{"discount": id_of(each)} for each in remote if not any(_is_one(other, each) for other in named)]
    return sent


def is_over(coupon: Mapping[str, Any], starts: Iterable[int], since: int, period_end: int) -> bool:
    """Whether a coupon is used up, as far as the invoices show.

    Args:
        coupon: as Stripe has it.
        starts: the start of the discount on each invoice that it reduced (UTC seconds).
        since: when the subscription began.
        period_end: when the current period ends; a repeating coupon that ends before then counts as used up.
    """
    reduced = list(starts)
    match coupon.get("duration"):
        case "once":
            return bool(reduced)
        case "repeating":
            months = int(coupon.get("duration_in_months") or 0)
            return _months_later(max(reduced, default=since), months) < period_end
    return False


def _is_one(declared: Any, remote: Mapping[str, Any]) -> bool:
    """Whether a declared discount is this one in Stripe."""
    return declared in (as_declared(remote), {"discount": remote.get("id")})


def _held(declared: Inputs, old: list[Any], remote: list[Any]) -> str | None:
    """Stripe's id of a declared discount, if it has one."""
    for each in remote:
        if isinstance(each, Mapping) and _is_one(declared, each):
            return str(each["id"])
    ids = [each for each in remote if isinstance(each, str)]
    position = old.index(declared) if declared in old and "discount" not in declared else len(ids)
    return ids[position] if len(ids) == len(remote) and position < len(ids) else None


def _months_later(moment: int, months: int) -> int:
    begun = datetime.fromtimestamp(moment, UTC)
    year, month = divmod(begun.year * 12 + begun.month - 1 + months, 12)
    day = min(begun.day, calendar.monthrange(year, month + 1)[1])
    return int(begun.replace(year=year, month=month + 1, day=day).timestamp())
