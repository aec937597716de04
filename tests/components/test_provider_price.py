"""Prices: replaced in the right order, no lookup key taken from others, amounts exact to the twelfth decimal."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pulumi.output import UNKNOWN

from components.account import StripeRefusal
from components.providers.default_price import DefaultPriceProvider
from components.providers.lifecycle import ProviderError
from components.providers.price import PriceProvider
from components.providers.product import ProductProvider
from components.providers.values import decimal_string
from tests.components.world import PULUMI, State, World, as_pulumi_sends, licensed, metered


def prices(world: World) -> dict[str, dict[str, Any]]:
    return {each["id"]: each for each in world.stripe("get", "/v1/prices", limit=100)["data"]}


# -- replacement ----------------------------------------------------------------------------------------------------


def test_the_new_price_answers_to_the_lookup_key_before_the_old_one_is_archived(world: World) -> None:
    product = world.product()
    old = world.price(product.id, lookup_key="pro")
    world.forget_calls()
    new = world.price_change(product.id, old, lookup_key="pro", unit_amount_decimal="12000")
    posts = [f"{each.method} {each.path} {unquote(each.body)}" for each in world.sent if each.method == "POST"]
    assert len(posts) == 2
    assert "transfer_lookup_key=true" in posts[0]
    assert posts[1].startswith(f"POST /v1/prices/{old.id} ")
    assert "active=false" in posts[1]
    there = prices(world)
    assert (there[new.id]["lookup_key"], there[new.id]["active"]) == ("pro", True)
    assert (there[old.id]["lookup_key"], there[old.id]["active"]) == (None, False)


def test_a_key_that_moves_between_two_prices_of_the_stack(world: World) -> None:
    """A plan's versions: the offered one has the key, and it moves in place."""
    product = world.product()
    first = world.price(product.id, "v1", lookup_key="offered")
    second = world.price(product.id, "v2", lookup_key="offered", unit_amount_decimal="1")
    assert prices(world)[second.id]["lookup_key"] == "offered"
    again = world.price_change(product.id, first, "v1", lookup_key="offered", nickname="back")
    assert again.id == first.id
    assert prices(world)[first.id]["lookup_key"] is None
    back = world.price_change(product.id, again, "v1", nickname="without")
    world.price_change(product.id, back, "v1", lookup_key="offered")
    assert prices(world)[first.id]["lookup_key"] == "offered"
    assert prices(world)[second.id]["lookup_key"] is None


def test_another_stack_s_lookup_key_is_never_taken(world: World) -> None:
    product = world.product()
    theirs = world.process().provider(PriceProvider)
    held = theirs.create({**licensed(product.id), "lookup_key": "pro", "owner": "project/prod/fee"})
    nothing: dict[str, Any] = {}
    for more in (nothing, {"transfer_lookup_key": True}):
        with pytest.raises(ProviderError, match=rf"'pro' belongs to {held.id}, which project/prod/fee created"):
            world.price(product.id, lookup_key="pro", **more)
    assert prices(world)[held.id]["lookup_key"] == "pro"


def test_an_update_never_takes_the_lookup_key_of_another_stack(world: World) -> None:
    """Sent with the update, `transfer_lookup_key` would let Stripe take it from whoever has it."""
    product = world.product()
    theirs = world.process().provider(PriceProvider)
    held = theirs.create({**licensed(product.id), "lookup_key": "pro", "owner": "project/prod/fee"})
    plain = world.price(product.id)
    with pytest.raises(ProviderError, match=rf"'pro' belongs to {held.id}, which project/prod/fee created"):
        world.price_change(product.id, plain, lookup_key="pro", transfer_lookup_key=True)
    assert prices(world)[held.id]["lookup_key"] == "pro"


def test_a_key_is_taken_from_what_the_state_holds_under_another_owner(world: World) -> None:
    """The stack was renamed, or the price imported: the new price is created before anything else tells whose it is."""
    product = world.product()
    old = world.price(product.id, lookup_key="pro")
    world.stripe("post", f"/v1/prices/{old.id}", metadata={"pulumi": "project/before/license"})
    new = world.price_change(product.id, old, unit_amount_decimal="2", lookup_key="pro")
    there = prices(world)
    assert (there[new.id]["lookup_key"], there[new.id]["active"], there[old.id]["active"]) == ("pro", True, False)


