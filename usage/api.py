"""Calls to Stripe: through stripe-python's HTTP client, retried with jitter until their deadline, answers told apart.

Proxies, certificates, keep-alive and the API version are stripe-python's own (through requests), which is loaded at the
first call. This file adds a deadline, one retry loop, and a way to end a call that hangs.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
import weakref
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

from . import spool
from .destination import Destination
from .errors import AuthenticationFailed, DestinationError, NotStripe, StripeError, Unreachable, redact

USER_AGENT = "stripe-pricing-usage/0.2"
ATTEMPTS = 6
CALL_SECONDS = 30.0
CONNECT_SECONDS = 3.0
"""The connection timeout: connecting cannot be cut off, and the end of a script allows only 5 seconds."""
BACKOFF_FIRST = 0.5
BACKOFF_MOST = 8.0
LONGEST_WAIT = 60.0
"""A server that asks for a longer pause ends the call; the caller can try again later."""

Answer = tuple[int, Mapping[str, str], bytes]
"""Status, headers (case-insensitive) and body."""


class Api:
    """One destination's API. Thread-safe. `halt` ends every wait between attempts: closing the client does not wait for
    a call's backoff."""

    def __init__(self, destination: Destination) -> None:
        self.destination = destination
        self.halt = threading.Event()
        self._transport: Any = None  # the embedded sandbox's client, or a requests session
        self._live: weakref.WeakSet[Any] = weakref.WeakSet()

    def call(
        self,
        method: str,
        path: str,
        *,
        query: Sequence[tuple[str, str]] = (),
        form: Sequence[tuple[str, str]] | None = None,
        json_body: bytes | None = None,
        base: str | None = None,
        token: str | None = None,
        idempotency: str | None = None,
        deadline: float | None = None,
    ) -> dict[str, Any]:
        """Send one request until it has a final answer; `deadline` is on the monotonic clock. Returns the answer's JSON
        object, with decimal numbers as Decimal.

        Raises StripeError (AuthenticationFailed for 401 and 403) when Stripe refuses, NotStripe when something other
        than Stripe answers, Unreachable when no attempt succeeded, DestinationError when none can. It retries 409, 429,
        5xx and broken connections, unless `Stripe-Should-Retry` says otherwise.
        """
        import random
        from urllib.parse import urlencode

        headers = {"Authorization": f"Bearer {token or self.destination.api_key}", "User-Agent": USER_AGENT}
        if json_body is not None or form is not None:
            headers["Content-Type"] = "application/x-www-form-urlencoded" if json_body is None else "application/json"
        body = json_body if json_body is not None else urlencode(form or ()).encode("ascii")
        url = f"{base or self.destination.api_base or ''}{path}" + (f"?{urlencode(query)}" if query else "")
        maybe_done = False
        last = "out of time"
        wait = 0.0
        for attempt in range(ATTEMPTS):
            if attempt:
                # exponential, with jitter over the upper half
                wait = max(wait, min(BACKOFF_MOST, BACKOFF_FIRST * 2.0 ** (attempt - 1)) * (0.5 + random.random() / 2))
            if not self._pause(wait, deadline):
                break
            if idempotency is not None:
                # A fresh suffix for every attempt: with the same key Stripe would replay a stored 500 for a day.
                # The event's identifier is what makes a retry safe.
                headers["Idempotency-Key"] = f"{idempotency}/{os.urandom(4).hex()}"
            try:
                status, answered, content = self._send(method, url, headers, body, deadline)
            except Unreachable as problem:
                wait, last = 0.0, str(problem)
                maybe_done = maybe_done or problem.maybe_done
                continue
            data = _object(content)
            # every answer of Stripe's has a request id; behind a proxy that drops it, the object tells, or {}
            if 200 <= status < 300 and data is not None and ("request-id" in answered or "object" in data or not data):
                return data
            error = (data or {}).get("error")
            said = answered.get("stripe-should-retry")
            again = said == "true" or (said != "false" and (status in (409, 429) or status >= 500))
            if not again:
                if not isinstance(error, dict) or (status in (404, 405, 413) and "code" not in error):
                    raise NotStripe(self._not_stripe(status, answered, content), maybe_done or 200 <= status < 300)
                raise _refusal(status, answered, error, maybe_done)
            last = self._not_stripe(status, answered, content)
            if isinstance(error, dict):
                last = str(error.get("message") or f"the server answered {status}")
            maybe_done = maybe_done or status >= 500
            wait = _retry_after(answered)
            if wait > LONGEST_WAIT:
                last += f"; it asks to wait {wait:,.0f} seconds"
                break
        raise Unreachable(f"{self.destination.label} could not be reached: {last}", maybe_done)

    def get(self, path: str, *query: tuple[str, str], deadline: float | None = None) -> dict[str, Any]:
        """The object at a path."""
        return self.call("GET", path, query=query, deadline=deadline)

    def pages(self, path: str, *query: tuple[str, str], deadline: float | None = None) -> Iterator[dict[str, Any]]:
        """Every object of a v1 list, 100 a page."""
        cursor: list[tuple[str, str]] = []
        while True:
            data = self.get(path, *query, ("limit", "100"), *cursor, deadline=deadline)
            yield from data["data"]
            if not data.get("has_more") or not data["data"]:
                return
            cursor = [("starting_after", data["data"][-1]["id"])]

    def abort(self) -> None:
        """End all calls of other threads: one that hangs (its connection is shut) and one that waits to retry."""
        from socket import SHUT_RDWR

        self.halt.set()
        for connection in list(self._live):
            if connection.sock is not None:
                with contextlib.suppress(OSError, ValueError):
                    connection.sock.shutdown(SHUT_RDWR)

    def close(self) -> None:
        """Close connections and files; the next call reopens them."""
        with spool.IMPORTING:
            transport, self._transport = self._transport, None
        if transport is not None:
            transport.close()

    def _send(self, method: str, url: str, headers: dict[str, str], body: bytes, deadline: float | None) -> Answer:
        """One attempt. Raises Unreachable, whose `maybe_done` says whether the request may have been carried out, or
        DestinationError when a retry would not help."""
        where = self.destination
        with spool.IMPORTING:  # by one thread: its modules import each other
            import stripe

            if self._transport is None:
                self._transport = _sandbox(where.sandbox_file) if where.api_base is None else self._session()
        client: Any = self._transport
        left = CALL_SECONDS if deadline is None else min(CALL_SECONDS, deadline - time.monotonic())
        if left <= 0:
            raise Unreachable("out of time")
        if where.api_base is not None:
            client = stripe.RequestsClient((min(left, CONNECT_SECONDS), left), self._transport)
        try:
            content, status, answered = client.request(
                method.lower(), url, {**headers, "Stripe-Version": stripe.api_version}, body
            )
        except stripe.APIConnectionError as problem:
            raise _explained(url, problem.__cause__) from None
        return status, answered, content.encode() if isinstance(content, str) else content

    def _session(self) -> Any:
        """A requests session without redirects, whose connections are listed in `_live`."""
        from requests import Session
        from requests.adapters import HTTPAdapter

        live = self._live

        class Listed:
            def connect(self) -> None:
                live.add(self)
                super().connect()  # type: ignore[misc]

        class Adapter(HTTPAdapter):  # type: ignore[misc, unused-ignore]
            def get_connection_with_tls_context(self, *arguments: Any, **options: Any) -> Any:
                pool = super().get_connection_with_tls_context(*arguments, **options)
                if not issubclass(pool.ConnectionCls, Listed):
                    pool.ConnectionCls = type("Connection", (Listed, pool.ConnectionCls), {})
                return pool

        session: Any = Session()
        session.get_redirect_target = lambda _: None  # a redirect is an answer to report
        session.auth = lambda request: request  # otherwise a .netrc file would replace the key
        base = str(self.destination.api_base)
        # a proxy from the environment cannot reach this machine's own ports
        session.trust_env = "//127." not in base and "//localhost" not in base
        session.mount("https://", Adapter())
        session.mount("http://", Adapter())
        return session

    def _pause(self, seconds: float, deadline: float | None) -> bool:
        """Wait; False if the deadline comes first or the call is halted."""
        if deadline is not None and time.monotonic() + seconds >= deadline:
            return False
        return not (self.halt.wait(seconds) if seconds else self.halt.is_set())

    def _not_stripe(self, status: int, headers: Mapping[str, str], content: bytes) -> str:
        text = content[:200].lstrip()
        what = "an empty body" if not text else "a page of HTML" if text.startswith(b"<") else "something else"
        if 300 <= status < 400:
            what = f"a redirect to {headers.get('location') or 'nowhere'}"
        where = self.destination.api_base or self.destination.label
        return f"{where} answered {status} with {what}, like a proxy or an address that is not Stripe's API"


