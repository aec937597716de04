"""The shape of a Stripe account, read-only and anonymised, as a sandbox that continues where the account is.

It has the meters, products, prices, coupons, customers, subscriptions and their schedules, and the usage of closed
invoices. A field that is not named here is not copied: no name, no e-mail address, no metadata but the program's own.
Ids are hashed with a secret of the run, except those that the program itself names.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final

from components.account import Account
from components.providers.inventory import OWNER_KEY, StripeObject, owner_of, stack_of
from components.providers.price_uses import ENDED
from components.providers.schedules import MARK, RUNNING
from components.providers.values import id_of, mapping
from pricing import lists
from pricing.impact.reading import used_so_far
from pricing.invoices import CLOSED, hashed

#: Stripe does not expand the coupons of items, which are five levels deep.
_EXPANDED: Final = ("discounts.source.coupon", "items.data.discounts", "schedule")
#: Ids that Stripe mints. Those of products and coupons can also be chosen.
_MINTED: Final = re.compile(
    r"\b(acct|clock|cus|di|il|in|mtr|mtr_test|pm|price|prod|promo|si|src|sub|sub_sched|txr)_[A-Za-z0-9]{8,}\b"
)
_KEPT_METADATA: Final = (OWNER_KEY, MARK, "plan", "version", "charge")
_PRICE: Final = (
    *("active", "billing_scheme", "created", "currency", "currency_options", "recurring", "tiers", "tiers_mode"),
    *("transform_quantity", "type", "unit_amount", "unit_amount_decimal"),
)
_COUPON: Final = (
    *("amount_off", "created", "currency", "currency_options", "duration", "duration_in_months", "max_redemptions"),
    *("percent_off", "redeem_by", "times_redeemed", "valid"),
)
#: What a copied subscription has from the account's.
TERMS: Final = (
    *("billing_cycle_anchor", "billing_cycle_anchor_config", "billing_mode", "billing_thresholds", "cancel_at"),
    *("cancel_at_period_end", "canceled_at", "collection_method", "created", "currency", "days_until_due"),
    *("pause_collection", "pending_invoice_item_interval", "start_date", "status", "trial_end", "trial_settings"),
    "trial_start",
)
_ITEM: Final = ("billing_thresholds", "created", "current_period_end", "current_period_start", "quantity")
_DISCOUNT: Final = ("end", "start")
_SCHEDULE: Final = ("created", "end_behavior", "status")
_PHASE: Final = ("currency", "end_date", "proration_behavior", "start_date", "trial_end")


class CopyError(Exception):
    """An account cannot be rehearsed; the message is one line."""


class Ids:
    """Replaces ids, the same one by the same one.

    Args:
        named: what the program, its config and its state say: an id or a word in it stays, as the engine compares it.
        literal: what the program and its config say; only a minted id in it stays.
        stack: `<project>/<stack>`: owners in other stacks are hashed.
        secret: of this run; without it, nobody finds the id of a hash.
    """

    def __init__(self, named: str, literal: str, stack: str, secret: bytes) -> None:
        self._named = named
        self._kept = {match[0] for match in _MINTED.finditer(literal)}
        self._stack = stack
        self._secret = secret

    def text(self, text: str) -> str:
        """A text with every minted id in it replaced."""
        return _MINTED.sub(lambda match: self._minted(match[0], match[1]), text)

    def word(self, word: str | None) -> str | None:
        """A chosen id, a lookup key or a name: kept if the program knows it."""
        if word is None or _MINTED.fullmatch(word):
            return None if word is None else self.text(word)
        known = word in self._named and re.search(rf"(?<![\w-]){re.escape(word)}(?![\w-])", self._named)
        return word if known else f"x-{self._hash(word)}"

    def owner(self, owner: str) -> str:
        """The owner in an object's metadata."""
        return owner if stack_of(owner) == self._stack else f"another/stack/{self._hash(owner)}"

    def _minted(self, id_: str, prefix: str) -> str:
        return id_ if id_ in self._kept else f"{prefix}_1{self._hash(id_)}"

    def _hash(self, text: str) -> str:
        return hashlib.blake2b(text.encode(), key=self._secret, digest_size=10).hexdigest()


@dataclass(frozen=True)
class Used:
    """What one customer used of one meter in one period.

    Attributes:
        start, end: UTC seconds.
    """

    start: int
    end: int
    units: Decimal


