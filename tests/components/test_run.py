"""What the providers of one process know together: no answer depends on the order of resources."""

from __future__ import annotations

from collections import Counter
from itertools import permutations
from typing import Any

import pytest

from components.providers.meter import METER
from components.providers.price import PRICE, PriceProvider
from components.providers.product import PRODUCT
from components.providers.run import Run, run_of
from components.providers.state import ObjectName, StackState, StateUnreadable
from components.providers.subscription import SubscriptionProvider
from tests.components.world import World


@pytest.mark.parametrize("order", list(permutations(["subscription", "old price", "new price"])), ids=", ".join)
def test_a_warning_comes_whichever_resource_is_compared_first(
    world: World, said: set[str], order: tuple[str, ...]
) -> None:
    product = world.product().id
    old, new = world.price(product), world.price(product, "dearer", unit_amount_decimal="2")
    subscription = world.subscription(world.customer().id, {"license": {"price": old.id}})
    moved: dict[str, Any] = {**subscription.inputs, "items": {"license": {"price": new.id}}}
    said.clear()
    run = world.process()
    compared = {
        "subscription": (SubscriptionProvider, subscription, moved),
        "old price": (PriceProvider, old, old.inputs),
        "new price": (PriceProvider, new, new.inputs),
    }
    for name in order:
        provider, state, arguments = compared[name]
        run.provider(provider).diff(state.id, state.outs, arguments)
    moves = "item license moves from Price 'license' to Price 'dearer', 100.00 USD a month => 0.02 USD a month; "
    assert [line for line in said if moves in line]


def test_kinds_do_not_share_names_or_ids(world: World) -> None:
    run = run_of(world.process().account)
    run.compared(PRICE, "x", {}, {"owner": "project/dev/n"}, is_replaced=False, refreshing=False)
    assert run.begin(METER, "project/dev/n")
    assert not run.begin(METER, "project/dev/n")
    assert run.begin(PRODUCT, "project/dev/n")
    assert run.is_in_state(PRICE, "x")
    assert not run.is_in_state(PRODUCT, "x")
    assert not run.declares(METER, "project/dev/other")


# -- who holds an object --------------------------------------------------------------------------------------------

A, B = "project/dev/a", "project/dev/b"


def run_on(world: World, held: Counter[ObjectName] | None = None) -> Run:
    """A run on a stack whose state has these holders; None without an engine."""
    state = None if held is None else StackState(held)
    return Run(world.process().account, lambda stack: state if stack == "dev" else None)


def compare(run: Run, id_: str, owner: str, *, is_replaced: bool = False, refreshing: bool = False) -> None:
    run.compared(PRICE, id_, {}, {"owner": owner}, is_replaced=is_replaced, refreshing=refreshing)


def test_an_object_goes_with_the_last_of_its_holders(world: World) -> None:
    run = run_on(world, Counter({("Price", "x"): 2, ("Price", "y"): 1, ("Product", "z"): 2}))
    assert run.release(PRICE, "x", A)
    assert not run.release(PRICE, "x", B)
    assert not run.release(PRICE, "y", A)
    assert not run.release(PRICE, "z", A)
    assert not run_on(world).release(PRICE, "x", A)


def test_the_state_is_read_once_whoever_asks(world: World) -> None:
    asked: list[str] = []

    def read(stack: str) -> StackState | None:
        asked.append(stack)
        return StackState(Counter({("Price", "x"): 1}))

    run = Run(world.process().account, read)
    compare(run, "seen", A)
    assert run.state_holds(PRICE, "seen", A)
    assert asked == []
    assert run.state_holds(PRICE, "x", A)
    assert not run.state_holds(PRICE, "other", A)
    assert not run.release(PRICE, "x", A)
    assert asked == ["dev"]
    # The state of an older version may not say whose an object is.
    Run(world.process().account, read).release(PRICE, "x", None)
    assert asked == ["dev", ""]


def test_a_state_that_cannot_be_read_is_said_and_holds_nothing(world: World, said: set[str]) -> None:
    def unreadable(stack: str) -> StackState | None:
        raise StateUnreadable(f"no {stack}")

    run = Run(world.process().account, unreadable)
    assert not run.release(PRICE, "x", A)
    assert not run.state_holds(PRICE, "y", A)
    [line] = said
    assert line.startswith("cannot read the stack's state")
    assert line.endswith(": no dev")


def test_an_object_is_held_until_its_last_resource_is_deleted(world: World) -> None:
    run = run_on(world, Counter({("Price", "twice"): 2}))
    assert not run.is_held("Price", "compared")
    compare(run, "compared", A)
    run.holds(PRICE, B, "made")
    for id_ in ("compared", "made"):
        assert run.is_held("Price", id_)
        assert not run.is_held("Product", id_)
        run.release(PRICE, id_, A)
        assert not run.is_held("Price", id_)
    assert run.is_held("Price", "twice")
    run.release(PRICE, "twice", A)
    assert run.is_held("Price", "twice")
    run.release(PRICE, "twice", B)
    assert not run.is_held("Price", "twice")


