"""What differs under /v2: JSON errors in a different shape, and short-lived tokens for the meter event stream."""

from __future__ import annotations

from typing import Any, Final

from . import keys
from .errors import StripeError
from .store import Database, declare
from .wire import Request

STREAM_PATH: Final = "/v2/billing/meter_event_stream"
SESSION_SECONDS: Final = 15 * 60

declare(
    """CREATE TABLE IF NOT EXISTS meter_event_sessions (
        token TEXT PRIMARY KEY,
        id TEXT NOT NULL,
        account TEXT NOT NULL,
        livemode INTEGER NOT NULL,
        created INTEGER NOT NULL
    ) WITHOUT ROWID"""
)


def error_body(error: StripeError) -> dict[str, Any]:
    """A refusal in the shape of /v2: always with a code, with a type only if the error has its own."""
    otherwise = "internal_error" if error.status >= 500 else "invalid_fields"
    body: dict[str, Any] = {"code": error.code or _CODES.get(error.status, otherwise), "message": error.message}
    if error.type not in ("invalid_request_error", "api_error"):
        body["type"] = error.type
    body.update(error.extra)
    return {"error": body}


_CODES: Final = {401: "unauthorized", 403: "forbidden", 404: "not_found", 429: "rate_limit"}


def session_caller(database: Database, request: Request, now: int) -> keys.Caller:
    """The caller of a session token; an unknown token gets the same answer as an expired one."""
    token = keys.given(request) or ""
    with database.reading() as connection:
        row = connection.execute(
            "SELECT account, livemode, created FROM meter_event_sessions WHERE token = ?", (token,)
        ).fetchone()
    if row is None or now - row[2] >= SESSION_SECONDS:
        raise StripeError(
            401,
            "The meter event session has expired or does not exist: create another one.",
            code="billing_meter_event_session_expired",
            type="temporary_session_expired",
            stored=False,
        )
    return keys.Caller(token, bool(row[1]), row[0])
