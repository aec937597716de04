"""An outbox on Amazon SQS for a fleet: producers put batches of events into messages, drains deliver and delete them.

The spool still comes first: an event is on the producer's disk before it is in the queue. SQS delivers a message at
least once. The identifiers inside make a second delivery harmless within Stripe's 24 hours, and each message records
since when its events may have been sent, so no drain resends them after that.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from .delivery import Delivery, Done, Sender, Tally
from .errors import DestinationError, UsageError
from .events import Event
from .results import Flush
from .spool import RESEND_MARGIN, UNIQUENESS_SECONDS, Kept, Spool

MESSAGE_EVENTS = 500  # five stream calls: few messages, and little to repeat if a worker dies
MESSAGE_BYTES = 240_000  # below the 256 KiB that every SQS accepts
LONG_POLL = 5  # seconds; SQS allows 20, but SIGTERM waits for the poll, and container runtimes give 10
VISIBILITY = 120  # seconds that a received message is hidden from other drains
DELIVERY_SECONDS = 100  # its delivery ends before it shows again; what is left comes again
VERSION = 3


def check_address(address: str) -> None:
    """Raise DestinationError unless `address` is sqs://NAME or sqs://HOST/ACCOUNT/NAME."""
    rest = address.removeprefix("sqs://")
    parts = rest.split("/")
    if rest == address or len(parts) not in (1, 3) or not all(parts) or "@" in rest or "?" in rest:
        raise DestinationError(f"the outbox {address!r} is not sqs://NAME or sqs://HOST/ACCOUNT/NAME")


class Queue:
    """One SQS queue. Region, credentials and endpoint come from boto3's usual places (AWS_REGION, profiles, roles)."""

    def __init__(self, address: str) -> None:
        check_address(address)
        try:
            import boto3
            from botocore.config import Config
            from botocore.exceptions import BotoCoreError, ClientError
        except ImportError:
            raise UsageError("an SQS outbox needs boto3: install the extra `sqs` (stripe-pricing[sqs])") from None
        self.address = address
        self._errors: tuple[type[Exception], ...] = (BotoCoreError, ClientError)
        name = address.removeprefix("sqs://")
        try:
            # a long poll itself takes some seconds
            config = Config(retries={"mode": "standard", "max_attempts": 5}, read_timeout=60, connect_timeout=10)
            self._sqs: Any = boto3.client("sqs", config=config)
            scheme = self._sqs.meta.endpoint_url.partition("://")[0]
            self.url = f"{scheme}://{name}" if "/" in name else self._sqs.get_queue_url(QueueName=name)["QueueUrl"]
        except self._errors as problem:
            raise DestinationError(f"the queue {address} cannot be used: {problem}") from None

    @contextlib.contextmanager
    def _saying(self, what: str) -> Iterator[None]:
        try:
            yield
        except self._errors as problem:
            raise UsageError(f"the queue {self.address} {what}: {problem}") from None

    def put(self, body: str) -> None:
        """Put a message into the queue."""
        with self._saying("did not accept a batch"):
            self._sqs.send_message(QueueUrl=self.url, MessageBody=body)

    def take(self, wait: int) -> dict[str, Any] | None:
        """Receive a message, hidden from other drains for VISIBILITY seconds; waits up to `wait` seconds for one."""
        how = {"MaxNumberOfMessages": 1, "WaitTimeSeconds": wait, "VisibilityTimeout": VISIBILITY}
        with self._saying("cannot be read"):
            answer = self._sqs.receive_message(QueueUrl=self.url, MessageSystemAttributeNames=["All"], **how)
        return next(iter(answer.get("Messages", [])), None)

    def delete(self, message: dict[str, Any]) -> None:
        """Delete a message whose events are settled. If that fails, the message comes again, which is harmless."""
        with contextlib.suppress(*self._errors):
            self._sqs.delete_message(QueueUrl=self.url, ReceiptHandle=message["ReceiptHandle"])

    def put_back(self, message: dict[str, Any], seconds: int) -> None:
        """Return a message to the queue, hidden for `seconds` from now."""
        with contextlib.suppress(*self._errors):  # deleted, or expired and with another drain: both fine
            how = {"ReceiptHandle": message["ReceiptHandle"], "VisibilityTimeout": seconds}
            self._sqs.change_message_visibility(QueueUrl=self.url, **how)


