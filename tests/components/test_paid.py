"""What a preview says about money: a sentence for each change, with the amounts of the sandbox's invoices."""

from __future__ import annotations

import itertools
import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pulumi.output import UNKNOWN

import money
from components.providers import paid
from components.providers.customer import CustomerProvider
from components.providers.price import PriceProvider
from components.providers.subscription import SubscriptionProvider
from components.providers.subscription_preview import added
from tests.components.world import State, World, anchor, as_pulumi_sends, invoiced, licensed, metered

DAY = 86_400
MONTH = {"interval": "month"}
QUARTER = {"interval": "month", "interval_count": 3}


class Herd:
    """A customer with seats and usage, and what a preview says of changes."""

    def __init__(self, world: World, said: set[str], **more: Any) -> None:
        self.world, self.said = world, said
        self.product, self.meter = world.product().id, world.meter().id
        self.fee = world.price(self.product)
        self.usage = world.up(PriceProvider, "usage", metered(self.product, self.meter))
        self.customer = world.customer().id
        self.items: dict[str, Any] = {
            "license": {"price": self.fee.id, "quantity": 3},
            "usage": {"price": self.usage.id},
        }
        self.arguments = {**invoiced(self.customer), "items": self.items, **more}
        self.state = world.up(SubscriptionProvider, "herd", self.arguments)
        said.clear()

    def preview(
        self, change: dict[str, Any], prices: dict[str, tuple[State, dict[str, Any]]] | None = None, **drop: None
    ) -> list[str]:
        """What the diff of the subscription says, in a run that has compared some prices before."""
        run = self.world.process()
        known: dict[str, tuple[State, dict[str, Any]]] = {"fee": (self.fee, {}), "usage": (self.usage, {})}
        for state, more in {**known, **(prices or {})}.values():
            run.provider(PriceProvider).diff(state.id, state.outs, as_pulumi_sends({**state.inputs, **more}))
        self.said.clear()
        new = {name: value for name, value in {**self.state.inputs, **change}.items() if name not in drop}
        run.provider(SubscriptionProvider).diff(self.state.id, self.state.outs, as_pulumi_sends(new))
        return sorted(line.partition(": ")[2] for line in self.said)

    def item(self, key: str, **change: Any) -> dict[str, Any]:
        """The items with one changed."""
        return {"items": {**self.items, key: {**self.items[key], **change}}}


@pytest.fixture
def herd(world: World, said: set[str]) -> Herd:
    return Herd(world, said)


# -- sentences ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "rest"),
    [
        (None, "the rest of the period is prorated on the next invoice"),
        ("always_invoice", "the rest of the period is prorated at once"),
        ("none", "the rest of the period is not prorated"),
    ],
)
def test_seats_are_reported_with_what_they_cost(herd: Herd, how: str | None, rest: str) -> None:
    more = {"proration_behavior": how} if how else {}
    assert herd.preview({**herd.item("license", quantity=5), **more}) == [
        f"item license: quantity 3 => 5, 300.00 USD a month => 500.00 USD a month; {rest}"
    ]
    only = {key: {**item, "quantity": 3} if key == "license" else item for key, item in herd.items.items()}
    del only["license"]["quantity"]
    assert herd.preview({"items": only, **more}) == [
        f"item license: quantity 3 => 1, 300.00 USD a month => 100.00 USD a month; {rest}"
    ]


def test_without_the_price_in_the_run_seats_are_reported_without_amounts(herd: Herd) -> None:
    """As under `--target`: the price is then not compared."""
    herd.said.clear()
    new = as_pulumi_sends({**herd.state.inputs, **herd.item("license", quantity=5)})
    herd.world.process().provider(SubscriptionProvider).diff(herd.state.id, herd.state.outs, new)
    [line] = herd.said
    assert line.endswith("item license: quantity 3 => 5; the rest of the period is prorated on the next invoice")


def test_items_that_come_and_go_are_reported_with_what_they_cost(herd: Herd) -> None:
    more = herd.world.price(herd.product, "more", unit_amount_decimal="250")
    added = {"items": {**herd.items, "more": {"price": more.id, "quantity": 4}}}
    assert herd.preview(added, {"more": (more, {})}) == [
        "item more is added (10.00 USD a month); the rest of the period is prorated on the next invoice"
    ]
    assert herd.preview({"items": {"usage": herd.items["usage"]}}) == [
        "item license is removed (300.00 USD a month); the rest of the period is prorated on the next invoice"
    ]


