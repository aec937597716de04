"""CONTRIBUTING.md and docs/install.md are correct: their examples run, and the files that they name exist."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.components.world import World

ROOT = Path(__file__).resolve().parents[2]
PAGES = ["CONTRIBUTING.md", "SECURITY.md", "docs/install.md", "docs/rollout.md", "script/engine/README.md"]


@pytest.fixture
def tax_rate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The worked example of a new kind, as a module."""
    (text,) = re.findall(r"^```python\n(\"\"\"Tax rates.*?)^```", (ROOT / "CONTRIBUTING.md").read_text(), re.M | re.S)
    file = tmp_path / "tax_rate_of_the_page.py"
    file.write_text(text)
    found = importlib.util.spec_from_file_location(file.stem, file)
    assert found
    assert found.loader
    module = importlib.util.module_from_spec(found)
    monkeypatch.setitem(sys.modules, file.stem, module)
    found.loader.exec_module(module)
    return module


def test_the_worked_example_is_a_whole_kind(tax_rate: ModuleType, world: World, said: set[str]) -> None:
    provider, igv = tax_rate.TaxRateProvider, {"percentage": 18, "inclusive": False}
    made = world.up(provider, "igv", {**igv, "display_name": "IGV"})
    renamed = world.up(provider, "igv", {**igv, "display_name": "IGV 18 %"}, made)
    assert renamed.id == made.id
    less = world.up(provider, "igv", {**igv, "display_name": "IGV 18 %", "percentage": 17}, renamed)
    assert less.id != made.id
    assert any(f"({made.id}): is archived and another one made; what has this one goes on" in line for line in said)
    refreshed = world.refresh(provider, less)
    assert refreshed
    assert refreshed.inputs == less.inputs
    world.destroy(provider, less)
    there = world.stripe("get", "/v1/tax_rates")["data"]
    assert [each["active"] for each in there] == [False, False]
    refused = world.process().provider(provider).check({}, {"owner": "project/dev/none"}).failures
    assert [failure.reason for failure in refused] == [
        "display_name: is required",
        "inclusive: is required",
        "percentage: is required",
    ]


@pytest.mark.parametrize("page", PAGES)
def test_the_files_that_a_page_names_are_there(page: str) -> None:
    text = (ROOT / page).read_text()
    named = {
        *re.findall(r"\]\(((?!http)[^)#]+)\)", text),
        *re.findall(r"(?<![\w/.-])((?:script|tests|sandbox|docs|components|examples)/[\w./-]+\w)", text),
    }
    made = {"components/providers/tax_rate.py"}
    base = (ROOT / page).parent
    missing = {name for name in named - made if not (ROOT / name).exists() and not (base / name).exists()}
    assert not missing
