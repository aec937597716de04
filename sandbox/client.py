"""The sandbox under stripe-python, in process: `stripe.StripeClient(key, http_client=SandboxHTTPClient(path))`.

No port and no daemon: each request is a function call. It serves every base address of the client, including the meter
event stream's. This is the only module of `sandbox` that imports `stripe`.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

import stripe

from .gateway import Sandbox
from .wire import ConnectionDropped, Request, Response, SandboxFileError


class Headers(dict[str, str]):
    """Response headers with case-insensitive names, as in stripe-python's own transports."""

    def __getitem__(self, name: str) -> str:
        return super().__getitem__(name.lower())

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and super().__contains__(name.lower())

    def get(self, name: str, default: Any = None) -> Any:
        """The value of a header, else `default`."""
        return super().get(name.lower(), default)


class SandboxHTTPClient(stripe.HTTPClient):
    """stripe-python's transport over a sandbox file, or over an open `Sandbox`."""

    name = "sandbox"

    def __init__(self, sandbox: Sandbox | str | os.PathLike[str], *, clock: Callable[[], float] | None = None) -> None:
        """`clock` returns Unix seconds, for a sandbox that this opens; the default is the host's."""
        super().__init__()
        self.sandbox = sandbox if isinstance(sandbox, Sandbox) else Sandbox(sandbox, clock=clock)

    def request(
        self, method: str, url: str, headers: Mapping[str, str] | None, post_data: Any = None, **_: Any
    ) -> tuple[str, int, Mapping[str, str]]:
        """Send one request; a fault that breaks the connection raises the client's own connection error."""
        response = self._handle(method, url, headers, post_data)
        return response.body.decode("utf-8"), response.status, Headers(response.headers)

    async def request_async(
        self, method: str, url: str, headers: Mapping[str, str], post_data: Any = None, **_: Any
    ) -> tuple[bytes, int, Mapping[str, str]]:
        """The same for asyncio, on a thread, so a delay does not block the loop."""
        response = await asyncio.to_thread(self._handle, method, url, headers, post_data)
        return response.body, response.status, Headers(response.headers)

    async def sleep_async(self, secs: float) -> None:
        """Between retries."""
        await asyncio.sleep(secs)

    def close(self) -> None:
        """Close the file."""
        self.sandbox.close()

    async def close_async(self) -> None:
        """Close the file."""
        self.sandbox.close()

    def _handle(self, method: str, url: str, headers: Mapping[str, str] | None, post_data: Any) -> Response:
        parts = urlsplit(url)
        target = parts.path + (f"?{parts.query}" if parts.query else "")
        body = post_data.encode("utf-8") if isinstance(post_data, str) else (post_data or b"")
        try:
            return self.sandbox.handle(Request(method.upper(), target, dict(headers or {}), body))
        except ConnectionDropped as dropped:
            raise _broken(f"Sandbox: {dropped}.", retry=True) from dropped
        except SandboxFileError as problem:
            raise _broken(str(problem), retry=False) from problem


def _broken(message: str, *, retry: bool) -> stripe.APIConnectionError:
    return stripe.APIConnectionError(message, should_retry=retry)  # type: ignore[no-untyped-call]
