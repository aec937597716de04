"""The pricing model: money is exact, and what Stripe cannot say is refused with the field's name."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from components.pricing import Overage, Plan, decimal_text, minor_units
from components.program import validation_messages

ALPACA: dict[str, Any] = {
    "name": "Alpaca.ai",
    "fee": Decimal("100.00"),
    "unit": "token",
    "included": 1000,
    "overage": {"amount": "0.04", "per": 100},
}


def plan(**changes: Any) -> Plan:
    return Plan(**{**ALPACA, **changes})


def test_alpaca_in_minor_units() -> None:
    assert plan().fee_minor == 10_000  # 100.00 USD in cents
    assert decimal_text(plan().overage_minor) == "0.04"  # 0.04 USD / 100 = 0.0004 USD = 0.04 cents a token


def test_the_guides_table_is_one_argument_away() -> None:
    """The guide's table says 0.04 USD a unit, its text 0.04 USD per hundred; `per` decides."""
    assert plan(overage={"amount": "0.04", "per": 1}).overage_minor == 4


@pytest.mark.parametrize(
    ("amount", "currency", "minor"),
    [("100.00", "usd", "10000"), ("0.0001", "usd", "0.01"), ("500", "jpy", "500"), ("1.5", "kwd", "1500")],
)
def test_minor_units_follow_the_currency(amount: str, currency: str, minor: str) -> None:
    assert decimal_text(minor_units(Decimal(amount), currency)) == minor


@given(st.decimals(min_value=0, max_value=10**9, places=12))
def test_decimal_text_is_exact_and_canonical(value: Decimal) -> None:
    text = decimal_text(value)
    assert Decimal(text) == value
    assert "E" not in text
    assert text == decimal_text(Decimal(text + ("0" if "." in text else ".0")))


def test_the_price_reads_as_one_sentence() -> None:
    assert plan().price_text == "100.00 USD per seat and month, 0.04 USD per 100 tokens above 1,000"
    assert plan(included=0, overage={"amount": "0.0004"}).price_text == (
        "100.00 USD per seat and month, 0.0004 USD per token"
    )
    assert plan(currency="jpy", fee=900, interval="year", overage={"amount": 4}).price_text == (
        "900 JPY per seat and year, 4 JPY per token above 1,000"
    )
    assert plan(included=0, overage={"amount": "0.04", "per": 100, "round": "up"}).price_text == (
        "100.00 USD per seat and month, 0.04 USD per 100 tokens, each started package in full"
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fee": 100.0}, "Plan.fee: 100.0 is a float, which cannot hold money exactly"),
        ({"fee": "-1"}, "Plan.fee: Input should be greater than or equal to 0"),
        ({"fee": "NaN"}, "Plan.fee: Input should be a finite number"),
        ({"fees": "1"}, "Plan.fees: Extra inputs are not permitted"),
        ({"currency": "USD"}, "Plan.currency: String should match pattern"),
        ({"included": 1.5}, "Plan.included: Input should be a valid integer"),
        ({"included": -1}, "Plan.included: Input should be greater than or equal to 0"),
        ({"interval": "fortnight"}, "Plan.interval: Input should be 'day', 'week', 'month' or 'year'"),
        ({"unit": "u" * 41}, "Plan.unit: String should have at most 40 characters"),
        ({"overage": {"amount": "0.04", "per": 0}}, "Plan.overage.per: Input should be greater than or equal to 1"),
        ({"overage": {"amount": 0.04}}, "Plan.overage.amount: 0.04 is a float"),
        ({"overage": {"amount": "1", "per": 3}}, "Plan: overage.amount is 33.33333"),
        ({"overage": {"amount": "1", "per": 2, "round": "up"}}, "Plan: overage.round and included exclude each other"),
    ],
)
def test_what_cannot_be_meant_is_refused_by_field(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        plan(**changes)
    lines = validation_messages(caught.value)
    assert len(lines) == 1
    assert lines[0].startswith(message)
    assert "\n" not in lines[0]


def test_every_mistake_is_told_at_once() -> None:
    with pytest.raises(ValidationError) as caught:
        plan(fee=1.0, included=-1, currency="dollars")
    assert [line.split(":")[0] for line in validation_messages(caught.value)] == [
        "Plan.currency",
        "Plan.fee",
        "Plan.included",
    ]


def test_plans_are_values() -> None:
    assert plan() == plan()
    with pytest.raises(ValidationError):
        plan().fee = Decimal(1)  # type: ignore[misc]
    assert Overage(amount=Decimal("0.04"), per=100) == plan().overage
