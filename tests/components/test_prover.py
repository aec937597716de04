"""Prices that Stripe allows but nobody wants: each check against brute force, and known incidents."""

from __future__ import annotations

from decimal import Decimal
from itertools import pairwise

from hypothesis import HealthCheck, given, settings

from components.pricing import Fee, Overage, Plan, Tier, Usage
from components.prover import cost, dominated, falls, prove
from tests.components.plans import AMOUNTS, plans, usages

searched = settings(deadline=None, database=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
BASIC = Plan("Basic", fees="100.00", usage=Usage("token", included=1_000, overage=Overage("0.04", per=100)))
#: Beyond every tier and many packages of the random plans.
FAR = 1_000


def sentences(plans: dict[str, Plan], before: dict[str, str] | None = None) -> list[str]:
    return [finding.sentence for finding in prove(plans, before=before)]


def test_twenty_units_dearer_than_twenty_one() -> None:
    tiers = [Tier("5.00", up_to=20), Tier("4.00")]
    plan = Plan("Pro", usage=Usage("seat", tiers=tiers, tiers_mode="volume"))
    assert sentences({"pro@1": plan}) == ["pro@1: 20 seats cost 100.00 USD, and one more costs 84.00 USD"]


def test_a_bigger_plan_cheaper_than_a_smaller_one() -> None:
    pro = Plan("Pro", fees="90.00", usage=Usage("token", included=2_000, overage=Overage("0.04", per=100)))
    assert sentences({"basic@1": BASIC, "pro@1": pro}) == [
        "basic@1 never costs less than pro@1, whatever is used; with 1 seat and 2,000 tokens it costs 10.40 USD more"
    ]


def test_a_slip_of_unit_between_versions() -> None:
    slipped = Plan("Basic", fees="100.00", usage=Usage("token", included=1_000, overage="0.04"))
    assert sentences({"basic@1": BASIC, "basic@2": slipped}, {"basic@2": "basic@1"}) == [
        "basic@2: 1 token is 100 times dearer than in basic@1: 0.0004 USD becomes 0.04 USD"
    ]
    back = sentences({"basic@1": slipped, "basic@2": BASIC}, {"basic@2": "basic@1"})
    assert back == ["basic@2: 1 token is 100 times cheaper than in basic@1: 0.04 USD becomes 0.0004 USD"]


def test_a_year_dearer_than_twelve_months() -> None:
    yearly = Plan("Basic", fees=Fee("1300.00", interval="year"))
    monthly = Plan("Basic", fees="100.00")
    found = sentences({"basic@1": monthly, "basic-yearly@1": yearly})
    assert "basic-yearly@1: a year of license costs 1,300.00 USD, and twelve months of basic@1 1,200.00 USD" in found


def test_currencies_far_apart() -> None:
    plan = Plan(
        "Pro",
        fees=Fee({"usd": "100.00", "eur": "90.00"}),
        usage=Usage("token", overage=Overage({"usd": "0.04", "eur": "4.00"}, per=100)),
    )
    assert sentences({"pro@1": plan}) == [
        "pro@1: license counts 1 USD as 0.9 EUR, and usage (tier 1) as 100",
    ]


def test_an_allowance_of_the_wrong_interval() -> None:
    yearly = Plan(
        "Y", fees=Fee("900.00", interval="year"), usage=Usage("token", included=1_000, overage="1", interval="year")
    )
    monthly = Plan("M", fees="100.00", usage=Usage("token", included=1_000, overage="1"))
    assert "m includes 1,000 tokens a month, and y as many a year" in sentences({"m": monthly, "y": yearly})


def test_nothing_is_found_in_plans_as_they_should_be() -> None:
    pro = Plan("Pro", fees="400.00", usage=Usage("token", included=10_000, overage=Overage("0.03", per=100)))
    assert sentences({"basic@1": BASIC, "pro@1": pro}) == []


def brute_cost(plan: Plan, usage: Usage, units: int) -> Decimal:
    return cost(plan.rate(usage, "usd"), Decimal(units))


@searched
@given(usages())
def test_a_falling_bill_is_found_wherever_brute_force_finds_one(usage: Usage) -> None:
    plan = Plan("Plan", usage=usage)
    bills = [brute_cost(plan, usage, units) for units in range(300)]
    assert bool(list(falls("p", plan))) == any(after < before for before, after in pairwise(bills))


@searched
@given(usages(), usages(), AMOUNTS, AMOUNTS)
def test_a_dominated_plan_is_found_wherever_brute_force_finds_one(a: Usage, b: Usage, x: Decimal, y: Decimal) -> None:
    one, other = Plan("One", fees=x, usage=a), Plan("Other", fees=y, usage=b)
    fees = (x - y) * 100
    differences = [fees + brute_cost(one, a, units) - brute_cost(other, b, units) for units in range(FAR)]
    # Beyond the last tier the difference repeats itself every 100 units, which all packages divide, a slope apart.
    falls_for_ever = differences[FAR - 1] < differences[FAR - 101]
    expected = x >= y and not falls_for_ever and min(differences) >= 0 and max(differences) > 0
    assert bool(list(dominated("one", one, "other", other))) == expected


@searched
@given(plans())
def test_a_plan_does_not_dominate_itself(plan: Plan) -> None:
    assert list(dominated("a", plan, "b", plan)) == []
