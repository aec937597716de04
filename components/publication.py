"""The published versions of a plan in a stack: immutable, and the only ones that a stack promoted from it may offer."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final

import pulumi

from components.pricing import Plan, PricingError, Version
from components.terms import Terms, differences, terms, terms_of
from components.this_run import Resources, StateUnreadable, this_run

#: Keys that would make a price of version 1 look like one of a later version.
_LOOKS_LIKE_A_VERSION: Final = re.compile(r"v\d+-")


def price_name(plan: str, version: int, key: str) -> str:
    return f"{plan}-{key}" if version == 1 else f"{plan}-v{version}-{key}"


def published(there: Resources, name: str, number: int, keys: Iterable[str]) -> tuple[dict[str, Terms], bool]:
    """A version in a state, by the key of the charge, and whether that is all of it.

    The prices are what customers pay. The rest, and whether all prices exist, is recorded on the component.
    """
    plan = there.get(("PublishedPlan", name), {})
    record = (plan.get("versions") or {}).get(str(number)) or {}
    found: dict[str, Terms] = {}
    for key in {*record, *keys}:
        price = there.get(("Price", price_name(name, number, key)))
        if price is not None:
            per = (record.get(key) or {}).get("per")
            found[key] = {**terms_of(price), **({"per": per} if per else {})}
    return found, bool(record)


def last_run() -> Resources:
    try:
        return this_run().resources()
    except StateUnreadable as problem:
        raise PricingError(f"what is published cannot be told: {problem}") from None


def assert_as_published(name: str, versions: Mapping[int, Version]) -> None:
    for number, version in versions.items():
        for charge in version.plan.charges:
            if _LOOKS_LIKE_A_VERSION.match(charge.key):
                raise PricingError(f"{name} v{number}: the key {charge.key!r} begins like a version; choose another")
        new = terms(version.plan)
        there, is_whole = published(last_run(), name, number, new)
        if there and (different := differences(there, new, is_whole=is_whole)):
            raise PricingError(
                f"{name} v{number} is published in {pulumi.get_stack()}; add v{max(versions) + 1} "
                f"({'; '.join(different)})"
            )


def assert_promoted(name: str, number: int, plan: Plan, source: str | None) -> None:
    """If the stack's config says `promotedFrom`, check that the other stack has applied what this one offers."""
    if not source:
        return
    stack = pulumi.get_stack()
    if source == stack:
        raise PricingError(f"stripe-pricing:promotedFrom is {source}, which is this stack; name another stack")
    try:
        if this_run().state(source) is None:
            return
        there, _ = published(this_run().resources(source), name, number, new := terms(plan))
    except StateUnreadable as problem:
        raise PricingError(f"{stack} is promoted from {source}, whose state cannot be read: {problem}") from None
    if there.keys() != new.keys():
        raise PricingError(
            f"{stack} cannot offer {name} v{number}: {source}, which it is promoted from, has not applied it"
        )
    if different := differences(there, new):
        raise PricingError(
            f"{stack} cannot offer {name} v{number}: {source}, which it is promoted from, has another one "
            f"({'; '.join(different)})"
        )
