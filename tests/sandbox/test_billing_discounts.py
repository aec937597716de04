"""Coupons on subscriptions: what they take off which invoices, the arithmetic beside it."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import stripe

from .bills import World, at, lines, refusal


@pytest.fixture
def world(client: stripe.StripeClient) -> World:
    return World(client, "2026-04-01")


@pytest.fixture
def license(world: World) -> str:
    return world.price("License", "10000")


def coupon(world: World, **params: Any) -> list[dict[str, str]]:
    given: Any = params
    return [{"coupon": world.v1.coupons.create(given).id}]


def totals(world: World) -> list[int]:
    return [invoice.total for invoice in world.invoices()]


def test_a_percentage_forever_is_taken_off_every_fee_and_usage(world: World, license: str) -> None:
    tokens = world.usage_price("Tokens", world.meter("tokens"), unit_amount_decimal="0.04")
    off = coupon(world, percent_off=25, duration="forever")
    subscription = world.subscribe((license, 3), tokens, discounts=off)
    world.use("tokens", 26_000)
    # 300.00 + 10.40 = 310.40, less a quarter: 77.60
    assert world.preview(subscription.id).total == 23_280
    world.go("2026-05-01T02:00:00")
    assert totals(world) == [22_500, 23_280]
    invoice = world.invoices()[-1]
    assert invoice.subtotal == 31_040
    assert [given.amount for given in invoice.total_discount_amounts or ()] == [7_760]
    assert sum(given.amount for line in invoice.lines.data for given in line.discount_amounts or ()) == 7_760


def test_once_is_used_up_by_the_first_invoice_it_takes_something_off(world: World, license: str) -> None:
    off = coupon(world, percent_off=50, duration="once")
    subscription = world.subscribe(license, discounts=off, trial_period_days=7)
    assert len(subscription.discounts) == 1
    world.go("2026-04-08T02:00:00")
    world.go("2026-05-08T02:00:00")
    # nothing to take off the trial's invoice; half of the first month
    assert totals(world) == [0, 5_000, 10_000]
    assert world.v1.subscriptions.retrieve(subscription.id).discounts == []


def test_repeating_ends_after_its_months(world: World, license: str) -> None:
    world.subscribe(license, discounts=coupon(world, percent_off=10, duration="repeating", duration_in_months=2))
    for day in ("2026-05-01T02:00:00", "2026-06-01T02:00:00"):
        world.go(day)
    assert totals(world) == [9_000, 9_000, 10_000]


def test_an_amount_is_taken_off_and_never_more_than_there_is(world: World, license: str) -> None:
    off = coupon(world, amount_off=15_000, currency="usd", duration="forever")
    world.subscribe((license, 1), discounts=off)
    world.subscribe((world.price("Team", "10000"), 2), discounts=off)
    assert totals(world) == [0, 5_000]
    assert world.invoices()[0].status == "paid"


def test_an_amount_is_shared_out_over_the_lines(world: World, license: str) -> None:
    off = coupon(world, amount_off=1_000, currency="usd", duration="once")
    world.subscribe((license, 1), (world.price("Support", "5000"), 1), discounts=off)
    shares = [given.amount for line in world.invoices()[-1].lines.data for given in line.discount_amounts or ()]
    # 10.00 over 100.00 and 50.00: 6.66⅔ and 3.33⅓, each rounded down, the cent that is left to the last
    assert shares == [666, 334]
    assert totals(world) == [14_000]


def test_a_coupon_for_one_product_leaves_the_others(world: World, license: str) -> None:
    product = str(world.v1.prices.retrieve(license).product)
    off = coupon(world, percent_off=50, duration="forever", applies_to={"products": [product]})
    world.subscribe((license, 1), (world.price("Support", "5000"), 1), discounts=off)
    assert totals(world) == [10_000]


def test_two_discounts_follow_one_another(world: World, license: str) -> None:
    off = [
        *coupon(world, percent_off=10, duration="forever"),
        *coupon(world, amount_off=1_000, currency="usd", duration="forever"),
    ]
    world.subscribe(license, discounts=off)
    # 100.00 − 10 % − 10.00
    assert totals(world) == [8_000]


@pytest.mark.parametrize("mode", ["flexible", "classic"])
def test_prorations_are_net_of_a_percentage(world: World, license: str, mode: str) -> None:
    off = coupon(world, percent_off=50, duration="forever")
    subscription = world.subscribe((license, 2), discounts=off, billing_mode={"type": mode})
    world.go("2026-04-16")
    item = subscription["items"].data[0].id
    world.change(subscription.id, {"id": item, "quantity": 4}, proration_behavior="always_invoice")
    # half of April at half price: −50.00 for 2 seats, +100.00 for 4
    assert lines(world.invoices()[-1]) == [
        ("Unused time on 2 × License after 16 Apr 2026", -5_000),
        ("Remaining time on 4 × License after 16 Apr 2026", 10_000),
    ]


def test_a_credit_is_never_more_than_was_charged_though_the_discount_is_gone(world: World, license: str) -> None:
    subscription = world.subscribe(license, discounts=coupon(world, percent_off=50, duration="once"))
    world.go("2026-04-16")
    world.v1.subscriptions.cancel(subscription.id, {"invoice_now": True, "prorate": True})
    # half of the 50.00 that was charged
    assert totals(world) == [5_000, -2_500]


def test_a_credit_in_a_backdated_subscription_is_of_its_own_period(world: World, license: str) -> None:
    world.go("2026-05-16")
    off = coupon(world, percent_off=50, duration="forever")
    subscription = world.subscribe(license, discounts=off, backdate_start_date=at("2026-04-01"))
    world.v1.subscriptions.cancel(subscription.id, {"invoice_now": True, "prorate": True})
    # April and May at half price; 16 of May's 31 days of 50.00 back: 2,580.6
    assert totals(world) == [10_000, -2_581]


@pytest.mark.parametrize(
    ("duration", "first", "second"),
    [
        # made on 1 March from 1 January: a fee of 100.00 for each of three months, then that of April
        ({"duration": "repeating", "duration_in_months": 2}, [5_000, 5_000, 10_000], 10_000),
        ({"duration": "repeating", "duration_in_months": 3}, [5_000, 5_000, 5_000], 10_000),
        ({"duration": "once"}, [5_000, 5_000, 5_000], 10_000),
        ({"duration": "forever"}, [5_000, 5_000, 5_000], 5_000),
    ],
)
@pytest.mark.parametrize("of_the_item", [False, True])
def test_the_months_of_a_coupon_count_from_a_backdated_start(
    client: stripe.StripeClient, duration: dict[str, Any], first: list[int], second: int, of_the_item: bool
) -> None:
    # Stripe's page on backdating has the first two
    world = World(client, "2026-03-01")
    off = coupon(world, percent_off=50, **duration)
    license: Any = {"price": world.price("License", "10000"), **({"discounts": off} if of_the_item else {})}
    whole: Any = {} if of_the_item else {"discounts": off}
    subscription = world.subscribe(license, backdate_start_date=at("2026-01-01"), **whole)
    charged = world.invoices()[0].lines.data
    assert [line.amount - sum(off.amount for off in line.discount_amounts or ()) for line in charged] == first
    assert world.invoices()[0].total == sum(first)
    assert world.preview(subscription.id).total == second
    # what is given later counts from then
    world.change(subscription.id, discounts=coupon(world, percent_off=10, duration="repeating", duration_in_months=2))
    assert world.preview(subscription.id).total == (10_000 if second == 10_000 or not of_the_item else 5_000) * 9 // 10


def test_discounts_are_set_anew_kept_by_id_and_cleared(world: World, license: str) -> None:
    first, second = coupon(world, percent_off=10), coupon(world, percent_off=20, duration="forever")
    subscription = world.subscribe(license)
    before = world.change(subscription.id, discounts=first).discounts
    after = world.change(subscription.id, discounts=[{"discount": str(before[0])}, *second]).discounts
    assert after[0] == before[0]
    assert world.preview(subscription.id).total == 7_200
    assert world.v1.coupons.retrieve(second[0]["coupon"]).times_redeemed == 1
    assert world.change(subscription.id, discounts="").discounts == []
    assert world.preview(subscription.id).total == 10_000


def test_what_was_promised_stays_when_the_coupon_goes(world: World, license: str) -> None:
    off = coupon(world, percent_off=30, duration="forever")
    subscription = world.subscribe(license, discounts=off)
    world.v1.coupons.delete(off[0]["coupon"])
    assert world.preview(subscription.id).total == 7_000


def test_coupons_that_cannot_be_redeemed(world: World, license: str) -> None:
    unknown = refusal(lambda: world.subscribe(license, discounts=[{"coupon": "nope"}]))
    assert (unknown.code, unknown.param) == ("resource_missing", "discounts[0][coupon]")
    over = coupon(world, percent_off=10, redeem_by=at("2026-04-02"), max_redemptions=1)
    world.subscribe(license, discounts=over)
    used = refusal(lambda: world.subscribe(world.price("Other", "1"), discounts=over))
    assert (used.code, used.param) == ("coupon_expired", "discounts[0][coupon]")
    euros = coupon(world, amount_off=100, currency="eur")
    assert refusal(lambda: world.subscribe(world.price("Third", "1"), discounts=euros)).http_status == 400
    promotion = [{"promotion_code": "promo_1"}]
    assert refusal(lambda: world.subscribe(world.price("Fourth", "1"), discounts=promotion)).code == "resource_missing"


def test_an_amount_off_is_prorated_by_what_it_took_off_the_item(world: World) -> None:
    """Stripe's own example: 5.00 off items of 10.00 and 20.00, the first removed in the middle of the month.

    https://docs.stripe.com/billing/subscriptions/prorations#credit-prorations
    """
    off = coupon(world, amount_off=500, currency="usd", duration="forever")
    subscription = world.subscribe(world.price("Ten", "1000"), world.price("Twenty", "2000"), discounts=off)
    # 5.00 off 10.00 and 20.00: 1.66 and 3.34
    assert discounted(world.invoices()[-1]) == [166, 334]
    world.go("2026-04-16")
    first = subscription["items"].data[0].id
    world.change(subscription.id, {"id": first, "deleted": True}, proration_behavior="always_invoice")
    # -(10.00 - 1.66) / 2
    assert world.bill() == [("Unused time on Ten after 16 Apr 2026", -417)]


def test_a_debit_is_net_of_the_items_share_of_an_amount_off(world: World, license: str) -> None:
    off = coupon(world, amount_off=1_000, currency="usd", duration="forever")
    subscription = world.subscribe((license, 2), discounts=off)
    world.go("2026-04-16")
    item = {"id": subscription["items"].data[0].id, "quantity": 4}
    world.change(subscription.id, item, {"price": world.price("Support", "10000")}, proration_behavior="always_invoice")
    # Half of (200.00 - 10.00) back. Then half of 400.00 less 8.00 and of 100.00 less 2.00: 10.00 as 4 to 1.
    assert world.bill() == [
        ("Unused time on 2 × License after 16 Apr 2026", -9_500),
        ("Remaining time on 4 × License after 16 Apr 2026", 19_600),
        ("Remaining time on Support after 16 Apr 2026", 4_900),
    ]


def test_a_coupon_for_one_product_counts_in_the_prorations_of_that_product(world: World, license: str) -> None:
    product = str(world.v1.prices.retrieve(license).product)
    off = coupon(world, percent_off=50, duration="forever", applies_to={"products": [product]})
    subscription = world.subscribe((license, 1), (world.price("Support", "5000"), 1), discounts=off)
    world.go("2026-04-16")
    ids = [item.id for item in subscription["items"].data]
    changes = [{"id": id, "quantity": 2} for id in ids]
    world.change(subscription.id, *changes, proration_behavior="always_invoice")
    # Half a month: 50.00 and 100.00 a seat's half price, 50.00 and 100.00 in full
    assert [amount for _, amount in world.bill()] == [-2_500, 5_000, -2_500, 5_000]


def test_classic_mode_prorates_one_item_net_of_an_amount_and_refuses_several(world: World, license: str) -> None:
    off = coupon(world, amount_off=1_000, currency="usd", duration="forever")
    classic = {"type": "classic"}
    one = world.subscribe((license, 2), discounts=off, billing_mode=classic)
    two = world.subscribe(license, world.price("Support", "5000"), discounts=off, billing_mode=classic)
    world.go("2026-04-16")
    item = {"id": one["items"].data[0].id, "quantity": 4}
    world.change(one.id, item, proration_behavior="always_invoice")
    # (200.00 - 10.00) / 2 and (400.00 - 10.00) / 2
    assert [amount for _, amount in world.bill()] == [-9_500, 19_500]
    item = {"id": two["items"].data[0].id, "quantity": 4}
    error = refusal(lambda: world.change(two.id, item))
    assert error.http_status == 501
    assert "classic billing mode" in str(error.user_message)
    world.change(two.id, item, proration_behavior="none")
    # 400.00 + 50.00 - 10.00
    assert world.preview(two.id).total == 44_000


def test_itemized_prorations_show_gross_amounts_and_what_was_taken_off(world: World, license: str) -> None:
    """https://docs.stripe.com/changelog/clover/2025-09-30/itemize-proration-discount-amounts"""
    off = coupon(world, percent_off=50, duration="forever")
    shown: dict[str, Any] = {}
    for how in ("included", "itemized"):
        mode = {"type": "flexible", "flexible": {"proration_discounts": how}}
        shown[how] = world.subscribe((license, 2), discounts=off, billing_mode=mode)
    world.go("2026-04-16")
    for how, subscription in shown.items():
        item = subscription["items"].data[0].id
        world.change(subscription.id, {"id": item, "quantity": 4}, proration_behavior="always_invoice")
        shown[how] = world.invoices(subscription.id)[-1]
    assert [line.amount for line in shown["included"].lines.data] == [-5_000, 10_000]
    assert discounted(shown["included"]) == [0, 0]
    # The same money: -100.00 + 50.00 and 200.00 - 100.00
    assert [line.amount for line in shown["itemized"].lines.data] == [-10_000, 20_000]
    assert discounted(shown["itemized"]) == [-5_000, 10_000]
    assert (shown["itemized"].subtotal, shown["itemized"].total) == (10_000, 5_000)
    assert shown["included"].total == 5_000


