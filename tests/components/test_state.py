"""Which other resources hold an object, from the stack's own state: how an export is read, and how it can fail."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from components.providers import state
from components.providers.state import StackState, StateUnreadable, read_state, runs_under_engine, state_in

ROOT = Path(__file__).parents[2]
PRICE = {"type": "pulumi-python:dynamic/stripe:Price", "id": "price_1", "outputs": {"owner": "project/dev/fee"}}
STACK = {"type": "pulumi:pulumi:Stack"}
EXPORT = {"version": 3, "deployment": {"resources": [STACK, PRICE, {**PRICE, "delete": True}]}}
HELD = StackState(Counter({("Price", "price_1"): 2}), {("Price", "price_1"): {"owner": "project/dev/fee"}})


@pytest.mark.parametrize(
    ("export", "held"),
    [
        (EXPORT, HELD),
        (
            {"deployment": {"resources": [PRICE, {**PRICE, "id": "price_2"}]}},
            StackState(Counter({("Price", "price_1"): 1, ("Price", "price_2"): 1})),
        ),
        # A stack that has never been applied.
        ({"version": 3, "deployment": None}, StackState()),
        ({"deployment": {"resources": None}}, StackState()),
    ],
)
def test_each_resource_of_an_export_holds_its_object(export: dict[str, Any], held: StackState) -> None:
    """A resource that a replacement has yet to delete also holds it; the stack itself holds nothing."""
    assert state_in(export) == held


@pytest.mark.parametrize(
    ("argv", "under"),
    [
        (["/a/lib/pulumi/dynamic/__main__.py", "127.0.0.1:4000"], True),
        (["/a/lib/pulumi/dynamic/__main__.py"], False),
        (["/a/lib/pulumi/dynamic/__main__.py", "127.0.0.1:4000", "x"], False),
        (["/a/lib/pulumi/dynamic/__main__.py", "4000"], False),
        (["/a/bin/pytest", "127.0.0.1:4000"], False),
    ],
)
def test_only_the_engine_starts_a_process_like_this(
    monkeypatch: pytest.MonkeyPatch, argv: list[str], under: bool
) -> None:
    monkeypatch.setattr(sys, "argv", argv)
    assert runs_under_engine() is under


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A process as the engine starts it, and where its `pulumi` is."""
    monkeypatch.setattr(sys, "argv", ["/a/pulumi/dynamic/__main__.py", "127.0.0.1:4000"])
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    return tmp_path / "pulumi"


def exports(cli: Path, script: str) -> None:
    cli.write_text(f"#!/bin/sh\n{script}\n")
    cli.chmod(0o755)


def test_the_state_of_the_stack_is_exported(engine: Path) -> None:
    exports(engine, f"echo \"$@\" > {engine}.called; echo '{json.dumps(EXPORT)}'")
    assert read_state("dev") == HELD
    assert Path(f"{engine}.called").read_text() == "stack export --non-interactive --stack dev\n"


def test_without_an_engine_there_is_no_state(engine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    exports(engine, f"touch {engine}.called; echo '{json.dumps(EXPORT)}'")
    monkeypatch.setattr(sys, "argv", ["pytest"])
    assert read_state("dev") is None
    assert not Path(f"{engine}.called").exists()


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("echo 'error: no\n  such stack' >&2; exit 255", r"\Apulumi stack export: error: no such stack\Z"),
        ("echo 'Enter your passphrase:'", r"\Apulumi stack export printed no state: "),
        ("echo '[]'", r"\Apulumi stack export printed no state: "),
        ("exec sleep 30", r"\Apulumi stack export: .* timed out"),
    ],
)
def test_an_export_that_fails_says_why_in_one_line(
    engine: Path, monkeypatch: pytest.MonkeyPatch, script: str, why: str
) -> None:
    if "sleep" in script:
        monkeypatch.setattr(state, "TIMEOUT_SECONDS", 0.2)
    exports(engine, script)
    with pytest.raises(StateUnreadable, match=why) as caught:
        read_state("dev")
    assert "\n" not in str(caught.value)


def test_a_cli_that_is_nowhere_is_said(engine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(engine.parent))
    with pytest.raises(StateUnreadable, match="the pulumi that started this run is not on PATH"):
        read_state("dev")


@pytest.mark.parametrize(
    ("arguments", "stacks"),
    [
        (["up", "--stack", "acme/pricing/dev", "--yes"], [["--stack", "acme/pricing/dev"]]),
        (["up", "-s", "acme/dev"], [["--stack", "acme/dev"]]),
        (["destroy", "--stack=acme/dev"], [["--stack", "acme/dev"]]),
        # The selected stack; or the CLI has asked, and only the name is known.
        (["up", "--yes"], [[], ["--stack", "dev"]]),
    ],
)
def test_the_state_is_that_of_the_stack_that_the_cli_was_told(
    tmp_path: Path, arguments: list[str], stacks: list[list[str]]
) -> None:
    """The CLI need not be on PATH; between it and this process is the language plugin's shell."""
    pulumi = shutil.copy(shutil.which("bash") or "", tmp_path / "pulumi")
    program = 'from components.providers.state import _exports; print(_exports(\\"dev\\"))'
    command = [pulumi, "-c", f"/bin/sh -c '{sys.executable} -c \"{program}\"; true'; true", "pulumi", *arguments]
    done = subprocess.run(command, cwd=ROOT, env={"PATH": ""}, capture_output=True, text=True, check=True)
    export = [str(pulumi), "stack", "export", "--non-interactive"]
    assert done.stdout.strip() == str([[*export, *stack] for stack in stacks])


def test_a_second_way_is_tried_where_the_first_fails(engine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    exports(engine, f"[ $# = 1 ] || exit 255; echo '{json.dumps(EXPORT)}'")
    monkeypatch.setattr(state, "_exports", lambda stack: [[str(engine)], [str(engine), stack], [str(engine), "x", "y"]])
    assert read_state("dev") == HELD


def test_a_command_line_names_its_stack() -> None:
    assert state._stack_in(["pulumi", "up", "--stack", "acme/dev", "--yes"]) == "acme/dev"
    assert state._stack_in(["pulumi", "-s", "acme/dev", "up"]) == "acme/dev"
    assert state._stack_in(["pulumi", "up", "--stack=acme/a=b"]) == "acme/a=b"
    assert state._stack_in(["pulumi", "up", "--yes", ""]) is None
