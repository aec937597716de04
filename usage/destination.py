"""Where meter events go, never guessed: a key means Stripe, STRIPE_MODE=sandbox the sandbox, neither is an error."""

from __future__ import annotations

import os

from .errors import DestinationError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

STRIPE_API = "https://api.stripe.com"
STRIPE_METER_EVENTS = "https://meter-events.stripe.com"
SANDBOX_FILE = ".stripe-sandbox/stripe.db"
SANDBOX_KEY = "sk_test_sandbox"

MODES = ("sandbox", "test", "live", "off")


class Destination:
    """A resolved answer to "where": mode, key and addresses. Its repr and label never show the key."""

    __slots__ = ("_api_key", "api_base", "meter_events_base", "mode", "sandbox_file")

    def __init__(
        self, mode: str, api_key: str, api_base: str | None, meter_events_base: str | None, sandbox_file: str | None
    ) -> None:
        self.mode = mode  # `sandbox`, `test`, `live`, or `off`: nothing is recorded (for tests)
        self._api_key = api_key
        self.api_base = api_base  # without a trailing slash; None is the embedded sandbox
        self.meter_events_base = meter_events_base
        self.sandbox_file = sandbox_file  # of the embedded sandbox; None when there is an address

    @property
    def api_key(self) -> str:
        return self._api_key

    @property
    def sandbox(self) -> bool:
        """True when nothing sent here can ever bill anybody."""
        return self.mode == "sandbox"

    @property
    def identity(self) -> str:
        """What an event is bound to: a sandbox by its file or address, Stripe by mode and a fingerprint of the key.

        Which keys belong to one account is only known once Stripe has been asked (`Spool.learn_account`).
        """
        if self.mode == "sandbox":
            return f"sandbox:{self.api_base or os.path.abspath(self.sandbox_file or SANDBOX_FILE)}"
        from .events import digest_of

        return f"{self.mode}:key-{digest_of('key', self._api_key, self.api_base or '')[:12]}"

    @property
    def label(self) -> str:
        """Where, in words, for every output."""
        if self.mode == "off":
            return "nowhere: STRIPE_MODE=off records nothing"
        if self.mode == "sandbox":
            return f"SANDBOX ({self.api_base or self.sandbox_file}): no real customer is billed"
        words = f"Stripe, {self.mode} mode"
        return words if self.api_base == STRIPE_API else f"{words}, through {self.api_base}"

    def __repr__(self) -> str:
        return f"Destination({self.label!r})"


def resolve(
    *,
    mode: str | None = None,
    api_key: str | None = None,
    api_base: str | None = None,
    sandbox_file: str | None = None,
    environment: Mapping[str, str] | None = None,
) -> Destination:
    """The destination that the arguments, then the environment, ask for.

    STRIPE_API_KEY is Stripe; a live key also needs `mode="live"`, `--live` or STRIPE_MODE=live, so that no script bills
    real customers by surprise. STRIPE_MODE=sandbox is the sandbox: embedded in STRIPE_SANDBOX_FILE, or served at
    STRIPE_API_BASE. STRIPE_MODE=off records nothing, whatever else is set. Raises DestinationError with what is missing
    or contradictory.
    """
    env = os.environ if environment is None else environment
    wanted = mode or (None if api_key else env.get("STRIPE_MODE")) or None
    if wanted is not None and wanted not in MODES:
        raise DestinationError(f"the mode {wanted!r} is none of {', '.join(MODES)} (see STRIPE_MODE)")
    if wanted == "off":
        return Destination("off", "", None, None, None)
    base = _checked_base(api_base or env.get("STRIPE_API_BASE") or None)
    key = api_key or env.get("STRIPE_API_KEY") or None
    if wanted == "sandbox":
        if key is not None and key != SANDBOX_KEY:
            both = "both a Stripe key and sandbox mode are set (STRIPE_API_KEY and STRIPE_MODE=sandbox)"
            raise DestinationError(f"{both}; unset one of them, so that it is certain where usage goes")
        if base is not None:
            if base in (STRIPE_API, STRIPE_METER_EVENTS):
                raise DestinationError("STRIPE_MODE=sandbox and STRIPE_API_BASE is Stripe itself; unset one of them")
            return Destination("sandbox", SANDBOX_KEY, base, base, None)
        path = sandbox_file or env.get("STRIPE_SANDBOX_FILE") or SANDBOX_FILE
        return Destination("sandbox", SANDBOX_KEY, None, None, path)
    if key is None:
        ways = "STRIPE_API_KEY to deliver to Stripe, or STRIPE_MODE=sandbox to deliver to the local sandbox"
        raise DestinationError(f"nothing says where usage goes: set {ways}")
    return _stripe(wanted, key, base)


def _stripe(wanted: str | None, key: str, base: str | None) -> Destination:
    prefix, _, rest = key.partition("_")
    of_key = rest.partition("_")[0]
    strange = not key.isascii() or not key.isprintable() or " " in key
    asked = f" (the mode asked for is {wanted})" if wanted is not None else ""
    by_name = f'ask for that by name: mode="live", --live or STRIPE_MODE=live{asked}'
    for wrong, why in (
        (strange, "has spaces, line breaks or characters that no Stripe key has"),
        (prefix == "pk", "is a publishable key (pk_...); usage needs a secret or restricted key"),
        (
            prefix not in ("sk", "rk") or of_key not in ("test", "live"),
            "is not a secret key (sk_test_..., rk_test_..., sk_live_... or rk_live_...)",
        ),
        (of_key == "live" and wanted != "live", f"is a live key, and real customers would be billed; {by_name}"),
        (of_key == "test" and wanted == "live", "is a test key, and live mode is asked for; nothing would be billed"),
    ):
        if wrong:
            raise DestinationError(f"STRIPE_API_KEY {why}")
    if base is None or base == STRIPE_API:
        return Destination(of_key, key, STRIPE_API, STRIPE_METER_EVENTS, None)
    return Destination(of_key, key, base, base, None)


def _checked_base(base: str | None) -> str | None:
    if base is None:
        return None
    from urllib.parse import urlsplit

    try:
        parts = urlsplit(base)
        parts.port  # noqa: B018 - raises where it is no port
    except ValueError as problem:
        raise DestinationError(f"STRIPE_API_BASE {base!r} is not an address: {problem}") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment or parts.username:
        raise DestinationError("STRIPE_API_BASE must be an address like http://127.0.0.1:12111, without user or query")
    if parts.scheme == "http" and parts.hostname not in ("localhost", "127.0.0.1", "::1"):
        raise DestinationError(f"STRIPE_API_BASE {base!r} would send the key unencrypted; use https")
    return base.rstrip("/")