def test_a_debit_net_of_a_coupon_for_once_uses_it_up(world: World, license: str) -> None:
    subscription = world.subscribe(license)
    world.change(subscription.id, discounts=coupon(world, percent_off=50, duration="once"))
    world.go("2026-04-16")
    item = subscription["items"].data[0].id
    after = world.change(subscription.id, {"id": item, "quantity": 2}, proration_behavior="always_invoice")
    # 100.00 was paid in full; the two seats' half month is at half price
    assert [amount for _, amount in world.bill()] == [-5_000, 5_000]
    assert after.discounts == []
    assert world.preview(subscription.id).total == 20_000


# -- items ------------------------------------------------------------------------------------------------------------


def discounted(invoice: stripe.Invoice) -> list[int]:
    return [sum(given.amount for given in line.discount_amounts or ()) for line in invoice.lines.data]


def test_an_items_discount_comes_before_the_subscriptions(world: World, license: str) -> None:
    own = coupon(world, amount_off=2_000, currency="usd", duration="forever")
    whole = coupon(world, percent_off=10, duration="forever")
    subscription = world.subscribe(
        {"price": license, "discounts": own}, world.price("Support", "5000"), discounts=whole
    )
    # 100.00 - 20.00 = 80.00, less 8.00; 50.00 less 5.00
    invoice = world.invoices()[-1]
    assert discounted(invoice) == [2_800, 500]
    assert invoice.total == 11_700
    item = subscription["items"].data[0]
    assert invoice.lines.data[0].discounts == item.discounts
    assert invoice.discounts == subscription.discounts
    assert {given.discount: given.amount for given in invoice.total_discount_amounts or ()} == {
        str(item.discounts[0]): 2_000,
        str(subscription.discounts[0]): 1_300,
    }


