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
from typing import TYPE_CHECKING, Any

from .delivery import Sender, Tally
from .errors import DestinationError, UsageError
from .events import Event
from .results import Drained
from .spool import RESEND_MARGIN, UNIQUENESS_SECONDS, Kept

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from .delivery import Delivery, Done
    from .spool import Spool

MESSAGE_EVENTS = 500  # five stream calls: few messages, and little to repeat when a worker dies
CALL_MESSAGES = 10  # SendMessageBatch and ReceiveMessage: at most ten
CALL_BYTES = 240_000  # below the 256 KiB that every SQS takes in one call
LONG_POLL = 5  # seconds; SQS allows 20, but SIGTERM waits for the poll, and container runtimes give 10
VERSION = 2


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

    def put(self, bodies: Sequence[str]) -> dict[int, str]:
        """Put up to ten messages into the queue; returns why, by place, for those that the queue refused. Raises
        UsageError when nobody can say what became of them."""
        entries = [{"Id": str(place), "MessageBody": body} for place, body in enumerate(bodies)]
        try:
            answer = self._sqs.send_message_batch(QueueUrl=self.url, Entries=entries)
        except self._errors as problem:
            raise UsageError(f"the queue {self.address} did not take a batch: {problem}") from None
        return {int(one["Id"]): str(one.get("Message") or one.get("Code")) for one in answer.get("Failed", ())}

    def take(self, visibility: int, wait: int) -> list[dict[str, Any]]:
        """Up to ten messages, hidden from the other drains for `visibility` seconds; waits up to `wait` seconds."""
        how = {"MaxNumberOfMessages": CALL_MESSAGES, "WaitTimeSeconds": wait, "VisibilityTimeout": visibility}
        try:
            answer = self._sqs.receive_message(QueueUrl=self.url, MessageSystemAttributeNames=["All"], **how)
        except self._errors as problem:
            raise UsageError(f"the queue {self.address} cannot be read: {problem}") from None
        messages: list[dict[str, Any]] = answer.get("Messages", [])
        return messages

    def delete(self, messages: Sequence[dict[str, Any]]) -> None:
        """Remove messages (at most ten) whose events are settled. A failure makes them come again: harmless."""
        entries = [{"Id": str(n), "ReceiptHandle": one["ReceiptHandle"]} for n, one in enumerate(messages)]
        if entries:
            with contextlib.suppress(*self._errors):
                self._sqs.delete_message_batch(QueueUrl=self.url, Entries=entries)

    def hide(self, message: dict[str, Any], seconds: int) -> None:
        """Keep a message hidden for `seconds` from now; 0 gives it back at once."""
        with contextlib.suppress(*self._errors):  # deleted, or its time is over and another drain has it: both fine
            receipt = message["ReceiptHandle"]
            self._sqs.change_message_visibility(QueueUrl=self.url, ReceiptHandle=receipt, VisibilityTimeout=seconds)


class Outbox(Sender):
    """Hands a spool's events to a queue; whoever drains it delivers them."""

    def __init__(self, spool: Spool, mine: Callable[[], list[str]], queue: Queue) -> None:
        super().__init__(spool, mine)
        self.queue = queue

    def send(self, rows: Sequence[Kept], deadline: float | None, done: Done, *, alone: bool = False) -> None:
        group: list[tuple[str, list[Kept]]] = []
        size = 0
        destination = self.mine()[0]
        for packed in _packed(rows, destination):
            body = _body(packed, destination)
            if group and (len(group) == CALL_MESSAGES or size + len(body) > CALL_BYTES):
                self._put(group, deadline, done)
                group, size = [], 0
            group.append((body, packed))
            size += len(body)
        if group:
            self._put(group, deadline, done)

    def _put(self, group: list[tuple[str, list[Kept]]], deadline: float | None, done: Done) -> None:
        refused = dict.fromkeys(range(len(group)), "")
        if not self._over(deadline):
            try:
                refused = self.queue.put([body for body, _ in group])
            except UsageError as problem:
                self.stopped = str(problem)
                return
        for place, (_, rows) in enumerate(group):
            if place not in refused:
                done([row._replace(state="queued", unknown_since=None) for row in rows])
            else:
                done(rows)
                if refused[place]:
                    self.stopped = f"the queue {self.queue.address} refused a message: {refused[place]}"


