"""Subscriptions: create, retrieve, update, list, cancel, migrate. Search is in `search.py`."""

from __future__ import annotations

from typing import Any, Final

from . import (
    amounts,
    changing,
    connect,
    customers,
    invoicing,
    life,
    payment_settings,
    prebilling,
    spec,
    taxation,
    terms,
    versions,
)
from .billing import cycle
from .billing.cycle import Contract, Draft
from .billing.periods import Anchor, Interval, anchor_from_config
from .errors import refuse, within
from .router import Call
from .store import Through, copied
from .wire import Obj

_NOT_CANCELED: Final = ("active", "incomplete", "incomplete_expired", "past_due", "paused", "trialing", "unpaid")
#: Parameters that can be updated while the first payment is still due.
_OF_INCOMPLETE: Final = {
    *("cancellation_details", "default_payment_method", "default_source", "description", "expand", "metadata"),
    *("off_session", "payment_settings"),
}
_ANCHOR_CONFIG: Final = ("day_of_month", "month", "hour", "minute", "second")


@life.route("POST", "/v1/subscriptions")
def create(call: Call) -> Obj:
    """POST /v1/subscriptions."""
    params = call.params
    customer = connect.payer(call, params)
    if customer is None:
        raise refuse("missing", param="customer")
    if params.get("payment_behavior") == "pending_if_incomplete":
        raise refuse("pending_if_incomplete_create")
    contract = new_contract(call, customer, params, terms.Prices(call))
    return begin(call, contract, params)


def begin(call: Call, contract: Contract, params: dict[str, Any], *, hold: bool = False) -> Obj:
    """Bill the beginning of a new subscription and store it. `hold` keeps its first invoice a draft (schedules)."""
    subscription = contract.subscription
    now = int(subscription["created"])
    customer = call.fetch("customer", subscription["customer"])
    customer["currency"] = subscription["currency"]
    call.store.put(customer)
    draft = terms.first_draft(call, contract, now, params.get("proration_behavior", "create_prorations"))
    _first_payment(call, contract, draft, params.get("payment_behavior", "allow_incomplete"), now, hold=hold)
    life.keep(call, contract, event="customer.subscription.created", at=now)
    return subscription


def _first_payment(
    call: Call, contract: Contract, draft: Draft | None, payment_behavior: str, now: int, *, hold: bool
) -> None:
    """Bill the beginning. A subscription that is charged begins when its first invoice is paid, or incomplete."""
    if draft is None:
        return
    subscription = contract.subscription
    if hold or subscription["collection_method"] == "send_invoice":
        life.bill(call, contract, draft, now, hold=True)
        return
    if invoicing.compose_for(call, subscription, draft, now)["amount_due"] == 0:
        life.bill(call, contract, draft, now, hold=False)
        return
    method = invoicing.payment_method(call, None, subscription)
    if payment_behavior == "default_incomplete":
        subscription["status"] = "incomplete"
        life.bill(call, contract, draft, now, hold=False, attempt=False)
        return
    if method is None:
        raise refuse("no_payment_method")
    if payment_behavior == "error_if_incomplete":
        _refuse_uncharged(call, method)
    subscription["status"] = "incomplete"
    life.bill(call, contract, draft, now, hold=False)


def _refuse_uncharged(call: Call, method: str) -> None:
    """`error_if_incomplete`: refuse a subscription that cannot be charged within the request."""
    refusal = invoicing.refusal_of(call, method)
    if refusal == "action_required":
        raise refuse("subscription_action_required")
    if refusal is not None:
        raise refuse(refusal)


