"""The life of an invoice: created from a draft of the billing cycle, rated again while a draft, finalized, paid, void.

The routes are in `invoices.py`; the moments at which subscriptions are billed are in `life.py`. A function that can
change the invoice's subscription takes it as an argument and changes it in place; the caller that loaded it stores it.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Final

from . import redemption, spec, taxation, usage_totals
from .billing import discounts, tax
from .billing.cycle import Draft
from .billing.lines import usage_lines
from .billing.money import least_charge
from .router import Call, Kind, declare_kind
from .store import declare_index
from .wire import Obj

#: A renewal's invoice stays a draft for this long, and includes late usage.
DRAFT_SECONDS: Final = 3600
#: How many lines an invoice shows; `GET /v1/invoices/{id}/lines` has them all.
LINES_SHOWN: Final = 10


class StoredCatalog:
    """Prices, products and usage from the sandbox's store, at one moment and in one currency."""

    def __init__(self, call: Call, now: int, currency: str, prices: dict[str, Obj] | None = None) -> None:
        """`prices` by id are already read, or belong to a preview and are not stored."""
        self._call = call
        self._now = now
        self._currency = currency
        self._read = {} if prices is None else prices
        self._prices: dict[str, Obj] = {}
        self._products: dict[str, Obj] = {}

    def price(self, id: str) -> Obj:
        """A price with its tiers, in the catalog's currency if the price has several."""
        if id not in self._prices:
            price = self._read.get(id) or self._call.fetch("price", id)
            option = (price.get("currency_options") or {}).get(self._currency)
            if price["currency"] != self._currency and option is not None:
                price = {**price, **option, "currency": self._currency}
            self._prices[id] = price
        return self._prices[id]

    def product(self, id: str) -> Obj:
        """A product."""
        if id not in self._products:
            self._products[id] = self._call.fetch("product", id)
        return self._products[id]

    def usage(self, price: Obj, customer: str, start: int, end: int) -> Decimal:
        """What the price's meter counted for a customer, from visible events."""
        if end <= start:
            return Decimal(0)
        meter = self._call.fetch("billing.meter", price["recurring"]["meter"])
        return usage_totals.aggregate(self._call.store, meter, customer, start, end, self._now)

    def discounts(self, ids: Sequence[str]) -> list[Obj]:
        """The discounts that still apply, each as `id` and `coupon`."""
        return redemption.active(self._call, ids, self._now)


def wire(call: Call, invoice: Obj) -> Obj:
    """An invoice in Stripe's shape: its first lines, without the sandbox's private fields."""
    lines = invoice["lines"]
    shown = [line_wire(call, line) for line in lines["data"][:LINES_SHOWN]]
    return {
        **invoice,
        "default_tax_rates": taxation.shown(call, invoice["default_tax_rates"]),
        "lines": {
            **lines,
            "data": shown,
            "has_more": len(lines["data"]) > LINES_SHOWN,
            "total_count": len(lines["data"]),
        },
    }


def line_wire(call: Call, line: Obj) -> Obj:
    """A line without the sandbox's private fields."""
    return {key: value for key, value in line.items() if key[0] != "_"}


declare_kind(Kind("invoice", missing_param="invoice", wire=wire))
declare_kind(Kind("line_item", wire=line_wire))
declare_index("invoice", "customer")
declare_index("invoice", "status")
declare_index("invoice", "_subscription")
declare_index("invoiceitem", "customer")
declare_index("invoiceitem", "invoice", nulls=True)


# -- creating ---------------------------------------------------------------------------------------------------------


