"""What the end of a trial and an update do to the billing cycle anchor, the bills worked out by hand."""

from __future__ import annotations

from typing import Any

import pytest
import stripe

from .bills import World, at, lines

UNCHANGED: Any = {"end_behavior": {"missing_payment_method": "create_invoice", "billing_cycle_anchor": "unchanged"}}
NOW: Any = {"end_behavior": {"billing_cycle_anchor": "now"}}


@pytest.fixture
def world(client: stripe.StripeClient) -> World:
    return World(client)


@pytest.fixture
def license(world: World) -> str:
    """31.00 a month: a dollar a day in January."""
    return world.price("License", "3100")


def period(subscription: stripe.Subscription) -> tuple[int, int]:
    item = subscription["items"].data[0]
    return item.current_period_start, item.current_period_end


def test_a_trial_that_leaves_the_anchor_is_followed_by_the_rest_of_a_period(world: World, license: str) -> None:
    subscription = world.subscribe(license, trial_period_days=7, trial_settings=UNCHANGED)
    assert (subscription.status, subscription.billing_cycle_anchor) == ("trialing", at("2026-01-01"))
    assert period(subscription) == (at("2026-01-01"), at("2026-01-08"))
    assert subscription.trial_settings is not None
    assert subscription.trial_settings.to_dict() == UNCHANGED
    world.go("2026-01-08T02:00:00")
    # 8 January to 1 February: 24 of 31 days
    assert world.bill() == [("Remaining time on License after 08 Jan 2026", 2_400)]
    after = world.v1.subscriptions.retrieve(subscription.id)
    assert (after.billing_cycle_anchor, period(after)) == (at("2026-01-01"), (at("2026-01-08"), at("2026-02-01")))
    world.go("2026-02-01T02:00:00")
    assert world.bill() == [("1 × License (at $31.00 / month)", 3_100)]


def test_a_trial_moves_the_anchor_to_its_end_unless_told_otherwise(world: World, license: str) -> None:
    for settings in ({}, {"trial_settings": NOW}):
        world.customer = world.new_customer()
        subscription = world.subscribe(license, trial_period_days=7, **settings)
        assert subscription.billing_cycle_anchor == at("2026-01-08")
        assert subscription.trial_settings is not None
        # recorded: both are shown when nothing was said
        assert subscription.trial_settings.to_dict() == {
            "end_behavior": {"billing_cycle_anchor": "now", "missing_payment_method": "create_invoice"}
        }


def test_the_anchor_after_a_trial_can_be_decided_while_it_runs(world: World, license: str) -> None:
    subscription = world.subscribe(license, trial_period_days=7)
    assert world.change(subscription.id, trial_settings=UNCHANGED).billing_cycle_anchor == at("2026-01-01")
    assert world.change(subscription.id, trial_settings=NOW).billing_cycle_anchor == at("2026-01-08")
    world.go("2026-01-08T02:00:00")
    assert world.bill() == [("1 × License (at $31.00 / month)", 3_100)]


def test_an_anchor_that_was_given_outlives_the_trial(world: World, license: str) -> None:
    subscription = world.subscribe(license, trial_period_days=7, billing_cycle_anchor=at("2026-01-20"))
    world.go("2026-01-08T02:00:00")
    # 8 to 20 January
    assert world.bill() == [("Remaining time on License after 08 Jan 2026", 1_200)]
    assert world.v1.subscriptions.retrieve(subscription.id).billing_cycle_anchor == at("2026-01-20")


def test_a_trial_within_a_period_can_leave_the_anchor(world: World, license: str) -> None:
    subscription = world.subscribe(license)
    world.go("2026-01-11")
    changed = world.change(subscription.id, trial_end=at("2026-01-16"), billing_cycle_anchor={"type": "unchanged"})
    # 21 days given back; then 16 January to 1 February, 16 days
    assert ("Unused time on License after 11 Jan 2026", -2_100) in world.bill()
    assert (changed.status, changed.billing_cycle_anchor) == ("trialing", at("2026-01-01"))
    world.go("2026-01-16T02:00:00")
    assert world.bill() == [("Remaining time on License after 16 Jan 2026", 1_600)]
    world.go("2026-02-01T02:00:00")
    assert world.bill() == [("1 × License (at $31.00 / month)", 3_100)]


def test_a_trial_that_is_ended_early_can_leave_the_anchor(world: World, license: str) -> None:
    subscription = world.subscribe(license, trial_period_days=20, trial_settings=UNCHANGED)
    world.go("2026-01-11")
    preview = world.preview(subscription.id, trial_end="now")
    ended = world.change(subscription.id, trial_end="now")
    assert lines(preview) == world.bill() == [("Remaining time on License after 11 Jan 2026", 2_100)]
    assert (ended.status, period(ended)) == ("active", (at("2026-01-11"), at("2026-02-01")))


def test_an_anchor_is_moved_by_type(world: World) -> None:
    subscription = world.subscribe(world.price("License", "10000"))
    world.go("2026-01-11")
    anchor: Any = {"type": "unchanged"}
    assert world.change(subscription.id, billing_cycle_anchor=anchor).billing_cycle_anchor == at("2026-01-01")
    anchor = {"type": "now"}
    assert world.change(subscription.id, billing_cycle_anchor=anchor).billing_cycle_anchor == at("2026-01-11")
    anchor = {"type": "timestamp"}
    with pytest.raises(stripe.InvalidRequestError, match="billing_cycle_anchor"):
        world.change(subscription.id, billing_cycle_anchor=anchor)


def test_a_preview_takes_a_timestamp_for_what_is_new_and_refuses_it_for_what_is_there(world: World) -> None:
    price = world.price("License", "10000")
    subscription = world.subscribe(price)
    anchor: Any = {"type": "timestamp", "timestamp": at("2026-01-16")}
    new: Any = {
        "customer": subscription.customer,
        "subscription_details": {"items": [{"price": price}], "billing_cycle_anchor": anchor},
    }
    assert world.v1.invoices.create_preview(new).lines.data[0].period.end == at("2026-01-16")
    there: Any = {"subscription": subscription.id, "subscription_details": {"billing_cycle_anchor": anchor}}
    with pytest.raises(stripe.InvalidRequestError) as caught:
        world.v1.invoices.create_preview(there)
    assert caught.value.param == "subscription_details[billing_cycle_anchor]"
    new["subscription_details"]["billing_cycle_anchor"] = {"type": "unchanged"}
    with pytest.raises(stripe.InvalidRequestError) as caught:
        world.v1.invoices.create_preview(new)
    assert caught.value.param == "subscription_details[billing_cycle_anchor]"
