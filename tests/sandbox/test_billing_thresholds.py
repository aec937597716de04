"""Billing thresholds and the interval of pending invoice items: invoices between two renewals, worked out by hand."""

from __future__ import annotations

from typing import Any

import pytest
import stripe

from .bills import World, at, lines, refusal
from .conftest import Control


@pytest.fixture
def world(client: stripe.StripeClient) -> World:
    return World(client)


@pytest.fixture
def calls(world: World) -> str:
    """Two cents a call, in arrears."""
    return world.usage_price("Calls", world.meter("calls"), unit_amount_decimal="2")


def reasons(world: World) -> list[tuple[str | None, int]]:
    return [(invoice.billing_reason, invoice.total) for invoice in world.invoices()]


def plain(value: Any) -> Any:
    """What stripe-python shows as an object, as JSON has it."""
    return None if value is None else value.to_dict()


def threshold_reason(invoice: stripe.Invoice) -> Any:
    return invoice.to_dict().get("threshold_reason")


# -- money ------------------------------------------------------------------------------------------------------------


def test_usage_that_reaches_the_amount_is_billed_at_once_and_only_the_rest_at_renewal(world: World, calls: str) -> None:
    subscription = world.subscribe(calls, billing_thresholds={"amount_gte": 1000})
    world.go("2026-01-05")
    world.use("calls", 499)
    # 499 × 2 = 9.98: one cent short and nothing happens
    assert reasons(world) == []
    world.use("calls", 3)
    # 502 × 2 = 10.04
    assert reasons(world) == [("subscription_threshold", 1_004)]
    invoice = world.invoices()[-1]
    assert lines(invoice) == [("502 × Calls (at $0.02 / month)", 1_004)]
    assert threshold_reason(invoice) == {"amount_gte": 1000, "item_reasons": []}
    assert (invoice.period_start, invoice.period_end) == (at("2026-01-01"), at("2026-01-05"))
    assert invoice.created == at("2026-01-05")
    # a draft for an hour, like a renewal
    assert invoice.status == "draft"
    world.go("2026-01-06")
    assert world.invoices()[-1].status == "paid"
    world.use("calls", 100)
    assert world.preview(subscription.id).total == 200
    world.go("2026-02-01T02:00:00")
    # 100 × 2: January's other 502 are billed already
    assert world.bill() == [("100 × Calls (at $0.02 / month)", 200)]
    rest = world.invoices()[-1].lines.data[0]
    assert (rest.period.start, rest.period.end) == (at("2026-01-05"), at("2026-02-01"))
    world.use("calls", 10)
    world.go("2026-03-01T02:00:00")
    assert [total for _, total in reasons(world)] == [1_004, 200, 20]


def test_the_anchor_and_the_period_stay(world: World, calls: str) -> None:
    subscription = world.subscribe(calls, billing_thresholds={"amount_gte": 1000})
    world.go("2026-01-05")
    world.use("calls", 500)
    after = world.v1.subscriptions.retrieve(subscription.id)
    assert after.billing_cycle_anchor == at("2026-01-01")
    assert after["items"].data[0].current_period_end == at("2026-02-01")
    assert after.latest_invoice == world.invoices()[-1].id


def test_graduated_tiers_go_on_from_threshold_to_threshold(world: World) -> None:
    # Stripe's example: up to 10,000 at 0.50, then 0.40, and a threshold of 100.00
    ads = world.usage_price("Ads", world.meter("ads"), **world.tiered((10_000, "50", None), (None, "40", None)))
    world.subscribe(ads, billing_thresholds={"amount_gte": 10_000})
    world.use("ads", 200)
    world.use("ads", 200)
    assert reasons(world) == [("subscription_threshold", 20_000)]  # both before anybody looked
    world.use("ads", 200)
    assert world.bill() == [("200 × Ads (Tier 1 at $0.50 / month)", 10_000)]
    world.use("ads", 9_400)
    world.go("2026-01-02")
    assert world.bill() == [("9400 × Ads (Tier 1 at $0.50 / month)", 470_000)]
    world.use("ads", 249)
    assert len(world.invoices()) == 3
    world.use("ads", 1)
    # 250 × 0.40
    assert world.bill()[-1] == ("250 × Ads (Tier 2 at $0.40 / month)", 10_000)
    world.go("2026-02-01T02:00:00")
    # 10,000 × 0.50 + 250 × 0.40 = 5,100.00, all of it billed
    assert sum(total for _, total in reasons(world)) == 510_000
    world.use("ads", 200)
    # the next month begins in the first tier
    world.go("2026-02-02")
    assert world.bill() == [("200 × Ads (Tier 1 at $0.50 / month)", 10_000)]


