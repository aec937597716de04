"""Every call of an `up` and a `destroy` against every fault, without an engine: the next run always converges.

The engine's part is played by `Stack`; tests/engine/test_faults.py breaks the real engine at the same calls.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import pytest

from components.account import AccountError
from components.providers.default_price import DefaultPriceProvider
from components.providers.lifecycle import StripeProvider
from sandbox import Request, Response
from tests.components.stack import Stack, program
from tests.components.world import State, World
from tests.faulty_sandbox import RECOVERABLE, Call, FaultySandbox, Spoiled, name_of


class Killed(BaseException):
    """The provider process has died."""


KILLED_BEFORE: Final = "killed before Stripe acts"
KILLED_AFTER: Final = "killed after Stripe has acted"
REMEMBERED: Final = Spoiled("500 that the idempotency key remembers", status=500, stored=True)

# -- the runs, and their expected results -----------------------------------------------------------------------------


def create(stack: Stack) -> None:
    stack.up(program())


def another_fee(stack: Stack) -> None:
    stack.up(program(license={"unit_amount_decimal": "12000"}))


def another_meter(stack: Stack) -> None:
    """Replaces meter, price and item."""
    stack.up(program(meter={"event_name": "characters"}))


def another_aggregation(stack: Stack) -> None:
    """With the same event name, which two active meters cannot share."""
    stack.up(program(meter={"default_aggregation": {"formula": "count"}}))


def migrate(stack: Stack) -> None:
    """There is no way back to classic: the subscription is replaced."""
    stack.up(program(subscription={"billing_mode": {"type": "classic"}}))


def destroy(stack: Stack) -> None:
    stack.destroy()


PHASES: Final[dict[str, Callable[[Stack], None]]] = {
    "create": create,
    "another fee": another_fee,
    "another meter": another_meter,
    "another aggregation": another_aggregation,
    "another billing mode": migrate,
    "destroy": destroy,
}


def picture(stack: Stack) -> list[str]:
    """Everything in Stripe, including archived objects, without ids and times."""
    scopes = json.loads(stack.world.sandbox.handle(Request("GET", "/_sandbox/state")).body)["objects"]
    (kinds,) = scopes.values()
    found = []
    amounts = {each["id"]: f"{each['lookup_key']} {each['unit_amount_decimal']}" for each in kinds.get("price", ())}
    for kind, objects in kinds.items():
        for each in objects if kind != "event" else ():
            facts = {
                name: each.get(name)
                for name in ("status", "active", "deleted", "lookup_key", "metadata", "name", "event_name", "quantity")
            }
            price = each.get("price")
            facts["price"] = amounts.get(price["id"] if isinstance(price, dict) else price)
            facts["default"] = amounts.get(each.get("default_price"))
            facts["amount"] = amounts.get(each["id"])
            found.append(f"{kind} {facts}")
    return sorted(found)


def alive(stack: Stack) -> set[str]:
    """The ids of the objects in use in Stripe."""
    scopes = json.loads(stack.world.sandbox.handle(Request("GET", "/_sandbox/state")).body)["objects"]
    (kinds,) = scopes.values()
    in_use: dict[str, Callable[[dict[str, Any]], Any]] = {
        "billing.meter": lambda each: each["status"] == "active",
        "product": lambda each: each["active"] and not each.get("deleted"),
        "price": lambda each: each["active"],
        "customer": lambda each: not each.get("deleted"),
        "subscription": lambda each: each["status"] not in ("canceled", "incomplete_expired"),
    }
    return {each["id"] for kind, test in in_use.items() for each in kinds.get(kind, ()) if test(each)}


def in_state(stack: Stack) -> set[str]:
    assert not stack.condemned
    return {state.id for provider, state in stack.state.values() if provider is not DefaultPriceProvider}


# -- the matrix -------------------------------------------------------------------------------------------------------


class KillableSandbox(FaultySandbox):
    """A sandbox whose requests can also end the process that sent them."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        # In process, no connection breaks: a stall becomes the client's error at once.
        self.closing.set()
        self.kill: tuple[str, str] | None = None

    def handle(self, request: Request) -> Response:
        known = len(self.seen)
        if self.kill is None or request.url.startswith("/_sandbox/"):
            return super().handle(request)
        title, when = self.kill
        if when == KILLED_BEFORE and self._about_to(request) == title:
            self.kill = None
            raise Killed
        response = super().handle(request)
        if len(self.seen) > known and self.seen[known].call.title == title:
            self.kill = None
            raise Killed
        return response

    def _about_to(self, request: Request) -> str:
        name = name_of(request)
        before = sum(seen.call.name == name and seen.call.attempt == 1 for seen in self.seen)
        return name if before == 0 else f"{name} #{before + 1}"


