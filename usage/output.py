"""Results for people and programs: tables, CSV and JSON. What went to the sandbox says so in each of them."""

from __future__ import annotations

import json
import sys
from decimal import Decimal

from .events import iso

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any, TextIO

    from .results import (
        Cancelled,
        Drained,
        Flush,
        Imported,
        InvoicePreview,
        Reports,
        Result,
        Sent,
        Status,
        Summaries,
        Verification,
    )
    from .spool import DeadLetter

# https://docs.stripe.com/currencies#minor-units
_NO_MINOR = frozenset(
    ("bif", "clp", "djf", "gnf", "jpy", "kmf", "krw", "mga", "pyg", "rwf", "ugx", "vnd", "vuv", "xaf", "xof", "xpf")
)
_THREE_DIGITS = frozenset(("bhd", "jod", "kwd", "omr", "tnd"))


def money(minor: int | Decimal, currency: str) -> str:
    """An amount of minor units in major units with its currency: 31000, usd -> "310.00 USD"."""
    digits = 0 if currency in _NO_MINOR else 3 if currency in _THREE_DIGITS else 2
    amount = Decimal(minor).scaleb(-digits)
    if amount == amount.quantize(Decimal(1).scaleb(-digits)):
        return f"{amount:,.{digits}f} {currency.upper()}"
    return f"{amount.normalize():,f} {currency.upper()}"


def number(value: Decimal) -> str:
    """A Decimal as people write it: 26000 -> "26,000"."""
    return f"{value.normalize():,f}" if value else "0"


def count(amount: int, noun: str = "event") -> str:
    """ "1 event", "2,000 events"."""
    return f"{amount:,} {noun}" + ("" if amount == 1 else "s")


def print_json(data: Any, file: TextIO | None = None) -> None:
    """One JSON document."""
    print(json.dumps(data, indent=2, default=str), file=file or sys.stdout)


