"""Applies a checkout with the real Pulumi engine to a copy of the account, from a copy of the stack's state.

Everything is in a temporary folder: the project (its files as links), its config, the state and the sandbox. The stack
itself is only exported. Only resources of this project's own kinds are applied: an engine that changes a database of
the same program, because a price is rehearsed, is worse than no rehearsal.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml

from components.redaction import as_line
from pricing.program import configuration

#: How long one command of the engine may take, in seconds.
TIMEOUT: Final = 1_800
#: Pulumi's signature of a secret in a state.
_SECRET: Final = "4dabf18193072939515e22adb298388d"
_OURS: Final = (
    *("pulumi-python:dynamic/stripe:", "pulumi:providers:pulumi", "pulumi:pulumi:Stack", "stripe-pricing:index:"),
    # Its provider only reads other stacks.
    "pulumi:pulumi:StackReference",
)
#: The settings of the real account, which a rehearsal has its own of.
_ACCOUNT: Final = (
    *("mode", "apiKey", "apiBase", "account", "sandboxFile", "requestsPerSecond"),
    *("retrySeconds", "timeoutSeconds", "allowLocalState", "allowEmptyPassphrase"),
)


class EngineError(Exception):
    """The engine cannot be used; the message is one line."""


class ApplyError(Exception):
    """The engine could not apply the checkout; the message is one line, the engine's own."""


@dataclass
class Engine:
    """A stack of its own for a rehearsal.

    Attributes:
        checkout: the project's folder.
        stack: the stack's name.
        folder: the temporary folder.
        changes: how many resources the last `up` changed, by operation: `{"create": 2}`.
    """

    checkout: Path
    stack: str
    folder: Path
    changes: Counter[str] = field(default_factory=Counter)

    @property
    def project(self) -> Path:
        return self.folder / "project"

    # -- before the copy ----------------------------------------------------------------------------------------

    def exported(self, stack: str | None = None) -> dict[str, Any]:
        """The stack's state, or another's of the project, without secrets.

        Raises:
            EngineError: there is no engine, no such stack, or its state cannot be read.
        """
        name = stack or self.stack
        done = _pulumi(self.checkout, dict(os.environ), "stack", "export", "--stack", name)
        if done.returncode != 0:
            raise EngineError(f"the state of stack {name} cannot be read: {_reason(done)}")
        exported: dict[str, Any] = json.loads(done.stdout)
        deployment = exported["deployment"]
        deployment.pop("secrets_providers", None)
        deployment.pop("pending_operations", None)
        resources = deployment.get("resources") or []
        if foreign := sorted({each["type"] for each in resources if not each["type"].startswith(_OURS)}):
            raise EngineError(_others(foreign))
        exported["deployment"] = _without_secrets(deployment)
        return exported

    def promoted_from(self) -> str | None:
        """The stack that this one may only offer the versions of."""
        found = configuration(self.checkout, self.stack).get("stripe-pricing:promotedFrom")
        return found if isinstance(found, str) else None

    # -- with the copy ------------------------------------------------------------------------------------------

    def prepare(self, states: Mapping[str, str], sandbox_file: Path) -> None:
        """Make the project and its stacks.

        Args:
            states: the state of each stack (JSON), as exported, with the ids of the copy.

        Raises:
            EngineError: the engine refuses them.
        """
        self.project.mkdir()
        for each in self.checkout.iterdir():
            if not (each.name.startswith("Pulumi.") and each.suffix in (".yaml", ".yml")):
                (self.project / each.name).symlink_to(each)
        for name in ("Pulumi.yaml", "Pulumi.yml"):
            if (self.checkout / name).exists():
                shutil.copyfile(self.checkout / name, self.project / name)
        (self.folder / "state").mkdir()
        for name, state in states.items():
            config = _config(configuration(self.checkout, name), sandbox_file)
            file = self.project / f"Pulumi.{name}.yaml"
            file.write_text(yaml.safe_dump({"config": config}), encoding="utf-8")
            self._do("stack", "init", name)
            exported = self.folder / f"{name}.json"
            exported.write_text(state, encoding="utf-8")
            self._do("stack", "import", "--stack", name, "--file", str(exported))
            exported.unlink()

    def _do(self, *arguments: str) -> str:
        done = _pulumi(self.project, self._environment(), *arguments)
        if done.returncode != 0:
            raise EngineError(f"pulumi {' '.join(arguments[:2])}: {_reason(done)}")
        return done.stdout

    def check(self) -> None:
        """Refuse a checkout with resources that are not this project's: `up` would really change them.

        Raises:
            EngineError: it has such resources.
            ApplyError: the preview fails.
        """
        arguments = ("preview", "--stack", self.stack, "--json")
        done = _pulumi(self.project, self._environment(), *arguments)
        try:
            steps = json.loads(done.stdout).get("steps") or []
        except ValueError:
            raise ApplyError(_reason(done)) from None
        types = {
            str(state["type"]) for step in steps for state in (step.get("newState"), step.get("oldState")) if state
        }
        if foreign := sorted(each for each in types if not each.startswith(_OURS)):
            raise EngineError(_others(foreign))
        if done.returncode != 0:
            raise ApplyError(_reason(done))

    def up(self) -> None:
        """Apply the checkout.

        Raises:
            ApplyError: the engine or a provider refused.
        """
        arguments = ("up", "--stack", self.stack, "--yes", "--skip-preview", "--json")
        done = _pulumi(self.project, self._environment(), *arguments)
        self.changes = Counter(_changes(done.stdout))
        if done.returncode != 0:
            raise ApplyError(_reason(done))

    def resources(self) -> list[dict[str, Any]]:
        """The resources of the rehearsal's own state."""
        exported = json.loads(self._do("stack", "export", "--stack", self.stack))
        found: list[dict[str, Any]] = exported["deployment"].get("resources") or []
        return found

    def _environment(self) -> dict[str, str]:
        kept = {
            name: value
            for name, value in os.environ.items()
            if name == "PULUMI_HOME" or not name.startswith(("PULUMI_", "STRIPE_"))
        }
        python = Path(sys.executable)
        return {
            **kept,
            "PATH": os.pathsep.join([str(python.parent), kept.get("PATH", "")]),
            "VIRTUAL_ENV": str(python.parent.parent),
            "PULUMI_BACKEND_URL": (self.folder / "state").as_uri(),
            # The state has no secret, and is deleted at the end.
            "PULUMI_CONFIG_PASSPHRASE": "",
            "PULUMI_SKIP_UPDATE_CHECK": "true",
        }


