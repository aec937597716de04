"""Importing events from CSV and JSON Lines: streamed, every bad line named and left out, safe to run again.

What a row says names it: customer, meter, value, time and dimensions, and its count among equal rows of the file. So a
corrected, sorted, renamed, extended or newly saved file records only what is new.
"""

from __future__ import annotations

import codecs
import contextlib
import json
import os
import sqlite3
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from decimal import Decimal
from typing import IO, Any, Literal, Protocol

from . import spool
from .errors import IdentifierConflict, ImportFailed, InvalidEvent
from .events import Event, Timestamp, digest_of, exact_sum, make_event, shown, utc_seconds
from .results import EventTotals, Imported, LineError


class Recorder(Protocol):
    """What an import needs of a client; `_future` as in `check_window`."""

    clock: Callable[[], float]
    _future: bool

    def _add_or_deliver(self, events: Sequence[Event], timeless: Collection[str]) -> int: ...


Lines = Iterator[tuple[int, bytes, bool]]
"""Number, text, and whether the line had its line break (the last one may still be being written)."""
Parse = Callable[[bytes], dict[str, Any] | None]
"""A line as arguments of `make_event`, or None when it is empty. Raises _BadLine."""

BATCH = 1000
MAX_LINE = 1 << 20
SHOWN_ERRORS = 20
FIELDS = ("event_name", "customer", "stripe_customer_id", "value", "timestamp", "identifier")
FORMATS = {".csv": "csv", ".tsv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl"}


class _BadLine(Exception):
    """One line is not an event."""


def _lines(file: IO[bytes]) -> Lines:
    """The lines of a binary file as UTF-8, whatever its encoding and line breaks. Holds one block and one line."""
    block = file.read(1 << 16)
    decoder = None
    if block.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        decoder = codecs.getincrementaldecoder("utf-16")("replace")
    elif b"\0" in block[:200]:
        raise _BadLine("holds zero bytes: UTF-16 without its mark, or no text at all; save the file as UTF-8")
    number, rest, ending = 0, b"", b""
    while block:
        if decoder is not None:
            block = decoder.decode(block).encode("utf-8", "replace")
        if not ending:
            block = block.removeprefix(codecs.BOM_UTF8)
            # an old Mac's file has carriage returns and nothing else
            ending = b"\r" if b"\r" in block and b"\n" not in block else b"\n"
        *whole, rest = (rest + block).split(ending)
        for line in whole:
            number += 1
            yield number, line.removesuffix(b"\r"), True
        rest = rest[: MAX_LINE + 1]  # enough to be refused; the rest of it is not kept
        block = file.read(1 << 16)
    if decoder is not None:
        rest += decoder.decode(b"", True).encode("utf-8", "replace")
    if rest:
        yield number + 1, rest.removesuffix(b"\r"), False


def _rejects(
    path: str | os.PathLike[str] | None, header: bytes | None, opened: contextlib.ExitStack
) -> Callable[[bytes], object]:
    """Keeps a bad line in a file (under the header, if it is CSV), to be corrected and imported.

    What an earlier run kept there stays. The same line is not kept twice, so that a file that is imported again does
    not double its bad rows.
    """
    if path is None:
        return bool
    try:
        file = opened.enter_context(open(path, "a+b"))  # noqa: SIM115
        file.seek(0)
        before = file.read().splitlines()
    except OSError as problem:
        why = f"cannot be written: {problem.strerror or problem}"
        raise ImportFailed(f"the rejects file {os.fspath(path)} {why}") from None
    if header is not None and before and before[0] != header:
        why = "holds rows with another header; name another file"
        raise ImportFailed(f"the rejects file {os.fspath(path)} {why}")
    kept = Counter(before)

    def keep(line: bytes) -> None:
        if kept[line] > 0:
            kept[line] -= 1
        else:
            file.write(line + b"\n")

    if header is not None:
        keep(header)
    return keep


class _Repeats:
    """How often each row was seen in this file, in a temporary file of SQLite's: memory does not grow with the rows."""

    def __init__(self) -> None:
        self._seen = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self._seen.execute("CREATE TABLE seen (row TEXT PRIMARY KEY, times INTEGER NOT NULL) WITHOUT ROWID")
        self._seen.execute("BEGIN")

    def name(self, event: Event, import_id: str | None, timed: bool) -> str:
        """The identifier of a row: what it says, and how many equal rows came before it."""
        when = f"{event.timestamp:010d}" if timed else "untimed"
        says = (import_id or "", event.event_name, event.customer, event.value, event.dimensions or "")
        # time first: ascending identifiers keep the spool's unique index append-only, also for 10 million rows
        row = f"row-{when}-{digest_of(when, *says)}"
        count = "INSERT INTO seen VALUES (?, 0) ON CONFLICT DO UPDATE SET times = times + 1 RETURNING times"
        with spool.IMPORTING:
            before = self._seen.execute(count, (row,)).fetchone()[0]
        return f"{row}-{before}" if before else row

    def close(self) -> None:
        self._seen.close()


