"""The comment, the report and the chart in docs/review.md, made by the page's own command from the sample beside it.

    python -m tests.pricing.review

writes them again.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from shutil import copy
from tempfile import TemporaryDirectory

import yaml

from components.pricing import Fee, Overage, Plan, Usage
from pricing.impact import chart
from pricing.impact.comparison import Comparison
from pricing.impact.guardrails import exceeded
from pricing.impact.reading import File
from pricing.impact.report import markdown
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
    page = _with(PAGE.read_text(encoding="utf-8"), "report", report)
    return _with(page, "comment", comment(page)), chart.svg(impact, curve)


def _with(page: str, name: str, text: str) -> str:
    """The page with a text between two marks, below the page's own headings."""
    inside = re.sub(r"^#", "##", text, flags=re.MULTILINE)
    marks = f"<!-- {name} -->", f"<!-- /{name} -->"
    return re.sub(f"{marks[0]}.*{marks[1]}", lambda _: f"{marks[0]}\n{inside}{marks[1]}", page, flags=re.DOTALL)


def comment(page: str) -> str:
    """What the page's command prints, with its program and its change."""
    program, change, command = (
        re.search(rf"^```{language}\n(.*?)^```", page, re.MULTILINE | re.DOTALL)[1]  # type: ignore[index]
        for language in ("python", "diff", "sh")
    )
    changed = program
    for line in change.splitlines():
        sign, text = line[0], line[1:] + "\n"
        if sign == "-":
            assert changed.count(text) == 1, text
            place = changed.index(text)
            changed = changed.replace(text, "")
        else:
            changed = changed[:place] + text + changed[place:]
            place += len(text)
    words = shlex.split(command)
    assert words[0] == "pricing"
    config = yaml.safe_dump({"config": {"stripe-pricing:mode": "live", **LIMITS}})
    with TemporaryDirectory() as folder:
        for name, text in (("main", program), ("change", changed)):
            there = Path(folder, name)
            there.mkdir()
            (there / "Pulumi.yaml").write_text("name: shop\nruntime: python\n")
            (there / "Pulumi.prod.yaml").write_text(config)
            (there / "__main__.py").write_text(text)
        copy(SAMPLE, Path(folder, "change"))
        done = subprocess.run(
            [sys.executable, "-c", "from pricing.cli import main; raise SystemExit(main())", *words[1:]],
            cwd=Path(folder, "change"),
            capture_output=True,
            text=True,
            timeout=300,
            env={"PYTHONPATH": str(ROOT), "PATH": os.defpath},
        )
        assert done.returncode == 2, done.stderr
        # It draws the picture that the page shows.
        assert Path(folder, "change", "impact.svg").exists()
        # What is folded is left out; the months of an impact begin today.
        return re.sub(r"(</summary>\n\n).*?(\n\n</details>)", r"\1...\2", done.stdout, flags=re.DOTALL)


def write(page: Path, picture: Path) -> None:
    """Write both."""
    content, drawing = made()
    page.write_text(content, encoding="utf-8")
    picture.write_text(drawing, encoding="utf-8")


if __name__ == "__main__":
    write(PAGE, PICTURE)
