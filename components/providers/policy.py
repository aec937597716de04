"""`Field`: what Stripe's own types do not say of an argument, one entry an argument, each rule with its reason.

Stripe's types say which fields there are, which of them an update takes (a field that it does not take is create-only)
and which an empty string unsets. An argument about which that is the whole truth has no entry.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from components.providers.values import MISSING


@dataclass(frozen=True, kw_only=True)
class Field:
    """The policy of one argument, named by its path: `items.quantity` reaches into lists and maps.

    A text says why, and that the rule holds; docs/providers.md prints it.

    Attributes:
        create_only: a change replaces the object although Stripe's update takes the field.
        in_place: a change is made in place although Stripe's update does not take the field; how.
        replaces_when: changed in place, except in one case, which replaces the object; which.
        write_only: Stripe does not return it, so its drift cannot show.
        drift: what a refresh cannot tell of it.
        drift_from: the usual value: any other shows as drift even when the program does not declare the field.
        keep: taking it out of the program changes nothing in Stripe.
        unset_to: what is sent when it is taken out, where Stripe takes no empty string.
        default: what leaving a create-only field out means; writing that down is no change.
        computed: Stripe fills it in when it is left out; with what.
        paid: says what somebody pays, or when: an object that is found is taken over only where it is as declared.
        request_option: says how a request is made, not what the object is; a change of it alone makes no request.
        withheld: a request option that is sent only when the provider decides so.
        unique: only one resource of a program can have a value of it.
        mapping: a list of Stripe's that is declared as a mapping; by what.
        excluded: a parameter of Stripe's that is no argument.
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
