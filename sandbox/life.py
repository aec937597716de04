"""Subscriptions through time: does what falls due between two moments, in order.

Every object with a future moment keeps it in a private field: `_due` if it follows the sandbox's own clock,
`_clock_due` if its customer is on a test clock. A subscription with billing thresholds names its customer in
`_watched`, and in `_stirred` the moment when its usage next counts differently. `settle` does what is due by the
sandbox's clock; handlers that read or change subscriptions and invoices are registered by `route` here, which calls it
first, so nothing runs in the background and nothing is late.
`advance` does the same for a test clock.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from itertools import count
from typing import Any, Final

from . import invoicing, metering, redemption, router, taxation, usage_totals
from .billing import cycle
from .billing.cycle import Contract, Draft
from .billing.lines import is_metered
from .billing.periods import Anchor, Interval
from .errors import StripeError
from .prices import plan_of
from .router import Call, Handler, Kind, changes, declare_kind
from .store import copied, declare_index, mint
from .wire import Obj

_logger = logging.getLogger("sandbox")

#: A subscription whose first payment is not made expires after this long.
INCOMPLETE_SECONDS: Final = 23 * 3600
#: Stripe: thresholds are not evaluated in the 24 hours before a period ends.
THRESHOLD_REST_SECONDS: Final = 24 * 3600
#: The maximum number of moments (renewals and the like) that one request does.
MOST_MOMENTS: Final = 1000
#: States without any more billing, and one without billing for now.
ENDED: Final = ("canceled", "incomplete_expired")
_DORMANT: Final = (*ENDED, "paused")


def wire(call: Call, subscription: Obj) -> Obj:
    """A subscription in Stripe's shape: its items with their prices, and the plan and quantity of its only item.

    Recorded: Stripe sends those two although its description no longer has them, and with several items the first's
    quantity.
    """
    items = subscription["items"]
    data = [item_wire(call, item) for item in items["data"]]
    shown = {
        **subscription,
        "default_tax_rates": taxation.shown(call, subscription["default_tax_rates"]),
        "items": {**items, "data": data, "total_count": len(data)},
        "plan": data[0].get("plan") if len(data) == 1 else None,
    }
    if data and "quantity" in data[0]:
        shown["quantity"] = data[0]["quantity"]
    return shown


def item_wire(call: Call, item: Obj) -> Obj:
    """A subscription item with its price; a metered one has no quantity."""
    shown = {key: value for key, value in item.items() if key[0] != "_"}
    if shown.get("quantity") is None:
        shown.pop("quantity", None)
    shown.setdefault("current_trial", None)
    if isinstance(item["price"], str):
        price = cycle.own_price(item)
        stored = call.store.get("price", price)
        shown["price"] = call.wire(stored) if stored is not None else price
        if stored is not None:
            shown["plan"] = plan_of(stored)
    shown["tax_rates"] = taxation.shown(call, item["tax_rates"])
    return shown


declare_kind(Kind("subscription", wire=wire))
declare_index("subscription", "customer")
declare_index("subscription", "status")
declare_index("subscription", "test_clock", nulls=True)
for _kind in ("invoice", "subscription", "subscription_schedule"):
    declare_index(_kind, "_due")
    declare_index(_kind, "test_clock", "_clock_due")
for _field in ("_stirred", "_watched"):
    declare_index("subscription", _field)
for _field in ("subscription", "price"):
    declare_index("subscription_item", _field)


# -- contracts --------------------------------------------------------------------------------------------------------


def contract_of(
    call: Call, subscription: Obj, now: int, *, alone: bool = False, prices: dict[str, Obj] | None = None
) -> Contract:
    """A subscription with the invoice items that its next invoice would include: its own and its customer's.

    `now` is when usage is read and invoice items are created. `alone` omits the invoice items; `prices` are those
    already read, and a preview's own.
    """
    pending: list[Obj] = []
    if not alone:
        waiting = call.store.query("invoiceitem", {"customer": subscription["customer"], "invoice": None})
        pending = [
            item
            for item in waiting
            if item["currency"] == subscription["currency"] and _belongs(item, subscription["id"])
        ]
    catalog = invoicing.StoredCatalog(call, now, subscription["currency"], prices)
    return Contract(subscription, pending, catalog, lambda prefix: mint(prefix + "1", 23), now, waiting=len(pending))


def _belongs(item: Obj, subscription_id: str) -> bool:
    parent = item["parent"]
    return parent is None or parent["subscription_details"]["subscription"] == subscription_id


def keep(call: Call, contract: Contract, *, before: Obj | None = None, event: str | None = None, at: int) -> None:
    """Store a subscription and its new pending invoice items, and record the event; `before` is for an update."""
    subscription = contract.subscription
    _plan_pending(subscription, at)
    # In reverse: lists are newest first, and Stripe's show a credit before its debit.
    for item in reversed(contract.pending):
        if call.store.get("invoiceitem", item["id"]) is None:
            call.store.put(item)
            call.event("invoiceitem.created", item, now=at)
    put(call, subscription)
    if event is not None:
        previous = None
        if before is not None:
            previous = changes(wire(call, before), wire(call, subscription))
        if previous is None or previous:
            call.event(event, subscription, previous, now=at)


def changed(call: Call, contract: Contract, before: Obj | None, at: int) -> None:
    """Store a changed subscription (`before` is its old state), and record what changed."""
    keep(call, contract, before=before, event="customer.subscription.updated", at=at)


def updated(call: Call, subscription: Obj, before: Obj | None, at: int) -> None:
    """The same for a subscription whose items bill nothing now."""
    changed(call, contract_of(call, subscription, at, alone=True), before, at)


def put(call: Call, subscription: Obj) -> None:
    """Store a subscription with the moment when it next needs attention, and its items' pointers."""
    watched = subscription["status"] not in ENDED and has_thresholds(subscription)
    subscription["_watched"] = subscription["customer"] if watched else None
    subscription["_stirred"] = subscription.get("_stirred") if watched else None
    invoicing.set_due(subscription, next_due(subscription))
    items = subscription["items"]["data"]
    subscription["_period_start"] = min(item["current_period_start"] for item in items)
    subscription["_period_end"] = min(item["current_period_end"] for item in items)
    known: dict[str, str] = subscription.get("_pointers") or {}
    pointers = {item["id"]: cycle.own_price(item) for item in items}
    subscription["_pointers"] = pointers
    call.store.put(subscription)
    for item in items:
        if known.get(item["id"]) != pointers[item["id"]]:
            pointer = {name: item[name] for name in ("id", "object", "created")}
            call.store.put({**pointer, "subscription": subscription["id"], "price": pointers[item["id"]]})
    for id in known.keys() - pointers.keys():
        call.store.remove("subscription_item", id)