def compose(
    call: Call, draft: Draft, at: int, id: str, *, customer: Obj, currency: str, subscription: Obj | None = None
) -> Obj:
    """An invoice in Stripe's shape, as a draft and not stored: previews show it, `issue` stores it."""
    printed = customer.get("invoice_settings") or {}
    invoice: Obj = {
        **call.head("invoice", id, at=at),
        "account_country": "US",
        "auto_advance": True,
        "automatic_tax": taxation.of_invoice(taxation.NO_AUTOMATIC_TAX),
        "billing_reason": draft.billing_reason,
        "collection_method": "charge_automatically",
        "currency": currency,
        "custom_fields": printed.get("custom_fields"),
        "customer": customer["id"],
        "customer_account": customer.get("customer_account"),
        **{f"customer_{name}": customer.get(name) for name in _KEPT_OF_CUSTOMER},
        "customer_tax_ids": [],
        "default_tax_rates": [],
        "discounts": [],
        "footer": printed.get("footer"),
        "issuer": {"type": "self"},
        "lines": {"object": "list", "data": [], "has_more": False, "url": f"/v1/invoices/{id}/lines"},
        "metadata": {},
        "payment_settings": spec.blank("invoices_payment_settings"),
        "period_end": draft.period_end,
        "period_start": draft.period_start,
        "status": "draft",
        "status_transitions": spec.blank("invoices_resource_status_transitions"),
        "test_clock": customer.get("test_clock"),
        "total_pretax_credit_amounts": [],
        "_discounts": [],
        "_subscription": None,
    }
    # Shown only when expanded; no payment happens in a browser here.
    del invoice["confirmation_secret"]
    if subscription is not None:
        invoice.update(_of_subscription(call, subscription, draft, at))
        invoice["custom_fields"] = subscription["invoice_settings"]["custom_fields"] or invoice["custom_fields"]
        invoice["footer"] = subscription["invoice_settings"]["footer"] or invoice["footer"]
    invoice["lines"]["data"] = [_line(call, invoice, line) for line in draft.lines]
    if draft.threshold is not None:
        invoice["threshold_reason"] = _threshold_reason(draft.threshold, invoice["lines"]["data"])
    total_up(call, invoice, customer)
    return invoice


#: The customer's fields that an invoice copies.
_KEPT_OF_CUSTOMER: Final = ("address", "email", "name", "phone", "shipping", "tax_exempt")


def _of_subscription(call: Call, subscription: Obj, draft: Draft, at: int) -> Obj:
    """The fields of an invoice that come from its subscription."""
    settings, whole = subscription["invoice_settings"], _whole(call, subscription, draft, at)
    details = {"metadata": dict(subscription["metadata"]), "subscription": subscription["id"]}
    due_date = None
    if subscription["collection_method"] == "send_invoice":
        # Recorded: counted from the draft's creation.
        due_date = at + 86_400 * subscription["days_until_due"]
    return {
        "account_tax_ids": settings["account_tax_ids"],
        "automatic_tax": taxation.of_invoice(subscription["automatic_tax"]),
        "collection_method": subscription["collection_method"],
        "default_tax_rates": list(subscription["default_tax_rates"]),
        "description": settings["description"],
        "discounts": [discount["id"] for discount in whole],
        "due_date": due_date,
        "issuer": dict(settings["issuer"]),
        "on_behalf_of": subscription["on_behalf_of"],
        "parent": {"type": "subscription_details", "quote_details": None, "subscription_details": details},
        "_discounts": whole,
        "_subscription": subscription["id"],
    }


def compose_for(call: Call, subscription: Obj, draft: Draft, at: int, id: str = "") -> Obj:
    """The invoice of a subscription."""
    customer = call.fetch("customer", subscription["customer"])
    return compose(call, draft, at, id, customer=customer, currency=subscription["currency"], subscription=subscription)


def _threshold_reason(threshold: Obj, lines: Sequence[Obj]) -> Obj:
    """The threshold that made an invoice due, and the lines of each item that reached its own."""
    reasons = [
        {"line_item_ids": [line["id"] for line in lines if item_of(line) == item], "usage_gte": usage_gte}
        for item, usage_gte in threshold["items"].items()
    ]
    return {"amount_gte": threshold["amount_gte"], "item_reasons": reasons}


def item_of(line: Obj) -> str | None:
    """The subscription item that a line bills directly; None for invoice items, including prorations."""
    details = line["parent"]["subscription_item_details"]
    found: str | None = None if details is None or details["invoice_item"] else details["subscription_item"]
    return found


