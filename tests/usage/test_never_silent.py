"""A row for each promise of never being silent: what is done, the exit code, and the words that somebody sees."""

from __future__ import annotations

import errno
import io
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import pytest

import usage
import usage.cli
from sandbox.server import serving
from usage.client import Client

from .conftest import EVENT, World
from .test_reading import subscribe

NOW = int(time.time())
Run = Callable[..., tuple[int, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs `usage ...` in this process: exit code, and everything that was printed."""

    def command(*arguments: str) -> tuple[int, str]:
        code = usage.cli.main(arguments)
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return code, out + err

    return command


def send(*more: str) -> tuple[str, ...]:
    return ("send", EVENT, "--customer", "cus_1", *more)


# -- said, once, and the exit code shows it ------------------------------------------------------------------------

LIVE = {"STRIPE_API_KEY": "sk_live_0123456789"}
BOX = {"STRIPE_MODE": "sandbox"}
OFF = {"STRIPE_MODE": "off", **LIVE}


@pytest.mark.parametrize(
    ("environment", "arguments", "code", "said"),
    [
        ({}, send("--no-wait"), 1, "but not delivered: nothing says where"),
        ({}, send(), 2, "nothing says where"),
        (LIVE, send("--no-wait"), 1, "but not delivered: STRIPE_API_KEY is a live key"),
        (LIVE, send(), 2, "live key"),
        (BOX, send("--no-wait"), 0, "`usage flush` delivers"),
        (BOX, send(), 1, "No active meter found"),
        (OFF, send(), 0, "usage is not recorded"),
        (OFF, send("--no-wait"), 0, "usage is not recorded"),
        (OFF, ("flush",), 0, "STRIPE_MODE=off records nothing"),
        (BOX, ("flush",), 2, "there is no spool at"),
        (BOX, ("status",), 2, "there is no spool at"),
        (BOX, ("verify",), 2, "there is no spool at"),
        (BOX, ("errors",), 2, "there is no spool at"),
        (BOX, ("retry",), 2, "there is no spool at"),
        (BOX, ("cancel", "name"), 1, "is not in the spool"),
        (BOX, ("flush", "--spool", "/dev/null"), 1, "is not a file"),
        (BOX, send("--no-wait", "--spool", "/dev/null"), 1, "is not a file"),
        (BOX, send("--no-wait", "--spool", "/proc/version"), 1, "spool /proc/version"),
        (BOX, send("--value", "1.5e-13"), 2, "12 decimal places"),
        (BOX, send("--value", "1234567890.123456"), 2, "15 digits"),
    ],
)
def test_the_row_is_said_and_the_exit_code_shows_it(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, environment: dict[str, str], arguments: Any, code: int,
    said: str,
) -> None:  # fmt: skip
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    found, text = run(*arguments)
    assert (found, said in text) == (code, True), text
    assert text.count(said) == 1
    records = arguments[0] == "send" and "off" not in environment.values() and "/" not in arguments[-1]
    made = (tmp_path / "state").exists()
    assert made <= records  # a command that only asks makes no spool


def test_a_refused_event_shows_in_every_command_that_follows(embedded: World, meter: str, run: Run) -> None:
    run("send", "nothing", "--customer", "cus_1", "--no-wait", "--identifier", "stray")
    assert run("flush")[0] == 1
    assert run("flush")[0] == 1
    assert run("status")[0] == 1
    assert run("cancel", "stray")[0] == 0
    assert run("flush")[0] == 0


def test_what_is_recorded_for_one_account_goes_to_no_other(
    world: World, meter: str, customer: str, run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    run("send", EVENT, "--customer", customer, "--no-wait")  # for nobody: nothing said where
    with serving(world.sandbox) as first:
        monkeypatch.setenv("STRIPE_API_BASE", first.url)
        monkeypatch.setenv("STRIPE_API_KEY", "sk_test_one")
        run("send", EVENT, "--customer", customer, "--no-wait")
        monkeypatch.setenv("STRIPE_API_BASE", "http://127.0.0.1:9")
        monkeypatch.setenv("STRIPE_API_KEY", "sk_test_two")
        code, text = run("flush", "--timeout", "1")
        assert (code, "2 events recorded for another account or mode" in text) == (1, True)
        monkeypatch.setenv("STRIPE_API_BASE", first.url)
        monkeypatch.setenv("STRIPE_API_KEY", "sk_test_one")
        assert run("flush")[0] == 1  # its own goes, the one of nobody stays
        assert world.total(meter, customer) == 1
        assert run("flush", "--take", "unassigned")[0] == 0
        assert world.total(meter, customer) == 2
        monkeypatch.setenv("STRIPE_API_KEY", "sk_test_rolled")  # another key of the account that is known by now
        run("send", EVENT, "--customer", customer, "--value", "5")
        run("send", EVENT, "--customer", customer, "--no-wait")
        monkeypatch.setenv("STRIPE_API_KEY", "sk_test_one")
        assert run("flush")[0] == 0
    assert world.total(meter, customer) == 8


def problems() -> tuple[list[str], Callable[[usage.UsageError], object]]:
    told: list[str] = []
    return told, lambda problem: told.append(str(problem))


def wait_for(condition: Callable[[], object]) -> None:
    for _ in range(1000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("it never happened")


@pytest.mark.usefixtures("eager")
def test_the_background_says_what_was_refused_once_for_each_cause(embedded: World, meter: str) -> None:
    told, listen = problems()
    client = Client(on_error=listen)
    for _ in range(3):
        client.record("nothing", "cus_1")
    wait_for(lambda: client.status().dead == 3)
    client.close()
    assert len(told) == 1
    assert "was refused and is not billed" in told[0]


def test_a_spool_that_was_deleted_or_replaced_is_noticed_at_the_next_record(embedded: World, tmp_path: Path) -> None:
    told, listen = problems()
    client = Client("own/spool.db", background=False, on_error=listen)
    client.record(EVENT, "cus_1")
    for file in (tmp_path / "own").iterdir():
        file.unlink()
    for _ in range(2):
        with pytest.raises(usage.SpoolMissing):
            client.status()  # to ask does not make one
    client.record(EVENT, "cus_2")
    assert len(told) == 1
    assert "was deleted" in told[0]
    assert "1 undelivered" in told[0]
    os.rename(tmp_path / "own", tmp_path / "old")
    other = Client("own/spool.db", background=False)
    other.record(EVENT, "cus_3")
    other._release()
    client.record(EVENT, "cus_4")
    assert "was replaced" in told[1]
    assert client.status().pending == 2
    client._release()


@pytest.mark.parametrize("ending", ["client.close(0.2)", "del client", "pass", "client.flush(0.2); client.close(0.2)"])
def test_a_client_that_is_closed_or_forgotten_says_what_is_left(monkeypatch: pytest.MonkeyPatch, ending: str) -> None:
    monkeypatch.setenv("STRIPE_API_KEY", "sk_test_1")
    monkeypatch.setenv("STRIPE_API_BASE", "http://127.0.0.1:9")
    program = f"from usage import Client\nclient = Client()\nclient.record('tokens', 'cus_1')\n{ending}"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "1 event not delivered, waiting in" in done.stderr


def test_the_spool_is_the_same_from_every_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = Client(background=False)
    (tmp_path / "deep").mkdir()
    monkeypatch.chdir(tmp_path / "deep")
    assert Client(background=False).spool.path == first.spool.path


# -- import ---------------------------------------------------------------------------------------------------------

HEADER = "customer,value,timestamp,dimensions.model"


def lines(customer: str, count: int = 6) -> list[str]:
    """Rows of a file; the last two are equal."""
    rows = [f"{customer},{number + 1},{NOW - number},m" for number in range(count - 1)]
    return [*rows, rows[-1]]


def total_of(rows: list[str]) -> Decimal:
    return sum((Decimal(row.split(",")[1]) for row in rows), Decimal(0))


VARIANTS: dict[str, Callable[[list[str]], tuple[str, bytes]]] = {
    "sorted": lambda rows: ("a.csv", "\n".join([HEADER, *sorted(rows), ""]).encode()),
    "shuffled": lambda rows: ("a.csv", "\n".join([HEADER, *random.Random(1).sample(rows, len(rows)), ""]).encode()),
    "renamed": lambda rows: ("b.csv", "\n".join([HEADER, *rows, ""]).encode()),
    "windows": lambda rows: ("a.csv", "\r\n".join([HEADER, *rows, ""]).encode("utf-8-sig")),
    "old mac": lambda rows: ("a.csv", "\r".join([HEADER, *rows, ""]).encode()),
    "utf-16": lambda rows: ("a.csv", "\n".join([HEADER, *rows, ""]).encode("utf-16")),
    "semicolons": lambda rows: ("a.csv", "\n".join([HEADER, *rows, ""]).replace(",", ";").encode()),
    "quoted": lambda rows: ("a.csv", "\n".join(
        ",".join(f'"{cell}"' for cell in row.split(",")) for row in [HEADER, *rows]).encode() + b"\n"),
    "iso times": lambda rows: ("a.csv", "\n".join([HEADER, *(
        row.replace(stamp := row.split(",")[2], time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(int(stamp))))
        for row in rows), ""]).encode()),
    "blank lines": lambda rows: ("a.csv", "\n\n".join([HEADER, *rows, ""]).encode()),
    "decimals": lambda rows: ("a.csv", "\n".join(
        [HEADER, *(",".join([*row.split(",")[:1], row.split(",")[1] + ".00", *row.split(",")[2:]]) for row in rows), ""]
    ).encode()),
}  # fmt: skip


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_file_is_the_same_whatever_it_looks_like(
    embedded: World, meter: str, customer: str, run: Run, variant: str
) -> None:
    rows = lines(customer)
    Path("a.csv").write_text("\n".join([HEADER, *rows, ""]))
    assert run("import", "a.csv", "--event", EVENT)[0] == 0
    name, content = VARIANTS[variant](rows)
    Path(name).write_bytes(content)
    code, text = run("import", name, "--event", EVENT)
    assert (code, "0 events recorded, 6 recorded before" in text) == (0, True), text
    extended = [*rows, f"{customer},100,{NOW - 50},m", rows[-1]]  # one new row, and a third equal one
    name, content = VARIANTS[variant](extended)
    Path(name).write_bytes(content)
    code, text = run("import", name, "--event", EVENT)
    assert (code, "2 events recorded, 6 recorded before" in text) == (0, True), text
    assert embedded.total(meter, customer) == total_of(extended)


def test_a_corrected_row_is_the_only_one_that_is_new(embedded: World, meter: str, customer: str, run: Run) -> None:
    rows = lines(customer)
    Path("a.csv").write_text("\n".join([HEADER, f"{customer},oops,{NOW},m", *rows, ""]))
    code, text = run("import", "a.csv", "--event", EVENT, "--rejects", "bad.csv")
    assert (code, "line 2" in text) == (1, True)
    run("import", "a.csv", "--event", EVENT, "--rejects", "bad.csv")
    assert Path("bad.csv").read_text() == f"{HEADER}\n{customer},oops,{NOW},m\n"  # kept once, not twice
    Path("b.csv").write_text("\n".join([HEADER, f"{customer},worse,{NOW},m", ""]))
    run("import", "b.csv", "--event", EVENT, "--rejects", "bad.csv")
    assert Path("bad.csv").read_text().count("\n") == 3  # and an earlier run's row is never dropped
    Path("bad.csv").write_text(f"{HEADER}\n{customer},7,{NOW - 99},m\n")
    assert run("import", "bad.csv", "--event", EVENT)[0] == 0
    assert embedded.total(meter, customer) == total_of(rows) + 7


@pytest.mark.parametrize(
    ("content", "more", "code", "said"),
    [
        (f"{HEADER}\ncus,1,{NOW},m\ncus,12", (), 1, "line 3, the last, has no line break"),
        (f"{HEADER}\ncus,1,{NOW},m\ncus,2,{NOW},m", ("--whole",), 0, "2 rows read"),
        (f"{HEADER}\ncus,1,{NOW},m\n", ("--rejects", "a.csv"), 2, "is the input itself"),
        (f"{HEADER}\ncus,1,{NOW},m\n", ("--no-flush",), 0, "1 event recorded"),
        ("customer,value\ncus,1\n", ("--timestamp", "now"), 1, "--import-id"),
        ("customer,value\ncus,1\n", ("--timestamp", "now", "--import-id", "x", "--no-flush"), 0, "1 event recorded"),
        ("x" * 200_000 + "\n", (), 2, "names an unknown column"),
        ('"' + "x" * 200_000 + '",value\n', (), 2, "is not CSV"),
        (f"{HEADER}\ncus,1,{NOW},m\n".encode("utf-16-le"), (), 2, "UTF-16 without a byte order mark"),
        (f"{HEADER}\ncus,{'9' * 200_000},{NOW},m\n", ("--no-flush",), 1, "15 digits"),
    ],
    ids=[
        "unfinished", "whole", "rejects are the input", "no flush", "untimed", "untimed and named", "long column",
        "long quoted column", "utf-16 without mark", "long value",
    ],
)  # fmt: skip
def test_a_strange_file_is_a_sentence_and_a_code(
    embedded: World, meter: str, customer: str, run: Run, content: str | bytes, more: tuple[str, ...], code: int,
    said: str,
) -> None:  # fmt: skip
    data = content if isinstance(content, bytes) else content.replace("cus", customer, 9).replace(
        f"{customer}tomer", "customer").encode()  # fmt: skip
    Path("a.csv").write_bytes(data)
    found, text = run("import", "a.csv", "--event", EVENT, *more)
    assert (found, said in text) == (code, True), text
    assert len(text) < 2000


def test_a_line_that_is_still_being_written_bills_once_it_is_whole(
    embedded: World, meter: str, customer: str, run: Run
) -> None:
    whole = f"{HEADER}\n{customer},1200,{NOW},m\n"
    for cut in (len(whole) - 8, len(whole) - 1):
        Path("a.csv").write_text(whole[:cut])
        assert run("import", "a.csv", "--event", EVENT)[0] == 1
    Path("a.csv").write_text(whole)
    assert run("import", "a.csv", "--event", EVENT)[0] == 0
    assert embedded.total(meter, customer) == 1200


# -- fates ----------------------------------------------------------------------------------------------------------


def test_no_event_is_not_sent_and_billed(embedded: World, meter: str, customer: str, monkeypatch: Any) -> None:
    """The cancel looks, the delivery claims and sends, the cancel decides: one of them sees the other."""
    client, other = (Client(background=False) for _ in range(2))
    client.record(EVENT, customer, 5, identifier="raced")
    move = client.spool.move

    def late(*event: Any, unsent: bool = False) -> bool:
        if unsent:
            other.flush()
        return move(*event, unsent=unsent)

    monkeypatch.setattr(client.spool, "move", late)
    assert client.cancel("raced").outcome == "cancelled"
    assert embedded.total(meter, customer) == 0
    client._release()
    other.close()


@pytest.mark.parametrize("arrived", [True, False])
@pytest.mark.usefixtures("one_attempt")
def test_an_event_whose_first_answer_was_lost_is_taken_back_at_stripe(
    embedded: World, meter: str, customer: str, arrived: bool
) -> None:
    when = "after" if arrived else "before"
    embedded.control("faults", path="/v2/billing/meter_event_stream", when=when, drop=True, count=1)
    with Client(background=False) as client:
        client.record(EVENT, customer, 5, identifier="lost")
        assert client.flush().pending == 1
        if arrived:
            assert client.cancel("lost").outcome == "cancelled"
        else:
            with pytest.raises(usage.UsageError, match="set aside and not sent"):
                client.cancel("lost")
        assert client.flush().delivered == 0
    assert embedded.total(meter, customer) == 0


def test_a_recorders_wrong_clock_is_found(embedded: World, meter: str, customer: str, run: Run) -> None:
    ahead = time.time() + 3 * 3600
    with Client(background=False, clock=lambda: ahead) as wrong:
        wrong.record(EVENT, customer, 5)
        assert wrong.flush().delivered == 1  # the stream takes it, and Stripe rejects it later
    code, text = run("verify")
    assert (code, "short" in text, "0 of 1 hourly total" in text) == (1, True, True), text


def test_pruning_goes_on_behind_what_cannot_be_pruned(embedded: World) -> None:
    now = [time.time()]
    client = Client(background=False, clock=lambda: now[0])
    client.record_many({"event_name": EVENT, "customer": "cus_1", "identifier": f"{number}"} for number in range(30))
    claimed = client.spool.claim(client._mine(), 100)
    client.spool.settle([one._replace(state="delivered") for one in claimed[10:]])
    now[0] += 41 * 86_400
    assert [client.spool.prune(10) for _ in range(3)] == [0, 10, 10]
    client._release()


@pytest.mark.parametrize("name", ["plain", "ключ/№ 7", "日本" * 8])
def test_an_identifier_of_any_letters_goes_through_every_way(
    served: str, world: World, meter: str, customer: str, name: str
) -> None:
    with Client(background=False) as client:
        client.send(EVENT, customer, 1, identifier=name)
        client.record(EVENT, customer, 2, identifier=name + "2")
        assert client.flush().complete
        assert client.cancel(name).outcome == "cancelled"
        assert world.total(meter, customer) == 2
        key = f"{quote(name + '2', safe='')}/0a1b2c3d"
        for number, sample in enumerate((key, name + "2")):
            client.retry()
            report = {"id": f"evt_{number}", "type": "v1.billing.meter.error_report_triggered", "data": {"reason": {
                "error_types": [{"code": "x", "sample_errors": [{"request": {"identifier": sample}}]}]}}}  # fmt: skip
            assert client.error_report(report).strangers == ()
    assert len(name) <= 100


# -- an outage ------------------------------------------------------------------------------------------------------


@contextmanager
def answering(status: int, headers: dict[str, str], body: bytes, *, hang: bool = False) -> Iterator[str]:
    """A server that gives every request the same answer, or none."""
    over = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("content-length") or 0))
            if hang:
                over.wait(60)
                return
            self.send_response(status)
            for name, value in {**headers, "content-length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = answer

        def log_message(self, *_: object) -> None:
            pass

    try:
        with http_server(Handler) as address:
            yield address
    finally:
        over.set()


@contextmanager
def http_server(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """A server on a loopback port; yields its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    server.block_on_close = False
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.parametrize(
    ("status", "headers", "body", "said"),
    [
        (200, {}, b"<html>Welcome to the hotel</html>", "a page of HTML"),
        (200, {}, b"", "an empty body"),
        (200, {}, b'{"status": "ok"}', "something else"),
        (200, {"request-id": "req_1"}, b'{"object": "list"}', "no 'id'"),
        (302, {"location": "http://login.example/"}, b"", "a redirect to http://login.example/"),
        (413, {}, b"<html>too large</html>", "answered 413"),
        (400, {}, b"<html>bad</html>", "answered 400"),
        (404, {}, b'{"error": {"message": "Unrecognized request URL"}}', "answered 404"),
        (403, {}, b"<html>blocked</html>", "answered 403"),
        (429, {"retry-after": "3600"}, b"", "asks to wait 3,600 seconds"),
        (503, {}, b"<html>maintenance</html>", "could not be reached"),
    ],
)
def test_an_answer_that_is_not_stripes_stops_the_delivery_and_buries_no_event(
    run: Run, monkeypatch: pytest.MonkeyPatch, status: int, headers: dict[str, str], body: bytes, said: str
) -> None:
    monkeypatch.setenv("STRIPE_API_KEY", "sk_test_1")
    with answering(status, headers, body) as address:
        monkeypatch.setenv("STRIPE_API_BASE", address)
        run(*send("--no-wait"))
        code, text = run("flush", "--timeout", "2")
        assert (code, said in text) == (1, True), text
        code, text = run("status")
    assert (code, "1 event to be delivered" in text, "refused" in text) == (1, True, False)


@pytest.mark.parametrize("outage", ["hangs", "refuses", "proxy", "certificate"])
def test_the_time_given_is_kept_and_nothing_is_lost(run: Run, monkeypatch: pytest.MonkeyPatch, outage: str) -> None:
    """No clock here: a promise that is broken runs into the test's own limit."""
    monkeypatch.setenv("STRIPE_API_KEY", "sk_test_1")
    with answering(200, {}, b"", hang=True) as address:
        if outage == "hangs":
            monkeypatch.setenv("STRIPE_API_BASE", address)
        elif outage == "refuses":
            monkeypatch.setenv("STRIPE_API_BASE", "http://127.0.0.1:9")
        elif outage == "proxy":
            monkeypatch.setenv("HTTPS_PROXY", "http://user:secret@127.0.0.1:9")
        else:
            monkeypatch.setenv("STRIPE_API_BASE", self_signed())
        for arguments in (send("--timeout", "0.5"), ("flush", "--timeout", "0.5")):
            code, text = run(*arguments)
            assert code == 1, text
            assert "secret" not in text
            if outage == "certificate":
                assert "the certificate of" in text
        program = "import usage; usage.record('tokens', 'cus_1')"
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
        assert (done.returncode, "not delivered, waiting in" in done.stderr) == (0, True), done.stderr
        assert run("status")[1].splitlines()[3].strip().startswith("2 events to be delivered")


def test_an_answer_that_trickles_in_is_cut_off_at_the_deadline(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """No clock here: it would trickle for longer than the test's own limit."""
    over = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-length", "1000000")
            self.end_headers()
            with suppress(OSError):
                while not over.wait(0.1):
                    self.wfile.write(b" ")

        def log_message(self, *_: object) -> None:
            pass

    with http_server(Handler) as address:
        monkeypatch.setenv("STRIPE_MODE", "sandbox")
        monkeypatch.setenv("STRIPE_API_BASE", address)
        run(*send("--no-wait"))
        code, text = run("flush", "--timeout", "0.5")
        over.set()
    assert (code, "1 event to be delivered" in text) == (1, True), text
    assert "usage-lane" not in [thread.name for thread in threading.enumerate()]


@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "ALL_PROXY"])
def test_a_proxy_with_user_and_password_is_used_and_never_shown(
    run: Run, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    seen: list[tuple[str, str]] = []

    class Proxy(BaseHTTPRequestHandler):
        def do_CONNECT(self) -> None:
            seen.append((self.path, self.headers["proxy-authorization"]))
            self.send_error(502)

        def log_message(self, *_: object) -> None:
            pass

    with http_server(Proxy) as address:
        monkeypatch.setenv("STRIPE_API_KEY", "sk_test_1")
        monkeypatch.setenv("STRIPE_API_BASE", "https://stripe.example")
        monkeypatch.setenv(variable, address.replace("//", "//me:hidden@"))
        code, text = run(*send("--timeout", "2"))
    assert code == 1, text
    assert "hidden" not in text
    assert set(seen) == {("stripe.example:443", "Basic bWU6aGlkZGVu")}


@pytest.mark.parametrize("hangs_at", ["/v1/account", "/v2/billing/meter_event_stream"])
def test_ctrl_c_ends_a_command_that_waits_for_stripe(run: Run, monkeypatch: pytest.MonkeyPatch, hangs_at: str) -> None:
    asked, over = threading.Event(), threading.Event()
    meter = {"id": "mtr_1", "event_name": EVENT, "status": "active"}
    body = json.dumps({"id": "acct_1", "data": [meter], "has_more": False, "authentication_token": "t"}).encode()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("content-length") or 0))
            if self.path.startswith(hangs_at):
                asked.set()
                over.wait(60)
                return
            self.send_response(200)
            self.send_header("request-id", "req_1")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET

        def log_message(self, *_: object) -> None:
            pass

    monkeypatch.setenv("STRIPE_API_KEY", "sk_test_1")
    with http_server(Handler) as address:
        monkeypatch.setenv("STRIPE_API_BASE", address)
        with Client(background=False) as client:
            client.record_many({"event_name": EVENT, "customer": "cus_1"} for _ in range(500))
            client._release()
        command = [sys.executable, "-m", "usage.cli", "flush"]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
        assert asked.wait(60)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=20)  # the call itself would wait for 30 seconds
        over.set()
    assert (process.returncode, said) == (130, "usage: interrupted; recorded events are in the spool\n")
    assert run("status")[0] == 1


