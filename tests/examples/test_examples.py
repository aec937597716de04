"""Every example program, run through the real providers and billed: each bill is worked out by hand."""

from __future__ import annotations

import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pulumi
import pytest

from tests.components.world import PROVIDERS, PULUMI, World, as_pulumi_sends
from tests.mocked import event_loop
from tests.sandbox.bills import at

EXAMPLES = Path(__file__).parents[2] / "examples"
#: Lines of a program that declare something: not blank, not imports, not the docstring.
MOST_LINES = 12


class Applied(pulumi.runtime.Mocks):
    """Makes every resource as `pulumi up` would, with the real providers."""

    def __init__(self, world: World) -> None:
        self.process = world.process()
        self.ids: dict[str, str] = {}

    def new_resource(self, args: pulumi.runtime.MockResourceArgs) -> tuple[str | None, dict[Any, Any]]:
        kind = args.typ.rpartition("stripe:")[2]
        match = [each for each in PROVIDERS if each.kind.name == kind]
        if not match:
            return "", args.inputs
        provider = self.process.provider(match[0])
        checked = provider.check({**PULUMI}, {**as_pulumi_sends(args.inputs), **PULUMI})
        assert not checked.failures, [failure.reason for failure in checked.failures]
        made = provider.create({**as_pulumi_sends(checked.inputs), **PULUMI})
        self.ids[f"{kind} {args.name}"] = made.id
        return made.id, {**args.inputs, **(made.outs or {})}

    def call(self, args: pulumi.runtime.MockCallArgs) -> tuple[dict[Any, Any], list[tuple[str, str]] | None]:
        return {}, []


class Account:
    """A Stripe account that starts on 1 January 2026, with an example applied to it."""

    def __init__(self, folder: Path) -> None:
        self.world = World(folder / "stripe.db")
        self.world.control("clock", frozen=at("2026-01-01"))
        self.made = Applied(self.world)

    def apply(self, example: str, **config: str) -> None:
        self.run(EXAMPLES / example / "__main__.py", **config)

    def run(self, program: Path, **config: str) -> None:
        pulumi.runtime.set_mocks(self.made, project="example", stack="dev", preview=False)
        pulumi.runtime.set_all_config({"stripe-pricing:mode": "sandbox", **config})

        @pulumi.runtime.test  # type: ignore[untyped-decorator]
        def run() -> None:
            runpy.run_path(str(program), run_name="__main__")

        run()

    def use(self, customer: str, units: int, event_name: str = "tokens", when: str = "2026-01-01") -> None:
        payload = {"stripe_customer_id": self.made.ids[f"Customer {customer}"], "value": str(units)}
        self.world.stripe(
            "post", "/v1/billing/meter_events", event_name=event_name, payload=payload, timestamp=at(when)
        )

    def go(self, when: str) -> None:
        self.world.control("clock", advance=at(when) - self.now())

    def now(self) -> int:
        now: int = self.world.control("clock", advance=0)["now"]
        return now

    def bills(self, customer: str) -> list[tuple[str, int]]:
        """The totals of a customer's invoices, oldest first, in minor units."""
        asked = {"customer": self.made.ids[f"Customer {customer}"], "limit": 100}
        invoices = self.world.stripe("get", "/v1/invoices", **asked)["data"]
        return [(each["currency"], each["total"]) for each in sorted(invoices, key=lambda each: int(each["created"]))]

    def lines(self, customer: str) -> list[str]:
        """The descriptions on a customer's newest invoice."""
        asked = {"customer": self.made.ids[f"Customer {customer}"], "limit": 1}
        [invoice] = self.world.stripe("get", "/v1/invoices", **asked)["data"]
        return [line["description"] for line in invoice["lines"]["data"]]


@pytest.fixture
def account(tmp_path: Path) -> Iterator[Account]:
    with event_loop():
        yield Account(tmp_path)


def test_two_plans_on_one_meter(account: Account) -> None:
    """Basic: 100.00 + 2,000 x 0.0004 = 100.80. Pro: 400.00 + 5,000 x 0.0003 = 401.50."""
    account.apply("two-plans")
    account.use("acme", 3_000)
    account.use("globex", 15_000)
    account.go("2026-02-02")
    assert account.bills("acme") == [("usd", 10_000), ("usd", 10_080)]
    assert account.bills("globex") == [("usd", 40_000), ("usd", 40_150)]


def test_graduated(account: Account) -> None:
    """9,000 x 0.0004 + 15,000 x 0.0003 = 3.60 + 4.50 = 8.10."""
    account.apply("graduated")
    account.use("acme", 25_000)
    account.go("2026-02-02")
    assert account.bills("acme")[-1] == ("usd", 10_810)


