"""Bills worked out by hand, the arithmetic beside them; asked for and read through stripe-python alone."""

from __future__ import annotations

from typing import Any

import pytest
import stripe

from .bills import World, at, lines


@pytest.fixture
def world(client: stripe.StripeClient) -> World:
    return World(client)


@pytest.fixture
def tokens(world: World) -> str:
    """Alpaca.ai's usage price: 1,000 tokens free, then 0.04 cents each."""
    meter = world.meter("tokens")
    return world.usage_price("Tokens", meter, **world.tiered((1000, "0", None), (None, "0.04", None)))


# -- the guide's model ------------------------------------------------------------------------------------------------


def test_the_guides_first_invoice_is_the_licence_alone(world: World, tokens: str) -> None:
    subscription = world.subscribe((world.price("License", "10000"), 3), tokens)
    assert subscription.status == "active"
    # 3 × 100.00; flexible billing mode leaves the metered item out
    assert world.bill() == [("3 × License (at $100.00 / month)", 30_000)]


def test_the_guides_preview_is_300_and_10(world: World, tokens: str) -> None:
    subscription = world.subscribe((world.price("License", "10000"), 3), tokens)
    world.use("tokens", 20_000)
    world.use("tokens", 6_000)
    preview = world.preview(subscription.id)
    # 1,000 free; 25,000 × 0.04 cents = 10.00; 3 × 100.00
    assert lines(preview) == [
        ("3 × License (at $100.00 / month)", 30_000),
        ("1000 × Tokens (Tier 1 at $0.00 / month)", 0),
        ("25000 × Tokens (Tier 2 at $0.0004 / month)", 1_000),
    ]
    assert preview.total == preview.amount_due == 31_000
    assert (preview.period_start, preview.period_end) == (at("2026-01-01"), at("2026-02-01"))


def test_a_renewal_bills_the_past_periods_usage_and_the_next_periods_fee(world: World, tokens: str) -> None:
    subscription = world.subscribe((world.price("License", "10000"), 1), tokens)
    world.use("tokens", 3_000)
    world.go("2026-02-01T02:00:00")
    # 2,000 × 0.04 cents = 0.80, and 100.00 for February
    assert world.bill() == [
        ("1 × License (at $100.00 / month)", 10_000),
        ("1000 × Tokens (Tier 1 at $0.00 / month)", 0),
        ("2000 × Tokens (Tier 2 at $0.0004 / month)", 80),
    ]
    invoice = world.invoices()[-1]
    assert (invoice.status, invoice.total, invoice.billing_reason) == ("paid", 10_080, "subscription_cycle")
    periods = [(line.period.start, line.period.end) for line in invoice.lines.data]
    january, february = (at("2026-01-01"), at("2026-02-01")), (at("2026-02-01"), at("2026-03-01"))
    assert periods == [february, january, january]
    # what January used is not billed again
    assert world.preview(subscription.id).total == 10_000


def test_the_free_allowance_begins_anew_each_month(world: World, tokens: str) -> None:
    world.subscribe(tokens)
    world.use("tokens", 1_000)
    world.go("2026-02-01T02:00:00")
    world.use("tokens", 1_500)
    world.go("2026-03-01T02:00:00")
    # January: all free. February: 500 × 0.04 = 20 cents
    assert [invoice.total for invoice in world.invoices()] == [0, 20]


# -- ways to price ----------------------------------------------------------------------------------------------------


def test_flat_fees_of_tiers_are_lines_of_their_own(world: World) -> None:
    # The shape recorded from Stripe: 9.00 for up to 1,000, then 3.6 cents each
    tiers = world.tiered((1000, "0", 900), (None, "3.6", 0))
    world.subscribe(world.usage_price("Credits", world.meter("credits"), **tiers))
    world.use("credits", 1_031)
    world.go("2026-02-01T02:00:00")
    assert world.bill() == [
        ("1000 × Credits (Tier 1 at $0.00 / month)", 0),
        ("Credits (Tier 1 at $9.00 / month)", 900),
        ("31 × Credits (Tier 2 at $0.036 / month)", 112),  # 31 × 3.6 = 111.6
        ("Credits (Tier 2 at $0.00 / month)", 0),
    ]
    quantities = [(line.quantity, line.quantity_decimal) for line in world.invoices()[-1].lines.data]
    assert [quantity for quantity, _ in quantities] == [1000, 0, 31, 0]


def test_volume_bills_every_unit_at_the_tier_reached(world: World) -> None:
    tiers = world.tiered((1000, "10", None), (None, "8", None), mode="volume")
    world.subscribe(world.usage_price("Calls", world.meter("calls"), **tiers))
    world.use("calls", 1_200)
    world.go("2026-02-01T02:00:00")
    # 1,200 × 8 cents
    assert world.bill() == [("1200 × Calls (Tier 2 at $0.08 / month)", 9_600)]


def test_seats_can_be_tiered_too(world: World) -> None:
    tiers = world.tiered((5, "700", None), (10, "650", None), (None, "600", None))
    world.subscribe((world.price("Seat", None, **tiers), 12))
    # 5 × 7.00 + 5 × 6.50 + 2 × 6.00 = 35.00 + 32.50 + 12.00
    assert [amount for _, amount in world.bill()] == [3_500, 3_250, 1_200]


def test_packages_of_sixty_minutes_are_rounded_up(world: World) -> None:
    price = world.usage_price(
        "Rental",
        world.meter("minutes"),
        unit_amount_decimal="1000",
        transform_quantity={"divide_by": 60, "round": "up"},
    )
    world.subscribe(price)
    world.use("minutes", 150)
    world.go("2026-02-01T02:00:00")
    # 150 / 60 = 2.5, so 3 × 10.00
    assert world.bill() == [("150 × Rental (at $10.00 per 60 units / month)", 3_000)]


