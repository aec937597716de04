"""Taxed bills worked out by hand, the arithmetic beside them; the first ones are Stripe's own examples.

https://docs.stripe.com/billing/taxes/tax-rates
"""

from __future__ import annotations

from typing import Any

import pytest
import stripe

from .bills import World, at, refusal
from .conftest import Control


@pytest.fixture
def world(client: stripe.StripeClient) -> World:
    return World(client)


def rate(world: World, percentage: str, *, inclusive: bool = False, **params: Any) -> str:
    given: Any = {"display_name": "VAT", "percentage": percentage, "inclusive": inclusive, **params}
    return world.v1.tax_rates.create(given).id


def taxes(invoice: stripe.Invoice) -> list[list[tuple[int, int]]]:
    """The taxes of each line as (taxable amount, amount), checked against the totals on the way."""
    lines = invoice.lines.data
    assert not invoice.lines.has_more
    found = [line.taxes or [] for line in lines]
    every = [tax for of_line in found for tax in of_line]
    total = invoice.total_taxes or []
    assert sum(tax.amount for tax in every) == sum(tax.amount for tax in total)
    assert invoice.subtotal == sum(line.amount for line in lines)
    assert invoice.subtotal_excluding_tax == sum(line.subtotal for line in lines)
    assert invoice.total_excluding_tax == invoice.total - sum(tax.amount for tax in total)
    return [[(tax.taxable_amount or 0, tax.amount) for tax in of_line] for of_line in found]


def owed(world: World, *lines: dict[str, Any]) -> stripe.Invoice:
    """The invoice of invoice items, previewed."""
    items: Any = [{"currency": "usd", **line} for line in lines]
    return world.v1.invoices.create_preview({"customer": world.customer.id, "invoice_items": items})


# -- Stripe's examples ------------------------------------------------------------------------------------------------


def test_two_lines_with_two_rates(world: World) -> None:
    five, ten = rate(world, "5"), rate(world, "10")
    invoice = owed(world, {"amount": 500, "tax_rates": [five]}, {"amount": 1000, "tax_rates": [ten]})
    # 5 % of 5.00 and 10 % of 10.00
    assert taxes(invoice) == [[(500, 25)], [(1000, 100)]]
    assert (invoice.subtotal, invoice.total, invoice.total_excluding_tax) == (1500, 1625, 1500)


def test_each_line_is_rounded_by_itself(world: World) -> None:
    ten = [rate(world, "10", inclusive=True)]
    invoice = owed(world, {"amount": 100_000, "tax_rates": ten}, {"amount": 5_000, "tax_rates": ten})
    # 1000.00 / 1.1 leaves 90.9091 of tax, 50.00 / 1.1 leaves 4.5455: 90.91 + 4.55, not 95.45 of 1050.00
    assert taxes(invoice) == [[(90_909, 9_091)], [(4_545, 455)]]
    assert (invoice.total, invoice.total_excluding_tax, invoice.subtotal) == (105_000, 95_454, 105_000)


DISCOUNTED: list[tuple[list[tuple[str, bool]], list[list[tuple[int, int]]], int]] = [
    # 5 % of 4.50 is 0.225, of 9.00 it is 0.45
    ([("5", False)], [[(450, 23)], [(900, 45)]], 1418),
    # 4.50 / 1.05 = 4.2857, 9.00 / 1.05 = 8.5714
    ([("5", True)], [[(429, 21)], [(857, 43)]], 1350),
    # beside them 7 % of 4.29 = 0.3003 and of 8.57 = 0.5999
    ([("5", True), ("7", False)], [[(429, 21), (429, 30)], [(857, 43), (857, 60)]], 1440),
]


