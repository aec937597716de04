"""Mutation testing of chosen modules: which changes of the code do no tests notice?

A mutant is a module with one change: a comparison, a connective, a constant, a condition, or a removed statement.
Sentences are not changed. No file is changed: each mutant is tested in a fork that imports the changed source. A first
run on the unchanged code records which test calls which function; a mutant is then tested by the tests that call its
function, the fastest first, until one fails. A mutant outside of functions is tested by all of them.

The exit code is 0 even if mutants survive: the list is for a person to judge. `--every N` tests every N-th mutant.
A suffix of a module limits the changes: `:120-180` (lines) or `::takes_back` (a function or class). One recording
serves all modules of a command.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import importlib.abc
import importlib.util
import json
import os
import re
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
#: What can be mutated.
ROOMS = ("components", "money", "pricing", "sandbox", "usage")
#: Slow imports: loaded before the forks.
PRELOADED = (
    "pulumi.dynamic",
    "stripe._stripe_client",
    "stripe.params",
    "hypothesis",
    "jsonschema_rs",
    "sandbox.client",
)
QUIET = ("-q", "-x", "--no-header", "-p", "no:xdist", "-W", "ignore::pytest.PytestAssertRewriteWarning")


@dataclass(frozen=True)
class Mutant:
    """A change of one span of a module's source."""

    path: Path
    line: int
    #: The first lines of its enclosing functions, the innermost first.
    functions: tuple[int, ...]
    start: int
    end: int
    text: str
    what: str

    @property
    def source(self) -> bytes:
        whole = self.path.read_bytes()
        return whole[: self.start] + self.text.encode() + whole[self.end :]

    def __str__(self) -> str:
        return f"{self.path.relative_to(ROOT)}:{self.line}: {self.what}"


@dataclass
class Calls:
    """Which tests call which function of a module, and how long each test takes."""

    tests: dict[str, dict[int, list[str]]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)


# -- what to change -------------------------------------------------------------------------------------------------

COMPARISONS: dict[type[ast.cmpop], str] = {
    ast.Eq: "!=",
    ast.NotEq: "==",
    ast.Lt: "<=",
    ast.LtE: "<",
    ast.Gt: ">=",
    ast.GtE: ">",
    ast.In: "not in",
    ast.NotIn: "in",
    ast.Is: "is not",
    ast.IsNot: "is",
}
#: Names of fields and Stripe's terms, but no sentences.
WORD = re.compile(r"\A[a-z][a-z_.]*\Z")


