"""The billing cycle of one subscription: what each moment of its life bills. Pure functions: the caller stores.

A `Contract` is a subscription (Stripe's JSON, its items with private `_usage_from` and `_debits`; `_billed` and
`_counted` say what threshold invoices have billed of the usage since `_usage_from`, the last of them at
`_threshold_at`; during a trial offer an item's `price` is the offer's, and `_trial` has its own and its next), the
pending invoice items, and the place to look up prices, products and usage. The functions here change the contract in
place and return a `Draft` if an invoice is due. Previews run them on copies.

Licensed items bill in advance, metered items in arrears; each item has its own period, counted from one anchor.
`_debits` are the charges for an item's current period. Flexible billing mode credits from them, classic billing mode
from the item's present price and quantity
(https://docs.stripe.com/billing/subscriptions/billing-mode/compare).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from decimal import Decimal
from typing import Protocol

from sandbox.billing.discounts import Part, covers, reductions
from sandbox.billing.lines import (
    billed_charges,
    charge_text,
    fee_lines,
    invoice_item,
    is_metered,
    line_of_invoice_item,
    prorated_discounts,
    proration_text,
    remaining_time_line,
    trial_line,
    trial_usage_line,
    usage_lines,
)
from sandbox.billing.money import to_minor_units
from sandbox.billing.periods import Anchor, Interval
from sandbox.billing.proration import Debit, credit, credited_off, share
from sandbox.billing.rating import is_free, rate, rate_since, total
from sandbox.wire import Obj


class Catalog(Protocol):
    """The lookups of a contract."""

    def discounts(self, ids: Sequence[str]) -> list[Obj]:
        """The discounts that still apply, each as `id` and `coupon`."""

    def price(self, id: str) -> Obj:
        """A price with its tiers."""

    def product(self, id: str) -> Obj:
        """A product."""

    def usage(self, price: Obj, customer: str, start: int, end: int) -> Decimal:
        """What the price's meter counted for a customer from `start` (inclusive) to `end` (exclusive)."""


@dataclass
class Draft:
    """A future invoice: its lines, its reason, and the span of its usage and invoice items."""

    billing_reason: str
    period_start: int
    period_end: int
    lines: list[Obj]
    #: The invoice items among the lines.
    taken: list[Obj] = field(default_factory=list)
    #: The threshold that made it due, if any: `amount_gte` if that was reached, `items`: `usage_gte` by item id.
    threshold: Obj | None = None

    @property
    def total(self) -> int:
        """Minor units, before discounts."""
        return sum(line["amount"] for line in self.lines)


@dataclass(frozen=True)
class Fee:
    """An item's cost for a whole period, in minor units, and what each discount deducts, exactly."""

    gross: int
    off: Mapping[str, Decimal]

    @property
    def net(self) -> Decimal:
        """The cost after discounts."""
        return self.gross - sum(self.off.values(), Decimal(0))


@dataclass
class Contract:
    """A subscription, its pending invoice items, and the lookups."""

    subscription: Obj
    pending: list[Obj]
    catalog: Catalog
    new_id: Callable[[str], str]
    #: The present time, which can differ from `proration_date`. Recorded: invoice items are created then.
    now: int
    #: How many of `pending` existed before; the others are new.
    waiting: int = 0
    #: Whether it prorated a case in which Stripe's documentation contradicts itself: see `fee`.
    unclear: bool = False

    @property
    def items(self) -> list[Obj]:
        """The subscription's items, in order."""
        data: list[Obj] = self.subscription["items"]["data"]
        return data

    @items.setter
    def items(self, items: list[Obj]) -> None:
        self.subscription["items"]["data"] = items

    @property
    def flexible(self) -> bool:
        """Whether the billing mode is flexible."""
        return bool(self.subscription["billing_mode"]["type"] == "flexible")

    @property
    def itemized(self) -> bool:
        """Whether prorations show gross amounts with their discounts."""
        settings = self.subscription["billing_mode"].get("flexible") or {}
        return self.flexible and settings.get("proration_discounts") == "itemized"

    @property
    def anchor(self) -> Anchor:
        """The anchor that billing periods are counted from."""
        config = self.subscription["billing_cycle_anchor_config"]
        day = None if config is None else config["day_of_month"]
        return Anchor(self.subscription["billing_cycle_anchor"], day)

    @property
    def trialing(self) -> bool:
        """Whether the present period is free, whatever the prices. Trial offers bill their own price, even 0."""
        return bool(self.subscription["status"] == "trialing") and not any(map(in_trial, self.items))

    def anchor_of(self, item: Obj) -> Anchor:
        """The anchor of an item's periods: during a trial offer the beginning of the offer, so that whole periods are
        billed."""
        trial = item.get("current_trial")
        return self.anchor if trial is None else Anchor(trial["start_date"])

    def price(self, item: Obj) -> Obj:
        """An item's price."""
        return self.catalog.price(item["price"])

    def product(self, item: Obj) -> Obj:
        """An item's product."""
        return self.catalog.product(self.price(item)["product"])

    def interval(self, item: Obj) -> Interval:
        """How often an item bills."""
        return Interval.of(self.price(item)["recurring"])

    def fee(self, item: Obj, among: Sequence[Obj]) -> Fee:
        """An item's fee for a whole period with its discounts, because prorations are net of them.

        An `amount_off` of the subscription is weighed over the fees of the items `among` that bill together
        (https://docs.stripe.com/billing/subscriptions/prorations#credit-prorations). For classic billing mode, the
        page's text shares it evenly, but its figures deduct all of it from each item: `unclear` records that case.
        """
        together = [
            other
            for other in among
            if other["id"] == item["id"]
            or (
                not is_metered(self.price(other))
                and (self.interval(other), self.anchor_of(other)) == (self.interval(item), self.anchor_of(item))
            )
        ]
        whole = self.catalog.discounts(self.subscription["discounts"])
        parts = []
        for other in together:
            shown = item if other["id"] == item["id"] else other
            price = self.price(shown)
            own = self.catalog.discounts(shown["discounts"])
            parts.append(Part(Decimal(total(price, shown["quantity"])), price["product"], own))
        shared = (
            sum(1 for part in parts if part.amount and covers(discount["coupon"], part)) > 1
            for discount in whole
            if discount["coupon"]["percent_off"] is None
        )
        if not self.flexible and any(shared):
            self.unclear = True
        place = next(index for index, other in enumerate(together) if other["id"] == item["id"])
        taken = reductions(parts, whole, self.subscription["currency"])[place]
        return Fee(int(parts[place].amount), taken)

    def period_length(self, item: Obj, at: int) -> int:
        """Seconds in the whole period around an instant, the denominator of a proration."""
        start, end = self.anchor_of(item).period_around(self.interval(item), at)
        return end - start

    def next_end(self, item: Obj, at: int) -> int:
        """The end of an item's period that begins at `at`: the next boundary, or the subscription's end if earlier."""
        end = self.anchor_of(item).next_boundary(self.interval(item), at)
        cancel_at = self.subscription["cancel_at"]
        return end if cancel_at is None or self.subscription["cancel_at_period_end"] else min(end, cancel_at)