@dataclass
class Shape:
    """An account's shape; its ids are those of the copy.

    Attributes:
        now: the account's time, UTC seconds.
        catalogue: meters, products, prices and coupons.
        subscriptions: with items and discounts, as they are now; schedules are expanded.
        usage: the periods of each customer and meter, oldest first.
        meters: by id.
        names: the pseudonym of each customer and subscription, by which a person who can read the account finds it.
        left_out: how many subscriptions are not copied, by reason.
    """

    now: int
    catalogue: list[StripeObject] = field(default_factory=list)
    customers: dict[str, StripeObject] = field(default_factory=dict)
    subscriptions: list[StripeObject] = field(default_factory=list)
    usage: dict[tuple[str, str], list[Used]] = field(default_factory=dict)
    meters: dict[str, StripeObject] = field(default_factory=dict)
    prices: dict[str, StripeObject] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    left_out: Counter[str] = field(default_factory=Counter)


# -- reading ----------------------------------------------------------------------------------------------------------


def shape_of(
    account: Account,
    ids: Ids,
    *,
    stack: str,
    customers: int,
    months: int,
    test_clock: str | None = None,
    lock: str,
    open_period: bool = False,
    progress: Callable[[str], None] = lambda _: None,
) -> Shape:
    """Read an account's shape.

    Args:
        customers: how many at most, those whose subscriptions the stack declares first, the others by a stable hash.
        months: how many months of invoices tell the usage.
        test_clock: the customers of this clock, in its time; None for those on none.
        lock: the metadata key that locks a subscription.
        open_period: whether meters tell what customers without a closed period have used so far.
        progress: is told how far it is.

    Raises:
        AccountError: Stripe refused, or could not be reached.
        CopyError: there is nothing to rehearse.
    """
    shape = Shape(lists.now(account, test_clock))
    for meter in lists.meters(account):
        copied = _meter(meter, ids)
        shape.meters[copied["id"]] = copied
    products = [_product(each, ids) for each in lists.products(account)]
    for price in lists.prices(account, costs=True):
        copied = _price(price, ids)
        shape.prices[copied["id"]] = copied
    listed = {str(each["id"]): each for each in lists.coupons(account)}
    chosen = _chosen(account, shape, stack, customers, test_clock, listed)
    coupons = [_coupon(each, ids) for each in listed.values()]
    for subscription in chosen:
        for item in subscription["items"]["data"]:
            price = _price(item["price"], ids)
            # Stripe does not list a price that a subscription has made for itself.
            shape.prices.setdefault(price["id"], price)
        copied = _subscription(subscription, ids, lock)
        shape.subscriptions.append(copied)
        shape.names[copied["id"]] = hashed(subscription["id"], "s")
        shape.names[copied["customer"]] = hashed(str(id_of(subscription["customer"])), "c")
        shape.customers[copied["customer"]] = {
            "id": copied["customer"],
            "object": "customer",
            "currency": copied["currency"],
        }
    known = {product["id"] for product in products}
    for price in shape.prices.values():
        if price["product"] not in known:
            known.add(price["product"])
            products.append({"id": price["product"], "object": "product", "active": False, "name": price["product"]})
    # Newest first is how Stripe lists them, and how a copy has to list them too.
    shape.catalogue = [*list(shape.meters.values())[::-1], *products[::-1], *list(shape.prices.values())[::-1]]
    shape.catalogue += coupons[::-1]
    _read_usage(account, shape, ids, months, progress)
    if open_period:
        _read_open(account, shape, ids, chosen, progress)
    return shape


def _chosen(
    account: Account,
    shape: Shape,
    stack: str,
    customers: int,
    test_clock: str | None,
    coupons: dict[str, StripeObject],
) -> list[StripeObject]:
    """The subscriptions to copy; `coupons` gets those that were deleted and still apply."""
    clock = {"test_clock": test_clock} if test_clock else {}
    by_customer: dict[str, list[StripeObject]] = {}
    for each in lists.subscriptions(account, expand=_EXPANDED, on_clocks=False, **clock):
        if each["status"] in (*ENDED, "incomplete"):
            continue
        if why := _unsupported(each, coupons):
            shape.left_out[why] += 1
            continue
        by_customer.setdefault(str(id_of(each["customer"])), []).append(each)
    if not by_customer:
        where = f"on {test_clock}" if test_clock else "that is on no test clock (--test-clock names one)"
        raise CopyError(f"the account has no subscription {where}: there is nothing to rehearse")

    def order(customer: str) -> tuple[bool, str]:
        declared = any(stack_of(owner_of(each)) == stack for each in by_customer[customer])
        return not declared, hashlib.sha256(customer.encode()).hexdigest()

    ordered = sorted(by_customer, key=order)
    if len(ordered) > customers:
        shape.left_out["of further customers (--customers)"] = sum(
            len(by_customer[customer]) for customer in ordered[customers:]
        )
    return [each for customer in ordered[:customers] for each in by_customer[customer]]