@dataclass(frozen=True)
class Phase:
    """A run to break.

    Attributes:
        file, state: the sandbox and the stack's state from which it starts; only ever copied.
        titles: the calls that it makes, and `wanted` the picture it leaves, when nothing goes wrong.
    """

    run: Callable[[Stack], None]
    file: Path
    state: dict[str, tuple[type[StripeProvider], State]]
    titles: list[str]
    wanted: list[str]

    def start(self, folder: Path) -> tuple[Stack, KillableSandbox]:
        """The stack before the run, in an empty folder."""
        shutil.copy(self.file, folder / "stripe.db")
        sandbox = KillableSandbox(folder / "stripe.db")
        return Stack(World(sandbox), dict(self.state)), sandbox


@pytest.fixture(scope="module", params=PHASES)
def phase(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Phase:
    """Each phase, run once without a fault."""
    run = PHASES[request.param]
    folder = tmp_path_factory.mktemp("start")
    sandbox = KillableSandbox(folder / "stripe.db")
    stack = Stack(World(sandbox))
    # Bills depend on the time: the clock is frozen, except between the phases.
    stack.world.control("clock", frozen=1_800_000_000)
    if run is not create:
        create(stack)
        stack.world.control("clock", advance=86_400)
    sandbox.close()
    start = Phase(run, folder / "stripe.db", stack.state, [], [])
    stack, sandbox = start.start(tmp_path_factory.mktemp("clean"))
    run(stack)
    clean = replace(start, titles=sandbox.titles(), wanted=picture(stack))
    sandbox.close()
    return clean


@pytest.mark.parametrize("fault", [KILLED_BEFORE, KILLED_AFTER, *(each.name for each in RECOVERABLE)])
def test_whatever_happens_to_whichever_call_the_next_run_converges(
    phase: Phase, fault: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    assert len(phase.titles) >= 4
    spoiled = {each.name: each for each in RECOVERABLE}.get(fault)
    for title in phase.titles:
        stack, sandbox = phase.start(tmp_path_factory.mktemp("broken"))

        def plan(call: Call, title: str = title) -> Spoiled | None:
            return spoiled if call.title == title else None

        if spoiled is None:
            sandbox.kill = (title, fault)
        else:
            sandbox.plan = plan
        with pytest.raises((Killed, AccountError)):
            phase.run(stack)
        sandbox.start_over()
        phase.run(stack)
        assert picture(stack) == phase.wanted, f"{fault} at {title}"
        assert in_state(stack) == alive(stack), f"{fault} at {title}"
        sandbox.close()


def test_a_failure_that_the_idempotency_key_remembers_is_no_dead_end(
    phase: Phase, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Stripe answers every retry with the stored 500: only another key can succeed, now or in the next run."""
    for title in phase.titles:
        if not title.startswith("POST "):
            continue
        stack, sandbox = phase.start(tmp_path_factory.mktemp("broken"))

        def plan(call: Call, title: str = title) -> Spoiled | None:
            return REMEMBERED if call.title == title and call.attempt == 1 else None

        sandbox.plan = plan
        try:
            phase.run(stack)
        except AccountError:
            sandbox.start_over()
            phase.run(stack)
        assert picture(stack) == phase.wanted, title
        assert in_state(stack) == alive(stack), title
        sandbox.close()
