"""What the sandbox can take: start, requests a second in process and over a port, meter events a second.

    python -m benchmarks.sandbox_throughput [--seconds 3]

Over a port the sandbox is a process on the first core and the client, which only sends and reads bytes, is on the
second. The figure in brackets is the rate for each second of the sandbox's own processor time: what one core would give
if nothing else ran. The last column compares with a bare server in the same run, a loop that answers every request with
the same bytes and reads none: what sockets and the interpreter cost on this machine just then. It asserts counts, never
times.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from sandbox import Request, Sandbox

KEY = {"Authorization": "Bearer sk_test_x", "Content-Type": "application/x-www-form-urlencoded"}

Send = Callable[[str, str, dict[str, str], bytes], tuple[int, bytes]]

#: Answers every request of one connection after another with as many bytes as a product has.
BARE = """
import socket
body = b'{"id": "' + b"x" * 600 + b'"}'
answer = b"HTTP/1.1 200 OK\\r\\ncontent-length: %d\\r\\n\\r\\n" % len(body) + body
listening = socket.create_server(("127.0.0.1", 0))
print("Bare on http://127.0.0.1:%d, constant" % listening.getsockname()[1], flush=True)
while True:
    connection, _ = listening.accept()
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    while connection.recv(65536):
        connection.sendall(answer)