def renewal_due(contract: Contract) -> int:
    """When the next item's period ends."""
    return int(min(item["current_period_end"] for item in contract.items))


# -- trial offers -----------------------------------------------------------------------------------------------------


def in_trial(item: Obj) -> bool:
    """Whether an item currently bills a trial offer's price."""
    return item.get("current_trial") is not None


def own_price(item: Obj) -> str:
    """The price that an item shows: a trial offer bills another one without changing it.

    https://docs.stripe.com/billing/subscriptions/trials
    """
    return str(item["_trial"]["price"] if in_trial(item) else item["price"])


def put_in_trial(item: Obj, offer: Obj, price: Obj, at: int) -> None:
    """Let an item bill `price`, a trial offer's, for the offer's number of whole intervals."""
    end = Anchor(at).boundary(Interval.of(price["recurring"]), offer["duration"]["relative"]["iterations"])
    item["_trial"] = {"price": item["price"], "next": offer["end_behavior"]["transition"]["price"]}
    item["price"] = price["id"]
    item["current_trial"] = {"end_date": end, "start_date": at, "trial_offer": offer["id"]}


def trial_over(contract: Contract, at: int) -> bool:
    """Whether a trial ends at `at`: the subscription's, or an item's trial offer."""
    if contract.trialing:
        return bool(contract.subscription["trial_end"] <= at)
    return any(_is_over(item, at) for item in contract.items)


def _is_over(item: Obj, at: int) -> bool:
    return in_trial(item) and bool(item["current_trial"]["end_date"] <= at)


def leave_trials(contract: Contract, at: int) -> list[Obj]:
    """Move the items whose trial offers are over to their next price; returns those items as they were."""
    left = []
    for item in contract.items:
        if _is_over(item, at):
            left.append(dict(item))
            item["price"] = item.pop("_trial")["next"]
            item["current_trial"] = None
    if left:
        show_trials(contract, at)
    return left


def show_trials(contract: Contract, at: int) -> None:
    """A subscription is `trialing` if all its items are in free trial offers.

    https://docs.stripe.com/billing/subscriptions/trials#subscription-trialing-status-and-trial-offer
    """
    subscription = contract.subscription
    if all(in_trial(item) and is_free(contract.price(item)) for item in contract.items):
        if subscription["status"] in ("active", "trialing"):
            trials = [item["current_trial"] for item in contract.items]
            subscription["status"] = "trialing"
            subscription["trial_start"] = min(trial["start_date"] for trial in trials)
            subscription["trial_end"] = min(trial["end_date"] for trial in trials)
    elif subscription["status"] == "trialing":
        subscription.update(status="active", trial_end=min(subscription["trial_end"], at))


def bill_trials(contract: Contract, begun: Collection[str], at: int) -> Draft | None:
    """Bill at once the items (by id) whose trial offers have begun at `at`, and the pending items.

    Stripe: a paid trial needs an immediate payment to begin.
    """
    past_start = min(item["current_period_start"] for item in contract.items)
    lines: list[Obj] = []
    for item in contract.items:
        if item["id"] in begun and not is_metered(contract.price(item)):
            lines.extend(_fee(contract, item, "create_prorations"))
    return _draft(contract, "subscription_update", past_start, at, lines)


def keeps_anchor(subscription: Obj) -> bool:
    """Whether a trial's end keeps the anchor from before."""
    settings = (subscription.get("trial_settings") or {}).get("end_behavior") or {}
    return bool(settings.get("billing_cycle_anchor") == "unchanged")


# -- the beginning ----------------------------------------------------------------------------------------------------