def test_what_stands_for_a_resource_in_place_of_an_object_is_another_object(world: World) -> None:
    run = run_on(world)
    compare(run, "old", A)
    compare(run, "other", B)
    assert run.successor(PRICE, "old", A) is None
    run.holds(PRICE, A, "new")
    assert run.successor(PRICE, "old", A) == "new"
    assert run.successor(PRICE, "new", A) == "old"
    assert run.successor(PRICE, "old", "project/dev/c") is None


def test_an_object_has_a_keeper_while_the_program_has_it(world: World) -> None:
    run = run_on(world)
    assert run.keeper(PRICE, "x") is None
    compare(run, "x", A, refreshing=True)
    assert (run.keeper(PRICE, "x"), run.declares(PRICE, A), run.is_in_state(PRICE, "x")) == (None, False, True)
    compare(run, "x", A)
    assert (run.keeper(PRICE, "x"), run.declares(PRICE, A)) == (A, True)
    assert run.kept(PRICE) == {"x": {"owner": A}}
    assert run.keeper(PRODUCT, "x") is None
    compare(run, "x", A, is_replaced=True)
    assert (run.keeper(PRICE, "x"), run.kept(PRICE)) == (None, {})
    # If another resource created or adopted it, it belongs to that one.
    run.holds(PRICE, B, "x")
    assert run.keeper(PRICE, "x") == B


def test_one_that_the_engine_replaces_by_itself_is_not_kept(world: World) -> None:
    """It is checked unchanged, and then as a new one."""
    run = run_on(world)
    assert not run.is_named_twice(PRICE, A, is_new=False)
    compare(run, "x", A)
    assert run.keeper(PRICE, "x") == A
    assert not run.is_named_twice(PRICE, A, is_new=True)
    assert run.keeper(PRICE, "x") is None


def test_a_new_resource_of_the_name_of_one_in_the_state_is_named_twice(world: World) -> None:
    run = run_on(world)
    assert not run.is_named_twice(PRICE, A, is_new=True)
    assert run.is_named_twice(PRICE, A, is_new=False)
    assert not run.is_named_twice(PRICE, B, is_new=False)
    assert not run.is_named_twice(PRICE, B, is_new=False)
    # What was created is in the state from then on.
    run.holds(PRICE, A, "made")
    assert not run.is_named_twice(PRICE, A, is_new=False)


def test_a_value_is_its_first_claimant_s(world: World) -> None:
    run = run_on(world)
    assert run.claim(PRICE, "lookup_key", "pro", A) == A
    assert run.claim(PRICE, "lookup_key", "pro", B) == A
    assert run.claim(PRICE, "lookup_key", "max", B) == B
    assert run.claim(PRODUCT, "lookup_key", "pro", B) == B


def test_one_that_was_not_created_can_be_created_again(world: World) -> None:
    run = run_on(world)
    assert run.begin(PRICE, A)
    assert run.declares(PRICE, A)
    assert not run.begin(PRICE, A)
    run.abandon(PRICE, A)
    assert run.begin(PRICE, A)


def test_what_a_refresh_has_read_is_asked_about_once(world: World) -> None:
    run = run_on(world)
    run.was_read(PRICE, "x", {"nickname": "a"})
    assert not run.just_read(PRICE, "x", {"nickname": "b"})
    run.was_read(PRICE, "x", {"nickname": "a"})
    assert run.just_read(PRICE, "x", {"nickname": "a"})
    assert not run.just_read(PRICE, "x", {"nickname": "a"})


def test_what_waits_for_a_comparison_happens_once(world: World) -> None:
    run, done = run_on(world), list[str]()
    run.when_compared([(PRICE, "x"), (PRODUCT, "x")], lambda: done.append("x"))
    compare(run, "y", A)
    assert done == []
    compare(run, "x", A)
    compare(run, "x", A)
    assert done == ["x"]


def test_a_line_is_told_once_a_run(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[tuple[str, str]] = []
    monkeypatch.setattr("components.providers.notices.show", lambda severity, line: shown.append((severity, line)))
    run = run_on(world)
    for message in ("one", "one", "two"):
        run.tell("warning", message)
    assert shown == [("warning", "one"), ("warning", "two")]


def test_nothing_is_taken_back_where_nothing_is_replaced_or_the_object_is_still_the_resource_s(world: World) -> None:
    """That does not read the state."""

    def unread(stack: str) -> StackState | None:
        raise AssertionError

    run = Run(world.process().account, unread)
    assert not run.takes_back(PRICE, "x")
    compare(run, "y", B)
    assert not run.takes_back(PRICE, "x")
    compare(run, "x", A, is_replaced=True)
    assert not run.takes_back(PRICE, "x")
    # Nor without a state that says so.
    run = run_on(world)
    compare(run, "z", A, is_replaced=True)
    assert not run.takes_back(PRICE, "x")
