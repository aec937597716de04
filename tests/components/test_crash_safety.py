"""An interrupted run: the next run finds whatever Stripe has already done, and nothing happens twice.

A kill between Stripe's answer and the state file is a process whose result is thrown away; a lost response is the
sandbox's fault `after`, which carries the request out and breaks the connection.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from components.account import StripeRefusal
from components.providers import reconciler
from components.providers.customer import CustomerProvider
from components.providers.default_price import DefaultPriceProvider
from components.providers.lifecycle import ProviderError, StripeProvider
from components.providers.meter import MeterProvider
from components.providers.price import PriceProvider
from components.providers.product import ProductProvider
from components.providers.subscription import SubscriptionProvider
from tests.components import declarations
from tests.components.world import PROVIDERS, World

#: A link has no object of its own that could be left behind.
CREATED = [provider for provider in PROVIDERS if not provider.kind.is_link]
#: Meters have no metadata: only Stripe's stored answer to the same create says who made one.
OWNED = [provider for provider in CREATED if provider.kind.has_metadata]


def arguments(world: World, provider: type[StripeProvider]) -> dict[str, Any]:
    """A declaration of each kind, after creating what it needs."""
    return declarations.of(provider.kind).arguments(world)


def changed(provider: type[StripeProvider]) -> dict[str, Any]:
    """For each kind, a change that somebody makes between the killed run and the next one."""
    return declarations.of(provider.kind).change


def count(world: World, provider: type[StripeProvider]) -> int:
    """How many objects of the kind exist besides those that the test created first."""
    found = world.stripe("get", provider.kind.path, limit=100)["data"]
    return sum("beforehand" not in str((each.get("metadata") or {}).get("pulumi")) for each in found)


@pytest.mark.parametrize("provider", CREATED)
def test_killed_before_the_state_is_written(world: World, provider: type[StripeProvider]) -> None:
    declared = arguments(world, provider)
    lost = world.up(provider, "n", declared)
    state = world.up(provider, "n", declared)
    assert state.id == lost.id
    assert count(world, provider) == 1


@pytest.mark.parametrize("provider", OWNED)
def test_killed_and_then_changed(world: World, provider: type[StripeProvider]) -> None:
    """Other parameters are another idempotency key; the owner in the metadata is what finds the object."""
    declared = arguments(world, provider)
    lost = world.up(provider, "n", declared)
    state = world.up(provider, "n", {**declared, **changed(provider)})
    assert state.id == lost.id
    assert count(world, provider) == 1
    after = world.refresh(provider, state)
    assert after is not None
    assert after.inputs == state.inputs


@pytest.mark.parametrize("provider", OWNED)
def test_killed_and_run_again_after_two_days(world: World, provider: type[StripeProvider]) -> None:
    """Stripe has forgotten the idempotency key by then."""
    declared = arguments(world, provider)
    lost = world.up(provider, "n", declared)
    world.control("clock", advance=2 * 86_400)
    state = world.up(provider, "n", declared)
    assert state.id == lost.id
    assert count(world, provider) == 1


@pytest.mark.parametrize("fault", [{"drop": True}, {"half_body": True}, {"status": 500}, {"status": 503}])
@pytest.mark.parametrize("provider", CREATED)
def test_the_response_is_lost_after_stripe_acted(
    world: World, provider: type[StripeProvider], fault: dict[str, Any]
) -> None:
    declared = arguments(world, provider)
    world.control("faults", method="POST", path=f"{provider.kind.path}*", when="after", **fault)
    world.up(provider, "n", declared)
    assert count(world, provider) == 1


@pytest.mark.parametrize("fault", [{"drop": True}, {"status": 500}])
@pytest.mark.parametrize("provider", CREATED)
def test_the_response_to_a_change_is_lost(world: World, provider: type[StripeProvider], fault: dict[str, Any]) -> None:
    declared = arguments(world, provider)
    state = world.up(provider, "n", declared)
    world.control("faults", method="POST", path=f"{provider.kind.path}*", when="after", **fault)
    there = world.up(provider, "n", {**declared, **changed(provider)}, state)
    assert there.id == state.id
    after = world.refresh(provider, there)
    assert after is not None
    assert after.inputs == there.inputs


@pytest.mark.parametrize("fault", [{"drop": True}, {"status": 500}])
@pytest.mark.parametrize("provider", CREATED)
def test_the_response_to_a_deletion_is_lost(
    world: World, provider: type[StripeProvider], fault: dict[str, Any]
) -> None:
    state = world.up(provider, "n", arguments(world, provider))
    for method in ("POST", "DELETE"):
        world.control("faults", method=method, path=f"{provider.kind.path}*", when="after", **fault)
    world.destroy(provider, state)
    world.heal()
    after = world.refresh(provider, state)
    assert after is None or after.inputs["active"] is False


@pytest.mark.parametrize("fault", [{"drop": True}, {"status": 500}])
@pytest.mark.parametrize("provider", CREATED)
def test_every_response_is_lost_until_the_run_gives_up(
    world: World, provider: type[StripeProvider], fault: dict[str, Any]
) -> None:
    declared = arguments(world, provider)
    world.control("faults", method="POST", path=f"{provider.kind.path}*", when="after", count=None, **fault)
    process = world.process()
    with pytest.raises(StripeRefusal) as caught:
        world.up(provider, "n", declared, process=process)
    assert "\n" not in str(caught.value)
    # The time it gave up after is the account's, spent asleep and not in this test.
    assert sum(process.clock.slept) <= process.account.settings.retry_seconds
    world.heal()
    world.up(provider, "n", declared)
    assert count(world, provider) == 1


@pytest.mark.parametrize("provider", CREATED)
def test_a_stored_failure_does_not_last_a_day(world: World, provider: type[StripeProvider]) -> None:
    """Stripe repeats the stored 500 for a day; once it is certain that nothing was created, another key is used."""
    declared = arguments(world, provider)
    world.control("faults", method="POST", path=f"{provider.kind.path}*", when="stored", status=500)
    world.up(provider, "n", declared)
    assert count(world, provider) == 1


def test_a_stored_failure_that_left_an_object_behind_is_not_created_again(world: World) -> None:
    """The process's earlier list is out of date, so it lists again."""
    run = world.process()
    world.up(ProductProvider, "first", {"name": "First"}, process=run)
    left = world.stripe("post", "/v1/products", name="P", metadata={"pulumi": "project/dev/n"})
    world.control("faults", method="POST", path="/v1/products*", when="stored", status=500)
    assert world.up(ProductProvider, "n", {"name": "P"}, process=run).id == left["id"]