def begin(contract: Contract, at: int, proration_behavior: str) -> Draft | None:
    """Set the first periods and bill them. None if the first invoice would be empty.

    The subscription has its anchor, `start_date` (before `at` if backdated) and, in a trial, `trial_end`. Flexible
    billing mode omits metered items; classic adds a line of 0 for each.
    """
    subscription = contract.subscription
    backdated = subscription["start_date"] < at
    lines: list[Obj] = []
    for item in contract.items:
        _count_from(contract, item, at)
        item["_debits"] = []
        metered = is_metered(contract.price(item))
        if contract.trialing:
            item["current_period_start"], item["current_period_end"] = at, subscription["trial_end"]
            if not metered:
                lines.append(trial_line(item, contract.price(item), contract.product(item), _period(item)))
            elif not contract.flexible:
                lines.extend(_zero_usage(contract, item))
            continue
        start, _ = contract.anchor.period_around(contract.interval(item), at) if backdated else (at, None)
        start = max(start, subscription["start_date"])
        item["current_period_start"], item["current_period_end"] = start, contract.next_end(item, at)
        if backdated and proration_behavior != "none":
            lines.extend(_backdated(contract, item, at))
        if metered:
            if not contract.flexible:
                lines.extend(_zero_usage(contract, item))
        elif start == at or (contract.flexible and proration_behavior != "none"):
            lines.extend(_fee(contract, item, proration_behavior))
            lines.extend(_fees_ahead(contract, item))
    return _draft(contract, "subscription_create", at, at, lines)


def _backdated(contract: Contract, item: Obj, at: int) -> list[Obj]:
    """What is billed at `at` for the time since an earlier `start_date`.

    In flexible mode, each ended period as if billed at its end: fee or usage. In classic mode, one line for the fee up
    to the first whole period, in periods counted from `start_date`; usage waits for the next invoice
    (https://docs.stripe.com/billing/subscriptions/backdating,
    https://docs.stripe.com/billing/subscriptions/usage-based/manage-billing).
    """
    begun, present, interval = (
        contract.subscription["start_date"],
        item["current_period_start"],
        contract.interval(item),
    )
    metered = is_metered(contract.price(item))
    lines: list[Obj] = []
    if contract.flexible:
        for start, end in contract.anchor.spans(interval, begun, present):
            lines.extend(_used_lines(contract, item, start, end) if metered else _fee_lines(contract, item, start, end))
        _count_from(contract, item, present)
    elif metered:
        _count_from(contract, item, begun)
    else:
        whole = at if present == at else item["current_period_end"]
        counted, fee = Anchor(begun), total(contract.price(item), item["quantity"])
        amount = 0
        for start, end in counted.spans(interval, begun, whole):
            whole_start, whole_end = counted.period_around(interval, start)
            amount += share(fee, end - start, whole_end - whole_start)
        lines.append(remaining_time_line(item, contract.price(item), contract.product(item), amount, (begun, whole)))
        if whole > at:
            _remember(item, amount, begun, whole, {})
    for line in lines:
        # Discounts apply from the start too.
        line["_as_of"] = line["period"]["start"]
    return lines


def _used_lines(contract: Contract, item: Obj, start: int, end: int) -> list[Obj]:
    """An item's usage from `start` to `end`, as known now."""
    _count_from(contract, item, start)
    return settled(_usage(contract, item, end))


# -- renewal ----------------------------------------------------------------------------------------------------------


def renew(
    contract: Contract,
    at: int,
    *,
    billing_reason: str = "subscription_cycle",
    after: list[Obj] | None = None,
    used: list[tuple[Obj, list[Obj]]] | None = None,
    proration_behavior: str = "create_prorations",
) -> Draft | None:
    """End the periods that end by `at`, begin the next ones, and bill: past usage, then the next fees.

    The end of a trial is a renewal too: usage during the trial is free, with a line of 0. `after`: the items
    of the next period, if they differ (the next phase of a schedule); past usage is billed by the old items, fees by
    the new ones. `used`: the lines of past usage, if they are not those of the time before `at`.
    """
    was_trialing = contract.trialing
    if was_trialing:
        contract.subscription["status"] = "active"
    due = [item for item in contract.items if item["current_period_end"] <= at]
    past_start = min((item["current_period_start"] for item in due), default=at)
    used_lines = _trial_usage if was_trialing else _usage
    billed = used
    if billed is None:
        billed = [(item, used_lines(contract, item, at)) for item in due if is_metered(contract.price(item))]
    if after is not None:
        due = _put_after(contract, due, after)
    left = _end_trial_offers(contract, due, at, proration_behavior)
    for item in due:
        _count_from(contract, item, at, left.get(item["id"]))
        item["_debits"] = [debit for debit in item["_debits"] if is_ahead(item) and debit["end"] > at]
        item["current_period_start"], item["current_period_end"] = at, contract.next_end(item, at)
        if not is_metered(contract.price(item)):
            billed.append((item, _fee(contract, item, proration_behavior)))
    places = {item["id"]: place for place, item in enumerate(contract.items)}
    # Stripe: subscription items in reverse chronological order; those created together keep their order.
    billed.sort(key=lambda entry: (-entry[0]["created"], places.get(entry[0]["id"], -1)))
    return _draft(contract, billing_reason, past_start, at, [line for _, lines in billed for line in lines])


def _put_after(contract: Contract, due: list[Obj], after: list[Obj]) -> list[Obj]:
    """Apply the items of the next period; returns those whose period begins when that of the `due` items ends."""
    ended, known = ({item["id"] for item in items} for items in (due, contract.items))
    contract.items = after
    return [item for item in after if item["id"] in ended or item["id"] not in known]


