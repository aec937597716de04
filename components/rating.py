"""The bill of a plan for seats and usage, line by line as Stripe bills it. Pure and exact.

Stripe rounds each line to whole minor units, halves away from zero. It writes a line for each tier that is reached (the
first always), and one for each flat amount.
https://docs.stripe.com/products-prices/pricing-models, https://docs.stripe.com/billing/subscriptions/decimal-amounts
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_UP, Decimal
from typing import Final

import money
from components.pricing import EXACT, Band, Fee, Interval, Plan, Rate


@dataclass(frozen=True)
class Line:
    """One line of a bill.

    Attributes:
        key: the charge's.
        quantity: seats or units; 0 for a flat amount.
        unit_amount: minor units for each, or the flat amount.
        amount: whole minor units.
        tier: from 1; None for a price without tiers.
        flat: whether it is the flat amount of its tier.
    """

    key: str
    quantity: Decimal
    unit_amount: Decimal
    amount: int
    tier: int | None = None
    flat: bool = False


@dataclass(frozen=True)
class Bill:
    """What falls due together, in one currency; amounts in minor units."""

    currency: str
    interval: Interval
    interval_count: int
    lines: tuple[Line, ...]

    @property
    def total(self) -> int:
        return sum(line.amount for line in self.lines)


def bills(
    plan: Plan, *, seats: int = 1, usage: Mapping[str, Decimal | int] | None = None, currency: str | None = None
) -> tuple[Bill, ...]:
    """What a subscriber pays: a bill for each billing interval of the plan, the shortest first.

    Args:
        seats: quantity of the fees that are per seat.
        usage: units by the charge's key, summed over its interval; by default 0.
        currency: one of the plan's; by default its first.

    Raises:
        ValueError: the plan has no such charge or currency.
    """
    code = currency or plan.currencies[0]
    if code not in plan.currencies:
        raise ValueError(f"{plan.name} is not sold in {code}; it is in {', '.join(plan.currencies)}")
    used = dict(usage or {})
    unknown = used.keys() - {charge.key for charge in plan.usage}
    if unknown:
        known = ", ".join(charge.key for charge in plan.usage) or "none"
        raise ValueError(f"{plan.name} has no usage {', '.join(sorted(unknown))}; it has {known}")
    quantities = {
        charge.key: (seats if charge.per == "seat" else 1) if isinstance(charge, Fee) else used.get(charge.key, 0)
        for charge in plan.charges
    }
    return bills_of(plan, quantities, code)


def bills_of(plan: Plan, quantities: Mapping[str, Decimal | int], currency: str) -> tuple[Bill, ...]:
    """The same for a quantity of each charge, seats or units by its key; a charge without one is not billed."""
    by_interval: dict[tuple[Interval, int], list[Line]] = {}
    for charge in plan.charges:
        if charge.key in quantities:
            lines = by_interval.setdefault((charge.interval, charge.interval_count), [])
            lines.extend(rate_lines(charge.key, plan.rate(charge, currency), quantities[charge.key]))
    return tuple(
        Bill(currency, interval, count, tuple(lines))
        for (interval, count), lines in sorted(by_interval.items(), key=_length)
    )


def rate_lines(key: str, rate: Rate, quantity: Decimal | int) -> Iterator[Line]:
    """The lines of one charge; usage corrected to below zero counts as 0."""
    units = max(Decimal(quantity), Decimal(0))
    match rate.mode:
        case "per_unit":
            each = rate.bands[0].unit_amount
            yield Line(key, units, each, _whole(EXACT.multiply(packages(rate, units), each)))
        case "volume":
            number = next(
                number for number, band in enumerate(rate.bands, start=1) if band.up_to is None or units <= band.up_to
            )
            yield from _band_lines(key, number, rate.bands[number - 1], units)
        case "graduated":
            below = Decimal(0)
            for number, band in enumerate(rate.bands, start=1):
                upper = units if band.up_to is None else min(units, Decimal(band.up_to))
                if number == 1 or upper > below:
                    yield from _band_lines(key, number, band, upper - below)
                below = max(below, upper)


def packages(rate: Rate, units: Decimal) -> Decimal:
    """How often the amount of a price without tiers is charged."""
    if rate.round is None:
        return units
    rounding = ROUND_CEILING if rate.round == "up" else ROUND_FLOOR
    return EXACT.divide(units, Decimal(rate.divide_by)).to_integral_value(rounding=rounding)


def _band_lines(key: str, number: int, band: Band, units: Decimal) -> Iterator[Line]:
    yield Line(key, units, band.unit_amount, _whole(EXACT.multiply(units, band.unit_amount)), number)
    if band.flat_amount is not None:
        yield Line(key, Decimal(0), band.flat_amount, _whole(band.flat_amount), number, flat=True)


def _whole(amount: Decimal) -> int:
    return int(amount.quantize(Decimal(1), rounding=ROUND_HALF_UP, context=EXACT))


_DAYS: Final[Mapping[str, int]] = {"day": 1, "week": 7, "month": 30, "year": 365}


def _length(entry: tuple[tuple[Interval, int], list[Line]]) -> int:
    (interval, count), _ = entry
    return _DAYS[interval] * count


def text(bill: Bill, plan: Plan) -> list[tuple[str, str, str]]:
    """A bill as a person reads it: (what, quantity, amount) for each line."""
    rows = []
    for line in bill.lines:
        charge = plan.charge(line.key)
        per = "" if isinstance(charge, Fee) else f" {charge.unit if line.quantity == 1 else charge.units}"
        tier = "" if line.tier is None else f", tier {line.tier}" + (" flat" if line.flat else "")
        each = money.format_minor(line.unit_amount, bill.currency)
        rows.append(
            (f"{line.key}{tier} at {each}", f"{line.quantity:,}{per}", money.format_minor(line.amount, bill.currency))
        )
    return rows
