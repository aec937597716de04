"""What is prorated of the present billing periods if a change is applied now (pure, but for the list it reads).

https://docs.stripe.com/billing/subscriptions/prorations
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal

from components.account import Account
from components.providers import paid
from components.providers.inventory import StripeObject
from components.providers.subscription_preview import Bill
from components.providers.values import mapping
from pricing import lists
from pricing.review.change import Objects, Preview, Step

#: The statuses in which Stripe bills, and so prorates.
_BILLED = ("active", "past_due")


@dataclass(frozen=True)
class Proration:
    """The rest of a subscription's period at the new fees for the old ones, before discounts and tax.

    Attributes:
        name: the resource.
        amount: minor units; below 0 it is credited. None if it is not known.
        until: the end of the period, UTC seconds.
        at_once: whether it is invoiced now, and not with the next invoice.
    """

    name: str
    currency: str
    amount: Decimal | None
    until: int
    at_once: bool


def is_prorated(step: Step, objects: Objects) -> bool:
    """Whether a run prorates something of a subscription."""
    bill = _bill(step, objects)
    return bill is not None and any(True for _ in _changed(bill))


def read(preview: Preview, account: Account, now: int | None = None) -> list[Proration]:
    """What is prorated of each declared subscription, from the periods that Stripe has now: a hundred in a request.

    Args:
        now: UTC seconds, of what is on no test clock; by default the present time.

    Raises:
        AccountError: Stripe refused, or could not be reached.
    """
    steps = {step.id: step for step in preview.steps if step.kind == "Subscription" and step.id}
    wanted = {id_: step for id_, step in steps.items() if is_prorated(step, preview.objects)}
    found: list[Proration] = []
    for subscription in lists.subscriptions(account) if wanted else ():
        if (step := wanted.get(subscription["id"])) is not None:
            clock = subscription.get("test_clock")
            moment = now if now is not None and clock is None else lists.now(account, clock)
            if (each := prorated(step, preview.objects, subscription, moment)) is not None:
                found.append(each)
    return found


def prorated(step: Step, objects: Objects, subscription: StripeObject, now: int) -> Proration | None:
    """What is prorated of one subscription.

    Args:
        subscription: as Stripe has it, with all items.
        now: UTC seconds.

    Returns:
        None for nothing, as in a trial.
    """
    bill = _bill(step, objects)
    if bill is None or subscription["status"] not in _BILLED:
        return None
    items: Mapping[str, StripeObject] = {each["id"]: each for each in subscription["items"]["data"]}
    ids = {bill.keys.get(key, key): id_ for key, id_ in mapping(step.outputs.get("item_ids")).items()}
    changed = list(_changed(bill))
    if not changed:
        return None
    at_once = bill.prorations == "always_invoice"
    total, until = Decimal(0), 0
    for key in changed:
        item = items.get(ids.get(key, "")) or _alike(bill, key, items.values())
        before, after = bill.fee(key, after=False), bill.fee(key, after=True)
        unknown = (before is None and key in bill.before) or (after is None and key in bill.after)
        if item is None or unknown or not _same_interval(bill, key):
            return Proration(step.name, str(bill.currency), None, until, at_once)
        start, end = int(item["current_period_start"]), int(item["current_period_end"])
        left = Decimal(end - now) / (end - start)
        until = max(until, end)
        total += _whole((after or Decimal(0)) * left) - _whole((before or Decimal(0)) * left)
    return Proration(step.name, str(bill.currency), total, until, at_once)


def _bill(step: Step, objects: Objects) -> Bill | None:
    if step.kind != "Subscription" or step.op != "update" or step.outputs.get("has_ended"):
        return None
    bill = Bill(step.outputs, step.old, objects.resolved(step), objects)
    return None if bill.is_later or bill.prorations == "none" else bill


def _changed(bill: Bill) -> Iterable[str]:
    """The items whose fee changes: usage is billed, not prorated, and prices that cost the same are not either."""
    for key in sorted(bill.before.keys() | bill.after.keys()):
        was, now = mapping(bill.before.get(key)), mapping(bill.after.get(key))
        same_seats = was.get("quantity", 1) == now.get("quantity", 1)
        if bill.is_metered(key) or paid.is_metered(bill.price_after(key) or {}):
            continue
        if key in bill.before and key in bill.after:
            same_price = all(was.get(name) == now.get(name) for name in ("price", "price_data"))
            if same_seats and (same_price or bill.costs_the_same(key)):
                continue
        yield key


def _same_interval(bill: Bill, key: str) -> bool:
    """Whether the item's period goes on, as far as the program tells."""
    prices = [price for price in (bill.price_before(key), bill.price_after(key)) if price is not None]
    return len({paid.every(price) for price in prices}) == 1


def _alike(bill: Bill, key: str, items: Iterable[StripeObject]) -> StripeObject | None:
    """An item with the interval of one that is added: it joins that one's period."""
    wanted = paid.interval(bill.price_after(key) or {})
    return next((each for each in items if paid.interval(mapping(each.get("price"))) == wanted), None)


def _whole(amount: Decimal) -> Decimal:
    """Stripe rounds each line."""
    return amount.quantize(Decimal(1), ROUND_HALF_UP)
