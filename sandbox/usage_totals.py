"""What a meter counted for a customer in a time span: the only place that aggregates usage.

`aggregate` is for bills, `buckets` for event summaries. Both see an event only after its lag, skip cancelled ones, and
use half-open times: `start <= timestamp < end`. `now` is the customer's own time: that of its test clock if it has one,
else the sandbox's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Final

from .billing.money import EXACT
from .store import Store, declare
from .wire import Obj

declare(
    """CREATE TABLE IF NOT EXISTS meter_events (
        id INTEGER PRIMARY KEY,
        scope TEXT NOT NULL,
        meter TEXT NOT NULL,
        customer TEXT NOT NULL,
        identifier TEXT NOT NULL,
        event_name TEXT NOT NULL,
        value INTEGER NOT NULL,
        fraction INTEGER NOT NULL DEFAULT 0,
        timestamp INTEGER NOT NULL,
        received INTEGER NOT NULL,
        visible REAL NOT NULL,
        cancelled REAL
    )"""
)
declare("CREATE INDEX IF NOT EXISTS meter_events_identifier ON meter_events (scope, identifier)")
# The index has all summed columns, so SQLite does not read the events themselves.
declare(
    "CREATE INDEX IF NOT EXISTS meter_events_counted ON meter_events"
    " (scope, meter, customer, timestamp, value, fraction, visible, cancelled)"
)

SECONDS: Final = {"hour": 3600, "day": 86400}

#: Decimal places of a value: as many as the `quantity_decimal` of an invoice line.
PLACES: Final = 12
#: Values have at most 15 digits; split in halves, they cannot overflow SQLite's sum.
_HALF: Final = 100_000_000


def parts(value: Decimal) -> tuple[int, int]:
    """A value as stored, exactly: its floor, and the rest in units of 10^-12."""
    whole, fraction = divmod(int(value.scaleb(PLACES)), 10**PLACES)
    return whole, fraction


def _value(whole: int, fraction: int) -> Decimal:
    return EXACT.add(Decimal(whole), Decimal(fraction).scaleb(-PLACES, context=EXACT))


def aggregate(store: Store, meter: Obj, customer: str, start: int, end: int, now: float) -> Decimal:
    """The usage of a customer in `start <= t < end`: sum, count or last, by the meter's formula; 0 without events."""
    found = _rows(store, meter, customer, start, end, now, None)
    return found[0][1] if found else Decimal(0)


def next_change(store: Store, meters: Sequence[str], customer: str, after: int) -> int | None:
    """The first second after `after` at which a customer's usage of some meters counts differently.

    An event counts after its lag and from its own time on; a cancellation counts once it is visible.
    """
    marks = ",".join("?" * len(meters))
    where = f"FROM meter_events WHERE scope = ? AND meter IN ({marks}) AND customer = ?"
    sql = (
        f"SELECT MIN(moment) FROM (SELECT MAX(timestamp, visible) AS moment {where}"
        f" UNION ALL SELECT cancelled {where} AND cancelled IS NOT NULL) WHERE moment > ?"
    )
    values = [store.scope, *meters, customer]
    found = store.connection.execute(sql, [*values, *values, after]).fetchone()[0]
    return None if found is None else math.ceil(found)


def buckets(
    store: Store, meter: Obj, customer: str, start: int, end: int, now: float, window: str | None
) -> list[tuple[int, int, Decimal]]:
    """(start, end, usage) of each hour or day with events, or of the whole span; oldest first."""
    length = SECONDS[window] if window is not None else None
    result = []
    for bucket, value in _rows(store, meter, customer, start, end, now, length):
        if length is None:
            result.append((start, end, value))
        else:
            result.append((bucket * length, (bucket + 1) * length, value))
    return result


def _rows(
    store: Store, meter: Obj, customer: str, start: int, end: int, now: float, length: int | None
) -> list[tuple[int, Decimal]]:
    formula = meter["default_aggregation"]["formula"]
    bucket = "0" if length is None else f"timestamp / {length:d}"
    source = (
        f"SELECT id, timestamp, value, fraction, {bucket} AS bucket FROM meter_events WHERE scope = ? AND meter = ?"
        " AND customer = ? AND timestamp >= ? AND timestamp < ? AND visible <= ?"
        " AND (cancelled IS NULL OR cancelled > ?)"
    )
    values: list[Any] = [store.scope, meter["id"], customer, start, end, now, now]
    if meter["event_time_window"] is not None:
        # Pre-aggregated: a later event for the same hour or day replaces the earlier one.
        span = SECONDS[meter["event_time_window"]]
        source = (
            "SELECT id, timestamp, value, fraction, bucket FROM (SELECT *, ROW_NUMBER() OVER"
            f" (PARTITION BY timestamp / {span:d} ORDER BY id DESC) AS place FROM ({source})) WHERE place = 1"
        )
    if formula == "count":
        sql = f"SELECT bucket, COUNT(*) FROM ({source}) GROUP BY bucket ORDER BY bucket"
        return [(int(row[0]), Decimal(row[1])) for row in store.connection.execute(sql, values)]
    if formula == "last":
        sql = (
            "SELECT bucket, value, fraction FROM (SELECT bucket, value, fraction, ROW_NUMBER() OVER"
            f" (PARTITION BY bucket ORDER BY timestamp DESC, id DESC) AS place FROM ({source}))"
            " WHERE place = 1 ORDER BY bucket"
        )
        return [(int(row[0]), _value(row[1], row[2])) for row in store.connection.execute(sql, values)]
    halves = ", ".join(f"SUM({name} / {_HALF}), SUM({name} % {_HALF})" for name in ("value", "fraction"))
    sql = f"SELECT bucket, {halves} FROM ({source}) GROUP BY bucket ORDER BY bucket"
    return [
        (int(row[0]), _value(row[1] * _HALF + row[2], row[3] * _HALF + row[4]))
        for row in store.connection.execute(sql, values)
    ]
