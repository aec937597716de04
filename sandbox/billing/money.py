"""Minor units: rounds exact decimals to whole minor units, and words amounts as Stripe does."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import ROUND_HALF_UP, Context, Decimal

from money import decimal_text, major_units, places

# https://docs.stripe.com/currencies#minimum-and-maximum-charge-amounts
_LEAST_CHARGES = {
    "aed": 200, "bgn": 100, "czk": 1500, "dkk": 250, "gbp": 30, "hkd": 400, "huf": 17500, "jpy": 50, "mxn": 1000,
    "myr": 200, "nok": 300, "pln": 200, "ron": 200, "sek": 300, "thb": 1000,
}  # fmt: skip
_SYMBOLS = {"usd": "$", "eur": "€", "gbp": "£", "jpy": "¥", "inr": "₹", "krw": "₩", "brl": "R$"}

# 120 digits: the longest quantity and amount in a request, times the seconds of a period, stay exact.
EXACT = Context(prec=120)


def to_minor_units(amount: Decimal) -> int:
    """Round an exact amount in minor units to the whole minor unit, a half away from zero.

    Stripe rounds each line, not the total, and shows 1.5 cents becoming 2:
    https://docs.stripe.com/billing/subscriptions/decimal-amounts. That fits both half up and half to even; no
    recorded example tells which one Stripe uses.
    """
    return int(amount.quantize(Decimal(1), rounding=ROUND_HALF_UP, context=EXACT))


def amount_text(amount: Decimal | int, currency: str) -> str:
    """An amount in minor units as Stripe words it in a line's description: `$0.036`, `$100.00`, `5,000 UGX`."""
    whole, _, fraction = decimal_text(major_units(amount, currency)).partition(".")
    fraction = fraction.ljust(places(currency), "0")
    sign = "-" if whole.startswith("-") else ""
    digits = f"{int(whole.lstrip('-')):,}" + (f".{fraction}" if fraction else "")
    symbol = _SYMBOLS.get(currency)
    return f"{sign}{symbol}{digits}" if symbol else f"{sign}{digits} {currency.upper()}"


def split(total: int, weights: Iterable[int]) -> list[int]:
    """Split a whole amount in proportion to weights: each share is rounded down, and the rest goes to the last.

    If the amount is at most the sum of the weights, no share exceeds its weight: what the last cannot take goes to the
    one before it.

    Stripe's example: 5.00 off 10.00 and 20.00 is 1.66 and 3.34 (https://docs.stripe.com/billing/subscriptions/coupons).
    """
    weighed = list(weights)
    sum_of_weights = sum(weighed)
    if sum_of_weights == 0:
        return [0 for _ in weighed]
    shares = [total * weight // sum_of_weights for weight in weighed]
    left = total - sum(shares)
    last = max(index for index, weight in enumerate(weighed) if weight)
    for index in range(last, -1, -1):
        more = left if total > sum_of_weights else min(left, weighed[index] - shares[index])
        shares[index] += more
        left -= more
    return shares


def least_charge(currency: str) -> int:
    """The smallest amount that can be charged, in minor units; a smaller amount goes to the customer's balance."""
    return _LEAST_CHARGES.get(currency, 50)
