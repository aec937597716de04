"""Which subscriptions move from one version of a plan to another, which do not and why, and their bills. Pure.

For subscriptions that were created elsewhere (Checkout, an app): `pulumi up` moves those that the program declares. A
subscription moves when its period ends, through a schedule (components/providers/schedules.py): nothing is prorated,
and there is no extra invoice. Subscriptions are Stripe's objects, as `moving.py` reads them.
"""

from __future__ import annotations

import calendar
import hashlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Decimal
from typing import Any, Final, Literal

import money
from components.pricing import EXACT, Fee, Plan, Usage
from components.providers import schedules
from components.providers.inventory import OWNER_KEY, StripeObject, owner_of, stack_of
from components.providers.schedules import MARK, CannotMove
from components.providers.subscription_items import key_of, prices_of
from components.providers.values import Inputs, id_of, mapping
from components.rating import Bill, Line, bills_of, rate_lines

#: The metadata key that keeps a subscription from moving, unless `--locked-by` names another.
LOCK: Final = "price_lock"
DAY: Final = 86_400
#: The end of the owner of a schedule that moves a subscription back.
_BACK: Final = " undone"
_SECONDS: Final = {"day": DAY, "week": 7 * DAY}
Quantities = Mapping[str, int | Decimal]
"""Seats or units of each charge, by its key."""

Fate = Literal["moves", "waits", "on its way", "there", "outside", "stays"]
"""What happens to a subscription: it moves now; it moves later, after its notice; it has its schedule; it is on the new
version; it is not in the cohort; it does not move."""


class RolloutError(Exception):
    """A rollout cannot be done as requested; the message is one line."""


@dataclass(frozen=True)
class Offer:
    """One version of a plan in Stripe.

    Attributes:
        prices: Stripe's prices by the key of the charge.
    """

    name: str
    number: int
    plan: Plan
    prices: Mapping[str, StripeObject]

    def __str__(self) -> str:
        return f"{self.name}@{self.number}"

    @property
    def ids(self) -> set[str]:
        return {str(price["id"]) for price in self.prices.values()}

    def key_of(self, price: str) -> str | None:
        """The key of the charge that a price is for."""
        return next((key for key, each in self.prices.items() if each["id"] == price), None)


@dataclass(frozen=True)
class Cohort:
    """The part of the subscriptions that moves.

    Attributes:
        percent: the share of customers, by a stable hash: the first 10 % are also in the first 20 %.
        only: the ids of subscriptions or customers; None for all.
        seed: also part of the hash, so that each rollout begins with different customers.
    """

    percent: Decimal = Decimal(100)
    only: frozenset[str] | None = None
    seed: str = ""

    def has(self, subscription: StripeObject) -> bool:
        customer = str(id_of(subscription["customer"]))
        if self.only is not None and not {subscription["id"], customer} & self.only:
            return False
        digest = hashlib.sha256(f"{self.seed}/{customer}".encode()).digest()
        return Decimal(int.from_bytes(digest[:6])) / 2**48 * 100 < self.percent


@dataclass(frozen=True)
class Rules:
    """The rules of a rollout.

    Attributes:
        stack: `<project>/<stack>`; `pulumi up` moves the subscriptions that its program declares.
        owner: `metadata[pulumi]` of our schedules.
        lock: the metadata key that keeps a subscription from moving.
        notice: seconds between notice and effect.
        within: a schedule is created when the renewal is at most this many seconds away; None for at once. Until then
            the app can change seats and cancel as usual.
        now: UTC seconds.
        coupon: looks up a coupon in Stripe by its id, with `applies_to`.
    """

    old: Offer
    new: Offer
    stack: str
    owner: str
    now: int
    coupon: Callable[[str], StripeObject | None]
    cohort: Cohort = field(default_factory=Cohort)
    lock: str = LOCK
    notice: int = 0
    within: int | None = None

    @property
    def back(self) -> Rules:
        """The rules to undo a rollout that has taken effect."""
        return replace(
            self, old=self.new, new=self.old, owner=self.owner + _BACK, notice=0, within=None, cohort=Cohort()
        )


