"""The write-ahead spool: one SQLite file that holds every event from before it is sent until long after.

Why SQLite: a commit survives SIGKILL at any instruction, several processes may record at once, and nothing needs to
run. The file is opened lazily, closed before a fork and reopened on each side of it, because SQLite's bookkeeping of
file locks must not be inherited.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
import weakref
from collections import namedtuple
from contextlib import contextmanager

from .errors import IdentifierConflict, SpoolDamaged, SpoolError, SpoolFull, SpoolLocked
from .events import Event, derived_identifier, iso

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from typing import NamedTuple

    class Claimed(NamedTuple):
        """An event taken for sending. `perhaps_since`: when an earlier attempt may have reached Stripe, or None."""

        id: int
        event: Event
        perhaps_since: int | None

    class Kept(NamedTuple):
        """What the spool knows of one event. Times are UTC seconds."""

        id: int
        event: Event
        destination: str
        state: str
        recorded_at: int
        unknown_since: int | None
        settled_at: int | None

    class DeadLetter(NamedTuple):
        """An event that was refused for good, and why."""

        event: Event
        destination: str
        code: str
        message: str
        status: int
        request_id: str | None
        refused_at: int
        reported: bool
        """True when the refusal came later, in an asynchronous error report."""

    class Refusal(NamedTuple):
        """Why an event was refused for good."""

        code: str
        message: str
        status: int
        request_id: str | None

    class ImportState(NamedTuple):
        """How far an import got: everything before `offset` (bytes) is recorded; `digest` is of those bytes."""

        path: str
        offset: int
        line: int
        digest: str
        bad_lines: int
        timestamp: int | None
else:
    Claimed = namedtuple("Claimed", "id event perhaps_since")
    Kept = namedtuple("Kept", "id event destination state recorded_at unknown_since settled_at")
    DeadLetter = namedtuple("DeadLetter", "event destination code message status request_id refused_at reported")
    Refusal = namedtuple("Refusal", "code message status request_id")
    ImportState = namedtuple("ImportState", "path offset line digest bad_lines timestamp")

DEFAULT_PATH = ".stripe-usage/spool.db"
PATH_VARIABLE = "STRIPE_USAGE_SPOOL"

VERSION = 1
UNIQUENESS_SECONDS = 24 * 3600
"""Stripe holds identifiers unique for "at least 24 hours"; after that a resend could bill twice."""
RESEND_MARGIN = 900
"""Resending stops this much earlier, so that no slow attempt ends outside the window."""
KEEP_SECONDS = 40 * 86_400
"""Settled events are kept longer than Stripe takes their timestamps (35 days), so that a repeat is still recognised."""

STATES = ("pending", "aggregating", "unknown", "dead", "delivered", "queued", "aggregated", "cancelled", "replaced")
OPEN_STATES = ("pending", "aggregating")

_SCHEMA = """
CREATE TABLE events (
    id INTEGER PRIMARY KEY,
    identifier TEXT NOT NULL,
    event_name TEXT NOT NULL,
    customer TEXT NOT NULL,
    value INTEGER NOT NULL,
    timestamp INTEGER NOT NULL,
    dimensions TEXT,
    destination TEXT NOT NULL,
    state TEXT NOT NULL,
    recorded_at INTEGER NOT NULL,
    unknown_since INTEGER,
    settled_at INTEGER,
    aggregate_window TEXT,
    became TEXT
) STRICT;
CREATE UNIQUE INDEX events_identifier ON events (identifier);
CREATE INDEX events_pending ON events (id) WHERE state = 'pending';
CREATE INDEX events_aggregating ON events (event_name, customer, timestamp) WHERE state = 'aggregating';
CREATE INDEX events_unsettled ON events (state, id) WHERE state IN ('unknown', 'dead');
CREATE TABLE counters (
    destination TEXT NOT NULL, state TEXT NOT NULL, events INTEGER NOT NULL, PRIMARY KEY (destination, state)
) STRICT, WITHOUT ROWID;
CREATE TABLE dead_letters (
    id INTEGER PRIMARY KEY REFERENCES events (id),
    code TEXT NOT NULL, message TEXT NOT NULL, status INTEGER NOT NULL, request_id TEXT,
    refused_at INTEGER NOT NULL, reported INTEGER NOT NULL
) STRICT;
CREATE TABLE error_reports (
    id TEXT PRIMARY KEY, type TEXT NOT NULL, created TEXT, meter TEXT, summary TEXT, error_count INTEGER NOT NULL,
    received_at INTEGER NOT NULL, body TEXT NOT NULL
) STRICT;
CREATE TABLE imports (
    import_id TEXT PRIMARY KEY, path TEXT NOT NULL, offset INTEGER NOT NULL, line INTEGER NOT NULL,
    digest TEXT NOT NULL, bad_lines INTEGER NOT NULL, timestamp INTEGER, updated_at INTEGER NOT NULL
) STRICT;
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
"""

_EVENT = "identifier, event_name, customer, value, timestamp, dimensions"
_INSERT = (
    f"INSERT INTO events ({_EVENT}, destination, state, recorded_at, aggregate_window)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (identifier) DO NOTHING"
)
_COUNT = (
    "INSERT INTO counters VALUES (?, ?, ?)"
    " ON CONFLICT (destination, state) DO UPDATE SET events = events + excluded.events"
)
_OPEN_EVENTS = "SELECT coalesce(sum(events), 0) FROM counters WHERE state IN ('pending', 'aggregating')"

_SPOOLS: weakref.WeakSet[Spool] = weakref.WeakSet()


def _is_busy(problem: sqlite3.Error) -> bool:
    """Whether another process is in the way, and may be gone in a moment."""
    name = getattr(problem, "sqlite_errorname", "") or ""
    return name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_PROTOCOL"))


class _Connection(sqlite3.Connection):
    """Closed when it is forgotten. Python 3.13 and later warn of one that nobody closed, and a cycle that holds it and
    its spool is taken apart in any order: only the connection itself can be in time."""

    def __del__(self) -> None:
        try:
            self.close()
        except sqlite3.ProgrammingError:
            pass  # it never opened


class Spool:
    """One spool file. Every method is one transaction; threads share the object, processes share the file."""

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        max_pending: int = 1_000_000,
        durable: bool = False,
        patience: float = 10.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if max_pending < 1:
            raise ValueError("max_pending must be at least 1")
        given = os.fspath(path) if path is not None else os.environ.get(PATH_VARIABLE) or DEFAULT_PATH
        # absolute now: a service that changes its working directory keeps its spool
        self.path = os.path.abspath(given)
        self.max_pending = max_pending
        self.durable = durable
        self.patience = patience
        self.clock = clock
        self._lock = threading.RLock()
        self._connection: sqlite3.Connection | None = None
        _SPOOLS.add(self)

    # -- the connection ------------------------------------------------------------------------------------------

    def _open(self) -> sqlite3.Connection:
        directory = os.path.dirname(self.path)
        try:
            fresh = not os.path.exists(self.path)
            if not os.path.isdir(directory):
                os.makedirs(directory, exist_ok=True)
                if os.path.basename(directory) == os.path.dirname(DEFAULT_PATH):
                    with open(os.path.join(directory, ".gitignore"), "w") as ignore:
                        ignore.write("*\n")  # usage data never belongs in a repository
            connection = sqlite3.connect(
                self.path,
                timeout=self.patience,
                isolation_level=None,
                check_same_thread=False,
                cached_statements=64,
                factory=_Connection,
            )
            if fresh:
                # usage figures and customer ids are nobody else's business
                os.chmod(self.path, 0o600)
        except (OSError, sqlite3.Error) as problem:
            raise SpoolError(
                f"the spool {self.path} cannot be opened: {problem}; set {PATH_VARIABLE} to another file"
            ) from None
        deadline = time.monotonic() + self.patience
        try:
            while True:
                try:
                    self._set_up(connection)
                    break
                except sqlite3.OperationalError as problem:
                    # SQLite does not wait, whatever its timeout, where several processes make one new file at once.
                    if not _is_busy(problem) or time.monotonic() > deadline:
                        raise
                    time.sleep(0.002)
        except BaseException:
            connection.close()
            raise
        self._connection = connection
        return connection

    def _set_up(self, connection: sqlite3.Connection) -> None:
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version != VERSION:
            # half the usual page: a commit writes and checksums whole pages, and ours touches four
            connection.execute("PRAGMA page_size = 2048")
            self._prepare(connection)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = " + ("FULL" if self.durable else "NORMAL"))

    def _prepare(self, connection: sqlite3.Connection) -> None:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("BEGIN IMMEDIATE")
        try:
            version = connection.execute("PRAGMA user_version").fetchone()[0]  # another process may have been first
            if version == 0:
                if connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]:
                    raise SpoolDamaged(f"{self.path} is a SQLite file of something else, not a spool")
                for statement in _SCHEMA.split(";\n"):
                    if statement.strip():
                        connection.execute(statement)
                connection.execute("INSERT INTO meta VALUES ('spool_id', ?)", (os.urandom(8).hex(),))
                connection.execute(f"PRAGMA user_version = {VERSION}")
            elif version != VERSION:
                raise SpoolError(f"the spool {self.path} was written by another version of this module ({version})")
            connection.execute("COMMIT")
        except BaseException:
            connection.execute("ROLLBACK")
            raise

    def close(self) -> None:
        """Close the file. The spool opens it again when it is used again."""
        with self._lock:
            connection, self._connection = self._connection, None
            if connection is not None:
                connection.close()

    @contextmanager
    def _use(self) -> Iterator[sqlite3.Connection]:
        """The open connection, with SQLite's errors turned into sentences."""
        with self._lock:
            try:
                yield self._connection or self._open()
            except sqlite3.Error as problem:
                raise self._explained(problem) from None

    @contextmanager
    def _transaction(self, *, synced: bool = False) -> Iterator[sqlite3.Connection]:
        with self._use() as connection:
            if synced and not self.durable:
                connection.execute("PRAGMA synchronous = FULL")
            try:
                connection.execute("BEGIN IMMEDIATE")
                try:
                    yield connection
                    connection.execute("COMMIT")
                except BaseException:
                    if connection.in_transaction:
                        connection.execute("ROLLBACK")
                    raise
            finally:
                if synced and not self.durable:
                    connection.execute("PRAGMA synchronous = NORMAL")

    def _explained(self, problem: sqlite3.Error) -> SpoolError:
        name = getattr(problem, "sqlite_errorname", "") or ""
        if _is_busy(problem):
            return SpoolLocked(
                f"the spool {self.path} has been locked by another process for {self.patience:g} s; nothing was changed"
            )
        if name.startswith("SQLITE_FULL"):
            return SpoolError(f"no space left for the spool {self.path}: free some disk; what was recorded is kept")
        if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
            self.close()
            return SpoolDamaged(
                f"the spool {self.path} is damaged ({problem}); move it aside to go on recording, "
                f"then `usage recover FILE` takes what is readable out of it"
            )
        return SpoolError(f"the spool {self.path} cannot be used: {problem}")

    # -- recording -----------------------------------------------------------------------------------------------

    def add(
        self,
        events: Sequence[Event],
        destination: str,
        *,
        aggregate_window: str | None = None,
        compare_timestamp: bool = True,
        import_state: tuple[str, ImportState] | None = None,
    ) -> int:
        """Record events in one commit; returns how many are new.

        An event whose identifier is already here with the same content is the same event, and counts as not new.
        With other content it raises IdentifierConflict, and nothing of this call is recorded. `destination` is a mode
        or "" (not known yet). `import_state` is stored in the same commit, which is what makes imports resumable.
        Raises SpoolFull beyond `max_pending`.
        """
        state = "aggregating" if aggregate_window else "pending"
        now = int(self.clock())
        tail = (destination, state, now, aggregate_window)
        with self._transaction() as connection:
            room = self.max_pending - connection.execute(_OPEN_EVENTS).fetchone()[0]
            if len(events) == 1:
                event = events[0]
                new = connection.execute(_INSERT, (*event, *tail)).rowcount
            elif events:
                new = connection.executemany(_INSERT, [(*event, *tail) for event in events]).rowcount
            else:
                new = 0
            if new > room:
                raise SpoolFull(
                    f"the spool {self.path} holds {self.max_pending - room} undelivered events and may hold "
                    f"{self.max_pending}; nothing was recorded: deliver with `usage flush`, or raise max_pending"
                )
            if new < len(events):
                self._check_repeats(connection, events, compare_timestamp)
            if new:
                connection.execute(_COUNT, (destination, state, new))
            if import_state is not None:
                name, reached = import_state
                connection.execute(
                    "INSERT INTO imports VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (import_id) DO UPDATE SET"
                    " path = excluded.path, offset = excluded.offset, line = excluded.line, digest = excluded.digest,"
                    " bad_lines = excluded.bad_lines, timestamp = excluded.timestamp, updated_at = excluded.updated_at",
                    (name, *reached, now),
                )
        return int(new)

    def _check_repeats(self, connection: sqlite3.Connection, events: Sequence[Event], compare_timestamp: bool) -> None:
        for event in events:
            row = connection.execute(
                f"SELECT {_EVENT} FROM events WHERE identifier = ?", (event.identifier,)
            ).fetchone()
            kept = Event(*row)
            if not compare_timestamp:
                kept = kept._replace(timestamp=event.timestamp)
            if kept != event:
                field = next(name for name, a, b in zip(Event._fields, kept, event, strict=True) if a != b)
                raise IdentifierConflict(
                    "identifier",
                    f"{event.identifier!r} is already recorded with another {field} "
                    f"({getattr(kept, field)!r}, now {getattr(event, field)!r}); a new event needs a new one",
                )

    def import_state(self, import_id: str) -> ImportState | None:
        """How far the import of that name got, or None."""
        with self._use() as connection:
            row = connection.execute(
                "SELECT path, offset, line, digest, bad_lines, timestamp FROM imports WHERE import_id = ?", (import_id,)
            ).fetchone()
        return ImportState(*row) if row else None

    # -- sending -------------------------------------------------------------------------------------------------

    def claim(
        self, destination: str, limit: int, *, after: int = 0, identifiers: Sequence[str] | None = None
    ) -> list[Claimed]:
        """Take up to `limit` events for `destination`, in the order of recording, with ids above `after`.

        Before anything is sent, each is marked as possibly sent, on disk (fsynced): a crash between here and the answer
        leaves an event that is resent with its identifier inside Stripe's uniqueness window, and that is set aside as
        `unknown` after it. Only one deliverer may claim at a time (DeliveryLock).
        """
        now = int(self.clock())
        too_late = now - UNIQUENESS_SECONDS + RESEND_MARGIN
        with self._transaction(synced=True) as connection:
            columns = f"SELECT id, unknown_since, destination, {_EVENT} FROM events"
            if identifiers is None:
                rows = connection.execute(
                    columns + " INDEXED BY events_pending WHERE state = 'pending' AND id > ? AND destination IN ('', ?)"
                    " ORDER BY id LIMIT ?",
                    (after, destination, limit),
                ).fetchall()
            else:
                marks = ",".join("?" * len(identifiers))
                rows = connection.execute(
                    columns
                    + f" WHERE state = 'pending' AND id > ? AND destination IN ('', ?) AND identifier IN ({marks})"
                    " ORDER BY id LIMIT ?",
                    (after, destination, *identifiers, limit),
                ).fetchall()
            expired = [row[0] for row in rows if row[1] is not None and row[1] < too_late]
            if expired:
                connection.executemany("UPDATE events SET state = 'unknown' WHERE id = ?", [(id_,) for id_ in expired])
                self._moved(connection, destination, "pending", "unknown", len(expired))
            connection.executemany(
                "UPDATE events SET unknown_since = ? WHERE id = ?", [(now, row[0]) for row in rows if row[1] is None]
            )
            unbound = [(destination, row[0]) for row in rows if row[2] == ""]
            if unbound:
                connection.executemany("UPDATE events SET destination = ? WHERE id = ?", unbound)
                connection.execute(_COUNT, ("", "pending", -len(unbound)))
                connection.execute(_COUNT, (destination, "pending", len(unbound)))
            gone = set(expired)
            return [Claimed(row[0], Event(*row[3:]), row[1]) for row in rows if row[0] not in gone]

    def _moved(self, connection: sqlite3.Connection, destination: str, before: str, after: str, count: int) -> None:
        if count:
            connection.execute(_COUNT, (destination, before, -count))
            connection.execute(_COUNT, (destination, after, count))

    def settle(
        self,
        destination: str,
        *,
        delivered: Sequence[int] = (),
        refused: Sequence[tuple[int, Refusal, bool]] = (),
        released: Sequence[int] = (),
        state: str = "delivered",
    ) -> None:
        """Write down what became of claimed events (row ids), in one commit.

        `released` events certainly did not reach Stripe: their fate is known again and they stay pending. `state` is
        "delivered", or "queued" when they were handed to an outbox queue. The last member of a refusal says whether it
        is certain that no earlier attempt was carried out; if not, a retry after 24 hours needs `verify` first.
        """
        now = int(self.clock())
        with self._transaction() as connection:
            if delivered:
                done = connection.executemany(
                    "UPDATE events SET state = ?, settled_at = ?, unknown_since = NULL"
                    " WHERE id = ? AND state = 'pending'",
                    [(state, now, id_) for id_ in delivered],
                ).rowcount
                self._moved(connection, destination, "pending", state, done)
            for id_, refusal, certain in refused:
                done = connection.execute(
                    "UPDATE events SET state = 'dead', settled_at = ?,"
                    " unknown_since = CASE WHEN ? THEN NULL ELSE unknown_since END WHERE id = ? AND state = 'pending'",
                    (now, certain, id_),
                ).rowcount
                if done:
                    self._bury(connection, id_, refusal, now, reported=False)
                    self._moved(connection, destination, "pending", "dead", 1)
            if released:
                connection.executemany(
                    "UPDATE events SET unknown_since = NULL WHERE id = ? AND state = 'pending'",
                    [(id_,) for id_ in released],
                )

    def _bury(self, connection: sqlite3.Connection, id_: int, why: Refusal, now: int, *, reported: bool) -> None:
        connection.execute(
            "INSERT OR REPLACE INTO dead_letters VALUES (?, ?, ?, ?, ?, ?, ?)",
            (id_, why.code, why.message, why.status, why.request_id, now, int(reported)),
        )

    # -- aggregation ---------------------------------------------------------------------------------------------

    def closed_buckets(self, destination: str, grace: int) -> list[str]:
        """Event names that have events waiting in buckets that are closed: ended more than `grace` seconds ago."""
        before = int(self.clock()) - grace
        if not any(states.get("aggregating") for states in self.counts().values()):
            return []
        with self._use() as connection:
            rows = connection.execute(
                "SELECT DISTINCT event_name FROM events WHERE state = 'aggregating' AND destination IN ('', ?)"
                " AND timestamp - timestamp % (CASE aggregate_window WHEN 'hour' THEN 3600 ELSE 86400 END)"
                " + (CASE aggregate_window WHEN 'hour' THEN 3600 ELSE 86400 END) <= ?",
                (destination, before),
            ).fetchall()
        return [row[0] for row in rows]

    def fold(self, event_name: str, destination: str, grace: int, *, limit: int = 500) -> int:
        """Replace the events of up to `limit` closed buckets by one event each; returns how many buckets were folded.

        One bucket is one event name, customer, set of dimensions and UTC hour or day. The identifier comes from the
        bucket, this spool and a running part, so that late events make another part and never a changed event. The time
        is that of the bucket's latest event, which lies in the bucket and never in the future.
        """
        now = int(self.clock())
        spool_id = self.spool_id()
        with self._transaction() as connection:
            groups = connection.execute(
                "SELECT customer, dimensions, aggregate_window, destination,"
                " timestamp - timestamp % (CASE aggregate_window WHEN 'hour' THEN 3600 ELSE 86400 END) AS bucket,"
                " sum(value), max(timestamp), count(*)"
                " FROM events WHERE state = 'aggregating' AND event_name = ? AND destination IN ('', ?)"
                " AND timestamp - timestamp % (CASE aggregate_window WHEN 'hour' THEN 3600 ELSE 86400 END)"
                " + (CASE aggregate_window WHEN 'hour' THEN 3600 ELSE 86400 END) <= ?"
                " GROUP BY customer, dimensions, aggregate_window, destination, bucket LIMIT ?",
                (event_name, destination, now - grace, limit),
            ).fetchall()
            for customer, dimensions, window, bound, bucket, total, latest, count in groups:
                members = (
                    " WHERE state = 'aggregating' AND event_name = ? AND customer = ? AND dimensions IS ?"
                    " AND aggregate_window = ? AND destination = ? AND timestamp >= ? AND timestamp < ?"
                )
                length = 3600 if window == "hour" else 86_400
                where = (event_name, customer, dimensions, window, bound, bucket, bucket + length)
                if not -(10**15) < total < 10**15:
                    # the sum has more digits than Stripe takes: these go out one by one
                    connection.execute("UPDATE events SET state = 'pending'" + members, where)
                    self._moved(connection, bound, "aggregating", "pending", count)
                    continue
                part, identifier = 0, ""
                while (
                    not identifier
                    or connection.execute("SELECT 1 FROM events WHERE identifier = ?", (identifier,)).fetchone()
                ):
                    parts = (spool_id, event_name, customer, dimensions or "", window, str(bucket), str(part))
                    identifier = derived_identifier("bucket", *parts)
                    part += 1
                sum_event = Event(identifier, event_name, customer, total, latest, dimensions)
                connection.execute(_INSERT, (*sum_event, bound, "pending", now, None))
                connection.execute(_COUNT, (bound, "pending", 1))
                connection.execute(
                    "UPDATE events SET state = 'aggregated', settled_at = ?, became = ?" + members,
                    (now, identifier, *where),
                )
                self._moved(connection, bound, "aggregating", "aggregated", count)
        return len(groups)

    def unfold(self, event_name: str) -> int:
        """Send the waiting events of `event_name` one by one after all; returns how many."""
        with self._transaction() as connection:
            rows = connection.execute(
                "SELECT destination, count(*) FROM events WHERE state = 'aggregating' AND event_name = ? GROUP BY 1",
                (event_name,),
            ).fetchall()
            connection.execute(
                "UPDATE events SET state = 'pending' WHERE state = 'aggregating' AND event_name = ?", (event_name,)
            )
            for destination, count in rows:
                self._moved(connection, destination, "aggregating", "pending", count)
        return sum(count for _, count in rows)

    # -- reading -------------------------------------------------------------------------------------------------

    def spool_id(self) -> str:
        """A random name that this spool got when it was made."""
        with self._use() as connection:
            return str(connection.execute("SELECT value FROM meta WHERE key = 'spool_id'").fetchone()[0])

    def counts(self) -> dict[str, dict[str, int]]:
        """Number of events by destination ("" is not known yet) and state."""
        with self._use() as connection:
            rows = connection.execute("SELECT destination, state, events FROM counters WHERE events <> 0").fetchall()
        table: dict[str, dict[str, int]] = {}
        for destination, state, count in rows:
            table.setdefault(destination, {})[state] = count
        return table

    def oldest_pending(self) -> int | None:
        """When the oldest undelivered event was recorded (UTC seconds), or None."""
        with self._use() as connection:
            row = connection.execute(
                "SELECT recorded_at FROM events WHERE state = 'pending' ORDER BY id LIMIT 1"
            ).fetchone()
        return int(row[0]) if row else None

    def find(self, identifier: str) -> Kept | None:
        """What the spool knows of the event with that identifier, or None."""
        with self._use() as connection:
            row = connection.execute(
                f"SELECT id, destination, state, recorded_at, unknown_since, settled_at, {_EVENT}"
                " FROM events WHERE identifier = ?",
                (identifier,),
            ).fetchone()
        return Kept(row[0], Event(*row[6:]), *row[1:6]) if row else None

    def with_states(self, states: Sequence[str], destination: str | None = None) -> list[Kept]:
        """The events in those states (meant for the few that are unknown or dead), in the order of recording."""
        marks = ",".join("?" * len(states))
        with self._use() as connection:
            rows = connection.execute(
                f"SELECT id, destination, state, recorded_at, unknown_since, settled_at, {_EVENT}"
                f" FROM events WHERE state IN ({marks}) AND (? IS NULL OR destination = ?) ORDER BY id",
                (*states, destination, destination),
            ).fetchall()
        return [Kept(row[0], Event(*row[6:]), *row[1:6]) for row in rows]

    def dead_letters(self, limit: int = -1) -> list[DeadLetter]:
        """Events refused for good, newest refusal first; all of them, or the newest `limit`."""
        with self._use() as connection:
            rows = connection.execute(
                "SELECT destination, code, message, status, request_id, refused_at, reported,"
                " identifier, event_name, customer, value, timestamp, dimensions"
                " FROM dead_letters JOIN events USING (id) WHERE state = 'dead'"
                " ORDER BY refused_at DESC, id DESC LIMIT ?",
                (limit,),
            ).fetchall()
        return [
            DeadLetter(Event(*row[7:]), row[0], row[1], row[2], row[3], row[4], row[5], bool(row[6])) for row in rows
        ]

    def dead_letter_codes(self) -> dict[str, int]:
        """Number of dead letters by code."""
        with self._use() as connection:
            rows = connection.execute(
                "SELECT code, count(*) FROM dead_letters JOIN events USING (id) WHERE state = 'dead'"
                " GROUP BY code ORDER BY 2 DESC"
            ).fetchall()
        return dict(rows)

    def totals(
        self, destination: str, start: int, end: int, *, event_name: str | None = None, customers: Sequence[str] = ()
    ) -> list[tuple[str, str, int, str, int, int, int, int]]:
        """What was sent, by hour: (event_name, customer, hour start, state, sum, count, last timestamp, last value).

        States are `delivered` and `unknown`; `start` and `end` are UTC seconds.
        """
        query = (
            "SELECT event_name, customer, timestamp - timestamp % 3600 AS hour, state, sum(value), count(*),"
            " max(timestamp), value FROM events WHERE state IN ('delivered', 'unknown') AND destination = ?"
            " AND timestamp >= ? AND timestamp < ?"
        )
        values: list[object] = [destination, start, end]
        if event_name is not None:
            query += " AND event_name = ?"
            values.append(event_name)
        if customers:
            query += f" AND customer IN ({','.join('?' * len(customers))})"
            values += customers
        with self._use() as connection:
            return connection.execute(query + " GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4", values).fetchall()

    # -- settling by hand ----------------------------------------------------------------------------------------

    def adopt(
        self,
        events: Sequence[Event],
        destination: str,
        state: str,
        unknown_since: int | None,
        refusal: Refusal | None = None,
    ) -> int:
        """Take events of another spool (a drain's queue) in, as `unknown` or `dead`; returns how many are new."""
        now = int(self.clock())
        new = 0
        with self._transaction() as connection:
            for event in events:
                cursor = connection.execute(_INSERT, (*event, destination, state, now, None))
                if not cursor.rowcount:
                    continue
                new += 1
                id_ = cursor.lastrowid
                assert id_ is not None
                connection.execute(
                    "UPDATE events SET unknown_since = ?, settled_at = ? WHERE id = ?",
                    (unknown_since, now if refusal else None, id_),
                )
                if refusal is not None:
                    self._bury(connection, id_, refusal, now, reported=False)
            if new:
                connection.execute(_COUNT, (destination, state, new))
        return new

    def move(self, ids: Sequence[int], before: str, after: str) -> int:
        """Move events (row ids) from one state to another; returns how many were in the first."""
        now = int(self.clock())
        moved = 0
        with self._transaction() as connection:
            for id_ in ids:
                row = connection.execute(
                    "SELECT destination FROM events WHERE id = ? AND state = ?", (id_, before)
                ).fetchone()
                if row is None:
                    continue
                connection.execute(
                    "UPDATE events SET state = ?, settled_at = ?, unknown_since = NULL WHERE id = ?",
                    (after, None if after == "pending" else now, id_),
                )
                self._moved(connection, row[0], before, after, 1)
                if before == "dead":
                    connection.execute("DELETE FROM dead_letters WHERE id = ?", (id_,))
                moved += 1
        return moved

    def retry(self, *, codes: Sequence[str] = (), identifiers: Sequence[str] = ()) -> list[str]:
        """Put dead letters back among the pending; returns the identifiers they go out under.

        An event that was refused at once goes out under its own identifier: Stripe never took it. One that Stripe took
        and rejected later gets a new identifier, since the old one may count as used there.
        """
        now = int(self.clock())
        wanted: list[str] = []
        with self._transaction() as connection:
            rows = connection.execute(
                f"SELECT id, code, reported, destination, {_EVENT} FROM dead_letters JOIN events USING (id)"
                " WHERE state = 'dead' ORDER BY id"
            ).fetchall()
            for id_, code, reported, destination, *fields in rows:
                event = Event(*fields)
                if (codes and code not in codes) or (identifiers and event.identifier not in identifiers):
                    continue
                connection.execute("DELETE FROM dead_letters WHERE id = ?", (id_,))
                if reported:
                    again = event._replace(identifier=derived_identifier("retry", event.identifier))
                    connection.execute(_INSERT, (*again, destination, "pending", now, None))
                    connection.execute(
                        "UPDATE events SET state = 'replaced', became = ? WHERE id = ?", (again.identifier, id_)
                    )
                    connection.execute(_COUNT, (destination, "dead", -1))
                    connection.execute(_COUNT, (destination, "replaced", 1))
                    connection.execute(_COUNT, (destination, "pending", 1))
                    wanted.append(again.identifier)
                else:
                    connection.execute("UPDATE events SET state = 'pending', settled_at = NULL WHERE id = ?", (id_,))
                    self._moved(connection, destination, "dead", "pending", 1)
                    wanted.append(event.identifier)
        return wanted

    def report(
        self, report_id: str, kind: str, created: str | None, meter: str | None, summary: str | None, count: int,
        body: str, samples: Sequence[tuple[str, Refusal]],
    ) -> tuple[int, list[str]]:  # fmt: skip
        """Keep one asynchronous error report and bury the events it names: (events matched, identifiers unknown here).

        A report that was already taken changes nothing.
        """
        now = int(self.clock())
        matched, strangers = 0, []
        with self._transaction() as connection:
            new = connection.execute(
                "INSERT OR IGNORE INTO error_reports VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (report_id, kind, created, meter, summary, count, now, body),
            ).rowcount
            if not new:
                return 0, []
            for identifier, refusal in samples:
                row = connection.execute(
                    "SELECT id, destination, state FROM events WHERE identifier = ?", (identifier,)
                ).fetchone()
                if row is None:
                    strangers.append(identifier)
                    continue
                id_, destination, state = row
                if state in ("delivered", "unknown", "pending", "queued"):
                    connection.execute(
                        "UPDATE events SET state = 'dead', settled_at = ?, unknown_since = NULL WHERE id = ?",
                        (now, id_),
                    )
                    self._bury(connection, id_, refusal, now, reported=True)
                    self._moved(connection, destination, state, "dead", 1)
                    matched += 1
        return matched, strangers

    def last_report(self) -> str | None:
        """When the newest error report in the spool was created (as Stripe wrote it), or None."""
        with self._use() as connection:
            row = connection.execute("SELECT max(created) FROM error_reports").fetchone()
        return str(row[0]) if row and row[0] else None

    def prune(self, limit: int = 10_000) -> int:
        """Forget up to `limit` settled events older than KEEP_SECONDS; returns how many.

        Ids grow with time, so only the oldest rows are looked at.
        """
        before = int(self.clock()) - KEEP_SECONDS
        removed = 0
        with self._use() as connection:
            oldest = connection.execute("SELECT recorded_at FROM events ORDER BY id LIMIT 1").fetchone()
        if oldest is None or oldest[0] >= before:
            return 0
        with self._transaction() as connection:
            rows = connection.execute(
                "SELECT id, destination, state, settled_at FROM events ORDER BY id LIMIT ?", (limit,)
            ).fetchall()
            for id_, destination, state, settled_at in rows:
                old = settled_at is not None and settled_at < before
                if old and state in ("delivered", "queued", "aggregated", "cancelled", "replaced"):
                    connection.execute("DELETE FROM events WHERE id = ?", (id_,))
                    connection.execute(_COUNT, (destination, state, -1))
                    removed += 1
        return removed

    def recover_from(self, damaged: str) -> tuple[int, int]:
        """Copy every readable event out of a damaged spool file into this one: (copied, unreadable places).

        Events keep identifier, state and destination, so what was delivered is not sent again.
        """
        try:
            source = sqlite3.connect(f"file:{os.path.abspath(damaged)}?mode=ro", uri=True, isolation_level=None)
            highest = source.execute("SELECT max(id) FROM events").fetchone()[0] or 0
        except sqlite3.Error as problem:
            raise SpoolDamaged(f"nothing in {damaged} is readable ({problem})") from None
        columns = f"{_EVENT}, destination, state, recorded_at, unknown_since, settled_at, aggregate_window, became"
        copied = unreadable = 0
        try:
            for first, last in _halves(1, highest):
                try:
                    rows = source.execute(
                        f"SELECT {columns} FROM events NOT INDEXED WHERE id BETWEEN ? AND ?", (first, last)
                    ).fetchall()
                except sqlite3.Error:
                    unreadable += 1
                    continue
                copied += self._adopt(columns, rows)
        finally:
            source.close()
        return copied, unreadable

    def _adopt(self, columns: str, rows: Iterable[Sequence[object]]) -> int:
        copied = 0
        with self._transaction() as connection:
            for row in rows:
                # a dead letter's reason may be lost: it goes back to the pending, where the reason shows again
                state = "pending" if row[7] == "dead" else row[7]
                new = connection.execute(
                    f"INSERT INTO events ({columns}) VALUES ({','.join('?' * 13)}) ON CONFLICT (identifier) DO NOTHING",
                    (*row[:7], state, *row[8:]),
                ).rowcount
                if new:
                    connection.execute(_COUNT, (row[6], state, 1))
                    copied += 1
        return copied


