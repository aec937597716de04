"""Trial offers, worked out by hand: what items bill in a trial's time, what its end bills, and what is refused.

The rules are those of https://docs.stripe.com/billing/subscriptions/trials; what nobody has said is in docs/sandbox.md.
2026 is not a leap year; 1 January is a Thursday.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
import stripe

from .bills import World, at, refusal
from .catalog import plain


@pytest.fixture
def world(client: stripe.StripeClient) -> World:
    return World(client)


def offer(world: World, price: str, then: str, iterations: int = 1, **more: Any) -> str:
    given: Any = {
        "price": price,
        "duration": {"type": "relative", "relative": {"iterations": iterations}},
        "end_behavior": {"transition": {"price": then}},
        **more,
    }
    return world.v1.product_catalog.trial_offers.create(given).id


def under(offer_id: str, **more: Any) -> dict[str, Any]:
    """An item with a trial offer."""
    return {"current_trial": {"trial_offer": offer_id}, **more}


def item(world: World, subscription: str, number: int = 0) -> dict[str, Any]:
    found: dict[str, Any] = plain(world.v1.subscriptions.retrieve(subscription))["items"]["data"][number]
    return found


def spans(invoice: stripe.Invoice) -> list[tuple[str | None, int, str, str]]:
    """The lines of an invoice with the days that they are for."""

    def day(instant: int) -> str:
        when = datetime.fromtimestamp(instant, UTC)
        return f"{when.month}/{when.day}"

    return [
        (line.description, line.amount, day(line.period.start), day(line.period.end)) for line in invoice.lines.data
    ]


# -- alone ----------------------------------------------------------------------------------------------------------


def test_four_dollars_for_four_weeks_then_thirty_a_month(world: World) -> None:
    pro = world.price("Pro", "3000")
    subscription = world.subscribe(
        under(offer(world, world.price("Intro", "400", interval="week", interval_count=4), pro))
    )
    assert subscription.status == "active"
    trial = {"start_date": at("2026-01-01"), "end_date": at("2026-01-29")}  # 4 weeks = 28 days
    assert trial.items() <= item(world, subscription.id)["current_trial"].items()
    # The item keeps the price that is its own.
    assert item(world, subscription.id)["price"]["id"] == pro
    assert [invoice.status for invoice in world.invoices()] == ["paid"]
    assert spans(world.invoices()[0]) == [("1 × Intro (at $4.00 / every 4 weeks)", 400, "1/1", "1/29")]

    ahead = world.preview(subscription.id)
    assert spans(ahead) == [("1 × Pro (at $30.00 / month)", 3_000, "1/29", "2/28")]
    world.go("2026-01-29T02:00")
    assert (world.bill(), world.invoices()[-1].created) == ([("1 × Pro (at $30.00 / month)", 3_000)], at("2026-01-29"))
    assert world.invoices()[-1].billing_reason == "subscription_cycle"
    after = item(world, subscription.id)
    assert (after["current_trial"], after["price"]["id"]) == (None, pro)
    assert world.v1.subscriptions.retrieve(subscription.id).billing_cycle_anchor == at("2026-01-29")
    # Counted from the 29th: the last day of February, and the 29th again in March.
    assert spans(world.preview(subscription.id)) == [("1 × Pro (at $30.00 / month)", 3_000, "2/28", "3/29")]
    world.go("2026-02-28T02:00")
    assert item(world, subscription.id)["current_period_end"] == at("2026-03-29")
    assert sum(invoice.total for invoice in world.invoices()) == 400 + 3_000 + 3_000


def test_a_dollar_a_week_is_billed_as_often_as_the_offer_says(world: World) -> None:
    pro = world.price("Pro", "3000")
    weekly = offer(world, world.price("Week", "100", interval="week"), pro, iterations=3)
    subscription = world.subscribe(under(weekly, quantity=2))
    world.go("2026-01-10")
    world.go("2026-01-20")
    # 2 × 1.00 from the 1st, the 8th, and the 15th to the 22nd.
    assert [spans(invoice) for invoice in world.invoices()] == [
        [("2 × Week (at $1.00 / week)", 200, "1/1", "1/8")],
        [("2 × Week (at $1.00 / week)", 200, "1/8", "1/15")],
        [("2 × Week (at $1.00 / week)", 200, "1/15", "1/22")],
    ]
    assert item(world, subscription.id)["current_trial"]["end_date"] == at("2026-01-22")
    world.go("2026-01-23")
    assert spans(world.invoices()[-1]) == [("2 × Pro (at $30.00 / month)", 6_000, "1/22", "2/22")]


def test_a_free_trial_needs_no_card_and_is_trialing(world: World) -> None:
    world.customer = world.new_customer(invoice_settings={})
    pro = world.price("Pro", "3000")
    free = offer(world, world.price("Free week", "0", interval="week"), pro)
    subscription = world.subscribe(under(free))
    assert (subscription.status, subscription.trial_start, subscription.trial_end) == (
        "trialing",
        at("2026-01-01"),
        at("2026-01-08"),
    )
    assert world.bill() == [("1 × Free week (at $0.00 / week)", 0)]
    assert world.invoices()[0].status == "paid"
    world.go("2026-01-08T02:00")
    # Nothing to charge it with: the invoice stays open.
    assert world.v1.subscriptions.retrieve(subscription.id).status == "past_due"
    assert spans(world.invoices()[-1]) == [("1 × Pro (at $30.00 / month)", 3_000, "1/8", "2/8")]


@pytest.mark.parametrize("how", ["offer", "days"])
def test_what_is_charged_at_the_beginning_of_a_free_trial_does_not_end_it(world: World, how: str) -> None:
    pro, once = world.price("Pro", "3000"), world.price("Once", "500", recurring=None)
    free = offer(world, world.price("Free week", "0", interval="week"), pro)
    added: Any = {"add_invoice_items": [{"price": once}]}
    if how == "offer":
        subscription = world.subscribe(under(free), **added)
    else:
        subscription = world.subscribe(pro, trial_period_days=7, **added)
    assert (subscription.status, world.invoices()[0].total, world.invoices()[0].status) == ("trialing", 500, "paid")
    world.go("2026-01-08T02:00")
    assert world.v1.subscriptions.retrieve(subscription.id).status == "active"
    assert world.bill() == [("1 × Pro (at $30.00 / month)", 3_000)]


def test_the_preview_of_a_subscription_to_be_is_of_its_trial(world: World) -> None:
    week = offer(world, world.price("Week", "100", interval="week"), world.price("Pro", "3000"))
    given: Any = {"customer": world.customer.id, "subscription_details": {"items": [under(week, quantity=3)]}}
    assert spans(world.v1.invoices.create_preview(given)) == [("3 × Week (at $1.00 / week)", 300, "1/1", "1/8")]


def test_a_paid_trial_needs_a_card(world: World) -> None:
    world.customer = world.new_customer(invoice_settings={})
    paid = offer(world, world.price("Intro", "100", interval="week"), world.price("Pro", "3000"))
    error = refusal(lambda: world.subscribe(under(paid)))
    assert error.code == "resource_missing"
    waiting = world.subscribe(under(paid), payment_behavior="default_incomplete")
    assert waiting.status == "incomplete"
    world.v1.invoices.pay(str(waiting.latest_invoice), {"payment_method": "pm_card_visa"})
    assert world.v1.subscriptions.retrieve(waiting.id).status == "active"


@pytest.mark.parametrize(("behavior", "status"), [("cancel", "canceled"), ("pause", "paused")])
@pytest.mark.parametrize("cents", ["0", "100"])
def test_a_trial_that_ends_without_a_card_ends_as_trial_settings_say(
    world: World, cents: str, behavior: str, status: str
) -> None:
    world.customer = world.new_customer(invoice_settings={})
    pro = world.price("Pro", "3000")
    week = offer(world, world.price("Week", cents, interval="week"), pro)
    subscription = world.subscribe(
        under(week),
        payment_behavior="default_incomplete",
        trial_settings={"end_behavior": {"missing_payment_method": behavior}},
    )
    if cents != "0":
        world.v1.invoices.pay(str(subscription.latest_invoice), {"paid_out_of_band": True})
    world.go("2026-01-09")
    assert world.v1.subscriptions.retrieve(subscription.id).status == status
    assert len(world.invoices()) == 1
    assert (item(world, subscription.id)["price"]["id"], item(world, subscription.id)["current_trial"]) == (pro, None)


def test_usage_is_billed_at_the_offers_price_in_its_time_and_at_the_next_after(world: World) -> None:
    meter = world.meter("tokens")
    cheap = world.usage_price("Cheap", meter, unit_amount_decimal="1", interval="week")
    full = world.usage_price("Full", meter, unit_amount_decimal="4")
    world.subscribe(under(offer(world, cheap, full)))
    assert world.invoices() == []  # in arrears, and nothing is used yet
    world.go("2026-01-05")
    world.use("tokens", 100)
    world.go("2026-01-08T02:00")
    assert world.bill() == [("100 × Cheap (at $0.01 / week)", 100)]
    world.use("tokens", 100)
    world.go("2026-01-21")
    world.go("2026-02-03")
    world.go("2026-02-08T02:00")
    assert world.bill() == [("100 × Full (at $0.04 / month)", 400)]


def test_a_trial_offer_with_a_coupon(world: World) -> None:
    half = world.v1.coupons.create({"percent_off": 50, "duration": "forever"}).id
    paid = offer(world, world.price("Intro", "401", interval="week"), world.price("Pro", "3000"))
    world.subscribe(under(paid), discounts=[{"coupon": half}])
    assert world.invoices()[0].total == 401 - 201  # 200.5 off, a half cent away from zero
    world.go("2026-01-08T02:00")
    assert world.invoices()[-1].total == 1_500


# -- beside other items ---------------------------------------------------------------------------------------------


def test_a_trial_beside_a_fee_leaves_the_anchor_where_the_program_says_so(world: World) -> None:
    base, addon = world.price("Base", "3100"), world.price("Add-on", "6200")
    week = offer(world, world.price("Week", "100", interval="week"), addon)
    subscription = world.subscribe(
        base, under(week), trial_settings={"end_behavior": {"billing_cycle_anchor": "unchanged"}}
    )
    assert subscription.status == "active"
    assert spans(world.invoices()[0]) == [
        ("1 × Base (at $31.00 / month)", 3_100, "1/1", "2/1"),
        ("1 × Week (at $1.00 / week)", 100, "1/1", "1/8"),
    ]
    world.go("2026-01-08T02:00")
    # 8 January to 1 February is 24 of 31 days: 62.00 × 24 / 31 = 48.00
    assert spans(world.invoices()[-1]) == [("Remaining time on Add-on after 08 Jan 2026", 4_800, "1/8", "2/1")]
    world.go("2026-01-20")
    world.go("2026-02-01T02:00")
    assert sorted(world.bill()) == [("1 × Add-on (at $62.00 / month)", 6_200), ("1 × Base (at $31.00 / month)", 3_100)]


def test_an_item_beside_a_trial_can_have_another_interval(world: World) -> None:
    monthly, yearly = world.price("Monthly", "3100"), world.price("Yearly", "36500", interval="year")
    week = offer(world, world.price("Week", "100", interval="week"), world.price("Add-on", "6200"))
    subscription = world.subscribe(monthly, under(week))
    world.go("2026-01-04")
    beside = item(world, subscription.id)["id"]
    world.change(subscription.id, {"id": beside, "price": yearly}, proration_behavior="always_invoice")
    # 28 of 31 days of 31.00 back, 362 of the 365 days from the anchor on of 365.00; the trial goes on
    assert spans(world.invoices()[-1]) == [
        ("Unused time on Monthly after 04 Jan 2026", -2_800, "1/4", "2/1"),
        ("Remaining time on Yearly after 04 Jan 2026", 36_200, "1/4", "1/1"),
    ]
    assert item(world, subscription.id, 1)["current_trial"]["end_date"] == at("2026-01-08")


def test_a_trial_beside_a_fee_moves_the_anchor_else(world: World) -> None:
    base, addon = world.price("Base", "2800"), world.price("Add-on", "6200")
    week = offer(world, world.price("Week", "100", interval="week"), addon)
    subscription = world.subscribe(base, under(week))
    world.go("2026-01-08T02:00")
    # Base is paid up to 1 February, and its new period, 8 January to 8 February, has 7 days more of 31:
    # 28.00 × 7 / 31 = 6.3225...
    assert spans(world.invoices()[-1]) == [
        ("Remaining time on Base after 01 Feb 2026", 632, "2/1", "2/8"),
        ("1 × Add-on (at $62.00 / month)", 6_200, "1/8", "2/8"),
    ]
    assert {item(world, subscription.id, number)["current_period_end"] for number in (0, 1)} == {at("2026-02-08")}


def test_two_trials_end_each_at_its_own_time(world: World) -> None:
    one, two = world.price("One", "1000"), world.price("Two", "2000")
    week = offer(world, world.price("Free week", "0", interval="week"), one)
    fortnight = offer(world, world.price("Free fortnight", "0", interval="week", interval_count=2), two)
    subscription = world.subscribe(under(week), under(fortnight))
    assert (subscription.status, subscription.trial_end) == ("trialing", at("2026-01-08"))
    world.go("2026-01-09")
    assert world.v1.subscriptions.retrieve(subscription.id).status == "active"
    assert spans(world.invoices()[-1]) == [("1 × One (at $10.00 / month)", 1_000, "1/8", "2/8")]
    world.go("2026-01-16")
    # One, paid up to 8 February, now goes on to the 15th: 10.00 × 7 / 31 = 2.26
    assert spans(world.invoices()[-1]) == [
        ("Remaining time on One after 08 Feb 2026", 226, "2/8", "2/15"),
        ("1 × Two (at $20.00 / month)", 2_000, "1/15", "2/15"),
    ]


# -- on a subscription that is there --------------------------------------------------------------------------------


def test_an_item_that_is_there_begins_a_trial_and_is_credited(world: World) -> None:
    basic, premium = world.price("Basic", "3100"), world.price("Premium", "9300")
    upgrade = offer(world, world.price("Premium week", "700", interval="week"), premium)
    subscription = world.subscribe(basic)
    world.go("2026-01-11")
    entry = {"id": item(world, subscription.id)["id"], **under(upgrade)}
    shown = world.preview(subscription.id, items=[entry])
    world.change(subscription.id, entry)
    # 11 January to 1 February is 21 of 31 days: 31.00 × 21 / 31 = 21.00 back; the trial is paid at once.
    expected = [
        ("Unused time on Basic after 11 Jan 2026", -2_100, "1/11", "2/1"),
        ("1 × Premium week (at $7.00 / week)", 700, "1/11", "1/18"),
    ]
    assert spans(shown) == spans(world.invoices()[-1]) == expected
    assert item(world, subscription.id)["price"]["id"] == basic  # its own still
    world.go("2026-01-18T02:00")
    assert spans(world.invoices()[-1]) == [("1 × Premium (at $93.00 / month)", 9_300, "1/18", "2/18")]
    assert item(world, subscription.id)["price"]["id"] == premium


def test_an_upgrade_is_tried_at_the_basic_rate(world: World) -> None:
    """The offer's price is the one that the item has: the time that is paid is credited, and the trial billed."""
    basic, premium = world.price("Basic", "700", interval="week"), world.price("Premium", "9300")
    upgrade = offer(world, basic, premium)
    subscription = world.subscribe(basic)
    world.go("2026-01-03")
    world.change(subscription.id, {"id": item(world, subscription.id)["id"], **under(upgrade)})
    assert spans(world.invoices()[-1]) == [  # 5 of 7 days: 5.00
        ("Unused time on Basic after 03 Jan 2026", -500, "1/3", "1/8"),
        ("1 × Basic (at $7.00 / week)", 700, "1/3", "1/10"),
    ]
    world.go("2026-01-10T02:00")
    assert spans(world.invoices()[-1]) == [("1 × Premium (at $93.00 / month)", 9_300, "1/10", "2/10")]


