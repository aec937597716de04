"""A Stripe account and the processes that work on it: the sandbox, the real stripe-python, our providers."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import pytest
import stripe

from components.account import Account
from components.providers.customer import CustomerProvider
from components.providers.kinds import PROVIDERS as PROVIDERS
from components.providers.lifecycle import StripeProvider
from components.providers.meter import MeterProvider
from components.providers.price import PriceProvider
from components.providers.product import ProductProvider
from components.providers.shapes import at
from components.providers.subscription import SUBSCRIPTION, SubscriptionProvider
from components.settings import Settings
from sandbox.client import SandboxHTTPClient
from sandbox.gateway import Sandbox
from sandbox.wire import Request

#: What Pulumi adds to every resource's properties.
PULUMI = {"__provider": "gASV"}
#: Not a key of anybody's; it is built here so that no scanner takes this file for a leak.
LIVE_KEY = "sk_" + "live_" + "0123456789abcdefghijABCD"

LOCK = Path(__file__).parents[2] / "requirements.lock"
#: What is written down for the locked stripe-python: `script/try-stripe` runs the rest with others.
of_the_locked_sdk = pytest.mark.skipif(
    f"stripe=={stripe.VERSION} " not in LOCK.read_text(), reason="stripe-python is not the locked one"
)

AnyProvider = TypeVar("AnyProvider", bound=StripeProvider)


@dataclass
class Clock:
    """Time that passes only when somebody sleeps."""

    now: float = 1_000_000.0
    slept: list[float] = field(default_factory=list)

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@dataclass(frozen=True)
class Sent:
    """A request as it left stripe-python."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: str

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


class Recording(SandboxHTTPClient):
    """The sandbox's transport, and a list of what went through it."""

    def __init__(self, sandbox: Sandbox, sent: list[Sent]) -> None:
        super().__init__(sandbox)
        self._sent = sent

    def request(
        self, method: str, url: str, headers: Mapping[str, str] | None, post_data: Any = None, **more: Any
    ) -> tuple[str, int, Mapping[str, str]]:
        parts = urlsplit(url)
        lowered = {name.lower(): str(value) for name, value in (headers or {}).items()}
        self._sent.append(Sent(method.upper(), parts.path, parts.query, lowered, str(post_data or "")))
        return super().request(method, url, headers, post_data, **more)


class Process:
    """One provider process: its memory ends with it, and Stripe's stays."""

    def __init__(self, world: World, **config: str) -> None:
        config = {"mode": "sandbox", **config}
        self.clock = Clock()
        self.account = Account(
            Settings.read(config.get, {}),
            clock=self.clock,
            sleep=self.clock.sleep,
            http_client=Recording(world.sandbox, world.sent),
        )
        self._providers: dict[type[StripeProvider], StripeProvider] = {}
        self._lock = threading.Lock()

    def provider(self, provider: type[AnyProvider]) -> AnyProvider:
        """The process's one instance of a provider; several threads may ask at once."""
        with self._lock:
            if provider not in self._providers:
                self._providers[provider] = provider()
                self._providers[provider].use(self.account)
            found = self._providers[provider]
        assert isinstance(found, provider)
        return found


@dataclass
class State:
    """A resource as Pulumi's state file has it."""

    id: str
    inputs: dict[str, Any]
    outs: dict[str, Any]


