"""Subscriptions: items by key, one bill at a time, and no usage lost silently."""

from __future__ import annotations

import itertools
from typing import Any
from urllib.parse import unquote

import pytest
from pulumi.output import UNKNOWN

from components.account import StripeRefusal
from components.providers import differ
from components.providers.customer import CustomerProvider
from components.providers.lifecycle import ProviderError
from components.providers.price import PriceProvider
from components.providers.product import ProductProvider
from components.providers.subscription import SUBSCRIPTION, SubscriptionProvider
from tests.components.world import State, World, anchor, invoiced, licensed, metered


class Acme:
    """A customer, two fees, two usage prices, and a subscription that changes."""

    def __init__(self, world: World, **more: Any) -> None:
        self.world = world
        self.product, self.meter = world.product().id, world.meter().id
        self.fee, self.dearer = world.price(self.product).id, world.price(self.product, "dearer").id
        self.usage = world.up(PriceProvider, "usage", metered(self.product, self.meter)).id
        self.other_usage = world.up(PriceProvider, "other", metered(self.product, self.meter)).id
        self.customer = world.customer().id
        self.more = more
        self.items: dict[str, Any] = {"license": {"price": self.fee, "quantity": 3}, "usage": {"price": self.usage}}
        self.state = self.up(None)

    def up(self, state: State | None, **more: Any) -> State:
        arguments = {**invoiced(self.customer), "items": self.items, **self.more, **more}
        self.state = self.world.up(SubscriptionProvider, "acme", arguments, state)
        return self.state

    def change(self, items: dict[str, Any], **more: Any) -> State:
        self.items = items
        return self.up(self.state, **more)

    def remote(self) -> dict[str, Any]:
        return self.world.stripe("get", f"/v1/subscriptions/{self.state.id}")

    def prices(self) -> dict[str, tuple[str, Any]]:
        """Item id -> (price, quantity), as Stripe has it."""
        return {item["id"]: (item["price"]["id"], item.get("quantity")) for item in self.remote()["items"]["data"]}

    def refreshed(self) -> State:
        after = self.world.refresh(SubscriptionProvider, self.state)
        assert after is not None
        return after


@pytest.fixture
def acme(world: World) -> Acme:
    return Acme(world)


# -- items ----------------------------------------------------------------------------------------------------------


def test_seats_change_in_place(acme: Acme) -> None:
    ids = acme.state.outs["item_ids"]
    acme.world.forget_calls()
    after = acme.change({**acme.items, "license": {"price": acme.fee, "quantity": 5}})
    assert after.outs["item_ids"] == ids
    assert acme.prices() == {ids["license"]: (acme.fee, 5), ids["usage"]: (acme.usage, None)}
    posts = [unquote(each.body) for each in acme.world.sent if each.method == "POST"]
    assert len(posts) == 1
    # Only what changed is sent.
    assert "price" not in posts[0]
    assert acme.refreshed().inputs == after.inputs


def test_an_item_moves_to_another_price_as_itself(acme: Acme) -> None:
    ids = acme.state.outs["item_ids"]
    acme.change({**acme.items, "license": {"price": acme.dearer, "quantity": 3}})
    assert acme.prices()[ids["license"]] == (acme.dearer, 3)
    acme.change({**acme.items, "usage": {"price": acme.other_usage}})
    assert acme.prices()[ids["usage"]] == (acme.other_usage, None)
    assert acme.state.outs["item_ids"] == ids


def test_a_price_that_changes_its_currency_is_reported_where_it_is_billed(acme: Acme, said: set[str]) -> None:
    """Stripe refuses it in the middle of the run: the preview says so, and what to do."""
    run = acme.world.process()
    prices, subscriptions = run.provider(PriceProvider), run.provider(SubscriptionProvider)
    fee = {**licensed(acme.product), "owner": "project/dev/license"}
    moved = {**acme.state.inputs, "items": {**acme.items, "license": {"price": UNKNOWN, "quantity": 3}}}

    def warned(**more: Any) -> bool:
        prices.diff(acme.fee, fee, {**fee, **more})
        said.clear()
        subscriptions.diff(acme.state.id, acme.state.outs, moved)
        return any(
            "item license: Price 'license' is in eur, and the subscription bills in usd" in each for each in said
        )

    assert warned(currency="eur")
    assert not warned(unit_amount_decimal="2")
    assert not warned(currency="eur", currency_options={"usd": {"unit_amount": 5}})
    euro = acme.world.price(acme.product, "euro", currency="eur").id
    with pytest.raises(StripeRefusal, match=r"expected currency.* declare the prices' currency"):
        acme.change({**acme.items, "license": {"price": euro, "quantity": 3}})
    old = acme.state.id
    acme.items = {"license": {"price": euro, "quantity": 3}}
    assert acme.up(acme.state, currency="eur").id != old


def test_a_fee_in_another_currency_than_the_price_s_own_is_not_told_in_that(acme: Acme) -> None:
    assert acme.state.outs["fees"] == {"license": "300.00 USD a month"}
    both = acme.world.price(acme.product, "both", currency_options={"eur": {"unit_amount": 900}}).id
    items = {"license": {"price": both}}
    other = acme.world.customer("other").id
    state = acme.world.subscription(other, items, "euro", currency="eur")
    assert "USD" not in str(state.outs["fees"])


def test_a_state_that_does_not_know_its_currency_replaces_nothing(acme: Acme) -> None:
    """Older versions did not keep it: a currency that the program begins to declare is then no replacement."""
    del acme.state.outs["billing_currency"]
    known = acme.state.id
    with pytest.raises(ProviderError, match=r"bills in usd, and currency is eur; .* run pulumi refresh"):
        acme.up(acme.state, currency="eur")
    acme.world.forget_calls()
    assert acme.up(acme.state, currency="usd").id == known
    assert {each.method for each in acme.world.sent} == {"GET"}
    assert acme.state.outs["billing_currency"] == "usd"
    # From now on it is known, and another one takes a new subscription.
    declared = {**acme.state.inputs, "currency": "eur"}
    assert differ.replaces(SUBSCRIPTION, acme.state.inputs, declared) == ["currency"]


def test_an_item_that_is_removed_stops_billing(acme: Acme) -> None:
    ids = acme.state.outs["item_ids"]
    after = acme.change({"usage": {"price": acme.usage}})
    assert list(acme.prices()) == [ids["usage"]]
    assert after.outs["item_ids"] == {"usage": ids["usage"]}
    assert acme.refreshed().inputs == after.inputs


@pytest.mark.parametrize(
    ("mode", "how", "usage", "fee"),
    [
        ("flexible", None, "usage so far is billed on the next invoice", "prorated on the next invoice"),
        ("flexible", "always_invoice", "usage so far is billed at once", "prorated at once"),
        ("flexible", "none", "usage in this period is not billed", "not prorated"),
        ("classic", "always_invoice", "usage in this period is not billed", "prorated at once"),
    ],
)
def test_what_becomes_of_the_rest_of_the_period_is_reported(
    world: World, said: set[str], mode: str, how: str | None, usage: str, fee: str
) -> None:
    acme = Acme(world, billing_mode={"type": mode}, allow_unbilled_usage=True)
    more = {"proration_behavior": how} if how else {}
    provider = world.process().provider(SubscriptionProvider)
    for key, sentence in (("usage", usage), ("license", fee)):
        rest = {other: item for other, item in acme.items.items() if other != key}
        said.clear()
        provider.diff(acme.state.id, acme.state.outs, {**acme.state.inputs, **more, "items": rest})
        [line] = said
        assert f"item {key} is removed; " in line
        assert sentence in line


