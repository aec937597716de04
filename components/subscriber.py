"""`Subscriber`: a customer with any number of plans on one subscription."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, TypedDict, Unpack

import pulumi
from pulumi import Input
from pulumi.runtime.resource import collapse_alias_to_urn

from components.placement import place
from components.plan import PlanVersion, PublishedPlan
from components.pricing import Fee, Plan, PricingError, Usage, unknown_argument
from components.resources import Cancel, Customer, CustomerArguments, Price, Subscription, SubscriptionArguments
from components.terms import price_parameters
from components.this_run import this_run

_TYPE: Final = "stripe-pricing:index:Subscriber"

Seats = int | str
"""A whole number, or its text as in a CSV."""


class SubscriberArguments(TypedDict, total=False):
    seats: Seats | Mapping[str, Seats]
    customer: Input[str] | None
    customer_name: Input[str] | None
    email: Input[str] | None
    own: Sequence[Fee | Usage]
    coupon: Input[str] | None
    trial_days: int | None
    currency: str | None
    billing_mode: Literal["flexible", "classic"]
    proration: Literal["create_prorations", "always_invoice", "none"] | None
    price_changes: Literal["now", "at_renewal"] | None
    cancel: Cancel
    days_until_due: int
    protect: bool
    opts: pulumi.ResourceOptions | None


class Subscriber(pulumi.ComponentResource):
    """A new or existing customer, and one subscription with the plans that it pays.

    Example: `Subscriber("pacas-inc", alpaca, customer_name="Pacas Inc.", email="billing@example.com", seats=3)`.
    Another plan, one more plan, other seats, a coupon: each updates the one subscription in place.

    A new subscriber gets the version that a plan offers. A subscriber that the stack has on another version follows the
    `rollout` of the offered one. If the offered version is older and has no rollout, subscribers on a later one stay.
    `Subscriber("acme", alpaca.version(1))` stays on that version.

    Stripe refuses to charge automatically without a stored payment method, so invoices are sent by e-mail, due in
    `days_until_due` days.

    Args:
        name: names the resources; never change it.
        plans: what it pays: published plans, or one version of them. The keys of their charges must differ, because
            they name the subscription's items.
        seats: quantity of the fees that are per seat; a mapping by the key of the fee if they differ.
        customer: the id of an existing customer; then omit `customer_name` and `email`.
        customer_name, email: of a new customer; can be Outputs, also secret ones, which the state encrypts.
        own: charges for this subscriber alone, which replace the plan's with the same key: an agreed fee or allowance.
            They become separate prices on the plan's product.
        coupon: the id of a coupon.
        trial_days: days before the first fee of a new subscription; by default the plan's.
        currency: one of the plans'; by default their first.
        proration: how Stripe bills a change within a period; by default it prorates on the next invoice.
        price_changes: when new prices take effect, whatever a rollout says: `now` or `at_renewal`.
        cancel: how the subscription ends when the subscriber is taken out of the program, as on `Subscription`: now,
            or with its period, `{"when": "period_end"}`. Apply it before you take the subscriber out.
        protect: whether Pulumi refuses to delete or replace the customer and the subscription.

    Raises:
        PricingError: the plans cannot be combined, or an argument is invalid.
    """

    name: str
    customer_id: Input[str]
    customer: Customer | None
    subscription: Subscription

    def __init__(
        self,
        name: str,
        plans: PublishedPlan | PlanVersion | Sequence[PublishedPlan | PlanVersion],
        **given: Unpack[SubscriberArguments],
    ) -> None:
        for unknown in given.keys() - SubscriberArguments.__annotations__.keys():
            # If it were ignored, a misspelled `seats` would bill one seat.
            raise PricingError(f"subscriber {name}: {unknown_argument(unknown, SubscriberArguments.__annotations__)}")
        if name in this_run().subscribers:
            raise PricingError(f"subscriber {name} is declared twice")
        formerly = _formerly(name, given.get("opts"))
        placed = place(name, [plans] if isinstance(plans, (PublishedPlan, PlanVersion)) else plans, list(formerly))
        several = placed.versions
        own = {charge.key: charge for charge in given.get("own", ())}
        charges = _charges(name, several, own)
        currency = given.get("currency") or several[0].plan.currencies[0]
        seats = {
            key: _seats(name, given.get("seats", 1), key) for key, (_, charge) in charges.items() if _per_seat(charge)
        }
        price_changes = given.get("price_changes") or placed.price_changes()
        super().__init__(_TYPE, name, {}, given.get("opts"))
        self.name = name
        this_run().subscribers.add(name)
        for sold in several:
            sold.subscribers.append(name)

        def below(suffix: str = "") -> list[pulumi.Alias]:
            """The aliases of a resource of ours, whose name begins with the subscriber's."""
            return [pulumi.Alias(f"{before}{suffix}", parent=urn) for before, urn in formerly.items()]

        # Where version 0.1 declared it: below the plan.
        former = [*below(), *(pulumi.Alias(parent=_former_parent(sold)) for sold in several)]
        kept = pulumi.ResourceOptions(parent=self, protect=given.get("protect", False), aliases=former)
        self.customer = None
        customer_name, email, exists = given.get("customer_name"), given.get("email"), given.get("customer")
        if exists is not None:
            if customer_name is not None or email is not None:
                raise PricingError(f"subscriber {name}: customer is an existing one; omit customer_name and email")
            self.customer_id = exists
        else:
            details: CustomerArguments = {}
            if customer_name is not None:
                details["name"] = customer_name
            if email is not None:
                details["email"] = email
            self.customer = Customer(name, opts=kept, **details)
            self.customer_id = self.customer.id
        items: dict[str, Any] = {}
        for key, (sold, charge) in charges.items():
            price = sold.prices[key]
            if key in own:
                price = Price(
                    f"{name}-{key}",
                    product=sold.products[key].id,
                    nickname=f"{sold.plan.name} {key} of {name}",
                    **price_parameters(
                        _with(sold.plan, charge), charge, sold.meters[key].id if key in sold.meters else None
                    ),
                    opts=pulumi.ResourceOptions(parent=self, aliases=below(f"-{key}")),
                )
            items[key] = {"price": price.id}
            if isinstance(charge, Fee):
                items[key]["quantity"] = seats.get(key, 1)
        terms: SubscriptionArguments = {
            "customer": self.customer_id,
            # If omitted, it is the prices' own, and a plan in another currency would fail halfway: Stripe cannot change
            # a subscription's currency. Declared, it replaces the subscription, and the preview says so.
            "currency": currency,
            "billing_mode": {"type": given.get("billing_mode", "flexible")},
            "collection_method": "send_invoice",
            "days_until_due": given.get("days_until_due", 30),
            "items": items,
        }
        trial = given.get("trial_days") or next(
            (sold.plan.trial_days for sold in several if sold.plan.trial_days), None
        )
        if placed.paid is not None and not given.get("trial_days"):
            # A plan's trial is for new subscriptions. Stripe takes it only at creation, so a trial that the plan got
            # later would replace a subscription that pays.
            trial = placed.paid.get("trial_period_days")
        if trial is not None:
            terms["trial_period_days"] = trial
        if (coupon := given.get("coupon")) is not None:
            terms["discounts"] = pulumi.Output.from_input(coupon).apply(lambda id_: [{"coupon": id_}])
        if (proration := given.get("proration")) is not None:
            terms["proration_behavior"] = proration
        if price_changes is not None:
            terms["price_changes"] = price_changes
        if (cancel := given.get("cancel")) is not None:
            terms["cancel"] = cancel
        if (versions := placed.record()) is not None:
            terms["plan_versions"] = versions
        # A preview can name the prices that it moves from only after comparing them.
        after = pulumi.ResourceOptions(depends_on=placed.leaves)
        self.subscription = Subscription(name, opts=pulumi.ResourceOptions.merge(kept, after), **terms)
        self.register_outputs({})


