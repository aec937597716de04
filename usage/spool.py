"""The write-ahead spool: one SQLite file that holds every event from before it is sent until long after.

Why SQLite: a commit survives SIGKILL at any instruction, several processes may record at once, and nothing needs to
run. The file is opened lazily, closed before a fork and reopened on each side of it, because SQLite's bookkeeping of
file locks must not be inherited.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
import threading
import time
import weakref
from typing import TYPE_CHECKING, NamedTuple

from .errors import IdentifierConflict, SpoolDamaged, SpoolError, SpoolFull, SpoolLocked, SpoolMissing
from .events import Event, derived_identifier, exact_sum

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence
    from typing import Any


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


class Refusal(NamedTuple):
    """Why an event was refused for good."""

    code: str
    message: str
    status: int
    request_id: str | None


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


PATH_VARIABLE = "STRIPE_USAGE_SPOOL"

VERSION = 2
UNIQUENESS_SECONDS = 24 * 3600
"""Stripe holds identifiers unique for "at least 24 hours"; after that a resend could bill twice."""
RESEND_MARGIN = 900
"""Resending stops this much earlier, so that no slow attempt ends outside the window."""
KEEP_SECONDS = 40 * 86_400
"""Settled events are kept longer than Stripe takes their timestamps (35 days), so that a repeat is still recognised."""

# What an event can be: to be delivered; of unknown fate for too long; refused; being taken back; or settled.
SETTLED = ("delivered", "queued", "cancelled", "replaced")
REJECTABLE = ("delivered", "unknown", "pending", "queued")  # what an error report can still turn into a dead letter

_SCHEMA = """
CREATE TABLE events (
    id INTEGER PRIMARY KEY,
    identifier TEXT NOT NULL,
    event_name TEXT NOT NULL,
    customer TEXT NOT NULL,
    value TEXT NOT NULL,
    timestamp INTEGER NOT NULL,
    dimensions TEXT,
    destination TEXT NOT NULL,
    state TEXT NOT NULL,
    recorded_at INTEGER NOT NULL,
    unknown_since INTEGER,
    settled_at INTEGER
) STRICT;
CREATE UNIQUE INDEX events_identifier ON events (identifier);
CREATE INDEX events_pending ON events (id) WHERE state = 'pending';
CREATE INDEX events_unsettled ON events (state, id) WHERE state IN ('unknown', 'dead', 'cancelling');
CREATE TABLE counters (
    destination TEXT NOT NULL, state TEXT NOT NULL, events INTEGER NOT NULL, PRIMARY KEY (destination, state)
) STRICT, WITHOUT ROWID;
CREATE TRIGGER counted AFTER INSERT ON events BEGIN
    INSERT INTO counters VALUES (NEW.destination, NEW.state, 1)
        ON CONFLICT (destination, state) DO UPDATE SET events = events + 1;
END;
CREATE TRIGGER moved AFTER UPDATE OF state, destination ON events
WHEN OLD.state <> NEW.state OR OLD.destination <> NEW.destination BEGIN
    UPDATE counters SET events = events - 1 WHERE destination = OLD.destination AND state = OLD.state;
    INSERT INTO counters VALUES (NEW.destination, NEW.state, 1)
        ON CONFLICT (destination, state) DO UPDATE SET events = events + 1;
    DELETE FROM dead_letters WHERE id = NEW.id AND OLD.state = 'dead';
END;
CREATE TRIGGER forgotten AFTER DELETE ON events BEGIN
    UPDATE counters SET events = events - 1 WHERE destination = OLD.destination AND state = OLD.state;
