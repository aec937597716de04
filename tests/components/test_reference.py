"""docs/providers.md is what the code generates."""

from __future__ import annotations

from components.providers.kinds import KINDS
from components.providers.reference import PATH, render
from tests.components.world import of_the_locked_sdk


@of_the_locked_sdk
def test_the_page_is_current() -> None:
    assert PATH.read_text() == render(), "run: python -m components.providers.reference"


def test_every_argument_of_every_kind_is_on_it() -> None:
    page = render()
    for kind in KINDS:
        section = page.partition(f"## {kind.name}\n")[2].partition("\n## ")[0]
        for name in kind.struct.fields.keys() - {"owner"}:
            assert f"\n| `{name}` |" in section, f"{kind.name}.{name}"
