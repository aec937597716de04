"""Runs killed with SIGKILL while everything happens at once and calls fail around them: every event arrives once.

The suite's form is short. The long one: `USAGE_KILL_RUNS=200 script/test tests/usage/test_kill.py` (some minutes).
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

import usage
from sandbox.server import serving
from usage.client import Client

from . import chaos
from .conftest import EVENT, World

RUNS = int(os.environ.get("USAGE_KILL_RUNS", "8"))

# A process that has imported everything forks the runs: a fork costs a millisecond, an interpreter 500.
NURSERY = """
import os, random, signal, sys, time
import concurrent.futures.thread, stripe, requests
import usage.client
from tests.usage import chaos

runs, seed, customers = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3].split(",")
rand = random.Random(seed)
for number in range(runs):
    pid = os.fork()
    if pid == 0:
        try:
            os.setpgid(0, 0)
            chaos.run(seed, customers, number)
        finally:
            os._exit(3)  # a run that ends by itself is a failure
    os.setpgid(pid, pid)  # here, too: on a busy machine the child may not have come to it
    time.sleep(rand.uniform(0.2, 1.2))
    os.killpg(pid, signal.SIGKILL)
    status = os.waitpid(pid, 0)[1]
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL, (number, status)
print("killed", runs)
"""

FAULTS: list[dict[str, Any]] = [
    {"when": "after", "drop": True},
    {"when": "after", "half_body": True},
    {"when": "before", "drop": True},
    {"when": "after", "status": 500},
    {"when": "before", "status": 502, "body": "<html>bad gateway</html>"},
    {"when": "before", "status": 429},
    {"when": "before", "status": 413, "body": "<html>too large</html>"},
    {"when": "after", "status": 200, "body": "\n"},
    {"when": "after", "delay": 0.3},
]


def break_things(world: World, done: threading.Event, seed: int) -> None:
    """Keep a few faults waiting for the next calls that carry events."""
    rand = random.Random(seed)
    while not done.wait(0.2):
        path = rand.choice(("/v2/billing/meter_event_stream", "/v1/billing/meter_event_adjustments", "/v1/billing/*"))
        world.control("faults", method="POST", path=path, count=1, skip=rand.randrange(4), **rand.choice(FAULTS))


@pytest.mark.slow
def test_killed_runs_deliver_every_event_exactly_once(
    world: World, meter: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seed = int(os.environ.get("USAGE_KILL_SEED", "1"))
    calls = world.meter("alpaca_ai_calls", "count")
    customers = [world.customer(f"customer {number}") for number in range(5)]
    chaos.rows(customers)
    world.control("log", on=False)
    root = str(Path(__file__).parents[2])
    with serving(world.sandbox) as server:
        monkeypatch.setenv("STRIPE_MODE", "sandbox")
        monkeypatch.setenv("STRIPE_API_BASE", server.url)
        monkeypatch.setenv("PYTHONPATH", root)
        done = threading.Event()
        breaker = threading.Thread(target=break_things, args=(world, done, seed))
        breaker.start()
        command = [sys.executable, "-W", "ignore", "-c", NURSERY, str(RUNS), str(seed), ",".join(customers)]
        try:
            run = subprocess.run(command, capture_output=True, text=True, timeout=500, check=False)
        finally:
            done.set()
            breaker.join()
        assert not (tmp_path / "failed").exists(), (tmp_path / "failed").read_text()
        assert run.stdout == f"killed {RUNS}\n", run.stderr
        world.sandbox.handle(chaos_over())
        with Client(background=False) as last:
            for _ in range(20):
                if last.flush().complete:
                    break
            # What a run was killed in the middle of taking back is taken back now, and what Stripe did not know then
            # (its request was lost, or late), too; what Stripe still does not know is sent again by name.
            for state in ("cancelling", "unknown"):
                for kept in last.spool.with_state(state):
                    with contextlib.suppress(usage.UsageError):
                        last.cancel(kept.identifier)
            last.retry(identifiers=[kept.identifier for kept in last.spool.with_state("unknown")] or ["none"])
            assert last.flush().complete
            assert last.import_file("rows.csv", event_name=EVENT).already == 200
            status = last.status()
            assert status.complete, status
            verified = last.verify()
            assert verified.complete, verified
            path = last.spool.path
    recorded = set((tmp_path / "journal").read_text().split())
    said = [line.rpartition(" ") for line in (tmp_path / "cancelled").read_text().splitlines()]
    connection = sqlite3.connect(path)
    rows = connection.execute("SELECT identifier, event_name, customer, value, state FROM events").fetchall()
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()
    states = {row[0]: row[4] for row in rows}
    assert len(recorded) > RUNS
    assert recorded <= set(states)  # nothing that record() returned was lost
    assert set(states.values()) <= {"delivered", "cancelled"}
    assert all(states[name] == "cancelled" for _, _, name in said)  # nothing that cancel() took back was billed
    for customer in customers:
        mine = [row for row in rows if row[2] == customer and row[4] == "delivered"]
        expected = sum((Decimal(row[3]) for row in mine if row[1] == EVENT), Decimal(0))
        assert world.total(meter, customer) == expected
        assert world.total(calls, customer) == sum(1 for row in mine if row[1] != EVENT)


def chaos_over() -> Any:
    """The request that takes away the faults that nobody met."""
    from sandbox import Request

    return Request("DELETE", "/_sandbox/faults", {}, b"")


def test_a_kill_between_the_answer_and_the_commit_bills_once(
    world: World, meter: str, customer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one moment that a script without a spool cannot survive, by itself."""
    program = (
        "import os, signal, usage\n"
        "from usage.client import Client\n"
        "client = Client()\n"
        "client.spool.settle = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)\n"
        f"client.send({EVENT!r}, {customer!r}, 7, identifier='job-1')\n"
    )
    with serving(world.sandbox) as server:
        monkeypatch.setenv("STRIPE_MODE", "sandbox")
        monkeypatch.setenv("STRIPE_API_BASE", server.url)
        run = subprocess.run([sys.executable, "-c", program], check=False)
        assert run.returncode == -signal.SIGKILL
        assert world.total(meter, customer) == 7
        with Client() as client:
            result = client.flush()
            assert (result.delivered, result.complete) == (1, True)
    assert world.total(meter, customer) == 7


def test_a_killed_flush_leaves_no_lock_behind(embedded: World, meter: str, customer: str, tmp_path: Path) -> None:
    program = (
        "import time, usage\n"
        "from usage.client import Client\n"
        "client = Client()\n"
        f"client.record({EVENT!r}, {customer!r}, 7)\n"
        "client.spool.settle = lambda *_, **__: (print('sent', flush=True), time.sleep(60))\n"
        "client.flush()\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"sent\n"
    with Client() as client:
        waiting = client.flush(timeout=0.05)
        assert waiting.stopped is not None
        assert "another process" in waiting.stopped
        process.kill()
        process.wait()
        process.stdout.close()
        before = time.monotonic()
        assert client.flush(timeout=30).complete
        assert time.monotonic() - before < 30
    assert embedded.total(meter, customer) == 7
