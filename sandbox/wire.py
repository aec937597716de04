"""Input and output: `Request`, `Response`, objects, and the error for a broken connection."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

Obj = dict[str, Any]
"""A Stripe object as JSON; a stored one also has private fields, see `private.py`."""


@dataclass(frozen=True)
class Request:
    """One HTTP request. `url` is path plus query (`/v1/prices?limit=3`); header names are case-insensitive."""

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    def header(self, name: str) -> str | None:
        """The value of a header; `name` is lower case, however the client spells it."""
        return self._lower.get(name)

    @cached_property
    def _lower(self) -> dict[str, str]:
        return {name.lower(): value for name, value in self.headers.items()}


@dataclass(frozen=True)
class Response:
    """One HTTP answer; header names are lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class ConnectionDropped(Exception):
    """A fault broke the connection. `partial` is what the client still received: nothing, or half an answer."""

    def __init__(self, message: str, partial: Response | None = None) -> None:
        super().__init__(message)
        self.partial = partial


class SandboxFileError(Exception):
    """The sandbox's file cannot be used; the message names the file and says what to do."""
