"""What a preview refuses: each mistake one line, with the path of the property and what to write instead."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from typing import Any

import pytest
from pulumi.output import UNKNOWN, Unknown

from components.providers.customer import CustomerProvider
from components.providers.default_price import DefaultPriceProvider
from components.providers.kind import Kind
from components.providers.kinds import KINDS, provider_of
from components.providers.lifecycle import ProviderError, StripeProvider
from components.providers.meter import MeterProvider
from components.providers.price import PriceProvider
from components.providers.product import ProductProvider
from components.providers.shapes import Shape, at
from components.providers.subscription import SubscriptionProvider
from tests.components.test_field_matrix import any_value, arguments_of
from tests.components.world import LIVE_KEY, PULUMI, Process, State, World, as_pulumi_sends, metered, of_the_locked_sdk

METER = {"display_name": "T", "event_name": "t", "default_aggregation": {"formula": "sum"}}
PRODUCT = {"name": "P"}
MADE_PRICE = {"currency": "usd", "unit_amount": 1}
PRICE = {"product": "prod_1", "currency": "usd", "unit_amount": 100, "recurring": {"interval": "month"}}
CHOSEN = {"product": "prod_1", "currency": "usd", "custom_unit_amount": {"enabled": True}}
TIERS: list[dict[str, Any]] = [{"up_to": 10, "unit_amount": 0}, {"up_to": "inf", "unit_amount": 1}]
TIERED = {
    "product": "prod_1",
    "currency": "usd",
    "billing_scheme": "tiered",
    "tiers_mode": "graduated",
    "tiers": TIERS,
    "recurring": {"interval": "month"},
}
PRICE_DATA = {"product": "prod_1", "currency": "usd", "unit_amount": 1, "recurring": {"interval": "week"}}
SUBSCRIPTION = {"customer": "cus_1", "items": {"a": {"price": "price_1"}}}
ONCE = {"product": "prod_1", "currency": "usd", "unit_amount": 1}
FREE = {"product": "prod_1", "currency": "usd", "recurring": {"interval": "week"}}
TWICE = {"coupon": "a", "promotion_code": "b"}


def without(arguments: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in arguments.items() if name not in names}


def tiered(*tiers: dict[str, Any]) -> dict[str, Any]:
    return {**TIERED, "tiers": list(tiers)}


def one_item(**change: Any) -> dict[str, Any]:
    """A subscription's arguments with its one item changed."""
    item = {"price": "price_1", **change}
    return {**SUBSCRIPTION, "items": {"a": {name: value for name, value in item.items() if value is not None}}}


def once(entry: dict[str, Any]) -> dict[str, Any]:
    return {**SUBSCRIPTION, "add_invoice_items": [entry]}


