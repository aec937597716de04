"""Who pays what when a version takes the place of another: the core, on invoices that are written out by hand."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from decimal import Decimal
from itertools import pairwise
from random import Random

import pytest

from components.pricing import Fee, Overage, Plan, Tier, Usage
from components.prover import cost
from components.rating import rate_lines
from pricing.impact.comparison import Comparison, Impact, OpenUsage, Standing, merged
from pricing.invoices import Billed, BilledLine, Charged
from tests.pricing.billed import seconds

V1 = Plan("Alpaca.ai", fees=Fee("100.00"), usage=Usage("token", included=1_000, overage=Overage("0.04", per=100)))
V2 = Plan("Alpaca.ai", fees=Fee("120.00"), usage=Usage("token", included=5_000, overage=Overage("0.03", per=100)))
NOW = seconds("2026-11-28")


def fee(seats: int, each: int, start: str, end: str, version: int = 1) -> Charged:
    line = BilledLine(Decimal(seats), seats * each, Decimal(each))
    return Charged(version, "license", seconds(start), seconds(end), (line,))


def tokens(*lines: tuple[int, str, int], start: str, end: str, version: int = 1) -> Charged:
    rows = tuple(BilledLine(Decimal(units), amount, Decimal(each)) for units, each, amount in lines)
    return Charged(version, "usage", seconds(start), seconds(end), rows)


def invoice(name: str, day: str, *charged: Charged, currency: str = "usd", **aside: int) -> Billed:
    return Billed(f"i-{name}-{day}", f"c-{name}", f"s-{name}", currency, seconds(day), charged, aside)


def october(name: str, seats: int, used: tuple[tuple[int, str, int], ...], **aside: int) -> Billed:
    """One customer's invoice of 15 October: the fee in advance, the tokens in arrears."""
    return invoice(
        name,
        "2026-10-15",
        fee(seats, 10_000, "2026-10-15", "2026-11-15"),
        tokens(*used, start="2026-09-15", end="2026-10-15"),
        currency="usd",
        **aside,
    )


#: 1 seat and 26,000 tokens: 100.00 + 25,000 at 0.04 cents = 110.00; with version 2, 120.00 + 21,000 at 0.03 = 126.30.
ADA = october("ada", 1, ((1_000, "0", 0), (25_000, "0.04", 1_000)))
#: 2 seats and 700 tokens: 200.00, then 240.00.
BEN = october("ben", 2, ((700, "0", 0),))
#: 1 seat and 401,000 tokens: 100.00 + 160.00 = 260.00; then 120.00 + 396,000 at 0.03 = 238.80.
CY = october("cy", 1, ((1_000, "0", 0), (400_000, "0.04", 16_000)))


def compared(invoices: Iterable[Billed], old: Plan = V1, new: Plan = V2, **result: object) -> Impact:
    comparison = Comparison("alpaca-ai", {1: old, 2: new}, 1, 2)
    for each in invoices:
        comparison.add(each)
    return comparison.result(now=NOW, **result)  # type: ignore[arg-type]


def test_bills_before_and_after_are_those_worked_by_hand() -> None:
    [usd] = compared([ADA, BEN, CY]).currencies
    assert [(each.customer, each.before, each.after) for each in usd.customers] == [
        ("c-ben", 20_000, 24_000),
        ("c-ada", 11_000, 12_630),
        ("c-cy", 26_000, 23_880),
    ]
    assert (usd.before, usd.after, usd.more, usd.same, usd.less) == (57_000, 60_510, 2, 0, 1)
    assert usd.change_at(Decimal("0.5")) == 1_630
    assert usd.change_at(Decimal("0.95")) == 4_000


def test_break_even_is_where_the_two_versions_cost_the_same() -> None:
    """With 1 seat: 100 + (u - 1,000) x 0.0004 = 120 + (u - 5,000) x 0.0003 at u = 189,000."""
    [usd] = compared([ADA, BEN, CY]).currencies
    assert usd.seats == 1
    assert usd.break_even == {"usage": [Decimal(189_000)]}


def test_an_average_month_is_over_the_periods_that_were_billed() -> None:
    """26,000 tokens, then none: 110.00 and 100.00 are 105.00 a month; then 126.30 and 120.00 are 123.15."""
    next_month = invoice(
        "ada",
        "2026-11-15",
        fee(1, 10_000, "2026-11-15", "2026-12-15"),
        tokens((0, "0", 0), start="2026-10-15", end="2026-11-15"),
    )
    [usd] = compared([next_month, ADA]).currencies
    assert [(each.before, each.after, each.usage) for each in usd.customers] == [
        (10_500, 12_315, {"usage": Decimal(13_000)})
    ]


