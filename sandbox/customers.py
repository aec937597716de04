"""Customers: create, retrieve, update, list, search, delete. `cards.py` has their cards."""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Mapping
from typing import Any, Final, cast

from . import cards, spec
from .errors import refuse
from .router import Call, Kind, assign, declare_kind, route
from .store import declare_index
from .wire import Obj


def _reveal(call: Call, customer: Obj, field: str) -> Any:
    """A hidden field; looks up cards and subscriptions, without cancelled ones as in Stripe's list."""
    if field == "sources":
        return cards.listed(call, customer)
    if field != "subscriptions":
        return customer[field]
    found = call.store.query("subscription", {"customer": customer["id"]})
    running = [call.wire(item) for item in found if item["status"] not in ("canceled", "incomplete_expired")]
    return {**customer[field], "data": running[: cards.SHOWN], "has_more": len(running) > cards.SHOWN}


declare_kind(
    Kind(
        "customer",
        hidden=frozenset({"cash_balance", "invoice_credit_balance", "sources", "subscriptions", "tax", "tax_ids"}),
        reveal=_reveal,
    )
)
declare_index("customer", "customer_account")
declare_index("customer", "email")
declare_index("customer", "invoice_prefix")
declare_index("customer", "test_clock", nulls=True)


_PLAIN: Final = ("description", "email", "name", "phone")
#: Stripe requires a dot in the domain: `someone@localhost` is refused.
_EMAIL: Final = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+")
#: Shown only once set, as on the wire.
_NAMES: Final = ("business_name", "individual_name")
_ADDRESS: Final = ("city", "country", "line1", "line2", "postal_code", "state")
#: The old names of `source` and `default_source`, which stripe-python has dropped; they are refused by name.
_OLD_NAMES: Final = ("bank_account", "card", "default_alipay_account", "default_bank_account", "default_card")


@route("POST", "/v1/customers")
def create(call: Call) -> Obj:
    """POST /v1/customers."""
    return new_customer(call)


def new_customer(call: Call, account: str | None = None, id: str | None = None) -> Obj:
    """Create a customer from create parameters; the customer of an account names the account, and a loaded one its
    `id`."""
    params = call.params
    test_clock = params.get("test_clock") or None
    if test_clock is not None:
        if call.livemode:
            raise refuse("customer_on_clock")
        call.fetch("test_helpers.test_clock", test_clock, param="test_clock", status=400)
    customer: Obj = {
        **call.head("customer", id or call.mint("cus_", 14), at=call.now({"test_clock": test_clock})),
        "balance": 0,
        "customer_account": account,
        "delinquent": False,
        "invoice_prefix": call.mint("", 8).upper(),
        "invoice_settings": spec.blank("invoice_setting_customer_setting"),
        "metadata": {},
        "next_invoice_sequence": 1,
        "preferred_locales": [],
        "tax_exempt": "none",
        "test_clock": test_clock,
        # Hidden unless expanded.
        "invoice_credit_balance": {},
        "tax": {"automatic_tax": "unrecognized_location", "ip_address": None, "provider": "stripe"},
    }
    for name in ("sources", "subscriptions", "tax_ids"):
        url = f"/v1/customers/{customer['id']}/{name}"
        customer[name] = {"object": "list", "data": [], "has_more": False, "url": url}
    _apply(call, customer)
    if "source" in params:
        _new_source(call, customer)
    if params.get("payment_method"):
        cards.attach(call, customer, params["payment_method"], "payment_method")
    for item in params.get("tax_id_data") or ():
        customer["tax_ids"]["data"].append(_tax_id(call, customer, item))
    return call.add(customer, "customer.created")


def _apply(call: Call, customer: Obj) -> None:
    """Set the common parameters of create and update; "" unsets."""
    params = call.params
    for name in _OLD_NAMES:
        if name in params:
            raise refuse("not_implemented_param", param=name)
    assign(customer, params, *_PLAIN)
    if customer["email"] is not None and not _EMAIL.fullmatch(customer["email"]):
        raise refuse("email", value=customer["email"])
    for name in _NAMES:
        if params.get(name):
            customer[name] = params[name]
        elif name in params:
            customer.pop(name, None)
    customer.update(call.given("balance", "next_invoice_sequence"))
    call.set_metadata(customer)
    for name, change in _CHANGES.items():
        if name in params:
            customer[name] = change(call, customer, params[name])


def _invoice_prefix(call: Call, customer: Obj, prefix: str) -> str:
    if not prefix:
        return str(customer["invoice_prefix"])
    if not 1 <= len(prefix) <= 12 or set(prefix) - set(string.ascii_uppercase + string.digits):
        raise refuse("invoice_prefix")
    holder = call.store.first("customer", {"invoice_prefix": prefix})
    if holder is not None and holder["id"] != customer["id"]:
        raise refuse("invoice_prefix_taken", customer=holder["id"])
    return prefix


def _tax(call: Call, customer: Obj, given: dict[str, Any]) -> Obj:
    if given.get("validate_location") in ("auto", "immediately"):
        # Customers have no location here.
        raise refuse("not_implemented_param", param=f"tax[validate_location]={given['validate_location']}")
    return {**customer["tax"], "ip_address": given.get("ip_address", customer["tax"]["ip_address"]) or None}


