"""Importing events from CSV and JSON Lines: streamed, every bad line named and left out, safe to run again.

What a row says names it: customer, meter, value, time and dimensions, and its count among equal rows of the file. So a
corrected, sorted, renamed, extended or newly saved file records only what is new.
"""

from __future__ import annotations

import codecs
import contextlib
import csv
import json
import os
import sqlite3
from collections import Counter
from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple

from . import spool
from .errors import IdentifierConflict, ImportFailed, InvalidEvent
from .events import Event, digest_of, exact_sum, make_event, utc_seconds
from .results import EventTotals, Imported, LineError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence
    from typing import IO, Any, Literal, Protocol

    from .events import Timestamp

    class Add(Protocol):
        """Records events; `Spool.add`."""

        def __call__(self, events: Sequence[Event], *, timeless: Collection[str]) -> int: ...

    Parse = Callable[[bytes], dict[str, Any] | None]
    """A line as arguments of `make_event`, or None when it is empty. Raises _BadLine."""

BATCH = 1000
MAX_LINE = 1 << 20
SHOWN_ERRORS = 20
FIELDS = ("event_name", "customer", "stripe_customer_id", "value", "timestamp", "identifier")
FORMATS = {".csv": "csv", ".tsv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl"}


class _BadLine(Exception):
    """One line is not an event."""


class Rules(NamedTuple):
    """What an import takes, as `Client.import_file` describes it; `future` as in `check_window`."""

    event_name: str | None
    import_id: str | None
    timestamp: Timestamp | Literal["now"] | None
    corrections: bool
    whole: bool
    future: bool
    clock: Callable[[], float]


def _lines(file: IO[bytes]) -> Iterator[tuple[int, bytes, bool]]:
    """The lines of a binary file as UTF-8, whatever its encoding and line breaks: number, text, and whether it had its
    line break (the last one may still be being written). Holds one block and one line."""
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
    if rest:
        yield number + 1, rest.removesuffix(b"\r"), False


class _Rejects:
    """The file that keeps bad lines, to be corrected and imported. What an earlier run kept there stays, and the same
    line is not kept twice, so that a file that is imported again does not double its bad rows."""

    def __init__(self, path: str | os.PathLike[str] | None) -> None:
        self._file: IO[bytes] | None = None
        self._kept: Counter[bytes] = Counter()
        self._header: bytes | None = None
        if path is None:
            return
        try:
            if os.path.isfile(path):
                with open(path, "rb") as file:
                    kept = file.read().splitlines()
                self._header = kept[0] if kept else None
                self._kept.update(kept)
            self._file = open(path, "ab")  # noqa: SIM115 - closed by whoever opened the import
        except OSError as problem:
            why = problem.strerror or problem
            raise ImportFailed(f"the rejects file {os.fspath(path)} cannot be written: {why}") from None

    def header(self, line: bytes) -> None:
        """The header of a CSV file. Raises ImportFailed when the rejects have another one."""
        if self._header not in (None, line):
            raise ImportFailed("the rejects file holds rows with another header; name another file")
        self.add(line)

    def add(self, line: bytes) -> None:
        """One bad line."""
        if self._kept[line] > 0:
            self._kept[line] -= 1
        elif self._file is not None:
            self._file.write(line + b"\n")

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


