"""A sandbox that continues where an account's shape is, in a time of its own."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from components.account import AccountError
from components.providers.inventory import StripeObject
from components.providers.values import mapping
from pricing.rehearse.copy import TERMS, CopyError, Shape
from sandbox import Request, Sandbox
from sandbox.billing.periods import Anchor, Interval
from sandbox.errors import StripeError
from sandbox.loading import load


class Copy:
    """A sandbox with an account's shape, in a time of its own.

    Args:
        path: its file; created if missing.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.sandbox = Sandbox(path)

    def close(self) -> None:
        """Close the file."""
        self.sandbox.close()

    def fill(self, shape: Shape) -> None:
        """Store a shape, each subscription as it was one period ago, and renew those up to now.

        The invoice of the present period is then one of the copy's own, and so is what a change credits for it.

        Raises:
            CopyError: the present periods do not come out.
        """
        self.control("POST", "log", on=False)
        self.set_clock(shape.now)
        try:
            self._load(shape)
        except StripeError as problem:
            raise CopyError(f"the account cannot be copied: {problem.message}") from None

    def _load(self, shape: Shape) -> None:
        load(self.sandbox, [*shape.catalogue, *shape.customers.values()])
        load(self.sandbox, [_one_period_ago(each, shape) for each in shape.subscriptions])
        self.settle()
        # The account's own invoice of a period that has just begun is not the copy's; the next ones are.
        for invoice in list(self.every("/v1/invoices", "status=draft")):
            self.post(f"/v1/invoices/{invoice['id']}/finalize", b"")
        for subscription in shape.subscriptions:
            names = ("id", "object", "discounts", "items", "metadata", *TERMS)
            now = {name: subscription[name] for name in names if name in subscription}
            load(self.sandbox, [now])
            if "schedule" in subscription:
                load(self.sandbox, [subscription["schedule"]])
            self._check(subscription)

    def _check(self, subscription: StripeObject) -> None:
        there = self.get(f"/v1/subscriptions/{subscription['id']}")
        periods = {item["id"]: item["current_period_end"] for item in there["items"]["data"]}
        for item in subscription["items"]["data"]:
            if periods.get(item["id"]) != item["current_period_end"]:
                raise CopyError(
                    f"{subscription['id']}: its present period ends at {item['current_period_end']} in the account and "
                    f"at {periods.get(item['id'])} in the copy; please report this"
                )

    def settle(self) -> None:
        """Do everything that is due by now: a request does a thousand moments at most."""
        last = None
        while True:
            self.get("/v1/invoices?limit=1")
            newest = self.get("/v1/events?limit=1")["data"]
            if not newest or newest[0]["id"] == last:
                return
            last = newest[0]["id"]

    def set_clock(self, now: int) -> None:
        """Set the copy's time, UTC seconds; what is due then is done by the next `settle`."""
        self.control("POST", "clock", frozen=now)

    def get(self, url: str) -> dict[str, Any]:
        """An answer of the copy's API."""
        return self._answer(Request("GET", url, {"authorization": "Bearer sk_test_rehearsal"}, b""))

    def every(self, path: str, query: str = "") -> Iterator[dict[str, Any]]:
        """Every object of a list, newest first."""
        after = ""
        while True:
            page = self.get(f"{path}?limit=100{after}{'&' if query else ''}{query}")
            yield from page["data"]
            if not page["has_more"]:
                return
            after = f"&starting_after={page['data'][-1]['id']}"

    def post(self, path: str, body: bytes) -> dict[str, Any]:
        """Send a form."""
        headers = {
            "authorization": "Bearer sk_test_rehearsal",
            "content-type": "application/x-www-form-urlencoded",
        }
        return self._answer(Request("POST", path, headers, body))

    def control(self, method: str, name: str, **params: Any) -> dict[str, Any]:
        """Call the sandbox's control interface."""
        body = json.dumps(params).encode() if params else b""
        return self._answer(Request(method, f"/_sandbox/{name}", {"content-type": "application/json"}, body))

    def _answer(self, request: Request) -> dict[str, Any]:
        response = self.sandbox.handle(request)
        answer: dict[str, Any] = json.loads(response.body)
        if response.status != 200:
            message = mapping(answer.get("error")).get("message")
            raise AccountError(f"the copy refused {request.method} {request.url}: {message}")
        return answer


def _one_period_ago(subscription: StripeObject, shape: Shape) -> StripeObject:
    """A subscription before the renewal that began its present periods; as it is if it is in a trial."""
    # Its schedule follows when it has its present periods.
    found = {name: value for name, value in subscription.items() if name not in ("schedule", "canceled_at")}
    if subscription["status"] == "trialing":
        return found
    durations = {each["id"]: each["duration"] for each in shape.catalogue if each["object"] == "coupon"}

    def lasting(discounts: list[StripeObject]) -> list[StripeObject]:
        # A coupon for one invoice that is still there has not been used by that renewal.
        return [each for each in discounts if durations.get(each["source"]["coupon"]) != "once"]

    anchor = _anchor(subscription)
    items = []
    for item in subscription["items"]["data"]:
        end = int(item["current_period_start"])
        start, _ = anchor.period_around(Interval.of(shape.prices[item["price"]]["recurring"]), end - 1)
        before = {"current_period_start": start, "current_period_end": end, "discounts": lasting(item["discounts"])}
        items.append({**item, **before})
    found |= {"discounts": lasting(subscription["discounts"]), "status": "active", "pause_collection": None}
    return {**found, "cancel_at": None, "cancel_at_period_end": False, "items": {"data": items}}


def _anchor(subscription: Mapping[str, Any]) -> Anchor:
    config = subscription.get("billing_cycle_anchor_config")
    return Anchor(int(subscription["billing_cycle_anchor"]), None if config is None else config["day_of_month"])


def periods(
    subscription: Mapping[str, Any], item: Mapping[str, Any], price: Mapping[str, Any], until: int
) -> Iterator[tuple[int, int]]:
    """The periods of an item, the present one first, as far as they begin before a moment (UTC seconds)."""
    anchor, interval = _anchor(subscription), Interval.of(price["recurring"])
    start, end = int(item["current_period_start"]), int(item["current_period_end"])
    while start < until:
        yield start, end
        start, end = end, anchor.next_boundary(interval, end)
