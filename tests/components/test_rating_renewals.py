"""Our rating compared with the sandbox's renewal invoices: random plans, random usage, to the cent."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import stripe

from components.pricing import Fee, Plan, Usage
from components.rating import bills
from components.terms import price_parameters
from sandbox import Sandbox
from sandbox.client import SandboxHTTPClient
from tests.components.random_plans import plan
from tests.sandbox.bills import World, at

#: `RENEWALS=10000` for the long form.
RENEWALS = int(os.environ.get("RENEWALS", "150"))
#: Customers whose time passes together.
BATCH = 50


def test_a_renewal_invoice_is_the_rated_bill(tmp_path: Path) -> None:
    chance = random.Random(20261128)
    for batch in range(0, RENEWALS, BATCH):
        opened = Sandbox(tmp_path / f"{batch}.db", clock=lambda: at("2026-01-01"))
        world = World(stripe.StripeClient("sk_test_sandbox", http_client=SandboxHTTPClient(opened)))
        cases = [
            subscribed(world, plan(chance), chance, f"{batch}-{each}") for each in range(min(BATCH, RENEWALS - batch))
        ]
        world.go("2026-02-02")
        for customer, declared, seats, used in cases:
            invoices = world.v1.invoices.list({"customer": customer, "limit": 100}).data
            renewal = max(invoices, key=lambda each: each.created)
            [bill] = bills(declared, seats=seats, usage=used)
            assert renewal.total == bill.total, (declared, seats, used)
        opened.close()


def subscribed(world: World, declared: Plan, chance: random.Random, name: str) -> tuple[str, Plan, int, dict[str, int]]:
    """A customer of its own on the plan, with a month's usage: (customer, plan, seats, usage by charge)."""
    customer, seats = world.new_customer().id, chance.randint(1, 40)
    product = world.product("Plan")
    items: list[Any] = []
    used: dict[str, int] = {}
    for charge in declared.charges:
        recurring: dict[str, Any] = {"interval": "month"}
        if isinstance(charge, Usage):
            recurring |= {"usage_type": "metered", "meter": world.meter(f"{name}-{charge.key}")}
            units = chance.choice([0, 1, chance.randint(0, 700)])
            used[charge.key] = units
            world.v1.billing.meter_events.create(
                {
                    "event_name": f"{name}-{charge.key}",
                    "payload": {"stripe_customer_id": customer, "value": str(units)},
                    "timestamp": at("2026-01-01"),
                }
            )
        price: Any = {"product": product, **price_parameters(declared, charge, None), "recurring": recurring}
        item: dict[str, Any] = {"price": world.v1.prices.create(price).id}
        if isinstance(charge, Fee):
            item["quantity"] = seats if charge.per == "seat" else 1
        items.append(item)
    world.v1.subscriptions.create({"customer": customer, "items": items})
    return customer, declared, seats, used
