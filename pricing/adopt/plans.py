"""Recognizes a plan and its versions in a product and its prices. Pure.

A product is a plan if one subscriber can pay all that it offers: one fee at most, and usage by different meters. Older
prices that somebody still pays are its earlier versions. Everything else stays a product with prices.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final

from pydantic import ValidationError

import money
from components.pricing import EXACT, Exact, Fee, Overage, Plan, PricingError, Tier, Usage, Version, versions_of
from components.providers.inventory import StripeObject

_KEY: Final = r"[a-z0-9][a-z0-9_-]{0,39}"
_LOOKUP_KEY: Final = re.compile(rf"({_KEY}):({_KEY})")
_VERSION_IN_KEY: Final = re.compile(r"v\d+-")
#: Up to how many units an amount is quoted for, where one unit costs less than the currency's smallest coin.
_MOST_UNITS: Final = 1_000_000


class NoPlan(Exception):
    """The product is not a plan; one line that says why."""


@dataclass(frozen=True)
class Charge:
    """A price that a plan can have as a charge."""

    price: StripeObject
    key: str
    value: Fee | Usage


@dataclass(frozen=True)
class FoundPlan:
    """A product as a plan.

    Attributes:
        name: the plan's name in the program.
        versions: by number; the last is offered.
        prices: the id of each price, by version and key of the charge.
        product: the product's id.
        own_meter: the id of the meter that only this plan has and that is named after it, by the key of the charge.
        shared: the id of each other meter, by the key of the charge.
        lookup_keys: those that are not `<name>:<key>`, by the key of the charge.
        default_price: whether the offered version's first fee is the product's default price.
        beside: prices of the product that are in no version.
    """

    name: str
    versions: Mapping[int, Version]
    prices: Mapping[tuple[int, str], str]
    product: str
    own_meter: Mapping[str, str]
    shared: Mapping[str, str]
    lookup_keys: Mapping[str, str]
    default_price: bool
    beside: Sequence[StripeObject] = field(default_factory=list)


@dataclass(frozen=True)
class Around:
    """What else of the account decides how a product is declared.

    Attributes:
        meters: those to adopt, by id.
        paid: how many subscriptions pay a price, by id.
        together: the prices that subscriptions pay beside a price, by id.
        taken: the names of plans, and of variables for meters, that are in use.
    """

    meters: Mapping[str, StripeObject]
    paid: Mapping[str, int]
    together: Mapping[str, set[str]]
    taken: set[str]


def find(
    product: StripeObject, prices: Sequence[StripeObject], around: Around, meter_keys: Mapping[str, str]
) -> FoundPlan:
    """The plan that a product is.

    Args:
        prices: the prices of the product to declare, oldest first.
        meter_keys: the key of each meter that is declared apart, by id.

    Raises:
        NoPlan: it is none.
    """
    if not product.get("active") or not prices:
        raise NoPlan("it has nothing to sell")
    recurring = [price for price in prices if price.get("recurring")]
    beside = [price for price in prices if not price.get("recurring")]
    offered = _offered(product, [price for price in recurring if price["active"]])
    others = [price for price in recurring if price not in offered]
    # What this program has made and numbered is a version, whether anyone pays it or not.
    numbered = any(_version_of(price) for price in recurring)
    older = [price for price in others if numbered or around.paid.get(price["id"])]
    beside += [price for price in others if price not in older]
    name = _name(product, offered, around.taken)
    keys = _keys(product, name, [*offered, *older], around)
    units = _Units(product, around, meter_keys)

    def plan(group: Sequence[StripeObject]) -> Plan:
        charges = [charge_of(price, keys[price["id"]], units) for price in group]
        fees = [each for each in charges if isinstance(each, Fee)]
        usage = [each for each in charges if isinstance(each, Usage)]
        base = {price["currency"] for price in group}
        if len(base) > 1:
            raise NoPlan("its prices have different currencies")
        try:
            return Plan(product["name"], fees=fees, usage=usage, currency=base.pop())
        except ValidationError as error:
            raise NoPlan(str(error.errors(include_url=False)[0]["msg"]).removeprefix("Value error, ")) from None

    newest = plan(offered)
    groups: list[list[StripeObject]] = []
    plans: list[Plan] = []
    for group in _groups(older, keys, around):
        try:
            earlier = plan(group)
            versions_of(name, {1: earlier, 2: newest})
            _assert_one_meter_each([*offered, *(each for some in groups for each in some), *group], keys, meter_keys)
        except (NoPlan, PricingError):
            beside += group
        else:
            groups.append(group)
            plans.append(earlier)
    numbers = _numbers([*groups, offered], name)
    versions: dict[int, Version] = {}
    for number, group, each in zip(numbers, [*groups, offered], [*plans, newest], strict=True):
        versions[number] = Version(
            each,
            rollout="keep" if group is offered and groups else None,
            archived=not any(price["active"] for price in group),
        )
    try:
        versions_of(name, versions)
    except PricingError as problem:
        raise NoPlan(str(problem)) from None
    in_versions = list(zip(numbers, [*groups, offered], strict=True))
    meters = {keys[p["id"]]: p["recurring"]["meter"] for _, group in in_versions for p in group if _is_metered(p)}
    fee = next((price for price in offered if not _is_metered(price)), None)
    lookup_keys = {
        keys[price["id"]]: str(price["lookup_key"])
        for price in offered
        if price.get("lookup_key") and price["lookup_key"] != f"{name}:{keys[price['id']]}"
    }
    return FoundPlan(
        name,
        versions,
        {(number, keys[price["id"]]): str(price["id"]) for number, group in in_versions for price in group},
        str(product["id"]),
        {key: id_ for key, id_ in meters.items() if id_ not in meter_keys},
        {key: id_ for key, id_ in meters.items() if id_ in meter_keys},
        lookup_keys,
        fee is None or product.get("default_price") == fee["id"],
        beside,
    )


def _offered(product: StripeObject, active: Sequence[StripeObject]) -> list[StripeObject]:
    """The prices that a new subscriber pays.

    Raises:
        NoPlan: that cannot be told, or there is none.
    """
    if not active:
        raise NoPlan("it offers no recurring price")
    if any(_version_of(price) for price in active):
        # This program has made them: the lookup keys say what is offered.
        keyed = [price for price in active if price.get("lookup_key")]
        if not keyed:
            raise NoPlan("none of its versions has a lookup key")
        return keyed
    fees = [price for price in active if not _is_metered(price)]
    if len({(p["recurring"]["interval"], p["recurring"]["interval_count"], p["currency"]) for p in fees}) > 1:
        raise NoPlan("it offers several fees at the same time")
    by_meter: dict[str, list[StripeObject]] = {}
    for price in active:
        if _is_metered(price):
            by_meter.setdefault(str(price["recurring"].get("meter")), []).append(price)
    return [_the_offered(alike, product) for alike in (fees, *by_meter.values()) if alike]


def _the_offered(alike: Sequence[StripeObject], product: StripeObject) -> StripeObject:
    """Which of several active prices for the same is offered: the one with a lookup key, else the default price.

    Raises:
        NoPlan: none, or more than one.
    """
    keyed = [price for price in alike if price.get("lookup_key")]
    default = [price for price in alike if price["id"] == product.get("default_price")]
    for some in (alike, keyed, default if not keyed else []):
        if len(some) == 1:
            return some[0]
    raise NoPlan("it offers several prices for the same")


def _assert_one_meter_each(
    prices: Iterable[StripeObject], keys: Mapping[str, str], meter_keys: Mapping[str, str]
) -> None:
    """A plan's own meter is that of the charge, in every version.

    Raises:
        NoPlan: two versions bill a charge by different meters.
    """
    own = {(keys[p["id"]], p["recurring"]["meter"]) for p in prices if _is_metered(p)}
    own = {(key, meter) for key, meter in own if meter not in meter_keys}
    if len({key for key, _ in own}) < len(own):
        raise NoPlan("its versions bill a charge by different meters")


def _is_metered(price: Mapping[str, Any]) -> bool:
    return (price.get("recurring") or {}).get("usage_type") == "metered"


# -- names ------------------------------------------------------------------------------------------------------------


def slug(text: str, otherwise: str = "product") -> str:
    """A name for a resource: `Alpaca.ai (EU)` -> `alpaca-ai-eu`."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:60].strip("-") or otherwise


