"""The spool: what it promises across threads, forks, kills, bounds and broken files."""

from __future__ import annotations

import os
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from usage.client import Client
from usage.errors import IdentifierConflict, SpoolError
from usage.events import Event, make_event
from usage.spool import Spool

from .conftest import EVENT


def event(**changes: object) -> Event:
    return make_event(**{"event_name": EVENT, "customer": "cus_1", "value": 1, "now": time.time(), **changes})  # type: ignore[arg-type]


def test_what_is_recorded_is_there_after_a_kill(tmp_path: Path) -> None:
    program = (
        "import os, signal, usage\n"
        "names = [usage.record('tokens', 'cus_1', n) for n in range(50)]\n"
        "print(*names, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert run.returncode == -signal.SIGKILL
    spool = Spool()
    assert spool.counts() == {"": {"pending": 50}}
    for name in run.stdout.split():
        assert spool.find(name) is not None


def test_the_file_is_private(tmp_path: Path) -> None:
    client = Client()
    client.record(EVENT, "cus_1", 1)
    assert stat.S_IMODE(os.stat(client.spool.path).st_mode) == 0o600
    assert stat.S_IMODE(os.stat(os.path.dirname(client.spool.path)).st_mode) == 0o700
    client.close()


def test_no_key_is_ever_written_to_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("STRIPE_API_KEY", "sk_test_verySecret42")
    monkeypatch.setenv("STRIPE_API_BASE", "http://127.0.0.1:9")
    client = Client()
    client.record(EVENT, "cus_1", 1)
    client.flush()
    client.close(0)
    for file in (tmp_path / "state" / "stripe-usage").iterdir():
        assert b"verySecret42" not in file.read_bytes()


def test_the_same_identifier_is_the_same_event() -> None:
    spool = Spool()
    one = event(identifier="fact")
    assert spool.add([one], "") == 1
    assert spool.add([one], "") == 0
    later = one._replace(timestamp=one.timestamp - 60)
    assert spool.add([later], "", timeless=True) == 0
    with pytest.raises(IdentifierConflict, match="timestamp"):
        spool.add([later], "")
    with pytest.raises(IdentifierConflict, match="different customer"):
        spool.add([event(), one._replace(customer="cus_2")], "")
    assert spool.counts() == {"": {"pending": 1}}  # the whole call was taken back


def test_threads_share_a_client() -> None:
    client = Client()

    def work() -> None:
        for _ in range(100):
            client.record(EVENT, "cus_1", 1)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert client.status().pending == 800
    client.close()


FORKING = """
import os, sys, threading, usage
client = usage.Client()
client.record("tokens", "cus_parent", 1)
busy = True
def record():
    while busy:
        client.record("tokens", "cus_thread", 1)
thread = threading.Thread(target=record)
thread.start()
children = []
for number in range(6):
    child = os.fork()
    if child == 0:
        for value in range(50):
            client.record("tokens", "cus_child", value)
        client.close()
        os._exit(0)
    children.append(child)
codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
busy = False
thread.join()
for value in range(50):
    client.record("tokens", "cus_parent", value)
print(codes, client.status().pending)
client.close()
"""


def test_forked_children_record_into_the_same_spool_while_a_thread_does() -> None:
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORKING], capture_output=True, text=True, timeout=120, check=False
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.startswith("[0, 0, 0, 0, 0, 0]")
    connection = sqlite3.connect("state/stripe-usage/spool.db")
    counts = dict(connection.execute("SELECT customer, count(*) FROM events GROUP BY customer").fetchall())
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()
    assert counts["cus_child"] == 300
    assert counts["cus_parent"] == 51


FIRST = """
import os, time, usage.client
from usage.client import Client

failed = 0
for round in range(40):
    start, children = time.time() + 0.02, []
    for number in range(6):
        child = os.fork()
        if child == 0:
            code = 3
            try:
                while time.time() < start:
                    pass
                Client(spool=f"{round}/spool.db").record("tokens", "cus_1", 1)
                code = 0
            finally:
                os._exit(code)
        children.append(child)
    failed += sum(os.waitpid(child, 0)[1] != 0 for child in children)
    counted = Client(spool=f"{round}/spool.db").spool.counts()
    failed += sum(sum(states.values()) for states in counted.values()) != 6
print("failed", failed)
"""


def test_processes_that_record_for_the_first_time_at_one_moment_all_do() -> None:
    """Workers of one service begin so. SQLite's timeout does not hold while a new file is made."""
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FIRST], capture_output=True, text=True, timeout=120, check=False
    )
    assert run.stdout == "failed 0\n", run.stdout + run.stderr


ORPHANED = """
import os, sys, usage
client = usage.Client()
client.record("tokens", "cus_parent", 1)
client.spool.counts()                       # the file is open when we fork
reading, writing = os.pipe()
child = os.fork()
if child == 0:
    os.read(reading, 1)                     # until the parent, the last to hold the file open, has closed it
    for value in range(20):
        client.record("tokens", "cus_child", value)
    os._exit(0)
client.close()
os.write(writing, b"x")
os.waitpid(child, 0)
"""


