"""Delivery: exactly once, whatever happens to the calls, the key, the clock and the batch."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

import usage
from usage.client import Client

from .conftest import EVENT, World


def client(**options: Any) -> Client:
    options.setdefault("background", False)
    return Client(**options)


def test_everything_recorded_is_delivered_once(served: str, world: World, meter: str, customer: str) -> None:
    with client() as sender:
        sender.record_many({"event_name": EVENT, "customer": customer, "value": value} for value in range(1, 251))
        result = sender.flush()
        again = sender.flush()
    assert (result.delivered, result.duplicates, result.complete) == (250, 0, True)
    assert (again.delivered, again.complete) == (0, True)
    assert world.total(meter, customer) == sum(range(1, 251))


def test_the_stream_carries_a_hundred_events_a_call(served: str, world: World, meter: str, customer: str) -> None:
    with client() as sender:
        sender.record_many({"event_name": EVENT, "customer": customer, "value": 1} for _ in range(1000))
        sender.flush()
    paths = [entry["path"] for entry in world.log()]
    assert paths.count("/v2/billing/meter_event_stream") == 10
    assert paths.count("/v2/billing/meter_event_session") == 1


@pytest.mark.parametrize("path", ["/v2/billing/meter_event_stream", "/v1/billing/meter_events"])
@pytest.mark.parametrize(
    "fault",
    [
        {"drop": True, "when": "after"},
        {"half_body": True, "when": "after"},
        {"drop": True, "when": "before"},
        {"status": 500, "when": "after"},
        {"status": 500, "when": "stored"},
        {"status": 502, "body": "<html>bad gateway</html>"},
        {"status": 429},
        {"status": 409},
    ],
    ids=lambda fault: "-".join(f"{key}={value}" for key, value in fault.items() if key != "body"),
)
def test_a_lost_answer_or_a_passing_refusal_bills_once(
    served: str, world: World, meter: str, customer: str, path: str, fault: dict[str, Any]
) -> None:
    world.control("faults", method="POST", path=path, count=2, **fault)
    with client() as sender:
        sender.record_many({"event_name": EVENT, "customer": customer, "value": 3} for _ in range(4))
        if path.startswith("/v1"):
            sender.send(EVENT, customer, 3)
        else:
            sender.record(EVENT, customer, 3)
        result = sender.flush()
        assert result.complete
        assert sender.status().delivered == 5
        assert sum(entry["path"] == path for entry in world.log()) > 1
    assert world.total(meter, customer) == 15


def test_a_duplicate_is_delivered_and_counted(served: str, world: World, meter: str, customer: str) -> None:
    world.control("faults", method="POST", path="/v1/billing/meter_events", when="after", drop=True, count=1)
    with client() as sender:
        sent = sender.send(EVENT, customer, 7, identifier="job-1")
    assert sent.duplicate
    assert world.total(meter, customer) == 7


def test_a_whole_replay_fails_nothing(served: str, world: World, meter: str, customer: str) -> None:
    now = int(time.time())
    for duplicate in (False, True):
        with client(spool=f"{duplicate}.db") as sender:
            sent = [sender.send(EVENT, customer, 1, now, f"fact-{number}") for number in range(20)]
            assert {one.duplicate for one in sent} == {duplicate}
    assert world.total(meter, customer) == 20


@pytest.mark.usefixtures("one_attempt")
def test_after_attempts_without_answer_the_event_waits_and_keeps_its_identifier(
    served: str, world: World, meter: str, customer: str
) -> None:
    world.control("faults", method="POST", path="/v1/billing/meter_events", status=500, count=None)
    with client() as sender:
        with pytest.raises(usage.NotDelivered) as caught:
            sender.send(EVENT, customer, 7, identifier="job-1")
        assert caught.value.identifier == "job-1"
        world.sandbox.handle(request("DELETE", "/_sandbox/faults"))
        assert sender.flush().complete
    assert world.total(meter, customer) == 7


def request(method: str, url: str) -> Any:
    from sandbox import Request

    return Request(method, url, {}, b"")


@pytest.mark.usefixtures("one_attempt")
def test_an_unknown_fate_is_not_resent_after_24_hours(served: str, world: World, meter: str, customer: str) -> None:
    now = time.time()
    world.control("faults", method="POST", path="/v2/billing/meter_event_stream", when="after", drop=True, count=None)
    sender = client(clock=lambda: now)
    sender.record(EVENT, customer, 7, identifier="lost")
    first = sender.flush()
    assert (first.delivered, first.pending) == (0, 1)
    world.sandbox.handle(request("DELETE", "/_sandbox/faults"))
    with client(clock=lambda: now + 24 * 3600) as later:
        result = later.flush()
        assert (result.delivered, result.unknown, result.pending) == (0, 1, 0)
        assert not result.complete
        kept = later.spool.find("lost")
        assert kept is not None
        assert kept.state == "unknown"
    assert world.total(meter, customer) == 7  # the sandbox had taken it; a resend would have made 14


def test_events_of_unknown_fate_do_not_keep_those_behind_them_waiting(
    served: str, world: World, meter: str, customer: str
) -> None:
    with client() as sender:
        sender.record_many({"event_name": EVENT, "customer": customer, "value": 1} for _ in range(10))
        with sender.spool._transaction() as connection:
            connection.execute("UPDATE events SET unknown_since = 1 WHERE id <= 5")
        sender._deliverer.run(None, chunk=5)  # what it takes first has been unknown for too long, all of it
        status = sender.status()
        assert (status.unknown, status.delivered, status.pending) == (5, 5, 0)


@pytest.mark.usefixtures("one_attempt")
def test_an_event_that_certainly_was_not_taken_is_sent_after_24_hours(
    served: str, world: World, meter: str, customer: str
) -> None:
    now = time.time()
    world.control("faults", method="POST", path="/v2/billing/meter_event_stream", status=429, count=None)
    sender = client(clock=lambda: now)
    sender.record(EVENT, customer, 7, identifier="limited", timestamp=int(now))
    assert sender.flush().pending == 1
    world.sandbox.handle(request("DELETE", "/_sandbox/faults"))
    with client(clock=lambda: now + 30 * 3600) as later:
        assert later.flush().complete
    assert world.total(meter, customer) == 7


def test_an_event_older_than_35_days_goes_to_the_dead_letters(
    served: str, world: World, meter: str, customer: str
) -> None:
    now = time.time()
    client(clock=lambda: now - 36 * 86_400).record(EVENT, customer, 7)  # and then five weeks without a network
    with client() as later:
        result = later.flush()
        assert [refused.code for refused in result.refused] == ["timestamp_too_far_in_past"]
        assert "35 days" in result.refused[0].message


def test_an_expired_session_is_renewed_without_losing_the_batch(
    served: str, world: World, meter: str, customer: str
) -> None:
    with client() as sender:
        sender.record(EVENT, customer, 1)
        assert sender.flush().complete
        world.control("clock", advance=16 * 60)  # the token is older than 15 minutes now, and we have not noticed
        now = time.time() + 16 * 60
        sender.clock = sender.spool.clock = lambda: now
        sender.record(EVENT, customer, 1)
        result = sender.flush()
    assert result.complete
    sessions = [entry for entry in world.log() if entry["path"] == "/v2/billing/meter_event_session"]
    assert len(sessions) == 2
    expired = [entry for entry in world.log() if entry["status"] == 401]
    assert len(expired) == 1


def test_a_session_is_renewed_before_its_fifteen_minutes(
    served: str, world: World, meter: str, customer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with client() as sender:
        sender.record(EVENT, customer, 1)
        sender.flush()
        monkeypatch.setattr(sender._deliverer, "_token_at", time.monotonic() - 14 * 60 - 1)
        sender.record(EVENT, customer, 1)
        sender.flush()
    assert [entry["status"] for entry in world.log()].count(401) == 0
    assert sum(entry["path"] == "/v2/billing/meter_event_session" for entry in world.log()) == 2


def test_a_key_revoked_in_the_middle_keeps_the_rest(
    served: str, world: World, meter: str, customer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = "sk_test_revokedSoon123456"
    monkeypatch.setenv("STRIPE_API_KEY", key)
    total = 500
    world.control(
        "faults",
        path="/v2/billing/meter_event_stream",
        skip=2,
        count=None,
        status=401,
        message=f"Expired API Key provided: {key}",
        code="api_key_expired",
    )
    with client() as sender:
        sender.record_many({"event_name": EVENT, "customer": customer, "value": 1} for _ in range(total))
        result = sender.flush()
        assert result.stopped is not None
        assert "Expired API Key" in result.stopped
        assert key not in result.stopped
        assert result.delivered + result.pending == total
        assert result.delivered > 0
        assert result.refused_count == 0
        world.sandbox.handle(request("DELETE", "/_sandbox/faults"))
        assert sender.flush().complete
    assert world.total(meter, customer) == total


def test_one_bad_event_does_not_spoil_its_batch(served: str, world: World, meter: str, customer: str) -> None:
    """A batch that is refused as a whole is halved until the guilty event stands alone."""
    with client() as sender:
        sender.record_many({"event_name": EVENT, "customer": customer, "value": 1} for _ in range(60))
        # past our own checks, as a rule that Stripe adds tomorrow would be
        with sender.spool._transaction() as connection:
            connection.execute("UPDATE events SET identifier = ? WHERE id = 31", ("x" * 101,))
        result = sender.flush()
        assert (result.delivered, result.refused_count, result.pending) == (59, 1, 0)
        letter = sender.dead_letters()[0]
        assert letter.identifier == "x" * 101
        assert letter.status == 400
        assert letter.request_id is not None
    assert world.total(meter, customer) == 59


def test_an_unknown_event_name_is_refused_and_the_rest_delivered(
    served: str, world: World, meter: str, customer: str
) -> None:
    with client() as sender:
        sender.record_many(
            {"event_name": name, "customer": customer, "value": 1} for name in (EVENT, "alpaca_ai_tokenz", EVENT)
        )
        result = sender.flush()
        assert (result.delivered, result.refused_count) == (2, 1)
        assert result.refused[0].code == "no_meter"
        assert EVENT in result.refused[0].message  # the names that there are
        with pytest.raises(usage.StripeError, match="No active meter found"):
            sender.send("nothing", customer, 1)


def test_a_retry_after_the_cause_is_mended(served: str, world: World, meter: str, customer: str) -> None:
    with client() as sender:
        sender.record("later_tokens", customer, 5)
        assert sender.flush().refused_count == 1
        late = world.meter("later_tokens")
        assert sender.retry(codes=["other"]) == []
        assert len(sender.retry(codes=["no_meter"])) == 1
        time.sleep(1.1)  # names that were not found are looked up again after a second
        assert sender.flush().complete
    assert world.total(late, customer) == 5


def test_the_payload_keys_are_the_meters_own(served: str, world: World, customer: str) -> None:
    keys = {"customer_mapping[event_payload_key]": "who", "value_settings[event_payload_key]": "much"}
    odd = world.meter("odd", **keys, **{"customer_mapping[type]": "by_id"})
    with client() as sender:
        sender.record("odd", customer, 5, dimensions={"region": "eu"})
        assert sender.flush().complete
        sender.send("odd", customer, 6)
    assert world.total(odd, customer) == 11


def test_a_restricted_key_that_cannot_read_meters_still_delivers(
    served: str, world: World, meter: str, customer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = "rk_test_onlyEvents123"
    world.control("keys", key=key, status="restricted", allow=["POST /v1/billing/meter_events", "POST /v2/billing"])
    monkeypatch.setenv("STRIPE_API_KEY", key)
    with client() as sender:
        for _ in range(3):
            assert sender.send(EVENT, customer, 5).state == "delivered"
    assert [entry["status"] for entry in world.log() if entry["path"] == "/v1/billing/meters"] == [200, 403]


@pytest.mark.parametrize("single", [False, True])
def test_stripes_rate_limits_slow_delivery_down_and_lose_nothing(
    served: str, world: World, meter: str, customer: str, monkeypatch: pytest.MonkeyPatch, single: bool
) -> None:
    """Stripe's own limits, enforced: 25 calls a second in test mode, one call at a time for a customer and meter."""
    monkeypatch.setattr("usage.api.BACKOFF_FIRST", 0.5)
    monkeypatch.setattr("usage.api.BACKOFF_MOST", 8.0)
    world.control("rate_limits", stripe=True)
    customers = [customer, *(world.customer() for _ in range(5))]
    with client() as sender:
        count = 90 if single else 6000
        if single:
            for number in range(count):
                assert sender.send(EVENT, customers[number % 6], 1).state == "delivered"
        else:
            sender.record_many(
                {"event_name": EVENT, "customer": customers[number % 6], "value": 1} for number in range(count)
            )
            assert sender.flush().complete
    world.control("rate_limits", test=None, live=None)
    assert sum(world.total(meter, name) for name in customers) == count


