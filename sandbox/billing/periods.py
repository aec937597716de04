"""Billing periods: boundaries from an anchor and an interval, in UTC seconds."""

from __future__ import annotations

import calendar
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

_MONTHS = {"month": 1, "year": 12}
_DAYS = {"day": 1, "week": 7}
# Months vary in length, so intervals are compared by their longest form.
_LONGEST_DAYS = {"day": 1, "week": 7, "month": 31, "year": 366}
# Three years, in each interval (https://docs.stripe.com/api/prices/create).
LONGEST_INTERVAL_COUNTS = {"day": 1095, "week": 156, "month": 36, "year": 3}


@dataclass(frozen=True)
class Interval:
    """How often a price bills: every `count` of `unit` (day, week, month or year)."""

    unit: str
    count: int = 1

    @classmethod
    def of(cls, recurring: Mapping[str, Any]) -> Interval:
        """The interval of a price's `recurring`."""
        return cls(recurring["interval"], recurring["interval_count"])

    @property
    def length(self) -> int:
        """Days at most; only for ordering intervals."""
        return _LONGEST_DAYS[self.unit] * self.count

    def text(self) -> str:
        """As Stripe words it in a line: `month`, or `every 3 months`."""
        return self.unit if self.count == 1 else f"every {self.count} {self.unit}s"

    def divides(self, longer: Interval) -> bool:
        """Whether `longer` is a whole number of this interval, which mixed intervals on one subscription need.

        A month is a whole number of days, never of two or of weeks
        (https://docs.stripe.com/billing/subscriptions/mixed-interval#interval-alignment).
        """
        if self == Interval("day"):
            return True
        if self.unit in _MONTHS and longer.unit in _MONTHS:
            return (longer.count * _MONTHS[longer.unit]) % (self.count * _MONTHS[self.unit]) == 0
        if self.unit in _DAYS and longer.unit in _DAYS:
            return (longer.count * _DAYS[longer.unit]) % (self.count * _DAYS[self.unit]) == 0
        return False


@dataclass(frozen=True)
class Anchor:
    """The instant from which billing periods are counted.

    `day_of_month` is the requested day (`billing_cycle_anchor_config`), which a short month may have moved:
    an anchor on the 28th of February with `day_of_month` 31 bills on the 31st of March.
    """

    timestamp: int
    day_of_month: int | None = None

    def boundary(self, interval: Interval, number: int) -> int:
        """The boundary `number` intervals after the anchor, or before it when negative.

        A day that a month does not have becomes its last day (https://docs.stripe.com/billing/subscriptions/billing-cycle).
        Counted from the anchor, never from the previous boundary, so the 31st comes back after February.
        """
        if interval.unit in _DAYS:
            return self.timestamp + number * interval.count * _DAYS[interval.unit] * 86_400
        at = datetime.fromtimestamp(self.timestamp, UTC)
        months = at.year * 12 + at.month - 1 + number * interval.count * _MONTHS[interval.unit]
        year, month = divmod(months, 12)
        day = min(self.day_of_month or at.day, calendar.monthrange(year, month + 1)[1])
        return int(at.replace(year=year, month=month + 1, day=day).timestamp())

    def next_boundary(self, interval: Interval, after: int) -> int:
        """The first boundary strictly after an instant, be it before or after the anchor."""
        return self.period_around(interval, after)[1]

    def period_around(self, interval: Interval, instant: int) -> tuple[int, int]:
        """The whole period (start inclusive, end exclusive) that an instant falls in."""
        if interval.unit in _DAYS:
            number = (instant - self.timestamp) // (interval.count * _DAYS[interval.unit] * 86_400)
        else:
            anchor, at = (datetime.fromtimestamp(moment, UTC) for moment in (self.timestamp, instant))
            months = (at.year - anchor.year) * 12 + at.month - anchor.month
            number = months // (interval.count * _MONTHS[interval.unit])
        if self.boundary(interval, number) > instant:  # the boundary in the instant's own month is later
            number -= 1
        return self.boundary(interval, number), self.boundary(interval, number + 1)

    def spans(self, interval: Interval, start: int, until: int) -> list[tuple[int, int]]:
        """The time from `start` to `until` cut at the boundaries between them."""
        found = []
        while start < until:
            end = min(self.next_boundary(interval, start), until)
            found.append((start, end))
            start = end
        return found


def anchor_from_config(config: Mapping[str, Any], start: int, interval: Interval) -> Anchor:
    """The anchor that a `billing_cycle_anchor_config` names: the first boundary at or after `start` on its very day.

    If the first boundary is on the last day of a shorter month, the anchor is a later one; the periods are the same
    (https://docs.stripe.com/billing/subscriptions/billing-cycle#new-subscriptions).

    Omitted parts of the config (time of day, month) come from `start`, as
    https://docs.stripe.com/api/subscriptions/create#create_subscription-billing_cycle_anchor_config says.
    """
    begun = datetime.fromtimestamp(start, UTC)

    def given(name: str, otherwise: int) -> int:
        value = config.get(name)
        return otherwise if value is None else int(value)

    wanted = int(config["day_of_month"])
    time_of_day = timedelta(
        hours=given("hour", begun.hour), minutes=given("minute", begun.minute), seconds=given("second", begun.second)
    )
    year, month = begun.year, given("month", begun.month)
    while True:
        day = min(wanted, calendar.monthrange(year, month)[1])
        at = int((datetime(year, month, day, tzinfo=UTC) + time_of_day).timestamp())
        if at >= start:
            return _on_its_day(Anchor(at, day_of_month=wanted), interval)
        if config.get("month") is not None:
            year += 1
        else:
            year, month = (year + 1, 1) if month == 12 else (year, month + 1)


def _on_its_day(anchor: Anchor, interval: Interval) -> Anchor:
    # A day that none of these months has (30 February) is never reached.
    for number in range(12):
        boundary = anchor.boundary(interval, number)
        if datetime.fromtimestamp(boundary, UTC).day == anchor.day_of_month:
            return Anchor(boundary, anchor.day_of_month)
    return anchor


def day_text(instant: int) -> str:
    """A day as Stripe writes it in a proration: `16 Jan 2026`."""
    return datetime.fromtimestamp(instant, UTC).strftime("%d %b %Y")
