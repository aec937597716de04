"""Importing events from CSV and JSON Lines: streamed, every bad line named and left out, safe to run again.

What a row says names it: customer, meter, value, time and dimensions, and its count among equal rows of the file. So a
corrected, sorted, renamed, extended or newly saved file records only what is new.
"""

from __future__ import annotations

import codecs
import csv
import json
import os
import sqlite3
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple

from . import spool
from .errors import IdentifierConflict, ImportFailed, InvalidEvent
from .events import Event, digest_of, exact_sum, make_event, utc_seconds
from .results import EventTotals, Imported, LineError

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Collection, Iterator, Sequence
    from typing import IO, Any, Literal, Protocol

    from .events import Timestamp

    class Add(Protocol):
        """Records events; `Spool.add`."""

        def __call__(self, events: Sequence[Event], *, timeless: Collection[str]) -> int: ...

    Progress = Callable[[int, int], object]
    """Called after every batch with the lines and good rows so far."""
    Parse = Callable[[bytes], dict[str, Any] | None]

BATCH = 1000
MAX_LINE = 1 << 20
SHOWN_ERRORS = 20
COLUMNS = {
    "event_name": "event_name",
    "customer": "customer",
    "stripe_customer_id": "customer",
    "value": "value",
    "timestamp": "timestamp",
    "identifier": "identifier",
}
DIMENSION_PREFIX = "dimensions."
FORMATS = {".csv": "csv", ".tsv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl"}


class _BadLine(Exception):
    """One line is not an event."""


class _Lines:
    """The lines of a binary file as UTF-8, whatever its encoding and line breaks. Holds one block and one line."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.number = 0
        self.complete = True
        """Whether the line had its line break; the last one may still be being written."""
        self._block = file.read(1 << 16)
        self._decoder: codecs.IncrementalDecoder | None = None
        if self._block.startswith((b"\xff\xfe", b"\xfe\xff")):
            self._decoder = codecs.getincrementaldecoder("utf-16")("replace")
        elif b"\0" in self._block[:200]:
            raise _BadLine("holds zero bytes: UTF-16 without its mark, or no text at all; save the file as UTF-8")
        self._block = self._decoded(self._block).removeprefix(b"\xef\xbb\xbf")
        # an old Mac's file has carriage returns and nothing else
        self._break = b"\r" if b"\r" in self._block and b"\n" not in self._block else b"\n"

    def __iter__(self) -> Iterator[bytes]:
        rest = b""
        while True:
            *whole, rest = (rest + self._block).split(self._break)
            for line in whole:
                self.number += 1
                yield line.removesuffix(b"\r")
            if len(rest) > MAX_LINE:
                rest = rest[: MAX_LINE + 1]  # enough to be refused; the rest of it is not kept
            self._block = self._decoded(self._file.read(1 << 16))
            if not self._block:
                break
        if rest:
            self.number += 1
            self.complete = False
            yield rest.removesuffix(b"\r")

    def _decoded(self, block: bytes) -> bytes:
        if self._decoder is None:
            return block
        return self._decoder.decode(block, not block).encode("utf-8", "replace")


class _Repeats:
    """How often each row was seen in this file, in a temporary file of SQLite's: memory does not grow with the rows."""

    def __init__(self) -> None:
        self._seen = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self._seen.execute("CREATE TABLE seen (row TEXT PRIMARY KEY, times INTEGER NOT NULL) WITHOUT ROWID")
        self._seen.execute("BEGIN")

    def count(self, row: str) -> int:
        """How many equal rows came before this one."""
        with spool.IMPORTING:
            times = self._seen.execute(
                "INSERT INTO seen VALUES (?, 1) ON CONFLICT DO UPDATE SET times = times + 1 RETURNING times", (row,)
            ).fetchone()[0]
        return int(times) - 1

    def close(self) -> None:
        self._seen.close()


class Rejects:
    """The file that keeps bad lines, to be corrected and imported. What an earlier run kept there stays, and the same
    line is not kept twice, so that a file that is imported again does not double its bad rows."""

    def __init__(self, path: str) -> None:
        from collections import Counter

        self.path = path
        kept: list[bytes] = []
        try:
            if os.path.isfile(path):
                with open(path, "rb") as file:
                    kept = file.read().splitlines()
            self._file = open(path, "ab")  # noqa: SIM115 - closed by whoever opened the import
        except OSError as problem:
            raise ImportFailed(f"the rejects file {path} cannot be written: {problem.strerror or problem}") from None
        self._header = kept[0] if kept else None
        self._kept: Counter[bytes] = Counter(kept)

    def header(self, line: bytes) -> None:
        """The header of a CSV file. Raises ImportFailed when the rejects have another one."""
        if self._header not in (None, line):
            raise ImportFailed(f"the rejects file {self.path} holds rows with another header; name another file")
        self.add(line)

    def add(self, line: bytes) -> None:
        """One bad line."""
        if self._kept[line] > 0:
            self._kept[line] -= 1
        else:
            self._file.write(line + b"\n")

    def close(self) -> None:
        self._file.close()


