"""What `pricing adopt` decides about objects that no current API can make, and about very many of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pricing.adopt.adoption import Account, Adoption, Stack, adopt
from pricing.adopt.command import reconcilers
from tests.components.world import World

NAME = "shop/prod"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path / "stripe.db")
    yield made
    assert not made.calls()
    made.sandbox.close()


def decided(world: World, products: list[dict[str, Any]], prices: list[dict[str, Any]], **more: Any) -> Adoption:
    account = Account(products, prices, **more)
    return adopt(account, Stack(NAME), reconcilers(world.process().account))


def product(number: int = 1, **more: Any) -> dict[str, Any]:
    there = {"id": f"prod_{number}", "object": "product", "active": True, "name": f"Product {number}", "created": 1_000}
    return {**there, "default_price": None, "metadata": {}, "type": "service", "images": [], **more}


def price(id_: str = "price_1", of: int = 1, **more: Any) -> dict[str, Any]:
    recurring = {"interval": "month", "interval_count": 1, "usage_type": "licensed", "meter": None}
    return {
        "id": id_,
        "object": "price",
        "active": True,
        "billing_scheme": "per_unit",
        "created": 1_000,
        "currency": "usd",
        "currency_options": {},
        "lookup_key": None,
        "metadata": {},
        "nickname": None,
        "product": f"prod_{of}",
        "recurring": {**recurring, "trial_period_days": None, **more.pop("recurring", {})},
        "tax_behavior": "unspecified",
        "tiers_mode": None,
        "transform_quantity": None,
        "unit_amount": 1_000,
        "unit_amount_decimal": "1000",
        **more,
    }


def paid(*prices: str) -> list[dict[str, Any]]:
    return [
        {"id": f"sub_{number}", "status": "active", "items": {"data": [{"price": {"id": each}}]}}
        for number, each in enumerate(prices)
    ]


METER = {
    "id": "mtr_1",
    "created": 1_000,
    "customer_mapping": {"event_payload_key": "stripe_customer_id", "type": "by_id"},
    "default_aggregation": {"formula": "sum"},
    "display_name": "Product 1 tokens",
    "event_name": "tokens",
    "event_time_window": None,
    "status": "active",
    "value_settings": {"event_payload_key": "value"},
}
METERED = {"usage_type": "metered", "meter": "mtr_1"}


def test_a_legacy_plan_is_left_alone(world: World) -> None:
    done = decided(world, [product()], [price("gold")])
    assert done.left == {"legacy plans, which Stripe's price API cannot declare": ["gold"]}
    assert done.ids == {"Product": {"product-1": "prod_1"}}


def test_a_metered_price_without_a_meter_is_left_alone(world: World) -> None:
    done = decided(world, [product()], [price(recurring={"usage_type": "metered"})])
    assert done.left == {"metered prices without a meter, which Stripe no longer creates": ["price_1"]}


def test_a_price_names_a_meter_that_the_key_may_not_read(world: World) -> None:
    done = decided(world, [product()], [price(recurring=METERED), price("price_2")])
    assert done.plans == 0
    assert '"meter": "mtr_1"' in done.text("")


def test_only_the_active_price_of_a_lookup_key_declares_it(world: World) -> None:
    """Two prices with one key, one of them archived and still paid, in different products."""
    before = price("price_1", lookup_key="gold", active=False, currency="eur")
    now = price("price_2", of=2, lookup_key="gold")
    for order in ([before, now], [now, before]):
        done = decided(world, [product(), product(2)], order, subscriptions=paid("price_1"))
        assert "gold is the lookup key of several prices; only one of them declares it" in done.notes
        assert 'lookup_keys={"license": "gold"}' in done.text("")
        assert 'lookup_key="gold"' not in done.text("")
        assert set(done.ids["Price"].values()) == {"price_1", "price_2"}


def test_amounts_keep_every_digit(world: World) -> None:
    """JSON's floats never take part: Stripe sends amounts with decimals as text."""
    tiers = [
        {"up_to": 1_000, "unit_amount": None, "unit_amount_decimal": "0.100000000001", "flat_amount": None},
        {"up_to": None, "unit_amount": None, "unit_amount_decimal": "12345678.5", "flat_amount": 0},
    ]
    how: dict[str, Any] = {"billing_scheme": "tiered", "tiers_mode": "volume", "tiers": tiers, "unit_amount": None}
    metered = price(recurring=METERED, unit_amount_decimal=None, **how)
    text = decided(world, [product()], [metered], meters=[METER]).text("")
    assert 'Tier("0.00100000000001", up_to=1_000)' in text
    assert 'Tier("1234567.85", per=10)' in text