END;
CREATE TABLE dead_letters (
    id INTEGER PRIMARY KEY REFERENCES events (id),
    code TEXT NOT NULL, message TEXT NOT NULL, status INTEGER NOT NULL, request_id TEXT,
    refused_at INTEGER NOT NULL, reported INTEGER NOT NULL
) STRICT;
CREATE TABLE error_reports (id TEXT PRIMARY KEY, created TEXT, received_at INTEGER NOT NULL) STRICT;
CREATE TABLE accounts (destination TEXT PRIMARY KEY, account TEXT NOT NULL) STRICT, WITHOUT ROWID;
"""

_EVENT = "identifier, event_name, customer, value, timestamp, dimensions"
_INSERT = (
    f"INSERT INTO events ({_EVENT}, destination, state, recorded_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
    " ON CONFLICT (identifier) DO NOTHING"
)
_KEPT = f"SELECT id, destination, state, recorded_at, unknown_since, settled_at, {_EVENT} FROM events"

_SPOOLS: weakref.WeakSet[Spool] = weakref.WeakSet()


def default_path() -> str:
    """The user's own spool, the same from every working directory: XDG_STATE_HOME, or its usual place."""
    home = os.environ.get("XDG_STATE_HOME") or os.environ.get("LOCALAPPDATA")
    return os.path.join(home or os.path.expanduser("~/.local/state"), "stripe-usage", "spool.db")


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


class _ExactSum:
    """SQLite's own sum() makes floats of our texts."""

    def __init__(self) -> None:
        self.values: list[str] = []

    def step(self, value: str) -> None:
        self.values.append(value)
        if len(self.values) > 1000:
            self.values = [str(exact_sum(self.values))]

    def finalize(self) -> str:
        return str(exact_sum(self.values))