def _end_trial_offers(contract: Contract, due: list[Obj], at: int, proration_behavior: str) -> dict[str, Obj]:
    """Move items to the price after their trial offers, and the other items to the anchor that this sets; returns the
    moved items as they were, by id."""
    left = {item["id"]: item for item in leave_trials(contract, at)}
    if left and not keeps_anchor(contract.subscription):
        _set_anchor(contract, at)
        renewed = {item["id"] for item in due}
        for item in contract.items:
            if item["id"] not in renewed and not in_trial(item):
                _follow_anchor(contract, item, at, proration_behavior)
    return left


# -- in advance -------------------------------------------------------------------------------------------------------


def is_ahead(item: Obj) -> bool:
    """Whether an item has been billed for more than its present period."""
    return bool((item.get("billed_until") or 0) > item["current_period_end"])


def spans_ahead(contract: Contract, item: Obj, until: int) -> list[tuple[int, int]]:
    """The periods (the last may be partial) from the end of what an item has been billed for to `until`."""
    start = max(item["current_period_end"], item.get("billed_until") or 0)
    return contract.anchor_of(item).spans(contract.interval(item), start, until)


def bill_ahead(contract: Contract, proration_behavior: str) -> None:
    """Debit the future periods that `billing_schedules` request (each item's `_bill_until`)."""
    for item in contract.items:
        until = item.pop("_bill_until", None) or 0
        for start, end in spans_ahead(contract, item, until):
            _debit(contract, item, start, end, proration_behavior)
            item["billed_until"] = end


def _fees_ahead(contract: Contract, item: Obj) -> list[Obj]:
    """The fees of future periods on a first invoice, a line each."""
    lines: list[Obj] = []
    for start, end in spans_ahead(contract, item, item.pop("_bill_until", None) or 0):
        fees = _fee_lines(contract, item, start, end)
        _remember(item, sum(line["amount"] for line in fees), start, end, {})
        item["billed_until"] = end
        lines.extend(fees)
    return lines


# -- thresholds -------------------------------------------------------------------------------------------------------


def accrued(contract: Contract, at: int) -> list[tuple[Obj, list[Obj]]]:
    """Each metered item with the lines of its unbilled usage, including the second `at`."""
    found = []
    for item in contract.items:
        if is_metered(contract.price(item)):
            start, price = item["_usage_from"], contract.price(item)
            used = _used(contract, item, at + 1)
            lines = usage_lines(item, price, contract.product(item), used, (start, max(start, at)))
            found.append((item, settled(lines)))
    return found


def used_since_billed(contract: Contract, item: Obj, at: int) -> Decimal:
    """An item's unbilled units up to and including `at`, for comparison with `usage_gte`."""
    billed = item.get("_billed")
    return _used(contract, item, at + 1) - (Decimal(0) if billed is None else Decimal(billed["usage"]))


def bill_accrued(contract: Contract, at: int) -> Draft | None:
    """Bill the period's accrued usage, for a reached threshold.

    The period and its tiers continue, unless `reset_billing_cycle_anchor` is set: then the period ends at `at`, fees
    included, and usage in that second is not counted again.
    https://docs.stripe.com/billing/subscriptions/usage-based/thresholds
    """
    subscription = contract.subscription
    billed = accrued(contract, at)
    for item, _ in billed:
        item["_threshold_at"] = at
    if not (subscription["billing_thresholds"] or {}).get("reset_billing_cycle_anchor"):
        for item, _ in billed:
            units = _used(contract, item, at)
            charges = [charge.stored() for charge in rate(contract.price(item), units)]
            item["_billed"] = {"until": at, "usage": str(units), "charges": charges}
        start = min(item["current_period_start"] for item in contract.items)
        return _draft(contract, "subscription_threshold", start, at, [line for _, lines in billed for line in lines])
    for item in contract.items:
        item["current_period_end"] = at
    subscription["billing_cycle_anchor"] = at
    subscription["billing_cycle_anchor_config"] = None
    return renew(contract, at, billing_reason="subscription_threshold", used=billed)


# -- changes ----------------------------------------------------------------------------------------------------------


def change_items(contract: Contract, after: list[Obj], at: int, proration_behavior: str) -> None:
    """Replace the present items: credit removed items and debit new ones for the rest of the period.

    `after` has the resulting items; one with a present item's id replaces it. In flexible mode the usage of a removed
    metered price becomes invoice items; in classic mode it is not billed
    (https://docs.stripe.com/billing/subscriptions/usage-based/manage-billing-setup).
    """
    before = {item["id"]: item for item in contract.items}
    kept = {item["id"] for item in after}
    for old in contract.items:
        if old["id"] not in kept:
            _let_go(contract, old, at, proration_behavior)
    for item in after:
        present = before.get(item["id"])
        if present is not None and _same_terms(present, item):
            continue
        if present is not None:
            _let_go(contract, present, at, proration_behavior)
        _take_on(contract, item, present, after, at, proration_behavior)
    contract.items = after


def resets_anchor(contract: Contract, after: Sequence[Obj]) -> bool:
    """Whether a change of items moves the anchor to the moment of the change although the request does not ask for it.

    In classic mode a new interval does, and the first price that is not 0; in flexible mode nothing does
    (https://docs.stripe.com/billing/subscriptions/billing-mode/compare).
    """
    if contract.flexible:
        return False
    was, becomes = ({contract.interval(item) for item in items} for items in (contract.items, after))
    free, stays_free = (all(is_free(contract.price(item)) for item in items) for items in (contract.items, after))
    return was != becomes or (free and not stays_free)


