"""Idempotency keys: what is replayed, what is not remembered, what is refused."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import stripe

from .conftest import Clock, Control, Held, Raw

DAY = 86400


def test_a_replay_is_the_first_answer_and_says_so(raw: Raw) -> None:
    first = raw("POST", "/v1/products", "name=A", Idempotency_Key="k")
    second = raw("POST", "/v1/products", "name=A", Idempotency_Key="k")
    assert first[1] == second[1]
    assert "idempotent-replayed" not in first[2]
    assert second[2]["idempotent-replayed"] == "true"
    assert second[2]["original-request"] == first[2]["request-id"]
    assert second[2]["request-id"] != first[2]["request-id"]
    assert len(raw("GET", "/v1/products")[1]["data"]) == 1


def test_the_order_of_parameters_does_not_matter(raw: Raw) -> None:
    raw("POST", "/v1/products", "name=A&description=b", Idempotency_Key="k")
    assert raw("POST", "/v1/products", "description=b&name=A", Idempotency_Key="k")[2]["idempotent-replayed"] == "true"


def test_other_parameters_under_the_same_key(client: stripe.StripeClient) -> None:
    options: Any = {"idempotency_key": "k"}
    client.v1.products.create({"name": "A"}, options)
    with pytest.raises(stripe.IdempotencyError) as caught:
        client.v1.products.create({"name": "B"}, options)
    assert caught.value.user_message == (
        "Keys for idempotent requests can only be used with the same parameters they were first used with. Try using a "
        "key other than 'k' if you meant to execute a different request."
    )
    with pytest.raises(stripe.IdempotencyError, match="same endpoint"):
        client.v1.customers.create({"name": "A"}, options)


def test_a_key_is_forgotten_after_a_day(raw: Raw, clock: Clock) -> None:
    raw("POST", "/v1/products", "name=A", Idempotency_Key="k")
    clock.advance(DAY + 1)
    status, answer, headers = raw("POST", "/v1/products", "name=B", Idempotency_Key="k")
    assert (status, answer["name"]) == (200, "B")
    assert "idempotent-replayed" not in headers


def test_parameters_that_fail_validation_are_not_remembered(raw: Raw) -> None:
    assert raw("POST", "/v1/products", "nope=1", Idempotency_Key="k")[0] == 400
    assert raw("POST", "/v1/products", "name=A", Idempotency_Key="k")[0] == 200


def test_a_refusal_of_the_endpoint_is_remembered(raw: Raw) -> None:
    """Even when its cause has gone: the next attempt needs another key."""
    body = "currency=usd&unit_amount=1&product=alpaca"
    first = raw("POST", "/v1/prices", body, Idempotency_Key="k")
    raw("POST", "/v1/products", "name=A&id=alpaca")
    second = raw("POST", "/v1/prices", body, Idempotency_Key="k")
    assert (first[0], second[0]) == (400, 400)
    assert second[2]["idempotent-replayed"] == "true"
    assert raw("POST", "/v1/prices", body, Idempotency_Key="other")[0] == 200


def test_a_server_error_is_remembered_when_the_fault_says_so(raw: Raw, control: Control) -> None:
    control("POST", "faults", method="POST", path="/v1/products", status=500, when="stored")
    assert raw("POST", "/v1/products", "name=A", Idempotency_Key="k")[0] == 500
    status, _, headers = raw("POST", "/v1/products", "name=A", Idempotency_Key="k")
    assert (status, headers["idempotent-replayed"]) == (500, "true")
    assert raw("GET", "/v1/products")[1]["data"] == []


def test_an_answer_lost_after_the_work_is_found_again(client: stripe.StripeClient, control: Control) -> None:
    control("POST", "faults", method="POST", path="/v1/products", drop=True, when="after")
    options: Any = {"idempotency_key": "k"}
    with pytest.raises(stripe.APIConnectionError):
        client.v1.products.create({"name": "A"}, options)
    again = client.v1.products.create({"name": "A"}, options)
    assert [found.id for found in client.v1.products.list().data] == [again.id]


def test_a_key_in_flight(raw: Raw, control: Control, held: Held) -> None:
    control("POST", "faults", method="POST", path="/v1/products", delay=1)
    slow = threading.Thread(target=raw, args=("POST", "/v1/products", "name=A"), kwargs={"Idempotency_Key": "k"})
    slow.start()
    assert held.reached.wait(60)
    status, answer, _ = raw("POST", "/v1/products", "name=A", Idempotency_Key="k")
    assert (status, answer["error"]["code"]) == (409, "idempotency_key_in_use")
    held.released.set()
    slow.join()
    assert raw("POST", "/v1/products", "name=A", Idempotency_Key="k")[2]["idempotent-replayed"] == "true"
    assert len(raw("GET", "/v1/products")[1]["data"]) == 1


def test_get_and_delete_take_no_key(raw: Raw) -> None:
    product = raw("POST", "/v1/products", "name=A")[1]["id"]
    raw("GET", f"/v1/products/{product}", Idempotency_Key="k")
    assert raw("DELETE", f"/v1/products/{product}", Idempotency_Key="k")[0] == 200
    assert raw("DELETE", f"/v1/products/{product}", Idempotency_Key="k")[0] == 404


def test_a_key_of_256_characters_is_refused(raw: Raw) -> None:
    assert raw("POST", "/v1/products", "name=A", Idempotency_Key="k" * 255)[0] == 200
    assert raw("POST", "/v1/products", "name=A", Idempotency_Key="k" * 256)[0] == 400


def test_v2_remembers_successes_only(raw: Raw) -> None:
    path, json_body = "/v2/billing/meter_event_session", {"Content_Type": "application/json", "Idempotency_Key": "k"}
    assert raw("POST", path, b'{"unknown": 1}', **json_body)[0] == 400
    assert raw("POST", path, b"{}", **json_body)[0] == 200
    assert raw("POST", path, b"{}", **json_body)[2]["idempotent-replayed"] == "true"
