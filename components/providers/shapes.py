"""Reads Stripe's own parameter types: `stripe.params` is the schema that the providers check against.

A `TypedDict` of stripe-python becomes a tree of small shapes. The tree checks values, and tells the rest of the
providers which fields exist, which of them an update can change, and which an empty string unsets. So a preview accepts
and checks every parameter of the installed SDK, and a new SDK brings its new fields without a line of code here. An
annotation of an unknown form accepts any value; Stripe then says what is wrong with it.

A sentence about a value never repeats the value: Pulumi passes secrets to a provider in plain text.
"""

from __future__ import annotations

import builtins
import difflib
import functools
import json
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from types import SimpleNamespace
from typing import Any, Final, Literal, NotRequired, get_args, get_origin

from pulumi.output import UNKNOWN
from typing_extensions import get_type_hints, is_typeddict

from components.providers.values import LARGEST_EXACT, MAX_DECIMALS, decimal_string, decimals, is_unknown
from components.sdk import load

Path = tuple[str | int, ...]


@dataclass(frozen=True)
class Scalar:
    """One value; `decimal` is an amount in minor units, `number` any other that need not be whole."""

    type: Literal["string", "integer", "number", "decimal", "boolean"]


@dataclass(frozen=True)
class Choice:
    """One of some strings."""

    values: tuple[str, ...]


@dataclass(frozen=True)
class Array:
    item: Shape


@dataclass(frozen=True)
class Map:
    """An object whose keys the user chooses: metadata, currency options."""

    item: Shape


@dataclass(frozen=True)
class Field:
    """A parameter: `clearable` when Stripe takes an empty string to unset it."""

    shape: Shape
    required: bool = False
    clearable: bool = False


@dataclass(frozen=True)
class Struct:
    """An object with parameters of its own; `excluded` has those that are left out, with the reason."""

    name: str
    fields: Mapping[str, Field] = field(default_factory=dict, hash=False)
    excluded: Mapping[str, str] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class Either:
    """One of several shapes: `up_to` is a whole number or `inf`; an update may take another shape than a creation."""

    options: tuple[Shape, ...]


@dataclass(frozen=True)
class Anything:
    """Any value: the annotation has an unknown form."""


Shape = Scalar | Choice | Array | Map | Struct | Either | Anything


# -- reading Stripe's types ---------------------------------------------------------------------------------------


def struct_of(reference: str) -> Struct:
    """The shape of a TypedDict named as `module:Name`."""
    module, _, name = reference.partition(":")
    return read_struct(load(module, name))


def read_struct(typed_dict: Any) -> Struct:
    """The shape of a TypedDict, without the request options that stripe-python mixes into its create types."""
    options = load("stripe._request_options", "RequestOptions").__annotations__
    fields = {}
    for name, hint in _hints(typed_dict).items():
        if name not in options:
            shape, clearable = _read(hint)
            # Not `__required_keys__`, which is wrong where annotations are strings.
            required = _PRESENCE.get(_origin_name(hint), typed_dict.__total__)
            fields[name] = Field(shape, required, clearable)
    return Struct(typed_dict.__name__, fields)


_PRESENCE: Final = {"NotRequired": False, "Required": True}


class _Unresolved:
    """Stands for a name that Stripe imports for type checkers only."""

    def __class_getitem__(cls, _: Any) -> Any:
        return Any


class _Names(dict[str, Any]):
    def __missing__(self, name: str) -> Any:
        return _Unresolved


@functools.cache
def _names_in(module: str) -> _Names:
    return _Names({**vars(builtins), **vars(sys.modules[module])})


def _hints(typed_dict: Any) -> Mapping[str, Any]:
    names = _names_in(typed_dict.__module__)
    try:
        return get_type_hints(typed_dict, localns=names, include_extras=True)
    except Exception:  # noqa: BLE001 - whatever one annotation raises, read the others
        return {name: _hint(annotation, names) for name, annotation in typed_dict.__annotations__.items()}