class Rules(NamedTuple):
    """What an import takes, as `Client.import_file` describes it; `future` as in `check_window`."""

    event_name: str | None
    import_id: str | None
    timestamp: Timestamp | Literal["now"] | None
    corrections: bool
    whole: bool
    future: bool
    clock: Callable[[], float]


@dataclass
class _Importer:
    """One run over one file. Without `add` it is a dry run. timestamp: of rows without one."""

    add: Add | None
    rules: Rules
    timestamp: int | None
    rejects: Rejects | None
    progress: Progress | None
    rows: int = 0
    recorded: int = 0
    already: int = 0
    bad: int = 0
    held_back: str | None = None
    errors: list[LineError] = field(default_factory=list)
    totals: dict[str, EventTotals] = field(default_factory=dict)
    repeats: _Repeats = field(default_factory=_Repeats)
    batch: list[tuple[int, bytes, Event]] = field(default_factory=list)
    timeless: set[str] = field(default_factory=set)

    def run(self, lines: _Lines, rows: Iterator[bytes], parse: Parse, *, proves_itself: bool) -> None:
        """`proves_itself`: a line that parses is known to be whole, as JSON is and CSV is not."""
        for raw in rows:
            unfinished = not lines.complete and not self.rules.whole
            if unfinished and not proves_itself and raw.strip():
                self._hold_back(lines.number)
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
                    self._hold_back(lines.number)
                    break
                self._reject(raw, str(problem), lines.number)
            else:
                self.batch.append((lines.number, raw, event))
            if len(self.batch) >= BATCH:
                self._store(lines.number)
        self._store(lines.number)
        self.repeats.close()

    def _hold_back(self, line: int) -> None:
        self.held_back = (
            f"line {line}, the last, has no line break, as if it were still being written: it was held back; "
            f"import the file again when it is whole, or say --whole"
        )

    def _reject(self, raw: bytes, problem: str, line: int) -> None:
        self.bad += 1
        if len(self.errors) < SHOWN_ERRORS:
            self.errors.append(LineError(line, problem))
        if self.rejects is not None:
            self.rejects.add(raw)

    def _event(self, fields: dict[str, Any]) -> Event:
        timestamp = fields.get("timestamp")
        timed = timestamp not in (None, "")
        if not timed:
            timestamp = self.timestamp
            if timestamp is None:
                raise _BadLine("has no timestamp; add one, or say --timestamp for rows without")
        identifier = fields.get("identifier") or None
        if identifier is None and not timed and self.rules.import_id is None:
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
            moment = f"{event.timestamp:010d}" if timed else "untimed"
            says = (self.rules.import_id or "", event.event_name, event.customer, event.value, event.dimensions or "")
            # time first: ascending identifiers keep the spool's unique index append-only, also for 10 million rows
            row = f"row-{moment}-{digest_of(moment, *says)}"
            times = self.repeats.count(row)
            event = event._replace(identifier=f"{row}-{times}" if times else row)
        if not timed:
            self.timeless.add(event.identifier)
        return event

    def _store(self, line: int) -> None:
        batch, self.batch = self.batch, []
        if batch:
            self._record(batch)
        self.timeless.clear()
        if self.progress is not None:
            self.progress(line, self.rows)

    def _record(self, batch: list[tuple[int, bytes, Event]]) -> None:
        """Record rows together, or one by one when one of them is a different event under a known identifier."""
        events = [event for _, _, event in batch]
        if self.add is not None:
            try:
                new = self.add(events, timeless=self.timeless)
            except IdentifierConflict as problem:
                if len(batch) == 1:
                    ((line, raw, _),) = batch
                    self._reject(raw, str(problem), line)
                else:
                    for row in batch:
                        self._record([row])
                return
            self.recorded += new
            self.already += len(events) - new
        self.rows += len(events)
        for name in {event.event_name for event in events}:
            some = [event for event in events if event.event_name == name]
            times = [event.timestamp for event in some]
            kept = self.totals.get(name) or EventTotals(name, 0, Decimal(0), times[0], times[0])
            total = exact_sum([str(kept.value), *(event.value for event in some)])
            window = (min(kept.first, *times), max(kept.last, *times))
            self.totals[name] = EventTotals(name, kept.events + len(some), total, *window)


