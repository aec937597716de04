"""Stripe's objects as typed Pulumi resources, from `Meter` to `Subscription`: a class a kind.

Every parameter that Stripe has is an argument, under Stripe's name; amounts are `str`, `Decimal` or `int` in minor
units, never `float`. Stripe's documentation says what an argument means; docs/providers.md says what changing, removing
or deleting it does. Link resources by `.id`: any other output is unknown in the preview of an update.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Required, TypedDict, TypeVar, Unpack

import pulumi
from pulumi.dynamic import Resource

from components import leaving
from components.adopted import adopted
from components.providers.coupon import CouponProvider
from components.providers.customer import CustomerProvider
from components.providers.default_price import DefaultPriceProvider
from components.providers.lifecycle import COMMON_OUTPUTS, StripeProvider
from components.providers.meter import MeterProvider
from components.providers.price import PriceProvider
from components.providers.product import ProductProvider
from components.providers.promotion_code import PromotionCodeProvider
from components.providers.subscription import SubscriptionProvider

T = TypeVar("T")

if TYPE_CHECKING:
    from pulumi import Input
    from stripe import params
    from stripe.params import billing

    Amount = Input[str | Decimal | int]
    Metadata = Input[Mapping[str, Input[str]]]
    Strings = Input[Sequence[Input[str]]]
    TaxBehavior = Input[Literal["exclusive", "inclusive", "unspecified"]]


# -- arguments ------------------------------------------------------------------------------------------------------


class Aggregation(TypedDict):
    formula: Input[Literal["count", "last", "sum"]]


class MeterArguments(TypedDict, total=False):
    adopt: Input[str]
    active: Input[bool]
    customer_mapping: Input[billing.MeterCreateParamsCustomerMapping]
    default_aggregation: Required[Input[Aggregation]]
    display_name: Required[Input[str]]
    event_name: Required[Input[str]]
    event_time_window: Input[Literal["day", "hour"]]
    value_settings: Input[billing.MeterCreateParamsValueSettings]


class Interval(TypedDict, total=False):
    interval: Required[Input[Literal["day", "month", "week", "year"]]]
    interval_count: Input[int]


class Recurring(Interval, total=False):
    meter: Input[str]
    trial_period_days: Input[int]
    usage_type: Input[Literal["licensed", "metered"]]


class Tier(TypedDict, total=False):
    up_to: Required[Input[int | Literal["inf"]]]
    flat_amount: Input[int]
    flat_amount_decimal: Amount
    unit_amount: Input[int]
    unit_amount_decimal: Amount


class CurrencyOption(TypedDict, total=False):
    custom_unit_amount: Input[params.PriceCreateParamsCurrencyOptionsCustomUnitAmount]
    tax_behavior: TaxBehavior
    tiers: Input[Sequence[Input[Tier]]]
    unit_amount: Input[int]
    unit_amount_decimal: Amount


class DefaultPriceData(TypedDict, total=False):
    currency: Required[Input[str]]
    currency_options: Input[Mapping[str, Input[CurrencyOption]]]
    custom_unit_amount: Input[params.ProductCreateParamsDefaultPriceDataCustomUnitAmount]
    metadata: Metadata
    recurring: Input[Interval]
    tax_behavior: TaxBehavior
    unit_amount: Input[int]
    unit_amount_decimal: Amount


class ProductArguments(TypedDict, total=False):
    adopt: Input[str]
    active: Input[bool]
    default_price: Input[str]
    default_price_data: Input[DefaultPriceData]
    description: Input[str]
    id: Input[str]
    images: Strings
    marketing_features: Input[Sequence[params.ProductCreateParamsMarketingFeature]]
    metadata: Metadata
    name: Required[Input[str]]
    package_dimensions: Input[params.ProductCreateParamsPackageDimensions]
    shippable: Input[bool]
    statement_descriptor: Input[str]
    tax_code: Input[str]
    tax_details: Input[params.ProductCreateParamsTaxDetails]
    type: Input[Literal["good", "service"]]
    unit_label: Input[str]
    url: Input[str]


class DefaultPriceArguments(TypedDict):
    product: Input[str]
    price: Input[str]


class PriceArguments(TypedDict, total=False):
    adopt: Input[str]
    active: Input[bool]
    archive_when_unused: Input[bool]
    billing_scheme: Input[Literal["per_unit", "tiered"]]
    currency: Required[Input[str]]
    currency_options: Input[Mapping[str, Input[CurrencyOption]]]
    custom_unit_amount: Input[params.PriceCreateParamsCustomUnitAmount]
    lookup_key: Input[str]
    metadata: Metadata
    nickname: Input[str]
    product: Input[str]
    product_data: Input[params.PriceCreateParamsProductData]
    recurring: Input[Recurring]
    tax_behavior: TaxBehavior
    tiers: Input[Sequence[Input[Tier]]]
    tiers_mode: Input[Literal["graduated", "volume"]]
    transfer_lookup_key: Input[bool]
    transform_quantity: Input[params.PriceCreateParamsTransformQuantity]
    unit_amount: Input[int]
    unit_amount_decimal: Amount


class AmountOff(TypedDict):
    amount_off: Input[int]


class CouponArguments(TypedDict, total=False):
    adopt: Input[str]
    amount_off: Input[int]
    applies_to: Input[params.CouponCreateParamsAppliesTo]
    currency: Input[str]
    currency_options: Input[Mapping[str, Input[AmountOff]]]
    duration: Input[Literal["forever", "once", "repeating"]]
    duration_in_months: Input[int]
    id: Input[str]
    max_redemptions: Input[int]
    metadata: Metadata
    name: Input[str]
    percent_off: Amount
    redeem_by: Input[int]


class Promotion(TypedDict, total=False):
    coupon: Input[str]
    type: Required[Input[Literal["coupon"]]]


class PromotionCodeArguments(TypedDict, total=False):
    adopt: Input[str]
    active: Input[bool]
    code: Input[str]
    customer: Input[str]
    customer_account: Input[str]
    expires_at: Input[int]
    max_redemptions: Input[int]
    metadata: Metadata
    promotion: Required[Input[Promotion]]
    restrictions: Input[params.PromotionCodeCreateParamsRestrictions]


class CustomerArguments(TypedDict, total=False):
    adopt: Input[str]
    address: Input[params.CustomerCreateParamsAddress]
    balance: Input[int]
    business_name: Input[str]
    cash_balance: Input[params.CustomerCreateParamsCashBalance]
    default_source: Input[str]
    description: Input[str]
    email: Input[str]
    individual_name: Input[str]
    invoice_prefix: Input[str]
    invoice_settings: Input[params.CustomerCreateParamsInvoiceSettings]
    metadata: Metadata
    name: Input[str]
    next_invoice_sequence: Input[int]
    on_delete: Input[Literal["delete", "keep"]]
    payment_method: Input[str]
    phone: Input[str]
    preferred_locales: Strings
    shipping: Input[params.CustomerCreateParamsShipping]
    source: Input[str]
    tax: Input[params.CustomerUpdateParamsTax]
    tax_exempt: Input[Literal["exempt", "none", "reverse"]]
    tax_id_data: Input[Sequence[params.CustomerCreateParamsTaxIdDatum]]
    test_clock: Input[str]
    validate: Input[bool]


class Discount(TypedDict, total=False):
    coupon: Input[str]
    discount: Input[str]
    promotion_code: Input[str]


class OneTimePriceData(TypedDict, total=False):
    currency: Required[Input[str]]
    product: Required[Input[str]]
    tax_behavior: TaxBehavior
    unit_amount: Input[int]
    unit_amount_decimal: Amount


class PriceData(OneTimePriceData):
    recurring: Input[Interval]


class TransferData(TypedDict, total=False):
    amount_percent: Amount
    destination: Required[Input[str]]


class Item(TypedDict, total=False):
    billing_thresholds: Input[params.SubscriptionCreateParamsItemBillingThresholds]
    current_trial: Input[params.SubscriptionCreateParamsItemCurrentTrial]
    discounts: Input[Sequence[Input[Discount]]]
    metadata: Metadata
    plan: Input[str]
    price: Input[str]
    price_data: Input[PriceData]
    quantity: Input[int]
    tax_rates: Strings


class AddInvoiceItem(TypedDict, total=False):
    discountable: Input[bool]
    discounts: Input[Sequence[Input[Discount]]]
    metadata: Metadata
    period: Input[params.SubscriptionCreateParamsAddInvoiceItemPeriod]
    price: Input[str]
    price_data: Input[OneTimePriceData]
    quantity: Input[int]
    tax_rates: Strings


class Cancel(TypedDict, total=False):
    when: Input[Literal["now", "period_end"]]
    invoice_now: Input[bool]
    prorate: Input[bool]
    comment: Input[str]


class SubscriptionArguments(TypedDict, total=False):
    adopt: Input[str]
    add_invoice_items: Input[Sequence[Input[AddInvoiceItem]]]
    allow_unbilled_usage: Input[bool]
    application_fee_percent: Amount
    automatic_tax: Input[params.SubscriptionCreateParamsAutomaticTax]
    backdate_start_date: Input[int]
    billing_cycle_anchor: Input[int | params.SubscriptionUpdateParamsBillingCycleAnchor]
    billing_cycle_anchor_config: Input[params.SubscriptionCreateParamsBillingCycleAnchorConfig]
    billing_mode: Input[params.SubscriptionCreateParamsBillingMode]
    billing_schedules: Input[Sequence[params.SubscriptionCreateParamsBillingSchedule]]
    billing_thresholds: Input[params.SubscriptionCreateParamsBillingThresholds]
    cancel: Input[Cancel]
    cancel_at: Input[int | Literal["max_billed_until", "max_period_end", "min_period_end"]]
    cancel_at_period_end: Input[bool]
    cancellation_details: Input[params.SubscriptionUpdateParamsCancellationDetails]
    collection_method: Input[Literal["charge_automatically", "send_invoice"]]
    currency: Input[str]
    customer: Input[str]
    customer_account: Input[str]
    days_until_due: Input[int]
    default_payment_method: Input[str]
    default_source: Input[str]
    default_tax_rates: Strings
    description: Input[str]
    discounts: Input[Sequence[Input[Discount]]]
    invoice_settings: Input[params.SubscriptionCreateParamsInvoiceSettings]
    items: Required[Input[Mapping[str, Input[Item]]]]
    metadata: Metadata
    off_session: Input[bool]
    on_behalf_of: Input[str]
    pause_collection: Input[params.SubscriptionUpdateParamsPauseCollection]
    payment_behavior: Input[
        Literal["allow_incomplete", "default_incomplete", "error_if_incomplete", "pending_if_incomplete"]
    ]
    payment_settings: Input[params.SubscriptionCreateParamsPaymentSettings]
    plan_versions: Input[Mapping[str, int]]
    pending_invoice_item_interval: Input[params.SubscriptionCreateParamsPendingInvoiceItemInterval]
    price_changes: Input[Literal["now", "at_renewal"]]
    proration_behavior: Input[Literal["always_invoice", "create_prorations", "none"]]
    proration_date: Input[int]
    transfer_data: Input[TransferData]
    trial_end: Input[int | Literal["now"]]
    trial_from_plan: Input[bool]
    trial_period_days: Input[int]
    trial_settings: Input[params.SubscriptionCreateParamsTrialSettings]


# -- resources ------------------------------------------------------------------------------------------------------


class StripeResource(Resource):
    """What all of them have."""

    provider_class: ClassVar[type[StripeProvider]]

    livemode: pulumi.Output[bool]
    account: pulumi.Output[str]

    _adopted_id: pulumi.Output[str] | None = None

    @property
    def id(self) -> pulumi.Output[str]:
        """Stripe's id. A preview knows that of an adopted object, so that it can compare what links to it."""
        return self._adopted_id or super().id

    def _declare(self, resource_name: str, opts: pulumi.ResourceOptions | None, arguments: Mapping[str, Any]) -> None:
        provider = self.provider_class()
        leaving.declare(provider.kind.name, resource_name, opts)
        outputs = dict.fromkeys((*COMMON_OUTPUTS, *provider.kind.outputs, *_attributes(type(self))))
        owner = f"{pulumi.get_project()}/{pulumi.get_stack()}/{resource_name}"
        properties = {**outputs, **{name: _without_decimals(value) for name, value in arguments.items()}}
        there = None if "adopt" in arguments else adopted(provider.kind.name, resource_name)
        if there is not None:
            properties["adopt"] = there
        Resource.__init__(self, provider, resource_name, {**properties, "owner": owner}, opts)
        if there is not None and pulumi.runtime.is_dry_run():
            self._adopted_id = pulumi.Output({self}, _ready(there), _ready(True))