def test_nobody_s_lookup_key_is_taken_only_when_the_program_says_so(world: World) -> None:
    product = world.product()
    hand_made = world.stripe("post", "/v1/prices", product=product.id, currency="usd", unit_amount=1, lookup_key="pro")
    with pytest.raises(ProviderError, match="transfer_lookup_key=True takes the key from it"):
        world.price(product.id, lookup_key="pro")
    plain = world.price(product.id)
    with pytest.raises(ProviderError, match="no program created"):
        world.price_change(product.id, plain, lookup_key="pro")
    taken = world.price_change(product.id, plain, lookup_key="pro", transfer_lookup_key=True)
    assert taken.id == plain.id
    assert prices(world)[taken.id]["lookup_key"] == "pro"
    assert prices(world)[hand_made["id"]]["lookup_key"] is None


def test_a_default_price_is_let_go_before_it_is_archived(world: World) -> None:
    product = world.product()
    fee = world.price(product.id)
    world.stripe("post", f"/v1/products/{product.id}", default_price=fee.id)
    world.destroy(PriceProvider, fee)
    assert world.stripe("get", f"/v1/products/{product.id}")["default_price"] is None
    assert prices(world)[fee.id]["active"] is False


def test_a_default_price_by_the_dashboard_s_choice_is_its_replacement_then(world: World, said: set[str]) -> None:
    """Payment links and price tables of a product without one would break."""
    product = world.product()
    fee = world.price(product.id)
    path = f"/v1/products/{product.id}"
    world.stripe("post", path, default_price=fee.id)
    dearer = world.price_change(product.id, fee, unit_amount_decimal="2")
    assert world.stripe("get", path)["default_price"] == dearer.id
    assert any(f"({fee.id}): was the default price of {product.id}, which now has {dearer.id}" in line for line in said)
    # In a run that was cut short before the old price went, the next one knows the new price from the state.
    cut = world.process().provider(PriceProvider)
    arguments = {**dearer.inputs, "unit_amount_decimal": "3"}
    cut.diff(dearer.id, dearer.outs, arguments)
    third = cut.create(arguments)
    then = world.process().provider(PriceProvider)
    then.diff(third.id, third.outs or {}, arguments)
    then.delete(dearer.id, dearer.outs)
    assert world.stripe("get", path)["default_price"] == third.id
    # A price of another product cannot be it.
    other = world.product("other")
    world.price_change(other.id, State(third.id, arguments, third.outs or {}))
    assert world.stripe("get", path)["default_price"] is None


def test_a_default_price_that_the_program_archives_says_what_to_do(world: World) -> None:
    product = world.product()
    fee = world.price(product.id)
    world.up(DefaultPriceProvider, "pro", {"product": product.id, "price": fee.id})
    with pytest.raises(StripeRefusal, match=r"is the default price of its product.* Give the DefaultPrice another"):
        world.price_change(product.id, fee, active=False)


def test_a_default_price_is_replaced_by_way_of_the_link(world: World) -> None:
    """In Pulumi's order: the new price, the link to it, the old price."""
    product = world.product()
    old = world.price(product.id)
    link = world.up(DefaultPriceProvider, "pro", {"product": product.id, "price": old.id})
    run = world.process()
    provider = run.provider(PriceProvider)
    checked = provider.check({}, {**licensed(product.id), "unit_amount_decimal": "1", "owner": "project/dev/license"})
    assert provider.diff(old.id, old.outs, checked.inputs).replaces == ["unit_amount_decimal"]
    new = provider.create(checked.inputs)
    link = world.up(DefaultPriceProvider, "pro", {"product": product.id, "price": new.id}, link, run)
    world.forget_calls()
    provider.delete(old.id, old.outs)
    assert world.calls() == [f"POST /v1/prices/{old.id}"]
    assert world.stripe("get", f"/v1/products/{product.id}")["default_price"] == new.id


