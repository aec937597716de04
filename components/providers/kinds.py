"""The list of kinds. Tables, documentation, tests and benchmarks derive from it: a new kind is a file and a line."""

from __future__ import annotations

from typing import Final

from components.providers.coupon import CouponProvider
from components.providers.customer import CustomerProvider
from components.providers.default_price import DefaultPriceProvider
from components.providers.kind import Kind
from components.providers.lifecycle import StripeProvider
from components.providers.meter import MeterProvider
from components.providers.price import PriceProvider
from components.providers.product import ProductProvider
from components.providers.promotion_code import PromotionCodeProvider
from components.providers.subscription import SubscriptionProvider

#: In creation order: a kind comes after those it links to.
PROVIDERS: Final[tuple[type[StripeProvider], ...]] = (
    MeterProvider,
    ProductProvider,
    PriceProvider,
    DefaultPriceProvider,
    CouponProvider,
    CustomerProvider,
    PromotionCodeProvider,
    SubscriptionProvider,
)
KINDS: Final[tuple[Kind, ...]] = tuple(provider.kind for provider in PROVIDERS)


def provider_of(kind: Kind) -> type[StripeProvider]:
    """The provider of a kind."""
    return next(provider for provider in PROVIDERS if provider.kind is kind)