def _unsupported(subscription: StripeObject, coupons: dict[str, StripeObject]) -> str | None:
    """Why a subscription cannot be copied."""
    for holder in (subscription, *subscription["items"]["data"]):
        for discount in holder.get("discounts") or ():
            coupon = mapping(mapping(discount).get("source")).get("coupon")
            if isinstance(coupon, Mapping) and not coupon.get("deleted"):
                coupons.setdefault(str(coupon["id"]), dict(coupon))
            if id_of(coupon) not in coupons:
                return "with a coupon that was deleted"
    if any(item.get("current_trial") for item in subscription["items"]["data"]):
        return "in a trial offer"
    if subscription.get("billing_schedules"):
        return "billed in advance (billing_schedules)"
    if any(_is_old(item["price"]) for item in subscription["items"]["data"]):
        return "with a metered price that has no meter"
    return None


def _is_old(price: Mapping[str, Any]) -> bool:
    """Whether a price is metered by usage records, which Stripe has replaced by meters."""
    recurring = mapping(price.get("recurring"))
    return recurring.get("usage_type") == "metered" and not recurring.get("meter")


def _read_usage(account: Account, shape: Shape, ids: Ids, months: int, progress: Callable[[str], None]) -> None:
    """The usage of each customer and meter, from the lines of closed invoices."""
    metered = {price["id"]: price["recurring"]["meter"] for price in shape.prices.values() if _is_metered(price)}
    found: dict[tuple[str, str], dict[tuple[int, int], dict[str, Decimal]]] = {}
    since = shape.now - months * 31 * 86_400
    for number, invoice in enumerate(lists.invoices(account, created={"gte": since, "lte": shape.now}), start=1):
        progress(f"{number:,} invoices read")
        customer = ids.text(str(id_of(invoice["customer"])))
        if invoice["status"] not in CLOSED or customer not in shape.customers:
            continue
        for line in lists.lines(account, invoice):
            details = mapping(mapping(line.get("parent")).get("subscription_item_details"))
            price = ids.text(str(id_of(mapping(mapping(line.get("pricing")).get("price_details")).get("price"))))
            if price not in metered or not details or details.get("proration"):
                continue
            period = (int(line["period"]["start"]), int(line["period"]["end"]))
            units = found.setdefault((customer, metered[price]), {}).setdefault(period, {})
            quantity = line.get("quantity_decimal") or line.get("quantity") or 0
            # Each of a customer's subscriptions on a meter bills all of its usage; an item has a line for each tier.
            item = str(details.get("subscription_item"))
            units[item] = units.get(item, Decimal(0)) + Decimal(str(quantity))
    for key, periods in found.items():
        shape.usage[key] = [
            Used(start, end, max(units.values())) for (start, end), units in sorted(periods.items()) if end > start
        ]


def _read_open(
    account: Account,
    shape: Shape,
    ids: Ids,
    subscriptions: Iterable[StripeObject],
    progress: Callable[[str], None],
) -> None:
    """What those without a closed period have used so far: a call for each of them and meter."""
    for number, subscription in enumerate(subscriptions, start=1):
        progress(f"the open periods of {number:,} subscriptions read")
        for item in subscription["items"]["data"]:
            meter = mapping(item["price"].get("recurring")).get("meter")
            where = (ids.text(str(id_of(subscription["customer"]))), ids.text(str(meter)))
            if meter is None or where in shape.usage:
                continue
            units = used_so_far(account, subscription, item, shape.now)
            if units is not None:
                period = (int(item["current_period_start"]), int(item["current_period_end"]))
                shape.usage[where] = [Used(*period, units)]


def _is_metered(price: Mapping[str, Any]) -> bool:
    return mapping(price.get("recurring")).get("usage_type") == "metered" and bool(price["recurring"].get("meter"))


# -- copying an object ------------------------------------------------------------------------------------------------


def _fields(of: Mapping[str, Any], names: Iterable[str]) -> StripeObject:
    return {name: of[name] for name in names if name in of}


def _metadata(of: Mapping[str, Any], ids: Ids, *more: str) -> dict[str, str]:
    given = mapping(of.get("metadata"))
    kept = {name: str(given[name]) for name in _KEPT_METADATA if name in given}
    if OWNER_KEY in kept and "/" in kept[OWNER_KEY]:
        kept[OWNER_KEY] = ids.owner(kept[OWNER_KEY])
    return kept | {name: "true" for name in more if given.get(name, "false") not in ("", "false")}