def _hint(annotation: Any, names: Mapping[str, Any]) -> Any:
    alone = SimpleNamespace(__annotations__={"alone": annotation})
    try:
        return get_type_hints(alone, localns=names, include_extras=True)["alone"]
    except Exception:  # noqa: BLE001 - what this Python cannot evaluate is an unknown form
        return NotRequired[Any]


def _origin_name(hint: Any) -> str:
    origin = get_origin(hint)
    return str(getattr(origin, "__name__", getattr(origin, "_name", "")))


def _read(hint: Any) -> tuple[Shape, bool]:
    """The shape of an annotation, and whether an empty string is among its values."""
    arguments = get_args(hint)
    match _origin_name(hint):
        case "NotRequired" | "Required" | "ReadOnly" | "Annotated":
            return _read(arguments[0])
        case "Union" | "UnionType":
            return _read_union(arguments)
        case "Literal":
            return _read_union((hint,))
        case "list" | "tuple" | "Sequence":
            return Array(_read(arguments[0])[0]), False
        case "dict" | "Mapping":
            return Map(_read(arguments[1])[0]), False
    if is_typeddict(hint):
        return read_struct(hint), False
    return _SCALARS.get(hint, Anything()), False


_SCALARS: Final[Mapping[Any, Shape]] = {
    str: Scalar("string"),
    int: Scalar("integer"),
    float: Scalar("number"),
    bool: Scalar("boolean"),
    Decimal: Scalar("decimal"),
}


def _read_union(members: tuple[Any, ...]) -> tuple[Shape, bool]:
    """`Literal['']` makes it clearable; `Literal[...] | str` is narrowed to the literal."""
    literals = [each for member in members if get_origin(member) is Literal for each in get_args(member)]
    others = [member for member in members if get_origin(member) is not Literal and not _is_object(member)]
    choices = tuple(each for each in literals if isinstance(each, str) and each)
    options = [_read(member)[0] for member in others if not (choices and member is str)]
    options += [_SCALARS[type(each)] for each in literals if not isinstance(each, str)]
    return _one_of([*options, *([Choice(choices)] if choices else [])]), "" in literals


def _is_object(member: Any) -> bool:
    """Whether it is a class, such as StripeObject, whose objects Pulumi cannot carry."""
    kind = get_origin(member) or member
    return isinstance(kind, type) and kind not in (Any, object, _Unresolved) and _read(member)[0] == Anything()


def _one_of(options: Iterable[Shape]) -> Shape:
    different = tuple(dict.fromkeys(options))
    if not different or Anything() in different:
        return Anything()
    return different[0] if len(different) == 1 else Either(different)


def merge(create: Struct, update: Struct) -> Struct:
    """The fields of both types: either may allow a field, and an update says what can be unset.

    What creating requires stays required.
    """
    fields = dict(create.fields)
    for name, new in update.fields.items():
        old = fields.get(name)
        fields[name] = (
            replace(new, required=False)
            if old is None
            else Field(_merge(old.shape, new.shape), old.required, old.clearable or new.clearable)
        )
    return Struct(create.name, fields, {**create.excluded, **update.excluded})


def _merge(old: Shape, new: Shape) -> Shape:
    match old, new:
        case Struct(), Struct():
            return merge(old, new)
        case Array(), Array():
            return Array(_merge(old.item, new.item))
        case Map(), Map():
            return Map(_merge(old.item, new.item))
        case Choice(), Choice():
            return Choice(tuple(dict.fromkeys(old.values + new.values)))
    options = list(_options(old))
    for other in _options(new):
        alike = [n for n, each in enumerate(options) if type(each) is type(other) and not isinstance(each, Scalar)]
        if alike:
            options[alike[0]] = _merge(options[alike[0]], other)
        else:
            options.append(other)
    return _one_of(options)


def _options(shape: Shape) -> tuple[Shape, ...]:
    return shape.options if isinstance(shape, Either) else (shape,)


