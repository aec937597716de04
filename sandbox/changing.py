"""Updates of a subscription: its items, trial, anchor and end; and what is billed at once.

Updates and their previews both use `apply`; this module stores nothing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from . import prebilling, terms
from .billing import cycle
from .billing.cycle import Contract, Draft
from .errors import refuse, within
from .router import Call
from .terms import Prices
from .wire import Obj


def apply(
    call: Call, contract: Contract, known: Prices, params: Mapping[str, Any], now: int, prefix: str = ""
) -> Draft | None:
    """Apply an update to what a subscription bills. Returns what is billed at once.

    `prefix`: in a preview, the parameter that contains the update's parameters.
    """
    change = _read(call, contract, known, params, now, prefix)
    change.check()
    draft = change.begin_periods()
    change.plan_ahead()
    change.plan_end()
    if change.trials_begun:
        draft = cycle.bill_trials(contract, change.trials_begun, now)
    elif draft is None and change.behavior == "always_invoice":
        draft = cycle.take_pending(contract, "subscription_update", now)
    terms.refuse_unclear_prorations(contract)
    cycle.name_periods(contract, contract.pending)
    return draft


def _read(call: Call, contract: Contract, known: Prices, params: Mapping[str, Any], now: int, prefix: str) -> _Change:
    """An update as requested, with validated items and added invoice items."""
    subscription, where = contract.subscription, within(prefix, "items")
    at = terms.proration_date(contract, params, now, prefix)
    given = params.get("items") or ()
    after = terms.items_after(call, known, subscription, given, now, where)
    terms.check_items(known, subscription, after, contract.items)
    terms.check_thresholds(call, known, subscription, after, prefix, where)
    if "billing_thresholds" in params or any("billing_thresholds" in entry for entry in given):
        # Accrued usage may already reach it.
        subscription["_stirred"] = now
    if {"automatic_tax", "default_tax_rates", "items"} & set(params):
        terms.check_tax(call, known, subscription, after)
    more = params.get("add_invoice_items") or ()
    terms.add_invoice_items(call, contract, known, more, now, within(prefix, "add_invoice_items"))
    anchor = terms.anchor_asked(call, params, prefix)
    if anchor not in (None, "now", "unchanged"):
        # A timestamp is only for the preview of a new subscription.
        raise refuse("enum", param=within(prefix, "billing_cycle_anchor"), choices="now or unchanged")
    running = {item["id"] for item in contract.items if cycle.in_trial(item)}
    return _Change(
        call=call,
        contract=contract,
        params=params,
        now=now,
        prefix=prefix,
        at=at,
        behavior=params.get("proration_behavior", "create_prorations"),
        after=after,
        anchor=anchor,
        trial_end=terms.trial_end(params, after, known, now, prefix),
        trials_running=running,
        trials_begun={item["id"] for item in after if cycle.in_trial(item)} - running,
    )


@dataclass
class _Change:
    """One update: what it requests, and the resulting items."""

    call: Call
    contract: Contract
    params: Mapping[str, Any]
    now: int
    prefix: str
    #: The instant that prorations start from.
    at: int
    behavior: str
    after: list[Obj]
    #: `now`, `unchanged` or None.
    anchor: str | None
    #: The end of the trial that the update begins or moves.
    trial_end: int | None
    #: The ids of the items that are already in a trial offer.
    trials_running: set[str]
    #: The ids of the items whose trial offers begin now.
    trials_begun: set[str]

    @property
    def keeps_anchor(self) -> bool:
        """Whether the beginning or end of a trial keeps the anchor."""
        return self.anchor == "unchanged" or cycle.keeps_anchor(self.contract.subscription)

    @property
    def begins_anew(self) -> bool:
        """Whether the present periods end and new ones begin and are billed at once."""
        contract = self.contract
        if self.anchor == "now":
            return contract.trialing or not contract.flexible
        return not contract.trialing and cycle.resets_anchor(contract, self.after)

    def check(self) -> None:
        """Refuse what cannot be combined with trial offers or with billing in advance."""
        contract = self.contract
        subscription = contract.subscription
        if self.trials_begun and contract.trialing:
            raise refuse("trial_offer_legacy", param=within(self.prefix, "items"))
        changed = dataclasses.replace(contract, subscription={**subscription, "items": {"data": self.after}})
        terms.check_trials(self.call, changed, self.params, self.trials_begun, self.prefix)
        if any(map(cycle.is_ahead, contract.items)):
            if self.trial_end is not None or self.begins_anew or self.anchor == "now":
                # Billing in advance was counted in periods that would no longer exist.
                raise refuse("not_implemented_param", param="new periods of items that are billed in advance")
            prebilling.check_coupons(self.call, subscription, self.now, within(self.prefix, "discounts"))

    def begin_periods(self) -> Draft | None:
        """Apply the items: in a trial, in new periods, or in the present ones. Returns what is billed at once."""
        contract, now, behavior = self.contract, self.now, self.behavior
        if self.trial_end is not None:
            self._change_items()
            return cycle.begin_trial(contract, now, self.trial_end, behavior, keep_anchor=self.keeps_anchor)
        if contract.trialing and self.params.get("trial_end") == "now":
            contract.subscription["trial_end"] = now
            end = cycle.end_trial if self.keeps_anchor else cycle.restart
            return end(contract, self.after, now, behavior)
        if self.begins_anew:
            return cycle.restart(contract, self.after, now, behavior)
        self._change_items()
        if self.trials_running or self.trials_begun:
            cycle.show_trials(contract, now)
        if self.anchor == "now":
            cycle.move_anchor(contract, now, behavior)
        return None

    def _change_items(self) -> None:
        if self.params.get("items"):
            cycle.change_items(self.contract, self.after, self.at, self.behavior)

    def plan_ahead(self) -> None:
        """`billing_schedules`, if given."""
        if "billing_schedules" not in self.params:
            return
        subscription = self.contract.subscription
        prebilling.plan(self.call, self.contract, self.params, self.now, self.prefix)
        if subscription["billing_schedules"] and prebilling.used_up_once(self.call, subscription, self.now):
            # Pending invoice items are net of discounts, and the coupon would then apply to the renewal as well.
            where = within(self.prefix, "billing_schedules")
            raise refuse("not_implemented_param", param=f"{where} under a coupon for once, in an update")

    def plan_end(self) -> None:
        """`cancel_at` and `cancel_at_period_end`, and the periods billed up to that end."""
        contract, subscription = self.contract, self.contract.subscription
        if terms.schedule_end(subscription, self.params, self.now, self.prefix):
            cycle.move_period_ends(contract, self.now, self.behavior)
        prebilling.check_end(subscription, within(self.prefix, "billing_schedules"))
        cycle.bill_ahead(contract, self.behavior)
