"""A change of a program that does a bit of everything, and the engine's preview of it, recorded.

`previews/change.json` is the output of `pulumi preview --json --show-sames` without what differs from run to run.
`tests/engine/test_review.py` compares it with the engine; after a change that is meant, run

    RECORD=write script/test tests/engine/test_review.py tests/pricing/test_review.py

and read the difference of `previews/change.md`, the comment, as a reviewer would.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.pricing.billed import ROOT

_PRICING = "from pricing.cli import main; raise SystemExit(main())"
FOLDER = Path(__file__).parent / "previews"
RECORDED = FOLDER / "change.json"
COMMENT = FOLDER / "change.md"
PLAN = 'Plan("Alpaca.ai", fees=Fee("100.00"), usage=Usage("token", included=1_000, overage=Overage("0.04", per=100)))'
SECOND = 'Plan("Alpaca.ai", fees=Fee("120.00"), usage=Usage("token", included=5_000, overage=Overage("0.03", per=100)))'
BEFORE = f"""
from components.plan import PublishedPlan
from components.pricing import Fee, Overage, Plan, Usage, Version
from components.program import program
from components.resources import Coupon, Customer, Price, Product, Subscription
from components.subscriber import Subscriber

with program():
    alpaca = PublishedPlan("alpaca-ai", {{1: {PLAN}}}, event_name="alpaca_ai_tokens")
    llama = PublishedPlan("llama-ai", Plan("Llama.ai", fees=Fee({{"usd": "10.00", "eur": "9.00"}})))
    welcome = Coupon("welcome", percent_off=20, duration="repeating", duration_in_months=3)
    summer = Coupon("summer", percent_off=10, duration="once")
    Subscriber("agreed", alpaca, customer_name="Nomen Nescio", email="secret@example.com", seats=2)
    Subscriber("kept", alpaca.version(1), customer_name="Kept Inc.", email="kept@example.com", seats=4)
    Subscriber("euro", llama, customer_name="Euro AG", email="euro@example.com", seats=7, currency="eur")
    Subscriber("leaves-1", alpaca, customer_name="Leaver Ltd.", email="leaver@example.com", seats=3)
    Subscriber("leaves-2", llama, customer_name="Leaver Two Ltd.", email="two@example.com", seats=3)
    Subscriber("seats", llama, customer_name="Seats Ltd.", email="seats@example.com", seats=3)
    for number in range(12):
        Subscriber(
            f"customer-{{number}}",
            alpaca,
            customer_name=f"Company {{number}}",
            email=f"c{{number}}@example.com",
            seats=number + 1,
        )
    product = Product("lima", name="Lima", metadata={{"team": "growth"}})
    basic = Price("basic", product=product.id, currency="usd", unit_amount=1000, recurring={{"interval": "month"}})
    herd = Customer("herd", name="Herd Ltd.", email="billing@example.com")
    Subscription(
        "herd",
        customer=herd.id,
        collection_method="send_invoice",
        days_until_due=30,
        items={{"plan": {{"price": basic.id, "quantity": 2}}}},
    )