def test_a_replaced_price_moves_its_subscriptions_and_they_say_so_once(herd: Herd) -> None:
    """The price cannot tell: with `--target` on it alone nobody moves. A thousand subscriptions get one line."""
    other = herd.world.up(SubscriptionProvider, "other", herd.arguments)
    run = herd.world.process()
    dearer = as_pulumi_sends({**herd.fee.inputs, "unit_amount_decimal": "12000"})
    herd.said.clear()
    run.provider(PriceProvider).diff(herd.fee.id, herd.fee.outs, dearer)
    assert not any("prorated" in line or "move to" in line for line in herd.said)
    moved = {"items": {**herd.items, "license": {"price": UNKNOWN, "quantity": 3}}}
    for state in (herd.state, other):
        run.provider(SubscriptionProvider).diff(state.id, state.outs, {**state.inputs, **moved})
    [line] = [line for line in herd.said if "move to the new price" in line]
    assert line == (
        "Price 'license': subscriptions that this run updates move to the new price (100.00 USD a month => "
        "120.00 USD a month each); the rest of the period is prorated on the next invoice"
    )


def test_who_leaves_a_replaced_price_for_another_one_says_so_itself(herd: Herd) -> None:
    other = herd.world.price(herd.product, "other", unit_amount_decimal="9000")
    known: dict[str, tuple[State, dict[str, Any]]] = {
        "fee": (herd.fee, {"unit_amount_decimal": "12000"}),
        "other": (other, {}),
    }
    [line] = herd.preview(herd.item("license", price=other.id), known)
    assert line == (
        "item license moves from Price 'license' to Price 'other', 300.00 USD a month => 270.00 USD a month; "
        "the rest of the period is prorated on the next invoice"
    )
    # Its old price stays, and the new one has no id yet.
    [line] = herd.preview(herd.item("license", price=UNKNOWN))
    assert line == (
        "item license moves from Price 'license' to a price that this run creates; the rest of the period is prorated "
        "on the next invoice"
    )


def test_a_price_in_another_currency_than_the_subscription_bills_in_is_reported(herd: Herd) -> None:
    euro = herd.world.price(herd.product, "euro", currency="eur")
    said = herd.preview(herd.item("license", price=euro.id), {"euro": (euro, {})})
    [mixed] = [line for line in said if "refuses to mix" in line]
    assert mixed == (
        "item license: Price 'euro' is in eur, and the subscription bills in usd; Stripe refuses to mix them: move the "
        'item to a price in usd, or declare currency="eur", which makes a new subscription'
    )
    # What the program does not know of a price, it does not say.
    assert not any("mix" in each for each in herd.preview(herd.item("license", price=euro.id)))


def test_a_removal_that_waits_for_the_renewal_is_reported_once(world: World, said: set[str]) -> None:
    herd = Herd(world, said, price_changes="at_renewal")
    del herd.items["license"]
    [line] = herd.preview({"items": herd.items})
    assert line.startswith("item license is removed (300.00 USD a month) at its renewal; until then nothing changes")
    herd.state = world.up(SubscriptionProvider, "herd", {**herd.arguments, "items": herd.items}, herd.state)
    assert herd.preview({"description": "Herd"}) == []


def test_an_allowance_that_starts_over_is_reported(herd: Herd) -> None:
    tiers = [{"up_to": 2000, "unit_amount_decimal": "0"}, {"up_to": "inf", "unit_amount_decimal": "0.05"}]
    moved = {"items": {**herd.items, "usage": {"price": UNKNOWN}}}
    [line] = herd.preview(moved, {"usage": (herd.usage, {"tiers": tiers})})
    assert line == (
        "subscriptions that this run updates move to the new price; usage so far is billed on the next invoice, "
        "and 2,000 included units start over"
    )
    flat = herd.world.up(
        PriceProvider,
        "flat",
        {
            "product": herd.product,
            "currency": "usd",
            "unit_amount_decimal": "0.04",
            "recurring": {**MONTH, "usage_type": "metered", "meter": herd.meter},
        },
    )
    for how, when in ((None, "on the next invoice"), ("always_invoice", "at once")):
        more = {"proration_behavior": how} if how else {}
        [line] = herd.preview({**herd.item("usage", price=flat.id), **more}, {"flat": (flat, {})})
        assert line == f"item usage moves from Price 'usage' to Price 'flat'; usage so far is billed {when}"


