"""Invoices: retrieve, list, lines, preview, create, finalize, pay, void."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from . import (
    cards,
    changing,
    connect,
    customers,
    invoice_items,
    invoicing,
    life,
    redemption,
    subscription_schedules,
    subscriptions,
    taxation,
    terms,
)
from .billing import cycle
from .billing.cycle import Contract, Draft
from .billing.lines import line_of_invoice_item
from .errors import refuse
from .router import Call
from .store import copied
from .wire import Obj

# -- reading ----------------------------------------------------------------------------------------------------------


@life.route("GET", "/v1/invoices/{invoice}")
def retrieve(call: Call) -> Obj:
    """GET /v1/invoices/{invoice}; a draft includes usage that has arrived since."""
    return _fresh(call, call.fetch("invoice", call.args["invoice"]))


def _fresh(call: Call, invoice: Obj) -> Obj:
    if invoicing.rate_again(call, invoice, call.now(invoice)):
        invoicing.keep(call, invoice)
    return invoice


@life.route("GET", "/v1/invoices")
def list_invoices(call: Call) -> Obj:
    """GET /v1/invoices, filtered by `customer` or its account, `subscription`, `status`, how and until when."""
    params = call.params
    call.check_filters(customer="customer", subscription="subscription")
    where = call.given("customer", "customer_account", "status", "collection_method", "due_date")
    if "subscription" in params:
        where["_subscription"] = params["subscription"]
    page = call.page("invoice", where)
    page["data"] = [_fresh(call, invoice) for invoice in page["data"]]
    return page


@life.route("GET", "/v1/invoices/{invoice}/lines")
def lines(call: Call) -> Obj:
    """GET /v1/invoices/{invoice}/lines: every line, in order."""
    invoice = _fresh(call, call.fetch("invoice", call.args["invoice"]))
    return call.page_of(invoice["lines"]["data"], "line_item")


# -- previews ---------------------------------------------------------------------------------------------------------


@life.route("POST", "/v1/invoices/create_preview")
def create_preview(call: Call) -> Obj:
    """POST /v1/invoices/create_preview: the next invoice of a subscription, as it is or after a change.

    It keeps nothing: it works on copies, and redeemed discounts are undone after the answer.
    """
    call.only_show()
    params = call.params
    _check_preview(call)
    details = params.get("subscription_details") or {}
    if params.get("customer_account") and (customer := connect.payer(call, params)) is not None:
        params = {**params, "customer": customer["id"]}
    _override_customer(call, params)
    if params.get("schedule") or params.get("schedule_details"):
        contract, draft, at = subscription_schedules.preview(call, params)
        _calculate(call, contract, params)
        return _of_mode(call, contract, draft, at)
    if params.get("subscription"):
        contract, draft, at = _preview_of_subscription(call, params, details)
    elif details.get("items"):
        contract, draft, at = _preview_of_new(call, params, details)
    else:
        return _preview_of_items(call, params)
    return _of_mode(call, contract, draft, at)


def _of_mode(call: Call, contract: Contract, draft: Draft | None, at: int) -> Obj:
    """The next invoice, or with `preview_mode=recurring` its recurring part: no discounts, no one-time amounts."""
    if not _recurring(call):
        return _shown(call, contract, draft, at)
    contract.subscription["discounts"] = []
    for item in contract.items:
        item["discounts"] = []
    return _shown(call, contract, cycle.recurring(contract), at)


def _recurring(call: Call) -> bool:
    return bool(call.params.get("preview_mode") == "recurring")


def _override_customer(call: Call, params: dict[str, Any]) -> None:
    """`customer_details` instead of the customer's own."""
    if not params.get("customer_details"):
        return
    id = params.get("customer")
    for kind in ("subscription", "schedule"):
        if id is None and params.get(kind):
            noun = "subscription" if kind == "subscription" else "subscription_schedule"
            id = call.fetch(noun, params[kind], param=kind)["customer"]
    if id is None:
        # Stripe's own description does not describe an invoice without a customer.
        raise refuse("not_implemented_param", param="customer_details without a customer")
    customers.override(call, call.fetch("customer", id, param="customer"), params["customer_details"])


