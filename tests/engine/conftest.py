"""The real Pulumi engine on a project in a temporary folder, with a state and a sandbox of its own."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
import stripe

from sandbox.client import SandboxHTTPClient

ROOT = Path(__file__).resolve().parents[2]
ENGINE_TIMEOUT = 180.0


#: Begun first, since one of them alone is a tenth of the whole run: none of them is left over in the end.
LONGEST = ("test_readme.py", "test_production_page.py", "test_first_hour.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.name not in LONGEST)
    for item in items:
        if Path(item.path).is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.engine)


def engine_path() -> str:
    """PATH with this environment's python first (the language host takes the first one), and the engine."""
    version = re.search(r"^PULUMI_ENGINE_VERSION=(\S+)$", (ROOT / "script/bootstrap").read_text(), re.MULTILINE)
    assert version
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    built = cache / "stripe-pricing" / f"pulumi-{version[1]}" / "bin"
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"], str(built)])
    if shutil.which("pulumi", path=path) is None:
        pytest.fail("there is no Pulumi engine yet: run script/bootstrap")
    return path


@dataclass
class Result:
    """What one pulumi command printed and how it ended."""

    command: str
    code: int
    stdout: str
    stderr: str

    @property
    def text(self) -> str:
        return self.stdout + self.stderr

    def ok(self) -> Result:
        assert self.code == 0, f"{self.command} ended with {self.code}:\n{self.text}"
        return self


@dataclass
class Project:
    """A Pulumi project in a folder: write a program, run the engine on it, look at the sandbox behind it."""

    folder: Path
    environ: dict[str, str]
    stack: str = "dev"
    timeout: float = ENGINE_TIMEOUT

    @property
    def sandbox_file(self) -> Path:
        return self.folder / "stripe.db"

    @cached_property
    def client(self) -> stripe.StripeClient:
        return stripe.StripeClient("sk_test_sandbox", http_client=SandboxHTTPClient(self.sandbox_file))

    def write(self, program: str) -> None:
        (self.folder / "__main__.py").write_text(program)

    def edit(self, old: str, new: str) -> None:
        """Change the program as a person would; the old text must be there once."""
        program = (self.folder / "__main__.py").read_text()
        assert program.count(old) == 1, f"{old!r} stands {program.count(old)} times in the program"
        self.write(program.replace(old, new))

    def pulumi(self, *arguments: str, env: dict[str, str] | None = None) -> Result:
        done = subprocess.run(
            ["pulumi", *arguments, "--non-interactive", "--color", "never"],
            cwd=self.folder,
            env={**self.environ, **(env or {})},
            capture_output=True,
            text=True,
            timeout=self.timeout,
            check=False,
        )
        return Result(" ".join(["pulumi", *arguments]), done.returncode, done.stdout, done.stderr)

    def run(self, verb: str, *arguments: str, env: dict[str, str] | None = None) -> Result:
        return self.pulumi(verb, "--stack", self.stack, *arguments, env=env)

    def preview(self, *arguments: str, env: dict[str, str] | None = None) -> Result:
        return self.run("preview", "--suppress-progress", *arguments, env=env)

    def preview_json(self, *, env: dict[str, str] | None = None) -> dict[str, Any]:
        parsed: dict[str, Any] = json.loads(self.run("preview", "--json", env=env).ok().stdout)
        return parsed

    def up(self, *arguments: str, env: dict[str, str] | None = None) -> Result:
        return self.run("up", "--yes", "--skip-preview", "--suppress-progress", *arguments, env=env)

    def refresh(self, *arguments: str, env: dict[str, str] | None = None) -> Result:
        return self.run("refresh", "--yes", "--skip-preview", "--suppress-progress", *arguments, env=env)

    def destroy(self, *arguments: str, env: dict[str, str] | None = None) -> Result:
        return self.run("destroy", "--yes", "--skip-preview", "--suppress-progress", *arguments, env=env)

    def config(self, key: str, value: str) -> None:
        self.run("config", "set", key, value).ok()

    def outputs(self) -> dict[str, Any]:
        parsed: dict[str, Any] = json.loads(self.run("stack", "output", "--json").ok().stdout)
        return parsed

    def state(self) -> list[dict[str, Any]]:
        """The stack's resources as its state file has them, the stack and the provider left out."""
        deployment = json.loads(self.run("stack", "export").ok().stdout)["deployment"]
        return [r for r in deployment.get("resources", []) if r["type"].startswith("pulumi-python:dynamic/stripe:")]


def project_in(
    folder: Path, program: str, *, mode: str = "sandbox", stack: str = "dev", name: str = "stripe-pricing"
) -> Project:
    """A project in an empty folder, with a state, a sandbox and an engine's home of its own, and no stack yet."""
    (folder / "Pulumi.yaml").write_text(f"name: {name}\nruntime: python\n")
    (folder / "state").mkdir()
    environ = {key: value for key, value in os.environ.items() if not key.startswith(("PULUMI_", "STRIPE_"))}
    environ |= {
        "PATH": engine_path(),
        "VIRTUAL_ENV": str(Path(sys.executable).parents[1]),
        "PULUMI_BACKEND_URL": f"file://{folder / 'state'}",
        # A live stack under an empty one is refused.
        "PULUMI_CONFIG_PASSPHRASE": "of the tests" if mode == "live" else "",
        "PULUMI_SKIP_UPDATE_CHECK": "true",
        # Plugins are looked up in the home folder: one of the test's own keeps parallel runs apart.
        "PULUMI_HOME": str(folder / "home"),
        "STRIPE_SANDBOX_FILE": str(folder / "stripe.db"),
        # Where `usage` keeps its spool.
        "XDG_STATE_HOME": str(folder / "spools"),
    }
    project = Project(folder, environ, stack)
    project.write(program)
    return project


@pytest.fixture(scope="session")
def new_project(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Project]:
    """Make projects: `new_project(program_text, mode="sandbox", stack="dev", name="stripe-pricing")`."""

    def make(program: str, *, mode: str = "sandbox", stack: str = "dev", name: str = "stripe-pricing") -> Project:
        project = project_in(tmp_path_factory.mktemp("project"), program, mode=mode, stack=stack, name=name)
        project.pulumi("stack", "init", stack).ok()
        project.config("stripe-pricing:mode", mode)
        return project

    return make


@pytest.fixture
def alpaca(new_project: Callable[..., Project]) -> Project:
    """The project's own program, as a newcomer gets it."""
    return new_project((ROOT / "__main__.py").read_text())