def _pulumi(folder: Path, environment: Mapping[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    if shutil.which("pulumi", path=environment.get("PATH")) is None:
        raise EngineError("a rehearsal needs the Pulumi engine: put pulumi on PATH")
    command = ["pulumi", *arguments, "--non-interactive", "--color", "never"]
    try:
        return subprocess.run(
            command, cwd=folder, env=dict(environment), capture_output=True, text=True, timeout=TIMEOUT, check=False
        )
    except subprocess.TimeoutExpired:
        raise EngineError(f"pulumi {arguments[0]} has not ended after {TIMEOUT // 60} minutes") from None


def _config(given: Mapping[str, Any], sandbox_file: Path) -> dict[str, Any]:
    """A stack's config in which the account is the copy; encrypted values are left out."""
    names = {f"{namespace}:{name}" for namespace in ("stripe-pricing", "stripe") for name in _ACCOUNT}
    kept = {
        name: value
        for name, value in given.items()
        if name not in names and not (isinstance(value, Mapping) and value.keys() == {"secure"})
    }
    account = {"mode": "sandbox", "sandboxFile": str(sandbox_file), "retrySeconds": "5"}
    return kept | {f"stripe-pricing:{name}": value for name, value in account.items()}


def _without_secrets(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            name: _without_secrets(each)
            for name, each in value.items()
            if not (isinstance(each, dict) and _SECRET in each)
        }
    return [_without_secrets(each) for each in value] if isinstance(value, list) else value


def _others(types: list[str]) -> str:
    few = ", ".join(types[:3]) + (", ..." if len(types) > 3 else "")
    return f"this program also has {few}: a rehearsal would really change them, so it is not done"


def _changes(output: str) -> dict[str, int]:
    """The number of changed resources by operation, from the end of what `up --json` prints."""
    found: dict[str, int] = {}
    for line in output.splitlines():
        try:
            event = json.loads(line)
        except ValueError:
            continue
        summary = event.get("summaryEvent") if isinstance(event, dict) else None
        if summary:
            changes = summary.get("resourceChanges") or {}
            found = {str(name): int(count) for name, count in changes.items() if name != "same"}
    return found


def _reason(done: subprocess.CompletedProcess[str]) -> str:
    """The first error that the engine printed."""
    lines = [line.strip() for line in (done.stderr + "\n" + _diagnostics(done.stdout)).splitlines() if line.strip()]
    marked = [line for line in lines if line.startswith("error:") or "error:" in line]
    found = (marked or lines or [f"exit code {done.returncode}"])[0]
    return as_line(found.removeprefix("error:").strip())


def _diagnostics(output: str) -> str:
    """The messages of the engine's JSON: of a preview's one document, or of the events of an `up`."""
    found = []
    for text in (output, *output.splitlines()):
        try:
            value = json.loads(text)
        except ValueError:
            continue
        if not isinstance(value, dict):
            continue
        given = [*(value.get("diagnostics") or ()), value.get("diagnosticEvent") or {}]
        found += [f"error: {each['message']}" for each in given if each.get("severity") == "error"]
    return "\n".join(found)
