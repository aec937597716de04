"""A fleet's outbox on Amazon SQS: producers put batches of events in messages, drains deliver and delete them.

The spool stays in front: an event is on the producer's disk before it is in the queue. SQS delivers a message at least
once; the identifiers inside make the second time harmless within Stripe's 24 hours, and each message carries since when
its events may have been sent, so that nobody resends them after that.
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
from .results import Drained
from .spool import RESEND_MARGIN, UNIQUENESS_SECONDS, Kept, Spool

MESSAGE_EVENTS = 500  # five stream calls: few messages, and little to repeat when a worker dies
MESSAGE_BYTES = 240_000  # below the 256 KiB that every SQS takes
LONG_POLL = 5  # seconds; SQS allows 20, but SIGTERM waits for the poll, and container runtimes give 10
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
            # a long poll waits some seconds by itself
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
        with self._saying("did not take a batch"):
            self._sqs.send_message(QueueUrl=self.url, MessageBody=body)

    def take(self, visibility: int, wait: int) -> dict[str, Any] | None:
        """A message, hidden from the other drains for `visibility` seconds; waits up to `wait` seconds for one."""
        how = {"MaxNumberOfMessages": 1, "WaitTimeSeconds": wait, "VisibilityTimeout": visibility}
        with self._saying("cannot be read"):
            answer = self._sqs.receive_message(QueueUrl=self.url, MessageSystemAttributeNames=["All"], **how)
        return next(iter(answer.get("Messages", [])), None)

    def delete(self, message: dict[str, Any]) -> None:
        """Remove a message whose events are settled. A failure makes it come again: harmless."""
        with contextlib.suppress(*self._errors):
            self._sqs.delete_message(QueueUrl=self.url, ReceiptHandle=message["ReceiptHandle"])

    def hide(self, message: dict[str, Any], seconds: int) -> None:
        """Keep a message hidden for `seconds` from now; 0 gives it back at once."""
        with contextlib.suppress(*self._errors):  # deleted, or its time is over and another drain has it: both fine
            how = {"ReceiptHandle": message["ReceiptHandle"], "VisibilityTimeout": seconds}
            self._sqs.change_message_visibility(QueueUrl=self.url, **how)


class Outbox(Sender):
    """Hands a spool's events to a queue; whoever drains it delivers them."""

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
    """Batches that fit into a message each."""
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
    """One worker: takes messages, delivers their events, deletes what is settled.

    Events that are refused, or whose fate is unknown for too long, go into this worker's spool before the message is
    deleted, where `usage status`, `retry` and `verify` find them.
    """

    def __init__(self, delivery: Delivery, queue: Queue, clock: Callable[[], float], *, visibility: int) -> None:
        if not 10 <= visibility <= 43_200:
            raise ValueError("visibility is between 10 seconds and 12 hours")
        self.delivery = delivery
        self.queue = queue
        self.clock = clock
        self.visibility = visibility
        self.tally = Tally()
        self.stopped: str | None = None
        self._unknown = 0
        self._in_hand: dict[str, Any] | None = None

    def run(self, idle_seconds: float | None, stop: threading.Event | None) -> Drained:
        """See `Client.drain`."""
        stop = stop or threading.Event()
        heart = threading.Event()
        beat = threading.Thread(target=self._heartbeat, args=(heart,), name="usage-visibility", daemon=True)
        beat.start()
        messages = returned = 0
        idle_since = time.monotonic()
        try:
            while not stop.is_set() and self.stopped is None:
                left = LONG_POLL if idle_seconds is None else idle_seconds - (time.monotonic() - idle_since)
                message = self._in_hand = self.queue.take(self.visibility, max(0, min(LONG_POLL, round(left))))
                if message is not None:
                    messages += 1
                    again = self._deliver(message)
                    self._in_hand = None
                    if again is None:
                        self.queue.delete(message)
                    else:
                        self.queue.hide(message, again)
                        returned += 1
                    idle_since = time.monotonic()
                elif idle_seconds is not None and time.monotonic() - idle_since >= idle_seconds:
                    break
                elif left < 1:
                    stop.wait(0.05)
        finally:
            heart.set()
            beat.join()
        where = self.delivery.api.destination
        done = {"messages": messages, "returned": returned, "unknown": self._unknown, **self.tally.counts}
        return Drained(where.label, where.sandbox, refused=self.tally.refused, stopped=self.stopped, **done)

    def _heartbeat(self, done: threading.Event) -> None:
        """Keep the message in hand hidden for as long as its delivery takes."""
        while not done.wait(self.visibility / 3):
            message = self._in_hand
            if message is not None:
                self.queue.hide(message, self.visibility)

    def _deliver(self, message: dict[str, Any]) -> int | None:
        """Deliver one message; None when all its events are settled and it can be deleted, else after how many seconds
        another drain may have it."""
        where, now = self.delivery.api.destination, int(self.clock())
        attributes = message.get("Attributes", {})
        times = int(attributes.get("ApproximateReceiveCount", "1"))
        before = None
        dead = "DeadLetterQueueSourceArn" in attributes  # drained from a dead-letter queue: it was taken before
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
            return self.visibility  # not ours: it stays, and the queue's own redrive policy moves it away
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
        self.delivery.send([row for row in rows if row not in unknown], time.monotonic() + 600, decided.extend)
        self.delivery.spool.take_in([row for row in decided if row.state in ("unknown", "dead")])
        self._unknown += len(unknown)
        self.tally.add(decided)
        if sum(row.state != "pending" for row in decided) == len(rows):
            return None
        self.stopped = self.stopped or self.delivery.stopped
        # the receive count is the number of attempts: wait longer each time
        return min(900, 2 ** min(times, 9)) if self.stopped is None else 0
