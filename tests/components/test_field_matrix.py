"""Every parameter that stripe-python has for the kinds, through set, change and clear.

The cases are generated from the types of the SDK that is installed: a field that a new SDK brings is a new case, and
one that nobody gave a sample for fails `test_every_field_is_covered`. Of the samples below an older SDK gets the part
that it knows (`script/try-stripe VERSION`). Fields that Stripe cannot change go through replacement.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import parse_qsl

import pytest

from components.providers.coupon import COUPON
from components.providers.customer import CUSTOMER
from components.providers.fields import KEEP, clearing
from components.providers.kind import Kind
from components.providers.kinds import KINDS as ALL_KINDS
from components.providers.kinds import provider_of
from components.providers.meter import METER
from components.providers.policy import Field
from components.providers.price import PRICE, PriceProvider
from components.providers.product import PRODUCT
from components.providers.promotion_code import PROMOTION_CODE
from components.providers.shapes import Anything, Array, Choice, Either, Map, Scalar, Shape, Struct, fitting
from components.providers.subscription import SUBSCRIPTION
from tests.components import declarations
from tests.components.world import State, World, anchor, as_pulumi_sends, invoiced, licensed, metered

NOW = int(time.time())
DAY = 86_400
ABSENT: Any = object()

#: A link has no parameters of Stripe's.
KINDS = [kind for kind in ALL_KINDS if not kind.is_link]


@dataclass(frozen=True)
class Sample:
    """Two values of a field, and what else must be declared so that Stripe takes them.

    Attributes:
        beside: replaces arguments of the base declaration; ABSENT takes one out. `beside_second` with the second.
        always: the base has the first value, since the field cannot be left out again.
        in_place: a field that only creation takes has one value that an update takes, the second.
        wait: seconds that pass before the second, which Stripe takes once the first is over.
    """

    first: Any
    second: Any
    beside: Mapping[str, Any] | None = None
    beside_second: Mapping[str, Any] | None = None
    always: bool = False
    in_place: bool = False
    wait: int = 0


TIERS = [{"up_to": 1000, "unit_amount_decimal": "0"}, {"up_to": "inf", "unit_amount_decimal": "0.04"}]
MORE_TIERS = [
    {"up_to": 500, "unit_amount": 0, "flat_amount": 100},
    {"up_to": "inf", "unit_amount_decimal": "0.000000000001", "flat_amount_decimal": "200"},
]
IN_TIERS = {
    "unit_amount_decimal": ABSENT,
    "billing_scheme": "tiered",
    "tiers_mode": "graduated",
    "tiers": TIERS,
}
ONE_TIME = {"recurring": ABSENT, "unit_amount_decimal": ABSENT}
ADDRESS = {
    "city": "Lima",
    "country": "PE",
    "line1": "Calle 1",
    "line2": "Piso 2",
    "postal_code": "15001",
    "state": "Lima",
}

AN_AMOUNT = {"percent_off": ABSENT, "amount_off": 500, "currency": "usd"}
LEAST = {"first_time_transaction": True, "minimum_amount": 1000, "minimum_amount_currency": "usd"}

#: Values are given where not just any will do; `$name` stands for something that the test's world makes.
SAMPLES: dict[Kind, dict[str, Sample]] = {
    METER: {
        "customer_mapping": Sample(
            {"event_payload_key": "who", "type": "by_id"}, {"event_payload_key": "whom", "type": "by_id"}
        ),
        "default_aggregation": Sample({"formula": "count"}, {"formula": "last"}),
        "event_name": Sample("a", "b"),
        "value_settings": Sample({"event_payload_key": "tokens"}, {"event_payload_key": "words"}),
    },
    PRODUCT: {
        "active": Sample(False, True),
        "default_price": Sample("$own_price", "$other_own_price"),
        "default_price_data": Sample(
            {
                "currency": "usd",
                "unit_amount": 100,
                "recurring": {"interval": "month", "interval_count": 3},
                "tax_behavior": "exclusive",
                "metadata": {"a": "b"},
                "currency_options": {"eur": {"unit_amount": 90, "tax_behavior": "inclusive"}},
            },
            {
                "currency": "usd",
                "unit_amount_decimal": "1.5",
                "currency_options": {"eur": {"unit_amount_decimal": "0.000000000001"}},
            },
        ),
        "id": Sample("chosen-1", "chosen-2"),
        "images": Sample(["https://example.com/1.png"], ["https://example.com/1.png", "https://example.com/2.png"]),
        "package_dimensions": Sample(
            {"height": 1.5, "length": 2, "weight": 3.25, "width": 4},
            {"height": 2, "length": 2, "weight": 2, "width": 2},
        ),
        "tax_code": Sample("txcd_10000000", "txcd_10103000"),
        "type": Sample("service", "good"),
        "url": Sample("https://example.com/1", "https://example.com/2"),
    },
    PRICE: {
        "active": Sample(False, True),
        "billing_scheme": Sample("per_unit", "tiered", {"unit_amount_decimal": "5"}),
        "currency": Sample("eur", "jpy"),
        "currency_options": Sample(
            {
                "eur": {"unit_amount": 900, "tax_behavior": "exclusive"},
                "gbp": {"unit_amount_decimal": "0.000000000001"},
            },
            {"eur": {"unit_amount": 950, "tax_behavior": "exclusive"}},
        ),
        "custom_unit_amount": Sample(
            {"enabled": True, "minimum": 100, "preset": 200, "maximum": 300}, {"enabled": True, "minimum": 50}, ONE_TIME
        ),
        "product": Sample("$product", "$other_product"),
        "product_data": Sample(
            {
                "id": "chosen-1",
                "name": "One",
                "active": True,
                "unit_label": "seat",
                "metadata": {"a": "b"},
                "tax_code": "txcd_10000000",
                "tax_details": {"performance_location": "taxloc_1", "tax_code": "txcd_10000000"},
            },
            {"name": "Two", "statement_descriptor": "TWO"},
            {"product": ABSENT},
        ),
        "recurring": Sample(
            {"interval": "month", "interval_count": 2, "trial_period_days": 7},
            {"interval": "year", "usage_type": "metered", "meter": "$meter"},
        ),
        "tax_behavior": Sample("unspecified", "exclusive"),
        "tiers": Sample(TIERS, MORE_TIERS, IN_TIERS),
        "tiers_mode": Sample("graduated", "volume", IN_TIERS),
        "transfer_lookup_key": Sample(True, False, {"lookup_key": "key"}),
        "transform_quantity": Sample({"divide_by": 100, "round": "up"}, {"divide_by": 100, "round": "down"}),
        "unit_amount": Sample(100, 0, {"unit_amount_decimal": ABSENT}),
        "unit_amount_decimal": Sample("0.000000000001", "123456789.123456789012"),
    },
    COUPON: {
        "amount_off": Sample(500, 600, AN_AMOUNT),
        "applies_to": Sample({"products": ["$product"]}, {"products": ["$product", "$other_product"]}),
        "currency": Sample("usd", "eur", AN_AMOUNT),
        "currency_options": Sample(
            {"eur": {"amount_off": 450}}, {"eur": {"amount_off": 475}, "gbp": {"amount_off": 400}}, AN_AMOUNT
        ),
        "duration": Sample("forever", "repeating", None, {"duration_in_months": 3}),
        "duration_in_months": Sample(3, 6, {"duration": "repeating"}),
        "id": Sample("chosen-1", "chosen-2"),
        "percent_off": Sample("12.5", "50"),
        "redeem_by": Sample(NOW + 10 * DAY, NOW + 20 * DAY),
    },
    PROMOTION_CODE: {
        "active": Sample(False, True),
        "code": Sample("SUMMER", "WINTER"),
        "customer": Sample("$customer", "$other_customer"),
        "customer_account": Sample("$payer", "$other_payer"),
        "expires_at": Sample(NOW + 10 * DAY, NOW + 20 * DAY),
        "promotion": Sample({"type": "coupon", "coupon": "$coupon"}, {"type": "coupon", "coupon": "$other_coupon"}),
        "restrictions": Sample(
            {**LEAST, "currency_options": {"eur": {"minimum_amount": 900}}},
            {**LEAST, "currency_options": {"eur": {"minimum_amount": 950}, "gbp": {"minimum_amount": 800}}},
            always=True,
        ),
    },
    CUSTOMER: {
        "address": Sample(ADDRESS, {**ADDRESS, "city": "Cusco"}),
        "default_source": Sample("$source", "$other_source"),
        "email": Sample("one@example.com", "two@example.com"),
        "invoice_prefix": Sample("ABC", "DEF"),
        "invoice_settings": Sample(
            {
                "custom_fields": [{"name": "PO", "value": "1"}],
                "default_payment_method": "$card",
                "footer": "Thank you",
                "rendering_options": {"amount_tax_display": "exclude_tax", "template": "inrtem_1"},
            },
            {
                "custom_fields": [{"name": "PO", "value": "2"}, {"name": "VAT", "value": "3"}],
                "default_payment_method": "$other_card",
                "footer": "Bye",
                "rendering_options": {"amount_tax_display": "include_inclusive_tax", "template": "inrtem_2"},
            },
        ),
        "payment_method": Sample("pm_card_visa", "pm_card_mastercard"),
        "preferred_locales": Sample(["es"], ["en", "es"]),
        "shipping": Sample(
            {"name": "Acme", "phone": "1", "address": ADDRESS}, {"name": "Acme 2", "address": {"line1": "Calle 2"}}
        ),
        "source": Sample("tok_visa", "tok_amex"),
        "tax": Sample(
            {"ip_address": "203.0.113.1", "validate_location": "deferred"},
            {"ip_address": "203.0.113.2", "validate_location": "deferred"},
        ),
        "tax_id_data": Sample(
            [{"type": "eu_vat", "value": "DE123456789"}], [{"type": "us_ein", "value": "12-3456789"}]
        ),
        "test_clock": Sample("$clock", "$other_clock"),
    },
    SUBSCRIPTION: {
        "add_invoice_items": Sample(
            [
                {
                    "price": "$one_time",
                    "quantity": 2,
                    "discountable": False,
                    "metadata": {"a": "b"},
                    "tax_rates": ["$tax_rate"],
                }
            ],
            [{"price_data": {"currency": "usd", "product": "$product", "unit_amount": 500}}],
        ),
        "application_fee_percent": Sample(10, "12.5", {"transfer_data": {"destination": "$account"}}),
        "automatic_tax": Sample(
            {"enabled": True, "liability": {"type": "self"}},
            {"enabled": True, "liability": {"type": "account", "account": "$account"}},
            {"customer": "$located"},
        ),
        "backdate_start_date": Sample(NOW - 3 * DAY, NOW - 5 * DAY),
        "billing_cycle_anchor": Sample(NOW + 5 * DAY, NOW + 7 * DAY),
        "billing_cycle_anchor_config": Sample({"day_of_month": 1, "hour": 2}, {"day_of_month": 15}),
        "billing_mode": Sample(
            {"type": "flexible"}, {"type": "flexible", "flexible": {"proration_discounts": "included"}}
        ),
        "billing_schedules": Sample(
            [
                {
                    "key": "a",
                    "applies_to": [{"type": "price", "price": "$price"}],
                    "bill_until": {"type": "timestamp", "timestamp": NOW + 100 * DAY},
                }
            ],
            [{"bill_until": {"type": "duration", "duration": {"interval": "month", "interval_count": 6}}}],
        ),
        "billing_thresholds": Sample({"amount_gte": 5000, "reset_billing_cycle_anchor": True}, {"amount_gte": 6000}),
        "cancel_at": Sample(NOW + 100 * DAY, "max_period_end"),
        "cancel_at_period_end": Sample(True, False),
        "cancellation_details": Sample(
            {"comment": "Bye", "feedback": "unused", "feedback_option": "other"},
            {"comment": "Moved", "feedback": "too_complex", "feedback_option": "more"},
        ),
        "collection_method": Sample(
            "charge_automatically",
            "send_invoice",
            {"days_until_due": ABSENT, "collection_method": ABSENT},
            {"days_until_due": 3},
        ),
        "currency": Sample("usd", "eur"),
        "customer": Sample("$customer", "$other_customer"),
        "customer_account": Sample("$payer", "$other_payer", {"customer": ABSENT}),
        "days_until_due": Sample(10, 20),
        "default_payment_method": Sample("$card", "$other_card"),
        "default_source": Sample("$source", "$other_source"),
        "default_tax_rates": Sample(["$tax_rate"], ["$tax_rate", "$other_tax_rate"]),
        "discounts": Sample([{"coupon": "$coupon"}], [{"coupon": "$other_coupon"}]),
        "invoice_settings": Sample(
            {
                "account_tax_ids": ["atxi_1"],
                "custom_fields": [{"name": "PO", "value": "1"}],
                "description": "For tokens",
                "footer": "Thank you",
                "issuer": {"type": "account", "account": "$account"},
            },
            {
                "account_tax_ids": ["atxi_1", "atxi_2"],
                "custom_fields": [{"name": "PO", "value": "2"}],
                "description": "For words",
                "footer": "Bye",
                "issuer": {"type": "account", "account": "$other_account"},
            },
        ),
        "items": Sample(
            {"license": {"price": "$price", "quantity": 2, "metadata": {"a": "b"}, "tax_rates": ["$tax_rate"]}},
            {
                "license": {"price": "$other_price", "tax_rates": ["$tax_rate", "$other_tax_rate"]},
                "usage": {"price": "$usage"},
            },
        ),
        "on_behalf_of": Sample("$account", "$other_account"),
        "pause_collection": Sample({"behavior": "void", "resumes_at": NOW + DAY}, {"behavior": "keep_as_draft"}),
        "payment_behavior": Sample("allow_incomplete", "default_incomplete"),
        "pending_invoice_item_interval": Sample({"interval": "week", "interval_count": 2}, {"interval": "day"}),
        "proration_date": Sample(NOW, NOW + 1),
        "transfer_data": Sample(
            {"destination": "$account", "amount_percent": "12.5"}, {"destination": "$other_account"}
        ),
        "trial_end": Sample(NOW + 10 * DAY, NOW + 20 * DAY),
        "trial_from_plan": Sample(True, False),
        "trial_period_days": Sample(7, 14),
        "trial_settings": Sample(
            {"end_behavior": {"missing_payment_method": "cancel", "billing_cycle_anchor": "unchanged"}},
            {"end_behavior": {"missing_payment_method": "pause"}},
        ),
    },
}

CUSTOM = {"enabled": True, "minimum": 100, "preset": 200, "maximum": 300}
MORE_CUSTOM = {"enabled": True, "minimum": 50}
EVERY_YEAR = {"items": {"license": {"price": "$yearly"}}}

#: More samples of fields that have several forms.
ALSO: dict[Kind, dict[str, tuple[Sample, ...]]] = {
    PRODUCT: {
        "default_price_data": (
            Sample(
                {
                    "currency": "usd",
                    "custom_unit_amount": CUSTOM,
                    "currency_options": {"eur": {"custom_unit_amount": CUSTOM}},
                },
                {"currency": "usd", "custom_unit_amount": MORE_CUSTOM},
            ),
        ),
    },
    PRICE: {
        "currency_options": (
            Sample({"eur": {"tiers": TIERS}, "gbp": {"tiers": MORE_TIERS}}, {"eur": {"tiers": MORE_TIERS}}, IN_TIERS),
            Sample(
                {"eur": {"custom_unit_amount": CUSTOM}, "gbp": {"custom_unit_amount": MORE_CUSTOM}},
                {"eur": {"custom_unit_amount": MORE_CUSTOM}},
                {**ONE_TIME, "custom_unit_amount": CUSTOM},
            ),
        ),
    },
    SUBSCRIPTION: {
        "add_invoice_items": (
            Sample(
                [
                    {
                        "price_data": {
                            "currency": "usd",
                            "product": "$product",
                            "unit_amount_decimal": "500",
                            "tax_behavior": "exclusive",
                        }
                    }
                ],
                [{"price": "$one_time"}],
            ),
            Sample(
                [
                    {
                        "price": "$one_time",
                        "period": {
                            "start": {"type": "timestamp", "timestamp": NOW},
                            "end": {"type": "timestamp", "timestamp": NOW + DAY},
                        },
                    }
                ],
                [
                    {
                        "price": "$one_time",
                        "period": {"start": {"type": "max_item_period_start"}, "end": {"type": "min_item_period_end"}},
                    }
                ],
            ),
            Sample(
                [{"price": "$one_time", "discounts": [{"coupon": "$coupon"}]}],
                [{"price": "$one_time", "discounts": [{"promotion_code": "$promotion_code"}]}],
            ),
            Sample(
                [{"price": "$one_time"}],
                [{"price": "$one_time", "discounts": [{"discount": "$own_discount"}]}],
                {"discounts": [{"coupon": "$coupon"}]},
            ),
        ),
        "discounts": (
            Sample([{"promotion_code": "$promotion_code"}], [{"promotion_code": "$other_promotion_code"}]),
            Sample([{"coupon": "$coupon"}], [{"discount": "$own_discount"}, {"coupon": "$other_coupon"}]),
        ),
        "billing_cycle_anchor": (Sample(NOW + 5 * DAY, anchor("now"), in_place=True),),
        "billing_cycle_anchor_config": (
            Sample(
                {"day_of_month": 1, "month": 3, "hour": 2, "minute": 3, "second": 4},
                {"day_of_month": 1, "month": 4, "hour": 0, "minute": 0, "second": 0},
                EVERY_YEAR,
            ),
        ),
        "billing_mode": (Sample({"type": "classic"}, {"type": "flexible"}, always=True),),
        "items": (
            Sample(
                {
                    "license": {
                        "price_data": {
                            "currency": "usd",
                            "product": "$product",
                            "recurring": {"interval": "month", "interval_count": 2},
                            "tax_behavior": "inclusive",
                            "unit_amount": 700,
                        },
                    }
                },
                {
                    "license": {
                        "price_data": {
                            "currency": "usd",
                            "product": "$product",
                            "recurring": {"interval": "month", "interval_count": 2},
                            "unit_amount_decimal": "0.5",
                        },
                    }
                },
            ),
            Sample(
                {"license": {"price": "$price", "discounts": [{"coupon": "$coupon"}]}},
                {"license": {"price": "$price", "discounts": [{"promotion_code": "$promotion_code"}]}},
            ),
            Sample(
                {"license": {"price": "$price", "discounts": [{"coupon": "$coupon"}]}},
                {
                    "license": {
                        "price": "$price",
                        "discounts": [{"discount": "$own_discount"}, {"coupon": "$other_coupon"}],
                    }
                },
            ),
            Sample({"license": {"plan": "$price"}}, {"license": {"plan": "$other_price"}}),
            Sample(
                {"license": {"price": "$price"}, "usage": {"price": "$usage", "billing_thresholds": {"usage_gte": 5}}},
                {"license": {"price": "$price"}, "usage": {"price": "$usage", "billing_thresholds": {"usage_gte": 6}}},
            ),
            Sample(
                {"license": {"price": "$price", "current_trial": {"trial_offer": "$trial_offer"}}},
                {"license": {"price": "$other_price", "current_trial": {"trial_offer": "$other_trial_offer"}}},
                wait=8 * DAY,
            ),
            Sample(
                {"license": {"current_trial": {"trial_offer": "$trial_offer"}, "quantity": 3}},
                {"license": {"current_trial": {"trial_offer": "$other_trial_offer"}, "quantity": 4}},
                wait=8 * DAY,
            ),
        ),
    },
}

#: Nested fields whose values the samples above leave out, with the reason.
LEFT_OUT: dict[str, str] = {
    "default_price_data.currency_options.*.tiers": "the price that is made so has one amount, and so its currencies",
}


_BANK_TRANSFER = "payment_settings.payment_method_options.customer_balance"
#: Two values by path, where the shape has any and Stripe's documentation names a few.
NAMED: dict[str, tuple[Any, Any]] = {
    "payment_settings.payment_method_options.pix.expires_after_seconds": (60, 1_209_600),
    f"{_BANK_TRANSFER}.bank_transfer.eu_bank_transfer.country": ("DE", "FR"),
    f"{_BANK_TRANSFER}.bank_transfer.type": ("eu_bank_transfer", "gb_bank_transfer"),
    f"{_BANK_TRANSFER}.funding_type": ("bank_transfer", "bank_transfer"),
}


def any_value(shape: Shape, path: str, second: bool) -> Any:
    """A value of a shape; a different one if `second`."""
    if path in NAMED:
        return NAMED[path][second]
    match shape:
        case Scalar("string"):
            return "two" if second else "one"
        case Scalar("integer"):
            return 2 if second else 1
        case Scalar("boolean"):
            return not second
        case Scalar():
            return "2.5" if second else "1.5"
        case Choice(values=values):
            return values[-1] if second else values[0]
        case Array(item=item):
            return [any_value(item, path, second)]
        case Map(item=item):
            key = "two" if second else "one"
            return {key: any_value(item, f"{path}.*", second), "both": any_value(item, f"{path}.*", second)}
        case Struct(fields=fields):
            return {name: any_value(field.shape, f"{path}.{name}", second) for name, field in fields.items()}
        case Either(options=options):
            return any_value(options[0], path, second)
    raise AssertionError(shape)


def sample(kind: Kind, name: str) -> Sample:
    shape = kind.struct.fields[name].shape
    found = SAMPLES.get(kind, {}).get(name)
    if found is not None:
        return replace(found, first=known(shape, found.first), second=known(shape, found.second))
    return Sample(*(any_value(shape, name, second=second) for second in (False, True)))


def samples(kind: Kind, name: str) -> list[Sample]:
    """Each form of a field that the installed SDK has."""
    shape = kind.struct.fields[name].shape
    forms = ALSO.get(kind, {}).get(name, ())
    return [
        sample(kind, name),
        *(each for each in forms if (known(shape, each.first), known(shape, each.second)) == (each.first, each.second)),
    ]


def known(shape: Shape, value: Any) -> Any:
    """The part of a sample that the installed SDK has parameters for."""
    match shape:
        case Struct(fields=fields) if isinstance(value, Mapping):
            return {name: known(fields[name].shape, each) for name, each in value.items() if name in fields}
        case Map(item=item) if isinstance(value, Mapping):
            return {name: known(item, each) for name, each in value.items()}
        case Array(item=item) if isinstance(value, list):
            return [known(item, each) for each in value]
        case Either():
            return known(fitting(shape, value) or Anything(), value)
    return value


def policy(kind: Kind, path: str) -> Field:
    return kind.fields.get(path, Field())


def arguments_of(kind: Kind) -> list[str]:
    return sorted(set(kind.struct.fields) - set(kind.own_struct.fields))


# -- the world of a case --------------------------------------------------------------------------------------------


class Case:
    """One kind's base declaration in a world of its own, and the names that samples use."""

    def __init__(self, world: World, kind: Kind) -> None:
        self.world, self.kind = world, kind
        self.provider = provider_of(kind)
        self._made: dict[str, str] = {}

    def base(self) -> dict[str, Any]:
        match self.kind.name:
            case "Meter":
                return {"display_name": "T", "event_name": "t", "default_aggregation": {"formula": "sum"}}
            case "Product":
                return {"name": "P"}
            case "Price":
                return licensed(self.made("product"))
            case "Customer":
                return {"name": "C"}
            case "Coupon":
                return {"percent_off": 20}
            case "Subscription":
                return {**invoiced(self.made("customer")), "items": {"license": {"price": self.made("price")}}}
        return declarations.of(self.kind).arguments(self.world)

    def made(self, name: str) -> str:
        """The id of something that samples refer to, made when it is first needed."""
        if name not in self._made:
            self._made[name] = self._make(name)
        return self._made[name]

    def _make(self, name: str) -> str:
        world, kind = self.world, name.removeprefix("other_")
        match kind:
            case "product":
                return world.product(name).id
            case "price":
                return world.price(self.made("product"), name, currency_options={"eur": {"unit_amount": 5}}).id
            case "yearly":
                return world.price(self.made("product"), name, recurring={"interval": "year"}).id
            case "trial_offer":
                ends_in = self.made(name.replace(kind, "price"))
                week = world.price(self.made("product"), f"{name} price", recurring={"interval": "week"}).id
                return str(
                    world.stripe(
                        "post",
                        "/v1/product_catalog/trial_offers",
                        price=week,
                        duration={"type": "relative", "relative": {"iterations": 1}},
                        end_behavior={"transition": {"price": ends_in}},
                    )["id"]
                )
            case "one_time":
                return world.price(self.made("product"), name, recurring=None).id
            case "usage":
                return world.up(PriceProvider, name, metered(self.made("product"), self.made("meter"))).id
            case "meter":
                return world.meter().id
            case "customer":
                return world.customer(name, invoice_settings={"default_payment_method": "pm_card_visa"}).id
            case "located":
                return world.customer(name, address=ADDRESS).id
            case "account":
                return str(world.control("accounts")["id"])
            case "tax_rate":
                return str(
                    world.stripe("post", "/v1/tax_rates", display_name=name, percentage=5, inclusive=False)["id"]
                )
            case "clock":
                return str(world.stripe("post", "/v1/test_helpers/test_clocks", frozen_time=NOW)["id"])
            case "promotion_code":
                coupon = self.world.stripe("post", "/v1/coupons", percent_off=20, duration="forever")["id"]
                promotion = {"type": "coupon", "coupon": coupon}
                return str(world.stripe("post", "/v1/promotion_codes", promotion=promotion)["id"])
            case "payer":
                return str(world.control("accounts", configurations=["customer"])["id"])
            case "coupon":
                return str(world.stripe("post", "/v1/coupons", percent_off=10, duration="forever")["id"])
        raise AssertionError(name)

    def value(self, value: Any) -> Any:
        """A sample with what it names filled in; a card is the customer's own, made and attached here."""
        if isinstance(value, str) and value.startswith("$"):
            return value if value.endswith(("card", "own_price", "own_discount", "source")) else self.made(value[1:])
        if isinstance(value, Mapping):
            return {key: self.value(each) for key, each in value.items()}
        if isinstance(value, list):
            return [self.value(each) for each in value]
        return value

    def with_own(self, value: Any, state: State | None, customer: str | None) -> Any:
        """A sample with the cards of its customer, the prices of its product, the discounts of its subscription:
        those must exist first."""
        if isinstance(value, str) and value.startswith("$"):
            owner = customer if value.endswith(("card", "source")) else state.id if state else None
            if owner is None:
                return ABSENT
            key = f"{value} of {owner}"
            if key not in self._made:
                self._made[key] = self._own(value.removeprefix("$").removeprefix("other_"), owner, key)
            return self._made[key]
        if isinstance(value, Mapping):
            filled = {key: self.with_own(each, state, customer) for key, each in value.items()}
            return {key: each for key, each in filled.items() if each is not ABSENT}
        if isinstance(value, list):
            return [self.with_own(each, state, customer) for each in value]
        return value

    def _own(self, kind: str, owner: str, name: str) -> str:
        match kind:
            case "card":
                return self._card(owner)
            case "source":
                return str(self.world.stripe("post", f"/v1/customers/{owner}/sources", source="tok_visa")["id"])
            case "own_discount":
                return self._discount(owner)
        return self.world.price(owner, name).id

    def _discount(self, subscription: str) -> str:
        there = self.world.stripe("get", f"/v1/subscriptions/{subscription}")
        items = there["items"]["data"]
        return str(next(id for holder in (there, *items) for id in holder["discounts"]))

    def _card(self, customer: str) -> str:
        path = f"/v1/customers/{customer}"
        made = self.world.stripe("post", path, invoice_settings={"default_payment_method": "pm_card_visa"})
        if self.kind is CUSTOMER:
            self.world.stripe("post", path, invoice_settings={"default_payment_method": ""})
        return str(made["invoice_settings"]["default_payment_method"])

    def up(self, arguments: Mapping[str, Any], state: State | None = None) -> State:
        customer = state.id if state and self.kind is CUSTOMER else arguments.get("customer")
        filled = self.with_own(dict(arguments), state, customer)
        return self.world.up(self.provider, "case", filled, state)

    def remote(self, state: State) -> dict[str, Any]:
        """The object as it is in Stripe, less what moves by itself."""
        params = {"expand": list(self.kind.expand)} if self.kind.expand else {}
        found = self.world.stripe("get", f"{self.kind.path}/{state.id}", **params)
        return {name: value for name, value in found.items() if name not in ("created", "updated", "latest_invoice")}

    def assert_as_declared(self, state: State) -> None:
        """A refresh finds nothing."""
        after = self.world.refresh(self.provider, state)
        assert after is not None
        assert after.inputs == state.inputs

    def assert_stored(self, state: State, name: str) -> None:
        """What a refresh cannot tell is in Stripe all the same: the object that came of it."""
        value = state.inputs.get(name)
        match name:
            case "default_price_data":
                price = self.remote(state)["default_price"]
                assert_holds(self.world.stripe("get", f"/v1/prices/{price}", expand=["currency_options"]), value)
            case "product_data":
                assert_holds(self.world.stripe("get", f"/v1/products/{self.remote(state)['product']}"), value)
            case "billing_cycle_anchor_config" | "billing_cycle_anchor":
                assert_holds(self.remote(state)[name], value)
            case "discounts":
                assert_redeemed(self.remote(state)["discounts"], value or [])
            case "add_invoice_items":
                customer = state.inputs["customer"]
                charged = self.world.stripe("get", "/v1/invoiceitems", customer=customer, expand=["data.discounts"])
                # The newest comes first; they were made in the order of the list.
                for item, there in zip(reversed(value or []), charged["data"], strict=False):
                    asked = {field: item[field] for field in ("discountable", "metadata", "quantity") if field in item}
                    assert_holds(there, asked)
                    assert [rate["id"] for rate in there["tax_rates"]] == item.get("tax_rates", [])
                    assert_redeemed(there["discounts"], item.get("discounts", []))
                    for bound, asked in item.get("period", {}).items():
                        if "timestamp" in asked:
                            assert there["period"][bound] == asked["timestamp"]
                    price = self.world.stripe("get", f"/v1/prices/{there['pricing']['price_details']['price']}")
                    assert_holds(price, item.get("price_data") or {"id": item["price"]})
            case "items":
                there = {item["metadata"]["pulumi"]: item for item in self.remote(state)["items"]["data"]}
                for key, item in (value or {}).items():
                    if "current_trial" in item:
                        # Until it is over it hides which price the item has.
                        assert there[key]["current_trial"]["trial_offer"] == item["current_trial"]["trial_offer"]
                    else:
                        assert there[key]["price"]["id"] in (item.get("price"), item.get("plan"), None) or item.get(
                            "price_data"
                        )
                    assert_holds(there[key]["price"], item.get("price_data") or {})
                    assert_redeemed(there[key]["discounts"], item.get("discounts", []))
                    assert [rate["id"] for rate in there[key]["tax_rates"]] == item.get("tax_rates", [])
                    assert_holds(there[key], {field: item[field] for field in IN_AN_ITEM & item.keys()})


