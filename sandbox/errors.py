"""The sandbox's refusals: one table of texts (`data/answers.json`), each with the evidence for it.

`recorded`: seen in a real exchange with Stripe's test mode. `reported`: quoted by several public projects or issues.
`documented`: Stripe's documentation has these words, or nearly. `unrecorded`: no published source has Stripe's words,
so the words are ours; match on status, type, code and param, never on these texts.

Raise one with `raise refuse("no_such", kind="price", id="price_x", param="price")`. Texts exist only in that table;
`docs/sandbox.md` lists the unrecorded ones from it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

RECORDED: Final = "recorded"
REPORTED: Final = "reported"
DOCUMENTED: Final = "documented"
UNRECORDED: Final = "unrecorded"


class StripeError(Exception):
    """An error answer. `stored`: whether an idempotency key replays it."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        type: str = "invalid_request_error",
        headers: Mapping[str, str] | None = None,
        stored: bool = True,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.param = param
        self.type = type
        self.headers: dict[str, str] = dict(headers or {})
        self.stored = stored
        self.extra: dict[str, Any] = dict(extra or {})

    def body(self) -> dict[str, Any]:
        """The JSON body in Stripe's v1 shape; it has a `doc_url` whenever it has a `code`."""
        error: dict[str, Any] = {"message": self.message, "type": self.type}
        if self.code is not None:
            error["code"] = self.code
            error["doc_url"] = "https://stripe.com/docs/error-codes/" + self.code.replace("_", "-")
        if self.param is not None:
            error["param"] = self.param
        error.update(self.extra)
        return {"error": error}


@dataclass(frozen=True)
class Answer:
    """One row of the table: the text is a `str.format` template."""

    message: str
    evidence: str
    status: int = 400
    type: str = "invalid_request_error"
    code: str | None = None
    param: str | None = None
    #: Why the bank declines.
    decline_code: str | None = None
    #: False for what Stripe refuses before an endpoint starts: an idempotency key does not replay it.
    stored: bool = True
    headers: Mapping[str, str] = field(default_factory=dict)


def _answers() -> dict[str, Answer]:
    """The rows of `data/answers.json`, grouped there by subject; `Answer` has the defaults of omitted fields."""
    by_subject = json.loads((Path(__file__).parent / "data" / "answers.json").read_bytes())
    return {name: Answer(**row) for rows in by_subject.values() for name, row in rows.items()}


ANSWERS: Final[dict[str, Answer]] = _answers()


def within(prefix: str, name: str) -> str:
    """A parameter's name in an error, nested or not: `subscription_details[items]`, `items`."""
    return f"{prefix}[{name}]" if prefix else name


def refuse(
    name: str, /, *, status: int | None = None, param: str | None = None, stored: bool | None = None, **values: object
) -> StripeError:
    """The error for a row of the table, with its template filled in; raise the result."""
    row = ANSWERS[name]
    shown = param if param is not None else row.param
    if shown is not None and param is None:
        shown = shown.format(**values)
    return StripeError(
        status if status is not None else row.status,
        row.message.format(param=shown, **values),
        code=row.code,
        param=shown,
        type=row.type,
        headers=dict(row.headers),
        stored=row.stored if stored is None else stored,
        extra=None if row.decline_code is None else {"decline_code": row.decline_code},
    )
