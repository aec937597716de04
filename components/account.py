"""The client for one Stripe account: mode and account checks, pacing, retries, idempotency, one-line errors.

Everything in `components` that reaches Stripe goes through `Account.request`. A preview builds an account and
never calls it, so it needs neither a key nor the network; `stripe` itself is imported with the first call.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from components import sdk
from components.redaction import as_line, redact
from components.settings import Get, Settings, SettingsError

if TYPE_CHECKING:
    import stripe

KEY_ADVICE: Final = "Check stripe-pricing:apiKey or STRIPE_API_KEY."
#: Without the program, the engine configures the providers as the state's provider resource was.
STALE_CONFIG: Final = (
    "pulumi refresh and pulumi destroy read the stack's config as of the last pulumi up: after a change, add "
    "--run-program."
)
#: The permission that lets a restricted key read its account, in Stripe's words.
READ_ACCOUNT: Final = "rak_accounts_kyc_basic_read"
#: The thread that asks for the account ahead of who needs it.
ASKING: Final = "asks for the account"
FIRST_DELAY, LONGEST_DELAY = 0.5, 8.0
#: What an unlimited pace falls back to at the first 429: the limit of Stripe's test mode.
PACE_AFTER_429 = 25.0

#: Stripe's refusal of a restricted key: "... for this endpoint on account 'acct_1PJ7'. Having the ...".
_ACCOUNT = re.compile(r"\bon account \W?(acct_\w+)")


class AccountError(Exception):
    """Stripe cannot be called; the message is one line for a person and never contains a key."""

    def __init__(self, message: str) -> None:
        super().__init__(as_line(message))


class StripeRefusal(AccountError):
    """Stripe answered a call with an error.

    Attributes:
        message, code, param, status, request_id: as Stripe sent them; None where it sent none.
        replayed: whether it is the stored answer to an earlier request with the same idempotency key.
    """

    def __init__(self, subject: str, error: stripe.StripeError, *, replayed: bool) -> None:
        self.message = redact(error.user_message or "no message")
        # stripe-python leaves `code` out on some of its error classes; the error object always has it.
        self.code: str | None = error.code or getattr(error.error, "code", None)
        self.param: str | None = getattr(error.error, "param", None)
        self.status: int | None = error.http_status
        self.request_id = error.request_id
        self.replayed = replayed
        facts = [
            *([f"code {self.code}"] if self.code else []),
            *([f"parameter {self.param}"] if self.param else []),
            *([f"HTTP {self.status}"] if self.status else []),
            *([f"request {self.request_id}"] if self.request_id else []),
        ]
        text = f"{subject}: {self.message}"
        if facts:
            text += f" ({', '.join(facts)})"
        super().__init__(text + self._advice())

    @property
    def is_certain(self) -> bool:
        """Whether the request certainly had no effect; unknown if Stripe was busy, failed or never answered."""
        return self.status is not None and 400 <= self.status < 500 and self.status not in (409, 429)

    def advise(self, advice: str) -> None:
        """Add what to do about it."""
        self.args = (f"{self.args[0]} {redact(advice)}",)

    def _advice(self) -> str:
        match self.status:
            case 401:
                return f" {KEY_ADVICE}"
            case 403:
                return " Give the restricted key this permission, or use another key."
            case 429:
                return " Lower stripe-pricing:requestsPerSecond and run again; finished changes are not repeated."
            case status if status is not None and 300 <= status < 400:
                return (
                    " The address redirects, which is never followed: check stripe-pricing:apiBase or STRIPE_API_BASE."
                )
            case None:
                return " Stripe could not be reached. Run again: finished changes are found, not repeated."
            # The sandbox answers 501 for what it does not implement.
            case status if (status >= 500 and status != 501) or status == 409:
                return " Run again: finished changes are found, not repeated."
        return ""


@dataclass(frozen=True)
class Answer:
    """What Stripe returned: the object as plain data, and whether it is a stored answer."""

    data: dict[str, Any]
    replayed: bool


class Pacer:
    """Spaces requests evenly, so that no more than `rate` a second leave, whichever thread sends them."""

    def __init__(self, rate: float | None, clock: Callable[[], float], sleep: Callable[[float], None]) -> None:
        self.rate = rate
        self._clock = clock
        self._sleep = sleep
        self._next = 0.0
        self._lock = threading.Lock()

    def wait(self) -> None:
        """Return when the next request may be sent."""
        if self.rate is None:
            return
        with self._lock:
            now = self._clock()
            # Up to a tenth of a second can be caught up: threads do not wake to the millisecond.
            turn = max(self._next, now - 0.1)
            self._next = turn + 1.0 / self.rate
        if turn > now:
            self._sleep(turn - now)

    def slow_down(self) -> None:
        """Lower the rate a little, after a 429."""
        with self._lock:
            self.rate = PACE_AFTER_429 if self.rate is None else max(1.0, self.rate * 0.9)


class Account:
    """The client for one stack's Stripe account, shared by all providers and threads of a process.

    Attributes:
        settings: where Stripe is and which money it handles.
        version: the API version that every request names, pinned by the pinned stripe-python.
        calls: how many requests were sent, retries included.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        http_client: stripe.HTTPClient | None = None,
    ) -> None:
        self.settings = settings
        self.calls = 0
        self.pacer = Pacer(settings.rate, clock, sleep)
        self._clock = clock
        self._sleep = sleep
        self._http_client = http_client
        self._lock = threading.Lock()
        #: Held while the account is asked for, so that the calls of other threads need not wait for the answer.
        self._asking = threading.Lock()
        self._pinned = settings.account
        self._id: str | None = None
        self._asked_ahead = False
        self._client: stripe.StripeClient | None = None
        #: What the embedded sandbox raises for an unusable file; nothing without an embedded sandbox.
        self._unusable_file: type[Exception] | tuple[()] = ()

    # -- who we are ---------------------------------------------------------------------------------------------

    @property
    def livemode(self) -> bool:
        """Whether real money moves."""
        return self.settings.mode == "live"

    @property
    def version(self) -> str:
        return str(sdk.load("stripe._api_version", "_ApiVersion").CURRENT)

    def pin(self, account_id: object) -> None:
        """Pin the account that the stack's state names.

        Every object's state holds the id of its account (output `account`). `stripe-pricing:account`, else the first
        one seen, pins it for the process; the first call then compares it with the key's account.

        Raises:
            AccountError: another account is pinned. In the wrong account every object would seem deleted.
        """
        if not isinstance(account_id, str) or not account_id:
            return
        with self._lock:
            pinned = self._pinned = self._pinned or account_id
        if account_id != pinned and pinned == self.settings.account:
            raise AccountError(
                f"stripe-pricing:account is {pinned}, but the stack's state has objects in {account_id}: set it to "
                "that, or use another stack"
            )
        if account_id != pinned:
            raise AccountError(
                f"the stack's state has objects in two Stripe accounts, {pinned} and {account_id}, but a key opens "
                "one: remove the objects of one from the state (pulumi state delete; Stripe keeps them), and manage "
                "them in another stack"
            )

    @property
    def id(self) -> str:
        """The account that the key opens, or "" if Stripe does not tell; asked once a process."""
        with self._asking:
            if self._id is None:
                try:
                    self._id = str(self._send("get", "/v1/account", {}, "Stripe account", None).data["id"])
                except StripeRefusal as error:
                    if error.status != 403:
                        raise
                    # A restricted key need not be allowed to read its account. Stripe's refusal names it.
                    named = _ACCOUNT.search(error.message)
                    self._id = named[1] if named else ""
            return self._id

    def ask_ahead(self) -> None:
        """Ask for the account in the background: each object's state names it, and its creation would wait for that."""
        with self._lock:
            if self._asked_ahead:
                return
            self._asked_ahead = True
        threading.Thread(target=self._ask, name=ASKING, daemon=True).start()

    def _ask(self) -> None:
        # Whoever needs the answer asks again, and reports what is wrong.
        with contextlib.suppress(AccountError):
            _ = self.id

    def verify(self) -> None:
        """Refuse to work in an account other than the state's.

        Raises:
            AccountError: there is no key, or the key opens another account, or nothing tells which one.
        """
        pinned = self._pinned
        if pinned is not None and not self.id:
            raise AccountError(
                f"this stack {self._whose} Stripe account {pinned}, but the key cannot read which account "
                f"it opens: give the restricted key the permission {READ_ACCOUNT}, or use another key"
            )
        if pinned is not None and self.id != pinned:
            if self.settings.embedded:
                raise AccountError(
                    f"this stack's objects are not in the sandbox file {self.settings.sandbox_file} but in "
                    "another: use that one (stripe-pricing:sandboxFile or STRIPE_SANDBOX_FILE), or delete the "
                    "stack's state (pulumi stack rm --force --preserve-config) and start over"
                )
            raise AccountError(
                f"this stack {self._whose} Stripe account {pinned}, but the key opens {self.id}: "
                "use a key of the stack's account (stripe-pricing:apiKey or STRIPE_API_KEY), or another stack"
            )

    @property
    def _whose(self) -> str:
        return "is for" if self._pinned == self.settings.account else "has its objects in"

    def _check_livemode(self, subject: str, data: Mapping[str, Any]) -> None:
        """Refuse an answer in the wrong mode, from a proxy or a served sandbox that the stack does not expect.

        Raises:
            AccountError: an object in it is not of the stack's mode.
        """
        for each in (data, *(data["data"] if isinstance(data.get("data"), list) else ())):
            livemode = each.get("livemode") if isinstance(each, Mapping) else None
            if isinstance(livemode, bool) and livemode != self.livemode:
                has, is_mode = ("real", "live") if livemode else ("test", "test")
                raise AccountError(
                    f"{subject}: the answer is about {has} money (livemode is {str(livemode).lower()}), but "
                    f"stripe-pricing:mode is {self.settings.mode}: the API address is in another mode, so nothing more "
                    f"is sent there; look for {each.get('id', 'what was created')} in {is_mode} mode"
                )

    # -- calling ------------------------------------------------------------------------------------------------

    def request(
        self,
        method: Literal["get", "post", "delete"],
        path: str,
        params: Mapping[str, Any] | None = None,
        *,
        subject: str,
        idempotency_key: str | None = None,
    ) -> Answer:
        """Call Stripe, paced, and retried with the same idempotency key.

        It retries 429 (which stripe-python leaves to its caller), 409, 5xx and broken connections for
        `stripe-pricing:retrySeconds`, unless Stripe says otherwise (`Stripe-Should-Retry`). A stored answer is final: a
        retry would only repeat it.

        Raises:
            StripeRefusal: Stripe's last answer, or that it could not be reached.
            AccountError: there is no key, or it opens an account other than the state's.
        """
        self.verify()
        return self._send(method, path, params or {}, subject, idempotency_key)

    def pages(
        self, path: str, params: Mapping[str, Any], *, subject: str
    ) -> Iterator[tuple[list[dict[str, Any]], bool]]:
        """The pages of a list, newest first: (up to 100 objects, whether there are more)."""
        cursor: dict[str, Any] = {}
        while True:
            page = self.request("get", path, {**params, **cursor, "limit": 100}, subject=subject).data
            more = bool(page.get("has_more")) and bool(page["data"])
            yield page["data"], more
            if not more:
                return
            # Searches have a cursor of their own.
            cursor = (
                {"page": page["next_page"]} if page.get("next_page") else {"starting_after": page["data"][-1]["id"]}
            )

    def _send(
        self, method: str, path: str, params: Mapping[str, Any], subject: str, idempotency_key: str | None
    ) -> Answer:
        sdk.load_client()
        import stripe

        options: dict[str, Any] = {}
        if method == "post":
            options["idempotency_key"] = idempotency_key or f"once-{uuid.uuid4()}"
        deadline = self._clock() + self.settings.retry_seconds
        attempt = 0
        while True:
            try:
                client = self._connected()
                self.pacer.wait()
                with self._lock:
                    self.calls += 1
                response = client.raw_request(method, path, **params, **options)
                self._check_livemode(subject, response.data)
                return Answer(response.data, _replayed(response.headers))
            except self._unusable_file as error:
                raise AccountError(f"{subject}: {error}") from None
            except stripe.StripeError as error:
                attempt += 1
                refusal = StripeRefusal(subject, error, replayed=_replayed(error.headers))
                if refusal.status == 401 and self.settings.key_is_configured:
                    refusal.advise(STALE_CONFIG)
                if error.http_status == 429:
                    self.pacer.slow_down()
                delay = min(LONGEST_DELAY, FIRST_DELAY * 2 ** (attempt - 1)) * random.uniform(0.5, 1.0)
                if not _worth_retrying(error) or refusal.replayed or self._clock() + delay > deadline:
                    raise refusal from None
                self._sleep(delay)

    def _connected(self) -> stripe.StripeClient:
        """The one client, made with the first call."""
        with self._lock:
            if self._client is None:
                self._client = self._connect()
            return self._client

    def _connect(self) -> stripe.StripeClient:
        try:
            key = self.settings.require_key()
        except SettingsError as error:
            raise AccountError(str(error)) from None
        import stripe

        # Telemetry would write an id to the user's home folder and report how long every call took.
        stripe.enable_telemetry = False
        http_client = self._http_client
        if http_client is None and self.settings.embedded:
            from sandbox import SandboxFileError
            from sandbox.client import SandboxHTTPClient

            self._unusable_file = SandboxFileError
            http_client = SandboxHTTPClient(self.settings.sandbox_file)
        if http_client is None:
            from components.transport import http_client as one_address

            http_client = one_address(self.settings.timeout_seconds)
        base = self.settings.api_base
        return stripe.StripeClient(
            key,
            stripe_version=self.version,
            base_addresses={"api": base} if base else {},
            http_client=http_client,
            max_network_retries=0,
        )


