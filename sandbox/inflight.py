"""One at a time: requests that Stripe refuses with 409 while another of the same kind is under way.

Within a process a set is enough. Between processes a row is committed before the work starts and taken away after it;
a row of a killed process is ignored once it is older than any client waits.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Final

from .errors import StripeError
from .store import Database, declare

declare(
    """CREATE TABLE IF NOT EXISTS in_flight (
        scope TEXT NOT NULL,
        name TEXT NOT NULL,
        since REAL NOT NULL,
        PRIMARY KEY (scope, name)
    ) WITHOUT ROWID"""
)

#: stripe-python waits 80 seconds for an answer.
STALE_SECONDS: Final = 90.0

_lock = threading.Lock()
_held: set[tuple[str, str, str]] = set()


@dataclass(frozen=True)
class Claim:
    """What must be alone: its name, the refusal for whoever comes second, whether other processes must see it."""

    name: str
    refusal: Callable[[], StripeError]
    shared: bool


@contextmanager
def held(database: Database, scope: str, claims: Sequence[Claim]) -> Iterator[None]:
    """Hold claims while the block runs, or raise the refusal of the first that is taken."""
    with ExitStack() as stack:
        for claim in claims:
            stack.enter_context(_held_one(database, scope, claim))
        yield


@contextmanager
def _held_one(database: Database, scope: str, claim: Claim) -> Iterator[None]:
    entry = (str(database.path), scope, claim.name)
    with _lock:
        if entry in _held:
            raise claim.refusal()
        _held.add(entry)
    try:
        if not claim.shared:
            yield
            return
        _claim_row(database, scope, claim)
        try:
            yield
        finally:
            with database.writing() as connection:
                connection.execute("DELETE FROM in_flight WHERE scope = ? AND name = ?", (scope, claim.name))
    finally:
        with _lock:
            _held.discard(entry)


def _claim_row(database: Database, scope: str, claim: Claim) -> None:
    now = time.time()
    with database.writing() as connection:
        taken = connection.execute(
            "INSERT INTO in_flight VALUES (?, ?, ?) ON CONFLICT (scope, name) DO UPDATE SET since = excluded.since"
            " WHERE in_flight.since < ?",
            (scope, claim.name, now, now - STALE_SECONDS),
        ).rowcount
    if taken == 0:
        raise claim.refusal()
