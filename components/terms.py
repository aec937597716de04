"""A plan's costs as parameters of Stripe's prices, and how two copies of one version differ. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

from pulumi import Input

import money
from components.pricing import Band, Fee, Plan, Rate, Usage
from components.providers.price import comparable
from money import decimal_text

Terms = Mapping[str, Any]
"""A charge's cost as the parameters of its price, and whether it is per seat."""


def terms(plan: Plan) -> dict[str, Terms]:
    """A plan's costs by the key of the charge, which may not change once published."""
    return {
        charge.key: {
            **terms_of(price_parameters(plan, charge, None)),
            **({"per": charge.per} if isinstance(charge, Fee) else {}),
        }
        for charge in plan.charges
    }


def terms_of(price: Mapping[str, Any]) -> Terms:
    """A price's cost from its arguments, without its labels and links."""
    there = comparable(dict(price))
    names = ("currency", "currency_options", "unit_amount_decimal", "tiers", "tiers_mode", "transform_quantity")
    recurring = there.get("recurring") or {}
    found = {name: there[name] for name in names if there.get(name) is not None}
    found["recurring"] = {name: recurring.get(name) for name in ("interval", "interval_count")}
    return {name: _exact(value, name) for name, value in found.items()}


def _exact(value: Any, name: str = "") -> Any:
    """Values with numbers in one spelling."""
    if isinstance(value, Mapping):
        return {key: _exact(each, key) for key, each in value.items()}
    if isinstance(value, list):
        return [_exact(each) for each in value]
    return decimal_text(Decimal(str(value))) if name.endswith("_decimal") else value


def differences(old: Mapping[str, Terms], new: Mapping[str, Terms], *, is_whole: bool = True) -> list[str]:
    """How a version differs in two places: `license 100.00 USD -> 120.00 USD`.

    An added currency is not a difference, because no customer pays in it yet.

    Args:
        is_whole: whether `old` is complete.
    """
    found = [f"{key} is gone" for key in old if key not in new]
    found += [f"{key} is new" for key in new if key not in old and is_whole]
    for key in new:
        if key not in old:
            continue
        before, after = (dict(_leaves(each)) for each in (old[key], new[key]))
        known = set(old[key].get("currency_options") or ())
        for path in sorted({*before, *after}):
            one, other = before.get(path), after.get(path)
            added = path.startswith("currency_options.") and path.split(".")[1] not in known
            # An older state does not say whether a fee is per seat.
            unsaid = path == "per" and one is None
            if one != other and not added and not unsaid:
                code = path.split(".")[1] if path.startswith("currency_options.") else str(old[key]["currency"])
                what = "" if path == "unit_amount_decimal" else f" {path}"
                found.append(f"{key}{what} {_shown(path, one, code)} -> {_shown(path, other, code)}")
    return found


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """The single values, by path: `tiers[1].up_to`."""
    if isinstance(value, Mapping):
        for name, each in value.items():
            yield from _leaves(each, f"{path}.{name}" if path else str(name))
    elif isinstance(value, list):
        for number, each in enumerate(value):
            yield from _leaves(each, f"{path}[{number}]")
    else:
        yield path, value


def _shown(path: str, value: Any, currency: str) -> str:
    if value is None:
        return "none"
    return money.format_minor(Decimal(value), currency) if path.endswith("_decimal") else str(value)


# -- parameters for Stripe --------------------------------------------------------------------------------------------


def price_parameters(plan: Plan, charge: Fee | Usage, meter: Input[str] | None) -> Any:
    """The parameters of a price for a charge's cost, in minor units, in every currency of the plan."""
    first, *others = plan.currencies
    rate = plan.rate(charge, first)
    recurring: dict[str, Any] = {"interval": charge.interval, "usage_type": "licensed"}
    if charge.interval_count != 1:
        recurring["interval_count"] = charge.interval_count
    if meter is not None:
        recurring |= {"usage_type": "metered", "meter": meter}
    parameters: dict[str, Any] = {"currency": first, "recurring": recurring, **_amounts(rate)}
    if rate.mode != "per_unit":
        parameters |= {"billing_scheme": "tiered", "tiers_mode": rate.mode}
    if rate.round:
        parameters["transform_quantity"] = {"divide_by": rate.divide_by, "round": rate.round}
    if others:
        parameters["currency_options"] = {code: _amounts(plan.rate(charge, code)) for code in others}
    return parameters


def _amounts(rate: Rate) -> dict[str, Any]:
    if rate.mode == "per_unit":
        return {"unit_amount_decimal": decimal_text(rate.bands[0].unit_amount)}
    return {"tiers": [_tier(band) for band in rate.bands]}


def _tier(band: Band) -> dict[str, Any]:
    flat = {} if band.flat_amount is None else {"flat_amount_decimal": decimal_text(band.flat_amount)}
    return {
        "up_to": "inf" if band.up_to is None else band.up_to,
        "unit_amount_decimal": decimal_text(band.unit_amount),
        **flat,
    }
