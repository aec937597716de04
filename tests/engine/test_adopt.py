"""`pricing adopt` with the real engine: an account that exists, a preview that reads it, an `up`, and an empty preview.

`STRIPE_PRICING_ADOPT=300` adopts an account of so many products instead of a few.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable

import pytest

from tests.components.world import World
from tests.engine.conftest import Project
from tests.engine.support import Log
from tests.pricing.an_account import Made

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

    said = pricing(project, "adopt", "--stack", "dev", "--out", "__main__.py")
    assert "the state of dev is unknown" not in said
    preview = project.preview("--diff").ok().text
    assert "what the program adopts is adopted unchanged, unless a line here names it" in preview
    assert "is adopted and changed" not in preview
    assert not [call for call in log.calls() if not call.route.startswith("GET")]

    adopted = int(re.search(r"adopts ([\d,]+):", said)[1].replace(",", ""))  # type: ignore[index]
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
    said = pricing(project, "adopt", "--stack", "dev", "--out", "__main__.py")
    assert "are as they were; nothing has changed in Stripe" in said
