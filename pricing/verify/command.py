"""`pricing verify`: compares what Stripe has with what the program declares, for a nightly job."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

import money
from components.account import Account
from components.providers import paid
from components.providers.values import mapping
from pricing.ending import DECIDE, DONE, ERROR, reported
from pricing.program import ProgramError, project, settings_of
from pricing.verify.census import Payers
from pricing.verify.comparison import Difference, Verification, verify

#: How many rows of a table are shown; --json has all.
SHOWN: Final = 20
#: Arguments that are moments.
_MOMENTS: Final = ("cancel_at", "expires_at", "redeem_by", "trial_end")


def add_to(commands: Any) -> None:
    """Add the command to `pricing`."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "verify",
        help="compare what Stripe has with what the program declares, and show who pays what",
        description="Reads everything back from Stripe and compares it with the program, whatever Pulumi's state says; "
        "then shows what subscription schedules will change, and who pays which price. It changes nothing: a "
        "restricted key that may only read is enough (STRIPE_API_KEY). Exit codes: 0 equal, 2 different, 3 an error, "
        "or the key may not read something that the program declares.",
    )
    parser.add_argument("--stack", default="dev", help="whose program and account (default: %(default)s)")
    parser.add_argument(
        "--strict",
        action="store_true",
        help="also exit with 2 if somebody pays a price that the program does not declare, or is scheduled to",
    )
    parser.add_argument("--json", action="store_true", help="print everything as JSON")
    parser.set_defaults(run=run)


@reported(ProgramError)
def run(arguments: argparse.Namespace, console: Console | None = None, account: Account | None = None) -> int:
    """Run the command; returns the exit code."""
    console = console or Console()
    folder = Path.cwd()
    account = account or Account(settings_of(folder, arguments.stack))
    with Console(stderr=True).status("reading") as status:
        found = verify(
            account,
            folder,
            project(folder),
            arguments.stack,
            lambda what: status.update(f"reading {what}"),
        )
    strangers = found.outside or any(each.prices - found.model.keys() for each in found.pending)
    if arguments.json:
        print(json.dumps(_as_data(found, account), indent=2, default=str), file=console.file)
    else:
        _show(found, account, console)
    if found.differences or (arguments.strict and strangers):
        return DECIDE
    return DONE if found.is_complete else ERROR


# -- for people -----------------------------------------------------------------------------------------------------


def _show(found: Verification, account: Account, console: Console) -> None:
    where = {"sandbox": "the sandbox", "test": "Stripe's test mode", "live": "Stripe, live"}[account.settings.mode]
    console.print(Text(f"{found.stack}, compared with {where}"))
    for line in _differences(found.differences):
        console.print(Text(line, style="" if line.startswith(" ") else "bold"), soft_wrap=True)
    for title, lines in (
        ("Not read, since the key may not:", [f"{each.what}: {each.why}" for each in found.unread]),
        ("For your information:", found.notes),
    ):
        if lines:
            console.print(Text(f"\n{title}"))
            for line in lines:
                console.print(Text(f"  {line}"), soft_wrap=True)
    _show_pending(found, console)
    _show_payers(found, console)
    console.print(Text(f"\n{_verdict(found)}"), soft_wrap=True)


def _verdict(found: Verification) -> str:
    compared = f"{_count(found.compared, 'resource')} compared"
    if found.differences:
        return f"{_count(len(found.differences), 'difference')}; {compared}."
    if not found.is_complete:
        return f"No difference in what could be read, but the key may not read everything; {compared}."
    return f"Stripe has what the program declares; {compared}."


def _differences(differences: list[Difference]) -> Iterator[str]:
    before = ""
    for each in differences:
        if each.subject != before:
            yield ""
            yield each.subject
        before = each.subject
        match each.what:
            case "missing":
                yield "  is not in Stripe"
            case "left":
                yield "  is in Stripe and belongs to this stack; the program does not declare it"
            case "schedule":
                yield f"  will be changed by a schedule that this stack did not make: {each.stripe}"
            case "differs":
                there, wanted = (_value(each.path, value) for value in (each.stripe, each.program))
                yield f"  {each.path}: {there} in Stripe, {wanted} in the program"


