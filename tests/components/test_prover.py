"""Prices that Stripe allows but nobody wants: each check against brute force, and known incidents."""

from __future__ import annotations

import os
import random
from collections import Counter
from decimal import Decimal
from itertools import pairwise
from typing import Any

from hypothesis import HealthCheck, given, settings

from components.pricing import Fee, Overage, Plan, Tier, Usage
from components.prover import cost, dominated, falls, prove
from tests.components.plans import AMOUNTS, plans, usages
from tests.components.random_plans import amount
from tests.components.random_plans import usage as random_usage

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


def test_a_second_billed_as_if_it_were_a_minute() -> None:
    a_second = Plan("Pro", usage=Usage("second", overage="0.0006"))
    a_minute = Plan("Pro", usage=Usage("second", overage="0.00001"))
    assert sentences({"pro@1": a_second, "pro@2": a_minute}, {"pro@2": "pro@1"}) == [
        "pro@2: 1 second is 60 times cheaper than in pro@1: 0.0006 USD becomes 0.00001 USD"
    ]


def test_a_fee_ten_times_what_it_was() -> None:
    assert sentences({"pro@1": Plan("Pro", fees="12.00"), "pro@2": Plan("Pro", fees="120.00")}, {"pro@2": "pro@1"}) == [
        "pro@2: license is 10 times dearer than in pro@1: 12.00 USD becomes 120.00 USD"
    ]


def test_a_slip_in_a_tier_that_is_not_the_last() -> None:
    tiers = [[Tier(first, per=100, up_to=10_000), Tier("0.03", per=100)] for first in ("0.04", "4.00")]
    one, other = (Plan("Pro", usage=Usage("token", tiers=each)) for each in tiers)
    assert sentences({"pro@1": one, "pro@2": other}, {"pro@2": "pro@1"}) == [
        "pro@2: 1 token (tier 1) is 100 times dearer than in pro@1: 0.0004 USD becomes 0.04 USD"
    ]


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


# -- many random pairs, beside brute force ----------------------------------------------------------------------------

#: `PAIRS=10000` for the long form.
PAIRS = int(os.environ.get("PAIRS", "50"))
#: Beyond every tier of the random plans, and twice as far as all their packages meet.
END = 701


def a_pair(chance: random.Random) -> tuple[Plan, Plan]:
    """Two versions of a plan: half of them alike but for one amount, as after a slip."""
    first = Plan("Plan", fees=amount(chance), usage=random_usage(chance, "usage"))
    if chance.random() < 0.5:
        return first, Plan("Plan", fees=amount(chance), usage=random_usage(chance, "usage"))
    times = chance.choice([Decimal("0.01"), Decimal("0.1"), Decimal("0.5"), Decimal(2), Decimal(10), Decimal(100)])
    charge = first.usage[0]
    scaled: dict[str, Any] = {}
    if charge.overage:
        scaled["overage"] = charge.overage.model_copy(update={"amount": exact(charge.overage.amount) * times})
    else:
        scaled["tiers"] = tuple(t.model_copy(update={"amount": exact(t.amount) * times}) for t in charge.tiers)
    fee = first.fees[0]
    fees = (fee.model_copy(update={"amount": exact(fee.amount) * chance.choice([Decimal(1), times])}),)
    return first, first.model_copy(update={"fees": fees, "usage": (charge.model_copy(update=scaled),)})


def exact(amount: Any) -> Decimal:
    assert isinstance(amount, Decimal)
    return amount


def test_the_prover_agrees_with_brute_force_on_random_pairs() -> None:
    chance = random.Random(20261128)
    found = Counter[str]()
    for _ in range(PAIRS):
        old, new = a_pair(chance)
        bills = [[fee_of(each) + brute_cost(each, each.usage[0], units) for units in range(END)] for each in (old, new)]
        expected = {
            *(f"falls:{name}:usage" for name, bill in zip("ab", bills, strict=True) if fall(bill)),
            *(["dominated:a:b"] if dominates(*bills) and fee_of(old) >= fee_of(new) else []),
            *(["dominated:b:a"] if dominates(*reversed(bills)) and fee_of(new) >= fee_of(old) else []),
        }
        told = {finding.name for finding in prove({"a": old, "b": new})}
        assert told == expected, (old, new)
        slipped = {finding.name for finding in prove({"a": old, "b": new}, before={"b": "a"}) if "slip" in finding.name}
        a, b = ((bill[-1] - bill[-101]) for bill in bills)
        if a and b and max(a, b) >= 10 * min(a, b):
            assert "slip:b:usage" in slipped, (old, new)
        assert ("slip:b:license" in slipped) == ten_times(fee_of(old), fee_of(new)), (old, new)
        found.update(name.partition(":")[0] for name in (*told, *slipped))
    # A prover that finds nothing would agree with a search that finds nothing.
    assert found.keys() == {"falls", "dominated", "slip"}


def fee_of(plan: Plan) -> Decimal:
    return plan.rate(plan.fees[0], "usd").bands[0].unit_amount


def ten_times(one: Decimal, other: Decimal) -> bool:
    return bool(one and other) and max(one, other) >= 10 * min(one, other)


def fall(bill: list[Decimal]) -> bool:
    return any(after < before for before, after in pairwise(bill))


def dominates(one: list[Decimal], other: list[Decimal]) -> bool:
    """Whether a bill is never below another and somewhere above it; beyond the last tier it repeats itself."""
    differences = [a - b for a, b in zip(one, other, strict=True)]
    return differences[-1] >= differences[-101] and min(differences) >= 0 and max(differences) > 0
