"""Stripe's own description of its API: its operations, the parameters of requests, what can be expanded.

The data is `data/stripe-openapi.json.gz` (see `data/README.md` for its source and licence). Parameters are validated as
Stripe does: unknown nested ones too, and the first mistake in the order missing, unknown, wrong is reported.
"""

from __future__ import annotations

import copy
import gzip
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final

from .errors import StripeError, refuse, within

Check = Callable[[Any, str], Any]
"""Takes a raw value and the parameter's name as Stripe writes it; returns the typed value or raises a StripeError."""

#: The described version, which is also the default for a request without the header.
API_VERSION: Final = "2026-08-26.dahlia"

_INTEGER = re.compile(r"\A[+-]?[0-9]{1,18}\Z")
_DECIMAL = re.compile(r"\A[+-]?[0-9]{1,30}(\.[0-9]{0,30})?\Z|\A[+-]?\.[0-9]{1,30}\Z")
_DATA = Path(__file__).parent / "data" / "stripe-openapi.json.gz"
_BESIDE = Path(__file__).parent / "data" / "beside.json"
_PATHS = Path(__file__).parent / "data" / "stripe-paths.txt.gz"


@cache
def document() -> dict[str, Any]:
    """The whole description, as data."""
    loaded: dict[str, Any] = json.loads(gzip.decompress(_DATA.read_bytes()))
    return loaded


@cache
def _blank(name: str) -> dict[str, Any]:
    schema, empty = document()["components"]["schemas"].get(name, {}), {"boolean": False, "integer": 0}
    needed = {field for field in schema.get("required", ()) if schema["properties"][field].get("type") in empty}
    return {
        field: None if described.get("nullable") else empty[described["type"]]
        for field, described in schema.get("properties", {}).items()
        if described.get("nullable") or field in needed
    }


def blank(name: str) -> dict[str, Any]:
    """An object with default fields: null if Stripe's description allows it, else False and 0.

    Fields without such a value (ids, lists, hashes, enums) are omitted: the caller must set them, and all fields of an
    object that is not described.
    """
    return dict(_blank(name))


@cache
def stripe_paths() -> tuple[tuple[tuple[str, ...], frozenset[str]], ...]:
    """(segments of a path, methods) of every endpoint that Stripe has; read only when a request finds no route."""
    found = []
    for line in gzip.decompress(_PATHS.read_bytes()).decode("ascii").splitlines():
        path, *methods = line.split(" ")
        found.append((tuple(path.split("/")), frozenset(methods)))
    return tuple(found)


# -- beside the description -------------------------------------------------------------------------------------------


@cache
def beside() -> dict[str, Any]:
    """What stripe-python has but the description lacks (`data/beside.json`): operations, parameters and values by
    `POST /v1/prices` and dotted name, and the kinds behind ids."""
    loaded: dict[str, Any] = json.loads(_BESIDE.read_bytes())
    definitions = loaded["definitions"]

    def resolved(value: Any) -> Any:
        if isinstance(value, list):
            return [resolved(item) for item in value]
        if not isinstance(value, dict):
            return value
        if isinstance(value.get("$ref"), str):
            return resolved(definitions[value["$ref"]])
        return {name: resolved(item) for name, item in value.items()}

    return {name: resolved(part) for name, part in loaded.items() if name != "definitions"}


def _places(schema: dict[str, Any], name: str) -> Iterator[dict[str, Any]]:
    """The properties that contain the last part of a dotted name, through arrays and alternatives."""
    for alternative in schema.get("anyOf", ()):
        yield from _places(alternative, name)
    if schema.get("type") == "array":
        yield from _places(schema["items"], name)
    if schema.get("type") == "object":
        head, _, rest = name.partition(".")
        yield from _places(schema["properties"][head], rest) if rest else (schema["properties"],)


def _add_values(schema: dict[str, Any], values: Sequence[str]) -> None:
    """Allow more values of a property, also through arrays and alternatives."""
    for part in (*schema.get("anyOf", ()), *([schema["items"]] if "items" in schema else ())):
        _add_values(part, values)
    if schema.get("enum", [""]) != [""]:
        schema["enum"] = [*schema["enum"], *values]