@pytest.mark.parametrize(
    ("cents", "name", "seconds", "line", "amount"),
    [
        # Two lines of bills that customers of Retell AI published, of April 2025 and of April 2026.
        ("8", "Voice", 9_892, "9892 × Voice (at $0.08 per 60 units / month)", 1_320),
        ("10", "Quality", 2_654, "2654 × Quality (at $0.10 per 60 units / month)", 450),
    ],
)
def test_a_line_of_packages_tells_the_units_used(
    world: World, cents: str, name: str, seconds: int, line: str, amount: int
) -> None:
    each = {"divide_by": 60, "round": "up"}
    price = world.usage_price(name, world.meter("seconds"), unit_amount_decimal=cents, transform_quantity=each)
    world.subscribe(price)
    world.use("seconds", seconds)
    world.go("2026-02-01T02:00:00")
    assert world.bill() == [(line, amount)]
    assert world.invoices()[-1].lines.data[0].quantity == seconds


def test_a_package_of_one_hundred_begun_is_paid_in_full(world: World) -> None:
    price = world.usage_price(
        "Tokens by the hundred",
        world.meter("tokens"),
        unit_amount_decimal="4",
        transform_quantity={"divide_by": 100, "round": "up"},
    )
    subscription = world.subscribe(price)
    world.use("tokens", 26_001)
    # 260.01 hundreds begun: 261 × 4 cents
    assert world.preview(subscription.id).total == 1_044


@pytest.mark.parametrize(
    ("each", "units", "cents"),
    [
        ("0.05", 30, 2),  # 1.5, Stripe's own example of rounding
        ("0.049", 30, 1),  # 1.47
        ("0.000000000001", 999_999_999_999, 1),  # 0.999999999999
        ("33.333333333333", 3, 100),  # 99.999999999999
    ],
)
def test_decimal_amounts_are_rounded_on_the_line(world: World, each: str, units: int, cents: int) -> None:
    subscription = world.subscribe(world.usage_price("Unit", world.meter("units"), unit_amount_decimal=each))
    world.use("units", units)
    assert world.preview(subscription.id).total == cents


def test_each_line_is_rounded_by_itself(world: World) -> None:
    meter = world.meter("units")
    first = world.usage_price("First", meter, unit_amount_decimal="0.4")
    second = world.usage_price("Second", meter, unit_amount_decimal="0.4")
    subscription = world.subscribe(first, second)
    world.use("units", 1)
    # 0.4 + 0.4 = 0.8 would be a cent; two lines of 0.4 are nothing
    assert world.preview(subscription.id).total == 0


def test_unit_labels_are_named_on_the_line(world: World) -> None:
    product = world.product("Gitpod Usage", unit_label="credit")
    price = world.v1.prices.create(
        {"product": product, "currency": "usd", "unit_amount": 250, "recurring": {"interval": "month"}}
    )
    world.subscribe((price.id, 4))
    assert world.bill() == [("4 credit × Gitpod Usage (at $2.50 / month)", 1_000)]


def test_a_currency_without_minor_units(world: World) -> None:
    price = world.v1.prices.create(
        {
            "product": world.product("License"),
            "currency": "jpy",
            "unit_amount": 1500,
            "recurring": {"interval": "month"},
        }
    )
    world.subscribe((price.id, 2))
    assert world.bill() == [("2 × License (at ¥1,500 / month)", 3_000)]


def test_a_price_in_another_of_its_currencies(world: World) -> None:
    price = world.price("License", "10000", currency_options={"eur": {"unit_amount": 9000}})
    world.subscribe((price, 2), currency="eur")
    assert world.bill() == [("2 × License (at €90.00 / month)", 18_000)]
    assert world.invoices()[-1].currency == "eur"


@pytest.mark.parametrize(("formula", "cents"), [("sum", 60), ("count", 3), ("last", 30)])
def test_meters_that_sum_count_or_keep_the_last(world: World, formula: str, cents: int) -> None:
    price = world.usage_price("Unit", world.meter("units", formula), unit_amount_decimal="1")
    subscription = world.subscribe(price)
    for day, value in (("2026-01-01", 10), ("2026-01-01T00:00:01", 20), ("2026-01-01T00:00:02", 30)):
        world.use("units", value, day)
    assert world.preview(subscription.id).total == cents


# -- billing modes ----------------------------------------------------------------------------------------------------


def test_classic_mode_begins_with_a_zero_line_for_each_metered_item(world: World, tokens: str) -> None:
    license = world.price("License", "10000")
    world.subscribe((license, 1), tokens, billing_mode={"type": "classic"})
    assert world.bill() == [
        ("1 × License (at $100.00 / month)", 10_000),
        ("0 × Tokens (Tier 1 at $0.00 / month)", 0),
    ]


def test_usage_alone_begins_without_an_invoice_in_flexible_mode(world: World, tokens: str) -> None:
    subscription = world.subscribe(tokens)
    assert (subscription.status, subscription.latest_invoice) == ("active", None)
    assert world.invoices() == []


def test_usage_alone_begins_with_a_paid_invoice_of_nothing_in_classic_mode(world: World, tokens: str) -> None:
    world.subscribe(tokens, billing_mode={"type": "classic"})
    assert [(invoice.total, invoice.status) for invoice in world.invoices()] == [(0, "paid")]


def test_renewals_are_alike_in_both_modes(world: World, tokens: str) -> None:
    license = world.price("License", "10000")
    renewed = []
    for mode in ("flexible", "classic"):
        world.customer = world.new_customer()
        renewed.append(world.subscribe((license, 2), tokens, billing_mode={"type": mode}).id)
        world.use("tokens", 11_000)
    world.go("2026-02-01T02:00:00")
    # 2 × 100.00 + 10,000 × 0.04 cents = 204.00
    newest = [world.v1.invoices.list({"subscription": id}).data[0] for id in renewed]
    assert [invoice.total for invoice in newest] == [20_400, 20_400]


# -- trials -----------------------------------------------------------------------------------------------------------


def test_a_trial_begins_with_an_invoice_of_nothing(world: World) -> None:
    subscription = world.subscribe((world.price("License", "10000"), 3), trial_period_days=14)
    assert (subscription.status, subscription.trial_end) == ("trialing", at("2026-01-15"))
    assert world.bill() == [("Free trial for 3 × License", 0)]
    assert world.invoices()[-1].status == "paid"


