"""Field values by shape, for every kind: what to send to set or unset one, and Stripe's value as declared."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain, repeat
from typing import Any, Final

from components.providers.shapes import Anything, Array, Choice, Either, Field, Map, Scalar, Shape, Struct, fitting
from components.providers.values import MISSING, Inputs, decimal_string, id_of, mapping

#: In place of a value to send: Stripe cannot unset the field, so nothing is sent and the value stays.
KEEP: Final[Any] = type("Keep", (), {"__repr__": lambda self: "KEEP"})()
#: Objects that Stripe merges field by field. It replaces every other object as a whole.
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
    """What to send for a field that was removed from the program.

    `cleared` maps a path to what Stripe takes instead of an empty string: the value of a new object. A field inside an
    object is cleared on its own, so values that somebody set beside it stay.

    Returns:
        The value to send, or KEEP.
    """
    if path in cleared:
        return cleared[path]
    if isinstance(field.shape, Map) and isinstance(field.shape.item, Scalar) and isinstance(old, Mapping):
        # Key by key: an empty string for the whole map would also delete keys that others set, and the owner.
        return dict.fromkeys(old, "") or KEEP
    if field.clearable:
        return ""
    match field.shape:
        case Scalar("string"):
            return ""
        case Struct(fields=fields) if isinstance(old, Mapping):
            if any(name in fields and fields[name].required for name in old):
                # The object needs this field, and Stripe cannot unset it.
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
    """What to send to change a field from `old` to `new`; MISSING means not declared.

    Unchanged parts are not sent wherever Stripe lets them be omitted: somebody may have changed them in Stripe since.
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
    """Stripe's value in the form of the declared one, without what the program does not declare.

    Objects and maps keep only the declared keys: keys that Stripe adds or others set are not drift. Lists stay whole.
    """
    if isinstance(shape, (Struct, Map)) and declared == {}:
        # It declares nothing, so nothing in it can drift.
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
    # Stripe wraps a nested list in an object, under `data`.
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
