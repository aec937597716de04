"""A sandbox that makes chosen requests fail, in the ways that Stripe or a network can fail."""

from __future__ import annotations

import json
import re
import threading
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs

from sandbox import ConnectionDropped, Request, Response, Sandbox, control

#: A stalled answer is held back until the client has hung up, at most for this long.
STALL_SECONDS: Final = 20.0

_ID: Final = re.compile(r"(?<=/)(?:acct|cus|in|mtr|price|prod|si|sub)_\w+")


@dataclass(frozen=True)
class Spoiled:
    """One way for a request to go wrong.

    Attributes:
        status, code, body: an answer that stands in for Stripe's.
        drop, half_body, stall: no answer, half of one, or one that comes too late.
        after: Stripe acts first.
        stored: nothing is done, and the idempotency key remembers the answer (one request at a time only).
    """

    name: str
    status: int | None = None
    code: str | None = None
    body: str | None = None
    headers: dict[str, str] = field(default_factory=dict)
    drop: bool = False
    half_body: bool = False
    stall: bool = False
    after: bool = False
    stored: bool = False

    def fault(self) -> control.Fault:
        """The same as the sandbox's own control has it."""
        return control.Fault(
            name=self.name,
            when="after" if self.after else "before",
            status=self.status,
            delay=0.0,
            drop=self.drop,
            half_body=self.half_body,
            code=self.code,
            message=None,
            headers=self.headers,
            body=self.body,
        )


#: What a retry with the same idempotency key heals.
RECOVERABLE: Final = (
    Spoiled("429", status=429, headers={"stripe-rate-limited-reason": "global-rate"}),
    Spoiled("429 lock_timeout", status=429, code="lock_timeout"),
    Spoiled("409 key in use", status=409, code="idempotency_key_in_use"),
    Spoiled("500", status=500),
    Spoiled("502 of a proxy", status=502, body="<html><body>Bad gateway</body></html>"),
    Spoiled("500 after Stripe has acted", status=500, after=True),
    Spoiled("connection dropped", drop=True),
    Spoiled("lost response", drop=True, after=True),
    Spoiled("half a body", half_body=True, after=True),
    Spoiled("200 that is no JSON", status=200, body='{"id": "cus_1", "obj', after=True),
    Spoiled("timeout", stall=True),
    Spoiled("timeout after Stripe has acted", stall=True, after=True),
)
SPOILED: Final = {each.name: each for each in RECOVERABLE}


@dataclass(frozen=True)
class Call:
    """One request as it arrived.

    Attributes:
        name: method, path without ids, and the resource where the parameters name it; the same in every run.
        attempt: 1, or more when the same request has come before.
        occurrence: 1, or more when other requests of that name have come before.
    """

    name: str
    request: Request
    attempt: int
    occurrence: int

    @property
    def title(self) -> str:
        """The name, with a number from the second call of that name on."""
        return self.name if self.occurrence == 1 else f"{self.name} #{self.occurrence}"

    @property
    def identity(self) -> tuple[str, str, bytes, str | None]:
        """What a retry has in common with the call."""
        return self.request.method, self.request.url, self.request.body, self.idempotency_key

    @property
    def idempotency_key(self) -> str | None:
        return self.request.header("idempotency-key")


@dataclass
class Seen:
    """A call and what became of it."""

    call: Call
    spoiled: str | None = None
    status: int | None = None


Plan = Callable[[Call], Spoiled | None]


def name_of(request: Request) -> str:
    """`POST /v1/prices alpaca-ai-license`."""
    path = _ID.sub("*", request.url.partition("?")[0])
    owners = parse_qs(request.body.decode()).get("metadata[pulumi]", [])
    return " ".join([request.method, path, *(owner.rpartition("/")[2] for owner in owners)])


class FaultySandbox(Sandbox):
    """A sandbox that lets the test's plan handle each request first.

    Attributes:
        plan: says how a request goes wrong, or None; it may also do something itself (kill a process, say).
        seen: every request in the order of arrival: the request log, with what never reached the sandbox.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.plan: Plan = lambda _: None
        self.on_answer: Callable[[Call], None] = lambda _: None
        self.seen: list[Seen] = []
        self.closing = threading.Event()
        self._attempts: dict[tuple[Any, ...], int] = defaultdict(int)
        self._occurrences: dict[str, int] = defaultdict(int)
        self._lock = threading.Lock()

    def handle(self, request: Request) -> Response:
        if request.url.startswith("/_sandbox/"):
            return super().handle(request)
        with self._lock:
            identity = (request.method, request.url, request.body, request.header("idempotency-key"))
            self._attempts[identity] += 1
            name = name_of(request)
            if self._attempts[identity] == 1:
                self._occurrences[name] += 1
            seen = Seen(Call(name, request, self._attempts[identity], self._occurrences[name]))
            self.seen.append(seen)
            spoiled = self.plan(seen.call)
        response = self._spoil(seen, spoiled) if spoiled else super().handle(request)
        seen.status = response.status
        self.on_answer(seen.call)
        return response

    def _spoil(self, seen: Seen, spoiled: Spoiled) -> Response:
        seen.spoiled = spoiled.name
        path = seen.call.request.url.partition("?")[0]
        if spoiled.stored:
            order = {"method": seen.call.request.method, "path": path, "status": spoiled.status, "when": "stored"}
            super().handle(Request("POST", "/_sandbox/faults", {}, json.dumps(order).encode()))
            return super().handle(seen.call.request)
        fault = spoiled.fault()
        if not spoiled.after:
            self._stall(spoiled)
            instead = control.before(fault, path)
            assert instead is not None
            return instead
        response = super().handle(seen.call.request)
        self._stall(spoiled)
        return control.after(fault, path, response)

    def _stall(self, spoiled: Spoiled) -> None:
        if spoiled.stall:
            self.closing.wait(STALL_SECONDS)
            raise ConnectionDropped("the client has hung up long ago")

    def start_over(self) -> None:
        """Forget the plan and what was seen."""
        self.plan = lambda _: None
        self.on_answer = lambda _: None
        self.seen = []
        self._attempts.clear()
        self._occurrences.clear()

    def titles(self) -> list[str]:
        """The calls, retries left out, sorted: threads make their order."""
        return sorted(seen.call.title for seen in self.seen if seen.call.attempt == 1)