def is_duplicate(problem: StripeError) -> bool:
    """Whether the refusal says that Stripe already has the event, so that it counts as delivered.

    v2 has the code; v1 answers 400 with this message and no code.
    """
    return problem.code == "duplicate_meter_event" or (
        problem.status == 400 and str(problem.args[0]).startswith("An event already exists with identifier")
    )


def _sandbox(path: str) -> Any:
    from sandbox import SandboxFileError
    from sandbox.client import SandboxHTTPClient

    try:
        return SandboxHTTPClient(path)
    except SandboxFileError as problem:
        raise DestinationError(str(problem)) from None


class _Object(dict[str, Any]):
    """A JSON object of an answer. One without what Stripe's objects have is not Stripe's."""

    def __missing__(self, key: str) -> Any:
        raise NotStripe(f"the answer has no {key!r}, which Stripe's would have: a proxy, or not Stripe's API")


def _object(content: bytes) -> dict[str, Any] | None:
    """Stripe's answer as a JSON object, or None if it is not one."""
    try:
        data = json.loads(content, parse_float=Decimal, object_hook=_Object)
    except (ValueError, RecursionError):
        return None
    return data if isinstance(data, dict) else None


def _refusal(status: int, headers: Mapping[str, str], error: dict[str, Any], maybe_done: bool) -> StripeError:
    kind = AuthenticationFailed if status in (401, 403) else StripeError
    message = redact(str(error.get("message") or f"the server answered {status} without saying why"))
    refusal = kind(message, status=status, code=error.get("code"), request_id=headers.get("request-id"))
    refusal.maybe_done = maybe_done
    return refusal


