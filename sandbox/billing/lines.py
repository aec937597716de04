"""Invoice lines and invoice items in Stripe's shape; lines have no ids until they are on an invoice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from money import decimal_text
from sandbox.billing.money import amount_text
from sandbox.billing.periods import Interval, day_text
from sandbox.billing.rating import Charge, rate, rate_since
from sandbox.wire import Obj


def is_metered(price: Mapping[str, Any]) -> bool:
    """Whether usage, not a quantity, decides what a price costs."""
    return (price.get("recurring") or {}).get("usage_type") == "metered"


def fee_lines(item: Obj, price: Obj, product: Obj, period: tuple[int, int]) -> list[Obj]:
    """The fee of a licensed item for a whole period, in advance."""
    return [_charge_line(item, price, product, charge, period) for charge in rate(price, item["quantity"])]


def usage_lines(item: Obj, price: Obj, product: Obj, usage: Decimal, period: tuple[int, int]) -> list[Obj]:
    """A metered item's usage charges for a period, in arrears.

    Each line records what it was rated from (`_usage`), so that a draft can be rated again when usage arrives late.
    If a threshold invoice has billed a part of an item's usage, the lines cover the rest and begin where that ended.
    """
    lines = []
    billed = item.get("_billed")
    for charge in rate_since(price, usage, billed_charges(item)):
        line = _charge_line(item, price, product, charge, period)
        if billed is not None and price.get("tiers_mode") != "volume" and not charge.billed:
            line["period"]["start"] = min(billed["until"], period[1])
        line["_usage"] = {
            "item": item["id"],
            "price": price["id"],
            "start": period[0],
            "end": period[1],
            "billed": billed,
            "counted": item.get("_counted", "0"),
        }
        line["_part"] = ["billed" if charge.billed else "used", charge.tier, charge.flat]
        lines.append(line)
    return lines


def billed_charges(item: Obj) -> list[Charge]:
    """The part of an item's usage in its present period that threshold invoices have billed."""
    billed = item.get("_billed")
    return [] if billed is None else [Charge.of(charge) for charge in billed["charges"]]


def trial_line(item: Obj, price: Obj, product: Obj, period: tuple[int, int]) -> Obj:
    """The zero line of a licensed item in a trial."""
    text, quantity = f"Free trial for {item['quantity']} × {product['name']}", Decimal(item["quantity"])
    return _item_line(item, price, text, period, 0, quantity, Decimal(0))


def trial_usage_line(item: Obj, price: Obj, product: Obj, usage: Decimal, period: tuple[int, int]) -> Obj:
    """The zero line of a metered item's usage in a trial. Stripe's words for it are not published."""
    text = f"Free trial for {decimal_text(usage)} × {product['name']}"
    return _item_line(item, price, text, period, 0, usage, Decimal(0))


def remaining_time_line(item: Obj, price: Obj, product: Obj, amount: int, period: tuple[int, int]) -> Obj:
    """The fee of a licensed item for part of a period: the first, up to the billing anchor, or the last."""
    text = proration_text("Remaining", item["quantity"], product, period[0])
    return _item_line(item, price, text, period, amount, Decimal(item["quantity"]), None, proration=True)


def proration_text(word: str, quantity: int | None, product: Obj, at: int) -> str:
    """How Stripe words a proration: `Unused time on 3 × License after 16 Jan 2026`; a quantity of one is omitted."""
    counted = product["name"] if quantity in {None, 1} else f"{quantity} × {product['name']}"
    return f"{word} time on {counted} after {day_text(at)}"


def invoice_item(
    *,
    id: str,
    of: Obj,
    amount: int,
    description: str | None,
    date: int,
    period: tuple[int, int],
    quantity: Decimal | int,
    price: Obj | None = None,
    unit_amount: Decimal | None = None,
    currency: str | None = None,
    subscription: str | None = None,
    subscription_item: str | None = None,
    proration: bool = False,
    discountable: bool = True,
    discounts: Sequence[str] = (),
    metadata: dict[str, str] | None = None,
    tax_rates: Sequence[str] = (),
) -> Obj:
    """An invoice item in Stripe's shape, pending until an invoice includes it.

    `of` is its customer, or a subscription of that customer, whose currency it then has.
    """
    parent: Obj | None = None
    if "customer" in of:
        subscription = of["id"]
    if subscription is not None:
        details = {"subscription": subscription}
        if subscription_item is not None:
            details["subscription_item"] = subscription_item
        parent = {"type": "subscription_details", "subscription_details": details}
    item: Obj = {
        "id": id,
        "object": "invoiceitem",
        "amount": amount,
        "currency": currency or of["currency"],
        "customer": of.get("customer", of["id"]),
        "customer_account": of.get("customer_account"),
        "date": date,
        "description": description,
        "discountable": discountable,
        "discounts": list(discounts),
        "frozen_fields": ["pricing", "quantity", "discounts"] if proration else [],
        "invoice": None,
        "livemode": of["livemode"],
        "metadata": dict(metadata or {}),
        "net_amount": amount,
        "parent": parent,
        "period": {"start": period[0], "end": period[1]},
        "pricing": None if price is None else _pricing(price, unit_amount),
        "proration": proration,
        "quantity": int(quantity),
        "quantity_decimal": decimal_text(quantity),
        "tax_rates": list(tax_rates),
        "test_clock": of.get("test_clock"),
    }
    if proration:
        item["proration_details"] = {"credited_items": None, "discount_amounts": []}
    return item


