"""Accepting meter events: their validation, their duplicates, and the error reports afterwards.

Single events of v1 and v2 are checked at once. Events of the stream are checked after the answer, so a bad one only
appears in an error report. An unknown customer appears only in error reports either way.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

from . import usage_totals
from .errors import StripeError, refuse
from .router import Call
from .store import declare, mint
from .wire import Obj

declare(
    """CREATE TABLE IF NOT EXISTS meter_event_errors (
        id INTEGER PRIMARY KEY,
        scope TEXT NOT NULL,
        meter TEXT,
        code TEXT NOT NULL,
        message TEXT NOT NULL,
        identifier TEXT NOT NULL,
        visible REAL NOT NULL
    )"""
)
declare("CREATE INDEX IF NOT EXISTS meter_event_errors_due ON meter_event_errors (scope, visible)")

PAST_SECONDS: Final = 35 * 86400
FUTURE_SECONDS: Final = 5 * 60
UNIQUE_SECONDS: Final = 24 * 3600
CANCEL_SECONDS: Final = 24 * 3600
MAX_DIGITS: Final = 15
#: Stripe's own example of a report covers ten seconds.
REPORT_SECONDS: Final = 10
MAX_SAMPLES: Final = 5

_NUMBER: Final = re.compile(rf"\A-?[0-9]+(\.[0-9]{{1,{usage_totals.PLACES}}})?\Z", re.ASCII)


@dataclass(frozen=True, slots=True)
class Event:
    """A received meter event; `timestamp` is Unix seconds, None if the sender omitted it."""

    event_name: str
    payload: dict[str, Any]
    identifier: str
    timestamp: int | None


@dataclass(frozen=True, slots=True)
class Accepted:
    """An event that counts."""

    event: Event
    meter: Obj
    customer: str
    value: Decimal
    timestamp: int
    now: int


@dataclass(frozen=True, slots=True)
class Rejected:
    """An event that does not count: the code of the report, and the refusal if it is known at once."""

    event: Event
    meter: Obj | None
    code: str
    refusal: StripeError
    now: int
    timestamp: int

    @property
    def at_once(self) -> bool:
        """Whether v1 refuses it at once; an unknown customer is only reported later."""
        return self.code != "meter_event_customer_not_found"


class Desk:
    """Validates the events of one request; looks up each meter and customer once."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._meters: dict[str, Obj | None] = {}
        self._customers: dict[str, int | None] = {}
        self._now = call.now()

    def judge(self, event: Event) -> Accepted | Rejected:
        """Whether an event counts, and for which customer."""
        meter, now, timestamp = self.meter(event.event_name), self._now, 0

        def no(code: str, refusal: StripeError) -> Rejected:
            return Rejected(event, meter, code, refusal, now, timestamp)

        if meter is None or meter["status"] != "active":
            code = "no_meter" if meter is None else "archived_meter"
            return no(code, refuse("no_active_meter", event_name=event.event_name))
        mapping = meter["customer_mapping"]["event_payload_key"]
        customer_id = event.payload.get(mapping)
        own_time = self._time_of(customer_id) if isinstance(customer_id, str) else None
        if own_time is not None:
            now = own_time
        timestamp = now if event.timestamp is None else event.timestamp
        if timestamp < now - PAST_SECONDS:
            return no("timestamp_too_far_in_past", refuse("event_too_old"))
        if timestamp > now + FUTURE_SECONDS:
            return no("timestamp_in_future", refuse("event_in_future"))
        value = Decimal(1)
        key = meter["value_settings"]["event_payload_key"]
        if key in event.payload or meter["default_aggregation"]["formula"] != "count":
            raw = event.payload.get(key)
            if raw is None:
                return no("meter_event_value_not_found", refuse("event_payload_key", key=key))
            if not isinstance(raw, str) or not _NUMBER.match(raw) or len(raw) > 100:
                return no("meter_event_invalid_value", refuse("event_value", key=key, value=str(raw)[:60]))
            if len(raw) > MAX_DIGITS and len(raw.replace(".", "").lstrip("-0")) > MAX_DIGITS:
                long = refuse("event_value_digits", key=key, most=MAX_DIGITS, value=raw)
                return no("meter_event_value_too_many_digits", long)
            value = Decimal(raw)
        if not customer_id:
            return no("meter_event_no_customer_defined", refuse("event_payload_key", key=mapping))
        if own_time is None:
            unknown = refuse("no_such", kind="customer", id=str(customer_id)[:60])
            return no("meter_event_customer_not_found", unknown)
        return Accepted(event, meter, customer_id, value, timestamp, now)

    def meter(self, event_name: str) -> Obj | None:
        """The active meter with an event name, else an inactive one."""
        if event_name not in self._meters:
            found = self._call.store.query("billing.meter", {"event_name": event_name})
            active = [meter for meter in found if meter["status"] == "active"]
            self._meters[event_name] = next(iter(active or found), None)
        return self._meters[event_name]

    def _time_of(self, id: str) -> int | None:
        """The time of a customer, by its test clock if it has one; None for an unknown customer."""
        if id not in self._customers:
            found = self._call.store.get("customer", id)
            self._customers[id] = None if found is None or found.get("deleted") else self._call.now(found)
        return self._customers[id]


