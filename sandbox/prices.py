"""Prices: their shape, retrieve, update, list. A price has no DELETE; it is archived with `active=false`."""

from __future__ import annotations

from typing import Any, Final

from . import amounts, versions
from .billing.periods import LONGEST_INTERVAL_COUNTS
from .errors import refuse, within
from .router import Call, Kind, assign, declare_kind, retrieves, route
from .store import declare_index
from .wire import Obj


def _reveal(call: Call, price: Obj, field: str) -> Any:
    """A currency does not show its tiers; `currency_options.eur.tiers` requests them."""
    if field != "currency_options":
        return price[field]
    return {
        code: {name: value for name, value in option.items() if name != "tiers"}
        for code, option in price[field].items()
    }


declare_kind(Kind("price", missing_param="price", hidden=frozenset({"tiers", "currency_options"}), reveal=_reveal))
retrieves("/v1/prices/{price}", "price")
declare_index("price", "product")
declare_index("price", "lookup_key", few=True)
declare_index("price", "recurring.meter")


#: Two years (https://docs.stripe.com/billing/subscriptions/trials/free-trials).
MOST_TRIAL_DAYS: Final = 730


def plan_of(price: Obj) -> Obj:
    """A recurring price as a plan. Recorded: Stripe sends both, although its description has no plans."""
    alike = ("active", "billing_scheme", "created", "currency", "livemode", "metadata", "nickname", "product")
    return {
        "id": price["id"],
        "object": "plan",
        "amount": price["unit_amount"],
        "amount_decimal": price["unit_amount_decimal"],
        **{name: price[name] for name in (*alike, "tiers_mode")},
        **{name: price["recurring"][name] for name in ("interval", "interval_count", "meter", "usage_type")},
        "transform_usage": price["transform_quantity"],
        "trial_period_days": price["recurring"]["trial_period_days"],
    }


def new_id(call: Call) -> str:
    """The id of a new price."""
    return call.mint("price_1", 23)


def new_price(call: Call, params: dict[str, Any], product: str, id: str | None = None) -> Obj:
    """Create a price of a product from create parameters; `id` if the product already names it."""
    check_sold(call.fetch("product", product), params)
    return save(call, params, product, price_shape(call, params), id)


def check_sold(product: Obj, params: dict[str, Any]) -> None:
    """Only a service can have a recurring price."""
    if "recurring" in params and product["type"] == "good":
        raise refuse("product_good", product=product["id"])


def save(call: Call, params: dict[str, Any], product: str, shape: dict[str, Any], id: str | None = None) -> Obj:
    """Store a price with a validated shape."""
    lookup_key = _claim_lookup_key(call, params, None)
    price: Obj = {
        **call.head("price", id or new_id(call)),
        "active": params.get("active", True),
        "lookup_key": lookup_key,
        "metadata": call.metadata({}, params.get("metadata", {})),
        "nickname": params.get("nickname") or None,
        "product": product,
        "tax_behavior": params.get("tax_behavior", "unspecified"),
        **shape,
    }
    price["currency_options"] = _currency_options(price, params.get("currency_options") or {}, {})
    return call.add(price, "price.created")


def price_shape(call: Call, params: dict[str, Any], param: str = "") -> dict[str, Any]:
    """The immutable part of a price: scheme, amounts, tiers, recurrence. Validates all rules between them."""
    currency = amounts.currency(params["currency"], within(param, "currency"))
    recurring = _recurring(call, params["recurring"], param) if "recurring" in params else None
    scheme = params.get("billing_scheme", "per_unit")
    transform = params.get("transform_quantity")
    if transform is not None and transform["divide_by"] < 1:
        raise refuse("divide_by", param=within(param, "transform_quantity") + "[divide_by]")
    custom = _custom_amount(params)
    if custom is not None and recurring is not None:
        raise refuse("custom_amount_recurring")
    shape: dict[str, Any] = {
        "billing_scheme": scheme,
        "currency": currency,
        "custom_unit_amount": custom,
        "recurring": recurring,
        "tiers_mode": None,
        "transform_quantity": transform,
        "type": "one_time" if recurring is None else "recurring",
        "unit_amount": None,
        "unit_amount_decimal": None,
    }
    if scheme == "tiered":
        _check_tiered(params, param)
        shape["tiers_mode"] = params["tiers_mode"]
        shape["tiers"] = _tiers(params["tiers"], within(param, "tiers"))
        return shape
    for name in ("tiers", "tiers_mode"):
        if name in params:
            raise refuse("tiers_without_scheme", param=within(param, name))
    amount = amounts.pair(params, "unit_amount", param)
    if amount is not None and custom is not None:
        raise refuse("only_one", param="unit_amount", names="unit_amount, custom_unit_amount")
    if amount is None and custom is None:
        raise refuse("no_amount")
    return {**shape, **_amount("unit_amount", amount)}