def test_an_item_is_added_beside_the_others(acme: Acme) -> None:
    ids = acme.state.outs["item_ids"]
    after = acme.change({"a-first": {"price": acme.dearer, "metadata": {"why": "more"}}, **acme.items})
    assert {key: after.outs["item_ids"][key] for key in ids} == ids
    assert acme.prices()[after.outs["item_ids"]["a-first"]] == (acme.dearer, 1)
    assert acme.refreshed().inputs == after.inputs


def test_renaming_a_key_makes_another_item(acme: Acme) -> None:
    """The key is the item's name; Stripe takes a price once, so the price must move on."""
    acme.change({"seats": {"price": acme.dearer, "quantity": 3}, "usage": {"price": acme.usage}})
    assert sorted(acme.prices().values(), key=str) == sorted([(acme.dearer, 3), (acme.usage, None)], key=str)


def test_an_item_moves_from_seats_to_usage_and_back(acme: Acme) -> None:
    """A metered item has no quantity, so removing it sets nothing to 1."""
    items = {"only": {"price": acme.fee, "quantity": 3}}
    acme.change(items)
    after = acme.change({"only": {"price": acme.usage}})
    assert list(acme.prices().values()) == [(acme.usage, None)]
    assert acme.refreshed().inputs == after.inputs
    acme.change({"only": {"price": acme.fee, "quantity": 3}})
    acme.change({"only": {"price": acme.dearer}})
    assert list(acme.prices().values()) == [(acme.dearer, 1)]


def test_a_declared_quantity_is_not_dropped_where_the_item_becomes_metered(acme: Acme) -> None:
    with pytest.raises(StripeRefusal, match="quantity"):
        acme.change({**acme.items, "license": {"price": acme.other_usage, "quantity": 3}})
    assert (acme.fee, 3) in acme.prices().values()


@pytest.mark.parametrize("mode", ["flexible", "classic"])
def test_an_item_whose_key_is_renamed_stays_the_item(world: World, said: set[str], mode: str) -> None:
    """Removed and added again it would be prorated, and in classic mode its usage lost."""
    acme = Acme(world, billing_mode={"type": mode})
    ids = acme.state.outs["item_ids"]
    acme.change({**acme.items, "usage": {"price": acme.usage, "metadata": {"a": "1"}}})
    run = world.process().provider(SubscriptionProvider)
    renamed = {"seats": {"price": acme.fee, "quantity": 4}, "tokens": {"price": acme.usage}}
    run.diff(acme.state.id, acme.state.outs, {**acme.state.inputs, "items": renamed})
    assert not any("is removed" in line for line in said)
    assert any("item license is seats from now on; in Stripe it stays the same item" in line for line in said)
    after = acme.change(renamed)
    assert after.outs["item_ids"] == {"seats": ids["license"], "tokens": ids["usage"]}
    items = {item["id"]: item for item in acme.remote()["items"]["data"]}
    assert (items[ids["license"]]["quantity"], items[ids["usage"]]["metadata"]) == (4, {"pulumi": "tokens"})
    assert acme.refreshed().inputs == after.inputs
    world.forget_calls()
    acme.change(renamed)
    assert world.calls() == []


def test_two_items_swap_their_prices(acme: Acme) -> None:
    acme.change({"a": {"price": acme.fee, "quantity": 2}, "b": {"price": acme.dearer}})
    ids = acme.state.outs["item_ids"]
    after = acme.change({"a": {"price": acme.dearer, "quantity": 2}, "b": {"price": acme.fee}})
    assert acme.prices() == {ids["a"]: (acme.dearer, 2), ids["b"]: (acme.fee, 1)}
    assert acme.refreshed().inputs == after.inputs


def test_an_item_of_its_own_price_that_was_moved_shows(acme: Acme) -> None:
    recurring = {"interval": "month"}
    data = {"currency": "usd", "product": acme.product, "recurring": recurring, "unit_amount_decimal": "12.50"}
    after = acme.change({**acme.items, "license": {"price_data": data, "quantity": 3}})
    item = after.outs["item_ids"]["license"]
    acme.world.stripe("post", f"/v1/subscription_items/{item}", price=acme.dearer, quantity=3)
    drifted = acme.refreshed()
    assert drifted.inputs["items"]["license"] == {"price": acme.dearer, "quantity": 3}
    acme.state = drifted
    acme.change(acme.items)
    assert acme.remote()["items"]["data"][0]["price"]["unit_amount_decimal"] == "12.5"
    assert acme.refreshed().inputs == after.inputs


def test_what_is_removed_of_an_item_is_unset(acme: Acme) -> None:
    rich = {"price": acme.fee, "quantity": 3, "metadata": {"a": "1", "b": "2"}}
    acme.change({**acme.items, "license": rich})
    after = acme.change({**acme.items, "license": {"price": acme.fee, "metadata": {"b": "2"}}})
    item = acme.world.stripe("get", f"/v1/subscription_items/{after.outs['item_ids']['license']}")
    assert item["quantity"] == 1
    assert item["metadata"] == {"b": "2", "pulumi": "license"}
    assert acme.refreshed().inputs == after.inputs


def test_an_item_of_its_own_price(acme: Acme) -> None:
    data = {
        "currency": "usd",
        "product": acme.product,
        "recurring": {"interval": "month"},
        "unit_amount_decimal": "1234",
    }
    after = acme.change({**acme.items, "license": {"price_data": data, "quantity": 3}})
    assert acme.refreshed().inputs == after.inputs
    ids = after.outs["item_ids"]
    assert acme.prices()[ids["license"]][0] not in (acme.fee, acme.dearer)
    acme.change({**acme.items, "license": {"price": acme.fee, "quantity": 3}})
    assert acme.prices()[ids["license"]] == (acme.fee, 3)


def test_items_changed_behind_our_back_show_and_are_put_right(acme: Acme) -> None:
    ids = acme.state.outs["item_ids"]
    path = f"/v1/subscriptions/{acme.state.id}"
    acme.world.stripe(
        "post", path, items=[{"id": ids["license"], "quantity": 9}, {"id": ids["usage"], "deleted": True}]
    )
    foreign = acme.world.stripe("post", path, items=[{"price": acme.dearer, "quantity": 2}])
    added = next(item["id"] for item in foreign["items"]["data"] if item["price"]["id"] == acme.dearer)
    drifted = acme.refreshed()
    assert drifted.inputs["items"] == {
        "license": {"price": acme.fee, "quantity": 9},
        added: {"price": acme.dearer, "quantity": 2},
    }
    acme.up(drifted)
    assert sorted(acme.prices().values(), key=str) == sorted([(acme.fee, 3), (acme.usage, None)], key=str)


def test_a_quantity_that_was_never_declared_is_one(acme: Acme) -> None:
    acme.change({**acme.items, "license": {"price": acme.fee}})
    declared, item = acme.items, acme.state.outs["item_ids"]["license"]
    acme.world.stripe("post", f"/v1/subscription_items/{item}", quantity=5)
    drifted = acme.refreshed()
    assert drifted.inputs["items"]["license"] == {"price": acme.fee, "quantity": 5}
    acme.state = drifted
    acme.change(declared)
    assert acme.prices()[item] == (acme.fee, 1)


def test_an_item_that_nobody_has_seen_yet_is_not_touched(acme: Acme) -> None:
    """Without a refresh an update removes only what was removed from the program."""
    acme.world.stripe("post", f"/v1/subscriptions/{acme.state.id}", items=[{"price": acme.dearer}])
    acme.change({**acme.items, "license": {"price": acme.fee, "quantity": 4}})
    assert len(acme.prices()) == 3


