"""The report and the chart in docs/review.md, made from the sample beside it.

    python -m tests.pricing.review

writes both again.
"""

from __future__ import annotations

import re
from pathlib import Path

from components.pricing import Fee, Overage, Plan, Usage
from pricing import chart
from pricing.guardrails import exceeded
from pricing.impact import Comparison
from pricing.reading import File
from pricing.report import markdown
from tests.pricing.billed import ROOT, seconds

PAGE = ROOT / "docs" / "review.md"
PICTURE = ROOT / "docs" / "review" / "impact.svg"
SAMPLE = ROOT / "docs" / "review" / "sample.jsonl"
VERSIONS = {
    1: Plan("Alpaca.ai", fees=Fee("100.00"), usage=Usage("token", included=1_000, overage=Overage("0.04", per=100))),
    2: Plan("Alpaca.ai", fees=Fee("110.00"), usage=Usage("token", included=20_000, overage=Overage("0.03", per=100))),
}
LIMITS = {"stripe-pricing:guardrails": {"largestIncrease": "25%", "customersPayingMore": "50%", "revenueDown": "2%"}}


def made() -> tuple[str, str]:
    """The page with its report, and the picture."""
    sample = File(SAMPLE, "alpaca-ai")
    comparison = Comparison("alpaca-ai", VERSIONS, 1, 2)
    for invoice in sample.invoices({}):
        comparison.add(invoice)
    impact = comparison.result(now=seconds("2026-11-05"), standings=sample.standings)
    curve = chart.curve(comparison, impact)
    assert curve is not None
    report = markdown(impact, exceeded(impact, LIMITS), chart="review/impact.svg")
    # Below the page's own headings.
    inside = re.sub(r"^#", "##", report, flags=re.MULTILINE)
    page = re.sub(
        r"<!-- report -->.*<!-- /report -->",
        lambda _: f"<!-- report -->\n{inside}<!-- /report -->",
        PAGE.read_text(encoding="utf-8"),
        flags=re.DOTALL,
    )
    return page, chart.svg(impact, curve)


def write(page: Path, picture: Path) -> None:
    """Write both."""
    content, drawing = made()
    page.write_text(content, encoding="utf-8")
    picture.write_text(drawing, encoding="utf-8")


if __name__ == "__main__":
    write(PAGE, PICTURE)
