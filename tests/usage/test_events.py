"""What may be a meter event, what may not, and how each API gets it written."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usage.errors import InvalidEvent, redact
from usage.events import (
    Event,
    decimal_text,
    digest_of,
    make_event,
    new_identifier,
    utc_seconds,
    v1_form,
    v2_object,
)

NOW = 1_800_000_000.0


def make(**changes: Any) -> Event:
    return make_event(**{"event_name": "tokens", "customer": "cus_1", "value": 1, "now": NOW, **changes})


@pytest.mark.parametrize("value", [1200, "1200", Decimal(1200), Decimal("1.2E3"), " 1200 ", "+1200", "1200.0"])
def test_a_whole_value_is_taken_in_any_exact_form(value: Any) -> None:
    assert make(value=value).value == "1200"


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (1.0, "float"),
        (True, "bool"),
        (None, "NoneType"),
        ("0.0000000000001", "12 decimal places"),
        (Decimal("1234567890.123456"), "15 digits"),
        ("1e999999", "15 digits"),
        (10**15, "15 digits"),
        ("1234567890123456", "15 digits"),
        ("9" * 5000, "not a number|15 digits"),
        ("NaN", "not a number"),
        ("infinity", "not a number"),
        ("twelve", "not a number"),
        ("", "not a number"),
        (-5, "correction=True"),
        ("-5", "correction=True"),
    ],
)
def test_a_value_that_stripe_would_refuse_or_misread_is_refused(value: Any, why: str) -> None:
    with pytest.raises(InvalidEvent, match=why) as caught:
        make(value=value)
    assert caught.value.field == "value"
    assert "\n" not in str(caught.value)


def test_a_number_too_long_to_print_is_refused_in_a_short_sentence() -> None:
    with pytest.raises(InvalidEvent, match="15 digits") as caught:
        make(value=10**5000)
    assert len(str(caught.value)) < 130


def test_fifteen_digits_and_a_declared_correction_are_taken() -> None:
    assert make(value=10**15 - 1).value == str(10**15 - 1)
    assert make(value=-5, correction=True).value == "-5"


@pytest.mark.parametrize(
    ("timestamp", "seconds"),
    [
        (1_800_000_000, 1_800_000_000),
        (1_799_999_999.99, 1_799_999_999),
        ("1800000000", 1_800_000_000),
        ("2027-01-15T08:00:00Z", 1_800_000_000),
        ("2027-01-15T10:00:00+02:00", 1_800_000_000),
        (datetime(2027, 1, 15, 8, tzinfo=UTC), 1_800_000_000),
        (datetime(2027, 1, 15, 3, tzinfo=timezone(timedelta(hours=-5))), 1_800_000_000),
        (None, 1_800_000_000),
    ],
)
def test_timestamps_are_taken_in_any_unambiguous_form(timestamp: Any, seconds: int) -> None:
    assert make(timestamp=timestamp).timestamp == seconds


@pytest.mark.parametrize(
    ("timestamp", "why"),
    [
        (datetime(2027, 1, 15, 8), "no time zone"),
        ("2027-01-15T08:00:00", "no time zone"),
        ("2027-01-15", "no time zone"),
        ("yesterday", "neither"),
        ("", "neither"),
        (int(NOW) + 301, "future"),
        (int(NOW) - 35 * 86_400 - 1, "35 days"),
        (int(NOW) - 36 * 86_400, "36 days old"),
        (int(NOW * 1000), "milliseconds"),
        (float("nan"), "neither"),
        (float("inf"), "neither"),
        ([], "list"),
        ("9" * 400, "milliseconds"),
    ],
)
def test_a_time_that_would_bill_wrongly_is_refused(timestamp: Any, why: str) -> None:
    with pytest.raises(InvalidEvent, match=why) as caught:
        make(timestamp=timestamp)
    assert caught.value.field == "timestamp"


def test_the_edges_of_the_window_are_taken() -> None:
    assert make(timestamp=int(NOW) + 300).timestamp == NOW + 300
    assert make(timestamp=int(NOW) - 35 * 86_400).timestamp == NOW - 35 * 86_400


@pytest.mark.parametrize(
    ("field", "text"),
    [
        ("identifier", "x" * 101),
        ("identifier", "a\nb"),
        ("identifier", " a"),
        ("identifier", "\ud800"),
        ("event_name", ""),
        ("event_name", "x" * 101),
        ("event_name", 5),
        ("customer", ""),
        ("customer", "  "),
        ("customer", None),
        ("customer", "cus_1\x00"),
    ],
)
def test_names_that_stripe_would_not_keep_are_refused(field: str, text: Any) -> None:
    with pytest.raises(InvalidEvent) as caught:
        make(**{field: text})
    assert caught.value.field == field
    assert len(str(caught.value)) < 200


def test_dimensions_become_payload_strings() -> None:
    event = make(dimensions={"region": "eu", "model": 4})
    assert v2_object(event, "stripe_customer_id", "value")["payload"] == {
        "model": "4",
        "region": "eu",
        "stripe_customer_id": "cus_1",
        "value": "1",
    }
    for bad in ({"value": "1"}, {"region": 1.5}, {"": "x"}, {"region": ""}, "region"):
        with pytest.raises(InvalidEvent, match="dimensions"):
            make(dimensions=bad)


def test_each_api_gets_strings_and_its_own_time() -> None:
    event = Event("id-1", "tokens", "cus_1", "-5", 1_800_000_000, None)
    assert v1_form(event, "who", "much") == [
        ("event_name", "tokens"),
        ("identifier", "id-1"),
        ("timestamp", "1800000000"),
        ("payload[who]", "cus_1"),
        ("payload[much]", "-5"),
    ]
    assert v2_object(event, "who", "much") == {
        "event_name": "tokens",
        "identifier": "id-1",
        "timestamp": "2027-01-15T08:00:00Z",
        "payload": {"who": "cus_1", "much": "-5"},
    }


@given(st.integers(-(10**15) + 1, 10**15 - 1))
def test_every_whole_number_of_fifteen_digits_survives(number: int) -> None:
    assert decimal_text(number, correction=True) == str(number)
    assert decimal_text(str(number), correction=True) == str(number)
    assert decimal_text(Decimal(number), correction=True) == str(number)


@given(st.text(max_size=40))
def test_any_text_is_a_value_or_an_invalid_event(text: str) -> None:
    try:
        number = decimal_text(text, correction=True)
    except InvalidEvent:
        return
    assert Decimal(text.strip()) == Decimal(number)


@given(st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30)), st.integers(-23, 23))
def test_a_time_is_the_same_in_every_zone(moment: datetime, hours: int) -> None:
    zoned = moment.replace(tzinfo=timezone(timedelta(hours=hours)))
    try:
        seconds = utc_seconds(zoned)
    except InvalidEvent as problem:
        if "milliseconds" not in problem.problem:
            raise
        return
    assert datetime.fromtimestamp(0, UTC) + timedelta(seconds=seconds) == zoned.replace(microsecond=0)
    assert utc_seconds(zoned.isoformat()) == seconds


def test_identifiers_are_fresh_and_ordered_in_time() -> None:
    many = [new_identifier() for _ in range(2000)]
    assert len(set(many)) == 2000
    assert all(len(one) <= 100 for one in many)
    assert new_identifier(lambda: 1.0) < new_identifier(lambda: 1.002)


def test_derived_identifiers_depend_on_every_part_and_its_borders() -> None:
    assert digest_of("ab", "c") == digest_of("ab", "c")
    assert digest_of("ab", "c") != digest_of("a", "bc")
    assert len(f"correction-{digest_of('x' * 100)}") <= 100


@pytest.mark.parametrize(
    "text",
    [
        "Expired API Key provided: sk_test_51AbCdEfGhIj",
        "rk_live_0123456789abcdef is wrong",
        "Authorization: Bearer tok_abc.def-123",
        "whsec_abcdef123456",
    ],
)
def test_keys_never_show(text: str) -> None:
    shown = redact(text)
    assert "***" in shown
    for secret in ("51AbCdEfGhIj", "0123456789abcdef", "tok_abc", "abcdef123456"):
        assert secret not in shown