@pytest.mark.parametrize("key", ["pro", None])
def test_a_forced_replacement_makes_another_price(world: World, key: str | None) -> None:
    """`replace_on_changes`: the old object must not be found and then archived."""
    product = world.product()
    old = world.price(product.id, lookup_key=key)
    provider = world.process().provider(PriceProvider)
    provider.diff(old.id, {**old.outs, **PULUMI}, {**old.inputs, **PULUMI})
    new = provider.create(old.inputs)
    provider.delete(old.id, old.outs)
    assert new.id != old.id
    assert prices(world)[new.id]["active"] is True
    assert prices(world)[new.id]["lookup_key"] == key


def test_a_product_that_a_price_made_is_named_when_it_stays(world: World, said: set[str]) -> None:
    price = world.up(PriceProvider, "p", {"currency": "usd", "unit_amount": 3, "product_data": {"name": "Support"}})
    product = world.stripe("get", f"/v1/prices/{price.id}")["product"]
    world.destroy(PriceProvider, price)
    assert any(f"the product {product}, made by product_data, stays in Stripe" in line for line in said)


# -- diffs ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "replaces"),
    [
        ({}, {"nickname": "x"}, []),
        ({}, {"unit_amount_decimal": "10000.000"}, []),
        ({}, {"unit_amount": 10000, "unit_amount_decimal": None}, []),
        ({}, {"unit_amount": 10001, "unit_amount_decimal": None}, ["unit_amount", "unit_amount_decimal"]),
        ({}, {"billing_scheme": "per_unit"}, []),
        ({}, {"recurring": {"interval": "month", "interval_count": 1, "usage_type": "licensed"}}, []),
        ({}, {"recurring": {"interval": "month", "interval_count": 2}}, ["recurring"]),
        ({}, {"recurring": None}, ["recurring"]),
        ({}, {"product": UNKNOWN}, ["product"]),
        ({}, {"unit_amount_decimal": UNKNOWN}, ["unit_amount_decimal"]),
        ({}, {"tax_behavior": "exclusive"}, []),
        ({"tax_behavior": "unspecified"}, {"tax_behavior": "inclusive"}, []),
        ({"tax_behavior": "exclusive"}, {"tax_behavior": "inclusive"}, ["tax_behavior"]),
        ({"tax_behavior": "exclusive"}, {"tax_behavior": None}, []),
        (
            {"currency_options": {"eur": {"unit_amount": 1, "tax_behavior": "exclusive"}}},
            {"currency_options": {"eur": {"unit_amount": 2, "tax_behavior": "exclusive"}}},
            [],
        ),
        (
            {"currency_options": {"eur": {"unit_amount": 1, "tax_behavior": "exclusive"}}},
            {"currency_options": {"eur": {"unit_amount": 1, "tax_behavior": "inclusive"}}},
            ["currency_options"],
        ),
        ({"metadata": {"a": "1"}}, {"metadata": {"a": "2", "b": "3"}}, []),
        ({"lookup_key": "a"}, {"lookup_key": "b"}, []),
        ({"active": True}, {"active": False}, []),
    ],
)
def test_what_replaces_and_what_does_not(
    world: World, old: dict[str, Any], new: dict[str, Any], replaces: list[str]
) -> None:
    provider = world.process().provider(PriceProvider)
    base = {**licensed("prod_1"), "owner": "project/dev/p"}
    before = as_pulumi_sends(provider.check(base, {**base, **old}).inputs)
    after = provider.check(before, {**base, **old, **new})
    assert after.failures == []
    result = provider.diff("price_1", {**before, **PULUMI}, {**after.inputs, **PULUMI})
    assert result.replaces == replaces
    # The engine compares the inputs itself and shows only what changed.
    assert result.changes is None
    assert result.delete_before_replace is False
    assert world.calls() == []


