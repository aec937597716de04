"""Coupons: how much a discount takes off, and for how long. https://docs.stripe.com/api/coupons"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

from typing_extensions import TypedDict

from components.account import StripeRefusal
from components.providers import paid, rules
from components.providers.inventory import StripeObject
from components.providers.kind import Change, Declarations, Kind, Problem
from components.providers.lifecycle import StripeProvider
from components.providers.policy import Field
from components.providers.reconciler import Reconciler
from components.providers.values import Inputs, decimal_string, is_unknown, mapping


class OwnArguments(TypedDict):
    owner: str


def amount(inputs: Inputs) -> Iterator[Problem]:
    """An amount in a currency, and perhaps in others, or a percentage."""
    given = [name for name in ("amount_off", "percent_off") if rules.given(inputs, name)]
    if not given:
        yield ("percent_off",), "is required, or amount_off with its currency"
    elif len(given) > 1:
        yield ("percent_off",), "cannot be combined with amount_off: a coupon takes off one or the other"
    elif given == ["amount_off"] and not rules.given(inputs, "currency"):
        yield ("currency",), "is required with amount_off"
    elif given == ["percent_off"]:
        for name in ("currency", "currency_options"):
            if rules.given(inputs, name):
                yield (name,), "needs amount_off: a percentage has no currency"
    for path, _ in rules.each(inputs, "currency_options.*"):
        if path[-1] == rules.find(inputs, "currency"):
            yield path, "is the coupon's own currency; its amount is amount_off"


def percentage(inputs: Inputs) -> Iterator[Problem]:
    text = decimal_string(rules.find(inputs, "percent_off"))
    if text is not None and not 0 < Decimal(text) <= 100:
        yield ("percent_off",), "must be above 0 and at most 100"


def duration(inputs: Inputs) -> Iterator[Problem]:
    kind = inputs.get("duration", "once")
    if is_unknown(kind):
        return
    if kind == "repeating" and not rules.given(inputs, "duration_in_months"):
        yield ("duration_in_months",), 'is required with duration "repeating"'
    if kind != "repeating" and rules.given(inputs, "duration_in_months"):
        yield ("duration",), 'must be "repeating", since duration_in_months is declared'


# -- what it takes off ----------------------------------------------------------------------------------------------


def takes_off(coupon: Mapping[str, Any]) -> str:
    """What a coupon takes off and for how long: `20 % off for 3 months`; its arguments, or Stripe's own object."""
    percent = decimal_string(coupon.get("percent_off"))
    if percent is not None:
        off = f"{percent} %"
    elif is_unknown(coupon.get("amount_off")) or is_unknown(coupon.get("currency")):
        off = "an amount"
    else:
        options = mapping(coupon.get("currency_options"))
        amounts = {str(coupon.get("currency")): coupon.get("amount_off")}
        amounts |= {code: mapping(option).get("amount_off") for code, option in options.items()}
        known = [paid.text(Decimal(each), code) for code, each in amounts.items() if isinstance(each, int)]
        off = " or ".join(known)
    months = coupon.get("duration_in_months")
    match coupon.get("duration", "once"):
        case "once":
            long = "one invoice"
        case "repeating" if isinstance(months, int):
            long = f"for {months} month{'' if months == 1 else 's'}"
        case "forever":
            long = "forever"
        case _:
            long = "for some time"
    products = mapping(coupon.get("applies_to")).get("products") or []
    known_products = products if isinstance(products, list) and not any(map(is_unknown, products)) else None
    only = "some products" if known_products is None else " and ".join(known_products)
    return f"{off} off {long}{f', of {only} only' if only else ''}"


def remarks(inputs: Inputs, is_new: bool, declaration: Declarations) -> Iterator[str]:
    if is_new:
        yield f"gives {takes_off(inputs)} to whoever has it"


# -- what a change means --------------------------------------------------------------------------------------------


def refusal(change: Change) -> str | None:
    """A chosen id can have only one coupon, and customers who have it keep its discount."""
    if not change.replaces or "id" not in change.new or change.old.get("id") != change.new["id"]:
        return None
    return (
        f"{' and '.join(change.replaces)} cannot be changed under the same id; choose another id, which creates "
        f"another coupon; customers who have this one keep {takes_off(change.old)}"
    )


def warnings(change: Change) -> Iterator[str]:
    if change.replaces:
        yield (
            f"is deleted and another coupon is created, {takes_off(change.old)} => {takes_off(change.new)}; customers "
            "who have this one keep its discount, and promotion codes for it are no longer valid"
        )
        return
    before, after = (mapping(each.get("currency_options")) for each in (change.old, change.new))
    for code in sorted(before.keys() - after.keys() if after else ()):
        yield f"currency_options.{code} keeps its value in Stripe: {_NO_WAY_BACK}"


_NO_WAY_BACK = "Stripe cannot remove a currency from a coupon; another id creates another coupon"

COUPON = Kind(
    name="Coupon",
    noun="coupon",
    path="/v1/coupons",
    create="stripe.params:CouponCreateParams",
    update="stripe.params:CouponUpdateParams",
    own=OwnArguments,
    searchable=False,
    natural_key="a chosen `id`, else the owner in its metadata",
    when_deleted="Deleted: nobody can redeem it any more, and its promotion codes are no longer valid. Existing "
    "discounts continue on its terms. Only one coupon can have a chosen id, so a change that would replace it "
    "is refused in the preview.",
    when_gone="A deleted coupon is created again; customers who had it keep the discount of the old one.",
    fields={
        "applies_to": Field(default={"products": []}),
        "currency_options": Field(paid=True, keep=_NO_WAY_BACK),
        "duration": Field(default="once"),
        "id": Field(computed="generated by Stripe", unique=True),
    },
    expand=("applies_to", "currency_options"),
    rules=(
        rules.metadata,
        rules.longest({"name": 40}),
        rules.chosen_id,
        rules.currencies("currency", "currency_options.*"),
        rules.between(
            {
                "amount_off": (1, None),
                "currency_options.*.amount_off": (1, None),
                "duration_in_months": (1, None),
                "max_redemptions": (1, None),
            }
        ),
        amount,
        percentage,
        duration,
    ),
    refusal=refusal,
    warnings=warnings,
    remarks=remarks,
)


class Coupons(Reconciler):
    def candidates(self, new: Inputs) -> list[StripeObject]:
        """None if the id is chosen: Stripe then refuses a second one, so no list of all coupons is needed."""
        return [] if "id" in new else super().candidates(new)

    def occupant(self, refusal: StripeRefusal, new: Inputs) -> StripeObject | None:
        taken = new.get("id")
        if not taken or refusal.code != "resource_already_exists":
            return None
        remote = self.inventory.fetch(taken)
        return None if remote is None else self.ours_to_take(remote, new, "id")

    def remove(self, id_: str, known: Inputs, *, being_replaced: bool) -> StripeObject | None:
        subject = self.subject(known, id_)
        self.call("delete", f"{COUPON.path}/{id_}", {}, subject=subject)
        self.run.tell("info", f"{subject}: deleted; customers who have it keep {takes_off(known)}")
        return None


class CouponProvider(StripeProvider):
    kind = COUPON
    reconciler_type = Coupons
