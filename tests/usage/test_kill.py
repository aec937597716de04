"""Two hundred runs killed with SIGKILL, with lost answers and 5xx around them: every event arrives exactly once."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from sandbox.server import serving
from usage.client import Client

from .conftest import EVENT, World

RUNS = 200

# A process that has imported everything forks the runs, two at a time: a fork costs a millisecond, an interpreter 100.
NURSERY = """
import os, random, signal, sys, time
import http.client, json, urllib.parse, concurrent.futures
import usage.aio, usage.api, usage.client, usage.delivery, usage.pacing, usage.results, usage.spool, usage.transport
from usage.client import Client

usage.pacing.BACKOFF_FIRST, usage.pacing.BACKOFF_MOST = 0.01, 0.05
runs, seed, customers = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3].split(",")
journal = os.open("journal", os.O_WRONLY | os.O_APPEND | os.O_CREAT)

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

def child(number):
    rand = random.Random(seed * 1000 + number)
    client = Client(delivery=rand.choice(("stream", "stream", "v1")), limits="none", connections=rand.choice((1, 3)))
    spool = client.spool
    countdown = rand.randrange(1, 5)

    def killing(function, before):
        def wrapped(*arguments, **options):
            nonlocal countdown
            countdown -= 1
            if before and countdown <= 0:
                die()
            answer = function(*arguments, **options)
            if countdown <= 0:
                die()
            return answer
        return wrapped

    def in_transaction(statement):
        nonlocal countdown
        if statement == "COMMIT":
            countdown -= 1
            if countdown <= 0:
                die()

    where = number % 5
    if where == 0:                                       # between Stripe's answer and our commit
        spool.settle = killing(spool.settle, True)
    elif where == 1:                                     # after the claim, before anything is sent
        spool.claim = killing(spool.claim, False)
    elif where == 2:                                     # in the middle of any transaction
        with spool._use() as connection:
            connection.set_trace_callback(in_transaction)
    else:                                                # at any moment at all, by the nursery's clock
        pass
    while True:
        for _ in range(rand.randrange(1, 40)):
            name = rand.choice(("alpaca_ai_tokens", "alpaca_ai_calls"))
            identifier = client.record(name, rand.choice(customers), rand.randrange(1, 1_000_000))
            os.write(journal, identifier.encode() + b"\\n")
        client.flush(timeout=20)

rand = random.Random(seed)
living = {}
for number in range(runs):
    pid = os.fork()
    if pid == 0:
        try:
            child(number)
        finally:
            os._exit(3)  # a run that ends by itself is a failure
    living[pid] = time.monotonic() + (rand.uniform(0.0, 0.3) if number % 5 > 2 else 20.0)
    while len(living) >= (2 if number < runs - 1 else 1):
        for pid, until in list(living.items()):
            if time.monotonic() >= until:
                os.kill(pid, signal.SIGKILL)
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL, (number, status)
                del living[pid]
        time.sleep(0.002)
print("killed", runs)
"""

FAULTS: list[dict[str, Any]] = [
    {"when": "after", "drop": True},
    {"when": "after", "half_body": True},
    {"when": "before", "drop": True},
    {"when": "after", "status": 500},
    {"when": "before", "status": 502, "body": "<html>bad gateway</html>"},
    {"when": "before", "status": 429},
]


def break_things(world: World, done: threading.Event, seed: int) -> None:
    """Keep a few faults waiting for the next calls that carry events."""
    rand = random.Random(seed)
    while not done.wait(0.2):
        path = rand.choice(("/v2/billing/meter_event_stream", "/v1/billing/meter_events"))
        world.control("faults", method="POST", path=path, count=1, skip=rand.randrange(4), **rand.choice(FAULTS))


@pytest.mark.slow
def test_two_hundred_killed_runs_deliver_every_event_exactly_once(
    world: World, meter: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seed = int(os.environ.get("USAGE_KILL_SEED", "1"))
    calls = world.meter("alpaca_ai_calls", "count")
    customers = [world.customer(f"customer {number}") for number in range(5)]
    world.control("log", on=False)
    with serving(world.sandbox) as server:
        monkeypatch.setenv("STRIPE_MODE", "sandbox")
        monkeypatch.setenv("STRIPE_API_BASE", server.url)
        done = threading.Event()
        breaker = threading.Thread(target=break_things, args=(world, done, seed))
        breaker.start()
        command = [sys.executable, "-c", NURSERY, str(RUNS), str(seed), ",".join(customers)]
        try:
            run = subprocess.run(command, capture_output=True, text=True, timeout=400, check=False)
        finally:
            done.set()
            breaker.join()
        assert run.stdout == f"killed {RUNS}\n", run.stderr
        with Client(limits="none") as last:
            for _ in range(20):  # what the remaining faults leave is taken up by the next delivery
                if last.flush().complete:
                    break
            status = last.status()
            assert status.complete
            verified = last.verify()
            assert verified.complete
            path = last.spool.path
    recorded = set((tmp_path / "journal").read_text().split())
    connection = sqlite3.connect(path)
    rows = connection.execute("SELECT identifier, event_name, customer, value, state FROM events").fetchall()
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()
    assert len(recorded) > RUNS
    assert recorded <= {row[0] for row in rows}  # nothing that record() returned was lost
    assert {row[4] for row in rows} == {"delivered"}
    for customer in customers:
        mine = [row for row in rows if row[2] == customer]
        assert world.total(meter, customer) == sum(row[3] for row in mine if row[1] == EVENT)
        assert world.total(calls, customer) == sum(1 for row in mine if row[1] != EVENT)


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