@pytest.mark.parametrize(("rates", "expected", "total"), DISCOUNTED, ids=["exclusive", "inclusive", "both"])
def test_discounts_come_off_before_tax(
    world: World, rates: list[tuple[str, bool]], expected: list[list[tuple[int, int]]], total: int
) -> None:
    ids = [rate(world, percentage, inclusive=inclusive) for percentage, inclusive in rates]
    coupon = world.v1.coupons.create({"percent_off": 10, "duration": "forever"}).id
    prices = [world.price("Small", "500"), world.price("Large", "1000")]
    world.subscribe(*prices, default_tax_rates=ids, discounts=[{"coupon": coupon}])
    invoice = world.invoices()[-1]
    assert taxes(invoice) == expected
    # 5.00 + 10.00 less 10 % is 13.50
    assert (invoice.subtotal, invoice.total, invoice.amount_paid) == (1500, total, total)


EXEMPT = [
    ("exempt", True, 9_091, "customer_exempt"),
    ("exempt", False, 10_000, "customer_exempt"),
    ("reverse", True, 9_091, "reverse_charge"),
    ("reverse", False, 10_000, "reverse_charge"),
]


@pytest.mark.parametrize(("status", "inclusive", "total", "reason"), EXEMPT)
def test_an_exempt_customer_pays_no_tax_not_even_an_inclusive_one(
    world: World, status: Any, inclusive: bool, total: int, reason: str
) -> None:
    world.v1.customers.update(world.customer.id, {"tax_exempt": status})
    ten = rate(world, "10", inclusive=inclusive)
    # 100.00 / 1.1 = 90.909: the 9.09 that would be in the price is backed out
    invoice = owed(world, {"amount": 10_000, "tax_rates": [ten]})
    assert taxes(invoice) == [[(0, 0)]]
    assert [tax.taxability_reason for tax in invoice.total_taxes or []] == [reason]
    assert (invoice.total, invoice.customer_tax_exempt) == (total, status)


# -- where rates come from --------------------------------------------------------------------------------------------


def test_an_items_own_rates_stand_in_place_of_the_defaults(world: World) -> None:
    default, own = [rate(world, "9.975"), rate(world, "5")], [rate(world, "1"), rate(world, "2")]
    plain, special = world.price("Plain", "10000"), world.price("Special", "10000")
    subscription = world.subscribe(plain, {"price": special, "tax_rates": own}, default_tax_rates=default)
    invoice = world.invoices()[-1]
    # 9.975 % and 5 % of 100.00: 9.975 rounds to 9.98; 1 % and 2 % of it
    assert taxes(invoice) == [[(10_000, 998), (10_000, 500)], [(10_000, 100), (10_000, 200)]]
    assert invoice.total == 20_000 + 998 + 500 + 100 + 200
    assert [each.id for each in subscription.default_tax_rates or []] == default
    assert [each.id for each in invoice.default_tax_rates] == default
    assert [[each.id for each in item.tax_rates or []] for item in subscription["items"].data] == [[], own]
    assert {tax.taxability_reason for tax in invoice.total_taxes or []} == {"not_available"}


def test_a_renewal_taxes_usage_and_fee_and_usage_that_comes_late(world: World) -> None:
    price = world.usage_price("Tokens", world.meter("tokens"), unit_amount_decimal="1")
    world.subscribe(world.price("Licence", "10000"), price, default_tax_rates=[rate(world, "21")])
    world.use("tokens", 150)
    world.go("2026-02-01T00:30:00")
    # 21 % of 100.00, and of 150 cents: 31.5
    draft = world.invoices()[-1]
    assert (draft.status, taxes(draft)) == ("draft", [[(10_000, 2_100)], [(150, 32)]])
    world.use("tokens", 50, "2026-01-31")
    world.go("2026-02-01T02:00:00")
    # 21 % of 200 cents
    invoice = world.invoices()[-1]
    assert (invoice.status, taxes(invoice)) == ("paid", [[(10_000, 2_100)], [(200, 42)]])
    assert invoice.amount_paid == 10_000 + 2_100 + 200 + 42


