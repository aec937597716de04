"""What holds for every discounted bill, whatever the coupons and their order: searched for a counter-example."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from sandbox.billing import cycle, discounts
from sandbox.billing.money import split

from .bills import searched
from .test_billing_properties import END, START, Shelf, contract, item

PRODUCTS = ("p1", "p2", "p3")


def coupons() -> st.SearchStrategy[dict[str, Any]]:
    applies = st.none() | st.fixed_dictionaries({"products": st.lists(st.sampled_from(PRODUCTS), max_size=2)})
    percents = st.fixed_dictionaries(
        {"percent_off": st.decimals("0.01", 100, places=2).map(float), "amount_off": st.none(), "applies_to": applies}
    )
    amounts = st.fixed_dictionaries(
        {"percent_off": st.none(), "amount_off": st.integers(1, 20_000), "applies_to": applies}
    )
    return (percents | amounts).map(lambda coupon: {**coupon, "currency": "usd"})


@st.composite
def given_discounts(draw: st.DrawFn, prefix: str, most: int = 3) -> list[dict[str, Any]]:
    found = draw(st.lists(coupons(), max_size=most))
    return [{"id": f"{prefix}{index}", "coupon": coupon} for index, coupon in enumerate(found)]


@st.composite
def lines(draw: st.DrawFn, whole: list[dict[str, Any]]) -> list[dict[str, Any]]:
    shared = draw(given_discounts("shared", 2))
    rows = []
    for index in range(draw(st.integers(1, 5))):
        own = draw(given_discounts(f"own{index}-", 2))
        # An item may share a discount with another, or reuse one of the subscription's.
        own += [discount for discount in (*shared, *whole) if draw(st.booleans())]
        rows.append(
            {
                "amount": draw(st.integers(-500, 10_000)),
                "discountable": draw(st.booleans() | st.just(True)),
                "pricing": {"price_details": {"product": draw(st.sampled_from(PRODUCTS))}},
                "_discounts": own,
            }
        )
    return rows


@searched
@given(st.data())
def test_no_line_and_no_coupon_gives_more_than_it_has(data: st.DataObject) -> None:
    whole = data.draw(given_discounts("whole"))
    rows = data.draw(lines(whole))
    discounts.apply(rows, whole, "usd")
    by_discount: dict[str, int] = {}
    for row in rows:
        taken = [given["amount"] for given in row["discount_amounts"]]
        assert all(amount >= 0 for amount in taken)
        assert sum(taken) <= max(row["amount"], 0)
        assert not taken or row["discountable"]
        assert len({given["discount"] for given in row["discount_amounts"]}) == len(taken)
        for each in row["discount_amounts"]:
            by_discount[each["discount"]] = by_discount.get(each["discount"], 0) + each["amount"]
    every = {discount["id"]: discount["coupon"] for row in rows for discount in (*row["_discounts"], *whole)}
    for id, amount in by_discount.items():
        most = every[id]["amount_off"]
        assert most is None or amount <= most


@searched
@given(st.data())
def test_a_line_that_no_coupon_is_for_is_left_alone(data: st.DataObject) -> None:
    whole = data.draw(given_discounts("whole"))
    rows = data.draw(lines(whole))
    discounts.apply(rows, whole, "usd")
    for row in rows:
        product = row["pricing"]["price_details"]["product"]
        for taken in row["discount_amounts"]:
            [coupon] = {
                str(discount["coupon"]): discount["coupon"]
                for discount in (*row["_discounts"], *whole)
                if discount["id"] == taken["discount"]
            }.values()
            products = (coupon["applies_to"] or {}).get("products")
            assert not products or product in products


@searched
@given(st.lists(st.integers(0, 50), min_size=1, max_size=8), st.data())
def test_shares_sum_to_the_whole_and_none_is_more_than_its_weight(weights: list[int], data: st.DataObject) -> None:
    total = data.draw(st.integers(0, sum(weights)))
    shares = split(total, weights)
    assert sum(shares) == total
    assert all(0 <= share <= weight for share, weight in zip(shares, weights, strict=True))


def changed(
    off: list[dict[str, Any]], own: list[dict[str, Any]], fees: tuple[int, int], at: int, mode: dict[str, Any]
) -> list[dict[str, Any]]:
    """What an item's quantity going from 1 to 2 at `at` puts on the next invoice, its fee having been discounted."""
    shelf = Shelf(given={discount["id"]: discount for discount in (*off, *own)})
    for name, fee in zip(("p1", "p2"), fees, strict=True):
        shelf.add(name, unit_amount_decimal=str(fee))
    first, second = {**item("p1", 1, "si_1"), "discounts": [each["id"] for each in own]}, item("p2", 1, "si_2")
    held = contract(shelf, first, second)
    held.subscription.update(billing_mode=mode, discounts=[each["id"] for each in off])
    draft = cycle.begin(held, START, "create_prorations")
    assert draft is not None
    for line in draft.lines:
        line.update(id="il_1", invoice="in_1", _discounts=[shelf.given[id] for id in line["discounts"]])
    discounts.apply(draft.lines, off, "usd")
    cycle.billed(held, draft.lines)
    after = [{**held.items[0], "quantity": 2}, held.items[1]]
    cycle.change_items(held, after, at, "create_prorations")
    return held.pending