@pytest.mark.parametrize("end", ["cancel_at", "cancel_at_period_end"])
def test_a_cancellation_by_the_customer_that_up_would_take_back_is_reported(herd: Herd, end: str) -> None:
    path = f"/v1/subscriptions/{herd.state.id}"
    at = herd.world.stripe("get", path)["items"]["data"][0]["current_period_end"]
    herd.world.stripe("post", path, **({"cancel_at": at} if end == "cancel_at" else {"cancel_at_period_end": True}))
    drifted = herd.world.refresh(SubscriptionProvider, herd.state)
    assert drifted is not None
    herd.state = drifted
    [line] = herd.preview({}, **{end: None})
    assert re.match(
        r"was to end .*, and now continues, 300.00 USD a month: if the customer cancelled it, in the portal", line
    )
    # Moved to another end it is the program's.
    assert herd.preview({"cancel_at": at + DAY}, cancel_at_period_end=None) == []
    # One that is replaced goes on too.
    assert any("was to end" in each for each in herd.preview({"customer": "cus_2"}, **{end: None}))


def test_what_starts_over_with_a_replacement_is_reported(herd: Herd) -> None:
    [line] = herd.preview({"customer": "cus_2"})
    assert line.startswith(
        "is cancelled now (with a final invoice for its usage, unused time is not credited) and a new "
    )
    assert line.endswith("with a billing period of its own (300.00 USD a month); this cannot be undone")
    trial = {"customer": "cus_2", "trial_period_days": 14, "discounts": [{"coupon": "c"}]}
    [line] = herd.preview(trial)
    assert "(300.00 USD a month), and its trial and its discounts from the beginning; this cannot" in line


def test_what_is_charged_once_is_reported_with_its_amount(herd: Herd) -> None:
    once = herd.world.up(PriceProvider, "setup", {"product": herd.product, "currency": "usd", "unit_amount": 5_000})
    data = {"currency": "usd", "product": herd.product, "unit_amount": 250}
    first = {"price": once.id}
    both = [first, {"price_data": data, "quantity": 2}]
    known: dict[str, tuple[State, dict[str, Any]]] = {"setup": (once, {})}
    assert herd.preview({"add_invoice_items": both}, known) == [
        "add_invoice_items charge 55.00 USD once, on the next invoice"
    ]
    assert herd.preview({"add_invoice_items": both}) == [
        "add_invoice_items charge 5.00 USD and 1 more of unknown amount once, on the next invoice"
    ]
    herd.state = herd.world.up(
        SubscriptionProvider, "herd", {**herd.arguments, "add_invoice_items": [first]}, herd.state
    )
    # Of what is declared only what is new is charged.
    assert herd.preview({"add_invoice_items": both}, known) == [
        "add_invoice_items charge 5.00 USD once, on the next invoice"
    ]


def test_a_trial_is_reported(herd: Herd) -> None:
    [line] = herd.preview({"trial_end": 2_000_000_000})
    assert line.startswith("nothing is paid until 2033-05-18 (trial_end): what was paid for that time is credited, ")
    assert line.endswith("usage in it is billed at 0")
    [line] = herd.preview({"trial_end": "now"})
    assert line == "its trial, if it is in one, ends now, with an invoice at once: 300.00 USD a month"


def test_a_new_one_says_what_is_billed_beside_its_items(herd: Herd) -> None:
    run = herd.world.process()
    for state in (herd.fee, herd.usage):
        run.provider(PriceProvider).diff(state.id, state.outs, state.inputs)
    herd.said.clear()
    once = [{"price_data": {"currency": "usd", "product": herd.product, "unit_amount": 5_000}}]
    new = {
        **herd.arguments,
        "owner": "project/dev/new",
        "add_invoice_items": once,
        "backdate_start_date": 1_735_689_600,
        "trial_end": 2_000_000_000,
    }
    assert not run.provider(SubscriptionProvider).check({}, as_pulumi_sends(new)).failures
    charged, billed, trial = sorted(line.partition(": ")[2] for line in herd.said)
    assert charged.startswith("add_invoice_items charge 50.00 USD with the first invoice, except what an earlier")
    assert billed.startswith(
        "bills the time from 2025-01-01 on (backdate_start_date), 300.00 USD a month, unless an ea"
    )
    assert trial == "usage until the end of its trial (trial_end) is billed at 0"
    herd.said.clear()
    # Of one that the state has they are no news.
    run.provider(SubscriptionProvider).check(as_pulumi_sends(new), as_pulumi_sends(new))
    assert herd.said == set()


