"""Idempotency keys: stored answers of endpoints that had begun to work, for 24 hours.

https://docs.stripe.com/api/idempotent_requests
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any, Final

from .errors import refuse
from .store import Store, declare

declare(
    """CREATE TABLE IF NOT EXISTS idempotency (
        scope TEXT NOT NULL,
        key TEXT NOT NULL,
        operation TEXT NOT NULL,
        digest BLOB NOT NULL,
        status INTEGER NOT NULL,
        body BLOB NOT NULL,
        request_id TEXT NOT NULL,
        created INTEGER NOT NULL,
        PRIMARY KEY (scope, key)
    )"""
)

#: Stripe keeps the result of an idempotent request for at least this long; the sandbox for exactly this long.
SECONDS: Final = 24 * 3600
LONGEST: Final = 255


@dataclass(frozen=True)
class Remembered:
    """A stored answer."""

    status: int
    body: bytes
    request_id: str


@dataclass(frozen=True)
class Key:
    """A key with its request: `operation` such as `POST /v1/prices`, and the `digest` of its parameters."""

    name: str
    operation: str
    digest: bytes

    @classmethod
    def of(cls, name: str, operation: str, body: bytes, raw: dict[str, Any], *, v2: bool) -> Key:
        """The key of a request. A form in another order is the same request; a JSON body in another order is not."""
        if len(name) > LONGEST:
            raise refuse("idempotency_long", length=len(name))
        same = body if v2 else json.dumps(raw, sort_keys=True).encode()
        return cls(name, operation, hashlib.sha256(same).digest())

    def answer(self, store: Store, now: int) -> Remembered | None:
        """The stored answer to the same request; refuses a different request with this key."""
        where = (store.scope, self.name)
        sql = "SELECT operation, digest, status, body, request_id, created FROM idempotency WHERE scope = ? AND key = ?"
        row = store.connection.execute(sql, where).fetchone()
        if row is None:
            return None
        operation, digest, status, body, request_id, created = row
        if now - created > SECONDS:
            store.connection.execute("DELETE FROM idempotency WHERE scope = ? AND key = ?", where)
            return None
        if operation != self.operation:
            raise refuse("idempotency_endpoint", path=operation.partition(" ")[2], key=self.name)
        if digest != self.digest:
            raise refuse("idempotency_params", key=self.name)
        return Remembered(status, body, request_id)

    def remember(self, store: Store, answer: Remembered, now: int) -> None:
        """Store an answer."""
        values = (self.operation, self.digest, answer.status, answer.body, answer.request_id, now)
        store.connection.execute(
            "INSERT OR REPLACE INTO idempotency VALUES (?, ?, ?, ?, ?, ?, ?, ?)", (store.scope, self.name, *values)
        )
