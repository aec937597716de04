"""One table of currencies for all rooms. Facts: https://docs.stripe.com/currencies."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

import money

CURRENCIES = st.sampled_from(["usd", "jpy", "kwd", "ugx", "isk", "huf", "twd", "USD"])
AMOUNTS = st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**30), max_value=10**30, places=12)


@pytest.mark.parametrize(
    ("major", "currency", "minor", "read"),
    [
        ("100.00", "usd", "10000", "100.00 USD"),
        ("0.0004", "usd", "0.04", "0.0004 USD"),
        ("-3.6", "eur", "-360", "-3.60 EUR"),
        ("16500", "jpy", "16500", "16,500 JPY"),
        ("1.5", "kwd", "1500", "1.500 KWD"),
        # Without a minor unit, and yet hundredths to the API.
        ("5000", "ugx", "500000", "5,000 UGX"),
        ("5", "isk", "500", "5 ISK"),
        # Zero-decimal for payouts only: prices have hundredths.
        ("10.45", "huf", "1045", "10.45 HUF"),
        ("800.45", "twd", "80045", "800.45 TWD"),
    ],
)
def test_amounts_go_to_the_api_and_back(major: str, currency: str, minor: str, read: str) -> None:
    assert money.decimal_text(money.minor_units(Decimal(major), currency)) == minor
    assert money.major_units(Decimal(minor), currency) == Decimal(major)
    assert money.format_minor(Decimal(minor), currency) == read


def test_what_can_be_charged_is_a_multiple_of_the_step() -> None:
    steps = {currency: money.chargeable_step(currency) for currency in ("usd", "jpy", "ugx", "isk", "kwd")}
    assert steps == {"usd": 1, "jpy": 1, "ugx": 100, "isk": 100, "kwd": 10}


def test_the_case_of_a_currency_does_not_matter() -> None:
    assert money.exponent("JPY") == money.exponent("jpy") == 0
    assert money.exponent("KWD") == money.exponent("kwd") == 3


@given(AMOUNTS, CURRENCIES)
def test_no_digit_is_lost_on_the_way(amount: Decimal, currency: str) -> None:
    assert money.major_units(money.minor_units(amount, currency), currency) == amount
    assert Decimal(money.decimal_text(amount)) == amount


@pytest.mark.parametrize("amount", [Decimal("NaN"), Decimal("Infinity")])
def test_what_is_no_number_is_no_amount(amount: Decimal) -> None:
    with pytest.raises(ValueError, match="not an amount of money"):
        money.minor_units(amount, "usd")


def test_zero_has_no_sign() -> None:
    assert money.decimal_text(Decimal("-0.00")) == "0"
    assert money.format_minor(Decimal("-0.0"), "usd") == "0.00 USD"