def test_volume_tiers_are_billed_whole_less_what_was_billed(world: World) -> None:
    # Stripe's example, its two invoices to the cent
    tiers = world.tiered((10_000, "50", None), (None, "40", None), mode="volume")
    world.subscribe(world.usage_price("Ads", world.meter("ads"), **tiers), billing_thresholds={"amount_gte": 500_000})
    world.use("ads", 10_000)
    assert world.bill() == [("10000 × Ads (Tier 1 at $0.50 / month)", 500_000)]
    world.go("2026-01-03")
    world.use("ads", 2_500)  # 12,500 × 0.40 = 5,000.00: covered by what was paid
    assert len(world.invoices()) == 1
    world.use("ads", 12_500)
    assert world.bill() == [
        ("25000 × Ads (Tier 2 at $0.40 / month)", 1_000_000),
        ("Amount previously billed (at $0.50)", -500_000),
    ]


def test_volume_tiers_are_billed_whole_within_one_tier_too(world: World) -> None:
    tiers = world.tiered((10_000, "50", None), (None, "40", None), mode="volume")
    world.subscribe(world.usage_price("Ads", world.meter("ads"), **tiers), billing_thresholds={"amount_gte": 10_000})
    world.use("ads", 200)
    assert world.invoices()[-1].total == 10_000
    world.use("ads", 200)
    # 400 × 0.50 less what was billed
    assert world.bill() == [
        ("400 × Ads (Tier 1 at $0.50 / month)", 20_000),
        ("Amount previously billed (at $0.50)", -10_000),
    ]


def test_what_volume_tiers_billed_too_much_is_credited_at_renewal(world: World) -> None:
    tiers = world.tiered((10_000, "50", None), (None, "40", None), mode="volume")
    world.subscribe(world.usage_price("Ads", world.meter("ads"), **tiers), billing_thresholds={"amount_gte": 500_000})
    world.use("ads", 10_000)
    assert len(world.invoices()) == 1
    world.use("ads", 1)
    world.go("2026-02-01T02:00:00")
    # 10,001 × 0.40 = 4,000.40, of which 5,000.00 are paid: Stripe's 999.60 on the balance
    assert [total for _, total in reasons(world)] == [500_000, -99_960]
    assert world.v1.customers.retrieve(world.customer.id).balance == -99_960


def test_a_flat_fee_of_a_tier_is_billed_once(world: World) -> None:
    tiers = world.tiered((100, "10", 500), (None, "5", 300))
    world.subscribe(world.usage_price("Calls", world.meter("calls"), **tiers), billing_thresholds={"amount_gte": 1_000})
    world.use("calls", 60)  # 5.00 + 60 × 0.10 = 11.00
    assert world.bill() == [("60 × Calls (Tier 1 at $0.10 / month)", 600), ("Calls (Tier 1 at $5.00 / month)", 500)]
    world.use("calls", 90)  # 40 × 0.10 + 3.00 + 50 × 0.05 = 9.50
    world.go("2026-02-01T02:00:00")
    assert world.bill() == [
        ("40 × Calls (Tier 1 at $0.10 / month)", 400),
        ("50 × Calls (Tier 2 at $0.05 / month)", 250),
        ("Calls (Tier 2 at $3.00 / month)", 300),
    ]


def test_rounding_loses_nothing_between_invoices(world: World) -> None:
    price = world.usage_price("Tokens", world.meter("tokens"), unit_amount_decimal="0.3")
    world.subscribe(price, billing_thresholds={"amount_gte": 50})
    for number in range(5):
        world.use("tokens", 167)  # 50.1 cents: 50
        world.go(f"2026-01-0{number + 2}")
    world.go("2026-02-01T02:00:00")
    # 835 × 0.3 = 250.5 cents: 251, and not five times 50
    assert sum(total for _, total in reasons(world)) == 251