#: Fields of a subscription's item that Stripe returns as they are sent.
IN_AN_ITEM = {"billing_thresholds", "quantity", "metadata"}


def assert_holds(remote: Any, declared: Any) -> None:
    """Stripe's value has what was declared, among other things."""
    if isinstance(declared, Mapping):
        assert isinstance(remote, Mapping)
        for name, each in declared.items():
            # The one field that Stripe shows only by the others being there.
            if name != "enabled":
                assert_holds(remote.get(name), each)
    elif isinstance(declared, str) and isinstance(remote, (int, float)):
        assert float(declared) == remote
    else:
        assert remote == declared


def assert_redeemed(remote: Any, declared: Any) -> None:
    """Stripe has the declared discounts and no other."""
    assert len(remote) == len(declared)
    for there, asked in zip(remote, declared, strict=True):
        by_code = there["promotion_code"]
        named = {"promotion_code": by_code} if by_code else {"coupon": there["source"]["coupon"]}
        assert asked in (named, {"discount": there["id"]})


def declared(case: Case, given: Sample, value: Any = ABSENT, name: str = "") -> dict[str, Any]:
    beside = {**(given.beside or {}), **((given.beside_second or {}) if value is given.second else {})}
    arguments = {**case.base(), **case.value(beside)}
    if value is not ABSENT:
        arguments[name] = case.value(value)
    return {key: each for key, each in arguments.items() if each is not ABSENT}


