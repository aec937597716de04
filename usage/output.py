"""Results for people and programs: tables, CSV and JSON. What went to the sandbox says so in each of them."""

from __future__ import annotations

import csv
import json
import shutil
import sys
import textwrap
from datetime import timedelta
from typing import TYPE_CHECKING

from money import format_minor

from .events import iso
from .results import plain

if TYPE_CHECKING:
    from collections.abc import Sequence
    from decimal import Decimal
    from typing import Any

    from . import results
    from .spool import Kept


def number(value: Decimal) -> str:
    """A Decimal as people write it: 26000 -> "26,000"."""
    text = f"{value:,f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def count(amount: int, noun: str = "event") -> str:
    """ "1 event", "2,000 events"."""
    return f"{amount:,} {noun}" + ("" if amount == 1 else "s")


def print_json(data: Any) -> None:
    """One JSON document."""
    print(json.dumps(plain(data), indent=2, default=str))


def say(*sentences: tuple[object, str]) -> None:
    """Print each sentence whose amount (or reason) there is."""
    for there, sentence in sentences:
        if there:
            print(sentence)


def table(title: str, columns: str, rows: Sequence[Sequence[str]], caption: str = "") -> None:
    """A table on standard output, in the width of the terminal (80 elsewhere).

    columns: the headings, separated by "|"; one that ends with ">" is of numbers, one that ends with "~" of text, which
    may be wrapped. Where the others alone are too wide, each row is written as a block of lines instead, so that an
    identifier can be copied.
    """
    kinds = [heading[-1] for heading in columns.split("|")]
    headings = [heading.rstrip("~>") for heading in columns.split("|")]
    widths = [max(map(len, cells)) for cells in zip(headings, *rows, strict=True)]
    over = sum(widths) + 2 * (len(widths) - 1) - shutil.get_terminal_size((80, 24)).columns
    for place, kind in enumerate(kinds):
        if kind == "~" and over > 0:
            narrower = max(min(widths[place], 16), widths[place] - over)
            over -= widths[place] - narrower
            widths[place] = narrower
    print(title)
    for row in rows if over > 0 else ():
        print()
        say(*((cell, f"  {heading}: {cell}") for heading, cell in zip(headings, row, strict=True)))
    if over <= 0:
        print()
        for row in (headings, *rows):
            shown = list(zip(row, widths, kinds, strict=True))
            cells = [textwrap.wrap(cell, width) if kind == "~" else [cell] for cell, width, kind in shown]
            for line in range(max(map(len, cells))):
                parts = [cell[line] if line < len(cell) else "" for cell in cells]
                aligned = zip(parts, widths, kinds, strict=True)
                print(
                    "  ".join(f"{part:{'>' if kind == '>' else '<'}{width}}" for part, width, kind in aligned).rstrip()
                )
    say((caption, f"\n{caption}"))


def show_sent(sent: results.Sent) -> None:
    """One delivered event."""
    verb = {"queued": "queued", "off": "not recorded"}.get(sent.state)
    verb = verb or ("already delivered" if sent.duplicate else "delivered")
    print(f"{verb}: {sent.event_name} {number(sent.value)} for {sent.customer} at {iso(sent.timestamp)}")
    print(f"identifier {sent.identifier}\nto {sent.destination}")


def show_flush(flush: results.Flush) -> None:
    """What a delivery did, or a drain."""
    again = f" ({flush.duplicates:,} were there already)" if flush.duplicates else ""
    messages = getattr(flush, "messages", 0)
    of = f" of {count(messages, 'message')}" if messages else ""
    print(f"{count(flush.delivered)}{of} delivered{again} to {flush.destination}")
    for refused in flush.refused:
        request = f", request {refused.request_id}" if refused.request_id else ""
        print(f"  refused {refused.identifier}: {refused.message} [{refused.code}{request}]")
    more = flush.refused_count - len(flush.refused)
    held = "recorded for another account or mode, or for none, and never sent here by itself:\n"
    held += "  `usage status` names them, and `usage flush --take NAME` takes them if you know that they belong here"
    returned = getattr(flush, "returned", 0)
    say(
        (more > 0, f"  ... and {more:,} more refused; `usage errors` lists them"),
        (flush.unknown, f"  {count(flush.unknown)} of unknown fate for more than 24 hours: `usage verify` compares"),
        (flush.held, f"  {count(flush.held)} {held}"),
        (flush.pending, f"  {count(flush.pending)} still to be delivered: `usage flush` again"),
        (returned, f"  {count(returned, 'message')} given back to the queue"),
        (flush.stopped, f"  stopped: {flush.stopped}"),
    )


