"""Invoice items: create, retrieve, update, list, delete; and how one is described by an amount or a price."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Final

from . import connect, invoicing, life, redemption, taxation, terms
from .billing.lines import Obj, invoice_item
from .billing.money import EXACT, decimal_string, to_minor_units
from .billing.rating import rate, unit_amount
from .errors import refuse
from .router import Call, Kind, declare_kind, route


def wire(call: Call, item: Obj) -> Obj:
    """An invoice item as Stripe answers it, with its tax rates; recorded: `net_amount` of what no discount touches."""
    shown = {**item, "invoicing_rules": [], "tax_rates": taxation.shown(call, item["tax_rates"])}
    if item["discountable"]:
        del shown["net_amount"]
    return shown


declare_kind(Kind("invoiceitem", missing_param="id", wire=wire))

_NOT_IMPLEMENTED: Final = ("tax_behavior", "tax_code")
_MONEY: Final = ("amount", "price_data", "pricing", "quantity", "quantity_decimal", "unit_amount_decimal")


def described(
    call: Call,
    known: terms.Prices,
    entry: dict[str, Any],
    customer: Obj,
    currency: str,
    now: int,
    where: str,
    subscription: str | None = None,
    prefix: str = "",
) -> Obj:
    """An invoice item from an amount, from a one-time price, or from a unit amount and a quantity.

    `where` names the price in errors, `prefix` the item itself.
    """
    if "amount" in entry and "quantity" in entry:
        # An amount is the whole: https://github.com/stripe/stripe-php/issues/777
        raise refuse("only_one", param=f"{prefix}[amount]" if prefix else "amount", names="amount, quantity")
    quantity = Decimal(str(entry.get("quantity_decimal") or entry.get("quantity", 1)))
    rates = taxation.chosen(call, entry.get("tax_rates"), f"{prefix}[tax_rates]" if prefix else "tax_rates")
    price: Obj | None = None
    each: Decimal | None = None
    description = entry.get("description")
    if entry.get("price") or entry.get("price_data"):
        price = known.find(entry, where, recurring=False)
        taxation.refuse_conflicts(call, price["currency"], [(price, rates)])
        charge = rate(price, quantity)[0]
        amount, each = charge.amount, charge.unit_amount
        currency = price["currency"]
        description = description or call.fetch("product", price["product"])["name"]
    elif "amount" in entry:
        amount, each = entry["amount"], None
    else:
        each = unit_amount(entry)
        if each is None:
            raise refuse("invoice_item_amount")
        amount = to_minor_units(EXACT.multiply(each, quantity))
    period = entry.get("period") or {"start": now, "end": now}
    item = invoice_item(
        id=call.mint("ii_1", 23),
        customer=customer["id"],
        customer_account=customer.get("customer_account"),
        amount=amount,
        currency=currency,
        description=description,
        date=now,
        period=(period["start"], period["end"]),
        quantity=quantity,
        livemode=call.livemode,
        price=price,
        unit_amount=each,
        subscription=subscription,
        test_clock=customer.get("test_clock"),
        discountable=entry.get("discountable", amount >= 0),
        metadata=call.metadata({}, entry.get("metadata") or {}),
        tax_rates=rates,
    )
    # What a later quantity multiplies, where no price says it.
    item["_unit_amount"] = None if each is None else decimal_string(each)
    return item


@route("POST", "/v1/invoiceitems")
def create(call: Call) -> Obj:
    """POST /v1/invoiceitems: on the next invoice, or on a draft that `invoice` names."""
    life.settle(call)
    params = call.params
    _refuse_unimplemented(params)
    invoice = _draft(call, params["invoice"]) if params.get("invoice") else None
    customer = connect.payer(call, params)
    if customer is None and invoice is None:
        raise refuse("missing", param="customer")
    customer = customer or call.fetch("customer", (invoice or {})["customer"], param="customer")
    subscription = None
    if params.get("subscription"):
        found = call.fetch("subscription", params["subscription"], param="subscription", status=400)
        if found["customer"] != customer["id"]:
            raise refuse("subscription_of_other", subscription=found["id"], customer=customer["id"])
        subscription = found["id"]
    currency = params.get("currency") or (invoice or customer)["currency"]
    if not currency:
        if "amount" in params or "unit_amount_decimal" in params:
            raise refuse("missing", param="currency")
        currency = "usd"
    item = described(
        call,
        terms.Prices(call),
        _entry(params),
        customer,
        currency.lower(),
        call.now(customer),
        "pricing",
        subscription,
    )
    set_discounts(call, item, params.get("discounts"), "discounts", invoice, call.now(customer))
    if invoice is not None:
        taxation.refuse_both(invoice["automatic_tax"], item["tax_rates"])
        item["invoice"] = invoice["id"]
        invoicing.take_up(call, invoice, item)
        invoicing.keep(call, invoice)
    if customer["currency"] is None:
        customer["currency"] = item["currency"]
        call.store.put(customer)
    call.store.put(item)
    call.event("invoiceitem.created", item)
    return item


def set_discounts(call: Call, item: Obj, given: Any, where: str, invoice: Obj | None, now: int) -> None:
    """`discounts` of an invoice item, which come before the invoice's own; those of its subscription can be reused."""
    inherited: list[str] = [] if invoice is None else list(invoice["discounts"])
    if item["parent"] is not None:
        subscription = call.store.get("subscription", item["parent"]["subscription_details"]["subscription"])
        inherited += [] if subscription is None else subscription["discounts"]
    target = redemption.Target(
        item["customer"],
        item["currency"],
        now,
        {"invoice_item": item["id"]},
        present=item["discounts"],
        inherited=inherited,
    )
    item["discounts"] = redemption.replace(call, target, given, where)


