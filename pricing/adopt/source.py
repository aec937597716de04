"""A pricing model as the source of a program, in ruff's layout. Pure: the same model is always the same text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final

import money
from components.pricing import Amounts, Fee, Overage, Plan, Tier, Usage, Version

WIDTH: Final = 120
#: A shorter charge is written out wherever it is.
_LONG: Final = 40
_INDENT: Final = " " * 4


@dataclass(frozen=True)
class Name:
    """An expression that is written as it is: `pro.product.id`."""

    text: str


@dataclass(frozen=True)
class Call:
    """A call with its arguments: `Fee("100.00", interval="year")`."""

    function: str
    arguments: Sequence[Any] = ()
    keywords: Mapping[str, Any] = field(default_factory=dict)


Statement = tuple[str | None, Call]
"""A call, and the variable that its result is assigned to."""


def program(title: str, statements: Iterable[Statement], imports: Mapping[str, str]) -> str:
    """The source of a whole program.

    Args:
        title: its docstring.
        imports: the module of each name that the statements may use.
    """
    lines: list[str] = []
    used: set[str] = set()
    for variable, call in statements:
        used |= set(_functions(call))
        lines += _lines(call, _INDENT, f"{variable} = " if variable else "", "")
    by_module: dict[str, list[str]] = {"components.program": ["program"]}
    for name in sorted(used):
        by_module.setdefault(imports[name], []).append(name)
    return "\n".join(
        [
            *_wrapped(title),
            "",
            *(line for module in sorted(by_module) for line in _import(module, sorted(by_module[module]))),
            "",
            "with program():",
            *(lines or [f"{_INDENT}pass"]),
            "",
        ]
    )


def _wrapped(title: str) -> list[str]:
    return [f'"""{title}"""']


def hoisted(statements: Sequence[Statement], variable: Callable[[str], str]) -> list[Statement]:
    """The statements with usage charges in variables of their own, as a person writes them.

    Those that several plans or versions have in common, and those that make the text of a plan shorter so.

    Args:
        variable: a free variable for a name.
    """
    times = Counter(text for _, call in statements for text, _ in _usages(call))
    of_text: dict[str, str] = {}
    found: list[Statement] = []
    for assigned, call in statements:
        charges = dict(_usages(call))
        new = {text: usage for text, usage in charges.items() if text not in of_text}
        common = {text for text in new if times[text] > 1 and len(text) > _LONG}
        for text in common if not _is_shorter(call, new) else new:
            units = str(new[text].keywords.get("units") or f"{new[text].arguments[0]}s")
            of_text[text] = variable(units if times[text] > 1 else f"{call.arguments[0]}-{units}")
            found.append((of_text[text], new[text]))
        found.append((assigned, _replaced(call, of_text)))
    return found


def _is_shorter(call: Call, charges: Mapping[str, Call]) -> bool:
    """Whether a statement takes fewer lines with charges in variables."""
    names = dict.fromkeys(charges, "x" * 20)
    apart = sum(len(_lines(each, _INDENT, "x" * 20 + " = ", "")) for each in charges.values())
    return apart + len(_lines(_replaced(call, names), _INDENT, "", "")) < len(_lines(call, _INDENT, "", ""))


def _usages(value: Any) -> Iterator[tuple[str, Call]]:
    match value:
        case Call(function="Usage"):
            yield _flat(value), value
        case Call():
            for each in (*value.arguments, *value.keywords.values()):
                yield from _usages(each)
        case Mapping():
            for each in value.values():
                yield from _usages(each)
        case list():
            for each in value:
                yield from _usages(each)


def _replaced(value: Any, of_text: Mapping[str, str]) -> Any:
    match value:
        case Call(function="Usage") if (name := of_text.get(_flat(value))) is not None:
            return Name(name)
        case Call():
            keywords = {key: _replaced(each, of_text) for key, each in value.keywords.items()}
            return Call(value.function, [_replaced(each, of_text) for each in value.arguments], keywords)
        case Mapping():
            return {key: _replaced(each, of_text) for key, each in value.items()}
        case list():
            return [_replaced(each, of_text) for each in value]
    return value


def _import(module: str, names: Sequence[str]) -> Iterator[str]:
    line = f"from {module} import {', '.join(names)}"
    if len(line) <= WIDTH:
        yield line
        return
    yield f"from {module} import ("
    yield from (f"{_INDENT}{name}," for name in names)
    yield ")"


def _functions(value: Any) -> Iterator[str]:
    match value:
        case Call():
            yield value.function
            for each in (*value.arguments, *value.keywords.values()):
                yield from _functions(each)
        case Mapping():
            for each in value.values():
                yield from _functions(each)
        case list() | tuple():
            for each in value:
                yield from _functions(each)


# -- layout -----------------------------------------------------------------------------------------------------------


def _lines(value: Any, indent: str, before: str, after: str) -> list[str]:
    """An expression on as few lines as fit: whole, then a call's arguments on one line, then one entry a line."""
    flat = f"{indent}{before}{_flat(value)}{after}"
    entries = _entries(value)
    if not entries or (len(flat) <= WIDTH and not _has_versions(value)):
        return [flat]
    first, last = _brackets(value)
    inner = indent + _INDENT
    together = inner + ", ".join(f"{key}{_flat(each)}" for key, each in entries)
    if isinstance(value, Call) and len(together) <= WIDTH and not _has_versions(value):
        middle = [together]
    else:
        middle = [line for key, each in entries for line in _lines(each, inner, key, ",")]
    return [f"{indent}{before}{first}", *middle, f"{indent}{last}{after}"]


