"""A shop whose pull request adds a version, rehearsed: the real providers and rollout, without the engine."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

from components.account import Account, StripeRefusal
from components.providers.errors import ProviderError
from pricing.program import plans
from pricing.rehearse.change import PullRequest
from pricing.rehearse.command import rehearse
from pricing.rehearse.copy import Ids, Shape, Used, shape_of
from pricing.rehearse.engine import ApplyError
from pricing.rehearse.report import Rehearsal
from pricing.rehearse.sandbox import Copy
from tests.components.world import State, World
from tests.pricing.shop import Shop, opened
from tests.stack import Stack

HEAD = """\
from components.plan import PublishedPlan
from components.pricing import Fee, Overage, Plan, Tier, Usage, Version
from components.program import program
from components.subscriber import Subscriber

with program():
    usage = Usage("token", included=1_000, overage=Overage("0.04", per=100))
    dearer = Usage("token", included=500, overage=Overage("0.05", per=100))
    first = Plan("Alpaca.ai", fees=Fee("100.00"), usage=usage)
    second = Plan("Alpaca.ai", fees=Fee("120.00"), usage=dearer)
"""
TODAY = HEAD + '    alpaca = PublishedPlan("alpaca-ai", first, event_name="tokens")\n'
#: A subscriber that the program declares; a stranger finds her name in the program alone.
DECLARED = '    Subscriber("ada", alpaca, customer_name="Ada Lovelace", email="ada@example.com", seats=2)\n'
STACK = "shop/dev"


def between(first: str, second: str, program: str) -> str:
    """A program with other terms of the two versions."""
    head = HEAD.replace('Plan("Alpaca.ai", fees=Fee("100.00"), usage=usage)', first)
    return program.replace(HEAD, head.replace('Plan("Alpaca.ai", fees=Fee("120.00"), usage=dearer)', second))


def then(rollout: str = "at_renewal", more: str = "") -> str:
    """The pull request's program."""
    versions = f'{{1: first, 2: Version(second, rollout="{rollout}")}}'
    return HEAD + f'    alpaca = PublishedPlan("alpaca-ai", {versions}, event_name="tokens")\n{more}'


class StackEngine:
    """The engine's part on a copy: programs under Pulumi's mocks, on the real providers and a copied state."""

    def __init__(self, shop: Shop, copy: Copy, ids: Ids) -> None:
        self.changes: Counter[str] = Counter()
        self.program = shop.folder / "__main__.py"
        self.stack = Stack(World(copy.sandbox), project="shop")
        self.stack.urns = dict(shop.stack.urns)
        self.stack.components = json.loads(ids.text(json.dumps(shop.stack.components)))
        account = str(copy.control("GET", "")["account"])
        for key, state in shop.stack.states.items():
            text = ids.text(json.dumps({"id": state.id, "inputs": state.inputs, "outs": state.outs}))
            known = json.loads(text)
            known["outs"]["account"] = account
            self.stack.states[key] = State(**known)

    def up(self) -> None:
        try:
            self.stack.up(self.program)
        except (ProviderError, StripeRefusal, AssertionError) as problem:
            raise ApplyError(str(problem)) from None
        self.changes = Counter(each.partition(" ")[0] for each in self.stack.done)

    def resources(self) -> list[dict[str, Any]]:
        return [
            {
                "type": f"pulumi-python:dynamic/stripe:{key.partition(' ')[0]}",
                "urn": f"urn::{key.partition(' ')[2]}",
                "id": state.id,
                "inputs": state.inputs,
            }
            for key, state in self.stack.states.items()
        ]


class Rehearsed:
    """A shop on version 1, and its rehearsals."""

    def __init__(self, shop: Shop, folder: Path) -> None:
        self.shop, self.folder = shop, folder
        self._number = 0

    @property
    def account(self) -> Account:
        return self.shop.world.process().account

    def ids(self) -> Ids:
        program = (self.shop.folder / "__main__.py").read_text()
        states = json.dumps([[state.inputs, state.outs] for state in self.shop.stack.states.values()])
        return Ids(program + states, program, STACK, b"secret of this run")

    def shape(self, ids: Ids, usage: int | None = None, **more: Any) -> Shape:
        """The account's shape; `usage` is what everybody uses, in place of what invoices say."""
        asked: dict[str, Any] = {"customers": 300, "months": 3, "lock": "price_lock", "test_clock": self.shop.clock}
        shape = shape_of(self.account, ids, stack=STACK, **{**asked, **more})
        if usage is not None:
            used = [Used(0, 1, Decimal(usage))]
            shape.usage = {(customer, meter): used for customer in shape.customers for meter in shape.meters}
        return shape

    @contextmanager
    def copied(self, shape: Shape) -> Iterator[Copy]:
        """A copy of a shape."""
        self._number += 1
        copy = Copy(self.folder / f"copy-{self._number}.db")
        copy.fill(shape)
        yield copy
        copy.close()

    def rehearse(self, program: str, change: type[PullRequest] = PullRequest, **more: Any) -> Rehearsal:
        """Rehearse a pull request, or a mistake in place of its rollout."""
        self._number += 1
        folder = self.folder / str(self._number)
        folder.mkdir()
        before = (self.shop.folder / "__main__.py").read_text()
        (self.shop.folder / "__main__.py").write_text(program)
        today, pull = Copy(folder / "today.db"), Copy(folder / "pull-request.db")
        try:
            ids = self.ids()
            shape = self.shape(ids, **more)
            for copy in (today, pull):
                copy.fill(shape)
            engine = StackEngine(self.shop, pull, ids)
            made = change(engine, STACK, plans(self.shop.folder, "dev"), "price_lock")
            try:
                return rehearse(shape, today, pull, made, STACK)
            finally:
                made.close()
        finally:
            (self.shop.folder / "__main__.py").write_text(before)
            today.close()
            pull.close()


@contextmanager
def rehearsed(folder: Path, program: str = TODAY) -> Iterator[Rehearsed]:
    """A shop with its plan applied, at the start of 2026."""
    with opened(folder, program) as shop:
        yield Rehearsed(shop, folder)
