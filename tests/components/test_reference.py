"""docs/providers.md says what the code does."""

from __future__ import annotations

from components.providers.reference import PATH, PROVIDERS, render
from tests.components.world import of_the_locked_sdk


@of_the_locked_sdk
def test_the_page_is_current() -> None:
    assert PATH.read_text() == render(), "run: python -m components.providers.reference"


def test_every_argument_of_every_kind_is_on_it() -> None:
    page = render()
    for provider in PROVIDERS:
        section = page.partition(f"## {provider.kind.name}\n")[2].partition("\n## ")[0]
        for name in provider.kind.struct.fields.keys() - provider.kind.own_struct.fields.keys():
            assert f"`{name}`" in section, f"{provider.kind.name}.{name}"