def test_items_begin_trials_by_their_own_endpoints(world: World) -> None:
    base, addon = world.price("Base", "3100"), world.price("Add-on", "6200")
    week = offer(world, world.price("Week", "100", interval="week"), addon)
    subscription = world.subscribe(base)
    given: Any = {"subscription": subscription.id, **under(week, quantity=3)}
    made = world.v1.subscription_items.create(given)
    assert (made.price.id, made.quantity) == (addon, 3)
    assert world.bill() == [("3 × Week (at $1.00 / week)", 300)]
    other = offer(world, world.price("Base week", "50", interval="week"), world.price("Base 2", "4000"))
    changed: Any = under(other)
    updated = world.v1.subscription_items.update(item(world, subscription.id)["id"], changed)
    assert plain(updated)["current_trial"]["trial_offer"] == other
    assert [line for line in world.bill() if line[1] > 0] == [("1 × Base week (at $0.50 / week)", 50)]


def test_more_of_a_thing_in_its_trial_is_prorated_at_the_trials_price(world: World) -> None:
    week = offer(world, world.price("Week", "700", interval="week"), world.price("Pro", "3000"))
    subscription = world.subscribe(under(week))
    world.go("2026-01-03")
    world.change(
        subscription.id, {"id": item(world, subscription.id)["id"], "quantity": 2}, proration_behavior="always_invoice"
    )
    assert spans(world.invoices()[-1]) == [  # 5 of 7 days
        ("Unused time on Week after 03 Jan 2026", -500, "1/3", "1/8"),
        ("Remaining time on 2 × Week after 03 Jan 2026", 1_000, "1/3", "1/8"),
    ]
    assert item(world, subscription.id)["current_trial"]["end_date"] == at("2026-01-08")
    world.go("2026-01-08T02:00")
    assert world.bill() == [("2 × Pro (at $30.00 / month)", 6_000)]


