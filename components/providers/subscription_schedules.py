"""Price changes of a subscription that wait for its renewal: found, planned, made and taken back in Stripe.

What a schedule holds is in `schedules.py`. Here is what surrounds it, so that a run can be cut short at every call:

1. the subscription is marked (`schedules.MARK`), in the update that makes what else changes now;
2. a schedule is made from it, which changes nothing;
3. the schedule gets the phases, in which prices move at the renewal; with that Stripe takes the mark away.

A run that finds the mark goes on from there. While it waits, what Stripe bills and what the program declares differ by
what is planned, and nothing else. A change of anything else takes the schedule away first and makes it again, since
Stripe would split its phases; a schedule that somebody else made is never touched.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from components.account import StripeRefusal
from components.providers import paid, schedules, subscription_items
from components.providers.errors import ProviderError
from components.providers.inventory import OWNER_KEY, StripeObject, owner_of
from components.providers.kind import Change
from components.providers.lifecycle import CHANGES_KEY
from components.providers.price import PRICE
from components.providers.reconciler import Reconciler
from components.providers.schedules import MARK, CannotMove, Move
from components.providers.subscription_items import SOURCES
from components.providers.values import Inputs, mapping

AT_RENEWAL: Final = "at_renewal"
PATH: Final = "/v1/subscription_schedules"
#: What no phase holds and Stripe changes beside any schedule.
BESIDE: Final = frozenset(
    [
        "add_invoice_items",
        "adopt",
        "allow_unbilled_usage",
        "cancel",
        "cancellation_details",
        CHANGES_KEY,
        "off_session",
        "payment_behavior",
        "payment_settings",
        "plan_versions",
        "pending_invoice_item_interval",
        "price_changes",
        "proration_behavior",
        "proration_date",
        "trial_settings",
    ]
)
#: Why Stripe makes the invoice of a renewal.
RENEWAL: Final = "subscription_cycle"
#: Stripe finalizes it after an hour, and waits for webhooks up to three days.
LONGEST_DRAFT: Final = 4 * 86_400


@dataclass
class Plan:
    """An update with its prices apart.

    Attributes:
        remote: the subscription as Stripe has it.
        schedule: the schedule of ours that it has.
        old, new: what changes now; both say what is billed until the renewal of what moves then.
        moves, added: what moves then.
        waits: whether something is to move later, so that the subscription is marked.
        ends: whether it ends before that, so that nothing moves unless the end is taken back.
    """

    remote: StripeObject
    schedule: StripeObject | None
    old: Inputs
    new: Inputs
    moves: dict[str, Move | None] = field(default_factory=dict)
    added: list[Inputs] = field(default_factory=list)
    is_marked: bool = False
    ends: bool = False

    @property
    def waits(self) -> bool:
        return bool(self.moves or self.added)

    @property
    def is_plain(self) -> bool:
        """Whether there is no schedule, and none to be made."""
        return self.schedule is None and not self.waits and not self.is_marked


def touched(old: Mapping[str, Any], new: Mapping[str, Any]) -> set[str]:
    """The arguments that change, but for those that no schedule is concerned with."""
    return {name for name in old.keys() | new.keys() if old.get(name) != new.get(name)} - BESIDE


def refusal(change: Change) -> str | None:
    """Why an update is refused that the state already knows to meet somebody else's schedule."""
    schedule = change.outputs.get("schedule")
    if not isinstance(schedule, str) or change.outputs.get("moves_at") or change.replaces:
        return None
    named = sorted(touched(change.old, change.new))
    return foreign_text(schedule, named) if named else None


def foreign_text(schedule: str, names: list[str]) -> str:
    """The sentence about a schedule that is not ours."""
    return (
        f"is managed by the subscription schedule {schedule}, which this program did not make and does not touch, and "
        f"Stripe would rewrite it for a change of {', '.join(names)}; ask who made it, who can change the schedule or "
        "release it in Stripe, then run pulumi refresh and up again"
    )


