"""One run of the kill harness: everything at once on one spool, until somebody kills it.

Threads and an event loop record, others flush, import the same file again and again, cancel and verify, and two threads
fork children that record. What `record` returned is written to `journal`, what `cancel` said to `cancelled`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import threading
import time
from pathlib import Path
from typing import Any

import usage
import usage.api
import usage.spool
from usage.client import Client

EVENTS = ("alpaca_ai_tokens", "alpaca_ai_calls")
QUIET: dict[str, Any] = {"on_error": lambda _: None}


def write(name: str, line: str) -> None:
    handle = os.open(name, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(handle, line.encode() + b"\n")
    os.close(handle)


def run(seed: int, customers: list[str], number: int) -> None:
    rand = random.Random(seed * 1000 + number)
    usage.api.BACKOFF_FIRST, usage.api.BACKOFF_MOST = 0.01, 0.05
    usage.client.INTERVAL, usage.spool.PATIENCE = 0.02, 60.0
    client = Client(**QUIET)
    names: list[str] = []

    def event(mine: random.Random) -> tuple[str, str, str]:
        return mine.choice(EVENTS), mine.choice(customers), mine.choice(("1", "2.5", "1000000", "0.000001"))

    def record(mine: random.Random) -> None:
        name = client.record(*event(mine), identifier=mine.choice((None, f"ключ-{mine.randrange(10**12)}")))
        write("journal", name)
        names.append(name)
        time.sleep(mine.random() / 300)

    def flush(mine: random.Random) -> None:
        client.flush(timeout=mine.choice((0.05, 5)))
        time.sleep(mine.random() / 20)

    def load(mine: random.Random) -> None:
        client.import_file("rows.csv", event_name=EVENTS[0])
        time.sleep(mine.random() / 10)

    def cancel(mine: random.Random) -> None:
        time.sleep(mine.random() / 50)
        if names:
            name = mine.choice(names[-5:])
            with contextlib.suppress(usage.UsageError):
                write("cancelled", f"{client.cancel(name, timeout=0.2).outcome} {name}")

    def verify(mine: random.Random) -> None:
        with contextlib.suppress(usage.StripeError, usage.Unreachable):
            client.verify()
        time.sleep(mine.random() / 5)

    def fork(mine: random.Random) -> None:
        child = os.fork()
        if child == 0:
            code = 3
            try:
                for _ in range(3):
                    write("journal", client.record(*event(mine)))
                client.flush(timeout=5)
                client.close(5)
                code = 0 if not [one for one in threading.enumerate() if one.name.startswith("usage")] else 4
            except BaseException:  # noqa: BLE001 - written down, and the test fails for it
                import traceback

                write("failed", traceback.format_exc())
            finally:
                os._exit(code)
        deadline = time.monotonic() + 60
        while (done := os.waitpid(child, os.WNOHANG))[0] == 0:
            if time.monotonic() > deadline:
                os.kill(child, signal.SIGKILL)
                write("failed", "a forked child hangs")
                return
            time.sleep(0.005)
        if done[1]:
            write("failed", f"a forked child ended with {done[1]}")

    async def awaiting() -> None:
        other = Client(**QUIET)
        while True:
            write("journal", await asyncio.to_thread(other.record, *event(rand)))
            await asyncio.sleep(rand.random() / 100)

    def for_ever(work: Any, mine: random.Random) -> None:
        try:
            while True:
                work(mine)
        except BaseException as problem:
            write("failed", f"{work.__name__}: {problem!r}")
            raise

    for place, work in enumerate([record, record, flush, load, cancel, verify, fork, fork]):
        threading.Thread(target=for_ever, args=(work, random.Random(rand.random() + place)), daemon=True).start()
    try:
        asyncio.run(awaiting())
    except BaseException as problem:
        write("failed", f"awaiting: {problem!r}")
        raise


def rows(customers: list[str]) -> None:
    """The file that every run imports."""
    now = int(time.time())
    lines = [f"{customers[place % len(customers)]},{place % 3},{now - place % 50}" for place in range(200)]
    Path("rows.csv").write_text("customer,value,timestamp\n" + "\n".join(lines) + "\n")
