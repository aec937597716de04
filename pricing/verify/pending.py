"""What subscription schedules will change, and when. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from components.providers import paid
from components.providers.inventory import StripeObject, owner_of
from components.providers.schedules import RUNNING
from components.providers.values import id_of, mapping


@dataclass(frozen=True)
class Pending:
    """One change that a schedule will make.

    Attributes:
        schedule, subscription, customer: their ids; no subscription before the schedule starts one.
        at: UTC seconds.
        change: `price_1 => price_2`, or that it ends.
        made_by: the `<project>/<stack>/...` in its metadata; None if it has none.
        prices: the prices that are billed from then on.
    """

    schedule: str
    subscription: str | None
    customer: str
    at: int
    change: str
    made_by: str | None
    prices: frozenset[str]

    @property
    def on(self) -> str:
        """The day of the change (UTC)."""
        return paid.date(self.at)


def of_subscription(subscription: StripeObject) -> StripeObject | None:
    """The running schedule of a subscription that was read with it."""
    schedule = subscription.get("schedule")
    return dict(schedule) if isinstance(schedule, Mapping) and schedule.get("status") in RUNNING else None


def changes(
    schedule: StripeObject, subscription: StripeObject | None, named: Callable[[str], str] = str
) -> Iterator[Pending]:
    """The changes that a schedule will still make, the first one first.

    Args:
        named: how a price is shown, by its id.
    """
    phases = list(schedule.get("phases") or ())
    begun = int(mapping(schedule.get("current_phase")).get("start_date") or 0)
    coming = [phase for phase in phases if int(phase["start_date"]) > begun]
    current = next((phase for phase in phases if int(phase["start_date"]) == begun), None)
    before = _billed(current) if current is not None else {}
    about = (
        str(schedule["id"]),
        None if subscription is None else str(subscription["id"]),
        str(id_of(schedule["customer"])),
    )
    by = owner_of(schedule)
    for phase in coming:
        after = _billed(phase)
        if after != before:
            gone = [_shown(price, before, named) for price, _ in before.items() - after.items()]
            new = [_shown(price, after, named) for price, _ in after.items() - before.items()]
            what = f"{', '.join(sorted(gone)) or 'nothing'} => {', '.join(sorted(new)) or 'nothing'}"
            yield Pending(*about, int(phase["start_date"]), what, by, frozenset(after))
        before = after
    if schedule.get("end_behavior") == "cancel" and phases and phases[-1].get("end_date"):
        yield Pending(*about, int(phases[-1]["end_date"]), "the subscription ends", by, frozenset())


def _billed(phase: Mapping[str, Any]) -> dict[str, int | None]:
    """The quantity of each price in a phase; None for a metered one."""
    return {str(id_of(item["price"])): item.get("quantity") for item in phase["items"]}


def _shown(price: str, quantities: Mapping[str, int | None], named: Callable[[str], str]) -> str:
    quantity = quantities[price]
    return f"{quantity} x {named(price)}" if quantity is not None else named(price)
