"""Usage: time windows, identifiers, one at a time, the stream, lag, aggregation, summaries, error reports."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
import stripe

from sandbox import Sandbox, usage_totals
from sandbox.client import SandboxHTTPClient
from sandbox.store import Store

from .bills import World
from .catalog import meter, plain
from .conftest import NEW_YEAR, Clock, Control, Held

HOUR, DAY = 3600, 86400


@pytest.fixture
def tokens(client: stripe.StripeClient) -> stripe.billing.Meter:
    return meter(client, "tokens")


@pytest.fixture
def customer(client: stripe.StripeClient) -> stripe.Customer:
    return client.v1.customers.create({"name": "Ada"})


Send = Callable[..., stripe.billing.MeterEvent]


@pytest.fixture
def send(client: stripe.StripeClient, tokens: stripe.billing.Meter, customer: stripe.Customer) -> Send:
    """send(value, **more): a v1 event of Ada's."""

    def call(value: str = "1", **more: Any) -> stripe.billing.MeterEvent:
        params: Any = {
            "event_name": tokens.event_name,
            "payload": {"stripe_customer_id": customer.id, "value": value},
            **more,
        }
        return client.v1.billing.meter_events.create(params)

    return call


def summaries(
    client: stripe.StripeClient, meter_id: str, customer_id: str, start: int, end: int, **more: Any
) -> list[tuple[int, int, float]]:
    params: Any = {"customer": customer_id, "start_time": start, "end_time": end, **more}
    answer = client.v1.billing.meters.event_summaries.list(meter_id, params)
    return [(item.start_time, item.end_time, item.aggregated_value) for item in answer.data]


def total(client: stripe.StripeClient, meter_id: str, customer_id: str) -> float | None:
    found = summaries(client, meter_id, customer_id, NEW_YEAR - 40 * DAY, NEW_YEAR + 40 * DAY)
    return found[0][2] if found else None


# -- one event --------------------------------------------------------------------------------------------------------


def test_an_event_is_echoed_with_its_defaults(send: Send) -> None:
    event = send("5")
    assert event.timestamp == NEW_YEAR
    assert event.identifier
    assert send("5", identifier="mine", timestamp=NEW_YEAR - 60).identifier == "mine"


@pytest.mark.parametrize(
    ("offset", "accepted"),
    [(-35 * DAY, True), (-35 * DAY - 1, False), (300, True), (301, False)],
    ids=["35 days", "35 days and a second", "5 minutes ahead", "5 minutes and a second ahead"],
)
def test_the_time_window(send: Send, offset: int, accepted: bool) -> None:
    if accepted:
        assert send(timestamp=NEW_YEAR + offset).timestamp == NEW_YEAR + offset
    else:
        with pytest.raises(stripe.InvalidRequestError) as caught:
            send(timestamp=NEW_YEAR + offset)
        assert caught.value.param == "timestamp"


@pytest.mark.parametrize(
    "value",
    [
        *("", "x", "1e3", "+1", " 1", "٣", "1" * 16, "-" + "1" * 16, "--1"),
        *("1.", ".5", "1.2.3", "-.5", "0." + "0" * 12 + "1", "1234567890123.456", "NaN"),
    ],
)
def test_bad_values_are_refused(
    send: Send, client: stripe.StripeClient, tokens: stripe.billing.Meter, customer: stripe.Customer, value: str
) -> None:
    with pytest.raises(stripe.InvalidRequestError):
        send(value)
    assert total(client, tokens.id, customer.id) is None


@pytest.mark.parametrize(
    "value", ["0", "-5", "007", "9" * 15, "1.5", "-0.25", "0.000000000001", "123456789012.345", "2.0"]
)
def test_numbers_are_taken(
    send: Send, client: stripe.StripeClient, tokens: stripe.billing.Meter, customer: stripe.Customer, value: str
) -> None:
    send(value)
    assert total(client, tokens.id, customer.id) == float(value)


