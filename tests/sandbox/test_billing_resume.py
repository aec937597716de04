"""Paused subscriptions that go on: what is billed, when they are active, the bills worked out by hand."""

from __future__ import annotations

from typing import Any

import pytest
import stripe

from .bills import World, at, lines, refusal

PAUSE: Any = {"end_behavior": {"missing_payment_method": "pause"}}


@pytest.fixture
def world(client: stripe.StripeClient) -> World:
    found = World(client)
    found.customer = found.new_customer(invoice_settings={})
    return found


@pytest.fixture
def paused(world: World) -> str:
    """31.00 a month, paused on 8 January; it is 11 January."""
    price = world.price("License", "3100")
    subscription = world.subscribe(price, trial_period_days=7, trial_settings=PAUSE)
    world.go("2026-01-11")
    assert world.v1.subscriptions.retrieve(subscription.id).status == "paused"
    return subscription.id


def card(world: World) -> None:
    world.v1.customers.update(world.customer.id, {"invoice_settings": {"default_payment_method": "pm_card_visa"}})


def events(world: World) -> list[str]:
    names = ("customer.subscription.resumed", "customer.subscription.updated")
    return [event.type for event in world.v1.events.list({"limit": 20}).data if event.type in names]


def test_it_goes_on_when_the_invoice_of_the_resumption_is_paid(world: World, paused: str) -> None:
    preview = world.preview(paused, resume_at="now")
    assert lines(preview) == [("1 × License (at $31.00 / month)", 3_100)]
    waiting = world.v1.subscriptions.resume(paused)
    assert waiting.status == "paused"
    assert waiting.pending_update is not None
    assert waiting.pending_update.expires_at == at("2026-01-11T23:00:00")
    assert "customer.subscription.resumed" not in events(world)
    invoice = world.invoices()[-1]
    assert (invoice.status, invoice.attempted, lines(invoice)) == ("open", False, lines(preview))
    assert refusal(lambda: world.v1.subscriptions.resume(paused)).http_status == 400
    world.v1.invoices.pay(invoice.id, {"payment_method": "pm_card_visa"})
    active = world.v1.subscriptions.retrieve(paused)
    assert (active.status, active.billing_cycle_anchor, active.pending_update) == ("active", at("2026-01-11"), None)
    period = active["items"].data[0]
    assert (period.current_period_start, period.current_period_end) == (at("2026-01-11"), at("2026-02-11"))
    assert events(world)[:2] in (
        ["customer.subscription.updated", "customer.subscription.resumed"],
        ["customer.subscription.resumed", "customer.subscription.updated"],
    )
    card(world)
    world.go("2026-02-11T02:00:00")
    assert world.bill() == [("1 × License (at $31.00 / month)", 3_100)]


@pytest.mark.parametrize("how", ["void", "wait"])
def test_it_stays_paused_when_the_invoice_is_void(world: World, paused: str, how: str) -> None:
    world.v1.subscriptions.resume(paused)
    invoice = world.invoices()[-1]
    if how == "void":
        world.v1.invoices.void_invoice(invoice.id)
    else:
        world.go("2026-01-12")
    assert world.v1.invoices.retrieve(invoice.id).status == "void"
    still = world.v1.subscriptions.retrieve(paused)
    assert (still.status, still.pending_update, still.billing_cycle_anchor) == ("paused", None, at("2026-01-08"))
    assert world.v1.subscriptions.resume(paused).status == "paused"  # and can be tried again


def test_with_a_card_it_can_be_charged_within_the_request(world: World, paused: str) -> None:
    error = refusal(lambda: world.v1.subscriptions.resume(paused, {"payment_behavior": "resume_on_payment_success"}))
    assert error.code == "resource_missing"
    card(world)
    active = world.v1.subscriptions.resume(paused, {"payment_behavior": "resume_on_payment_success"})
    assert (active.status, active.latest_invoice) == ("active", world.invoices()[-1].id)
    assert world.invoices()[-1].status == "paid"


def test_a_charge_that_fails_leaves_it_paused(world: World, paused: str) -> None:
    failing: Any = {"invoice_settings": {"default_payment_method": "pm_card_chargeCustomerFail"}}
    world.v1.customers.update(world.customer.id, failing)
    still = world.v1.subscriptions.resume(paused, {"payment_behavior": "resume_on_payment_success"})
    assert (still.status, world.invoices()[-1].attempted) == ("paused", True)


def test_the_anchor_can_stay_and_the_rest_of_the_period_waits_or_is_billed(world: World, paused: str) -> None:
    # dahlia writes a word, endive an object; 8 February is 28 days on, of 31
    unchanged: Any = {"billing_cycle_anchor": {"type": "unchanged"}}
    active = world.v1.subscriptions.resume(paused, unchanged)
    assert (active.status, active.billing_cycle_anchor) == ("active", at("2026-01-08"))
    assert active["items"].data[0].current_period_end == at("2026-02-08")
    waiting: Any = {"customer": world.customer.id, "pending": True}
    assert [item.amount for item in world.v1.invoice_items.list(waiting).data] == [2_800]


def test_the_rest_of_the_period_can_be_billed_at_once(world: World, paused: str) -> None:
    asked: Any = {"billing_cycle_anchor": {"type": "unchanged"}, "proration_behavior": "always_invoice"}
    assert world.v1.subscriptions.resume(paused, asked).status == "paused"
    assert [amount for _, amount in world.bill()] == [2_800]
    world.v1.invoices.pay(world.invoices()[-1].id, {"paid_out_of_band": True})
    assert world.v1.subscriptions.retrieve(paused).status == "active"


def test_only_what_is_paused_and_charged_can_be_resumed(world: World, paused: str) -> None:
    other = world.subscribe(world.price("Other", "100"), collection_method="send_invoice", days_until_due=3)
    assert refusal(lambda: world.v1.subscriptions.resume(other.id)).http_status == 400
    world.change(paused, collection_method="send_invoice", days_until_due=3)
    assert refusal(lambda: world.v1.subscriptions.resume(paused)).http_status == 400
    assert refusal(lambda: world.v1.subscriptions.resume("sub_nope")).code == "resource_missing"
