"""What the sandbox can take: start, requests a second in process and over a port, meter events a second.

    python benchmarks/sandbox_throughput.py [--seconds 3]

Every figure is of this machine, with the client on the same cores: over the port the client is a process of its own, a
bare `http.client`, so that the sandbox and not stripe-python is measured. It asserts counts, never times.
"""

from __future__ import annotations

import argparse
import http.client
import json
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

        rows("in process", embedded, seconds)
        sandbox.close()
        over_a_port(Path(folder) / "served.db", seconds)


def start(path: Path) -> float:
    """Seconds from nothing to the first answer, the best of five."""
    program = (
        "from sandbox import Request, Sandbox; import sys;"
        f"assert Sandbox(sys.argv[1]).handle(Request('GET', '/v1/products', {KEY!r})).status == 200"
    )
    best = float("inf")
    for attempt in range(5):
        begin = time.perf_counter()
        subprocess.run([sys.executable, "-c", program, f"{path}{attempt}"], check=True)
        best = min(best, time.perf_counter() - begin)
    return best


def over_a_port(path: Path, seconds: float) -> None:
    """The same rows against `sandbox serve`."""
    command = [sys.executable, "-m", "sandbox", "serve", "--port", "0", "--file", str(path)]
    begin = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        address = urlsplit(process.stdout.readline().split()[2].rstrip(","))
        print(f"{'start of `sandbox serve`':<58}{time.perf_counter() - begin:>9.2f} s")
        connection = http.client.HTTPConnection(str(address.hostname), address.port)

        def served(method: str, url: str, headers: dict[str, str], body: bytes) -> tuple[int, bytes]:
            connection.request(method, url, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.read()

        rows("over a port", served, seconds)
        connection.close()
        process.terminate()


def rows(where: str, send: Send, seconds: float) -> None:
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

    measure(f"{where}: create a product", create, seconds, 1, "requests/s")
    measure(f"{where}: retrieve a product", retrieve, seconds, 1, "requests/s")
    singles = measure(f"{where}: v1 meter event", event, seconds, 1, "events/s")
    streamed = measure(f"{where}: v2 stream, 100 events a request", batch, seconds, 100, "events/s")
    now = int(time.time()) // 3600 * 3600
    query = f"customer={customer}&start_time={now - 3600}&end_time={now + 7200}"
    begin = time.perf_counter()
    status, answer = send("GET", f"/v1/billing/meters/{meter}/event_summaries?{query}", KEY, b"")
    took = time.perf_counter() - begin
    assert status == 200
    assert json.loads(answer)["data"][0]["aggregated_value"] == singles + streamed
    print(f"{f'{where}: summary of {singles + streamed:,} events':<58}{took:>9.3f} s")


def measure(name: str, work: Callable[[int], None], seconds: float, each: int, unit: str) -> int:
    """Repeat some work for a time, print its rate, give how much was done."""
    done = 0
    begin = time.perf_counter()
    while time.perf_counter() - begin < seconds:
        work(done)
        done += 1
    rate = done * each / (time.perf_counter() - begin)
    print(f"{name:<58}{rate:>9,.0f} {unit}")
    return done * each


if __name__ == "__main__":
    main()