def test_an_item_that_a_lost_run_has_added_goes_when_the_program_says_nothing_of_it(acme: Acme) -> None:
    """It is in no state, and would bill forever: the key in its metadata names the owner."""
    before = acme.state
    acme.change({**acme.items, "more": {"price": acme.dearer}})
    assert len(acme.prices()) == 3
    acme.state = before
    acme.change({"license": {"price": acme.fee, "quantity": 4}, "usage": {"price": acme.usage}})
    assert sorted(acme.prices().values(), key=str) == sorted([(acme.fee, 4), (acme.usage, None)], key=str)


def test_a_lost_response_to_a_change_of_items_beside_another_s(acme: Acme) -> None:
    """It is already done, although the subscription has more than is declared: nothing is sent again."""
    acme.world.stripe("post", f"/v1/subscriptions/{acme.state.id}", items=[{"price": acme.dearer}])
    acme.world.control("faults", method="POST", path="/v1/subscriptions/*", when="after", drop=True)
    acme.world.forget_calls()
    acme.change({**acme.items, "more": {"price": acme.other_usage}})
    posts = [each.headers["idempotency-key"] for each in acme.world.sent if each.method == "POST"]
    assert (len(posts), len(set(posts))) == (2, 1)


def test_a_lost_response_beside_an_item_of_somebody_else(acme: Acme) -> None:
    """The update is known to be done although the subscription has more than is declared."""
    acme.world.stripe("post", f"/v1/subscriptions/{acme.state.id}", items=[{"price": acme.dearer}])
    acme.world.control("faults", method="POST", path="/v1/subscriptions/*", when="after", drop=True)
    once = acme.world.price(acme.product, "once", recurring=None).id
    acme.world.forget_calls()
    items = {**acme.items, "more": {"price": acme.other_usage}}
    acme.change(items, add_invoice_items=[{"price": once}])
    assert len(acme.prices()) == 4
    charged = acme.world.stripe("get", "/v1/invoiceitems", customer=acme.customer)["data"]
    assert [each["pricing"]["price_details"]["price"] for each in charged].count(once) == 1
    posts = [each for each in acme.world.sent if each.method == "POST"]
    # What is charged and what is changed have a key each, whatever is tried again.
    assert len({each.headers["idempotency-key"] for each in posts}) == 2


def test_twenty_items_are_all_read(world: World) -> None:
    """If Stripe returns only the first items of a subscription, the rest are in a separate list."""
    product, customer = world.product().id, world.customer().id
    items = {f"i{n:02}": {"price": world.price(product, f"p{n}").id} for n in range(20)}
    state = world.subscription(customer, items)
    assert len(state.outs["item_ids"]) == 20
    after = world.refresh(SubscriptionProvider, state)
    assert after is not None
    assert after.inputs == state.inputs
    remote = world.stripe("get", f"/v1/subscriptions/{state.id}")
    first = {**remote, "items": {**remote["items"], "data": remote["items"]["data"][:10], "has_more": True}}
    provider = world.process().provider(SubscriptionProvider)
    assert provider.reconciler.outputs(state.inputs, first)["item_ids"] == state.outs["item_ids"]


def test_seats_that_somebody_set_stay_when_the_price_changes(acme: Acme) -> None:
    """Stripe sets an item whose price changes to a quantity of 1 unless one is sent: it is the one that is there."""
    ids = acme.state.outs["item_ids"]
    acme.world.stripe("post", f"/v1/subscription_items/{ids['license']}", quantity=11)
    acme.change({**acme.items, "license": {"price": acme.dearer, "quantity": 3}})
    assert acme.prices()[ids["license"]] == (acme.dearer, 11)
    # Under `ignore_changes` the engine hands over what the state has, here after a refresh.
    acme.state = acme.refreshed()
    assert acme.state.inputs["items"]["license"]["quantity"] == 11
    acme.change({**acme.items, "license": {"price": acme.fee, "quantity": 11}})
    assert acme.prices()[ids["license"]] == (acme.fee, 11)
    # Without it the refresh has shown the drift, and the declared number comes back.
    acme.change({**acme.items, "license": {"price": acme.fee, "quantity": 3}})
    assert acme.prices()[ids["license"]] == (acme.fee, 3)


def test_seats_that_nobody_declares_stay_when_the_price_changes(acme: Acme) -> None:
    acme.change({**acme.items, "license": {"price": acme.fee}})
    item = acme.state.outs["item_ids"]["license"]
    acme.world.stripe("post", f"/v1/subscription_items/{item}", quantity=11)
    acme.change({**acme.items, "license": {"price": acme.dearer}})
    assert acme.prices()[item] == (acme.dearer, 11)


def test_an_item_says_only_what_changes_of_it(acme: Acme) -> None:
    coupon = acme.world.stripe("post", "/v1/coupons", percent_off=10, duration="forever")["id"]
    item = acme.state.outs["item_ids"]["license"]
    rich = {"price": acme.fee, "quantity": 3, "metadata": {"a": "1", "b": "1"}}
    acme.change({**acme.items, "license": rich})
    by_hand = {"quantity": 11, "metadata": {"b": "2"}, "discounts": [{"coupon": coupon}]}
    acme.world.stripe("post", f"/v1/subscription_items/{item}", **by_hand)
    other = acme.world.stripe("post", "/v1/coupons", percent_off=5, duration="forever")["id"]
    changed = {**rich, "metadata": {"a": "2", "b": "1"}, "discounts": [{"coupon": other}]}
    acme.change({**acme.items, "license": changed})
    there = acme.world.stripe("get", f"/v1/subscription_items/{item}", expand=["discounts"])
    assert there["quantity"] == 11
    assert there["metadata"] == {"a": "2", "b": "2", "pulumi": "license"}
    assert [each["source"]["coupon"] for each in there["discounts"]] == [other, coupon]


def test_an_item_that_somebody_has_deleted_is_not_added_again_by_another_change(acme: Acme, said: set[str]) -> None:
    acme.world.stripe(
        "post",
        f"/v1/subscriptions/{acme.state.id}",
        items=[{"id": acme.state.outs["item_ids"]["usage"], "deleted": True}],
    )
    acme.change({**acme.items, "license": {"price": acme.fee, "quantity": 4}})
    assert list(acme.prices().values()) == [(acme.fee, 4)]
    assert any("item usage is gone from Stripe, and this change leaves it out; pulumi refresh" in line for line in said)
    acme.state = acme.refreshed()
    acme.change(acme.items)
    assert sorted(acme.prices().values(), key=str) == sorted([(acme.fee, 4), (acme.usage, None)], key=str)


def test_what_the_program_does_not_change_is_not_sent(acme: Acme) -> None:
    """Each of these was set in the dashboard after it was declared; no preview has shown it, so nothing undoes it."""
    declared: dict[str, Any] = {
        "metadata": {"a": "1", "b": "1"},
        "payment_settings": {
            "save_default_payment_method": "off",
            "payment_method_types": ["card"],
            "payment_method_options": {
                "card": {"request_three_d_secure": "any"},
                "us_bank_account": {"verification_method": "instant"},
            },
        },
    }
    acme.up(acme.state, **declared)
    acme.world.stripe(
        "post",
        f"/v1/subscriptions/{acme.state.id}",
        metadata={"b": "2"},
        payment_settings={
            "save_default_payment_method": "on_subscription",
            "payment_method_options": {"us_bank_account": {"verification_method": "automatic"}},
        },
    )
    options = {
        **declared["payment_settings"]["payment_method_options"],
        "card": {"request_three_d_secure": "challenge"},
    }
    payment = {**declared["payment_settings"], "payment_method_types": ["link"], "payment_method_options": options}
    acme.up(acme.state, **{**declared, "metadata": {"a": "2", "b": "1"}, "payment_settings": payment})
    there = acme.remote()
    assert (there["metadata"]["a"], there["metadata"]["b"]) == ("2", "2")
    settings = there["payment_settings"]
    assert settings["payment_method_types"] == ["link"]
    assert settings["save_default_payment_method"] == "on_subscription"
    assert settings["payment_method_options"]["card"]["request_three_d_secure"] == "challenge"
    assert settings["payment_method_options"]["us_bank_account"]["verification_method"] == "automatic"