def test_a_proration_bears_the_rates_of_its_item(world: World) -> None:
    ten, twenty = rate(world, "10"), rate(world, "20")
    price = world.price("Licence", "3100")
    subscription = world.subscribe({"price": price, "quantity": 1, "tax_rates": [ten]})
    item = subscription["items"].data[0].id
    world.go("2026-01-17")
    # 15 of 31 days are left: -15.00 at the old 10 %, and 30.00 for two at the new 20 %
    world.change(
        subscription.id,
        {"id": item, "quantity": 2, "tax_rates": [twenty]},
        proration_behavior="always_invoice",
    )
    invoice = world.invoices()[-1]
    assert [line.amount for line in invoice.lines.data] == [-1_500, 3_000]
    assert taxes(invoice) == [[(-1_500, -150)], [(3_000, 600)]]
    assert invoice.total == 1_500 - 150 + 600


def test_other_rates_alone_prorate_nothing_and_count_from_the_next_bill(world: World) -> None:
    subscription = world.subscribe(world.price("Licence", "10000"), default_tax_rates=[rate(world, "10")])
    world.change(subscription.id, default_tax_rates=[rate(world, "20")])
    assert len(world.invoices()) == 1
    assert world.preview(subscription.id).total == 12_000
    world.change(subscription.id, default_tax_rates="")
    assert world.v1.subscriptions.retrieve(subscription.id).default_tax_rates == []
    assert world.preview(subscription.id).total == 10_000


def test_one_time_items_bear_rates_of_their_own(world: World) -> None:
    setup = world.price("Setup", "5000")
    product = world.v1.prices.retrieve(setup).product
    once: Any = {
        "price_data": {"currency": "usd", "product": product, "unit_amount": 5_000},
        "tax_rates": [rate(world, "8.875")],
    }
    world.subscribe(world.price("Licence", "10000"), default_tax_rates=[rate(world, "10")], add_invoice_items=[once])
    # 8.875 % of 50.00 is 4.4375; 10 % of 100.00
    assert taxes(world.invoices()[-1]) == [[(5_000, 444)], [(10_000, 1_000)]]


def test_previews_are_taxed_as_the_bills_would_be(world: World) -> None:
    subscription = world.subscribe(world.price("Licence", "10000"))
    default, own = rate(world, "10"), rate(world, "25")
    preview = world.preview(subscription.id, default_tax_rates=[default])
    assert taxes(preview) == [[(10_000, 1_000)]]
    item = subscription["items"].data[0].id
    preview = world.preview(subscription.id, items=[{"id": item, "tax_rates": [own]}])
    assert taxes(preview) == [[(10_000, 2_500)]]
    extra: Any = {"subscription": subscription.id, "invoice_items": [{"amount": 400, "tax_rates": [own]}]}
    assert taxes(world.v1.invoices.create_preview(extra)) == [[(400, 100)], []]
    new: Any = {
        "customer": world.customer.id,
        "subscription_details": {"items": [{"price": world.price("Other", "2000")}], "default_tax_rates": [default]},
    }
    assert taxes(world.v1.invoices.create_preview(new)) == [[(2_000, 200)]]
    assert world.v1.subscriptions.retrieve(subscription.id).default_tax_rates == []


def test_phases_bring_their_rates(world: World) -> None:
    ten, twenty = rate(world, "10"), rate(world, "20")
    price = world.price("Licence", "10000")
    phases: Any = [
        {"items": [{"price": price, "tax_rates": [twenty]}], "duration": {"interval": "month"}},
        {"items": [{"price": price}], "default_tax_rates": [ten], "duration": {"interval": "month"}},
    ]
    given: Any = {"customer": world.customer.id, "start_date": "now", "phases": phases}
    preview: Any = {"customer": world.customer.id, "schedule_details": {"phases": phases}}
    assert taxes(world.v1.invoices.create_preview(preview)) == [[(10_000, 2_000)]]
    schedule = world.v1.subscription_schedules.create(given)
    assert [each.id for each in schedule.phases[1].default_tax_rates or []] == [ten]
    assert [each.id for each in schedule.phases[0]["items"][0].tax_rates or []] == [twenty]
    assert taxes(world.invoices()[-1]) == [[(10_000, 2_000)]]
    # planned is planned: a rate that is archived since still counts
    world.v1.tax_rates.update(ten, {"active": False})
    world.go("2026-02-01T02:00:00")
    assert taxes(world.invoices()[-1]) == [[(10_000, 1_000)]]


