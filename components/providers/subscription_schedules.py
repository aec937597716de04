"""Price changes that wait for a subscription's renewal: finds, plans, creates and withdraws them in Stripe.

`schedules.py` builds the content of a schedule. This module makes the calls, so that a run can stop after any of them:

1. the subscription is marked (`schedules.MARK`), in the update that makes the immediate changes;
2. a schedule is created from it, which changes nothing;
3. the schedule gets the phases, in which prices move at the renewal; that also removes the mark.

A run that finds the mark continues from there. While it waits, Stripe's subscription differs from the declared one only
by what is planned. Any other change releases the schedule first and creates it again, because Stripe would split its
phases; a schedule that somebody else made is never touched.
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
#: Fields outside of phases, which Stripe can change despite a schedule.
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
#: Stripe's `billing_reason` of a renewal's invoice.
RENEWAL: Final = "subscription_cycle"
#: Stripe finalizes it after an hour, and waits for webhooks up to three days.
LONGEST_DRAFT: Final = 4 * 86_400


@dataclass
class Plan:
    """An update, split by when it takes effect.

    Attributes:
        remote: the subscription in Stripe.
        schedule: our schedule on it.
        old, new: what changes now; for items that move later, both have what is billed until the renewal.
        moves, added: what changes at the renewal.
        waits: whether something moves later, so that the subscription is marked.
        ends: whether it ends before that, so that nothing moves unless the end is withdrawn.
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
        """Whether there is no schedule and none is needed."""
        return self.schedule is None and not self.waits and not self.is_marked


def touched(old: Mapping[str, Any], new: Mapping[str, Any]) -> set[str]:
    """The changed arguments, except those that do not affect a schedule."""
    return {name for name in old.keys() | new.keys() if old.get(name) != new.get(name)} - BESIDE


def refusal(change: Change) -> str | None:
    """Why an update is refused if the state already has somebody else's schedule."""
    schedule = change.outputs.get("schedule")
    if not isinstance(schedule, str) or change.outputs.get("moves_at") or change.replaces:
        return None
    named = sorted(touched(change.old, change.new))
    return foreign_text(schedule, named) if named else None


def foreign_text(schedule: str, names: list[str]) -> str:
    """The sentence about a schedule that is not ours."""
    return (
        f"is managed by the subscription schedule {schedule}, which this program did not create and does not change, "
        f"but Stripe would rewrite it for a change of {', '.join(names)}; ask its creator to change the schedule or "
        "release it in Stripe, then run pulumi refresh and up again"
    )


def planned_items(
    items: list[StripeObject], planned: list[Inputs], priced: Mapping[str, StripeObject]
) -> list[StripeObject]:
    """A subscription's items after the planned changes."""
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
        """A subscription's schedule; None for none."""
        schedule = remote.get("schedule")
        if isinstance(schedule, str):
            schedule = self._reconciler.call(
                "get", f"{PATH}/{schedule}", {}, subject=f"schedule of {remote['id']}"
            ).data
        return schedule if isinstance(schedule, dict) and schedule.get("status") in schedules.RUNNING else None

    def is_ours(self, schedule: StripeObject, remote: StripeObject, *arguments: Mapping[str, Any]) -> bool:
        """Whether this program created a schedule, possibly in an interrupted run."""
        owners = {str(owner) for owner in (owner_of(remote), *(each.get("owner") for each in arguments)) if owner}
        return schedules.classify(schedule, owners, marked=is_marked(remote)) == "ours"

    def of(self, remote: StripeObject, *arguments: Mapping[str, Any]) -> StripeObject | None:
        """Our schedule on a subscription."""
        schedule = self.running(remote)
        return schedule if schedule is not None and self.is_ours(schedule, remote, *arguments) else None

    def as_planned(self, remote: StripeObject, items: list[StripeObject], declared: Mapping[str, Any]) -> Any:
        """A subscription's items as if the changes that wait for the renewal had happened."""
        schedule = self.of(remote)
        if schedule is None:
            return self._as_declared(remote, items, declared)
        planned = schedules.planned(schedule)
        if planned is None:
            return items
        prices = {entry["price"] for entry in planned} - {item["price"]["id"] for item in items}
        return planned_items(items, planned, self.prices(prices))

    def _as_declared(self, remote: StripeObject, items: list[StripeObject], declared: Mapping[str, Any]) -> Any:
        """The items of a subscription that ends before they move: not moving is no drift."""
        if not (is_marked(remote) and remote.get("cancel_at")):
            return items
        wanted = [_added(key, item) for key, item in declared.items() if isinstance(mapping(item).get("price"), str)]
        prices = {entry["price"] for entry in wanted} - {item["price"]["id"] for item in items}
        rest = [item for item in items if subscription_items.key_of(item) is None]
        return [*rest, *planned_items([item for item in items if item not in rest], wanted, self.prices(prices))]

    def prices(self, ids: set[str]) -> dict[str, StripeObject]:
        """The prices by id that Stripe has."""
        inventory = self._run.inventory(PRICE)
        found = {id_: inventory.read(id_) for id_ in sorted(ids)}
        return {id_: price for id_, price in found.items() if price is not None}

    def outputs(self, remote: StripeObject, planned: Mapping[str, StripeObject]) -> Inputs:
        """A schedule for the state: its id, and for ours when its prices move and what is billed until then.

        Args:
            planned: the future items, by the program's keys.
        """
        schedule = self.running(remote)
        ours = schedule is not None and self.is_ours(schedule, remote)
        if schedule is None or (ours and schedules.planned(schedule) is None):
            # A completed schedule of ours is released within a day.
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
        """Split an update into what changes now and what changes at the renewal.

        Args:
            items: Stripe's present items, by the keys of `new`.

        Raises:
            ProviderError: there is somebody else's schedule, or Stripe has no such move.
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
        """Check before anything is sent that the prices can move.

        Raises:
            CannotMove: they cannot.
        """
        plan.ends = _ends(plan.remote, plan.moves, old, new)
        if plan.ends:
            return
        for item in (plan.remote.get("items") or {}).get("data", []):
            if item["price"].get("active") is False:
                raise CannotMove(
                    f"pays {item['price']['id']}, which is archived, and Stripe refuses a schedule that names it "
                    "(activate it again, and declare archive_when_unused=True on it)"
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
        """Refuse to move while a renewal's invoice is still a draft, which the move would change.

        Raises:
            ProviderError: there is a draft; the message says when to run again.
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
            # A restricted key may not be allowed to look: an invoice is usually a draft for an hour.
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
        """Release a schedule of ours: the subscription continues unchanged."""
        params: Inputs = {}
        try:
            self._reconciler.call("post", f"{PATH}/{schedule['id']}/release", params, subject=subject)
        except StripeRefusal as refused:
            # Its last phase may have ended in the meantime.
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
                f"{subject}: is managed by the subscription schedule {schedule['id']}, which this program did not "
                "create and which would end with it; ask its creator to release or cancel it in Stripe, then run again"
            )
        return self.release(schedule, remote, subject)

    def make(self, plan: Plan, remote: StripeObject) -> StripeObject:
        """Create the schedule that moves a subscription's prices; returns the subscription with it."""
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
    """Whether prices of a subscription will move at its renewal: planned, or about to be."""
    return MARK in mapping(remote.get("metadata"))


