"""stripe-python's transport in process: headers, asyncio, broken files."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest
import stripe

from sandbox import Sandbox
from sandbox.client import SandboxHTTPClient


def test_headers_are_found_whatever_their_case(client: stripe.StripeClient) -> None:
    product = client.v1.products.create({"name": "A"}, {"idempotency_key": "k"})
    answer = product.last_response
    assert answer is not None
    assert answer.headers["Request-Id"] == answer.headers["request-id"] == answer.request_id
    assert "Stripe-Version" in answer.headers
    assert answer.headers.get("Idempotent-Replayed") is None
    again = client.v1.products.create({"name": "A"}, {"idempotency_key": "k"}).last_response
    assert again is not None
    assert again.headers.get("Idempotent-Replayed") == "true"
    assert again.idempotency_key == "k"


def test_asyncio(client: stripe.StripeClient) -> None:
    async def work() -> list[str]:
        made = await asyncio.gather(*(client.v1.products.create_async({"name": str(n)}) for n in range(5)))
        page = await client.v1.products.list_async()
        assert {item.id for item in page.data} == {item.id for item in made}
        return [str(item.name) async for item in page.auto_paging_iter()]

    assert sorted(asyncio.run(work())) == ["0", "1", "2", "3", "4"]


def test_a_file_that_cannot_be_used_is_a_connection_error_that_is_not_retried(tmp_path: Path) -> None:
    path = tmp_path / "stripe.db"
    http = SandboxHTTPClient(Sandbox(path))
    http.close()
    for leftover in tmp_path.glob("stripe.db*"):
        leftover.unlink()
    path.write_bytes(b"garbage" * 1000)
    client = stripe.StripeClient("sk_test_x", http_client=http, max_network_retries=5)
    with pytest.raises(stripe.APIConnectionError, match="move it") as caught:
        client.v1.products.list()
    assert caught.value.should_retry is False


def test_only_the_client_needs_stripe_python() -> None:
    program = (
        "import sys, sandbox, sandbox.cli, sandbox.server;"
        "foreign = {'stripe', 'pulumi', 'pydantic', 'requests', 'components', 'usage'} & set(sys.modules);"
        "sys.exit(', '.join(foreign) or None)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