def next_due(subscription: Obj) -> int | None:
    """When a subscription next needs attention; None if never."""
    if subscription["status"] in _DORMANT:
        return None
    if subscription["status"] == "incomplete":
        return int(subscription["created"]) + INCOMPLETE_SECONDS
    moments = _ends(subscription)
    paused = subscription["pause_collection"]
    if paused is not None and paused["resumes_at"] is not None:
        moments.append(paused["resumes_at"])
    moments.extend(
        subscription[name]
        for name in ("next_pending_invoice_item_invoice", "_stirred")
        if subscription.get(name) is not None
    )
    return int(min(moments))


def next_bill(subscription: Obj, *, waiting: bool = False) -> int | None:
    """When a subscription bills next for certain (a threshold cannot be predicted). `waiting`: whether there are
    pending invoice items for the next interval."""
    if subscription["status"] in _DORMANT:
        return None
    if subscription["status"] == "incomplete":
        return next_due(subscription)
    moments = _ends(subscription)
    if waiting and subscription["next_pending_invoice_item_invoice"] is not None:
        moments.append(subscription["next_pending_invoice_item_invoice"])
    return min(moments)


def _ends(subscription: Obj) -> list[int]:
    moments = [int(item["current_period_end"]) for item in subscription["items"]["data"]]
    if subscription["cancel_at"] is not None:
        moments.append(subscription["cancel_at"])
    return moments


