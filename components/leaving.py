"""What leaves the program and is about money: said before it is taken out of the stack.

Pulumi asks a provider nothing about a resource that leaves the program until it deletes it: a preview shows the delete
and not what it means. The program knows what it declares, and the engine what the stack has.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import pulumi
from pulumi.runtime.proto import resource_pb2
from pulumi.runtime.settings import get_monitor

from components.providers.coupon import takes_off
from components.providers.subscription_preview import ending
from components.providers.values import plain

_TYPE: Final = "pulumi-python:dynamic/stripe:"
#: The engine's own function: the outputs of a stack's resources as its last run has left them.
_READ_STATE: Final = "pulumi:pulumi:readStackResourceOutputs"


class Declared:
    """The resources that a program declares, by kind and name."""

    def __init__(self) -> None:
        self._names: set[tuple[str, str]] = set()
        self._is_certain = True

    def add(self, kind: str, name: str, opts: pulumi.ResourceOptions | None) -> None:
        """A resource is declared, under its name and under those that it had before."""
        self._names.add((kind, name))
        for alias in (opts.aliases if opts else None) or ():
            before: Any = alias.name if isinstance(alias, pulumi.Alias) else alias
            if isinstance(before, str):
                self._names.add((kind, before.rpartition("::")[2]))
            elif before is not ...:
                # It is known only later: what it names cannot be told from what leaves.
                self._is_certain = False

    def leaving(self, state: Mapping[str, Any]) -> Iterator[str]:
        """The sentences about what the state has and the program has not.

        Args:
            state: by URN, `{"type": ..., "outputs": ...}` of each resource.
        """
        for urn in sorted(state if self._is_certain else ()):
            kind, name = urn.rpartition(_TYPE)[2].partition("::")[0], urn.rpartition("::")[2]
            if kind in _SENTENCES and (kind, name) not in self._names:
                outputs = _plain(state[urn]["outputs"])
                yield f"{kind} '{name}' is no longer in the program: {_SENTENCES[kind](outputs)}"


#: What this process's program has declared so far.
DECLARED: Final = Declared()


def say() -> None:
    """Warn of what leaves; to be called when everything is declared."""
    stack = f"{pulumi.get_organization()}/{pulumi.get_project()}/{pulumi.get_stack()}"
    # Not `pulumi.runtime.invoke`, which takes a second to make Python objects of a state of a thousand subscriptions.
    request = resource_pb2.ResourceInvokeRequest(tok=_READ_STATE)
    request.args["stackName"] = stack
    monitor: Any = get_monitor()
    try:
        answer = monitor.Invoke(request)
    except Exception as error:  # noqa: BLE001 - gRPC's, and a mock's
        # An engine that cannot say it is no reason not to run.
        pulumi.log.debug(f"what leaves the program is not known: {error}")
        return
    found = getattr(answer, "return")
    if "outputs" not in found:
        # A mock in the engine's place has no state.
        return
    for sentence in DECLARED.leaving(found["outputs"]):
        pulumi.log.warn(sentence)


def _plain(value: Any) -> Any:
    """A value of the engine's as plain data."""
    return {key: _plain(value[key]) for key in value} if isinstance(value, Mapping) else value


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
    keeps = f"whoever has it keeps {takes_off(plain(outputs))}"
    return f"deleting it is for good; {keeps}, and its promotion codes are no longer valid"


def _promotion_code(outputs: Mapping[str, Any]) -> str:
    return f"{outputs.get('code')} can no longer be redeemed; discounts that were given with it go on"


_SENTENCES: Final = {
    "Coupon": _coupon,
    "Customer": _customer,
    "PromotionCode": _promotion_code,
    "Subscription": _subscription,
}