class _Import:
    """One run over one file. Without `add` it is a dry run."""

    def __init__(self, add: Add | None, rules: Rules, rejects: _Rejects) -> None:
        self.add = add
        self.rules = rules
        self.rejects = rejects
        given = rules.clock() if rules.timestamp == "now" else rules.timestamp
        self.timestamp = None if given is None else utc_seconds(given)
        self.rows = self.recorded = self.bad = 0
        self.held_back: str | None = None
        self.errors: list[LineError] = []
        self.totals: dict[str, EventTotals] = {}
        self._batch: list[tuple[int, bytes, Event]] = []
        self._timeless: set[str] = set()
        # how often each row was seen, in a temporary file of SQLite's: memory does not grow with the rows
        self._seen = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self._seen.execute("CREATE TABLE seen (row TEXT PRIMARY KEY, times INTEGER NOT NULL) WITHOUT ROWID")
        self._seen.execute("BEGIN")

    def run(self, lines: Iterator[tuple[int, bytes, bool]], parse: Parse, *, proves_itself: bool) -> None:
        """`proves_itself`: a line that parses is known to be whole, as JSON is and CSV is not."""
        for number, raw, complete in lines:
            unfinished = not complete and not self.rules.whole
            if unfinished and not proves_itself and raw.strip():
                self._hold_back(number)
                break
            try:
                if len(raw) > MAX_LINE:
                    raise _BadLine(f"is longer than {MAX_LINE} bytes")
                fields = parse(raw)
                if fields is None:
                    continue
                event = self._event(fields)
            except (InvalidEvent, _BadLine) as problem:
                if unfinished:
                    self._hold_back(number)
                    break
                self._reject(number, raw, problem)
            else:
                self._batch.append((number, raw, event))
            if len(self._batch) >= BATCH:
                self._store()
        self._store()

    def close(self) -> None:
        self._seen.close()
        self.rejects.close()

    def _hold_back(self, number: int) -> None:
        self.held_back = (
            f"line {number}, the last, has no line break, as if it were still being written: it was held back; "
            f"import the file again when it is whole, or say --whole"
        )

    def _reject(self, number: int, raw: bytes, problem: Exception) -> None:
        self.bad += 1
        if len(self.errors) < SHOWN_ERRORS:
            self.errors.append(LineError(number, str(problem)))
        self.rejects.add(raw)

    def _event(self, fields: dict[str, Any]) -> Event:
        timestamp, identifier = fields.get("timestamp"), fields.get("identifier") or None
        timed = timestamp not in (None, "")
        if not timed:
            timestamp = self.timestamp
            if timestamp is None:
                raise _BadLine("has no timestamp; add one, or say --timestamp for rows without")
            if identifier is None and self.rules.import_id is None:
                raise _BadLine(
                    "has neither timestamp nor identifier, so nothing tells it from an equal row of another day; "
                    "name this import with --import-id"
                )
        event = make_event(
            fields.get("event_name") or self.rules.event_name or "",
            fields.get("customer") or "",
            fields.get("value", ""),
            timestamp,
            identifier or "row",
            fields.get("dimensions"),
            correction=self.rules.corrections,
            now=self.rules.clock(),
            future=self.rules.future,
        )
        if identifier is None:
            event = event._replace(identifier=self._name_of(event, timed))
        if not timed:
            self._timeless.add(event.identifier)
        return event

    def _name_of(self, event: Event, timed: bool) -> str:
        """What the row says, and how many equal rows came before it."""
        moment = f"{event.timestamp:010d}" if timed else "untimed"
        says = (self.rules.import_id or "", event.event_name, event.customer, event.value, event.dimensions or "")
        # time first: ascending identifiers keep the spool's unique index append-only, also for 10 million rows
        row = f"row-{moment}-{digest_of(moment, *says)}"
        with spool.IMPORTING:
            before = self._seen.execute(
                "INSERT INTO seen VALUES (?, 0) ON CONFLICT DO UPDATE SET times = times + 1 RETURNING times", (row,)
            ).fetchone()[0]
        return f"{row}-{before}" if before else row

    def _store(self) -> None:
        batch, self._batch = self._batch, []
        if batch:
            self._record(batch)
        self._timeless.clear()

    def _record(self, batch: list[tuple[int, bytes, Event]]) -> None:
        """Record rows together, or one by one when one of them is a different event under a known identifier."""
        events = [event for _, _, event in batch]
        try:
            if self.add is not None:
                self.recorded += self.add(events, timeless=self._timeless)
        except IdentifierConflict as problem:
            if len(batch) == 1:
                self._reject(*batch[0][:2], problem)
            else:
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
    add: Add | None,
    source: str | os.PathLike[str] | IO[bytes],
    format: Literal["csv", "jsonl"] | None,
    rules: Rules,
    rejects: str | os.PathLike[str] | None,
) -> Imported:
    """See `Client.import_file`. Without `add` it is a dry run."""
    name = os.fspath(source) if isinstance(source, (str, os.PathLike)) else "-"
    kind = format or FORMATS.get(os.path.splitext(name)[1].lower())
    if kind is None:
        what = "say what the input is" if name == "-" else f"the name {os.path.basename(name)} does not say what it is"
        raise ImportFailed(f"{what}: --format csv or --format jsonl")
    if rejects is not None and name != "-" and os.path.exists(rejects) and os.path.samefile(rejects, name):
        raise ImportFailed(f"the rejects file {os.fspath(rejects)} is the input itself; name another file")
    run = _Import(add, rules, _Rejects(rejects))
    try:
        with contextlib.ExitStack() as opened:
            file = source if not isinstance(source, (str, os.PathLike)) else opened.enter_context(open(source, "rb"))
            lines = _lines(file)
            parse = _csv(lines, rules.event_name is not None, run.rejects) if kind == "csv" else _json
            run.run(lines, parse, proves_itself=kind == "jsonl")
    except OSError as problem:
        raise ImportFailed(f"{name} cannot be read: {problem.strerror or problem}") from None
    except _BadLine as problem:
        raise ImportFailed(f"{name}: {problem}") from None
    finally:
        run.close()
    counts = (run.rows, run.recorded, 0 if add is None else run.rows - run.recorded, run.bad)
    totals = tuple(run.totals[name] for name in sorted(run.totals))
    return Imported(name, add is None, *counts, tuple(run.errors), totals, run.held_back)


def _text(raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        raise _BadLine("is not UTF-8 text") from None


def _cells(text: str, delimiter: str) -> list[str]:
    if '"' not in text:
        return text.split(delimiter)
    try:
        return next(csv.reader((text,), delimiter=delimiter, strict=True))
    except csv.Error as problem:
        raise _BadLine(f"is not CSV: {problem}") from None


def _shown(name: str) -> str:
    return repr(name if len(name) <= 60 else f"{name[:57]}...")


def _csv(lines: Iterator[tuple[int, bytes, bool]], has_event_name: bool, rejects: _Rejects) -> Parse:
    """A parser for the lines after the header, which it reads first.

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
                raise _BadLine(f"names a column {_shown(name)}; known are {known}")
        columns = ["customer" if name == "stripe_customer_id" else name for name in columns]
        missing = {"customer", "value", *(() if has_event_name else ("event_name",))} - set(columns)
        if missing:
            names = ", ".join(sorted(missing))
            raise _BadLine(f"should name the columns; {names} is missing (--event names the event)")
        if len(set(columns)) != len(columns):
            raise _BadLine("names a column twice")
    except _BadLine as problem:
        raise _BadLine(f"line {number} {problem}") from None
    rejects.header(raw)
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

    return parse


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
        raise _BadLine(f"has an unknown key {_shown(strange)}; known are {', '.join(sorted(known))}")
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