# -- invoices ---------------------------------------------------------------------------------------------------------


def bill(call: Call, contract: Contract, draft: Draft, at: int, *, hold: bool, attempt: bool = True) -> Obj:
    """Turn a draft of the cycle into an invoice. `hold` keeps it a draft for an hour; else it is finalized at once."""
    subscription = contract.subscription
    invoice = invoicing.compose_for(call, subscription, draft, at, call.mint("in_1", 23))
    paused = subscription["pause_collection"]
    if paused is not None and paused["behavior"] == "keep_as_draft":
        invoice["auto_advance"], hold = False, True
    if hold and invoice["auto_advance"]:
        invoicing.schedule_finalization(invoice, at)
    invoicing.issue(call, invoice, draft, at)
    cycle.billed(contract, invoice["lines"]["data"])
    _use_up(call, subscription, invoice, at)
    subscription["latest_invoice"] = invoice["id"]
    if not hold:
        invoicing.finalize(call, invoice, subscription, at, attempt=attempt)
    return invoice


def _use_up(call: Call, subscription: Obj, invoice: Obj, at: int) -> None:
    """Remove the discounts that an invoice has used up (a coupon for `once`) and expired ones.

    A proration that is net of a discount uses it too.
    """
    used: set[str] = set()
    for line in invoice["lines"]["data"]:
        given = line["discount_amounts"]
        taken = line["_off"] if "_off" in line else {each["discount"]: each["amount"] for each in given}
        used |= {id for id, amount in taken.items() if amount > 0}
    for holder in (subscription, *subscription["items"]["data"]):
        holder["discounts"] = redemption.expire(call, holder["discounts"], used, at)


def end(contract: Contract, at: int, *, reason: str | None) -> None:
    """Mark a subscription as canceled."""
    subscription = contract.subscription
    subscription["status"] = "canceled"
    subscription["ended_at"] = at
    subscription["canceled_at"] = subscription["canceled_at"] or at
    if reason is not None and subscription["cancellation_details"]["reason"] is None:
        subscription["cancellation_details"]["reason"] = reason


# -- time -------------------------------------------------------------------------------------------------------------


def settle(call: Call) -> None:
    """Do what is due by the sandbox's own clock, in order. Objects on a test clock wait for it to be advanced.

    A jump of years takes several requests, `MOST_MOMENTS` in each, so none of them hangs.
    """
    _walk(call, "_due", call.now(), None)
    # A test clock stands still, but usage still counts.
    for subscription in call.store.query("subscription", {"_stirred": {"gte": 0}, "test_clock": {"gte": ""}}):
        frozen = call.now(subscription)
        if subscription["_stirred"] <= frozen:
            advance(call, subscription["test_clock"], frozen)


def route(method: str, template: str) -> Callable[[Handler], Handler]:
    """Register the handler of an operation whose objects change with time: `settle` runs first."""

    def register(handler: Handler) -> Handler:
        def settled(call: Call) -> Obj:
            settle(call)
            return handler(call)

        router.route(method, template, writes=True)(settled)
        return handler

    return register


def retrieves(template: str, kind: str) -> None:
    """Register `GET` of a path that names an object of a kind; `settle` runs first."""
    router.retrieves(template, kind, route)


def advance(call: Call, test_clock: str, until: int) -> None:
    """Do what is due on a test clock up to `until`, in order."""
    _walk(call, "_clock_due", until, test_clock)