def restart(contract: Contract, after: list[Obj], at: int, proration_behavior: str) -> Draft | None:
    """Begin new periods at `at`, which becomes the anchor, with the resulting items; bill at once.

    The early end of a trial does this, and in classic mode `billing_cycle_anchor=now` and `resets_anchor`. With
    `always_invoice`, classic mode leaves already pending invoice items to the next invoice
    (https://docs.stripe.com/billing/subscriptions/billing-mode/compare).
    """
    before = {item["id"]: item for item in contract.items}
    kept = {item["id"]: item for item in after}
    for old in contract.items:
        goes = old["id"] not in kept or not _same_terms(old, kept[old["id"]])
        if goes or not is_metered(contract.price(old)):
            _let_go(contract, old, at, proration_behavior)
    for item in after:
        present = before.get(item["id"])
        stays = present is not None and _same_terms(present, item)
        if not stays:
            _count_from(contract, item, at)
        item["current_period_start"] = at if present is None else present["current_period_start"]
        item["current_period_end"] = at
    contract.items = after
    _set_anchor(contract, at)
    left: list[Obj] = []
    if proration_behavior == "always_invoice" and not contract.flexible:
        left, contract.pending = contract.pending[: contract.waiting], contract.pending[contract.waiting :]
        contract.waiting = 0
    draft = renew(contract, at, billing_reason="subscription_update")
    contract.pending.extend(left)
    return draft


def move_anchor(contract: Contract, at: int, proration_behavior: str) -> None:
    """Make `at` the anchor in flexible billing mode: begin new periods, and debit what they add to the old ones.

    Recorded: no immediate invoice, and one pending "Remaining time" from the old period's end to the new one's. Paid
    time is not credited. Usage up to `at` becomes invoice items, as when its price is removed.
    """
    _set_anchor(contract, at)
    for item in contract.items:
        _follow_anchor(contract, item, at, proration_behavior)


def _set_anchor(contract: Contract, at: int) -> None:
    contract.subscription.update(billing_cycle_anchor=at, billing_cycle_anchor_config=None)


def _follow_anchor(contract: Contract, item: Obj, at: int, proration_behavior: str) -> None:
    was, becomes = item["current_period_end"], contract.next_end(item, at)
    if is_metered(contract.price(item)):
        _usage_items(contract, item, at, proration_behavior)
        _count_from(contract, item, at)
    elif becomes > was:
        _debit(contract, item, was, becomes, proration_behavior)
    else:
        _credit(contract, item, becomes, proration_behavior, until=was)
    item["current_period_start"], item["current_period_end"] = at, becomes


def end_trial(contract: Contract, after: list[Obj], at: int, proration_behavior: str) -> Draft | None:
    """End a trial early and keep the anchor: bill the rest of the period around `at`."""
    for item in contract.items:
        item["current_period_end"] = at
    return renew(contract, at, billing_reason="subscription_update", after=after, proration_behavior=proration_behavior)


def begin_trial(
    contract: Contract, at: int, trial_end: int, proration_behavior: str, *, keep_anchor: bool = False
) -> Draft | None:
    """Make the time from `at` to `trial_end` free and count periods from its end; credit paid time.

    With `keep_anchor` periods are counted as before, and the rest of a period at the trial's end is billed in part.

    Recorded: an active subscription gets an immediate invoice with the credit and the zero line of the trial; one that
    is already in a trial gets none.
    """
    extends = contract.trialing
    past_start = min(item["current_period_start"] for item in contract.items)
    for item in contract.items:
        if is_metered(contract.price(item)):
            _usage_items(contract, item, at, proration_behavior)
        else:
            _credit(contract, item, at, proration_behavior)
        _count_from(contract, item, at)
        item["_debits"] = []
        item["current_period_start"] = item["current_period_start"] if contract.trialing else at
        item["current_period_end"] = trial_end
    subscription = contract.subscription
    if not contract.trialing:
        # Classic mode keeps showing when the first trial began.
        first = at if contract.flexible else subscription["trial_start"] or at
        subscription.update(trial_start=first, _anchor=subscription["billing_cycle_anchor"])
    if not keep_anchor:
        subscription.update(billing_cycle_anchor=trial_end, billing_cycle_anchor_config=None)
    subscription.update(status="trialing", trial_end=trial_end)
    if extends:
        return None
    lines = [
        trial_line(item, contract.price(item), contract.product(item), _period(item))
        for item in contract.items
        if not is_metered(contract.price(item))
    ]
    return _draft(contract, "subscription_update", past_start, at, lines)


def credit_the_rest(contract: Contract, at: int) -> None:
    """Credit every licensed item's unused time, as a cancellation with `prorate` does."""
    for item in contract.items:
        if not is_metered(contract.price(item)):
            _credit(contract, item, at, "create_prorations")


def move_period_ends(contract: Contract, at: int, proration_behavior: str) -> None:
    """Shorten or extend the present periods to the new `cancel_at`, and prorate the difference."""
    for item in contract.items:
        if contract.trialing:
            continue
        was, becomes = item["current_period_end"], contract.next_end(item, at)
        if is_ahead(item):
            _give_back_ahead(contract, item, proration_behavior)
        if was == becomes:
            continue
        if not is_metered(contract.price(item)):
            if becomes < was:
                _credit(contract, item, becomes, proration_behavior, until=was)
            else:
                _debit(contract, item, was, becomes, proration_behavior)
        item["current_period_end"] = becomes
    if contract.subscription["cancel_at_period_end"]:
        contract.subscription["cancel_at"] = renewal_due(contract)


