"""Tax on stored objects: the rates of each line, and the stored settings of automatic tax.

The sandbox's account has no tax registration: automatic tax is stored and shown, but adds nothing to a bill
(https://docs.stripe.com/tax/zero-tax). Customers have no location.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any, Final

from . import connect
from .billing import tax
from .errors import refuse
from .router import Call
from .wire import Obj

#: The maximum for one line, and for the defaults of a subscription or an invoice.
MOST_RATES: Final = 10

NO_AUTOMATIC_TAX: Final = {"disabled_reason": None, "enabled": False, "liability": None}


# -- tax rates --------------------------------------------------------------------------------------------------------


def chosen(call: Call, given: Any, where: str, held: Iterable[str] = ()) -> list[str]:
    """The ids of `tax_rates` or `default_tax_rates`: they must exist, and be active unless already in use here."""
    ids: list[str] = list(given or ())
    if len(ids) > MOST_RATES:
        raise refuse("too_many_tax_rates", param=where)
    for index, id in enumerate(ids):
        rate = call.fetch("tax_rate", id, param=f"{where}[{index}]", status=400)
        if not rate["active"] and id not in held:
            raise refuse("tax_rate_inactive", param=f"{where}[{index}]", id=id)
        if id in ids[:index]:
            raise refuse("tax_rate_twice", param=f"{where}[{index}]", id=id)
    return ids


def shown(call: Call, ids: Sequence[str] | None) -> list[Obj]:
    """Rates as Stripe shows them in other objects: whole, not as ids."""
    return [call.wire(call.fetch("tax_rate", id)) for id in ids or ()]


def _rate(stored: Mapping[str, Any]) -> tax.Rate:
    return tax.Rate(stored["id"], Decimal(str(stored["percentage"])), stored["inclusive"])


def _behavior(price: Mapping[str, Any], currency: str) -> str:
    """The tax behavior of a price, which can differ by currency: inclusive, exclusive, unspecified."""
    option = (price.get("currency_options") or {}).get(currency) or {}
    holder = price if price["currency"] == currency else option
    return str(holder.get("tax_behavior") or "unspecified")


def refuse_conflicts(call: Call, currency: str, borne: Iterable[tuple[Mapping[str, Any], Sequence[str]]]) -> None:
    """Refuse a rate that contradicts its price's tax behavior. `borne` are prices and their rates."""
    for price, ids in borne:
        behavior = _behavior(price, currency)
        if behavior == "unspecified":
            continue
        if any(call.fetch("tax_rate", id)["inclusive"] != (behavior == "inclusive") for id in ids):
            raise refuse("tax_behavior_conflict")


# -- automatic tax ----------------------------------------------------------------------------------------------------


def automatic_tax(call: Call, given: Mapping[str, Any] | None, where: str = "automatic_tax") -> Obj:
    """`automatic_tax` of a subscription or a schedule from a request.

    The liable account does not change a bill here: connected accounts have no registrations either.
    """
    liability = (given or {}).get("liability") or {"type": "self"}
    liable = connect.reference(call, liability, f"{where}[liability]")
    if not given or not given["enabled"]:
        return dict(NO_AUTOMATIC_TAX)
    return {"disabled_reason": None, "enabled": True, "liability": liable}


def of_invoice(held: Mapping[str, Any]) -> Obj:
    """An invoice's `automatic_tax` from its subscription's."""
    enabled = held["enabled"]
    return {**held, "provider": "stripe" if enabled else None, "status": "complete" if enabled else None}


def refuse_both(held: Mapping[str, Any], *rates: Sequence[str]) -> None:
    """Refuse automatic tax together with tax rates."""
    if held["enabled"] and any(rates):
        raise refuse("automatic_tax_and_rates")


# -- invoices ---------------------------------------------------------------------------------------------------------


def apply(call: Call, invoice: Obj, customer: Mapping[str, Any]) -> None:
    """Tax the lines of an invoice with their own rates, else with its defaults; automatic tax adds nothing."""
    if invoice["status"] == "draft":
        invoice["customer_tax_exempt"] = customer.get("tax_exempt") or "none"
    default = [_rate(call.fetch("tax_rate", id)) for id in invoice["default_tax_rates"]]
    for line in invoice["lines"]["data"]:
        own = [_rate(call.fetch("tax_rate", id)) for id in line["_tax_rates"]]
        tax.apply(line, own or default, invoice["customer_tax_exempt"])
    invoice["total_taxes"] = tax.totals(invoice["lines"]["data"])
