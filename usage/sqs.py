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

from .delivery import CHUNK, OUT_OF_TIME, Fates, Totals, delivering
from .errors import DestinationError, UsageError
from .events import Event
from .results import Drained
from .spool import RESEND_MARGIN, UNIQUENESS_SECONDS, Claimed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from .delivery import Delivery
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
            if "/" in name:
                scheme = self._sqs.meta.endpoint_url.partition("://")[0]
                self.url = f"{scheme}://{name}"
            else:
                self.url = self._sqs.get_queue_url(QueueName=name)["QueueUrl"]
        except self._errors as problem:
            raise DestinationError(f"the queue {address} cannot be used: {problem}") from None

    @contextlib.contextmanager
    def _saying(self, what: str) -> Iterator[None]:
        try:
            yield
        except self._errors as problem:
            raise UsageError(f"{what}: {problem}") from None

    def put(self, events: Sequence[Claimed], destination: str) -> Iterator[Fates]:
        """Put events into the queue, one group of messages a call; yields what became of each group."""
        group: list[tuple[str, list[Claimed]]] = []
        size = 0
        for packed in _packed(events):
            body = _body(packed, destination)
            if group and (len(group) == CALL_MESSAGES or size + len(body) > CALL_BYTES):
                yield self._put(group)
                group, size = [], 0
            group.append((body, packed))
            size += len(body)
        if group:
            yield self._put(group)

    def _put(self, group: list[tuple[str, list[Claimed]]]) -> Fates:
        fates = Fates()
        entries = [{"Id": str(number), "MessageBody": body} for number, (body, _) in enumerate(group)]
        try:
            answer = self._sqs.send_message_batch(QueueUrl=self.url, Entries=entries)
        except self._errors as problem:
            fates.lost = f"the queue {self.address} did not take a batch: {problem}"
            fates.perhaps += [claimed for _, packed in group for claimed in packed]
            return fates
        for done in answer.get("Successful", ()):
            fates.delivered.extend(group[int(done["Id"])][1])
        for failed in answer.get("Failed", ()):
            fates.lost = f"the queue {self.address} refused a message: {failed.get('Message') or failed.get('Code')}"
            fates.keep(group[int(failed["Id"])][1], maybe_done=False)
        return fates

    def take(self, visibility: int, wait: int) -> list[dict[str, Any]]:
        """Up to ten messages, hidden from the other drains for `visibility` seconds; waits up to `wait` seconds."""
        with self._saying(f"the queue {self.address} cannot be read"):
            return self._received(self.url, WaitTimeSeconds=wait, VisibilityTimeout=visibility)

    def _received(self, url: str, **how: int) -> list[dict[str, Any]]:
        most = CALL_MESSAGES
        answer = self._sqs.receive_message(
            QueueUrl=url, MaxNumberOfMessages=most, MessageSystemAttributeNames=["All"], **how
        )
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

    def redrive(self) -> int:
        """Move every message of the queue's dead-letter queue back; returns how many.

        Each keeps, as `since`, the moment from which its events may have been sent.
        """
        moved = 0
        with self._saying(f"the dead-letter queue of {self.address} cannot be emptied"):
            attributes = self._sqs.get_queue_attributes(QueueUrl=self.url, AttributeNames=["RedrivePolicy"])
            policy = json.loads(attributes.get("Attributes", {}).get("RedrivePolicy", "{}"))
            arn = policy.get("deadLetterTargetArn")
            if not arn:
                raise DestinationError(f"the queue {self.address} has no dead-letter queue (RedrivePolicy)")
            dead_url = self._sqs.get_queue_url(QueueName=arn.rpartition(":")[2])["QueueUrl"]
            while messages := self._received(dead_url):
                for message in messages:
                    self._sqs.send_message(QueueUrl=self.url, MessageBody=_again(message))
                    self._sqs.delete_message(QueueUrl=dead_url, ReceiptHandle=message["ReceiptHandle"])
                    moved += 1
        return moved


