"""A request goes to the configured address and nowhere else, whatever the environment and the answer say."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from components.account import Account, StripeRefusal
from components.pulumi_speed import PROVIDER_THREADS
from components.settings import Settings, is_loopback

KEY = "sk_" + "test_0123456789"


class Server(ThreadingHTTPServer):
    """Answers every request alike, and remembers it."""

    daemon_threads = True

    def __init__(self, status: int, headers: dict[str, str]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answer, self.headers = status, headers
        self.seen: list[tuple[str, str, str | None]] = []
        #: Requests by connection.
        self.connections = Counter[object]()
        #: So many requests are answered together.
        self.together: threading.Barrier | None = None

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_GET(self) -> None:
        self.server.connections[self.client_address] += 1
        if self.server.together:
            self.server.together.wait(60)
        self.rfile.read(int(self.headers.get("content-length") or 0))
        self.server.seen.append((self.command, self.path, self.headers.get("authorization")))
        body = b'{"id": "acct_1", "object": "account"}'
        self.send_response(self.server.answer)
        for name, value in {**self.server.headers, "content-length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def serving(status: int = 200, **headers: str) -> Iterator[Server]:
    server = Server(status, headers)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(autouse=True)
def _no_proxy_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


def account(address: str, mode: str = "test") -> Account:
    config = {"mode": mode, "apiKey": KEY, "apiBase": address, "retrySeconds": "0.001"}
    return Account(Settings.read(config.get, {}))


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_carries_neither_key_nor_body_anywhere(status: int) -> None:
    with serving() as elsewhere, serving(status, Location=f"{elsewhere.address}/v1/account") as asked:
        with pytest.raises(
            StripeRefusal, match=rf"HTTP {status}.*The address redirects, which is never followed"
        ) as caught:
            account(asked.address).request("get", "/v1/products", subject="Products")
        assert "\n" not in str(caught.value)
        with pytest.raises(StripeRefusal, match="The address redirects"):
            account(asked.address)._send("post", "/v1/products", {"name": "P"}, "Product", None)
        assert elsewhere.seen == []
        assert {seen[0] for seen in asked.seen} == {"GET", "POST"}


def test_a_netrc_does_not_take_the_place_of_the_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("default login me password hunter22\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    with serving() as server:
        assert account(server.address).id == "acct_1"
        assert server.seen == [("GET", "/v1/account", f"Bearer {KEY}")]


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"])
def test_no_proxy_of_the_environment_is_asked_for_this_machine(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    with serving() as server, serving() as proxy:
        monkeypatch.setenv(name, proxy.address)
        assert account(server.address).id == "acct_1"
        assert account(server.address.replace("127.0.0.1", "localhost")).id == "acct_1"
        assert proxy.seen == []
        assert len(server.seen) == 2


def test_a_proxy_of_the_environment_is_asked_for_other_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    """Companies have them; to Stripe itself they carry an encrypted tunnel."""
    with serving() as proxy:
        monkeypatch.setenv("http_proxy", proxy.address)
        assert account("http://sandbox.example", mode="sandbox").id == "acct_1"
        assert [seen[1] for seen in proxy.seen] == ["http://sandbox.example/v1/account"]


def test_the_connection_of_every_thread_is_kept() -> None:
    with serving() as server, ThreadPoolExecutor(PROVIDER_THREADS) as threads:
        client = account(server.address)
        assert client.id == "acct_1"
        server.together = threading.Barrier(PROVIDER_THREADS)
        for _ in range(3):
            calls = [
                threads.submit(client.request, "get", "/v1/products", subject="Products")
                for _ in range(PROVIDER_THREADS)
            ]
            for call in calls:
                call.result()
        assert len(server.connections) == PROVIDER_THREADS
        assert server.connections.total() == 3 * PROVIDER_THREADS + 1


@pytest.mark.parametrize(
    ("host", "here"),
    [
        ("localhost", True),
        ("127.0.0.1", True),
        ("127.1.2.3", True),
        ("::1", True),
        ("localhost.example", False),
        ("10.0.0.1", False),
        ("0.0.0.0", False),
        ("127.0.0.1.example", False),
    ],
)
def test_this_machine_is_known_by_its_addresses(host: str, here: bool) -> None:
    assert is_loopback(host) is here
