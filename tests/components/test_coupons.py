"""Coupons and promotion codes: what they take off is said, what was given is kept, and nobody else's is touched."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

import pytest
from pulumi.output import UNKNOWN

from components.account import StripeRefusal
from components.program import program
from components.providers.coupon import CouponProvider, takes_off
from components.providers.lifecycle import ProviderError
from components.providers.promotion_code import PromotionCodeProvider
from components.providers.run import run_of
from components.providers.state import StackState
from components.providers.subscription import SubscriptionProvider
from components.resources import Coupon, PromotionCode
from tests.components.world import PULUMI, State, World, invoiced
from tests.mocked import event_loop
from tests.stack import Stack

LOYALTY = {"id": "loyalty", "percent_off": 20, "duration": "repeating", "duration_in_months": 3}


def coupon(world: World, **more: Any) -> State:
    return world.up(CouponProvider, "loyalty", {**LOYALTY, **more})


def code(world: World, state: State | None = None, name: str = "summer", **more: Any) -> State:
    declared = {"code": "SUMMER", "promotion": {"type": "coupon", "coupon": "loyalty"}, **more}
    return world.up(PromotionCodeProvider, name, declared, state)


def subscribed(world: World, **more: Any) -> dict[str, Any]:
    fee = world.price(world.product().id)
    return {**invoiced(world.customer().id), "items": {"license": {"price": fee.id}}, **more}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"percent_off": 20}, "20 % off one invoice"),
        ({"percent_off": "12.5", "duration": "forever"}, "12.5 % off forever"),
        ({"percent_off": 20, "duration": "repeating", "duration_in_months": 1}, "20 % off for 1 month"),
        ({"amount_off": 500, "currency": "usd"}, "5.00 USD off one invoice"),
        (
            {"amount_off": 500, "currency": "usd", "currency_options": {"jpy": {"amount_off": 700}}},
            "5.00 USD or 700 JPY off one invoice",
        ),
        ({"percent_off": 20, "applies_to": {"products": ["pro", "max"]}}, "20 % off one invoice, of pro and max only"),
        (
            {"percent_off": 20, "applies_to": {"products": [UNKNOWN]}},
            "20 % off one invoice, of some products only",
        ),
        ({"amount_off": UNKNOWN, "currency": "usd"}, "an amount off one invoice"),
        ({"percent_off": 20, "duration": UNKNOWN}, "20 % off for some time"),
    ],
)
def test_what_a_coupon_takes_off_is_said_in_money(arguments: dict[str, Any], words: str) -> None:
    assert takes_off(arguments) == words


def test_a_preview_says_what_a_new_coupon_takes_off_and_who_can_redeem_a_code(world: World, said: set[str]) -> None:
    coupon(world)
    until = int(time.time()) + 86_400
    process = world.process()
    process.provider(CouponProvider).diff("loyalty", {**LOYALTY, "owner": "o"}, {**LOYALTY, "owner": "o"})
    declared = {
        "code": "SUMMER",
        "promotion": {"type": "coupon", "coupon": "loyalty"},
        "max_redemptions": 100,
        "expires_at": until,
        "restrictions": {"first_time_transaction": True},
    }
    world.up(PromotionCodeProvider, "summer", declared, process=process)
    limits = "before anything was paid, at most 100 times, until " + time.strftime("%Y-%m-%d", time.gmtime(until))
    assert said == {
        "Coupon 'loyalty': gives 20 % off for 3 months to whoever has it",
        f"PromotionCode 'summer': anybody who enters SUMMER gets 20 % off for 3 months, {limits}",
    }


def test_what_a_chosen_id_takes_off_cannot_be_changed_under_it(world: World) -> None:
    state = coupon(world)
    with pytest.raises(ProviderError, match=r"percent_off cannot be changed under the same id.*keep 20 % off for 3"):
        world.up(CouponProvider, "loyalty", {**LOYALTY, "percent_off": 30}, state)


def test_another_coupon_leaves_what_was_given_as_it_was(world: World, said: set[str]) -> None:
    arguments = {name: value for name, value in LOYALTY.items() if name != "id"}
    old = world.up(CouponProvider, "loyalty", arguments)
    live = world.up(SubscriptionProvider, "acme", subscribed(world, discounts=[{"coupon": old.id}]))
    new = world.up(CouponProvider, "loyalty", {**arguments, "percent_off": 30}, old)
    assert new.id != old.id
    with pytest.raises(StripeRefusal, match="No such coupon"):
        world.stripe("get", f"/v1/coupons/{old.id}")
    [discount] = world.stripe("get", f"/v1/subscriptions/{live.id}", expand=["discounts"])["discounts"]
    assert discount["source"]["coupon"] == old.id
    assert any(
        "20 % off for 3 months => 30 % off for 3 months; customers who have this one keep" in line for line in said
    )
    assert f"Coupon 'loyalty' ({old.id}): deleted; customers who have it keep 20 % off for 3 months" in said


def test_a_currency_that_leaves_a_coupon_stays_and_that_is_said(world: World, said: set[str]) -> None:
    declared = {
        "amount_off": 500,
        "currency": "usd",
        "currency_options": {"eur": {"amount_off": 450}, "gbp": {"amount_off": 400}},
    }
    state = world.up(CouponProvider, "five", declared)
    world.up(CouponProvider, "five", {**declared, "currency_options": {"eur": {"amount_off": 450}}}, state)
    assert any("currency_options.gbp keeps its value in Stripe" in line for line in said)


def test_a_subscription_that_is_given_a_coupon_of_the_program_says_what_that_takes_off(
    world: World, said: set[str]
) -> None:
    arguments, loyalty = subscribed(world), coupon(world)
    live = world.up(SubscriptionProvider, "acme", arguments)
    process = world.process()
    unchanged = {**loyalty.inputs, **PULUMI}
    process.provider(CouponProvider).diff(loyalty.id, {**loyalty.outs, **PULUMI}, unchanged)
    said.clear()
    given = world.up(SubscriptionProvider, "acme", {**arguments, "discounts": [{"coupon": "loyalty"}]}, live, process)
    assert said == {f"Subscription 'acme' ({live.id}): is given 20 % off for 3 months (Coupon 'loyalty')"}
    said.clear()
    world.up(SubscriptionProvider, "acme", arguments, given, process)
    assert said == {f"Subscription 'acme' ({live.id}): no longer has 20 % off for 3 months (Coupon 'loyalty')"}


def test_a_coupon_that_another_resource_of_the_state_holds_is_not_deleted(world: World) -> None:
    state = coupon(world)
    process = world.process()
    run_of(process.account).read_state = lambda stack: StackState(Counter({("Coupon", state.id): 2}))
    world.destroy(CouponProvider, state, process)
    assert world.stripe("get", f"/v1/coupons/{state.id}")["valid"]


@pytest.mark.parametrize("made_by", [None, "project/prod/loyalty"])
def test_a_chosen_id_that_is_somebody_elses_is_refused(world: World, made_by: str | None) -> None:
    metadata = {"pulumi": made_by} if made_by else {}
    world.stripe("post", "/v1/coupons", id="loyalty", percent_off=20, metadata=metadata)
    who = "project/prod/loyalty created" if made_by else "no program created"
    with pytest.raises(ProviderError, match=f"the id 'loyalty' belongs to a coupon that {who}; choose another id, or"):
        coupon(world)
    assert coupon_of(world, "loyalty")["percent_off"] == 20


def coupon_of(world: World, id_: str) -> dict[str, Any]:
    return world.stripe("get", f"/v1/coupons/{id_}")


def test_a_chosen_id_costs_no_list_of_all_coupons(world: World) -> None:
    coupon(world)
    assert [call for call in world.calls() if "coupons" in call] == ["POST /v1/coupons"]


# -- promotion codes ------------------------------------------------------------------------------------------------


def test_a_code_is_made_again_with_other_limits_and_redeemable_all_the_time(world: World, said: set[str]) -> None:
    coupon(world)
    old = code(world, max_redemptions=10)
    new = code(world, old, max_redemptions=20)
    found = world.stripe("get", "/v1/promotion_codes", code="summer")["data"]
    assert [(each["id"], each["active"], each["max_redemptions"]) for each in found] == [
        (new.id, True, 20),
        (old.id, False, 10),
    ]
    assert any(
        "is deactivated and another one is created under the same code, redeemed 0 times" in line for line in said
    )


def test_a_code_whose_successor_is_refused_is_active_again(world: World, said: set[str]) -> None:
    coupon(world)
    old = code(world)
    with pytest.raises(StripeRefusal, match="No such coupon"):
        code(world, old, promotion={"type": "coupon", "coupon": "nothing"})
    assert world.stripe("get", f"/v1/promotion_codes/{old.id}")["active"]
    assert any(f"({old.id}): is active again, since the new one was refused" in line for line in said)


def test_a_code_that_is_somebody_elses_is_refused_and_one_of_another_customer_is_not(world: World) -> None:
    coupon(world)
    theirs = {"code": "summer", "promotion": {"type": "coupon", "coupon": "loyalty"}}
    other, acme = world.customer("other").id, world.customer("acme").id
    world.stripe("post", "/v1/promotion_codes", **theirs, customer=other)
    of_acme = code(world, name="of acme", customer=acme)
    with pytest.raises(ProviderError, match="the promotion code 'SUMMER' differs in customer, which Stripe cannot"):
        code(world)
    with pytest.raises(ProviderError, match="the promotion code 'SUMMER' differs in max_redemptions"):
        code(world, name="renamed", customer=acme, max_redemptions=3)
    with pytest.raises(ProviderError, match="the code 'SUMMER' belongs to a promotion code that no program created"):
        code(world, name="of other", customer=other)
    assert world.stripe("get", f"/v1/promotion_codes/{of_acme.id}")["active"]


@pytest.mark.parametrize(
    "over",
    [
        {"expires_at": 1_000},
        {"max_redemptions": 3, "times_redeemed": 3},
        {"promotion": {"type": "coupon", "coupon": None}},
        {"promotion": {"type": "coupon", "coupon": {"id": "loyalty", "valid": False}}},
    ],
)
def test_a_code_that_is_over_by_itself_is_no_drift(world: World, over: dict[str, Any]) -> None:
    """To activate it again, as drift would be corrected, is what Stripe refuses."""
    coupon(world)
    state = code(world)
    reconciler = world.process().provider(PromotionCodeProvider).reconciler
    there = reconciler.inventory.fetch(state.id)
    assert there is not None
    assert reconciler.as_is(state.inputs, {**there, "active": False})["active"] is False
    assert reconciler.as_is(state.inputs, {**there, "active": False, **over}) == state.inputs


def test_a_code_of_a_deleted_coupon_is_no_drift(world: World) -> None:
    loyalty = coupon(world)
    state = code(world)
    world.destroy(CouponProvider, loyalty)
    assert world.refresh(PromotionCodeProvider, state) == state


def test_switching_a_code_off_and_on_is_said(world: World, said: set[str]) -> None:
    coupon(world)
    state = code(world)
    off = code(world, state, active=False)
    on = code(world, off)
    assert on.id == off.id == state.id
    assert any("can no longer be redeemed; existing discounts continue" in line for line in said)
    assert any(
        "can be redeemed again: anybody who enters SUMMER gets what its coupon takes off" in line for line in said
    )


# -- what is wrong is said before anything is applied -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({}, "percent_off: is required, or amount_off with its currency"),
        (
            {"percent_off": 20, "amount_off": 5},
            "percent_off: cannot be combined with amount_off: a coupon takes off one or the other",
        ),
        ({"amount_off": 5}, "currency: is required with amount_off"),
        ({"percent_off": 5, "currency": "usd"}, "currency: needs amount_off: a percentage has no currency"),
        ({"percent_off": 0}, "percent_off: must be above 0 and at most 100"),
        ({"percent_off": "100.01"}, "percent_off: must be above 0 and at most 100"),
        ({"amount_off": 0, "currency": "usd"}, "amount_off: must be at least 1"),
        (
            {"amount_off": 5, "currency": "usd", "currency_options": {"usd": {"amount_off": 6}}},
            "currency_options.usd: is the coupon's own currency; its amount is amount_off",
        ),
        ({"percent_off": 5, "duration": "repeating"}, 'duration_in_months: is required with duration "repeating"'),
        (
            {"percent_off": 5, "duration_in_months": 3},
            'duration: must be "repeating", since duration_in_months is declared',
        ),
        ({"percent_off": 5, "name": "x" * 41}, "name: is 41 characters long; Stripe takes at most 40"),
        ({"percent_off": 5, "id": "half off"}, "id: can only have letters, digits and . _ : -"),
    ],
)
def test_a_coupon_that_cannot_be_is_refused_in_the_preview(
    world: World, arguments: dict[str, Any], sentence: str
) -> None:
    checked = world.process().provider(CouponProvider).check({}, {**arguments, "owner": "project/dev/c"})
    assert [failure.reason for failure in checked.failures] == [sentence]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"code": None}, "code: is required: the word that customers enter"),
        ({"code": "10 % off"}, "code: can only have letters, digits, - and _"),
        ({"promotion": {"type": "coupon"}}, "promotion.coupon: is required: the id of a coupon"),
        (
            {"restrictions": {"minimum_amount": 5}},
            "restrictions.minimum_amount_currency: is required with minimum_amount",
        ),
        (
            {"restrictions": {"currency_options": {"eur": {"minimum_amount": 5}}}},
            "restrictions.minimum_amount: is required with currency_options",
        ),
        (
            {
                "restrictions": {
                    "minimum_amount": 5,
                    "minimum_amount_currency": "eur",
                    "currency_options": {"eur": {"minimum_amount": 5}},
                }
            },
            "restrictions.currency_options.eur: is the code's own currency; its amount is minimum_amount",
        ),
        (
            {"customer": "cus_1", "customer_account": "acct_1"},
            "customer_account: cannot be combined with customer: a code is for one payer, or for everybody",
        ),
    ],
)
def test_a_promotion_code_that_cannot_be_is_refused_in_the_preview(
    world: World, arguments: dict[str, Any], sentence: str
) -> None:
    declared = {"code": "SUMMER", "promotion": {"type": "coupon", "coupon": "c"}, **arguments}
    checked = world.process().provider(PromotionCodeProvider).check({}, {**declared, "owner": "project/dev/c"})
    assert [failure.reason for failure in checked.failures] == [sentence]


def test_what_leaves_the_program_says_what_it_leaves_behind(world: World, caplog: pytest.LogCaptureFixture) -> None:
    def first() -> None:
        with program():
            loyalty = Coupon("loyalty", percent_off=20, duration="repeating", duration_in_months=3)
            PromotionCode("summer", code="SUMMER", promotion={"type": "coupon", "coupon": loyalty.id})

    def second() -> None:
        with program():
            pass

    with event_loop():
        stack = Stack(world)
        stack.up(first)
        assert caplog.messages == []
        stack.preview(second)
    gone, given = "is no longer in the program: ", "customers who have it keep 20 % off for 3 months"
    over = "SUMMER can no longer be redeemed; existing discounts continue"
    assert caplog.messages == [
        f"Coupon 'loyalty' {gone}deleting it is permanent; {given}, and its promotion codes are no longer valid",
        f"PromotionCode 'summer' {gone}{over}",
    ]
