"""Reads closed invoices for an impact: from the account, from an export, or from a saved sample.

Whatever the source, stored data is hashed: no name, e-mail address or customer id reaches the disk.
"""

from __future__ import annotations

import csv
import json
import os
import re
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

from components.account import Account
from components.providers.inventory import OWNER_KEY, StripeObject, owner_of
from components.providers.values import id_of
from components.publication import price_name
from pricing import lists
from pricing.impact.comparison import OpenUsage, Standing
from pricing.invoices import CLOSED, Billed, BilledLine, Catalogue, Charged, LayoutError, all_prices, billed, hashed

SAMPLE: Final = "stripe-pricing invoice sample"
_FORMAT: Final = 1
#: A month is stored this long after its end: its drafts are final by then, and most voided invoices are void.
_SETTLED: Final = 3 * 86_400
#: The required columns of an export and their names: those of Stripe's Sigma and data pipeline
#: (https://docs.stripe.com/stripe-data/schema, table invoice_line_items), and the headings of spreadsheets made of it.
_COLUMNS: Final[Mapping[str, tuple[str, ...]]] = {
    "invoice": ("invoice_id", "invoice"),
    "subscription": ("subscription_id", "subscription"),
    "price": ("price_id", "price"),
    "quantity": ("quantity_decimal", "quantity"),
    "amount": ("amount", "line_item_amount", "invoice_line_item_amount"),
    "currency": ("currency",),
    "start": ("period_start", "line_item_period_start"),
    "end": ("period_end", "line_item_period_end"),
}
_OPTIONAL: Final[Mapping[str, tuple[str, ...]]] = {
    "customer": ("customer_id", "customer"),
    "item": ("subscription_item_id", "subscription_item"),
    "unit_amount": ("unit_amount_decimal", "price_unit_amount_decimal"),
    "proration": ("proration",),
    "type": ("type", "source_type"),
    "status": ("status", "invoice_status"),
    "created": ("invoice_date", "invoice_created", "date", "created"),
}

Progress = Callable[[str], None]


class ExportError(Exception):
    """A file is not a readable export; the message is one line."""


@dataclass
class Read:
    """The progress of reading.

    Attributes:
        seen: invoices of the account or export, including those of other plans.
        not_closed: how many of them are drafts or void.
        unknown_layouts: how many could not be read, by reason.
    """

    seen: int = 0
    not_closed: int = 0
    unknown_layouts: dict[str, int] = field(default_factory=dict)

    def one(
        self, invoice: Mapping[str, Any], catalogue: Catalogue, lines: Iterable[Mapping[str, Any]]
    ) -> Billed | None:
        """What the plan billed on one invoice; None if nothing, or if it has an unknown layout."""
        self.seen += 1
        if invoice.get("status", "paid") not in CLOSED:
            self.not_closed += 1
            return None
        try:
            return billed(invoice, list(lines), catalogue)
        except LayoutError as problem:
            self.unknown_layouts[str(problem)] = self.unknown_layouts.get(str(problem), 0) + 1
            return None


# -- the account ------------------------------------------------------------------------------------------------------


def catalogue_of(
    account: Account, name: str, keys: Iterable[str], current: tuple[int, Iterable[str]]
) -> dict[str, tuple[int, str]]:
    """The version and charge of each price of a plan, including archived ones: one call for a hundred prices.

    Args:
        keys: the keys of the charges of version 1, whose prices name their owner but not a version.
        current: the version, with its charges, of prices that have the lookup keys but no known owner.
    """
    first = {price_name(name, 1, key): (1, key) for key in keys}
    # A price that a stack has adopted has no metadata of its version; its owner names the resource.
    later = re.compile(rf"{re.escape(name)}-v(\d+)-([a-z0-9][a-z0-9_-]*)")
    lookup_keys = {f"{name}:{key}": (current[0], key) for key in current[1]}
    found: dict[str, tuple[int, str]] = {}
    for price in lists.prices(account):
        metadata, owner = price.get("metadata") or {}, owner_of(price)
        version = str(metadata.get("version", ""))
        if "plan" in metadata and version.isdecimal():
            if metadata["plan"] == name:
                found[price["id"]] = (int(version), str(metadata.get("charge")))
        elif owner is not None and owner.rpartition("/")[2] in first:
            found[price["id"]] = first[owner.rpartition("/")[2]]
        elif owner is not None and (match := later.fullmatch(owner.rpartition("/")[2])):
            found[price["id"]] = (int(match[1]), match[2])
        elif owner is None and price.get("lookup_key") in lookup_keys:
            found[price["id"]] = lookup_keys[price["lookup_key"]]
    return found


