"""Reading usage back: event summaries for any window, and the next invoice line by line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Literal
from urllib.parse import quote

from .api import Api
from .delivery import Delivery
from .errors import DestinationError, InvalidEvent, StripeError, UsageError
from .events import Timestamp, exact_sum, utc_seconds
from .results import InvoicePreview, PreviewLine, Summaries, Summary

# https://docs.stripe.com/api/billing/meter-event-summary/list: boundaries of start_time and end_time, in seconds
ALIGNMENT: dict[str | None, int] = {None: 60, "hour": 3600, "day": 86_400}


def month_start(now: float) -> int:
    """Start of the UTC month of `now`, in UTC seconds."""
    return int(datetime.fromtimestamp(now, UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0).timestamp())


def aligned(start: int, end: int, group: str | None) -> tuple[int, int]:
    """The smallest window around [start, end) with the boundaries that Stripe requires."""
    size = ALIGNMENT[group]
    first = start - start % size
    last = end + -end % size
    return first, max(last, first + size)


def summaries(
    at: Delivery,
    /,
    meter: str,
    customer: str | Sequence[str] | None = None,
    start: Timestamp | None = None,
    end: Timestamp | None = None,
    *,
    group: Literal["hour", "day"] | None = None,
    subscription: str | None = None,
) -> Summaries:
    """Usage as Stripe aggregated it, for one customer or many.

    meter: an event name or a meter id. start, end: as in `record`; default from the start of this UTC month to now.
    subscription: its customer and its current billing period. The window is widened to the boundaries that Stripe
    requires (minutes, or the group's hours or UTC days); the result shows it. Aggregation lags: events of the last
    minutes may be missing.
    """
    if group not in ALIGNMENT:
        raise ValueError(f'group {group!r} is neither "hour" nor "day"')
    found = at.meters.find(meter)
    where = at.api.destination
    if found is None:
        why = f"(there are: {at.meters.names()})"
        raise StripeError(f'no meter has the event name "{meter}" at {where.label} {why}')
    now = at.clock()
    window = "this UTC month so far" if start is None and end is None else "the requested window"
    period = (month_start(now), int(now) + 1)
    if subscription is not None:
        window = f"the billing period of {subscription}"
        owner, period = _billing_period(at.api, subscription, found["id"])
        if customer and customer not in (owner, [owner], (owner,)):
            raise InvalidEvent("customer", f"is not the customer of {subscription}, {owner}")
        customer = owner
    customers = [customer] if isinstance(customer, str) else list(customer or ())
    if not customers:
        raise InvalidEvent("customer", "is missing: Stripe summarises one customer at a time")
    since = period[0] if start is None else utc_seconds(start)
    until = period[1] if end is None else utc_seconds(end)
    if until <= since:
        raise InvalidEvent("end", "is not after start")
    first, last = aligned(since, until, group)
    rows: list[Summary] = []
    for name in dict.fromkeys(customers):
        mine = sorted(customer_summaries(at.api, found["id"], name, first, last, group), key=lambda row: row.start)
        rows += mine or ([Summary(name, first, last, Decimal(0))] if group is None else [])
    names, total = (found["id"], found["event_name"]), exact_sum(row.value for row in rows)
    return Summaries(where.label, where.sandbox, *names, first, last, group, tuple(rows), window, total)


def _billing_period(api: Api, subscription: str, meter_id: str) -> tuple[str, tuple[int, int]]:
    """Customer, start and end of the current period of the item that bills this meter, or else of any item."""
    data = api.get(f"/v1/subscriptions/{quote(subscription, safe='')}")
    items = (data.get("items") or {}).get("data") or []
    metered = [item for item in items if ((item.get("price") or {}).get("recurring") or {}).get("meter") == meter_id]
    if not items:
        raise UsageError(f"{subscription} has no items, so it has no billing period")
    item = (metered or items)[0]
    return str(data["customer"]), (int(item["current_period_start"]), int(item["current_period_end"]))


def customer_summaries(
    api: Api, meter_id: str, customer: str, start: int, end: int, group: str | None
) -> list[Summary]:
    """All summaries of one customer in an aligned window, in Stripe's order, 100 a page."""
    query = [("customer", customer), ("start_time", str(start)), ("end_time", str(end))]
    if group is not None:
        query.append(("value_grouping_window", group))
    return [
        Summary(customer, int(data["start_time"]), int(data["end_time"]), Decimal(data["aggregated_value"]))
        for data in api.pages(f"/v1/billing/meters/{meter_id}/event_summaries", *query)
    ]


def preview_invoice(at: Delivery, /, *, subscription: str | None = None, customer: str | None = None) -> InvoicePreview:
    """The next invoice of a subscription as of now, line by line, in minor units.

    For a customer: the lines and sums of all its subscriptions, and in `each` the preview of each.
    """
    api = at.api
    if subscription:
        return _preview(api, subscription)
    if not customer:
        raise DestinationError("a preview needs a subscription (sub_...) or a customer (cus_...)")
    # Stripe refuses a preview by customer alone, so each subscription is previewed
    found = [str(data["id"]) for data in api.pages("/v1/subscriptions", ("customer", customer))]
    if not found:
        raise StripeError(f"{customer} has no subscription at {api.destination.label}, so no next invoice")
    each = tuple(_preview(api, name) for name in found)
    if len(each) == 1:
        return replace(each[0], each=each)
    currencies = sorted({one.currency for one in each})
    if len(currencies) > 1:
        why = f"is billed in {' and '.join(currencies)}, which cannot be added up"
        raise UsageError(f"{customer} {why}; preview each: {', '.join(found)}")
    amounts = ("subtotal", "discounts", "credits", "taxes", "taxes_included", "total", "amount_due")
    sums = {name: sum(getattr(one, name) for one in each) for name in amounts}
    lines = tuple(line for one in each for line in one.lines)
    return replace(each[0], subscription=None, lines=lines, period_start=None, period_end=None, each=each, **sums)


def _preview(api: Api, subscription: str) -> InvoicePreview:
    try:
        invoice = api.call("POST", "/v1/invoices/create_preview", form=[("subscription", subscription)])
    except StripeError as problem:
        if problem.code == "invoice_upcoming_none":
            problem.args = (f"{subscription} has no next invoice: {problem.args[0]}",)
        raise
    parent = (invoice.get("parent") or {}).get("subscription_details") or {}
    taxes = [(int(tax["amount"]), tax.get("tax_behavior") == "inclusive") for tax in invoice.get("total_taxes") or ()]
    credited = invoice.get("total_pretax_credit_amounts") or ()
    return InvoicePreview(
        destination=api.destination.label,
        sandbox=api.destination.sandbox,
        customer=str(invoice.get("customer") or ""),
        subscription=parent.get("subscription") or subscription,
        currency=str(invoice["currency"]),
        lines=tuple(map(_line, _lines(api, invoice))),
        subtotal=int(invoice["subtotal"]),
        discounts=sum(int(one["amount"]) for one in invoice.get("total_discount_amounts") or ()),
        credits=sum(int(one["amount"]) for one in credited if one.get("type") == "credit_balance_transaction"),
        taxes=sum(amount for amount, inclusive in taxes if not inclusive),
        taxes_included=sum(amount for amount, inclusive in taxes if inclusive),
        total=int(invoice["total"]),
        amount_due=int(invoice.get("amount_due", invoice["total"])),
        period_start=invoice.get("period_start"),
        period_end=invoice.get("period_end"),
    )


def _lines(api: Api, invoice: dict[str, Any]) -> list[dict[str, Any]]:
    """Every line of a preview. Its first page has ten, and the cursor to the next is reported to be broken (the ids of
    a preview's lines change with each request, stripe-node issue 2518). So it requests one page of a hundred, uses the
    cursor only beyond that, and refuses lines that do not add up to the subtotal."""
    page = invoice["lines"]
    if not page.get("has_more"):
        return list(page["data"])
    lines: list[dict[str, Any]] = []
    try:
        for line in api.pages(page["url"]):
            lines.append(line)  # noqa: PERF402 - a refusal reports how many lines came before it
    except StripeError as problem:
        problem.args = (f"Stripe returned {len(lines)} lines of this preview but not the rest: {problem.args[0]}",)
        raise
    if sum(int(line["amount"]) for line in lines) != int(invoice["subtotal"]):
        given = f"the {len(lines)} lines that Stripe returned for this preview"
        raise StripeError(f"{given} do not add up to its subtotal; try again")
    return lines


def _line(line: dict[str, Any]) -> PreviewLine:
    pricing = line.get("pricing") or {}
    unit = pricing.get("unit_amount_decimal")
    quantity = line.get("quantity_decimal") or line.get("quantity")
    parent = (line.get("parent") or {}).get("subscription_item_details") or {}
    period = line.get("period") or {}
    return PreviewLine(
        description=str(line.get("description") or ""),
        quantity=Decimal(str(quantity if quantity is not None else 0)),
        unit_amount=None if unit is None else Decimal(str(unit)),
        amount=int(line["amount"]),
        start=int(period.get("start") or 0),
        end=int(period.get("end") or 0),
        price=(pricing.get("price_details") or {}).get("price"),
        subscription_item=parent.get("subscription_item"),
    )
