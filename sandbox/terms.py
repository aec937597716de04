"""The terms of a subscription: its items, their prices and its other parameters, validated as Stripe does.

Creating, updating, previewing and scheduling subscriptions all read their parameters with these functions.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final

from . import cards, connect, payment_settings, prices, redemption, taxation, versions
from .billing import cycle
from .billing.cycle import Contract, Draft
from .billing.lines import invoice_item, is_metered
from .billing.periods import Interval
from .billing.rating import rate, total
from .errors import refuse, within
from .router import LAST_MOMENT, Call, assign
from .store import copied
from .wire import Obj

LONGEST_TRIAL: Final = prices.MOST_TRIAL_DAYS * 86_400
LONGEST_BACKDATE: Final = 5 * 366 * 86_400
#: https://docs.stripe.com/billing/subscriptions/backdating
MOST_BACKDATED_LINES: Final = 250
#: The lowest monetary threshold, in minor units of any currency.
LEAST_THRESHOLD: Final = 50
#: A year at most (https://docs.stripe.com/api/subscriptions/create).
LONGEST_PENDING: Final = {"day": 365, "week": 52, "month": 12, "year": 1}
#: The default of `trial_settings[end_behavior]`; recorded.
TRIAL_END: Final = {"billing_cycle_anchor": "now", "missing_payment_method": "create_invoice"}
#: The invoice settings of a subscription or a phase.
PRINTED: Final = ("account_tax_ids", "custom_fields", "description", "footer")


# -- items ------------------------------------------------------------------------------------------------------------


class Prices:
    """Prices by id for one request; `price_data` becomes a price, stored unless the request is a preview."""

    def __init__(self, call: Call, *, preview: bool = False, archived: bool = False) -> None:
        """`archived` accepts archived prices too: what was planned while they were active continues."""
        self._call = call
        self._preview = preview
        self.archived = archived
        #: The prices that this request has read, and those of a preview's `price_data`, which exist only here.
        self.read: dict[str, Obj] = {}

    def find(self, given: Mapping[str, Any], where: str, *, recurring: bool = True) -> Obj:
        """The price that an item names or describes, active and of the right type."""
        if given.get("price_data"):
            return self._described(given["price_data"], f"{where}[price_data]")
        # Prices used to be called plans; the ids are the same.
        name = "price" if given.get("price") else "plan"
        if given.get(name):
            return self.of_id(given[name], where, name, recurring=recurring)
        if not given.get("current_trial"):
            raise refuse("item_price", param=where)
        # Its own price is then the one that it moves to.
        named = f"{where}[current_trial][trial_offer]"
        offer = self._call.fetch("product_catalog.trial_offer", _trial_offer(given), param=named, status=400)
        return self.of_id(offer["end_behavior"]["transition"]["price"], where)

    def of_id(self, id: str, where: str, name: str = "price", *, recurring: bool = True) -> Obj:
        """The price with an id, active and of the right type."""
        price = self._of_id(id, param=f"{where}[{name}]", status=400)
        if not price["active"] and not self.archived:
            raise refuse("price_inactive", param=f"{where}[price]")
        product = self._call.fetch("product", price["product"])
        if not product["active"] and not self.archived:
            raise refuse("product_inactive", product=product["id"], price=price["id"])
        if recurring and price["recurring"] is None:
            raise refuse("price_one_time", param=f"{where}[price]")
        if not recurring and price["recurring"] is not None:
            raise refuse("price_recurring", param=f"{where}[price]")
        return price

    def get(self, id: str) -> Obj:
        """A price by id, whatever its state."""
        return self._of_id(id)

    def _of_id(self, id: str, **refusal: Any) -> Obj:
        if id not in self.read:
            self.read[id] = self._call.fetch("price", id, **refusal)
        return self.read[id]

    def _described(self, data: Mapping[str, Any], where: str) -> Obj:
        call = self._call
        product = call.fetch("product", data["product"], param=f"{where}[product]", status=400)
        params = {**data, "product": product["id"]}
        if not self._preview:
            # Stripe makes such prices inactive: they serve only this subscription.
            return prices.new_price(call, {**params, "active": False}, product["id"])
        prices.check_sold(product, params)
        price = {
            **call.head("price", prices.new_id(call)),
            "active": False,
            "lookup_key": None,
            "metadata": {},
            "nickname": None,
            "product": product["id"],
            "tax_behavior": data.get("tax_behavior", "unspecified"),
            **prices.price_shape(call, params, where),
        }
        self.read[price["id"]] = price
        return price


def new_item(
    call: Call,
    given: Mapping[str, Any],
    price: Obj,
    subscription_id: str,
    at: int,
    where: str,
    held: Sequence[str] = (),
) -> Obj:
    """A subscription item from a request; `held` are tax rates that may be inactive by now."""
    item: Obj = {
        "id": call.mint("si_", 14),
        "object": "subscription_item",
        "billing_thresholds": item_thresholds(given.get("billing_thresholds")),
        "created": at,
        "current_period_start": at,
        "current_period_end": at,
        "discounts": [],
        "metadata": call.metadata({}, given.get("metadata") or {}),
        "price": price["id"],
        "quantity": _quantity(given, price, where, 1),
        "subscription": subscription_id,
        "tax_rates": taxation.chosen(call, given.get("tax_rates"), f"{where}[tax_rates]", held),
        "_usage_from": at,
        "_debits": [],
    }
    return item


def _quantity(given: Mapping[str, Any], price: Obj, where: str, otherwise: int | None) -> int | None:
    if is_metered(price):
        if "quantity" in given:
            raise refuse("metered_quantity", param=f"{where}[quantity]", item=where)
        return None
    quantity = given.get("quantity", 1 if otherwise is None else otherwise)
    if quantity < 0:
        raise refuse("negative_quantity", param=f"{where}[quantity]")
    return int(quantity)


def items_after(
    call: Call, known: Prices, subscription: Obj, given: Sequence[Mapping[str, Any]], at: int, where: str = "items"
) -> list[Obj]:
    """A subscription's items after an update: changed by id, removed with `deleted`, added without an id."""
    after: list[Obj] = copied(subscription["items"]["data"])
    for index, entry in enumerate(given):
        named = f"{where}[{index}]"
        item = next((item for item in after if item["id"] == entry.get("id")), None)
        if entry.get("id") and item is None:
            raise refuse("item_unknown", id=entry["id"], param=f"{named}[id]")
        if entry.get("deleted"):
            if item is None:
                raise refuse("missing", param=f"{named}[id]")
            check_clear_usage(subscription, entry, f"{named}[clear_usage]")
            after.remove(item)
            continue
        if item is None:
            item = new_item(call, entry, known.find(entry, named), subscription["id"], at, named)
            after.append(item)
        else:
            change_item(call, known, item, entry, named)
        set_trial(call, known, item, entry, at, named)
        set_item_discounts(call, subscription, item, entry, at, named)
    if not after:
        raise refuse("last_item")
    return after


