"""docs/pricing.md: its program, its edits and its commands in their order; what it shows is what they print."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable

import pytest

from tests.engine.conftest import ROOT, Project, Result

PAGE = (ROOT / "docs/pricing.md").read_text()
BLOCKS = re.findall(r"^```(python|sh|text|json)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
#: Of a stack that the page does not make.
ELSEWHERE = "prod cannot offer"


def edited(program: str, line: str) -> str:
    """The program with a line in place of the one that begins alike, or before the plan where none does."""
    begins = re.escape(line[: line.index(",")] if line.startswith("Subscriber") else line[: line.index("=")])
    old = re.search(rf"^    {begins}.*$", program, re.MULTILINE)
    if old:
        return program.replace(old[0], f"    {line}")
    return program.replace("    alpaca = ", f"    {line}\n    alpaca = ")


@pytest.mark.timeout(600)
def test_what_the_page_shows_is_what_its_commands_print(new_project: Callable[..., Project]) -> None:
    program = BLOCKS[0][1]
    project = new_project(program)
    printed = ""
    for language, block in BLOCKS[1:]:
        if language == "python":
            for line in block.splitlines():
                program = edited(program, line)
            project.write(program)
        elif language == "sh":
            printed = "".join(run(project, command).text for command in block.splitlines())
        elif language == "text" and ELSEWHERE not in block:
            for line in block.splitlines():
                assert line.strip() in printed, f"not printed: {line}\n{printed}"


def run(project: Project, command: str) -> Result:
    script, *words = shlex.split(command)
    assert script == "script/pulumi"
    result = project.pulumi(*words)
    assert "Traceback" not in result.text, result.text
    return result
