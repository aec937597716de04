"""`PublishedPlan`: a plan turned into the Stripe objects that sell it.

A product, a licensed price for each fee, a meter and a metered price for each usage charge, and the product's default
price. Source of the model: https://docs.stripe.com/billing/subscriptions/usage-based/use-cases/flat-fee-and-overages
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import pulumi

from components.pricing import Band, Fee, Plan, PricingError, Rate, Usage
from components.resources import DefaultPrice, Meter, Price, Product
from money import decimal_text

#: What this process has declared, by the component's name: for what looks at a program without applying it.
PLANS: Final[dict[str, Plan]] = {}


class PublishedPlan(pulumi.ComponentResource):
    """A plan and the Stripe objects that sell it.

    Example: `PublishedPlan("alpaca-ai", Plan("Alpaca.ai", ...), event_name="alpaca_ai_tokens")`.

    Args:
        name: names every resource, and the lookup keys `<name>:<key of the charge>`; keep it for ever.
        event_name: what meter events are sent under; unique among an account's active meters. A mapping from the key
            of the usage charge where the plan has several meters of its own.
        meters: the meters that the plan shares with others, by the `meter` of its usage charges.
        protect: whether Pulumi refuses to delete or replace the plan's meters. Prices stay free, since a price change
            is a replacement.

    Attributes:
        plan: what it costs.
        product: the plan's; charges with a product name have one of their own.
        prices, meters, lookup_keys: by the key of the charge.
        event_names: those of the plan's own meters, by the key of the charge.

    Raises:
        PricingError: a meter or an event name is missing.
    """

    product: Product
    products: dict[str, Product]
    prices: dict[str, Price]
    meters: dict[str, Meter]

    def __init__(
        self,
        name: str,
        plan: Plan,
        *,
        event_name: str | Mapping[str, str] | None = None,
        meters: Mapping[str, Meter] | None = None,
        protect: bool = False,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        former = pulumi.ResourceOptions(aliases=[pulumi.Alias(type_="stripe-pricing:index:FlatFeeWithOverages")])
        # The model in money, above the objects that make it up. One property, because the engine prints a component's
        # other properties beside the changed one, and a reviewer shall read old -> new and nothing else.
        super().__init__(
            "stripe-pricing:index:PublishedPlan",
            name,
            {"price": plan.price_text},
            pulumi.ResourceOptions.merge(former, opts),
        )
        PLANS[name] = plan
        self.name, self.plan = name, plan
        self.lookup_keys = {charge.key: f"{name}:{charge.key}" for charge in plan.charges}
        self.event_names = event_names(plan, event_name, meters or {})
        child = pulumi.ResourceOptions(parent=self)
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
                opts=pulumi.ResourceOptions(parent=self, protect=protect),
            )
        self.product = Product(f"{name}-product", name=plan.name, opts=child)
        self.products = {}
        self.prices = {}
        for charge in plan.charges:
            self.products[charge.key] = self.product
            if charge.product is not None:
                self.products[charge.key] = Product(f"{name}-{charge.key}-product", name=charge.product, opts=child)
            self.prices[charge.key] = Price(
                f"{name}-{charge.key}",
                product=self.products[charge.key].id,
                nickname=f"{plan.name} {charge.key}",
                lookup_key=self.lookup_keys[charge.key],
                **price_parameters(plan, charge, self.meters.get(charge.key)),
                opts=child,
            )
        first_fee = next((self.prices[fee.key] for fee in plan.fees if fee.product is None), None)
        if first_fee is not None:
            DefaultPrice(f"{name}-default-price", product=self.product.id, price=first_fee.id, opts=child)
        self.register_outputs({})


def event_names(plan: Plan, given: str | Mapping[str, str] | None, meters: Mapping[str, Meter]) -> dict[str, str]:
    """What events are sent under, for each usage charge with a meter of its own, by the charge's key.

    Raises:
        PricingError: one has none, or a meter that charges share is not given.
    """
    for charge in plan.usage:
        if charge.meter is not None and charge.meter not in meters:
            raise PricingError(
                f"{plan.name}: usage {charge.key} is counted by the meter {charge.meter!r}; name it in meters"
            )
    own = [charge.key for charge in plan.usage if charge.meter is None]
    if isinstance(given, str):
        if len(own) != 1:
            raise PricingError(
                f"{plan.name} has {len(own)} meters of its own; give each an event_name by the charge's key"
            )
        return {own[0]: given}
    named = dict(given or {})
    if named.keys() != set(own):
        raise PricingError(f"{plan.name} needs an event_name for {', '.join(own) or 'no charge'}")
    return named


def price_parameters(plan: Plan, charge: Fee | Usage, meter: Meter | None) -> dict[str, Any]:
    """The parameters of a price that say what a charge costs, in minor units, in every currency of the plan."""
    first, *others = plan.currencies
    rate = plan.rate(charge, first)
    recurring: dict[str, Any] = {"interval": charge.interval, "usage_type": "licensed"}
    if charge.interval_count != 1:
        recurring["interval_count"] = charge.interval_count
    if meter is not None:
        recurring |= {"usage_type": "metered", "meter": meter.id}
    parameters: dict[str, Any] = {"currency": first, "recurring": recurring, **_amounts(rate)}
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
