"""Billing periods and proration: dates and shares worked out by hand beside them."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.billing.periods import Anchor, Interval, anchor_from_config, day_text
from sandbox.billing.proration import Debit, credit, share

from .bills import at, searched

MONTH = Interval("month")


def dates(anchor: Anchor, interval: Interval, count: int) -> list[str]:
    return [datetime.fromtimestamp(anchor.boundary(interval, n), UTC).strftime("%Y-%m-%d") for n in range(count)]


def test_an_anchor_on_the_31st_bills_on_the_last_day_of_shorter_months_and_comes_back() -> None:
    anchor = Anchor(at("2026-01-31T10:30:00"))
    assert dates(anchor, MONTH, 5) == ["2026-01-31", "2026-02-28", "2026-03-31", "2026-04-30", "2026-05-31"]
    assert anchor.boundary(MONTH, 1) == at("2026-02-28T10:30:00")


def test_a_leap_day_bills_on_the_28th_in_other_years() -> None:
    assert dates(Anchor(at("2028-02-29")), Interval("year"), 5) == [
        "2028-02-29",
        "2029-02-28",
        "2030-02-28",
        "2031-02-28",
        "2032-02-29",
    ]


def test_quarters_weeks_and_days() -> None:
    anchor = Anchor(at("2026-11-30"))
    assert dates(anchor, Interval("month", 3), 3) == ["2026-11-30", "2027-02-28", "2027-05-30"]
    assert dates(anchor, Interval("week", 2), 3) == ["2026-11-30", "2026-12-14", "2026-12-28"]
    assert dates(anchor, Interval("day", 10), 2) == ["2026-11-30", "2026-12-10"]


def test_the_next_boundary_is_strictly_later_and_may_lie_before_the_anchor() -> None:
    anchor = Anchor(at("2026-05-31"))
    assert anchor.next_boundary(MONTH, at("2026-05-31")) == at("2026-06-30")
    assert anchor.next_boundary(MONTH, at("2026-06-29")) == at("2026-06-30")
    assert anchor.next_boundary(MONTH, at("2026-02-10")) == at("2026-02-28")
    assert anchor.period_around(MONTH, at("2026-03-15")) == (at("2026-02-28"), at("2026-03-31"))


def test_a_configured_day_that_february_lacks_comes_back_in_march() -> None:
    config = {"day_of_month": 31, "hour": 12, "minute": 0, "second": 0}
    anchor = anchor_from_config(config, at("2026-02-10"), MONTH)
    assert anchor.timestamp == at("2026-03-31T12:00:00")
    assert anchor.next_boundary(MONTH, at("2026-02-10")) == at("2026-02-28T12:00:00")


def test_a_configured_anchor_is_on_its_day_however_far_that_is() -> None:
    # Stripe's example: every two months from February, the last day first in August
    two = Interval("month", 2)
    anchor = anchor_from_config({"day_of_month": 31}, at("2026-02-10"), two)
    assert anchor.timestamp == at("2026-08-31")
    assert anchor.next_boundary(two, at("2026-02-10")) == at("2026-02-28")
    leap = anchor_from_config({"day_of_month": 29, "month": 2}, at("2026-03-10"), Interval("year"))
    assert (leap.timestamp, leap.next_boundary(Interval("year"), at("2026-03-10"))) == (
        at("2028-02-29"),
        at("2027-02-28"),
    )
    never = anchor_from_config({"day_of_month": 30, "month": 2}, at("2026-03-10"), Interval("year"))
    assert never.timestamp == at("2027-02-28")


def test_a_configured_day_already_past_this_month_is_next_months() -> None:
    def anchored(config: dict[str, int], start: str) -> int:
        return anchor_from_config(config, at(start), MONTH).timestamp

    assert anchored({"day_of_month": 1}, "2026-12-15T08:00:00") == at("2027-01-01T08:00:00")
    assert anchored({"day_of_month": 15}, "2026-12-15T08:00:00") == at("2026-12-15T08:00:00")
    assert anchored({"day_of_month": 1, "month": 7}, "2026-12-15") == at("2027-07-01")


@pytest.mark.parametrize(
    ("shorter", "longer", "fits"),
    [
        (Interval("month"), Interval("year"), True),
        (Interval("month", 3), Interval("year"), True),
        (Interval("month", 5), Interval("year"), False),
        (Interval("day"), Interval("week", 2), True),
        (Interval("week"), Interval("month"), False),
        # those that Stripe's page on mixed intervals names
        (Interval("day"), Interval("month", 3), True),
        (Interval("day"), Interval("year", 2), True),
        (Interval("day", 7), Interval("week"), True),
        (Interval("day", 2), Interval("week"), False),
        (Interval("day", 2), Interval("month"), False),
        (Interval("week"), Interval("year"), False),
        (Interval("month", 2), Interval("month", 6), True),
        (Interval("month", 4), Interval("month", 6), False),
    ],
)
def test_intervals_mix_when_the_longer_is_a_whole_number_of_the_shorter(
    shorter: Interval, longer: Interval, fits: bool
) -> None:
    assert shorter.divides(longer) is fits


def test_half_a_month_costs_half() -> None:
    # April has 30 days: 15 of them of 100.00
    assert share(10_000, at("2026-05-01") - at("2026-04-16"), at("2026-05-01") - at("2026-04-01")) == 5_000
    # January has 31: 16 of them, 10,000 × 16 / 31 = 5,161.29
    assert share(10_000, at("2026-02-01") - at("2026-01-16"), at("2026-02-01") - at("2026-01-01")) == 5_161


def test_a_credit_gives_back_the_unused_share_of_what_was_debited() -> None:
    debit = Debit(30_000, at("2026-04-01"), at("2026-05-01"), 3, "price_1")
    assert credit(debit, at("2026-04-16")) == -15_000
    assert credit(debit, at("2026-04-01")) == -30_000
    assert credit(debit, at("2026-05-01")) == 0


def test_days_read_as_stripe_words_them() -> None:
    assert day_text(at("2026-01-06T23:59:59")) == "06 Jan 2026"


intervals = st.builds(Interval, st.sampled_from(["day", "week", "month", "year"]), st.integers(1, 3))
instants = st.integers(at("2000-01-01"), at("2040-01-01"))


@searched
@given(instants, intervals, instants)
def test_every_instant_is_in_exactly_one_period(anchored: int, interval: Interval, instant: int) -> None:
    anchor = Anchor(anchored)
    start, end = anchor.period_around(interval, instant)
    assert start <= instant < end
    assert anchor.next_boundary(interval, start) == end


@searched
@given(st.integers(-(10**9), 10**9), st.integers(1, 10**7), st.data())
def test_a_share_is_never_more_than_the_whole(amount: int, whole: int, data: st.DataObject) -> None:
    part = data.draw(st.integers(0, whole))
    assert abs(share(amount, part, whole)) <= abs(amount)
    assert abs(share(amount, part, whole) + share(amount, whole - part, whole) - amount) <= 1
