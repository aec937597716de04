"""What every test of the sandbox gets: a sandbox of its own, stripe-python over it, and a check of every answer."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import stripe

from sandbox import Request, Sandbox
from sandbox import control as sandbox_control
from sandbox.client import SandboxHTTPClient

from .stored import check_private

#: 2026-01-01T00:00:00Z: where tests that need a time start.
NEW_YEAR = 1767225600


class Clock:
    """A clock that a test moves."""

    def __init__(self, now: float = NEW_YEAR) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def sandbox(tmp_path: Path, clock: Clock) -> Iterator[Sandbox]:
    opened = Sandbox(tmp_path / "stripe.db", clock=clock)
    yield opened
    with opened.database.reading() as connection:
        stored = [json.loads(body) for (body,) in connection.execute("SELECT body FROM objects")]
    for each in stored:
        check_private(each)
    opened.close()


@pytest.fixture
def http(sandbox: Sandbox) -> SandboxHTTPClient:
    return SandboxHTTPClient(sandbox)


@pytest.fixture
def client(http: SandboxHTTPClient) -> stripe.StripeClient:
    return stripe.StripeClient("sk_test_sandbox", http_client=http)


@pytest.fixture
def live(http: SandboxHTTPClient) -> stripe.StripeClient:
    return stripe.StripeClient("sk_live_sandbox", http_client=http)


class Control:
    """`/_sandbox/` for tests."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox

    def __call__(self, method: str, name: str, /, **params: Any) -> Any:
        body = json.dumps(params).encode() if method == "POST" else b""
        response = self._sandbox.handle(Request(method, f"/_sandbox/{name}", {}, body))
        answer = json.loads(response.body)
        assert response.status == 200, answer
        return answer


@pytest.fixture
def control(sandbox: Sandbox) -> Control:
    return Control(sandbox)


class Held:
    """Requests that a `delay` fault holds: a test knows when one is held, and lets it go."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.released = threading.Event()

    def sleep(self, seconds: float) -> None:
        self.reached.set()
        assert self.released.wait(60)


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[Held]:
    """`delay` faults wait for `held.released` and not for the clock."""
    holder = Held()
    monkeypatch.setattr(sandbox_control, "sleep", holder.sleep)
    yield holder
    holder.released.set()


Raw = Callable[..., tuple[int, Any, dict[str, str]]]


@pytest.fixture
def raw(sandbox: Sandbox) -> Raw:
    """Requests that stripe-python would not make: raw(method, url, body, **headers) -> status, JSON, headers."""

    def call(method: str, url: str, body: bytes | str = b"", **headers: str) -> tuple[int, Any, dict[str, str]]:
        sent = {"Authorization": "Bearer sk_test_sandbox", "Content-Type": "application/x-www-form-urlencoded"}
        sent.update({name.replace("_", "-"): value for name, value in headers.items()})
        data = body.encode() if isinstance(body, str) else body
        response = sandbox.handle(Request(method, url, {k: v for k, v in sent.items() if v}, data))
        return response.status, json.loads(response.body), dict(response.headers)

    return call