def _whole(call: Call, subscription: Obj, draft: Draft, at: int) -> list[Obj]:
    """The discounts of a whole invoice: the subscription's, and older ones that still apply to some lines.

    Lines for a backdated subscription's past (`_as_of`) use the discounts of that time.
    """
    former = [id for line in draft.lines for id in line.get("_under", ())]
    ids = list(dict.fromkeys([*subscription["discounts"], *former]))
    moments = {line.get("_as_of", at) for line in draft.lines}
    if moments <= {at}:
        return redemption.active(call, ids, at)
    for line in draft.lines:
        line["_under"] = [discount["id"] for discount in redemption.active(call, ids, line.get("_as_of", at))]
    return redemption.active(call, ids, min(moments))


def _line(call: Call, invoice: Obj, line: Obj) -> Obj:
    made = {"id": call.mint("il_1", 23), "invoice": invoice["id"], "livemode": call.livemode, **line}
    if line["discountable"]:
        moment = line["_as_of"] if "_as_of" in line else invoice["created"]
        made["_discounts"] = redemption.active(call, line["discounts"], moment)
        made["discounts"] = [discount["id"] for discount in made["_discounts"]]
    return made


def total_up(call: Call, invoice: Obj, customer: Obj) -> None:
    """Discount, tax and sum the lines, and set the amount due after the customer's balance."""
    lines = invoice["lines"]["data"]
    discounts.apply(lines, invoice["_discounts"], invoice["currency"])
    taxation.apply(call, invoice, customer)
    invoice["subtotal"] = sum(line["amount"] for line in lines)
    invoice["subtotal_excluding_tax"] = sum(line["subtotal"] for line in lines)
    discounted: dict[str, int] = {}
    for line in lines:
        for given in line["discount_amounts"]:
            discounted[given["discount"]] = discounted.get(given["discount"], 0) + given["amount"]
    invoice["total_discount_amounts"] = [{"amount": amount, "discount": id} for id, amount in discounted.items()]
    discounted_total = invoice["subtotal"] - sum(discounted.values())
    invoice["total"] = discounted_total + sum(tax.change_of_total(line) for line in lines)
    invoice["total_excluding_tax"] = invoice["total"] - sum(taxed["amount"] for taxed in invoice["total_taxes"])
    invoice["starting_balance"] = customer.get("balance") or 0
    invoice["amount_due"] = max(0, invoice["total"] + invoice["starting_balance"])
    invoice["amount_remaining"] = invoice["amount_due"] - invoice["amount_paid"]


def schedule_finalization(invoice: Obj, at: int) -> None:
    """Schedule a draft to be finalized in an hour, and charged then if it is charged automatically."""
    invoice["automatically_finalizes_at"] = at + DRAFT_SECONDS
    if invoice["collection_method"] == "charge_automatically":
        invoice["next_payment_attempt"] = at + DRAFT_SECONDS


def issue(call: Call, invoice: Obj, draft: Draft, at: int) -> None:
    """Store a composed invoice and attach its invoice items."""
    # In reverse: lists are newest first, and Stripe's show a credit before its debit.
    for item in reversed(draft.taken):
        item["invoice"] = invoice["id"]
        call.store.put(item)
    # No need to wait for webhooks: there are no endpoints.
    invoice["webhooks_delivered_at"] = at
    keep(call, invoice)
    call.event("invoice.created", invoice, now=at)


def keep(call: Call, invoice: Obj) -> None:
    """Store an invoice with the moment when it next needs attention."""
    due: int | None = None
    if invoice["status"] == "draft" and invoice["auto_advance"]:
        due = invoice["automatically_finalizes_at"]
    elif invoice["status"] == "open" and invoice["auto_advance"] and invoice["next_payment_attempt"] is not None:
        due = invoice["next_payment_attempt"]
    elif invoice["status"] == "open" and invoice["_subscription"] and not invoice.get("_overdue"):
        due = invoice["due_date"]
    set_due(invoice, due)
    call.store.put(invoice)