def _give_back_ahead(contract: Contract, item: Obj, proration_behavior: str) -> None:
    """Credit an item's charges for the time after the subscription's end; a later renewal bills it again."""
    cancel_at = contract.subscription["cancel_at"]
    if cancel_at is not None and item["current_period_end"] <= cancel_at < item["billed_until"]:
        _credit(contract, item, cancel_at, proration_behavior)
    if cancel_at is not None and cancel_at < item["billed_until"] and proration_behavior != "none":
        item["billed_until"] = cancel_at


# -- the end ----------------------------------------------------------------------------------------------------------


def close(contract: Contract, at: int) -> Draft | None:
    """The last invoice: pending items and unbilled usage."""
    lines: list[Obj] = []
    if not contract.trialing:
        for item in contract.items:
            if is_metered(contract.price(item)):
                lines.extend(_usage(contract, item, at))
    start = min(item["current_period_start"] for item in contract.items)
    return _draft(contract, "subscription_cycle", start, at, lines)


def bill_at(contract: Contract, at: int) -> Draft | None:
    """What a contract bills at `at`: its end if that is due, a renewal, or earlier the pending items."""
    cancel_at = contract.subscription["cancel_at"]
    if cancel_at is not None and cancel_at <= at:
        return close(contract, at)
    if renewal_due(contract) > at:
        return take_pending(contract, "automatic_pending_invoice_item_invoice", at)
    return renew(contract, at)


def recurring(contract: Contract) -> Draft:
    """What a contract bills in a whole period of each item: fees, zero usage, no one-time amounts.
    https://docs.stripe.com/api/invoices/create_preview (`preview_mode`)"""
    lines: list[Obj] = []
    periods = []
    for item in contract.items:
        period = contract.anchor_of(item).period_around(contract.interval(item), item["current_period_start"])
        periods.append(period)
        price, product = contract.price(item), contract.product(item)
        if is_metered(price):
            lines.extend(usage_lines({**item, "_billed": None}, price, product, Decimal(0), period))
        else:
            lines.extend(fee_lines(item, price, product, period))
    return Draft("upcoming", min(start for start, _ in periods), max(end for _, end in periods), lines)


def take_pending(contract: Contract, billing_reason: str, at: int) -> Draft | None:
    """An invoice of the pending invoice items alone."""
    start = min(item["current_period_start"] for item in contract.items)
    return _draft(contract, billing_reason, start, at, [])


def billed(contract: Contract, lines: list[Obj]) -> None:
    """Store with each debit just billed its lines, and with each fee the amount after discounts: a later credit names
    those lines, and returns no more than was charged."""
    items = {item["id"]: item for item in contract.items}
    for line in lines:
        details = line["parent"]["subscription_item_details"]
        item = None if details is None else items.get(details["subscription_item"])
        if item is None:
            continue
        waited = details["invoice_item"]
        for debit in item["_debits"]:
            if debit["item"] != waited or (waited is None and debit["start"] != line["period"]["start"]):
                continue
            debit["invoice"] = line["invoice"]
            debit["lines"].append(line["id"])
            # A proration is already net of its discounts.
            for given in line["discount_amounts"] if waited is None else ():
                debit["amount"] -= given["amount"]
                debit["off"][given["discount"]] = debit["off"].get(given["discount"], 0) + given["amount"]


# -- added invoice items ----------------------------------------------------------------------------------------------


def named_period(contract: Contract, named: Mapping[str, str], otherwise: tuple[int, int]) -> tuple[int, int]:
    """A period with one or both bounds defined by the periods of the contract's items.

    https://docs.stripe.com/api/subscriptions/create (`add_invoice_items.period`)
    """
    start, end = otherwise
    if named.get("start") == "max_item_period_start":
        start = max(item["current_period_start"] for item in contract.items)
    if named.get("end") == "min_item_period_end":
        end = min(item["current_period_end"] for item in contract.items)
    return start, end


def name_periods(contract: Contract, pending: Sequence[Obj]) -> None:
    """Set the periods of added invoice items that refer to the items' periods (`_period`), once those are known."""
    for item in pending:
        if "_period" in item:
            known = (item["period"]["start"], item["period"]["end"])
            start, end = named_period(contract, item.pop("_period"), known)
            item["period"] = {"start": start, "end": end}


# -- parts ------------------------------------------------------------------------------------------------------------


def settled(lines: list[Obj]) -> list[Obj]:
    """Make lines final: later usage does not change them.

    Stripe: the lines of a threshold invoice, and of every other invoice not due to the end of a period or phase
    (https://docs.stripe.com/billing/subscriptions/usage-based/configure-grace-period).
    """
    for line in lines:
        line.pop("_usage", None)
        line.pop("_part", None)
    return lines


def _draft(contract: Contract, billing_reason: str, start: int, end: int, lines: list[Obj]) -> Draft | None:
    waiting, contract.pending = contract.pending, []
    taken = [*waiting[contract.waiting :], *waiting[: contract.waiting]]
    contract.waiting = 0
    name_periods(contract, taken)
    if not taken and not lines:
        return None
    # Stripe: pending invoice items in reverse chronological order, before the subscription's items.
    taken = sorted(taken, key=lambda item: -int(item["date"]))
    return Draft(billing_reason, start, end, [*(line_of_invoice_item(item) for item in taken), *lines], taken)