def test_a_regular_item_ends_the_status_of_a_free_trial_and_not_the_trial(world: World) -> None:
    free = offer(world, world.price("Free week", "0", interval="week"), world.price("Pro", "3000"))
    subscription = world.subscribe(under(free))
    assert subscription.status == "trialing"
    changed = world.change(subscription.id, {"price": world.price("Base", "1000")})
    assert changed.status == "active"
    assert item(world, subscription.id)["current_trial"] is not None
    world.go("2026-01-08T02:00")
    assert ("1 × Pro (at $30.00 / month)", 3_000) in world.bill()


# -- the end --------------------------------------------------------------------------------------------------------


def test_a_cancellation_in_the_trial_ends_it_without_a_further_bill(world: World) -> None:
    week = offer(world, world.price("Week", "700", interval="week"), world.price("Pro", "3000"))
    subscription = world.subscribe(under(week))
    world.go("2026-01-03")
    world.v1.subscriptions.cancel(subscription.id, {"invoice_now": True, "prorate": True})
    assert spans(world.invoices()[-1]) == [("Unused time on Week after 03 Jan 2026", -500, "1/3", "1/8")]
    world.go("2026-01-12")
    assert len(world.invoices()) == 2


def test_cancel_at_the_end_of_the_trial_converts_nobody(world: World) -> None:
    week = offer(world, world.price("Week", "700", interval="week"), world.price("Pro", "3000"))
    subscription = world.subscribe(under(week), cancel_at=at("2026-01-08"))
    assert world.bill() == [("1 × Week (at $7.00 / week)", 700)]
    world.go("2026-01-10")
    assert world.v1.subscriptions.retrieve(subscription.id).status == "canceled"
    assert len(world.invoices()) == 1