MISTAKES: list[tuple[type[StripeProvider], dict[str, Any], str]] = [
    # -- any kind
    (PriceProvider, {**PRICE, "nickame": "x"}, "nickame: Stripe has no such parameter; did you mean nickname?"),
    (PriceProvider, {**PRICE, "recurring": {"intervall": "month", "interval": "month"}}, "recurring.intervall: Stripe"),
    (PriceProvider, {**PRICE, "recurring": {}}, "recurring.interval: is required"),
    (PriceProvider, {**PRICE, "recurring": "month"}, "recurring: must be an object, not a string"),
    (PriceProvider, {**PRICE, "active": "yes"}, "active: must be true or false, not a string"),
    (PriceProvider, {**PRICE, "nickname": 3}, "nickname: must be a string, not a number"),
    (PriceProvider, {**PRICE, "metadata": {"seats": 3}}, "metadata.seats: must be a string, not a number"),
    (PriceProvider, {**PRICE, "metadata": {"pulumi": "me"}}, "metadata.pulumi: is reserved: the providers store"),
    (PriceProvider, {**PRICE, "metadata": {"a": ""}}, "metadata.a: is empty, which unsets it in Stripe"),
    (PriceProvider, {**PRICE, "metadata": {"k" * 41: "v"}}, "has a key of 41 characters"),
    (PriceProvider, {**PRICE, "metadata": {"a": "v" * 501}}, "metadata.a: is 501 characters long"),
    (PriceProvider, {**PRICE, "metadata": {"a[": "v"}}, "has square brackets in its key"),
    (PriceProvider, {**PRICE, "metadata": {"b]": "v"}}, "has square brackets in its key"),
    (PriceProvider, {**PRICE, "metadata": {str(n): "v" for n in range(50)}}, "metadata: has 50 keys"),
    # -- meters
    (MeterProvider, without(METER, "event_name"), "event_name: is required"),
    (
        MeterProvider,
        {**METER, "default_aggregation": {"formula": "max"}},
        "default_aggregation.formula: must be one of count, last, sum",
    ),
    (MeterProvider, {**METER, "event_name": "e" * 101}, "event_name: is 101 characters long; Stripe takes at most 100"),
    (
        MeterProvider,
        {**METER, "customer_mapping": {"type": "by_id"}},
        "customer_mapping.event_payload_key: is required",
    ),
    (MeterProvider, {**METER, "metadata": {}}, "metadata: Stripe has no such parameter"),
    # -- products
    (ProductProvider, {}, "name: is required"),
    (ProductProvider, {"name": ""}, "name: is required"),
    (ProductProvider, {**PRODUCT, "unit_label": "kilotokens-per-second"}, "unit_label: is 21 characters long"),
    (ProductProvider, {**PRODUCT, "statement_descriptor": "A*B"}, "statement_descriptor: contains one of < >"),
    (ProductProvider, {**PRODUCT, "statement_descriptor": "123"}, "statement_descriptor: needs at least one letter"),
    (ProductProvider, {**PRODUCT, "url": "example.com"}, "url: must be a public web address"),
    (ProductProvider, {**PRODUCT, "id": "a b"}, "id: can only have letters, digits and . _ : -"),
    (ProductProvider, {**PRODUCT, "images": ["https://example.com/i.png"] * 9}, "images: has 9 entries"),
    (ProductProvider, {**PRODUCT, "images": [""]}, "images[0]: is empty; remove it from the list"),
    (ProductProvider, {**PRODUCT, "images": ["i.png"]}, "images[0]: must be a public web address"),
    (ProductProvider, {**PRODUCT, "url": "https://"}, "url: must be a public web address"),
    (ProductProvider, {**PRODUCT, "url": "https://example.com/a b"}, "url: must be a public web address"),
    (ProductProvider, {**PRODUCT, "url": "https://[example"}, "url: must be a public web address"),
    (
        ProductProvider,
        {**PRODUCT, "url": "https://example.com/" + "u" * 5_000},
        "url: is 5020 characters long; Stripe takes at most 5,000",
    ),
    (ProductProvider, {**PRODUCT, "name": "n" * 251}, "name: is 251 characters long; Stripe takes at most 250"),
    (ProductProvider, {**PRODUCT, "description": "d" * 40_001}, "Stripe takes at most 40,000"),
    (ProductProvider, {**PRODUCT, "tax_code": "t" * 5_001}, "tax_code: is 5001 characters long"),
    (
        ProductProvider,
        {**PRODUCT, "marketing_features": [{"name": "f" * 81}]},
        "marketing_features[0].name: is 81 characters long; Stripe takes at most 80",
    ),
    (ProductProvider, {**PRODUCT, "marketing_features": [{"name": "f"}] * 16}, "marketing_features: has 16 entries"),
    (
        ProductProvider,
        {**PRODUCT, "statement_descriptor": "Café"},
        "statement_descriptor: contains characters that are",
    ),
    (
        ProductProvider,
        {**PRODUCT, "default_price_data": {**MADE_PRICE, "currency": "USD"}},
        "default_price_data.currency: must be a three-letter ISO currency code in lower case",
    ),
    (
        ProductProvider,
        {**PRODUCT, "default_price_data": {**MADE_PRICE, "currency_options": {"usd": {"unit_amount": 2}}}},
        "default_price_data.currency_options.usd: is the price's own currency",
    ),
    (
        ProductProvider,
        {**PRODUCT, "default_price_data": {**MADE_PRICE, "recurring": {"interval": "week", "interval_count": 157}}},
        "default_price_data.recurring.interval_count: must be 1 to 156 weeks",
    ),
    (
        ProductProvider,
        {**PRODUCT, "default_price_data": {**MADE_PRICE, "metadata": {"a": ""}}},
        "default_price_data.metadata.a: is empty, which unsets it in Stripe",
    ),
    (
        ProductProvider,
        {**PRODUCT, "package_dimensions": {"height": 1.234, "length": 1, "weight": 1, "width": 1}},
        "package_dimensions.height: must be positive, with at most 2 decimals",
    ),
    (
        ProductProvider,
        {**PRODUCT, "default_price_data": {"currency": "usd"}},
        "default_price_data: needs unit_amount, unit_amount_decimal or custom_unit_amount",
    ),
    (DefaultPriceProvider, {"product": "prod_1"}, "price: is required"),
    # -- prices
    (PriceProvider, without(PRICE, "product"), "product: is required"),
    (PriceProvider, {**PRICE, "product_data": {"name": "P"}}, "product_data: cannot be combined with product"),
    (PriceProvider, without(PRICE, "unit_amount"), "unit_amount: is required, or unit_amount_decimal"),
    (PriceProvider, {**PRICE, "unit_amount_decimal": "1"}, "unit_amount_decimal: repeats unit_amount"),
    (PriceProvider, {**PRICE, "unit_amount": 0.04}, "unit_amount: must be a whole number, not a fraction"),
    (PriceProvider, {**PRICE, "unit_amount": -1}, "unit_amount: is negative; an amount must be 0 or more"),
    (PriceProvider, {**PRICE, "unit_amount": 2**53 + 1}, "the largest number that Pulumi carries exactly"),
    (PriceProvider, {**PRICE, "unit_amount": "100"}, "unit_amount: must be a whole number, not a string"),
    (
        PriceProvider,
        {**without(PRICE, "unit_amount"), "unit_amount_decimal": 0.04},
        'unit_amount_decimal: is a float, which cannot hold every amount exactly; write it as a string, such as "0.04"',
    ),
    (
        PriceProvider,
        {**without(PRICE, "unit_amount"), "unit_amount_decimal": "0.0000000000001"},
        "unit_amount_decimal: has 13 decimals; Stripe takes at most 12",
    ),
    (PriceProvider, {**without(PRICE, "unit_amount"), "unit_amount_decimal": "1e-3"}, "must be a plain decimal number"),
    (PriceProvider, {**without(PRICE, "unit_amount"), "unit_amount_decimal": "NaN"}, "must be a plain decimal number"),
    (PriceProvider, {**PRICE, "currency": "USD"}, "currency: must be a three-letter ISO currency code in lower case"),
    (PriceProvider, {**PRICE, "lookup_key": "k" * 201}, "lookup_key: is 201 characters long; Stripe takes at most 200"),
    (PriceProvider, {**PRICE, "transfer_lookup_key": True}, "transfer_lookup_key: needs a lookup_key"),
    (
        PriceProvider,
        {**PRICE, "recurring": {"interval": "monthly"}},
        "must be one of day, month, week, year; did you mean month?",
    ),
    (
        PriceProvider,
        {**PRICE, "recurring": {"interval": "month", "interval_count": 37}},
        "recurring.interval_count: must be 1 to 36 months",
    ),
    (
        PriceProvider,
        {**PRICE, "recurring": {"interval": "month", "trial_period_days": 731}},
        "recurring.trial_period_days: must be 1 to 730",
    ),
    (
        PriceProvider,
        {**PRICE, "recurring": {"interval": "month", "usage_type": "metered"}},
        "recurring.meter: is required with usage_type metered",
    ),
    (
        PriceProvider,
        {**PRICE, "recurring": {"interval": "month", "meter": "mtr_1"}},
        "recurring.usage_type: must be metered, since a meter is declared",
    ),
    (PriceProvider, {**PRICE, "custom_unit_amount": {"enabled": True}}, "custom_unit_amount: repeats unit_amount"),
    (PriceProvider, without(TIERED, "billing_scheme"), 'billing_scheme: must be "tiered", since tiers is declared'),
    (PriceProvider, without(TIERED, "tiers_mode"), 'tiers_mode: is required with billing_scheme "tiered"'),
    (PriceProvider, without(TIERED, "recurring"), "Stripe has no one-time prices in tiers"),
    (PriceProvider, {**TIERED, "unit_amount": 1}, 'unit_amount: cannot be combined with billing_scheme "tiered"'),
    (
        PriceProvider,
        {**TIERED, "transform_quantity": {"divide_by": 100, "round": "up"}},
        "transform_quantity: cannot be combined with tiers",
    ),
    (PriceProvider, tiered({"up_to": 10, "unit_amount": 1}), 'tiers[0].up_to: must be "inf" in the last tier'),
    (
        PriceProvider,
        tiered({"up_to": "inf", "unit_amount": 1}, *TIERS),
        'tiers[0].up_to: is "inf", which only the last tier',
    ),
    (
        PriceProvider,
        tiered(TIERS[0], TIERS[0], TIERS[1]),
        "tiers[1].up_to: must be above 0 and above the up_to of the previous tier",
    ),
    (PriceProvider, tiered({"up_to": 0, "unit_amount": 0}, TIERS[1]), "tiers[0].up_to: must be above 0"),
    (
        PriceProvider,
        tiered({"up_to": 10}, TIERS[1]),
        'tiers[0]: has no amount; declare unit_amount_decimal ("0" for a free tier)',
    ),
    (
        PriceProvider,
        tiered({"up_to": "inf", "unit_amount": 1, "unit_amount_decimal": "1"}),
        "tiers[0].unit_amount_decimal: repeats unit_amount",
    ),
    (
        PriceProvider,
        tiered({"up_to": "inf", "flat_amount_decimal": "1.5"}),
        "tiers[0].flat_amount_decimal: has decimals; Stripe takes whole minor units",
    ),
    (PriceProvider, tiered({"up_to": "infinity", "unit_amount": 1}), 'tiers[0].up_to: must be a whole number or "inf"'),
    (
        PriceProvider,
        {**PRICE, "transform_quantity": {"divide_by": 0, "round": "up"}},
        "transform_quantity.divide_by: must be at least 1",
    ),
    (
        PriceProvider,
        {**PRICE, "currency_options": {"EUR": {"unit_amount": 1}}},
        "currency_options.EUR: must be a three-letter ISO",
    ),
    (PriceProvider, {**PRICE, "currency_options": {"eur": {}}}, "currency_options.eur: needs unit_amount"),
    (
        PriceProvider,
        tiered({"up_to": "inf", "flat_amount": 1, "flat_amount_decimal": "1"}),
        "tiers[0].flat_amount_decimal: repeats flat_amount",
    ),
    (PriceProvider, tiered({"up_to": "inf", "flat_amount": -1}), "tiers[0].flat_amount: is negative"),
    (
        PriceProvider,
        {**CHOSEN, "custom_unit_amount": {"enabled": False}},
        "custom_unit_amount.enabled: must be true; omit custom_unit_amount to switch it off",
    ),
    (
        PriceProvider,
        {**CHOSEN, "custom_unit_amount": {"enabled": True, "minimum": 3, "maximum": 2}},
        "custom_unit_amount.minimum: does not satisfy minimum <= preset <= maximum",
    ),
    (
        PriceProvider,
        {**CHOSEN, "custom_unit_amount": {"enabled": True, "preset": 3, "maximum": 2}},
        "custom_unit_amount.preset: does not satisfy minimum <= preset <= maximum",
    ),
    (
        PriceProvider,
        {**CHOSEN, "custom_unit_amount": {"enabled": True, "minimum": 3, "preset": 2}},
        "custom_unit_amount.preset: does not satisfy minimum <= preset <= maximum",
    ),
    (
        PriceProvider,
        {**PRICE, "currency_options": {"eur": {"unit_amount": 1, "unit_amount_decimal": "1"}}},
        "currency_options.eur.unit_amount_decimal: repeats unit_amount",
    ),
    (
        PriceProvider,
        {**CHOSEN, "currency_options": {"eur": {"custom_unit_amount": {"enabled": False}}}},
        "currency_options.eur.custom_unit_amount.enabled: must be true",
    ),
    (
        PriceProvider,
        {**PRICE, "currency_options": {"usd": {"unit_amount": 1}}},
        "currency_options.usd: is the price's own currency; declare its amount on the price itself",
    ),
    (
        PriceProvider,
        {**TIERED, "currency_options": {"eur": {"tiers": TIERS[:1]}}},
        'currency_options.eur.tiers[0].up_to: must be "inf" in the last tier',
    ),
    (
        PriceProvider,
        {**without(PRICE, "product"), "product_data": {"name": "P", "statement_descriptor": "A*B"}},
        "product_data.statement_descriptor: contains one of",
    ),
    (
        PriceProvider,
        {**without(PRICE, "product"), "product_data": {"name": "P", "unit_label": "kilotokens-per-second"}},
        "product_data.unit_label: is 21 characters long; Stripe takes at most 12",
    ),
    (
        PriceProvider,
        {**TIERED, "currency_options": {"eur": {"unit_amount": 1}}},
        "currency_options.eur.tiers: is required",
    ),
    # -- customers
    (CustomerProvider, {"email": "nobody"}, "email: is not an e-mail address"),
    (CustomerProvider, {"email": "nobody@nowhere"}, "email: is not an e-mail address"),
    (CustomerProvider, {"email": " me@example.com"}, "email: is not an e-mail address"),
    (CustomerProvider, {"email": "me@example..com"}, "email: is not an e-mail address"),
    (CustomerProvider, {"email": "m" * 501 + "@example.com"}, "email: is 513 characters long"),
    (CustomerProvider, {"preferred_locales": ["en", ""]}, "preferred_locales[1]: is empty; remove it from the list"),
    (CustomerProvider, {"tax": {"ip_address": "203.0.113"}}, "tax.ip_address: is not an IP address"),
    (CustomerProvider, {"expand": ["tax"]}, "expand: is not an argument here: the providers expand what they read"),
    (
        CustomerProvider,
        {"invoice_prefix": "abc"},
        "invoice_prefix: must be 1 to 12 capital letters or digits",
    ),
    (CustomerProvider, {"tax_exempt": "yes"}, "tax_exempt: must be one of exempt, none, reverse"),
    (CustomerProvider, {"on_delete": "archive"}, "on_delete: must be one of delete, keep"),
    (CustomerProvider, {"shipping": {"name": "N"}}, "shipping.address: is required"),
    (CustomerProvider, {"address": {"street": "S"}}, "address.street: Stripe has no such parameter"),
    (CustomerProvider, {"tax_id_data": [{"type": "eu_vatt", "value": "1"}]}, "did you mean eu_vat?"),
    (
        CustomerProvider,
        {"invoice_settings": {"custom_fields": [{"name": "n" * 41, "value": "v"}]}},
        "invoice_settings.custom_fields[0].name: is 41 characters long",
    ),
    (
        CustomerProvider,
        {"source": "tok_visa", "default_source": "card_1"},
        "default_source: cannot be combined with source",
    ),
    # -- subscriptions
    (SubscriptionProvider, without(SUBSCRIPTION, "customer"), "customer: is required"),
    (SubscriptionProvider, without(SUBSCRIPTION, "items"), "items: is required"),
    (SubscriptionProvider, {**SUBSCRIPTION, "items": {}}, "items: is required"),
    (SubscriptionProvider, {**SUBSCRIPTION, "items": [{"price": "price_1"}]}, "items: must be an object, not a list"),
    (SubscriptionProvider, {**SUBSCRIPTION, "items": {"a": {"quantity": 1}}}, "items.a.price: is required"),
    (
        SubscriptionProvider,
        {**SUBSCRIPTION, "items": {"a": {"price": "price_1", "id": "si_1"}}},
        "items.a.id: is not an argument here: the key of the item takes its place",
    ),
    (
        SubscriptionProvider,
        {**SUBSCRIPTION, "items": {"a": {"price": "price_1"}, "b": {"price": "price_1"}}},
        "items.b.price: is also that of items.a; Stripe allows a price once per subscription",
    ),
    (
        SubscriptionProvider,
        {**SUBSCRIPTION, "items": {"a": {"price": "price_1", "quantity": -1}}},
        "items.a.quantity: must be at least 0",
    ),
    (SubscriptionProvider, {**SUBSCRIPTION, "collection_method": "send_invoice"}, "days_until_due: is required"),
    (
        SubscriptionProvider,
        {**SUBSCRIPTION, "days_until_due": 3},
        "days_until_due: needs collection_method send_invoice",
    ),
    (
        SubscriptionProvider,
        {**SUBSCRIPTION, "collection_method": "send_invoice", "days_until_due": 3651},
        "days_until_due: must be 0 to 3,650",
    ),
    (
        SubscriptionProvider,
        {**SUBSCRIPTION, "trial_end": "now", "trial_period_days": 3},
        "trial_period_days: cannot be combined with",
    ),
    (
        SubscriptionProvider,
        {**SUBSCRIPTION, "cancel_at": 1, "cancel_at_period_end": True},
        "cancel_at_period_end: cannot be combined with",
    ),
    (
        SubscriptionProvider,
        {**SUBSCRIPTION, "cancel_at": "soon"},
        "cancel_at: must be a whole number or one of max_billed_until",
    ),
    (
        SubscriptionProvider,
        {**SUBSCRIPTION, "billing_mode": {"type": "classic", "flexible": {}}},
        "billing_mode.flexible: needs type flexible",
    ),
    (
        SubscriptionProvider,
        {**SUBSCRIPTION, "automatic_tax": {"enabled": True, "liability": {"type": "account"}}},
        "automatic_tax.liability.account: is required with type account",
    ),
    (SubscriptionProvider, {**SUBSCRIPTION, "discounts": [{}]}, "discounts[0]: needs one of coupon, promotion_code"),
    (
        SubscriptionProvider,
        {**SUBSCRIPTION, "application_fee_percent": 101},
        "application_fee_percent: must be 0 to 100",
    ),
    (
        SubscriptionProvider,
        {
            **SUBSCRIPTION,
            "application_fee_percent": 10,
            "transfer_data": {"destination": "acct_1", "amount_percent": 90},
        },
        "transfer_data.amount_percent: cannot be combined with application_fee_percent",
    ),
    (
        SubscriptionProvider,
        {**SUBSCRIPTION, "invoice_settings": {"issuer": {"type": "account"}}},
        "invoice_settings.issuer.account: is required with type account",
    ),
    (
        SubscriptionProvider,
        {**SUBSCRIPTION, "cancel": {"when": "later"}},
        "cancel.when: must be one of now, period_end",
    ),
    (
        SubscriptionProvider,
        {**SUBSCRIPTION, "customer_account": "acct_1"},
        "customer_account: cannot be combined with customer",
    ),
    (
        SubscriptionProvider,
        one_item(price_data=PRICE_DATA),
        "items.a.price_data: cannot be combined with price: an item has one price",
    ),
    (
        SubscriptionProvider,
        one_item(plan="plan_1"),
        "items.a.plan: cannot be combined with price: an item has one price",
    ),
    (
        SubscriptionProvider,
        {**SUBSCRIPTION, "items": {"k" * 41: {"price": "p"}}},
        "has a key of 41 characters; at most",
    ),
    (SubscriptionProvider, one_item(discounts=[TWICE]), "items.a.discounts[0]: needs one of coupon, promotion_code"),
    (
        SubscriptionProvider,
        one_item(price=None, price_data=FREE),
        "items.a.price_data: needs unit_amount or unit_amount_d",
    ),
    (
        SubscriptionProvider,
        one_item(price=None, price_data={**PRICE_DATA, "unit_amount_decimal": "1"}),
        "items.a.price_data.unit_amount_decimal: repeats unit_amount",
    ),
    (SubscriptionProvider, once({}), "add_invoice_items[0]: needs price or price_data"),
    (
        SubscriptionProvider,
        once({"price": "price_1", "price_data": ONCE}),
        "add_invoice_items[0]: needs price or",
    ),
    (
        SubscriptionProvider,
        once({"price_data": without(ONCE, "unit_amount")}),
        "add_invoice_items[0].price_data: needs unit_amount",
    ),
    (
        SubscriptionProvider,
        once({"price_data": {**ONCE, "unit_amount_decimal": "1"}}),
        "add_invoice_items[0].price_data: needs unit_amount or unit_amount_decimal",
    ),
    (
        SubscriptionProvider,
        once({"price": "price_1", "discounts": [TWICE]}),
        "add_invoice_items[0].discounts[0]: needs",
    ),
    (
        SubscriptionProvider,
        {**SUBSCRIPTION, "items": {"a": {"plan": "price_1"}}, "price_changes": "at_renewal"},
        "items.a.plan: cannot be combined with price_changes at_renewal",
    ),
    (
        SubscriptionProvider,
        {**SUBSCRIPTION, "items": {"a": {"current_trial": {"trial_offer": "x"}}}, "price_changes": "at_renewal"},
        "items.a.current_trial: cannot be combined with price_changes at_renewal",
    ),
    (
        SubscriptionProvider,
        {**SUBSCRIPTION, "metadata": {str(n): "x" for n in range(49)}, "price_changes": "at_renewal"},
        "metadata: has more than 48 keys",
    ),
    (SubscriptionProvider, {**SUBSCRIPTION, "metadata": {"pulumi_at_renewal": "x"}}, "metadata.pulumi_at_renewal: is"),
    (SubscriptionProvider, {**SUBSCRIPTION, "price_changes": "later"}, "price_changes: "),
    (SubscriptionProvider, {**SUBSCRIPTION, "discounts": [TWICE]}, "discounts[0]: needs one of coupon, promotion_code"),
    (
        SubscriptionProvider,
        {**SUBSCRIPTION, "application_fee_percent": -1},
        "application_fee_percent: must be 0 to 100",
    ),
    (
        SubscriptionProvider,
        {**SUBSCRIPTION, "application_fee_percent": 0.125},
        "must be 0 to 100 with at most 2 decimals",
    ),
    (
        SubscriptionProvider,
        {**SUBSCRIPTION, "transfer_data": {"destination": "acct_1", "amount_percent": 100.25}},
        "transfer_data.amount_percent: must be 0 to 100",
    ),
    (
        SubscriptionProvider,
        {**SUBSCRIPTION, "billing_mode": {"type": "classic"}, "billing_schedules": [{"bill_until": {"type": "x"}}]},
        "billing_schedules: needs billing_mode type flexible",
    ),
]


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """One for all tests: a check sends no request."""
    world = World(tmp_path_factory.mktemp("world") / "stripe.db")
    made = world.process()
    yield made
    assert made.account.calls == 0
    world.sandbox.close()