def _walk(call: Call, field: str, until: int, test_clock: str | None) -> None:
    """Do one moment after another. If one fails, do all again, each in a savepoint: savepoints cost SQLite more with
    every moment, and are rarely needed."""
    if _earliest(call, field, until, test_clock) is None:
        return
    connection = call.store.connection
    connection.execute("SAVEPOINT walk")
    try:
        _moments(call, field, until, test_clock, _handle)
    except StripeError:
        connection.execute("ROLLBACK TO walk")
        _moments(call, field, until, test_clock, _step)
    finally:
        connection.execute("RELEASE walk")


def _moments(call: Call, field: str, until: int, test_clock: str | None, do: Callable[[Call, Obj, int], None]) -> None:
    for _ in range(MOST_MOMENTS) if test_clock is None else count():
        found = _earliest(call, field, until, test_clock)
        if found is None:
            break
        do(call, found, found[field])


def _earliest(call: Call, field: str, until: int, test_clock: str | None) -> Obj | None:
    """The object with the earliest moment; invoices first, before anything that may bill at the same moment."""
    found: list[tuple[int, int, Obj]] = []
    column = f"json_extract(body, '$.\"{field}\"')"
    for order, kind in enumerate(("invoice", "subscription_schedule", "subscription")):
        sql = f"SELECT body, {column} FROM objects WHERE scope = ? AND kind = '{kind}' AND {column} <= ?"
        values: list[Any] = [call.store.scope, until]
        if test_clock is not None:
            sql += " AND json_extract(body, '$.\"test_clock\"') = ?"
            values.append(test_clock)
        row = call.store.connection.execute(f"{sql} ORDER BY {column}, seq LIMIT 1", values).fetchone()
        if row is not None:
            found.append((row[1], order, json.loads(row[0])))
    return min(found, key=lambda entry: entry[:2])[2] if found else None


def _step(call: Call, found: Obj, at: int) -> None:
    """Do what is due on an object. On failure, undo and log it and do not retry: it must not stop every later
    request."""
    connection = call.store.connection
    connection.execute("SAVEPOINT moment")
    try:
        _handle(call, found, at)
    except StripeError as problem:
        connection.execute("ROLLBACK TO moment")
        _logger.error("%s at %d was not done: %s", found["id"], at, problem.message)
        stored = call.store.get(found["object"], found["id"])
        assert stored is not None
        stored["_due"] = stored["_clock_due"] = None
        call.store.put(stored)
    finally:
        connection.execute("RELEASE moment")


def _handle(call: Call, found: Obj, at: int) -> None:
    if found["object"] == "invoice":
        _invoice_step(call, found, at)
    elif found["object"] == "subscription":
        _subscription_step(call, found, at)
    else:
        STEPS[found["object"]](call, found, at)


#: Handlers for kinds in modules above this one: functions of (call, object, moment) by kind.
STEPS: dict[str, Callable[[Call, Obj, int], None]] = {}


def _invoice_step(call: Call, invoice: Obj, at: int) -> None:
    subscription = None
    if invoice["_subscription"] is not None:
        subscription = call.store.get("subscription", invoice["_subscription"])
    before = copied(subscription)
    if invoice["status"] == "draft":
        invoicing.finalize(call, invoice, subscription, at)
    elif invoice["next_payment_attempt"] is not None:
        invoicing.charge(call, invoice, subscription, at)
        invoicing.keep(call, invoice)
    else:
        invoice["_overdue"] = True
        invoicing.keep(call, invoice)
        call.event("invoice.overdue", invoice, now=at)
        if subscription is not None and subscription["status"] == "active":
            subscription["status"] = "past_due"
    if subscription is not None and before is not None and subscription != before:
        updated(call, subscription, before, at)