def _value(path: str, value: Any) -> str:
    if value is None:
        return "none"
    if path.rpartition(".")[2] in _MOMENTS and isinstance(value, int):
        return paid.date(value)
    return value if isinstance(value, str) else json.dumps(value, default=str)


def _show_pending(found: Verification, console: Console) -> None:
    if not found.pending:
        return
    table = _table("Pending changes of subscription schedules", "on", "subscription", "change", "made by")
    for each in found.pending[:SHOWN]:
        who = each.made_by or "no program"
        table.add_row(each.on, each.subscription or f"a new one of {each.customer}", Text(each.change), Text(who))
    console.print()
    console.print(table)
    _say_more(len(found.pending), console)


def _show_payers(found: Verification, console: Console) -> None:
    if not found.payers:
        return
    # What nobody declares comes first: that is what to look at.
    rows = sorted(found.payers, key=lambda each: each.price["id"] in found.model)
    table = _table("Who pays what", "price", "in the program", "customers", "a month")
    for column in table.columns[2:]:
        column.justify = "right"
    for each in rows[:SHOWN]:
        table.add_row(
            Text(_price(each)),
            Text(found.model.get(each.price["id"], "no")),
            f"{len(each.customers):,}",
            _monthly(each),
        )
    console.print()
    console.print(table)
    _say_more(len(rows), console)
    console.print("Before discounts and tax; usage as on the last invoice.")
    if found.outside:
        customers = set[str]().union(*(each.customers for each in found.outside))
        prices = _count(len(found.outside), "price")
        console.print(Text(f"{_count(len(customers), 'customer')} on {prices} that the program does not declare."))


def _price(payers: Payers) -> str:
    price = payers.price
    archived = ", archived" if price.get("active") is False else ""
    name = price.get("nickname") or price.get("lookup_key")
    return f"{price['id']}{f' ({name})' if name else ''}{archived}"


def _monthly(payers: Payers) -> str:
    amounts = [money.format_minor(_whole(amount), code) for code, amount in sorted(payers.monthly.items())]
    if payers.unknown:
        amounts.append(f"unknown for {payers.unknown:,}")
    return "\n".join(amounts)


def _whole(amount: Decimal) -> int:
    return int(amount.quantize(Decimal(1), ROUND_HALF_UP))


def _table(title: str, *headings: str) -> Table:
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for heading in headings:
        table.add_column(heading, overflow="fold")
    return table


def _say_more(rows: int, console: Console) -> None:
    if rows > SHOWN:
        console.print(f"... and {rows - SHOWN:,} more; --json has all.")


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


# -- for programs -----------------------------------------------------------------------------------------------------


def _as_data(found: Verification, account: Account) -> dict[str, Any]:
    """Everything that was found as plain data; amounts are text, in minor units."""
    return {
        "stack": found.stack,
        "mode": account.settings.mode,
        "compared": found.compared,
        "complete": found.is_complete,
        "differences": [vars(each) for each in found.differences],
        "unread": [vars(each) for each in found.unread],
        "notes": found.notes,
        "pending": [
            {**vars(each), "prices": sorted(each.prices), "declared": each.prices <= found.model.keys()}
            for each in found.pending
        ],
        "payers": [
            {
                "price": each.price["id"],
                "nickname": each.price.get("nickname"),
                "active": each.price.get("active"),
                "product": mapping(each.price).get("product"),
                "in_program": found.model.get(each.price["id"]),
                "customers": len(each.customers),
                "subscriptions": each.subscriptions,
                "monthly": {code: str(_whole(amount)) for code, amount in sorted(each.monthly.items())},
                "unknown": each.unknown,
            }
            for each in found.payers
        ],
    }
