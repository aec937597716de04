"""Authentication: API keys, their modes, and the answers to wrong ones."""

from __future__ import annotations

import base64
import binascii
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from .errors import refuse
from .wire import Request

_KEY = re.compile(r"\A(sk|rk)_(test|live)_[0-9A-Za-z_]+\Z")


#: The permission to read a key's own account, in Stripe's words.
READ_ACCOUNT: Final = "rak_accounts_kyc_basic_read"

#: The permission behind a path, without `_read` and `_write`: the longest prefix counts. The names are those in
#: Stripe's refusals and in https://docs.stripe.com/stripe-apps/reference/permissions (a price is still a plan); invoice
#: items, subscription items and schedules use the permission of the object that they belong to. The names for meter
#: events, test clocks and trial offers are not published: these follow the same pattern.
PERMISSIONS: Final[dict[str, str]] = json.loads((Path(__file__).parent / "data" / "permissions.json").read_bytes())


@dataclass(frozen=True)
class Caller:
    """An accepted key: its mode, the account it belongs to, and what a restricted one may do (None: everything)."""

    key: str
    livemode: bool
    account: str
    #: Rules such as `GET /v1/prices` or `* /v1/billing`.
    allow: tuple[str, ...] | None = None
    #: Stripe's names of the key's permissions, and of the only ones that it lacks.
    permissions: tuple[str, ...] | None = None
    lacks: tuple[str, ...] = ()

    @property
    def scope(self) -> str:
        """This caller's part of the store."""
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
    """The caller of a request; raises the refusal of its key."""
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
    account = known.get("account") or settings["account"]
    livemode = match.group(2) == "live"
    if status != "restricted":
        return Caller(key, livemode, account)
    allow, permissions = known.get("allow"), known.get("permissions")
    return Caller(
        key,
        livemode,
        account,
        None if allow is None else tuple(allow),
        None if permissions is None else tuple(permissions),
        tuple(known.get("lacks") or ()),
    )


def permission(method: str, path: str) -> str:
    """The permission that a request needs, by Stripe's name: `rak_plan_write` for `POST /v1/prices`."""
    found = max((prefix for prefix in PERMISSIONS if path.startswith(prefix)), key=len, default="")
    word = PERMISSIONS[found] if found else "rak_" + path.split("/")[2].rstrip("s")
    return f"{word}_{'read' if method == 'GET' else 'write'}"


def known_permissions() -> list[str]:
    """Every permission that `permissions` and `lacks` accept."""
    words = sorted(set(PERMISSIONS.values()) - {PERMISSIONS["/v1/account"]})
    return [READ_ACCOUNT, *(f"{word}_{access}" for word in words for access in ("read", "write"))]


def check_permission(who: Caller, method: str, path: str) -> None:
    """Refuse what a restricted key may not do with Stripe's 403."""
    if who.allow is None and who.permissions is None and not who.lacks:
        return
    needed = permission(method, path)
    if (
        (who.allow is None or _allowed(who.allow, method, path))
        # Permission to write includes reading.
        and (who.permissions is None or needed in who.permissions or _writing(needed) in who.permissions)
        and needed not in who.lacks
    ):
        return
    raise refuse("restricted_key", key=redacted(who.key), account=who.account, permission=needed)


def _allowed(rules: tuple[str, ...], method: str, path: str) -> bool:
    for rule in rules:
        verb, _, prefix = rule.partition(" ")
        prefix = prefix.rstrip("*").rstrip("/")
        if verb in ("*", method) and (path == prefix or path.startswith(prefix + "/")):
            return True
    return False


def _writing(permission: str) -> str:
    return permission.removesuffix("_read") + "_write"
