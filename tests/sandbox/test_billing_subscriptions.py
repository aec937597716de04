"""Subscriptions as Stripe answers them: states, lists, items, refusals word for word where they are known."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import stripe

from sandbox import life

from .bills import World, at, lines, refusal
from .conftest import NEW_YEAR, Clock


@pytest.fixture
def world(client: stripe.StripeClient) -> World:
    return World(client)


@pytest.fixture
def license(world: World) -> str:
    return world.price("License", "10000")


@pytest.fixture
def tokens(world: World) -> str:
    return world.usage_price("Tokens", world.meter("tokens"), unit_amount_decimal="0.04")


NO_CARD = (
    "This customer has no attached payment source or default payment method. Please consider adding a default payment "
    "method. For more information, visit "
    "https://stripe.com/docs/billing/subscriptions/payment-methods-setting#payment-method-priority."
)


# -- what comes back --------------------------------------------------------------------------------------------------


def test_a_subscription_is_in_flexible_billing_mode_unless_asked_otherwise(world: World, license: str) -> None:
    flexible = world.subscribe(license).billing_mode
    assert (flexible.type, flexible.flexible and flexible.flexible.proration_discounts) == ("flexible", "included")
    assert world.subscribe(world.price("Other", "1"), billing_mode={"type": "classic"}).billing_mode.type == "classic"


def test_periods_are_on_the_items_and_metered_items_have_no_quantity(world: World, license: str, tokens: str) -> None:
    subscription = world.subscribe((license, 3), tokens)
    assert "current_period_end" not in subscription
    seats, usage = subscription["items"].data
    assert (seats.quantity, seats.current_period_start, seats.current_period_end) == (
        3,
        at("2026-01-01"),
        at("2026-02-01"),
    )
    assert "quantity" not in usage.to_dict()
    assert usage.price.recurring is not None
    assert usage.price.recurring.usage_type == "metered"


def test_tiers_of_an_items_price_come_with_expand_only(world: World) -> None:
    price = world.usage_price("Calls", world.meter("calls"), **world.tiered((10, "0", None), (None, "5", None)))
    subscription = world.subscribe(price)
    assert "tiers" not in subscription["items"].data[0].price
    shown = world.v1.subscriptions.retrieve(subscription.id, {"expand": ["items.data.price.tiers"]})
    tiers = shown["items"].data[0].price.tiers
    assert tiers is not None
    assert [tier.up_to for tier in tiers] == [10, None]


def test_latest_invoice_and_customer_expand(world: World, license: str) -> None:
    subscription = world.subscribe(license, expand=["latest_invoice", "customer"])
    assert isinstance(subscription.latest_invoice, stripe.Invoice)
    assert subscription.latest_invoice.total == 10_000
    assert isinstance(subscription.customer, stripe.Customer)


def test_lists_leave_out_canceled_ones_and_filter(world: World, license: str, tokens: str) -> None:
    running = world.subscribe(license)
    other = world.subscribe(tokens)
    over = world.subscribe(world.price("Past", "1"))
    world.v1.subscriptions.cancel(over.id)

    def found(**params: Any) -> list[str]:
        given: Any = {"customer": world.customer.id, **params}
        return [subscription.id for subscription in world.v1.subscriptions.list(given).data]

    assert found() == [other.id, running.id]
    assert found(status="all") == [over.id, other.id, running.id]
    assert found(status="canceled") == found(status="ended") == [over.id]
    assert found(price=license) == [running.id]
    assert found(limit=1, starting_after=other.id) == [running.id]
    assert found(current_period_end={"gte": at("2026-02-01")}) == [other.id, running.id]
    assert found(collection_method="send_invoice") == []


def test_those_on_a_test_clock_are_listed_by_clock_or_customer(world: World, license: str) -> None:
    subscription = world.subscribe(license)
    assert world.v1.subscriptions.list().data == []
    assert [found.id for found in world.v1.subscriptions.list({"test_clock": world.clock.id}).data] == [subscription.id]


def test_items_can_be_listed_read_changed_added_and_removed(world: World, license: str, tokens: str) -> None:
    subscription = world.subscribe((license, 2))
    added = world.v1.subscription_items.create({"subscription": subscription.id, "price": tokens})
    first = subscription["items"].data[0].id
    changed = world.v1.subscription_items.update(first, {"quantity": 4, "metadata": {"seat": "yes"}})
    assert (changed.quantity, changed.metadata.to_dict()) == (4, {"seat": "yes"})
    listed = world.v1.subscription_items.list({"subscription": subscription.id}).data
    assert [item.id for item in listed] == [first, added.id]  # recorded: the oldest first
    page = world.v1.subscription_items.list({"subscription": subscription.id, "limit": 1})
    assert ([item.id for item in page.data], page.has_more) == ([first], True)
    page = world.v1.subscription_items.list({"subscription": subscription.id, "limit": 1, "starting_after": first})
    assert ([item.id for item in page.data], page.has_more) == ([added.id], False)
    page = world.v1.subscription_items.list({"subscription": subscription.id, "limit": 1, "ending_before": added.id})
    assert ([item.id for item in page.data], page.has_more) == ([first], False)
    assert world.v1.subscription_items.retrieve(added.id).price.id == tokens
    assert world.v1.subscription_items.delete(added.id).deleted is True
    assert refusal(lambda: world.v1.subscription_items.retrieve(added.id)).http_status == 404
    assert [item.id for item in world.v1.subscriptions.retrieve(subscription.id)["items"].data] == [first]


def test_a_change_of_price_sets_the_quantity_to_one_unless_it_is_sent(world: World, license: str) -> None:
    """ "When changing a subscription item's price, `quantity` is set to 1 unless a `quantity` parameter is provided":
    https://docs.stripe.com/api/subscriptions/update, and the same for subscription items."""
    subscription = world.subscribe((license, 11))
    [item] = subscription["items"].data
    same = world.change(subscription.id, {"id": item.id, "price": license})
    assert same["items"].data[0].quantity == 11
    kept = world.change(subscription.id, {"id": item.id, "price": world.price("Other", "1"), "quantity": 11})
    assert kept["items"].data[0].quantity == 11
    reset = world.change(subscription.id, {"id": item.id, "price": license})
    assert reset["items"].data[0].quantity == 1


