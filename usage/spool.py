"""The write-ahead spool: one SQLite file that keeps every event from before it is sent until long after.

Why SQLite: a commit survives SIGKILL at any instruction, several processes can record at once, and it needs no server.
The file is opened lazily, closed before a fork and reopened on each side, because a child must not inherit SQLite's
file locks.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
import stat
import threading
import time
import weakref
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, NamedTuple

from .errors import IdentifierConflict, SpoolError, SpoolMissing
from .events import Event, digest_of, iso

PATH_VARIABLE = "STRIPE_USAGE_SPOOL"
VERSION = 3
PATIENCE = 10.0
"""Seconds to wait for a file that another process has locked."""
UNIQUENESS_SECONDS = 24 * 3600
"""Stripe holds identifiers unique for "at least 24 hours"; after that a resend could bill twice."""
RESEND_MARGIN = 900
"""Resending stops this much earlier, so no slow attempt ends outside the window."""
KEEP_SECONDS = 40 * 86_400
"""Settled events are kept longer than Stripe accepts their timestamps (35 days), so a repeat is still recognised."""
SETTLED = ("delivered", "queued", "cancelled", "replaced")
"""States that are final. The others: pending; of unknown fate for too long; dead (refused); cancelling."""


class Kept(NamedTuple):
    """What the spool knows about one event: its fields and its outcome. Times are UTC seconds."""

    identifier: str
    event_name: str
    customer: str
    value: str
    timestamp: int
    dimensions: str | None
    id: int
    destination: str
    state: str
    recorded_at: int
    unknown_since: int | None = None  # when an unanswered attempt may have reached Stripe
    settled_at: int | None = None
    code: str = ""  # why it was refused; "duplicate" if Stripe already had the event
    message: str = ""
    status: int = 0  # the HTTP status; 0 if it was refused here
    request_id: str | None = None
    reported: bool = False  # refused later, in an asynchronous error report

    def refused(self, code: str, message: str, status: int = 0, request_id: str | None = None) -> Kept:
        """The event, refused for good."""
        return self._replace(state="dead", code=code, message=message, status=status, request_id=request_id)

    @property
    def why(self) -> str:
        """Why it was refused."""
        return f"{self.message} [{self.code}{f', request {self.request_id}' if self.request_id else ''}]"

    def __str__(self) -> str:
        where = ", SANDBOX" if self.destination.startswith("sandbox") else ""
        what = f"{self.event_name} {self.value} for {self.customer} at {iso(self.timestamp)}"
        return f"{self.identifier}\n  {what}\n  {self.why} (refused {iso(self.settled_at or 0)}{where})"


_SCHEMA = f"""
BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS events (
    identifier TEXT NOT NULL, event_name TEXT NOT NULL, customer TEXT NOT NULL, value TEXT NOT NULL,
    timestamp INTEGER NOT NULL, dimensions TEXT,
    id INTEGER PRIMARY KEY, destination TEXT NOT NULL, state TEXT NOT NULL,
    recorded_at INTEGER NOT NULL, unknown_since INTEGER, settled_at INTEGER,
    code TEXT NOT NULL DEFAULT '', message TEXT NOT NULL DEFAULT '', status INTEGER NOT NULL DEFAULT 0,
    request_id TEXT, reported INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE UNIQUE INDEX IF NOT EXISTS events_identifier ON events (identifier);
CREATE INDEX IF NOT EXISTS events_pending ON events (id) WHERE state = 'pending';
CREATE INDEX IF NOT EXISTS events_unsettled ON events (state, id) WHERE state IN ('unknown', 'dead', 'cancelling');
CREATE TABLE IF NOT EXISTS counters (
    destination TEXT NOT NULL, state TEXT NOT NULL, events INTEGER NOT NULL, PRIMARY KEY (destination, state)
) STRICT, WITHOUT ROWID;
CREATE TRIGGER IF NOT EXISTS counted AFTER INSERT ON events BEGIN
    INSERT INTO counters VALUES (NEW.destination, NEW.state, 1)
        ON CONFLICT (destination, state) DO UPDATE SET events = events + 1;
END;
CREATE TRIGGER IF NOT EXISTS moved AFTER UPDATE OF state, destination ON events
WHEN OLD.state <> NEW.state OR OLD.destination <> NEW.destination BEGIN
    UPDATE counters SET events = events - 1 WHERE destination = OLD.destination AND state = OLD.state;
    INSERT INTO counters VALUES (NEW.destination, NEW.state, 1)
        ON CONFLICT (destination, state) DO UPDATE SET events = events + 1;
END;
CREATE TRIGGER IF NOT EXISTS forgotten AFTER DELETE ON events BEGIN
    UPDATE counters SET events = events - 1 WHERE destination = OLD.destination AND state = OLD.state;
END;
CREATE TABLE IF NOT EXISTS error_reports (id TEXT PRIMARY KEY, created TEXT, received_at INTEGER NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS accounts (destination TEXT PRIMARY KEY, account TEXT NOT NULL) STRICT, WITHOUT ROWID;
PRAGMA user_version = {VERSION};
COMMIT;
"""
_EVENT = ", ".join(Event._fields)
_KEPT = ", ".join(Kept._fields)
_INSERT = (
    f"INSERT INTO events ({_EVENT}, destination, state, recorded_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
    " ON CONFLICT (identifier) DO NOTHING"
)


def default_path() -> str:
    """The user's default spool, the same from every working directory: in XDG_STATE_HOME or its usual default."""
    home = os.environ.get("XDG_STATE_HOME") or os.environ.get("LOCALAPPDATA")
    return os.path.join(home or os.path.expanduser("~/.local/state"), "stripe-usage", "spool.db")


class _Connection(sqlite3.Connection):
    """A connection that closes itself when it is collected. Python 3.13 and later warn about an unclosed one, and a
    cycle with its spool is collected in any order: only the connection itself can close in time."""

    def __del__(self) -> None:
        with contextlib.suppress(sqlite3.ProgrammingError):  # it never opened
            self.close()


class Spool:
    """One spool file. Every method is one transaction; threads share the object, processes share the file.

    create: whether the file may be created; if not, a missing file raises SpoolMissing. durable: fsync every record.
    on_lost: called with a sentence if the file was deleted or replaced while this process had it open.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        durable: bool = False,
        create: bool = True,
        clock: Callable[[], float] = time.time,
        on_lost: Callable[[str], object] = bool,
    ) -> None:
        # made absolute now: a service that changes its working directory keeps its spool
        self.path = os.path.abspath(path if path is not None else os.environ.get(PATH_VARIABLE) or default_path())
        self.clock = clock
        self._create = create
        self._on_lost = on_lost
        self._sync = "FULL" if durable else "NORMAL"
        self._lock = threading.RLock()
        self._connection: sqlite3.Connection | None = None
        self._file: tuple[int, int] | None = None
        self._gone = False
        self._pruned_to = 0
        with _FORKING:  # a fork that misses a spool would leave the child an open file without its locks
            _SPOOLS.add(self)

    # -- the file -----------------------------------------------------------------------------------------------------

    def _open(self) -> sqlite3.Connection:
        try:
            if not os.path.exists(self.path):
                if self._gone or not self._create:
                    why = "it was deleted" if self._gone else "nothing was recorded there (--spool names another)"
                    raise SpoolMissing(f"there is no spool at {self.path}: {why}")
                os.makedirs(os.path.dirname(self.path), mode=0o700, exist_ok=True)
                # Usage figures and customer ids are private. Created exclusively: closing a file that another spool of
                # this process has open would drop SQLite's locks on it.
                with contextlib.suppress(FileExistsError):
                    os.close(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
            elif not stat.S_ISREG(os.stat(self.path).st_mode):
                raise SpoolError(f"the spool {self.path} is not a file; set {PATH_VARIABLE} to one")
            connection = sqlite3.connect(
                self.path, timeout=PATIENCE, isolation_level=None, check_same_thread=False, factory=_Connection
            )
        except (OSError, sqlite3.Error) as problem:
            advice = f"set {PATH_VARIABLE} to another file"
            raise SpoolError(f"the spool {self.path} cannot be opened: {problem}; {advice}") from None
        deadline = time.monotonic() + PATIENCE
        while self._connection is None:
            try:
                self._prepare(connection)
                self._connection, self._file = connection, self._identity()
            except BaseException as problem:
                # SQLite does not wait, whatever its timeout, when several processes create one file at once
                if not _is_busy(problem) or time.monotonic() > deadline:
                    connection.close()
                    raise
                time.sleep(0.002)
        return connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        look = "SELECT user_version, (SELECT count(*) FROM sqlite_schema) FROM pragma_user_version"
        version, tables = connection.execute(look).fetchone()
        if version == 0 and tables:
            raise SpoolError(f"{self.path} is another SQLite file, not a spool")
        if version not in (0, VERSION):
            raise SpoolError(
                f"the spool {self.path} was written by another version of this module ({version}, not {VERSION}): "
                f"deliver its events with that version's `usage flush`, then move it aside"
            )
        if version == 0:
            # half the usual page size: a commit writes and checksums whole pages, and ours touches four
            connection.execute("PRAGMA page_size = 2048")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"PRAGMA synchronous = {self._sync}")
        if version == 0:
            connection.executescript(_SCHEMA)

    def close(self) -> None:
        """Close the file. The next use reopens it."""
        with self._lock:
            connection, self._connection = self._connection, None
            if connection is not None:
                connection.close()

    def _identity(self) -> tuple[int, int] | None:
        try:
            found = os.stat(self.path)
        except OSError:
            return None
        return found.st_dev, found.st_ino

    def _check_file(self, connection: sqlite3.Connection) -> None:
        """Close a file that was deleted or replaced, and report it: nothing more is written to it."""
        now = self._identity()
        if now == self._file:
            return
        try:
            left = connection.execute("SELECT sum(events) FROM counters WHERE state = 'pending'").fetchone()[0]
            lost = f"{left or 0:,} undelivered events were in the old one"
        except sqlite3.Error:
            lost = "the old one can no longer be read"
        self.close()
        self._gone = now is None
        happened = "was deleted" if self._gone else "was replaced"
        self._on_lost(f"the spool {self.path} {happened} while this process had it open; {lost}. Recording continues")

    @contextlib.contextmanager
    def _use(self, recording: bool = False) -> Iterator[sqlite3.Connection]:
        """The open connection, with SQLite's errors as sentences. Only a new record recreates a deleted file."""
        with self._lock:
            try:
                if self._connection is not None:
                    self._check_file(self._connection)
                self._gone = self._gone and not recording
                yield self._connection or self._open()
            except sqlite3.Error as problem:
                raise self._explained(problem) from None

    @contextlib.contextmanager
    def _transaction(self, *, synced: bool = False, recording: bool = False) -> Iterator[sqlite3.Connection]:
        with self._use(recording) as connection:
            if synced:
                connection.execute("PRAGMA synchronous = FULL")
            try:
                connection.execute("BEGIN IMMEDIATE")
                yield connection
                connection.execute("COMMIT")
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                if synced:
                    connection.execute(f"PRAGMA synchronous = {self._sync}")

    def _rows(self, query: str, *values: object) -> list[Any]:
        with self._use() as connection:
            return connection.execute(query, values).fetchall()

    def _change(self, statement: str, *values: object) -> int:
        """One statement in a transaction of its own; returns how many rows it changed."""
        with self._transaction() as connection:
            return connection.execute(statement, values).rowcount

    def _explained(self, problem: sqlite3.Error) -> SpoolError:
        name = getattr(problem, "sqlite_errorname", "") or ""
        if _is_busy(problem):
            how_long = f"for {PATIENCE:g} s; nothing was changed"
            return SpoolError(f"the spool {self.path} has been locked by another process {how_long}")
        if name.startswith("SQLITE_FULL"):
            return SpoolError(f"no space left for the spool {self.path}: free some space; recorded events are kept")
        if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
            self.close()
            return SpoolError(
                f"the spool {self.path} is damaged ({problem}); move it aside to continue recording, "
                f"and docs/usage.md says how SQLite's .recover saves the readable events"
            )
        return SpoolError(f"the spool {self.path} cannot be used: {problem}")

    # -- what happens to events ---------------------------------------------------------------------------------------

    def add(self, events: Sequence[Event], destination: str, *, timeless: bool | Collection[str] = False) -> int:
        """Record events in one commit; returns how many are new.

        An event whose identifier is already recorded with the same content is the same event, and not new. With other
        content it raises IdentifierConflict, and the call records nothing. timeless: the events (all, or these
        identifiers) without a given time, whose times are not compared. destination: `Destination.identity`, or "".
        """
        tail = (destination, "pending", int(self.clock()))
        with self._transaction(recording=True) as connection:
            new = connection.executemany(_INSERT, [(*event, *tail) for event in events]).rowcount
            for event in events if new < len(events) else ():
                query = f"SELECT {_EVENT} FROM events WHERE identifier = ?"
                kept = Event(*connection.execute(query, (event.identifier,)).fetchone())
                if timeless is True or (timeless and event.identifier in timeless):
                    kept = kept._replace(timestamp=event.timestamp)
                for field, there, given in zip(Event._fields, kept, event, strict=True):
                    if there != given:
                        raise IdentifierConflict(
                            "identifier",
                            f"{event.identifier!r} is already recorded with a different {field} "
                            f"({there!r}, now {given!r}); a new event needs a new identifier",
                        )
        return new

    def take_in(self, rows: Sequence[Kept]) -> None:
        """Keep events from a queue that were refused or are of unknown fate, unless they are already here."""
        query = f"INSERT OR IGNORE INTO events ({_KEPT}) VALUES ({_marks(Kept._fields)})"
        new: dict[str, Any] = {"id": None, "recorded_at": int(self.clock())}
        with self._transaction(synced=True, recording=True) as connection:
            for row in rows:
                settled_at = new["recorded_at"] if row.state == "dead" else None
                connection.execute(query, row._replace(settled_at=settled_at, **new))

    @contextlib.contextmanager
    def delivering(self, patience: float, given_up: Callable[[], bool] = bool) -> Iterator[bool]:
        """Try for up to `patience` seconds to become the only deliverer of the file; yields whether it worked.

        The kernel frees the lock when the process dies. A second deliverer could not bill twice (because of the
        identifiers), but would double the work.
        """
        self.counts()  # creates the file, and so the lock's folder
        deadline = time.monotonic() + patience
        while (handle := _locked(self.path + ".deliver")) is None:
            if time.monotonic() >= deadline or given_up():
                break
            time.sleep(min(0.02, max(0.001, deadline - time.monotonic())))
        try:
            yield handle is not None
        finally:
            with _FORKING:
                if handle is not None and handle in _LOCKS:
                    _LOCKS.remove(handle)
                    os.close(handle)

    def claim(
        self, destinations: Sequence[str], limit: int, *, after: int = 0, identifier: str | None = None
    ) -> list[Kept]:
        """Claim up to `limit` events for `destinations`, in the order of recording, with ids above `after`.

        Before they are sent, each is marked on disk (fsynced) as possibly sent. After a crash before the answer, the
        event is resent with its identifier within Stripe's uniqueness window; after the window it is set aside as
        `unknown`, and returned as such. A returned event's `unknown_since` is that of an earlier attempt. Only one
        deliverer may claim at a time (`delivering`).
        """
        now = int(self.clock())
        too_late = now - UNIQUENESS_SECONDS + RESEND_MARGIN
        which = "INDEXED BY events_pending WHERE id > ?" if identifier is None else "WHERE identifier = ?"
        query = f"{which} AND state = 'pending' AND destination IN ({_marks(destinations)}) ORDER BY id LIMIT ?"
        values = (after if identifier is None else identifier, *destinations, limit)
        with self._transaction(synced=True) as connection:
            rows = list(map(Kept._make, connection.execute(f"SELECT {_KEPT} FROM events {query}", values).fetchall()))
            fresh = [(now, row.id) for row in rows if row.unknown_since is None]
            connection.executemany("UPDATE events SET unknown_since = ? WHERE id = ?", fresh)
            expired = {row.id for row in rows if row.unknown_since is not None and row.unknown_since < too_late}
            connection.executemany("UPDATE events SET state = 'unknown' WHERE id = ?", [(id_,) for id_ in expired])
        return [row._replace(state="unknown") if row.id in expired else row for row in rows]

    def settle(self, rows: Sequence[Kept]) -> None:
        """Record the outcome of claimed events in one commit: their states, refusals, and since when their fate is
        unknown. An event that was possibly sent and is still pending needs no change."""
        now = int(self.clock())
        query = (
            "UPDATE events SET state = ?, unknown_since = ?, settled_at = ?, code = ?, message = ?, status = ?,"
            " request_id = ? WHERE id = ? AND state = 'pending'"
        )
        with self._transaction() as connection:
            connection.executemany(
                query,
                [
                    (row.state, row.unknown_since, None if row.state == "pending" else now, *row[12:16], row.id)
                    for row in rows
                ],
            )

    def move(self, identifier: str, before: Sequence[str], after: str, *, unsent: bool = False) -> bool:
        """Move an event from one of the states `before` to another, in one statement; False if it is in none of them.

        unsent: only if no attempt to send it is in progress, was lost or succeeded. Delivery claims in one statement
        too, so one of the two comes first and the other sees it.
        """
        settled = after in SETTLED
        query = (
            "UPDATE events SET state = ?, settled_at = iif(?, coalesce(settled_at, ?), settled_at),"
            f" unknown_since = iif(?, NULL, unknown_since) WHERE identifier = ? AND state IN ({_marks(before)})"
        )
        query += " AND unknown_since IS NULL" if unsent else ""
        return bool(self._change(query, after, settled, int(self.clock()), settled, identifier, *before))

    def retry(self, *, codes: Sequence[str] = (), identifiers: Sequence[str] = ()) -> list[str]:
        """Make dead letters pending again (all of them, or those with these codes or identifiers).

        Returns their identifiers: unchanged, or new for events that Stripe accepted and later rejected, since it may
        treat the old one as used. The next flush sends them. An event of unknown fate is sent again only if you name
        it: do that when you know that it did not arrive.
        """
        wanted: list[str] = []
        again = (
            "UPDATE events SET state = 'pending', settled_at = NULL, code = '', message = '', status = 0,"
            " request_id = NULL, unknown_since = iif(state = 'unknown', NULL, unknown_since) WHERE id = ?"
        )
        with self._transaction() as connection:
            query = f"SELECT {_KEPT} FROM events WHERE state IN ('dead', 'unknown') ORDER BY id"
            for kept in map(Kept._make, connection.execute(query).fetchall()):
                name, named = kept.identifier, kept.identifier in identifiers
                if (codes and kept.code not in codes) or ((identifiers or kept.state == "unknown") and not named):
                    continue
                if kept.reported:
                    name = f"retry-{digest_of(name)}"
                    connection.execute(_INSERT, (name, *kept[1:6], kept.destination, "pending", int(self.clock())))
                    connection.execute("UPDATE events SET state = 'replaced' WHERE id = ?", (kept.id,))
                else:
                    connection.execute(again, (kept.id,))
                wanted.append(name)
        return wanted

    def report(
        self, report_id: str, created: str | None, samples: Sequence[tuple[Sequence[str], str, str]]
    ) -> tuple[int, list[str]]:
        """Apply one asynchronous error report: the events it names become dead letters. Returns how many, and the
        identifiers that are not in this spool.

        Each sample has the possible identifiers of the event, a code and a message. A report that was already applied
        changes nothing.
        """
        matched, strangers, now = 0, [], int(self.clock())
        refuse = (
            "UPDATE events SET state = 'dead', settled_at = ?, unknown_since = NULL, code = ?, message = ?, status = 0,"
            " request_id = ?, reported = 1 WHERE id = ? AND state IN ('delivered', 'unknown', 'pending', 'queued')"
        )
        with self._transaction() as connection:
            taken = (report_id, created, now)
            new = connection.execute("INSERT OR IGNORE INTO error_reports VALUES (?, ?, ?)", taken).rowcount
            for names, code, message in samples if new else ():
                query = f"SELECT id FROM events WHERE identifier IN ({_marks(names)})"
                found = connection.execute(query, names).fetchone()
                if found is None:
                    strangers.append(names[0])
                else:
                    values = (now, code, message, report_id, found[0])
                    matched += connection.execute(refuse, values).rowcount
        return matched, strangers

    def hand_over(self, before: str, after: str) -> int:
        """Move the undelivered events of one destination to another, at the user's request; returns how many."""
        which = "destination = ? AND state = 'pending' AND unknown_since IS NULL"
        return self._change(f"UPDATE events SET destination = ? WHERE {which}", after, before)

    def prune(self, limit: int = 10_000) -> int:
        """Delete up to `limit` settled events older than KEEP_SECONDS; returns how many.

        Ids grow with time, so it checks only the oldest rows: the page after those that it has already checked, which
        may contain events that cannot be deleted yet.
        """
        before = int(self.clock()) - KEEP_SECONDS
        oldest = self._rows("SELECT recorded_at FROM events WHERE id > ? ORDER BY id LIMIT 1", self._pruned_to)
        if not oldest or oldest[0][0] >= before:
            self._pruned_to = 0  # events that could not be deleted then may be settled by now
            return 0
        page = "SELECT max(id) FROM (SELECT id FROM events WHERE id > ? ORDER BY id LIMIT ?)"
        first, self._pruned_to = self._pruned_to, self._rows(page, self._pruned_to, limit)[0][0]
        query = f"DELETE FROM events WHERE id > ? AND id <= ? AND settled_at < ? AND state IN ({_marks(SETTLED)})"
        return self._change(query, first, self._pruned_to, before, *SETTLED)

    # -- accounts -----------------------------------------------------------------------------------------------------

    def learn_account(self, destination: str, account: str) -> None:
        """Record which Stripe account a key (by its identity) belongs to."""
        self._change("INSERT OR REPLACE INTO accounts VALUES (?, ?)", destination, account)

    def same_account(self, destination: str) -> list[str]:
        """The identity itself, and those of the other known keys of the same account and mode."""
        mode = destination.partition(":")[0]
        rows = self._rows(
            "SELECT other.destination FROM accounts own JOIN accounts other USING (account) WHERE own.destination = ?",
            destination,
        )
        return [destination, *(name for (name,) in rows if name != destination and name.startswith(f"{mode}:"))]

    # -- what is there ------------------------------------------------------------------------------------------------

    def counts(self) -> dict[str, dict[str, int]]:
        """Number of events by destination ("" if unknown) and state."""
        table: dict[str, dict[str, int]] = {}
        for destination, state, count in self._rows("SELECT * FROM counters WHERE events <> 0"):
            table.setdefault(destination, {})[state] = count
        return table

    def oldest_pending(self) -> int | None:
        """When the oldest undelivered event was recorded (UTC seconds), or None."""
        rows = self._rows("SELECT recorded_at FROM events WHERE state = 'pending' ORDER BY id LIMIT 1")
        return int(rows[0][0]) if rows else None

    def find(self, identifier: str) -> Kept | None:
        """The event with that identifier, or None."""
        rows = self._rows(f"SELECT {_KEPT} FROM events WHERE identifier = ?", identifier)
        return Kept(*rows[0]) if rows else None

    def with_state(self, state: str, limit: int = -1) -> list[Kept]:
        """Events in that state, most recently settled or recorded first (for the few that are unknown or dead)."""
        query = f"SELECT {_KEPT} FROM events WHERE state = ? ORDER BY settled_at DESC, id DESC LIMIT ?"
        rows = map(Kept._make, self._rows(query, state, limit))
        return [row._replace(reported=bool(row.reported)) for row in rows]

    def totals(
        self, destinations: Sequence[str], start: int | None, end: int | None
    ) -> list[tuple[str, str, int, str, str, int, int]]:
        """Delivered and unknown events by UTC hour: (event_name, customer, hour start, state, value, number of events
        with that value, latest timestamp). start and end are UTC seconds; None is no bound."""
        return self._rows(
            "SELECT event_name, customer, timestamp - timestamp % 3600, state, value, count(*), max(timestamp)"
            f" FROM events WHERE state IN ('delivered', 'unknown') AND destination IN ({_marks(destinations)})"
            " AND timestamp >= ? AND timestamp < ? GROUP BY 1, 2, 3, 4, 5 ORDER BY 1, 2, 3",
            *destinations, -(2**60) if start is None else start, 2**60 if end is None else end,
        )  # fmt: skip

    def last_report(self) -> str | None:
        """When the newest error report in the spool was created (as Stripe wrote it), or None."""
        ((created,),) = self._rows("SELECT max(created) FROM error_reports")
        return str(created) if created else None


def _is_busy(problem: BaseException) -> bool:
    """Whether another process has a lock, which may be gone in a moment."""
    name = getattr(problem, "sqlite_errorname", "") or ""
    return name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_PROTOCOL"))


def _marks(values: Collection[object]) -> str:
    return ",".join("?" * len(values))


# -- locks and forks -------------------------------------------------------------------------------------------------

_SPOOLS: weakref.WeakSet[Spool] = weakref.WeakSet()
_LOCKS: set[int] = set()
"""Descriptors of this process's delivery locks."""
_FORKING = threading.Lock()
"""One fork at a time: each takes the locks of all spools, and two at once could deadlock."""
_FROZEN: list[Spool] = []

IMPORTING = threading.RLock()
"""Held while modules load and while SQLite counts an import's rows. A fork waits for it: a child that inherits either
half done would hang."""


def _locked(path: str) -> int | None:
    """A descriptor that holds the lock file, or None if another process does."""
    try:
        with _FORKING:  # a child must not inherit a lock that is not listed yet
            handle = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600)
            try:
                try:
                    from fcntl import LOCK_EX, LOCK_NB, flock

                    flock(handle, LOCK_EX | LOCK_NB)
                except ImportError:  # Windows: the same guarantee from its own lock
                    from msvcrt import LK_NBLCK, locking  # type: ignore[attr-defined,unused-ignore]

                    locking(handle, LK_NBLCK, 1)
            except OSError as problem:
                os.close(handle)
                if problem.errno in (errno.EAGAIN, errno.EACCES, errno.EDEADLK):
                    return None
                raise
            _LOCKS.add(handle)
            return handle
    except OSError as problem:
        raise SpoolError(
            f"the lock file {path} cannot be opened or locked ({problem.strerror}): delete it if another user made it, "
            f"or deliver as that user; keep the spool on a local disk"
        ) from None


def _before_fork() -> None:
    """Lock and close every spool, so a child inherits neither SQLite's state nor a half-done transaction."""
    _FORKING.acquire()
    IMPORTING.acquire()
    for spool in list(_SPOOLS):
        spool._lock.acquire()
        _FROZEN.append(spool)
        spool.close()


def _after_fork_in_parent() -> None:
    while _FROZEN:
        _FROZEN.pop()._lock.release()
    IMPORTING.release()
    _FORKING.release()


def _after_fork_in_child() -> None:
    global _FORKING, IMPORTING
    _FORKING, IMPORTING = threading.Lock(), threading.RLock()
    _FROZEN.clear()
    for spool in list(_SPOOLS):
        spool._lock = threading.RLock()
    # the parent still holds its delivery locks through its own descriptors; close our copies
    while _LOCKS:
        os.close(_LOCKS.pop())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
