"""What Stripe's test mode was recorded to send and the rest of the suite does not state: fields, events, their order.

The facts are from recordings on API 2026-08-26.dahlia in the public repository Kiln-AI/stripe_world,
`tests/conformance/cassettes`; the file is named beside each. docs/sandbox.md ("What is as recorded") says where the
sandbox differs on purpose.
"""

from __future__ import annotations

from typing import Any

import stripe

from .catalog import plain


def last(client: stripe.StripeClient, type: str) -> Any:
    """The newest event of a type, as plain values."""
    return plain(client.v1.events.list({"type": type, "limit": 1}).data[0])


# -- products, prices, coupons: 07_catalog, probe_catalog_events -------------------------------------------------------


def test_a_tax_code_is_shown_twice(client: stripe.StripeClient) -> None:
    product = client.v1.products.create({"name": "Full", "tax_code": "txcd_10103000"})
    assert product.tax_code == "txcd_10103000"
    assert plain(product)["tax_details"] == {"performance_location": None, "tax_code": "txcd_10103000"}
    placed = client.v1.products.update(product.id, {"tax_details": {"performance_location": "tl_1"}})
    assert plain(placed)["tax_details"] == {"performance_location": "tl_1", "tax_code": "txcd_10103000"}
    cleared = client.v1.products.update(product.id, {"tax_details": ""})
    assert (cleared.tax_code, plain(cleared)["tax_details"]) == (None, None)


def test_previous_attributes_of_a_hash_are_the_keys_that_changed(client: stripe.StripeClient) -> None:
    product = client.v1.products.create({"name": "A", "metadata": {"seed": "1", "went": "2"}})
    client.v1.products.update(product.id, {"description": "d", "metadata": {"a": "1", "went": ""}})
    event = last(client, "product.updated")
    assert event["data"]["object"]["metadata"] == {"a": "1", "seed": "1"}
    assert event["data"]["previous_attributes"] == {"description": None, "metadata": {"a": None, "went": "2"}}


def test_what_is_deleted_is_told_of_as_over(client: stripe.StripeClient) -> None:
    client.v1.products.delete(client.v1.products.create({"name": "A"}).id)
    assert last(client, "product.deleted")["data"]["object"]["active"] is False
    client.v1.coupons.delete(client.v1.coupons.create({"percent_off": 10}).id)
    assert last(client, "coupon.deleted")["data"]["object"]["valid"] is False


def test_the_event_of_a_product_names_the_default_price_made_with_it(client: stripe.StripeClient) -> None:
    product = client.v1.products.create({"name": "A", "default_price_data": {"currency": "usd", "unit_amount": 1500}})
    events = plain(client.v1.events.list({"limit": 2}))["data"]
    assert [event["type"] for event in events] == ["price.created", "product.created"]
    assert events[1]["data"]["object"]["default_price"] == events[0]["data"]["object"]["id"] == product.default_price


# -- customers: 06_customers_payment_methods, probe_invoice_prefix -----------------------------------------------------


def test_a_customer_names_the_account_that_it_has_not(client: stripe.StripeClient) -> None:
    assert plain(client.v1.customers.create({}))["customer_account"] is None


def test_an_invoice_prefix_is_kept_by_who_has_it(client: stripe.StripeClient) -> None:
    holder = client.v1.customers.create({"invoice_prefix": "P626092001"})
    assert client.v1.customers.update(holder.id, {"invoice_prefix": "P626092001"}).invoice_prefix == "P626092001"
