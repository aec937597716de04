"""The sandbox on a port: plain HTTP/1.1 with keep-alive, by default on the loopback address."""

from __future__ import annotations

import contextlib
import ipaddress
import json
import re
import socket
import struct
import threading
import time
from collections.abc import Iterator
from http import HTTPStatus
from socketserver import BaseRequestHandler, ThreadingTCPServer
from typing import Any, Final

from .gateway import Sandbox
from .wire import ConnectionDropped, Request, Response, SandboxFileError

LOOPBACK: Final = "127.0.0.1"

#: A larger body is refused before it is read.
MAX_BODY: Final = 16 * 1024 * 1024

#: The request line and the headers together: a longer URL is a 414, more headers are a 431.
MAX_HEAD: Final = 65536
MAX_HEADERS: Final = 100
#: The line before a chunk: a length and unused extensions.
MAX_LINE: Final = 4096
#: An idle client does not keep a thread forever.
IDLE_SECONDS: Final = 120.0
#: A stopping server waits this long for requests in progress: less than the time until supervisors kill it.
FINISH_SECONDS: Final = 5.0

#: Bare line feeds are accepted too: input typed into `nc` has no carriage returns.
_END_OF_HEAD = re.compile(rb"\n\r?\n")
_REQUEST_LINE = re.compile(r"\A([A-Z]{1,20}) (/[^ ]*) HTTP/1\.([01])\Z")
_CHUNK_SIZE = re.compile(r"\A[0-9A-Fa-f]{1,8}\Z")
_METHODS: Final = frozenset({"GET", "POST", "DELETE", "PUT", "PATCH", "HEAD", "OPTIONS"})
_PHRASES: Final = {status.value: status.phrase for status in HTTPStatus}


