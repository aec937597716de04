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
PAGES = ["CONTRIBUTING.md", "SECURITY.md", "docs/install.md", "script/engine/README.md"]


@pytest.fixture
def coupon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The worked example of a new kind, as a module."""
    (text,) = re.findall(r"^```python\n(\"\"\"Coupons.*?)^```", (ROOT / "CONTRIBUTING.md").read_text(), re.M | re.S)
    file = tmp_path / "coupon_of_the_page.py"
    file.write_text(text)
    found = importlib.util.spec_from_file_location(file.stem, file)
    assert found
    assert found.loader
    module = importlib.util.module_from_spec(found)
    monkeypatch.setitem(sys.modules, file.stem, module)
    found.loader.exec_module(module)
    return module


def test_the_worked_example_is_a_whole_kind(coupon: ModuleType, world: World) -> None:
    provider = coupon.CouponProvider
    half = world.up(provider, "half", {"percent_off": 50, "name": "Half"})
    renamed = world.up(provider, "half", {"percent_off": 50, "name": "Half off"}, half)
    assert renamed.id == half.id
    less = world.up(provider, "half", {"percent_off": 40, "name": "Half off"}, renamed)
    assert less.id != half.id
    refreshed = world.refresh(provider, less)
    assert refreshed
    assert refreshed.inputs == less.inputs
    world.destroy(provider, less)
    assert world.refresh(provider, less) is None
    refused = world.process().provider(provider).check({}, {"owner": "project/dev/none"}).failures
    assert [failure.reason for failure in refused] == ["percent_off: needs one of amount_off and percent_off"]


@pytest.mark.parametrize("page", PAGES)
def test_the_files_that_a_page_names_are_there(page: str) -> None:
    text = (ROOT / page).read_text()
    named = {
        *re.findall(r"\]\(((?!http)[^)#]+)\)", text),
        *re.findall(r"(?<![\w/.-])((?:script|tests|sandbox|docs|components|examples)/[\w./-]+\w)", text),
    }
    made = {"components/providers/coupon.py"}
    base = (ROOT / page).parent
    missing = {name for name in named - made if not (ROOT / name).exists() and not (base / name).exists()}
    assert not missing
