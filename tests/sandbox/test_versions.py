"""API versions: older ones are taken where the shapes are the same, and refused by name where they are not."""

from __future__ import annotations

import json

import pytest
import stripe

from .catalog import catalog
from .conftest import Raw

#: What SDKs send: stripe-python 10 to 16, stripe-node 17 and 23, stripe-go 82 and 84 among them.
SDKS = [
    *("2024-06-20", "2025-02-24.acacia", "2025-08-27.basil", "2025-10-29.clover", "2026-02-25.clover"),
    *("2026-03-25.dahlia", "2026-08-26.dahlia", "2026-10-28.endive"),
]


@pytest.mark.parametrize("version", SDKS)
def test_what_is_as_it_was_answers_to_every_version(raw: Raw, client: stripe.StripeClient, version: str) -> None:
    things = catalog(client)
    event = f"event_name={things.meter.event_name}&payload[stripe_customer_id]={things.customer.id}&payload[value]=1"
    for method, url, body in (
        ("POST", "/v1/products", "name=A"),
        ("POST", "/v1/customers", "name=C"),
        ("POST", "/v1/prices", f"currency=usd&unit_amount=1&product={things.product.id}"),
        ("GET", "/v1/billing/meters", ""),
        ("POST", "/v1/billing/meter_events", event),
        ("GET", "/v1/account", ""),
        ("GET", "/v1/events", ""),
    ):
        status, answer, headers = raw(method, url, body, Stripe_Version=version)
        assert (status, headers["stripe-version"]) == (200, version), answer


def test_no_version_is_the_one_described(raw: Raw) -> None:
    assert raw("GET", "/v1/products")[2]["stripe-version"] == "2026-08-26.dahlia"


@pytest.mark.parametrize(
    ("version", "status"),
    [("2024-06-20", 400), ("2025-02-24.acacia", 400), ("2025-03-31.basil", 200), ("2026-02-25.clover", 200)],
)
@pytest.mark.parametrize("url", ["/v1/subscriptions", "/v1/invoices", "/v1/invoiceitems", "/v1/invoices/upcoming"])
def test_what_basil_gave_another_shape_is_refused_before_it(raw: Raw, url: str, version: str, status: int) -> None:
    expected = 404 if "upcoming" in url and status == 200 else status
    found, answer, _ = raw("GET", url, Stripe_Version=version)
    assert found == expected
    if status == 400:
        assert answer["error"]["message"].startswith(
            f"In API version {version}, GET {url} has a different shape from 2025-03-31.basil and later"
        )


@pytest.mark.parametrize(
    ("version", "method", "url", "body", "named"),
    [
        ("2025-08-27.basil", "GET", "/v1/promotion_codes", "", "2025-09-30.clover"),
        ("2025-08-27.basil", "GET", "/v1/subscription_schedules", "", "2025-09-30.clover"),
        ("2025-10-29.clover", "GET", "/v2/core/events?object_id=x", "", "2025-11-17.clover"),
        ("2025-08-27.basil", "GET", "/v1/subscriptions?expand[]=data.discounts", "", "an expanded discount"),
        ("2025-02-24.acacia", "POST", "/v1/customers", "coupon=half", "coupon of POST /v1/customers"),
        ("2025-02-24.acacia", "POST", "/v1/prices", "recurring[aggregate_usage]=sum", "recurring[aggregate_usage]"),
    ],
)
def test_other_changes_are_refused_by_name(
    raw: Raw, version: str, method: str, url: str, body: str, named: str
) -> None:
    status, answer, _ = raw(method, url, body, Stripe_Version=version)
    assert status == 400
    assert named in answer["error"]["message"]


def test_metered_prices_without_a_meter_are_older_versions_alone(raw: Raw, client: stripe.StripeClient) -> None:
    product = catalog(client).product.id
    body = f"currency=usd&unit_amount=1&product={product}&recurring[interval]=month&recurring[usage_type]=metered"
    status, answer, _ = raw("POST", "/v1/prices", body, Stripe_Version="2025-02-24.acacia")
    assert status == 501
    assert "usage records" in answer["error"]["message"]
    status, answer, _ = raw("POST", "/v1/prices", body, Stripe_Version="2025-03-31.basil")
    assert status == 400
    assert "must be backed by meters" in answer["error"]["message"]


@pytest.mark.parametrize(("version", "mode"), [("2025-08-27.basil", "classic"), ("2025-09-30.clover", "flexible")])
def test_the_billing_mode_that_nobody_chose_is_the_versions(
    raw: Raw, client: stripe.StripeClient, version: str, mode: str
) -> None:
    things = catalog(client)
    body = (
        f"customer={things.customer.id}&items[0][price]={things.license.id}&collection_method=send_invoice"
        "&days_until_due=30"
    )
    status, answer, _ = raw("POST", "/v1/subscriptions", body, Stripe_Version=version)
    assert (status, answer.get("billing_mode", {}).get("type")) == (200, mode), json.dumps(answer)


@pytest.mark.parametrize(
    "version", ["2020-08-27", "2024-06-21", "2026-03-25.preview", "2026-03-25.clover", "2026-13-25.clover", "nope"]
)
def test_versions_that_are_none_are_refused(raw: Raw, version: str) -> None:
    status, answer, _ = raw("GET", "/v1/products", Stripe_Version=version)
    assert status == 400
    assert version in answer["error"]["message"]
