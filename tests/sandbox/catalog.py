"""The objects that tests start from: a meter, a product, prices, a customer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import stripe


@dataclass(frozen=True)
class Catalog:
    """Stripe's flat fee and overages model."""

    meter: stripe.billing.Meter
    product: stripe.Product
    license: stripe.Price
    usage: stripe.Price
    customer: stripe.Customer


def plain(value: Any) -> Any:
    """A StripeObject as the JSON that it was."""
    return value.to_dict() if isinstance(value, stripe.StripeObject) else value


def meter(client: stripe.StripeClient, event_name: str = "alpaca_ai_tokens", **more: Any) -> stripe.billing.Meter:
    """A meter that sums."""
    params = {
        "display_name": "Alpaca.ai tokens",
        "event_name": event_name,
        "default_aggregation": {"formula": "sum"},
        **more,
    }
    return client.v1.billing.meters.create(params)  # type: ignore[arg-type]


def usage_price(client: stripe.StripeClient, meter_id: str, product_id: str, **more: Any) -> stripe.Price:
    """0.04 cents a unit above a thousand free ones."""
    params = {
        "currency": "usd",
        "product": product_id,
        "billing_scheme": "tiered",
        "tiers_mode": "graduated",
        "recurring": {"interval": "month", "usage_type": "metered", "meter": meter_id},
        "tiers": [{"up_to": 1000, "unit_amount": 0}, {"up_to": "inf", "unit_amount_decimal": "0.04"}],
        **more,
    }
    return client.v1.prices.create(params)  # type: ignore[arg-type]


def catalog(client: stripe.StripeClient) -> Catalog:
    """All of it."""
    tokens = meter(client)
    product = client.v1.products.create({"name": "Alpaca.ai"})
    fee = client.v1.prices.create(
        {"currency": "usd", "product": product.id, "unit_amount": 10000, "recurring": {"interval": "month"}}
    )
    usage = usage_price(client, tokens.id, product.id)
    customer = client.v1.customers.create({"name": "Ada", "email": "ada@example.com"})
    return Catalog(tokens, product, fee, usage, customer)