def test_events_recorded_for_another_mode_are_held_not_sent(
    embedded: World, meter: str, customer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Client(background=False) as for_sandbox:
        for_sandbox.record(EVENT, customer, 5)
        monkeypatch.setenv("STRIPE_MODE", "")
        monkeypatch.setenv("STRIPE_API_KEY", "sk_test_123456")
        monkeypatch.setenv("STRIPE_API_BASE", "http://127.0.0.1:9")
        other = Client(spool=for_sandbox.spool.path)
        assert other.status().held == 1
        result = other.flush()
        assert (result.delivered, result.held, result.complete) == (0, 1, False)
        assert for_sandbox.flush().complete
    assert embedded.total(meter, customer) == 5


@pytest.mark.usefixtures("one_attempt")
def test_an_unreachable_server_is_a_sentence_and_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STRIPE_API_KEY", "sk_test_123456")
    monkeypatch.setenv("STRIPE_API_BASE", "http://127.0.0.1:9")
    sender = client()
    sender.record(EVENT, "cus_1", 5)
    result = sender.flush()
    assert result.pending == 1
    assert result.stopped is not None
    assert "could not be reached" in result.stopped
    (kept,) = sender.spool.with_state("pending")
    assert kept.unknown_since is None  # it certainly did not arrive


def test_the_context_manager_delivers_on_exit(embedded: World, meter: str, customer: str) -> None:
    with Client() as sender:
        sender.record(EVENT, customer, 5)
    assert embedded.total(meter, customer) == 5


@pytest.mark.usefixtures("eager")
def test_the_background_delivers_without_being_asked(embedded: World, meter: str, customer: str) -> None:
    with Client(background=True) as sender:
        sender.record(EVENT, customer, 5)
        for _ in range(500):
            if sender.spool.oldest_pending() is None:
                break
            time.sleep(0.02)
        assert sender.status().delivered == 1
    assert embedded.total(meter, customer) == 5


def test_send_again_with_the_same_identifier_adds_nothing(embedded: World, meter: str, customer: str) -> None:
    with Client() as sender:
        first = sender.send(EVENT, customer, 5, identifier="fact")
        again = sender.send(EVENT, customer, 5, identifier="fact")
        assert (first.duplicate, again.duplicate) == (False, True)
        with pytest.raises(usage.IdentifierConflict, match="different value"):
            sender.send(EVENT, customer, 6, identifier="fact")
    assert embedded.total(meter, customer) == 5


def test_stripe_should_retry_overrides_the_status(served: str, world: World, meter: str, customer: str) -> None:
    world.control(
        "faults", path="/v1/billing/meter_events", status=500, count=None, headers={"stripe-should-retry": "false"}
    )
    with client() as sender, pytest.raises(usage.StripeError):
        sender.send(EVENT, customer, 5)
    assert sum(entry["path"] == "/v1/billing/meter_events" for entry in world.log()) == 1


def test_a_damaged_sandbox_file_is_said_at_once_and_loses_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "stripe.db").write_bytes(b"this is not a database" * 500)
    monkeypatch.setenv("STRIPE_MODE", "sandbox")
    monkeypatch.setenv("STRIPE_SANDBOX_FILE", "stripe.db")
    sender = client()
    with pytest.raises(usage.NotDelivered, match=r"stripe\.db"):
        sender.send(EVENT, "cus_1", 1, identifier="kept")
    kept = sender.spool.find("kept")
    assert kept is not None
    assert (kept.state, kept.unknown_since) == ("pending", None)