def planned_items(
    items: list[StripeObject], planned: list[Inputs], priced: Mapping[str, StripeObject]
) -> list[StripeObject]:
    """A subscription's items as they will be once what is planned has come."""
    rest = list(planned)
    result = []
    for item in items:
        key, price = subscription_items.key_of(item), item["price"]["id"]
        entry = next((each for each in rest if key is not None and subscription_items.key_of(each) == key), None)
        entry = entry or next((each for each in rest if each["price"] == price), None)
        if entry is None:
            continue
        rest.remove(entry)
        if entry["price"] == price:
            result.append(item)
        else:
            moved = {**item, "price": priced.get(entry["price"], {"id": entry["price"]})}
            result.append({**moved, "quantity": entry.get("quantity")})
    result += [
        {"discounts": [], **entry, "id": None, "price": priced.get(entry["price"], {"id": entry["price"]})}
        for entry in rest
    ]
    return result


class Schedules:
    """The schedules of the subscriptions of one account."""

    def __init__(self, reconciler: Reconciler) -> None:
        self._reconciler = reconciler
        self._run = reconciler.run

    # -- looking ------------------------------------------------------------------------------------------------

    def running(self, remote: StripeObject) -> StripeObject | None:
        """The schedule that a subscription has; None for none."""
        schedule = remote.get("schedule")
        if isinstance(schedule, str):
            schedule = self._reconciler.call(
                "get", f"{PATH}/{schedule}", {}, subject=f"schedule of {remote['id']}"
            ).data
        return schedule if isinstance(schedule, dict) and schedule.get("status") in schedules.RUNNING else None

    def is_ours(self, schedule: StripeObject, remote: StripeObject, *arguments: Mapping[str, Any]) -> bool:
        """Whether this program made a schedule, or a run of it that was cut short."""
        owners = {str(owner) for owner in (owner_of(remote), *(each.get("owner") for each in arguments)) if owner}
        return schedules.classify(schedule, owners, marked=is_marked(remote)) == "ours"

    def of(self, remote: StripeObject, *arguments: Mapping[str, Any]) -> StripeObject | None:
        """The schedule of ours that a subscription has."""
        schedule = self.running(remote)
        return schedule if schedule is not None and self.is_ours(schedule, remote, *arguments) else None

    def as_planned(self, remote: StripeObject, items: list[StripeObject], declared: Mapping[str, Any]) -> Any:
        """A subscription's items with what is only waiting for the renewal as if it had come."""
        schedule = self.of(remote)
        if schedule is None:
            return self._as_declared(remote, items, declared)
        planned = schedules.planned(schedule)
        if planned is None:
            return items
        prices = {entry["price"] for entry in planned} - {item["price"]["id"] for item in items}
        return planned_items(items, planned, self.prices(prices))

    def _as_declared(self, remote: StripeObject, items: list[StripeObject], declared: Mapping[str, Any]) -> Any:
        """The items of a subscription that ends before they move: that they do not is no drift."""
        if not (is_marked(remote) and remote.get("cancel_at")):
            return items
        wanted = [_added(key, item) for key, item in declared.items() if isinstance(mapping(item).get("price"), str)]
        prices = {entry["price"] for entry in wanted} - {item["price"]["id"] for item in items}
        rest = [item for item in items if subscription_items.key_of(item) is None]
        return [*rest, *planned_items([item for item in items if item not in rest], wanted, self.prices(prices))]

    def prices(self, ids: set[str]) -> dict[str, StripeObject]:
        """Prices by their ids, as far as Stripe has them."""
        inventory = self._run.inventory(PRICE)
        found = {id_: inventory.read(id_) for id_ in sorted(ids)}
        return {id_: price for id_, price in found.items() if price is not None}

    def outputs(self, remote: StripeObject, planned: Mapping[str, StripeObject]) -> Inputs:
        """What the state says of a schedule: its id, and of ours when its prices move and what is billed until then.

        Args:
            planned: the items as they will be, by the program's keys.
        """
        schedule = self.running(remote)
        ours = schedule is not None and self.is_ours(schedule, remote)
        if schedule is None or (ours and schedules.planned(schedule) is None):
            # One of ours that has done its work is released within a day.
            return {"schedule": None, "moves_at": None, "billed_until_then": {}}
        if not ours:
            return {"schedule": schedule["id"], "moves_at": None, "billed_until_then": {}}
        listed = (remote.get("items") or {}).get("data", [])
        billed = {
            str(subscription_items.key_of(item) or item["id"]): {"price": item["price"]["id"], **_quantity_of(item)}
            for item in listed
        }
        then = {key: {"price": item["price"]["id"], **_quantity_of(item)} for key, item in planned.items()}
        changes = {key: billed.get(key, {}) for key in sorted(billed.keys() | then) if billed.get(key) != then.get(key)}
        return {
            "schedule": schedule["id"],
            "moves_at": schedules.moved_at(schedule),
            "billed_until_then": changes,
        }

    # -- planning -----------------------------------------------------------------------------------------------

    def plan(self, id_: str, old: Inputs, new: Inputs, remote: StripeObject, items: Mapping[str, StripeObject]) -> Plan:
        """An update taken apart into what changes now and what at the renewal.

        Args:
            items: Stripe's items of this moment, by the keys of `new`.

        Raises:
            ProviderError: somebody else's schedule is in the way, or Stripe has no such move.
        """
        subject = self._reconciler.subject(new, id_)
        schedule = self.running(remote)
        if schedule is not None and not self.is_ours(schedule, remote, old, new):
            if named := sorted(touched(old, new)):
                raise ProviderError(f"{subject}: {foreign_text(schedule['id'], named)}")
            return Plan(remote, None, old, new)
        plan = Plan(remote, schedule, dict(old), dict(new), is_marked=is_marked(remote))
        if isinstance(new.get("items"), Mapping):
            self._take_apart(plan, old, new, items)
        if plan.is_plain:
            return plan
        metadata = mapping(remote.get("metadata"))
        if plan.is_marked:
            plan.old["metadata"] = {**mapping(old.get("metadata")), MARK: metadata[MARK]}
        if plan.waits:
            mark = metadata.get(MARK, str(new["owner"]))
            plan.new["metadata"] = {**mapping(new.get("metadata")), MARK: mark}
            try:
                self._check(plan, old, new)
            except CannotMove as problem:
                raise ProviderError(
                    f'{subject}: {problem}; so its prices cannot wait for a renewal: price_changes="now" moves them '
                    "at once"
                ) from None
        return plan

    def _take_apart(self, plan: Plan, old: Inputs, new: Inputs, there: Mapping[str, StripeObject]) -> None:
        """Move what waits for the renewal out of what changes now."""
        later = new.get("price_changes") == AT_RENEWAL
        before, after = dict(mapping(old.get("items"))), dict(new["items"])
        waiting = plan.is_marked or (plan.schedule is not None and schedules.planned(plan.schedule) is not None)
        for key, item in new["items"].items():
            was, found = mapping(old.get("items")).get(key), there.get(key)
            if found is None and (was is None or waiting):
                before.pop(key, None)
                if later:
                    del after[key]
                    plan.added.append(_added(key, item))
            elif found is not None:
                _part(plan, key, item, found, before, after, waiting=waiting)
        for name, found in there.items():
            is_ours = name in before or subscription_items.key_of(found) is not None
            if name not in new["items"] and later and is_ours:
                plan.moves[name] = None
                before.setdefault(name, _as_it_is(found))
                after[name] = before[name]
        plan.old["items"], plan.new["items"] = before, after

    def _check(self, plan: Plan, old: Inputs, new: Inputs) -> None:
        """Find out before anything is sent whether the prices can move.

        Raises:
            CannotMove: they cannot.
        """
        plan.ends = _ends(plan.remote, plan.moves, old, new)
        if plan.ends:
            return
        for item in (plan.remote.get("items") or {}).get("data", []):
            if item["price"].get("active") is False:
                raise CannotMove(
                    f"pays {item['price']['id']}, which is archived, and Stripe takes no schedule that names it (make "
                    "it active again, and declare archive_when_unused=True on it)"
                )
        start = min(item["current_period_start"] for item in plan.remote["items"]["data"])
        self._params({**plan.remote, "cancel_at": None}, {"phases": [{"start_date": start}]}, plan)

    def _params(self, remote: StripeObject, schedule: StripeObject, plan: Plan) -> Inputs:
        named = {move.price for move in plan.moves.values() if move} | {str(each["price"]) for each in plan.added}
        coupons = self._run.inventory_at("/v1/coupons", "coupon")
        found = {name: coupons.fetch(name) for name in schedules.coupons_of(remote, plan.moves)}
        return schedules.update_params(
            remote,
            schedule,
            plan.moves,
            plan.added,
            metadata={OWNER_KEY: plan.new["owner"]},
            prices=self.prices(named),
            coupons={name: coupon for name, coupon in found.items() if coupon is not None},
        )

    def refuse_in_draft(self, new: Inputs, remote: StripeObject) -> None:
        """Return when no invoice of a renewal is still a draft, which a move would change after it was announced.

        Raises:
            ProviderError: one is; with the moment from which on it is not.
        """
        invoice = remote.get("latest_invoice")
        items = (remote.get("items") or {}).get("data", [])
        begun = max((int(item.get("current_period_start") or 0) for item in items), default=0)
        renewed = begun > int(remote.get("start_date") or 0)
        if not isinstance(invoice, str) or not (remote.get("test_clock") or begun > time.time() - LONGEST_DRAFT):
            return
        subject = self._reconciler.subject(new, remote["id"])
        try:
            found = self._reconciler.call("get", f"/v1/invoices/{invoice}", {}, subject=subject).data
        except StripeRefusal as refusal:
            if refusal.status != 403:
                raise
            # A restricted key need not be allowed to look: its invoice is a draft for an hour, as a rule.
            found = {"status": "draft", "auto_advance": renewed and time.time() < begun + 3600}
            found |= {"billing_reason": RENEWAL, "automatically_finalizes_at": begun + 3600}
        if found.get("status") != "draft" or not found.get("auto_advance") or found.get("billing_reason") != RENEWAL:
            return
        due = found.get("automatically_finalizes_at")
        when = f"after {_minute(int(due))}" if due else "in an hour"
        clock = " of its test clock" if remote.get("test_clock") else ""
        raise ProviderError(
            f"{subject}: the invoice of its renewal, {invoice}, is still a draft, and a price that moves now would "
            f"change it; run again {when}{clock}, when Stripe has finalized it"
        )

    # -- acting -------------------------------------------------------------------------------------------------

    def release(self, schedule: StripeObject, remote: StripeObject, subject: str) -> StripeObject:
        """Take a schedule of ours away: the subscription goes on as it is now."""
        params: Inputs = {}
        try:
            self._reconciler.call("post", f"{PATH}/{schedule['id']}/release", params, subject=subject)
        except StripeRefusal as refused:
            # Its last phase may have ended in between.
            current = self._reconciler.call("get", f"{PATH}/{schedule['id']}", {}, subject=subject).data
            if current.get("status") in schedules.RUNNING:
                raise refused from None
        left = {**remote, "schedule": None}
        self._reconciler.inventory.remember(left)
        return left

    def let_go(self, remote: StripeObject, known: Inputs, subject: str) -> StripeObject:
        """Release the schedule of a subscription that is to end.

        Raises:
            ProviderError: somebody else made it.
        """
        schedule = self.running(remote)
        if schedule is None:
            return remote
        if not self.is_ours(schedule, remote, known):
            raise ProviderError(
                f"{subject}: is managed by the subscription schedule {schedule['id']}, which this program did not make "
                "and which would end with it; ask who made it, who can release or cancel it in Stripe, then run again"
            )
        return self.release(schedule, remote, subject)

    def make(self, plan: Plan, remote: StripeObject) -> StripeObject:
        """Give a subscription the schedule by which its prices move; returns the subscription with it."""
        subject = self._reconciler.subject(plan.new, remote["id"])
        schedule = self.of(remote, plan.old, plan.new)
        if schedule is None:
            params = {"from_subscription": remote["id"]}
            schedule = self._reconciler.call("post", PATH, params, subject=subject).data
        params = self._params({**remote, "cancel_at": None}, schedule, plan)
        if schedules.is_bare(schedule) or not schedules.same_plan(params["phases"], _coming(schedule)):
            schedule = self._reconciler.call("post", f"{PATH}/{schedule['id']}", params, subject=subject).data
        planned = {**remote, "schedule": schedule}
        self._reconciler.inventory.remember(planned)
        return planned