_WORDS = {"pending": "to be delivered", "dead": "refused", "unknown": "of unknown fate"}


def show_status(status: results.Status) -> None:
    """What is in the spool."""
    print(f"spool        {status.spool}\ndestination  {status.destination}")
    for amount, words, advice in (
        (status.delivered, "delivered", ""),
        (status.queued, "handed to the outbox queue", ""),
        (status.pending, "to be delivered", "usage flush"),
        (status.dead, "refused", "usage errors; after the fix usage retry, or usage cancel"),
        (status.unknown, "of unknown fate", "usage verify, then usage retry ID or usage cancel ID"),
        (status.cancelling, "being cancelled", "usage cancel ID again"),
        (status.held, "of them recorded for another account or mode, or for none, and not sent from here", ""),
    ):
        if amount or words in ("delivered", "to be delivered"):
            print(f"{amount:>11,}  {words}" + (f" ({advice})" if amount and advice else ""))
    for destination, states in sorted(status.by_destination.items()):
        parts = ", ".join(f"{amount:,} {_WORDS.get(state, state)}" for state, amount in sorted(states.items()))
        print(f"  {destination.replace('sandbox:', 'SANDBOX:', 1)}: {parts}")
    if status.oldest_pending_seconds is not None:
        print(f"the oldest has been waiting for {timedelta(seconds=status.oldest_pending_seconds)}")
    for code, amount in status.dead_by_code.items():
        print(f"  refused with {code}: {amount:,}")


def show_summaries(result: results.Summaries) -> None:
    """Usage as a table."""
    rows = [(row.customer, iso(row.start), iso(row.end), number(row.value)) for row in result.rows]
    caption = "" if len(rows) == 1 else f"total {number(result.total)}\n"
    caption += result.destination
    if result.aligned:
        caption += f"\nthe window was widened to {result.group or 'minute'} boundaries, as Stripe asks for"
    title = f"{result.event_name} ({result.meter})\n{result.window}: {iso(result.start)} to {iso(result.end)}"
    table(title, "customer|from (UTC)|to (UTC)|usage>", rows, caption)


def print_csv(result: results.Summaries) -> None:
    """The rows as CSV with a header; times in RFC 3339, and a column that tells the sandbox from Stripe."""
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(("event_name", "customer", "start", "end", "value", "destination"))
    for row in result.rows:
        value = format(row.value.normalize(), "f") if row.value else "0"
        where = "sandbox" if result.sandbox else "stripe"
        writer.writerow((result.event_name, row.customer, iso(row.start), iso(row.end), value, where))


def show_preview(preview: results.InvoicePreview) -> None:
    """The next invoice, line by line; of a customer, one for each subscription."""
    for one in preview.each or (preview,):
        _show_invoice(one)
    if len(preview.each) > 1:
        print(f"\n{len(preview.each)} subscriptions together: {format_minor(preview.total, preview.currency)}")
    print(preview.destination)


def _show_invoice(preview: results.InvoicePreview) -> None:
    def money(minor: int | Decimal | None) -> str:
        return "" if minor is None else format_minor(minor, preview.currency)

    rows = []
    for line in preview.lines:
        period = f"{iso(line.start)[:10]} to {iso(line.end)[:10]}"
        rows.append((line.description, period, number(line.quantity), money(line.unit_amount), money(line.amount)))
    other = preview.total - (preview.subtotal - preview.discounts - preview.credits + preview.taxes)
    balance = preview.amount_due - preview.total
    steps = [
        ("subtotal", preview.subtotal, preview.subtotal != preview.total),
        ("discounts", -preview.discounts, preview.discounts),
        ("credit grants", -preview.credits, preview.credits),
        ("taxes", preview.taxes, preview.taxes),
        ("other", other, other),
        ("total", preview.total, True),
        ("from the customer's balance", balance, balance),
        ("amount due", preview.amount_due, balance),
    ]
    rows += [(words, "", "", "", money(amount)) for words, amount, shown in steps if shown]
    caption = f"taxes of {money(preview.taxes_included)} are included" if preview.taxes_included else ""
    whose = " of ".join(part for part in (preview.subscription, preview.customer) if part)
    table(f"next invoice of {whose}", "line~|period|quantity>|unit price>|amount>", rows, caption)


