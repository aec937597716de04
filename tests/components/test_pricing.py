"""The pricing model: money is exact, and what Stripe cannot express is refused with the field's name."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

import money
from components.plan import event_names
from components.pricing import Fee, Overage, Plan, Tier, Usage
from components.program import validation_messages
from components.terms import price_parameters


def usage(**changes: Any) -> Usage:
    return Usage("token", **{"included": 1000, "overage": Overage("0.04", per=100), **changes})


def plan(**changes: Any) -> Plan:
    return Plan("Alpaca.ai", **{"fees": Fee("100.00"), "usage": usage(), **changes})


def parameters(plan: Plan, key: str) -> dict[str, Any]:
    parameters: dict[str, Any] = price_parameters(plan, plan.charge(key), None)
    assert parameters.pop("recurring")["interval"] == "month"
    return parameters


def test_alpaca_in_stripes_terms() -> None:
    assert parameters(plan(), "license") == {"currency": "usd", "unit_amount_decimal": "10000"}
    assert parameters(plan(), "usage") == {
        "currency": "usd",
        "billing_scheme": "tiered",
        "tiers_mode": "graduated",
        # 0.04 USD / 100 = 0.0004 USD = 0.04 cents a token
        "tiers": [{"up_to": 1000, "unit_amount_decimal": "0"}, {"up_to": "inf", "unit_amount_decimal": "0.04"}],
    }


def test_the_guides_table_is_one_argument_away() -> None:
    """The guide's table says 0.04 USD a unit, its text 0.04 USD per hundred; `per` decides."""
    assert parameters(plan(usage=usage(overage="0.04")), "usage")["tiers"][1]["unit_amount_decimal"] == "4"


def test_whole_packages_are_stripes_own() -> None:
    packages = plan(usage=usage(included=0, overage=Overage("0.04", per=100, round="up")))
    assert parameters(packages, "usage") == {
        "currency": "usd",
        "unit_amount_decimal": "4",
        "transform_quantity": {"divide_by": 100, "round": "up"},
    }


def test_tiers_have_their_own_rates_and_flat_amounts() -> None:
    tiers = [Tier("0.05", per=100, up_to=10_000, flat="1.00"), Tier("0.03", per=100)]
    assert parameters(plan(usage=Usage("token", tiers=tiers, tiers_mode="volume")), "usage") == {
        "currency": "usd",
        "billing_scheme": "tiered",
        "tiers_mode": "volume",
        "tiers": [
            {"up_to": 10_000, "unit_amount_decimal": "0.05", "flat_amount_decimal": "100"},
            {"up_to": "inf", "unit_amount_decimal": "0.03"},
        ],
    }


def test_every_currency_is_an_option_of_the_same_price() -> None:
    sold = plan(
        fees=Fee({"usd": "100.00", "eur": "90.00", "jpy": 15_000, "ugx": 5000}),
        usage=usage(overage=Overage({"usd": "0.04", "eur": "0.036", "jpy": 6, "ugx": 100}, per=100)),
    )
    assert sold.currencies == ("usd", "eur", "jpy", "ugx")
    assert parameters(sold, "license")["currency_options"] == {
        "eur": {"unit_amount_decimal": "9000"},
        "jpy": {"unit_amount_decimal": "15000"},
        "ugx": {"unit_amount_decimal": "500000"},
    }
    assert parameters(sold, "usage")["currency_options"]["jpy"]["tiers"][1] == {
        "up_to": "inf",
        "unit_amount_decimal": "0.06",
    }


@given(st.decimals(min_value=0, max_value=10**9, places=6))
def test_an_amount_is_the_same_as_text_and_as_a_decimal(amount: Decimal) -> None:
    assert Fee(str(amount)) == Fee(amount)
    written = parameters(Plan("Pro", fees=amount), "license")["unit_amount_decimal"]
    assert money.major_units(Decimal(written), "usd") == amount


