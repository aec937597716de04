"""A pull request applied to a copy: the real engine, then `pricing rollout` for subscriptions made elsewhere."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from components.account import Account, AccountError
from components.plan import PublishedPlan
from components.providers.inventory import owner_of, stack_of
from components.publication import price_name
from components.settings import Settings
from pricing.impact.reading import catalogue_of
from pricing.rehearse.check import Course, Declared, Finding, How
from pricing.rehearse.engine import ApplyError
from pricing.rehearse.sandbox import Copy
from pricing.rehearse.walk import DRAFT
from pricing.rollout import moving
from pricing.rollout.decisions import DAY, RolloutError, Rules
from pricing.rollout.journal import Journal
from pricing.rollout.moving import Rollout

_SUBSCRIPTION = "pulumi-python:dynamic/stripe:Subscription"
#: Inputs of a declared subscription that its plan's version decides, and no difference of the model.
_BY_VERSION = frozenset({"items", "plan_versions", "price_changes"})


class Applies(Protocol):
    """The engine on the copy's stack.

    Attributes:
        changes: how many resources the last `up` changed, by operation.
    """

    changes: Counter[str]

    def up(self) -> None:
        """Apply the checkout; raises ApplyError."""

    def resources(self) -> list[dict[str, Any]]:
        """The state's resources, as `pulumi stack export` shows them."""


class NotApplied(Exception):
    """The pull request cannot be applied to the copy; the message is one line."""


@dataclass
class PullRequest:
    """The checkout as it is applied to a copy.

    Attributes:
        plans: the program's, by name.
        declared: what it declares, as it becomes known.
        notes: what happened, in sentences.
        found: what went wrong when it was applied.
    """

    engine: Applies
    stack: str
    plans: Mapping[str, PublishedPlan]
    lock: str
    declared: Declared = field(default_factory=lambda: Declared(0))
    notes: list[str] = field(default_factory=list)
    found: list[Finding] = field(default_factory=list)
    _moved: Counter[str] = field(default_factory=Counter)
    _stays: dict[str, Counter[str]] = field(default_factory=dict)
    _rollouts: list[Rollout] = field(default_factory=list)
    _stack: ExitStack = field(default_factory=ExitStack)
    _halted: set[str] = field(default_factory=set)

    def close(self) -> None:
        """Close the journals."""
        self._stack.close()

    # -- applying -----------------------------------------------------------------------------------------------

    def apply(self, copy: Copy, now: int) -> None:
        """`pulumi up`, then each rollout.

        Raises:
            NotApplied: the engine or a provider refused twice, an hour apart.
        """
        before = self.engine.resources()
        now = self._up(copy, now)
        after = self.engine.resources()
        account = account_of(copy)
        self.declared.at = now
        for name, plan in self.plans.items():
            self.declared.plans[name] = {number: each.plan for number, each in plan.versions.items()}
            self.declared.catalogue |= catalogue(account, name, plan)
        self._declared_courses(before, after, now)
        for name, plan in self.plans.items():
            for numbers in _new_versions(plan, before):
                self._begin(account, copy, plan, numbers, now, name)
        self.again(copy, now)

    def _up(self, copy: Copy, now: int) -> int:
        """Apply the checkout; returns when it was applied."""
        total: Counter[str] = Counter()
        try:
            self.engine.up()
        except ApplyError as refused:
            total = self.engine.changes
            # A price does not move at once while the invoice of a renewal is a draft: the message says to wait.
            now += DRAFT
            copy.set_clock(now)
            copy.settle()
            try:
                self.engine.up()
            except ApplyError as again:
                raise NotApplied(str(again)) from None
            self.notes.append(f"The first `pulumi up` stopped, and the next one, an hour later, did not: {refused}.")
        total = total + self.engine.changes
        changes = ", ".join(f"{count:,} {name.removesuffix('e')}ed" for name, count in sorted(total.items()))
        self.notes.append(f"`pulumi up`: {changes or 'nothing to change'}.")
        return now

    def _declared_courses(self, before: list[dict[str, Any]], after: list[dict[str, Any]], now: int) -> None:
        was, is_ = (_subscriptions(each) for each in (before, after))
        for id_ in was.keys() | is_.keys():
            old, new = was.get(id_), is_.get(id_)
            if old is None or new is None or _otherwise(old) != _otherwise(new):
                self.declared.edited.add(id_)
                continue
            how: How = "at_renewal" if new.get("price_changes") == "at_renewal" else "now"
            versions = {str(plan): int(number) for plan, number in (old.get("plan_versions") or {}).items()}
            for plan, number in (new.get("plan_versions") or {}).items():
                if versions.get(plan, int(number)) != int(number):
                    course = Course(versions[plan], int(number), how, now)
                    self.declared.courses.setdefault(id_, {})[str(plan)] = course

    # -- rollouts -----------------------------------------------------------------------------------------------

    def _begin(
        self, account: Account, copy: Copy, plan: PublishedPlan, numbers: tuple[int, int], now: int, name: str
    ) -> None:
        try:
            old, new = moving.offers(account, plan, self.stack, numbers)
        except RolloutError as problem:
            raise NotApplied(str(problem)) from None
        rules = Rules(
            old=old,
            new=new,
            stack=self.stack,
            owner=f"{self.stack}/rollout {old} to {new}",
            now=now,
            coupon=moving.coupons_of(account),
            lock=self.lock,
        )
        path = copy.path.with_name(f"{name}@{old.number}-{new.number}.db")
        journal = self._stack.enter_context(Journal(path, f"rollout {old} to {new} in {self.stack}"))
        self._rollouts.append(Rollout(account, rules, journal))

    def again(self, copy: Copy, now: int) -> None:
        """`pricing rollout --apply` for each: first invoices are checked, then who can move is moved.

        It is run twice, a day apart, for those that had just renewed; after that, first invoices are only checked.
        """
        for begun in self._rollouts:
            rules = replace(begun.rules, now=now)
            one = replace(begun, rules=rules)
            name = str(rules.new)
            if name in self._halted:
                continue
            try:
                if wrong := one.check():
                    self._halted.add(name)
                    for entry in wrong:
                        detail = f"{name}: {entry.note}"
                        self.found.append(Finding("rollout halted", entry.subscription, now, detail))
                    continue
                if now <= self.declared.at + DAY:
                    self._move(one, now)
            except (AccountError, RolloutError) as problem:
                self._halted.add(name)
                self.found.append(Finding("rollout halted", "", now, f"{name}: {problem}"))

    def _move(self, one: Rollout, now: int) -> None:
        """Move who can move, each by the rollout's own hand."""
        rules = one.rules
        stays = self._stays[str(rules.new)] = Counter()
        for placed in one.placed():
            if placed.fate == "stays":
                stays[placed.why] += 1
            elif placed.fate == "moves" and one.move(placed.subscription).fate == "moves":
                self._moved[str(rules.new)] += 1
                course = Course(rules.old.number, rules.new.number, "at_renewal", now)
                self.declared.courses.setdefault(placed.subscription, {})[rules.new.name] = course

    def rollouts(self) -> Iterator[tuple[str, int, Mapping[str, int]]]:
        """Each rollout as a command, how many it has moved, and how many it has not, by reason."""
        for begun in self._rollouts:
            name = str(begun.rules.new)
            yield f"pricing rollout {name} --apply", self._moved[name], self._stays.get(name, {})


