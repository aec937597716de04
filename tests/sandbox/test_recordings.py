"""What Stripe's test mode was recorded to send and the rest of the suite does not state: fields, events, their order.

The facts are from recordings on API 2026-08-26.dahlia in the public repository Kiln-AI/stripe_world,
`tests/conformance/cassettes`; the file is named beside each. docs/sandbox.md ("What is as recorded") says where the
sandbox differs on purpose.
"""

from __future__ import annotations

import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import stripe
from stripe.params import WebhookEndpointCreateParams

import sandbox

from .bills import World, at, lines, refusal
from .catalog import plain


def last(client: stripe.StripeClient, type: str) -> Any:
    """The newest event of a type, as plain values."""
    return plain(client.v1.events.list({"type": type, "limit": 1}).data[0])


# -- products, prices, coupons: 07_catalog, probe_catalog_events -------------------------------------------------------


def test_a_tax_code_is_shown_twice(client: stripe.StripeClient) -> None:
    product = client.v1.products.create({"name": "Full", "tax_code": "txcd_10103000"})
    assert product.tax_code == "txcd_10103000"
    assert plain(product)["tax_details"] == {"performance_location": None, "tax_code": "txcd_10103000"}
    placed = client.v1.products.update(product.id, {"tax_details": {"performance_location": "tl_1"}})
    assert plain(placed)["tax_details"] == {"performance_location": "tl_1", "tax_code": "txcd_10103000"}
    cleared = client.v1.products.update(product.id, {"tax_details": ""})
    assert (cleared.tax_code, plain(cleared)["tax_details"]) == (None, None)


def test_previous_attributes_of_a_hash_are_the_keys_that_changed(client: stripe.StripeClient) -> None:
    product = client.v1.products.create({"name": "A", "metadata": {"seed": "1", "went": "2"}})
    client.v1.products.update(product.id, {"description": "d", "metadata": {"a": "1", "went": ""}})
    event = last(client, "product.updated")
    assert event["data"]["object"]["metadata"] == {"a": "1", "seed": "1"}
    assert event["data"]["previous_attributes"] == {"description": None, "metadata": {"a": None, "went": "2"}}


def test_what_is_deleted_is_told_of_as_over(client: stripe.StripeClient) -> None:
    client.v1.products.delete(client.v1.products.create({"name": "A"}).id)
    assert last(client, "product.deleted")["data"]["object"]["active"] is False
    client.v1.coupons.delete(client.v1.coupons.create({"percent_off": 10}).id)
    assert last(client, "coupon.deleted")["data"]["object"]["valid"] is False


def test_the_event_of_a_product_names_the_default_price_made_with_it(client: stripe.StripeClient) -> None:
    product = client.v1.products.create({"name": "A", "default_price_data": {"currency": "usd", "unit_amount": 1500}})
    events = plain(client.v1.events.list({"limit": 2}))["data"]
    assert [event["type"] for event in events] == ["price.created", "product.created"]
    assert events[1]["data"]["object"]["default_price"] == events[0]["data"]["object"]["id"] == product.default_price


# -- customers: 06_customers_payment_methods, probe_invoice_prefix -----------------------------------------------------


def test_a_customer_names_the_account_that_it_has_not(client: stripe.StripeClient) -> None:
    assert plain(client.v1.customers.create({}))["customer_account"] is None


def test_an_invoice_prefix_is_kept_by_who_has_it(client: stripe.StripeClient) -> None:
    holder = client.v1.customers.create({"invoice_prefix": "P626092001"})
    assert client.v1.customers.update(holder.id, {"invoice_prefix": "P626092001"}).invoice_prefix == "P626092001"


@pytest.mark.parametrize(
    ("card", "code", "reason"),
    [
        ("pm_card_visa_chargeDeclined", "card_declined", "generic_decline"),
        ("pm_card_chargeDeclined", "card_declined", "generic_decline"),
        # Stripe's page about testing.
        ("pm_card_chargeDeclinedExpiredCard", "expired_card", None),
        ("pm_card_chargeDeclinedFraudulent", "card_declined", "fraudulent"),
        ("pm_card_visa_chargeDeclinedInsufficientFunds", "card_declined", "insufficient_funds"),
        ("pm_card_visa_chargeDeclinedLostCard", "card_declined", "lost_card"),
        ("pm_card_visa_chargeDeclinedStolenCard", "card_declined", "stolen_card"),
        ("pm_card_visa_chargeDeclinedVelocityLimitExceeded", "card_declined", "card_velocity_exceeded"),
    ],
)
def test_a_card_that_is_declined_cannot_be_attached(
    client: stripe.StripeClient, card: str, code: str, reason: str | None
) -> None:
    error = refusal(lambda: client.v1.customers.create({"payment_method": card}))
    assert (error.http_status, error.code) == (402, code)
    assert error.json_body["error"].get("decline_code") == reason
    assert client.v1.customers.list().data == []


