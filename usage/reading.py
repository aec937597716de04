"""Reading usage back: event summaries for any window, and the next invoice line by line."""

from __future__ import annotations

from decimal import Decimal

from .delivery import meter_of
from .errors import DestinationError, InvalidEvent, StripeError
from .events import utc_seconds
from .results import InvoicePreview, PreviewLine, Summaries, Summary

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, Literal

    from .client import Client
    from .delivery import Meter
    from .events import Timestamp

# https://docs.stripe.com/api/billing/meter-event-summary/list: boundaries of start_time and end_time, in seconds
ALIGNMENT: dict[str | None, int] = {None: 60, "hour": 3600, "day": 86_400}


def find_meter(client: Client, meter: str) -> Meter:
    """A meter by id or by event name, an active one first. Raises StripeError when there is none."""
    if meter.startswith("mtr_"):
        from urllib.parse import quote

        return meter_of(client.api.call("GET", f"/v1/billing/meters/{quote(meter, safe='')}").data)
    inactive = None
    names: list[str] = []
    for data in client.api.pages("/v1/billing/meters"):
        found = meter_of(data)
        if found.event_name == meter:
            if found.status == "active":
                return found
            inactive = inactive or found
        names.append(found.event_name)
    if inactive is not None:
        return inactive
    known = ", ".join(sorted(set(names))[:8]) or "none"
    raise StripeError(f'no meter has the event name "{meter}" at {client.destination.label} (there are: {known})')


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
    client: Client,
    meter: str,
    customer: str | Sequence[str],
    start: Timestamp | None,
    end: Timestamp | None,
    *,
    group: Literal["hour", "day"] | None,
) -> Summaries:
    """See `Client.summaries`."""
    if group not in ALIGNMENT:
        raise ValueError(f'group {group!r} is neither "hour" nor "day"')
    customers = [customer] if isinstance(customer, str) else list(customer)
    if not customers:
        raise InvalidEvent("customer", "is missing: Stripe summarises one customer at a time")
    now = client.clock()
    wanted_start = month_start(now) if start is None else utc_seconds(start)
    wanted_end = int(now) + 1 if end is None else utc_seconds(end)
    if wanted_end <= wanted_start:
        raise InvalidEvent("end", "is not after start")
    first, last = aligned(wanted_start, wanted_end, group)
    found = find_meter(client, meter)
    rows: list[Summary] = []
    for name in dict.fromkeys(customers):
        mine = sorted(customer_summaries(client, found.id, name, first, last, group), key=lambda row: row.start)
        if not mine and group is None:
            mine = [Summary(name, first, last, Decimal(0))]
        rows += mine
    moved = (start is not None and first != wanted_start) or (end is not None and last != wanted_end)
    where = client.destination
    return Summaries(
        where.label, where.sandbox, found.id, found.event_name, first, last, group, tuple(rows), aligned=moved
    )


def customer_summaries(
    client: Client, meter_id: str, customer: str, start: int, end: int, group: str | None
) -> list[Summary]:
    """All summaries of one customer in an aligned window, in the order that Stripe gives them, 100 a page."""
    query = [("customer", customer), ("start_time", str(start)), ("end_time", str(end))]
    if group is not None:
        query.append(("value_grouping_window", group))
    return [
        Summary(customer, int(data["start_time"]), int(data["end_time"]), Decimal(data["aggregated_value"]))
        for data in client.api.pages(f"/v1/billing/meters/{meter_id}/event_summaries", query)
    ]


def preview_invoice(client: Client, *, subscription: str | None, customer: str | None) -> InvoicePreview:
    """See `Client.preview_invoice`."""
    form = [(name, value) for name, value in (("subscription", subscription), ("customer", customer)) if value]
    if not form:
        raise DestinationError("a preview needs a subscription (sub_...) or a customer (cus_...)")
    invoice = client.api.call("POST", "/v1/invoices/create_preview", form=form).data
    page = invoice["lines"]
    lines = list(page["data"])
    while page.get("has_more") and page["data"]:
        page = client.api.call("GET", page["url"], query=[("limit", "100"), ("starting_after", lines[-1]["id"])]).data
        lines += page["data"]
    parent = (invoice.get("parent") or {}).get("subscription_details") or {}
    where = client.destination
    return InvoicePreview(
        destination=where.label,
        sandbox=where.sandbox,
        customer=str(invoice.get("customer") or ""),
        subscription=parent.get("subscription") or subscription,
        currency=str(invoice["currency"]),
        lines=tuple(_line(line) for line in lines),
        subtotal=int(invoice["subtotal"]),
        total=int(invoice["total"]),
        amount_due=int(invoice.get("amount_due", invoice["total"])),
        period_start=invoice.get("period_start"),
        period_end=invoice.get("period_end"),
    )


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