class Spool:
    """One spool file. Every method is one transaction; threads share the object, processes share the file.

    create: whether the file may be made; without it SpoolMissing says that there is none.
    on_lost: called with a sentence when the file was deleted or replaced while this process had it open.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        max_pending: int = 1_000_000,
        durable: bool = False,
        patience: float = 10.0,
        create: bool = True,
        clock: Callable[[], float] = time.time,
        on_lost: Callable[[str], object] = bool,
    ) -> None:
        if max_pending < 1:
            raise ValueError("max_pending must be at least 1")
        given = os.fspath(path) if path is not None else os.environ.get(PATH_VARIABLE) or default_path()
        # absolute now: a service that changes its working directory keeps its spool
        self.path = os.path.abspath(given)
        self.max_pending = max_pending
        self.durable = durable
        self.patience = patience
        self.create = create
        self.clock = clock
        self.on_lost = on_lost
        self._lock = threading.RLock()
        self._connection: sqlite3.Connection | None = None
        self._file: tuple[int, int] | None = None
        self._gone = False
        self._pruned_to = 0
        with _FORKING:  # a spool that a fork does not know of would leave the child an open file without its locks
            _SPOOLS.add(self)

    # -- the connection ------------------------------------------------------------------------------------------

    def _open(self) -> sqlite3.Connection:
        try:
            fresh = not os.path.exists(self.path)
            if fresh and not self.create:
                why = "nothing was recorded there (--spool names another)"
                raise SpoolMissing(f"there is no spool at {self.path}: {why}")
            if fresh:
                os.makedirs(os.path.dirname(self.path), mode=0o700, exist_ok=True)
                # Usage figures and customer ids are nobody else's business. Exclusively: to close a file that another
                # spool of this process has open would drop SQLite's locks on it.
                with contextlib.suppress(FileExistsError):
                    os.close(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
            elif not stat.S_ISREG(os.stat(self.path).st_mode):
                raise SpoolError(f"the spool {self.path} is not a file; set {PATH_VARIABLE} to one")
            elif not os.access(self.path, os.W_OK):
                raise SpoolError(f"the spool {self.path} is read-only; set {PATH_VARIABLE} to a writable file")
            connection = sqlite3.connect(
                self.path, self.patience, isolation_level=None, check_same_thread=False, factory=_Connection
            )
        except (OSError, sqlite3.Error) as problem:
            advice = f"set {PATH_VARIABLE} to another file"
            raise SpoolError(f"the spool {self.path} cannot be opened: {problem}; {advice}") from None
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
        self._connection, self._file = connection, self._identity()
        return connection

    def _set_up(self, connection: sqlite3.Connection) -> None:
        connection.create_aggregate("exact_sum", 1, _ExactSum)  # type: ignore[arg-type, unused-ignore]
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
                for statement in _SCHEMA.split(";\nCREATE "):
                    text = statement.strip().removesuffix(";")
                    connection.execute(text if text.startswith("CREATE ") else f"CREATE {text}")
                connection.execute(f"PRAGMA user_version = {VERSION}")
            elif version != VERSION:
                raise SpoolError(
                    f"the spool {self.path} was written by another version of this module ({version}, not {VERSION}): "
                    f"deliver what is in it with that version's `usage flush`, then move it aside"
                )
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

    def _identity(self) -> tuple[int, int] | None:
        try:
            found = os.stat(self.path)
        except OSError:
            return None
        return found.st_dev, found.st_ino

    def _check_file(self, connection: sqlite3.Connection, recording: bool) -> sqlite3.Connection:
        """The connection, to the file that is at the path now: one that was deleted or replaced is not written to, and
        only a new record makes a deleted one again."""
        now = self._identity()
        if now == self._file:
            return connection
        try:
            left = connection.execute("SELECT events FROM counters WHERE state = 'pending'").fetchall()
            lost = f"{sum(row[0] for row in left):,} undelivered events were in the old one"
        except sqlite3.Error:
            lost = "what was in the old one cannot be read any more"
        self.close()
        happened = "was deleted" if now is None else "was replaced"
        self._gone = now is None and not recording
        self.on_lost(f"the spool {self.path} {happened} while this process had it open; {lost}. Recording goes on")
        return self._opened(recording)

    def _opened(self, recording: bool) -> sqlite3.Connection:
        self._gone = self._gone and not recording
        if self._gone and not os.path.exists(self.path):
            raise SpoolMissing(f"the spool {self.path} was deleted")
        return self._open()

    @contextlib.contextmanager
    def _use(self, recording: bool = False) -> Iterator[sqlite3.Connection]:
        """The open connection, with SQLite's errors turned into sentences."""
        with self._lock:
            try:
                connection = self._connection
                yield self._check_file(connection, recording) if connection else self._opened(recording)
            except sqlite3.Error as problem:
                raise self._explained(problem) from None

    def _rows(self, query: str, values: Sequence[object] = ()) -> list[Any]:
        with self._use() as connection:
            return connection.execute(query, values).fetchall()

    @contextlib.contextmanager
    def _transaction(self, *, synced: bool = False, recording: bool = False) -> Iterator[sqlite3.Connection]:
        with self._use(recording) as connection:
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
            how_long = f"for {self.patience:g} s; nothing was changed"
            return SpoolLocked(f"the spool {self.path} has been locked by another process {how_long}")
        if name.startswith("SQLITE_FULL"):
            return SpoolError(f"no space left for the spool {self.path}: free some disk; what was recorded is kept")
        if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
            self.close()
            return SpoolDamaged(
                f"the spool {self.path} is damaged ({problem}); move it aside to go on recording, "
                f"and docs/usage.md says how SQLite's .recover takes the readable events out of it"
            )
        return SpoolError(f"the spool {self.path} cannot be used: {problem}")

    # -- recording -----------------------------------------------------------------------------------------------

    def add(self, events: Sequence[Event], destination: str, *, timeless: bool | Collection[str] = False) -> int:
        """Record events in one commit; returns how many are new.

        An event whose identifier is already here with the same content is the same event, and counts as not new.
        With other content it raises IdentifierConflict, and nothing of this call is recorded. timeless: the events
        (all, or these identifiers) whose time nobody gave, so that it is not compared. destination: an identity
        (`Destination.identity`), or "" when nothing says where. Raises SpoolFull beyond `max_pending`.
        """
        tail = (destination, "pending", int(self.clock()))
        with self._transaction(recording=True) as connection:
            if len(events) == 1:
                new = connection.execute(_INSERT, (*events[0], *tail)).rowcount
            else:
                new = connection.executemany(_INSERT, [(*event, *tail) for event in events]).rowcount
            pending = connection.execute("SELECT sum(events) FROM counters WHERE state = 'pending'").fetchone()[0] or 0
            if new and pending > self.max_pending:
                raise SpoolFull(
                    f"the spool {self.path} holds {pending - new} undelivered events and may hold "
                    f"{self.max_pending}; nothing was recorded: deliver with `usage flush`, or raise max_pending"
                )
            if new < len(events):
                self._check_repeats(connection, events, timeless)
        return int(new)

    def _check_repeats(
        self, connection: sqlite3.Connection, events: Sequence[Event], timeless: bool | Collection[str]
    ) -> None:
        for event in events:
            query = f"SELECT {_EVENT} FROM events WHERE identifier = ?"
            kept = Event(*connection.execute(query, (event.identifier,)).fetchone())
            if timeless is True or (timeless and event.identifier in timeless):
                kept = kept._replace(timestamp=event.timestamp)
            if kept != event:
                field = next(name for name, a, b in zip(Event._fields, kept, event, strict=True) if a != b)
                raise IdentifierConflict(
                    "identifier",
                    f"{event.identifier!r} is already recorded with another {field} "
                    f"({getattr(kept, field)!r}, now {getattr(event, field)!r}); a new event needs a new one",
                )

    # -- sending -------------------------------------------------------------------------------------------------

    def claim(
        self, destinations: Sequence[str], limit: int, *, after: int = 0, identifier: str | None = None
    ) -> list[Claimed]:
        """Take up to `limit` events for `destinations`, in the order of recording, with ids above `after`.

        Before anything is sent, each is marked as possibly sent, on disk (fsynced): a crash between here and the answer
        leaves an event that is resent with its identifier inside Stripe's uniqueness window, and that is set aside as
        `unknown` after it. Only one deliverer may claim at a time (DeliveryLock).
        """
        now = int(self.clock())
        too_late = now - UNIQUENESS_SECONDS + RESEND_MARGIN
        query = (
            f"SELECT id, unknown_since, {_EVENT} FROM events {'' if identifier else 'INDEXED BY events_pending'}"
            f" WHERE state = 'pending' AND id > ? AND destination IN ({_marks(destinations)})"
        )
        values: list[object] = [after, *destinations]
        if identifier is not None:
            query, values = query + " AND identifier = ?", [*values, identifier]
        with self._transaction(synced=True) as connection:
            rows = connection.execute(query + " ORDER BY id LIMIT ?", [*values, limit]).fetchall()
            expired = {row[0] for row in rows if row[1] is not None and row[1] < too_late}
            connection.executemany("UPDATE events SET state = 'unknown' WHERE id = ?", [(id_,) for id_ in expired])
            connection.executemany(
                "UPDATE events SET unknown_since = ? WHERE id = ?", [(now, row[0]) for row in rows if row[1] is None]
            )
        return [Claimed(row[0], Event(*row[2:]), row[1]) for row in rows if row[0] not in expired]

    def settle(
        self,
        *,
        delivered: Sequence[int] = (),
        refused: Sequence[tuple[int, Refusal, bool]] = (),
        released: Sequence[int] = (),
        state: str = "delivered",
    ) -> None:
        """Write down what became of claimed events (row ids), in one commit.

        `released` events certainly did not reach Stripe: their fate is known again and they stay pending. `state` is
        "delivered", or "queued" when they were handed to an outbox queue. The last member of a refusal says whether it
        is certain that no earlier attempt was carried out; if not, a retry after 24 hours is not made on a guess.
        """
        now = int(self.clock())
        with self._transaction() as connection:
            connection.executemany(
                "UPDATE events SET state = ?, settled_at = ?, unknown_since = NULL WHERE id = ? AND state = 'pending'",
                [(state, now, id_) for id_ in delivered],
            )
            for id_, refusal, certain in refused:
                self._bury(connection, id_, refusal, ["pending"], certain=certain)
            connection.executemany(
                "UPDATE events SET unknown_since = NULL WHERE id = ? AND state = 'pending'",
                [(id_,) for id_ in released],
            )

    def _moved(
        self,
        connection: sqlite3.Connection,
        id_: int,
        before: Collection[str],
        after: str,
        settles: bool,
        certain: bool,
    ) -> bool:
        """Whether an event could be moved from one of the states `before`. settles: notes that its fate is decided now;
        certain: nothing is left of an earlier attempt without an answer."""
        return bool(
            connection.execute(
                "UPDATE events SET state = ?, settled_at = CASE WHEN ? THEN ? ELSE settled_at END,"
                " unknown_since = CASE WHEN ? THEN NULL ELSE unknown_since END"
                f" WHERE id = ? AND state IN ({_marks(before)})",
                (after, settles, int(self.clock()), certain, id_, *before),
            ).rowcount
        )

    def _bury(
        self,
        connection: sqlite3.Connection,
        id_: int,
        why: Refusal,
        before: Collection[str],
        *,
        certain: bool = True,
        reported: bool = False,
    ) -> bool:
        done = self._moved(connection, id_, before, "dead", True, certain)
        if done:
            connection.execute(
                "INSERT OR REPLACE INTO dead_letters VALUES (?, ?, ?, ?, ?, ?, ?)",
                (id_, why.code, why.message, why.status, why.request_id, int(self.clock()), int(reported)),
            )
        return done

    def take_in(self, events: Sequence[Event], destination: str, since: int | None, refusal: Refusal | None) -> int:
        """Keep events that came from a queue: refused ones, or such whose fate is unknown since `since`; returns how
        many are new here."""
        new = 0
        with self._transaction() as connection:
            for event in events:
                cursor = connection.execute(_INSERT, (*event, destination, "unknown", int(self.clock())))
                if cursor.rowcount:
                    new += 1
                    id_ = cursor.lastrowid
                    assert id_ is not None
                    connection.execute("UPDATE events SET unknown_since = ? WHERE id = ?", (since, id_))
                    if refusal is not None:
                        self._bury(connection, id_, refusal, ["unknown"])
        return new

    # -- whose events they are -----------------------------------------------------------------------------------

    def learn_account(self, destination: str, account: str) -> None:
        """Note which Stripe account a key (by its identity) belongs to."""
        with self._transaction() as connection:
            connection.execute("INSERT OR REPLACE INTO accounts VALUES (?, ?)", (destination, account))

    def same_account(self, destination: str) -> list[str]:
        """The identity itself, and those of keys of the same account and mode that this spool has seen."""
        mode = destination.partition(":")[0]
        rows = self._rows(
            "SELECT other.destination FROM accounts own JOIN accounts other USING (account) WHERE own.destination = ?",
            (destination,),
        )
        return [destination, *(name for (name,) in rows if name != destination and name.startswith(f"{mode}:"))]

    def hand_over(self, before: str, after: str) -> int:
        """Bind the undelivered events of one destination to another, because somebody said so; returns how many."""
        with self._transaction() as connection:
            return connection.execute(
                "UPDATE events SET destination = ? WHERE destination = ? AND state = 'pending'"
                " AND unknown_since IS NULL",
                (after, before),
            ).rowcount

    # -- reading -------------------------------------------------------------------------------------------------

    def counts(self) -> dict[str, dict[str, int]]:
        """Number of events by destination ("" is not known) and state."""
        table: dict[str, dict[str, int]] = {}
        for destination, state, count in self._rows("SELECT * FROM counters WHERE events <> 0"):
            table.setdefault(destination, {})[state] = count
        return table

    def oldest_pending(self) -> int | None:
        """When the oldest undelivered event was recorded (UTC seconds), or None."""
        rows = self._rows("SELECT recorded_at FROM events WHERE state = 'pending' ORDER BY id LIMIT 1")
        return int(rows[0][0]) if rows else None

    def find(self, identifier: str) -> Kept | None:
        """What the spool knows of the event with that identifier, or None."""
        rows = self._rows(_KEPT + " WHERE identifier = ?", (identifier,))
        return _kept(rows[0]) if rows else None

    def with_state(self, state: str, destinations: Sequence[str]) -> list[Kept]:
        """The events in that state (meant for the few that are unknown), in the order of recording."""
        where = f" WHERE state = ? AND destination IN ({_marks(destinations)}) ORDER BY id"
        return [_kept(row) for row in self._rows(_KEPT + where, (state, *destinations))]

    def dead_letters(self, limit: int = -1, identifier: str | None = None) -> list[DeadLetter]:
        """Events refused for good, newest refusal first; all of them, the newest `limit`, or one."""
        rows = self._rows(
            f"SELECT destination, code, message, status, request_id, refused_at, reported, {_EVENT}"
            " FROM dead_letters JOIN events USING (id) WHERE state = 'dead' AND (?1 IS NULL OR identifier = ?1)"
            " ORDER BY refused_at DESC, id DESC LIMIT ?2",
            (identifier, limit),
        )
        return [DeadLetter(Event(*row[7:]), *row[:6], bool(row[6])) for row in rows]  # type: ignore[call-arg]

    def dead_letter_codes(self) -> dict[str, int]:
        """Number of dead letters by code."""
        return dict(self._rows("SELECT code, count(*) FROM dead_letters GROUP BY code ORDER BY 2 DESC"))

    def totals(
        self,
        destinations: Sequence[str],
        start: int | None,
        end: int | None,
        *,
        event_name: str | None = None,
        customers: Sequence[str] = (),
    ) -> list[tuple[str, str, int, str, int, str]]:
        """What was delivered, by UTC hour: (event_name, customer, hour start, sum, count, value of the latest).

        start and end are UTC seconds; None is no bound.
        """
        query = (
            "SELECT event_name, customer, timestamp - timestamp % 3600 AS hour, exact_sum(value), count(*),"
            " value, max(timestamp) FROM events WHERE state = 'delivered'"
            f" AND destination IN ({_marks(destinations)}) AND timestamp >= ? AND timestamp < ?"
        )
        values: list[Any] = [*destinations, -(2**60) if start is None else start, 2**60 if end is None else end]
        if event_name is not None:
            query, values = query + " AND event_name = ?", [*values, event_name]
        if customers:
            query, values = query + f" AND customer IN ({_marks(customers)})", [*values, *customers]
        return [row[:6] for row in self._rows(query + " GROUP BY 1, 2, 3 ORDER BY 1, 2, 3", values)]

    # -- settling by hand ----------------------------------------------------------------------------------------

    def withdraw(self, identifier: str) -> bool:
        """Decide, in one statement, that an event will never be sent: True when no attempt to send it is under way, was
        lost or was taken.

        Delivery claims with a statement of its own, so that one of the two comes first and the other sees it.
        """
        with self._transaction() as connection:
            done = connection.execute(
                "UPDATE events SET state = 'cancelled', settled_at = ? WHERE identifier = ?"
                " AND state IN ('pending', 'dead') AND unknown_since IS NULL",
                (int(self.clock()), identifier),
            ).rowcount
        return bool(done)

    def move(self, id_: int, before: Collection[str], after: str) -> bool:
        """Move one event from one of the states `before` to another; False when it is in none of them.

        A pending event keeps the time since when its fate is unknown, unless it goes to a settled state.
        """
        settled = after in SETTLED
        with self._transaction() as connection:
            return self._moved(connection, id_, before, after, settled, settled)

    def retry(self, *, codes: Sequence[str] = (), identifiers: Sequence[str] = ()) -> list[str]:
        """Put dead letters back among the pending, and events of unknown fate that are named; returns the identifiers
        they go out under.

        An event that was refused at once goes out under its own identifier: Stripe never took it. One that Stripe took
        and rejected later gets a new identifier, since the old one may count as used there. An event of unknown fate is
        only sent again when somebody who knows that it did not arrive names it.
        """
        now = int(self.clock())
        wanted: list[str] = []
        with self._transaction() as connection:
            rows = connection.execute(
                f"SELECT id, state, code, reported, destination, {_EVENT} FROM events LEFT JOIN dead_letters USING (id)"
                " WHERE state IN ('dead', 'unknown') ORDER BY id"
            ).fetchall()
            for id_, state, code, reported, destination, *fields in rows:
                event = Event(*fields)
                named = event.identifier in identifiers
                if (codes and code not in codes) or ((identifiers or state == "unknown") and not named):
                    continue
                if reported:
                    again = event._replace(identifier=derived_identifier("retry", event.identifier))
                    connection.execute(_INSERT, (*again, destination, "pending", now))
                    connection.execute("UPDATE events SET state = 'replaced' WHERE id = ?", (id_,))
                    wanted.append(again.identifier)
                else:
                    connection.execute(
                        "UPDATE events SET state = 'pending', settled_at = NULL,"
                        " unknown_since = CASE WHEN state = 'unknown' THEN NULL ELSE unknown_since END WHERE id = ?",
                        (id_,),
                    )
                    wanted.append(event.identifier)
        return wanted

    def report(
        self, report_id: str, created: str | None, samples: Sequence[tuple[Sequence[str], Refusal]]
    ) -> tuple[int, list[str]]:
        """Take one asynchronous error report and bury the events it names: (events matched, identifiers unknown here).

        Each sample has the names under which the event may be known. A report that was already taken changes nothing.
        """
        matched, strangers = 0, []
        taken = (report_id, created, int(self.clock()))
        with self._transaction() as connection:
            new = connection.execute("INSERT OR IGNORE INTO error_reports VALUES (?, ?, ?)", taken).rowcount
            for names, refusal in samples if new else ():
                row = None
                for name in names:
                    row = row or connection.execute("SELECT id FROM events WHERE identifier = ?", (name,)).fetchone()
                if row is None:
                    strangers.append(names[0])
                elif self._bury(connection, row[0], refusal, REJECTABLE, reported=True):
                    matched += 1
        return matched, strangers

    def last_report(self) -> str | None:
        """When the newest error report in the spool was created (as Stripe wrote it), or None."""
        ((created,),) = self._rows("SELECT max(created) FROM error_reports")
        return str(created) if created else None

    def prune(self, limit: int = 10_000) -> int:
        """Forget up to `limit` settled events older than KEEP_SECONDS; returns how many.

        Ids grow with time, so only the oldest rows are looked at: a page behind those that this object has seen, which
        may hold events that cannot be forgotten yet.
        """
        before = int(self.clock()) - KEEP_SECONDS
        oldest = self._rows("SELECT recorded_at FROM events WHERE id > ? ORDER BY id LIMIT 1", (self._pruned_to,))
        if not oldest or oldest[0][0] >= before:
            self._pruned_to = 0  # what could not be forgotten then may have been settled since
            return 0
        with self._transaction() as connection:
            last = connection.execute(
                "SELECT max(id) FROM (SELECT id FROM events WHERE id > ? ORDER BY id LIMIT ?)", (self._pruned_to, limit)
            ).fetchone()[0]
            removed = connection.execute(
                f"DELETE FROM events WHERE id > ? AND id <= ? AND settled_at < ? AND state IN ({_marks(SETTLED)})",
                (self._pruned_to, last, before, *SETTLED),
            ).rowcount
        self._pruned_to = last
        return int(removed)


