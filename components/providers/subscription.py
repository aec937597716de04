"""Subscriptions: who pays which prices. https://docs.stripe.com/api/subscriptions

Items are declared as a mapping from a key of the program's choice; the key is in the item's metadata in Stripe, so
that an item is changed, moved to another price or removed as itself, wherever it stands in a list.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from decimal import Decimal
from typing import Any, Final, Literal, NotRequired

from typing_extensions import TypedDict

import money
from components.providers import rules
from components.providers.customer import CUSTOMER
from components.providers.differ import Change, Declarations
from components.providers.errors import ProviderError, differences
from components.providers.fields import KEEP, projected, setting
from components.providers.inventory import OWNER_KEY, StripeObject, owner_of
from components.providers.kind import Kind, Problem
from components.providers.lifecycle import StripeProvider, changes_made
from components.providers.policy import Field
from components.providers.price import PRICE
from components.providers.reconciler import Reconciler
from components.providers.shapes import Map, Path, Struct
from components.providers.values import MISSING, Inputs, decimal_string, decimals, fingerprint, is_unknown


class CancelArguments(TypedDict):
    """How the subscription ends: https://docs.stripe.com/api/subscriptions/cancel"""

    when: NotRequired[Literal["now", "period_end"]]
    invoice_now: NotRequired[bool]
    prorate: NotRequired[bool]
    comment: NotRequired[str]


class OwnArguments(TypedDict):
    owner: str
    cancel: NotRequired[CancelArguments]
    allow_unbilled_usage: NotRequired[bool]


ENDED: Final = ("canceled", "incomplete_expired")
#: Usage until now is billed and nothing is given back; Stripe's own default leaves metered usage unbilled.
CANCEL_DEFAULTS: Final = {"when": "now", "invoice_now": True, "prorate": False}
#: What Stripe does where `trial_settings` say nothing.
TRIAL_END_DEFAULTS: Final = {"missing_payment_method": "create_invoice", "billing_cycle_anchor": "now"}
#: A year, in each interval.
MOST_INTERVALS_BETWEEN_INVOICES: Final = {"day": 365, "week": 52, "month": 12, "year": 1}
#: https://docs.stripe.com/billing/subscriptions/backdating: "more than 250 line items, which is the default limit".
MOST_LINES: Final = 250
#: The longest that each interval lasts, in seconds.
INTERVALS: Final = {"day": 86_400, "week": 7 * 86_400, "month": 31 * 86_400, "year": 366 * 86_400}
QUANTITY_OF_METERED: Final = "has no meaning for a metered price, which bills the usage; leave it out"
#: What Stripe still updates of one that has ended.
UPDATED_WHEN_ENDED: Final = {"metadata", "cancellation_details"}
#: The ways to give an item its price.
SOURCES: Final = ("price", "price_data", "plan")
#: Stripe returns the price that came of them.
UNREADABLE_IN_ITEMS: Final = ("price_data", "plan")
#: Stripe takes these and trial offers for the same thing.
TRIALS: Final = ("trial_end", "trial_from_plan", "trial_period_days")
TRIAL_OFFERS: Final = "/v1/product_catalog/trial_offers"


# -- rules ----------------------------------------------------------------------------------------------------------


def one_customer(inputs: Inputs) -> Iterator[Problem]:
    if not rules.given(inputs, "customer") and not rules.given(inputs, "customer_account"):
        yield ("customer",), "is required: the id of a customer (or customer_account)"


def items(inputs: Inputs) -> Iterator[Problem]:
    declared = inputs.get("items")
    if is_unknown(declared):
        return
    if not isinstance(declared, Mapping) or not declared:
        yield ("items",), 'is required: at least one item by a key of your choice, {"license": {"price": ...}}'
        return
    seen: dict[str, str] = {}
    for key, item in declared.items():
        path: Path = ("items", key)
        if len(key) > 40:
            yield path, f"has a key of {len(key)} characters; at most 40"
        if not isinstance(item, Mapping):
            continue
        sources = [name for name in SOURCES if rules.given(item, name)]
        in_trial = rules.given(item, "current_trial")
        if not sources and not in_trial:
            yield (*path, "price"), "is required: the id of a price (or price_data)"
        elif len(sources) > 1:
            yield (*path, sources[1]), f"excludes {sources[0]}: an item has one price"
        price = item.get("price")
        if isinstance(price, str) and price in seen:
            yield (*path, "price"), f"is that of items.{seen[price]} too; Stripe takes a price once a subscription"
        elif isinstance(price, str):
            seen[price] = key
        yield from _one_discount(item.get("discounts"), (*path, "discounts"))
        if in_trial:
            yield from _trial_alone(inputs, item, (*path, "current_trial"))
        data = item.get("price_data")
        if isinstance(data, Mapping):
            at: Path = (*path, "price_data")
            yield from rules.one_amount(data, at, ("unit_amount", "unit_amount_decimal"))
            if not any(rules.given(data, name) for name in ("unit_amount", "unit_amount_decimal")):
                yield at, "needs unit_amount or unit_amount_decimal"


def _trial_alone(inputs: Inputs, item: Mapping[str, Any], path: Path) -> Iterator[Problem]:
    """https://docs.stripe.com/billing/subscriptions/trials#limitations"""
    if rules.given(item, "price_data"):
        yield path, "excludes price_data: the trial offer says which price comes when it is over"
    if rules.find(inputs, "billing_mode", "type") == "classic":
        yield path, "needs billing_mode type flexible"
    for name in TRIALS:
        if rules.given(inputs, name):
            yield path, f"excludes {name}: Stripe takes one of the two"


def invoice_items(inputs: Inputs) -> Iterator[Problem]:
    for path, item in rules.each(inputs, "add_invoice_items.*"):
        sources = [name for name in ("price", "price_data") if rules.given(item, name)]
        if isinstance(item, Mapping) and len(sources) != 1:
            yield path, "needs one of price and price_data"
        data = rules.find(item, "price_data")
        if data is not None and rules.given(data, "unit_amount") == rules.given(data, "unit_amount_decimal"):
            yield (*path, "price_data"), "needs one of unit_amount and unit_amount_decimal"
        yield from _one_discount(rules.find(item, "discounts"), (*path, "discounts"))


