"""What a checkout's program declares, evaluated without an engine, a state, a key or secrets.

    python -P -m pricing.evaluation FOLDER STACK STATE RESULT

runs the program in a process of its own, because two checkouts have modules of the same names. STATE and RESULT are
JSON files: what the program reads as the stack's last state, and what it declares.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import pulumi
from pulumi.output import Unknown
from pulumi.runtime import rpc
from pulumi.runtime.mocks import MockMonitor

from components.plan import PublishedPlan
from components.this_run import READ_STATE, kind_and_name
from pricing.program import ProgramError, run

#: What a program gets of the environment if it is not trusted; everything else can be a secret.
KEPT: Final = ("HOME", "LANG", "LC_ALL", "PATH", "PYTHONPATH", "TMPDIR", "TZ", "VIRTUAL_ENV")
SECRET: Final = "[secret]"


@dataclass(frozen=True)
class PlanVersion:
    """One version of a plan, in words: the price of each charge by its key.

    Attributes:
        rollout: what happens to subscribers on other versions; None if the version declares nothing.
        trial_days: days before the first fee of a new subscription.
    """

    charges: Mapping[str, str]
    rollout: str | None = None
    trial_days: int | None = None


@dataclass(frozen=True)
class PlanVersions:
    """A plan: its versions by number, and the offered one."""

    offered: int
    versions: Mapping[int, PlanVersion]


@dataclass(frozen=True)
class Declared:
    """One declared resource.

    Attributes:
        former: the names that it had before (aliases).
        inputs: what the program declares, unknown values as Pulumi writes them.
        outputs: what a component registers as its outputs.
    """

    kind: str
    name: str
    urn: str
    former: list[str]
    inputs: dict[str, Any]
    outputs: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Evaluation:
    """What a program declares.

    Attributes:
        resources: in the order of their registration.
        plans: by name.
        warnings: what the program says of it.
        failure: why it refuses to run; None if it does not.
    """

    resources: list[Declared]
    plans: Mapping[str, PlanVersions]
    warnings: list[str]
    failure: str | None = None


def evaluate(folder: Path, stack: str, state: Mapping[str, Any] | None = None, *, trusted: bool = False) -> Evaluation:
    """What the program in a folder declares, from a process of its own.

    Args:
        state: the stack's last state as the program reads it: by URN, `{"type": ..., "outputs": ...}`.
        trusted: whether the process gets this one's environment, with its secrets.

    Raises:
        ProgramError: the process ended without a result.
    """
    with tempfile.TemporaryDirectory() as directory:
        before, result = Path(directory, "state.json"), Path(directory, "result.json")
        before.write_text(json.dumps(state or {}), encoding="utf-8")
        command = [sys.executable, "-P", "-m", "pricing.evaluation", os.fspath(folder.resolve()), stack]
        environ = {name: value for name, value in os.environ.items() if trusted or name in KEPT}
        done = subprocess.run(
            [*command, os.fspath(before), os.fspath(result)], env=environ, capture_output=True, text=True, check=False
        )
        if done.returncode != 0 or not result.exists():
            raise ProgramError(done.stderr.strip() or f"the program in {folder.name} ended with {done.returncode}")
        return _parsed(json.loads(result.read_text(encoding="utf-8")))


def _parsed(found: Mapping[str, Any]) -> Evaluation:
    plans = {
        name: PlanVersions(
            plan["offered"], {int(number): PlanVersion(**each) for number, each in plan["versions"].items()}
        )
        for name, plan in found["plans"].items()
    }
    resources = [Declared(**each) for each in found["resources"]]
    return Evaluation(resources, plans, found["warnings"], found["failure"])


# -- in the process ---------------------------------------------------------------------------------------------------


class _Mocks(pulumi.runtime.Mocks):
    """Gives every resource an id made of its kind and name, and answers with the state."""

    def __init__(self, state: Mapping[str, Any]) -> None:
        self._state = state

    def new_resource(self, args: pulumi.runtime.MockResourceArgs) -> tuple[str | None, dict[Any, Any]]:
        return f"{args.typ.rpartition(':')[2]}/{args.name}" if args.custom else "", args.inputs

    def call(self, args: pulumi.runtime.MockCallArgs) -> tuple[dict[Any, Any], list[tuple[str, str]] | None]:
        is_own = args.token == READ_STATE and str(args.args.get("stackName")).endswith(f"/{pulumi.get_stack()}")
        return ({"outputs": dict(self._state)} if is_own else {}), []


class _Monitor(MockMonitor):
    """Keeps what is registered."""

    def __init__(self, mocks: _Mocks) -> None:
        super().__init__(mocks)
        self.found: dict[str, Declared] = {}

    def RegisterResource(self, request: Any) -> Any:
        response = super().RegisterResource(request)  # type: ignore[no-untyped-call]
        urn = response.urn
        former = [alias.spec.name for alias in request.aliases if alias.spec.name]
        former += [alias.urn.rpartition("::")[2] for alias in request.aliases if alias.urn]
        kind, name = kind_and_name(urn) or (request.type, request.name)
        self.found[urn] = Declared(kind, name, urn, former, _as_json(rpc.deserialize_properties(request.object)))
        return response

    def RegisterResourceOutputs(self, request: Any) -> Any:
        if request.urn in self.found:
            self.found[request.urn].outputs.update(_as_json(rpc.deserialize_properties(request.outputs)))
        return super().RegisterResourceOutputs(request)  # type: ignore[no-untyped-call]


class _Warnings(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


def _as_json(value: Any) -> Any:
    """A property as JSON has it: no secret value, unknown ones as Pulumi writes them."""
    if rpc.is_rpc_secret(value):
        return SECRET
    if isinstance(value, Unknown):
        return rpc.UNKNOWN
    if isinstance(value, Mapping):
        return {str(key): _as_json(each) for key, each in value.items() if key != "__provider"}
    if isinstance(value, list):
        return [_as_json(each) for each in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)


def in_words(published: Mapping[str, PublishedPlan]) -> dict[str, PlanVersions]:
    """Published plans with the price of each charge in words."""
    return {
        name: PlanVersions(
            plan.offered.number,
            {
                number: PlanVersion(
                    {charge.key: version.plan.charge_text(charge) for charge in version.plan.charges},
                    version.rollout,
                    version.plan.trial_days,
                )
                for number, version in plan.versions.items()
            },
        )
        for name, plan in published.items()
    }


def _traceback(problem: Exception, folder: str) -> str:
    """Where the program failed: its own frames, without the folder of this machine."""
    there = problem.__traceback__
    while there is not None and there.tb_frame.f_code.co_filename != "__main__.py":
        there = there.tb_next
    lines = traceback.format_exception(type(problem), problem, there or problem.__traceback__)
    return "".join(lines).replace(f"{folder}{os.sep}", "")


def main(folder: str, stack: str, state: str, result: str) -> None:
    """Evaluate the program in this process."""
    handler = _Warnings()
    logger = logging.Logger("program")
    logger.addHandler(handler)
    mocks = _Mocks(json.loads(Path(state).read_text(encoding="utf-8")))
    monitor = _Monitor(mocks)
    plans: Mapping[str, PlanVersions] = {}
    failure = None
    try:
        plans = in_words(run(Path(folder), stack, mocks, monitor=monitor, logger=logger).plans)
    except ProgramError as problem:
        failure = str(problem)
    except Exception as problem:  # noqa: BLE001 - the program's own
        failure = _traceback(problem, folder)
    found = Evaluation(list(monitor.found.values()), plans, handler.lines, failure)
    Path(result).write_text(json.dumps(asdict(found)), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
