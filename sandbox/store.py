"""The one SQLite file: objects as JSON rows, a connection pool, transactions that several processes can share.

A `Store` is one account and mode (`scope`) inside one open transaction; everything that a request reads and writes goes
through it, so other requests see all of it or nothing. WAL and `synchronous=NORMAL`: a killed process loses nothing
that it has answered; only a power cut can lose the last moments.
"""

from __future__ import annotations

import json
import marshal
import os
import re
import sqlite3
import threading
import time
import zlib
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar, cast

from . import migrations
from .wire import Obj, SandboxFileError

T = TypeVar("T")


#: How long a writer waits for another process's transaction.
BUSY_SECONDS: Final = 60.0

#: More concurrent requests than this wait for each other: more connections cost file descriptors without any gain.
MOST_CONNECTIONS: Final = 32

#: The write-ahead log is copied into the file after this many pages (16 MB), the only time that writes wait for a disk.
CHECKPOINT_PAGES: Final = 4_000

#: Raised whenever the stored shape changes, with a step in `migrations.py` from the previous format.
#: `tests/sandbox/test_store.py` shows when.
FORMAT: Final = 3

_SCHEMA: list[str] = [
    """CREATE TABLE IF NOT EXISTS objects (
        seq INTEGER PRIMARY KEY,
        scope TEXT NOT NULL,
        kind TEXT NOT NULL,
        id TEXT NOT NULL,
        created INTEGER NOT NULL,
        body TEXT NOT NULL,
        UNIQUE (scope, kind, id)
    )""",
    # The old index, which lacked `created`; lists are filtered by it without reading the objects.
    "DROP INDEX IF EXISTS objects_newest",
    "CREATE INDEX IF NOT EXISTS objects_in_order ON objects (scope, kind, seq, created)",
    "CREATE TABLE IF NOT EXISTS settings (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
]

_ALPHABET: Final = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
#: Bytes 248..255 favour the first characters, which does not matter: ids only need to differ.
_FOLD: Final = bytes(_ALPHABET[b % 62] for b in range(256))


_FEW: set[tuple[str, str]] = set()


def declare(sql: str) -> None:
    """Add a kind's own table or index; call it at import, with `IF NOT EXISTS`."""
    _SCHEMA.append(sql)


def declare_index(kind: str, *fields: str, nulls: bool = False, few: bool = False) -> None:
    """Make `store.query(kind, {field: ...})` fast. A field is a path such as `product` or `recurring.meter`; several
    serve exact values of the first ones and a range of the last.

    Objects without a value of the last cost nothing, unless `nulls` says that queries include them. `few`: few objects
    share a value, so several values are looked up one by one.
    """
    name = "_".join(["objects", kind, *fields]).replace(".", "_")
    columns = [_extract(field) for field in fields]
    which = f"kind = '{kind}'" if nulls else f"kind = '{kind}' AND {columns[-1]} IS NOT NULL"
    _SCHEMA.append(
        f'CREATE INDEX IF NOT EXISTS "{name}" ON objects (scope, {", ".join(columns)}, seq, created) WHERE {which}'
    )
    if few:
        _FEW.add((kind, fields[0]))


def mint(prefix: str, length: int = 24) -> str:
    """A new id: the prefix and random letters and digits."""
    return prefix + os.urandom(length).translate(_FOLD).decode("ascii")


def _extract(field: str | tuple[str, ...]) -> str:
    if field in ("id", "created"):
        return str(field)
    parts = field.split(".") if isinstance(field, str) else field
    path = ".".join('"' + part.replace('"', "") + '"' for part in parts)
    return "json_extract(body, '$." + path.replace("'", "''") + "')"


def copied(value: T) -> T:
    """A deep copy of a stored object or a part of it; `copy.deepcopy` takes three times as long."""
    return cast("T", marshal.loads(marshal.dumps(cast("Any", value))))


_encode = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode
_decode = json.JSONDecoder().raw_decode


@dataclass(frozen=True)
class Through:
    """Ids that other objects name: the field `names` of the objects of a kind with a value in a field."""

    kind: str
    field: str
    value: str
    names: str