@pytest.mark.parametrize(
    ("provider", "end"),
    [
        (ProductProvider, lambda world, id_: world.stripe("post", f"/v1/products/{id_}", active=False)),
        (ProductProvider, lambda world, id_: world.stripe("delete", f"/v1/products/{id_}")),
        (PriceProvider, lambda world, id_: world.stripe("post", f"/v1/prices/{id_}", active=False, lookup_key="")),
        (CustomerProvider, lambda world, id_: world.stripe("delete", f"/v1/customers/{id_}")),
        (SubscriptionProvider, lambda world, id_: world.stripe("delete", f"/v1/subscriptions/{id_}")),
    ],
)
def test_a_replayed_answer_whose_object_has_ended_is_not_success(
    world: World, provider: type[StripeProvider], end: Callable[[World, str], Any]
) -> None:
    """Created, ended and created again within a day: the stored answer to the first create is out of date."""
    declared = arguments(world, provider)
    first = world.up(provider, "n", declared)
    end(world, first.id)
    second = world.up(provider, "n", declared)
    end(world, second.id)
    third = world.up(provider, "n", declared)
    assert len({first.id, second.id, third.id}) == 3
    alive = world.refresh(provider, third)
    assert alive is not None
    assert alive.inputs == third.inputs


@pytest.mark.parametrize("days", [0, 2])
def test_a_meter_that_a_lost_run_made_is_named_where_stripe_cannot_say_whose_it_is(world: World, days: int) -> None:
    """Changed before the next run, or after the day that Stripe remembers a create: it may be another stack's."""
    declared = {**arguments(world, MeterProvider), "display_name": "T"}
    lost = world.up(MeterProvider, "n", declared)
    world.control("clock", advance=days * 86_400)
    changed_since = declared if days else {**declared, "display_name": "Tokens"}
    with pytest.raises(ProviderError, match=rf'{lost.id}, which is not in this stack.s state.*adopt="{lost.id}"'):
        world.up(MeterProvider, "n", changed_since)
    assert world.up(MeterProvider, "n", {**changed_since, "adopt": lost.id}).id == lost.id
    assert count(world, MeterProvider) == 1