def test_what_changes_no_bill_is_kept_and_can_be_cleared(world: World, license: str) -> None:
    subscription = world.subscribe(license, description="Alpaca", metadata={"pulumi": "a/b/c", "x": "1"})
    changed = world.change(
        subscription.id,
        description="",
        metadata={"x": "", "y": "2"},
        invoice_settings={"description": "Thank you", "footer": "Bye"},
        payment_settings={"save_default_payment_method": "on_subscription", "payment_method_types": ["card"]},
        trial_settings={"end_behavior": {"missing_payment_method": "pause"}},
    )
    assert (changed.description, changed.metadata.to_dict()) == (None, {"pulumi": "a/b/c", "y": "2"})
    assert (changed.invoice_settings.description, changed.invoice_settings.footer) == ("Thank you", "Bye")
    assert changed.payment_settings is not None
    assert changed.payment_settings.payment_method_types == ["card"]
    assert world.change(subscription.id, metadata="").metadata.to_dict() == {}


def test_a_change_is_told_with_what_it_was(world: World, license: str) -> None:
    subscription = world.subscribe(license)
    world.change(subscription.id, description="Alpaca")
    event = world.v1.events.list({"type": "customer.subscription.updated"}).data[0]
    assert event.data.to_dict()["previous_attributes"] == {"description": None}


# -- paying -----------------------------------------------------------------------------------------------------------


def test_without_a_card_a_first_invoice_is_refused(world: World, license: str) -> None:
    world.customer = world.new_customer(invoice_settings={})
    error = refusal(lambda: world.subscribe(license))
    assert (error.http_status, error.code, error.user_message) == (
        400,
        "resource_missing",
        NO_CARD,
    )
    assert world.v1.subscriptions.list({"customer": world.customer.id, "status": "all"}).data == []


