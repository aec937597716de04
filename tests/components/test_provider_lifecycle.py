"""One resource of each kind through its life, as `pulumi up`, `refresh` and `destroy` take it."""

from __future__ import annotations

from typing import Any

import pytest

from components.providers.customer import CustomerProvider
from components.providers.default_price import DefaultPriceProvider
from components.providers.lifecycle import ProviderError, StripeProvider
from components.providers.meter import MeterProvider
from components.providers.price import PriceProvider
from components.providers.product import ProductProvider
from components.providers.subscription import SubscriptionProvider
from tests.components.world import PROVIDERS, State, World, licensed, metered


@pytest.fixture
def catalog(world: World) -> dict[type[StripeProvider], State]:
    """One of each kind, all linked."""
    meter, product = world.meter(), world.product()
    fee = world.price(product.id, lookup_key="pro:license")
    usage = world.price(
        product.id, "usage", **_without(metered(product.id, meter.id), "product"), unit_amount_decimal=None
    )
    link = world.up(DefaultPriceProvider, "pro", {"product": product.id, "price": fee.id})
    customer = world.customer()
    subscription = world.subscription(
        customer.id, {"license": {"price": fee.id, "quantity": 3}, "usage": {"price": usage.id}}
    )
    return {
        MeterProvider: meter,
        ProductProvider: product,
        PriceProvider: fee,
        DefaultPriceProvider: link,
        CustomerProvider: customer,
        SubscriptionProvider: subscription,
    }


def _without(arguments: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in arguments.items() if name not in names}


@pytest.mark.parametrize("provider", PROVIDERS)
def test_refresh_after_up_finds_what_was_declared(
    world: World, catalog: dict[type[StripeProvider], State], provider: type[StripeProvider]
) -> None:
    after = world.refresh(provider, catalog[provider])
    assert after is not None
    assert after.inputs == catalog[provider].inputs
    assert after.outs == catalog[provider].outs


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_second_up_makes_no_call(
    world: World, catalog: dict[type[StripeProvider], State], provider: type[StripeProvider]
) -> None:
    world.forget_calls()
    state = catalog[provider]
    run = world.process()
    name = str(state.inputs["owner"]).rpartition("/")[2]
    assert world.up(provider, name, state.inputs, state, run) is state
    unchanged = run.provider(provider).update(state.id, state.outs, {**state.outs, "__provider": "moved"})
    assert {**(unchanged.outs or {})} == {**state.outs, **(unchanged.outs or {})}
    assert world.calls() == []


@pytest.mark.parametrize(
    ("provider", "left"),
    [
        (MeterProvider, {"status": "inactive"}),
        (ProductProvider, {"active": False}),
        (PriceProvider, {"active": False, "lookup_key": None}),
        (CustomerProvider, {"deleted": True}),
        (SubscriptionProvider, {"status": "canceled"}),
    ],
)
def test_destroy_leaves_what_the_kind_says(
    world: World, catalog: dict[type[StripeProvider], State], provider: type[StripeProvider], left: dict[str, Any]
) -> None:
    state = catalog[provider]
    world.destroy(provider, state)
    path = f"{provider.kind.path}/{state.id}"
    found = world.stripe("get", path)
    assert {name: found.get(name) for name in left} == left
    # Nothing in Stripe is in the way of doing it again.
    world.destroy(provider, state)


def test_a_product_that_never_had_prices_is_deleted(world: World) -> None:
    product = world.product()
    world.destroy(ProductProvider, product)
    assert world.stripe("get", "/v1/products")["data"] == []
    assert world.refresh(ProductProvider, product) is None


def test_a_default_price_link_is_cleared_only_while_it_is_this_price(
    world: World, catalog: dict[type[StripeProvider], State]
) -> None:
    product, link = catalog[ProductProvider], catalog[DefaultPriceProvider]
    other = world.price(product.id, "other")
    world.stripe("post", f"/v1/products/{product.id}", default_price=other.id)
    world.destroy(DefaultPriceProvider, link)
    assert world.stripe("get", f"/v1/products/{product.id}")["default_price"] == other.id
    drifted = world.refresh(DefaultPriceProvider, link)
    assert drifted is not None
    assert drifted.inputs["price"] == other.id
    repaired = world.up(DefaultPriceProvider, "pro", {"product": product.id, "price": link.inputs["price"]}, drifted)
    world.destroy(DefaultPriceProvider, repaired)
    assert world.stripe("get", f"/v1/products/{product.id}")["default_price"] is None
    assert world.refresh(DefaultPriceProvider, repaired) is None


def test_retained_objects_are_named(world: World, catalog: dict[type[StripeProvider], State], said: set[str]) -> None:
    for provider in reversed(PROVIDERS):
        world.destroy(provider, catalog[provider])
    for provider in (MeterProvider, ProductProvider, PriceProvider):
        assert any(catalog[provider].id in line for line in said), provider


def test_a_live_customer_is_kept_unless_the_program_says_otherwise(world: World, said: set[str]) -> None:
    from tests.components.world import LIVE_KEY

    live = world.process(mode="live", apiKey=LIVE_KEY)
    world.mode = "live"
    kept = world.up(CustomerProvider, "kept", {"name": "Kept"}, process=live)
    gone = world.up(CustomerProvider, "gone", {"name": "Gone", "on_delete": "delete"}, process=live)
    assert kept.inputs["on_delete"] == "keep"
    for state in (kept, gone):
        world.destroy(CustomerProvider, state, world.process(mode="live", apiKey=LIVE_KEY))
    assert world.stripe("get", f"/v1/customers/{kept.id}").get("deleted") is None
    assert world.stripe("get", f"/v1/customers/{gone.id}")["deleted"] is True
    assert any(kept.id in line and "stays" in line for line in said)


def test_two_resources_of_one_name_are_refused(world: World) -> None:
    run = world.process()
    product = world.product()
    world.up(PriceProvider, "fee", licensed(product.id), process=run)
    with pytest.raises(ProviderError, match="two resources of this kind have this name"):
        world.up(PriceProvider, "fee", licensed(product.id), process=run)
