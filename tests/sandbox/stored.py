"""The private state of stored objects against its types in `sandbox/private.py`."""

from __future__ import annotations

from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints, is_typeddict

from sandbox import private


def check_private(value: Any, where: str = "") -> None:
    """Raise AssertionError where a private key, however deep, is not declared or is of another type."""
    if isinstance(value, list):
        for index, item in enumerate(value):
            check_private(item, f"{where}[{index}]")
    if not isinstance(value, dict):
        return
    kind = str(value.get("object"))
    declared = get_type_hints(private.BY_KIND[kind]) if kind in private.BY_KIND else {}
    for key, item in value.items():
        named = f"{where}.{key}" if where else f"{kind}.{key}"
        if key.startswith("_"):
            assert key in declared, f"{named} is not declared in sandbox/private.py"
            assert _is(item, declared[key]), f"{named} is {item!r}, not {declared[key]}"
        else:
            check_private(item, named)


def _is(value: Any, type_: Any) -> bool:
    if type_ is Any:
        return True
    if is_typeddict(type_):
        hints = get_type_hints(type_)
        return isinstance(value, dict) and set(value) == set(hints) and all(_is(value[k], t) for k, t in hints.items())
    if isinstance(type_, UnionType):
        return any(_is(value, each) for each in get_args(type_))
    if get_origin(type_) is list:
        return isinstance(value, list) and all(_is(item, get_args(type_)[0]) for item in value)
    if get_origin(type_) is dict:
        of_key, of_value = get_args(type_)
        return isinstance(value, dict) and all(_is(k, of_key) and _is(v, of_value) for k, v in value.items())
    if value is None or type_ is type(None):
        return value is None and type_ is type(None)
    return isinstance(value, type_) and (type_ is bool) == isinstance(value, bool)
