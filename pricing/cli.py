"""The command `pricing`: what people do with a model besides applying it, from `estimate` to `verify`."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

import money
from components.plan import PublishedPlan
from components.pricing import Plan
from components.rating import Bill, bills, text
from pricing.adopt import command as adopt_command
from pricing.ending import DONE, ERROR, reported
from pricing.export import command as export_command
from pricing.impact import command as impact_command
from pricing.program import ProgramError, plans
from pricing.rehearse import command as rehearse_command
from pricing.review import command as review_command
from pricing.rollout import command as rollout_command
from pricing.verify import command as verify_command

#: The commands beside `estimate`, in the order of the help: what a change does, what it moves, what is in Stripe.
COMMANDS: Final = (
    impact_command,
    review_command,
    rehearse_command,
    rollout_command,
    verify_command,
    adopt_command,
    export_command,
)


class UsageError(Exception):
    """An invalid request; the message is one line."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    try:
        arguments = parser().parse_args(argv)
    except SystemExit as end:
        # argparse exits with 2, which means here that a person must act: an exceeded limit, a halted rollout.
        return ERROR if end.code == 2 else int(end.code or 0)
    return int(arguments.run(arguments))


@reported(ProgramError, UsageError)
def _estimate(arguments: argparse.Namespace) -> int:
    title, plan = _plan(plans(Path.cwd(), arguments.stack), arguments.plan)
    used = {_charge(plan, name): units for name, units in arguments.usage}
    try:
        due = bills(plan, seats=arguments.seats, usage=used, currency=arguments.currency)
    except ValueError as error:
        raise UsageError(str(error)) from None
    console = Console()
    console.print(Text(f"{title}: {plan.price_text}"))
    for bill in due:
        console.print(_table(bill, plan))
    return DONE


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="pricing", description="Tools for a pricing model besides applying it.")
    commands = parser.add_subparsers(dest="command", required=True)
    estimate = commands.add_parser("estimate", help="the bill of a plan, line by line as Stripe bills it")
    estimate.add_argument("plan", help="its name in the program; alpaca-ai@2 is version 2")
    estimate.add_argument("--seats", type=_seats, default=1, help="default: %(default)s")
    estimate.add_argument(
        "--usage",
        type=_usage,
        action="append",
        default=[],
        metavar="NAME=UNITS",
        help="by charge or unit: tokens=26000",
    )
    estimate.add_argument("--currency", help="one of the plan's (default: its first)")
    estimate.add_argument("--stack", default="dev", help="the stack whose settings to use (default: %(default)s)")
    estimate.set_defaults(run=_estimate)
    for command in COMMANDS:
        command.add_to(commands)
    return parser


def _seats(given: str) -> int:
    if not given.isdecimal():
        raise argparse.ArgumentTypeError(f"{given!r} is not a number of seats")
    return int(given)


def _usage(given: str) -> tuple[str, Decimal]:
    name, equals, units = given.partition("=")
    try:
        number = Decimal(units)
    except InvalidOperation:
        number = Decimal("NaN")
    if not name or not equals or not number.is_finite() or number < 0:
        raise argparse.ArgumentTypeError(f"{given!r} is not NAME=UNITS, such as tokens=26000")
    return name, number


def _plan(declared: Mapping[str, PublishedPlan], given: str) -> tuple[str, Plan]:
    """The plan named `alpaca-ai` (the version that the stack offers) or `alpaca-ai@2`, and its full name."""
    name, at, version = given.partition("@")
    if name not in declared:
        raise UsageError(f"there is no plan {name}; this program has {', '.join(sorted(declared)) or 'none'}")
    published = declared[name]
    if not at:
        number = published.offered.number
    elif version.isdecimal() and int(version) in published.versions:
        number = int(version)
    else:
        raise UsageError(f"there is no {given}; there is {', '.join(f'{name}@{each}' for each in published.versions)}")
    plan = published.versions[number].plan
    return plan.name if len(published.versions) == 1 else f"{plan.name} v{number}", plan


def _charge(plan: Plan, name: str) -> str:
    """The key of the usage charge with a key or unit name."""
    matches = [charge.key for charge in plan.usage if name in (charge.key, charge.unit, charge.units)]
    if len(matches) != 1:
        known = ", ".join(f"{charge.key} ({charge.units})" for charge in plan.usage) or "none"
        raise UsageError(f"{plan.name} has {'no' if not matches else 'more than one'} usage {name}; it has {known}")
    return matches[0]


def _table(bill: Bill, plan: Plan) -> Table:
    every = bill.interval if bill.interval_count == 1 else f"{bill.interval_count} {bill.interval}s"
    table = Table(title=f"Every {every}", title_justify="left", box=None, pad_edge=False)
    for heading, justify in (("line", "left"), ("quantity", "right"), ("amount", "right")):
        table.add_column(heading, justify=justify)  # type: ignore[arg-type]
    for row in text(bill, plan):
        table.add_row(*(Text(cell) for cell in row))
    table.add_row("total", "", money.format_minor(bill.total, bill.currency), style="bold")
    return table
