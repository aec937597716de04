"""What all tests need of the process they run in; and the check of every answer of every sandbox.

A sandbox in the test's own process is checked at each call. Those in other processes (Pulumi's providers, a served
sandbox, a script) inherit `SANDBOX_ANSWERS` and write theirs down; when a test ends, what they wrote is checked too.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox import Request, Response, Sandbox, answers
from tests.response_schema import check

# A shell starts its background jobs with SIGINT ignored, and children inherit that: tests that interrupt one would
# wait for ever.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


class Answered:
    """The answers that other processes record, as they come."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self._read = 0

    def check(self) -> None:
        """Those since the last time."""
        if not self.file.exists():
            return
        with self.file.open("rb") as file:
            file.seek(self._read)
            new = file.read()
        # The last line may still be on its way.
        new = new[: new.rfind(b"\n") + 1]
        self._read += len(new)
        for line in new.splitlines():
            each = json.loads(line)
            request = Request(each["method"], each["url"], {}, each["body"].encode())
            check(request, Response(each["status"], each["headers"], each["answer"].encode()))


@pytest.fixture(scope="session")
def answered(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Answered]:
    """The answers of the sandboxes in this process's children, for the whole run."""
    found = Answered(tmp_path_factory.mktemp("answers") / "answers.jsonl")
    here, write = os.getpid(), answers.write

    def elsewhere(path: str, request: Request, response: Response) -> None:
        if os.getpid() != here:
            write(path, request, response)

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(answers.VARIABLE, str(found.file))
        patch.setattr(answers, "write", elsewhere)
        yield found
    # Fixtures that many tests share end after the last of them.
    found.check()


@pytest.fixture(autouse=True)
def every_answer_is_checked(answered: Answered, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every answer of a sandbox in a test must be valid against Stripe's response schema."""
    plain = Sandbox.handle
    wrong: list[AssertionError] = []

    def handle(self: Sandbox, request: Request) -> Response:
        response = plain(self, request)
        try:
            check(request, response)
        except AssertionError as problem:
            wrong.append(problem)
            raise
        return response

    monkeypatch.setattr(Sandbox, "handle", handle)
    yield
    # A server or a provider in between may have made something else of it.
    if wrong:
        raise wrong[0]
    answered.check()