def _entry(params: dict[str, Any]) -> dict[str, Any]:
    """The parameters with `pricing[price]` where `described` looks for a price."""
    entry = {name: value for name, value in params.items() if name != "pricing"}
    price = (params.get("pricing") or {}).get("price")
    return {**entry, "price": price} if price else entry


def _refuse_unimplemented(params: dict[str, Any]) -> None:
    for name in _NOT_IMPLEMENTED:
        if params.get(name):
            raise refuse("not_implemented_param", param=name)


def _named(call: Call) -> Obj:
    """The invoice item that the path names. Recorded: Stripe words this 404 like no other."""
    id = call.args["invoiceitem"]
    found = call.store.get("invoiceitem", id)
    if found is None:
        raise refuse("no_such_invoice_item", id=id, livemode=str(call.livemode).lower())
    return found


def _draft(call: Call, id: str) -> Obj:
    invoice = call.fetch("invoice", id, param="invoice", status=400)
    if invoice["status"] != "draft":
        raise refuse("invoice_not_editable")
    return invoice


@route("GET", "/v1/invoiceitems/{invoiceitem}", writes=True)
def retrieve(call: Call) -> Obj:
    """GET /v1/invoiceitems/{invoiceitem}."""
    life.settle(call)
    return _named(call)


@route("GET", "/v1/invoiceitems", writes=True)
def list_items(call: Call) -> Obj:
    """GET /v1/invoiceitems, filtered by `customer` or its account, `invoice`, `pending`."""
    life.settle(call)
    params = call.params
    call.check_filters(customer="customer", invoice="invoice")
    where: dict[str, Any] = {
        name: params[name] for name in ("customer", "customer_account", "invoice") if name in params
    }
    if params.get("pending"):
        where["invoice"] = None
    elif params.get("pending") is False and "invoice" not in params:
        where["invoice"] = {"gte": ""}
    return call.page("invoiceitem", where)


