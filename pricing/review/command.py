"""`pricing review`: what a change does to whom, as one Markdown comment for its pull request."""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from components.account import Account, AccountError
from components.settings import SettingsError
from pricing.ending import DECIDE, DONE, ERROR, reported, say
from pricing.evaluation import evaluate
from pricing.impact import chart, report
from pricing.impact import command as impact_command
from pricing.impact.guardrails import GuardrailError
from pricing.impact.reading import ExportError
from pricing.program import ProgramError, project, settings_of
from pricing.review import checkouts as review_checkouts
from pricing.review import preview as review_preview
from pricing.review import proration
from pricing.review import text as review_text
from pricing.review.change import Preview
from pricing.review.preview import PreviewError
from pricing.review.proration import Proration

#: What an impact cannot be measured for.
_UNMEASURED: Final = (ProgramError, impact_command.CommandError, ExportError, AccountError, SettingsError, OSError)

_NO_STATE: Final = (
    "Two checkouts are compared here, without the stack's state: changes that were made in Stripe, or that have not "
    "been applied yet, are not in it, nor what is prorated today in money."
)


def add_to(commands: Any) -> None:
    """Add the command to `pricing`."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "review",
        help="what a change does to whom, as one Markdown comment",
        description="Prints a comment for the pull request, or nothing if nothing changes. Exit codes: 0 no objection, "
        "2 an exceeded guardrail without acknowledgement, 3 an error, a preview that failed or was cut short, or "
        "figures that cannot be trusted; the comment says which. It only reads.",
    )
    parser.add_argument("--stack", default="dev", help="the stack to preview (default: %(default)s)")
    source = parser.add_mutually_exclusive_group()
    source.add_argument(
        "--preview", type=Path, metavar="FILE", help="the output of pulumi preview --json (default: it is run)"
    )
    source.add_argument(
        "--base",
        type=Path,
        metavar="FOLDER",
        help="compare with the program of this checkout instead: without a state, a key or secrets",
    )
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the comment there (default: output)")
    parser.add_argument("--impact", action="store_true", help="add who pays what, from the account's closed invoices")
    parser.add_argument(
        "--from",
        dest="files",
        action="append",
        default=[],
        type=Path,
        metavar="FILE",
        help="the same, from an export or a saved sample; more than once for several plans",
    )
    impact_command.add_sources(parser)
    parser.add_argument("--svg", type=Path, metavar="FILE", help="write the chart of the impact there")
    parser.add_argument("--chart", metavar="ADDRESS", help="where the comment finds that chart")
    parser.set_defaults(run=run)


@reported(ProgramError, PreviewError, GuardrailError)
def run(arguments: argparse.Namespace) -> int:
    """Run the command; returns the exit code."""
    preview, notes = _preview(arguments)
    if preview.failure is not None or preview.changes_nothing:
        _write(arguments, review_text.comment(preview))
        if preview.failure is not None:
            return ERROR
        say(f"nothing changes in {preview.stack}")
        return DONE
    impacts, code = _impacts(arguments, preview, notes)
    prorations = _prorations(arguments, preview, notes)
    if prorations is None:
        prorations, code = [], ERROR
    _write(arguments, review_text.comment(preview, impacts=impacts, prorations=prorations, notes=notes))
    return ERROR if preview.doubt else code


def _preview(arguments: argparse.Namespace) -> tuple[Preview, list[str]]:
    """What changes, and what the review could not look at."""
    # With its organization, it is a name for Pulumi alone.
    here, stack = Path.cwd(), arguments.stack.rpartition("/")[2]
    if arguments.base is not None:
        preview = review_checkouts.compared(arguments.base, here, stack)
        return preview, [_NO_STATE]
    name = project(here)
    found = evaluate(here, stack, trusted=True)
    notes = []
    if found.failure is not None:
        reason = found.failure.splitlines()[-1]
        notes.append(f"Versions and rollouts are not shown: the program does not run without the engine ({reason}).")
    if arguments.preview is not None:
        text, errors, code = arguments.preview.read_text(encoding="utf-8", errors="replace"), "", 0
    else:
        text, errors, code = review_preview.run(here, arguments.stack)
    preview = review_preview.read(
        text, project=name, stack=arguments.stack, after=found.plans, errors=errors, code=code
    )
    if preview.failure is not None:
        preview = replace(preview, failure=preview.failure.replace(f"{here}{os.sep}", ""))
    return preview, notes


def _prorations(arguments: argparse.Namespace, preview: Preview, notes: list[str]) -> list[Proration] | None:
    """What is prorated if the change is applied now, where the account is read; None if it could not be."""
    if not any(proration.is_prorated(step, preview.objects) for step in preview.steps):
        return []
    if arguments.base is not None:
        return []
    if not arguments.impact:
        notes.append(
            "What is prorated today is not in money here: a program does not have the billing periods; --impact reads "
            "them from Stripe."
        )
        return []
    try:
        return proration.read(preview, Account(settings_of(Path.cwd(), arguments.stack.rpartition("/")[2])))
    except (AccountError, ProgramError, SettingsError) as problem:
        notes.append(f"What is prorated today is not known: {problem}")
        return None


def _impacts(
    arguments: argparse.Namespace, preview: Preview, notes: list[str]
) -> tuple[list[tuple[list[str], str]], int]:
    """The impact of each plan that offers another version, and the exit code; what is not known is a note."""
    found: list[tuple[list[str], str]] = []
    codes = {DONE}
    wanted = preview.offers if arguments.impact or arguments.files else []
    for name, old, new in wanted:
        told = f"{name}@{old} → {name}@{new}"
        try:
            measured = _measured(arguments, name, old, new)
        except _UNMEASURED as problem:
            notes.append(f"Who pays what with {told} is not known: {problem}")
            codes.add(ERROR)
            continue
        codes.add(measured.code)
        address = _draw(arguments, measured, name, alone=len(wanted) == 1)
        is_picture = bool(address) and str(address).lower().rpartition(".")[2] in ("svg", "png")
        top = report.summary(
            measured.impact, measured.limits, idle=measured.idle, chart=address if is_picture else None
        )
        if address and not is_picture:
            top.append(f"[Chart: bill against usage]({address})")
        found.append(
            ([f"**Impact of {told}, from closed invoices**", *top], "\n\n".join(report.details(measured.impact)))
        )
    return found, ERROR if ERROR in codes else DECIDE if DECIDE in codes else DONE


def _measured(arguments: argparse.Namespace, name: str, old: int, new: int) -> impact_command.Measured:
    """The impact from the account, or from the first file that fits.

    Raises:
        ProgramError, CommandError, ExportError, AccountError, SettingsError: there is none.
    """
    given = {
        **vars(arguments),
        "stack": arguments.stack.rpartition("/")[2],
        "old": f"{name}@{old}",
        "new": f"{name}@{new}",
        "save": None,
    }
    problem: ExportError | None = None
    for file in arguments.files or [None]:
        try:
            return impact_command.measured(argparse.Namespace(**{**given, "file": file}))
        except ExportError as error:
            problem = problem or error
    raise problem or ExportError("there is no file")


def _draw(arguments: argparse.Namespace, measured: impact_command.Measured, name: str, *, alone: bool) -> str | None:
    """Write the chart where asked; returns the address that shows it."""
    address: str | None = arguments.chart
    if arguments.svg is not None and (curve := chart.curve(measured.comparison, measured.impact)) is not None:
        path = arguments.svg if alone else arguments.svg.with_stem(f"{arguments.svg.stem}-{name}")
        path.write_text(chart.svg(measured.impact, curve), encoding="utf-8")
        return address or path.name
    return address


def _write(arguments: argparse.Namespace, text: str) -> None:
    if arguments.markdown is not None:
        arguments.markdown.write_text(text, encoding="utf-8")
    else:
        sys.stdout.write(text)
