"""One resource of each kind through its life, as `pulumi up`, `refresh` and `destroy` take it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import traceback
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from components.account import StripeRefusal
from components.providers.customer import CustomerProvider
from components.providers.default_price import DefaultPriceProvider
from components.providers.lifecycle import ProviderError, StripeProvider
from components.providers.meter import MeterProvider
from components.providers.price import PriceProvider
from components.providers.product import ProductProvider
from components.providers.subscription import SubscriptionProvider
from components.pulumi_speed import PROVIDER_THREADS
from tests.components import declarations
from tests.components.world import PROVIDERS, State, World, as_pulumi_sends, invoiced, licensed, metered

Catalog = dict[type[StripeProvider], State]


@pytest.fixture
def catalog(world: World) -> Catalog:
    """One of each kind, all linked."""
    made: Catalog = {}
    for provider in PROVIDERS:
        if provider is SubscriptionProvider:
            usage = metered(made[ProductProvider].id, made[MeterProvider].id)
            items = {
                "license": {"price": made[PriceProvider].id, "quantity": 3},
                "usage": {"price": world.up(PriceProvider, "usage", usage).id},
            }
            made[provider] = world.subscription(made[CustomerProvider].id, items)
        elif provider is PriceProvider:
            made[provider] = world.price(made[ProductProvider].id, lookup_key="pro:license")
        elif provider is DefaultPriceProvider:
            link = {"product": made[ProductProvider].id, "price": made[PriceProvider].id}
            made[provider] = world.up(provider, "pro", link)
        elif declarations.exists(provider.kind):
            made[provider] = world.up(provider, "one", declarations.of(provider.kind).arguments(world))
    return made


def _without(arguments: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in arguments.items() if name not in names}


@pytest.mark.parametrize("provider", PROVIDERS)
def test_refresh_after_up_finds_what_was_declared(
    world: World, catalog: Catalog, provider: type[StripeProvider]
) -> None:
    after = world.refresh(provider, catalog[provider])
    assert after is not None
    assert after.inputs == catalog[provider].inputs
    assert after.outs == catalog[provider].outs


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_second_up_makes_no_call(world: World, catalog: Catalog, provider: type[StripeProvider]) -> None:
    world.forget_calls()
    state = catalog[provider]
    run = world.process()
    name = str(state.inputs["owner"]).rpartition("/")[2]
    assert world.up(provider, name, state.inputs, state, run) is state
    unchanged = run.provider(provider).update(state.id, state.outs, {**state.outs, "__provider": "moved"})
    assert as_pulumi_sends(unchanged.outs) == state.outs
    assert world.calls() == []


@pytest.mark.parametrize("provider", PROVIDERS)
def test_what_stripe_does_not_know_any_more_is_deleted_already(world: World, provider: type[StripeProvider]) -> None:
    """An account's test data can be erased as a whole."""
    erased = {"owner": "project/dev/erased", "product": "prod_erased", "price": "price_erased"}
    world.destroy(provider, State("erased", erased, erased))


@pytest.mark.parametrize("provider", PROVIDERS)
def test_destroy_leaves_what_the_kind_says(world: World, catalog: Catalog, provider: type[StripeProvider]) -> None:
    # A product with prices is archived, and deleted only without.
    left = {"active": False} if provider is ProductProvider else declarations.of(provider.kind).left
    state = catalog[provider]
    world.destroy(provider, state)
    path = f"{provider.kind.path}/{state.id}"
    if left is None:
        with pytest.raises(StripeRefusal, match="No such"):
            world.stripe("get", path)
    else:
        found = world.stripe("get", path)
        assert {name: found.get(name) for name in left} == left
    # Nothing in Stripe is in the way of doing it again, and the run that did it knows what is left.
    run = world.process()
    world.destroy(provider, state, run)
    assert world.refresh(provider, state, run) == world.refresh(provider, state)


def test_a_product_that_never_had_prices_is_deleted(world: World) -> None:
    product = world.product()
    world.destroy(ProductProvider, product)
    assert world.stripe("get", "/v1/products")["data"] == []
    assert world.refresh(ProductProvider, product) is None


