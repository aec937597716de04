"""Which version of each plan a subscriber is on: the one from the last run, changed by a rollout."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from components.plan import PlanVersion, PublishedPlan
from components.pricing import ROLLOUTS, PricingError, Rollout
from components.resources import Price
from components.this_run import Run, StateUnreadable, this_run

#: The maximum number of subscribers that a sentence about a rollout names.
_MOST_NAMES: Final = 5


@dataclass(frozen=True)
class Place:
    """The versions that a subscriber is on from now on.

    Attributes:
        paid: the subscription in the stack's state; None if it is new.
        versions: one for each plan.
        moves: the rollouts of the plans whose version changes.
        leaves: the old prices, of the versions that it moves from.
        waits: whether a move from an earlier run may still wait for the renewal, and should.
    """

    name: str
    paid: Mapping[str, Any] | None
    versions: list[PlanVersion]
    moves: dict[str, Rollout]
    leaves: list[Price]
    waits: bool

    def price_changes(self) -> Literal["now", "at_renewal"] | None:
        """When the prices of the subscription change.

        Raises:
            PricingError: at once and at renewal.
        """
        if len(set(self.moves.values())) > 1:
            moves = " and ".join(f"{plan} {rollout}" for plan, rollout in self.moves.items())
            raise PricingError(
                f"subscriber {self.name}: has one subscription, and its plans move {moves}; declare price_changes"
            )
        return "at_renewal" if self.waits or "at_renewal" in self.moves.values() else None

    def record(self) -> dict[str, int] | None:
        """What the state says of the versions; nothing where an older one says nothing and all are the first."""
        numbers = {version.name: version.number for version in self.versions}
        if self.paid is not None and "plan_versions" not in self.paid and set(numbers.values()) == {1}:
            return None
        return numbers


def place(name: str, plans: Sequence[PublishedPlan | PlanVersion], formerly: Sequence[str] = ()) -> Place:
    """Find a subscriber's version of each plan from now on.

    Args:
        formerly: the names that its aliases say it had: under another name it stays on its version.

    Raises:
        PricingError: no rollout says what happens to it.
    """
    paid = next((there for each in (name, *formerly) if (there := _paid(each)) is not None), None)
    versions: list[PlanVersion] = []
    moves: dict[str, Rollout] = {}
    leaves: list[Price] = []
    waits = (paid or {}).get("price_changes") == "at_renewal"
    for each in plans:
        before = _number(paid, each.name)
        if isinstance(each, PlanVersion):
            version = each
        else:
            offered = each.offered
            version = _version(name, each, before)
            if before is not None and before != version.number and offered.rollout is not None:
                moves[each.name] = offered.rollout
            if before is not None and before != offered.number:
                rollout = "keep" if version is not offered else offered.rollout or "keep"
                ways = this_run().followed.setdefault((each.name, offered.number), {})
                ways.setdefault((rollout, before), []).append(name)
            waits &= not (version is offered and offered.rollout == "now")
        waits &= before == version.number
        versions.append(version)
        former = this_run().plans[each.name].versions.get(before)
        if former is not None and former is not version:
            leaves += former.prices.values()
    return Place(name, paid, versions, moves, leaves, waits)


def _paid(name: str) -> Mapping[str, Any] | None:
    try:
        there = this_run().resources().get(("Subscription", name))
    except StateUnreadable as problem:
        raise PricingError(f"what subscriber {name} pays cannot be told: {problem}") from None
    # A subscription that has ended is created again, as a new one.
    return None if there is None or there.get("has_ended") else there


def _number(paid: Mapping[str, Any] | None, plan: str) -> int | None:
    """The version of a plan that is paid; None for none. Older states without a version have version 1."""
    if paid is None:
        return None
    number: int | None = (paid.get("plan_versions") or {plan: 1}).get(plan)
    return number


def _version(name: str, plan: PublishedPlan, before: int | None) -> PlanVersion:
    """The version of a plan for a subscriber on another version of it, or on none."""
    offered = plan.offered
    if before is None or before == offered.number:
        return offered
    if before not in plan.versions:
        # This run archives its prices, which is refused while a subscription pays them.
        if offered.rollout == "now":
            return offered
        raise PricingError(
            f"subscriber {name} pays {plan.name} v{before}, which is not in the program: declare it until no "
            f'subscriber is on it, or give v{offered.number} the rollout "now"'
        )
    if offered.rollout is None and before < offered.number:
        run = this_run()
        run.undecided.setdefault((plan.name, offered.number), {})[name] = before
        if not run.gathers_undecided:
            raise PricingError(str(undecided(run)))
        return plan.versions[before]
    return offered if offered.rollout in ("now", "at_renewal") else plan.versions[before]


def undecided(run: Run) -> str | None:
    """The sentence about subscribers without a rollout; None if there are none."""
    for (plan, offered), subscribers in run.undecided.items():
        on: dict[int, list[str]] = {}
        for name, before in subscribers.items():
            on.setdefault(before, []).append(name)
        who = "; ".join(f"on v{before}: {', '.join(names)}" for before, names in sorted(on.items()))
        choices = ", ".join(f'"{rollout}" ({means})' for rollout, means in ROLLOUTS.items())
        return f"{plan} v{offered} needs a rollout, because there are subscribers {who}; choose one of {choices}"
    return None


def followed(run: Run) -> Iterator[str]:
    """What happens to the subscribers of a plan with a newly offered version: one sentence each."""
    for (plan, offered), ways in run.followed.items():
        for (rollout, before), names in ways.items():
            if rollout == "keep" and run.resources().get(("PublishedPlan", plan), {}).get("offered") == offered:
                # They stayed before this run.
                continue
            more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
            what = {
                "keep": f"stay on v{before}",
                "now": f"move from v{before} at once",
                "at_renewal": f"move from v{before} when their periods end",
            }[rollout]
            yield f"{plan} offers v{offered}; these {what}: {', '.join(names[:_MOST_NAMES])}{more}"
