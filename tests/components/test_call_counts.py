"""How many calls an up and a refresh take: finding before creating, in an empty account and in a full one."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from components.account import StripeRefusal
from components.providers.customer import CustomerProvider
from components.providers.inventory import MOST_PAGES
from components.providers.lifecycle import StripeProvider
from components.providers.meter import MeterProvider
from components.providers.price import PriceProvider
from components.providers.product import ProductProvider
from components.providers.subscription import SubscriptionProvider
from sandbox.store import Store
from sandbox.wire import Request
from tests.components.world import LIVE_KEY, Process, State, World, as_pulumi_sends, invoiced, licensed, metered


@pytest.fixture
def many(world: World) -> list[State]:
    """250 products of one stack."""
    process = world.process()
    return [world.up(ProductProvider, f"p{n}", {"name": f"P{n}"}, process=process) for n in range(250)]


def foreign(world: World, path: str, number: int, **params: str) -> None:
    """Objects that somebody else made."""
    for n in range(number):
        body = "&".join(f"{name}={value}" for name, value in {"name": f"Foreign{n}", **params}.items())
        headers = {"authorization": "Bearer sk_test_sandbox", "content-type": "application/x-www-form-urlencoded"}
        assert world.sandbox.handle(Request("POST", path, headers, body.encode())).status == 200


def test_making_many_takes_little_more_than_a_call_each(world: World, many: list[State]) -> None:
    calls = world.calls()
    assert calls.count("POST /v1/products") == 250
    assert len(calls) <= 250 * 1.1
    assert len(calls) == 250 + 2  # the account and one page


def test_refreshing_many_lists_them(world: World, many: list[State]) -> None:
    world.forget_calls()
    process = world.process()
    for state in many:
        after = world.refresh(ProductProvider, state, process)
        assert after is not None
        assert after.inputs == state.inputs
    # The first one is fetched, then there are three pages; and the account, once.
    assert len(world.calls()) == 1 + 3 + 1


@pytest.mark.parametrize("provider", [ProductProvider, CustomerProvider])
def test_making_many_again_after_a_destroy_takes_little_more(world: World, provider: type[StripeProvider]) -> None:
    """The keys of what a destroy has deleted are known to be used: a list of what was deleted, and two calls once."""
    for _ in range(3):
        world.forget_calls()
        process = world.process()
        made = [world.up(provider, f"n{n}", {"name": f"N{n}"}, process=process) for n in range(40)]
        assert len(world.calls()) <= 40 + 2 + 3
        for state in made:
            world.destroy(provider, state)


@pytest.mark.parametrize("ours", [1, 2, 5])
def test_refreshing_a_few_among_foreign_ones_never_takes_two_calls_each(world: World, ours: int) -> None:
    process = world.process()
    states = [world.up(ProductProvider, f"p{n}", {"name": f"P{n}"}, process=process) for n in range(ours)]
    foreign(world, "/v1/products", 650)
    world.forget_calls()
    process = world.process()
    for state in states:
        assert world.refresh(ProductProvider, state, process) is not None
    calls = [call for call in world.calls() if call != "GET /v1/account"]
    assert len(calls) <= 2 * ours


def test_meters_cannot_say_whose_they_are_and_are_listed_all_the_same(world: World) -> None:
    process = world.process()

    def meter(n: int) -> State:
        arguments = {"display_name": "M", "event_name": f"m{n}", "default_aggregation": {"formula": "sum"}}
        return world.up(MeterProvider, f"m{n}", arguments, process=process)

    states = [meter(n) for n in range(120)]
    assert len(world.calls()) <= 120 * 1.1
    world.forget_calls()
    process = world.process()
    for state in states:
        assert world.refresh(MeterProvider, state, process) is not None
    assert len(world.calls()) <= 6


class TestInAFullAccount:
    """3 pages of customers that somebody else made, 2 days ago, and a customer of ours older than all of them."""

    @pytest.fixture
    def full(self, tmp_path: Path) -> Iterator[tuple[World, State]]:
        world = World(tmp_path / "full.db")
        world.control("clock", now=int(time.time()) - 2 * 86_400)
        ours = world.customer("old")
        foreign(world, "/v1/customers", 250)
        world.control("clock", real=True)
        world.forget_calls()
        yield world, ours
        world.sandbox.close()

    def test_what_was_made_long_ago_is_found_by_a_search(self, full: tuple[World, State]) -> None:
        world, ours = full
        again = world.customer("old")
        assert again.id == ours.id
        assert sorted(world.calls()) == ["GET /v1/account", "GET /v1/customers", "GET /v1/customers/search"]

    def test_without_search_the_list_is_read_to_its_end(self, full: tuple[World, State]) -> None:
        """Some accounts have no search, and some keys may not use it."""
        world, ours = full
        world.control(
            "faults", method="GET", path="/v1/customers/search", status=403, message="no search here", count=None
        )
        again = world.customer("old")
        assert again.id == ours.id
        assert world.calls().count("GET /v1/customers") == 3

    def test_what_the_search_index_does_not_know_yet_is_in_the_list(self, full: tuple[World, State]) -> None:
        world, _ = full
        lost = world.customer("new")
        # More than a page, all within the hour that the index may lag.
        foreign(world, "/v1/customers", 110)
        world.forget_calls()
        # The index lags: it answers that there is nothing.
        world.control(
            "faults",
            method="GET",
            path="/v1/customers/search",
            status=200,
            body='{"object": "search_result", "data": [], "has_more": false, "next_page": null}',
            count=None,
        )
        assert world.customer("new").id == lost.id
        assert "POST /v1/customers" not in world.calls()

    def test_many_are_made_with_one_look(self, full: tuple[World, State]) -> None:
        world, _ = full
        process: Process = world.process()
        for n in range(40):
            world.up(CustomerProvider, f"c{n}", {"name": f"C{n}"}, process=process)
        assert len(world.calls()) <= 40 * 1.1


def test_what_this_process_changed_is_newer_than_what_it_listed(world: World, many: list[State]) -> None:
    process = world.process()
    world.refresh(ProductProvider, many[0], process)
    world.refresh(ProductProvider, many[1], process)
    changed = world.up(ProductProvider, "p2", {"name": "New"}, many[2], process)
    after = world.refresh(ProductProvider, changed, process)
    assert after is not None
    assert after.inputs == as_pulumi_sends(changed.inputs)
    world.destroy(ProductProvider, many[3], process)
    assert world.refresh(ProductProvider, many[3], process) is None


def test_a_customer_on_a_test_clock_is_found(world: World) -> None:
    """Stripe lists the customers of a clock only when it is named."""
    clock: Any = world.stripe("post", "/v1/test_helpers/test_clocks", frozen_time=1_800_000_000)
    lost = world.customer("clocked", test_clock=clock["id"])
    world.control("clock", advance=2 * 86_400)
    again = world.process()
    customer = world.up(CustomerProvider, "clocked", {"name": "clocked", "test_clock": clock["id"]}, process=again)
    assert customer.id == lost.id
    fee = world.price(world.product().id)
    items = {"license": {"price": fee.id}}
    cut_short = world.subscription(customer.id, items)
    arguments = {**invoiced(customer.id), "items": items, "description": "changed since"}
    assert world.up(SubscriptionProvider, "acme", arguments, process=again).id == cut_short.id


def test_a_list_that_failed_is_read_again(world: World, many: list[State]) -> None:
    process = world.process()
    world.refresh(ProductProvider, many[0], process)
    world.control("faults", method="GET", path="/v1/products", status=400)
    with pytest.raises(StripeRefusal, match="list of products"):
        world.refresh(ProductProvider, many[1], process)
    assert world.refresh(ProductProvider, many[1], process) is not None


def test_a_thousand_objects_of_five_kinds(world: World) -> None:
    """At most 1.1 calls an object to make them, and twenty calls to refresh them all."""
    process = world.process()
    made: list[tuple[type[StripeProvider], State]] = []

    def up(provider: type[StripeProvider], name: str, arguments: dict[str, Any]) -> State:
        made.append((provider, world.up(provider, name, arguments, process=process)))
        return made[-1][1]

    for n in range(200):
        named = {"display_name": "M", "event_name": f"m{n}", "default_aggregation": {"formula": "sum"}}
        meter = up(MeterProvider, f"m{n}", named)
        product = up(ProductProvider, f"p{n}", {"name": "P"})
        price = up(PriceProvider, f"u{n}", {**metered(product.id, meter.id), "lookup_key": f"k{n}"})
        customer = up(CustomerProvider, f"c{n}", {"name": "C"})
        up(SubscriptionProvider, f"s{n}", {**invoiced(customer.id), "items": {"usage": {"price": price.id}}})
    assert len(made) == 1000
    assert len(world.calls()) <= 1100
    world.forget_calls()
    process = world.process()
    for provider, state in made:
        after = world.refresh(provider, state, process)
        assert after is not None
        assert after.inputs == state.inputs
    assert len(world.calls()) <= 20


@pytest.fixture
def catalog(world: World) -> list[tuple[type[StripeProvider], State]]:
    """150 customers with a subscription each, to 20 prices of 10 products, in the order in which they were made."""
    process = world.process()
    made: list[tuple[type[StripeProvider], State]] = []

    def up(provider: type[StripeProvider], name: str, arguments: dict[str, Any]) -> State:
        made.append((provider, world.up(provider, name, arguments, process=process)))
        return made[-1][1]

    products = [up(ProductProvider, f"p{n}", {"name": "P"}) for n in range(10)]
    prices = [up(PriceProvider, f"u{n}", licensed(products[n % 10].id)) for n in range(20)]
    for n in range(150):
        customer = up(CustomerProvider, f"c{n}", {"name": "C"})
        items = {"license": {"price": prices[n % 20].id}}
        up(SubscriptionProvider, f"s{n}", {**invoiced(customer.id), "items": items})
    world.forget_calls()
    return made


def destroyed(world: World, made: list[tuple[type[StripeProvider], State]]) -> list[str]:
    """The calls of a destroy."""
    process = world.process()
    for provider, state in reversed(made):
        world.destroy(provider, state, process)
    return world.calls()


def test_destroying_many_takes_little_more_than_a_call_each(
    world: World, catalog: list[tuple[type[StripeProvider], State]]
) -> None:
    calls = destroyed(world, catalog)
    assert not [call for call in calls if call.startswith("DELETE /v1/products")], (
        "Stripe would refuse: they had prices"
    )
    assert len([call for call in calls if call.startswith("POST /v1/products/")]) == 10
    # The account, the first subscription and its customer's, and the pages of the list.
    assert len(calls) <= len(catalog) + 1 + 2 + 3


def test_a_customer_is_deleted_by_what_the_list_says_of_its_subscriptions(
    world: World, catalog: list[tuple[type[StripeProvider], State]], said: set[str]
) -> None:
    (_, price), (_, customer) = catalog[10], catalog[30]
    items = [{"price": price.id}]
    by_hand = world.stripe("post", "/v1/subscriptions", **invoiced(customer.id), items=items)["id"]
    destroyed(world, catalog)
    assert [line for line in said if "deleted together with" in line] == [
        f"Customer 'c0' ({customer.id}): deleted together with {by_hand}, which was not cancelled"
    ]


def test_a_live_stack_asks_for_the_subscriptions_of_each_customer_it_deletes(world: World) -> None:
    """Between a list and a deletion, somebody could subscribe."""
    live = world.process(mode="live", apiKey=LIVE_KEY)
    made = [world.up(CustomerProvider, f"c{n}", {"on_delete": "delete"}, process=live) for n in range(5)]
    world.forget_calls()
    live = world.process(mode="live", apiKey=LIVE_KEY)
    for state in made:
        world.destroy(CustomerProvider, state, live)
    assert world.calls().count("GET /v1/subscriptions") == 5


def test_among_many_foreign_subscriptions_the_list_is_not_read_to_its_end(world: World) -> None:
    process = world.process()
    made = [(CustomerProvider, world.up(CustomerProvider, f"c{n}", {}, process=process)) for n in range(30)]
    foreign = world.customer("foreign").id
    items = [{"price": world.price(world.product().id).id}]
    one = world.stripe("post", "/v1/subscriptions", **invoiced(foreign), items=items)["id"]
    with world.sandbox.database.writing() as connection:
        (scope,) = connection.execute("SELECT scope FROM objects LIMIT 1").fetchone()
        store = Store(connection, scope)
        there = store.get("subscription", one)
        for n in range(2500):
            store.put({**(there or {}), "id": f"sub_foreign{n}"})
    world.forget_calls()
    calls = destroyed(world, [*made])
    assert len([call for call in calls if call == "GET /v1/subscriptions"]) <= 30 + MOST_PAGES


def test_a_customer_on_a_test_clock_is_asked_for_its_own_subscriptions(world: World, said: set[str]) -> None:
    """The list of all subscriptions has none of a test clock, and by then it is known to its end."""
    process = world.process()
    clock = world.stripe("post", "/v1/test_helpers/test_clocks", frozen_time=1_800_000_000)["id"]
    timed = (CustomerProvider, world.up(CustomerProvider, "timed", {"test_clock": clock}, process=process))
    made = [(CustomerProvider, world.up(CustomerProvider, f"c{n}", {}, process=process)) for n in range(3)]
    items = [{"price": world.price(world.product().id).id}]
    bought = world.stripe("post", "/v1/subscriptions", **invoiced(timed[1].id), items=items)["id"]
    destroyed(world, [timed, *made])
    assert any(line.endswith(f"deleted together with {bought}, which was not cancelled") for line in said)


def test_what_a_destroy_has_archived_is_not_looked_at_before_it_is_made_again(world: World, many: list[State]) -> None:
    """Stripe would answer the first key from its store; the list has said already that it is used up."""
    price = world.price(many[0].id, "only")
    process = world.process()
    world.destroy(PriceProvider, price, process)
    world.destroy(ProductProvider, many[0], process)
    world.forget_calls()
    again = world.up(ProductProvider, "p0", {"name": "P0"})
    assert again.id != many[0].id
    assert [call for call in world.calls() if call.startswith("GET /v1/products/")] == []
    assert world.calls().count("POST /v1/products") == 1