def _check_preview(call: Call) -> None:
    params = call.params
    details = params.get("subscription_details") or {}
    phases = (params.get("schedule_details") or {}).get("phases")
    if not any((params.get("subscription"), params.get("schedule"), details.get("items"), phases)) and not (
        params.get("invoice_items")
    ):
        # Reported: there is no preview for a customer alone (https://github.com/stripe/stripe-node/issues/2347).
        raise refuse("preview_of_nothing")
    if details.get("start_date") and not details.get("items"):
        raise refuse("not_implemented_param", param="subscription_details[start_date] without items")
    for other in ("subscription", "subscription_details"):
        for name in ("schedule", "schedule_details"):
            if params.get(name) and params.get(other):
                raise refuse("preview_conflict", param=name, other=other)


def _preview_of_subscription(
    call: Call, params: dict[str, Any], details: dict[str, Any]
) -> tuple[Contract, Draft | None, int]:
    stored = call.fetch("subscription", params["subscription"], param="subscription")
    if details.get("start_date"):
        raise refuse("not_implemented_param", param="subscription_details[start_date] of a subscription that exists")
    if params.get("customer") and params["customer"] != stored["customer"]:
        call.fetch("customer", params["customer"], param="customer")
        raise refuse("subscription_of_other", subscription=stored["id"], customer=params["customer"])
    if stored["status"] in life.ENDED:
        raise refuse("no_upcoming", customer=stored["customer"])
    now = call.now(stored)
    if details.get("resume_at"):
        raise refuse("not_implemented_param", param="subscription_details[resume_at]")
    known = terms.Prices(call, preview=True)
    contract = life.contract_of(call, copied(stored), now, prices=known.read)
    _migrate(contract, details)
    if "discounts" in params:
        # As on an update: prorations are net of them.
        terms.set_discounts(call, contract.subscription, params["discounts"], now)
    terms.set_tax(call, contract.subscription, details, "subscription_details")
    _calculate(call, contract, params)
    _preview_items(call, contract, known, params, now)
    draft = changing.apply(call, contract, known, details, now, "subscription_details")
    if details.get("cancel_now"):
        if details.get("proration_behavior", "create_prorations") != "none":
            cycle.credit_the_rest(contract, now)
            terms.refuse_unclear_prorations(contract)
        return contract, cycle.close(contract, now), now
    if draft is None:
        draft = life.threshold_draft(call, contract, now)
    if draft is not None:
        return contract, draft, now
    at = life.next_bill(contract.subscription, waiting=bool(contract.pending))
    if at is None:
        raise refuse("no_upcoming", customer=stored["customer"])
    return contract, cycle.bill_at(contract, at), at


def _migrate(contract: Contract, details: dict[str, Any]) -> None:
    mode = details.get("billing_mode")
    if mode and mode["type"] != contract.subscription["billing_mode"]["type"]:
        if mode["type"] == "classic":
            raise refuse("migrate_flexible")
        contract.subscription["billing_mode"] = {**contract.subscription["billing_mode"], "type": "flexible"}


def _calculate(call: Call, contract: Contract, params: Mapping[str, Any]) -> None:
    """`automatic_tax` of a preview, in addition to its subscription's taxes."""
    subscription = contract.subscription
    terms.set_tax(call, subscription, {name: params[name] for name in ("automatic_tax",) if name in params})
    rates = [item["tax_rates"] for item in contract.items]
    taxation.refuse_both(subscription["automatic_tax"], subscription["default_tax_rates"], *rates)


