"""The typed resources: Stripe's own types, light to import, and pickled under names that never change."""

from __future__ import annotations

import gc
import subprocess
import sys
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pulumi
import pytest
from pulumi.dynamic.dynamic import serialize_provider

from components import resources
from components.plan import PublishedPlan
from components.pricing import Fee, Plan, Usage
from components.providers.lifecycle import StripeProvider
from components.providers.shapes import Array, Map, Struct
from components.subscriber import Subscriber
from tests.components.world import PROVIDERS, of_the_locked_sdk
from tests.mocked import event_loop

#: Every stack's state holds these: the import path of each class. To change one is to strand every stack.
PICKLES = {
    "MeterProvider": "gASVMwAAAAAAAACMGmNvbXBvbmVudHMucHJvdmlkZXJzLm1ldGVylIwNTWV0ZXJQcm92aWRlcpSTlCmBlC4=",
    "ProductProvider": "gASVNwAAAAAAAACMHGNvbXBvbmVudHMucHJvdmlkZXJzLnByb2R1Y3SUjA9Qcm9kdWN0UHJvdmlkZXKUk5QpgZQu",
    "PriceProvider": "gASVMwAAAAAAAACMGmNvbXBvbmVudHMucHJvdmlkZXJzLnByaWNllIwNUHJpY2VQcm92aWRlcpSTlCmBlC4=",
    "DefaultPriceProvider": "gASVQgAAAAAAAACMImNvbXBvbmVudHMucHJvdmlkZXJzLmRlZmF1bHRfcHJpY2WUjBREZWZhdWx0UHJpY2VQcm92"
    "aWRlcpSTlCmBlC4=",
    "CouponProvider": "gASVNQAAAAAAAACMG2NvbXBvbmVudHMucHJvdmlkZXJzLmNvdXBvbpSMDkNvdXBvblByb3ZpZGVylJOUKYGULg==",
    "PromotionCodeProvider": "gASVRAAAAAAAAACMI2NvbXBvbmVudHMucHJvdmlkZXJzLnByb21vdGlvbl9jb2RllIwVUHJvbW90aW9uQ29kZVBy"
    "b3ZpZGVylJOUKYGULg==",
    "CustomerProvider": "gASVOQAAAAAAAACMHWNvbXBvbmVudHMucHJvdmlkZXJzLmN1c3RvbWVylIwQQ3VzdG9tZXJQcm92aWRlcpSTlCmBlC4=",
    "SubscriptionProvider": "gASVQQAAAAAAAACMIWNvbXBvbmVudHMucHJvdmlkZXJzLnN1YnNjcmlwdGlvbpSMFFN1YnNjcmlwdGlvblByb3Zp"
    "ZGVylJOUKYGULg==",
}


@of_the_locked_sdk
@pytest.mark.parametrize("provider", PROVIDERS)
def test_the_arguments_are_all_that_the_pinned_sdk_has(provider: type[StripeProvider]) -> None:
    """A parameter that a new stripe-python adds or removes fails here."""
    kind = provider.kind
    resource = getattr(resources, kind.name)
    assert resource.provider_class is provider
    typed = getattr(resources, f"{kind.name}Arguments")
    assert set(typed.__annotations__) == set(kind.struct.fields) - {"owner"}
    for name, annotation in typed.__annotations__.items():
        text = getattr(annotation, "__forward_arg__", str(annotation))
        wanted = kind.struct.fields[name].required or (kind.name == "Subscription" and name == "items")
        if resource is not resources.DefaultPrice:
            assert text.startswith("Required[") == wanted, name