def check_clear_usage(subscription: Obj, given: Mapping[str, Any], param: str) -> None:
    """`clear_usage` of a removed item. In classic mode it has no effect, because every price here has a meter."""
    if given.get("clear_usage") and subscription["billing_mode"]["type"] == "flexible":
        raise refuse("clear_usage", param=param)


def change_item(call: Call, known: Prices, item: Obj, entry: Mapping[str, Any], where: str) -> None:
    """Change one item in place."""
    named = entry.get("price") or entry.get("plan")
    if (named or entry.get("price_data")) and named != cycle.own_price(item):
        if cycle.in_trial(item):
            # Whether the trial then ends or continues is not documented.
            raise refuse("not_implemented_param", param=f"{where}[price] of an item in the time of a trial offer")
        item["price"] = known.find(entry, where)["id"]
        # Stripe: "When changing a subscription item's price, `quantity` is set to 1 unless a `quantity` is provided."
        item["quantity"] = None
    price = known.get(item["price"])
    item["quantity"] = _quantity(entry, price, where, item["quantity"])
    if "metadata" in entry:
        item["metadata"] = call.metadata(item["metadata"], entry["metadata"])
    if "billing_thresholds" in entry:
        item["billing_thresholds"] = item_thresholds(entry["billing_thresholds"])
    if "tax_rates" in entry:
        item["tax_rates"] = taxation.chosen(call, entry["tax_rates"], f"{where}[tax_rates]", item["tax_rates"])