# -- billing modes --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("moved", [True, False])
def test_usage_is_not_dropped_without_a_word_where_nothing_is_prorated(acme: Acme, moved: bool) -> None:
    """`proration_behavior="none"` drops the usage until then in flexible mode too."""
    acme.more = {"proration_behavior": "none"}
    items = {**acme.items, "usage": {"price": acme.other_usage}} if moved else {"license": acme.items["license"]}
    acme.world.forget_calls()
    with pytest.raises(
        ProviderError, match=r"items\.usage is metered and proration_behavior is none, .*leave proration_behavior out"
    ):
        acme.change(items)
    assert acme.world.calls() == []
    acme.state.outs["metered_items"] = []
    with pytest.raises(ProviderError, match=r"items\.usage is metered and proration_behavior is none"):
        acme.change(items)
    acme.change(items, allow_unbilled_usage=True)
    assert (acme.other_usage if moved else acme.fee) in str(acme.prices())


def test_what_is_licensed_moves_freely_where_nothing_is_prorated(acme: Acme) -> None:
    acme.more = {"proration_behavior": "none"}
    acme.change({**acme.items, "license": {"price": acme.dearer, "quantity": 3}})
    assert acme.dearer in str(acme.prices())


class TestClassic:
    @pytest.fixture
    def acme(self, world: World) -> Acme:
        return Acme(world, billing_mode={"type": "classic"})

    @pytest.mark.parametrize("moved", [True, False])
    def test_usage_is_not_dropped_without_a_word(self, acme: Acme, moved: bool) -> None:
        items = {**acme.items}
        if moved:
            items["usage"] = {"price": acme.other_usage}
        else:
            del items["usage"]
        acme.world.forget_calls()
        with pytest.raises(ProviderError, match=r"items.usage is metered .* allow_unbilled_usage=True"):
            acme.change(items)
        # It was refused in the preview, which asks nobody.
        assert acme.world.calls() == []
        acme.change(items, allow_unbilled_usage=True)
        assert (acme.other_usage if moved else acme.fee) in str(acme.prices())

    def test_it_is_refused_too_when_the_state_does_not_know(self, acme: Acme) -> None:
        acme.state.outs["metered_items"] = []
        with pytest.raises(ProviderError, match=r"items\.usage is metered"):
            acme.change({**acme.items, "usage": {"price": acme.other_usage}})
        with pytest.raises(ProviderError, match=r"items\.usage is metered .* once the item is removed"):
            acme.change({"license": {"price": acme.fee, "quantity": 3}})
        assert acme.usage in str(acme.prices())

    def test_seats_change_freely(self, acme: Acme) -> None:
        acme.change({**acme.items, "license": {"price": acme.dearer, "quantity": 1}})
        assert acme.dearer in str(acme.prices())

    def test_flexible_by_migration_and_then_the_swap(self, acme: Acme, said: set[str]) -> None:
        before = acme.state.id
        acme.more = {"billing_mode": {"type": "flexible"}}
        acme.world.forget_calls()
        after = acme.change({**acme.items, "usage": {"price": acme.other_usage}})
        assert after.id == before
        assert acme.remote()["billing_mode"]["type"] == "flexible"
        assert acme.other_usage in str(acme.prices())
        posts = [each.path.rpartition("/")[2] for each in acme.world.sent if each.method == "POST"]
        assert posts[0] == "migrate"
        assert any("cannot be undone" in line for line in said)
        assert acme.refreshed().inputs == after.inputs


def test_flexible_does_not_go_back(acme: Acme) -> None:
    old = acme.up(acme.state, billing_mode={"type": "flexible"})
    new = acme.up(old, billing_mode={"type": "classic"})
    assert new.id != old.id
    assert acme.remote()["billing_mode"]["type"] == "classic"


def test_flexible_that_was_never_declared_does_not_go_back_either(acme: Acme) -> None:
    """Stripe's own default is flexible: classic declared later is another subscription, not a state that lies."""
    assert acme.state.outs["billing_mode_type"] == "flexible"
    old = acme.state
    after = acme.up(old, billing_mode={"type": "classic"})
    assert after.id != old.id
    assert acme.remote()["billing_mode"]["type"] == "classic"
    assert acme.refreshed().inputs == after.inputs


def test_a_flexible_one_that_a_lost_run_made_is_not_taken_for_a_classic_one(acme: Acme) -> None:
    with pytest.raises(
        ProviderError, match=r"has billing_mode \{'type': 'flexible'\} .declared: \{'type': 'classic'\}"
    ):
        acme.up(None, billing_mode={"type": "classic"})


def test_writing_down_what_stripe_has_filled_in_is_no_change(acme: Acme) -> None:
    old = acme.state
    included = {"type": "flexible", "flexible": {"proration_discounts": "included"}}
    flexible: dict[str, Any] = {"billing_mode": {"type": "flexible"}}
    for more in ({"currency": "usd"}, {}, flexible, {"billing_mode": included}, {}):
        assert acme.up(acme.state, **more).id == old.id
    provider = acme.world.process().provider(SubscriptionProvider)
    assert provider.diff(old.id, old.outs, {**old.inputs, "currency": "eur"}).replaces == ["currency"]
    product = acme.world.product("typed")
    run = acme.world.process().provider(ProductProvider)
    assert run.diff(product.id, product.outs, {**product.inputs, "type": "service"}).replaces == []
    assert run.diff(product.id, product.outs, {**product.inputs, "type": "good"}).replaces == ["type"]


def test_how_flexible_billing_shows_discounts_is_chosen_once(acme: Acme) -> None:
    old = acme.state
    mode = {"type": "flexible", "flexible": {"proration_discounts": "itemized"}}
    new = acme.up(old, billing_mode=mode)
    assert new.id != old.id
    assert acme.refreshed().inputs == new.inputs


# -- endings --------------------------------------------------------------------------------------------------------


def test_a_replaced_subscription_ends_before_the_new_one_bills(acme: Acme, said: set[str]) -> None:
    old, other = acme.state, acme.world.customer("other").id
    acme.more = {"cancel": {"when": "period_end"}}
    old = acme.up(old)
    acme.world.forget_calls()
    acme.customer = other
    new = acme.up(old)
    calls = [call for call in acme.world.calls() if not call.startswith("GET")]
    # Now, whatever `cancel` says for the day it is taken out of the program.
    assert calls == [f"DELETE /v1/subscriptions/{old.id}", "POST /v1/subscriptions"]
    live = acme.world.stripe("get", "/v1/subscriptions")["data"]
    assert [each["id"] for each in live] == [new.id]
    assert any("cancelled now" in line and "cannot be undone" in line for line in said)


