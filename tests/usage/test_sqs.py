"""Fleets over SQS, against moto's real server: several processes, a killed worker, redelivery and dead letters."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import usage
import usage.sqs
from usage.client import Client
from usage.sqs import Queue, check_address

from .conftest import EVENT, World

QUEUE = "sqs://usage"


@pytest.fixture(scope="module")
def aws() -> Iterator[dict[str, str]]:
    """The environment of a process whose AWS is moto on a free loopback port."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield {
        "AWS_ENDPOINT_URL_SQS": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    server.stop()


@pytest.fixture
def sqs(aws: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A boto3 client with an empty queue `usage`, whose messages move to `usage-dead` at their third reception."""
    import boto3

    for name, value in aws.items():
        monkeypatch.setenv(name, value)
    client = boto3.client("sqs")
    dead = client.create_queue(QueueName="usage-dead")["QueueUrl"]
    arn = client.get_queue_attributes(QueueUrl=dead, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    policy = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": "3"})
    url = client.create_queue(QueueName="usage", Attributes={"RedrivePolicy": policy})["QueueUrl"]
    yield client
    for each in (url, dead):
        client.delete_queue(QueueUrl=each)
    client.close()


def depth(sqs: Any, name: str = "usage") -> int:
    """Messages in a queue, hidden ones included."""
    url = sqs.get_queue_url(QueueName=name)["QueueUrl"]
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    return sum(map(int, sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"].values()))


def put(count: int, customer: str, **options: Any) -> None:
    with Client(spool="producer.db", outbox=QUEUE, **options) as producer:
        producer.record_many({"event_name": EVENT, "customer": customer, "value": 1} for _ in range(count))
        result = producer.flush()
        assert result.complete
        assert result.delivered == count
        assert "queue" in result.destination


def drain(**options: Any) -> Any:
    with Client(spool="drain.db", background=False) as worker:
        return worker.drain(QUEUE, idle_seconds=0, **options)


def test_producers_pack_and_drains_deliver(embedded: World, meter: str, customer: str, sqs: Any) -> None:
    put(1050, customer)
    assert depth(sqs) == 3
    result = drain()
    assert (result.messages, result.delivered, result.complete, result.sandbox) == (3, 1050, True, True)
    assert depth(sqs) == 0
    assert embedded.total(meter, customer) == 1050


def test_send_through_an_outbox_is_queued_not_delivered(embedded: World, meter: str, customer: str, sqs: Any) -> None:
    with Client(outbox=QUEUE) as producer:
        assert producer.send(EVENT, customer, 5).state == "queued"
        assert producer.status().queued == 1


def test_the_same_message_twice_bills_once(embedded: World, meter: str, customer: str, sqs: Any) -> None:
    put(100, customer)
    url = sqs.get_queue_url(QueueName="usage")["QueueUrl"]
    (message,) = sqs.receive_message(QueueUrl=url, VisibilityTimeout=0)["Messages"]
    sqs.send_message(QueueUrl=url, MessageBody=message["Body"])
    assert drain().messages == 2
    assert embedded.total(meter, customer) == 100


@pytest.mark.usefixtures("one_attempt")
def test_what_cannot_be_delivered_goes_back_and_comes_again(
    embedded: World, meter: str, customer: str, sqs: Any
) -> None:
    put(10, customer)
    embedded.control("faults", path="/v2/billing/meter_event_stream", status=500, count=1)
    result = drain()
    assert (result.delivered, result.returned, result.complete) == (0, 1, False)
    assert depth(sqs) == 1
    for _ in range(200):
        result = drain()
        if result.messages:
            break
        time.sleep(0.05)
    assert result.delivered == 10
    assert embedded.total(meter, customer) == 10


def test_refused_events_are_dead_letters_of_the_drain(embedded: World, meter: str, customer: str, sqs: Any) -> None:
    with Client(spool="producer.db", outbox=QUEUE) as producer:
        producer.record("no_such_meter", customer, 1, identifier="stray")
        producer.record(EVENT, customer, 1)
    result = drain()
    assert (result.delivered, result.refused_count, result.returned, result.complete) == (1, 1, 0, False)
    assert depth(sqs) == 0
    with Client(spool="drain.db") as worker:
        (letter,) = worker.dead_letters()
        assert (letter.identifier, letter.settled_at == letter.recorded_at > 0) == ("stray", True)


def test_a_revoked_key_stops_the_drain_and_leaves_the_queue(
    embedded: World, meter: str, customer: str, sqs: Any
) -> None:
    put(1100, customer)
    embedded.control(
        "faults", path="/v2/billing/meter_event_s*", skip=2, count=None, status=401, message="Expired API Key"
    )
    result = drain()
    assert result.stopped is not None
    assert "Expired API Key" in result.stopped
    assert result.delivered == 100
    assert depth(sqs) == 3


def test_a_message_that_may_have_been_sent_a_day_ago_is_not_resent(
    embedded: World, meter: str, customer: str, sqs: Any
) -> None:
    put(5, customer)
    url = sqs.get_queue_url(QueueName="usage")["QueueUrl"]
    assert sqs.receive_message(QueueUrl=url, VisibilityTimeout=0)["Messages"]  # a worker that died with it
    later = time.time() + 25 * 3600
    with Client(spool="drain.db", clock=lambda: later) as worker:
        result = worker.drain(QUEUE, idle_seconds=0)
        assert (result.delivered, result.unknown, result.complete) == (0, 5, False)
        assert worker.status().unknown == 5
        assert [row.verdict for row in worker.verify().differences] == ["missing"]
        names = [kept.identifier for kept in worker.spool.with_state("unknown")]
        assert len(worker.retry(identifiers=names)) == 5  # by somebody who knows that nothing had arrived
        assert worker.flush().complete
    assert embedded.total(meter, customer) == 5


def later(seconds: int) -> float:
    return time.time() + seconds


def test_a_dead_letter_queue_is_drained_like_any_other_and_keeps_the_age_of_its_messages(
    embedded: World, meter: str, customer: str, sqs: Any
) -> None:
    url = sqs.get_queue_url(QueueName="usage")["QueueUrl"]
    for delivered in (5, 0):
        put(5, customer)
        for _ in range(4):
            sqs.receive_message(QueueUrl=url, VisibilityTimeout=0)
        assert (depth(sqs), depth(sqs, "usage-dead")) == (0, 1)
        ahead = 0 if delivered else 25 * 3600
        with Client(spool="drain.db", background=False, clock=partial(later, ahead)) as worker:
            result = worker.drain("sqs://usage-dead", idle_seconds=0)
            assert (result.delivered, result.unknown) == (delivered, 5 - delivered)
    assert depth(sqs, "usage-dead") == 0
    assert embedded.total(meter, customer) == 5


def test_messages_of_another_mode_and_of_strangers_stay(
    embedded: World, meter: str, customer: str, sqs: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = sqs.get_queue_url(QueueName="usage")["QueueUrl"]
    sqs.send_message(QueueUrl=url, MessageBody="hello")
    sqs.send_message(
        QueueUrl=url, MessageBody=json.dumps({"usage": 3, "destination": "live:key-1", "events": [], "sent": []})
    )
    result = drain()
    assert result.stopped is not None
    assert "recorded for live" in result.stopped
    assert result.delivered == 0
    assert depth(sqs) == 2


def test_a_few_very_long_events_are_packed_apart(embedded: World, meter: str, customer: str, sqs: Any) -> None:
    dimensions = {f"key{number}": "x" * 490 for number in range(300)}
    with Client(spool="producer.db", outbox=QUEUE) as producer:
        producer.record_many(
            {"event_name": EVENT, "customer": customer, "value": 1, "dimensions": dimensions} for _ in range(3)
        )
        assert producer.flush().complete
    assert depth(sqs) == 3


def test_long_events_are_packed_into_more_messages(embedded: World, meter: str, customer: str, sqs: Any) -> None:
    dimensions = {f"key{number}": "x" * 490 for number in range(9)}
    with Client(spool="producer.db", outbox=QUEUE) as producer:
        producer.record_many(
            {"event_name": EVENT, "customer": customer, "value": 1, "dimensions": dimensions} for _ in range(200)
        )
        assert producer.flush().complete
    assert drain().delivered == 200
    assert embedded.total(meter, customer) == 200


def test_an_unreachable_queue_loses_nothing(
    embedded: World, meter: str, customer: str, sqs: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    producer = Client(spool="producer.db", outbox=QUEUE)
    producer.record(EVENT, customer, 5)
    queue = producer._sender.queue  # type: ignore[attr-defined]
    url, queue.url = queue.url, queue.url + "-gone"
    result = producer.flush()
    assert result.pending == 1
    assert result.stopped is not None
    queue.url = url
    assert producer.flush().complete
    assert drain().delivered == 1
    assert embedded.total(meter, customer) == 5
    producer.close()


@pytest.mark.parametrize("address", ["usage", "sqs://", "sqs://a/b", "sqs://h/a/q?x", "https://h/a/q", "sqs://u@h/a/q"])
def test_an_address_that_is_no_queue_is_refused_at_once(address: str) -> None:
    with pytest.raises(usage.DestinationError, match="sqs://"):
        check_address(address)
    with pytest.raises(usage.DestinationError):
        Client(outbox=address)


def test_a_queue_that_does_not_exist_is_a_sentence(embedded: World, sqs: Any) -> None:
    producer = Client(outbox="sqs://nothing")
    producer.record(EVENT, "cus_1", 1)
    with pytest.raises(usage.DestinationError, match="nothing"):
        producer.flush()
    assert producer.status().pending == 1
    producer.close(0)


def test_a_full_address_names_the_queue(sqs: Any, aws: dict[str, str]) -> None:
    host = aws["AWS_ENDPOINT_URL_SQS"].removeprefix("http://")
    assert Queue(f"sqs://{host}/123456789012/usage").take(0) is None


def test_a_delivery_ends_before_its_message_shows_again(
    embedded: World, meter: str, customer: str, sqs: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(10, customer)
    assert usage.sqs.DELIVERY_SECONDS < usage.sqs.VISIBILITY
    monkeypatch.setattr("usage.sqs.DELIVERY_SECONDS", 0)
    result = drain()
    assert (result.delivered, result.returned) == (0, 1)
    assert depth(sqs) == 1
    monkeypatch.undo()


def test_sigterm_ends_a_drain_in_order(embedded: World, meter: str, customer: str, sqs: Any) -> None:
    put(10, customer)
    command = [sys.executable, "-m", "usage.cli", "drain", "--queue", QUEUE, "--forever", "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    for _ in range(1200):
        if embedded.total(meter, customer) == 10:
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    put(1, customer)  # wakes the long poll
    out, _ = process.communicate(timeout=60)
    assert process.returncode in (0, 1)  # 1 when it had just taken the last message and gave it back
    assert json.loads(out)["delivered"] >= 10


PRODUCER = """
import sys, usage
number, customers = int(sys.argv[1]), sys.argv[2].split(",")
with usage.Client(spool=f"producer{number}.db", outbox="sqs://usage") as client:
    for block in range(25):
        client.record_many(
            {"event_name": "alpaca_ai_tokens", "customer": customers[(number + place) % len(customers)],
             "value": 1 + place % 3}
            for place in range(block * 1000, block * 1000 + 1000)
        )
    assert client.flush().complete
"""


@pytest.mark.slow
def test_four_producers_three_drains_one_killed_a_hundred_thousand_events(
    world: World, meter: str, aws: dict[str, str], sqs: Any, tmp_path: Path
) -> None:
    customers = [world.customer(f"customer {number}") for number in range(10)]
    expected = dict.fromkeys(customers, 0)
    for producer in range(4):
        for place in range(25_000):
            expected[customers[(producer + place) % 10]] += 1 + place % 3
    world.control("log", on=False)
    server = subprocess.Popen(
        [sys.executable, "-m", "sandbox", "serve", "--port", "0", "--file", world.path],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    processes = [server]
    try:
        assert server.stdout is not None
        address = ""
        while "http://127.0.0.1:" not in address:
            address = server.stdout.readline()
            assert address, "the sandbox did not start"
        base = next(word for word in address.split() if word.startswith("http://127.0.0.1:")).rstrip(".,;")
        environment = {**os.environ, "STRIPE_MODE": "sandbox", "STRIPE_API_BASE": base}

        def start(*arguments: str) -> subprocess.Popen[str]:
            process = subprocess.Popen(arguments, env=environment, stdout=subprocess.PIPE, text=True)
            processes.append(process)
            return process

        def start_drain(number: int) -> subprocess.Popen[str]:
            # The message of the killed drain shows again before the others are idle.
            program = "import sys, usage.cli, usage.sqs; usage.sqs.VISIBILITY = 10; sys.exit(usage.cli.main())"
            options = ("--queue", QUEUE, "--spool", f"drain{number}.db", "--idle", "12", "--json")
            return start(sys.executable, "-c", program, "drain", *options)

        producers = [start(sys.executable, "-c", PRODUCER, str(number), ",".join(customers)) for number in range(4)]
        drains = [start_drain(number) for number in range(3)]
        before = 0
        for _ in range(1200):  # the first drain dies in the middle of its work
            before = int(sum(world.total(meter, customer) for customer in customers))
            if before > 5_000:
                break
            time.sleep(0.05)
        assert before > 5_000
        assert drains[0].poll() is None
        drains[0].send_signal(signal.SIGKILL)
        assert [producer.wait(timeout=240) for producer in producers] == [0, 0, 0, 0]
        results = [json.loads(process.communicate(timeout=240)[0]) for process in drains[1:]]
        assert all(result["complete"] for result in results)
        assert depth(sqs) == 0
        assert depth(sqs, "usage-dead") == 0
        assert {customer: world.total(meter, customer) for customer in customers} == expected
    finally:
        for process in processes:
            process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()
