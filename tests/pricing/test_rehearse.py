"""`pricing rehearse`: a right rollout is explained to the cent, and each known mistake is found by its name."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import pytest

from components.providers.inventory import StripeObject
from pricing import lists
from pricing.invoices import hashed
from pricing.rehearse.change import PullRequest, account_of
from pricing.rehearse.check import Course
from pricing.rehearse.copy import CopyError, Ids, Used, shape_of
from pricing.rehearse.report import Rehearsal, markdown
from pricing.rehearse.sandbox import Copy
from pricing.rollout.decisions import DAY
from sandbox import keys
from tests.components.test_permissions import accesses, table
from tests.pricing.rehearsed import DECLARED, STACK, TODAY, Rehearsed, between, rehearsed, then

FLEXIBLE: Final[dict[str, Any]] = {"billing_mode": {"type": "flexible"}}
#: What follows from a period that begins anew.
EVERYTHING: Final = {"wrong item", "double charge", "dropped usage", "fee not billed"}


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Rehearsed]:
    with rehearsed(tmp_path) as made:
        yield made


def fill(shop: Rehearsed) -> list[str]:
    """Four subscriptions whose months end on different days, one with a coupon, and the usage of a month."""
    made = shop.shop
    made.world.stripe("post", "/v1/coupons", id="forever", percent_off=10, duration="forever")
    people = [made.subscribe(1, **FLEXIBLE)]
    for day, more in (("05", {"discounts": [{"coupon": "forever"}]}), ("12", {}), ("20", {})):
        made.go(f"2026-01-{day}")
        people.append(made.subscribe(int(day) // 5, **FLEXIBLE, **more))
    for id_ in people:
        made.use(id_, 26_000)
    made.go("2026-02-25")
    return people


def billed(rehearsal: Rehearsal, shop: Rehearsed, id_: str, *, then: bool = True) -> list[int]:
    """What the customer of a subscription pays in each month."""
    customer = hashed(shop.shop.remote(id_)["customer"], "c")
    bills = rehearsal.then if then else rehearsal.today
    assert bills is not None
    amounts = bills.amounts["usd"]
    return [amounts[each] for each in sorted(amounts) if rehearsal.names[each[0]] == customer]


def test_a_right_rollout_is_explained_to_the_cent(shop: Rehearsed) -> None:
    """1 x 100.00 + 25,000 x 0.0004 = 110.00 today; 120.00 + 10.00 at the move; then 120.00 + 25,500 x 0.0005 = 132.75.

    The change is applied half an hour after the first renewal, so that one moves a month later.
    """
    first, coupon, *_ = fill(shop)
    found = shop.rehearse(then())
    assert [(each.name, each.detail) for each in found.findings] == []
    assert billed(found, shop, first, then=False) == [11_000] * 14
    assert billed(found, shop, first) == [11_000, 13_000, *[13_275] * 12]
    assert billed(found, shop, coupon) == [11_700, *[11_947] * 13]
    assert "`pricing rollout alpaca-ai@2 --apply`: 4 moved." in found.done
    assert markdown(found).startswith(
        "## Pricing rehearsal: shop/dev\n\n\N{WHITE HEAVY CHECK MARK} **Every difference is explained by the declared "
        "versions.** 4 subscriptions of 4 customers"
    )


def test_who_stays_pays_as_today(shop: Rehearsed) -> None:
    made = shop.shop
    fill(shop)
    locked = made.subscribe(2, metadata={"price_lock": "until 2028"})
    trial = made.subscribe(2, trial_period_days=60)
    foreign = made.subscribe(2)
    made.world.stripe("post", "/v1/subscription_schedules", from_subscription=foreign)
    ending = made.subscribe(2)
    made.world.stripe("post", f"/v1/subscriptions/{ending}", cancel_at_period_end=True)
    found = shop.rehearse(then())
    assert found.findings == []
    for id_ in (locked, trial, foreign, ending):
        assert billed(found, shop, id_) == billed(found, shop, id_, then=False), id_
    (done,) = [each for each in found.done if "4 moved" in each]
    for why in ("in its trial", "locked by metadata (price_lock)", "with a schedule that somebody else made", "to end"):
        assert why in done


def test_a_version_that_moves_nobody_changes_nothing(shop: Rehearsed) -> None:
    fill(shop)
    assert shop.rehearse(then("keep")).changes_nothing


MONTHLY: Final = 'Fee("90.00")'
BASE: Final = 'Fee("50.00", key="base", per="subscription")'
PACKAGES: Final = 'Usage("token", included=0, overage=Overage("{}", per=100, round="up"))'
VOLUME: Final = 'Usage("token", tiers=[Tier("0.04", per=100, up_to={}), Tier("0.03", per=100)], tiers_mode="volume")'


@pytest.mark.parametrize(
    ("first", "second", "mode"),
    [
        ('fees=Fee("1000.00", interval="year"), usage=usage', 'fees=Fee("1200.00", interval="year"), usage=dearer', 1),
        (f"fees={MONTHLY}, usage={PACKAGES.format('0.04')}", f"fees={MONTHLY}, usage={PACKAGES.format('0.05')}", 0),
        (f"fees={MONTHLY}, usage={VOLUME.format(10_000)}", f"fees={MONTHLY}, usage={VOLUME.format(30_000)}", 1),
        (f"fees={MONTHLY}, usage=usage", f"fees=[{MONTHLY}, {BASE}], usage=usage", 0),
        (f"fees=[{MONTHLY}, {BASE}], usage=usage", f"fees={MONTHLY}, usage=usage", 1),
        (f"fees={MONTHLY}, usage=usage", 'fees=Fee("120.00")', 0),
    ],
    ids=["yearly-fee", "packages", "volume", "fee-comes", "fee-goes", "usage-goes"],
)
def test_every_shape_of_a_plan_is_explained(tmp_path: Path, first: str, second: str, mode: int) -> None:
    plans = (f'Plan("Alpaca.ai", {first})', f'Plan("Alpaca.ai", {second})')
    with rehearsed(tmp_path, between(*plans, TODAY)) as shop:
        made = shop.shop
        made.world.stripe("post", "/v1/coupons", id="forever", percent_off=10, duration="forever")
        keys = [key.partition("alpaca-ai-")[2] for key in made.stack.states if key.startswith("Price ")]
        seats = {"license": 3, "base": 1}
        items = [{"price": made.price(key), **({"quantity": seats[key]} if key in seats else {})} for key in keys]
        terms: dict[str, Any] = {"items": items, "billing_mode": {"type": ("classic", "flexible")[mode]}}
        people = [made.subscribe(**terms)]
        made.go("2026-01-11")
        people.append(made.subscribe(discounts=[{"coupon": "forever"}], **terms))
        for id_ in people:
            made.use(id_, 26_050)
        made.go("2026-02-15")
        found = shop.rehearse(between(*plans, then()))
        assert [(each.name, each.detail) for each in found.findings] == []
        assert "`pricing rollout alpaca-ai@2 --apply`: 2 moved." in found.done
        assert not found.changes_nothing


def test_usage_before_and_after_a_move_at_once_is_all_billed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """2 seats, 10 days into a month of 30: 40.00 x 20 / 30 more; 13,000 tokens at each version: 4.80 and 6.25."""
    with rehearsed(tmp_path, TODAY + DECLARED) as shop:
        (subscription,) = shop.shop.world.stripe("get", "/v1/subscriptions")["data"]
        period = subscription["items"]["data"][0]
        start, end = period["current_period_start"], period["current_period_end"]
        now = start + 10 * DAY
        shop.shop.world.control("clock", frozen=now)
        monkeypatch.setattr(lists, "now", lambda account, clock: now)
        found = shop.rehearse(then("now", DECLARED), test_clock=None, usage=26_000)
        assert [(each.name, each.detail) for each in found.findings] == []
        assert found.then is not None
        first = next(iter(found.then.amounts["usd"].values()))
        assert abs(first - (24_000 + 480 + 625 + 4_000 * (end - now) / (end - start))) <= 2


@pytest.mark.parametrize("rollout", ["now", "at_renewal"])
def test_declared_subscribers_move_with_the_engine(tmp_path: Path, rollout: str) -> None:
    with rehearsed(tmp_path, TODAY + DECLARED) as shop:
        fill(shop)
        found = shop.rehearse(then(rollout, DECLARED), test_clock=None)
        assert [(each.name, each.detail) for each in found.findings] == []
        assert found.then is not None
        amounts = found.then.amounts["usd"]
        (customer,) = {each[0] for each in amounts}
        paid = [amounts[each] for each in sorted(amounts)]
        # At once, the rest of the period is prorated and billed with the next.
        assert set(paid[1:]) == {24_000}, customer
        assert paid[0] in ({24_000} if rollout == "at_renewal" else range(24_001, 28_001))


def test_a_change_that_cannot_be_applied_is_a_finding(shop: Rehearsed) -> None:
    """Somebody else's meter has the event name of a plan that the pull request adds."""
    fill(shop)
    meter = {"display_name": "Images", "event_name": "images", "default_aggregation": {"formula": "last"}}
    shop.shop.world.stripe("post", "/v1/billing/meters", **meter)
    more = (
        '    images = Plan("Images", usage=Usage("image", included=0, overage="0.01"))\n'
        '    PublishedPlan("images", images, event_name="images")\n'
    )
    found = shop.rehearse(then(more=more))
    assert [each.name for each in found.findings] == ["not applied"]
    assert "images" in found.findings[0].detail
    assert "**This change cannot be applied to the account.**" in markdown(found)


