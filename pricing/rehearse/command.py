"""`pricing rehearse`: applies a checkout to an anonymised copy of the account and compares thirteen renewals."""

from __future__ import annotations

import argparse
import json
import os
import re
import secrets
import shutil
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from components.account import Account
from pricing.ending import DECIDE, DONE, reported
from pricing.program import ProgramError, plans, project, settings_of
from pricing.rehearse.change import NotApplied, PullRequest, account_of, catalogue, elsewhere
from pricing.rehearse.check import Finding, findings
from pricing.rehearse.copy import CopyError, Ids, Shape, shape_of
from pricing.rehearse.engine import ApplyError, Engine, EngineError
from pricing.rehearse.report import Bills, Rehearsal, markdown
from pricing.rehearse.sandbox import Copy
from pricing.rehearse.walk import RENEWALS, Progress, applied_at, bills, meter_events, walk
from pricing.rollout.decisions import LOCK

_SOURCES: Final = (".py", ".yaml", ".yml", ".toml", ".json")
_ACCOUNT: Final = re.compile(r"\bacct_\w+")
#: Folders of a checkout that have no program.
_SKIPPED: Final = ("node_modules", "venv")


def add_to(commands: Any) -> None:
    """Add the command to `pricing`."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "rehearse",
        help="apply this checkout to an anonymised copy of the account, and compare thirteen renewals with today's",
        description="Copies the account's shape, without names, into a sandbox file, applies the checkout there with "
        "the Pulumi engine and the rollout that it declares, bills thirteen renewals, and compares every bill with "
        "today's. The account is only read: a restricted key is enough (STRIPE_API_KEY). Exit codes: 0 every "
        "difference is explained by the declared versions, 2 a finding, 3 an error.",
    )
    parser.add_argument("--stack", default="dev", help="whose account and state (default: %(default)s)")
    parser.add_argument("--customers", default="300", help="how many at most (default: %(default)s)")
    parser.add_argument(
        "--months", default="3", help="months of invoices whose usage is repeated (default: %(default)s)"
    )
    parser.add_argument(
        "--open-period",
        action="store_true",
        help="also read what customers without a billed period have used so far: a call for each of them and meter",
    )
    parser.add_argument("--test-clock", metavar="ID", help="the customers of a test clock instead, in its time")
    parser.add_argument(
        "--locked-by", default=LOCK, metavar="KEY", help="metadata key that locks a subscription (default: %(default)s)"
    )
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="keep both copies there, as sandbox files")
    parser.add_argument(
        "--markdown", type=Path, metavar="FILE", help="write the report there (default: standard output)"
    )
    parser.set_defaults(run=run)


@reported(ApplyError, CopyError, EngineError, ProgramError, interrupted="nothing was kept")
def run(arguments: argparse.Namespace) -> int:
    """Run the command; returns the exit code."""
    customers, months = (_number(arguments, name, most) for name, most in (("customers", 10_000), ("months", 12)))
    checkout = Path.cwd()
    account = Account(settings_of(checkout, arguments.stack))
    with tempfile.TemporaryDirectory(prefix="pricing-rehearse-") as folder:
        rehearsed = _rehearse(arguments, checkout, account, Path(folder), customers, months)
        if arguments.keep is not None:
            _keep(Path(folder), arguments.keep)
    if rehearsed.changes_nothing:
        print("pricing: no bill changes", file=sys.stderr)
        return DONE
    text = markdown(rehearsed)
    if arguments.markdown is not None:
        arguments.markdown.write_text(text, encoding="utf-8")
    else:
        sys.stdout.write(text)
    return DECIDE if rehearsed.findings else DONE


def _number(arguments: argparse.Namespace, name: str, most: int) -> int:
    given = str(getattr(arguments, name))
    if not given.isdecimal() or not 1 <= int(given) <= most:
        raise CopyError(f"--{name} is {given!r}; it must be a number from 1 to {most:,}")
    return int(given)


def _rehearse(
    arguments: argparse.Namespace, checkout: Path, account: Account, folder: Path, customers: int, months: int
) -> Rehearsal:
    progress = _Progress()
    stack = f"{project(checkout)}/{arguments.stack}"
    engine = Engine(checkout, arguments.stack, folder)
    names = [each for each in (engine.promoted_from(), arguments.stack) if each is not None]
    progress("reading the stack's state")
    states = {name: json.dumps(engine.exported(name)) for name in names}
    literal = _literal(checkout)
    ids = Ids(literal + "".join(states.values()), literal, stack, secrets.token_bytes(16))
    progress("reading the account")
    shape = shape_of(
        account,
        ids,
        stack=stack,
        customers=customers,
        months=months,
        test_clock=arguments.test_clock,
        lock=arguments.locked_by,
        open_period=arguments.open_period,
        progress=progress,
    )
    today, then = Copy(folder / "today.db"), Copy(folder / "pull-request.db")
    try:
        for copy in (today, then):
            progress("filling the copies")
            copy.fill(shape)
        copied = {name: _as_copied(state, ids, then) for name, state in states.items()}
        engine.prepare(copied, then.path)
        progress("previewing the checkout")
        engine.check()
        pull_request = PullRequest(engine, stack, plans(engine.project, arguments.stack), arguments.locked_by)
        try:
            return rehearse(shape, today, then, pull_request, stack, progress)
        finally:
            pull_request.close()
    finally:
        today.close()
        then.close()


def rehearse(
    shape: Shape, today: Copy, then: Copy, change: PullRequest, stack: str, progress: Progress = lambda _: None
) -> Rehearsal:
    """Bill both copies, one of them changed, and compare every bill.

    Args:
        today, then: copies filled with the shape.
        change: what is applied to `then`.
    """
    events, silent = meter_events(shape)
    walk(today, shape, events, progress=progress)
    at = applied_at(shape, _catalogue(then, change), lambda each: elsewhere(each, stack))
    done = [f"Applied on {_minute(at)} of the copy's time{_why(at, shape)}."]
    before = bills(today)
    after = None
    found: list[Finding] = []
    try:
        walk(then, shape, events, change=change, at=at, progress=progress)
        after = bills(then)
        found = [*change.found, *findings(before, after, change.declared)]
    except NotApplied as problem:
        found = [*change.found, Finding("not applied", "", at, str(problem))]
    done += change.notes
    for command, moved, stays in change.rollouts() if after is not None else ():
        reasons = "; ".join(f"{count:,} {why}" for why, count in sorted(stays.items(), key=lambda each: -each[1]))
        done.append(f"`{command}`: {moved:,} moved{f'. Not moved: {reasons}' if reasons else ''}.")
    return Rehearsal(
        stack,
        len(shape.subscriptions),
        len(shape.customers),
        RENEWALS,
        Bills.of(before, shape.now),
        None if after is None else Bills.of(after, shape.now),
        found,
        shape.names,
        done,
        _trust(shape, len(silent), len(change.declared.edited)),
    )


def _catalogue(copy: Copy, change: PullRequest) -> dict[str, tuple[str, int, str]]:
    """The prices of the program's plans that the account has today."""
    account = account_of(copy)
    found: dict[str, tuple[str, int, str]] = {}
    for name, plan in change.plans.items():
        found |= catalogue(account, name, plan)
    return found