def _packed(rows: Sequence[Kept], destination: str) -> Iterator[list[Kept]]:
    # events that may be in the queue already travel apart, so that only they carry a "since"
    for wanted in (False, True):
        some = [row for row in rows if (row.unknown_since is not None) is wanted]
        for first in range(0, len(some), MESSAGE_EVENTS):
            batch = some[first : first + MESSAGE_EVENTS]
            while len(batch) > 1 and len(_body(batch, destination)) > CALL_BYTES:
                few = max(1, len(batch) // 10)
                yield batch[:few]
                batch = batch[few:]
            yield batch


def _body(rows: Sequence[Kept], destination: str) -> str:
    since = min((row.unknown_since for row in rows if row.unknown_since is not None), default=None)
    body = {"usage": VERSION, "destination": destination, "since": since, "events": [row[:6] for row in rows]}
    return json.dumps(body, separators=(",", ":"))


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
        self.messages = self.unknown = self.returned = 0
        self.stopped: str | None = None
        self._hidden: dict[str, dict[str, Any]] = {}
        self._lock = threading.Lock()

    def run(self, idle_seconds: float | None, stop: threading.Event | None) -> Drained:
        """See `Client.drain`."""
        stop = stop or threading.Event()
        heart = threading.Event()
        beat = threading.Thread(target=self._heartbeat, args=(heart,), name="usage-visibility", daemon=True)
        beat.start()
        idle_since = time.monotonic()
        try:
            while not stop.is_set() and self.stopped is None:
                left = LONG_POLL if idle_seconds is None else idle_seconds - (time.monotonic() - idle_since)
                messages = self.queue.take(self.visibility, max(0, min(LONG_POLL, round(left))))
                if messages:
                    self._work(messages, stop)
                    idle_since = time.monotonic()
                elif idle_seconds is not None and time.monotonic() - idle_since >= idle_seconds:
                    break
                elif left < 1:
                    stop.wait(0.05)
        finally:
            heart.set()
            beat.join()
        where, counts = self.delivery.api.destination, self.tally.counts()
        counts |= {"unknown": self.unknown, "messages": self.messages, "returned": self.returned}
        return Drained(where.label, where.sandbox, stopped=self.stopped, **counts)

    def _heartbeat(self, done: threading.Event) -> None:
        """Keep the messages in hand hidden for as long as their delivery takes."""
        while not done.wait(self.visibility / 3):
            with self._lock:
                held = list(self._hidden.values())
            for message in held:
                self.queue.hide(message, self.visibility)

    def _work(self, messages: list[dict[str, Any]], stop: threading.Event) -> None:
        with self._lock:
            self._hidden = {message["ReceiptHandle"]: message for message in messages}
        done: list[dict[str, Any]] = []
        for message in messages:
            if stop.is_set() or self.stopped is not None:
                self._give_back(message, 0)
                continue
            self.messages += 1
            wait = self._deliver(message)
            if wait is None:
                done.append(message)
            else:
                self._give_back(message, wait)
        self.queue.delete(done)
        with self._lock:
            self._hidden = {}

    def _give_back(self, message: dict[str, Any], seconds: int) -> None:
        with self._lock:
            self._hidden.pop(message["ReceiptHandle"], None)
        self.queue.hide(message, seconds)
        self.returned += 1

    def _deliver(self, message: dict[str, Any]) -> int | None:
        """Deliver one message; None when all its events are settled and it can be deleted, else after how many seconds
        another drain may have it."""
        spool, where = self.delivery.spool, self.delivery.api.destination
        attributes = message.get("Attributes", {})
        times, now = int(attributes.get("ApproximateReceiveCount", "1")), int(self.clock())
        try:
            data = json.loads(message["Body"])
            if data["usage"] != VERSION:
                raise ValueError
            since, destination = data["since"], data["destination"]
            dead = "DeadLetterQueueSourceArn" in attributes  # drained from a dead-letter queue: it was taken before
            if times > 1 or dead:
                moment = "SentTimestamp" if dead else "ApproximateFirstReceiveTimestamp"
                first = int(attributes.get(moment, "0")) // 1000 or now
                since = min(first, since) if since else first
            rows = [
                Kept(*Event(*fields), place, where.identity, "pending", now, since)
                for place, fields in enumerate(data["events"])
            ]
        except (ValueError, KeyError, TypeError):
            return self.visibility  # not ours: it stays, and the queue's own redrive policy moves it away
        if destination and destination not in self.delivery.mine():
            here = f"{where.identity} ({where.label}); producers need no key at all"
            self.stopped = f"the queue holds events recorded for {destination}, and this drain delivers to {here}"
            return 0
        if since is not None and since < now - UNIQUENESS_SECONDS + RESEND_MARGIN:
            self.unknown += len(rows)
            spool.take_in([row._replace(state="unknown") for row in rows])
            return None
        decided: list[Kept] = []
        self.delivery.begin()
        self.delivery.send(rows, time.monotonic() + 600, decided.extend)
        spool.take_in([row for row in decided if row.state == "dead"])
        self.tally.add(decided)
        if sum(row.state != "pending" for row in decided) == len(rows):
            return None
        self.stopped = self.stopped or self.delivery.stopped
        # the receive count is the number of attempts: wait longer each time
        return min(900, 2 ** min(times, 9)) if self.stopped is None else 0
