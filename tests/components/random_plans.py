"""Random plans from a seed, for tests that bill for months; `plans.py` has those of the property tests."""

from __future__ import annotations

import random
from decimal import Decimal

from components.pricing import Fee, Overage, Plan, Tier, Usage


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
