"""What a change does: what it replaces, what a reviewer should know, what is refused. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from components.providers.fields import KEEP, setting
from components.providers.kind import ADOPT, Change, Declarations, Kind
from components.providers.values import MISSING, Inputs, is_unknown


def replaces(kind: Kind, old: Inputs, new: Inputs) -> list[str]:
    """The changed arguments that Stripe cannot change: by Stripe's types, by the policy of a field, by the kind."""
    before = kind.comparable({**kind.defaults, **old})
    after = kind.comparable({**kind.defaults, **new})
    changed = {
        name
        for name in kind.create_only
        if before.get(name, MISSING) != after.get(name, MISSING) and not (name in kind.once and name not in new)
    }
    return sorted(kind.replaces(old, new, changed))


def is_declared(kind: Kind, there: Inputs, wanted: Inputs) -> bool:
    """Whether an object of a resource's earlier arguments is as it declares now, as far as that is known.

    It is in what Stripe cannot change, and in what anyone pays.
    """
    before, after = (kind.comparable({**kind.defaults, **each}) for each in (there, wanted))
    different = {path.partition(".")[0] for path in unequal(before, after)}
    fixed = different & (kind.create_only | kind.paid)
    return there.get("owner") == wanted.get("owner") and not kind.replaces(there, wanted, fixed)


def compare(kind: Kind, id_: str, outputs: Inputs, new: Inputs, declaration: Declarations) -> Change:
    """The change from the state to the program."""
    old = kind.arguments(outputs)
    forced = replaces(kind, {**kind.computed(outputs), **old}, new)
    return Change(kind, id_, outputs, old, new, forced, declaration)


def refusal(change: Change) -> str | None:
    """Why a change is refused; None if it is not."""
    adopt = change.new.get(ADOPT)
    if isinstance(adopt, str) and adopt not in (change.id, change.old.get(ADOPT)):
        return (
            f"adopt is {adopt}, but this resource already is {change.id}: remove adopt, or first remove the resource "
            f"from the state (pulumi state delete; Stripe keeps {change.id})"
        )
    return change.kind.refusal(change)


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """The single values of an argument, by dotted path; a list is one value."""
    if isinstance(value, Mapping) and value:
        for name, each in value.items():
            yield from leaves(each, f"{path}.{name}" if path else str(name))
    elif value is not MISSING:
        yield path, value


def unequal(there: Inputs, declared: Inputs) -> dict[str, tuple[Any, Any]]:
    """The known values that differ, by dotted path: (there, declared)."""
    before, after = dict(leaves(there)), dict(leaves(declared))
    for one, other in ((before, after), (after, before)):
        # What was empty and no longer is differs in what is in it.
        for path in [path for path, value in one.items() if value == {} and any(_inside(path, each) for each in other)]:
            del one[path]
    unknown = [path for path, value in after.items() if _has_unknown(value)]
    return {
        path: (before.get(path, MISSING), after.get(path, MISSING))
        for path in sorted({*before, *after})
        if before.get(path, MISSING) != after.get(path, MISSING)
        and not any(path == each or _inside(each, path) for each in unknown)
    }


def _has_unknown(value: Any) -> bool:
    """Whether a value, or one in a list, is not known yet; of such a list nothing is known."""
    return any(_has_unknown(each) for each in _parts(value)) or is_unknown(value)


def _parts(value: Any) -> Iterable[Any]:
    if isinstance(value, Mapping):
        return value.values()
    return value if isinstance(value, list) else ()


def _inside(outer: str, path: str) -> bool:
    return path.startswith(f"{outer}.")


def moves(different: Mapping[str, tuple[Any, Any]]) -> str:
    """What differs, for a sentence: `items.license.quantity 2 => 200`."""
    return ", ".join(f"{path} {_shown(old)} => {_shown(new)}" for path, (old, new) in different.items())


def _shown(value: Any) -> str:
    return "none" if value is MISSING else repr(value)


def warnings(change: Change) -> Iterator[str]:
    """What a reviewer should know about a change that the diff does not show."""
    yield from change.kind.warnings(change)
    if not change.replaces:
        yield from _staying(change)


def _staying(change: Change) -> Iterator[str]:
    """Arguments that were removed from the program and keep their value in Stripe."""
    kind = change.kind
    for name in sorted(change.old.keys() - change.new.keys()):
        field = kind.updatable.get(name)
        if field is not None and setting(name, field, change.old[name], MISSING, kind.clearing) is KEEP:
            why = kind.having("keep").get(name, "Stripe cannot unset it")
            yield f"{name} keeps its value in Stripe: {why}"
