"""Who pays what in an account: its prices with their customers and monthly amounts. Pure.

Amounts are `Decimal`s of minor units, before discounts and tax. A year is twelve months and 365 days.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import ROUND_HALF_UP, Decimal
from fractions import Fraction
from typing import Any, Final

from components.providers import paid
from components.providers.inventory import StripeObject
from components.providers.schedules import RENEWED
from components.providers.values import id_of, mapping
from pricing.rollout.decisions import lines_of

#: How many of an interval a month has.
_A_MONTH: Final = {"day": Fraction(365, 12), "week": Fraction(365, 84), "month": Fraction(1), "year": Fraction(1, 12)}


@dataclass
class Payers:
    """Who pays one price.

    Attributes:
        price: Stripe's object.
        customers: their ids.
        subscriptions: how many there are.
        monthly: by currency, what they pay a month: fees at their present quantity, usage as on the last invoice.
        unknown: the subscriptions whose amount cannot be told: usage without an invoice to read.
    """

    price: StripeObject
    customers: set[str] = field(default_factory=set)
    subscriptions: int = 0
    monthly: dict[str, Decimal] = field(default_factory=lambda: defaultdict(Decimal))
    unknown: int = 0


class Census:
    """Counts subscriptions, one after the other.

    Args:
        prices: the account's prices by id, with their tiers and currency options.
    """

    def __init__(self, prices: Mapping[str, StripeObject]) -> None:
        self._prices = prices
        self._payers: dict[str, Payers] = {}

    def add(self, subscription: StripeObject) -> None:
        """Count a subscription with all of its items, its last invoice expanded if the key may read it."""
        if subscription["status"] not in RENEWED:
            return
        seen = set()
        for item in subscription["items"]["data"]:
            id_ = str(item["price"]["id"])
            price = self._prices.get(id_, item["price"])
            payers = self._payers.setdefault(id_, Payers(price))
            payers.customers.add(str(id_of(subscription["customer"])))
            payers.subscriptions += id_ not in seen
            seen.add(id_)
            amount = _amount(subscription, item, price)
            if amount is None:
                payers.unknown += 1
            else:
                payers.monthly[str(subscription["currency"])] += monthly(amount, price)

    def payers(self) -> Iterable[Payers]:
        """Who pays which price, the price with the most customers first."""
        return sorted(self._payers.values(), key=lambda each: (-len(each.customers), str(each.price["id"])))


def monthly(amount: Decimal, price: Mapping[str, Any]) -> Decimal:
    """What an amount in each interval of a price is a month, in minor units, rounded to a millionth."""
    name, count = paid.interval(price) or ("month", 1)
    share = _A_MONTH[name] / count
    exact = amount * share.numerator / share.denominator
    return exact.quantize(Decimal("0.000001"), ROUND_HALF_UP)


def _amount(subscription: StripeObject, item: StripeObject, price: Mapping[str, Any]) -> Decimal | None:
    """What an item bills in each interval; None if that cannot be told."""
    if not paid.is_metered(price):
        return paid.fee(price, item.get("quantity"), subscription["currency"])
    invoice = subscription.get("latest_invoice")
    if isinstance(invoice, str):
        # The key may not read it.
        return None
    return Decimal(sum(int(line["amount"]) for line in lines_of(mapping(invoice), str(price["id"]))))
