"""The project's own program against the sandbox in process and against `sandbox serve` on a port: no difference."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.engine.conftest import ROOT, Project
from tests.engine.support import Log, control, ids, no_changes


@contextmanager
def served(file: Path) -> Iterator[str]:
    """The address of `sandbox serve` on a file, on any free port."""
    command = [sys.executable, "-m", "sandbox", "serve", "--port", "0", "--file", str(file)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, env={**os.environ}) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            address = re.match(r"Sandbox on (http://127\.0\.0\.1:\d+),", line)
            assert address, line
            yield address[1]
        finally:
            process.terminate()
            process.wait(30)
    assert process.returncode == 0


def objects(project: Project) -> list[Any]:
    """What is in the sandbox, without what differs from one run to the next."""
    text = repr(sorted(control(project, "GET", "state")["objects"].items()))
    for name, id_ in ids(project).items():
        text = text.replace(id_, f"<{name}>")
    text = re.sub(r"\b(acct|cus|evt|ii|il|in|li|mtr|mtr_test|price|prod|req|si|sub)_\w{8,}", r"<\1>", text)
    return sorted(
        re.findall(r"'object': '\w+'|'unit_amount_decimal': '?[\w.]+'?|'status': '\w+'|'lookup_key': '[^']+'", text)
    )


def test_the_same_program_in_process_and_over_a_port(new_project: Callable[..., Project]) -> None:
    program = (ROOT / "__main__.py").read_text()
    embedded = new_project(program)
    over_a_port = new_project(program)
    # Where the sandbox in process would be: a program that has an address does not open it.
    elsewhere = over_a_port.folder / "elsewhere.db"
    over_a_port.environ["STRIPE_SANDBOX_FILE"] = str(elsewhere)
    with served(over_a_port.sandbox_file) as address:
        over_a_port.config("stripe-pricing:apiBase", address)
        lives: list[tuple[Counter[str], list[Any]]] = []
        for project in (embedded, over_a_port):
            log = Log(project)
            project.up().ok()
            no_changes(project)
            lives.append((log.counts(), objects(project)))
        assert lives[0] == lives[1]
        assert ids(embedded).keys() == ids(over_a_port).keys()

        over_a_port.destroy().ok()
    assert over_a_port.client.v1.subscriptions.list().data == []
    assert over_a_port.client.v1.prices.list({"active": True}).data == []
    assert not elsewhere.exists()