@dataclass(frozen=True)
class Placed:
    """What happens to one subscription.

    Attributes:
        why: the reason if it does not move, the same words for all of a kind; `detail` is specific.
        effect: when the first of its prices moves (UTC seconds); `complete`: when all have, which is later if a yearly
            fee and a monthly overage are on one subscription.
        not_before: the end of its notice.
        moves, added: what its schedule changes, as arguments of `schedules.update_params`.
        before, after: the quantities billed on the old and the new version.
        old, new: the bills of each interval, before discounts and tax.
        discounts: the coupons that still apply then; None if their deduction is not computed here.
    """

    subscription: str
    customer: str
    currency: str
    fate: Fate
    why: str = ""
    detail: str = ""
    effect: int | None = None
    complete: int | None = None
    not_before: int | None = None
    moves: schedules.Moves = field(default_factory=dict)
    added: Sequence[Inputs] = ()
    before: Quantities = field(default_factory=dict)
    after: Quantities = field(default_factory=dict)
    old: tuple[Bill, ...] = ()
    new: tuple[Bill, ...] = ()
    discounts: tuple[StripeObject, ...] | None = ()


def place(subscription: StripeObject, rules: Rules, not_before: int | None = None) -> Placed:
    """Decide what happens to a subscription.

    Args:
        not_before: the earliest effect, as announced to its customer (UTC seconds), whatever the rules now say.
    """
    about = (str(subscription["id"]), str(id_of(subscription["customer"])), str(subscription["currency"]))
    try:
        _assert_free(subscription, rules)
        charges = _charges(subscription, rules.old)
        move = _move(subscription, charges, rules)
    except _Settled as settled:
        return Placed(*about, settled.fate, settled.why, settled.detail, effect=settled.effect)
    if not rules.cohort.has(subscription):
        return Placed(*about, "outside", "not in the cohort")
    told = rules.now + rules.notice if not_before is None else not_before
    if (rules.notice or not_before) and move.effect is not None and move.effect < told:
        late = _renewal_after(subscription, told)
        return replace(move, fate="waits", why="waiting for the notice to end", effect=late, not_before=told)
    if rules.within is not None and move.effect is not None and move.effect - rules.now > rules.within:
        return replace(move, fate="waits", why="waiting until the renewal is near")
    return move


class _Settled(Exception):
    """A subscription does not move now."""

    def __init__(self, fate: Fate, why: str, detail: str = "", effect: int | None = None) -> None:
        self.fate, self.why, self.detail, self.effect = fate, why, detail, effect


def _stays(why: str, detail: str = "") -> _Settled:
    return _Settled("stays", why, detail)


def _assert_free(subscription: StripeObject, rules: Rules) -> None:
    """Return if it can move as far as its items are not concerned."""
    owner = owner_of(subscription)
    if owner is not None:
        declared = stack_of(owner) == rules.stack
        raise _stays(
            "declared in this program, so pulumi up moves it" if declared else "declared in another program", owner
        )
    on = prices_of(subscription)
    schedule = running(subscription)
    whose = None if schedule is None else schedules.classify(schedule, {rules.owner}, marked=is_marked(subscription))
    if schedule is not None and whose == "ours" and schedules.planned(schedule) is not None:
        moment = schedules.moved_at(schedule)
        raise _Settled("on its way", "scheduled already", day(moment), moment)
    if schedule is not None and owner_of(schedule) == rules.owner + _BACK:
        raise _stays("moving back at its renewal (--undo)")
    if on & rules.new.ids and not on & rules.old.ids:
        raise _Settled("there", f"on {rules.new} already")
    if schedule is not None and whose != "ours":
        raise _stays("with a schedule that somebody else made, which is not touched", str(schedule["id"]))
    lock = mapping(subscription.get("metadata")).get(rules.lock)
    if lock and lock != "false":
        raise _stays(f"locked by metadata ({rules.lock})", str(lock)[:40])
    status = subscription["status"]
    if status == "trialing":
        raise _stays("in its trial", f"until {day(int(subscription['trial_end'] or 0))}")
    if status in ("past_due", "unpaid"):
        raise _stays("past due", str(status))
    if status != "active":
        raise _stays("not active", str(status))
    if subscription.get("pause_collection"):
        raise _stays("paused (pause_collection)")
    if subscription.get("cancel_at") or subscription.get("cancel_at_period_end"):
        raise _stays("about to end", f"on {day(int(subscription.get('cancel_at') or 0))}")
    if subscription["currency"] not in rules.new.plan.currencies:
        raise _stays(f"in a currency that {rules.new} is not sold in", str(subscription["currency"]))
    invoice = mapping(subscription.get("latest_invoice"))
    if invoice.get("status") == "draft" and invoice.get("billing_reason") == "subscription_cycle":
        raise _stays("just renewed, its invoice still a draft: run again in an hour", str(invoice["id"]))


