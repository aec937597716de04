"""Importing events from CSV and JSON Lines: streamed, every bad line reported and skipped, safe to run again.

A row's content is its identity: customer, meter, value, time and dimensions, and its count among equal rows of the
file. So a corrected, sorted, renamed, extended or newly saved file records only what is new.
"""

from __future__ import annotations

import codecs
import contextlib
import io
import json
import os
import sqlite3
from collections.abc import Callable, Collection, Iterator, Sequence
from decimal import Decimal
from typing import IO, Any, Literal, Protocol

from . import spool
from .errors import IdentifierConflict, ImportFailed, InvalidEvent
from .events import Event, Timestamp, digest_of, exact_sum, make_event, shown, utc_seconds
from .results import EventTotals, Imported, LineError


class Recorder(Protocol):
    """What an import needs from a client; `_future` as in `check_window`."""

    clock: Callable[[], float]
    _future: bool

    def _add(self, events: Sequence[Event], *, timeless: Collection[str]) -> int: ...
    def _where(self) -> tuple[str, bool]: ...


Lines = Iterator[tuple[int, str, bool]]
Row = tuple[Event, bool]
"""An event, and whether its time was given."""

BATCH = 1000
MAX_LINE = 1 << 20
SHOWN_ERRORS = 20
FIELDS = ("event_name", "customer", "value", "timestamp", "identifier")
FORMATS = {".csv": "csv", ".tsv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl"}


class _BadLine(Exception):
    """One line is not an event."""


def _lines(file: IO[bytes]) -> Lines:
    """Number, text, and whether the line ended in a line break, of every line of a binary file in UTF-8 or UTF-16,
    whatever its line breaks. What is not UTF-8 is escaped with surrogates. Holds one block and one line."""
    block = file.read(200)
    encoding = "utf-16" if block.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
    if encoding == "utf-8-sig" and b"\0" in block:
        raise _BadLine("holds zero bytes: UTF-16 without a byte order mark, or not text; save the file as UTF-8")
    decoder = io.IncrementalNewlineDecoder(codecs.getincrementaldecoder(encoding)("surrogateescape"), translate=True)
    number, rest = 0, ""
    while block:
        *whole, rest = (rest + decoder.decode(block)).split("\n")
        rest = rest[: MAX_LINE + 1]  # enough to refuse the line
        for line in whole:
            number += 1
            yield number, line, True
        block = file.read(1 << 16)
    rest += decoder.decode(b"", True)
    if rest:
        yield number + 1, rest.removesuffix("\n"), rest.endswith("\n")


def _rejects(path: str | os.PathLike[str], header: str, opened: contextlib.ExitStack) -> Callable[[str], object]:
    """Writes bad lines to a file (under the header, if it is CSV), to correct and import them. Lines from earlier runs
    stay, and none is written twice."""
    try:
        file = open(path, "a+", encoding="utf-8", errors="surrogateescape")  # noqa: SIM115
        opened.enter_context(file)
        file.seek(0)
        before = file.read().split("\n")[:-1]
    except OSError as problem:
        why = f"cannot be written: {problem.strerror or problem}"
        raise ImportFailed(f"the rejects file {os.fspath(path)} {why}") from None
    if before and header and before[0] != header:
        raise ImportFailed(f"the rejects file {os.fspath(path)} has rows with a different header; name another file")
    kept = set(before)

    def keep(line: str) -> None:
        if line not in kept:
            kept.add(line)
            file.write(f"{line}\n")

    if header:
        keep(header)
    return keep


class _Repeats:
    """How often each row occurred in this file, in a temporary SQLite file: memory does not grow with the rows."""

    def __init__(self) -> None:
        self._seen = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self._seen.execute("CREATE TABLE seen (row TEXT PRIMARY KEY, times INTEGER NOT NULL) WITHOUT ROWID")
        self._seen.execute("BEGIN")

    def name(self, event: Event, import_id: str | None, timed: bool) -> str:
        """The identifier of a row: its content, and how many equal rows came before it."""
        when = f"{event.timestamp:010d}" if timed else "untimed"
        says = (import_id or "", event.event_name, event.customer, event.value, event.dimensions or "")
        # time first: ascending identifiers keep the spool's unique index append-only, even for 10 million rows
        row = f"row-{when}-{digest_of(when, *says)}"
        count = "INSERT INTO seen VALUES (?, 0) ON CONFLICT DO UPDATE SET times = times + 1 RETURNING times"
        with spool.IMPORTING:
            before = self._seen.execute(count, (row,)).fetchone()[0]
        return f"{row}-{before}" if before else row

    def close(self) -> None:
        self._seen.close()


