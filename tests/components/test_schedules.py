"""Price changes at the renewal as schedule phases: what is carried over, whose a schedule is. The sandbox is the judge.

`tests/components/test_price_changes.py` has the same through the provider.
"""

from __future__ import annotations

from typing import Any

import pytest

from components.providers import schedules
from components.providers.inventory import OWNER_KEY
from components.providers.schedules import CannotMove, Move
from tests.components.world import World

START = 1_800_000_000
DAY = 86_400
MONTH = 31 * DAY
ME = {OWNER_KEY: "project/dev/acme"}


class Shop:
    """Prices and a customer on a test clock, all made elsewhere."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.clock = self.post("test_helpers/test_clocks", frozen_time=START)["id"]
        self.customer = self.post("customers", name="Acme", test_clock=self.clock)["id"]
        self.product = self.post("products", name="Pro")["id"]
        self.meter = self.post(
            "billing/meters",
            display_name="Tokens",
            event_name="tokens",
            default_aggregation={"formula": "sum"},
        )["id"]

    def post(self, path: str, **params: Any) -> Any:
        return self.world.stripe("post", f"/v1/{path}", **params)

    def price(self, amount: int, interval: str = "month", **more: Any) -> str:
        recurring = {"interval": interval, **more.pop("recurring", {})}
        made = self.post(
            "prices", product=self.product, currency="usd", unit_amount=amount, recurring=recurring, **more
        )
        return str(made["id"])

    def usage_price(self, amount: int) -> str:
        return self.price(amount, recurring={"usage_type": "metered", "meter": self.meter})

    def subscribe(self, items: dict[str, Any], **more: Any) -> str:
        sent = [{**item, "metadata": {OWNER_KEY: key}} for key, item in items.items()]
        made = self.post(
            "subscriptions",
            customer=self.customer,
            items=sent,
            **{"collection_method": "send_invoice", "days_until_due": 30, **more},
        )
        return str(made["id"])

    def get(self, id_: str) -> dict[str, Any]:
        expand = ["discounts", "items.data.discounts"]
        return self.world.stripe("get", f"/v1/subscriptions/{id_}", expand=expand)

    def schedule(self, id_: str) -> dict[str, Any]:
        return self.world.stripe("get", f"/v1/subscription_schedules/{self.get(id_)['schedule']}")

    def move(self, id_: str, moves: schedules.Moves, *added: dict[str, Any]) -> dict[str, Any]:
        """The two calls."""
        made = self.post("subscription_schedules", from_subscription=id_)
        there = self.get(id_)
        named = schedules.coupons_of(there, moves)
        coupons = {name: self.world.stripe("get", f"/v1/coupons/{name}") for name in named}
        names = [move.price for move in moves.values() if move] + [str(each["price"]) for each in added]
        prices = {name: self.world.stripe("get", f"/v1/prices/{name}") for name in names}
        params = schedules.update_params(there, made, moves, added, metadata=ME, prices=prices, coupons=coupons)
        return dict(self.post(f"subscription_schedules/{made['id']}", **params))

    def use(self, units: int, at: int) -> None:
        """Go to a moment and use something."""
        self.until(at)
        self.post(
            "billing/meter_events",
            event_name="tokens",
            timestamp=at,
            payload={"stripe_customer_id": self.customer, "value": str(units)},
        )

    def until(self, moment: int) -> None:
        """Let time pass, a month at a time: a clock goes no further in one step."""
        now = self.world.stripe("get", f"/v1/test_helpers/test_clocks/{self.clock}")["frozen_time"]
        for step in [*range(now + MONTH, moment, MONTH), moment]:
            self.post(f"test_helpers/test_clocks/{self.clock}/advance", frozen_time=step)

    def bills(self, id_: str) -> list[int]:
        """The totals of the invoices, the first first."""
        listed = self.world.stripe("get", "/v1/invoices", subscription=id_, limit=100)["data"]
        return [invoice["total"] for invoice in reversed(listed)]


@pytest.fixture
def shop(world: World) -> Shop:
    return Shop(world)


def terms_of(subscription: dict[str, Any]) -> dict[str, Any]:
    """What is agreed beside prices and periods."""
    own = ("schedule", "items", "latest_invoice", "billing_cycle_anchor_config", "trial_end", "trial_start", "status")
    return {name: value for name, value in subscription.items() if name not in own}


def test_the_new_price_is_billed_from_the_renewal_on_and_nothing_is_prorated(shop: Shop) -> None:
    old, new = shop.price(1000), shop.price(1500)
    acme = shop.subscribe({"license": {"price": old, "quantity": 3}})
    before = shop.get(acme)
    shop.move(acme, {"license": Move(new)})
    assert shop.get(acme)["items"] == before["items"]
    shop.until(START + MONTH + 2 * DAY)
    after = shop.get(acme)
    assert shop.bills(acme) == [3000, 4500]
    [item] = after["items"]["data"]
    assert (item["price"]["id"], item["quantity"], item["metadata"]) == (new, 3, {OWNER_KEY: "license"})
    assert after["schedule"] is None
    assert after["billing_cycle_anchor"] == before["billing_cycle_anchor"]


def test_the_mark_goes_with_the_move(shop: Shop) -> None:
    acme = shop.subscribe({"license": {"price": shop.price(1000)}}, metadata={schedules.MARK: "x", "crm": "7"})
    shop.move(acme, {"license": Move(shop.price(1500))})
    assert shop.get(acme)["metadata"] == {schedules.MARK: "x", "crm": "7"}
    shop.until(START + MONTH)
    assert shop.get(acme)["metadata"] == {"crm": "7"}


def test_everything_that_is_agreed_is_carried_over(shop: Shop) -> None:
    coupon = shop.post("coupons", percent_off=10, duration="forever")["id"]
    item_coupon = shop.post("coupons", amount_off=100, currency="usd", duration="forever")["id"]
    rate = shop.post("tax_rates", display_name="VAT", percentage=20, inclusive=False)["id"]
    item_rate = shop.post("tax_rates", display_name="VAT", percentage=5, inclusive=False)["id"]
    acme = shop.subscribe(
        {
            "license": {"price": shop.price(1000), "quantity": 5, "discounts": [{"coupon": item_coupon}]},
            "support": {"price": shop.price(2000), "tax_rates": [item_rate], "discounts": [{"coupon": coupon}]},
        },
        discounts=[{"coupon": coupon}],
        default_tax_rates=[rate],
        description="Acme's",
        billing_thresholds={"amount_gte": 100_000, "reset_billing_cycle_anchor": False},
        invoice_settings={"footer": "Thanks", "custom_fields": [{"name": "PO", "value": "7"}], "description": "Pro"},
        metadata={"crm": "7"},
        days_until_due=14,
    )
    before = shop.get(acme)
    schedule = shop.move(acme, {"license": Move(shop.price(1000))})
    assert terms_of(shop.get(acme)) == terms_of(before)
    # In the phases themselves, whatever a schedule takes over by its defaults.
    for phase in schedule["phases"]:
        assert [each["id"] for each in phase["default_tax_rates"]] == [rate]
        assert (phase["collection_method"], phase["description"]) == ("send_invoice", "Acme's")
        assert phase["billing_thresholds"] == before["billing_thresholds"]
        printed = {**before["invoice_settings"], "days_until_due": 14}
        assert phase["invoice_settings"] == printed
    shop.until(START + MONTH)
    after = shop.get(acme)
    assert terms_of(after) == terms_of(before)
    first, second = shop.bills(acme)
    assert first == second
    items = {item["metadata"][OWNER_KEY]: item for item in after["items"]["data"]}
    assert [each["source"]["coupon"] for each in items["license"]["discounts"]] == [item_coupon]
    # Not one that begins anew.
    assert [each["id"] for each in items["support"]["discounts"]] == [
        each["id"]
        for item in before["items"]["data"]
        if item["metadata"][OWNER_KEY] == "support"
        for each in item["discounts"]
    ]
    assert [each["id"] for each in items["support"]["tax_rates"]] == [item_rate]


def test_a_coupon_that_ends_before_the_renewal_is_not_given_again(shop: Shop) -> None:
    coupon = shop.post("coupons", percent_off=50, duration="repeating", duration_in_months=1)["id"]
    acme = shop.subscribe({"license": {"price": shop.price(1000)}}, discounts=[{"coupon": coupon}])
    shop.move(acme, {"license": Move(shop.price(1000))})
    shop.until(START + MONTH)
    assert shop.bills(acme) == [500, 1000]
    assert shop.world.stripe("get", f"/v1/coupons/{coupon}")["times_redeemed"] == 1


def test_a_coupon_of_an_item_that_ends_before_the_renewal_does_not_hinder_the_move(shop: Shop) -> None:
    coupon = shop.post("coupons", percent_off=50, duration="repeating", duration_in_months=1)["id"]
    acme = shop.subscribe({"license": {"price": shop.price(1000), "discounts": [{"coupon": coupon}]}})
    shop.move(acme, {"license": Move(shop.price(1200))})
    shop.until(START + MONTH + 2 * DAY)
    assert shop.bills(acme) == [500, 1200]


def test_a_coupon_of_an_item_that_would_begin_anew_is_refused(shop: Shop) -> None:
    coupon = shop.post("coupons", percent_off=50, duration="repeating", duration_in_months=6)["id"]
    acme = shop.subscribe({"license": {"price": shop.price(1000), "discounts": [{"coupon": coupon}]}})
    with pytest.raises(CannotMove, match=f"the coupon {coupon} on an item that moves"):
        shop.move(acme, {"license": Move(shop.price(1500))})


@pytest.mark.parametrize("mode", ["classic", "flexible"])
def test_usage_of_the_period_that_ends_is_billed_at_the_old_price(shop: Shop, mode: str) -> None:
    old, new = shop.usage_price(2), shop.usage_price(3)
    acme = shop.subscribe({"usage": {"price": old}}, billing_mode={"type": mode})
    shop.use(100, START + DAY)
    shop.move(acme, {"usage": Move(new, None)})
    shop.use(10, START + 2 * DAY)
    shop.use(1000, START + MONTH + 2 * DAY)
    shop.until(START + 2 * MONTH + 2 * DAY)
    assert [bill for bill in shop.bills(acme) if bill] == [110 * 2, 1000 * 3]


def test_a_trial_stays_and_the_move_comes_with_its_end(shop: Shop) -> None:
    acme = shop.subscribe({"license": {"price": shop.price(1000)}}, trial_period_days=14)
    schedule = shop.move(acme, {"license": Move(shop.price(1500))})
    assert [phase["trial_end"] for phase in schedule["phases"]] == [START + 14 * DAY, None]
    assert shop.get(acme)["status"] == "trialing"
    assert shop.get(acme)["trial_end"] == START + 14 * DAY
    shop.until(START + 16 * DAY)
    assert shop.bills(acme) == [0, 1500]


def test_what_comes_and_goes_does_so_with_the_renewal(shop: Shop) -> None:
    acme = shop.subscribe({"pro": {"price": shop.price(1000), "quantity": 2}, "support": {"price": shop.price(500)}})
    team = {"price": shop.price(3000), "metadata": {OWNER_KEY: "team"}}
    shop.move(acme, {"pro": None}, team)
    shop.until(START + MONTH + 2 * DAY)
    assert shop.bills(acme) == [2500, 3500]
    assert {item["metadata"][OWNER_KEY] for item in shop.get(acme)["items"]["data"]} == {"team", "support"}


def test_each_item_moves_when_its_own_period_ends(shop: Shop) -> None:
    """A yearly fee with a monthly overage, in one flexible subscription."""
    yearly, monthly = shop.price(12_000, "year"), shop.price(1000)
    dearer = shop.price(24_000, "year"), shop.price(1500)
    acme = shop.subscribe({"fee": {"price": yearly}, "seats": {"price": monthly}}, billing_mode={"type": "flexible"})
    schedule = shop.move(acme, {"fee": Move(dearer[0]), "seats": Move(dearer[1])})
    assert len(schedule["phases"]) == 3
    year = START + 365 * DAY
    shop.until(year + 2 * DAY)
    assert sorted(shop.bills(acme)) == sorted([13_000, *[1500] * 11, 25_500])
    assert shop.get(acme)["schedule"] is None


def test_a_yearly_price_in_place_of_a_monthly_one_is_billed_when_it_comes(shop: Shop) -> None:
    acme = shop.subscribe({"fee": {"price": shop.price(1000)}, "usage": {"price": shop.usage_price(1)}})
    yearly = shop.price(10_000, "year")
    shop.move(acme, {"fee": Move(yearly)})
    shop.until(START + MONTH + 2 * DAY)
    assert shop.bills(acme) == [1000, 10_000]
    assert shop.get(acme)["billing_cycle_anchor"] == START + MONTH


def test_another_interval_does_not_cut_an_items_period_short(shop: Shop) -> None:
    items = {"fee": {"price": shop.price(12_000, "year")}, "seats": {"price": shop.price(1000)}}
    acme = shop.subscribe(items, billing_mode={"type": "flexible"})
    with pytest.raises(CannotMove, match="in the middle of the period of its item fee"):
        shop.move(acme, {"seats": Move(shop.price(100, "week"))})


def test_seats_can_move_with_the_price(shop: Shop) -> None:
    acme = shop.subscribe({"package": {"price": shop.price(10_000)}, "usage": {"price": shop.usage_price(1)}})
    shop.move(acme, {"package": Move(shop.price(900), 12), "usage": Move(shop.price(5), 7)})
    shop.until(START + MONTH + 2 * DAY)
    assert shop.bills(acme) == [10_000, 12 * 900 + 7 * 5]


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ({"cancel_at": START + 200 * DAY}, "is to end"),
        ({"billing_schedules": [{"key": "a"}]}, "is billed in advance"),
        ({"status": "paused"}, "is paused, and has no renewal"),
        ({"status": "incomplete"}, "is incomplete"),
        ({"items": {"data": []}}, "has no items"),
        ({"moves": {"nope": None}}, "has no item nope"),
        ({"moves": {"license": None}}, "would have no item"),
    ],
)
def test_what_no_schedule_can_carry_is_refused(shop: Shop, more: dict[str, Any], sentence: str) -> None:
    acme = shop.subscribe({"license": {"price": shop.price(1000)}})
    made = shop.post("subscription_schedules", from_subscription=acme)
    moves = more.pop("moves", {"license": Move("price_other")})
    with pytest.raises(CannotMove, match=sentence):
        schedules.update_params({**shop.get(acme), **more}, made, moves, metadata=ME)


def test_a_schedule_is_ours_or_bare_or_somebody_elses(shop: Shop) -> None:
    acme = shop.subscribe({"license": {"price": shop.price(1000)}})
    bare = shop.post("subscription_schedules", from_subscription=acme)
    owners = set(ME.values())
    assert schedules.classify(bare, owners, marked=False) == "bare"
    # A run of ours has marked the subscription, made the schedule and died.
    assert schedules.classify(bare, owners, marked=True) == "ours"
    assert schedules.classify({**bare, "metadata": {"team": "finance"}}, owners, marked=True) == "foreign"
    assert schedules.classify({**bare, "end_behavior": "cancel"}, owners, marked=True) == "foreign"
    shop.post(f"subscription_schedules/{bare['id']}/release")
    ours = shop.move(acme, {"license": Move(shop.price(1500))})
    assert schedules.classify(ours, owners, marked=False) == "ours"
    assert schedules.classify(ours, {"project/prod/acme"}, marked=True) == "foreign"
    assert schedules.classify({**ours, "metadata": {}}, owners, marked=True) == "foreign"


def test_what_is_planned_is_known_until_it_has_come(shop: Shop) -> None:
    new = shop.price(1500)
    acme = shop.subscribe({"license": {"price": shop.price(1000), "quantity": 2}})
    schedule = shop.move(acme, {"license": Move(new)})
    waiting = schedules.planned(schedule)
    assert waiting is not None
    assert [(item["price"], item["quantity"]) for item in waiting] == [(new, 2)]
    assert schedules.moved_at(schedule) == START + MONTH
    shop.until(START + MONTH)
    assert schedules.planned(shop.schedule(acme)) is None
    assert schedules.planned(None) is None
