"""`FlatFeeWithOverages`: one short declaration turned into all of Stripe's objects.

A meter, a product, a licensed price (the fee, quantity = seats), a metered price on that meter (the
included units free, the overage above), the product's default price, and for each subscriber a customer
and a subscription with both prices. Source of the model:
https://docs.stripe.com/billing/subscriptions/usage-based/use-cases/flat-fee-and-overages
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import pulumi
from pydantic import BaseModel, ConfigDict, Field

from components.pricing import Plan, decimal_text
from components.resources import Customer, DefaultPrice, Meter, Price, Product, Subscription


class Subscriber(BaseModel):
    """One customer on the plan.

    Without a stored payment method Stripe refuses a subscription that charges automatically, so the
    default is an invoice by e-mail, due in `days_until_due` days.

    Attributes:
        key: the customer's name in this program; it names the resources, so keep it for ever.
        seats: quantity of the licensed price.
        billing_mode: `flexible` (Stripe's default) or `classic`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$", max_length=60)]
    name: Annotated[str, Field(min_length=1, max_length=256)]
    email: Annotated[str, Field(pattern=r"^[^@\s]+@[^@\s]+$", max_length=512)]
    seats: Annotated[int, Field(ge=1, strict=True)] = 1
    billing_mode: Literal["flexible", "classic"] = "flexible"
    days_until_due: Annotated[int, Field(ge=0, strict=True)] = 30


class FlatFeeWithOverages(pulumi.ComponentResource):
    """A plan, the Stripe objects that sell it, and who is subscribed to it.

    Example: `FlatFeeWithOverages("alpaca-ai", plan=Plan(...), event_name="alpaca_ai_tokens",
    subscribers=[Subscriber(key="pacas-inc", name="Pacas Inc.", email="billing@example.com", seats=3)])`.

    Args:
        name: names every resource, and the lookup keys `<name>:license` and `<name>:usage`.
        event_name: what meter events are sent under; unique among an account's active meters.
        protect: whether Pulumi refuses to delete or replace what cannot be made again: the meter, the
            customers, the subscriptions. Prices stay free, since a price change is a replacement.

    Attributes:
        meter, product, license, usage: the resources; link to them by `.id`.
        customers, subscriptions: by the subscriber's key.
    """

    meter: Meter
    product: Product
    license: Price
    usage: Price
    customers: dict[str, Customer]
    subscriptions: dict[str, Subscription]

    def __init__(
        self,
        name: str,
        *,
        plan: Plan,
        event_name: str,
        subscribers: Sequence[Subscriber] = (),
        protect: bool = False,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        # The model in money, above the objects that make it up. One property, because the engine prints a component's
        # other properties beside the changed one, and a reviewer shall read old -> new and nothing else.
        super().__init__("stripe-pricing:index:FlatFeeWithOverages", name, {"price": plan.price_text}, opts)
        self.lookup_keys = {"license": f"{name}:license", "usage": f"{name}:usage"}
        self.event_name = event_name
        child = pulumi.ResourceOptions(parent=self)
        kept = pulumi.ResourceOptions(parent=self, protect=protect)

        self.meter = Meter(
            f"{name}-meter",
            display_name=f"{plan.name} {plan.unit}s",
            event_name=event_name,
            default_aggregation={"formula": "sum"},
            opts=kept,
        )
        self.product = Product(f"{name}-product", name=plan.name, opts=child)
        self.license = Price(
            f"{name}-license",
            product=self.product.id,
            currency=plan.currency,
            nickname=f"{plan.name} license",
            lookup_key=self.lookup_keys["license"],
            unit_amount_decimal=decimal_text(plan.fee_minor),
            recurring={"interval": plan.interval, "usage_type": "licensed"},
            opts=child,
        )
        self.usage = Price(
            f"{name}-usage",
            product=self.product.id,
            currency=plan.currency,
            nickname=f"{plan.name} usage",
            lookup_key=self.lookup_keys["usage"],
            recurring={"interval": plan.interval, "usage_type": "metered", "meter": self.meter.id},
            **usage_price(plan),
            opts=child,
        )
        DefaultPrice(f"{name}-default-price", product=self.product.id, price=self.license.id, opts=child)

        self.customers = {}
        self.subscriptions = {}
        for subscriber in subscribers:
            customer = Customer(f"{name}-{subscriber.key}", name=subscriber.name, email=subscriber.email, opts=kept)
            self.customers[subscriber.key] = customer
            self.subscriptions[subscriber.key] = Subscription(
                f"{name}-{subscriber.key}",
                customer=customer.id,
                # Left out it is the prices' own, and a plan in another currency then fails halfway: Stripe changes no
                # subscription's currency. Declared, it makes new subscriptions, and the preview says so.
                currency=plan.currency,
                billing_mode={"type": subscriber.billing_mode},
                collection_method="send_invoice",
                days_until_due=subscriber.days_until_due,
                items={
                    "license": {"price": self.license.id, "quantity": subscriber.seats},
                    "usage": {"price": self.usage.id},
                },
                opts=kept,
            )
        self.register_outputs({})


def usage_price(plan: Plan) -> dict[str, Any]:
    """The parameters of the metered price that say what usage costs, in minor units.

    With included units: graduated tiers, the first of them free. Without: one rate, and where whole
    packages are charged, `transform_quantity` (which Stripe refuses together with tiers).
    """
    rate = decimal_text(plan.overage_minor)
    if plan.included:
        return {
            "billing_scheme": "tiered",
            "tiers_mode": "graduated",
            "tiers": [
                {"up_to": plan.included, "unit_amount_decimal": "0"},
                {"up_to": "inf", "unit_amount_decimal": rate},
            ],
        }
    if plan.overage.round:
        return {
            "unit_amount_decimal": rate,
            "transform_quantity": {"divide_by": plan.overage.per, "round": plan.overage.round},
        }
    return {"unit_amount_decimal": rate}
