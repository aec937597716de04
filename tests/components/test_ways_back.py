"""Ways back: a run without a preview is refused in the middle, the program is taken back, and the next preview passes.

The engine's part is played by `Stack`; tests/engine/test_ways_back.py takes the real one through the first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from pulumi.output import UNKNOWN

from components.account import AccountError
from tests.components.stack import Failed, Resource, Stack, program
from tests.components.world import World, licensed, metered

DEARER = {"tiers": [{"up_to": 1000, "unit_amount_decimal": "0"}, {"up_to": "inf", "unit_amount_decimal": "0.05"}]}
DEAREST = {"tiers": [{"up_to": 1000, "unit_amount_decimal": "0"}, {"up_to": "inf", "unit_amount_decimal": "0.06"}]}
CLASSIC = {"subscription": {"billing_mode": {"type": "classic"}}}
NO_PRORATION = {"subscription": {"proration_behavior": "none"}}
COUNT = {"default_aggregation": {"formula": "count"}}
DROPPED = r"items\.usage is metered and .* once the item is moved to another price"

Different = Mapping[str, Mapping[str, Any]]


def with_items(items: Mapping[str, Mapping[str, Any]], **more: Mapping[str, Any]) -> list[Resource]:
    """The program with something more in some of the subscription's items."""
    declared = program(**more)
    bill = declared[-1]

    def arguments(ids: Any) -> dict[str, Any]:
        found = bill.arguments(ids)
        return {**found, "items": {key: {**item, **items.get(key, {})} for key, item in found["items"].items()}}

    return [*declared[:-1], replace(bill, arguments=arguments)]


def metered_fee() -> list[Resource]:
    """The program with a fee that is billed by usage, and seats of it."""

    def by_usage(ids: Any) -> dict[str, Any]:
        return {**licensed(ids["product"]), "recurring": metered(ids["product"], ids["meter"])["recurring"]}

    return [replace(each, arguments=by_usage) if each.name == "license" else each for each in program()]


def bills(world: World) -> list[tuple[str, str, list[tuple[str, str, Any]]]]:
    """The subscriptions in Stripe, each with its items: id, price and quantity."""
    return [
        (
            each["id"],
            each["status"],
            [(item["id"], item["price"]["id"], item.get("quantity")) for item in each["items"]["data"]],
        )
        for each in world.stripe("get", "/v1/subscriptions")["data"]
    ]


def picture(stack: Stack) -> tuple[Any, ...]:
    """The subscriptions and active prices in Stripe, and which objects the state has."""
    active = stack.world.stripe("get", "/v1/prices", active=True, limit=100)["data"]
    prices = {each["lookup_key"]: each["id"] for each in active}
    return bills(stack.world), prices, {name: state.id for name, (_, state) in stack.state.items()}


#: What the stack was, what the refused run made of it, and why it was refused.
REFUSED: dict[str, tuple[Different, list[Resource], str]] = {
    "another rate in classic mode": (CLASSIC, program(**CLASSIC, usage=DEARER), DROPPED),
    "another rate where nothing is prorated": (NO_PRORATION, program(**NO_PRORATION, usage=DEARER), DROPPED),
    "another rate and another fee": (
        CLASSIC,
        program(**CLASSIC, usage=DEARER, license={"unit_amount_decimal": "1"}),
        DROPPED,
    ),
    "another meter": (CLASSIC, program(**CLASSIC, meter=COUNT), DROPPED),
    "another product": (
        {**CLASSIC, "product": {"id": "alpaca"}},
        program(**CLASSIC, product={"id": "llama"}),
        DROPPED,
    ),
    "a quantity of a metered item": ({}, with_items({"usage": {"quantity": 2}}), "has no meaning for a metered price"),
    "seats of a fee that becomes metered": ({}, metered_fee(), "Quantity should not be specified"),
    "another currency": ({}, program(license={"currency": "eur"}), "expected currency"),
    "a currency that the subscription cannot have": ({}, program(subscription={"currency": "eur"}), "currency"),
    "a lookup key of somebody else's": (
        {},
        program(license={"lookup_key": "theirs", "unit_amount_decimal": "1"}),
        "'theirs' belongs to",
    ),
    "an event name of somebody else's": ({}, program(meter={"event_name": "theirs"}), "'theirs' belongs to"),
    "a customer that keeps its prefix": (
        {"customer": {"invoice_prefix": "ACME"}},
        program(customer={"invoice_prefix": "ACME", "tax_id_data": [{"type": "eu_vat", "value": "DE123456789"}]}),
        "the invoice_prefix stays with the old one",
    ),
    "a product that keeps its id": (
        {"product": {"id": "alpaca"}},
        program(product={"id": "alpaca", "type": "good"}),
        "cannot be changed under the same id",
    ),
    "something to take over": ({}, program(license={"adopt": "price_1"}), "this resource already is price_"),
}


