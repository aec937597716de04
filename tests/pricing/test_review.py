"""`pricing review` without an engine: a recorded preview of the engine, and two checkouts."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from pricing.evaluation import PlanVersion, PlanVersions, evaluate
from pricing.review import preview as review_preview
from pricing.review import text as review_text
from pricing.review.change import Preview, Step
from tests.pricing import changed
from tests.pricing.billed import ROOT

SAMPLE = ROOT / "docs/review/sample.jsonl"
#: The two versions that the sample is about.
TEN_MORE = (
    'Plan("Alpaca.ai", fees=Fee("110.00"), usage=Usage("token", included=20_000, overage=Overage("0.03", per=100)))'
)
PLANS = {
    "alpaca-ai": PlanVersions(
        2,
        {
            1: PlanVersion(
                {"license": "100.00 USD per seat and month", "usage": "0.04 USD per 100 tokens above 1,000"}
            ),
            2: PlanVersion(
                {"license": "120.00 USD per seat and month", "usage": "0.03 USD per 100 tokens above 5,000"}, "now"
            ),
        },
    ),
    "llama-ai": PlanVersions(1, {1: PlanVersion({"license": "9.00 EUR per seat and month; 10.00 USD ..."})}),
}


def read(preview: Mapping[str, Any] | str, plans: Mapping[str, PlanVersions] = PLANS) -> Preview:
    text = preview if isinstance(preview, str) else json.dumps(preview)
    return review_preview.read(text, project="stripe-pricing", stack="dev", after=plans)


def review(folder: Path, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run `pricing review` in a folder, where there is no engine."""
    return subprocess.run(
        [sys.executable, "-c", "from pricing.cli import main; raise SystemExit(main())", "review", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", **environ},
    )


@pytest.fixture(scope="module")
def checkouts(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The base and the head of the recorded change."""
    folder = tmp_path_factory.mktemp("checkouts")
    return changed.checkout(folder / "base", changed.BEFORE), changed.checkout(folder / "head", changed.after())


# -- the comment ------------------------------------------------------------------------------------------------------


def test_a_preview_of_the_engine_becomes_the_comment(checkouts: tuple[Path, Path]) -> None:
    done = review(checkouts[1], "--preview", str(changed.RECORDED))
    if os.environ.get("RECORD") == "write":
        changed.COMMENT.write_text(done.stdout, encoding="utf-8")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == changed.COMMENT.read_text(encoding="utf-8"), "see tests/pricing/changed.py"


def test_two_checkouts_without_state_key_and_engine_say_the_same(checkouts: tuple[Path, Path]) -> None:
    base, head = checkouts
    done = review(head, "--base", str(base))
    assert (done.returncode, done.stderr) == (0, "")
    shown, _, folded = done.stdout.partition("<details>")
    first, note, rest = re.split(r"(_Two checkouts are compared here, without the stack's state: .*_\n\n)", shown)
    assert note
    expected, _, ids = changed.COMMENT.read_text(encoding="utf-8").partition("<details>")
    assert first + rest == re.sub(r"_What is prorated today .*_\n\n", "", expected)
    # There are no ids; the resources are the same.
    assert re.findall(r"^\| \w+ \| \w+ `.*?`", folded, re.MULTILINE) == re.findall(
        r"^\| \w+ \| \w+ `.*?`", ids, re.MULTILINE
    )


def test_no_customer_can_be_recognised() -> None:
    recorded = json.dumps(changed.recorded())
    comment = changed.COMMENT.read_text(encoding="utf-8")
    for words in changed.PEOPLE:
        assert words in recorded or words in changed.BEFORE
        assert words not in comment


def test_names_and_addresses_are_taken_out_of_what_is_quoted() -> None:
    preview = changed.recorded()
    said = [
        "warning: Subscription 'kept' (sub_1): Kept Inc. <kept@example.com> pays, and other@example.org too\n",
        "warning: mail postmaster@example.net, Company 1\n",
    ]
    preview["diagnostics"] += [{"severity": "warning", "message": message} for message in said]
    for step in preview["steps"]:
        if step["urn"].endswith("Customer::kept"):
            # Whoever names a resource as the customer is called.
            step["urn"] = step["urn"].replace("::kept", "::Kept Inc.")
            step["op"] = "update"
    comment = review_text.comment(read(preview))
    assert "\\[customer\\] \\<\\[e-mail address\\]\\> pays, and \\[e-mail address\\] too" in comment
    assert "- mail \\[e-mail address\\], \\[customer\\]." in comment
    assert not any(words in comment for words in changed.PEOPLE)


def test_totals_are_those_of_an_independent_sum() -> None:
    """Fees by subscription: seats times the price of the version that `plan_versions` names."""
    prices = {("alpaca-ai", 1): 10_000, ("alpaca-ai", 2): 12_000, ("llama-ai", 1): 1_000}
    totals = [0, 0]
    for step in changed.recorded()["steps"]:
        for side, state in enumerate(("oldState", "newState")):
            inputs = step.get(state, {}).get("inputs", {})
            if not inputs or ":Subscription::" not in step["urn"] or inputs.get("currency", "usd") != "usd":
                continue
            name = step["urn"].rpartition("::")[2]
            if name == "herd":
                totals[side] += 2 * (1_000, 1_500)[side]
                continue
            ((plan, version),) = inputs["plan_versions"].items()
            each = 8_000 if name == "agreed" and side else prices[plan, version]
            totals[side] += each * inputs["items"]["license"]["quantity"]
    comment = changed.COMMENT.read_text(encoding="utf-8")
    before, after = (f"{total / 100:,.2f} USD a month" for total in totals)
    assert f"**+{(totals[1] - totals[0]) / 100:,.2f} USD a month (" in comment
    assert f": {after} instead of {before}." in comment


def test_a_preview_that_does_not_list_what_stays_the_same_is_enough() -> None:
    preview = changed.recorded()
    preview["steps"] = [step for step in preview["steps"] if step["op"] != "same"]
    found = read(preview)
    assert found.doubt is None
    comment = review_text.comment(found)
    assert "in fees of the declared subscriptions that change: 11,110.00 USD a month instead of 8,350.00 USD" in comment
    # Its price stays the same; the provider knew it.
    assert "Without 1 subscription whose prices are not known here." in comment
    assert "quantity 3 → 5, 30.00 USD a month → 50.00 USD a month" in comment


def test_what_somebody_else_writes_is_no_markup() -> None:
    preview = changed.recorded()
    said = "warning: @everyone see [this](https://example.com) <img src=x> | `code` #12"
    preview["diagnostics"] = [{"severity": "warning", "message": said}]
    comment = review_text.comment(read(preview))
    written = "- @\u200beveryone see \\[this\\](https:\u200b//example.com) \\<img src=x\\> \\| \\`code\\` \\#12."
    assert written in comment


def test_a_price_that_the_preview_does_not_know_is_no_zero() -> None:
    items = {"plan": {"price": "price_of_another_program", "quantity": 2}}
    step = Step("create", "Subscription", "x", "urn:pulumi:dev::p::t::x", "x", {}, {}, {"items": items})
    comment = review_text.comment(Preview("p", "dev", [step]))
    assert "Without 1 subscription whose prices are not known here." in comment
    assert "0.00" not in comment


# -- its length -------------------------------------------------------------------------------------------------------


def grown(plans: int, customers: int) -> tuple[dict[str, Any], dict[str, PlanVersions]]:
    """The recorded preview with its plan and one of its customers many times."""
    preview = changed.recorded()
    one: list[str] = []
    plan: list[str] = []
    rest: list[str] = []
    for step in preview["steps"]:
        name = step["urn"].rpartition("::")[2]
        into = one if name == "customer-1" else plan if name.startswith("alpaca-ai") else rest
        into.append(json.dumps(step))
    said = [json.dumps(each) for each in preview["diagnostics"] if "'customer-1'" in each["message"]]
    steps = [json.loads(step) for step in rest if "customer-" not in step]
    steps += [
        json.loads(step.replace("alpaca-ai", f"plan-{number}").replace("price_", f"price_{number}x"))
        for number in range(plans)
        for step in plan
    ]
    diagnostics = []
    for number in range(customers):
        of = number % plans

        def another(text: str, number: int = number, of: int = of) -> Any:
            text = text.replace("customer-1", f"customer-{number}").replace("Company 1", f"Company {number}")
            text = text.replace("sub_", f"sub_{number}x").replace("c1@", f"c{number}@")
            return json.loads(text.replace("alpaca-ai", f"plan-{of}").replace("price_", f"price_{of}x"))

        steps += [another(step) for step in one]
        diagnostics += [another(each) for each in said]
    summary: dict[str, int] = {}
    for step in steps:
        summary[step["op"]] = summary.get(step["op"], 0) + 1
    made = {"steps": steps, "diagnostics": diagnostics, "changeSummary": summary}
    return made, {f"plan-{number}": PLANS["alpaca-ai"] for number in range(plans)}


def test_fifty_plans_and_two_thousand_customers_fit_into_a_comment_that_counts_what_is_left_out() -> None:
    preview, plans = grown(50, 2_000)
    comment = review_text.comment(read(preview, plans))
    assert 30_000 < len(comment) < 60_000
    assert comment.count("<details>") == comment.count("</details>") == 1
    assert "2,002 pay more (+80,030.00 USD)" in comment
    assert comment.count(" offers v2 instead of v1.** Rollout `now`") == 50
    assert "**40 subscriptions**, each: item license moves from Price 'plan-7-license' to Price 'plan-7-v2-" in comment
    assert "together 8,000.00 USD a month → 9,600.00 USD a month" in comment
    left = re.search(r"\*\*([\d,]+) more resources left out: a comment cannot be longer", comment)
    rows = len(re.findall(r"^\| (?:created|updated|deleted|replaced) ", comment, re.MULTILINE))
    total = re.search(r"Ids and URNs of ([\d,]+) resources", comment)
    assert left is not None
    assert total is not None
    assert int(left[1].replace(",", "")) + rows == int(total[1].replace(",", ""))


def test_sections_that_nothing_can_shorten_are_cut_and_say_so() -> None:
    sections = [review_text.Section(f"{number}", ["x" * 2_000] * 2, ("line", "lines")) for number in range(40)]
    comment = review_text.fitted(sections)
    assert len(comment) < 60_000
    assert comment.endswith("**The rest is left out: a comment cannot be longer.**\n")


# -- what fails -------------------------------------------------------------------------------------------------------


def _halved(preview: dict[str, Any]) -> str:
    return json.dumps(preview)[:40_000]


def _without_summary(preview: dict[str, Any]) -> str:
    del preview["changeSummary"]
    return json.dumps(preview)


def _short_of_steps(preview: dict[str, Any]) -> str:
    preview["steps"] = preview["steps"][:-9]
    return json.dumps(preview)


def _cancelled(preview: dict[str, Any]) -> str:
    preview["diagnostics"] = [{"severity": "error", "message": "error: preview canceled\n"}]
    return json.dumps(preview)


@pytest.mark.parametrize(
    ("cut", "why"),
    [
        (_halved, "What pulumi preview --json printed breaks off, or is not the output of pulumi preview --json."),
        (lambda preview: "", "What pulumi preview --json printed is empty."),
        (_without_summary, "The preview has no summary, so it did not come to its end."),
        (_short_of_steps, "The preview counts {changes} steps and lists {fewer}."),
        (_cancelled, "The preview was interrupted."),
    ],
)
def test_a_preview_that_was_cut_short_is_not_to_be_trusted(
    checkouts: tuple[Path, Path], tmp_path: Path, cut: Any, why: str
) -> None:
    file = tmp_path / "preview.json"
    file.write_text(cut(changed.recorded()))
    done = review(checkouts[1], "--preview", str(file))
    assert done.returncode == 3
    changes = sum(step["op"] != "same" for step in changed.recorded()["steps"])
    fewer = sum(step["op"] != "same" for step in changed.recorded()["steps"][:-9])
    told = why.format(changes=changes, fewer=fewer)
    assert f"> **Do not trust this: the preview was cut short.** {told}" in done.stdout


def test_a_failure_is_one_block_without_keys_names_and_addresses() -> None:
    preview = changed.recorded()
    key = "sk_" + "live_" + "4eC39HqLyjWDarjtT1zdp7dc"
    said = f"error: {key}: ``` Kept Inc. ``` kept@example.com\x1b[31m\nline 2\n"
    exited = "error: an unhandled error occurred: program exited with non-zero exit code: 1\n"
    preview["diagnostics"] = [{"severity": "error", "message": each} for each in (said, exited)]
    comment = review_text.comment(read(preview))
    assert comment == (
        "<!-- pricing review stripe-pricing/dev -->\n## Pricing review: `dev`\n\n"
        "⛔ **The preview failed: nothing of this change can be applied.**\n\n"
        "````text\nsk_live_***: ``` [customer] ``` [e-mail address]\ufffd[31m\nline 2\n````\n"
    )


def test_a_long_failure_keeps_its_beginning_and_its_end() -> None:
    comment = review_text.comment(Preview("p", "dev", failure="begin " + "x" * 100_000 + " end"))
    assert len(comment) < 9_000
    assert "text\nbegin x" in comment
    assert "x end\n```" in comment


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        (
            ('fees=Fee("100.00")', 'fees=Fee("101.00")'),
            "alpaca-ai v1 is published in dev; add v2 (license 100.00 USD -> 101.00 USD)",
        ),
        (('quantity": 2', 'quantity": -2'), "Subscription 'herd': items.plan.quantity: must be at least 0"),
        (
            ("llama = Pub", "llama = no\n    llama = Pub"),
            "line 10, in <module>\n    llama = no\n            ^^\nNameError",
        ),
    ],
)
def test_checkouts_that_cannot_be_applied_are_the_failure(
    checkouts: tuple[Path, Path], tmp_path: Path, edit: tuple[str, str], expected: str
) -> None:
    assert changed.BEFORE.count(edit[0]) == 1
    head = changed.checkout(tmp_path / "head", changed.BEFORE.replace(*edit))
    done = review(head, "--base", str(checkouts[0]))
    assert done.returncode == 3
    assert "⛔ **The preview failed" in done.stdout
    assert expected in done.stdout
    assert str(tmp_path) not in done.stdout


def test_the_same_twice_is_no_comment(checkouts: tuple[Path, Path]) -> None:
    done = review(checkouts[0], "--base", str(checkouts[0]))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "pricing: nothing changes in dev\n")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--base", "nowhere"), "there is no Pulumi.dev.yaml in nowhere; run it in a project's folder"),
        (("--preview", "nowhere"), "nowhere: No such file or directory"),
        (("--base", ".", "--stack", "other"), "there is no Pulumi.other.yaml in ."),
        ((), "there is no pulumi on PATH: source script/bootstrap, or give a preview that was made (--preview FILE)"),
        (("--base", ".", "--preview", "x"), "argument --preview: not allowed with argument --base"),
    ],
)
def test_what_makes_no_sense_is_one_sentence_and_code_3(
    checkouts: tuple[Path, Path], arguments: tuple[str, ...], sentence: str
) -> None:
    done = review(checkouts[1], *arguments)
    assert (done.returncode, done.stdout) == (3, "")
    assert sentence in done.stderr.splitlines()[-1]


# -- two checkouts ----------------------------------------------------------------------------------------------------


def test_the_code_of_a_checkout_gets_no_secret(tmp_path: Path) -> None:
    program = "import os\nraise SystemError(sorted(os.environ))"
    head = changed.checkout(tmp_path / "head", program)
    key = "sk_" + "test_" + "4eC39HqLyjWDarjtT1zdp7dc"
    done = review(
        head, "--base", str(head), STRIPE_API_KEY=key, PULUMI_CONFIG_PASSPHRASE="secret", GITHUB_TOKEN="x", CI="true"
    )
    told = re.search(r"SystemError: \[(.*)\]", done.stdout)
    assert told is not None, done.stdout
    assert set(re.findall(r"'(\w+)'", told[1])) <= {"PATH", "PYTHONPATH", "LC_CTYPE", "HOME"}


def test_each_checkout_has_its_own_modules(tmp_path: Path) -> None:
    program = "from rates import plan\nfrom components.plan import PublishedPlan\nPublishedPlan('alpaca-ai', plan)"
    rates = "from components.pricing import Plan, Version\nplan = {1: Plan('A', fees='1.00')"
    for name, more in (("base", "}"), ("head", ", 2: Version(Plan('A', fees='2.00'), rollout='keep')}")):
        changed.checkout(tmp_path / name, program)
        (tmp_path / name / "rates.py").write_text(rates + more)
    done = review(tmp_path / "head", "--base", str(tmp_path / "base"))
    assert done.returncode == 0, done.stderr
    assert "| license | 1.00 USD per seat and month | **2.00 USD per seat and month** |" in done.stdout
    assert "**No subscription is declared in the program**, so nobody's bill changes with it." in done.stdout
    assert "Rollout `keep`" in done.stdout


def test_a_new_name_with_an_alias_is_the_same_resource(tmp_path: Path) -> None:
    program = (
        "import pulumi\nfrom components.resources import Product\n"
        "Product('{name}', name='Lima'{opts})\nProduct('other', name='{other}')\n"
    )
    base = changed.checkout(tmp_path / "base", program.format(name="lima", opts="", other="A"))
    opts = ", opts=pulumi.ResourceOptions(aliases=[pulumi.Alias(name='lima')])"
    head = changed.checkout(tmp_path / "head", program.format(name="peru", opts=opts, other="B"))
    done = review(head, "--base", str(base))
    assert "- Changed: 1 product (`other`): name `A` → `B`\n" in done.stdout
    assert "peru" not in done.stdout.partition("<details>")[0]


def test_what_a_program_reads_as_its_last_state_is_the_base(tmp_path: Path) -> None:
    found = evaluate(changed.checkout(tmp_path / "head", changed.after()), "dev")
    assert found.failure is None
    # Without a state it has no subscriber on the version before.
    assert found.warnings == []
    assert found.plans["alpaca-ai"] == PLANS["alpaca-ai"]


# -- with an impact ---------------------------------------------------------------------------------------------------

LIMITS = "  stripe-pricing:guardrails:\n    customersPayingMore: 50%\n"
MEANT = "  stripe-pricing:acknowledged:\n    - alpaca-ai@2 customersPayingMore\n"


@pytest.mark.parametrize(("config", "code"), [(LIMITS, 2), (LIMITS + MEANT, 0), ("", 0)])
def test_an_impact_comes_first_and_its_limits_decide(
    checkouts: tuple[Path, Path], tmp_path: Path, config: str, code: int
) -> None:
    program = changed.after().replace(changed.SECOND, TEN_MORE)
    head = changed.checkout(tmp_path / "head", program, config=config)
    done = review(
        head,
        "--base",
        str(checkouts[0]),
        "--from",
        str(SAMPLE),
        "--svg",
        "impact.svg",
        "--chart",
        "https://x.test/a.svg",
    )
    assert (done.returncode, done.stderr) == (code, "")
    top, _, rest = done.stdout.partition("in fees of the declared subscriptions")
    assert "**Impact of alpaca-ai@1 → alpaca-ai@2, from closed invoices**" in top
    assert "**+1,175.05 USD a month (+2.6%)**: 108 customers pay 46,152.95 USD instead of 44,977.90 USD." in top
    assert ("⛔ **Exceeds a limit**: 67.6% of the customers pay more (USD)" in top) == (code == 2)
    assert ("⚠️ Exceeds a limit (acknowledged): 67.6%" in top) == (MEANT in config)
    assert "![Bill against usage, alpaca-ai@1 and alpaca-ai@2](https://x.test/a.svg)" in top
    assert "<details><summary>Who pays what, and how far to trust it</summary>" in rest
    assert (head / "impact.svg").read_text().startswith("<svg")


def test_an_impact_that_cannot_be_measured_is_said_and_is_an_error(
    checkouts: tuple[Path, Path], tmp_path: Path
) -> None:
    other = tmp_path / "other.jsonl"
    other.write_text(SAMPLE.read_text().replace('"plan":"alpaca-ai"', '"plan":"llama-ai"'))
    done = review(checkouts[1], "--preview", str(changed.RECORDED), "--from", str(other))
    assert done.returncode == 3
    why = (
        "_Who pays what with alpaca-ai@1 → alpaca-ai@2 is not known: other.jsonl is a sample of llama-ai, not of alpaca"
    )
    assert why in done.stdout
    assert "### Plans" in done.stdout


def test_plans_of_a_program_that_does_not_run_without_the_engine_are_shown_in_one_line(tmp_path: Path) -> None:
    head = changed.checkout(tmp_path / "head", "import pulumi\npulumi.Config('x').require('needed')")
    done = review(head, "--preview", str(changed.RECORDED))
    assert done.returncode == 0, done.stderr
    assert "Versions and rollouts are not shown: the program does not run without the engine (" in done.stdout
    assert (
        "**`alpaca-ai`**: 100.00 USD per seat and month, 0.04 USD per 100 tokens above 1,000 → 120.00 USD"
        in done.stdout
    )


# -- plans ------------------------------------------------------------------------------------------------------------

ONE, TWO = PlanVersion({"license": "1.00 USD"}), PlanVersion({"license": "2.00 USD"}, "keep")


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (
            None,
            PlanVersions(1, {1: ONE}),
            "**`a` is new** and offers v1.\n\n| charge | v1 |\n| --- | --- |\n| license |",
        ),
        (PlanVersions(1, {1: ONE}), None, "**`a` leaves the program.** It offers v1: 1.00 USD"),
        (
            PlanVersions(1, {1: ONE}),
            PlanVersions(1, {1: ONE, 2: TWO}),
            "**`a`** still offers v1.\n\nv2 is added and not offered: 2.00 USD",
        ),
        (
            PlanVersions(1, {1: ONE}),
            PlanVersions(2, {1: ONE, 2: TWO}),
            "Rollout `keep`: declared subscribers on another version stay on it.\n\n| charge | v1 | v2 |",
        ),
        (
            PlanVersions(2, {1: ONE, 2: TWO}),
            PlanVersions(1, {1: ONE, 2: TWO}),
            "**`a` offers v1 instead of v2.** v1 declares no rollout: subscribers on another version stay on it.",
        ),
        (
            PlanVersions(2, {1: ONE, 2: TWO}),
            PlanVersions(2, {2: TWO}),
            "**`a`** still offers v2.\n\nv1 leaves the program.",
        ),
        (
            PlanVersions(1, {1: ONE}),
            PlanVersions(1, {1: PlanVersion(ONE.charges, trial_days=14)}),
            "**`a`** still offers v1.\n\n| charge | v1 (before) | v1 (now) |\n| --- |",
        ),
        (
            PlanVersions(1, {1: ONE}),
            PlanVersions(1, {1: PlanVersion(ONE.charges, "now", trial_days=14)}),
            "| license | 1.00 USD | unchanged |\n| trial | none | **14 days** |",
        ),
        (
            PlanVersions(1, {1: ONE}),
            PlanVersions(1, {1: PlanVersion(ONE.charges, "now")}),
            "**`a`** still offers v1.\n\nIts rollout is `now` instead of `none`.",
        ),
    ],
)
def test_each_plan_is_shown_old_and_new(before: PlanVersions | None, after: PlanVersions | None, expected: str) -> None:
    made = Preview("p", "dev", (), {"a": before} if before else {}, {"a": after} if after else {})
    comment = review_text.comment(made)
    assert expected in comment.partition("### Plans\n\n")[2]


def test_what_is_archived_adopted_and_given_another_key_is_listed() -> None:
    def step(op: Any, kind: str, name: str, old: dict[str, Any], new: dict[str, Any]) -> Step:
        return Step(
            op, kind, name, f"urn:pulumi:dev::p::pulumi-python:dynamic/stripe:{kind}::{name}", name, old, old, new
        )

    steps = [
        step("update", "Price", "old", {"lookup_key": "a:fee"}, {"active": False}),
        step("create", "Price", "new", {}, {"lookup_key": "a:fee"}),
        step("update", "Price", "other", {}, {"lookup_key": "b:fee"}),
        step("update", "Product", "back", {"active": False}, {}),
        step("adopt", "Customer", "known", {}, {"adopt": "cus_1"}),
        step("delete", "Meter", "calls", {"event_name": "calls"}, {}),
        step("delete", "Customer", "kept", {"on_delete": "keep"}, {}),
        Step("create", "aws:s3:Bucket", "logs", "urn:pulumi:dev::p::aws:s3:Bucket::logs"),
    ]
    comment = review_text.comment(Preview("p", "dev", steps))
    for line in (
        "- Created: 1 price (`new`), 1 aws:s3:Bucket (`logs`)",
        "- Adopted: 1 customer (`known`)",
        "- Archived or deactivated: 1 price (`old`)",
        "- Active again: 1 product (`back`)",
        "- Lookup keys that move: `a:fee` from `old` to `new`",
        "- Changed: 1 price (`other`): lookup_key none → `b:fee`",
        "- Deactivated: 1 meter (`calls`)",
        "- Kept in Stripe: 1 customer (`kept`)",
    ):
        assert f"{line}\n" in comment, line
