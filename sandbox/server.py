"""The sandbox on a port: plain HTTP/1.1 with keep-alive, on the loopback address unless told otherwise."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

from .gateway import Sandbox
from .wire import ConnectionDropped, Request, Response, SandboxFileError

LOOPBACK: Final = "127.0.0.1"

#: A body that is announced as larger is refused before it is read.
MAX_BODY: Final = 16 * 1024 * 1024


class _Handler(BaseHTTPRequestHandler):
    """One connection, any number of requests."""

    protocol_version = "HTTP/1.1"
    # Without these two every answer waits for a delayed acknowledgement: 40 ms.
    disable_nagle_algorithm = True
    wbufsize = 65536
    # A client that opens a connection and says nothing does not keep a thread for ever.
    timeout = 120

    server: SandboxServer

    def do_GET(self) -> None:
        """Any method; the sandbox refuses those that Stripe does not have."""
        length = self._length()
        if length is None:
            return
        body = self.rfile.read(length) if length else b""
        if len(body) < length:
            self.close_connection = True
            return
        request = Request(self.command, self.path, dict(self.headers.items()), body)
        try:
            response = self.server.sandbox.handle(request)
        except ConnectionDropped as dropped:
            self._drop(dropped.partial)
            return
        except SandboxFileError as problem:
            error = {"error": {"message": str(problem), "type": "api_error"}}
            response = Response(500, {"content-type": "application/json"}, json.dumps(error).encode())
        self._send(response, len(response.body))

    do_POST = do_GET
    do_DELETE = do_GET
    do_PUT = do_GET
    do_PATCH = do_GET

    def _length(self) -> int | None:
        """The announced length of the body; None when the request has been refused."""
        announced = self.headers.get("content-length", "0")
        if self.headers.get("transfer-encoding") is not None:
            self._refuse(411, "This sandbox takes bodies with a Content-Length only.")
        elif not (announced.isascii() and announced.isdigit() and len(announced) < 12):
            self._refuse(400, "The Content-Length is not a number.")
        elif int(announced) > MAX_BODY:
            self._refuse(413, f"The body is larger than {MAX_BODY} bytes.")
        else:
            return int(announced)
        return None

    def _refuse(self, status: int, message: str) -> None:
        self.close_connection = True
        body = json.dumps({"error": {"message": message, "type": "invalid_request_error"}}).encode()
        self._send(Response(status, {"content-type": "application/json", "connection": "close"}, body), len(body))

    def _send(self, response: Response, length: int) -> None:
        head = [f"HTTP/1.1 {response.status} {self.responses.get(response.status, ('',))[0]}\r\n"]
        head.extend(f"{name}: {value}\r\n" for name, value in response.headers.items())
        head.append(f"content-length: {length}\r\n\r\n")
        self.wfile.write("".join(head).encode("latin-1", "replace") + response.body)
        self.wfile.flush()

    def _drop(self, partial: Response | None) -> None:
        """Break the connection as a crashed server does: at once, half way through the answer if there is one."""
        self.close_connection = True
        if partial is not None:
            # The client is promised more than it gets.
            self._send(partial, 2 * len(partial.body) + 2)
        else:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        # Closing while the read side is still wrapped would wait for the client; this does not.
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR if partial is not None else socket.SHUT_RD)

    def log_message(self, format: str, *args: Any) -> None:
        """Requests are in the sandbox's own log, not on the terminal."""


class SandboxServer(ThreadingHTTPServer):
    """A listening socket over a `Sandbox`; a thread a connection."""

    daemon_threads = True
    request_queue_size = 128
    allow_reuse_address = True

    def __init__(self, sandbox: Sandbox, host: str = LOOPBACK, port: int = 0) -> None:
        """`port` 0 takes any free one."""
        self.sandbox = sandbox
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        super().__init__((host, port), _Handler)

    def server_bind(self) -> None:
        """Bind without asking the resolver for the host's name, which can take seconds."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = self.server_address[:2]  # type: ignore[assignment]

    @property
    def url(self) -> str:
        """Where it listens: what `STRIPE_API_BASE` should be."""
        host = f"[{self.server_name}]" if ":" in self.server_name else self.server_name
        return f"http://{host}:{self.server_port}"

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
