"""`billing_schedules`: several periods billed at once and not billed again, the bills worked out by hand."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import stripe

from .bills import World, at, lines, refusal


@pytest.fixture
def world(client: stripe.StripeClient) -> World:
    return World(client)


@pytest.fixture
def license(world: World) -> str:
    """31.00 a month: a dollar a day in January."""
    return world.price("License", "3100")


def months(count: int, **more: Any) -> dict[str, Any]:
    return {"bill_until": {"type": "duration", "duration": {"interval": "month", "interval_count": count}}, **more}


def until(when: str, **more: Any) -> dict[str, Any]:
    return {"bill_until": {"type": "timestamp", "timestamp": at(when)}, **more}


def totals(world: World) -> list[int]:
    return [invoice.total for invoice in world.invoices()]


def billed_until(subscription: stripe.Subscription) -> list[int | None]:
    return [item.to_dict().get("billed_until") for item in subscription["items"].data]


def test_three_months_at_signup_and_monthly_from_then_on(world: World, license: str) -> None:
    subscription = world.subscribe(license, billing_schedules=[months(3, key="start")])
    assert world.bill() == [("1 × License (at $31.00 / month)", 3_100)] * 3
    periods = [(line.period.start, line.period.end) for line in world.invoices()[-1].lines.data]
    bounds = [at(f"2026-0{month}-01") for month in (1, 2, 3, 4)]
    assert periods == list(itertools.pairwise(bounds))
    assert billed_until(subscription) == [at("2026-04-01")]
    [schedule] = subscription.billing_schedules
    assert schedule.to_dict() == {
        "key": "start",
        "applies_to": None,
        "bill_until": {
            "type": "duration",
            "duration": {"interval": "month", "interval_count": 3},
            "timestamp": None,
            "computed_timestamp": at("2026-04-01"),
        },
    }
    world.go("2026-02-02")
    world.go("2026-03-01T02:00:00")
    assert totals(world) == [9_300]  # two renewals with nothing to bill
    item = world.v1.subscriptions.retrieve(subscription.id)["items"].data[0]
    assert (item.current_period_start, item.current_period_end) == (at("2026-03-01"), at("2026-04-01"))
    assert world.preview(subscription.id).total == 3_100
    world.go("2026-04-01T02:00:00")
    assert totals(world) == [9_300, 3_100]
    assert billed_until(world.v1.subscriptions.retrieve(subscription.id)) == [None]


def test_forty_five_days_are_a_month_and_a_part_of_the_next(world: World, license: str) -> None:
    world.subscribe(license, billing_schedules=[until("2026-02-15")])
    # 31.00, and 14 of February's 28 days: 15.50
    assert world.bill() == [
        ("1 × License (at $31.00 / month)", 3_100),
        ("Remaining time on License after 01 Feb 2026", 1_550),
    ]
    world.go("2026-02-01T02:00:00")
    # what is left of February: the other 14 days
    assert world.bill() == [("Remaining time on License after 15 Feb 2026", 1_550)]
    world.go("2026-03-01T02:00:00")
    assert world.bill() == [("1 × License (at $31.00 / month)", 3_100)]


def test_one_item_is_billed_in_advance_and_usage_never(world: World, license: str) -> None:
    support = world.price("Support", "500")
    calls = world.usage_price("Calls", world.meter("calls"), unit_amount_decimal="2")
    schedule = months(2, applies_to=[{"type": "price", "price": license}])
    subscription = world.subscribe(license, support, calls, billing_schedules=[schedule])
    assert sorted(amount for _, amount in world.bill()) == [500, 3_100, 3_100]
    assert billed_until(subscription) == [at("2026-03-01"), None, None]
    world.use("calls", 10)
    world.go("2026-02-01T02:00:00")
    assert sorted(amount for _, amount in world.bill()) == [20, 500]
    world.go("2026-03-01T02:00:00")
    assert sorted(amount for _, amount in world.bill()) == [0, 500, 3_100]


def test_an_update_waits_for_the_next_invoice_or_bills_at_once(world: World, license: str) -> None:
    subscription = world.subscribe(license)
    changed = world.change(subscription.id, billing_schedules=[until("2026-03-01")])
    assert totals(world) == [3_100]
    assert billed_until(changed) == [at("2026-03-01")]
    further = world.preview(
        subscription.id, billing_schedules=[until("2026-05-01")], proration_behavior="always_invoice"
    )
    assert further.total == 3_100 * 3
    world.change(subscription.id, billing_schedules=[until("2026-05-01")], proration_behavior="always_invoice")
    # February, which waited, March and April
    assert sorted(amount for _, amount in world.bill()) == [3_100, 3_100, 3_100]
    assert world.invoices()[-1].billing_reason == "subscription_update"
    for month in ("02", "03", "04", "05"):
        world.go(f"2026-{month}-01T02:00:00")
    assert totals(world) == [3_100, 9_300, 3_100]


def test_prorations_of_an_update_ride_on_the_renewal(world: World, license: str) -> None:
    subscription = world.subscribe(license)
    world.change(subscription.id, billing_schedules=[until("2026-04-01")])
    world.go("2026-02-01T02:00:00")
    # February and March waited; the renewal itself has nothing to add
    assert sorted(world.bill()) == [
        ("Remaining time on License after 01 Feb 2026", 3_100),
        ("Remaining time on License after 01 Mar 2026", 3_100),
    ]
    world.go("2026-04-01T02:00:00")
    assert totals(world) == [3_100, 6_200, 3_100]


def test_seats_that_are_added_are_billed_as_far_ahead(world: World, license: str) -> None:
    subscription = world.subscribe((license, 1), billing_schedules=[months(3)])
    world.go("2026-01-16")
    item = subscription["items"].data[0].id
    changed = world.change(subscription.id, {"id": item, "quantity": 2}, proration_behavior="always_invoice")
    # one seat more for 16 of January's days, for February and for March
    assert world.invoices()[-1].total == 1_600 + 3_100 + 3_100
    assert billed_until(changed) == [at("2026-04-01")]
    world.go("2026-03-02")
    world.go("2026-04-01T02:00:00")
    assert world.bill() == [("2 × License (at $31.00 / month)", 6_200)]
    assert len(totals(world)) == 3


def test_a_cancellation_gives_back_what_is_ahead(world: World, license: str) -> None:
    subscription = world.subscribe(license, billing_schedules=[months(3)])
    world.go("2026-01-16")
    world.v1.subscriptions.cancel(subscription.id, {"invoice_now": True, "prorate": True})
    # 16 days of January, February, March
    assert sorted(amount for _, amount in world.bill()) == [-3_100, -3_100, -1_600]


def test_a_cancellation_in_a_later_period_gives_back_the_rest_of_it_and_what_is_ahead(
    world: World, license: str
) -> None:
    subscription = world.subscribe(license, billing_schedules=[months(3)])
    world.go("2026-02-15")
    world.v1.subscriptions.cancel(subscription.id, {"invoice_now": True, "prorate": True})
    # 14 of February's 28 days, March
    assert sorted(amount for _, amount in world.bill()) == [-3_100, -1_550]


def test_a_planned_end_gives_back_what_lies_after_it(world: World, license: str) -> None:
    subscription = world.subscribe(license, billing_schedules=[months(3)])
    planned = world.change(subscription.id, cancel_at=at("2026-02-15"), proration_behavior="always_invoice")
    # 14 of February's 28 days and March
    assert sorted(amount for _, amount in world.bill()) == [-3_100, -1_550]
    assert billed_until(planned) == [at("2026-02-15")]
    world.change(subscription.id, cancel_at="")
    world.go("2026-02-01T02:00:00")
    assert [amount for _, amount in world.bill()] == [1_550]
    world.go("2026-03-01T02:00:00")
    assert [amount for _, amount in world.bill()] == [3_100]


def test_a_subscription_can_end_when_all_that_is_billed_is_over(world: World, license: str) -> None:
    subscription = world.subscribe(
        license, world.price("Support", "500"), billing_schedules=[months(3)], cancel_at="max_billed_until"
    )
    assert subscription.cancel_at == at("2026-04-01")
    world.go("2026-02-02")
    world.go("2026-03-02")
    world.go("2026-04-01T02:00:00")
    assert world.v1.subscriptions.retrieve(subscription.id).status == "canceled"
    assert totals(world) == [10_800]
    plain = world.subscribe(world.price("Other", "100"))
    assert world.change(plain.id, cancel_at="max_billed_until").cancel_at == at("2026-05-01T02:00:00")


def test_schedules_are_kept_by_key_and_taken_away_and_what_is_billed_stays_billed(world: World, license: str) -> None:
    subscription = world.subscribe(license, billing_schedules=[months(2, key="a")])
    kept = world.change(subscription.id, billing_schedules=[{"key": "a"}])
    assert [each.key for each in kept.billing_schedules] == ["a"]
    gone = world.change(subscription.id, billing_schedules="")
    assert gone.billing_schedules == []
    assert billed_until(gone) == [at("2026-03-01")]
    world.go("2026-02-01T02:00:00")
    assert totals(world) == [6_200]
    named = world.change(subscription.id, billing_schedules=[until("2026-06-01")])
    assert [len(each.key) for each in named.billing_schedules] == [24]


def test_the_first_invoice_can_be_previewed(world: World, license: str) -> None:
    details: Any = {"items": [{"price": license}], "billing_schedules": [months(3)]}
    preview = world.v1.invoices.create_preview({"customer": world.customer.id, "subscription_details": details})
    assert lines(preview) == [("1 × License (at $31.00 / month)", 3_100)] * 3


def test_a_coupon_once_takes_its_share_of_everything_billed_in_advance(world: World, license: str) -> None:
    coupon = world.v1.coupons.create({"percent_off": 10, "duration": "once"}).id
    world.subscribe(license, billing_schedules=[months(3)], discounts=[{"coupon": coupon}])
    assert totals(world) == [8_370]  # 93.00 less 9.30


@pytest.mark.parametrize(
    ("params", "param"),
    [
        ({"billing_mode": {"type": "classic"}}, "billing_schedules"),
        ({"proration_behavior": "none"}, "proration_behavior"),
        ({"billing_schedules": [until("2026-01-20")]}, "billing_schedules[0][bill_until]"),
        ({"billing_schedules": [until("2031-01-02")]}, "billing_schedules[0][bill_until]"),
        ({"billing_schedules": [months(51)]}, "billing_schedules"),
        ({"billing_schedules": [months(2, key="a"), months(3, key="a")]}, "billing_schedules[1][key]"),
        ({"billing_schedules": [months(2), months(3)]}, "billing_schedules[1]"),
        ({"billing_schedules": [months(2, key="a b")]}, "billing_schedules[0][key]"),
        ({"billing_schedules": [{"bill_until": {"type": "timestamp"}}]}, "billing_schedules[0][bill_until][timestamp]"),
        (
            {"billing_schedules": [months(2, applies_to=[{"type": "price", "price": "price_x"}])]},
            "billing_schedules[0][applies_to][0][price]",
        ),
        ({"cancel_at": at("2026-02-10")}, "billing_schedules"),
    ],
)
def test_what_cannot_be_billed_in_advance_is_refused(
    world: World, license: str, params: dict[str, Any], param: str
) -> None:
    error = refusal(lambda: world.subscribe(license, **{"billing_schedules": [months(2)], **params}))
    assert (error.http_status, error.param) == (400, param)
    assert world.invoices() == []


@pytest.mark.parametrize("coupon", [{"amount_off": 100, "currency": "usd", "duration": "once"}, "repeating"])
def test_coupons_of_other_kinds_do_not_go_with_it(world: World, license: str, coupon: Any) -> None:
    repeating = {"percent_off": 10, "duration": "repeating", "duration_in_months": 2}
    given: Any = repeating if coupon == "repeating" else coupon
    discounts = [{"coupon": world.v1.coupons.create(given).id}]
    error = refusal(lambda: world.subscribe(license, billing_schedules=[months(2)], discounts=discounts))
    assert error.param == "billing_schedules"


def test_an_update_under_a_coupon_for_once_is_refused_by_name(world: World, license: str) -> None:
    subscription = world.subscribe(license)
    coupon = world.v1.coupons.create({"percent_off": 10, "duration": "once"}).id
    error = refusal(
        lambda: world.change(subscription.id, billing_schedules=[months(2)], discounts=[{"coupon": coupon}])
    )
    assert error.http_status == 501


def test_an_update_under_a_coupon_forever_is_net_of_it(world: World, license: str) -> None:
    coupon = world.v1.coupons.create({"percent_off": 10, "duration": "forever"}).id
    subscription = world.subscribe(license, discounts=[{"coupon": coupon}])
    world.change(subscription.id, billing_schedules=[until("2026-03-01")], proration_behavior="always_invoice")
    assert totals(world) == [2_790, 2_790]  # 31.00 less 3.10 each


def test_usage_alone_cannot_be_billed_in_advance(world: World) -> None:
    calls = world.usage_price("Calls", world.meter("calls"), unit_amount_decimal="2")
    assert refusal(lambda: world.subscribe(calls, billing_schedules=[months(2)])).http_status == 400


def test_what_would_move_the_periods_of_what_is_billed_in_advance_is_refused_by_name(
    world: World, license: str
) -> None:
    subscription = world.subscribe(license, billing_schedules=[months(3)])
    assert refusal(lambda: world.change(subscription.id, billing_cycle_anchor={"type": "now"})).http_status == 501
    assert refusal(lambda: world.change(subscription.id, trial_end=at("2026-01-20"))).http_status == 501
    trial = refusal(lambda: world.subscribe(license, trial_period_days=3, billing_schedules=[months(3)]))
    assert trial.http_status == 501
    schedule: Any = {"from_subscription": subscription.id}
    assert refusal(lambda: world.v1.subscription_schedules.create(schedule)).param == "from_subscription"
