"""Invoice items: create, retrieve, list; and their amounts and prices."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from . import connect, life, redemption, taxation, terms
from .billing.lines import invoice_item
from .billing.money import EXACT, to_minor_units
from .billing.rating import rate, unit_amount
from .errors import refuse, within
from .router import Call, Kind, declare_kind
from .wire import Obj


def wire(call: Call, item: Obj) -> Obj:
    """An invoice item in Stripe's shape, with its tax rates. Recorded: `net_amount` without a discount."""
    shown = {**item, "invoicing_rules": [], "tax_rates": taxation.shown(call, item["tax_rates"])}
    if item["discountable"]:
        del shown["net_amount"]
    return shown


declare_kind(Kind("invoiceitem", missing_param="id", wire=wire))


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
        # The amount is the total: https://github.com/stripe/stripe-php/issues/777
        raise refuse("only_one", param=within(prefix, "amount"), names="amount, quantity")
    quantity = Decimal(str(entry.get("quantity_decimal") or entry.get("quantity", 1)))
    rates = taxation.chosen(call, entry.get("tax_rates"), within(prefix, "tax_rates"))
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
    return invoice_item(
        id=call.mint("ii_1", 23),
        of=customer,
        amount=amount,
        currency=currency,
        description=description,
        date=now,
        period=(period["start"], period["end"]),
        quantity=quantity,
        price=price,
        unit_amount=each,
        subscription=subscription,
        discountable=entry.get("discountable", amount >= 0),
        metadata=call.metadata({}, entry.get("metadata") or {}),
        tax_rates=rates,
    )


@life.route("POST", "/v1/invoiceitems")
def create(call: Call) -> Obj:
    """POST /v1/invoiceitems: for the customer's next invoice."""
    params = call.params
    for name in ("invoice", "tax_behavior", "tax_code"):
        if params.get(name):
            raise refuse("not_implemented_param", param=name)
    customer = connect.payer(call, params)
    if customer is None:
        raise refuse("missing", param="customer")
    subscription = None
    if params.get("subscription"):
        found = call.fetch("subscription", params["subscription"], param="subscription", status=400)
        if found["customer"] != customer["id"]:
            raise refuse("subscription_of_other", subscription=found["id"], customer=customer["id"])
        subscription = found["id"]
    currency = params.get("currency") or customer["currency"]
    if not currency:
        if "amount" in params or "unit_amount_decimal" in params:
            raise refuse("missing", param="currency")
        currency = "usd"
    now = call.now(customer)
    item = described(call, terms.Prices(call), _entry(params), customer, currency.lower(), now, "pricing", subscription)
    set_discounts(call, item, params.get("discounts"), "discounts", now)
    if customer["currency"] is None:
        customer["currency"] = item["currency"]
        call.store.put(customer)
    return call.add(item, "invoiceitem.created")


def set_discounts(call: Call, item: Obj, given: Any, where: str, now: int) -> None:
    """`discounts` of an invoice item, which apply before the invoice's own; its subscription's can be reused."""
    inherited: list[str] = []
    if item["parent"] is not None:
        subscription = call.store.get("subscription", item["parent"]["subscription_details"]["subscription"])
        inherited += [] if subscription is None else subscription["discounts"]
    target = redemption.Target.of(item, "invoice_item", now, inherited=inherited)
    item["discounts"] = redemption.replace(call, target, given, where)


def _entry(params: dict[str, Any]) -> dict[str, Any]:
    """The parameters with `pricing[price]` moved to where `described` expects it."""
    entry = {name: value for name, value in params.items() if name != "pricing"}
    price = (params.get("pricing") or {}).get("price")
    return {**entry, "price": price} if price else entry


def _named(call: Call) -> Obj:
    """The invoice item of the path. Recorded: Stripe words this 404 differently from all others."""
    id = call.args["invoiceitem"]
    found = call.store.get("invoiceitem", id)
    if found is None:
        raise refuse("no_such_invoice_item", id=id, livemode=str(call.livemode).lower())
    return found


@life.route("GET", "/v1/invoiceitems/{invoiceitem}")
def retrieve(call: Call) -> Obj:
    """GET /v1/invoiceitems/{invoiceitem}."""
    return _named(call)


@life.route("GET", "/v1/invoiceitems")
def list_items(call: Call) -> Obj:
    """GET /v1/invoiceitems, filtered by `customer` or its account, `invoice`, `pending`."""
    params = call.params
    call.check_filters(customer="customer", invoice="invoice")
    where = call.given("customer", "customer_account", "invoice")
    if params.get("pending"):
        where["invoice"] = None
    elif params.get("pending") is False and "invoice" not in params:
        where["invoice"] = {"gte": ""}
    return call.page("invoiceitem", where)
