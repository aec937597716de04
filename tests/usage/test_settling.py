"""Verifying against Stripe's totals, cancelling, error reports, aggregation: what happens after and around delivery."""

from __future__ import annotations

import json
import threading
import time
from typing import Any

import pytest

import usage
from sandbox import Request
from usage.client import Client

from .conftest import EVENT, World

HOUR, DAY = 3600, 86_400


def lose_answers(world: World) -> None:
    world.control("faults", method="POST", path="/v2/billing/meter_event_stream", when="after", drop=True, count=None)


def refuse_all(world: World) -> None:
    world.control("faults", method="POST", path="/v2/billing/meter_event_stream", when="before", drop=True, count=None)


def mend(world: World) -> None:
    world.sandbox.handle(Request("DELETE", "/_sandbox/faults", {}, b""))


def aged(world: World, customer: str, values: list[int], fault: Any) -> Client:
    """A client, a day later, whose events of these values have an unknown fate."""
    now = time.time()
    sender = Client(clock=lambda: now, background=False)
    fault(world)
    sender.record_many({"event_name": EVENT, "customer": customer, "value": value} for value in values)
    sender.flush()
    mend(world)
    later = Client(clock=lambda: now + DAY, background=False)
    assert later.flush().unknown == len(values)
    return later


def test_a_spool_that_agrees_verifies(embedded: World, meter: str, customer: str) -> None:
    with Client() as client:
        client.record(EVENT, customer, 5)
        client.record(EVENT, customer, 6, timestamp=int(time.time()) - 2 * HOUR)
        client.flush()
        result = client.verify()
    assert result.complete
    assert (result.checked, result.matching) == (2, 2)


@pytest.mark.parametrize(("fault", "verdict", "total"), [(lose_answers, "arrived", 7), (refuse_all, "missing", 0)])
@pytest.mark.usefixtures("one_attempt")
def test_an_unknown_fate_is_reported_and_settled_by_nobody_but_who_knows(
    embedded: World, meter: str, customer: str, fault: Any, verdict: str, total: int
) -> None:
    """Another producer, a lag or a clock can make a total look like anything: verify changes nothing."""
    client = aged(embedded, customer, [7], fault)
    for _ in range(2):
        result = client.verify()
        assert [(row.verdict, row.unknown) for row in result.differences] == [(verdict, 1)]
        assert (result.complete, result.unknown) == (False, 1)
        assert client.flush().delivered == 0
        assert client.retry() == []  # nothing was refused, and what is unknown has to be named
    assert embedded.total(meter, customer) == total
    (event,) = client.spool.with_state("unknown")
    if verdict == "missing":
        assert client.retry(identifiers=[event.identifier]) == [event.identifier]
        assert client.flush().complete
        assert embedded.total(meter, customer) == 7
    client.close()


def test_a_shortfall_and_an_overshoot_are_told_apart_and_never_resent(
    embedded: World, meter: str, customer: str
) -> None:
    other = embedded.customer("Bob")
    with Client() as client:
        client.record(EVENT, customer, 5, identifier="gone")
        client.record(EVENT, other, 5)
        client.flush()
        form = {"event_name": EVENT, "type": "cancel", "cancel[identifier]": "gone"}
        embedded.call("POST", "/v1/billing/meter_event_adjustments", form)
        stamp = str(int(time.time()))
        extra = {"event_name": EVENT, "timestamp": stamp, "payload[stripe_customer_id]": other, "payload[value]": "1"}
        embedded.call("POST", "/v1/billing/meter_events", extra)
        result = client.verify()
        assert sorted((row.verdict, int(row.expected), int(row.found)) for row in result.differences) == [
            ("over", 5, 6),
            ("short", 5, 0),
        ]
        assert not result.complete
        assert client.flush().delivered == 0


def test_verify_reports_stripes_lag_and_again_when_it_is_over(embedded: World, meter: str, customer: str) -> None:
    embedded.control("lag", seconds=1.5)
    with Client() as client:
        client.send(EVENT, customer, 5)
        result = client.verify()
        assert [row.verdict for row in result.differences] == ["short"]
        assert "with a lag" in str(result)
        embedded.control("clock", advance=2)
        assert client.verify().complete


def test_a_count_meter_is_compared_by_count_and_an_unknown_customer_is_a_shortfall(
    embedded: World, meter: str, customer: str
) -> None:
    embedded.meter("calls", "count")
    with Client() as client:
        client.record("calls", customer, 50)
        client.record("calls", customer, 60)
        client.record(EVENT, "cus_nobody", 1)
        client.flush()
        result = client.verify(event_name="calls")
        assert result.complete
        assert result.checked == 1
        assert [(row.customer, row.verdict) for row in client.verify().differences] == [("cus_nobody", "short")]