def reasons(process: Process, provider: type[StripeProvider], arguments: dict[str, Any]) -> list[str]:
    props = as_pulumi_sends({**arguments, "owner": "project/dev/name"})
    result = process.provider(provider).check({}, {**props, **PULUMI})
    for failure in result.failures:
        # Pulumi prints the value of a property that a failure names, secret or not.
        assert failure.property == ""
        assert "\n" not in failure.reason
    return [failure.reason for failure in result.failures]


@pytest.mark.parametrize(("provider", "arguments", "expected"), MISTAKES)
def test_a_mistake_is_refused_in_one_line(
    process: Process, provider: type[StripeProvider], arguments: dict[str, Any], expected: str
) -> None:
    found = reasons(process, provider, arguments)
    assert [reason for reason in found if expected in reason], found


INVOICED = {**SUBSCRIPTION, "collection_method": "send_invoice"}

#: What Stripe just takes.
BORDERS: list[tuple[type[StripeProvider], dict[str, Any]]] = [
    (MeterProvider, {**METER, "event_name": "e" * 100, "display_name": "d" * 250}),
    (ProductProvider, {**PRODUCT, "name": "n" * 250, "unit_label": "u" * 12, "description": "d" * 40_000}),
    (ProductProvider, {**PRODUCT, "statement_descriptor": "a" + "1" * 21, "id": "aZ09_.:-"}),
    (ProductProvider, {**PRODUCT, "url": "http://example.com/".ljust(5_000, "u"), "images": ["https://a.b/c"] * 8}),
    (ProductProvider, {**PRODUCT, "marketing_features": [{"name": "f" * 80}] * 15}),
    (ProductProvider, {**PRODUCT, "package_dimensions": {"height": 0.25, "length": 1, "weight": 1, "width": 1}}),
    (
        ProductProvider,
        {**PRODUCT, "default_price_data": {**MADE_PRICE, "currency_options": {"eur": {"unit_amount": 0}}}},
    ),
    (PriceProvider, {**PRICE, "lookup_key": "k" * 200, "nickname": "n" * 5_000, "unit_amount": 0}),
    (PriceProvider, {**PRICE, "metadata": {f"{n:40}": "v" * 500 for n in range(49)}}),
    (PriceProvider, {**PRICE, "recurring": {"interval": "month", "trial_period_days": 730}}),
    (PriceProvider, {**PRICE, "recurring": {"interval": "month", "trial_period_days": 1}}),
    (PriceProvider, {**PRICE, "transform_quantity": {"divide_by": 1, "round": "up"}}),
    (PriceProvider, {**without(PRICE, "unit_amount"), "unit_amount_decimal": "0." + "0" * 11 + "1"}),
    (PriceProvider, tiered({"up_to": 1, "unit_amount": 0}, {"up_to": 2, "flat_amount": 1}, TIERS[1])),
    (PriceProvider, tiered({"up_to": "inf", "flat_amount_decimal": "3"})),
    (
        PriceProvider,
        {
            **without(PRICE, "unit_amount", "recurring"),
            "custom_unit_amount": {"enabled": True, "minimum": 100, "preset": 100, "maximum": 100},
        },
    ),
    (PriceProvider, {**TIERED, "currency_options": {"eur": {"tiers": TIERS}}}),
    (CustomerProvider, {"email": "a.b+c@mail.example.co", "name": "n" * 256, "phone": "1" * 20}),
    (CustomerProvider, {"invoice_prefix": "A"}),
    (CustomerProvider, {"invoice_prefix": "AZ0123456789", "next_invoice_sequence": 1}),
    (CustomerProvider, {"description": "d" * 350, "business_name": "b" * 150, "individual_name": "i" * 150}),
    (CustomerProvider, {"invoice_settings": {"custom_fields": [{"name": "n" * 40, "value": "v" * 140}] * 4}}),
    (CustomerProvider, {"tax_id_data": [{"type": "eu_vat", "value": "1"}] * 5, "tax": {"ip_address": "2001:db8::1"}}),
    (SubscriptionProvider, {**INVOICED, "days_until_due": 0}),
    (SubscriptionProvider, {**INVOICED, "days_until_due": 3650}),
    (SubscriptionProvider, {**SUBSCRIPTION, "trial_period_days": 1}),
    (SubscriptionProvider, {**SUBSCRIPTION, "trial_period_days": 730, "description": "d" * 500}),
    (SubscriptionProvider, {**SUBSCRIPTION, "items": {"k" * 40: {"price": "price_1", "quantity": 0}}}),
    (SubscriptionProvider, {**SUBSCRIPTION, "items": {str(n): {"price": f"price_{n}"} for n in range(21)}}),
    (SubscriptionProvider, {**SUBSCRIPTION, "discounts": [{"coupon": str(n)} for n in range(20)]}),
    (SubscriptionProvider, {**SUBSCRIPTION, "application_fee_percent": 100}),
    (SubscriptionProvider, {**SUBSCRIPTION, "application_fee_percent": 0.25}),
    (SubscriptionProvider, {**SUBSCRIPTION, "billing_cycle_anchor_config": {"day_of_month": 31, "month": 12}}),
    (SubscriptionProvider, {**SUBSCRIPTION, "billing_cycle_anchor_config": {"day_of_month": 1, "month": 1}}),
    (
        SubscriptionProvider,
        {**SUBSCRIPTION, "billing_cycle_anchor_config": {"day_of_month": 1, "hour": 23, "minute": 59, "second": 59}},
    ),
    (
        SubscriptionProvider,
        {**SUBSCRIPTION, "billing_cycle_anchor_config": {"day_of_month": 1, "hour": 0, "minute": 0, "second": 0}},
    ),
    (SubscriptionProvider, {**SUBSCRIPTION, "invoice_settings": {"issuer": {"type": "account", "account": "acct_1"}}}),
    (SubscriptionProvider, {**SUBSCRIPTION, "add_invoice_items": [{"price": str(n)} for n in range(20)]}),
    (SubscriptionProvider, once({"price_data": ONCE, "discounts": [{"coupon": "a"}]})),
    (SubscriptionProvider, once({"price_data": {**without(ONCE, "unit_amount"), "unit_amount_decimal": "1"}})),
    (SubscriptionProvider, {"customer_account": "acct_1", "items": SUBSCRIPTION["items"]}),
    (SubscriptionProvider, one_item(price=None, plan="plan_1")),
    (SubscriptionProvider, one_item(price=None, price_data=PRICE_DATA, discounts=[{"promotion_code": "b"}])),
    (SubscriptionProvider, one_item(price=None, price_data={**FREE, "unit_amount_decimal": "1"})),
    (SubscriptionProvider, {**SUBSCRIPTION, "billing_mode": {"type": "classic"}}),
    (SubscriptionProvider, {**SUBSCRIPTION, "billing_mode": {"type": "flexible", "flexible": {}}}),
    (SubscriptionProvider, {**SUBSCRIPTION, "transfer_data": {"destination": "acct_1", "amount_percent": 100}}),
]


