"""Amounts and currencies of catalog objects: integers of the smallest unit, or exact decimals of it, as text."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any, Final

from money import decimal_text

from .errors import refuse, within

MAX_PLACES: Final = 12


#: The currencies that Stripe charges in (docs.stripe.com/currencies).
CURRENCIES: Final = frozenset((Path(__file__).parent / "data" / "currencies.txt").read_text("ascii").split())


def currency(value: str, param: str = "currency") -> str:
    """A currency code in lower case."""
    code = value.lower()
    if code not in CURRENCIES:
        raise refuse("currency", param=param, value=value)
    return code


def currency_key(code: str, param: str, own: str | None) -> str:
    """A currency as a key of the map `param`: in lower case, and not the object's `own`."""
    if code != code.lower():
        raise refuse("currency_key_case", param=param, code=code, lower=code.lower())
    if code == own:
        raise refuse("currency_option_own", param=f"{param}[{code}]", currency=code)
    return currency(code, f"{param}[{code}]")


def non_negative(value: int, param: str) -> int:
    """An amount that cannot be negative."""
    if value < 0:
        raise refuse("negative", param=param)
    return value


def pair(params: dict[str, Any], name: str, param: str) -> tuple[int | None, str | None] | None:
    """Both forms from `name` or `name_decimal`: `(100, "100")`, `(None, "0.04")`; None if neither is given."""
    whole, exact = params.get(name), params.get(f"{name}_decimal")
    if whole is not None and exact not in (None, ""):
        raise refuse("only_one", param=within(param, name), names=f"{name}, {name}_decimal")
    if whole is not None:
        number = non_negative(whole, within(param, name))
        return number, str(number)
    if exact in (None, ""):
        return None
    where = within(param, f"{name}_decimal")
    value = Decimal(str(exact))
    text = decimal_text(value)
    if value < 0:
        raise refuse("negative", param=where)
    if len(text.partition(".")[2]) > MAX_PLACES:
        raise refuse("decimal_places", param=where, value=exact)
    if "." in text:
        if name == "flat_amount":
            raise refuse("flat_decimal_whole", param=where, value=exact)
        return None, text
    return int(text), text