def test_an_items_discounts_are_set_kept_changed_and_cleared(world: World, license: str) -> None:
    subscription = world.subscribe(license)
    id = subscription["items"].data[0].id
    first = coupon(world, percent_off=10, duration="forever")
    second = coupon(world, percent_off=20, duration="forever")
    given: Any = {"discounts": first, "expand": ["discounts"]}
    [held] = world.v1.subscription_items.update(id, given).discounts
    assert not isinstance(held, str)
    assert (held.subscription_item, held.subscription, held.source.coupon) == (id, None, first[0]["coupon"])
    world.change(subscription.id, {"id": id, "discounts": [{"discount": held.id}, *second]})
    # 100.00 - 10 % - 20 %
    assert world.preview(subscription.id).total == 7_200
    world.change(subscription.id, {"id": id, "quantity": 2}, proration_behavior="none")
    assert world.preview(subscription.id).total == 14_400
    assert world.v1.subscription_items.update(id, {"discounts": ""}).discounts == []
    assert world.preview(subscription.id).total == 20_000


def test_an_item_that_is_added_brings_its_discount_and_may_reuse_the_subscriptions(world: World, license: str) -> None:
    whole = coupon(world, amount_off=3_000, currency="usd", duration="forever")
    subscription = world.subscribe(license, discounts=whole)
    reused = [{"discount": str(subscription.discounts[0])}]
    given: Any = {
        "subscription": subscription.id,
        "price": world.price("Support", "2000"),
        "discounts": reused,
        "proration_behavior": "none",
    }
    item = world.v1.subscription_items.create(given)
    assert item.discounts == subscription.discounts
    # One discount of 30.00, not two: 20.00 off the item that names it, the other 10.00 off the rest.
    shown = world.preview(subscription.id)
    assert sorted(discounted(shown)) == [1_000, 2_000]
    assert world.v1.coupons.retrieve(whole[0]["coupon"]).times_redeemed == 1