def unique(name: str, taken: set[str]) -> str:
    """The name, or the next of `name-2`, `name-3` that is not taken; it is taken from now on."""
    found, number = name, 1
    while found in taken:
        number += 1
        found = f"{name}-{number}"
    taken.add(found)
    return found


def _name(product: StripeObject, offered: Sequence[StripeObject], taken: set[str]) -> str:
    for price in offered:
        match = _LOOKUP_KEY.fullmatch(str(price.get("lookup_key")))
        if match and match[1] not in taken:
            return match[1]
    return unique(slug(str(product["name"])), set(taken))


def _version_of(price: Mapping[str, Any]) -> tuple[int, str] | None:
    """The version and the charge that this program has written on a price; it writes none on version 1."""
    metadata = price.get("metadata") or {}
    number, key = str(metadata.get("version")), str(metadata.get("charge"))
    if "plan" in metadata and number.isdecimal() and re.fullmatch(_KEY, key):
        return int(number), key
    return None


def _keys(product: StripeObject, name: str, prices: Sequence[StripeObject], around: Around) -> dict[str, str]:
    """The key of each price's charge, by the price's id."""
    usage = [price for price in prices if _is_metered(price)]
    several = len({price["recurring"].get("meter") for price in usage}) > 1
    found: dict[str, str] = {}
    for price in prices:
        written = _version_of(price)
        lookup = _LOOKUP_KEY.fullmatch(str(price.get("lookup_key")))
        label = re.fullmatch(rf"{re.escape(str(product['name']))} ({_KEY})", str(price.get("nickname")))
        if written is not None:
            key = written[1]
        elif lookup:
            key = lookup[2]
        elif label:
            key = label[1]
        elif not _is_metered(price):
            key = "license"
        elif several:
            meter = around.meters.get(price["recurring"].get("meter")) or {}
            key = slug(str(meter.get("event_name")), "usage")[:40]
        else:
            key = "usage"
        found[price["id"]] = f"charge-{key}"[:40] if _VERSION_IN_KEY.match(key) else key
    return found