def test_default_incomplete_waits_for_the_payment(world: World, license: str) -> None:
    world.customer = world.new_customer(invoice_settings={})
    subscription = world.subscribe(license, payment_behavior="default_incomplete", expand=["latest_invoice"])
    assert isinstance(subscription.latest_invoice, stripe.Invoice)
    assert (subscription.status, subscription.latest_invoice.status) == ("incomplete", "open")
    world.v1.invoices.pay(subscription.latest_invoice.id, {"payment_method": "pm_card_visa"})
    assert world.v1.subscriptions.retrieve(subscription.id).status == "active"


def test_a_first_payment_that_nobody_makes_expires_after_23_hours(world: World, license: str) -> None:
    world.customer = world.new_customer(invoice_settings={})
    subscription = world.subscribe(license, payment_behavior="default_incomplete")
    world.go("2026-01-01T22:59:59")
    assert world.v1.subscriptions.retrieve(subscription.id).status == "incomplete"
    world.go("2026-01-01T23:00:00")
    assert world.v1.subscriptions.retrieve(subscription.id).status == "incomplete_expired"
    assert world.invoices()[-1].status == "void"


def test_a_card_that_declines(world: World, license: str) -> None:
    world.customer = world.new_customer(invoice_settings={"default_payment_method": "pm_card_chargeCustomerFail"})
    error = refusal(lambda: world.subscribe(license, payment_behavior="error_if_incomplete"))
    assert (error.http_status, error.code) == (402, "card_declined")
    assert world.subscribe(license).status == "incomplete"


def test_send_invoice_needs_days_and_no_card(world: World, license: str) -> None:
    world.customer = world.new_customer(invoice_settings={})
    error = refusal(lambda: world.subscribe(license, collection_method="send_invoice"))
    assert error.user_message == ("If invoice collection method is 'send_invoice', you must specify 'days_until_due'.")
    subscription = world.subscribe(license, collection_method="send_invoice", days_until_due=30)
    assert (subscription.status, world.invoices()[-1].status) == ("active", "draft")
    world.go("2026-01-01T01:00:00")
    invoice = world.invoices()[-1]
    assert (invoice.status, invoice.due_date) == ("open", at("2026-01-31"))


def test_an_overdue_invoice_makes_the_subscription_past_due_until_it_is_paid(world: World, license: str) -> None:
    subscription = world.subscribe(license, collection_method="send_invoice", days_until_due=7)
    world.go("2026-01-09")
    assert world.v1.subscriptions.retrieve(subscription.id).status == "past_due"
    paid = world.v1.invoices.pay(world.invoices()[-1].id, {"paid_out_of_band": True})
    assert (paid.status, paid.amount_remaining, paid.amount_paid_off_stripe) == ("paid", 0, 10_000)
    assert world.v1.subscriptions.retrieve(subscription.id).status == "active"


def test_paused_collection_voids_what_would_be_billed(world: World, license: str) -> None:
    subscription = world.subscribe(license)
    world.change(subscription.id, pause_collection={"behavior": "void", "resumes_at": at("2026-02-15")})
    world.go("2026-02-01T02:00:00")
    assert world.invoices()[-1].status == "void"
    world.go("2026-03-01T02:00:00")
    assert world.invoices()[-1].status == "paid"
    assert world.v1.subscriptions.retrieve(subscription.id).pause_collection is None


def test_collection_paused_as_drafts_leaves_drafts(world: World, license: str) -> None:
    subscription = world.subscribe(license)
    world.change(subscription.id, pause_collection={"behavior": "keep_as_draft"})
    world.go("2026-02-02")
    assert (world.invoices()[-1].status, world.invoices()[-1].auto_advance) == ("draft", False)


