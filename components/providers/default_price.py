"""The link from a product to its default price, a resource of its own: price needs product, and product names price.

https://docs.stripe.com/api/products/update#update_product-default_price
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from typing_extensions import TypedDict

from components.providers.inventory import StripeObject
from components.providers.kind import Kind
from components.providers.lifecycle import StripeProvider
from components.providers.values import MISSING, Inputs


class OwnArguments(TypedDict):
    owner: str


class CreateParams(TypedDict):
    product: str
    price: str


class UpdateParams(TypedDict):
    price: str


DEFAULT_PRICE = Kind(
    name="DefaultPrice",
    noun="default price",
    path="/v1/products",
    create=f"{__name__}:CreateParams",
    update=f"{__name__}:UpdateParams",
    own=OwnArguments,
    natural_key="the product",
    unique=("product",),
    advice={"No such price": "Link it by the id of a Price: price=price.id."},
    when_deleted="Cleared, if it still is this price.",
    when_gone="Another default price shows as another `price`; a product without one has the link made again.",
)


class DefaultPriceProvider(StripeProvider):
    kind = DEFAULT_PRICE

    def warnings(self, id_: str, olds: Inputs, old: Inputs, new: Inputs, replaces: list[str]) -> Iterator[str]:
        yield from ()

    def find_or_make(self, new: Inputs) -> StripeObject:
        return self._set(new["product"], new)

    def apply(self, id_: str, old: Inputs, new: Inputs, remote: StripeObject | None) -> StripeObject | None:
        return None if old.get("price") == new["price"] else self._set(id_, new)

    def _set(self, product: str, new: Inputs) -> StripeObject:
        params = {"default_price": new["price"]}
        remote = self.call("post", f"/v1/products/{product}", params, subject=self.subject(new, product)).data
        self.inventory.remember(remote)
        return remote

    def is_gone(self, remote: StripeObject) -> bool:
        return not remote.get("default_price")

    def returned(self, name: str, value: Any, remote: StripeObject) -> Any:
        found = remote.get("id" if name == "product" else "default_price")
        return (found.get("id") if isinstance(found, dict) else found) or MISSING

    def remove(self, id_: str, known: Inputs, *, being_replaced: bool) -> StripeObject | None:
        remote = self.inventory.fetch(id_)
        if remote is None or self.returned("price", None, remote) != known.get("price"):
            return remote
        return self.call("post", f"/v1/products/{id_}", {"default_price": ""}, subject=self.subject(known, id_)).data