@pytest.mark.parametrize(
    ("sold", "text"),
    [
        (plan(), "100.00 USD per seat and month, 0.04 USD per 100 tokens above 1,000"),
        (plan(usage=usage(included=0, overage="0.0004")), "100.00 USD per seat and month, 0.0004 USD per token"),
        (
            Plan("P", currency="jpy", fees=Fee(900, per="subscription", interval="year"), trial_days=14),
            "900 JPY per year; 14 days free",
        ),
        (
            plan(usage=usage(included=0, overage=Overage("0.04", per=100, round="up"))),
            "100.00 USD per seat and month, 0.04 USD per 100 tokens, each started package in full",
        ),
        (
            Plan(
                "P", usage=Usage("query", units="queries", tiers=[Tier("0.05", up_to=10, per=2), Tier("0.01", flat=3)])
            ),
            "0.05 USD per 2 queries up to 10 then 0.01 USD per query and 3.00 USD once beyond",
        ),
        (
            Plan("P", fees=Fee({"usd": 10, "eur": 9})),
            "10.00 USD per seat and month; 9.00 EUR per seat and month",
        ),
    ],
)
def test_the_price_reads_as_one_sentence(sold: Plan, text: str) -> None:
    assert sold.price_text == text


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Fee(100.0), "Fee.amount: 100.0 is a float, which cannot hold money exactly"),  # type: ignore[arg-type]
        (lambda: Fee("-1"), "Fee.amount: -1 is not an amount; it must be 0 or more"),
        (lambda: Fee("NaN"), "Fee.amount: NaN is not an amount; it must be 0 or more"),
        (lambda: Fee("ten"), "Fee.amount: 'ten' is not an amount; write it like 100.00"),
        (lambda: Fee({"USD": "1"}), "Fee.amount: 'USD' is not a currency"),
        (lambda: Fee({}), "Fee.amount: names no currency"),
        (lambda: Fee("1", intervall="year"), "Fee: there is no argument intervall; did you mean interval?"),  # type: ignore[call-arg]
        (lambda: Fee("1", interval="fortnight"), "Fee.interval: Input should be 'day', 'week', 'month' or 'year'"),  # type: ignore[arg-type]
        (lambda: plan(currency="USD"), "Plan.currency: String should match pattern"),
        (lambda: plan(trial_days=731), "Plan.trial_days: Input should be less than or equal to 730"),
        (lambda: usage(included=1.5), "Usage.included: Input should be a valid integer"),
        (lambda: usage(included=-1), "Usage.included: Input should be greater than or equal to 0"),
        (lambda: Usage("u" * 41, units="us", overage="1"), "Usage.unit: String should have at most 40 characters"),
        (lambda: Overage("0.04", per=0), "Overage.per: Input should be greater than or equal to 1"),
        (lambda: plan(usage=usage(overage=Overage("1", per=3))), "Plan: usage costs 33.33333"),
        (lambda: usage(overage=Overage("1", round="up")), "Usage: overage.round and included cannot be combined"),
        (lambda: usage(tiers=[Tier("1")]), "Usage: needs one of overage and tiers"),
        (lambda: Usage("token"), "Usage: needs one of overage and tiers"),
        (
            lambda: Usage("t", included=1, tiers=[Tier("1")], tiers_mode="volume"),
            "Usage: included and tiers_mode volume",
        ),
        (lambda: Usage("t", tiers=[Tier("1", up_to=5)]), "Usage: tier 1: must be open"),
        (lambda: Usage("t", tiers=[Tier("1"), Tier("2")]), "Usage: tier 1: needs up_to"),
        (
            lambda: Usage("t", included=10, tiers=[Tier("1", up_to=10), Tier("2")]),
            "Usage: tier 1: up_to is 10; must be above 10, where the previous one ends",
        ),
        (lambda: Plan("P"), "Plan: has no price; declare fees or usage"),
        (lambda: Plan("P", fees=[Fee("1"), Fee("2")]), "Plan: two charges have the key 'license'"),
        (
            lambda: plan(fees=Fee({"usd": "1", "eur": "1"})),
            "Plan: usage 'usage': overage names no currency, but other amounts do: usd, eur",
        ),
        (
            lambda: plan(fees=Fee({"usd": "1", "eur": "1"}), usage=usage(overage=Overage({"usd": "1"}))),
            "Plan: usage 'usage': overage has no amount in eur",
        ),
        (
            lambda: Plan("P", usage=Usage("t", tiers=[Tier("1", flat="0.001")])),
            "Plan: usage: a flat amount is 0.1 minor units of usd; Stripe takes whole ones",
        ),
    ],
)
def test_what_cannot_be_meant_is_refused_by_field(make: Any, message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        make()
    lines = validation_messages(caught.value)
    assert len(lines) == 1
    assert lines[0].startswith(message)
    assert "\n" not in lines[0]


def test_plans_are_values() -> None:
    assert plan() == plan()
    with pytest.raises(ValidationError):
        plan().name = "Other"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("own", "given", "message"),
    [
        (["usage"], None, "Alpaca.ai needs an event_name for usage"),
        ([], "tokens", "Alpaca.ai has 0 meters of its own"),
        (["in", "out"], "tokens", "Alpaca.ai has 2 meters of its own"),
        (["usage"], {"usage": "tokens", "other": "x"}, "Alpaca.ai needs an event_name for usage"),
    ],
)
def test_every_usage_has_something_that_counts_it(own: list[str], given: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        event_names("Alpaca.ai", own, given)
