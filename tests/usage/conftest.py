"""A sandbox with a catalog for every test, in process or on a port, and an environment without surprises."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

import usage.client
from sandbox import Request, Sandbox
from sandbox.server import serving

EVENT = "alpaca_ai_tokens"
VARIABLES = (
    "STRIPE_API_KEY",
    "STRIPE_MODE",
    "STRIPE_API_BASE",
    "STRIPE_SANDBOX_FILE",
    "STRIPE_USAGE_SPOOL",
    "HTTPS_PROXY",
    "https_proxy",
    "HTTP_PROXY",
    "http_proxy",
    "ALL_PROXY",
    "all_proxy",
    "LOCALAPPDATA",
)


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """No settings from outside, a working directory of its own, and retries that do not wait."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr("usage.api.BACKOFF_FIRST", 0.001)
    monkeypatch.setattr("usage.api.BACKOFF_MOST", 0.01)
    monkeypatch.setattr("usage.spool.PATIENCE", 30.0)
    yield
    made, usage.client._default = usage.client._default, None
    if made is not None:
        made.close(5)


@pytest.fixture
def one_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    """No call is tried again."""
    monkeypatch.setattr("usage.api.ATTEMPTS", 1)


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """The background looks for events all the time."""
    monkeypatch.setattr("usage.client.INTERVAL", 0.01)


@dataclass
class World:
    """A sandbox with a `sum` meter and two customers."""

    sandbox: Sandbox
    path: str
    key: str = "sk_test_sandbox"

    def call(self, method: str, url: str, form: dict[str, str] | None = None) -> dict[str, Any]:
        body = urlencode(form or {}).encode()
        headers = {"Authorization": f"Bearer {self.key}", "Content-Type": "application/x-www-form-urlencoded"}
        response = self.sandbox.handle(Request(method, url, headers, body))
        assert response.status == 200, response.body
        answer: dict[str, Any] = json.loads(response.body)
        return answer

    def control(self, name: str, **settings: Any) -> dict[str, Any]:
        headers = {"Content-Type": "application/json"}
        response = self.sandbox.handle(Request("POST", f"/_sandbox/{name}", headers, json.dumps(settings).encode()))
        assert response.status == 200, response.body
        answer: dict[str, Any] = json.loads(response.body)
        return answer

    def log(self) -> list[dict[str, Any]]:
        """The request log, oldest first."""
        response = self.sandbox.handle(Request("GET", "/_sandbox/requests", {}, b""))
        rows: list[dict[str, Any]] = json.loads(response.body)["data"]
        return [{**row, "path": row["url"].partition("?")[0]} for row in rows]

    def meter(self, event_name: str = EVENT, formula: str = "sum", **more: str) -> str:
        form = {"display_name": event_name, "event_name": event_name, "default_aggregation[formula]": formula, **more}
        return str(self.call("POST", "/v1/billing/meters", form)["id"])

    def customer(self, name: str = "Ada") -> str:
        return str(self.call("POST", "/v1/customers", {"name": name})["id"])

    def total(self, meter: str, customer: str, start: int = 0, end: int = 0) -> Decimal:
        """Usage as the sandbox itself sums it, over the past 36 days and a bit of future."""
        import time

        now = int(time.time())
        start = start or now - now % 60 - 36 * 86_400
        end = end or now - now % 60 + 3600
        query = f"customer={customer}&start_time={start}&end_time={end}"
        rows = self.call("GET", f"/v1/billing/meters/{meter}/event_summaries?{query}")["data"]
        return sum((Decimal(str(row["aggregated_value"])) for row in rows), Decimal(0))


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A sandbox file, and the sandbox open on it."""
    path = str(tmp_path / "sandbox" / "stripe.db")
    sandbox = Sandbox(path)
    yield World(sandbox, path)
    sandbox.close()


@pytest.fixture
def meter(world: World) -> str:
    """Id of a `sum` meter for EVENT."""
    return world.meter()


@pytest.fixture
def customer(world: World, meter: str) -> str:
    """Id of a customer."""
    return world.customer()


@pytest.fixture
def embedded(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """The environment of a script that delivers to the embedded sandbox."""
    monkeypatch.setenv("STRIPE_MODE", "sandbox")
    monkeypatch.setenv("STRIPE_SANDBOX_FILE", world.path)
    return world


@pytest.fixture
def served(world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The environment of a script with a test key, whose Stripe is a sandbox on a port; yields the address."""
    with serving(world.sandbox) as server:
        monkeypatch.setenv("STRIPE_API_KEY", "sk_test_sandbox")
        monkeypatch.setenv("STRIPE_API_BASE", server.url)
        yield server.url
