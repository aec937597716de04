"""Text for people: numbers, sentences and tables."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal


def number(value: Decimal) -> str:
    """A Decimal with thousands separators: 26000 -> "26,000"."""
    text = f"{value:,f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def count(amount: int, noun: str = "event") -> str:
    """ "1 event", "2,000 events"."""
    return f"{amount:,} {noun}" + ("" if amount == 1 else "s")


def lines(*sentences: tuple[object, str]) -> str:
    """The sentences whose amount (or reason) is not empty, a line each."""
    return "\n".join(sentence for there, sentence in sentences if there)


def table(columns: str, rows: Sequence[Sequence[str]], *, wrap: bool = False) -> str:
    """A table in the width of the terminal (80 elsewhere).

    columns: the headings, separated by "|"; ">" at the end marks numbers. wrap: the first column may wrap. If the table
    is too wide, each row becomes a block of lines, so identifiers stay whole and easy to copy.
    """
    import shutil
    import textwrap

    headings = [heading.rstrip(">") for heading in columns.split("|")]
    sides = [">" if heading.endswith(">") else "<" for heading in columns.split("|")]
    widths = [max(map(len, cells)) for cells in zip(headings, *rows, strict=True)]
    room = shutil.get_terminal_size((80, 24)).columns - sum(widths) - 2 * (len(widths) - 1)
    if room < 0 and wrap:
        before, widths[0] = widths[0], max(min(16, widths[0]), widths[0] + room)
        room += before - widths[0]
    if room < 0:
        blocks = [[f"  {name}: {cell}" for name, cell in zip(headings, row, strict=True) if cell] for row in rows]
        return "\n\n".join("\n".join(block) for block in blocks)
    shown = []
    for first, *others in (headings, *rows):
        beginning, *rest = textwrap.wrap(first, widths[0]) or [""]
        cells = zip((beginning, *others), sides, widths, strict=True)
        shown += ["  ".join(f"{cell:{side}{width}}" for cell, side, width in cells).rstrip(), *rest]
    return "\n".join(shown)