def set_trial(call: Call, known: Prices, item: Obj, entry: Mapping[str, Any], at: int, where: str) -> None:
    """`current_trial` of an item: from now on it bills the trial offer's price.

    https://docs.stripe.com/billing/subscriptions/trials
    """
    if not entry.get("current_trial"):
        return
    named = f"{where}[current_trial][trial_offer]"
    offer = call.fetch("product_catalog.trial_offer", _trial_offer(entry), param=named, status=400)
    if not offer["active"]:
        raise refuse("trial_offer_archived", param=named, offer=offer["id"])
    if cycle.in_trial(item):
        # Stripe: the length of a trial cannot be changed.
        raise refuse("trial_offer_runs", param=named, item=item["id"], end=item["current_trial"]["end_date"])
    if is_metered(known.get(item["price"])) != is_metered(known.get(offer["price"])):
        raise refuse("not_implemented_param", param=f"{named} of another usage_type than the item's price")
    for id in (offer["price"], offer["end_behavior"]["transition"]["price"]):
        known.of_id(id, where)
    cycle.put_in_trial(item, offer, known.get(offer["price"]), at)
    in_range(item["current_trial"]["end_date"], named)


def _trial_offer(entry: Mapping[str, Any]) -> str:
    return str(entry["current_trial"]["trial_offer"])


def prices_of(known: Prices, item: Obj) -> list[Obj]:
    """The price that an item bills, and during a trial offer also its own and the one that follows."""
    held = item["_trial"].values() if cycle.in_trial(item) else ()
    return [known.get(id) for id in dict.fromkeys([item["price"], *held])]


def check_trials(
    call: Call, contract: Contract, params: Mapping[str, Any], begun: Collection[str], prefix: str = ""
) -> None:
    """Refuse what trial offers do not allow or do not document; `begun` are the items that begin one now.

    https://docs.stripe.com/billing/subscriptions/trials#limitations
    """
    subscription = contract.subscription
    if not any(map(cycle.in_trial, contract.items)):
        return
    named = within(prefix, "current_trial")
    legacy = [name for name in ("trial_end", "trial_from_plan", "trial_period_days") if params.get(name)]
    if legacy:
        raise refuse("trial_offer_legacy", param=within(prefix, legacy[0]))
    if not contract.flexible:
        raise refuse("trial_offer_classic", param=within(prefix, "billing_mode"))
    strange = {
        "of a paused subscription": subscription["status"] == "paused",
        "of a subscription that a schedule manages": subscription["schedule"],
        "beside billing_cycle_anchor": anchor_asked(call, params, prefix) not in (None, "unchanged")
        or params.get("billing_cycle_anchor_config"),
        "beside backdate_start_date": params.get("backdate_start_date"),
        "beside billing_schedules": subscription["billing_schedules"] or params.get("billing_schedules"),
        "beside billing_thresholds that reset the anchor": (subscription["billing_thresholds"] or {}).get(
            "reset_billing_cycle_anchor"
        ),
    }
    for what, there in strange.items():
        if there and (begun or what.startswith("beside")):
            raise refuse("not_implemented_param", param=f"{named} {what}")


def item_thresholds(given: Any) -> Obj | None:
    """An item's `billing_thresholds` as Stripe keeps it; an empty string removes it."""
    return {"usage_gte": given["usage_gte"]} if given else None


def thresholds(given: Any, present: Obj | None = None) -> Obj | None:
    """A subscription's or phase's `billing_thresholds`; Stripe's own example changes one of the two and keeps the
    other (https://docs.stripe.com/billing/subscriptions/usage-based/thresholds). An empty string removes both."""
    if not given:
        return None
    return {"amount_gte": None, "reset_billing_cycle_anchor": False, **(present or {}), **given}


