"""Tax where it meets stored objects: which rates a line bears, where a customer is, and automatic tax.

The sandbox's account has its tax settings active and no registration: Stripe Tax then locates every customer and
calculates zero tax, for the reason `not_collecting`
(https://docs.stripe.com/tax/zero-tax, https://docs.stripe.com/tax/customer-locations).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any, Final

from . import connect
from .billing import tax
from .errors import refuse
from .router import Call
from .store import Obj, declare_index

#: On one line, and as a default of a subscription or an invoice.
MOST_RATES: Final = 10

NO_AUTOMATIC_TAX: Final = {"disabled_reason": None, "enabled": False, "liability": None}


def _codes(text: str) -> frozenset[str]:
    return frozenset(text.split())


#: ISO 3166-1 alpha-2.
_COUNTRIES: Final = _codes(
    """
    AD AE AF AG AI AL AM AO AQ AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI BJ BL BM BN BO BQ BR BS BT BV BW BY BZ CA
    CC CD CF CG CH CI CK CL CM CN CO CR CU CV CW CX CY CZ DE DJ DK DM DO DZ EC EE EG EH ER ES ET FI FJ FK FM FO FR GA
    GB GD GE GF GG GH GI GL GM GN GP GQ GR GS GT GU GW GY HK HM HN HR HT HU ID IE IL IM IN IO IQ IR IS IT JE JM JO JP
    KE KG KH KI KM KN KP KR KW KY KZ LA LB LC LI LK LR LS LT LU LV LY MA MC MD ME MF MG MH MK ML MM MN MO MP MQ MR MS
    MT MU MV MW MX MY MZ NA NC NE NF NG NI NL NO NP NR NU NZ OM PA PE PF PG PH PK PL PM PN PR PS PT PW PY QA RE RO RS
    RU RW SA SB SC SD SE SG SH SI SJ SK SL SM SN SO SR SS ST SV SX SY SZ TC TD TF TG TH TJ TK TL TM TN TO TR TT TV TW
    TZ UA UG UM US UY UZ VA VC VE VG VI VN VU WF WS YE YT ZA ZM ZW
    """
)
_VAT: Final = _codes(
    """
    AE AT BE BG BH CH CY CZ DE DK EE ES FI FR GB GR HR HU IE IS IT LI LT LU LV MT NL NO OM PL PT RO SA SE SI SK ZA
    """
)
_GST: Final = _codes("AU CA IN NZ SG")
_US_POSTAL_CODE: Final = re.compile(r"\A\d{5}(-?\d{4})?\Z")

declare_index("tax_rate", "_made_for")


# -- tax rates --------------------------------------------------------------------------------------------------------


def new_rate(
    call: Call, *, active: bool, display_name: str, inclusive: bool, percentage: float, metadata: dict[str, str]
) -> Obj:
    """A tax rate in the shape that Stripe's test mode answers, not stored."""
    return {
        "id": call.mint("txr_1", 23),
        "object": "tax_rate",
        "active": active,
        "country": None,
        "created": call.now(),
        "description": None,
        "display_name": display_name,
        "effective_percentage": percentage,
        "flat_amount": None,
        "inclusive": inclusive,
        "jurisdiction": None,
        "jurisdiction_level": None,
        "livemode": call.livemode,
        "metadata": metadata,
        "percentage": percentage,
        "rate_type": "percentage",
        "state": None,
        "tax_type": None,
    }


def country(value: str, param: str = "country") -> str:
    """A two-letter country code, in capitals."""
    code = value.upper()
    if code not in _COUNTRIES:
        raise refuse("country", param=param, value=value)
    return code


def chosen(call: Call, given: Any, where: str, held: Iterable[str] = ()) -> list[str]:
    """The ids of `tax_rates` or `default_tax_rates`: they exist, and are active unless they are in place already."""
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
    """Rates as Stripe puts them into what bears them: whole, not as ids."""
    return [call.wire(call.fetch("tax_rate", id)) for id in ids or ()]