@route("POST", "/v1/invoiceitems/{invoiceitem}")
def update(call: Call) -> Obj:
    """POST /v1/invoiceitems/{invoiceitem}, while it waits or its invoice is a draft."""
    life.settle(call)
    params = call.params
    _refuse_unimplemented(params)
    item = _named(call)
    invoice = _editable_invoice(call, item, "invoice_item_update")
    old = dict(item)
    if any(name in params for name in _MONEY):
        _reprice(call, item, params)
    if "description" in params:
        item["description"] = params["description"] or None
    if "discountable" in params:
        item["discountable"] = params["discountable"]
    if "discounts" in params:
        if item["proration"]:
            raise refuse("discounts_frozen")
        set_discounts(call, item, params["discounts"], "discounts", invoice, call.now(item))
    if "metadata" in params:
        item["metadata"] = call.metadata(item["metadata"])
    if "tax_rates" in params:
        item["tax_rates"] = taxation.chosen(call, params["tax_rates"], "tax_rates", item["tax_rates"])
        taxation.refuse_both((invoice or {}).get("automatic_tax") or taxation.NO_AUTOMATIC_TAX, item["tax_rates"])
    _check_price(call, item)
    if "period" in params:
        item["period"] = {"start": params["period"]["start"], "end": params["period"]["end"]}
    if item != old:
        # Stripe has no event for it.
        call.store.put(item)
        if invoice is not None:
            invoicing.take_up(call, invoice, item)
            invoicing.keep(call, invoice)
    return item


def _check_price(call: Call, item: Obj) -> None:
    """The tax rates of an item against what its price says of tax."""
    if item["pricing"] is not None and item["tax_rates"]:
        price = call.fetch("price", item["pricing"]["price_details"]["price"])
        taxation.refuse_conflicts(call, item["currency"], [(price, item["tax_rates"])])


def _reprice(call: Call, item: Obj, params: dict[str, Any]) -> None:
    customer = call.fetch("customer", item["customer"])
    entry = _entry({name: params[name] for name in _MONEY if name in params})
    if not {"amount", "price", "price_data", "unit_amount_decimal"} & set(entry):
        if item["pricing"] is not None:
            # Only the quantity changes: the price stays, archived or not.
            price = call.fetch("price", item["pricing"]["price_details"]["price"])
            charge = rate(price, Decimal(str(entry.get("quantity_decimal") or entry["quantity"])))[0]
            item["amount"] = item["net_amount"] = charge.amount
            item["quantity"] = int(charge.quantity)
            item["quantity_decimal"] = decimal_string(charge.quantity)
            return
        if item.get("_unit_amount") is None:
            raise refuse("invoice_item_amount")
        entry["unit_amount_decimal"] = item["_unit_amount"]
    entry.setdefault("description", item["description"])
    fresh = described(call, terms.Prices(call), entry, customer, item["currency"], item["date"], "pricing")
    for name in ("amount", "net_amount", "quantity", "quantity_decimal", "pricing", "currency", "_unit_amount"):
        item[name] = fresh[name]


@route("DELETE", "/v1/invoiceitems/{invoiceitem}")
def delete(call: Call) -> Obj:
    """DELETE /v1/invoiceitems/{invoiceitem}, while it waits or its invoice is a draft."""
    life.settle(call)
    item = _named(call)
    invoice = _editable_invoice(call, item, "invoice_item_delete")
    if invoice is not None:
        invoicing.drop(call, invoice, item["id"])
        invoicing.keep(call, invoice)
    call.store.remove("invoiceitem", item["id"])
    call.event("invoiceitem.deleted", item)
    return {"id": item["id"], "object": "invoiceitem", "deleted": True}


def _editable_invoice(call: Call, item: Obj, refusal: str) -> Obj | None:
    """The draft that an item is on, None while it waits; with anything later, or a deleted draft, it is closed."""
    if item["invoice"] is None:
        return None
    invoice = call.store.get("invoice", item["invoice"])
    if invoice is None or invoice["status"] != "draft":
        raise refuse(refusal)
    return invoice