def test_items_by_themselves_take_rates_too(world: World) -> None:
    ten, twenty = rate(world, "10"), rate(world, "20")
    subscription = world.subscribe(world.price("Licence", "10000"), default_tax_rates=[ten])
    seat = world.price("Seat", "2000")
    item = world.v1.subscription_items.create(
        {"subscription": subscription.id, "price": seat, "tax_rates": [twenty], "proration_behavior": "none"}
    )
    assert [each.id for each in item.tax_rates or []] == [twenty]
    # in the order in which they are billed: 20 % of 20.00 and 10 % of 100.00
    assert sorted(taxes(world.preview(subscription.id))) == [[(2_000, 400)], [(10_000, 1_000)]]
    assert world.v1.subscription_items.update(item.id, {"tax_rates": ""}).tax_rates == []
    assert sorted(taxes(world.preview(subscription.id))) == [[(2_000, 200)], [(10_000, 1_000)]]


def test_an_invoice_item_takes_no_price_that_its_rates_deny(world: World) -> None:
    product = world.product("Setup")
    once: Any = {"product": product, "currency": "usd", "unit_amount": 5_000}
    once["tax_behavior"] = "exclusive"
    net = world.v1.prices.create(once).id
    included = rate(world, "20", inclusive=True)
    given: Any = {"customer": world.customer.id, "pricing": {"price": net}, "tax_rates": [included]}
    assert "`tax_behavior` that conflicts" in str(refusal(lambda: world.v1.invoice_items.create(given)).user_message)


def test_the_rate_of_a_tax_can_be_looked_at(world: World) -> None:
    world.subscribe(world.price("Licence", "10000"), default_tax_rates=[rate(world, "10", country="FR")])
    path = "data.taxes.tax_rate_details.tax_rate"
    [line] = world.v1.invoices.line_items.list(world.invoices()[-1].id, {"expand": [path]}).data
    [tax] = line.to_dict()["taxes"]
    assert tax["tax_rate_details"]["tax_rate"]["country"] == "FR"


# -- refusals ---------------------------------------------------------------------------------------------------------


def test_what_stripe_refuses_of_tax_rates(world: World) -> None:
    price = world.price("Licence", "10000", tax_behavior="exclusive")
    archived = rate(world, "10")
    subscription = world.subscribe(price, default_tax_rates=[archived])
    world.v1.tax_rates.update(archived, {"active": False})
    error = refusal(lambda: world.subscribe(price, default_tax_rates=[archived]))
    assert (error.http_status, error.param) == (400, "default_tax_rates[0]")
    error = refusal(lambda: world.subscribe({"price": price, "tax_rates": ["txr_nope"]}))
    assert (error.code, error.param) == ("resource_missing", "items[0][tax_rates][0]")
    included = rate(world, "10", inclusive=True)
    for act in (
        lambda: world.subscribe(price, default_tax_rates=[included]),
        lambda: world.subscribe({"price": price, "tax_rates": [included]}),
        lambda: world.change(subscription.id, default_tax_rates=[included]),
        lambda: world.preview(subscription.id, default_tax_rates=[included]),
    ):
        assert "`tax_behavior` that conflicts" in str(refusal(act).user_message)
    active = rate(world, "10")
    assert refusal(lambda: world.subscribe(price, default_tax_rates=[active, active])).http_status == 400
    eleven = [rate(world, "1") for _ in range(11)]
    assert refusal(lambda: world.subscribe(price, default_tax_rates=eleven)).param == "default_tax_rates"
    # what a subscription has stays, and may be sent again
    world.change(subscription.id, default_tax_rates=[archived])
    assert world.preview(subscription.id).total == 11_000


