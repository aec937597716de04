"""What changed, how to set it, how to unset it, and what Stripe's answer says of it: by shape, for every kind."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain, repeat
from typing import Any, Final

from components.providers.shapes import Anything, Array, Choice, Either, Field, Map, Scalar, Shape, Struct, fitting
from components.providers.values import MISSING, Inputs, decimal_string, id_of, mapping

#: What unsets a field that Stripe has no way to unset: nothing is sent, and the value stays as it is.
KEEP: Final[Any] = type("Keep", (), {"__repr__": lambda self: "KEEP"})()
#: Objects of which Stripe changes the fields that it is sent and leaves the others. It replaces any other as a whole.
MERGED: Final = frozenset(
    [
        "billing_thresholds",
        "cancellation_details",
        "cash_balance",
        "invoice_settings",
        "payment_method_options",
        "payment_settings",
        "settings",
    ]
)


def clearing(path: str, field: Field, old: Any, cleared: Mapping[str, Any]) -> Any:
    """What to send for a field that was taken out of the program.

    `cleared` names by path what Stripe takes instead of an empty string: the value that a new object has. A field
    inside an object is cleared by itself, so that what a person set beside it stays.

    Returns:
        The value to send, or KEEP.
    """
    if path in cleared:
        return cleared[path]
    if isinstance(field.shape, Map) and isinstance(field.shape.item, Scalar) and isinstance(old, Mapping):
        # Key by key: an empty string for the whole would take away what others have set, and who made the object.
        return dict.fromkeys(old, "") or KEEP
    if field.clearable:
        return ""
    match field.shape:
        case Scalar("string"):
            return ""
        case Struct(fields=fields) if isinstance(old, Mapping):
            if any(name in fields and fields[name].required for name in old):
                # It cannot be there without that, and that cannot be empty.
                return KEEP
            inner = {
                name: clearing(f"{path}.{name}", fields[name], value, cleared)
                for name, value in old.items()
                if name in fields
            }
            kept = {name: value for name, value in inner.items() if value is not KEEP}
            return kept or KEEP
    return KEEP


def setting(path: str, field: Field, old: Any, new: Any, cleared: Mapping[str, Any]) -> Any:
    """What to send so that a field that was `old` becomes `new`; MISSING means that it is not declared.

    What stays is not sent, wherever Stripe lets it be left out: somebody may have changed it in Stripe since.
    """
    if new is MISSING:
        return clearing(path, field, old, cleared)
    match field.shape:
        case Struct(fields=fields) if isinstance(new, Mapping):
            before = old if isinstance(old, Mapping) else {}
            merged = path.rpartition(".")[2] in MERGED
            sent = {
                name: setting(f"{path}.{name}", fields[name], before.get(name, MISSING), value, cleared)
                for name, value in new.items()
                if name in fields and not (merged and before.get(name, MISSING) == value)
            }
            for name in before.keys() - new.keys():
                if name in fields:
                    sent[name] = clearing(f"{path}.{name}", fields[name], before[name], cleared)
            return {name: value for name, value in sent.items() if value is not KEEP} or KEEP
        case Map(item=Scalar()) if isinstance(new, Mapping):
            before = old if isinstance(old, Mapping) else {}
            changed = {key: value for key, value in new.items() if before.get(key, MISSING) != value}
            return changed | dict.fromkeys(before.keys() - new.keys(), "") or KEEP
        case Map() if isinstance(new, Mapping) and isinstance(old, Mapping):
            return {key: value for key, value in new.items() if old.get(key, MISSING) != value} or KEEP
        case Array() if not new:
            return clearing(path, field, old, cleared)
    return new


def projected(shape: Shape, declared: Any, remote: Any) -> Any:
    """The part of Stripe's value that the program declares, in the form in which it declares it.

    Objects and maps are cut down to the declared keys: what Stripe adds and what others set beside them is not
    drift. Lists are whole.
    """
    if isinstance(shape, (Struct, Map)) and declared == {}:
        # Nothing is declared in it, so nothing in it can drift.
        return {}
    if isinstance(shape, Array) and declared == [] and remote is None:
        return []
    match shape:
        case Struct(fields=fields):
            return _projected_object(fields, declared, remote)
        case Map(item=item):
            return _projected_map(item, declared, remote)
        case Array(item=item):
            return _projected_list(item, declared, remote)
        case Either():
            return MISSING if remote is None else projected(fitting(shape, remote) or Anything(), declared, remote)
        case Scalar() | Choice() | Anything():
            return _projected_value(shape, remote)
    raise AssertionError(shape)


def _projected_object(fields: Mapping[str, Field], declared: Any, remote: Any) -> Any:
    if not isinstance(remote, Mapping):
        return MISSING
    wanted = mapping(declared)
    names = wanted or remote
    return _present(
        {n: projected(field.shape, wanted.get(n), remote.get(n)) for n, field in fields.items() if n in names}
    )


def _projected_map(item: Shape, declared: Any, remote: Any) -> Any:
    if not isinstance(remote, Mapping):
        return MISSING
    wanted = mapping(declared)
    return _present({name: projected(item, wanted.get(name), remote.get(name)) for name in wanted or remote})


def _projected_list(item: Shape, declared: Any, remote: Any) -> Any:
    # A nested list of Stripe's is an object with the list in `data`.
    values = remote.get("data") if isinstance(remote, Mapping) else remote
    if not isinstance(values, list):
        return MISSING
    wanted = chain(declared if isinstance(declared, list) else [], repeat(None))
    return [projected(item, each, value) for each, value in zip(wanted, values, strict=False)]


def _projected_value(shape: Scalar | Choice | Anything, remote: Any) -> Any:
    match shape:
        case Scalar("string"):
            text = id_of(remote)
            return MISSING if text in (None, "") else str(text)
        case Scalar("decimal" | "number") if remote is not None:
            return decimal_string(str(remote)) or str(remote)
    return MISSING if remote is None else remote


def _present(values: Mapping[str, Any]) -> Inputs:
    return {name: value for name, value in values.items() if value is not MISSING}
