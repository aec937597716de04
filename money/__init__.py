"""Money as Stripe counts it: one table of currencies, and conversion between amounts for people and for the API.

Amounts are `Decimal` throughout. *Major units* are what people read (100.00 USD); *minor units* are what Stripe's API
takes (10000). Source: https://docs.stripe.com/currencies, with its special cases. Imports nothing of the other rooms.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Final

#: Currencies without a minor unit in the API: 500 is 500 JPY.
ZERO_DECIMAL: Final = frozenset(
    ["bif", "clp", "djf", "gnf", "jpy", "kmf", "krw", "mga", "pyg", "rwf", "vnd", "vuv", "xaf", "xof", "xpf"]
)
#: Currencies with thousandths; the last digit of a charge must be 0.
THREE_DECIMAL: Final = frozenset(["bhd", "jod", "kwd", "omr", "tnd"])
#: Currencies without a minor unit that the API still takes in hundredths, for older integrations: 5 UGX is 500.
WHOLE_IN_HUNDREDTHS: Final = frozenset(["isk", "ugx"])

#: More digits than any amount times any quantity of a request has.
_DIGITS: Final = 120


def exponent(currency: str) -> int:
    """How many decimals the API's minor unit has: 2 for usd and ugx, 0 for jpy, 3 for kwd."""
    code = currency.lower()
    if code in ZERO_DECIMAL:
        return 0
    return 3 if code in THREE_DECIMAL else 2


def places(currency: str) -> int:
    """How many decimals people read: 2 for usd, 0 for jpy and ugx, 3 for kwd."""
    return 0 if currency.lower() in WHOLE_IN_HUNDREDTHS else exponent(currency)


def chargeable_step(currency: str) -> int:
    """The step of a charged amount, in minor units: 1 for usd, 100 for ugx (no fractions), 10 for kwd."""
    code = currency.lower()
    if code in WHOLE_IN_HUNDREDTHS:
        return 100
    return 10 if code in THREE_DECIMAL else 1


def minor_units(amount: Decimal | int, currency: str) -> Decimal:
    """Major units to minor units, exactly: 0.04 usd -> 4."""
    return _scaled(amount, exponent(currency))


def major_units(minor: Decimal | int, currency: str) -> Decimal:
    """Minor units to major units, exactly: 4 usd -> 0.04."""
    return _scaled(minor, -exponent(currency))


def decimal_text(value: Decimal | int) -> str:
    """A decimal as Stripe writes it: no exponent, no trailing zeros, no sign on zero ("0.04", "10000")."""
    text = format(Decimal(value), "f")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text in ("", "-0") else text


def format_major(amount: Decimal | int, currency: str) -> str:
    """Major units for a person, with all their digits: `1,250.00 USD`, `0.0004 USD`, `5,000 UGX`."""
    whole, _, fraction = decimal_text(amount).partition(".")
    fraction = fraction.ljust(places(currency), "0")
    sign, digits = ("-", whole[1:]) if whole.startswith("-") else ("", whole)
    return f"{sign}{int(digits):,}{'.' if fraction else ''}{fraction} {currency.upper()}"


def format_minor(minor: Decimal | int, currency: str) -> str:
    """Minor units for a person, in major units: 31000 usd -> `310.00 USD`."""
    return format_major(major_units(minor, currency), currency)


def _scaled(amount: Decimal | int, power: int) -> Decimal:
    # Not `scaleb`, which rounds to the 28 digits of Python's default context.
    sign, digits, own = Decimal(amount).as_tuple()
    if not isinstance(own, int) or len(digits) > _DIGITS:
        raise ValueError(f"{amount} is not an amount of money")
    return Decimal((sign, digits, own + power))
