"""`price_changes="at_renewal"`: prices that move when the period ends, and everything that can happen until then.

Bills are read from the invoices of a customer on a test clock. `test_schedules.py` has what a schedule carries over.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from components.providers import schedules
from components.providers.lifecycle import ProviderError
from components.providers.price import PriceProvider
from components.providers.subscription import SubscriptionProvider
from tests.components.test_schedules import DAY, MONTH, START
from tests.components.world import PULUMI, Process, Recording, State, World, as_pulumi_sends, invoiced

AT_RENEWAL: dict[str, Any] = {"price_changes": "at_renewal"}
RENEWED = START + MONTH + 2 * DAY


class Acme:
    """A customer on a test clock, prices of the program, and a subscription of the program."""

    def __init__(self, world: World, **more: Any) -> None:
        self.world = world
        clock = world.stripe("post", "/v1/test_helpers/test_clocks", frozen_time=START)
        self.clock = str(clock["id"])
        self.customer = world.customer(test_clock=self.clock).id
        self.product, self.meter = world.product().id, world.meter().id
        self.old, self.new, self.newer = (self.price(name, amount) for name, amount in PRICES.items())
        self.usage, self.new_usage = (self.usage_price(f"usage-{amount}", amount) for amount in (2, 3))
        self.arguments: dict[str, Any] = {
            **invoiced(self.customer),
            "items": {"seats": {"price": self.old, "quantity": 3}},
            **more,
        }
        self.state = world.up(SubscriptionProvider, "acme", self.arguments)

    def price(self, name: str, amount: int, **more: Any) -> str:
        return self.world.price(self.product, name, unit_amount_decimal=str(amount), **more).id

    def usage_price(self, name: str, amount: int) -> str:
        recurring = {"interval": "month", "usage_type": "metered", "meter": self.meter}
        return self.price(name, amount, recurring=recurring)

    def up(self, items: dict[str, Any] | None = None, process: Process | None = None, **more: Any) -> State:
        """What the program declares from now on; None takes an argument out."""
        wanted = {**self.arguments, **({"items": items} if items else {}), **more}
        wanted = {name: value for name, value in wanted.items() if value is not None}
        self.state = self.world.up(SubscriptionProvider, "acme", wanted, self.state, process)
        self.arguments = wanted
        return self.state

    def move(self, price: str, quantity: int = 3, **more: Any) -> State:
        return self.up({"seats": {"price": price, "quantity": quantity}}, **{**AT_RENEWAL, **more})

    def refreshed(self) -> State:
        found = self.world.refresh(SubscriptionProvider, self.state)
        assert found is not None
        return found

    def remote(self) -> dict[str, Any]:
        return self.world.stripe("get", f"/v1/subscriptions/{self.state.id}")

    def schedules(self) -> list[dict[str, Any]]:
        return list(self.world.stripe("get", "/v1/subscription_schedules", customer=self.customer)["data"])

    def running(self) -> list[dict[str, Any]]:
        return [each for each in self.schedules() if each["status"] in schedules.RUNNING]

    def until(self, moment: int) -> None:
        path = f"/v1/test_helpers/test_clocks/{self.clock}"
        now = self.world.stripe("get", path)["frozen_time"]
        for step in [*range(now + MONTH, moment, MONTH), moment]:
            self.world.stripe("post", f"{path}/advance", frozen_time=step)

    def use(self, units: int) -> None:
        now = self.world.stripe("get", f"/v1/test_helpers/test_clocks/{self.clock}")["frozen_time"]
        payload = {"stripe_customer_id": self.customer, "value": str(units)}
        self.world.stripe("post", "/v1/billing/meter_events", event_name="tokens", timestamp=now, payload=payload)

    def bills(self) -> list[int]:
        listed = self.world.stripe("get", "/v1/invoices", customer=self.customer, limit=100)["data"]
        return [invoice["total"] for invoice in reversed(listed)]

    def prices(self) -> dict[str, tuple[str, Any]]:
        """What Stripe bills at this moment, by the program's keys."""
        return {
            item["metadata"]["pulumi"]: (item["price"]["id"], item.get("quantity"))
            for item in self.remote()["items"]["data"]
        }

    def preview(self, **more: Any) -> None:
        """What `pulumi preview` asks of the provider."""
        inputs = as_pulumi_sends({**self.arguments, **more, "owner": "project/dev/acme"})
        run = self.world.process().provider(SubscriptionProvider)
        run.diff(self.state.id, {**self.state.outs, **PULUMI}, {**inputs, **PULUMI})


