"""Rate limits: token buckets per account and mode, kept in the file, so several processes share them."""

from __future__ import annotations

from typing import Any, Final

from .errors import refuse
from .keys import Caller
from .store import Database, declare
from .v2 import STREAM_PATH

#: Requests a second (docs.stripe.com/rate-limits); the stream's 10,000 events a second are 100 full requests.
STRIPE: Final = {"test": 25, "live": 100, "live_meter_events": 1000, "live_meter_event_stream": 100}

EVENT_PATHS: Final = ("/v1/billing/meter_events", "/v2/billing/meter_events")

declare(
    """CREATE TABLE IF NOT EXISTS buckets (
        name TEXT PRIMARY KEY,
        tokens REAL NOT NULL,
        updated REAL NOT NULL
    ) WITHOUT ROWID"""
)


def _bucket(mode: str, path: str) -> str:
    """Which limit a request counts towards. Only live meter events have separate limits; test mode has one for all."""
    if mode == "live" and path in EVENT_PATHS:
        return "live_meter_events"
    if mode == "live" and path == STREAM_PATH:
        return "live_meter_event_stream"
    return mode


def check(database: Database, settings: dict[str, Any], who: Caller, path: str, now: float) -> None:
    """Take one token or raise Stripe's 429. `now` is the host's clock: a frozen sandbox clock must not stop the
    refill."""
    mode = "live" if who.livemode else "test"
    name = _bucket(mode, path)
    rate = settings["rate_limits"].get(name)
    if rate is None:
        return
    bucket = f"{who.account}:{name}"
    with database.writing() as connection:
        row = connection.execute("SELECT tokens, updated FROM buckets WHERE name = ?", (bucket,)).fetchone()
        tokens, updated = (float(rate), now) if row is None else row
        # A bucket holds one second's worth; a clock that was set back adds nothing.
        tokens = min(float(rate), tokens + max(now - updated, 0.0) * rate)
        allowed = tokens >= 1.0
        connection.execute(
            "INSERT INTO buckets VALUES (?, ?, ?) ON CONFLICT (name) DO UPDATE SET tokens = excluded.tokens,"
            " updated = excluded.updated",
            (bucket, tokens - 1.0 if allowed else tokens, now),
        )
    if not allowed:
        raise refuse(f"rate_limit_{mode}")