def _preview_of_new(call: Call, params: dict[str, Any], details: dict[str, Any]) -> tuple[Contract, Draft | None, int]:
    """The first invoice of a subscription created now."""
    if not params.get("customer"):
        raise refuse("missing", param="customer")
    customer = call.fetch("customer", params["customer"], param="customer")
    known = terms.Prices(call, preview=True)
    terms_of_new = {**details, "currency": params["currency"]} if params.get("currency") else dict(details)
    terms_of_new.pop("metadata", None)
    if "discounts" in params:
        terms_of_new["discounts"] = params["discounts"]
    start = terms_of_new.pop("start_date", None)
    ahead = start is not None and start > call.now(customer)
    if start is not None:
        terms.in_range(start, "subscription_details[start_date]")
    if start is not None and not ahead:
        terms_of_new["backdate_start_date"] = start
    contract = subscriptions.new_contract(
        call, customer, terms_of_new, known, "subscription_details", at=start if ahead else None
    )
    _calculate(call, contract, params)
    now = int(contract.subscription["created"])
    _preview_items(call, contract, known, params, now)
    draft = terms.first_draft(call, contract, now, details.get("proration_behavior", "create_prorations"))
    return contract, draft, now


def _preview_of_items(call: Call, params: dict[str, Any]) -> Obj:
    """An invoice of a customer's pending invoice items alone."""
    if not params.get("customer"):
        raise refuse("missing", param="customer")
    customer = call.fetch("customer", params["customer"], param="customer")
    now = call.now(customer)
    pending, currency = _waiting(call, customer, params)
    known = terms.Prices(call, preview=True)
    pending.extend(
        _preview_item(call, known, entry, customer, currency, now, f"invoice_items[{index}]")
        for index, entry in enumerate(params.get("invoice_items") or ())
    )
    if not pending or _recurring(call):  # invoice items are one-time amounts
        raise refuse("no_upcoming", customer=customer["id"])
    draft = Draft("upcoming", now, now, [line_of_invoice_item(item) for item in pending])
    invoice = _preview_answer(call, customer, currency, draft, now)
    if "automatic_tax" in params:
        invoice["automatic_tax"] = taxation.of_invoice(taxation.automatic_tax(call, params["automatic_tax"]))
    return invoice


def _waiting(call: Call, customer: Obj, params: dict[str, Any], *, included: bool = True) -> tuple[list[Obj], str]:
    """The invoice items that a customer's invoice includes, if any, and its currency, which is theirs."""
    found = call.store.query("invoiceitem", {"customer": customer["id"], "invoice": None}) if included else []
    currency = (params.get("currency") or (found[0]["currency"] if found else customer["currency"]) or "usd").lower()
    return [item for item in found if item["currency"] == currency], currency


def _preview_items(call: Call, contract: Contract, known: terms.Prices, params: dict[str, Any], now: int) -> None:
    """The `invoice_items` of a preview, in addition to pending ones."""
    subscription = contract.subscription
    customer = call.fetch("customer", subscription["customer"])
    for index, entry in enumerate(params.get("invoice_items") or ()):
        contract.pending.append(
            _preview_item(call, known, entry, customer, subscription["currency"], now, f"invoice_items[{index}]")
        )


def _preview_item(
    call: Call, known: terms.Prices, entry: dict[str, Any], customer: Obj, currency: str, now: int, where: str
) -> Obj:
    for name in ("invoiceitem", "tax_behavior", "tax_code"):
        if entry.get(name):
            raise refuse("not_implemented_param", param=f"{where}[{name}]")
    item = invoice_items.described(
        call, known, entry, customer, (entry.get("currency") or currency).lower(), now, where, prefix=where
    )
    invoice_items.set_discounts(call, item, entry.get("discounts"), f"{where}[discounts]", now)
    return item


def _shown(call: Call, contract: Contract, draft: Draft | None, at: int) -> Obj:
    subscription = contract.subscription
    if draft is None:
        raise refuse("no_upcoming", customer=subscription["customer"])
    customer = call.fetch("customer", subscription["customer"])
    return _preview_answer(call, customer, subscription["currency"], draft, at, subscription)