def test_fees_change_at_the_renewal_and_usage_a_period_later() -> None:
    """Renewed on 15 December: +20.00 then; what was used before it is billed at the old price, -3.70 from January."""
    [usd] = compared([ADA]).currencies
    assert [(month.name, month.change, month.begin) for month in usd.months[:4]] == [
        ("2026-11", 0, 0),
        ("2026-12", 2_000, 1),
        ("2027-01", 1_630, 0),
        ("2027-02", 1_630, 0),
    ]


def test_a_yearly_fee_changes_in_the_month_of_its_renewal_alone() -> None:
    old, new = (Plan("Y", fees=Fee(each, interval="year")) for each in ("1200.00", "1320.00"))
    yearly = invoice("yu", "2026-03-10", fee(1, 120_000, "2026-03-10", "2027-03-10"))
    [usd] = compared([yearly], old, new).currencies
    assert (usd.before, usd.after) == (10_000, 11_000)
    assert {month.name: month.change for month in usd.months if month.change} == {"2027-03": 12_000}


def test_lines_that_are_not_reproduced_are_counted_by_reason() -> None:
    coupon = invoice(
        "di",
        "2026-10-15",
        Charged(
            1,
            "license",
            seconds("2026-10-15"),
            seconds("2026-11-15"),
            (BilledLine(Decimal(1), 10_000, Decimal(10_000), off=1_000),),
        ),
        manual=2,
    )
    calibration = compared([ADA, BEN, CY, coupon]).calibration
    assert calibration.sentence == "8 of 11 lines reproduced to the cent; 3 not: 2 manual, 1 coupon"


def test_too_few_reproduced_lines_are_no_figures_to_trust() -> None:
    wrong = october("eve", 1, ((1_000, "0", 0), (25_000, "0.05", 1_250)))
    impact = compared([ADA, wrong])
    assert impact.doubts == [
        "83.3% of the lines are reproduced to the cent, but 99.0% must be",
        "the prices of alpaca-ai and the invoices differ in alpaca-ai@1 usage, tier 2",
    ]
    [(count, example)] = impact.calibration.mismatches.values()
    assert count == 1
    assert example == (
        "the version gives 25,000 at 0.0004 USD = 10.00 USD, and an invoice has 1,000 at 0.00 USD = 0.00 USD + 25,000 "
        "at 0.0005 USD = 12.50 USD"
    )


def test_a_period_that_a_threshold_has_billed_in_part_is_said() -> None:
    """40,000 tokens, of which 30,000 had been billed before."""
    rest = tokens((1_000, "0", 0), (39_000, "0.04", 1_560), (0, "1160", -1_160), start="2026-09-15", end="2026-10-15")
    fees = fee(1, 10_000, "2026-10-15", "2026-11-15")
    impact = compared([invoice("tom", "2026-10-15", fees, rest), BEN])
    assert impact.calibration.others == {"threshold": 3}
    assert "3 lines are for periods that billing thresholds had billed in part: their usage is omitted" in impact.doubts


def test_a_trial_is_no_period_of_a_bill() -> None:
    trial = Charged(
        1, "license", seconds("2026-09-15"), seconds("2026-10-15"), (BilledLine(Decimal(1), 0, Decimal(0)),)
    )
    impact = compared([invoice("ada", "2026-09-15", trial), ADA])
    assert impact.currencies[0].before == 11_000
    assert impact.calibration.others == {"trial": 1}


def test_who_is_not_moved_is_told_apart_and_small_groups_are_put_together() -> None:
    everybody = [october(f"n{number}", 1, ((700, "0", 0),)) for number in range(16)]
    ways = {6: "in a trial", 8: "past due", 9: "locked"}
    standings = {
        each.subscription: Standing(next((why for end, why in ways.items() if number < end), None))
        for number, each in enumerate(everybody[:15])
    }
    impact = compared(everybody, standings=standings)
    # Six trials; two past due, one locked and one that has left are together.
    assert impact.stay == {"in a trial": 6, "other reasons": 4}
    assert len(impact.currencies[0].customers) == 6