# -- small parts ----------------------------------------------------------------------------------------------------


def _part(
    plan: Plan, key: str, item: Mapping[str, Any], found: StripeObject, before: Inputs, after: Inputs, *, waiting: bool
) -> None:
    """Split the change of an existing item into what changes now and what changes at the renewal.

    A quantity that changes together with the price moves with it: it was not declared at the present price.
    """
    was, present, declared = before.get(key), found["price"]["id"], item.get("price")
    # The state has the planned price, which Stripe does not bill yet, and the planned quantity if it differs.
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
    """A declared item at another price, with another quantity."""
    rest = {name: value for name, value in item.items() if name not in (*SOURCES, "quantity")}
    return {**rest, "price": price, **_quantity_of(counted)}


def _quantity_of(item: Mapping[str, Any]) -> Inputs:
    return {"quantity": item["quantity"]} if item.get("quantity") is not None else {}


def _quantity(was: Any, item: Mapping[str, Any]) -> int | schedules.SameQuantity:
    """An item's quantity after its move: the declared one, else Stripe's."""
    if item.get("quantity") is not None:
        return int(item["quantity"])
    return 1 if mapping(was).get("quantity") is not None else schedules.SAME_QUANTITY


def _added(key: str, item: Mapping[str, Any]) -> Inputs:
    """A declared item in the shape of a phase."""
    taken = ("price", "quantity", "discounts", "tax_rates", "billing_thresholds", "metadata")
    return subscription_items.branded(key, {name: item[name] for name in taken if name in item})


def _as_it_is(found: StripeObject) -> Inputs:
    return {"price": found["price"]["id"], **_quantity_of(found)}


def _ends(remote: StripeObject, moves: schedules.Moves, old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Whether a subscription ends before anything moves.

    Raises:
        CannotMove: it ends later, and a schedule would remove that end.
    """
    asked = [new.get(name) for name in ("cancel_at", "cancel_at_period_end")]
    before = [old.get(name) for name in ("cancel_at", "cancel_at_period_end")]
    end: Any = new.get("cancel_at")
    if not any(asked):
        # An end that this update withdraws does not count; an end that was set in Stripe does.
        end = None if any(before) else remote.get("cancel_at")
        if end is None:
            return False
    if isinstance(end, int) and end > max(schedules.renewals(remote, moves)):
        raise CannotMove(f"ends on {paid.date(end)}, after its renewal, and a schedule would remove that end")
    return True


def _coming(schedule: StripeObject) -> list[Inputs]:
    """The current and later phases of a schedule."""
    current = schedule.get("current_phase") or schedule["phases"][0]
    return [phase for phase in schedule["phases"] if phase["start_date"] >= current["start_date"]]


def _minute(moment: int) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d %H:%M UTC")
