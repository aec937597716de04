"""Validation rules beyond Stripe's types that more than one kind needs.

Each rule yields (property path, sentence). The sentence says what is wrong and what to write instead, and never repeats
a value: Pulumi passes secrets to a provider in plain text. Unknown values break no rule, and known values have the form
that Stripe's types give them, since the schema is checked first.
Paths are dotted, with `*` for each entry of a list or map. Stripe's limits are the `maxLength` of its OpenAPI
description (https://github.com/stripe/openapi), or come from the page named beside the rule.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from components.providers.inventory import OWNER_KEY
from components.providers.kind import Problem, Rule
from components.providers.schedules import MARK
from components.providers.shapes import Path
from components.providers.values import Inputs, decimal_string, is_unknown

#: For text without a limit of its own.
LONGEST_TEXT: Final = 5_000
#: "The maximum number of trial period days is 730 (2 years)."
LONGEST_TRIAL: Final = 730
#: Three years, in each interval. https://docs.stripe.com/api/prices/create
MOST_INTERVALS: Final = {"day": 1095, "week": 156, "month": 36, "year": 3}
AMOUNTS: Final = ("unit_amount", "unit_amount_decimal", "custom_unit_amount")
_CURRENCY = re.compile(r"\A[a-z]{3}\Z")
_ID = re.compile(r"\A[A-Za-z0-9_.:-]+\Z")
_EMAIL = re.compile(r"\A[^@\s]+@[^@\s.]+(\.[^@\s.]+)+\Z")
_FORBIDDEN_IN_DESCRIPTOR = frozenset("<>\\\"'*")


# -- reaching values ------------------------------------------------------------------------------------------------


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


def entries(values: Any) -> Iterable[tuple[str | int, Any]]:
    """The entries of an object by key, or of a list by position."""
    if isinstance(values, Mapping):
        return values.items()
    return enumerate(values) if isinstance(values, list) else ()


def _named(values: Any, part: str) -> Iterable[tuple[str | int, Any]]:
    """The entries that one part of a dotted path names."""
    if part == "*":
        return entries(values)
    return [(part, values[part])] if isinstance(values, Mapping) and part in values else ()


def each(values: Any, path: str) -> Iterator[tuple[Path, Any]]:
    """Every known value at a dotted path."""
    found: list[tuple[Path, Any]] = [((), values)]
    for part in path.split("."):
        found = [
            ((*at, key), value)
            for at, holder in found
            for key, value in _named(holder, part)
            if value is not None and not is_unknown(value)
        ]
    yield from found


def _inside(values: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Every value at any depth."""
    for key, value in entries(values):
        yield (*path, key), value
        yield from _inside(value, (*path, key))


# -- limits ---------------------------------------------------------------------------------------------------------


def longest(limits: Mapping[str, int]) -> Rule:
    """No text is longer than Stripe takes: limits by path, LONGEST_TEXT for any other."""

    def rule(inputs: Inputs) -> Iterator[Problem]:
        own = {path: limit for pattern, limit in limits.items() for path, limit in _limited(inputs, pattern, limit)}
        for path, value in _inside(inputs):
            limit = own.get(path, LONGEST_TEXT)
            if isinstance(value, str) and len(value) > limit and "metadata" not in path:
                yield path, f"is {len(value)} characters long; Stripe takes at most {limit:,}"

    return rule


def _limited(inputs: Inputs, pattern: str, limit: int) -> Iterator[tuple[Path, int]]:
    return ((path, limit) for path, _ in each(inputs, pattern))


def between(limits: Mapping[str, tuple[int, int | None]]) -> Rule:
    """Every whole number is in Stripe's range: minimum and maximum (None for no maximum) by path."""

    def rule(inputs: Inputs) -> Iterator[Problem]:
        for pattern, (least, most) in limits.items():
            for path, value in each(inputs, pattern):
                if value < least or (most is not None and value > most):
                    yield path, f"must be at least {least}" if most is None else f"must be {least} to {most:,}"

    return rule


def at_most_items(limits: Mapping[str, int]) -> Rule:
    """No list is longer than Stripe takes: limits by path."""

    def rule(inputs: Inputs) -> Iterator[Problem]:
        for pattern, limit in limits.items():
            for path, value in each(inputs, pattern):
                if len(value) > limit:
                    yield path, f"has {len(value)} entries; Stripe takes at most {limit}"

    return rule