def test_a_customer_without_usage_on_any_invoice_is_said(shop: Rehearsed) -> None:
    fill(shop)
    silent = shop.shop.subscribe(1)
    shop.shop.go("2026-03-10")
    shop.shop.use(silent, 13_000)
    shop.shop.go("2026-03-11")
    said = "1 customer with a metered price and without usage"
    found = shop.rehearse(then())
    assert any(each.startswith(said) for each in found.trust)
    # Half of a month of 28 days has passed.
    asked = shop.rehearse(then(), open_period=True)
    assert not any(each.startswith(said) for each in asked.trust)
    assert billed(asked, shop, silent, then=False)[0] == 11_000


def test_more_customers_than_asked_for_are_counted(shop: Rehearsed) -> None:
    fill(shop)
    found = shop.rehearse(then(), customers=3)
    assert (found.subscriptions, found.customers) == (3, 3)
    assert "1 subscription of further customers (--customers): not rehearsed." in found.trust


def test_a_coupon_that_was_deleted_leaves_its_subscription_out_and_is_said(shop: Rehearsed) -> None:
    fill(shop)
    shop.shop.world.stripe("delete", "/v1/coupons/forever")
    found = shop.rehearse(then())
    assert found.findings == []
    assert "1 subscription with a coupon that was deleted: not rehearsed." in found.trust