class _Unreadable(Exception):
    """A request that never reaches the sandbox: the server answers it and closes the connection."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class _Handler(BaseRequestHandler):
    """One connection with any number of requests, read from a buffer that may already hold the next ones.

    The standard library's `BaseHTTPRequestHandler` parses headers as mail, which costs as much as all of the sandbox's
    own work; this class parses what HTTP/1.1 clients of an API send and refuses the rest.
    """

    request: socket.socket
    server: SandboxServer

    def handle(self) -> None:
        """Answer requests until the client or an error ends the connection."""
        self.request.settimeout(self.server.idle_seconds)
        # Otherwise an answer can wait 40 ms for a delayed acknowledgement of the previous one.
        self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = b""
        try:
            try:
                while not self.server.stopping and self._one():
                    pass
            except _Unreadable as problem:
                self._send(_failure(problem.status, "invalid_request_error", str(problem)), keep=False)
                self._drain()
        except OSError:
            # The client has disconnected, or was idle for too long.
            pass

    def _one(self) -> bool:
        """Answer one request; returns whether the connection stays open."""
        head = self._head()
        if head is None:
            return False
        # Not `splitlines`: a header may contain other characters that end a line of text.
        line, *lines = head.replace("\r\n", "\n").split("\n")
        match = _REQUEST_LINE.match(line)
        if match is None:
            raise _Unreadable(400, "This is not an HTTP/1.1 request.")
        method, url, minor = match.groups()
        if method not in _METHODS:
            raise _Unreadable(501, f"There is no method {method}.")
        headers = _headers(lines)
        wants = headers.get("connection", "").lower().replace(" ", "").split(",")
        keeps = "close" not in wants if minor == "1" else "keep-alive" in wants
        if not self.server.answers_to(headers.get("host")):
            # A web page whose host name was pointed at this machine (DNS rebinding) sends its own host name.
            raise _Unreadable(
                403,
                f"This sandbox does not answer to the host {headers['host'][:100]}: call it by localhost or its "
                "address, or start it with --host and that name.",
            )
        length = _length(headers, minor)
        if minor == "1" and headers.get("expect", "").lower() == "100-continue":
            self.request.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = self._chunks() if length is None else self._body(length) if length else b""
        if self.server.latency and not url.startswith("/_sandbox/"):
            time.sleep(self.server.latency)
        try:
            response = self.server.sandbox.handle(Request(method, url, headers, body))
        except ConnectionDropped as dropped:
            self._drop(dropped.partial)
            return False
        except SandboxFileError as problem:
            response = _failure(500, "api_error", str(problem))
        keep = keeps and not self.server.stopping
        self._send(response, keep=keep, bodiless=method == "HEAD")
        return keep

    def _head(self) -> str | None:
        """The request line and the headers, without the empty line after them; None if the client is done."""
        buffer, searched = self._buffer.lstrip(b"\r\n"), 0
        while True:
            if buffer and not buffer[:1].isupper():
                # Typically a client that begins with a TLS handshake, which would wait for an answer forever.
                raise _Unreadable(400, "This is not an HTTP/1.1 request.")
            end = _END_OF_HEAD.search(buffer, searched)
            if (len(buffer) if end is None else end.start()) > MAX_HEAD:
                what = "request" if b"\n" in buffer[:MAX_HEAD] else "first line of the request"
                raise _Unreadable(431 if what == "request" else 414, f"The {what} is longer than {MAX_HEAD} bytes.")
            if end is not None:
                self._buffer = buffer[end.end() :]
                return buffer[: end.start()].decode("latin-1").removesuffix("\r")
            searched = max(len(buffer) - 2, 0)
            received = self._receive(65536, begun=bool(buffer))
            if not received:
                return None
            # Skip empty lines before a request, as HTTP requires.
            buffer = buffer + received if buffer else received.lstrip(b"\r\n")

    def _body(self, length: int) -> bytes:
        parts, missing = [self._buffer[:length]], length - len(self._buffer)
        self._buffer = self._buffer[length:]
        while missing > 0:
            # Never read more than is missing: the next request stays in the socket.
            parts.append(self._receive(min(missing, 1 << 20), begun=True))
            missing -= len(parts[-1])
        return b"".join(parts)

    def _chunks(self) -> bytes:
        """A chunked body (RFC 9112, 7.1), as stripe-go and Node's streams send it."""
        parts, total = [], 0
        while True:
            # After a semicolon come extensions, which can be ignored.
            announced = self._line().partition(";")[0].strip()
            if not _CHUNK_SIZE.match(announced):
                raise _Unreadable(400, "The length of a chunk is not a hexadecimal number.")
            length = int(announced, 16)
            total += length
            if total > MAX_BODY:
                raise _Unreadable(413, f"The body is larger than {MAX_BODY} bytes.")
            if length == 0:
                break
            parts.append(self._body(length))
            if self._line():
                raise _Unreadable(400, "A chunk is longer than its announced length.")
        # Trailers may follow, up to an empty line.
        for _ in range(MAX_HEADERS):
            if not self._line():
                return b"".join(parts)
        raise _Unreadable(431, f"The request has more than {MAX_HEADERS} trailers.")

    def _line(self) -> str:
        """The next line inside a body, without its end."""
        while b"\n" not in self._buffer:
            if len(self._buffer) > MAX_LINE:
                raise _Unreadable(400, f"A line between the chunks of the body is longer than {MAX_LINE} bytes.")
            self._buffer += self._receive(65536, begun=True)
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line.decode("latin-1").removesuffix("\r")

    def _receive(self, most: int, *, begun: bool) -> bytes:
        """Receive more bytes. A request that has begun must continue in time."""
        try:
            received = self.request.recv(most)
        except TimeoutError:
            if not begun:
                raise
            raise _Unreadable(
                408, f"The rest of the request did not arrive within {self.server.idle_seconds:g} s."
            ) from None
        if begun and not received:
            if self.server.stopping:
                raise _Unreadable(503, "The sandbox is stopping; nothing was done.")
            raise _Unreadable(400, "The connection ended before the request was complete.")
        return received

    def _drain(self) -> None:
        """Read on for a moment: closing with unread bytes would reset the connection before the answer arrives."""
        self.request.shutdown(socket.SHUT_WR)
        self.request.settimeout(1)
        for _ in range(64):
            if not self.request.recv(65536):
                return

    def _send(self, response: Response, *, keep: bool, length: int | None = None, bodiless: bool = False) -> None:
        head = [f"HTTP/1.1 {response.status} {_PHRASES.get(response.status, '')}\r\n"]
        head.extend([f"{name}: {value}\r\n" for name, value in response.headers.items()])
        if not keep:
            head.append("connection: close\r\n")
        head.append(f"content-length: {len(response.body) if length is None else length}\r\n\r\n")
        self.request.sendall("".join(head).encode("latin-1", "replace") + (b"" if bodiless else response.body))

    def _drop(self, partial: Response | None) -> None:
        """Break the connection like a crashed server: at once, halfway through the answer if there is one."""
        if partial is not None:
            # The Content-Length announces more than is sent.
            self._send(partial, keep=True, length=2 * len(partial.body) + 2)
        else:
            self.request.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        with contextlib.suppress(OSError):
            self.request.shutdown(socket.SHUT_RDWR if partial is not None else socket.SHUT_RD)


def _failure(status: int, type: str, message: str) -> Response:
    body = json.dumps({"error": {"message": message, "type": type}}).encode()
    return Response(status, {"content-type": "application/json"}, body)


#: Headers that decide where a request ends or which host it is for: two different values are an attack or a mistake.
_ONCE: Final = frozenset({"content-length", "host", "transfer-encoding"})