PRICES = {"seats-10": 1000, "seats-15": 1500, "seats-20": 2000}


@pytest.fixture
def acme(world: World) -> Acme:
    return Acme(world)


def test_until_the_renewal_the_state_knows_what_is_billed_in_place_of_what_is_declared(acme: Acme) -> None:
    both = {"seats": {"price": acme.old, "quantity": 3}, "usage": {"price": acme.usage}}
    items = acme.up(both).outs["item_ids"]
    acme.up({**both, "seats": {"price": acme.new, "quantity": 3}}, **AT_RENEWAL)
    for state in (acme.state, acme.refreshed()):
        assert state.outs["billed_until_then"] == {"seats": {"price": acme.old, "quantity": 3}}
        assert state.outs["item_ids"] == items
        assert state.outs["moves_at"] == START + MONTH
    acme.until(RENEWED)
    moved = acme.refreshed().outs
    assert (moved["billed_until_then"], moved.get("moves_at")) == ({}, None)


def test_a_price_moves_at_the_renewal_and_nothing_is_paid_before(acme: Acme) -> None:
    acme.until(START + 10 * DAY)
    acme.world.forget_calls()
    acme.move(acme.new)
    posts = [each for each in acme.world.calls() if each.startswith("POST")]
    [schedule] = acme.running()
    path = "/v1/subscription_schedules"
    assert posts == [f"POST /v1/subscriptions/{acme.state.id}", f"POST {path}", f"POST {path}/{schedule['id']}"]
    assert acme.prices() == {"seats": (acme.old, 3)}
    acme.until(RENEWED)
    assert acme.prices() == {"seats": (acme.new, 3)}
    assert acme.bills() == [3000, 4500]
    # Nothing is left of it.
    assert acme.running() == []
    assert acme.remote()["metadata"] == {"pulumi": "project/dev/acme"}
    assert acme.refreshed().inputs == acme.state.inputs


def test_what_waits_is_no_drift(acme: Acme) -> None:
    acme.up({"seats": {"price": acme.old, "quantity": 3}, "support": {"price": acme.newer}})
    items = {"seats": {"price": acme.new, "quantity": 4}, "usage": {"price": acme.usage}}
    acme.up(items, **AT_RENEWAL)
    waiting = acme.refreshed()
    assert waiting.inputs == acme.state.inputs
    assert waiting.outs == acme.state.outs
    assert acme.state.outs["moves_at"] == START + MONTH
    acme.world.forget_calls()
    acme.up()
    assert acme.world.calls() == []
    acme.until(START + MONTH)
    assert set(acme.prices().values()) == {(acme.new, 4), (acme.usage, None)}
    assert acme.refreshed().inputs == acme.state.inputs