def test_a_trial_that_is_ended_without_a_card_is_refused_or_does_as_told(world: World, license: str) -> None:
    world.customer = world.new_customer(invoice_settings={})
    plain = world.subscribe(license, trial_period_days=7)
    error = refusal(lambda: world.change(plain.id, trial_end="now"))
    assert (error.code, error.user_message) == ("resource_missing", NO_CARD)
    for behavior, status in (("pause", "paused"), ("cancel", "canceled")):
        told = world.subscribe(
            world.price(behavior, "100"),
            trial_period_days=7,
            trial_settings={"end_behavior": {"missing_payment_method": behavior}},
        )
        assert world.change(told.id, trial_end="now").status == status


# -- the end ----------------------------------------------------------------------------------------------------------


def test_a_canceled_subscription_can_be_read_and_hardly_changed(world: World, license: str) -> None:
    subscription = world.subscribe(license)
    cancelled = world.v1.subscriptions.cancel(
        subscription.id, {"cancellation_details": {"feedback": "too_expensive", "comment": "Sorry"}}
    )
    assert cancelled.cancellation_details is not None
    assert (cancelled.cancellation_details.reason, cancelled.cancellation_details.feedback) == (
        "cancellation_requested",
        "too_expensive",
    )
    assert world.v1.subscriptions.retrieve(subscription.id).status == "canceled"
    error = refusal(lambda: world.change(subscription.id, description="x"))
    assert error.user_message == "A canceled subscription can only update its cancellation_details and metadata."
    assert error.code == "invalid_canceled_subscription_fields"
    assert world.change(subscription.id, metadata={"a": "b"}).metadata.to_dict() == {"a": "b"}
    again = refusal(lambda: world.v1.subscriptions.cancel(subscription.id))
    assert (again.http_status, again.code) == (404, "resource_missing")


def test_a_cancellation_can_be_taken_back(world: World, license: str) -> None:
    subscription = world.subscribe(license)
    planned = world.change(subscription.id, cancel_at_period_end=True)
    assert (planned.cancel_at, planned.canceled_at) == (at("2026-02-01"), at("2026-01-01"))
    kept = world.change(subscription.id, cancel_at_period_end=False)
    assert (kept.cancel_at, kept.canceled_at, kept.cancel_at_period_end) == (None, None, False)
    world.go("2026-02-01T02:00:00")
    assert world.v1.subscriptions.retrieve(subscription.id).status == "active"


def test_a_day_to_cancel_on_that_is_taken_back_costs_what_it_credited(world: World, license: str) -> None:
    world.go("2026-04-01")
    subscription = world.subscribe(license)
    world.change(subscription.id, cancel_at=at("2026-04-16"))
    world.change(subscription.id, cancel_at="")
    # −50.00 for the half that would not have been, +50.00 for it again
    assert sorted(amount for _, amount in lines(world.preview(subscription.id))) == [-5_000, 5_000, 10_000]


def test_helpers_name_the_ends_of_mixed_intervals(world: World, license: str) -> None:
    yearly = world.price("Yearly", "100000", interval="year")
    subscription = world.subscribe(license, yearly)
    assert world.change(subscription.id, cancel_at="max_period_end").cancel_at == at("2027-01-01")
    assert world.change(subscription.id, cancel_at="min_period_end").cancel_at == at("2026-02-01")
    # Stripe: the earliest, and it prorates nothing
    assert world.change(subscription.id, cancel_at_period_end=True).cancel_at == at("2026-02-01")
    world.go("2026-02-01")
    assert world.v1.subscriptions.retrieve(subscription.id).status == "canceled"


def test_a_day_counts_towards_months_and_years(world: World, tokens: str) -> None:
    daily = world.price("Daily", "100", interval="day")
    world.subscribe((daily, 2), tokens)
    world.use("tokens", 3_500)
    world.go("2026-01-03")
    # 2 × 1.00 a day; with the first day of February 3,500 × 0.04 cents = 1.40 of January's usage
    assert [invoice.total for invoice in world.invoices()] == [200, 200, 200]
    for day in range(5, 32, 2):
        world.go(f"2026-01-{day:02}")
    world.go("2026-02-01T02:00:00")
    assert world.bill() == [
        ("2 × Daily (at $1.00 / day)", 200),
        ("3500 × Tokens (at $0.0004 / month)", 140),
    ]


