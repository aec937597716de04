"""Price changes at a subscription's renewal, as the phases of a subscription schedule. Pure: no account, no Pulumi.

Stripe changes a price between two periods through a schedule (https://docs.stripe.com/billing/subscriptions/
subscription-schedules). Creating one takes two calls, and an update of its phases replaces all of them: anything not
sent again is lost. So:

1. `POST /v1/subscription_schedules` with `{"from_subscription": id}` alone: Stripe accepts no other parameter with it.
2. `POST /v1/subscription_schedules/<id>` with `update_params(subscription, schedule, moves, ...)`.

`classify` says whose an existing schedule is, and `planned` says what will be billed once it is over.

A subscription is Stripe's object with all its items; its discounts can be ids or expanded. Expanded is better: then
discounts that end by the renewal are omitted. The coupons of moving items are a separate argument (`coupons_of` names
them), because Stripe does not expand that deep. Moments are UTC seconds.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from components.providers.inventory import OWNER_KEY, StripeObject
from components.providers.subscription_items import is_metered, key_of
from components.providers.values import Inputs, id_of

#: In a subscription's metadata from before its schedule is created until the prices have moved.
MARK: Final = "pulumi_at_renewal"
#: How long a schedule outlives the move. A last phase needs a duration; a longer one only blocks cancelling in portals.
AFTERWARDS: Final = 86_400
#: The states in which Stripe runs a schedule.
RUNNING: Final = ("active", "not_started")
#: The statuses of subscriptions that will renew.
RENEWED: Final = ("active", "trialing", "past_due", "unpaid")
#: Fields that a subscription and a phase share, with plain values.
_SAME: Final = ("application_fee_percent", "collection_method", "description")
_PRINTED: Final = ("account_tax_ids", "custom_fields", "description", "footer")

Owner = Literal["ours", "bare", "foreign"]


class CannotMove(Exception):
    """Why a subscription's prices cannot change at its renewal: a sentence without the subscription's name."""


class SameQuantity:
    """An item's quantity."""


SAME_QUANTITY: Final = SameQuantity()


@dataclass(frozen=True)
class Move:
    """What an item bills from the renewal on.

    Attributes:
        price: the id of its price.
        quantity: None for a metered price, which has none.
    """

    price: str
    quantity: int | SameQuantity | None = SAME_QUANTITY


Moves = Mapping[str, Move | None]
"""By an item's key (in its metadata) or its id: what it bills from the renewal on; None if it is removed."""


def classify(schedule: Mapping[str, Any], owners: Collection[str], *, marked: bool) -> Owner:
    """Whose a running schedule is.

    Args:
        owners: the values of `metadata[pulumi]` of our schedules.
        marked: whether the subscription has `MARK`, which is set right before a schedule is created.

    Returns:
        `ours`: its metadata says so, or it is bare and the subscription is marked: a run was interrupted between the
        two calls. `bare`: created from the subscription and never updated, so it changes nothing; somebody else's.
        `foreign`: anything else, which only its creator may change.
    """
    owner = (schedule.get("metadata") or {}).get(OWNER_KEY)
    if owner is not None:
        return "ours" if owner in owners else "foreign"
    if not is_bare(schedule):
        return "foreign"
    return "ours" if marked else "bare"


def is_bare(schedule: Mapping[str, Any]) -> bool:
    """Whether a schedule is as `from_subscription` creates it: one phase, the present period, and then released."""
    phases = schedule.get("phases") or []
    return len(phases) == 1 and not schedule.get("metadata") and schedule.get("end_behavior") == "release"


def find(items: Sequence[StripeObject], name: str) -> StripeObject | None:
    """The item of a subscription with a key or an id."""
    by_key = next((item for item in items if key_of(item) == name), None)
    return by_key or next((item for item in items if item["id"] == name), None)


def renewals(subscription: StripeObject, moves: Moves) -> list[int]:
    """When the moving items renew, in order; if items are only added, when all of the subscription's items renew.

    A yearly fee and a monthly overage on one subscription renew at different moments.

    Raises:
        CannotMove: an item is missing.
    """
    items = _items(subscription)
    moved = [_found(items, name) for name in moves] or items
    return sorted({int(item["current_period_end"]) for item in moved})