def test_a_child_records_safely_after_its_parent_closed_the_spool() -> None:
    """Sharing the parent's connection, the child would write into a log that the parent's close has unlinked."""
    run = subprocess.run([sys.executable, "-c", ORPHANED], capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == 0, run.stderr
    assert Spool().counts() == {"": {"pending": 21}}


def test_only_one_delivers_at_a_time_and_a_killed_one_lets_go(tmp_path: Path) -> None:
    path = str(tmp_path / "spool.db")
    first, second = Spool(path), Spool(path)
    with first.delivering(0) as alone, second.delivering(0.02) as other:
        assert (alone, other) == (True, False)
    with second.delivering(0) as alone:
        assert alone
    program = (
        "import sys, time; from usage.spool import Spool\n"
        f"with Spool({path!r}).delivering(0) as alone: print('held' if alone else '', flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    with first.delivering(0) as alone:
        assert not alone
    holder.kill()
    holder.wait()
    holder.stdout.close()
    with first.delivering(5) as alone:
        assert alone


def test_a_locked_spool_is_a_sentence_and_nothing_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("usage.spool.PATIENCE", 0.05)
    client = Client()
    client.record(EVENT, "cus_1", 1)
    holder = sqlite3.connect(client.spool.path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    with pytest.raises(SpoolError, match="locked by another process"):
        client.record(EVENT, "cus_1", 2)
    holder.execute("ROLLBACK")
    holder.close()
    client.record(EVENT, "cus_1", 2)
    assert client.status().pending == 2
    client.close()


def test_a_full_disk_is_a_sentence_and_what_was_recorded_is_kept() -> None:
    client = Client()
    client.record(EVENT, "cus_1", 1)
    connection = client.spool._connection
    assert connection is not None
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    connection.execute(f"PRAGMA max_page_count = {pages}")  # SQLite answers SQLITE_FULL, as on a full disk
    recorded = 1

    def fill() -> None:
        nonlocal recorded
        for _ in range(2000):
            client.record(EVENT, "cus_1", 1)
            recorded += 1

    with pytest.raises(SpoolError, match="no space left"):
        fill()
    connection.execute("PRAGMA max_page_count = 1000000")
    client.record(EVENT, "cus_1", 1)
    assert client.status().pending == recorded + 1
    client.close()


@pytest.mark.parametrize("content", [b"this is not a database, sorry" * 100, b"SQLite format 3\0" + b"\xff" * 8000])
def test_a_file_that_is_no_spool_is_a_sentence_and_is_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "spool.db"
    path.write_bytes(content)
    client = Client(spool=path)
    with pytest.raises(SpoolError, match="recover"):
        client.record(EVENT, "cus_1", 1)
    assert path.read_bytes() == content


def test_another_programs_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE users (name)")
    other.close()
    with pytest.raises(SpoolError, match="another SQLite file"):
        Client(spool=path).record(EVENT, "cus_1", 1)
    with sqlite3.connect(path) as check:
        assert check.execute("SELECT name FROM sqlite_schema").fetchall() == [("users",)]
        assert check.execute("PRAGMA journal_mode").fetchone() == ("delete",)
    check.close()


def test_a_folder_that_cannot_be_made_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SpoolError, match="STRIPE_USAGE_SPOOL"):
        Client(spool=tmp_path / "file" / "spool.db").record(EVENT, "cus_1", 1)


def test_counters_agree_with_the_rows_after_everything() -> None:
    now = [time.time()]
    spool = Spool(clock=lambda: now[0])
    spool.add([event(identifier=f"fact-{number}") for number in range(20)], "test")
    claimed = spool.claim(["test"], 10)
    delivered = [one._replace(state="delivered") for one in claimed[:5]]
    spool.settle([*delivered, claimed[5].refused("no_meter", "none", 400), claimed[6]])
    now[0] += 25 * 3600
    spool.claim(["test"], 3, after=claimed[6].id)  # three whose fate is unknown for too long
    spool.retry()
    spool.retry(identifiers=[claimed[7].identifier])
    now[0] += 41 * 86_400
    spool.prune()
    with spool._use() as connection:
        rows = connection.execute("SELECT destination, state, count(*) FROM events GROUP BY 1, 2").fetchall()
    assert sorted(rows) == sorted(
        (destination, state, count) for destination, states in spool.counts().items() for state, count in states.items()
    )
    assert spool.counts()["test"] == {"pending": 13, "unknown": 2}
    spool.close()


def test_settled_events_are_forgotten_only_after_stripe_could_not_take_them_any_more() -> None:
    now = [time.time()]
    spool = Spool(clock=lambda: now[0])
    spool.add([event(identifier="fact")], "test")
    (claimed,) = spool.claim(["test"], 1)
    spool.settle([claimed._replace(state="delivered")])
    now[0] += 35 * 86_400
    assert spool.prune() == 0
    now[0] += 6 * 86_400
    assert spool.prune() == 1
    spool.close()


def test_a_durable_spool_syncs_every_commit() -> None:
    spool = Spool(durable=True)
    spool.add([event()], "")
    with spool._use() as connection:
        assert connection.execute("PRAGMA synchronous").fetchone() == (2,)
    spool.claim(["test"], 1)
    with spool._use() as connection:
        assert connection.execute("PRAGMA synchronous").fetchone() == (2,)
    spool.close()


def test_the_claim_is_on_disk_before_anything_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """A power cut must not make a possibly sent event look unsent: the claim is committed with FULL sync."""
    spool = Spool()
    spool.add([event()], "test")
    seen: list[str] = []
    assert spool._connection is not None
    spool._connection.set_trace_callback(seen.append)
    spool.claim(["test"], 1)
    spool._connection.set_trace_callback(None)
    full, begin, commit, normal = (
        next(place for place, text in enumerate(seen) if text.startswith(start))
        for start in ("PRAGMA synchronous = FULL", "BEGIN", "COMMIT", "PRAGMA synchronous = NORMAL")
    )
    assert full < begin < commit < normal
    spool.close()


def test_the_working_directory_may_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    client = Client()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    client.record(EVENT, "cus_1", 1)
    assert Client().status().spool == client.spool.path
    assert Client(create=False).status().pending == 1
    client.close()
