"""`pricing adopt`: an account that exists becomes a program, and an `up` of that program writes owners and nothing else."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import chdir, redirect_stderr, redirect_stdout
from pathlib import Path
from urllib.parse import parse_qsl

import pytest

from pricing import adopt_command, cli
from tests.components.world import World, invoiced
from tests.mocked import event_loop
from tests.pricing.an_account import Made
from tests.stack import Stack

CONFIG = "config:\n  stripe-pricing:mode: sandbox\n"


class Shop:
    """A project `shop` with a stack `dev`, and an account that may have anything."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "shop"
        self.folder.mkdir()
        (self.folder / "Pulumi.yaml").write_text("name: shop\nruntime: python\n")
        (self.folder / "Pulumi.dev.yaml").write_text(CONFIG)
        self.world = World(folder / "stripe.db")
        self.stack = Stack(self.world, project="shop")
        self.said = ""

    @property
    def program(self) -> Path:
        return self.folder / "__main__.py"

    @property
    def ids(self) -> dict[str, dict[str, str]]:
        found: dict[str, dict[str, str]] = json.loads((self.folder / "adopted.dev.json").read_text())
        return found

    def adopt(self, *words: str, out: str | None = "__main__.py") -> int:
        """`pricing adopt` in the project's folder, in this process."""
        account = self.world.process().account
        arguments = cli.parser().parse_args(["adopt", *(["--out", out] if out else []), *words])
        self.world.forget_calls()
        text = io.StringIO()
        with chdir(self.folder), redirect_stderr(text), redirect_stdout(text):
            code = adopt_command.run(arguments, account)
        self.said = text.getvalue()
        assert not self.writes()
        return code

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
        assert not [each for each in writes if not re.fullmatch(r"POST /v1/[\w/]+ metadata\[pulumi\]", each)]
        owned = sum(len(names) for kind, names in self.ids.items() if kind != "Meter")
        assert len(writes) == owned
        assert {f"{kind} {name}" for kind, names in self.ids.items() for name in names} <= self.stack.states.keys()
        assert not self.up()
        assert not self.stack.done


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    with event_loop():
        made = Shop(tmp_path)
        yield made
        made.world.sandbox.close()


@pytest.mark.parametrize("seed", range(4))
def test_a_generated_account_is_adopted_with_nothing_written_but_owners(shop: Shop, seed: int) -> None:
    made = Made(shop.world, seed).products(32)
    shop.adopts()
    assert set(made.paid_archived) >= {id_ for id_ in shop.ids["Price"].values() if id_ in made.paid_archived}


def test_the_text_is_as_ruff_formats_it(shop: Shop) -> None:
    Made(shop.world, 7).products(48)
    assert shop.adopt() == 0
    command = [
        sys.executable,
        "-m",
        "ruff",
        "format",
        "--isolated",
        "--line-length",
        "120",
        "--diff",
        str(shop.program),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
