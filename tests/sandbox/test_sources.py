"""Payment sources: cards made of Stripe's test tokens, whose they are, and when they are charged."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import stripe

from .bills import World, refusal


@pytest.fixture
def world(client: stripe.StripeClient) -> World:
    return World(client)


@pytest.fixture
def license(world: World) -> str:
    return world.price("License", "10000")


def with_source(world: World, token: str = "tok_visa") -> stripe.Customer:
    """The world's customer becomes one that has a source and no payment method."""
    world.customer = world.new_customer(invoice_settings={}, source=token)
    return world.customer


def sources(world: World) -> list[dict[str, Any]]:
    found = world.v1.customers.retrieve(world.customer.id, {"expand": ["sources"]}).to_dict()
    assert found["sources"]["url"] == f"/v1/customers/{world.customer.id}/sources"
    return list(found["sources"]["data"])


@pytest.mark.parametrize(
    ("token", "brand", "last4"),
    [("tok_visa", "Visa", "4242"), ("tok_amex", "American Express", "8431"), ("tok_mastercard", "MasterCard", "4444")],
)
def test_a_token_makes_a_card_that_is_the_default(world: World, token: str, brand: str, last4: str) -> None:
    customer = with_source(world, token)
    assert "sources" not in customer.to_dict()
    [card] = sources(world)
    assert (card["id"], card["object"], card["customer"]) == (customer.default_source, "card", customer.id)
    assert (card["brand"], card["last4"]) == (brand, last4)
    expanded = world.v1.customers.retrieve(customer.id, {"expand": ["default_source"]}).to_dict()
    assert expanded["default_source"] == card


def test_a_new_source_takes_the_place_of_the_default(world: World) -> None:
    before = with_source(world).default_source
    after = world.v1.customers.update(world.customer.id, {"source": "tok_amex"})
    assert after.default_source != before
    assert [card["brand"] for card in sources(world)] == ["American Express"]
    types = [event.type for event in world.v1.events.list({"limit": 4}).data]
    assert {"customer.source.created", "customer.source.deleted", "customer.updated"} <= set(types)


def test_a_subscription_whose_source_is_gone_names_none(world: World, license: str) -> None:
    own = str(with_source(world).default_source)
    made = world.subscribe(license, default_source=own)
    world.v1.customers.update(world.customer.id, {"source": "tok_amex"})
    assert world.v1.subscriptions.retrieve(made.id).default_source is None


def test_a_default_source_is_one_of_the_customers_own(world: World) -> None:
    mine = str(with_source(world).default_source)
    assert world.v1.customers.update(world.customer.id, {"default_source": mine}).default_source == mine
    others = str(world.new_customer(source="tok_visa").default_source)
    for id in (others, "card_x"):
        given: Any = {"default_source": id}
        error = refusal(partial(world.v1.customers.update, world.customer.id, given))
        assert (error.http_status, error.code, error.param) == (404, "missing", "default_source")
        assert error.user_message == (f"Customer {world.customer.id} does not have a linked source with ID {id}.")
    error = refusal(lambda: world.v1.customers.update(world.customer.id, {"default_source": ""}))
    assert error.code == "parameter_invalid_empty"


@pytest.mark.parametrize(
    ("token", "code", "message"),
    [
        ("tok_chargeDeclined", "card_declined", "Your card was declined."),
        ("tok_chargeDeclinedInsufficientFunds", "card_declined", "Your card has insufficient funds."),
        ("tok_chargeDeclinedExpiredCard", "expired_card", "Your card has expired."),
        ("tok_chargeDeclinedIncorrectCvc", "incorrect_cvc", "Your card's security code is incorrect."),
    ],
)
def test_a_card_that_is_declined_is_not_attached(world: World, token: str, code: str, message: str) -> None:
    before = with_source(world).default_source
    for refused in (
        lambda: world.new_customer(source=token),
        lambda: world.v1.customers.update(world.customer.id, {"source": token}),
    ):
        error = refusal(refused)
        assert isinstance(error, stripe.CardError)
        assert (error.http_status, error.code, error.user_message) == (402, code, message)
    assert [card["id"] for card in sources(world)] == [before]
    # Unless nobody asks the bank.
    unasked: Any = {"source": token, "validate": False}
    assert world.v1.customers.update(world.customer.id, unasked).default_source != before


def test_what_is_no_token_and_what_is_none_of_this_mode(world: World, live: stripe.StripeClient) -> None:
    error = refusal(lambda: world.v1.customers.create({"source": "tok_nope"}))
    assert (error.code, error.param, error.user_message) == ("resource_missing", "source", "No such token: 'tok_nope'")
    error = refusal(lambda: live.v1.customers.create({"source": "tok_visa"}))
    assert error.user_message == (
        "No such token: 'tok_visa'; a similar object exists in test mode, but a live mode key was used to make this "
        "request."
    )
    error = refusal(lambda: world.v1.customers.create({"source": ""}))
    assert error.code == "parameter_invalid_empty"


@pytest.mark.parametrize(
    ("params", "named"),
    [
        ({"source": "tok_gb"}, "source=tok_gb"),
        ({"source": "btok_us_verified"}, "source=btok_us_verified"),
        ({"source": "src_1"}, "source=src_1"),
    ],
)
def test_other_sources_that_stripe_has_are_refused_by_name(world: World, params: dict[str, Any], named: str) -> None:
    given: Any = params
    error = refusal(lambda: world.v1.customers.create(given))
    assert (error.http_status, named in str(error.user_message)) == (501, True)