def test_discounts_count_and_the_licence_does_not(world: World, calls: str) -> None:
    coupon = world.v1.coupons.create({"percent_off": 50, "duration": "forever"}).id
    world.subscribe(
        (world.price("License", "5000"), 1),
        calls,
        billing_thresholds={"amount_gte": 1000},
        discounts=[{"coupon": coupon}],
    )
    world.use("calls", 999)  # 19.98, half of it 9.99
    assert len(world.invoices()) == 1
    world.use("calls", 1)
    assert [total for _, total in reasons(world)] == [2_500, 1_000]


def test_waiting_invoice_items_ride_along_and_do_not_count(world: World, calls: str) -> None:
    subscription = world.subscribe(calls, billing_thresholds={"amount_gte": 1000})
    world.v1.invoice_items.create(
        {"customer": world.customer.id, "subscription": subscription.id, "amount": 5_000, "currency": "usd"}
    )
    world.use("calls", 499)
    assert world.invoices() == []
    world.use("calls", 1)
    assert [amount for _, amount in world.bill()] == [5_000, 1_000]


def test_thresholds_rest_in_the_last_day_of_a_period(world: World, calls: str) -> None:
    world.subscribe(calls, billing_thresholds={"amount_gte": 1000})
    world.go("2026-01-31T00:00:01")
    world.use("calls", 600)
    assert world.invoices() == []
    world.go("2026-02-01T02:00:00")
    assert reasons(world) == [("subscription_cycle", 1_200)]


def test_thresholds_rest_in_a_trial(world: World, calls: str) -> None:
    world.subscribe(calls, billing_thresholds={"amount_gte": 1000}, trial_period_days=7)
    world.use("calls", 5_000)
    world.go("2026-01-09")
    assert all(total == 0 for _, total in reasons(world))
    world.use("calls", 500)
    assert reasons(world)[-1] == ("subscription_threshold", 1_000)


def test_a_threshold_invoice_takes_up_no_later_usage_and_the_next_one_does(world: World, calls: str) -> None:
    world.subscribe(calls, billing_thresholds={"amount_gte": 1000})
    world.go("2026-01-05")
    world.use("calls", 500)
    assert world.invoices()[-1].total == 1_000
    world.use("calls", 7, "2026-01-04")  # late, while that invoice is a draft
    assert world.invoices()[-1].total == 1_000
    world.go("2026-02-01T02:00:00")
    assert [total for _, total in reasons(world)] == [1_000, 14]


def test_the_renewal_draft_is_rated_again_with_late_usage_beyond_what_was_billed(world: World, calls: str) -> None:
    world.subscribe(calls, billing_thresholds={"amount_gte": 1000})
    world.go("2026-01-05")
    world.use("calls", 500)
    world.go("2026-02-01T00:10:00")
    assert [invoice.total for invoice in world.invoices()] == [1_000, 0]
    world.use("calls", 30, "2026-01-20")
    assert world.invoices()[-1].total == 60
    world.go("2026-02-01T02:00:00")
    assert world.bill() == [("30 × Calls (at $0.02 / month)", 60)]


def test_a_price_that_goes_is_billed_for_the_rest_alone(world: World, calls: str) -> None:
    subscription = world.subscribe((world.price("License", "100"), 1), calls, billing_thresholds={"amount_gte": 1000})
    world.go("2026-01-05")
    world.use("calls", 500)
    world.use("calls", 20)
    assert [total for _, total in reasons(world)] == [100, 1_040]
    world.use("calls", 30)
    item = subscription["items"].data[1].id
    world.change(subscription.id, {"id": item, "deleted": True}, proration_behavior="always_invoice")
    assert world.bill() == [("30 × Calls (at $0.02 / month)", 60)]


