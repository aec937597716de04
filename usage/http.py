"""stripe-python's HTTP client with a deadline: loaded when something is first sent, and cut off when its time is over.

Proxies, certificates and keep-alive are stripe-python's (and so requests') own. What it lacks is a timeout for each
call, a redirect that is seen and not followed, and a way to end a call that hangs; those three are this file.
"""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections.abc import Mapping
from typing import Any

from .destination import Destination
from .errors import DestinationError, Unreachable

CONNECT_SECONDS = 3.0
"""At most so long for a connection: it cannot be cut off, and the end of a script gives it no more than 5 seconds."""


class HTTP:
    """One request at a time a thread, over stripe-python's client for this destination. Thread-safe."""

    def __init__(self, destination: Destination) -> None:
        import stripe

        self.api_version: str = stripe.api_version
        self._lost: type[Exception] = stripe.APIConnectionError
        self._limit = threading.local()
        self._live: weakref.WeakSet[Any] = weakref.WeakSet()
        self._client: Any
        self._session: Any = None
        if destination.api_base is None:
            from sandbox import SandboxFileError
            from sandbox.client import SandboxHTTPClient

            try:
                self._client = SandboxHTTPClient(destination.sandbox_file)
            except SandboxFileError as problem:
                raise DestinationError(str(problem)) from None
        else:
            self._session = _session(self._limit, self._live)
            local = "//127." in destination.api_base or "//localhost" in destination.api_base
            self._session.trust_env = not local  # a proxy of the environment has no way to this machine's own ports
            self._client = stripe.RequestsClient(session=self._session)

    def send(
        self, method: str, url: str, headers: dict[str, str], body: bytes, timeout: float
    ) -> tuple[int, Mapping[str, str], bytes]:
        """One attempt, of up to `timeout` seconds; returns status, headers (found in any case) and body.

        Raises Unreachable, whose `maybe_done` says whether the request may have been carried out, or DestinationError
        when trying again is of no use.
        """
        self._limit.timeout = (min(timeout, CONNECT_SECONDS), timeout)
        try:
            content, status, answered = self._client.request(method.lower(), url, headers, body)
        except self._lost as problem:
            raise _explained(url, problem.__cause__) from None
        return status, answered, content.encode() if isinstance(content, str) else content

    def abort(self) -> None:
        """End the calls that are under way in other threads: their connections are shut, and they raise Unreachable."""
        from socket import SHUT_RDWR

        for connection in list(self._live):
            if connection.sock is not None:
                with contextlib.suppress(OSError, ValueError):
                    connection.sock.shutdown(SHUT_RDWR)

    def close(self) -> None:
        """Close connections and files."""
        (self._session or self._client).close()


def _session(limit: threading.local, live: weakref.WeakSet[Any]) -> Any:
    """A requests session: its timeout from `limit`, no redirect followed, its connections listed in `live`."""
    from http.cookiejar import DefaultCookiePolicy

    from requests import Session
    from requests.adapters import HTTPAdapter

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


def _explained(url: str, cause: BaseException | None) -> DestinationError | Unreachable:
    """What the cause of stripe-python's APIConnectionError means: not sent, perhaps carried out, or hopeless."""
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
