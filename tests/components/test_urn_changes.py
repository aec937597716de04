"""Every pair of a way a run can stop and a way a URN can change: declared objects are never deleted.

The engine's part is played by `Engine`, which keeps a state as Pulumi does, by URN; tests/engine/test_never_deleted.py
takes the real one through some of the pairs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from components.account import AccountError
from components.providers.customer import CustomerProvider
from components.providers.default_price import DefaultPriceProvider
from components.providers.lifecycle import StripeProvider
from components.providers.meter import MeterProvider
from components.providers.price import PriceProvider
from components.providers.product import ProductProvider
from components.providers.run import run_of
from components.providers.state import StackState
from components.providers.subscription import SubscriptionProvider
from tests.components.world import PULUMI, Process, State, World, as_pulumi_sends, invoiced, licensed

Ids = Mapping[str, str]


@dataclass(frozen=True)
class Resource:
    """One resource of a program; its arguments may use the ids of those above it, by what they are."""

    what: str
    provider: type[StripeProvider]
    arguments: Callable[[Ids], dict[str, Any]]
    name: str
    parent: str = ""

    @property
    def urn(self) -> str:
        return f"{self.parent}{self.provider.kind.name}::{self.name}"


def program(prefix: str = "", parent: str = "") -> list[Resource]:
    def resource(what: str, provider: type[StripeProvider], arguments: Callable[[Ids], dict[str, Any]]) -> Resource:
        return Resource(what, provider, arguments, prefix + what, parent)

    meter = {"display_name": "T", "event_name": "tokens", "default_aggregation": {"formula": "sum"}}
    return [
        resource("meter", MeterProvider, lambda _: meter),
        resource("product", ProductProvider, lambda _: {"name": "Pro", "id": "chosen"}),
        resource("fee", PriceProvider, lambda ids: {**licensed(ids["product"]), "lookup_key": "fee"}),
        resource("link", DefaultPriceProvider, lambda ids: {"product": ids["product"], "price": ids["fee"]}),
        resource("customer", CustomerProvider, lambda _: {"name": "Acme"}),
        resource(
            "bill",
            SubscriptionProvider,
            lambda ids: {**invoiced(ids["customer"]), "items": {"seat": {"price": ids["fee"], "quantity": 2}}},
        ),
    ]


class Stopped(Exception):
    """The run has died."""


@dataclass
class Engine:
    """A stack's state by URN, and the runs of the CLI on it."""

    world: World
    state: dict[str, tuple[type[StripeProvider], State]] = field(default_factory=dict)

    def up(
        self,
        declared: list[Resource],
        *,
        stop: str = "",
        target: Callable[[str], bool] = lambda urn: True,
        replaced: Callable[[str], bool] = lambda urn: False,
    ) -> None:
        """One `pulumi up`.

        Args:
            stop: where the run ends: see `STOPS`.
            target: which URNs the run takes (`--target`).
            replaced: which URNs the engine replaces without asking (`--replace`).
        """
        process = self.process()
        ids: dict[str, str] = {}
        condemned: list[tuple[type[StripeProvider], State]] = []
        for resource in declared:
            if not target(resource.urn):
                if resource.urn in self.state:
                    ids[resource.what] = self.state[resource.urn][1].id
                continue
            killed = stop == f"killed at {resource.what}"
            old = self.state.get(resource.urn)
            made, gone = self._one(process, resource, ids, old[1] if old else None, replaced(resource.urn))
            if killed:
                raise Stopped
            self.state[resource.urn] = (resource.provider, made)
            ids[resource.what] = made.id
            condemned += [(resource.provider, gone)] if gone else []
        if stop == "the program or a neighbour fails":
            raise Stopped
        for provider, gone in reversed(condemned):
            self._delete(process, provider, gone)
        names = {resource.urn for resource in declared}
        self.delete([urn for urn in self.state if urn not in names and target(urn)], process, stop=stop)

    def refresh(self) -> None:
        """One `pulumi refresh`."""
        process = self.process()
        for urn, (provider, state) in list(self.state.items()):
            after = self.world.refresh(provider, state, process)
            if after is None:
                del self.state[urn]
            else:
                self.state[urn] = (provider, after)

    def delete(self, urns: list[str], process: Process | None = None, *, stop: str = "") -> None:
        """The deletes of an `up`; or, in their own process, a `destroy`."""
        process = process or self.process()
        for urn in reversed(urns):
            provider, old = self.state[urn]
            if stop == "a delete is refused":
                raise Stopped
            self._delete(process, provider, old)
            if stop == "killed in a delete":
                raise Stopped
            del self.state[urn]

    def process(self) -> Process:
        process = self.world.process(retrySeconds="0.1")
        run_of(process.account).read_state = lambda stack: StackState(
            Counter((provider.kind.name, state.id) for provider, state in self.state.values())
        )
        return process

    def _one(
        self, process: Process, resource: Resource, ids: Ids, old: State | None, replaced: bool
    ) -> tuple[State, State | None]:
        run = process.provider(resource.provider)
        props = as_pulumi_sends({**resource.arguments(ids), "owner": f"project/dev/{resource.name}"})
        checked = run.check({**(old.inputs if old else {}), **PULUMI}, {**props, **PULUMI})
        assert not checked.failures, [failure.reason for failure in checked.failures]
        inputs = as_pulumi_sends(checked.inputs)
        if old is not None and not replaced:
            difference = run.diff(old.id, {**old.outs, **PULUMI}, {**inputs, **PULUMI})
            if not difference.replaces:
                if inputs == old.inputs:
                    return old, None
                updated = run.update(old.id, {**old.outs, **PULUMI}, {**inputs, **PULUMI})
                return State(old.id, inputs, as_pulumi_sends(updated.outs)), None
        if old is not None:
            run.check(PULUMI, {**props, **PULUMI})
        created = run.create({**inputs, **PULUMI})
        return State(created.id, inputs, as_pulumi_sends(created.outs)), old

    def _delete(self, process: Process, provider: type[StripeProvider], old: State) -> None:
        process.provider(provider).delete(old.id, {**old.outs, **PULUMI})

    def assert_all_there(self, declared: list[Resource]) -> None:
        """Every declared object is in the state, and correct in Stripe."""
        ids = {resource.what: self.state[resource.urn][1].id for resource in declared}
        stripe = self.world.stripe
        assert stripe("get", f"/v1/billing/meters/{ids['meter']}")["status"] == "active"
        product = stripe("get", f"/v1/products/{ids['product']}")
        assert (product["active"], product["default_price"]) == (True, ids["fee"])
        fee = stripe("get", f"/v1/prices/{ids['fee']}")
        assert (fee["active"], fee["lookup_key"]) == (True, "fee")
        assert "deleted" not in stripe("get", f"/v1/customers/{ids['customer']}")
        assert stripe("get", f"/v1/subscriptions/{ids['bill']}")["status"] == "active"