def self_signed() -> str:
    """The address of a TLS server whose certificate nobody has signed; it lives as long as the test's process."""
    import datetime
    import ssl

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
        .not_valid_before(now).not_valid_after(now + datetime.timedelta(days=1)).sign(key, hashes.SHA256())
    )  # fmt: skip
    pem = serialization.Encoding.PEM
    Path("server.pem").write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + certificate.public_bytes(pem)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain("server.pem")
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            connection, _ = listener.accept()
            try:
                context.wrap_socket(connection, server_side=True)
            except OSError:
                pass
            connection.close()

    threading.Thread(target=serve, daemon=True).start()
    return f"https://127.0.0.1:{listener.getsockname()[1]}"


@pytest.mark.usefixtures("one_attempt")
@pytest.mark.usefixtures("eager")
def test_the_background_survives_every_answer(
    served: str, world: World, meter: str, customer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("usage.client.SLOWEST", 0.02)
    html: dict[str, Any] = {"body": "<html></html>", "count": 1, "path": "/v2/billing/meter_event_stream"}
    for answer in ({"status": 200, "body": "\n"}, {"status": 302}, {"status": 413}, {"status": 401}, {"status": 500}):
        world.control("faults", **{**html, **answer})
    world.control("faults", path="/v2/billing/meter_event_stream", half_body=True, when="after", count=1)
    told, listen = problems()
    client = Client(on_error=listen)
    client.record(EVENT, customer, 5)
    wait_for(lambda: client.status().delivered == 1)
    client.close()
    assert world.total(meter, customer) == 5
    assert len(told) == len(set(told)) > 2


@pytest.mark.usefixtures("eager")
def test_close_ends_every_thread_also_when_nobody_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STRIPE_API_KEY", "sk_test_1")
    told, listen = problems()
    with answering(200, {}, b"", hang=True) as address:
        client = Client(api_base=address, api_key="sk_test_1", on_error=listen)
        client.record(EVENT, "cus_1")
        wait_for(lambda: client.api._transport is not None)
        client.close(0.3)
        assert [thread.name for thread in threading.enumerate() if thread.name.startswith("usage")] == []
    assert "1 event not delivered" in told[-1]


def test_a_lock_that_cannot_be_opened_is_a_sentence(embedded: World, meter: str, run: Run) -> None:
    run(*send("--no-wait", "--spool", "spool.db"))
    Path("spool.db.deliver").mkdir()  # as good as one that root made: it cannot be opened
    code, text = run("flush", "--spool", "spool.db")
    assert (code, "spool.db.deliver cannot be opened or locked" in text) == (1, True)


def test_a_file_system_without_locks_is_a_sentence(
    embedded: World, meter: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unsupported(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    run(*send("--no-wait"))
    monkeypatch.setattr("fcntl.flock", unsupported)
    code, text = run("flush")
    assert (code, "keep the spool on a local disk" in text) == (1, True), text


# -- reading and values ---------------------------------------------------------------------------------------------


def test_a_customer_with_several_subscriptions_sees_each(embedded: World, meter: str, customer: str, run: Run) -> None:
    subscriptions = [subscribe(embedded, meter, customer) for _ in range(2)]
    code, text = run("preview-invoice", "--customer", customer)
    assert code == 0
    assert all(f"next invoice of {name} of {customer}" in text for name in subscriptions)
    assert "2 subscriptions together: 600.00 USD" in text
    assert max(map(len, text.splitlines()[:-1])) <= 80
    code, text = run("preview-invoice", "--customer", embedded.customer("nobody"))
    assert (code, "has no subscription" in text) == (1, True)


def test_a_discounted_and_taxed_invoice_adds_up(embedded: World, meter: str, customer: str, run: Run) -> None:
    coupon = embedded.call("POST", "/v1/coupons", {"percent_off": "10", "duration": "forever"})["id"]
    rate = embedded.call("POST", "/v1/tax_rates", {"display_name": "VAT", "percentage": "19", "inclusive": "false"})[
        "id"
    ]
    subscription = subscribe(embedded, meter, customer)
    embedded.call(
        "POST", f"/v1/subscriptions/{subscription}", {"discounts[0][coupon]": coupon, "default_tax_rates[0]": rate}
    )
    with Client(background=False) as client:
        preview = client.preview_invoice(subscription=subscription)
    assert (preview.subtotal, preview.discounts, preview.taxes, preview.total) == (30_000, 3000, 5130, 32_130)
    code, text = run("preview-invoice", "--subscription", subscription)
    assert code == 0
    for words in ("subtotal", "discounts", "-30.00 USD", "taxes", "51.30 USD", "321.30 USD"):
        assert words in text
    assert "other" not in text


@pytest.mark.parametrize(("count", "cursor"), [(11, True), (100, False), (250, True), (101, False)])
def test_a_preview_of_any_number_of_lines_is_read_to_its_end_or_refused(count: int, cursor: bool) -> None:
    """Scripted, since the sandbox keeps no preview whose lines could be listed."""
    lines = [{"id": f"il_{place}", "amount": 2, "description": str(place)} for place in range(count)]
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def reply(self, status: int, data: object) -> None:
            body = json.dumps(data).encode()
            self.send_response(status)
            self.send_header("request-id", "req_1")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            page = {"data": lines[:10], "has_more": True, "url": "/v1/invoices/upcoming_in_1/lines"}
            self.reply(200, {"currency": "usd", "subtotal": 2 * count, "total": 2 * count, "lines": page})

        def do_GET(self) -> None:
            asked.append(self.path)
            after = parse_qs(urlsplit(self.path).query).get("starting_after")
            if after and not cursor:
                self.reply(400, {"error": {"message": f"Invoice upcoming_in_1 does not have a line item {after[0]}"}})
                return
            first = int(after[0].removeprefix("il_")) + 1 if after else 0
            self.reply(200, {"data": lines[first : first + 100], "has_more": first + 100 < count})

        def log_message(self, *_: object) -> None:
            pass

    with http_server(Handler) as address, Client(api_key="sk_test_1", api_base=address) as client:
        if count > 100 and not cursor:
            with pytest.raises(usage.StripeError, match="returned 100 lines of this preview but not the rest"):
                client.preview_invoice(subscription="sub_1")
        else:
            assert len(client.preview_invoice(subscription="sub_1").lines) == count
    assert all("limit=100" in path for path in asked)


def test_summary_knows_the_billing_period_and_says_which_window_it_shows(
    embedded: World, meter: str, customer: str, run: Run
) -> None:
    subscription = subscribe(embedded, meter, customer)
    run("send", EVENT, "--customer", customer, "--value", "2.5")
    code, text = run("summary", EVENT, "--subscription", subscription)
    assert (code, f"the billing period of {subscription}: 20" in text, "2.5" in text) == (0, True, True), text
    assert customer in text
    code, text = run("summary", EVENT, "--customer", customer)
    assert (code, "this UTC month so far" in text) == (0, True)
    assert run("summary", EVENT)[0] == 2


def test_values_are_decimals_summed_exactly(embedded: World, meter: str, customer: str) -> None:
    class Whole:  # what numpy's integers are to Python
        def __index__(self) -> int:
            return 7

    with Client(background=False) as client:
        client.record_many({"event_name": EVENT, "customer": customer, "value": "0.1"} for _ in range(30))
        client.record(EVENT, customer, Whole())
        client.record(EVENT, customer, Decimal("0.000000000001"))
        assert client.flush().complete
        assert client.summaries(EVENT, customer).total == Decimal("10.000000000001")
        assert client.verify().complete
        with pytest.raises(usage.InvalidEvent, match="float"):
            client.record(EVENT, customer, 0.1)  # type: ignore[arg-type]


def test_record_many_says_which_event_is_wrong(embedded: World) -> None:
    client = Client(background=False)
    good = {"event_name": EVENT, "customer": "cus_1"}
    for bad, why in (({**good, "valeu": 1}, r"events\[1\]: .*'valeu'"), ({**good, "value": -1}, r"events\[1\]\.value")):
        with pytest.raises(usage.InvalidEvent, match=why):
            client.record_many([good, bad])
    with pytest.raises(usage.InvalidEvent, match=r"events\[0\]: missing"):
        client.record_many([{"customer": "cus_1"}])
    assert not os.path.exists(client.spool.path)


def test_stripes_clock_decides_what_is_in_the_future(embedded: World, meter: str, run: Run) -> None:
    clock = embedded.call("POST", "/v1/test_helpers/test_clocks", {"frozen_time": str(NOW + 40 * 86_400)})["id"]
    later = embedded.call("POST", "/v1/customers", {"name": "Ada", "test_clock": clock})["id"]
    arguments = ("send", EVENT, "--customer", later, "--timestamp", str(NOW + 40 * 86_400))
    assert run(*arguments)[0] == 0
    code, text = run("send", EVENT, "--customer", embedded.customer("now"), "--timestamp", str(NOW + 40 * 86_400))
    assert (code, "future" in text) == (1, True), text


def test_standard_input_is_a_file_like_any_other(embedded: World, meter: str, customer: str) -> None:
    text = f'{{"customer": "{customer}", "value": "1.5", "timestamp": {NOW}}}'
    with Client(background=False) as client:
        for expected in ((1, 0), (0, 1)):
            taken = client.import_file(io.BytesIO(text.encode()), format="jsonl", event_name=EVENT)
            assert (taken.recorded, taken.already) == expected
    assert embedded.total(meter, customer) == Decimal("1.5")