def test_another_spelling_of_a_tier_s_amounts_is_no_change(world: World) -> None:
    provider = world.process().provider(PriceProvider)
    old = {**metered("prod_1", "mtr_1"), "owner": "project/dev/p"}
    same = [{"up_to": 1000, "unit_amount": 0}, {"up_to": "inf", "unit_amount_decimal": "0.040"}]
    other = [{"up_to": 1000, "unit_amount": 1}, {"up_to": "inf", "unit_amount_decimal": "0.04"}]
    for tiers, replaces in ((same, []), (other, ["tiers"])):
        new = provider.check({}, {**old, "tiers": tiers}).inputs
        assert provider.diff("price_1", old, new).replaces == replaces


def test_a_replacement_says_what_keeps_the_old_price(world: World, said: set[str]) -> None:
    provider = world.process().provider(PriceProvider)
    old = {**licensed("prod_1"), "owner": "project/dev/fee"}
    provider.diff("price_1", old, {**old, "unit_amount_decimal": "1"})
    # Whether subscriptions move, theirs say: under `--target` they may not be part of the run.
    [line] = said
    assert line.endswith("subscriptions on it go on paying it, unless a line of this preview moves them")
    provider.diff("price_1", old, {**old, "tax_behavior": "exclusive"})
    assert [line for line in said if "cannot be undone" in line]
    once = {"owner": "project/dev/once", "product": "prod_1", "currency": "usd", "unit_amount": 1}
    provider.diff("price_3", once, {**once, "unit_amount": 2})
    assert [line for line in said if line == "Price 'once' (price_3): stays in Stripe, archived"]


def test_a_tax_behavior_that_stays_is_no_news(world: World, said: set[str]) -> None:
    provider = world.process().provider(PriceProvider)
    old = {**licensed("prod_1"), "owner": "project/dev/fee", "tax_behavior": "exclusive"}
    provider.diff("price_1", old, {**old, "nickname": "x"})
    provider.diff("price_2", {**old, "tax_behavior": "unspecified"}, {**old, "tax_behavior": "unspecified"})
    assert said == set()


def test_a_tier_put_between_others_is_told_by_its_bound(world: World, said: set[str]) -> None:
    """The engine compares lists by position, and prints each tier after it as changed."""
    provider = world.process().provider(PriceProvider)
    free, rest = {"up_to": 1000, "unit_amount_decimal": "0"}, {"up_to": "inf", "unit_amount_decimal": "0.04"}
    middle = {"up_to": 5000, "unit_amount_decimal": "0.05", "flat_amount": 100}
    old = {**metered("prod_1", "mtr_1"), "owner": "project/dev/usage", "tiers": [free, rest]}
    provider.diff("price_1", old, {**old, "tiers": [free, middle, rest]})
    provider.diff("price_2", {**old, "tiers": [free, middle, rest]}, {**old, "tiers": [{**rest, "flat_amount": 5}]})
    assert {line for line in said if "by up_to" in line} == {
        "Price 'usage' (price_1): tiers by up_to: 5000: none => unit_amount_decimal 0.05, flat_amount 100",
        (
            "Price 'usage' (price_2): tiers by up_to: 1000: unit_amount_decimal 0 => none; "
            "5000: unit_amount_decimal 0.05, "
            "flat_amount 100 => none; inf: unit_amount_decimal 0.04 => unit_amount_decimal 0.04, flat_amount 5"
        ),
    }
    provider.diff("price_3", old, {**old, "tiers": [{**free, "up_to": 2000}, rest]})
    assert not [line for line in said if "price_3" in line and "by up_to" in line]


# -- currencies, tiers ----------------------------------------------------------------------------------------------


def test_one_of_several_currencies_is_taken_away(world: World) -> None:
    product = world.product()
    both = {"eur": {"unit_amount": 900}, "gbp": {"unit_amount_decimal": "800.5"}}
    price = world.price(product.id, currency_options=both)
    less = world.price_change(product.id, price, currency_options={"gbp": {"unit_amount_decimal": "800.5"}})
    assert less.id == price.id
    there = world.stripe("get", f"/v1/prices/{price.id}", expand=["currency_options"])["currency_options"]
    assert sorted(there) == ["gbp", "usd"]
    after = world.refresh(PriceProvider, less)
    assert after is not None
    assert after.inputs == less.inputs


