"""When a coupon is used up, according to the invoices."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from components.providers.discounts import is_over


def day(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


@pytest.mark.parametrize(
    ("coupon", "starts", "period_end", "over"),
    [
        ({"duration": "forever"}, ["2026-01-31"], "2030-01-01", False),
        ({"duration": "once"}, [], "2030-01-01", False),
        ({"duration": "once"}, ["2026-01-31"], "2026-02-28", True),
        # It counts from the invoice that it reduced last, not from the subscription's first day.
        ({"duration": "repeating", "duration_in_months": 3}, ["2026-06-15"], "2026-09-15", False),
        ({"duration": "repeating", "duration_in_months": 3}, ["2026-06-15"], "2026-10-15", True),
        ({"duration": "repeating", "duration_in_months": 3}, ["2026-01-01", "2026-06-15"], "2026-09-15", False),
        # Three months after the 30th of November is the last of February.
        ({"duration": "repeating", "duration_in_months": 3}, ["2025-11-30"], "2026-02-28", False),
        ({"duration": "repeating", "duration_in_months": 3}, ["2025-11-30"], "2026-03-01", True),
        # Where no invoice names it, it may have begun with the subscription.
        ({"duration": "repeating", "duration_in_months": 3}, [], "2026-04-01", False),
        ({"duration": "repeating", "duration_in_months": 3}, [], "2026-04-02", True),
    ],
)
def test_when_a_coupon_is_over(coupon: dict[str, object], starts: list[str], period_end: str, over: bool) -> None:
    assert is_over(coupon, map(day, starts), day("2026-01-01"), day(period_end)) is over