@pytest.mark.parametrize(("provider", "arguments"), BORDERS)
def test_what_stripe_just_takes_is_no_mistake(
    process: Process, provider: type[StripeProvider], arguments: dict[str, Any]
) -> None:
    assert reasons(process, provider, arguments) == []


@pytest.mark.parametrize(
    ("provider", "where", "most"),
    [
        (PriceProvider, "recurring", {"day": 1095, "week": 156, "month": 36, "year": 3}),
        (SubscriptionProvider, "pending_invoice_item_interval", {"day": 365, "week": 52, "month": 12, "year": 1}),
    ],
)
def test_each_interval_has_its_limit(
    process: Process, provider: type[StripeProvider], where: str, most: dict[str, int]
) -> None:
    base = PRICE if provider is PriceProvider else SUBSCRIPTION
    for interval, limit in most.items():
        for count in (1, limit):
            assert reasons(process, provider, {**base, where: {"interval": interval, "interval_count": count}}) == []
        for count in (0, limit + 1):
            [reason] = reasons(process, provider, {**base, where: {"interval": interval, "interval_count": count}})
            assert reason == f"{where}.interval_count: must be 1 to {limit:,} {interval}s"


@of_the_locked_sdk
def test_the_form_that_took_the_place_of_a_word_is_shown(process: Process) -> None:
    """`billing_cycle_anchor="now"` was right until API version 2026-10-28.endive."""
    wanted = 'billing_cycle_anchor: must be a whole number or an object such as {"type": "now"}, not a string'
    assert reasons(process, SubscriptionProvider, {**SUBSCRIPTION, "billing_cycle_anchor": "now"}) == [wanted]


