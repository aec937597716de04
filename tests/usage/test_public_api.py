"""The names scripts may rely on, what importing them costs, and that stripe-python and we speak one version."""

from __future__ import annotations

import inspect
import subprocess
import sys

import pytest

import usage

NAMES = [
    "AuthenticationFailed",
    "Client",
    "DestinationError",
    "IdentifierConflict",
    "ImportFailed",
    "InvalidEvent",
    "NotDelivered",
    "NotStripe",
    "SpoolError",
    "SpoolMissing",
    "StripeError",
    "Unreachable",
    "UsageError",
    "cancel",
    "flush",
    "preview_invoice",
    "record",
    "record_many",
    "send",
    "status",
    "summaries",
    "verify",
]

CLIENT_METHODS = [
    "api",
    "cancel",
    "close",
    "dead_letters",
    "destination",
    "drain",
    "error_report",
    "fetch_error_reports",
    "flush",
    "import_file",
    "preview_invoice",
    "record",
    "record_many",
    "retry",
    "send",
    "status",
    "summaries",
    "verify",
]


HEAVY = "stripe pulumi requests asyncio ssl boto3 sandbox"


def test_the_public_names_are_these() -> None:
    assert list(usage.__all__) == NAMES
    for name in NAMES:
        assert getattr(usage, name).__doc__, name
    with pytest.raises(AttributeError, match="no attribute 'recrod'"):
        _ = usage.recrod


def test_the_client_has_these_methods() -> None:
    assert sorted(name for name in vars(usage.Client) if not name.startswith("_")) == CLIENT_METHODS


def test_record_takes_what_the_issue_promises() -> None:
    parameters = list(inspect.signature(usage.record).parameters)
    assert parameters == ["event_name", "customer", "value", "timestamp", "identifier", "dimensions", "correction"]


def test_every_error_is_a_usage_error() -> None:
    for name in NAMES:
        value = getattr(usage, name)
        if isinstance(value, type) and issubclass(value, Exception):
            assert issubclass(value, usage.UsageError)


@pytest.mark.parametrize(
    ("code", "absent"),
    [
        ("import usage", f"{HEAVY} http.client sqlite3 json typing dataclasses socket"),
        ("import usage; usage.record('tokens', customer='cus_1', value=1)", f"{HEAVY} http"),
        ("import usage.cli; usage.cli.build_parser()", f"{HEAVY} http sqlite3 rich"),
    ],
    ids=["import", "record", "command"],
)  # fmt: skip
def test_nothing_heavy_is_imported_before_it_is_needed(code: str, absent: str) -> None:
    program = f"{code}\nimport sys\nprint(*(name for name in {absent!r}.split() if name in sys.modules))"
    # -S: what this virtual environment's .pth files import is not our doing
    path = [entry for entry in sys.path if entry]
    run = subprocess.run(
        [sys.executable, "-I", "-S", "-c", f"import sys; sys.path[:0] = {path!r}\n{program}"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.split() == []
