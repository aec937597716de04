"""Coupons on subscriptions: what they take off which invoices, the arithmetic beside it."""

from __future__ import annotations

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


def test_an_amount_off_is_not_prorated_and_says_so(world: World, license: str) -> None:
    off = coupon(world, amount_off=1_000, currency="usd", duration="forever")
    subscription = world.subscribe((license, 2), discounts=off)
    item = {"id": subscription["items"].data[0].id, "quantity": 4}
    world.go("2026-04-16")
    error = refusal(lambda: world.change(subscription.id, item))
    assert error.http_status == 501
    assert "amount_off" in str(error.user_message)
    world.change(subscription.id, item, proration_behavior="none")
    assert world.preview(subscription.id).total == 39_000