def check_thresholds(
    call: Call, known: Prices, held: Mapping[str, Any], items: Sequence[Obj], prefix: str = "", where: str = "items"
) -> None:
    """Refuse thresholds of a subscription or phase and its items that Stripe does not allow.

    At least 50 of the smallest unit, and more than the flat fees of the metered items
    (https://docs.stripe.com/billing/subscriptions/usage-based/thresholds); a threshold cannot reset the anchor if
    usage is the last value, as Stripe's reference says about `aggregate_usage=last_ever`.
    """
    whole = held["billing_thresholds"] or {}
    param = within(prefix, "billing_thresholds")
    metered = [price for price in (known.get(item["price"]) for item in items) if is_metered(price)]
    if whole.get("amount_gte") is not None:
        flat = sum(total(price, 0) for price in metered)
        if whole["amount_gte"] < LEAST_THRESHOLD or whole["amount_gte"] <= flat:
            raise refuse("threshold_amount", param=f"{param}[amount_gte]", least=max(LEAST_THRESHOLD, flat + 1))
    for index, item in enumerate(items):
        if item["billing_thresholds"] is not None and not is_metered(known.get(item["price"])):
            raise refuse("threshold_licensed", param=f"{where}[{index}][billing_thresholds]")
    if whole.get("reset_billing_cycle_anchor"):
        for price in metered:
            meter = call.fetch("billing.meter", price["recurring"]["meter"])
            if meter["default_aggregation"]["formula"] == "last":
                raise refuse("threshold_reset_last", param=f"{param}[reset_billing_cycle_anchor]")


def check_items(
    known: Prices, subscription: Obj, items: Sequence[Obj], present: Sequence[Obj] = (), where: str = "items"
) -> None:
    """The rules between items: no price twice, one currency, compatible intervals.

    `present` are the items before a change: Stripe refuses an item added to them in different words.
    """
    here = {item["id"] for item in present}
    seen: dict[str, str] = {}
    intervals: list[Interval] = []
    for index, item in enumerate(items):
        for price in prices_of(known, item):
            holder = seen.setdefault(price["id"], item["id"])
            if holder != item["id"]:
                if holder in here:
                    raise refuse("price_on_other_item", price=price["id"], item=holder)
                raise refuse("same_price_twice", price=price["id"])
            currency = subscription["currency"]
            if currency not in {price["currency"], *(price.get("currency_options") or {})}:
                if present:
                    raise refuse("other_currency", own=price["currency"], currency=currency)
                named = f"{where}[{index}][price]"
                raise refuse("mixed_currencies", own=price["currency"], currency=currency, param=named)
        # A trial offer has its own periods: a week's trial can be combined with a monthly fee.
        lasting = item["_trial"]["next"] if cycle.in_trial(item) else item["price"]
        intervals.append(Interval.of(known.get(lasting)["recurring"]))
    if len(set(intervals)) == 1:
        return
    if subscription["billing_mode"]["type"] == "classic":
        raise refuse("mixed_intervals")
    shortest = min(intervals, key=lambda interval: interval.length)
    if not all(shortest.divides(interval) for interval in intervals):
        raise refuse("uneven_intervals")


def check_customer_currency(call: Call, customer: Obj, currency: str) -> None:
    """A customer is billed in one currency at a time."""
    for other in call.store.query("subscription", {"customer": customer["id"], "currency": {"ne": currency}}):
        if other["status"] not in ("canceled", "incomplete_expired"):
            raise refuse("customer_currency", currency=other["currency"])