def taken(call: Call, identifiers: Sequence[str]) -> set[str]:
    """The given identifiers that a meter event of the last 24 hours already has."""
    since = call.now() - UNIQUE_SECONDS
    marks = ",".join("?" * len(identifiers))
    sql = f"SELECT identifier FROM meter_events WHERE scope = ? AND identifier IN ({marks}) AND received > ?"
    return {row[0] for row in call.store.connection.execute(sql, [call.store.scope, *identifiers, since])}


def keep(call: Call, verdicts: Sequence[Accepted | Rejected]) -> None:
    """Store validated events, and errors to report; both become visible after the lag."""
    lag = float(call.settings.get("lag", 0.0))
    received = call.now()
    scope = call.store.scope
    accepted = [verdict for verdict in verdicts if isinstance(verdict, Accepted)]
    call.store.connection.executemany(
        "INSERT INTO meter_events"
        " (scope, meter, customer, identifier, event_name, value, fraction, timestamp, received, visible)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (
                scope,
                verdict.meter["id"],
                verdict.customer,
                verdict.event.identifier,
                verdict.event.event_name,
                *usage_totals.parts(verdict.value),
                verdict.timestamp,
                received,
                verdict.now + lag,
            )
            for verdict in accepted
        ],
    )
    counted: dict[str, int] = {}
    for verdict in accepted:
        moment = max(verdict.timestamp, math.ceil(verdict.now + lag))
        counted[verdict.customer] = min(moment, counted.get(verdict.customer, moment))
    _tell(call, counted)
    errors = [
        (
            scope,
            None if verdict.meter is None else verdict.meter["id"],
            verdict.code,
            verdict.refusal.message,
            verdict.event.identifier,
            received + lag,
        )
        for verdict in verdicts
        if isinstance(verdict, Rejected)
    ]
    if errors:
        call.store.connection.executemany(
            "INSERT INTO meter_event_errors (scope, meter, code, message, identifier, visible)"
            " VALUES (?, ?, ?, ?, ?, ?)",
            errors,
        )


#: Called when customers' usage will count differently from a moment on: functions of (call, moments by id).
ON_USAGE: Final[list[Callable[[Call, dict[str, int]], None]]] = []


def _tell(call: Call, counted: dict[str, int]) -> None:
    if counted:
        for listener in ON_USAGE:
            listener(call, counted)


