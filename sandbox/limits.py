"""Rate limits: a token bucket per account and mode, kept in the file so that several processes share it."""

from __future__ import annotations

from typing import Any

from .errors import refuse
from .keys import Caller
from .store import Database, declare

declare(
    """CREATE TABLE IF NOT EXISTS buckets (
        scope TEXT PRIMARY KEY,
        tokens REAL NOT NULL,
        updated REAL NOT NULL
    ) WITHOUT ROWID"""
)


class Limiter:
    """Lets a request through or raises Stripe's 429."""

    def check(self, database: Database, settings: dict[str, Any], who: Caller, now: float) -> None:
        """Take one token. `now` is the host's clock: a frozen sandbox clock must not stop the refill."""
        mode = "live" if who.livemode else "test"
        rate = settings["rate_limits"].get(mode)
        if rate is None:
            return
        with database.writing() as connection:
            row = connection.execute("SELECT tokens, updated FROM buckets WHERE scope = ?", (who.scope,)).fetchone()
            tokens, updated = (float(rate), now) if row is None else row
            # A bucket holds one second's worth; a clock that was set back refills nothing.
            tokens = min(float(rate), tokens + max(now - updated, 0.0) * rate)
            allowed = tokens >= 1.0
            connection.execute(
                "INSERT INTO buckets VALUES (?, ?, ?) ON CONFLICT (scope) DO UPDATE SET tokens = excluded.tokens,"
                " updated = excluded.updated",
                (who.scope, tokens - 1.0 if allowed else tokens, now),
            )
        if not allowed:
            raise refuse(f"rate_limit_{mode}")