def test_retry_after_is_kept(served: str, world: World, meter: str, customer: str) -> None:
    world.control("faults", path="/v1/billing/meter_events", status=429, headers={"retry-after": "0.4"})
    with client() as sender:
        before = time.monotonic()
        sender.send(EVENT, customer, 1)
        assert time.monotonic() - before >= 0.4


@pytest.mark.usefixtures("eager")
def test_closing_interrupts_the_background_and_keeps_what_it_had_in_hand(
    served: str, world: World, meter: str, customer: str
) -> None:
    world.control("faults", method="POST", path="/v2/billing/meter_event_stream", delay=0.3, count=None)
    sender = client(background=True)
    sender.record_many({"event_name": EVENT, "customer": customer, "value": 1} for _ in range(4000))
    for _ in range(200):
        if sender.status().delivered:
            break
        time.sleep(0.02)
    sender.close(0.2)
    left = sender.status()
    assert left.delivered + left.pending == 4000
    assert left.pending > 0
    world.sandbox.handle(request("DELETE", "/_sandbox/faults"))
    assert sender.flush().complete
    assert world.total(meter, customer) == 4000
    sender.close()


@pytest.mark.usefixtures("one_attempt")
def test_a_refusal_after_a_lost_answer_is_not_taken_as_proof_that_nothing_arrived(
    served: str, world: World, meter: str, customer: str
) -> None:
    """Delivered, answer lost, meter deactivated, so refused: a retry days later must not bill it again."""
    now = time.time()
    world.control("faults", method="POST", path="/v2/billing/meter_event_stream", when="after", drop=True, count=1)
    sender = client(clock=lambda: now)
    sender.record(EVENT, customer, 7, identifier="doubtful")
    assert sender.flush().pending == 1
    world.call("POST", f"/v1/billing/meters/{meter}/deactivate")
    with client(clock=lambda: now + 60) as soon:
        assert soon.flush().refused_count == 1
    world.call("POST", f"/v1/billing/meters/{meter}/reactivate")
    with client(clock=lambda: now + 2 * 86_400) as later:
        assert later.retry() == ["doubtful"]
        result = later.flush()
        assert (result.delivered, result.unknown) == (0, 1)
        assert [row.verdict for row in later.verify().differences] == ["arrived"]
    assert world.total(meter, customer) == 7