def test_more_than_twenty_items_are_a_warning(world: World, said: set[str]) -> None:
    """Stripe has raised its limit for some accounts."""
    product, customer = world.product().id, world.customer().id
    items = {str(n): {"price": world.price(product, f"p{n}").id} for n in range(21)}
    inputs = as_pulumi_sends({**invoiced(customer), "items": items, "owner": "project/dev/many"})
    said.clear()
    assert not world.process().provider(SubscriptionProvider).check({}, inputs).failures
    [line] = said
    assert line.startswith("Subscription 'many': has 21 items; Stripe has long taken 20 at most")


# -- what acts once -------------------------------------------------------------------------------------------------


def charges(world: World, customer: str, price: str) -> int:
    """How often a price was charged once."""
    found = world.stripe("get", "/v1/invoiceitems", customer=customer)["data"]
    return [each["pricing"]["price_details"]["price"] for each in found].count(price)


@pytest.mark.parametrize("way", ["gone", "replaced", "replaced and killed in between", "refreshed away"])
def test_what_acts_once_is_spent_on_one_that_is_created_again(world: World, said: set[str], way: str) -> None:
    """A setup fee and a year of backdating are not billed a second time, whatever the state has lost."""
    product, customer = world.product().id, world.customer().id
    fee = world.price(product).id
    once = world.up(PriceProvider, "setup", {"product": product, "currency": "usd", "unit_amount": 5_000}).id
    data = {"currency": "usd", "product": product, "unit_amount_decimal": "250"}
    now = world.stripe("get", f"/v1/customers/{customer}")["created"]
    arguments = {
        **invoiced(customer),
        "items": {"license": {"price": fee}},
        "add_invoice_items": [{"price": once}, {"price_data": data, "quantity": 2}],
        "backdate_start_date": now - 100 * DAY,
        "proration_behavior": "create_prorations",
    }
    first = world.up(SubscriptionProvider, "acme", arguments)
    assert charges(world, customer, once) == 1
    items = len(world.stripe("get", "/v1/invoiceitems", customer=customer)["data"])
    again: State | None = None
    if way.startswith("replaced"):
        arguments["billing_mode"] = {"type": "classic"}
        again = first
    if way != "replaced":
        world.stripe("delete", f"/v1/subscriptions/{first.id}")
        assert world.refresh(SubscriptionProvider, first) is None
        again = None
    said.clear()
    second = world.up(SubscriptionProvider, "acme", arguments, again)
    assert second.id != first.id
    assert charges(world, customer, once) == 1
    assert len(world.stripe("get", "/v1/invoiceitems", customer=customer)["data"]) == items
    there = world.stripe("get", f"/v1/subscriptions/{second.id}")
    assert there["start_date"] >= now
    assert any("2 of add_invoice_items are not charged again" in line for line in said)
    assert any(f"starts now, since {first.id} was billed from" in line for line in said)
    # It is as declared: nothing shows as drift, and the next run does nothing.
    after = world.refresh(SubscriptionProvider, second)
    assert after is not None
    assert after.inputs == second.inputs


def test_what_acts_once_is_charged_where_it_was_not_yet(world: World) -> None:
    """Another item, another name, another customer: none of them was billed before."""
    product, customer, other = world.product().id, world.customer().id, world.customer("other").id
    fee = world.price(product).id
    setup, training = (
        world.up(PriceProvider, name, {"product": product, "currency": "usd", "unit_amount": 5_000}).id
        for name in ("setup", "training")
    )
    arguments = {**invoiced(customer), "items": {"license": {"price": fee}}, "add_invoice_items": [{"price": setup}]}
    first = world.up(SubscriptionProvider, "acme", arguments)
    world.stripe("delete", f"/v1/subscriptions/{first.id}")
    more = [{"price": setup}, {"price": training}, {"price": setup, "quantity": 2}, {"price": setup}]
    world.up(SubscriptionProvider, "acme", {**arguments, "add_invoice_items": more})
    assert (charges(world, customer, setup), charges(world, customer, training)) == (3, 1)
    world.up(SubscriptionProvider, "renamed", arguments)
    assert charges(world, customer, setup) == 4
    world.up(SubscriptionProvider, "acme-2", {**arguments, "customer": other})
    assert charges(world, other, setup) == 1


