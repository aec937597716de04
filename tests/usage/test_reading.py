"""Reading back: windows, groups, many customers, pages, and the invoice line by line."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from decimal import Decimal

import pytest

import usage
from usage.client import Client
from usage.reading import aligned, month_start

from .conftest import EVENT, World


@pytest.mark.parametrize(
    ("window", "group", "wanted"),
    [
        ((120, 180), None, (120, 180)),
        ((121, 179), None, (120, 180)),
        ((3600, 3601), "hour", (3600, 7200)),
        ((0, 86_401), "day", (0, 172_800)),
        ((86_399, 86_400), "day", (0, 86_400)),
        ((60, 60), None, (60, 120)),
    ],
)
def test_a_window_is_widened_to_stripes_boundaries(
    window: tuple[int, int], group: str | None, wanted: tuple[int, int]
) -> None:
    assert aligned(*window, group) == wanted


def test_a_month_starts_at_midnight_utc() -> None:
    moment = datetime(2026, 12, 31, 23, 59, 59, tzinfo=UTC).timestamp()
    assert month_start(moment) == datetime(2026, 12, 1, tzinfo=UTC).timestamp()


def test_any_window_comes_back_for_one_customer_and_for_many(embedded: World, meter: str, customer: str) -> None:
    other = embedded.customer("Bob")
    nobody = embedded.customer("Cy")
    now = int(time.time())
    with Client() as client:
        client.record(EVENT, customer, 5, timestamp=now - 90_000)
        client.record(EVENT, customer, 7, timestamp=now - 10)
        client.record(EVENT, other, 11, timestamp=now - 10)
        client.flush()
        one = client.summaries(EVENT, customer, now - 100_000, now + 1)
        assert (one.total, len(one.rows), one.sandbox) == (Decimal(12), 1, True)
        assert one.start % 60 == one.end % 60 == 0
        many = client.summaries(meter, [customer, other, nobody], now - 100_000, now + 1)
        assert [(row.customer, row.value) for row in many] == [
            (customer, Decimal(12)),
            (other, Decimal(11)),
            (nobody, Decimal(0)),
        ]
        recent = client.summaries(EVENT, customer, str(now - 3600), now + 1)
        assert recent.total == 7
        default = client.summaries(EVENT, customer)
        assert default.start == month_start(now)


def test_hours_come_in_order_over_several_pages(embedded: World, meter: str, customer: str) -> None:
    now = int(time.time())
    hours = 250
    with Client() as client:
        client.record_many(
            {"event_name": EVENT, "customer": customer, "value": number + 1, "timestamp": now - number * 3600}
            for number in range(hours)
        )
        client.flush()
        found = client.summaries(EVENT, customer, now - hours * 3600, now + 1, group="hour")
        days = client.summaries(EVENT, customer, now - hours * 3600, now + 1, group="day")
    assert len(found.rows) == hours
    assert [row.start for row in found] == sorted(row.start for row in found)
    assert found.total == days.total == hours * (hours + 1) // 2
    assert all(row.start % 86_400 == 0 for row in days)


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("nothing", "cus_1"), 'no meter has the event name "nothing"'),
        ((EVENT, []), "one customer at a time"),
        ((EVENT, "cus_1", 2000, 1000), "not after start"),
        ((EVENT, "cus_1", "2026-01-01"), "no time zone"),
        ((EVENT, "cus_nobody"), "No such customer"),
    ],
)
def test_a_wrong_question_is_a_sentence(embedded: World, meter: str, arguments: tuple[object, ...], why: str) -> None:
    with Client() as client, pytest.raises(usage.UsageError, match=why):
        client.summaries(*arguments)  # type: ignore[arg-type]


def test_an_inactive_meter_can_still_be_read(embedded: World, meter: str, customer: str) -> None:
    with Client() as client:
        client.send(EVENT, customer, 5)
        embedded.call("POST", f"/v1/billing/meters/{meter}/deactivate")
        assert client.summaries(EVENT, customer).total == 5
        with pytest.raises(usage.StripeError, match="No active meter"):
            Client(spool="other.db").send(EVENT, customer, 5)


def subscribe(world: World, meter: str, customer: str) -> str:
    """Stripe's Alpaca.ai model: 3 seats at 100 USD, 1,000 tokens free, then 0.04 cents each."""
    tokens = world.call(
        "POST",
        "/v1/prices",
        {
            "currency": "usd",
            "product_data[name]": "Tokens",
            "billing_scheme": "tiered",
            "tiers_mode": "graduated",
            "tiers[0][up_to]": "1000",
            "tiers[0][unit_amount]": "0",
            "tiers[1][up_to]": "inf",
            "tiers[1][unit_amount_decimal]": "0.04",
            "recurring[interval]": "month",
            "recurring[usage_type]": "metered",
            "recurring[meter]": meter,
        },
    )
    seats = world.call(
        "POST",
        "/v1/prices",
        {"currency": "usd", "product_data[name]": "Seats", "unit_amount": "10000", "recurring[interval]": "month"},
    )
    subscription = world.call(
        "POST",
        "/v1/subscriptions",
        {
            "customer": customer,
            "items[0][price]": seats["id"],
            "items[0][quantity]": "3",
            "items[1][price]": tokens["id"],
            "collection_method": "send_invoice",
            "days_until_due": "30",
        },
    )
    return str(subscription["id"])


def test_the_next_invoice_is_readable_line_by_line(embedded: World, meter: str, customer: str) -> None:
    subscription = subscribe(embedded, meter, customer)
    with Client() as client:
        client.send(EVENT, customer, 26_000)
        preview = client.preview_invoice(subscription=subscription)
        by_customer = client.preview_invoice(customer=customer)
    assert (preview.total, preview.currency) == (31_000, "usd")
    assert sum(line.amount for line in preview) == 31_000
    seats = next(line for line in preview if "Seats" in line.description)
    assert (seats.quantity, seats.unit_amount, seats.amount) == (Decimal(3), Decimal(10_000), 30_000)
    over = next(line for line in preview if line.quantity == 25_000)
    assert (over.unit_amount, over.amount) == (Decimal("0.04"), 1000)
    assert preview.subscription == subscription
    assert by_customer.total == preview.total
    with Client() as client, pytest.raises(usage.UsageError, match="sub_"):
        client.preview_invoice()