class _Run:
    """What one run over one file has found so far. add: None in a dry run."""

    def __init__(
        self, add: Callable[[Sequence[Event], Collection[str]], int] | None, keep: Callable[[bytes], object]
    ) -> None:
        self.add = add
        self.keep = keep
        self.rows = self.recorded = self.bad = 0
        self.errors: list[LineError] = []
        self.totals: dict[str, EventTotals] = {}
        self.held_back: str | None = None
        self._batch: list[tuple[int, bytes, Event]] = []
        self.timeless: set[str] = set()

    def read(
        self, lines: Lines, event_of: Callable[[bytes], Event | None], *, whole: bool, proves_itself: bool
    ) -> None:
        """Record the event of every line. whole: take a last line without a line break, as also when a line that is an
        event `proves_itself` to be whole."""
        for number, raw, complete in lines:
            event, wrong = None, None
            try:
                if len(raw) > MAX_LINE:
                    raise _BadLine(f"is longer than {MAX_LINE} bytes")
                event = event_of(raw)
            except (InvalidEvent, _BadLine) as problem:
                wrong = problem
            if event is None and wrong is None:
                continue
            if not complete and not whole and not (proves_itself and event):
                self.held_back = (
                    f"line {number}, the last, has no line break, as if it were still being written: it was held "
                    f"back; import the file again when it is whole, or pass --whole"
                )
            elif event is None:
                self._reject(number, raw, str(wrong))
            else:
                self._batch.append((number, raw, event))
            if len(self._batch) >= BATCH:
                self._store()
        self._store()

    def _reject(self, number: int, raw: bytes, problem: str) -> None:
        self.bad += 1
        if len(self.errors) < SHOWN_ERRORS:
            self.errors.append(LineError(number, problem))
        self.keep(raw)

    def _store(self) -> None:
        if self._batch:
            self._record(self._batch)
        self._batch, self.timeless = [], set()

    def _record(self, batch: list[tuple[int, bytes, Event]]) -> None:
        """Record rows together, or one by one when one of them is a different event under a known identifier."""
        events = [event for _, _, event in batch]
        try:
            if self.add is not None:
                self.recorded += self.add(events, self.timeless)
        except IdentifierConflict as problem:
            if len(batch) == 1:
                self._reject(*batch[0][:2], str(problem))
                return
            for row in batch:
                self._record([row])
            return
        self.rows += len(events)
        for name in {event.event_name for event in events}:
            some = [event for event in events if event.event_name == name]
            times = [event.timestamp for event in some]
            kept = self.totals.get(name) or EventTotals(name, 0, Decimal(0), times[0], times[0])
            total = exact_sum([kept.value, *(event.value for event in some)])
            window = (min(kept.first, *times), max(kept.last, *times))
            self.totals[name] = EventTotals(name, kept.events + len(some), total, *window)


def import_file(
    self: Recorder,
    source: str | os.PathLike[str] | IO[bytes],
    *,
    format: Literal["csv", "jsonl"] | None = None,
    event_name: str | None = None,
    import_id: str | None = None,
    timestamp: Timestamp | Literal["now"] | None = None,
    corrections: bool = False,
    whole: bool = False,
    dry_run: bool = False,
    rejects: str | os.PathLike[str] | None = None,
) -> Imported:
    """Record the events of a CSV or JSON Lines file; see docs/usage.md for the columns. Safe to run again.

    Bad lines are reported and left out, all others recorded; `flush` sends them. import_id: needed for rows without
    timestamp and identifier, and tells apart equal rows of files that are different data. whole: take a last line
    without a line break. rejects: a file that keeps the bad lines.
    """
    name = os.fspath(source) if isinstance(source, (str, os.PathLike)) else "-"
    kind = format or FORMATS.get(os.path.splitext(name)[1].lower())
    if kind is None:
        what = "say what the input is" if name == "-" else f"the name {os.path.basename(name)} does not say what it is"
        raise ImportFailed(f"{what}: --format csv or --format jsonl")
    if rejects is not None and name != "-" and os.path.exists(rejects) and os.path.samefile(rejects, name):
        raise ImportFailed(f"the rejects file {os.fspath(rejects)} is the input itself; name another file")
    by_default = None if timestamp is None else utc_seconds(self.clock() if timestamp == "now" else timestamp)

    def event_of(fields: dict[str, Any] | None) -> Event | None:
        if fields is None:
            return None
        moment, identifier = fields.get("timestamp"), fields.get("identifier") or None
        timed = moment not in (None, "")
        if not timed and by_default is None:
            raise _BadLine("has no timestamp; add one, or pass --timestamp for rows without one")
        if not timed and identifier is None and import_id is None:
            why = "so nothing tells it from an equal row of another day; name this import with --import-id"
            raise _BadLine(f"has neither timestamp nor identifier, {why}")
        event = make_event(
            fields.get("event_name") or event_name or "",
            fields.get("customer") or "",
            fields.get("value", ""),
            moment if timed else by_default,
            identifier or "row",
            fields.get("dimensions"),
            correction=corrections,
            now=self.clock(),
            future=self._future,
        )
        if identifier is None:
            event = event._replace(identifier=repeats.name(event, import_id, timed))
        if not timed:
            run.timeless.add(event.identifier)
        return event

    with contextlib.ExitStack() as opened:
        repeats = opened.enter_context(contextlib.closing(_Repeats()))
        try:
            file = opened.enter_context(open(source, "rb")) if isinstance(source, (str, os.PathLike)) else source
            lines = _lines(file)
            parse, header = _csv(lines, event_name is not None) if kind == "csv" else (_json, None)
            run = _Run(None if dry_run else self._add_or_deliver, _rejects(rejects, header, opened))
            # a line that parses is known to be whole where it is JSON, and is not where it is CSV
            run.read(lines, lambda raw: event_of(parse(raw)), whole=whole, proves_itself=kind == "jsonl")
        except OSError as problem:
            raise ImportFailed(f"{name} cannot be read: {problem.strerror or problem}") from None
        except _BadLine as problem:
            raise ImportFailed(f"{name}: {problem}") from None
    counts = (run.rows, run.recorded, 0 if dry_run else run.rows - run.recorded, run.bad)
    totals = tuple(run.totals[name] for name in sorted(run.totals))
    return Imported(name, dry_run, *counts, tuple(run.errors), totals, run.held_back)