def _charges(subscription: StripeObject, old: Offer) -> dict[str, StripeObject]:
    """The item of each charge, by the key in its metadata, else by the old version's price; never by product."""
    found: dict[str, StripeObject] = {}
    keys = {charge.key for charge in old.plan.charges}
    for item in items_of(subscription):
        price, key = str(item["price"]["id"]), key_of(item)
        by_price = old.key_of(price)
        if key in keys and by_price != key:
            raise _stays(f"with an item on a price that is not {old}'s", f"{key}: {price}")
        name = key if key in keys else by_price
        if name is None:
            continue
        if name in found:
            raise _stays("with two items of one charge", str(name))
        found[name] = item
    if missing := sorted(keys - found.keys()):
        raise _stays(f"without an item for a charge of {old}", ", ".join(missing))
    return found


def _move(subscription: StripeObject, charges: Mapping[str, StripeObject], rules: Rules) -> Placed:
    old, new = rules.old.plan, rules.new.plan
    moves: dict[str, schedules.Move | None] = {}
    before: dict[str, int | Decimal] = {}
    for charge in old.charges:
        item = charges[charge.key]
        is_usage = isinstance(charge, Usage)
        before[charge.key] = usage_of(subscription, str(item["price"]["id"])) if is_usage else item["quantity"]
        price = rules.new.prices.get(charge.key)
        same = price is not None and isinstance(new.charge(charge.key), Usage) == is_usage
        # A fee in one version and usage in the other is a different item without a known quantity.
        moves[item["id"]] = schedules.Move(price["id"]) if price is not None and same else None
    seats = next((before[fee.key] for fee in old.fees if fee.per == "seat"), 1)
    after: dict[str, int | Decimal] = {}
    added: list[Inputs] = []
    for charge in new.charges:
        was = next((each for each in old.charges if each.key == charge.key), None)
        if was is not None and isinstance(was, Usage) == isinstance(charge, Usage):
            after[charge.key] = before[charge.key]
            continue
        entry: Inputs = {"price": rules.new.prices[charge.key]["id"], "metadata": {OWNER_KEY: charge.key}}
        after[charge.key] = 0
        if isinstance(charge, Fee):
            after[charge.key] = entry["quantity"] = int(seats) if charge.per == "seat" else 1
        added.append(entry)
    try:
        effect, *_, complete = (*(times := schedules.renewals(subscription, moves)), times[-1])
        # This checks everything; the phases are built again from Stripe's answer about the schedule.
        phases_of(subscription, None, moves, added, rules)
    except CannotMove as problem:
        raise _stays("not movable at its renewal", str(problem)) from None
    currency = str(subscription["currency"])
    return Placed(
        str(subscription["id"]),
        str(id_of(subscription["customer"])),
        currency,
        "moves",
        effect=effect,
        complete=complete,
        moves=moves,
        added=added,
        before=before,
        after=after,
        old=bills_of(old, before, currency),
        new=bills_of(new, after, currency),
        discounts=_coupons(subscription, complete, rules),
    )


def phases_of(
    subscription: StripeObject,
    schedule: StripeObject | None,
    moves: schedules.Moves,
    added: Sequence[Inputs],
    rules: Rules,
) -> Inputs:
    """The parameters of a schedule that moves the prices.

    Args:
        schedule: the subscription's; None if there is none yet.

    Raises:
        CannotMove: Stripe has no such move.
    """
    start = min(int(item["current_period_start"]) for item in items_of(subscription))
    named = schedules.coupons_of(subscription, moves)
    coupons = {name: found for name in named if (found := rules.coupon(name)) is not None}
    return schedules.update_params(
        subscription,
        schedule or {"phases": [{"start_date": start}]},
        moves,
        added,
        metadata={OWNER_KEY: rules.owner},
        prices={price["id"]: price for price in rules.new.prices.values()},
        coupons=coupons,
    )


# -- what is paid ---------------------------------------------------------------------------------------------------


def usage_of(subscription: StripeObject, price: str) -> Decimal:
    """The units of a metered price on a subscription's last invoice, which are its last period's; 0 in the first."""
    invoice = mapping(subscription.get("latest_invoice"))
    return sum((Decimal(str(line["quantity"] or 0)) for line in lines_of(invoice, price)), Decimal(0))


def lines_of(invoice: Mapping[str, Any], price: str) -> list[Mapping[str, Any]]:
    """The lines that bill a price for a period, without prorations."""
    return [line for line in mapping(invoice.get("lines")).get("data", []) if price_of(line) == price]


def price_of(line: Mapping[str, Any]) -> str | None:
    """The price that a line bills for a period; None for a proration, and for a line without a subscription item."""
    details = mapping(mapping(line.get("parent")).get("subscription_item_details"))
    if not details or details.get("proration"):
        return None
    price = id_of(mapping(mapping(line.get("pricing")).get("price_details")).get("price"))
    return price if isinstance(price, str) else None


