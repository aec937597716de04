"""Calls to Stripe: paced, retried with jitter until their deadline, with every kind of answer told apart."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

from . import spool
from .destination import Destination
from .errors import AuthenticationFailed, NotStripe, StripeError, Unreachable, redact
from .http import HTTP

USER_AGENT = "stripe-pricing-usage/0.2"
ATTEMPTS = 6
CALL_SECONDS = 30.0
BACKOFF_FIRST = 0.5
BACKOFF_MOST = 8.0
LONGEST_WAIT = 60.0
"""A server that asks for a longer pause ends the call; the caller can try again later."""

# https://docs.stripe.com/rate-limits and .../usage-based/recording-usage-api, in calls a second. We plan for a tenth
# less: a server counts calls when they arrive, and the network bunches evenly spaced calls.
LIMITS: dict[str, dict[str, float]] = {
    # test mode counts meter events, the stream and everything else together: 25 a second
    "test": {"all": 22.5},
    # 1,000 meter events a second on top of the basic 100; the stream takes 10,000 events, 100 a call
    "live": {"api": 90.0, "meter_events": 900.0, "stream": 90.0},
}


class Api:
    """One destination's API. Thread-safe. `retries` and `limited` count retries, and answers of 429 and 409.

    share: number of workers that share the account's limits. `halt` ends every wait between attempts: closing the
    client does not wait for a call's backoff.
    """

    def __init__(self, destination: Destination, share: int = 1) -> None:
        self.destination = destination
        self.halt = threading.Event()
        self.retries = 0
        self.limited = 0
        self._http: HTTP | None = None
        self._intervals = {kind: max(1, share) / rate for kind, rate in LIMITS.get(destination.mode, {}).items()}
        self._next = dict.fromkeys([*self._intervals, "all"], 0.0)
        self._pacing = threading.Lock()

    @property
    def http(self) -> HTTP:
        """stripe-python's client, loaded at first use by one thread, because its modules import each other."""
        with spool.IMPORTING:
            if self._http is None:
                self._http = HTTP(self.destination)
            return self._http

    def call(
        self,
        method: str,
        path: str,
        *,
        pace: str = "api",
        query: Sequence[tuple[str, str]] = (),
        form: Sequence[tuple[str, str]] | None = None,
        json_body: bytes | None = None,
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

        http = self.http
        headers = {"Authorization": f"Bearer {token or self.destination.api_key}", "User-Agent": USER_AGENT}
        headers["Stripe-Version"] = http.api_version
        if json_body is not None or form is not None:
            headers["Content-Type"] = "application/x-www-form-urlencoded" if json_body is None else "application/json"
        body = json_body if json_body is not None else urlencode(form or ()).encode("ascii")
        base = self.destination.meter_events_base if pace == "stream" else self.destination.api_base
        url = f"{base or ''}{path}?{urlencode(query)}" if query else f"{base or ''}{path}"
        maybe_done = False
        last = "out of time"
        wait = 0.0
        for attempt in range(ATTEMPTS):
            if attempt:
                self.retries += 1
                # exponential, with jitter over the upper half
                wait = max(wait, min(BACKOFF_MOST, BACKOFF_FIRST * 2.0 ** (attempt - 1)) * (0.5 + random.random() / 2))
            if not self._pause(max(wait, self._reserve(pace)), deadline):
                break
            if idempotency is not None:
                # A fresh suffix for every attempt: with the same key Stripe would replay a stored 500 for a day.
                # The event's identifier is what makes a retry safe.
                headers["Idempotency-Key"] = f"{idempotency}/{os.urandom(4).hex()}"
            left = CALL_SECONDS if deadline is None else min(CALL_SECONDS, max(0.05, deadline - time.monotonic()))
            try:
                status, answered, content = http.send(method, url, headers, body, left)
            except Unreachable as problem:
                wait, last = 0.0, str(problem)
                maybe_done = maybe_done or problem.maybe_done
                continue
            data = _object(content)
            if 200 <= status < 300 and data is not None:
                return data
            error = (data or {}).get("error")
            said = answered.get("stripe-should-retry")
            again = said == "true" or (said != "false" and (status in (409, 429) or status >= 500))
            if not again:
                strange = not isinstance(error, dict) or (status in (404, 405, 413) and "code" not in error)
                if strange or error is None:
                    raise NotStripe(self._not_stripe(status, answered, content), maybe_done or 200 <= status < 300)
                raise _refusal(status, answered, error, maybe_done)
            last = self._not_stripe(status, answered, content)
            if isinstance(error, dict):
                last = str(error.get("message") or f"the server answered {status}")
            wait = _retry_after(answered)
            if status >= 500:
                maybe_done = True
            else:
                self.limited += 1
                if wait:
                    self._reserve(pace, min(wait, LONGEST_WAIT))
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
        """End all calls of other threads, including one that hangs or waits to retry."""
        self.halt.set()
        if self._http is not None:
            self._http.abort()

    def close(self) -> None:
        """Close connections and files; the next call reopens them."""
        with spool.IMPORTING:
            http, self._http = self._http, None
        if http is not None:
            http.close()

    def _reserve(self, kind: str, hold: float = 0.0) -> float:
        """Reserve the next slot for a call of that kind; returns the seconds until then. Evenly spaced calls stay under
        a limit wherever the server's seconds begin. hold: block all calls for that many seconds instead."""
        kind = kind if kind in self._intervals else "all"
        with self._pacing:
            now = time.monotonic()
            at = max(now + hold, self._next[kind])
            self._next[kind] = at + (0.0 if hold else self._intervals.get(kind, 0.0))
        return at - now

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


def _object(content: bytes) -> dict[str, Any] | None:
    """Stripe's answer as a JSON object, or None if it is not one."""
    try:
        data = json.loads(content, parse_float=Decimal)
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