def new_contract(
    call: Call, customer: Obj, params: dict[str, Any], known: terms.Prices, prefix: str = "", *, at: int | None = None
) -> Contract:
    """A subscription from create parameters, not yet billed and not stored; previews begin here too.

    `at` is when it begins: a schedule's first phase can begin in the past or in the future.
    """
    now = call.now(customer) if at is None else at
    given = params.get("items")
    if not given:
        raise refuse("missing", param=within(prefix, "items"))
    subscription = empty(call, customer, params, now)
    items = [
        terms.new_item(
            call,
            entry,
            known.find(entry, where),
            subscription["id"],
            now,
            where,
            held=(entry.get("tax_rates") or ()) if known.archived else (),
        )
        for entry, where in _named(given, prefix)
    ]
    for item, (entry, where) in zip(items, _named(given, prefix), strict=True):
        terms.set_trial(call, known, item, entry, now, where)
    first = known.get(items[0]["price"])
    currency = params.get("currency") or first["currency"]
    subscription["currency"] = amounts.currency(currency, within(prefix, "currency"))
    terms.check_customer_currency(call, customer, subscription["currency"])
    subscription["items"]["data"] = items
    terms.check_items(known, subscription, items)
    terms.plain_fields(call, subscription, params)
    terms.check_thresholds(call, known, subscription, items, prefix, within(prefix, "items"))
    subscription["_stirred"] = now
    terms.set_tax(call, subscription, params, prefix, planned=known.archived)
    terms.check_tax(call, known, subscription, items)
    _dates(call, subscription, params, items, known, now, prefix)
    terms.set_discounts(call, subscription, params.get("discounts"), now, new=True)
    for item, (entry, where) in zip(items, _named(given, prefix), strict=True):
        terms.set_item_discounts(call, subscription, item, entry, now, where, new=True)
    contract = life.contract_of(call, subscription, now, prices=known.read)
    if any(map(cycle.in_trial, items)):
        terms.check_trials(call, contract, params, {item["id"] for item in items}, prefix)
        cycle.show_trials(contract, now)
    # The parameters below can refer to the first periods, so those are set first.
    for item in items:
        item["current_period_end"] = subscription["trial_end"] if contract.trialing else contract.next_end(item, now)
    terms.add_invoice_items(call, contract, known, params.get("add_invoice_items") or (), now, "add_invoice_items")
    if params.get("billing_schedules"):
        prebilling.plan(call, contract, params, now, prefix)
    terms.schedule_end(subscription, params, now, prefix)
    prebilling.check_end(subscription, "billing_schedules")
    return contract


def _named(given: list[dict[str, Any]], prefix: str) -> list[tuple[dict[str, Any], str]]:
    return [(entry, f"{within(prefix, 'items')}[{index}]") for index, entry in enumerate(given)]


def empty(call: Call, customer: Obj, params: dict[str, Any], now: int) -> Obj:
    """A subscription with only its customer and its start."""
    id = call.mint("sub_1", 23)
    mode = params.get("billing_mode") or {"type": versions.default_billing_mode(call.version)}
    return {
        **call.head("subscription", id, at=now),
        "automatic_tax": dict(taxation.NO_AUTOMATIC_TAX),
        "billing_cycle_anchor": now,
        "billing_mode": terms.billing_mode(mode, now),
        "billing_schedules": [],
        "cancellation_details": spec.blank("cancellation_details"),
        "collection_method": "charge_automatically",
        "currency": "usd",
        "customer": customer["id"],
        "customer_account": customer.get("customer_account"),
        "default_tax_rates": [],
        "discounts": [],
        "invoice_settings": {**dict.fromkeys(terms.PRINTED), "issuer": {"type": "self"}},
        "items": {"object": "list", "data": [], "has_more": False, "url": f"/v1/subscription_items?subscription={id}"},
        "managed_payments": {"enabled": False},
        "metadata": {},
        "payment_settings": payment_settings.first(),
        "start_date": now,
        "status": "active",
        "test_clock": customer.get("test_clock"),
        "trial_settings": {"end_behavior": dict(terms.TRIAL_END)},
    }