DAY = 86_400


@pytest.mark.parametrize(
    ("interval", "days", "more", "refused"),
    [
        ("week", 7 * 252, {}, True),
        ("week", 7 * 250, {}, False),
        ("week", 7 * 252, {"proration_behavior": "none"}, False),
        ("week", 7 * 252, {"billing_mode": {"type": "classic"}}, False),
        ("week", 7 * 252, {"billing_mode": {"type": "flexible"}}, True),
        ("month", 7 * 252, {}, False),
    ],
)
def test_more_lines_than_a_first_invoice_can_have_are_refused(
    process: Process, interval: str, days: int, more: dict[str, Any], refused: bool
) -> None:
    """In flexible billing mode a backdated subscription begins with a line for each period of each item."""
    data = {**PRICE_DATA, "recurring": {"interval": interval}}
    start = int(time.time()) - days * DAY - 60
    arguments = {**SUBSCRIPTION, "items": {"a": {"price_data": data}}, "backdate_start_date": start, **more}
    found = reasons(process, SubscriptionProvider, arguments)
    assert [reason.startswith("backdate_start_date: makes a first invoice of more than") for reason in found] == (
        [True] if refused else []
    )


def test_a_long_text_in_metadata_is_one_mistake(process: Process) -> None:
    [reason] = reasons(process, PriceProvider, {**PRICE, "metadata": {"a": "v" * 5_001}})
    assert reason == "metadata.a: is 5001 characters long; Stripe takes at most 500"