def table(title: str, columns: Sequence[tuple[str, bool]], rows: Iterable[Sequence[str]], caption: str = "") -> None:
    """A table on standard output; columns are (heading, right-aligned)."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, width=None if sys.stdout.isatty() else 160)
    shown = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    for heading, right in columns:
        shown.add_column(heading, justify="right" if right else "left", overflow="fold")
    for row in rows:
        shown.add_row(*map(_escaped, row))
    console.print(shown)
    if caption:
        console.print(_escaped(caption), soft_wrap=True)


def _escaped(text: str) -> str:
    from rich.markup import escape

    return escape(text)


def show_sent(sent: Sent) -> None:
    """One delivered event."""
    verb = "queued" if sent.state == "queued" else "already delivered" if sent.duplicate else "delivered"
    print(f"{verb}: {sent.event_name} {sent.value:,} for {sent.customer} at {iso(sent.timestamp)} ({sent.identifier})")
    print(f"to {sent.destination}")


def show_flush(flush: Flush) -> None:
    """What a delivery did, in a few lines."""
    again = f" ({flush.duplicates:,} were there already)" if flush.duplicates else ""
    print(f"{count(flush.delivered)} delivered{again} to {flush.destination}")
    for refused in flush.refused:
        request = f", request {refused.request_id}" if refused.request_id else ""
        print(f"  refused {refused.identifier}: {refused.message} [{refused.code}{request}]")
    if flush.refused_count > len(flush.refused):
        print(f"  ... and {flush.refused_count - len(flush.refused):,} more refused; `usage errors` lists them")
    if flush.unknown:
        print(f"  {count(flush.unknown)} of unknown fate for more than 24 hours: `usage verify` settles them")
    if flush.held:
        print(f"  {count(flush.held)} recorded for another mode; they are never sent here (`usage status`)")
    if flush.waiting:
        print(f"  {count(flush.waiting)} in aggregation buckets that are still open")
    if flush.pending:
        print(f"  {count(flush.pending)} still to be delivered: `usage flush` again")
    for note in flush.notes:
        print(f"  note: {note}")
    if flush.stopped:
        print(f"  stopped: {flush.stopped}")


def show_status(status: Status) -> None:
    """What is in the spool."""
    from .spool import describe_age

    print(f"spool        {status.spool}")
    print(f"destination  {status.destination}")
    rows = [
        (status.delivered, "delivered", ""),
        (status.queued, "handed to the outbox queue", ""),
        (status.pending, "to be delivered", "usage flush"),
        (status.waiting, "in aggregation buckets", "sent when their hour or day is over"),
        (status.dead, "refused", "usage errors; after the fix usage retry, or usage cancel"),
        (status.unknown, "of unknown fate", "usage verify"),
    ]
    for amount, words, advice in rows:
        if amount or words in ("delivered", "to be delivered"):
            print(f"{amount:>11,}  {words}" + (f" ({advice})" if amount and advice else ""))
    if status.held:
        print(f"{status.held:>11,}  of them recorded for another mode, and only sent there")
    for destination, states in sorted(status.by_destination.items()):
        if destination:
            parts = ", ".join(f"{amount:,} {state}" for state, amount in sorted(states.items()))
            print(f"  {'SANDBOX' if destination == 'sandbox' else destination}: {parts}")
    if status.oldest_pending_seconds is not None:
        print(f"the oldest has been waiting for {describe_age(status.oldest_pending_seconds)}")
    for code, amount in status.dead_by_code.items():
        print(f"  refused with {code}: {amount:,}")


def show_summaries(result: Summaries) -> None:
    """Usage as a table."""
    rows = [(row.customer, iso(row.start), iso(row.end), number(row.value)) for row in result.rows]
    caption = result.destination
    if result.aligned:
        caption += f"\nthe window was widened to {result.group or 'minute'} boundaries, as Stripe asks for"
    if len(rows) != 1:
        caption = f"total {number(result.total)}\n{caption}"
    window = f"{iso(result.start)} to {iso(result.end)}"
    columns = [("customer", False), ("from (UTC)", False), ("to (UTC)", False), ("usage", True)]
    table(f"{result.event_name} ({result.meter}), {window}", columns, rows, caption)


def show_preview(preview: InvoicePreview) -> None:
    """The next invoice, line by line."""
    rows = [
        (
            line.description,
            f"{iso(line.start)[:10]} to {iso(line.end)[:10]}",
            number(line.quantity),
            "" if line.unit_amount is None else money(line.unit_amount, preview.currency),
            money(line.amount, preview.currency),
        )
        for line in preview.lines
    ]
    if preview.subtotal != preview.total:
        rows.append(("subtotal", "", "", "", money(preview.subtotal, preview.currency)))
    rows.append(("total", "", "", "", money(preview.total, preview.currency)))
    if preview.amount_due != preview.total:
        rows.append(("amount due", "", "", "", money(preview.amount_due, preview.currency)))
    columns = [("line", False), ("period", False), ("quantity", True), ("unit price", True), ("amount", True)]
    whose = " ".join(part for part in (preview.subscription, preview.customer) if part)
    table(f"next invoice of {whose}", columns, rows, preview.destination)


def show_verification(result: Verification) -> None:
    """How spool and Stripe compare."""
    print(f"{result.matching:,} of {count(result.checked, 'hourly total')} agree with {result.destination}")
    if result.settled_delivered or result.settled_pending:
        print(
            f"settled by the totals: {result.settled_delivered:,} had arrived, "
            f"{result.settled_pending:,} had not and go out with the next `usage flush`"
        )
    if result.unknown:
        print(f"{count(result.unknown)} of unknown fate; they are not resent on a guess")
    if result.unchecked:
        print(f"{count(result.unchecked, 'hourly total')} cannot be compared (inactive or pre-aggregated meter)")
    if result.differences:
        rows = [
            (row.event_name, row.customer, iso(row.hour), number(row.expected), number(row.found), row.verdict)
            for row in result.differences[:50]
        ]
        columns = [("event", False), ("customer", False), ("hour (UTC)", False), ("spool", True), ("Stripe", True)]
        table("differences", [*columns, ("verdict", False)], rows, _advice(result))


def _advice(result: Verification) -> str:
    kinds = {row.verdict for row in result.differences}
    lines = [f"{len(result.differences):,} differences"]
    if "short" in kinds:
        lines.append("short: Stripe aggregates with a lag, so wait (--wait 120), then see `usage errors --fetch`")
    if "over" in kinds:
        lines.append("over: somebody else sends for this customer too, or an event was billed twice; nothing is resent")
    if "ambiguous" in kinds:
        lines.append("ambiguous: several explanations fit, so nothing is changed")
    return "\n".join(lines)


def show_cancelled(result: Cancelled) -> None:
    """What became of a cancelled event."""
    words = {
        "not sent": "it was not delivered, and will not be",
        "cancelled": f"cancelled at {result.destination}",
        "corrected": f"a negative event {result.correction} takes it back; `usage flush` delivers it",
    }
    print(f"{result.identifier}: {words[result.outcome]}")


def show_imported(result: Imported, where: str) -> None:
    """What an import found."""
    verb = "would be recorded" if result.dry_run else "recorded"
    new = result.rows if result.dry_run else result.recorded
    line = f"{count(result.rows, 'row')} read, {count(new)} {verb}"
    if result.already:
        line += f", {result.already:,} recorded before"
    print(line + (f"; taken up again at line {result.resumed_at:,}" if result.resumed_at else ""))
    for total in result.totals:
        print(
            f"  {total.event_name}: {count(total.events)}, {total.value:,} units, "
            f"{iso(total.first)} to {iso(total.last)}"
        )
    for error in result.errors:
        print(f"  line {error.line}: {error.problem}")
    if result.bad > len(result.errors):
        print(f"  ... and {result.bad - len(result.errors):,} more")
    if result.bad:
        print(f"{count(result.bad, 'bad line')} left out; correct them and import the file again")
    if result.dry_run:
        print(f"dry run: nothing was recorded; it would go to {where}")


def show_drained(result: Drained) -> None:
    """What a drain did."""
    again = f" ({result.duplicates:,} were there already)" if result.duplicates else ""
    print(f"{count(result.delivered)} of {count(result.messages, 'message')} delivered{again} to {result.destination}")
    if result.refused:
        print(f"  {count(result.refused)} refused, now in this worker's spool: `usage errors`")
    if result.unknown:
        print(f"  {count(result.unknown)} of unknown fate for more than 24 hours: `usage verify`")
    if result.returned:
        print(f"  {count(result.returned, 'message')} given back to the queue")
    if result.stopped:
        print(f"  stopped: {result.stopped}")


def letter_json(letter: DeadLetter) -> dict[str, Any]:
    """A dead letter as JSON-ready data."""
    return {**letter.event._asdict(), **{key: value for key, value in letter._asdict().items() if key != "event"}}


def show_letters(letters: Sequence[DeadLetter]) -> None:
    """Refused events as a table."""
    rows = [
        (
            letter.event.identifier,
            letter.event.event_name,
            letter.event.customer,
            f"{letter.event.value:,}",
            letter.code,
            letter.message + (f" ({letter.request_id})" if letter.request_id else ""),
        )
        for letter in letters
    ]
    columns = [("identifier", False), ("event", False), ("customer", False), ("value", True), ("code", False)]
    sandbox = sum(letter.destination == "sandbox" for letter in letters)
    caption = "after the fix: usage retry [--code CODE]; to give one up: usage cancel IDENTIFIER"
    if sandbox:
        caption += f"\n{sandbox:,} of these went to the SANDBOX"
    table(f"{count(len(letters))} refused", [*columns, ("why", False)], rows, caption)


def show_reports(result: Reports) -> None:
    """What error reports brought."""
    print(
        f"{count(result.reports, 'error report')} taken in: {count(result.errors)} rejected, "
        f"{result.matched:,} of them found here"
    )
    if result.strangers:
        print(f"  not in this spool: {', '.join(result.strangers[:10])}")


def as_json(result: Result) -> dict[str, Any]:
    """A result as JSON-ready data, with its `complete` verdict where it has one."""
    data = result.as_json()
    complete = getattr(result, "complete", None)
    if complete is not None:
        data["complete"] = complete
    return data
