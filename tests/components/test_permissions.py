"""The permissions of a restricted key in docs/security.md are the ones that the requests need: no more, no fewer."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import usage
from components.account import StripeRefusal
from components.providers.coupon import CouponProvider
from components.providers.customer import CustomerProvider
from components.providers.default_price import DefaultPriceProvider
from components.providers.meter import MeterProvider
from components.providers.price import PriceProvider
from components.providers.product import ProductProvider
from components.providers.promotion_code import PromotionCodeProvider
from components.providers.subscription import SubscriptionProvider
from sandbox import keys
from sandbox.server import serving
from tests.components.world import PULUMI, Process, State, World, invoiced, licensed, metered

PAGE = Path(__file__).resolve().parents[2] / "docs/security.md"
KEY = "rk_" + "test_documented"
#: What a key is better for, and not refused without.
OPTIONAL = ("rak_accounts_kyc_basic_read", "rak_invoice_read")


def table() -> dict[str, dict[str, str]]:
    """What the page says: by column, the access (`read`, `write`) to each of Stripe's names."""
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in PAGE.read_text().splitlines()
        if re.match(r"\| (in the dashboard|.* \| `rak_)", line)
    ]
    head = rows[0][2:]
    found: dict[str, dict[str, str]] = {column: {} for column in head}
    for row in rows[1:]:
        for column, access in zip(head, row[2:], strict=True):
            if access:
                found[column][row[1].strip("`")] = access
    return found


def names(accesses: dict[str, str]) -> list[str]:
    return [f"{word}_{access}" for word, access in accesses.items()]


def accesses(needed: set[str]) -> dict[str, str]:
    """Writing includes reading."""
    return {word: access for word, _, access in sorted(name.rpartition("_") for name in needed)}


class Stack:
    """A small price list of every kind, and what Pulumi's commands do to it with one key."""

    def __init__(self, world: World, key: str | None) -> None:
        self.world = world
        self.config = {"mode": "test", "apiKey": key} if key else {}
        self.states: dict[type[Any], State] = {}

    @property
    def process(self) -> Process:
        return self.world.process(**self.config)

    def up(self, *, changed: bool = False) -> None:
        process = self.process

        def apply(provider: type[Any], arguments: dict[str, Any]) -> str:
            self.states[provider] = self.world.up(provider, "pro", arguments, self.states.get(provider), process)
            return self.states[provider].id

        name = "New" if changed else "Old"
        meter = apply(
            MeterProvider,
            {"display_name": name, "event_name": "tokens", "default_aggregation": {"formula": "sum"}},
        )
        product = apply(ProductProvider, {"name": name})
        # A fee that changes replaces its price.
        fee = {**licensed(product), "unit_amount_decimal": "20000" if changed else "10000", "lookup_key": "fee"}
        price = apply(PriceProvider, fee)
        usage_price = self.world.up(PriceProvider, "usage", metered(product, meter), self.states.get(World), process)
        self.states[World] = usage_price
        apply(DefaultPriceProvider, {"product": product, "price": price})
        customer = apply(CustomerProvider, {"name": name, "email": "billing@example.com"})
        items = {"license": {"price": price}, "usage": {"price": usage_price.id}}
        apply(SubscriptionProvider, {**invoiced(customer), "items": items})
        coupon = apply(CouponProvider, {"percent_off": 20, "name": name})
        terms = {"code": "SUMMER", "promotion": {"type": "coupon", "coupon": coupon}, "metadata": {"name": name}}
        apply(PromotionCodeProvider, terms)

    def providers(self) -> Iterator[tuple[type[Any], State]]:
        for provider, state in self.states.items():
            yield (PriceProvider if provider is World else provider), state

    def preview(self) -> None:
        process = self.world.process(mode="live")
        for provider, state in self.providers():
            run = process.provider(provider)
            changed = {**state.inputs, "metadata": {"team": "billing"}} if provider is ProductProvider else state.inputs
            inputs = run.check({**state.inputs, **PULUMI}, {**changed, **PULUMI}).inputs
            run.diff(state.id, {**state.outs, **PULUMI}, {**inputs, **PULUMI})

    def refresh(self) -> None:
        process = self.process
        for provider, state in self.providers():
            assert self.world.refresh(provider, state, process) is not None

    def destroy(self) -> None:
        process = self.process
        for provider, state in reversed(list(self.providers())):
            self.world.destroy(provider, state, process)


def needed(world: World, act: Callable[[], None]) -> dict[str, str]:
    """The permissions behind the requests that something sends."""
    world.forget_calls()
    act()
    return accesses({keys.permission(each.method, each.path) for each in world.sent})


def changes(stack: Stack) -> None:
    stack.up()
    stack.up(changed=True)


@pytest.mark.parametrize("command", ["preview", "refresh", "up", "destroy"])
def test_the_page_has_what_a_command_s_requests_need(world: World, command: str) -> None:
    stack = Stack(world, None)
    if command == "up":
        assert needed(world, lambda: changes(stack)) == table()[command]
    else:
        changes(stack)
        assert needed(world, getattr(stack, command)) == table()[command]


def test_a_key_with_what_the_page_says_for_up_does_everything(world: World) -> None:
    world.control("keys", key=KEY, permissions=names(table()["up"]))
    stack = Stack(world, KEY)
    changes(stack)
    stack.refresh()
    stack.destroy()


@pytest.mark.parametrize("lacking", [name for name in names(table()["up"]) if name not in OPTIONAL])
def test_a_key_that_may_only_read_one_of_them_is_refused_by_name(world: World, lacking: str) -> None:
    reading = lacking.replace("_write", "_read")
    permitted = [reading if name == lacking else name for name in names(table()["up"])]
    world.control("keys", key=KEY, permissions=permitted)
    with pytest.raises(StripeRefusal, match=lacking):
        changes(Stack(world, KEY))


@pytest.mark.parametrize("command", ["usage send", "usage summary", "usage preview-invoice"])
def test_a_key_with_what_the_page_says_for_usage_does_it(world: World, tmp_path: Path, command: str) -> None:
    stack = Stack(world, None)
    stack.up()
    customer, subscription = stack.states[CustomerProvider].id, stack.states[SubscriptionProvider].id
    documented = names(table()[command])

    def act(permissions: list[str]) -> None:
        world.control("keys", key=KEY, permissions=permissions)
        with (
            serving(world.sandbox) as server,
            usage.Client(api_key=KEY, api_base=server.url, spool=tmp_path / f"{len(permissions)}.db") as client,
        ):
            if command == "usage send":
                client.send("tokens", customer, 1)
                client.record("tokens", customer, 1)
                assert client.flush().complete
            elif command == "usage summary":
                client.summaries("tokens", customer, 0)
            else:
                client.preview_invoice(subscription=subscription)

    act(documented)
    for lacking in documented:
        with pytest.raises(usage.UsageError, match=lacking):
            act([name for name in documented if name != lacking])