def account_of(copy: Copy) -> Account:
    """A copy as the providers see it."""
    return Account(Settings.read({"mode": "sandbox", "sandboxFile": str(copy.path)}.get, {}))


def catalogue(account: Account, name: str, plan: PublishedPlan) -> dict[str, tuple[str, int, str]]:
    """The plan, version and charge of each of a plan's prices in an account."""
    first = plan.versions.get(1)
    keys = [charge.key for charge in first.plan.charges] if first else []
    offered = plan.offered
    current = (offered.number, [charge.key for charge in offered.plan.charges])
    return {price: (name, *of) for price, of in catalogue_of(account, name, keys, current).items()}


def elsewhere(subscription: Mapping[str, Any], stack: str) -> bool:
    """Whether a subscription is not declared by the stack."""
    return stack_of(owner_of(subscription)) != stack


def _new_versions(plan: PublishedPlan, before: list[dict[str, Any]]) -> Iterator[tuple[int, int]]:
    """The version before and each version that is new here and moves its subscribers."""
    prices = {
        str(each["urn"]).rpartition("::")[2]
        for each in before
        if each["type"] == "pulumi-python:dynamic/stripe:Price" and not each.get("delete")
    }
    older = 0
    for number, version in sorted(plan.versions.items()):
        names = {price_name(plan.name, number, charge.key) for charge in version.plan.charges}
        if older and version.rollout in ("at_renewal", "now") and not names & prices and number == plan.offered.number:
            yield older, number
        older = number


def _subscriptions(resources: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The inputs of each declared subscription, by its id."""
    return {
        str(each["id"]): each.get("inputs") or {}
        for each in resources
        if each["type"] == _SUBSCRIPTION and not each.get("delete")
    }


def _otherwise(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """What a subscription declares beside the version it is on: its terms, and the quantity of each item."""
    kept = {name: value for name, value in inputs.items() if name not in _BY_VERSION and name != "__provider"}
    items = {
        key: {name: value for name, value in item.items() if name != "price"}
        for key, item in (inputs.get("items") or {}).items()
    }
    return {**kept, "items": items}
