"""Subscription schedules: phases that begin and end as time passes, previewed, changed, released and cancelled."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import stripe

from .bills import World, at, lines, refusal
from .conftest import Clock


@pytest.fixture
def world(client: stripe.StripeClient) -> World:
    return World(client, "2026-04-01")


@pytest.fixture
def basic(world: World) -> str:
    return world.price("Basic", "3000")


@pytest.fixture
def pro(world: World) -> str:
    return world.price("Pro", "9000")


def plan(world: World, *phases: dict[str, Any], **params: Any) -> stripe.SubscriptionSchedule:
    given: Any = {"customer": world.customer.id, "start_date": "now", "phases": list(phases), **params}
    return world.v1.subscription_schedules.create(given)


def month(price: str, months: int = 1, **params: Any) -> dict[str, Any]:
    return {
        "items": [{"price": price}],
        "duration": {"interval": "month", "interval_count": months},
        **params,
    }


def test_the_first_phase_makes_the_subscription_and_leaves_its_invoice_a_draft(world: World, basic: str) -> None:
    schedule = plan(world, month(basic, 2))
    assert schedule.status == "active"
    assert schedule.current_phase is not None
    assert (schedule.current_phase.start_date, schedule.current_phase.end_date) == (at("2026-04-01"), at("2026-06-01"))
    subscription = world.v1.subscriptions.retrieve(str(schedule.subscription))
    assert (subscription.status, subscription.schedule) == ("active", schedule.id)
    assert [(invoice.status, invoice.total) for invoice in world.invoices()] == [("draft", 3_000)]
    world.go("2026-04-01T01:00:00")
    assert world.invoices()[0].status == "paid"


def test_a_price_that_goes_up_at_a_renewal_is_not_prorated(world: World, basic: str, pro: str) -> None:
    schedule = plan(world, month(basic), month(pro))
    # 90.00 for May, nothing for April
    preview = world.v1.invoices.create_preview({"schedule": schedule.id})
    assert lines(preview) == [("1 × Pro (at $90.00 / month)", 9_000)]
    world.go("2026-05-01T02:00:00")
    assert [invoice.total for invoice in world.invoices()] == [3_000, 9_000]
    subscription = world.v1.subscriptions.retrieve(str(schedule.subscription))
    assert [item.price.id for item in subscription["items"].data] == [pro]


def test_a_phase_that_ends_in_mid_period_is_prorated(world: World, basic: str, pro: str) -> None:
    plan(
        world,
        {"items": [{"price": basic}], "end_date": at("2026-04-16")},
        month(pro),
    )
    world.go("2026-04-16T02:00:00")
    world.go("2026-05-01T02:00:00")
    # half of April's 30 days: −15.00 and +45.00, and 90.00 for May
    assert [amount for _, amount in world.bill()] == [-1_500, 4_500, 9_000]


@pytest.mark.parametrize(
    ("mode", "terms", "billed"),
    [
        # 335 of the 365 days from May to the anchor, 1 April: 275.34
        ("flexible", {}, 27_534),
        ("flexible", {"proration_behavior": "none"}, None),
        ("flexible", {"proration_behavior": "none", "billing_cycle_anchor": "phase_start"}, 30_000),
        ("classic", {"proration_behavior": "none"}, 30_000),
    ],
)
def test_a_phase_of_another_interval_keeps_the_anchor_in_flexible_mode_unless_it_starts_one(
    world: World, basic: str, mode: str, terms: dict[str, Any], billed: int | None
) -> None:
    yearly = world.price("Yearly", "30000", interval="year")
    year = {"items": [{"price": yearly}], "duration": {"interval": "year", "interval_count": 1}, **terms}
    plan(world, month(basic), year, billing_mode={"type": mode})
    world.go("2026-05-01T02:00:00")
    assert [invoice.total for invoice in world.invoices()] == [3_000, *([] if billed is None else [billed])]


def test_usage_of_the_old_price_is_billed_where_the_phases_meet(world: World) -> None:
    meter = world.meter("calls")
    cheap = world.usage_price("Cheap", meter, unit_amount_decimal="1")
    dear = world.usage_price("Dear", meter, unit_amount_decimal="5")
    plan(world, month(cheap), month(dear))
    world.use("calls", 100)
    world.go("2026-05-01T02:00:00")
    assert world.bill() == [("100 × Cheap (at $0.01 / month)", 100)]
    world.use("calls", 10)
    world.go("2026-06-01T02:00:00")
    assert world.bill() == [("10 × Dear (at $0.05 / month)", 50)]


def test_after_the_last_phase_the_subscription_goes_on_by_itself(world: World, basic: str) -> None:
    schedule = plan(world, month(basic))
    world.go("2026-05-01T02:00:00")
    over = world.v1.subscription_schedules.retrieve(schedule.id)
    assert (over.status, over.released_subscription, over.subscription) == ("released", schedule.subscription, None)
    assert [invoice.total for invoice in world.invoices()] == [3_000, 3_000]
    assert world.v1.subscriptions.retrieve(str(schedule.subscription)).schedule is None


def test_or_ends_with_it(world: World, basic: str) -> None:
    schedule = plan(world, month(basic), end_behavior="cancel")
    world.go("2026-05-01T02:00:00")
    assert world.v1.subscription_schedules.retrieve(schedule.id).status == "completed"
    assert world.v1.subscriptions.retrieve(str(schedule.subscription)).status == "canceled"
    assert [invoice.total for invoice in world.invoices()] == [3_000]


def test_a_schedule_can_begin_later(world: World, basic: str) -> None:
    schedule = plan(world, month(basic), start_date=at("2026-04-10"))
    assert (schedule.status, schedule.subscription) == ("not_started", None)
    preview = world.v1.invoices.create_preview({"schedule": schedule.id})
    assert (preview.total, preview.created) == (3_000, at("2026-04-10"))
    assert len(world.v1.subscription_schedules.list({"customer": world.customer.id, "scheduled": True}).data) == 1
    world.go("2026-04-10T02:00:00")
    started = world.v1.subscription_schedules.retrieve(schedule.id)
    assert started.status == "active"
    assert world.invoices()[0].created == at("2026-04-10")


def test_a_trial_phase_is_free(world: World, basic: str) -> None:
    plan(world, month(basic, trial=True), month(basic))
    world.go("2026-05-01T02:00:00")
    assert [invoice.total for invoice in world.invoices()] == [0, 3_000]


def test_around_a_subscription_that_exists_phases_are_added(world: World, basic: str, pro: str) -> None:
    subscription = world.subscribe((basic, 2))
    schedule = world.v1.subscription_schedules.create({"from_subscription": subscription.id})
    assert [(phase.start_date, phase.end_date) for phase in schedule.phases] == [(at("2026-04-01"), at("2026-05-01"))]
    refused = refusal(lambda: world.v1.subscription_schedules.create({"from_subscription": subscription.id}))
    assert refused.param == "from_subscription"
    other: Any = {"from_subscription": world.subscribe((basic, 1)).id, "metadata": {"a": "b"}}
    assert refusal(lambda: world.v1.subscription_schedules.create(other)).param == "from_subscription"
    world.v1.subscriptions.update(subscription.id, {"metadata": {"mark": "1", "crm": "7"}})
    changed: Any = {
        "phases": [
            {
                "items": [{"price": basic, "quantity": 2}],
                "start_date": at("2026-04-01"),
                "end_date": at("2026-05-01"),
            },
            {"items": [{"price": pro, "quantity": 2}], "metadata": {"mark": ""}},
        ],
        "metadata": {"a": "b"},
    }
    assert len(world.v1.subscription_schedules.update(schedule.id, changed).phases) == 2
    world.go("2026-05-01T02:00:00")
    assert sorted(invoice.total for invoice in world.invoices()) == [3_000, 3_000, 6_000, 18_000]
    # A phase's metadata unsets what it has empty.
    assert world.v1.subscriptions.retrieve(subscription.id).metadata.to_dict() == {"crm": "7"}


def test_the_present_phase_can_be_changed_at_once(world: World, basic: str, pro: str) -> None:
    schedule = plan(world, month(basic))
    world.go("2026-04-16")
    changed: Any = {"phases": [month(pro, start_date=at("2026-04-01"))]}
    details: Any = {"schedule": schedule.id, "schedule_details": changed}
    # −15.00, +45.00, 90.00
    assert world.v1.invoices.create_preview(details).total == 12_000
    world.v1.subscription_schedules.update(schedule.id, changed)
    assert world.preview(str(schedule.subscription)).total == 12_000


def test_a_schedule_that_does_not_exist_can_be_previewed(world: World, basic: str) -> None:
    given: Any = {"customer": world.customer.id, "schedule_details": {"phases": [month(basic, start_date="now")]}}
    preview = world.v1.invoices.create_preview(given)
    assert lines(preview) == [("1 × Basic (at $30.00 / month)", 3_000)]
    assert world.v1.subscriptions.list({"customer": world.customer.id}).data == []


def test_released_it_lets_its_subscription_go(world: World, basic: str) -> None:
    schedule = plan(world, month(basic), end_behavior="cancel")
    released = world.v1.subscription_schedules.release(schedule.id)
    assert (released.status, released.released_subscription) == ("released", schedule.subscription)
    world.go("2026-05-01T02:00:00")
    assert world.v1.subscriptions.retrieve(str(schedule.subscription)).status == "active"
    assert refusal(lambda: world.v1.subscription_schedules.release(schedule.id)).http_status == 400


def test_cancelled_it_ends_its_subscription_and_credits_the_rest(world: World, basic: str) -> None:
    schedule = plan(world, month(basic))
    world.go("2026-04-16")
    cancelled = world.v1.subscription_schedules.cancel(schedule.id)
    assert (cancelled.status, cancelled.current_phase) == ("canceled", None)
    assert world.v1.subscriptions.retrieve(str(schedule.subscription)).status == "canceled"
    assert world.invoices()[-1].total == -1_500


def test_its_subscription_cannot_be_told_to_end_directly(world: World, basic: str) -> None:
    schedule = plan(world, month(basic))
    refused = refusal(lambda: world.change(str(schedule.subscription), cancel_at_period_end=True))
    assert "managed by the subscription schedule" in str(refused.user_message)


def test_an_archived_price_that_was_planned_still_begins(world: World, basic: str, pro: str) -> None:
    plan(world, month(basic), month(pro))
    world.v1.prices.update(pro, {"active": False})
    world.go("2026-05-01T02:00:00")
    assert world.invoices()[-1].total == 9_000


def test_without_a_test_clock_phases_come_with_the_sandboxs_own_time(client: stripe.StripeClient, clock: Clock) -> None:
    world = World(client)
    world.customer = client.v1.customers.create({"invoice_settings": {"default_payment_method": "pm_card_visa"}})
    schedule = plan(world, month(world.price("Basic", "3000")), month(world.price("Pro", "9000")))
    clock.now = float(at("2026-02-02"))
    assert world.v1.subscription_schedules.retrieve(schedule.id).current_phase is not None
    assert [invoice.total for invoice in world.invoices()] == [3_000, 9_000]


@pytest.mark.parametrize(
    ("params", "param"),
    [
        ({"end_behavior": "renew"}, "end_behavior=renew"),
        ({"end_behavior": "none"}, "end_behavior=none"),
        ({"start_date": at("2026-01-01")}, "phases[0][end_date] in the past"),
    ],
)
def test_what_is_not_implemented_is_refused_by_name(
    world: World, basic: str, params: dict[str, Any], param: str
) -> None:
    error = refusal(lambda: plan(world, month(basic), **params))
    assert error.http_status == 501
    assert param in str(error.user_message)


# -- discounts, payment methods, invoice items, starts in the past ----------------------------------------------------


def coupon(world: World, **params: Any) -> list[dict[str, str]]:
    given: Any = params
    return [{"coupon": world.v1.coupons.create(given).id}]


def test_each_phase_brings_its_own_discounts(world: World, basic: str) -> None:
    half, tenth = coupon(world, percent_off=50, duration="forever"), coupon(world, percent_off=10, duration="forever")
    own = coupon(world, amount_off=300, currency="usd", duration="forever")
    items = [{"price": basic, "discounts": own}]
    schedule = plan(world, month(basic, discounts=half), month(basic, discounts=tenth, items=items), month(basic))
    [planned] = schedule.phases[0].discounts
    assert (planned.coupon, planned.discount, planned.promotion_code) == (half[0]["coupon"], None, None)
    assert world.v1.coupons.retrieve(tenth[0]["coupon"]).times_redeemed == 0
    preview = world.v1.invoices.create_preview({"schedule": schedule.id})
    assert (preview.total, world.v1.coupons.retrieve(tenth[0]["coupon"]).times_redeemed) == (2_430, 0)
    for day in ("2026-05-01T02:00:00", "2026-06-01T02:00:00"):
        world.go(day)
    # 30.00 at half price; 30.00 - 3.00 - 10 %; then nothing off
    assert [invoice.total for invoice in world.invoices()] == [1_500, 2_430, 3_000]
    assert world.v1.coupons.retrieve(tenth[0]["coupon"]).times_redeemed == 1
    subscription = world.v1.subscriptions.retrieve(str(schedule.subscription or schedule.released_subscription))
    assert (subscription.discounts, subscription["items"].data[0].discounts) == ([], [])


def test_usage_is_billed_under_the_discounts_of_the_phase_that_it_fell_in(world: World) -> None:
    meter = world.meter("calls")
    calls = world.usage_price("Calls", meter, unit_amount_decimal="10")
    license = world.price("License", "1000")
    both: dict[str, Any] = {"items": [{"price": calls}, {"price": license}]}
    half, tenth = coupon(world, percent_off=50, duration="forever"), coupon(world, percent_off=10, duration="forever")
    plan(world, month(calls, discounts=half, **both), month(calls, discounts=tenth, **both))
    world.use("calls", 100)
    world.go("2026-05-01T00:30:00")
    world.use("calls", 20, "2026-04-30T23:59:00")
    world.go("2026-05-01T02:00:00")
    invoice = world.invoices()[-1]
    # April's 120 calls at half of 12.00, May's license at nine tenths of 10.00
    taken = {line.amount: sum(given.amount for given in line.discount_amounts or ()) for line in invoice.lines.data}
    assert taken == {1_200: 600, 1_000: 100}
    assert invoice.total == 1_500


def test_a_coupon_that_has_run_out_when_its_phase_begins_is_left_out(world: World, basic: str) -> None:
    only = coupon(world, percent_off=50, duration="forever", max_redemptions=1)
    plan(world, month(basic), month(basic, discounts=only))
    world.subscribe(world.price("Other", "100"), discounts=only)
    world.go("2026-05-01T02:00:00")
    assert [invoice.total for invoice in world.invoices()] == [3_000, 50, 3_000, 50]
    late = coupon(world, percent_off=50, redeem_by=at("2026-05-02"))
    world.go("2026-05-03")
    assert refusal(lambda: plan(world, month(basic, discounts=late))).param == "phases[0][discounts][0][coupon]"


def test_phases_that_are_sent_back_as_they_were_give_nothing_twice(world: World, basic: str) -> None:
    once = coupon(world, percent_off=50, duration="once")
    one_time: Any = {"currency": "usd", "product": world.product("Setup"), "unit_amount": 700}
    setup = [{"price": world.v1.prices.create(one_time).id}]
    schedule = plan(world, month(basic, 3, discounts=once, add_invoice_items=setup))
    assert [invoice.total for invoice in world.invoices()] == [1_850]
    [phase] = schedule.phases
    sent: Any = {
        "items": [{"price": basic}],
        "start_date": phase.start_date,
        "end_date": phase.end_date,
        "discounts": once,
        "add_invoice_items": setup,
    }
    world.v1.subscription_schedules.update(schedule.id, {"phases": [sent]})
    assert world.v1.coupons.retrieve(once[0]["coupon"]).times_redeemed == 1
    assert world.v1.invoice_items.list({"customer": world.customer.id, "pending": True}).data == []
    assert world.preview(str(schedule.subscription)).total == 3_000
    # What is new is given at once; a list that is cleared is taken off.
    fresh = coupon(world, percent_off=10, duration="forever")
    added: Any = {**sent, "discounts": [*once, *fresh]}
    world.v1.subscription_schedules.update(schedule.id, {"phases": [added]})
    assert world.preview(str(schedule.subscription)).total == 2_700
    without: Any = {**sent, "discounts": ""}
    cleared = world.v1.subscription_schedules.update(schedule.id, {"phases": [without]})
    assert cleared.phases[0].discounts == []
    assert world.preview(str(schedule.subscription)).total == 3_000


def test_a_schedule_around_a_subscription_keeps_its_discounts_by_id(world: World, basic: str) -> None:
    whole, own = coupon(world, percent_off=10, duration="forever"), coupon(world, percent_off=50, duration="forever")
    subscription = world.subscribe({"price": basic, "discounts": own}, discounts=whole)
    schedule = world.v1.subscription_schedules.create({"from_subscription": subscription.id})
    [phase] = schedule.phases
    assert [entry.discount for entry in phase.discounts] == subscription.discounts
    assert [entry.discount for entry in phase.items[0].discounts] == subscription["items"].data[0].discounts
    world.go("2026-05-01T02:00:00")
    # 30.00 at half price, less a tenth
    assert [invoice.total for invoice in world.invoices()] == [1_350, 1_350]


def test_a_phase_adds_invoice_items_when_it_begins(world: World, basic: str) -> None:
    setup = world.product("Setup")
    added = [
        {
            "price_data": {"currency": "usd", "product": setup, "unit_amount": 2_000},
            "discounts": coupon(world, percent_off=25),
            "quantity": 2,
            "metadata": {"a": "b"},
            "period": {"start": {"type": "phase_start"}, "end": {"type": "phase_end"}},
        },
        {"price_data": {"currency": "usd", "product": setup, "unit_amount": 500}},
    ]
    schedule = plan(world, month(basic), month(basic, 2, add_invoice_items=added))
    kept = schedule.phases[1].add_invoice_items
    assert [(item.quantity, item.period.start.type, item.period.end.type) for item in kept] == [
        (2, "phase_start", "phase_end"),
        (1, "max_item_period_start", "min_item_period_end"),
    ]
    # 30.00 + 40.00 - 10.00 + 5.00
    assert world.v1.invoices.create_preview({"schedule": schedule.id}).total == 6_500
    world.go("2026-05-01T02:00:00")
    invoice = world.invoices()[-1]
    assert invoice.total == 6_500
    periods = {line.amount: (line.period.start, line.period.end) for line in invoice.lines.data}
    assert periods[4_000] == (at("2026-05-01"), at("2026-07-01"))
    assert periods[500] == (at("2026-05-01"), at("2026-06-01"))
    world.go("2026-06-01T02:00:00")
    assert world.invoices()[-1].total == 3_000


def test_a_phases_payment_method_is_the_subscriptions(world: World, basic: str) -> None:
    schedule = plan(
        world,
        month(basic),
        month(basic, default_payment_method="pm_card_mastercard"),
        default_settings={"default_payment_method": "pm_card_amex"},
    )
    first = world.v1.subscriptions.retrieve(str(schedule.subscription)).default_payment_method
    assert first == schedule.default_settings.default_payment_method is not None
    other: Any = {"default_settings": {"default_payment_method": "pm_card_visa"}}
    changed = world.v1.subscription_schedules.update(schedule.id, other).default_settings.default_payment_method
    assert world.v1.subscriptions.retrieve(str(schedule.subscription)).default_payment_method == changed != first
    world.go("2026-05-01T02:00:00")
    second = world.v1.subscriptions.retrieve(str(schedule.subscription)).default_payment_method
    assert second == schedule.phases[1].default_payment_method not in (None, changed)


def test_a_start_in_the_past_backdates_the_subscription(world: World, basic: str) -> None:
    world.go("2026-04-21")
    given: Any = {
        "customer": world.customer.id,
        "schedule_details": {"phases": [{**month(basic, 2), "start_date": at("2026-04-11")}]},
    }
    preview = world.v1.invoices.create_preview(given)
    schedule = plan(world, month(basic, 2), start_date=at("2026-04-11"))
    assert (schedule.status, schedule.phases[0].end_date) == ("active", at("2026-06-11"))
    subscription = world.v1.subscriptions.retrieve(str(schedule.subscription))
    assert (subscription.start_date, subscription.billing_cycle_anchor) == (at("2026-04-11"), at("2026-04-11"))
    assert subscription["items"].data[0].current_period_end == at("2026-05-11")
    assert [invoice.total for invoice in world.invoices()] == [preview.total] == [3_000]
    world.go("2026-05-11T02:00:00")
    assert [invoice.total for invoice in world.invoices()] == [3_000, 3_000]


def test_phase_start_as_the_schedules_default_begins_a_period_with_each_phase(
    world: World, basic: str, pro: str
) -> None:
    phases = [{"items": [{"price": basic}], "end_date": at("2026-04-16")}, month(pro)]
    schedule = plan(world, *phases, default_settings={"billing_cycle_anchor": "phase_start"})
    world.go("2026-04-16T02:00:00")
    subscription = world.v1.subscriptions.retrieve(str(schedule.subscription))
    assert subscription.billing_cycle_anchor == at("2026-04-16")
    # half of April's 30.00 back, and a whole month from the 16th
    assert [amount for _, amount in world.bill()] == [-1_500, 9_000]


def test_what_a_phase_cannot_be(world: World, basic: str) -> None:
    end = at("2026-05-01")
    refused: list[tuple[dict[str, Any], str]] = [
        (month(basic, trial=True, trial_end=end), "phases[0][trial_end]"),
        (month(basic, trial_end=end + 1), "phases[0][trial_end]"),
        (month(basic, trial=True, billing_cycle_anchor="phase_start"), "phases[0][billing_cycle_anchor]"),
        (month(basic, discounts=[{"discount": "di_1"}]), "phases[0][discounts][0][discount]"),
        (month(basic, discounts=coupon(world, percent_off=5) * 2), "phases[0][discounts]"),
    ]
    for phase, param in refused:
        assert refusal(partial(plan, world, phase)).param == param


def test_a_preview_of_phases_may_describe_prices(world: World, basic: str) -> None:
    data = {
        "currency": "usd",
        "product": world.product("Later"),
        "unit_amount": 4_400,
        "recurring": {"interval": "month"},
    }
    given: Any = {
        "customer": world.customer.id,
        "schedule_details": {
            "phases": [{"items": [{"price_data": data}], "duration": {"interval": "month", "interval_count": 1}}]
        },
    }
    before = len(world.v1.prices.list().data)
    assert world.v1.invoices.create_preview(given).total == 4_400
    assert len(world.v1.prices.list().data) == before


def test_a_moment_that_cannot_be_billed_is_left_and_stops_no_other(
    world: World, basic: str, caplog: pytest.LogCaptureFixture
) -> None:
    stuck = plan(world, month(basic), start_date=at("2026-04-10"))
    euros = world.price("Euro", "500", currency="eur")
    world.subscribe(euros)
    other = world.new_customer()
    later = plan(world, month(basic), start_date=at("2026-04-20"), customer=other.id)
    world.go("2026-04-30")
    messages = [record.getMessage() for record in caplog.records if record.name == "sandbox"]
    assert len(messages) == 1
    assert messages[0].startswith(f"{stuck.id} at {at('2026-04-10')} was not done: ")
    schedules = [world.v1.subscription_schedules.retrieve(each.id) for each in (stuck, later)]
    assert [schedule.status for schedule in schedules] == ["not_started", "active"]
    assert [invoice.total for invoice in world.v1.invoices.list({"customer": other.id}).data] == [3_000]
    world.go("2026-05-02")
    assert [invoice.total for invoice in world.invoices()] == [500, 500]
    assert len(caplog.records) == 1
