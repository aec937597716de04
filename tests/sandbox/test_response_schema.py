"""The check of every answer finds what it is there to find."""

from __future__ import annotations

import json
from typing import Any

import pytest
import stripe

from sandbox import Request, Response
from tests.response_schema import check

from .catalog import plain

GOOD_ERROR = {"error": {"type": "invalid_request_error", "message": "no"}}


def judged(request: Request, status: int, body: Any) -> None:
    check(request, Response(status, {"content-type": "application/json"}, json.dumps(body).encode()))


@pytest.fixture
def product(client: stripe.StripeClient) -> dict[str, Any]:
    found: dict[str, Any] = plain(client.v1.products.create({"name": "A"}))
    return found


def test_what_is_right_passes(product: dict[str, Any]) -> None:
    judged(Request("GET", "/v1/products/prod_1"), 200, product)
    judged(
        Request("GET", "/v1/products"), 200, {"object": "list", "data": [], "has_more": False, "url": "/v1/products"}
    )
    judged(Request("GET", "/v1/products"), 400, GOOD_ERROR)
    judged(Request("POST", "/v2/billing/meter_event_stream"), 200, {})


@pytest.mark.parametrize(
    "change",
    [{"active": "yes"}, {"created": 1.5}, {"name": None}, {"nope": 1}, {"default_price": 7}, {"object": "price"}],
)
def test_wrong_fields_are_found(product: dict[str, Any], change: dict[str, Any]) -> None:
    with pytest.raises(AssertionError):
        judged(Request("GET", "/v1/products/prod_1"), 200, {**product, **change})


def test_missing_fields_are_found(product: dict[str, Any]) -> None:
    del product["livemode"]
    with pytest.raises(AssertionError, match="livemode"):
        judged(Request("GET", "/v1/products/prod_1"), 200, product)


def test_lists_and_events_are_looked_into(product: dict[str, Any], client: stripe.StripeClient) -> None:
    wrong = {**product, "active": None}
    page = {"object": "list", "data": [wrong], "has_more": False, "url": "/v1/products"}
    with pytest.raises(AssertionError):
        judged(Request("GET", "/v1/products"), 200, page)
    event = plain(client.v1.events.list().data[0])
    event["data"]["object"] = wrong
    with pytest.raises(AssertionError):
        judged(Request("GET", "/v1/events/evt_1"), 200, event)


@pytest.mark.parametrize(
    ("url", "body"),
    [
        ("/v1/products", {"error": {"type": "rate_limit_error", "message": "x"}}),
        ("/v1/products", {"error": {"type": "api_error", "message": "x", "code": "no_doc_url"}}),
        ("/v1/products", {"message": "x"}),
        ("/v2/billing/meter_events", {"error": {"message": "a code is missing"}}),
    ],
)
def test_wrong_errors_are_found(url: str, body: Any) -> None:
    with pytest.raises(AssertionError):
        judged(Request("POST", url), 400, body)


def test_a_success_without_a_route_is_found() -> None:
    with pytest.raises(AssertionError, match="without a route"):
        judged(Request("GET", "/v1/charges"), 200, {})