def test_volume(account: Account, caplog: pytest.LogCaptureFixture) -> None:
    """25,000 x 0.0003 = 7.50."""
    account.apply("volume")
    assert caplog.messages == []
    account.use("acme", 25_000)
    account.go("2026-02-02")
    assert account.bills("acme")[-1] == ("usd", 750)


def test_what_is_surely_not_meant_is_a_warning_until_it_is_said_to_be_meant(
    account: Account, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    program = tmp_path / "__main__.py"
    program.write_text((EXAMPLES / "volume" / "__main__.py").read_text().replace('meant=["falls:basic:usage"]', ""))
    account.run(program)
    [message] = caplog.messages
    assert message == (
        "basic: 10,000 tokens cost 5.00 USD, and one more costs 3.0003 USD; if that is meant: "
        'program(meant=["falls:basic:usage"])'
    )


def test_a_yearly_fee_with_a_monthly_overage(account: Account) -> None:
    """1,000.00 once; each month only the overage: 2,500 x 0.0004 = 1.00, then nothing."""
    account.apply("yearly-fee")
    account.use("acme", 3_500)
    account.go("2026-03-02")
    assert account.bills("acme") == [("usd", 100_000), ("usd", 100), ("usd", 0)]


def test_no_fee(account: Account) -> None:
    """25,000 x 0.0004 = 10.00."""
    account.apply("pay-as-you-go")
    account.use("acme", 25_000)
    account.go("2026-02-02")
    assert account.bills("acme")[-1] == ("usd", 1_000)


def test_two_meters_have_lines_of_their_own(account: Account) -> None:
    """100.00 + 4,000 x 0.0002 + 500 x 0.001 = 100.00 + 0.80 + 0.50."""
    account.apply("two-meters")
    account.use("acme", 5_000, "input_tokens")
    account.use("acme", 500, "output_tokens")
    account.go("2026-02-02")
    assert account.bills("acme")[-1] == ("usd", 10_130)
    assert {"Input tokens", "Output tokens", "Model"} <= {
        name for line in account.lines("acme") for name in products(line)
    }


def products(line: str) -> list[str]:
    """The product that a line names: `4000 × Input tokens (Tier 2 at ...)`."""
    return [line.partition(" × ")[2].partition(" (")[0]]


def test_currencies(account: Account) -> None:
    """25,000 tokens: 100.00 + 10.00 USD; 90.00 + 9.00 EUR; 15,000 + 1,500 JPY."""
    account.apply("currencies")
    for customer in ("acme", "globex", "initech"):
        account.use(customer, 25_000)
    account.go("2026-02-02")
    assert account.bills("acme")[-1] == ("usd", 11_000)
    assert account.bills("globex")[-1] == ("eur", 9_900)
    assert account.bills("initech")[-1] == ("jpy", 16_500)


def test_a_trial_costs_nothing(account: Account) -> None:
    """0.00, then 100.00 after two weeks; a month later 100.00 + 2,000 x 0.0004."""
    account.apply("trial")
    account.go("2026-01-16")
    account.use("acme", 3_000, when="2026-01-16")
    account.go("2026-02-17")
    assert account.bills("acme") == [("usd", 0), ("usd", 10_000), ("usd", 10_080)]


def test_customers_from_a_csv(account: Account) -> None:
    account.apply("customers-from-csv")
    assert (account.bills("acme"), account.bills("globex")) == ([("usd", 30_000)], [("usd", 120_000)])


def test_a_fee_and_an_allowance_of_its_own(account: Account) -> None:
    """10 seats x 80.00 + 10,000 x 0.0002 = 800.00 + 2.00."""
    account.apply("enterprise")
    account.use("acme", 60_000)
    account.go("2026-02-02")
    assert account.bills("acme") == [("usd", 80_000), ("usd", 80_200)]
    assert {name for line in account.lines("acme") for name in products(line)} == {"Basic"}


def test_a_setting_of_the_stack_is_another_price(account: Account) -> None:
    account.apply("price-by-stack", **{"example:fee": "1.00"})
    assert account.bills("acme") == [("usd", 100)]


def test_every_example_is_short_and_tested() -> None:
    names = sorted(path.parent.name for path in EXAMPLES.glob("*/__main__.py"))
    source = Path(__file__).read_text()
    for name in names:
        assert f'account.apply("{name}"' in source, name
        lines = (EXAMPLES / name / "__main__.py").read_text().splitlines()
        declared = [line for line in lines if line.startswith("    ") and line.strip() not in (")", "]")]
        assert len(declared) <= MOST_LINES, (name, len(declared))
