"""What is prorated of a change that is applied now: the sandbox's invoices have the amounts that were said."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from components.providers.price import PriceProvider
from components.providers.subscription import SubscriptionProvider
from components.providers.values import Inputs, declared
from pricing.review import proration
from pricing.review import text as review_text
from pricing.review.change import Preview, Step
from pricing.review.proration import Proration
from tests.components.world import State, World, invoiced, metered

DAY = 86_400
LICENSE, MORE = "license", "more"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path / "stripe.db")
    yield made
    made.sandbox.close()


class Case:
    """A subscription of three seats and usage, ten days into its period, and what a preview shows of a change."""

    def __init__(self, world: World, **terms: Any) -> None:
        self.world = world
        product, meter = world.product().id, world.meter().id
        self.prices: dict[str, State] = {
            "fee": world.price(product),
            "dearer": world.price(product, "dearer", unit_amount_decimal="12345"),
            "yearly": world.price(product, "yearly", unit_amount_decimal="90000", recurring={"interval": "year"}),
            "usage": world.up(PriceProvider, "usage", metered(product, meter)),
        }
        usage = {"price": self.prices["usage"].id}
        self.items: Inputs = {LICENSE: {"price": self.prices["fee"].id, "quantity": 3}, "usage": usage}
        self.arguments = {**invoiced(world.customer().id), "items": self.items, **terms}
        self.state = world.up(SubscriptionProvider, "herd", self.arguments)
        world.control("clock", advance=10 * DAY)

    def change(self, price: str = "fee", quantity: int = 3, **more: Any) -> Inputs:
        license_ = {"price": self.prices[price].id, "quantity": quantity}
        return {**self.arguments, "items": {**self.items, LICENSE: license_, **more.pop("items", {})}, **more}

    def preview(self, new: Inputs) -> Preview:
        prices = [
            Step("same", "Price", name, f"urn:{name}", each.id, each.outs, declared(each.inputs), declared(each.inputs))
            for name, each in self.prices.items()
        ]
        state, old = self.state, declared(self.state.inputs)
        herd = Step("update", "Subscription", "herd", "urn:herd", state.id, state.outs, old, {**old, **new})
        return Preview("project", "dev", [*prices, herd])

    def said(self, new: Inputs) -> Proration | None:
        account = self.world.process().provider(SubscriptionProvider).account
        found = proration.read(self.preview(new), account, self.now())
        assert len(found) < 2
        return found[0] if found else None

    def now(self) -> int:
        return int(self.world.control("clock", advance=0)["now"])

    def billed(self, new: Inputs) -> int:
        """The sum of the proration lines that the change makes, on invoices and on the next one."""
        self.state = self.world.up(SubscriptionProvider, "herd", new, self.state)
        of = {"subscription": self.state.id}
        made = self.world.stripe("get", "/v1/invoices", **of)["data"]
        coming = self.world.stripe("post", "/v1/invoices/create_preview", **of)
        lines = [line for invoice in (*made, coming) for line in invoice["lines"]["data"]]
        return sum(line["amount"] for line in lines if _is_prorated(line))


def _is_prorated(line: dict[str, Any]) -> bool:
    parent = line["parent"]
    return bool(parent[parent["type"]].get("proration"))


@pytest.mark.parametrize("mode", ["flexible", "classic"])
@pytest.mark.parametrize("how", ["create_prorations", "always_invoice"])
@pytest.mark.parametrize(
    "change", [{"price": "dearer"}, {"quantity": 11}, {"quantity": 1}, {"price": "dearer", "quantity": 2}]
)
def test_what_is_said_to_be_prorated_is_billed(world: World, mode: str, how: str, change: dict[str, Any]) -> None:
    case = Case(world, billing_mode={"type": mode}, proration_behavior=how)
    new = case.change(**change)
    said = case.said(new)
    assert said is not None
    assert said.at_once == (how == "always_invoice")
    assert said.amount == case.billed(new) != 0


def test_items_that_come_and_go_are_prorated(world: World) -> None:
    case = Case(world)
    new = case.change(items={MORE: {"price": case.prices["dearer"].id, "quantity": 2}})
    said = case.said(new)
    assert said is not None
    assert said.amount == case.billed(new) > 0
    gone = case.said({**case.arguments, "items": {"usage": case.items["usage"]}})
    assert gone is not None
    assert gone.amount is not None
    assert said.amount is not None
    assert gone.amount < -said.amount


def test_nothing_is_said_of_what_stripe_does_not_prorate(world: World) -> None:
    case = Case(world)
    assert case.said(case.change(description="Herd")) is None
    assert case.said(case.change("dearer", proration_behavior="none")) is None
    assert case.said(case.change("dearer", price_changes="at_renewal")) is None
    world.stripe("post", f"/v1/subscriptions/{case.state.id}", trial_end=case.now() + 5 * DAY)
    assert case.said(case.change("dearer")) is None


def test_an_amount_that_is_not_known_is_said_to_be_unknown(world: World) -> None:
    case = Case(world)
    said = case.said(case.change("yearly"))
    assert said is not None
    assert said.amount is None
    comment = review_text.comment(case.preview(case.change("yearly")), prorations=[said])
    assert "What is prorated of `herd` is not known here: an item gets another interval" in comment


def test_the_comment_has_the_sum_and_the_largest(world: World) -> None:
    case = Case(world)
    many = [Proration(f"n{number}", "usd", Decimal(number * 100), 1_798_000_000, False) for number in range(1, 9)]
    comment = review_text.comment(case.preview(case.change("dearer")), prorations=many)
    [line] = [line for line in comment.splitlines() if "Prorated" in line]
    assert line == (
        "**Prorated if applied now: +36.00 USD** for 8 subscriptions, on their next invoices, for the rest of their "
        "periods, until 2026-12-23 (the largest: `n8` +8.00 USD, `n7` +7.00 USD, `n6` +6.00 USD, `n5` +5.00 USD, `n4` "
        "+4.00 USD)."
    )