def test_cancel_before_sending_means_it_is_never_sent(embedded: World, meter: str, customer: str) -> None:
    with Client() as client:
        client.record(EVENT, customer, 5, identifier="oops")
        assert client.cancel("oops").outcome == "not sent"
        assert client.flush().complete
        with pytest.raises(usage.NotDelivered, match="cancelled"):
            client.send(EVENT, customer, 5, identifier="oops")
    assert embedded.total(meter, customer) == 0


def test_cancel_inside_24_hours_takes_it_out_of_stripes_total(embedded: World, meter: str, customer: str) -> None:
    with Client() as client:
        client.send(EVENT, customer, 5, identifier="oops")
        assert client.cancel("oops").outcome == "cancelled"
        assert client.cancel("oops").outcome == "cancelled"
        assert client.verify().complete
    assert embedded.total(meter, customer) == 0


def test_after_24_hours_cancel_names_the_negative_event(embedded: World, meter: str, customer: str) -> None:
    with Client() as client:
        client.send(EVENT, customer, 5, identifier="oops")
    now = time.time() + 25 * HOUR
    with (
        Client(clock=lambda: now) as later,
        pytest.raises(usage.StripeError, match=r"--value=-5 --timestamp \d+ --correction --identifier correction-"),
    ):
        later.cancel("oops")
    assert embedded.total(meter, customer) == 5


def test_cancel_of_an_event_of_another_spool_needs_its_name(embedded: World, meter: str, customer: str) -> None:
    with Client(spool="other.db") as other:
        other.send(EVENT, customer, 5, identifier="theirs")
    with Client() as client:
        with pytest.raises(usage.UsageError, match="event name"):
            client.cancel("theirs")
        assert client.cancel("theirs", event_name=EVENT).outcome == "cancelled"
    assert embedded.total(meter, customer) == 0


def test_an_error_report_finds_its_events(embedded: World, meter: str, customer: str) -> None:
    with Client() as client:
        client.record(EVENT, "cus_nobody", 5, identifier="stray")
        client.record(EVENT, customer, 5)
        assert client.flush().delivered == 2  # the stream says nothing of the customer
        embedded.control("clock", advance=60)  # the report comes at the end of its window
        taken = client.fetch_error_reports()
        assert (taken.reports, taken.matched, taken.strangers) == (1, 1, ())
        letter = client.dead_letters()[0]
        assert (letter.identifier, letter.code, letter.reported) == (
            "stray",
            "meter_event_customer_not_found",
            True,
        )
        assert client.fetch_error_reports().matched == 0  # the same report again changes nothing
        (again,) = client.retry()
        assert again != "stray"  # Stripe may hold the old identifier as used
        kept = client.spool.find("stray")
        assert kept is not None
        assert kept.state == "replaced"


REPORT = {
    "id": "evt_test_1",
    "object": "v2.core.event",
    "type": "v1.billing.meter.error_report_triggered",
    "created": "2026-11-22T10:00:00.000Z",
    "related_object": {"id": "mtr_1", "type": "billing.meter"},
    "data": {
        "developer_message_summary": "There is 1 invalid event",
        "reason": {
            "error_count": 3,
            "error_types": [
                {
                    "code": "meter_event_customer_not_found",
                    "error_count": 2,
                    "sample_errors": [
                        {"error_message": "Customer mapping key gives no customer", "request": {"identifier": "mine"}},
                        {
                            "error_message": "Customer mapping key gives no customer",
                            "request": {"identifier": "theirs"},
                        },
                    ],
                },
                {
                    "code": "duplicate_meter_event",
                    "error_count": 1,
                    "sample_errors": [{"error_message": "twice", "request": {"identifier": "twice"}}],
                },
            ],
        },
    },
}


@pytest.mark.parametrize("sample", ["mine", "mine/0a1b2c3d"], ids=["identifier", "idempotency-key"])
def test_a_report_from_a_webhook_is_taken_once(embedded: World, meter: str, customer: str, sample: str) -> None:
    report = json.loads(json.dumps(REPORT).replace('"mine"', f'"{sample}"'))
    with Client() as client:
        client.send(EVENT, customer, 5, identifier="mine")
        client.send(EVENT, customer, 5, identifier="twice")
        taken = client.error_report(json.dumps(report))
        assert (taken.errors, taken.matched, taken.strangers) == (3, 1, ("theirs",))
        assert client.error_report(report).matched == 0
        assert client.status().dead == 1
        assert client.status().delivered == 1
        for wrong in ("not json", b"[]", {"type": "invoice.paid", "id": "evt_1"}):
            with pytest.raises(usage.InvalidEvent):
                client.error_report(wrong)


def test_flushes_of_many_threads_deliver_once(embedded: World, meter: str, customer: str) -> None:
    clients = [Client() for _ in range(4)]
    clients[0].record_many({"event_name": EVENT, "customer": customer, "value": 1} for _ in range(40))
    results: list[Any] = []
    threads = [threading.Thread(target=lambda one=one: results.append(one.flush())) for one in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(result.delivered for result in results) == 40
    assert all(result.duplicates == 0 for result in results)
    assert embedded.total(meter, customer) == 40
    for client in clients:
        client.close()