def test_an_account_without_subscriptions_is_one_sentence(shop: Rehearsed) -> None:
    with pytest.raises(CopyError, match="--test-clock names one"):
        shop.shape(shop.ids(), test_clock=None)


# -- the copy ---------------------------------------------------------------------------------------------------------


def test_a_copy_bills_on_as_the_account_does(shop: Rehearsed) -> None:
    """The account's own next two months are the measure: coupons, a trial, an end, a schedule, a yearly fee."""
    made = shop.shop
    people = fill(shop)
    stripe = made.world.stripe
    stripe("post", "/v1/coupons", id="two", percent_off=20, duration="repeating", duration_in_months=2)
    stripe("post", "/v1/coupons", id="once", amount_off=700, currency="usd", duration="once")
    yearly = stripe(
        "post",
        "/v1/prices",
        product=stripe("get", f"/v1/prices/{made.price('license')}")["product"],
        currency="usd",
        unit_amount=90_000,
        recurring={"interval": "year"},
    )["id"]
    people += [
        made.subscribe(2, discounts=[{"coupon": "two"}], **FLEXIBLE),
        made.subscribe(2, discounts=[{"coupon": "once"}], trial_period_days=20, **FLEXIBLE),
        made.subscribe(items=[{"price": yearly}, {"price": made.price("usage")}], **FLEXIBLE),
        made.subscribe(3, **FLEXIBLE),
    ]
    stripe("post", f"/v1/subscriptions/{people[0]}", discounts=[{"coupon": "once"}])
    stripe("post", f"/v1/subscriptions/{people[2]}", cancel_at_period_end=True)
    schedule = stripe("post", "/v1/subscription_schedules", from_subscription=people[-1])
    (present,) = schedule["phases"]
    items = [{"price": made.price("license"), "quantity": 3}, {"price": made.price("usage")}]
    first = {"start_date": present["start_date"], "end_date": present["end_date"], "items": items}
    stripe(
        "post",
        f"/v1/subscription_schedules/{schedule['id']}",
        phases=[first, {"items": [{"price": made.price("license"), "quantity": 5}, items[1]]}],
    )
    made.go("2026-03-03")
    ids = shop.ids()
    shape = shop.shape(ids)
    assert shape.left_out == {}
    usage = {where: [Used(0, 1, Decimal(0))] for where in shape.usage}
    made.go("2026-05-02")

    with shop.copied(replace(shape, usage=usage)) as copy:
        copy.set_clock(made.now())
        copy.settle()
        for id_ in people:
            account = stripe("get", "/v1/invoices", subscription=id_, created={"gt": shape.now})["data"]
            bills = copy.get(f"/v1/invoices?subscription={ids.text(id_)}&created[gt]={shape.now}")["data"]
            shown = ("created", "billing_reason", "subtotal", "total", "status")
            assert [[each[name] for name in shown] for each in bills] == [
                [each[name] for name in shown] for each in account
            ], id_