def test_an_items_coupon_for_once_is_used_up_by_itself(world: World, license: str) -> None:
    own = coupon(world, percent_off=50, duration="once")
    subscription = world.subscribe({"price": license, "discounts": own}, trial_period_days=7)
    assert len(subscription["items"].data[0].discounts) == 1
    world.go("2026-04-08T02:00:00")
    world.go("2026-05-08T02:00:00")
    assert totals(world) == [0, 5_000, 10_000]
    assert world.v1.subscriptions.retrieve(subscription.id)["items"].data[0].discounts == []


def test_an_items_discount_is_taken_off_its_usage_as_it_is_rated_again(world: World) -> None:
    own = coupon(world, percent_off=25, duration="forever")
    tokens = world.usage_price("Tokens", world.meter("tokens"), unit_amount_decimal="0.04")
    world.subscribe({"price": tokens, "discounts": own}, world.price("License", "10000"))
    world.use("tokens", 26_000)
    world.go("2026-05-01T00:30:00")
    world.use("tokens", 1_000, "2026-04-30T23:59:00")
    world.go("2026-05-01T02:00:00")
    # 27,000 x 0.04 cents = 10.80, less a quarter; the license in full
    assert discounted(world.invoices()[-1]) == [270, 0]


def test_prorations_are_net_of_the_items_own_discount(world: World, license: str) -> None:
    own = coupon(world, percent_off=50, duration="forever")
    subscription = world.subscribe({"price": license, "discounts": own}, world.price("Support", "5000"))
    world.go("2026-04-16")
    items = [{"id": item.id, "quantity": 2} for item in subscription["items"].data]
    world.change(subscription.id, *items, proration_behavior="always_invoice")
    assert [amount for _, amount in world.bill()] == [-2_500, 5_000, -2_500, 5_000]