def intervals(*patterns: str, most: Mapping[str, int] = MOST_INTERVALS) -> Rule:
    """A billing interval is not longer than Stripe takes: paths of objects with `interval` and `interval_count`."""

    def rule(inputs: Inputs) -> Iterator[Problem]:
        for pattern in patterns:
            for path, recurring in each(inputs, pattern):
                count, interval = find(recurring, "interval_count"), find(recurring, "interval")
                if isinstance(count, int) and interval in most and not 1 <= count <= most[interval]:
                    yield (*path, "interval_count"), f"must be 1 to {most[interval]:,} {interval}s"

    return rule


def exclusive(*names: str, why: str) -> Rule:
    """At most one of some arguments."""

    def rule(inputs: Inputs) -> Iterator[Problem]:
        present = [name for name in names if given(inputs, name)]
        if len(present) > 1:
            yield (present[1],), f"cannot be combined with {present[0]}: {why}"

    return rule


# -- forms ----------------------------------------------------------------------------------------------------------


def chosen_id(inputs: Inputs) -> Iterator[Problem]:
    """An id that the program chooses."""
    value = find(inputs, "id")
    if isinstance(value, str) and not _ID.match(value):
        yield ("id",), "can only have letters, digits and . _ : -"


def texts(patterns: tuple[str, ...], wrong: Callable[[str], str | None]) -> Rule:
    """Every text at some paths has a form: `wrong` says what is wrong with one, or None."""

    def rule(inputs: Inputs) -> Iterator[Problem]:
        for pattern in patterns:
            for path, value in each(inputs, pattern):
                if sentence := wrong(value):
                    yield path, sentence

    return rule


def emails(*patterns: str) -> Rule:
    """E-mail addresses that Stripe takes."""
    return texts(
        patterns, lambda text: None if _EMAIL.match(text) else "is not an e-mail address such as billing@example.com"
    )


def urls(*patterns: str) -> Rule:
    """Web addresses that Stripe takes."""
    return texts(
        patterns, lambda text: None if _is_url(text) else "must be a public web address such as https://example.com"
    )


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
    except ValueError:
        return False
    # `urlsplit` silently drops tabs and line breaks.
    return parts.scheme in ("http", "https") and bool(parts.hostname) and not re.search(r"\s", text)


def descriptors(*patterns: str) -> Rule:
    """Statement descriptors, which banks print. https://docs.stripe.com/get-started/account/statement-descriptors"""
    return texts(patterns, _wrong_descriptor)


def _wrong_descriptor(text: str) -> str | None:
    if _FORBIDDEN_IN_DESCRIPTOR & set(text):
        return "contains one of < > \\ \" ' *, which Stripe refuses on a bank statement"
    if not text.isascii():
        return "contains characters that are not ASCII, which Stripe strips"
    return None if re.search("[A-Za-z]", text) else "needs at least one letter"


def currencies(*patterns: str) -> Rule:
    """ISO codes in lower case, also as the keys of `currency_options`."""

    def rule(inputs: Inputs) -> Iterator[Problem]:
        for pattern in patterns:
            for path, value in each(inputs, pattern):
                code = path[-1] if isinstance(value, Mapping) else value
                if isinstance(code, str) and not _CURRENCY.match(code):
                    yield path, "must be a three-letter ISO currency code in lower case, such as usd"

    return rule


# -- money ----------------------------------------------------------------------------------------------------------


def one_amount(values: Mapping[str, Any], path: Path, names: tuple[str, ...]) -> Iterator[Problem]:
    """At most one form of an amount, and none negative."""
    present = [name for name in names if given(values, name)]
    if len(present) > 1:
        yield (*path, present[1]), f"repeats {present[0]}: declare only one of {' and '.join(names)}"
    for name in present:
        text = decimal_string(values[name]) if not isinstance(values[name], Mapping) else None
        if text is not None and text.startswith("-"):
            yield (*path, name), "is negative; an amount must be 0 or more"


def custom_amount(values: Any, path: Path) -> Iterator[Problem]:
    """An amount that the customer chooses."""
    if not isinstance(values, Mapping):
        return
    if values.get("enabled") is False:
        yield (*path, "enabled"), "must be true; omit custom_unit_amount to switch it off"
    low, preset, high = (find(values, name) for name in ("minimum", "preset", "maximum"))
    for name, smaller, larger in (("minimum", low, high), ("preset", preset, high), ("preset", low, preset)):
        if isinstance(smaller, int) and isinstance(larger, int) and smaller > larger:
            yield (*path, name), "does not satisfy minimum <= preset <= maximum"
            return


