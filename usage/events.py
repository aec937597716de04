"""One meter event: validated on entry, then formatted for each of Stripe's two APIs."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from decimal import Context, Decimal, InvalidOperation
from functools import lru_cache
from operator import index
from typing import Any, NamedTuple, SupportsIndex

from .errors import InvalidEvent

Value = SupportsIndex | str | Decimal
Timestamp = int | float | str | datetime


class Event(NamedTuple):
    """A meter event as the spool keeps it. `timestamp` is UTC seconds."""

    identifier: str
    event_name: str
    customer: str
    value: str  # the decimal number as canonical plain text: no exponent, no trailing zeros
    timestamp: int
    dimensions: str | None  # additional payload keys as a JSON object with sorted keys


MAX_NAME = 100  # of event names and identifiers: https://docs.stripe.com/api/billing/meter-event/create
MAX_DIGITS = 15  # significant digits, since 2026-04-22.dahlia
MAX_PLACES = 12
PAST_SECONDS = 35 * 86_400  # "within the past 35 calendar days"
FUTURE_SECONDS = 300  # "or up to 5 minutes in the future", for clock drift only
CUSTOMER_KEY, VALUE_KEY = "stripe_customer_id", "value"  # the payload keys of a meter unless it names others


def decimal_text(value: Value, *, correction: bool = False) -> str:
    """A value as canonical decimal text: 1200 -> "1200", "1.50" -> "1.5", Decimal("1.2E3") -> "1200".

    Accepts whole numbers of any type (numpy's too), str and Decimal, with Stripe's limits: at most 15 significant
    digits and 12 places. Refuses floats: they lose units silently. A negative value reduces a customer's bill, so it
    needs `correction=True`. Raises InvalidEvent.
    """
    if isinstance(value, (float, bool)):
        advice = "floats lose units silently" if isinstance(value, float) else f"{value} is not a number of units"
        kind = type(value).__name__
        raise InvalidEvent("value", f"{value!r} is a {kind}; pass an int, a str or a Decimal, {advice}")
    try:
        number = Decimal(
            value.strip() if isinstance(value, str) else value if isinstance(value, Decimal) else index(value)
        )
    except TypeError:
        raise InvalidEvent("value", f"is a {type(value).__name__}; pass an int, a str or a Decimal") from None
    except InvalidOperation:
        number = Decimal("nan")
    text = shown(value.strip() if isinstance(value, str) else str(number))
    if not number.is_finite():
        raise InvalidEvent("value", f"{text} is not a number")
    huge = bool(number) and abs(number.adjusted()) > 40  # formatting would expand 1E+999999 digit by digit
    plain = "0" if huge or not number else format(Context(prec=10_000).normalize(number), "f")
    if huge or len(plain.replace(".", "").lstrip("-0")) > MAX_DIGITS:
        raise InvalidEvent("value", f"{text} has more than {MAX_DIGITS} digits, which Stripe refuses")
    if len(plain.partition(".")[2]) > MAX_PLACES:
        raise InvalidEvent("value", f"{text} has more than {MAX_PLACES} decimal places, which Stripe refuses")
    if number < 0 and not correction:
        raise InvalidEvent("value", f"{text} is negative; if it corrects earlier usage, pass correction=True")
    return plain


def exact_sum(values: Iterable[str | Decimal]) -> Decimal:
    """The exact sum of decimal numbers or their texts."""
    wide, total = Context(prec=60), Decimal(0)
    for value in values:
        total = wide.add(total, Decimal(value))
    return total


def utc_seconds(timestamp: Timestamp) -> int:
    """A timestamp as whole UTC seconds.

    Accepts Unix seconds (int, or float as from `time.time()`), an aware datetime, or an ISO 8601 string with an offset.
    Refuses a time without a zone: on a machine in another zone it could fall into another billing period.
    """
    moment: Any = timestamp.strip() if isinstance(timestamp, str) else timestamp
    try:
        if isinstance(moment, str):
            moment = int(moment) if moment.isascii() and moment.isdigit() else datetime.fromisoformat(moment)
        elif not isinstance(moment, datetime):
            moment = int(moment) if isinstance(moment, float) else index(moment)  # numpy's integers too
    except TypeError:
        why = f"is a {type(moment).__name__}; pass Unix seconds, an aware datetime or ISO 8601 text"
        raise InvalidEvent("timestamp", why) from None
    except (ValueError, OverflowError):
        why = f"{shown(str(timestamp))} is neither Unix seconds nor ISO 8601 with an offset"
        raise InvalidEvent("timestamp", why) from None
    if isinstance(moment, int):
        if moment > 100_000_000_000:
            raise InvalidEvent("timestamp", f"{shown(str(timestamp))} looks like milliseconds; pass seconds")
        return moment
    if moment.utcoffset() is None:
        raise InvalidEvent("timestamp", f"{moment.isoformat()} has no time zone; add one, for example +00:00")
    # floored before it becomes a float: an event never moves into the next second
    return int(moment.replace(microsecond=0).timestamp() // 1)


def check_window(timestamp: int, now: float, *, future: bool = True) -> None:
    """Raise InvalidEvent unless Stripe would accept `timestamp` (UTC seconds) at `now`.

    future: whether our clock decides what is in the future; in test mode Stripe's test clocks do.
    """
    if future and timestamp > now + FUTURE_SECONDS:
        why = "is in the future; Stripe accepts at most 5 minutes of clock drift"
        raise InvalidEvent("timestamp", f"{iso(timestamp)} {why}")
    if timestamp < now - PAST_SECONDS:
        why = f"is {int((now - timestamp) // 86_400)} days old; Stripe accepts meter events of the past 35 days"
        raise InvalidEvent("timestamp", f"{iso(timestamp)} {why}")


def _name(field: str, text: object, limit: int) -> str:
    if type(text) is not str:
        raise InvalidEvent(field, f"is a {type(text).__name__}; pass a str")
    if not text or text.isspace():
        raise InvalidEvent(field, "is empty")
    if len(text) > limit:
        raise InvalidEvent(field, f"has {len(text)} characters; at most {limit} are allowed")
    if not text.isprintable() or text != text.strip():
        raise InvalidEvent(field, f"{shown(text)} has characters that cannot be printed, or spaces around it")
    return text


def shown(text: str) -> str:
    """A text for an error message: quoted and shortened."""
    return repr(text if len(text) <= 60 else text[:57] + "...")


def dimensions_json(dimensions: Mapping[str, object] | None) -> str | None:
    """Additional payload keys as JSON with sorted keys, or None. Values become strings, as in Stripe's payload."""
    if not dimensions:
        return None
    if not hasattr(dimensions, "items"):
        raise InvalidEvent("dimensions", f"is a {type(dimensions).__name__}; pass a mapping")
    checked: dict[str, str] = {}
    for key, value in dimensions.items():
        field = f"dimensions[{_name('dimensions', key, 100)}]"
        if key in (CUSTOMER_KEY, VALUE_KEY):
            raise InvalidEvent(field, "is the payload key of the customer or the value; pass `customer` or `value`")
        if type(value) not in (int, str):
            raise InvalidEvent(field, f"is a {type(value).__name__}; pass a str or an int")
        checked[key] = _name(field, str(value), 500)
    return json.dumps(checked, sort_keys=True, separators=(",", ":"))


def make_event(
    event_name: str,
    customer: str,
    value: Value = 1,
    timestamp: Timestamp | None = None,
    identifier: str | None = None,
    dimensions: Mapping[str, object] | None = None,
    *,
    correction: bool = False,
    now: float,
    future: bool = True,
) -> Event:
    """A validated Event. `now` is UTC seconds; `future` as in `check_window`. Raises InvalidEvent for the first invalid
    field."""
    _name("event_name", event_name, MAX_NAME)
    _name("customer", customer, 255)
    simple = type(value) is int and 0 <= value < 10**MAX_DIGITS
    text = str(value) if simple else decimal_text(value, correction=correction)
    if timestamp is None:
        seconds = int(now)
    else:
        seconds = utc_seconds(timestamp)
        check_window(seconds, now, future=future)
    identifier = new_identifier() if identifier is None else _name("identifier", identifier, MAX_NAME)
    return Event(identifier, event_name, customer, text, seconds, dimensions_json(dimensions) if dimensions else None)


def new_identifier(clock: Callable[[], float] = time.time) -> str:
    """A fresh identifier: 12 hex digits of milliseconds, then 80 random bits.

    Time first keeps the spool's unique index append-only, which makes recording cheap.
    """
    return f"{int(clock() * 1000):012x}{os.urandom(10).hex()}"


def digest_of(*parts: str) -> str:
    """160 bits of blake2b over the parts, in hex. They are length-prefixed, so ("ab", "c") and ("a", "bc") differ."""
    from hashlib import blake2b  # loads OpenSSL

    digest = blake2b(digest_size=20)
    for part in parts:
        data = part.encode("utf-8", "surrogatepass")
        digest.update(b"%d:%b" % (len(data), data))
    return digest.hexdigest()


@lru_cache(1024)  # a batch has few different seconds
def iso(timestamp: int) -> str:
    """UTC seconds as RFC 3339, for the v2 API; a number outside the calendar stays a number."""
    try:
        return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(timestamp))
    except (OverflowError, ValueError, OSError):
        return str(timestamp)


def v2_object(event: Event, customer_key: str, value_key: str) -> dict[str, Any]:
    """One member of POST /v2/billing/meter_event_stream `events`. The two keys are the meter's payload keys."""
    body: dict[str, str] = {}
    if event.dimensions:
        body.update(json.loads(event.dimensions))
    body[customer_key], body[value_key] = event.customer, event.value
    when = iso(event.timestamp)
    return {"event_name": event.event_name, "identifier": event.identifier, "timestamp": when, "payload": body}


def v1_form(event: Event, customer_key: str, value_key: str) -> list[tuple[str, str]]:
    """The same as form fields of POST /v1/billing/meter_events, the timestamp in Unix seconds."""
    fields = [("event_name", event.event_name), ("identifier", event.identifier), ("timestamp", str(event.timestamp))]
    payload = v2_object(event, customer_key, value_key)["payload"]
    return [*fields, *((f"payload[{key}]", text) for key, text in payload.items())]
