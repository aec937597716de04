"""Invoices and invoice items: previews of what would be, finalizing, paying, voiding."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import stripe

from .bills import World, at, lines, refusal


@pytest.fixture
def world(client: stripe.StripeClient) -> World:
    return World(client, "2026-04-01")


@pytest.fixture
def license(world: World) -> str:
    return world.price("License", "10000")


@pytest.fixture
def tokens(world: World) -> str:
    return world.usage_price("Tokens", world.meter("tokens"), **world.tiered((1000, "0", None), (None, "0.04", None)))


def preview(world: World, **params: Any) -> stripe.Invoice:
    given: Any = params
    return world.v1.invoices.create_preview(given)


# -- previews ---------------------------------------------------------------------------------------------------------


def test_a_preview_stores_nothing(world: World, license: str, tokens: str) -> None:
    subscription = world.subscribe((license, 3), tokens)
    before = world.v1.subscriptions.retrieve(subscription.id).to_dict()
    item = subscription["items"].data[0].id
    shown = world.preview(subscription.id, items=[{"id": item, "quantity": 9}], proration_behavior="always_invoice")
    assert shown.id.startswith("upcoming_in_")
    assert shown.billing_reason == "upcoming"
    assert world.v1.subscriptions.retrieve(subscription.id).to_dict() == before
    assert len(world.invoices()) == 1
    assert world.v1.invoice_items.list({"customer": world.customer.id}).data == []
    assert refusal(lambda: world.v1.invoices.retrieve(shown.id)).http_status == 404


def test_a_preview_of_a_change_is_what_the_change_then_costs(world: World, license: str) -> None:
    subscription = world.subscribe((license, 3))
    item = subscription["items"].data[0].id
    world.go("2026-04-16")
    moment = at("2026-04-11")
    shown = world.preview(
        subscription.id,
        items=[{"id": item, "quantity": 6}],
        proration_behavior="always_invoice",
        proration_date=moment,
    )
    world.change(
        subscription.id,
        {"id": item, "quantity": 6},
        proration_behavior="always_invoice",
        proration_date=moment,
    )
    # 20 of 30 days: −200.00 and +400.00
    assert lines(shown) == world.bill()
    assert shown.total == world.invoices()[-1].total == 20_000


def test_a_preview_of_a_second_change_at_one_moment_has_the_invoices_order(world: World, license: str) -> None:
    subscription = world.subscribe((license, 1))
    item = subscription["items"].data[0].id
    world.go("2026-04-16")
    world.change(subscription.id, {"id": item, "quantity": 2})
    shown = lines(world.preview(subscription.id, items=[{"id": item, "quantity": 3}]))
    world.change(subscription.id, {"id": item, "quantity": 3})
    assert lines(world.preview(subscription.id)) == shown
    world.go("2026-05-01")
    assert world.bill() == shown


def test_a_preview_can_add_and_remove_items(world: World, license: str, tokens: str) -> None:
    subscription = world.subscribe((license, 1), tokens)
    world.use("tokens", 26_000)
    world.go("2026-04-16")
    usage = subscription["items"].data[1].id
    other = world.price("Support", "5000")
    shown = world.preview(subscription.id, items=[{"id": usage, "deleted": True}, {"price": other}])
    # 10.00 of usage, half of 50.00 for April, 50.00 and 100.00 for May
    assert sorted(amount for _, amount in lines(shown)) == [1_000, 2_500, 5_000, 10_000]


def test_a_preview_can_describe_a_price_that_nobody_made(world: World, license: str) -> None:
    subscription = world.subscribe((license, 1))
    described = {
        "currency": "usd",
        "product": world.product("Extra"),
        "recurring": {"interval": "month"},
        "unit_amount": 700,
    }
    prices = len(world.v1.prices.list({"limit": 100}).data)
    shown = world.preview(subscription.id, items=[{"price_data": described}], proration_behavior="none")
    assert lines(shown) == [("1 × License (at $100.00 / month)", 10_000), ("1 × Extra (at $7.00 / month)", 700)]
    assert len(world.v1.prices.list({"limit": 100}).data) == prices


def test_a_preview_of_a_subscription_to_be(world: World, license: str, tokens: str) -> None:
    items = [{"price": license, "quantity": 3}, {"price": tokens}]
    flexible = preview(world, customer=world.customer.id, subscription_details={"items": items})
    classic = preview(
        world,
        customer=world.customer.id,
        subscription_details={"items": items, "billing_mode": {"type": "classic"}},
    )
    assert lines(flexible) == [("3 × License (at $100.00 / month)", 30_000)]
    assert lines(classic) == [
        ("3 × License (at $100.00 / month)", 30_000),
        ("0 × Tokens (Tier 1 at $0.00 / month)", 0),
    ]
    assert flexible.parent is None
    assert world.v1.subscriptions.list({"customer": world.customer.id}).data == []


def test_a_preview_of_a_trial_to_be(world: World, license: str) -> None:
    shown = preview(
        world,
        customer=world.customer.id,
        subscription_details={"items": [{"price": license}], "trial_end": at("2026-04-20")},
    )
    assert lines(shown) == [("Free trial for 1 × License", 0)]


def test_a_preview_of_ending_now_and_at_the_periods_end(world: World, license: str, tokens: str) -> None:
    subscription = world.subscribe((license, 1), tokens)
    world.use("tokens", 26_000)
    world.go("2026-04-16")
    # −50.00 and 10.00 of usage
    assert world.preview(subscription.id, cancel_now=True).total == -4_000
    assert world.preview(subscription.id, cancel_now=True, proration_behavior="none").total == 1_000
    assert world.preview(subscription.id, cancel_at_period_end=True).total == 1_000
    assert world.v1.subscriptions.retrieve(subscription.id).cancel_at is None


def test_a_preview_with_invoice_items_beside(world: World, license: str) -> None:
    subscription = world.subscribe((license, 1))
    shown = preview(
        world,
        subscription=subscription.id,
        invoice_items=[{"amount": 1500, "currency": "usd", "description": "Set-up"}],
    )
    assert lines(shown) == [("Set-up", 1_500), ("1 × License (at $100.00 / month)", 10_000)]


def test_there_is_no_preview_of_a_customer_alone(world: World, license: str) -> None:
    world.subscribe(license)
    world.v1.invoice_items.create({"customer": world.customer.id, "amount": 250, "currency": "usd"})
    error = refusal(lambda: preview(world, customer=world.customer.id))
    assert (error.http_status, error.code) == (400, None)
    assert error.user_message == (
        "You must provide at least one of: `subscription`, `schedule`, `subscription_details.items`, "
        "`schedule_details.phases`, `invoice_items`."
    )
    # What waits comes along with what is asked for.
    more: Any = [{"amount": 100, "currency": "usd"}]
    assert preview(world, customer=world.customer.id, invoice_items=more).total == 350


def test_a_canceled_subscription_has_no_next_invoice(world: World, license: str) -> None:
    subscription = world.subscribe(license)
    world.v1.subscriptions.cancel(subscription.id)
    error = refusal(lambda: world.preview(subscription.id))
    assert (error.http_status, error.code, error.user_message) == (
        404,
        "invoice_upcoming_none",
        f"No upcoming invoices for customer: {world.customer.id}",
    )


def test_usage_that_lags_is_not_in_the_preview_yet(world: World, tokens: str, control: Any) -> None:
    control("POST", "lag", seconds=60)
    subscription = world.subscribe(tokens)
    world.use("tokens", 26_000)
    assert world.preview(subscription.id).total == 0
    world.go("2026-04-01T00:01:00")
    assert world.preview(subscription.id).total == 1_000


# -- invoice items ----------------------------------------------------------------------------------------------------


def test_an_invoice_item_waits_for_the_next_invoice(world: World, license: str) -> None:
    world.subscribe(license)
    item = world.v1.invoice_items.create(
        {"customer": world.customer.id, "amount": -300, "currency": "usd", "description": "Sorry"}
    )
    assert (item.amount, item.invoice) == (-300, None)
    world.go("2026-05-01T02:00:00")
    assert world.bill() == [("Sorry", -300), ("1 × License (at $100.00 / month)", 10_000)]
    assert world.v1.invoice_items.retrieve(item.id).invoice == world.invoices()[-1].id


@pytest.mark.parametrize(
    ("params", "cents"),
    [
        ({"unit_amount_decimal": "12.5", "quantity": 3}, 38),  # 37.5
        ({"unit_amount_decimal": "200", "quantity_decimal": "1.25"}, 250),
        ({"amount": 99}, 99),
    ],
)
def test_what_an_invoice_item_costs(world: World, params: dict[str, Any], cents: int) -> None:
    given: Any = {"customer": world.customer.id, "currency": "usd", **params}
    assert world.v1.invoice_items.create(given).amount == cents


def test_an_invoice_item_of_a_one_time_price(world: World) -> None:
    price = world.v1.prices.create({"product": world.product("Set-up"), "currency": "usd", "unit_amount": 5000})
    given: Any = {"customer": world.customer.id, "pricing": {"price": price.id}, "quantity": 2}
    item = world.v1.invoice_items.create(given)
    assert (item.amount, item.description) == (10_000, "Set-up")


def test_one_time_prices_with_a_subscriptions_first_invoice(world: World, license: str) -> None:
    setup = world.v1.prices.create({"product": world.product("Set-up"), "currency": "usd", "unit_amount": 5000})
    world.subscribe(license, add_invoice_items=[{"price": setup.id}])
    assert world.bill() == [("Set-up", 5_000), ("1 × License (at $100.00 / month)", 10_000)]


# -- finalizing, paying, voiding ---------------------------------------------------------------------------------------


def test_a_manual_invoice_from_draft_to_paid(world: World) -> None:
    world.v1.invoice_items.create({"customer": world.customer.id, "amount": 700, "currency": "usd"})
    draft = world.v1.invoices.create(
        {"customer": world.customer.id, "pending_invoice_items_behavior": "include", "metadata": {"a": "b"}}
    )
    assert (draft.status, draft.total, draft.auto_advance) == ("draft", 700, False)
    finalized = world.v1.invoices.finalize_invoice(draft.id)
    assert (finalized.status, finalized.total, finalized.billing_reason) == ("open", 700, "manual")
    assert finalized.number is not None
    assert finalized.number.endswith("-0001")
    paid = world.v1.invoices.pay(draft.id)
    assert (paid.status, paid.amount_paid) == ("paid", 700)


def test_how_a_manual_invoice_falls_due_is_said_when_it_is_sent_and_only_then(world: World) -> None:
    customer = world.customer.id
    error = refusal(lambda: world.v1.invoices.create({"customer": customer, "collection_method": "send_invoice"}))
    assert error.user_message == (
        "If invoice collection method is 'send_invoice', you must specify 'due_date' or 'days_until_due'."
    )
    error = refusal(lambda: world.v1.invoices.create({"customer": customer, "days_until_due": 5}))
    assert error.user_message == (
        "You can only specify 'due_date' or 'days_until_due' if invoice collection method is 'send_invoice'."
    )
    sent = world.v1.invoices.create({"customer": customer, "collection_method": "send_invoice", "days_until_due": 5})
    assert sent.due_date == at("2026-04-06")


@pytest.mark.parametrize("params", [{"auto_advance": True}, {"discounts": ""}, {"default_tax_rates": ["txr_1"]}])
def test_what_a_manual_invoice_does_not_take_is_refused_by_name(world: World, params: dict[str, Any]) -> None:
    given: Any = {"customer": world.customer.id, **params}
    error = refusal(lambda: world.v1.invoices.create(given))
    assert (error.http_status, next(iter(params)) in str(error.user_message)) == (501, True)


def test_a_draft_of_a_renewal_can_be_finalized_before_its_hour(world: World, tokens: str) -> None:
    world.subscribe(tokens)
    world.use("tokens", 2_000)
    world.go("2026-05-01T00:10:00")
    draft = world.invoices()[-1]
    assert (draft.status, draft.automatically_finalizes_at) == ("draft", at("2026-05-01T01:00:00"))
    # 1,000 × 0.04 cents is too little to charge
    assert world.v1.invoices.finalize_invoice(draft.id).status == "paid"


def test_what_is_finalized_by_hand_is_charged_an_hour_on(world: World, license: str) -> None:
    world.subscribe(license)
    world.go("2026-05-01T00:10:00")
    draft = world.invoices()[-1]
    # Recorded: the request itself attempts nothing
    finalized = world.v1.invoices.finalize_invoice(draft.id)
    assert (finalized.status, finalized.attempted) == ("open", False)
    world.go("2026-05-01T01:10:00")
    assert world.v1.invoices.retrieve(draft.id).status == "paid"


def test_a_voided_invoice_is_no_longer_owed(world: World, license: str) -> None:
    world.customer = world.new_customer(invoice_settings={})
    world.subscribe(license, collection_method="send_invoice", days_until_due=3)
    world.go("2026-04-01T01:00:00")
    open_invoice = world.invoices()[-1]
    assert world.v1.invoices.void_invoice(open_invoice.id).status == "void"
    assert refusal(lambda: world.v1.invoices.pay(open_invoice.id)).http_status == 400


def test_an_invoice_of_a_deleted_customer_can_be_paid_elsewhere_only(world: World, license: str) -> None:
    world.subscribe(license, collection_method="send_invoice", days_until_due=30)
    invoice = world.v1.invoices.finalize_invoice(world.invoices()[-1].id)
    world.v1.customers.delete(world.customer.id)
    error = refusal(lambda: world.v1.invoices.pay(invoice.id))
    assert (error.http_status, error.user_message) == (400, "Invoice can't be paid: Customer deleted")
    assert world.v1.invoices.retrieve(invoice.id).status == "open"
    assert world.v1.invoices.pay(invoice.id, {"paid_out_of_band": True}).status == "paid"


def test_what_the_balance_paid_goes_back_when_voided(world: World, license: str) -> None:
    world.customer = world.new_customer(invoice_settings={}, balance=-2500)
    world.subscribe(license, collection_method="send_invoice", days_until_due=3)
    world.go("2026-04-01T01:00:00")
    owed = world.invoices()[-1]
    assert (owed.starting_balance, owed.ending_balance, owed.amount_due) == (-2_500, 0, 7_500)
    assert world.v1.customers.retrieve(world.customer.id).balance == 0
    world.v1.invoices.void_invoice(owed.id)
    assert world.v1.customers.retrieve(world.customer.id).balance == -2_500


# -- reading ----------------------------------------------------------------------------------------------------------


def test_more_than_ten_lines_are_read_in_pages(world: World, license: str) -> None:
    world.subscribe(license)
    for number in range(11):
        world.v1.invoice_items.create(
            {"customer": world.customer.id, "amount": number + 1, "currency": "usd", "description": str(number)}
        )
    world.go("2026-05-01T00:30:00")
    draft = world.invoices()[-1]
    assert draft.total == 10_066
    assert (len(draft.lines.data), draft.lines.has_more) == (10, True)
    first = world.v1.invoices.line_items.list(draft.id, {"limit": 7})
    rest = world.v1.invoices.line_items.list(draft.id, {"limit": 7, "starting_after": first.data[-1].id})
    assert [len(first.data), first.has_more, len(rest.data), rest.has_more] == [7, True, 5, False]
    back = world.v1.invoices.line_items.list(draft.id, {"limit": 3, "ending_before": rest.data[0].id})
    assert [line.id for line in back.data] == [line.id for line in first.data[-3:]]


def test_invoices_are_listed_by_customer_subscription_and_state(world: World, license: str) -> None:
    subscription = world.subscribe(license)
    world.go("2026-05-01T00:30:00")

    def found(**params: Any) -> list[str | None]:
        given: Any = {"customer": world.customer.id, **params}
        return [invoice.status for invoice in world.v1.invoices.list(given).data]

    assert found() == ["draft", "paid"]
    assert found(status="paid", subscription=subscription.id) == ["paid"]


def test_lines_say_where_they_come_from(world: World, license: str) -> None:
    subscription = world.subscribe((license, 2))
    line = world.invoices()[-1].lines.data[0]
    assert line.parent is not None
    assert line.parent.subscription_item_details is not None
    assert line.parent.subscription_item_details.subscription_item == subscription["items"].data[0].id
    assert line.pricing is not None
    assert line.pricing.price_details is not None
    assert (line.pricing.price_details.price, str(line.pricing.unit_amount_decimal)) == (license, "10000")
    assert (line.quantity, str(line.quantity_decimal)) == (2, "2")
    assert line.parent.subscription_item_details.subscription == subscription.id


# -- refusals ---------------------------------------------------------------------------------------------------------

MISTAKES: dict[str, tuple[Callable[[World, str], Any], int, str | None]] = {
    "an unknown invoice": (lambda w, lic: w.v1.invoices.retrieve("in_nope"), 404, "resource_missing"),
    "a preview of an unknown subscription": (lambda w, lic: w.preview("sub_nope"), 404, "resource_missing"),
    "a preview of nothing": (lambda w, lic: preview(w), 400, None),
    "a preview of another customer's": (
        lambda w, lic: preview(w, customer=w.new_customer().id, subscription=w.subscribe(lic).id),
        400,
        None,
    ),
    "a schedule beside a subscription": (
        lambda w, lic: preview(w, schedule="sub_sched_1", subscription=w.subscribe(lic).id),
        400,
        None,
    ),
    "finalizing twice": (
        lambda w, lic: (w.subscribe(lic), w.v1.invoices.finalize_invoice(w.invoices()[-1].id)),
        400,
        None,
    ),
    "paying twice": (
        lambda w, lic: (w.subscribe(lic), w.v1.invoices.pay(w.invoices()[-1].id)),
        400,
        None,
    ),
    "voiding what is paid": (
        lambda w, lic: (w.subscribe(lic), w.v1.invoices.void_invoice(w.invoices()[-1].id)),
        400,
        None,
    ),
    "an invoice item without an amount": (
        lambda w, lic: w.v1.invoice_items.create({"customer": w.customer.id, "currency": "usd"}),
        400,
        None,
    ),
    "an invoice item of a recurring price": (
        lambda w, lic: w.v1.invoice_items.create({"customer": w.customer.id, "pricing": {"price": lic}}),
        400,
        None,
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_refused(world: World, license: str, mistake: str) -> None:
    act, status, code = MISTAKES[mistake]
    error = refusal(lambda: act(world, license))
    assert (error.http_status, error.error.code if error.error else None) == (status, code)
