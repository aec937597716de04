"""Creating products and prices: a request can create a product with its default price, or a price with its product."""

from __future__ import annotations

from .errors import refuse
from .prices import new_id, new_price, price_shape, save
from .products import new_product
from .router import Call, route
from .wire import Obj


@route("POST", "/v1/products")
def create_product(call: Call) -> Obj:
    """POST /v1/products, with its default price from `default_price_data`, if given."""
    given = call.params.get("default_price_data")
    if not given:
        return new_product(call, call.params)
    # Recorded: the product's event comes first and already names the price.
    product = new_product(call, call.params, new_id(call))
    new_price(call, given, product["id"], product["default_price"])
    return product


@route("POST", "/v1/prices")
def create_price(call: Call) -> Obj:
    """POST /v1/prices, with its product from `product_data`, if given."""
    params = call.params
    if params.get("product") and params.get("product_data"):
        raise refuse("only_one", param="product", names="product, product_data")
    if not params.get("product") and not params.get("product_data"):
        raise refuse("no_product")
    if params.get("product"):
        product = call.fetch("product", params["product"], param="product", status=400)
        return new_price(call, params, str(product["id"]))
    shape = price_shape(call, params)
    product = new_product(call, params["product_data"])
    return save(call, params, str(product["id"]), shape)