def test_what_another_subscription_of_the_customer_has_charged_is_charged_by_this_one_too(world: World) -> None:
    product, customer = world.product().id, world.customer().id
    arguments = {**invoiced(customer), "items": {"license": {"price": world.price(product).id}}}
    once = world.up(PriceProvider, "setup", {"product": product, "currency": "usd", "unit_amount": 5_000}).id
    world.up(SubscriptionProvider, "other", {**arguments, "add_invoice_items": [{"price": once}]})
    earlier = world.up(SubscriptionProvider, "acme", arguments)
    world.stripe("delete", f"/v1/subscriptions/{earlier.id}")
    world.up(SubscriptionProvider, "acme", {**arguments, "add_invoice_items": [{"price": once}]})
    assert charges(world, customer, once) == 2


def test_a_time_that_no_earlier_one_was_billed_for_is_billed(world: World) -> None:
    product, customer = world.product().id, world.customer().id
    arguments = {**invoiced(customer), "items": {"license": {"price": world.price(product).id}}}
    first = world.up(SubscriptionProvider, "acme", arguments)
    world.stripe("delete", f"/v1/subscriptions/{first.id}")
    start = world.stripe("get", f"/v1/subscriptions/{first.id}")["start_date"] - 100 * DAY
    second = world.up(SubscriptionProvider, "acme", {**arguments, "backdate_start_date": start})
    assert world.stripe("get", f"/v1/subscriptions/{second.id}")["start_date"] == start


def test_an_entry_that_is_declared_twice_is_new_once() -> None:
    one, two = {"price": "price_1"}, {"price": "price_2"}
    assert added([one], [one, two, one]) == [two, one]


def test_of_what_is_charged_once_only_what_is_new_is_charged(world: World) -> None:
    product, customer = world.product().id, world.customer().id
    fee = world.price(product).id
    one, two = (
        world.up(PriceProvider, name, {"product": product, "currency": "usd", "unit_amount": 5_000}).id
        for name in ("one", "two")
    )
    arguments = {**invoiced(customer), "items": {"license": {"price": fee}}}
    state = world.up(SubscriptionProvider, "acme", {**arguments, "add_invoice_items": [{"price": one}]})
    for entries in ([{"price": one}, {"price": two}], [{"price": two}, {"price": one}], [{"price": two}], []):
        state = world.up(SubscriptionProvider, "acme", {**arguments, "add_invoice_items": entries}, state)
        assert (charges(world, customer, one), charges(world, customer, two)) == (1, 1)
    state = world.up(SubscriptionProvider, "acme", {**arguments, "add_invoice_items": [{"price": one}]}, state)
    assert charges(world, customer, one) == 2


# -- invoices at once: what the sandbox bills is what was said -------------------------------------------------------


def invoices(world: World, state: State) -> list[dict[str, Any]]:
    return list(world.stripe("get", "/v1/invoices", subscription=state.id)["data"])


@pytest.mark.parametrize("mode", ["flexible", "classic"])
@pytest.mark.parametrize(
    "change", ["another interval", "free to paid", "seats", "anchor", "trial ends", "always_invoice", "same interval"]
)
def test_an_invoice_that_comes_at_once_is_reported_and_no_other(
    world: World, said: set[str], mode: str, change: str
) -> None:
    """An invoice comes at once if the preview says so, for the new period that it names, and otherwise not."""
    product, customer = world.product().id, world.customer().id
    monthly, dearer = world.price(product), world.price(product, "dearer", unit_amount_decimal="20000")
    free = world.price(product, "free", unit_amount_decimal="0")
    yearly = world.price(product, "yearly", unit_amount_decimal="100000", recurring={"interval": "year"})
    first = free if change == "free to paid" else monthly
    declared: dict[str, Any] = {
        **invoiced(customer),
        "items": {"license": {"price": first.id, "quantity": 3}},
        "billing_mode": {"type": mode},
    }
    if change == "trial ends":
        declared["trial_period_days"] = 30
    state = world.up(SubscriptionProvider, "herd", declared)
    world.control("clock", advance=10 * DAY)
    before = len(invoices(world, state))
    target = {"another interval": yearly, "free to paid": monthly, "same interval": dearer}.get(change, first)
    new = {**declared, "items": {"license": {"price": target.id, "quantity": 5 if change == "seats" else 3}}}
    if change in ("always_invoice", "seats"):
        new["items"]["license"]["quantity"] = 5
    if change == "always_invoice":
        new["proration_behavior"] = "always_invoice"
    if change == "anchor":
        new["billing_cycle_anchor"] = anchor("now")
    if change == "trial ends":
        del new["trial_period_days"]
        new["trial_end"] = "now"
    run = world.process()
    for price in (monthly, dearer, free, yearly):
        run.provider(PriceProvider).diff(price.id, price.outs, price.inputs)
    said.clear()
    state = world.up(SubscriptionProvider, "herd", new, state, run)
    came = invoices(world, state)[: len(invoices(world, state)) - before]
    at_once = [line for line in said if "at once" in line]
    assert bool(at_once) == bool(came), (said, came)
    for line in at_once:
        if named := re.search(r"invoice at once: ([\d.,]+) USD", line):
            lines = [each for invoice in came for each in invoice["lines"]["data"]]
            period = sum(each["amount"] for each in lines if "Unused" not in each["description"])
            assert money.format_minor(period, "usd") == f"{named[1]} USD"
        else:
            assert change == "always_invoice"


