"""Subscriptions: who pays which prices. https://docs.stripe.com/api/subscriptions

Items are declared as a mapping from a key of the program's choice; the key is in the item's metadata in Stripe, so
that an item is changed, moved to another price or removed as itself, wherever it stands in a list.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, Literal, NotRequired

from typing_extensions import TypedDict

from components.account import Account
from components.providers import discounts as discounts_of
from components.providers import paid, rules, subscription_items, subscription_rules, subscription_schedules
from components.providers import subscription_already as already
from components.providers import subscription_preview as preview
from components.providers.customer import CUSTOMER
from components.providers.errors import ProviderError, differences
from components.providers.inventory import StripeObject
from components.providers.kind import Change, Declarations, Kind, TakesBack
from components.providers.lifecycle import StripeProvider, changes_made
from components.providers.policy import Field
from components.providers.price import PRICE
from components.providers.reconciler import Reconciler
from components.providers.run import Run
from components.providers.shapes import Map, Struct
from components.providers.subscription_items import SOURCES
from components.providers.subscription_preview import CANCEL_DEFAULTS
from components.providers.subscription_rules import QUANTITY_OF_METERED, TRIALS, is_metered_by
from components.providers.subscription_schedules import AT_RENEWAL, Schedules
from components.providers.values import (
    MISSING,
    Inputs,
    fingerprint,
    id_of,
    is_unknown,
    mapping,
)


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
    plan_versions: NotRequired[Mapping[str, int]]
    price_changes: NotRequired[Literal["now", "at_renewal"]]


ENDED: Final = ("canceled", "incomplete_expired")
#: Stripe's defaults for `trial_settings`.
TRIAL_END_DEFAULTS: Final = {"missing_payment_method": "create_invoice", "billing_cycle_anchor": "now"}
MOST_ITEMS: Final = 20
#: A year, in each interval.
MOST_INTERVALS_BETWEEN_INVOICES: Final = {"day": 365, "week": 52, "month": 12, "year": 1}
#: What Stripe still updates of one that has ended.
UPDATED_WHEN_ENDED: Final = {"metadata", "cancellation_details"}
TRIAL_OFFERS: Final = "/v1/product_catalog/trial_offers"


# -- what a change means --------------------------------------------------------------------------------------------


def fill(inputs: Inputs, livemode: bool) -> Inputs:
    cancel = inputs.get("cancel", {})
    return inputs if is_unknown(cancel) else {**inputs, "cancel": {**CANCEL_DEFAULTS, **cancel}}


def comparable(arguments: Inputs) -> Inputs:
    """Stripe keeps a currency in lower case; states of earlier versions have it as it was declared."""
    currency = arguments.get("currency")
    return {**arguments, "currency": currency.lower()} if isinstance(currency, str) else arguments


def foreseen(old: Inputs, new: Inputs, takes_back: TakesBack) -> Inputs:
    """With the price of an item that stays on it, where a refused run has replaced it and this one takes it back."""
    before, after = mapping(old.get("items")), new.get("items")
    if not isinstance(after, Mapping):
        return new
    stay = {
        key: {**item, "price": was}
        for key, item in after.items()
        if isinstance(item, Mapping)
        and is_unknown(item.get("price"))
        and isinstance(was := mapping(before.get(key)).get("price"), str)
        and takes_back(PRICE, was)
    }
    return {**new, "items": {**after, **stay}}


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


def refusal(change: Change) -> str | None:
    """A metered item has no quantity; and Stripe drops the usage of one that goes or moves in some cases.

    In classic mode it does so always, in flexible mode where nothing is prorated.
    https://docs.stripe.com/billing/subscriptions/usage-based/manage-billing-setup
    """
    if sentence := subscription_schedules.refusal(change):
        return sentence
    before, after = mapping(change.old.get("items")), change.new.get("items")
    for key, item in mapping(after).items():
        price, was = mapping(item).get("price"), mapping(before.get(key)).get("price")
        # A price that this run replaces has no id yet: what it will be is declared under the old one's.
        known = change.declaration(PRICE, str(was)) if is_unknown(price) else None
        becomes_metered = known and known.is_replaced and is_metered_by(known.arguments.get("recurring"))
        stays_metered = key in (change.outputs.get("metered_items") or ()) and price == was
        if rules.given(item, "quantity") and (becomes_metered or stays_metered):
            return f"items.{key}.quantity: {QUANTITY_OF_METERED}"
    if change.replaces or not isinstance(after, Mapping) or not _drops_usage(change.outputs, change.new):
        return None
    if change.new.get("price_changes") == AT_RENEWAL:
        # The usage of a period that is over is billed.
        return None
    renamed = subscription_items.renamed(before, after)
    for key in change.outputs.get("metered_items") or ():
        item, was = after.get(renamed.get(key, key)), before.get(key, {})
        if item is None or (isinstance(item, Mapping) and was and item.get("price") != was.get("price")):
            return _unbilled_usage(key, change.new, removed=item is None)
    return None


def _unbilled_usage(key: str, new: Inputs, *, removed: bool) -> str:
    if new.get("proration_behavior") == "none":
        why, way_out = "proration_behavior is none, with", "leave proration_behavior out"
    else:
        why, way_out = "billing_mode is classic, in", 'set billing_mode={"type": "flexible"} first'
    return (
        f"items.{key} is metered and {why} which Stripe does not bill the usage of this period once the item is "
        f"{'removed' if removed else 'moved to another price'}; {way_out}, or set allow_unbilled_usage=True"
    )


def remarks(inputs: Inputs, is_new: bool, declaration: Declarations) -> Iterator[str]:
    items = inputs.get("items")
    if isinstance(items, Mapping) and len(items) > MOST_ITEMS:
        yield f"has {len(items)} items; Stripe has long taken {MOST_ITEMS} at most, and more only from some accounts"
    if is_new:
        yield from preview.of_new(inputs, declaration)


def is_ended(remote: Mapping[str, Any]) -> bool:
    return remote.get("status") in ENDED


def ended_as_declared(known: Inputs, remote: Mapping[str, Any]) -> bool:
    declared = known.get("cancel_at") or known.get("cancel_at_period_end")
    end, ended_at = remote.get("cancel_at"), remote.get("ended_at")
    return bool(declared and is_ended(remote) and end and ended_at and ended_at >= end)


_ONCE: Final = "it acts only when the subscription is created"
_HOW: Final = "it controls how a change is made"

#: Stripe's defaults for the options of payment methods.
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
    path=subscription_items.PATH,
    create="stripe.params:SubscriptionCreateParams",
    update="stripe.params:SubscriptionUpdateParams",
    own=OwnArguments,
    natural_key="the owner in its metadata",
    when_deleted="Cancelled, as `cancel` says: `when` now or at period_end, `invoice_now` with a final invoice for "
    "usage and prorations, `prorate` with a credit for unused time. The default is now, with a final invoice and no "
    "credit. A subscription that is replaced is cancelled now, before the new one is created. One whose first payment "
    "was never made is also cancelled now.",
    when_gone="A cancelled or expired subscription is created again, and its trials begin again. One that ended when "
    "`cancel_at` or `cancel_at_period_end` says is not drift, until the program changes. Items changed, added or "
    "removed elsewhere show under their key, or under their `si_` id. An item whose key the program renames stays the "
    "same item if its price stays.",
    fields={
        "add_invoice_items": Field(
            write_only="each entry is charged once, when it is declared; what an earlier subscription of this name "
            "charged to the customer is not charged again",
            keep="what was charged is not refunded",
        ),
        "application_fee_percent": Field(paid=True),
        "automatic_tax": Field(paid=True, unset_to={"enabled": False}),
        "automatic_tax.liability": Field(unset_to={"type": "self"}),
        "automatic_tax.liability.account": Field(keep="it belongs to type account"),
        "backdate_start_date": Field(
            write_only="Stripe returns the resulting start date; it is not sent if an earlier subscription of this "
            "name was billed from then on",
            keep=_ONCE,
        ),
        "billing_cycle_anchor": Field(
            create_only="an update can only reset it, with {'type': 'now'}, which is done in place",
            write_only="Stripe moves it, for example at the end of a trial",
            keep=_ONCE,
        ),
        "billing_cycle_anchor_config": Field(write_only="Stripe returns the resulting anchor", keep=_ONCE),
        "billing_mode": Field(
            paid=True,
            in_place="classic to flexible, through Stripe's migrate; it cannot be undone",
            replaces_when="flexible is to become classic, or to show discounts differently",
        ),
        "billing_thresholds": Field(paid=True),
        "billing_thresholds.amount_gte": Field(keep="Stripe unsets the thresholds together; remove billing_thresholds"),
        "billing_thresholds.reset_billing_cycle_anchor": Field(unset_to=False),
        "cancel_at": Field(drift_from=None),
        "cancel_at_period_end": Field(unset_to=False, drift_from=False),
        "cancellation_details": Field(unset_to={"comment": "", "feedback": "", "feedback_option": ""}),
        "collection_method": Field(paid=True, unset_to="charge_automatically"),
        "currency": Field(paid=True, computed="that of the prices", keep="if omitted it is that of the prices"),
        "customer_account": Field(computed="none", keep="it stands for the customer"),
        "days_until_due": Field(paid=True, keep="it belongs to collection_method"),
        "default_tax_rates": Field(paid=True),
        "discounts": Field(
            paid=True,
            drift="a missing discount is not drift if it is used up, since it disappears by itself; one that was "
            "removed or swapped for another is",
        ),
        "invoice_settings.issuer": Field(unset_to={"type": "self"}),
        "items": Field(paid=True, mapping="by a key of the program's choice"),
        "items.clear_usage": Field(
            excluded="has no effect on prices with a meter, and metered prices have one",
        ),
        "items.current_trial": Field(
            drift="a missing trial is not drift, since a trial that is over disappears by itself; another one is, "
            "while it runs",
            keep="a trial that has begun runs on",
        ),
        "items.deleted": Field(excluded="removing an item from the program deletes it"),
        "items.id": Field(excluded="the key of the item takes its place"),
        "items.price": Field(
            drift="with `current_trial`, declare the price that the trial offer ends in, or none; a refresh sees that "
            "one even during the trial"
        ),
        "items.price_data": Field(drift="Stripe returns the price that it created; a different one shows as `price`"),
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
        "price_changes": Field(
            in_place="when items come, go and move to another price: `now`, or `at_renewal`, when the period of each "
            "ends, by a subscription schedule and without prorations",
            computed="`now`",
        ),
        "proration_behavior": Field(request_option=_HOW),
        "proration_date": Field(request_option=_HOW),
        "transfer_data": Field(paid=True),
        "trial_end": Field(paid=True, keep='a trial that has begun runs on; end it with trial_end="now"'),
        "trial_from_plan": Field(request_option=_HOW),
        "trial_period_days": Field(write_only="Stripe returns the resulting end of the trial", keep=_ONCE),
        "trial_settings": Field(unset_to={"end_behavior": TRIAL_END_DEFAULTS}),
        "trial_settings.end_behavior": Field(unset_to=TRIAL_END_DEFAULTS),
        "trial_settings.end_behavior.billing_cycle_anchor": Field(unset_to="now"),
        "trial_settings.end_behavior.missing_payment_method": Field(unset_to="create_invoice"),
    },
    expand=subscription_items.EXPAND,
    advice={
        "no attached payment source": 'Declare collection_method="send_invoice" with days_until_due, or '
        'payment_behavior="default_incomplete", or give the customer a payment method.',
        "No such price": "Link it by the id of a Price: price=price.id.",
        "match the expected currency": "A subscription keeps its currency: declare the prices' currency, which creates "
        "a new subscription, or use prices in its currency.",
        "No such customer": "Link it by the id of a Customer: customer=customer.id.",
        "price specified is inactive": "Link the item to a price of this program: price=price.id. If it is one, run "
        "pulumi refresh, then pulumi up, which reactivates the price.",
        "is marked as inactive": "If the product is of this program, run pulumi refresh, then pulumi up, which "
        "reactivates it.",
        "A canceled subscription can only": "Run pulumi refresh, which sees that it has ended, then pulumi up, which "
        "creates a new one.",
        "managed by the subscription schedule": "Ask who made that schedule to release it in Stripe, then run again.",
    },
    outputs={
        "item_ids": "the ids of the items, by key",
        "metered_items": "the keys of the items that are billed by usage",
        "billing_mode_type": "`classic` or `flexible`",
        "billed_until_then": "the price and quantity that each item that moves or goes bills until `moves_at`, by key; "
        "nothing for one that comes then",
        "billing_currency": "the currency that it bills in",
        "fees": "by key, what each item costs in each period, except items billed by usage",
        "has_ended": "whether it has reached the end that the program declares",
        "moves_at": "when its prices next move, where they wait for the renewal (`price_changes`; UTC seconds)",
        "schedule": "the id of the subscription schedule that holds it",
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
        rules.exclusive("cancel_at", "cancel_at_period_end", why="they are two ways to say the same"),
        rules.exclusive("billing_cycle_anchor", "billing_cycle_anchor_config", why="they are two ways to say the same"),
        rules.liability("automatic_tax.liability", "invoice_settings.issuer"),
        subscription_rules.one_customer,
        subscription_rules.items,
        subscription_rules.invoice_items,
        subscription_rules.discounts,
        subscription_rules.collection,
        subscription_rules.billing_mode,
        subscription_rules.fee_percent,
        subscription_rules.price_changes,
    ),
    linked_rules=subscription_rules.linked_rules,
    delete_before_replace=True,
    fill=fill,
    comparable=comparable,
    foreseen=foreseen,
    computed=computed,
    replaces=replaces,
    warnings=preview.warnings,
    notices=preview.notices,
    remarks=remarks,
    refusal=refusal,
    gone=is_ended,
    ended_as_declared=ended_as_declared,
)


class Subscriptions(Reconciler):
    def __init__(self, kind: Kind, account: Account, run: Run) -> None:
        super().__init__(kind, account, run)
        self._schedules = Schedules(self)

    # -- create -------------------------------------------------------------------------------------------------

    def listed_apart(self, new: Inputs) -> Iterator[Inputs]:
        customer = self.run.inventory(CUSTOMER).known(str(new.get("customer")))
        if customer is not None and customer.get("test_clock"):
            # Stripe lists the subscriptions of a customer on a test clock only when the customer is named.
            yield {"customer": customer["id"], **self.expanded("data.")}

    def left_behind(self, remote: StripeObject, new: Inputs) -> None:
        """Refuse to create a second subscription beside one that an interrupted run created.

        Raises:
            ProviderError: the earlier one does not fit the program any more, and would go on billing.
        """
        if not remote.get("cancel_at"):
            raise ProviderError(
                f"{self.subject(new)}: {remote['id']} was created for it, is {remote['status']} and has "
                f"{differences(self.different(remote, new))}; a second one would also bill: cancel {remote['id']} in "
                "Stripe, or declare what it has to adopt it, then run again"
            )

    @contextmanager
    def making(self, new: Inputs, found: StripeObject | None) -> Iterator[None]:
        if found is None:
            self._say_what_still_bills(new)
        yield

    def _say_what_still_bills(self, new: Inputs) -> None:
        for remote in self.inventory.owned(new["owner"]):
            ours = self.run.is_in_state(self.kind, remote["id"])
            if ours and self.is_alive(remote, new) and not remote.get("cancel_at"):
                self.run.tell(
                    "warning",
                    f"{self.subject(new)}: a new one is created while {remote['id']} still bills (retain_on_delete, "
                    "delete_before_replace=False, or another resource of this name); cancel it if nothing else does",
                )

    def make(self, new: Inputs) -> StripeObject:
        return super().make(already.uncharged(self, new))

    def create_params(self, new: Inputs) -> Inputs:
        params = super().create_params(new)
        if _resets(params.get("billing_cycle_anchor")):
            del params["billing_cycle_anchor"]
        params["items"] = [
            subscription_items.branded(key, self._begun(key, item, item, new))
            for key, item in sorted(new["items"].items())
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
        return {path: both for path, both in found.items() if not self._cost_the_same(path, *both)}

    def _cost_the_same(self, path: str, there: Any, declared: Any) -> bool:
        """Whether the path is an item's price, and both prices cost the same (one was created again)."""
        is_price = path.startswith("items.") and path.endswith(".price")
        if not is_price or not isinstance(there, str) or not isinstance(declared, str):
            return False
        return self._cost_the_same_prices(there, declared)

    def _cost_the_same_prices(self, there: str, declared: str) -> bool:
        prices = self.run.inventory(PRICE)
        one, other = prices.read(there), prices.read(declared)
        return bool(one and other) and all(mapping(one).get(name) == mapping(other).get(name) for name in paid.COSTS)

    def bill_moves(self, remote: StripeObject, new: Inputs) -> str:
        """The total of the items that bill by quantity, before and after, without discounts and tax."""
        listed = (self._with_all_items(remote).get("items") or {}).get("data", [])
        declared = [mapping(item) for item in mapping(new.get("items")).values()]
        if any(is_unknown(item.get("price")) for item in declared):
            return ""
        prices = self.run.inventory(PRICE)
        after = [(prices.read(str(item.get("price"))), item.get("quantity", 1)) for item in declared]
        was = paid.recurring_text([(item.get("price"), item.get("quantity", 1)) for item in listed])
        now = paid.recurring_text(after)
        when = " at its renewal" if new.get("price_changes") == AT_RENEWAL else ""
        return f"what recurs by quantity: {was} => {now}{when}" if was != now else ""

    # -- update -------------------------------------------------------------------------------------------------

    def apply(self, id_: str, old: Inputs, new: Inputs, remote: StripeObject | None) -> StripeObject | None:
        """Change the subscription now, and have its prices move at the renewal where the program says so."""
        if not subscription_schedules.touched(old, new) and old.get("price_changes") == new.get("price_changes"):
            return super().apply(id_, old, new, remote)
        of_this_moment = any(old.get(name) != new.get(name) for name in ("discounts", "items", "price_changes"))
        remote = self.inventory.fetch(id_) if of_this_moment else self.inventory.read(id_, new.get("owner"))
        if remote is None:
            raise ProviderError(f"{self.subject(new, id_)}: is gone from Stripe; run pulumi refresh")
        remote = self._with_all_items(remote)
        plan = self._schedules.plan(id_, old, new, remote, self._present_items(remote, mapping(new.get("items"))))
        if plan.waits or self._moves_now(plan):
            self._schedules.refuse_in_draft(new, remote)
        if plan.is_plain:
            return self._apply_now(id_, old, new, None)
        now = bool(self.changes(id_, plan.old, plan.new)) or any(
            old.get(name) != new.get(name) for name in ("add_invoice_items", "billing_mode")
        )
        if plan.schedule is not None and (now or plan.ends or not plan.waits):
            remote = self._schedules.release(plan.schedule, remote, self.subject(new, id_))
        if now:
            remote = self._apply_now(id_, plan.old, plan.new, remote) or remote
        if plan.ends:
            self.run.tell(
                "warning", f"{self.subject(new, id_)}: ends before its renewal, so its prices do not move any more"
            )
            return remote
        return self._schedules.make(plan, self._with_all_items(remote)) if plan.waits else remote

    def _apply_now(self, id_: str, old: Inputs, new: Inputs, remote: StripeObject | None) -> StripeObject | None:
        """Change the subscription; what moves between prices that cost the same does so apart, and nobody pays for it.

        Prorated, such a move charges whoever had a coupon that is over: what is left of the old price is credited
        with it, and the new one is charged without.
        """
        same = self._same_money(mapping(old.get("items")), mapping(new.get("items")))
        licensed = {key for key, is_metered in same.items() if not is_metered}
        # Not prorated, the usage of a metered item would never be billed; at once, it would be billed in the middle.
        metered = same.keys() - licensed if new.get("proration_behavior") == "always_invoice" else set()
        before, rest = old, {**new, "items": _with_prices(new, old, metered)} if metered else new
        if licensed:
            remote = self._move(id_, licensed, old, new, "none") or remote
            before = {**old, "items": _with_prices(old, new, licensed)}
        remote = super().apply(id_, before, rest, remote) or remote
        return (self._move(id_, metered, old, new, "create_prorations") if metered else None) or remote

    def _move(self, id_: str, keys: set[str], old: Inputs, new: Inputs, behavior: str) -> StripeObject | None:
        """Move some items to the prices that they shall have, and change nothing else of them."""
        there = self._present_items(self._now(id_), new["items"])
        moves = [
            {"id": found["id"], "price": price} | ({"quantity": found["quantity"]} if found.get("quantity") else {})
            for key in sorted(keys)
            if (found := there.get(key)) and found["price"]["id"] != (price := new["items"][key]["price"])
        ]
        params = {"items": moves, "proration_behavior": behavior, **self.expanded()}
        return self.post(id_, params, new, fingerprint("same money", old), {}) if moves else None

    def _same_money(self, old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, bool]:
        """The items that move between prices that cost the same, and whether those are metered."""
        found = {}
        for key in old.keys() & new.keys():
            if any("current_trial" in mapping(each[key]) for each in (old, new)):
                # The trial offer says what the item bills, and from when on.
                continue
            was, now = (mapping(each[key]).get("price") for each in (old, new))
            if isinstance(was, str) and isinstance(now, str) and was != now and self._cost_the_same_prices(was, now):
                found[key] = subscription_items.is_metered({"price": self.run.inventory(PRICE).read(now)})
        return found

    def _moves_now(self, plan: subscription_schedules.Plan) -> bool:
        """Whether an item comes, goes or moves to another price with this update."""
        items = (mapping(each.get("items")) for each in (plan.old, plan.new))
        before, after = ({key: _source(item) for key, item in each.items()} for each in items)
        return before != after

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
        if fresh := preview.added(old.get("add_invoice_items"), new.get("add_invoice_items")):
            remote = self._charge(id_, old, new, fresh)
        if "add_invoice_items" in new:
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

    def _charge(self, id_: str, old: Inputs, new: Inputs, fresh: list[Any]) -> StripeObject:
        """Add what was not declared before to the next invoice, in a call of its own.

        Its key says nothing of the other arguments. So a run that was cut short after it charges nothing twice, even
        if the program changed before the next one.
        """
        params = {"add_invoice_items": fresh, **self.expanded()}
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
        if "discounts" in params:
            there = self._now(id_).get("discounts") or []
            params["discounts"] = (
                discounts_of.changes(old.get("discounts") or [], new.get("discounts") or [], there) or ""
            )
        if {"cancel_at", "cancel_at_period_end"} <= params.keys():
            # Stripe takes one of the two, and setting one unsets the other.
            del params["cancel_at" if params["cancel_at"] == "" else "cancel_at_period_end"]
        anchor = new.get("billing_cycle_anchor")
        if _resets(anchor) and anchor != old.get("billing_cycle_anchor"):
            params["billing_cycle_anchor"] = anchor
        return params

    def _now(self, id_: str) -> StripeObject:
        """The subscription as it was when this update began, or after what it has sent."""
        return self.inventory.known(id_) or {}

    def _item_changes(self, id_: str, old: Inputs, new: Inputs) -> list[Inputs]:
        """What to send so that the items in Stripe become the declared ones.

        Compared with Stripe's items of this moment: a run that was cut short may have changed some.
        """
        remote = self._now(id_)
        there, before = self._present_items(remote, new["items"]), old.get("items", {})
        sent: list[Inputs] = []
        for key, item in sorted(new["items"].items()):
            found = there.get(key)
            if found is None and before.get(key) == item:
                self.run.tell(
                    "warning",
                    f"{self.subject(new, id_)}: item {key} is gone from Stripe, and this change leaves it out; pulumi "
                    "refresh and then up add it again",
                )
            elif found is None:
                sent.append(subscription_items.branded(key, self._begun(key, item, item, new)))
            elif change := self._item_change(key, found, before, new):
                if _drops_usage(remote, new) and subscription_items.is_metered(found) and change.keys() & set(SOURCES):
                    raise ProviderError(f"{self.subject(new, id_)}: {_unbilled_usage(key, new, removed=False)}")
                sent.append({"id": found["id"], **change})
        for key, found in sorted(there.items()):
            # What nobody declared stays until a refresh has shown it.
            if key not in new["items"] and (key in before or subscription_items.key_of(found)):
                if _drops_usage(remote, new) and subscription_items.is_metered(found):
                    raise ProviderError(f"{self.subject(new, id_)}: {_unbilled_usage(key, new, removed=True)}")
                sent.append({"id": found["id"], "deleted": True})
        return sent

    def _item_change(self, key: str, found: StripeObject, before: Mapping[str, Any], new: Inputs) -> Inputs:
        """What to send to change one item as declared."""
        item = new["items"][key]
        was = before.get(key) or before.get(str(subscription_items.key_of(found))) or {}
        change = subscription_items.change(_item_struct(), self.kind.clearing, key, found, was, item)
        if "current_trial" in change:
            change = self._begun(key, item, change, new)
        if "quantity" in change and "quantity" not in item and self._will_be_metered(change):
            # Without one it is 1, but a metered item has none at all.
            del change["quantity"]
        return change

    def _begun(self, key: str, item: Mapping[str, Any], sent: Inputs, new: Inputs) -> Inputs:
        """What is `sent` of an item, without its price where it begins a trial: the offer says what it bills and when.

        Raises:
            ProviderError: the declared price is not the one that the offer ends in, so that at the trial's end Stripe
                and the program would part: a later update would move a paying customer back.
        """
        trial = item.get("current_trial")
        lasting = self._lasting_price(subscription_items.offer_of(trial)) if trial else None
        if lasting is None:
            return sent
        for name in ("price", "plan"):
            if item.get(name, lasting) != lasting:
                offer = subscription_items.offer_of(trial)
                raise ProviderError(
                    f"{self.subject(new)}: items.{key}.{name} is {item[name]}, but the trial offer {offer} ends in "
                    f"{lasting}; declare that, which is the item's price for good, or leave {name} out"
                )
        return {name: value for name, value in sent.items() if name not in SOURCES}

    def _lasting_price(self, offer: str) -> str | None:
        """The price that a trial offer ends in; None where it leaves the item's own."""
        offers = self.run.inventory_at(TRIAL_OFFERS, "trial offer")
        found = offers.known(offer) or offers.fetch(offer) or {}
        ends = found.get("end_behavior") or {}
        price = id_of((ends.get("transition") or {}).get("price"))
        return price if isinstance(price, str) else None

    def _will_be_metered(self, change: Inputs) -> bool:
        """Whether an item moves to a price that is billed by usage."""
        if not isinstance(change.get("price"), str):
            return False
        return subscription_items.is_metered({"price": self.run.inventory(PRICE).read(change["price"])})

    # -- read ---------------------------------------------------------------------------------------------------

    def returned(self, name: str, value: Any, remote: StripeObject) -> Any:
        match name:
            case "items":
                there = self._items(remote, value if isinstance(value, Mapping) else {})
                used_up = already.used_up(self, remote)
                return {
                    key: subscription_items.projection(_item_struct(), mapping(value).get(key), item, used_up)
                    for key, item in there.items()
                }
            case "discounts":
                return discounts_of.projection(value, remote.get("discounts"), already.used_up(self, remote))
            case "trial_end" if value == "now":
                return value
            case "cancel_at" if remote.get("cancel_at_period_end"):
                # Stripe fills in the date; it is not another end.
                return MISSING
            case "cancel_at" if isinstance(value, str):
                return value if remote.get("cancel_at") else MISSING
        return super().returned(name, value, remote)

    def outputs(self, arguments: Inputs, remote: StripeObject) -> Inputs:
        there = self._items(remote, arguments.get("items", {}))
        return {
            "item_ids": {key: item["id"] for key, item in sorted(there.items()) if item["id"]},
            "metered_items": sorted(key for key, item in there.items() if subscription_items.is_metered(item)),
            "billing_mode_type": _mode(remote),
            "billing_currency": remote.get("currency"),
            "fees": {
                key: text
                for key, item in sorted(there.items())
                if (text := paid.fee_text(item.get("price") or {}, item.get("quantity"), remote.get("currency")))
            },
            "has_ended": ended_as_declared(arguments, remote),
            **self._schedules.outputs(remote, there),
        }

    def _items(self, remote: StripeObject, declared: Mapping[str, Any]) -> dict[str, StripeObject]:
        """Stripe's items by the program's keys, each with its lasting price.

        In a trial that is the price that the trial ends in, and where prices wait for the renewal those that come
        with it: what the item shows until then changes by itself.
        """
        listed = [self._lasting(item) for item in (self._with_all_items(remote).get("items") or {}).get("data", [])]
        return subscription_items.by_key(self._schedules.as_planned(remote, listed, declared), declared)

    def _present_items(self, remote: StripeObject, declared: Mapping[str, Any]) -> dict[str, StripeObject]:
        """The same with what Stripe bills until the renewal."""
        listed = (self._with_all_items(remote).get("items") or {}).get("data", [])
        return subscription_items.by_key([self._lasting(item) for item in listed], declared)

    def _lasting(self, item: StripeObject) -> StripeObject:
        running = subscription_items.running(item)
        lasting = self._lasting_price(subscription_items.offer_of(running)) if running else None
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
        there = self.inventory.read(id_, known.get("owner"))
        if there is None or is_ended(there):
            return there
        there = self._schedules.let_go(there, known, subject)
        # One whose first payment was never made has no period to end with: Stripe only cancels it at once.
        at_the_end = cancel["when"] == "period_end" and not being_replaced
        if at_the_end and there.get("status") != "incomplete":
            listed = (there.get("items") or {}).get("data", [])
            # If the items' periods end at different times, Stripe requires which end is meant.
            together = len({item.get("current_period_end") for item in listed}) < 2
            end = {"cancel_at_period_end": True} if together else {"cancel_at": "max_period_end"}
            params = {**end, **details, **self.expanded()}
            left = self.call("post", f"{SUBSCRIPTION.path}/{id_}", params, subject=subject).data
            self.run.tell("info", f"{subject}: ends with its current period")
            return left
        how = {"invoice_now": cancel["invoice_now"], "prorate": cancel["prorate"]}
        left = self.call("delete", f"{SUBSCRIPTION.path}/{id_}", {**how, **details}, subject=subject).data
        if not cancel["prorate"] and not being_replaced:
            self._say_what_bills_anew(left, subject)
        return left

    def _say_what_bills_anew(self, left: StripeObject, subject: str) -> None:
        """A resource renamed without an alias becomes another subscription, which a preview cannot know."""
        for begun in self.run.created(self.kind):
            same = subscription_items.prices_of(begun) & subscription_items.prices_of(left)
            if same and id_of(begun.get("customer")) == id_of(left.get("customer")):
                self.run.tell(
                    "warning",
                    f"{subject}: cancelled, and {begun['id']}, made in this run, bills the same customer for "
                    f"{' and '.join(sorted(same))} from the start of a new period; if it is the same one under another "
                    "name, credit what is billed twice, and rename with aliases in its ResourceOptions next time",
                )


