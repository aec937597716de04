"""Trial offers on a subscription's items: begun once, announced, and never sent again after they ended."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

import pytest
from pulumi.output import Unknown

from components.account import StripeRefusal
from components.providers.lifecycle import ProviderError
from components.providers.shapes import at
from components.providers.subscription import SUBSCRIPTION, SubscriptionProvider
from tests.components.world import PULUMI, State, World, as_pulumi_sends, invoiced

WEEK = 7 * 86_400

pytestmark = pytest.mark.skipif(
    at(SUBSCRIPTION.struct, ("items", "license", "current_trial")) is None,
    reason="trial offers came with API version 2026-10-28.endive",
)


class Trial:
    """A customer, a price, a more expensive one, and an offer of a cheap week that ends in the first."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.product = world.product().id
        self.fee, self.dearer = (world.price(self.product, name).id for name in ("fee", "dearer"))
        self.week = world.price(self.product, "week", unit_amount_decimal="400", recurring={"interval": "week"}).id
        self.customer = world.customer().id
        self.offer = self.offer_into(self.fee)
        self.state: State | None = None

    def offer_into(self, price: str) -> str:
        """A trial offer that ends in a price."""
        made = self.world.stripe(
            "post",
            "/v1/product_catalog/trial_offers",
            price=self.week,
            duration={"type": "relative", "relative": {"iterations": 1}},
            end_behavior={"transition": {"price": price}},
        )
        return str(made["id"])

    def up(self, item: dict[str, Any], **more: Any) -> State:
        arguments = {**invoiced(self.customer), "items": {"license": item}, **more}
        self.world.forget_calls()
        self.state = self.world.up(SubscriptionProvider, "acme", arguments, self.state)
        return self.state

    def sent(self) -> list[str]:
        """The bodies of what was changed."""
        return [unquote(each.body) for each in self.world.sent if each.method == "POST"]

    def remote(self) -> dict[str, Any]:
        """The item as Stripe has it."""
        assert self.state is not None
        found: dict[str, Any] = self.world.stripe("get", f"/v1/subscriptions/{self.state.id}")["items"]["data"][0]
        return found

    def refreshed(self) -> dict[str, Any]:
        """The item as a refresh finds it."""
        assert self.state is not None
        after = self.world.refresh(SubscriptionProvider, self.state)
        assert after is not None
        found: dict[str, Any] = after.inputs["items"]["license"]
        return found

    def totals(self) -> list[int]:
        """The totals of the customer's invoices, oldest first."""
        listed = self.world.stripe("get", "/v1/invoices", customer=self.customer)["data"]
        return [invoice["total"] for invoice in reversed(listed)]

    def over(self) -> None:
        """The trial ends."""
        self.world.control("clock", advance=WEEK + 3_700)


@pytest.fixture
def trial(world: World) -> Trial:
    return Trial(world)


def under(offer: str, **more: Any) -> dict[str, Any]:
    return {"current_trial": {"trial_offer": offer}, **more}


@pytest.mark.parametrize("with_price", [True, False])
def test_a_trial_is_no_drift_while_it_runs_nor_when_it_is_over(trial: Trial, with_price: bool) -> None:
    item = under(trial.offer, **({"price": trial.fee} if with_price else {}))
    trial.up(item)
    # The offer says the prices.
    assert "[price]" not in trial.sent()[0]
    assert trial.refreshed() == item
    trial.over()
    assert (trial.remote()["price"]["id"], trial.remote()["current_trial"]) == (trial.fee, None)
    assert trial.refreshed() == item


def test_a_later_change_neither_begins_the_trial_again_nor_moves_the_price_back(trial: Trial) -> None:
    trial.up(under(trial.offer, price=trial.fee))
    trial.over()
    assert trial.totals() == [400, 10_000]
    trial.up(under(trial.offer, price=trial.fee, quantity=2))
    [body] = trial.sent()
    assert "current_trial" not in body
    assert "[price]" not in body
    assert (trial.remote()["price"]["id"], trial.remote()["current_trial"]) == (trial.fee, None)


@pytest.mark.parametrize("name", ["price", "plan"])
def test_a_price_that_the_trial_does_not_end_in_is_refused_before_anything_is_sent(trial: Trial, name: str) -> None:
    """With the trial's own price in the program, a later run would move paying customers back to it."""
    with pytest.raises(ProviderError, match=f"items.license.{name} is {trial.week}, but .* ends in {trial.fee}"):
        trial.up(under(trial.offer, **{name: trial.week}))
    assert trial.sent() == []
    trial.up({name: trial.dearer})
    with pytest.raises(ProviderError, match=f"ends in {trial.fee}"):
        trial.up(under(trial.offer, **{name: trial.dearer}))
    assert trial.sent() == []


def test_an_item_that_is_there_begins_a_trial_and_the_preview_says_so(trial: Trial, said: set[str]) -> None:
    before = trial.up({"price": trial.dearer, "quantity": 2})
    trial.up(under(trial.offer, price=trial.fee, quantity=2))
    [body] = trial.sent()
    assert f"items[0][current_trial][trial_offer]={trial.offer}" in body
    assert "[price]" not in body
    assert any(f"item license begins a trial: it bills the price of {trial.offer}" in text for text in said), said
    assert not any("moves from" in text for text in said)
    assert trial.state is not None
    assert trial.state.outs["item_ids"] == before.outs["item_ids"]
    assert trial.refreshed() == as_pulumi_sends(under(trial.offer, price=trial.fee, quantity=2))


