"""The pricing model as values: what a plan costs, in money, before it is any Stripe object. Pure.

Money is a `Decimal` of major units ("100.00" USD) given as text or int; a float is refused, because it
cannot hold what it says. Stripe takes minor units (cents); `minor_units` is the only place that converts.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

Interval = Literal["day", "week", "month", "year"]

#: Currencies whose smallest unit is not a hundredth (https://docs.stripe.com/currencies#zero-decimal).
ZERO_DECIMAL_CURRENCIES = frozenset(
    ["bif", "clp", "djf", "gnf", "jpy", "kmf", "krw", "mga", "pyg", "rwf", "ugx", "vnd", "vuv", "xaf", "xof", "xpf"],
)
THREE_DECIMAL_CURRENCIES = frozenset(["bhd", "jod", "kwd", "omr", "tnd"])
#: Stripe's `unit_amount_decimal` takes at most this many decimals of a minor unit.
MAX_DECIMALS = 12


def minor_unit_exponent(currency: str) -> int:
    """How many decimals a currency's major unit has: 2 for usd, 0 for jpy, 3 for kwd."""
    if currency in ZERO_DECIMAL_CURRENCIES:
        return 0
    return 3 if currency in THREE_DECIMAL_CURRENCIES else 2


def minor_units(amount: Decimal, currency: str) -> Decimal:
    """Major units to Stripe's minor units, exactly: 0.04 usd -> 4."""
    return amount.scaleb(minor_unit_exponent(currency))


def decimal_text(value: Decimal) -> str:
    """A decimal as Stripe writes it: no exponent, no trailing zeros ("0.04", "10000")."""
    text = format(value, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def _exact(value: object) -> object:
    if isinstance(value, float):
        raise ValueError(f'{value!r} is a float, which cannot hold money exactly; write it as text: "{value}"')
    return value


Money = Annotated[Decimal, BeforeValidator(_exact), Field(ge=0, allow_inf_nan=False)]


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Overage(_Value):
    """What usage above the included units costs: `amount` major units per `per` units.

    `round` charges whole packages of `per` units, rounded "up" or "down" (Stripe's
    `transform_quantity`); without it a part of a package costs its part.
    """

    amount: Money
    per: Annotated[int, Field(ge=1, strict=True)] = 1
    round: Literal["up", "down"] | None = None


class Plan(_Value):
    """A flat fee with overages: a fee for each seat and interval, some usage included, the rest at a rate.

    Example (Stripe's Alpaca.ai): `Plan(name="Alpaca.ai", fee="100.00", unit="token", included=1000,
    overage=Overage(amount="0.04", per=100))`.

    Attributes:
        name: what customers read on the invoice.
        currency: ISO code in lower case.
        interval: how often the fee is billed, and over what period usage is summed.
        fee: major units for each seat and interval, billed in advance.
        unit: what is metered, in the singular.
        included: units that each interval's fee covers, for the whole subscription.
        overage: what units above `included` cost, billed at the end of the interval.

    Source: https://docs.stripe.com/billing/subscriptions/usage-based/use-cases/flat-fee-and-overages
    """

    name: Annotated[str, Field(min_length=1, max_length=250)]
    currency: Annotated[str, Field(pattern=r"^[a-z]{3}$")] = "usd"
    interval: Interval = "month"
    fee: Money
    unit: Annotated[str, Field(min_length=1, max_length=40)] = "unit"
    included: Annotated[int, Field(ge=0, strict=True)] = 0
    overage: Overage

    @model_validator(mode="after")
    def _stripe_can_say_it(self) -> Self:
        if self.overage.round and self.included:
            raise ValueError(
                "overage.round and included exclude each other: Stripe refuses transform_quantity together with tiers. "
                "Leave round out (a part of a package costs its part), or set included to 0"
            )
        for field, amount in (("fee", self.fee_minor), ("overage.amount", self.overage_minor)):
            exponent = amount.normalize().as_tuple().exponent
            if isinstance(exponent, int) and -exponent > MAX_DECIMALS:
                raise ValueError(
                    f"{field} is {decimal_text(amount)} minor units of {self.currency} per unit; Stripe takes at most "
                    f"{MAX_DECIMALS} decimals"
                )
        return self

    @property
    def fee_minor(self) -> Decimal:
        """The fee in minor units."""
        return minor_units(self.fee, self.currency)

    @property
    def overage_minor(self) -> Decimal:
        """The overage in minor units: of one package where whole packages are charged, else of one unit."""
        amount = minor_units(self.overage.amount, self.currency)
        return amount if self.overage.round else amount / self.overage.per

    @property
    def price_text(self) -> str:
        """The whole price in one sentence, as a reviewer reads it in a preview."""
        per = f"{self.overage.per:,} {self.unit}s" if self.overage.per != 1 else self.unit
        above = f" above {self.included:,}" if self.included else ""
        started = {"up": ", each started package in full", "down": ", whole packages only", None: ""}[
            self.overage.round
        ]
        overage = f"{self._money(self.overage.amount)} per {per}{above}{started}"
        return f"{self._money(self.fee)} per seat and {self.interval}, {overage}"

    def _money(self, amount: Decimal) -> str:
        places = max(minor_unit_exponent(self.currency), -int(amount.normalize().as_tuple().exponent))
        return f"{amount:,.{places}f} {self.currency.upper()}"