# -- usage: what the sandbox bills is what was said -------------------------------------------------------------------


def use(world: World, customer: str, value: int) -> None:
    """Record usage, and let an hour pass."""
    payload = {"stripe_customer_id": customer, "value": str(value)}
    world.stripe("post", "/v1/billing/meter_events", event_name="tokens", payload=payload)
    world.control("clock", advance=3_600)


def usage_lines(world: World, state: State) -> list[tuple[int, int]]:
    """Quantity and amount of each line for usage that was billed for something, the oldest first."""
    lines = [line for invoice in invoices(world, state) for line in invoice["lines"]["data"]]
    amounts = [(line["quantity"], line["amount"]) for line in lines if "Tier 2" in line["description"]]
    return sorted(each for each in amounts if each[1])


@pytest.mark.parametrize(
    ("mode", "becomes", "how", "said_of_it", "billed"),
    [
        ("flexible", "flexible", None, "usage so far is billed on the next invoice", [(500, 20), (700, 28)]),
        ("flexible", "flexible", "none", "usage in this period is not billed", [(700, 28)]),
        # Both cost the same, so nothing is invoiced at once.
        (
            "flexible",
            "flexible",
            "always_invoice",
            "usage so far is billed on the next invoice",
            [(500, 20), (700, 28)],
        ),
        ("classic", "classic", None, "usage in this period is not billed", [(700, 28)]),
        ("classic", "flexible", None, "usage so far is billed on the next invoice", [(500, 20), (700, 28)]),
    ],
)
def test_what_is_reported_of_usage_and_of_the_allowance_is_what_is_billed(
    world: World,
    said: set[str],
    mode: str,
    becomes: str,
    how: str | None,
    said_of_it: str,
    billed: list[tuple[int, int]],
) -> None:
    """1,500 units, another price with the same allowance, 1,700 units."""
    more = {"billing_mode": {"type": mode}, "allow_unbilled_usage": True}
    herd = Herd(world, said, **more, **({"proration_behavior": how} if how else {}))
    other = world.up(PriceProvider, "other", {**metered(herd.product, herd.meter), "nickname": "other"})
    use(world, herd.customer, 1_500)
    change = {**herd.item("usage", price=other.id), "billing_mode": {"type": becomes}}
    converted = ["billing_mode becomes flexible, which cannot be undone"] if becomes != mode else []
    assert herd.preview(change, {"other": (other, {})}) == [
        *converted,
        f"item usage moves from Price 'usage' to Price 'other'; {said_of_it}, and 1,000 included units start over",
    ]
    world.up(SubscriptionProvider, "herd", {**herd.arguments, **change}, herd.state)
    use(world, herd.customer, 1_700)
    world.control("clock", advance=32 * DAY)
    assert usage_lines(world, herd.state) == billed


@pytest.mark.parametrize("mode", ["flexible", "classic"])
def test_usage_in_a_trial_is_billed_at_0_as_is_reported(world: World, said: set[str], mode: str) -> None:
    herd = Herd(world, said, billing_mode={"type": mode}, trial_period_days=20)
    use(world, herd.customer, 9_000)
    world.control("clock", advance=25 * DAY)
    assert usage_lines(world, herd.state) == []
    use(world, herd.customer, 1_500)
    world.control("clock", advance=32 * DAY)
    assert usage_lines(world, herd.state) == [(500, 20)]


# -- amounts --------------------------------------------------------------------------------------------------------

amounts = st.decimals(min_value=0, max_value=5_000, places=4).map(lambda value: money.decimal_text(value))