# -- the cases ------------------------------------------------------------------------------------------------------


def cases(updatable: bool) -> Iterator[Any]:
    for kind in KINDS:
        for name in arguments_of(kind):
            in_place = name in kind.updatable or bool(policy(kind, name).in_place)
            if in_place == updatable and not policy(kind, name).request_option:
                for number, given in enumerate(samples(kind, name)):
                    suffix = f"-{number + 1}" if number else ""
                    yield pytest.param(kind, name, given, id=f"{kind.name}.{name}{suffix}")


@pytest.mark.parametrize(("kind", "name", "given"), list(cases(updatable=True)))
def test_an_updatable_field_is_set_changed_and_cleared(world: World, kind: Kind, name: str, given: Sample) -> None:
    case = Case(world, kind)
    required = kind.struct.fields[name].required or name in ("items",) or given.always
    base = declared(case, given)
    before = case.up(base if not required else declared(case, given, given.first, name))
    untouched = case.remote(before)

    first = case.up(declared(case, given, given.first, name), before)
    assert first.id == before.id
    case.assert_as_declared(first)
    case.assert_stored(first, name)

    if given.wait:
        world.control("clock", advance=given.wait)
        case.assert_as_declared(first)
    world.forget_calls()
    second = case.up(declared(case, given, given.second, name), first)
    assert second.id == before.id
    assert sent(world, kind) <= changed(first, second) | {"expand"} | kind.request_options
    case.assert_as_declared(second)
    case.assert_stored(second, name)

    if required:
        return
    cleared = case.up(base, second)
    assert cleared.id == before.id
    case.assert_as_declared(cleared)
    after = case.remote(cleared)
    if policy(kind, name).keep or policy(kind, name).in_place:
        return
    assert comparable(after, name) == comparable(untouched, name)


