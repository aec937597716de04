"""An impact as a reviewer sees it: the Markdown, the chart, and the page to explore it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from decimal import Decimal
from random import Random
from xml.etree import ElementTree

import pytest

from components.pricing import Fee, Plan, Tier, Usage
from components.rating import rate_lines
from pricing.impact import chart
from pricing.impact.comparison import Comparison, Impact
from pricing.impact.report import LONGEST, bounded, markdown
from pricing.invoices import Billed, BilledLine, Charged
from tests.pricing.billed import seconds
from tests.pricing.test_impact import NOW, V1, V2, tiered


def many(customers: int, old: Plan, new: Plan, *, currency: str = "usd", day: str = "15") -> Comparison:
    """A comparison of customers who have used this and that."""
    chance = Random(3)
    comparison = Comparison("alpaca-ai", {1: old, 2: new}, 1, 2)
    for number in range(customers):
        charged = []
        for charge in old.charges:
            units = chance.choice([0, 700, 26_000, 180_000]) if isinstance(charge, Usage) else number % 9 + 1
            lines = tuple(
                BilledLine(line.quantity, line.amount, line.unit_amount)
                for line in rate_lines(charge.key, old.rate(charge, currency), units)
            )
            period = ("2026-09", "2026-10") if isinstance(charge, Usage) else ("2026-10", "2026-11")
            start, end = (seconds(f"{month}-{day}") for month in period)
            charged.append(Charged(1, charge.key, start, end, lines))
        name = f"{number:05d}"
        comparison.add(
            Billed(f"i-{name}", f"c-{name}", f"s-{name}", currency, seconds(f"2026-10-{day}"), tuple(charged))
        )
    return comparison


def drawn(comparison: Comparison) -> tuple[Impact, chart.Curve]:
    impact = comparison.result(now=NOW)
    curve = chart.curve(comparison, impact)
    assert curve is not None
    return impact, curve


def test_the_money_comes_first() -> None:
    report = markdown(many(20, V1, V2).result(now=NOW))
    title, money = report.split("\n\n")[:2]
    assert title == "## Pricing impact: alpaca-ai@1 → alpaca-ai@2"
    assert re.match(r"\*\*\+[\d.,]+ USD a month \(\+[\d.]+%\)\*\*: 20 customers pay ", money)


def test_the_report_of_two_thousand_customers_is_one_comment() -> None:
    report = markdown(many(2_000, V1, V2).result(now=NOW))
    assert "2,000 customers pay" in report
    assert len(report) < 5_000


def test_the_report_of_fifty_charges_of_twenty_tiers_is_one_comment() -> None:
    tiers = [Tier("0.04", per=100, up_to=end) for end in range(1_000, 20_000, 1_000)]
    usage = [Usage("token", key=f"usage-{number}", tiers=[*tiers, Tier("0.01", per=100)]) for number in range(50)]
    dearer = [each.model_copy(update={"included": 500}) for each in usage]
    report = markdown(many(6, Plan("Many", usage=usage), Plan("Many", usage=dearer)).result(now=NOW))
    assert len(report) < LONGEST
    assert "lines reproduced to the cent" in report.partition("### How far to trust this")[2]
    assert "6 customers pay" in report


def test_what_a_comment_does_not_take_is_cut_off_and_said() -> None:
    text = bounded("a line of text\n" * 10_000)
    assert len(text) <= LONGEST
    assert text.endswith("a line of text\n\n**The rest is cut off: a comment cannot be longer.**\n")


def test_a_month_in_which_few_customers_begin_is_shown_with_the_next() -> None:
    """Three renew on 29 November and nine on 15 December: November alone would show three customers' change."""
    comparison = many(3, V1, V2, day="29")
    for number, (name, there) in enumerate(many(9, V1, V2)._subscriptions.items()):
        there.customer = f"c-other-{number}"
        comparison._subscriptions[f"other-{name}"] = there
    report = markdown(comparison.result(now=NOW))
    assert re.search(r"\| 2026-11 to 2026-12 \| \+[\d.,]+ USD \| 12 \|\n\| 2027-01 to 2027-10, each \|", report), report


