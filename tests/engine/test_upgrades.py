"""States and sandbox files of older versions, under today's components: nothing is replaced or changed.

How they were made, and how a release adds its own: tests/engine/upgrades/keep.py.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.engine.conftest import Project
from tests.engine.support import Log, ids, no_changes, operations
from tests.engine.upgrades.keep import HERE, PROGRAM

STATES = sorted(HERE.glob("*.json"))
#: As versions had it that these states are of.
CONFIG = "config:\n  stripe:mode: sandbox\n"
#: The component that has come to stand above a subscriber; it is nothing in Stripe.
STANDS_ABOVE = {"Subscriber alpaca-ai-first-customer": "create"}
#: What the components have come to declare since the oldest of them: a currency, and the price in one sentence.
#: Everything else must stay as it is, and none of them is a request to Stripe.
DECLARED_SINCE = {
    **STANDS_ABOVE,
    "PublishedPlan alpaca-ai": "update",
    "Subscription alpaca-ai-first-customer": "update",
}


def upgraded(state: Path, new_project: Callable[..., Project]) -> Project:
    """A project whose stack and sandbox were left by an older version."""
    project = new_project(PROGRAM.read_text())
    (project.folder / "Pulumi.dev.yaml").write_text(CONFIG)
    project.sandbox_file.write_bytes(gzip.decompress(state.with_suffix(".db.gz").read_bytes()))
    # Stripped as it is, it imports into a stack whose secrets nobody shares.
    project.run("stack", "import", "--file", str(state)).ok()
    return project


@pytest.mark.parametrize("state", STATES, ids=lambda state: state.stem)
def test_an_older_state_previews_without_a_replacement(state: Path, new_project: Callable[..., Project]) -> None:
    assert operations(upgraded(state, new_project)).items() <= DECLARED_SINCE.items()


@pytest.mark.parametrize("state", STATES, ids=lambda state: state.stem)
def test_an_older_state_is_applied_without_a_write(state: Path, new_project: Callable[..., Project]) -> None:
    project = upgraded(state, new_project)
    there, log = ids(project), Log(project)
    project.up().ok()
    assert {call.route.split()[0] for call in log.calls()} <= {"GET"}
    assert ids(project) == there
    no_changes(project)
    assert "18 unchanged" in project.refresh().ok().text


def test_the_newest_kept_state_previews_without_a_change(new_project: Callable[..., Project]) -> None:
    assert operations(upgraded(STATES[-1], new_project)) == STANDS_ABOVE


@pytest.mark.parametrize("state", STATES, ids=lambda state: state.stem)
def test_a_kept_state_names_nothing_of_the_machine_it_was_made_on(state: Path) -> None:
    text = state.read_text()
    assert "file://" not in text
    assert "/" + "tmp/" not in text
    for resource in json.loads(text)["deployment"]["resources"]:
        assert not {"sourcePosition", "stackTrace"} & resource.keys()