def is_marked(remote: Mapping[str, Any]) -> bool:
    """Whether prices of a subscription are to move at its renewal: planned, or about to be."""
    return MARK in mapping(remote.get("metadata"))


# -- small parts ----------------------------------------------------------------------------------------------------


def _part(
    plan: Plan, key: str, item: Mapping[str, Any], found: StripeObject, before: Inputs, after: Inputs, *, waiting: bool
) -> None:
    """Take an item that Stripe has apart into what changes of it now and what at the renewal.

    A quantity that changes with the price goes with it: nobody has declared it at the price of now.
    """
    was, present, declared = before.get(key), found["price"]["id"], item.get("price")
    # The state says what Stripe does not bill yet; of the quantity too, where the two differ.
    planned = waiting and isinstance(was, Mapping) and was.get("price") != present
    in_step = found.get("quantity") == mapping(was).get("quantity", found.get("quantity") and 1)
    moves = isinstance(declared, str) and declared != present and (planned or declared != mapping(was).get("price"))
    later = moves and plan.new.get("price_changes") == AT_RENEWAL
    if isinstance(was, Mapping) and (planned or later):
        before[key] = _at(present, was, was if in_step else found)
    if later:
        plan.moves[key] = Move(str(declared), _quantity(was, item))
        seats_now = planned and in_step and declared == mapping(was).get("price")
        after[key] = _at(present, item, item if seats_now else was if in_step and was else found)