class Meter(StripeResource, module="stripe", name="Meter"):
    """https://docs.stripe.com/api/billing/meter; `active` switches between deactivate and reactivate."""

    provider_class = MeterProvider

    event_name: pulumi.Output[str]
    display_name: pulumi.Output[str]
    status: pulumi.Output[str]

    def __init__(
        self, resource_name: str, /, *, opts: pulumi.ResourceOptions | None = None, **arguments: Unpack[MeterArguments]
    ) -> None:
        self._declare(resource_name, opts, arguments)


class Product(StripeResource, module="stripe", name="Product"):
    """https://docs.stripe.com/api/products; for the default price of a product made here use `DefaultPrice`."""

    provider_class = ProductProvider

    name: pulumi.Output[str]
    active: pulumi.Output[bool | None]

    def __init__(
        self,
        resource_name: str,
        /,
        *,
        opts: pulumi.ResourceOptions | None = None,
        **arguments: Unpack[ProductArguments],
    ) -> None:
        self._declare(resource_name, opts, arguments)


class DefaultPrice(StripeResource, module="stripe", name="DefaultPrice"):
    """Which price of a product is its default."""

    provider_class = DefaultPriceProvider

    product: pulumi.Output[str]
    price: pulumi.Output[str]

    def __init__(
        self,
        resource_name: str,
        /,
        *,
        opts: pulumi.ResourceOptions | None = None,
        **arguments: Unpack[DefaultPriceArguments],
    ) -> None:
        self._declare(resource_name, opts, arguments)