def _has_versions(value: Any) -> bool:
    """Whether several versions of a plan are in an expression: each is on a line of its own."""
    if isinstance(value, Mapping):
        return len(value) > 1 and all(isinstance(key, int) for key in value)
    return isinstance(value, Call) and any(_has_versions(each) for each in value.arguments)


def _brackets(value: Any) -> tuple[str, str]:
    if isinstance(value, Call):
        return f"{value.function}(", ")"
    return ("{", "}") if isinstance(value, Mapping) else ("[", "]")


def _entries(value: Any) -> list[tuple[str, Any]]:
    """The parts of an expression that can be on lines of their own, each with what is before it."""
    match value:
        case Call():
            return [("", each) for each in value.arguments] + [
                (f"{key}=", each) for key, each in value.keywords.items()
            ]
        case Mapping():
            return [(f"{_flat(key)}: ", each) for key, each in value.items()]
        case list() | tuple():
            return [("", each) for each in value]
    return []


def _flat(value: Any) -> str:
    match value:
        case Name():
            return value.text
        case str():
            return text(value)
        case bool() | None:
            return repr(value)
        case int():
            return f"{value:_}"
        case Call() | Mapping() | list() | tuple():
            first, last = _brackets(value)
            return f"{first}{', '.join(f'{key}{_flat(each)}' for key, each in _entries(value))}{last}"
    raise TypeError(f"{type(value).__name__} has no literal here")


def text(value: str) -> str:
    """A string literal in ruff's quotes: double ones, unless that takes more escapes."""
    quote = "'" if value.count('"') > value.count("'") else '"'
    escaped = "".join(
        f"\\{each}" if each in (quote, "\\") else each if each.isprintable() else _escape(each) for each in value
    )
    return f"{quote}{escaped}{quote}"


def _escape(character: str) -> str:
    return repr(character)[1:-1]


# -- the model --------------------------------------------------------------------------------------------------------


def versions(given: Mapping[int, Version]) -> Any:
    """A plan's versions: a plan alone if there is only the first."""
    if given.keys() == {1} and not given[1].archived:
        return plan(given[1].plan)
    return {number: _version(each) for number, each in given.items()}


def _version(version: Version) -> Any:
    how: dict[str, Any] = {}
    if version.rollout:
        how["rollout"] = version.rollout
    if version.archived:
        how["archived"] = True
    return Call("Version", [plan(version.plan)], how) if how else plan(version.plan)


def plan(given: Plan) -> Call:
    several = len(given.currencies) > 1
    default = given.currencies[0]
    keywords: dict[str, Any] = {}
    if given.fees:
        fees = [_fee(each, default) for each in given.fees]
        keywords["fees"] = fees if len(fees) > 1 else fees[0].arguments[0] if not fees[0].keywords else fees[0]
    if given.usage:
        keywords["usage"] = _one([_usage(each, default) for each in given.usage])
    if given.currency != "usd" and (not several or given.currency in given.currencies):
        keywords["currency"] = given.currency
    return Call("Plan", [given.name], keywords)


def _one(charges: list[Call]) -> Any:
    return charges[0] if len(charges) == 1 else charges


def _fee(fee: Fee, currency: str) -> Call:
    return Call("Fee", [_amounts(fee.amount, currency)], _differing(fee, Fee("1"), ("per", *_CHARGE)))


def _usage(usage: Usage, currency: str) -> Call:
    keywords: dict[str, Any] = {}
    if usage.units != f"{usage.unit}s":
        keywords["units"] = usage.units
    if usage.meter:
        keywords["meter"] = usage.meter
    if usage.included:
        keywords["included"] = usage.included
    if usage.overage:
        keywords["overage"] = _overage(usage.overage, currency)
    if usage.tiers:
        keywords["tiers"] = [_tier(each, currency) for each in usage.tiers]
    return Call(
        "Usage", [usage.unit], keywords | _differing(usage, Usage("unit", overage="1"), ("tiers_mode", *_CHARGE))
    )


def _overage(overage: Overage, currency: str) -> Any:
    how = _differing(overage, Overage("1"), ("per", "round"))
    amount = _amounts(overage.amount, currency)
    return Call("Overage", [amount], how) if how or isinstance(amount, dict) else amount


def _tier(tier: Tier, currency: str) -> Call:
    keywords = _differing(tier, Tier("1"), ("per", "up_to"))
    if tier.flat is not None:
        keywords["flat"] = _amounts(tier.flat, currency)
    return Call("Tier", [_amounts(tier.amount, currency)], keywords)


_CHARGE: Final = ("interval", "interval_count", "key", "product")


def _differing(value: Any, usual: Any, names: Iterable[str]) -> dict[str, Any]:
    return {name: getattr(value, name) for name in names if getattr(value, name) != getattr(usual, name)}


def _amounts(amounts: Amounts, currency: str) -> Any:
    if isinstance(amounts, Mapping):
        codes = sorted(amounts, key=lambda code: (code != currency, code))
        return {code: _amount(amounts[code], code) for code in codes}
    return _amount(amounts, currency)


def _amount(amount: Decimal, currency: str) -> str:
    """An amount in major units with the decimals of its currency: `100.00`, `0.0004`; zero is `0`."""
    whole, _, fraction = money.decimal_text(amount).partition(".")
    if amount == 0:
        return "0"
    fraction = fraction.ljust(money.places(currency), "0")
    return f"{whole}.{fraction}" if fraction else whole