class Store:
    """The objects of one account and mode inside one transaction. `connection` is for a kind's own tables."""

    def __init__(self, connection: sqlite3.Connection, scope: str) -> None:
        self.connection = connection
        self.scope = scope

    def get(self, kind: str, id: str) -> Obj | None:
        """The object, also a deleted one that Stripe still shows; None if there is none."""
        row = self.connection.execute(
            "SELECT body FROM objects WHERE scope = ? AND kind = ? AND id = ?", (self.scope, kind, id)
        ).fetchone()
        if row is None:
            return None
        loaded: Obj = _decode(row[0])[0]
        return loaded

    def put(self, obj: Obj) -> None:
        """Insert or replace an object (`obj["object"]` is its kind); it keeps its place in lists."""
        self.connection.execute(
            "INSERT INTO objects (scope, kind, id, created, body) VALUES (?, ?, ?, ?, ?)"
            " ON CONFLICT (scope, kind, id) DO UPDATE SET body = excluded.body, created = excluded.created",
            (self.scope, obj["object"], obj["id"], obj.get("created", 0), _encode(obj)),
        )

    def remove(self, kind: str, id: str) -> None:
        """Delete an object."""
        self.connection.execute("DELETE FROM objects WHERE scope = ? AND kind = ? AND id = ?", (self.scope, kind, id))

    def seq(self, kind: str, id: str) -> int | None:
        """An object's place in the order of creation."""
        row = self.connection.execute(
            "SELECT seq FROM objects WHERE scope = ? AND kind = ? AND id = ?", (self.scope, kind, id)
        ).fetchone()
        return None if row is None else int(row[0])

    def query(
        self,
        kind: str,
        where: Mapping[Any, Any] | None = None,
        *,
        before: int | None = None,
        after: int | None = None,
        limit: int | None = None,
        oldest_first: bool = False,
    ) -> list[Obj]:
        """Objects of a kind, newest first. `where` maps a field path (`recurring.meter`, or its parts as a tuple) to a
        value, None (is null), a collection (any of), a `Through` or a comparison `{"gte": .., "lt": ..}`, `{"ne": ..}`.
        `before` and `after` are places in the order of creation."""
        clauses = ["scope = ?", f"kind = '{kind}'"]
        values: list[Any] = [self.scope]
        scattered = False
        for field, wanted in (where or {}).items():
            column = _extract(field)
            if wanted is None:
                clauses.append(f"{column} IS NULL")
            elif isinstance(wanted, Through):
                clauses.append(
                    f"{column} IN (SELECT {_extract(wanted.names)} FROM objects WHERE scope = ?"
                    f" AND kind = '{wanted.kind}' AND {_extract(wanted.field)} = ?)"
                )
                values.extend((self.scope, wanted.value))
            elif isinstance(wanted, Mapping):
                for operator, bound in wanted.items():
                    clauses.append(f"{column} {_OPERATORS[operator]} ?")
                    values.append(bound)
            elif isinstance(wanted, Collection) and not isinstance(wanted, str):
                scattered = scattered or field == "id" or (kind, field) in _FEW
                clauses.append(f"{column} IN ({','.join('?' * len(wanted))})")
                values.extend(wanted)
            else:
                clauses.append(f"{column} = ?")
                values.append(wanted)
        if before is not None:
            clauses.append("seq < ?")
            values.append(before)
        if after is not None:
            clauses.append("seq > ?")
            values.append(after)
        # Without the plus, SQLite would scan all objects in order instead of looking up a few and sorting them.
        order = "ASC" if oldest_first else "DESC"
        found = f"FROM objects WHERE {' AND '.join(clauses)} ORDER BY {'+' * scattered}seq {order}"
        sql = f"SELECT body {found}"
        if limit is not None:
            # First the places, from an index: then it reads only the objects of the page.
            sql = f"SELECT body FROM objects WHERE seq IN (SELECT seq {found} LIMIT {limit:d}) ORDER BY seq {order}"
        return [_decode(row[0])[0] for row in self.connection.execute(sql, values)]

    def first(self, kind: str, where: Mapping[str, Any] | None = None) -> Obj | None:
        """The newest object that matches."""
        found = self.query(kind, where, limit=1)
        return found[0] if found else None

    def in_scope(self, scope: str) -> Store:
        """The same transaction seen from another account or mode."""
        return Store(self.connection, scope)


#: `is` and `is_not` are for case-insensitive texts and for null.
_SAME: Final = "COLLATE NOCASE IS"
_OPERATORS: Final = {"ne": "<>", "gt": ">", "gte": ">=", "lt": "<", "lte": "<=", "is": _SAME, "is_not": f"{_SAME} NOT"}