def update_params(
    subscription: StripeObject,
    schedule: StripeObject,
    moves: Moves,
    added: Sequence[Inputs] = (),
    *,
    metadata: Mapping[str, str],
    prices: Mapping[str, StripeObject] | None = None,
    coupons: Mapping[str, StripeObject] | None = None,
) -> Inputs:
    """What to send to `POST /v1/subscription_schedules/<id>` so that only prices change, at the renewal.

    The current phase is sent as the subscription is now, each later one with the items that have moved by then. Each
    item moves when its own period ends; added items begin when all have moved. Nothing is prorated, and the schedule
    is released a day after the last move.

    Args:
        subscription: with all its items.
        schedule: its schedule, whose current phase has the start.
        moves: what changes.
        added: items that begin then, in the shape of a phase: `{"price": ..., "quantity": ..., "metadata": {...}}`.
        metadata: the schedule's metadata; `{"pulumi": owner}` makes it ours.
        prices: the new prices by id: a metered one has no quantity, and one with a new interval restarts all periods
            when it begins; otherwise Stripe would keep the present billing cycle and bill it late.
        coupons: the coupons from `coupons_of`, by id.

    Raises:
        CannotMove: Stripe has no such move, or it would change something else.
    """
    _check(subscription)
    items = _items(subscription)
    if not items:
        raise CannotMove("has no items")
    moments = renewals(subscription, moves)
    start = int((schedule.get("current_phase") or schedule["phases"][0])["start_date"])
    terms, known = _terms(subscription), prices or {}
    present: Inputs = {
        **terms,
        **_discounts(subscription),
        "items": [_item(item) for item in items],
        "start_date": start,
        "end_date": moments[0],
        "proration_behavior": "none",
    }
    if subscription.get("status") == "trialing" and subscription.get("trial_end"):
        present["trial_end"] = min(int(subscription["trial_end"]), moments[0])
    phases = [present]
    for number, moment in enumerate(moments, 1):
        is_last = number == len(moments)
        after = [_after(item, moves, moment, known, coupons or {}) for item in items]
        phase: Inputs = {
            **terms,
            **_discounts(subscription, at=moment),
            "items": [*(each for each in after if each is not None), *(added if is_last else ())],
            "start_date": moment,
            "end_date": moment + AFTERWARDS if is_last else moments[number],
            "proration_behavior": "none",
        }
        if not phase["items"]:
            raise CannotMove("would have no item from its renewal on; cancel it at the end of its period instead")
        if _intervals_change(items, moves, added if is_last else (), moment, known):
            phase["billing_cycle_anchor"] = "phase_start"
        if is_last:
            # When a phase begins, Stripe unsets the keys that are empty in its metadata.
            phase["metadata"] = {MARK: ""}
        phases.append(phase)
    return {
        "phases": phases,
        "end_behavior": "release",
        "proration_behavior": "none",
        "metadata": dict(metadata),
    }


def coupons_of(subscription: StripeObject, moves: Moves) -> set[str]:
    """The coupons of the moving items: Stripe accepts a discount's id only for the same price."""
    moved = [item for item in _items(subscription) if _move_of(item, moves)[1] is not None]
    named = [_coupon_of(each) for item in moved for each in item.get("discounts") or ()]
    return {name for name in named if name is not None}


def planned(schedule: Mapping[str, Any] | None) -> list[Inputs] | None:
    """The items of a schedule's last phase; None if nothing will change any more."""
    if schedule is None or schedule.get("status") not in RUNNING:
        return None
    phases, current = schedule.get("phases") or [], schedule.get("current_phase")
    if len(phases) < 2 or (current and phases[-1]["start_date"] == current["start_date"]):
        return None
    return list(phases[-1]["items"])


