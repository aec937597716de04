"""Files of earlier versions: opened, brought to the present form, and billed on as if they had been made now."""

from __future__ import annotations

import gzip
import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest
import stripe

from sandbox import Request, Sandbox, SandboxFileError, cli, migrations, store
from sandbox.client import SandboxHTTPClient

from .bills import at, lines
from .conftest import Clock
from .fixtures import make

#: What `fixtures/make.py` made with the sandbox of these commits.
FIXTURES = sorted(path.name.removesuffix(".db.gz") for path in Path(make.__file__).parent.glob("*.db.gz"))


def unpacked(commit: str, folder: Path) -> Path:
    """A fixture as a file."""
    path = folder / f"{commit}.db"
    path.write_bytes(gzip.decompress((Path(make.__file__).parent / f"{commit}.db.gz").read_bytes()))
    return path


def format_of(path: Path) -> int:
    connection = sqlite3.connect(path)
    found = int(connection.execute("PRAGMA application_id").fetchone()[0])
    connection.close()
    return found


def test_every_format_that_there_was_has_a_file(tmp_path: Path) -> None:
    formats = {format_of(unpacked(commit, tmp_path)) for commit in FIXTURES}
    assert formats >= set(migrations.STEPS)
    found = min(formats)
    for _ in migrations.STEPS:
        found = migrations.STEPS[found][0]
    assert found == store.FORMAT


@pytest.mark.parametrize("commit", FIXTURES)
def test_a_file_of_an_earlier_version_goes_on(tmp_path: Path, clock: Clock, commit: str) -> None:
    path = unpacked(commit, tmp_path)
    sandbox = Sandbox(path, clock=clock)
    client = stripe.StripeClient("sk_test_x", http_client=SandboxHTTPClient(sandbox))
    (test_clock,) = client.v1.test_helpers.test_clocks.list().data
    found = client.v1.subscriptions.list({"test_clock": test_clock.id}).data
    (subscription,) = (each for each in found if each.schedule is None)
    assert [each.customer for each in found if each.schedule is not None] == [
        each.customer for each in client.v1.subscription_schedules.list().data
    ]
    shown = client.v1.invoices.create_preview({"subscription": subscription.id})
    usage = [
        ("1000 × Alpaca.ai (Tier 1 at $0.00 / month)", 0),
        ("25000 × Alpaca.ai (Tier 2 at $0.0004 / month)", 1_000),
    ]
    assert lines(shown) == [("3 × Alpaca.ai (at $100.00 / month)", 30_000), *usage]

    # A seat less in the middle of the month, credited from what the earlier version debited; then the month's end.
    client.v1.test_helpers.test_clocks.advance(test_clock.id, {"frozen_time": at("2026-01-11")})
    licensed = next(item for item in subscription["items"].data if item.quantity)
    client.v1.subscriptions.update(subscription.id, {"items": [{"id": licensed.id, "quantity": 2}]})
    client.v1.test_helpers.test_clocks.advance(test_clock.id, {"frozen_time": at("2026-02-01") + 7200})
    invoice = client.v1.invoices.list({"subscription": subscription.id}).data[0]
    assert lines(invoice) == [
        ("Unused time on 3 × Alpaca.ai after 11 Jan 2026", -20_323),
        ("Remaining time on 2 × Alpaca.ai after 11 Jan 2026", 13_548),
        ("2 × Alpaca.ai (at $100.00 / month)", 20_000),
        *usage,
    ]
    for listed in (client.v1.customers, client.v1.coupons, client.v1.invoice_items, client.v1.events):
        every: Any = listed
        every.list({"limit": 100})
    client.v1.customers.create({"name": "Third"})
    sandbox.close()
    assert format_of(path) == store.FORMAT
    narrow = stripe.StripeClient("rk_test_narrow", http_client=SandboxHTTPClient(path))
    assert [price.lookup_key for price in narrow.v1.prices.list().data] == [None, "fee"]
    with pytest.raises(stripe.PermissionError):
        narrow.v1.products.list()


def test_the_fixtures_are_what_this_version_would_make(tmp_path: Path) -> None:
    """So that the test above tells of this version too, once it is an earlier one."""
    make.make(str(tmp_path / "now.db"))

    def kinds(path: Path) -> list[tuple[str, int]]:
        connection = sqlite3.connect(path)
        found = connection.execute("SELECT kind, count(*) FROM objects GROUP BY kind ORDER BY kind").fetchall()
        connection.close()
        return found

    assert {commit: kinds(unpacked(commit, tmp_path)) for commit in FIXTURES} == dict.fromkeys(
        FIXTURES, kinds(tmp_path / "now.db")
    )


def test_a_file_that_cannot_be_brought_forward_is_named_and_stays_as_it_was(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = unpacked(FIXTURES[-1], tmp_path)
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA application_id = 2")
    connection.execute("UPDATE objects SET body = '{}' WHERE kind = 'subscription'")
    connection.commit()
    connection.close()
    before = path.read_bytes()
    with pytest.raises(SandboxFileError, match=r"made by another version of the sandbox.*sandbox reset") as caught:
        Sandbox(path)
    assert str(path) in str(caught.value)
    assert path.read_bytes() == before
    assert cli.main(["requests", "--file", str(path)]) == 1
    assert "made by another version" in capsys.readouterr().err
    assert cli.main(["reset", "--file", str(path)]) == 0
    sandbox = Sandbox(path)
    assert json.loads(sandbox.handle(Request("GET", "/_sandbox/")).body)["objects"] == {}
    sandbox.close()


def test_a_database_of_something_else_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE notes (text TEXT)")
    connection.commit()
    connection.close()
    with pytest.raises(SandboxFileError, match="made by another version"):
        Sandbox(path)
    connection = sqlite3.connect(path)
    assert [name for (name,) in connection.execute("SELECT name FROM sqlite_master")] == ["notes"]
    connection.close()


def test_a_file_of_a_later_version_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as later:
        later.setattr(store, "FORMAT", store.FORMAT + 1)
        Sandbox(tmp_path / "stripe.db").close()
    with pytest.raises(SandboxFileError, match="made by a later version of the sandbox"):
        Sandbox(tmp_path / "stripe.db")
