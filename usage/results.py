"""What the calls of this module return: plain frozen values, each able to say itself as JSON.

Amounts of money are minor units, times UTC seconds. `sandbox` is true where nothing can ever bill anybody.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from .spool import Kept


class Result:
    """A value with `as_json()`. Some have a verdict: `complete` is false when something is not delivered, refused, of
    unknown fate, left out, or does not agree."""

    def as_json(self) -> dict[str, Any]:
        """The value as JSON-ready data: only str, int, bool, None, lists and objects; Decimals as strings."""
        data = {item.name: plain(getattr(self, item.name)) for item in fields(self)}  # type: ignore[arg-type]
        return {**data, "complete": self.complete} if hasattr(self, "complete") else data


def plain(value: Any) -> Any:
    """Any value of this module as JSON-ready data."""
    if isinstance(value, Result):
        return value.as_json()
    if isinstance(value, Decimal):
        return format(value, "f")
    if hasattr(value, "_asdict"):
        value = value._asdict()
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, (list, tuple)) else value


@dataclass(frozen=True)
class Placed(Result):
    """A result of one destination, in words."""

    destination: str
    sandbox: bool


@dataclass(frozen=True)
class Flush(Placed):
    """What was delivered since the last flush of this client, in the background too, and what is left."""

    delivered: int = 0  # events that Stripe has now, duplicates included
    duplicates: int = 0  # of those, events that Stripe already had from an earlier attempt whose answer was lost
    refused: tuple[Kept, ...] = ()  # the first 20 refused events, with `code` and `message`
    refused_count: int = 0
    unknown: int = 0  # events set aside: nobody could say inside Stripe's 24 hours whether they arrived
    pending: int = 0  # events still to be delivered here
    held: int = 0  # events recorded for another account or mode, or for none; they are never sent here
    stopped: str | None = None  # why delivery ended early, in one sentence

    @property
    def complete(self) -> bool:
        return not (self.refused_count or self.unknown or self.pending or self.held or self.stopped)


@dataclass(frozen=True)
class Drained(Flush):
    """What one drain worker did. `returned`: messages given back to the queue, to be tried again."""

    messages: int = 0
    returned: int = 0

    @property
    def complete(self) -> bool:
        return super().complete and not self.returned


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
        return not (self.pending or self.unknown or self.cancelling or self.dead or self.held)


class Summary(NamedTuple):
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
    total: Decimal = Decimal(0)  # over all rows (meaningful for `sum` and `count` meters)

    def __iter__(self) -> Any:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)


class PreviewLine(NamedTuple):
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
    each: tuple[InvoicePreview, ...] = ()  # of a customer: one for each subscription; the amounts above are their sums

    def __iter__(self) -> Any:
        return iter(self.lines)


class Difference(NamedTuple):
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
        return not (self.differences or self.unknown or self.clock)


@dataclass(frozen=True)
class Cancelled(Placed):
    """What `cancel` did: "not sent" (it never was, and will not be), "cancelled" (at Stripe), or "corrected" (by a
    negative event, whose identifier is `correction`)."""

    identifier: str
    outcome: str
    correction: str | None = None


class LineError(NamedTuple):
    """A line of an imported file that is not an event."""

    line: int
    problem: str


class EventTotals(NamedTuple):
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

    @property
    def complete(self) -> bool:
        return not (self.bad or self.held_back)


@dataclass(frozen=True)
class Reports(Result):
    """Asynchronous error reports that were taken in."""

    reports: int
    errors: int  # events that Stripe rejected after accepting them, by its own count
    matched: int  # events of this spool that the reports name; they are dead letters now
    strangers: tuple[str, ...] = ()  # identifiers that this spool does not know

    @property
    def complete(self) -> bool:
        return not self.errors
