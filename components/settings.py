"""`Settings`, from stack config and environment: where Stripe is, in which mode, and with which key.

The program reads Pulumi's config, and a provider reads what `configure()` gets. Both go through `StackConfig`, so the
rules and messages are the same.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Final, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, SecretStr

from components.redaction import redact, remember

Mode = Literal["sandbox", "test", "live"]
_WHOLE_KEY: Final = re.compile(r"(?:sk|rk)_(?:test|live)_[A-Za-z0-9_]+")
#: Looks up a key of the stack's config; None if it is not set.
Get = Callable[[str], str | None]

#: The namespace of our settings in a stack's config, whatever the project is called.
NAMESPACE: Final = "stripe-pricing"
#: The former namespace: the registry's Stripe provider refuses keys there that it does not know.
OLD_NAMESPACE: Final = "stripe"
#: The settings that earlier versions read from there.
OLD_NAMES: Final = (
    "mode",
    "apiKey",
    "apiBase",
    "account",
    "sandboxFile",
    "requestsPerSecond",
    "retrySeconds",
    "timeoutSeconds",
)

#: The key for the sandbox; it is worthless anywhere else.
SANDBOX_KEY = "sk_test_sandbox"
DEFAULT_SANDBOX_FILE = ".stripe-sandbox/stripe.db"
#: Requests a second that Stripe allows an account, by mode (https://docs.stripe.com/rate-limits).
#: A served sandbox has the limit of Stripe's test mode; an embedded one has none.
REQUESTS_PER_SECOND: Mapping[Mode, float] = {"sandbox": 25.0, "test": 25.0, "live": 100.0}
#: How long to retry one call before it fails. Outages of Stripe last longer; an `up` can be run again.
RETRY_SECONDS: Final = 90.0
#: How long to wait for one answer; stripe-python's own default.
TIMEOUT_SECONDS: Final = 80.0


class SettingsError(ValueError):
    """A setting is missing or invalid; the message is one line that names it, without any key."""

    def __init__(self, message: str) -> None:
        super().__init__(redact(message))


@dataclass(frozen=True)
class StackConfig:
    """Our settings in a stack's config, including those under the old namespace `stripe:`.

    `stripe:apiKey` may belong to the registry's provider. It is read if `stripe-pricing:apiKey` is not set, and it
    conflicts with that only if the stack has other settings of ours under `stripe:`.

    Attributes:
        get: looks up a key with its namespace, such as `stripe-pricing:mode`; None if it is not set.
        is_secret: whether that key is encrypted. Pulumi tells a program, but not a provider.
    """

    get: Get
    is_secret: Callable[[str], bool] = field(default=lambda key: True)

    def __call__(self, name: str) -> str | None:
        """The setting `name`, such as `mode`.

        Raises:
            SettingsError: the two namespaces have different values, or a live key is not encrypted.
        """
        ours = self.get(f"{NAMESPACE}:{name}")
        old = self.get(f"{OLD_NAMESPACE}:{name}") if name in OLD_NAMES else None
        if ours and old and old != ours and (name != "apiKey" or self._old_is_ours):
            raise SettingsError(
                f"{NAMESPACE}:{name} and {OLD_NAMESPACE}:{name}, its old name, are both set, to different values: "
                f"keep one of them (pulumi config rm {OLD_NAMESPACE}:{name})"
            )
        key = f"{NAMESPACE if ours else OLD_NAMESPACE}:{name}"
        if name == "apiKey" and key_mode(ours or old or "") == "live" and not self.is_secret(key):
            raise SettingsError(
                f"{key} is a live key that is not encrypted, so every copy of the stack's config and state shows it: "
                f"roll the key in Stripe's dashboard, then run pulumi config set --secret {NAMESPACE}:apiKey "
                "with the new one"
            )
        return ours or old

    @property
    def hint(self) -> str | None:
        """What to say about settings under their old names; None if there are none."""
        old = [
            name for name in OLD_NAMES if self.get(f"{OLD_NAMESPACE}:{name}") and not self.get(f"{NAMESPACE}:{name}")
        ]
        if not old:
            return None
        names = ", ".join(f"{OLD_NAMESPACE}:{name}" for name in old)
        return f"the settings of this project are called {NAMESPACE}:... now; rename in the stack's config: {names}"

    @property
    def _old_is_ours(self) -> bool:
        return any(self.get(f"{OLD_NAMESPACE}:{name}") for name in OLD_NAMES if name != "apiKey")


def offers(get: Get) -> Mapping[str, int]:
    """Which version of each plan a stack offers, as `stripe-pricing:offers` says: `{alpaca-ai: 2}`.

    Raises:
        SettingsError: it does not map plans to the numbers of versions.
    """
    value = get("offers")
    if not value:
        return {}
    try:
        found = json.loads(value)
    except ValueError:
        found = None
    if not isinstance(found, dict) or not all(type(number) is int for number in found.values()):
        raise SettingsError(
            f"{NAMESPACE}:offers is {value}; it must map plans to the numbers of their versions: {{alpaca-ai: 2}}"
        )
    return found


class Settings(BaseModel):
    """Where Stripe is for one stack.

    `api_key` is None where there is none yet: a preview needs no key. `require_key` is for whoever is
    about to send the first request.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    mode: Mode
    api_key: SecretStr | None
    key_is_configured: bool = False
    api_base: str | None
    sandbox_file: Path
    account: str | None = None
    allow_local_state: bool = False
    allow_empty_passphrase: bool = False
    requests_per_second: float | None
    retry_seconds: float = RETRY_SECONDS
    timeout_seconds: float = TIMEOUT_SECONDS

    @classmethod
    def read(cls, get: Get, environ: Mapping[str, str]) -> Settings:
        """Build settings from stack config and environment.

        `get("mode")` returns the stack's `stripe-pricing:mode`, or None (`StackConfig` is such a function). Stack
        config wins over the environment.

        Raises:
            SettingsError: a value is invalid, or the key is not for the stack's mode.
        """
        mode = _mode(get("mode"))
        return cls(
            mode=mode,
            key_is_configured=mode != "sandbox" and bool(get("apiKey")),
            api_key=_key(mode, get("apiKey"), environ.get("STRIPE_API_KEY")),
            api_base=_address(mode, get("apiBase") or environ.get("STRIPE_API_BASE")),
            sandbox_file=Path(get("sandboxFile") or environ.get("STRIPE_SANDBOX_FILE") or DEFAULT_SANDBOX_FILE),
            account=_account(get("account")),
            allow_local_state=_yes("allowLocalState", get("allowLocalState")),
            allow_empty_passphrase=_yes("allowEmptyPassphrase", get("allowEmptyPassphrase")),
            requests_per_second=_number("requestsPerSecond", get("requestsPerSecond"), 25),
            retry_seconds=_number("retrySeconds", get("retrySeconds"), 90) or RETRY_SECONDS,
            timeout_seconds=_number("timeoutSeconds", get("timeoutSeconds"), 80) or TIMEOUT_SECONDS,
        )

    @property
    def embedded(self) -> bool:
        """Whether Stripe is the sandbox inside this process."""
        return self.mode == "sandbox" and self.api_base is None

    @property
    def rate(self) -> float | None:
        """The limit of requests a second; None for no limit (the embedded sandbox, unless configured)."""
        if self.requests_per_second is not None:
            return self.requests_per_second
        return None if self.embedded else REQUESTS_PER_SECOND[self.mode]

    def require_key(self) -> str:
        """The key to call Stripe with.

        Raises:
            SettingsError: there is none, and this stack needs one.
        """
        if self.api_key is not None:
            return self.api_key.get_secret_value()
        prefix = "sk_live_" if self.mode == "live" else "sk_test_"
        raise SettingsError(
            f"stripe-pricing:mode is {self.mode}, but there is no API key: set STRIPE_API_KEY={prefix}... in the "
            "environment, or run: pulumi config set --secret stripe-pricing:apiKey (a preview needs no key)"
        )