@pytest.mark.parametrize("newest_first", [True, False])
def test_who_pays_another_version_is_not_moved(newest_first: bool) -> None:
    """The invoice of the move has the new fee, and the usage before it at the old price."""
    moved = invoice(
        "ada",
        "2026-11-15",
        fee(1, 12_000, "2026-11-15", "2026-12-15", version=2),
        tokens((900, "0", 0), start="2026-10-15", end="2026-11-15"),
    )
    impact = compared([moved, ADA, BEN] if newest_first else [ADA, moved, BEN])
    assert impact.stay == {"already on alpaca-ai@2": 1}
    assert [each.customer for each in impact.currencies[0].customers] == ["c-ben"]
    assert impact.calibration.share == 1


def test_a_rollout_that_keeps_them_says_so_and_shows_what_a_move_would_do() -> None:
    impact = compared([ADA, BEN], stays="kept")
    assert impact.stay == {"kept": 2}
    assert impact.currencies[0].after == 36_630


def test_a_customer_without_usage_on_any_invoice_is_said() -> None:
    first = invoice("new", "2026-10-15", fee(1, 10_000, "2026-10-15", "2026-11-15"))
    impact = compared([first, BEN])
    (note,) = [note for note in impact.notes if note.startswith("1 customer is without usage on any invoice")]
    assert "do not trust their change" in note


def test_an_open_period_counts_like_a_closed_one() -> None:
    """Ada: closed 26,000 tokens, open 51,000: the mean of 10.00 and 20.00; her renewal stays the one that comes."""
    comparison = Comparison("alpaca-ai", {1: V1, 2: V2}, 1, 2)
    for each in (ADA, BEN):
        comparison.add(each)
    used = OpenUsage("s-ada", 1, "usage", seconds("2026-10-15"), Decimal(51_000))
    # Of another version, and of a subscription that no invoice shows: their seats or their bill are unknown.
    for usage in (used, replace(used, version=2), replace(used, subscription="s-nobody")):
        comparison.add_open(usage)
    impact = comparison.result(now=NOW)
    (before,), (after,) = compared([ADA, BEN]).currencies, impact.currencies
    assert after.before - before.before == 500
    assert [month.begin for month in after.months] == [month.begin for month in before.months]
    assert any(note.startswith("The open period of 1 subscription is included") for note in impact.notes)
    assert impact.calibration.share == 1


def test_currencies_are_never_added_up() -> None:
    both = {"usd": "100.00", "eur": "90.00"}
    old, new = Plan("E", fees=Fee(both)), Plan("E", fees=Fee({"usd": "110.00", "eur": "90.00"}))
    euro = invoice("eva", "2026-10-15", fee(1, 9_000, "2026-10-15", "2026-11-15"), currency="eur")
    dollar = invoice("ada", "2026-10-15", fee(1, 10_000, "2026-10-15", "2026-11-15"))
    impact = compared([euro, dollar], old, new)
    assert {each.currency: each.after for each in impact.currencies} == {"eur": 9_000, "usd": 11_000}
    assert "Currencies are never added up: each has its own figures." in impact.notes


def test_a_currency_that_a_version_is_not_sold_in_is_no_zero() -> None:
    pound = invoice("pip", "2026-10-15", fee(1, 8_000, "2026-10-15", "2026-11-15"), currency="gbp")
    impact = compared([ADA, pound])
    assert [each.customer for each in impact.currencies[0].customers] == ["c-ada"]
    assert any("billed in gbp" in doubt for doubt in impact.doubts)


def test_usage_that_no_invoice_shows_is_said() -> None:
    new = Plan("Alpaca.ai", fees=Fee("100.00"), usage=[*V1.usage, Usage("call", key="calls", overage="0.01")])
    impact = compared([ADA], V1, new)
    assert any("bills usage that no invoice shows (calls)" in doubt for doubt in impact.doubts)


def test_a_fee_that_comes_to_it_is_in_the_bill_after() -> None:
    """5 seats at 100.00, then 30.00 for the subscription and 2.00 for each seat more."""
    old = Plan("P", fees=Fee("100.00"))
    new = Plan("P", fees=[Fee("100.00"), Fee("30.00", key="base", per="subscription"), Fee("2.00", key="support")])
    [usd] = compared([invoice("ada", "2026-10-15", fee(5, 10_000, "2026-10-15", "2026-11-15"))], old, new).currencies
    assert (usd.before, usd.after) == (50_000, 54_000)