def _charges(
    name: str, plans: Sequence[PlanVersion], own: Mapping[str, Fee | Usage]
) -> dict[str, tuple[PlanVersion, Fee | Usage]]:
    """Each charge by its key, with its plan."""
    if not plans:
        raise PricingError(f"subscriber {name}: needs at least one plan")
    charges: dict[str, tuple[PlanVersion, Fee | Usage]] = {}
    for sold in plans:
        for charge in sold.plan.charges:
            if charge.key in charges:
                raise PricingError(
                    f"subscriber {name}: {charges[charge.key][0].name} and {sold.name} both have a charge "
                    f"{charge.key!r}; give one of them another key"
                )
            charges[charge.key] = (sold, own.get(charge.key, charge))
    for key, charge in own.items():
        if key not in charges:
            raise PricingError(f"subscriber {name}: no plan has a charge {key!r}; they have {', '.join(charges)}")
        if type(charge) is not type(charges[key][0].plan.charge(key)):
            raise PricingError(f"subscriber {name}: {key!r} is a fee in one place and usage in the other")
    return charges


def _with(plan: Plan, charge: Fee | Usage) -> Plan:
    """The plan with one charge replaced; sold only in the new charge's currencies."""
    fees = charge if isinstance(charge, Fee) else ()
    usage = charge if isinstance(charge, Usage) else ()
    return Plan(plan.name, fees=fees, usage=usage, currency=plan.currency)


def _per_seat(charge: Fee | Usage) -> bool:
    return isinstance(charge, Fee) and charge.per == "seat"


def _seats(name: str, given: Seats | Mapping[str, Seats], key: str) -> int:
    value = given.get(key, 1) if isinstance(given, Mapping) else given
    number = value.strip() if isinstance(value, str) else value
    if isinstance(number, str) and number.isdecimal():
        number = int(number)
    if not isinstance(number, int) or isinstance(number, bool) or number < 1:
        raise PricingError(f"subscriber {name}: seats is {value!r}; must be a whole number of at least 1")
    return number


def _formerly(name: str, opts: pulumi.ResourceOptions | None) -> dict[str, Input[str]]:
    """The names of a subscriber before, as its aliases say, and the URN of each.

    The engine gives the aliases of a component to what is below it only in the run in which the component itself gets
    its new name. If that run stops in between, the next one would create customer and subscription anew, and delete
    those that are there.
    """
    found: dict[str, Input[str]] = {}
    for alias in (opts.aliases if opts else None) or ():
        if isinstance(alias, pulumi.Alias):
            given: Any = alias.name
            before = name if given is ... else given
            found[before] = collapse_alias_to_urn(alias, name, _TYPE, opts.parent if opts else None)
        elif isinstance(alias, str):
            found[alias.rpartition("::")[2]] = alias
    return found


def _former_parent(sold: PlanVersion) -> str:
    stack, project = pulumi.get_stack(), pulumi.get_project()
    return f"urn:pulumi:{stack}::{project}::stripe-pricing:index:FlatFeeWithOverages::{sold.name}"
