"""Results for people and programs: tables, CSV and JSON. What went to the sandbox says so in each of them."""

from __future__ import annotations

import json
import shutil
import textwrap
from typing import TYPE_CHECKING

from money import format_minor

from .events import iso

if TYPE_CHECKING:
    from collections.abc import Sequence
    from decimal import Decimal
    from typing import Any

    from . import results
    from .spool import DeadLetter

    Columns = Sequence[tuple[str, str]]


def number(value: Decimal) -> str:
    """A Decimal as people write it: 26000 -> "26,000"."""
    text = f"{value:,f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def count(amount: int, noun: str = "event") -> str:
    """ "1 event", "2,000 events"."""
    return f"{amount:,} {noun}" + ("" if amount == 1 else "s")


def age(seconds: float) -> str:
    """A length of time in words: 45 s, 12 min, 3 h, 2 days."""
    for size, length, unit in ((172_800, 86_400, "days"), (7200, 3600, "h"), (120, 60, "min")):
        if seconds >= size:
            return f"{int(seconds // length)} {unit}"
    return f"{int(seconds)} s"


def print_json(data: Any) -> None:
    """One JSON document."""
    print(json.dumps(data, indent=2, default=str))


def say(*sentences: tuple[object, str]) -> None:
    """Print each sentence whose amount (or reason) there is."""
    for there, sentence in sentences:
        if there:
            print(sentence)


def table(title: str, columns: Columns, rows: Sequence[Sequence[str]], caption: str = "") -> None:
    """A table on standard output, in the width of the terminal (80 elsewhere); columns are (heading, kind).

    kind: "text" may be wrapped, "right" is a number, "whole" an identifier. Only text is wrapped; where the others
    alone are too wide, each row is written as a block of lines instead, so that an identifier can be copied.
    """
    headings = [heading for heading, _ in columns]
    widths = [max(map(len, cells)) for cells in zip(headings, *rows, strict=True)]
    over = sum(widths) + 2 * (len(columns) - 1) - shutil.get_terminal_size((80, 24)).columns
    text = next((place for place, (_, kind) in enumerate(columns) if kind == "text"), None)
    if over > 0 and text is not None:
        narrower = max(min(widths[text], 16), widths[text] - over)
        over -= widths[text] - narrower
        widths[text] = narrower
    print(title)
    if over > 0:
        for row in rows:
            print()
            say(*((cell, f"  {heading}: {cell}") for heading, cell in zip(headings, row, strict=True)))
    else:
        print()
        for row in (headings, *rows):
            _print_row(columns, widths, row)
    say((caption, f"\n{caption}"))


def _print_row(columns: Columns, widths: Sequence[int], row: Sequence[str]) -> None:
    cells = [
        textwrap.wrap(cell, width) or [""] if kind == "text" else [cell]
        for cell, width, (_, kind) in zip(row, widths, columns, strict=True)
    ]
    for line in range(max(map(len, cells))):
        shown = []
        for cell, width, (_, kind) in zip(cells, widths, columns, strict=True):
            part = cell[line] if line < len(cell) else ""
            shown.append(part.rjust(width) if kind == "right" else part.ljust(width))
        print("  ".join(shown).rstrip())


def show_sent(sent: results.Sent) -> None:
    """One delivered event."""
    verb = {"queued": "queued", "off": "not recorded"}.get(sent.state)
    verb = verb or ("already delivered" if sent.duplicate else "delivered")
    print(f"{verb}: {sent.event_name} {number(sent.value)} for {sent.customer} at {iso(sent.timestamp)}")
    print(f"identifier {sent.identifier}\nto {sent.destination}")


def _again(duplicates: int) -> str:
    return f" ({duplicates:,} were there already)" if duplicates else ""