def _at(price: str, item: Mapping[str, Any], counted: Mapping[str, Any]) -> Inputs:
    """A declared item at another price, with the quantity of something."""
    rest = {name: value for name, value in item.items() if name not in (*SOURCES, "quantity")}
    return {**rest, "price": price, **_quantity_of(counted)}


def _quantity_of(item: Mapping[str, Any]) -> Inputs:
    return {"quantity": item["quantity"]} if item.get("quantity") is not None else {}


def _quantity(was: Any, item: Mapping[str, Any]) -> int | schedules.SameQuantity:
    """How many an item bills after its move: as declared, else as Stripe has it."""
    if item.get("quantity") is not None:
        return int(item["quantity"])
    return 1 if mapping(was).get("quantity") is not None else schedules.SAME_QUANTITY


def _added(key: str, item: Mapping[str, Any]) -> Inputs:
    """A declared item as a phase takes it."""
    taken = ("price", "quantity", "discounts", "tax_rates", "billing_thresholds", "metadata")
    return subscription_items.branded(key, {name: item[name] for name in taken if name in item})


def _as_it_is(found: StripeObject) -> Inputs:
    return {"price": found["price"]["id"], **_quantity_of(found)}


def _ends(remote: StripeObject, moves: schedules.Moves, old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Whether a subscription ends before anything moves.

    Raises:
        CannotMove: it ends later, and a schedule would take that end away.
    """
    asked = [new.get(name) for name in ("cancel_at", "cancel_at_period_end")]
    before = [old.get(name) for name in ("cancel_at", "cancel_at_period_end")]
    end: Any = new.get("cancel_at")
    if not any(asked):
        # An end that the program takes back with this update is none; one that somebody gave it in Stripe is.
        end = None if any(before) else remote.get("cancel_at")
        if end is None:
            return False
    if isinstance(end, int) and end > max(schedules.renewals(remote, moves)):
        raise CannotMove(f"ends on {paid.date(end)}, after its renewal, and a schedule would take that end away")
    return True


def _coming(schedule: StripeObject) -> list[Inputs]:
    """The phases of a schedule that are not over."""
    current = schedule.get("current_phase") or schedule["phases"][0]
    return [phase for phase in schedule["phases"] if phase["start_date"] >= current["start_date"]]


def _minute(moment: int) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d %H:%M UTC")
