"""Everything that `usage` raises: one tree, every message one line for the person who can act on it."""

from __future__ import annotations

__all__ = [  # noqa: RUF022 - in the order of the tree
    "UsageError", "InvalidEvent", "IdentifierConflict", "SpoolError", "SpoolMissing", "DestinationError",
    "StripeError", "AuthenticationFailed", "Unreachable", "NotStripe", "NotDelivered", "ImportFailed",
]  # fmt: skip


class UsageError(Exception):
    """Base of every error that `usage` raises on purpose."""

    maybe_done = False
    """Whether an attempt may have been carried out although no answer arrived."""

    def __str__(self) -> str:
        return redact(str(self.args[0])) if self.args else ""


class InvalidEvent(UsageError, ValueError):
    """A meter event that Stripe would refuse or bill wrongly. `field` names the invalid part."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(field, problem)
        self.field = field
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.field}: {self.problem}"


class IdentifierConflict(InvalidEvent):
    """The identifier was recorded before with other content; sending both would bill only one of them."""


class SpoolError(UsageError):
    """The spool file cannot be read or written: it is locked, damaged, not a spool, or the disk is full."""


class SpoolMissing(SpoolError):
    """There is no spool file at the path; only recording creates one."""


class DestinationError(UsageError):
    """The destination is missing, contradictory, not allowed, or cannot work; a retry would not help."""


class StripeError(UsageError):
    """Stripe (or the sandbox) refused a request for good."""

    def __init__(
        self, message: str, *, status: int = 0, code: str | None = None, request_id: str | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.request_id = request_id

    def __str__(self) -> str:
        request = f"request {self.request_id}" if self.request_id else ""
        details = ", ".join(filter(None, (f"HTTP {self.status}" if self.status else "", self.code, request)))
        return redact(f"{self.args[0]} ({details})" if details else str(self.args[0]))


class AuthenticationFailed(StripeError):
    """The key is missing, wrong, revoked, or lacks a permission; other events would fail the same way."""


class Unreachable(UsageError):
    """No usable answer before the deadline; unsent events stay in the spool."""

    def __init__(self, message: str, maybe_done: bool = False) -> None:
        super().__init__(message, maybe_done)
        self.maybe_done = maybe_done


class NotStripe(Unreachable):
    """The answer is not from Stripe's API but a proxy's page, a redirect, an empty body. Every event is kept."""


class NotDelivered(UsageError):
    """The event is recorded and safe, but not delivered yet. `identifier` names it."""

    def __init__(self, message: str, identifier: str) -> None:
        super().__init__(message, identifier)
        self.identifier = identifier


class ImportFailed(UsageError):
    """A file cannot be imported as asked. Rows recorded before the failure stay recorded."""


def redact(text: str) -> str:
    """Replace anything that looks like a Stripe key, a bearer token or a password in an address.

    Stripe's own messages show a key shortened, but a proxy's error page or an exception's text may not.
    """
    import re

    # keys and webhook secrets keep their prefix; a session token has none and only follows "Bearer"
    keys, tokens = r"\b((?:sk|rk|pk|whsec)_(?:(?:test|live|org)_)?)[A-Za-z0-9_*]{4,}", r"(Bearer )[^\s'\",]+"
    secret = f"{keys}|{tokens}|(://)[^\\s/@]+(?=@)"
    return re.sub(secret, lambda match: f"{match[1] or match[2] or match[3]}***", text, flags=re.I)