def set_due(obj: Obj, due: int | None) -> None:
    """Set the moment when an object next needs attention, by the clock that it follows."""
    clock = obj["test_clock"] is not None
    obj["_due"], obj["_clock_due"] = (None, due) if clock else (due, None)


def rate_again(call: Call, invoice: Obj, at: int) -> bool:
    """Rate a draft's usage lines again; returns whether anything changed. This bills late usage."""
    rated = [line for line in invoice["lines"]["data"] if line.get("_usage")]
    if invoice["status"] != "draft" or not rated:
        return False
    catalog = StoredCatalog(call, at, invoice["currency"])
    before = {(*_source_of(line), *line["_part"]): line for line in rated}
    lines: list[Obj] = []
    done: set[tuple[Any, ...]] = set()
    for line in invoice["lines"]["data"]:
        source = line.get("_usage")
        if not source:
            lines.append(line)
            continue
        if _source_of(line) in done:
            continue
        done.add(_source_of(line))
        item = {
            "id": source["item"],
            "subscription": line["_subscription"],
            "discounts": line["discounts"],
            "tax_rates": line["_tax_rates"],
            "_billed": source.get("billed"),
            "_counted": source.get("counted", "0"),
        }
        price = catalog.price(source["price"])
        usage = catalog.usage(price, invoice["customer"], source["start"], source["end"]) - Decimal(item["_counted"])
        period = (source["start"], source["end"])
        for fresh in usage_lines(item, price, catalog.product(price["product"]), usage, period):
            if "_under" in line:
                fresh["_under"] = line["_under"]
            known = before.get((*_source_of(line), *fresh["_part"]))
            lines.append(_line(call, invoice, fresh) if known is None else {**known, **_rated(fresh)})
    if lines == invoice["lines"]["data"]:
        return False
    invoice["lines"]["data"] = lines
    total_up(call, invoice, call.fetch("customer", invoice["customer"]))
    return True


def _source_of(line: Obj) -> tuple[Any, ...]:
    return tuple(line["_usage"][name] for name in ("item", "price", "start", "end"))


def _rated(line: Obj) -> Obj:
    return {key: line[key] for key in ("amount", "description", "quantity", "quantity_decimal")}


# -- finalizing and paying --------------------------------------------------------------------------------------------


def finalize(call: Call, invoice: Obj, subscription: Obj | None, at: int, *, attempt: bool = True) -> None:
    """Open a draft: number it, fix its amounts, use the customer's balance; it is paid if nothing is due.

    `attempt`: whether a charge_automatically invoice is charged at once.
    """
    rate_again(call, invoice, at)
    customer = call.fetch("customer", invoice["customer"])
    total_up(call, invoice, customer)
    invoice["number"] = _number(customer)
    invoice["status"] = "open"
    invoice["effective_at"] = invoice["status_transitions"]["finalized_at"] = at
    invoice["automatically_finalizes_at"] = None
    balance = invoice["total"] + invoice["starting_balance"]
    invoice["ending_balance"] = min(balance, 0)
    charged = invoice["collection_method"] == "charge_automatically"
    if charged and 0 < balance < least_charge(invoice["currency"]):
        # Recorded: an amount too small to charge moves to the next invoice, and this one counts as paid.
        invoice["ending_balance"] = balance
        invoice["amount_due"] = invoice["amount_remaining"] = 0
    customer["balance"] = invoice["ending_balance"]
    call.store.put(customer)
    invoice["next_payment_attempt"] = None
    call.event("invoice.finalized", invoice, now=at)
    paused = (subscription or {}).get("pause_collection")
    if invoice["amount_due"] == 0:
        invoice["attempted"] = True
        settle_paid(call, invoice, subscription, at)
    elif paused and paused["behavior"] in ("void", "mark_uncollectible"):
        _set_aside(call, invoice, paused["behavior"], at)
    elif attempt and charged:
        charge(call, invoice, subscription, at)
    keep(call, invoice)


