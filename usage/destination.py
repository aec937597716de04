"""Where meter events go, without guessing: a key means Stripe, STRIPE_MODE=sandbox the sandbox, neither is an error."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from .errors import DestinationError
from .events import digest_of

STRIPE_API = "https://api.stripe.com"
STRIPE_METER_EVENTS = "https://meter-events.stripe.com"
SANDBOX_FILE = ".stripe-sandbox/stripe.db"
SANDBOX_KEY = "sk_test_sandbox"

MODES = ("sandbox", "test", "live", "off")


@dataclass(frozen=True)
class Destination:
    """A resolved destination. Its repr and label never show the key.

    mode: "sandbox", "test", "live", or "off" (nothing is recorded; for tests). api_base: without a trailing slash; None
    is the embedded sandbox, whose file is `sandbox_file`.
    """

    mode: str
    api_key: str = field(default="", repr=False)
    api_base: str | None = None
    sandbox_file: str = ""

    @property
    def sandbox(self) -> bool:
        """Whether nothing that is sent there can bill a real customer."""
        return self.mode == "sandbox"

    @property
    def meter_events_base(self) -> str | None:
        """The address of the stream: at Stripe itself, another host."""
        return STRIPE_METER_EVENTS if self.api_base == STRIPE_API else self.api_base

    @property
    def identity(self) -> str:
        """The identity that an event is bound to: a sandbox's file or address, or Stripe's mode and a key fingerprint.

        Only Stripe can tell which keys belong to one account (`Spool.learn_account`).
        """
        if self.sandbox:
            return f"sandbox:{self.api_base or os.path.abspath(self.sandbox_file)}"
        return f"{self.mode}:key-{digest_of('key', self.api_key, self.api_base or '')[:12]}"

    @property
    def label(self) -> str:
        """The destination in words, for every output."""
        if self.mode == "off":
            return "nowhere: STRIPE_MODE=off records nothing"
        if self.sandbox:
            return f"SANDBOX ({self.api_base or self.sandbox_file}): no real customer is billed"
        words = f"Stripe, {self.mode} mode"
        return words if self.api_base == STRIPE_API else f"{words}, through {self.api_base}"


def resolve(
    *,
    mode: str | None = None,
    api_key: str | None = None,
    api_base: str | None = None,
    sandbox_file: str | None = None,
    environment: Mapping[str, str] = os.environ,
) -> Destination:
    """The destination from the arguments, else from the environment.

    STRIPE_API_KEY means Stripe; a live key also needs `mode="live"`, `--live` or STRIPE_MODE=live, so no script bills
    real customers by surprise. STRIPE_MODE=sandbox means the sandbox: embedded in STRIPE_SANDBOX_FILE, or served at
    STRIPE_API_BASE. STRIPE_MODE=off records nothing, whatever else is set. Raises DestinationError for missing or
    contradictory settings.
    """
    wanted = mode or (None if api_key else environment.get("STRIPE_MODE")) or None
    if wanted is not None and wanted not in MODES:
        raise DestinationError(f"the mode {wanted!r} is none of {', '.join(MODES)} (see STRIPE_MODE)")
    if wanted == "off":
        return Destination("off")
    base = _checked_base(api_base or environment.get("STRIPE_API_BASE") or None)
    key = api_key or environment.get("STRIPE_API_KEY") or None
    if wanted == "sandbox":
        if key not in (None, SANDBOX_KEY):
            both = "both a Stripe key and sandbox mode are set (STRIPE_API_KEY and STRIPE_MODE=sandbox)"
            raise DestinationError(f"{both}; unset one of them to make clear where usage goes")
        if base in (STRIPE_API, STRIPE_METER_EVENTS):
            raise DestinationError("STRIPE_MODE=sandbox, but STRIPE_API_BASE is Stripe itself; unset one of them")
        path = sandbox_file or environment.get("STRIPE_SANDBOX_FILE") or SANDBOX_FILE
        return Destination("sandbox", SANDBOX_KEY, base, path)
    if key is None:
        ways = "STRIPE_API_KEY to deliver to Stripe, or STRIPE_MODE=sandbox to deliver to the local sandbox"
        raise DestinationError(f"nothing says where usage goes: set {ways}")
    return Destination(_mode_of(key, wanted), key, base or STRIPE_API)


def _mode_of(key: str, wanted: str | None) -> str:
    """ "test" or "live", as a key says and `wanted` allows. Raises DestinationError."""
    prefix, _, rest = key.partition("_")
    mode = rest.partition("_")[0]
    asked = f" (the mode is {wanted})" if wanted is not None else ""
    by_name = f'to allow that, set mode="live", --live or STRIPE_MODE=live{asked}'
    forms = "sk_test_..., rk_test_..., sk_live_... or rk_live_..."
    strange = not key.isascii() or not key.isprintable() or " " in key
    for wrong, why in (
        (strange, "has spaces, line breaks or characters that no Stripe key has"),
        (prefix == "pk", "is a publishable key (pk_...); usage needs a secret or restricted key"),
        (prefix not in ("sk", "rk") or mode not in ("test", "live"), f"is not a secret key ({forms})"),
        (mode == "live" and wanted != "live", f"is a live key and would bill real customers; {by_name}"),
        (mode == "test" and wanted == "live", "is a test key, but the mode is live; nothing would be billed"),
    ):
        if wrong:
            raise DestinationError(f"STRIPE_API_KEY {why}")
    return mode


def _checked_base(base: str | None) -> str | None:
    if base is None:
        return None
    try:
        parts = urlsplit(base)
        parts.port  # noqa: B018 - raises for an invalid port
    except ValueError as problem:
        raise DestinationError(f"STRIPE_API_BASE {base!r} is not an address: {problem}") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment or parts.username:
        raise DestinationError("STRIPE_API_BASE must be an address like http://127.0.0.1:12111, without user or query")
    if parts.scheme == "http" and parts.hostname not in ("localhost", "127.0.0.1", "::1"):
        raise DestinationError(f"STRIPE_API_BASE {base!r} would send the key unencrypted; use https")
    return base.rstrip("/")