#: How the run in which URNs change stops; a targeted run succeeds and keeps the old ones.
STOPS = [
    "the program or a neighbour fails",
    *(f"killed at {resource.what}" for resource in program()),
    "a delete is refused",
    "killed in a delete",
    "only the new ones are targeted",
    "only half of the new ones are targeted",
]


#: How objects change their URNs: the program after it.
CHANGES: dict[str, list[Resource]] = {
    "moved under a parent": program(parent="Shop$"),
    "renamed": program(prefix="new-"),
    "renamed and moved": program(prefix="new-", parent="Shop$"),
    "some moved": [replace(each, parent="Shop$") if n % 2 else each for n, each in enumerate(program())],
    "replaced by name": program(),
    "forgotten": program(),
}

#: What the person does next.
NEXTS = ["up", "up of the program as it was", "up of the old ones alone", "destroy of the old ones", "up twice"]


def pairs() -> Iterator[Any]:
    for stop in STOPS:
        for change in CHANGES:
            for then in NEXTS:
                yield pytest.param(stop, change, then, id=f"{stop}, {change}, {then}")


@pytest.mark.parametrize(("stop", "change", "then"), list(pairs()))
def test_what_the_program_declares_is_never_deleted(world: World, stop: str, change: str, then: str) -> None:
    engine = Engine(world)
    before, after = program(), CHANGES[change]
    engine.up(before)
    engine.assert_all_there(before)
    if change == "forgotten":
        # `pulumi state delete` of some, whichever resources hold them.
        for urn in list(engine.state)[1::2]:
            del engine.state[urn]
    new = {resource.urn for resource in after}
    half = {resource.urn for resource in after[: len(after) // 2]}
    targets = {"only the new ones are targeted": new, "only half of the new ones are targeted": half}
    aim = targets.get(stop)
    # A refusal is another way to stop.
    with suppress(Stopped, AccountError):
        engine.up(
            after,
            stop=stop,
            target=lambda urn: aim is None or urn in aim,
            replaced=lambda urn: change == "replaced by name",
        )
    old = [resource.urn for resource in before if resource.urn not in new and resource.urn in engine.state]
    final = after
    match then:
        case "up" | "up twice":
            engine.up(after)
        case "up of the program as it was":
            final = before
            if stop.startswith("killed"):
                # The state has not heard of what Stripe did last: docs/providers.md says to refresh.
                engine.refresh()
            engine.up(before)
        case "up of the old ones alone":
            engine.up(after, target=lambda urn: urn in old)
            engine.up(after)
        case _:
            engine.delete(old)
            engine.up(after)
    engine.assert_all_there(final)
    if then == "up twice":
        engine.up(after)
        engine.assert_all_there(final)
    # Each is deleted with its last holder. Objects of a killed run under a withdrawn name are in no state.
    orphaned = final is before and stop.startswith("killed") and change.startswith("renamed")
    assert orphaned or len(world.stripe("get", "/v1/subscriptions")["data"]) == 1
    engine.delete(list(engine.state))
    assert orphaned or world.stripe("get", "/v1/subscriptions")["data"] == []
    assert orphaned or world.stripe("get", "/v1/customers")["data"] == []
