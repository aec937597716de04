"""A sandbox that continues where another account is: its objects, as the API shows them, and then time."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from sandbox import Request, Sandbox
from sandbox.errors import StripeError
from sandbox.loading import load
from tests.pricing.billed import Billing, seconds


@pytest.fixture
def account(tmp_path: Path) -> Iterator[Billing]:
    (tmp_path / "account").mkdir()
    made = Billing(tmp_path / "account")
    yield made
    made.sandbox.close()


@pytest.fixture
def copy(tmp_path: Path) -> Iterator[Sandbox]:
    made = Sandbox(tmp_path / "copy.db")
    yield made
    made.close()


def stored(sandbox: Sandbox, kind: str) -> dict[str, dict[str, Any]]:
    """The objects of a kind as a sandbox keeps them, by id."""
    state = json.loads(sandbox.handle(Request("GET", f"/_sandbox/state?kind={kind}")).body)["objects"]
    return {each["id"]: each for scope in state.values() for each in scope.get(kind, [])}


def get(sandbox: Sandbox, path: str) -> Any:
    response = sandbox.handle(Request("GET", f"/v1/{path}", {"Authorization": "Bearer sk_test_x"}))
    assert response.status == 200, response.body
    return json.loads(response.body)


def set_clock(sandbox: Sandbox, day: str) -> None:
    body = json.dumps({"frozen": seconds(day)}).encode()
    assert sandbox.handle(Request("POST", "/_sandbox/clock", {"content-type": "application/json"}, body)).status == 200


def catalogue(account: Billing) -> list[dict[str, Any]]:
    """Everything that subscriptions of these tests stand on, as the API shows it."""
    prices = account.get("prices?limit=100&expand[]=data.tiers&expand[]=data.currency_options")["data"]
    coupons = account.get("coupons?expand[]=data.applies_to&expand[]=data.currency_options")["data"]
    return [*account.get("billing/meters")["data"], *account.get("products")["data"], *prices, *coupons]


def without_clock(value: Any) -> Any:
    """An object on no test clock: the copy's own clock is its time."""
    if isinstance(value, Mapping):
        return {name: without_clock(each) for name, each in value.items() if name != "test_clock"}
    return [without_clock(each) for each in value] if isinstance(value, list) else value


def test_a_loaded_catalogue_is_stored_as_one_that_was_made_here(account: Billing, copy: Sandbox) -> None:
    tiers = {"0": {"up_to": 10, "unit_amount": 5}, "1": {"up_to": "inf", "flat_amount": 300, "unit_amount": 3}}
    graduated = {"billing_scheme": "tiered", "tiers_mode": "graduated", "tiers": tiers}
    account.price("tiers", {**graduated, "currency_options": {"eur": {"tiers": tiers}}})
    account.price("package", {"unit_amount": 5, "transform_quantity": {"divide_by": 10, "round": "up"}})
    account.post("coupons", {"id": "ten", "percent_off": 10, "duration": "repeating", "duration_in_months": 5})
    limited = {"applies_to": {"products": {"0": account.product}}}
    account.post("coupons", {"id": "five", "amount_off": 500, "currency": "usd", "duration": "once", **limited})
    objects = [
        account.get(f"prices/{each['id']}?expand[]=tiers&expand[]=currency_options&expand[]=currency_options.eur.tiers")
        if each.get("tiers") and "eur" in each["currency_options"]
        else each
        for each in catalogue(account)
    ]

    load(copy, objects)

    for kind in ("billing.meter", "product", "price", "coupon"):
        assert stored(copy, kind) == stored(account.sandbox, kind), kind