def add_invoice_items(
    call: Call,
    contract: Contract,
    known: Prices,
    given: Sequence[Mapping[str, Any]],
    at: int,
    where: str,
    *,
    planned: bool = False,
) -> None:
    """One-time prices for the next invoice of a contract.

    Items that a schedule `planned` may name tax rates that have become inactive since.
    """
    subscription = contract.subscription
    for index, entry in enumerate(given):
        named = f"{where}[{index}]"
        held = (entry.get("tax_rates") or ()) if planned else ()
        rates = taxation.chosen(call, entry.get("tax_rates"), f"{named}[tax_rates]", held)
        taxation.refuse_both(subscription["automatic_tax"], rates)
        price = known.find(entry, named, recurring=False)
        quantity = entry.get("quantity", 1)
        product = call.fetch("product", price["product"])
        charge = rate(price, quantity)[0]
        taxation.refuse_conflicts(call, subscription["currency"], [(price, rates or subscription["default_tax_rates"])])
        id = contract.new_id("ii_")
        whole = subscription_target(subscription, at)
        target = dataclasses.replace(whole, on={"invoice_item": id}, present=(), inherited=whole.present)
        period, named_for = _added_period(contract, entry.get("period") or {}, at, f"{named}[period]")
        made = invoice_item(
            id=id,
            of=subscription,
            amount=charge.amount,
            description=product["name"],
            date=at,
            period=period,
            quantity=quantity,
            price=price,
            unit_amount=charge.unit_amount,
            discountable=entry.get("discountable", True),
            discounts=redemption.replace(call, target, entry.get("discounts"), f"{named}[discounts]"),
            metadata=call.metadata({}, entry.get("metadata") or {}),
            tax_rates=rates,
        )
        if named_for:
            made["_period"] = named_for
        contract.pending.append(made)


def period_of(given: Mapping[str, Any], where: str) -> Obj:
    """The `period` of an added invoice item as requested: each bound has a `type`, and its instant if it is one."""
    period: Obj = {}
    for half, usual in (("start", "max_item_period_start"), ("end", "min_item_period_end")):
        chosen = given.get(half) or {"type": usual}
        period[half] = {"type": chosen["type"]}
        if chosen["type"] == "timestamp":
            if chosen.get("timestamp") is None:
                raise refuse("missing", param=f"{where}[{half}][timestamp]")
            period[half]["timestamp"] = in_range(chosen["timestamp"], f"{where}[{half}][timestamp]")
    return period


def _added_period(
    contract: Contract, given: Mapping[str, Any], at: int, where: str
) -> tuple[tuple[int, int], dict[str, str]]:
    """The `period` of an added invoice item as far as it is known, and for each bound the period that defines it.

    If the periods of the items define it, the same request may still change them: `cycle.name_period` sets it later.
    """
    asked = period_of(given, where)
    named = {half: chosen["type"] for half, chosen in asked.items() if chosen["type"] not in ("timestamp", "now")}
    known = (asked["start"].get("timestamp", at), asked["end"].get("timestamp", at))
    start, end = cycle.named_period(contract, named, known)
    if start > end:
        raise refuse("period_order", param=where)
    return (start, end), named


# -- everything else --------------------------------------------------------------------------------------------------


def collection(subscription: Obj, params: Mapping[str, Any]) -> None:
    """`collection_method` and `days_until_due`, which need each other."""
    if "collection_method" in params:
        subscription["collection_method"] = params["collection_method"]
    if "days_until_due" in params:
        subscription["days_until_due"] = params["days_until_due"]
    if subscription["collection_method"] == "send_invoice":
        if subscription["days_until_due"] is None:
            raise refuse("days_until_due_missing")
    elif params.get("days_until_due") is not None:
        raise refuse("days_until_due_charged")
    else:
        subscription["days_until_due"] = None


def set_tax(
    call: Call, subscription: Obj, params: Mapping[str, Any], prefix: str = "", *, planned: bool = False
) -> None:
    """`default_tax_rates` and `automatic_tax`: they change later bills and prorate nothing.

    `planned` terms continue with rates that are inactive by now.
    """
    if "default_tax_rates" in params:
        given, where = params["default_tax_rates"], within(prefix, "default_tax_rates")
        held = given if planned else subscription["default_tax_rates"]
        subscription["default_tax_rates"] = taxation.chosen(call, given, where, held)
    if "automatic_tax" in params:
        where = within(prefix, "automatic_tax")
        subscription["automatic_tax"] = taxation.automatic_tax(call, params["automatic_tax"], where)


def check_tax(call: Call, known: Prices, subscription: Obj, items: Sequence[Obj]) -> None:
    """The rules between the taxes of a subscription, of its items and of their prices."""
    default = subscription["default_tax_rates"]
    taxation.refuse_both(subscription["automatic_tax"], default, *(item["tax_rates"] for item in items))
    borne = [(price, item["tax_rates"] or default) for item in items for price in prices_of(known, item)]
    taxation.refuse_conflicts(call, subscription["currency"], borne)


