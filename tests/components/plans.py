"""Random valid plans, for property tests."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

from hypothesis import strategies as st

from components.pricing import Fee, Overage, Plan, Tier, Usage

Draw = Callable[[st.SearchStrategy[Any]], Any]
AMOUNTS = st.decimals(min_value=0, max_value=10, places=4)


@st.composite
def usages(draw: Draw, *, key: str = "usage") -> Usage:
    kind = draw(st.sampled_from(["plain", "included", "package", "graduated", "volume"]))
    per = draw(st.sampled_from([1, 2, 5, 10, 100]))
    if kind in ("plain", "included"):
        included = draw(st.integers(1, 500)) if kind == "included" else 0
        return Usage("unit", key=key, included=included, overage=Overage(draw(AMOUNTS), per=per))
    if kind == "package":
        rounding = draw(st.sampled_from(["up", "down"]))
        return Usage("unit", key=key, overage=Overage(draw(AMOUNTS), per=per, round=rounding))
    included = draw(st.integers(0, 20)) if kind == "graduated" else 0
    ends = sorted(draw(st.sets(st.integers(included + 1, 200), max_size=3)))
    flats = st.one_of(st.none(), st.integers(0, 5))
    tiers = [Tier(draw(AMOUNTS), per=per, up_to=end, flat=draw(flats)) for end in (*ends, None)]
    return Usage("unit", key=key, included=included, tiers=tiers, tiers_mode=kind)


@st.composite
def plans(draw: Draw, *, charges: int = 2) -> Plan:
    fees = [Fee(draw(AMOUNTS), per=draw(st.sampled_from(["seat", "subscription"])))] if draw(st.booleans()) else []
    keys = [f"u{number}" for number in range(draw(st.integers(0 if fees else 1, charges)))]
    return Plan("Plan", fees=fees, usage=[draw(usages(key=key)) for key in keys])


QUANTITIES = st.one_of(st.integers(0, 600), st.decimals(min_value=Decimal(0), max_value=Decimal(300), places=3))
