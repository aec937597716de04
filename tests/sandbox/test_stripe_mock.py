"""Every v1 request that the sandbox takes in a whole session is one that stripe-mock takes too.

The log of a life through the real engine is replayed in tests/engine/test_requests_are_stripes.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import stripe

from .catalog import catalog
from .conftest import NEW_YEAR, Control
from .stripe_mock import ask, replay, running


@pytest.fixture(scope="module")
def mock() -> Iterator[tuple[str, int]]:
    with running() as address:
        yield address


@pytest.mark.slow
def test_the_oracle_can_say_no(mock: tuple[str, int]) -> None:
    assert ask(mock, "POST", "/v1/products", "name=A")[0] == 200
    assert ask(mock, "POST", "/v1/products", "name=A&nope=1")[0] == 400
    assert ask(mock, "GET", "/v1/nope", "")[0] == 404
    sent, complaints = replay(mock, [{"method": "POST", "url": "/v1/products", "body": "nope=1", "status": 200}])
    assert (sent, len(complaints)) == (1, 1)


@pytest.mark.slow
def test_a_whole_session(client: stripe.StripeClient, control: Control, mock: tuple[str, int]) -> None:
    session(client)
    lines = control("GET", "requests")["data"]
    assert {line["status"] for line in lines} == {200}
    sent, complaints = replay(mock, lines)
    assert complaints == []
    assert sent > 40


def session(client: stripe.StripeClient) -> None:
    """What the program, the usage module and a curious user do, once each."""
    things = catalog(client)
    product, customer, meter = things.product.id, things.customer.id, things.meter.id
    v1 = client.v1
    v1.accounts.retrieve_current()
    v1.products.update(product, {"default_price": things.license.id, "description": "x", "metadata": {"a": "b"}})
    v1.products.update(product, {"default_price": "", "description": "", "metadata": {"a": ""}})
    v1.products.retrieve(product, {"expand": ["default_price"]})
    v1.products.list({"active": True, "limit": 3, "created": {"gte": NEW_YEAR}})
    v1.products.search({"query": 'metadata["a"]:"b"'})
    package = v1.prices.create(
        {
            "currency": "usd",
            "product_data": {"name": "Package", "metadata": {"a": "b"}, "unit_label": "pack"},
            "unit_amount": 500,
            "lookup_key": "pack",
            "transform_quantity": {"divide_by": 100, "round": "up"},
            "currency_options": {"eur": {"unit_amount": 450}},
            "recurring": {"interval": "year", "interval_count": 1},
            "tax_behavior": "exclusive",
            "transfer_lookup_key": True,
        }
    )
    v1.prices.update(package.id, {"active": False, "nickname": "old", "lookup_key": "", "metadata": {"a": "b"}})
    v1.prices.list({"lookup_keys": ["pack"], "expand": ["data.tiers", "data.currency_options"]})
    v1.prices.list({"product": product, "recurring": {"usage_type": "metered", "meter": meter}})
    v1.prices.retrieve(things.usage.id, {"expand": ["tiers", "product"]})
    v1.prices.search({"query": '-metadata["a"]:null'})
    v1.billing.meters.list({"status": "active"})
    v1.billing.meters.retrieve(meter)
    v1.billing.meters.update(meter, {"display_name": "New"})
    v1.customers.update(customer, {"address": {"country": "DE"}, "invoice_settings": {"footer": "x"}})
    v1.customers.update(customer, {"address": "", "metadata": ""})
    v1.customers.list({"email": "ada@example.com"})
    v1.customers.search({"query": 'metadata["a"]:null'})
    v1.coupons.create({"id": "HALF", "percent_off": 50, "duration": "repeating", "duration_in_months": 3})
    v1.coupons.update("HALF", {"name": "Half"})
    v1.coupons.list()
    v1.coupons.retrieve("HALF")
    subscription = v1.subscriptions.create(
        {
            "customer": customer,
            "items": [{"price": things.license.id, "quantity": 3}, {"price": things.usage.id}],
            "collection_method": "send_invoice",
            "days_until_due": 30,
            "billing_mode": {"type": "flexible"},
            "metadata": {"pulumi": "p/s/a"},
            "expand": ["latest_invoice"],
        }
    )
    v1.billing.meter_events.create(
        {
            "event_name": things.meter.event_name,
            "payload": {"stripe_customer_id": customer, "value": "26000"},
            "identifier": "one",
            "timestamp": NEW_YEAR,
        }
    )
    v1.billing.meters.event_summaries.list(
        meter,
        {
            "customer": customer,
            "start_time": NEW_YEAR,
            "end_time": NEW_YEAR + 3600,
            "value_grouping_window": "hour",
        },
    )
    v1.invoices.create_preview({"subscription": subscription.id})
    v1.invoices.list({"subscription": subscription.id})
    v1.subscriptions.retrieve(subscription.id, {"expand": ["items.data.price.product"]})
    v1.subscriptions.list({"customer": customer, "status": "all"})
    items: Any = {"items": [{"id": subscription["items"]["data"][0]["id"], "quantity": 4}]}
    v1.subscriptions.update(subscription.id, items)
    v1.subscription_items.list({"subscription": subscription.id})
    v1.billing.meter_event_adjustments.create(
        {"event_name": things.meter.event_name, "type": "cancel", "cancel": {"identifier": "one"}}
    )
    v1.subscriptions.cancel(subscription.id, {"invoice_now": True, "prorate": True})
    v1.events.list({"type": "customer.subscription.deleted"})
    clock = v1.test_helpers.test_clocks.create({"frozen_time": NEW_YEAR, "name": "C"})
    v1.customers.create({"name": "On a clock", "test_clock": clock.id})
    v1.test_helpers.test_clocks.advance(clock.id, {"frozen_time": NEW_YEAR + 3600})
    v1.test_helpers.test_clocks.retrieve(clock.id)
    v1.test_helpers.test_clocks.delete(clock.id)
    v1.billing.meters.deactivate(meter)
    v1.billing.meters.reactivate(meter)
    v1.billing.meters.deactivate(meter)
    v1.prices.update(things.license.id, {"active": False})
    v1.products.update(product, {"active": False})
    v1.products.delete(v1.products.create({"name": "Empty"}).id)
    v1.coupons.delete("HALF")
    v1.customers.delete(customer)