class Price(StripeResource, module="stripe", name="Price"):
    """https://docs.stripe.com/api/prices

    Args:
        archive_when_unused: refuses to take the price out of the program while a subscription is on it or a schedule
            names it. Left out, it is archived, and who pays it goes on paying it.
    """

    provider_class = PriceProvider

    lookup_key: pulumi.Output[str | None]
    product: pulumi.Output[str | None]
    nickname: pulumi.Output[str | None]
    currency: pulumi.Output[str]
    active: pulumi.Output[bool | None]
    type: pulumi.Output[str]

    def __init__(
        self, resource_name: str, /, *, opts: pulumi.ResourceOptions | None = None, **arguments: Unpack[PriceArguments]
    ) -> None:
        self._declare(resource_name, opts, arguments)


class Coupon(StripeResource, module="stripe", name="Coupon"):
    """https://docs.stripe.com/api/coupons; with an `id` of your choice, what it takes off never changes."""

    provider_class = CouponProvider

    name: pulumi.Output[str | None]
    percent_off: pulumi.Output[str | None]
    amount_off: pulumi.Output[int | None]
    currency: pulumi.Output[str | None]
    duration: pulumi.Output[str | None]

    def __init__(
        self, resource_name: str, /, *, opts: pulumi.ResourceOptions | None = None, **arguments: Unpack[CouponArguments]
    ) -> None:
        self._declare(resource_name, opts, arguments)


