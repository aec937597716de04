"""Finds what Stripe allows in a pricing model but nobody wants, with a counterexample in money. Pure and offline.

Every check is exact: a charge's cost is a piecewise linear function of usage (a step function for whole packages), and
a sum of such functions has its extremes where a piece begins or ends. The checks come from incidents: a bigger plan
cheaper than a smaller one, 20 units costing more than 21, prices off by a factor of 60 or 100 after a change of unit.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import ROUND_FLOOR, Context, Decimal
from itertools import combinations, permutations
from math import lcm
from typing import Final

import money
from components.pricing import EXACT, Fee, Plan, Rate, Usage
from components.rating import packages

#: A rate that changes by this factor between versions is taken for a wrong unit unless the program says otherwise.
SLIP: Final = 10
#: The largest ratio between the exchange rates that the amounts of a plan imply.
CURRENCY_SPREAD: Final = Decimal("1.5")
#: If two package sizes align less often than this, the usage above their tiers is not compared.
MOST_POINTS: Final = 20_000
MONTHS: Final[Mapping[str, Decimal]] = {
    "day": Decimal(12) / 365,
    "week": Decimal(12 * 7) / 365,
    "month": Decimal(1),
    "year": Decimal(12),
}


@dataclass(frozen=True)
class Finding:
    """Something that nobody wants.

    Attributes:
        name: acknowledges it in `program(meant=[...])`, such as `falls:pro@2:usage`.
        sentence: what is wrong, with the counterexample in money.
    """

    name: str
    sentence: str


def prove(
    plans: Mapping[str, Plan], *, before: Mapping[str, str] | None = None, offered: Collection[str] | None = None
) -> list[Finding]:
    """Everything found in plans that are offered together.

    Args:
        plans: by name, such as `pro@2`.
        before: for a plan that follows another of `plans`, the name of that one.
        offered: those that are compared with each other; by default those that none follows.
    """
    before = before or {}
    newest = [name for name in plans if name not in before.values()]
    on_offer = {name: plans[name] for name in (newest if offered is None else offered)}
    told = dict.fromkeys([*before, *on_offer])
    found = [f for name in told for f in (*falls(name, plans[name]), *currencies(name, plans[name]))]
    for name, old in before.items():
        found += [*slips(old, plans[old], name, plans[name]), *allowances(old, plans[old], name, plans[name])]
    for (one, first), (other, second) in permutations(on_offer.items(), 2):
        found += dominated(one, first, other, second)
        found += yearly(one, first, other, second)
    for (one, first), (other, second) in combinations(on_offer.items(), 2):
        found += allowances(one, first, other, second)
    return found


# -- one plan -------------------------------------------------------------------------------------------------------


def falls(name: str, plan: Plan) -> Iterator[Finding]:
    """A bill that falls as usage rises: a volume tier so cheap that its first unit lowers the whole bill."""
    for charge in plan.usage:
        for code in plan.currencies:
            rate = plan.rate(charge, code)
            if rate.mode != "volume":
                continue
            for band in rate.bands[:-1]:
                end = Decimal(band.up_to or 0)
                at, above = cost(rate, end), cost(rate, end + 1)
                if above < at:
                    yield Finding(
                        f"falls:{name}:{charge.key}",
                        f"{name}: {end:,} {charge.units} cost {money.format_minor(at, code)}, and one more costs "
                        f"{money.format_minor(above, code)}",
                    )


def currencies(name: str, plan: Plan) -> Iterator[Finding]:
    """Amounts of one plan that imply exchange rates far apart from each other."""
    base, *others = plan.currencies
    for code in others:
        implied = sorted(_implied(plan, base, code))
        if not implied:
            continue
        (low, low_at), (high, high_at) = implied[0], implied[-1]
        if high > low * CURRENCY_SPREAD:
            yield Finding(
                f"currencies:{name}:{code}",
                f"{name}: {low_at} counts 1 {base.upper()} as {_figures(low)} {code.upper()}, and {high_at} as "
                f"{_figures(high)}",
            )


def _implied(plan: Plan, base: str, code: str) -> Iterator[tuple[Decimal, str]]:
    for charge in plan.charges:
        for number, (one, other) in enumerate(
            zip(plan.rate(charge, base).bands, plan.rate(charge, code).bands, strict=True), start=1
        ):
            there, here = (money.major_units(band.unit_amount, at) for band, at in ((one, base), (other, code)))
            if there and here:
                where = charge.key if isinstance(charge, Fee) else f"{charge.key} (tier {number})"
                yield EXACT.divide(here, there), where


# -- two plans ------------------------------------------------------------------------------------------------------


def dominated(one: str, first: Plan, other: str, second: Plan) -> Iterator[Finding]:
    """A plan that costs at least as much as another at every number of seats and every usage, and more at some.

    Plans of fees alone are not compared: what sets them apart is not in the model.
    """
    meters = _by_meter(first), _by_meter(second)
    if not meters[0] or meters[0].keys() != meters[1].keys():
        return
    code = next((code for code in first.currencies if code in second.currencies), None)
    if code is None:
        return
    per_seat, flat = (_fees(first, code, per) - _fees(second, code, per) for per in ("seat", "subscription"))
    if per_seat < 0:
        return
    least = per_seat + flat
    excess = least
    at: dict[str, Decimal] = {}
    for a, b in ((meters[0][meter], meters[1][meter]) for meter in sorted(meters[0])):
        if (a.interval, a.interval_count) != (b.interval, b.interval_count):
            return
        extremes = _difference(first.rate(a, code), second.rate(b, code))
        if extremes is None:
            return
        (low, _), (high, high_at) = extremes
        months = MONTHS[a.interval] * a.interval_count
        least += low / months
        excess += high / months
        at[a.units] = high_at
    if least < 0 or excess <= 0:
        return
    usage = " and ".join(f"{units:,} {name}" for name, units in at.items()) or "any usage"
    yield Finding(
        f"dominated:{one}:{other}",
        f"{one} never costs less than {other}, whatever is used; with 1 seat and {usage} it costs "
        f"{money.format_minor(_rounded(excess), code)} more",
    )


def yearly(one: str, first: Plan, other: str, second: Plan) -> Iterator[Finding]:
    """A yearly fee above twelve monthly ones of the same charge."""
    for fee in first.fees:
        match = next((each for each in second.fees if each.key == fee.key and each.per == fee.per), None)
        if match is None or fee.interval != "year" or match.interval != "month":
            continue
        for code in first.currencies:
            if code not in second.currencies:
                continue
            year = first.rate(fee, code).bands[0].unit_amount / fee.interval_count
            month = second.rate(match, code).bands[0].unit_amount / match.interval_count
            if year > 12 * month > 0:
                yield Finding(
                    f"yearly:{one}:{other}:{fee.key}",
                    f"{one}: a year of {fee.key} costs {money.format_minor(year, code)}, and twelve months of {other} "
                    f"{money.format_minor(12 * month, code)}",
                )


def slips(old: str, was: Plan, new: str, now: Plan) -> Iterator[Finding]:
    """An amount that is ten times what it was, or a tenth: a slip of unit. One of each charge and currency."""
    for before, after in _same_charges(was, now):
        for code in was.currencies:
            if code not in now.currencies:
                continue
            x, y = (plan.rate(charge, code) for plan, charge in ((was, before), (now, after)))
            for where, a, b in _alike(x, y):
                if not (a and b) or max(a, b) < min(a, b) * SLIP:
                    continue
                factor = max(a, b) / min(a, b)
                direction = "dearer" if b > a else "cheaper"
                what = f"1 {before.unit}" if isinstance(before, Usage) else before.key
                yield Finding(
                    f"slip:{new}:{after.key}",
                    f"{new}: {what}{where} is {_rounded(factor):,} times {direction} than in {old}: "
                    f"{money.format_minor(a, code)} becomes {money.format_minor(b, code)}",
                )
                break


def _alike(one: Rate, other: Rate) -> Iterator[tuple[str, Decimal, Decimal]]:
    """The amounts of two rates that stand for the same: where, in the one, in the other."""
    yield "", _last_rate(one), _last_rate(other)
    if (one.mode, len(one.bands)) != (other.mode, len(other.bands)):
        return
    for number, (a, b) in enumerate(zip(one.bands, other.bands, strict=True), start=1):
        yield f" (tier {number})", a.unit_amount, b.unit_amount
        yield f" (flat amount of tier {number})", a.flat_amount or Decimal(0), b.flat_amount or Decimal(0)


def allowances(one: str, first: Plan, other: str, second: Plan) -> Iterator[Finding]:
    """The same included units for an interval of another length."""
    for a, b in _same_charges(first, second):
        if not isinstance(a, Usage) or not isinstance(b, Usage) or a.included != b.included or not a.included:
            continue
        if (a.interval, a.interval_count) != (b.interval, b.interval_count):
            yield Finding(
                f"allowance:{one}:{other}:{a.key}",
                f"{one} includes {a.included:,} {a.units} {_every(a)}, and {other} as many {_every(b)}",
            )


# -- cost as a function of usage ------------------------------------------------------------------------------------


def cost(rate: Rate, units: Decimal) -> Decimal:
    """The exact cost in minor units, before Stripe rounds its lines."""
    if rate.mode == "per_unit":
        return EXACT.multiply(packages(rate, units), rate.bands[0].unit_amount)
    below = Decimal(0)
    total = Decimal(0)
    for number, band in enumerate(rate.bands):
        if rate.mode == "volume":
            if band.up_to is None or units <= band.up_to:
                return EXACT.multiply(units, band.unit_amount) + (band.flat_amount or 0)
            continue
        upper = units if band.up_to is None else min(units, Decimal(band.up_to))
        if number == 0 or upper > below:
            total += EXACT.multiply(upper - below, band.unit_amount) + (band.flat_amount or 0)
        below = max(below, upper)
    return total


Extreme = tuple[Decimal, Decimal]
"""A difference in minor units, and the usage at which it is found."""


def _difference(one: Rate, other: Rate) -> tuple[Extreme, Extreme] | None:
    """The least of `one - other` over all whole usages, and an example of how large it gets; None if it cannot be told.

    Beyond the last tier the two may grow apart without end: the least is then minus infinity, and the example the first
    usage found at which `one` costs more.
    """
    ends = sorted({0, *(band.up_to for rate in (one, other) for band in rate.bands if band.up_to is not None)})
    period = lcm(*(rate.divide_by if rate.round else 1 for rate in (one, other)))
    steps = [rate.divide_by for rate in (one, other) if rate.round]
    last = ends[-1]
    if sum((last + 2 * period) // step for step in steps) > MOST_POINTS:
        return None
    points = {units for end in ends for units in (end, end + 1)}
    for step in steps:
        for multiple in range(0, last + 2 * period + 1, step):
            points |= {max(0, multiple - 1), multiple, multiple + 1}
    near = [(cost(one, Decimal(units)) - cost(other, Decimal(units)), Decimal(units)) for units in sorted(points)]
    # Beyond the last tier the difference repeats itself with each period, a slope apart.
    slope = _slope(one) - _slope(other)
    low = min(near) if slope >= 0 else (Decimal("-Infinity"), near[-1][1])
    high = max(near, key=lambda each: (each[0], -each[1]))
    if high[0] <= 0 < slope:
        far = high[1] + period * (EXACT.divide(-high[0], slope * period).to_integral_value(ROUND_FLOOR) + 1)
        high = (cost(one, far) - cost(other, far), far)
    return low, high


def _slope(rate: Rate) -> Decimal:
    """Minor units for each further unit, in the long run."""
    return EXACT.divide(rate.bands[-1].unit_amount, Decimal(rate.divide_by if rate.round else 1))


def _last_rate(rate: Rate) -> Decimal:
    """What a unit costs above every tier but the last; of a free tail, the last rate that is not free."""
    return next((band.unit_amount for band in reversed(rate.bands) if band.unit_amount), Decimal(0)) / (
        rate.divide_by if rate.round else 1
    )


def _fees(plan: Plan, code: str, per: str) -> Decimal:
    """Minor units a month."""
    return sum(
        (
            plan.rate(fee, code).bands[0].unit_amount / (MONTHS[fee.interval] * fee.interval_count)
            for fee in plan.fees
            if fee.per == per
        ),
        Decimal(0),
    )


def _by_meter(plan: Plan) -> dict[str, Usage]:
    return {charge.meter or charge.key: charge for charge in plan.usage}


def _same_charges(first: Plan, second: Plan) -> Iterable[tuple[Fee | Usage, Fee | Usage]]:
    by_key = {charge.key: charge for charge in second.charges}
    for charge in first.charges:
        match = by_key.get(charge.key)
        if match is not None and type(match) is type(charge):
            yield charge, match


def _every(charge: Fee | Usage) -> str:
    count = charge.interval_count
    return f"a {charge.interval}" if count == 1 else f"every {count} {charge.interval}s"


def _rounded(value: Decimal) -> Decimal:
    return value.quantize(Decimal(1)) if abs(value) > 1 else value


def _figures(value: Decimal) -> str:
    """Four significant figures, without an exponent."""
    return money.decimal_text(Context(prec=4).plus(value))