def linked_rules(inputs: Inputs, declaration: Declarations) -> Iterator[Problem]:
    """What the items' prices say, as far as the program declares them and this process has compared them."""
    recurring: list[Any] = []
    for path, item in rules.each(inputs, "items.*"):
        linked = declaration(PRICE, str(rules.find(item, "price")))
        recurring.append(rules.find(linked.arguments if linked else rules.find(item, "price_data"), "recurring"))
        if rules.given(item, "quantity") and _is_metered_by(recurring[-1]):
            yield (*path, "quantity"), QUANTITY_OF_METERED
    customer = declaration(CUSTOMER, str(inputs.get("customer")))
    # On a test clock it is another day.
    if not (customer and customer.arguments.get("test_clock")):
        yield from _backdating(inputs, recurring)


def _is_metered_by(recurring: Any) -> bool:
    return bool(rules.find(recurring, "usage_type") == "metered")


def _backdating(inputs: Inputs, items: list[Any]) -> Iterator[Problem]:
    """In flexible mode the first invoice has a line for each period of each item since then.

    https://docs.stripe.com/billing/subscriptions/backdating
    """
    start = rules.find(inputs, "backdate_start_date")
    classic = rules.find(inputs, "billing_mode", "type") == "classic"
    if not isinstance(start, int) or classic or inputs.get("proration_behavior") == "none":
        return
    lines = 0
    for recurring in items:
        interval, count = rules.find(recurring, "interval"), rules.find(recurring, "interval_count") or 1
        if interval in INTERVALS and isinstance(count, int) and not _is_metered_by(recurring):
            lines += int(time.time() - start) // (INTERVALS[interval] * count)
    if lines > MOST_LINES:
        what = f"makes a first invoice of more than {MOST_LINES} lines, one for each period since then"
        yield ("backdate_start_date",), f"{what}, which is the most that Stripe takes; choose a later date"


def discounts(inputs: Inputs) -> Iterator[Problem]:
    yield from _one_discount(inputs.get("discounts"), ("discounts",))


def _one_discount(values: Any, path: Path) -> Iterator[Problem]:
    for index, each in enumerate(values if isinstance(values, list) else ()):
        names = [name for name in ("coupon", "promotion_code", "discount") if rules.given(each, name)]
        if isinstance(each, Mapping) and len(names) != 1:
            yield (*path, index), "needs one of coupon, promotion_code and discount"


def collection(inputs: Inputs) -> Iterator[Problem]:
    """An invoice that is sent has a due date; a charge has none."""
    method = inputs.get("collection_method", "charge_automatically")
    if method == "send_invoice" and not rules.given(inputs, "days_until_due"):
        yield ("days_until_due",), "is required with collection_method send_invoice"
    if method == "charge_automatically" and rules.given(inputs, "days_until_due"):
        yield ("days_until_due",), "needs collection_method send_invoice"


def billing_mode(inputs: Inputs) -> Iterator[Problem]:
    mode = rules.find(inputs, "billing_mode", "type")
    if mode == "classic" and rules.given(rules.find(inputs, "billing_mode"), "flexible"):
        yield ("billing_mode", "flexible"), "needs type flexible"
    if mode == "classic" and rules.given(inputs, "billing_schedules"):
        yield ("billing_schedules",), "needs billing_mode type flexible"


def fee_percent(inputs: Inputs) -> Iterator[Problem]:
    for path in (("application_fee_percent",), ("transfer_data", "amount_percent")):
        text = decimal_string(rules.find(inputs, *path))
        if text is not None and (text.startswith("-") or decimals(text) > 2 or float(text) > 100):
            yield path, "must be 0 to 100 with at most 2 decimals"
    share = ("transfer_data", "amount_percent")
    if rules.given(inputs, "application_fee_percent") and rules.find(inputs, *share) is not None:
        yield share, "excludes application_fee_percent: they say the same in two ways"


# -- what a change means --------------------------------------------------------------------------------------------


def fill(inputs: Inputs, livemode: bool) -> Inputs:
    cancel = inputs.get("cancel", {})
    return inputs if is_unknown(cancel) else {**inputs, "cancel": {**CANCEL_DEFAULTS, **cancel}}


def comparable(arguments: Inputs) -> Inputs:
    """Stripe keeps a currency in lower case; states of earlier versions have it as it was declared."""
    currency = arguments.get("currency")
    return {**arguments, "currency": currency.lower()} if isinstance(currency, str) else arguments


def computed(outputs: Inputs) -> Inputs:
    known = {
        "currency": outputs.get("billing_currency"),
        "billing_mode": {"type": outputs.get("billing_mode_type")},
        "has_ended": outputs.get("has_ended"),
    }
    return {name: value for name, value in known.items() if value and value != {"type": None}}


def replaces(old: Inputs, new: Inputs, names: set[str]) -> set[str]:
    if "currency" not in old:
        # A state that an older version wrote does not say which one it bills in; the update asks Stripe.
        names = names - {"currency"}
    if any(_resets(each.get("billing_cycle_anchor")) for each in (old, new)):
        names = names - {"billing_cycle_anchor"}
    if "classic" not in (_mode(old), _mode(new)) and _proration_discounts(new) not in (
        None,
        _proration_discounts(old) or "included",
    ):
        # Stripe chooses once how flexible billing shows discounts, when it begins.
        names = names | {"billing_mode"}
    if _mode(old) == "flexible" and _mode(new) == "classic":
        names = names | {"billing_mode"}
    if old.get("has_ended"):
        # Hardly anything of it can be updated any more.
        updated = SUBSCRIPTION.updatable.keys() - UPDATED_WHEN_ENDED - ({"billing_mode"} - new.keys())
        names = names | {name for name in updated if old.get(name) != new.get(name)}
    return names