@pytest.mark.parametrize("why", REFUSED)
def test_what_was_refused_is_taken_back_and_the_preview_passes(world: World, said: set[str], why: str) -> None:
    different, refused, sentence = REFUSED[why]
    stack, before = Stack(world), program(**different)
    theirs = {"product": world.product("other").id, "currency": "usd", "unit_amount": 1, "lookup_key": "theirs"}
    world.stripe("post", "/v1/prices", **theirs)
    world.meter("theirs")
    stack.up(before)
    there = picture(stack)
    with pytest.raises((AccountError, Failed), match=sentence):
        stack.up(refused)
    said.clear()
    stack.preview(before)
    assert [line for line in said if "item " in line] == []
    stack.up(before)
    assert picture(stack) == there
    assert stack.preview(before) == {}


@pytest.fixture
def refused(world: World) -> Stack:
    """A run that changed the rate was refused: the state has the new price, and the old one is yet to be deleted."""
    stack = Stack(world)
    stack.up(program(**CLASSIC))
    with pytest.raises(AccountError, match=DROPPED):
        stack.up(program(**CLASSIC, usage=DEARER))
    return stack


def extra_item() -> list[Resource]:
    """The rate taken back, and the metered item moved to a price that is new."""
    *rest, bill = program(**CLASSIC)
    usage = next(each for each in rest if each.name == "usage")
    extra = Resource(usage.provider, "extra", lambda ids: {**usage.arguments(ids), **DEARER, "lookup_key": "extra"})
    return [
        *rest,
        extra,
        Resource(bill.provider, bill.name, lambda ids: bill.arguments({**ids, "usage": ids["extra"]})),
    ]


@pytest.mark.parametrize(
    "declared",
    [
        program(**CLASSIC, usage=DEAREST),
        program(**CLASSIC, usage={"tax_behavior": "inclusive"}),
        program(**CLASSIC, license={"unit_amount_decimal": "1"}),
        extra_item(),
    ],
    ids=["a third rate", "other terms", "another price changes too", "a move to a new price"],
)
def test_what_is_no_way_back_for_certain_is_refused(refused: Stack, declared: list[Resource]) -> None:
    with pytest.raises(AccountError, match=DROPPED):
        refused.preview(declared)


def test_a_price_that_somebody_archived_in_between_is_not_left(refused: Stack) -> None:
    """The preview asks nobody and passes; the run itself sees that the item would move."""
    old = next(state.id for _, state in refused.condemned)
    there = bills(refused.world)
    refused.world.stripe("post", f"/v1/prices/{old}", active=False)
    assert refused.preview(program(**CLASSIC))["usage"] == "replace"
    with pytest.raises(AccountError, match=DROPPED):
        refused.up(program(**CLASSIC))
    assert bills(refused.world) == there


def test_seats_of_a_fee_that_becomes_metered_are_refused_in_the_preview(world: World) -> None:
    stack = Stack(world)
    stack.up(program())
    with pytest.raises(AccountError, match=r"items\.license\.quantity: has no meaning for a metered price"):
        stack.preview(metered_fee())
    *rest, bill = metered_fee()

    def without_seats(ids: Any) -> dict[str, Any]:
        found = bill.arguments(ids)
        return {**found, "items": {**found["items"], "license": {"price": ids["license"]}}}

    assert stack.preview([*rest, replace(bill, arguments=without_seats)])["subscription"] == "update"


def test_items_that_are_not_known_yet_are_neither_refused_nor_a_way_back(refused: Stack) -> None:
    *rest, bill = program(**CLASSIC)
    unknown = replace(bill, arguments=lambda ids: {**bill.arguments(ids), "items": UNKNOWN})
    assert refused.preview([*rest, unknown])["subscription"] == "update"
