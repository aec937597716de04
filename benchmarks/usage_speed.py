"""How fast `usage` records and delivers, beside the plain stripe-python loop, against servers on this machine.

    python -m benchmarks.usage_speed [--events 100000] [--json]

Measured in one run: one `record` at a time; `record_many`; the whole way (record one by one while a background thread
delivers through the stream) to a server that only counts, and to the served sandbox; and what a script would write
without this module, `stripe.billing.MeterEvent.create` in a loop, against the same sandbox. Wall-clock depends on what
else the machine does, so the CPU time of the sending process stands beside it.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

EVENT = "benchmark_tokens"

# A server that reads every request whole, parses it and counts its events: the least that any receiver does.
COUNTER = """
import json, sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
class Handler(BaseHTTPRequestHandler):
    protocol_version, disable_nagle_algorithm, wbufsize, count = "HTTP/1.1", True, 65536, 0
    def answer(self):
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        if self.path.startswith("/v2/billing/meter_event_stream"):
            Handler.count += len(json.loads(body)["events"])
        reply = json.dumps({"object": "list", "id": "acct_1", "has_more": False, "authentication_token": "token",
            "data": [{"id": "mtr_1", "event_name": sys.argv[1], "status": "active"}]}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(reply)))
        self.end_headers()
        self.wfile.write(reply)
    do_GET = do_POST = answer
    def log_message(self, *_): pass