# -- invoice items and invoices: 13_invoices, 01_proration_half_cent ---------------------------------------------------


@pytest.fixture
def world(client: stripe.StripeClient) -> World:
    return World(client)


@pytest.fixture
def license(world: World) -> str:
    return world.price("License", "1000")


def charge(world: World, amount: int, description: str) -> stripe.InvoiceItem:
    return world.v1.invoice_items.create(
        {"customer": world.customer.id, "amount": amount, "currency": "usd", "description": description}
    )


def test_only_what_no_discount_touches_has_a_net_amount(world: World, license: str) -> None:
    setup = plain(charge(world, 2000, "Setup"))
    assert "net_amount" not in setup
    assert setup["frozen_fields"] == []
    subscription = world.subscribe(license)
    item = subscription["items"].data[0].id
    world.change(subscription.id, {"id": item, "quantity": 3})
    credit, debit, _ = plain(world.v1.invoice_items.list({"customer": world.customer.id}))["data"]
    for proration in (credit, debit):
        assert proration["net_amount"] == proration["amount"]
        assert proration["frozen_fields"] == ["pricing", "quantity", "discounts"]
        assert set(proration["proration_details"]) == {"credited_items", "discount_amounts"}
        assert proration["pricing"]["unit_amount_decimal"] is None


def credits(world: World) -> list[Any]:
    """What the credits that wait name, the newest first."""
    waiting = plain(world.v1.invoice_items.list({"customer": world.customer.id, "pending": True}))["data"]
    return [item["proration_details"]["credited_items"] for item in waiting if item["amount"] < 0]


def test_a_credit_names_the_lines_that_it_credits(world: World, license: str) -> None:
    subscription = world.subscribe(license)
    item = subscription["items"].data[0].id
    first = world.invoices()[-1]
    on_first = {"invoice": first.id, "invoice_line_items": [first.lines.data[0].id]}
    world.go("2026-01-11")
    world.change(subscription.id, {"id": item, "quantity": 3})
    assert credits(world) == [{"type": "invoice_line_items", "invoice_line_item_details": on_first}]
    debit = world.v1.invoice_items.list({"customer": world.customer.id}).data[1]
    world.go("2026-01-21")
    # The rest of the first fee has been credited; what is debited since waits still.
    world.change(subscription.id, {"id": item, "quantity": 2}, proration_behavior="always_invoice")
    second = plain(world.invoices()[-1])["lines"]["data"]
    named = [line["parent"]["subscription_item_details"]["proration_details"]["credited_items"] for line in second]
    assert [line["amount"] < 0 for line in second] == [True, False, True, False]
    assert named == [None, None, on_first, None]
    later = plain(world.v1.invoice_items.list({"customer": world.customer.id}))["data"][0]
    assert later["proration_details"]["credited_items"] == {"type": "invoice_item", "invoice_item": debit.id}
    world.go("2026-01-25")
    world.change(subscription.id, {"id": item, "quantity": 1})
    last = second[1]
    assert credits(world) == [
        {
            "type": "invoice_line_items",
            "invoice_line_item_details": {"invoice": last["invoice"], "invoice_line_items": [last["id"]]},
        }
    ]


def test_a_credit_of_classic_billing_names_nothing(world: World, license: str) -> None:
    subscription = world.subscribe(license, billing_mode={"type": "classic"})
    world.go("2026-01-11")
    world.change(subscription.id, {"id": subscription["items"].data[0].id, "quantity": 3})
    assert credits(world) == [None]


# Recorded (probe_proration) with a date ahead; one that has passed is the same.
@pytest.mark.parametrize("day", ["2026-01-06", "2026-01-21"])
def test_a_proration_date_is_not_when_an_invoice_item_is_made(world: World, license: str, day: str) -> None:
    subscription = world.subscribe(license)
    world.go("2026-01-11")
    world.change(subscription.id, {"id": subscription["items"].data[0].id, "quantity": 2}, proration_date=at(day))
    waiting = plain(world.v1.invoice_items.list({"customer": world.customer.id}))["data"]
    assert [(item["date"], item["period"]["start"]) for item in waiting] == [(at("2026-01-11"), at(day))] * 2


def test_an_invoice_takes_up_what_waits_the_newest_first(world: World) -> None:
    world.subscribe(world.price("License", "10000"))
    charge(world, 2000, "Setup")
    charge(world, 1500, "Add-on")
    world.go("2026-02-01T00:30:00")
    invoice = world.invoices()[-1]
    assert lines(invoice)[:2] == [("Add-on", 1500), ("Setup", 2000)]
    assert invoice.webhooks_delivered_at == invoice.created
    preview = world.v1.invoices.create_preview(
        {"customer": world.customer.id, "invoice_items": [{"amount": 100, "currency": "usd"}]}
    )
    assert preview.webhooks_delivered_at is None


