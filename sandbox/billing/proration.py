"""Proration: the share of an amount that falls on part of a period, to the second."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import ROUND_CEILING, Decimal

from sandbox.billing.money import EXACT


@dataclass(frozen=True)
class Debit:
    """A charge for `start` to `end`, which a later change may credit in part.

    `amount` is net of discounts; `off` has each one's deduction, by id. The debit is the pending invoice item `item`,
    or the lines `lines` of the invoice `invoice`.
    """

    amount: int
    start: int
    end: int
    quantity: int | None
    price: str
    off: dict[str, int] = field(default_factory=dict)
    item: str | None = None
    invoice: str | None = None
    lines: list[str] = field(default_factory=list)


def share(amount: int | Decimal, part: int, whole: int) -> int:
    """`amount` times `part` seconds of `whole`, rounded to the nearest minor unit, a half to the lower one.

    Recorded on 2026-08-26.dahlia (Kiln-AI/stripe_world, cassette 01): 4.5 becomes 4, 7.5 becomes 7, -2.5 becomes -3,
    -666.67 becomes -667 and 333.33 becomes 333, each line separately. Rounding every fraction down would fit these
    too, but not Stripe's own older sample, in which -166.35 becomes -166.
    """
    if whole <= 0:
        return 0
    exact = EXACT.divide(EXACT.multiply(Decimal(amount), Decimal(part)), Decimal(whole))
    return int(EXACT.subtract(exact, Decimal("0.5")).to_integral_value(rounding=ROUND_CEILING))


def credit(debit: Debit, at: int) -> int:
    """The credit from a debit for the time after `at`: 0 or less."""
    if at >= debit.end:
        return 0
    unused = debit.end - max(at, debit.start)
    return share(-debit.amount, unused, debit.end - debit.start)


def credited_off(debit: Debit, at: int) -> dict[str, int]:
    """The shares of a debit's discounts in its credit for the time after `at`: 0 or less each."""
    if at >= debit.end:
        return {}
    unused = debit.end - max(at, debit.start)
    return {id: share(-amount, unused, debit.end - debit.start) for id, amount in debit.off.items()}