def test_what_a_list_of_discounts_may_not_hold(world: World, license: str) -> None:
    one = coupon(world, percent_off=10, duration="forever")
    code = world.v1.promotion_codes.create({"promotion": {"type": "coupon", "coupon": one[0]["coupon"]}}).id
    subscription = world.subscribe(license, discounts=one)
    other = world.subscribe(world.price("Other", "1"), discounts=coupon(world, percent_off=1, duration="forever"))
    refused: list[Any] = [
        [*one, *one],
        [*one, {"promotion_code": code}],
        [{"discount": str(subscription.discounts[0])}, {"promotion_code": code}],
        [{"coupon": one[0]["coupon"], "promotion_code": code}],
        [{"coupon": ""}],
        [{"discount": str(other.discounts[0])}],
        [{"coupon": one[0]["coupon"]}] * 21,
    ]
    for given in refused:
        error = refusal(partial(world.change, subscription.id, discounts=given))
        assert error.http_status == 400, given
        assert error.param.startswith("discounts"), given


# -- invoice items, invoices, previews --------------------------------------------------------------------------------


def test_added_invoice_items_bring_discounts_and_a_period(world: World, license: str) -> None:
    own = coupon(world, percent_off=50)
    setup = {"currency": "usd", "product": world.product("Setup"), "unit_amount": 5_000}
    added = [
        {"price_data": setup, "discounts": own},
        {
            "price_data": {**setup, "unit_amount": 1_000},
            "period": {
                "start": {"type": "timestamp", "timestamp": at("2026-03-01")},
                "end": {"type": "timestamp", "timestamp": at("2026-04-01")},
            },
        },
    ]
    world.subscribe(license, add_invoice_items=added)
    invoice = world.invoices()[-1]
    assert sorted(discounted(invoice)) == [0, 0, 2_500]
    assert invoice.total == 13_500
    periods = {line.amount: (line.period.start, line.period.end) for line in invoice.lines.data}
    # Not said: from the latest start to the earliest end of the items' periods.
    assert periods[5_000] == (at("2026-04-01"), at("2026-05-01"))
    assert periods[1_000] == (at("2026-03-01"), at("2026-04-01"))