@pytest.mark.parametrize(("kind", "name", "given"), list(cases(updatable=True)))
def test_an_updatable_field_is_set_at_creation_and_cleared(world: World, kind: Kind, name: str, given: Sample) -> None:
    case = Case(world, kind)
    required = kind.struct.fields[name].required or name in ("items",) or given.always
    made = case.up(declared(case, given, given.first, name))
    case.assert_as_declared(made)
    case.assert_stored(made, name)
    if required or policy(kind, name).keep or policy(kind, name).in_place:
        return
    cleared = case.up(declared(case, given), made)
    assert cleared.id == made.id
    case.assert_as_declared(cleared)


def sent(world: World, kind: Kind) -> set[str]:
    """The parameters of what was changed of a kind's objects since `forget_calls`."""
    updates = [each for each in world.sent if each.method == "POST" and each.path.startswith(f"{kind.path}/")]
    bodies = [parse_qsl(each.body, keep_blank_values=True) for each in updates]
    return {name.partition("[")[0] for body in bodies for name, _ in body}


def changed(before: State, after: State) -> set[str]:
    """The arguments that differ between two states."""
    names = before.inputs.keys() | after.inputs.keys()
    return {name for name in names if before.inputs.get(name) != after.inputs.get(name)}


def comparable(remote: Mapping[str, Any], name: str) -> Any:
    """A field in Stripe, where "nothing" has several forms."""
    value = remote.get(name)
    if name == "cash_balance" and isinstance(value, Mapping) and value["settings"]["using_merchant_default"]:
        return None
    if isinstance(value, Mapping):
        return {key: comparable(value, key) for key in value if comparable(value, key) not in (None, [], {})}
    return value or None