def without(struct: Struct, reasons: Mapping[str, str]) -> Struct:
    """The shape without some fields; `reasons` says why, by path (`items.id` reaches into lists and maps)."""
    fields, excluded = dict(struct.fields), dict(struct.excluded)
    for path, why in reasons.items():
        head, _, rest = path.partition(".")
        if not rest:
            fields.pop(head, None)
            excluded[head] = why
        elif head in fields:
            fields[head] = replace(fields[head], shape=_without(fields[head].shape, {rest: why}))
    return Struct(struct.name, fields, excluded)


def _without(shape: Shape, reasons: Mapping[str, str]) -> Shape:
    match shape:
        case Struct():
            return without(shape, reasons)
        case Array():
            return Array(_without(shape.item, reasons))
        case Map():
            return Map(_without(shape.item, reasons))
        case Either():
            return Either(tuple(_without(each, reasons) for each in shape.options))
    return shape


def at(shape: Shape, path: Path) -> Shape | None:
    """The shape at a property path, or None where there is none."""
    if not path:
        return shape
    match shape:
        case Struct(fields=fields) if path[0] in fields:
            return at(fields[str(path[0])].shape, path[1:])
        case Array(item=item) | Map(item=item):
            return at(item, path[1:])
        case Either(options=options):
            return next((found for each in options if (found := at(each, path)) is not None), None)
    return None


def fitting(shape: Shape, value: Any) -> Shape | None:
    """The shape, or its first option, that fits the form of a value: an object, a list, a number, a text."""
    return next((each for each in _options(shape) if _fits(each, value)), None)


def _fits(shape: Shape, value: Any) -> bool:
    match shape:
        case Struct() | Map():
            return isinstance(value, Mapping)
        case Array():
            return isinstance(value, (list, tuple))
        case Choice() | Scalar("string"):
            return isinstance(value, str)
        case Scalar("boolean"):
            return isinstance(value, bool)
        case Scalar("integer"):
            return isinstance(value, (int, float)) and not isinstance(value, bool)
    return not isinstance(value, (Mapping, list, tuple, bool))


# -- checking values ----------------------------------------------------------------------------------------------


class _Wrong(Exception):
    """Why a value is not of its shape, in a sentence without the value."""


@dataclass(frozen=True)
class Schema:
    """Checks and normalises the properties of one kind of object."""

    struct: Struct

    def check(self, values: Mapping[str, Any]) -> tuple[dict[str, Any], list[tuple[Path, str]]]:
        """The values in canonical form, and everything wrong with them.

        UNKNOWN replaces what is wrong, so that rules that look at several fields can still run on the rest. Such values
        are for those rules alone.
        """
        problems: list[tuple[Path, str]] = []
        return _struct(self.struct, values, (), problems), problems


def _checked(shape: Shape, value: Any, path: Path, problems: list[tuple[Path, str]]) -> Any:
    if is_unknown(value):
        return value
    try:
        match shape:
            case Anything():
                return value
            case Scalar() if _fits(shape, value):
                return _CHECKS[shape.type](value)
            case Choice(values=choices) if isinstance(value, str) and value in choices:
                return value
            case Struct() if isinstance(value, Mapping):
                return _struct(shape, value, path, problems)
            case Map(item=item) if isinstance(value, Mapping):
                return {str(key): _checked(item, each, (*path, str(key)), problems) for key, each in value.items()}
            case Array(item=item) if isinstance(value, (list, tuple)):
                return [_in_list(item, each, (*path, index), problems) for index, each in enumerate(value)]
            case Either():
                return _either(shape, value, path, problems)
        raise _Wrong(_must_be(shape, value))
    except _Wrong as wrong:
        problems.append((path, str(wrong)))
        return UNKNOWN


def _struct(shape: Struct, values: Mapping[str, Any], path: Path, problems: list[tuple[Path, str]]) -> dict[str, Any]:
    found = {}
    for name, value in values.items():
        if name in shape.fields:
            found[name] = _checked(shape.fields[name].shape, value, (*path, name), problems)
        elif name in shape.excluded:
            problems.append(((*path, name), f"is not an argument here: {shape.excluded[name]}"))
        else:
            problems.append(((*path, name), f"Stripe has no such parameter{_suggestion(name, shape.fields)}"))
    for name, each in shape.fields.items():
        if each.required and name not in values:
            found[name] = UNKNOWN
            problems.append(((*path, name), "is required"))
    return found


