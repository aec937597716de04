"""Proration: the share of an amount that falls on part of a period, to the second."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from sandbox.billing.money import EXACT, to_minor_units


@dataclass(frozen=True)
class Debit:
    """An amount that was charged for `start` to `end`, which a later change may credit in part."""

    amount: int
    start: int
    end: int
    quantity: int | None
    price: str


def share(amount: int | Decimal, part: int, whole: int) -> int:
    """`amount` times `part` seconds of `whole`, rounded to the whole minor unit."""
    if whole <= 0:
        return 0
    return to_minor_units(EXACT.divide(EXACT.multiply(Decimal(amount), Decimal(part)), Decimal(whole)))


def credit(debit: Debit, at: int) -> int:
    """What a debit gives back for the time after `at`: 0 or less."""
    if at >= debit.end:
        return 0
    unused = debit.end - max(at, debit.start)
    return -share(debit.amount, unused, debit.end - debit.start)