def test_a_meter_is_reactivated_when_its_shape_is_the_same(world: World, said: set[str]) -> None:
    declared = arguments(world, MeterProvider)
    first = world.up(MeterProvider, "n", declared)
    world.destroy(MeterProvider, first)
    again = world.up(MeterProvider, "n", {**declared, "display_name": "New"})
    assert again.id == first.id
    assert world.stripe("get", f"/v1/billing/meters/{first.id}")["status"] == "active"
    assert any("reactivated" in line for line in said)


def test_a_meter_of_another_shape_says_what_differs(world: World) -> None:
    declared = arguments(world, MeterProvider)
    world.up(MeterProvider, "n", declared)
    with pytest.raises(ProviderError, match=r"active meter mtr_.* has default_aggregation .*sum.*declared: .*count"):
        world.up(MeterProvider, "n", {**declared, "default_aggregation": {"formula": "count"}})
    with pytest.raises(ProviderError, match="value_settings"):
        world.up(MeterProvider, "n", {**declared, "value_settings": {"event_payload_key": "words"}})


def test_an_update_is_not_charged_twice(world: World) -> None:
    """What an update adds to the next invoice is added once, however often the run is cut short."""
    declared = arguments(world, SubscriptionProvider)
    once = world.price(world.product("once").id, "once", recurring=None)
    state = world.up(SubscriptionProvider, "n", declared)
    charged = {**declared, "add_invoice_items": [{"price": once.id}]}
    world.up(SubscriptionProvider, "n", charged, state)
    after = world.up(SubscriptionProvider, "n", charged, state)
    again = world.up(SubscriptionProvider, "n", {**charged, "description": "x"}, after)
    items = world.stripe("get", "/v1/invoiceitems", customer=declared["customer"])["data"]
    assert len(items) == 1
    # Taking it out gives nothing back and charges nothing.
    world.up(SubscriptionProvider, "n", {**declared, "description": "x"}, again)
    assert len(world.stripe("get", "/v1/invoiceitems", customer=declared["customer"])["data"]) == 1


def test_an_update_that_was_interrupted_and_then_changed_is_not_charged_twice(world: World) -> None:
    declared = arguments(world, SubscriptionProvider)
    once = world.price(world.product("once").id, "once", recurring=None)
    state = world.up(SubscriptionProvider, "n", declared)
    charged = {**declared, "add_invoice_items": [{"price": once.id}]}
    world.up(SubscriptionProvider, "n", charged, state)
    after = world.up(SubscriptionProvider, "n", {**charged, "description": "x"}, state)
    assert len(world.stripe("get", "/v1/invoiceitems", customer=declared["customer"])["data"]) == 1
    # Declared anew it is charged again, once.
    without = world.up(SubscriptionProvider, "n", {**declared, "description": "x"}, after)
    world.up(SubscriptionProvider, "n", {**charged, "description": "x"}, without)
    assert len(world.stripe("get", "/v1/invoiceitems", customer=declared["customer"])["data"]) == 2


def test_a_change_there_and_back_within_a_day_is_made_each_time(world: World) -> None:
    declared = arguments(world, CustomerProvider)
    state = world.up(CustomerProvider, "n", declared)
    for name in ("B", "A", "B", "A", "B"):
        state = world.up(CustomerProvider, "n", {**declared, "name": name}, state)
        assert world.stripe("get", f"/v1/customers/{state.id}")["name"] == name


def test_what_is_made_and_deleted_over_and_over_ends_in_one_line(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconciler, "MOST_GENERATIONS", 2)
    declared = arguments(world, ProductProvider)
    for _ in range(5):
        world.destroy(ProductProvider, world.up(ProductProvider, "n", declared))
    # A restricted key need not be allowed to read which objects were deleted.
    world.control("faults", method="GET", path="/v1/events", status=403, message="no events", count=None)
    with pytest.raises(ProviderError, match="Product 'n': created and deleted 2 times today; wait a day"):
        world.up(ProductProvider, "n", declared)


@pytest.mark.parametrize("readable", [{1, 2}, {1}, {2}, set()])
@pytest.mark.parametrize("listed", [True, False])
@pytest.mark.parametrize("provider", CREATED)
def test_what_a_killed_run_creates_after_a_destroy_is_created_once(
    world: World, provider: type[StripeProvider], listed: bool, readable: set[int]
) -> None:
    """Also if Stripe is not done with it while the next run reads the list: that run uses the same key.

    readable: in which of the two runs the key may read what was deleted.
    """

    def permissions(run: int) -> None:
        world.heal()
        if run not in readable:
            world.control("faults", method="GET", path="/v1/events", status=403, message="no events", count=None)

    declared = arguments(world, provider)
    for _ in range(2):
        world.destroy(provider, world.up(provider, "n", declared))
    permissions(1)
    lost = world.up(provider, "n", declared)
    permissions(2)
    if not listed:
        before = [each for each in world.stripe("get", provider.kind.path)["data"] if each["id"] != lost.id]
        empty = {"object": "list", "data": before, "has_more": False}
        world.control("faults", method="GET", path=provider.kind.path, status=200, body=json.dumps(empty), count=None)
    assert world.up(provider, "n", declared).id == lost.id