def _dates(
    call: Call, subscription: Obj, params: dict[str, Any], items: list[Obj], known: terms.Prices, now: int, prefix: str
) -> None:
    """Start, trial and anchor of a new subscription."""
    backdate = params.get("backdate_start_date")
    if backdate is not None:
        if backdate > now:
            raise refuse("backdate_future")
        if now - backdate > terms.LONGEST_BACKDATE:
            raise refuse("not_implemented_param", param="backdate_start_date more than five years ago")
        subscription["start_date"] = backdate
        if subscription["billing_mode"]["type"] == "flexible":
            subscription["billing_cycle_anchor"] = backdate
    natural = subscription["billing_cycle_anchor"]
    trial_end = terms.trial_end(params, items, known, now, prefix)
    if trial_end is not None:
        subscription.update(status="trialing", trial_start=now, trial_end=trial_end, billing_cycle_anchor=trial_end)
    shortest = min((Interval.of(known.get(item["price"])["recurring"]) for item in items), key=lambda i: i.length)
    begins = subscription["trial_end"] or now
    config = params.get("billing_cycle_anchor_config")
    anchor = terms.anchor_asked(call, params, prefix)
    if config is not None:
        if anchor is not None:
            both = "billing_cycle_anchor, billing_cycle_anchor_config"
            raise refuse("only_one", param="billing_cycle_anchor_config", names=both)
        subscription["billing_cycle_anchor_config"] = _anchor_config(config, shortest)
        subscription["billing_cycle_anchor"] = anchor_from_config(config, begins, shortest).timestamp
    elif anchor == "unchanged":
        raise refuse("enum", param=within(prefix, "billing_cycle_anchor"), choices="now or a timestamp")
    elif anchor is not None and anchor != "now":
        terms.in_future(anchor, now if backdate is None else backdate, "billing_cycle_anchor")
        latest = Anchor(begins).next_boundary(shortest, begins)
        if anchor > latest:
            raise refuse("anchor_too_late", latest=latest)
        subscription["billing_cycle_anchor"] = anchor
    elif trial_end is not None:
        subscription["_anchor"] = natural
        terms.set_trial_anchor(subscription)
    elif anchor == "now":
        subscription["billing_cycle_anchor"] = now


def _anchor_config(config: dict[str, Any], interval: Interval) -> Obj:
    if interval.unit not in ("month", "year"):
        rule = "it needs prices that bill by the month or the year"
        raise refuse("anchor_config_range", param="billing_cycle_anchor_config", rule=rule)
    if interval.unit == "month" and config.get("month") is not None and interval.count == 1:
        rule = "month needs prices that bill less often than monthly"
        raise refuse("anchor_config_range", param="billing_cycle_anchor_config[month]", rule=rule)
    return {name: config.get(name) for name in _ANCHOR_CONFIG}


# -- reading ----------------------------------------------------------------------------------------------------------


life.retrieves("/v1/subscriptions/{subscription_exposed_id}", "subscription")


@life.route("GET", "/v1/subscriptions")
def list_subscriptions(call: Call) -> Obj:
    """GET /v1/subscriptions: those not canceled, unless `status` says otherwise.

    Like Stripe's, it omits those on a test clock unless the clock or the customer is named.
    """
    params = call.params
    call.check_filters(customer="customer", price="price", test_clock="test_helpers.test_clock")
    where = call.given("customer", "customer_account", "collection_method", "test_clock")
    for name in ("current_period_start", "current_period_end"):
        if name in params:
            where["_" + name.removeprefix("current_")] = params[name]
    if "automatic_tax" in params:
        where["automatic_tax.enabled"] = params["automatic_tax"]["enabled"]
    if not {"customer", "customer_account", "test_clock"} & set(params):
        where["test_clock"] = None
    status = params.get("status")
    if status is None:
        where["status"] = _NOT_CANCELED
    elif status == "ended":
        where["status"] = life.ENDED
    elif status != "all":
        where["status"] = status
    if "price" in params:
        where["id"] = Through("subscription_item", "price", params["price"], names="subscription")
    return call.page("subscription", where)