class PromotionCode(StripeResource, module="stripe", name="PromotionCode"):
    """https://docs.stripe.com/api/promotion_codes; `code` is the word that customers enter."""

    provider_class = PromotionCodeProvider

    code: pulumi.Output[str]
    active: pulumi.Output[bool | None]

    def __init__(
        self,
        resource_name: str,
        /,
        *,
        opts: pulumi.ResourceOptions | None = None,
        **arguments: Unpack[PromotionCodeArguments],
    ) -> None:
        self._declare(resource_name, opts, arguments)


class Customer(StripeResource, module="stripe", name="Customer"):
    """https://docs.stripe.com/api/customers; `on_delete` is `delete`, or `keep` (the default on a live stack)."""

    provider_class = CustomerProvider

    name: pulumi.Output[str | None]
    email: pulumi.Output[str | None]

    def __init__(
        self,
        resource_name: str,
        /,
        *,
        opts: pulumi.ResourceOptions | None = None,
        **arguments: Unpack[CustomerArguments],
    ) -> None:
        self._declare(resource_name, opts, arguments)


class Subscription(StripeResource, module="stripe", name="Subscription"):
    """https://docs.stripe.com/api/subscriptions; items are declared by a key of your choice.

    Args:
        cancel: how it ends when it is taken out of the program: `when` `now` (default) or `period_end`,
            `invoice_now` with a final invoice (default), `prorate` with a credit for unused time.
        allow_unbilled_usage: allows moving or removing a metered item where Stripe does not bill its usage of the
            current period then: in billing mode classic, and with proration_behavior `none`.
        price_changes: when items come, go and move to another price: `now` (default), prorated as `proration_behavior`
            says, or `at_renewal`, when the period of each ends, without prorations.
    """

    provider_class = SubscriptionProvider

    customer: pulumi.Output[str | None]
    items: pulumi.Output[Mapping[str, Any]]
    item_ids: pulumi.Output[Mapping[str, str]]
    metered_items: pulumi.Output[Sequence[str]]
    billing_mode_type: pulumi.Output[str]
    billed_until_then: pulumi.Output[Mapping[str, Any]]
    billing_currency: pulumi.Output[str]
    fees: pulumi.Output[Mapping[str, str]]
    has_ended: pulumi.Output[bool]
    moves_at: pulumi.Output[int | None]
    schedule: pulumi.Output[str | None]

    def __init__(
        self,
        resource_name: str,
        /,
        *,
        opts: pulumi.ResourceOptions | None = None,
        **arguments: Unpack[SubscriptionArguments],
    ) -> None:
        self._declare(resource_name, opts, arguments)


async def _ready(value: T) -> T:
    return value


def _attributes(resource: type[StripeResource]) -> list[str]:
    """The outputs that a class names; Pulumi fills in only what is among the properties."""
    return [name for name in resource.__annotations__ if name != "provider_class"]


def _without_decimals(value: Any) -> Any:
    """Pulumi carries strings, not `Decimal`s."""
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, pulumi.Output):
        return value.apply(_without_decimals)
    if isinstance(value, Mapping):
        return {key: _without_decimals(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_decimals(each) for each in value]
    return value