# -- the offers -----------------------------------------------------------------------------------------------------


def test_offers_are_made_read_listed_and_archived(world: World) -> None:
    intro, pro = world.price("Intro", "100"), world.price("Pro", "3000")
    offers = world.v1.product_catalog.trial_offers
    first, second = offer(world, intro, pro, 2, nickname="two months"), offer(world, pro, intro, active=False)
    found = plain(offers.retrieve(first, {"expand": ["price", "end_behavior.transition.price"]}))
    assert (found["price"]["id"], found["end_behavior"]["transition"]["price"]["id"]) == (intro, pro)
    assert (found["nickname"], found["duration"]) == ("two months", {"type": "relative", "relative": {"iterations": 2}})
    assert [each.id for each in offers.list()] == [second, first]
    assert [each.id for each in offers.list({"active": True})] == [first]
    assert [each.id for each in offers.list({"prices": [pro]})] == [second]
    subscription = world.subscribe(under(first))
    assert offers.update(first, {"active": False}).active is False
    error = refusal(lambda: world.subscribe(under(first)))
    assert (error.http_status, error.param) == (400, "items[0][current_trial][trial_offer]")
    # The trial that runs goes on.
    assert item(world, subscription.id)["current_trial"]["trial_offer"] == first
    world.go("2026-02-28")
    assert world.bill() == [("1 × Intro (at $1.00 / month)", 100)]
    world.go("2026-03-02")
    assert world.bill() == [("1 × Pro (at $30.00 / month)", 3_000)]


