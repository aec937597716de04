"""`pricing estimate`: the bill of a plan of the program in the working directory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def estimate(*arguments: str, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from pricing.cli import main; raise SystemExit(main())", "estimate", *arguments]
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=60, env={"PYTHONPATH": str(ROOT)}
    )


def test_the_bill_of_the_example() -> None:
    """3 seats x 100.00 + 25,000 tokens above the 1,000 included x 0.0004 = 310.00 USD."""
    done = estimate("alpaca-ai", "--seats", "3", "--usage", "tokens=26000")
    assert (done.returncode, done.stderr) == (0, "")
    first, *rest = done.stdout.splitlines()
    assert first == "Alpaca.ai: 100.00 USD per seat and month, 0.04 USD per 100 tokens above 1,000"
    assert [line.split() for line in rest if line.startswith(("license", "total"))] == [
        ["license", "at", "100.00", "USD", "3", "300.00", "USD"],
        ["total", "310.00", "USD"],
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["alpaca"], "pricing: there is no plan alpaca; this program has alpaca-ai"),
        (["alpaca-ai@3"], "pricing: there is no alpaca-ai@3; there is alpaca-ai@1"),
        (["alpaca-ai@"], "pricing: there is no alpaca-ai@; there is alpaca-ai@1"),
        (["alpaca-ai", "--usage", "calls=1"], "pricing: Alpaca.ai has no usage calls; it has usage (tokens)"),
        (["alpaca-ai", "--currency", "eur"], "pricing: Alpaca.ai is not sold in eur; it is in usd"),
        (["alpaca-ai", "--stack", "qa"], "pricing: there is no Pulumi.qa.yaml in "),
        (["alpaca-ai", "--usage", "tokens"], "pricing estimate: error: argument --usage: 'tokens' is not NAME=UNITS"),
        (["alpaca-ai", "--seats", "x"], "pricing estimate: error: argument --seats: 'x' is not a number of seats"),
    ],
)
def test_what_cannot_be_estimated_is_one_sentence(arguments: list[str], message: str) -> None:
    done = estimate(*arguments)
    assert done.returncode == 3
    assert done.stdout == ""
    assert done.stderr.splitlines()[-1].startswith(message)


def test_a_program_that_refuses_itself_says_so_in_its_own_words(tmp_path: Path) -> None:
    for name in ("Pulumi.yaml", "Pulumi.dev.yaml"):
        (tmp_path / name).write_text((ROOT / name).read_text())
    (tmp_path / "__main__.py").write_text((ROOT / "__main__.py").read_text().replace('Fee("100.00")', "Fee(100.00)"))
    done = estimate("alpaca-ai", folder=tmp_path)
    assert done.returncode == 3
    assert done.stderr.startswith("pricing: Fee.amount: 100.0 is a float")
    assert "Traceback" not in done.stderr


def test_each_version_has_a_bill_of_its_own(tmp_path: Path) -> None:
    """3 seats x 120.00 + 10.00 of overage = 370.00 USD; of what the stack offers where no version is named."""
    program = (ROOT / "__main__.py").read_text().replace("Overage, Plan, Usage", "Overage, Plan, Usage, Version")
    second = 'Version(Plan("Alpaca.ai", fees="120.00", usage=first.usage), rollout="keep")'
    (tmp_path / "__main__.py").write_text(
        program.replace('"alpaca-ai", first,', f'"alpaca-ai", {{1: first, 2: {second}}},')
    )
    (tmp_path / "Pulumi.yaml").write_text((ROOT / "Pulumi.yaml").read_text())
    settings = (ROOT / "Pulumi.dev.yaml").read_text()
    (tmp_path / "Pulumi.dev.yaml").write_text(settings)
    offers = "config:\n  stripe-pricing:offers: {alpaca-ai: 1}\n"
    (tmp_path / "Pulumi.old.yaml").write_text(settings.replace("config:\n", offers))

    def total(plan: str, stack: str = "dev") -> tuple[str, str]:
        done = estimate(plan, "--seats", "3", "--usage", "tokens=26000", "--stack", stack, folder=tmp_path)
        assert (done.returncode, done.stderr) == (0, "")
        lines = done.stdout.splitlines()
        return lines[0].partition(":")[0], lines[-1].split()[1]

    assert total("alpaca-ai@1") == total("alpaca-ai", "old") == ("Alpaca.ai v1", "310.00")
    assert total("alpaca-ai@2") == total("alpaca-ai") == ("Alpaca.ai v2", "370.00")
