"""What the calls of this module return: plain frozen values, each able to say itself as JSON.

Amounts of money are minor units, times UTC seconds. `sandbox` is true where nothing can ever bill anybody.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from decimal import Decimal
from typing import Any


class Result:
    """A value with `as_json()`: only str, int, bool, None, lists and objects; Decimals as strings."""

    def as_json(self) -> dict[str, Any]:
        """The value as JSON-ready data: its attributes, and its verdict `complete` where it has one."""
        data = {item.name: _plain(getattr(self, item.name)) for item in fields(self)}  # type: ignore[arg-type]
        return {**data, "complete": self.complete} if hasattr(self, "complete") else data


def _plain(value: Any) -> Any:
    if isinstance(value, Result):
        return value.as_json()
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value


@dataclass(frozen=True)
class Placed(Result):
    """A result of one destination, in words."""

    destination: str
    sandbox: bool


@dataclass(frozen=True)
class Refused(Result):
    """One event that Stripe refuses for good; it is in the dead-letter table."""

    identifier: str
    event_name: str
    customer: str
    code: str
    message: str
    request_id: str | None = None


@dataclass(frozen=True)
class Flush(Placed):
    """What was delivered since the last flush of this client, in the background too, and what is left."""

    delivered: int  # events that Stripe has now, duplicates included
    duplicates: int  # of those, events that Stripe already had from an earlier attempt whose answer was lost
    refused: tuple[Refused, ...]  # the first 20 refusals
    refused_count: int
    unknown: int  # events set aside: nobody could say inside Stripe's 24 hours whether they arrived (`usage verify`)
    pending: int  # events still to be delivered here
    held: int  # events recorded for another account or mode, or for none; they are never sent here
    stopped: str | None = None  # why delivery ended early, in one sentence

    @property
    def complete(self) -> bool:
        """True when nothing is left undelivered."""
        return not (self.refused_count or self.unknown or self.pending or self.held or self.stopped)


@dataclass(frozen=True)
class Sent(Placed):
    """One event of `usage.send`. state: "delivered", "queued" (an outbox has it) or "off" (nothing was recorded)."""

    identifier: str
    event_name: str
    customer: str
    value: Decimal
    timestamp: int
    duplicate: bool = False  # Stripe had it already: this call added nothing
    state: str = "delivered"


@dataclass(frozen=True)
class Status(Placed):
    """What is in the spool: counts by state, and `by_destination`. `configured`: whether anything says where to."""

    spool: str
    configured: bool
    pending: int
    unknown: int
    cancelling: int  # events that are being taken back and whose fate is not decided: `usage cancel` again
    dead: int
    delivered: int
    queued: int
    held: int
    oldest_pending_seconds: int | None
    dead_by_code: dict[str, int] = field(default_factory=dict)
    by_destination: dict[str, dict[str, int]] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        """True when everything recorded is delivered (or queued, or cancelled)."""
        return not (self.pending or self.unknown or self.cancelling or self.dead or self.held)


@dataclass(frozen=True)
class Summary(Result):
    """Usage of one customer in [start, end), as Stripe aggregated it, exact."""

    customer: str
    start: int
    end: int
    value: Decimal


@dataclass(frozen=True)
class Summaries(Placed):
    """Usage read back from Stripe. Iterates over its rows."""

    meter: str
    event_name: str
    start: int
    end: int
    group: str | None
    rows: tuple[Summary, ...]
    window: str = ""  # which window this is, in words: "this UTC month so far", "the billing period of sub_123"
    aligned: bool = False  # true when the window was widened to the boundaries that Stripe asks for

    def __iter__(self) -> Any:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def total(self) -> Decimal:
        """Sum over all rows (meaningful for `sum` and `count` meters)."""
        return sum((row.value for row in self.rows), Decimal(0))

    def as_json(self) -> dict[str, Any]:
        return {**super().as_json(), "total": format(self.total, "f")}

    def as_csv(self) -> str:
        """The rows as CSV with a header; times in RFC 3339, and a column that tells the sandbox from Stripe."""
        import csv
        import io

        from .events import iso

        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(("event_name", "customer", "start", "end", "value", "destination"))
        where = "sandbox" if self.sandbox else "stripe"
        for row in self.rows:
            value = format(row.value.normalize(), "f") if row.value else "0"
            writer.writerow((self.event_name, row.customer, iso(row.start), iso(row.end), value, where))
        return text.getvalue()


@dataclass(frozen=True)
class PreviewLine(Result):
    """One line of an invoice preview. `unit_amount` is exact, None where there is no price."""

    description: str
    quantity: Decimal
    unit_amount: Decimal | None
    amount: int
    start: int
    end: int
    price: str | None
    subscription_item: str | None


@dataclass(frozen=True)
class InvoicePreview(Placed):
    """The next invoice as it would be now. subtotal - discounts - credits + taxes is the total."""

    customer: str
    subscription: str | None
    currency: str
    lines: tuple[PreviewLine, ...]
    subtotal: int
    discounts: int
    credits: int  # what credit grants take off
    taxes: int  # taxes on top; inclusive ones (`taxes_included`) are in the lines already
    taxes_included: int
    total: int
    amount_due: int
    period_start: int | None
    period_end: int | None
    each: tuple[InvoicePreview, ...] = ()
    """Of a customer: one preview for each subscription; the amounts above are their sums."""

    def __iter__(self) -> Any:
        return iter(self.lines)


@dataclass(frozen=True)
class Difference(Result):
    """Where the spool and Stripe disagree, for one event name, customer and UTC hour.

    verdict: "short" (Stripe has less), "over" (it has more), "arrived" or "missing" (what the `unknown` events of
    unknown fate, which are not in `expected`, look like by the total; another producer may look the same).
    """

    event_name: str
    customer: str
    hour: int
    expected: Decimal
    found: Decimal
    unknown: int
    verdict: str


@dataclass(frozen=True)
class Verification(Placed):
    """The spool against Stripe's summaries, in totals of one customer and hour. Nothing is changed by it."""

    checked: int
    matching: int
    unchecked: int  # totals that cannot be compared (a pre-aggregated or inactive meter)
    unknown: int  # events whose fate is unknown; `usage retry ID` or `usage cancel ID` decides
    differences: tuple[Difference, ...]
    waited: int  # seconds spent waiting for Stripe's aggregation to catch up
    clock: str | None = None  # what is wrong with this machine's clock, in a sentence

    @property
    def complete(self) -> bool:
        """True when every total agrees and no fate is unknown."""
        return not self.differences and not self.unknown and not self.clock