@pytest.mark.parametrize(
    ("formula", "quantity", "amount"),
    [
        # 3.75 − 1.25 + 0.25 = 2.75 × 10 cents = 27.5; 0.25 × 10 = 2.5; 3 × 10
        ("sum", "2.75", 28),
        ("last", "0.25", 3),
        ("count", "3", 30),
    ],
)
def test_decimals_are_billed_as_they_are(client: stripe.StripeClient, formula: Any, quantity: str, amount: int) -> None:
    world = World(client)
    hours = world.usage_price("Hours", world.meter("hours", formula), unit_amount_decimal="10")
    subscription = world.subscribe(hours)
    for value in ("3.75", "-1.25", "0.25"):
        client.v1.billing.meter_events.create(
            {"event_name": "hours", "payload": {"stripe_customer_id": world.customer.id, "value": value}}
        )
    [line] = world.preview(subscription.id).lines.data
    assert (str(line.quantity_decimal), line.quantity, line.amount) == (quantity, int(float(quantity)), amount)


def test_an_identifier_is_taken_for_24_hours(send: Send, clock: Clock) -> None:
    send(identifier="once")
    clock.advance(DAY - 1)
    with pytest.raises(stripe.InvalidRequestError, match="already exists with identifier once"):
        send(identifier="once")
    clock.advance(2)
    send(identifier="once")


def test_a_replayed_request_is_not_a_duplicate(
    client: stripe.StripeClient, tokens: stripe.billing.Meter, customer: stripe.Customer
) -> None:
    params: Any = {
        "event_name": "tokens",
        "payload": {"stripe_customer_id": customer.id, "value": "3"},
        "identifier": "i",
    }
    options: Any = {"idempotency_key": "same"}
    first = client.v1.billing.meter_events.create(params, options)
    second = client.v1.billing.meter_events.create(params, options)
    assert plain(first) == plain(second)
    assert total(client, tokens.id, customer.id) == 3


def test_a_deactivated_meter_takes_no_events(
    send: Send, client: stripe.StripeClient, tokens: stripe.billing.Meter
) -> None:
    client.v1.billing.meters.deactivate(tokens.id)
    with pytest.raises(stripe.InvalidRequestError, match="No active meter found"):
        send()
    client.v1.billing.meters.reactivate(tokens.id)
    send()


def test_payload_keys_are_the_meters_own(client: stripe.StripeClient, customer: stripe.Customer) -> None:
    own = meter(
        client,
        "own",
        customer_mapping={"type": "by_id", "event_payload_key": "who"},
        value_settings={"event_payload_key": "bytes"},
    )
    client.v1.billing.meter_events.create({"event_name": "own", "payload": {"who": customer.id, "bytes": "9"}})
    assert total(client, own.id, customer.id) == 9
    for payload in ({"stripe_customer_id": customer.id, "bytes": "9"}, {"who": customer.id, "value": "9"}):
        with pytest.raises(stripe.InvalidRequestError) as caught:
            client.v1.billing.meter_events.create({"event_name": "own", "payload": payload})
        assert caught.value.param == "payload"


def test_one_event_at_a_time_for_a_customer_and_meter(
    send: Send, client: stripe.StripeClient, tokens: stripe.billing.Meter, control: Control, held: Held
) -> None:
    other = client.v1.customers.create({"name": "Eve"})
    control("POST", "faults", method="POST", path="/v1/billing/meter_events", delay=1)
    slow = threading.Thread(target=send)
    slow.start()
    assert held.reached.wait(60)
    with pytest.raises(stripe.APIError) as caught:
        send()
    assert caught.value.http_status == 409
    assert caught.value.error is not None
    assert caught.value.error.code == "too_many_concurrent_requests"
    client.v1.billing.meter_events.create(
        {"event_name": tokens.event_name, "payload": {"stripe_customer_id": other.id, "value": "1"}}
    )
    held.released.set()
    slow.join()
    send()


