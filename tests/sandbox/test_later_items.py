"""What a subscription's items take from later versions than the description's."""

from __future__ import annotations

from typing import Any

import pytest
import stripe

from .bills import World
from .catalog import plain


@pytest.fixture
def world(client: stripe.StripeClient) -> World:
    return World(client)


def test_an_item_takes_a_plan_for_a_price(world: World) -> None:
    price, other = world.price("License", "10000"), world.price("Other", "20000")
    items: Any = [{"plan": price}]
    subscription = world.subscribe(*items)
    [item] = plain(subscription)["items"]["data"]
    assert item["price"]["id"] == price
    changed = world.change(subscription.id, {"id": item["id"], "plan": other})
    assert plain(changed)["items"]["data"][0]["price"]["id"] == other


def test_an_items_own_endpoints_and_previews_take_a_plan_too(world: World) -> None:
    price, other = world.price("License", "10000"), world.price("Other", "20000")
    subscription = world.subscribe(price)
    given: Any = {"subscription": subscription.id, "plan": other}
    item = world.v1.subscription_items.create(given)
    assert item.price.id == other
    third = world.price("Third", "30000")
    assert world.v1.subscription_items.update(item.id, {"plan": third}).price.id == third
    shown: Any = {"customer": world.customer.id, "subscription_details": {"items": [{"plan": price}]}}
    assert world.v1.invoices.create_preview(shown).subtotal == 10_000
