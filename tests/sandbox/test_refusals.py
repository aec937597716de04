"""What Stripe refuses, refused: limits of lists, texts, days and lines, and what goes together with nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import stripe

from .bills import World, at, refusal
from .catalog import catalog
from .conftest import Raw

#: A call on Stripe, given a client and parameters, as the fields of the refusal that it meets.
Refused = dict[str, Any]


@pytest.fixture
def world(client: stripe.StripeClient) -> World:
    return World(client)


def product(raw: Raw, **params: str) -> Any:
    """The error that a product of these form fields is refused with, when it is made and when it is changed."""
    body = "&".join(f"{name}={value}" for name, value in params.items())
    status, answer, _ = raw("POST", "/v1/products", f"name=A&{body}")
    id = raw("POST", "/v1/products", "name=A")[1]["id"]
    assert raw("POST", f"/v1/products/{id}", body)[:2] == (status, answer)
    assert status == 400, answer
    return answer["error"]


EMPTY = "You passed an empty string for '{}'. We assume empty values are an attempt to unset a parameter"
PRODUCTS: dict[str, tuple[dict[str, str], Refused]] = {
    "an empty image": (
        {"images[0]": ""},
        {"param": "images[0]", "code": "parameter_invalid_empty", "message": EMPTY.format("images[0]")},
    ),
    "an empty image among others": (
        {"images[0]": "https://a.example/1", "images[1]": ""},
        {"param": "images[1]", "code": "parameter_invalid_empty"},
    ),
    "an empty feature": ({"marketing_features[0]": ""}, {"param": "marketing_features[0]"}),
    "an image without a scheme": (
        {"images[0]": "a.example/1.png"},
        {
            "param": "images[0]",
            "code": "url_invalid",
            "message": "Invalid URL: An explicit scheme (such as https) must be provided.",
        },
    ),
    "nine images": ({f"images[{n}]": "https://a.example" for n in range(9)}, {"param": "images"}),
    "an address that is none": (
        {"url": "https://"},
        {"param": "url", "code": "url_invalid", "message": "Not a valid URL"},
    ),
    "an address with a blank": ({"url": "https://a b.example"}, {"param": "url", "code": "url_invalid"}),
    "another scheme": ({"url": "ftp://a.example"}, {"param": "url", "code": "url_invalid"}),
    "a long address": (
        {"url": "https://a.example/" + "x" * 2048},
        {"param": "url", "message": "Invalid URL: URL must be 2048 characters or less."},
    ),
    "a long feature": ({"marketing_features[0][name]": "x" * 81}, {"param": "marketing_features[0][name]"}),
    "sixteen features": (
        {f"marketing_features[{n}][name]": "x" for n in range(16)},
        {"param": "marketing_features"},
    ),
    "a descriptor with a quotation mark": (
        {"statement_descriptor": "ALPACA'S"},
        {"param": "statement_descriptor", "message": "The statement descriptor cannot include '."},
    ),
    "a descriptor without a letter": (
        {"statement_descriptor": "2026"},
        {
            "param": "statement_descriptor",
            "message": "The statement descriptor must contain at least one Latin character.",
        },
    ),
    "a long descriptor": ({"statement_descriptor": "x" * 23}, {"param": "statement_descriptor"}),
    "a long unit label": ({"unit_label": "x" * 13}, {"param": "unit_label"}),
}


@pytest.mark.parametrize("case", PRODUCTS)
def test_what_a_product_cannot_show_is_refused(raw: Raw, case: str) -> None:
    params, expected = PRODUCTS[case]
    error = product(raw, **params)
    for name, value in expected.items():
        assert error[name].startswith(value) if name == "message" else error[name] == value, error


def test_what_a_product_can_show_is_taken(client: stripe.StripeClient) -> None:
    made = client.v1.products.create(
        {
            "name": "A",
            "images": ["https://a.example/1.png", "HTTP://a.example"] * 4,
            "marketing_features": [{"name": "x" * 80}] * 15,
            "statement_descriptor": "ALPACA.AI*2026",
            "url": "https://a.example:8443/p?q=1#f",
            "unit_label": "x" * 12,
        }
    )
    assert len(made.images) == 8
    # Stripe's way to empty a list, and a text.
    cleared = client.v1.products.update(made.id, {"images": "", "url": "", "statement_descriptor": ""})
    assert (cleared.images, cleared.url, cleared.statement_descriptor) == ([], None, None)


@pytest.mark.parametrize("email", ["nobody", "a@localhost", "a b@example.com", "@example.com", "a@.", "a@b@c.example"])
def test_an_address_that_no_mail_reaches_is_refused(client: stripe.StripeClient, email: str) -> None:
    error = refusal(lambda: client.v1.customers.create({"email": email}))
    assert (error.http_status, error.code, error.param) == (400, "email_invalid", "email")


LISTS: dict[str, tuple[str, str, str]] = {
    "/v1/prices?product=nope": ("product", "No such product: 'nope'", "product"),
    "/v1/subscriptions?customer=nope": ("customer", "No such customer: 'nope'", "customer"),
    "/v1/subscriptions?price=nope": ("price", "No such price: 'nope'", "price"),
    "/v1/subscriptions?test_clock=nope": ("test_clock", "No such", "test_clock"),
    "/v1/customers?test_clock=nope": ("test_clock", "No such", "test_clock"),
    "/v1/invoices?customer=nope": ("customer", "No such customer: 'nope'", "customer"),
    "/v1/invoices?subscription=nope": ("subscription", "No such subscription: 'nope'", "subscription"),
    "/v1/invoiceitems?customer=nope": ("customer", "No such customer: 'nope'", "customer"),
    "/v1/invoiceitems?invoice=nope": ("invoice", "No such invoice: 'nope'", "invoice"),
    "/v1/subscription_schedules?customer=nope": ("customer", "No such customer: 'nope'", "customer"),
    "/v1/promotion_codes?coupon=nope": ("coupon", "No such coupon: 'nope'", "coupon"),
    "/v1/promotion_codes?customer=nope": ("customer", "No such customer: 'nope'", "customer"),
}


@pytest.mark.parametrize("url", LISTS)
def test_a_list_of_what_is_not_there_is_refused(raw: Raw, url: str) -> None:
    param, message, _ = LISTS[url]
    status, answer, _ = raw("GET", url)
    assert (status, answer["error"]["code"], answer["error"]["param"]) == (400, "resource_missing", param)
    assert answer["error"]["message"].startswith(message)


def test_a_deleted_customer_still_has_lists(world: World) -> None:
    subscription = world.subscribe(world.price("License", "10000"))
    world.v1.customers.delete(world.customer.id)
    everything: Any = {"customer": world.customer.id, "status": "all"}
    assert [found.id for found in world.v1.subscriptions.list(everything).data] == [subscription.id]
    assert len(world.v1.invoices.list({"customer": world.customer.id}).data) == 1


@pytest.mark.parametrize("option", ["currency_options[usd][unit_amount]=1", "currency_options[usd][unit_amount]=100"])
def test_a_price_has_no_option_in_its_own_currency(raw: Raw, client: stripe.StripeClient, option: str) -> None:
    things = catalog(client)
    body = f"currency=usd&unit_amount=100&product={things.product.id}&{option}"
    made, changed = raw("POST", "/v1/prices", body), raw("POST", f"/v1/prices/{things.license.id}", option)
    for status, answer, _ in (made, changed):
        assert (status, answer["error"]["param"]) == (400, "currency_options[usd]")


def test_nor_has_a_coupon_or_a_promotion_code(client: stripe.StripeClient) -> None:
    own: Any = {"currency_options": {"usd": {"amount_off": 5}}}
    taken: Any = {"amount_off": 5, "currency": "usd", "duration": "once", **own}
    error = refusal(lambda: client.v1.coupons.create(taken))
    assert (error.http_status, error.param) == (400, "currency_options[usd]")
    coupon = client.v1.coupons.create({"amount_off": 5, "currency": "usd", "duration": "once"})
    assert refusal(lambda: client.v1.coupons.update(coupon.id, own)).param == "currency_options[usd]"
    least = {"minimum_amount": 5, "minimum_amount_currency": "usd", "currency_options": {"usd": {"minimum_amount": 5}}}
    given: Any = {"promotion": {"type": "coupon", "coupon": coupon.id}, "restrictions": least}
    error = refusal(lambda: client.v1.promotion_codes.create(given))
    assert error.param == "restrictions[currency_options][usd]"


@pytest.mark.parametrize("days", [3651, -1])
def test_an_invoice_is_due_within_ten_years(world: World, days: int) -> None:
    license = world.price("License", "10000")
    sent: Any = {"collection_method": "send_invoice", "days_until_due": days}
    settings: Any = {"days_until_due": days}
    subscription = world.subscribe(license, collection_method="send_invoice", days_until_due=3650)
    phase: Any = {"items": [{"price": license}], "invoice_settings": settings}
    schedule: Any = {"customer": world.customer.id, "start_date": "now", "phases": [{"items": [{"price": license}]}]}
    by_default: Any = {**schedule, "default_settings": {"invoice_settings": settings}}
    invoice: Any = {"customer": world.customer.id, **sent}
    by_phase: Any = {**schedule, "phases": [phase]}
    calls: dict[str, Callable[[], Any]] = {
        "days_until_due": lambda: world.subscribe(license, **sent),
        "days_until_due of a change": lambda: world.change(subscription.id, days_until_due=days),
        "days_until_due of an invoice": lambda: world.v1.invoices.create(invoice),
        "default_settings[invoice_settings][days_until_due]": lambda: world.v1.subscription_schedules.create(
            by_default
        ),
        "phases[0][invoice_settings][days_until_due]": lambda: world.v1.subscription_schedules.create(by_phase),
    }
    for param, call in calls.items():
        error = refusal(call)
        assert (error.http_status, error.param) == (400, param.partition(" ")[0])


def test_a_trial_lasts_two_years_at_most(world: World) -> None:
    license = world.price("License", "10000")
    assert world.subscribe(license, trial_period_days=730).status == "trialing"
    product = world.product("A")
    recurring: Any = {"interval": "month", "trial_period_days": 731}
    calls: dict[str, Callable[[], Any]] = {
        "trial_period_days": lambda: world.subscribe(license, trial_period_days=731),
        "trial_end": lambda: world.subscribe(license, trial_end=at("2028-01-02")),
        "recurring[trial_period_days]": lambda: world.v1.prices.create(
            {"currency": "usd", "unit_amount": 1, "product": product, "recurring": recurring}
        ),
    }
    for param, call in calls.items():
        error = refusal(call)
        assert (error.http_status, error.param, error.user_message) == (
            400,
            param,
            "The maximum number of trial period days is 730 (2 years).",
        )


def test_a_metered_item_has_no_quantity_anywhere(world: World) -> None:
    usage = world.usage_price("Tokens", world.meter("tokens"), unit_amount_decimal="1")
    subscription = world.subscribe(world.price("License", "10000"), usage)
    item = next(item.id for item in subscription["items"].data if item.price.id == usage)
    lone: Any = {"items": [{"price": usage, "quantity": 1}]}
    scheduled: Any = {"customer": world.customer.id, "start_date": "now", "phases": [lone]}
    previewed: Any = {"customer": world.customer.id, "subscription_details": lone}
    calls: dict[str, Callable[[], Any]] = {
        "items[0][quantity]": lambda: world.subscribe((usage, 1)),
        "items[0][quantity] of a change": lambda: world.change(subscription.id, {"id": item, "quantity": 1}),
        "phases[0][items][0][quantity]": lambda: world.v1.subscription_schedules.create(scheduled),
        "subscription_details[items][0][quantity]": lambda: world.v1.invoices.create_preview(previewed),
        "items[0][quantity] of the item": lambda: world.v1.subscription_items.update(item, {"quantity": 1}),
    }
    for param, call in calls.items():
        error = refusal(call)
        assert (error.http_status, error.param) == (400, param.partition(" ")[0])
        assert error.user_message.startswith("Quantity should not be specified where usage_type is `metered`.")


def test_a_subscriptions_currency_is_one_and_in_lower_case(world: World) -> None:
    """Stripe takes a currency in any case and answers in lower case, as for prices."""
    license = world.price("License", "10000")
    assert world.subscribe(license, currency="USD").currency == "usd"
    error = refusal(lambda: world.subscribe(license, currency="zzz"))
    assert (error.http_status, error.param) == (400, "currency")


def test_usage_is_not_cleared_where_it_is_billed(world: World) -> None:
    license = world.price("License", "10000")
    usage = world.usage_price("Tokens", world.meter("tokens"), unit_amount_decimal="1")
    flexible = world.subscribe(license, usage)
    gone = {"id": next(item.id for item in flexible["items"].data if item.price.id == usage)}
    error = refusal(lambda: world.change(flexible.id, {**gone, "deleted": True, "clear_usage": True}))
    assert (error.http_status, error.param) == (400, "items[0][clear_usage]")
    error = refusal(lambda: world.v1.subscription_items.delete(gone["id"], {"clear_usage": True}))
    assert (error.http_status, error.param) == (400, "clear_usage")
    classic = world.subscribe(license, usage, billing_mode={"type": "classic"})
    gone = {"id": next(item.id for item in classic["items"].data if item.price.id == usage)}
    changed = world.change(classic.id, {**gone, "deleted": True, "clear_usage": True})
    assert len(changed["items"].data) == 1


@pytest.mark.parametrize(
    ("version", "anchor", "status"),
    [
        ("2026-10-28.endive", "billing_cycle_anchor=now", 400),
        ("2026-10-28.endive", "billing_cycle_anchor[type]=now", 200),
        ("2026-08-26.dahlia", "billing_cycle_anchor=now", 200),
        ("2026-08-26.dahlia", "billing_cycle_anchor[type]=now", 400),
    ],
)
def test_an_anchor_is_a_word_before_endive_and_a_hash_since(
    world: World, raw: Raw, version: str, anchor: str, status: int
) -> None:
    subscription = world.subscribe(world.price("License", "10000"))
    found, answer, _ = raw("POST", f"/v1/subscriptions/{subscription.id}", anchor, Stripe_Version=version)
    assert found == status
    url, body = "/v1/invoices/create_preview", f"subscription={subscription.id}&subscription_details[{anchor}"
    body = body.replace("billing_cycle_anchor", "billing_cycle_anchor]", 1)
    assert raw("POST", url, body, Stripe_Version=version)[0] == status
    if status == 400:
        assert answer["error"]["param"] == "billing_cycle_anchor"


def test_an_invoice_of_the_past_has_a_limit(world: World) -> None:
    daily = [world.price(f"License {n}", "100", interval="day") for n in range(2)]
    # 124 days that are over and the one that begins, of two items each
    assert len(world.subscribe(*daily, backdate_start_date=at("2025-08-30")).id) > 0
    assert world.invoices()[-1].lines.has_more
    error = refusal(lambda: world.subscribe(*daily, backdate_start_date=at("2025-08-29")))
    assert (error.http_status, error.param) == (400, "backdate_start_date")
    assert "more than 250 line items" in error.user_message


def test_a_subscription_may_have_more_than_twenty_items(world: World) -> None:
    assert len(world.subscribe(*(world.price(f"License {n}", "100") for n in range(21)))["items"].data) == 21