def test_the_account_is_only_read(shop: Rehearsed) -> None:
    fill(shop)
    account = shop.account
    shop.shop.world.forget_calls()
    shape_of(account, shop.ids(), stack=STACK, customers=9, months=3, test_clock=shop.shop.clock, lock="price_lock")
    sent = shop.shop.world.sent
    assert {each.method for each in sent} == {"GET"}
    needed = {keys.permission(each.method, each.path) for each in sent} - {"rak_test_clock_read"}
    assert accesses(needed) == table()["pricing rehearse"]


def test_nothing_in_a_copy_names_a_customer(tmp_path: Path) -> None:
    with rehearsed(tmp_path, TODAY + DECLARED) as shop:
        people = fill(shop)
        stripe = shop.shop.world.stripe
        stripe("post", "/v1/products", name="Charles Babbage's own plan", id="babbage-special")
        stripe("post", "/v1/coupons", id="BABBAGE", name="For Charles", percent_off=5, duration="once")
        private = {"crm": "Charles Babbage", "pulumi": "crm/prod/babbage"}
        stripe("post", f"/v1/subscriptions/{people[0]}", metadata=private, description="Babbage, by hand")
        with shop.copied(shop.shape(shop.ids())) as copy:
            state = json.dumps(copy.control("GET", "state"))
        known = [stripe("get", f"/v1/subscriptions/{id_}") for id_ in people]
        assert len(state) > 10_000
        for word in ("Paca", "p@example.com", "Lovelace", "ada@", "abbage", "BABBAGE", "For Charles"):
            assert word not in state, word
        for each in known:
            for id_ in (
                each["id"],
                each["customer"],
                each["items"]["data"][0]["id"],
                each["items"]["data"][0]["price"]["id"],
            ):
                assert id_ not in state