def import_file(
    add: Add | None,
    source: str | os.PathLike[str] | IO[bytes],
    format: Literal["csv", "jsonl"] | None,
    rules: Rules,
    rejects: str | os.PathLike[str] | None,
    progress: Progress | None,
) -> Imported:
    """See `Client.import_file`. Without `add` it is a dry run."""
    if isinstance(source, (str, os.PathLike)):
        name = os.fspath(source)
        found = format or FORMATS.get(os.path.splitext(name)[1].lower())
        if found is None:
            what = os.path.basename(name)
            raise ImportFailed(f"the name {what} does not say what it is: --format csv or --format jsonl")
        kind = found
    elif format is None:
        raise ImportFailed("say what the input is: --format csv or --format jsonl")
    else:
        name, kind = "-", format
    if rejects is not None and name != "-" and os.path.exists(rejects) and os.path.samefile(rejects, name):
        raise ImportFailed(f"the rejects file {os.fspath(rejects)} is the input itself; name another file")
    given = rules.clock() if rules.timestamp == "now" else rules.timestamp
    kept = None if rejects is None else Rejects(os.fspath(rejects))
    importer = _Importer(add, rules, None if given is None else utc_seconds(given), kept, progress)
    lines: _Lines | None = None
    try:
        file = open(name, "rb") if name != "-" else source  # noqa: SIM115
        assert not isinstance(file, (str, os.PathLike))
        try:
            lines = _Lines(file)
            rows = iter(lines)
            parse = _csv(rows, rules.event_name is not None, kept) if kind == "csv" else _json
            importer.run(lines, rows, parse, proves_itself=kind == "jsonl")
        finally:
            if name != "-":
                file.close()
    except OSError as problem:
        raise ImportFailed(f"{name} cannot be read: {problem.strerror or problem}") from None
    except _BadLine as problem:
        where = f": line {lines.number}" if lines is not None and lines.number else ""
        raise ImportFailed(f"{name}{where} {problem}") from None
    finally:
        if kept is not None:
            kept.close()
    counts = (importer.rows, importer.recorded, importer.already, importer.bad)
    errors, totals = tuple(importer.errors), tuple(importer.totals[name] for name in sorted(importer.totals))
    return Imported(name, add is None, *counts, errors, totals, importer.held_back)


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


def _csv(rows: Iterator[bytes], has_event_name: bool, rejects: Rejects | None) -> Parse:
    """A parser for the lines after the header, which it reads first.

    Every line is parsed on its own, so that a stray quote spoils its line and not the rest of the file.
    """
    raw = next((line for line in rows if line.strip()), None)
    if raw is None:
        raise _BadLine("should name the columns, and the file is empty")
    header = _text(raw)
    delimiter = next((mark for mark in ",;\t" if mark in header), ",")
    columns: list[tuple[str, str]] = []
    for name in (cell.strip() for cell in _cells(header, delimiter)):
        if name.startswith(DIMENSION_PREFIX):
            columns.append(("", name.removeprefix(DIMENSION_PREFIX)))
        elif name in COLUMNS:
            columns.append((COLUMNS[name], ""))
        else:
            shown = repr(name if len(name) <= 60 else f"{name[:57]}...")
            raise _BadLine(
                f"names a column {shown}; known are {', '.join(COLUMNS)}, and dimensions.NAME for further payload keys"
            )
    fields = [field for field, _ in columns if field]
    missing = {"customer", "value", *(() if has_event_name else ("event_name",))} - set(fields)
    if missing:
        raise _BadLine(f"should name the columns; {', '.join(sorted(missing))} is missing (--event names the event)")
    if len(set(columns)) != len(columns):
        raise _BadLine("names a column twice")
    if rejects is not None:
        rejects.header(raw)

    def parse(raw: bytes) -> dict[str, Any] | None:
        text = _text(raw)
        if not text or text.isspace():
            return None
        cells = _cells(text, delimiter)
        if len(cells) != len(columns):
            raise _BadLine(f"has {len(cells)} fields; the header names {len(columns)}")
        found: dict[str, Any] = {}
        dimensions: dict[str, str] = {}
        for (name, dimension), cell in zip(columns, cells, strict=True):
            if name:
                found[name] = cell.strip()
            elif cell.strip():
                dimensions[dimension] = cell.strip()
        found["dimensions"] = dimensions
        return found

    return parse


_JSON_KEYS = frozenset({*COLUMNS, "dimensions", "payload"})


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
    strange = data.keys() - _JSON_KEYS
    if strange:
        raise _BadLine(f"has an unknown key {sorted(strange)[0][:60]!r}; known are {', '.join(sorted(_JSON_KEYS))}")
    fields: dict[str, Any] = {COLUMNS[key]: value for key, value in data.items() if key in COLUMNS}
    payload = data.get("payload")
    if payload is not None:
        if not isinstance(payload, dict):
            raise _BadLine("has a payload that is not an object")
        rest = dict(payload)
        fields.setdefault("customer", rest.pop("stripe_customer_id", None))
        fields.setdefault("value", rest.pop("value", None))
        fields["dimensions"] = rest
    if data.get("dimensions") is not None:
        fields["dimensions"] = data["dimensions"]
    if isinstance(fields.get("timestamp"), Decimal):
        fields["timestamp"] = float(fields["timestamp"])
    return fields
