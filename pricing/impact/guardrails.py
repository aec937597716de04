"""Limits on how a change may affect bills, from the stack's config, and acknowledgements of exceeded ones.

stripe-pricing:guardrails:
  largestIncrease: 25%        # of one customer's bill
  customersPayingMore: 40%    # of those who move
  revenueDown: 2%             # of what they pay a month together, in any currency
  revenueUp: 20%
stripe-pricing:acknowledged:
  - alpaca-ai@2 customersPayingMore
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from components.settings import NAMESPACE
from pricing.impact.comparison import CurrencyImpact, Impact


class GuardrailError(ValueError):
    """The stack's config has an invalid limit; the message is one line."""


@dataclass(frozen=True)
class Exceeded:
    """An exceeded limit; `name` acknowledges it."""

    name: str
    sentence: str
    acknowledged: bool


def _largest_increase(impact: CurrencyImpact) -> Decimal:
    return max((each.percent for each in impact.customers if each.percent is not None), default=Decimal(0))


def _paying_more(impact: CurrencyImpact) -> Decimal:
    return Decimal(100) * impact.more / len(impact.customers) if impact.customers else Decimal(0)


def _revenue_up(impact: CurrencyImpact) -> Decimal:
    return Decimal(100) * (impact.after - impact.before) / impact.before if impact.before else Decimal(0)


_LIMITS: Final[Mapping[str, tuple[str, Callable[[CurrencyImpact], Decimal]]]] = {
    "largestIncrease": ("one customer pays {} more", _largest_increase),
    "customersPayingMore": ("{} of the customers pay more", _paying_more),
    "revenueDown": ("together they pay {} less", lambda impact: -_revenue_up(impact)),
    "revenueUp": ("together they pay {} more", _revenue_up),
}


def exceeded(impact: Impact, config: Mapping[str, Any]) -> list[Exceeded]:
    """The limits that a change exceeds.

    Args:
        config: the stack's, as in its file.

    Raises:
        GuardrailError: a limit or an acknowledgement is invalid.
    """
    limits, meant = _limits(config), _acknowledged(config)
    found = []
    for name, limit in limits.items():
        sentence, measure = _LIMITS[name]
        worst = max(((measure(each), each.currency) for each in impact.currencies), default=None)
        if worst is not None and worst[0] > limit:
            told = sentence.format(f"{worst[0]:,.1f}%")
            found.append(
                Exceeded(
                    f"{impact.new} {name}",
                    f"{told} ({worst[1].upper()}), and {NAMESPACE}:guardrails allows {name} {limit.normalize():f}%",
                    f"{impact.new} {name}" in meant,
                )
            )
    return found


def idle_acknowledgements(impact: Impact, config: Mapping[str, Any], found: list[Exceeded]) -> list[str]:
    """Acknowledgements for this version of limits that it does not exceed: they would hide the next one."""
    names = {each.name for each in found}
    return sorted(name for name in _acknowledged(config) if name.split(" ")[0] == impact.new and name not in names)


def _limits(config: Mapping[str, Any]) -> dict[str, Decimal]:
    given = config.get(f"{NAMESPACE}:guardrails") or {}
    if not isinstance(given, Mapping):
        raise GuardrailError(f"{NAMESPACE}:guardrails must map limits to percentages: {{largestIncrease: 25%}}")
    found = {}
    for name, value in given.items():
        if name not in _LIMITS:
            raise GuardrailError(f"{NAMESPACE}:guardrails has no limit {name}; there are {', '.join(_LIMITS)}")
        try:
            limit = Decimal(str(value).strip().removesuffix("%"))
        except InvalidOperation:
            limit = Decimal("NaN")
        if isinstance(value, bool) or not limit.is_finite() or limit < 0:
            raise GuardrailError(f"{NAMESPACE}:guardrails: {name} is {value!r}; it must be a percentage such as 25%")
        found[str(name)] = limit
    return found


def _acknowledged(config: Mapping[str, Any]) -> list[str]:
    given = config.get(f"{NAMESPACE}:acknowledged") or []
    if not isinstance(given, list) or not all(isinstance(name, str) for name in given):
        raise GuardrailError(f"{NAMESPACE}:acknowledged must be a list of names: [alpaca-ai@2 largestIncrease]")
    for name in given:
        if name.split(" ")[-1] not in _LIMITS or "@" not in name:
            raise GuardrailError(
                f"{NAMESPACE}:acknowledged: {name!r} must name a version and a limit, as the report does: "
                "alpaca-ai@2 largestIncrease"
            )
    return given