def test_the_end_of_a_trial_bills_the_first_month_and_usage_of_the_trial_for_nothing(world: World, tokens: str) -> None:
    subscription = world.subscribe((world.price("License", "10000"), 3), tokens, trial_period_days=14)
    world.use("tokens", 50_000)
    world.go("2026-01-15T02:00:00")
    assert world.bill() == [("3 × License (at $100.00 / month)", 30_000), ("Free trial for 50000 × Tokens", 0)]
    line = world.invoices()[-1].lines.data[1]
    assert (line.quantity, line.period.start, line.period.end) == (50_000, at("2026-01-01"), at("2026-01-15"))
    assert world.preview(subscription.id).lines.data[-1].amount == 0
    renewed = world.v1.subscriptions.retrieve(subscription.id)
    assert renewed.status == "active"
    assert renewed["items"].data[0].current_period_end == at("2026-02-15")
    world.use("tokens", 2_000)
    world.go("2026-02-15T02:00:00")
    # 1,000 × 0.04 cents = 0.40 for the first month that counts
    assert world.invoices()[-1].total == 30_040


def test_a_trial_needs_no_card_and_ends_past_due_without_one(world: World) -> None:
    world.customer = world.new_customer(invoice_settings={})
    subscription = world.subscribe(world.price("License", "10000"), trial_period_days=7)
    world.go("2026-01-08T02:00:00")
    assert world.v1.subscriptions.retrieve(subscription.id).status == "past_due"
    assert world.invoices()[-1].status == "open"


def test_a_trial_without_a_card_can_cancel_itself(world: World) -> None:
    world.customer = world.new_customer(invoice_settings={})
    subscription = world.subscribe(
        world.price("License", "10000"),
        trial_period_days=7,
        trial_settings={"end_behavior": {"missing_payment_method": "cancel"}},
    )
    world.go("2026-01-08T02:00:00")
    assert world.v1.subscriptions.retrieve(subscription.id).status == "canceled"
    assert [invoice.total for invoice in world.invoices()] == [0]


def test_a_trial_that_ends_now_bills_now(world: World) -> None:
    subscription = world.subscribe((world.price("License", "10000"), 2), trial_period_days=14)
    world.go("2026-01-08")
    world.v1.subscriptions.update(subscription.id, {"trial_end": "now"})
    assert world.bill() == [("2 × License (at $100.00 / month)", 20_000)]
    ends = world.v1.subscriptions.retrieve(subscription.id)["items"].data[0].current_period_end
    assert ends == at("2026-02-08")


def test_a_trial_in_front_of_a_fixed_billing_day_bills_the_rest_of_the_month(world: World) -> None:
    # Free until the 22nd of April, then billed on the 1st: 9 of April's 30 days, 90.00 × 9 / 30 = 27.00
    world.go("2026-04-15")
    world.subscribe(world.price("License", "9000"), trial_end=at("2026-04-22"), billing_cycle_anchor=at("2026-05-01"))
    world.go("2026-04-22T02:00:00")
    assert world.bill() == [("Remaining time on License after 22 Apr 2026", 2_700)]
    world.go("2026-05-01T02:00:00")
    assert world.bill() == [("1 × License (at $90.00 / month)", 9_000)]


# -- periods ----------------------------------------------------------------------------------------------------------


def test_a_subscription_of_the_31st_bills_on_the_last_days_of_months(world: World) -> None:
    world.go("2026-01-31T10:00:00")
    subscription = world.subscribe(world.price("License", "10000"))
    ends = []
    for day in ("2026-02-28T12:00:00", "2026-03-31T12:00:00", "2026-04-30T12:00:00"):
        ends.append(world.v1.subscriptions.retrieve(subscription.id)["items"].data[0].current_period_end)
        world.go(day)
    assert ends == [at("2026-02-28T10:00:00"), at("2026-03-31T10:00:00"), at("2026-04-30T10:00:00")]
    assert [invoice.total for invoice in world.invoices()] == [10_000] * 4


def test_a_later_billing_day_bills_the_days_until_then(world: World) -> None:
    # 1 to 16 January is 15 days of the 31 from 16 December: 10,000 × 15 / 31 = 4,838.7
    world.subscribe(world.price("License", "10000"), billing_cycle_anchor=at("2026-01-16"))
    assert world.bill() == [("Remaining time on License after 01 Jan 2026", 4_839)]
    world.go("2026-01-16T02:00:00")
    assert world.bill() == [("1 × License (at $100.00 / month)", 10_000)]


def test_without_proration_the_days_until_the_billing_day_are_free(world: World) -> None:
    world.subscribe(world.price("License", "10000"), billing_cycle_anchor=at("2026-01-16"), proration_behavior="none")
    assert world.invoices() == []
    world.go("2026-01-16T02:00:00")
    assert [invoice.total for invoice in world.invoices()] == [10_000]


def test_a_backdated_subscription_bills_what_has_passed_and_its_usage_with_the_next_invoice(
    world: World, tokens: str
) -> None:
    world.go("2026-01-20")
    world.use("tokens", 6_000, "2026-01-10")
    subscription = world.subscribe((world.price("License", "10000"), 1), tokens, backdate_start_date=at("2026-01-05"))
    # one period so far, begun on the 5th
    assert [amount for _, amount in world.bill()] == [10_000]
    # 5,000 × 0.04 cents = 2.00 of usage before it was made, and the next fee
    assert world.preview(subscription.id).total == 10_200


@pytest.mark.parametrize(
    ("now", "begun", "charged"),
    [
        # the two examples of Stripe's page: 14 of the 28 days to 15 March, 17 of the 31 to 15 February
        ("2026-03-01", "2026-02-15", 5_000),
        ("2026-02-01", "2026-01-15", 5_484),
        # a month to 15 February, and 14 of the 28 days from then
        ("2026-03-01", "2026-01-15", 15_000),
    ],
)
def test_a_backdated_start_in_classic_mode_is_one_line_and_the_anchor_is_now(
    world: World, now: str, begun: str, charged: int
) -> None:
    world.go(now)
    license = world.price("License", "10000")
    subscription = world.subscribe(license, backdate_start_date=at(begun), billing_mode={"type": "classic"})
    assert [amount for _, amount in world.bill()] == [charged, 10_000]
    assert (subscription.start_date, subscription.billing_cycle_anchor) == (at(begun), at(now))