def prorated_discounts(item: Obj, off: Mapping[str, int], *, itemized: bool) -> None:
    """Show a proration's discounts, by id (minor units, negative on a credit). Its amount is net.

    `included` keeps the amount net and lists the discounts with an amount of 0; `itemized` shows the gross amount and
    each discount's amount (https://docs.stripe.com/changelog/clover/2025-09-30/itemize-proration-discount-amounts).
    """
    item["discounts"] = list(off)
    item["proration_details"] = {
        **item["proration_details"],
        "discount_amounts": [{"amount": amount if itemized else 0, "discount": id} for id, amount in off.items()],
    }
    if itemized:
        item["amount"] += sum(off.values())
    # The real discounts, whichever of the two is shown.
    item["_off"] = dict(off)


def line_of_invoice_item(pending: Obj) -> Obj:
    """The line for an invoice item on its invoice."""
    subscription = subscription_item = None
    if pending["parent"] is not None:
        details = pending["parent"]["subscription_details"]
        subscription, subscription_item = details["subscription"], details.get("subscription_item")
    credited = (pending.get("proration_details") or {}).get("credited_items") or {}
    shared = {
        "invoice_item": pending["id"],
        "proration": pending["proration"],
        "proration_details": {"credited_items": credited.get("invoice_line_item_details")},
        "subscription": subscription,
    }
    if subscription_item is None:
        parent = _parent("invoice_item_details", shared)
    else:
        parent = _parent("subscription_item_details", {**shared, "subscription_item": subscription_item})
    line = _line(
        amount=pending["amount"],
        currency=pending["currency"],
        description=pending["description"],
        period=(pending["period"]["start"], pending["period"]["end"]),
        quantity=Decimal(pending["quantity_decimal"]),
        pricing=pending["pricing"],
        parent=parent,
        subscription=subscription,
        discountable=pending["discountable"],
        discounts=pending["discounts"] or (),
        tax_rates=pending["tax_rates"],
    )
    line["metadata"] = dict(pending["metadata"])
    if pending["proration"]:
        line["_prorated"] = list(pending.get("proration_details", {}).get("discount_amounts", ()))
        line["_off"] = pending.get("_off", {})
    return line


def charge_text(price: Obj, product: Obj, charge: Charge) -> str:
    """A charge in Stripe's words: `31 credit × Usage (Tier 2 at $0.036 / month)`; a flat fee has no count.

    Packages follow two bills that Retell AI's customers published (April 2025, April 2026): the units used, and `(at
    $0.10 per 60 units / month)`.
    """
    if charge.billed:
        return f"Amount previously billed (at {amount_text(charge.unit_amount, price['currency'])})"
    tier = "" if charge.tier is None else f"Tier {charge.tier} "
    package = price.get("transform_quantity")
    per = f" per {package['divide_by']} units" if package else ""
    every = f" / {Interval.of(price['recurring']).text()}" if price.get("recurring") else ""
    rated = f"{product['name']} ({tier}at {amount_text(charge.unit_amount, price['currency'])}{per}{every})"
    if charge.flat:
        return rated
    label = product.get("unit_label")
    return f"{decimal_text(charge.quantity)} {label + ' ' if label else ''}× {rated}"


def _charge_line(item: Obj, price: Obj, product: Obj, charge: Charge, period: tuple[int, int]) -> Obj:
    text = charge_text(price, product, charge)
    return _item_line(item, price, text, period, charge.amount, charge.quantity, charge.unit_amount)


def _item_line(
    item: Obj,
    price: Obj,
    description: str,
    period: tuple[int, int],
    amount: int,
    quantity: Decimal,
    unit_amount: Decimal | None,
    *,
    proration: bool = False,
) -> Obj:
    """A line for a subscription item itself."""
    details = {
        "invoice_item": None,
        "proration": proration,
        "proration_details": {"credited_items": None},
        "subscription": item["subscription"],
        "subscription_item": item["id"],
    }
    return _line(
        amount=amount,
        currency=price["currency"],
        description=description,
        period=period,
        quantity=quantity,
        pricing=_pricing(price, unit_amount),
        parent=_parent("subscription_item_details", details),
        subscription=item["subscription"],
        discounts=item["discounts"],
        tax_rates=item["tax_rates"],
    )


def _parent(kind: str, details: Obj) -> Obj:
    return {"type": kind, "invoice_item_details": None, "subscription_item_details": None, kind: details}


def _pricing(price: Obj, unit_amount: Decimal | None) -> Obj:
    return {
        "type": "price_details",
        "price_details": {"price": price["id"], "product": price["product"]},
        "unit_amount_decimal": None if unit_amount is None else decimal_text(unit_amount),
    }


def _line(
    *,
    amount: int,
    currency: str,
    description: str | None,
    period: tuple[int, int],
    quantity: Decimal,
    pricing: Obj | None,
    parent: Obj,
    subscription: str | None,
    discounts: Sequence[str],
    discountable: bool = True,
    tax_rates: Sequence[str] = (),
) -> Obj:
    return {
        "object": "line_item",
        "amount": amount,
        "currency": currency,
        "description": description,
        "discount_amounts": [],
        "discountable": discountable,
        "discounts": list(discounts),
        "metadata": {},
        "parent": parent,
        "period": {"start": period[0], "end": period[1]},
        "pretax_credit_amounts": [],
        "pricing": pricing,
        "quantity": int(quantity),
        "quantity_decimal": decimal_text(quantity),
        "subtotal": amount,
        "taxes": [],
        # Not on the wire: Stripe's real lines name their subscription only in `parent`.
        "_subscription": subscription,
        # The ids of its own tax rates, which override the invoice's, and what an exemption deducts from its price.
        "_tax_rates": list(tax_rates),
        "_backed_out": 0,
    }