def test_an_item_is_found_by_the_price_that_is_its_own(world: World) -> None:
    intro, pro, last = world.price("Intro", "100"), world.price("Pro", "3000"), world.price("Last", "5000")
    subscription = world.subscribe(under(offer(world, intro, last), price=pro))

    def holders(price: str) -> list[str]:
        return [each.id for each in world.v1.subscriptions.list({"customer": world.customer.id, "price": price})]

    assert (holders(pro), holders(intro), holders(last)) == ([subscription.id], [], [])
    world.go("2026-02-02")
    assert (holders(pro), holders(intro), holders(last)) == ([], [], [subscription.id])


#: name -> (what is tried, status, what the refusal says)
REFUSED: dict[str, tuple[Callable[[World, str], Any], int, str]] = {
    "an offer that is not there": (lambda w, o: w.subscribe(under("to_nope")), 400, "No such trial offer: 'to_nope'"),
    "with trial_end": (lambda w, o: w.subscribe(under(o), trial_end=at("2026-02-01")), 400, "together"),
    "with trial_period_days": (lambda w, o: w.subscribe(under(o), trial_period_days=3), 400, "together"),
    "in a trial of the old kind": (
        lambda w, o: w.change(w.subscribe(w.price("A", "1"), trial_period_days=3).id, under(o)),
        400,
        "together",
    ),
    "trial_end=now": (lambda w, o: w.change(w.subscribe(under(o)).id, trial_end="now"), 400, "together"),
    "classic": (lambda w, o: w.subscribe(under(o), billing_mode={"type": "classic"}), 400, "flexible"),
    "again": (
        lambda w, o: w.change(s := w.subscribe(under(o)).id, {"id": item(w, s)["id"], **under(o)}),
        400,
        "cannot be changed",
    ),
    "another price": (
        lambda w, o: w.change(s := w.subscribe(under(o)).id, {"id": item(w, s)["id"], "price": w.price("A", "1")}),
        501,
        "items[0][price] of an item in the time of a trial offer",
    ),
    "an anchor": (lambda w, o: w.subscribe(under(o), billing_cycle_anchor=at("2026-01-05")), 501, "anchor"),
    "a new anchor": (
        lambda w, o: w.change(w.subscribe(under(o)).id, billing_cycle_anchor={"type": "now"}),
        501,
        "anchor",
    ),
    "backdated": (lambda w, o: w.subscribe(under(o), backdate_start_date=at("2025-12-20")), 501, "backdate"),
    "a schedule around it": (
        lambda w, o: w.v1.subscription_schedules.create({"from_subscription": w.subscribe(under(o)).id}),
        501,
        "from_subscription",
    ),
    "the price that comes then twice": (
        lambda w, o: w.subscribe(
            under(o), plain(w.v1.product_catalog.trial_offers.retrieve(o))["end_behavior"]["transition"]["price"]
        ),
        400,
        "same Price",
    ),
    "no iterations": (lambda w, o: offer(w, w.price("A", "1"), w.price("B", "1"), 0), 400, "at least 1"),
    "a price that does not recur": (
        lambda w, o: offer(w, w.price("A", "1", recurring=None), w.price("B", "1")),
        400,
        "type=one_time",
    ),
    "seats that become usage": (
        lambda w, o: offer(
            w, w.price("A", "1"), w.usage_price("B", w.meter("b"), unit_amount_decimal="1")
        ),
        501,
        "usage_type",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_go_with_trial_offers_is_refused(world: World, case: str) -> None:
    act, status, text = REFUSED[case]
    week = offer(world, world.price("Week", "700", interval="week"), world.price("Pro", "3000"))
    error = refusal(lambda: act(world, week))
    assert error.http_status == status
    assert text in str(error.user_message)