def _subscription_step(call: Call, subscription: Obj, at: int) -> None:
    before = copied(subscription)
    contract = contract_of(call, subscription, at)
    event = "customer.subscription.updated"
    if subscription["status"] == "incomplete":
        _give_up(call, subscription, at)
    elif subscription["status"] in _DORMANT:
        pass  # an earlier version of the sandbox stored a moment in a paused subscription
    elif subscription["cancel_at"] is not None and subscription["cancel_at"] <= at:
        draft = cycle.close(contract, at)
        end(contract, at, reason="cancellation_requested")
        if draft is not None:
            bill(call, contract, draft, at, hold=True)
        event = "customer.subscription.deleted"
    elif cycle.trial_over(contract, at):
        event = _end_trial(call, contract, at)
    elif cycle.renewal_due(contract) <= at:
        renew(call, contract, at)
    elif (subscription["pause_collection"] or {}).get("resumes_at") == at:
        subscription["pause_collection"] = None
    elif subscription["next_pending_invoice_item_invoice"] == at:
        _bill_pending(call, contract, at)
    else:
        draft = threshold_draft(call, contract, at)
        if draft is not None:
            bill(call, contract, draft, at, hold=True)
        subscription["_stirred"] = _next_stir(call, contract, at)
    keep(call, contract, before=None if event.endswith("deleted") else before, event=event, at=at)


# -- between two renewals ---------------------------------------------------------------------------------------------


def has_thresholds(subscription: Obj) -> bool:
    """Whether a subscription or one of its items has billing thresholds."""
    items = subscription["items"]["data"]
    return bool(subscription["billing_thresholds"] or any(item.get("billing_thresholds") for item in items))


def threshold_draft(call: Call, contract: Contract, at: int) -> Draft | None:
    """Bill accrued usage that has reached a threshold; else change nothing and return None.

    Compares amounts as Stripe does: usage that no invoice has billed, less discounts, without taxes
    (https://docs.stripe.com/billing/subscriptions/usage-based/thresholds).
    """
    subscription = contract.subscription
    if subscription["status"] not in ("active", "past_due") or not has_thresholds(subscription):
        return None
    if cycle.renewal_due(contract) - at < THRESHOLD_REST_SECONDS:
        return None
    amount_gte = (subscription["billing_thresholds"] or {}).get("amount_gte")
    if amount_gte is not None and _accrued_amount(call, contract, at) < amount_gte:
        amount_gte = None
    reached = {
        item["id"]: item["billing_thresholds"]["usage_gte"]
        for item in contract.items
        if item.get("billing_thresholds")
        and cycle.used_since_billed(contract, item, at) >= item["billing_thresholds"]["usage_gte"]
    }
    if amount_gte is None and not reached:
        return None
    draft = cycle.bill_accrued(contract, at)
    if draft is not None:
        draft.threshold = {"amount_gte": amount_gte, "items": reached}
    return draft


def _accrued_amount(call: Call, contract: Contract, at: int) -> int:
    subscription = contract.subscription
    lines = [line for _, lines in cycle.accrued(contract, at) for line in lines]
    draft = Draft("subscription_threshold", at, at, lines)
    shown = invoicing.compose_for(call, subscription, draft, at)
    return sum(
        line["amount"] - sum(given["amount"] for given in line["discount_amounts"]) for line in shown["lines"]["data"]
    )


def _next_stir(call: Call, contract: Contract, at: int) -> int | None:
    meters = {contract.price(item)["recurring"]["meter"] for item in contract.items if is_metered(contract.price(item))}
    if not meters or not has_thresholds(contract.subscription):
        return None
    return usage_totals.next_change(call.store, sorted(meters), contract.subscription["customer"], at)


def _stir(call: Call, counted: dict[str, int]) -> None:
    """Schedule a check of subscriptions with thresholds for when their customers' usage begins to count."""
    for customer, moment in counted.items():
        # One by one: for several at once, SQLite scans all subscriptions.
        for subscription in call.store.query("subscription", {"_watched": customer}):
            stirred = subscription["_stirred"]
            if stirred is None or moment < stirred:
                subscription["_stirred"] = moment
                put(call, subscription)


