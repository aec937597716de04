"""Thirteen renewals of a copy: its usage is sent, its clock goes on, and a change is applied on the way."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final, Protocol
from urllib.parse import quote

from components.providers.inventory import StripeObject
from pricing.rehearse.copy import Shape
from pricing.rehearse.sandbox import Copy, periods
from pricing.rollout.decisions import DAY

#: How far the clock goes in one step. Stripe takes meter events of the last 35 days.
STEP: Final = 7 * DAY
#: The age of the oldest usage that can be sent: of a period that began long ago.
OLDEST: Final = 34 * DAY
#: Renewals of a monthly subscription, so that a yearly one renews too.
RENEWALS: Final = 13
#: How often a rollout is run again, for those that could not move before.
AGAIN: Final = 28 * DAY
#: A renewal's invoice is a draft for an hour, and the change is applied in the middle of one.
DRAFT: Final = 3600

Progress = Callable[[str], None]


class Change(Protocol):
    """What is done to the copy: the pull request, or a mistake that a test makes on purpose."""

    def apply(self, copy: Copy, now: int) -> None:
        """Do it."""

    def again(self, copy: Copy, now: int) -> None:
        """Run a rollout again, as its operator does."""


@dataclass(frozen=True)
class MeterEvent:
    """Usage to send at a moment, UTC seconds; `body` is the form."""

    at: int
    body: bytes


def end_of(shape: Shape) -> int:
    """When thirteen renewals of every monthly subscription are billed, and their invoices final."""
    return shape.now + RENEWALS * 31 * DAY + 2 * DAY


def applied_at(
    shape: Shape, plans: Mapping[str, tuple[str, int, str]], elsewhere: Callable[[StripeObject], bool]
) -> int:
    """When to apply a change: while the first renewal's invoice is a draft, the moment at which most can go wrong.

    Args:
        plans: the prices of the plans.
        elsewhere: whether a subscription was made elsewhere: a rollout moves it, not the engine.
    """
    ends = [
        int(item["current_period_end"])
        for subscription in shape.subscriptions
        if elsewhere(subscription) and subscription["status"] == "active"
        for item in subscription["items"]["data"]
        if item["price"] in plans
    ]
    soon = [end for end in ends if end <= shape.now + 35 * DAY]
    return min(soon) + DRAFT // 2 if soon else shape.now


def meter_events(shape: Shape) -> tuple[list[MeterEvent], set[str]]:
    """The usage of all periods, in order, and the customers without any.

    Each period has the usage of one that was billed, in turn: half of it right after its start, half towards its end,
    so that a price that moves between them loses some if it can.
    """
    events: list[MeterEvent] = []
    silent: set[str] = set()
    done: set[tuple[str, str]] = set()
    for subscription in shape.subscriptions:
        for item in subscription["items"]["data"]:
            price = shape.prices[item["price"]]
            meter = (price["recurring"] or {}).get("meter")
            where = (str(subscription["customer"]), str(meter))
            if meter is None or where in done:
                continue
            done.add(where)
            if not shape.usage.get(where):
                silent.add(where[0])
                continue
            events += _events_of(shape, subscription, item, where)
    return sorted(events, key=lambda each: each.at), silent


def _events_of(
    shape: Shape, subscription: StripeObject, item: StripeObject, where: tuple[str, str]
) -> Iterator[MeterEvent]:
    customer, meter = where
    history = shape.usage[where]
    spans = periods(subscription, item, shape.prices[item["price"]], end_of(shape))
    for number, (start, end) in enumerate(spans):
        units = history[number % len(history)].units
        # Of a meter that bills by the last value, both are the whole.
        last = shape.meters[meter]["default_aggregation"]["formula"] == "last"
        half, rest = (units, units) if last else (half := (units / 2).to_integral_value(), units - half)
        for at, part in ((start + 60, half), (end - (end - start) // 4, rest)):
            if part:
                yield MeterEvent(
                    max(at, shape.now - OLDEST), _form(shape.meters[meter], customer, part, max(at, shape.now - OLDEST))
                )


def _form(meter: StripeObject, customer: str, units: Decimal, at: int) -> bytes:
    who = meter["customer_mapping"]["event_payload_key"]
    what = meter["value_settings"]["event_payload_key"]
    fields = {
        "event_name": meter["event_name"],
        "timestamp": str(at),
        f"payload[{who}]": customer,
        f"payload[{what}]": f"{units.normalize():f}",
    }
    return "&".join(f"{quote(name, safe='[]')}={quote(value)}" for name, value in fields.items()).encode()


def walk(
    copy: Copy,
    shape: Shape,
    events: Sequence[MeterEvent],
    *,
    change: Change | None = None,
    at: int | None = None,
    progress: Progress = lambda _: None,
) -> None:
    """Let a copy's time pass until the last renewal; `change` is applied `at` a moment, and run again every month."""
    end = end_of(shape)
    apply = [] if change is None or at is None else [at]
    again = [] if not apply else [apply[0] + DAY, *range(apply[0] + AGAIN, end, AGAIN)]
    moments = sorted({*range(shape.now, end, STEP), *apply, *again, end})
    sent = 0
    for number, moment in enumerate(moments, start=1):
        copy.set_clock(moment)
        while sent < len(events) and events[sent].at <= moment:
            copy.post("/v1/billing/meter_events", events[sent].body)
            sent += 1
        copy.settle()
        if change is not None and moment in apply:
            change.apply(copy, moment)
        elif change is not None and moment in again:
            change.again(copy, moment)
        progress(f"{'the pull request' if change else 'today'}: step {number} of {len(moments)}")


def bills(copy: Copy) -> dict[str, list[dict[str, Any]]]:
    """Every invoice of each subscription that is not void, with all of its lines and its coupons, oldest first."""
    found: dict[str, list[dict[str, Any]]] = {}
    expand = "expand[]=data.total_discount_amounts.discount.source.coupon"
    for invoice in copy.every("/v1/invoices", expand):
        if invoice["status"] == "void":
            continue
        if invoice["lines"]["has_more"]:
            invoice["lines"] = {"data": list(copy.every(f"/v1/invoices/{invoice['id']}/lines"))}
        subscription = invoice["parent"]["subscription_details"]["subscription"] if invoice.get("parent") else ""
        found.setdefault(str(subscription), []).append(invoice)
    return {subscription: invoices[::-1] for subscription, invoices in found.items()}