def test_a_backdated_start_up_to_an_anchor_is_billed_by_the_period_in_flexible_mode(world: World) -> None:
    # Stripe's example: made on 15 October, from 1 September, anchored to 1 November
    world.go("2026-10-15")
    license = world.price("License", "10000")
    dates: Any = {"backdate_start_date": at("2026-09-01"), "billing_cycle_anchor": at("2026-11-01")}
    for mode, charged in (("classic", [20_000]), ("flexible", [10_000, 10_000])):
        subscription = world.subscribe(license, billing_mode={"type": mode}, **dates)
        assert [amount for _, amount in lines(world.invoices(subscription.id)[0])] == charged
        assert subscription["items"].data[0].current_period_end == at("2026-11-01")
    world.go("2026-11-01T02:00:00")
    assert [invoice.total for invoice in world.invoices()] == [20_000, 20_000, 10_000, 10_000]


@pytest.mark.parametrize(
    ("mode", "at_once", "later"), [("classic", [0], [28_000]), ("flexible", [10_000, 15_000], [3_000])]
)
def test_usage_before_a_backdated_subscription_was_made_is_billed_with_its_first_or_next_invoice(
    world: World, mode: Any, at_once: list[int], later: list[int]
) -> None:
    # Stripe's example: 100 GB in March, 150 in April, 10.00 for each 10 GB; 30 GB in May
    meter = world.meter("gigabytes")
    packages: Any = {"divide_by": 10, "round": "up"}
    storage = world.usage_price("Storage", meter, unit_amount_decimal="1000", transform_quantity=packages)
    for when, gigabytes in (("2026-03-20", 100), ("2026-04-20", 150)):
        world.go(when)
        world.use("gigabytes", gigabytes)
    world.go("2026-05-01")
    world.subscribe(storage, backdate_start_date=at("2026-03-01"), billing_mode={"type": mode})
    assert [amount for _, amount in world.bill()] == at_once
    world.use("gigabytes", 30)
    world.go("2026-06-01T02:00:00")
    assert [amount for _, amount in world.bill()] == later


def test_a_backdated_start_without_proration_is_free_up_to_the_next_period(world: World, tokens: str) -> None:
    world.go("2026-02-20")
    world.use("tokens", 6_000)
    world.go("2026-02-21")
    license = world.price("License", "10000")
    subscription = world.subscribe(license, tokens, backdate_start_date=at("2026-01-05"), proration_behavior="none")
    assert (subscription.latest_invoice, subscription.start_date) == (None, at("2026-01-05"))
    world.use("tokens", 3_500)
    # the fee from 5 March, and 2,500 × 0.04 cents = 1.00 of usage since it was made
    assert world.preview(subscription.id).total == 10_100


def test_yearly_fees_and_monthly_usage_on_one_subscription(world: World, tokens: str) -> None:
    subscription = world.subscribe((world.price("License", "120000", interval="year"), 1), tokens)
    world.use("tokens", 101_000)
    world.go("2026-02-01T02:00:00")
    # 100,000 × 0.04 cents = 40.00; the year's fee is not due before 2027
    assert world.invoices()[-1].total == 4_000
    ends = [item.current_period_end for item in world.v1.subscriptions.retrieve(subscription.id)["items"].data]
    assert ends == [at("2027-01-01"), at("2026-03-01")]


# -- changes ----------------------------------------------------------------------------------------------------------


def test_more_seats_in_mid_month_are_prorated_onto_the_next_invoice(world: World) -> None:
    world.go("2026-04-01")
    subscription = world.subscribe((world.price("License", "10000"), 3))
    world.go("2026-04-16")
    item = subscription["items"].data[0].id
    world.v1.subscriptions.update(subscription.id, {"items": [{"id": item, "quantity": 5}]})
    # half of April's 30 days: −3 × 50.00, +5 × 50.00, and 5 × 100.00 for May
    assert lines(world.preview(subscription.id)) == [
        ("Unused time on 3 × License after 16 Apr 2026", -15_000),
        ("Remaining time on 5 × License after 16 Apr 2026", 25_000),
        ("5 × License (at $100.00 / month)", 50_000),
    ]
    world.go("2026-05-01T02:00:00")
    assert world.invoices()[-1].total == 60_000


def test_always_invoice_bills_the_difference_at_once(world: World) -> None:
    world.go("2026-04-01")
    subscription = world.subscribe((world.price("License", "10000"), 3))
    world.go("2026-04-16")
    item = subscription["items"].data[0].id
    world.v1.subscriptions.update(
        subscription.id, {"items": [{"id": item, "quantity": 5}], "proration_behavior": "always_invoice"}
    )
    invoice = world.invoices()[-1]
    assert (invoice.total, invoice.status, invoice.billing_reason) == (10_000, "paid", "subscription_update")


def test_no_proration_bills_the_new_quantity_from_the_next_period(world: World) -> None:
    world.go("2026-04-01")
    subscription = world.subscribe((world.price("License", "10000"), 3))
    world.go("2026-04-16")
    item = subscription["items"].data[0].id
    world.v1.subscriptions.update(
        subscription.id, {"items": [{"id": item, "quantity": 5}], "proration_behavior": "none"}
    )
    assert lines(world.preview(subscription.id)) == [("5 × License (at $100.00 / month)", 50_000)]


