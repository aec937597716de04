"""Rating: turns a price and a quantity into the charges that Stripe shows as invoice lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Any

from sandbox.billing.money import EXACT, to_minor_units

Price = Mapping[str, Any]


@dataclass(frozen=True)
class Charge:
    """One line's amount: `quantity` units at `unit_amount` minor units each, or the flat fee of a tier.

    `amount` is rounded to whole minor units; `tier` counts from 1 and is None for a price without tiers. A flat fee
    has quantity 0, as on Stripe's own invoices. `billed` deducts what an earlier invoice of the period has billed.
    """

    quantity: Decimal
    unit_amount: Decimal
    amount: int
    tier: int | None = None
    flat: bool = False
    billed: bool = False

    def stored(self) -> dict[str, Any]:
        """The charge as JSON, for `Charge.of`."""
        return {
            "quantity": str(self.quantity),
            "unit_amount": str(self.unit_amount),
            "amount": self.amount,
            "tier": self.tier,
            "flat": self.flat,
        }

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> Charge:
        """The charge from `stored` JSON."""
        quantity, unit = Decimal(stored["quantity"]), Decimal(stored["unit_amount"])
        return cls(quantity, unit, stored["amount"], stored["tier"], stored["flat"])


def rate(price: Price, quantity: Decimal | int) -> tuple[Charge, ...]:
    """What `quantity` units of a price cost in one period. A negative quantity (usage corrected below zero) is 0.

    Tiered prices produce one unit charge for each tier reached (always for the first), and also a flat charge if the
    tier has a `flat_amount` (0 included), as on recorded Stripe invoices.
    """
    units = max(Decimal(quantity), Decimal(0))
    if price["billing_scheme"] != "tiered":
        return (_per_unit(price, units),)
    if price["tiers_mode"] == "volume":
        return _volume(price["tiers"], units)
    return _graduated(price["tiers"], units)


def rate_since(price: Price, quantity: Decimal | int, billed: Sequence[Charge]) -> tuple[Charge, ...]:
    """What `quantity` units of a period cost beyond what earlier invoices of the period have billed.

    Tiers continue from invoice to invoice. Volume prices, and usage that has shrunk, are charged again with "Amount
    previously billed" deducted; otherwise only the added units are charged. All invoices of a period sum to `rate`.
    https://docs.stripe.com/billing/subscriptions/usage-based/thresholds
    """
    charges = rate(price, quantity)
    if not billed:
        return charges
    now = {(charge.tier, charge.flat): charge for charge in charges}
    grown = price.get("tiers_mode") != "volume" and all(
        (charge.tier, charge.flat) in now
        and now[charge.tier, charge.flat].quantity >= charge.quantity
        and now[charge.tier, charge.flat].amount >= charge.amount
        for charge in billed
    )
    if not grown:
        back = (replace(charge, quantity=Decimal(0), amount=-charge.amount, billed=True) for charge in billed)
        return (*charges, *(charge for charge in back if charge.amount))
    before = {(charge.tier, charge.flat): charge for charge in billed}
    added = [_beyond(charge, before.get((charge.tier, charge.flat))) for charge in charges]
    kept = [charge for charge in added if charge.quantity or charge.amount or (charge.tier, charge.flat) not in before]
    return tuple(kept or added[:1])


def _beyond(charge: Charge, before: Charge | None) -> Charge:
    if before is None:
        return charge
    return replace(charge, quantity=charge.quantity - before.quantity, amount=charge.amount - before.amount)


def total(price: Price, quantity: Decimal | int) -> int:
    """The sum of a price's charges in whole minor units."""
    return sum(charge.amount for charge in rate(price, quantity))


def is_free(price: Price) -> bool:
    """Whether a price is entirely free."""
    holders = price.get("tiers") or (price,)
    return not any(unit_amount(holder, stem) for holder in holders for stem in ("unit_amount", "flat_amount"))


def unit_amount(holder: Mapping[str, Any], stem: str = "unit_amount") -> Decimal | None:
    """The exact amount of a price or tier, from `unit_amount` or `unit_amount_decimal`."""
    for key in (f"{stem}_decimal", stem):
        value = holder.get(key)
        if value is not None:
            return Decimal(str(value))
    return None


def _per_unit(price: Price, units: Decimal) -> Charge:
    amount = unit_amount(price) or Decimal(0)
    transform = price.get("transform_quantity")
    billed = units
    if transform:
        rounding = ROUND_CEILING if transform["round"] == "up" else ROUND_FLOOR
        billed = EXACT.divide(units, Decimal(transform["divide_by"])).to_integral_value(rounding=rounding)
    return Charge(quantity=units, unit_amount=amount, amount=to_minor_units(EXACT.multiply(billed, amount)))


def _volume(tiers: list[Mapping[str, Any]], units: Decimal) -> tuple[Charge, ...]:
    for number, tier in enumerate(tiers, start=1):
        if tier["up_to"] is None or units <= tier["up_to"]:
            return _tier_charges(number, tier, units)
    return _tier_charges(len(tiers), tiers[-1], units)


def _graduated(tiers: list[Mapping[str, Any]], units: Decimal) -> tuple[Charge, ...]:
    charges: list[Charge] = []
    below = Decimal(0)
    for number, tier in enumerate(tiers, start=1):
        if number > 1 and units <= below:
            break
        upper = units if tier["up_to"] is None else min(units, Decimal(tier["up_to"]))
        charges.extend(_tier_charges(number, tier, upper - below))
        below = upper
        if tier["up_to"] is None or units <= tier["up_to"]:
            break
    return tuple(charges)


def _tier_charges(number: int, tier: Mapping[str, Any], units: Decimal) -> tuple[Charge, ...]:
    each = unit_amount(tier) or Decimal(0)
    charges = [Charge(units, each, to_minor_units(EXACT.multiply(units, each)), tier=number)]
    flat = unit_amount(tier, "flat_amount")
    if flat is not None:
        charges.append(Charge(Decimal(0), flat, to_minor_units(flat), tier=number, flat=True))
    return tuple(charges)
