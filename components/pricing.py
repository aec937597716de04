"""The pricing model as values: what a plan and its versions cost, before they are any Stripe object. Pure.

Amounts are major units ("100.00" USD) as text, int or `Decimal`; a float is refused, because it cannot hold every
amount exactly. In several currencies an amount is a mapping, `{"usd": "100.00", "eur": "90.00"}`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Context, Decimal, InvalidOperation
from difflib import get_close_matches
from itertools import pairwise
from typing import Annotated, Final, Literal, Self, TypedDict, Unpack

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, field_validator, model_validator

import money

Interval = Literal["day", "week", "month", "year"]
Exact = Decimal | int | str
"""One amount, as a program may write it."""
ExactAmounts = Exact | Mapping[str, Exact]
"""One amount, or one for each currency."""

#: More digits than any quantity times any amount has.
EXACT: Final = Context(prec=120)
#: Stripe's `unit_amount_decimal` takes at most this many decimals of a minor unit.
MAX_DECIMALS: Final = 12
#: Stripe's longest trial, in days: https://docs.stripe.com/api/subscriptions/create
LONGEST_TRIAL: Final = 730

_CURRENCY = re.compile(r"\A[a-z]{3}\Z")


class PricingError(ValueError):
    """An invalid pricing model; one line that says why."""


def unknown_argument(name: str, known: Iterable[str]) -> str:
    """The message about an unknown argument, which is mostly a typo."""
    close = get_close_matches(name, list(known), 1)
    return f"there is no argument {name}" + (f"; did you mean {close[0]}?" if close else "")


def _exact(value: object) -> Decimal:
    if isinstance(value, float):
        raise ValueError(f'{value!r} is a float, which cannot hold money exactly; write it as text: "{value}"')
    if isinstance(value, bool) or not isinstance(value, (Decimal, int, str)):
        raise ValueError(f"{value!r} is not an amount")
    try:
        amount = Decimal(value)
    except InvalidOperation:
        raise ValueError(f"{value!r} is not an amount; write it like 100.00") from None
    if not amount.is_finite() or amount < 0:
        raise ValueError(f"{value} is not an amount; it must be 0 or more")
    return amount


def _amounts(value: object) -> Decimal | dict[str, Decimal]:
    if not isinstance(value, Mapping):
        return _exact(value)
    if not value:
        raise ValueError("names no currency")
    for code in value:
        if not isinstance(code, str) or not _CURRENCY.match(code):
            raise ValueError(f"{code!r} is not a currency; write an ISO code in lower case, such as usd")
    return {code: _exact(amount) for code, amount in sorted(value.items())}


Amounts = Annotated[Decimal | Mapping[str, Decimal], BeforeValidator(_amounts)]
Key = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$", max_length=40)]
Count = Annotated[int, Field(ge=1, strict=True)]
ProductName = Annotated[str, Field(min_length=1, max_length=250)]


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    def __init__(self, **values: object) -> None:
        super().__init__(**values)


class _ChargeArguments(TypedDict, total=False):
    interval: Interval
    interval_count: int
    key: str
    product: str | None


class _FeeArguments(_ChargeArguments, total=False):
    per: Literal["seat", "subscription"]


class _OverageArguments(TypedDict, total=False):
    per: int
    round: Literal["up", "down"] | None


class _TierArguments(TypedDict, total=False):
    per: int
    up_to: int | None
    flat: ExactAmounts | None


class _UsageArguments(_ChargeArguments, total=False):
    units: str
    meter: str | None
    included: int
    overage: Overage | ExactAmounts | None
    tiers: Sequence[Tier]
    tiers_mode: Literal["graduated", "volume"]


class _PlanArguments(TypedDict, total=False):
    fees: Fee | ExactAmounts | Sequence[Fee]
    usage: Usage | Sequence[Usage]
    currency: str
    trial_days: int | None


class Fee(_Value):
    """What is billed in advance, whatever is used: `Fee("100.00")`, `Fee("1000.00", interval="year")`.

    Attributes:
        amount: major units for each seat, or for the whole subscription, and each interval.
        per: `seat` (the amount times the subscriber's seats) or `subscription`.
        interval, interval_count: how often it is billed.
        key: names the price and the subscription item; never change it.
        product: the name of a product of its own, if customers should see a name other than the plan's.
    """

    amount: Amounts
    per: Literal["seat", "subscription"] = "seat"
    interval: Interval = "month"
    interval_count: Count = 1
    key: Key = "license"
    product: ProductName | None = None

    def __init__(self, amount: ExactAmounts, **rest: Unpack[_FeeArguments]) -> None:
        super().__init__(amount=amount, **rest)


class Overage(_Value):
    """What usage above the included units costs: `amount` major units per `per` units, `Overage("0.04", per=100)`.

    `round` charges whole packages of `per` units, rounded "up" or "down" (Stripe's `transform_quantity`); without it
    a partial package is charged in proportion.
    """

    amount: Amounts
    per: Count = 1
    round: Literal["up", "down"] | None = None

    def __init__(self, amount: ExactAmounts, **rest: Unpack[_OverageArguments]) -> None:
        super().__init__(amount=amount, **rest)


class Tier(_Value):
    """One tier: `Tier("0.04", per=100, up_to=10_000)`.

    Attributes:
        amount: major units per `per` units.
        up_to: the last unit of the tier; None for the last tier, which is open-ended.
        flat: major units charged once when the tier is reached, besides the amount.
    """

    amount: Amounts
    per: Count = 1
    up_to: Count | None = None
    flat: Amounts | None = None

    def __init__(self, amount: ExactAmounts, **rest: Unpack[_TierArguments]) -> None:
        super().__init__(amount=amount, **rest)


class Usage(_Value):
    """What is billed in arrears, for usage that a meter counts: `Usage("token", included=1_000, overage=Overage(...))`.

    Attributes:
        unit, units: what is metered, in the singular and the plural (by default with an s).
        included: units that each interval covers without charge, for the whole subscription.
        overage: what units above `included` cost.
        tiers: instead of `overage`, ascending tiers, the last one open-ended. `up_to` counts from the first unit,
            including the included ones.
        tiers_mode: `graduated` (each unit at its own tier's rate) or `volume` (all at the rate of the tier reached).
        meter: the key of the meter, where several charges or plans share one; by default the charge has its own.
        interval, interval_count: the period over which usage is summed and billed.
        key: names the price and the subscription item; never change it.
        product: the name of a product of its own, so that customers can tell the lines of two usage charges apart.
    """

    unit: Annotated[str, Field(min_length=1, max_length=40)]
    units: Annotated[str, Field(min_length=1, max_length=40)]
    included: Annotated[int, Field(ge=0, strict=True)] = 0
    overage: Overage | None = None
    tiers: tuple[Tier, ...] = ()
    tiers_mode: Literal["graduated", "volume"] = "graduated"
    meter: Key | None = None
    interval: Interval = "month"
    interval_count: Count = 1
    key: Key = "usage"
    product: ProductName | None = None

    def __init__(self, unit: str, **rest: Unpack[_UsageArguments]) -> None:
        super().__init__(**{"unit": unit, "units": f"{unit}s", **rest})

    @field_validator("overage", mode="before")
    @classmethod
    def _plain_overage(cls, value: object) -> object:
        return Overage(value) if isinstance(value, (str, int, Decimal)) and not isinstance(value, bool) else value

    @model_validator(mode="after")
    def _one_price(self) -> Self:
        if (self.overage is None) == (not self.tiers):
            raise ValueError("needs one of overage and tiers")
        if self.overage and self.overage.round and self.included:
            raise ValueError(
                "overage.round and included cannot be combined: Stripe refuses transform_quantity together with tiers. "
                "Remove round (a partial package is charged in proportion), or set included to 0"
            )
        if self.included and self.tiers_mode == "volume":
            raise ValueError(
                "included and tiers_mode volume cannot be combined: the tier that is reached prices every unit; "
                'declare a first tier of amount "0" instead'
            )
        end = self.included
        for number, tier in enumerate(self.tiers, start=1):
            last = number == len(self.tiers)
            if last != (tier.up_to is None):
                raise ValueError(f"tier {number}: " + ("must be open-ended (no up_to)" if last else "needs up_to"))
            if tier.up_to is not None and tier.up_to <= end:
                raise ValueError(
                    f"tier {number}: up_to is {tier.up_to}; must be above {end}, where the previous one ends"
                )
            end = tier.up_to or end
        return self


class Band(_Value):
    """A tier in minor units of one currency, as Stripe rates it: units above the band before, up to `up_to`."""

    up_to: int | None
    unit_amount: Decimal
    flat_amount: Decimal | None = None


class Rate(_Value):
    """What a charge costs in one currency, in Stripe's own terms and minor units.

    Attributes:
        mode: `per_unit` (one band), `graduated` or `volume`.
        divide_by, round: whole packages (`transform_quantity`), for `per_unit` only.
    """

    mode: Literal["per_unit", "graduated", "volume"]
    bands: tuple[Band, ...]
    divide_by: int = 1
    round: Literal["up", "down"] | None = None


class Plan(_Value):
    """What one subscriber pays: fees in advance, usage in arrears.

    Example (Stripe's Alpaca.ai): `Plan("Alpaca.ai", fees=Fee("100.00"), usage=Usage("token", included=1_000,
    overage=Overage("0.04", per=100)))`.

    Attributes:
        name: what customers read on the invoice.
        fees: one or several; an amount alone is a fee for each seat and month.
        usage: one or several usage charges.
        currency: the currency of amounts that name none, in lower case.
        trial_days: days before the first fee.

    Source: https://docs.stripe.com/billing/subscriptions/usage-based/use-cases/flat-fee-and-overages
    """

    name: ProductName
    fees: tuple[Fee, ...] = ()
    usage: tuple[Usage, ...] = ()
    currency: Annotated[str, Field(pattern=r"^[a-z]{3}$")] = "usd"
    trial_days: Annotated[int, Field(ge=1, le=LONGEST_TRIAL, strict=True)] | None = None

    def __init__(self, name: str, **rest: Unpack[_PlanArguments]) -> None:
        super().__init__(name=name, **rest)

    @field_validator("fees", "usage", mode="before")
    @classmethod
    def _one_or_several(cls, value: object, info: ValidationInfo) -> object:
        if (
            info.field_name == "fees"
            and isinstance(value, (str, int, Decimal, Mapping))
            and not isinstance(value, bool)
        ):
            return (Fee(value),)
        return (value,) if isinstance(value, (Fee, Usage)) else value

    @model_validator(mode="after")
    def _stripe_can_say_it(self) -> Self:
        if not self.fees and not self.usage:
            raise ValueError("has no price; declare fees or usage")
        keys = [charge.key for charge in self.charges]
        for key in sorted({key for key in keys if keys.count(key) > 1}):
            raise ValueError(f"two charges have the key {key!r}; give one of them another")
        codes = set(self.currencies)
        for where, amounts in self._amounts():
            if isinstance(amounts, Mapping) and amounts.keys() != codes:
                raise ValueError(f"{where} has no amount in {', '.join(sorted(codes - amounts.keys()))}")
            if not isinstance(amounts, Mapping) and codes != {self.currency}:
                raise ValueError(f"{where} names no currency, but other amounts do: {', '.join(self.currencies)}")
        for code in self.currencies:
            for key, rate in ((charge.key, self.rate(charge, code)) for charge in self.charges):
                _representable(key, rate, code)
        return self

    @property
    def charges(self) -> tuple[Fee | Usage, ...]:
        """Everything that is billed."""
        return (*self.fees, *self.usage)

    @property
    def currencies(self) -> tuple[str, ...]:
        """Every currency that the plan is sold in, its own first."""
        named = {code for _, amounts in self._amounts() if isinstance(amounts, Mapping) for code in amounts}
        return tuple(sorted(named or {self.currency}, key=lambda code: (code != self.currency, code)))

    def charge(self, key: str) -> Fee | Usage:
        """The fee or usage charge of that key."""
        return next(charge for charge in self.charges if charge.key == key)

    def rate(self, charge: Fee | Usage, currency: str) -> Rate:
        """What a charge of the plan costs in one of its currencies."""

        def minor(amounts: Decimal | Mapping[str, Decimal], per: int = 1) -> Decimal:
            amount = amounts[currency] if isinstance(amounts, Mapping) else amounts
            return EXACT.divide(money.minor_units(amount, currency), Decimal(per))

        if isinstance(charge, Fee):
            return Rate(mode="per_unit", bands=(Band(up_to=None, unit_amount=minor(charge.amount)),))
        free = (Band(up_to=charge.included, unit_amount=Decimal(0)),) if charge.included else ()
        if charge.overage and charge.overage.round:
            return Rate(
                mode="per_unit",
                bands=(Band(up_to=None, unit_amount=minor(charge.overage.amount)),),
                divide_by=charge.overage.per,
                round=charge.overage.round,
            )
        if charge.overage:
            band = Band(up_to=None, unit_amount=minor(charge.overage.amount, charge.overage.per))
            return Rate(mode="graduated" if free else "per_unit", bands=(*free, band))
        bands = tuple(
            Band(
                up_to=tier.up_to,
                unit_amount=minor(tier.amount, tier.per),
                flat_amount=None if tier.flat is None else minor(tier.flat),
            )
            for tier in charge.tiers
        )
        return Rate(mode=charge.tiers_mode, bands=(*free, *bands))

    @property
    def price_text(self) -> str:
        """The whole price, one sentence for each currency, as a preview shows it to a reviewer."""
        sentences = []
        for code in self.currencies:
            parts = [_fee_text(fee, code) for fee in self.fees] + [_usage_text(each, code) for each in self.usage]
            sentences.append(", ".join(parts))
        trial = f"; {self.trial_days} days free" if self.trial_days else ""
        return "; ".join(sentences) + trial

    def charge_text(self, charge: Fee | Usage) -> str:
        """The price of one charge in words, in every currency."""
        return "; ".join(
            _fee_text(charge, code) if isinstance(charge, Fee) else _usage_text(charge, code)
            for code in self.currencies
        )

    def _amounts(self) -> Iterator[tuple[str, Decimal | Mapping[str, Decimal]]]:
        """Every amount of the plan, with its place."""
        for fee in self.fees:
            yield f"fee {fee.key!r}", fee.amount
        for charge in self.usage:
            if charge.overage:
                yield f"usage {charge.key!r}: overage", charge.overage.amount
            for number, tier in enumerate(charge.tiers, start=1):
                yield f"usage {charge.key!r}: tier {number}", tier.amount
                if tier.flat is not None:
                    yield f"usage {charge.key!r}: flat of tier {number}", tier.flat


Rollout = Literal["keep", "at_renewal", "now"]
ROLLOUTS: Final[Mapping[Rollout, str]] = {
    "keep": "they stay on it",
    "at_renewal": "each moves when its period ends",
    "now": "they move at once, prorated",
}


class _VersionArguments(TypedDict, total=False):
    rollout: Rollout | None
    archived: bool


class Version(_Value):
    """A plan as one of its versions: `Version(Plan(...), rollout="at_renewal")`.

    Attributes:
        plan: what it costs.
        rollout: what happens to subscribers on another version when this one is offered: `keep` (they stay),
            `at_renewal` (each moves when its period ends) or `now` (at once, prorated).
        archived: its prices are archived in Stripe: who pays them goes on, nobody new can, and no subscription
            schedule can name them.
    """

    plan: Plan
    rollout: Rollout | None = None
    archived: bool = False

    def __init__(self, plan: Plan, **rest: Unpack[_VersionArguments]) -> None:
        super().__init__(plan=plan, **rest)


def versions_of(name: str, given: Plan | Mapping[int, Plan | Version]) -> dict[int, Version]:
    """The versions of a plan by number, in order; a plan alone is version 1.

    Raises:
        PricingError: there is none, a number is not one, or one is not sold in a currency of the one before.
    """
    if isinstance(given, Plan):
        return {1: Version(given)}
    if not isinstance(given, Mapping) or not given:
        raise PricingError(f"{name}: needs a Plan, or its versions by number: {{1: Plan(...), 2: Version(Plan(...))}}")
    for number, each in given.items():
        if isinstance(number, bool) or not isinstance(number, int) or number < 1:
            raise PricingError(f"{name}: versions are numbered 1, 2, ...; {number!r} is no version")
        if not isinstance(each, (Plan, Version)):
            raise PricingError(f"{name} v{number}: is {type(each).__name__}; must be a Plan or a Version")
    found = {number: Version(each) if isinstance(each, Plan) else each for number, each in sorted(given.items())}
    for (before, old), (number, new) in pairwise(found.items()):
        if gone := [code for code in old.plan.currencies if code not in new.plan.currencies]:
            raise PricingError(
                f"{name} v{number} is not sold in {', '.join(gone)}, and v{before} is: who pays in it could not move; "
                "give every charge an amount in it, or make this another plan"
            )
    return found


def _representable(key: str, rate: Rate, currency: str) -> None:
    for band in rate.bands:
        text = money.decimal_text(band.unit_amount)
        if len(text.partition(".")[2]) > MAX_DECIMALS:
            raise ValueError(
                f"{key} costs {text[:20]}... minor units of {currency} a unit; "
                f"Stripe takes at most {MAX_DECIMALS} decimals"
            )
        if band.flat_amount is not None and band.flat_amount % 1:
            raise ValueError(
                f"{key}: a flat amount is {money.decimal_text(band.flat_amount)} minor units of {currency}; "
                "Stripe takes whole ones"
            )


def _amount_text(amounts: Decimal | Mapping[str, Decimal], code: str) -> str:
    return money.format_major(amounts[code] if isinstance(amounts, Mapping) else amounts, code)


def _every(charge: Fee | Usage) -> str:
    return charge.interval if charge.interval_count == 1 else f"{charge.interval_count} {charge.interval}s"


def _fee_text(fee: Fee, code: str) -> str:
    per = "seat and " if fee.per == "seat" else ""
    return f"{_amount_text(fee.amount, code)} per {per}{_every(fee)}"


def _usage_text(usage: Usage, code: str) -> str:
    above = f" above {usage.included:,}" if usage.included else ""
    interval = "" if (usage.interval, usage.interval_count) == ("month", 1) else f" per {_every(usage)}"
    if usage.overage:
        per = f"{usage.overage.per:,} {usage.units}" if usage.overage.per != 1 else usage.unit
        started = {"up": ", each started package in full", "down": ", whole packages only", None: ""}
        return f"{_amount_text(usage.overage.amount, code)} per {per}{above}{interval}{started[usage.overage.round]}"
    tiers = []
    for tier in usage.tiers:
        per = f"{tier.per:,} {usage.units}" if tier.per != 1 else usage.unit
        flat = f" and {_amount_text(tier.flat, code)} once" if tier.flat is not None else ""
        end = f" up to {tier.up_to:,}" if tier.up_to else " beyond"
        tiers.append(f"{_amount_text(tier.amount, code)} per {per}{flat}{end}")
    mode = "all at the tier reached: " if usage.tiers_mode == "volume" else ""
    return f"{mode}{' then '.join(tiers)}{above}{interval}"
