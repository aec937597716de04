"""The short form of `script/chaos`: three cycles with fixed seeds; the long one has hundreds."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from tests.components.world import World
from tests.engine.chaos import checks, programs
from tests.engine.chaos.backends import s3_server
from tests.engine.chaos.programs import Model, Ref
from tests.engine.chaos.session import Tally, run_session


@pytest.mark.parametrize(("seed", "cycles"), [(17, 2), (25, 1)])
def test_a_broken_run_ends_in_the_declared_state(seed: int, cycles: int) -> None:
    tally, said = Tally(), list[str]()
    with s3_server() as server:
        wrong = run_session(seed, cycles, server, said.append, tally)
    assert wrong is None, "\n".join([*said, *wrong.found, *(run.text for run in wrong.runs)])
    assert tally.cycles == cycles


class Account:
    """A product with a price, and somebody who changes them in Stripe."""

    def __init__(self, folder: Path) -> None:
        self.world, self.file = World(folder / "stripe.db"), folder / "stripe.db"
        self.model = Model()
        product = self.model.add("Product", name="Pro")
        price = self.model.add("Price", product=Ref(product), unit_amount=100, recurring={"interval": "month"})
        self.product = self.make("products", product, name="Pro")
        self.price = self.make_price(price)
        self.before = checks.Account.read(self.file)
        self.seen = self.compared()

    def make(self, path: str, key: str, **params: Any) -> str:
        owner = {"pulumi": f"{checks.PROJECT}/{self.model.things[key].name}"}
        return str(self.world.stripe("post", f"/v1/{path}", metadata=owner, **params)["id"])

    def make_price(self, key: str) -> str:
        terms = {"product": self.product, "currency": "usd", "recurring": {"interval": "month"}}
        return self.make("prices", key, unit_amount=100, **terms)

    def compared(self) -> checks.Expectation:
        held = {("Product", self.product), ("Price", self.price)}
        return checks.Expectation(self.model, checks.Account.read(self.file), held)

    def found(self) -> list[str]:
        """All that the checks find."""
        now, variants = self.compared(), [self.model, self.model]
        twice = checks.made_twice(self.before, checks.Account.read(self.file), variants)
        return [*now.wrong, *map(str, now.orphans), *checks.lost(self.seen, now, variants), *twice]


def test_the_checks_find_what_chaos_could_leave(tmp_path: Path) -> None:
    there = Account(tmp_path)
    assert there.found() == []
    there.world.stripe("post", f"/v1/products/{there.product}", name="Max")
    assert there.found() == ["product-1.name: 'Max' in Stripe, declared 'Pro'"]
    there.world.stripe("post", f"/v1/products/{there.product}", name="Pro")
    second = there.make_price("price_2")
    assert there.found() == [f"('Price', '{second}', 'price-2')", "Price price-2 was created 1 times, 0 expected"]
    # The state holds the second one now.
    there.world.stripe("post", f"/v1/prices/{there.price}", active=False)
    first, there.price = there.price, second
    assert there.found() == [
        f"Price price-2 was {first} and is {second} now, although it was declared all the time",
        "Price price-2 was created 1 times, 0 expected",
    ]
    there.world.stripe("post", f"/v1/prices/{second}", active=False)
    assert there.found()[0] == "Price price-2: 0 in use: []"


def test_the_checks_find_what_a_state_holds_beyond_the_account(tmp_path: Path) -> None:
    there = Account(tmp_path)
    kinds = {"Product": there.product, "Price": there.price}
    urns = {kind: f"urn:pulumi:dev::stripe-pricing::x::{kind}" for kind in kinds}
    resources = [
        {"type": f"pulumi-python:dynamic/stripe:{kind}", "id": id_, "urn": urns[kind]} for kind, id_ in kinds.items()
    ]
    assert list(checks.state_problems({"resources": resources}, there.seen)) == []
    twice = {"resources": [*resources, resources[1]]}
    assert list(checks.state_problems(twice, there.seen)) == [f"twice in the state: {urns['Price']} {there.price}"]
    pending = {"resources": resources, "pending_operations": [{"type": "creating", "resource": {"urn": "urn:x"}}]}
    assert list(checks.state_problems(pending, there.seen)) == ["pending in the state: creating urn:x"]
    [less] = checks.state_problems({"resources": resources[:1]}, there.seen)
    assert less == f"only in the state: []; only in Stripe: [('Price', '{there.price}')]"


@pytest.mark.parametrize("seed", range(20))
def test_random_programs_are_the_same_for_a_seed_and_valid_python(seed: int) -> None:
    def once() -> list[str]:
        draw = random.Random(seed)
        model = (programs.plans if seed % 2 else programs.parts)(draw)
        sources = [model.source()]
        for _ in range(10):
            model = programs.edited(model, draw)
            sources.append(model.source())
        return sources

    first = once()
    assert first == once()
    assert len(set(first)) > 5
    for source in first:
        compile(source, "__main__.py", "exec")