def test_all_mistakes_come_at_once(process: Process) -> None:
    found = reasons(
        process,
        PriceProvider,
        {**TIERED, "currency": "USD", "nickame": "x", "tiers": [{"up_to": 0.5, "unit_amount": 1}, {"up_to": 5}]},
    )
    assert len(found) == 5, found


def test_what_is_not_known_yet_is_no_mistake(process: Process) -> None:
    """In a first preview the ids of other resources are unknown, and any input may come from one."""
    price = {
        **TIERED,
        "product": UNKNOWN,
        "tiers": [{"up_to": UNKNOWN, "unit_amount_decimal": UNKNOWN}, UNKNOWN, {"up_to": "inf", "unit_amount": 1}],
        "recurring": {"interval": "month", "usage_type": "metered", "meter": UNKNOWN},
        "metadata": UNKNOWN,
    }
    subscription = {"customer": UNKNOWN, "items": {"a": {"price": UNKNOWN}, "b": {"price": UNKNOWN}}}
    assert reasons(process, PriceProvider, price) == []
    assert reasons(process, SubscriptionProvider, subscription) == []
    assert reasons(process, SubscriptionProvider, {**subscription, "items": UNKNOWN, "cancel": UNKNOWN}) == []
    for provider, arguments in ((PriceProvider, price), (SubscriptionProvider, subscription)):
        for name in arguments:
            assert reasons(process, provider, {**arguments, name: UNKNOWN}) == [], name