@pytest.mark.parametrize(
    ("mode", "credit"),
    [
        ("flexible", -7_500),  # a quarter of the 300.00 that was debited
        ("classic", -12_500),  # a quarter of what 5 seats would have cost
    ],
)
def test_what_a_credit_is_counted_from_depends_on_the_billing_mode(world: World, mode: str, credit: int) -> None:
    world.go("2026-04-01")
    billing_mode = {"type": mode}
    subscription = world.subscribe((world.price("License", "10000"), 3), billing_mode=billing_mode)
    item = subscription["items"].data[0].id
    world.go("2026-04-16")
    world.v1.subscriptions.update(
        subscription.id, {"items": [{"id": item, "quantity": 5}], "proration_behavior": "none"}
    )
    world.go("2026-04-23T12:00:00")  # 7.5 of 30 days are left
    world.v1.subscriptions.update(subscription.id, {"items": [{"id": item, "quantity": 4}]})
    preview = lines(world.preview(subscription.id))
    # 4 seats for a quarter: +100.00
    assert [amount for _, amount in preview] == [credit, 10_000, 40_000]


def test_another_licence_price_in_mid_month(world: World) -> None:
    world.go("2026-04-01")
    subscription = world.subscribe((world.price("Basic", "3000"), 1))
    world.go("2026-04-11")  # 20 of 30 days left
    item = subscription["items"].data[0].id
    world.v1.subscriptions.update(subscription.id, {"items": [{"id": item, "price": world.price("Pro", "9000")}]})
    assert lines(world.preview(subscription.id)) == [
        ("Unused time on Basic after 11 Apr 2026", -2_000),
        ("Remaining time on Pro after 11 Apr 2026", 6_000),
        ("1 × Pro (at $90.00 / month)", 9_000),
    ]


def test_from_monthly_to_yearly_begins_a_year_now_in_classic_mode(world: World) -> None:
    world.go("2026-04-01")
    subscription = world.subscribe((world.price("Monthly", "3000"), 1), billing_mode={"type": "classic"})
    world.go("2026-04-16")
    item = subscription["items"].data[0].id
    yearly = world.price("Yearly", "30000", interval="year")
    world.change(subscription.id, {"id": item, "price": yearly})
    # half a month back, a whole year forward
    assert world.bill() == [
        ("Unused time on Monthly after 16 Apr 2026", -1_500),
        ("1 × Yearly (at $300.00 / year)", 30_000),
    ]
    renewed = world.v1.subscriptions.retrieve(subscription.id)["items"].data[0]
    assert renewed.current_period_end == at("2027-04-16")


@pytest.mark.parametrize(
    ("proration_behavior", "billed"),
    [
        # 350 of the 365 days from the anchor to the next 1 April: 28,767.12
        (
            "always_invoice",
            [
                ("Unused time on Monthly after 16 Apr 2026", -1_500),
                ("Remaining time on Yearly after 16 Apr 2026", 28_767),
            ],
        ),
        ("create_prorations", [("1 × Monthly (at $30.00 / month)", 3_000)]),
        ("none", [("1 × Monthly (at $30.00 / month)", 3_000)]),
    ],
)
def test_from_monthly_to_yearly_leaves_the_anchor_in_flexible_mode(
    world: World, proration_behavior: Any, billed: list[tuple[str, int]]
) -> None:
    # Stripe's comparison of the billing modes: the anchor is never reset but by `billing_cycle_anchor`
    world.go("2026-04-01")
    subscription = world.subscribe((world.price("Monthly", "3000"), 1))
    world.go("2026-04-16")
    item = subscription["items"].data[0].id
    yearly = world.price("Yearly", "30000", interval="year")
    changed = world.change(subscription.id, {"id": item, "price": yearly}, proration_behavior=proration_behavior)
    assert world.bill() == billed
    assert (changed.billing_cycle_anchor, changed["items"].data[0].current_period_end) == (
        at("2026-04-01"),
        at("2027-04-01"),
    )
    waiting = 27_267 if proration_behavior == "create_prorations" else 0
    assert world.preview(subscription.id).total == 30_000 + waiting


@pytest.mark.parametrize(
    ("mode", "free", "anchor", "billed"),
    [
        ("classic", ("0", 1), "2026-04-16", 3_000),
        # a price that is not 0 and was had 0 times begins nothing, nor does anything in flexible mode
        ("classic", ("500", 0), "2026-04-01", 0),
        ("flexible", ("0", 1), "2026-04-01", 0),
    ],
)
def test_the_first_price_that_is_not_0_begins_a_period_in_classic_mode(
    world: World, mode: Any, free: tuple[str, int], anchor: str, billed: int
) -> None:
    world.go("2026-04-01")
    amount, quantity = free
    subscription = world.subscribe((world.price("Free", amount), quantity), billing_mode={"type": mode})
    world.go("2026-04-16")
    item = subscription["items"].data[0].id
    changed = world.change(subscription.id, {"id": item, "price": world.price("Paid", "3000"), "quantity": 1})
    assert changed.billing_cycle_anchor == at(anchor)
    assert world.invoices()[-1].total == billed


def test_the_billing_day_moved_to_now_in_classic_mode_bills_at_once(world: World, tokens: str) -> None:
    world.go("2026-04-01")
    license = world.price("License", "10000")
    subscription = world.subscribe((license, 1), tokens, billing_mode={"type": "classic"})
    world.use("tokens", 3_500)
    world.go("2026-04-16")
    world.change(subscription.id, billing_cycle_anchor={"type": "now"})
    # −50.00 for the rest of April, 100.00 to 16 May, 2,500 × 0.04 cents = 1.00 used so far
    assert [amount for _, amount in world.bill()] == [-5_000, 10_000, 0, 100]
    assert world.preview(subscription.id).total == 10_000


@pytest.mark.parametrize(
    ("proration_behavior", "at_once", "next_month"),
    [("create_prorations", 5_500, 10_000), ("always_invoice", 5_000, 10_500)],
)
def test_the_billing_day_moved_to_now_in_classic_mode_takes_up_waiting_items_unless_always_invoiced(
    world: World, proration_behavior: Any, at_once: int, next_month: int
) -> None:
    world.go("2026-04-01")
    subscription = world.subscribe(world.price("License", "10000"), billing_mode={"type": "classic"})
    world.v1.invoice_items.create({"customer": world.customer.id, "amount": 500, "currency": "usd"})
    world.go("2026-04-16")
    world.change(subscription.id, billing_cycle_anchor={"type": "now"}, proration_behavior=proration_behavior)
    # −50.00 for the rest of April, 100.00 to 16 May; 5.00 waits
    assert world.invoices()[-1].total == at_once
    assert world.preview(subscription.id).total == next_month