def _period(item: Obj) -> tuple[int, int]:
    return item["current_period_start"], item["current_period_end"]


def _same_terms(one: Obj, other: Obj) -> bool:
    return all(one.get(name) == other.get(name) for name in ("current_trial", "price", "quantity"))


def _fee(contract: Contract, item: Obj, proration_behavior: str) -> list[Obj]:
    """Bill an item's present period (a partial one in proportion) and record the debit.

    Periods billed in advance are not billed again. Without proration a partial period is free, except in classic mode
    one cut off only by the subscription's end
    (https://docs.stripe.com/billing/subscriptions/billing-mode/compare).
    """
    start, end = _period(item)
    if (item.get("billed_until") or 0) >= end:
        return []
    start = max(start, item.pop("billed_until", None) or 0)
    natural = contract.anchor_of(item).period_around(contract.interval(item), start)
    billed = (start, end) == natural or (start == natural[0] and not contract.flexible)
    if proration_behavior == "none" and not billed:
        return []
    lines = _fee_lines(contract, item, start, end)
    _remember(item, sum(line["amount"] for line in lines), start, end, {})
    return lines


def _fee_lines(contract: Contract, item: Obj, start: int, end: int) -> list[Obj]:
    price, product = contract.price(item), contract.product(item)
    if contract.anchor_of(item).period_around(contract.interval(item), start) == (start, end):
        return fee_lines(item, price, product, (start, end))
    amount = share(total(price, item["quantity"]), end - start, contract.period_length(item, start))
    return [remaining_time_line(item, price, product, amount, (start, end))]


def _usage(contract: Contract, item: Obj, at: int) -> list[Obj]:
    start = item["_usage_from"]
    if start >= _usage_end(item, at):  # just added: there can be no usage
        return []
    lines = usage_lines(item, contract.price(item), contract.product(item), _used(contract, item, at), (start, at))
    for line in lines:
        line["_usage"]["end"] = _usage_end(item, at)
    return lines


def _trial_usage(contract: Contract, item: Obj, at: int) -> list[Obj]:
    used = max(_used(contract, item, at), Decimal(0))
    return [trial_usage_line(item, contract.price(item), contract.product(item), used, (item["_usage_from"], at))]


def _used(contract: Contract, item: Obj, end: int) -> Decimal:
    """An item's usage since `_usage_from`, before `end`, less the part that the previous period has billed."""
    counted = Decimal(item.get("_counted", "0"))
    start, end = item["_usage_from"], _usage_end(item, end)
    return contract.catalog.usage(contract.price(item), contract.subscription["customer"], start, end) - counted


def _usage_end(item: Obj, end: int) -> int:
    """`end`, or one second later if a threshold invoice has begun to bill that second."""
    return end + 1 if item.get("_threshold_at") == end else end


def _count_from(contract: Contract, item: Obj, at: int, was: Obj | None = None) -> None:
    """Count an item's usage, and fill its tiers, from `at` on, except for what is already billed of that second.

    `was` is the item before, if its price changed.
    """
    item["_usage_from"], item["_billed"], item["_counted"] = at, None, "0"
    meters = {(contract.price(each)["recurring"] or {}).get("meter") for each in (item, was or item)}
    if item.get("_threshold_at") == at and len(meters) == 1 and is_metered(contract.price(item)):
        item["_counted"] = str(_used(contract, item, at))


def _zero_usage(contract: Contract, item: Obj) -> list[Obj]:
    lines = usage_lines(item, contract.price(item), contract.product(item), Decimal(0), _period(item))
    # No usage yet: no flat fee either, and nothing to rate again.
    return [line for line in settled(lines) if line["amount"] == 0][:1]


def _let_go(contract: Contract, item: Obj, at: int, proration_behavior: str) -> None:
    if is_metered(contract.price(item)):
        if contract.flexible:
            _usage_items(contract, item, _parting(contract, item, at), proration_behavior)
    else:
        _credit(contract, item, at, proration_behavior)


def _parting(contract: Contract, present: Obj | None, at: int) -> int:
    """Where a change that is prorated from `at` splits usage, so that all usage is billed exactly once."""
    parting = min(at, contract.now)
    return parting if present is None else max(parting, present["_usage_from"])


def _take_on(
    contract: Contract, item: Obj, present: Obj | None, after: Sequence[Obj], at: int, proration_behavior: str
) -> None:
    """Begin an item's new terms at `at`, in the replaced item's period or a new one."""
    if in_trial(item) and (present is None or not in_trial(present)):
        begins = item["current_trial"]["start_date"]
        item["current_period_start"], item["current_period_end"] = begins, contract.next_end(item, begins)
        _count_from(contract, item, _parting(contract, present, at), present)
        item["_debits"] = [] if present is None else present["_debits"]
        return
    same_period = present is not None and contract.interval(present) == contract.interval(item)
    if present is not None and same_period:
        item["current_period_start"], item["current_period_end"] = _period(present)
    elif contract.trialing:
        item["current_period_start"], item["current_period_end"] = at, contract.subscription["trial_end"]
    else:
        twin = next((other for other in contract.items if contract.interval(other) == contract.interval(item)), None)
        start = at if twin is None else twin["current_period_start"]
        item["current_period_start"], item["current_period_end"] = start, contract.next_end(item, at)
    _count_from(contract, item, _parting(contract, present, at), present)
    # Debits that were not credited can still be: a change with `none` keeps the old debit.
    item["_debits"] = [] if present is None else present["_debits"]
    if is_metered(contract.price(item)):
        item.pop("billed_until", None)
        return
    _debit(contract, item, at, item["current_period_end"], proration_behavior, among=after)
    if is_ahead(item) and proration_behavior != "none":
        # All of it was credited: periods billed in advance are billed in advance again on the new terms.
        until = item.pop("billed_until")
        for start, end in spans_ahead(contract, item, until):
            _debit(contract, item, start, end, proration_behavior, among=after)
        item["billed_until"] = until


