"""The sandbox's private fields on stored objects, in addition to Stripe's: every key that begins with `_`, by kind.

No answer includes them (`Call.wire` removes them). `tests/sandbox` checks every stored object against these types.
Times are Unix seconds, amounts minor units.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypedDict


class Due(TypedDict, total=False):
    """The moment at which an object needs attention next; None if never."""

    #: By the sandbox's own clock.
    _due: int | None
    #: By its test clock.
    _clock_due: int | None


class Debit(TypedDict):
    """A charge for a period, which a later change credits in part: `billing.proration.Debit` as stored."""

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
    """The part of an item's usage in its present period that threshold invoices have billed."""

    until: int
    usage: str
    charges: list[dict[str, Any]]


class Trial(TypedDict):
    """The prices of an item in a trial offer: its own, and the one that follows."""

    price: str
    next: str


class SubscriptionItem(TypedDict, total=False):
    """A subscription item, stored inside its subscription."""

    #: Since when its usage is counted and its tiers are filled.
    _usage_from: int
    #: The part of that usage that the previous period has already billed.
    _counted: str
    _billed: Billed | None
    #: When a threshold was last reached: usage of that very second is billed in part.
    _threshold_at: int
    _debits: list[Debit]
    _trial: Trial
    #: The end of the requested billing in advance; removed once that is billed.
    _bill_until: int


class Subscription(Due, total=False):
    """A subscription."""

    #: The anchor before a trial.
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
    #: When its usage next counts differently, so that its thresholds must be checked.
    _stirred: int | None


class SubscriptionSchedule(Due, total=False):
    """A subscription schedule."""

    #: The number of the current phase; -1 before the first.
    _phase: int


class UsageSource(TypedDict):
    """The usage that a line was rated from."""

    item: str
    price: str
    start: int
    end: int
    billed: Billed | None
    counted: str


class LineItem(TypedDict, total=False):
    """An invoice line, stored inside its invoice."""

    _subscription: str | None
    #: Its own tax rates, which override the invoice's.
    _tax_rates: list[str]
    #: The amount that an exemption deducts from its price.
    _backed_out: int
    #: Present while late usage can still change the line.
    _usage: UsageSource
    #: Its number among the charges for that usage.
    _part: list[Any]
    #: Its own discounts that apply, each its `id` and `coupon`.
    _discounts: list[dict[str, Any]]
    #: Which of the invoice's discounts apply to it, if not all.
    _under: list[str]
    #: The moment whose discounts apply, for the past of a backdated subscription.
    _as_of: int
    #: The discounts that a proration shows, and what they have really deducted.
    _prorated: list[dict[str, Any]]
    _off: dict[str, int]


class Invoice(Due, total=False):
    """An invoice."""

    _subscription: str | None
    #: The invoice's discounts that apply, each as `id` and `coupon`.
    _discounts: list[dict[str, Any]]
    #: Whether it was found to be overdue.
    _overdue: bool


class InvoiceItem(TypedDict, total=False):
    """An invoice item."""

    #: What discounts have deducted from a proration.
    _off: dict[str, int]
    #: Which bounds of its period refer to the items' periods, until those are known.
    _period: dict[str, str]


class Discount(TypedDict, total=False):
    """A discount."""

    #: The coupon as redeemed: its terms stay.
    _coupon: dict[str, Any]


class PromotionCode(TypedDict, total=False):
    """A promotion code."""

    #: Its code, case-folded.
    _code: str


class Card(TypedDict, total=False):
    """A payment method or a source."""

    #: Why a charge is refused, a row of `errors.py`; None if it succeeds.
    _fails: str | None


class Account(TypedDict, total=False):
    """A connected account."""

    _configurations: list[str]
    #: The customer that it is configured as.
    _customer: str


class ThinEvent(TypedDict, total=False):
    """An event of /v2."""

    #: Its time, by which lists are filtered.
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