def test_a_default_price_link_is_cleared_only_while_it_is_this_price(world: World, catalog: Catalog) -> None:
    product, link = catalog[ProductProvider], catalog[DefaultPriceProvider]
    other = world.price(product.id, "other")
    world.stripe("post", f"/v1/products/{product.id}", default_price=other.id)
    world.destroy(DefaultPriceProvider, link)
    assert world.stripe("get", f"/v1/products/{product.id}")["default_price"] == other.id
    drifted = world.refresh(DefaultPriceProvider, link)
    assert drifted is not None
    assert drifted.inputs["price"] == other.id
    repaired = world.up(DefaultPriceProvider, "pro", {"product": product.id, "price": link.inputs["price"]}, drifted)
    world.destroy(DefaultPriceProvider, repaired)
    assert world.stripe("get", f"/v1/products/{product.id}")["default_price"] is None
    assert world.refresh(DefaultPriceProvider, repaired) is None


def test_retained_objects_are_named(world: World, catalog: Catalog, said: set[str]) -> None:
    for provider in reversed(PROVIDERS):
        world.destroy(provider, catalog[provider])
    for provider in (MeterProvider, ProductProvider, PriceProvider):
        assert any(catalog[provider].id in line for line in said), provider


def test_a_source_makes_the_card_that_is_charged_from_then_on(world: World) -> None:
    """Stripe answers with the card, not the token, so the test looks at the card."""

    def cards() -> list[tuple[bool, str]]:
        there = world.stripe("get", f"/v1/customers/{made.id}", expand=["sources"])
        return [(card["id"] == there["default_source"], card["brand"]) for card in there["sources"]["data"]]

    made = world.up(CustomerProvider, "payer", {"name": "Payer", "source": "tok_visa"})
    assert cards() == [(True, "Visa")]
    changed = world.up(CustomerProvider, "payer", {"name": "Payer", "source": "tok_amex"}, made)
    assert cards() == [(True, "American Express")]
    # One that was added stays when the program says nothing of it any more.
    assert world.up(CustomerProvider, "payer", {"name": "Payer"}, changed).id == made.id
    assert cards() == [(True, "American Express")]


def test_a_live_customer_is_kept_unless_the_program_says_otherwise(world: World, said: set[str]) -> None:
    from tests.components.world import LIVE_KEY

    live = world.process(mode="live", apiKey=LIVE_KEY)
    world.mode = "live"
    kept = world.up(CustomerProvider, "kept", {"name": "Kept"}, process=live)
    gone = world.up(CustomerProvider, "gone", {"name": "Gone", "on_delete": "delete"}, process=live)
    assert kept.inputs["on_delete"] == "keep"
    for state in (kept, gone):
        world.destroy(CustomerProvider, state, world.process(mode="live", apiKey=LIVE_KEY))
    assert world.stripe("get", f"/v1/customers/{kept.id}").get("deleted") is None
    assert world.stripe("get", f"/v1/customers/{gone.id}")["deleted"] is True
    assert any(kept.id in line and "stays" in line for line in said)


def test_a_live_customer_that_is_deleted_with_an_unpaid_invoice_is_reported_to_be(world: World, said: set[str]) -> None:
    from tests.components.world import LIVE_KEY

    world.mode = "live"
    live = world.process(mode="live", apiKey=LIVE_KEY)
    one, other = (
        world.up(CustomerProvider, name, {"name": name, "on_delete": "delete"}, process=live) for name in ("a", "b")
    )
    world.stripe("post", "/v1/invoiceitems", customer=one.id, currency="usd", amount=500)
    invoice = world.stripe("post", "/v1/invoices", customer=one.id, collection_method="send_invoice", days_until_due=3)
    for state in (one, other):
        world.destroy(CustomerProvider, state, world.process(mode="live", apiKey=LIVE_KEY))
    [line] = [line for line in said if "deleted while unpaid" in line]
    assert line.startswith(
        f"Customer 'a' ({one.id}): deleted while unpaid: {invoice['id']}, which Stripe can no longer"
    )
    # A restricted key that may not read invoices can delete all the same.
    restricted = "rk_" + "live_" + "restricted"
    third = world.up(CustomerProvider, "c", {"on_delete": "delete"}, process=live)
    allow = ["GET /v1/account", "* /v1/customers*", "* /v1/subscriptions*"]
    world.control("keys", key=restricted, status="restricted", allow=allow)
    world.destroy(CustomerProvider, third, world.process(mode="live", apiKey=restricted))
    assert world.stripe("get", f"/v1/customers/{third.id}")["deleted"] is True