def discounted(total: int, discounts: Sequence[StripeObject] | None, currency: str) -> int | None:
    """An invoice's total after discounts; None if it is not computed here."""
    if discounts is None:
        return None
    rest = total
    for coupon in discounts:
        if coupon.get("percent_off") is not None:
            exact = EXACT.multiply(Decimal(rest), Decimal(str(coupon["percent_off"])) / 100)
            rest -= int(exact.quantize(Decimal(1), rounding=ROUND_HALF_UP, context=EXACT))
            continue
        options = mapping(coupon.get("currency_options"))
        off = coupon["amount_off"] if coupon["currency"] == currency else mapping(options.get(currency))["amount_off"]
        rest -= min(rest, int(off))
    return rest


def _coupons(subscription: StripeObject, moment: int, rules: Rules) -> tuple[StripeObject, ...] | None:
    """A subscription's coupons at that time, in order; None if some apply to only a part of the bill."""
    if any(item.get("discounts") for item in items_of(subscription)):
        return None
    found = []
    for discount in subscription.get("discounts") or ():
        end = mapping(discount).get("end")
        if end is not None and int(end) <= moment:
            continue
        coupon = rules.coupon(str(id_of(mapping(mapping(discount).get("source")).get("coupon"))))
        # A deleted coupon still applies, but its products can no longer be looked up.
        if coupon is None or mapping(coupon.get("applies_to")).get("products"):
            return None
        found.append(coupon)
    return tuple(found)


@dataclass(frozen=True)
class Prediction:
    """What the first invoice after a move bills.

    Attributes:
        fees: by price, the amount (minor units) billed in advance from then on.
        rates: by price, the (version, key) that rates the usage on the invoice.
        usage: the prices whose usage must be on the invoice, even if it is 0: otherwise no invoice would have it.
        kept: the prices of items that do not move.
        gone: the prices that no item bills from then on.
        discounts: the coupons that must be applied; None if their deduction is unknown.
    """

    fees: Mapping[str, int]
    rates: Mapping[str, tuple[Literal["old", "new"], str]]
    usage: Collection[str]
    kept: Collection[str]
    gone: Collection[str]
    discounts: Sequence[Inputs] | None
    has_discounts: bool

    def as_data(self) -> Inputs:
        return {
            "fees": dict(self.fees),
            "rates": {price: list(of) for price, of in self.rates.items()},
            "usage": sorted(self.usage),
            "kept": sorted(self.kept),
            "gone": sorted(self.gone),
            "discounts": None if self.discounts is None else list(self.discounts),
            "has_discounts": self.has_discounts,
        }

    @classmethod
    def of_data(cls, data: Mapping[str, Any]) -> Prediction:
        return cls(**{**data, "rates": {price: tuple(of) for price, of in data["rates"].items()}})


def predict(placed: Placed, subscription: StripeObject, rules: Rules) -> Prediction:
    """What the first invoice of a moving subscription bills."""
    fees: dict[str, int] = {}
    rates: dict[str, tuple[Literal["old", "new"], str]] = {}
    due = {str(item["price"]["id"]): int(item["current_period_end"]) for item in items_of(subscription)}
    for charge in rules.new.plan.charges:
        price = rules.new.prices[charge.key]["id"]
        if isinstance(charge, Usage):
            rates[price] = ("new", charge.key)
        else:
            was = rules.old.prices.get(charge.key)
            if was is None or due.get(was["id"], placed.complete) == placed.complete:
                fees[price] = _amount(rules.new.plan, charge, placed.after[charge.key], placed.currency)
    for usage in rules.old.plan.usage:
        # Usage is billed after its period: the first invoice still has the old version's usage.
        rates.setdefault(rules.old.prices[usage.key]["id"], ("old", usage.key))
    ours = rules.old.ids | rules.new.ids
    names = ("id", "percent_off", "amount_off", "currency", "currency_options")
    return Prediction(
        fees,
        rates,
        [price for price, (whose, _) in rates.items() if whose == "old" and due.get(price) == placed.complete],
        [price for price in due if price not in ours],
        [rules.old.prices[fee.key]["id"] for fee in rules.old.plan.fees if rules.old.prices[fee.key]["id"] not in fees],
        None if placed.discounts is None else [{name: each.get(name) for name in names} for each in placed.discounts],
        bool(placed.discounts is None or placed.discounts),
    )


