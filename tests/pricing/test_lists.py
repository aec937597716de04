"""What `pricing` reads of an account is all of it, in as few requests as Stripe allows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from components.account import Account
from components.settings import Settings
from pricing import lists
from sandbox.client import SandboxHTTPClient
from sandbox.wire import Request
from tests.pricing.billed import Billing, seconds


class Counted(SandboxHTTPClient):
    """The sandbox's client, which notes what is requested."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.sent: list[str] = []

    def request(self, method: str, url: str, *args: Any, **more: Any) -> Any:
        self.sent.append(f"{method} {url.split('/v1/')[-1].partition('?')[0]}")
        return super().request(method, url, *args, **more)


@pytest.fixture
def billing(tmp_path: Path) -> Iterator[Billing]:
    billing = Billing(tmp_path)
    yield billing
    billing.sandbox.close()


def opened(billing: Billing) -> tuple[Account, Counted]:
    client = Counted(billing.path)
    settings = {"mode": "sandbox", "sandboxFile": str(billing.path)}
    return Account(Settings.read(settings.get, {}), http_client=client), client


def test_subscriptions_on_a_test_clock_are_read_with_the_others(billing: Billing) -> None:
    """Stripe lists them only where their clock is named."""
    clocks = [billing.clock("2026-05-03") for _ in range(2)]
    made = {billing.subscribe(clock, 1) for clock in clocks}
    alone = billing.post("customers", {"invoice_settings": {"default_payment_method": "pm_card_visa"}})["id"]
    items = {"0": {"price": billing.license}}
    made.add((alone, billing.post("subscriptions", {"customer": alone, "items": items})["id"]))
    account, _ = opened(billing)

    assert {(each["customer"], each["id"]) for each in lists.subscriptions(account)} == made
    assert {each["id"] for each in lists.customers(account)} == {customer for customer, _ in made}
    assert {each["customer"] for each in lists.subscriptions(account, on_clocks=False)} == {alone}
    (one,) = lists.subscriptions(account, on_clocks=False, test_clock=clocks[0])
    assert one["test_clock"] == clocks[0]


def test_what_is_on_clocks_that_the_key_may_not_read_is_left_out_and_said_once(
    billing: Billing, capsys: pytest.CaptureFixture[str]
) -> None:
    billing.subscribe(billing.clock("2026-05-03"), 1)
    fault = {"method": "GET", "path": "/v1/test_helpers/*", "status": 403, "count": None}
    assert billing.sandbox.handle(Request("POST", "/_sandbox/faults", {}, json.dumps(fault).encode())).status == 200
    account, _ = opened(billing)
    assert [*lists.subscriptions(account), *lists.customers(account)] == []
    assert capsys.readouterr().err == "pricing: the key may not read test clocks: what is on one is left out\n"


def test_a_subscription_has_all_of_its_items_and_an_invoice_all_of_its_lines(billing: Billing) -> None:
    """Stripe includes ten of each in a list."""
    clock = billing.clock("2026-05-03")
    prices = [billing.price(f"fee{number}", {"unit_amount": 100 + number}) for number in range(14)]
    ten = billing.post("coupons", {"id": "ten", "percent_off": 10, "duration": "forever"})["id"]
    items: dict[str, Any] = {str(number): {"price": price} for number, price in enumerate(prices)}
    items["13"] = {"price": prices[13], "discounts": {"0": {"coupon": ten}}}
    _, id_ = billing.subscribe(clock, 1, items=items)
    expand = ("discounts", "items.data.discounts")
    account, client = opened(billing)

    (listed,) = lists.subscriptions(account, expand=expand)
    single = lists.subscription(account, id_, expand=expand)
    (invoice,) = lists.invoices(account)
    lines = lists.lines(account, invoice)

    assert single is not None
    for each in (listed, single):
        assert sorted(item["price"]["id"] for item in each["items"]["data"]) == sorted(prices)
        (coupon,) = [item["discounts"][0]["source"]["coupon"] for item in each["items"]["data"] if item["discounts"]]
        assert coupon == ten
    assert len(invoice["lines"]["data"]) == 10
    assert sorted(line["pricing"]["price_details"]["price"] for line in lines) == sorted(prices)
    assert lists.subscription(account, "sub_none") is None
    assert {each.partition(" ")[0] for each in client.sent} == {"get"}


def test_an_archived_price_is_read_with_the_tiers_of_each_of_its_currencies(billing: Billing) -> None:
    tiers = {"0": {"up_to": 10, "unit_amount": 5}, "1": {"up_to": "inf", "unit_amount": 3}}
    graduated = {"billing_scheme": "tiered", "tiers_mode": "graduated", "tiers": tiers}
    price = billing.price("many", {**graduated, "currency_options": {"eur": {"tiers": tiers}, "gbp": {"tiers": tiers}}})
    billing.post(f"prices/{price}", {"active": False})
    account, client = opened(billing)

    (found,) = [each for each in lists.prices(account, costs=True) if each["id"] == price]

    assert not found["active"]
    assert [tier["unit_amount"] for tier in found["tiers"]] == [5, 3]
    for code in ("eur", "gbp"):
        assert [tier["unit_amount"] for tier in found["currency_options"][code]["tiers"]] == [5, 3]
    assert client.sent == ["get prices", f"get prices/{price}"]


def test_what_is_archived_is_read_too(billing: Billing) -> None:
    billing.post(f"products/{billing.product}", {"active": False})
    billing.post(f"billing/meters/{billing.meter}/deactivate", {})
    billing.post("coupons", {"id": "ten", "percent_off": 10, "duration": "forever"})
    account, _ = opened(billing)

    assert [each["active"] for each in lists.products(account)] == [False]
    assert [each["status"] for each in lists.meters(account)] == ["inactive"]
    assert [each["id"] for each in lists.coupons(account)] == ["ten"]


def test_an_event_summary_has_what_the_meter_counted(billing: Billing) -> None:
    clock = billing.clock("2026-05-03")
    customer, _ = billing.subscribe(clock, 1)
    billing.advance(clock, "2026-05-10")
    billing.use(customer, 700, "2026-05-09")
    account, _ = opened(billing)
    start, end = seconds("2026-05-03"), seconds("2026-05-10")

    (summary,) = lists.event_summaries(account, billing.meter, customer, start, end)

    assert summary["aggregated_value"] == 700


def test_two_hundred_and_fifty_invoices_take_three_requests(billing: Billing) -> None:
    clock = billing.clock("2026-05-03")
    made = {billing.subscribe(clock, 1)[1] for _ in range(250)}
    account, client = opened(billing)

    found = list(lists.invoices(account, created={"gte": seconds("2026-05-03")}))

    assert {each["parent"]["subscription_details"]["subscription"] for each in found} == made
    assert client.sent.count("get invoices") == 3