def warnings(change: Change) -> Iterator[str]:
    olds, old, new, replaces = change.outputs, change.old, change.new, change.replaces
    if replaces and olds.get("has_ended"):
        yield "has ended, and a new subscription is made, with a billing period of its own"
        return
    if replaces:
        trials = sorted(key for key, item in _mapping(new.get("items")).items() if _mapping(item).get("current_trial"))
        anew = f" and the trial of {', '.join(trials)} from its beginning" if trials else ""
        yield (
            f"is cancelled now ({_ending(old)}) and a new subscription made, with a billing period of its "
            f"own{anew}; this cannot be undone"
        )
        return
    if _mode(new) == "flexible" and "classic" in (_mode(old), olds.get("billing_mode_type")):
        yield "billing_mode becomes flexible, which cannot be undone"
    before, after = old.get("items", {}), new.get("items")
    if not isinstance(before, Mapping) or not isinstance(after, Mapping):
        return
    renamed = _renamed(before, after)
    for key, item in sorted(before.items()):
        if key in renamed:
            yield f"item {key} is {renamed[key]} from now on; in Stripe it stays the item that it is"
            continue
        metered = key in (olds.get("metered_items") or ())
        if key not in after:
            yield f"item {key} is removed; {_the_rest(new, metered=metered, classic=_is_classic(olds, new))}"
            continue
        trial = _mapping(after[key]).get("current_trial")
        if _mapping(item).get("current_trial") and not trial:
            yield f"item {key}: its trial stays as it is in Stripe: a trial that was begun runs on"
        if trial and trial != _mapping(item).get("current_trial"):
            continue
        was, now = (each.get("price") if isinstance(each, Mapping) else None for each in (item, after[key]))
        moves_to = change.declaration(PRICE, str(now)) if was != now and not is_unknown(now) else None
        if moves_to:
            # Ids say nothing to a reader. Of a price that is replaced the reader is told once, with the price.
            fate = _the_rest(new, metered=metered, classic=_is_classic(olds, new))
            moves_from = change.declaration(PRICE, str(was))
            yield f"item {key} moves from {moves_from.subject if moves_from else was} to {moves_to.subject}; {fate}"
        # A price that is replaced has no id yet: what it will be is declared under the old one's.
        price, billed = str(was if is_unknown(now) else now), olds.get("billing_currency")
        linked = change.declaration(PRICE, price)
        if linked and (currency := _other_currency(linked.arguments, billed)):
            yield (
                f"item {key}: {linked.subject} is in {currency}, and the subscription bills in {billed}; Stripe "
                f"refuses to mix them: move the item to a price in {billed}, or declare "
                f'currency="{currency}", which makes a new subscription'
            )
    came = {after_key: key for key, after_key in renamed.items()}
    for key, item in sorted(after.items()):
        trial = _mapping(item).get("current_trial")
        if trial and trial != _mapping(before.get(came.get(key, key))).get("current_trial"):
            # Whoever pays the price already pays the trial's again.
            offer = "its trial offer" if is_unknown(_mapping(trial).get("trial_offer")) else _offer_of(trial)
            yield f"item {key} begins a trial: it bills the price of {offer} until that is over"


def refusal(change: Change) -> str | None:
    """A metered item has no quantity; and in classic mode Stripe drops its usage when its price changes in a period.

    https://docs.stripe.com/billing/subscriptions/usage-based/manage-billing-setup
    """
    olds, old, new, replaces = change.outputs, change.old, change.new, change.replaces
    classic = _is_classic(olds, new)
    before, after = old.get("items"), new.get("items")
    for key in olds.get("metered_items") or ():
        declared, was = _mapping(_mapping(after).get(key)), _mapping(_mapping(before).get(key))
        if rules.given(declared, "quantity") and declared.get("price") == was.get("price"):
            return f"items.{key}.quantity: {QUANTITY_OF_METERED}"
    if not classic or new.get("allow_unbilled_usage") or not isinstance(after, Mapping) or replaces:
        return None
    renamed = _renamed(before or {}, after)
    for key in olds.get("metered_items") or ():
        item = after.get(renamed.get(key, key))
        was = (before or {}).get(key, {})
        if item is None or (isinstance(item, Mapping) and was and item.get("price") != was.get("price")):
            return _unbilled_usage(key, removed=item is None)
    return None


def _unbilled_usage(key: str, *, removed: bool) -> str:
    return (
        f"items.{key} is metered and billing_mode is classic, in which Stripe does not bill the usage of this period "
        f"once the item is {'removed' if removed else 'moved to another price'}; set billing_mode="
        '{"type": "flexible"} first, or allow_unbilled_usage=True'
    )


def is_ended(remote: Mapping[str, Any]) -> bool:
    return remote.get("status") in ENDED


def ended_as_declared(known: Inputs, remote: Mapping[str, Any]) -> bool:
    declared = known.get("cancel_at") or known.get("cancel_at_period_end")
    end, ended_at = remote.get("cancel_at"), remote.get("ended_at")
    return bool(declared and is_ended(remote) and end and ended_at and ended_at >= end)


_ONCE: Final = "acts when the subscription is made"
_HOW: Final = "says how a change is made"

#: What Stripe does where an option of a payment method is left out.
PAYMENT_METHOD_DEFAULTS: Final = {
    "acss_debit.verification_method": "automatic",
    "bancontact.preferred_language": "en",
    "card.request_three_d_secure": "automatic",
    "pix.expires_after_seconds": 14_400,
    "us_bank_account.verification_method": "automatic",
}

