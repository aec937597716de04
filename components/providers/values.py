"""Canonical forms for the values that travel between Pulumi and Stripe.

Pulumi passes a dynamic provider every number as a float and a value that is not known yet as `Unknown`. Only here do
floats become whole numbers and amounts become canonical strings: the rest of the providers never sees a float.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from pulumi.output import Unknown

Inputs = dict[str, Any]
"""A resource's properties, or what Stripe returned: plain data, as JSON has it."""

PROVIDER_KEY: Final = "__provider"
#: Pulumi carries numbers as floats, which above this no longer hold every whole one: 2**53 + 1 arrives as 2**53.
LARGEST_EXACT: Final = 2**53 - 1
MAX_DECIMALS: Final = 12
MISSING: Final[Any] = type("Missing", (), {"__repr__": lambda self: "MISSING", "__bool__": lambda self: False})()
"""No value at all, where None is a possible value."""

_PLAIN_DECIMAL = re.compile(r"\A[+-]?(\d+(\.\d*)?|\.\d+)\Z")


def is_unknown(value: object) -> bool:
    """Whether Pulumi does not know the value yet (in a preview, before its source exists)."""
    return isinstance(value, Unknown)


def whole(value: float) -> int | None:
    """The whole number that a float stands for, or None."""
    return int(value) if value.is_integer() and abs(value) <= LARGEST_EXACT else None


def decimal_string(value: object) -> str | None:
    """An amount in its canonical form (`0.040` -> `0.04`, `1E+2` refused), or None if it is not an amount.

    A float is an amount only if it is whole: any other has already lost digits.
    """
    if isinstance(value, bool):
        return None
    if isinstance(value, float):
        value = whole(value)
    if isinstance(value, int):
        return str(value)
    if not isinstance(value, str) or not _PLAIN_DECIMAL.match(value):
        return None
    try:
        number = Decimal(value)
    except InvalidOperation:
        return None
    text = format(number, "f")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    if text in ("-0", ""):
        return "0"
    return text.removeprefix("+")


def decimals(text: str) -> int:
    """How many digits a canonical amount has after the point."""
    return len(text.partition(".")[2])


def plain(value: Any) -> Any:
    """A copy with whole floats as ints and without None and empty strings, which both mean "not set".

    Empty strings inside `metadata` stay, so that `check` can say what is wrong with them.
    """
    if isinstance(value, float):
        number = whole(value)
        return value if number is None else number
    if isinstance(value, Mapping):
        return {
            str(key): plain(item) if key != "metadata" else _plain_metadata(item)
            for key, item in value.items()
            if item is not None and item != ""
        }
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value


def _plain_metadata(value: Any) -> Any:
    if not isinstance(value, Mapping):
        return plain(value)
    return {str(key): item if item == "" else plain(item) for key, item in value.items() if item is not None}


def declared(props: Mapping[str, Any]) -> Inputs:
    """The properties that are set, without Pulumi's own."""
    return plain({key: value for key, value in props.items() if key != PROVIDER_KEY and value is not None})  # type: ignore[no-any-return]


def fingerprint(*parts: object) -> str:
    """A short stable hash of plain data, for idempotency keys."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def path_text(path: tuple[str | int, ...]) -> str:
    """A property path in Pulumi's notation: `tiers[1].up_to`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def mapping(value: Any) -> Mapping[str, Any]:
    """The value where it is a mapping, else an empty one."""
    return value if isinstance(value, Mapping) else {}


def id_of(value: Any) -> Any:
    """The id of a Stripe object, which is just its id unless it is expanded."""
    return value.get("id") if isinstance(value, Mapping) else value