def test_each_currency_of_a_price_says_for_itself_whether_tax_is_in_it(world: World) -> None:
    options = {"eur": {"unit_amount": 9_000, "tax_behavior": "inclusive"}}
    price = world.price("Licence", "10000", tax_behavior="exclusive", currency_options=options)
    added, included = rate(world, "10"), rate(world, "20", inclusive=True)
    euros = {"currency": "eur", "customer": world.new_customer().id}
    assert "conflicts" in str(refusal(lambda: world.subscribe(price, default_tax_rates=[added], **euros)).user_message)
    world.subscribe(price, default_tax_rates=[included], **euros)
    world.subscribe(price, default_tax_rates=[added])
    # 20 % in 90.00 is 15.00
    [in_euros] = world.v1.invoices.list({"customer": euros["customer"]}).data
    assert taxes(in_euros) == [[(7_500, 1_500)]]
    assert taxes(world.invoices()[-1]) == [[(10_000, 1_000)]]


# -- automatic tax ----------------------------------------------------------------------------------------------------


def test_automatic_tax_is_kept_and_adds_nothing(world: World) -> None:
    subscription = world.subscribe(world.price("Licence", "10000"), automatic_tax={"enabled": True})
    kept = {"disabled_reason": None, "enabled": True, "liability": {"type": "self"}}
    assert subscription.automatic_tax.to_dict() == kept
    invoice = world.invoices()[-1]
    assert invoice.automatic_tax.to_dict() == {**kept, "provider": "stripe", "status": "complete"}
    assert (taxes(invoice), invoice.total) == ([[]], 10_000)
    world.change(subscription.id, automatic_tax={"enabled": False})
    assert world.preview(subscription.id).automatic_tax.provider is None


def test_automatic_tax_goes_with_no_rates(world: World) -> None:
    price, ten = world.price("Licence", "10000"), rate(world, "10")
    both: Any = {"automatic_tax": {"enabled": True}, "default_tax_rates": [ten]}
    subscription = world.subscribe(price, default_tax_rates=[ten])
    for act in (
        lambda: world.subscribe(price, **both),
        lambda: world.subscribe({"price": price, "tax_rates": [ten]}, automatic_tax={"enabled": True}),
        lambda: world.change(subscription.id, automatic_tax={"enabled": True}),
        lambda: world.v1.invoices.create_preview({"subscription": subscription.id, "automatic_tax": {"enabled": True}}),
    ):
        assert refusal(act).http_status == 400
    world.change(subscription.id, automatic_tax={"enabled": True}, default_tax_rates="")
    assert world.preview(subscription.id).automatic_tax.status == "complete"


def test_a_schedules_phases_say_whether_tax_is_automatic(world: World) -> None:
    price = world.price("Licence", "10000")
    phases: Any = [
        {"items": [{"price": price}], "duration": {"interval": "month"}},
        {"items": [{"price": price}], "duration": {"interval": "month"}, "automatic_tax": {"enabled": False}},
    ]
    given: Any = {
        "customer": world.customer.id,
        "start_date": "now",
        "phases": phases,
        "default_settings": {"automatic_tax": {"enabled": True}},
    }
    schedule = world.v1.subscription_schedules.create(given)
    subscription = str(schedule.subscription)
    assert world.v1.subscriptions.retrieve(subscription).automatic_tax.enabled
    world.v1.subscription_schedules.update(schedule.id, {"default_settings": {"automatic_tax": {"enabled": False}}})
    assert not world.v1.subscriptions.retrieve(subscription).automatic_tax.enabled
    world.v1.subscription_schedules.update(schedule.id, {"default_settings": {"automatic_tax": {"enabled": True}}})
    world.go("2026-02-01T02:00:00")
    assert not world.v1.subscriptions.retrieve(subscription).automatic_tax.enabled
    assert world.invoices()[-1].automatic_tax.provider is None


