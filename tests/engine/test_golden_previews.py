"""What a reviewer reads before a change: `preview --diff` and `preview --json` of eight changes, as golden files.

The files in `golden/` are the text of `--diff` (the warnings, which the engine prints apart, at its end) and, of
`--json`, the steps with what changed and why. Ids are replaced by names. After a change that is meant, run

    GOLDEN=write .venv/bin/pytest tests/engine/test_golden_previews.py

and read the difference as a reviewer would: old -> new, and nothing else.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from tests.engine.conftest import Project
from tests.engine.support import IMPORTS, ids

GOLDEN: Final = Path(__file__).parent / "golden"
WRITE: Final = os.environ.get("GOLDEN") == "write"

PROGRAM: Final = f"""from components.plan import PublishedPlan
from components.pricing import Fee, Overage, Plan, Usage, Version
from components.subscriber import Subscriber
{IMPORTS}
first = Plan("Alpaca.ai", fees=Fee("100.00"), usage=Usage("token", included=1_000, overage=Overage("0.04", per=100)))
second = Version(Plan("Alpaca.ai", fees=Fee("120.00"), usage=first.usage), rollout="now")
alpaca = PublishedPlan("alpaca-ai", {{1: first}}, event_name="alpaca_ai_tokens")
Subscriber("pacas-inc", alpaca, customer_name="Pacas Inc.", email="billing@example.com", seats=3)