def _credit(contract: Contract, item: Obj, at: int, proration_behavior: str, *, until: int | None = None) -> None:
    """Credit the charges for the time after `at`, up to `until` or the period's end."""
    if contract.trialing or proration_behavior == "none":
        return
    end = item["current_period_end"] if until is None else until
    for debit in _creditable(contract, item, at, end):
        amount, given_back = credit(debit, at), credited_off(debit, at)
        if amount or (contract.itemized and any(given_back.values())):
            product, span = contract.catalog.product(_product_of(contract, debit)), (max(at, debit.start), debit.end)
            text = proration_text("Unused", debit.quantity, product, span[0])
            _add(contract, item, amount, given_back, text, span, debit.quantity or 0, credited=debit)
    item["_debits"] = [_rest(Debit(**debit), at) for debit in item["_debits"] if debit["start"] < at]


def _rest(debit: Debit, at: int) -> Obj:
    """The rest of a debit after crediting the time after `at`."""
    given_back = credited_off(debit, at)
    off = {id: amount + given_back.get(id, 0) for id, amount in debit.off.items()}
    return asdict(replace(debit, amount=debit.amount + credit(debit, at), end=min(debit.end, at), off=off))


def _creditable(contract: Contract, item: Obj, at: int, end: int) -> list[Debit]:
    if contract.flexible:
        return [debit for debit in (Debit(**stored) for stored in item["_debits"]) if debit.end > at]
    start = end - contract.period_length(item, at)
    fee = contract.fee(item, contract.items)
    off = {id: to_minor_units(amount) for id, amount in fee.off.items()}
    return [Debit(to_minor_units(fee.net), start, end, item["quantity"], item["price"], off)]


def _product_of(contract: Contract, debit: Debit) -> str:
    return str(contract.catalog.price(debit.price)["product"])


def _debit(
    contract: Contract, item: Obj, start: int, end: int, proration_behavior: str, *, among: Sequence[Obj] | None = None
) -> None:
    """Charge for an item from `start` to `end`, the rest of its period; it bills together with the items `among`."""
    if contract.trialing or proration_behavior == "none" or end <= start:
        return
    fee = contract.fee(item, contract.items if among is None else among)
    part, length = end - start, contract.period_length(item, start)
    amount = share(fee.net, part, length)
    off = {id: share(taken, part, length) for id, taken in fee.off.items()}
    waits = None
    # Recorded: a share that rounds to 0 is still an invoice item.
    if fee.net or (contract.itemized and fee.gross):
        text = proration_text("Remaining", item["quantity"], contract.product(item), start)
        waits = _add(contract, item, amount, off, text, (start, end), item["quantity"])
    _remember(item, amount, start, end, off, waits)


def _remember(
    item: Obj, amount: int, start: int, end: int, off: dict[str, int], invoice_item: str | None = None
) -> None:
    item["_debits"].append(asdict(Debit(amount, start, end, item["quantity"], item["price"], off, invoice_item)))


def _add(
    contract: Contract,
    item: Obj,
    amount: int,
    off: Mapping[str, int],
    description: str,
    period: tuple[int, int],
    quantity: int,
    *,
    credited: Debit | None = None,
) -> str:
    made = invoice_item(
        id=contract.new_id("ii_"),
        of=contract.subscription,
        amount=amount,
        description=description,
        date=contract.now,
        period=period,
        quantity=quantity,
        price=contract.price(item) if credited is None else contract.catalog.price(credited.price),
        subscription_item=item["id"],
        proration=True,
        discountable=False,
        tax_rates=item["tax_rates"],
    )
    prorated_discounts(made, off, itemized=contract.itemized)
    made["proration_details"]["credited_items"] = None if credited is None else _credited_items(credited)
    contract.pending.append(made)
    return str(made["id"])


def _credited_items(debit: Debit) -> Obj | None:
    """What a credit refers to: the lines of its debit, or its pending invoice item; nothing in classic mode, which does
    not credit debits."""
    if debit.lines:
        details = {"invoice": debit.invoice, "invoice_line_items": list(debit.lines)}
        return {"type": "invoice_line_items", "invoice_line_item_details": details}
    return None if debit.item is None else {"type": "invoice_item", "invoice_item": debit.item}


def _usage_items(contract: Contract, item: Obj, at: int, proration_behavior: str) -> None:
    """Invoice items for an item's usage up to `at`, without charges of 0."""
    if contract.trialing or proration_behavior == "none":
        return
    price, start = contract.price(item), item["_usage_from"]
    contract.pending.extend(
        invoice_item(
            id=contract.new_id("ii_"),
            of=contract.subscription,
            amount=charge.amount,
            description=charge_text(price, contract.product(item), charge),
            date=contract.now,
            period=(start, at),
            quantity=charge.quantity,
            price=price,
            unit_amount=charge.unit_amount,
            subscription_item=item["id"],
            discounts=item["discounts"],
            tax_rates=item["tax_rates"],
        )
        for charge in rate_since(price, _used(contract, item, at), billed_charges(item))
        if charge.amount
    )