def _halves(first: int, last: int, step: int = 50) -> Iterator[tuple[int, int]]:
    """Ranges of `step` ids, small enough that a damaged page costs few events."""
    while first <= last:
        yield first, min(first + step - 1, last)
        first += step


class DeliveryLock:
    """Held by the one process and thread that delivers from a spool; the kernel frees it when the process dies.

    A second deliverer would be harmless for billing (identifiers), but would break the rule of one call in flight for
    each customer and meter.
    """

    def __init__(self, spool_path: str) -> None:
        self.path = spool_path + ".deliver"
        self._file: int | None = None

    def acquire(self, patience: float) -> bool:
        """Try for up to `patience` seconds; True when held."""
        deadline = time.monotonic() + patience
        while True:
            try:
                handle = os.open(self.path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600)
            except OSError as problem:
                raise SpoolError(f"the lock file {self.path} cannot be opened: {problem}") from None
            if _lock_file(handle):
                self._file = handle
                _LOCKS.add(self)
                return True
            os.close(handle)
            if time.monotonic() >= deadline:
                return False
            time.sleep(min(0.02, max(0.001, deadline - time.monotonic())))

    def release(self) -> None:
        """Let the next deliverer in."""
        handle, self._file = self._file, None
        _LOCKS.discard(self)
        if handle is not None:
            os.close(handle)