def subscribers(account: Account, catalogue: Catalogue) -> Iterator[StripeObject]:
    """The subscriptions of the plan, with their schedules: a hundred per call."""
    for subscription in lists.subscriptions(account, expand=("schedule",)):
        if any(item["price"]["id"] in catalogue for item in subscription["items"]["data"]):
            yield subscription


def standing(subscription: StripeObject, lock: str) -> tuple[str, Standing]:
    """The hash of a subscription and its present state.

    Args:
        lock: the metadata key that locks a subscription.
    """
    return hashed(subscription["id"], "s"), Standing(_stays(subscription, lock))


def open_usage(account: Account, subscription: StripeObject, catalogue: Catalogue, now: int) -> Iterator[OpenUsage]:
    """What a subscription has used in its open periods, scaled to whole ones: a call for each metered price."""
    for item in subscription["items"]["data"]:
        if item["price"]["id"] in catalogue and (units := used_so_far(account, subscription, item, now)) is not None:
            version, key = catalogue[item["price"]["id"]]
            start = int(item["current_period_start"])
            yield OpenUsage(hashed(subscription["id"], "s"), version, key, start, units)


def used_so_far(account: Account, subscription: Mapping[str, Any], item: Mapping[str, Any], now: int) -> Decimal | None:
    """What an item's meter has counted in its open period, scaled to the whole of it.

    None for an item without a meter, in a trial, and if less than a tenth of the period has passed: that tells too
    little.
    """
    meter = (item["price"].get("recurring") or {}).get("meter")
    start, end = int(item["current_period_start"]), int(item["current_period_end"])
    # Stripe takes whole minutes.
    first, last = start // 60 * 60, min(now, end) // 60 * 60
    if meter is None or subscription["status"] == "trialing" or (last - start) * 10 < end - start:
        return None
    customer = str(id_of(subscription["customer"]))
    counted = lists.event_summaries(account, str(meter), customer, first, last)
    units = sum((Decimal(str(each["aggregated_value"])) for each in counted), Decimal(0))
    return (units * (end - start) / (last - start)).to_integral_value()


def _stays(subscription: Mapping[str, Any], lock: str) -> str | None:
    """Why a subscription does not move; None if it does."""
    schedule = subscription.get("schedule")
    if schedule is not None and not (isinstance(schedule, Mapping) and OWNER_KEY in (schedule.get("metadata") or {})):
        return "with a schedule that somebody else made"
    if (subscription.get("metadata") or {}).get(lock):
        return f"locked by metadata ({lock})"
    status = {"trialing": "in its trial", "past_due": "past due", "unpaid": "past due"}.get(subscription["status"])
    if status is not None:
        return status
    if subscription.get("pause_collection"):
        return "paused (pause_collection)"
    return "about to end" if subscription.get("cancel_at") or subscription.get("cancel_at_period_end") else None


def from_account(
    account: Account,
    catalogue: Catalogue,
    first: int,
    until: int,
    *,
    read: Read,
    cache: Cache | None,
    progress: Progress,
) -> Iterator[Billed]:
    """The closed invoices created from `first` to before `until`, UTC seconds, month by month.

    Args:
        read: gets the progress.

    Raises:
        AccountError: Stripe refused, or could not be reached.
    """
    for start, end in months(first, until):
        kept = cache.month(start, end) if cache else None
        if kept is not None:
            for invoice in kept:
                read.seen += 1
                yield invoice
            continue
        unknown_before = sum(read.unknown_layouts.values())
        for raw in lists.invoices(account, created={"gte": start, "lt": end}):
            billed_on = read.one(raw, catalogue, _lines(account, raw))
            if read.seen % 100 == 0:
                progress(f"{read.seen:,} invoices read, {account.calls:,} calls")
            if billed_on is not None:
                if cache is not None:
                    cache.add(start, billed_on)
                yield billed_on
        if cache is not None:
            cache.close_month(start, end, complete=unknown_before == sum(read.unknown_layouts.values()))