def _check_tiered(params: dict[str, Any], param: str) -> None:
    """What cannot be combined with tiers, and what they require."""
    if "recurring" not in params:
        raise refuse("tiered_one_time")
    for name in ("unit_amount", "unit_amount_decimal", "custom_unit_amount"):
        if name in params:
            raise refuse("tiered_with_amount", param=within(param, name))
    if params.get("transform_quantity") is not None:
        raise refuse("tiered_with_transform")
    for name in ("tiers", "tiers_mode"):
        if not params.get(name):
            raise refuse("tiers_missing", param=within(param, name))


def _custom_amount(params: dict[str, Any]) -> dict[str, Any] | None:
    """`custom_unit_amount` as Stripe shows it; None if it is not enabled."""
    given = params.get("custom_unit_amount") or {"enabled": False}
    return {name: given.get(name) for name in ("maximum", "minimum", "preset")} if given["enabled"] else None


def _amount(name: str, pair: tuple[int | None, str | None] | None) -> dict[str, Any]:
    """An amount and its decimal as two fields, null if there is none."""
    return dict(zip((name, f"{name}_decimal"), pair or (None, None), strict=True))


def _recurring(call: Call, given: dict[str, Any], param: str) -> dict[str, Any]:
    where = within(param, "recurring")
    count = given.get("interval_count", 1)
    if count < 1:
        raise refuse("divide_by", param=f"{where}[interval_count]")
    if count > LONGEST_INTERVAL_COUNTS[given["interval"]]:
        raise refuse("interval_too_long")
    usage_type = given.get("usage_type", "licensed")
    meter_id = given.get("meter") or None
    if usage_type == "metered" and meter_id is None:
        if call.version < versions.BASIL:
            raise refuse("not_implemented_param", param=f"{where}[usage_type] without a meter (usage records)")
        raise refuse("metered_without_meter")
    if meter_id is not None:
        if usage_type != "metered":
            raise refuse("meter_without_metered")
        meter = call.fetch("billing.meter", meter_id, param=f"{where}[meter]", status=400)
        if meter["status"] != "active":
            raise refuse("meter_inactive", meter=meter_id)
    if given.get("trial_period_days", 0) > MOST_TRIAL_DAYS:
        raise refuse("trial_too_long", param=f"{where}[trial_period_days]")
    return {
        "interval": given["interval"],
        "interval_count": count,
        "meter": meter_id,
        "trial_period_days": given.get("trial_period_days"),
        "usage_type": usage_type,
    }


def _tiers(given: list[dict[str, Any]], param: str) -> list[dict[str, Any]]:
    tiers = []
    previous = 0
    for index, tier in enumerate(given):
        where = f"{param}[{index}]"
        last = index == len(given) - 1
        if (tier["up_to"] == "inf") != last:
            raise refuse("tiers_end", param=f"{where}[up_to]")
        if not last:
            if tier["up_to"] <= previous:
                raise refuse("tiers_order", param=f"{where}[up_to]")
            previous = tier["up_to"]
        unit = amounts.pair(tier, "unit_amount", where)
        flat = amounts.pair(tier, "flat_amount", where)
        if unit is None and flat is None:
            raise refuse("tier_without_amount")
        tiers.append(
            {
                **_amount("flat_amount", flat),
                **_amount("unit_amount", unit),
                "up_to": None if last else tier["up_to"],
            }
        )
    return tiers


