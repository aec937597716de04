"""The bill of a plan, worked out by hand and compared with the sandbox, which rates on its own."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from components.pricing import Fee, Overage, Plan, Tier, Usage
from components.rating import bills, text
from components.terms import price_parameters
from sandbox.billing.rating import rate
from tests.components.plans import QUANTITIES, plans, usages

searched = settings(deadline=None, database=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
OVERAGE = Overage("0.04", per=100)
ALPACA = Plan("Alpaca.ai", fees="100.00", usage=Usage("token", included=1_000, overage=OVERAGE))


@pytest.mark.parametrize(
    ("plan", "used", "amounts"),
    [
        # 3 seats would be 300.00; one is 100.00, and 25,000 tokens at 0.04/100 are 10.00.
        (ALPACA, {"usage": 26_000}, [[10_000, 0, 1_000]]),
        # Graduated: 9,000 at 0.04/100 and 15,000 at 0.03/100.
        (
            Plan(
                "b",
                fees="100.00",
                usage=Usage(
                    "token", included=1_000, tiers=[Tier("0.04", per=100, up_to=10_000), Tier("0.03", per=100)]
                ),
            ),
            {"usage": 25_000},
            [[10_000, 0, 360, 450]],
        ),
        # Volume: all 25,000 at 0.03/100.
        (
            Plan(
                "c",
                usage=Usage(
                    "token", tiers=[Tier("0.05", per=100, up_to=10_000), Tier("0.03", per=100)], tiers_mode="volume"
                ),
            ),
            {"usage": 25_000},
            [[750]],
        ),
        # A yearly fee and a monthly overage are two bills, the monthly one first.
        (
            Plan("d", fees=Fee("1000.00", interval="year"), usage=Usage("token", included=1_000, overage=OVERAGE)),
            {"usage": 3_500},
            [[0, 100], [100_000]],
        ),
        (Plan("e", usage=Usage("token", overage=OVERAGE)), {"usage": 25_000}, [[1_000]]),
        # Packages: 101 tokens are two started hundreds, or one whole hundred.
        (Plan("up", usage=Usage("token", overage=Overage("0.04", per=100, round="up"))), {"usage": 101}, [[8]]),
        (Plan("down", usage=Usage("token", overage=Overage("0.04", per=100, round="down"))), {"usage": 199}, [[4]]),
        # Each line is rounded, a half away from zero.
        (Plan("half", usage=Usage("token", overage="0.0005")), {"usage": 1}, [[0]]),
        (Plan("half", usage=Usage("token", overage="0.005")), {"usage": 1}, [[1]]),
        (ALPACA, {}, [[10_000, 0]]),
    ],
)
def test_bills_worked_by_hand(plan: Plan, used: dict[str, int], amounts: list[list[int]]) -> None:
    assert [[line.amount for line in bill.lines] for bill in bills(plan, usage=used)] == amounts


def test_a_bill_reads_like_an_invoice() -> None:
    [bill] = bills(ALPACA, seats=3, usage={"usage": 26_000})
    assert text(bill, ALPACA) == [
        ("license at 100.00 USD", "3", "300.00 USD"),
        ("usage, tier 1 at 0.00 USD", "1,000 tokens", "0.00 USD"),
        ("usage, tier 2 at 0.0004 USD", "25,000 tokens", "10.00 USD"),
    ]


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"currency": "eur"}, "Alpaca.ai is not sold in eur; it is in usd"),
        ({"usage": {"calls": 1}}, "Alpaca.ai has no usage calls; it has usage"),
    ],
)
def test_what_a_plan_does_not_have_cannot_be_rated(asked: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        bills(ALPACA, **asked)


def stored(plan: Plan, key: str) -> dict[str, Any]:
    """A price as Stripe stores it from our parameters."""
    parameters = price_parameters(plan, plan.charge(key), None)
    tiers = [
        {**tier, "up_to": None if tier["up_to"] == "inf" else tier["up_to"]} for tier in parameters.get("tiers", ())
    ]
    return {"billing_scheme": "per_unit", **parameters, "tiers": tiers}


@searched
@given(usages(), QUANTITIES)
def test_every_line_is_as_the_sandbox_bills_it(usage: Usage, units: int | Decimal) -> None:
    plan = Plan("Plan", usage=usage)
    [bill] = bills(plan, usage={usage.key: units})
    assert [(line.quantity, line.unit_amount, line.amount, line.tier, line.flat) for line in bill.lines] == [
        (each.quantity, each.unit_amount, each.amount, each.tier, each.flat)
        for each in rate(stored(plan, usage.key), units)
    ]


@searched
@given(plans(), st.integers(1, 50), st.lists(QUANTITIES, min_size=2, max_size=2))
def test_a_bill_is_the_sum_of_its_charges(plan: Plan, seats: int, used: list[int]) -> None:
    usage = {charge.key: units for charge, units in zip(plan.usage, used, strict=False)}
    fees = [(fee.key, seats if fee.per == "seat" else 1) for fee in plan.fees]
    expected = sum(
        each.amount for key, quantity in (*fees, *usage.items()) for each in rate(stored(plan, key), quantity)
    )
    assert sum(bill.total for bill in bills(plan, seats=seats, usage=usage)) == expected