# -- changing ---------------------------------------------------------------------------------------------------------


@life.route("POST", "/v1/subscriptions/{subscription_exposed_id}")
def update(call: Call) -> Obj:
    """POST /v1/subscriptions/{id}."""
    subscription = call.fetch("subscription", call.args["subscription_exposed_id"])
    return change(call, subscription, call.params)


def change(call: Call, subscription: Obj, params: dict[str, Any]) -> Obj:
    """Update a subscription; subscription items are changed through it as well."""
    if subscription["status"] in life.ENDED:
        if set(params) - {"metadata", "cancellation_details", "expand"}:
            raise refuse("subscription_canceled")
    elif subscription["status"] == "incomplete" and set(params) - _OF_INCOMPLETE:
        raise refuse("subscription_incomplete")
    elif subscription["schedule"] and ({"cancel_at", "cancel_at_period_end"} & set(params)):
        raise refuse("managed_by_schedule", schedule=subscription["schedule"])
    if params.get("payment_behavior") == "pending_if_incomplete":
        raise refuse("not_implemented_param", param="payment_behavior=pending_if_incomplete")
    now = call.now(subscription)
    before = copied(subscription)
    known = terms.Prices(call)
    terms.plain_fields(call, subscription, params)
    if "trial_settings" in params:
        terms.set_trial_anchor(subscription)
    terms.set_tax(call, subscription, params)
    if "discounts" in params:
        terms.set_discounts(call, subscription, params["discounts"], now)
    contract = life.contract_of(call, subscription, now)
    if subscription["status"] in life.ENDED:
        life.changed(call, contract, before, now)
        return subscription
    if contract.trialing and params.get("trial_end") == "now":
        behavior = life.without_payment_method(call, subscription)
        if behavior in ("cancel", "pause"):
            event = life.end_unpaid_trial(call, contract, behavior, now)
            life.keep(call, contract, event=event, at=now)
            return subscription
    draft = changing.apply(call, contract, known, params, now)
    if draft is not None:
        _bill_change(call, contract, draft, params, now)
    life.changed(call, contract, before, now)
    return subscription


def _bill_change(call: Call, contract: Contract, draft: Draft, params: dict[str, Any], now: int) -> None:
    subscription = contract.subscription
    cycle.settled(draft.lines)
    if subscription["collection_method"] == "send_invoice":
        life.bill(call, contract, draft, now, hold=True)
        return
    ends_trial = params.get("trial_end") == "now"
    if (ends_trial or params.get("payment_behavior") == "error_if_incomplete") and draft.total > 0:
        # Recorded: ending a trial without a payment method is refused, and nothing is written.
        method = invoicing.payment_method(call, None, subscription)
        if method is None:
            raise refuse("no_payment_method")
        if not ends_trial:
            _refuse_uncharged(call, method)
    life.bill(call, contract, draft, now, hold=False)


@life.route("DELETE", "/v1/subscriptions/{subscription_exposed_id}")
def cancel(call: Call) -> Obj:
    """DELETE /v1/subscriptions/{id}: end it now; `invoice_now` bills usage, `prorate` credits unused time."""
    subscription = call.fetch("subscription", call.args["subscription_exposed_id"])
    if subscription["status"] in life.ENDED:
        raise refuse("no_such", status=404, kind="subscription", id=subscription["id"], param="id")
    params = call.params
    if "cancellation_details" in params:
        terms.plain_fields(call, subscription, {"cancellation_details": params["cancellation_details"]})
    end_now(call, subscription, invoice_now=params.get("invoice_now", False), prorate=params.get("prorate", False))
    return subscription