# -- what is wrong is said without the value ------------------------------------------------------------------------

#: Pulumi hands a provider its secrets in the clear, and a price that one customer has negotiated may be one.
MARKER = "Zq7xMarker"
NUMBER = 7_431_907
FORMS: tuple[Any, ...] = (
    MARKER,
    f"{MARKER}@{MARKER}",
    MARKER * 600,
    f"https:// {MARKER}",
    f"{NUMBER}.{NUMBER}{NUMBER}",
    f"-{NUMBER}",
    LIVE_KEY,
    NUMBER,
    -NUMBER,
    NUMBER + 0.125,
    NUMBER * 10**14,
    [MARKER, NUMBER],
    [""],
    {"any": MARKER},
    {"any": NUMBER},
    True,
    None,
)


def with_forms(shape: Shape, value: Any) -> Iterator[Any]:
    """A value with each part of it, and the whole, replaced by each form in turn."""
    yield from FORMS
    if isinstance(value, dict):
        for key, each in value.items():
            inner = at(shape, (key,))
            assert inner is not None
            yield from ({**value, key: form} for form in with_forms(inner, each))
    elif isinstance(value, list):
        inner = at(shape, (0,))
        assert inner is not None
        yield from ([form] for form in with_forms(inner, value[0]))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_no_sentence_repeats_a_value(process: Process, kind: Kind) -> None:
    """Every parameter of every kind, at any depth, with values of every form: none of them breaks a check."""
    said = 0
    for name in arguments_of(kind):
        shape = kind.struct.fields[name].shape
        whole = any_value(shape, name, second=False)
        for value in with_forms(shape, whole):
            for reason in reasons(process, provider_of(kind), {name: value}):
                assert not re.search(f"{MARKER}|{NUMBER}|{LIVE_KEY}", reason, re.IGNORECASE), reason
                said += 1
    assert said > 50


