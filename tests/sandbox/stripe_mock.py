"""stripe-mock, Stripe's own request validator, as an oracle: is every path and parameter of a request log real?

It knows names and types and no state: it catches an unknown path or parameter, a missing or mistyped one. It has no
/v2. Built once with `go install` into a cache folder of the user, outside the checkout.
"""

from __future__ import annotations

import http.client
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

VERSION = "v0.203.0"
MODULE = f"github.com/stripe/stripe-mock@{VERSION}"


def executable() -> Path:
    """stripe-mock of the right version; the test is skipped, with the reason, where it cannot be had."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "stripe-pricing"
    built = cache / f"stripe-mock-{VERSION}"
    if built.exists():
        return built
    go = shutil.which("go")
    if go is None:
        pytest.skip("stripe-mock is built with Go, and there is no `go` on this machine")
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as folder:
        done = subprocess.run(
            [go, "install", MODULE], env={**os.environ, "GOBIN": folder}, capture_output=True, text=True, timeout=500
        )
        if done.returncode != 0:
            lines = done.stderr.strip().splitlines() or ["no output"]
            pytest.skip(f"`go install {MODULE}` failed: {lines[-1]}")
        # In one step: another worker may be building it too.
        os.replace(Path(folder) / "stripe-mock", built)
    return built


@contextmanager
def running() -> Iterator[tuple[str, int]]:
    """Host and port of a stripe-mock for as long as the block runs."""
    program = executable()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with subprocess.Popen(
        [str(program), "-http-addr", f"127.0.0.1:{port}"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        try:
            assert process.stdout is not None
            for line in process.stdout:
                if "Listening" in line:
                    break
            else:
                pytest.fail(f"stripe-mock ended with {process.wait()} and never listened")
            yield "127.0.0.1", port
        finally:
            process.kill()


def ask(address: tuple[str, int], method: str, url: str, body: str) -> tuple[int, str]:
    """One request to stripe-mock."""
    connection = http.client.HTTPConnection(*address, timeout=60)
    headers = {"Authorization": "Bearer sk_test_oracle"}
    if method == "POST":
        headers["Content-Type"] = "application/x-www-form-urlencoded"
    connection.request(method, url, body or None, headers)
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, text


def replay(address: tuple[str, int], lines: Iterable[Mapping[str, Any]]) -> tuple[int, list[str]]:
    """Send every v1 request of a log that the sandbox took: how many, and what stripe-mock had against which.

    A line is what `sandbox requests` prints: at least `method`, `url`, `body`, `status`.
    """
    sent = 0
    complaints = []
    for line in lines:
        path = line["url"].partition("?")[0]
        if line["status"] != 200 or not path.startswith("/v1/") or line.get("truncated"):
            continue
        sent += 1
        status, text = ask(address, line["method"], line["url"], line["body"])
        if status != 200:
            complaints.append(f"{line['method']} {line['url']} {line['body']} -> {status} {text[:500]}")
    return sent, complaints
