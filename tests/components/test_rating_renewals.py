"""Our rating compared with the sandbox's renewal invoices: random plans, random usage, to the cent."""

from __future__ import annotations

import os
import random
from decimal import Decimal
from pathlib import Path
from typing import Any

import stripe

from components.pricing import Fee, Overage, Plan, Tier, Usage
from components.rating import bills
from components.terms import price_parameters
from sandbox import Sandbox
from sandbox.client import SandboxHTTPClient
from tests.sandbox.bills import World, at

#: `RENEWALS=10000` for the long form.
RENEWALS = int(os.environ.get("RENEWALS", "150"))
#: Customers whose time passes together.
BATCH = 50


def amount(chance: random.Random) -> Decimal:
    return Decimal(chance.randrange(100_000)).scaleb(-chance.choice([2, 4]))


def usage(chance: random.Random, key: str) -> Usage:
    per = chance.choice([1, 2, 5, 10, 100])
    match chance.randrange(5):
        case 0:
            return Usage("unit", key=key, overage=Overage(amount(chance), per=per))
        case 1:
            return Usage("unit", key=key, included=chance.randint(1, 500), overage=Overage(amount(chance), per=per))
        case 2:
            up = chance.random() < 0.5
            return Usage("unit", key=key, overage=Overage(amount(chance), per=per, round="up" if up else "down"))
    ends = sorted(chance.sample(range(1, 500), chance.randint(0, 3)))
    flat = [chance.choice([None, 0, chance.randint(0, 9)]) for _ in range(4)]
    tiers = [Tier(amount(chance), per=per, up_to=end, flat=flat.pop()) for end in (*ends, None)]
    return Usage("unit", key=key, tiers=tiers, tiers_mode=chance.choice(["graduated", "volume"]))


def plan(chance: random.Random) -> Plan:
    fees = [Fee(amount(chance), per=chance.choice(["seat", "subscription"]))] if chance.random() < 0.7 else []
    return Plan("Plan", fees=fees, usage=[usage(chance, f"u{n}") for n in range(chance.randint(0 if fees else 1, 3))])


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