@pytest.mark.parametrize("name", ["card", "default_card", "bank_account"])
def test_old_names_of_sources_are_refused_by_name(world: World, name: str) -> None:
    given: Any = {name: ""}
    error = refusal(lambda: world.v1.customers.update(world.customer.id, given))
    assert (error.http_status, name in str(error.user_message)) == (501, True)


def test_a_source_is_added_beside_the_default(world: World) -> None:
    first = str(with_source(world).default_source)
    given: Any = {"source": "tok_amex", "metadata": {"a": "b"}}
    second = world.v1.customers.payment_sources.create(world.customer.id, given).to_dict()
    assert (second["brand"], second["metadata"]) == ("American Express", {"a": "b"})
    assert world.v1.customers.retrieve(world.customer.id).default_source == first
    assert [card["id"] for card in sources(world)] == [second["id"], first]


def test_the_first_source_of_a_customer_becomes_the_default(world: World) -> None:
    world.customer = world.new_customer(invoice_settings={})
    made = world.v1.customers.payment_sources.create(world.customer.id, {"source": "tok_visa"})
    assert world.v1.customers.retrieve(world.customer.id).default_source == made.id


# -- what is charged --------------------------------------------------------------------------------------------------


def test_without_a_payment_method_the_customers_source_is_charged(world: World, license: str) -> None:
    with_source(world)
    assert world.subscribe(license).status == "active"
    world.go("2026-02-02")
    assert [invoice.status for invoice in world.invoices()] == ["paid", "paid"]


def test_a_trial_with_a_source_ends_in_a_charge(world: World, license: str) -> None:
    with_source(world)
    made = world.subscribe(
        license, trial_period_days=7, trial_settings={"end_behavior": {"missing_payment_method": "cancel"}}
    )
    world.go("2026-01-09")
    assert world.v1.subscriptions.retrieve(made.id).status == "active"


GOOD_CARD, BAD_CARD = "tok_visa", "tok_chargeCustomerFail"
GOOD_METHOD, BAD_METHOD = "pm_card_visa", "pm_card_chargeCustomerFail"


@pytest.mark.parametrize(
    ("source", "customers_method", "source_is_of", "subscriptions_method", "status"),
    [
        (GOOD_CARD, None, "subscription", BAD_METHOD, "open"),
        (BAD_CARD, None, "subscription", GOOD_METHOD, "paid"),
        (GOOD_CARD, BAD_METHOD, "subscription", None, "paid"),
        (BAD_CARD, GOOD_METHOD, "subscription", None, "open"),
        (GOOD_CARD, BAD_METHOD, "customer", None, "open"),
        (BAD_CARD, GOOD_METHOD, "customer", None, "paid"),
    ],
)
def test_only_the_first_of_what_can_be_charged_is_charged(
    world: World,
    license: str,
    source: str,
    customers_method: str | None,
    source_is_of: str,
    subscriptions_method: str | None,
    status: str,
) -> None:
    """https://docs.stripe.com/api/subscriptions/object: the subscription's method, then its source, then the customer's
    method, then its source."""
    card = str(with_source(world, source).default_source)
    if customers_method is not None:
        world.v1.customers.update(world.customer.id, {"invoice_settings": {"default_payment_method": customers_method}})
    terms: Any = {"default_source": card} if source_is_of == "subscription" else {}
    if subscriptions_method is not None:
        terms["default_payment_method"] = subscriptions_method
    made = world.subscribe(license, collection_method="send_invoice", days_until_due=7, **terms)
    draft = world.invoices(made.id)[-1]
    if status == "paid":
        assert world.v1.invoices.pay(draft.id).status == "paid"
    else:
        assert refusal(lambda: world.v1.invoices.pay(draft.id)).code == "card_declined"


def test_a_subscriptions_source_is_set_changed_and_cleared(world: World, license: str) -> None:
    card = str(with_source(world).default_source)
    made = world.subscribe(license, default_source=card, expand=["default_source"]).to_dict()
    assert made["default_source"]["id"] == card
    assert world.change(made["id"], default_source="").default_source is None
    assert world.change(made["id"], default_source=card).default_source == card
    error = refusal(lambda: world.change(made["id"], default_source="card_x"))
    assert (error.code, error.param) == ("missing", "default_source")


def test_a_draft_goes_by_the_method_that_its_subscription_has_when_it_is_charged(world: World, license: str) -> None:
    world.customer = world.new_customer(invoice_settings={"default_payment_method": "pm_card_visa"})
    made = world.subscribe(license, default_payment_method="pm_card_visa")
    world.go("2026-02-01T00:30:00")
    world.change(made.id, default_payment_method=BAD_METHOD)
    world.go("2026-02-01T02:00:00")
    assert world.invoices()[-1].status == "open"


def test_an_invoice_is_paid_with_a_source_that_is_named(world: World, license: str) -> None:
    card = str(with_source(world).default_source)
    world.subscribe(license, collection_method="send_invoice", days_until_due=7)
    draft = world.invoices()[-1]
    error = refusal(lambda: world.v1.invoices.pay(draft.id, {"source": card, "payment_method": "pm_card_visa"}))
    assert error.user_message == "You may only specify one of these parameters: payment_method, source."
    error = refusal(lambda: world.v1.invoices.pay(draft.id, {"source": "card_x"}))
    assert (error.code, error.param) == ("missing", "source")
    assert world.v1.invoices.pay(draft.id, {"source": card}).status == "paid"


def test_a_card_is_a_payment_method_too(world: World, license: str) -> None:
    card = str(with_source(world).default_source)
    assert world.subscribe(license, default_payment_method=card).default_payment_method == card
