"""How script/up prints names from Stripe and from the program."""

from __future__ import annotations

import sys
from decimal import Decimal
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest

from usage.results import InvoicePreview, PreviewLine

NAME = "Pro [red]plan[/red] [/] [link=https://x.example]"


@pytest.fixture
def up(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = spec_from_file_location("script_up", Path(__file__).resolve().parents[1] / "script/up.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    return module


def test_names_are_printed_as_text_and_not_as_markup(up: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    line = PreviewLine(NAME, Decimal(3), None, 300_00, 0, 0, None, None)
    invoice = InvoicePreview(
        "sandbox",
        True,
        "cus_1",
        None,
        "usd",
        (line,),
        subtotal=300_00,
        discounts=0,
        credits=0,
        taxes=0,
        taxes_included=0,
        total=300_00,
        amount_due=300_00,
        period_start=None,
        period_end=None,
    )
    up.screen.print(up.invoice_table("dev", invoice))
    up.step(f"send a month of meter events for {NAME}")
    up.stack_line("dev", f"on the sandbox ({NAME})")
    up.hints("dev", NAME, "cus_1")
    printed = " ".join(capsys.readouterr().out.split())
    assert printed.count("[red]plan[/red]") == 4
    assert printed.count("[link=https://x.example]") == 4