def mismatches(invoice: StripeObject, predicted: Prediction, rules: Rules) -> Iterator[str]:
    """How the first invoice after a move differs from its prediction, in words and amounts.

    Args:
        invoice: with all its lines.
    """
    currency = str(invoice["currency"])
    lines = mapping(invoice.get("lines")).get("data", [])

    def named(price: str) -> str:
        for offer in (rules.new, rules.old):
            if (key := offer.key_of(price)) is not None:
                return f"{key} of {offer} ({price})"
        return price

    billed: dict[str, int] = {}
    units: dict[str, Decimal] = {}
    for line in lines:
        if (price := price_of(line)) is not None:
            billed[price] = billed.get(price, 0) + int(line["amount"])
            units[price] = units.get(price, Decimal(0)) + Decimal(str(line["quantity"] or 0))
    expected: dict[str, int] = dict(predicted.fees)
    for price, (whose, key) in predicted.rates.items():
        if price in billed:
            plan = (rules.old if whose == "old" else rules.new).plan
            expected[price] = _amount(plan, plan.charge(key), units[price], currency)
    for price in sorted({*expected, *billed} - set(predicted.kept)):
        if price not in expected and price not in predicted.gone and price not in rules.old.ids:
            amount = money.format_minor(billed[price], currency)
            yield f"{named(price)}, which it had no item of, is billed with {amount}"
        elif expected.get(price, 0) != billed.get(price, 0):
            was, is_ = (money.format_minor(each.get(price, 0), currency) for each in (expected, billed))
            yield f"{named(price)}: {was} was predicted, and {is_} is billed"
    for price in sorted(set(predicted.usage) - billed.keys()):
        yield f"{named(price)}: its usage is not billed"
    yield from _discount_mismatches(invoice, predicted, lines, currency)


def _discount_mismatches(
    invoice: StripeObject, predicted: Prediction, lines: Sequence[Any], currency: str
) -> Iterator[str]:
    taken = sum(int(each["amount"]) for each in invoice.get("total_discount_amounts") or ())
    total = sum(int(line["amount"]) for line in lines)
    if predicted.has_discounts and not taken and total > 0:
        yield "its discounts are gone"
    plain = all(price_of(line) is not None for line in lines)
    if predicted.discounts is None or not plain:
        return
    rest = discounted(total, predicted.discounts, currency)
    if rest is not None and total - rest != taken:
        was, is_ = (money.format_minor(each, currency) for each in (total - rest, taken))
        yield f"discounts of {was} were predicted, and {is_} are given"


def _amount(plan: Plan, charge: Fee | Usage, quantity: int | Decimal, currency: str) -> int:
    lines: Iterator[Line] = rate_lines(charge.key, plan.rate(charge, currency), quantity)
    return sum(line.amount for line in lines)


# -- small parts ------------------------------------------------------------------------------------------------------


def items_of(subscription: StripeObject) -> list[StripeObject]:
    return list(mapping(subscription.get("items")).get("data") or [])


def running(subscription: StripeObject) -> StripeObject | None:
    """A subscription's present schedule."""
    schedule = subscription.get("schedule")
    if isinstance(schedule, Mapping) and schedule.get("status") in schedules.RUNNING:
        return dict(schedule)
    return None


def is_marked(subscription: StripeObject) -> bool:
    return MARK in mapping(subscription.get("metadata"))


def day(moment: int) -> str:
    """A moment as a day (UTC)."""
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d")


def _renewal_after(subscription: StripeObject, moment: int) -> int:
    """The first renewal of a subscription's items at or after a moment.

    https://docs.stripe.com/billing/subscriptions/billing-cycle: in a shorter month it is the last day.
    """
    item = items_of(subscription)[0]
    recurring = mapping(item["price"]["recurring"])
    interval, count = str(recurring["interval"]), int(recurring.get("interval_count") or 1)
    anchor = int(subscription["billing_cycle_anchor"])
    number = 1
    while (end := _boundary(anchor, interval, count * number)) < moment or end < int(item["current_period_end"]):
        number += 1
    return end


def _boundary(anchor: int, interval: str, count: int) -> int:
    """The moment a number of intervals after another."""
    if interval in _SECONDS:
        return anchor + _SECONDS[interval] * count
    begun = datetime.fromtimestamp(anchor, UTC)
    year, month = divmod(begun.year * 12 + begun.month - 1 + count * (12 if interval == "year" else 1), 12)
    last = calendar.monthrange(year, month + 1)[1]
    return int(begun.replace(year=year, month=month + 1, day=min(begun.day, last)).timestamp())