"""


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seconds", type=float, default=3.0, help="time for each row (default: %(default)s)")
    seconds = parser.parse_args().seconds
    with tempfile.TemporaryDirectory() as folder:
        print(f"{'start: interpreter, import, new file, first answer':<58}{start(Path(folder) / 'start.db'):>9.2f} s")
        sandbox = Sandbox(Path(folder) / "embedded.db")

        def embedded(method: str, url: str, headers: dict[str, str], body: bytes) -> tuple[int, bytes]:
            response = sandbox.handle(Request(method, url, headers, body))
            return response.status, response.body

        rows("in process", embedded, seconds, os.getpid())
        sandbox.close()
        over_a_port(Path(folder), seconds)


class Connection:
    """One kept connection, and the least that a client can do with it."""

    def __init__(self, host: str, port: int) -> None:
        self.socket = socket.create_connection((host, port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __call__(self, method: str, url: str, headers: dict[str, str], body: bytes) -> tuple[int, bytes]:
        """One request and its answer: status and body."""
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        self.socket.sendall(
            f"{method} {url} HTTP/1.1\r\nHost: localhost\r\n{lines}Content-Length: {len(body)}\r\n\r\n".encode() + body
        )
        received = b""
        while (end := received.find(b"\r\n\r\n")) < 0:
            received += self._receive()
        length = int(received[:end].rpartition(b"content-length: ")[2].split(b"\r\n", 1)[0])
        while len(received) < end + 4 + length:
            received += self._receive()
        return int(received[9:12]), received[end + 4 :]

    def _receive(self) -> bytes:
        received = self.socket.recv(65536)
        assert received, "the server closed the connection"
        return received


def start(path: Path) -> float:
    """Seconds from nothing to the first answer, the best of six."""
    program = (
        "from sandbox import Request, Sandbox; import sys;"
        f"assert Sandbox(sys.argv[1]).handle(Request('GET', '/v1/products', {KEY!r})).status == 200"
    )
    environment = with_bytecode(path.parent)
    best = float("inf")
    for attempt in range(6):
        begin = time.perf_counter()
        subprocess.run([sys.executable, "-c", program, f"{path}{attempt}"], check=True, env=environment)
        best = min(best, time.perf_counter() - begin)
    return best


def with_bytecode(folder: Path) -> dict[str, str]:
    """An environment in which bytecode is kept, as it is everywhere but in some containers."""
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": str(folder / "pyc")}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    return environment


def processor_time(pid: int) -> float | None:
    """Seconds of processor time that a process has used; None where the system does not say."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def serving(command: list[str], folder: Path) -> Iterator[tuple[Connection, int]]:
    """A server on the first core and a connection to it from the second, where there are two; its process id."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    environment = with_bytecode(folder)
    if len(cores) > 1:
        # The server begins on its core: moved later, its other threads would stay where they are.
        os.sched_setaffinity(0, cores[:1])
    with subprocess.Popen([sys.executable, *command], stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            if len(cores) > 1:
                os.sched_setaffinity(0, cores[1:2])
            assert process.stdout is not None
            address = urlsplit(process.stdout.readline().split()[2].rstrip(","))
            connection = Connection(str(address.hostname), int(address.port or 0))
            yield connection, process.pid
            connection.socket.close()
        finally:
            process.terminate()
            if cores:
                os.sched_setaffinity(0, cores)


def over_a_port(folder: Path, seconds: float) -> None:
    """The same rows against `sandbox serve`, and the bare server."""
    best = float("inf")
    for attempt in range(6):
        begin = time.perf_counter()
        with serving(serve(folder / f"ready{attempt}.db"), folder) as (connection, _):
            assert connection("GET", "/v1/products", KEY, b"")[0] == 200
            best = min(best, time.perf_counter() - begin)
    print(f"{'start of `sandbox serve` to the first answer':<58}{best:>9.2f} s")
    with serving(["-c", BARE], folder) as (bare, pid):
        bare_rate = measure("bare server", lambda _: bare("GET", "/", KEY, b""), seconds, 1, "requests", pid)[1]
    with serving(serve(folder / "served.db"), folder) as (connection, pid):
        rows("over a port", connection, seconds, pid, bare_rate)


def serve(path: Path) -> list[str]:
    """The arguments of `python` that serve a file on any free port."""
    return ["-m", "sandbox", "serve", "--port", "0", "--file", str(path)]


def rows(where: str, send: Send, seconds: float, pid: int, bare: float | None = None) -> None:
    """Measure one way of reaching a sandbox; `bare` is the bare server's rate a processor second."""

    def post(path: str, body: str, **more: str) -> dict[str, str]:
        status, answer = send("POST", path, {**KEY, **more}, body.encode())
        assert status == 200, answer
        found: dict[str, str] = json.loads(answer)
        return found

    meter = post("/v1/billing/meters", "display_name=T&event_name=t&default_aggregation[formula]=sum")["id"]
    customer = post("/v1/customers", "name=Ada")["id"]
    product = post("/v1/products", "name=A")["id"]
    token = json.loads(send("POST", "/v2/billing/meter_event_session", KEY, b"")[1])["authentication_token"]
    stream = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    payload = {"stripe_customer_id": customer, "value": "1"}

    def create(number: int) -> None:
        post("/v1/products", f"name=p{number}&metadata[a]=b", **{"Idempotency-Key": f"{where}{number}"})

    def retrieve(number: int) -> None:
        assert send("GET", f"/v1/products/{product}", KEY, b"")[0] == 200

    def event(number: int) -> None:
        body = f"event_name=t&identifier=v{number}&payload[stripe_customer_id]={customer}&payload[value]=1"
        post("/v1/billing/meter_events", body)

    def batch(number: int) -> None:
        events = [{"event_name": "t", "identifier": f"s{number}-{i}", "payload": payload} for i in range(100)]
        assert send("POST", "/v2/billing/meter_event_stream", stream, json.dumps({"events": events}).encode())[0] == 200

    measure(f"{where}: create a product", create, seconds, 1, "requests", pid, bare)
    measure(f"{where}: retrieve a product", retrieve, seconds, 1, "requests", pid, bare)
    singles = measure(f"{where}: v1 meter event", event, seconds, 1, "events", pid, bare)[0]
    streamed = measure(f"{where}: v2 stream, 100 events a request", batch, seconds, 100, "events", pid)[0]
    now = int(time.time()) // 3600 * 3600
    query = f"customer={customer}&start_time={now - 3600}&end_time={now + 7200}"
    begin = time.perf_counter()
    status, answer = send("GET", f"/v1/billing/meters/{meter}/event_summaries?{query}", KEY, b"")
    took = time.perf_counter() - begin
    assert status == 200
    assert json.loads(answer)["data"][0]["aggregated_value"] == singles + streamed
    print(f"{f'{where}: summary of {singles + streamed:,} events':<58}{took:>9.3f} s")


def measure(
    name: str,
    work: Callable[[int], object],
    seconds: float,
    each: int,
    unit: str,
    pid: int,
    bare: float | None = None,
) -> tuple[int, float | None]:
    """Repeat some work for a time, print its rates; how much was done, and how much a processor second."""
    done, rate = 0, None
    begin, used = time.perf_counter(), processor_time(pid)
    while time.perf_counter() - begin < seconds:
        work(done)
        done += 1
    took, after = time.perf_counter() - begin, processor_time(pid)
    line = f"{name:<58}{done * each / took:>9,.0f} {unit}/s"
    if used is not None and after is not None and after > used:
        rate = done * each / (after - used)
        line += f"  ({rate:,.0f} a processor second)"
        if bare is not None:
            line += f"  1/{bare / rate:.1f} of bare"
    print(line)
    return done * each, rate


if __name__ == "__main__":
    main()