AT = st.integers(START, END - 1)
FEES = st.tuples(st.integers(1, 50_000), st.integers(1, 50_000))


@searched
@given(given_discounts("whole"), given_discounts("own"), FEES, AT)
def test_a_credit_is_never_more_than_was_charged_and_a_debit_never_more_than_the_fee(
    off: list[dict[str, Any]], own: list[dict[str, Any]], fees: tuple[int, int], at: int
) -> None:
    pending = changed(off, own, fees, at, {"type": "flexible"})
    for each in pending:
        assert -fees[0] <= each["amount"] <= 2 * fees[0]
        assert (each["amount"] <= 0) == each["description"].startswith("Unused") or each["amount"] == 0


@searched
@given(given_discounts("whole"), given_discounts("own"), FEES, AT)
def test_itemized_and_included_prorations_are_the_same_money(
    off: list[dict[str, Any]], own: list[dict[str, Any]], fees: tuple[int, int], at: int
) -> None:
    included = changed(off, own, fees, at, {"type": "flexible"})
    itemized = changed(off, own, fees, at, {"type": "flexible", "flexible": {"proration_discounts": "itemized"}})

    def net(items: list[dict[str, Any]]) -> int:
        taken = (shown["amount"] for each in items for shown in each["proration_details"]["discount_amounts"])
        return int(sum(each["amount"] for each in items) - sum(taken))

    assert net(included) == net(itemized)
    assert all(given["amount"] == 0 for each in included for given in each["proration_details"]["discount_amounts"])


@searched
@given(st.lists(st.integers(0, 10_000), min_size=1, max_size=5), given_discounts("whole"))
def test_what_is_taken_off_exactly_is_what_is_taken_off_in_cents_but_for_the_rounding(
    fees: list[int], whole: list[dict[str, Any]]
) -> None:
    parts = [discounts.Part(Decimal(fee), PRODUCTS[index % 3]) for index, fee in enumerate(fees)]
    rows: list[dict[str, Any]] = [
        {
            "amount": fee,
            "discountable": True,
            "pricing": {"price_details": {"product": PRODUCTS[index % 3]}},
        }
        for index, fee in enumerate(fees)
    ]
    discounts.apply(rows, whole, "usd")
    for exact, row in zip(discounts.reductions(parts, whole, "usd"), rows, strict=True):
        cents = sum(given["amount"] for given in row["discount_amounts"])
        # A cent a discount for its own rounding, and one a line that may be left to it.
        assert abs(sum(exact.values()) - cents) <= (len(fees) + 1) * len(whole)
