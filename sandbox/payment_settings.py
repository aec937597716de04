"""A subscription's `payment_settings`: validated, stored and shown in Stripe's shape.

https://docs.stripe.com/api/subscriptions/object#subscription_object-payment_settings
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from . import spec
from .errors import refuse

#: The value of a field that is shown only if it was given.
_WHEN_GIVEN: Final = "<given>"


def _options() -> dict[str, dict[str, Any]]:
    """The options of each payment method as shown: an omitted field has the default here, an omitted hash is not
    shown."""
    found: dict[str, dict[str, Any]] = spec.beside()["payment_method_options"]
    return found


def first() -> dict[str, Any]:
    """The default settings of a subscription."""
    return {"payment_method_options": None, "payment_method_types": None, "save_default_payment_method": "off"}


def changed(current: Mapping[str, Any], given: Mapping[str, Any], where: str = "payment_settings") -> dict[str, Any]:
    """The settings after a request. Given options of a payment method replace its old ones."""
    settings = dict(current)
    if "payment_method_options" in given:
        options = dict(settings["payment_method_options"] or dict.fromkeys(_options()))
        for name, option in given["payment_method_options"].items():
            if name == "customer_balance" and option:
                _check_words(option, f"{where}[payment_method_options][customer_balance]")
            options[name] = None if option == "" else _shown(_options()[name], option)
        settings["payment_method_options"] = options if any(o is not None for o in options.values()) else None
    if "payment_method_types" in given:
        settings["payment_method_types"] = given["payment_method_types"] or None
    if "save_default_payment_method" in given:
        settings["save_default_payment_method"] = given["save_default_payment_method"]
    return settings


def _shown(shape: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The shown form of a given hash."""
    result = {}
    for name, otherwise in shape.items():
        value = given.get(name, "")
        if isinstance(otherwise, dict):
            if name in given:
                result[name] = None if value == "" else _shown(otherwise, value)
        elif value not in ("", []):
            result[name] = value
        elif otherwise != _WHEN_GIVEN:
            result[name] = otherwise
    return result


def _check_words(given: Mapping[str, Any], where: str) -> None:
    """Validate values of `customer_balance` that the description only lists in its prose."""
    for path, words in spec.beside()["payment_method_words"].items():
        value: Any = given
        param = where
        for name in path.split("."):
            value, param = value.get(name) if isinstance(value, Mapping) else None, f"{param}[{name}]"
        if value and value not in words:
            raise refuse("enum", param=param, choices=spec.choices_in_words(words))