def _kept(row: Sequence[Any]) -> Kept:
    return Kept(row[0], Event(*row[6:]), *row[1:6])


def _marks(values: Collection[object]) -> str:
    return ",".join("?" * len(values))


class DeliveryLock:
    """Held by the one process and thread that delivers from a spool; the kernel frees it when the process dies.

    A second deliverer would be harmless for billing (identifiers), but would break the rule of one call in flight for
    each customer and meter.
    """

    def __init__(self, spool_path: str) -> None:
        self.path = spool_path + ".deliver"
        self._file: int | None = None

    def acquire(self, patience: float, given_up: Callable[[], bool] = bool) -> bool:
        """Try for up to `patience` seconds; True when held."""
        deadline = time.monotonic() + patience
        while True:
            try:
                with _FORKING:  # a child must not inherit a lock that nobody has noted yet
                    handle = os.open(self.path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600)
                    if _lock_file(handle):
                        self._file = handle
                        _LOCKS.add(self)
                        return True
                    os.close(handle)
            except OSError as problem:
                raise SpoolError(
                    f"the lock file {self.path} cannot be opened ({problem.strerror}): another user made it; "
                    f"delete it, or deliver as that user"
                ) from None
            if time.monotonic() >= deadline or given_up():
                return False
            time.sleep(min(0.02, max(0.001, deadline - time.monotonic())))

    def release(self) -> None:
        """Let the next deliverer in."""
        with _FORKING:
            self._drop()

    def _drop(self) -> None:
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


_FORKING = threading.Lock()
"""One fork at a time: each takes the locks of all spools, and two that do so in turns would wait for each other."""
_FROZEN: list[Spool] = []

IMPORTING = threading.RLock()
"""Held while modules are loaded and while SQLite counts an import's rows. A fork waits for it: a child that inherits
half of either hangs in its own."""


def _before_fork() -> None:
    """Close every spool, with its lock held, so that a child inherits neither SQLite's state nor a half transaction."""
    _FORKING.acquire()
    IMPORTING.acquire()
    for spool in list(_SPOOLS):
        spool._lock.acquire()
        _FROZEN.append(spool)
        connection, spool._connection = spool._connection, None
        if connection is not None:
            connection.close()


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
    # the parent still holds its delivery lock through its own descriptor; ours only has to go
    for lock in list(_LOCKS):
        lock._drop()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