def erase(connection: sqlite3.Connection) -> None:
    """Empty every table: the file is as good as new."""
    for name in _tables(connection):
        connection.execute(f'DELETE FROM "{name}"')


def _tables(connection: sqlite3.Connection) -> list[str]:
    found = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")
    return [name for (name,) in found.fetchall()]


#: The last can occur after some seconds if several connections open a file at the same time.
_BUSY: Final = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL)

_inherited: list[sqlite3.Connection] = []

#: The folder of the default sandbox file, for that file alone.
DEFAULT_FOLDER: Final = ".stripe-sandbox"

_making = threading.Lock()


def _make_file(file: Path) -> None:
    """Make a new sandbox file private to its user and ignored by git: it has customers, invoices and a request log."""
    folder = file.parent
    # Closing a file releases all locks of this process on it: no other thread may have opened it in the meantime.
    with _making:
        made = not folder.exists()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if made or folder.name == DEFAULT_FOLDER:
            ours = "*" if folder.name == DEFAULT_FOLDER else "/" + re.sub(r"([\\*?\[])", r"\\\1", file.name) + "*"
            with suppress(OSError):
                ignoring = os.open(folder / ".gitignore", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
                os.write(ignoring, f"# Made by the Stripe sandbox: its data stays on this machine.\n{ours}\n".encode())
                os.close(ignoring)
        # The files that SQLite puts beside it get the same permissions.
        with suppress(FileExistsError):
            os.close(os.open(file, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))


class _Connection(sqlite3.Connection):
    """A connection that closes itself when it is collected. Python 3.13 and later warn about an unclosed one, and a
    cycle with its owner is collected in any order: only the connection itself can close in time."""

    def __del__(self) -> None:
        try:
            self.close()
        except sqlite3.ProgrammingError:
            pass  # it never opened


class Database:
    """The file and its connections. One `Database` serves many threads; a fork opens its own connections."""

    def __init__(self, path: str | os.PathLike[str], *, renew: bool = False) -> None:
        """`renew` empties a file of another format, which is otherwise refused."""
        self.path = Path(path)
        # The process may change its working directory.
        self._file = os.path.abspath(path)
        self._idle: list[sqlite3.Connection] = []
        self._open = 0
        self._identity: tuple[int, int] | None = None
        self._pid = os.getpid()
        self._pool = threading.Condition()
        # Writers of one process queue here, in order, instead of in SQLite's busy loop.
        self._write_lock = threading.Lock()
        try:
            _make_file(Path(self._file))
            with self.glancing() as connection:
                self._create(connection, renew)
        except BaseException as problem:
            self.close()
            if isinstance(problem, OSError):
                self._explain(problem)
            raise

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A read-only transaction with a consistent view."""
        with self.glancing() as connection:
            connection.execute("BEGIN")
            yield connection

    @contextmanager
    def glancing(self) -> Iterator[sqlite3.Connection]:
        """A connection for a single SELECT, which needs no transaction around it."""
        try:
            connection = self._take()
            try:
                yield connection
            finally:
                self._give(connection)
        except (sqlite3.Error, OSError) as problem:
            self._explain(problem)
            raise

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """A transaction that commits at the end and is undone by any exception."""
        with self._write_lock, self.glancing() as connection:
            self._check_identity()
            connection.execute("BEGIN IMMEDIATE")
            yield connection
            connection.execute("COMMIT")

    def close(self) -> None:
        """Close every idle connection; the next use opens new ones."""
        with self._pool:
            idle, self._idle = self._idle, []
            self._open -= len(idle)
            if self._open == 0:
                self._identity = None
        for connection in idle:
            connection.close()

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self._file,
            timeout=BUSY_SECONDS,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=256,
            factory=_Connection,
        )
        deadline = time.monotonic() + BUSY_SECONDS
        while True:
            try:
                connection.execute("PRAGMA journal_mode=WAL")
                break
            except sqlite3.OperationalError as problem:
                # Turning WAL on in a new file does not wait for another process that is doing the same.
                if "locked" not in str(problem) or time.monotonic() > deadline:
                    connection.close()
                    raise
                time.sleep(0.01)
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.execute(f"PRAGMA wal_autocheckpoint={CHECKPOINT_PAGES:d}")
        # Keep a savepoint's undo data in memory; the default is a new file in /tmp for each request.
        connection.execute("PRAGMA temp_store=MEMORY")
        return connection

    def _create(self, connection: sqlite3.Connection, renew: bool) -> None:
        version = zlib.crc32("\n".join([*_SCHEMA, str(FORMAT)]).encode()) & 0x7FFFFFFF
        if connection.execute("PRAGMA user_version").fetchone()[0] == version:
            return
        connection.execute("BEGIN IMMEDIATE")
        names = _tables(connection)
        found = connection.execute("PRAGMA application_id").fetchone()[0]
        if names and found != FORMAT:
            if renew:
                for name in names:
                    connection.execute(f'DROP TABLE "{name}"')
            else:
                self._migrate(connection, names, found)
        for sql in _SCHEMA:
            connection.execute(sql)
        connection.execute(f"PRAGMA application_id = {FORMAT:d}")
        connection.execute(f"PRAGMA user_version = {version:d}")
        connection.execute("COMMIT")

    def _migrate(self, connection: sqlite3.Connection, names: Collection[str], found: int) -> None:
        """Migrate a file of an earlier format; if that fails, the file is unchanged."""
        if found > FORMAT:
            raise SandboxFileError(
                f"The sandbox file {self.path} was made by a later version of the sandbox: use that version, or empty "
                "the file (sandbox reset), or move it away."
            )
        try:
            if "objects" not in names:
                raise KeyError("objects")
            migrations.migrate(connection, found, FORMAT)
        except (KeyError, TypeError, ValueError) as problem:
            raise SandboxFileError(
                f"The sandbox file {self.path} was made by another version of the sandbox and cannot be migrated: "
                "empty it (sandbox reset), or move it away."
            ) from problem

    def _take(self) -> sqlite3.Connection:
        with self._pool:
            if self._pid != os.getpid():
                # A connection must not cross a fork. Keep the parent's untouched: even closing one here could remove
                # the parent's write-ahead log.
                _inherited.extend(self._idle)
                self._idle, self._open, self._pid = [], 0, os.getpid()
            while not self._idle and self._open >= MOST_CONNECTIONS:
                self._pool.wait()
            if self._idle:
                return self._idle.pop()
            self._open += 1
        try:
            self._check_identity()
            connection = self._connect()
            self._identity = self._identity or self._found()
        except BaseException:
            self._forget()
            raise
        return connection

    def _give(self, connection: sqlite3.Connection) -> None:
        """Return a connection to the pool; uncommitted changes are rolled back."""
        try:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        except BaseException:
            connection.close()
            self._forget()
            raise
        with self._pool:
            self._idle.append(connection)
            self._pool.notify()

    def _forget(self) -> None:
        """Count one open connection less."""
        with self._pool:
            self._open -= 1
            self._pool.notify()

    def _found(self) -> tuple[int, int] | None:
        """Which file the path leads to now."""
        try:
            found = os.stat(self._file)
        except FileNotFoundError:
            return None
        return found.st_dev, found.st_ino

    def _check_identity(self) -> None:
        """Refuse to work on a deleted file: SQLite would keep writing to it, and lose everything with the process."""
        if self._identity is not None and self._found() != self._identity:
            raise SandboxFileError(
                f"The sandbox file {self.path} was deleted or replaced while this sandbox had it open, and can no "
                "longer be written: restart the sandbox."
            )

    def _explain(self, problem: Exception) -> None:
        """SQLite's errors about the file as one sentence for the person who can act on it; others are unchanged."""
        if isinstance(problem, (sqlite3.IntegrityError, sqlite3.ProgrammingError, sqlite3.DataError)):
            return
        if isinstance(problem, OSError):
            sentence = f"The sandbox file {self.path} cannot be opened ({problem.strerror}): check its folder."
        elif getattr(problem, "sqlite_errorcode", 0) & 0xFF in _BUSY:
            sentence = (
                f"The sandbox file {self.path} has been locked by another process for more than "
                f"{BUSY_SECONDS:.0f} seconds: end that process, or use another file."
            )
        elif isinstance(problem, sqlite3.OperationalError):
            sentence = (
                f"The sandbox file {self.path} cannot be used ({problem}): check that it and its folder can be "
                "written to, and that the disk has room."
            )
        else:
            sentence = (
                f"The sandbox file {self.path} is damaged or is not a sandbox file ({problem}): move it and the files "
                f"{self.path.name}-wal and {self.path.name}-shm away, and the sandbox starts empty."
            )
        raise SandboxFileError(sentence) from problem
