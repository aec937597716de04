"""`pricing export --to terraform`: what a stack has, for Stripe's own provider. It changes nothing in Stripe."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, Final

from components.account import Account
from components.providers.coupon import COUPON
from components.providers.customer import CUSTOMER
from components.providers.inventory import StripeObject, is_in_use, owner_of, stack_of
from components.providers.kind import Kind
from components.providers.meter import METER
from components.providers.price import PRICE
from components.providers.product import PRODUCT
from components.providers.promotion_code import PROMOTION_CODE
from components.providers.run import run_of
from components.providers.subscription import SUBSCRIPTION
from pricing.ending import DONE, Undecided, reported, say
from pricing.export.terraform import Export, Objects, export
from pricing.held import Held, in_state
from pricing.program import ProgramError, project, settings_of

_NAMED: Final = 3


def add_to(commands: Any) -> None:
    """Add the command to `pricing`."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "export",
        help="what a stack has, for another tool",
        description="Writes what a stack has in Stripe as configuration and import blocks for Stripe's own Terraform "
        "provider. It only reads. Exit codes: 0 done or nothing to export, 2 a file is in the way, 3 an error.",
    )
    parser.add_argument("--to", choices=["terraform"], required=True, help="the other tool")
    parser.add_argument("--stack", default="dev", help="the stack to leave (default: %(default)s)")
    parser.add_argument(
        "--out", type=Path, default=Path("terraform"), metavar="FOLDER", help="where to write (default: %(default)s)"
    )
    parser.set_defaults(run=run)


@reported(ProgramError)
def run(arguments: argparse.Namespace, account: Account | None = None) -> int:
    """Run the command; returns the exit code."""
    folder, stack = Path.cwd(), str(arguments.stack)
    account = account or Account(settings_of(folder, stack))
    held, unknown = in_state(stack)
    if unknown:
        say(unknown)
    done = export(_objects(account, f"{project(folder)}/{stack}", held))
    for why, ids in done.reasons.items():
        more = len(ids) - _NAMED
        say(f"{why} ({', '.join(ids[:_NAMED])}{f' and {more:,} more' if more > 0 else ''})")
    if not done.size:
        say(f"{stack} has nothing in Stripe; nothing is written")
        return DONE
    _write(arguments.out, done)
    say(
        f"next: terraform init and terraform plan in {arguments.out}, which must say {done.size} to import, 0 to add, "
        "0 to change, 0 to destroy"
    )
    return DONE


def _write(folder: Path, done: Export) -> None:
    """Write the files, or none.

    Raises:
        Undecided: one is there and differs.
    """
    files = {folder / "main.tf": done.main, folder / "imports.tf": done.import_blocks}
    for path, text in files.items():
        if path.is_file() and path.read_text(encoding="utf-8") != text:
            raise Undecided(f"{path} is there and differs; write to another folder (--out), and compare")
    folder.mkdir(parents=True, exist_ok=True)
    for path, text in files.items():
        path.write_text(text, encoding="utf-8")
    say(f"wrote {done.size:,} resources to {' and '.join(map(str, files))}; nothing has changed in Stripe")


def _objects(account: Account, stack: str, held: Held | None) -> Objects:
    """What a stack has, from the oldest on: what its state holds, else what it owns and is in use."""
    run = run_of(account)

    def its(kind: Kind) -> list[StripeObject]:
        owned = [each for each in run.inventory(kind).owned() if stack_of(owner_of(each)) == stack]
        found = [each for each in owned if ((kind.name, each["id"]) in held if held else is_in_use(each))]
        return sorted(found, key=lambda each: (each["created"], str(owner_of(each))))

    prices = its(PRICE)
    counted = {str((price.get("recurring") or {}).get("meter")) for price in prices}
    meters = [
        each
        for each in run.inventory(METER).all()
        if ((METER.name, each["id"]) in held if held else each["id"] in counted)
    ]
    return Objects(
        sorted(meters, key=lambda each: (each["created"], str(each["event_name"]))),
        its(PRODUCT),
        prices,
        its(COUPON),
        its(PROMOTION_CODE),
        its(CUSTOMER),
        its(SUBSCRIPTION),
    )