def test_a_loaded_subscription_bills_on_as_the_account_does(account: Billing, copy: Sandbox) -> None:
    """Three seats in a month of 31 days and one of 30, usage, and a coupon that has two months left."""
    account.post("coupons", {"id": "ten", "percent_off": 10, "duration": "repeating", "duration_in_months": 3})
    clock = account.clock("2026-05-31")
    customer, id_ = account.subscribe(clock, 3, discounts={"0": {"coupon": "ten"}})
    account.advance(clock, "2026-06-30T02:00:00")
    expand = "expand[]=discounts&expand[]=items.data.discounts"
    loaded = without_clock(account.get(f"subscriptions/{id_}?{expand}"))

    set_clock(copy, "2026-06-30T02:00:00")
    load(copy, [*catalogue(account), without_clock(account.get(f"customers/{customer}")), loaded])
    there = get(copy, f"subscriptions/{id_}?{expand}")
    account.use(customer, 700, "2026-06-30T01:00:00")
    for month in ("2026-07-31T02:00:00", "2026-08-31T02:00:00"):
        account.advance(clock, month)
    set_clock(copy, "2026-06-30T02:00:00")
    payload = f"payload[stripe_customer_id]={customer}&payload[value]=700"
    event = f"event_name=t&timestamp={seconds('2026-06-30T01:00:00')}&{payload}"
    form = {"Authorization": "Bearer sk_test_x", "Content-Type": "application/x-www-form-urlencoded"}
    assert copy.handle(Request("POST", "/v1/billing/meter_events", form, event.encode())).status == 200
    set_clock(copy, "2026-08-31T02:00:00")

    assert {**there, "latest_invoice": None, "test_clock": None} == {
        **loaded,
        "latest_invoice": None,
        "test_clock": None,
    }

    def bills(invoices: Any) -> list[Any]:
        shown = ("created", "total", "status", "subtotal")
        return [[each[name] for name in shown] for each in invoices["data"][:2]]

    made = bills(get(copy, f"invoices?subscription={id_}"))
    assert made == bills(account.get(f"invoices?subscription={id_}"))
    assert [each[1:3] for each in made] == [[30_000, "paid"], [27_000, "paid"]]


def test_a_schedule_goes_on_with_its_next_phase(account: Billing, copy: Sandbox) -> None:
    clock = account.clock("2026-05-10")
    customer, id_ = account.subscribe(clock, 1)
    dearer = account.price("dearer", {"unit_amount": 15_000})
    schedule = account.post("subscription_schedules", {"from_subscription": id_})
    present = schedule["phases"][0]
    phases = {
        "0": {
            "start_date": present["start_date"],
            "end_date": present["end_date"],
            "items": {"0": {"price": account.license, "quantity": 1}, "1": {"price": account.usage}},
        },
        "1": {"items": {"0": {"price": dearer, "quantity": 2}, "1": {"price": account.usage}}},
    }
    account.post(f"subscription_schedules/{schedule['id']}", {"phases": phases})
    planned = without_clock(account.get(f"subscription_schedules/{schedule['id']}"))
    subscription = without_clock(account.get(f"subscriptions/{id_}"))

    set_clock(copy, "2026-05-20")
    person = without_clock(account.get(f"customers/{customer}"))
    load(copy, [*catalogue(account), person, {**subscription, "schedule": None}, planned])
    set_clock(copy, "2026-06-10T02:00:00")

    assert get(copy, f"invoices?subscription={id_}")["data"][0]["total"] == 30_000
    assert get(copy, f"subscriptions/{id_}")["schedule"] == schedule["id"]


def test_a_second_load_changes_what_it_names_and_no_more(account: Billing, copy: Sandbox) -> None:
    account.post("coupons", {"id": "once", "amount_off": 500, "currency": "usd", "duration": "once"})
    clock = account.clock("2026-05-10")
    customer, id_ = account.subscribe(clock, 1, discounts={"0": {"coupon": "once"}})
    subscription = without_clock(account.get(f"subscriptions/{id_}"))
    discount = {"id": "di_1", "customer": customer, "source": {"type": "coupon", "coupon": "once"}, "start": 1}
    set_clock(copy, "2026-05-20")
    load(copy, [*catalogue(account), without_clock(account.get(f"customers/{customer}")), subscription])
    before = stored(copy, "subscription")[id_]

    load(copy, [{"id": id_, "object": "subscription", "discounts": [discount], "status": "past_due"}])

    after = stored(copy, "subscription")[id_]
    assert after == {**before, "discounts": ["di_1"], "status": "past_due"}
    set_clock(copy, "2026-06-10T02:00:00")
    assert get(copy, f"invoices?subscription={id_}")["data"][0]["total"] == 9_500


def test_what_it_does_not_know_loads_nothing_at_all(account: Billing, copy: Sandbox) -> None:
    with pytest.raises(StripeError, match="loads no invoice"):
        load(copy, [*catalogue(account), {"id": "in_1", "object": "invoice"}])
    assert stored(copy, "product") == {}
