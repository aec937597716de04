"""Turns a handler's result into Stripe's answer: wire forms, hidden fields, `expand`."""

from __future__ import annotations

from typing import Any, Final

from . import spec
from .errors import refuse
from .router import Call, kind_of
from .wire import Obj

MAX_LEVELS: Final = 4


def render(call: Call, answer: Obj) -> Obj:
    """A handler's answer in its wire form, with the request's `expand` applied."""
    if answer.get("object") in ("list", "search_result"):
        shown: Obj = {**answer, "data": [call.wire(item) for item in answer["data"]]}
    else:
        shown = call.wire(answer)
    for path in call.params.get("expand") or ():
        segments = path.split(".")
        if len(segments) - (segments[0] == "data") > MAX_LEVELS:
            raise refuse("expand_deep", path=path)
        _expand(call, shown, segments, path)
    return shown


def _expand(call: Call, value: Any, segments: list[str], path: str) -> None:
    """Expand one path below `value` in place."""
    if not segments or value is None:
        return
    if isinstance(value, list):
        for item in value:
            _expand(call, item, segments, path)
        return
    if not isinstance(value, dict):
        raise refuse("expand", path=path)
    kind = value.get("object")
    if kind in ("list", "search_result"):
        if segments[0] != "data":
            raise refuse("expand", path=path)
        _expand(call, value["data"], segments[1:], path)
    elif isinstance(kind, str):
        _expand_object(call, kind, value, segments, path)
    else:
        _expand_part(call, value, segments, path)


def _expand_part(call: Call, part: Obj, segments: list[str], path: str) -> None:
    """Below a plain part of an object (`recurring`, `parent`), which only leads to something deeper."""
    name, rest = segments[0], segments[1:]
    if name not in part:
        raise refuse("expand", path=path)
    part[name] = _resolve(call, part[name], _PLAIN.get(name), path, needed=bool(rest))
    _expand(call, part[name], rest, path)


def _expand_object(call: Call, kind: str, obj: Obj, segments: list[str], path: str) -> None:
    """Below an object of a kind: the fields that can be expanded, and the parts that lead to them."""
    name, rest = segments[0], segments[1:]
    targets = spec.expandable(kind)
    if name not in targets:
        if not rest or not isinstance(obj.get(name), (dict, list)):
            raise refuse("expand", path=path)
        _expand(call, obj[name], rest, path)
        return
    if name not in obj and name in kind_of(kind).hidden:
        _reveal(call, kind, obj, name)
    if (kind, name) == ("price", "currency_options"):
        _expand_currency(call, obj, rest)
    elif name in obj:
        obj[name] = _resolve(call, obj[name], targets[name], path, needed=False)
        _expand(call, obj[name], rest, path)


def _reveal(call: Call, kind: str, obj: Obj, name: str) -> None:
    """Show a field that is hidden until it is requested."""
    stored = call.store.get(kind, obj["id"]) if "id" in obj else None
    if stored is not None and name in stored:
        reveal = kind_of(kind).reveal
        obj[name] = stored[name] if reveal is None else reveal(call, stored, name)


def _expand_currency(call: Call, price: Obj, rest: list[str]) -> None:
    """`currency_options.eur.tiers` shows the tiers of one currency; `currency_options.tiers` is accepted but does
    nothing, and `currency_options` alone shows none."""
    stored = call.store.get("price", price["id"]) if len(rest) == 2 and rest[1] == "tiers" else None
    option = stored["currency_options"].get(rest[0]) if stored is not None else None
    if option is not None and "tiers" in option:
        price["currency_options"][rest[0]]["tiers"] = option["tiers"]


#: Ids below plain parts of objects, for which the description does not name the kind.
_PLAIN: Final = {
    "price": "price",
    "product": "product",
    "subscription": "subscription",
    "invoice": "invoice",
    "subscription_item": "subscription_item",
    "coupon": "coupon",
    "discount": "discount",
    "promotion_code": "promotion_code",
    "tax_rate": "tax_rate",
    "account": "account",
    "destination": "account",
    "on_behalf_of": "account",
}


def _resolve(call: Call, value: Any, kind: str | None, path: str, *, needed: bool) -> Any:
    """An id becomes its object; a list of ids becomes a list of objects; an object stays."""
    if isinstance(value, list):
        return [_resolve(call, item, kind, path, needed=needed) for item in value]
    if isinstance(value, str) and value:
        if kind is None:
            if needed:
                raise refuse("expand", path=path)
            return value
        found = call.store.get(kind, value)
        if found is not None:
            return call.wire(found)
    return value