SUBSCRIPTION = Kind(
    name="Subscription",
    noun="subscription",
    path="/v1/subscriptions",
    create="stripe.params:SubscriptionCreateParams",
    update="stripe.params:SubscriptionUpdateParams",
    own=OwnArguments,
    natural_key="the owner in its metadata",
    when_deleted="Cancelled, as `cancel` says: `when` now or at period_end, `invoice_now` with a last invoice for "
    "usage and prorations, `prorate` with a credit for unused time. The default is now, with a last invoice, without a "
    "credit. One that is replaced is cancelled now, before the new one is made; one whose first payment was never "
    "made is cancelled now too.",
    when_gone="A cancelled or expired subscription is made again; one that ended as `cancel_at` or "
    "`cancel_at_period_end` says is as declared, until the program says something else. Items changed, added or "
    "removed elsewhere show under their key, or under their `si_` id. An item whose key the program renames stays the "
    "item, if its price stays. The trials of one that is made again begin again.",
    fields={
        "add_invoice_items": Field(
            write_only="charged once, when it is declared and again when it changes",
            keep="what was charged is not given back",
        ),
        "application_fee_percent": Field(paid=True),
        "automatic_tax": Field(paid=True, unset_to={"enabled": False}),
        "automatic_tax.liability": Field(unset_to={"type": "self"}),
        "automatic_tax.liability.account": Field(keep="goes with type account"),
        "backdate_start_date": Field(write_only="Stripe returns the start date that came of it", keep=_ONCE),
        "billing_cycle_anchor": Field(
            create_only="an update can only reset it, with {'type': 'now'}, which is done in place",
            write_only="Stripe moves it, at the end of a trial for one",
            keep=_ONCE,
        ),
        "billing_cycle_anchor_config": Field(write_only="Stripe returns the anchor that came of it", keep=_ONCE),
        "billing_mode": Field(
            paid=True,
            in_place="classic to flexible, through Stripe's migrate; there is no way back",
            replaces_when="flexible is to be classic, or to show discounts in another way",
        ),
        "billing_thresholds": Field(paid=True),
        "billing_thresholds.amount_gte": Field(
            keep="Stripe unsets the thresholds together; take billing_thresholds out"
        ),
        "billing_thresholds.reset_billing_cycle_anchor": Field(unset_to=False),
        "cancel_at": Field(drift_from=None),
        "cancel_at_period_end": Field(unset_to=False, drift_from=False),
        "cancellation_details": Field(unset_to={"comment": "", "feedback": "", "feedback_option": ""}),
        "collection_method": Field(paid=True, unset_to="charge_automatically"),
        "currency": Field(paid=True, computed="the prices' own", keep="is the prices' own when it is left out"),
        "customer_account": Field(computed="none", keep="stands for the customer"),
        "days_until_due": Field(paid=True, keep="goes with collection_method"),
        "default_tax_rates": Field(paid=True),
        "discounts": Field(
            paid=True,
            drift="one that is used up leaves by itself, so one that is missing is no drift; one that others add is",
        ),
        "invoice_settings.issuer": Field(unset_to={"type": "self"}),
        "items": Field(paid=True, mapping="by a key of the program's choice"),
        "items.clear_usage": Field(
            excluded="has no effect on prices with a meter, and metered prices have one",
        ),
        "items.current_trial": Field(
            drift="a trial that is over leaves by itself, so one that is missing is no drift; another one is, while it "
            "runs",
            keep="a trial that was begun runs on",
        ),
        "items.deleted": Field(excluded="taking an item out of the program deletes it"),
        "items.id": Field(excluded="the key of the item stands for it"),
        "items.price": Field(
            drift="beside `current_trial` it is declared as the price that the trial offer ends in, or left out; until "
            "then that is what shows"
        ),
        "items.price_data": Field(
            drift="Stripe returns the price that it made; one that says something else shows as `price`"
        ),
        "items.quantity": Field(unset_to=1),
        "off_session": Field(request_option=_HOW),
        "pause_collection": Field(paid=True, drift_from=None),
        "payment_behavior": Field(request_option=_HOW),
        **{
            f"payment_settings.payment_method_options.{path}": Field(unset_to=value)
            for path, value in PAYMENT_METHOD_DEFAULTS.items()
        },
        "payment_settings.save_default_payment_method": Field(unset_to="off"),
        "pending_invoice_item_interval": Field(paid=True),
        "pending_invoice_item_interval.interval_count": Field(unset_to=1),
        "proration_behavior": Field(request_option=_HOW),
        "proration_date": Field(request_option=_HOW),
        "transfer_data": Field(paid=True),
        "trial_end": Field(paid=True, keep='a trial that was begun runs on; end it with trial_end="now"'),
        "trial_from_plan": Field(request_option=_HOW),
        "trial_period_days": Field(write_only="Stripe returns the end of the trial that came of it", keep=_ONCE),
        "trial_settings": Field(unset_to={"end_behavior": TRIAL_END_DEFAULTS}),
        "trial_settings.end_behavior": Field(unset_to=TRIAL_END_DEFAULTS),
        "trial_settings.end_behavior.billing_cycle_anchor": Field(unset_to="now"),
        "trial_settings.end_behavior.missing_payment_method": Field(unset_to="create_invoice"),
    },
    expand=("discounts", "items.data.discounts"),
    advice={
        "no attached payment source": 'Declare collection_method="send_invoice" with days_until_due, or '
        'payment_behavior="default_incomplete", or give the customer a payment method.',
        "No such price": "Link it by the id of a Price: price=price.id.",
        "match the expected currency": "A subscription keeps its currency: declare currency with the prices' own, "
        "which makes a new subscription, or prices in its currency.",
        "No such customer": "Link it by the id of a Customer: customer=customer.id.",
        "price specified is inactive": "Link the item to a price of this program: price=price.id. If it is one, run "
        "pulumi refresh and then up, which makes the price active again.",
        "is marked as inactive": "If the product is of this program, run pulumi refresh and then up, which makes it "
        "active again.",
        "A canceled subscription can only": "Run pulumi refresh, which sees that it has ended, and then up, which "
        "makes a new one.",
        "managed by the subscription schedule": "Release that schedule in Stripe, then run again.",
    },
    outputs={
        "item_ids": "the ids of the items, by key",
        "metered_items": "the keys of the items that are billed by usage",
        "billing_mode_type": "`classic` or `flexible`",
        "billing_currency": "the currency that it bills in",
        "has_ended": "whether it has come to the end that the program declares",
    },
    rules=(
        rules.metadata,
        rules.longest(
            {
                "description": 500,
                "billing_schedules.*.key": 200,
                "invoice_settings.description": 1_500,
                "invoice_settings.custom_fields.*.name": 40,
                "invoice_settings.custom_fields.*.value": 140,
                "payment_settings.payment_method_options.card.mandate_options.description": 200,
                "payment_settings.payment_method_options.upi.mandate_options.description": 20,
            }
        ),
        rules.at_most_items(
            {
                "add_invoice_items": 20,
                "add_invoice_items.*.discounts": 20,
                "discounts": 20,
                "items.*.discounts": 20,
                "invoice_settings.custom_fields": 4,
            }
        ),
        rules.between(
            {
                "items.*.quantity": (0, None),
                "days_until_due": (0, 3650),
                "trial_period_days": (1, rules.LONGEST_TRIAL),
                "billing_cycle_anchor_config.month": (1, 12),
                "billing_cycle_anchor_config.day_of_month": (1, 31),
                "billing_cycle_anchor_config.hour": (0, 23),
                "billing_cycle_anchor_config.minute": (0, 59),
                "billing_cycle_anchor_config.second": (0, 59),
                "payment_settings.payment_method_options.pix.expires_after_seconds": (10, 1_209_600),
            }
        ),
        rules.currencies("currency", "items.*.price_data.currency", "add_invoice_items.*.price_data.currency"),
        rules.intervals("items.*.price_data.recurring"),
        rules.intervals("pending_invoice_item_interval", most=MOST_INTERVALS_BETWEEN_INVOICES),
        rules.exclusive("customer", "customer_account", why="a subscription has one payer"),
        rules.exclusive("trial_end", "trial_period_days", "trial_from_plan", why="they say the same in three ways"),
        rules.exclusive("cancel_at", "cancel_at_period_end", why="they say the same in two ways"),
        rules.exclusive("billing_cycle_anchor", "billing_cycle_anchor_config", why="they say the same in two ways"),
        rules.liability("automatic_tax.liability", "invoice_settings.issuer"),
        one_customer,
        items,
        invoice_items,
        discounts,
        collection,
        billing_mode,
        fee_percent,
    ),
    linked_rules=linked_rules,
    delete_before_replace=True,
    fill=fill,
    comparable=comparable,
    computed=computed,
    replaces=replaces,
    warnings=warnings,
    refusal=refusal,
    gone=is_ended,
    ended_as_declared=ended_as_declared,
)


