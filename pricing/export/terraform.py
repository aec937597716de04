"""A stack's objects as HCL and import blocks for Stripe's own Terraform provider, and what that cannot express. Pure.

Written for provider stripe/stripe 0.3.0, whose import reads an object and leaves its metadata, its currency options and
the default price of a product as they are.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from components.providers.inventory import OWNER_KEY, StripeObject, owner_of
from components.providers.values import id_of, mapping

PROVIDER_VERSION: Final = "0.3.0"
HEAD: Final = f"""\
# Written by `pricing export --to terraform`. It is yours to edit.

terraform {{
  required_version = ">= 1.11"
  required_providers {{
    stripe = {{
      source  = "stripe/stripe"
      version = "{PROVIDER_VERSION}"
    }}
  }}
}}

provider "stripe" {{}}
"""


@dataclass(frozen=True)
class Reference:
    """An attribute of another resource: `stripe_product.pro.id`."""

    text: str


@dataclass(frozen=True)
class Block:
    """A nested block: `recurring {{ ... }}`, as opposed to an attribute."""

    values: Mapping[str, Any]


@dataclass
class Export:
    """Objects as Terraform's configuration.

    Attributes:
        resources, imports: the blocks, as text.
        reasons: what the provider cannot express, and the ids.
    """

    resources: list[str] = field(default_factory=list)
    imports: list[str] = field(default_factory=list)
    reasons: dict[str, list[str]] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """How many objects are exported."""
        return len(self.imports)

    @property
    def main(self) -> str:
        return "\n".join([HEAD, *self.resources])

    @property
    def import_blocks(self) -> str:
        return "\n".join(self.imports)


@dataclass(frozen=True)
class Objects:
    """What a stack has, each list from the oldest on."""

    meters: Sequence[StripeObject] = ()
    products: Sequence[StripeObject] = ()
    prices: Sequence[StripeObject] = ()
    coupons: Sequence[StripeObject] = ()
    promotion_codes: Sequence[StripeObject] = ()
    customers: Sequence[StripeObject] = ()
    subscriptions: Sequence[StripeObject] = ()


def export(objects: Objects) -> Export:
    """The configuration of a stack's objects."""
    return _Exporting().export(objects)


