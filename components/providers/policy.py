"""`Field`: the rules of one argument that Stripe's types do not express, each with its reason.

Stripe's types list the fields, which of them an update takes (any other is create-only), and which an empty string
unsets. An argument that its type describes fully has no entry.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from components.providers.values import MISSING


@dataclass(frozen=True, kw_only=True)
class Field:
    """The policy of one argument, keyed by its path: `items.quantity` reaches into lists and maps.

    A text switches its rule on and gives the reason; docs/providers.md prints it.

    Attributes:
        create_only: a change replaces the object, although Stripe's update takes the field.
        in_place: a change is made in place, although Stripe's update does not take the field. The text says how.
        replaces_when: a change is made in place, except in the case that the text names, which replaces the object.
        write_only: Stripe does not return it, so a refresh cannot see drift.
        drift: what a refresh cannot see.
        drift_from: the default; any other value shows as drift even if the program does not declare the field.
        keep: removing it from the program changes nothing in Stripe.
        unset_to: what is sent when it is removed, where Stripe takes no empty string.
        default: what omitting a create-only field means; declaring that value is no change.
        computed: Stripe fills it in when it is omitted. The text says with what.
        paid: determines what somebody pays, or when. An object that is found is adopted only if this is equal.
        request_option: affects how a request is made, not the object. Changing only this sends nothing.
        withheld: a request option that the provider sends only when it decides to.
        unique: no two resources of a program can have the same value.
        mapping: a list in Stripe that the program declares as a mapping. The text says by what.
        excluded: a Stripe parameter that is not an argument.
    """

    create_only: str = ""
    in_place: str = ""
    replaces_when: str = ""
    write_only: str = ""
    drift: str = ""
    drift_from: Any = MISSING
    keep: str = ""
    unset_to: Any = MISSING
    default: Any = MISSING
    computed: str = ""
    paid: bool = False
    request_option: str = ""
    withheld: bool = False
    unique: bool = False
    mapping: str = ""
    excluded: str = ""
