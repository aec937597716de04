"""What holds for every taxed bill, whatever the amounts, discounts and rates: searched for a counter-example."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from sandbox.billing import tax
from sandbox.billing.tax import Rate

from .bills import searched

percentages = st.decimals(0, 100, places=4)
statuses = st.sampled_from([None, "none", "exempt", "reverse"])


@st.composite
def lines(draw: st.DrawFn) -> dict[str, Any]:
    """A line, of any sign, of which discounts have taken a part."""
    amount = draw(st.integers(-(10**9), 10**9))
    off = draw(st.integers(0, amount)) if amount > 0 else 0
    return {"amount": amount, "discount_amounts": [{"amount": off, "discount": "di_1"}] if off else []}


@st.composite
def rates(draw: st.DrawFn, *, inclusive: bool | None = None) -> list[Rate]:
    """Up to four rates of the same line."""
    kinds = st.booleans() if inclusive is None else st.just(inclusive)
    given = draw(st.lists(st.tuples(percentages, kinds), max_size=4, unique=True))
    # One id, one rate: several lines may bear the same.
    return [Rate(f"txr_{percentage}_{kind}", percentage, kind) for percentage, kind in given]


def net(line: dict[str, Any]) -> int:
    return int(line["amount"] - sum(off["amount"] for off in line["discount_amounts"]))


def taxed(line: dict[str, Any]) -> int:
    """What is to be paid for a line."""
    return net(line) + tax.change_of_total(line)


@searched
@given(st.lists(st.tuples(lines(), rates()), max_size=6), statuses)
def test_what_is_paid_is_what_is_left_untaxed_and_every_tax(bill: list[tuple[Any, list[Rate]]], status: Any) -> None:
    for line, of_line in bill:
        tax.apply(line, of_line, status)
    every = tax.totals(line for line, _ in bill)
    paid = sum(taxed(line) for line, _ in bill)
    included = sum(each["amount"] for each in every if each["tax_behavior"] == "inclusive")
    backed_out = sum(line["_backed_out"] for line, _ in bill)
    added = sum(each["amount"] for each in every if each["tax_behavior"] == "exclusive")
    untaxed = sum(net(line) for line, _ in bill) - included - backed_out
    assert paid == untaxed + included + added
    assert sum(each["amount"] for each in every) == sum(each["amount"] for line, _ in bill for each in line["taxes"])


@searched
@given(lines(), rates(inclusive=True))
def test_inclusive_tax_never_changes_what_is_paid(line: dict[str, Any], of_line: list[Rate]) -> None:
    tax.apply(line, of_line, "none")
    assert taxed(line) == net(line)


@searched
@given(lines(), rates(inclusive=False), st.sampled_from(["exempt", "reverse"]))
def test_an_exempt_customer_pays_what_is_left_without_tax(
    line: dict[str, Any], of_line: list[Rate], status: str
) -> None:
    tax.apply(line, of_line, status)
    assert taxed(line) == net(line)
    assert [each["amount"] for each in line["taxes"]] == [0] * len(of_line)


@searched
@given(lines(), percentages, st.booleans())
def test_a_tax_is_within_half_a_unit_of_its_percentage(
    line: dict[str, Any], percentage: Decimal, inclusive: bool
) -> None:
    tax.apply(line, [Rate("txr_1", percentage, inclusive)], None)
    whole = 100 + percentage if inclusive else Decimal(100)
    [found] = line["taxes"]
    assert abs(found["amount"] - Decimal(net(line)) * percentage / whole) <= Decimal("0.5")
    assert found["taxable_amount"] + (found["amount"] if inclusive else 0) == net(line)


@searched
@given(lines(), rates())
def test_a_credit_gives_back_the_tax_that_was_charged(line: dict[str, Any], of_line: list[Rate]) -> None:
    back = {
        "amount": -line["amount"],
        "discount_amounts": [{**off, "amount": -off["amount"]} for off in line["discount_amounts"]],
    }
    for each in (line, back):
        tax.apply(each, of_line, None)
    assert taxed(back) == -taxed(line)
