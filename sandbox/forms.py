"""Bytes to parameters: form bodies with nested brackets, query strings, JSON. It trusts nothing and types nothing."""

from __future__ import annotations

import json
import re
from functools import lru_cache
from typing import Any, Final
from urllib.parse import unquote_to_bytes

from .errors import refuse

#: More than Stripe's API ever needs; a larger request is an attack or a mistake.
MAX_DEPTH = 20
MAX_PAIRS = 20_000
MAX_BODY = 8 * 1024 * 1024

_KEY = re.compile(r"\A([^\[\]]+)((?:\[[^\[\]]*\])*)\Z")
_SEGMENT = re.compile(r"\[([^\[\]]*)\]")


def decode_form(raw: bytes) -> dict[str, Any]:
    """`a[0][b]=5&expand[]=c` -> `{"a": {"0": {"b": "5"}}, "expand": ["c"]}`; every leaf is a string."""
    root: dict[str, Any] = {}
    if not raw:
        return root
    pairs = raw.split(b"&")
    if len(pairs) > MAX_PAIRS:
        raise refuse("body", reason=f"it has {len(pairs)} parameters, more than {MAX_PAIRS}")
    for pair in pairs:
        if not pair:
            continue
        name, _, value = pair.partition(b"=")
        _insert(root, _text(name), _text(value))
    result = _plain(root)
    assert isinstance(result, dict)
    return result


def decode_json(raw: bytes) -> dict[str, Any]:
    """A JSON object; `{}` for an empty body."""
    if not raw.strip():
        return {}
    try:
        value = json.loads(raw.decode("utf-8"), parse_constant=_not_a_number)
    except (ValueError, RecursionError) as problem:
        raise refuse("body", reason="it is not valid JSON") from problem
    if not isinstance(value, dict):
        raise refuse("body", reason="it is not a JSON object")
    _check_depth(value)
    if b"\\u" in raw:
        _check_strings(value)
    return value


def _not_a_number(name: str) -> Any:
    raise ValueError(name)


def _check_depth(value: Any) -> None:
    level: list[Any] = [value]
    for _ in range(MAX_DEPTH):
        level = [
            child
            for node in level
            for child in (node.values() if type(node) is dict else node)
            if type(child) is dict or type(child) is list
        ]
        if not level:
            return
    raise refuse("body", reason=f"it is nested deeper than {MAX_DEPTH} levels")


def _check_strings(value: Any) -> None:
    """Refuse half a surrogate pair: a JSON escape can express it, but it cannot be stored as text."""
    if isinstance(value, str):
        try:
            value.encode("utf-8")
        except UnicodeEncodeError as problem:
            raise refuse("body", reason="it holds half of a surrogate pair") from problem
    elif isinstance(value, dict):
        for key, item in value.items():
            _check_strings(key)
            _check_strings(item)
    elif isinstance(value, list):
        for item in value:
            _check_strings(item)


def _text(raw: bytes) -> str:
    raw = raw.replace(b"+", b" ")
    try:
        return (unquote_to_bytes(raw) if b"%" in raw else raw).decode("utf-8")
    except UnicodeDecodeError as problem:
        raise refuse("body", reason="it is not valid UTF-8") from problem


class _Node(dict[str, Any]):
    """A bracketed parameter under construction; `appended` has the elements of `[]`."""

    def __init__(self) -> None:
        super().__init__()
        self.appended: list[Any] = []


def _parts(name: str) -> tuple[str, tuple[str, ...]] | None:
    """`a[0][b]` -> `a`, (`0`, `b`)."""
    match = _KEY.match(name)
    return None if match is None else (match.group(1), tuple(_SEGMENT.findall(match.group(2))))


#: The same few hundred names repeat all the time; long ones do not, and would fill the cache.
_parts_of_short = lru_cache(maxsize=2000)(_parts)
_SHORT: Final = 100


def _insert(root: dict[str, Any], name: str, value: str) -> None:
    parts = _parts_of_short(name) if len(name) <= _SHORT else _parts(name)
    if parts is None:
        # Stripe takes such a name literally, as an unknown parameter.
        root[name] = value
        return
    head, path = parts
    if len(path) > MAX_DEPTH:
        raise refuse("body", reason=f"{head} is nested deeper than {MAX_DEPTH} levels")
    if not path:
        if isinstance(root.get(name), _Node):
            raise refuse("hash", param=name)
        root[name] = value
        return
    node = _child(root, head, name)
    for index, segment in enumerate(path[:-1]):
        if segment:
            node = _child(node, segment, name)
        else:
            # `tiers[][up_to]=1&tiers[][unit_amount]=2`: a repeated name starts the next element.
            following = path[index + 1]
            last = node.appended[-1] if node.appended else None
            if not isinstance(last, _Node) or (index + 2 == len(path) and following and following in last):
                last = _Node()
                node.appended.append(last)
            node = last
    final = path[-1]
    if final:
        if isinstance(node.get(final), _Node):
            raise refuse("hash", param=name)
        node[final] = value
    else:
        node.appended.append(value)


def _child(node: dict[str, Any], key: str, name: str) -> _Node:
    child = node.get(key)
    if child is None:
        child = node[key] = _Node()
    elif not isinstance(child, _Node):
        raise refuse("hash", param=name)
    return child


def _plain(value: Any) -> Any:
    """`[]` makes lists; `[0]` stays a hash with the key `0`: only the schema can tell a list from `metadata[0]`."""
    if isinstance(value, _Node) and value.appended:
        if value:
            raise refuse("array")
        return [_plain(item) for item in value.appended]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value