def _currency_options(price: Obj, given: dict[str, Any], current: dict[str, Any]) -> dict[str, Any]:
    """The price in all its currencies, including its own, as `expand[]=currency_options` shows it."""
    own = price["currency"]
    options: dict[str, Any] = {name: option for name, option in current.items() if name != own}
    for code, option in given.items():
        currency = amounts.currency_key(code, "currency_options", own)
        where = f"currency_options[{code}]"
        tiered = price["billing_scheme"] == "tiered"
        amount = amounts.pair(option, "unit_amount", where)
        priced = amount is not None or option.get("custom_unit_amount") is not None
        if tiered != bool(option.get("tiers")) or not (tiered or priced):
            raise refuse("currency_option_shape", param=where, currency=code)
        entry: dict[str, Any] = {
            "custom_unit_amount": _custom_amount(option),
            "tax_behavior": option.get("tax_behavior", "unspecified"),
            **_amount("unit_amount", amount),
        }
        if tiered:
            entry["tiers"] = _tiers(option["tiers"], f"{where}[tiers]")
        options[currency] = entry
    options[own] = own_option(price)
    return options


def own_option(price: Obj) -> dict[str, Any]:
    """A price in its own currency, as one of its currency options."""
    shown = ("custom_unit_amount", "tax_behavior", "unit_amount", "unit_amount_decimal", "tiers")
    return {name: price[name] for name in shown if name in price}


def _claim_lookup_key(call: Call, params: dict[str, Any], price_id: str | None) -> str | None:
    """The lookup key for a price, taken from its present holder with `transfer_lookup_key`."""
    lookup_key = params.get("lookup_key") or None
    if lookup_key is None:
        if params.get("transfer_lookup_key") and "lookup_key" not in params:
            raise refuse("transfer_without_key")
        return None
    holder = call.store.first("price", {"lookup_key": lookup_key})
    if holder is None or holder["id"] == price_id:
        return str(lookup_key)
    if not params.get("transfer_lookup_key"):
        raise refuse("lookup_key_taken", price=holder["id"])
    holder["lookup_key"] = None
    call.store.put(holder)
    call.event("price.updated", holder, {"lookup_key": lookup_key})
    return str(lookup_key)


@route("GET", "/v1/prices")
def list_prices(call: Call) -> Obj:
    """GET /v1/prices, filtered by `active`, `currency`, `lookup_keys`, `product`, `recurring`, `type`."""
    params = call.params
    call.check_filters(product="product")
    where = call.given("active", "type", "product")
    if "currency" in params:
        where["currency"] = amounts.currency(params["currency"])
    if "lookup_keys" in params:
        if len(params["lookup_keys"]) > 10:
            raise refuse("lookup_keys_many")
        where["lookup_key"] = params["lookup_keys"]
    for name, value in (params.get("recurring") or {}).items():
        where[f"recurring.{name}"] = value
    return call.page("price", where)


@route("POST", "/v1/prices/{price}")
def update(call: Call) -> Obj:
    """POST /v1/prices/{price}: what it sells cannot change, only its labels and lookup key."""
    price = call.fetch("price", call.args["price"])
    old = dict(price)
    params = call.params
    if "active" in params:
        if price["active"] and not params["active"]:
            product = call.store.get("product", price["product"])
            if product is not None and product["default_price"] == price["id"]:
                raise refuse("price_is_default")
        price["active"] = params["active"]
    assign(price, params, "nickname")
    if "lookup_key" in params or "transfer_lookup_key" in params:
        price["lookup_key"] = _claim_lookup_key(call, params, price["id"])
    call.set_metadata(price)
    if "tax_behavior" in params and params["tax_behavior"] != price["tax_behavior"]:
        if price["tax_behavior"] != "unspecified":
            raise refuse("tax_behavior_fixed", current=price["tax_behavior"])
        price["tax_behavior"] = params["tax_behavior"]
    given = params.get("currency_options")
    if given == "":
        price["currency_options"] = _currency_options(price, {}, {})
    elif given or "tax_behavior" in params:
        price["currency_options"] = _currency_options(price, given or {}, price["currency_options"])
    return call.save(price, old, "price.updated")
