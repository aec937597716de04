"""docs/review.md shows what `pricing rehearse` writes today, and its commands are commands."""

from __future__ import annotations

import re
import shlex
from typing import get_args

from pricing import cli
from pricing.rehearse import command as rehearse_command
from pricing.rehearse.check import Name
from tests.pricing.rehearsal_page import PAGE, made, plain


def test_the_rehearsals_of_the_page_are_those_of_its_shop() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert plain(made(page)) == plain(page), "run: python -m tests.pricing.rehearsal_page"


def test_the_commands_of_the_page_are_commands() -> None:
    page = PAGE.read_text(encoding="utf-8")
    commands = re.findall(r"^pricing rehearse .*$", page, re.MULTILINE)
    assert commands
    for command in commands:
        assert cli.parser().parse_args(shlex.split(command)[1:]).run is rehearse_command.run


def test_the_page_explains_every_finding() -> None:
    table = PAGE.read_text(encoding="utf-8").partition("| finding | meaning |")[2].partition("\n\n")[0]
    named = {name for row in table.splitlines() if row.startswith("| ") for name in row.split("|")[1].split(", ")}
    assert {name.strip() for name in named} == set(get_args(Name))