@st.composite
def prices(draw: st.DrawFn) -> dict[str, Any]:
    """The arguments of a licensed price, as Stripe takes them."""
    match draw(st.sampled_from(["per_unit", "packages", "graduated", "volume"])):
        case "per_unit":
            return {"unit_amount_decimal": draw(amounts)}
        case "packages":
            transform = {"divide_by": draw(st.integers(2, 12)), "round": draw(st.sampled_from(["up", "down"]))}
            return {"unit_amount_decimal": draw(amounts), "transform_quantity": transform}
        case mode:
            bounds = sorted(draw(st.sets(st.integers(1, 40), max_size=3)))
            tiers = []
            for up_to in [*bounds, "inf"]:
                tier: dict[str, Any] = {"up_to": up_to, "unit_amount_decimal": draw(amounts)}
                if draw(st.booleans()):
                    tier["flat_amount"] = draw(st.integers(0, 900))
                tiers.append(tier)
            return {"billing_scheme": "tiered", "tiers_mode": mode, "tiers": tiers}


_numbers = itertools.count()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Any:
    made = World(Path(tmp_path_factory.mktemp("paid")) / "stripe.db")
    yield made
    made.sandbox.close()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(terms=prices(), seats=st.tuples(st.integers(1, 60), st.integers(1, 60)))
def test_the_amounts_of_a_preview_are_those_of_the_invoices(
    shared: World, terms: dict[str, Any], seats: tuple[int, int]
) -> None:
    """The first invoice bills what the preview says of the seats before, the renewal what it says of those after."""
    name = f"n{next(_numbers)}"
    product = shared.product(name).id
    arguments = {"product": product, "currency": "usd", "recurring": MONTH, **terms}
    price = shared.up(PriceProvider, name, arguments)
    customer = shared.customer(name).id

    def declared(quantity: int) -> dict[str, Any]:
        item = {"price": price.id, "quantity": quantity}
        return {**invoiced(customer), "items": {"license": item}, "proration_behavior": "none"}

    state = shared.up(SubscriptionProvider, name, declared(seats[0]))
    first = [each["amount"] for invoice in invoices(shared, state) for each in invoice["lines"]["data"]]
    assert paid.fee(arguments, seats[0]) == sum(first, Decimal(0))
    shared.up(SubscriptionProvider, name, declared(seats[1]), state)
    coming = shared.stripe("post", "/v1/invoices/create_preview", subscription=state.id)
    assert paid.fee(arguments, seats[1]) == coming["total"]
    assert paid.fee_text(arguments, seats[1]) == f"{money.format_minor(coming['total'], 'usd')} a month"


@pytest.mark.parametrize(
    ("price", "text"),
    [
        ({"currency": "jpy", "unit_amount": 500, "recurring": MONTH}, "1,500 JPY a month"),
        ({"currency": "usd", "unit_amount": 500, "recurring": QUARTER}, "15.00 USD every 3 months"),
        ({"currency": "usd", "unit_amount": 500}, "15.00 USD"),
        ({"currency": "usd", "unit_amount": 500, "transform_quantity": {"divide_by": 2, "round": "up"}}, "10.00 USD"),
        ({"currency": "usd", "unit_amount": 500, "transform_quantity": {"divide_by": 2, "round": "down"}}, "5.00 USD"),
        ({"currency": "usd", "custom_unit_amount": {"enabled": True}}, None),
        ({"currency": "usd", "unit_amount_decimal": UNKNOWN, "recurring": MONTH}, None),
        ({"currency": "usd", "unit_amount": 5, "recurring": {**MONTH, "usage_type": "metered"}}, None),
        ({"currency": "usd", "tiers": [{"up_to": UNKNOWN, "unit_amount": 5}], "recurring": MONTH}, None),
    ],
)
def test_an_amount_is_reported_only_where_the_program_knows_it(price: dict[str, Any], text: str | None) -> None:
    assert paid.fee_text(price, 3) == text


@pytest.mark.parametrize("quantity", [UNKNOWN, None, True])
@pytest.mark.parametrize("terms", [{"unit_amount": 500}, {"tiers": [{"up_to": "inf", "unit_amount": 5}]}])
def test_no_amount_is_reported_of_a_quantity_that_is_not_known(terms: dict[str, Any], quantity: Any) -> None:
    assert paid.fee_text({"currency": "usd", **terms}, quantity) is None


def test_an_amount_is_in_the_currency_that_is_billed() -> None:
    price = {**licensed("prod_1"), "currency_options": {"eur": {"unit_amount": 900}}}
    assert paid.fee_text(price, 2, "eur") == "18.00 EUR a month"
    assert paid.fee_text(price, 2, "gbp") is None


