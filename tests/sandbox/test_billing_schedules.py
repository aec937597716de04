"""Subscription schedules: phases that begin and end as time passes, previewed, changed, released and cancelled."""

from __future__ import annotations

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
    changed: Any = {
        "phases": [
            {
                "items": [{"price": basic, "quantity": 2}],
                "start_date": at("2026-04-01"),
                "end_date": at("2026-05-01"),
            },
            {"items": [{"price": pro, "quantity": 2}]},
        ],
        "metadata": {"a": "b"},
    }
    assert len(world.v1.subscription_schedules.update(schedule.id, changed).phases) == 2
    world.go("2026-05-01T02:00:00")
    assert [invoice.total for invoice in world.invoices()] == [6_000, 18_000]


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
        ({"start_date": at("2026-01-01")}, "start_date in the past"),
        ({"default_settings": {"on_behalf_of": "acct_1"}}, "default_settings[on_behalf_of]"),
    ],
)
def test_what_is_not_implemented_is_refused_by_name(
    world: World, basic: str, params: dict[str, Any], param: str
) -> None:
    error = refusal(lambda: plan(world, month(basic), **params))
    assert error.http_status == 501
    assert param in str(error.user_message)