def moved_at(schedule: Mapping[str, Any]) -> int:
    """When the phase after the current one begins."""
    begun = int((schedule.get("current_phase") or schedule["phases"][0])["start_date"])
    return min(int(phase["start_date"]) for phase in schedule["phases"] if int(phase["start_date"]) > begun)


def same_plan(one: Sequence[Mapping[str, Any]], other: Sequence[Mapping[str, Any]]) -> bool:
    """Whether two lists of phases, as sent or from Stripe, bill the same items from the same moments on."""

    def plan(phases: Sequence[Mapping[str, Any]]) -> list[Any]:
        return [
            (
                phase["start_date"],
                sorted((str(id_of(item["price"])), item.get("quantity") or 1) for item in phase["items"]),
            )
            for phase in phases
        ]

    return plan(one) == plan(other)


# -- small parts --------------------------------------------------------------------------------------------------


def _check(subscription: StripeObject) -> None:
    status, end = subscription.get("status"), subscription.get("cancel_at")
    if status not in RENEWED:
        raise CannotMove(f"is {status}, and has no renewal")
    if end:
        raise CannotMove("is to end (cancel_at), and a schedule would remove that end")
    if subscription.get("billing_schedules"):
        raise CannotMove("is billed in advance (billing_schedules), which cannot be combined with a schedule")
    for item in _items(subscription):
        if item.get("current_trial"):
            raise CannotMove("is in a trial offer, which cannot be combined with a schedule")


def _items(subscription: StripeObject) -> list[StripeObject]:
    return list((subscription.get("items") or {}).get("data") or [])


def _found(items: Sequence[StripeObject], name: str) -> StripeObject:
    found = find(items, name)
    if found is None:
        raise CannotMove(f"has no item {name}")
    return found


def _move_of(item: StripeObject, moves: Moves) -> tuple[bool, Move | None]:
    for name in (key_of(item), item["id"]):
        if name is not None and name in moves:
            return True, moves[name]
    return False, None


def _intervals_change(
    items: Sequence[StripeObject],
    moves: Moves,
    added: Sequence[Mapping[str, Any]],
    moment: int,
    prices: Mapping[str, StripeObject],
) -> bool:
    """Whether a new interval begins at a moment.

    Raises:
        CannotMove: another item's period does not end then, and would be cut short.
    """
    come = {str(entry["price"]): {_interval(item["price"]) for item in items} for entry in added}
    for item in items:
        _, move = _move_of(item, moves)
        if move is not None and int(item["current_period_end"]) == moment:
            come[move.price] = {_interval(item["price"])}
    other = [name for name, held in come.items() if name in prices and _interval(prices[name]) not in held]
    if not other:
        return False
    late = [item for item in items if int(item["current_period_end"]) != moment]
    if late:
        raise CannotMove(
            f"would be billed for {other[0]} at a new interval, which restarts all periods, in the middle of the "
            f"period of its item {key_of(late[0]) or late[0]['id']}"
        )
    return True


def _interval(price: Any) -> tuple[Any, Any]:
    recurring = (price.get("recurring") if isinstance(price, Mapping) else None) or {}
    return recurring.get("interval"), recurring.get("interval_count") or 1


def _after(
    item: StripeObject,
    moves: Moves,
    moment: int,
    prices: Mapping[str, StripeObject],
    coupons: Mapping[str, StripeObject],
) -> Inputs | None:
    """An item in a phase that begins at a moment; None if it is removed by then."""
    is_moved, move = _move_of(item, moves)
    if not is_moved or int(item["current_period_end"]) > moment:
        return _item(item, at=moment)
    if move is None:
        return None
    sent = {name: value for name, value in _item(item).items() if name != "discounts"}
    sent |= {**_anew(item, moment, coupons), "price": move.price}
    if move.quantity is None or is_metered({"price": prices.get(move.price)}):
        sent.pop("quantity", None)
    elif isinstance(move.quantity, int):
        sent["quantity"] = move.quantity
    return sent