def end_now(call: Call, subscription: Obj, *, invoice_now: bool, prorate: bool) -> None:
    """Cancel a subscription at this moment and store it."""
    now = call.now(subscription)
    contract = life.contract_of(call, subscription, now)
    was_incomplete = subscription["status"] == "incomplete"
    if prorate and not was_incomplete:
        cycle.credit_the_rest(contract, now)
        terms.refuse_unclear_prorations(contract)
    draft = None
    if invoice_now and not was_incomplete:
        draft = cycle.close(contract, now)
    elif not prorate:
        _drop_prorations(call, contract)
    life.end(contract, now, reason="cancellation_requested")
    if was_incomplete:
        _void_first_invoice(call, subscription, now)
    if draft is not None:
        # Recorded: a draft for an hour, like a renewal's, but with the usage known now.
        cycle.settled(draft.lines)
        life.bill(call, contract, draft, now, hold=True)
    _orphan(call, contract)
    _stop_collecting(call, subscription)
    if subscription["schedule"]:
        schedule = call.fetch("subscription_schedule", subscription["schedule"])
        schedule.update(status="canceled", canceled_at=now, current_phase=None, _due=None, _clock_due=None)
        call.store.put(schedule)
        call.event("subscription_schedule.canceled", schedule, now=now)
    life.keep(call, contract, event="customer.subscription.deleted", at=now)


def _drop_prorations(call: Call, contract: Contract) -> None:
    """A cancellation with neither an invoice nor a credit removes pending prorations."""
    kept = []
    for item in contract.pending:
        if item["proration"] and item["parent"] is not None:
            call.store.remove("invoiceitem", item["id"])
        else:
            kept.append(item)
    contract.pending = kept


def _orphan(call: Call, contract: Contract) -> None:
    """Leave the pending invoice items to the customer. Recorded: they no longer name the subscription."""
    for item in contract.pending:
        if item["parent"] is not None:
            item["parent"] = None
            item.pop("proration_details", None)
            call.store.put(item)


def _void_first_invoice(call: Call, subscription: Obj, now: int) -> None:
    invoice = call.store.get("invoice", subscription["latest_invoice"] or "")
    if invoice is not None and invoice["status"] == "open":
        invoicing.void(call, invoice, None, now)
        invoicing.keep(call, invoice)


def _stop_collecting(call: Call, subscription: Obj) -> None:
    """Stripe stops automatic collection of a canceled subscription's finalized invoices."""
    for invoice in call.store.query("invoice", {"_subscription": subscription["id"], "status": "open"}):
        if invoice["auto_advance"]:
            invoice["auto_advance"] = False
            invoicing.keep(call, invoice)


def _cancel_all(call: Call, customer: Obj) -> None:
    """Deleting a customer cancels its subscriptions."""
    life.settle(call)
    for subscription in call.store.query("subscription", {"customer": customer["id"]}):
        if subscription["status"] not in life.ENDED:
            end_now(call, subscription, invoice_now=False, prorate=False)
    for invoice in call.store.query("invoice", {"customer": customer["id"], "status": ("draft", "open")}):
        invoice["auto_advance"], invoice["_overdue"] = False, True
        invoicing.keep(call, invoice)


customers.BEFORE_DELETION.append(_cancel_all)


@life.route("POST", "/v1/subscriptions/{subscription}/migrate")
def migrate(call: Call) -> Obj:
    """POST /v1/subscriptions/{id}/migrate: from classic billing mode to flexible, for good."""
    subscription = call.fetch("subscription", call.args["subscription"])
    if subscription["status"] in life.ENDED:
        raise refuse("migrate_status", state=subscription["status"])
    if subscription["billing_mode"]["type"] == "flexible":
        raise refuse("migrate_flexible")
    if subscription["schedule"]:
        raise refuse("migrate_schedule")
    now = call.now(subscription)
    before = copied(subscription)
    asked = call.params["billing_mode"].get("flexible") or {}
    subscription["billing_mode"] = {
        "type": "flexible",
        "flexible": {"proration_discounts": asked.get("proration_discounts", "included")},
        "updated_at": now,
    }
    life.updated(call, subscription, before, now)
    return subscription