def test_an_id_that_the_program_names_stays(shop: Rehearsed) -> None:
    ids = Ids("", 'customer="cus_ABCDEFGH1234"', STACK, b"secret")
    assert ids.text("cus_ABCDEFGH1234") == "cus_ABCDEFGH1234"
    assert ids.text('{"id": "cus_ABCDEFGH1235"}') != '{"id": "cus_ABCDEFGH1235"}'
    assert ids.text("sub_sched_1ABCDEFGH123").startswith("sub_sched_1")
    assert Ids("", "", STACK, b"another").text("cus_ABCDEFGH1235") != ids.text("cus_ABCDEFGH1235")


# -- mistakes ---------------------------------------------------------------------------------------------------------


class Mistake(PullRequest):
    """A rollout by a script that does it wrong, to all subscriptions at once."""

    def wrong(self, copy: Copy, subscription: StripeObject, old: Any, new: Any) -> None:
        raise NotImplementedError

    def again(self, copy: Copy, now: int) -> None:
        (begun,) = self._rollouts
        old, new = begun.rules.old, begun.rules.new
        account = account_of(copy)
        for subscription in lists.subscriptions(account, on_clocks=False):
            prices = {item["price"]["id"] for item in subscription["items"]["data"]}
            if not prices & new.ids and subscription["id"] not in self.declared.courses:
                self.declared.courses[subscription["id"]] = {"alpaca-ai": Course(1, 2, "at_renewal", now)}
                self.wrong(copy, subscription, old, new)


def post(copy: Copy, path: str, **params: Any) -> StripeObject:
    return account_of(copy).request("post", path, params, subject="the script").data


def item_of(subscription: StripeObject, price: str) -> StripeObject:
    (found,) = [item for item in subscription["items"]["data"] if item["price"]["id"] == price]
    return found  # type: ignore[no-any-return]


def scheduled(copy: Copy, subscription: StripeObject, items: list[Any], **phase: Any) -> None:
    """A schedule whose second phase has these items, built from what an echo of the first shows."""
    schedule = post(copy, "/v1/subscription_schedules", from_subscription=subscription["id"])
    present = schedule["phases"][0]
    first = {name: present[name] for name in ("start_date", "end_date")}
    echo = [{name: item[name] for name in ("price", "quantity") if name in item} for item in present["items"]]
    phases = [{**first, "items": echo, **phase}, {"items": items, "proration_behavior": "none"}]
    post(copy, f"/v1/subscription_schedules/{schedule['id']}", phases=phases)


class LostCoupon(Mistake):
    """A schedule rebuilt without its discounts."""

    def wrong(self, copy: Copy, subscription: StripeObject, old: Any, new: Any) -> None:
        quantity = item_of(subscription, old.prices["license"]["id"])["quantity"]
        moved = [{"price": new.prices["license"]["id"], "quantity": quantity}, {"price": new.prices["usage"]["id"]}]
        scheduled(copy, subscription, moved)


class DroppedUsage(Mistake):
    """A metered price replaced within its period, without prorations."""

    def wrong(self, copy: Copy, subscription: StripeObject, old: Any, new: Any) -> None:
        items = [
            {name: item[name] for name in ("id", "quantity") if name in item} | {"price": new.prices[key]["id"]}
            for key in ("license", "usage")
            for item in [item_of(subscription, old.prices[key]["id"])]
        ]
        post(copy, f"/v1/subscriptions/{subscription['id']}", items=items, proration_behavior="none")


class DoubleCharge(Mistake):
    """The new price beside the old one."""

    def wrong(self, copy: Copy, subscription: StripeObject, old: Any, new: Any) -> None:
        quantity = item_of(subscription, old.prices["license"]["id"])["quantity"]
        added = [{"price": new.prices["license"]["id"], "quantity": quantity}]
        post(copy, f"/v1/subscriptions/{subscription['id']}", items=added, proration_behavior="none")


