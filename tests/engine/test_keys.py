"""Keys, accounts and settings as the real engine passes them to a program and to a provider."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sandbox.server import serving
from tests.engine.conftest import ROOT, Project
from tests.engine.support import IMPORTS, control, sandbox_of

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


def test_settings_with_their_old_names_work_and_are_reported_once(new_project: NewProject) -> None:
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


KEYS = ["sk_" + f"test_{word}_0123456789" for word in ("first", "second", "third")]


def test_a_key_that_was_rotated_in_the_config_works_as_the_sentence_says(new_project: NewProject) -> None:
    """Without the program, the engine gives the providers the config of the last run with it."""
    project = new_project(PROGRAM, mode="test")
    first, second, third = KEYS

    def rotate(old: str, new: str) -> None:
        control(project, "POST", "keys", key=old, status="expired")
        project.run("config", "set", "--secret", "stripe-pricing:apiKey", new).ok()

    with serving(sandbox_of(project)) as server:
        project.config("stripe-pricing:apiBase", server.url)
        project.run("config", "set", "--secret", "stripe-pricing:apiKey", first).ok()
        project.up().ok()
        rotate(first, second)
        refused = project.refresh()
        assert refused.code != 0
        assert "as of the last pulumi up: after a change, add --run-program" in refused.text
        assert "2 unchanged" in project.refresh("--run-program").ok().text
        rotate(second, third)
        refused = project.destroy()
        assert refused.code != 0
        assert "as of the last pulumi up: after a change, add --run-program" in refused.text
        assert not any(key in refused.text for key in KEYS)
        project.destroy("--run-program").ok()
    assert project.state() == []


ALPACA = (ROOT / "__main__.py").read_text()
LIVE_KEY = "sk_" + "live_0123456789abcdef"
PLAIN = "is a live key that is not encrypted"


def test_a_live_key_that_is_kept_in_clear_is_refused_before_anything(new_project: NewProject) -> None:
    project = new_project(ALPACA, mode="live")
    project.run("config", "set", "--plaintext", "stripe-pricing:apiKey", LIVE_KEY).ok()
    for refused in (project.preview(), project.up()):
        assert refused.code != 0
        assert PLAIN in refused.text
        assert LIVE_KEY not in refused.text
    project.run("config", "set", "--secret", "stripe-pricing:apiKey", LIVE_KEY).ok()
    assert PLAIN not in project.preview().ok().text


def test_a_live_stack_is_not_applied_under_an_empty_passphrase_unless_it_says_so(new_project: NewProject) -> None:
    project = new_project(ALPACA)
    project.config("stripe-pricing:mode", "live")
    sentence = "an empty passphrase opens the stack's secrets"
    said = project.preview().ok().text
    assert f"pulumi up will be refused: stripe-pricing:mode is live and {sentence}" in said
    refused = project.up()
    assert refused.code != 0
    assert sentence in refused.text
    assert "Traceback" not in refused.text
    assert project.state() == []
    project.config("stripe-pricing:allowEmptyPassphrase", "true")
    assert sentence not in project.preview().ok().text
    # The next thing that is missing.
    assert "there is no API key" in project.up().text


def test_a_live_stack_is_not_applied_from_the_checkout_s_own_state_unless_it_says_so(new_project: NewProject) -> None:
    project = new_project(ALPACA, mode="live")
    (project.folder / ".pulumi-state").mkdir()
    project.environ["PULUMI_BACKEND_URL"] = f"file://{project.folder}/.pulumi-state"
    project.pulumi("stack", "init", "dev").ok()
    assert "the state is the folder .pulumi-state of this checkout" in project.preview().ok().text
    refused = project.up()
    assert refused.code != 0
    assert "the state is the folder .pulumi-state of this checkout" in refused.text
    project.config("stripe-pricing:allowLocalState", "true")
    assert "there is no API key" in project.up().text