def test_one_that_this_run_has_cancelled_is_not_said_to_bill(acme: Acme, said: set[str]) -> None:
    """What was listed before it was cancelled is older than the cancellation."""
    run = acme.world.process()
    acme.world.up(SubscriptionProvider, "first", {**invoiced(acme.customer), "items": acme.items}, process=run)
    moved = {**acme.state.inputs, "customer": acme.world.customer("other").id}
    acme.world.up(SubscriptionProvider, "acme", moved, acme.state, run)
    assert not any("still bills" in line for line in said)


@pytest.mark.parametrize(
    ("cancel", "sent"),
    [
        ({}, "invoice_now=true&prorate=false"),
        ({"invoice_now": False, "prorate": True}, "invoice_now=false&prorate=true"),
        ({"comment": "Bye"}, "cancellation_details[comment]=Bye"),
    ],
)
def test_it_is_cancelled_as_declared(world: World, cancel: dict[str, Any], sent: str) -> None:
    acme = Acme(world, **({"cancel": cancel} if cancel else {}))
    assert acme.state.inputs["cancel"]["when"] == "now"
    world.forget_calls()
    world.destroy(SubscriptionProvider, acme.state)
    [call] = [each for each in world.sent if each.method == "DELETE"]
    assert sent in unquote(f"{call.query}&{call.body}")
    assert acme.remote()["status"] == "canceled"
    assert world.refresh(SubscriptionProvider, acme.state) is None


def test_at_the_end_of_the_period(world: World, said: set[str]) -> None:
    acme = Acme(world, cancel={"when": "period_end"})
    world.destroy(SubscriptionProvider, acme.state)
    there = acme.remote()
    assert (there["status"], there["cancel_at_period_end"]) == ("active", True)
    # Ended by somebody else in between, there is nothing left to end.
    world.stripe("delete", f"/v1/subscriptions/{acme.state.id}")
    world.destroy(SubscriptionProvider, acme.state)
    assert any(acme.state.id in line and "ends with its current period" in line for line in said)


def test_one_whose_first_payment_was_never_made_ends_now(world: World) -> None:
    acme = Acme(world)
    first = world.up(
        SubscriptionProvider,
        "unpaid",
        {
            "customer": acme.customer,
            "payment_behavior": "default_incomplete",
            "items": {"license": {"price": acme.fee}},
            "cancel": {"when": "period_end"},
        },
    )
    path = f"/v1/subscriptions/{first.id}"
    assert world.stripe("get", path)["status"] == "incomplete"
    world.destroy(SubscriptionProvider, first)
    assert world.stripe("get", path)["status"] == "canceled"


def test_one_that_a_schedule_manages_says_what_to_do(world: World) -> None:
    acme = Acme(world, cancel={"when": "period_end"})
    schedule = world.stripe("post", "/v1/subscription_schedules", from_subscription=acme.state.id)["id"]
    with pytest.raises(ProviderError, match=f"{schedule}, which this program did not create .* then run again"):
        world.destroy(SubscriptionProvider, acme.state)
    world.stripe("post", f"/v1/subscription_schedules/{schedule}/release")
    world.destroy(SubscriptionProvider, acme.state)
    assert acme.remote()["cancel_at_period_end"] is True


def test_one_that_the_engine_replaces_by_itself_ends_now(world: World) -> None:
    """`replace_on_changes`: the provider's own diff calls the change an update."""
    acme = Acme(world, cancel={"when": "period_end"})
    run = world.process().provider(SubscriptionProvider)
    more = {**acme.state.inputs, "description": "x"}
    run.check(acme.state.inputs, more)
    difference = run.diff(acme.state.id, acme.state.outs, more)
    assert (difference.replaces, difference.delete_before_replace) == ([], True)
    # A replacement is checked as a new one.
    run.check({}, more)
    run.delete(acme.state.id, acme.state.outs)
    new = run.create(more)
    assert [each["id"] for each in world.stripe("get", "/v1/subscriptions")["data"]] == [new.id]


def test_one_that_was_renamed_without_an_alias_is_reported_to_bill_anew(world: World, said: set[str]) -> None:
    """To Pulumi it is another one, made before the old one goes; no preview asks the provider about that."""
    acme = Acme(world)
    declared = {**invoiced(acme.customer), "items": acme.items}
    run = world.process()
    new = world.up(SubscriptionProvider, "renamed", declared, process=run)
    other = world.up(SubscriptionProvider, "other", {**declared, "items": {"a": {"price": acme.dearer}}}, process=run)
    said.clear()
    world.destroy(SubscriptionProvider, acme.state, run)
    [line] = said
    assert line.startswith(f"Subscription 'acme' ({acme.state.id}): cancelled, and {new.id}, made in this run, bills")
    assert acme.fee in line
    # One that is only taken out says nothing, nor one whose unused time is given back.
    said.clear()
    world.destroy(SubscriptionProvider, other, world.process())
    credited = world.up(SubscriptionProvider, "credited", {**declared, "cancel": {"prorate": True}})
    run = world.process()
    world.up(SubscriptionProvider, "again", declared, process=run)
    said.clear()
    world.destroy(SubscriptionProvider, credited, run)
    assert said == set()


def test_one_that_is_replaced_ends_now_in_a_later_run_too(world: World, said: set[str]) -> None:
    """With `delete_before_replace=False` and a run that was killed in between, the next one only deletes."""
    acme = Acme(world, cancel={"when": "period_end"})
    more = {**acme.state.inputs, "description": "x"}
    first = world.process().provider(SubscriptionProvider)
    first.diff(acme.state.id, acme.state.outs, more)
    new = first.create(more)
    assert any(f"a new one is created while {acme.state.id} still bills" in line for line in said)
    then = world.process().provider(SubscriptionProvider)
    then.diff(new.id, new.outs or {}, more)
    then.delete(acme.state.id, acme.state.outs)
    assert [each["id"] for each in world.stripe("get", "/v1/subscriptions")["data"]] == [new.id]


def test_a_refresh_says_nothing_of_what_an_update_would_do(world: World, said: set[str]) -> None:
    """Pulumi asks a refresh's diff the other way round: from what Stripe has to what the state has."""
    acme = Acme(world, billing_mode={"type": "classic"})
    ids = acme.state.outs["item_ids"]
    world.stripe("post", f"/v1/subscription_items/{ids['usage']}", price=acme.other_usage)
    extra = world.price(acme.product, "extra").id
    world.stripe("post", "/v1/subscription_items", subscription=acme.state.id, price=extra)
    run = world.process()
    drifted = world.refresh(SubscriptionProvider, acme.state, run)
    assert drifted is not None
    said.clear()
    provider = run.provider(SubscriptionProvider)
    provider.diff(acme.state.id, drifted.outs, acme.state.inputs)
    assert said == set()
    # What the update that follows would do is said, and refused, in the same run.
    with pytest.raises(ProviderError, match=r"items\.usage is metered and billing_mode is classic"):
        provider.diff(acme.state.id, drifted.outs, acme.state.inputs)
    provider.diff(acme.state.id, drifted.outs, {**acme.state.inputs, "allow_unbilled_usage": True})
    assert any("is removed" in line for line in said)


def test_at_the_end_of_the_longest_period(world: World) -> None:
    acme = Acme(world)
    yearly = world.price(acme.product, "yearly", recurring={"interval": "year"}).id
    items = {"license": {"price": acme.fee}, "support": {"price": yearly}}
    declared = {**invoiced(acme.customer), "items": items, "cancel": {"when": "period_end"}}
    first = world.up(SubscriptionProvider, "mixed", declared)
    world.destroy(SubscriptionProvider, first)
    there = world.stripe("get", f"/v1/subscriptions/{first.id}")
    assert there["cancel_at"] == max(item["current_period_end"] for item in there["items"]["data"])
    again = world.up(SubscriptionProvider, "mixed", declared)
    assert again.id == first.id
    assert world.stripe("get", f"/v1/subscriptions/{first.id}")["cancel_at"] is None


