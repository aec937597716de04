"""Tax rates: create, retrieve, update, list. What they make of an invoice is in `billing/tax.py`."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Final

from . import spec, taxation
from .errors import refuse
from .router import Call, Kind, changes, declare_kind, route
from .store import Obj

declare_kind(Kind("tax_rate", missing_param="tax_rate", noun="tax rate"))

_TEXT: Final = {"type": "string", "maxLength": 5000}
_SHORT: Final = {"type": "string", "maxLength": 50}
_METADATA: Final = {"type": "object", "additionalProperties": {"type": "string"}}
_TAX_TYPES: Final = (
    "amusement_tax",
    "communications_tax",
    "gst",
    "hst",
    "igst",
    "jct",
    "lease_tax",
    "mass_transit_parking_tax",
    "parking_tax",
    "pst",
    "qst",
    "retail_delivery_fee",
    "rst",
    "sales_tax",
    "service_tax",
    "vat",
)
_EXPAND: Final = {"type": "array", "items": _TEXT}
_SHARED: Final = {
    "active": {"type": "boolean"},
    "country": _TEXT,
    "description": _TEXT,
    "display_name": _SHORT,
    "expand": _EXPAND,
    "jurisdiction": _SHORT,
    "state": _TEXT,
    "tax_type": {"type": "string", "enum": list(_TAX_TYPES)},
}
_RANGE: Final = {"type": "object", "properties": {name: {"type": "integer"} for name in ("gt", "gte", "lt", "lte")}}
#: What only shows a rate and can be changed; `""` unsets it.
_PLAIN: Final = ("country", "description", "jurisdiction", "state", "tax_type")
MOST_PLACES: Final = 4

spec.declare_operation(
    "POST",
    "/v1/tax_rates",
    {
        **_SHARED,
        "inclusive": {"type": "boolean"},
        "metadata": _METADATA,
        # Decimal text, because a float would not be the percentage that was asked for.
        "percentage": {"type": "string", "format": "decimal"},
    },
    required=("display_name", "inclusive", "percentage"),
)
spec.declare_operation(
    "POST",
    "/v1/tax_rates/{tax_rate}",
    {**_SHARED, "metadata": {"anyOf": [_METADATA, {"type": "string", "enum": [""]}]}},
)
spec.declare_operation("GET", "/v1/tax_rates/{tax_rate}", {"expand": _EXPAND})
spec.declare_operation(
    "GET",
    "/v1/tax_rates",
    {
        "active": {"type": "boolean"},
        "created": {"anyOf": [_RANGE, {"type": "integer"}]},
        "ending_before": _TEXT,
        "expand": _EXPAND,
        "inclusive": {"type": "boolean"},
        "limit": {"type": "integer"},
        "starting_after": _TEXT,
    },
)


@route("POST", "/v1/tax_rates")
def create(call: Call) -> Obj:
    """POST /v1/tax_rates: a percentage, on top of prices or held to be in them."""
    params = call.params
    percentage = Decimal(params["percentage"])
    if not 0 <= percentage <= 100 or -int(percentage.normalize().as_tuple().exponent) > MOST_PLACES:
        raise refuse("tax_percentage", value=params["percentage"])
    rate = taxation.new_rate(
        call,
        active=params.get("active", True),
        display_name=params["display_name"],
        inclusive=params["inclusive"],
        percentage=float(percentage),
        metadata=call.metadata({}, params.get("metadata") or {}),
    )
    _edit(rate, params)
    call.store.put(rate)
    call.event("tax_rate.created", rate)
    return rate


def _edit(rate: Obj, params: dict[str, Any]) -> None:
    """What create and update have in common."""
    for name in _PLAIN:
        if name in params:
            rate[name] = params[name] or None
    if rate["country"] is not None:
        rate["country"] = taxation.country(rate["country"])


@route("GET", "/v1/tax_rates/{tax_rate}")
def retrieve(call: Call) -> Obj:
    """GET /v1/tax_rates/{tax_rate}."""
    return call.fetch("tax_rate", call.args["tax_rate"])


@route("GET", "/v1/tax_rates")
def list_rates(call: Call) -> Obj:
    """GET /v1/tax_rates, filtered by `active` and `inclusive`."""
    return call.page("tax_rate", {name: call.params[name] for name in ("active", "inclusive") if name in call.params})


@route("POST", "/v1/tax_rates/{tax_rate}")
def update(call: Call) -> Obj:
    """POST /v1/tax_rates/{tax_rate}: its words, and whether it can still be chosen; what it takes stays."""
    rate = call.fetch("tax_rate", call.args["tax_rate"])
    old = dict(rate)
    for name in ("active", "display_name"):
        if name in call.params:
            rate[name] = call.params[name]
    _edit(rate, call.params)
    if "metadata" in call.params:
        rate["metadata"] = call.metadata(rate["metadata"])
    changed = changes(old, rate)
    if changed:
        call.store.put(rate)
        call.event("tax_rate.updated", rate, changed)
    return rate