def _set_aside(call: Call, invoice: Obj, behavior: str, at: int) -> None:
    if behavior == "void":
        invoice["status"], invoice["status_transitions"]["voided_at"] = "void", at
        call.event("invoice.voided", invoice, now=at)
    else:
        invoice["status"], invoice["status_transitions"]["marked_uncollectible_at"] = "uncollectible", at
        call.event("invoice.marked_uncollectible", invoice, now=at)


def _number(customer: Obj) -> str:
    sequence = customer.get("next_invoice_sequence") or 1
    customer["next_invoice_sequence"] = sequence + 1
    prefix = customer.get("invoice_prefix") or customer["id"].removeprefix("cus_")[:8].upper()
    return f"{prefix}-{sequence:04d}"


def charge(call: Call, invoice: Obj, subscription: Obj | None, at: int) -> bool:
    """Try to collect; without a payment method, or with one that declines, the invoice stays open."""
    method = payment_method(call, invoice, subscription)
    invoice["attempted"] = True
    invoice["attempt_count"] += 1
    invoice["next_payment_attempt"] = None
    if method is not None and refusal_of(call, method) is None:
        settle_paid(call, invoice, subscription, at)
        return True
    call.event("invoice.payment_failed", invoice, now=at)
    if subscription is not None and subscription["status"] == "active":
        subscription["status"] = "past_due"
    return False


def refusal_of(call: Call, method: str) -> str | None:
    """Why charging a payment method or a source is refused, a row of `errors.py`; None if it succeeds."""
    stored = call.store.get("payment_method", method) or call.store.get("card", method)
    return None if stored is None else stored.get("_fails")


def payment_method(call: Call, invoice: Obj | None, subscription: Obj | None) -> str | None:
    """What is charged: the invoice's, the subscription's or the customer's; payment methods before sources.

    https://docs.stripe.com/api/subscriptions/object (`default_payment_method`, `default_source`)
    """
    holder = invoice if invoice is not None else subscription
    assert holder is not None
    customer = call.fetch("customer", holder["customer"])
    choices = (
        (invoice or {}).get("default_payment_method"),
        (invoice or {}).get("default_source"),
        (subscription or {}).get("default_payment_method"),
        (subscription or {}).get("default_source"),
        (customer.get("invoice_settings") or {}).get("default_payment_method"),
        customer.get("default_source"),
    )
    return next((choice for choice in choices if choice), None)


def settle_paid(call: Call, invoice: Obj, subscription: Obj | None, at: int, *, out_of_band: bool = False) -> None:
    """Mark an invoice as paid, and activate a subscription that waited for it."""
    invoice["status"] = "paid"
    invoice["auto_advance"] = False
    invoice["next_payment_attempt"] = None
    invoice["status_transitions"]["paid_at"] = at
    invoice["amount_paid"] = invoice["amount_due"]
    invoice["amount_paid_off_stripe"] = invoice["amount_due"] if out_of_band else 0
    invoice["amount_remaining"] = 0
    call.event("invoice.paid", invoice, now=at)
    if not out_of_band:
        call.event("invoice.payment_succeeded", invoice, now=at)
    if (
        subscription is not None
        and subscription["status"] in ("incomplete", "past_due", "unpaid")
        and (subscription["latest_invoice"] in (None, invoice["id"]))
    ):
        # The beginning of a trial can cost something: an invoice item.
        subscription["status"] = "trialing" if (subscription["trial_end"] or 0) > at else "active"


def void(call: Call, invoice: Obj, subscription: Obj | None, at: int) -> None:
    """Void an open invoice; a subscription that waits for its first payment expires."""
    invoice["status"] = "void"
    invoice["status_transitions"]["voided_at"] = at
    invoice["auto_advance"] = False
    # The part paid from the customer's balance returns to it.
    customer = call.fetch("customer", invoice["customer"])
    used = invoice["starting_balance"] - (invoice["ending_balance"] or 0)
    if used:
        customer["balance"] = (customer.get("balance") or 0) + used
        call.store.put(customer)
    call.event("invoice.voided", invoice, now=at)
    if subscription is not None and subscription["status"] == "incomplete":
        subscription["status"] = "incomplete_expired"
        subscription["ended_at"] = at
