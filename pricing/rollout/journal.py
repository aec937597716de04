"""The journal of a rollout: what was started, done and predicted for each subscription, so that it can be stopped,
resumed, checked and undone. It has only ids and amounts: no name, no e-mail address.

Each rollout has one SQLite file, readable by its owner alone: `.pricing/<stack>/<plan>@<from>-<to>.db` in the project's
folder.
"""

from __future__ import annotations

import fcntl
import json
import os
import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from pricing.rollout.decisions import RolloutError

State = Literal["noticed", "moving", "scheduled", "verified", "mismatch", "accepted", "returning", "undone"]
"""`noticed`: notice given, waiting; `moving`: the calls have started; `scheduled`: it has its schedule; `verified`: its
first invoice is as predicted; `mismatch`: it is not, and the rollout is halted; `accepted`: a person has checked it;
`returning`: it moves back at its renewal; `undone`: as before."""


@dataclass(frozen=True)
class Entry:
    """What the journal knows about a subscription.

    Attributes:
        not_before: the earliest effect, as announced to its customer (UTC seconds).
        effect: when all its prices have moved (UTC seconds).
        prediction: what its first invoice after that bills.
        note: a remark for the output.
    """

    subscription: str
    state: State
    not_before: int | None = None
    effect: int | None = None
    prediction: Mapping[str, Any] | None = None
    note: str = ""


class Journal:
    """The entries of one rollout. Only one process can use it at a time.

    Args:
        path: the file; None for a temporary journal.

    Raises:
        RolloutError: another process uses it, or it belongs to another rollout.
    """

    def __init__(self, path: Path | None, rollout: str) -> None:
        self._lock: int | None = None
        if path is not None:
            self._lock = _locked(path)
        self._connection = sqlite3.connect(path or ":memory:", isolation_level=None)
        try:
            self._connection.execute("CREATE TABLE IF NOT EXISTS about (rollout TEXT)")
            self._connection.execute("CREATE TABLE IF NOT EXISTS entries (subscription TEXT PRIMARY KEY, entry TEXT)")
            found = self._connection.execute("SELECT rollout FROM about").fetchone()
        except sqlite3.DatabaseError as problem:
            self.close()
            raise RolloutError(f"{path} cannot be read as a journal: {problem}") from None
        if found is None:
            self._connection.execute("INSERT INTO about VALUES (?)", (rollout,))
        elif found[0] != rollout:
            self.close()
            raise RolloutError(f"{path} is the journal of {found[0]}, but this is {rollout}; name another --journal")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self._connection.close()
        if self._lock is not None:
            os.close(self._lock)

    def entry(self, subscription: str) -> Entry | None:
        found = self._connection.execute("SELECT entry FROM entries WHERE subscription = ?", (subscription,)).fetchone()
        return None if found is None else Entry(subscription, **json.loads(found[0]))

    def entries(self, *states: State) -> Iterator[Entry]:
        """All entries, or those in some states."""
        for subscription, entry in self._connection.execute("SELECT * FROM entries ORDER BY rowid").fetchall():
            found = Entry(subscription, **json.loads(entry))
            if not states or found.state in states:
                yield found

    def write(self, entry: Entry) -> None:
        """Store an entry instead of the subscription's old one; it is on disk when this returns."""
        data = {name: value for name, value in vars(entry).items() if name != "subscription"}
        self._connection.execute(
            "INSERT INTO entries VALUES (?, ?) ON CONFLICT (subscription) DO UPDATE SET entry = excluded.entry",
            (entry.subscription, json.dumps(data)),
        )


def _locked(path: Path) -> int:
    """The lock of a journal, held until it is closed; creates the file if missing."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    lock = os.open(path.with_suffix(".lock"), os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        raise RolloutError(f"another pricing rollout is using {path}; wait until it has ended") from None
    os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    return lock
