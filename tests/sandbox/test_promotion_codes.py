"""Promotion codes: made, found, changed; and what limits who redeems one, for what, how often and until when."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import stripe

from .bills import World, at, refusal


@pytest.fixture
def world(client: stripe.StripeClient) -> World:
    return World(client, "2026-04-01")


@pytest.fixture
def license(world: World) -> str:
    return world.price("License", "10000")


def coupon(world: World, **params: Any) -> str:
    given: Any = {"percent_off": 10, "duration": "forever", **params}
    return world.v1.coupons.create(given).id


def code(world: World, coupon_id: str, **params: Any) -> stripe.PromotionCode:
    given: Any = {"promotion": {"type": "coupon", "coupon": coupon_id}, **params}
    return world.v1.promotion_codes.create(given)


def redeem(world: World, promotion_code: stripe.PromotionCode, price: str, **params: Any) -> stripe.Subscription:
    return world.subscribe(price, discounts=[{"promotion_code": promotion_code.id}], **params)


def test_a_code_is_made_found_in_any_case_changed_and_told_of(world: World) -> None:
    tenth = coupon(world)
    made = code(world, tenth, code="Spring-26", metadata={"a": "b"})
    assert (made.code, made.active, made.times_redeemed, made.promotion.coupon) == ("Spring-26", True, 0, tenth)
    assert made.restrictions.to_dict() == {
        "first_time_transaction": False,
        "minimum_amount": None,
        "minimum_amount_currency": None,
    }
    other = code(world, coupon(world), customer=world.customer.id)
    assert (len(other.code), other.code.isalnum(), other.code.upper()) == (8, True, other.code)
    listed: list[tuple[dict[str, Any], list[str]]] = [
        ({}, [other.id, made.id]),
        ({"code": "SPRING-26"}, [made.id]),
        ({"coupon": tenth}, [made.id]),
        ({"customer": world.customer.id}, [other.id]),
        ({"active": False}, []),
    ]
    for given, ids in listed:
        filters: Any = given
        assert [found.id for found in world.v1.promotion_codes.list(filters).data] == ids
    changed = world.v1.promotion_codes.update(made.id, {"active": False, "metadata": {"a": "", "c": "d"}})
    assert changed.metadata is not None
    assert (changed.active, changed.metadata.to_dict()) == (False, {"c": "d"})
    assert [found.id for found in world.v1.promotion_codes.list({"active": False}).data] == [made.id]
    types = [event.type for event in world.v1.events.list({"limit": 5}).data]
    assert types[0] == "promotion_code.updated"
    assert "promotion_code.created" in types
    shown = world.v1.promotion_codes.retrieve(made.id, {"expand": ["promotion.coupon", "customer"]})
    assert isinstance(shown.promotion.coupon, stripe.Coupon)


def test_what_is_redeemed_names_the_code_and_counts_for_it_and_its_coupon(world: World, license: str) -> None:
    tenth = coupon(world)
    promotion = code(world, tenth)
    subscription = redeem(world, promotion, license, expand=["discounts.promotion_code"])
    [discount] = subscription.discounts
    assert not isinstance(discount, str)
    assert isinstance(discount.promotion_code, stripe.PromotionCode)
    assert (discount.promotion_code.id, discount.source.coupon) == (promotion.id, tenth)
    assert world.invoices()[-1].total == 9_000
    # Named again it is the same discount, not another.
    world.change(subscription.id, discounts=[{"promotion_code": promotion.id}])
    assert world.v1.promotion_codes.retrieve(promotion.id).times_redeemed == 1
    assert world.v1.coupons.retrieve(tenth).times_redeemed == 1


def test_items_and_invoice_items_redeem_codes(world: World, license: str) -> None:
    promotion = code(world, coupon(world, amount_off=100, currency="usd", percent_off=None))
    given = [{"promotion_code": promotion.id}]
    subscription = world.subscribe({"price": license, "discounts": given})
    params: Any = {"customer": world.customer.id, "amount": 1_000, "currency": "usd", "discounts": given}
    world.v1.invoice_items.create(params)
    # 1.00 off the item of the subscription, 1.00 off the invoice item
    assert world.invoices()[0].total == 9_900
    assert world.preview(subscription.id).total == 900 + 9_900
    assert world.v1.promotion_codes.retrieve(promotion.id).times_redeemed == 2


def test_a_code_must_be_of_a_coupon_in_letters_and_not_taken(world: World) -> None:
    tenth = coupon(world)
    bad: Any
    bad = {"promotion": {"type": "coupon"}}
    assert refusal(lambda: world.v1.promotion_codes.create(bad)).param == "promotion.coupon"
    unknown = refusal(lambda: code(world, "nope"))
    assert (unknown.code, unknown.param) == ("resource_missing", "promotion[coupon]")
    assert refusal(lambda: code(world, tenth, code="no spaces")).param == "code"
    first = code(world, tenth, code="ONE")
    assert "already exists" in str(refusal(lambda: code(world, tenth, code="one")).user_message)
    assert "already exists" in str(refusal(lambda: code(world, tenth, code="one", customer=world.customer.id)))
    world.v1.promotion_codes.update(first.id, {"active": False})
    again = code(world, tenth, code="one", customer=world.customer.id)
    code(world, tenth, code="one", customer=world.new_customer().id)
    assert again.active
    assert "already exists" in str(refusal(lambda: world.v1.promotion_codes.update(first.id, {"active": True})))


def test_limits_stay_within_the_coupons(world: World) -> None:
    until = at("2099-01-01")
    assert refusal(lambda: code(world, coupon(world), expires_at=1)).param == "expires_at"
    assert "five years" in str(refusal(lambda: code(world, coupon(world), expires_at=until)).user_message)
    soon = world.v1.coupons.retrieve(coupon(world)).created + 86_400
    limited = coupon(world, redeem_by=soon, max_redemptions=3)
    assert code(world, limited).expires_at == soon
    assert refusal(lambda: code(world, limited, expires_at=soon + 1)).param == "expires_at"
    assert refusal(lambda: code(world, limited, max_redemptions=4)).param == "max_redemptions"
    half: Any = {"minimum_amount": 100}
    error = refusal(lambda: code(world, coupon(world), restrictions=half))
    assert error.param == "restrictions[minimum_amount_currency]"


def test_codes_and_coupons_run_out_for_every_way_of_redeeming(world: World, license: str) -> None:
    tenth = coupon(world, max_redemptions=2)
    promotion = code(world, tenth, max_redemptions=1)
    redeem(world, promotion, license)
    used = world.v1.promotion_codes.retrieve(promotion.id)
    assert (used.active, used.times_redeemed) == (False, 1)
    assert refusal(lambda: redeem(world, promotion, license)).param == "discounts[0][promotion_code]"
    assert refusal(lambda: world.v1.promotion_codes.update(promotion.id, {"active": True})).param == "active"
    other = code(world, tenth)
    redeem(world, other, license)
    # The coupon has run out: so have its codes.
    assert not world.v1.promotion_codes.retrieve(other.id).active
    assert not world.v1.coupons.retrieve(tenth).valid
    for given in ({"coupon": tenth}, {"promotion_code": other.id}):
        bad: Any = {"customer": world.customer.id, "amount": 1, "currency": "usd", "discounts": [given]}
        assert refusal(partial(world.v1.invoice_items.create, bad)).http_status == 400


def test_a_code_of_another_customer_an_inactive_and_an_expired_one_are_refused(world: World, license: str) -> None:
    foreign = code(world, coupon(world), customer=world.new_customer().id)
    inactive = code(world, coupon(world), active=False)
    gone = coupon(world)
    orphan = code(world, gone)
    world.v1.coupons.delete(gone)
    for promotion in (foreign, inactive, orphan):
        error = refusal(partial(redeem, world, promotion, license))
        assert (error.http_status, error.param) == (400, "discounts[0][promotion_code]")
    own = code(world, coupon(world), customer=world.customer.id)
    assert redeem(world, own, license).discounts


def test_a_code_for_first_orders_is_for_customers_without_a_past(world: World, license: str) -> None:
    first = code(world, coupon(world), restrictions={"first_time_transaction": True})
    redeem(world, first, license, trial_period_days=7)
    error = refusal(lambda: redeem(world, first, license))
    assert (error.param, "prior transactions" in str(error.user_message)) == ("discounts[0][promotion_code]", True)


def test_a_minimum_amount_is_held_against_the_first_payment(world: World, license: str) -> None:
    limits = {
        "minimum_amount": 20_000,
        "minimum_amount_currency": "usd",
        "currency_options": {"eur": {"minimum_amount": 30_000}},
    }
    promotion = code(world, coupon(world), restrictions=limits)
    assert refusal(lambda: redeem(world, promotion, license)).param == "discounts[0][promotion_code]"
    # In a trial nothing is paid at first.
    assert refusal(lambda: redeem(world, promotion, license, trial_period_days=7)).http_status == 400
    given: Any = {
        "customer": world.customer.id,
        "discounts": [{"promotion_code": promotion.id}],
        "subscription_details": {"items": [{"price": license, "quantity": 2}]},
    }
    assert world.v1.invoices.create_preview(given).total == 18_000
    given["subscription_details"]["items"][0]["quantity"] = 1
    assert refusal(lambda: world.v1.invoices.create_preview(given)).http_status == 400
    discounts = [{"promotion_code": promotion.id}]
    subscription = world.subscribe((license, 2), discounts=discounts)
    assert world.invoices()[-1].total == 18_000
    # Kept, it is not judged again; new, it is for a new subscription only, and never for an item.
    assert world.change(subscription.id, discounts=discounts).discounts == subscription.discounts
    other = world.subscribe((license, 3))
    assert refusal(lambda: world.change(other.id, discounts=discounts)).http_status == 400
    item = {"price": world.price("Support", "90000"), "discounts": discounts}
    assert refusal(lambda: world.subscribe(item)).param == "items[0][discounts][0][promotion_code]"
    options: Any = {"restrictions": {"currency_options": {"gbp": {"minimum_amount": 5}}}}
    changed: Any = world.v1.promotion_codes.update(promotion.id, options).restrictions.currency_options
    assert set(changed) == {"eur", "gbp"}


def test_an_invoices_code_is_held_against_its_own_amount(world: World) -> None:
    limits = {"minimum_amount": 2_000, "minimum_amount_currency": "usd"}
    promotion = code(world, coupon(world), restrictions=limits)

    def shown(cents: int) -> stripe.Invoice:
        item: Any = {"amount": cents, "currency": "usd"}
        discounts: Any = [{"promotion_code": promotion.id}]
        return world.v1.invoices.create_preview(
            {"customer": world.customer.id, "invoice_items": [item], "discounts": discounts}
        )

    assert refusal(lambda: shown(1_999)).http_status == 400
    assert shown(2_000).total == 1_800


def test_a_coming_phase_takes_no_code_with_a_minimum_amount(world: World, license: str) -> None:
    limits = {"minimum_amount": 2_000, "minimum_amount_currency": "usd"}
    discounts = [{"promotion_code": code(world, coupon(world), restrictions=limits).id}]
    phase = {"items": [{"price": license}], "duration": {"interval": "month", "interval_count": 1}}
    given: Any = {
        "customer": world.customer.id,
        "start_date": "now",
        "phases": [phase, {**phase, "discounts": discounts}],
    }
    error = refusal(lambda: world.v1.subscription_schedules.create(given))
    assert error.param == "phases[1][discounts][0][promotion_code]"
    given["phases"] = [{**phase, "discounts": discounts}]
    world.v1.subscription_schedules.create(given)
    assert world.invoices()[-1].total == 9_000