def _retry_after(headers: Mapping[str, str]) -> float:
    try:
        return max(0.0, float(headers.get("retry-after") or 0))
    except ValueError:
        return 0.0


def _explained(url: str, cause: BaseException | None) -> DestinationError | Unreachable:
    """The error for the cause of an APIConnectionError: not sent, possibly carried out, or hopeless."""
    kinds = {kind.__name__ for kind in type(cause).__mro__}
    host = url.partition("//")[2].partition("/")[0] or "the sandbox"
    if "SandboxFileError" in kinds:
        return DestinationError(str(cause))
    if "SSLError" in kinds:
        return DestinationError(f"the certificate of {host} cannot be verified, so nothing was sent: {_reason(cause)}")
    if kinds & {"InvalidSchema", "InvalidURL", "MissingSchema", "InvalidHeader", "InvalidProxyURL", "UnicodeError"}:
        return DestinationError(f"{host} cannot be called: {_reason(cause)}")
    if kinds & {"ConnectTimeout", "ProxyError"} or "NewConnectionError" in repr(cause):
        return Unreachable(f"no connection to {host}: {_reason(cause)}")
    if "Timeout" in kinds or "ReadTimeoutError" in repr(cause):
        return Unreachable(f"{host}: no answer in time", True)
    return Unreachable(f"{host}: the connection broke ({_reason(cause)})", True)


def _reason(cause: BaseException | None) -> str:
    """The innermost cause in a few words, without the addresses of objects."""
    inner = cause
    while inner is not None:
        cause = inner
        causes = (getattr(cause, "reason", None), *cause.args)
        inner = next((one for one in causes if isinstance(one, BaseException)), None)
    text = str(cause).partition("object at 0x")[2].partition(": ")[2] or str(cause)
    return (text or type(cause).__name__)[:200]