def _meter(meter: StripeObject, ids: Ids) -> StripeObject:
    formula = meter["default_aggregation"]["formula"]
    return {
        "id": ids.text(meter["id"]),
        "object": "billing.meter",
        "display_name": "meter",
        "event_name": ids.word(meter["event_name"]),
        # A rehearsal sends a period's usage in two events, not in as many as a counting meter has counted.
        "default_aggregation": {"formula": "sum" if formula == "count" else formula},
        **_fields(meter, ("created", "customer_mapping", "status", "value_settings")),
    }


def _product(product: StripeObject, ids: Ids) -> StripeObject:
    default = product.get("default_price")
    return {
        "id": ids.word(product["id"]),
        "object": "product",
        "default_price": None if default is None else ids.text(str(id_of(default))),
        "metadata": _metadata(product, ids),
        "name": ids.word(product["name"]),
        **_fields(product, ("active", "created", "type")),
    }


def _price(price: StripeObject, ids: Ids) -> StripeObject:
    copied = {
        "id": ids.text(price["id"]),
        "object": "price",
        "lookup_key": ids.word(price.get("lookup_key")),
        "metadata": _metadata(price, ids),
        "product": ids.word(str(id_of(price["product"]))),
        **_fields(price, _PRICE),
    }
    if mapping(copied.get("recurring")).get("meter"):
        copied["recurring"] = {**copied["recurring"], "meter": ids.text(copied["recurring"]["meter"])}
    return copied


def _coupon(coupon: StripeObject, ids: Ids) -> StripeObject:
    products = [ids.word(product) for product in mapping(coupon.get("applies_to")).get("products") or ()]
    return {
        "id": ids.word(coupon["id"]),
        "object": "coupon",
        "applies_to": {"products": products},
        "metadata": _metadata(coupon, ids),
        **_fields(coupon, _COUPON),
    }


def _subscription(subscription: StripeObject, ids: Ids, lock: str) -> StripeObject:
    schedule = subscription.get("schedule")
    copied = {
        "id": ids.text(subscription["id"]),
        "object": "subscription",
        "customer": ids.text(str(id_of(subscription["customer"]))),
        "discounts": [_discount(each, ids) for each in subscription.get("discounts") or ()],
        "items": {"data": [_item(item, ids) for item in subscription["items"]["data"]]},
        "metadata": _metadata(subscription, ids, lock),
        **_fields(subscription, TERMS),
    }
    if isinstance(schedule, Mapping) and schedule.get("status") in RUNNING:
        copied["schedule"] = _schedule(schedule, copied, ids)
    return copied


def _item(item: StripeObject, ids: Ids) -> StripeObject:
    return {
        "id": ids.text(item["id"]),
        "discounts": [_discount(each, ids) for each in item.get("discounts") or ()],
        "metadata": _metadata(item, ids),
        "price": ids.text(item["price"]["id"]),
        **_fields(item, _ITEM),
    }


def _discount(discount: Mapping[str, Any], ids: Ids) -> StripeObject:
    coupon = mapping(discount["source"])["coupon"]
    holder = {name: ids.text(discount[name]) for name in ("subscription", "subscription_item") if discount.get(name)}
    return {
        "id": ids.text(str(discount["id"])),
        "customer": ids.text(str(id_of(discount["customer"]))),
        "source": {"type": "coupon", "coupon": ids.word(str(id_of(coupon)))},
        **holder,
        **_fields(discount, _DISCOUNT),
    }


def _schedule(schedule: Mapping[str, Any], subscription: StripeObject, ids: Ids) -> StripeObject:
    def planned(discounts: Iterable[Mapping[str, Any]]) -> list[StripeObject]:
        found = []
        for each in discounts or ():
            discount, coupon = each.get("discount"), each.get("coupon")
            found.append(
                {
                    "coupon": None if coupon is None else ids.word(str(id_of(coupon))),
                    "discount": None if discount is None else ids.text(str(id_of(discount))),
                    "promotion_code": None,
                }
            )
        return [each for each in found if each["coupon"] or each["discount"]]

    phases = []
    for phase in schedule["phases"]:
        items = [
            {
                "price": ids.text(str(id_of(item["price"]))),
                "metadata": _metadata(item, ids),
                "discounts": planned(item.get("discounts") or ()),
                **_fields(item, ("quantity",)),
            }
            for item in phase["items"]
        ]
        more = {"metadata": _metadata(phase, ids), "discounts": planned(phase.get("discounts") or ())}
        phases.append({**_fields(phase, _PHASE), **more, "items": items})
    return {
        "id": ids.text(schedule["id"]),
        "object": "subscription_schedule",
        "customer": subscription["customer"],
        "metadata": _metadata(schedule, ids),
        "phases": phases,
        "subscription": subscription["id"],
        **_fields(schedule, _SCHEDULE),
    }
