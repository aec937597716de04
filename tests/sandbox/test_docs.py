"""docs/sandbox.md says what the tables say."""

from __future__ import annotations

import re
from pathlib import Path

from sandbox import router, spec

from . import documented

DOCUMENT = Path(__file__).parents[2] / "docs" / "sandbox.md"


def test_the_generated_parts_are_current() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    assert documented.rewritten(text) == text, "run: python -m tests.sandbox.documented docs/sandbox.md"
    assert set(re.findall(r"<!-- begin (\w+) -->", text)) == set(documented.PARTS)


def test_every_route_is_one_that_stripe_has() -> None:
    described = {(m.upper(), path) for path, methods in spec.document()["paths"].items() for m in methods}
    for method, template in set(router.ROUTES) - described:
        path = re.sub(r"\{[^}]*\}", "x", template)
        assert router.known_to_stripe(method, path), f"{method} {template}"