_LOCKS: set[DeliveryLock] = set()


def _lock_file(handle: int) -> bool:
    try:
        import fcntl
    except ImportError:  # Windows: the same promise from its own lock
        import msvcrt

        try:
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
        except OSError:
            return False
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


_FROZEN: list[Spool] = []


def _before_fork() -> None:
    """Close every spool, with its lock held, so that a child inherits neither SQLite's state nor a half transaction."""
    for spool in list(_SPOOLS):
        spool._lock.acquire()
        _FROZEN.append(spool)
        connection, spool._connection = spool._connection, None
        if connection is not None:
            connection.close()


def _after_fork_in_parent() -> None:
    while _FROZEN:
        _FROZEN.pop()._lock.release()


def _after_fork_in_child() -> None:
    for spool in _FROZEN:
        spool._lock = threading.RLock()
    _FROZEN.clear()
    # the parent still holds its delivery lock through its own descriptor; ours only has to go
    for lock in list(_LOCKS):
        lock.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)


def describe_age(seconds: float) -> str:
    """A length of time in words: 45 s, 12 min, 3 h, 2 days."""
    for size, unit in ((172_800, "days"), (7200, "h"), (120, "min")):
        if seconds >= size:
            return f"{int(seconds // {'days': 86_400, 'h': 3600, 'min': 60}[unit])} {unit}"
    return f"{int(seconds)} s"


__all__ = [
    "Claimed", "DeadLetter", "DeliveryLock", "ImportState", "Kept", "Refusal", "Spool", "describe_age", "iso",
]  # fmt: skip
