"""The pricing of Alpaca.ai, Stripe's example company: a flat fee for each seat, with overages on tokens.

Change a number, read `pulumi preview`, apply it with `pulumi up`.
"""

from decimal import Decimal

import pulumi

from components.flat_fee import FlatFeeWithOverages, Subscriber
from components.pricing import Overage, Plan
from components.program import program

with program() as settings:
    alpaca = FlatFeeWithOverages(
        "alpaca-ai",
        plan=Plan(
            name="Alpaca.ai",
            fee=Decimal("100.00"),  # USD per seat and month, in advance
            unit="token",
            included=1_000,  # tokens per month
            overage=Overage(amount=Decimal("0.04"), per=100),  # USD per hundred tokens above that
        ),
        event_name="alpaca_ai_tokens",
        subscribers=[
            Subscriber(key="first-customer", name="First Customer", email="billing@example.com", seats=3),
        ],
        protect=settings.mode == "live",
    )

    pulumi.export("mode", settings.mode)
    pulumi.export("event_name", alpaca.event_name)
    pulumi.export("lookup_keys", alpaca.lookup_keys)
    pulumi.export("meter", alpaca.meter.id)
    pulumi.export("product", alpaca.product.id)
    pulumi.export("license_price", alpaca.license.id)
    pulumi.export("usage_price", alpaca.usage.id)
    pulumi.export("customers", {key: customer.id for key, customer in alpaca.customers.items()})
    pulumi.export("subscriptions", {key: subscription.id for key, subscription in alpaca.subscriptions.items()})
