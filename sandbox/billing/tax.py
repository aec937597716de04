"""Tax on invoice lines: exclusive tax added to a line or inclusive tax within it, after discounts, to the minor unit.

The rules and worked examples are Stripe's (https://docs.stripe.com/billing/taxes/tax-rates, "Rounding", "Discounts",
"Exemption status"): each line is rounded separately, a half away from zero; discounts are deducted first; inclusive tax
is extracted from the result, and exclusive tax is computed on the rest.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from sandbox.billing.money import EXACT, to_minor_units
from sandbox.wire import Obj

#: `customer.tax_exempt` -> why such a customer's lines have no tax.
EXEMPTIONS: Final = {"exempt": "customer_exempt", "reverse": "reverse_charge"}


@dataclass(frozen=True)
class Rate:
    """A tax rate: `percentage` is out of 100; an inclusive one is part of the price, an exclusive one is added."""

    id: str
    percentage: Decimal
    inclusive: bool
    #: Why it is charged or not, in Stripe's words. Recorded: manual rates have no reason.
    reason: str = "not_available"


def apply(line: Obj, rates: Sequence[Rate], tax_exempt: str | None = None) -> None:
    """Set a line's `taxes`, its `subtotal` before any tax, and `_backed_out`.

    A customer who is `exempt` or pays tax itself (`reverse`) is charged none; the inclusive tax is then removed from
    the price: of 100.00 including 10 %, 90.91 remain to pay.
    """
    net = line["amount"] - sum(given["amount"] for given in line["discount_amounts"])
    inclusive = [rate for rate in rates if rate.inclusive]
    included = dict(zip(inclusive, _included(net, inclusive), strict=True))
    taxable = net - sum(included.values())
    exemption = EXEMPTIONS.get(tax_exempt or "none")
    collected = all(rate.reason != "not_collecting" for rate in rates)
    line["subtotal"] = line["amount"] - sum(_included(line["amount"], inclusive))
    line["_backed_out"] = sum(included.values()) if exemption is not None else 0
    line["taxes"] = [
        {
            "amount": 0 if exemption is not None else included[rate] if rate.inclusive else _added(taxable, rate),
            "tax_behavior": "inclusive" if rate.inclusive else "exclusive",
            "tax_rate_details": {"tax_rate": rate.id},
            "taxability_reason": exemption or rate.reason,
            "taxable_amount": taxable if exemption is None and collected else 0,
            "type": "tax_rate_details",
        }
        for rate in rates
    ]


def _included(amount: int, rates: Sequence[Rate]) -> list[int]:
    """The share of each inclusive rate in an amount: their percentages add up."""
    whole = EXACT.add(Decimal(100), sum((rate.percentage for rate in rates), Decimal(0)))
    return [to_minor_units(EXACT.divide(EXACT.multiply(Decimal(amount), rate.percentage), whole)) for rate in rates]


def _added(taxable: int, rate: Rate) -> int:
    return to_minor_units(EXACT.divide(EXACT.multiply(Decimal(taxable), rate.percentage), Decimal(100)))


def totals(lines: Iterable[Mapping[str, Any]]) -> list[Obj]:
    """`total_taxes` of an invoice: the lines' taxes summed by rate and reason, in order of appearance."""
    summed: dict[tuple[str, str], Obj] = {}
    for line in lines:
        for tax in line["taxes"]:
            key = (tax["tax_rate_details"]["tax_rate"], tax["taxability_reason"])
            if key not in summed:
                summed[key] = {**tax, "amount": 0, "taxable_amount": 0}
            summed[key]["amount"] += tax["amount"]
            summed[key]["taxable_amount"] += tax["taxable_amount"]
    return list(summed.values())


def change_of_total(line: Mapping[str, Any]) -> int:
    """The effect of tax on a line's price: plus exclusive tax, minus what an exemption removes."""
    added = sum(tax["amount"] for tax in line["taxes"] if tax["tax_behavior"] == "exclusive")
    return int(added - line["_backed_out"])