def _item(item: StripeObject, at: int | None = None) -> Inputs:
    """An item in the shape of a phase."""
    sent: Inputs = {"price": id_of(item["price"]), **_discounts(item, at=at)}
    if item.get("quantity") is not None:
        sent["quantity"] = item["quantity"]
    if item.get("metadata"):
        sent["metadata"] = dict(item["metadata"])
    if item.get("tax_rates"):
        sent["tax_rates"] = [id_of(rate) for rate in item["tax_rates"]]
    if item.get("billing_thresholds"):
        sent["billing_thresholds"] = {"usage_gte": item["billing_thresholds"]["usage_gte"]}
    return sent


def _discounts(holder: StripeObject, at: int | None = None) -> Inputs:
    """The discounts of a subscription or an item by their ids, so that none restarts; only those that still apply `at`.

    An empty list is omitted, not sent: then the customer's own discounts still apply.
    """
    held = [each for each in holder.get("discounts") or () if not _is_over(each, at)]
    return {"discounts": [{"discount": id_of(each)} for each in held]} if held else {}


def _anew(item: StripeObject, moment: int, coupons: Mapping[str, StripeObject]) -> Inputs:
    """The discounts of a moving item, by their coupons: Stripe accepts a discount's id only for the same price.

    Raises:
        CannotMove: a restarted coupon would give more, or less, than is left of it.
    """
    sent = []
    for each in item.get("discounts") or ():
        if _is_over(each, moment):
            continue
        name = _coupon_of(each)
        coupon = coupons.get(name or "", {})
        if coupon.get("duration") != "forever" or not coupon.get("valid", True):
            raise CannotMove(
                f"has the coupon {name or id_of(each)} on an item that moves, which Stripe would restart or "
                "drop; put it on the subscription, or remove it from the item"
            )
        sent.append({"coupon": name})
    return {"discounts": sent} if sent else {}


def _coupon_of(discount: Any) -> str | None:
    if not isinstance(discount, Mapping):
        return None
    name = id_of((discount.get("source") or {}).get("coupon") or discount.get("coupon"))
    return name if isinstance(name, str) else None


def _is_over(discount: Any, at: int | None) -> bool:
    end = discount.get("end") if isinstance(discount, Mapping) else None
    return at is not None and end is not None and int(end) <= at


def _terms(subscription: StripeObject) -> Inputs:
    """The fields that a subscription and a phase share, except items, discounts and time."""
    sent: Inputs = {name: subscription[name] for name in _SAME if subscription.get(name) is not None}
    for name in ("default_payment_method", "on_behalf_of"):
        if subscription.get(name):
            sent[name] = id_of(subscription[name])
    if subscription.get("default_tax_rates"):
        sent["default_tax_rates"] = [id_of(rate) for rate in subscription["default_tax_rates"]]
    if tax := subscription.get("automatic_tax"):
        sent["automatic_tax"] = {"enabled": bool(tax.get("enabled"))}
        if tax.get("enabled") and tax.get("liability"):
            sent["automatic_tax"]["liability"] = _party(tax["liability"])
    if thresholds := subscription.get("billing_thresholds"):
        sent["billing_thresholds"] = {name: value for name, value in thresholds.items() if value is not None}
    if transfer := subscription.get("transfer_data"):
        share = transfer.get("amount_percent")
        sent["transfer_data"] = {
            "destination": id_of(transfer["destination"]),
            **({} if share is None else {"amount_percent": share}),
        }
    settings = subscription.get("invoice_settings") or {}
    printed: Inputs = {name: settings[name] for name in _PRINTED if settings.get(name)}
    if "account_tax_ids" in printed:
        printed["account_tax_ids"] = [id_of(each) for each in printed["account_tax_ids"]]
    if settings.get("issuer"):
        printed["issuer"] = _party(settings["issuer"])
    if subscription.get("days_until_due") is not None:
        printed["days_until_due"] = subscription["days_until_due"]
    return {**sent, **({"invoice_settings": printed} if printed else {})}


def _party(party: Mapping[str, Any]) -> Inputs:
    return {name: id_of(party[name]) for name in ("type", "account") if party.get(name)}
