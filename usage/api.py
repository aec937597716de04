"""Calls to Stripe: paced, retried with jitter, and every answer sorted into done, refused, or perhaps done."""

from __future__ import annotations

import os
import time
from collections import namedtuple

from .errors import AuthenticationFailed, StripeError, Unreachable, redact
from .pacing import backoff
from .transport import LostAnswer, NotSent

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any, NamedTuple

    from .destination import Destination
    from .pacing import Paces
    from .transport import Reply, Transport

    class Answer(NamedTuple):
        """A successful answer: the JSON body (numbers with a point as Decimal) and Stripe's request id."""

        data: dict[str, Any]
        request_id: str | None
else:
    Answer = namedtuple("Answer", "data request_id")

STRIPE_VERSION = "2026-10-28.endive"  # the version that the pinned stripe-python sends; a test compares them
USER_AGENT = "stripe-pricing-usage/0.1"
TIMEOUT = 30.0
ATTEMPTS = 6


class Failed(Unreachable):
    """Every attempt ended without a usable answer. `maybe_done`: at least one of them may have been carried out."""

    def __init__(self, message: str, maybe_done: bool) -> None:
        super().__init__(message)
        self.maybe_done = maybe_done


class Api:
    """One destination's API. Thread-safe. Counts what it did in `calls`, `retries` and `limited` (429 and 409)."""

    def __init__(
        self,
        destination: Destination,
        transport: Transport,
        paces: Paces,
        *,
        timeout: float = TIMEOUT,
        attempts: int = ATTEMPTS,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self.destination = destination
        self.transport = transport
        self.paces = paces
        self.timeout = timeout
        self.attempts = attempts
        self.sleep = sleep
        self.calls = 0
        self.retries = 0
        self.limited = 0

    def call(
        self,
        method: str,
        path: str,
        *,
        pace: str = "api",
        host: str = "api",
        query: Sequence[tuple[str, str]] = (),
        form: Sequence[tuple[str, str]] | None = None,
        json_body: bytes | None = None,
        token: str | None = None,
        idempotency: str | None = None,
        deadline: float | None = None,
    ) -> Answer:
        """Make one request until it is answered for good; `deadline` is on the monotonic clock.

        Raises StripeError (AuthenticationFailed for 401 and 403) when Stripe refuses, Failed when no attempt got
        through. 409, 429, 5xx and a broken connection are tried again, unless `Stripe-Should-Retry` says otherwise.
        """
        url, headers, body = self._request(path, query, form, json_body, token)
        maybe_done = False
        last = ""
        for attempt in range(self.attempts):
            if attempt:
                wait = backoff(attempt - 1)
                if deadline is not None and time.monotonic() + wait > deadline:
                    break
                self.retries += 1
                self.sleep(wait)
            self.paces[pace].wait()
            if idempotency is not None:
                # A fresh suffix for every attempt: under a repeated key Stripe would replay a stored 500 for a day.
                # What makes the attempt repeatable is the event's identifier.
                headers["Idempotency-Key"] = f"{idempotency}/{os.urandom(4).hex()}"
            self.calls += 1
            try:
                reply = self.transport.send(method, host, url, headers, body, self._timeout(deadline))
            except NotSent as problem:
                last = str(problem)
                continue
            except LostAnswer as problem:
                last, maybe_done = str(problem), True
                continue
            if 200 <= reply.status < 300:
                return Answer(_parsed(reply.body), reply.headers.get("request-id"))
            refusal = _refusal(reply)
            if not self._again(reply):
                refusal.maybe_done = maybe_done
                raise refusal
            last = str(refusal)
            if reply.status >= 500:
                maybe_done = True
            else:
                self.limited += 1
                self.paces[pace].hold(_retry_after(reply))
        raise Failed(redact(f"{self.destination.label} could not be reached: {last or 'out of time'}"), maybe_done)

    def pages(
        self, path: str, query: Sequence[tuple[str, str]] = (), *, deadline: float | None = None
    ) -> Iterator[dict[str, Any]]:
        """Every object of a v1 list, 100 a page."""
        cursor: list[tuple[str, str]] = []
        while True:
            data = self.call("GET", path, query=[*query, ("limit", "100"), *cursor], deadline=deadline).data
            yield from data["data"]
            if not data.get("has_more") or not data["data"]:
                return
            cursor = [("starting_after", data["data"][-1]["id"])]

    def _request(
        self,
        path: str,
        query: Sequence[tuple[str, str]],
        form: Sequence[tuple[str, str]] | None,
        json_body: bytes | None,
        token: str | None,
    ) -> tuple[str, dict[str, str], bytes]:
        headers = {
            "Authorization": f"Bearer {token or self.destination.api_key}",
            "Stripe-Version": STRIPE_VERSION,
            "User-Agent": USER_AGENT,
        }
        if json_body is not None:
            headers["Content-Type"] = "application/json"
            return path, headers, json_body
        from urllib.parse import urlencode

        url = f"{path}?{urlencode(query)}" if query else path
        if form is None:
            return url, headers, b""
        headers["Content-Type"] = "application/x-www-form-urlencoded"
        return url, headers, urlencode(form).encode("ascii")

    def _timeout(self, deadline: float | None) -> float:
        return self.timeout if deadline is None else min(self.timeout, max(0.5, deadline - time.monotonic()))

    def _again(self, reply: Reply) -> bool:
        said = reply.headers.get("stripe-should-retry")
        if said in ("true", "false"):
            return said == "true"
        return reply.status in (409, 429) or reply.status >= 500


def is_duplicate(problem: StripeError) -> bool:
    """True when the refusal says that the event is already there: it is delivered.

    v2 has the code; v1 answers 400 with this message and no code.
    """
    return problem.code == "duplicate_meter_event" or (
        problem.status == 400 and str(problem.args[0]).startswith("An event already exists with identifier")
    )


def _parsed(body: bytes) -> dict[str, Any]:
    import json
    from decimal import Decimal

    try:
        data = json.loads(body, parse_float=Decimal) if body else {}
    except ValueError:
        raise StripeError("the answer is not JSON: is this address really Stripe's API?") from None
    return data if isinstance(data, dict) else {}


def _refusal(reply: Reply) -> StripeError:
    import json

    error: dict[str, Any] = {}
    try:
        found = json.loads(reply.body)["error"]
        error = found if isinstance(found, dict) else {"message": str(found)}
    except (ValueError, KeyError, TypeError):
        pass  # an HTML page of a proxy or a load balancer: the status has to do
    kind = AuthenticationFailed if reply.status in (401, 403) else StripeError
    return kind(
        redact(str(error.get("message") or f"the server answered {reply.status} without saying why")),
        status=reply.status,
        code=error.get("code"),
        param=error.get("param"),
        request_id=reply.headers.get("request-id"),
    )


def _retry_after(reply: Reply) -> float:
    try:
        return min(60.0, max(0.0, float(reply.headers.get("retry-after", "0"))))
    except ValueError:
        return 0.0
