"""`pricing review` on previews that the real engine makes."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from tests.engine.conftest import Project, Result
from tests.engine.support import control, ids
from tests.pricing import changed
from tests.pricing.billed import seconds
from tests.pricing.test_impact_command import RECOMPUTED, USAGE, headline


@pytest.fixture(scope="module")
def applied(new_project: Callable[..., Project]) -> Project:
    """The program as it is applied before the change."""
    project = new_project(changed.BEFORE)
    project.up().ok()
    return project


def review(project: Project, *arguments: str, env: dict[str, str] | None = None) -> Result:
    """Run `pricing review` in the project's folder."""
    done = subprocess.run(
        [sys.executable, "-c", "from pricing.cli import main; raise SystemExit(main())", "review", *arguments],
        cwd=project.folder,
        env={**project.environ, **(env or {})},
        capture_output=True,
        text=True,
        timeout=project.timeout,
        check=False,
    )
    return Result("pricing review", done.returncode, done.stdout, done.stderr)


def test_the_recorded_preview_is_what_the_engine_prints(applied: Project) -> None:
    applied.write(changed.after())
    try:
        made = applied.run("preview", "--json", "--show-sames").ok().stdout
    finally:
        applied.write(changed.BEFORE)
    text = changed.without_noise(json.loads(made))
    if os.environ.get("RECORD") == "write":
        changed.RECORDED.write_text(text, encoding="utf-8")
    assert text == changed.RECORDED.read_text(encoding="utf-8"), "see tests/pricing/changed.py"


def test_it_previews_the_stack_itself_and_says_nothing_where_nothing_changes(applied: Project) -> None:
    before = review(applied)
    applied.write(changed.after())
    try:
        changes = review(applied)
    finally:
        applied.write(changed.BEFORE)
    assert (before.code, before.stdout, before.stderr) == (0, "", "pricing: nothing changes in dev\n")
    assert changes.code == 0, changes.stderr
    expected = changed.COMMENT.read_text(encoding="utf-8").partition("<details>")[0]
    assert changes.stdout.startswith(expected)


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        (
            ('fees=Fee("100.00")', 'fees=Fee("101.00")'),
            "alpaca-ai v1 is published in dev; add v2 (license 100.00 USD -> 101.00 USD)",
        ),
        (('duration="once"', 'duration="monthly"'), "Coupon resource 'summer' has a problem: duration: must be"),
        (("llama = Pub", "llama = no\n    llama = Pub"), "NameError: name 'no' is not defined"),
    ],
)
def test_a_preview_that_fails_is_the_comment(applied: Project, edit: tuple[str, str], expected: str) -> None:
    applied.edit(*edit)
    try:
        failed = review(applied)
    finally:
        applied.write(changed.BEFORE)
    assert failed.code == 3
    assert failed.stdout.startswith("<!-- pricing review stripe-pricing/dev -->\n## Pricing review: `dev`\n\n⛔ **The ")
    assert expected in failed.stdout
    assert str(applied.folder) not in failed.stdout
    assert "###" not in failed.stdout


def test_a_stack_that_is_not_there_and_an_engine_that_is_not_there(applied: Project) -> None:
    no_stack = review(applied, "--stack", "nope")
    no_engine = review(applied, env={"PATH": "/nowhere"})
    assert (no_stack.code, no_engine.code) == (3, 3)
    assert "no stack named 'nope' found" in no_stack.stdout
    assert no_engine.stdout == ""
    assert no_engine.stderr.startswith("pricing: there is no pulumi on PATH: ")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_change_for_five_hundred_customers_has_the_totals_that_sql_makes_of_the_account(
    new_project: Callable[..., Project],
) -> None:
    program = f"""
from components.plan import PublishedPlan
from components.pricing import Fee, Overage, Plan, Usage, Version
from components.program import program
from components.subscriber import Subscriber

with program():
    alpaca = PublishedPlan("alpaca-ai", {{1: {changed.PLAN}}}, event_name="alpaca_ai_tokens")
    for number in range(500):
        name, seats = f"customer-{{number}}", number % 9 + 1
        Subscriber(name, alpaca, customer_name="Nomen Nescio", email=f"secret@{{number}}.example", seats=seats)
"""
    project = new_project(program)
    control(project, "POST", "clock", frozen=seconds("2026-05-03"))
    project.up().ok()
    chance = Random(500)
    found = ids(project)
    customers = [id_ for name, id_ in found.items() if name.startswith("Customer ")]
    meter = {"event_name": "alpaca_ai_tokens", "timestamp": seconds("2026-05-20")}
    for month in (6, 7, 8):
        meter["timestamp"] = seconds(f"2026-{month - 1:02d}-20")
        control(project, "POST", "clock", frozen=meter["timestamp"])
        for customer in customers:
            payload = {"stripe_customer_id": customer, "value": str(chance.choice(USAGE))}
            project.client.v1.billing.meter_events.create({**meter, "payload": payload})  # type: ignore[typeddict-item]
        control(project, "POST", "clock", frozen=seconds(f"2026-{month:02d}-03T02:00:00"))
        project.client.v1.customers.list({"limit": 1})
    project.edit(*changed.EDITS[0])

    picture = project.folder / "impact.svg"
    done = review(project, "--impact", "--through", "2026-08", "--svg", str(picture), "--chart", "https://x.test/a.svg")
    assert done.code == 0, done.stderr
    if folder := os.environ.get("SAMPLE"):
        Path(folder, "comment.md").write_text(done.stdout)
        Path(folder, "impact.svg").write_text(picture.read_text())

    # Who pays what, from the invoices.
    window = {"first": seconds("2026-06-01"), "last": seconds("2026-09-01") - 1}
    with sqlite3.connect(project.sandbox_file) as file:
        prices = {**window, "license": found["Price alpaca-ai-license"]}
        expected = file.execute(RECOMPUTED, prices).fetchone()
        (seats,) = file.execute(
            "SELECT SUM(json_extract(each.value, '$.quantity')) FROM objects, json_each(body, '$.items.data') AS each "
            "WHERE kind = 'subscription' AND json_extract(each.value, '$.price.id') = ?",
            (prices["license"],),
        ).fetchone()
    assert headline(done.stdout) == list(expected)
    assert expected[0] == 500
    # What the declared subscriptions pay by seat.
    fees = f"{seats * 120:,.2f} USD a month instead of {seats * 100:,.2f} USD a month. 500 pay more"
    assert fees in done.stdout
    assert "**500 subscriptions**, each: item license moves from Price" in done.stdout
    assert len(done.stdout) < 60_000
    for words in ("Nomen", "secret@", ".example"):
        assert words not in done.stdout