def test_an_added_invoice_items_period_is_named_for_the_periods_that_the_change_begins(
    world: World, license: str
) -> None:
    subscription = world.subscribe(license, billing_mode={"type": "classic"})
    world.go("2026-04-11")
    year = world.price("Yearly", "90000", interval="year")
    setup = {"currency": "usd", "product": world.product("Setup"), "unit_amount": 700}
    world.change(
        subscription.id,
        {"id": subscription["items"].data[0].id, "price": year},
        add_invoice_items=[
            {"price_data": setup, "period": {"start": {"type": "now"}, "end": {"type": "min_item_period_end"}}}
        ],
        proration_behavior="none",
    )
    [line] = [line for line in world.invoices()[-1].lines.data if line.amount == 700]
    assert (line.period.start, line.period.end) == (at("2026-04-11"), at("2027-04-11"))


def test_an_added_invoice_items_period_must_not_end_before_it_starts(world: World, license: str) -> None:
    setup = {"currency": "usd", "product": world.product("Setup"), "unit_amount": 700}
    early = {"type": "timestamp", "timestamp": at("2026-03-01")}
    period = {"start": {"type": "now"}, "end": early}
    error = refusal(lambda: world.subscribe(license, add_invoice_items=[{"price_data": setup, "period": period}]))
    assert (error.http_status, error.param) == (400, "add_invoice_items[0][period]")
    period = {"start": {"type": "timestamp"}, "end": early}
    error = refusal(lambda: world.subscribe(license, add_invoice_items=[{"price_data": setup, "period": period}]))
    assert error.param == "add_invoice_items[0][period][start][timestamp]"


def test_invoice_items_and_a_preview_of_them_are_discounted(world: World) -> None:
    customer = world.customer.id
    own, whole = coupon(world, amount_off=1_000, currency="usd"), coupon(world, percent_off=10)
    given: Any = {"customer": customer, "amount": 5_000, "currency": "usd", "discounts": own}
    item = world.v1.invoice_items.create(given)
    world.v1.invoice_items.create({"customer": customer, "amount": 2_000, "currency": "usd"})
    assert len(item.discounts or ()) == 1
    shown: Any = {"customer": customer, "discounts": whole}
    # 50.00 - 10.00 + 20.00 + 10.00 = 70.00, less 7.00
    more: Any = {**shown, "invoice_items": [{"amount": 1_000, "currency": "usd"}]}
    assert world.v1.invoices.create_preview(more).total == 6_300
    assert world.v1.coupons.retrieve(whole[0]["coupon"]).times_redeemed == 0