"""
#: What the pull request changes.
EDITS = (
    (f"{{1: {PLAN}}}", f'{{1: {PLAN}, 2: Version({SECOND}, rollout="now")}}'),
    ("range(12)", "range(13)"),
    ('    Subscriber("leaves-1", alpaca, customer_name="Leaver Ltd.", email="leaver@example.com", seats=3)\n', ""),
    ('    Subscriber("leaves-2", llama, customer_name="Leaver Two Ltd.", email="two@example.com", seats=3)\n', ""),
    ('email="seats@example.com", seats=3', 'email="seats@example.com", seats=5, coupon=summer.id'),
    ('email="secret@example.com", seats=2', 'email="secret@example.com", seats=2, own=[Fee("80.00")]'),
    ('name="Lima"', 'name="Lima Cloud"'),
    ("unit_amount=1000", "unit_amount=1500"),
    ("percent_off=20", "percent_off=30"),
    ('name="Herd Ltd."', 'name="Herd Limited"'),
)
#: Names and e-mail addresses of its customers.
PEOPLE = ("Nomen Nescio", "Kept Inc", "Euro AG", "Leaver", "Seats Ltd", "Company", "Herd L", "example.com", "secret@")


def after(program: str = BEFORE) -> str:
    """The program with all edits."""
    for old, new in EDITS:
        assert program.count(old) == 1, old
        program = program.replace(old, new)
    return program


def checkout(folder: Path, program: str, *, stack: str = "dev", config: str = "") -> Path:
    """A folder with a project and a program."""
    folder.mkdir(exist_ok=True)
    (folder / "Pulumi.yaml").write_text("name: stripe-pricing\nruntime: python\n")
    (folder / f"Pulumi.{stack}.yaml").write_text(f"config:\n  stripe-pricing:mode: sandbox\n{config}")
    (folder / "__main__.py").write_text(program)
    return folder


def reviewed(folder: Path, seats: Sequence[int], sample: Path) -> str:
    """The comment of a change from version 1 to version 2 for subscribers with these seats, from two checkouts."""
    of_all = (
        "from components.plan import PublishedPlan\nfrom components.pricing import Fee, Overage, Plan, Usage, Version\n"
        "from components.subscriber import Subscriber\n"
        f'alpaca = PublishedPlan("alpaca-ai", {{1: {PLAN}}}, event_name="tokens")\n'
        f"for number, seats in enumerate({list(seats)}):\n"
        '    name, email = "Nomen Nescio", "secret@example.com"\n'
        '    Subscriber(f"customer-{number}", alpaca, customer_name=name, email=email, seats=seats)\n'
    )
    base = checkout(folder / "base", of_all)
    head = checkout(folder / "head", of_all.replace(*EDITS[0]))
    done = subprocess.run(
        [sys.executable, "-c", _PRICING, "review", "--base", str(base), "--from", str(sample), "--svg", "impact.svg"],
        cwd=head,
        capture_output=True,
        text=True,
        timeout=600,
        env={"PYTHONPATH": str(ROOT), "PATH": os.defpath},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def recorded() -> dict[str, Any]:
    """The recorded preview."""
    found: dict[str, Any] = json.loads(RECORDED.read_text(encoding="utf-8"))
    return found


def without_noise(preview: Mapping[str, Any]) -> str:
    """A preview in a stable order, without times, traces and the engine's own ids; Stripe's ids are numbered."""
    noise = {"stackTrace", "sourcePosition", "created", "modified", "__provider", "provider", "dependencies", "account"}

    def kept(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: kept(each) for name, each in sorted(value.items()) if name not in noise}
        if isinstance(value, list) and all(isinstance(each, str) for each in value):
            return sorted(value)
        return [kept(each) for each in value] if isinstance(value, list) else value

    steps = sorted(
        (kept(step) for step in preview["steps"] if "pulumi:providers:" not in step["urn"]),
        key=lambda step: (step["urn"], step["op"]),
    )
    said = sorted((kept(each) for each in preview["diagnostics"]), key=lambda each: str(each["message"]))
    text = json.dumps(
        {"changeSummary": preview["changeSummary"], "diagnostics": said, "steps": steps}, indent=1, ensure_ascii=False
    )
    numbers: dict[str, str] = {}
    for kind in ("cus", "mtr_test", "price", "prod", "si", "sub"):
        for id_ in dict.fromkeys(re.findall(rf"\b{kind}_[A-Za-z0-9]{{8,}}\b", text)):
            numbers[id_] = f"{kind}_{len(numbers) + 1:03}"
    for coupon in dict.fromkeys(re.findall(r'"id": "([A-Za-z0-9]{8})"', text)):
        numbers[coupon] = f"coupon_{len(numbers) + 1:03}"
    return re.sub("|".join(map(re.escape, numbers)), lambda id_: numbers[id_[0]], text) + "\n"
