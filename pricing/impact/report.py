"""An impact as Markdown: first the money, then who pays, then how far to trust it. Its length is bounded."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from decimal import Decimal

import money
from components.pricing import Plan
from pricing.impact.comparison import LEAST_GROUP, TOP, CurrencyImpact, Impact, Month
from pricing.impact.guardrails import Exceeded

#: A GitHub comment has at most 65,536 characters.
LONGEST = 60_000
#: Limits of the text of all prices, and of the usage charges in the customers' table and the break-evens.
_LONGEST_PRICES = 20_000
_MOST_USAGE = 5
_MOST_MISMATCHES = 25


def markdown(
    impact: Impact, guardrails: Sequence[Exceeded] = (), *, idle: Sequence[str] = (), chart: str | None = None
) -> str:
    """The report.

    Args:
        guardrails: the exceeded limits; `idle` are acknowledgements of limits that are not exceeded.
        chart: the address of the picture to show.
    """
    parts = [f"## Pricing impact: {impact.old} → {impact.new}", *summary(impact, guardrails, idle=idle, chart=chart)]
    return bounded("\n\n".join([*parts, *details(impact)]) + "\n")


def summary(
    impact: Impact, guardrails: Sequence[Exceeded] = (), *, idle: Sequence[str] = (), chart: str | None = None
) -> list[str]:
    """The paragraphs that come first: doubts, totals, limits and the chart."""
    parts = [*_doubts(impact), *_headlines(impact), *(_guardrail(each) for each in guardrails)]
    parts += [f"`{name}` is acknowledged but not exceeded: remove it from the stack's config." for name in idle]
    if chart:
        parts.append(f"![Bill against usage, {impact.old} and {impact.new}]({chart})")
    return parts


def details(impact: Impact) -> list[str]:
    """The paragraphs that come after the summary: prices, who pays what, and how far to trust it."""
    parts = [_prices(impact)]
    for each in _shown(impact):
        parts += _currency(impact, each, alone=len(_shown(impact)) == 1)
    return [*parts, *_hidden(impact), *_stay(impact), *_trust(impact)]


def bounded(text: str, longest: int = LONGEST) -> str:
    """A text that fits into a comment; says if it was cut off."""
    if len(text) <= longest:
        return text
    end = "\n\n**The rest is cut off: a comment cannot be longer.**\n"
    return text[: longest - len(end)].rpartition("\n")[0] + end


def _doubts(impact: Impact) -> Iterator[str]:
    if impact.doubts:
        yield "> **Do not trust these figures.**\n" + "\n".join(f"> - {doubt}." for doubt in impact.doubts)


def _headlines(impact: Impact) -> Iterator[str]:
    for each in _shown(impact):
        change = each.after - each.before
        people = "1 customer" if len(each.customers) == 1 else f"{len(each.customers):,} customers"
        yield (
            f"**{signed(change, each.currency)} a month{_share(change, each.before)}**: {people} pay "
            f"{money.format_minor(each.after, each.currency)} instead of "
            f"{money.format_minor(each.before, each.currency)}. {each.more:,} pay more, {each.same:,} the same, "
            f"{each.less:,} less."
        )
    if not impact.currencies:
        yield "**No customer was found whose bill could change.**"


def _guardrail(exceeded: Exceeded) -> str:
    if exceeded.acknowledged:
        return f"⚠️ Exceeds a limit (acknowledged): {exceeded.sentence}."
    return (
        f"⛔ **Exceeds a limit**: {exceeded.sentence}. If that is intended, add `{exceeded.name}` to "
        "`stripe-pricing:acknowledged` in the stack's config."
    )


def _prices(impact: Impact) -> str:
    keys = dict.fromkeys(charge.key for plan in impact.plans for charge in plan.charges)
    longest = _LONGEST_PRICES // (2 * len(keys))
    rows = [(key, *(_charge(plan, key, longest) for plan in impact.plans)) for key in keys]
    return table([("charge", impact.old, impact.new), *rows], right=0)


def _charge(plan: Plan, key: str, longest: int) -> str:
    """A charge's price in words, shortened if it has many tiers."""
    text = next((plan.charge_text(charge) for charge in plan.charges if charge.key == key), "—")
    return text if len(text) <= longest else text[:longest] + " …"


def _shown(impact: Impact) -> list[CurrencyImpact]:
    """The currencies to show: a small group only if there is no larger one."""
    large = [each for each in impact.currencies if len(each.customers) >= LEAST_GROUP]
    return large or list(impact.currencies[:1])


def _hidden(impact: Impact) -> Iterator[str]:
    hidden = [each for each in impact.currencies if each not in _shown(impact)]
    if hidden:
        count = sum(len(each.customers) for each in hidden)
        codes = ", ".join(each.currency for each in hidden)
        yield f"Not shown, because groups of fewer than five would show a customer: {count:,} who pay in {codes}."