meter = Meter("calls", display_name="Calls", event_name="calls", default_aggregation={{"formula": "sum"}})
product = Product("llama", name="Llama.ai", metadata={{"team": "growth"}})
basic = Price("basic", product=product.id, currency="usd", unit_amount=1000, recurring={{"interval": "month"}})
pro = Price("pro", product=product.id, currency="usd", unit_amount=5000, recurring={{"interval": "month"}})
calls = Price(
    "calls",
    product=product.id,
    currency="usd",
    lookup_key="llama:calls",
    recurring={{"interval": "month", "usage_type": "metered", "meter": meter.id}},
    billing_scheme="tiered",
    tiers_mode="graduated",
    tiers=[
        {{"up_to": 1_000, "unit_amount_decimal": "0"}},
        {{"up_to": 50_000, "unit_amount_decimal": "0.04"}},
        {{"up_to": "inf", "unit_amount_decimal": "0.03"}},
    ],
)
customer = Customer("herd", name="Herd Ltd.", email="billing@example.com")
Subscription(
    "herd",
    customer=customer.id,
    collection_method="send_invoice",
    days_until_due=30,
    items={{"plan": {{"price": basic.id, "quantity": 2}}, "calls": {{"price": calls.id}}}},
)
"""

#: What is changed in the program, by the name of the golden files.
CHANGES: Final[dict[str, tuple[str, str]]] = {
    "version-added": ("{1: first}", "{1: first, 2: second}"),
    "tier-added": (
        '{"up_to": "inf", "unit_amount_decimal": "0.03"},',
        '{"up_to": 100_000, "unit_amount_decimal": "0.03"},\n        {"up_to": "inf", "unit_amount_decimal": "0.02"},',
    ),
    "tier-inserted": (
        '{"up_to": 50_000,',
        '{"up_to": 20_000, "unit_amount_decimal": "0.045"},\n        {"up_to": 50_000,',
    ),
    "tier-bound-moved": ('"up_to": 50_000', '"up_to": 75_000'),
    "product-renamed": ('name="Llama.ai"', 'name="Llama.ai Cloud"'),
    "seats-changed": ("seats=3", "seats=5"),
    "item-removed": (', "calls": {"price": calls.id}}', "}"),
    "customer-moved": ('"plan": {"price": basic.id', '"plan": {"price": pro.id'),
}


@pytest.fixture(scope="module")
def applied(new_project: Callable[..., Project]) -> Project:
    """The program as it is applied before each change; previews leave it as it is."""
    project = new_project(PROGRAM)
    project.up().ok()
    return project


def without_ids(text: str, project: Project) -> str:
    """The text with what differs from run to run replaced: ids by the names of their resources."""
    for name, id_ in ids(project).items():
        text = text.replace(id_, f"<id of {name.replace('DefaultPrice', 'Product')}>")
    text = text.replace("04da6b54-80e4-46f7-96ec-b56ff0331ba9", "<unknown>")
    return re.sub(r"\b(acct|si|req)_\w+", r"<\1>", text)


def diff_text(project: Project) -> str:
    """What `preview --diff` prints, the warnings after it."""
    result = project.preview("--diff").ok()
    head, *steps = re.split(r"^(?= *\S+ ?\S+:\S+:\w+: \(\w+\)$|Resources:$)", result.stdout, flags=re.MULTILINE)
    # Resources that do not depend on each other are printed in any order; by their URN a component leads its children.
    *steps, totals = steps
    steps.sort(key=lambda step: (":Stack::" not in step, re.findall(r"\[urn=(.*)\]", step.replace("$", "|"))))
    warnings = "".join(f"{line}\n" for line in sorted(result.stderr.splitlines()))
    text = re.sub(r"^ *\[(id|urn)=.*\n", "", "".join([head, *steps, totals]), flags=re.MULTILINE)
    return without_ids(f"{text.strip()}\n" + (f"\n{warnings}" if warnings else ""), project)


def steps_text(project: Project) -> str:
    """What `preview --json` says of each step that is not `same`."""
    steps = []
    for step in project.preview_json()["steps"]:
        if step["op"] == "same":
            continue
        kept: dict[str, Any] = {"op": step["op"], "resource": "::".join(step["urn"].split("::")[2:])}
        for name in ("diffReasons", "replaceReasons", "detailedDiff"):
            if step.get(name):
                kept[name] = step[name]
        changed = list(kept.get("detailedDiff") or {})
        for name, inputs in (("old", "oldState"), ("new", "newState")):
            values = {path: value_at(step.get(inputs, {}).get("inputs", {}), path) for path in changed}
            if values:
                kept[name] = values
        steps.append(kept)
    steps.sort(key=lambda step: str(step["resource"]).replace("$", "|"))
    return without_ids(json.dumps(steps, indent=2) + "\n", project)


def value_at(inputs: Any, path: str) -> Any:
    """The value at a path such as `tiers[2].up_to`, or None."""
    for part in re.findall(r"[^.\[\]]+", path):
        if isinstance(inputs, list):
            inputs = inputs[int(part)] if int(part) < len(inputs) else None
        else:
            inputs = (inputs or {}).get(part)
    return inputs


def compare(name: str, text: str) -> None:
    """Compare with the golden file, or write it."""
    file = GOLDEN / name
    if WRITE:
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
    assert text == file.read_text(), f"{file.name} is another now; see the top of {Path(__file__).name}"


@pytest.mark.parametrize("change", CHANGES)
def test_a_reviewer_reads_what_changes(applied: Project, change: str) -> None:
    program = (applied.folder / "__main__.py").read_text()
    try:
        applied.edit(*CHANGES[change])
        compare(f"{change}.diff", diff_text(applied))
        compare(f"{change}.json", steps_text(applied))
    finally:
        applied.write(program)


@pytest.mark.parametrize("change", CHANGES)
def test_nothing_is_printed_that_does_not_change(change: str) -> None:
    """Under the stack, each line is marked as added, removed or changed, closes what such a line opened, or is new."""
    _, _, steps = (GOLDEN / f"{change}.diff").read_text().partition("(same)\n")
    steps = re.sub(r"^( *)\+ .*\(create\)\n(?:\1 {4}.*\n)*", "", steps, flags=re.MULTILINE)
    lines = steps[: steps.index("Resources:")].splitlines()
    assert [line for line in lines if not re.match(r" +([~+-] |\+-|[}\]])", line)] == []


@pytest.mark.skipif(WRITE, reason="they are being written")
def test_there_is_no_golden_file_without_a_change() -> None:
    expected = {f"{change}.{kind}" for change in CHANGES for kind in ("diff", "json")}
    assert {file.name for file in GOLDEN.iterdir()} == expected