def test_a_price_that_takes_over_in_the_same_second_counts_nothing_twice(world: World) -> None:
    meter = world.meter("calls")
    cheap, dear = (world.usage_price("Calls", meter, unit_amount_decimal=each) for each in ("2", "5"))
    subscription = world.subscribe(cheap, billing_thresholds={"amount_gte": 1000})
    world.use("calls", 500)
    assert world.invoices()[-1].total == 1_000
    world.use("calls", 30)
    world.change(subscription.id, {"id": subscription["items"].data[0].id, "price": dear})
    world.go("2026-01-05")
    world.use("calls", 10)
    world.go("2026-02-01T02:00:00")
    # 30 × 2 of the old price, 10 × 5 of the new one
    assert [amount for _, amount in world.bill()] == [60, 50]


def test_a_cancellation_bills_the_rest_alone(world: World, calls: str) -> None:
    subscription = world.subscribe(calls, billing_thresholds={"amount_gte": 1000})
    world.use("calls", 500)
    assert len(world.invoices()) == 1
    world.go("2026-01-05")
    world.use("calls", 1)
    world.go("2026-01-06")
    world.v1.subscriptions.cancel(subscription.id, {"invoice_now": True})
    assert [total for _, total in reasons(world)] == [1_000, 2]


# -- units ------------------------------------------------------------------------------------------------------------


def test_units_of_an_item_that_reach_its_threshold_bill_every_item(world: World, calls: str) -> None:
    tokens = world.usage_price("Tokens", world.meter("tokens"), unit_amount_decimal="1")
    subscription = world.subscribe({"price": calls, "billing_thresholds": {"usage_gte": 100}}, tokens)
    assert [plain(item.billing_thresholds) for item in subscription["items"].data] == [{"usage_gte": 100}, None]
    world.use("tokens", 5_000)
    world.use("calls", 99)
    assert world.invoices() == []
    world.use("calls", 1)
    invoice = world.invoices()[-1]
    assert sorted(lines(invoice)) == [
        ("100 × Calls (at $0.02 / month)", 200),
        ("5000 × Tokens (at $0.01 / month)", 5_000),
    ]
    [ours] = [line.id for line in invoice.lines.data if line.amount == 200]
    assert threshold_reason(invoice) == {
        "amount_gte": None,
        "item_reasons": [{"line_item_ids": [ours], "usage_gte": 100}],
    }
    world.go("2026-01-02")
    world.use("calls", 99)  # counted from the last invoice on
    assert len(world.invoices()) == 1
    world.use("calls", 1)
    assert len(world.invoices()) == 2


# -- beginning anew ---------------------------------------------------------------------------------------------------


def test_a_reset_ends_the_period_as_if_its_end_had_come(world: World, calls: str) -> None:
    subscription = world.subscribe(
        (world.price("License", "5000"), 1),
        calls,
        billing_thresholds={"amount_gte": 1000, "reset_billing_cycle_anchor": True},
    )
    world.go("2026-01-11")
    world.use("calls", 500)
    # usage, and the fee from now on
    assert world.bill() == [("1 × License (at $50.00 / month)", 5_000), ("500 × Calls (at $0.02 / month)", 1_000)]
    after = world.v1.subscriptions.retrieve(subscription.id)
    assert after.billing_cycle_anchor == at("2026-01-11")
    assert {(item.current_period_start, item.current_period_end) for item in after["items"].data} == {
        (at("2026-01-11"), at("2026-02-11"))
    }
    world.use("calls", 7)  # in the same second as the reset, and after it
    world.go("2026-02-11T02:00:00")
    assert world.bill() == [("1 × License (at $50.00 / month)", 5_000), ("7 × Calls (at $0.02 / month)", 14)]


def test_a_reset_begins_the_tiers_anew(world: World) -> None:
    price = world.usage_price("Calls", world.meter("calls"), **world.tiered((100, "10", None), (None, "5", None)))
    world.subscribe(price, billing_thresholds={"amount_gte": 1000, "reset_billing_cycle_anchor": True})
    for day in ("02", "03", "04"):
        world.use("calls", 100)
        world.go(f"2026-01-{day}")
    assert [total for _, total in reasons(world)] == [1_000, 1_000, 1_000]


# -- time -------------------------------------------------------------------------------------------------------------


