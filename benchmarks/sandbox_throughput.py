"""What the sandbox can take: start, requests a second in process and over a port, meter events a second.

    python benchmarks/sandbox_throughput.py [--seconds 3]

Every figure is of this machine, with the client on the same cores: over the port the client is a process of its own, a
bare `http.client`, so that the sandbox and not stripe-python is measured. The second figure is the rate for each second
of the sandbox's own processor time: what one core would give if nothing else ran. It asserts counts, never times.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from sandbox import Request, Sandbox

KEY = {"Authorization": "Bearer sk_test_x", "Content-Type": "application/x-www-form-urlencoded"}

Send = Callable[[str, str, dict[str, str], bytes], tuple[int, bytes]]


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
        over_a_port(Path(folder) / "served.db", seconds)


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


def over_a_port(path: Path, seconds: float) -> None:
    """The same rows against `sandbox serve`."""
    command = [sys.executable, "-m", "sandbox", "serve", "--port", "0", "--file", str(path)]
    begin = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=with_bytecode(path.parent)) as process:
        assert process.stdout is not None
        address = urlsplit(process.stdout.readline().split()[2].rstrip(","))
        print(f"{'start of `sandbox serve`':<58}{time.perf_counter() - begin:>9.2f} s")
        connection = http.client.HTTPConnection(str(address.hostname), address.port)

        def served(method: str, url: str, headers: dict[str, str], body: bytes) -> tuple[int, bytes]:
            connection.request(method, url, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.read()

        rows("over a port", served, seconds, process.pid)
        connection.close()
        process.terminate()


def rows(where: str, send: Send, seconds: float, pid: int) -> None:
    """Measure one way of reaching a sandbox."""

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

    measure(f"{where}: create a product", create, seconds, 1, "requests", pid)
    measure(f"{where}: retrieve a product", retrieve, seconds, 1, "requests", pid)
    singles = measure(f"{where}: v1 meter event", event, seconds, 1, "events", pid)
    streamed = measure(f"{where}: v2 stream, 100 events a request", batch, seconds, 100, "events", pid)
    now = int(time.time()) // 3600 * 3600
    query = f"customer={customer}&start_time={now - 3600}&end_time={now + 7200}"
    begin = time.perf_counter()
    status, answer = send("GET", f"/v1/billing/meters/{meter}/event_summaries?{query}", KEY, b"")
    took = time.perf_counter() - begin
    assert status == 200
    assert json.loads(answer)["data"][0]["aggregated_value"] == singles + streamed
    print(f"{f'{where}: summary of {singles + streamed:,} events':<58}{took:>9.3f} s")


def measure(name: str, work: Callable[[int], None], seconds: float, each: int, unit: str, pid: int) -> int:
    """Repeat some work for a time, print its rates, give how much was done."""
    done = 0
    begin, used = time.perf_counter(), processor_time(pid)
    while time.perf_counter() - begin < seconds:
        work(done)
        done += 1
    took, after = time.perf_counter() - begin, processor_time(pid)
    line = f"{name:<58}{done * each / took:>9,.0f} {unit}/s"
    if used is not None and after is not None and after > used:
        line += f"  ({done * each / (after - used):,.0f} a processor second)"
    print(line)
    return done * each


if __name__ == "__main__":
    main()
