"""The settings of `/_sandbox/`, kept in the file for all its processes: clock, lag, limits, keys, faults."""

from __future__ import annotations

import json
import sqlite3
from typing import Any, Final

from .store import mint

Settings = dict[str, Any]

DEFAULTS: Final[Settings] = {
    # Seconds added to the host's clock, or Unix seconds at which time stands still.
    "clock_offset": 0,
    "clock_frozen": None,
    # Seconds until a meter event is validated and visible to summaries and previews.
    "lag": 0.0,
    # Requests a second; a name of `limits.STRIPE` that is missing here has no limit.
    "rate_limits": {},
    # Keys with special treatment: key -> {"status": "expired" | "unknown" | "restricted", ...}.
    "keys": {},
    # Faults to apply to requests; the first match wins.
    "faults": [],
    # Whether requests are written to the log.
    "log": True,
}

_seen: tuple[str, Settings] = ("", {})


def read(connection: sqlite3.Connection) -> Settings:
    """The current settings; do not change the result."""
    global _seen
    row = connection.execute("SELECT value FROM settings WHERE name = 'control'").fetchone()
    assert row is not None, "a sandbox creates its settings before it answers"
    text, parsed = _seen
    if text != row[0]:
        parsed = {**DEFAULTS, **json.loads(row[0])}
        _seen = (row[0], parsed)
    return parsed


def write(connection: sqlite3.Connection, settings: Settings) -> None:
    """Replace the settings."""
    connection.execute(
        "INSERT INTO settings (name, value) VALUES ('control', ?)"
        " ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        (json.dumps(settings),),
    )


def made(connection: sqlite3.Connection) -> bool:
    """Whether the file has its settings."""
    return connection.execute("SELECT 1 FROM settings WHERE name = 'control'").fetchone() is not None


def first(connection: sqlite3.Connection) -> None:
    """Give a new file its settings and its account id."""
    if not made(connection):
        write(connection, {**DEFAULTS, "account": mint("acct_1", 15)})
