"""What a preview refuses: each mistake one line, with the path of the property and what to write instead."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from pulumi.output import UNKNOWN

from components.providers.customer import CustomerProvider
from components.providers.default_price import DefaultPriceProvider
from components.providers.lifecycle import StripeProvider
from components.providers.meter import MeterProvider
from components.providers.price import PriceProvider
from components.providers.product import ProductProvider
from components.providers.subscription import SubscriptionProvider
from tests.components.world import LIVE_KEY, PULUMI, Process, World, as_pulumi_sends

METER = {"display_name": "T", "event_name": "t", "default_aggregation": {"formula": "sum"}}
PRODUCT = {"name": "P"}
PRICE = {"product": "prod_1", "currency": "usd", "unit_amount": 100, "recurring": {"interval": "month"}}
TIERS: list[dict[str, Any]] = [{"up_to": 10, "unit_amount": 0}, {"up_to": "inf", "unit_amount": 1}]
TIERED = {
    "product": "prod_1",
    "currency": "usd",
    "billing_scheme": "tiered",
    "tiers_mode": "graduated",
    "tiers": TIERS,
    "recurring": {"interval": "month"},
}
SUBSCRIPTION = {"customer": "cus_1", "items": {"a": {"price": "price_1"}}}


def without(arguments: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in arguments.items() if name not in names}


def tiered(*tiers: dict[str, Any]) -> dict[str, Any]:
    return {**TIERED, "tiers": list(tiers)}


MISTAKES: list[tuple[type[StripeProvider], dict[str, Any], str]] = [
    # -- any kind
    (PriceProvider, {**PRICE, "nickame": "x"}, "nickame: Stripe has no such parameter; did you mean nickname?"),
    (PriceProvider, {**PRICE, "recurring": {"intervall": "month", "interval": "month"}}, "recurring.intervall: Stripe"),
    (PriceProvider, {**PRICE, "recurring": {}}, "recurring.interval: is required"),
    (PriceProvider, {**PRICE, "recurring": "month"}, "recurring: must be an object, not a string"),
    (PriceProvider, {**PRICE, "active": "yes"}, "active: must be true or false, not a string"),
    (PriceProvider, {**PRICE, "nickname": 3}, "nickname: must be a string, not a number"),
    (PriceProvider, {**PRICE, "metadata": {"seats": 3}}, "metadata.seats: must be a string, not a number"),
    (PriceProvider, {**PRICE, "metadata": {"pulumi": "me"}}, "metadata.pulumi: is how the providers know"),
    (PriceProvider, {**PRICE, "metadata": {"a": ""}}, "metadata.a: is empty, which Stripe takes as unset"),
    (PriceProvider, {**PRICE, "metadata": {"k" * 41: "v"}}, "has a key of 41 characters"),
    (PriceProvider, {**PRICE, "metadata": {"a": "v" * 501}}, "metadata.a: is 501 characters long"),
    (PriceProvider, {**PRICE, "metadata": {"a[b]": "v"}}, "has square brackets in its key"),
    (PriceProvider, {**PRICE, "metadata": {str(n): "v" for n in range(50)}}, "metadata: has 50 keys"),
    # -- meters
    (MeterProvider, without(METER, "event_name"), "event_name: is required"),
    (MeterProvider, {**METER, "default_aggregation": {"formula": "max"}}, "is 'max'; must be one of count, last, sum"),
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
    (ProductProvider, {**PRODUCT, "statement_descriptor": "A*B"}, "statement_descriptor: holds *"),
    (ProductProvider, {**PRODUCT, "statement_descriptor": "123"}, "statement_descriptor: needs at least one letter"),
    (ProductProvider, {**PRODUCT, "url": "example.com"}, "url: is 'example.com'; must be a public web address"),
    (ProductProvider, {**PRODUCT, "id": "a b"}, "id: is 'a b'; use letters, digits, - and _"),
    (ProductProvider, {**PRODUCT, "images": ["https://example.com/i.png"] * 9}, "images: has 9 entries"),
    (
        ProductProvider,
        {**PRODUCT, "package_dimensions": {"height": 1.234, "length": 1, "weight": 1, "width": 1}},
        "package_dimensions.height: is 1.234; must be positive, with at most 2 decimals",
    ),
    (
        ProductProvider,
        {**PRODUCT, "default_price_data": {"currency": "usd"}},
        "default_price_data: needs unit_amount, unit_amount_decimal or custom_unit_amount",
    ),
    (DefaultPriceProvider, {"product": "prod_1"}, "price: is required"),
    # -- prices
    (PriceProvider, without(PRICE, "product"), "product: is required"),
    (PriceProvider, {**PRICE, "product_data": {"name": "P"}}, "product_data: excludes product"),
    (PriceProvider, without(PRICE, "unit_amount"), "unit_amount: is required, or unit_amount_decimal"),
    (PriceProvider, {**PRICE, "unit_amount_decimal": "1"}, "unit_amount_decimal: repeats unit_amount"),
    (PriceProvider, {**PRICE, "unit_amount": 0.04}, "unit_amount: is 0.04; must be a whole number"),
    (PriceProvider, {**PRICE, "unit_amount": -1}, "unit_amount: is -1; an amount cannot be negative"),
    (PriceProvider, {**PRICE, "unit_amount": 2**53 + 1}, "the largest number that Pulumi carries exactly"),
    (PriceProvider, {**PRICE, "unit_amount": "100"}, "unit_amount: must be a whole number, not a string"),
    (
        PriceProvider,
        {**without(PRICE, "unit_amount"), "unit_amount_decimal": 0.04},
        'unit_amount_decimal: is the float 0.04, which cannot hold every amount exactly; write it as a string, "0.04"',
    ),
    (
        PriceProvider,
        {**without(PRICE, "unit_amount"), "unit_amount_decimal": "0.0000000000001"},
        "is 0.0000000000001; Stripe takes at most 12 decimals",
    ),
    (PriceProvider, {**without(PRICE, "unit_amount"), "unit_amount_decimal": "1e-3"}, "must be a plain decimal number"),
    (PriceProvider, {**without(PRICE, "unit_amount"), "unit_amount_decimal": "NaN"}, "must be a plain decimal number"),
    (PriceProvider, {**PRICE, "currency": "USD"}, "currency: is 'USD'; must be a three-letter ISO currency code"),
    (PriceProvider, {**PRICE, "lookup_key": "k" * 201}, "lookup_key: is 201 characters long; Stripe takes at most 200"),
    (PriceProvider, {**PRICE, "transfer_lookup_key": True}, "transfer_lookup_key: needs a lookup_key"),
    (PriceProvider, {**PRICE, "recurring": {"interval": "monthly"}}, "is 'monthly'; must be one of day, month, week"),
    (
        PriceProvider,
        {**PRICE, "recurring": {"interval": "month", "interval_count": 37}},
        "recurring.interval_count: is 37; must be 1 to 36 months",
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
    (PriceProvider, {**TIERED, "unit_amount": 1}, 'unit_amount: excludes billing_scheme "tiered"'),
    (
        PriceProvider,
        {**TIERED, "transform_quantity": {"divide_by": 100, "round": "up"}},
        "transform_quantity: excludes tiers",
    ),
    (PriceProvider, tiered({"up_to": 10, "unit_amount": 1}), 'tiers[0].up_to: is 10; the last tier must be "inf"'),
    (PriceProvider, tiered({"up_to": "inf", "unit_amount": 1}, *TIERS), 'tiers[0].up_to: is "inf" and not the last'),
    (PriceProvider, tiered(TIERS[0], TIERS[0], TIERS[1]), "tiers[1].up_to: is 10; must be above 10"),
    (PriceProvider, tiered({"up_to": 0, "unit_amount": 0}, TIERS[1]), "tiers[0].up_to: is 0; must be above 0"),
    (PriceProvider, tiered({"up_to": 10}, TIERS[1]), "tiers[0]: costs nothing; declare unit_amount_decimal"),
    (
        PriceProvider,
        tiered({"up_to": "inf", "unit_amount": 1, "unit_amount_decimal": "1"}),
        "tiers[0].unit_amount_decimal: repeats unit_amount",
    ),
    (
        PriceProvider,
        tiered({"up_to": "inf", "flat_amount_decimal": "1.5"}),
        "tiers[0].flat_amount_decimal: is 1.5; Stripe takes whole minor units",
    ),
    (PriceProvider, tiered({"up_to": "infinity", "unit_amount": 1}), "tiers[0].up_to: is 'infinity'; must be a whole"),
    (
        PriceProvider,
        {**PRICE, "transform_quantity": {"divide_by": 0, "round": "up"}},
        "transform_quantity.divide_by: is 0",
    ),
    (PriceProvider, {**PRICE, "currency_options": {"EUR": {"unit_amount": 1}}}, "currency_options.EUR: is 'EUR'"),
    (PriceProvider, {**PRICE, "currency_options": {"eur": {}}}, "currency_options.eur: needs unit_amount"),
    (
        PriceProvider,
        {**TIERED, "currency_options": {"eur": {"unit_amount": 1}}},
        "currency_options.eur.tiers: is required",
    ),
    # -- customers
    (CustomerProvider, {"email": "nobody"}, "email: is not an e-mail address"),
    (
        CustomerProvider,
        {"invoice_prefix": "abc"},
        "invoice_prefix: is 'abc'; must be 1 to 12 capital letters or digits",
    ),
    (CustomerProvider, {"tax_exempt": "yes"}, "tax_exempt: is 'yes'; must be one of exempt, none, reverse"),
    (CustomerProvider, {"on_delete": "archive"}, "on_delete: is 'archive'; must be one of delete, keep"),
    (CustomerProvider, {"shipping": {"name": "N"}}, "shipping.address: is required"),
    (CustomerProvider, {"address": {"street": "S"}}, "address.street: Stripe has no such parameter"),
    (CustomerProvider, {"tax_id_data": [{"type": "eu_vatt", "value": "1"}]}, "did you mean eu_vat?"),
    (
        CustomerProvider,
        {"invoice_settings": {"custom_fields": [{"name": "n" * 41, "value": "v"}]}},
        "invoice_settings.custom_fields[0].name: is 41 characters long",
    ),
    (CustomerProvider, {"source": "tok_visa", "default_source": "card_1"}, "default_source: excludes source"),
    # -- subscriptions
    (SubscriptionProvider, without(SUBSCRIPTION, "customer"), "customer: is required"),
    (SubscriptionProvider, without(SUBSCRIPTION, "items"), "items: is required"),
    (SubscriptionProvider, {**SUBSCRIPTION, "items": {}}, "items: is required"),
    (SubscriptionProvider, {**SUBSCRIPTION, "items": [{"price": "price_1"}]}, "items: must be an object, not a list"),
    (SubscriptionProvider, {**SUBSCRIPTION, "items": {"a": {"quantity": 1}}}, "items.a.price: is required"),
    (SubscriptionProvider, {**SUBSCRIPTION, "items": {"a": {"price": "price_1", "id": "si_1"}}}, "items.a.id: Stripe"),
    (
        SubscriptionProvider,
        {**SUBSCRIPTION, "items": {"a": {"price": "price_1"}, "b": {"price": "price_1"}}},
        "items.b.price: is price_1, as in items.a; Stripe takes a price once a subscription",
    ),
    (
        SubscriptionProvider,
        {**SUBSCRIPTION, "items": {"a": {"price": "price_1", "quantity": -1}}},
        "items.a.quantity: is -1",
    ),
    (SubscriptionProvider, {**SUBSCRIPTION, "collection_method": "send_invoice"}, "days_until_due: is required"),
    (
        SubscriptionProvider,
        {**SUBSCRIPTION, "days_until_due": 3},
        "days_until_due: needs collection_method send_invoice",
    ),
    (SubscriptionProvider, {**SUBSCRIPTION, "trial_end": "now", "trial_period_days": 3}, "trial_period_days: excludes"),
    (
        SubscriptionProvider,
        {**SUBSCRIPTION, "cancel_at": 1, "cancel_at_period_end": True},
        "cancel_at_period_end: excludes",
    ),
    (
        SubscriptionProvider,
        {**SUBSCRIPTION, "cancel_at": "soon"},
        "cancel_at: is 'soon'; must be a whole number or one of",
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
        "application_fee_percent: is 101; must be 0",
    ),
    (
        SubscriptionProvider,
        {
            **SUBSCRIPTION,
            "application_fee_percent": 10,
            "transfer_data": {"destination": "acct_1", "amount_percent": 90},
        },
        "transfer_data.amount_percent: excludes application_fee_percent",
    ),
    (
        SubscriptionProvider,
        {**SUBSCRIPTION, "invoice_settings": {"issuer": {"type": "account"}}},
        "invoice_settings.issuer.account: is required with type account",
    ),
    (
        SubscriptionProvider,
        {**SUBSCRIPTION, "cancel": {"when": "later"}},
        "cancel.when: is 'later'; must be one of now",
    ),
]


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """One for all: checking asks nobody."""
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


def test_there_are_enough_of_them() -> None:
    assert len(MISTAKES) >= 40


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


@pytest.mark.parametrize(("provider", "arguments", "expected"), MISTAKES[:40])
def test_a_key_in_a_value_is_not_printed(
    process: Process, provider: type[StripeProvider], arguments: dict[str, Any], expected: str
) -> None:
    """Somebody pastes a key into the wrong field; the refusal must not spread it."""
    for name in arguments:
        for reason in reasons(process, provider, {**arguments, name: LIVE_KEY}):
            assert LIVE_KEY not in reason
