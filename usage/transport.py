"""How one HTTP request reaches Stripe: over kept-alive connections, or into the embedded sandbox of this process.

Why not stripe-python here: it URL-encodes every v2 body before it throws that away, opens a session per thread and
costs 160 ms to import; `http.client` sends a batch of 100 events for 3 us an event (docs/usage.md has the figures), and
everything this module calls is a dozen paths. The price is one page of code, which is this file and `api.py`.
"""

from __future__ import annotations

import os
import threading
import time
from collections import namedtuple

from .errors import DestinationError

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
        """Sends one request; returns the answer, or raises NotSent or LostAnswer, or DestinationError when trying again
        is of no use. Called from several threads."""

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
    """Keep-alive HTTP/1.1: idle connections wait for whichever thread sends next; a fork leaves them behind."""

    def __init__(self, destination: Destination) -> None:
        from urllib.parse import urlsplit

        assert destination.api_base is not None
        assert destination.meter_events_base is not None
        self._bases = {"api": urlsplit(destination.api_base), "meter_events": urlsplit(destination.meter_events_base)}
        self._lock = threading.Lock()
        self._idle: dict[str, list[tuple[float, http.client.HTTPConnection]]] = {"api": [], "meter_events": []}
        self._pid = os.getpid()
        self._context: Any = None

    def _connection(self, host: str, timeout: float) -> http.client.HTTPConnection:
        with self._lock:
            if self._pid != os.getpid():
                # the parent's sockets: two processes must not talk on one
                self._idle = {"api": [], "meter_events": []}
                self._pid = os.getpid()
            while self._idle[host]:
                since, connection = self._idle[host].pop()
                if time.monotonic() - since < IDLE_SECONDS and connection.sock is not None:
                    connection.sock.settimeout(timeout)
                    return connection
                connection.close()
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
        return connection

    def send(self, method: str, host: str, url: str, headers: dict[str, str], body: bytes, timeout: float) -> Reply:
        import http.client

        connection = self._connection(host, timeout)
        try:
            connection.request(method, self._bases[host].path + url, body or None, headers)
            answer = connection.getresponse()
            content = answer.read()
        except BaseException as problem:
            connection.close()
            if not isinstance(problem, (OSError, http.client.HTTPException)):
                raise
            slow = isinstance(problem, TimeoutError)
            reason = "no answer in time" if slow else f"the connection broke ({type(problem).__name__})"
            raise LostAnswer(f"{self._bases[host].hostname}: {reason}") from None
        if answer.will_close:
            connection.close()
        else:
            with self._lock:
                self._idle[host].append((time.monotonic(), connection))
        return Reply(answer.status, {name.lower(): text for name, text in answer.getheaders()}, content)

    def close(self) -> None:
        with self._lock:
            for pool in self._idle.values():
                while pool:
                    pool.pop()[1].close()

    def __del__(self) -> None:
        # A client that is dropped without close(): its idle sockets go with it. Without the lock, which may be held for
        # ever when this runs in a forked child.
        for pool in getattr(self, "_idle", {}).values():
            for _, connection in pool:
                connection.close()


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
                    raise DestinationError(str(problem)) from None
                self._pid = os.getpid()
            opened = self._sandbox
        try:
            answer = opened.handle(sandbox.Request(method, url, headers, body))
        except sandbox.ConnectionDropped as problem:
            raise LostAnswer(f"the sandbox dropped the connection: {problem}") from None
        except sandbox.SandboxFileError as problem:
            raise DestinationError(str(problem)) from None
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