def _why(at: int, shape: Shape) -> str:
    return "" if at == shape.now else ", while the invoice of the first renewal was a draft"


def _trust(shape: Shape, silent: int, edited: int) -> list[str]:
    periods = [used for some in shape.usage.values() for used in some]
    lines = []
    if periods:
        first, last = min(each.start for each in periods), max(each.end for each in periods)
        lines.append(
            f"Usage is that of {len(periods):,} periods, {_day(first)} to {_day(last)}, repeated in turn; seats "
            "are those of today. Nobody is assumed to buy, use or leave otherwise because of the price."
        )
    if silent:
        lines.append(
            f"{_count(silent, 'customer')} with a metered price and without usage on any invoice: do not trust their "
            "usage, which is rehearsed as 0 (--open-period reads what they have used so far)."
        )
    if edited:
        lines.append(
            f"{_count(edited, 'declared subscription')} that this change adds, removes or changes otherwise: billed "
            "here, but not compared with a rating."
        )
    lines += [f"{_count(count, 'subscription')} {why}: not rehearsed." for why, count in sorted(shape.left_out.items())]
    lines.append(
        "Bills are before tax. Pending invoice items, credit balances and failed payments are not copied: every "
        "customer has a card that works."
    )
    return lines


class _Progress:
    """Says on standard error what is done, every two seconds at most."""

    def __init__(self) -> None:
        self._said = 0.0

    def __call__(self, sentence: str) -> None:
        if time.monotonic() - self._said >= 2:
            self._said = time.monotonic()
            print(f"pricing: {sentence}", file=sys.stderr, flush=True)


def _literal(checkout: Path) -> str:
    """What the program and its config say: the text of a checkout's sources."""
    texts = []
    for folder, folders, files in os.walk(checkout):
        folders[:] = [
            each
            for each in folders
            if not each.startswith(".") and each not in _SKIPPED and not (Path(folder) / each / "pyvenv.cfg").exists()
        ]
        for name in files:
            path = Path(folder) / name
            if path.suffix in _SOURCES and path.stat().st_size < 1_000_000:
                texts.append(path.read_text(encoding="utf-8", errors="replace"))
    return "\n".join(texts)


def _as_copied(state: str, ids: Ids, copy: Copy) -> str:
    """A stack's state whose ids, account and mode are those of the copy."""
    account = str(copy.control("GET", "")["account"])
    return _ACCOUNT.sub(account, ids.text(state)).replace('"livemode": true', '"livemode": false')


def _keep(folder: Path, where: Path) -> None:
    where.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name in ("today.db", "pull-request.db"):
        shutil.copyfile(folder / name, where / name)
        (where / name).chmod(0o600)


def _minute(at: int) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M UTC")


def _day(at: int) -> str:
    return datetime.fromtimestamp(at, UTC).date().isoformat()


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