# -- versions ---------------------------------------------------------------------------------------------------------


def _groups(older: Sequence[StripeObject], keys: Mapping[str, str], around: Around) -> list[list[StripeObject]]:
    """The older prices by version, oldest first: a fee, with older usage that its subscribers pay."""
    groups: list[list[StripeObject]] = []
    for price in sorted(older, key=lambda each: (_is_metered(each), each["created"])):
        home = next((group for group in groups if _belongs(price, group, keys, around)), None)
        if home is None:
            groups.append([price])
        else:
            home.append(price)
    return sorted(groups, key=lambda group: (_number(group[0]), min(each["created"] for each in group)))


def _number(price: StripeObject) -> int:
    written = _version_of(price)
    return written[0] if written else 0


def _belongs(price: StripeObject, group: Sequence[StripeObject], keys: Mapping[str, str], around: Around) -> bool:
    if group[0]["active"] != price["active"] or keys[price["id"]] in {keys[each["id"]] for each in group}:
        return False
    if _number(price) or _number(group[0]):
        return _number(price) == _number(group[0])
    return _shares(price, group, around)


def _shares(price: StripeObject, group: Sequence[StripeObject], around: Around) -> bool:
    """Whether a subscription pays both, or both were made for the first version of one plan."""
    beside = around.together.get(price["id"], set())
    return any(each["id"] in beside for each in group) or abs(price["created"] - group[0]["created"]) <= _AT_ONCE


#: Prices that one run or one script has made, in seconds.
_AT_ONCE: Final = 60


def _numbers(groups: Sequence[Sequence[StripeObject]], name: str) -> list[int]:
    """The number of each version: what is written on its prices, else in their order."""
    written = [{found[0] for price in group if (found := _version_of(price))} for group in groups]
    if not any(written):
        return list(range(1, len(groups) + 1))
    numbers = [next(iter(each)) if len(each) == 1 else 1 for each in written]
    if sorted(set(numbers)) != numbers:
        raise NoPlan("its versions are offered in another order than they are numbered")
    return numbers


# -- charges ----------------------------------------------------------------------------------------------------------


class _Units:
    """What the meters of a product count."""

    def __init__(self, product: StripeObject, around: Around, meter_keys: Mapping[str, str]) -> None:
        self._product, self._around, self._meter_keys = product, around, meter_keys

    def __call__(self, meter: str | None) -> tuple[str, str, str | None]:
        """The unit, in the singular and the plural, and the key of a meter that is declared apart."""
        found = self._around.meters.get(str(meter))
        if found is None:
            raise NoPlan("a metered price has no meter")
        units = units_of(self._product, found)
        return units.removesuffix("s") or units, units, self._meter_keys.get(str(meter))


def units_of(product: Mapping[str, Any], meter: Mapping[str, Any]) -> str:
    """What a meter counts, in the plural: the end of `Alpaca.ai tokens`, else the meter's name."""
    shown, prefix = str(meter["display_name"]), f"{product['name']} "
    if shown.startswith(prefix):
        return shown.removeprefix(prefix)[:40] or "units"
    # A preview has it in the middle of a sentence: `API calls` stays, `Tokens` does not.
    return (shown.lower() if shown[1:].islower() else shown)[:40]