class _Exporting:
    def __init__(self) -> None:
        self._done = Export()
        self._addresses: dict[str, str] = {}
        self._taken: set[str] = set()

    def export(self, objects: Objects) -> Export:
        for kind, some, arguments in (
            ("billing_meter", objects.meters, self._meter),
            ("product", objects.products, self._product),
            ("price", objects.prices, self._price),
            ("coupon", objects.coupons, self._coupon),
            ("promotion_code", objects.promotion_codes, self._promotion_code),
            ("customer", objects.customers, self._customer),
            ("subscription", objects.subscriptions, self._subscription),
        ):
            for each in some:
                self._add(kind, each, arguments)
        return self._done

    def _add(self, kind: str, remote: StripeObject, arguments: Callable[[StripeObject], Mapping[str, Any]]) -> None:
        address = f"stripe_{kind}.{self._name(kind, remote)}"
        self._addresses[str(remote["id"])] = address
        metadata = dict(sorted((remote.get("metadata") or {}).items()))
        values = {**arguments(remote), **({"metadata": metadata} if metadata.keys() - {OWNER_KEY} else {})}
        kind_, _, name = address.partition(".")
        self._done.resources.append(f'resource "{kind_}" "{name}" {{\n{_body(values, 1)}}}\n')
        self._done.imports.append(f"import {{\n  to = {address}\n  id = {_text(str(remote['id']))}\n}}\n")

    def _name(self, kind: str, remote: Mapping[str, Any]) -> str:
        """The name of the resource in Pulumi, else of the object, as an identifier."""
        label = (owner_of(remote) or "").rpartition("/")[2] or str(remote.get("event_name") or remote["id"])
        word = re.sub(r"[^a-z0-9]+", "_", label.lower()).strip("_")
        word = word if word[:1].isalpha() else f"_{word}"
        name, number = word, 1
        while f"{kind}.{name}" in self._taken:
            number += 1
            name = f"{word}_{number}"
        self._taken.add(f"{kind}.{name}")
        return name

    def _cannot(self, why: str, remote: Mapping[str, Any]) -> None:
        self._done.reasons.setdefault(why, []).append(str(remote["id"]))

    def _reference(self, id_: Any) -> Any:
        address = self._addresses.get(str(id_of(id_)))
        return Reference(f"{address}.id") if address else id_of(id_)

    # -- kinds ------------------------------------------------------------------------------------------------------

    def _meter(self, meter: StripeObject) -> dict[str, Any]:
        if meter["status"] != "active":
            self._cannot("inactive meters: the provider has no argument for it; they stay inactive", meter)
        return {
            **_given(meter, "display_name", "event_name", "event_time_window"),
            "default_aggregation": Block(_given(meter["default_aggregation"], "formula")),
            "customer_mapping": Block(_given(meter["customer_mapping"], "event_payload_key", "type")),
            "value_settings": Block(_given(meter["value_settings"], "event_payload_key")),
        }

    def _product(self, product: StripeObject) -> dict[str, Any]:
        if product.get("default_price"):
            self._cannot("default prices of products: the provider only reads them; they stay as they are", product)
        names = ("name", "description", "images", "statement_descriptor", "tax_code", "unit_label", "url", "shippable")
        values = _given(product, *names)
        if product["active"] is False:
            values["active"] = False
        if features := product.get("marketing_features"):
            values["marketing_features"] = [Block(_given(each, "name")) for each in features]
        if size := product.get("package_dimensions"):
            values["package_dimensions"] = Block(_given(size, "height", "length", "weight", "width"))
        return values

    def _price(self, price: StripeObject) -> dict[str, Any]:
        others = (price.get("currency_options") or {}).keys() - {price["currency"]}
        if others:
            self._cannot("amounts in other currencies: the provider does not read them; they stay as they are", price)
        values: dict[str, Any] = {
            "product": self._reference(price["product"]),
            **_given(price, "currency", "nickname", "lookup_key", "tiers_mode"),
        }
        if price["active"] is False:
            values["active"] = False
        if price.get("tax_behavior") in ("inclusive", "exclusive"):
            values["tax_behavior"] = price["tax_behavior"]
        if price.get("billing_scheme") == "tiered":
            values["billing_scheme"] = "tiered"
            values["tiers"] = [Block(_tier(each)) for each in price["tiers"]]
        elif custom := price.get("custom_unit_amount"):
            values["custom_unit_amount"] = Block({"enabled": True, **_given(custom, "minimum", "maximum", "preset")})
        else:
            values |= _amount(price, "unit_amount")
        if packages := price.get("transform_quantity"):
            values["transform_quantity"] = _given(packages, "divide_by", "round")
        if recurring := price.get("recurring"):
            every = _given(recurring, "interval", "interval_count", "usage_type", "trial_period_days")
            meter = {"meter": self._reference(recurring["meter"])} if recurring.get("meter") else {}
            values["recurring"] = Block({**every, **meter})
        return values

    def _coupon(self, coupon: StripeObject) -> dict[str, Any]:
        if (coupon.get("currency_options") or {}).keys() - {coupon.get("currency")}:
            self._cannot("amounts in other currencies: the provider does not read them; they stay as they are", coupon)
        amount = ("percent_off",) if coupon.get("percent_off") is not None else ("amount_off", "currency")
        values = _given(coupon, "name", *amount, "duration", "duration_in_months", "max_redemptions", "redeem_by")
        if mapping(coupon.get("applies_to")).get("products"):
            self._cannot("the products of a coupon: the provider does not read them; they stay as they are", coupon)
        return values

    def _promotion_code(self, code: StripeObject) -> dict[str, Any]:
        promotion = {"type": "coupon", "coupon": self._reference(mapping(code["promotion"]).get("coupon"))}
        values = _given(code, "code", "customer", "expires_at", "max_redemptions")
        if code["active"] is False:
            values["active"] = False
        restrictions = _given(mapping(code.get("restrictions")), "minimum_amount", "minimum_amount_currency")
        if mapping(code.get("restrictions")).get("first_time_transaction"):
            restrictions["first_time_transaction"] = True
        return {
            **values,
            "promotion": Block(promotion),
            **({"restrictions": Block(restrictions)} if restrictions else {}),
        }

    def _customer(self, customer: StripeObject) -> dict[str, Any]:
        values = _given(customer, "name", "email", "description", "phone", "preferred_locales")
        if customer.get("tax_exempt") in ("exempt", "reverse"):
            values["tax_exempt"] = customer["tax_exempt"]
        return values

    def _subscription(self, subscription: StripeObject) -> dict[str, Any]:
        self._cannot(
            "subscriptions: the provider sees no change of their items in Stripe, and destroying one leaves it billing",
            subscription,
        )
        items = [
            {"price": self._reference(item["price"]["id"]), **_given(item, "quantity")}
            for item in subscription["items"]["data"]
        ]
        values = {"customer": self._reference(subscription["customer"]), **_given(subscription, "description")}
        if subscription.get("collection_method") == "send_invoice":
            values |= _given(subscription, "collection_method", "days_until_due")
        return {**values, "items": items}