class _Run:
    """The counts of one run over one file. add: records events, and returns how many are new."""

    def __init__(self, add: Callable[..., int], keep: Callable[[str], object]) -> None:
        self.add, self.keep = add, keep
        self.rows = self.recorded = self.bad = 0
        self.errors: list[LineError] = []
        self.totals: dict[str, EventTotals] = {}
        self.held_back: str | None = None

    def read(self, lines: Lines, event_of: Callable[[str], Row], *, whole: bool, proves_itself: bool) -> None:
        """Record the event of every line. whole: accept a last line without a line break. `proves_itself`: a line that
        parses is complete."""
        batch: list[tuple[int, str, Row]] = []
        for number, line, complete in lines:
            if not line or line.isspace():
                continue
            row, wrong = None, ""
            try:
                row = event_of(line)
            except (InvalidEvent, _BadLine) as problem:
                wrong = str(problem)
            if not (complete or whole or (proves_itself and row)):
                self.held_back = (
                    f"line {number}, the last, has no line break, so it may be unfinished: it was held back; import "
                    f"the file again when it is complete, or pass --whole"
                )
            elif row is None:
                self._reject(number, line, wrong)
            else:
                batch.append((number, line, row))
            if len(batch) == BATCH:
                self._record(batch)
                batch = []
        self._record(batch)

    def _reject(self, number: int, line: str, problem: str) -> None:
        self.bad += 1
        if len(self.errors) < SHOWN_ERRORS:
            self.errors.append(LineError(number, problem))
        self.keep(line)

    def _record(self, batch: Sequence[tuple[int, str, Row]]) -> None:
        """Record rows together, or one by one if one of them is a different event with a known identifier."""
        events = [event for _, _, (event, _) in batch]
        timeless = {event.identifier for _, _, (event, timed) in batch if not timed}
        try:
            self.recorded += self.add(events, timeless=timeless) if events else 0
        except IdentifierConflict as problem:
            if len(batch) == 1:
                self._reject(*batch[0][:2], str(problem))
                return
            for row in batch:
                self._record([row])
            return
        self.rows += len(events)
        for name in {event.event_name for event in events}:
            values = [event.value for event in events if event.event_name == name]
            kept = self.totals.get(name) or EventTotals(name, 0, Decimal(0))
            self.totals[name] = EventTotals(name, kept.events + len(values), exact_sum([kept.value, *values]))


