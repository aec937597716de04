"""What a quantity costs: every amount here is worked out by hand beside it."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from money import decimal_text
from sandbox.billing.money import amount_text, split, to_minor_units
from sandbox.billing.rating import Charge, rate, total

from .bills import searched


def per_unit(unit_amount_decimal: str, transform_quantity: dict[str, Any] | None = None) -> dict[str, Any]:
    return {
        "billing_scheme": "per_unit",
        "tiers_mode": None,
        "unit_amount_decimal": unit_amount_decimal,
        "transform_quantity": transform_quantity,
    }


def tiered(mode: str, *tiers: tuple[int | None, str | None, str | None]) -> dict[str, Any]:
    """Tiers as (up_to, unit_amount_decimal, flat_amount_decimal)."""
    return {
        "billing_scheme": "tiered",
        "tiers_mode": mode,
        "unit_amount_decimal": None,
        "tiers": [
            {"up_to": up_to, "unit_amount_decimal": unit, "flat_amount_decimal": flat} for up_to, unit, flat in tiers
        ],
    }


ALPACA_USAGE = tiered("graduated", (1000, "0", None), (None, "0.04", None))


@pytest.mark.parametrize(
    ("units", "cents"),
    [
        (0, 0),
        (1_000, 0),  # all of it included
        (1_001, 0),  # 1 × 0.04 = 0.04 cents, less than half a cent
        (1_012, 0),  # 12 × 0.04 = 0.48
        (1_013, 1),  # 13 × 0.04 = 0.52
        (3_000, 80),  # 2,000 × 0.04 cents
        (26_000, 1_000),  # 25,000 × 0.04 cents = 10.00 USD
    ],
)
def test_alpaca_usage_beyond_the_free_thousand_costs_four_hundredths_of_a_cent(units: int, cents: int) -> None:
    assert total(ALPACA_USAGE, units) == cents


def test_the_invoice_recorded_from_stripe_comes_out_line_by_line() -> None:
    # Recorded: 1,031 credits, up to 1,000 for 9.00 USD flat, then 3.6 cents each; total 10.12 USD.
    price = tiered("graduated", (1000, "0", "900"), (None, "3.6", "0"))
    assert rate(price, 1031) == (
        Charge(Decimal(1000), Decimal(0), 0, tier=1),
        Charge(Decimal(0), Decimal(900), 900, tier=1, flat=True),
        Charge(Decimal(31), Decimal("3.6"), 112, tier=2),  # 31 × 3.6 = 111.6
        Charge(Decimal(0), Decimal(0), 0, tier=2, flat=True),
    )


def test_no_usage_still_owes_the_flat_fee_of_the_first_tier() -> None:
    # Recorded: 0 characters, up to 100,000 for 9.99 USD flat, no unit amount.
    price = tiered("graduated", (100_000, None, "999"), (None, "0.02", None))
    assert rate(price, 0) == (
        Charge(Decimal(0), Decimal(0), 0, tier=1),
        Charge(Decimal(0), Decimal(999), 999, tier=1, flat=True),
    )


def test_graduated_bills_each_unit_in_its_own_tier() -> None:
    price = tiered("graduated", (5, "700", None), (10, "650", None), (None, "600", None))
    # 5 × 7.00 + 5 × 6.50 + 2 × 6.00 = 35.00 + 32.50 + 12.00
    assert [charge.amount for charge in rate(price, 12)] == [3500, 3250, 1200]
    # the tenth unit is the last of the second tier
    assert [charge.amount for charge in rate(price, 10)] == [3500, 3250]


def test_volume_bills_all_units_at_the_tier_reached() -> None:
    price = tiered("volume", (5, "700", None), (10, "650", None), (None, "600", None))
    assert [(total(price, units)) for units in (5, 6, 10, 11)] == [3500, 3900, 6500, 6600]


def test_volume_takes_the_flat_fee_of_the_tier_reached_only() -> None:
    price = tiered("volume", (10, "100", "500"), (None, "50", "800"))
    assert total(price, 10) == 10 * 100 + 500
    assert total(price, 20) == 20 * 50 + 800


def test_packages_round_up_or_down_before_the_amount_applies() -> None:
    # 150 minutes at 10.00 an hour: 150 / 60 = 2.5 hours
    up = per_unit("1000", {"divide_by": 60, "round": "up"})
    down = per_unit("1000", {"divide_by": 60, "round": "down"})
    assert (total(up, 150), total(down, 150)) == (3000, 2000)
    assert (total(up, 120), total(down, 120)) == (2000, 2000)
    assert (total(up, 1), total(down, 59)) == (1000, 0)


def test_a_package_of_one_hundred_is_the_guides_other_reading() -> None:
    # 4 cents for every hundred begun: 26,000 / 100 × 4
    assert total(per_unit("4", {"divide_by": 100, "round": "up"}), 26_000) == 1_040
    assert total(per_unit("4", {"divide_by": 100, "round": "up"}), 101) == 8


@pytest.mark.parametrize(
    ("each", "units", "cents"),
    [
        ("0.05", 30, 2),  # 1.5, Stripe's own example
        ("0.05", 29, 1),  # 1.45
        ("0.000000000001", 400_000_000_000, 0),  # 0.4
        ("0.000000000001", 500_000_000_000, 1),  # 0.5
        ("123456789.123456789012", 1_000_000, 123_456_789_123_457),  # …123,456.789012 rounded once
        ("105.5", 3, 317),  # 316.5
    ],
)
def test_decimal_amounts_are_rounded_once_per_line(each: str, units: int, cents: int) -> None:
    assert total(per_unit(each), units) == cents


def test_fractions_of_a_unit_are_billed() -> None:
    assert total(per_unit("200"), Decimal("1.25")) == 250
    assert total(tiered("graduated", (1, "0", None), (None, "200", None)), Decimal("1.25")) == 50


def test_usage_corrected_below_zero_is_none() -> None:
    assert rate(per_unit("100"), -5) == (Charge(Decimal(0), Decimal(100), 0),)


def test_rounding_is_away_from_zero_on_both_sides() -> None:
    amounts = [to_minor_units(Decimal(text)) for text in ("0.5", "-0.5", "1.5", "2.5", "-2.49")]
    assert amounts == [1, -1, 2, 3, -2]


@pytest.mark.parametrize(
    ("amount", "currency", "text"),
    [
        ("3.6", "usd", "$0.036"),
        ("10000", "usd", "$100.00"),
        ("0.04", "usd", "$0.0004"),
        ("123456789", "eur", "€1,234,567.89"),
        ("500", "jpy", "¥500"),
        ("1250", "chf", "12.50 CHF"),
        ("-150", "usd", "-$1.50"),
        ("1500", "kwd", "1.500 KWD"),
        # Hundredths to the API that people read without decimals (https://docs.stripe.com/currencies#special-cases).
        ("500000", "ugx", "5,000 UGX"),
        ("550", "isk", "5.5 ISK"),
        ("10000", "huf", "100.00 HUF"),
        ("10000", "twd", "100.00 TWD"),
    ],
)
def test_amounts_read_as_stripe_words_them(amount: str, currency: str, text: str) -> None:
    assert amount_text(Decimal(amount), currency) == text


def test_decimals_are_written_without_exponent_or_padding() -> None:
    written = [decimal_text(Decimal(text)) for text in ("1E+3", "0.0400", "1E-12", "-0", "10")]
    assert written == ["1000", "0.04", "0.000000000001", "0", "10"]


tier_amounts = st.decimals(min_value=0, max_value=10_000, places=4).map(str)
flat_amounts = st.none() | st.integers(0, 100_000).map(str)


@st.composite
def graduated_prices(draw: st.DrawFn) -> dict[str, Any]:
    bounds = sorted(draw(st.sets(st.integers(1, 1_000_000), max_size=4)))
    return tiered("graduated", *((bound, draw(tier_amounts), draw(flat_amounts)) for bound in [*bounds, None]))


@searched
@given(graduated_prices(), st.integers(0, 2_000_000))
def test_the_sum_of_graduated_lines_is_the_total_and_all_units_are_on_them(price: dict[str, Any], units: int) -> None:
    charges = rate(price, units)
    assert sum(charge.quantity for charge in charges) == units
    assert total(price, units) == sum(charge.amount for charge in charges)


@searched
@given(graduated_prices(), st.integers(0, 2_000_000), st.integers(0, 2_000_000))
def test_more_usage_never_costs_less(price: dict[str, Any], units: int, more: int) -> None:
    assert total(price, units + more) >= total(price, units)


@searched
@given(
    tier_amounts, st.integers(1, 1000), st.sampled_from(["up", "down"]), st.integers(0, 10**9), st.integers(0, 10**9)
)
def test_more_packages_never_cost_less(each: str, divide_by: int, rounding: str, units: int, more: int) -> None:
    price = per_unit(each, {"divide_by": divide_by, "round": rounding})
    assert total(price, units + more) >= total(price, units)


@searched
@given(st.integers(1, 10**9), tier_amounts, st.data())
def test_included_usage_costs_nothing(included: int, each: str, data: st.DataObject) -> None:
    price = tiered("graduated", (included, "0", None), (None, each, None))
    units = data.draw(st.integers(0, included))
    assert total(price, units) == 0


@searched
@given(st.integers(0, 10**9), tier_amounts)
def test_one_tier_costs_what_per_unit_costs_in_either_mode(units: int, each: str) -> None:
    expected = total(per_unit(each), units)
    assert total(tiered("graduated", (None, each, None)), units) == expected
    assert total(tiered("volume", (None, each, None)), units) == expected


@searched
@given(st.integers(-(10**9), 10**9), st.lists(st.integers(0, 10**6), min_size=1, max_size=8))
def test_a_discount_is_shared_out_to_the_last_cent(amount: int, weights: list[int]) -> None:
    shares = split(amount, weights)
    assert sum(shares) == (amount if sum(weights) else 0)