@of_the_locked_sdk
@pytest.mark.parametrize(
    ("typed", "path"),
    [
        (resources.Aggregation, "Meter.default_aggregation"),
        (resources.DefaultPriceData, "Product.default_price_data"),
        (resources.Interval, "Product.default_price_data.recurring"),
        (resources.Recurring, "Price.recurring"),
        (resources.Tier, "Price.tiers"),
        (resources.CurrencyOption, "Price.currency_options"),
        (resources.AmountOff, "Coupon.currency_options"),
        (resources.Promotion, "PromotionCode.promotion"),
        (resources.Item, "Subscription.items"),
        (resources.PriceData, "Subscription.items.price_data"),
        (resources.Discount, "Subscription.items.discounts"),
        (resources.AddInvoiceItem, "Subscription.add_invoice_items"),
        (resources.OneTimePriceData, "Subscription.add_invoice_items.price_data"),
        (resources.Discount, "Subscription.add_invoice_items.discounts"),
        (resources.Discount, "Subscription.discounts"),
        (resources.TransferData, "Subscription.transfer_data"),
        (resources.Cancel, "Subscription.cancel"),
    ],
)
def test_the_nested_arguments_are_all_there(typed: Any, path: str) -> None:
    name, *fields = path.split(".")
    shape: Any = next(each.kind.struct for each in PROVIDERS if each.kind.name == name)
    for field in fields:
        shape = shape.fields[field].shape
        if isinstance(shape, Array | Map):
            shape = shape.item
    assert isinstance(shape, Struct)
    assert set(typed.__annotations__) == set(shape.fields)


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_provider_is_pickled_as_every_state_remembers_it(provider: type[StripeProvider]) -> None:
    """https://www.pulumi.com/docs/iac/concepts/resources/dynamic-providers/#how-dynamic-providers-work"""
    assert serialize_provider(provider()) == PICKLES[provider.__name__]
    assert provider.serialize_as_secret_always is False


def test_the_program_process_does_not_import_stripe() -> None:
    """The import would slow down every preview, and only the provider process calls Stripe."""
    code = "import sys, components.resources; print(sorted({'stripe', 'requests', 'sandbox'} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_no_output_has_the_name_of_an_argument_of_another_meaning() -> None:
    for provider in PROVIDERS:
        kind = provider.kind
        assert not set(kind.outputs) & set(kind.struct.fields), kind.name


# -- in a program ---------------------------------------------------------------------------------------------------


class Recorder(pulumi.runtime.Mocks):
    """Takes every resource, and records its arguments."""

    def __init__(self) -> None:
        self.declared: dict[str, dict[str, Any]] = {}
        self.types: dict[str, str] = {}

    def new_resource(self, args: pulumi.runtime.MockResourceArgs) -> tuple[str | None, dict[Any, Any]]:
        self.declared[args.name], self.types[args.name] = args.inputs, args.typ
        return f"{args.name}-id", {**args.inputs, "livemode": False}

    def call(self, args: pulumi.runtime.MockCallArgs) -> tuple[dict[Any, Any], list[tuple[str, str]] | None]:
        return {}, []


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    made = Recorder()
    # Pulumi takes the thread's event loop, and after an `asyncio.run` in another test there is none.
    with event_loop():
        pulumi.runtime.set_mocks(made, project="shop", stack="dev", preview=False)
        yield made
    gc.collect()


def test_a_program_declares_with_decimals_and_links(recorder: Recorder) -> None:
    @pulumi.runtime.test  # type: ignore[untyped-decorator]
    def program() -> pulumi.Output[Any]:
        product = resources.Product("pro", name="Pro", id="chosen")
        price = resources.Price(
            "usage",
            product=product.id,
            currency="usd",
            billing_scheme="tiered",
            tiers_mode="graduated",
            tiers=[
                {"up_to": 1000, "unit_amount_decimal": Decimal("0")},
                {"up_to": "inf", "unit_amount_decimal": pulumi.Output.from_input(Decimal("0.04"))},
            ],
            recurring={"interval": "month"},
        )
        return pulumi.Output.all(price.id, price.lookup_key, product.id, price.livemode)

    program()
    declared = recorder.declared["usage"]
    assert recorder.types["usage"] == "pulumi-python:dynamic/stripe:Price"
    assert declared["owner"] == "shop/dev/usage"
    assert declared["product"] == "pro-id"
    assert [tier["unit_amount_decimal"] for tier in declared["tiers"]] == ["0", "0.04"]
    assert recorder.declared["pro"]["id"] == "chosen"


