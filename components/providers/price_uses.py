"""Which subscriptions pay a price or will: checked before archiving a price with `archive_when_unused`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from components.account import Account
from components.providers.inventory import StripeObject
from components.providers.schedules import RUNNING
from components.providers.values import id_of

#: The statuses of subscriptions that no longer bill.
ENDED: Final = ("canceled", "incomplete_expired")
#: Stripe cannot list schedules by price, so this many pages of the newest are read, 100 each.
MOST_PAGES: Final = 10


def of(account: Account, price: str, subject: str) -> list[str]:
    """The subscriptions that pay a price, or will through a schedule: the ids of the first ones found, at most 100.

    One call if one pays it; else up to ten more for schedules and, in test mode, one for each test clock: Stripe lists
    the subscriptions of a clock only if the request names it.
    """
    for page, _ in account.pages("/v1/subscriptions", {"price": price}, subject=subject):
        if users := [each["id"] for each in page if each.get("status") not in ENDED]:
            return users
    for number, (page, _) in enumerate(account.pages("/v1/subscription_schedules", {}, subject=subject), 1):
        if users := [each.get("subscription") or each["id"] for each in page if _names(each, price)]:
            return users
        if number == MOST_PAGES:
            break
    return [] if account.livemode else list(_on_clocks(account, price, subject))


def _on_clocks(account: Account, price: str, subject: str) -> Iterator[str]:
    clocks = account.request("get", "/v1/test_helpers/test_clocks", {"limit": 100}, subject=subject).data["data"]
    for clock in clocks:
        asked = {"test_clock": clock["id"], "expand": ["data.schedule"]}
        for page, _ in account.pages("/v1/subscriptions", asked, subject=subject):
            for each in page:
                if each.get("status") not in ENDED and (_bills(each, price) or _names(each.get("schedule"), price)):
                    yield each["id"]


def _bills(subscription: StripeObject, price: str) -> bool:
    return any(id_of(item.get("price")) == price for item in (subscription.get("items") or {}).get("data", []))


def _names(schedule: Any, price: str) -> bool:
    """Whether a running schedule names a price in its current or a later phase."""
    if not isinstance(schedule, Mapping) or schedule.get("status") not in RUNNING:
        return False
    begun = (schedule.get("current_phase") or {}).get("start_date", 0)
    phases = [phase for phase in schedule.get("phases") or () if phase["start_date"] >= begun]
    return any(id_of(item.get("price")) == price for phase in phases for item in phase["items"])
