"""Fixtures for the providers: a Stripe account for each test, and what was printed at the terminal."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from components.providers import notices
from tests.components.world import World


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """An empty account."""
    made = World(tmp_path / "stripe.db")
    yield made
    made.sandbox.close()


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The lines that the providers printed during the test."""
    heard: set[str] = set()

    def hear(severity: str, line: str) -> None:
        assert severity in ("info", "warning"), severity
        heard.add(line)

    monkeypatch.setattr(notices, "show", hear)
    return heard
