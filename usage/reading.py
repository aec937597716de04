"""Reading usage back: event summaries for any window, and the next invoice line by line."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING
from urllib.parse import quote

from .delivery import meter_of
from .errors import DestinationError, InvalidEvent, StripeError, UsageError
from .events import utc_seconds
from .results import InvoicePreview, PreviewLine, Summaries, Summary

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, Literal

    from .api import Api
    from .delivery import Meter
    from .events import Timestamp

# https://docs.stripe.com/api/billing/meter-event-summary/list: boundaries of start_time and end_time, in seconds
ALIGNMENT: dict[str | None, int] = {None: 60, "hour": 3600, "day": 86_400}


def find_meter(api: Api, meter: str) -> Meter:
    """A meter by id or by event name, an active one first. Raises StripeError when there is none."""
    if meter.startswith("mtr_"):
        return meter_of(api.call("GET", f"/v1/billing/meters/{quote(meter, safe='')}").data)
    inactive = None
    names: list[str] = []
    for data in api.pages("/v1/billing/meters"):
        found = meter_of(data)
        if found.event_name == meter:
            if found.status == "active":
                return found
            inactive = inactive or found
        names.append(found.event_name)
    if inactive is not None:
        return inactive
    known = ", ".join(sorted(set(names))[:8]) or "none"
    raise StripeError(f'no meter has the event name "{meter}" at {api.destination.label} (there are: {known})')


def month_start(now: float) -> int:
    """Start of the UTC month that holds `now`, in UTC seconds."""
    from datetime import UTC, datetime

    return int(datetime.fromtimestamp(now, UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0).timestamp())


def aligned(start: int, end: int, group: str | None) -> tuple[int, int]:
    """The smallest window that holds [start, end) and has the boundaries that Stripe asks for."""
    size = ALIGNMENT[group]
    first = start - start % size
    last = end + -end % size
    return first, max(last, first + size)


def summaries(
    api: Api,
    meter: str,
    customer: str | Sequence[str] | None,
    asked: tuple[Timestamp | None, Timestamp | None],
    group: Literal["hour", "day"] | None,
    subscription: str | None,
    now: float,
) -> Summaries:
    """See `Client.summaries`."""
    start, end = asked
    if group not in ALIGNMENT:
        raise ValueError(f'group {group!r} is neither "hour" nor "day"')
    window = "this UTC month so far" if start is None and end is None else "the window asked for"
    first, last = month_start(now), int(now) + 1
    if subscription is not None:
        owner, first, last = _billing_period(api, subscription, find_meter(api, meter).id)
        window = f"the billing period of {subscription}"
        if customer not in (None, owner, [owner], (owner,)):
            raise InvalidEvent("customer", f"is not the customer of {subscription}, {owner}")
        customer = owner
    customers = [customer] if isinstance(customer, str) else list(customer or ())
    if not customers:
        raise InvalidEvent("customer", "is missing: Stripe summarises one customer at a time")
    if start is not None:
        first = utc_seconds(start)
    if end is not None:
        last = utc_seconds(end)
    if last <= first:
        raise InvalidEvent("end", "is not after start")
    wanted = (first, last)
    first, last = aligned(first, last, group)
    found = find_meter(api, meter)
    rows: list[Summary] = []
    for name in dict.fromkeys(customers):
        mine = sorted(customer_summaries(api, found.id, name, first, last, group), key=lambda row: row.start)
        if not mine and group is None:
            mine = [Summary(name, first, last, Decimal(0))]
        rows += mine
    moved = (start is not None or subscription is not None) and first != wanted[0]
    moved = moved or ((end is not None or subscription is not None) and last != wanted[1])
    where = api.destination
    return Summaries(
        where.label, where.sandbox, found.id, found.event_name, first, last, group, tuple(rows), window, aligned=moved
    )


def _billing_period(api: Api, subscription: str, meter_id: str) -> tuple[str, int, int]:
    """Customer, start and end of the current period: of the item that bills this meter, else of any item."""
    data = api.call("GET", f"/v1/subscriptions/{quote(subscription, safe='')}").data
    items = (data.get("items") or {}).get("data") or []
    metered = [item for item in items if ((item.get("price") or {}).get("recurring") or {}).get("meter") == meter_id]
    if not items:
        raise UsageError(f"{subscription} has no items, so it has no billing period")
    item = (metered or items)[0]
    return str(data["customer"]), int(item["current_period_start"]), int(item["current_period_end"])


def customer_summaries(
    api: Api, meter_id: str, customer: str, start: int, end: int, group: str | None
) -> list[Summary]:
    """All summaries of one customer in an aligned window, in the order that Stripe gives them, 100 a page."""
    query = [("customer", customer), ("start_time", str(start)), ("end_time", str(end))]
    if group is not None:
        query.append(("value_grouping_window", group))
    return [
        Summary(customer, int(data["start_time"]), int(data["end_time"]), Decimal(data["aggregated_value"]))
        for data in api.pages(f"/v1/billing/meters/{meter_id}/event_summaries", query)
    ]


def preview_invoice(api: Api, *, subscription: str | None, customer: str | None) -> InvoicePreview:
    """See `Client.preview_invoice`."""
    if subscription:
        return _preview(api, subscription)
    if not customer:
        raise DestinationError("a preview needs a subscription (sub_...) or a customer (cus_...)")
    # Stripe refuses a preview by customer alone, so each subscription is previewed
    found = [str(data["id"]) for data in api.pages("/v1/subscriptions", [("customer", customer)])]
    if not found:
        raise StripeError(f"{customer} has no subscription at {api.destination.label}, so no next invoice")
    each = tuple(_preview(api, name) for name in found)
    if len(each) == 1:
        return replace(each[0], each=each)
    currencies = sorted({one.currency for one in each})
    if len(currencies) > 1:
        why = f"is billed in {' and '.join(currencies)}, which do not add up"
        raise UsageError(f"{customer} {why}; preview each: {', '.join(found)}")
    amounts = ("subtotal", "discounts", "credits", "taxes", "taxes_included", "total", "amount_due")
    sums = {name: sum(getattr(one, name) for one in each) for name in amounts}
    lines = tuple(line for one in each for line in one.lines)
    return replace(each[0], subscription=None, lines=lines, period_start=None, period_end=None, each=each, **sums)


def _preview(api: Api, subscription: str) -> InvoicePreview:
    form = [("subscription", subscription)]
    try:
        invoice = api.call("POST", "/v1/invoices/create_preview", form=form).data
    except StripeError as problem:
        if problem.code == "invoice_upcoming_none":
            raise problem.saying(f"{subscription} has no next invoice: {problem.args[0]}") from None
        raise
    lines = _lines(api, invoice)
    parent = (invoice.get("parent") or {}).get("subscription_details") or {}

    def total(listed: str, key: str, value: str, *, other: bool = False) -> int:
        found = [one for one in invoice.get(listed) or () if (one.get(key) == value) is not other]
        return sum(int(one["amount"]) for one in found)

    where = api.destination
    return InvoicePreview(
        destination=where.label,
        sandbox=where.sandbox,
        customer=str(invoice.get("customer") or ""),
        subscription=parent.get("subscription") or subscription,
        currency=str(invoice["currency"]),
        lines=tuple(_line(line) for line in lines),
        subtotal=int(invoice["subtotal"]),
        discounts=sum(int(one["amount"]) for one in invoice.get("total_discount_amounts") or ()),
        credits=total("total_pretax_credit_amounts", "type", "credit_balance_transaction"),
        taxes=total("total_taxes", "tax_behavior", "inclusive", other=True),
        taxes_included=total("total_taxes", "tax_behavior", "inclusive"),
        total=int(invoice["total"]),
        amount_due=int(invoice.get("amount_due", invoice["total"])),
        period_start=invoice.get("period_start"),
        period_end=invoice.get("period_end"),
    )


def _lines(api: Api, invoice: dict[str, Any]) -> list[dict[str, Any]]:
    """Every line of a preview. Its first page holds ten, and the cursor of the following ones is reported broken (the
    ids of a preview's lines change with each look, stripe-node issue 2518): so one page of a hundred is asked for, the
    cursor only beyond it, and what does not add up to the subtotal is not shown as if it did."""
    page = invoice["lines"]
    if not page.get("has_more"):
        return list(page["data"])
    page = api.call("GET", page["url"], query=[("limit", "100")]).data
    lines = list(page["data"])
    try:
        while page.get("has_more") and page["data"]:
            query = [("limit", "100"), ("starting_after", str(lines[-1]["id"]))]
            page = api.call("GET", invoice["lines"]["url"], query=query).data
            lines += page["data"]
    except StripeError as problem:
        why = f"Stripe gave {len(lines)} lines of this preview and not the rest: {problem.args[0]}"
        raise problem.saying(why) from None
    if sum(int(line["amount"]) for line in lines) != int(invoice["subtotal"]):
        given = f"the {len(lines)} lines that Stripe gave of this preview"
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
