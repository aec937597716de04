"""What the calls of `usage` return: frozen values. `str()` of one is what the command prints, `as_json` its `--json`.

Amounts of money are minor units, times UTC seconds.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple

from .events import iso
from .text import count, lines, number, table

if TYPE_CHECKING:
    from .spool import Kept


@dataclass(frozen=True)
class Result:
    """destination: where it delivers or reads, in words. sandbox: true if no real customer can be billed."""

    destination: str
    sandbox: bool

    @property
    def complete(self) -> bool:
        """False if something is not delivered, refused, of unknown fate, skipped, or does not agree."""
        return True


def as_json(value: Any) -> Any:
    """A result as JSON-ready data: only str, int, bool, None, lists and objects; Decimals as strings."""
    if isinstance(value, Result):
        value = {**{item.name: getattr(value, item.name) for item in fields(value)}, "complete": value.complete}
    elif hasattr(value, "_asdict"):
        value = value._asdict()
    if isinstance(value, dict):
        return {key: as_json(item) for key, item in value.items()}
    if isinstance(value, Decimal):
        return format(value, "f")
    return [as_json(item) for item in value] if isinstance(value, (list, tuple)) else value


_LEFT = {
    "pending": "to be delivered: `usage flush`",
    "dead": "refused: `usage errors`; after the fix `usage retry`, or `usage cancel ID`",
    "unknown": "of unknown fate for more than 24 hours: `usage verify`, then `usage retry ID` or `usage cancel ID`",
    "cancelling": "being cancelled: `usage cancel ID` again",
    "held": "recorded for another account or mode, or for none, and not sent from here:\n"
    "    `usage status` shows them; `usage flush --take NAME` sends them if you know that they belong here",
}


@dataclass(frozen=True)
class Spooled(Result):
    """What is left in the spool, in events."""

    pending: int = 0  # to be delivered
    dead: int = 0  # refused, by any delivery
    unknown: int = 0  # set aside: after Stripe's 24 hours it was still unknown whether they arrived
    cancelling: int = 0  # their cancellation has no outcome yet
    held: int = 0  # recorded for another account or mode, or for none; they are never sent here

    @property
    def complete(self) -> bool:
        return not any(getattr(self, name) for name in _LEFT)

    def _left(self) -> Iterator[tuple[int, str]]:
        """How many are in each of these states, and what to do."""
        for name, words in _LEFT.items():
            amount = getattr(self, name)
            yield amount, f"  {count(amount)} {words}"


@dataclass(frozen=True)
class Flush(Spooled):
    """What this client has delivered since its last flush, including in the background, and what is left."""

    delivered: int = 0  # events that Stripe has now, duplicates included
    duplicates: int = 0  # of those, events that Stripe already had from an earlier attempt whose answer was lost
    refused: tuple[Kept, ...] = ()  # the first 20 refused events, with `code` and `message`
    refused_count: int = 0
    stopped: str | None = None  # why delivery ended early, in one sentence
    messages: int = 0  # of an SQS queue, for a drain
    returned: int = 0  # messages returned to the queue for another attempt

    @property
    def complete(self) -> bool:
        return super().complete and not (self.refused_count or self.stopped or self.returned)

    def __str__(self) -> str:
        again = f" ({self.duplicates:,} were already there)" if self.duplicates else ""
        of = f" of {count(self.messages, 'message')}" if self.messages else ""
        return lines(
            (True, f"{count(self.delivered)}{of} delivered{again} to {self.destination}"),
            *((True, f"  refused {one.identifier}: {one.why}") for one in self.refused),
            *self._left(),
            (self.returned, f"  {count(self.returned, 'message')} returned to the queue"),
            (self.stopped, f"  stopped: {self.stopped}"),
        )


@dataclass(frozen=True)
class Status(Spooled):
    """What is in the spool, for all destinations together and for each."""

    spool: str = ""
    configured: bool = False  # whether there is a destination
    delivered: int = 0
    queued: int = 0  # handed to the outbox queue
    oldest_pending_seconds: int | None = None
    by_destination: dict[str, dict[str, int]] = field(default_factory=dict)

    def __str__(self) -> str:
        each = [
            f"  {name.replace('sandbox:', 'SANDBOX:', 1)}: "
            + ", ".join(f"{amount:,} {state}" for state, amount in sorted(states.items())).replace("dead", "refused")
            for name, states in sorted(self.by_destination.items())
        ]
        return lines(
            (True, f"spool {self.spool}\ndestination {self.destination}\n  {count(self.delivered)} delivered"),
            (self.queued, f"  {count(self.queued)} handed to the outbox queue"),
            *self._left(),
            (self.pending, f"  the oldest has been waiting for {timedelta(seconds=self.oldest_pending_seconds or 0)}"),
            *((True, one) for one in each),
        )


@dataclass(frozen=True)
class Sent(Result):
    """One event of `usage.send`. state: "delivered", "queued" (it is in an outbox) or "off" (nothing was recorded)."""

    identifier: str
    state: str
    duplicate: bool = False  # Stripe already had it: this call added nothing

    def __str__(self) -> str:
        state = "already delivered" if self.duplicate else {"off": "not recorded"}.get(self.state, self.state)
        return f"{state}: {self.identifier}\nto {self.destination}"


class Summary(NamedTuple):
    """Usage of one customer in [start, end), as Stripe aggregated it, exact."""

    customer: str
    start: int
    end: int
    value: Decimal


@dataclass(frozen=True)
class Summaries(Result):
    """Usage read back from Stripe. Iterates over its rows."""

    meter: str
    event_name: str
    start: int
    end: int
    group: str | None
    rows: tuple[Summary, ...]
    window: str  # in words: "this UTC month so far", "the billing period of sub_123"
    total: Decimal  # over all rows (meaningful for `sum` and `count` meters)

    def __iter__(self) -> Iterator[Summary]:
        return iter(self.rows)

    def __str__(self) -> str:
        rows = [(row.customer, iso(row.start), iso(row.end), number(row.value)) for row in self.rows]
        return lines(
            (True, f"{self.event_name} ({self.meter})\n{self.window}: {iso(self.start)} to {iso(self.end)}\n"),
            (True, table("customer|from (UTC)|to (UTC)|usage>", rows) + "\n"),
            (len(rows) != 1, f"total {number(self.total)}"),
            (True, self.destination),
        )


class PreviewLine(NamedTuple):
    """One line of an invoice preview. `unit_amount` is exact, None if there is no price."""

    description: str
    quantity: Decimal
    unit_amount: Decimal | None
    amount: int
    start: int
    end: int
    price: str | None
    subscription_item: str | None


@dataclass(frozen=True)
class InvoicePreview(Result):
    """The next invoice as of now. subtotal - discounts - credits + taxes is the total. Iterates over its lines."""

    customer: str
    subscription: str | None
    currency: str
    lines: tuple[PreviewLine, ...]
    subtotal: int
    discounts: int
    credits: int  # deducted by credit grants
    taxes: int  # taxes on top; inclusive ones (`taxes_included`) are in the lines already
    taxes_included: int
    total: int
    amount_due: int
    period_start: int | None
    period_end: int | None
    each: tuple[InvoicePreview, ...] = ()  # for a customer: one for each subscription; the amounts above are their sums

    def __iter__(self) -> Iterator[PreviewLine]:
        return iter(self.lines)

    def _money(self, minor: int | Decimal | None) -> str:
        from money import format_minor

        return "" if minor is None else format_minor(minor, self.currency)

    def __str__(self) -> str:
        together = f"{len(self.each)} subscriptions together: {self._money(self.total)}"
        return lines(
            *((True, one._table() + "\n") for one in self.each or (self,)),
            (len(self.each) > 1, together),
            (True, self.destination),
        )

    def _table(self) -> str:
        rows = [
            (
                line.description, f"{iso(line.start)[:10]} to {iso(line.end)[:10]}", number(line.quantity),
                self._money(line.unit_amount), self._money(line.amount),
            )
            for line in self.lines
        ]  # fmt: skip
        other = self.total - (self.subtotal - self.discounts - self.credits + self.taxes)
        balance = self.amount_due - self.total
        for words, amount, shown in (
            ("subtotal", self.subtotal, self.subtotal != self.total),
            ("discounts", -self.discounts, self.discounts),
            ("credit grants", -self.credits, self.credits),
            ("taxes", self.taxes, self.taxes),
            ("other", other, other),
            ("total", self.total, True),
            ("from the customer's balance", balance, balance),
            ("amount due", self.amount_due, balance),
        ):
            if shown:
                rows.append((words, "", "", "", self._money(amount)))
        return lines(
            (True, f"next invoice of {' of '.join(filter(None, (self.subscription, self.customer)))}\n"),
            (True, table("line|period|quantity>|unit price>|amount>", rows, wrap=True)),
            (self.taxes_included, f"\ntaxes of {self._money(self.taxes_included)} are included"),
        )


class Difference(NamedTuple):
    """Where the spool and Stripe disagree, for one event name, customer and UTC hour.

    verdict: "short" (Stripe has less), "over" (it has more), "arrived" or "missing" (what the total suggests about
    the `unknown` events, which are not in `expected`; another producer could have the same effect).
    """

    event_name: str
    customer: str
    hour: int
    expected: Decimal
    found: Decimal
    unknown: int
    verdict: str


_ADVICE = {
    "short": "Stripe aggregates with a lag: wait two minutes; then `usage errors --fetch`, and the recorder's clock",
    "over": "another sender reports for this customer too, or an event was billed twice",
    "arrived": "the total matches if the events of unknown fate arrived; without another sender, nothing to do",
    "missing": "the total matches if they did not; `usage retry ID` sends them again, `usage cancel ID` drops them",
}


@dataclass(frozen=True)
class Verification(Result):
    """The spool compared with Stripe's summaries, by customer and hour. The comparison changes nothing."""

    checked: int
    matching: int
    unchecked: int  # totals that cannot be compared (a pre-aggregated or inactive meter)
    unknown: int  # events whose fate is unknown; `usage retry ID` or `usage cancel ID` decides
    differences: tuple[Difference, ...]

    @property
    def complete(self) -> bool:
        return not (self.differences or self.unknown)

    def __str__(self) -> str:
        nothing = f"nothing to compare: this spool has delivered nothing to {self.destination} in that window"
        agree = f"{self.matching:,} of {count(self.checked, 'hourly total')} agree with {self.destination}"
        totals = count(self.unchecked, "hourly total")
        rows = [
            (row.event_name, row.customer, iso(row.hour), number(row.expected), number(row.found), row.verdict)
            for row in self.differences[:50]
        ]
        verdicts = {row.verdict for row in self.differences}
        return lines(
            (True, agree if self.checked or self.unchecked else nothing),
            (self.unchecked, f"{totals} cannot be compared (inactive or pre-aggregated meter)"),
            (self.unknown, f"{count(self.unknown)} of unknown fate; nothing is resent on a guess"),
            (rows, "\n" + table("event|customer|hour (UTC)|spool>|Stripe>|verdict", rows) + "\n"),
            (rows, count(len(self.differences), "difference")),
            *((verdict in verdicts, f"{verdict}: {advice}") for verdict, advice in _ADVICE.items()),
        )