class Finder(ast.NodeVisitor):
    """Collects the mutants of one module."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.bytes = path.read_bytes()
        self.lines = [0]
        for line in self.bytes.splitlines(keepends=True):
            self.lines.append(self.lines[-1] + len(line))
        self.functions: list[int] = []
        self.found: list[Mutant] = []

    def span(self, node: ast.AST) -> tuple[int, int]:
        at: Any = node
        return self.lines[at.lineno - 1] + at.col_offset, self.lines[at.end_lineno - 1] + at.end_col_offset

    def text(self, node: ast.AST) -> str:
        start, end = self.span(node)
        return self.bytes[start:end].decode()

    def add(self, node: ast.AST, text: str, what: str | None = None) -> None:
        start, end = self.span(node)
        self.add_span(node, start, end, text, what or f"{' '.join(self.text(node).split())[:90]} -> {text}")

    def add_span(self, node: Any, start: int, end: int, text: str, what: str) -> None:
        self.found.append(Mutant(self.path, node.lineno, tuple(reversed(self.functions)), start, end, text, what))

    def between(self, node: ast.AST, left: ast.AST, right: ast.AST, old: str, new: str) -> None:
        """Change an operator, which has no own position."""
        start, end = self.span(left)[1], self.span(right)[0]
        gap = self.bytes[start:end].decode()
        if old in gap:
            shown = f"{self.text(left)} {new} {self.text(right)}"
            self.add_span(node, start, end, gap.replace(old, new, 1), " ".join(shown.split())[:110])

    # -- scopes -------------------------------------------------------------------------------------------------

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        for each in (*node.decorator_list, node.args):
            self.visit(each)
        self.functions.append(node.lineno if not node.decorator_list else node.decorator_list[0].lineno)
        for statement in node.body:
            self.visit(statement)
        self.functions.pop()

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        for statement in node.body:
            self.visit(statement)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self.visit(node.value)

    def visit_arg(self, node: ast.arg) -> None:
        pass

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        pass

    # -- expressions --------------------------------------------------------------------------------------------

    def visit_Compare(self, node: ast.Compare) -> None:
        sides = [node.left, *node.comparators]
        for left, operator, right in zip(sides, node.ops, sides[1:], strict=False):
            old = {"NotEq": "!=", "Eq": "==", "NotIn": "not in", "IsNot": "is not"}.get(
                type(operator).__name__,
                {ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">="}.get(type(operator), ""),
            ) or ("in" if isinstance(operator, ast.In) else "is")
            self.between(node, left, right, old, COMPARISONS[type(operator)])
        self.generic_visit(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        old, new = ("and", "or") if isinstance(node.op, ast.And) else ("or", "and")
        for left, right in zip(node.values, node.values[1:], strict=False):
            self.between(node, left, right, old, new)
        self.generic_visit(node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> None:
        if isinstance(node.op, ast.Not):
            self.add(node, f"bool({self.text(node.operand)})")
        self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        swaps: dict[type[ast.operator], tuple[str, str]] = {
            ast.Add: ("+", "-"),
            ast.Sub: ("-", "+"),
            ast.Mult: ("*", "+"),
        }
        if type(node.op) in swaps and not isinstance(node.left, ast.JoinedStr):
            self.between(node, node.left, node.right, *swaps[type(node.op)])
        self.generic_visit(node)

    def visit_IfExp(self, node: ast.IfExp) -> None:
        self.add(node.test, f"not ({self.text(node.test)})")
        self.generic_visit(node)

    def visit_comprehension(self, node: ast.comprehension) -> None:
        for condition in node.ifs:
            self.add(condition, "True")
        self.generic_visit(node)

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        pass

    def visit_Constant(self, node: ast.Constant) -> None:
        match node.value:
            case bool():
                self.add(node, str(not node.value))
            case int():
                self.add(node, str(node.value + 1))
            case str() if WORD.match(node.value) and len(node.value) > 2:
                self.add(node, json.dumps(f"{node.value}_"))

    # -- statements ---------------------------------------------------------------------------------------------

    def visit_If(self, node: ast.If) -> None:
        self.add(node.test, f"not ({self.text(node.test)})")
        self.generic_visit(node)

    def visit_Return(self, node: ast.Return) -> None:
        if node.value is not None and not (isinstance(node.value, ast.Constant) and node.value.value is None):
            self.add(node, "return None")
        self.generic_visit(node)

    def visit_Raise(self, node: ast.Raise) -> None:
        self.add(node, "pass")

    def visit_Continue(self, node: ast.Continue) -> None:
        self.add(node, "break")

    def visit_Expr(self, node: ast.Expr) -> None:
        if isinstance(node.value, (ast.Call, ast.Yield, ast.YieldFrom)):
            self.add(node, "pass" if isinstance(node.value, ast.Call) else "yield from ()")
            self.generic_visit(node)

    def visit_Delete(self, node: ast.Delete) -> None:
        self.add(node, "pass")


def mutants_of(path: Path) -> list[Mutant]:
    """Every mutant of a module that is valid Python, in the order of lines."""
    finder = Finder(path)
    finder.visit(ast.parse(finder.bytes))
    found = []
    for mutant in sorted(finder.found, key=lambda each: (each.start, each.end, each.text)):
        with contextlib.suppress(SyntaxError):
            compile(mutant.source, str(path), "exec")
            found.append(mutant)
    return found


def lines_of(module: str) -> tuple[Path, range]:
    """What `MODULE`, `MODULE:A-B` or `MODULE::NAME` names: the file, and which of its lines.

    Raises:
        ValueError: there is no such module, or it has no such name; one sentence.
    """
    name, _, part = module.partition(":")
    path = Path(name).resolve()
    if not path.is_file():
        raise ValueError(f"no such module: {name}")
    if not part:
        return path, range(sys.maxsize)
    if lines := re.fullmatch(r"(\d+)-(\d+)", part):
        return path, range(int(lines[1]), int(lines[2]) + 1)
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and f":{node.name}" == part:
            return path, range(node.lineno, (node.end_lineno or node.lineno) + 1)
    raise ValueError(f"{name} has no {part.removeprefix(':')}")


# -- running tests in forks -------------------------------------------------------------------------------------------


class Changed(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports a module from changed source."""

    def __init__(self, mutant: Mutant) -> None:
        self.mutant = mutant
        parts = mutant.path.relative_to(ROOT).with_suffix("").parts
        self.is_package = parts[-1] == "__init__"
        self.name = ".".join(parts[:-1] if self.is_package else parts)

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> Any:
        if fullname != self.name:
            return None
        folders = [str(self.mutant.path.parent)] if self.is_package else None
        return importlib.util.spec_from_file_location(
            fullname, self.mutant.path, loader=self, submodule_search_locations=folders
        )

    def exec_module(self, module: ModuleType) -> None:
        exec(compile(self.mutant.source, str(self.mutant.path), "exec"), vars(module))


