"""What leaves the program and is about money: said before it is taken out of the stack.

Pulumi asks a provider nothing about a resource that leaves the program until it deletes it: a preview shows the delete
and not what it means. The program knows what it declares, and the engine what the stack has.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import pulumi

from components.providers.coupon import takes_off
from components.providers.subscription_preview import ending
from components.this_run import Resources, StateUnreadable, this_run


def declare(kind: str, name: str, opts: pulumi.ResourceOptions | None) -> None:
    """A resource is declared, under its name and under those that it had before."""
    run = this_run()
    run.declared.add((kind, name))
    for alias in (opts.aliases if opts else None) or ():
        before: Any = alias.name if isinstance(alias, pulumi.Alias) else alias
        if isinstance(before, str):
            run.declared.add((kind, before.rpartition("::")[2]))
        elif before is not ...:
            # It is known only later: what it names cannot be told from what leaves.
            run.knows_what_it_declares = False


def say() -> None:
    """Warn of what leaves; to be called when everything is declared."""
    try:
        there = this_run().resources()
    except StateUnreadable as problem:
        # An engine that cannot say it is no reason not to run.
        pulumi.log.debug(f"what leaves the program is not known: {problem}")
        return
    for sentence in _leaving(there):
        pulumi.log.warn(sentence)


def _leaving(there: Resources) -> Iterator[str]:
    """The sentences about what the state has and the program has not."""
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
        how = "deleting it lets it end with its period"
    else:
        how = f"deleting it cancels it now, {ending(outputs)}"
    return (
        f"{how}{f', and {fees} is not billed any more' if fees else ''}; if it has another name now, give it an alias"
    )


def _customer(outputs: Mapping[str, Any]) -> str:
    if outputs.get("on_delete") == "keep":
        return "it stays in Stripe (on_delete=keep)"
    return (
        "deleting it is for good, with its balance, payment methods and subscriptions, and what it has not paid can no "
        'longer be charged (on_delete="keep" keeps it)'
    )


def _coupon(outputs: Mapping[str, Any]) -> str:
    keeps = f"customers who have it keep {takes_off(outputs)}"
    return f"deleting it is for good; {keeps}, and its promotion codes are no longer valid"


def _promotion_code(outputs: Mapping[str, Any]) -> str:
    return f"{outputs.get('code')} can no longer be redeemed; existing discounts go on"


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