def _packed(events: Sequence[Claimed]) -> Iterator[list[Claimed]]:
    # events that may be in the queue already travel apart, so that only they carry a "since"
    for wanted in (False, True):
        some = [claimed for claimed in events if (claimed.perhaps_since is not None) is wanted]
        for first in range(0, len(some), MESSAGE_EVENTS):
            batch = some[first : first + MESSAGE_EVENTS]
            while batch and len(_body(batch, "x" * 500)) > CALL_BYTES:
                yield batch[: len(batch) // 10]
                batch = batch[len(batch) // 10 :]
            yield batch


def _body(events: Sequence[Claimed], destination: str) -> str:
    since = min((claimed.perhaps_since for claimed in events if claimed.perhaps_since is not None), default=None)
    rows = [list(claimed.event) for claimed in events]
    body = {"usage": VERSION, "destination": destination, "since": since, "events": rows}
    return json.dumps(body, separators=(",", ":"))


def _again(message: dict[str, Any]) -> str:
    """The body of a message that was received before, with the moment from which its events may have been sent."""
    body: str = message["Body"]
    try:
        data = json.loads(body)
        sent = int(message["Attributes"]["SentTimestamp"]) // 1000
        data["since"] = min(sent, data["since"]) if data.get("since") else sent
    except (ValueError, KeyError, TypeError):
        return body  # not ours; whoever put it there gets it back as it was
    return json.dumps(data, separators=(",", ":"))


def hand_over(spool: Spool, queue: Queue, mine: Sequence[str], deadline: float | None) -> Totals:
    """Put a spool's events into the queue; whoever drains it delivers them."""
    totals = Totals()
    with delivering(spool, deadline, totals) as alone:
        after = 0
        while alone and totals.stopped is None:
            claimed = spool.claim(mine, CHUNK, after=after)
            if not claimed:
                break
            after = claimed[-1].id
            for fates in queue.put(claimed, mine[0]):
                fates.settle(spool, "queued")
                totals.add(fates)
                totals.stopped = totals.stopped or fates.lost
            if deadline is not None and time.monotonic() >= deadline:
                totals.stopped = totals.stopped or OUT_OF_TIME
    return totals


class Drain:
    """One worker: takes messages, delivers their events, deletes what is settled.

    Events that are refused, or whose fate is unknown for too long, go into this worker's spool before the message is
    deleted, where `usage status`, `retry` and `verify` find them.
    """

    def __init__(
        self, delivery: Delivery, queue: Queue, method: str, lanes: int, clock: Callable[[], float], *, visibility: int
    ) -> None:
        if not 10 <= visibility <= 43_200:
            raise ValueError("visibility is between 10 seconds and 12 hours")
        self.delivery = delivery
        self.where = delivery.api.destination
        self.sender = delivery.sender(method)
        self.queue = queue
        self.lanes = lanes
        self.clock = clock
        self.visibility = visibility
        self.totals = Totals()
        self.messages = self.refused = self.unknown = self.returned = 0
        self.stopped: str | None = None
        self._hidden: dict[str, dict[str, Any]] = {}
        self._lock = threading.Lock()

    def run(self, *, max_messages: int | None, idle_seconds: float | None, stop: threading.Event | None) -> Drained:
        """See `Client.drain`."""
        stop = stop or threading.Event()
        heart = threading.Event()
        beat = threading.Thread(target=self._heartbeat, args=(heart,), name="usage-visibility", daemon=True)
        beat.start()
        idle_since = time.monotonic()
        try:
            while not stop.is_set() and self.stopped is None:
                if max_messages is not None and self.messages >= max_messages:
                    break
                left = LONG_POLL if idle_seconds is None else idle_seconds - (time.monotonic() - idle_since)
                messages = self.queue.take(self.visibility, max(0, min(LONG_POLL, round(left))))
                if not messages:
                    if idle_seconds is not None and time.monotonic() - idle_since >= idle_seconds:
                        break
                    if left < 1:
                        stop.wait(0.05)
                    continue
                self._work(messages, stop)
                idle_since = time.monotonic()
        finally:
            heart.set()
            beat.join()
        where = (self.where.label, self.where.sandbox, self.queue.address, self.messages)
        settled = (self.totals.delivered, self.totals.duplicates, self.refused, self.unknown)
        return Drained(*where, *settled, self.returned, self.stopped)

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
            else:
                self.messages += 1
                if self._deliver(message):
                    done.append(message)
        self.queue.delete(done)
        with self._lock:
            self._hidden = {}

    def _give_back(self, message: dict[str, Any], seconds: int) -> None:
        with self._lock:
            self._hidden.pop(message["ReceiptHandle"], None)
        self.queue.hide(message, seconds)
        self.returned += 1

    def _deliver(self, message: dict[str, Any]) -> bool:
        """Deliver one message; True when all its events are settled and it can be deleted."""
        spool, mine = self.delivery.spool, self.where.identity
        attributes = message.get("Attributes", {})
        times = int(attributes.get("ApproximateReceiveCount", "1"))
        try:
            data = json.loads(message["Body"])
            if data["usage"] != VERSION:
                raise ValueError
            events = [Event(*fields) for fields in data["events"]]
            since = data["since"]
            destination = data["destination"]
        except (ValueError, KeyError, TypeError):
            # not ours: it stays, and the queue's own redrive policy moves it away
            self._give_back(message, self.visibility)
            return False
        if destination and destination not in self.delivery.mine():
            here = f"{mine} ({self.where.label}); producers need no key at all"
            self.stopped = f"the queue holds events recorded for {destination}, and this drain delivers to {here}"
            self._give_back(message, 0)
            return False
        if times > 1:
            first = int(attributes.get("ApproximateFirstReceiveTimestamp", "0")) // 1000 or int(self.clock())
            since = min(first, since) if since else first
        if since is not None and since < self.clock() - UNIQUENESS_SECONDS + RESEND_MARGIN:
            spool.take_in(events, mine, since, None)
            self.unknown += len(events)
            return True
        group = [Claimed(number, event, since) for number, event in enumerate(events)]
        left: list[Fates] = []
        self.sender.start()
        self.sender.send(group, time.monotonic() + 600, left.append, self.lanes)
        settled = True
        for fates in left:
            self.totals.add(fates)
            for claimed, refusal in fates.refused:
                self.refused += spool.take_in([claimed.event], mine, None, refusal)
            settled = settled and not fates.perhaps and not fates.released
        if not settled:
            self.stopped = self.stopped or self.sender.stopped
            # the receive count is the number of attempts: wait longer each time
            self._give_back(message, min(900, 2 ** min(times, 9)) if self.stopped is None else 0)
        return settled