def tiers(values: Any, path: Path) -> Iterator[Problem]:
    """Tiers ascend, the last is open-ended, and each has an amount, which may be 0."""
    previous: int | None = 0
    for index, tier in enumerate(values if isinstance(values, list) else ()):
        if not isinstance(tier, Mapping):
            previous = None
            continue
        at: Path = (*path, index)
        previous = yield from _tier_bound(tier, at, previous, last=index == len(values) - 1)
        yield from _tier_amounts(tier, at)


def _tier_bound(
    tier: Mapping[str, Any], path: Path, previous: int | None, *, last: bool
) -> Generator[Problem, None, int | None]:
    """Checks `up_to` of one tier; returns the bound that the next one must exceed, or None if it is not known."""
    up_to = tier.get("up_to")
    if is_unknown(up_to):
        return None
    if up_to == "inf":
        if not last:
            yield (*path, "up_to"), 'is "inf", which only the last tier can be'
    elif last:
        yield (*path, "up_to"), 'must be "inf" in the last tier; usage above it would have no price'
    elif isinstance(up_to, int):
        if previous is not None and up_to <= previous:
            yield (*path, "up_to"), "must be above 0 and above the up_to of the previous tier"
        return up_to
    return previous


def _tier_amounts(tier: Mapping[str, Any], path: Path) -> Iterator[Problem]:
    for names in (("unit_amount", "unit_amount_decimal"), ("flat_amount", "flat_amount_decimal")):
        yield from one_amount(tier, path, names)
    flat = tier.get("flat_amount_decimal")
    if isinstance(flat, str) and "." in flat:
        yield (*path, "flat_amount_decimal"), "has decimals; Stripe takes whole minor units for a flat amount"
    if not any(given(tier, f"{kind}_amount{form}") for kind in ("unit", "flat") for form in ("", "_decimal")):
        yield path, 'has no amount; declare unit_amount_decimal ("0" for a free tier)'


def currency_options(values: Any, path: Path, currency: Any, scheme: str | None) -> Iterator[Problem]:
    """Amounts in currencies other than the price's own, each in the same form as the price.

    Args:
        scheme: the price's `billing_scheme`; None while it is not known.
    """
    for code, option in entries(find(values, "currency_options")):
        at: Path = (*path, "currency_options", code)
        if code == currency:
            yield at, "is the price's own currency; declare its amount on the price itself"
        if not isinstance(option, Mapping):
            continue
        yield from one_amount(option, at, AMOUNTS)
        yield from tiers(option.get("tiers"), (*at, "tiers"))
        yield from custom_amount(option.get("custom_unit_amount"), (*at, "custom_unit_amount"))
        if scheme == "tiered" and not given(option, "tiers"):
            yield (*at, "tiers"), 'is required: the price has billing_scheme "tiered"'
        if scheme == "per_unit" and not any(given(option, name) for name in AMOUNTS):
            yield at, "needs unit_amount, unit_amount_decimal or custom_unit_amount"


# -- metadata, liability --------------------------------------------------------------------------------------------


def metadata(inputs: Inputs) -> Iterator[Problem]:
    """Metadata of the object and of everything inside it. https://docs.stripe.com/api/metadata"""
    for path, values in _inside(inputs):
        if path[-1] == "metadata" and isinstance(values, Mapping):
            yield from _metadata_at(values, path)


def _metadata_at(values: Mapping[str, Any], path: Path) -> Iterator[Problem]:
    if len(values) > 49:
        yield path, f"has {len(values)} keys; Stripe takes 50, and one of them is `{OWNER_KEY}`, which names the owner"
    for key, value in values.items():
        at: Path = (*path, key)
        if key == OWNER_KEY:
            yield at, "is reserved: the providers store the owner there; use another key"
        elif key == MARK:
            yield at, "is reserved: the providers mark subscriptions whose prices wait for a renewal; use another key"
        elif len(key) > 40:
            yield at, f"has a key of {len(key)} characters; Stripe takes at most 40"
        elif "[" in key or "]" in key:
            yield at, "has square brackets in its key, which Stripe refuses"
        if value == "":
            yield at, "is empty, which unsets it in Stripe; omit the key"
        elif isinstance(value, str) and len(value) > 500:
            yield at, f"is {len(value)} characters long; Stripe takes at most 500"


def liability(*paths: str) -> Rule:
    """Who is liable for tax or issues an invoice: type `account` needs the account's id."""

    def rule(inputs: Inputs) -> Iterator[Problem]:
        for path in paths:
            parts = tuple(path.split("."))
            there = find(inputs, *parts)
            if find(there, "type") == "account" and not given(there, "account"):
                yield (*parts, "account"), "is required with type account"

    return rule