class SubscriptionProvider(StripeProvider):
    kind = SUBSCRIPTION
    reconciler_type = Subscriptions


# -- small parts ----------------------------------------------------------------------------------------------------


def _with_prices(arguments: Inputs, others: Inputs, keys: set[str]) -> Inputs:
    """The items of some arguments, those of `keys` at the prices that other arguments have."""
    there = mapping(others.get("items"))
    return {
        key: {**item, "price": there[key]["price"]} if key in keys else item for key, item in arguments["items"].items()
    }


def _source(item: Any) -> Any:
    return next((item[name] for name in SOURCES if name in mapping(item)), None)


def _item_struct() -> Struct:
    shape = SUBSCRIPTION.struct.fields["items"].shape
    assert isinstance(shape, Map)
    assert isinstance(shape.item, Struct)
    return shape.item


def _resets(anchor: Any) -> bool:
    """Whether a `billing_cycle_anchor` resets the period in place: an object since 2026-10-28.endive, a word before."""
    return isinstance(anchor, (str, Mapping))


def _mode(values: Mapping[str, Any]) -> str | None:
    mode = values.get("billing_mode")
    return mode.get("type") if isinstance(mode, Mapping) else None


def _proration_discounts(values: Mapping[str, Any]) -> Any:
    return rules.find(values, "billing_mode", "flexible", "proration_discounts")


def _drops_usage(olds_or_remote: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Whether Stripe does not bill the usage of a metered item that goes or moves, and the program does not allow it.

    https://docs.stripe.com/billing/subscriptions/usage-based/manage-billing-setup
    """
    classic = "classic" in (_mode(olds_or_remote), olds_or_remote.get("billing_mode_type"))
    none = new.get("proration_behavior") == "none"
    return not new.get("allow_unbilled_usage") and (none or (classic and _mode(new) != "flexible"))
