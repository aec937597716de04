"""What a program declares to adopt an account as it is, and what it leaves alone and why. Pure.

Every declaration is compared with the object that it adopts by the providers' own code: a `pulumi up` writes the owner
into the object's metadata, and nothing else. What cannot be declared so is left alone.
"""

from __future__ import annotations

import keyword
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final

from components.adopted import Ids
from components.providers.coupon import takes_off
from components.providers.inventory import OWNER_KEY, StripeObject, owner_of, stack_of
from components.providers.kind import Kind
from components.providers.kinds import PROVIDERS
from components.providers.subscription_items import key_of
from components.providers.values import Inputs, id_of, mapping, path_text
from components.publication import price_name
from components.terms import price_parameters
from pricing.adopt import source
from pricing.adopt.plans import Around, FoundPlan, NoPlan, find, slug, unique, units_of
from pricing.adopt.source import Call, Name, Statement

_ADOPTED: Final = [provider.kind.name for provider in PROVIDERS if not provider.kind.is_link]
IMPORTS: Final = {
    "PublishedPlan": "components.plan",
    "Subscriber": "components.subscriber",
    **dict.fromkeys(("Fee", "Overage", "Plan", "Tier", "Usage", "Version"), "components.pricing"),
    **dict.fromkeys((*_ADOPTED, "DefaultPrice"), "components.resources"),
}
#: An id that Stripe has made up, as opposed to one that somebody chose.
_CHOSEN: Final[Mapping[str, Callable[[str], bool]]] = {
    "Product": lambda id_: not id_.startswith("prod_"),
    "Coupon": lambda id_: not (len(id_) == 8 and id_.isalnum() and id_ != id_.upper() and id_ != id_.lower()),
}
#: What a subscriber declares of a subscription, or leaves to Stripe.
_SAID_BY_SUBSCRIBER: Final = frozenset(
    [
        *("automatic_tax", "billing_mode", "billing_schedules", "cancel_at_period_end", "cancellation_details"),
        *("collection_method", "currency", "customer", "days_until_due", "discounts", "invoice_settings"),
        *("payment_settings", "trial_end", "trial_settings"),
    ]
)
_ENDED: Final = ("canceled", "incomplete_expired")


@dataclass(frozen=True)
class Account:
    """What an account has, each list from the oldest on.

    Attributes:
        subscriptions: None if the key may not read them.
        customers: None if they are not asked for.
    """

    products: Sequence[StripeObject]
    prices: Sequence[StripeObject]
    meters: Sequence[StripeObject] = ()
    coupons: Sequence[StripeObject] = ()
    promotion_codes: Sequence[StripeObject] = ()
    subscriptions: Sequence[StripeObject] | None = ()
    customers: Sequence[StripeObject] | None = None


@dataclass(frozen=True)
class Stack:
    """The stack that adopts.

    Attributes:
        name: `<project>/<stack>`.
        held: the objects in its state, by kind and id.
        before: what an earlier adoption names; it is declared again, whether or not it is in the state.
    """

    name: str
    held: frozenset[tuple[str, str]] = frozenset()
    before: Ids = field(default_factory=dict)


