"""Products, prices, meters, customers and coupons, as stripe-python sees them."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
import stripe

from .catalog import catalog, meter, plain, usage_price
from .conftest import NEW_YEAR, Clock, Control


def refused(call: Any) -> stripe.InvalidRequestError:
    with pytest.raises(stripe.InvalidRequestError) as caught:
        call()
    return caught.value


# -- products ---------------------------------------------------------------------------------------------------------


def test_a_product_comes_back_as_it_was_made(client: stripe.StripeClient) -> None:
    made = client.v1.products.create(
        {
            "name": "Alpaca.ai",
            "description": "Tokens",
            "images": ["https://example.com/a.png"],
            "marketing_features": [{"name": "fast"}],
            "metadata": {"plan": "pro", "0": "digit"},
            "package_dimensions": {"height": 1, "length": 2.5, "weight": 3, "width": 4},
            "shippable": False,
            "statement_descriptor": "ALPACA",
            "tax_code": "txcd_10000000",
            "unit_label": "token",
            "url": "https://example.com",
        }
    )
    assert made.to_dict() == client.v1.products.retrieve(made.id).to_dict()
    assert plain(made.metadata) == {"plan": "pro", "0": "digit"}
    assert made.created == NEW_YEAR


def test_a_good_is_sold_once_and_a_service_again_and_again(client: stripe.StripeClient) -> None:
    good: Any = {"name": "Mug", "type": "good", "shippable": True}
    made = client.v1.products.create(good)
    assert (made.type, client.v1.products.retrieve(made.id).type) == ("good", "good")
    assert client.v1.products.update(made.id, {"name": "Cup"}).type == "good"
    assert client.v1.prices.create({"product": made.id, "currency": "usd", "unit_amount": 900}).type == "one_time"
    monthly = {"currency": "usd", "unit_amount": 900, "recurring": {"interval": "month"}}
    of_it: Any = {"product": made.id, **monthly}
    error = refused(lambda: client.v1.prices.create(of_it))
    assert (error.http_status, error.param, error.user_message) == (
        400,
        "product",
        f"Plans may only be created with products of type service, but the supplied product ({made.id}) had type good.",
    )
    with_price: Any = {**good, "default_price_data": monthly}
    refused(lambda: client.v1.products.create(with_price))
    customer = client.v1.customers.create({"source": "tok_visa"})
    items: Any = [{"price_data": of_it}]
    refused(lambda: client.v1.subscriptions.create({"customer": customer.id, "items": items}))
    details: Any = {"customer": customer.id, "subscription_details": {"items": items}}
    refused(lambda: client.v1.invoices.create_preview(details))
    of_type: Any = {"type": "good"}
    assert [found.id for found in client.v1.products.list(of_type).data] == [made.id]


@pytest.mark.parametrize("name", ["statement_descriptor", "unit_label"])
def test_a_good_has_nothing_of_what_a_subscription_prints(client: stripe.StripeClient, name: str) -> None:
    good: Any = {"name": "Mug", "type": "good"}
    printed: Any = {name: "MUGS"}
    with_print: Any = {**good, **printed}
    error = refused(lambda: client.v1.products.create(with_print))
    assert (error.code, error.param) == ("parameter_unknown", name)
    made = client.v1.products.create(good)
    assert refused(lambda: client.v1.products.update(made.id, printed)).code == "parameter_unknown"


def test_a_product_takes_a_chosen_id_once(client: stripe.StripeClient) -> None:
    assert client.v1.products.create({"id": "alpaca", "name": "A"}).id == "alpaca"
    error = refused(lambda: client.v1.products.create({"id": "alpaca", "name": "B"}))
    assert (error.http_status, error.code) == (400, "resource_already_exists")


def test_update_sets_keeps_and_unsets(client: stripe.StripeClient, clock: Clock) -> None:
    product = client.v1.products.create(
        {"name": "A", "description": "old", "metadata": {"a": "1", "b": "2"}, "unit_label": "token"}
    )
    clock.advance(5)
    changed = client.v1.products.update(
        product.id, {"description": "", "metadata": {"a": "", "c": "3"}, "unit_label": "call"}
    )
    assert changed.description is None
    assert plain(changed.metadata) == {"b": "2", "c": "3"}
    assert changed.unit_label == "call"
    assert changed.name == "A"
    assert changed.updated == NEW_YEAR + 5
    assert plain(client.v1.products.update(product.id, {"metadata": ""}).metadata) == {}


def test_a_product_with_default_price_data_has_its_price(client: stripe.StripeClient) -> None:
    product = client.v1.products.create(
        {
            "name": "A",
            "default_price_data": {"currency": "usd", "unit_amount": 500, "recurring": {"interval": "month"}},
            "expand": ["default_price"],
        }
    )
    assert isinstance(product.default_price, stripe.Price)
    assert product.default_price.unit_amount == 500
    assert product.default_price.product == product.id


def test_default_price_must_be_a_price_of_the_product_and_can_be_cleared(client: stripe.StripeClient) -> None:
    things = catalog(client)
    other = client.v1.products.create({"name": "B"})
    product = client.v1.products.update(things.product.id, {"default_price": things.license.id})
    assert product.default_price == things.license.id
    assert refused(lambda: client.v1.products.update(other.id, {"default_price": things.license.id})).http_status == 400
    error = refused(lambda: client.v1.products.update(other.id, {"default_price": "price_nope"}))
    assert (error.code, error.param) == ("resource_missing", "default_price")
    assert client.v1.products.update(things.product.id, {"default_price": ""}).default_price is None


def test_only_a_product_without_prices_can_be_deleted(client: stripe.StripeClient) -> None:
    things = catalog(client)
    refused(lambda: client.v1.products.delete(things.product.id))
    empty = client.v1.products.create({"name": "B"})
    assert client.v1.products.delete(empty.id).deleted is True
    assert refused(lambda: client.v1.products.retrieve(empty.id)).http_status == 404


# -- prices -----------------------------------------------------------------------------------------------------------


def test_tiers_and_currency_options_are_shown_only_when_expanded(client: stripe.StripeClient) -> None:
    things = catalog(client)
    bare = client.v1.prices.retrieve(things.usage.id)
    assert "tiers" not in bare
    assert "currency_options" not in bare
    assert bare.unit_amount is None
    assert bare.unit_amount_decimal is None
    full = client.v1.prices.retrieve(things.usage.id, {"expand": ["tiers", "currency_options"]})
    assert full.tiers is not None
    assert [tier.up_to for tier in full.tiers] == [1000, None]
    assert [tier.unit_amount_decimal for tier in full.tiers] == [Decimal(0), Decimal("0.04")]
    assert "tiers" not in plain(full.currency_options)["usd"]


def test_the_tiers_of_a_currency_are_shown_by_its_name_only(client: stripe.StripeClient) -> None:
    things = catalog(client)
    tiers: Any = [{"up_to": "inf", "unit_amount": 3}]
    price = usage_price(client, things.meter.id, things.product.id, currency_options={"eur": {"tiers": tiers}})

    def shown(*expand: str) -> dict[str, bool]:
        options = plain(client.v1.prices.retrieve(price.id, {"expand": list(expand)}))["currency_options"]
        return {code: "tiers" in option for code, option in options.items()}

    assert shown("currency_options") == {"eur": False, "usd": False}
    assert shown("currency_options.tiers") == {"eur": False, "usd": False}
    assert shown("currency_options", "currency_options.eur.tiers") == {"eur": True, "usd": False}
    assert shown("currency_options.usd.tiers", "currency_options.eur.tiers") == {"eur": True, "usd": True}
    page = client.v1.prices.list({"expand": ["data.currency_options.eur.tiers"]})
    assert "tiers" in plain(page.data[0])["currency_options"]["eur"]


def test_twelve_decimals_survive_and_thirteen_are_refused(client: stripe.StripeClient) -> None:
    product = client.v1.products.create({"name": "A"})

    def price(amount: str) -> stripe.Price:
        # As text: stripe-python writes a small Decimal with an exponent, which is no decimal to Stripe's format.
        terms: Any = {"currency": "usd", "product": product.id, "unit_amount_decimal": amount}
        return client.v1.prices.create(terms)

    exact = price("0.000000000001")
    assert exact.unit_amount_decimal == Decimal("0.000000000001")
    assert exact.unit_amount is None
    assert refused(lambda: price("0.0000000000001")).param == "unit_amount_decimal"
    assert refused(lambda: price("1E-12")).param == "unit_amount_decimal"


def test_a_whole_decimal_is_an_integer_too(client: stripe.StripeClient) -> None:
    product = client.v1.products.create({"name": "A"})
    price = client.v1.prices.create(
        {"currency": "usd", "product": product.id, "unit_amount_decimal": Decimal("400.00")}
    )
    assert (price.unit_amount, price.unit_amount_decimal) == (400, Decimal(400))


def test_transfer_lookup_key_takes_it_from_the_holder(client: stripe.StripeClient) -> None:
    product = client.v1.products.create({"name": "A"})
    terms: Any = {"currency": "usd", "product": product.id, "unit_amount": 1, "lookup_key": "alpaca:license"}
    first = client.v1.prices.create(terms)
    terms["transfer_lookup_key"] = True
    second = client.v1.prices.create(terms)
    assert client.v1.prices.retrieve(first.id).lookup_key is None
    assert client.v1.prices.retrieve(first.id).active is True
    assert [price.id for price in client.v1.prices.list({"lookup_keys": ["alpaca:license"]}).data] == [second.id]


def test_an_archived_holder_still_holds_its_lookup_key(client: stripe.StripeClient) -> None:
    product = client.v1.products.create({"name": "A"})
    terms: Any = {"currency": "usd", "product": product.id, "unit_amount": 1, "lookup_key": "key"}
    first = client.v1.prices.create(terms)
    client.v1.prices.update(first.id, {"active": False})
    assert f"(`{first.id}`)" in str(refused(lambda: client.v1.prices.create(terms)))


def test_lookup_key_and_nickname_can_be_unset(client: stripe.StripeClient) -> None:
    product = client.v1.products.create({"name": "A"})
    price = client.v1.prices.create(
        {"currency": "usd", "product": product.id, "unit_amount": 1, "lookup_key": "key", "nickname": "nick"}
    )
    changed = client.v1.prices.update(price.id, {"lookup_key": "", "nickname": ""})
    assert (changed.lookup_key, changed.nickname) == (None, None)


def test_tax_behavior_is_set_once(client: stripe.StripeClient) -> None:
    product = client.v1.products.create({"name": "A"})
    price = client.v1.prices.create({"currency": "usd", "product": product.id, "unit_amount": 1})
    assert client.v1.prices.update(price.id, {"tax_behavior": "exclusive"}).tax_behavior == "exclusive"
    assert refused(lambda: client.v1.prices.update(price.id, {"tax_behavior": "inclusive"})).param == "tax_behavior"


def test_the_default_price_of_a_product_cannot_be_archived(client: stripe.StripeClient) -> None:
    things = catalog(client)
    client.v1.products.update(things.product.id, {"default_price": things.license.id})
    refused(lambda: client.v1.prices.update(things.license.id, {"active": False}))
    client.v1.products.update(things.product.id, {"default_price": ""})
    assert client.v1.prices.update(things.license.id, {"active": False}).active is False


def test_currency_options_are_added_and_cleared(client: stripe.StripeClient) -> None:
    product = client.v1.products.create({"name": "A"})
    price = client.v1.prices.create(
        {
            "currency": "usd",
            "product": product.id,
            "unit_amount": 100,
            "currency_options": {"eur": {"unit_amount": 90}},
            "expand": ["currency_options"],
        }
    )
    assert price.currency_options is not None
    assert sorted(plain(price.currency_options)) == ["eur", "usd"]
    more = client.v1.prices.update(
        price.id, {"currency_options": {"gbp": {"unit_amount": 80}}, "expand": ["currency_options"]}
    )
    assert more.currency_options is not None
    assert sorted(plain(more.currency_options)) == ["eur", "gbp", "usd"]
    none = client.v1.prices.update(price.id, {"currency_options": "", "expand": ["currency_options"]})
    assert none.currency_options is not None
    assert list(plain(none.currency_options)) == ["usd"]


def test_product_data_makes_the_product_and_nothing_is_left_of_a_refused_price(client: stripe.StripeClient) -> None:
    price = client.v1.prices.create({"currency": "usd", "unit_amount": 1, "product_data": {"name": "New"}})
    assert client.v1.products.retrieve(str(price.product)).name == "New"
    refused(lambda: client.v1.prices.create({"currency": "usd", "product_data": {"name": "Orphan"}}))
    assert [product.name for product in client.v1.products.list().data] == ["New"]


def test_prices_are_filtered(client: stripe.StripeClient) -> None:
    things = catalog(client)
    once = client.v1.prices.create({"currency": "eur", "product": things.product.id, "unit_amount": 1})

    def ids(params: Any) -> list[str]:
        return [price.id for price in client.v1.prices.list(params).data]

    assert ids({"type": "one_time"}) == [once.id]
    assert ids({"currency": "eur"}) == [once.id]
    assert ids({"recurring": {"usage_type": "metered"}}) == [things.usage.id]
    assert ids({"recurring": {"meter": things.meter.id}}) == [things.usage.id]
    assert ids({"recurring": {"interval": "year"}}) == []
    assert len(ids({"active": True})) == 3


# -- meters -----------------------------------------------------------------------------------------------------------


def test_a_meter_lives_through_deactivation(client: stripe.StripeClient, clock: Clock) -> None:
    made = meter(client)
    assert made.customer_mapping.event_payload_key == "stripe_customer_id"
    assert made.value_settings.event_payload_key == "value"
    clock.advance(10)
    gone = client.v1.billing.meters.deactivate(made.id)
    assert (gone.status, gone.status_transitions.deactivated_at) == ("inactive", NEW_YEAR + 10)
    assert [found.id for found in client.v1.billing.meters.list({"status": "active"}).data] == []
    twin = meter(client)
    refused(lambda: client.v1.billing.meters.reactivate(made.id))
    client.v1.billing.meters.deactivate(twin.id)
    back = client.v1.billing.meters.reactivate(made.id)
    assert (back.status, back.status_transitions.deactivated_at) == ("active", None)


def test_an_inactive_meter_takes_no_price(client: stripe.StripeClient) -> None:
    made = meter(client)
    product = client.v1.products.create({"name": "A"})
    client.v1.billing.meters.deactivate(made.id)
    assert refused(lambda: usage_price(client, made.id, product.id)).param == "recurring[meter]"


def test_a_meter_changes_its_display_name_only(client: stripe.StripeClient) -> None:
    made = meter(client)
    assert client.v1.billing.meters.update(made.id, {"display_name": "New"}).display_name == "New"
    params: Any = {"event_name": "other"}
    error = refused(lambda: client.v1.billing.meters.update(made.id, params))
    assert (error.code, error.param) == ("parameter_unknown", "event_name")


# -- customers --------------------------------------------------------------------------------------------------------


def test_a_customer_is_set_changed_and_cleared(client: stripe.StripeClient) -> None:
    address: Any = {"line1": "1 Way", "city": "X", "country": "DE"}
    customer = client.v1.customers.create(
        {
            "name": "Ada",
            "email": "ada@example.com",
            "phone": "1",
            "description": "d",
            "address": address,
            "shipping": {"name": "Ada", "address": address},
            "business_name": "Ada GmbH",
            "tax_exempt": "exempt",
            "preferred_locales": ["de"],
            "balance": -500,
            "invoice_prefix": "ADA",
            "next_invoice_sequence": 7,
            "invoice_settings": {"custom_fields": [{"name": "PO", "value": "1"}], "footer": "bye"},
            "tax": {"ip_address": "203.0.113.9"},
            "cash_balance": {"settings": {"reconciliation_mode": "manual"}},
            "metadata": {"a": "1"},
        }
    )
    assert customer.address is not None
    assert customer.address.line2 is None
    assert customer.balance == -500
    cleared = client.v1.customers.update(
        customer.id,
        {
            "name": "",
            "email": "",
            "phone": "",
            "description": "",
            "address": "",
            "shipping": "",
            "business_name": "",
            "tax_exempt": "",
            "invoice_settings": {"custom_fields": "", "footer": ""},
            "metadata": "",
        },
    )
    assert (cleared.name, cleared.email, cleared.phone, cleared.description) == (None, None, None, None)
    assert (cleared.address, cleared.shipping, cleared.tax_exempt) == (None, None, "none")
    assert "business_name" not in cleared
    assert plain(cleared.metadata) == {}
    assert client.v1.customers.retrieve(customer.id).to_dict() == cleared.to_dict()


def test_a_deleted_customer_is_answered_as_deleted_and_takes_no_update(client: stripe.StripeClient) -> None:
    customer = client.v1.customers.create({"name": "Ada"})
    client.v1.customers.delete(customer.id)
    assert client.v1.customers.retrieve(customer.id).to_dict() == {
        "id": customer.id,
        "object": "customer",
        "deleted": True,
    }
    assert client.v1.customers.list().data == []
    error = refused(lambda: client.v1.customers.update(customer.id, {"name": "Eve"}))
    assert (error.http_status, error.code) == (404, "resource_missing")


def test_the_subscriptions_of_a_customer(client: stripe.StripeClient) -> None:
    things = catalog(client)
    terms: Any = {
        "customer": things.customer.id,
        "items": [{"price": things.license.id}],
        "collection_method": "send_invoice",
        "days_until_due": 30,
    }
    gone = client.v1.subscriptions.create(terms)
    kept = client.v1.subscriptions.create(terms)
    client.v1.subscriptions.cancel(gone.id)
    full = client.v1.customers.retrieve(things.customer.id, {"expand": ["subscriptions.data.latest_invoice"]})
    assert isinstance(full, stripe.Customer)
    assert full.subscriptions is not None
    assert [item.id for item in full.subscriptions.data] == [kept.id]
    assert isinstance(full.subscriptions.data[0].latest_invoice, stripe.Invoice)


def test_test_tokens_stand_for_cards(client: stripe.StripeClient) -> None:
    customer = client.v1.customers.create({"invoice_settings": {"default_payment_method": "pm_card_visa"}})
    method = customer.invoice_settings
    assert method is not None
    assert str(method.default_payment_method).startswith("pm_1")
    error = refused(
        lambda: client.v1.customers.update(customer.id, {"invoice_settings": {"default_payment_method": "pm_nope"}})
    )
    assert (error.code, error.param) == ("resource_missing", "invoice_settings[default_payment_method]")


# -- coupons ----------------------------------------------------------------------------------------------------------


def test_coupons(client: stripe.StripeClient) -> None:
    half = client.v1.coupons.create({"id": "HALF", "percent_off": 50, "duration": "forever"})
    months = client.v1.coupons.create(
        {"amount_off": 500, "currency": "usd", "duration": "repeating", "duration_in_months": 3, "name": "5 off"}
    )
    assert half.percent_off == 50
    assert months.duration_in_months == 3
    assert client.v1.coupons.update(half.id, {"name": "Half", "metadata": {"a": "1"}}).name == "Half"
    assert [coupon.id for coupon in client.v1.coupons.list().data] == [months.id, half.id]
    client.v1.coupons.delete(half.id)
    assert refused(lambda: client.v1.coupons.retrieve(half.id)).http_status == 404


def test_a_coupon_is_valid_until_it_must_be_redeemed(client: stripe.StripeClient, clock: Clock) -> None:
    coupon = client.v1.coupons.create({"percent_off": 5, "redeem_by": NEW_YEAR + 60})
    assert coupon.valid is True
    clock.advance(61)
    assert client.v1.coupons.retrieve(coupon.id).valid is False


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"percent_off": 0},
        {"percent_off": 101},
        {"percent_off": 10, "amount_off": 5, "currency": "usd"},
        {"amount_off": 5},
        {"percent_off": 10, "duration": "repeating"},
        {"percent_off": 10, "duration": "once", "duration_in_months": 2},
        {"percent_off": 10, "applies_to": {"products": ["prod_nope"]}},
    ],
)
def test_coupons_that_make_no_sense(client: stripe.StripeClient, params: Any) -> None:
    assert refused(lambda: client.v1.coupons.create(params)).http_status == 400


# -- events -----------------------------------------------------------------------------------------------------------


def test_every_change_leaves_an_event(client: stripe.StripeClient) -> None:
    product = client.v1.products.create({"name": "A"})
    client.v1.products.update(product.id, {"name": "B"})
    client.v1.products.update(product.id, {"name": "B"})
    client.v1.products.delete(product.id)
    events = client.v1.events.list({"type": "product.*"}).data
    assert [event.type for event in events] == ["product.deleted", "product.updated", "product.created"]
    updated = client.v1.events.retrieve(events[1].id)
    assert plain(updated.data.previous_attributes) == {"name": "A"}
    assert updated.data.object["name"] == "B"
    assert [event.type for event in client.v1.events.list({"types": ["product.created"]}).data] == ["product.created"]


def test_the_account_is_the_same_for_both_modes(client: stripe.StripeClient, live: stripe.StripeClient) -> None:
    account = client.v1.accounts.retrieve_current()
    assert account.id == live.v1.accounts.retrieve_current().id


def test_reset_makes_another_account(client: stripe.StripeClient, control: Control) -> None:
    before = client.v1.accounts.retrieve_current().id
    client.v1.products.create({"name": "A"})
    control("POST", "reset")
    assert client.v1.products.list().data == []
    assert client.v1.accounts.retrieve_current().id != before
