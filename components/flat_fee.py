"""`FlatFeeWithOverages`: one short declaration turned into all of Stripe's objects.

A product, a licensed price for each fee, a meter and a metered price for each usage charge, the product's default
price, and for each subscriber a customer and a subscription with all of them. Source of the model:
https://docs.stripe.com/billing/subscriptions/usage-based/use-cases/flat-fee-and-overages
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final, Literal

import pulumi
from pydantic import BaseModel, ConfigDict, Field

from components.pricing import Band, Fee, Plan, Rate, Usage
from components.resources import Customer, DefaultPrice, Meter, Price, Product, Subscription
from money import decimal_text

#: What this process has declared, by the component's name: for commands that look at a program without applying it.
PLANS: Final[dict[str, Plan]] = {}


class Subscriber(BaseModel):
    """One customer on the plan.

    Without a stored payment method Stripe refuses a subscription that charges automatically, so the
    default is an invoice by e-mail, due in `days_until_due` days.

    Attributes:
        key: the customer's name in this program; it names the resources, so keep it for ever.
        seats: quantity of the fees that are per seat.
        billing_mode: `flexible` (Stripe's default) or `classic`.
        currency: one of the plan's; by default its first.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$", max_length=60)]
    name: Annotated[str, Field(min_length=1, max_length=256)]
    email: Annotated[str, Field(pattern=r"^[^@\s]+@[^@\s]+$", max_length=512)]
    seats: Annotated[int, Field(ge=1, strict=True)] = 1
    billing_mode: Literal["flexible", "classic"] = "flexible"
    days_until_due: Annotated[int, Field(ge=0, strict=True)] = 30
    currency: Annotated[str, Field(pattern=r"^[a-z]{3}$")] | None = None


class FlatFeeWithOverages(pulumi.ComponentResource):
    """A plan, the Stripe objects that sell it, and who is subscribed to it.

    Example: `FlatFeeWithOverages("alpaca-ai", plan=Plan(...), event_name="alpaca_ai_tokens",
    subscribers=[Subscriber(key="pacas-inc", name="Pacas Inc.", email="billing@example.com", seats=3)])`.

    Args:
        name: names every resource, and the lookup keys `<name>:<key of the charge>`.
        event_name: what meter events are sent under; unique among an account's active meters. A mapping from the key
            of the usage charge where the plan has several meters of its own.
        meters: the meters that the plan shares with others, by the `meter` of its usage charges.
        protect: whether Pulumi refuses to delete or replace what cannot be made again: the meters, the
            customers, the subscriptions. Prices stay free, since a price change is a replacement.

    Attributes:
        product: the plan's; charges with a product name have one of their own.
        prices, meters: by the key of the charge.
        customers, subscriptions: by the subscriber's key.

    Raises:
        ValueError: a meter or an event name is missing.
    """

    product: Product
    prices: dict[str, Price]
    meters: dict[str, Meter]
    customers: dict[str, Customer]
    subscriptions: dict[str, Subscription]

    def __init__(
        self,
        name: str,
        *,
        plan: Plan,
        event_name: str | Mapping[str, str] | None = None,
        meters: Mapping[str, Meter] | None = None,
        subscribers: Sequence[Subscriber] = (),
        protect: bool = False,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        # The model in money, above the objects that make it up. One property, because the engine prints a component's
        # other properties beside the changed one, and a reviewer shall read old -> new and nothing else.
        super().__init__("stripe-pricing:index:FlatFeeWithOverages", name, {"price": plan.price_text}, opts)
        PLANS[name] = plan
        self.lookup_keys = {charge.key: f"{name}:{charge.key}" for charge in plan.charges}
        self.event_names = event_names(plan, event_name, meters or {})
        child = pulumi.ResourceOptions(parent=self)
        kept = pulumi.ResourceOptions(parent=self, protect=protect)

        self.meters = {}
        for usage in plan.usage:
            if usage.meter is not None:
                self.meters[usage.key] = (meters or {})[usage.meter]
                continue
            self.meters[usage.key] = Meter(
                f"{name}-meter" if len(self.event_names) == 1 else f"{name}-{usage.key}-meter",
                display_name=f"{plan.name} {usage.units}",
                event_name=self.event_names[usage.key],
                default_aggregation={"formula": "sum"},
                opts=kept,
            )
        self.product = Product(f"{name}-product", name=plan.name, opts=child)
        self.prices = {}
        for charge in plan.charges:
            product = self.product
            if charge.product is not None:
                product = Product(f"{name}-{charge.key}-product", name=charge.product, opts=child)
            recurring: dict[str, Any] = {"interval": charge.interval, "usage_type": "licensed"}
            if charge.interval_count != 1:
                recurring["interval_count"] = charge.interval_count
            if isinstance(charge, Usage):
                recurring |= {"usage_type": "metered", "meter": self.meters[charge.key].id}
            self.prices[charge.key] = Price(
                f"{name}-{charge.key}",
                product=product.id,
                nickname=f"{plan.name} {charge.key}",
                lookup_key=self.lookup_keys[charge.key],
                recurring=recurring,  # type: ignore[arg-type]
                **price_parameters(plan, charge),
                opts=child,
            )
        first_fee = next((self.prices[fee.key] for fee in plan.fees if fee.product is None), None)
        if first_fee is not None:
            DefaultPrice(f"{name}-default-price", product=self.product.id, price=first_fee.id, opts=child)

        self.customers = {}
        self.subscriptions = {}
        for subscriber in subscribers:
            customer = Customer(f"{name}-{subscriber.key}", name=subscriber.name, email=subscriber.email, opts=kept)
            self.customers[subscriber.key] = customer
            trial: dict[str, Any] = {"trial_period_days": plan.trial_days} if plan.trial_days else {}
            self.subscriptions[subscriber.key] = Subscription(
                f"{name}-{subscriber.key}",
                customer=customer.id,
                # Left out it is the prices' own, and a plan in another currency then fails halfway: Stripe changes no
                # subscription's currency. Declared, it makes new subscriptions, and the preview says so.
                currency=subscriber.currency or plan.currencies[0],
                billing_mode={"type": subscriber.billing_mode},
                collection_method="send_invoice",
                days_until_due=subscriber.days_until_due,
                items={charge.key: self._item(charge, subscriber) for charge in plan.charges},
                **trial,
                opts=kept,
            )
        self.register_outputs({})

    def _item(self, charge: Fee | Usage, subscriber: Subscriber) -> Any:
        item = {"price": self.prices[charge.key].id}
        if isinstance(charge, Usage):
            return item
        return {**item, "quantity": subscriber.seats if charge.per == "seat" else 1}


def event_names(plan: Plan, given: str | Mapping[str, str] | None, meters: Mapping[str, Meter]) -> dict[str, str]:
    """What events are sent under, for each usage charge with a meter of its own, by the charge's key.

    Raises:
        ValueError: one has none, or a meter that charges share is not given.
    """
    for charge in plan.usage:
        if charge.meter is not None and charge.meter not in meters:
            raise ValueError(
                f"{plan.name}: usage {charge.key} is counted by the meter {charge.meter!r}; name it in meters"
            )
    own = [charge.key for charge in plan.usage if charge.meter is None]
    if isinstance(given, str):
        if len(own) != 1:
            raise ValueError(
                f"{plan.name} has {len(own)} meters of its own; give each an event_name by the charge's key"
            )
        return {own[0]: given}
    named = dict(given or {})
    if named.keys() != set(own):
        raise ValueError(f"{plan.name} needs an event_name for {', '.join(own) or 'no charge'}")
    return named


def price_parameters(plan: Plan, charge: Fee | Usage) -> dict[str, Any]:
    """The parameters of a price that say what a charge costs, in minor units, in every currency of the plan."""
    first, *others = plan.currencies
    rate = plan.rate(charge, first)
    parameters: dict[str, Any] = {"currency": first, **_amounts(rate)}
    if rate.mode != "per_unit":
        parameters |= {"billing_scheme": "tiered", "tiers_mode": rate.mode}
    if rate.round:
        parameters["transform_quantity"] = {"divide_by": rate.divide_by, "round": rate.round}
    if others:
        parameters["currency_options"] = {code: _amounts(plan.rate(charge, code)) for code in others}
    return parameters


def _amounts(rate: Rate) -> dict[str, Any]:
    if rate.mode == "per_unit":
        return {"unit_amount_decimal": decimal_text(rate.bands[0].unit_amount)}
    return {"tiers": [_tier(band) for band in rate.bands]}


def _tier(band: Band) -> dict[str, Any]:
    flat = {} if band.flat_amount is None else {"flat_amount_decimal": decimal_text(band.flat_amount)}
    return {
        "up_to": "inf" if band.up_to is None else band.up_to,
        "unit_amount_decimal": decimal_text(band.unit_amount),
        **flat,
    }