def operation(method: str, path: str) -> dict[str, Any]:
    """The parameters of a request, query and body together, as one schema of a hash."""
    name = f"{method} {path}"
    if name in beside()["operations"]:
        found: dict[str, Any] = beside()["operations"][name]
        return found
    described = document()["paths"][path][method.lower()]
    properties: dict[str, Any] = {}
    required: list[str] = []
    for parameter in described.get("parameters", ()):
        if parameter["in"] == "query":
            properties[parameter["name"]] = parameter["schema"]
            if parameter.get("required"):
                required.append(parameter["name"])
    for content in described.get("requestBody", {}).get("content", {}).values():
        properties.update(content["schema"].get("properties", {}))
        required.extend(content["schema"].get("required", ()))
    whole = copy.deepcopy({"type": "object", "properties": properties, "required": required})
    for where, extra in beside()["parameters"].get(name, {}).items():
        for properties in _places(whole, where):
            properties[where.rpartition(".")[2]] = extra
    for where, more in beside()["values"].get(name, {}).items():
        for properties in _places(whole, where):
            _add_values(properties[where.rpartition(".")[2]], more)
    return whole


@cache
def parameters(method: str, path: str) -> Check:
    """The check of one operation's parameters."""
    return _object(operation(method, path))


@cache
def control_parameters(method: str, name: str) -> Check:
    """The check of a control request's parameters: `POST clock` is `POST /_sandbox/clock`."""
    return _object(beside()["control"].get(f"{method} {name}", {}))


# -- checks -----------------------------------------------------------------------------------------------------------


def _compile(schema: Mapping[str, Any]) -> Check:
    if schema.get("x-any"):
        return _anything
    if schema.get("x-null"):
        otherwise = _compile({**schema, "x-null": False})
        return lambda value, param: None if value in (None, "") else otherwise(value, param)
    if "anyOf" in schema:
        return _any_of(schema["anyOf"])
    kind = schema.get("type")
    if kind == "object":
        return _object(schema)
    if kind == "array":
        return _array(schema)
    if kind == "integer":
        return _integer(schema)
    if kind == "boolean":
        return _boolean
    if kind == "number":
        return _number(schema)
    return _string(schema)


def _object(schema: Mapping[str, Any]) -> Check:
    bounds = beside()["bounds"]
    properties = {
        name: _compile({**each, **bounds.get(name, {})}) for name, each in schema.get("properties", {}).items()
    }
    required = tuple(schema.get("required", ()))
    more = schema.get("additionalProperties")
    other = _compile(more) if isinstance(more, Mapping) else None
    allowed, needed = frozenset(properties), frozenset(required)

    def check(value: Any, param: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise refuse("hash", param=param)
        if not needed <= value.keys():
            absent = next(name for name in required if name not in value)
            raise refuse("missing", param=within(param, absent))
        if other is None and not value.keys() <= allowed:
            strange = [within(param, name) for name in value if name not in properties]
            if len(strange) == 1:
                raise refuse("unknown", param=strange[0])
            raise refuse("unknown_many", param=strange[0], params=", ".join(strange))
        result: dict[str, Any] = {}
        for name, item in value.items():
            inner = within(param, name)
            if item == "" and name in needed:
                raise refuse("empty", param=inner)
            checker = properties.get(name, other)
            assert checker is not None
            result[name] = checker(item, inner)
        return result

    return check


def _array(schema: Mapping[str, Any]) -> Check:
    inner_check = _compile(schema["items"])

    def item_check(item: Any, param: str) -> Any:
        if item == "":
            raise refuse("empty", param=param)
        return inner_check(item, param)

    def check(value: Any, param: str) -> list[Any]:
        if isinstance(value, dict) and value and all(k.isascii() and k.isdigit() and len(k) < 10 for k in value):
            # Form bodies write lists as hashes with indexes; the error names the client's index.
            return [item_check(value[key], f"{param}[{key}]") for key in sorted(value, key=int)]
        if not isinstance(value, list):
            raise refuse("array", param=param)
        return [item_check(item, f"{param}[{index}]") for index, item in enumerate(value)]

    return check


def _string(schema: Mapping[str, Any]) -> Check:
    choices = tuple(schema.get("enum", ()))
    most = schema.get("maxLength")
    strict = schema.get("x-strict", False)
    if schema.get("format") == "decimal":
        return _decimal

    def check(value: Any, param: str) -> str:
        if isinstance(value, (dict, list)):
            raise refuse("string", param=param, value=_shown(json.dumps(value)))
        if not isinstance(value, str):
            if strict:
                raise refuse("string", param=param, value=_shown(value))
            # JSON bodies: Stripe accepts numbers for strings.
            value = json.dumps(value)
        if choices:
            if value not in choices:
                raise refuse("enum", param=param, choices=choices_in_words(choices))
        elif most is not None and len(value) > most:
            raise refuse("too_long", param=param, value=_shown(value), most=most)
        return str(value)

    return check


def _anything(value: Any, param: str) -> Any:
    """Left unchanged: /v2 validates some parts later than the rest."""
    return value


def _integer(schema: Mapping[str, Any]) -> Check:
    def check(value: Any, param: str) -> int:
        if isinstance(value, bool) or not isinstance(value, (int, str)) or not _INTEGER.match(str(value)):
            raise refuse("integer", param=param, value=_shown(value))
        return int(value)

    return _bounded(schema, check)


def _bounded(schema: Mapping[str, Any], number: Check) -> Check:
    """The check of a number with a minimum or a maximum."""
    lowest, highest = schema.get("minimum"), schema.get("maximum")

    def check(value: Any, param: str) -> Any:
        found = number(value, param)
        if lowest is not None and found < lowest:
            raise refuse("out_of_range", param=param, rule=f"at least {lowest}")
        if highest is not None and found > highest:
            raise refuse("out_of_range", param=param, rule=f"at most {highest}")
        return found

    return number if lowest is None and highest is None else check


def _boolean(value: Any, param: str) -> bool:
    if value is True or value in ("true", "True", "1"):
        return True
    if value is False or value in ("false", "False", "0"):
        return False
    raise refuse("boolean", param=param, value=_shown(value))


def _decimal(value: Any, param: str) -> str:
    """Decimals stay text: a float would lose the twelfth decimal place."""
    if isinstance(value, bool) or not isinstance(value, (int, str)) or (value != "" and not _DECIMAL.match(str(value))):
        raise refuse("decimal", param=param, value=_shown(value))
    return str(value)


def _number(schema: Mapping[str, Any]) -> Check:
    def check(value: Any, param: str) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float, str)) or not _DECIMAL.match(str(value)):
            raise refuse("number", param=param, value=_shown(value))
        return float(value)

    return _bounded(schema, check)


