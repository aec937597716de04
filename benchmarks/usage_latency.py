"""How long `record` takes while something else goes on, and how long a script takes to end in an outage.

    python -m benchmarks.usage_latency [--backlog 200000] [--records 2000]

`record` is called every 2 ms: alone, while a backlog drains in the background, and while Stripe hangs. The end of a
script that has recorded one event is timed in six kinds of outage, beside the 5 seconds that are promised.
"""

from __future__ import annotations

import argparse
import os
import platform
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.usage_speed import COUNTER, EVENT, _server

PROMISED = 5.0
SCRIPT = "import usage; usage.record('tokens', 'cus_1')"


def percentiles(times: list[float]) -> str:
    """Median, 95th, 99th percentile and the longest, in milliseconds."""
    cuts = statistics.quantiles(times, n=100)
    return "  ".join(f"{value * 1000:8.2f}" for value in (cuts[49], cuts[94], cuts[98], max(times)))


def record_times(folder: str, name: str, base: str, backlog: int, records: int) -> list[float]:
    """Seconds of each `record`, with a backlog of that many events before the first."""
    import usage.client

    usage.client.INTERVAL = 0.05
    client = usage.client.Client(f"{folder}/{name}.db", api_key="sk_test_1", api_base=base, on_error=lambda _: None)
    for first in range(0, backlog, 10_000):
        client.record_many(
            {"event_name": EVENT, "customer": "cus_1", "value": 1} for _ in range(first, min(first + 10_000, backlog))
        )
    times = []
    for _ in range(records):
        before = time.perf_counter()
        client.record(EVENT, "cus_1", 1)
        times.append(time.perf_counter() - before)
        time.sleep(0.002)
    assert not backlog or client.status().pending < backlog, "the backlog does not drain"
    client.close(0)
    return times


@contextmanager
def hanging() -> Iterator[str]:
    """A server that accepts and never answers."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)
    kept: list[socket.socket] = []

    def accept() -> None:
        while True:
            try:
                kept.append(listener.accept()[0])
            except OSError:
                return

    threading.Thread(target=accept, daemon=True).start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    listener.close()


@contextmanager
def answering(head: str) -> Iterator[str]:
    """A server that answers every request with these lines and no body."""
    program = (
        "import sys\nfrom http.server import *\n"
        "class H(BaseHTTPRequestHandler):\n"
        "    def do_GET(self):\n"
        "        self.rfile.read(int(self.headers.get('content-length') or 0))\n"
        "        self.wfile.write(sys.argv[1].encode().replace(b'|', b'\\r\\n') + b'\\r\\n\\r\\n')\n"
        "        self.close_connection = True\n"
        "    do_POST = do_GET\n"
        "    def log_message(self, *_): pass\n"
        "s = ThreadingHTTPServer(('127.0.0.1', 0), H)\n"
        "print(f'http://127.0.0.1:{s.server_port}', flush=True)\ns.serve_forever()"
    )
    with _server("-c", program, head) as base:
        yield base


def exit_time(**environment: str) -> float:
    """Seconds from start to end of a script that records one event."""
    with tempfile.TemporaryDirectory() as folder:
        settings = {"STRIPE_API_KEY": "sk_test_1", "XDG_STATE_HOME": folder, **environment}
        kept = {name: value for name, value in os.environ.items() if not name.startswith("STRIPE_")}
        before = time.perf_counter()
        subprocess.run([sys.executable, "-c", SCRIPT], env={**kept, **settings}, stderr=subprocess.DEVNULL, check=True)
        return time.perf_counter() - before


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backlog", type=int, default=200_000)
    parser.add_argument("--records", type=int, default=2000)
    options = parser.parse_args()
    date = time.strftime("%Y-%m-%d", time.gmtime())
    print(f"{date}, Python {platform.python_version()}, {os.cpu_count()} CPUs, load average {os.getloadavg()[0]:.1f}")
    print(f"{'record, ms':44} {'median':>9} {'95th':>9} {'99th':>9} {'longest':>9}")
    with tempfile.TemporaryDirectory() as folder, _server("-c", COUNTER, EVENT) as base, hanging() as dead:
        for name, where, backlog in (
            ("alone", base, 0),
            (f"while {options.backlog:,} events drain", base, options.backlog),
            ("while Stripe hangs", dead, 0),
        ):
            times = record_times(folder, name[:12], where, backlog, options.records)
            print(f"{name:44}", percentiles(times), flush=True)
    print(f"\n{'the end of a script, seconds (5 promised)':44}")
    late, bad = "HTTP/1.1 429 Later|Retry-After: 3600|Content-Length: 0", "HTTP/1.1 502 Bad|Content-Length: 0"
    with hanging() as dead, answering(late) as busy, answering(bad) as broken:
        for name, settings in {
            "Stripe accepts and never answers": {"STRIPE_API_BASE": dead},
            "Stripe refuses the connection": {"STRIPE_API_BASE": "http://127.0.0.1:9"},
            "429, Retry-After: 3600": {"STRIPE_API_BASE": busy},
            "502 to everything": {"STRIPE_API_BASE": broken},
            "a proxy that refuses": {"HTTPS_PROXY": "http://127.0.0.1:9"},
            "a proxy that accepts and never answers": {"HTTPS_PROXY": dead},
        }.items():
            print(f"{name:44} {exit_time(**settings):9.2f}", flush=True)


if __name__ == "__main__":
    main()