def billing_mode(asked: Mapping[str, Any], at: int) -> Obj:
    """`billing_mode` of a subscription or a schedule."""
    mode: Obj = {"type": asked["type"], "updated_at": at}
    if asked["type"] == "flexible":
        # Stripe's answer to a request without it shows `included`, recorded on 2026-08-26.dahlia.
        chosen = (asked.get("flexible") or {}).get("proration_discounts", "included")
        mode["flexible"] = {"proration_discounts": chosen}
    elif asked.get("flexible"):
        raise refuse("unknown", param="billing_mode[flexible]")
    return mode


def plain_fields(call: Call, subscription: Obj, params: Mapping[str, Any]) -> None:
    """Parameters that are stored and shown but do not change a bill."""
    collection(subscription, params)
    assign(subscription, params, "description")
    if "metadata" in params:
        subscription["metadata"] = call.metadata(subscription["metadata"], params["metadata"])
    connect.set_parties(call, subscription, params)
    for name, change in _PLAIN.items():
        if name in params:
            subscription[name] = change(call, subscription, params[name])


def _payment_method(call: Call, subscription: Obj, given: str) -> str | None:
    customer = call.fetch("customer", subscription["customer"])
    return cards.attach(call, customer, given, "default_payment_method") if given else None


def _source(call: Call, subscription: Obj, given: str) -> str | None:
    customer = call.fetch("customer", subscription["customer"])
    return cards.of_customer(call, customer, given, "default_source") if given else None


def _invoice_settings(call: Call, subscription: Obj, given: Mapping[str, Any]) -> Obj:
    settings = dict(subscription["invoice_settings"])
    assign(settings, given, *PRINTED)
    if "issuer" in given:
        settings["issuer"] = connect.reference(call, given["issuer"], "invoice_settings[issuer]")
    return settings


def _cancellation_details(call: Call, subscription: Obj, given: Mapping[str, Any]) -> Obj:
    details = dict(subscription["cancellation_details"])
    assign(details, given, "comment", "feedback", "feedback_option")
    return details


def _pause_collection(call: Call, subscription: Obj, given: Any) -> Obj | None:
    if not given:
        return None
    if given.get("resumes_at") is not None:
        in_range(given["resumes_at"], "pause_collection[resumes_at]")
    return {"behavior": given["behavior"], "resumes_at": given.get("resumes_at")}


def _pending_interval(call: Call, subscription: Obj, given: Any) -> Obj | None:
    if not given:
        return None
    return duration(given, LONGEST_PENDING, "pending_invoice_item_interval")


#: How fields of a subscription change: functions of (call, subscription, what was given).
_PLAIN: Final[Mapping[str, Callable[[Call, Obj, Any], Any]]] = {
    "default_payment_method": _payment_method,
    "default_source": _source,
    "invoice_settings": _invoice_settings,
    "payment_settings": lambda call, held, given: payment_settings.changed(held["payment_settings"], given),
    "billing_thresholds": lambda call, held, given: thresholds(given, held["billing_thresholds"]),
    "pending_invoice_item_interval": _pending_interval,
    "trial_settings": lambda call, held, given: {"end_behavior": {**TRIAL_END, **given["end_behavior"]}},
    "pause_collection": _pause_collection,
    "cancellation_details": _cancellation_details,
}


def set_trial_anchor(subscription: Obj) -> None:
    """Let a running trial end with the anchor of the new `trial_settings`."""
    offered = any(map(cycle.in_trial, subscription["items"]["data"]))
    if subscription["status"] == "trialing" and not offered and "_anchor" in subscription:
        kept = cycle.keeps_anchor(subscription)
        subscription["billing_cycle_anchor"] = subscription["_anchor"] if kept else subscription["trial_end"]
        if not kept:
            subscription["billing_cycle_anchor_config"] = None


def subscription_target(subscription: Obj, now: int, *, new: bool = False) -> redemption.Target:
    """A subscription as a target of discounts. Discounts of a `new` one apply from its start, even if backdated
    (https://docs.stripe.com/billing/subscriptions/backdating, "Backdating and discounts")."""
    begins = subscription["start_date"] if new else None
    return redemption.Target.of(subscription, "subscription", now, minimums=new, begins=begins)


