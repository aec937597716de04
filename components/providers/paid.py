"""What prices and items cost, as far as the program tells, for the warnings of a preview. Pure.

Amounts are `Decimal`s of minor units; a price is the arguments of a `Price`, a `price_data`, or Stripe's own object.
How Stripe rates: https://docs.stripe.com/products-prices/pricing-models
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Context, Decimal
from typing import Any, Final

import money
from components.providers.values import decimal_string, is_unknown, mapping

Known = Callable[[str], Mapping[str, Any] | None]
"""Looks up a price by its id; None if the program does not know it."""

#: What a price costs, and how often.
COSTS: Final = (
    "billing_scheme",
    "currency",
    "currency_options",
    "custom_unit_amount",
    "recurring",
    "tax_behavior",
    "tiers",
    "tiers_mode",
    "transform_quantity",
    "unit_amount_decimal",
)
#: Keeps the longest amounts and quantities of a request exact.
_EXACT: Final = Context(prec=120)


def interval(price: Mapping[str, Any]) -> tuple[str, int] | None:
    """How often a recurring price is billed: `("month", 1)`; None if that is not known."""
    recurring = mapping(price.get("recurring"))
    name, count = recurring.get("interval"), recurring.get("interval_count", 1)
    return (name, count) if isinstance(name, str) and isinstance(count, int) else None


def every(price: Mapping[str, Any]) -> str:
    """The interval for a sentence: ` a month`, ` every 3 months`; nothing for a one-time price."""
    match interval(price):
        case (name, 1):
            return f" a {name}"
        case (name, count):
            return f" every {count} {name}s"
    return ""


def is_metered(price: Mapping[str, Any]) -> bool:
    """Whether a price is billed by usage."""
    return mapping(price.get("recurring")).get("usage_type") == "metered"


def is_free(price: Mapping[str, Any]) -> bool:
    """Whether a price is certain to be free, whatever the quantity."""
    if price.get("tiers"):
        return all(_decimal(tier, name) == 0 for tier in price["tiers"] for name in ("unit_amount", "flat_amount"))
    return _decimal(price, "unit_amount", None) == 0


def fee(price: Mapping[str, Any], quantity: Any, currency: object = None) -> Decimal | None:
    """What a licensed or one-time price costs for a quantity, rounded as invoice lines are.

    Args:
        currency: what the subscription bills in, if that is not the price's own.

    Returns:
        Minor units, or None if the program does not know (usage, amounts that the customer chooses, unknown values).
    """
    terms = in_currency(price, currency)
    if is_metered(price) or terms is None or isinstance(quantity, bool) or not isinstance(quantity, int):
        return None
    if isinstance(tiers := terms.get("tiers"), list):
        lines = list(_tiered(tiers, quantity, price.get("tiers_mode")))
        return None if None in lines else sum((_rounded(line) for line in lines if line is not None), Decimal(0))
    amount = _decimal(terms, "unit_amount", None)
    if amount is None:
        return None
    return _rounded(_EXACT.multiply(amount, _packages(quantity, price.get("transform_quantity"))))


def in_currency(price: Mapping[str, Any], currency: object = None) -> Mapping[str, Any] | None:
    """The amounts of a price in a currency: its own, or the option for another; None if it has none."""
    if currency is None or is_unknown(currency) or price.get("currency") in (currency, None):
        return price
    option = mapping(price.get("currency_options")).get(str(currency))
    return option if isinstance(option, Mapping) else None


def included(price: Mapping[str, Any]) -> int:
    """The free units of a metered price in each period; 0 if it charges from the first."""
    units = 0
    for tier in price.get("tiers") or () if is_metered(price) else ():
        up_to = mapping(tier).get("up_to")
        costs = any(_decimal(mapping(tier), name) != 0 for name in ("unit_amount", "flat_amount"))
        if costs or not isinstance(up_to, int):
            break
        units = up_to
    return units


def text(amount: Decimal, currency: object) -> str:
    """An amount for a sentence: `300.00 USD`."""
    return money.format_minor(amount, str(currency))


def date(moment: int) -> str:
    """A moment of Stripe's as a day (UTC): `2026-12-31`."""
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d")


