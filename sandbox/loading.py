"""Loads an account's objects as Stripe's API shows them: a sandbox that continues where the account is.

Ids stay. What the API does not show gets a working value: a customer gets a test card, and a subscription no pending
invoice items. A loaded subscription has billed nothing yet for its periods, so a later change would credit nothing for
them: load it as it was one period ago, and let it renew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from . import customers, life, prices, settings, spec, subscription_schedules, subscriptions
from .errors import StripeError
from .gateway import Sandbox
from .router import Call
from .store import Store, mint
from .wire import Obj

#: The card of every loaded customer; it is never declined.
CARD: Final = "pm_card_visa"


def load(sandbox: Sandbox, objects: Iterable[Mapping[str, Any]]) -> None:
    """Store objects in test mode, all of them or none.

    Args:
        objects: meters, products, prices, coupons, customers, subscriptions (items with their prices, discounts
            expanded) and subscription schedules; each after those that it names. Fields that are absent get Stripe's
            defaults, or stay as they are if the object is there already.

    Raises:
        StripeError: an object is of another kind, or names one that is not there.
    """
    with sandbox.database.writing() as connection:
        current = settings.read(connection)
        call = Call(
            path="/_sandbox/objects",
            store=Store(connection, f"{current['account']}:test"),
            livemode=False,
            account=current["account"],
            request_id=mint("req_", 14),
            clock=sandbox.clock_of(current),
            settings=current,
        )
        for each in objects:
            loader = _LOADERS.get(str(each.get("object")))
            if loader is None:
                raise StripeError(400, f"The sandbox loads no {each.get('object')}.")
            loader(call, {**each, "livemode": False})


def _with(**defaults: Any) -> Callable[[Call, Obj], None]:
    """The loader of a kind that is stored as it is shown."""

    def put(call: Call, given: Obj) -> None:
        there = call.store.get(given["object"], given["id"])
        head = there or {**call.head(given["object"], given["id"], at=given.get("created")), **defaults}
        call.store.put({**head, **({"updated": head["created"]} if "updated" in head else {}), **given})

    return put


def _price(call: Call, given: Obj) -> None:
    _with(tax_behavior="unspecified", metadata={})(call, given)
    price = call.fetch("price", given["id"])
    # The list of an account shows its own currency without tiers.
    options = {**(price.get("currency_options") or {}), price["currency"]: prices.own_option(price)}
    call.store.put({**price, "currency_options": options})


def _customer(call: Call, given: Obj) -> None:
    if call.store.get("customer", given["id"]) is None:
        call.params = {"invoice_settings": {"default_payment_method": CARD}}
        customers.new_customer(call, id=given["id"])
    call.store.put({**call.fetch("customer", given["id"]), **given})


def _subscription(call: Call, given: Obj) -> None:
    there = call.store.get("subscription", given["id"])
    if there is None:
        customer = call.fetch("customer", given["customer"], param="customer", status=400)
        mode = {name: value for name, value in given["billing_mode"].items() if name != "updated_at"}
        there = {
            **subscriptions.empty(call, customer, {"billing_mode": mode}, int(given["start_date"])),
            "_stirred": None,
        }
        url = f"/v1/subscription_items?subscription={given['id']}"
        there["items"] = {
            **there["items"],
            "data": [_item(call, given, item) for item in given["items"]["data"]],
            "url": url,
        }
    discounts = {item["id"]: item.get("discounts") for item in given.get("items", {"data": ()})["data"]}
    for item in there["items"]["data"]:
        if item["id"] in discounts:
            item["discounts"] = _discounts(call, {"discounts": discounts[item["id"]]})
    given = {name: value for name, value in given.items() if name != "items"}
    if "discounts" in given:
        given["discounts"] = _discounts(call, given)
    life.put(call, {**there, **given})


def _item(call: Call, subscription: Obj, given: Mapping[str, Any]) -> Obj:
    price = given["price"]["id"] if isinstance(given["price"], Mapping) else given["price"]
    call.fetch("price", price, param="items[price]", status=400)
    return {
        "object": "subscription_item",
        "billing_thresholds": None,
        "created": subscription["start_date"],
        "metadata": {},
        "tax_rates": [],
        **given,
        "discounts": [],
        "price": price,
        "quantity": given.get("quantity"),
        "subscription": subscription["id"],
        "_usage_from": given["current_period_start"],
        "_debits": [],
    }


def _discounts(call: Call, holder: Mapping[str, Any]) -> list[str]:
    """The ids of a subscription's or item's discounts, which are stored by themselves."""
    ids = []
    for given in holder.get("discounts") or ():
        coupon = call.fetch("coupon", given["source"]["coupon"], param="discounts[coupon]", status=400)
        # The discount keeps the coupon's terms, whatever happens to the coupon.
        call.store.put({**spec.blank("discount"), **given, "object": "discount", "_coupon": coupon})
        ids.append(given["id"])
    return ids


def _schedule(call: Call, given: Obj) -> None:
    customer = call.fetch("customer", given["customer"], param="customer", status=400)
    blank = subscription_schedules.empty(call, {}, customer, int(given["phases"][0]["start_date"]))
    phase_blank = spec.blank("subscription_schedule_phase_configuration")
    more: Obj = {"add_invoice_items": [], "default_tax_rates": [], "discounts": [], "metadata": {}}
    item: Obj = {"billing_thresholds": None, "discounts": [], "metadata": {}, "tax_rates": []}
    phases = [
        {**phase_blank, **more, **phase, "items": [{**item, **each} for each in phase["items"]]}
        for phase in given["phases"]
    ]
    now = call.now()
    begun = [number for number, phase in enumerate(phases) if phase["start_date"] <= now]
    schedule = {**blank, **given, "phases": phases, "_phase": max(begun, default=-1)}
    subscription_schedules.keep(call, schedule)
    if given.get("subscription"):
        subscription = call.fetch("subscription", given["subscription"], param="subscription", status=400)
        life.put(call, {**subscription, "schedule": given["id"]})


_LOADERS: Final[Mapping[str, Callable[[Call, Obj], None]]] = {
    "billing.meter": _with(status="active", status_transitions={"deactivated_at": None}),
    "product": _with(attributes=[], images=[], marketing_features=[], metadata={}, tax_details=None, type="service"),
    "price": _price,
    "coupon": _with(applies_to={"products": []}, currency_options={}, metadata={}, valid=True),
    "customer": _customer,
    "subscription": _subscription,
    "subscription_schedule": _schedule,
}