def test_a_chosen_id_that_was_deleted_before_is_in_use_again(world: World) -> None:
    """What reading the deleted objects must not forget."""
    declared = {"id": "gold", "name": "Gold"}
    for name, arguments_ in (("gold", declared), ("n", {"name": "N"})):
        world.destroy(ProductProvider, world.up(ProductProvider, name, arguments_))
    process = world.process()
    gold = world.up(ProductProvider, "gold", {**declared, "name": "Another"}, process=process)
    world.up(ProductProvider, "n", {"name": "N"}, process=process)
    assert "GET /v1/events" in world.calls()
    assert world.refresh(ProductProvider, gold, process) is not None


def test_a_change_that_was_lost_and_undone_in_the_dashboard_is_created_again(world: World) -> None:
    """Its key has a stored answer, which is how the object was, not how it is."""
    declared = arguments(world, CustomerProvider)
    state = world.up(CustomerProvider, "n", declared)
    world.up(CustomerProvider, "n", {**declared, "name": "B"}, state)
    world.stripe("post", f"/v1/customers/{state.id}", name="X")
    world.up(CustomerProvider, "n", {**declared, "name": "B"}, state)
    assert world.stripe("get", f"/v1/customers/{state.id}")["name"] == "B"


@pytest.mark.parametrize("field", ["balance", "next_invoice_sequence"])
def test_what_stripe_itself_moves_is_changed_there_and_back_each_time(world: World, field: str) -> None:
    """Stripe changes these itself, so a stored answer does not prove the change."""
    declared = {"name": "C", "email": "c@example.com"}
    state = world.up(CustomerProvider, "n", {**declared, field: 100})
    for value in (900, 100, 900, 100):
        state = world.up(CustomerProvider, "n", {**declared, field: value}, state)
        assert world.stripe("get", f"/v1/customers/{state.id}")[field] == value


def test_a_discount_is_given_as_often_as_it_is_declared(world: World) -> None:
    coupon = world.stripe("post", "/v1/coupons", percent_off=10, duration="forever")["id"]
    declared = arguments(world, SubscriptionProvider)
    state = world.up(SubscriptionProvider, "n", declared)
    for given in (1, 0, 1, 0, 1):
        discounts = {"discounts": [{"coupon": coupon}]} if given else {}
        state = world.up(SubscriptionProvider, "n", {**declared, **discounts}, state)
        assert len(world.stripe("get", f"/v1/subscriptions/{state.id}")["discounts"]) == given


def test_a_price_of_its_own_goes_there_and_back_within_a_day(world: World) -> None:
    declared = arguments(world, SubscriptionProvider)
    product = world.product("beforehand").id
    state = None
    for amount in (1000, 2000, 1000, 2000, 1000):
        data = {"product": product, "currency": "usd", "recurring": {"interval": "month"}, "unit_amount": amount}
        state = world.up(SubscriptionProvider, "n", {**declared, "items": {"license": {"price_data": data}}}, state)
        [item] = world.stripe("get", f"/v1/subscriptions/{state.id}")["items"]["data"]
        assert item["price"]["unit_amount"] == amount


def test_the_number_of_changes_survives_a_refresh(world: World) -> None:
    """It is part of every change's idempotency key; an object that was never changed does not show it."""
    declared = arguments(world, CustomerProvider)
    made = world.up(CustomerProvider, "n", declared)
    changed = world.up(CustomerProvider, "n", {**declared, "name": "B"}, made)
    after = world.refresh(CustomerProvider, changed)
    assert after is not None
    assert after.outs == changed.outs
    assert ("changes" in made.outs, changed.outs["changes"]) == (False, 1)
    unsent = world.up(CustomerProvider, "n", {**declared, "name": "B", "on_delete": "keep"}, after)
    assert unsent.outs["changes"] == 1