def test_each_moment_on_the_way_of_a_test_clock_is_its_own_invoice(world: World, calls: str) -> None:
    world.subscribe(calls, billing_thresholds={"amount_gte": 1000})
    world.use("calls", 500)
    world.use("calls", 500, "2026-01-01T00:03:00")  # three minutes ahead: counts from then on
    world.go("2026-01-02")
    invoices = world.invoices()
    assert [(invoice.created, invoice.total) for invoice in invoices] == [
        (at("2026-01-01"), 1_000),
        (at("2026-01-01T00:03:00"), 1_000),
    ]


def test_on_the_sandboxs_own_clock_reading_is_enough(client: stripe.StripeClient, control: Control) -> None:
    control("POST", "clock", frozen=at("2026-01-01"))
    world = World(client)
    price = world.usage_price("Calls", world.meter("calls"), unit_amount_decimal="2")
    world.customer = client.v1.customers.create({"invoice_settings": {"default_payment_method": "pm_card_visa"}})
    subscription = world.subscribe(price, billing_thresholds={"amount_gte": 1000})
    control("POST", "lag", seconds=30)
    world.use("calls", 500)
    assert client.v1.subscriptions.retrieve(subscription.id).latest_invoice is None
    control("POST", "clock", frozen=at("2026-01-03"))
    invoice = client.v1.invoices.retrieve(str(client.v1.subscriptions.retrieve(subscription.id).latest_invoice))
    # at the moment at which the usage was seen, not when somebody looked
    assert (invoice.created, invoice.total, invoice.status) == (at("2026-01-01T00:00:30"), 1_000, "paid")


def test_a_threshold_that_is_set_is_held_against_what_has_accrued(world: World, calls: str) -> None:
    subscription = world.subscribe(calls)
    world.use("calls", 800)
    world.go("2026-01-10")
    assert world.invoices() == []
    changed = world.change(subscription.id, billing_thresholds={"amount_gte": 1_500})
    assert plain(changed.billing_thresholds) == {"amount_gte": 1_500, "reset_billing_cycle_anchor": False}
    assert reasons(world) == [("subscription_threshold", 1_600)]


# -- what is kept -----------------------------------------------------------------------------------------------------


def test_thresholds_are_changed_one_by_one_and_taken_away_together(world: World, calls: str) -> None:
    subscription = world.subscribe(calls, billing_thresholds={"amount_gte": 1000})
    # Stripe's own example sends one of the two
    changed = world.change(subscription.id, billing_thresholds={"reset_billing_cycle_anchor": True})
    assert plain(changed.billing_thresholds) == {"amount_gte": 1000, "reset_billing_cycle_anchor": True}
    assert world.change(subscription.id, description="x").billing_thresholds is not None
    assert world.change(subscription.id, billing_thresholds="").billing_thresholds is None
    world.use("calls", 5_000)
    assert world.invoices() == []


def test_an_items_threshold_is_set_changed_and_taken_away(world: World, calls: str) -> None:
    subscription = world.subscribe(calls)
    id = subscription["items"].data[0].id
    items = world.v1.subscription_items
    assert plain(items.update(id, {"billing_thresholds": {"usage_gte": 100}}).billing_thresholds) == {"usage_gte": 100}
    changed = world.change(subscription.id, {"id": id, "billing_thresholds": {"usage_gte": 200}})
    assert plain(changed["items"].data[0].billing_thresholds) == {"usage_gte": 200}
    assert items.update(id, {"billing_thresholds": ""}).billing_thresholds is None


