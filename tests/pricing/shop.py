"""A shop whose plan has two versions, and subscriptions that its own app has made, on a test clock."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console

from pricing import cli
from pricing.rollout import command as rollout_command
from tests.components.world import Process, Sent, World
from tests.mocked import event_loop
from tests.sandbox.bills import at
from tests.stack import Stack

PROGRAM = """\
from components.plan import PublishedPlan
from components.pricing import Fee, Overage, Plan, Usage, Version
from components.program import program

with program():
    usage = Usage("token", included=1_000, overage=Overage("0.04", per=100))
    dearer = Usage("token", included=500, overage=Overage("0.05", per=100))
    PublishedPlan(
        "alpaca-ai",
        {
            1: Plan("Alpaca.ai", fees=Fee("100.00"), usage=usage),
            2: Version(Plan("Alpaca.ai", fees=Fee("120.00"), usage=dearer), rollout="keep"),
        },
        event_name="tokens",
    )
"""
START = at("2026-01-01")


class Shop:
    """A stack `shop/dev` with the plan, and a test clock on which its customers live."""

    def __init__(self, folder: Path, program: str = PROGRAM) -> None:
        self.folder = folder / "shop"
        self.folder.mkdir()
        (self.folder / "__main__.py").write_text(program)
        (self.folder / "Pulumi.yaml").write_text("name: shop\nruntime: python\n")
        config = f"config:\n  stripe-pricing:mode: sandbox\n  stripe-pricing:sandboxFile: {folder / 'stripe.db'}\n"
        (self.folder / "Pulumi.dev.yaml").write_text(config)
        self.world = World(folder / "stripe.db")
        self.stack = Stack(self.world, project="shop")
        self.stack.up(self.folder / "__main__.py")
        self.clock = str(self.world.stripe("post", "/v1/test_helpers/test_clocks", frozen_time=START)["id"])

    def price(self, name: str) -> str:
        return self.stack.id(f"Price alpaca-ai-{name}")

    def subscribe(self, seats: int = 1, items: Any = None, **more: Any) -> str:
        """A subscription to version 1, as Checkout makes one."""
        customer = self.world.stripe(
            "post",
            "/v1/customers",
            name="Paca",
            email="p@example.com",
            test_clock=self.clock,
            invoice_settings={"default_payment_method": "pm_card_visa"},
        )
        items = items or [{"price": self.price("license"), "quantity": seats}, {"price": self.price("usage")}]
        params = {"customer": customer["id"], "items": items, **more}
        return str(self.world.stripe("post", "/v1/subscriptions", **params)["id"])

    def remote(self, id_: str) -> dict[str, Any]:
        return self.world.stripe("get", f"/v1/subscriptions/{id_}")

    def use(self, id_: str, units: int) -> None:
        payload = {"stripe_customer_id": self.remote(id_)["customer"], "value": str(units)}
        self.world.stripe(
            "post", "/v1/billing/meter_events", event_name="tokens", timestamp=self.now(), payload=payload
        )

    def now(self) -> int:
        return int(self.world.stripe("get", f"/v1/test_helpers/test_clocks/{self.clock}")["frozen_time"])

    def go(self, when: str) -> None:
        path = f"/v1/test_helpers/test_clocks/{self.clock}"
        for moment in [*range(self.now() + 28 * 86_400, at(when), 28 * 86_400), at(when)]:
            self.world.stripe("post", f"{path}/advance", frozen_time=moment)

    def bills(self, id_: str) -> list[int]:
        """The totals of a subscription's invoices, oldest first, in minor units."""
        found = self.world.stripe("get", "/v1/invoices", subscription=id_, limit=100)["data"]
        return [invoice["total"] for invoice in reversed(found)]

    def prices(self, id_: str) -> set[str]:
        names = {self.stack.id(key): key.partition("alpaca-ai-")[2] for key in self.stack.states if "Price" in key}
        return {names.get(item["price"]["id"], "another") for item in self.remote(id_)["items"]["data"]}

    # -- the command --------------------------------------------------------------------------------------------

    def rollout(self, *words: str, process: Process | None = None, clock: bool = True) -> Answer:
        """`pricing rollout alpaca-ai@2 ...` in the shop's folder, in this process; what it sent is in `world.sent`."""
        account = (process or self.world.process()).account
        argv = ["rollout", "alpaca-ai@2", *(["--test-clock", self.clock] if clock else []), *words]
        text = io.StringIO()
        self.world.forget_calls()
        with chdir(self.folder):
            arguments = cli.parser().parse_args(argv)
            code = rollout_command.run(arguments, Console(file=text, width=80), account)
        return Answer(code, text.getvalue(), list(self.world.sent))


class Answer:
    """What the command did."""

    def __init__(self, code: int, text: str, sent: list[Sent]) -> None:
        self.code, self.text, self.sent = code, text, sent

    @property
    def writes(self) -> list[str]:
        return [str(each) for each in self.sent if each.method != "GET"]


@contextmanager
def opened(folder: Path, program: str = PROGRAM) -> Iterator[Shop]:
    with event_loop():
        made = Shop(folder, program)
        yield made
        made.world.sandbox.close()
