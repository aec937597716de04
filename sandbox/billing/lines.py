"""Invoice lines and invoice items in Stripe's shape, ids of lines left out: they come with the invoice."""

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
    """What a metered item's usage in a period costs, in arrears.

    Each line remembers what it was rated from (`_usage`), so that a draft can be rated again when usage comes late.
    An item of which a threshold invoice has billed a part is charged for the rest; those lines begin where that ended.
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
    """What threshold invoices have billed of an item's usage in its present period."""
    billed = item.get("_billed")
    return [] if billed is None else [Charge.of(charge) for charge in billed["charges"]]


def trial_line(item: Obj, price: Obj, product: Obj, period: tuple[int, int]) -> Obj:
    """The zero line of a licensed item in a trial."""
    text, quantity = f"Free trial for {item['quantity']} × {product['name']}", Decimal(item["quantity"])
    return _item_line(item, price, text, period, 0, quantity, Decimal(0))


def trial_usage_line(item: Obj, price: Obj, product: Obj, usage: Decimal, period: tuple[int, int]) -> Obj:
    """The zero line of what a metered item has used in a trial. Nobody has published Stripe's words for it."""
    text = f"Free trial for {decimal_text(usage)} × {product['name']}"
    return _item_line(item, price, text, period, 0, usage, Decimal(0))


def remaining_time_line(item: Obj, price: Obj, product: Obj, amount: int, period: tuple[int, int]) -> Obj:
    """The fee of a licensed item for part of a period: the first, up to the billing anchor, or the last."""
    text = proration_text("Remaining", item["quantity"], product, period[0])
    return _item_line(item, price, text, period, amount, Decimal(item["quantity"]), None, proration=True)


def proration_text(word: str, quantity: int | None, product: Obj, at: int) -> str:
    """How Stripe words a proration: `Unused time on 3 × License after 16 Jan 2026`; one of a thing has no count."""
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
    """An invoice item in Stripe's shape, pending until an invoice takes it up.

    `of` is the customer that it is for, or a subscription of that customer's, which says the currency then.
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
    """Show on a proration, whose amount is net, what discounts have taken off it, by id (minor units, less than 0 on a
    credit).

    `included` leaves the amount net and names the discounts with an amount of 0; `itemized` shows the amount gross and
    what each took (https://docs.stripe.com/changelog/clover/2025-09-30/itemize-proration-discount-amounts).
    """
    item["discounts"] = list(off)
    item["proration_details"] = {
        **item["proration_details"],
        "discount_amounts": [{"amount": amount if itemized else 0, "discount": id} for id, amount in off.items()],
    }
    if itemized:
        item["amount"] += sum(off.values())
    # What was really taken, whichever of the two is shown.
    item["_off"] = dict(off)


def line_of_invoice_item(pending: Obj) -> Obj:
    """The line that an invoice item becomes on the invoice that takes it up."""
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
    """A charge in Stripe's words: `31 credit × Usage (Tier 2 at $0.036 / month)`, a flat fee without the count.

    Packages, as two bills that Retell AI's customers published show them (April 2025, April 2026): the units used, and
    `(at $0.10 per 60 units / month)`.
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
    """A line of what a subscription item bills by itself."""
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
        # Not on the wire: live lines name their subscription in `parent` alone.
        "_subscription": subscription,
        # Ids of the rates that it bears whatever the invoice's own are, and what an exemption takes off its price.
        "_tax_rates": list(tax_rates),
        "_backed_out": 0,
    }