def _headers(lines: list[str]) -> dict[str, str]:
    """Header lines by name; names in lower case."""
    if len(lines) > MAX_HEADERS:
        raise _Unreadable(431, f"The request has more than {MAX_HEADERS} headers.")
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not name or name != name.strip():
            raise _Unreadable(400, "A header line has no name.")
        name, value = name.lower(), value.strip()
        if name in _ONCE and headers.get(name, value) != value:
            raise _Unreadable(400, f"The request has two different {name} headers.")
        headers[name] = value
    return headers


def _length(headers: dict[str, str], minor: str) -> int | None:
    """The announced length of the body; None if it is chunked."""
    coding = headers.get("transfer-encoding")
    if coding is not None:
        if minor == "0" or "content-length" in headers:
            raise _Unreadable(400, "A body in chunks has no Content-Length, and HTTP/1.0 has no chunks.")
        if coding.lower() != "chunked":
            raise _Unreadable(501, f"This sandbox does not support the transfer coding {coding[:60]}.")
        return None
    announced = headers.get("content-length", "0")
    if not (announced.isascii() and announced.isdigit() and len(announced) < 12):
        raise _Unreadable(400, "The Content-Length is not a number.")
    if int(announced) > MAX_BODY:
        raise _Unreadable(413, f"The body is larger than {MAX_BODY} bytes.")
    return int(announced)


def _host_name(header: str) -> str:
    """The name or the address in a Host header, without its port and in lower case."""
    name = header.strip().lower()
    if name.startswith("["):
        return name[1:].partition("]")[0]
    return name.partition(":")[0].removesuffix(".")


def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        return None


class SandboxServer(ThreadingTCPServer):
    """A listening socket for a `Sandbox`, with one thread per connection."""

    daemon_threads = True
    request_queue_size = 128
    allow_reuse_address = True

    def __init__(
        self,
        sandbox: Sandbox,
        host: str = LOOPBACK,
        port: int = 0,
        *,
        idle_seconds: float = IDLE_SECONDS,
        latency: float = 0.0,
    ) -> None:
        """`port` 0 picks a free one; idle clients are disconnected after `idle_seconds`; a request waits `latency`
        seconds before it is carried out, as if the server were far away."""
        self.sandbox, self.idle_seconds, self.latency = sandbox, idle_seconds, latency
        self.stopping = False
        self._connections: set[socket.socket] = set()
        self._change = threading.Condition()
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        super().__init__((host, port), _Handler)
        self.host, self.port = str(self.server_address[0]), int(self.server_address[1])
        self._asked_for = _host_name(host) if ":" not in host else host
        bound = _address(self.host)
        self._loopback = bound is not None and bound.is_loopback

    @property
    def url(self) -> str:
        """Its address, the value for `STRIPE_API_BASE`."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"

    def answers_to(self, host: str | None) -> bool:
        """Whether a Host header names this server: `localhost`, its listening host, or an address. Others can only
        point a name at this machine, not an address; and on loopback no other address reaches it."""
        name = _host_name(host or "")
        address = _address(name)
        if address is not None:
            return address.is_loopback or not self._loopback
        return name in ("", "localhost", self._asked_for) or name.endswith(".localhost")

    def get_request(self) -> tuple[socket.socket, Any]:
        """The next connection; pauses before the next attempt if the system has no file descriptors."""
        try:
            connection, address = super().get_request()
        except OSError:
            time.sleep(0.1)
            raise
        with self._change:
            self._connections.add(connection)
        return connection, address

    def shutdown_request(self, request: Any) -> None:
        """Count a connection that has ended."""
        super().shutdown_request(request)
        with self._change:
            self._connections.discard(request)
            self._change.notify_all()

    def finish(self, seconds: float = FINISH_SECONDS) -> int:
        """Disconnect idle clients and finish the requests in progress; returns how many are unfinished after `seconds`.

        Call `shutdown` first, which accepts no new connections.
        """
        with self._change:
            self.stopping = True
            for connection in self._connections:
                # A thread that waits for a request sees the end of its connection; answers are still sent.
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RD)
            self._change.wait_for(lambda: not self._connections, seconds)
            return len(self._connections)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore clients that disconnected; the sandbox itself answers any other error."""


@contextlib.contextmanager
def serving(
    sandbox: Sandbox,
    host: str = LOOPBACK,
    port: int = 0,
    *,
    idle_seconds: float = IDLE_SECONDS,
    latency: float = 0.0,
) -> Iterator[SandboxServer]:
    """A server on a thread while the block runs; at its end, requests in progress are finished."""
    server = SandboxServer(sandbox, host, port, idle_seconds=idle_seconds, latency=latency)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
        server.finish()
