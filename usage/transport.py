"""How one HTTP request reaches Stripe: over kept-alive connections, or into the embedded sandbox of this process.

Why not stripe-python here: it URL-encodes every v2 body before it throws that away, opens a session per thread and
costs 160 ms to import; `http.client` sends a batch of 100 events for 3 us an event (docs/usage.md has the figures), and
everything this module calls is a dozen paths. The price is one page of code, which is this file and `api.py`.
"""

from __future__ import annotations

import os
import threading
from collections import namedtuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    import http.client
    from typing import Any, NamedTuple, Protocol

    from .destination import Destination

    class Reply(NamedTuple):
        """An HTTP answer; header names are lower case."""

        status: int
        headers: dict[str, str]
        body: bytes

    class Transport(Protocol):
        """Sends one request and returns the answer, or raises NotSent or LostAnswer. Called from several threads."""

        def send(self, method: str, host: str, url: str, headers: dict[str, str], body: bytes, timeout: float) -> Reply:
            """`host` is "api" or "meter_events"; `url` is path and query; `timeout` in seconds."""
            ...

        def close(self) -> None:
            """Let go of connections and files."""
            ...
else:
    Reply = namedtuple("Reply", "status headers body")

IDLE_SECONDS = 45.0  # load balancers drop idle connections after about a minute; reconnecting first is cheaper


class NotSent(Exception):
    """The request certainly did not reach the server."""


class LostAnswer(Exception):
    """The request may have been carried out; no complete answer arrived."""


class HTTPTransport:
    """Keep-alive HTTP/1.1, one connection per thread and host; dropped, not shared, in a forked child."""

    def __init__(self, destination: Destination) -> None:
        from urllib.parse import urlsplit

        assert destination.api_base is not None
        assert destination.meter_events_base is not None
        self._bases = {"api": urlsplit(destination.api_base), "meter_events": urlsplit(destination.meter_events_base)}
        self._local = threading.local()
        self._open: set[http.client.HTTPConnection] = set()
        self._context: Any = None

    def _connection(self, host: str, timeout: float) -> http.client.HTTPConnection:
        import time

        pool: dict[str, tuple[int, float, http.client.HTTPConnection]] = self._local.__dict__
        known = pool.get(host)
        if known is not None:
            pid, used, connection = known
            if pid == os.getpid() and time.monotonic() - used < IDLE_SECONDS and connection.sock is not None:
                connection.sock.settimeout(timeout)
                return connection
            if pid == os.getpid():
                self._discard(host)
        return self._connect(host, timeout)

    def _connect(self, host: str, timeout: float) -> http.client.HTTPConnection:
        import http.client

        base = self._bases[host]
        name = base.hostname or ""
        proxy = _proxy_for(base.scheme, name)
        port = base.port or (443 if base.scheme == "https" else 80)
        if base.scheme == "https":
            import ssl

            if self._context is None:
                self._context = ssl.create_default_context()
            connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                *(proxy or (name, port)), timeout=timeout, context=self._context
            )
            if proxy is not None:
                connection.set_tunnel(name, port)
        else:
            connection = http.client.HTTPConnection(name, port, timeout=timeout)
        try:
            connection.connect()
        except (OSError, http.client.HTTPException) as problem:
            connection.close()
            raise NotSent(f"no connection to {name}:{port}: {problem}") from None
        self._open.add(connection)
        return connection

    def _discard(self, host: str) -> None:
        known = self._local.__dict__.pop(host, None)
        if known is not None:
            self._open.discard(known[2])
            known[2].close()

    def send(self, method: str, host: str, url: str, headers: dict[str, str], body: bytes, timeout: float) -> Reply:
        import http.client
        import time

        connection = self._connection(host, timeout)
        try:
            connection.request(method, self._bases[host].path + url, body or None, headers)
            answer = connection.getresponse()
            content = answer.read()
        except (OSError, http.client.HTTPException) as problem:
            self._local.__dict__[host] = (os.getpid(), 0.0, connection)
            self._discard(host)
            reason = (
                "no answer in time"
                if isinstance(problem, TimeoutError)
                else f"the connection broke ({type(problem).__name__})"
            )
            raise LostAnswer(f"{self._bases[host].hostname}: {reason}") from None
        self._local.__dict__[host] = (os.getpid(), time.monotonic(), connection)
        if answer.will_close:
            self._discard(host)
        return Reply(answer.status, {name.lower(): text for name, text in answer.getheaders()}, content)

    def close(self) -> None:
        for connection in list(self._open):
            connection.close()
        self._open.clear()
        self._local = threading.local()


def _proxy_for(scheme: str, host: str) -> tuple[str, int] | None:
    """Host and port of the proxy that HTTPS_PROXY and NO_PROXY ask for, or None; plain HTTP never takes one here."""
    if scheme != "https" or not (os.environ.get("https_proxy") or os.environ.get("HTTPS_PROXY")):
        return None
    from urllib.parse import urlsplit
    from urllib.request import getproxies, proxy_bypass

    if proxy_bypass(host):
        return None
    address = getproxies().get("https", "")
    parts = urlsplit(address if "//" in address else f"//{address}")
    return (parts.hostname, parts.port or 3128) if parts.hostname else None


class SandboxTransport:
    """The embedded sandbox: the same requests, handed to `sandbox.Sandbox.handle` in this process, without a port."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._pid = 0
        self._sandbox: Any = None

    def send(self, method: str, host: str, url: str, headers: dict[str, str], body: bytes, timeout: float) -> Reply:
        import sandbox

        with self._lock:
            if self._pid != os.getpid():
                try:
                    self._sandbox = sandbox.Sandbox(self.path)
                except sandbox.SandboxFileError as problem:
                    raise NotSent(str(problem)) from None
                self._pid = os.getpid()
            opened = self._sandbox
        try:
            answer = opened.handle(sandbox.Request(method, url, headers, body))
        except sandbox.ConnectionDropped as problem:
            raise LostAnswer(f"the sandbox dropped the connection: {problem}") from None
        except sandbox.SandboxFileError as problem:
            raise NotSent(str(problem)) from None
        return Reply(answer.status, dict(answer.headers), answer.body)

    def close(self) -> None:
        with self._lock:
            opened, self._sandbox, self._pid = self._sandbox, None, 0
            if opened is not None and hasattr(opened, "close"):
                opened.close()


def transport_for(destination: Destination) -> Transport:
    """The transport that reaches `destination`."""
    if destination.api_base is None:
        assert destination.sandbox_file is not None
        return SandboxTransport(destination.sandbox_file)
    return HTTPTransport(destination)
