"""What a type checker says about a program of another project that uses our packages."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

#: A line with a mistake says after `#` what mypy must find on it; every other line must pass.
PROGRAM = """
from decimal import Decimal

import pulumi

import usage
from components.plan import PublishedPlan
from components.pricing import Fee, Overage, Plan, Usage
from components.program import program
from components.resources import Customer, DefaultPrice, Meter, Price, Product, Subscription
from components.subscriber import Subscriber

with program() as settings:
    mode: str = settings.mode

plan = Plan("Alpaca.ai", fees=Fee(Decimal("100")), usage=Usage("token", included=1, overage=Overage("0.04", per=100)))
alpaca = PublishedPlan("alpaca", plan, event_name="alpaca_tokens")
Subscriber("from-a-csv", alpaca, customer_name="Acme", email="billing@example.com", seats="3")

meter = Meter("calls", display_name="Calls", event_name="calls", default_aggregation={"formula": "sum"})
product = Product("llama", name="Llama", default_price_data={"currency": "usd", "unit_amount_decimal": "4.5"})
yearly = Price("fee", product=product.id, currency="usd", unit_amount_decimal=Decimal("12.50"))
text = Price("text", product=product.id, currency="usd", unit_amount_decimal="12.50", recurring={"interval": "year"})
whole = Price("whole", product=product.id, currency="usd", unit_amount_decimal=12)
customer = Customer("acme", name="Acme", email=pulumi.Output.from_input("billing@example.com"))
Subscription(
    "acme",
    customer=customer.id,
    items={
        "fee": {"price": yearly.id, "quantity": 3},
        "data": {
            "price_data": {
                "currency": "usd",
                "product": product.id,
                "recurring": {"interval": "month"},
                "unit_amount_decimal": Decimal("0.5"),
            },
            "discounts": [{"coupon": pulumi.Output.from_input("half")}],
        },
    },
    add_invoice_items=[{"price_data": {"currency": "usd", "product": product.id, "unit_amount_decimal": "7"}}],
    application_fee_percent="2.5",
    transfer_data={"destination": "acct_1", "amount_percent": Decimal("12.5")},
)
usage.record("calls", customer="cus_1", value=1200)

Fee(99.95)  # incompatible type "float"
Plan("Llama", fee="10.00")  # did you mean "fees"?
Subscriber("acme", alpaca, seat=3)  # did you mean "seats"?
PublishedPlan("llama", "Llama")  # expected "Plan |
Price("a", product=product.id, currency="usd", unit_amount_decimal=0.04)  # incompatible type "float"
Price("b", product=product.id, unit_amount_decimal="4")  # Missing named argument "currency"
Price("c", product=product.id, currency="usd", unit_amout=4)  # did you mean "unit_amount"?
Price("d", product=product.id, currency="usd", unit_amount=4, recurring={"interval": "monthly"})  # "Recurring |
Price("e", product=product, currency="usd", unit_amount=4)  # incompatible type "Product"
Price("f", product=product.id, currency="usd", tiers=[{"up_to": "infinity", "unit_amount": 4}])  # "Tier |
Price("g", product=product.id, currency="usd", unit_amount="4")  # incompatible type "str"
Meter("h", display_name="x", event_name="x", default_aggregation={"formula": "average"})  # "Aggregation |
Customer("i", name="Acme", emial="billing@example.com")  # did you mean "email"?
Subscription("j", customer=customer.id, items=[{"price": yearly.id}])  # incompatible type "list[
Subscription("k", customer=customer.id, items={"fee": {"price": yearly.id, "quantity": "3"}})  # "Item |
Subscription("l", customer=customer.id, items={}, cancel={"when": "later"})  # "Cancel |
Subscription("m", customer=customer.id, items={}, application_fee_percent=12.5)  # incompatible type "float"
DefaultPrice("n", product=product.id)  # Missing named argument "price"
print(yearly.lookupkey)  # maybe "lookup_key"?
usage.record("calls", customer="cus_1", value=1200.5)  # incompatible type "float"
usage.flush(timeout="5s")  # incompatible type "str"
"""


@pytest.mark.slow
def test_a_type_checker_finds_the_mistakes_of_a_program_outside_the_checkout(tmp_path: Path) -> None:
    file = tmp_path / "program.py"
    file.write_text(PROGRAM)
    command = [sys.executable, "-m", "mypy", "--cache-dir", str(tmp_path / "cache"), "--hide-error-context", file.name]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    found = dict(re.findall(r"^program\.py:(\d+): error: (.*)$", done.stdout, re.MULTILINE))
    lines = PROGRAM.splitlines()
    expected = {str(number): line.partition("  # ")[2] for number, line in enumerate(lines, 1) if "  # " in line}
    assert len(expected) == 21
    assert found.keys() == expected.keys(), done.stdout + done.stderr
    missed = {lines[int(number) - 1]: found[number] for number, text in expected.items() if text not in found[number]}
    assert not missed


def test_every_package_of_the_wheel_says_that_it_is_typed(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"][
        "packages"
    ]
    assert {name.partition("/")[0] for name in names if ".dist-info" not in name} == set(packages)
    assert {f"{package}/py.typed" for package in packages} <= set(names)