def set_discounts(
    call: Call, subscription: Obj, given: Any, now: int, where: str = "discounts", *, new: bool = False
) -> None:
    """`discounts` of a subscription: the whole new list; a kept discount is named by its id, coupon or code.

    Codes with a minimum amount are for `new` subscriptions, whose first invoice is then checked.
    """
    target = subscription_target(subscription, now, new=new)
    subscription["discounts"] = redemption.replace(call, target, given, where)


def item_target(subscription: Obj, item: Obj, now: int, *, new: bool = False) -> redemption.Target:
    """A subscription item as a target of discounts; it may reuse the subscription's discounts."""
    whole, on = subscription_target(subscription, now, new=new), {"subscription_item": item["id"]}
    return dataclasses.replace(whole, on=on, present=item["discounts"], inherited=whole.present, minimums=False)


def set_item_discounts(
    call: Call, subscription: Obj, item: Obj, given: Mapping[str, Any], now: int, where: str, *, new: bool = False
) -> None:
    """`discounts` of a subscription item, which apply before the subscription's own; `new` is the subscription."""
    if "discounts" in given:
        target = item_target(subscription, item, now, new=new)
        item["discounts"] = redemption.replace(call, target, given["discounts"], f"{where}[discounts]")


def first_draft(call: Call, contract: Contract, now: int, proration_behavior: str) -> Draft | None:
    """Check what a new subscription first bills: not too many lines if it is backdated, and enough for its promotion
    codes; nothing in a trial."""
    subscription = contract.subscription
    draft = cycle.begin(contract, now, proration_behavior)
    if draft is not None and subscription["start_date"] < now and len(draft.lines) > MOST_BACKDATED_LINES:
        raise refuse("backdate_lines", most=MOST_BACKDATED_LINES, count=len(draft.lines))
    amount = 0 if draft is None else draft.total
    redemption.check_minimum(call, subscription["discounts"], subscription["currency"], amount, "discounts")
    return draft


def refuse_unclear_prorations(contract: Contract) -> None:
    """Stripe's documentation contradicts itself about an `amount_off` over several items in classic billing mode."""
    if contract.unclear:
        raise refuse(
            "not_implemented_param",
            param="proration_behavior (prorating several items in classic billing mode under a coupon with amount_off; "
            "pass none)",
        )


def duration(given: Mapping[str, Any], longest: Mapping[str, int], where: str) -> Obj:
    """An `interval` and its `interval_count`, 1 by default; `longest` has the maximum of each."""
    count, most = given.get("interval_count", 1), longest[given["interval"]]
    if not 1 <= count <= most:
        raise refuse("out_of_range", param=f"{where}[interval_count]", rule=f"1 to {most}")
    return {"interval": given["interval"], "interval_count": count}


def in_range(value: int, param: str) -> int:
    """A valid instant: from 1970 to the end of the century."""
    if not 0 <= value < LAST_MOMENT:
        raise refuse("timestamp_range", param=param)
    return value


def in_future(value: int, now: int, param: str) -> int:
    """An instant that must not have passed."""
    if value <= now:
        raise refuse("in_the_past", param=param)
    return in_range(value, param)


def trial_end(params: Mapping[str, Any], items: Sequence[Obj], known: Prices, now: int, prefix: str = "") -> int | None:
    """When the requested trial ends; None without one. `now` ends one at once, and returns None too."""
    given = params.get("trial_end")
    if given is not None and params.get("trial_period_days") is not None:
        raise refuse("only_one", param=within(prefix, "trial_end"), names="trial_end, trial_period_days")
    if params.get("trial_from_plan") and (given is not None or params.get("trial_period_days") is not None):
        raise refuse("trial_from_plan_alone")
    if given == "now":
        return None
    if given is not None:
        if int(given) <= now:
            raise refuse("time_past", param=within(prefix, "trial_end"), value=given)
        end = in_range(int(given), within(prefix, "trial_end"))
    elif params.get("trial_period_days"):
        end = now + 86_400 * int(params["trial_period_days"])
    elif params.get("trial_from_plan"):
        days = [(known.get(item["price"])["recurring"] or {}).get("trial_period_days") or 0 for item in items]
        if not max(days, default=0):
            return None
        end = now + 86_400 * max(days)
    else:
        return None
    if end - now > LONGEST_TRIAL:
        asked = "trial_period_days" if params.get("trial_period_days") else "trial_end"
        raise refuse("trial_too_long", param=within(prefix, asked))
    return end


