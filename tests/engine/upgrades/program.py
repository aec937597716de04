"""The program whose state every release keeps: the Alpaca.ai model, and one resource of each kind with what it can say.

The model is that of every release, so whatever a preview shows between two releases is our doing. Its first lines are
written as today's components take them: until 0.1 a plan and its subscribers were one component.
"""

import pulumi

from components.plan import PublishedPlan
from components.pricing import Fee, Overage, Plan, Usage
from components.program import program
from components.resources import Customer, DefaultPrice, Meter, Price, Product, Subscription
from components.subscriber import Subscriber

with program():
    alpaca = PublishedPlan(
        "alpaca-ai",
        Plan(
            "Alpaca.ai",
            fees=Fee("100.00"),
            usage=Usage("token", included=1_000, overage=Overage("0.04", per=100)),
        ),
        event_name="alpaca_ai_tokens",
    )
    first = Subscriber(
        "alpaca-ai-first-customer", alpaca, customer_name="First Customer", email="billing@example.com", seats=3
    )

    meter = Meter(
        "calls",
        display_name="Calls",
        event_name="calls",
        default_aggregation={"formula": "last"},
        event_time_window="day",
        customer_mapping={"type": "by_id", "event_payload_key": "who"},
        value_settings={"event_payload_key": "how_many"},
    )
    product = Product(
        "llama",
        id="llama",
        name="Llama",
        description="A fee, packages of calls, and volume prices",
        metadata={"team": "pricing"},
        statement_descriptor="LLAMA",
    )
    fee = Price(
        "llama-fee",
        product=product.id,
        currency="eur",
        lookup_key="llama:fee",
        nickname="Llama, a year",
        tax_behavior="exclusive",
        unit_amount_decimal="1200.5",
        currency_options={"jpy": {"unit_amount_decimal": "200000"}},
        metadata={"tier": "one"},
        recurring={"interval": "year", "usage_type": "licensed"},
    )
    packages = Price(
        "llama-calls",
        product=product.id,
        currency="eur",
        unit_amount=7,
        transform_quantity={"divide_by": 100, "round": "up"},
        recurring={"interval": "year", "usage_type": "metered", "meter": meter.id},
    )
    Price(
        "llama-seats",
        product=product.id,
        currency="eur",
        billing_scheme="tiered",
        tiers_mode="volume",
        tiers=[
            {"up_to": 10, "unit_amount_decimal": "500", "flat_amount_decimal": "1000"},
            {"up_to": "inf", "unit_amount_decimal": "400"},
        ],
        recurring={"interval": "month", "interval_count": 3, "usage_type": "licensed"},
    )
    DefaultPrice("llama-default", product=product.id, price=fee.id)
    customer = Customer(
        "vicuna",
        name="Vicuña GmbH",
        email="vicuna@example.com",
        address={"line1": "Weg 1", "city": "Berlin", "postal_code": "10115", "country": "DE"},
        preferred_locales=["de", "en"],
        metadata={"crm": "42"},
        tax_exempt="none",
    )
    Subscription(
        "vicuna-llama",
        customer=customer.id,
        billing_mode={"type": "classic"},
        collection_method="send_invoice",
        days_until_due=14,
        description="Calls by the hundred",
        items={"fee": {"price": fee.id, "quantity": 2, "metadata": {"line": "1"}}, "calls": {"price": packages.id}},
        cancel={"when": "period_end"},
        metadata={"contract": "7"},
    )
    pulumi.export("customers", {"first-customer": first.customer_id})
