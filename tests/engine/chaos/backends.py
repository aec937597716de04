"""Where a session keeps its state: a folder, or S3 (moto's server) behind a proxy that can be cut."""

from __future__ import annotations

import contextlib
import json
import logging
import socket
import threading
from collections.abc import Iterator
from typing import Any, Protocol

from tests.engine.conftest import Project

STATE = ".pulumi/stacks/stripe-pricing/dev.json"
REGION = "us-east-1"


class Backend(Protocol):
    """A state as the tests read it, without the CLI."""

    can_be_cut: bool

    def cut(self) -> None:
        """Nothing can be read or written from now on."""

    def restore(self) -> None:
        """It is there again."""

    def deployment(self) -> dict[str, Any]:
        """What the state holds."""

    def is_locked(self) -> bool:
        """Whether a run has left its lock."""

    def mend(self) -> bool:
        """Delete the empty file that a run can leave beside the state; returns whether there was one."""


class Folder:
    """`file://`."""

    can_be_cut = False

    def __init__(self, project: Project) -> None:
        self._folder = project.folder / "state"

    def cut(self) -> None:
        raise AssertionError("a folder cannot be cut off")

    def restore(self) -> None:
        pass

    def deployment(self) -> dict[str, Any]:
        return _latest((self._folder / STATE).read_bytes())

    def is_locked(self) -> bool:
        return any((self._folder / ".pulumi/locks").rglob("*.json"))

    def mend(self) -> bool:
        empty = [each for each in self._folder.rglob("*.attrs") if not each.stat().st_size]
        for each in empty:
            each.unlink()
        return bool(empty)


class Bucket:
    """`s3://`, through a proxy."""

    can_be_cut = True

    def __init__(self, project: Project, server: tuple[str, int], name: str) -> None:
        import boto3

        self._name = name
        self._proxy = Proxy(server)
        secret = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
        endpoint = f"http://{server[0]}:{server[1]}"
        self._s3: Any = boto3.client("s3", endpoint_url=endpoint, region_name=REGION, **secret)
        self._s3.create_bucket(Bucket=name)
        project.environ |= {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_REGION": REGION}
        project.environ["PULUMI_BACKEND_URL"] = (
            f"s3://{name}?region={REGION}&endpoint={self._proxy.url}&s3ForcePathStyle=true"
        )

    def cut(self) -> None:
        self._proxy.cut()

    def restore(self) -> None:
        self._proxy.restore()

    def deployment(self) -> dict[str, Any]:
        return _latest(self._s3.get_object(Bucket=self._name, Key=STATE)["Body"].read())

    def is_locked(self) -> bool:
        return bool(self._s3.list_objects_v2(Bucket=self._name, Prefix=".pulumi/locks/").get("KeyCount"))

    def mend(self) -> bool:
        return False

    def close(self) -> None:
        self._proxy.close()


def _latest(stored: bytes) -> dict[str, Any]:
    latest: dict[str, Any] = json.loads(stored)["checkpoint"]["latest"] or {}
    return latest


@contextlib.contextmanager
def s3_server() -> Iterator[tuple[str, int]]:
    """Moto's server; its address."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # a line for each request otherwise
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    try:
        yield server.get_host_and_port()
    finally:
        server.stop()


class Proxy:
    """Passes bytes on between a port of its own and a server, until it is cut."""

    def __init__(self, server: tuple[str, int]) -> None:
        self._server = server
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._is_cut = False
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def cut(self) -> None:
        with self._lock:
            self._is_cut = True
            for each in self._open:
                with contextlib.suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)

    def restore(self) -> None:
        self._is_cut = False

    def close(self) -> None:
        self.cut()
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client:
            if self._is_cut:
                return
            try:
                server = socket.create_connection(self._server, timeout=10)
            except OSError:
                return
            server.settimeout(None)
            with server:
                with self._lock:
                    self._open |= {client, server}
                back = threading.Thread(target=_pump, args=(server, client), daemon=True)
                back.start()
                _pump(client, server)
                back.join()
                with self._lock:
                    self._open -= {client, server}


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65_536):
            sink.sendall(data)
    for each in (source, sink):
        with contextlib.suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)