def _preview_answer(
    call: Call, customer: Obj, currency: str, draft: Draft, at: int, subscription: Obj | None = None
) -> Obj:
    id = call.mint("upcoming_in_1", 23)
    invoice = invoicing.compose(call, draft, at, id, customer=customer, currency=currency, subscription=subscription)
    invoice["customer_tax_ids"] = (call.params.get("customer_details") or {}).get("tax_ids", [])
    scheduled = call.params.get("schedule") or call.params.get("schedule_details")
    if "discounts" in call.params and (subscription is None or scheduled) and not _recurring(call):
        _discount(call, invoice, call.params["discounts"], at)
        invoicing.total_up(call, invoice, customer)
    invoice["billing_reason"] = "upcoming"
    if "issuer" in call.params:
        invoice["issuer"] = connect.reference(call, call.params["issuer"], "issuer")
    if "on_behalf_of" in call.params:
        named = call.params["on_behalf_of"]
        invoice["on_behalf_of"] = connect.account(call, named, "on_behalf_of") if named else None
    if subscription is not None and call.store.get("subscription", subscription["id"]) is None:
        # A subscription that does not exist has no id.
        invoice["parent"] = None
        for line in invoice["lines"]["data"]:
            details = line["parent"][line["parent"]["type"]]
            line["parent"] = {**line["parent"], line["parent"]["type"]: {**details, "subscription": None}}
    if invoice["collection_method"] == "charge_automatically":
        invoice["next_payment_attempt"] = at + invoicing.DRAFT_SECONDS
    for line in invoice["lines"]["data"]:
        line["id"] = call.mint("il_tmp_1", 23)
    return invoice


def _discount(call: Call, invoice: Obj, given: Any, now: int) -> None:
    """`discounts` of a whole invoice: instead of its subscription's, which they may name."""
    target = redemption.Target.of(invoice, "invoice", now, minimums=True)
    invoice["discounts"] = redemption.replace(call, target, given, "discounts")
    begun = [id for id in invoice["discounts"] if id not in target.present]
    redemption.check_minimum(call, begun, invoice["currency"], invoice["subtotal"], "discounts")
    invoice["_discounts"] = redemption.active(call, invoice["discounts"], now)


# -- manual invoices --------------------------------------------------------------------------------------------------

#: The parameters of a manual invoice; every other one is refused by name.
_OF_MANUAL: Final = {
    *("collection_method", "currency", "customer", "customer_account", "days_until_due", "description", "expand"),
    *("metadata", "pending_invoice_items_behavior"),
}


@life.route("POST", "/v1/invoices")
def create(call: Call) -> Obj:
    """POST /v1/invoices: a draft for a customer, with the pending invoice items if requested."""
    params = call.params
    for name in sorted(set(params) - _OF_MANUAL):
        raise refuse("not_implemented_param", param=name)
    customer = connect.payer(call, params, status=400)
    if customer is None:
        raise refuse("missing", param="customer")
    sent, days = params.get("collection_method") == "send_invoice", params.get("days_until_due")
    if sent != (days is not None):
        raise refuse("invoice_due_missing" if sent else "invoice_due_charged")
    now = call.now(customer)
    included = params.get("pending_invoice_items_behavior") == "include"
    taken, currency = _waiting(call, customer, params, included=included)
    draft = Draft("manual", now, now, [line_of_invoice_item(item) for item in taken], taken)
    invoice = invoicing.compose(call, draft, now, call.mint("in_1", 23), customer=customer, currency=currency)
    invoice.update(
        auto_advance=False,
        collection_method="send_invoice" if sent else "charge_automatically",
        description=params.get("description") or None,
        due_date=None if days is None else now + 86_400 * days,
        metadata=call.metadata({}),
    )
    invoicing.issue(call, invoice, draft, now)
    return invoice


# -- finalizing, paying, voiding --------------------------------------------------------------------------------------


