"""Every example program, run through the real providers and billed: each bill is worked out by hand."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.components.world import World
from tests.mocked import event_loop
from tests.sandbox.bills import at
from tests.stack import Stack

EXAMPLES = Path(__file__).parents[2] / "examples"
#: Lines of a program that declare something: not blank, not imports, not the docstring.
MOST_LINES = 12


class Account:
    """A Stripe account that starts on 1 January 2026, with an example applied to it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.world = World(folder / "stripe.db")
        self.world.control("clock", frozen=at("2026-01-01"))
        self.stack = Stack(self.world)

    def apply(self, example: str, *, without: str = "", **config: str) -> None:
        """Apply an example, or what is left of it without the lines that have a word."""
        program = EXAMPLES / example / "__main__.py"
        if without:
            lines = [line for line in program.read_text().splitlines() if without not in line]
            program = self.folder / "__main__.py"
            program.write_text("\n".join(lines))
        self.stack.up(program, **config)

    def use(self, customer: str, units: int, event_name: str = "tokens", when: str = "2026-01-01") -> None:
        payload = {"stripe_customer_id": self.stack.id(f"Customer {customer}"), "value": str(units)}
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
        asked = {"customer": self.stack.id(f"Customer {customer}"), "limit": 100}
        invoices = self.world.stripe("get", "/v1/invoices", **asked)["data"]
        return [(each["currency"], each["total"]) for each in sorted(invoices, key=lambda each: int(each["created"]))]

    def lines(self, customer: str) -> list[str]:
        """The descriptions on a customer's newest invoice."""
        asked = {"customer": self.stack.id(f"Customer {customer}"), "limit": 1}
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
    account.stack.up(program)
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


def test_a_coupon_takes_off_a_fifth_three_times(account: Account) -> None:
    """200.00 - 20 % = 160.00 in January, February and March; 200.00 in April."""
    account.apply("coupon")
    account.go("2026-04-02")
    assert account.bills("acme") == [("usd", 16_000), ("usd", 16_000), ("usd", 16_000), ("usd", 20_000)]


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


def test_a_customer_moves_to_another_plan(account: Account) -> None:
    """With 21 of 31 days left: -67.74 of Basic and 270.97 of Pro, and 400.00 for February: 603.23."""
    account.apply("upgrade")
    subscription = account.stack.id("Subscription acme")
    account.go("2026-01-11")
    account.apply("upgrade", **{"example:acme": "pro"})
    assert account.stack.id("Subscription acme") == subscription
    account.go("2026-02-02")
    assert account.bills("acme") == [("usd", 10_000), ("usd", 60_323)]


def test_versions(account: Account) -> None:
    """Acme begins at 100.00 and stays there, Globex at 120.00; at their renewals of March both pay 130.00."""
    account.apply("versions", without="globex", **{"stripe-pricing:offers": '{"basic": 1}'})
    account.go("2026-01-10")
    account.apply("versions", **{"stripe-pricing:offers": '{"basic": 2}'})
    account.go("2026-02-15")
    account.apply("versions")
    account.go("2026-04-15")
    assert account.bills("acme") == [("usd", each) for each in (10_000, 10_000, 13_000, 13_000)]
    assert account.bills("globex") == [("usd", each) for each in (12_000, 12_000, 13_000, 13_000)]


def test_an_account_that_has_a_live_subscription(account: Account) -> None:
    """3 seats x 100.00, as before: nothing is prorated, made again or cancelled."""
    stripe = account.world.stripe
    product = stripe("post", "/v1/products", name="Basic")["id"]
    money = {"currency": "usd", "unit_amount": 10_000, "recurring": {"interval": "month"}}
    price = stripe("post", "/v1/prices", product=product, **money)["id"]
    customer = stripe("post", "/v1/customers", name="Acme", email="billing@example.com")["id"]
    invoiced = {"customer": customer, "collection_method": "send_invoice", "days_until_due": 30}
    live = stripe("post", "/v1/subscriptions", items=[{"price": price, "quantity": 3}], **invoiced)["id"]
    account.go("2026-01-11")
    ids = {"product": product, "price": price, "customer": customer, "subscription": live}
    account.apply("existing-account", **{f"example:{name}": id_ for name, id_ in ids.items()})
    assert [account.stack.id(key) for key in ("Price basic-license", "Subscription acme")] == [price, live]
    account.go("2026-02-02")
    assert account.bills("acme") == [("usd", 30_000), ("usd", 30_000)]


def test_every_example_is_short_and_tested() -> None:
    names = sorted(path.parent.name for path in EXAMPLES.glob("*/__main__.py"))
    source = Path(__file__).read_text()
    for name in names:
        assert f'account.apply("{name}"' in source, name
        lines = (EXAMPLES / name / "__main__.py").read_text().splitlines()
        declared = [line for line in lines if line.startswith("    ") and line.strip() not in (")", "]")]
        assert len(declared) <= MOST_LINES, (name, len(declared))
