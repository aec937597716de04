"""Adopting existing objects in Stripe: explicitly, or if that does not change what customers pay."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

import pytest
from pulumi.output import UNKNOWN

from components.providers.differ import leaves
from components.providers.kinds import PROVIDERS
from components.providers.lifecycle import ProviderError, StripeProvider
from components.providers.meter import MeterProvider
from components.providers.price import PriceProvider
from components.providers.run import run_of
from components.providers.state import StackState
from components.providers.subscription import SubscriptionProvider
from tests.components import declarations
from tests.components.world import State, World, invoiced, licensed

WITH_OBJECTS = [provider for provider in PROVIDERS if not provider.kind.is_link]
METER = {"display_name": "T", "event_name": "tokens", "default_aggregation": {"formula": "sum"}}


def of_another_stack(world: World, provider: type[StripeProvider], declared: dict[str, Any]) -> str:
    """The id of an object that another stack of the account has created."""
    run = world.process().provider(provider)
    return run.create({**run.check({}, {**declared, "owner": "project/prod/n"}).inputs}).id


@pytest.fixture
def catalog(world: World) -> dict[str, str]:
    product = world.product().id
    seat = world.price(product, unit_amount_decimal="980").id
    dear = world.price(product, "dear", unit_amount_decimal="99800").id
    return {"product": product, "seat": seat, "dear": dear, "customer": world.customer().id}


def begun(world: World, catalog: dict[str, str], **more: Any) -> str:
    """A subscription with ten seats that was created by hand: 98.00 USD a month."""
    items = [{"price": catalog["seat"], "quantity": 10}]
    params = {**invoiced(catalog["customer"]), "items": items, **more}
    return str(world.stripe("post", "/v1/subscriptions", **params)["id"])


def declared(catalog: dict[str, str], **more: Any) -> dict[str, Any]:
    return {**invoiced(catalog["customer"]), "items": {"seat": {"price": catalog["seat"], "quantity": 10}}, **more}


# -- named ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("provider", WITH_OBJECTS)
def test_what_the_program_names_is_taken_over_and_said(
    world: World, provider: type[StripeProvider], said: set[str]
) -> None:
    kind = declarations.of(provider.kind)
    arguments = kind.arguments(world)
    theirs = of_another_stack(world, provider, arguments)
    said.clear()
    state = world.up(provider, "n", {**arguments, **kind.change, "adopt": theirs})
    assert state.id == theirs
    [(name, value)] = kind.change.items()
    [line] = [line for line in said if "is adopted" in line]
    assert f"({theirs}): is adopted" in line
    # Meters have no metadata.
    assert ("is adopted from project/prod/n and" in line) is provider.kind.has_metadata
    for path, each in leaves(value, name):
        assert re.search(rf"{path} \S+ => {each!r}", line)
    assert "{}" not in line
    after = world.refresh(provider, state)
    assert after is not None
    assert after.inputs == state.inputs
    # Taking the argument out again changes nothing.
    world.forget_calls()
    assert world.up(provider, "n", {**arguments, **kind.change}, state).id == theirs
    assert world.calls() == []


@pytest.mark.parametrize("provider", WITH_OBJECTS)
def test_an_id_that_there_is_not_is_refused(world: World, provider: type[StripeProvider]) -> None:
    arguments = declarations.of(provider.kind).arguments(world)
    with pytest.raises(
        ProviderError, match="adopt is nothing_1, which does not exist; remove adopt to create a new one"
    ):
        world.up(provider, "n", {**arguments, "adopt": "nothing_1"})


def test_a_preview_shows_what_taking_over_changes_with_amounts(
    world: World, catalog: dict[str, str], said: set[str]
) -> None:
    live = begun(world, catalog)
    run = world.process().provider(SubscriptionProvider)
    items = {"seat": {"price": catalog["dear"], "quantity": 1}}
    world.forget_calls()
    said.clear()
    run.check({}, {**declared(catalog, items=items, adopt=live), "owner": "project/dev/acme"})
    [line] = said
    assert f"({live}): is adopted and changed: " in line
    assert "what recurs by quantity: 98.00 USD a month => 998.00 USD a month" in line
    assert not any(call.startswith("POST") for call in world.calls())
    # What is not known yet is not compared, and once it is in the state nobody looks again.
    run.check({}, {**declared(catalog, items={"seat": {"price": UNKNOWN}}, adopt=live), "owner": "project/dev/other"})
    run.check({}, {**declared(catalog, items=UNKNOWN, adopt=live), "owner": "project/dev/third"})


def test_a_preview_without_a_key_says_that_it_could_not_look(world: World, said: set[str]) -> None:
    run = world.process(mode="live").provider(PriceProvider)
    run.check({}, {**licensed("prod_1"), "adopt": "price_1", "owner": "project/dev/fee"})
    [line] = said
    assert "Price 'fee' (price_1): will be adopted; the preview cannot tell what that changes: " in line
    assert "there is no API key" in line
    assert world.calls() == []


def test_what_stripe_cannot_change_is_refused_with_both_values(world: World, catalog: dict[str, str]) -> None:
    other = world.price(catalog["product"], "other").id
    with pytest.raises(ProviderError, match=r"has unit_amount_decimal '10000' \(declared: '5'\), and Stripe cannot"):
        world.up(PriceProvider, "n", {**licensed(catalog["product"]), "unit_amount_decimal": "5", "adopt": other})


def test_a_resource_that_is_something_already_is_not_made_another(world: World, catalog: dict[str, str]) -> None:
    fee = world.price(catalog["product"], "fee")
    run = world.process().provider(PriceProvider)
    with pytest.raises(ProviderError, match=f"adopt is {catalog['dear']}, but this resource already is {fee.id}"):
        run.diff(fee.id, fee.outs, {**fee.inputs, "adopt": catalog["dear"]})
    # Nor an object that is another resource of the program.
    run.diff(fee.id, fee.outs, fee.inputs)
    with pytest.raises(ProviderError, match=f"adopt is {fee.id}, which already is Price 'fee' of this program"):
        run.create({**licensed(catalog["product"]), "adopt": fee.id, "owner": "project/dev/second"})


def test_a_replacement_of_what_was_taken_over_is_a_new_object(world: World, catalog: dict[str, str]) -> None:
    arguments = {**licensed(catalog["product"]), "unit_amount_decimal": "99800", "adopt": catalog["dear"]}
    state = world.up(PriceProvider, "taken", arguments)
    assert state.id == catalog["dear"]
    dearer = world.up(PriceProvider, "taken", {**arguments, "unit_amount_decimal": "5"}, state)
    assert dearer.id != state.id
    assert world.up(PriceProvider, "taken", {**arguments, "unit_amount_decimal": "5"}, dearer).id == dearer.id


# -- found ----------------------------------------------------------------------------------------------------------


MINE = {"metadata": {"pulumi": "project/dev/acme"}}
TERMS: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "quantity": ({}, {"items": {"seat": {"price": "$seat", "quantity": 200}}}, "items.seat.quantity 10 .declared: 200"),
    "price": ({}, {"items": {"seat": {"price": "$dear", "quantity": 10}}}, "items"),
    "another item": ({}, {"items": {"dear": {"price": "$dear"}, "seat": {"price": "$seat", "quantity": 10}}}, "items"),
    "terms of payment": ({}, {"days_until_due": 3}, "days_until_due 30 .declared: 3"),
    "collection": ({"collection_method": "send_invoice"}, {"collection_method": "charge_automatically"}, "collection"),
    "discount given": ({"discounts": "$coupon"}, {}, "discounts"),
    "trial given": ({"trial_end": "$later"}, {}, "trial_end"),
    "trial declared": ({}, {"trial_end": "$later"}, "trial_end"),
    "paused": ({"pause": True}, {}, "pause_collection"),
    "tax": ({}, {"automatic_tax": {"enabled": True}}, "automatic_tax.enabled False .declared: True"),
    "threshold": ({}, {"billing_thresholds": {"amount_gte": 5000}}, "billing_thresholds.amount_gte"),
}


@pytest.mark.parametrize("name", TERMS)
def test_what_is_found_and_pays_otherwise_is_refused_with_both_values(
    world: World, catalog: dict[str, str], name: str
) -> None:
    """As in a state that was lost: the owner in the metadata is this resource's, and the preview shows a creation."""
    there, wanted, words = TERMS[name]
    later = int(world.stripe("get", f"/v1/customers/{catalog['customer']}")["created"]) + 20 * 86_400
    coupon = world.stripe("post", "/v1/coupons", percent_off=10, duration="forever")["id"]
    named = {**catalog, "later": later, "coupon": [{"coupon": coupon}]}

    def filled(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: filled(each) for key, each in value.items()}
        return named[value[1:]] if isinstance(value, str) and value.startswith("$") else value

    given = filled(there)
    paused = given.pop("pause", False)
    live = begun(world, catalog, **MINE, **given)
    if paused:
        world.stripe("post", f"/v1/subscriptions/{live}", pause_collection={"behavior": "void"})
    arguments = declared(catalog, **filled(wanted))
    if wanted.get("collection_method") == "charge_automatically":
        del arguments["days_until_due"]
    before = world.stripe("get", f"/v1/subscriptions/{live}")
    with pytest.raises(ProviderError, match=rf"{live} was created for it and has .*{words}.*declare adopt=\"{live}\""):
        world.up(SubscriptionProvider, "acme", arguments)
    assert world.stripe("get", f"/v1/subscriptions/{live}") == before
    assert len(world.stripe("get", "/v1/subscriptions")["data"]) == 1
    if name not in ("collection", "tax"):
        # The fix from the refusal.
        assert world.up(SubscriptionProvider, "acme", {**arguments, "adopt": live}).id == live