def _given(remote: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: remote[name] for name in names if remote.get(name) not in (None, "", [])}


def _tier(tier: Mapping[str, Any]) -> dict[str, Any]:
    end = "inf" if tier.get("up_to") is None else str(tier["up_to"])
    flat = _amount(tier, "flat_amount") if tier.get("flat_amount_decimal") or tier.get("flat_amount") else {}
    return {"up_to": end, **_amount(tier, "unit_amount"), **flat}


def _amount(there: Mapping[str, Any], name: str) -> dict[str, Any]:
    """An amount once: a whole number of minor units, else a decimal."""
    if there.get(name) is not None:
        return {name: int(there[name])}
    return _given(there, f"{name}_decimal")


# -- HCL --------------------------------------------------------------------------------------------------------------


def _body(values: Mapping[str, Any], depth: int) -> str:
    """The inside of a block as `terraform fmt` lays it out: attributes with aligned signs, then the nested blocks."""
    indent = "  " * depth
    blocks = {name: value for name, value in values.items() if isinstance(value, Block) or _is_blocks(value)}
    plain = {name: value for name, value in values.items() if name not in blocks}
    lines = []
    for group in _aligned(plain):
        width = max(len(name) for name, _ in group)
        lines += [f"{indent}{name.ljust(width)} = {_value(value, depth)}\n" for name, value in group]
    for name, value in blocks.items():
        for block in value if isinstance(value, list) else [value]:
            lines.append(("\n" if lines else "") + f"{indent}{name} {{\n{_body(block.values, depth + 1)}{indent}}}\n")
    return "".join(lines)


def _is_blocks(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(each, Block) for each in value)


def _aligned(values: Mapping[str, Any]) -> Iterator[list[tuple[str, Any]]]:
    """Attributes in groups of one-line values, which `terraform fmt` aligns; one on several lines is on its own."""
    group: list[tuple[str, Any]] = []
    for name, value in values.items():
        if isinstance(value, Mapping):
            if group:
                yield group
            yield [(name, value)]
            group = []
        else:
            group.append((name, value))
    if group:
        yield group


def _value(value: Any, depth: int) -> str:
    match value:
        case Reference():
            return value.text
        case bool():
            return str(value).lower()
        case Mapping():
            indent = "  " * depth
            keys = {name: name if name.isidentifier() else _text(name) for name in value}
            width = max(len(key) for key in keys.values())
            inner = "".join(
                f"{indent}  {keys[name].ljust(width)} = {_value(each, depth + 1)}\n" for name, each in value.items()
            )
            return f"{{\n{inner}{indent}}}"
        case list():
            return f"[{', '.join(_entry(each, depth) for each in value)}]"
        case str():
            return _text(value)
    return str(value)


def _entry(value: Any, depth: int) -> str:
    if isinstance(value, Mapping):
        return f"{{ {', '.join(f'{name} = {_value(each, depth)}' for name, each in value.items())} }}"
    return _value(value, depth)


def _text(value: str) -> str:
    """A string literal; `${` and `%{` begin a template in HCL."""
    return re.sub(r"([$%])\{", r"\1\1{", json.dumps(value, ensure_ascii=False))