metering.ON_USAGE.append(_stir)


def _plan_pending(subscription: Obj, at: int) -> None:
    """Set when pending invoice items are billed next, counted from the anchor; again if it or the interval changes."""
    every = None if subscription["status"] in ENDED else subscription["pending_invoice_item_interval"]
    if every is None:
        subscription["next_pending_invoice_item_invoice"] = subscription["_pending_plan"] = None
        return
    plan = [subscription["billing_cycle_anchor"], every["interval"], every["interval_count"]]
    if subscription.get("_pending_plan") != plan:
        subscription["_pending_plan"] = plan
        subscription["next_pending_invoice_item_invoice"] = Anchor(plan[0]).next_boundary(Interval.of(every), at)


def _bill_pending(call: Call, contract: Contract, at: int) -> None:
    """Invoice the pending items, as creating an invoice for the subscription would; None if there are none."""
    subscription = contract.subscription
    draft = cycle.take_pending(contract, "automatic_pending_invoice_item_invoice", at)
    if draft is not None:
        bill(call, contract, draft, at, hold=True)
    every = Interval.of(subscription["pending_invoice_item_interval"])
    anchor = Anchor(subscription["billing_cycle_anchor"])
    subscription["next_pending_invoice_item_invoice"] = anchor.next_boundary(every, at)


def renew(call: Call, contract: Contract, at: int, after: list[Obj] | None = None) -> None:
    """Begin the next period, with the items of `after` if given, and bill it."""
    draft = cycle.renew(contract, at, after=after)
    if draft is not None:
        bill(call, contract, draft, at, hold=True)


def without_payment_method(call: Call, subscription: Obj) -> str | None:
    """What `trial_settings` say for a trial that ends without a payment method; None if there is one."""
    if subscription["collection_method"] != "charge_automatically":
        return None
    if invoicing.payment_method(call, None, subscription) is not None:
        return None
    settings = (subscription["trial_settings"] or {}).get("end_behavior") or {}
    return str(settings.get("missing_payment_method", "create_invoice"))


def _end_trial(call: Call, contract: Contract, at: int) -> str:
    behavior = without_payment_method(call, contract.subscription)
    if behavior in ("cancel", "pause"):
        return end_unpaid_trial(call, contract, behavior, at)
    renew(call, contract, at)
    return "customer.subscription.updated"


def end_unpaid_trial(call: Call, contract: Contract, behavior: str, at: int) -> str:
    """End a trial without a payment method: cancel or pause, as `trial_settings` say. Returns the event's type.

    Usage at a trial offer's price is still billed.
    """
    subscription = contract.subscription
    draft = None if subscription["status"] == "trialing" else cycle.close(contract, at)
    whole, planned = contract.trialing, subscription["trial_end"]
    if whole:
        subscription["trial_end"] = at
    cycle.leave_trials(contract, at)
    if behavior == "cancel":
        # Recorded: the same reason as for a requested cancellation.
        end(contract, at, reason="cancellation_requested")
    else:
        subscription["status"] = "paused"
        if whole:
            # Recorded: nothing remains of a trial that is ended early.
            for item in contract.items:
                item["current_period_end"] = at
            if subscription["billing_cycle_anchor"] == planned:
                subscription["billing_cycle_anchor"] = at
    if draft is not None:
        bill(call, contract, draft, at, hold=True)
    return "customer.subscription.deleted" if behavior == "cancel" else "customer.subscription.paused"


def _give_up(call: Call, subscription: Obj, at: int) -> None:
    """Void a first invoice that stayed unpaid for 23 hours; the subscription expires."""
    subscription["status"] = "incomplete_expired"
    subscription["ended_at"] = at
    invoice = call.store.get("invoice", subscription["latest_invoice"] or "")
    if invoice is not None and invoice["status"] == "open":
        invoicing.void(call, invoice, None, at)
        invoicing.keep(call, invoice)
