"""Reads `pulumi preview --json`, which has the steps, and the warnings of the program and the providers."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from pulumi.output import UNKNOWN
from pulumi.runtime import rpc

from components.redaction import as_line
from components.this_run import kind_and_name
from pricing.evaluation import PlanVersion, PlanVersions
from pricing.review.change import KIND, Op, Preview, Step, arguments

_OPS: Final[Mapping[str, Op]] = {
    "create": "create",
    "import": "adopt",
    "update": "update",
    "replace": "replace",
    "create-replacement": "replace",
    "delete-replaced": "replace",
    "import-replacement": "replace",
    "delete": "delete",
    "same": "same",
}
#: Pulumi's own resources: providers and the stack.
_PULUMIS: Final = ("pulumi:providers:", "pulumi:pulumi:")
_EXITED: Final = "an unhandled error occurred: program exited with non-zero exit code"


class PreviewError(Exception):
    """There is no preview to read; the message is one line."""


def run(folder: Path, stack: str) -> tuple[str, str, int]:
    """Preview the stack with the engine; returns its standard output, its standard error and its exit code.

    Raises:
        PreviewError: there is no engine.
    """
    if shutil.which("pulumi") is None:
        raise PreviewError(
            "there is no pulumi on PATH: source script/bootstrap, or give a preview that was made (--preview FILE) or "
            "the checkout to compare with (--base FOLDER)"
        )
    # What a subscription pays needs the prices that stay the same.
    command = ["pulumi", "preview", "--stack", stack, "--json", "--show-sames", "--non-interactive", "--color", "never"]
    environ = {**os.environ, "PULUMI_SKIP_UPDATE_CHECK": "true"}
    done = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, check=False)
    return done.stdout, done.stderr, done.returncode


def read(
    text: str, *, project: str, stack: str, after: Mapping[str, PlanVersions], errors: str = "", code: int = 0
) -> Preview:
    """A preview of the engine.

    Args:
        text: the output of `pulumi preview --json`.
        after: the plans as the program declares them now; empty if that is not known.
        errors: what the command printed to standard error; `code` is its exit code.
    """
    try:
        found = json.loads(text)
        if not isinstance(found, dict):
            raise ValueError
    except ValueError:
        if code > 0 and errors.strip():
            return Preview(project, stack, failure=errors.strip().removeprefix("error: "))
        what = "is empty" if not text.strip() else "breaks off, or is not the output of pulumi preview --json"
        return Preview(project, stack, doubt=f"what pulumi preview --json printed {what}")
    steps = _steps(found.get("steps") or [])
    messages = [(str(each.get("severity")), str(each.get("message"))) for each in found.get("diagnostics") or ()]
    problems = [text.strip().removeprefix("error: ") for severity, text in messages if severity == "error"]
    if any(text.endswith("canceled") for text in problems):
        return Preview(project, stack, doubt="the preview was interrupted")
    if problems or code:
        told = [problem for problem in problems if _EXITED not in problem] or problems or [errors.strip()]
        # The steps until then have names of customers, which the failure may quote.
        return Preview(project, stack, steps, failure="\n".join(told) or f"pulumi preview ended with {code}")
    before = _plans(found.get("steps") or [], after) if after else {}
    return Preview(
        project,
        stack,
        steps=steps,
        before=before,
        after=after,
        warnings=[as_line(text.removeprefix("warning: ")) for severity, text in messages if severity == "warning"],
        doubt=_doubt(found),
        is_whole=_is_whole(found),
    )


def _doubt(found: Mapping[str, Any]) -> str | None:
    """Why a preview is not complete."""
    summary = found.get("changeSummary")
    if not isinstance(summary, Mapping):
        return "the preview has no summary, so it did not come to its end"
    named = sum(count for op, count in summary.items() if op != "same")
    listed = sum(each.get("op") != "same" for each in found.get("steps") or ())
    if listed < named:
        return f"the preview counts {named:,} steps and lists {listed:,}"
    return None


def _is_whole(found: Mapping[str, Any]) -> bool:
    """Whether what stays the same is listed too (--show-sames)."""
    steps = sum(each.get("op") == "same" for each in found.get("steps") or ())
    return bool(steps >= int((found.get("changeSummary") or {}).get("same") or 0))


def _steps(given: list[Mapping[str, Any]]) -> list[Step]:
    """The steps, one for each resource: a replacement is one."""
    found: dict[str, Step] = {}
    for each in given:
        op, urn = _OPS.get(str(each.get("op"))), str(each.get("urn"))
        if op is None or urn.count("::") < 3:
            continue
        type_ = urn.split("::")[2].rpartition("$")[2]
        if type_.startswith(_PULUMIS):
            continue
        kind, name = kind_and_name(urn) or (type_, urn.split("::", 3)[3])
        before, now = each.get("oldState") or {}, each.get("newState") or {}
        there = found.get(urn)
        step = _step(op, kind, name, urn, before, now)
        if there is not None and op == "replace" == there.op:
            step = Step(op, kind, name, urn, there.id, there.outputs, there.old, there.new or step.new, there.prices)
        found[urn] = step
    return list(found.values())


def _step(op: Op, kind: str, name: str, urn: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> Step:
    described = KIND.get(kind)
    olds, outs = _known(before.get("inputs") or {}), _known(before.get("outputs") or {})
    news = _known(now.get("inputs") or {}) if op != "delete" else {}
    links = tuple((now.get("propertyDependencies") or {}).get("items") or ())
    if described is None:
        return Step(op, kind, name, urn, "", outs, olds, news)
    old = arguments(described, outs or olds)
    new = arguments(described, news)
    if op == "create" and isinstance(new.get("adopt"), str):
        op = "adopt"
    return Step(op, kind, name, urn, str(before.get("id") or urn), outs, old, new, links)


def _known(value: Any) -> Any:
    """Properties with Pulumi's mark for what is not known yet as its own value."""
    if value == rpc.UNKNOWN:
        return UNKNOWN
    if isinstance(value, Mapping):
        return {key: _known(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_known(each) for each in value]
    return value


def _plans(steps: list[Mapping[str, Any]], after: Mapping[str, PlanVersions]) -> dict[str, PlanVersions]:
    """The plans as the state has them. A published version costs what the program says of it."""
    # Without --show-sames, a plan that stays as it is has no step.
    found = dict(after)
    for step in steps:
        urn, old = str(step.get("urn")), step.get("oldState")
        named = kind_and_name(urn) if urn.count("::") >= 3 else None
        if named is None or named[0] != "PublishedPlan":
            continue
        if not old:
            found.pop(named[1], None)
            continue
        outputs = old.get("outputs") or {}
        # What an older state does not say is version 1.
        offered = int(outputs.get("offered") or 1)
        numbers = sorted(int(number) for number in outputs.get("versions") or [offered])
        declared = after[named[1]].versions if named[1] in after else {}
        whole = PlanVersion({"all": str((old.get("inputs") or {}).get("price") or "?")})
        unknown = PlanVersion({})
        versions = {number: declared.get(number) or (whole if number == offered else unknown) for number in numbers}
        found[named[1]] = PlanVersions(offered, versions)
    return found
