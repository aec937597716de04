"""The short form of `script/chaos`: three cycles with a fixed seed each; the long one has hundreds."""

from __future__ import annotations

import random

import pytest

from tests.engine.chaos import programs
from tests.engine.chaos.backends import s3_server
from tests.engine.chaos.session import Tally, run_session


@pytest.mark.parametrize(("seed", "cycles"), [(6, 1), (9, 1), (14, 1)])
def test_a_broken_run_ends_in_the_declared_state(seed: int, cycles: int) -> None:
    tally, said = Tally(), list[str]()
    with s3_server() as server:
        wrong = run_session(seed, cycles, server, said.append, tally)
    assert wrong is None, "\n".join([*said, *wrong.found, *(run.text for run in wrong.runs)])
    assert tally.cycles == cycles


@pytest.mark.parametrize("seed", range(20))
def test_random_programs_are_the_same_for_a_seed_and_valid_python(seed: int) -> None:
    def once() -> list[str]:
        draw = random.Random(seed)
        model = (programs.plans if seed % 2 else programs.parts)(draw)
        sources = [model.source()]
        for _ in range(10):
            model = programs.edited(model, draw)
            sources.append(model.source())
        return sources

    first = once()
    assert first == once()
    assert len(set(first)) > 5
    for source in first:
        compile(source, "__main__.py", "exec")