def test_what_a_lost_run_has_finished_is_adopted_without_a_change(world: World) -> None:
    """Arguments that Stripe takes only once the object exists were sent, too."""
    declared = {**arguments(world, SubscriptionProvider), "pause_collection": {"behavior": "void"}}
    lost = world.up(SubscriptionProvider, "n", declared)
    world.forget_calls()
    assert world.up(SubscriptionProvider, "n", declared).id == lost.id
    assert [call for call in world.calls() if call.startswith("POST")] == []


def test_a_subscription_that_a_lost_run_made_never_bills_beside_another(world: World) -> None:
    """The program moved to another customer before the next run: what was made is in no state."""
    declared = arguments(world, SubscriptionProvider)
    lost = world.up(SubscriptionProvider, "n", declared)
    other = {**declared, "customer": world.customer("beforehand-2").id}
    with pytest.raises(
        ProviderError, match=f"{lost.id} was created for it, is active and has customer .*cancel {lost.id}"
    ):
        world.up(SubscriptionProvider, "n", other)
    # One that ends by itself bills nothing beside another for long.
    world.stripe("post", f"/v1/subscriptions/{lost.id}", cancel_at_period_end=True)
    made = world.up(SubscriptionProvider, "n", other)
    assert {each["id"] for each in world.stripe("get", "/v1/subscriptions")["data"]} == {lost.id, made.id}
    world.stripe("delete", f"/v1/subscriptions/{lost.id}")
    assert world.up(SubscriptionProvider, "n", other).id == made.id
    assert [each["id"] for each in world.stripe("get", "/v1/subscriptions")["data"]] == [made.id]


def test_what_a_lost_run_has_made_and_cannot_be_used_is_named(world: World, said: set[str]) -> None:
    """The amount changed before the next run: the price is in no state, and nobody else would say that it is there."""
    declared = arguments(world, PriceProvider)
    lost = world.up(PriceProvider, "n", declared)
    said.clear()
    made = world.up(PriceProvider, "n", {**declared, "unit_amount_decimal": "777"})
    assert made.id != lost.id
    assert any(
        f"{lost.id} was created for it too but has unit_amount_decimal '10000' (declared: '777')" in line
        for line in said
    )
    # Archived it is out of the way; and one that the state knows is not left behind.
    world.stripe("post", f"/v1/prices/{lost.id}", active=False)
    said.clear()
    world.up(PriceProvider, "n", {**declared, "unit_amount_decimal": "778"}, made)
    assert not any("was created for it too" in line for line in said)


def test_a_replacement_that_was_interrupted_is_finished(world: World) -> None:
    """The new price exists and has the lookup key; the state has only the old one."""
    declared = arguments(world, PriceProvider)
    old = world.up(PriceProvider, "n", declared)
    dearer = {**declared, "unit_amount_decimal": "12000"}
    run = world.process().provider(PriceProvider)
    checked = run.check({}, {**dearer, "owner": "project/dev/n"})
    lost = run.create(checked.inputs)
    done = world.up(PriceProvider, "n", dearer, old)
    assert done.id == lost.id
    prices = {each["id"]: each for each in world.stripe("get", "/v1/prices")["data"]}
    assert prices[done.id]["lookup_key"] == "p"
    assert prices[done.id]["active"] is True
    assert prices[old.id]["active"] is False
    assert count(world, PriceProvider) == 2


def test_a_default_price_link_is_set_again(world: World) -> None:
    product = world.product()
    fee = world.price(product.id)
    link = {"product": product.id, "price": fee.id}
    world.up(DefaultPriceProvider, "n", link)
    assert world.up(DefaultPriceProvider, "n", link).id == product.id


def test_a_cancelled_at_period_end_subscription_goes_on_when_it_is_declared_again(world: World) -> None:
    declared = {**arguments(world, SubscriptionProvider), "cancel": {"when": "period_end"}}
    first = world.up(SubscriptionProvider, "n", declared)
    world.destroy(SubscriptionProvider, first)
    assert world.stripe("get", f"/v1/subscriptions/{first.id}")["cancel_at_period_end"] is True
    again = world.up(SubscriptionProvider, "n", declared)
    assert again.id == first.id
    assert world.stripe("get", f"/v1/subscriptions/{first.id}")["cancel_at_period_end"] is False


def test_another_stack_finds_nothing_of_ours(world: World) -> None:
    declared = arguments(world, ProductProvider)
    ours = world.up(ProductProvider, "n", declared)
    run = world.process().provider(ProductProvider)
    theirs = run.create({**declared, "owner": "project/prod/n"})
    assert theirs.id != ours.id
