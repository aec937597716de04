"""Importing events from CSV and JSON Lines: streamed, resumable, every bad line named and left out."""

from __future__ import annotations

import csv
import json
import os
from decimal import Decimal
from hashlib import blake2b

from .errors import IdentifierConflict, ImportFailed, InvalidEvent, SpoolFull
from .events import derived_identifier, make_event, utc_seconds
from .results import EventTotals, Imported, LineError
from .spool import ImportState

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import IO, Any, Literal, Protocol

    from .client import Client
    from .events import Event, Timestamp

    class Progress(Protocol):
        """Called after every batch with the bytes and rows read so far."""

        def __call__(self, done: int, rows: int) -> None: ...


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


class _BadLine(Exception):
    """One line is not an event."""


class _Source:
    """Lines of a binary file with their numbers, the bytes consumed and a digest of them. Holds one line at a time."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.offset = 0
        self.line = 0
        self._digest = blake2b(digest_size=16)

    def skip(self, state: ImportState) -> bool:
        """Move past what an earlier run recorded; False (and back at the start) when those bytes have changed."""
        left = state.offset
        while left:
            piece = self._file.read(min(left, 1 << 20))
            if not piece:
                break
            self._digest.update(piece)
            left -= len(piece)
        if left or self._digest.hexdigest() != state.digest:
            self._file.seek(0)
            self._digest = blake2b(digest_size=16)
            return False
        self.offset, self.line = state.offset, state.line
        return True

    def next(self) -> bytes | None:
        """The next line without its line break, or None at the end; raises _BadLine for one that is absurdly long."""
        raw = self._take()
        if raw is None:
            return None
        self.line += 1
        if len(raw) == MAX_LINE and not raw.endswith(b"\n"):
            while (rest := self._take()) is not None and not rest.endswith(b"\n"):
                pass
            raise _BadLine(f"is longer than {MAX_LINE} bytes")
        return raw.rstrip(b"\r\n")

    def _take(self) -> bytes | None:
        raw = self._file.readline(MAX_LINE)
        if not raw:
            return None
        self.offset += len(raw)
        self._digest.update(raw)
        return raw

    @property
    def digest(self) -> str:
        return self._digest.copy().hexdigest()


class _Totals:
    """Counts and sums by event name."""

    def __init__(self) -> None:
        self._kept: dict[str, list[int]] = {}

    def add(self, event: Event) -> None:
        row = self._kept.get(event.event_name)
        if row is None:
            self._kept[event.event_name] = [1, event.value, event.timestamp, event.timestamp]
            return
        row[0] += 1
        row[1] += event.value
        if event.timestamp < row[2]:
            row[2] = event.timestamp
        elif event.timestamp > row[3]:
            row[3] = event.timestamp

    def rows(self) -> tuple[EventTotals, ...]:
        return tuple(EventTotals(name, *row) for name, row in sorted(self._kept.items()))


class _Importer:
    """One run over one file."""

    def __init__(
        self,
        client: Client,
        source: _Source,
        *,
        path: str,
        import_id: str,
        named: bool,
        event_name: str | None,
        timestamp: int | None,
        corrections: bool,
        dry_run: bool,
        rejects: IO[bytes] | None,
        progress: Progress | None,
    ) -> None:
        self.client = client
        self.source = source
        self.path = path
        self.import_id = import_id
        self.prefix = derived_identifier("import", import_id)[:23]
        self.named = named
        self.event_name = event_name
        self.timestamp = timestamp
        self.corrections = corrections
        self.dry_run = dry_run
        self.rejects = rejects
        self.progress = progress
        self.rows = self.recorded = self.already = self.bad = 0
        self.errors: list[LineError] = []
        self.totals = _Totals()
        self.batch: list[tuple[int, bytes, Event]] = []

    def run(self, parse: Callable[[bytes], dict[str, Any] | None]) -> None:
        now = self.client.clock()
        while True:
            raw = b""
            try:
                line = self.source.next()
                if line is None:
                    break
                raw = line
                fields = parse(raw)
                if fields is None:
                    continue
                event = self._event(fields, raw, now)
            except InvalidEvent as problem:
                self._reject(raw, str(problem))
            except _BadLine as problem:
                self._reject(raw, str(problem))
            else:
                self.rows += 1
                self.batch.append((self.source.line, raw, event))
            if len(self.batch) >= BATCH:
                self._store()
                now = self.client.clock()
        self._store()

    def _reject(self, raw: bytes, problem: str, line: int | None = None) -> None:
        self.bad += 1
        if len(self.errors) < SHOWN_ERRORS:
            self.errors.append(LineError(self.source.line if line is None else line, problem))
        if self.rejects is not None:
            self.rejects.write(raw + b"\n")

    def _event(self, fields: dict[str, Any], raw: bytes, now: float) -> Event:
        timestamp = fields.get("timestamp")
        if timestamp in (None, ""):
            if self.timestamp is None:
                raise _BadLine("has no timestamp; add one, or say --timestamp for rows without")
            timestamp = self.timestamp
            timed = False
        else:
            timed = True
        identifier = fields.get("identifier") or None
        if identifier is None:
            if not timed and not self.named:
                raise _BadLine(
                    "has neither timestamp nor identifier, so a repeat of it cannot be recognised; "
                    "name this import with --import-id"
                )
            # line before content: ascending identifiers keep the spool's unique index append-only, also for 10 million
            identifier = f"{self.prefix}-{self.source.line:010d}-{blake2b(raw, digest_size=10).hexdigest()}"
        return make_event(
            fields.get("event_name") or self.event_name or "",
            fields.get("customer") or "",
            fields.get("value", ""),
            timestamp,
            identifier,
            fields.get("dimensions"),
            correction=self.corrections,
            now=now,
        )

    def _state(self) -> tuple[str, ImportState]:
        source = self.source
        state = ImportState(self.path, source.offset, source.line, source.digest, self.bad, self.timestamp)
        return self.import_id, state

    def _store(self) -> None:
        batch, self.batch = self.batch, []
        if not self.dry_run:
            try:
                self._add([event for _, _, event in batch], self._state())
            except IdentifierConflict:
                # one of them is a different event under a known identifier: find it, keep the others
                for line, raw, event in batch:
                    try:
                        self._add([event], None)
                    except IdentifierConflict as problem:
                        self.rows -= 1
                        self._reject(raw, str(problem), line)
                        continue
                    self.totals.add(event)
                self._add([], self._state())
                batch = []
        for _, _, event in batch:
            self.totals.add(event)
        if self.progress is not None:
            self.progress(self.source.offset, self.rows)

    def _add(self, events: list[Event], state: tuple[str, ImportState] | None) -> None:
        client = self.client
        window = client._aggregate
        try:
            new = client.spool.add(events, client._mode, aggregate_window=window, import_state=state)
        except SpoolFull as problem:
            if client._destination is None and client._outbox_address is None:
                raise
            flushed = client.flush()
            if flushed.stopped is not None:
                raise ImportFailed(f"{problem}; delivery stopped: {flushed.stopped}") from None
            new = client.spool.add(events, client._mode, aggregate_window=window, import_state=state)
        self.recorded += new
        self.already += len(events) - new


def import_file(
    client: Client,
    source: str | os.PathLike[str] | IO[bytes],
    *,
    format: Literal["csv", "jsonl"] | None,
    event_name: str | None,
    import_id: str | None,
    timestamp: Timestamp | Literal["now"] | None,
    corrections: bool,
    dry_run: bool,
    rejects: IO[bytes] | None,
    progress: Progress | None,
) -> Imported:
    """See `Client.import_file`."""
    if isinstance(source, (str, os.PathLike)):
        path = os.path.abspath(os.fspath(source))
        name = os.path.basename(path)
        kind = format or _format_of(name)
        try:
            with open(path, "rb") as file:
                return _import(
                    client,
                    file,
                    path,
                    name,
                    kind,
                    event_name,
                    import_id,
                    timestamp,
                    corrections,
                    dry_run,
                    rejects,
                    progress,
                )
        except OSError as problem:
            raise ImportFailed(f"{source} cannot be read: {problem.strerror or problem}") from None
    if format is None:
        raise ImportFailed("say what the input is: --format csv or --format jsonl")
    return _import(
        client, source, "-", "-", format, event_name, import_id, timestamp, corrections, dry_run, rejects, progress
    )


def _format_of(name: str) -> str:
    suffix = os.path.splitext(name)[1].lower()
    if suffix in (".csv", ".tsv"):
        return "csv"
    if suffix in (".jsonl", ".ndjson", ".json"):
        return "jsonl"
    raise ImportFailed(f"the name {name} does not say what it is: --format csv or --format jsonl")


def _import(
    client: Client,
    file: IO[bytes],
    path: str,
    name: str,
    kind: str,
    event_name: str | None,
    import_id: str | None,
    timestamp: Timestamp | Literal["now"] | None,
    corrections: bool,
    dry_run: bool,
    rejects: IO[bytes] | None,
    progress: Progress | None,
) -> Imported:
    lines = _Source(file)
    # standard input has no name of its own; its rows need identifiers, or the import a name
    known = import_id or name
    before = None if dry_run else client.spool.import_state(known)
    if before is not None and import_id is None and before.path != path:
        raise ImportFailed(
            f"a file named {name} was imported before from {before.path}; if this is the same data say "
            f"--import-id {name}, if not give it a name of its own with --import-id"
        )
    default: int | None = None
    if before is not None and before.timestamp is not None:
        default = before.timestamp  # a resumed import keeps the time it began with
    elif timestamp == "now":
        default = int(client.clock())
    elif timestamp is not None:
        default = utc_seconds(timestamp)
    importer = _Importer(
        client,
        lines,
        path=path,
        import_id=known,
        named=import_id is not None,
        event_name=event_name,
        timestamp=default,
        corrections=corrections,
        dry_run=dry_run,
        rejects=rejects,
        progress=progress,
    )
    resumed = 0
    try:
        if kind == "csv":
            parse = _csv(lines, event_name is not None, rejects)
            header_line, header_offset = lines.line, lines.offset
        else:
            parse, header_line, header_offset = _json, 0, 0
        if before is not None and path != "-" and before.bad_lines == 0 and before.offset > header_offset:
            file.seek(0)
            again = _Source(file)
            if again.skip(before):
                resumed = before.line + 1
                importer.source = lines = again
            else:  # the file has changed: begin anew, identifiers keep what is recorded from being recorded twice
                importer.source = lines = _Source(file)
                for _ in range(header_line):
                    lines.next()
    except _BadLine as problem:
        raise ImportFailed(f"{path}: line {lines.line} {problem}") from None
    importer.run(parse)
    return Imported(
        source=path,
        import_id=known,
        dry_run=dry_run,
        rows=importer.rows,
        recorded=importer.recorded,
        already=importer.already,
        bad=importer.bad,
        errors=tuple(importer.errors),
        totals=importer.totals.rows(),
        resumed_at=resumed,
    )


def _text(raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        raise _BadLine("is not UTF-8 text") from None


def _csv(lines: _Source, has_event_name: bool, rejects: IO[bytes] | None) -> Callable[[bytes], dict[str, Any] | None]:
    """A parser for the lines after the header, which it reads first.

    Every line is parsed on its own, so that a stray quote spoils its line and not the rest of the file.
    """
    raw = b""
    while not raw.strip():
        taken = lines.next()
        if taken is None:
            raise _BadLine("should name the columns, and the file is empty")
        raw = taken
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise _BadLine("is UTF-16; save the file as UTF-8")
    header = _text(raw.removeprefix(b"\xef\xbb\xbf"))
    delimiter = next((mark for mark in ",;\t" if mark in header), ",")
    names = [name.strip() for name in next(csv.reader((header,), delimiter=delimiter))]
    if rejects is not None:
        rejects.write(raw + b"\n")
    columns: list[tuple[str, str]] = []
    for name in names:
        if name.startswith(DIMENSION_PREFIX):
            columns.append(("", name.removeprefix(DIMENSION_PREFIX)))
        elif name in COLUMNS:
            columns.append((COLUMNS[name], ""))
        else:
            raise _BadLine(
                f"names a column {name!r}; known are {', '.join(COLUMNS)}, and dimensions.NAME for further payload keys"
            )
    fields = [field for field, _ in columns if field]
    missing = {"customer", "value", *(() if has_event_name else ("event_name",))} - set(fields)
    if missing:
        raise _BadLine(f"should name the columns; {', '.join(sorted(missing))} is missing (--event names the event)")
    if len(set(fields)) != len(fields):
        raise _BadLine("names a column twice")
    plain = not any(dimension for _, dimension in columns)
    width = len(columns)

    def parse(raw: bytes) -> dict[str, Any] | None:
        text = _text(raw)
        if not text or text.isspace():
            return None
        if '"' in text:
            try:
                cells = next(csv.reader((text,), delimiter=delimiter, strict=True))
            except csv.Error as problem:
                raise _BadLine(f"is not CSV: {problem}") from None
        else:
            cells = text.split(delimiter)
        if len(cells) != width:
            raise _BadLine(f"has {len(cells)} fields; the header names {width}")
        if plain:
            return dict(zip(fields, [cell.strip() for cell in cells], strict=True))
        found: dict[str, Any] = {}
        dimensions: dict[str, str] = {}
        for (field, dimension), cell in zip(columns, cells, strict=True):
            if dimension:
                if cell.strip():
                    dimensions[dimension] = cell.strip()
            else:
                found[field] = cell.strip()
        found["dimensions"] = dimensions
        return found

    return parse


_JSON_KEYS = frozenset({*COLUMNS, "dimensions", "payload"})


def _json(raw: bytes) -> dict[str, Any] | None:
    """One JSON object: this module's own keys, or a meter event as Stripe's API writes it (with `payload`)."""
    text = _text(raw.removeprefix(b"\xef\xbb\xbf"))
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
        raise _BadLine(f"has an unknown key {sorted(strange)[0]!r}; known are {', '.join(sorted(_JSON_KEYS))}")
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