def test_a_date_to_end_set_in_the_dashboard_shows(acme: Acme) -> None:
    path = f"/v1/subscriptions/{acme.state.id}"
    at = acme.world.stripe("get", path)["created"] + 86_400
    acme.world.stripe("post", path, cancel_at=at)
    drifted = acme.refreshed()
    assert drifted.inputs["cancel_at"] == at
    acme.up(drifted)
    assert acme.remote()["cancel_at"] is None


def test_what_a_deleted_customer_takes_along_is_named(acme: Acme, said: set[str]) -> None:
    world = acme.world
    paying = world.customer("paying")
    by_hand = world.stripe("post", "/v1/subscriptions", **invoiced(paying.id), items=[{"price": acme.fee}])["id"]
    world.destroy(CustomerProvider, paying)
    assert world.stripe("get", f"/v1/subscriptions/{by_hand}")["status"] == "canceled"
    assert f"Customer 'paying' ({paying.id}): deleted together with {by_hand}, which was not cancelled" in said


def test_a_customer_with_an_ending_subscription_stays(world: World, said: set[str]) -> None:
    """`pulumi destroy` takes the subscription and then the customer; deleting it would cut the period short."""
    acme = Acme(world, cancel={"when": "period_end"})
    customer = world.customer()
    world.destroy(SubscriptionProvider, acme.state)
    world.destroy(CustomerProvider, customer)
    assert acme.remote()["status"] == "active"
    assert any(customer.id in line and "stays in Stripe" in line for line in said)


def test_what_is_gone_says_to_refresh(acme: Acme) -> None:
    world = acme.world
    customer = world.customer("gone")
    world.stripe("delete", f"/v1/customers/{customer.id}")
    with pytest.raises(StripeRefusal, match=r"No such customer.* Run pulumi refresh, .* then pulumi up"):
        world.up(CustomerProvider, "gone", {"name": "x"}, customer)
    world.stripe("delete", f"/v1/subscriptions/{acme.state.id}")
    with pytest.raises(
        StripeRefusal, match=r"Run pulumi refresh, which sees that it has ended, then pulumi up, which creates a new"
    ):
        acme.up(acme.state, description="x")


def test_items_of_one_that_stripe_does_not_know_say_to_refresh(acme: Acme) -> None:
    """As after test data was erased."""
    acme.state = State("sub_unknown", acme.state.inputs, acme.state.outs)
    with pytest.raises(ProviderError, match=r"\(sub_unknown\): is gone from Stripe; run pulumi refresh"):
        acme.change({**acme.items, "license": {"price": acme.fee, "quantity": 4}})


def test_a_customer_of_more_than_a_page_of_subscriptions_stays_too(acme: Acme) -> None:
    world = acme.world
    many = world.customer("many")
    every = {**invoiced(many.id), "items": [{"price": acme.fee}]}
    ending = world.stripe("post", "/v1/subscriptions", **every, cancel_at_period_end=True)["id"]
    for _ in range(100):
        world.stripe("post", "/v1/subscriptions", **every)
    world.destroy(CustomerProvider, many)
    assert world.stripe("get", f"/v1/subscriptions/{ending}")["status"] == "active"


def test_an_end_set_in_the_dashboard_shows(acme: Acme) -> None:
    acme.world.stripe("post", f"/v1/subscriptions/{acme.state.id}", cancel_at_period_end=True)
    drifted = acme.refreshed()
    assert drifted.inputs["cancel_at_period_end"] is True
    acme.up(drifted)
    assert acme.remote()["cancel_at_period_end"] is False


@pytest.mark.parametrize("end", [{"cancel_at_period_end": True}, {"cancel_at": "max_period_end"}])
def test_one_that_ended_as_declared_is_not_created_again(acme: Acme, end: dict[str, Any], said: set[str]) -> None:
    """Made again, it would bill the customer for another period, and end, and so on."""
    world = acme.world
    acme.up(acme.state, **end)
    world.control("clock", advance=40 * 86_400)
    assert acme.remote()["status"] == "canceled"
    after = acme.refreshed()
    assert (after.inputs, after.outs["has_ended"]) == (acme.state.inputs, True)
    world.forget_calls()
    assert acme.up(after, **end).id == after.id
    assert world.calls() == []
    # What Stripe still updates is updated; with anything else the program wants another one, and the preview says so.
    ended = acme.up(after, **end, metadata={"a": "1"})
    assert acme.remote()["metadata"] == {"a": "1", "pulumi": "project/dev/acme"}
    acme.state = ended
    ended = acme.refreshed()
    assert (ended.id, ended.outs["has_ended"]) == (after.id, True)
    provider = world.process().provider(SubscriptionProvider)
    moved = {**ended.inputs, "customer": world.customer("other").id, "description": "x"}
    assert provider.diff(ended.id, ended.outs, moved).replaces == ["customer", "description"]
    new = acme.up(ended, metadata={"a": "1"})
    assert new.id != after.id
    assert (acme.remote()["status"], new.outs["has_ended"]) == ("active", False)
    assert any("has ended, and a new subscription is created" in line for line in said)
    world.destroy(SubscriptionProvider, ended)


def test_one_that_is_cancelled_before_its_declared_end_is_created_again(acme: Acme) -> None:
    acme.up(acme.state, cancel_at_period_end=True)
    acme.world.stripe("delete", f"/v1/subscriptions/{acme.state.id}")
    assert acme.world.refresh(SubscriptionProvider, acme.state) is None


def test_a_trial_that_somebody_prolongs_shows(acme: Acme) -> None:
    end = acme.remote()["created"] + 10 * 86_400
    acme.up(acme.state, trial_end=end)
    assert acme.refreshed().inputs == acme.state.inputs
    acme.world.stripe("post", f"/v1/subscriptions/{acme.state.id}", trial_end=end + 86_400)
    assert acme.refreshed().inputs["trial_end"] == end + 86_400
    # One that was ended stays ended as declared, whatever date that was.
    acme.up(acme.refreshed(), trial_end="now")
    assert acme.refreshed().inputs == acme.state.inputs


def test_paused_in_the_dashboard_shows(acme: Acme) -> None:
    acme.world.stripe("post", f"/v1/subscriptions/{acme.state.id}", pause_collection={"behavior": "void"})
    drifted = acme.refreshed()
    assert drifted.inputs["pause_collection"] == {"behavior": "void"}
    acme.up(drifted)
    assert acme.remote()["pause_collection"] is None


def test_one_way_to_end_becomes_the_other(acme: Acme) -> None:
    first = acme.up(acme.state, cancel_at_period_end=True)
    second = acme.up(first, cancel_at="max_period_end")
    assert (acme.remote()["cancel_at_period_end"], acme.remote()["cancel_at"] is None) == (False, False)
    assert acme.refreshed().inputs == second.inputs
    acme.world.stripe("post", f"/v1/subscriptions/{second.id}", cancel_at="")
    assert "cancel_at" not in acme.refreshed().inputs
    acme.up(second, cancel_at_period_end=True)
    assert acme.remote()["cancel_at_period_end"] is True


# -- discounts ------------------------------------------------------------------------------------------------------


def coupon(world: World, duration: str, **more: Any) -> str:
    return str(world.stripe("post", "/v1/coupons", percent_off=10, duration=duration, **more)["id"])


