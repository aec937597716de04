"""Every snippet of docs/usage.md runs, in the order of the page, against the sandbox and moto's SQS."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

import usage.client

from .conftest import EVENT, World
from .test_reading import subscribe
from .test_sqs import aws, sqs

__all__ = ["aws", "sqs"]  # fixtures

PAGE = Path(__file__).parents[2] / "docs" / "usage.md"
WRITTEN = "2026-11-22"
"""The day in the page's examples; Stripe takes 35 days, so the test puts yesterday there."""


def snippets() -> Iterator[tuple[str, str]]:
    """Language and text of every fenced block."""
    for match in re.finditer(r"^```(\w+)\n(.*?)^```$", PAGE.read_text(), re.M | re.S):
        yield match.group(1), match.group(2)


def test_every_snippet_runs(embedded: World, meter: str, customer: str, sqs: Any, tmp_path: Path) -> None:
    subscription = subscribe(embedded, meter, customer)
    yesterday = time.strftime("%Y-%m-%d", time.gmtime(time.time() - 86_400))
    shell = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    names: dict[str, Any] = {}
    ran = dict.fromkeys(("python", "sh", "csv"), 0)
    for language, text in snippets():
        text = text.replace("cus_123", customer).replace("sub_123", subscription).replace(WRITTEN, yesterday)
        ran[language] += 1
        if language == "python":
            exec(compile(text, str(PAGE), "exec"), names)
        elif language == "csv":
            (tmp_path / "tokens.csv").write_text(text)
        else:
            for command in text.splitlines():
                done = subprocess.run(command, shell=True, env=shell, capture_output=True, text=True, check=False)
                assert done.returncode == 0, (command, done.stdout, done.stderr)
                assert done.stdout, command
    assert min(ran.values()) >= 1
    usage.client.client().close()
    assert embedded.total(meter, customer) == Decimal("1200") + Decimal("800.5") - 200 + 500 + 3 + 7 + 1200 + 460 + 7


def test_the_page_names_every_command_and_setting() -> None:
    text = PAGE.read_text()
    for word in (
        "send",
        "import",
        "flush",
        "status",
        "summary",
        "preview-invoice",
        "verify",
        "errors",
        "retry",
        "cancel",
    ):
        assert f"usage {word}" in text, word
    for variable in ("STRIPE_API_KEY", "STRIPE_MODE", "STRIPE_API_BASE", "STRIPE_SANDBOX_FILE", "STRIPE_USAGE_SPOOL"):
        assert variable in text


def test_the_figures_are_dated_and_name_their_commands() -> None:
    figures = PAGE.read_text().partition("## Figures")[2]
    assert re.search(r"20\d\d-\d\d-\d\d", figures)
    for module in ("usage_speed", "usage_latency", "usage_memory", "usage_startup"):
        assert f"python -m benchmarks.{module}" in figures
        assert (PAGE.parents[1] / "benchmarks" / f"{module}.py").exists()


@pytest.mark.parametrize("name", ["usage_speed", "usage_latency", "usage_memory", "usage_startup"])
def test_the_benchmarks_still_run(name: str) -> None:
    small = {
        "usage_speed": ["--events", "1000"],
        "usage_latency": ["--backlog", "3000", "--records", "50"],
        "usage_memory": ["--rows", "3000"],
        "usage_startup": ["--runs", "1"],
    }
    root = str(PAGE.parents[1])
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{name}", *small[name]],
        cwd=root,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert EVENT not in done.stderr