def test_a_currency_of_few_customers_is_counted_and_not_shown() -> None:
    old, new = (Plan("E", fees=Fee({"usd": each, "eur": each})) for each in ("100.00", "110.00"))
    comparison = many(9, old, new)
    for name, there in many(3, old, new, currency="eur")._subscriptions.items():
        there.customer = f"{there.customer}-eur"
        comparison._subscriptions[f"{name}-eur"] = there
    report = markdown(comparison.result(now=NOW))
    assert "Not shown, because groups of fewer than five would show a customer: 3 who pay in eur." in report
    assert "EUR" not in report.partition("### Who pays what")[2]


def test_the_picture_is_whole_marks_the_break_even_and_has_a_dark_form() -> None:
    impact, curve = drawn(many(40, V1, V2))
    picture = chart.svg(impact, curve)
    root = ElementTree.fromstring(picture)
    texts = [node.text for node in root.iter() if node.tag.endswith("text")]
    [crossing] = impact.currencies[0].break_even["usage"]
    assert f"break-even {crossing:,.0f}" in texts
    assert {"alpaca-ai@1", "alpaca-ai@2"} <= set(texts)
    [rug] = (node.get("d") or "" for node in root.iter() if node.get("class") == "rug")
    assert rug.count("M") == 40
    assert "prefers-color-scheme:dark" in picture
    assert "<script" not in picture
    assert picture.count("http") == 1  # its namespace


def test_a_plan_without_usage_is_drawn_along_its_seats() -> None:
    old, new = (Plan("S", fees=Fee(each)) for each in ("10.00", "12.00"))
    impact, curve = drawn(many(20, old, new))
    assert curve.along is None
    assert curve.points[3] == (Decimal(3), Decimal(3_000), Decimal(3_600))
    assert "Bill a month against seats" in chart.svg(impact, curve)


def test_the_page_asks_no_network_and_holds_no_customer() -> None:
    impact, curve = drawn(many(40, V1, V2))
    page = chart.html(impact, curve)
    assert "default-src 'none'" in page
    assert not re.search(r"https?://|src=|@import|url\(", page)
    assert not any(each.customer in page for each in impact.currencies[0].customers)
    assert page.count("</script>") == 1


@pytest.mark.skipif(shutil.which("node") is None, reason="there is no JavaScript engine")
def test_the_page_rates_as_stripe_does() -> None:
    """Its script against the rating that the sandbox's invoices hold, on tiers of each kind and packages."""
    chance = Random(11)
    cases = []
    for _ in range(150):
        ends = sorted(chance.sample(range(1, 400), 3))
        rates = [Decimal(chance.randint(1, 99_999)) / 10_000 for _ in range(4)]
        flats = [chance.choice([None, chance.randint(1, 900)]) for _ in range(4)]
        plan = tiered(ends, rates, flats, chance.choice(["graduated", "volume"]))
        if chance.random() < 0.3:
            how = chance.choice(["up", "down"])
            plan = Plan("T", usage=Usage("unit", overage={"amount": "0.07", "per": 60, "round": how}))
        rate = plan.rate(plan.usage[0], "usd")
        units = chance.choice([0, *ends, ends[0] + 1, 59, 60, 61, 12_345])
        expected = sum(line.amount for line in rate_lines("usage", rate, units))
        bands = [[band.up_to, f"{band.unit_amount:f}", f"{band.flat_amount or 0:f}"] for band in rate.bands]
        charge = {"mode": rate.mode, "divideBy": rate.divide_by, "round": rate.round, "bands": bands}
        cases.append([charge, units, expected])
    impact, curve = drawn(many(6, V1, V2))
    script = re.search(r"const ONE.*?(?=const MONTHS)", chart.html(impact, curve), re.DOTALL)
    assert script is not None
    compare = f"""{script[0]}
        const cases = {json.dumps(cases)};
        const wrong = cases.filter(([charge, units, expected]) => Number(rate(charge, units)) !== expected);
        console.log(JSON.stringify(wrong));"""
    done = subprocess.run(["node", "-e", compare], capture_output=True, text=True, timeout=60)
    assert (done.stderr, done.stdout) == ("", "[]\n")