@dataclass(frozen=True)
class Cancelled(Placed):
    """What `cancel` did: "not sent" (it never was, and will not be), "cancelled" (at Stripe), or "corrected" (by a
    negative event, whose identifier is `correction`)."""

    identifier: str
    outcome: str
    correction: str | None = None


@dataclass(frozen=True)
class LineError(Result):
    """A line of an imported file that is not an event."""

    line: int
    problem: str


@dataclass(frozen=True)
class EventTotals(Result):
    """What a file holds for one event name."""

    event_name: str
    events: int
    value: Decimal
    first: int
    last: int


@dataclass(frozen=True)
class Imported(Result):
    """What an import (or its dry run) found and recorded."""

    source: str
    dry_run: bool
    rows: int
    recorded: int
    already: int  # rows that were recorded before, by any import
    bad: int
    errors: tuple[LineError, ...]  # the first 20 bad lines
    totals: tuple[EventTotals, ...]
    held_back: str | None = None  # why the last line was not taken, in a sentence: it may still be being written


@dataclass(frozen=True)
class Reports(Result):
    """Asynchronous error reports that were taken in."""

    reports: int
    errors: int  # events that Stripe rejected after accepting them, by its own count
    matched: int  # events of this spool that the reports name; they are dead letters now
    strangers: tuple[str, ...] = ()  # identifiers that this spool does not know


@dataclass(frozen=True)
class Drained(Placed):
    """What one drain worker did. `returned`: messages given back to the queue, to be tried again."""

    queue: str
    messages: int
    delivered: int
    duplicates: int
    refused: int
    unknown: int
    returned: int
    stopped: str | None = None

    @property
    def complete(self) -> bool:
        """True when everything received was delivered."""
        return not (self.refused or self.unknown or self.returned or self.stopped)