@pytest.mark.parametrize(("mode", "start"), [("classic", "2026-01-01"), ("flexible", "2026-02-15")])
def test_a_second_trial_is_told_from_the_first_in_flexible_mode(world: World, mode: Any, start: str) -> None:
    license = world.price("License", "10000")
    subscription = world.subscribe(license, trial_period_days=10, billing_mode={"type": mode})
    world.go("2026-02-15")
    assert world.change(subscription.id, trial_end=at("2026-02-20")).trial_start == at(start)


def test_the_billing_day_moved_to_now_in_flexible_mode_debits_what_the_period_gains(world: World, tokens: str) -> None:
    # Recorded: no invoice, one pending item from the old period's end to the new one's
    world.go("2026-04-01")
    subscription = world.subscribe((world.price("License", "10000"), 1), tokens)
    world.use("tokens", 3_500)
    world.go("2026-04-16")
    changed = world.change(subscription.id, billing_cycle_anchor={"type": "now"})
    ends = [item.current_period_end for item in changed["items"].data]
    assert ends == [at("2026-05-16"), at("2026-05-16")]
    assert len(world.invoices()) == 1
    # 1 to 16 May is 15 days of the period of 30: 50.00; 2,500 × 0.04 cents = 1.00 used so far; the fee from 16 May
    assert lines(world.preview(subscription.id)) == [
        ("Remaining time on License after 01 May 2026", 5_000),
        ("2500 × Tokens (Tier 2 at $0.0004 / month)", 100),
        ("1 × License (at $100.00 / month)", 10_000),
        ("0 × Tokens (Tier 1 at $0.00 / month)", 0),
    ]


# -- as recorded from Stripe ------------------------------------------------------------------------------------------
# Kiln-AI/stripe_world, tests/conformance/cassettes/01_proration_half_cent.json, API 2026-08-26.dahlia, flexible mode.


@pytest.mark.parametrize(
    ("old", "new", "seconds", "amounts"),
    [
        (("1000", 1), ("1800", 1), 6_480, [-3, 4]),  # 1/400 of 30 days: −2.5 and +4.5
        (("1000", 1), ("1000", 3), 6_480, [-3, 7]),  # −2.5 and +7.5: the whole item, not the two seats that are new
        (("2000", 1), ("1000", 1), 864_000, [-667, 333]),  # a third: −666.67 and +333.33
    ],
)
def test_prorations_round_as_recorded(
    world: World, old: tuple[str, int], new: tuple[str, int], seconds: int, amounts: list[int]
) -> None:
    world.go("2026-04-01")
    prices = {cents: world.price(f"{cents} cents", cents) for cents in {old[0], new[0]}}
    subscription = world.subscribe((prices[old[0]], old[1]))
    item = subscription["items"].data[0]
    changed = {"id": item.id, "price": prices[new[0]], "quantity": new[1]}
    world.change(
        subscription.id,
        changed,
        proration_behavior="always_invoice",
        proration_date=item.current_period_end - seconds,
    )
    assert [amount for _, amount in world.bill()] == amounts


def test_what_is_too_little_to_charge_waits_on_the_balance_as_recorded(world: World) -> None:
    world.go("2026-04-01")
    subscription = world.subscribe(world.price("Basic", "1000"))
    item = subscription["items"].data[0]
    world.change(
        subscription.id,
        {"id": item.id, "price": world.price("Pro", "1800")},
        proration_behavior="always_invoice",
        proration_date=item.current_period_end - 6_480,
    )
    invoice = world.invoices()[-1]
    # a total of 1 cent: paid without an attempt, owed with the next invoice
    assert (invoice.total, invoice.amount_due, invoice.ending_balance) == (1, 0, 1)
    assert (invoice.status, invoice.attempted, invoice.attempt_count) == ("paid", True, 0)
    world.subscribe(world.price("Other", "1000"))
    assert world.invoices()[-1].amount_due == 1_001


def test_a_refund_on_the_balance_as_recorded(world: World) -> None:
    world.go("2026-04-01")
    subscription = world.subscribe(world.price("Dear", "2000"))
    item = subscription["items"].data[0]
    world.change(
        subscription.id,
        {"id": item.id, "price": world.price("Cheap", "1000")},
        proration_behavior="always_invoice",
        proration_date=item.current_period_end - 864_000,
    )
    invoice = world.invoices()[-1]
    assert (invoice.total, invoice.status, invoice.billing_reason) == (-334, "paid", "subscription_update")
    assert world.v1.customers.retrieve(world.customer.id).balance == -334


def test_a_credit_gives_back_what_was_debited_and_its_price_as_recorded(world: World) -> None:
    # swapped with `none`, then cancelled: 10.00 back, not the 18.00 that nobody paid
    world.go("2026-04-01")
    old, new = world.price("Basic", "1000"), world.price("Pro", "1800")
    subscription = world.subscribe(old)
    item = subscription["items"].data[0].id
    world.change(subscription.id, {"id": item, "price": new}, proration_behavior="none")
    world.v1.subscriptions.cancel(subscription.id, {"prorate": True})
    waiting = world.v1.invoice_items.list({"customer": world.customer.id, "pending": True}).data
    assert [(item.amount, item.description) for item in waiting] == [(-1_000, "Unused time on Basic after 01 Apr 2026")]
    # the subscription is gone from it, so the customer's next invoice takes it up
    assert waiting[0].parent is None
    world.subscribe(world.price("Other", "3000"))
    assert [amount for _, amount in world.bill()] == [-1_000, 3_000]


def test_an_active_subscription_put_into_a_trial_is_credited_at_once_as_recorded(world: World) -> None:
    world.go("2026-04-01")
    subscription = world.subscribe((world.price("License", "10000"), 1))
    world.go("2026-04-16")
    changed = world.change(subscription.id, trial_end=at("2026-05-10"))
    assert (changed.status, changed.trial_start, changed.billing_cycle_anchor) == (
        "trialing",
        at("2026-04-16"),
        at("2026-05-10"),
    )
    assert world.bill() == [
        ("Unused time on License after 16 Apr 2026", -5_000),
        ("Free trial for 1 × License", 0),
    ]
    assert world.invoices()[-1].billing_reason == "subscription_update"
    assert world.v1.customers.retrieve(world.customer.id).balance == -5_000