class Subscriptions(Reconciler):
    # -- create -------------------------------------------------------------------------------------------------

    def listed_apart(self, new: Inputs) -> Iterator[Inputs]:
        customer = self.run.inventory(CUSTOMER).known(str(new.get("customer")))
        if customer is not None and customer.get("test_clock"):
            # Stripe lists the subscriptions of a customer on a test clock only when the customer is named.
            yield {"customer": customer["id"], **self.expanded("data.")}

    def left_behind(self, remote: StripeObject, new: Inputs) -> None:
        """What a run that was cut short has made, and the program then changed in a way that Stripe cannot.

        Raises:
            ProviderError: it goes on, and would bill beside the new one.
        """
        if not remote.get("cancel_at"):
            raise ProviderError(
                f"{self.subject(new)}: {remote['id']} was made for it, is {remote['status']} and has "
                f"{differences(self.different(remote, new))}; a second one would bill beside it: cancel "
                f"{remote['id']} in Stripe, or declare it as it is to take it over, then run again"
            )

    @contextmanager
    def making(self, new: Inputs, found: StripeObject | None) -> Iterator[None]:
        if found is None:
            self._say_what_still_bills(new)
        yield

    def _say_what_still_bills(self, new: Inputs) -> None:
        for remote in self.inventory.owned():
            ours = owner_of(remote) == new["owner"] and self.run.is_in_state(self.kind, remote["id"])
            if ours and self.is_alive(remote, new) and not remote.get("cancel_at"):
                self.run.tell(
                    "warning",
                    f"{self.subject(new)}: a new one is made while {remote['id']} still bills (retain_on_delete, "
                    "delete_before_replace=False, or another resource of this name); cancel it if nothing else does",
                )

    def create_params(self, new: Inputs) -> Inputs:
        params = super().create_params(new)
        if _resets(params.get("billing_cycle_anchor")):
            del params["billing_cycle_anchor"]
        params["items"] = [
            _branded(key, self._begun(key, item, item, new)) for key, item in sorted(new["items"].items())
        ]
        return params

    def unequal_terms(self, remote: StripeObject, new: Inputs) -> dict[str, tuple[Any, Any]]:
        found = super().unequal_terms(remote, new)
        unsaid = {
            "collection_method": remote.get("collection_method") != "charge_automatically",
            "discounts": bool(remote.get("discounts")),
            "pause_collection": bool(remote.get("pause_collection")),
        }
        for name in (name for name, is_set in unsaid.items() if is_set and name not in new):
            found[name] = (self.returned(name, None, remote), MISSING)
        in_trial = any("current_trial" in item for item in new["items"].values())
        if remote.get("status") == "trialing" and not in_trial and not any(name in new for name in TRIALS):
            found["trial_end"] = (remote.get("trial_end"), MISSING)
        anchor = new.get("billing_cycle_anchor")
        # Stripe moves it to the end of a trial.
        if isinstance(anchor, int) and not remote.get("trial_end") and remote.get("billing_cycle_anchor") != anchor:
            found["billing_cycle_anchor"] = (remote.get("billing_cycle_anchor"), anchor)
        return found

    def bill_moves(self, remote: StripeObject, new: Inputs) -> str:
        """What the items that bill by quantity come to, before and after, without tiers, discounts and tax."""
        listed = (self._with_all_items(remote).get("items") or {}).get("data", [])
        declared = _mapping(new.get("items")).values()
        if any(is_unknown(item) or is_unknown(_mapping(item).get("price")) for item in declared):
            return ""
        prices = self.run.inventory(PRICE)
        after = [(prices.read(str(item.get("price"))), item.get("quantity", 1)) for item in declared]
        was, now = recurring([(item.get("price"), item.get("quantity", 1)) for item in listed]), recurring(after)
        return f"what recurs by quantity: {was} => {now}" if was != now else ""

    # -- update -------------------------------------------------------------------------------------------------

    def before_update(
        self, id_: str, old: Inputs, new: Inputs, remote: StripeObject | None
    ) -> tuple[Inputs, StripeObject | None]:
        if "currency" in new and "currency" not in old:
            remote = remote or self.inventory.fetch(id_)
            self._refuse_another_currency(id_, new, remote or {})
        if _mode(new) == "flexible" and old.get("billing_mode") != new.get("billing_mode"):
            remote = remote or self.inventory.fetch(id_)
            if remote is not None and _mode(remote) == "classic":
                remote = self._migrate(id_, new)
        if new.get("add_invoice_items") and new["add_invoice_items"] != old.get("add_invoice_items"):
            remote = self._charge(id_, old, new)
            old = {**old, "add_invoice_items": new["add_invoice_items"]}
        return old, remote

    def _refuse_another_currency(self, id_: str, new: Inputs, remote: StripeObject) -> None:
        """Only a new subscription bills in another currency, and the preview has not announced one.

        Raises:
            ProviderError: the declared currency is another one than Stripe's.
        """
        if remote.get("currency") not in (None, new["currency"]):
            raise ProviderError(
                f"{self.subject(new, id_)}: bills in {remote['currency']}, and currency is {new['currency']}; the "
                "state did not know that: run pulumi refresh, and the next preview shows the new subscription that "
                "this takes"
            )

    def _charge(self, id_: str, old: Inputs, new: Inputs) -> StripeObject:
        """Add to the next invoice, in a call of its own.

        Its key says nothing of the other arguments. So a run that was cut short after it charges nothing twice, even
        if the program changed before the next one.
        """
        params = {"add_invoice_items": new["add_invoice_items"], **self.expanded()}
        return self.post(id_, params, new, fingerprint("charge", changes_made(old)), {})

    def _migrate(self, id_: str, new: Inputs) -> StripeObject:
        params = {"billing_mode": new["billing_mode"], **self.expanded()}
        remote = self.call("post", f"{self.kind.path}/{id_}/migrate", params, subject=self.subject(new, id_)).data
        self.inventory.remember(remote)
        return remote

    def changes(self, id_: str, old: Inputs, new: Inputs) -> Inputs:
        without_items = [{name: value for name, value in each.items() if name != "items"} for each in (old, new)]
        params = super().changes(id_, *without_items)
        if old.get("items") != new.get("items") and (items := self._item_changes(id_, old, new)):
            params["items"] = items
        if params.get("discounts") and old.get("discounts"):
            there = (self.inventory.fetch(id_) or {}).get("discounts") or []
            params["discounts"] = _discount_changes(old["discounts"], new["discounts"], there) or ""
        if {"cancel_at", "cancel_at_period_end"} <= params.keys():
            # Stripe takes one of the two, and setting one unsets the other.
            del params["cancel_at" if params["cancel_at"] == "" else "cancel_at_period_end"]
        anchor = new.get("billing_cycle_anchor")
        if _resets(anchor) and anchor != old.get("billing_cycle_anchor"):
            params["billing_cycle_anchor"] = anchor
        return params

    def _item_changes(self, id_: str, old: Inputs, new: Inputs) -> list[Inputs]:
        """What to send so that the items in Stripe become the declared ones.

        Compared with Stripe's items of this moment: a run that was cut short may have changed some.
        """
        remote = self.inventory.fetch(id_)
        if remote is None:
            raise ProviderError(f"{self.subject(new, id_)}: is gone from Stripe; run pulumi refresh")
        there = self._items(remote, new["items"])
        guarded = _mode(remote) == "classic" and not new.get("allow_unbilled_usage")
        sent: list[Inputs] = []
        for key, item in sorted(new["items"].items()):
            if key not in there:
                sent.append(_branded(key, self._begun(key, item, item, new)))
                continue
            found = there[key]
            before = old.get("items", {})
            change = _item_change(key, found, before.get(key) or before.get(_key_of(found)) or {}, item)
            if "current_trial" in change:
                change = self._begun(key, item, change, new)
            if "quantity" in change and "quantity" not in item and self._will_be_metered(change):
                # Without one it is 1, but a metered item has none at all.
                del change["quantity"]
            if guarded and _is_metered(found) and change.keys() & set(SOURCES):
                raise ProviderError(f"{self.subject(new, id_)}: {_unbilled_usage(key, removed=False)}")
            if change:
                sent.append({"id": found["id"], **change})
        for key, found in sorted(there.items()):
            # What nobody declared is left alone until a refresh has shown it.
            if key not in new["items"] and (key in old.get("items", {}) or _key_of(found)):
                if guarded and _is_metered(found):
                    raise ProviderError(f"{self.subject(new, id_)}: {_unbilled_usage(key, removed=True)}")
                sent.append({"id": found["id"], "deleted": True})
        return sent

    def _begun(self, key: str, item: Mapping[str, Any], sent: Inputs, new: Inputs) -> Inputs:
        """What is `sent` of an item, without its price where it begins a trial: the offer says what it bills and when.

        Raises:
            ProviderError: the declared price is not the one that the offer ends in, so that at the trial's end Stripe
                and the program would part: a later update would move a paying customer back.
        """
        trial = item.get("current_trial")
        lasting = self._lasting_price(_offer_of(trial)) if trial else None
        if lasting is None:
            return sent
        for name in ("price", "plan"):
            if item.get(name, lasting) != lasting:
                raise ProviderError(
                    f"{self.subject(new)}: items.{key}.{name} is {item[name]}, but the trial offer {_offer_of(trial)} "
                    f"ends in {lasting}; declare that, which is the item's price for good, or leave {name} out"
                )
        return {name: value for name, value in sent.items() if name not in SOURCES}

    def _lasting_price(self, offer: str) -> str | None:
        """The price that a trial offer ends in; None where it leaves the item's own."""
        offers = self.run.inventory_at(TRIAL_OFFERS, "trial offer")
        found = offers.known(offer) or offers.fetch(offer) or {}
        ends = found.get("end_behavior") or {}
        price = _id((ends.get("transition") or {}).get("price"))
        return price if isinstance(price, str) else None

    def _will_be_metered(self, change: Inputs) -> bool:
        """Whether an item moves to a price that is billed by usage."""
        if not isinstance(change.get("price"), str):
            return False
        return _is_metered({"price": self.run.inventory(PRICE).read(change["price"])})

    # -- read ---------------------------------------------------------------------------------------------------

    def returned(self, name: str, value: Any, remote: StripeObject) -> Any:
        match name:
            case "items":
                there = self._items(remote, value if isinstance(value, Mapping) else {})
                return {key: _item_projection((value or {}).get(key), item) for key, item in there.items()}
            case "discounts":
                return _discounts(value, remote.get("discounts"))
            case "trial_end" if value == "now":
                return value
            case "cancel_at" if remote.get("cancel_at_period_end"):
                # Stripe says when that will be; it is not another end.
                return MISSING
            case "cancel_at" if isinstance(value, str):
                return value if remote.get("cancel_at") else MISSING
        return super().returned(name, value, remote)

    def outputs(self, arguments: Inputs, remote: StripeObject) -> Inputs:
        there = self._items(remote, arguments.get("items", {}))
        return {
            "item_ids": {key: item["id"] for key, item in sorted(there.items())},
            "metered_items": sorted(key for key, item in there.items() if _is_metered(item)),
            "billing_mode_type": _mode(remote),
            "billing_currency": remote.get("currency"),
            "has_ended": ended_as_declared(arguments, remote),
        }

    def _items(self, remote: StripeObject, declared: Mapping[str, Any]) -> dict[str, StripeObject]:
        """Stripe's items by the program's keys, each with the price that it has for good.

        In a trial that is the price which the trial ends in: what the item shows until then changes by itself.
        """
        listed = (self._with_all_items(remote).get("items") or {}).get("data", [])
        return _items_by_key([self._lasting(item) for item in listed], declared)

    def _lasting(self, item: StripeObject) -> StripeObject:
        running = _running(item)
        lasting = self._lasting_price(_offer_of(running)) if running else None
        return item if lasting is None else {**item, "price": {**item["price"], "id": lasting}}

    def _with_all_items(self, remote: StripeObject) -> StripeObject:
        listed = remote.get("items") or {}
        if not listed.get("has_more"):
            return remote
        params = {"subscription": remote["id"], "expand": ["data.discounts"]}
        pages = self.account.pages("/v1/subscription_items", params, subject=f"items of {remote['id']}")
        everything = {**remote, "items": {"data": [item for page, _ in pages for item in page], "has_more": False}}
        self.inventory.remember(everything)
        return everything

    # -- delete -------------------------------------------------------------------------------------------------

    def remove(self, id_: str, known: Inputs, *, being_replaced: bool) -> StripeObject | None:
        subject = self.subject(known, id_)
        cancel = {**CANCEL_DEFAULTS, **known.get("cancel", {})}
        details = {"cancellation_details": {"comment": cancel["comment"]}} if cancel.get("comment") else {}
        there = None
        if cancel["when"] == "period_end" and not being_replaced:
            there = self.inventory.read(id_, known.get("owner"))
            if there is None or is_ended(there):
                return there
        # One whose first payment was never made has no period to go on to, and Stripe only takes that it ends.
        if there is not None and there.get("status") != "incomplete":
            listed = (there.get("items") or {}).get("data", [])
            # Where the items' periods end at different times, Stripe wants to be told which end is meant.
            together = len({item.get("current_period_end") for item in listed}) < 2
            end = {"cancel_at_period_end": True} if together else {"cancel_at": "max_period_end"}
            params = {**end, **details, **self.expanded()}
            left = self.call("post", f"{SUBSCRIPTION.path}/{id_}", params, subject=subject).data
            self.run.tell("info", f"{subject}: goes on to the end of its period and then ends")
            return left
        how = {"invoice_now": cancel["invoice_now"], "prorate": cancel["prorate"]}
        left = self.call("delete", f"{SUBSCRIPTION.path}/{id_}", {**how, **details}, subject=subject).data
        if not cancel["prorate"] and not being_replaced:
            self._say_what_bills_anew(left, subject)
        return left

    def _say_what_bills_anew(self, left: StripeObject, subject: str) -> None:
        """A resource that is renamed without an alias is another subscription, which a preview cannot know."""
        for begun in self.run.begun(self.kind):
            same = _prices_of(begun) & _prices_of(left)
            if same and _id(begun.get("customer")) == _id(left.get("customer")):
                self.run.tell(
                    "warning",
                    f"{subject}: cancelled, and {begun['id']}, made in this run, bills the same customer for "
                    f"{' and '.join(sorted(same))} from the start of a new period; if it is the same one under another "
                    "name, credit what is billed twice, and rename with aliases in its ResourceOptions next time",
                )