def coupons_of(world: World, id_: str, *, of_items: bool = False) -> list[str]:
    """The coupons of a subscription of Stripe's, or those of its items."""
    there = world.stripe("get", f"/v1/subscriptions/{id_}", expand=["discounts", "items.data.discounts"])
    holders = there["items"]["data"] if of_items else [there]
    return [each["source"]["coupon"] for holder in holders for each in holder["discounts"]]


@pytest.mark.parametrize("of_items", [False, True])
@pytest.mark.parametrize("by", ["coupon", "promotion_code"])
def test_a_discount_that_is_used_up_is_not_given_again(world: World, of_items: bool, by: str) -> None:
    once, always = coupon(world, "once"), coupon(world, "forever")
    first, customer = {"coupon": once}, world.customer("discounted").id
    if by == "promotion_code":
        promotion = {"type": "coupon", "coupon": once}
        first = {"promotion_code": world.stripe("post", "/v1/promotion_codes", promotion=promotion)["id"]}
    price = world.price(world.product().id).id
    given = {"discounts": [first, {"coupon": always}]}

    def declared(discounts: dict[str, Any], quantity: int = 1) -> dict[str, Any]:
        item = {"price": price, "quantity": quantity, **(discounts if of_items else {})}
        return {**invoiced(customer), "items": {"license": item}, **({} if of_items else discounts)}

    state = world.up(SubscriptionProvider, "d", declared(given))
    assert coupons_of(world, state.id, of_items=of_items) == [always]
    after = world.refresh(SubscriptionProvider, state)
    assert after is not None
    assert after.inputs == state.inputs
    # Neither another change nor a change of the discounts brings it back.
    state = world.up(SubscriptionProvider, "d", declared(given, 2), after)
    more = {"discounts": [*given["discounts"], {"coupon": coupon(world, "forever")}]}
    state = world.up(SubscriptionProvider, "d", declared(more, 2), state)
    assert once not in coupons_of(world, state.id, of_items=of_items)
    assert len(coupons_of(world, state.id, of_items=of_items)) == 2
    after = world.refresh(SubscriptionProvider, state)
    assert after is not None
    assert after.inputs == state.inputs


@pytest.mark.parametrize("of_items", [False, True])
@pytest.mark.parametrize("duration", ["once", "repeating", "forever"])
@pytest.mark.parametrize("instead", [True, False])
def test_a_coupon_swapped_or_removed_in_the_dashboard_is_drift_and_the_declared_one_comes_back(
    world: World, duration: str, of_items: bool, instead: bool
) -> None:
    """Stripe's invoices tell whether a coupon was used up: a used-up discount disappears too."""
    months = {"duration_in_months": 3} if duration == "repeating" else {}
    mine, other = coupon(world, duration, **months), coupon(world, "forever")
    customer, price = world.customer("discounted").id, world.price(world.product().id).id
    # In its trial nothing has been billed, so that nothing is used up.
    discounts = {"discounts": [{"coupon": mine}]}
    items = {"license": {"price": price, **(discounts if of_items else {})}}
    more = {} if of_items else discounts
    arguments = {**invoiced(customer), "items": items, "trial_period_days": 14, **more}
    state = world.up(SubscriptionProvider, "d", arguments)
    swapped = {"discounts": [{"coupon": other}] if instead else ""}
    item = state.outs["item_ids"]["license"]
    path = f"/v1/subscription_items/{item}" if of_items else f"/v1/subscriptions/{state.id}"
    world.stripe("post", path, **swapped)
    drifted = world.refresh(SubscriptionProvider, state)
    assert drifted is not None
    shown = drifted.inputs["items"]["license"] if of_items else drifted.inputs
    assert shown.get("discounts", []) == (swapped["discounts"] or [])
    state = world.up(SubscriptionProvider, "d", arguments, drifted)
    assert coupons_of(world, state.id, of_items=of_items) == [mine]
    after = world.refresh(SubscriptionProvider, state)
    assert after is not None
    assert after.inputs == state.inputs


def test_a_promotion_code_removed_in_the_dashboard_is_drift(world: World) -> None:
    """The coupon tells whether it was used up."""
    promotion = {"type": "coupon", "coupon": coupon(world, "once")}
    code = world.stripe("post", "/v1/promotion_codes", promotion=promotion)["id"]
    customer, price = world.customer("discounted").id, world.price(world.product().id).id
    arguments = {**invoiced(customer), "items": {"license": {"price": price}}, "discounts": [{"promotion_code": code}]}
    state = world.up(SubscriptionProvider, "d", {**arguments, "trial_period_days": 14})
    world.stripe("post", f"/v1/subscriptions/{state.id}", discounts="")
    drifted = world.refresh(SubscriptionProvider, state)
    assert drifted is not None
    assert "discounts" not in drifted.inputs


def test_what_another_coupon_has_reduced_does_not_use_one_up(acme: Acme) -> None:
    spent, fresh = {"coupon": coupon(acme.world, "once")}, {"coupon": coupon(acme.world, "once")}
    first = acme.world.up(
        SubscriptionProvider,
        "d",
        {**invoiced(acme.customer), "items": {"a": {"price": acme.fee}}, "discounts": [spent]},
    )
    both = {**first.inputs, "discounts": [spent, fresh]}
    state = acme.world.up(SubscriptionProvider, "d", both, first)
    assert coupons_of(acme.world, state.id) == [fresh["coupon"]]
    acme.world.stripe("post", f"/v1/subscriptions/{state.id}", discounts="")
    drifted = acme.world.refresh(SubscriptionProvider, state)
    assert drifted is not None
    assert drifted.inputs["discounts"] == [spent]


def test_a_discount_that_is_declared_by_its_id_and_gone_is_no_drift(acme: Acme) -> None:
    """Nothing grants it again."""
    acme.up(acme.state, discounts=[{"coupon": coupon(acme.world, "forever")}])
    [held] = acme.remote()["discounts"]
    acme.up(acme.state, discounts=[{"discount": held}])
    acme.world.stripe("post", f"/v1/subscriptions/{acme.state.id}", discounts="")
    assert acme.refreshed().inputs == acme.state.inputs


def test_a_repeating_coupon_is_used_up_after_its_months_and_not_before(world: World) -> None:
    mine, other = coupon(world, "repeating", duration_in_months=2), coupon(world, "forever")
    customer, price = world.customer("discounted").id, world.price(world.product().id).id
    arguments = {**invoiced(customer), "items": {"license": {"price": price}}, "discounts": [{"coupon": mine}]}
    state = world.up(SubscriptionProvider, "d", arguments)
    path = f"/v1/subscriptions/{state.id}"
    world.control("clock", advance=35 * 86_400)
    world.stripe("post", path, discounts=[{"coupon": other}])
    drifted = world.refresh(SubscriptionProvider, state)
    assert drifted is not None
    assert drifted.inputs["discounts"] == [{"coupon": other}]
    world.stripe("post", path, discounts=[{"coupon": mine}])
    world.control("clock", advance=100 * 86_400)
    assert coupons_of(world, state.id) == []
    after = world.refresh(SubscriptionProvider, state)
    assert after is not None
    assert after.inputs == state.inputs


def test_a_discount_that_nobody_has_seen_yet_is_not_touched(acme: Acme) -> None:
    """As with items: without a refresh an update removes only what was removed from the program."""
    mine, next_one, other = (coupon(acme.world, "forever") for _ in range(3))
    acme.up(acme.state, discounts=[{"coupon": mine}])
    [held] = acme.remote()["discounts"]
    acme.world.stripe("post", f"/v1/subscriptions/{acme.state.id}", discounts=[{"discount": held}, {"coupon": other}])
    acme.up(acme.state, discounts=[{"coupon": mine}, {"coupon": next_one}])
    assert sorted(coupons_of(acme.world, acme.state.id)) == sorted([mine, next_one, other])
    acme.up(acme.state)
    assert coupons_of(acme.world, acme.state.id) == [other]
    acme.state = acme.refreshed()
    assert "discounts" not in acme.state.inputs


