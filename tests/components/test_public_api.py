"""The names that other programs may rely on. Removing or moving one needs a major version."""

from __future__ import annotations

import importlib
import inspect
from typing import Any

import pytest

#: Classes that a program uses, by their modules, and `program`; functions beside them are ours.
NAMES = {
    "components.plan": ["PlanVersion", "PublishedPlan"],
    "components.pricing": ["Band", "Fee", "Overage", "Plan", "PricingError", "Rate", "Tier", "Usage", "Version"],
    "components.program": ["program"],
    "components.resources": [
        *("AddInvoiceItem", "Aggregation", "AmountOff", "Cancel", "Coupon", "CouponArguments", "CurrencyOption"),
        *("Customer", "CustomerArguments"),
        *("DefaultPrice", "DefaultPriceArguments", "DefaultPriceData", "Discount", "Interval", "Item", "Meter"),
        *("MeterArguments", "OneTimePriceData", "Price", "PriceArguments", "PriceData", "Product", "ProductArguments"),
        *("Promotion", "PromotionCode", "PromotionCodeArguments"),
        *("Recurring", "StripeResource", "Subscription", "SubscriptionArguments", "Tier", "TransferData"),
    ],
    "components.settings": ["Settings", "SettingsError", "StackConfig"],
    "components.subscriber": ["Subscriber", "SubscriberArguments"],
}
SIGNATURES = {
    "components.plan.PublishedPlan": "(name, plan, *, event_name=, meters=, protect=, lookup_keys=, default_price=, "
    "opts=)",
    "components.pricing.Fee": "(amount, *, per=, interval=, interval_count=, key=, product=)",
    "components.pricing.Overage": "(amount, *, per=, round=)",
    "components.pricing.Plan": "(name, *, fees=, usage=, currency=, trial_days=)",
    "components.pricing.Tier": "(amount, *, per=, up_to=, flat=)",
    "components.pricing.Usage": "(unit, *, units, included=, overage=, tiers=, tiers_mode=, meter=, interval=, "
    "interval_count=, key=, product=)",
    "components.pricing.Version": "(plan, *, rollout=, archived=)",
    "components.program.program": "(*, meant=)",
    "components.resources.Price": "(resource_name, /, *, opts=, **arguments)",
    "components.subscriber.Subscriber": "(name, plans, **given)",
}


@pytest.mark.parametrize("module", NAMES)
def test_the_public_names_of_a_module_are_these(module: str) -> None:
    found = [
        name
        for name, value in vars(importlib.import_module(module)).items()
        if getattr(value, "__module__", None) == module and (inspect.isclass(value) or name == "program")
    ]
    assert sorted(name for name in found if not name.startswith("_")) == NAMES[module]


@pytest.mark.parametrize("path", SIGNATURES)
def test_they_are_called_as_before(path: str) -> None:
    module, _, name = path.rpartition(".")
    assert called(getattr(importlib.import_module(module), name)) == SIGNATURES[path]


def called(value: Any) -> str:
    """A signature without its types and values: `(name, *, opts=)`."""
    signature = inspect.signature(value)
    text = str(signature.replace(parameters=[bare(each) for each in signature.parameters.values()]))
    return text.partition(" ->")[0].replace("=Ellipsis", "=")


def bare(parameter: inspect.Parameter) -> inspect.Parameter:
    has_default = parameter.default is not inspect.Parameter.empty
    default = ... if has_default else inspect.Parameter.empty
    return parameter.replace(annotation=inspect.Parameter.empty, default=default)