def _mode(value: str | None) -> Mode:
    match value:
        case "sandbox" | "test" | "live":
            return value
        case None | "":
            raise SettingsError(
                "stripe-pricing:mode is not set: run `pulumi config set stripe-pricing:mode sandbox` (or test, or live)"
            )
        case _:
            raise SettingsError(f"stripe-pricing:mode is {value!r}; it must be sandbox, test or live")


def _key(mode: Mode, configured: str | None, from_environment: str | None) -> SecretStr | None:
    value, source = (configured, "stripe-pricing:apiKey") if configured else (from_environment, "STRIPE_API_KEY")
    if not value:
        return SecretStr(SANDBOX_KEY) if mode == "sandbox" else None
    kind = key_mode(value.strip())
    if kind is None:
        raise SettingsError(
            f"{source} is not a secret or restricted Stripe key: it must start with sk_test_, rk_test_, sk_live_ or "
            "rk_live_"
        )
    if not _WHOLE_KEY.fullmatch(value):
        remember(value)
        raise SettingsError(
            f"{source} has {_stray(value)}, which no Stripe key has: set it again, to the key and nothing else"
        )
    if kind == "live" and mode != "live":
        raise SettingsError(
            f"{source} is a live key, but stripe-pricing:mode is {mode}: a live key is only for a stack in mode live"
        )
    if kind == "test" and mode == "live":
        raise SettingsError(f"{source} is a test key, but stripe-pricing:mode is live: a live stack needs a live key")
    # A test key in the environment is for Stripe's test mode, which a sandbox stack never calls.
    return SecretStr(SANDBOX_KEY) if mode == "sandbox" else SecretStr(value)


