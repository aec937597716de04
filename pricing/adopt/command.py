"""`pricing adopt`: writes the program that adopts an account as it is. It changes nothing in Stripe."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Final, TypeVar

from components.account import Account, StripeRefusal
from components.adopted import Ids, file_name, read
from components.providers.kinds import PROVIDERS
from pricing import lists
from pricing.adopt import adoption as adopt
from pricing.adopt.adoption import Adoption
from pricing.ending import DONE, Undecided, reported, say
from pricing.held import in_state
from pricing.program import ProgramError, project, settings_of

#: How many ids a line names.
_NAMED: Final = 3

_PROVIDERS: Final = {provider.kind.name: provider for provider in PROVIDERS}

T = TypeVar("T")


def add_to(commands: Any) -> None:
    """Add the command to `pricing`."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "adopt",
        help="the program that adopts an account that exists",
        description="Reads a Stripe account and writes the Pulumi program that adopts it as it is, and the ids that it "
        "adopts. It only reads. Exit codes: 0 done or nothing to adopt, 2 a file is in the way, 3 an error.",
    )
    parser.add_argument("--stack", default="dev", help="the stack that adopts (default: %(default)s)")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="write the program there, and the ids to adopted.<stack>.json (default: the program to standard output)",
    )
    parser.add_argument(
        "--customers", action="store_true", help="adopt customers and their subscriptions, with names and e-mails"
    )
    parser.set_defaults(run=run)


@reported(ProgramError, interrupted="nothing is written, and nothing has changed in Stripe")
def run(arguments: argparse.Namespace, account: Account | None = None) -> int:
    """Run the command; returns the exit code."""
    folder, stack = Path.cwd(), str(arguments.stack)
    account = account or Account(settings_of(folder, stack))
    ids_file = folder / file_name(stack)
    before: Ids = read(ids_file) if ids_file.is_file() else {}
    there, notes = _read(account, customers=arguments.customers)
    held, unread = in_state(stack)
    if unread:
        notes.append(unread)
    found = adopt.adopt(
        there, adopt.Stack(f"{project(folder)}/{stack}", held or frozenset(), before), reconcilers(account)
    )
    for sentence in (*notes, *found.notes):
        say(sentence)
    for why, ids in sorted(found.left.items(), key=lambda entry: (-len(entry[1]), entry[0])):
        say(f"leaves alone {len(ids):,}: {why} ({_few(ids)})")
    if not found.size:
        say("there is nothing to adopt; nothing is written")
        return DONE
    text = found.text(f"What {account.id} sells, as `pricing adopt` has found it. It is yours to edit.")
    say(f"adopts {found.size:,}: {_counted(found)}")
    if arguments.out is None:
        sys.stdout.write(text)
        say("nothing is written without --out, and nothing has changed in Stripe")
        return DONE
    _write(arguments.out, ids_file, text, json.dumps(found.ids, indent=2, sort_keys=True) + "\n")
    owned = sum(len(names) for kind, names in found.ids.items() if _PROVIDERS[kind].kind.has_metadata)
    say(
        f"next: pulumi preview --stack {stack}, which reads every object and names each that would change; pulumi up "
        f"then writes metadata[pulumi] into {owned:,} objects, and nothing else"
    )
    return DONE


def _write(out: Path, ids_file: Path, text: str, ids: str) -> None:
    """Write both files, or none.

    Raises:
        Undecided: the program is there already, and it is another one.
    """
    there = out.read_text(encoding="utf-8") if out.is_file() else None
    if there is not None and there != text:
        raise Undecided(
            f"{out} is there and differs: it was edited, or the account has changed; write to another file (--out), "
            "and compare"
        )
    same = there == text and ids_file.is_file() and ids_file.read_text(encoding="utf-8") == ids
    if same:
        say(f"{out} and {ids_file.name} are as they were; nothing has changed in Stripe")
        return
    for path, content in ((ids_file, ids), (out, text)):
        new = path.with_name(f".{path.name}.new")
        new.write_text(content, encoding="utf-8")
        new.replace(path)
    say(f"wrote {out} ({len(text.splitlines()):,} lines) and {ids_file.name}; nothing has changed in Stripe")


# -- reading ----------------------------------------------------------------------------------------------------------


def _read(account: Account, *, customers: bool) -> tuple[adopt.Account, list[str]]:
    """The account, and what the key may not read.

    Raises:
        AccountError: products or prices cannot be read.
    """
    notes: list[str] = []

    def allowed(what: str, objects: Iterable[dict[str, Any]]) -> list[dict[str, Any]] | None:
        try:
            return _shown(what, objects)
        except StripeRefusal as refusal:
            if refusal.status != 403:
                raise
            notes.append(f"this key may not read {what}; they are left alone")
            return None

    products = _shown("products", lists.products(account))
    prices = _shown("prices", lists.prices(account, costs=True))
    codes = lists.every(account, "/v1/promotion_codes", "the account's promotion codes", expand=("promotion.coupon",))
    found = adopt.Account(
        products,
        prices,
        allowed("meters", lists.meters(account)) or [],
        allowed("coupons", lists.coupons(account)) or [],
        allowed("promotion codes", codes) or [],
        allowed("subscriptions", lists.subscriptions(account, expand=("discounts",) if customers else ())),
        allowed("customers", lists.customers(account)) if customers else None,
    )
    say(f"read {len(products):,} products and {len(prices):,} prices; {account.calls:,} calls")
    return found, notes


def _shown(what: str, objects: Iterable[T]) -> list[T]:
    """All of them, from the oldest on, with progress every two seconds."""
    return list(counting(what, objects, time.monotonic))[::-1]


def counting(what: str, objects: Iterable[T], clock: Callable[[], float]) -> Iterator[T]:
    """The same objects, with their number on standard error every two seconds."""
    said = clock()
    for number, each in enumerate(objects, start=1):
        if (now := clock()) - said >= 2:
            said = now
            say(f"{number:,} {what} read")
        yield each


def reconcilers(account: Account) -> Callable[[str], Any]:
    made: dict[str, Any] = {}

    def reconciler(kind: str) -> Any:
        if kind not in made:
            provider = _PROVIDERS[kind]()
            provider.use(account)
            made[kind] = provider.reconciler
        return made[kind]

    return reconciler


# -- saying -----------------------------------------------------------------------------------------------------------


def _few(ids: list[str]) -> str:
    more = len(ids) - _NAMED
    return ", ".join(ids[:_NAMED]) + (f" and {more:,} more" if more > 0 else "")


def _counted(found: Adoption) -> str:
    """`2 meters, 280 products, 300 prices (250 plans, with 40 earlier versions)`."""
    parts = [
        f"{len(names):,} {_PROVIDERS[kind].kind.noun}{'s' if len(names) != 1 else ''}"
        for kind, names in found.ids.items()
    ]
    plans = f"{found.plans:,} plan{'s' if found.plans != 1 else ''}"
    earlier = f", with {found.versions:,} earlier version{'s' if found.versions != 1 else ''}" if found.versions else ""
    return f"{', '.join(parts)} ({plans}{earlier})"
