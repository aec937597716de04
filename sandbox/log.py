"""The request log: the newest few thousand requests and their outcomes, with keys redacted."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from .store import declare
from .wire import Request, Response

declare(
    """CREATE TABLE IF NOT EXISTS request_log (
        seq INTEGER PRIMARY KEY,
        created INTEGER NOT NULL,
        request_id TEXT NOT NULL,
        mode TEXT NOT NULL,
        key TEXT NOT NULL,
        method TEXT NOT NULL,
        url TEXT NOT NULL,
        idempotency_key TEXT,
        version TEXT,
        body BLOB NOT NULL,
        truncated INTEGER NOT NULL,
        status INTEGER NOT NULL,
        replayed INTEGER NOT NULL,
        fault TEXT,
        error TEXT
    )"""
)

#: The number of the newest line. AUTOINCREMENT would keep it too, but write one more page for every request.
_LAST: Final = (
    "COALESCE((SELECT MAX(seq) FROM request_log),"
    " (SELECT CAST(value AS INTEGER) FROM settings WHERE name = 'log_emptied'), 0)"
)

#: The log keeps this many requests, and at most this much of each body.
KEEP: Final = 10_000
BODY_BYTES: Final = 8_192


@dataclass
class Entry:
    """A request for the log, filled in while the request is handled."""

    request: Request
    request_id: str
    livemode: bool = False
    #: Redacted.
    key: str = ""
    replayed: bool = False
    fault: str | None = None


def record(connection: sqlite3.Connection, entry: Entry, response: Response, now: int) -> None:
    """Write one line, and now and then delete the oldest."""
    request = entry.request
    error: str | None = None
    if response.status >= 400:
        error = response.body[:2000].decode("utf-8", "replace")
    cursor = connection.execute(
        "INSERT INTO request_log (seq, created, request_id, mode, key, method, url, idempotency_key, version, body,"
        f" truncated, status, replayed, fault, error) VALUES ({_LAST} + 1, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            now,
            entry.request_id,
            "live" if entry.livemode else "test",
            entry.key,
            request.method,
            request.url.encode("utf-8", "replace").decode("utf-8"),
            request.header("idempotency-key"),
            request.header("stripe-version"),
            request.body[:BODY_BYTES],
            len(request.body) > BODY_BYTES,
            response.status,
            entry.replayed,
            entry.fault,
            error,
        ),
    )
    seq = cursor.lastrowid or 0
    if seq % 1000 == 0:
        connection.execute("DELETE FROM request_log WHERE seq <= ?", (seq - KEEP,))


def empty(connection: sqlite3.Connection, rest: Callable[[], None] = lambda: None) -> None:
    """Delete all lines, and do the `rest` of emptying the file; numbering continues, so `after` stays valid."""
    last = connection.execute(f"SELECT {_LAST}").fetchone()[0]
    connection.execute("DELETE FROM request_log")
    rest()
    connection.execute("INSERT OR REPLACE INTO settings VALUES ('log_emptied', ?)", (last,))


def read(connection: sqlite3.Connection, after: int, limit: int) -> list[dict[str, Any]]:
    """Lines after a sequence number, oldest first; `error` is the error object of the answer."""
    columns = (
        "seq, created, request_id, mode, key, method, url, idempotency_key, version, body, truncated, status, replayed,"
        " fault, error"
    )
    lines = []
    for row in connection.execute(
        f"SELECT {columns} FROM request_log WHERE seq > ? ORDER BY seq LIMIT ?", (after, limit)
    ):
        line = dict(zip(columns.replace(" ", "").split(","), row, strict=True))
        line["body"] = line["body"].decode("utf-8", "replace")
        line["truncated"], line["replayed"] = bool(line["truncated"]), bool(line["replayed"])
        line["error"] = _error(line["error"])
        lines.append(line)
    return lines


def _error(text: str | None) -> Any:
    if text is None:
        return None
    try:
        return json.loads(text).get("error")
    except (ValueError, AttributeError):
        return text