def _text(raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        raise _BadLine("is not UTF-8 text") from None


def _cells(text: str, delimiter: str) -> list[str]:
    if '"' not in text:
        return text.split(delimiter)
    import csv

    try:
        return next(csv.reader((text,), delimiter=delimiter, strict=True))
    except csv.Error as problem:
        raise _BadLine(f"is not CSV: {problem}") from None


def _csv(lines: Lines, has_event_name: bool) -> tuple[Parse, bytes]:
    """A parser for the lines after the header, and the header, which it reads first.

    Every line is parsed on its own, so that a stray quote spoils its line and not the rest of the file.
    """
    number, raw, _ = next((line for line in lines if line[1].strip()), (0, b"", True))
    if not raw:
        raise _BadLine("should name the columns, and the file is empty")
    try:
        header = _text(raw)
        delimiter = next((mark for mark in ",;\t" if mark in header), ",")
        columns = [cell.strip() for cell in _cells(header, delimiter)]
        for name in columns:
            if name not in FIELDS and not name.startswith("dimensions."):
                known = f"{', '.join(FIELDS)}, and dimensions.NAME for further payload keys"
                raise _BadLine(f"names a column {shown(name)}; known are {known}")
        columns = ["customer" if name == "stripe_customer_id" else name for name in columns]
        missing = {"customer", "value", *(() if has_event_name else ("event_name",))} - set(columns)
        if missing:
            names = ", ".join(sorted(missing))
            raise _BadLine(f"should name the columns; {names} is missing (--event names the event)")
        if len(set(columns)) != len(columns):
            raise _BadLine("names a column twice")
    except _BadLine as problem:
        raise _BadLine(f"line {number} {problem}") from None
    further = [name for name in columns if name not in FIELDS]

    def parse(raw: bytes) -> dict[str, Any] | None:
        text = _text(raw)
        if not text or text.isspace():
            return None
        cells = _cells(text, delimiter)
        if len(cells) != len(columns):
            raise _BadLine(f"has {len(cells)} fields; the header names {len(columns)}")
        found: dict[str, Any] = {name: cell.strip() for name, cell in zip(columns, cells, strict=True)}
        found["dimensions"] = {name.removeprefix("dimensions."): found[name] for name in further if found[name]}
        return found

    return parse, raw


def _json(raw: bytes) -> dict[str, Any] | None:
    """One JSON object: this module's own keys, or a meter event as Stripe's API writes it (with `payload`)."""
    text = _text(raw)
    if not text or text.isspace():
        return None
    try:
        data = json.loads(text, parse_float=Decimal)
    except (ValueError, RecursionError) as problem:
        raise _BadLine(f"is not JSON: {problem}") from None
    if not isinstance(data, dict):
        raise _BadLine("is not a JSON object")
    known = {*FIELDS, "dimensions", "payload"}
    for strange in sorted(data.keys() - known)[:1]:
        raise _BadLine(f"has an unknown key {shown(strange)}; known are {', '.join(sorted(known))}")
    payload = data.pop("payload", None)
    if payload is not None:
        if not isinstance(payload, dict):
            raise _BadLine("has a payload that is not an object")
        rest = dict(payload)
        mapped = {"customer": rest.pop("stripe_customer_id", None), "value": rest.pop("value", None)}
        data = {**mapped, "dimensions": rest, **data}
    if "stripe_customer_id" in data:
        data["customer"] = data["stripe_customer_id"]
    if isinstance(data.get("timestamp"), Decimal):
        data["timestamp"] = float(data["timestamp"])
    return data