@pytest.mark.parametrize(
    ("provider", "arguments", "name"),
    [
        (
            MeterProvider,
            {"display_name": "M", "event_name": "m", "default_aggregation": {"formula": "sum"}},
            "event_name",
        ),
        (ProductProvider, {"name": "P", "id": "chosen"}, "id"),
        (PriceProvider, {**licensed("prod_1"), "lookup_key": "pro"}, "lookup_key"),
        (DefaultPriceProvider, {"product": "prod_1", "price": "price_1"}, "product"),
    ],
)
def test_two_resources_that_claim_one_name_are_refused_in_the_preview(
    world: World, provider: type[StripeProvider], arguments: dict[str, Any], name: str
) -> None:
    run = world.process().provider(provider)
    for _ in range(2):
        assert run.check({}, {**arguments, "owner": "project/dev/first"}).failures == []
    [failure] = run.check({}, {**arguments, "owner": "project/dev/second"}).failures
    assert failure.reason.startswith(f"{name}: is also used by first; only one ")


def test_a_chosen_id_that_somebody_else_has(world: World) -> None:
    world.stripe("post", "/v1/products", id="chosen", name="Hand-made")
    with pytest.raises(ProviderError, match="the id 'chosen' belongs to a product that no program created"):
        world.product("pro", id="chosen")
    run = world.process().provider(ProductProvider)
    run.create({"name": "P", "id": "theirs", "owner": "project/prod/p"})
    with pytest.raises(ProviderError, match="that project/prod/p created"):
        world.product("pro", id="theirs")
    # What the refusal says to do.
    with pytest.raises(ProviderError, match='declare adopt="chosen" to adopt it'):
        world.product("pro", id="chosen")
    assert world.product("pro", id="chosen", adopt="chosen").id == "chosen"
    assert world.stripe("get", "/v1/products/chosen")["metadata"] == {"pulumi": "project/dev/pro"}


def test_what_exists_is_adopted_when_its_metadata_says_so(world: World) -> None:
    def mine(name: str) -> dict[str, str]:
        return {"pulumi": f"project/dev/{name}"}

    product = world.stripe("post", "/v1/products", name="Hand-made", metadata=mine("pro"))["id"]
    price = world.stripe("post", "/v1/prices", **licensed(product), lookup_key="k", metadata=mine("license"))["id"]
    customer = world.stripe("post", "/v1/customers", name="By hand", metadata=mine("acme"))["id"]
    subscription = world.stripe(
        "post",
        "/v1/subscriptions",
        **invoiced(customer),
        items=[{"price": price, "quantity": 2}],
        metadata=mine("acme"),
    )
    assert world.product().id == product
    assert world.price(product, lookup_key="k").id == price
    assert world.customer().id == customer
    state = world.subscription(customer, {"license": {"price": price, "quantity": 2}})
    assert state.id == subscription["id"]
    assert state.outs["item_ids"] == {"license": subscription["items"]["data"][0]["id"]}
    assert world.stripe("get", f"/v1/subscriptions/{state.id}")["items"]["data"][0]["quantity"] == 2


def test_a_renamed_resource_takes_its_chosen_id_along(world: World) -> None:
    """Pulumi creates the new resource, then deletes the old one, which is the same product."""
    old = world.product("old-name", id="chosen")
    run = world.process()
    new = world.up(ProductProvider, "new-name", {"name": "P", "id": "chosen"}, process=run)
    world.destroy(ProductProvider, old, run)
    there = world.stripe("get", "/v1/products/chosen")
    assert (there["active"], there["metadata"]["pulumi"]) == (True, "project/dev/new-name")
    assert new.id == old.id


@pytest.mark.parametrize("provider", [MeterProvider, PriceProvider, ProductProvider])
def test_what_will_bill_nobody_new_is_reported_once(
    world: World, said: set[str], provider: type[StripeProvider]
) -> None:
    arguments = {**declarations.of(provider.kind).arguments(world), "owner": "project/dev/n"}
    said.clear()
    run = world.process().provider(provider)
    off = {**arguments, "active": False}
    run.diff("id_1", arguments, off)
    [line] = said
    assert re.search(
        r"\(id_1\): will be (archived: no new subscriptions|inactive: Stripe refuses its meter events)", line
    )
    said.clear()
    # In a run of its own: a line that was told is not told again.
    run = world.process().provider(provider)
    change = declarations.of(provider.kind).change
    for old, new in (
        (off, off),
        (off, arguments),
        (off, {**off, **change}),
        (arguments, {**arguments, **change}),
        (arguments, {**arguments, "active": True}),
    ):
        run.diff("id_1", old, new)
    assert said == set()