def test_a_schedule_gives_its_phases_thresholds(world: World, calls: str) -> None:
    schedule = world.v1.subscription_schedules.create(
        {
            "customer": world.customer.id,
            "start_date": "now",
            "default_settings": {"billing_thresholds": {"amount_gte": 2000}},
            "phases": [
                {
                    "items": [{"price": calls, "billing_thresholds": {"usage_gte": 900}}],
                    "duration": {"interval": "month", "interval_count": 1},
                },
                {
                    "items": [{"price": calls}],
                    "billing_thresholds": {"amount_gte": 500, "reset_billing_cycle_anchor": False},
                    "duration": {"interval": "month", "interval_count": 1},
                },
            ],
        }
    )
    assert plain(schedule.phases[0]["items"][0].billing_thresholds) == {"usage_gte": 900}
    assert plain(schedule.phases[1].billing_thresholds) == {"amount_gte": 500, "reset_billing_cycle_anchor": False}
    subscription = world.v1.subscriptions.retrieve(str(schedule.subscription))
    assert plain(subscription.billing_thresholds) == {"amount_gte": 2000, "reset_billing_cycle_anchor": False}
    world.use("calls", 900)
    assert reasons(world) == [("subscription_threshold", 1_800)]
    world.go("2026-02-01T02:00:00")
    subscription = world.v1.subscriptions.retrieve(str(schedule.subscription))
    assert plain(subscription.billing_thresholds) == {"amount_gte": 500, "reset_billing_cycle_anchor": False}
    assert subscription["items"].data[0].billing_thresholds is None
    world.use("calls", 250)
    assert reasons(world)[-1] == ("subscription_threshold", 500)


@pytest.mark.parametrize(
    ("params", "item", "param"),
    [
        ({"amount_gte": 49}, {}, "billing_thresholds[amount_gte]"),
        ({}, {"usage_gte": 0}, "items[0][billing_thresholds][usage_gte]"),
    ],
)
def test_thresholds_that_cannot_be_are_refused(
    world: World, calls: str, params: dict[str, Any], item: dict[str, Any], param: str
) -> None:
    given = {"price": calls, **({"billing_thresholds": item} if item else {})}
    error = refusal(lambda: world.subscribe(given, **({"billing_thresholds": params} if params else {})))
    assert (error.http_status, error.param) == (400, param)


def test_an_amount_must_exceed_the_flat_fees_of_metered_items(world: World) -> None:
    price = world.usage_price("Calls", world.meter("calls"), **world.tiered((None, "1", 900)))
    assert refusal(lambda: world.subscribe(price, billing_thresholds={"amount_gte": 900})).http_status == 400
    assert world.subscribe(price, billing_thresholds={"amount_gte": 901}).status == "active"


def test_a_licensed_item_has_no_usage_to_reach_anything(world: World) -> None:
    item = {"price": world.price("License", "100"), "billing_thresholds": {"usage_gte": 5}}
    assert refusal(lambda: world.subscribe(item)).param == "items[0][billing_thresholds]"


def test_the_anchor_is_not_reset_where_usage_is_the_last_value(world: World) -> None:
    price = world.usage_price("Disk", world.meter("disk", "last"), unit_amount_decimal="2")
    thresholds = {"amount_gte": 1000, "reset_billing_cycle_anchor": True}
    error = refusal(lambda: world.subscribe(price, billing_thresholds=thresholds))
    assert error.param == "billing_thresholds[reset_billing_cycle_anchor]"


def test_a_preview_shows_what_a_threshold_would_bill(world: World, calls: str) -> None:
    subscription = world.subscribe(calls)
    world.use("calls", 800)
    world.go("2026-01-10")
    id = subscription["items"].data[0].id
    preview = world.preview(subscription.id, items=[{"id": id, "billing_thresholds": {"usage_gte": 800}}])
    assert (preview.total, preview.period_end) == (1_600, at("2026-01-10"))
    assert world.invoices() == []
    after = world.v1.subscriptions.retrieve(subscription.id)
    assert after["items"].data[0].billing_thresholds is None


# -- pending invoice items --------------------------------------------------------------------------------------------


def waiting(world: World, subscription: str, amount: int) -> None:
    world.v1.invoice_items.create(
        {"customer": world.customer.id, "subscription": subscription, "amount": amount, "currency": "usd"}
    )


