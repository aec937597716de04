"""Keys, accounts and settings as the real engine passes them to a program and to a provider."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.engine.conftest import Project
from tests.engine.support import IMPORTS

PROGRAM = (
    "from components.program import program\n"
    + IMPORTS
    + """
with program() as settings:
    Product("pro", name="Pro")
"""
)

NewProject = Callable[..., Project]


@pytest.mark.parametrize("project_name", ["stripe-pricing", "another"])
def test_the_settings_are_read_whatever_the_project_is_called(new_project: NewProject, project_name: str) -> None:
    project = new_project(PROGRAM, name=project_name)
    said = project.up().ok()
    assert "+ 2 created" in said.text
    assert "warning" not in said.text
    assert project.destroy().ok()


def test_settings_with_their_old_names_work_and_are_said_once(new_project: NewProject) -> None:
    project = new_project(PROGRAM)
    file = project.folder / "Pulumi.dev.yaml"
    file.write_text(file.read_text().replace("stripe-pricing:mode", "stripe:mode"))
    said = project.up().ok().text
    # Pulumi itself repeats it in its status lines.
    assert said.partition("Diagnostics:")[2].count("rename in the stack's config: stripe:mode") == 1
    assert "renam" not in project.refresh().ok().text
    file.write_text(file.read_text().replace("config:\n", "config:\n  stripe-pricing:mode: test\n", 1))
    refused = project.preview()
    assert refused.code != 0
    assert "stripe-pricing:mode and stripe:mode, its old name, are both set" in refused.text
