"""`PublishedPlan`: a plan and its versions as the Stripe objects that sell it.

It creates a product, a meter for each metered quantity, and for each version a licensed price for each fee and a
metered price for each usage charge. One version is offered: its prices have the lookup keys and the product's default
price.
Source of the model: https://docs.stripe.com/billing/subscriptions/usage-based/use-cases/flat-fee-and-overages
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pulumi

from components.adopted import adopted
from components.pricing import Plan, PricingError, Rollout, Version, versions_of
from components.publication import assert_as_published, assert_promoted, last_run, price_name
from components.resources import DefaultPrice, Meter, Price, PriceArguments, Product
from components.settings import StackConfig, offers
from components.terms import price_parameters, terms
from components.this_run import this_run


@dataclass(frozen=True, eq=False)
class PlanVersion:
    """One version of a published plan. `Subscriber("acme", alpaca.version(1))` stays on it, whichever is offered.

    Attributes:
        name: the plan's name.
        number: the version's number.
        plan: what it costs.
        rollout: what happens to subscribers on other versions when this one is offered.
        archived: whether its prices are archived in Stripe.
        products, prices, meters: by the key of the charge.
        subscribers: the names of this program's subscribers on it.
        adopted: the keys of the charges whose prices the stack adopts.
    """

    name: str
    number: int
    plan: Plan
    rollout: Rollout | None
    archived: bool = False
    products: dict[str, Product] = field(default_factory=dict)
    prices: dict[str, Price] = field(default_factory=dict)
    meters: dict[str, Meter] = field(default_factory=dict)
    subscribers: list[str] = field(default_factory=list)
    adopted: set[str] = field(default_factory=set)

    @property
    def is_adopted(self) -> bool:
        """Whether the stack adopts all of its prices, so that what it costs was decided before this program."""
        return all(charge.key in self.adopted for charge in self.plan.charges)

    def meter_id(self, key: str) -> pulumi.Output[str] | None:
        """The id of the meter that counts a charge; None for a fee."""
        return self.meters[key].id if key in self.meters else None


class PublishedPlan(pulumi.ComponentResource):
    """A plan and the Stripe objects that sell it.

    Example: `PublishedPlan("alpaca-ai", Plan("Alpaca.ai", ...), event_name="alpaca_ai_tokens")`.
    With versions: `PublishedPlan("alpaca-ai", {1: Plan(...), 2: Version(Plan(...), rollout="at_renewal")}, ...)`.

    Once applied to a stack, a version always costs the same there; a new price needs a new version. The newest version
    is offered, or the one that `stripe-pricing:offers` in the stack's config names.

    Args:
        name: names every resource, and the lookup keys `<name>:<key of the charge>`; never change it.
        plan: what it costs, or each of its versions by number; a plan alone is version 1.
        event_name: the event name of meter events; unique among an account's active meters. If the plan has several
            meters of its own, a mapping from the key of each usage charge. All versions share them.
        meters: meters that the plan shares with other plans, by the `meter` of its usage charges.
        protect: whether Pulumi refuses to delete or replace the plan's meters.
        lookup_keys: other lookup keys than `<name>:<key>`, by the key of the charge, which an app knows already.
        default_price: whether the offered version's first fee is the product's default price.

    A price that the stack adopts (docs/adopt.md) keeps the nickname and metadata that it has, and the lookup key
    unless `lookup_keys` names it.

    Attributes:
        versions: every version by number; `offered` is the version for new subscribers.
        plan, prices, products, meters, lookup_keys: those of the offered version, by the key of the charge.
        product: the plan's; a charge with a product name has its own.
        event_names: those of the plan's own meters, by the key of the charge.

    Raises:
        PricingError: a meter or an event name is missing; a published version has changed; the stack's config offers a
            version that does not exist, or one that the stack's `promotedFrom` stack has not applied.
    """

    product: Product

    def __init__(
        self,
        name: str,
        plan: Plan | Mapping[int, Plan | Version],
        *,
        event_name: str | Mapping[str, str] | None = None,
        meters: Mapping[str, Meter] | None = None,
        protect: bool = False,
        lookup_keys: Mapping[str, str] | None = None,
        default_price: bool = True,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        declared = versions_of(name, plan)
        config = StackConfig(pulumi.runtime.get_config, pulumi.runtime.is_config_secret)
        offered = declared.get(number := offers(config).get(name, max(declared)))
        if offered is None:
            raise PricingError(f"stripe-pricing:offers says {name}: {number}; {name} has {_numbers(declared)}")
        if offered.archived:
            raise PricingError(f"{name} v{number} is offered and archived; Stripe sells no archived price")
        chosen = dict(lookup_keys or {})
        for key in chosen.keys() - {charge.key for each in declared.values() for charge in each.plan.charges}:
            raise PricingError(f"{name}: lookup_keys names {key!r}, and there is no such charge")
        self.lookup_keys = {
            charge.key: chosen.get(charge.key, f"{name}:{charge.key}") for charge in offered.plan.charges
        }
        if name in this_run().plans:
            key = next(iter(self.lookup_keys.values()))
            raise PricingError(f"two plans are called {name}, and both claim the lookup key {key}")
        self.event_names = event_names(offered.plan.name, _own_usage(declared, meters or {}), event_name)
        assert_as_published(name, declared)
        assert_promoted(name, number, offered.plan, config("promotedFrom"))
        former = pulumi.ResourceOptions(aliases=[pulumi.Alias(type_="stripe-pricing:index:FlatFeeWithOverages")])
        # The model in money, above its objects. One property, because the engine prints a component's other properties
        # with a changed one, and a reviewer should see only old -> new.
        super().__init__(
            "stripe-pricing:index:PublishedPlan",
            name,
            {"price": offered.plan.price_text},
            pulumi.ResourceOptions.merge(former, opts),
        )
        this_run().plans[name] = self
        self.name, self.plan = name, offered.plan
        self.versions = {
            each: PlanVersion(name, each, version.plan, version.rollout, version.archived)
            for each, version in declared.items()
        }
        self.offered = self.versions[number]
        # The offered version first: customers read its product names, and the other versions' prices wait for its own.
        in_order = [self.offered, *(each for each in self.versions.values() if each is not self.offered)]
        self._make_meters(in_order, meters or {}, protect)
        self._make_products(in_order)
        for version in in_order:
            self._make_prices(version, chosen)
        self.prices, self.products, self.meters = self.offered.prices, self.offered.products, self.offered.meters
        first_fee = next((self.prices[fee.key] for fee in self.plan.fees if fee.product is None), None)
        if first_fee is not None and default_price:
            DefaultPrice(
                f"{name}-default-price",
                product=self.product.id,
                price=first_fee.id,
                opts=pulumi.ResourceOptions(parent=self),
            )
        made = [price.id for version in in_order for price in version.prices.values()]
        content = {str(each): terms(version.plan) for each, version in declared.items()}
        # Only a run that has created everything sets it: the next run, and a stack that is promoted from this one, read
        # it as what is published.
        self.register_outputs(
            {
                "offered": pulumi.Output.all(*made).apply(lambda _: number),
                "versions": pulumi.Output.all(*made).apply(lambda _: content),
            }
        )

    def version(self, number: int) -> PlanVersion:
        """One version, to pin a subscriber to it.

        Raises:
            PricingError: there is no such version.
        """
        if number not in self.versions:
            raise PricingError(f"{self.name} has no version {number}; it has {_numbers(self.versions)}")
        return self.versions[number]

    @property
    def catalogue(self) -> dict[str, Any]:
        """Every version by its number: its costs, its prices, and its subscribers.

        `status` is `offered`; `kept` if subscribers of this program stay on it; else `retired`. Read it after all
        subscribers are declared.
        """
        return {
            str(number): {
                "status": "offered" if version is self.offered else "kept" if version.subscribers else "retired",
                "price": version.plan.price_text,
                "prices": {
                    charge.key: {
                        "id": version.prices[charge.key].id,
                        "price": version.plan.charge_text(charge),
                        **(
                            {"lookup_key": self.lookup_keys[charge.key]}
                            if version is self.offered and charge.key in self.lookup_keys
                            else {}
                        ),
                    }
                    for charge in version.plan.charges
                },
            }
            for number, version in self.versions.items()
        }

    def _make_meters(self, versions: Iterable[PlanVersion], shared: Mapping[str, Meter], protect: bool) -> None:
        own: dict[str, Meter] = {}
        for version in versions:
            for usage in version.plan.usage:
                if usage.meter is not None:
                    version.meters[usage.key] = shared[usage.meter]
                    continue
                if usage.key not in own:
                    own[usage.key] = Meter(
                        self._meter_name(usage.key),
                        display_name=f"{version.plan.name} {usage.units}",
                        event_name=self.event_names[usage.key],
                        default_aggregation={"formula": "sum"},
                        opts=pulumi.ResourceOptions(parent=self, protect=protect),
                    )
                version.meters[usage.key] = own[usage.key]

    def _meter_name(self, key: str) -> str:
        """The resource's name; a plan's only meter keeps its name when a later version has more."""
        alone = f"{self.name}-meter"
        there = last_run().get(("Meter", alone))
        first = next(iter(self.versions.values()))
        is_alone = (
            there["event_name"] == self.event_names[key]
            if there is not None
            else [usage.key for usage in first.plan.usage if usage.meter is None] == [key]
        )
        return alone if is_alone else f"{self.name}-{key}-meter"

    def _make_products(self, versions: Iterable[PlanVersion]) -> None:
        child = pulumi.ResourceOptions(parent=self)
        self.product = Product(f"{self.name}-product", name=self.plan.name, opts=child)
        own: dict[str, Product] = {}
        for version in versions:
            for charge in version.plan.charges:
                if charge.product is not None and charge.key not in own:
                    own[charge.key] = Product(f"{self.name}-{charge.key}-product", name=charge.product, opts=child)
                version.products[charge.key] = self.product if charge.product is None else own[charge.key]

    def _make_prices(self, version: PlanVersion, chosen: Mapping[str, str]) -> None:
        offered = version is self.offered
        of_version = "" if version.number == 1 else f" v{version.number}"
        # It has released the lookup keys once the offered version's prices have them.
        waits_for = None if offered else list(self.offered.prices.values())
        for charge in version.plan.charges:
            arguments: PriceArguments = price_parameters(version.plan, charge, version.meter_id(charge.key))
            arguments["product"] = version.products[charge.key].id
            resource = price_name(self.name, version.number, charge.key)
            exists = adopted("Price", resource) is not None
            if exists:
                version.adopted.add(charge.key)
            else:
                arguments["nickname"] = f"{version.plan.name}{of_version} {charge.key}"
            if offered and (not exists or charge.key in chosen):
                arguments["lookup_key"] = self.lookup_keys[charge.key]
            elif offered:
                del self.lookup_keys[charge.key]
            if version.number > 1 and not exists:
                arguments["metadata"] = {"plan": self.name, "version": str(version.number), "charge": charge.key}
            if version.archived:
                arguments["active"] = False
            if version.number > 1 or len(self.versions) > 1:
                arguments["archive_when_unused"] = True
            version.prices[charge.key] = Price(
                resource,
                **arguments,
                opts=pulumi.ResourceOptions(parent=self, depends_on=waits_for),
            )


def _numbers(versions: Iterable[int]) -> str:
    *others, last = [str(number) for number in versions]
    return f"versions {', '.join(others)} and {last}" if others else f"version {last} only"


def _own_usage(versions: Mapping[int, Version], meters: Mapping[str, Meter]) -> list[str]:
    """The keys of the usage charges with their own meter, in any version.

    Raises:
        PricingError: a shared meter is missing.
    """
    own: list[str] = []
    for version in versions.values():
        for charge in version.plan.usage:
            if charge.meter is None:
                own.append(charge.key)
            elif charge.meter not in meters:
                raise PricingError(
                    f"{version.plan.name}: usage {charge.key} is counted by the meter {charge.meter!r}; name it in "
                    "meters"
                )
    return list(dict.fromkeys(own))


def event_names(plan: str, own: list[str], given: str | Mapping[str, str] | None) -> dict[str, str]:
    """The event name of each usage charge with its own meter, by the charge's key.

    Raises:
        PricingError: one is missing.
    """
    if isinstance(given, str):
        if len(own) != 1:
            raise PricingError(f"{plan} has {len(own)} meters of its own; give each an event_name by the charge's key")
        return {own[0]: given}
    named = dict(given or {})
    if named.keys() != set(own):
        raise PricingError(f"{plan} needs an event_name for {', '.join(own) or 'no charge'}")
    return named
