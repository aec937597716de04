"""What reaches the terminal is one line of plain text."""

from __future__ import annotations

import pytest

from components.account import AccountError, StripeRefusal
from components.providers.run import run_of
from components.redaction import as_line
from tests.components.world import World

#: Customers name themselves, in the customer portal say.
NAME = "Ada \x1b[31mred\x1b[0m <{%fg 1%}> <{%wipe%}>\n\x07 [bold]b[/bold]"
PLAIN = "Ada \ufffd[31mred\ufffd[0m < {%fg 1%}> < {%wipe%}> \ufffd [bold]b[/bold]"


def test_a_name_reaches_the_terminal_as_text() -> None:
    assert as_line(NAME) == PLAIN
    assert str(AccountError(NAME)) == PLAIN


def test_what_stripe_says_reaches_the_terminal_as_text(world: World) -> None:
    world.control("faults", method="POST", path="/v1/customers", status=400, message=f"No: {NAME}")
    with pytest.raises(StripeRefusal) as caught:
        world.customer()
    assert f"Customer 'acme': No: {PLAIN}" in str(caught.value)


def test_a_warning_reaches_the_terminal_as_text(world: World, capfd: pytest.CaptureFixture[str]) -> None:
    run_of(world.process().account).tell("warning", NAME)
    assert capfd.readouterr().err == f"warning: {PLAIN}\n"