def test_no_invoice_at_all_is_not_a_zero() -> None:
    impact = compared([])
    assert impact.doubts == ["no closed invoice of alpaca-ai was found: it cannot be told who pays what"]


@pytest.mark.parametrize(
    ("groups", "shown"),
    [
        ({"a": 5, "b": 9}, {"b": 9, "a": 5}),
        ({"a": 4, "b": 9, "c": 2}, {"b": 9, "others": 6}),
        ({"a": 3}, {"a": 3}),
        ({}, {}),
    ],
)
def test_groups_under_five_are_put_together(groups: dict[str, int], shown: dict[str, int]) -> None:
    assert list(merged(groups, "others").items()) == list(shown.items())


def random_tiers(chance: Random) -> tuple[list[int], list[Decimal], list[int | None]]:
    ends = sorted(chance.sample(range(1, 400), chance.randint(1, 4)))
    rates = [Decimal(chance.randint(1, 9_999)) / 1000 for _ in range(len(ends) + 1)]
    return ends, rates, [chance.choice([None, chance.randint(1, 5_000)]) for _ in rates]


def tiered(ends: list[int], rates: list[Decimal], flats: list[int | None], mode: str) -> Plan:
    tiers = [
        Tier(rate / 100, up_to=end, flat=None if flat is None else Decimal(flat) / 100)
        for end, rate, flat in zip([*ends, None], rates, flats, strict=True)
    ]
    return Plan("T", usage=Usage("unit", tiers=tiers, tiers_mode=mode))  # type: ignore[arg-type]


def test_a_hundred_errors_in_one_tier_are_all_named() -> None:
    """Invoices are of the plan without the error; the one compared has it in a rate, an end or a flat amount."""
    chance = Random(2026)
    for number in range(100):
        mode = chance.choice(["graduated", "volume"])
        ends, rates, flats = random_tiers(chance)
        true = tiered(ends, rates, flats, mode)
        tier = chance.randrange(len(rates))
        what = chance.choice(["rate", "end", "flat"])
        if what == "end" and tier < len(ends):
            ends = [*ends[:tier], ends[tier] + 1, *(end + 1 for end in ends[tier + 1 :])][: len(ends)]
        elif what == "flat":
            flats = [*flats]
            flats[tier] = (flats[tier] or 0) + 1
        else:
            # A ten-thousandth of a cent a unit, which most lines round away.
            rates = [*rates]
            rates[tier] += Decimal("0.0001")
        wrong = tiered(ends, rates, flats, mode)
        rate = true.rate(true.usage[0], "usd")
        comparison = Comparison("t", {1: wrong, 2: true}, 1, 2)
        corners = {0, 1_000, *(units for end in ends for units in (end - 1, end, end + 1))}
        for units in corners:
            lines = tuple(
                BilledLine(line.quantity, line.amount, line.unit_amount) for line in rate_lines("usage", rate, units)
            )
            charged = Charged(1, "usage", seconds("2026-09-01"), seconds("2026-10-01"), lines)
            comparison.add(invoice(f"u{units}", "2026-10-01", charged))
        impact = comparison.result(now=NOW)
        named = [where for where in impact.calibration.mismatches if f"tier {tier + 1}" in where]
        assert named, (number, what, tier, list(impact.calibration.mismatches))
        assert impact.doubts


def test_break_evens_are_those_that_brute_force_finds() -> None:
    chance = Random(7)
    seen = 0
    for _ in range(200):
        ends_a, rates_a, _ = random_tiers(chance)
        ends_b, rates_b, _ = random_tiers(chance)
        first = tiered(ends_a, rates_a, [None] * len(rates_a), "graduated")
        second = tiered(ends_b, rates_b, [None] * len(rates_b), "graduated")
        comparison = Comparison("t", {1: first, 2: second}, 1, 2)
        found = comparison.break_even("usage", "usd", Decimal(1), {})
        rates = [plan.rate(plan.usage[0], "usd") for plan in (first, second)]
        signs = []
        for units in range(3_000):
            a, b = (cost(rate, Decimal(units)) for rate in rates)
            if a != b:
                signs.append((units, a > b))
        changes = [units for (_, was), (units, now) in pairwise(signs) if was != now]
        seen += len(changes)
        near = [units for units in found if units < 2_990]
        assert len(near) == len(changes), (near, changes)
        assert all(change - 2 <= units <= change for units, change in zip(near, changes, strict=True)), (near, changes)
    assert seen > 50