def test_the_end_of_the_period_takes_a_planned_cancellation_along(world: World, license: str) -> None:
    subscription = world.subscribe(license, cancel_at_period_end=True)
    assert subscription.cancel_at == at("2026-02-01")
    moved = world.change(subscription.id, trial_end=at("2026-02-15"), proration_behavior="none")
    assert (moved.cancel_at, moved.cancel_at_period_end) == (at("2026-02-15"), True)
    world.go("2026-02-14")
    assert world.v1.subscriptions.retrieve(subscription.id).status == "trialing"
    world.go("2026-02-15")
    assert world.v1.subscriptions.retrieve(subscription.id).status == "canceled"


def test_the_periods_end_in_place_of_an_earlier_day_to_cancel_on(world: World, license: str) -> None:
    subscription = world.subscribe(license, cancel_at=at("2026-01-16"))
    changed = world.change(subscription.id, cancel_at_period_end=True)
    assert (changed.cancel_at, changed["items"].data[0].current_period_end) == (at("2026-02-01"), at("2026-02-01"))
    # 15 of January's 31 days of 100.00 were charged at first: 48.39, the other 16 are charged at the end: 51.61
    world.go("2026-02-01")
    assert [invoice.total for invoice in world.invoices()] == [4_839, 5_161]
    assert world.v1.subscriptions.retrieve(subscription.id).status == "canceled"


def test_prorations_that_wait_go_with_a_plain_cancellation(world: World, license: str) -> None:
    subscription = world.subscribe((license, 1))
    item = subscription["items"].data[0].id
    world.change(subscription.id, {"id": item, "quantity": 9})
    world.v1.invoice_items.create({"customer": world.customer.id, "amount": 700, "currency": "usd"})
    pending: Any = {"customer": world.customer.id, "pending": True}
    assert len(world.v1.invoice_items.list(pending).data) == 3
    world.v1.subscriptions.cancel(subscription.id)
    assert [item.amount for item in world.v1.invoice_items.list(pending).data] == [700]


def test_a_deleted_customer_takes_its_subscriptions_along(client: stripe.StripeClient, clock: Clock) -> None:
    world = World(client)
    world.customer = client.v1.customers.create({"invoice_settings": {"default_payment_method": "pm_card_visa"}})
    subscription = world.subscribe(world.price("License", "10000"), collection_method="send_invoice", days_until_due=1)
    client.v1.customers.delete(world.customer.id)
    assert client.v1.subscriptions.retrieve(subscription.id).status == "canceled"
    clock.advance(400 * 86_400)
    assert [invoice.status for invoice in client.v1.invoices.list().data] == ["draft"]


# -- time without a test clock ----------------------------------------------------------------------------------------


def test_without_a_test_clock_renewals_come_with_the_sandboxs_own_time(
    client: stripe.StripeClient, clock: Clock
) -> None:
    world = World(client)
    world.customer = client.v1.customers.create({"invoice_settings": {"default_payment_method": "pm_card_visa"}})
    tokens = world.usage_price("Tokens", world.meter("tokens"), unit_amount_decimal="1")
    subscription = world.subscribe((world.price("License", "10000"), 1), tokens)
    world.use("tokens", 5)
    clock.now = float(at("2026-04-03"))
    # nobody looked for three months: each renewal is there, each at its own time
    found = world.invoices(subscription.id)
    assert [invoice.total for invoice in found] == [10_000, 10_005, 10_000, 10_000]
    assert [invoice.created for invoice in found] == [
        NEW_YEAR,
        at("2026-02-01"),
        at("2026-03-01"),
        at("2026-04-01"),
    ]
    assert all(invoice.status == "paid" for invoice in found)


