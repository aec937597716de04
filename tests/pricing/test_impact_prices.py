"""Which version and charge a price is, told from what the providers have made."""

from __future__ import annotations

from pathlib import Path

from components.account import Account
from components.plan import PublishedPlan
from components.pricing import Fee, Overage, Plan, Usage, Version
from components.program import program
from components.settings import Settings
from pricing.impact.reading import catalogue_of
from tests.components.world import World
from tests.mocked import event_loop
from tests.stack import Stack


def plan(fee: str) -> Plan:
    return Plan("Alpaca.ai", fees=Fee(fee), usage=Usage("token", included=1_000, overage=Overage("0.04", per=100)))


def test_prices_are_known_by_version_before_and_after_the_lookup_keys_move(tmp_path: Path) -> None:
    """Another plan whose name begins alike is not taken for it."""
    path = tmp_path / "stripe.db"
    versions: dict[int, Plan | Version] = {1: plan("100.00"), 2: Version(plan("120.00"), rollout="keep")}

    def sold(*numbers: int) -> None:
        with program(meant=["dominated:alpaca-ai:alpaca-ai-pro"]):
            PublishedPlan("alpaca-ai", {number: versions[number] for number in numbers}, event_name="tokens")
            PublishedPlan("alpaca-ai-pro", plan("7.00"), event_name="other")

    def catalogue() -> dict[str, tuple[int, str]]:
        settings = Settings.read({"mode": "sandbox", "sandboxFile": str(path)}.get, {})
        keys = ["license", "usage"]
        return catalogue_of(Account(settings), "alpaca-ai", keys, (1, keys))

    with event_loop():
        stack = Stack(World(path))
        stack.up(lambda: sold(1))
        first = {
            stack.id("Price alpaca-ai-license"): (1, "license"),
            stack.id("Price alpaca-ai-usage"): (1, "usage"),
        }
        assert catalogue() == first
        stack.up(lambda: sold(1, 2))
        second = {
            stack.id("Price alpaca-ai-v2-license"): (2, "license"),
            stack.id("Price alpaca-ai-v2-usage"): (2, "usage"),
        }
        assert catalogue() == first | second