def test_what_waits_is_billed_at_every_interval_and_an_interval_without_anything_makes_no_invoice(world: World) -> None:
    subscription = world.subscribe(
        world.price("License", "1000"), pending_invoice_item_interval={"interval": "week", "interval_count": 1}
    )
    assert plain(subscription.pending_invoice_item_interval) == {"interval": "week", "interval_count": 1}
    assert subscription.next_pending_invoice_item_invoice == at("2026-01-08")
    world.go("2026-01-09")
    assert len(world.invoices()) == 1
    waiting(world, subscription.id, 300)
    waiting(world, subscription.id, 200)
    assert world.preview(subscription.id).total == 500
    world.go("2026-01-15T00:30:00")
    invoice = world.invoices()[-1]
    assert (invoice.billing_reason, invoice.total) == ("automatic_pending_invoice_item_invoice", 500)
    assert (invoice.status, invoice.created) == ("draft", at("2026-01-15"))
    world.go("2026-01-15T02:00:00")
    assert world.invoices()[-1].status == "paid"
    after = world.v1.subscriptions.retrieve(subscription.id)
    assert after.next_pending_invoice_item_invoice == at("2026-01-22")
    assert world.preview(subscription.id).total == 1_000


def test_prorations_that_wait_are_billed_then_too(world: World) -> None:
    subscription = world.subscribe(
        (world.price("License", "3100"), 1), pending_invoice_item_interval={"interval": "day"}
    )
    world.go("2026-01-11")
    world.change(subscription.id, {"id": subscription["items"].data[0].id, "quantity": 2})
    world.go("2026-01-12T02:00:00")
    # 31.00 for 31 days: 21 days more of one and less of the other
    assert sorted(amount for _, amount in world.bill()) == [-2_100, 4_200]
    assert world.invoices()[-1].created == at("2026-01-12")


def test_what_waits_is_billed_though_something_else_happens_in_the_same_second(world: World) -> None:
    subscription = world.subscribe(
        world.price("License", "1000"),
        collection_method="send_invoice",
        days_until_due=1,
        pending_invoice_item_interval={"interval": "day"},
    )
    waiting(world, subscription.id, 300)
    world.go("2026-01-02T00:30:00")
    assert world.v1.subscriptions.retrieve(subscription.id).status == "past_due"  # as of midnight
    invoice = world.invoices()[-1]
    assert (invoice.created, invoice.total) == (at("2026-01-02"), 300)


def test_a_renewal_at_the_same_moment_takes_what_waits(world: World) -> None:
    subscription = world.subscribe(world.price("License", "1000"), pending_invoice_item_interval={"interval": "month"})
    waiting(world, subscription.id, 300)
    world.go("2026-02-01T02:00:00")
    assert reasons(world) == [("subscription_create", 1_000), ("subscription_cycle", 1_300)]
    after = world.v1.subscriptions.retrieve(subscription.id)
    assert after.next_pending_invoice_item_invoice == at("2026-03-01")


def test_the_interval_is_changed_taken_away_and_gone_with_the_subscription(world: World) -> None:
    subscription = world.subscribe(world.price("License", "1000"))
    assert subscription.next_pending_invoice_item_invoice is None
    world.go("2026-01-10")
    changed = world.change(subscription.id, pending_invoice_item_interval={"interval": "week"})
    assert plain(changed.pending_invoice_item_interval) == {"interval": "week", "interval_count": 1}
    assert changed.next_pending_invoice_item_invoice == at("2026-01-15")
    changed = world.change(subscription.id, pending_invoice_item_interval={"interval": "day", "interval_count": 2})
    assert changed.next_pending_invoice_item_invoice == at("2026-01-11")
    changed = world.change(subscription.id, pending_invoice_item_interval="")
    assert (changed.pending_invoice_item_interval, changed.next_pending_invoice_item_invoice) == (None, None)
    world.change(subscription.id, pending_invoice_item_interval={"interval": "day"})
    assert world.v1.subscriptions.cancel(subscription.id).next_pending_invoice_item_invoice is None


@pytest.mark.parametrize(("interval", "most"), [("day", 365), ("week", 52), ("month", 12), ("year", 1)])
def test_the_interval_is_a_year_at_most(world: World, interval: str, most: int) -> None:
    price = world.price("License", "1000")
    subscription = world.subscribe(price, pending_invoice_item_interval={"interval": interval, "interval_count": most})
    assert subscription.status == "active"
    error = refusal(
        lambda: world.change(
            subscription.id, pending_invoice_item_interval={"interval": interval, "interval_count": most + 1}
        )
    )
    assert error.param == "pending_invoice_item_interval[interval_count]"