def in_fork(work: Callable[[], int], seconds: float) -> int | None:
    """The exit code of some work in its own process; None if it takes longer than the limit."""
    pid = os.fork()
    if not pid:
        os.setsid()
        silence = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silence, 1)
        os.dup2(silence, 2)
        code = 3
        try:
            code = work()
        finally:
            os._exit(code)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.02)
    os.killpg(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return None


class Recorder:
    """A pytest plugin that records which functions of some files each test calls."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = {str(path) for path in paths}
        self.called: set[tuple[str, int]] = set()
        self.calls = Calls()

    def trace(self, frame: FrameType, event: str, argument: Any) -> None:
        if frame.f_code.co_filename in self.paths:
            self.called.add((frame.f_code.co_filename, frame.f_code.co_firstlineno))

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        self.called = set()
        began = time.monotonic()
        threading.settrace(self.trace)
        sys.settrace(self.trace)
        yield
        sys.settrace(None)
        threading.settrace(None)
        self.calls.seconds[item.nodeid] = time.monotonic() - began
        for path, line in self.called:
            self.calls.tests.setdefault(path, {}).setdefault(line, []).append(item.nodeid)


def record(paths: Sequence[Path], tests: Sequence[str]) -> Calls:
    """Run the tests on the unchanged code.

    Raises:
        SystemExit: they fail.
    """
    with tempfile.NamedTemporaryFile() as answer:

        def work() -> int:
            recorder = Recorder(paths)
            code = int(pytest.main([*QUIET, *tests], plugins=[recorder]))
            Path(answer.name).write_text(json.dumps(vars(recorder.calls)))
            return code

        if (code := in_fork(work, 1800)) != 0:
            raise SystemExit(f"mutants: the tests fail (pytest's exit code {code}) before anything is changed")
        found = json.loads(Path(answer.name).read_text())
    tests_of = {path: {int(line): names for line, names in lines.items()} for path, lines in found["tests"].items()}
    return Calls(tests_of, found["seconds"])


def tests_for(mutant: Mutant, calls: Calls) -> list[str]:
    """The tests that call a mutant's function, the fastest first; all tests for a mutant outside of functions."""
    of_module = calls.tests.get(str(mutant.path), {})
    chosen = next((of_module[line] for line in mutant.functions if line in of_module), [])
    if not mutant.functions:
        chosen = list(calls.seconds)
    return sorted(chosen, key=lambda test: calls.seconds[test])


def survives(mutant: Mutant, tests: Sequence[str], seconds: float) -> bool:
    """Whether all given tests pass on it."""

    def work() -> int:
        changed = Changed(mutant)
        if changed.name in sys.modules:
            # It was preloaded, and modules that imported it hold the unchanged one.
            for name in [name for name in sys.modules if name.partition(".")[0] in ROOMS]:
                del sys.modules[name]
        sys.meta_path.insert(0, changed)
        return int(pytest.main([*QUIET, *tests]))

    return in_fork(work, seconds) == 0


def main() -> None:
    parser = argparse.ArgumentParser(prog="script/mutants", description=__doc__.partition("\n")[0])
    parser.add_argument(
        "modules", nargs="+", metavar="MODULE[:A-B|::NAME]", help="components/providers/differ.py::is_declared"
    )
    parser.add_argument("--tests", nargs="+", default=["tests/components"], help="files or folders (tests/components)")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="test only every N-th mutant")
    parser.add_argument("--seconds", type=float, default=120, help="a mutant that takes longer is killed (120)")
    given = parser.parse_args()
    os.chdir(ROOT)
    sys.path.insert(0, str(ROOT))
    try:
        chosen = [lines_of(module) for module in given.modules]
    except ValueError as problem:
        parser.error(str(problem))
    if foreign := [test for test in given.tests if ROOT not in Path(test.partition("::")[0]).resolve().parents]:
        parser.error(f"no tests of this project: {', '.join(foreign)}")
    for name in PRELOADED:
        importlib.import_module(name)
    print("recording which test calls what ...", flush=True)
    calls = record([path for path, _ in chosen], given.tests)
    mutants = [mutant for path, lines in chosen for mutant in mutants_of(path) if mutant.line in lines][:: given.every]
    print(f"{len(mutants)} mutants, {len(calls.seconds)} tests", flush=True)
    killed = uncalled = 0
    for number, mutant in enumerate(mutants):
        if number and number % 25 == 0:
            print(f"... {number} tried", flush=True)
        tests = tests_for(mutant, calls)
        if not tests:
            uncalled += 1
            print(f"not called   {mutant}", flush=True)
        elif survives(mutant, tests, given.seconds):
            print(f"survived     {mutant}", flush=True)
        else:
            killed += 1
    print(f"{killed} of {len(mutants)} killed ({100 * killed / max(len(mutants), 1):.1f} %), {uncalled} not called")


if __name__ == "__main__":
    main()
