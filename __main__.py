"""The pricing of Alpaca.ai, Stripe's example company: a flat fee for each seat, with overages on tokens.

To change a price, add a version: `{1: first, 2: Version(Plan(...), rollout="keep")}` in place of `first`.
"""

import pulumi

from components.plan import PublishedPlan
from components.pricing import Fee, Overage, Plan, Usage
from components.program import program
from components.subscriber import Subscriber

with program() as settings:
    live = settings.mode == "live"
    first = Plan(
        "Alpaca.ai",
        fees=Fee("100.00"),  # USD per seat and month, in advance
        # 1,000 tokens a month included, 0.04 USD per hundred above that
        usage=Usage("token", included=1_000, overage=Overage("0.04", per=100)),
    )
    alpaca = PublishedPlan("alpaca-ai", first, event_name="alpaca_ai_tokens", protect=live)
    subscribers = [
        Subscriber(
            "alpaca-ai-first-customer",
            alpaca,
            customer_name="First Customer",
            email="billing@example.com",
            seats=3,
            protect=live,
        ),
    ]

    pulumi.export("mode", settings.mode)
    pulumi.export("event_name", alpaca.event_names["usage"])
    pulumi.export("lookup_keys", alpaca.lookup_keys)
    pulumi.export("catalogue", {alpaca.name: alpaca.catalogue})
    pulumi.export("meter", alpaca.meters["usage"].id)
    pulumi.export("product", alpaca.product.id)
    pulumi.export("license_price", alpaca.prices["license"].id)
    pulumi.export("usage_price", alpaca.prices["usage"].id)
    pulumi.export("customers", {each.name: each.customer_id for each in subscribers})
    pulumi.export("subscriptions", {each.name: each.subscription.id for each in subscribers})
