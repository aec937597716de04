"""A small world to bill in: a customer on a test clock, prices by the line, bills read back as plain figures."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import stripe
from hypothesis import settings

#: For property tests: no clock decides over a slow machine's run, nothing is written beside the tests, and a run is
#: the same everywhere.
searched = settings(deadline=None, database=None, derandomize=True)


def at(text: str) -> int:
    """Unix seconds of a date or time in UTC."""
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


class World:
    """Stripe's client over the sandbox, with a customer whose time is its own. Starts on 1 January 2026."""

    def __init__(self, client: stripe.StripeClient, start: str = "2026-01-01") -> None:
        self.client = client
        self.v1 = client.v1
        self.clock = self.v1.test_helpers.test_clocks.create({"frozen_time": at(start)})
        self.customer = self.new_customer()

    def new_customer(self, **params: Any) -> stripe.Customer:
        """A customer on the clock, with a card unless told otherwise."""
        given: Any = {
            "name": "Alpaca.ai",
            "test_clock": self.clock.id,
            "invoice_settings": {"default_payment_method": "pm_card_visa"},
            **params,
        }
        return self.v1.customers.create(given)

    # -- what is sold -----------------------------------------------------------------------------------------------

    def product(self, name: str, **params: Any) -> str:
        """A product's id."""
        given: Any = {"name": name, **params}
        return self.v1.products.create(given).id

    def price(self, name: str, unit_amount_decimal: str | None, *, interval: str = "month", **params: Any) -> str:
        """A licensed price, in cents per unit or with tiers."""
        recurring = {"interval": interval, "interval_count": params.pop("interval_count", 1)}
        given: Any = {
            "product": self.product(name),
            "currency": "usd",
            "recurring": recurring,
            **params,
        }
        if unit_amount_decimal is not None:
            given["unit_amount_decimal"] = unit_amount_decimal
        return self.v1.prices.create(given).id

    def meter(self, event_name: str, formula: Any = "sum") -> str:
        """A meter's id."""
        return self.v1.billing.meters.create(
            {"display_name": event_name, "event_name": event_name, "default_aggregation": {"formula": formula}}
        ).id

    def usage_price(self, name: str, meter: str, **params: Any) -> str:
        """A metered price."""
        interval = params.pop("interval", "month")
        given: Any = {
            "product": self.product(name),
            "currency": "usd",
            "recurring": {"interval": interval, "usage_type": "metered", "meter": meter},
            **params,
        }
        return self.v1.prices.create(given).id

    def tiered(self, *tiers: tuple[int | None, str | None, int | None], mode: str = "graduated") -> dict[str, Any]:
        """Parameters of tiers given as (up to, cents each, flat cents)."""
        rows = []
        for up_to, unit, flat in tiers:
            row: dict[str, Any] = {"up_to": "inf" if up_to is None else up_to}
            if unit is not None:
                row["unit_amount_decimal"] = unit
            if flat is not None:
                row["flat_amount"] = flat
            rows.append(row)
        return {"billing_scheme": "tiered", "tiers_mode": mode, "tiers": rows}

    # -- what happens -----------------------------------------------------------------------------------------------

    def subscribe(self, *items: Any, **params: Any) -> stripe.Subscription:
        """A subscription of the customer; an item is a price id, (price id, quantity) or the parameters."""
        rows = []
        for item in items:
            if isinstance(item, str):
                rows.append({"price": item})
            elif isinstance(item, tuple):
                rows.append({"price": item[0], "quantity": item[1]})
            else:
                rows.append(item)
        given: Any = {"customer": self.customer.id, "items": rows, **params}
        return self.v1.subscriptions.create(given)

    def use(self, event_name: str, value: int, when: str | None = None) -> None:
        """A meter event of the customer."""
        given: Any = {
            "event_name": event_name,
            "payload": {"stripe_customer_id": self.customer.id, "value": str(value)},
        }
        if when is not None:
            given["timestamp"] = at(when)
        self.v1.billing.meter_events.create(given)

    def go(self, when: str) -> None:
        """Advance the clock."""
        self.v1.test_helpers.test_clocks.advance(self.clock.id, {"frozen_time": at(when)})

    # -- what it costs ----------------------------------------------------------------------------------------------

    def invoices(self, subscription: str | None = None) -> list[stripe.Invoice]:
        """The customer's invoices, oldest first."""
        given: Any = {"customer": self.customer.id, "limit": 100}
        if subscription is not None:
            given["subscription"] = subscription
        return list(reversed(self.v1.invoices.list(given).data))

    def bill(self, number: int = -1) -> list[tuple[str | None, int]]:
        """The lines of one of the customer's invoices, the newest unless told otherwise."""
        return lines(self.invoices()[number])

    def change(self, subscription: str, *items: dict[str, Any], **params: Any) -> stripe.Subscription:
        """An update of a subscription, of its items where given."""
        given: Any = {**params}
        if items:
            given["items"] = list(items)
        return self.v1.subscriptions.update(subscription, given)

    def preview(self, subscription: str, **details: Any) -> stripe.Invoice:
        """The next invoice of a subscription, changed by `subscription_details` where given."""
        given: Any = {"subscription": subscription}
        if details:
            given["subscription_details"] = details
        return self.v1.invoices.create_preview(given)


def lines(invoice: stripe.Invoice) -> list[tuple[str | None, int]]:
    """An invoice as (description, amount); checks on the way that the lines sum to the total."""
    shown = [(line.description, line.amount) for line in invoice.lines.data]
    if not invoice.lines.has_more and not invoice.total_discount_amounts:
        assert sum(amount for _, amount in shown) == invoice.total == invoice.subtotal
    return shown


def refusal(act: Callable[[], Any]) -> Any:
    """The error that an act is refused with, one of stripe-python's, with `param` where Stripe names one."""
    try:
        act()
    except stripe.StripeError as error:
        return error
    raise AssertionError("nothing was refused")
