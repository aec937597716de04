"""The command: what it prints, what it returns, and that it never claims more than was delivered."""

from __future__ import annotations

import json
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import usage.cli
from usage.client import Client

from .conftest import EVENT, World
from .test_reading import subscribe

COMMANDS = (
    "send", "import", "flush", "status", "summary", "preview-invoice", "verify", "errors", "retry", "cancel", "drain",
)  # fmt: skip


class Command:
    """Runs `usage ...` in this process and keeps what it printed."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.capsys = capsys
        self.out = self.err = ""

    def __call__(self, *arguments: str) -> int:
        code = usage.cli.main(arguments)
        self.out, self.err = self.capsys.readouterr()
        return code

    def json(self, *arguments: str) -> Any:
        self(*arguments, "--json")
        return json.loads(self.out)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(capsys)


def test_send_summary_and_preview_are_the_guide_in_three_commands(
    embedded: World, meter: str, customer: str, run: Command
) -> None:
    subscription = subscribe(embedded, meter, customer)
    assert run("send", EVENT, "--customer", customer, "--value", "26000", "--identifier", "job-1") == 0
    assert run.out.startswith("delivered: job-1\n")
    assert "SANDBOX" in run.out
    assert run("send", EVENT, "--customer", customer, "--value", "26000", "--identifier", "job-1") == 0
    assert "already delivered" in run.out
    assert run("summary", EVENT, "--customer", customer) == 0
    assert "26,000" in run.out
    assert "SANDBOX" in run.out
    assert run("preview-invoice", "--subscription", subscription) == 0
    assert "310.00 USD" in run.out
    assert "SANDBOX" in run.out
    assert run("verify") == 0
    assert run("status") == 0


def test_every_output_as_json_is_one_document_that_names_the_sandbox(
    embedded: World, meter: str, customer: str, run: Command
) -> None:
    subscription = subscribe(embedded, meter, customer)
    sent = run.json("send", EVENT, "--customer", customer, "--value", "5")
    assert (sent["sandbox"], sent["state"]) == (True, "delivered")
    for arguments in (
        ("flush",),
        ("status",),
        ("summary", EVENT, "--customer", customer),
        ("preview-invoice", "--subscription", subscription),
        ("verify",),
        ("cancel", sent["identifier"]),
    ):
        assert run.json(*arguments)["sandbox"] is True, arguments
    summary = run.json("summary", meter, "--customer", customer, "--group", "day")
    assert summary["event_name"] == EVENT
    assert isinstance(summary["total"], str)


@pytest.mark.parametrize(
    ("arguments", "code", "why"),
    [
        (("send", "nothing", "--customer", "cus_1"), 1, "No active meter found"),
        (("send", EVENT, "--customer", "cus_1", "--value", "1.5e-13"), 2, "12 decimal places"),
        (("send", EVENT, "--customer", "cus_1", "--value=-5"), 2, "correction"),
        (("send", EVENT, "--customer", "cus_1", "--timestamp", "2020-01-01T00:00Z"), 2, "days old"),
        (("send", EVENT, "--customer", "cus_1", "--timestamp", "2026-11-22T10:00"), 2, "no time zone"),
        (("send", EVENT, "--customer", "cus_1", "--identifier", "x" * 101), 2, "101 characters"),
        (("send", EVENT, "--customer", "cus_1", "--dimension", "region"), 1, "KEY=VALUE"),
        (("summary", "nothing", "--customer", "cus_1"), 1, "no meter has the event name"),
        (("summary", EVENT, "--customer", "cus_nobody"), 1, "No such customer"),
        (("preview-invoice", "--subscription", "sub_nope"), 1, "No such subscription"),
        (("cancel", "nothing"), 1, "is not in the spool"),
        (("status",), 2, "there is no spool at"),
        (("flush",), 2, "there is no spool at"),
        (("import", "none.csv"), 2, "No such file"),
        (("drain", "--queue", "rabbit"), 2, "sqs://"),
        (("flush", "--live"), 2, "STRIPE_API_KEY"),
    ],
)
def test_a_mistake_is_one_line_on_stderr(
    embedded: World, meter: str, run: Command, arguments: tuple[str, ...], code: int, why: str
) -> None:
    assert run(*arguments) == code
    assert run.out == ""
    assert why in run.err
    assert run.err.startswith("usage: ")
    assert run.err.count("\n") == 1
    assert run(*arguments, "--json") == code
    assert why in json.loads(run.out)["error"]["message"]


def test_nothing_configured_is_said_and_what_was_recorded_stays(run: Command) -> None:
    assert run("send", EVENT, "--customer", "cus_1", "--no-wait") == 1
    assert run("flush") == 2
    assert "STRIPE_API_KEY" in run.err
    assert "STRIPE_MODE=sandbox" in run.err
    assert run("status") == 1
    assert "1 event to be delivered" in run.out


def test_the_key_never_shows(run: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STRIPE_API_KEY", "sk_live_veryVerySecret")
    assert run("flush") == 2
    assert "--live" in run.err
    monkeypatch.setenv("STRIPE_API_KEY", "sk_test_veryVerySecret")
    monkeypatch.setenv("STRIPE_API_BASE", "http://127.0.0.1:9")
    assert run("send", EVENT, "--customer", "cus_1", "--timeout", "0.2") == 1
    assert "VerySecret" not in run.out + run.err
    assert "safe in" in run.err


def test_import_delivers_and_its_exit_code_tells(
    embedded: World, meter: str, customer: str, run: Command, tmp_path: Path
) -> None:
    rows = "".join(f"{customer},{value},{int(time.time()) - value}\n" for value in range(1, 301))
    (tmp_path / "rows.csv").write_text("customer,value,timestamp\n" + rows)
    assert run("import", "rows.csv", "--event", EVENT, "--dry-run") == 0
    assert "300 events, 45,150 units" in run.out
    assert run("import", "rows.csv", "--event", "alpaca_ai_tokenz", "--dry-run") == 1
    assert 'no active meter has the event name "alpaca_ai_tokenz"' in run.out
    assert embedded.total(meter, customer) == 0
    assert run("import", "rows.csv", "--event", EVENT) == 0
    assert "300 events delivered" in run.out
    assert run("import", "rows.csv", "--event", EVENT) == 0
    assert embedded.total(meter, customer) == 45_150
    (tmp_path / "more.csv").write_text("customer,value,timestamp\n" + rows + "bad\n")
    assert run("import", "more.csv", "--event", EVENT, "--rejects", "bad.csv") == 1
    assert "line 302" in run.out
    assert (tmp_path / "bad.csv").read_text() == "customer,value,timestamp\nbad\n"
    result = run.json("import", "more.csv", "--event", EVENT)
    assert (result["already"], result["bad"], result["sandbox"]) == (300, 1, True)


def test_import_reads_standard_input(embedded: World, meter: str, customer: str, tmp_path: Path) -> None:
    line = json.dumps({"customer": customer, "value": 5, "timestamp": int(time.time())})
    command = [sys.executable, "-m", "usage.cli", "import", "-", "--format", "jsonl", "--event", EVENT]
    for name, total in (("one", 5), ("one", 5), ("two", 10)):
        done = subprocess.run([*command, "--import-id", name], input=line, text=True, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr
        assert embedded.total(meter, customer) == total


def test_refused_events_are_listed_retried_and_given_up(
    embedded: World, meter: str, customer: str, run: Command
) -> None:
    assert run("send", "late_tokens", "--customer", customer, "--identifier", "one") == 1
    assert run("send", "never_tokens", "--customer", customer, "--identifier", "two") == 1
    assert run("errors") == 1
    assert "no_meter" in run.out
    assert "(refused 20" in run.out
    assert "one" in run.out
    assert [(row["identifier"], row["reported"]) for row in run.json("errors")["errors"]] == [
        ("two", False),
        ("one", False),
    ]
    assert run("status") == 1
    assert (": 2 refused" in run.out, "dead" in run.out) == (True, False)
    late = embedded.meter("late_tokens")
    assert run("retry", "--code", "no_meter") == 1  # one is still refused
    assert run("cancel", "two") == 0
    assert run("errors") == 0
    assert run("flush") == 0
    assert embedded.total(late, customer) == 1


def test_a_cancel_after_24_hours_shows_the_command_that_takes_the_event_back_once(
    embedded: World, meter: str, customer: str, run: Command
) -> None:
    run("send", EVENT, "--customer", customer, "--value", "5.5", "--identifier", "it's", "--dimension", "model=a b")
    with Client() as client, client.spool._transaction() as connection:
        connection.execute("UPDATE events SET settled_at = settled_at - 90000")
    assert run("cancel", "it's") == 1
    command = shlex.split(run.err.partition("units back: ")[2].partition(" (")[0])
    assert command[0] == "usage"
    for said in ("delivered", "already delivered"):
        assert run(*command[1:]) == 0
        assert run.out.startswith(f"{said}: correction-")
    assert embedded.total(meter, customer) == 0


def test_error_reports_are_fetched_from_stripe(embedded: World, meter: str, customer: str, run: Command) -> None:
    run("send", EVENT, "--customer", "cus_nobody", "--identifier", "stray")
    embedded.control("clock", advance=60)
    assert run("errors", "--fetch") == 1
    assert "1 of them found here" in run.out
    assert run.json("errors", "--fetch")["matched"] == 0  # taken before


def test_send_no_wait_then_flush(embedded: World, meter: str, customer: str, run: Command) -> None:
    assert run("send", EVENT, "--customer", customer, "--value", "5", "--no-wait") == 0
    assert run("flush") == 0
    assert embedded.total(meter, customer) == 5


def test_the_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as done:
        usage.cli.main(["--help"])
    assert done.value.code == 0
    text = capsys.readouterr().out
    for word in (*COMMANDS, "STRIPE_API_KEY", "STRIPE_MODE=sandbox", "exit code"):
        assert word in text
    for command in COMMANDS:
        with pytest.raises(SystemExit):
            usage.cli.main([command, "--help"])
        assert f"usage {command}" in capsys.readouterr().out


def test_interrupting_keeps_what_was_recorded(tmp_path: Path) -> None:
    with open(tmp_path / "rows.csv", "w") as file:
        file.write("event_name,customer,value,timestamp\n")
        file.writelines(f"tokens,cus_1,1,{int(time.time())}\n" for _ in range(300_000))
    command = [sys.executable, "-m", "usage.cli", "import", "rows.csv", "--no-flush"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    client = Client()
    for _ in range(2000):
        if client.status().pending:
            break
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted" in err
    assert "Traceback" not in err
    assert 0 < client.status().pending < 300_000
    client.close()


def test_a_reader_that_stops_early_is_no_error(embedded: World, meter: str, customer: str) -> None:
    with Client() as client:
        client.record_many(
            {"event_name": "no_meter_" + "x" * 80, "customer": customer, "value": number} for number in range(3000)
        )
        client.flush()
    command = f"{sys.executable} -m usage.cli errors --limit 3000 --json | head -1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    assert done.stdout == "{\n"
    assert done.stderr == ""