def import_file(
    self: Recorder,
    file: str | os.PathLike[str] | IO[bytes],
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

    Bad lines are reported and skipped, all others recorded; `flush` sends them. import_id: required for rows without
    timestamp and identifier, and tells apart equal rows in different data. timestamp: for rows without one. whole:
    accept a last line without a line break. rejects: a file for the bad lines.
    """
    name = os.fspath(file) if isinstance(file, (str, os.PathLike)) else "-"
    kind = format or FORMATS.get(os.path.splitext(name)[1].lower())
    if kind is None:
        what = "name the format" if name == "-" else f"the name {os.path.basename(name)} does not tell the format"
        raise ImportFailed(f"{what}: --format csv or --format jsonl")
    if rejects is not None and name != "-" and os.path.exists(rejects) and os.path.samefile(rejects, name):
        raise ImportFailed(f"the rejects file {os.fspath(rejects)} is the input itself; name another file")
    by_default = None if timestamp is None else utc_seconds(self.clock() if timestamp == "now" else timestamp)

    def event_of(line: str) -> Row:
        if len(line) > MAX_LINE:
            raise _BadLine(f"is longer than {MAX_LINE} characters")
        if not line.isascii() and line != line.encode(errors="replace").decode():
            raise _BadLine("is not UTF-8 text")
        fields = parse(line)
        moment, identifier = fields.get("timestamp"), fields.get("identifier") or None
        timed = moment not in (None, "")
        if not timed and by_default is None:
            raise _BadLine("has no timestamp; add one, or pass --timestamp for rows without one")
        if not timed and identifier is None and import_id is None:
            why = "so an equal row of another day looks the same; name this import with --import-id"
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
        return (event if identifier else event._replace(identifier=repeats.name(event, import_id, timed))), timed

    with contextlib.ExitStack() as opened:
        repeats = opened.enter_context(contextlib.closing(_Repeats()))
        try:
            lines = _lines(opened.enter_context(open(file, "rb")) if isinstance(file, (str, os.PathLike)) else file)
            parse, header = _csv(lines, event_name is not None) if kind == "csv" else (_json, "")
            keep = bool if rejects is None else _rejects(rejects, header, opened)
            run = _Run((lambda *_, **__: 0) if dry_run else self._add, keep)
            # a line that parses is complete if it is JSON, but maybe not if it is CSV
            run.read(lines, event_of, whole=whole, proves_itself=kind == "jsonl")
        except OSError as problem:
            raise ImportFailed(f"{name} cannot be read: {problem.strerror or problem}") from None
        except _BadLine as problem:
            raise ImportFailed(f"{name}: {problem}") from None
    counts = (run.rows, run.recorded, 0 if dry_run else run.rows - run.recorded, run.bad)
    totals = tuple(run.totals[name] for name in sorted(run.totals))
    return Imported(*self._where(), name, dry_run, *counts, tuple(run.errors), totals, run.held_back)


def _cells(text: str, delimiter: str) -> list[str]:
    if '"' not in text:
        return text.split(delimiter)
    import csv

    try:
        return next(csv.reader((text,), delimiter=delimiter, strict=True))
    except csv.Error as problem:
        raise _BadLine(f"is not CSV: {problem}") from None


def _csv(lines: Lines, has_event_name: bool) -> tuple[Callable[[str], dict[str, Any]], str]:
    """Read the header; returns a parser for the lines after it, and the header.

    It parses every line on its own: a stray quote makes one line bad, not the rest of the file.
    """
    number, header, _ = next((line for line in lines if line[1].strip()), (0, "", True))
    if not header:
        raise _BadLine("should name the columns, but the file is empty")
    try:
        delimiter = next((mark for mark in ",;\t" if mark in header), ",")
        columns = [cell.strip() for cell in _cells(header, delimiter)]
        for name in columns:
            if name not in FIELDS and not name.startswith("dimensions."):
                known = f"{', '.join(FIELDS)}, and dimensions.NAME for other payload keys"
                raise _BadLine(f"names an unknown column {shown(name)}; known are {known}")
        missing = {"customer", "value", *(() if has_event_name else ("event_name",))} - set(columns)
        if missing:
            names = ", ".join(sorted(missing))
            raise _BadLine(f"should name the columns; {names} is missing (--event names the event)")
        if len(set(columns)) != len(columns):
            raise _BadLine("names a column twice")
    except _BadLine as problem:
        raise _BadLine(f"line {number} {problem}") from None
    further = [name for name in columns if name not in FIELDS]

    def parse(line: str) -> dict[str, Any]:
        cells = _cells(line, delimiter)
        if len(cells) != len(columns):
            raise _BadLine(f"has {len(cells)} fields; the header names {len(columns)}")
        found: dict[str, Any] = {name: cell.strip() for name, cell in zip(columns, cells, strict=True)}
        found["dimensions"] = {name.removeprefix("dimensions."): found[name] for name in further if found[name]}
        return found

    return parse, header


def _json(line: str) -> dict[str, Any]:
    """One JSON object with this module's own keys."""
    try:
        data = json.loads(line, parse_float=Decimal)
    except (ValueError, RecursionError) as problem:
        raise _BadLine(f"is not JSON: {problem}") from None
    if not isinstance(data, dict):
        raise _BadLine("is not a JSON object")
    for strange in sorted(data.keys() - {*FIELDS, "dimensions"})[:1]:
        raise _BadLine(f"has an unknown key {shown(strange)}; known are {', '.join(FIELDS)}, dimensions")
    if isinstance(data.get("timestamp"), Decimal):
        data["timestamp"] = float(data["timestamp"])
    return data