@pytest.mark.parametrize(("kind", "name", "given"), list(cases(updatable=False)))
def test_a_create_only_field_replaces(world: World, kind: Kind, name: str, given: Sample) -> None:
    case = Case(world, kind)
    first = case.up(declared(case, given, given.first, name))
    case.assert_as_declared(first)
    case.assert_stored(first, name)
    arguments = declared(case, given, given.second, name)
    if name == "billing_scheme":
        arguments = {**arguments, "unit_amount_decimal": None, "tiers_mode": "graduated", "tiers": TIERS}
    if given.in_place:
        world.control("clock", advance=DAY)
        there = case.remote(first)
        second = case.up(arguments, first)
        assert second.id == first.id
        case.assert_as_declared(second)
        assert case.remote(second)[name] != there[name]
        return
    second = case.up(arguments, first)
    assert second.id != first.id
    case.assert_as_declared(second)
    case.assert_stored(second, name)
    old = world.refresh(case.provider, first)
    assert old is None or old.inputs.get("active") is False
    if name in kind.once and name not in NEVER_ALONE:
        # What acted once has nothing to undo.
        assert case.up(declared(case, given), second).id == second.id


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_every_field_is_covered(kind: Kind) -> None:
    """Each argument has samples, and the samples together have each field inside."""
    assert not SAMPLES.get(kind, {}).keys() - set(arguments_of(kind)), "a sample of a field that is no more"
    for name in arguments_of(kind):
        given = samples(kind, name)
        assert all(each.first != each.second for each in given)
        seen = {path for each in given for value in (each.first, each.second) for path in paths_in(value)}
        wanted = {path for path in paths_of(kind.struct.fields[name].shape) if path not in ("",)}
        missing = {f"{name}.{path}" for path in wanted - seen}
        missing = {path for path in missing if not any(path.startswith(prefix) for prefix in LEFT_OUT)}
        assert not missing, missing