@dataclass(frozen=True)
class Cancelled(Result):
    """The outcome of `cancel`: "not sent" (it never was, and will not be), or "cancelled" (at Stripe)."""

    identifier: str
    outcome: str

    def __str__(self) -> str:
        done = self.outcome == "cancelled"
        what = f"cancelled at {self.destination}" if done else "it is not billed, and will not be sent"
        return f"{self.identifier}: {what}"


class LineError(NamedTuple):
    """A line of an imported file that is not an event."""

    line: int
    problem: str


class EventTotals(NamedTuple):
    """A file's totals for one event name."""

    event_name: str
    events: int
    value: Decimal


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
    held_back: str | None = None  # why the last line was held back, in a sentence: it may be unfinished
    unknown_event_names: tuple[str, ...] = ()  # in the command's dry run: those without an active meter
    flush: Flush | None = None  # the delivery that followed, in the command

    @property
    def complete(self) -> bool:
        return not (self.bad or self.held_back or self.unknown_event_names or (self.flush and not self.flush.complete))

    def __str__(self) -> str:
        new = f"{count(self.rows)} would be recorded" if self.dry_run else f"{count(self.recorded)} recorded"
        before = f", {self.already:,} recorded before" if self.already else ""
        totals = [f"  {one.event_name}: {count(one.events)}, {number(one.value)} units" for one in self.totals]
        more = self.bad - len(self.errors)
        return lines(
            (True, f"{count(self.rows, 'row')} read, {new}{before}"),
            *((True, total) for total in totals),
            *((True, f"  line {error.line}: {error.problem}") for error in self.errors),
            (more > 0, f"  ... and {more:,} more"),
            (self.bad, f"{count(self.bad, 'bad line')} skipped; correct them and import the file again"),
            (self.held_back, f"{self.held_back}"),
            (self.dry_run, f"dry run: nothing was recorded; it would go to {self.destination}"),
            *(
                (True, f'  no active meter has the event name "{name}"; these events would be refused')
                for name in self.unknown_event_names
            ),
            (self.flush, str(self.flush)),
        )


@dataclass(frozen=True)
class Reports(Result):
    """Asynchronous error reports that were applied."""

    reports: int
    errors: int  # events that Stripe rejected after accepting them, by its own count
    matched: int  # events of this spool that the reports name; they are dead letters now
    strangers: tuple[str, ...] = ()  # identifiers that are not in this spool

    @property
    def complete(self) -> bool:
        return not self.errors

    def __str__(self) -> str:
        reports, errors = count(self.reports, "error report"), count(self.errors)
        return lines(
            (True, f"{reports} applied: {errors} rejected, {self.matched:,} of them found here"),
            (self.strangers, f"  not in this spool: {', '.join(self.strangers[:10])}"),
        )
