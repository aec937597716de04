"""What a Stripe account has, read-only: every page of a list, every item of a subscription, every line of an invoice.

Each function yields Stripe's objects as it reads them, newest first, in one request for a hundred. All of them raise
`AccountError`: Stripe refused, or could not be reached.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar
from weakref import WeakSet

from components.account import Account, StripeRefusal
from components.providers.inventory import StripeObject
from pricing.ending import say

SUBSCRIPTIONS: Final = "/v1/subscriptions"
_ITEMS: Final = "items.data."

T = TypeVar("T")


def every(
    account: Account,
    path: str,
    subject: str,
    filters: Mapping[str, Any] | None = None,
    *,
    expand: Sequence[str] = (),
    ahead: bool = False,
) -> Iterator[StripeObject]:
    """Every object of a list.

    Args:
        subject: names the list in an error.
        filters: Stripe's parameters of the list.
        expand: what the objects include beyond the default, such as `discounts`.
        ahead: request each page while the page before is in use.
    """
    asked = {**(filters or {}), **({"expand": [f"data.{each}" for each in expand]} if expand else {})}
    pages = account.pages(path, asked, subject=subject)
    for page, _ in _ahead(pages) if ahead else pages:
        yield from page


def meters(account: Account) -> Iterator[StripeObject]:
    """The meters, deactivated ones too."""
    return every(account, "/v1/billing/meters", "the account's meters")


def event_summaries(account: Account, meter: str, customer: str, start: int, end: int) -> Iterator[StripeObject]:
    """What a meter has counted for a customer.

    Args:
        start, end: UTC seconds, whole minutes; Stripe refuses others.
    """
    asked = {"customer": customer, "start_time": start, "end_time": end}
    return every(account, f"/v1/billing/meters/{meter}/event_summaries", "a meter's event summaries", asked)


def products(account: Account) -> Iterator[StripeObject]:
    """The products, archived ones too."""
    return every(account, "/v1/products", "the account's products")


def prices(account: Account, *, costs: bool = False) -> Iterator[StripeObject]:
    """The prices, archived ones too. Stripe lists none that a subscription has made for itself (`price_data`).

    Args:
        costs: with `tiers` and `currency_options`. A tiered price in several currencies takes one more request:
            Stripe expands the tiers of a currency only by its code.
    """
    expand = ("tiers", "currency_options") if costs else ()
    for price in every(account, "/v1/prices", "the account's prices", expand=expand):
        codes = sorted((price.get("currency_options") or {}).keys() - {price["currency"]})
        if codes and price.get("billing_scheme") == "tiered":
            asked = {"expand": [*expand, *(f"currency_options.{code}.tiers" for code in codes)]}
            price = account.request("get", f"/v1/prices/{price['id']}", asked, subject=f"price {price['id']}").data
        yield price


def coupons(account: Account) -> Iterator[StripeObject]:
    """The coupons with their amounts in all currencies and the products that they are limited to."""
    return every(account, "/v1/coupons", "the account's coupons", expand=("applies_to", "currency_options"))


def customers(account: Account, *, expand: Sequence[str] = ()) -> Iterator[StripeObject]:
    """The customers, including those on test clocks."""
    for clock in _clocks(account):
        yield from every(account, "/v1/customers", "the account's customers", clock, expand=expand)


def subscriptions(
    account: Account, *, expand: Sequence[str] = (), on_clocks: bool = True, **filters: Any
) -> Iterator[StripeObject]:
    """The subscriptions with all of their items; without a `status`, those that are not canceled.

    Args:
        on_clocks: also those on test clocks, which Stripe lists by clock only. For those of one clock, name it as
            `test_clock`, and leave this out.
    """
    for clock in _clocks(account) if on_clocks else ({},):
        where = {**filters, **clock}
        for each in every(account, SUBSCRIPTIONS, "the account's subscriptions", where, expand=expand):
            yield with_items(account, each, expand)


def subscription(account: Account, id_: str, *, expand: Sequence[str] = ()) -> StripeObject | None:
    """One subscription as it is now, with all of its items; None if there is none."""
    asked = {"expand": list(expand)} if expand else {}
    try:
        found = account.request("get", f"{SUBSCRIPTIONS}/{id_}", asked, subject=f"subscription {id_}").data
    except StripeRefusal as refusal:
        if refusal.status == 404:
            return None
        raise
    return with_items(account, found, expand)


def with_items(account: Account, subscription: StripeObject, expand: Sequence[str] = ()) -> StripeObject:
    """A subscription with all of its items: Stripe includes the first ten, and the rest takes a request.

    Args:
        expand: how the subscription was requested; its items are requested likewise.
    """
    if not subscription["items"].get("has_more"):
        return subscription
    inside = [each.removeprefix(_ITEMS) for each in expand if each.startswith(_ITEMS)]
    of = {"subscription": subscription["id"]}
    items = list(every(account, "/v1/subscription_items", "a subscription's items", of, expand=inside))
    return {**subscription, "items": {**subscription["items"], "data": items, "has_more": False}}


def invoices(account: Account, *, expand: Sequence[str] = (), **filters: Any) -> Iterator[StripeObject]:
    """The invoices, including those on test clocks, each with up to ten lines: `lines` has the rest.

    The next page is requested while the last one is in use.
    """
    return every(account, "/v1/invoices", "the account's invoices", filters, expand=expand, ahead=True)


def lines(account: Account, invoice: Mapping[str, Any]) -> list[StripeObject]:
    """Every line of an invoice: Stripe includes the first ten, and the rest takes a request."""
    shown = invoice["lines"]
    if not shown.get("has_more"):
        return list(shown["data"])
    return list(every(account, f"/v1/invoices/{invoice['id']}/lines", "an invoice's lines"))


def now(account: Account, test_clock: str | None) -> int:
    """The present time of what is on a test clock, or on none: UTC seconds."""
    if test_clock is None:
        return int(time.time())
    path = f"/v1/test_helpers/test_clocks/{test_clock}"
    return int(account.request("get", path, {}, subject=f"test clock {test_clock}").data["frozen_time"])


#: Accounts whose key may not read test clocks, which was said.
_said: Final[WeakSet[Account]] = WeakSet()


def _clocks(account: Account) -> Iterator[Mapping[str, str]]:
    """The filters of the lists that together have everything: one without a clock, and one for each test clock."""
    yield {}
    if account.livemode:
        return
    try:
        for clock in every(account, "/v1/test_helpers/test_clocks", "the account's test clocks"):
            yield {"test_clock": clock["id"]}
    except StripeRefusal as refusal:
        # A key that may not read test clocks can still read what is on none.
        if refusal.status != 403:
            raise
        if account not in _said:
            _said.add(account)
            say("the key may not read test clocks: what is on one is left out")


def _ahead(pages: Iterator[T]) -> Iterator[T]:
    """The same pages, each requested while the page before is in use."""
    with ThreadPoolExecutor(1) as thread:
        following = thread.submit(next, pages, None)
        while (page := following.result()) is not None:
            following = thread.submit(next, pages, None)
            yield page