def schedule_end(subscription: Obj, params: Mapping[str, Any], now: int, prefix: str = "") -> bool:
    """`cancel_at` and `cancel_at_period_end`, the earliest of the items' ends; whether they changed."""
    first = min(item["current_period_end"] for item in subscription["items"]["data"])
    if subscription["cancel_at_period_end"]:
        # The end moves together with the period's end.
        subscription["cancel_at"] = first
    before = (subscription["cancel_at"], subscription["cancel_at_period_end"])
    if "cancel_at" in params and params.get("cancel_at_period_end"):
        raise refuse("only_one", param=within(prefix, "cancel_at"), names="cancel_at, cancel_at_period_end")
    if params.get("cancel_at_period_end"):
        subscription.update(cancel_at=first, cancel_at_period_end=True)
    elif "cancel_at" in params:
        end = _cancel_at(subscription, params["cancel_at"], now, within(prefix, "cancel_at"))
        subscription.update(cancel_at=end, cancel_at_period_end=False)
    elif "cancel_at_period_end" in params:
        subscription.update(cancel_at=None, cancel_at_period_end=False)
    if before == (subscription["cancel_at"], subscription["cancel_at_period_end"]):
        return False
    asked = subscription["cancel_at"] is not None
    subscription["canceled_at"] = now if asked else None
    reason = "cancellation_requested" if asked else None
    subscription["cancellation_details"] = {**subscription["cancellation_details"], "reason": reason}
    return True


def _cancel_at(subscription: Obj, given: Any, now: int, param: str) -> int | None:
    """The instant of `cancel_at`, given or defined by the items' periods; "" removes it.

    https://docs.stripe.com/changelog/basil/2025-07-30/cancel-at-enums
    """
    if not given:
        return None
    items = subscription["items"]["data"]
    if given == "max_billed_until":
        times = ("current_period_end", "billed_until", "_bill_until")
        given = max(item.get(name) or 0 for item in items for name in times)
    if given in ("min_period_end", "max_period_end"):
        given = (min if given == "min_period_end" else max)(item["current_period_end"] for item in items)
    return in_future(int(given), now, param)


def anchor_asked(call: Call, params: Mapping[str, Any], prefix: str = "") -> Any:
    """`billing_cycle_anchor`: `now`, `unchanged` or a timestamp. From endive on it is a hash with a `type`, except for
    a new subscription, and before endive it never is.

    https://docs.stripe.com/changelog/endive/2026-09-30/polymorphic-billing-cycle-anchor
    """
    given = params.get("billing_cycle_anchor")
    if given is None:
        return None
    created = not prefix and call.path == "/v1/subscriptions"
    if not created and isinstance(given, Mapping) != (call.version >= versions.ENDIVE):
        wanted = "hash" if call.version >= versions.ENDIVE else "string"
        raise refuse(wanted, param=within(prefix, "billing_cycle_anchor"), value=json.dumps(given))
    if not isinstance(given, Mapping):
        return given
    if given["type"] != "timestamp":
        return given["type"]
    if given.get("timestamp") is None:
        raise refuse("missing", param=within(prefix, "billing_cycle_anchor") + "[timestamp]")
    return given["timestamp"]


def proration_date(contract: Contract, params: Mapping[str, Any], now: int, prefix: str = "") -> int:
    """The instant that prorations start from: `proration_date`, within the present period, or now."""
    given = params.get("proration_date")
    if given is None:
        return now
    start = min(item["current_period_start"] for item in contract.items)
    end = max(item["current_period_end"] for item in contract.items)
    if not start <= given <= end:
        raise refuse("proration_date_range", param=within(prefix, "proration_date"))
    return int(given)
