"""What all tests need of the process they run in."""

from __future__ import annotations

import signal

import pytest

from sandbox import Request, Response, Sandbox
from tests.response_schema import check

# A shell starts its background jobs with SIGINT ignored, and children inherit that: tests that interrupt one would
# wait for ever.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def every_answer_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a sandbox of this process answers in a test must be valid against Stripe's response schema."""
    plain = Sandbox.handle

    def handle(self: Sandbox, request: Request) -> Response:
        response = plain(self, request)
        if response.headers.get("content-type") == "application/json":
            check(request, response)
        return response

    monkeypatch.setattr(Sandbox, "handle", handle)