def test_a_plan_in_another_currency_makes_other_subscriptions(recorder: Recorder) -> None:
    """Undeclared, Stripe would refuse the new prices in the middle of the run."""

    @pulumi.runtime.test  # type: ignore[untyped-decorator]
    def program() -> pulumi.Output[Any]:
        plan = Plan("Pro", currency="eur", fees=100, usage=Usage("call", overage=1))
        pro = PublishedPlan("pro", plan, event_name="calls")
        return Subscriber("one", pro, customer_name="One", email="one@example.com").subscription.id

    program()
    assert recorder.types["one"] == "pulumi-python:dynamic/stripe:Subscription"
    assert recorder.declared["one"]["currency"] == "eur"


@pytest.mark.parametrize("seats", ["3", " 3 ", 3, {"license": "3"}])
def test_seats_may_be_read_from_a_csv(recorder: Recorder, seats: Any) -> None:
    @pulumi.runtime.test  # type: ignore[untyped-decorator]
    def program() -> pulumi.Output[Any]:
        pro = PublishedPlan("pro", Plan("Pro", fees=100, usage=Usage("call", overage=1)), event_name="calls")
        return Subscriber("one", pro, customer_name="One", email="one@example.com", seats=seats).subscription.id

    program()
    assert recorder.declared["one"]["items"]["license"]["quantity"] == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seats": "three"}, "subscriber one: seats is 'three'; must be a whole number of at least 1"),
        ({"seats": 0}, "subscriber one: seats is 0; must be a whole number"),
        ({"seat": 3}, "subscriber one: there is no argument seat; did you mean seats?"),
        ({"customer": "cus_1", "email": "a@example.com"}, "subscriber one: customer is an existing one"),
        (
            {"own": [Fee("1", key="support")]},
            "subscriber one: no plan has a charge 'support'; they have license, usage",
        ),
        ({"own": [Fee("1", key="usage")]}, "subscriber one: 'usage' is a fee in one place and usage in the other"),
    ],
)
def test_what_a_subscriber_cannot_mean_is_refused(recorder: Recorder, arguments: Any, message: str) -> None:
    @pulumi.runtime.test  # type: ignore[untyped-decorator]
    def program() -> None:
        pro = PublishedPlan("pro", Plan("Pro", fees=100, usage=Usage("call", overage=1)), event_name="calls")
        Subscriber("one", pro, **arguments)

    with pytest.raises(ValueError, match=message):
        program()


def test_plans_of_one_subscriber_have_charges_of_different_keys(recorder: Recorder) -> None:
    @pulumi.runtime.test  # type: ignore[untyped-decorator]
    def program() -> None:
        pro = PublishedPlan("pro", Plan("Pro", fees=100))
        Subscriber("one", [pro, PublishedPlan("basic", Plan("Basic", fees=10))])

    with pytest.raises(ValueError, match="subscriber one: pro and basic both have a charge 'license'"):
        program()


def test_a_wrong_argument_is_a_type_error_before_it_is_anything_else() -> None:
    """Editors and mypy know every field: this file is checked with --strict, and these lines must not pass it."""
    wrong: list[Any] = []

    def program() -> None:
        wrong.append(resources.Price("p", product="prod_1", currency="usd", nickame="x"))  # type: ignore[call-arg]
        wrong.append(resources.Price("p", product="prod_1", currency="usd", unit_amount_decimal=0.04))  # type: ignore[arg-type]
        wrong.append(
            resources.Price(
                "p",
                product="prod_1",
                currency="usd",
                recurring={"interval": "monthly"},  # type: ignore[arg-type]
            )
        )
        wrong.append(resources.Meter("m", display_name="M"))  # type: ignore[call-arg]

    # Warnings about unused ignores make this a test; running it is left to Pulumi.
    assert callable(program)