@life.route("POST", "/v1/invoices/{invoice}/finalize")
def finalize(call: Call) -> Obj:
    """POST /v1/invoices/{invoice}/finalize: ends the draft's hour now."""
    invoice = call.fetch("invoice", call.args["invoice"], param="id")
    if invoice["status"] != "draft":
        raise refuse("invoice_finalized")
    if "auto_advance" in call.params:
        invoice["auto_advance"] = call.params["auto_advance"]
    with_subscription = _Held(call, invoice)
    now = call.now(invoice)
    # Recorded: the request attempts no payment; an invoice that advances automatically is charged an hour later.
    invoicing.finalize(call, invoice, with_subscription.subscription, now, attempt=False)
    charged = invoice["collection_method"] == "charge_automatically"
    if invoice["status"] == "open" and invoice["auto_advance"] and charged:
        invoice["next_payment_attempt"] = now + invoicing.DRAFT_SECONDS
        invoicing.keep(call, invoice)
    with_subscription.keep(now)
    return invoice


@life.route("POST", "/v1/invoices/{invoice}/pay")
def pay(call: Call) -> Obj:
    """POST /v1/invoices/{invoice}/pay: with the default, a payment method, a source, or out of band."""
    params = call.params
    for name in ("forgive", "mandate"):
        if params.get(name):
            raise refuse("not_implemented_param", param=name)
    invoice = call.fetch("invoice", call.args["invoice"], param="id")
    if invoice["status"] == "paid":
        raise refuse("invoice_paid")
    if invoice["status"] == "void":
        raise refuse("invoice_not_open")
    held = _Held(call, invoice)
    now = call.now(invoice)
    if invoice["status"] == "draft":
        invoicing.finalize(call, invoice, held.subscription, now, attempt=False)
    if invoice["status"] != "paid":
        _collect(call, invoice, held.subscription, now)
    invoicing.keep(call, invoice)
    held.keep(now)
    return invoice


def _collect(call: Call, invoice: Obj, subscription: Obj | None, now: int) -> None:
    if call.params.get("paid_out_of_band"):
        invoicing.settle_paid(call, invoice, subscription, now, out_of_band=True)
        return
    given, source = call.params.get("payment_method"), call.params.get("source")
    if given and source:
        raise refuse("only_one", param="source", names="payment_method, source")
    customer = call.store.get("customer", invoice["customer"])
    if customer is None or customer.get("deleted"):
        raise refuse("invoice_customer_gone")
    if given:
        method: str | None = cards.attach(call, customer, given, "payment_method")
    elif source:
        method = cards.of_customer(call, customer, source, "source")
    else:
        method = invoicing.payment_method(call, invoice, subscription)
    if method is None:
        raise refuse("no_payment_method")
    refusal = invoicing.refusal_of(call, method)
    if refusal is not None:
        raise refuse(refusal)
    invoice["attempted"] = True
    invoice["attempt_count"] += 1
    invoicing.settle_paid(call, invoice, subscription, now)


@life.route("POST", "/v1/invoices/{invoice}/void")
def void(call: Call) -> Obj:
    """POST /v1/invoices/{invoice}/void: an open invoice is no longer owed."""
    invoice = call.fetch("invoice", call.args["invoice"], param="id")
    if invoice["status"] == "paid":
        raise refuse("invoice_void_paid")
    if invoice["status"] not in ("open", "uncollectible"):
        raise refuse("invoice_not_open")
    held = _Held(call, invoice)
    now = call.now(invoice)
    invoicing.void(call, invoice, held.subscription, now)
    invoicing.keep(call, invoice)
    held.keep(now)
    return invoice


class _Held:
    """An invoice's subscription, while the invoice may change it; stores it if it did."""

    def __init__(self, call: Call, invoice: Obj) -> None:
        self._call = call
        id = invoice["_subscription"]
        self.subscription = None if id is None else call.store.get("subscription", id)
        self._before = copied(self.subscription)

    def keep(self, now: int) -> None:
        """Store the subscription and record what changed."""
        if self.subscription is None or self.subscription == self._before:
            return
        life.updated(self._call, self.subscription, self._before, now)
