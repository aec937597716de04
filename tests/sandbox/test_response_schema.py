"""The check of every answer finds what it is there to find."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import stripe

from sandbox import Request, Response, Sandbox, SandboxFileError
from tests.conftest import Answered
from tests.response_schema import check

from .catalog import plain

GOOD_ERROR = {"error": {"type": "invalid_request_error", "message": "no"}}


def judged(request: Request, status: int, body: Any) -> None:
    check(request, Response(status, {"content-type": "application/json"}, json.dumps(body).encode()))


@pytest.fixture
def product(client: stripe.StripeClient) -> dict[str, Any]:
    found: dict[str, Any] = plain(client.v1.products.create({"name": "A"}))
    return found


def test_what_is_right_passes(product: dict[str, Any]) -> None:
    judged(Request("GET", "/v1/products/prod_1"), 200, product)
    judged(
        Request("GET", "/v1/products"), 200, {"object": "list", "data": [], "has_more": False, "url": "/v1/products"}
    )
    judged(Request("GET", "/v1/products"), 400, GOOD_ERROR)
    judged(Request("POST", "/v2/billing/meter_event_stream"), 200, {})


@pytest.mark.parametrize(
    "change",
    [{"active": "yes"}, {"created": 1.5}, {"name": None}, {"nope": 1}, {"default_price": 7}, {"object": "price"}],
)
def test_wrong_fields_are_found(product: dict[str, Any], change: dict[str, Any]) -> None:
    with pytest.raises(AssertionError):
        judged(Request("GET", "/v1/products/prod_1"), 200, {**product, **change})


def test_missing_fields_are_found(product: dict[str, Any]) -> None:
    del product["livemode"]
    with pytest.raises(AssertionError, match="livemode"):
        judged(Request("GET", "/v1/products/prod_1"), 200, product)


def test_lists_and_events_are_looked_into(product: dict[str, Any], client: stripe.StripeClient) -> None:
    wrong = {**product, "active": None}
    page = {"object": "list", "data": [wrong], "has_more": False, "url": "/v1/products"}
    with pytest.raises(AssertionError):
        judged(Request("GET", "/v1/products"), 200, page)
    event = plain(client.v1.events.list().data[0])
    event["data"]["object"] = wrong
    with pytest.raises(AssertionError):
        judged(Request("GET", "/v1/events/evt_1"), 200, event)


@pytest.mark.parametrize(
    ("url", "body"),
    [
        ("/v1/products", {"error": {"type": "rate_limit_error", "message": "x"}}),
        ("/v1/products", {"error": {"type": "api_error", "message": "x", "code": "no_doc_url"}}),
        ("/v1/products", {"message": "x"}),
        ("/v2/billing/meter_events", {"error": {"message": "a code is missing"}}),
    ],
)
def test_wrong_errors_are_found(url: str, body: Any) -> None:
    with pytest.raises(AssertionError):
        judged(Request("POST", url), 400, body)


def test_a_success_without_a_route_is_found() -> None:
    with pytest.raises(AssertionError, match="without a route"):
        judged(Request("GET", "/v1/charges"), 200, {})


CHILD = """
import sys
from sandbox import Request, Sandbox
answer = Sandbox(sys.argv[1]).handle(
    Request("POST", "/v1/products", {"authorization": "Bearer sk_test_child"}, b"name=A")
)
assert answer.status == 200
Sandbox(sys.argv[1]).handle(Request("GET", "/_sandbox/"))
"""


def lines_of_a_child(folder: Path) -> list[str]:
    """What a sandbox in another process writes down."""
    answers = folder / "of-a-child.jsonl"
    subprocess.run(
        [sys.executable, "-c", CHILD, str(folder / "child.db")],
        env={**os.environ, "SANDBOX_ANSWERS": str(answers)},
        check=True,
    )
    return answers.read_text().splitlines()


def test_a_sandbox_in_another_process_writes_its_answers_down_without_the_key(tmp_path: Path) -> None:
    [line] = lines_of_a_child(tmp_path)
    assert "sk_test_child" not in line
    written = json.loads(line)
    assert (written["method"], written["url"], written["body"]) == ("POST", "/v1/products", "name=A")
    assert json.loads(written["answer"])["name"] == "A"


def test_what_other_processes_answer_is_checked_once_and_whole(tmp_path: Path) -> None:
    [line] = lines_of_a_child(tmp_path)
    answered = Answered(tmp_path / "answers.jsonl")
    answered.check()
    answered.file.write_text(line + "\n" + line[:10])
    answered.check()
    answered.file.write_text(line + "\n" + line.replace('\\"livemode\\":false', '\\"livemode\\":7') + "\n")
    with pytest.raises(AssertionError, match="livemode"):
        answered.check()
    answered.check()


def test_a_file_for_answers_that_cannot_be_written_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    gone = tmp_path / "gone" / "answers.jsonl"
    monkeypatch.setenv("SANDBOX_ANSWERS", str(gone))
    with pytest.raises(SandboxFileError, match=str(gone)):
        Sandbox(tmp_path / "stripe.db")
