"""`pricing impact` on 5,000 customers with 60,000 closed invoices, read from a served sandbox.

    python -m benchmarks.impact_scale [--customers 5000 --months 12]

Twenty subscribers are billed by the sandbox; their invoices and subscriptions are then copied in bulk into its file,
under other ids and in other months. A tenth of the customers is read first, for comparison. It asserts the calls, that
every line is reproduced, and that the second run finds the months that are over in its cache; never a time.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

from sandbox.server import serving
from tests.pricing.billed import ROOT, Billing

TEMPLATES = 20


def fill(billing: Billing, customers: int, months: int) -> None:
    """Bill some subscribers, then copy what that made."""
    clock = billing.clock("2026-01-05")
    people = [billing.subscribe(clock, number % 7 + 1) for number in range(TEMPLATES)]
    billing.advance(clock, "2026-01-28")
    for number, (customer, _) in enumerate(people):
        billing.use(customer, 700 * 2**number % 1_000_003, "2026-01-27")
    billing.advance(clock, "2026-02-05T02:00:00")
    now = datetime.now(UTC)
    starts = [
        int(datetime((first := now.year * 12 + now.month - 1 - back) // 12, first % 12 + 1, 1, tzinfo=UTC).timestamp())
        for back in range(months, 0, -1)
    ]
    with sqlite3.connect(billing.path) as file:
        rows = {
            kind: [
                (scope, body)
                for scope, body in file.execute(
                    "SELECT scope, body FROM objects WHERE kind = ? AND json_extract(body, '$.billing_reason') IS ?",
                    (kind, reason),
                )
            ]
            for kind, reason in (("subscription", None), ("invoice", "subscription_cycle"))
        }
        file.execute("DELETE FROM objects WHERE kind IN ('subscription', 'invoice')")
        put = "INSERT INTO objects (scope, kind, id, created, body) VALUES (?, ?, ?, ?, ?)"
        for number in range(customers):
            scope, body = rows["subscription"][number % TEMPLATES]
            text = copied(body, f"{number:06d}", None)
            file.execute(put, (scope, "subscription", json.loads(text)["id"], starts[0], text))
        for start in starts:
            for number in range(customers):
                scope, body = rows["invoice"][number % TEMPLATES]
                created = start + 86_400 * (number % 27) + 3_600
                text = copied(body, f"{number:06d}", created)
                file.execute(put, (scope, "invoice", json.loads(text)["id"], created, text))


def copied(body: str, number: str, created: int | None) -> str:
    """An object under other ids, on no test clock; an invoice at another time, its periods with it."""
    made = json.loads(body)
    shift = 0 if created is None else created - made["created"]
    made["test_clock"] = None
    made["created"] += shift
    for line in made["lines"]["data"] if created is not None else ():
        line["period"] = {name: moment + shift for name, moment in line["period"].items()}
    text = json.dumps(made, separators=(",", ":"))
    text = re.sub(r'"((?:cus|sub|si|in|il)_\w{6})\w{6}(\w*)"', rf'"\g<1>{number}\2"', text)
    return text if created is None else re.sub(r'"(in_\w{12})\w{7}', rf'"\g<1>{created // 86_400:07d}', text)


def measured(billing: Billing, url: str, months: int) -> tuple[int, int, float, float, float]:
    """Calls, invoices read, seconds on the clock and on the processor, and megabytes of one run of the command."""
    began = time.monotonic()
    command = [sys.executable, "-m", "benchmarks.impact_scale", "--run", "alpaca-ai@1", "alpaca-ai@2"]
    done = subprocess.run(
        [*command, "--months", str(months), "--markdown", str(billing.folder / "report.md")],
        cwd=billing.folder,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "STRIPE_API_BASE": url},
    )
    seconds = time.monotonic() - began
    assert done.returncode == 0, done.stderr
    assert "invoices read" in done.stderr
    report = (billing.folder / "report.md").read_text()
    assert "lines reproduced to the cent." in report, report
    said = re.search(r"([\d,]+) invoices read, .*; ([\d,]+) calls", done.stderr)
    peak = re.search(r"peak (\d+), processor ([\d.]+)", done.stderr)
    assert said is not None
    assert peak is not None
    read, calls = (int(figure.replace(",", "")) for figure in said.groups())
    return calls, read, seconds, float(peak[2]), int(peak[1]) / 1024


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--customers", type=int, default=5_000, help="default: %(default)s")
    parser.add_argument("--months", type=int, default=12, help="default: %(default)s")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for customers in (given.customers // 10, given.customers):
            place = Path(folder) / str(customers)
            place.mkdir()
            billing = Billing(place)
            fill(billing, customers, given.months)
            billing.program()
            with serving(billing.sandbox, "127.0.0.1", 0) as server:
                for run in ("first", "again"):
                    calls, read, seconds, processor, peak = measured(billing, server.url, given.months)
                    assert read == customers * given.months
                    # A page more for each month, prices, clocks, the account, and subscriptions.
                    most = customers * given.months // 100 + customers // 100 + 2 * given.months + 5
                    assert calls <= (most if run == "first" else most - customers * (given.months - 1) // 100), calls
                    print(
                        f"{customers:>6,} customers, {read:>7,} invoices, {run}: {calls:>4,} calls, "
                        f"{seconds:>6.1f} s, {processor:>5.1f} s on the processor, {peak:>5.0f} MB at most"
                    )
            assert threading.active_count() < 50
            billing.sandbox.close()


def run() -> None:
    """The command itself, and the memory that it took."""
    import resource

    from pricing.cli import main as pricing

    code = pricing(["impact", *sys.argv[2:]])
    used = resource.getrusage(resource.RUSAGE_SELF)
    print(f"peak {used.ru_maxrss}, processor {used.ru_utime + used.ru_stime:.1f}", file=sys.stderr)
    raise SystemExit(code)


if __name__ == "__main__":
    run() if sys.argv[1:2] == ["--run"] else main()
