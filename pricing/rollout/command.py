"""`pricing rollout`: moves subscriptions that were created elsewhere to another version, at their renewal."""

from __future__ import annotations

import argparse
import csv
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.progress import track
from rich.table import Table
from rich.text import Text

import money
from components.account import Account
from components.plan import PublishedPlan
from components.providers.coupon import takes_off
from components.rating import Bill
from pricing import lists
from pricing.ending import DECIDE, DONE, reported
from pricing.program import ProgramError, plans, project, settings_of
from pricing.rollout import moving
from pricing.rollout.decisions import DAY, LOCK, Cohort, Placed, RolloutError, Rules, day, discounted
from pricing.rollout.journal import Journal
from pricing.rollout.moving import Rollout

#: How many subscriptions move between two checks of first invoices.
BATCH: Final = 100
#: How many moving subscriptions are shown; the export has all.
SHOWN: Final = 20
COLUMNS: Final = (
    "subscription",
    "customer",
    "what",
    "why",
    "effect",
    "currency",
    "every",
    "old",
    "new",
    "old_after_discounts",
    "new_after_discounts",
    "discounts",
    "quantities",
)


def add_to(commands: Any) -> None:
    """Add the command to `pricing`."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "rollout",
        help="move subscriptions that were created elsewhere to another version, at their renewal",
        description="Moves the subscriptions on a version of a plan that Checkout or an app has created (those that "
        "the program declares move with pulumi up). Without --apply it changes nothing. Exit: 0 done, 2 stopped, or "
        "halted because a first invoice was not as predicted, 3 an error.",
    )
    parser.add_argument("version", help="the new version, such as alpaca-ai@2")
    parser.add_argument("--from", dest="old", type=int, metavar="N", help="the old version (default: the one before)")
    parser.add_argument("--stack", default="dev", help="the stack with the prices and the account (%(default)s)")
    act = parser.add_mutually_exclusive_group()
    act.add_argument("--apply", action="store_true", help="give notice, and move those that can move")
    act.add_argument("--check", action="store_true", help="only compare first invoices with their predictions")
    act.add_argument("--undo", action="store_true", help="undo the moves")
    parser.add_argument(
        "--percent", type=_percent, default=Decimal(100), help="this share of the customers, such as 10"
    )
    parser.add_argument("--only", type=Path, metavar="FILE", help="only these ids of subscriptions or customers")
    parser.add_argument("--notice-days", type=_days, default=0, metavar="N", help="days between notice and effect")
    parser.add_argument("--within-days", type=_days, metavar="N", help="schedule only renewals within this time")
    parser.add_argument("--export", type=Path, metavar="FILE", help="write every old and new bill as CSV")
    parser.add_argument(
        "--accept", action="append", default=[], metavar="ID", help="continue despite this subscription's invoice"
    )
    parser.add_argument(
        "--locked-by", default=LOCK, metavar="KEY", help="metadata key that locks a subscription (%(default)s)"
    )
    parser.add_argument("--test-clock", metavar="ID", help="the subscriptions of a test clock instead, in its time")
    parser.add_argument("--journal", type=Path, metavar="FILE", help="default: .pricing/<stack>/<plan>@<from>-<to>.db")
    parser.set_defaults(run=run)


@reported(ProgramError, RolloutError)
def run(arguments: argparse.Namespace, console: Console | None = None, account: Account | None = None) -> int:
    """Run the command; returns the exit code."""
    with _opened(arguments, account) as asked:
        return _run(asked, arguments, console or Console())


def _run(asked: Rollout, arguments: argparse.Namespace, console: Console) -> int:
    rules = asked.rules
    console.print(_heading(asked, arguments))
    if arguments.accept:
        asked.accept(arguments.accept)
    changing = arguments.apply or arguments.check
    if wrong := asked.check() if changing else list(asked.journal.entries("mismatch")):
        console.print()
        for entry in wrong:
            console.print(Text(f"{entry.subscription}: {entry.note}", style="red"))
        console.print(
            Text(
                f"Halted: {_count(len(wrong), 'first invoice')} not as predicted. Nothing more moves. Check them, "
                f"then continue with --accept {wrong[0].subscription}, or undo the rollout with --undo."
            )
        )
        if not arguments.undo:
            return DECIDE
    if arguments.check:
        verified = sum(1 for _ in asked.journal.entries("verified", "accepted"))
        waiting = sum(1 for _ in asked.journal.entries("scheduled"))
        console.print(f"{_count(verified, 'first invoice')} as predicted; {waiting} not there yet.")
        return DONE
    if arguments.undo:
        return _undo(asked, console)
    placed = asked.placed()
    if arguments.only is not None:
        _assert_known(rules.cohort, placed, rules)
    if arguments.export:
        _export(arguments.export, placed, rules)
    _show(placed, rules, console)
    if arguments.export:
        console.print(f"\nEvery bill is in {arguments.export}.")
    if not arguments.apply:
        if any(each.fate in ("moves", "waits") for each in placed):
            console.print("\nNothing was changed. To do it, run the same command with --apply.")
        return DONE
    return _apply(asked, placed, console)


def _apply(asked: Rollout, placed: Sequence[Placed], console: Console) -> int:
    due = [each.subscription for each in placed if each.fate in ("moves", "waits", "on its way")]
    moved = waiting = 0
    console.print()
    with _until_interrupted() as interrupted:
        shown = track(due, "moving", console=console, transient=True, disable=not console.is_terminal)
        for number, id_ in enumerate(shown):
            if number and number % BATCH == 0 and asked.check():
                console.print("Halted: a first invoice is not as predicted; run --check.")
                return DECIDE
            found = asked.move(id_)
            moved += found.fate == "moves"
            waiting += found.fate == "waits"
            if found.fate == "stays":
                console.print(Text(f"{id_}: {found.why}{f' ({found.detail})' if found.detail else ''}"))
            if interrupted():
                console.print(f"Stopped after {number + 1} of {len(due)}. Run the same command again to continue.")
                return DECIDE
    console.print(f"{_count(moved, 'subscription')} scheduled to move at the renewal.")
    if waiting:
        console.print(f"{_count(waiting, 'subscription')} waiting. Run the same command every day until none is left.")
    return DONE


def _undo(asked: Rollout, console: Console) -> int:
    done = 0
    with _until_interrupted() as interrupted:
        for id_ in asked.begun():
            placed, what = asked.undo(id_)
            console.print(Text(f"{id_}: {what or f'{placed.why} {placed.detail}'.strip()}"))
            done += bool(what)
            if interrupted():
                console.print("Stopped. Run the same command again to continue.")
                return DECIDE
    console.print(f"{_count(done, 'subscription')} taken back.")
    return DONE


# -- the request ----------------------------------------------------------------------------------------------------


@contextmanager
def _opened(arguments: argparse.Namespace, account: Account | None) -> Iterator[Rollout]:
    folder = Path.cwd()
    plan, numbers = _versions(plans(folder, arguments.stack), arguments)
    account = account or Account(settings_of(folder, arguments.stack))
    stack = f"{project(folder)}/{arguments.stack}"
    old, new = moving.offers(account, plan, stack, numbers)
    rollout = f"rollout {old} to {new} in {stack}"
    path = arguments.journal or folder / ".pricing" / arguments.stack / f"{plan.name}@{old.number}-{new.number}.db"
    if not (arguments.apply or arguments.check or arguments.undo or arguments.accept) and not path.exists():
        path = None
    rules = Rules(
        old=old,
        new=new,
        stack=stack,
        owner=f"{stack}/rollout {old} to {new}",
        now=lists.now(account, arguments.test_clock),
        coupon=moving.coupons_of(account),
        cohort=Cohort(arguments.percent, _ids(arguments.only), seed=str(new)),
        lock=arguments.locked_by,
        notice=arguments.notice_days * DAY,
        within=None if arguments.within_days is None else arguments.within_days * DAY,
    )
    with Journal(path, rollout) as journal:
        yield Rollout(account, rules, journal, arguments.test_clock)


def _versions(
    declared: Mapping[str, PublishedPlan], arguments: argparse.Namespace
) -> tuple[PublishedPlan, tuple[int, int]]:
    """The plan, and its old and new version."""
    name, _, number = str(arguments.version).partition("@")
    if name not in declared:
        raise RolloutError(f"there is no plan {name}; this program has {', '.join(sorted(declared)) or 'none'}")
    plan = declared[name]
    known = ", ".join(f"{name}@{each}" for each in plan.versions)
    if not number.isdecimal() or int(number) not in plan.versions:
        raise RolloutError(f"{arguments.version} is not a version; name one of {known}")
    new = int(number)
    before = [each for each in plan.versions if each < new]
    old = arguments.old if arguments.old is not None else max(before, default=0)
    if old not in plan.versions or old == new:
        raise RolloutError(f"name the old version with --from; {name} has {known}")
    return plan, (old, new)


def _ids(path: Path | None) -> frozenset[str] | None:
    if path is None:
        return None
    found = set()
    for number, line in enumerate(path.read_text().splitlines(), 1):
        word = line.partition("#")[0].strip()
        if word and not word.startswith(("sub_", "cus_")):
            raise RolloutError(f"{path}, line {number}: is not an id of a subscription (sub_...) or customer (cus_...)")
        found |= {word} - {""}
    if not found:
        raise RolloutError(f"{path} has no ids")
    return frozenset(found)


def _assert_known(cohort: Cohort, placed: Sequence[Placed], rules: Rules) -> None:
    there = {each.subscription for each in placed} | {each.customer for each in placed}
    if unknown := sorted((cohort.only or frozenset()) - there):
        raise RolloutError(
            f"{', '.join(_few(unknown))} {'is' if len(unknown) == 1 else 'are'} not on {rules.old} or {rules.new}"
        )


def _percent(given: str) -> Decimal:
    try:
        number = Decimal(given.removesuffix("%"))
    except InvalidOperation:
        number = Decimal("NaN")
    if not number.is_finite() or not 0 < number <= 100:
        raise argparse.ArgumentTypeError(f"{given!r} is not a percentage above 0, such as 10")
    return number


def _days(given: str) -> int:
    if not given.isdecimal() or int(given) > 730:
        raise argparse.ArgumentTypeError(f"{given!r} is not a number of days, 730 at most")
    return int(given)


@contextmanager
def _until_interrupted() -> Iterator[Callable[[], bool]]:
    """Whether Ctrl-C was pressed: the current step is finished first. A second Ctrl-C ends it at once."""
    pressed: list[int] = []

    def press(number: int, frame: Any) -> None:
        pressed.append(number)
        signal.signal(signal.SIGINT, before)

    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    signal.signal(signal.SIGINT, press)
    try:
        yield lambda: bool(pressed)
    finally:
        signal.signal(signal.SIGINT, before)


# -- the output -------------------------------------------------------------------------------------------------------


def _heading(asked: Rollout, arguments: argparse.Namespace) -> Text:
    rules, mode = asked.rules, asked.account.settings.mode
    where = {"sandbox": "the sandbox", "test": "Stripe's test mode", "live": "Stripe, live"}[mode]
    if arguments.test_clock:
        where += f", {arguments.test_clock} at {day(rules.now)}"
    what = next((word for word in ("apply", "check", "undo") if getattr(arguments, word)), "dry run")
    lines = [f"{rules.old} to {rules.new} in {rules.stack}: {what}", f"on {where}"]
    return Text("\n".join([*lines, *(f"  v{each.number}  {each.plan.price_text}" for each in (rules.old, rules.new))]))


def _show(placed: Sequence[Placed], rules: Rules, console: Console) -> None:
    moving_ = [each for each in placed if each.fate == "moves" or (each.fate == "waits" and each.new)]
    if moving_:
        currencies = {each.currency for each in moving_}
        of = f", {next(iter(currencies)).upper()}" if len(currencies) == 1 else ""
        table = Table(box=None, pad_edge=False, show_edge=False)
        for heading in ("subscription", "on", "every"):
            table.add_column(heading, overflow="fold", no_wrap=heading == "on")
        for heading in (f"now{of}", f"then{of}"):
            table.add_column(heading, justify="right", no_wrap=True)
        for each in moving_[:SHOWN]:
            for number, (every, amounts) in enumerate(_rows(each).items()):
                shown = [_amount(amount, each.currency, alone=bool(of)) for amount in amounts]
                begins = each.complete if number else each.effect
                table.add_row("" if number else each.subscription, day(begins or each.effect or 0), every, *shown)
        console.print()
        console.print(table)
        if len(moving_) > SHOWN:
            console.print(f"... and {len(moving_) - SHOWN:,} more; --export FILE writes all.")
        console.print()
        for line in _sums(moving_):
            console.print(Text(line))
        if rules.old.plan.usage:
            console.print("Usage is from the last invoice; there is none in a first period.")
    else:
        console.print("\nNobody moves.")
    rest: dict[str, list[Placed]] = {}
    for each in placed:
        if each.fate != "moves":
            rest.setdefault(each.why, []).append(each)
    if rest:
        console.print()
        table = Table(box=None, pad_edge=False, show_edge=False, show_header=False)
        table.add_column(justify="right", style="bold", no_wrap=True)
        table.add_column(overflow="fold")
        for why, some in sorted(rest.items(), key=lambda entry: (-len(entry[1]), entry[0])):
            table.add_row(f"{len(some):,}", Text(why))
            named = [f"{each.subscription}{f' ({each.detail})' if each.detail else ''}" for each in some]
            for name in _few(named) if some[0].fate in ("stays", "on its way") else ():
                table.add_row("", Text(f"  {name}"))
        console.print(table)


def _sums(placed: Sequence[Placed]) -> Iterator[str]:
    """The total bills before and after: a line for each currency and interval."""
    totals: dict[tuple[str, str], list[int]] = {}
    for each in placed:
        for side, bills in enumerate((each.old, each.new)):
            for bill in bills:
                totals.setdefault((bill.currency, _every(bill)), [0, 0])[side] += _due(bill, bills, each)
    first = f"{_count(len(placed), 'subscription')}: "
    for (currency, every), (old, new) in sorted(totals.items()):
        was, will = (money.format_minor(each, currency) for each in (old, new))
        yield f"{first}{was} => {will} {every}, before tax"
        first = " " * len(first)


def _rows(placed: Placed) -> dict[str, tuple[int | None, int | None]]:
    """By interval, the bill on the old and the new version."""
    old, new = ({_interval(bill): _due(bill, bills, placed) for bill in bills} for bills in (placed.old, placed.new))
    return {every: (old.get(every), new.get(every)) for every in {**old, **new}}


def _interval(bill: Bill) -> str:
    return bill.interval if bill.interval_count == 1 else f"{bill.interval_count} {bill.interval}s"


def _amount(minor: int | None, currency: str, *, alone: bool) -> str:
    """An amount with its currency, or without if the heading has it."""
    text = "" if minor is None else money.format_minor(minor, currency)
    return text.partition(" ")[0] if alone else text


def _due(bill: Bill, bills: Sequence[Bill], placed: Placed) -> int:
    """The amount of a bill, in minor units: after discounts, if they are computed."""
    after = discounted(bill.total, placed.discounts, placed.currency) if len(bills) == 1 else None
    return bill.total if after is None else after


def _every(bill: Bill) -> str:
    return f"a {bill.interval}" if bill.interval_count == 1 else f"every {_interval(bill)}"


def _export(path: Path, placed: Sequence[Placed], rules: Rules) -> None:
    """Write every subscription with its bills: a row for each interval; amounts in major units, as text."""
    with open(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for each in placed:
            about = [each.subscription, each.customer, each.fate, " ".join(filter(None, (each.why, each.detail)))]
            effect = "" if each.effect is None else day(each.effect)
            bills = _beside(each)
            for every, (old, new) in bills.items() if bills else {"": (None, None)}.items():
                writer.writerow([*about, effect, each.currency, every, *_amounts(each, old, new, len(bills) == 1)])


def _beside(placed: Placed) -> dict[str, tuple[int | None, int | None]]:
    """By interval, the old and the new total in minor units."""
    old, new = ({_every(bill): bill.total for bill in bills} for bills in (placed.old, placed.new))
    return {every: (old.get(every), new.get(every)) for every in {**old, **new}}


def _amounts(placed: Placed, old: int | None, new: int | None, alone: bool) -> list[str]:
    def text(minor: int | None) -> str:
        return (
            "" if minor is None else str(money.format_minor(minor, placed.currency).rpartition(" ")[0].replace(",", ""))
        )

    def after(minor: int | None) -> int | None:
        # An amount off applies to one invoice, and it is unknown to which interval's.
        exact = minor is not None and (alone or not placed.discounts)
        return discounted(minor, placed.discounts, placed.currency) if exact and minor is not None else None

    discounts = "" if placed.discounts is None else "; ".join(takes_off(each) for each in placed.discounts)
    if placed.discounts is None:
        discounts = "not worked out"
    quantities = "; ".join(f"{key}={money.decimal_text(quantity)}" for key, quantity in placed.after.items())
    return [text(old), text(new), text(after(old)), text(after(new)), discounts, quantities]


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _few(names: Sequence[str], most: int = 3) -> list[str]:
    return [*names[:most], *([f"and {len(names) - most:,} more"] if len(names) > most else [])]