#: What cannot be taken out by itself, with the reason.
NEVER_ALONE: dict[str, str] = {
    "customer_account": "without it nobody pays; a program that names the customer instead makes another subscription",
    **{
        f"restrictions.{name}": "Stripe cannot change it, so another code is made"
        for name in ("currency_options", *LEAST)
    },
    "invoice_settings.issuer.account": "the type says that there is one",
}


def paths_of(shape: Shape, path: str = "") -> Iterator[str]:
    match shape:
        case Struct(fields=fields):
            for name, field in fields.items():
                yield from paths_of(field.shape, f"{path}.{name}" if path else name)
        case Array(item=item):
            yield from paths_of(item, path)
        case Map(item=item):
            yield from paths_of(item, f"{path}.*" if path else "*")
        case Either(options=options):
            for each in options:
                yield from paths_of(each, path)
        case _:
            yield path


def paths_in(value: Any, path: str = "") -> Iterator[str]:
    if isinstance(value, Mapping):
        for name, each in value.items():
            yield from paths_in(each, f"{path}.{name}" if path else name)
            yield from paths_in(each, f"{path}.*" if path else "*")
    elif isinstance(value, list):
        for each in value:
            yield from paths_in(each, path)
    else:
        yield path


def nested_paths(shape: Shape, value: Any, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """The paths of everything inside a sample that may be left out."""
    if isinstance(shape, Struct) and isinstance(value, Mapping):
        for name, each in value.items():
            if not shape.fields[name].required:
                yield (*path, name)
            yield from nested_paths(shape.fields[name].shape, each, (*path, name))


def taken_out(value: Any, path: tuple[str, ...]) -> Any:
    if len(path) == 1:
        return {name: each for name, each in value.items() if name != path[0]}
    inner = taken_out(value[path[0]], path[1:])
    return {**value, path[0]: inner} if inner else {name: each for name, each in value.items() if name != path[0]}


def nested_cases() -> Iterator[Any]:
    for kind in KINDS:
        for name in arguments_of(kind):
            given = sample(kind, name)
            if name in kind.updatable:
                for path in nested_paths(kind.struct.fields[name].shape, given.first, (name,)):
                    # Where nothing would be left it is the whole field that is cleared, which is tested above.
                    if taken_out(given.first, path[1:]) and ".".join(path) not in NEVER_ALONE:
                        yield pytest.param(kind, path, id=f"{kind.name}.{'.'.join(path)}")


def test_every_field_says_what_clearing_it_sends() -> None:
    """A field that Stripe's types cannot unset has the policy `unset_to` or `keep`, so the page says what happens."""
    undecided = []
    for kind in KINDS:
        for name in kind.updatable:
            given = sample(kind, name)
            if kind.struct.fields[name].required or policy(kind, name).write_only or policy(kind, name).mapping:
                continue
            field = kind.struct.fields[name]
            if clearing(name, field, given.first, kind.clearing) is KEEP and not policy(kind, name).keep:
                undecided.append(f"{kind.name}.{name}")
    assert undecided == []


@pytest.mark.parametrize(("kind", "path"), list(nested_cases()))
def test_a_field_inside_an_object_is_cleared_alone(world: World, kind: Kind, path: tuple[str, ...]) -> None:
    """A field removed inside an object is unset in Stripe, and its neighbours stay."""
    case = Case(world, kind)
    given = sample(kind, path[0])
    made = case.up(declared(case, given, given.first, path[0]))
    if kind is CUSTOMER and "card" in str(given.first):
        made = case.up(declared(case, given, given.first, path[0]), made)
    without = taken_out(given.first, path[1:])
    changed = case.up(declared(case, given, without, path[0]), made)
    assert changed.id == made.id
    if policy(kind, ".".join(path)).keep:
        return
    case.assert_as_declared(changed)
    there = case.remote(changed)
    value: Any = there
    for part in path:
        value = value.get(part) if isinstance(value, Mapping) else None
    assert is_nothing(value) or value == cleared_value(kind, path), value


def is_nothing(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(is_nothing(each) for each in value.values())
    return value in (None, "", [])


def cleared_value(kind: Kind, path: tuple[str, ...]) -> Any:
    return as_pulumi_sends(kind.having("unset_to").get(".".join(path)))