@pytest.mark.parametrize(
    ("tiers", "units"),
    [
        ([{"up_to": 1000, "unit_amount_decimal": "0"}, {"up_to": "inf", "unit_amount_decimal": "0.04"}], 1000),
        ([{"up_to": 10, "unit_amount": 0}, {"up_to": 20, "unit_amount": 0}, {"up_to": "inf", "unit_amount": 1}], 20),
        ([{"up_to": 10, "unit_amount": 0, "flat_amount": 5}, {"up_to": "inf", "unit_amount": 1}], 0),
        ([{"up_to": "inf", "unit_amount": 1}], 0),
    ],
)
def test_included_units(tiers: list[dict[str, Any]], units: int) -> None:
    assert paid.included({**metered("prod_1", "mtr_1"), "tiers": tiers}) == units
    assert paid.included({**licensed("prod_1"), "tiers": tiers}) == 0


@pytest.mark.parametrize(
    ("price", "free"),
    [
        ({"unit_amount": 0}, True),
        ({"unit_amount_decimal": "0.0"}, True),
        ({"unit_amount_decimal": "0.1"}, False),
        ({"unit_amount_decimal": UNKNOWN}, False),
        ({"custom_unit_amount": {"enabled": True}}, False),
        ({"tiers": [{"up_to": 5, "unit_amount": 0}, {"up_to": "inf", "flat_amount": 0}]}, True),
        ({"tiers": [{"up_to": 5, "unit_amount": 0}, {"up_to": "inf", "unit_amount": 1}]}, False),
        ({"tiers": [{"up_to": 5, "unit_amount": 0, "flat_amount": 1}, {"up_to": "inf", "unit_amount": 0}]}, False),
        ({"tiers": [{"up_to": "inf", "unit_amount_decimal": UNKNOWN}]}, False),
    ],
)
def test_a_price_is_free_only_where_that_is_certain(price: dict[str, Any], free: bool) -> None:
    assert paid.is_free(price) is free


@pytest.mark.parametrize(
    ("entries", "currency", "text"),
    [
        ([{"price": "setup"}], None, "50.00 USD"),
        ([{"price": "setup", "quantity": 2}], "usd", "100.00 USD"),
        ([{"price": "setup"}, {"price_data": {"currency": "usd", "unit_amount": 250}}], None, "52.50 USD"),
        (
            [{"price": "other"}, {"price": "setup"}, {"price": UNKNOWN}],
            None,
            "50.00 USD and 2 more of unknown amount",
        ),
        ([{"price": "setup"}, {"price": "setup"}], "eur", "2 items"),
        ([{"price": "other"}], "usd", "1 item"),
        ([{"price_data": {"currency": UNKNOWN, "unit_amount": 250}}], None, "1 item"),
    ],
)
def test_what_is_charged_once_is_summed_as_far_as_it_is_known(entries: Any, currency: str | None, text: str) -> None:
    known = {"setup": {"currency": "usd", "unit_amount": 5_000}}
    assert paid.once_text(entries, known.get, currency) == text


def test_a_balance_is_reported(world: World, said: set[str]) -> None:
    """Stripe sets it to what is sent: the part that invoices have used comes back."""
    customer = world.up(CustomerProvider, "acme", {"name": "A", "balance": -500})
    assert any(
        "starts with a credit of 500 minor units (balance), whatever an earlier customer" in line for line in said
    )
    said.clear()
    provider = world.process().provider(CustomerProvider)
    provider.diff(customer.id, customer.outs, as_pulumi_sends({**customer.inputs, "name": "B"}))
    assert said == set()
    provider.diff(customer.id, customer.outs, as_pulumi_sends({**customer.inputs, "balance": 200}))
    [line] = said
    assert "gets a debt of 200 minor units (balance)" in line


@pytest.mark.parametrize(
    ("on_delete", "sentence"),
    [("delete", "is deleted permanently, with its subscriptions"), ("keep", r"stays in Stripe \(on_delete=keep\)")],
)
def test_a_customer_that_is_replaced_says_what_becomes_of_the_old_one(
    world: World, said: set[str], on_delete: str, sentence: str
) -> None:
    old = world.customer(on_delete=on_delete)
    # What the next one would say does not count.
    new = {**old.inputs, "on_delete": "keep" if on_delete == "delete" else "delete"}
    run = world.process().provider(CustomerProvider)
    run.diff(old.id, old.outs, new)
    assert not any("customer is created" in line for line in said)
    run.diff(old.id, old.outs, {**new, "test_clock": "clock_1"})
    [line] = [line for line in said if "customer is created" in line]
    assert re.search(sentence, line)
