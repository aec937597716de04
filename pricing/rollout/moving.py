"""A rollout in Stripe: reads subscriptions, creates their schedules, checks their first invoices, undoes moves."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from components.account import Account, StripeRefusal
from components.plan import PublishedPlan
from components.providers import schedules
from components.providers.coupon import COUPON
from components.providers.inventory import StripeObject, owner_of
from components.providers.price import PRICE
from components.providers.price_uses import ENDED
from components.providers.run import run_of
from components.providers.schedules import MARK
from components.providers.subscription_items import prices_of
from components.providers.values import decimal_string, mapping
from components.publication import price_name
from components.terms import price_parameters
from pricing import lists
from pricing.lists import SUBSCRIPTIONS
from pricing.rollout import decisions as rollout
from pricing.rollout.decisions import Offer, Placed, Prediction, RolloutError, Rules
from pricing.rollout.journal import Entry, Journal

_EXPANDED: Final = ("discounts", "items.data.discounts", "latest_invoice", "schedule")
SCHEDULES: Final = "/v1/subscription_schedules"


def offers(account: Account, plan: PublishedPlan, stack: str, numbers: tuple[int, int]) -> list[Offer]:
    """Versions of a plan with the stack's prices for them.

    Args:
        stack: `<project>/<stack>`.

    Raises:
        RolloutError: a price is not in Stripe, or has different costs there.
    """
    made = {owner_of(price): price for price in run_of(account).inventory(PRICE).owned() if price["active"]}
    found = []
    for number in numbers:
        version = plan.versions[number].plan
        prices: dict[str, StripeObject] = {}
        for charge in version.charges:
            name = price_name(plan.name, number, charge.key)
            price = made.get(f"{stack}/{name}")
            if price is None:
                raise RolloutError(f"{plan.name}@{number}: Stripe has no active price {name} of {stack}; run pulumi up")
            if _costs(price) != _costs(price_parameters(version, charge, None)):
                raise RolloutError(
                    f"{plan.name}@{number}: the price {name} in Stripe differs from the program; run "
                    "pulumi up, or pulumi preview to see what is different"
                )
            prices[charge.key] = price
        found.append(Offer(plan.name, number, version, prices))
    return found


@dataclass
class Rollout:
    """One rollout on one account.

    Attributes:
        test_clock: the clock of the subscriptions to move; None for those without a clock.
    """

    account: Account
    rules: Rules
    journal: Journal
    test_clock: str | None = None

    # -- looking ------------------------------------------------------------------------------------------------

    def subscriptions(self) -> Iterator[StripeObject]:
        """Every subscription on one of the two versions, once."""
        seen: set[str] = set()
        clock = {"test_clock": self.test_clock} if self.test_clock else {}
        for price in sorted(self.rules.old.ids | self.rules.new.ids):
            for each in lists.subscriptions(self.account, expand=_EXPANDED, on_clocks=False, price=price, **clock):
                if each["id"] not in seen and each["status"] not in ENDED:
                    seen.add(each["id"])
                    yield self._whole(each)

    def subscription(self, id_: str) -> StripeObject | None:
        """A subscription as it is now; None if it does not exist."""
        found = lists.subscription(self.account, id_, expand=_EXPANDED)
        return None if found is None else self._whole(found)

    def place(self, subscription: StripeObject) -> Placed:
        """What happens to a subscription, including what the journal knows."""
        entry = self.journal.entry(str(subscription["id"]))
        return rollout.place(subscription, self.rules, entry.not_before if entry else None)

    def placed(self) -> list[Placed]:
        """What happens to each subscription, in a stable order."""
        return sorted((self.place(each) for each in self.subscriptions()), key=lambda each: each.subscription)

    def _whole(self, subscription: StripeObject) -> StripeObject:
        """A subscription whose last invoice has all of its lines."""
        invoice = subscription.get("latest_invoice")
        if isinstance(invoice, dict):
            subscription = {**subscription, "latest_invoice": self._with_lines(invoice)}
        return subscription

    def _with_lines(self, invoice: StripeObject) -> StripeObject:
        return {**invoice, "lines": {"data": lists.lines(self.account, invoice)}}

    # -- moving -------------------------------------------------------------------------------------------------

    def move(self, id_: str) -> Placed:
        """Create the schedule that moves one subscription; finishes what an interrupted run has started.

        Returns:
            What happens to it, from its present state in Stripe: it may have changed since it was listed.
        """
        subscription = self.subscription(id_)
        if subscription is None:
            return Placed(id_, "", "", "stays", "gone")
        placed = self.place(subscription)
        entry = self.journal.entry(id_)
        if placed.fate == "waits":
            if placed.not_before is not None:
                self.journal.write(Entry(id_, "noticed", placed.not_before, placed.effect))
        elif placed.fate == "on its way":
            placed = self._follow(subscription, placed, entry)
        elif placed.fate == "moves":
            prediction = rollout.predict(placed, subscription, self.rules).as_data()
            not_before = entry.not_before if entry else None
            begun = Entry(id_, "moving", not_before, placed.complete, prediction)
            self.journal.write(begun)
            placed = self._schedule(subscription, placed)
            if placed.fate == "moves":
                self.journal.write(replace(begun, state="scheduled"))
            else:
                self.journal.write(replace(begun, state="undone", note=placed.detail))
        return placed

    def _follow(self, subscription: StripeObject, placed: Placed, entry: Entry | None) -> Placed:
        """Update a schedule of ours to its subscription: its seats at the move, and whether it still moves.

        This also handles a run that was interrupted before it recorded the schedule.
        """
        schedule = rollout.running(subscription)
        if schedule is None or prices_of(subscription) & self.rules.new.ids:
            return placed
        alone = {**subscription, "schedule": None}
        wanted = rollout.place(alone, replace(self.rules, notice=0, within=None, cohort=rollout.Cohort()))
        if wanted.fate != "moves":
            self._release(subscription, schedule)
            self.journal.write(Entry(placed.subscription, "undone", note=wanted.why))
            return wanted
        params = rollout.phases_of(alone, schedule, wanted.moves, wanted.added, self.rules)
        begun = int(mapping(schedule.get("current_phase")).get("start_date") or 0)
        coming = [phase for phase in schedule["phases"] if phase["start_date"] >= begun]
        same = schedules.same_plan(params["phases"], coming)
        if same and entry is not None and entry.state != "moving":
            return placed
        prediction = rollout.predict(wanted, subscription, self.rules).as_data()
        not_before = entry.not_before if entry else None
        to_come = Entry(placed.subscription, "moving", not_before, wanted.complete, prediction)
        if not same:
            # Before the call: a run that is interrupted after it would keep the old prediction.
            self.journal.write(to_come)
            subject = f"subscription {placed.subscription}"
            self.account.request("post", f"{SCHEDULES}/{schedule['id']}", params, subject=subject)
        self.journal.write(replace(to_come, state="scheduled"))
        return placed

    def _schedule(self, subscription: StripeObject, placed: Placed) -> Placed:
        id_ = placed.subscription
        subject = f"subscription {id_}"
        schedule = rollout.running(subscription)
        if schedule is None:
            if not rollout.is_marked(subscription):
                mark = {"metadata": {MARK: self.rules.owner}}
                self.account.request("post", f"{SUBSCRIPTIONS}/{id_}", mark, subject=subject)
            schedule = self.account.request("post", SCHEDULES, {"from_subscription": id_}, subject=subject).data
        try:
            params = rollout.phases_of(subscription, schedule, placed.moves, placed.added, self.rules)
            self.account.request("post", f"{SCHEDULES}/{schedule['id']}", params, subject=subject)
        except (StripeRefusal, schedules.CannotMove) as problem:
            if isinstance(problem, StripeRefusal) and not problem.is_certain:
                raise
            self._release(subscription, schedule)
            return Placed(id_, placed.customer, placed.currency, "stays", "refused by Stripe", str(problem))
        return placed

    def _release(self, subscription: StripeObject, schedule: StripeObject | None) -> None:
        """Release a schedule of ours; the subscription continues unchanged."""
        id_, subject = subscription["id"], f"subscription {subscription['id']}"
        if schedule is not None:
            try:
                self.account.request("post", f"{SCHEDULES}/{schedule['id']}/release", {}, subject=subject)
            except StripeRefusal as refusal:
                now = self.account.request("get", f"{SCHEDULES}/{schedule['id']}", {}, subject=subject).data
                if now["status"] in schedules.RUNNING or not refusal.is_certain:
                    raise
        if rollout.is_marked(subscription) or schedule is not None:
            self.account.request("post", f"{SUBSCRIPTIONS}/{id_}", {"metadata": {MARK: ""}}, subject=subject)

    # -- checking -----------------------------------------------------------------------------------------------

    def check(self) -> list[Entry]:
        """Compare the first invoice of each that has moved with its prediction.

        Returns:
            Those that differ and have not been accepted.
        """
        waiting = {entry.subscription: entry for entry in self.journal.entries("scheduled")}
        for subscription in self.subscriptions() if waiting else ():
            entry = waiting.get(subscription["id"])
            if entry is None or entry.prediction is None or entry.effect is None:
                continue
            invoice = self._first_invoice(subscription, entry.effect)
            if invoice is None:
                continue
            wrong = list(rollout.mismatches(invoice, Prediction.of_data(entry.prediction), self.rules))
            note = f"invoice {invoice['id']}: {'; '.join(wrong)}" if wrong else str(invoice["id"])
            self.journal.write(replace(entry, state="mismatch" if wrong else "verified", note=note))
        return list(self.journal.entries("mismatch"))

    def accept(self, ids: list[str]) -> None:
        """Continue although the first invoices of these subscriptions were not as predicted.

        Raises:
            RolloutError: one of them is not halted.
        """
        for id_ in ids:
            entry = self.journal.entry(id_)
            if entry is None or entry.state != "mismatch":
                raise RolloutError(f"{id_} is not one whose first invoice differs from its prediction")
            self.journal.write(replace(entry, state="accepted"))

    def _first_invoice(self, subscription: StripeObject, effect: int) -> StripeObject | None:
        """The first invoice of a renewal at or after a moment."""
        starts = [int(item["current_period_start"]) for item in rollout.items_of(subscription)]
        if not starts or max(starts) < effect:
            return None
        since = lists.invoices(self.account, subscription=subscription["id"], created={"gte": effect})
        found = [each for each in since if each.get("billing_reason") == "subscription_cycle"]
        return self._with_lines(min(found, key=lambda each: int(each["created"]))) if found else None

    # -- undoing ------------------------------------------------------------------------------------------------

    def begun(self) -> list[str]:
        """The subscriptions of the cohort that this rollout has changed or notified: from the journal, and from their
        schedules."""
        known = {entry.subscription for entry in self.journal.entries() if entry.state != "undone"}
        found = []
        for subscription in self.subscriptions():
            schedule = rollout.running(subscription)
            ours = schedule is not None and self._is_ours(subscription, schedule)
            if (ours or subscription["id"] in known) and self.rules.cohort.has(subscription):
                found.append(str(subscription["id"]))
        return sorted(found)

    def undo(self, id_: str) -> tuple[Placed, str]:
        """Undo a move: before the renewal without a trace, afterwards at the next renewal.

        Returns:
            What happens to it, and what was done; "" for nothing.
        """
        back = self.rules.back
        subscription = self.subscription(id_)
        if subscription is None or subscription["status"] == "canceled":
            return Placed(id_, "", "", "stays", "gone"), ""
        entry = self.journal.entry(id_) or Entry(id_, "scheduled")
        schedule = rollout.running(subscription)
        ours = schedule is not None and self._is_ours(subscription, schedule)
        has_moved = bool(prices_of(subscription) & self.rules.new.ids) and entry.state != "noticed"
        if ours or (rollout.is_marked(subscription) and schedule is None):
            self._release(subscription, schedule)
            subscription["schedule"] = None
            subscription["metadata"] = {
                name: value for name, value in mapping(subscription.get("metadata")).items() if name != MARK
            }
        about = (id_, str(subscription["customer"]), str(subscription["currency"]))
        if not has_moved:
            self.journal.write(replace(entry, state="undone", not_before=None, note=""))
            return Placed(*about, "there"), "stays on the old version"
        placed = rollout.place(subscription, back)
        if placed.fate == "moves":
            self.journal.write(replace(entry, state="returning"))
            placed = replace(self, rules=back)._schedule(subscription, placed)
        if placed.fate in ("moves", "on its way"):
            return placed, f"moves back on {rollout.day(placed.effect or 0)}"
        if placed.fate == "there":
            self.journal.write(replace(entry, state="undone", not_before=None, note=""))
        return placed, ""

    def _is_ours(self, subscription: StripeObject, schedule: Mapping[str, Any]) -> bool:
        whose = schedules.classify(schedule, {self.rules.owner}, marked=rollout.is_marked(subscription))
        return whose == "ours"


def coupons_of(account: Account) -> Callable[[str], StripeObject | None]:
    """Looks up a coupon by its id, once."""
    inventory = run_of(account).inventory(COUPON)
    asked: dict[str, StripeObject | None] = {}

    def coupon(id_: str) -> StripeObject | None:
        if id_ not in asked:
            asked[id_] = inventory.fetch(id_)
        return asked[id_]

    return coupon


def _costs(price: Mapping[str, Any]) -> Any:
    """A price's cost in its own currency, in one spelling: from Stripe's object or from parameters."""

    def amount(of: Mapping[str, Any], name: str) -> str | None:
        value = of.get(f"{name}_decimal")
        return decimal_string(str(of.get(name) if value is None else value))

    tiers = [
        (
            None if tier.get("up_to") == "inf" else tier.get("up_to"),
            amount(tier, "unit_amount"),
            amount(tier, "flat_amount"),
        )
        for tier in price.get("tiers") or ()
    ]
    package, recurring = mapping(price.get("transform_quantity")), mapping(price.get("recurring"))
    return (
        price["currency"],
        None if tiers else amount(price, "unit_amount"),
        [tuple(each) for each in tiers],
        price.get("tiers_mode"),
        (package.get("divide_by"), package.get("round")),
        (recurring.get("interval"), recurring.get("interval_count") or 1),
    )
