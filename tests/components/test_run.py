"""What the providers of one process know together: no answer depends on which resource was taken first."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import pytest

from components.providers.meter import METER
from components.providers.price import PRICE, PriceProvider
from components.providers.product import PRODUCT
from components.providers.run import run_of
from components.providers.subscription import SubscriptionProvider
from tests.components.world import World


@pytest.mark.parametrize("order", list(permutations(["subscription", "old price", "new price"])), ids=", ".join)
def test_a_warning_comes_whichever_resource_is_compared_first(
    world: World, said: set[str], order: tuple[str, ...]
) -> None:
    product = world.product().id
    old, new = world.price(product), world.price(product, "dearer", unit_amount_decimal="2")
    subscription = world.subscription(world.customer().id, {"license": {"price": old.id}})
    moved: dict[str, Any] = {**subscription.inputs, "items": {"license": {"price": new.id}}}
    said.clear()
    run = world.process()
    compared = {
        "subscription": (SubscriptionProvider, subscription, moved),
        "old price": (PriceProvider, old, old.inputs),
        "new price": (PriceProvider, new, new.inputs),
    }
    for name in order:
        provider, state, arguments = compared[name]
        run.provider(provider).diff(state.id, state.outs, arguments)
    moves = "item license moves from Price 'license' to Price 'dearer', 100.00 USD a month => 0.02 USD a month; "
    assert [line for line in said if moves in line]


def test_kinds_do_not_share_names_or_ids(world: World) -> None:
    run = run_of(world.process().account)
    run.compared(PRICE, "x", {}, {"owner": "project/dev/n"}, is_replaced=False, refreshing=False)
    assert run.begin(METER, "project/dev/n")
    assert not run.begin(METER, "project/dev/n")
    assert run.begin(PRODUCT, "project/dev/n")
    assert run.is_in_state(PRICE, "x")
    assert not run.is_in_state(PRODUCT, "x")
    assert not run.declares(METER, "project/dev/other")