def test_a_leap_of_years_is_done_over_several_requests(
    client: stripe.StripeClient, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(life, "MOST_MOMENTS", 5)
    world = World(client)
    world.customer = client.v1.customers.create({"invoice_settings": {"default_payment_method": "pm_card_visa"}})
    subscription = world.subscribe(world.price("Daily", "100", interval="day"))
    clock.advance(10 * 86_400)
    # each day renews and, an hour later, finalizes: two moments a day, the tenth day's invoice still a draft
    found = [len(world.invoices(subscription.id)) for _ in range(5)]
    assert found == [4, 6, 9, 11, 11]


def test_test_clocks_advance_two_intervals_at_most_and_never_back(world: World, license: str) -> None:
    world.subscribe(license)
    assert refusal(lambda: world.go("2026-03-01T00:00:01")).param == "frozen_time"
    assert refusal(lambda: world.go("2025-12-31")).param == "frozen_time"
    world.go("2026-03-01")
    clock = world.v1.test_helpers.test_clocks.retrieve(world.clock.id)
    assert (clock.status, clock.frozen_time) == ("ready", at("2026-03-01"))


def test_a_test_clock_that_is_deleted_takes_its_customers_along(world: World, license: str) -> None:
    subscription = world.subscribe(license)
    assert [clock.id for clock in world.v1.test_helpers.test_clocks.list().data] == [world.clock.id]
    assert world.v1.test_helpers.test_clocks.delete(world.clock.id).deleted is True
    assert world.v1.subscriptions.retrieve(subscription.id).status == "canceled"
    assert world.v1.customers.retrieve(world.customer.id).deleted is True


# -- billing mode -----------------------------------------------------------------------------------------------------


def test_classic_becomes_flexible_and_not_back(world: World, license: str) -> None:
    subscription = world.subscribe(license, billing_mode={"type": "classic"})
    world.go("2026-01-10")
    given: Any = {"billing_mode": {"type": "flexible"}}
    migrated = world.v1.subscriptions.migrate(subscription.id, given)
    assert (migrated.billing_mode.type, migrated.billing_mode.updated_at) == ("flexible", at("2026-01-10"))
    assert refusal(lambda: world.v1.subscriptions.migrate(subscription.id, given)).http_status == 400


# -- refusals ---------------------------------------------------------------------------------------------------------

Mistake = Callable[[World, str, str], Any]


def _archived(world: World, license: str) -> str:
    world.v1.prices.update(license, {"active": False})
    return license


def _archived_product(world: World, license: str) -> str:
    world.v1.products.update(str(world.v1.prices.retrieve(license).product), {"active": False})
    return license


def _one_time(world: World) -> str:
    return world.v1.prices.create({"product": world.product("Once"), "currency": "usd", "unit_amount": 1}).id


MISTAKES: dict[str, tuple[Mistake, dict[str, Any]]] = {
    "no items": (
        lambda w, lic, use: w.v1.subscriptions.create({"customer": w.customer.id}),
        {"code": "parameter_missing", "message": "Missing required param: items.", "param": "items"},
    ),
    "unknown customer": (
        lambda w, lic, use: w.v1.subscriptions.create({"customer": "cus_nope", "items": [{"price": lic}]}),
        {"status": 404, "code": "resource_missing", "message": "No such customer: 'cus_nope'", "param": "customer"},
    ),
    "unknown price": (
        lambda w, lic, use: w.subscribe("price_nope"),
        {"code": "resource_missing", "message": "No such price: 'price_nope'", "param": "items[0][price]"},
    ),
    "unknown subscription": (
        lambda w, lic, use: w.v1.subscriptions.retrieve("sub_nope"),
        {"status": 404, "code": "resource_missing", "message": "No such subscription: 'sub_nope'", "param": "id"},
    ),
    "the same price twice": (
        lambda w, lic, use: w.subscribe(lic, (lic, 2)),
        {
            "message": "Cannot create a Subscription with multiple Subscription Items with the same Price: {lic}",
            "param": "plan",
        },
    ),
    "the same price added later": (
        lambda w, lic, use: w.change(w.subscribe(lic).id, {"price": lic}),
        {"param": "plan"},
    ),
    "an archived price": (
        lambda w, lic, use: w.subscribe(_archived(w, lic)),
        {
            "message": "The price specified is inactive. This field only accepts active prices.",
            "param": "items[0][price]",
        },
    ),
    "a price of an archived product": (
        lambda w, lic, use: w.subscribe(_archived_product(w, lic)),
        {
            "message": "The product {product} is marked as inactive, and thus no new subscriptions can be create to "
            "any plans of this product. You provided the plan {lic}.",
        },
    ),
    "a one-time price": (
        lambda w, lic, use: w.subscribe(_one_time(w)),
        {"param": "items[0][price]"},
    ),
    "quantity of a metered item": (
        lambda w, lic, use: w.subscribe((use, 1)),
        {"param": "items[0][quantity]"},
    ),
    "quantity of a metered item later": (
        lambda w, lic, use: w.v1.subscription_items.update(w.subscribe(use)["items"].data[0].id, {"quantity": 2}),
        {"param": "items[0][quantity]"},
    ),
    "negative quantity": (
        lambda w, lic, use: w.subscribe((lic, -1)),
        {"code": "parameter_invalid_integer", "param": "items[0][quantity]"},
    ),
    "two currencies": (
        lambda w, lic, use: w.subscribe(lic, w.price("Euro", "1", currency="eur")),
        {
            "param": "items[1][price]",
            "message": "This `price` has `currency=eur`, but other items use `currency=usd`. All items must have "
            "pricing in the same currency. When using multi-currency prices, you can specify `currency` at the top "
            "level, to be used by all items.",
        },
    ),
    "a second currency added": (
        lambda w, lic, use: w.change(w.subscribe(lic).id, {"price": w.price("Euro", "1", currency="eur")}),
        {
            "param": "price",
            "message": "The price specified only supports `eur`. This doesn't match the expected currency: `usd`.",
        },
    ),
    "a second currency of one customer": (
        lambda w, lic, use: (w.subscribe(lic), w.subscribe(w.price("Euro", "1", currency="eur"))),
        {
            "message": "You cannot combine currencies on a single customer. This customer has an active subscription, "
            "subscription schedule, discount, quote, or invoice item with currency usd",
        },
    ),
    "two intervals in classic mode": (
        lambda w, lic, use: w.subscribe(lic, w.price("Yearly", "1", interval="year"), billing_mode={"type": "classic"}),
        {"param": "items"},
    ),
    "intervals that do not divide": (
        lambda w, lic, use: w.subscribe(lic, w.price("Weekly", "1", interval="week")),
        {"param": "items"},
    ),
    "the last item removed": (
        lambda w, lic, use: w.v1.subscription_items.delete(w.subscribe(lic)["items"].data[0].id),
        {
            "message": "A subscription must have at least one active plan. To cancel a subscription, please use the "
            "cancel API endpoint on /v1/subscriptions.",
        },
    ),
    "another subscription's item": (
        lambda w, lic, use: w.change(w.subscribe(lic).id, {"id": w.subscribe(use)["items"].data[0].id, "quantity": 1}),
        {"code": "resource_missing", "param": "items[0][id]"},
    ),
    "a trial in the past": (
        lambda w, lic, use: w.subscribe(lic, trial_end=1000),
        {
            "param": "trial_end",
            "message": "The parameter `trial_end` expects a unix timestamp representing a date and time in the future. "
            "You specified the value `1000` which is in the past.",
        },
    ),
    "the price's own trial beside another": (
        lambda w, lic, use: w.subscribe(lic, trial_from_plan=True, trial_period_days=3),
        {"param": None, "message": "You cannot set `trial_end` or `trial_period_days` when `trial_from_plan=true`."},
    ),
    "an unknown item by itself": (
        lambda w, lic, use: w.v1.subscription_items.retrieve("si_nope"),
        {"status": 404, "param": None, "code": None, "message": "Invalid subscription_item id: si_nope"},
    ),
    "an item for what is over": (
        lambda w, lic, use: w.v1.subscription_items.create(
            {"subscription": w.v1.subscriptions.cancel(w.subscribe(lic).id).id, "price": use}
        ),
        {"status": 404, "param": "subscription", "code": "resource_missing"},
    ),
    "a price that another item has": (
        lambda w, lic, use: w.v1.subscription_items.create({"subscription": w.subscribe(lic).id, "price": lic}),
        {"param": "plan"},
    ),
    "a trial of three years": (
        lambda w, lic, use: w.subscribe(lic, trial_period_days=731),
        {"param": "trial_period_days", "message": "The maximum number of trial period days is 730 (2 years)."},
    ),
    "two ways to say the trial": (
        lambda w, lic, use: w.subscribe(lic, trial_end=at("2026-02-01"), trial_period_days=3),
        {"param": "trial_end"},
    ),
    "a billing day beyond the first period": (
        lambda w, lic, use: w.subscribe(lic, billing_cycle_anchor=at("2026-02-02")),
        {"param": "billing_cycle_anchor"},
    ),
    "a cancellation in the past": (
        lambda w, lic, use: w.change(w.subscribe(lic).id, cancel_at=at("2025-12-31")),
        {"param": "cancel_at"},
    ),
    "two ways to say the end": (
        lambda w, lic, use: w.change(w.subscribe(lic).id, cancel_at=at("2026-03-01"), cancel_at_period_end=True),
        {"param": "cancel_at"},
    ),
    "a proration date outside of the period": (
        lambda w, lic, use: w.change(w.subscribe(lic).id, proration_date=at("2026-03-01")),
        {"param": "proration_date"},
    ),
    "days until due of what is charged": (
        lambda w, lic, use: w.subscribe(lic, days_until_due=3),
        {
            "param": None,
            "message": "You can only specify 'days_until_due' if invoice collection method is 'send_invoice'.",
        },
    ),
    "pending_if_incomplete at creation": (
        lambda w, lic, use: w.subscribe(lic, payment_behavior="pending_if_incomplete"),
        {
            "message": "Setting `payment_behavior` to `pending_if_incomplete` has no effect when creating a "
            "subscription.",
            "param": "payment_behavior",
        },
    ),
    "a change while the first payment is to be made": (
        lambda w, lic, use: w.change(
            w.subscribe(lic, payment_behavior="default_incomplete").id, cancel_at_period_end=True
        ),
        {"code": "status_transition_invalid"},
    ),
    "a payment behaviour that is none": (
        lambda w, lic, use: w.subscribe(lic, payment_behavior="whatever"),
        {
            "message": "Invalid payment_behavior: must be one of allow_incomplete, error_if_incomplete, "
            "pending_if_incomplete, or default_incomplete",
            "param": "payment_behavior",
        },
    ),
    "an unknown parameter of an item": (
        lambda w, lic, use: w.subscribe({"price": lic, "nope": 1}),
        {"code": "parameter_unknown", "message": "Received unknown parameter: items[0][nope]"},
    ),
    "an unknown tax rate": (
        lambda w, lic, use: w.subscribe(lic, default_tax_rates=["txr_nope"]),
        {"code": "resource_missing", "message": "No such tax rate: 'txr_nope'", "param": "default_tax_rates[0]"},
    ),
    "an unknown payment method": (
        lambda w, lic, use: w.subscribe(lic, default_payment_method="pm_nope"),
        {"code": "resource_missing", "param": "default_payment_method"},
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_refused_as_stripe_refuses_them(world: World, license: str, tokens: str, mistake: str) -> None:
    act, expected = MISTAKES[mistake]
    product = str(world.v1.prices.retrieve(license).product)
    error = refusal(lambda: act(world, license, tokens))
    assert error.http_status == expected.get("status", 400)
    for name in ("code", "param"):
        if name in expected:
            assert getattr(error, name) == expected[name]
    if "message" in expected:
        assert error.user_message == expected["message"].format(lic=license, product=product)


def test_what_is_not_implemented_is_refused_by_name(world: World, license: str) -> None:
    subscription = world.subscribe(license)
    error = refusal(lambda: world.change(subscription.id, description="b", payment_behavior="pending_if_incomplete"))
    assert error.http_status == 501
    assert "payment_behavior=pending_if_incomplete" in str(error.user_message)
    assert world.v1.subscriptions.retrieve(subscription.id).description is None
