"""`pricing review` on previews that the real engine makes."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable

import pytest

from tests.engine.conftest import Project, Result
from tests.pricing import changed


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
        changes, with_account = review(applied), review(applied, "--impact")
    finally:
        applied.write(changed.BEFORE)
    assert (before.code, before.stdout, before.stderr) == (0, "", "pricing: nothing changes in dev\n")
    assert changes.code == 0, changes.stderr
    expected = changed.COMMENT.read_text(encoding="utf-8").partition("<details>")[0]
    assert changes.stdout.startswith(expected)
    # They have all just begun, so that nearly a month is left; the second decides.
    assert re.search(
        r"\*\*Prorated if applied now: \+1,5\d\d\.\d\d USD\*\* for 15 subscriptions, on their next invoices, for the "
        r"rest of their periods, until \S+ \(the largest: `customer-11` \+2\d\d\.\d\d USD, ",
        with_account.stdout,
    ), with_account.stdout


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
