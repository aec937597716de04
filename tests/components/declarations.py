"""One declaration of each kind, for tests over all kinds; a kind without one fails those tests by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from components.providers.coupon import CouponProvider
from components.providers.kind import Kind
from tests.components.world import World, invoiced, licensed


@dataclass(frozen=True)
class Declaration:
    """What to declare of a kind.

    Attributes:
        arguments: a small whole declaration; what it links to is made beforehand, by resources named `beforehand`.
        change: a change that is made in place.
        left: what is left in Stripe of one that was taken out of the program; None for nothing.
    """

    arguments: Callable[[World], dict[str, Any]]
    change: dict[str, Any]
    left: dict[str, Any] | None


def _price(world: World) -> dict[str, Any]:
    return {**licensed(world.product("beforehand").id), "lookup_key": "p"}


def _default_price(world: World) -> dict[str, Any]:
    product = world.product("beforehand").id
    return {"product": product, "price": world.price(product, "beforehand").id}


def _subscription(world: World) -> dict[str, Any]:
    fee = world.price(world.product("beforehand").id, "beforehand")
    return {**invoiced(world.customer("beforehand").id), "items": {"license": {"price": fee.id}}}


def _promotion_code(world: World) -> dict[str, Any]:
    coupon = world.up(CouponProvider, "beforehand", {"percent_off": 20})
    return {"code": "SUMMER", "promotion": {"type": "coupon", "coupon": coupon.id}}


_BY_NAME = {
    "Meter": Declaration(
        lambda _: {"display_name": "T", "event_name": "t", "default_aggregation": {"formula": "sum"}},
        change={"display_name": "Tokens"},
        left={"status": "inactive"},
    ),
    "Product": Declaration(lambda _: {"name": "P"}, change={"name": "Pro"}, left={"deleted": True}),
    "Price": Declaration(_price, change={"nickname": "Fee"}, left={"active": False, "lookup_key": None}),
    "DefaultPrice": Declaration(_default_price, change={}, left={"default_price": None}),
    "Customer": Declaration(
        lambda _: {"name": "C", "email": "c@example.com"}, change={"name": "Acme"}, left={"deleted": True}
    ),
    "Coupon": Declaration(lambda _: {"id": "c", "percent_off": 20}, change={"name": "Loyalty"}, left=None),
    "PromotionCode": Declaration(_promotion_code, change={"metadata": {"a": "b"}}, left={"active": False}),
    "Subscription": Declaration(_subscription, change={"description": "Acme's"}, left={"status": "canceled"}),
}


def exists(kind: Kind) -> bool:
    """Whether there is one."""
    return kind.name in _BY_NAME


def of(kind: Kind) -> Declaration:
    """The declaration of a kind."""
    assert kind.name in _BY_NAME, f"tests/components/declarations.py has no declaration of {kind.name}"
    return _BY_NAME[kind.name]