# -- swaps of metered prices ------------------------------------------------------------------------------------------


def test_a_metered_price_swapped_in_flexible_mode_bills_what_was_used(world: World) -> None:
    meter = world.meter("calls")
    old = world.usage_price("Calls A", meter, unit_amount_decimal="2")
    new = world.usage_price("Calls B", meter, unit_amount_decimal="3")
    subscription = world.subscribe(old)
    world.use("calls", 100)
    world.go("2026-01-16")
    item = subscription["items"].data[0].id
    world.v1.subscriptions.update(subscription.id, {"items": [{"id": item, "price": new}]})
    world.use("calls", 50)
    world.go("2026-02-01T02:00:00")
    # 100 × 2 cents to the 16th, 50 × 3 cents from then
    assert world.bill() == [
        ("100 × Calls A (at $0.02 / month)", 200),
        ("50 × Calls B (at $0.03 / month)", 150),
    ]


def test_a_metered_price_swapped_in_classic_mode_loses_what_was_used(world: World) -> None:
    meter = world.meter("calls")
    old = world.usage_price("Calls A", meter, unit_amount_decimal="2")
    new = world.usage_price("Calls B", meter, unit_amount_decimal="3")
    subscription = world.subscribe(old, billing_mode={"type": "classic"})
    world.use("calls", 100)
    world.go("2026-01-16")
    item = subscription["items"].data[0].id
    world.v1.subscriptions.update(subscription.id, {"items": [{"id": item, "price": new}]})
    world.use("calls", 50)
    world.go("2026-02-01T02:00:00")
    assert world.bill() == [("50 × Calls B (at $0.03 / month)", 150)]


def test_a_metered_price_removed_without_proration_is_not_billed(world: World, tokens: str) -> None:
    subscription = world.subscribe(world.price("License", "10000"), tokens)
    world.use("tokens", 26_000)
    world.go("2026-01-16")
    item = subscription["items"].data[1].id
    world.v1.subscriptions.update(
        subscription.id, {"items": [{"id": item, "deleted": True}], "proration_behavior": "none"}
    )
    assert lines(world.preview(subscription.id)) == [("1 × License (at $100.00 / month)", 10_000)]


def test_a_metered_price_removed_bills_its_usage_tier_by_tier(world: World, tokens: str) -> None:
    subscription = world.subscribe(world.price("License", "10000"), tokens)
    world.use("tokens", 26_000)
    world.go("2026-01-16")
    world.v1.subscription_items.delete(subscription["items"].data[1].id)
    # the free thousand is no line of its own here; 25,000 × 0.04 cents
    assert lines(world.preview(subscription.id)) == [
        ("25000 × Tokens (Tier 2 at $0.0004 / month)", 1_000),
        ("1 × License (at $100.00 / month)", 10_000),
    ]


def test_a_metered_price_added_in_mid_month_bills_from_then(world: World, tokens: str) -> None:
    subscription = world.subscribe(world.price("License", "10000"))
    world.use("tokens", 90_000)
    world.go("2026-01-16")
    world.v1.subscriptions.update(subscription.id, {"items": [{"price": tokens}]})
    world.use("tokens", 2_000)
    assert [amount for _, amount in lines(world.preview(subscription.id))] == [0, 40, 10_000]


# -- late usage -------------------------------------------------------------------------------------------------------


# Dates ahead, and one from before the change that was made last.
@pytest.mark.parametrize("dates", [("2026-01-21", "2026-01-25"), ("2026-01-11", "2026-01-06")])
def test_usage_is_billed_once_whatever_date_a_change_of_its_price_is_prorated_from(
    world: World, dates: tuple[str, str]
) -> None:
    meter = world.meter("words")
    first, second, third = (world.usage_price(name, meter, unit_amount_decimal="10") for name in ("A", "B", "C"))
    subscription = world.subscribe(first)
    item = subscription["items"].data[0].id
    world.go("2026-01-11")
    world.use("words", 100, "2026-01-10")
    world.change(subscription.id, {"id": item, "price": second}, proration_date=at(dates[0]))
    world.go("2026-01-16")
    world.use("words", 1_000, "2026-01-15")
    world.change(subscription.id, {"id": item, "price": third}, proration_date=at(dates[1]))
    world.go("2026-01-26")
    world.use("words", 10_000, "2026-01-24")
    world.go("2026-02-02")
    assert sum(amount for _, amount in world.bill()) == 111_000


def test_usage_that_comes_while_the_invoice_is_a_draft_is_on_it(world: World, tokens: str) -> None:
    world.subscribe(tokens)
    world.use("tokens", 2_000)
    world.go("2026-02-01T00:30:00")
    draft = world.invoices()[-1]
    assert (draft.status, draft.total) == ("draft", 40)
    ids = [line.id for line in draft.lines.data]
    world.use("tokens", 5_000, "2026-01-31T23:00:00")
    # 7,000 − 1,000 = 6,000 × 0.04 cents
    assert world.v1.invoices.retrieve(draft.id).total == 240
    world.go("2026-02-01T01:00:01")
    final = world.v1.invoices.retrieve(draft.id)
    assert (final.status, final.total, [line.id for line in final.lines.data]) == ("paid", 240, ids)


def test_usage_that_comes_after_the_draft_is_lost(world: World, tokens: str) -> None:
    subscription = world.subscribe(tokens)
    world.use("tokens", 2_000)
    world.go("2026-02-01T01:30:00")
    world.use("tokens", 5_000, "2026-01-31T23:00:00")
    assert world.invoices()[-1].total == 40
    assert world.preview(subscription.id).total == 0