def _lines(account: Account, invoice: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Every line of an invoice, read when they are used: those of a draft never are."""
    shown = invoice.get("lines")
    if not isinstance(shown, Mapping) or not isinstance(shown.get("data"), list):
        raise LayoutError("it has no list of lines")
    yield from lists.lines(account, invoice)


def months(first: int, until: int) -> Iterator[tuple[int, int]]:
    """The calendar months, UTC, between two moments, newest first, clipped to those moments."""
    end = until
    while end > first:
        last = datetime.fromtimestamp(end - 1, UTC)
        start = int(datetime(last.year, last.month, 1, tzinfo=UTC).timestamp())
        yield max(start, first), end
        end = start


# -- what is kept -----------------------------------------------------------------------------------------------------


class Cache:
    """Complete months, hashed, in a file that only its owner can read.

    Args:
        scope: identifies the account, the plan and its prices. Other rows are ignored.
    """

    def __init__(self, path: Path, scope: str) -> None:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        path.chmod(0o600)
        self.scope = scope
        self._file = sqlite3.connect(path, isolation_level=None)
        self._file.executescript(
            "PRAGMA journal_mode = WAL;"
            "CREATE TABLE IF NOT EXISTS months (scope TEXT, start INTEGER, finish INTEGER, PRIMARY KEY (scope, start));"
            "CREATE TABLE IF NOT EXISTS invoices (scope TEXT, start INTEGER, body TEXT);"
            "CREATE INDEX IF NOT EXISTS invoices_of_month ON invoices (scope, start);"
        )
        # Incomplete months of an interrupted run are read again.
        self._file.execute(
            "DELETE FROM invoices WHERE scope = ? AND start NOT IN (SELECT start FROM months WHERE scope = ?)",
            (scope, scope),
        )
        self._file.execute("BEGIN")

    def month(self, start: int, end: int) -> Iterator[Billed] | None:
        """The invoices of a month; None if it is not stored."""
        known = self._file.execute(
            "SELECT 1 FROM months WHERE scope = ? AND start = ? AND finish = ?", (self.scope, start, end)
        ).fetchone()
        return self._rows(start) if known else None

    def _rows(self, start: int) -> Iterator[Billed]:
        rows = self._file.execute(
            "SELECT body FROM invoices WHERE scope = ? AND start = ? ORDER BY rowid", (self.scope, start)
        )
        for (body,) in rows:
            yield unpacked(json.loads(body))

    def add(self, start: int, invoice: Billed) -> None:
        self._file.execute("INSERT INTO invoices VALUES (?, ?, ?)", (self.scope, start, json.dumps(packed(invoice))))

    def close_month(self, start: int, end: int, *, complete: bool) -> None:
        """Finish a month: keep it if it is whole and over."""
        if complete and end + _SETTLED <= time.time():
            self._file.execute("INSERT OR REPLACE INTO months VALUES (?, ?, ?)", (self.scope, start, end))
        else:
            self._file.execute("DELETE FROM invoices WHERE scope = ? AND start = ?", (self.scope, start))
        self._file.execute("COMMIT")
        self._file.execute("BEGIN")

    def close(self) -> None:
        """Close the file; an open month is dropped with the next start."""
        if self._file.in_transaction:
            self._file.execute("ROLLBACK")
        self._file.close()


def packed(invoice: Billed) -> list[Any]:
    """An invoice as plain data."""
    return [
        invoice.invoice,
        invoice.customer,
        invoice.subscription,
        invoice.currency,
        invoice.created,
        dict(invoice.aside),
        [
            [
                charged.version,
                charged.key,
                charged.start,
                charged.end,
                [
                    [
                        str(line.quantity),
                        line.amount,
                        None if line.unit_amount is None else str(line.unit_amount),
                        line.off,
                    ]
                    for line in charged.lines
                ],
            ]
            for charged in invoice.charged
        ],
    ]


def unpacked(row: Any) -> Billed:
    """The invoice from a row of `packed`.

    Raises:
        ExportError: it is not such a row.
    """
    try:
        invoice, customer, subscription, currency, created, aside, charges = row
        charged = tuple(
            Charged(
                int(version),
                str(key),
                int(start),
                int(end),
                tuple(
                    BilledLine(Decimal(quantity), int(amount), None if unit is None else Decimal(unit), int(off))
                    for quantity, amount, unit, off in lines
                ),
            )
            for version, key, start, end, lines in charges
        )
        return Billed(str(invoice), str(customer), str(subscription), str(currency), int(created), charged, dict(aside))
    except (ValueError, TypeError, ArithmeticError) as error:
        raise ExportError("a row is not what --save writes") from error


class Sample:
    """Writes hashed invoices to a file that can be committed, one per line."""

    def __init__(self, path: Path, name: str) -> None:
        self._file = path.open("w", encoding="utf-8")
        self._write({"kind": SAMPLE, "format": _FORMAT, "plan": name})

    def add(self, invoice: Billed) -> None:
        self._write(packed(invoice))

    def standings(self, found: Mapping[str, Standing]) -> None:
        """Append the state of the subscriptions."""
        self._write({"standings": {name: standing.stays for name, standing in found.items()}})

    def close(self) -> None:
        self._file.close()

    def _write(self, row: Any) -> None:
        self._file.write(json.dumps(row, separators=(",", ":")) + "\n")


# -- files ------------------------------------------------------------------------------------------------------------


class File:
    """An export of Stripe's invoice lines (CSV) or invoices (JSON, as a list or one per line), or a sample.

    Attributes:
        standings: a sample's state of the subscriptions; None if the file has none.
    """

    def __init__(self, path: Path, plan: str) -> None:
        self.path, self.plan = path, plan
        self.read = Read()
        self.standings: dict[str, Standing] | None = None
        try:
            with path.open(encoding="utf-8-sig") as file:
                start = file.read(4096)
        except (OSError, UnicodeDecodeError) as error:
            raise ExportError(
                f"{path.name} cannot be read: {getattr(error, 'strerror', None) or 'it is not text'}"
            ) from None
        if not start.strip():
            raise ExportError(f"{path.name} is empty")
        self.is_sample = SAMPLE in start.partition("\n")[0]
        self._is_json = start.lstrip()[0] in "[{"

    def prices(self) -> set[str]:
        """The ids of its prices."""
        return {price for raw, lines in self._raw() for price in _prices(lines)}

    def invoices(self, catalogue: Catalogue) -> Iterator[Billed]:
        """Its closed invoices of the plan.

        Raises:
            ExportError: something in it cannot be read.
        """
        if self.is_sample:
            yield from self._sample()
            return
        seen: set[str] = set()
        for raw, lines in self._raw():
            id = str(raw.get("id"))
            if id in seen:
                raise ExportError(
                    f"{self.path.name} has lines of an invoice in two places: sort it by invoice, and remove duplicates"
                )
            seen.add(id)
            invoice = self.read.one(raw, catalogue, lines)
            if invoice is not None:
                yield invoice

    def _raw(self) -> Iterator[tuple[Mapping[str, Any], Iterable[Mapping[str, Any]]]]:
        return self._json() if self._is_json else self._csv()

    def _sample(self) -> Iterator[Billed]:
        for number, row in enumerate(self._json_lines(), start=1):
            if number == 1:
                if row.get("format") != _FORMAT:
                    raise ExportError(f"{self.path.name} is of format {row.get('format')}; save it again")
                if row.get("plan") != self.plan:
                    raise ExportError(f"{self.path.name} is a sample of {row.get('plan')}, not of {self.plan}")
            elif isinstance(row, dict):
                self.standings = {name: Standing(stays) for name, stays in (row.get("standings") or {}).items()}
            else:
                self.read.seen += 1
                yield unpacked(row)

    def _json(self) -> Iterator[tuple[Mapping[str, Any], Iterable[Mapping[str, Any]]]]:
        for row in self._json_rows():
            if not isinstance(row, Mapping) or row.get("object", "invoice") != "invoice":
                raise ExportError(f"{self.path.name} contains something that is not an invoice of Stripe's API")
            lines = row.get("lines")
            rows = lines.get("data") if isinstance(lines, Mapping) else lines
            if not isinstance(rows, list) or (isinstance(lines, Mapping) and lines.get("has_more")):
                yield row, _unreadable("it does not have all of its lines")
            else:
                yield row, rows

    def _json_rows(self) -> Iterator[Any]:
        try:
            whole = json.loads(self.path.read_text(encoding="utf-8-sig"))
        except ValueError:
            # One JSON value per line is not one document.
            yield from self._json_lines()
            return
        if isinstance(whole, Mapping) and isinstance(whole.get("data"), list):
            whole = whole["data"]
        yield from whole if isinstance(whole, list) else [whole]

    def _json_lines(self) -> Iterator[Any]:
        with self.path.open(encoding="utf-8-sig") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    try:
                        yield json.loads(line)
                    except ValueError:
                        raise ExportError(
                            f"{self.path.name}, line {number}: is not JSON; is the file complete?"
                        ) from None

    def _csv(self) -> Iterator[tuple[Mapping[str, Any], Iterable[Mapping[str, Any]]]]:
        with self.path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file)
            columns = self._columns(next(reader, []))
            invoice: dict[str, Any] = {}
            lines: list[dict[str, Any]] = []
            for row in reader:
                if not any(row):
                    continue
                if len(row) <= max(columns.values()):
                    raise ExportError(
                        f"{self.path.name}, line {reader.line_num}: has too few columns; is the file complete?"
                    )
                try:
                    head, line = _from_row({name: row[place].strip() for name, place in columns.items()})
                except ValueError as error:
                    raise ExportError(f"{self.path.name}, line {reader.line_num}: {error}") from None
                if invoice and head["id"] != invoice["id"]:
                    yield invoice, lines
                    lines = []
                invoice = head
                lines.append(line)
            if invoice:
                yield invoice, lines

    def _columns(self, heading: list[str]) -> dict[str, int]:
        there = {
            name.strip().lower().removesuffix("(utc)").strip().replace(" ", "_"): place
            for place, name in enumerate(heading)
        }
        found = {
            name: there[alias]
            for name, aliases in (*_COLUMNS.items(), *_OPTIONAL.items())
            for alias in reversed(aliases)
            if alias in there
        }
        missing = [aliases[0] for name, aliases in _COLUMNS.items() if name not in found]
        if missing:
            raise ExportError(
                f"{self.path.name} is not a known export of invoice lines: it has no column {', '.join(missing)}"
            )
        return found


def _from_row(row: Mapping[str, str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """A row of an export as an invoice and one of its lines, in the API's layout."""
    amount = row["amount"]
    if not amount.lstrip("-").isdecimal():
        raise ValueError(f"amount is {amount!r}; it must be whole minor units (cents), as in Stripe's own tables")
    proration = row.get("proration", "").lower() in ("true", "1", "t")
    manual = row.get("type", "").lower() in ("invoiceitem", "invoice_item")
    kind = "invoice_item_details" if manual else "subscription_item_details"
    line = {
        "amount": int(amount),
        "quantity_decimal": row["quantity"] or "0",
        "period": {"start": _moment(row["start"]), "end": _moment(row["end"])},
        "parent": {
            "type": kind,
            kind: {"proration": proration, "subscription_item": row.get("item")},
        },
        "pricing": {
            "price_details": {"price": row["price"] or None},
            "unit_amount_decimal": row.get("unit_amount") or None,
        },
    }
    subscription = row["subscription"]
    head = {
        "id": row["invoice"],
        "status": row.get("status", "").lower() or "paid",
        # An export without customers is grouped by subscription.
        "customer": row.get("customer") or subscription,
        "subscription": subscription or None,
        "currency": row["currency"],
        "created": _moment(row["created"]) if row.get("created") else line["period"]["start"],  # type: ignore[index]
    }
    return head, line


def _moment(text: str) -> int:
    """UTC seconds of a date, a date and time, or UTC seconds."""
    if text.isdecimal():
        return int(text)
    try:
        moment = datetime.fromisoformat(text.removesuffix(" UTC"))
    except ValueError:
        raise ValueError(f"{text!r} is not a date") from None
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())


def _unreadable(why: str) -> Iterator[Mapping[str, Any]]:
    raise LayoutError(why)
    yield {}


def _prices(lines: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    try:
        yield from all_prices(lines)
    except LayoutError:
        return
