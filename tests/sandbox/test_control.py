"""`/_sandbox/`: clock, lag, rate limits, faults, reset, request log, state."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import stripe

from sandbox import ConnectionDropped, Request, Sandbox
from sandbox.client import SandboxHTTPClient

from .conftest import NEW_YEAR, Clock, Control, Held, Raw


def now(client: stripe.StripeClient) -> int:
    return client.v1.products.create({"name": "A"}).created


def test_the_clock_is_set_moved_stopped_and_given_back(
    client: stripe.StripeClient, control: Control, clock: Clock
) -> None:
    assert control("POST", "clock", now=NEW_YEAR + 500)["now"] == NEW_YEAR + 500
    clock.advance(5)
    assert now(client) == NEW_YEAR + 505
    control("POST", "clock", advance=95)
    assert now(client) == NEW_YEAR + 600
    control("POST", "clock", frozen=NEW_YEAR + 1000)
    clock.advance(100)
    assert now(client) == NEW_YEAR + 1000
    control("POST", "clock", advance=1)
    assert now(client) == NEW_YEAR + 1001
    control("POST", "clock", real=True)
    assert now(client) == NEW_YEAR + 105


def test_another_sandbox_on_the_file_has_the_same_clock(tmp_path: Path, sandbox: Sandbox, control: Control) -> None:
    control("POST", "clock", frozen=NEW_YEAR + 7)
    other = stripe.StripeClient("sk_test_x", http_client=SandboxHTTPClient(sandbox.database.path))
    assert now(other) == NEW_YEAR + 7


def test_requests_above_the_limit_are_refused_as_stripe_does(
    raw: Raw, control: Control, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = Clock(1000.0)
    monkeypatch.setattr(time, "time", host)
    control("POST", "rate_limits", stripe=True)
    assert [raw("GET", "/v1/products")[0] for _ in range(26)] == [200] * 25 + [429]
    status, answer, headers = raw("GET", "/v1/products")
    assert status == 429
    assert answer["error"]["code"] == "rate_limit"
    assert answer["error"]["message"].startswith("Testmode request rate limit exceeded")
    assert headers["stripe-rate-limited-reason"] == "global-rate"
    assert "retry-after" not in headers
    # Live has its own bucket of 100; a fifth of a second brings five test requests back.
    assert [raw("GET", "/v1/products", Authorization="Bearer sk_live_x")[0] for _ in range(101)] == [200] * 100 + [429]
    host.advance(0.2)
    assert [raw("GET", "/v1/products")[0] for _ in range(6)] == [200] * 5 + [429]
    control("POST", "rate_limits", test=None)
    assert [raw("GET", "/v1/products")[0] for _ in range(50)] == [200] * 50


def test_live_meter_events_have_limits_of_their_own(
    raw: Raw, control: Control, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "time", Clock(1000.0))
    control("POST", "rate_limits", live=2, live_meter_events=3, test=1)
    live = {"Authorization": "Bearer sk_live_x"}
    assert [raw("POST", "/v1/billing/meter_events", **live)[0] for _ in range(4)] == [400, 400, 400, 429]
    assert [raw("GET", "/v1/products", **live)[0] for _ in range(3)] == [200, 200, 429]
    assert [raw("POST", "/v1/billing/meter_events")[0] for _ in range(2)] == [400, 429]


def test_a_rate_limited_create_does_nothing_and_its_key_stays_free(
    raw: Raw, control: Control, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = Clock(1000.0)
    monkeypatch.setattr(time, "time", host)
    control("POST", "rate_limits", test=1)
    assert raw("GET", "/v1/products")[0] == 200
    assert raw("POST", "/v1/products", "name=A", Idempotency_Key="k")[0] == 429
    host.advance(1)
    status, _, headers = raw("POST", "/v1/products", "name=A", Idempotency_Key="k")
    assert status == 200
    assert "idempotent-replayed" not in headers


# -- faults -----------------------------------------------------------------------------------------------------------


def test_a_fault_meets_its_method_path_and_count(raw: Raw, control: Control) -> None:
    control("POST", "faults", method="POST", path="/v1/products", status=500, count=2, skip=1)
    statuses = [raw("POST", "/v1/products", "name=A")[0] for _ in range(4)]
    assert statuses == [200, 500, 500, 200]
    assert raw("GET", "/v1/products")[0] == 200
    assert control("GET", "faults")["data"] == []


@pytest.mark.parametrize(
    ("fault", "error", "code"),
    [
        ({"status": 429}, stripe.RateLimitError, "rate_limit"),
        ({"status": 429, "code": "lock_timeout"}, stripe.RateLimitError, "lock_timeout"),
        ({"status": 500}, stripe.APIError, None),
        ({"status": 503, "message": "down", "headers": {"Stripe-Should-Retry": "false"}}, stripe.APIError, None),
        ({"status": 402, "code": "card_declined"}, stripe.CardError, "card_declined"),
    ],
)
def test_statuses(client: stripe.StripeClient, control: Control, fault: Any, error: Any, code: str | None) -> None:
    control("POST", "faults", path="/v1/products", **fault)
    with pytest.raises(error) as caught:
        client.v1.products.create({"name": "A"})
    assert caught.value.http_status == fault["status"]
    assert (caught.value.error.code if code else None) == code
    assert client.v1.products.list().data == []


def test_a_proxys_html(client: stripe.StripeClient, control: Control) -> None:
    control("POST", "faults", path="*", status=502, body="<html>Bad gateway</html>")
    with pytest.raises(stripe.APIError) as caught:
        client.v1.products.list()
    assert caught.value.http_body == "<html>Bad gateway</html>"


@pytest.mark.parametrize(("status", "code"), [(500, "internal_error"), (503, "internal_error"), (401, "unauthorized")])
def test_a_fault_under_v2_has_the_shape_of_v2(raw: Raw, control: Control, status: int, code: str) -> None:
    control("POST", "faults", path="/v2/*", status=status, message="Not now")
    answered, body, _ = raw("POST", "/v2/billing/meter_event_session")
    assert answered == status
    assert body == {"error": {"code": code, "message": "Not now"}}


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("kind", [{"drop": True}, {"half_body": True, "status": 200}, {"status": 500}])
def test_what_is_done_when_a_fault_strikes(
    client: stripe.StripeClient, control: Control, when: str, kind: dict[str, Any]
) -> None:
    control("POST", "faults", method="POST", path="/v1/products", when=when, **kind)
    with pytest.raises((stripe.APIConnectionError, stripe.APIError)):
        client.v1.products.create({"name": "A"})
    assert len(client.v1.products.list().data) == (1 if when == "after" else 0)


def test_a_retrying_client_gets_through_with_one_object(http: SandboxHTTPClient, control: Control) -> None:
    client = stripe.StripeClient("sk_test_x", http_client=http, max_network_retries=2)
    http._sleep_time_seconds = lambda num_retries: 0.0  # type: ignore[method-assign]
    control("POST", "faults", method="POST", path="/v1/products", drop=True, when="after", count=2)
    made = client.v1.products.create({"name": "A"})
    assert [found.id for found in client.v1.products.list().data] == [made.id]


def test_half_a_body_is_half_of_the_real_one(sandbox: Sandbox, control: Control) -> None:
    control("POST", "faults", path="/v1/products", half_body=True, when="after")
    with pytest.raises(ConnectionDropped) as caught:
        sandbox.handle(Request("POST", "/v1/products", {"Authorization": "Bearer sk_test_x"}, b"name=A"))
    assert caught.value.partial is not None
    with pytest.raises(ValueError):
        json.loads(caught.value.partial.body)
    assert caught.value.partial.body.startswith(b'{"id":"prod_')


def test_a_delay_delays(raw: Raw, control: Control, held: Held) -> None:
    held.released.set()
    control("POST", "faults", path="/v1/products", delay=5)
    assert raw("GET", "/v1/products")[0] == 200
    assert held.reached.is_set()


def test_a_delay_after_the_commit_commits_first(raw: Raw, control: Control, held: Held) -> None:
    control("POST", "faults", method="POST", path="/v1/products", delay=5, drop=True, when="after")
    with ThreadPoolExecutor(1) as thread:
        late = thread.submit(raw, "POST", "/v1/products", "name=A")
        assert held.reached.wait(60)
        (made,) = raw("GET", "/v1/products")[1]["data"]
        assert not late.done()
        held.released.set()
        with pytest.raises(ConnectionDropped):
            late.result(timeout=60)
    assert made["name"] == "A"


def test_faults_can_be_taken_back(raw: Raw, control: Control) -> None:
    control("POST", "faults", path="*", status=500, count=None)
    assert [raw("GET", "/v1/products")[0] for _ in range(3)] == [500] * 3
    control("DELETE", "faults")
    assert raw("GET", "/v1/products")[0] == 200


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("clock", {}),
        ("clock", {"now": 1, "advance": 1}),
        ("clock", {"now": "soon"}),
        ("clock", {"now": 1e300}),
        ("clock", {"tomorrow": 1}),
        ("lag", {}),
        ("lag", {"seconds": -1}),
        ("rate_limits", {"test": 0}),
        ("keys", {}),
        ("keys", {"key": "sk_test_x", "status": "odd"}),
        ("keys", {"key": "sk_test_x", "allow": "all"}),
        ("keys", {"key": "sk_test_x", "account": "other"}),
        ("faults", {}),
        ("faults", {"status": 99}),
        ("faults", {"status": 500, "when": "never"}),
        ("faults", {"drop": True, "when": "stored"}),
        ("faults", {"delay": 601}),
        ("faults", {"status": 500, "headers": {"a": 1}}),
        ("log", {}),
        ("log", {"on": "maybe"}),
    ],
)
def test_control_refuses_nonsense_and_says_what_is_wrong(raw: Raw, name: str, params: Any) -> None:
    status, answer, _ = raw("POST", f"/_sandbox/{name}", json.dumps(params), Content_Type="application/json")
    assert status == 400
    assert answer["error"]["message"]


def test_unknown_control_names_what_there_is(raw: Raw) -> None:
    status, answer, _ = raw("POST", "/_sandbox/nope")
    assert status == 404
    assert "POST /_sandbox/clock" in answer["error"]["message"]


def test_control_takes_forms_too(raw: Raw) -> None:
    """`curl -d seconds=2 .../_sandbox/lag`."""
    assert raw("POST", "/_sandbox/lag", "seconds=2")[1]["lag"] == 2


def test_control_is_not_for_web_pages(raw: Raw) -> None:
    assert raw("POST", "/_sandbox/reset", Origin="https://example.com")[0] == 403


# -- what it shows ----------------------------------------------------------------------------------------------------


def test_the_log_holds_every_request(raw: Raw, control: Control) -> None:
    raw("POST", "/v1/products", "name=A", Idempotency_Key="k")
    raw("POST", "/v1/products", "name=A", Idempotency_Key="k")
    raw("GET", "/v1/products?limit=1")
    raw("GET", "/v1/nope")
    raw("GET", "/v1/products", Authorization="")
    control("POST", "faults", path="*", status=500)
    raw("GET", "/v1/prices")
    lines = control("GET", "requests")["data"]
    assert [(line["method"], line["url"], line["status"], line["replayed"]) for line in lines] == [
        ("POST", "/v1/products", 200, False),
        ("POST", "/v1/products", 200, True),
        ("GET", "/v1/products?limit=1", 200, False),
        ("GET", "/v1/nope", 404, False),
        ("GET", "/v1/products", 401, False),
        ("GET", "/v1/prices", 500, False),
    ]
    assert lines[0]["body"] == "name=A"
    assert lines[0]["idempotency_key"] == "k"
    assert lines[3]["error"]["type"] == "invalid_request_error"
    assert lines[5]["fault"].startswith("fault_")
    control("DELETE", "requests")
    control("POST", "log", on=False)
    raw("GET", "/v1/products")
    raw("POST", "/v1/products", "name=B", Idempotency_Key="b")
    raw("POST", "/v1/products", "name=B", Idempotency_Key="b")
    assert control("GET", "requests")["data"] == []


@pytest.mark.parametrize(("when", "status"), [("before", 0), ("after", 200)])
def test_the_log_holds_dropped_requests_too(
    client: stripe.StripeClient, control: Control, when: str, status: int
) -> None:
    control("POST", "faults", path="/v1/products", drop=True, when=when)
    with pytest.raises(stripe.APIConnectionError):
        client.v1.products.list()
    (line,) = control("GET", "requests")["data"]
    assert (line["status"], line["fault"] is None) == (status, False)


def test_state_and_overview(client: stripe.StripeClient, live: stripe.StripeClient, control: Control) -> None:
    client.v1.products.create({"name": "A"})
    live.v1.products.create({"name": "B"})
    account = client.v1.accounts.retrieve_current().id
    assert control("GET", "")["objects"] == {
        f"{account}:live": {"event": 1, "product": 1},
        f"{account}:test": {"event": 1, "product": 1},
    }
    objects = control("GET", "state")["objects"]
    assert [found["name"] for found in objects[f"{account}:test"]["product"]] == ["A"]


def test_reset_empties_everything(client: stripe.StripeClient, control: Control) -> None:
    client.v1.products.create({"name": "A"})
    control("POST", "lag", seconds=9)
    control("POST", "faults", path="*", status=500, count=None)
    answer = control("POST", "reset")
    assert (answer["objects"], answer["lag"], answer["faults"]) == ({}, 0.0, [])