def _rate(stored: Mapping[str, Any]) -> tax.Rate:
    return tax.Rate(stored["id"], Decimal(str(stored["percentage"])), stored["inclusive"])


def _behavior(price: Mapping[str, Any], currency: str) -> str:
    """Whether tax is in a price, of which each currency may say something else: inclusive, exclusive, unspecified."""
    option = (price.get("currency_options") or {}).get(currency) or {}
    holder = price if price["currency"] == currency else option
    return str(holder.get("tax_behavior") or "unspecified")


def refuse_conflicts(call: Call, currency: str, borne: Iterable[tuple[Mapping[str, Any], Sequence[str]]]) -> None:
    """A price that says whether tax is in it takes no rate that says otherwise. `borne` are prices and their rates."""
    for price, ids in borne:
        behavior = _behavior(price, currency)
        if behavior == "unspecified":
            continue
        if any(call.fetch("tax_rate", id)["inclusive"] != (behavior == "inclusive") for id in ids):
            raise refuse("tax_behavior_conflict")


# -- locations --------------------------------------------------------------------------------------------------------


def location(customer: Mapping[str, Any]) -> Obj | None:
    """Where a customer is for tax: the shipping address where there is one, else the billing address.

    An address that is there and cannot be placed gives None: Stripe does not go on to the next. Stripe would place an
    IP address and a card's billing details too; the sandbox has no map of the one and no details of the other.
    """
    shipping = (customer.get("shipping") or {}).get("address")
    address = shipping or customer.get("address")
    if not address or not _is_precise(address):
        return None
    source = "shipping_destination" if shipping else "billing_address"
    return {"country": address["country"].upper(), "source": source, "state": address.get("state")}


def _is_precise(address: Mapping[str, Any]) -> bool:
    """Whether tax can be calculated there: the US needs a postal code, Canada that or the province."""
    code = (address.get("country") or "").upper()
    postal_code = address.get("postal_code") or ""
    if code == "US":
        return _US_POSTAL_CODE.match(postal_code) is not None
    if code == "CA":
        return bool(postal_code or address.get("state"))
    return code in _COUNTRIES


def of_customer(customer: Mapping[str, Any]) -> Obj:
    """`customer.tax`: without a registration nobody is `supported`."""
    found = location(customer)
    return {
        **customer["tax"],
        "automatic_tax": "unrecognized_location" if found is None else "not_collecting",
        "location": found,
    }


def require_location(customer: Mapping[str, Any]) -> None:
    """Refuse a customer whose tax nobody could calculate."""
    if location(customer) is None:
        raise refuse("tax_location")


# -- automatic tax ----------------------------------------------------------------------------------------------------


def automatic_tax(call: Call, given: Mapping[str, Any] | None, where: str = "automatic_tax") -> Obj:
    """`automatic_tax` of a subscription or a schedule from what a request asks for.

    Who is liable changes no bill here: connected accounts have no registrations either.
    """
    liability = (given or {}).get("liability") or {"type": "self"}
    liable = connect.reference(call, liability, f"{where}[liability]")
    if not given or not given["enabled"]:
        return dict(NO_AUTOMATIC_TAX)
    return {"disabled_reason": None, "enabled": True, "liability": liable}


def of_invoice(held: Mapping[str, Any]) -> Obj:
    """An invoice's `automatic_tax` from its subscription's; the status comes when it is totalled up."""
    return {**held, "provider": "stripe" if held["enabled"] else None, "status": None}


def refuse_both(held: Mapping[str, Any], *rates: Sequence[str]) -> None:
    """Stripe calculates tax, or the rates say it: not both."""
    if held["enabled"] and any(rates):
        raise refuse("automatic_tax_and_rates")


# -- invoices ---------------------------------------------------------------------------------------------------------


