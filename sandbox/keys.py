"""Whose request is it: API keys, their modes, and how wrong ones are answered."""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from typing import Any

from .errors import refuse
from .wire import Request

_KEY = re.compile(r"\A(sk|rk)_(test|live)_[0-9A-Za-z_]+\Z")


@dataclass(frozen=True)
class Caller:
    """An accepted key: its mode, the account it belongs to, what a restricted one may do (None is everything)."""

    key: str
    livemode: bool
    account: str
    allow: tuple[str, ...] | None = None

    @property
    def scope(self) -> str:
        """The part of the store that this caller sees."""
        return f"{self.account}:{'live' if self.livemode else 'test'}"


def given(request: Request) -> str | None:
    """The key of a request: a Bearer token, or the user name of Basic auth as `curl -u sk_test_...:` sends it."""
    header = request.header("authorization")
    if not header:
        return None
    kind, _, value = header.strip().partition(" ")
    value = value.strip()
    if kind.lower() == "bearer":
        return value or None
    if kind.lower() == "basic":
        try:
            return base64.b64decode(value, validate=True).decode("utf-8").partition(":")[0] or None
        except (binascii.Error, UnicodeDecodeError):
            return None
    return None


def redacted(key: str) -> str:
    """A key as Stripe shows it in an error: its prefix and its last four characters."""
    match = re.match(r"\A([a-z]{2}_(?:test|live)_)", key)
    head = match.group(1) if match else key[:3]
    rest = key[len(head) :]
    if len(rest) <= 4:
        return head + "*" * len(rest)
    return head + "*" * min(len(rest) - 4, 20) + rest[-4:]


def caller(request: Request, settings: dict[str, Any]) -> Caller:
    """The caller of a request, or the refusal that its key deserves."""
    key = given(request)
    if key is None:
        raise refuse("no_key")
    known = settings["keys"].get(key, {})
    status = known.get("status")
    if key.startswith("pk_"):
        raise refuse("publishable_key")
    match = _KEY.match(key)
    if match is None or status == "unknown":
        raise refuse("wrong_key", key=redacted(key))
    if status == "expired":
        raise refuse("expired_key", key=redacted(key))
    allow = tuple(known["allow"]) if status == "restricted" else None
    return Caller(key, match.group(2) == "live", known.get("account") or settings["account"], allow)


def check_permission(who: Caller, method: str, path: str) -> None:
    """Refuse what a restricted key may not do. `allow` holds rules such as `GET /v1/prices` or `* /v1/billing`."""
    if who.allow is None:
        return
    for rule in who.allow:
        verb, _, prefix = rule.partition(" ")
        prefix = prefix.rstrip("*").rstrip("/")
        if verb in ("*", method) and (path == prefix or path.startswith(prefix + "/")):
            return
    resource = path.removeprefix("/v1/").split("/")
    word = (resource[1] if resource[0] in ("billing", "test_helpers") and len(resource) > 1 else resource[0]).rstrip(
        "s"
    )
    access = "read" if method == "GET" else "write"
    raise refuse("restricted_key", key=redacted(who.key), account=who.account, permission=f"rak_{word}_{access}")
