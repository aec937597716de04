"""Rules that Stripe's types cannot say and more than one kind needs.

Each is a generator of (property path, sentence); the sentence says what is wrong and what to write instead.
What is not known yet in a preview breaks no rule.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from components.providers.inventory import OWNER_KEY
from components.providers.kind import Problem, Rule
from components.providers.shapes import Path
from components.providers.values import Inputs, decimal_string, is_unknown

_CURRENCY = re.compile(r"\A[a-z]{3}\Z")


def find(values: Any, *path: str) -> Any:
    """The known value at a path, or None."""
    for part in path:
        if not isinstance(values, Mapping):
            return None
        values = values.get(part)
    return None if is_unknown(values) else values


def given(values: Any, name: str) -> bool:
    """Whether a field is declared, known yet or not."""
    return isinstance(values, Mapping) and values.get(name) is not None


def longest(limits: Mapping[str, int]) -> Rule:
    """No string is longer than Stripe stores: limits by dotted path."""

    def rule(inputs: Inputs) -> Iterator[Problem]:
        for path, limit in limits.items():
            value = find(inputs, *path.split("."))
            if isinstance(value, str) and len(value) > limit:
                yield tuple(path.split(".")), f"is {len(value)} characters long; Stripe takes at most {limit}"

    return rule


def not_below(least: Mapping[str, int]) -> Rule:
    """No whole number is lower than Stripe takes: by dotted path."""

    def rule(inputs: Inputs) -> Iterator[Problem]:
        for path, limit in least.items():
            value = find(inputs, *path.split("."))
            if isinstance(value, int) and not isinstance(value, bool) and value < limit:
                yield tuple(path.split(".")), f"is {value}; must be at least {limit}"

    return rule


def at_most_items(limits: Mapping[str, int]) -> Rule:
    """No list is longer than Stripe takes: by dotted path."""

    def rule(inputs: Inputs) -> Iterator[Problem]:
        for path, limit in limits.items():
            value = find(inputs, *path.split("."))
            if isinstance(value, (list, Mapping)) and len(value) > limit:
                yield tuple(path.split(".")), f"has {len(value)} entries; Stripe takes at most {limit}"

    return rule


def exclusive(*names: str, why: str) -> Rule:
    """At most one of some arguments."""

    def rule(inputs: Inputs) -> Iterator[Problem]:
        present = [name for name in names if given(inputs, name)]
        if len(present) > 1:
            yield (present[1],), f"excludes {present[0]}: {why}"

    return rule


def currency_code(value: Any, path: Path) -> Iterator[Problem]:
    """An ISO code in lower case."""
    if isinstance(value, str) and not _CURRENCY.match(value):
        yield path, f"is {value!r}; must be a three-letter ISO currency code in lower case, such as usd"


def currency(inputs: Inputs) -> Iterator[Problem]:
    yield from currency_code(inputs.get("currency"), ("currency",))


def one_amount(values: Mapping[str, Any], path: Path, names: tuple[str, ...]) -> Iterator[Problem]:
    """At most one of an amount's spellings, and none negative."""
    present = [name for name in names if given(values, name)]
    if len(present) > 1:
        yield (*path, present[1]), f"repeats {present[0]}: give one of {' and '.join(names)}"
    for name in present:
        text = decimal_string(values[name]) if not isinstance(values[name], Mapping) else None
        if text is not None and text.startswith("-"):
            yield (*path, name), f"is {text}; an amount cannot be negative"


def metadata(inputs: Inputs) -> Iterator[Problem]:
    """https://docs.stripe.com/api/metadata"""
    yield from metadata_at(inputs.get("metadata"), ("metadata",))


def metadata_at(values: Any, path: Path) -> Iterator[Problem]:
    if not isinstance(values, Mapping):
        return
    if len(values) > 49:
        yield path, f"has {len(values)} keys; Stripe takes 50, and one is `{OWNER_KEY}`, which says who made the object"
    for key, value in values.items():
        at: Path = (*path, key)
        if key == OWNER_KEY:
            yield at, "is how the providers know what they made; use another key"
        elif len(key) > 40:
            yield at, f"has a key of {len(key)} characters; Stripe takes at most 40"
        elif "[" in key or "]" in key:
            yield at, "has square brackets in its key, which Stripe refuses"
        if value == "":
            yield at, "is empty, which Stripe takes as unset; leave the key out"
        elif isinstance(value, str) and len(value) > 500:
            yield at, f"is {len(value)} characters long; Stripe takes at most 500"


def liability(*paths: str) -> Rule:
    """Whoever is liable for tax or issues an invoice: an account needs its id."""

    def rule(inputs: Inputs) -> Iterator[Problem]:
        for path in paths:
            parts = tuple(path.split("."))
            there = find(inputs, *parts)
            if find(there, "type") == "account" and not given(there, "account"):
                yield (*parts, "account"), "is required with type account"

    return rule