_ADVICE = {
    "short": "Stripe aggregates with a lag (--wait 120); then `usage errors --fetch`, and the recorder's clock",
    "over": "somebody else sends for this customer too, or an event was billed twice",
    "arrived": "the total fits if the events of unknown fate arrived; nothing to do if nobody else sends",
    "missing": "it fits if they did not; `usage retry ID` sends them again, `usage cancel ID` gives them up",
}


def show_verification(result: results.Verification) -> None:
    """How spool and Stripe compare."""
    compared = result.checked or result.unchecked
    totals = count(result.unchecked, "hourly total")
    say(
        (not compared, f"nothing to compare: this spool has delivered nothing to {result.destination} in that window"),
        (compared, f"{result.matching:,} of {count(result.checked, 'hourly total')} agree with {result.destination}"),
        (result.clock, f"{result.clock}"),
        (result.unchecked, f"{totals} cannot be compared (inactive or pre-aggregated meter)"),
        (result.unknown, f"{count(result.unknown)} of unknown fate; nothing is resent on a guess"),
    )
    if result.differences:
        rows = [
            (row.event_name, row.customer, iso(row.hour), number(row.expected), number(row.found), row.verdict)
            for row in result.differences[:50]
        ]
        kinds = {row.verdict for row in result.differences}
        advice = [f"{kind}: {words}" for kind, words in _ADVICE.items() if kind in kinds]
        caption = "\n".join([count(len(result.differences), "difference"), *advice])
        table("", "event|customer|hour (UTC)|spool>|Stripe>|verdict", rows, caption)


def show_cancelled(result: results.Cancelled) -> None:
    """What became of a cancelled event."""
    words = {
        "not sent": "it is not billed, and will not be sent",
        "cancelled": f"cancelled at {result.destination}",
        "corrected": f"a negative event {result.correction} takes it back; `usage flush` delivers it",
    }
    print(f"{result.identifier}: {words[result.outcome]}")


def show_imported(result: results.Imported, where: str) -> None:
    """What an import found."""
    verb = "would be recorded" if result.dry_run else "recorded"
    new = result.rows if result.dry_run else result.recorded
    before = f", {result.already:,} recorded before" if result.already else ""
    print(f"{count(result.rows, 'row')} read, {count(new)} {verb}{before}")
    for total in result.totals:
        units, window = f"{number(total.value)} units", f"{iso(total.first)} to {iso(total.last)}"
        print(f"  {total.event_name}: {count(total.events)}, {units}, {window}")
    for error in result.errors:
        print(f"  line {error.line}: {error.problem}")
    more = result.bad - len(result.errors)
    say(
        (more > 0, f"  ... and {more:,} more"),
        (result.bad, f"{count(result.bad, 'bad line')} left out; correct them and import the file again"),
        (result.held_back, f"{result.held_back}"),
        (result.dry_run, f"dry run: nothing was recorded; it would go to {where}"),
    )


def show_letters(letters: Sequence[Kept]) -> None:
    """Refused events, a block each."""
    for one in letters:
        details = f"refused {iso(one.settled_at or 0)}{f', request {one.request_id}' if one.request_id else ''}"
        where = ", SANDBOX" if one.destination.startswith("sandbox") else ""
        print(f"{one.identifier}\n  {one.event_name} {one.value} for {one.customer} at {iso(one.timestamp)}")
        print(f"  {one.code}: {one.message} ({details}{where})")
    print(f"\n{count(len(letters))} refused; after the fix: usage retry [--code CODE]; to give one up: usage cancel ID")


def show_reports(result: results.Reports) -> None:
    """What error reports brought."""
    reports, errors = count(result.reports, "error report"), count(result.errors)
    print(f"{reports} taken in: {errors} rejected, {result.matched:,} of them found here")
    say((result.strangers, f"  not in this spool: {', '.join(result.strangers[:10])}"))
