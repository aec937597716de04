"""How many calls reading takes: lists where that is cheaper, and never more than two calls an object."""

from __future__ import annotations

from typing import Any

import pytest

from components.providers.product import ProductProvider
from sandbox.store import Store
from tests.components.world import PULUMI, World

MINE = "project/dev"


def crowd(world: World, count: int, owner: str | None, first: int = 0, **more: Any) -> list[str]:
    """Add products to the account, newer than the others; returns their ids in the order of creation."""
    ids = [f"cus_{owner or 'nobody'}{n}".replace("/", "") for n in range(first, first + count)]
    with world.sandbox.database.writing() as connection:
        (scope,) = connection.execute("SELECT scope FROM objects LIMIT 1").fetchone()
        store = Store(connection, scope)
        like = store.query("product", limit=1)[0]
        for id_ in ids:
            metadata = {"pulumi": f"{owner}/{id_}"} if owner else {}
            store.put({**like, "id": id_, "metadata": metadata, **more})
    return ids


def calls_to_read(world: World, ids: list[str], stack: str = MINE) -> int:
    """How many requests a refresh of these takes, in a new process; one of them asks whose key it is."""
    process = world.process()
    provider = process.provider(ProductProvider)
    for id_ in ids:
        found = provider.read(id_, {"name": "acme", "owner": f"{stack}/{id_}", **PULUMI})
        assert found.id == id_
    return process.account.calls - 1


@pytest.fixture
def world(world: World) -> World:
    world.product()
    return world


def test_a_thousand_objects_alone_in_the_account_take_a_list_and_one_call(world: World) -> None:
    ids = crowd(world, 1000, MINE)
    assert calls_to_read(world, ids) <= 1 + 11
    assert calls_to_read(world, ids[::-1]) <= 1 + 11


@pytest.mark.parametrize("foreigner", [None, "project/prod", "another/dev"])
def test_behind_foreign_objects_it_takes_no_more_than_two_calls_each(world: World, foreigner: str | None) -> None:
    ids = crowd(world, 7, MINE)
    crowd(world, 3000, foreigner)
    assert calls_to_read(world, ids[:1]) == 1
    assert calls_to_read(world, ids[:2]) <= 4
    assert calls_to_read(world, ids) <= 14


def test_what_this_stack_has_let_go_is_no_reason_to_read_on(world: World) -> None:
    ids = crowd(world, 3, MINE)
    crowd(world, 3000, MINE, active=False)
    assert calls_to_read(world, ids) <= 6


def test_scattered_among_foreign_objects_it_takes_no_more_than_two_calls_each(world: World) -> None:
    ids: list[str] = []
    for n in range(40):
        ids += crowd(world, 1, MINE, first=n)
        crowd(world, 150, "somebody/else", first=150 * n)
    assert calls_to_read(world, ids) <= 2 * len(ids)
