"""`ProviderError`, and how messages name resources and differences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from components.account import AccountError, StripeRefusal


class ProviderError(AccountError):
    """A provider refuses or cannot do something; one line that says what, for which object, and what to do."""


# Python prints an exception with its module's name, which means nothing at the terminal.
for _error in (AccountError, StripeRefusal, ProviderError):
    _error.__module__ = "builtins"


def name_in(owner: object) -> str:
    """The resource's name in an owner, `<project>/<stack>/<resource name>`."""
    return owner.rpartition("/")[2] if isinstance(owner, str) else "?"


def subject(kind_name: str, arguments: Mapping[str, Any], id_: str | None = None) -> str:
    """How messages name a resource: `Price 'alpaca-ai-usage' (price_1)`."""
    name = name_in(arguments.get("owner"))
    if id_ and name == "?":
        return f"{kind_name} {id_}"
    return f"{kind_name} '{name}'" + (f" ({id_})" if id_ else "")


def differences(different: Mapping[str, tuple[Any, Any]]) -> str:
    """What differs, for a sentence: `customer 'cus_1' (declared: 'cus_2')`."""
    return " and ".join(f"{name} {there!r} (declared: {declared!r})" for name, (there, declared) in different.items())