def fee_text(price: Mapping[str, Any], quantity: Any, currency: object = None) -> str | None:
    """What an item costs in each period: `300.00 USD a month`; None if the program does not know."""
    amount, billed = fee(price, quantity, currency), currency or price.get("currency")
    return None if amount is None or not isinstance(billed, str) else f"{text(amount, billed)}{every(price)}"


def recurring_text(items: Iterable[tuple[Mapping[str, Any] | None, Any]]) -> str:
    """The total of some prices in their quantities: `98.00 USD a month`; without what is billed by usage."""
    totals: dict[tuple[str, str], Decimal] = {}
    for price, quantity in items:
        cost = fee(price, quantity) if price else None
        if price and cost is not None:
            key = (str(price.get("currency")), every(price))
            totals[key] = totals.get(key, Decimal(0)) + cost
    return " and ".join(f"{text(cost, code)}{each}" for (code, each), cost in sorted(totals.items())) or "nothing"


def once_text(entries: Any, known: Known, currency: object = None) -> str:
    """What `add_invoice_items` charge: `50.00 USD`, or only how many there are if no price is known."""
    total, billed, unknown = Decimal(0), currency, 0
    entries = entries if isinstance(entries, list) else []
    for entry in entries:
        price = price_of(mapping(entry), known)
        amount = None if price is None else fee(price, mapping(entry).get("quantity", 1), currency)
        billed = billed or (price or {}).get("currency")
        if amount is None:
            unknown += 1
        else:
            total += amount
    if unknown == len(entries) or not isinstance(billed, str):
        return f"{len(entries)} {'item' if len(entries) == 1 else 'items'}"
    return text(total, billed) + (f" and {unknown} more of unknown amount" if unknown else "")


def price_of(item: Mapping[str, Any], known: Known) -> Mapping[str, Any] | None:
    """The price of a declared item, as far as the program tells."""
    if isinstance(item.get("price_data"), Mapping):
        return mapping(item["price_data"])
    price = item.get("price")
    return known(price) if isinstance(price, str) else None


def _tiered(tiers: list[Any], quantity: int, mode: Any) -> Iterator[Decimal | None]:
    """The invoice lines of tiers: of each tier reached, or in `volume` of the one that the quantity falls in."""
    below = 0
    for tier in tiers:
        up_to = mapping(tier).get("up_to")
        if is_unknown(up_to):
            yield None
        bound = up_to if isinstance(up_to, int) else quantity
        last = quantity <= bound
        if mode != "volume" or last:
            unit, flat = _decimal(mapping(tier), "unit_amount"), _decimal(mapping(tier), "flat_amount")
            units = quantity if mode == "volume" else min(quantity, bound) - below
            yield None if unit is None else _EXACT.multiply(unit, units)
            yield flat
        if last:
            return
        below = bound


def _packages(quantity: int, transform: Any) -> int:
    if not isinstance(transform, Mapping):
        return quantity
    whole, rest = divmod(quantity, int(transform["divide_by"]))
    return whole + (1 if rest and transform.get("round") == "up" else 0)


def _decimal(values: Mapping[str, Any], name: str, otherwise: int | None = 0) -> Decimal | None:
    """An amount in either form; `otherwise` if there is none, None if it is not known yet."""
    value = values.get(f"{name}_decimal")
    value = values.get(name) if value is None else value
    if value is None:
        return None if otherwise is None else Decimal(otherwise)
    written = decimal_string(str(value) if isinstance(value, Decimal) else value)
    return None if written is None else Decimal(written)


def _rounded(amount: Decimal) -> Decimal:
    return amount.quantize(Decimal(1), ROUND_HALF_UP, _EXACT)