def test_what_is_found_and_pays_the_same_is_taken_over(world: World, catalog: dict[str, str], said: set[str]) -> None:
    live = begun(world, catalog, **MINE)
    assert world.up(SubscriptionProvider, "acme", declared(catalog, description="x")).id == live
    assert any(f"({live}): already exists and is adopted" in line for line in said)


@pytest.mark.parametrize(("amount", "taken_over"), [("980", True), ("981", False)])
def test_a_price_made_again_at_the_same_cost_is_the_same_bill(
    world: World, catalog: dict[str, str], amount: str, taken_over: bool
) -> None:
    """A destroyed stack archives its prices; a subscription that runs to its end is declared again on new ones."""
    item = {"price": catalog["seat"], "quantity": 10, "metadata": {"pulumi": "seat"}}
    params = {**invoiced(catalog["customer"]), "items": [item], **MINE}
    live = world.stripe("post", "/v1/subscriptions", **params)["id"]
    again = world.price(catalog["product"], "again", unit_amount_decimal=amount).id
    arguments = declared({**catalog, "seat": again})
    if taken_over:
        assert world.up(SubscriptionProvider, "acme", arguments).id == live
        return
    with pytest.raises(ProviderError, match=r"items\.seat\.price"):
        world.up(SubscriptionProvider, "acme", arguments)