def _stray(key: str) -> str:
    """What does not belong in a key, in words that show nothing of it."""
    for characters, words in (
        ("\r\n", "a line break"),
        (" \t", "a space"),
        ("\0", "a NUL"),
        (",;", "a comma or semicolon"),
        ("\"'", "a quotation mark"),
    ):
        if any(character in key for character in characters):
            return words
    return "a dot or another stray character" if key.rpartition("_")[2] else "nothing after its prefix"


def key_mode(key: str) -> Literal["test", "live"] | None:
    """The mode of a Stripe API key; None for anything else."""
    for mode in ("test", "live"):
        if key.startswith((f"sk_{mode}_", f"rk_{mode}_")):
            return mode
    return None


def _account(value: str | None) -> str | None:
    if value and not value.startswith("acct_"):
        raise SettingsError(f"stripe-pricing:account is {value!r}; it must be the id of a Stripe account, acct_...")
    return value or None


def _address(mode: Mode, value: str | None) -> str | None:
    if not value:
        return None
    try:
        parts = urlsplit(value)
        _ = parts.port
    except ValueError as error:
        raise SettingsError(f"stripe-pricing:apiBase (or STRIPE_API_BASE) is not an address: {error}") from None
    if "@" in parts.netloc:
        raise SettingsError(
            "stripe-pricing:apiBase (or STRIPE_API_BASE) has a user name or a password in it; remove them: only the "
            "key is sent"
        )
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise SettingsError(
            f"stripe-pricing:apiBase (or STRIPE_API_BASE) is {value!r}; it must be an address such as http://127.0.0.1:12111"
        )
    if parts.scheme == "http" and mode != "sandbox" and not is_loopback(parts.hostname):
        raise SettingsError(
            f"stripe-pricing:apiBase (or STRIPE_API_BASE) is {value!r}: a {mode} key would cross the network "
            "in plain text; use https"
        )
    return value.rstrip("/")


def is_loopback(host: str) -> bool:
    """Whether a host name or address is this machine's own."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _yes(name: str, value: str | None) -> bool:
    if value not in (None, "", "true", "false"):
        raise SettingsError(f"{NAMESPACE}:{name} is {value!r}; it must be true or false")
    return value == "true"


def _number(name: str, value: str | None, example: int) -> float | None:
    if not value:
        return None
    try:
        number = float(value)
    except ValueError:
        number = 0.0
    if not 0 < number <= 10_000:
        raise SettingsError(f"stripe-pricing:{name} is {value!r}; it must be a number above 0, such as {example}")
    return number