class SubscriptionProvider(StripeProvider):
    kind = SUBSCRIPTION
    reconciler_type = Subscriptions


# -- items ----------------------------------------------------------------------------------------------------------


def _item_struct() -> Struct:
    shape = SUBSCRIPTION.struct.fields["items"].shape
    assert isinstance(shape, Map)
    assert isinstance(shape.item, Struct)
    return shape.item


def _branded(key: str, item: Mapping[str, Any]) -> Inputs:
    return {**item, "metadata": {**item.get("metadata", {}), OWNER_KEY: key}}


def _key_of(item: Mapping[str, Any]) -> str | None:
    key = (item.get("metadata") or {}).get(OWNER_KEY)
    return key if isinstance(key, str) and key else None


def _is_metered(item: Mapping[str, Any]) -> bool:
    return ((item.get("price") or {}).get("recurring") or {}).get("usage_type") == "metered"


def _prices_of(remote: StripeObject) -> set[str]:
    return {item["price"]["id"] for item in (remote.get("items") or {}).get("data", []) if item.get("price")}


def _running(item: Mapping[str, Any]) -> Inputs | None:
    """The trial that an item of Stripe's is in, as the program declares one."""
    trial = item.get("current_trial")
    return {"trial_offer": _id(trial["trial_offer"])} if trial else None


