"""Importing: every good line once, every bad line named, whatever interrupts it."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import usage
from usage.client import Client

from .conftest import EVENT

NOW = int(time.time())


def write(path: Path, rows: int, start: int = 0) -> Path:
    with open(path, "a") as file:
        if start == 0:
            file.write("event_name,customer,value,timestamp\n")
        file.writelines(
            f"{EVENT},cus_{number % 7},{number},{NOW - number % 1000}\n" for number in range(start, start + rows)
        )
    return path


def test_csv_and_json_lines_say_the_same(tmp_path: Path) -> None:
    table = tmp_path / "a.csv"
    table.write_text(
        "\ufeffevent_name,customer,value,timestamp,identifier,dimensions.region\r\n"
        f'tokens,cus_1,5,{NOW},one,eu\r\n"tokens","cus_2","6",{NOW},two,\r\n'
    )
    lines = tmp_path / "a.jsonl"
    ours = {"event_name": "tokens", "customer": "cus_1", "value": 5, "timestamp": NOW, "identifier": "one"}
    other = {**ours, "customer": "cus_2", "value": "6", "identifier": "two"}
    lines.write_text(json.dumps({**ours, "dimensions": {"region": "eu"}}) + "\n\n" + json.dumps(other) + "\n")
    client = Client()
    first = client.import_file(table)
    assert (first.rows, first.recorded, first.bad) == (2, 2, 0)
    again = client.import_file(lines)
    assert (again.rows, again.recorded, again.already, again.bad) == (2, 0, 2, 0)  # the very same events
    total = again.totals[0]
    assert (total.events, int(total.value)) == (2, 11)
    client.close()


def test_bad_lines_are_named_and_the_rest_is_recorded(tmp_path: Path) -> None:
    bad = {
        3: (b"tokens,cus_1,1.0000000000001,%d", "12 decimal places"),
        5: (b"tokens,cus_1,-1,%d", "correction"),
        7: (b"tokens,cus_1,1", "3 fields"),
        9: (b'tokens,"cus_1,1,%d', "not CSV"),  # a stray quote spoils its own line only
        11: (b"tokens,cus_\xff,1,%d", "UTF-8"),
        13: (b"tokens,cus_1,1,2020-01-01T00:00:00", "time zone"),
        15: (b"tokens,cus_1,1234567890123456,%d", "15 digits"),
        17: (b"tokens,,1,%d", "customer"),
        19: (b",cus_1,1,%d", "event_name"),
        21: (b"tokens,cus_1,1,", "no timestamp"),
        23: (b"tokens,cus_1,1,%d" % (NOW + 4000) + b"%.0s", "future"),
    }
    lines = [b"event_name,customer,value,timestamp"]
    for number in range(2, 31):
        text = bad.get(number, (b"tokens,cus_1,1,%d", ""))[0]
        lines.append(text % NOW if b"%d" in text else text.replace(b"%.0s", b""))
    path = tmp_path / "rows.csv"
    path.write_bytes(b"\n".join(lines) + b"\n")
    client = Client()
    result = client.import_file(path, rejects=tmp_path / "bad.csv")
    assert (result.rows, result.recorded, result.bad) == (29 - len(bad), 29 - len(bad), len(bad))
    assert [error.line for error in result.errors] == list(bad)
    for error in result.errors:
        assert bad[error.line][1] in error.problem
    assert (tmp_path / "bad.csv").read_bytes().splitlines() == [lines[0], *(lines[number - 1] for number in bad)]
    assert client.status().pending == 29 - len(bad)
    client.close()


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("{", "not JSON"),
        ("[1]", "not a JSON object"),
        ('{"customer": "cus_1", "valeu": 1}', "unknown key 'valeu'"),
        ('{"customer": "cus_1", "value": 1.0000000000001, "timestamp": 1}', "decimal places"),
        ('{"customer": "cus_1", "value": true, "timestamp": 1}', "bool"),
        ('{"customer": "cus_1", "value": null, "timestamp": 1}', "NoneType"),
        ('{"customer": "cus_1", "value": 1, "timestamp": {}}', "dict"),
        ('{"customer": 5, "value": 1, "timestamp": 1}', "customer"),
        ('{"payload": 1}', "unknown key 'payload'"),
        ("[" * 100_000, "not JSON"),
        ('{"customer": "cus_1", "value": ' + "9" * 5000 + ', "timestamp": 1}', "not JSON"),
        ("x" * (1 << 21), "longer than"),
    ],
)
def test_any_json_line_is_an_event_or_a_named_problem(line: str, why: str) -> None:
    client = Client()
    good = json.dumps({"customer": "cus_1", "value": 1, "timestamp": NOW})
    file = io.BytesIO(f"{good}\n{line}\n{good}\n".encode())
    result = client.import_file(file, format="jsonl", event_name="tokens", import_id="x")
    assert [(error.line, why in error.problem) for error in result.errors] == [(2, True)]
    assert result.recorded == 2
    client.close()


def test_a_value_written_with_a_point_is_taken_when_it_is_whole() -> None:
    client = Client()
    file = io.BytesIO(json.dumps({"customer": "cus_1", "value": 12.0, "timestamp": NOW + 0.5}).encode())
    assert client.import_file(file, format="jsonl", event_name="tokens", import_id="x").recorded == 1
    client.close()


@pytest.mark.parametrize(
    ("header", "why"),
    [
        ("", "empty"),
        ("tokens,cus_1,5", "column 'tokens'"),
        ("customer,timestamp", "event_name, value is missing"),
        ("customer,value,value,event_name", "twice"),
        ("customer,amount", "dimensions.NAME"),
    ],
)
def test_a_file_without_the_right_header_is_refused_as_a_whole(tmp_path: Path, header: str, why: str) -> None:
    path = tmp_path / "x.csv"
    path.write_text(header)
    client = Client()
    with pytest.raises(usage.ImportFailed, match=why):
        client.import_file(path)
    client.close()


def test_what_cannot_be_read_is_a_sentence(tmp_path: Path) -> None:
    client = Client()
    (tmp_path / "wide.csv").write_text("customer,value", encoding="utf-16-le")
    (tmp_path / "data.txt").write_text("")
    for name, why in (("wide.csv", "UTF-16"), ("none.csv", "No such file"), ("data.txt", "--format")):
        with pytest.raises(usage.ImportFailed, match=why):
            client.import_file(tmp_path / name)
    client.close()


def test_a_corrected_file_brings_only_what_is_new(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.csv", 50)
    text = path.read_text()
    path.write_text(text.replace(f"{EVENT},cus_3,10,", f"{EVENT},cus_3,oops,"))
    client = Client()
    assert (client.import_file(path).bad, client.status().pending) == (1, 49)
    assert client.import_file(path).bad == 1  # still wrong: said again
    path.write_text(text)
    fixed = client.import_file(path)
    assert (fixed.recorded, fixed.already, fixed.bad) == (1, 49, 0)
    client.close()


def test_an_interrupted_import_runs_again_and_brings_the_rest(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.csv", 60_000)
    program = f"import usage; usage.Client().import_file({str(path)!r})"
    run = subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.DEVNULL)
    client = Client()
    try:
        for _ in range(2000):
            if client.status().pending >= 2000:
                break
            time.sleep(0.005)
    finally:
        run.send_signal(signal.SIGKILL)
        run.wait()
    reached = client.status().pending
    assert 0 < reached < 60_000
    result = client.import_file(path)
    assert (result.recorded, result.already) == (60_000 - reached, reached)
    assert client.status().pending == 60_000
    client.close()


def test_rows_without_time_or_identifier_need_a_name_for_the_import(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("customer,value\ncus_1,5\n")
    client = Client()
    result = client.import_file(path, event_name="tokens", timestamp="now")
    assert "--import-id" in result.errors[0].problem
    assert client.import_file(path, event_name="tokens", timestamp="now", import_id="monday").recorded == 1
    client.clock = lambda: time.time() + 60
    again = client.import_file(path, event_name="tokens", timestamp="now", import_id="monday")
    assert (again.recorded, again.bad) == (0, 0)
    assert client.import_file(path, event_name="tokens", timestamp="now", import_id="tuesday").recorded == 1
    client.close()


def test_an_identifier_with_other_content_is_a_bad_line(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(
        "event_name,customer,value,timestamp,identifier\n"
        f"tokens,cus_1,5,{NOW},one\ntokens,cus_1,6,{NOW},one\ntokens,cus_1,5,{NOW},one\ntokens,cus_1,7,{NOW},two\n"
    )
    client = Client()
    result = client.import_file(path)
    assert (result.rows, result.recorded, result.already, result.bad) == (3, 2, 1, 1)
    assert (result.errors[0].line, "different value" in result.errors[0].problem) == (3, True)
    client.close()


def test_a_dry_run_shows_totals_and_touches_nothing(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.csv", 100)
    with open(path, "a") as file:
        file.write("broken\n")
    client = Client()
    result = client.import_file(path, dry_run=True)
    assert (result.rows, result.recorded, result.bad) == (100, 0, 1)
    assert result.totals[0].value == sum(range(100))
    assert not (tmp_path / ".stripe-usage").exists()


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    """The benchmark imports 10 million rows; here 10,000 and 100,000 must need the same."""
    program = (
        "import resource, sys, usage\n"
        "usage.Client(spool=sys.argv[2]).import_file(sys.argv[1])\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    peaks: list[int] = []
    for rows in (10_000, 100_000):
        path = write(tmp_path / f"{rows}.csv", rows)
        arguments: list[Any] = [sys.executable, "-c", program, str(path), str(tmp_path / f"{rows}.db")]
        peaks.append(int(subprocess.run(arguments, capture_output=True, text=True, check=True).stdout))
    assert peaks[1] < peaks[0] + 6_000  # kB