# -- meters ---------------------------------------------------------------------------------------------------------


def test_two_stacks_never_share_a_meter_unless_it_is_declared(world: World, said: set[str]) -> None:
    theirs = of_another_stack(world, MeterProvider, METER)
    with pytest.raises(ProviderError, match=rf"{theirs}, which is not in this stack's state.*adopt=\"{theirs}\""):
        world.up(MeterProvider, "tokens", METER)
    ours = world.up(MeterProvider, "tokens", {**METER, "adopt": theirs})
    assert ours.id == theirs
    # Their prices bill by it: it stays when this stack removes it, and is deactivated once they are gone.
    product = world.product().id
    recurring = {"interval": "month", "usage_type": "metered", "meter": theirs}
    price = world.stripe("post", "/v1/prices", product=product, currency="usd", unit_amount=1, recurring=recurring)
    world.destroy(MeterProvider, ours)
    assert world.stripe("get", f"/v1/billing/meters/{theirs}")["status"] == "active"
    assert any(
        f"stays active, since it was adopted and prices that this stack did not create still bill by it ({price['id']})"
        in each
        for each in said
    )
    world.stripe("post", f"/v1/prices/{price['id']}", active=False)
    world.destroy(MeterProvider, ours)
    assert world.stripe("get", f"/v1/billing/meters/{theirs}")["status"] == "inactive"


def test_a_meter_that_the_state_holds_under_another_name_is_taken_over(world: World) -> None:
    """The resource was renamed: Pulumi creates the new one, and then deletes the old one, which is the same meter."""
    old: State = world.meter("tokens", display_name="T")
    process = world.process()
    held = StackState(Counter({("Meter", old.id): 1}))
    run_of(process.account).read_state = lambda stack: held if stack == "dev" else None
    new = world.up(MeterProvider, "new-name", METER, process=process)
    world.destroy(MeterProvider, old, process)
    assert new.id == old.id
    assert world.stripe("get", f"/v1/billing/meters/{old.id}")["status"] == "active"
