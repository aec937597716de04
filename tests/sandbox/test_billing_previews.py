"""Previews of what recurs, of a start before or after now, and for a customer who is somewhere else."""

from __future__ import annotations

from typing import Any

import pytest
import stripe

from .bills import World, at, lines, refusal


@pytest.fixture
def world(client: stripe.StripeClient) -> World:
    return World(client)


def preview(world: World, **params: Any) -> stripe.Invoice:
    given: Any = {"customer": world.customer.id, **params}
    return world.v1.invoices.create_preview(given)


def test_what_recurs_is_shown_without_discounts_and_what_is_owed_once(world: World) -> None:
    calls = world.usage_price("Calls", world.meter("calls"), unit_amount_decimal="2")
    license = world.price("License", "4900")
    coupon = world.v1.coupons.create({"percent_off": 15, "duration": "once"}).id
    asked: Any = {
        "subscription_details": {"items": [{"price": license, "quantity": 2}, {"price": calls}]},
        "invoice_items": [{"amount": 700, "currency": "usd"}],
        "discounts": [{"coupon": coupon}],
    }
    assert preview(world, **asked).total == 8_925  # (98.00 + 7.00) less 15 %
    recurring = preview(world, preview_mode="recurring", **asked)
    # 2 × 49.00, as in Stripe's example without the coupon and the items
    assert lines(recurring) == [("2 × License (at $49.00 / month)", 9_800), ("0 × Calls (at $0.02 / month)", 0)]
    assert recurring.total_discount_amounts == []


def test_what_recurs_of_a_subscription_is_a_whole_period_whatever_its_next_invoice_is(world: World) -> None:
    calls = world.usage_price("Calls", world.meter("calls"), unit_amount_decimal="2")
    subscription = world.subscribe((world.price("License", "3100"), 1), calls, billing_cycle_anchor=at("2026-01-16"))
    world.use("calls", 50)
    assert world.preview(subscription.id).total == 3_200
    item = subscription["items"].data[0].id
    recurring = preview(
        world,
        subscription=subscription.id,
        preview_mode="recurring",
        subscription_details={"items": [{"id": item, "quantity": 3}], "proration_behavior": "always_invoice"},
    )
    assert [amount for _, amount in lines(recurring)] == [9_300, 0]
    # nothing of it is kept
    assert world.v1.subscriptions.retrieve(subscription.id)["items"].data[0].quantity == 1


def test_invoice_items_alone_do_not_recur(world: World) -> None:
    owed: Any = [{"amount": 700, "currency": "usd"}]
    assert preview(world, invoice_items=owed).total == 700
    assert refusal(lambda: preview(world, invoice_items=owed, preview_mode="recurring")).code == "invoice_upcoming_none"


def test_a_start_can_lie_ahead_or_behind(world: World) -> None:
    world.go("2026-01-11")
    items = [{"price": world.price("License", "3100")}]
    ahead = preview(world, subscription_details={"items": items, "start_date": at("2026-02-01")})
    assert (ahead.total, ahead.lines.data[0].period.start) == (3_100, at("2026-02-01"))
    behind = preview(world, subscription_details={"items": items, "start_date": at("2025-12-11")})
    # the month before and the one that begins now
    assert [amount for _, amount in lines(behind)] == [3_100, 3_100]
    subscription = world.subscribe(world.price("Other", "100"))
    named: Any = {"subscription": subscription.id, "subscription_details": {"start_date": at("2026-02-01")}}
    assert refusal(lambda: preview(world, **named)).http_status == 501


def test_a_customer_can_be_shown_somewhere_else(world: World) -> None:
    subscription = world.subscribe(world.price("License", "3100"))
    details = {
        "address": {"country": "PE", "city": "Lima"},
        "shipping": {"name": "Alpaca.ai", "address": {"country": "PE"}},
        "tax_exempt": "exempt",
        "tax_ids": [{"type": "pe_ruc", "value": "12345678901"}],
    }
    shown = preview(world, subscription=subscription.id, customer_details=details)
    assert shown.customer_address is not None
    assert (shown.customer_address.city, shown.customer_tax_exempt) == ("Lima", "exempt")
    assert [each.to_dict() for each in shown.customer_tax_ids or ()] == details["tax_ids"]
    kept = world.v1.customers.retrieve(world.customer.id)
    assert (kept.address, kept.tax_exempt) == (None, "none")
    given: Any = {"customer_details": details, "subscription_details": {"items": [{"price": world.price("P", "1")}]}}
    assert refusal(lambda: world.v1.invoices.create_preview(given)).http_status == 501
