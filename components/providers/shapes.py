"""Stripe's own parameter types, read: `stripe.params` is the schema that our providers check against.

A `TypedDict` of stripe-python becomes a tree of small shapes, and the tree a pydantic validator. The rest of the
providers asks the same tree which fields there are, which of them an update can change and which an empty string
unsets. So every parameter of the pinned SDK is accepted and checked in a preview, and a new SDK brings its new
fields without a line of code here.
"""

from __future__ import annotations

import difflib
import sys
import types
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Annotated, Any, Literal, NotRequired, Union, get_args, get_origin

from pulumi.output import UNKNOWN
from pydantic import ConfigDict, PlainValidator, TypeAdapter, ValidationError, WrapValidator
from pydantic_core import PydanticCustomError
from typing_extensions import TypedDict, get_type_hints, is_typeddict

from components.providers.values import LARGEST_EXACT, MAX_DECIMALS, decimal_string, decimals, is_unknown
from components.sdk import load

Path = tuple[str | int, ...]


@dataclass(frozen=True)
class Scalar:
    """One value; `decimal` is an amount in minor units, `number` any other that need not be whole."""

    type: Literal["string", "integer", "number", "decimal", "boolean"]


@dataclass(frozen=True)
class Choice:
    """One of some strings, or (`or_integer`) a whole number."""

    values: tuple[str, ...]
    or_integer: bool = False


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
    name: str
    fields: Mapping[str, Field] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class IntegerOr:
    """`billing_cycle_anchor`: a timestamp when creating, an object when updating."""

    struct: Struct


Shape = Scalar | Choice | Array | Map | Struct | IntegerOr


# -- reading Stripe's types ---------------------------------------------------------------------------------------


def struct_of(reference: str) -> Struct:
    """The shape of a TypedDict named as `module:Name`."""
    module, _, name = reference.partition(":")
    return read_struct(load(module, name))


def read_struct(typed_dict: Any) -> Struct:
    """The shape of a TypedDict, without the request options that stripe-python mixes into its create types."""
    hints = get_type_hints(typed_dict, globalns=_namespace(typed_dict), include_extras=True)
    fields = {}
    for name, hint in hints.items():
        if name in _request_options():
            continue
        shape, clearable = _read(hint)
        # Not `__required_keys__`, which is wrong where annotations are strings.
        fields[name] = Field(shape, required=_origin_name(hint) != "NotRequired", clearable=clearable)
    return Struct(typed_dict.__name__, fields)


def _request_options() -> frozenset[str]:
    options = load("stripe._request_options", "RequestOptions")
    return frozenset(options.__annotations__)


def _namespace(typed_dict: Any) -> dict[str, Any]:
    # Two names that Stripe imports for type checkers only.
    return {
        **vars(sys.modules[typed_dict.__module__]),
        "StripeContext": load("stripe._stripe_context", "StripeContext"),
        "Mapping": Mapping,
    }


def _read(hint: Any) -> tuple[Shape, bool]:
    """The shape of an annotation, and whether an empty string is among its values."""
    origin = get_origin(hint)
    if _origin_name(hint) in ("NotRequired", "Required"):
        return _read(get_args(hint)[0])
    if origin in (Union, types.UnionType):
        return _read_union(get_args(hint))
    if origin is Literal:
        return _read_union((hint,))
    if origin in (list, tuple) or _origin_name(hint) == "Sequence":
        return Array(_read(get_args(hint)[0])[0]), False
    if origin is dict or _origin_name(hint) == "Mapping":
        return Map(_read(get_args(hint)[1])[0]), False
    if is_typeddict(hint):
        return read_struct(hint), False
    return Scalar(_SCALARS[hint]), False


def _origin_name(hint: Any) -> str:
    origin = get_origin(hint)
    return str(getattr(origin, "__name__", getattr(origin, "_name", "")))


_SCALARS: dict[Any, Literal["string", "integer", "number", "decimal", "boolean"]] = {
    str: "string",
    int: "integer",
    float: "number",
    bool: "boolean",
    Decimal: "decimal",
}


def _read_union(members: tuple[Any, ...]) -> tuple[Shape, bool]:
    """`Literal['']` makes it clearable; `Literal[...] | str` is narrowed to the literal."""
    choices: list[str] = []
    others: list[Any] = []
    for member in members:
        if get_origin(member) is Literal:
            choices += get_args(member)
        elif member is not type(None) and _origin_name(member) != "UntypedStripeObject":
            others.append(member)
    clearable = "" in choices
    values = tuple(choice for choice in choices if choice)
    if values:
        return Choice(values, or_integer=int in others), clearable
    [other] = others
    return _read(other)[0], clearable


