"""Mutation testing finds the changes that it says it finds, and runs the tests that can notice them."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = '''\
"""A docstring stays."""

from dataclasses import dataclass

LIMIT = 20


@dataclass(frozen=True)
class Thing:
    size: int = 3


def kept(values, name="first_name"):
    if values and len(values) < LIMIT:
        return [each for each in values if each is not None]
    raise ValueError(f"no {name}: a sentence stays")
'''


@pytest.fixture(scope="module")
def mutants() -> ModuleType:
    spec = importlib.util.spec_from_file_location("mutants", ROOT / "script/mutants.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["mutants"] = module
    spec.loader.exec_module(module)
    return module


def test_one_thing_is_changed_at_a_time(mutants: ModuleType, tmp_path: Path) -> None:
    module = tmp_path / "module.py"
    module.write_text(SOURCE)
    assert [(each.line, each.what) for each in mutants.mutants_of(module)] == [
        (5, "20 -> 21"),
        (10, "3 -> 4"),
        (13, '"first_name" -> "first_name_"'),
        (14, "values and len(values) < LIMIT -> not (values and len(values) < LIMIT)"),
        (14, "values or len(values) < LIMIT"),
        (14, "len(values) <= LIMIT"),
        (15, "return [each for each in values if each is not None] -> return None"),
        (15, "each is not None -> True"),
        (15, "each is None"),
        (16, 'raise ValueError(f"no {name}: a sentence stays") -> pass'),
    ]


@pytest.mark.parametrize(
    ("part", "lines"),
    [
        ("", [5, 10, 13, 14, 14, 14, 15, 15, 15, 16]),
        (":14-15", [14, 14, 14, 15, 15, 15]),
        (":16-16", [16]),
        ("::Thing", [10]),
        ("::kept", [13, 14, 14, 14, 15, 15, 15, 16]),
    ],
)
def test_a_part_of_a_module_is_changed(mutants: ModuleType, tmp_path: Path, part: str, lines: list[int]) -> None:
    module = tmp_path / "module.py"
    module.write_text(SOURCE)
    path, chosen = mutants.lines_of(f"{module}{part}")
    assert [each.line for each in mutants.mutants_of(path) if each.line in chosen] == lines


TRY = """
import sys
from pathlib import Path
sys.path[:0] = ["script", "."]
import mutants
import sandbox.client
for name, test, text in (
    ("components/settings.py", "components/test_settings.py", "\\nSettings.read = None\\n"),
    # A package, which was imported before.
    ("money/__init__.py", "money/test_money.py", "\\nchargeable_step = None\\n"),
):
    module = Path(name).resolve()
    end = len(module.read_bytes())
    for added in ("", text):
        mutant = mutants.Mutant(module, 1, (), end, end, added, "")
        print(mutants.survives(mutant, [f"tests/{test}"], 60))
print(mutants.in_fork(lambda: mutants.time.sleep(60) or 0, 0.1))
"""


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)


def test_a_change_that_no_test_notices_survives() -> None:
    done = run("-c", TRY)
    assert done.stdout.split() == ["True", "False", "True", "False", "None"], done.stderr


def test_each_mutant_is_tried_by_the_tests_that_call_it() -> None:
    module, tests = "components/settings.py", "tests/components/test_settings.py"
    done = run("script/mutants.py", f"{module}::StackConfig", "--tests", tests, "--every", "10")
    first, second, *survivors, last = done.stdout.splitlines()
    assert first == "recording which test calls what ..."
    tried = int(second.split()[0])
    assert tried > 2
    survivors = [line for line in survivors if not line.startswith("... ")]
    assert all(line.startswith((f"survived     {module}:", f"not called   {module}:")) for line in survivors)
    assert last.startswith(f"{tried - len(survivors)} of {tried} killed ")
    assert done.returncode == 0


def test_what_cannot_be_tried_is_one_sentence(tmp_path: Path) -> None:
    outside = tmp_path / "test_failing.py"
    outside.write_text("def test_failing():\n    assert False\n")
    for arguments, sentence in (
        (["components/no.py"], "no such module: components/no.py"),
        (["components/settings.py::nobody"], "components/settings.py has no nobody"),
        (["components/settings.py", "--tests", str(outside)], f"no tests of this project: {outside}"),
    ):
        done = run("script/mutants.py", *arguments)
        assert done.returncode == 2
        assert sentence in done.stderr
