"""`pricing adopt` with the real engine: an account that exists, a preview that reads it, an `up`, and an empty preview.

`STRIPE_PRICING_ADOPT=300` adopts an account of so many products instead of a few.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable

import pytest

from tests.components.world import World
from tests.engine.conftest import ROOT, Project
from tests.engine.support import Log
from tests.pricing.an_account import Made, of_the_page

PAGE = (ROOT / "docs/adopt.md").read_text()
BLOCKS = re.findall(r"^```(python|sh|text)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
_ID = re.compile(r"\b(acct|mtr|price|prod)_\w{8,}")
PRODUCTS = int(os.environ.get("STRIPE_PRICING_ADOPT", "24"))


def pricing(project: Project, *words: str) -> str:
    """The command, as a person runs it in the project's folder; what it has said."""
    command = [sys.executable, "-c", "from pricing.cli import main; raise SystemExit(main())", *words]
    done = subprocess.run(command, cwd=project.folder, env=project.environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stderr


@pytest.mark.timeout(1800)
def test_an_account_that_exists_is_adopted(new_project: Callable[..., Project]) -> None:
    project = new_project("", name="shop")
    project.timeout = 1200
    (project.folder / "__main__.py").unlink()
    Made(World(project.sandbox_file), 300).products(PRODUCTS)
    log = Log(project)

    said = pricing(project, "adopt", "--customers", "--stack", "dev", "--out", "__main__.py")
    assert "the state of dev is unknown" not in said
    preview = project.preview("--diff").ok().text
    assert "what the program adopts is adopted unchanged, unless a line here names it" in preview
    assert "is adopted and changed" not in preview
    calls = log.calls()
    assert not [call for call in calls if not call.route.startswith("GET")]

    adopted = int(re.search(r"adopts ([\d,]+):", said)[1].replace(",", ""))  # type: ignore[index]
    # By the page, not one by one.
    assert len(calls) < adopted / 2
    owned = int(re.search(r"metadata\[pulumi\] into ([\d,]+) objects", said)[1].replace(",", ""))  # type: ignore[index]
    project.up().ok()
    writes = [call for call in log.calls() if not call.route.startswith("GET")]
    assert len(writes) == owned
    assert all(
        {name for name in call.params if not name.startswith("expand")} == {"metadata[pulumi]"} for call in writes
    )
    assert adopted <= len(project.state())

    assert "unchanged" in project.preview("--expect-no-changes").ok().text
    project.refresh("--expect-no-changes").ok()
    said = pricing(project, "adopt", "--customers", "--stack", "dev", "--out", "__main__.py")
    assert "are as they were; nothing has changed in Stripe" in said


@pytest.mark.timeout(600)
def test_the_page_shows_what_its_commands_do(new_project: Callable[..., Project]) -> None:
    project = new_project("", name="shop")
    (project.folder / "__main__.py").unlink()
    of_the_page(World(project.sandbox_file))
    log = Log(project)
    printed = ""
    for language, block in BLOCKS:
        if language == "sh":
            printed = "".join(_run(project, command) for command in block.splitlines())
        elif language == "python":
            assert _ID.sub("*", (project.folder / "__main__.py").read_text()) == _ID.sub("*", block)
        else:
            for line in block.splitlines():
                assert _ID.sub("*", line.strip()) in _ID.sub("*", printed), f"not printed: {line}\n{printed}"
    writes = [
        call.params.keys() - {"expand[0]", "expand[1]"} for call in log.calls() if not call.route.startswith("GET")
    ]
    assert writes == [{"metadata[pulumi]"}] * 9


def _run(project: Project, command: str) -> str:
    name, *words = shlex.split(command)
    if name == "pricing":
        return pricing(project, *words)
    assert name == "pulumi"
    return project.pulumi(*words).ok().text
