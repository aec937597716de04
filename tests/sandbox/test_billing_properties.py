"""What holds for every bill, whatever the prices, the usage and the changes: searched for a counter-example."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from sandbox.billing import cycle
from sandbox.billing.cycle import Contract, Draft
from sandbox.billing.rating import total

from .bills import at, searched

START, END = at("2026-04-01"), at("2026-05-01")
LENGTH = END - START


@dataclass
class Shelf:
    """Prices and usage in memory."""

    prices: dict[str, dict[str, Any]] = field(default_factory=dict)
    events: list[tuple[int, int]] = field(default_factory=list)
    given: dict[str, dict[str, Any]] = field(default_factory=dict)

    def price(self, id: str) -> dict[str, Any]:
        return self.prices[id]

    def product(self, id: str) -> dict[str, Any]:
        return {"id": id, "name": id, "unit_label": None}

    def discounts(self, ids: Sequence[str]) -> list[dict[str, Any]]:
        return [self.given[id] for id in ids]

    def usage(self, price: dict[str, Any], customer: str, start: int, end: int) -> Decimal:
        return Decimal(sum(value for when, value in self.events if start <= when < end))

    def add(self, id: str, *, metered: bool = False, **amounts: Any) -> str:
        self.prices[id] = {
            "id": id,
            "product": id,
            "currency": "usd",
            "billing_scheme": "per_unit",
            "recurring": {
                "interval": "month",
                "interval_count": 1,
                "usage_type": "metered" if metered else "licensed",
            },
            **amounts,
        }
        return id


def item(price: str, quantity: int | None, id: str = "si_1") -> dict[str, Any]:
    return {
        "id": id,
        "price": price,
        "quantity": quantity,
        "subscription": "sub_1",
        "created": START,
        "current_period_start": START,
        "current_period_end": END,
        "discounts": [],
        "_usage_from": START,
        "tax_rates": [],
        "_debits": [],
    }


def contract(shelf: Shelf, *items: dict[str, Any], mode: str = "flexible") -> Contract:
    numbers = itertools.count()
    subscription: dict[str, Any] = {
        "id": "sub_1",
        "billing_cycle_anchor": START,
        "billing_cycle_anchor_config": None,
        "billing_mode": {"type": mode},
        "billing_thresholds": None,
        "cancel_at": None,
        "cancel_at_period_end": False,
        "currency": "usd",
        "customer": "cus_1",
        "discounts": [],
        "items": {"data": list(items)},
        "livemode": False,
        "start_date": START,
        "status": "active",
        "test_clock": None,
        "trial_end": None,
    }
    return Contract(subscription, [], shelf, lambda prefix: f"{prefix}{next(numbers)}", END)


def amount(draft: Draft | None) -> int:
    return 0 if draft is None else draft.total


amounts = st.decimals(min_value=0, max_value=1_000, places=3).map(str)
modes = st.sampled_from(["flexible", "classic"])


@st.composite
def tiers(draw: st.DrawFn) -> list[dict[str, Any]]:
    bounds: list[int | None] = [*sorted(draw(st.sets(st.integers(1, 100_000), max_size=3))), None]
    return [
        {
            "up_to": bound,
            "unit_amount_decimal": draw(amounts),
            "flat_amount_decimal": draw(st.none() | st.integers(0, 5_000).map(str)),
        }
        for bound in bounds
    ]


usage = st.lists(st.tuples(st.integers(START, END - 1), st.integers(0, 50_000)), max_size=6)


def renewal(graduated: list[dict[str, Any]], events: list[tuple[int, int]], mode: str) -> Draft:
    shelf = Shelf(events=events)
    shelf.add("fee", unit_amount_decimal="10000")
    shelf.add("usage", metered=True, billing_scheme="tiered", tiers_mode="graduated", tiers=graduated)
    held = contract(shelf, item("fee", 2, "si_1"), item("usage", None, "si_2"), mode=mode)
    cycle.begin(held, START, "create_prorations")
    draft = cycle.renew(held, END)
    assert draft is not None
    return draft


@searched
@given(tiers(), usage, modes)
def test_the_lines_of_a_renewal_sum_to_the_fee_and_the_rated_usage(
    graduated: list[dict[str, Any]], events: list[tuple[int, int]], mode: str
) -> None:
    draft = renewal(graduated, events, mode)
    price = {"billing_scheme": "tiered", "tiers_mode": "graduated", "tiers": graduated}
    used = sum(value for _, value in events)
    assert sum(line["amount"] for line in draft.lines) == draft.total == 20_000 + total(price, used)


@searched
@given(tiers(), usage, st.tuples(st.integers(START, END - 1), st.integers(0, 50_000)), modes)
def test_one_more_event_never_makes_the_invoice_smaller(
    graduated: list[dict[str, Any]], events: list[tuple[int, int]], more: tuple[int, int], mode: str
) -> None:
    assert renewal(graduated, [*events, more], mode).total >= renewal(graduated, events, mode).total


@searched
@given(st.integers(1, 10**6), amounts, st.data(), modes)
def test_what_is_included_costs_nothing(included: int, each: str, data: st.DataObject, mode: str) -> None:
    free: list[dict[str, Any]] = [
        {"up_to": included, "unit_amount_decimal": "0", "flat_amount_decimal": None},
        {"up_to": None, "unit_amount_decimal": each, "flat_amount_decimal": None},
    ]
    used = data.draw(st.integers(0, included))
    assert renewal(free, [(START, used)], mode).total == 20_000


changes = st.lists(
    st.tuples(st.integers(START, END - 1), st.sampled_from(["cheap", "dear"]), st.integers(0, 20)),
    max_size=6,
).map(lambda steps: sorted(steps, key=lambda step: step[0]))


@searched
@given(changes, st.integers(START, END), modes)
def test_prorated_changes_cost_what_was_held_for_as_long_as_it_was_held(
    steps: list[tuple[int, str, int]], ends: int, mode: str
) -> None:
    shelf = Shelf()
    shelf.add("cheap", unit_amount_decimal="1000")
    shelf.add("dear", unit_amount_decimal="7777")
    held = contract(shelf, item("cheap", 3), mode=mode)
    paid = amount(cycle.begin(held, START, "create_prorations"))
    owed, since, price, quantity = Decimal(0), START, "cheap", 3
    for when, becomes, count in steps:
        if when > ends:
            break
        owed += Decimal(total(shelf.price(price), quantity) * (when - since)) / LENGTH
        since, price, quantity = when, becomes, count
        cycle.change_items(held, [{**held.items[0], "price": becomes, "quantity": count}], when, "create_prorations")
    owed += Decimal(total(shelf.price(price), quantity) * (ends - since)) / LENGTH
    cycle.credit_the_rest(held, ends)
    paid += amount(cycle.close(held, ends))
    # each change rounds a credit and a debit, the end one credit more
    assert abs(paid - owed) <= Decimal(len(steps) + 1)


@searched
@given(changes, modes)
def test_without_proration_nothing_is_billed_in_mid_period(steps: list[tuple[int, str, int]], mode: str) -> None:
    shelf = Shelf()
    shelf.add("cheap", unit_amount_decimal="1000")
    shelf.add("dear", unit_amount_decimal="7777")
    held = contract(shelf, item("cheap", 3), mode=mode)
    cycle.begin(held, START, "create_prorations")
    for when, becomes, count in steps:
        cycle.change_items(held, [{**held.items[0], "price": becomes, "quantity": count}], when, "none")
    assert held.pending == []
    last = held.items[0]
    assert amount(cycle.renew(held, END)) == total(shelf.price(last["price"]), last["quantity"])


@searched
@given(usage, st.lists(st.integers(START, END - 1), max_size=4).map(sorted), modes)
def test_swapped_metered_prices_bill_every_event_once_in_flexible_mode_and_the_last_stretch_in_classic(
    events: list[tuple[int, int]], swaps: list[int], mode: str
) -> None:
    shelf = Shelf(events=events)
    for name in ("a", "b"):
        shelf.add(name, metered=True, unit_amount_decimal="1")
    held = contract(shelf, item("a", None), mode=mode)
    cycle.begin(held, START, "create_prorations")
    for when in swaps:
        other = "b" if held.items[0]["price"] == "a" else "a"
        cycle.change_items(held, [{**held.items[0], "price": other}], when, "create_prorations")
    billed = amount(cycle.renew(held, END))
    since = START if mode == "flexible" or not swaps else swaps[-1]
    assert billed == sum(value for when, value in events if when >= since)


moments = st.lists(st.integers(START, END - 1), max_size=5).map(sorted)


@searched
@given(tiers(), st.sampled_from(["graduated", "volume"]), usage, moments, modes)
def test_invoices_at_thresholds_and_the_renewal_sum_to_what_the_renewal_alone_bills(
    rows: list[dict[str, Any]], kind: str, events: list[tuple[int, int]], thresholds: list[int], mode: str
) -> None:
    shelf = Shelf(events=events)
    shelf.add("usage", metered=True, billing_scheme="tiered", tiers_mode=kind, tiers=rows)
    held = contract(shelf, item("usage", None), mode=mode)
    cycle.begin(held, START, "create_prorations")
    billed = sum(amount(cycle.bill_accrued(held, when)) for when in thresholds)
    billed += amount(cycle.renew(held, END))
    assert billed == total(shelf.price("usage"), sum(value for _, value in events))


@searched
@given(usage, moments, st.integers(0, 50), modes)
def test_thresholds_that_begin_the_period_anew_bill_every_event_once(
    events: list[tuple[int, int]], thresholds: list[int], each: int, mode: str
) -> None:
    shelf = Shelf(events=events)
    shelf.add("usage", metered=True, unit_amount_decimal=str(each))
    held = contract(shelf, item("usage", None), mode=mode)
    held.subscription["billing_thresholds"] = {"amount_gte": 50, "reset_billing_cycle_anchor": True}
    cycle.begin(held, START, "create_prorations")
    billed = sum(amount(cycle.bill_accrued(held, when)) for when in thresholds)
    billed += amount(cycle.renew(held, cycle.renewal_due(held)))
    assert billed == each * sum(value for _, value in events)


@searched
@given(usage, moments, st.lists(st.integers(START, END - 1), max_size=3), st.booleans())
def test_thresholds_and_swapped_prices_of_one_meter_bill_every_event_once(
    events: list[tuple[int, int]], thresholds: list[int], swaps: list[int], reset: bool
) -> None:
    shelf = Shelf(events=events)
    for name in ("a", "b"):
        shelf.add(name, metered=True, unit_amount_decimal="1")
    held = contract(shelf, item("a", None))
    held.subscription["billing_thresholds"] = {"amount_gte": 50, "reset_billing_cycle_anchor": reset}
    cycle.begin(held, START, "create_prorations")
    billed = 0
    for when, swap in sorted([*((when, False) for when in thresholds), *((when, True) for when in swaps)]):
        if swap:
            other = "b" if held.items[0]["price"] == "a" else "a"
            cycle.change_items(held, [{**held.items[0], "price": other}], when, "create_prorations")
        else:
            billed += amount(cycle.bill_accrued(held, when))
    billed += amount(cycle.renew(held, cycle.renewal_due(held)))
    assert billed == sum(value for _, value in events)


in_a_year = st.integers(START, at("2027-04-01") - 1)


@searched
@given(
    st.lists(st.tuples(in_a_year, st.integers(0, 50_000)), max_size=8),
    st.lists(in_a_year, max_size=8).map(sorted),
    amounts,
    modes,
)
def test_thresholds_change_nothing_of_what_a_year_costs(
    events: list[tuple[int, int]], thresholds: list[int], each: str, mode: str
) -> None:
    def year(moments: list[int]) -> int:
        shelf = Shelf(events=events)
        shelf.add("usage", metered=True, unit_amount_decimal=each)
        held = contract(shelf, item("usage", None), mode=mode)
        billed = amount(cycle.begin(held, START, "create_prorations"))
        for _ in range(12):
            due = cycle.renewal_due(held)
            start = held.items[0]["current_period_start"]
            billed += sum(amount(cycle.bill_accrued(held, when)) for when in moments if start <= when < due)
            billed += amount(cycle.renew(held, due))
        return billed

    assert year(thresholds) == year([])


weekly = {"interval": "week", "interval_count": 1, "usage_type": "licensed"}
lengths = st.sampled_from([("day", 3), ("week", 1), ("week", 4), ("month", 1)])


@searched
@given(
    st.tuples(*[st.integers(0, 50_000)] * 3),
    lengths,
    st.integers(1, 3),
    st.integers(START, START + 7 * 86_400 - 1),
    st.integers(0, 20 * 86_400),
    st.sampled_from(["now", "unchanged"]),
)
def test_a_trial_offer_costs_its_price_as_often_as_it_says_and_what_is_beside_it_what_it_always_does(
    cents: tuple[int, ...], every: tuple[str, int], iterations: int, begins: int, more: int, anchor: str
) -> None:
    shelf = Shelf()
    trial = {"interval": every[0], "interval_count": every[1], "usage_type": "licensed"}
    for name, amount_of, recurring in zip(("base", "then", "trial"), cents, (weekly, weekly, trial), strict=True):
        shelf.add(name, unit_amount_decimal=str(amount_of), recurring=recurring)
    held = contract(shelf, item("base", 1))
    held.subscription["trial_settings"] = {"end_behavior": {"billing_cycle_anchor": anchor}}
    paid = amount(cycle.begin(held, START, "create_prorations"))
    added = item("then", 1, "si_2")
    offer = {
        "id": "to_1",
        "duration": {"relative": {"iterations": iterations}},
        "end_behavior": {"transition": {"price": "then"}},
    }
    cycle.put_in_trial(added, offer, shelf.price("trial"), begins)
    over = added["current_trial"]["end_date"]
    cycle.change_items(held, [*held.items, added], begins, "create_prorations")
    paid += amount(cycle.bill_trials(held, {"si_2"}, begins))
    ends = over + more
    while cycle.renewal_due(held) <= ends:
        paid += amount(cycle.renew(held, cycle.renewal_due(held)))
    cycle.credit_the_rest(held, ends)
    paid += amount(cycle.close(held, ends))
    week = 7 * 86_400
    owed = Decimal(cents[0] * (ends - START) + cents[1] * more) / week + cents[2] * iterations
    # What follows the anchor rounds a debit, the end of the trial another, the end of all a credit of each.
    assert abs(paid - owed) <= 4
