"""A project on an account that may have anything, and the commands `pricing adopt` and `pricing export` in it."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, chdir, contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any
from unittest.mock import patch
from urllib.parse import parse_qsl

from pricing import cli
from pricing.adopt import command as adopt_command
from tests.components.world import Process, World
from tests.mocked import event_loop
from tests.stack import Stack

CONFIG = "config:\n  stripe-pricing:mode: sandbox\n"


class Existing:
    """A project `shop` with a stack `dev`, and an account that may have anything.

    Attributes:
        has_engine: whether there is a `pulumi` that tells the commands what the stack's state holds.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "shop"
        self.folder.mkdir()
        (self.folder / "Pulumi.yaml").write_text("name: shop\nruntime: python\n")
        (self.folder / "Pulumi.dev.yaml").write_text(CONFIG)
        self.world = World(folder / "stripe.db")
        self.stack = Stack(self.world, project="shop")
        self.said = ""
        self.has_engine = True

    @property
    def program(self) -> Path:
        return self.folder / "__main__.py"

    @property
    def ids(self) -> dict[str, dict[str, str]]:
        found: dict[str, dict[str, str]] = json.loads((self.folder / "adopted.dev.json").read_text())
        return found

    def adopt(self, *words: str, out: str | None = "__main__.py", process: Process | None = None) -> int:
        """`pricing adopt` in the project's folder, in this process."""
        account = (process or self.world.process()).account
        arguments = cli.parser().parse_args(["adopt", *(["--out", out] if out else []), *words])
        self.world.forget_calls()
        text = io.StringIO()
        with chdir(self.folder), redirect_stderr(text), redirect_stdout(text), self.state_for(adopt_command):
            code = adopt_command.run(arguments, account)
        self.said = text.getvalue()
        assert not self.writes()
        return code

    def state_for(self, command: Any) -> AbstractContextManager[Any]:
        """A command that asks what the stack's state holds."""
        held = None
        if self.has_engine:
            held = frozenset((key.partition(" ")[0], state.id) for key, state in self.stack.states.items())
        return patch.object(command, "in_state", lambda stack: (held, None if held is not None else "it is unknown"))

    def up(self) -> list[str]:
        """Apply the program; what it has written, without reads: `POST /v1/prices/price_1 metadata[pulumi]`."""
        self.world.forget_calls()
        with chdir(self.folder):
            self.stack.up(self.program)
        return self.writes()

    def writes(self) -> list[str]:
        return [
            f"{each} {' '.join(name for name, _ in parse_qsl(each.body) if not name.startswith('expand'))}"
            for each in self.world.sent
            if each.method != "GET"
        ]

    def adopts(self) -> None:
        """The whole way: adopt, an `up` that writes owners only, one that does nothing, and a second adoption."""
        assert self.adopt() == 0, self.said
        writes = self.up()
        more = [each for each in writes if not re.fullmatch(r"POST /v1/[\w/]+ metadata\[pulumi\]", each)]
        assert not more, more
        owned = sum(len(names) for kind, names in self.ids.items() if kind != "Meter")
        assert len(writes) == owned, (len(writes), owned)
        assert {f"{kind} {name}" for kind, names in self.ids.items() for name in names} <= self.stack.states.keys()
        again = self.up()
        assert not again, again
        assert not self.stack.done, self.stack.done


@contextmanager
def opened(folder: Path) -> Iterator[Existing]:
    with event_loop():
        made = Existing(folder)
        yield made
        made.world.sandbox.close()


WRITTEN = """\
from components.plan import PublishedPlan
from components.pricing import Fee, Overage, Plan, Tier, Usage, Version
from components.program import program
from components.resources import Coupon, DefaultPrice, Meter, Price, Product, PromotionCode

with program():
    tokens = Usage("token", included=1_000, overage=Overage("0.04", per=100))
    PublishedPlan(
        "alpaca-ai",
        {
            1: Plan("Alpaca.ai", fees=Fee("100.00"), usage=tokens),
            2: Version(Plan("Alpaca.ai", fees=Fee("120.00"), usage=tokens), rollout="keep"),
        },
        event_name="alpaca_ai_tokens",
    )
    PublishedPlan("team", Plan("Team", fees=Fee({"usd": "20.00", "eur": "19.00"})))
    PublishedPlan("yearly", Plan("Yearly", fees=Fee("1000.00", interval="year"), currency="eur"))
    calls = Meter(
        "calls", display_name="API calls", event_name="api_calls", default_aggregation={"formula": "sum"}
    )
    called = Usage(
        "API call",
        meter="calls",
        tiers=[Tier("0.10", up_to=1_000), Tier("0.05", up_to=50_000), Tier("2.00", per=100)],
        tiers_mode="volume",
    )
    PublishedPlan("small", Plan("Small", fees=Fee("10.00"), usage=called), meters={"calls": calls})
    PublishedPlan("large", Plan("Large", fees=Fee("90.00"), usage=called), meters={"calls": calls})
    setup = Product("setup", name="Setup", description="Once, when you begin")
    once = Price("setup-once", product=setup.id, currency="usd", unit_amount=50_000)
    DefaultPrice("setup-default", product=setup.id, price=once.id)
    welcome = Coupon("welcome", id="WELCOME", percent_off="20", duration="repeating", duration_in_months=3)
    PromotionCode("hello", code="HELLO", promotion={"type": "coupon", "coupon": welcome.id})
"""
