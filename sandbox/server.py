"""The sandbox on a port: plain HTTP/1.1 with keep-alive, on the loopback address unless told otherwise."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import struct
import threading
from collections.abc import Iterator
from http import HTTPStatus
from socketserver import StreamRequestHandler, ThreadingTCPServer
from typing import Any, Final

from .gateway import Sandbox
from .wire import ConnectionDropped, Request, Response, SandboxFileError

LOOPBACK: Final = "127.0.0.1"

#: A body that is announced as larger is refused before it is read.
MAX_BODY: Final = 16 * 1024 * 1024


#: As long as the standard library's own server allows.
MAX_LINE: Final = 65536
MAX_HEADERS: Final = 100
#: A client that opens a connection and says nothing does not keep a thread for ever.
IDLE_SECONDS: Final = 120

_REQUEST_LINE = re.compile(rb"\A([A-Z]{1,20}) (/[^ ]*) HTTP/1\.([01])\Z")
_METHODS: Final = frozenset({"GET", "POST", "DELETE", "PUT", "PATCH", "HEAD", "OPTIONS"})
_PHRASES: Final = {status.value: status.phrase for status in HTTPStatus}


class _Unreadable(Exception):
    """A request that is answered without asking the sandbox, and then the connection is closed."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class _Handler(StreamRequestHandler):
    """One connection, any number of requests.

    The standard library's `BaseHTTPRequestHandler` reads headers as if they were mail, which costs as much as all of
    the sandbox's own work; this reads what HTTP/1.1 clients of an API send and refuses the rest.
    """

    # Without these two every answer waits for a delayed acknowledgement: 40 ms.
    disable_nagle_algorithm = True
    wbufsize = 65536
    timeout = IDLE_SECONDS

    server: SandboxServer

    def handle(self) -> None:
        """Answer requests until the client or an error ends the connection."""
        try:
            while self._one():
                pass
        except _Unreadable as problem:
            body = json.dumps({"error": {"message": str(problem), "type": "invalid_request_error"}}).encode()
            self._send(Response(problem.status, {"content-type": "application/json"}, body), keep=False)
            self._drain()
        except (ConnectionError, TimeoutError):
            # The client has gone; nobody is left to tell.
            pass

    def _one(self) -> bool:
        """One request; whether the connection stays."""
        line = self._line(414)
        if line in (b"\r\n", b"\n"):
            line = self._line(414)
        if not line:
            return False
        match = _REQUEST_LINE.match(line.rstrip(b"\r\n"))
        if match is None:
            raise _Unreadable(400, "This is not an HTTP/1.1 request.")
        method, url = match.group(1).decode("ascii"), match.group(2).decode("latin-1")
        if method not in _METHODS:
            raise _Unreadable(501, f"There is no method {method}.")
        headers = self._headers()
        wants = headers.get("connection", "").lower()
        keep = wants != "close" if match.group(3) == b"1" else wants == "keep-alive"
        length = _length(headers)
        if headers.get("expect", "").lower() == "100-continue":
            self.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self.wfile.flush()
        body = self.rfile.read(length) if length else b""
        if len(body) < length:
            return False
        try:
            response = self.server.sandbox.handle(Request(method, url, headers, body))
        except ConnectionDropped as dropped:
            self._drop(dropped.partial)
            return False
        except SandboxFileError as problem:
            error = {"error": {"message": str(problem), "type": "api_error"}}
            response = Response(500, {"content-type": "application/json"}, json.dumps(error).encode())
        self._send(response, keep=keep, bodiless=method == "HEAD")
        return keep

    def _drain(self) -> None:
        """Read on for a moment: closing with bytes unread would reset the connection under the answer."""
        self.connection.shutdown(socket.SHUT_WR)
        self.connection.settimeout(1)
        for _ in range(64):
            if not self.connection.recv(65536):
                return

    def _line(self, too_long: int) -> bytes:
        line: bytes = self.rfile.readline(MAX_LINE + 1)
        if len(line) > MAX_LINE:
            raise _Unreadable(too_long, f"A line of the request is longer than {MAX_LINE} bytes.")
        return line

    def _headers(self) -> dict[str, str]:
        """Header lines up to the empty one; names in lower case."""
        headers: dict[str, str] = {}
        for _ in range(MAX_HEADERS + 1):
            line = self._line(431).rstrip(b"\r\n")
            if not line:
                return headers
            name, colon, value = line.decode("latin-1").partition(":")
            if not colon or not name or name != name.strip():
                raise _Unreadable(400, "A header line has no name.")
            headers[name.lower()] = value.strip()
        raise _Unreadable(431, f"The request has more than {MAX_HEADERS} headers.")

    def _send(self, response: Response, *, keep: bool, length: int | None = None, bodiless: bool = False) -> None:
        head = [f"HTTP/1.1 {response.status} {_PHRASES.get(response.status, '')}\r\n"]
        head.extend(f"{name}: {value}\r\n" for name, value in response.headers.items())
        if not keep:
            head.append("connection: close\r\n")
        head.append(f"content-length: {len(response.body) if length is None else length}\r\n\r\n")
        self.wfile.write("".join(head).encode("latin-1", "replace") + (b"" if bodiless else response.body))
        self.wfile.flush()

    def _drop(self, partial: Response | None) -> None:
        """Break the connection as a crashed server does: at once, half way through the answer if there is one."""
        if partial is not None:
            # The client is promised more than it gets.
            self._send(partial, keep=True, length=2 * len(partial.body) + 2)
        else:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR if partial is not None else socket.SHUT_RD)


def _length(headers: dict[str, str]) -> int:
    """The announced length of the body."""
    announced = headers.get("content-length", "0")
    if "transfer-encoding" in headers:
        raise _Unreadable(411, "This sandbox takes bodies with a Content-Length only.")
    if not (announced.isascii() and announced.isdigit() and len(announced) < 12):
        raise _Unreadable(400, "The Content-Length is not a number.")
    if int(announced) > MAX_BODY:
        raise _Unreadable(413, f"The body is larger than {MAX_BODY} bytes.")
    return int(announced)


class SandboxServer(ThreadingTCPServer):
    """A listening socket over a `Sandbox`; a thread a connection."""

    daemon_threads = True
    request_queue_size = 128
    allow_reuse_address = True

    def __init__(self, sandbox: Sandbox, host: str = LOOPBACK, port: int = 0) -> None:
        """`port` 0 takes any free one."""
        self.sandbox = sandbox
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        super().__init__((host, port), _Handler)
        self.host, self.port = str(self.server_address[0]), int(self.server_address[1])

    @property
    def url(self) -> str:
        """Where it listens: what `STRIPE_API_BASE` should be."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no news; anything else is answered by the sandbox itself."""


@contextlib.contextmanager
def serving(sandbox: Sandbox, host: str = LOOPBACK, port: int = 0) -> Iterator[SandboxServer]:
    """A server on a thread for as long as the block runs."""
    server = SandboxServer(sandbox, host, port)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