server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(f"http://127.0.0.1:{server.server_port}", flush=True)
server.serve_forever()
"""


@contextmanager
def _server(*command: str) -> Iterator[str]:
    """A server process; yields the address it prints first."""
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen([sys.executable, *command], stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        yield next(word.rstrip(".,") for word in line.split() if word.startswith("http://"))
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def _timed(events: int, work: Callable[[], None]) -> dict[str, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return {
        "events": events,
        "seconds": round(wall, 2),
        "per_second": round(events / wall),
        "cpu_us": round(cpu / events * 1e6, 1),
    }


def _record(folder: str, events: int) -> dict[str, float]:
    from usage.client import Client

    client = Client(f"{folder}/record.db", mode="sandbox", background=False)

    def work() -> None:
        for _ in range(events):
            client.record(EVENT, "cus_1", 7)

    client.record(EVENT, "cus_1", 7)
    figures = _timed(events, work)
    client._release()
    return figures


def _record_many(folder: str, events: int) -> dict[str, float]:
    from usage.client import Client

    client = Client(f"{folder}/many.db", mode="sandbox", background=False)
    rows = [{"event_name": EVENT, "customer": "cus_1", "value": 7}] * 100

    def work() -> None:
        for _ in range(events // 100):
            client.record_many(rows)

    figures = _timed(events, work)
    client._release()
    return figures


def _together(folder: str, name: str, events: int, base: str, customers: list[str]) -> dict[str, float]:
    """Recording and delivering in one process, one after the other, in blocks: what `usage import` does."""
    from usage.client import Client

    client = Client(f"{folder}/blocks-{name}.db", mode="sandbox", api_base=base, background=False)

    def work() -> None:
        for first in range(0, events, 10_000):
            for block in range(first, min(first + 10_000, events), 1000):
                client.record_many(
                    {"event_name": EVENT, "customer": customers[number % len(customers)], "value": 1}
                    for number in range(block, min(block + 1000, events))
                )
            assert client.flush().complete

    figures = _timed(events, work)
    client.close()
    return figures


def _two_processes(folder: str, events: int, base: str, customers: list[str]) -> dict[str, float]:
    """This process records one by one; another, `usage flush` in a loop, delivers."""
    from usage.client import Client

    path = f"{folder}/two.db"
    program = (
        "import sys, time; from usage.client import Client\n"
        "client = Client(sys.argv[1], mode='sandbox', api_base=sys.argv[2])\n"
        "print('http://ready', flush=True)\n"
        "while True: client.flush(); time.sleep(0.02)"
    )
    client = Client(path, mode="sandbox", api_base=base, background=False)

    def work() -> None:
        for number in range(events):
            client.record(EVENT, customers[number % len(customers)], 1)
        while client.status().delivered < events:
            time.sleep(0.005)

    with _server("-c", program, path, base):
        figures = _timed(events, work)
    client.close(0)
    return figures


def _end_to_end(folder: str, name: str, events: int, base: str, customers: list[str]) -> dict[str, float]:
    """One process records one by one while its background thread delivers."""
    import usage.client

    usage.client.INTERVAL = 0.05
    client = usage.client.Client(f"{folder}/spool-{name}.db", mode="sandbox", api_base=base)

    def work() -> None:
        for number in range(events):
            client.record(EVENT, customers[number % len(customers)], 1)
        client.close(600)

    figures = _timed(events, work)
    assert client.status().delivered == events, client.status()
    return figures


def _naive(base: str, events: int, customers: list[str]) -> dict[str, float]:
    import stripe

    client = stripe.StripeClient("sk_test_sandbox", base_addresses={"api": base})

    def work() -> None:
        for number in range(events):
            client.v1.billing.meter_events.create(
                {
                    "event_name": EVENT,
                    "payload": {"stripe_customer_id": customers[number % len(customers)], "value": "1"},
                }
            )

    return _timed(events, work)


def _catalog(base: str) -> tuple[str, list[str]]:
    """A meter and customers in the served sandbox."""
    import stripe

    client = stripe.StripeClient("sk_test_sandbox", base_addresses={"api": base})
    meter = client.v1.billing.meters.create(
        {"display_name": EVENT, "event_name": EVENT, "default_aggregation": {"formula": "sum"}}
    )
    return meter.id, [client.v1.customers.create({"name": f"customer {number}"}).id for number in range(20)]


def _sandbox_total(base: str, customers: list[str]) -> int:
    from usage.client import Client

    client = Client(mode="sandbox", api_base=base)
    return int(client.summaries(EVENT, customers).total)


def measure(events: int) -> dict[str, Any]:
    """All figures of one run."""
    os.environ["STRIPE_ENABLE_TELEMETRY"] = "false"
    with tempfile.TemporaryDirectory() as folder:
        figures: dict[str, Any] = {
            "record, one commit each": _record(folder, events),
            "record_many, 100 a commit": _record_many(folder, events),
        }
        with _server("-c", COUNTER, EVENT) as base:
            one = ["cus_1"]
            figures["spool + stream, counting server, blocks"] = _together(folder, "count", events, base, one)
            figures["spool + stream, counting server, two processes"] = _two_processes(folder, events, base, one)
            figures["spool + stream, counting server, background"] = _end_to_end(folder, "count", events, base, one)
        with _server("-m", "sandbox", "serve", "--port", "0", "--file", f"{folder}/sandbox.db") as base:
            _, customers = _catalog(base)
            figures["spool + stream, served sandbox, blocks"] = _together(folder, "sandbox", events, base, customers)
            arrived = _sandbox_total(base, customers)
            assert arrived == events, arrived
            figures["stripe-python, one create each, same sandbox"] = _naive(base, max(200, events // 50), customers)
    return figures


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    figures = measure(options.events)
    if options.json:
        print(json.dumps(figures, indent=2))
        return
    load = os.getloadavg()[0]
    print(
        f"{time.strftime('%Y-%m-%d', time.gmtime())}, Python {platform.python_version()}, "
        f"{os.cpu_count()} CPUs, load average {load:.1f}"
    )
    print(f"{'':48} {'events':>9} {'seconds':>8} {'a second':>9} {'CPU us/event':>13}")
    for name, row in figures.items():
        print(f"{name:48} {row['events']:>9,} {row['seconds']:>8} {row['per_second']:>9,} {row['cpu_us']:>13}")


if __name__ == "__main__":
    main()