def merge(create: Struct, update: Struct) -> Struct:
    """The fields of both: what creating or updating allows is allowed, and an update says what can be unset.

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
    return Struct(create.name, fields)


def _merge(old: Shape, new: Shape) -> Shape:
    match old, new:
        case Struct(), Struct():
            return merge(old, new)
        case Array(), Array():
            return Array(_merge(old.item, new.item))
        case Map(), Map():
            return Map(_merge(old.item, new.item))
        case Choice(), Choice():
            return Choice(tuple(dict.fromkeys(old.values + new.values)), old.or_integer or new.or_integer)
        case Scalar("integer"), Struct():
            return IntegerOr(new)
    if old != new:
        raise TypeError(f"Stripe creates with {old} and updates with {new}: the two cannot be merged")
    return old


def without(struct: Struct, paths: Iterable[str]) -> Struct:
    """The shape less some fields, each named by its path (`items.id` reaches into lists and maps)."""
    fields = dict(struct.fields)
    for path in paths:
        head, _, rest = path.partition(".")
        if not rest:
            fields.pop(head, None)
        elif head in fields:
            fields[head] = replace(fields[head], shape=_without(fields[head].shape, rest))
    return Struct(struct.name, fields)


def _without(shape: Shape, path: str) -> Shape:
    match shape:
        case Struct():
            return without(shape, [path])
        case Array():
            return Array(_without(shape.item, path))
        case Map():
            return Map(_without(shape.item, path))
    return shape


def at(shape: Shape, path: Path) -> Shape | None:
    """The shape at a property path, or None where there is none."""
    for part in path:
        match shape:
            case Struct(fields=fields) if part in fields:
                shape = fields[str(part)].shape
            case Array(item=item) | Map(item=item):
                shape = item
            case IntegerOr(struct=struct) if part in struct.fields:
                shape = struct.fields[str(part)].shape
            case _:
                return None
    return shape


# -- checking values ----------------------------------------------------------------------------------------------


class Schema:
    """Validates and normalises the properties of one kind of object."""

    def __init__(self, struct: Struct) -> None:
        self.struct = struct
        self._adapter: TypeAdapter[Any] = TypeAdapter(_pydantic(struct))

    def check(self, values: Mapping[str, Any]) -> tuple[dict[str, Any], list[tuple[Path, str]]]:
        """The values in canonical form, and everything wrong with them.

        What is wrong is left out of the values (`Unknown` stays), so that the rules that look at several fields
        can still run on the rest.
        """
        problems: list[tuple[Path, str]] = []
        current: Any = dict(values)
        while True:
            try:
                return self._adapter.validate_python(current), problems
            except ValidationError as error:
                for detail in error.errors(include_url=False):
                    path: Path = tuple(detail["loc"])
                    problems.append((path, self._sentence(path, detail)))
                    replacement = None if detail["type"] == "extra_forbidden" else UNKNOWN
                    current = _with(current, path, replacement)

    def _sentence(self, path: Path, detail: Any) -> str:
        match detail["type"]:
            case "missing":
                return "is required"
            case "extra_forbidden":
                parent = at(self.struct, path[:-1])
                names = list(parent.fields) if isinstance(parent, Struct) else []
                return "Stripe has no such parameter" + _suggestion(str(path[-1]), names)
            case "dict_type":
                return f"must be an object, not {_kind_of(detail['input'])}"
            case "list_type":
                return f"must be a list, not {_kind_of(detail['input'])}"
            case _:
                return str(detail["msg"])


def _with(values: Any, path: Path, replacement: Any) -> Any:
    """A copy of some plain data with one value replaced, or (None) taken out."""
    if not path:
        return replacement
    head, rest = path[0], path[1:]
    if isinstance(values, Mapping):
        copy = dict(values)
        if not rest and replacement is None:
            copy.pop(head, None)
        else:
            copy[head] = _with(copy.get(head), rest, replacement)
        return copy
    items = list(values)
    items[int(head)] = _with(items[int(head)], rest, replacement)
    return items


def _pydantic(shape: Shape) -> Any:
    return Annotated[_inner(shape), WrapValidator(_unknown_passes)]


def _unknown_passes(value: Any, handler: Callable[[Any], Any]) -> Any:
    return value if is_unknown(value) else handler(value)


def _inner(shape: Shape) -> Any:
    match shape:
        case Struct():
            annotations = {
                name: _pydantic(each.shape) if each.required else NotRequired[_pydantic(each.shape)]
                for name, each in shape.fields.items()
            }
            make: Any = TypedDict
            typed_dict = make(shape.name, annotations)
            typed_dict.__pydantic_config__ = ConfigDict(extra="forbid")
            return typed_dict
        case Array():
            return list[_pydantic(shape.item)]  # type: ignore[misc]
        case Map():
            return dict[str, _pydantic(shape.item)]  # type: ignore[misc]
        case IntegerOr():
            return Annotated[_inner(shape.struct), WrapValidator(_integer_passes)]
        case Choice():
            return Annotated[Any, PlainValidator(_choice(shape))]
        case Scalar():
            return Annotated[Any, PlainValidator(_CHECKS[shape.type])]


def _wrong(sentence: str) -> PydanticCustomError:
    # Braces would be taken for pydantic's own placeholders.
    return PydanticCustomError("stripe", "{sentence}", {"sentence": sentence})


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


def _integer_passes(value: Any, handler: Callable[[Any], Any]) -> Any:
    return handler(value) if isinstance(value, Mapping) else _integer(value)


def _choice(shape: Choice) -> Callable[[Any], Any]:
    def check(value: Any) -> Any:
        if isinstance(value, str) and value in shape.values:
            return value
        if shape.or_integer and isinstance(value, (int, float)):
            return _integer(value)
        allowed = ", ".join(shape.values) if len(shape.values) < 20 else f"the {len(shape.values)} that Stripe lists"
        allowed = f"a whole number or one of {allowed}" if shape.or_integer else f"one of {allowed}"
        if isinstance(value, str):
            raise _wrong(f"is {value!r}; must be {allowed}{_suggestion(value, shape.values)}")
        raise _wrong(f"must be {allowed}, not {_kind_of(value)}")

    return check


def _string(value: Any) -> str:
    if isinstance(value, str):
        return value
    raise _wrong(f"must be a string, not {_kind_of(value)}")


def _boolean(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    raise _wrong(f"must be true or false, not {_kind_of(value)}")


def _integer(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise _wrong(f"must be a whole number, not {_kind_of(value)}")
    if isinstance(value, float) and not value.is_integer():
        raise _wrong(f"is {value!r}; must be a whole number")
    if abs(value) > LARGEST_EXACT:
        raise _wrong(f"is beyond {LARGEST_EXACT}, the largest number that Pulumi carries exactly")
    return int(value)


def _decimal(value: Any) -> str:
    """An amount in minor units as a canonical string. https://docs.stripe.com/api/prices/create"""
    if isinstance(value, float) and not value.is_integer():
        raise _wrong(
            f"is the float {value!r}, which cannot hold every amount exactly; write it as a string, "
            f'"{Decimal(repr(value)):f}"'
        )
    if isinstance(value, (int, float)) and abs(value) > LARGEST_EXACT:
        raise _wrong(f"is beyond {LARGEST_EXACT}, the largest number that Pulumi carries exactly; write it as a string")
    text = decimal_string(value)
    if text is None:
        raise _wrong(
            f'is {value!r}; must be a plain decimal number in minor units, such as "0.04"'
            if isinstance(value, str)
            else f"must be a decimal number as a string, not {_kind_of(value)}"
        )
    if decimals(text) > MAX_DECIMALS:
        raise _wrong(f"is {text}; Stripe takes at most {MAX_DECIMALS} decimals")
    return text


def _number(value: Any) -> str:
    """Any other number (a percentage, a length) as a canonical string, so that no float goes further than here."""
    text = f"{Decimal(repr(value)):f}" if isinstance(value, float) else value
    canonical = decimal_string(text)
    if canonical is None:
        raise _wrong(f"must be a number, not {_kind_of(value)}" if not isinstance(value, str) else f"is {value!r}")
    return canonical


_CHECKS: dict[str, Callable[[Any], Any]] = {
    "string": _string,
    "integer": _integer,
    "number": _number,
    "decimal": _decimal,
    "boolean": _boolean,
}