def test_only_a_periods_end_waits_for_usage(world: World, tokens: str) -> None:
    # Stripe: within the hour usage is added to invoices of a period's or a phase's end
    known = world.subscribe(tokens)
    world.use("tokens", 2_000)
    world.go("2026-01-16")
    world.v1.subscriptions.cancel(known.id, {"invoice_now": True})
    draft = world.invoices()[-1]
    world.use("tokens", 5_000, "2026-01-15")
    # 1,000 × 0.04 cents
    assert (draft.status, draft.total, world.v1.invoices.retrieve(draft.id).total) == ("draft", 40, 40)
    world.go("2026-01-16T01:00:00")
    assert (world.invoices()[-1].status, world.invoices()[-1].total) == ("paid", 40)


# -- cancellation -----------------------------------------------------------------------------------------------------


def test_cancelled_at_the_end_of_the_period_bills_the_last_usage_and_no_next_fee(world: World, tokens: str) -> None:
    subscription = world.subscribe((world.price("License", "10000"), 1), tokens)
    world.use("tokens", 11_000)
    changed = world.v1.subscriptions.update(subscription.id, {"cancel_at_period_end": True})
    assert (changed.status, changed.cancel_at) == ("active", at("2026-02-01"))
    # 10,000 × 0.04 cents = 4.00
    assert world.preview(subscription.id).total == 400
    world.go("2026-02-01T02:00:00")
    assert world.v1.subscriptions.retrieve(subscription.id).status == "canceled"
    assert world.invoices()[-1].total == 400
    world.go("2026-03-20")
    assert len(world.invoices()) == 2


def test_cancelled_at_once_bills_nothing_more(world: World, tokens: str) -> None:
    subscription = world.subscribe((world.price("License", "10000"), 1), tokens)
    world.use("tokens", 11_000)
    world.go("2026-01-16")
    cancelled = world.v1.subscriptions.cancel(subscription.id)
    assert (cancelled.status, cancelled.ended_at) == ("canceled", at("2026-01-16"))
    world.go("2026-03-01")
    assert [invoice.total for invoice in world.invoices()] == [10_000]


def test_cancelled_at_once_with_invoice_and_credit(world: World, tokens: str) -> None:
    world.go("2026-04-01")
    subscription = world.subscribe((world.price("License", "10000"), 1), tokens)
    world.use("tokens", 11_000)
    world.go("2026-04-16")
    world.v1.subscriptions.cancel(subscription.id, {"invoice_now": True, "prorate": True})
    # −50.00 for the other half of April, 10,000 × 0.04 cents = 4.00
    assert world.bill() == [
        ("Unused time on License after 16 Apr 2026", -5_000),
        ("1000 × Tokens (Tier 1 at $0.00 / month)", 0),
        ("10000 × Tokens (Tier 2 at $0.0004 / month)", 400),
    ]
    draft = world.invoices()[-1]
    # Recorded: a draft for an hour, as a renewal is
    assert (draft.status, draft.billing_reason, draft.auto_advance) == ("draft", "subscription_cycle", True)
    assert (draft.period_start, draft.period_end) == (at("2026-04-01"), at("2026-04-16"))
    world.go("2026-04-16T01:00:00")
    invoice = world.invoices()[-1]
    assert (invoice.total, invoice.amount_due, invoice.status, invoice.ending_balance) == (-4_600, 0, "paid", -4_600)
    assert world.v1.customers.retrieve(world.customer.id).balance == -4_600


def test_a_day_in_mid_period_to_cancel_on_credits_the_days_after_it(world: World) -> None:
    world.go("2026-04-01")
    subscription = world.subscribe((world.price("License", "9000"), 1))
    world.v1.subscriptions.update(subscription.id, {"cancel_at": at("2026-04-21")})
    # 10 of 30 days
    assert lines(world.preview(subscription.id)) == [("Unused time on License after 21 Apr 2026", -3_000)]
    world.go("2026-04-21T02:00:00")
    assert world.v1.subscriptions.retrieve(subscription.id).status == "canceled"
    assert world.invoices()[-1].total == -3_000


def test_a_day_in_a_later_period_to_cancel_on_bills_that_period_in_part(world: World) -> None:
    world.go("2026-04-01")
    subscription = world.subscribe((world.price("License", "9300"), 1), cancel_at=at("2026-05-11"))
    world.go("2026-05-01T02:00:00")
    # 10 of May's 31 days: 9,300 × 10 / 31
    assert world.bill() == [("Remaining time on License after 01 May 2026", 3_000)]
    world.go("2026-06-10")
    assert world.v1.subscriptions.retrieve(subscription.id).status == "canceled"
    assert [invoice.total for invoice in world.invoices()] == [9_300, 3_000]


@pytest.mark.parametrize(("mode", "billed"), [("classic", [5_000]), ("flexible", [])])
def test_a_first_period_that_the_end_cuts_off_is_free_without_proration_in_flexible_mode_alone(
    world: World, mode: Any, billed: list[int]
) -> None:
    world.go("2026-04-01")
    world.subscribe(
        world.price("License", "10000"),
        cancel_at=at("2026-04-16"),
        proration_behavior="none",
        billing_mode={"type": mode},
    )
    # half of April's 30 days
    assert [invoice.total for invoice in world.invoices()] == billed


def test_the_credit_of_a_cancellation_pays_the_next_invoice(world: World) -> None:
    world.go("2026-04-01")
    license = world.price("License", "10000")
    subscription = world.subscribe((license, 1))
    world.go("2026-04-16")
    world.v1.subscriptions.cancel(subscription.id, {"invoice_now": True, "prorate": True})
    world.go("2026-04-16T01:00:00")
    world.subscribe((license, 1))
    invoice = world.invoices()[-1]
    # 100.00 less the 50.00 that the cancellation gave back
    assert (invoice.total, invoice.starting_balance, invoice.amount_due) == (10_000, -5_000, 5_000)
    assert world.v1.customers.retrieve(world.customer.id).balance == 0


def test_a_bill_in_ugandan_shillings_is_in_hundredths_that_nobody_reads(world: World) -> None:
    world.subscribe((world.price("License", "500000", currency="ugx"), 2))
    assert world.bill() == [("2 × License (at 5,000 UGX / month)", 1_000_000)]