def test_a_preview_redeems_nothing_and_prorates_with_the_discounts_it_is_given(world: World, license: str) -> None:
    off = coupon(world, percent_off=50, duration="forever", max_redemptions=2)
    subscription = world.subscribe(license)
    world.go("2026-04-16")
    given: Any = {
        "subscription": subscription.id,
        "discounts": off,
        "subscription_details": {
            "items": [{"id": subscription["items"].data[0].id, "quantity": 2, "discounts": off}],
            "proration_behavior": "always_invoice",
        },
    }
    shown = world.v1.invoices.create_preview(given)
    # The item's own and the subscription's: a coupon of 50 % twice, each a discount of its own
    assert [line.amount for line in shown.lines.data] == [-5_000, 2_500]
    assert world.v1.coupons.retrieve(off[0]["coupon"]).times_redeemed == 0
    assert world.v1.subscriptions.retrieve(subscription.id).discounts == []


def test_a_new_subscription_is_previewed_with_its_discounts(world: World, license: str) -> None:
    given: Any = {
        "customer": world.customer.id,
        "discounts": coupon(world, percent_off=10),
        "subscription_details": {
            "items": [{"price": license, "discounts": coupon(world, amount_off=500, currency="usd")}]
        },
        "expand": ["discounts.source.coupon"],
    }
    shown = world.v1.invoices.create_preview(given)
    # 100.00 - 5.00 = 95.00, less 9.50
    assert shown.total == 8_550
    [held] = shown.discounts
    assert not isinstance(held, str)
    cleared: Any = {"subscription": world.subscribe(license, discounts=given["discounts"]).id, "discounts": ""}
    assert world.v1.invoices.create_preview(cleared).total == 10_000


def test_the_invoice_items_and_the_schedule_of_a_preview_are_discounted_too(world: World, license: str) -> None:
    off = coupon(world, percent_off=50, duration="forever")
    given: Any = {
        "subscription": world.subscribe(license).id,
        "invoice_items": [{"amount": 1_000, "currency": "usd", "discounts": off}, {"amount": 400, "currency": "usd"}],
    }
    # 100.00 + 10.00 - 5.00 + 4.00
    assert world.v1.invoices.create_preview(given).total == 10_900
    phase = {"items": [{"price": license}], "duration": {"interval": "month", "interval_count": 1}}
    given = {"customer": world.customer.id, "schedule_details": {"phases": [{**phase, "discounts": off}]}}
    assert world.v1.invoices.create_preview(given).total == 5_000
    given["discounts"] = coupon(world, percent_off=10)
    # Instead of the phase's
    assert world.v1.invoices.create_preview(given).total == 9_000
    assert world.v1.coupons.retrieve(off[0]["coupon"]).times_redeemed == 0


def test_a_repeating_discount_of_an_item_ends_and_leaves_it(world: World, license: str) -> None:
    own = coupon(world, percent_off=10, duration="repeating", duration_in_months=2)
    subscription = world.subscribe({"price": license, "discounts": own})
    for day in ("2026-05-01T02:00:00", "2026-06-01T02:00:00"):
        world.go(day)
    assert totals(world) == [9_000, 9_000, 10_000]
    assert world.v1.subscriptions.retrieve(subscription.id)["items"].data[0].discounts == []


def test_a_cancellation_credits_what_an_amount_left(world: World, license: str) -> None:
    subscription = world.subscribe(license, discounts=coupon(world, amount_off=4_000, currency="usd"))
    world.go("2026-04-16")
    world.v1.subscriptions.cancel(subscription.id, {"invoice_now": True, "prorate": True})
    # half of the 60.00 that was charged
    assert totals(world) == [6_000, -3_000]


def test_another_currency_takes_the_coupons_amount_in_it(world: World) -> None:
    off = coupon(world, amount_off=1_000, currency="usd", currency_options={"eur": {"amount_off": 700}})
    euros = {"currency": "eur", "product": world.product("Euros"), "unit_amount": 5_000}
    monthly = {"price_data": {**euros, "recurring": {"interval": "month"}}, "discounts": off}
    world.subscribe(monthly)
    assert totals(world) == [4_300]