def show_flush(flush: results.Flush) -> None:
    """What a delivery did, in a few lines."""
    print(f"{count(flush.delivered)} delivered{_again(flush.duplicates)} to {flush.destination}")
    for refused in flush.refused:
        request = f", request {refused.request_id}" if refused.request_id else ""
        print(f"  refused {refused.identifier}: {refused.message} [{refused.code}{request}]")
    more = flush.refused_count - len(flush.refused)
    held = "recorded for another account or mode, or for none, and never sent here by itself:\n"
    held += "  `usage status` names them, and `usage flush --take NAME` takes them if you know that they belong here"
    say(
        (more > 0, f"  ... and {more:,} more refused; `usage errors` lists them"),
        (flush.unknown, f"  {count(flush.unknown)} of unknown fate for more than 24 hours: `usage verify` compares"),
        (flush.held, f"  {count(flush.held)} {held}"),
        (flush.pending, f"  {count(flush.pending)} still to be delivered: `usage flush` again"),
        (flush.stopped, f"  stopped: {flush.stopped}"),
    )


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
        parts = ", ".join(f"{amount:,} {state}" for state, amount in sorted(states.items()))
        print(f"  {destination.replace('sandbox:', 'SANDBOX:', 1)}: {parts}")
    if status.oldest_pending_seconds is not None:
        print(f"the oldest has been waiting for {age(status.oldest_pending_seconds)}")
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
    columns = [("customer", "whole"), ("from (UTC)", "whole"), ("to (UTC)", "whole"), ("usage", "right")]
    table(title, columns, rows, caption)


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
    total = preview.subtotal - preview.discounts - preview.credits + preview.taxes
    steps = [
        ("subtotal", preview.subtotal, preview.subtotal != preview.total),
        ("discounts", -preview.discounts, preview.discounts),
        ("credit grants", -preview.credits, preview.credits),
        ("taxes", preview.taxes, preview.taxes),
        ("other", preview.total - total, preview.total != total),
        ("total", preview.total, True),
        ("from the customer's balance", preview.amount_due - preview.total, preview.amount_due != preview.total),
        ("amount due", preview.amount_due, preview.amount_due != preview.total),
    ]
    rows += [(words, "", "", "", money(amount)) for words, amount, shown in steps if shown]
    caption = f"taxes of {money(preview.taxes_included)} are included" if preview.taxes_included else ""
    columns = [("line", "text"), ("period", "whole")]
    columns += [(heading, "right") for heading in ("quantity", "unit price", "amount")]
    whose = " of ".join(part for part in (preview.subscription, preview.customer) if part)
    table(f"next invoice of {whose}", columns, rows, caption)


_ADVICE = {
    "short": "Stripe aggregates with a lag (--wait 120); then `usage errors --fetch`, and the recorder's clock",
    "over": "somebody else sends for this customer too, or an event was billed twice",
    "arrived": "the total fits if the events of unknown fate arrived; nothing to do if nobody else sends",
    "missing": "it fits if they did not; `usage retry ID` sends them again, `usage cancel ID` gives them up",
}


def show_verification(result: results.Verification) -> None:
    """How spool and Stripe compare."""
    compared = result.checked or result.unchecked
    say(
        (not compared, f"nothing to compare: this spool has delivered nothing to {result.destination} in that window"),
        (compared, f"{result.matching:,} of {count(result.checked, 'hourly total')} agree with {result.destination}"),
        (result.clock, f"{result.clock}"),
        (
            result.unchecked,
            f"{count(result.unchecked, 'hourly total')} cannot be compared (inactive or pre-aggregated meter)",
        ),
        (result.unknown, f"{count(result.unknown)} of unknown fate; nothing is resent on a guess"),
    )
    if result.differences:
        rows = [
            (row.event_name, row.customer, iso(row.hour), number(row.expected), number(row.found), row.verdict)
            for row in result.differences[:50]
        ]
        columns = [("event", "whole"), ("customer", "whole"), ("hour (UTC)", "whole"), ("spool", "right")]
        columns += [("Stripe", "right"), ("verdict", "whole")]
        kinds = {row.verdict for row in result.differences}
        advice = [f"{kind}: {words}" for kind, words in _ADVICE.items() if kind in kinds]
        table("", columns, rows, "\n".join([count(len(result.differences), "difference"), *advice]))


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


def show_drained(result: results.Drained) -> None:
    """What a drain did."""
    messages = count(result.messages, "message")
    print(f"{count(result.delivered)} of {messages} delivered{_again(result.duplicates)} to {result.destination}")
    say(
        (result.refused, f"  {count(result.refused)} refused, now in this worker's spool: `usage errors`"),
        (result.unknown, f"  {count(result.unknown)} of unknown fate for more than 24 hours: `usage verify`"),
        (result.returned, f"  {count(result.returned, 'message')} given back to the queue"),
        (result.stopped, f"  stopped: {result.stopped}"),
    )


def show_letters(letters: Sequence[DeadLetter]) -> None:
    """Refused events, a block each."""
    for letter in letters:
        event = letter.event
        request = f", request {letter.request_id}" if letter.request_id else ""
        where = ", SANDBOX" if letter.destination.startswith("sandbox") else ""
        print(f"{event.identifier}\n  {event.event_name} {event.value} for {event.customer} at {iso(event.timestamp)}")
        print(f"  {letter.code}: {letter.message} (refused {iso(letter.refused_at)}{request}{where})")
    print(f"\n{count(len(letters))} refused; after the fix: usage retry [--code CODE]; to give one up: usage cancel ID")


def show_reports(result: results.Reports) -> None:
    """What error reports brought."""
    reports, errors = count(result.reports, "error report"), count(result.errors)
    print(f"{reports} taken in: {errors} rejected, {result.matched:,} of them found here")
    say((result.strangers, f"  not in this spool: {', '.join(result.strangers[:10])}"))