class Outbox(Sender):
    """Puts a spool's events into a queue; drains deliver them."""

    def __init__(self, spool: Spool, mine: Callable[[], list[str]], queue: Queue) -> None:
        super().__init__(spool, mine)
        self.queue = queue

    def send(self, rows: Sequence[Kept], deadline: float | None, done: Done, *, alone: bool = False) -> None:
        destination = self.mine()[0]
        for batch in _packed(rows):
            if self._over(deadline):
                done(batch)
                continue
            events = [row[:6] for row in batch]
            sent = [row.unknown_since for row in batch]
            try:
                self.queue.put(_json({"usage": VERSION, "destination": destination, "events": events, "sent": sent}))
            except UsageError as problem:
                self.stopped = str(problem)
            else:
                done([row._replace(state="queued", unknown_since=None) for row in batch])


def _json(data: object) -> str:
    return json.dumps(data, separators=(",", ":"))


def _packed(rows: Sequence[Kept]) -> Iterator[list[Kept]]:
    """Batches that each fit into a message."""
    batch: list[Kept] = []
    size = 0
    for row in rows:
        length = len(_json(row[:6])) + 20
        if batch and (len(batch) == MESSAGE_EVENTS or size + length > MESSAGE_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(row)
        size += length
    if batch:
        yield batch


class Drain:
    """One worker: receives messages, delivers their events, deletes settled messages.

    Before it deletes a message, refused events and those whose fate has been unknown for too long go into this worker's
    spool, where `usage status`, `retry` and `verify` find them.
    """

    def __init__(self, delivery: Delivery, queue: Queue, clock: Callable[[], float]) -> None:
        self.delivery = delivery
        self.queue = queue
        self.clock = clock
        self.tally = Tally()
        self.stopped: str | None = None
        self._unknown = 0

    def run(self, idle_seconds: float | None, stop: threading.Event) -> Flush:
        """See `Client.drain`."""
        messages = returned = 0
        idle_since = time.monotonic()
        while not stop.is_set() and self.stopped is None:
            left = LONG_POLL if idle_seconds is None else idle_seconds - (time.monotonic() - idle_since)
            message = self.queue.take(max(0, min(LONG_POLL, round(left))))
            if message is not None:
                messages += 1
                again = self._deliver(message)
                if again is None:
                    self.queue.delete(message)
                else:
                    self.queue.put_back(message, again)
                    returned += 1
                idle_since = time.monotonic()
            elif idle_seconds is not None and time.monotonic() - idle_since >= idle_seconds:
                break
            elif left < 1:
                stop.wait(0.05)
        where = self.delivery.api.destination
        done = {**self.tally.as_flush(), "stopped": self.stopped, "unknown": self._unknown}
        return Flush(where.label, where.sandbox, messages=messages, returned=returned, **done)

    def _deliver(self, message: dict[str, Any]) -> int | None:
        """Deliver one message; None if all its events are settled and it can be deleted, else the seconds until another
        drain may receive it."""
        where, now = self.delivery.api.destination, int(self.clock())
        attributes = message.get("Attributes", {})
        times = int(attributes.get("ApproximateReceiveCount", "1"))
        before = None
        dead = "DeadLetterQueueSourceArn" in attributes  # drained from a dead-letter queue: it was received before
        if times > 1 or dead:
            moment = "SentTimestamp" if dead else "ApproximateFirstReceiveTimestamp"
            before = int(attributes.get(moment, "0")) // 1000 or now
        try:
            data = json.loads(message["Body"])
            if data["usage"] != VERSION:
                raise ValueError
            destination, events = data["destination"], [Event(*fields) for fields in data["events"]]
            sent = [min(filter(None, (one, before)), default=None) for one in data["sent"]]
        except (ValueError, KeyError, TypeError):
            return VISIBILITY  # not ours: it stays, and the queue's redrive policy moves it away
        if destination and destination not in self.delivery.mine():
            here = f"{where.identity} ({where.label}); producers need no key at all"
            self.stopped = f"the queue holds events recorded for {destination}, and this drain delivers to {here}"
            return 0
        pairs = zip(events, sent, strict=True)
        rows = [Kept(*event, 0, where.identity, "pending", now, since) for event, since in pairs]
        too_late = now - UNIQUENESS_SECONDS + RESEND_MARGIN
        unknown = [row for row in rows if row.unknown_since is not None and row.unknown_since < too_late]
        decided = [row._replace(state="unknown") for row in unknown]
        self.delivery.begin()
        self.delivery.send(
            [row for row in rows if row not in unknown], time.monotonic() + DELIVERY_SECONDS, decided.extend
        )
        self.delivery.spool.take_in([row for row in decided if row.state in ("unknown", "dead")])
        self._unknown += len(unknown)
        self.tally.add(decided)
        if sum(row.state != "pending" for row in decided) == len(rows):
            return None
        self.stopped = self.stopped or self.delivery.stopped
        # the receive count is the number of attempts: wait longer each time
        return min(900, 2 ** min(times, 9)) if self.stopped is None else 0
