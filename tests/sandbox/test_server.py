"""The sandbox on a port: stripe-python, curl's and the Stripe CLI's request shapes, broken connections, the command."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import stripe

from sandbox import Sandbox, cli
from sandbox.server import SandboxServer, serving

from .catalog import catalog
from .conftest import Control


@pytest.fixture
def server(sandbox: Sandbox) -> Iterator[SandboxServer]:
    with serving(sandbox) as running:
        yield running


@pytest.fixture
def remote(server: SandboxServer) -> Iterator[stripe.StripeClient]:
    """stripe-python with its own transport, over the port."""
    transport = stripe.RequestsClient()
    addresses: Any = {"api": server.url, "meter_events": server.url}
    yield stripe.StripeClient("sk_test_x", base_addresses=addresses, http_client=transport)
    _close(transport)


def _close(transport: stripe.RequestsClient) -> None:
    transport.close()  # type: ignore[no-untyped-call]


def exchange(server: SandboxServer, text: str | bytes) -> bytes:
    """What the server answers to these very bytes, until it closes the connection."""
    data = text.replace("\n", "\r\n").encode() if isinstance(text, str) else text
    with socket.create_connection((server.host, server.port), timeout=30) as connection:
        connection.sendall(data)
        received = b""
        while True:
            try:
                chunk = connection.recv(65536)
            except ConnectionResetError:
                return received
            if not chunk:
                return received
            received += chunk


def test_stripe_python_over_the_port(remote: stripe.StripeClient, server: SandboxServer) -> None:
    things = catalog(remote)
    remote.v1.billing.meter_events.create(
        {"event_name": things.meter.event_name, "payload": {"stripe_customer_id": things.customer.id, "value": "5"}}
    )
    token = remote.v2.billing.meter_event_session.create().authentication_token
    addresses: Any = {"api": server.url, "meter_events": server.url}
    transport = stripe.RequestsClient()
    stream = stripe.StripeClient(token, base_addresses=addresses, http_client=transport)
    payload: Any = {"stripe_customer_id": things.customer.id, "value": "6"}
    stream.v2.billing.meter_event_stream.create(
        {"events": [{"event_name": things.meter.event_name, "payload": payload}] * 2}
    )
    _close(transport)
    now = things.meter.created
    summary = remote.v1.billing.meters.event_summaries.list(
        things.meter.id,
        {"customer": things.customer.id, "start_time": now - now % 60, "end_time": now - now % 60 + 60},
    )
    assert summary.data[0].aggregated_value == 17
    with pytest.raises(stripe.InvalidRequestError, match="No such product"):
        remote.v1.products.retrieve("prod_nope")


def test_only_this_machine_can_reach_it(server: SandboxServer) -> None:
    assert server.host == "127.0.0.1"


CURL = """POST /v1/products HTTP/1.1
Host: localhost
Authorization: Basic c2tfdGVzdF94Og==
User-Agent: curl/8.5.0
Accept: */*
Content-Length: 37
Content-Type: application/x-www-form-urlencoded
Connection: close

name=From+curl&metadata%5Border%5D=15"""

#: What `stripe products create --api-base http://localhost:...` sends.
CLI = """POST /v1/products HTTP/1.1
Host: localhost
User-Agent: Stripe/v1 stripe-cli/1.30.0
Content-Length: 15
Authorization: Bearer sk_test_x
Content-Type: application/x-www-form-urlencoded
X-Stripe-Client-User-Agent: {"name":"stripe-cli","version":"1.30.0","publisher":"stripe","os":"linux"}
Accept-Encoding: identity
Connection: close

name=From%20CLI"""


@pytest.mark.parametrize(("text", "name"), [(CURL, "From curl"), (CLI, "From CLI")])
def test_other_clients_shapes(server: SandboxServer, text: str, name: str) -> None:
    head, _, body = exchange(server, text).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK")
    assert json.loads(body)["name"] == name


def curl(*arguments: str) -> str:
    """What curl prints, which has to succeed."""
    try:
        done = subprocess.run(["curl", "-sS", *arguments], capture_output=True, text=True, timeout=60, check=True)
    except FileNotFoundError:
        pytest.skip("there is no curl on this machine")
    return done.stdout


def test_real_curl(server: SandboxServer) -> None:
    made = curl(f"{server.url}/v1/products", "-u", "sk_test_x:", "-d", "name=Real", "-d", "metadata[a]=1")
    assert json.loads(made)["metadata"] == {"a": "1"}


def test_curl_keeps_its_connection(server: SandboxServer) -> None:
    url = f"{server.url}/v1/products"
    each = ["-u", "sk_test_x:", "-o", os.devnull, "-w", "%{http_code} %{num_connects}\n", url]
    assert curl(*each, "--next", *each, "--next", "-0", *each).splitlines()[:2] == ["200 1", "200 0"]


def test_curl_with_every_kind_of_request(server: SandboxServer, tmp_path: Path) -> None:
    url = f"{server.url}/v1/products"
    status = ["-o", os.devnull, "-w", "%{http_version} %{http_code}", "-u", "sk_test_x:"]
    assert curl(*status, "-0", url) == "1.1 200"
    assert curl(*status, "-I", url) == "1.1 404"
    assert curl(*status, "-H", "Transfer-Encoding: chunked", "-d", "name=A", url) == "1.1 200"
    # Larger than curl sends without asking first.
    large = tmp_path / "large"
    large.write_text("name=A&description=" + "x" * 2_000_000)
    assert curl(*status, "-H", "Expect: 100-continue", "-d", f"@{large}", url) == "1.1 400"


def test_a_connection_is_kept(server: SandboxServer) -> None:
    connection = http.client.HTTPConnection(server.host, server.port, timeout=30)
    connection.connect()
    first = connection.sock
    for number in range(5):
        connection.request("POST", "/v1/products", f"name={number}", {"Authorization": "Bearer sk_test_x"})
        answer = connection.getresponse()
        assert answer.status == 200
        assert answer.getheader("content-length") == str(len(answer.read()))
    assert connection.sock is first
    connection.close()


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_dropped_connection(remote: stripe.StripeClient, control: Control, when: str) -> None:
    control("POST", "faults", method="POST", path="/v1/products", drop=True, when=when)
    with pytest.raises(stripe.APIConnectionError):
        remote.v1.products.create({"name": "A"})
    assert len(remote.v1.products.list().data) == (1 if when == "after" else 0)


def test_half_a_body_over_the_port(server: SandboxServer, control: Control) -> None:
    control("POST", "faults", method="POST", path="/v1/products", half_body=True, when="after")
    head, _, body = exchange(server, CURL).partition(b"\r\n\r\n")
    announced = re.search(rb"content-length: (\d+)", head)
    assert announced is not None
    assert 0 < len(body) < int(announced.group(1))
    assert body.startswith(b'{"id":"prod_')


def test_a_retry_after_half_a_body_finds_the_object(remote: stripe.StripeClient, control: Control) -> None:
    control("POST", "faults", method="POST", path="/v1/products", half_body=True, when="after")
    options: Any = {"idempotency_key": "k"}
    with pytest.raises((stripe.APIConnectionError, stripe.APIError)):
        remote.v1.products.create({"name": "A"}, options)
    again = remote.v1.products.create({"name": "A"}, options)
    assert [found.id for found in remote.v1.products.list().data] == [again.id]


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("POST /v1/products HTTP/1.1\nHost: localhost\nContent-Length: abc\n\n", 400),
        ("POST /v1/products HTTP/1.1\nHost: localhost\nContent-Length: -1\n\n", 400),
        ("POST /v1/products HTTP/1.1\nHost: localhost\nContent-Length: 99999999999\n\n", 413),
        ("POST /v1/products HTTP/1.1\nTransfer-Encoding: gzip\n\n0\n\n", 501),
        ("POST /v1/products HTTP/1.1\nTransfer-Encoding: gzip, chunked\n\n0\n\n", 501),
        ("POST /v1/products HTTP/1.0\nTransfer-Encoding: chunked\n\n0\n\n", 400),
        ("POST /v1/products HTTP/1.1\nTransfer-Encoding: chunked\nContent-Length: 3\n\n0\n\n", 400),
        ("POST /v1/products HTTP/1.1\nTransfer-Encoding: chunked\nTransfer-Encoding: gzip\n\n0\n\n", 400),
        ("POST /v1/products HTTP/1.1\nTransfer-Encoding: chunked\n\nxyz\n", 400),
        ("POST /v1/products HTTP/1.1\nTransfer-Encoding: chunked\n\n-3\nabc\n", 400),
        ("POST /v1/products HTTP/1.1\nTransfer-Encoding: chunked\n\n3\nabcd\n0\n\n", 400),
        ("POST /v1/products HTTP/1.1\nTransfer-Encoding: chunked\n\n3\nabc\n" + "0" * 5000, 400),
        ("POST /v1/products HTTP/1.1\nTransfer-Encoding: chunked\n\nffffffff\n", 413),
        ("POST /v1/products HTTP/1.1\nTransfer-Encoding: chunked\n\n0\n" + "a: b\n" * 101, 431),
        ("GET /v1/products HTTP/1.1\nHost: localhost\nHost: evil.example\n\n", 400),
        ("NONSENSE\n\n", 400),
        ("GET / HTTP/1.1\nHost: localhost\nConnection: close\n\n", 401),
        ("PATCH /v1/products HTTP/1.1\nHost: localhost\nAuthorization: Bearer sk_test_x\nConnection: close\n\n", 404),
        ("BREW /v1/products HTTP/1.1\nHost: localhost\nConnection: close\n\n", 501),
        ("GET /v1/products HTTP/2.0\n\n", 400),
        ("GET http://x/v1/products HTTP/1.1\n\n", 400),
        ("GET / HTTP/1.1\nno name\n\n", 400),
        ("GET / HTTP/1.1\n: x\n\n", 400),
        ("GET / HTTP/1.1\n" + "a: b\n" * 101 + "\n", 431),
        ("GET / HTTP/1.1\na: " + "x" * 70_000 + "\n\n", 431),
        ("GET / HTTP/1.0\n\n", 401),
        ("GET /" + "x" * 70_000 + " HTTP/1.1\n\n", 414),
        ("GET /" + "x" * 70_000, 414),
        ("GET / HTTP/1.1\n" + ("a: " + "x" * 7_000 + "\n") * 10 + "\n", 431),
        ("GET / HTTP/1.1\n" + ("a: " + "x" * 7_000 + "\n") * 10, 431),
        ("get / HTTP/1.1\n\n", 400),
        ("GET /  HTTP/1.1\n\n", 400),
        ("GET / HTTP/1.1\na : b\n\n", 400),
        ("GET / HTTP/1.1\na: b\n folded\n\n", 400),
        ("POST /v1/products HTTP/1.1\nContent-Length: 3\nContent-Length: 4\n\nabcd", 400),
        ("POST /v1/products HTTP/1.1\nContent-Length: +3\n\nabc", 400),
    ],
)
def test_broken_requests_get_an_answer(server: SandboxServer, text: str, status: int) -> None:
    first = exchange(server, text).split(b"\r\n", 1)[0]
    assert str(status).encode() in first


def test_a_body_that_waits_to_be_asked_for(server: SandboxServer) -> None:
    """As curl sends large ones."""
    text = CURL.replace("Connection: close", "Connection: close\nExpect: 100-continue")
    assert exchange(server, text).startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n")


#: What stripe-go and Node's streams send: a body whose length nobody knew when it began.
CHUNKED = """POST /v1/products HTTP/1.1
Host: 127.0.0.1:12111
User-Agent: Stripe/v1 GoBindings/84.4.1
Transfer-Encoding: chunked
Authorization: Bearer sk_test_x
Content-Type: application/x-www-form-urlencoded
Stripe-Version: 2026-02-25.clover

5;ext="a;b"
name=
b
From+gopher
0
Trailer: passed over

"""


def test_a_body_may_come_in_chunks(server: SandboxServer) -> None:
    """The next request on the connection begins where it should."""
    answers = exchange(server, CHUNKED + CURL)
    assert answers.count(b"HTTP/1.1 200 OK") == 2
    assert re.findall(rb'"name":"([^"]*)"', answers) == [b"From gopher", b"From curl"]


def test_chunks_may_come_byte_by_byte(server: SandboxServer) -> None:
    with socket.create_connection((server.host, server.port), timeout=30) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in CHUNKED.replace("\n", "\r\n").encode():
            connection.sendall(bytes([byte]))
        assert b'"name":"From gopher"' in connection.recv(65536)


def test_a_body_in_chunks_has_a_limit(server: SandboxServer) -> None:
    chunk = b"100000\r\n" + b"x" * 0x100000 + b"\r\n"
    head = b"POST /v1/products HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert exchange(server, head + chunk * 17).startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:80", "localhost.", "api.localhost", "127.0.0.1:1", "127.8.8.8", "[::1]:12111", ""]
)
def test_it_answers_to_this_machine(server: SandboxServer, host: str) -> None:
    text = f"GET /v1/products HTTP/1.1\nHost: {host}\nAuthorization: Bearer sk_test_x\nConnection: close\n\n"
    assert exchange(server, text).startswith(b"HTTP/1.1 200 OK")


@pytest.mark.parametrize("path", ["/v1/products", "/_sandbox/state"])
@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example:80", "localhost.evil.example", "192.0.2.1"])
def test_a_name_that_was_pointed_at_this_machine_is_refused(server: SandboxServer, host: str, path: str) -> None:
    """DNS rebinding: the page that asks is of the same origin as the answer, and could read it."""
    answer = exchange(server, f"GET {path} HTTP/1.1\nHost: {host}\nAuthorization: Bearer sk_test_x\n\n")
    assert answer.startswith(b"HTTP/1.1 403 Forbidden")
    assert f"does not answer to the host {host}".encode() in answer


def test_a_server_for_others_answers_to_its_name_and_to_addresses(sandbox: Sandbox) -> None:
    server = SandboxServer(sandbox, "0.0.0.0")
    server.server_close()
    assert [server.answers_to(host) for host in ("192.0.2.1:80", "localhost", "evil.example")] == [True, True, False]
    named = SandboxServer(sandbox, "localhost")
    named.server_close()
    assert named.answers_to("localhost:12111")


def test_requests_in_a_row_on_one_connection(server: SandboxServer) -> None:
    one = CURL.replace("Connection: close\n", "")
    answers = exchange(server, one + one + CURL)
    assert answers.count(b"HTTP/1.1 200 OK") == 3


def test_answers_come_in_the_order_of_the_requests(server: SandboxServer) -> None:
    """Sent in one go, with bodies between them; the empty lines are what old clients send after a body."""
    texts = [CURL.replace("From+curl", f"Name+{n:04}").replace("Connection: close\n", "") for n in range(20)]
    answers = exchange(server, "\n".join(texts) + "\n\n" + CURL)
    names = re.findall(rb'"name":"([^"]*)"', answers)
    assert names == [b"Name %04d" % n for n in range(20)] + [b"From curl"]


def test_a_request_may_come_byte_by_byte(server: SandboxServer) -> None:
    with socket.create_connection((server.host, server.port), timeout=30) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in CURL.replace("\n", "\r\n").encode():
            connection.sendall(bytes([byte]))
        assert connection.makefile("rb").read().startswith(b"HTTP/1.1 200 OK")


def test_lines_may_end_without_a_carriage_return(server: SandboxServer) -> None:
    assert exchange(server, CURL.encode()).startswith(b"HTTP/1.1 200 OK")


@pytest.mark.parametrize(
    ("version", "header", "answers"),
    [
        ("1.1", "", 2),
        ("1.1", "Connection: keep-alive\n", 2),
        ("1.1", "Connection: close\n", 1),
        ("1.1", "Connection: Keep-Alive, Close\n", 1),
        ("1.0", "", 1),
        ("1.0", "Connection: keep-alive\n", 2),
    ],
)
def test_when_the_connection_stays(server: SandboxServer, version: str, header: str, answers: int) -> None:
    def text(header: str) -> str:
        return f"GET /v1/products HTTP/{version}\nAuthorization: Bearer sk_test_x\n{header}\n"

    assert exchange(server, text(header) + text("Connection: close\n")).count(b" 200 OK") == answers


def test_head_is_answered_without_a_body(server: SandboxServer) -> None:
    """The next answer on the connection begins where it should."""
    text = "HEAD /v1/products HTTP/1.1\nAuthorization: Bearer sk_test_x\n\n"
    first, second, body = exchange(server, text + CURL).split(b"\r\n\r\n")
    assert re.search(rb"content-length: [1-9]", first)
    assert second.startswith(b"HTTP/1.1 200 OK")
    assert json.loads(body)["name"] == "From curl"


def test_https_is_refused_at_once(server: SandboxServer) -> None:
    """The first bytes of a TLS handshake: no line will ever end."""
    assert exchange(server, b"\x16\x03\x01\x02\x00\x01\x00").startswith(b"HTTP/1.1 400 ")


HALVES = ["GET", "GET / HTTP/1.1\nHost: localhost\n", "POST /v1/products HTTP/1.1\nContent-Length: 100\n\nname="]


@pytest.mark.parametrize("text", HALVES)
def test_half_a_request_is_told_so(server: SandboxServer, text: str) -> None:
    with socket.create_connection((server.host, server.port), timeout=30) as connection:
        connection.sendall(text.replace("\n", "\r\n").encode())
        connection.shutdown(socket.SHUT_WR)
        assert connection.makefile("rb").read().startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize(("text", "begins"), [("", b""), *((text, b"HTTP/1.1 408 ") for text in HALVES)])
def test_a_client_that_says_nothing_more_is_not_waited_for(sandbox: Sandbox, text: str, begins: bytes) -> None:
    with serving(sandbox, idle_seconds=0.1) as impatient:
        answer = exchange(impatient, text)
    assert answer[:13] == begins


def test_a_client_that_goes_away_in_the_middle_harms_nobody(server: SandboxServer, remote: stripe.StripeClient) -> None:
    with socket.create_connection((server.host, server.port)) as connection:
        connection.sendall(b"POST /v1/products HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nname=")
    assert remote.v1.products.list().data == []


def test_many_clients_at_once(server: SandboxServer) -> None:
    def work(number: int) -> list[int]:
        connection = http.client.HTTPConnection(server.host, server.port, timeout=60)
        statuses = []
        for turn in range(20):
            body = f"name=c{number}t{turn}"
            connection.request("POST", "/v1/products", body, {"Authorization": "Bearer sk_test_x"})
            answer = connection.getresponse()
            answer.read()
            statuses.append(answer.status)
        connection.close()
        return statuses

    with ThreadPoolExecutor(8) as threads:
        assert {status for statuses in threads.map(work, range(8)) for status in statuses} == {200}


# -- the command ------------------------------------------------------------------------------------------------------


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "sandbox", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, **environment},
    )


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_serve_says_where_and_keeps_its_file(tmp_path: Path, stop: signal.Signals) -> None:
    path = tmp_path / "stripe.db"
    command = [sys.executable, "-m", "sandbox", "serve", "--port", "0", "--file", str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.match(r"Sandbox on (http://127\.0\.0\.1:\d+), file (.+)\. Any key", line)
        assert found is not None, line
        assert found.group(2) == str(path)
        address = urlsplit(found.group(1))
        connection = http.client.HTTPConnection(str(address.hostname), address.port, timeout=30)
        connection.request("POST", "/v1/products", "name=Kept", {"Authorization": "Bearer sk_test_x"})
        assert connection.getresponse().status == 200
        connection.close()
        process.send_signal(stop)
        _, errors = process.communicate(timeout=60)
        assert errors == ""
        assert process.returncode == (0 if stop != signal.SIGKILL else -signal.SIGKILL)
    log = run("requests", "--file", str(path))
    assert [json.loads(line)["url"] for line in log.stdout.splitlines()] == ["/v1/products"]
    assert run("reset", STRIPE_SANDBOX_FILE=str(path)).stdout == f"The sandbox file {path} is empty.\n"
    assert run("requests", "--file", str(path)).stdout == ""


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_serve_finishes_what_is_under_way_before_it_stops(tmp_path: Path, stop: signal.Signals) -> None:
    command = [sys.executable, "-m", "sandbox", "serve", "--port", "0", "--file", str(tmp_path / "stripe.db")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        address = process.stdout.readline().split()[2].removeprefix("http://").rstrip(",")

        def call(method: str, path: str, body: str | None = None) -> Any:
            connection = http.client.HTTPConnection(address, timeout=60)
            connection.request(method, path, body, {"Authorization": "Bearer sk_test_x"})
            answer = connection.getresponse()
            assert answer.status == 200
            found = json.loads(answer.read())
            connection.close()
            return found

        call("POST", "/_sandbox/faults", json.dumps({"path": "/v1/products", "delay": 0.5}))
        with ThreadPoolExecutor(1) as thread:
            slow = thread.submit(call, "POST", "/v1/products", "name=Slow")
            # The fault is used up by the request that it delays.
            while call("GET", "/_sandbox/faults")["data"]:
                pass
            process.send_signal(stop)
            assert slow.result(timeout=60)["name"] == "Slow"
        assert process.communicate(timeout=60)[1] == ""
        assert process.returncode == 0


def test_a_server_that_stops_lets_go_of_its_clients(sandbox: Sandbox, control: Control) -> None:
    with serving(sandbox) as server:
        idle = http.client.HTTPConnection(server.host, server.port, timeout=30)
        idle.request("GET", "/v1/products", headers={"Authorization": "Bearer sk_test_x"})
        idle.getresponse().read()
        half = socket.create_connection((server.host, server.port), timeout=30)
        half.sendall(b"POST /v1/products HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 100\r\n\r\n")
        assert half.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert idle.sock.recv(100) == b""
    assert half.recv(100).startswith(b"HTTP/1.1 503 ")
    idle.close()
    half.close()
    assert control("GET", "")["objects"] == {}


def test_a_server_does_not_wait_for_ever_to_stop(sandbox: Sandbox, control: Control) -> None:
    control("POST", "faults", path="/v1/products", delay=0.5)
    with serving(sandbox) as server, ThreadPoolExecutor(1) as thread:
        slow = thread.submit(exchange, server, CURL)
        while control("GET", "faults")["data"]:
            pass
        assert server.finish(0) == 1
        assert slow.result(timeout=60).startswith(b"HTTP/1.1 200 OK")
        assert server.finish() == 0


def test_serve_on_a_taken_port_and_on_a_damaged_file(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = run("serve", "--port", port, "--file", str(tmp_path / "a.db"))
    assert done.returncode == 1
    assert done.stderr.startswith(f"sandbox: cannot listen on 127.0.0.1, port {port}")
    (tmp_path / "b.db").write_bytes(b"garbage" * 1000)
    done = run("serve", "--file", str(tmp_path / "b.db"))
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "b.db" in done.stderr


def test_each_request_waits_for_the_latency_and_control_does_not(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []
    with serving(sandbox, latency=0.2) as server:
        monkeypatch.setattr("sandbox.server.time.sleep", waited.append)
        for path in ("/v1/products", "/_sandbox/requests"):
            exchange(server, f"GET {path} HTTP/1.0\nAuthorization: Bearer sk_test_x\n\n")
    assert waited == [0.2]


@pytest.mark.parametrize("text", ["x", "-1", "nan", "60001"])
def test_a_latency_is_a_number_of_milliseconds(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        cli.main(["serve", f"--latency={text}"])
    assert f"--latency: {text} is not a number of milliseconds from 0 to 60,000" in capsys.readouterr().err
