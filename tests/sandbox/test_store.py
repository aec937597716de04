"""The file: damaged, killed, shared by processes, forked."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import stripe

from sandbox import Request, Sandbox, SandboxFileError, store
from sandbox.client import SandboxHTTPClient
from sandbox.store import mint
from tests.sandbox import catalog
from tests.sandbox.conftest import NEW_YEAR

KEY = {"Authorization": "Bearer sk_test_x", "Content-Type": "application/x-www-form-urlencoded"}


def create(sandbox: Sandbox, name: str) -> int:
    return sandbox.handle(Request("POST", "/v1/products", KEY, f"name={name}".encode())).status


def count(path: Path) -> int:
    sandbox = Sandbox(path)
    with sandbox.database.reading() as connection:
        found = connection.execute("SELECT count(*) FROM objects WHERE kind = 'product'").fetchone()[0]
        assert connection.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
    sandbox.close()
    return int(found)


def _mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


@pytest.mark.skipif(sys.platform == "win32", reason="no such permissions")
def test_a_new_file_is_its_users_alone(tmp_path: Path) -> None:
    path = tmp_path / "made" / "stripe.db"
    sandbox = Sandbox(path)
    assert sandbox.handle(Request("POST", "/v1/products", {**KEY, "Idempotency-Key": "k"}, b"name=A")).status == 200
    found = {entry.name: _mode(entry) for entry in path.parent.iterdir() if entry.name != ".gitignore"}
    assert found == dict.fromkeys(("stripe.db", "stripe.db-wal", "stripe.db-shm", "stripe.db-claims"), 0o600)
    assert _mode(path.parent) == 0o700
    sandbox.close()


def _unignored(folder: Path) -> list[str]:
    """What git would offer to commit."""
    if shutil.which("git") is None:
        pytest.skip("there is no git on this machine")
    subprocess.run(["git", "init", "-q", str(folder)], check=True, timeout=60)
    asked = ["git", "-C", str(folder), "status", "--porcelain", "--untracked-files=all", "-z"]
    done = subprocess.run(asked, check=True, capture_output=True, text=True, timeout=60)
    return sorted(line[3:] for line in done.stdout.split("\0") if line)


@pytest.mark.parametrize("name", ["stripe.db", "a[1]*.db", "#x!"])
def test_git_ignores_the_file_and_nothing_of_the_users(tmp_path: Path, name: str) -> None:
    Sandbox(tmp_path / ".stripe-sandbox" / name).close()
    Sandbox(tmp_path / "made" / name).close()
    (tmp_path / "made" / "notes").write_text("the user's")
    (tmp_path / "made" / ".gitignore").write_text((tmp_path / "made" / ".gitignore").read_text())
    assert _unignored(tmp_path) == ["made/.gitignore", "made/notes"]


def test_a_gitignore_of_the_users_stays_as_it_is(tmp_path: Path) -> None:
    folder = tmp_path / ".stripe-sandbox"
    folder.mkdir()
    (folder / ".gitignore").write_text("mine\n")
    Sandbox(folder / "stripe.db").close()
    assert (folder / ".gitignore").read_text() == "mine\n"
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    Sandbox(theirs / "stripe.db").close()
    assert not (theirs / ".gitignore").exists()


@pytest.mark.parametrize(
    "content", [b"not a database at all, just some text" * 100, b"SQLite format 3\0" + b"\xff" * 4096]
)
def test_a_damaged_file_is_named_with_what_to_do(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "stripe.db"
    path.write_bytes(content)
    with pytest.raises(SandboxFileError) as caught:
        Sandbox(path)
    message = str(caught.value)
    assert str(path) in message
    assert "move it" in message
    assert "\n" not in message
    assert path.read_bytes() == content


def test_a_file_that_is_damaged_later_is_a_clear_error_for_stripe_python(tmp_path: Path) -> None:
    path = tmp_path / "stripe.db"
    first = Sandbox(path)
    for number in range(200):
        create(first, f"p{number}")
    with first.database.reading() as connection:
        size = connection.execute("PRAGMA page_size").fetchone()[0]
    first.close()
    whole = path.read_bytes()
    path.write_bytes(whole[:size] + b"\xee" * (len(whole) - size))
    with pytest.raises((SandboxFileError, stripe.APIConnectionError)) as caught:
        stripe.StripeClient("sk_test_x", http_client=SandboxHTTPClient(path)).v1.products.list()
    assert str(path) in str(caught.value)


STORED = Path(__file__).parent / "stored.json"


def test_the_format_is_raised_when_what_is_stored_changes(sandbox: Sandbox, client: stripe.StripeClient) -> None:
    """A file that an earlier version made lacks what the code reads now. `STORED=write` takes a new format down."""
    made = catalog.catalog(client)
    subscription = client.v1.subscriptions.create(
        {
            "customer": made.customer.id,
            "collection_method": "send_invoice",
            "days_until_due": 30,
            "items": [{"price": made.license.id}, {"price": made.usage.id}],
        }
    )
    client.v1.invoice_items.create({"customer": made.customer.id, "amount": 100, "currency": "usd"})
    client.v1.coupons.create({"percent_off": 10, "duration": "once"})
    client.v1.subscription_schedules.create({"from_subscription": subscription.id})
    with sandbox.database.reading() as connection:
        stored = [json.loads(body) for (body,) in connection.execute("SELECT body FROM objects")]
    found: dict[str, Any] = {"format": store.FORMAT}
    for each in stored:
        names = set(each)
        for line in each["lines"]["data"] if each["object"] == "invoice" else ():
            names |= {f"lines.{name}" for name in line}
        found[each["object"]] = sorted({*found.get(each["object"], ()), *names})
    text = json.dumps(found, indent=1, sort_keys=True) + "\n"
    if os.environ.get("STORED") == "write":
        STORED.write_text(text)
    assert text == STORED.read_text(), (
        "what is stored is another: raise sandbox.store.FORMAT, add a step to sandbox/migrations.py, then STORED=write"
    )


def test_a_folder_in_the_place_of_the_file(tmp_path: Path) -> None:
    with pytest.raises(SandboxFileError, match=r"cannot be (used|opened)"):
        Sandbox(tmp_path)


def test_a_file_in_the_place_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(SandboxFileError, match="check its folder"):
        Sandbox(tmp_path / "file" / "stripe.db")


def test_state_survives_a_new_sandbox(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "stripe.db"
    first = Sandbox(path)
    assert create(first, "A") == 200
    first.close()
    assert count(path) == 1


def _create_for_ever(path: str) -> None:
    """Prints the id of each product once it has been answered."""
    sandbox = Sandbox(path)
    while True:
        response = sandbox.handle(Request("POST", "/v1/products", KEY, b"name=p"))
        assert response.status == 200
        print(json.loads(response.body)["id"], flush=True)


@pytest.mark.parametrize("processes", [1, 3])
def test_what_was_answered_survives_kill_9(tmp_path: Path, processes: int) -> None:
    path = tmp_path / "stripe.db"
    program = f"from tests.sandbox.test_store import _create_for_ever; _create_for_ever({str(path)!r})"
    answered: set[str] = set()
    for round_number in range(3):
        writers = [
            subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
            for _ in range(processes)
        ]
        for writer in writers:
            assert writer.stdout is not None
            for _ in range(25 * (round_number + 1)):
                answered.add(writer.stdout.readline().strip())
        for writer in writers:
            # One after another: those that are left go on writing, over what the killed one has begun.
            writer.kill()
            answered.update(writer.communicate()[0].split())
        assert count(path) <= len(answered) + processes * (round_number + 1)
    sandbox = Sandbox(path)
    with sandbox.database.reading() as connection:
        kept = {id for (id,) in connection.execute("SELECT id FROM objects WHERE kind = 'product'")}
    sandbox.close()
    assert answered <= kept


def _create_some(arguments: tuple[str, int, int]) -> int:
    path, worker, amount = arguments
    sandbox = Sandbox(path)
    done = sum(create(sandbox, f"w{worker}p{number}") == 200 for number in range(amount))
    sandbox.close()
    return done


def test_several_processes_write_one_file(tmp_path: Path) -> None:
    path = tmp_path / "stripe.db"
    context = multiprocessing.get_context("spawn")
    with context.Pool(4) as pool:
        # The file does not exist yet: they make it together, too.
        assert sum(pool.map(_create_some, [(str(path), worker, 40) for worker in range(4)])) == 160
    assert count(path) == 160


def _send_some(arguments: tuple[str, str, int, int]) -> tuple[int, int]:
    """Events of one customer, each until it is taken: (taken, refused because another was under way)."""
    path, customer, worker, amount = arguments
    sandbox = Sandbox(path)
    taken = refused = 0
    while taken < amount:
        body = f"event_name=m&payload[stripe_customer_id]={customer}&payload[value]=1&identifier={worker}-{taken}"
        status = sandbox.handle(Request("POST", "/v1/billing/meter_events", KEY, body.encode())).status
        assert status in (200, 409)
        taken, refused = taken + (status == 200), refused + (status == 409)
    sandbox.close()
    return taken, refused


def test_events_from_several_processes_count_once_each(tmp_path: Path) -> None:
    path = tmp_path / "stripe.db"
    sandbox = Sandbox(path)

    def post(url: str, body: str) -> Any:
        return json.loads(sandbox.handle(Request("POST", url, KEY, body.encode())).body)

    meter = post("/v1/billing/meters", "display_name=M&event_name=m&default_aggregation[formula]=sum")
    customer = post("/v1/customers", "name=Ada")["id"]
    context = multiprocessing.get_context("spawn")
    with context.Pool(3) as pool:
        results = pool.map(_send_some, [(str(path), customer, worker, 30) for worker in range(3)])
    assert [taken for taken, _ in results] == [30, 30, 30]
    start = meter["created"] // 3600 * 3600
    url = f"/v1/billing/meters/{meter['id']}/event_summaries?customer={customer}&start_time={start}"
    answer = json.loads(sandbox.handle(Request("GET", f"{url}&end_time={start + 7200}", KEY)).body)
    assert answer["data"][0]["aggregated_value"] == 90


def test_many_threads_share_a_sandbox(sandbox: Sandbox) -> None:
    with ThreadPoolExecutor(8) as threads:
        assert set(threads.map(lambda number: create(sandbox, f"p{number}"), range(200))) == {200}
    assert count(sandbox.database.path) == 200


def test_the_same_idempotency_key_from_many_threads_makes_one_object(sandbox: Sandbox) -> None:
    def call(number: int) -> int:
        headers = {**KEY, "Idempotency-Key": "same"}
        return sandbox.handle(Request("POST", "/v1/products", headers, b"name=A")).status

    with ThreadPoolExecutor(8) as threads:
        statuses = set(threads.map(call, range(100)))
    assert statuses <= {200, 409}
    assert count(sandbox.database.path) == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_fork_opens_connections_of_its_own(sandbox: Sandbox) -> None:
    create(sandbox, "before")
    child = os.fork()
    if child == 0:  # pragma: no cover - in the child
        status = 1
        try:
            status = 0 if create(sandbox, "child") == 200 else 1
        finally:
            os._exit(status)
    assert create(sandbox, "parent") == 200
    assert os.waitpid(child, 0)[1] == 0
    assert count(sandbox.database.path) == 3


@pytest.mark.parametrize("replaced", [False, True])
def test_a_file_that_is_deleted_under_a_sandbox_is_told(tmp_path: Path, replaced: bool) -> None:
    path = tmp_path / "stripe.db"
    sandbox = Sandbox(path)
    create(sandbox, "A")
    for file in tmp_path.iterdir():
        file.unlink()
    if replaced:
        assert create(Sandbox(path), "B") == 200
    with pytest.raises(SandboxFileError, match="was deleted or replaced"):
        create(sandbox, "lost")
    with sandbox.database.reading(), pytest.raises(SandboxFileError, match="was deleted or replaced"):
        # A second connection must not make a new file, or read another.
        sandbox.database.reading().__enter__()
    assert path.exists() == replaced
    sandbox.close()
    assert count(path) == replaced


def test_the_process_may_change_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    sandbox = Sandbox(Path("folder") / "stripe.db")
    monkeypatch.chdir(tmp_path / "folder")
    with sandbox.database.reading():
        assert create(sandbox, "A") == 200
    sandbox.close()
    assert count(tmp_path / "folder" / "stripe.db") == 1


def test_a_failed_commit_leaves_the_sandbox_usable(sandbox: Sandbox) -> None:
    """As on a full disk: what was to be written is undone, and later requests start from there."""
    with sandbox.database.glancing() as connection:
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(SandboxFileError, match="disk has room"):
        create(sandbox, "x" * 5000)
    with sandbox.database.glancing() as connection:
        connection.execute(f"PRAGMA max_page_count = {pages + 10_000}")
    assert create(sandbox, "again") == 200


def test_more_requests_at_once_than_connections_wait(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "MOST_CONNECTIONS", 2)
    together = threading.Barrier(2)
    opened: set[int] = set()

    def read(number: int) -> None:
        with sandbox.database.reading() as connection:
            opened.add(id(connection))
            # Two at a time, and never a third: that would leave one alone at the end.
            together.wait(timeout=60)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(read, range(8)))
    assert len(opened) == 2


def test_ids_do_not_repeat() -> None:
    ids: set[Any] = {mint("prod_", 14) for _ in range(10_000)}
    assert len(ids) == 10_000
    assert all(len(id) == 19 and id.isascii() for id in ids)


def test_the_log_is_cut(sandbox: Sandbox) -> None:
    from sandbox import log

    create(sandbox, "A")
    create(sandbox, "B")
    with sandbox.database.writing() as connection:
        connection.execute("UPDATE request_log SET seq = 12998 WHERE seq = 2")
    for name in ("C", "D", "E"):
        create(sandbox, name)
    with sandbox.database.reading() as connection:
        kept = [row[0] for row in connection.execute("SELECT seq FROM request_log ORDER BY seq")]
    assert kept == [12998, 12999, 13000, 13001]
    assert log.KEEP == 10_000


def test_the_log_s_numbers_go_on_when_it_is_emptied(sandbox: Sandbox) -> None:
    def numbers(after: int = 0) -> list[int]:
        answer = sandbox.handle(Request("GET", f"/_sandbox/requests?after={after}"))
        return [line["seq"] for line in json.loads(answer.body)["data"]]

    create(sandbox, "A")
    create(sandbox, "B")
    assert numbers() == [1, 2]
    for _ in range(2):
        sandbox.handle(Request("DELETE", "/_sandbox/requests"))
    create(sandbox, "C")
    assert numbers(after=2) == [3]
    sandbox.reset()
    sandbox.reset()
    create(sandbox, "D")
    assert numbers(after=3) == [4]


def test_damage_while_running_does_not_hang(tmp_path: Path) -> None:
    path = tmp_path / "stripe.db"
    sandbox = Sandbox(path)
    create(sandbox, "A")
    sandbox.close()
    for leftover in tmp_path.glob("stripe.db*"):
        leftover.unlink()
    path.write_bytes(b"garbage" * 1000)
    with pytest.raises(SandboxFileError, match="move it"):
        create(sandbox, "B")


def test_a_request_that_waits_has_the_time_of_its_turn(tmp_path: Path) -> None:
    # else usage that is sent while another process moves the clock belongs to a period that has been billed by then
    now = NEW_YEAR
    asked = threading.Event()

    def clock() -> float:
        told = now
        asked.set()
        return told

    sandbox = Sandbox(tmp_path / "stripe.db", clock=clock)
    client = stripe.StripeClient("sk_test_sandbox", http_client=SandboxHTTPClient(sandbox))
    created: list[int] = []
    waiting = threading.Thread(target=lambda: created.append(client.v1.products.create({"name": "Ada"}).created))
    with sandbox.database.writing():
        asked.clear()
        waiting.start()
        assert asked.wait(30)
        now = NEW_YEAR + 86_400
    waiting.join(30)
    assert created == [now]
    sandbox.close()
