"""Removed resources that affect money: the preview says what their deletion means.

Pulumi does not ask a provider about a removed resource until it deletes it, so a preview shows the deletion but not its
meaning. The program knows what it declares, and the engine knows what the stack has.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import pulumi

from components.providers.coupon import takes_off
from components.providers.subscription_preview import ending
from components.this_run import Resources, StateUnreadable, this_run


def declare(kind: str, name: str, opts: pulumi.ResourceOptions | None) -> None:
    """Record a declared resource, under its name and its earlier names."""
    run = this_run()
    run.declared.add((kind, name))
    for alias in (opts.aliases if opts else None) or ():
        before: Any = alias.name if isinstance(alias, pulumi.Alias) else alias
        if isinstance(before, str):
            run.declared.add((kind, before.rpartition("::")[2]))
        elif before is not ...:
            # A name known only later: removed resources cannot be told apart.
            run.knows_what_it_declares = False


def say() -> None:
    """Warn of removed resources; call it when everything is declared."""
    try:
        there = this_run().resources()
    except StateUnreadable as problem:
        # The run continues if the engine cannot tell.
        pulumi.log.debug(f"the removed resources are unknown: {problem}")
        return
    for sentence in _leaving(there):
        pulumi.log.warn(sentence)


def _leaving(there: Resources) -> Iterator[str]:
    """The sentences about resources that are in the state but not in the program."""
    run = this_run()
    for kind, name in sorted(there if run.knows_what_it_declares else ()):
        if kind in _SENTENCES and (kind, name) not in run.declared and (said := _SENTENCES[kind](there[kind, name])):
            yield f"{kind} '{name}' is no longer in the program: {said}"


def _subscription(outputs: Mapping[str, Any]) -> str:
    fees = " and ".join(dict(outputs.get("fees") or {}).values())
    if outputs.get("has_ended"):
        return "it has ended already"
    cancel = dict(outputs.get("cancel") or {})
    if cancel.get("when") == "period_end":
        how = "deleting it ends it with its period"
    else:
        how = f"deleting it cancels it now, {ending(outputs)}"
    return f"{how}{f', and {fees} is no longer billed' if fees else ''}; if it only has a new name, give it an alias"


def _customer(outputs: Mapping[str, Any]) -> str:
    if outputs.get("on_delete") == "keep":
        return "it stays in Stripe (on_delete=keep)"
    return (
        "deleting it is permanent, with its balance, payment methods and subscriptions, and unpaid amounts can no "
        'longer be charged (on_delete="keep" keeps it)'
    )


def _coupon(outputs: Mapping[str, Any]) -> str:
    keeps = f"customers who have it keep {takes_off(outputs)}"
    return f"deleting it is permanent; {keeps}, and its promotion codes are no longer valid"


def _promotion_code(outputs: Mapping[str, Any]) -> str:
    return f"{outputs.get('code')} can no longer be redeemed; existing discounts continue"


def _price(outputs: Mapping[str, Any]) -> str | None:
    if not outputs.get("archive_when_unused"):
        return None
    return "it is archived in Stripe, which is refused while a subscription or a schedule is on it"


_SENTENCES: Final = {
    "Coupon": _coupon,
    "Customer": _customer,
    "Price": _price,
    "PromotionCode": _promotion_code,
    "Subscription": _subscription,
}