class Prorated(Mistake):
    """A move at once that invoices."""

    def wrong(self, copy: Copy, subscription: StripeObject, old: Any, new: Any) -> None:
        item = item_of(subscription, old.prices["license"]["id"])
        moved = [{"id": item["id"], "price": new.prices["license"]["id"], "quantity": item["quantity"]}]
        post(copy, f"/v1/subscriptions/{subscription['id']}", items=moved, proration_behavior="always_invoice")


class WrongItem(Mistake):
    """Items matched by their product: the fee stays on the old version."""

    def wrong(self, copy: Copy, subscription: StripeObject, old: Any, new: Any) -> None:
        quantity = item_of(subscription, old.prices["license"]["id"])["quantity"]
        discounts = {"discounts": [{"discount": each} for each in subscription["discounts"]]}
        moved = [{"price": old.prices["license"]["id"], "quantity": quantity}, {"price": new.prices["usage"]["id"]}]
        schedule = post(copy, "/v1/subscription_schedules", from_subscription=subscription["id"])
        present = schedule["phases"][0]
        first = {name: present[name] for name in ("start_date", "end_date")}
        echo = [{name: item[name] for name in ("price", "quantity") if name in item} for item in present["items"]]
        second = {"items": moved, "proration_behavior": "none", **discounts}
        phases = [{**first, "items": echo, **discounts}, second]
        post(copy, f"/v1/subscription_schedules/{schedule['id']}", phases=phases)


class DraftHour(Mistake):
    """A renewal that has just been billed, voided and billed again on the new version."""

    def wrong(self, copy: Copy, subscription: StripeObject, old: Any, new: Any) -> None:
        invoice = copy.get(f"/v1/invoices/{subscription['latest_invoice']}")
        if invoice["status"] == "draft":
            post(copy, f"/v1/invoices/{invoice['id']}/finalize", auto_advance=False)
            post(copy, f"/v1/invoices/{invoice['id']}/void")
            license_ = item_of(subscription, old.prices["license"]["id"])
            moved: Any = {"id": license_["id"], "price": new.prices["license"]["id"], "quantity": license_["quantity"]}
            again = {"billing_cycle_anchor": {"type": "now"}, "proration_behavior": "none"}
            post(copy, f"/v1/subscriptions/{subscription['id']}", items=[moved], **again)


class Meddling(PullRequest):
    """A right rollout, and somebody who takes the coupon away before it takes effect."""

    def again(self, copy: Copy, now: int) -> None:
        super().again(copy, now)
        for subscription in lists.subscriptions(account_of(copy), on_clocks=False):
            if subscription["discounts"]:
                post(copy, f"/v1/subscriptions/{subscription['id']}", discounts="")


@pytest.mark.parametrize(
    ("mistake", "name", "also", "detail"),
    [
        (LostCoupon, "lost coupon", set(), "takes off 11.00 USD today, and nothing then"),
        (DroppedUsage, "dropped usage", set(), "13,000 of 26,000 units are not billed"),
        (DoubleCharge, "double charge", {"wrong item"}, "it is billed 2 times"),
        (Prorated, "double charge", {"wrong item"}, "is prorated, and no proration is declared"),
        (WrongItem, "wrong item", set(), "it is billed on version 1"),
        (DraftHour, "draft hour", EVERYTHING, "100.00 USD is on no invoice"),
        (Meddling, "rollout halted", {"lost coupon"}, "its discounts are gone"),
    ],
)
def test_a_mistake_is_found_by_its_name(
    shop: Rehearsed, mistake: type[PullRequest], name: str, also: set[str], detail: str
) -> None:
    fill(shop)
    found = shop.rehearse(then(), mistake)
    names = {each.name for each in found.findings}
    assert name in names
    assert names - {name} <= also
    assert any(each.name == name and detail in each.detail for each in found.findings)
    text = markdown(found)
    assert f"| **{name}** |" in text
    assert "not explained by the declared versions" in text