def apply(call: Call, invoice: Obj, customer: Mapping[str, Any]) -> None:
    """Tax the lines of an invoice: by their own rates, else automatically, else by the invoice's default rates."""
    automatic = invoice["automatic_tax"]
    if invoice["status"] == "draft":
        invoice["customer_tax_exempt"] = customer.get("tax_exempt") or "none"
        if automatic["enabled"]:
            automatic["status"] = "complete" if location(customer) is not None else "requires_location_inputs"
    default = [_rate(call.fetch("tax_rate", id)) for id in invoice["default_tax_rates"]]
    for line in invoice["lines"]["data"]:
        if line["_tax_rates"]:
            own = [_rate(call.fetch("tax_rate", id)) for id in line["_tax_rates"]]
            tax.apply(line, own, invoice["customer_tax_exempt"])
        elif automatic["enabled"]:
            tax.apply(line, _not_collected(call, customer, line) if automatic["status"] == "complete" else [])
        else:
            tax.apply(line, default, invoice["customer_tax_exempt"])
    invoice["total_taxes"] = tax.totals(invoice["lines"]["data"])


def refuse_line_conflicts(call: Call, invoice: Obj) -> None:
    """The same as `refuse_conflicts` for the lines of an invoice; a preview's own prices are checked before."""
    for line in invoice["lines"]["data"]:
        price = (line["pricing"] or {}).get("price_details", {}).get("price")
        stored = None if price is None else call.store.get("price", price)
        if stored is not None:
            refuse_conflicts(call, invoice["currency"], [(stored, line["_tax_rates"] or invoice["default_tax_rates"])])


def _not_collected(call: Call, customer: Mapping[str, Any], line: Mapping[str, Any]) -> list[tax.Rate]:
    """The zero rate of a place where nobody is registered; Stripe makes such rates itself, archived."""
    place = location(customer)
    assert place is not None
    price = (line["pricing"] or {}).get("price_details", {}).get("price")
    stored_price = None if price is None else call.store.get("price", price)
    inclusive = stored_price is not None and _behavior(stored_price, line["currency"]) == "inclusive"
    state = place["state"] if place["country"] in ("US", "CA") else None
    made_for = f"{place['country']} {state or ''} {'inclusive' if inclusive else 'exclusive'}"
    stored = call.store.first("tax_rate", {"_made_for": made_for})
    if stored is None:
        tax_type, name = _kind_of_tax(place["country"])
        stored = {
            **new_rate(call, active=False, display_name=name, inclusive=inclusive, percentage=0.0, metadata={}),
            "country": place["country"],
            "jurisdiction": state or place["country"],
            "jurisdiction_level": "state" if state else "country",
            "state": state,
            "tax_type": tax_type,
            "_made_for": made_for,
        }
        call.store.put(stored)
    return [tax.Rate(stored["id"], Decimal(0), inclusive, "not_collecting")]


def _kind_of_tax(code: str) -> tuple[str | None, str]:
    if code == "US":
        return "sales_tax", "Sales Tax"
    if code == "JP":
        return "jct", "JCT"
    if code in _GST:
        return "gst", "GST"
    return ("vat", "VAT") if code in _VAT else (None, "Tax")


def at_finalization(call: Call, invoice: Obj, customer: Mapping[str, Any], subscription: Obj | None) -> None:
    """Without a recognized location Stripe turns automatic tax off, of the invoice, its subscription and the schedule,
    and goes on; an invoice that no subscription made is not finalized."""
    if not invoice["automatic_tax"]["enabled"] or location(customer) is not None:
        return
    if subscription is None:
        raise refuse("tax_location")
    invoice["automatic_tax"] = of_invoice(
        {**NO_AUTOMATIC_TAX, "disabled_reason": "finalization_requires_location_inputs"}
    )
    off = {**NO_AUTOMATIC_TAX, "disabled_reason": "requires_location_inputs"}
    subscription["automatic_tax"] = off
    schedule = call.store.get("subscription_schedule", subscription["schedule"] or "")
    if schedule is not None:
        schedule["default_settings"]["automatic_tax"] = off
        schedule["phases"][schedule["_phase"]]["automatic_tax"] = off
        call.store.put(schedule)