#: Holds a claim on a sandbox file until it is killed.
CLAIM = """
import sys
from pathlib import Path
from sandbox.inflight import Claim, Claims

with Claims(Path(sys.argv[1])).held(sys.argv[2], [Claim(sys.argv[3], AssertionError)]):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_another_process_s_event_is_seen_until_it_ends_or_is_killed(sandbox: Sandbox, send: Send) -> None:
    with sandbox.database.reading() as connection:
        scope = connection.execute("SELECT scope FROM objects WHERE kind = 'customer'").fetchone()[0]
        ids = dict(
            connection.execute("SELECT kind, id FROM objects WHERE kind IN ('customer', 'billing.meter')").fetchall()
        )
    name = f"meter event {ids['billing.meter']} {ids['customer']}"
    command = [sys.executable, "-c", CLAIM, str(sandbox.database.path), scope, name]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(stripe.APIError) as caught:
            send()
        assert caught.value.http_status == 409
        other.kill()
    send()


# -- aggregation ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("formula", "expected"), [("sum", 11), ("count", 3), ("last", 7)])
def test_formulas(client: stripe.StripeClient, customer: stripe.Customer, formula: str, expected: int) -> None:
    made = meter(client, "m", default_aggregation={"formula": formula})
    for value, timestamp in [("1", 0), ("7", -60), ("3", -120)]:
        client.v1.billing.meter_events.create(
            {
                "event_name": "m",
                "payload": {"stripe_customer_id": customer.id, "value": value},
                "timestamp": NEW_YEAR + timestamp,
            }
        )
    if formula == "last":
        # The newest by its timestamp, not by when it was sent.
        expected = 1
    assert total(client, made.id, customer.id) == expected


def test_count_needs_no_value(client: stripe.StripeClient, customer: stripe.Customer) -> None:
    made = meter(client, "m", default_aggregation={"formula": "count"})
    client.v1.billing.meter_events.create({"event_name": "m", "payload": {"stripe_customer_id": customer.id}})
    assert total(client, made.id, customer.id) == 1


@pytest.mark.parametrize(("window", "expected"), [("hour", 2 + 8), ("day", 8), (None, 1 + 2 + 8)])
def test_event_time_window_keeps_the_event_sent_last(
    client: stripe.StripeClient, customer: stripe.Customer, window: str | None, expected: int
) -> None:
    more: Any = {"event_time_window": window} if window else {}
    made = meter(client, "m", **more)
    # Two in the first hour, one in the second, all on one day.
    for value, offset in [("1", -5 * HOUR), ("2", -5 * HOUR), ("8", -4 * HOUR)]:
        client.v1.billing.meter_events.create(
            {
                "event_name": "m",
                "payload": {"stripe_customer_id": customer.id, "value": value},
                "timestamp": NEW_YEAR + offset,
            }
        )
    assert total(client, made.id, customer.id) == expected


def test_sums_do_not_overflow(
    sandbox: Sandbox, client: stripe.StripeClient, tokens: stripe.billing.Meter, customer: stripe.Customer
) -> None:
    """Ten thousand events of fifteen nines are more than 64 bits hold."""
    with sandbox.database.writing() as connection:
        scope = connection.execute("SELECT scope FROM objects LIMIT 1").fetchone()[0]
        connection.executemany(
            "INSERT INTO meter_events (scope, meter, customer, identifier, event_name, value, fraction, timestamp,"
            " received, visible) VALUES (?, ?, ?, ?, 'tokens', ?, ?, ?, ?, ?)",
            [
                (scope, tokens.id, customer.id, str(i), 10**15 - 1, 10**12 - 1, NEW_YEAR, NEW_YEAR, NEW_YEAR)
                for i in range(10_000)
            ],
        )
        found = usage_totals.aggregate(
            Store(connection, scope), plain(tokens), customer.id, NEW_YEAR, NEW_YEAR + 1, NEW_YEAR
        )
    assert found == 10_000 * (10**15 - Decimal("0.000000000001"))


# -- summaries --------------------------------------------------------------------------------------------------------


def test_summaries_by_hour_and_day(
    send: Send, client: stripe.StripeClient, tokens: stripe.billing.Meter, customer: stripe.Customer
) -> None:
    for value, offset in [("1", -3 * DAY), ("2", -3 * DAY + HOUR), ("4", -3 * DAY + HOUR + 59), ("8", -DAY)]:
        send(value, timestamp=NEW_YEAR + offset)
    first = NEW_YEAR - 3 * DAY
    assert summaries(client, tokens.id, customer.id, first, NEW_YEAR, value_grouping_window="hour") == [
        (NEW_YEAR - DAY, NEW_YEAR - DAY + HOUR, 8),
        (first + HOUR, first + 2 * HOUR, 6),
        (first, first + HOUR, 1),
    ]
    assert summaries(client, tokens.id, customer.id, first, NEW_YEAR, value_grouping_window="day") == [
        (NEW_YEAR - DAY, NEW_YEAR, 8),
        (first, first + DAY, 7),
    ]
    assert summaries(client, tokens.id, customer.id, first, NEW_YEAR) == [(first, NEW_YEAR, 15)]


def test_the_start_is_in_and_the_end_is_out(
    send: Send, client: stripe.StripeClient, tokens: stripe.billing.Meter, customer: stripe.Customer
) -> None:
    send("1", timestamp=NEW_YEAR - 60)
    send("2", timestamp=NEW_YEAR)
    assert summaries(client, tokens.id, customer.id, NEW_YEAR - 60, NEW_YEAR) == [(NEW_YEAR - 60, NEW_YEAR, 1)]
    assert summaries(client, tokens.id, customer.id, NEW_YEAR, NEW_YEAR + 60) == [(NEW_YEAR, NEW_YEAR + 60, 2)]


@pytest.mark.parametrize(
    ("start", "end", "window", "param"),
    [
        (NEW_YEAR + 1, NEW_YEAR + 60, None, "start_time"),
        (NEW_YEAR, NEW_YEAR + 61, None, "end_time"),
        (NEW_YEAR + 60, NEW_YEAR + HOUR, "hour", "start_time"),
        (NEW_YEAR, NEW_YEAR + HOUR, "day", "end_time"),
        (NEW_YEAR, NEW_YEAR, None, "end_time"),
    ],
)
def test_unaligned_windows(
    client: stripe.StripeClient,
    tokens: stripe.billing.Meter,
    customer: stripe.Customer,
    start: int,
    end: int,
    window: str | None,
    param: str,
) -> None:
    more: Any = {"value_grouping_window": window} if window else {}
    with pytest.raises(stripe.InvalidRequestError) as caught:
        summaries(client, tokens.id, customer.id, start, end, **more)
    assert caught.value.param == param


def test_summaries_page_through_a_month_of_hours(
    client: stripe.StripeClient, tokens: stripe.billing.Meter, customer: stripe.Customer, send: Send
) -> None:
    for hour in range(25):
        send("1", timestamp=NEW_YEAR - hour * HOUR)
    params: Any = {
        "customer": customer.id,
        "start_time": NEW_YEAR - 30 * DAY,
        "end_time": NEW_YEAR + HOUR,
        "value_grouping_window": "hour",
        "limit": 10,
    }
    page = client.v1.billing.meters.event_summaries.list(tokens.id, params)
    assert (len(page.data), page.has_more) == (10, True)
    every = list(page.auto_paging_iter())
    assert [item.start_time for item in every] == [NEW_YEAR - hour * HOUR for hour in range(25)]
    params["ending_before"] = every[20].id
    back = client.v1.billing.meters.event_summaries.list(tokens.id, params)
    assert [item.id for item in back.data] == [item.id for item in every[10:20]]


# -- lag --------------------------------------------------------------------------------------------------------------


def test_lag_hides_events_until_it_is_over(
    send: Send,
    client: stripe.StripeClient,
    tokens: stripe.billing.Meter,
    customer: stripe.Customer,
    control: Control,
    clock: Clock,
) -> None:
    control("POST", "lag", seconds=30)
    send("5")
    clock.advance(29)
    assert total(client, tokens.id, customer.id) is None
    clock.advance(1)
    assert total(client, tokens.id, customer.id) == 5


# -- adjustments ------------------------------------------------------------------------------------------------------


def test_an_event_is_cancelled_once_within_24_hours(
    send: Send, client: stripe.StripeClient, tokens: stripe.billing.Meter, customer: stripe.Customer, clock: Clock
) -> None:
    send("5", identifier="wrong")
    send("7", identifier="old")
    params: Any = {"event_name": "tokens", "type": "cancel", "cancel": {"identifier": "wrong"}}
    assert client.v1.billing.meter_event_adjustments.create(params).status == "complete"
    assert total(client, tokens.id, customer.id) == 7
    with pytest.raises(stripe.InvalidRequestError, match="already been cancelled"):
        client.v1.billing.meter_event_adjustments.create(params)
    clock.advance(DAY + 1)
    for identifier in ("old", "never"):
        params["cancel"] = {"identifier": identifier}
        with pytest.raises(stripe.InvalidRequestError) as caught:
            client.v1.billing.meter_event_adjustments.create(params)
        assert caught.value.param == "cancel[identifier]"
    assert total(client, tokens.id, customer.id) == 7


# -- v2 ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def stream(client: stripe.StripeClient, http: SandboxHTTPClient) -> Callable[[list[Any]], None]:
    token = client.v2.billing.meter_event_session.create().authentication_token
    second = stripe.StripeClient(token, http_client=http)

    def call(events: list[Any]) -> None:
        second.v2.billing.meter_event_stream.create({"events": events})

    return call


def event(customer_id: str, value: Any = "1", **more: Any) -> dict[str, Any]:
    return {"event_name": "tokens", "payload": {"stripe_customer_id": customer_id, "value": value}, **more}


def test_the_stream_takes_a_hundred_events_and_forgives_duplicates(
    stream: Callable[[list[Any]], None],
    client: stripe.StripeClient,
    tokens: stripe.billing.Meter,
    customer: stripe.Customer,
) -> None:
    batch = [event(customer.id, "2", identifier=f"e{index}") for index in range(100)]
    stream(batch)
    stream(batch)
    stream([event(customer.id, "1", identifier="twice"), event(customer.id, "1", identifier="twice")])
    assert total(client, tokens.id, customer.id) == 201
    for size in (0, 101):
        with pytest.raises(stripe.InvalidRequestError):
            stream([event(customer.id)] * size)


def test_a_session_lasts_fifteen_minutes(
    stream: Callable[[list[Any]], None], tokens: stripe.billing.Meter, customer: stripe.Customer, clock: Clock
) -> None:
    clock.advance(15 * 60 - 1)
    stream([event(customer.id)])
    clock.advance(1)
    with pytest.raises(stripe.TemporarySessionExpiredError) as caught:
        stream([event(customer.id)])
    assert (caught.value.http_status, caught.value.code) == (401, "billing_meter_event_session_expired")


def test_a_key_is_no_session_token(client: stripe.StripeClient) -> None:
    with pytest.raises(stripe.TemporarySessionExpiredError):
        client.v2.billing.meter_event_stream.create({"events": []})


def test_bad_events_on_the_stream_come_back_as_error_reports(
    stream: Callable[[list[Any]], None],
    client: stripe.StripeClient,
    tokens: stripe.billing.Meter,
    customer: stripe.Customer,
    control: Control,
    clock: Clock,
) -> None:
    control("POST", "lag", seconds=20)
    archived = meter(client, "archived")
    client.v1.billing.meters.deactivate(archived.id)
    stream(
        [
            event(customer.id, "3", identifier="good"),
            event("cus_nope", identifier="who"),
            event(customer.id, 3, identifier="number"),
            event(customer.id, "1" * 16, identifier="digits"),
            event(customer.id, timestamp="2025-11-01T00:00:00Z", identifier="old"),
            event(customer.id, timestamp="2026-01-01T00:06:00Z", identifier="early"),
            {"event_name": "tokens", "payload": {"value": "1"}, "identifier": "nobody"},
            {"event_name": "tokens", "payload": {"stripe_customer_id": customer.id}, "identifier": "nothing"},
            {**event(customer.id, identifier="gone"), "event_name": "archived"},
            {**event(customer.id, identifier="stranger"), "event_name": "nope"},
        ]
    )
    assert client.v2.core.events.list().data == []
    clock.advance(20)
    assert total(client, tokens.id, customer.id) == 3
    events = client.v2.core.events.list().data
    reports = {plain(found).get("related_object", {}).get("id"): plain(found)["data"]["reason"] for found in events}
    assert _codes(reports[tokens.id]) == {
        "meter_event_customer_not_found": ["who"],
        "meter_event_invalid_value": ["number"],
        "meter_event_no_customer_defined": ["nobody"],
        "meter_event_value_not_found": ["nothing"],
        "meter_event_value_too_many_digits": ["digits"],
        "timestamp_in_future": ["early"],
        "timestamp_too_far_in_past": ["old"],
    }
    assert reports[tokens.id]["error_count"] == 7
    assert _codes(reports[archived.id]) == {"archived_meter": ["gone"]}
    assert _codes(reports[None]) == {"no_meter": ["stranger"]}
    assert {found.type for found in events} == {
        "v1.billing.meter.error_report_triggered",
        "v1.billing.meter.no_meter_found",
    }
    # A report is made once, and stays.
    assert [found.id for found in client.v2.core.events.list().data] == [found.id for found in events]
    params: Any = {"object_id": tokens.id, "types": ["v1.billing.meter.error_report_triggered"]}
    assert len(client.v2.core.events.list(params).data) == 1
    assert client.v2.core.events.retrieve(events[0].id).id == events[0].id


def _codes(reason: dict[str, Any]) -> dict[str, list[str]]:
    return {
        kind["code"]: [sample["request"]["identifier"] for sample in kind["sample_errors"]]
        for kind in reason["error_types"]
    }


def test_reports_hold_samples_only(
    stream: Callable[[list[Any]], None], client: stripe.StripeClient, tokens: stripe.billing.Meter
) -> None:
    stream([event("cus_nope", identifier=str(index)) for index in range(40)])
    reason = plain(client.v2.core.events.list().data[0])["data"]["reason"]
    assert reason["error_count"] == 40
    assert len(reason["error_types"][0]["sample_errors"]) == 5


def test_an_unknown_customer_is_accepted_over_v1_too_and_reported(
    client: stripe.StripeClient, tokens: stripe.billing.Meter
) -> None:
    client.v1.billing.meter_events.create(
        {"event_name": "tokens", "payload": {"stripe_customer_id": "x", "value": "1"}}
    )
    (found,) = client.v2.core.events.list().data
    assert list(_codes(plain(found)["data"]["reason"])) == ["meter_event_customer_not_found"]


def test_adjustments_of_streamed_events_and_pages_of_v2_events(
    client: stripe.StripeClient,
    stream: Callable[[list[Any]], None],
    tokens: stripe.billing.Meter,
    customer: stripe.Customer,
    clock: Clock,
) -> None:
    stream([event(customer.id, "5", identifier="a")])
    done = client.v1.billing.meter_event_adjustments.create(
        {"event_name": "tokens", "type": "cancel", "cancel": {"identifier": "a"}}
    )
    assert done.status == "complete"
    assert total(client, tokens.id, customer.id) is None
    for _ in range(3):
        clock.advance(10)
        stream([event("cus_nope")])
        client.v2.core.events.list()
    page = client.v2.core.events.list({"limit": 2})
    assert len(page.data) == 2
    assert len(list(page.auto_paging_iter())) == 3
    later: Any = {"created": {"gte": "2026-01-01T00:00:20Z"}}
    assert len(client.v2.core.events.list(later).data) == 2


def test_a_value_of_a_payload_has_at_most_a_hundred_characters(
    client: stripe.StripeClient, tokens: stripe.billing.Meter, customer: stripe.Customer
) -> None:
    client.v1.billing.meter_events.create(
        {"event_name": "tokens", "payload": {"stripe_customer_id": customer.id, "value": "1", "note": "n" * 100}}
    )
    with pytest.raises(stripe.InvalidRequestError) as refused:
        client.v1.billing.meter_events.create(
            {"event_name": "tokens", "payload": {"stripe_customer_id": customer.id, "value": "1", "note": "n" * 101}}
        )
    assert refused.value.param == "payload[note]"
