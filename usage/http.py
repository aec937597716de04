"""stripe-python's HTTP client with a deadline: loaded when something is first sent, and cut off when its time is over.

Proxies, certificates and keep-alive are stripe-python's (and so requests') own. What it lacks is a timeout for each
call, a redirect that is seen and not followed, and a way to end a call that hangs; those three are this file.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import weakref
from typing import TYPE_CHECKING, Any, NamedTuple

from .errors import DestinationError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .destination import Destination

CONNECT_SECONDS = 3.0
"""At most so long for a connection: it cannot be cut off, and the end of a script gives it no more than 5 seconds."""


class Reply(NamedTuple):
    """An HTTP answer; header names are found in any case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class NotSent(Exception):
    """The request certainly did not reach the server."""


class LostAnswer(Exception):
    """The request may have been carried out; no complete answer arrived."""


class HTTP:
    """One request at a time a thread, over stripe-python's client for this destination. Thread-safe."""

    def __init__(self, destination: Destination) -> None:
        import stripe

        self.api_version: str = stripe.api_version
        self._lost: type[Exception] = stripe.APIConnectionError
        self._bases = {"api": destination.api_base or "", "meter_events": destination.meter_events_base or ""}
        self._limit = threading.local()
        self._live: weakref.WeakSet[Any] = weakref.WeakSet()
        self._client: Any
        self._session: Any = None
        if destination.api_base is None:
            from sandbox import SandboxFileError
            from sandbox.client import SandboxHTTPClient

            try:
                self._client = SandboxHTTPClient(destination.sandbox_file or "")
            except SandboxFileError as problem:
                raise DestinationError(str(problem)) from None
        else:
            self._session = _session(self._limit, self._live)
            local = "//127." in destination.api_base or "//localhost" in destination.api_base
            self._session.trust_env = not local  # a proxy of the environment has no way to this machine's own ports
            self._client = stripe.RequestsClient(session=self._session)

    def send(self, method: str, host: str, url: str, headers: dict[str, str], body: bytes, timeout: float) -> Reply:
        """One attempt. `host` is "api" or "meter_events", `url` path and query, `timeout` in seconds.

        Raises NotSent, LostAnswer, or DestinationError when trying again is of no use.
        """
        self._limit.timeout = (min(timeout, CONNECT_SECONDS), timeout)
        try:
            content, status, answered = self._client.request(method.lower(), self._bases[host] + url, headers, body)
        except self._lost as problem:
            raise _explained(self._bases[host], problem) from None
        return Reply(status, answered, content.encode() if isinstance(content, str) else content)

    def abort(self) -> None:
        """End the calls that are under way in other threads: their connections are shut, and they raise LostAnswer."""
        for connection in list(self._live):
            sock = getattr(connection, "sock", None)
            if sock is not None:
                with contextlib.suppress(OSError, ValueError):
                    sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Let go of connections and files."""
        (self._session or self._client).close()


def _session(limit: threading.local, live: weakref.WeakSet[Any]) -> Any:
    """A requests session: its timeout from `limit`, no redirect followed, its connections listed in `live`."""
    from http.cookiejar import DefaultCookiePolicy

    from requests import Session
    from requests.adapters import HTTPAdapter
    from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
    from urllib3.connection import HTTPConnection, HTTPSConnection

    def listed(pool: Any, connection: Any) -> Any:
        """The pool, whose connections are in `live` once they connect."""

        def connect(self: Any) -> None:
            live.add(self)
            connection.connect(self)

        kind = type(connection.__name__, (connection,), {"connect": connect})
        return type(pool.__name__, (pool,), {"ConnectionCls": kind})

    pools = {"http": listed(HTTPConnectionPool, HTTPConnection), "https": listed(HTTPSConnectionPool, HTTPSConnection)}

    class Adapter(HTTPAdapter):  # type: ignore[misc, unused-ignore]
        def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
            super().init_poolmanager(*arguments, **options)
            self.poolmanager.pool_classes_by_scheme = pools

        def proxy_manager_for(self, proxy: str, **options: Any) -> Any:
            manager = super().proxy_manager_for(proxy, **options)
            if not proxy.lower().startswith("socks"):  # SOCKS has connections of its own
                manager.pool_classes_by_scheme = pools
            return manager

    class Bounded(Session):  # type: ignore[misc, unused-ignore]
        def request(self, method: Any, url: Any, *arguments: Any, **options: Any) -> Any:
            options.update(timeout=limit.timeout, allow_redirects=False)
            return super().request(method, url, *arguments, **options)

    session = Bounded()
    session.auth = lambda request: request  # without it, a .netrc of the machine would replace the key
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    session.mount("https://", Adapter())
    session.mount("http://", Adapter())
    return session


def _explained(base: str, problem: Exception) -> Exception:
    """What stripe-python's APIConnectionError means for the request: not sent, perhaps carried out, or hopeless."""
    cause = problem.__cause__
    kinds = {kind.__name__ for kind in type(cause).__mro__}
    host = base.partition("//")[2].partition("/")[0] or "the sandbox"
    if "SandboxFileError" in kinds:
        return DestinationError(str(cause))
    if "ConnectionDropped" in kinds:
        return LostAnswer(f"{host}: the connection broke ({cause})")
    if "SSLError" in kinds:
        return DestinationError(f"the certificate of {host} cannot be verified, so nothing was sent: {_reason(cause)}")
    if kinds & {"InvalidSchema", "InvalidURL", "MissingSchema", "InvalidHeader", "InvalidProxyURL", "UnicodeError"}:
        return DestinationError(f"{host} cannot be called: {_reason(cause)}")
    if kinds & {"ConnectTimeout", "ProxyError"} or "NewConnectionError" in repr(cause):
        return NotSent(f"no connection to {host}: {_reason(cause)}")
    if "Timeout" in kinds or "ReadTimeoutError" in repr(cause):
        return LostAnswer(f"{host}: no answer in time")
    return LostAnswer(f"{host}: the connection broke ({_reason(cause)})")


def _reason(cause: BaseException | None) -> str:
    """The innermost cause in a few words, without the addresses of objects."""
    while True:
        inner = getattr(cause, "reason", None) or next(
            (one for one in getattr(cause, "args", ()) if isinstance(one, BaseException)), None
        )
        if not isinstance(inner, BaseException):
            break
        cause = inner
    text = str(cause).partition("object at 0x")[2].partition(": ")[2] or str(cause)
    return (text or type(cause).__name__)[:200]