def _offer_of(trial: Any) -> str:
    return str(_mapping(trial).get("trial_offer"))


def _items_by_key(items: list[StripeObject], declared: Mapping[str, Any]) -> dict[str, StripeObject]:
    """Stripe's items by the program's keys: by metadata, else by price, else under their own key or id.

    By price an item is also found whose key the program has renamed: removed and added again it would be prorated,
    and its usage lost.
    """
    found: dict[str, StripeObject] = {}
    rest: list[StripeObject] = []
    for item in items:
        key = _key_of(item)
        if key is not None and key in declared and key not in found:
            found[key] = item
        else:
            rest.append(item)
    for item in rest:
        price, own = (item.get("price") or {}).get("id"), _key_of(item)
        known_by = own if own is not None and own not in found else str(item["id"])
        renamed = (
            name
            for name, each in declared.items()
            if name not in found and isinstance(each, Mapping) and each.get("price") == price
        )
        found[next(renamed, known_by)] = item
    return found


def _renamed(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, str]:
    """The keys that an item has given up for another one, by the old key: its price stays."""
    prices = {
        each["price"]: key
        for key, each in after.items()
        if key not in before and isinstance(each, Mapping) and isinstance(each.get("price"), str)
    }
    return {
        key: prices[each["price"]]
        for key, each in before.items()
        if key not in after and isinstance(each, Mapping) and each.get("price") in prices
    }


def _item_projection(declared: Mapping[str, Any] | None, item: StripeObject) -> Inputs:
    """A declared item as Stripe has it; one that nobody declared with its price and quantity."""
    price = (item.get("price") or {}).get("id")
    quantity = item.get("quantity")
    if declared is None:
        return {"price": price} if quantity is None else {"price": price, "quantity": quantity}
    struct = _item_struct()
    result: Inputs = {}
    for name, value in declared.items():
        there: Any
        match name:
            case "price_data" if not _is_made_of(item.get("price") or {}, value):
                there, result["price"] = MISSING, price
            case _ if name in UNREADABLE_IN_ITEMS:
                there = value
            case "current_trial":
                # Put back, one that is over would begin a second time.
                there = _running(item) or value
            case "discounts":
                there = _discounts(value, item.get("discounts"))
            case _:
                there = projected(struct.fields[name].shape, value, item.get(name))
        if there is not MISSING:
            result[name] = there
    if "quantity" not in declared and quantity not in (None, 1):
        result["quantity"] = quantity
    return result


def _is_made_of(price: Mapping[str, Any], data: Any) -> bool:
    """Whether a price is what these parameters make, as far as both say."""
    if not isinstance(data, Mapping) or not price:
        return True
    recurring, wanted = price.get("recurring") or {}, _mapping(data.get("recurring"))
    pairs = [
        (_id(price.get("product")), data.get("product")),
        (price.get("currency"), data.get("currency")),
        (
            decimal_string(str(price.get("unit_amount_decimal"))),
            decimal_string(data.get("unit_amount_decimal", data.get("unit_amount"))),
        ),
        (recurring.get("interval"), wanted.get("interval")),
        (recurring.get("interval_count"), wanted.get("interval_count", 1)),
    ]
    return all(there == declared for there, declared in pairs)