def test_a_meter_is_switched_off_and_on(world: World) -> None:
    meter = world.meter(active=False)
    arguments = {name: value for name, value in meter.inputs.items() if name not in ("active", "owner")}
    for more, status in (({"active": False}, "inactive"), ({}, "active"), ({"active": False}, "inactive")):
        meter = world.up(MeterProvider, "tokens", {**arguments, **more}, meter)
        there = world.stripe("get", f"/v1/billing/meters/{meter.id}")
        assert (there["status"], meter.outs["status"]) == (status, status)
        after = world.refresh(MeterProvider, meter)
        assert after is not None
        assert (after.inputs, after.outs) == (meter.inputs, meter.outs)


def test_a_meter_is_replaced_under_its_event_name_by_the_new_one(world: World, said: set[str]) -> None:
    """Deleted first, it would delete the prices on it, with their lookup keys, before there are new ones."""
    old = world.meter("tokens")
    provider = world.process().provider(MeterProvider)
    counting = {**old.inputs, "default_aggregation": {"formula": "count"}}
    difference = provider.diff(old.id, old.outs, counting)
    assert (difference.replaces, difference.delete_before_replace) == (["default_aggregation"], False)
    # Another meter of the program cannot have the name.
    with pytest.raises(ProviderError, match=f"belongs to {old.id}, another meter of this stack"):
        provider.create({**counting, "owner": "project/dev/other"})
    world.forget_calls()
    new = provider.create(counting)
    provider.delete(old.id, old.outs)
    posts = [call for call in world.calls() if call.startswith("POST")]
    assert posts == [f"POST /v1/billing/meters/{old.id}/deactivate", "POST /v1/billing/meters"]
    assert any(f"({old.id}): deactivated" in line for line in said)
    # And back: the first one is there still, and takes the second one's place.
    back = world.process().provider(MeterProvider)
    assert back.diff(new.id, new.outs or {}, old.inputs).replaces == ["default_aggregation"]
    assert back.create(old.inputs).id == old.id
    back.delete(new.id, new.outs or {})
    active = world.stripe("get", "/v1/billing/meters", status="active")["data"]
    assert [each["id"] for each in active] == [old.id]
    # With nothing that differs (`replace_on_changes`) there is no other one to be made: it stays, and is nobody else's.
    said.clear()
    forced = world.process().provider(MeterProvider)
    forced.diff(old.id, old.outs, {**old.inputs, "display_name": "x"})
    assert forced.create({**old.inputs, "display_name": "x"}).id == old.id
    forced.delete(old.id, old.outs)
    assert world.stripe("get", f"/v1/billing/meters/{old.id}")["status"] == "active"
    assert not any("another stack" in line for line in said)


@pytest.mark.parametrize("status", [400, 403])
def test_a_meter_whose_replacement_is_refused_goes_on(world: World, status: int) -> None:
    """Usage that nobody records is lost; the run fails, and what was there works as before."""
    old = world.meter("tokens")
    counting = {**old.inputs, "default_aggregation": {"formula": "count"}}
    world.control("faults", method="POST", path="/v1/billing/meters", status=status, message="No more meters.")
    with pytest.raises(StripeRefusal, match="No more meters"):
        world.up(MeterProvider, "tokens", counting, old)
    assert world.stripe("get", f"/v1/billing/meters/{old.id}")["status"] == "active"
    new = world.up(MeterProvider, "tokens", counting, old)
    active = world.stripe("get", "/v1/billing/meters", status="active")["data"]
    assert [each["id"] for each in active] == [new.id]


def test_a_meter_that_cannot_be_taken_back_is_reported_beside_the_refusal(world: World, said: set[str]) -> None:
    old = world.meter("tokens")
    counting = {**old.inputs, "default_aggregation": {"formula": "count"}}
    world.control("faults", method="POST", path="/v1/billing/meters", status=400, message="No more meters.")
    world.control("faults", method="POST", path="*/reactivate", status=400, message="Not now.")
    with pytest.raises(StripeRefusal, match="No more meters"):
        world.up(MeterProvider, "tokens", counting, old)
    assert [line for line in said if f"({old.id}): stays deactivated, and its usage is refused" in line]


@pytest.mark.parametrize(
    ("more", "name"),
    [({"type": "good"}, "type"), ({"default_price_data": {"currency": "usd", "unit_amount": 2}}, "default_price_data")],
)
def test_under_a_chosen_id_there_is_no_second_product(world: World, more: dict[str, Any], name: str) -> None:
    """Stripe would keep the first one, archived, and the program would say that it has another."""
    data = {"default_price_data": {"currency": "usd", "unit_amount": 1}}
    chosen, other = world.product("chosen", id="chosen", **data), world.product("other", **data)
    world.forget_calls()
    with pytest.raises(ProviderError, match=f"'chosen' .*: {name} cannot be changed under the same id; choose another"):
        world.up(ProductProvider, "chosen", {"name": "P", "id": "chosen", **data, **more}, chosen)
    assert world.calls() == []
    assert world.up(ProductProvider, "other", {"name": "P", **data, **more}, other).id != other.id


