"""API versions: which ones a request may ask for, and since when each endpoint has its present shape.

Stripe still answers every version it ever had; this sandbox has only the present shape of each object. It accepts an
older version wherever the shape is the same, and refuses it by name elsewhere. Stripe's changelog lists the changes
(https://docs.stripe.com/changelog): `basil` moved the periods of subscriptions to their items and gave invoice lines
`pricing` and `parent`; `clover` moved the coupon of a discount and of a promotion code, and made flexible the default
billing mode. Since then these endpoints have only gained fields, except `billing_cycle_anchor`, which `endive` made a
hash (`terms.anchor_asked`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from .errors import refuse
from .router import Route
from .spec import API_VERSION

_TABLE: Final = json.loads((Path(__file__).parent / "data" / "versions.json").read_bytes())
#: The first and the last version of each release, oldest first. Before `acacia` a version was only a date.
RELEASES: Final[dict[str, list[str]]] = _TABLE["releases"]
BASIL: Final = "2025-03-31.basil"
CLOVER: Final = "2025-09-30.clover"
ENDIVE: Final = "2026-09-30.endive"
#: From this version on, a request can use every endpoint.
NEWEST_CHANGE: Final = "2025-11-17.clover"
#: Endpoints (the longest prefix counts) whose objects had another shape before a version. All others are unchanged.
SINCE: Final[dict[str, str]] = _TABLE["since"]
#: Parameters that only older versions have: before which version, by operation.
GONE: Final[dict[str, dict[str, str]]] = _TABLE["gone"]

_VERSION = re.compile(r"\A(\d{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01]))(?:\.([a-z]+))?\Z")


def asked(header: str | None) -> str:
    """The version that a request asks for; refuses one that Stripe or this sandbox does not have."""
    if not header:
        return API_VERSION
    match = _VERSION.match(header)
    if match is None and (len(header) > 40 or not header[:4].isdigit()):
        raise refuse("version", version=header[:60])
    first, last = RELEASES.get(match.group(2) or "", ("", "")) if match else ("", "")
    if match is None or not first <= match.group(1) <= last:
        oldest, newest = RELEASES[""][0], f"{RELEASES['endive'][1]}.endive"
        raise refuse("version_not_spoken", oldest=oldest, newest=newest, version=header)
    return header


def check(version: str, route: Route, path: str, raw: Mapping[str, Any]) -> None:
    """Refuse an operation whose shape differs in the requested version."""
    if version >= NEWEST_CHANGE:
        return
    operation = f"{route.method} {path}"
    since = SINCE.get(max((prefix for prefix in SINCE if path.startswith(prefix)), key=len, default=""), "")
    if version < since:
        raise refuse("version_shape", version=version, what=operation, since=since)
    for name, before in GONE.get(f"{route.method} {route.template}", {}).items():
        outer, _, inner = name.rstrip("]").partition("[")
        value = raw.get(outer)
        if version < before and outer in raw and (not inner or (isinstance(value, Mapping) and inner in value)):
            raise refuse("version_shape", version=version, what=f"{name} of {operation}", since=before)
    if version < CLOVER and "discount" in str(raw.get("expand")):
        raise refuse("version_shape", version=version, what=f"an expanded discount of {operation}", since=CLOVER)


def default_billing_mode(version: str) -> str:
    """The default billing mode of a subscription."""
    return "classic" if version < CLOVER else "flexible"