def cancel(call: Call, event_name: str, identifier: str) -> str:
    """Cancel an event; returns the status of the adjustment."""
    row = call.store.connection.execute(
        "SELECT id, received, cancelled, customer FROM meter_events WHERE scope = ? AND identifier = ?"
        " AND event_name = ? ORDER BY id DESC LIMIT 1",
        (call.store.scope, identifier, event_name),
    ).fetchone()
    if row is None:
        if Desk(call).meter(event_name) is None:
            raise refuse("no_active_meter", event_name=event_name)
        raise refuse("no_event", identifier=identifier)
    id, received, cancelled, customer_id = row
    if cancelled is not None:
        raise refuse("event_cancelled", identifier=identifier)
    if call.now() - received > CANCEL_SECONDS:
        raise refuse("event_cancel_late")
    lag = float(call.settings.get("lag", 0.0))
    now = call.now(call.store.get("customer", customer_id))
    call.store.connection.execute("UPDATE meter_events SET cancelled = ? WHERE id = ?", (now + lag, id))
    _tell(call, {customer_id: math.ceil(now + lag)})
    return "pending" if lag > 0 else "complete"


def report(call: Call) -> None:
    """Turn due errors into error-report events, one for each meter and ten seconds."""
    scope = call.store.scope
    due = call.store.connection.execute(
        "SELECT id, meter, code, message, identifier, visible FROM meter_event_errors WHERE scope = ? AND visible <= ?"
        " ORDER BY id",
        (scope, call.now()),
    ).fetchall()
    groups: dict[tuple[str | None, int], list[Any]] = {}
    for row in due:
        groups.setdefault((row[1], int(row[5]) // REPORT_SECONDS * REPORT_SECONDS), []).append(row)
    for (meter, start), rows in groups.items():
        call.store.put(_report(call, meter, start, rows))
    if due:
        call.store.connection.executemany("DELETE FROM meter_event_errors WHERE id = ?", [(row[0],) for row in due])


def _report(call: Call, meter: str | None, start: int, rows: list[Any]) -> Obj:
    by_code: dict[str, list[Any]] = {}
    for row in rows:
        by_code.setdefault(row[2], []).append(row)
    many = f"{len(rows)} invalid event{'s' if len(rows) != 1 else ''}"
    event: Obj = {
        "id": mint("evt_test_65" if not call.livemode else "evt_65", 30),
        "object": "v2.core.event",
        "changes": None,
        "context": None,
        "created": rfc3339(call.now()),
        "data": {
            "developer_message_summary": f"There {'is' if len(rows) == 1 else 'are'} {many}",
            "reason": {
                "error_count": len(rows),
                "error_types": [
                    {
                        "code": code,
                        "error_count": len(group),
                        "sample_errors": [
                            {"error_message": row[3], "request": {"identifier": row[4]}} for row in group[:MAX_SAMPLES]
                        ],
                    }
                    for code, group in sorted(by_code.items())
                ],
            },
            "validation_end": rfc3339(start + REPORT_SECONDS),
            "validation_start": rfc3339(start),
        },
        "livemode": call.livemode,
        "reason": None,
        "snapshot_event": None,
        "type": "v1.billing.meter.no_meter_found" if meter is None else "v1.billing.meter.error_report_triggered",
        "_created": call.now(),
    }
    if meter is not None:
        event["related_object"] = {"id": meter, "type": "billing.meter", "url": f"/v1/billing/meters/{meter}"}
    return event


def rfc3339(seconds: int) -> str:
    """Unix seconds as /v2 writes a time."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")


def parse_rfc3339(text: Any, param: str) -> int:
    """A time of /v2 as Unix seconds; refuses a number or a time without a zone."""
    if isinstance(text, str) and len(text) <= 40 and "T" in text.upper():
        try:
            moment = datetime.fromisoformat(text)
            if moment.tzinfo is not None:
                return int(moment.timestamp())
        except (ValueError, OverflowError):
            pass
    raise refuse("v2_timestamp", param=param, value=json.dumps(text)[:60])
