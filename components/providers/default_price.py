"""The link from a product to its default price. It is a resource of its own, since each of the two needs the other.

https://docs.stripe.com/api/products/update#update_product-default_price
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from typing_extensions import TypedDict

from components.providers.inventory import StripeObject
from components.providers.kind import Kind
from components.providers.lifecycle import StripeProvider
from components.providers.policy import Field
from components.providers.reconciler import Reconciler
from components.providers.values import MISSING, Inputs


class OwnArguments(TypedDict):
    owner: str


class CreateParams(TypedDict):
    product: str
    price: str


class UpdateParams(TypedDict):
    price: str


def is_cleared(product: Mapping[str, Any]) -> bool:
    return not product.get("default_price")


DEFAULT_PRICE = Kind(
    name="DefaultPrice",
    noun="default price",
    path="/v1/products",
    create=f"{__name__}:CreateParams",
    update=f"{__name__}:UpdateParams",
    own=OwnArguments,
    natural_key="the product",
    fields={"product": Field(unique=True)},
    is_link=True,
    advice={"No such price": "Link it by the id of a Price: price=price.id."},
    when_deleted="Cleared, if it is still this price.",
    when_gone="Another default price shows as another `price`; if the product has none, the link is created again.",
    gone=is_cleared,
)


class DefaultPrices(Reconciler):
    def create(self, new: Inputs) -> StripeObject:
        # An adopted product may have this default price already. One that this run has made or adopted is known.
        there = self.inventory.known(new["product"]) or self.inventory.fetch(new["product"])
        if there is not None and self.returned("price", None, there) == new["price"]:
            return there
        return self._set(new["product"], new)

    def apply(self, id_: str, old: Inputs, new: Inputs, remote: StripeObject | None) -> StripeObject | None:
        return None if old.get("price") == new["price"] else self._set(id_, new)

    def _set(self, product: str, new: Inputs) -> StripeObject:
        params = {"default_price": new["price"]}
        remote = self.call("post", f"{self.kind.path}/{product}", params, subject=self.subject(new, product)).data
        self.inventory.remember(remote)
        return remote

    def returned(self, name: str, value: Any, remote: StripeObject) -> Any:
        found = remote.get("id" if name == "product" else "default_price")
        return (found.get("id") if isinstance(found, dict) else found) or MISSING

    def remove(self, id_: str, known: Inputs, *, being_replaced: bool) -> StripeObject | None:
        remote = self.inventory.fetch(id_)
        if remote is None or self.returned("price", None, remote) != known.get("price"):
            return remote
        cleared = {"default_price": ""}
        return self.call("post", f"{self.kind.path}/{id_}", cleared, subject=self.subject(known, id_)).data


class DefaultPriceProvider(StripeProvider):
    kind = DEFAULT_PRICE
    reconciler_type = DefaultPrices