@pytest.mark.parametrize("change", ["changed", "added", "taken out", "taken out and changed"])
def test_a_currency_that_the_program_does_not_change_stays_as_somebody_set_it(world: World, change: str) -> None:
    """Sent again, it would undo what was set in the dashboard, and no preview would have shown it."""
    product = world.product()
    declared = {"eur": {"unit_amount": 900}, "gbp": {"unit_amount": 800}, "chf": {"unit_amount": 700}}
    price = world.price(product.id, currency_options=declared)
    path = f"/v1/prices/{price.id}"
    by_hand = {"gbp": {"unit_amount": 850, "tax_behavior": "exclusive"}, "jpy": {"unit_amount": 5000}}
    world.stripe("post", path, currency_options=by_hand)
    after = {
        "changed": {**declared, "eur": {"unit_amount": 950}},
        "added": {**declared, "sek": {"unit_amount": 9000}},
        "taken out": {code: declared[code] for code in ("eur", "gbp")},
        "taken out and changed": {"eur": {"unit_amount": 950}, "gbp": declared["gbp"]},
    }[change]
    world.price_change(product.id, price, currency_options=after)
    there = world.stripe("get", path, expand=["currency_options"])["currency_options"]
    assert there.keys() == after.keys() | {"usd", "jpy"}
    assert (there["gbp"]["unit_amount"], there["gbp"]["tax_behavior"]) == (850, "exclusive")
    assert there["eur"]["unit_amount"] == after["eur"]["unit_amount"]


def test_a_currency_in_tiers_stays_when_another_is_removed(world: World) -> None:
    product, meter = world.product(), world.meter()
    tiers = [{"up_to": 10, "unit_amount": 7, "flat_amount": 5}, {"up_to": "inf", "unit_amount_decimal": "0.5"}]
    arguments = metered(product.id, meter.id)
    options = {"eur": {"tiers": tiers}, "gbp": {"tiers": tiers}}
    price = world.up(PriceProvider, "usage", {**arguments, "currency_options": options})
    path = f"/v1/prices/{price.id}"
    dearer = [{"up_to": 10, "unit_amount": 8}, {"up_to": "inf", "unit_amount_decimal": "0.25"}]
    world.stripe("post", path, currency_options={"gbp": {"tiers": dearer}})
    world.up(PriceProvider, "usage", {**arguments, "currency_options": {"gbp": {"tiers": tiers}}}, price)
    there = world.stripe("get", path, expand=["currency_options.gbp.tiers"])["currency_options"]
    assert there.keys() == {"usd", "gbp"}
    assert [tier["unit_amount_decimal"] for tier in there["gbp"]["tiers"]] == ["8", "0.25"]


def test_a_currency_goes_and_comes_and_goes_within_a_day(world: World) -> None:
    product = world.product()
    one, both = {"gbp": {"unit_amount": 8}}, {"eur": {"unit_amount": 9}, "gbp": {"unit_amount": 8}}
    price = world.price(product.id, currency_options=both)
    for options in (one, both, one, both, one):
        price = world.price_change(product.id, price, currency_options=options)
        there = world.stripe("get", f"/v1/prices/{price.id}", expand=["currency_options"])["currency_options"]
        assert there.keys() - {"usd"} == options.keys()


def test_tiers_of_a_currency(world: World) -> None:
    product, meter = world.product(), world.meter()
    euro = [{"up_to": 1000, "unit_amount_decimal": "0"}, {"up_to": "inf", "unit_amount_decimal": "0.035"}]
    arguments = {**metered(product.id, meter.id), "currency_options": {"eur": {"tiers": euro}}}
    price = world.up(PriceProvider, "usage", arguments)
    after = world.refresh(PriceProvider, price)
    assert after is not None
    assert after.inputs == price.inputs