def test_no_sentence_about_two_values_that_are_the_same_repeats_them(process: Process) -> None:
    items = {"a": {"price": MARKER}, "b": {"price": MARKER}}
    sentences = reasons(process, SubscriptionProvider, {**SUBSCRIPTION, "items": items})
    for owner in ("project/dev/one", "project/dev/two"):
        props = {**PRICE, "lookup_key": f"{MARKER} of both", "owner": owner}
        sentences += [each.reason for each in process.provider(PriceProvider).check({}, props).failures]
    assert len(sentences) == 2
    assert not any(MARKER in sentence for sentence in sentences)


def test_not_even_what_nobody_foresaw_repeats_a_value(process: Process, monkeypatch: pytest.MonkeyPatch) -> None:
    provider = process.provider(PriceProvider)
    monkeypatch.setattr(provider, "_linked", lambda inputs: int(inputs["nickname"]))
    with pytest.raises(ProviderError) as caught:
        provider.check({}, {**PRICE, "nickname": MARKER, "owner": "project/dev/name"})
    assert str(caught.value) == (
        "Price 'name': check failed unexpectedly: ValueError; STRIPE_PRICING_TRACEBACK=1 shows where"
    )


def test_a_check_that_fails_returns_no_placeholders(process: Process) -> None:
    """The engine would report those, and not our sentences: "unexpected unknown property value"."""
    props = as_pulumi_sends({**PRICE, "unit_amount": "many", "owner": "project/dev/name"})
    result = process.provider(PriceProvider).check({}, {**props, **PULUMI})
    assert [failure.reason for failure in result.failures] == ["unit_amount: must be a whole number, not a string"]
    assert not any(isinstance(value, Unknown) for value in result.inputs.values())


# -- what takes the state, or what else the program declares ----------------------------------------------------------


def test_a_customer_that_is_replaced_cannot_keep_its_invoice_prefix(world: World) -> None:
    clocks = [
        world.stripe("post", "/v1/test_helpers/test_clocks", frozen_time=int(time.time()))["id"] for _ in range(2)
    ]
    made = world.customer(invoice_prefix="ACME", test_clock=clocks[0])
    provider = world.process().provider(CustomerProvider)
    with pytest.raises(ProviderError, match="changing test_clock creates a new customer, but the invoice_prefix stays"):
        provider.diff(made.id, made.outs, {**made.inputs, "test_clock": clocks[1]})
    for prefix in ({"invoice_prefix": "ACME2"}, {"invoice_prefix": None}):
        changed = {**made.inputs, "test_clock": clocks[1], **prefix}
        assert provider.diff(made.id, made.outs, changed).replaces == ["test_clock"]
    assert provider.diff(made.id, made.outs, {**made.inputs, "name": "Acme 2"}).replaces == []


def test_a_subscription_made_with_a_currency_in_capitals_is_not_replaced(world: World) -> None:
    """Earlier versions sent it as it was; Stripe returns it in lower case, and a refresh or `up` then cancelled."""
    fee = world.price(world.product().id)
    made = world.subscription(world.customer().id, {"license": {"price": fee.id}}, currency="usd")
    old = State(made.id, {**made.inputs, "currency": "USD"}, {**made.outs, "currency": "USD"})
    refreshed = world.refresh(SubscriptionProvider, old)
    assert refreshed is not None
    for state in (old, refreshed):
        provider = world.process().provider(SubscriptionProvider)
        assert provider.diff(state.id, state.outs, made.inputs).replaces == []
        world.forget_calls()
        assert world.up(SubscriptionProvider, "acme", arguments_in(made), state).id == made.id
        assert [call for call in world.calls() if not call.startswith("GET")] == []
    assert world.process().provider(SubscriptionProvider).diff(
        made.id, made.outs, {**made.inputs, "currency": "eur"}
    ).replaces == ["currency"]


def arguments_in(state: State) -> dict[str, Any]:
    """What a program declares of a state."""
    return {name: value for name, value in state.inputs.items() if name != "owner"}


def test_a_state_with_an_empty_text_in_a_list_refreshes(world: World) -> None:
    """Earlier versions took `images=[""]`."""
    made = world.product()
    old = State(made.id, {**made.inputs, "images": [""]}, {**made.outs, "images": [""]})
    refreshed = world.refresh(ProductProvider, old)
    assert refreshed is not None
    for state in (old, refreshed):
        after = world.up(ProductProvider, "pro", {"name": "pro"}, state)
        assert after.id == made.id
        assert world.refresh(ProductProvider, after) == after


def test_a_quantity_of_a_metered_item_is_refused(world: World) -> None:
    """Where the price is one of the program's own, or where the state says that the item is metered."""
    customer, product = world.customer().id, world.product().id
    fee = world.price(product)
    usage = world.up(PriceProvider, "usage", metered(product, world.meter().id))
    items = {"license": {"price": fee.id, "quantity": 2}, "usage": {"price": usage.id}}
    made = world.subscription(customer, items)
    wrong = {**made.inputs, "items": {**items, "usage": {"price": usage.id, "quantity": 1}}}
    sentence = "items.usage.quantity: has no meaning for a metered price, which bills the usage; omit it"

    run = world.process()
    run.provider(PriceProvider).diff(usage.id, usage.outs, usage.inputs)
    run.provider(PriceProvider).diff(fee.id, fee.outs, fee.inputs)
    assert [each.reason for each in run.provider(SubscriptionProvider).check(made.inputs, wrong).failures] == [sentence]
    assert run.provider(SubscriptionProvider).check(made.inputs, made.inputs).failures == []

    run = world.process()
    with pytest.raises(ProviderError, match=sentence):
        run.provider(SubscriptionProvider).diff(made.id, made.outs, wrong)
    assert run.provider(SubscriptionProvider).diff(made.id, made.outs, made.inputs).replaces == []
    # Another price need not be metered.
    moved = {**made.inputs, "items": {**items, "usage": {"price": "price_other", "quantity": 1}}}
    assert run.provider(SubscriptionProvider).diff(made.id, made.outs, moved).replaces == []
