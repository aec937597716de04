"""The items of a subscription: matches Stripe's with the program's, reads them, and works out their changes. Pure.

The program declares items as a mapping with keys of its choice. An item's metadata in Stripe has its key.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from components.providers import discounts
from components.providers.fields import KEEP, projected, setting
from components.providers.inventory import OWNER_KEY, StripeObject
from components.providers.shapes import Struct
from components.providers.values import MISSING, Inputs, decimal_string, id_of, mapping

#: Where subscriptions are listed, and what is read of them beyond Stripe's default.
PATH: Final = "/v1/subscriptions"
EXPAND: Final = ("discounts", "items.data.discounts", "schedule")
#: The ways to give an item its price.
SOURCES: Final = ("price", "price_data", "plan")
#: Stripe returns the resulting price instead.
UNREADABLE: Final = ("price_data", "plan")


def branded(key: str, item: Mapping[str, Any]) -> Inputs:
    """An item as it is sent, with its key in the metadata."""
    return {**item, "metadata": {**item.get("metadata", {}), OWNER_KEY: key}}


def key_of(item: Mapping[str, Any]) -> str | None:
    """The key in the metadata of an item of Stripe's."""
    key = (item.get("metadata") or {}).get(OWNER_KEY)
    return key if isinstance(key, str) and key else None


def is_metered(item: Mapping[str, Any]) -> bool:
    """Whether an item of Stripe's is billed by usage."""
    return ((item.get("price") or {}).get("recurring") or {}).get("usage_type") == "metered"


def prices_of(remote: StripeObject) -> set[str]:
    """The prices that a subscription of Stripe's bills."""
    return {item["price"]["id"] for item in (remote.get("items") or {}).get("data", []) if item.get("price")}


def running(item: Mapping[str, Any]) -> Inputs | None:
    """The trial that an item of Stripe's is in, as the program declares one."""
    trial = item.get("current_trial")
    return {"trial_offer": id_of(trial["trial_offer"])} if trial else None


def offer_of(trial: Any) -> str:
    """The trial offer that a `current_trial` names."""
    return str(mapping(trial).get("trial_offer"))


def by_key(items: list[StripeObject], declared: Mapping[str, Any]) -> dict[str, StripeObject]:
    """Stripe's items by the program's keys: by metadata, else by price, else under their own key or id.

    Matching by price also finds an item whose key the program has renamed. Removing and adding it would prorate it and
    lose its usage.
    """
    found: dict[str, StripeObject] = {}
    rest: list[StripeObject] = []
    for item in items:
        key = key_of(item)
        if key is not None and key in declared and key not in found:
            found[key] = item
        else:
            rest.append(item)
    for item in rest:
        price, own = (item.get("price") or {}).get("id"), key_of(item)
        known_by = own if own is not None and own not in found else str(item["id"])
        same_price = (
            name
            for name, each in declared.items()
            if name not in found and isinstance(each, Mapping) and each.get("price") == price
        )
        found[next(same_price, known_by)] = item
    return found


def renamed(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, str]:
    """The renamed keys, new by old: the price of the item stays the same."""
    prices = {
        each["price"]: key
        for key, each in after.items()
        if key not in before and isinstance(each, Mapping) and isinstance(each.get("price"), str)
    }
    return {
        key: prices[each["price"]]
        for key, each in before.items()
        if key not in after and isinstance(each, Mapping) and each.get("price") in prices
    }


def projection(
    struct: Struct, declared: Mapping[str, Any] | None, item: StripeObject, used_up: discounts.UsedUp
) -> Inputs:
    """A declared item as Stripe has it; for an undeclared one, its price and quantity.

    Args:
        struct: the shape of an item.
        used_up: tells whether a declared discount that is missing was used up.
    """
    price = (item.get("price") or {}).get("id")
    quantity = item.get("quantity")
    if declared is None:
        return {"price": price} if quantity is None else {"price": price, "quantity": quantity}
    result: Inputs = {}
    for name, value in declared.items():
        there: Any
        match name:
            case "price_data" if not is_made_of(item.get("price") or {}, value):
                there, result["price"] = MISSING, price
            case _ if name in UNREADABLE:
                there = value
            case "current_trial":
                # A trial that is over would begin again if it were sent again.
                there = running(item) or value
            case "discounts":
                there = discounts.projection(value, item.get("discounts"), used_up)
            case _:
                there = projected(struct.fields[name].shape, value, item.get(name))
        if there is not MISSING:
            result[name] = there
    if "quantity" not in declared and quantity not in (None, 1):
        result["quantity"] = quantity
    return result


def is_made_of(price: Mapping[str, Any], data: Any) -> bool:
    """Whether a price is what a `price_data` creates, as far as both tell."""
    if not isinstance(data, Mapping) or not price:
        return True
    recurring, wanted = price.get("recurring") or {}, mapping(data.get("recurring"))
    pairs = [
        (id_of(price.get("product")), data.get("product")),
        (price.get("currency"), data.get("currency")),
        (
            decimal_string(str(price.get("unit_amount_decimal"))),
            decimal_string(data.get("unit_amount_decimal", data.get("unit_amount"))),
        ),
        (recurring.get("interval"), wanted.get("interval")),
        (recurring.get("interval_count"), wanted.get("interval_count", 1)),
    ]
    return all(there == declared for there, declared in pairs)


def change(
    struct: Struct,
    cleared: Mapping[str, Any],
    key: str,
    found: StripeObject,
    before: Mapping[str, Any],
    new: Mapping[str, Any],
) -> Inputs:
    """What to send to change an item in Stripe from `before` to `new`.

    Only the differences between the two are sent, and of those only what Stripe does not have yet: an interrupted run
    may have sent some. What somebody else changed in Stripe stays until a refresh has shown it.

    Args:
        struct, cleared: the shape of an item, and what Stripe takes for a field that is removed.
        found: the item as Stripe has it now.
    """
    names = {name: {**mapping(before.get(name)), **mapping(new.get(name))} for name in before.keys() & new.keys()}
    both = {**before, **new, **{name: each for name, each in names.items() if each}}
    there = projection(struct, both, found, discounts.is_assumed)
    sent: Inputs = {}
    for name, field in struct.fields.items():
        old, after = before.get(name, MISSING), new.get(name, MISSING)
        if old == after:
            continue
        if name == "discounts":
            value = _discounts(old or [], after or [], found)
        elif after is MISSING and (name in SOURCES or (name == "quantity" and is_metered(found))):
            # An item has one price in whatever form: another form replaces it, and nothing has to be unset.
            continue
        elif after == (running(found) if name == "current_trial" else there.get(name)) and name not in UNREADABLE:
            # An interrupted run has already sent it.
            continue
        else:
            value = setting(f"items.{name}", field, old, after, cleared)
        if value is not KEEP:
            sent[name] = value
    if sent.keys() & set(SOURCES) and "quantity" not in sent and found.get("quantity") is not None:
        # "When changing a subscription item's price, `quantity` is set to 1 unless a `quantity` parameter is provided"
        # (https://docs.stripe.com/api/subscriptions/update). So Stripe's own quantity is sent along.
        sent["quantity"] = found["quantity"]
    if key_of(found) != key:
        sent["metadata"] = {**(sent.get("metadata") or {}), OWNER_KEY: key}
    return sent


def _discounts(old: list[Any], new: list[Any], found: StripeObject) -> Any:
    """What to send of an item's discounts; KEEP if they are already as declared."""
    there = found.get("discounts") or []
    wanted = discounts.changes(old, new, there)
    return KEEP if wanted == [{"discount": id_of(each)} for each in there] else wanted or ""