def _replayed(headers: Mapping[str, str] | None) -> bool:
    return any(
        name.lower() == "idempotent-replayed" and value.lower() == "true" for name, value in (headers or {}).items()
    )


def _worth_retrying(error: stripe.StripeError) -> bool:
    import stripe

    wish = next((value for name, value in (error.headers or {}).items() if name.lower() == "stripe-should-retry"), "")
    if wish in ("true", "false"):
        return wish == "true"
    status = error.http_status
    if status is None:
        return isinstance(error, stripe.APIConnectionError)
    # A success that cannot be parsed was truncated, or is a proxy's page.
    return status in (409, 429) or status >= 500 or status < 300


_accounts: dict[str, Account] = {}
_accounts_lock = threading.Lock()


def account_for(get: Get) -> Account:
    """The process's account for a stack's config: one for all providers, so that they share one rate limit.

    Args:
        get: looks up the setting `<name>` of the stack's config; None if it is not set.

    Raises:
        AccountError: a setting is invalid, such as a live key on a stack in test mode.
    """
    try:
        settings = Settings.read(get, os.environ)
    except SettingsError as error:
        raise AccountError(str(error)) from None
    name = f"{settings!r} {settings.api_key.get_secret_value() if settings.api_key else ''}"
    with _accounts_lock:
        return _accounts.setdefault(name, Account(settings))