def test_what_stays_although_it_is_removed_is_reported_in_the_preview(world: World, said: set[str]) -> None:
    provider = world.process().provider(CustomerProvider)
    old = {"name": "C", "balance": 500, "phone": "1", "owner": "project/dev/c"}
    provider.diff("cus_1", old, {**old, "name": "D"})
    assert said == set()
    provider.diff("cus_1", old, {"name": "C", "owner": "project/dev/c"})
    assert said == {"Customer 'c' (cus_1): balance keeps its value in Stripe: it is money that somebody may count on"}


def test_a_refusal_says_nothing_of_what_it_came_from(world: World) -> None:
    """Pulumi prints the whole chain of an exception; a person needs the one line."""
    world.stripe("post", "/v1/products", id="chosen", name="Hand-made")
    with pytest.raises(ProviderError) as caught:
        world.product("pro", id="chosen")
    printed = "".join(traceback.format_exception(caught.type, caught.value, None))
    assert printed == f"ProviderError: {caught.value}\n"


def test_what_nobody_foresaw_is_one_line_too(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    provider = world.process().provider(ProductProvider)
    monkeypatch.setattr(provider.reconciler, "find", lambda new: new["no such name"])
    with pytest.raises(ProviderError) as caught:
        provider.create({"name": "P", "owner": "project/dev/pro"})
    assert str(caught.value) == (
        "Product 'pro': create failed unexpectedly: KeyError: 'no such name'; STRIPE_PRICING_TRACEBACK=1 shows where"
    )
    monkeypatch.setenv("STRIPE_PRICING_TRACEBACK", "1")
    with pytest.raises(KeyError):
        provider.create({"name": "P", "owner": "project/dev/pro"})


def test_a_product_of_a_chosen_id_comes_back_from_the_archive(world: World) -> None:
    first = world.product("pro", id="chosen", description="old")
    world.price(first.id)
    world.destroy(ProductProvider, first)
    again = world.product("pro", id="chosen")
    assert again.id == "chosen"
    after = world.refresh(ProductProvider, again)
    assert after is not None
    assert after.inputs == again.inputs
    assert world.stripe("get", "/v1/products/chosen")["active"] is True


def test_what_is_declared_empty_is_no_drift(world: World) -> None:
    """An empty string, list or object and None all say that nothing is there."""
    empty: dict[str, Any] = {"phone": "", "description": None, "preferred_locales": [], "metadata": {}}
    nested: dict[str, Any] = {"address": {"line1": "", "city": None}, "invoice_settings": {"custom_fields": []}}
    customer = world.customer(**empty, **nested)
    product = world.product(images=[], marketing_features=[])
    price = world.price(product.id, currency_options={})
    for provider, state in ((CustomerProvider, customer), (ProductProvider, product), (PriceProvider, price)):
        after = world.refresh(provider, state)
        assert after is not None
        assert after.inputs == state.inputs


def test_foreign_metadata_survives_and_a_lost_owner_shows(world: World) -> None:
    product = world.product("pro", metadata={"a": "1", "b": "2"})
    path = f"/v1/products/{product.id}"
    world.stripe("post", path, metadata={"crm": "x"})
    changed = world.up(ProductProvider, "pro", {"name": "pro", "metadata": {"b": "3"}}, product)
    assert world.stripe("get", path)["metadata"] == {"b": "3", "crm": "x", "pulumi": "project/dev/pro"}
    none = world.up(ProductProvider, "pro", {"name": "pro"}, changed)
    assert world.stripe("get", path)["metadata"] == {"crm": "x", "pulumi": "project/dev/pro"}
    world.stripe("post", path, metadata={"pulumi": ""})
    drifted = world.refresh(ProductProvider, none)
    assert drifted is not None
    assert "owner" not in drifted.inputs
    world.up(ProductProvider, "pro", {"name": "pro"}, drifted)
    assert world.stripe("get", path)["metadata"] == {"crm": "x", "pulumi": "project/dev/pro"}


def test_all_threads_share_a_provider(world: World) -> None:
    """As Pulumi calls it: nothing is created twice, nothing is lost, and no call is spent on not knowing of another."""
    people = 40
    fee = world.price(world.product().id, "fee", lookup_key=None).id

    def customer(n: int) -> State:
        return world.up(CustomerProvider, f"c{n}", {"name": f"C{n}"}, None, process)

    def subscription(customer: State) -> State:
        arguments = {**invoiced(customer.id), "items": {"license": {"price": fee}}}
        return world.up(SubscriptionProvider, customer.inputs["name"], arguments, None, process)

    def refreshed(state: State) -> State | None:
        return world.refresh(CustomerProvider, state, process)

    with ThreadPoolExecutor(PROVIDER_THREADS) as pool:
        process = world.process()
        customers = list(pool.map(customer, range(people)))
        subscriptions = list(pool.map(subscription, customers))
        assert len({state.id for state in (*customers, *subscriptions)}) == 2 * people
        assert len(world.stripe("get", "/v1/customers", limit=100)["data"]) == people
        assert len(world.stripe("get", "/v1/subscriptions", limit=100)["data"]) == people

        world.forget_calls()
        process = world.process()
        again = list(pool.map(refreshed, customers))
        assert [each.inputs for each in again if each] == [state.inputs for state in customers]
        # The account, the first one, and a list.
        assert len(world.calls()) <= 3

        world.forget_calls()
        process = world.process()
        for provider, states in ((SubscriptionProvider, subscriptions), (CustomerProvider, customers)):
            list(pool.map(lambda state, provider=provider: world.destroy(provider, state, process), states))
        calls = world.calls()
    assert len(calls) == len(set(calls)) + calls.count("GET /v1/subscriptions") - 1, "nothing is deleted twice"
    assert len(calls) <= 2 * people + 5
    assert world.stripe("get", "/v1/customers")["data"] == world.stripe("get", "/v1/subscriptions")["data"] == []


def test_two_resources_of_one_name_are_refused(world: World) -> None:
    run = world.process()
    product = world.product()
    world.up(PriceProvider, "fee", licensed(product.id), process=run)
    with pytest.raises(ProviderError, match="another resource of this kind has the same name"):
        world.up(PriceProvider, "fee", licensed(product.id), process=run)


def test_a_new_resource_of_the_name_of_another_is_refused_in_the_preview(world: World) -> None:
    """Pulumi allows it under two parents; created first, the new one would adopt the other's object."""
    old = world.customer()
    run = world.process().provider(CustomerProvider)
    new = {"name": "Another", "owner": "project/dev/acme"}
    assert run.check({}, new).failures == []
    [failure] = run.check(old.inputs, old.inputs).failures
    assert failure.reason == "owner: another resource of this kind has the same name; rename one of them"
    # A replacement is checked as what it is and then as new, in the preview and again in the run.
    run = world.process().provider(CustomerProvider)
    for olds in (old.inputs, {}, old.inputs, {}):
        assert run.check(olds, new).failures == []


UNCHANGED = """
import json, sys
from components.account import Account
from components.providers.kinds import PROVIDERS
from components.settings import Settings

account = Account(Settings.read({"mode": "sandbox"}.get, {}))
providers = {provider.__name__: provider() for provider in PROVIDERS}
for name, id_, given, inputs, outs in json.load(sys.stdin):
    providers[name].use(account)
    checked = providers[name].check(inputs, given)
    assert not checked.failures, checked.failures
    assert checked.inputs == {key: value for key, value in inputs.items() if key != "__provider"}
    assert providers[name].diff(id_, outs, checked.inputs).replaces == []
print(sorted({"stripe", "requests", "sandbox"} & sys.modules.keys()))
"""


def test_a_preview_that_changes_nothing_does_without_stripe_python(catalog: Catalog) -> None:
    """It takes longer to import than everything else that such a preview has to do for a small program."""
    state = [
        (provider.__name__, there.id, _without(there.inputs, "on_delete", "cancel"), there.inputs, there.outs)
        for provider, there in catalog.items()
    ]
    done = subprocess.run(
        [sys.executable, "-c", UNCHANGED], input=json.dumps(state), capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_a_value_of_another_type_is_checked_though_python_calls_it_equal(world: World) -> None:
    there = world.up(ProductProvider, "p", {"name": "P", "active": True})
    provider = world.process().provider(ProductProvider)
    checked = provider.check(as_pulumi_sends(there.inputs), as_pulumi_sends({**there.inputs, "active": 1}))
    assert [failure.reason for failure in checked.failures] == ["active: must be true or false, not a number"]