class World:
    """A Stripe account of its own."""

    def __init__(self, sandbox: Path | Sandbox) -> None:
        self.sandbox = sandbox if isinstance(sandbox, Sandbox) else Sandbox(sandbox)
        self.sent: list[Sent] = []
        self.mode = "sandbox"

    # -- Stripe -------------------------------------------------------------------------------------------------

    def control(self, name: str, **body: Any) -> Any:
        """Tell the sandbox something about itself: a fault, its clock, a key."""
        headers = {"content-type": "application/json"}
        response = self.sandbox.handle(Request("POST", f"/_sandbox/{name}", headers, json.dumps(body).encode()))
        assert response.status == 200, response.body
        return json.loads(response.body)

    def heal(self) -> None:
        """Forget all faults."""
        assert self.sandbox.handle(Request("DELETE", "/_sandbox/faults")).status == 200

    def stripe(self, method: str, path: str, **params: Any) -> dict[str, Any]:
        """A call by somebody else, in the dashboard say."""
        client = Process(self, mode=self.mode, **({"apiKey": LIVE_KEY} if self.mode == "live" else {})).account
        before = list(self.sent)
        found = client.request(method, path, params, subject="somebody else").data  # type: ignore[arg-type]
        self.sent[:] = before
        return found

    def calls(self) -> list[str]:
        """What the providers have asked of Stripe since `forget_calls`: `POST /v1/prices`."""
        return [str(each) for each in self.sent]

    def forget_calls(self) -> None:
        self.sent.clear()

    # -- Pulumi -------------------------------------------------------------------------------------------------

    def process(self, **config: str) -> Process:
        """A new run of the CLI."""
        return Process(self, **config)

    def up(
        self,
        provider: type[StripeProvider],
        name: str,
        arguments: Mapping[str, Any],
        state: State | None = None,
        process: Process | None = None,
    ) -> State:
        """What `pulumi up` does for one resource: check, then create, update or replace it."""
        run = (process or self.process()).provider(provider)
        props = as_pulumi_sends({**arguments, "owner": f"project/dev/{name}"})
        checked = run.check({**(state.inputs if state else {}), **PULUMI}, {**props, **PULUMI})
        assert not checked.failures, [failure.reason for failure in checked.failures]
        inputs = as_pulumi_sends(checked.inputs)
        if state is None:
            created = run.create({**inputs, **PULUMI})
            return State(created.id, inputs, as_pulumi_sends(created.outs or {}))
        difference = run.diff(state.id, {**state.outs, **PULUMI}, {**inputs, **PULUMI})
        assert difference.changes is None
        if not difference.replaces:
            if inputs == state.inputs:
                return state
            updated = run.update(state.id, {**state.outs, **PULUMI}, {**inputs, **PULUMI})
            return State(state.id, inputs, as_pulumi_sends(updated.outs or {}))
        if difference.delete_before_replace:
            run.delete(state.id, {**state.outs, **PULUMI})
        created = run.create({**inputs, **PULUMI})
        if not difference.delete_before_replace:
            run.delete(state.id, {**state.outs, **PULUMI})
        return State(created.id, inputs, as_pulumi_sends(created.outs or {}))

    def refresh(self, provider: type[StripeProvider], state: State, process: Process | None = None) -> State | None:
        """What `pulumi refresh` does for one resource; None when it is gone."""
        run = (process or self.process()).provider(provider)
        result = run.read(state.id, {**state.outs, **PULUMI})
        if not result.id:
            return None
        return State(state.id, as_pulumi_sends(result.inputs or {}), as_pulumi_sends(result.outs or {}))

    def destroy(self, provider: type[StripeProvider], state: State, process: Process | None = None) -> None:
        """What `pulumi destroy` does for one resource."""
        (process or self.process()).provider(provider).delete(state.id, {**state.outs, **PULUMI})

    # -- a small catalog ----------------------------------------------------------------------------------------

    def meter(self, name: str = "tokens", **more: Any) -> State:
        arguments = {"display_name": name, "event_name": name, "default_aggregation": {"formula": "sum"}, **more}
        return self.up(MeterProvider, name, arguments)

    def product(self, name: str = "pro", **more: Any) -> State:
        return self.up(ProductProvider, name, {"name": name, **more})

    def price(self, product: str, name: str = "license", **more: Any) -> State:
        return self.up(PriceProvider, name, {**licensed(product), **more})

    def price_change(self, product: str, state: State, name: str = "license", **more: Any) -> State:
        return self.up(PriceProvider, name, {**licensed(product), **more}, state)

    def customer(self, name: str = "acme", **more: Any) -> State:
        return self.up(CustomerProvider, name, {"name": name, "email": "billing@example.com", **more})

    def subscription(self, customer: str, items: Mapping[str, Any], name: str = "acme", **more: Any) -> State:
        return self.up(SubscriptionProvider, name, {**invoiced(customer), "items": items, **more})


def licensed(product: str) -> dict[str, Any]:
    """The arguments of a monthly fee."""
    return {"product": product, "currency": "usd", "unit_amount_decimal": "10000", "recurring": {"interval": "month"}}


def metered(product: str, meter: str) -> dict[str, Any]:
    """The arguments of a metered price with an allowance."""
    return {
        "product": product,
        "currency": "usd",
        "billing_scheme": "tiered",
        "tiers_mode": "graduated",
        "tiers": [{"up_to": 1000, "unit_amount_decimal": "0"}, {"up_to": "inf", "unit_amount_decimal": "0.04"}],
        "recurring": {"interval": "month", "usage_type": "metered", "meter": meter},
    }


def anchor(word: str) -> Any:
    """What an update takes to reset or keep a billing period: an object since API 2026-10-28.endive, a word before."""
    return {"type": word} if at(SUBSCRIPTION.update_struct, ("billing_cycle_anchor", "type")) else word


def invoiced(customer: str) -> dict[str, Any]:
    """The arguments of a subscription that needs no card."""
    return {"customer": customer, "collection_method": "send_invoice", "days_until_due": 30}


def as_pulumi_sends(value: Any) -> Any:
    """The value as Pulumi delivers it: every number is a float, and None is left out."""
    if isinstance(value, bool):
        return value
    if isinstance(value, int):
        return float(value)
    if isinstance(value, Mapping):
        return {key: as_pulumi_sends(each) for key, each in value.items() if each is not None}
    if isinstance(value, list):
        return [as_pulumi_sends(each) for each in value]
    return value
