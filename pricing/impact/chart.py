"""The bill against usage, old and new, as a picture (SVG) and as a page to explore it (HTML)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from html import escape
from importlib import resources

import money
from components.pricing import Fee
from money import decimal_text
from pricing.impact.comparison import Comparison, Impact

WIDTH, HEIGHT = 760, 420
_LEFT, _RIGHT, _TOP, _BOTTOM = 92, 24, 64, 74
_STEPS = 240
#: What a quarter of an axis is, times a power of ten.
_ROUND = tuple(map(Decimal, ("1", "1.5", "2", "2.5", "3", "4", "5", "6", "8", "10")))
#: The maximum number of marks of a rug: with more customers, each mark stands for several.
_RUG = 400


@dataclass(frozen=True)
class Curve:
    """The data of the chart, in minor units a month.

    Attributes:
        along: the usage charge on the axis; None for seats.
        points: (units, old, new).
        break_even: units at which both versions cost the same.
        rug: the customers' units, sorted.
    """

    along: str | None
    units: str
    currency: str
    seats: Decimal
    points: Sequence[tuple[Decimal, Decimal, Decimal]]
    break_even: Sequence[Decimal]
    rug: Sequence[Decimal]


def curve(comparison: Comparison, impact: Impact) -> Curve | None:
    """The data to draw: the currency with the most customers, by the first usage charge or, without one, by seats.

    None if no customer moves.
    """
    if not impact.currencies:
        return None
    most = impact.currencies[0]
    along = next(iter(most.break_even), None)
    usage = comparison.typical_usage(most)
    at = comparison.curve(most.currency, most.seats, along, usage)
    rug = sorted(each.seats if along is None else each.usage.get(along, Decimal(0)) for each in most.customers)
    crossings = most.break_even.get(along, ()) if along is not None else ()
    end = _end(rug, crossings)
    # Draw the corners of tiers exactly, not at the nearest step.
    places = {end * step / _STEPS for step in range(_STEPS + 1)} | {each for each in crossings if each <= end}
    places |= {each for each in (comparison.corners(along, most.currency) if along else ()) if each <= end}
    if along is None:
        places = {Decimal(seats) for seats in range(int(end) + 1)}
    units = "seats" if along is None else next(use.units for use in impact.plans[0].usage if use.key == along)
    return Curve(along, units, most.currency, most.seats, [at(place) for place in sorted(places)], list(crossings), rug)


def _end(rug: Sequence[Decimal], crossings: Sequence[Decimal]) -> Decimal:
    """The end of the axis: it includes nearly all customers and the first break-even."""
    most = rug[min(len(rug) - 1, len(rug) * 97 // 100)]
    return _nice(max(most * Decimal("1.1"), crossings[0] * Decimal("1.4") if crossings else Decimal(0), Decimal(10)))


def _nice(value: Decimal) -> Decimal:
    """A number of at least this whose quarters are round: they are labelled."""
    power = Decimal(10) ** (value / 4).adjusted()
    return next(4 * power * step for step in _ROUND if 4 * power * step >= value)


def svg(impact: Impact, drawn: Curve) -> str:
    """The picture, with a dark variant for readers who prefer it."""
    right, bottom = WIDTH - _RIGHT, HEIGHT - _BOTTOM
    end = drawn.points[-1][0]
    top = _nice(max(max(old, new) for _, old, new in drawn.points) * Decimal("1.05") + 1)

    def x(units: Decimal) -> str:
        return _figure(_LEFT + (right - _LEFT) * units / end)

    def y(minor: Decimal) -> str:
        return _figure(bottom - (bottom - _TOP) * minor / top)

    parts = []
    for step in range(5):
        bill, units = top * step / 4, end * step / 4
        height = y(bill)
        parts.append(f'<path class="grid" d="M{_LEFT} {height}H{right}"/>')
        label = money.format_minor(bill.to_integral_value(), drawn.currency).replace(".00 ", " ")
        parts.append(f'<text class="tick" x="{_LEFT - 8}" y="{height}" dy="4" text-anchor="end">{label}</text>')
        anchor = "end" if step == 4 else "middle"
        parts.append(
            f'<text class="tick" x="{x(units)}" y="{bottom + 34}" text-anchor="{anchor}">{_units(units)}</text>'
        )
    sampled = drawn.rug[:: max(1, len(drawn.rug) // _RUG)]
    marks = "".join(f"M{x(min(each, end))} {bottom + 5}v10" for each in sampled)
    parts.append(f'<path class="rug" d="{marks}"/>')
    for name, place in (("old", 1), ("new", 2)):
        path = "L".join(f"{x(point[0])} {y(point[place])}" for point in drawn.points)
        parts.append(f'<path class="line {name}" d="M{path}"/>')
    bills = {point[0]: point[1] for point in drawn.points}
    for number, units in enumerate(each for each in drawn.break_even if each <= end):
        at = x(units)
        parts.append(f'<path class="even" d="M{at} {_TOP}V{bottom}"/>')
        parts.append(f'<circle class="even" cx="{at}" cy="{y(bills[units])}" r="4.5"/>')
        beyond = Decimal(at) > (_LEFT + right) / 2
        parts.append(
            f'<text class="mark" x="{at}" y="{_TOP + 14 + 16 * number}" dx="{-8 if beyond else 8}" '
            f'text-anchor="{"end" if beyond else "start"}">break-even {_units(units)}</text>'
        )
    seats = "" if drawn.along is None else f", {_units(drawn.seats)} {'seat' if drawn.seats == 1 else 'seats'}"
    title = f"Bill a month against {drawn.units}{seats}"
    key = "".join(
        f'<path class="line {name}" d="M{left} 44h22"/><text class="key" x="{left + 28}" y="48">{escape(label)}</text>'
        for name, label, left in (
            ("old", impact.old, _LEFT),
            ("new", impact.new, _LEFT + 28 + 9 * len(impact.old) + 24),
        )
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
        f'role="img" aria-label="{escape(title)}">\n<style>{_STYLE}</style>\n'
        f'<rect class="back" width="{WIDTH}" height="{HEIGHT}"/>\n'
        f'<text class="title" x="{_LEFT}" y="24">{escape(title)}</text>\n{key}\n' + "\n".join(parts) + "\n"
        f'<text class="tick" x="{_LEFT}" y="{HEIGHT - 10}">{escape(drawn.units)} a month; '
        f"{_rug_text(drawn, len(sampled))}</text>\n</svg>\n"
    )


_STYLE = (
    "text{font:12px system-ui,-apple-system,'Segoe UI',sans-serif;fill:#3d4450}"
    ".title{font-size:15px;font-weight:600;fill:#14181f}.tick{fill:#5c6470}.mark{fill:#14181f;font-weight:600}"
    ".back{fill:#fff}.grid{stroke:#e3e6ea;fill:none}.line{fill:none;stroke-width:2.5;stroke-linejoin:round}"
    ".old{stroke:#0b63ce;stroke-dasharray:7 4}.new{stroke:#c2410c}.rug{stroke:#5c6470;stroke-opacity:.45;fill:none}"
    "path.even{stroke:#14181f;stroke-dasharray:2 3;fill:none}circle.even{fill:#fff;stroke:#14181f;stroke-width:2}"
    "@media(prefers-color-scheme:dark){text{fill:#c3c9d2}.title,.mark{fill:#f0f3f6}.tick{fill:#9aa3af}.back{fill:#0d1117}"
    ".grid{stroke:#262c36}.old{stroke:#6cb0ff}.new{stroke:#ffa15c}.rug{stroke:#9aa3af}path.even{stroke:#f0f3f6}"
    "circle.even{fill:#0d1117;stroke:#f0f3f6}}"
)


def html(impact: Impact, drawn: Curve) -> str:
    """A page with the same data: set seats and usage, and see both versions' bills line by line. No network."""
    code = drawn.currency
    most = impact.currencies[0]
    data = {
        "currency": code.upper(),
        "exponent": money.exponent(code),
        "along": drawn.along,
        "seats": int(drawn.seats),
        "end": int(drawn.points[-1][0]),
        "rug": [str(each) for each in drawn.rug[:: max(1, len(drawn.rug) // _RUG)]],
        "customers": len(drawn.rug),
        "totals": [most.before, most.after, most.more, most.same, most.less],
        "doubts": list(impact.doubts),
        "versions": [
            {
                "name": name,
                "charges": [
                    {
                        "key": charge.key,
                        "units": None if isinstance(charge, Fee) else charge.units,
                        "perSeat": isinstance(charge, Fee) and charge.per == "seat",
                        "every": [charge.interval, charge.interval_count],
                        "mode": rate.mode,
                        "divideBy": rate.divide_by,
                        "round": rate.round,
                        "bands": [
                            [band.up_to, decimal_text(band.unit_amount), decimal_text(band.flat_amount or 0)]
                            for band in rate.bands
                        ],
                    }
                    for charge in plan.charges
                    for rate in (plan.rate(charge, code),)
                ],
            }
            for name, plan in zip((impact.old, impact.new), impact.plans, strict=True)
        ],
    }
    page = resources.files("pricing").joinpath("explore.html").read_text(encoding="utf-8")
    title = f"{impact.old} → {impact.new}"
    # `<` could end the script.
    return page.replace("{{title}}", escape(title)).replace("{{data}}", json.dumps(data).replace("<", "\\u003c"))


def _rug_text(drawn: Curve, marks: int) -> str:
    one = "a customer" if marks == len(drawn.rug) else "several customers"
    beyond = sum(each > drawn.points[-1][0] for each in drawn.rug)
    further = f", {beyond:,} of them further out" if beyond else ""
    return f"each mark below the axis is {one} ({len(drawn.rug):,}{further})"


def _figure(value: Decimal) -> str:
    return decimal_text(Decimal(value).quantize(Decimal("0.1")))


def _units(value: Decimal) -> str:
    return f"{value.to_integral_value():,}"