@dataclass
class Adoption:
    """A program that adopts an account.

    Attributes:
        statements: what the program declares.
        ids: what each resource adopts.
        left: the ids of what is left alone, by the reason.
        notes: what a person should know, one sentence each.
        plans, versions: how many plans there are, and how many versions beside the offered ones.
    """

    statements: list[Statement] = field(default_factory=list)
    ids: dict[str, dict[str, str]] = field(default_factory=dict)
    left: dict[str, list[str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    plans: int = 0
    versions: int = 0

    @property
    def size(self) -> int:
        """How many objects are adopted."""
        return sum(len(names) for names in self.ids.values())

    def text(self, title: str) -> str:
        """The program."""
        return source.program(title, self.statements, IMPORTS)


Reconcile = Callable[[str], Any]
"""The reconciler of a kind, by the kind's name."""


def adopt(account: Account, stack: Stack, reconciler: Reconcile) -> Adoption:
    """The program that adopts an account for a stack."""
    return _Adopting(account, stack, reconciler).adopt()


class _Adopting:
    def __init__(self, account: Account, stack: Stack, reconciler: Reconcile) -> None:
        self._account, self._stack, self._reconciler = account, stack, reconciler
        self._before = {(kind, id_) for kind, names in stack.before.items() for id_ in names.values()}
        self._done = Adoption()
        self._price_by_id = {each["id"]: each for each in account.prices}
        self._meter_by_id = {each["id"]: each for each in account.meters}
        self._names: dict[str, set[str]] = {kind: set() for kind in (*_ADOPTED, "DefaultPrice")}
        self._plans: set[str] = set()
        self._variables: set[str] = {"program", *IMPORTS}
        #: The plan, version and key of the charge that a price is, by its id.
        self._places: dict[str, tuple[str, int, str]] = {}
        #: How a later statement names a version of a plan, and the currency that it has first.
        self._versions: dict[tuple[str, int], str] = {}
        self._currencies: dict[tuple[str, int], str] = {}
        #: How a later statement links to an object, by its id.
        self._links: dict[str, str] = {}
        self._by_lookup_key: dict[str, list[StripeObject]] = {}
        for price in account.prices:
            if price.get("lookup_key"):
                self._by_lookup_key.setdefault(price["lookup_key"], []).append(price)
        self._paid: Counter[str] = Counter()
        self._together: dict[str, set[str]] = {}
        for each in account.subscriptions or ():
            if each["status"] in _ENDED:
                continue
            on = {item["price"]["id"] for item in each["items"]["data"]}
            for price in on:
                self._paid[price] += 1
                self._together.setdefault(price, set()).update(on - {price})

    def adopt(self) -> Adoption:
        prices = self._prices()
        by_product: dict[str, list[StripeObject]] = {}
        for price in sorted(prices, key=_age):
            by_product.setdefault(str(price["product"]), []).append(price)
        meters, apart = self._meters(prices)
        for meter in meters:
            if meter["id"] in apart:
                self._meter(meter, apart[meter["id"]])
        around = Around({each["id"]: each for each in meters}, self._paid, self._together, self._plans)
        for product in self._products(by_product):
            of_product = by_product.pop(product["id"], [])
            try:
                self._plan(product, find(product, of_product, around, apart))
            except NoPlan:
                self._product(product, of_product, {each["id"]: each for each in meters})
        for lost in by_product.values():
            self._leave(lost, "their product is left alone")
        coupons = self._coupons()
        self._promotion_codes(coupons)
        self._customers()
        self._release_unused_names()
        self._done.statements = source.hoisted(self._done.statements, self._variable)
        return self._done

    # -- what is left alone ---------------------------------------------------------------------------------------

    def _leave(self, objects: Iterable[Mapping[str, Any]], why: str) -> None:
        for each in objects:
            self._done.left.setdefault(why, []).append(str(each["id"]))

    def _is_free(self, kind: str, remote: StripeObject) -> bool:
        """Whether this stack may adopt an object; otherwise it is left alone."""
        if (kind, remote["id"]) in self._before:
            return True
        owner = owner_of(remote)
        if owner is not None and stack_of(owner) != self._stack.name:
            self._leave([remote], f"another program has them ({stack_of(owner) or owner})")
            return False
        if owner is not None or (kind, remote["id"]) in self._stack.held:
            self._leave([remote], "this stack has them already")
            return False
        return True

    def _prices(self) -> list[StripeObject]:
        found = []
        for price in self._account.prices:
            if not self._is_free("Price", price):
                continue
            recurring = price.get("recurring") or {}
            if not str(price["id"]).startswith("price_"):
                self._leave([price], "legacy plans, which Stripe's price API cannot declare")
            elif recurring.get("usage_type") == "metered" and not recurring.get("meter"):
                self._leave([price], "metered prices without a meter, which Stripe no longer creates")
            elif not price["active"] and self._account.subscriptions is None:
                self._leave([price], "archived prices; this key may not read subscriptions, so nobody knows who pays")
            elif not price["active"] and not self._paid[price["id"]]:
                self._leave([price], "archived prices that nobody pays")
            else:
                found.append(price)
        return found

    def _products(self, prices: Mapping[str, Sequence[StripeObject]]) -> Iterator[StripeObject]:
        for product in sorted(self._account.products, key=_age):
            if not self._is_free("Product", product):
                continue
            if not product["active"] and not prices.get(product["id"]):
                self._leave([product], "archived products with nothing that anyone pays")
            else:
                yield product

    # -- meters ---------------------------------------------------------------------------------------------------

    def _meters(self, prices: Sequence[StripeObject]) -> tuple[list[StripeObject], dict[str, str]]:
        """The meters to adopt, and the names of those that are declared apart from a plan, by id."""
        # A meter has no owner. Whoever has prices on it is taken for its owner.
        owners: dict[str, set[str]] = {}
        for price in self._account.prices:
            meter, owner = (price.get("recurring") or {}).get("meter"), stack_of(owner_of(price))
            if meter and owner and ("Price", price["id"]) not in self._before:
                owners.setdefault(meter, set()).add(owner)
        products = {each["id"]: each for each in self._account.products}
        used: dict[str, set[str]] = {}
        for price in prices:
            if meter := (price.get("recurring") or {}).get("meter"):
                used.setdefault(meter, set()).add(str(price["product"]))
        found, apart = [], {}
        for meter in sorted(self._account.meters, key=_age):
            if not self._is_free("Meter", meter):
                continue
            others = owners.get(meter["id"], set()) - {self._stack.name}
            if others:
                self._leave([meter], f"another program has them ({', '.join(sorted(others))})")
                continue
            if meter["id"] in owners and ("Meter", meter["id"]) not in self._before:
                self._leave([meter], "this stack has them already")
                continue
            sold = used.get(meter["id"], set())
            if meter["status"] != "active" and not sold:
                self._leave([meter], "inactive meters without a price")
                continue
            found.append(meter)
            product = products.get(next(iter(sold), "")) if len(sold) == 1 else None
            if product is None or not _is_plain(meter, product):
                apart[meter["id"]] = unique(slug(str(meter["event_name"]), "meter")[:40], self._names["Meter"])
        return found, apart

    def _meter(self, meter: StripeObject, name: str) -> None:
        there = {name: meter.get(name) for name in ("display_name", "event_name", "event_time_window")}
        arguments = {**there, "default_aggregation": {"formula": meter["default_aggregation"]["formula"]}}
        for field_, usual in self._reconciler("Meter").kind.defaults.items():
            if meter.get(field_) != usual:
                arguments[field_] = dict(meter[field_])
        if meter["status"] != "active":
            arguments["active"] = False
        self._declare("Meter", name, meter, _present(arguments))

    # -- plans ----------------------------------------------------------------------------------------------------

    def _plan(self, product: StripeObject, plan: FoundPlan) -> None:
        """Declare a product as a plan.

        Raises:
            NoPlan: that would change something.
        """
        offered = max(plan.versions)
        ids: dict[tuple[str, str], str] = {("Product", f"{plan.name}-product"): plan.product}
        self._assert_same("Product", product, {"name": product["name"]})
        meter_ids = {**plan.own_meter, **plan.shared}
        for (number, key), id_ in plan.prices.items():
            version = plan.versions[number]
            arguments = {
                **price_parameters(version.plan, version.plan.charge(key), meter_ids.get(key)),
                "product": plan.product,
                **({"lookup_key": plan.lookup_keys[key]} if number == offered and key in plan.lookup_keys else {}),
                **({"active": False} if version.archived else {}),
            }
            self._assert_same("Price", self._price_by_id[id_], arguments)
            ids["Price", price_name(plan.name, number, key)] = id_
        # As PublishedPlan names them: a plan's only meter is the plan's.
        first = plan.versions[min(plan.versions)].plan
        own = [usage.key for usage in first.usage if usage.meter is None]
        for key, id_ in plan.own_meter.items():
            ids["Meter", f"{plan.name}-meter" if own == [key] else f"{plan.name}-{key}-meter"] = id_
        taken = {name for kind, name in ids if name in self._names[kind]}
        if taken:
            raise NoPlan("another resource has its name")
        shared = [id_ for id_ in plan.shared.values() if id_ not in self._links]
        if shared:
            raise NoPlan("its meter is left alone")
        keywords: dict[str, Any] = {}
        if plan.own_meter:
            events = {key: str(self._meter_by_id[id_]["event_name"]) for key, id_ in plan.own_meter.items()}
            keywords["event_name"] = next(iter(events.values())) if len(events) == 1 else events
        if plan.shared:
            keys = {usage.key: str(usage.meter) for each in plan.versions.values() for usage in each.plan.usage}
            keywords["meters"] = {
                keys[key]: Name(self._links[id_].removesuffix(".id")) for key, id_ in plan.shared.items()
            }
        if plan.lookup_keys:
            keywords["lookup_keys"] = dict(plan.lookup_keys)
        if not plan.default_price:
            keywords["default_price"] = False
        variable = self._variable(plan.name)
        for (kind, name), id_ in ids.items():
            self._names[kind].add(name)
            self._done.ids.setdefault(kind, {})[name] = id_
        self._plans.add(plan.name)
        self._links[plan.product] = f"{variable}.product.id"
        for (number, key), id_ in plan.prices.items():
            of = variable if number == offered else f"{variable}.version({number})"
            self._links[id_] = f"{of}.prices[{source.text(key)}].id"
            self._places[id_] = (plan.name, number, key)
            self._versions[plan.name, number] = of
            self._currencies[plan.name, number] = plan.versions[number].plan.currencies[0]
        self._done.plans += 1
        self._done.versions += len(plan.versions) - 1
        self._add(variable, Call("PublishedPlan", [plan.name, source.versions(plan.versions)], keywords))
        undeclared = _undeclared(product)
        if undeclared:
            self._note(f"plans declare no {' and no '.join(undeclared)}; their products keep what they have")
        for price in plan.beside:
            self._price(price, plan.name)

    # -- products and prices --------------------------------------------------------------------------------------

    def _product(
        self, product: StripeObject, prices: Sequence[StripeObject], meters: Mapping[str, StripeObject]
    ) -> None:
        """Declare a product and its prices one by one."""
        for price in prices:
            meter = str((price.get("recurring") or {}).get("meter"))
            if meter in meters and meter not in self._links:
                name = unique(slug(str(meters[meter]["event_name"]), "meter")[:40], self._names["Meter"])
                self._meter(meters[meter], name)
        name = unique(slug(str(product["name"])), self._names["Product"])
        reconciler = self._reconciler("Product")
        arguments = {"name": product["name"], **self._projected("Product", product)}
        if arguments.get("active") is not False:
            arguments.pop("active", None)
        for unset, usual in (("shippable", False), ("type", "service")):
            if arguments.get(unset) == usual:
                del arguments[unset]
        arguments.pop("default_price", None)
        if not _CHOSEN["Product"](str(product["id"])):
            arguments.pop("id", None)
        if not self._declare(reconciler.kind.name, name, product, arguments):
            self._leave(prices, "their product is left alone")
            return
        for price in prices:
            self._price(price, name)
        default = str(id_of(product.get("default_price")))
        if default in self._links:
            link = unique(f"{name}-default-price", self._names["DefaultPrice"])
            keywords = {"product": Name(self._links[product["id"]]), "price": Name(self._links[default])}
            self._add(None, Call("DefaultPrice", [link], keywords))

    def _price(self, price: StripeObject, of: str) -> None:
        arguments = self._projected("Price", price)
        if arguments.get("active") is not False:
            arguments.pop("active", None)
        if arguments.get("billing_scheme") == "per_unit":
            del arguments["billing_scheme"]
        if arguments.get("tax_behavior") == "unspecified":
            del arguments["tax_behavior"]
        if price.get("billing_scheme") == "tiered":
            arguments["tiers"] = [_spelled(tier) for tier in arguments["tiers"]]
        arguments = _spelled(arguments)
        if recurring := arguments.get("recurring"):
            usual = {"interval_count": 1, "usage_type": "licensed"}
            arguments["recurring"] = {n: v for n, v in recurring.items() if usual.get(n) != v}
        options = {
            code: _option(each)
            for code, each in (arguments.pop("currency_options", None) or {}).items()
            if code != price["currency"]
        }
        if options:
            arguments["currency_options"] = options
        key = arguments.get("lookup_key")
        if key is not None and not self._claims(price, key):
            del arguments["lookup_key"]
            self._note(f"{key} is the lookup key of several prices; only one of them declares it")
        arguments["product"] = price["product"]
        name = unique(self._price_name(price, of), self._names["Price"])
        self._declare("Price", name, price, arguments)

    def _claims(self, price: StripeObject, key: str) -> bool:
        """Whether a price is the one that declares its lookup key: the active one, else the newest."""
        same = self._by_lookup_key[key]
        return max(same, key=lambda each: (bool(each["active"]), _age(each))) is price

    def _price_name(self, price: StripeObject, of: str) -> str:
        if price.get("lookup_key"):
            return slug(str(price["lookup_key"]), of)
        if price.get("nickname"):
            label = slug(str(price["nickname"]), "price")
            return label if label.startswith(of) else f"{of}-{label}"
        recurring = price.get("recurring")
        every = "once" if recurring is None else str(recurring["interval"])
        return f"{of}-{every}" if price["currency"] == "usd" else f"{of}-{every}-{price['currency']}"

    # -- discounts ------------------------------------------------------------------------------------------------

    def _coupons(self) -> set[str]:
        found = set()
        for coupon in sorted(self._account.coupons, key=_age):
            if not self._is_free("Coupon", coupon):
                continue
            if not coupon["valid"]:
                self._leave([coupon], "coupons that nobody can redeem any more")
                continue
            arguments = self._projected("Coupon", coupon)
            label = coupon.get("name") or coupon["id"]
            if not _CHOSEN["Coupon"](str(coupon["id"])):
                del arguments["id"]
                label = coupon.get("name") or takes_off(arguments)
            options = {
                code: each
                for code, each in (arguments.pop("currency_options", None) or {}).items()
                if code != coupon["currency"]
            }
            if options:
                arguments["currency_options"] = options
            name = unique(slug(str(label), "coupon"), self._names["Coupon"])
            if self._declare("Coupon", name, coupon, arguments):
                found.add(str(coupon["id"]))
        return found

    def _promotion_codes(self, coupons: set[str]) -> None:
        redeem_by = {each["id"]: each.get("redeem_by") for each in self._account.coupons}
        for code in sorted(self._account.promotion_codes, key=_age):
            if not self._is_free("PromotionCode", code):
                continue
            coupon = id_of(mapping(code.get("promotion")).get("coupon"))
            if not code["active"]:
                self._leave([code], "promotion codes that nobody can redeem any more")
            elif coupon not in coupons:
                self._leave([code], "promotion codes whose coupon is left alone")
            elif code.get("customer") and self._account.customers is None:
                self._leave([code], "promotion codes for one customer; --customers adopts them")
            else:
                arguments = self._projected("PromotionCode", code)
                arguments.pop("active", None)
                restrictions = {n: v for n, v in (arguments.pop("restrictions", None) or {}).items() if v is not False}
                if restrictions:
                    arguments["restrictions"] = restrictions
                arguments["promotion"] = {"type": "coupon", "coupon": coupon}
                if arguments.get("expires_at") == redeem_by[coupon]:
                    # Stripe has filled it in.
                    arguments.pop("expires_at", None)
                self._declare(
                    "PromotionCode", unique(slug(code["code"]), self._names["PromotionCode"]), code, arguments
                )

    # -- customers ------------------------------------------------------------------------------------------------

    def _customers(self) -> None:
        if self._account.customers is None:
            return
        of: dict[str, list[StripeObject]] = {}
        for each in sorted(self._account.subscriptions or (), key=_age):
            if each["status"] in _ENDED:
                self._leave([each], "subscriptions that have ended")
            elif self._is_free("Subscription", each):
                of.setdefault(str(id_of(each["customer"])), []).append(each)
        for customer in sorted(self._account.customers, key=_age):
            if customer.get("deleted") or not self._is_free("Customer", customer):
                continue
            arguments = self._projected("Customer", customer)
            for unmanaged in ("invoice_prefix", "invoice_settings", "default_source", "cash_balance", "tax"):
                arguments.pop(unmanaged, None)
            if arguments.get("tax_exempt") == "none":
                del arguments["tax_exempt"]
            label = customer.get("name") or customer.get("email") or customer["id"]
            name = unique(slug(str(label), "customer"), self._names["Customer"])
            theirs = of.pop(str(customer["id"]), [])
            if len(theirs) == 1 and self._subscriber(name, customer, arguments, theirs[0]):
                continue
            if not self._declare("Customer", name, customer, arguments):
                self._leave(theirs, "subscriptions of customers that are left alone")
                continue
            for each in theirs:
                self._subscription(each, name)
        for theirs in of.values():
            for each in theirs:
                self._subscription(each, slug(str(each["id"])))

    def _subscriber(self, name: str, customer: StripeObject, details: Inputs, there: StripeObject) -> bool:
        """Declare a customer and its subscription as a subscriber of plans, if that says all of it."""
        items = there["items"]["data"]
        places = [self._places.get(item["price"]["id"]) for item in items]
        whole = {place[:2] for place in places if place is not None}
        charges = {charge for charge, place in self._places.items() if place[:2] in whole}
        fees = {int(item["quantity"]) for item in items if item.get("quantity") is not None}
        if (
            not all(places)
            or charges != {item["price"]["id"] for item in items}
            or len(items) != len(charges)
            or len({place[2] for place in places if place}) < len(places)
            or len(fees) > 1
            or details.keys() - {"name", "email"}
            or there.get("schedule")
            or there.get("cancel_at_period_end")
            or mapping(there.get("automatic_tax")).get("enabled")
            or any(_metadata(each) for each in (there, *items))
            or name in self._names["Subscription"]
            or len(there.get("discounts") or []) > 1
            or mapping(self._projected("Subscription", there)).keys() - _SAID_BY_SUBSCRIBER
        ):
            return False
        seats = fees.pop() if fees else 1
        discounts = self._projected("Subscription", there).get("discounts") or []
        coupon = discounts[0].get("coupon") if len(discounts) == 1 else None
        mode = str(mapping(there.get("billing_mode")).get("type", "flexible"))
        arguments = {
            "customer": customer["id"],
            "currency": there["currency"],
            "billing_mode": {"type": mode},
            "collection_method": "send_invoice",
            "days_until_due": there.get("days_until_due") or 30,
            "items": {
                place[2]: _present({"price": item["price"]["id"], "quantity": item.get("quantity")})
                for item, place in zip(items, places, strict=True)
                if place is not None
            },
        }
        if coupon is not None:
            arguments["discounts"] = [{"coupon": coupon}]
        try:
            self._assert_same("Customer", customer, details)
            self._assert_same("Subscription", there, arguments)
        except NoPlan:
            return False
        versions = sorted(whole)
        plans = [Name(self._versions[plan, number]) for plan, number in versions]
        keywords: dict[str, Any] = _present({"customer_name": details.get("name"), "email": details.get("email")})
        if seats != 1:
            keywords["seats"] = seats
        if arguments["days_until_due"] != 30:
            keywords["days_until_due"] = arguments["days_until_due"]
        if there["currency"] != self._currencies[versions[0]]:
            keywords["currency"] = there["currency"]
        if mode != "flexible":
            keywords["billing_mode"] = mode
        if coupon is not None:
            keywords["coupon"] = self._linked("coupon", coupon)
        for kind, remote in (("Customer", customer), ("Subscription", there)):
            self._names[kind].add(name)
            self._done.ids.setdefault(kind, {})[name] = str(remote["id"])
        self._add(None, Call("Subscriber", [name, plans[0] if len(plans) == 1 else plans], keywords))
        return True

    def _subscription(self, there: StripeObject, of: str) -> None:
        if there.get("schedule"):
            self._leave([there], "subscriptions with a schedule, which its maker manages")
            return
        items: dict[str, Any] = {}
        for item in there["items"]["data"]:
            link = self._links.get(item["price"]["id"], "")
            key = key_of(item) or (
                link.split('"')[1] if '"' in link else slug(str(item["price"].get("nickname")), "item")
            )
            items[unique(key, set(items))] = _present(
                {"price": item["price"]["id"], "quantity": item.get("quantity"), "metadata": _metadata(item)}
            )
        arguments: Inputs = {"customer": id_of(there["customer"]), "items": items}
        projected = self._projected("Subscription", there)
        wanted = ("collection_method", "days_until_due", "description", "metadata", "default_tax_rates", "cancel_at")
        for name in (*wanted, "cancel_at_period_end", "billing_mode", "on_behalf_of", "discounts"):
            if projected.get(name) not in (None, [], {}, False):
                arguments[name] = projected[name]
        if arguments.get("collection_method") == "charge_automatically":
            del arguments["collection_method"]
        if "cancel_at_period_end" in arguments:
            arguments.pop("cancel_at", None)
        if mapping(arguments.get("billing_mode")).get("type"):
            arguments["billing_mode"] = {"type": arguments["billing_mode"]["type"]}
        name = unique(of, self._names["Subscription"])
        self._declare("Subscription", name, there, arguments)

    # -- declaring ------------------------------------------------------------------------------------------------

    def _declare(self, kind: str, name: str, remote: StripeObject, arguments: Inputs) -> bool:
        """Declare one object, unless that would change it."""
        try:
            self._assert_same(kind, remote, arguments)
        except NoPlan as difference:
            self._names[kind].discard(name)
            self._leave([remote], str(difference))
            return False
        variable = self._variable(name if kind in ("Product", "Customer") else f"{name}-{kind.lower()}")
        self._done.ids.setdefault(kind, {})[name] = str(remote["id"])
        self._links[str(remote["id"])] = f"{variable}.id"
        self._add(
            variable, Call(kind, [name], {each: self._linked(each, arguments[each]) for each in _order(arguments)})
        )
        return True

    def _assert_same(self, kind: str, remote: StripeObject, arguments: Inputs) -> None:
        """Check that adopting an object changes nothing in it but its owner.

        Raises:
            NoPlan: it would, or the provider refuses the arguments.
        """
        reconciler = self._reconciler(kind)
        owner = f"{self._stack.name}/it"
        new, problems = reconciler.kind.schema.check({**arguments, "owner": owner})
        for rule in reconciler.kind.rules if not problems else ():
            problems += list(rule(new))
        if problems:
            path, sentence = problems[0]
            raise NoPlan(f"{_plural(reconciler.kind)} whose {path_text(path)} {sentence}")
        different = {*reconciler.different(remote, new)}
        params = reconciler.changes(remote["id"], reconciler.as_is(new, remote), new)
        metadata = params.pop("metadata", {})
        different |= {*params, *(f"metadata.{key}" for key in metadata if key != OWNER_KEY)}
        if kind == "Price" and _costs(new) != _costs(remote):
            different.add("what it costs")
        if different:
            raise NoPlan(
                f"{_plural(reconciler.kind)} that cannot be declared as they are ({', '.join(sorted(different))})"
            )

    def _projected(self, kind: str, remote: StripeObject) -> Inputs:
        """Every argument as Stripe has it."""
        reconciler = self._reconciler(kind)
        described: Kind = reconciler.kind
        names = described.struct.fields.keys() - described.unread - described.request_options - {"items"}
        metadata = {key: value for key, value in (remote.get("metadata") or {}).items() if key != OWNER_KEY}
        found = _present(reconciler.projection(dict.fromkeys(names), remote))
        return {
            **{name: value for name, value in found.items() if name != "metadata"},
            **_present({"metadata": metadata}),
        }

    def _linked(self, name: str, value: Any) -> Any:
        """A value with the ids of objects that the program declares as links to them."""
        if isinstance(value, Mapping):
            return {key: self._linked(key, each) for key, each in value.items()}
        if isinstance(value, list):
            return [self._linked(name, each) for each in value]
        if name in ("product", "products", "meter", "coupon", "customer", "price", "promotion_code"):
            link = self._links.get(str(value))
            return Name(link) if link is not None else value
        return value

    def _variable(self, name: str) -> str:
        word = slug(name).replace("-", "_")
        word = f"_{word}" if word[0].isdigit() else f"{word}_" if keyword.iskeyword(word) else word
        return unique(word, self._variables).replace("-", "_")

    def _add(self, variable: str | None, call: Call) -> None:
        self._done.statements.append((variable, call))

    def _note(self, sentence: str) -> None:
        if sentence not in self._done.notes:
            self._done.notes.append(sentence)

    def _release_unused_names(self) -> None:
        """Assign to a variable only what a later statement uses."""
        used = {each.partition(".")[0] for _, call in self._done.statements for each in _used(call)}
        self._done.statements = [
            (variable if variable in used else None, call) for variable, call in self._done.statements
        ]


def _used(value: Any) -> Iterator[str]:
    match value:
        case Name():
            yield value.text
        case Call():
            for each in (*value.arguments, *value.keywords.values()):
                yield from _used(each)
        case Mapping():
            for each in value.values():
                yield from _used(each)
        case list() | tuple():
            for each in value:
                yield from _used(each)


def _age(remote: Mapping[str, Any]) -> int:
    """UTC seconds; objects of one second stay in the order in which they are given."""
    return int(remote.get("created") or 0)


def _plural(kind: Kind) -> str:
    return f"{kind.noun}s"


def _is_plain(meter: Mapping[str, Any], product: Mapping[str, Any]) -> bool:
    """Whether a meter is as a plan makes its own."""
    name = str(product["name"])
    units = units_of(product, meter)
    return bool(
        meter["status"] == "active"
        and meter["display_name"] == f"{name} {units}"
        and meter["default_aggregation"]["formula"] == "sum"
        and mapping(meter.get("customer_mapping")).get("event_payload_key") == "stripe_customer_id"
        and mapping(meter.get("value_settings")).get("event_payload_key") == "value"
        and not meter.get("event_time_window")
    )


def _undeclared(product: Mapping[str, Any]) -> list[str]:
    """What a product has and a plan does not declare."""
    names = ("description", "images", "marketing_features", "statement_descriptor", "tax_code", "unit_label", "url")
    return [name for name in names if product.get(name)]


def _metadata(remote: Mapping[str, Any]) -> Inputs:
    return {key: value for key, value in (remote.get("metadata") or {}).items() if key != OWNER_KEY}


def _present(values: Mapping[str, Any]) -> Inputs:
    """The values without those that say nothing, however deep."""
    found: Inputs = {}
    for name, value in values.items():
        kept = _present(value) if isinstance(value, Mapping) else value
        if kept not in (None, "", {}, []):
            found[name] = kept
    return found


def _spelled(amounts: Mapping[str, Any]) -> Inputs:
    """With each amount once: whole minor units as a number, others as text."""
    said = dict(amounts)
    for name in ("unit_amount", "flat_amount"):
        if said.get(name) is not None:
            said.pop(f"{name}_decimal", None)
        elif str(said.get(f"{name}_decimal", ".")).isdecimal():
            said[name] = int(said.pop(f"{name}_decimal"))
    if said.get("flat_amount") == 0 and "up_to" in said:
        del said["flat_amount"]
    return said


def _option(option: Mapping[str, Any]) -> Inputs:
    there = _spelled({name: value for name, value in option.items() if value is not None})
    if there.get("tax_behavior") == "unspecified":
        del there["tax_behavior"]
    if "tiers" in there:
        there["tiers"] = [_spelled(_present(tier)) for tier in there["tiers"]]
    return there


def _order(arguments: Mapping[str, Any]) -> list[str]:
    """What an object is first, then where it belongs, then the rest, as a person writes it."""
    what = ("id", "name", "product", "customer", "code", "display_name", "event_name")
    first = (
        *what,
        "currency",
        "unit_amount",
        "unit_amount_decimal",
        "recurring",
        "billing_scheme",
        "tiers_mode",
        "tiers",
    )
    return [name for name in first if name in arguments] + sorted(arguments.keys() - set(first))


def _costs(price: Mapping[str, Any]) -> Any:
    """What a price costs, to the last digit, from arguments or from Stripe's object."""
    recurring = price.get("recurring") or {}
    packages = price.get("transform_quantity") or {}
    options = {code: each for code, each in (price.get("currency_options") or {}).items() if code != price["currency"]}
    return {
        "every": (recurring.get("interval"), recurring.get("interval_count") or 1) if recurring else None,
        "meter": recurring.get("meter"),
        "mode": price.get("tiers_mode"),
        "packages": (packages.get("divide_by"), packages.get("round")) if packages else None,
        "amounts": {code: _amounts(each) for code, each in {**options, price["currency"]: price}.items()},
    }


def _amounts(there: Mapping[str, Any]) -> Any:
    if there.get("tiers"):
        return [
            (
                tier.get("up_to") if tier.get("up_to") != "inf" else None,
                _decimal(tier, "unit_amount") or 0,
                _decimal(tier, "flat_amount") or 0,
            )
            for tier in there["tiers"]
        ]
    return _decimal(there, "unit_amount")


def _decimal(there: Mapping[str, Any], name: str) -> Decimal | None:
    for spelling in (f"{name}_decimal", name):
        if there.get(spelling) is not None:
            return Decimal(str(there[spelling]))
    return None