def _in_list(item: Shape, value: Any, path: Path, problems: list[tuple[Path, str]]) -> Any:
    if value == "":
        problems.append((path, "is empty; remove it from the list"))
        return UNKNOWN
    return _checked(item, value, path, problems)


def _either(shape: Either, value: Any, path: Path, problems: list[tuple[Path, str]]) -> Any:
    options = [each for each in shape.options if _fits(each, value)]
    for each in options:
        wrong: list[tuple[Path, str]] = []
        found = _checked(each, value, path, wrong)
        if not wrong:
            return found
        if len(options) == 1 and not isinstance(each, Choice):
            problems += wrong
            return found
    raise _Wrong(_must_be(shape, value))


def _must_be(shape: Shape, value: Any) -> str:
    words = [word for each in _options(shape) if isinstance(each, Choice) for word in each.values]
    if words and isinstance(value, str):
        return f"must be {_wanted(shape)}{_suggestion(value, words)}"
    return f"must be {_wanted(shape)}, not {_kind_of(value)}"


def _wanted(shape: Shape) -> str:
    match shape:
        case Scalar():
            return _NAMES[shape.type]
        case Choice(values=values):
            if len(values) >= 20:
                return f"one of the {len(values)} that Stripe lists"
            return f"one of {', '.join(values)}" if len(values) > 1 else json.dumps(values[0])
        case Array():
            return "a list"
        case Either(options=options):
            return " or ".join(_wanted(each) for each in options)
        case Struct(fields=fields) if len(fields) == 1:
            [(name, each)] = fields.items()
            if isinstance(each.shape, Choice):
                return f"an object such as {json.dumps({name: each.shape.values[0]})}"
    return "an object"


def _kind_of(value: object) -> str:
    match value:
        case bool():
            return "true or false"
        case int() | float():
            return "a number"
        case str():
            return "a string"
        case None:
            return "nothing"
        case Mapping():
            return "an object"
    return "a list"


def _suggestion(given: str, names: Iterable[str]) -> str:
    close = difflib.get_close_matches(given, list(names), n=1)
    return f"; did you mean {close[0]}?" if close else ""


def _integer(value: Any) -> int:
    if isinstance(value, float) and not value.is_integer():
        raise _Wrong("must be a whole number, not a fraction")
    if abs(value) > LARGEST_EXACT:
        raise _Wrong(f"is beyond {LARGEST_EXACT}, the largest number that Pulumi carries exactly")
    return int(value)


def _decimal(value: Any) -> str:
    """An amount in minor units as a canonical string. https://docs.stripe.com/api/prices/create"""
    if isinstance(value, float) and not value.is_integer():
        raise _Wrong('is a float, which cannot hold every amount exactly; write it as a string, such as "0.04"')
    if isinstance(value, (int, float)) and abs(value) > LARGEST_EXACT:
        raise _Wrong(f"is beyond {LARGEST_EXACT}, the largest number that Pulumi carries exactly; write it as a string")
    text = decimal_string(value)
    if text is None:
        raise _Wrong('must be a plain decimal number in minor units, such as "0.04"')
    if decimals(text) > MAX_DECIMALS:
        raise _Wrong(f"has {decimals(text)} decimals; Stripe takes at most {MAX_DECIMALS}")
    return text


def _number(value: Any) -> str:
    """Any other number (a percentage, a length) as a canonical string, so that no float gets any further."""
    text = decimal_string(f"{Decimal(repr(value)):f}" if isinstance(value, float) else value)
    if text is None:
        raise _Wrong("must be a plain number")
    return text


_CHECKS: Final[Mapping[str, Callable[[Any], Any]]] = {
    "string": str,
    "boolean": bool,
    "integer": _integer,
    "number": _number,
    "decimal": _decimal,
}
_NAMES: Final[Mapping[str, str]] = {
    "string": "a string",
    "boolean": "true or false",
    "integer": "a whole number",
    "number": "a number",
    "decimal": "a decimal number as a string",
}
