"""A stack as Pulumi's engine keeps one, without the engine: what a provider method returned is in its state."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pulumi.dynamic import DiffResult
from pulumi.output import UNKNOWN

from components.providers.customer import CustomerProvider
from components.providers.default_price import DefaultPriceProvider
from components.providers.lifecycle import StripeProvider
from components.providers.meter import MeterProvider
from components.providers.price import PriceProvider
from components.providers.product import ProductProvider
from components.providers.run import run_of
from components.providers.state import StackState
from components.providers.subscription import SubscriptionProvider
from tests.components.world import PULUMI, Process, State, World, as_pulumi_sends, invoiced, licensed, metered

Ids = Mapping[str, Any]
"""Of the resources above, by name; in a preview, unknown where the resource is to be made."""


class Failed(Exception):
    """A check has failed: what it said."""


@dataclass(frozen=True)
class Resource:
    """One resource of a program: its arguments may use the ids of those above it."""

    provider: type[StripeProvider]
    name: str
    arguments: Callable[[Ids], dict[str, Any]]


def program(**different: Mapping[str, Any]) -> list[Resource]:
    """What the project's own program declares; with other arguments for some of the resources, by name."""

    def resource(provider: type[StripeProvider], name: str, arguments: Callable[[Ids], dict[str, Any]]) -> Resource:
        return Resource(provider, name, lambda ids: {**arguments(ids), **different.get(name, {})})

    return [
        resource(
            MeterProvider,
            "meter",
            lambda _: {
                "display_name": "Tokens",
                "event_name": "tokens",
                "default_aggregation": {"formula": "sum"},
            },
        ),
        resource(ProductProvider, "product", lambda _: {"name": "Alpaca.ai", "unit_label": "token"}),
        resource(PriceProvider, "license", lambda ids: {**licensed(ids["product"]), "lookup_key": "alpaca-ai:license"}),
        resource(
            PriceProvider,
            "usage",
            lambda ids: {**metered(ids["product"], ids["meter"]), "lookup_key": "alpaca-ai:usage"},
        ),
        resource(
            DefaultPriceProvider, "default-price", lambda ids: {"product": ids["product"], "price": ids["license"]}
        ),
        resource(CustomerProvider, "customer", lambda _: {"name": "Acme", "email": "billing@example.com"}),
        resource(
            SubscriptionProvider,
            "subscription",
            lambda ids: {
                **invoiced(ids["customer"]),
                "billing_mode": {"type": "flexible"},
                "items": {
                    "license": {"price": ids["license"], "quantity": 3},
                    "usage": {"price": ids["usage"]},
                },
            },
        ),
    ]


@dataclass
class Stack:
    """The engine's part: a state that outlives the processes, and the order in which things are done.

    Attributes:
        state: the resources, by name.
        condemned: what replacements have yet to delete.
    """

    world: World
    state: dict[str, tuple[type[StripeProvider], State]] = field(default_factory=dict)
    condemned: list[tuple[type[StripeProvider], State]] = field(default_factory=list)

    def preview(self, declared: list[Resource]) -> dict[str, str]:
        """One `pulumi preview` in a process of its own: what would be done, by name; what stays is left out."""
        process = self._process()
        ids: dict[str, Any] = {}
        found = {}
        for resource in declared:
            _, old = self.state.get(resource.name, (None, None))
            inputs = self._checked(process, resource, ids, old)
            ids[resource.name] = UNKNOWN if old is None else old.id
            if old is None:
                found[resource.name] = "create"
            elif self._diff(process, resource, old, inputs).replaces:
                self._checked(process, resource, ids, None)
                ids[resource.name], found[resource.name] = UNKNOWN, "replace"
            elif inputs != old.inputs:
                found[resource.name] = "update"
        return found | dict.fromkeys(self.state.keys() - {each.name for each in declared}, "delete")

    def up(self, declared: list[Resource]) -> None:
        """One `pulumi up --skip-preview` in a process of its own; an exception of a provider ends it."""
        process = self._process()
        for resource in declared:
            self._one(process, resource)
        self._remove(process, [name for name in self.state if name not in {each.name for each in declared}])

    def destroy(self) -> None:
        """One `pulumi destroy`."""
        self._remove(self._process(), list(self.state))

    def _process(self) -> Process:
        process = self.world.process(retrySeconds="0.1")
        run_of(process.account).read_state = lambda _: StackState(
            Counter((each.kind.name, state.id) for each, state in (*self.state.values(), *self.condemned)),
            {(each.kind.name, state.id): state.outs for each, state in self.condemned},
        )
        return process

    def _checked(self, process: Process, resource: Resource, ids: Ids, old: State | None) -> dict[str, Any]:
        props = as_pulumi_sends({**resource.arguments(ids), "owner": f"project/dev/{resource.name}"})
        run = process.provider(resource.provider)
        checked = run.check({**(old.inputs if old else {}), **PULUMI}, {**props, **PULUMI})
        if checked.failures:
            raise Failed([failure.reason for failure in checked.failures])
        inputs: dict[str, Any] = as_pulumi_sends(checked.inputs)
        return inputs

    def _diff(self, process: Process, resource: Resource, old: State, inputs: dict[str, Any]) -> DiffResult:
        return process.provider(resource.provider).diff(old.id, {**old.outs, **PULUMI}, {**inputs, **PULUMI})

    def _one(self, process: Process, resource: Resource) -> None:
        run = process.provider(resource.provider)
        ids = {name: state.id for name, (_, state) in self.state.items()}
        _, old = self.state.get(resource.name, (None, None))
        inputs = self._checked(process, resource, ids, old)
        if old is not None:
            difference = self._diff(process, resource, old, inputs)
            if not difference.replaces:
                if inputs != old.inputs:
                    updated = run.update(old.id, {**old.outs, **PULUMI}, {**inputs, **PULUMI})
                    self._keep(resource, State(old.id, inputs, as_pulumi_sends(updated.outs)))
                return
            if difference.delete_before_replace:
                run.delete(old.id, {**old.outs, **PULUMI})
                del self.state[resource.name]
            self._checked(process, resource, ids, None)
        created = run.create({**inputs, **PULUMI})
        if old is not None and resource.name in self.state:
            self.condemned.append((resource.provider, old))
        self._keep(resource, State(created.id, inputs, as_pulumi_sends(created.outs)))

    def _keep(self, resource: Resource, state: State) -> None:
        self.state[resource.name] = (resource.provider, state)

    def _remove(self, process: Process, names: list[str]) -> None:
        while self.condemned:
            provider, old = self.condemned[-1]
            process.provider(provider).delete(old.id, {**old.outs, **PULUMI})
            self.condemned.pop()
        for name in reversed(names):
            provider, old = self.state[name]
            process.provider(provider).delete(old.id, {**old.outs, **PULUMI})
            del self.state[name]
