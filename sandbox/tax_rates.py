"""Tax rates: create, retrieve, update, list. `billing/tax.py` applies them to invoices."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Final

from .errors import refuse
from .router import Call, Kind, assign, declare_kind, retrieves, route
from .wire import Obj

declare_kind(Kind("tax_rate", missing_param="tax_rate", noun="tax rate"))
retrieves("/v1/tax_rates/{tax_rate}", "tax_rate")

#: Fields that only describe a rate and can be changed; `""` unsets them.
_PLAIN: Final = ("country", "description", "jurisdiction", "state", "tax_type")
MOST_PLACES: Final = 4


@route("POST", "/v1/tax_rates")
def create(call: Call) -> Obj:
    """POST /v1/tax_rates: a percentage, added to prices or included in them."""
    params = call.params
    percentage = Decimal(str(params["percentage"]))
    if not 0 <= percentage <= 100 or -int(percentage.normalize().as_tuple().exponent) > MOST_PLACES:
        raise refuse("tax_percentage", value=params["percentage"])
    rate: Obj = {
        **call.head("tax_rate", call.mint("txr_1", 23)),
        "active": params.get("active", True),
        "display_name": params["display_name"],
        "effective_percentage": float(percentage),
        "inclusive": params["inclusive"],
        "metadata": call.metadata({}, params.get("metadata") or {}),
        "percentage": float(percentage),
        "rate_type": "percentage",
    }
    _edit(rate, params)
    return call.add(rate, "tax_rate.created")


def _edit(rate: Obj, params: dict[str, Any]) -> None:
    """The common parameters of create and update."""
    assign(rate, params, *_PLAIN)
    if rate["country"] is not None:
        code = rate["country"].upper()
        if len(code) != 2 or not (code.isascii() and code.isalpha()):
            raise refuse("country", param="country", value=rate["country"])
        rate["country"] = code


@route("GET", "/v1/tax_rates")
def list_rates(call: Call) -> Obj:
    """GET /v1/tax_rates, filtered by `active` and `inclusive`."""
    return call.page("tax_rate", call.given("active", "inclusive"))


@route("POST", "/v1/tax_rates/{tax_rate}")
def update(call: Call) -> Obj:
    """POST /v1/tax_rates/{tax_rate}: its description and whether it is active; the percentage cannot change."""
    rate = call.fetch("tax_rate", call.args["tax_rate"])
    old = dict(rate)
    rate.update(call.given("active", "display_name"))
    _edit(rate, call.params)
    call.set_metadata(rate)
    return call.save(rate, old, "tax_rate.updated")