# -- subscriptions: 12_subscriptions -----------------------------------------------------------------------------------


def test_a_subscription_still_has_a_plan_and_a_quantity(world: World, license: str) -> None:
    made = plain(world.subscribe((license, 2)))
    item = made["items"]["data"][0]
    price = item["price"]
    assert item["current_trial"] is None
    assert item["plan"] == made["plan"]
    assert made["plan"] == {
        "id": license,
        "object": "plan",
        "active": True,
        "amount": 1000,
        "amount_decimal": Decimal(1000),
        "billing_scheme": "per_unit",
        "created": price["created"],
        "currency": "usd",
        "interval": "month",
        "interval_count": 1,
        "livemode": False,
        "metadata": {},
        "meter": None,
        "nickname": None,
        "product": price["product"],
        "tiers_mode": None,
        "transform_usage": None,
        "trial_period_days": None,
        "usage_type": "licensed",
    }
    assert (made["quantity"], made["items"]["total_count"]) == (2, 1)


def test_the_plan_of_usage_has_a_meter_and_no_quantity(world: World) -> None:
    meter = world.meter("tokens")
    tiers = world.tiered((1000, "0", 900), (None, "3.6", None))
    made = plain(world.subscribe(world.usage_price("Usage", meter, **tiers)))
    plan = made["plan"]
    assert (plan["usage_type"], plan["meter"], plan["tiers_mode"], plan["amount"]) == (
        "metered",
        meter,
        "graduated",
        None,
    )
    assert "quantity" not in made


def test_several_items_are_counted_and_have_no_plan_together(world: World, license: str) -> None:
    made = plain(world.subscribe((license, 2), world.price("Seat", "500")))
    assert (made["plan"], made["quantity"], made["items"]["total_count"]) == (None, 2, 2)
    invoice = world.invoices()[-1]
    assert plain(invoice)["lines"]["total_count"] == 2


PAUSE: Any = {"end_behavior": {"missing_payment_method": "pause"}}


def test_of_a_trial_that_is_paused_before_its_end_nothing_is_left_ahead(world: World, license: str) -> None:
    world.customer = world.new_customer(invoice_settings={})
    subscription = world.subscribe(license, trial_end=at("2026-04-01"), trial_settings=PAUSE)
    first = subscription.latest_invoice
    world.go("2026-01-10")
    paused = world.change(subscription.id, trial_end="now")
    item = paused["items"].data[0]
    now = at("2026-01-10")
    assert (paused.status, paused.trial_end, paused.billing_cycle_anchor) == ("paused", now, now)
    assert (item.current_period_start, item.current_period_end) == (at("2026-01-01"), now)
    assert paused.latest_invoice == first


def test_a_bank_that_wants_to_see_the_customer_leaves_a_subscription_incomplete(world: World, license: str) -> None:
    watched = "pm_card_threeDSecure2Required"
    subscription = world.subscribe(license, default_payment_method=watched)
    assert subscription.status == "incomplete"
    error = refusal(
        lambda: world.subscribe(license, default_payment_method=watched, payment_behavior="error_if_incomplete")
    )
    assert (error.http_status, error.code) == (402, "subscription_payment_intent_requires_action")
    assert world.v1.subscriptions.list({"customer": world.customer.id, "status": "all"}).data[0].id == subscription.id
    unpaid = refusal(lambda: world.v1.invoices.pay(world.invoices()[-1].id))
    assert (unpaid.http_status, unpaid.code) == (402, "invoice_payment_intent_requires_action")


# -- events ------------------------------------------------------------------------------------------------------------


def test_what_is_paid_is_told_of_twice_and_what_is_paid_elsewhere_once(world: World, license: str) -> None:
    """https://docs.stripe.com/api/events/types: `invoice.payment_succeeded` is for attempts, `invoice.paid` for all."""
    world.subscribe(license)
    paid = [event.type for event in world.v1.events.list({"type": "invoice.pa*"}).data]
    assert paid == ["invoice.payment_succeeded", "invoice.paid"]
    sent = world.subscribe(license, collection_method="send_invoice", days_until_due=7)
    world.v1.invoices.pay(str(sent.latest_invoice), {"paid_out_of_band": True})
    assert [event.type for event in world.v1.events.list({"type": "invoice.pa*"}).data] == ["invoice.paid", *paid]


def test_every_event_is_of_a_type_that_stripe_has() -> None:
    """A program subscribes to types by name: what Stripe's client does not list, Stripe does not send."""
    listed = set(re.findall(r"'([a-z_.]+)'", str(WebhookEndpointCreateParams.__annotations__["enabled_events"])))
    room = Path(sandbox.__file__).parent
    told = {
        type
        for source in room.rglob("*.py")
        for type in re.findall(r'\.event\(\s*"([a-z_.]+)"', source.read_text(encoding="utf-8"))
    }
    assert len(told) > 20
    assert told <= listed