def test_a_coupon_that_is_deleted_or_may_not_be_read_is_taken_for_used_up(world: World) -> None:
    mine = coupon(world, "forever")
    customer, price = world.customer("discounted").id, world.price(world.product().id).id
    arguments = {**invoiced(customer), "items": {"license": {"price": price}}, "discounts": [{"coupon": mine}]}
    state = world.up(SubscriptionProvider, "d", arguments)
    world.stripe("post", f"/v1/subscriptions/{state.id}", discounts="")
    world.control("faults", method="GET", path="/v1/coupons/*", status=403)
    after = world.refresh(SubscriptionProvider, state)
    assert after is not None
    assert after.inputs == state.inputs
    world.heal()
    world.stripe("delete", f"/v1/coupons/{mine}")
    after = world.refresh(SubscriptionProvider, state)
    assert after is not None
    assert after.inputs == state.inputs


def test_discounts_of_an_item_come_and_go(acme: Acme) -> None:
    world = acme.world
    one, other = (world.stripe("post", "/v1/coupons", percent_off=10, duration="forever")["id"] for _ in range(2))

    def given() -> list[str]:
        there = world.stripe("get", f"/v1/subscriptions/{acme.state.id}", expand=["items.data.discounts"])
        [item] = [each for each in there["items"]["data"] if each["price"]["id"] == acme.fee]
        return [each["source"]["coupon"] for each in item["discounts"]]

    for coupons in ([one], [one, other], [other], None, [one], []):
        more = {} if coupons is None else {"discounts": [{"coupon": coupon} for coupon in coupons]}
        after = acme.change({**acme.items, "license": {"price": acme.fee, "quantity": 3, **more}})
        assert given() == (coupons or [])
        assert acme.refreshed().inputs == after.inputs
    # One that somebody else has given shows, and goes.
    item = acme.state.outs["item_ids"]["license"]
    world.stripe("post", f"/v1/subscription_items/{item}", discounts=[{"coupon": other}])
    drifted = acme.refreshed()
    assert drifted.inputs["items"]["license"]["discounts"] == [{"coupon": other}]
    declared = acme.state.inputs["items"]
    acme.state = drifted
    acme.change(declared)
    assert given() == []


def test_discounts_of_a_subscription_come_and_go(acme: Acme) -> None:
    world = acme.world
    one, other = (world.stripe("post", "/v1/coupons", percent_off=10, duration="forever")["id"] for _ in range(2))
    for coupons in ([one], [one, other], [other], None, [one], []):
        more = {} if coupons is None else {"discounts": [{"coupon": coupon} for coupon in coupons]}
        after = acme.up(acme.state, **more)
        there = world.stripe("get", f"/v1/subscriptions/{after.id}", expand=["discounts"])["discounts"]
        assert [each["source"]["coupon"] for each in there] == (coupons or [])
        assert acme.refreshed().inputs == after.inputs


def test_the_anchor_is_reset_in_place(acme: Acme) -> None:
    provider = acme.world.process().provider(SubscriptionProvider)
    new = {**acme.state.inputs, "billing_cycle_anchor": anchor("now")}
    assert provider.diff(acme.state.id, acme.state.outs, new).replaces == []
    assert provider.reconciler.changes(acme.state.id, provider.kind.arguments(acme.state.outs), new) == {
        "billing_cycle_anchor": anchor("now")
    }


def test_an_anchor_that_stays_declared_is_not_reset_by_another_change(acme: Acme) -> None:
    acme.up(acme.state, billing_cycle_anchor=anchor("now"))
    was = acme.remote()["billing_cycle_anchor"]
    acme.world.control("clock", advance=3600)
    acme.change({**acme.items, "license": {"price": acme.fee, "quantity": 5}}, billing_cycle_anchor=anchor("now"))
    assert acme.remote()["billing_cycle_anchor"] == was


def test_a_new_one_has_no_anchor_to_reset(world: World) -> None:
    """Stripe takes a date or nothing when a subscription is created."""
    acme = Acme(world, billing_cycle_anchor=anchor("now"))
    [made] = [each for each in world.sent if str(each) == "POST /v1/subscriptions"]
    assert "billing_cycle_anchor" not in made.body
    assert acme.refreshed().inputs == acme.state.inputs


@pytest.mark.parametrize("mode", ["flexible", "classic"])
def test_the_anchor_is_reset_each_time_it_is_declared_anew(world: World, mode: str) -> None:
    acme = Acme(world, billing_mode={"type": mode})
    anchors = [acme.remote()["billing_cycle_anchor"]]
    for declared in ("now", None, "unchanged", "now", None, "now"):
        world.control("clock", advance=3600)
        after = acme.up(acme.state, **({"billing_cycle_anchor": anchor(declared)} if declared else {}))
        anchors.append(acme.remote()["billing_cycle_anchor"])
        assert acme.refreshed().inputs == after.inputs
    moved = [after - before for before, after in itertools.pairwise(anchors)]
    assert [bool(each) for each in moved] == [True, False, False, True, False, True]


def test_how_a_change_is_made_goes_with_the_change_and_alone_makes_no_call(acme: Acme) -> None:
    acme.world.forget_calls()
    after = acme.up(acme.state, proration_behavior="none", payment_behavior="allow_incomplete")
    assert acme.world.calls() == []
    acme.state = after
    acme.more = {"proration_behavior": "none"}
    acme.change({**acme.items, "license": {"price": acme.fee, "quantity": 9}})
    [body] = [unquote(each.body) for each in acme.world.sent if each.method == "POST"]
    assert "proration_behavior=none" in body


def test_a_price_change_moves_a_subscription_in_pulumi_s_order(world: World) -> None:
    """The new price, the item, the old price: nobody is ever without a price."""
    acme = Acme(world)
    fee = world.up(PriceProvider, "fee", licensed(acme.product))
    acme.change({**acme.items, "license": {"price": fee.id, "quantity": 3}})
    run = world.process()
    provider = run.provider(PriceProvider)
    dearer = {**fee.inputs, "unit_amount_decimal": "1"}
    assert provider.diff(fee.id, fee.outs, dearer).replaces == ["unit_amount_decimal"]
    new = provider.create(dearer)
    acme.change({**acme.items, "license": {"price": new.id, "quantity": 3}})
    provider.delete(fee.id, fee.outs)
    assert acme.prices()[acme.state.outs["item_ids"]["license"]] == (new.id, 3)


def test_the_liable_account_goes_with_its_type(world: World) -> None:
    """Stripe has no way to unset the account alone, and type self takes none."""
    account = str(world.stripe("post", "/_sandbox/accounts")["id"])
    customer = world.customer(address={"country": "PE"}).id
    items = {"license": {"price": world.price(world.product().id).id}}
    liable = {"enabled": True, "liability": {"type": "account", "account": account}}
    first = world.subscription(customer, items, automatic_tax=liable)
    arguments = {**invoiced(customer), "items": items}
    own = {"enabled": True, "liability": {"type": "self"}}
    second = world.up(SubscriptionProvider, "acme", {**arguments, "automatic_tax": own}, first)
    there = world.stripe("get", f"/v1/subscriptions/{second.id}")
    assert there["automatic_tax"] == {"enabled": True, "liability": {"type": "self"}, "disabled_reason": None}