def _item_change(key: str, found: StripeObject, before: Mapping[str, Any], new: Mapping[str, Any]) -> Inputs:
    """What to send so that one item of Stripe's becomes the declared one."""
    # What is there is read under every name that was or is declared, inside metadata too.
    names = {name: {**_mapping(before.get(name)), **_mapping(new.get(name))} for name in before.keys() & new.keys()}
    there = _item_projection({**before, **new, **{name: each for name, each in names.items() if each}}, found)
    change: Inputs = {}
    for name, field in _item_struct().fields.items():
        old = there.get(name, MISSING) if name in new or name in before else MISSING
        after = new.get(name, MISSING)
        if name in UNREADABLE_IN_ITEMS:
            old = before.get(name, MISSING)
        if name == "current_trial":
            old = after if _running(found) == after else before.get(name, MISSING)
        if name == "discounts":
            # What is there includes whatever is declared, since one that is used up is no drift.
            old = before.get(name, MISSING)
            if (
                old is MISSING
                and [_discount(each) for each in found.get(name) or () if isinstance(each, Mapping)] == after
            ):
                old = after
        # An item has one price however it is given: another way replaces the first, and nothing is to be unset.
        if (
            old == after
            or (name in SOURCES and after is MISSING)
            or (name == "quantity" and after is MISSING and _is_metered(found))
        ):
            continue
        value = setting(f"items.{name}", field, old, after, SUBSCRIPTION.clearing)
        if name == "discounts" and old and after:
            value = _discount_changes(old, after, found.get(name) or []) or ""
        if value is not KEEP:
            change[name] = value
    if _key_of(found) != key:
        change["metadata"] = {**(change.get("metadata") or {}), OWNER_KEY: key}
    return change


def _discounts(declared: Any, remote: Any) -> Any:
    """The declared discounts, and those that somebody else has added.

    A discount that is used up leaves the subscription by itself. So one that is missing is no drift: putting it back
    would give it a second time.
    """
    wanted = list(declared) if isinstance(declared, list) else []
    there = list(remote) if isinstance(remote, list) else []
    # Stripe's ids alone do not tell by which coupon they came; the first ones are the declared ones.
    unnamed = [{"discount": each} for each in there if isinstance(each, str)][len(wanted) :]
    added = [_discount(each) for each in there if isinstance(each, Mapping) and not _names(each, wanted)]
    return [*wanted, *added, *unnamed] or ([] if declared == [] else MISSING)


def _discount(remote: Mapping[str, Any]) -> Inputs:
    if remote.get("promotion_code"):
        return {"promotion_code": _id(remote["promotion_code"])}
    return {"coupon": _id((remote.get("source") or {}).get("coupon") or remote.get("coupon"))}


def _names(remote: Mapping[str, Any], declared: list[Any]) -> bool:
    """Whether one of the declared discounts is this one."""
    return _discount(remote) in declared or {"discount": remote.get("id")} in declared


def _discount_changes(old: list[Any], new: list[Any], remote: list[Any]) -> list[Any]:
    """What to send so that the declared discounts become others: those that stay by their id, used up ones not."""
    sent = []
    for each in new:
        if each not in old or "discount" in each:
            sent.append(each)
        else:
            kept = [_id(there) for there in remote if isinstance(there, Mapping) and _discount(there) == each]
            if not kept and all(isinstance(there, str) for there in remote) and len(remote) > old.index(each):
                kept = [remote[old.index(each)]]
            sent += [{"discount": id_} for id_ in kept[:1]]
    return sent


def recurring(items: Iterable[tuple[Mapping[str, Any] | None, Any]]) -> str:
    """What some prices of Stripe's come to in their quantities: `98.00 USD every month`; metered ones and tiers not."""
    totals: dict[tuple[str, str], Decimal] = defaultdict(Decimal)
    for price, quantity in items:
        terms = (price or {}).get("recurring") or {}
        amount = decimal_string((price or {}).get("unit_amount_decimal"))
        if not price or amount is None or terms.get("usage_type") == "metered" or is_unknown(quantity):
            continue
        count, interval = terms.get("interval_count", 1), terms.get("interval")
        every = f"every {interval}" if count == 1 else f"every {count} {interval}s"
        totals[price["currency"], every] += Decimal(amount) * int(quantity)
    return (
        " and ".join(
            f"{money.format_minor(total, currency)} {every}" for (currency, every), total in sorted(totals.items())
        )
        or "nothing"
    )


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _id(value: Any) -> Any:
    return value.get("id") if isinstance(value, Mapping) else value


def _resets(anchor: Any) -> bool:
    """Whether a `billing_cycle_anchor` resets the period in place: an object since 2026-10-28.endive, a word before."""
    return isinstance(anchor, (str, Mapping))


def _mode(values: Mapping[str, Any]) -> str | None:
    mode = values.get("billing_mode")
    return mode.get("type") if isinstance(mode, Mapping) else None


def _proration_discounts(values: Mapping[str, Any]) -> Any:
    return rules.find(values, "billing_mode", "flexible", "proration_discounts")


def _other_currency(price: Mapping[str, Any], billed: object) -> str | None:
    """The currency of a declared price, where it is known and the price has no amount in this one."""
    currency = rules.find(price, "currency")
    if not billed or billed == currency or billed in _mapping(price.get("currency_options")):
        return None
    return currency if isinstance(currency, str) else None


def _is_classic(olds: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Whether a subscription bills in classic mode and goes on to."""
    return olds.get("billing_mode_type") == "classic" and _mode(new) != "flexible"


def _the_rest(new: Mapping[str, Any], *, metered: bool, classic: bool) -> str:
    """What becomes of the current period of an item that goes or moves to another price.

    https://docs.stripe.com/billing/subscriptions/usage-based/manage-billing-setup
    """
    how = new.get("proration_behavior", "create_prorations")
    when = "at once" if how == "always_invoice" else "on the next invoice"
    if metered:
        if classic or how == "none":
            return "its usage in this period is not billed"
        return f"its usage so far is billed {when}"
    if how == "none":
        return "the rest of the period is not prorated"
    return f"the rest of the period is prorated {when}"


def _ending(old: Inputs) -> str:
    cancel = {**CANCEL_DEFAULTS, **old.get("cancel", {})}
    invoice = "with a last invoice for its usage" if cancel["invoice_now"] else "its unbilled usage is not billed"
    return f"{invoice}, unused time is {'' if cancel['prorate'] else 'not '}credited"
