"""What the sandbox remembers on stored objects beside what Stripe shows: every key that begins with `_`, by kind.

None of it is ever answered (`Call.wire` leaves it out). `tests/sandbox` holds every stored object against these types.
Times are Unix seconds, amounts minor units.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypedDict


class Due(TypedDict, total=False):
    """The moment at which time has something to do with an object; None where nothing is to come."""

    #: By the sandbox's own clock.
    _due: int | None
    #: By its test clock.
    _clock_due: int | None


class Debit(TypedDict):
    """What was charged for a time, which a later change credits in part: `billing.proration.Debit` as it is stored."""

    amount: int
    start: int
    end: int
    quantity: int | None
    price: str
    off: dict[str, int]
    item: str | None
    invoice: str | None
    lines: list[str]


class Billed(TypedDict):
    """What threshold invoices have billed of an item's usage in its present period."""

    until: int
    usage: str
    charges: list[dict[str, Any]]


class Trial(TypedDict):
    """The prices of an item in the time of a trial offer: its own, and the one that comes then."""

    price: str
    next: str


class SubscriptionItem(TypedDict, total=False):
    """An item of a subscription, which is stored within it."""

    #: Since when its usage is counted and its tiers are filled.
    _usage_from: int
    #: Of the usage since then, what the period before has billed already.
    _counted: str
    _billed: Billed | None
    #: When a threshold was last reached: usage of that very second is billed in part.
    _threshold_at: int
    _debits: list[Debit]
    _trial: Trial
    #: Until when a request asks it to be billed in advance; gone once that is done.
    _bill_until: int


class Subscription(Due, total=False):
    """A subscription."""

    #: The anchor that it had before a trial.
    _anchor: int
    #: The earliest of its items' periods, for lists.
    _period_start: int
    _period_end: int
    #: Anchor, interval and count that the next interval of waiting invoice items is counted by.
    _pending_plan: list[Any] | None
    #: The price of each item, as their own rows have it.
    _pointers: dict[str, str]
    #: Its customer, while it has billing thresholds.
    _watched: str | None
    #: From when on its usage counts differently, so that its thresholds are looked at.
    _stirred: int | None


class SubscriptionSchedule(Due, total=False):
    """A subscription schedule."""

    #: The number of the phase that has begun; -1 before the first.
    _phase: int


class UsageSource(TypedDict):
    """What a line of usage was rated from."""

    item: str
    price: str
    start: int
    end: int
    billed: Billed | None
    counted: str


class LineItem(TypedDict, total=False):
    """A line of an invoice, which is stored within it."""

    _subscription: str | None
    #: Tax rates that it bears whatever the invoice's own are.
    _tax_rates: list[str]
    #: What an exemption takes off its price.
    _backed_out: int
    #: While late usage can still change it; gone once it is settled.
    _usage: UsageSource
    #: Which of the charges of that usage it is.
    _part: list[Any]
    #: Its own discounts that apply, each its `id` and `coupon`.
    _discounts: list[dict[str, Any]]
    #: Which discounts of the whole invoice apply to it, where not all do.
    _under: list[str]
    #: The moment whose discounts apply, in the past of a backdated subscription.
    _as_of: int
    #: What a proration shows of discounts, and what they have really taken off it.
    _prorated: list[dict[str, Any]]
    _off: dict[str, int]


class Invoice(Due, total=False):
    """An invoice."""

    _subscription: str | None
    #: The discounts of the whole that apply, each its `id` and `coupon`.
    _discounts: list[dict[str, Any]]
    #: Whether it has been found overdue.
    _overdue: bool


class InvoiceItem(TypedDict, total=False):
    """An invoice item."""

    #: What discounts have taken off a proration.
    _off: dict[str, int]
    #: Which halves of its period are named for the items' periods, until those are known.
    _period: dict[str, str]


class Discount(TypedDict, total=False):
    """A discount."""

    #: The coupon as it was redeemed: what was promised stays.
    _coupon: dict[str, Any]


class PromotionCode(TypedDict, total=False):
    """A promotion code."""

    #: Its word without regard to case.
    _code: str


class Card(TypedDict, total=False):
    """A payment method or a source."""

    #: How charging it is refused, a row of `errors.py`; None where it pays.
    _fails: str | None


class Account(TypedDict, total=False):
    """A connected account."""

    _configurations: list[str]
    #: The customer that it is configured as.
    _customer: str


class ThinEvent(TypedDict, total=False):
    """An event of /v2."""

    #: Its time as lists are filtered by it.
    _created: int


#: The types of private state by kind (`object`).
BY_KIND: Final[Mapping[str, type]] = {
    "account": Account,
    "card": Card,
    "discount": Discount,
    "invoice": Invoice,
    "invoiceitem": InvoiceItem,
    "line_item": LineItem,
    "payment_method": Card,
    "promotion_code": PromotionCode,
    "subscription": Subscription,
    "subscription_item": SubscriptionItem,
    "subscription_schedule": SubscriptionSchedule,
    "v2.core.event": ThinEvent,
}