def _currency(impact: Impact, each: CurrencyImpact, *, alone: bool) -> Iterator[str]:
    code = each.currency
    title = "" if alone else f" ({code.upper()})"
    half, most = Decimal("0.5"), Decimal("0.95")
    yield f"### Who pays what{title}\n\n" + table(
        [
            ("a month", "change", "percent"),
            ("median", signed(each.change_at(half), code), _percent(each.percent_at(half))),
            ("95th percentile", signed(each.change_at(most), code), _percent(each.percent_at(most))),
            ("largest increase", signed(each.change_at(Decimal(1)), code), _percent(each.percent_at(Decimal(1)))),
        ]
    )
    units = {usage.key: usage.units for usage in impact.plans[0].usage[:_MOST_USAGE]}
    top = sorted(each.customers, key=lambda row: (-abs(row.change), row.customer))[:TOP]
    rows = (
        (
            f"`{row.customer}`",
            _number(row.seats),
            *(_number(row.usage[key]) if key in row.usage else "—" for key in units),
            money.format_minor(row.before, code),
            money.format_minor(row.after, code),
            signed(row.change, code),
            _percent(row.percent),
        )
        for row in top
    )
    heading = ("customer", "seats", *units.values(), "before", "after", "change", "percent")
    yield f"The {len(top)} largest changes a month{title}:\n\n" + table([heading, *rows])
    for key, crossings in each.break_even.items():
        if key in units:
            yield _break_even(impact, each, key, units[key], crossings)
    yield f"### By month{title}\n\n" + table(
        [
            ("month", "billed otherwise", "customers with a new price"),
            *((name, signed(change, code), f"{begin:,}") for name, change, begin in _months(each.months)),
        ]
    )


def _break_even(impact: Impact, each: CurrencyImpact, key: str, units: str, crossings: Sequence[Decimal]) -> str:
    seats = f"With {_number(each.seats)} {'seat' if each.seats == 1 else 'seats'} (the median)"
    if not crossings:
        return f"{seats} there is no break-even in {units}: one version is more expensive at every usage."
    at = " and ".join(f"{_number(units_)}" for units_ in crossings)
    return f"{seats} the break-even is at {at} {units} a month: there {impact.old} and {impact.new} cost the same."


def _months(months: Sequence[Month]) -> Iterator[tuple[str, int, int]]:
    """The rows of months: fewer than five customers join the next month, and equal months share a row."""
    rows: list[tuple[str, str, int, int, bool]] = []
    first, change, begin = "", 0, 0
    for place, month in enumerate(months):
        first, change, begin = first or month.name, change + month.change, begin + month.begin
        if 0 < begin < LEAST_GROUP and place < len(months) - 1:
            continue
        last = rows[-1] if rows else None
        if last and first == month.name and begin == last[3] == 0 and change == last[2]:
            rows[-1] = (last[0], month.name, change, 0, True)
        else:
            rows.append((first, month.name, change, begin, False))
        first, change, begin = "", 0, 0
    for first, end, change, begin, each in rows:
        name = first if first == end else f"{first} to {end}"
        yield name + (", each" if each else ""), change, begin


def _stay(impact: Impact) -> Iterator[str]:
    if impact.stay:
        rows = [("customers", "do not move because"), *((f"{count:,}", why) for why, count in impact.stay.items())]
        yield "### Who does not move\n\n" + table(rows, right=0)


def _trust(impact: Impact) -> Iterator[str]:
    calibration = impact.calibration
    read = f"{impact.invoices:,} closed invoices"
    if impact.first is not None and impact.last is not None:
        read += f", {_day(impact.first)} to {_day(impact.last)}"
    lines = [f"{read}. Rated with the version that billed each: {calibration.sentence}."]
    lines += [
        f"{where} ({count:,} times): {example}."
        for where, (count, example) in list(calibration.mismatches.items())[:_MOST_MISMATCHES]
    ]
    if (rest := len(calibration.mismatches) - _MOST_MISMATCHES) > 0:
        lines.append(f"{rest:,} more charges and tiers differ.")
    yield "### How far to trust this\n\n" + "\n".join(f"- {line}" for line in [*lines, *impact.notes])


def table(rows: Sequence[Sequence[str]], *, right: int = 1) -> str:
    """A table whose columns from `right` on are figures; 0 for none."""
    heading, *body = rows
    rule = ["---:" if right and place >= right else "---" for place in range(len(heading))]
    return "\n".join(_row(row) for row in (heading, rule, *body))


def _row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def signed(minor: int, currency: str) -> str:
    return ("+" if minor > 0 else "") + money.format_minor(minor, currency)


def _share(change: int, before: int) -> str:
    return f" ({Decimal(100) * change / before:+.1f}%)" if before else ""


def _percent(value: Decimal | None) -> str:
    return "—" if value is None else f"{value:+.1f}%"


def _number(value: Decimal) -> str:
    return f"{value.quantize(Decimal(1)):,}" if value == value.to_integral_value() or value > 10 else f"{value:,.1f}"


def _day(at: int) -> str:
    return datetime.fromtimestamp(at, UTC).date().isoformat()