def test_a_connected_account_can_be_liable(world: World, control: Control) -> None:
    price = world.price("Licence", "10000")
    liable: Any = {"enabled": True, "liability": {"type": "account", "account": "acct_liable"}}
    error = refusal(lambda: world.subscribe(price, automatic_tax=liable))
    assert (error.code, error.param) == ("resource_missing", "automatic_tax[liability][account]")
    nobody = {"enabled": True, "liability": {"type": "account"}}
    error = refusal(lambda: world.subscribe(price, automatic_tax=nobody))
    assert error.param == "automatic_tax[liability][account]"
    control("POST", "accounts", id="acct_liable")
    subscription = world.subscribe(price, automatic_tax=liable)
    assert subscription.automatic_tax.liability is not None
    assert subscription.automatic_tax.liability.to_dict() == liable["liability"]
    held = world.invoices()[-1].automatic_tax.to_dict()
    assert (held["liability"], held["status"]) == (liable["liability"], "complete")


# -- tax rates themselves ---------------------------------------------------------------------------------------------


def test_a_tax_rate_is_made_changed_and_listed(world: World) -> None:
    # As recorded from Stripe's test mode
    made = world.v1.tax_rates.create(
        {
            "display_name": "CA sales tax",
            "jurisdiction": "US-CA",
            "percentage": 8.875,
            "inclusive": False,
            "country": "us",
            "state": "CA",
            "metadata": {"a": "b"},
        }
    )
    expected = {
        "id": made.id,
        "object": "tax_rate",
        "active": True,
        "country": "US",
        "created": made.created,
        "description": None,
        "display_name": "CA sales tax",
        "effective_percentage": 8.875,
        "flat_amount": None,
        "inclusive": False,
        "jurisdiction": "US-CA",
        "jurisdiction_level": None,
        "livemode": False,
        "metadata": {"a": "b"},
        "percentage": 8.875,
        "rate_type": "percentage",
        "state": "CA",
        "tax_type": None,
    }
    assert made.to_dict() == expected
    included = rate(world, "20", inclusive=True, tax_type="vat")
    changed = world.v1.tax_rates.update(made.id, {"active": False, "description": "archived", "metadata": ""})
    assert changed.to_dict() == {**expected, "active": False, "description": "archived", "metadata": {}}
    assert [each.id for each in world.v1.tax_rates.list({}).data] == [included, made.id]
    assert [each.id for each in world.v1.tax_rates.list({"active": True}).data] == [included]
    assert [each.id for each in world.v1.tax_rates.list({"inclusive": False}).data] == [made.id]
    assert world.v1.tax_rates.list({"created": {"lt": at("2000-01-01")}}).data == []
    types = [event.type for event in world.v1.events.list({"limit": 3}).data]
    assert types == ["tax_rate.updated", "tax_rate.created", "tax_rate.created"]
    error = refusal(lambda: world.v1.tax_rates.retrieve("txr_nope"))
    assert (error.http_status, error.param) == (404, "tax_rate")
    assert error.user_message == "No such tax rate: 'txr_nope'"


@pytest.mark.parametrize("percentage", ["-1", "100.0001", "1.00001", "much"])
def test_a_percentage_is_0_to_100_with_four_decimals(world: World, percentage: str) -> None:
    assert refusal(lambda: rate(world, percentage)).param == "percentage"


def test_what_a_rate_takes_cannot_be_changed(world: World) -> None:
    given: Any = {"percentage": 5}
    assert refusal(lambda: world.v1.tax_rates.update(rate(world, "4"), given)).code == "parameter_unknown"
