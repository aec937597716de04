"""`pricing rehearse` with the real engine: the pull request is applied to the copy, and to nothing else."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tests.engine.conftest import ROOT, Project
from tests.engine.support import Log, ids
from tests.pricing.rehearsed import DECLARED, TODAY, then

FOREIGN = """
    import pulumi

    class Elsewhere(pulumi.dynamic.ResourceProvider):
        def create(self, props):
            raise Exception("this must not be made")

    class Database(pulumi.dynamic.Resource):
        def __init__(self, name):
            super().__init__(Elsewhere(), name, {})

    Database("orders")
"""


def rehearse(
    project: Project, temporary: Path, *words: str, path: str | None = None
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from pricing.cli import main; raise SystemExit(main())", "rehearse", *words]
    environ = {**project.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(temporary)}
    if path is not None:
        environ["PATH"] = path
    return subprocess.run(
        command, cwd=project.folder, env=environ, capture_output=True, text=True, timeout=600, check=False
    )


def subscribe(project: Project, price: str, usage: str, seats: int) -> None:
    """A subscription as Checkout makes one."""
    customer = project.client.v1.customers.create(
        {"name": "Grace Hopper", "invoice_settings": {"default_payment_method": "pm_card_visa"}}
    )
    project.client.v1.subscriptions.create(
        {
            "customer": customer.id,
            "items": [{"price": price, "quantity": seats}, {"price": usage}],
            "billing_mode": {"type": "flexible"},
        }
    )


def test_a_pull_request_is_rehearsed_and_nothing_else_is_changed(
    new_project: Callable[..., Project], tmp_path: Path
) -> None:
    project = new_project(TODAY + DECLARED)
    project.up().ok()
    made = ids(project)
    for seats in (1, 4):
        subscribe(project, made["Price alpaca-ai-license"], made["Price alpaca-ai-usage"], seats)
    project.write(then("now", DECLARED))
    state, files, log = project.state(), sorted(os.listdir(project.folder)), Log(project)

    done = rehearse(project, tmp_path)

    assert done.returncode == 0, done.stdout + done.stderr
    assert "**Every difference is explained by the declared versions.** 3 subscriptions of 3 customers" in done.stdout
    assert "`pricing rollout alpaca-ai@2 --apply`: 2 moved. Not moved: 1 declared in this program" in done.stdout
    assert re.search(r"`pulumi up`: .*\b2 created, ", done.stdout), done.stdout
    assert {call.route.partition(" ")[0] for call in log.calls()} == {"GET"}
    assert (project.state(), sorted(os.listdir(project.folder))) == (state, files)
    assert os.listdir(tmp_path) == []
    for word in ("Hopper", "Lovelace", "ada@example.com", made["Customer ada"]):
        assert word not in done.stdout + done.stderr

    kept = rehearse(project, tmp_path, "--keep", str(tmp_path / "kept"), "--markdown", str(tmp_path / "report.md"))
    assert (kept.returncode, kept.stdout) == (0, "")
    assert sorted(os.listdir(tmp_path / "kept")) == ["pull-request.db", "today.db"]
    assert b"Hopper" not in (tmp_path / "kept" / "pull-request.db").read_bytes()

    project.write(then("now", DECLARED + FOREIGN))
    refused = rehearse(project, tmp_path / "kept")
    assert refused.returncode == 3
    assert "this program also has pulumi-python:dynamic" in refused.stderr
    assert len(refused.stderr.splitlines()) < 5

    nowhere = rehearse(project, tmp_path / "kept", path="/nowhere")
    assert (nowhere.returncode, nowhere.stdout) == (3, "")
    assert nowhere.stderr.endswith("pricing: a rehearsal needs the Pulumi engine: put pulumi on PATH\n")
