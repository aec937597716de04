"""What the sandbox keeps beside what Stripe shows is named, with its type, in one place."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_type_hints

import pytest

from sandbox import private

from .stored import check_private

ROOM = Path(private.__file__).parent
#: Written as keys in the code, and no state: permissions of restricted keys end so.
_NO_KEYS = {"_read", "_write", "__main__", "_"}


def test_every_private_key_in_the_code_is_declared_and_every_declared_one_is_used() -> None:
    written = {
        key
        for file in ROOM.rglob("*.py")
        if file.name not in ("private.py", "migrations.py")  # the latter knows what earlier versions kept
        for key in re.findall(r'"(_[a-z_]*)"', file.read_text(encoding="utf-8"))
    }
    declared = {key for kind in private.BY_KIND.values() for key in get_type_hints(kind)}
    assert written - _NO_KEYS == declared


@pytest.mark.parametrize(
    "wrong",
    [
        {"object": "subscription", "_due": "soon"},
        {"object": "subscription", "_unknown": 1},
        {"object": "product", "_due": 1},
        {"object": "invoice", "lines": {"data": [{"object": "line_item", "_under": [1]}]}},
        {"object": "subscription", "items": {"data": [{"object": "subscription_item", "_debits": [{"amount": 1}]}]}},
    ],
)
def test_a_key_that_is_not_declared_or_of_another_type_is_found(wrong: dict[str, object]) -> None:
    with pytest.raises(AssertionError):
        check_private(wrong)
