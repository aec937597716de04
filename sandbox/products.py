"""Products: retrieve, update, list, delete; `catalog.py` creates them. The example of a kind (see `router.py`)."""

from __future__ import annotations

import re
from typing import Any, Final

from .errors import refuse
from .router import Call, Kind, assign, changes, declare_kind, retrieves, route
from .store import declare_index
from .wire import Obj

declare_kind(Kind("product"))
retrieves("/v1/products/{id}", "product")
declare_index("product", "active")


#: The limits of each list in Stripe's reference (https://docs.stripe.com/api/products/create).
MOST_IMAGES: Final = 8
MOST_FEATURES: Final = 15
LONGEST_FEATURE: Final = 80
LONGEST_URL: Final = 2048
_OF_SERVICES: Final = ("statement_descriptor", "unit_label")
#: Fields that an update sets to the given value; "" unsets them.
_PLAIN: Final = ("description", "package_dimensions", "statement_descriptor", "unit_label", "url")


def new_product(call: Call, params: dict[str, Any], default_price: str | None = None) -> Obj:
    """Create a product from create parameters; prices use it for `product_data`."""
    now = call.now()
    id = params.get("id") or call.mint("prod_", 14)
    if call.store.get("product", id) is not None:
        raise refuse("product_exists", param="id")
    kind = params.get("type", "service")
    _check_good(kind, params)
    _check_shown(params)
    product: Obj = {
        **call.head("product", id, at=now),
        "active": params.get("active", True),
        "attributes": [],
        "default_price": default_price,
        "images": list(params.get("images") or ()),
        "marketing_features": list(params.get("marketing_features") or ()),
        "metadata": call.metadata({}, params.get("metadata", {})),
        "name": params["name"],
        "shippable": params.get("shippable"),
        "tax_details": None,
        "type": kind,
        "updated": now,
    }
    assign(product, params, *_PLAIN)
    _set_tax(product, params)
    return call.add(product, "product.created")


def _check_shown(params: dict[str, Any]) -> None:
    """What customers see of a product: images, features, its page, and the text on their statements."""
    for name, most in (("images", MOST_IMAGES), ("marketing_features", MOST_FEATURES)):
        if len(params.get(name) or ()) > most:
            raise refuse("too_many", param=name, most=most, count=len(params[name]))
    for index, image in enumerate(params.get("images") or ()):
        _check_url(image, f"images[{index}]")
    if params.get("url"):
        _check_url(params["url"], "url")
    for index, feature in enumerate(params.get("marketing_features") or ()):
        if len(feature["name"]) > LONGEST_FEATURE:
            where = f"marketing_features[{index}][name]"
            raise refuse("too_long", param=where, value=feature["name"], most=LONGEST_FEATURE)
    if params.get("statement_descriptor"):
        check_statement_descriptor(params["statement_descriptor"])


def _check_url(value: str, param: str) -> None:
    scheme, colon, rest = value.partition("://")
    if not colon or scheme.lower() not in ("http", "https"):
        raise refuse("url_scheme", param=param)
    if len(value) > LONGEST_URL:
        raise refuse("url_long", param=param)
    if not re.match(r"[^\s/?#]", rest) or re.search(r"[\s<>\"\x00-\x1f]", value):
        raise refuse("url", param=param)


def check_statement_descriptor(value: str) -> None:
    """Validate the text on a customer's statement (https://docs.stripe.com/get-started/account/statement-descriptors)."""
    for character in "<>\\\"'":
        if character in value:
            raise refuse("statement_descriptor_character", character=character)
    if not re.search(r"[A-Za-z]", value):
        raise refuse("statement_descriptor_letter")


def _check_good(kind: str, params: dict[str, Any]) -> None:
    """A good has no fields for recurring charges.

    https://github.com/stripe/stripe-dotnet/issues/2046
    """
    for name in _OF_SERVICES:
        if kind == "good" and name in params:
            raise refuse("unknown", param=name)


def _set_tax(product: Obj, params: dict[str, Any]) -> None:
    """The tax code is shown on its own and, as recorded, again in `tax_details`."""
    details = dict(product["tax_details"] or {"performance_location": None, "tax_code": None})
    if "tax_code" in params:
        details["tax_code"] = params["tax_code"] or None
    if "tax_details" in params:
        given = params["tax_details"] or dict.fromkeys(details)
        details.update({name: value or None for name, value in given.items()})
    product["tax_code"] = details["tax_code"]
    product["tax_details"] = details if any(details.values()) else None


@route("GET", "/v1/products")
def list_products(call: Call) -> Obj:
    """GET /v1/products, filtered by `active`, `ids`, `shippable`, `url`."""
    where = call.given("active", "shippable", "type", "url")
    if "ids" in call.params:
        where["id"] = call.params["ids"]
    return call.page("product", where)


@route("POST", "/v1/products/{id}")
def update(call: Call) -> Obj:
    """POST /v1/products/{id}."""
    product = call.fetch("product", call.args["id"])
    old = dict(product)
    params = call.params
    _check_good(product["type"], params)
    _check_shown(params)
    if "name" in params:
        if not params["name"]:
            raise refuse("empty", param="name")
        product["name"] = params["name"]
    product.update(call.given("active", "shippable"))
    assign(product, params, *_PLAIN)
    for name, given in call.given("images", "marketing_features").items():
        product[name] = list(given or ())
    _set_tax(product, params)
    call.set_metadata(product)
    if "default_price" in params:
        product["default_price"] = _default_price(call, product) if params["default_price"] else None
    changed = changes(old, product)
    if changed:
        product["updated"] = call.now()
        call.store.put(product)
        call.event("product.updated", product, changed)
    return product


def _default_price(call: Call, product: Obj) -> str:
    price = call.fetch("price", call.params["default_price"], param="default_price", status=400)
    if price["product"] != product["id"]:
        raise refuse("default_price_foreign", price=price["id"], other=price["product"])
    return str(price["id"])


@route("DELETE", "/v1/products/{id}")
def delete(call: Call) -> Obj:
    """DELETE /v1/products/{id}: only a product that never had a price."""
    product = call.fetch("product", call.args["id"])
    if call.store.first("price", {"product": product["id"]}) is not None:
        raise refuse("product_has_prices")
    call.store.remove("product", product["id"])
    gone: Obj = {"id": product["id"], "object": "product", "deleted": True}
    call.event("product.deleted", {**product, "active": False})
    return gone