def test_an_offer_that_is_not_known_yet_is_told_too(trial: Trial, said: set[str]) -> None:
    state = trial.up({"price": trial.fee})
    provider = trial.world.process().provider(SubscriptionProvider)
    item = {"price": trial.fee, "current_trial": {"trial_offer": Unknown()}}  # type: ignore[no-untyped-call]
    provider.diff(state.id, {**state.outs, **PULUMI}, {**state.inputs, "items": {"license": item}, **PULUMI})
    assert any("item license begins a trial: it bills the price of its trial offer" in text for text in said), said


def test_removed_the_trial_runs_on(trial: Trial, said: set[str]) -> None:
    trial.up(under(trial.offer))
    trial.up({"price": trial.fee})
    assert trial.sent() == []
    assert any("item license: its trial stays in Stripe" in text for text in said), said
    assert trial.remote()["current_trial"]["trial_offer"] == trial.offer
    assert trial.refreshed() == {"price": trial.fee}
    trial.over()
    assert trial.refreshed() == {"price": trial.fee}
    trial.up({"price": trial.dearer})
    assert trial.remote()["price"]["id"] == trial.dearer


def test_another_trial_after_the_first_is_told_and_begun(trial: Trial, said: set[str]) -> None:
    trial.up(under(trial.offer))
    trial.over()
    second = trial.offer_into(trial.dearer)
    trial.up(under(second, price=trial.dearer))
    assert any(f"begins a trial: it bills the price of {second}" in text for text in said), said
    assert trial.remote()["current_trial"]["trial_offer"] == second
    assert trial.refreshed() == under(second, price=trial.dearer)


def test_a_trial_that_somebody_else_began_shows(trial: Trial) -> None:
    trial.up(under(trial.offer))
    trial.over()
    other = trial.offer_into(trial.dearer)
    assert trial.state is not None
    item = {"id": trial.remote()["id"], **under(other)}
    trial.world.stripe("post", f"/v1/subscriptions/{trial.state.id}", items=[item])
    assert trial.refreshed() == under(other)


def test_a_trial_is_begun_once_though_the_answer_was_lost(trial: Trial) -> None:
    trial.up({"price": trial.dearer})
    trial.world.control("faults", method="POST", path="/v1/subscriptions/*", when="after", drop=True, count=None)
    with pytest.raises(StripeRefusal):
        trial.up(under(trial.offer, price=trial.fee))
    trial.world.heal()
    began = trial.remote()["current_trial"]["start_date"]
    # A day later no idempotency key remembers it.
    trial.world.control("clock", advance=86_400 + 60)
    trial.up(under(trial.offer, price=trial.fee))
    assert trial.remote()["current_trial"]["start_date"] == began
    assert trial.refreshed() == under(trial.offer, price=trial.fee)


def test_a_replacement_says_that_the_trial_starts_over(trial: Trial, said: set[str]) -> None:
    trial.up(under(trial.offer))
    trial.customer = trial.world.customer("other").id
    trial.up(under(trial.offer))
    assert any(
        "a new subscription is created" in text and "the trial of license from the beginning" in text for text in said
    )


@pytest.mark.parametrize("shown", ["the trial's price", "the item's own price"])
def test_whichever_price_stripe_shows_in_a_trial_there_is_no_drift(trial: Trial, shown: str) -> None:
    """Stripe has not published which of the two it is."""
    trial.up(under(trial.offer, price=trial.fee))
    assert trial.state is not None
    remote = trial.world.stripe("get", f"/v1/subscriptions/{trial.state.id}")
    [item] = remote["items"]["data"]
    item["price"] = {**item["price"], "id": trial.week if shown == "the trial's price" else trial.dearer}
    provider = trial.world.process().provider(SubscriptionProvider)
    declared = trial.state.inputs["items"]
    assert provider.reconciler.returned("items", declared, remote) == declared


@pytest.mark.parametrize(
    ("item", "more", "problem"),
    [
        ({}, {"trial_end": 4_000_000_000}, "items.license.current_trial: cannot be combined with trial_end"),
        ({}, {"trial_period_days": 3}, "items.license.current_trial: cannot be combined with trial_period_days"),
        ({}, {"billing_mode": {"type": "classic"}}, "items.license.current_trial: needs billing_mode type flexible"),
        (
            {"price_data": {"currency": "usd", "product": "prod_1", "recurring": {"interval": "month"}}},
            {},
            "items.license.current_trial: cannot be combined with price_data",
        ),
    ],
)
def test_what_does_not_go_with_a_trial_offer_fails_in_check(
    trial: Trial, item: dict[str, Any], more: dict[str, Any], problem: str
) -> None:
    provider = trial.world.process().provider(SubscriptionProvider)
    arguments = {**invoiced("cus_1"), "items": {"license": under("to_1", **item)}, **more, "owner": "project/dev/acme"}
    props = {**as_pulumi_sends(arguments), **PULUMI}
    assert any(problem in str(failure.reason) for failure in provider.check(props, props).failures)