@pytest.mark.parametrize(
    ("of", "why"),
    [
        ({"tax_behavior": "exclusive"}, "tax behavior"),
        ({"recurring": {"trial_period_days": 7}}, "trial"),
        ({"transform_quantity": {"divide_by": 10, "round": "up"}}, "packages"),
    ],
)
def test_what_a_plan_cannot_say_is_a_price(world: World, of: dict[str, Any], why: str) -> None:
    done = decided(world, [product()], [price(**of)])
    assert (done.plans, done.size) == (0, 2), why
    assert 'Price("product-1-month"' in done.text("").replace("\n        ", "")


def test_older_prices_become_versions_with_the_usage_that_is_paid_beside_them(world: World) -> None:
    """Version 1 has a fee and usage of its own, which one subscription pays; both are archived."""
    usage: dict[str, Any] = {"recurring": METERED, "unit_amount": 5, "unit_amount_decimal": "5"}
    old = [price("price_1", active=False), price("price_2", active=False, created=9_000, **usage)]
    new = [price("price_3", created=10_000, unit_amount=2_000, unit_amount_decimal="2000")]
    both = [{"id": "sub_1", "status": "active", "items": {"data": [{"price": {"id": each["id"]}} for each in old]}}]
    done = decided(world, [product(default_price="price_3")], [*old, *new], meters=[METER], subscriptions=both)
    assert done.ids["Price"] == {
        "product-1-license": "price_1",
        "product-1-usage": "price_2",
        "product-1-v2-license": "price_3",
    }
    assert "archived=True" in done.text("")
    assert 'rollout="keep"' in done.text("")


def test_an_older_price_in_another_currency_is_beside_the_plan(world: World) -> None:
    """Who pays it could not move to a version without that currency."""
    old = price("price_1", active=False, currency="eur")
    done = decided(world, [product()], [old, price("price_2")], subscriptions=paid("price_1"))
    assert done.ids["Price"] == {"product-1-license": "price_2", "product-1-month-eur": "price_1"}
    assert "product=product_1.product.id" in done.text("")


def test_of_5_000_products_half_of_them_archived_only_what_is_sold_is_adopted(world: World) -> None:
    products = [product(number, active=number % 2 == 0, created=number) for number in range(5_000)]
    prices = [
        price(f"price_{number}{each}", number, active=number % 2 == 0 and each == "a", created=number)
        for number in range(5_000)
        for each in "ab"
    ]
    done = decided(world, products, prices)
    assert {why: len(ids) for why, ids in done.left.items()} == {
        "archived prices that nobody pays": 7_500,
        "archived products with nothing that anyone pays": 2_500,
    }
    assert (done.plans, done.size) == (2_500, 5_000)
    assert len(done.text("").splitlines()) == 2_507


@pytest.mark.parametrize(
    ("owner", "said"),
    [
        ("other/prod/pro-usage", "another program has them (other/prod)"),
        (f"{NAME}/pro-usage", "this stack has them already"),
    ],
)
def test_a_meter_by_which_somebody_bills_already_is_theirs(world: World, owner: str, said: str) -> None:
    """Meters have no owner. A price on it of nobody's is adopted, with the id of the meter."""
    theirs = price("price_1", of=1, recurring=METERED, metadata={"pulumi": owner})
    nobodys = price("price_2", of=2, recurring=METERED)
    done = decided(world, [product(1), product(2)], [theirs, nobodys], meters=[METER])
    assert "mtr_1" in done.left[said]
    assert "Meter" not in done.ids
    assert done.ids["Price"] == {"product-2-month": "price_2"}
    assert '"meter": "mtr_1"' in done.text("")


def test_what_the_provider_would_refuse_is_left_alone(world: World) -> None:
    """A label of a time when Stripe took longer ones."""
    done = decided(
        world, [product(unit_label="a label of 23 letters!!")], [price(custom_unit_amount={"enabled": True})]
    )
    assert done.left["products whose unit_label is 23 characters long; Stripe takes at most 12"] == ["prod_1"]
    assert done.left["their product is left alone"] == ["price_1"]
    assert not done.size


def test_what_an_up_would_change_is_left_alone(world: World) -> None:
    """As the provider's own comparison says; here, that of prices finds something in the lookup key."""
    real = reconcilers(world.process().account)

    class Different:
        def __getattr__(self, name: str) -> Any:
            return getattr(real("Price"), name)

        def different(self, remote: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
            return {"lookup_key": (None, "gold")} if remote["id"] == "price_1" else {}

    account = Account([product(1), product(2)], [price("price_1"), price("price_2", of=2)])
    done = adopt(account, Stack(NAME), lambda kind: Different() if kind == "Price" else real(kind))
    assert done.left == {"prices that cannot be declared as they are (lookup_key)": ["price_1"]}
    assert done.ids["Price"] == {"product-2-license": "price_2"}