def charge_of(price: StripeObject, key: str, units: _Units) -> Fee | Usage:
    """A price as a charge of a plan.

    Raises:
        NoPlan: a plan cannot say what it costs.
    """
    recurring = price["recurring"]
    if recurring.get("trial_period_days"):
        raise NoPlan("a price has a trial of its own")
    if any(each.get("tax_behavior") in ("inclusive", "exclusive") for each in _in_currencies(price).values()):
        raise NoPlan("a price has a tax behavior")
    if any(each.get("custom_unit_amount") for each in _in_currencies(price).values()):
        raise NoPlan("a price lets the customer choose the amount")
    every: dict[str, Any] = {"key": key}
    if recurring["interval"] != "month":
        every["interval"] = recurring["interval"]
    if recurring["interval_count"] != 1:
        every["interval_count"] = recurring["interval_count"]
    try:
        if not _is_metered(price):
            if price.get("billing_scheme") == "tiered" or price.get("transform_quantity"):
                raise NoPlan("a fee has tiers or packages")
            return Fee(_per_currency(price, lambda each, code: _major(_unit_amount(each), code)), **every)
        unit, plural, meter = units(recurring.get("meter"))
        if meter is not None:
            every["meter"] = meter
        return Usage(unit, units=plural, **every, **_usage(price))
    except ValidationError as error:
        raise NoPlan(str(error.errors(include_url=False)[0]["msg"]).removeprefix("Value error, ")) from None


def _usage(price: StripeObject) -> dict[str, Any]:
    packages = price.get("transform_quantity")
    if price.get("billing_scheme") != "tiered":
        if packages:
            amounts = _per_currency(price, lambda each, code: _major(_unit_amount(each), code))
            return {"overage": Overage(amounts, per=packages["divide_by"], round=packages["round"])}
        return {"overage": _overage({code: _unit_amount(each) for code, each in _in_currencies(price).items()})}
    mode = price["tiers_mode"]
    by_currency = {code: each.get("tiers") for code, each in _in_currencies(price).items()}
    ends = [tier["up_to"] for tier in price.get("tiers") or ()]
    if not all(tiers and [tier["up_to"] for tier in tiers] == ends for tiers in by_currency.values()):
        raise NoPlan("its tiers end elsewhere in another currency")
    columns = [{code: (tiers or ())[place] for code, tiers in by_currency.items()} for place in range(len(ends))]
    said: dict[str, Any] = {}
    if mode == "graduated" and len(columns) > 1 and all(_is_free(tier) for tier in columns[0].values()):
        said["included"] = columns.pop(0)[next(iter(by_currency))]["up_to"]
        if len(columns) == 1 and not any(_flat(tier) for tier in columns[0].values()):
            return {**said, "overage": _overage({code: _unit_amount(tier) for code, tier in columns[0].items()})}
    tiers = []
    for column in columns:
        amounts, per = _quoted({code: _unit_amount(tier) for code, tier in column.items()})
        more: dict[str, Any] = {"per": per} if per != 1 else {}
        if (end := next(iter(column.values()))["up_to"]) is not None:
            more["up_to"] = end
        if any(_flat(tier) for tier in column.values()):
            more["flat"] = _one({code: _text(_major(_flat(tier), code)) for code, tier in column.items()})
        tiers.append(Tier(amounts, **more))
    return {**said, "tiers": tiers, **({"tiers_mode": mode} if mode != "graduated" else {})}


def _in_currencies(price: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """What a price costs by currency, its own first."""
    others = {code: each for code, each in (price.get("currency_options") or {}).items() if code != price["currency"]}
    return {price["currency"]: price, **others}


def _per_currency(price: StripeObject, amount: Any) -> Any:
    return _one({code: _text(amount(each, code)) for code, each in _in_currencies(price).items()})


def _one(amounts: Mapping[str, Exact]) -> Any:
    return dict(amounts) if len(amounts) > 1 else next(iter(amounts.values()))


def _unit_amount(there: Mapping[str, Any]) -> Decimal:
    """The amount of a price or tier in minor units, with all its digits."""
    for name in ("unit_amount_decimal", "unit_amount"):
        if there.get(name) is not None:
            return Decimal(str(there[name]))
    return Decimal(0)


def _flat(tier: Mapping[str, Any]) -> Decimal:
    for name in ("flat_amount_decimal", "flat_amount"):
        if tier.get(name) is not None:
            return Decimal(str(tier[name]))
    return Decimal(0)


def _is_free(tier: Mapping[str, Any]) -> bool:
    return not _unit_amount(tier) and not _flat(tier)


def _overage(minor: Mapping[str, Decimal]) -> Any:
    amounts, per = _quoted(minor)
    return Overage(amounts, per=per)


def _quoted(minor: Mapping[str, Decimal]) -> tuple[Any, int]:
    """Amounts in major units, for as many units as they take to be whole coins: 0.04 usd per 100 units."""
    per = 1
    while per < _MOST_UNITS and any(EXACT.multiply(amount, Decimal(per)) % 1 for amount in minor.values()):
        per *= 10
    if any(EXACT.multiply(amount, Decimal(per)) % 1 for amount in minor.values()):
        per = 1
    return _one({code: _text(_major(EXACT.multiply(each, Decimal(per)), code)) for code, each in minor.items()}), per


def _major(minor: Decimal, currency: str) -> Decimal:
    return money.major_units(minor, currency)


def _text(amount: Decimal) -> str:
    return money.decimal_text(amount)