def test_tiers_of_a_currency_that_somebody_changes_are_drift_and_come_back(world: World) -> None:
    product, meter = world.product(), world.meter()
    euro = [{"up_to": 1000, "unit_amount_decimal": "0"}, {"up_to": "inf", "unit_amount_decimal": "0.035"}]
    arguments = {**metered(product.id, meter.id), "currency_options": {"eur": {"tiers": euro}}}
    prices = [world.up(PriceProvider, name, arguments) for name in ("one", "two")]
    dearer = [{"up_to": "inf", "unit_amount_decimal": "0.07"}]
    run = world.process()
    for price in prices:
        path = f"/v1/prices/{price.id}"
        world.stripe("post", path, currency_options={"eur": {"tiers": dearer}})
        # The first is fetched by itself, the second comes from a list, which shows no currency's tiers.
        found = world.refresh(PriceProvider, price, run)
        assert found is not None
        assert found.inputs["currency_options"] == as_pulumi_sends({"eur": {"tiers": dearer}})
        repaired = world.up(PriceProvider, price.inputs["owner"].rpartition("/")[2], arguments, found)
        assert repaired.id == price.id
        [low, high] = world.stripe("get", path, expand=["currency_options.eur.tiers"])["currency_options"]["eur"][
            "tiers"
        ]
        assert (low["up_to"], high["unit_amount_decimal"]) == (1000, "0.035")


def test_a_custom_amount_in_a_currency(world: World) -> None:
    product = world.product()
    custom = {"enabled": True, "minimum": 100}
    arguments = {
        "product": product.id,
        "currency": "usd",
        "custom_unit_amount": custom,
        "currency_options": {"eur": {"custom_unit_amount": {**custom, "maximum": 900}}},
    }
    price = world.up(PriceProvider, "gift", arguments)
    after = world.refresh(PriceProvider, price)
    assert after is not None
    assert after.inputs == price.inputs


def test_a_product_made_with_its_price_is_not_seen_as_drift(world: World) -> None:
    price = world.up(PriceProvider, "one", {"product_data": {"name": "P"}, "currency": "usd", "unit_amount": 1})
    assert price.outs["type"] == "one_time"
    after = world.refresh(PriceProvider, price)
    assert after is not None
    assert after.inputs == price.inputs


# -- numbers --------------------------------------------------------------------------------------------------------

AMOUNTS = st.decimals(min_value=0, max_value=10**9, places=12, allow_nan=False, allow_infinity=False)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(amount=AMOUNTS)
def test_twelve_decimals_survive_a_round_trip(world: World, amount: Any) -> None:
    product = world.process().provider(ProductProvider).create({"name": "P", "owner": f"project/dev/{amount}"})
    price = world.price(product.id, f"p{amount}", unit_amount_decimal=format(amount, "f"))
    after = world.refresh(PriceProvider, price)
    assert after is not None
    assert after.inputs["unit_amount_decimal"] == decimal_string(format(amount, "f"))
    assert after.inputs == price.inputs


def test_no_float_reaches_stripe(world: World) -> None:
    """Pulumi passes every number as a float; none reaches Stripe."""
    product, meter = (
        world.product(package_dimensions={"height": 1.5, "length": 2, "weight": 3, "width": 4}),
        world.meter(),
    )
    world.forget_calls()
    world.up(PriceProvider, "usage", {**metered(product.id, meter.id), "metadata": {"n": "1.0"}})
    body = unquote(next(each.body for each in world.sent if each.method == "POST"))
    assert "tiers[0][up_to]=1000&" in body
    assert "tiers[1][unit_amount_decimal]=0.04&" in body
    assert ".0" not in body.replace("=0.04", "").replace("metadata[n]=1.0", "")


@pytest.mark.parametrize(
    ("given_value", "canonical"),
    [
        ("0.040", "0.04"),
        ("00.04", "0.04"),
        (".5", "0.5"),
        ("5.", "5"),
        ("+3", "3"),
        ("-0", "0"),
        (4.0, "4"),
        (10**15, "1000000000000000"),
        ("123456789012345678901234567890.000000000001", "123456789012345678901234567890.000000000001"),
        ("1e3", None),
        ("0x1", None),
        ("1,5", None),
        ("", None),
        ("Infinity", None),
        (0.1, None),
        (True, None),
        (None, None),
    ],
)
def test_amounts_have_one_spelling(given_value: object, canonical: str | None) -> None:
    assert decimal_string(given_value) == canonical
