"""What a plan's charges have billed on Stripe's invoices: quantities, rates and amounts, without customers. Pure."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Any, Final, Literal

Catalogue = Mapping[str, tuple[int, str]]
"""The version and the key of the charge of each price of a plan, by the id of the price."""
Aside = Literal["manual", "proration", "other price"]
"""Why an invoice line is not a charge of the plan for a period."""

#: The statuses of invoices whose amounts are final: https://docs.stripe.com/invoicing/overview
CLOSED: Final = frozenset(["open", "paid", "uncollectible"])


class LayoutError(ValueError):
    """An invoice has an unknown layout; the message is one line that says what is missing."""


@dataclass(frozen=True, slots=True)
class BilledLine:
    """One line of an invoice.

    Attributes:
        quantity: seats or units; 0 for a flat amount.
        amount: whole minor units, before discounts and tax.
        unit_amount: minor units for each; None if the invoice does not say.
        off: whole minor units that discounts deduct.
    """

    quantity: Decimal
    amount: int
    unit_amount: Decimal | None = None
    off: int = 0


@dataclass(frozen=True, slots=True)
class Charged:
    """What one charge billed for one period, `start` to `end` in UTC seconds."""

    version: int
    key: str
    start: int
    end: int
    lines: tuple[BilledLine, ...]

    @property
    def quantity(self) -> Decimal:
        """Seats or units of the period."""
        return sum((line.quantity for line in self.lines), Decimal(0))


@dataclass(frozen=True, slots=True)
class Billed:
    """A closed invoice of a plan; only a hash identifies the customer.

    Attributes:
        created: UTC seconds.
        aside: how many of its lines are not in `charged`, by reason.
    """

    invoice: str
    customer: str
    subscription: str
    currency: str
    created: int
    charged: tuple[Charged, ...]
    aside: Mapping[str, int] = field(default_factory=dict)


def hashed(id: str, kind: str) -> str:
    """The pseudonym of an id in all output: `c-` and the first ten digits of its SHA-256.

    Stripe's ids are random, so the hash does not reveal the id; a person who can read the account can find it again.
    """
    return f"{kind}-{hashlib.sha256(id.encode()).hexdigest()[:10]}"


def billed(invoice: Mapping[str, Any], lines: Sequence[Mapping[str, Any]], catalogue: Catalogue) -> Billed | None:
    """What a plan's prices billed on one invoice; None if nothing.

    Args:
        invoice: Stripe's object, from the present API or from one that still had `line.price`.
        lines: all of them.

    Raises:
        LayoutError: it has an unknown layout.
    """
    groups: dict[tuple[str, Any, int, int], list[BilledLine]] = {}
    aside: Counter[str] = Counter()
    for line in lines:
        price, item, reason = _source(line)
        if reason is not None:
            aside[reason] += 1
        elif price not in catalogue:
            aside["other price"] += 1
        else:
            period = _field(line, "period")
            where = (str(price), item, int(_field(period, "start")), int(_field(period, "end")))
            groups.setdefault(where, []).append(_line(line))
    if not groups:
        return None
    charged = tuple(Charged(*catalogue[price], start, end, tuple(of)) for (price, _, start, end), of in groups.items())
    return Billed(
        invoice=hashed(str(_field(invoice, "id")), "i"),
        customer=hashed(_id(_field(invoice, "customer")), "c"),
        subscription=hashed(_subscription(invoice), "s"),
        currency=str(_field(invoice, "currency")).lower(),
        created=int(_field(invoice, "created")),
        charged=charged,
        aside=dict(aside),
    )


def all_prices(lines: Iterable[Mapping[str, Any]]) -> Iterable[str]:
    """The ids of the prices that lines name."""
    for line in lines:
        price, _, _ = _source(line)
        if price is not None:
            yield price


def _source(line: Mapping[str, Any]) -> tuple[str | None, Any, Aside | None]:
    """The price and the subscription item of a line, or why it is not a charge for a period."""
    parent, pricing = line.get("parent"), line.get("pricing")
    if isinstance(parent, dict):
        kind = parent.get("type")
        details = parent.get(str(kind)) or {}
        price = ((pricing or {}).get("price_details") or {}).get("price")
        if details.get("proration"):
            return _optional_id(price), None, "proration"
        if kind == "invoice_item_details" or details.get("invoice_item"):
            return _optional_id(price), None, "manual"
        if kind == "subscription_item_details" and price is not None:
            return _id(price), details.get("subscription_item"), None
    # API versions before 2025-03-31.basil.
    elif line.get("type") in ("subscription", "invoiceitem"):
        old = line.get("price") or line.get("plan") or {}
        price = old.get("id") if isinstance(old, dict) else old
        if line.get("proration"):
            return _optional_id(price), None, "proration"
        if line["type"] == "invoiceitem":
            return _optional_id(price), None, "manual"
        if price is not None:
            return _id(price), line.get("subscription_item"), None
    raise LayoutError("a line has no price in a known place (pricing.price_details.price, price.id)")


def _line(line: Mapping[str, Any]) -> BilledLine:
    pricing = line.get("pricing") or line.get("price") or {}
    unit = pricing.get("unit_amount_decimal") if isinstance(pricing, dict) and "pricing" in line else None
    quantity = line.get("quantity_decimal")
    try:
        return BilledLine(
            Decimal(str(_field(line, "quantity") if quantity is None else quantity)),
            int(_field(line, "amount")),
            None if unit is None else Decimal(str(unit)),
            sum(int(off["amount"]) for off in line.get("discount_amounts") or ()),
        )
    except (InvalidOperation, TypeError, ValueError) as error:
        raise LayoutError("a line's quantity or amount is not a number") from error


def _subscription(invoice: Mapping[str, Any]) -> str:
    details = (invoice.get("parent") or {}).get("subscription_details") or {}
    found = details.get("subscription") or invoice.get("subscription")
    if found is None:
        raise LayoutError("it bills a subscription's item but names no subscription")
    return _id(found)


def _field(of: Any, name: str) -> Any:
    value = of.get(name) if isinstance(of, dict) else None
    if value is None:
        raise LayoutError(f"it has no {name}")
    return value


def _id(value: Any) -> str:
    """An id, of an expanded object too."""
    return str(_field(value, "id")) if isinstance(value, dict) else str(value)


def _optional_id(value: Any) -> str | None:
    return None if value is None else _id(value)