def _cash_balance(call: Call, customer: Obj, given: dict[str, Any]) -> Obj | None:
    mode = given.get("settings", {}).get("reconciliation_mode")
    if mode is None:
        return cast("Obj | None", customer["cash_balance"])
    by_merchant = mode == "merchant_default"
    return {
        "object": "cash_balance",
        "available": None,
        "customer": customer["id"],
        "livemode": call.livemode,
        "settings": {
            "reconciliation_mode": "automatic" if by_merchant else mode,
            "using_merchant_default": by_merchant,
        },
    }


def _new_source(call: Call, customer: Obj) -> None:
    """`source`: a new card, which replaces the default one."""
    if not call.params["source"]:
        raise refuse("empty", param="source")
    before = customer["default_source"]
    validate = call.params.get("validate", True)
    customer["default_source"] = cards.add(call, customer, call.params["source"], validate=validate)["id"]
    if before is not None:
        cards.delete(call, customer, before)


def _invoice_settings(call: Call, customer: Obj, given: dict[str, Any]) -> Obj:
    settings = dict(customer["invoice_settings"])
    assign(settings, given, "custom_fields", "footer")
    if "rendering_options" in given:
        options = given["rendering_options"]
        shown = ("amount_tax_display", "template")
        settings["rendering_options"] = {name: options.get(name) or None for name in shown} if options else None
    if "default_payment_method" in given:
        method, where = given["default_payment_method"], "invoice_settings[default_payment_method]"
        settings["default_payment_method"] = cards.attach(call, customer, method, where) if method else None
    return settings


def _tax_id(call: Call, customer: Obj, item: dict[str, Any]) -> Obj:
    country = item["type"].split("_")[0].upper()
    return {
        **call.head("tax_id", call.mint("txi_1", 23), at=call.now(customer)),
        "country": country if country != "EU" else item["value"][:2].upper(),
        "customer": customer["id"],
        "type": item["type"],
        "value": item["value"],
        "verification": {"status": "pending", "verified_address": None, "verified_name": None},
    }


def override(call: Call, customer: Obj, details: dict[str, Any]) -> None:
    """Apply a preview's `customer_details` to a customer; the preview undoes what this stores."""
    if "address" in details:
        customer["address"] = _address(details["address"])
    if "shipping" in details:
        customer["shipping"] = _shipping(details["shipping"])
    if "tax_exempt" in details:
        customer["tax_exempt"] = details["tax_exempt"] or "none"
    if "ip_address" in (details.get("tax") or {}):
        customer["tax"] = {**customer["tax"], "ip_address": details["tax"]["ip_address"] or None}
    call.store.put(customer)


def _address(given: Any) -> dict[str, Any] | None:
    return {name: given.get(name) or None for name in _ADDRESS} if given else None


def _shipping(given: Any) -> dict[str, Any] | None:
    if not given:
        return None
    return {"address": _address(given["address"]), "name": given["name"], "phone": given.get("phone") or None}


#: How fields of a customer change: functions of (call, customer, what was given).
_CHANGES: Final[Mapping[str, Callable[[Call, Obj, Any], Any]]] = {
    "address": lambda call, customer, given: _address(given),
    "cash_balance": _cash_balance,
    "invoice_prefix": _invoice_prefix,
    "invoice_settings": _invoice_settings,
    "preferred_locales": lambda call, customer, given: list(given),
    "shipping": lambda call, customer, given: _shipping(given),
    "tax": _tax,
    "tax_exempt": lambda call, customer, given: given or "none",
}


@route("GET", "/v1/customers/{customer}")
def retrieve(call: Call) -> Obj:
    """GET /v1/customers/{customer}; a deleted one is shown as `deleted: true`."""
    found = call.store.get("customer", call.args["customer"])
    if found is not None and found.get("deleted"):
        return found
    return call.fetch("customer", call.args["customer"])


@route("GET", "/v1/customers")
def list_customers(call: Call) -> Obj:
    """GET /v1/customers, filtered by `email`, `test_clock`; those on a test clock only when it is named."""
    call.check_filters(test_clock="test_helpers.test_clock")
    where = {"deleted": None, "test_clock": call.params.get("test_clock"), **call.given("email")}
    return call.page("customer", where)


@route("POST", "/v1/customers/{customer}")
def update(call: Call) -> Obj:
    """POST /v1/customers/{customer}."""
    customer = call.fetch("customer", call.args["customer"])
    old = dict(customer)
    _apply(call, customer)
    if "default_source" in call.params:
        if not call.params["default_source"]:
            raise refuse("empty", param="default_source")
        named = call.params["default_source"]
        customer["default_source"] = cards.of_customer(call, customer, named, "default_source")
    if "source" in call.params:
        _new_source(call, customer)
    return call.save(customer, old, "customer.updated")


@route("DELETE", "/v1/customers/{customer}")
def delete(call: Call) -> Obj:
    """DELETE /v1/customers/{customer}: permanent; cancels its subscriptions at once."""
    customer = call.fetch("customer", call.args["customer"])
    gone = remove(call, customer)
    call.event("customer.deleted", customer)
    return gone


def remove(call: Call, customer: Obj) -> Obj:
    """Replace a customer by its deleted form, after cancelling everything planned for it."""
    for before_deletion in BEFORE_DELETION:
        before_deletion(call, customer)
    gone: Obj = {"id": customer["id"], "object": "customer", "deleted": True}
    call.store.put(gone)
    return gone


#: Called when a customer is deleted: functions of (call, customer), such as cancelling its subscriptions.
BEFORE_DELETION: list[Any] = []