def _any_of(alternatives: list[Mapping[str, Any]]) -> Check:
    checks = [(alternative, _compile(alternative)) for alternative in alternatives]

    def check(value: Any, param: str) -> Any:
        problem: StripeError | None = None
        best = -1
        for alternative, attempt in checks:
            try:
                return attempt(value, param)
            except StripeError as refused:
                closeness = _closeness(alternative, value)
                if closeness > best:
                    problem, best = refused, closeness
        assert problem is not None
        raise problem

    return check


def _closeness(schema: Mapping[str, Any], value: Any) -> int:
    """The alternative that the client meant, whose mistake is reported."""
    kind = schema.get("type")
    if isinstance(value, list) or (isinstance(value, dict) and value and all(key.isdigit() for key in value)):
        return 3 if kind == "array" else 2 if kind == "object" else 0
    if isinstance(value, dict):
        return 3 if kind == "object" else 1 if kind == "array" else 0
    if kind in ("object", "array"):
        return 0
    if kind == "string" and schema.get("enum") == [""]:
        return 1
    return 3 if kind == "integer" else 2


@cache
def _recorded_orders() -> dict[frozenset[str], list[str]]:
    """Values that Stripe lists in an order other than its description's (recorded)."""
    return {frozenset(order): order for order in beside()["orders"]}


def choices_in_words(choices: tuple[str, ...]) -> str:
    """The values of a parameter, as Stripe lists them in a refusal."""
    named: Sequence[str] = [choice for choice in choices if choice != ""]
    named = _recorded_orders().get(frozenset(named), named)
    if not named:
        return "empty"
    if len(named) == 1:
        return named[0]
    if len(named) == 2:
        return f"one of {named[0]} or {named[1]}"
    return "one of " + ", ".join(named[:-1]) + ", or " + named[-1]


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 60 else text[:30] + "..." + text[-10:]


# -- what can be expanded ---------------------------------------------------------------------------------------------


@cache
def expandable(object_name: str) -> Mapping[str, str | None]:
    """The fields of an object that `expand` may name, with the kind behind the id, or None if not described."""
    schemas = document()["components"]["schemas"]
    schema = schemas.get(object_name)
    declared: Mapping[str, str] = beside()["references"].get(object_name, {})
    if schema is None:
        return declared
    result: dict[str, str | None] = {}
    for name in schema.get("x-expandableFields", ()):
        target: str | None = None
        property_schema = schema["properties"].get(name, {})
        if property_schema.get("type") == "array":
            property_schema = property_schema.get("items", {})
        for alternative in property_schema.get("anyOf", ()):
            reference = alternative.get("$ref")
            if reference is not None and not reference.rsplit("/", 1)[1].startswith("deleted_"):
                target = reference.rsplit("/", 1)[1]
        result[name] = target
    return {**result, **declared}
