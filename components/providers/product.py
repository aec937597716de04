"""Products: what is sold. https://docs.stripe.com/api/products"""

from __future__ import annotations

from collections.abc import Iterator

from typing_extensions import TypedDict

from components.account import StripeRefusal
from components.providers import rules
from components.providers.inventory import StripeObject
from components.providers.kind import Change, Kind, Problem
from components.providers.lifecycle import StripeProvider
from components.providers.policy import Field
from components.providers.reconciler import Reconciler
from components.providers.values import Inputs, decimals


class OwnArguments(TypedDict):
    owner: str


def package(inputs: Inputs) -> Iterator[Problem]:
    for path, value in rules.each(inputs, "package_dimensions.*"):
        if isinstance(value, str) and (decimals(value) > 2 or value.startswith("-")):
            yield path, "must be positive, with at most 2 decimals"


def default_price_data(inputs: Inputs) -> Iterator[Problem]:
    data, path = rules.find(inputs, "default_price_data"), ("default_price_data",)
    if not isinstance(data, dict):
        return
    yield from rules.one_amount(data, path, rules.AMOUNTS)
    yield from rules.custom_amount(data.get("custom_unit_amount"), (*path, "custom_unit_amount"))
    yield from rules.currency_options(data, path, data.get("currency"), "per_unit")
    if not any(rules.given(data, name) for name in rules.AMOUNTS):
        yield path, "needs unit_amount, unit_amount_decimal or custom_unit_amount"


# -- what a change means --------------------------------------------------------------------------------------------


def refusal(change: Change) -> str | None:
    """Of a chosen id there is only one product, and Stripe deletes none that has had prices."""
    if not change.replaces or "id" not in change.new or change.old.get("id") != change.new["id"]:
        return None
    return (
        f"{' and '.join(change.replaces)} cannot be changed under the same id; choose another id, which makes another "
        "product"
        + (", or declare a Price and a DefaultPrice instead" if "default_price_data" in change.replaces else "")
    )


def warnings(change: Change) -> Iterator[str]:
    if change.replaces:
        yield "is replaced by a new product, and so are all prices on it; links to this one stop working"
    elif change.new.get("active", True) is False and change.old.get("active", True) is not False:
        yield "will be archived: no new subscriptions to its prices; those that exist go on billing"


PRODUCT = Kind(
    name="Product",
    noun="product",
    path="/v1/products",
    create="stripe.params:ProductCreateParams",
    update="stripe.params:ProductUpdateParams",
    own=OwnArguments,
    natural_key="a chosen `id`, else the owner in its metadata",
    when_deleted="Deleted if it never had prices, else archived (Stripe deletes no product with prices). Under the "
    "same chosen id there is no second one: a change that would replace it is refused in the preview.",
    when_gone="An archived product shows as `active: false`; a deleted one is made again.",
    fields={
        "active": Field(unset_to=True, drift_from=True),
        "default_price_data": Field(
            write_only="Stripe returns the price that it made, not these parameters",
            keep="it makes a price when the product is made; the price lives on by itself",
        ),
        "id": Field(computed="one that Stripe makes up", unique=True),
        "shippable": Field(unset_to=False),
        "type": Field(default="service"),
    },
    rules=(
        rules.metadata,
        rules.longest(
            {
                "name": 250,
                "unit_label": 12,
                "statement_descriptor": 22,
                "description": 40_000,
                "marketing_features.*.name": 80,
            }
        ),
        rules.at_most_items({"images": 8, "marketing_features": 15}),
        rules.urls("url", "images.*"),
        rules.descriptors("statement_descriptor"),
        rules.currencies("default_price_data.currency", "default_price_data.currency_options.*"),
        rules.intervals("default_price_data.recurring"),
        rules.chosen_id,
        package,
        default_price_data,
    ),
    refusal=refusal,
    warnings=warnings,
)


class Products(Reconciler):
    def occupant(self, refusal: StripeRefusal, new: Inputs) -> StripeObject | None:
        taken = new.get("id")
        if not taken or refusal.code != "resource_already_exists":
            return None
        remote = self.inventory.fetch(taken)
        return None if remote is None else self.ours_to_take(remote, new, "id")

    def remove(self, id_: str, known: Inputs, *, being_replaced: bool) -> StripeObject | None:
        subject = self.subject(known, id_)
        try:
            self.call("delete", f"{PRODUCT.path}/{id_}", {}, subject=subject)
        except StripeRefusal as refusal:
            if refusal.status != 400 or "cannot be deleted" not in refusal.message:
                raise
            left = self.call("post", f"{PRODUCT.path}/{id_}", {"active": False}, subject=subject).data
            self.run.tell("info", f"{subject}: archived; Stripe deletes no product that has had prices")
            return left
        return None


class ProductProvider(StripeProvider):
    kind = PRODUCT
    reconciler_type = Products