def test_seats_change_now_while_the_price_waits(acme: Acme) -> None:
    acme.move(acme.new)
    acme.until(START + MONTH // 2)
    acme.move(acme.new, 5, proration_behavior="none")
    assert acme.prices() == {"seats": (acme.old, 5)}
    assert acme.refreshed().inputs == acme.state.inputs
    acme.until(RENEWED)
    assert acme.bills() == [3000, 5 * 1500]


def test_seats_that_change_with_the_price_go_with_it(acme: Acme) -> None:
    """A package becomes a price per seat: twelve packages were never declared."""
    acme.move(acme.new, 12)
    assert acme.prices() == {"seats": (acme.old, 3)}
    acme.move(acme.new, 13)
    assert acme.prices() == {"seats": (acme.old, 3)}
    assert acme.refreshed().inputs == acme.state.inputs
    acme.until(RENEWED)
    assert acme.bills() == [3000, 13 * 1500]


@pytest.mark.parametrize("again", [0, 5 * DAY])
def test_undo_before_the_renewal_restores_what_was(acme: Acme, again: int) -> None:
    before = acme.remote()
    acme.move(acme.new, 4)
    if again:
        acme.until(START + again)
    acme.move(acme.old)
    assert acme.remote() == before
    assert acme.running() == []
    acme.until(RENEWED)
    assert acme.bills() == [3000, 3000]


def test_undo_needs_no_mark(acme: Acme) -> None:
    """Somebody has taken it out of the subscription's metadata."""
    acme.move(acme.new)
    acme.world.stripe("post", f"/v1/subscriptions/{acme.state.id}", metadata={schedules.MARK: ""})
    acme.move(acme.old)
    assert acme.running() == []
    acme.until(RENEWED)
    assert acme.bills() == [3000, 3000]


def test_another_target_rewrites_what_waits(acme: Acme) -> None:
    acme.move(acme.new)
    [first] = acme.running()
    acme.move(acme.newer)
    assert [each["id"] for each in acme.schedules()] == [first["id"]]
    acme.until(RENEWED)
    assert acme.bills() == [3000, 6000]


def test_now_takes_what_waits_at_once(acme: Acme) -> None:
    acme.move(acme.new)
    acme.move(acme.new, price_changes="now", proration_behavior="none")
    assert acme.prices() == {"seats": (acme.new, 3)}
    assert acme.running() == []
    assert schedules.MARK not in acme.remote()["metadata"]
    assert acme.refreshed().inputs == acme.state.inputs


@pytest.mark.parametrize(
    "more",
    [
        {"metadata": {"crm": "7"}},
        {"description": "Acme's"},
        {"days_until_due": 14},
        {"invoice_settings": {"footer": "Thanks"}},
        {"payment_settings": {"save_default_payment_method": "on_subscription"}},
    ],
)
def test_what_else_changes_while_it_waits_holds_before_and_after(acme: Acme, more: dict[str, Any]) -> None:
    acme.move(acme.new)
    acme.up(**more)
    assert len(acme.running()) == 1
    assert acme.refreshed().inputs == acme.state.inputs
    acme.until(RENEWED)
    assert acme.bills() == [3000, 4500]
    assert acme.refreshed().inputs == acme.state.inputs


def test_a_coupon_survives_and_one_that_comes_while_it_waits_too(acme: Acme) -> None:
    coupons = [
        acme.world.stripe("post", "/v1/coupons", percent_off=percent, duration="forever")["id"] for percent in (10, 50)
    ]
    acme.up(discounts=[{"coupon": coupons[0]}])
    acme.move(acme.new)
    acme.up(discounts=[{"coupon": each} for each in coupons])
    assert acme.refreshed().inputs == acme.state.inputs
    acme.until(RENEWED)
    assert acme.bills() == [3000, 4500 * 90 // 100 * 50 // 100]
    assert [acme.world.stripe("get", f"/v1/coupons/{each}")["times_redeemed"] for each in coupons] == [1, 1]


def test_usage_of_the_old_period_is_billed_at_the_old_price(acme: Acme) -> None:
    acme.up({"usage": {"price": acme.usage}, "seats": {"price": acme.old}}, proration_behavior="none")
    acme.until(START + DAY)
    acme.use(100)
    acme.up({"usage": {"price": acme.new_usage}, "seats": {"price": acme.old}}, **AT_RENEWAL)
    acme.until(START + 2 * DAY)
    acme.use(10)
    acme.until(RENEWED)
    acme.use(1000)
    acme.until(START + 2 * MONTH + 2 * DAY)
    assert acme.bills() == [3000, 1000 + 110 * 2, 1000 + 1000 * 3]


def test_a_cancellation_while_it_waits_ends_the_subscription_at_the_old_price(acme: Acme, said: set[str]) -> None:
    acme.move(acme.new)
    acme.up(cancel_at_period_end=True)
    assert acme.running() == []
    assert any("ends before its renewal, so its prices do not move" in line for line in said)
    assert acme.refreshed().inputs == acme.state.inputs
    acme.until(RENEWED)
    assert acme.bills() == [3000]
    assert acme.remote()["status"] == "canceled"


def test_a_cancellation_that_is_taken_back_lets_the_price_move(acme: Acme) -> None:
    acme.move(acme.new)
    acme.up(cancel_at_period_end=True)
    acme.up(cancel_at_period_end=None)
    acme.until(RENEWED)
    assert acme.bills() == [3000, 4500]
    assert acme.refreshed().inputs == acme.state.inputs


@pytest.mark.parametrize("when", ["now", "period_end"])
def test_one_that_is_deleted_while_it_waits_ends(acme: Acme, when: str) -> None:
    acme.move(acme.new, cancel={"when": when, "invoice_now": False})
    acme.world.destroy(SubscriptionProvider, acme.state)
    acme.until(RENEWED)
    assert acme.bills() == [3000]
    assert acme.remote()["status"] == "canceled"


# -- what cannot wait -----------------------------------------------------------------------------------------------


def test_an_end_after_the_renewal_is_refused_by_name(acme: Acme) -> None:
    acme.world.forget_calls()
    with pytest.raises(ProviderError, match=r"ends on 2027-04-05, after its renewal.* price_changes=\"now\""):
        acme.move(acme.new, cancel_at=START + 80 * DAY)
    assert not [each for each in acme.world.calls() if each.startswith("POST")]


def test_an_archived_price_is_refused_before_anything_is_sent(acme: Acme) -> None:
    acme.world.stripe("post", f"/v1/prices/{acme.old}", active=False)
    acme.world.forget_calls()
    with pytest.raises(ProviderError, match=f"pays {acme.old}, which is archived.* archive_when_unused=True"):
        acme.move(acme.new)
    assert not [each for each in acme.world.calls() if each.startswith("POST")]


@pytest.mark.parametrize("more", [{}, AT_RENEWAL])
def test_nothing_moves_while_the_renewals_invoice_is_a_draft(acme: Acme, more: dict[str, Any]) -> None:
    acme.until(START + MONTH + 60)
    for price in (acme.new, acme.newer):
        with pytest.raises(ProviderError, match=r"still a draft.* run again after 2027-02-15 09:00 UTC"):
            acme.up({"seats": {"price": price, "quantity": 3}}, **more)
    acme.up({"seats": {"price": acme.old, "quantity": 3}}, description="Acme's")
    acme.until(START + MONTH + 3601)
    acme.up({"seats": {"price": acme.new, "quantity": 3}}, **more)


def test_a_key_that_may_not_read_invoices_moves_no_price_in_the_hour_after_a_renewal(world: World) -> None:
    key = "rk_" + "test_no_invoices"
    world.control("keys", key=key, lacks=["rak_invoice_read", "rak_invoice_write"])
    product = world.product().id
    old, new = (world.price(product, name, unit_amount_decimal=amount).id for name, amount in (("a", "1"), ("b", "2")))
    arguments = invoiced(world.customer().id)
    process = world.process(mode="test", apiKey=key)
    state = world.up(SubscriptionProvider, "acme", {**arguments, "items": {"seats": {"price": old}}}, process=process)
    # Nothing of a first period is a draft.
    state = world.up(SubscriptionProvider, "acme", {**arguments, "items": {"seats": {"price": new}}}, state, process)
    world.control("clock", advance=MONTH + 60)
    with pytest.raises(ProviderError, match="still a draft"):
        world.up(SubscriptionProvider, "acme", {**arguments, "items": {"seats": {"price": old}}}, state, process)


# -- between prices that cost the same ------------------------------------------------------------------------------


@pytest.mark.parametrize("behavior", ["always_invoice", "create_prorations", "none"])
def test_a_move_between_prices_that_cost_the_same_charges_nobody_whose_coupon_is_over(
    world: World, behavior: str
) -> None:
    """What is left of the old price would be credited with the coupon, and the new one charged without."""
    coupon = world.stripe("post", "/v1/coupons", percent_off=50, duration="once")["id"]
    acme = Acme(world, discounts=[{"coupon": coupon}])
    again = acme.price("again", PRICES["seats-10"])
    acme.until(START + 10 * DAY)
    acme.up({"seats": {"price": again, "quantity": 3}}, proration_behavior=behavior)
    assert acme.prices() == {"seats": (again, 3)}
    acme.until(RENEWED)
    assert acme.bills() == [1500, 3000]


def test_seats_that_change_with_such_a_move_are_prorated_as_declared(acme: Acme) -> None:
    again = acme.price("again", PRICES["seats-10"])
    acme.up({"seats": {"price": again, "quantity": 5}}, proration_behavior="always_invoice")
    assert acme.prices() == {"seats": (again, 5)}
    assert acme.bills() == [3000, 2000]


@pytest.mark.parametrize("behavior", ["always_invoice", "create_prorations"])
def test_usage_is_billed_once_and_not_in_the_middle_where_the_prices_cost_the_same(acme: Acme, behavior: str) -> None:
    again = acme.usage_price("again", 2)
    acme.up({"seats": {"price": acme.old, "quantity": 3}, "usage": {"price": acme.usage}})
    acme.until(START + DAY)
    acme.use(100)
    acme.until(START + 2 * DAY)
    items = {"seats": {"price": acme.old, "quantity": 4}, "usage": {"price": again}}
    acme.up(items, proration_behavior=behavior)
    left = (MONTH - 2 * DAY) / MONTH
    seat = round(4000 * left) - round(3000 * left)
    assert acme.bills() == ([3000, seat] if behavior == "always_invoice" else [3000])
    acme.use(10)
    acme.until(RENEWED)
    assert sum(acme.bills()) == 3000 + seat + 4000 + 110 * 2


@pytest.mark.parametrize("after", [False, True])
def test_such_a_move_that_is_cut_short_charges_nothing_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: bool
) -> None:
    """With a seat more and another item, both invoiced at once, and usage that goes on."""
    killing = Killing(monkeypatch)
    for number in range(1, 20):
        world = World(tmp_path / f"{number}.db")
        acme = Acme(world)
        again, usage_again = acme.price("again", PRICES["seats-10"]), acme.usage_price("usage-again", 2)
        acme.up({**acme.arguments["items"], "usage": {"price": acme.usage}})
        acme.use(7)
        items = {"seats": {"price": again, "quantity": 4}, "usage": {"price": usage_again}, "x": {"price": acme.newer}}
        wanted = partial(acme.up, items, proration_behavior="always_invoice")
        was_killed = killing.at(number, wanted, after=after)
        wanted()
        assert acme.refreshed().inputs == acme.state.inputs
        acme.until(RENEWED)
        assert sorted(acme.bills()) == sorted([3000, 1000 + 2000, 7 * 2 + 4000 + 2000]), number
        world.sandbox.close()
        if not was_killed:
            return
    pytest.fail("a change of one subscription takes 20 calls")


def test_what_cannot_wait_for_a_renewal_is_refused_before_anything_is_sent(acme: Acme) -> None:
    coupon = acme.world.stripe("post", "/v1/coupons", percent_off=20, duration="repeating", duration_in_months=3)["id"]
    seats = {"price": acme.old, "quantity": 3, "discounts": [{"coupon": coupon}]}
    acme.up({"seats": seats})
    acme.world.forget_calls()
    with pytest.raises(ProviderError, match=f"the coupon {coupon} on an item.* cannot wait for a renewal"):
        acme.up({"seats": {**seats, "price": acme.new}}, description="Acme", **AT_RENEWAL)
    assert [each for each in acme.world.calls() if not each.startswith("GET")] == []


# -- schedules of others --------------------------------------------------------------------------------------------


def _finance(acme: Acme) -> dict[str, Any]:
    """A schedule that somebody made by hand: other seats and a coupon from the renewal on."""
    path = "/v1/subscription_schedules"
    made = acme.world.stripe("post", path, from_subscription=acme.state.id)
    coupon = acme.world.stripe("post", "/v1/coupons", percent_off=20, duration="forever")["id"]
    [present] = made["phases"]
    phases = [
        {"start_date": present["start_date"], "end_date": present["end_date"], "items": [_as_sent(present)]},
        {"items": [{**_as_sent(present), "quantity": 50}], "discounts": [{"coupon": coupon}]},
    ]
    return acme.world.stripe("post", f"{path}/{made['id']}", phases=phases, metadata={"by": "finance"})


def _bare(acme: Acme) -> dict[str, Any]:
    """Another program is between its two calls."""
    return acme.world.stripe("post", "/v1/subscription_schedules", from_subscription=acme.state.id)


def _as_sent(phase: dict[str, Any]) -> dict[str, Any]:
    [item] = phase["items"]
    return {name: item[name] for name in ("price", "quantity", "metadata")}


@pytest.mark.parametrize("make", [_finance, _bare])
def test_a_schedule_that_somebody_else_made_is_untouched_byte_for_byte(
    acme: Acme, make: Callable[[Acme], dict[str, Any]]
) -> None:
    schedule = make(acme)
    path = f"/v1/subscription_schedules/{schedule['id']}"
    before = json.dumps(acme.world.stripe("get", path)), json.dumps(acme.remote())
    seats = {"seats": {"price": acme.old, "quantity": 4}}
    refused: list[dict[str, Any]] = [
        {"items": {"seats": {"price": acme.new, "quantity": 3}}, **AT_RENEWAL},
        {"items": {"seats": {"price": acme.new, "quantity": 3}}},
        {"items": seats},
        {"metadata": {"crm": "7"}},
        {"discounts": [{"coupon": "c"}]},
        {"cancel_at_period_end": True},
    ]
    for more in refused:
        with pytest.raises(
            ProviderError, match=f"{schedule['id']}, which this program did not create.* ask its creator"
        ):
            acme.up(**more)
    for when in ("now", "period_end"):
        state = State(acme.state.id, acme.state.inputs, {**acme.state.outs, "cancel": {"when": when}})
        with pytest.raises(ProviderError, match=f"{schedule['id']}, which this program did not create"):
            acme.world.destroy(SubscriptionProvider, state)
    assert (json.dumps(acme.world.stripe("get", path)), json.dumps(acme.remote())) == before
    # What no phase holds is nobody else's business.
    acme.up(payment_settings={"save_default_payment_method": "on_subscription"})
    acme.up(**AT_RENEWAL)
    assert json.dumps(acme.world.stripe("get", path)) == before[0]
    assert acme.refreshed().inputs == acme.state.inputs


def test_a_schedule_that_the_state_knows_is_refused_in_the_preview(acme: Acme) -> None:
    schedule = _finance(acme)
    acme.state = acme.refreshed()
    acme.world.forget_calls()
    with pytest.raises(ProviderError, match=f"{schedule['id']}.*for a change of metadata"):
        acme.preview(metadata={"crm": "7"})
    acme.preview(payment_settings={"save_default_payment_method": "on_subscription"})
    assert acme.world.calls() == []


# -- runs that are cut short ----------------------------------------------------------------------------------------


class Killed(BaseException):
    """The process is gone."""


class Killing:
    """A process that is killed right before or right after its nth call of Stripe."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls_left, self.after = -1, False
        request = Recording.request

        def killing(recording: Recording, *args: Any, **more: Any) -> Any:
            self.calls_left -= 1
            if self.calls_left == 0 and not self.after:
                raise Killed
            answer = request(recording, *args, **more)
            if self.calls_left == 0:
                raise Killed
            return answer

        monkeypatch.setattr(Recording, "request", killing)

    def at(self, number: int, run: Callable[[], Any], *, after: bool) -> bool:
        """Whether a run was killed; False where it made fewer calls."""
        self.calls_left, self.after = number, after
        try:
            run()
        except Killed:
            return True
        finally:
            self.calls_left = -1
        return False


def _first(acme: Acme) -> dict[str, Any]:
    return {"items": {"seats": {"price": acme.new, "quantity": 3}}, **AT_RENEWAL}


def _seats(acme: Acme) -> dict[str, Any]:
    acme.move(acme.new)
    return {"items": {"seats": {"price": acme.new, "quantity": 5}}, "proration_behavior": "none"}


def _retarget(acme: Acme) -> dict[str, Any]:
    acme.move(acme.new)
    return {"items": {"seats": {"price": acme.newer, "quantity": 3}}}


def _undo(acme: Acme) -> dict[str, Any]:
    acme.move(acme.new)
    return {"items": {"seats": {"price": acme.old, "quantity": 3}}}


def _at_once(acme: Acme) -> dict[str, Any]:
    acme.move(acme.new)
    return {"price_changes": "now", "proration_behavior": "none"}


#: A change, and what the next bill is before and after it.
CHANGES: list[tuple[Callable[[Acme], dict[str, Any]], int, int]] = [
    (_first, 3000, 4500),
    (_seats, 4500, 7500),
    (_retarget, 4500, 6000),
    (_undo, 4500, 3000),
    (_at_once, 4500, 4500),
]


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("pause", [0, 2 * DAY])
@pytest.mark.parametrize(("change", "bill"), [(change, after) for change, _, after in CHANGES])
def test_a_run_that_dies_at_any_call_is_finished_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Any, bill: int, pause: int, after: bool
) -> None:
    """Two days later Stripe has forgotten what it answered."""
    killing = Killing(monkeypatch)
    for number in range(1, 20):
        world = World(tmp_path / f"{number}.db")
        acme = Acme(world)
        wanted = change(acme)
        was_killed = killing.at(number, partial(acme.up, **wanted), after=after)
        made = len(acme.schedules())
        if pause:
            acme.until(START + pause)
        acme.up(**wanted)
        running = acme.running()
        assert len(running) <= 1
        if change is _first:
            # Never a second one.
            assert len(acme.schedules()) == max(made, 1)
        assert acme.refreshed().inputs == acme.state.inputs
        acme.until(RENEWED)
        assert acme.bills() == [3000, bill], number
        assert acme.running() == []
        assert schedules.MARK not in acme.remote()["metadata"]
        world.sandbox.close()
        if not was_killed:
            return
    pytest.fail("a change of one subscription takes 20 calls")


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize(("change", "before", "bill"), CHANGES)
def test_nobody_pays_anything_else_where_no_run_comes_before_the_renewal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Any, before: int, bill: int, after: bool
) -> None:
    killing = Killing(monkeypatch)
    for number in range(1, 20):
        world = World(tmp_path / f"{number}.db")
        acme = Acme(world)
        wanted = change(acme)
        was_killed = killing.at(number, partial(acme.up, **wanted), after=after)
        seats = acme.prices()["seats"][1]
        acme.until(RENEWED)
        # A seat more is paid at the price of before where the run died between seats and schedule.
        assert acme.bills()[0] == 3000
        assert acme.bills()[1] in {before, bill, seats * 1000}, number
        acme.up(**wanted)
        acme.until(START + 2 * MONTH + 2 * DAY)
        acme.until(START + 3 * MONTH + 2 * DAY)
        assert acme.bills()[-1] == bill
        world.sandbox.close()
        if not was_killed:
            return


# -- prices that are retired ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("on_a_clock", [True, False])
def test_a_retired_price_stays_active_until_nobody_pays_it_or_is_scheduled_to(world: World, on_a_clock: bool) -> None:
    kept = {"archive_when_unused": True, "lookup_key": "pro"}
    product = world.product().id
    old, new = (world.price(product, name, **(kept if name == "old" else {})) for name in ("old", "new"))
    clock = world.stripe("post", "/v1/test_helpers/test_clocks", frozen_time=START)["id"] if on_a_clock else None
    customer = world.customer(**({"test_clock": clock} if clock else {})).id
    items = {"seats": {"price": old.id}}
    path = f"/v1/prices/{old.id}"

    def refused(user: str) -> None:
        before = world.stripe("get", path)
        with pytest.raises(ProviderError, match=f"stays active.* {user} .*subscriptions list --price {old.id}"):
            world.destroy(PriceProvider, old)
        assert world.stripe("get", path) == before
        assert before["active"] is True

    paying = world.subscription(customer, items)
    refused(paying.id)
    # What is about to pay it counts too.
    paying = world.up(
        SubscriptionProvider, "acme", {**invoiced(customer), "items": {"seats": {"price": new.id}}}, paying
    )
    back = {**invoiced(customer), "items": items, **AT_RENEWAL}
    paying = world.up(SubscriptionProvider, "acme", back, paying)
    refused(paying.id)
    # One that has ended does not.
    world.destroy(SubscriptionProvider, paying)
    world.destroy(PriceProvider, old)
    after = world.stripe("get", path)
    assert (after["active"], after["lookup_key"]) == (False, None)


def test_a_price_that_is_not_kept_is_archived_as_ever(acme: Acme) -> None:
    old = acme.world.price(acme.product, "other")
    acme.world.forget_calls()
    acme.world.destroy(PriceProvider, old)
    assert not [each for each in acme.world.calls() if "subscription" in each]


# -- what the preview says ------------------------------------------------------------------------------------------


def _lines(said: set[str], acme: Acme) -> set[str]:
    """What was said of the subscription, with letters for prices."""
    names = {acme.old: "A", acme.new: "B", acme.newer: "C", acme.usage: "U"}
    found = set()
    for line in said:
        _, mine, rest = line.partition(f"Subscription 'acme' ({acme.state.id}): ")
        for id_, name in names.items():
            rest = rest.replace(id_, name)
        if mine:
            found.add(rest)
    said.clear()
    return found


REST = "until then nothing changes, usage included, and nothing is prorated"


def test_the_preview_says_when_prices_move(acme: Acme, said: set[str]) -> None:
    seats = {"price": acme.new, "quantity": 4}
    acme.world.forget_calls()
    said.clear()
    acme.preview(items={"seats": seats, "usage": {"price": acme.usage}}, **AT_RENEWAL)
    assert acme.world.calls() == []
    assert _lines(said, acme) == {
        f"item seats moves from A to B, quantity 3 => 4 at its renewal; {REST}",
        "item usage is added at its renewal; nothing is billed for it until then",
    }
    acme.preview(items={"usage": {"price": acme.usage}}, **AT_RENEWAL)
    assert f"item seats is removed at its renewal; {REST}" in _lines(said, acme)


def test_the_preview_says_what_becomes_of_what_waits(acme: Acme, said: set[str]) -> None:
    acme.move(acme.new)
    said.clear()

    def lines(price: str, quantity: int, **more: Any) -> set[str]:
        acme.preview(items={"seats": {"price": price, "quantity": quantity}}, **more)
        return _lines(said, acme)

    day = "2027-02-15"
    assert lines(acme.new, 3, metadata={"crm": "7"}) == set()
    prorated = "the rest of the period is prorated on the next invoice"
    assert lines(acme.new, 5) == {f"item seats: quantity 3 => 5, now and after its renewal; {prorated}"}
    assert lines(acme.newer, 3) == {f"item seats moves from A to C at its renewal ({day}); {REST}"}
    assert lines(acme.old, 3) == {f"item seats stays on A: its move at the renewal ({day}) is taken back"}
    assert lines(acme.new, 3, price_changes="now") == {f"item seats moves from A to B; {prorated}"}
    acme.move(acme.newer, 12)
    said.clear()
    assert lines(acme.newer, 13) == {f"item seats: quantity 12 => 13 with its move at the renewal ({day})"}


def test_the_preview_says_what_is_paid_before_and_after(world: World, said: set[str]) -> None:
    product = world.product().id
    prices = {
        name: world.price(product, name, unit_amount_decimal=amount) for name, amount in (("a", "1000"), ("b", "1500"))
    }
    state = world.subscription(world.customer().id, {"seats": {"price": prices["a"].id, "quantity": 3}})
    process = world.process()
    for price in prices.values():
        process.provider(PriceProvider).diff(price.id, {**price.outs, **PULUMI}, {**price.inputs, **PULUMI})
    inputs = {**state.inputs, "items": {"seats": {"price": prices["b"].id, "quantity": 3}}, **AT_RENEWAL}
    process.provider(SubscriptionProvider).diff(state.id, {**state.outs, **PULUMI}, {**inputs, **PULUMI})
    moves = "moves from Price 'a' to Price 'b', 30.00 USD a month => 45.00 USD a month at its renewal"
    assert any(f"item seats {moves}; {REST}" in line for line in said), said
