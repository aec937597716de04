"""What a program knows while it runs: its declarations so far, and a stack's state from the last run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import pulumi
from pulumi.runtime.proto import resource_pb2
from pulumi.runtime.settings import get_monitor

#: The engine's own function: the outputs of a stack's resources from its last run.
READ_STATE: Final = "pulumi:pulumi:readStackResourceOutputs"

#: The types of our resources and components.
_OURS: Final = ("pulumi-python:dynamic/stripe", "stripe-pricing:index")

Resources = Mapping[tuple[str, str], Mapping[str, Any]]
"""The outputs of resources by kind and name: `("Price", "alpaca-ai-license")`."""


class StateUnreadable(Exception):
    """The state of a stack cannot be read; the message is one line."""


class Run:
    """One run of a program.

    Attributes:
        declared: our resources, by kind and name, including their earlier names.
        knows_what_it_declares: whether that is all of them.
        plans: the published plans, by name.
        subscribers: the names of the subscribers.
        undecided: subscribers without a rollout, by the plan and the version that it offers.
        gathers_undecided: whether they are collected until everything is declared.
        followed: by the plan and its offered version, which subscribers follow which rollout, from which version.
        adopted: the ids of the stack's adopted objects by kind and name; None until `components.adopted` has read them.
    """

    def __init__(self, monitor: Any) -> None:
        self.monitor = monitor
        self.declared: set[tuple[str, str]] = set()
        self.knows_what_it_declares = True
        self.plans: dict[str, Any] = {}
        self.subscribers: set[str] = set()
        self.undecided: dict[tuple[str, int], dict[str, int]] = {}
        self.gathers_undecided = False
        self.followed: dict[tuple[str, int], dict[tuple[str, int], list[str]]] = {}
        self.adopted: Mapping[str, Mapping[str, str]] | None = None
        self._states: dict[str, Mapping[str, Any] | StateUnreadable | None] = {}
        self._resources: dict[str, Resources] = {}

    def state(self, stack: str | None = None) -> Mapping[str, Any] | None:
        """By URN, `{"type": ..., "outputs": ...}` of each resource in a stack's state; read once.

        Args:
            stack: another stack of the same project and backend.

        Returns:
            None under a mock, which has no state.

        Raises:
            StateUnreadable: there is no such stack, or its secrets cannot be decrypted.
        """
        name = stack or pulumi.get_stack()
        if name not in self._states:
            try:
                self._states[name] = self._read(name)
            except Exception as error:  # noqa: BLE001 - gRPC's, and a mock's
                details = getattr(error, "details", None)
                self._states[name] = StateUnreadable(str(details() if callable(details) else error))
        found = self._states[name]
        if isinstance(found, StateUnreadable):
            raise found
        return found

    def resources(self, stack: str | None = None) -> Resources:
        """The outputs of each resource in a stack's state; empty under a mock.

        Raises:
            StateUnreadable: as `state`.
        """
        name = stack or pulumi.get_stack()
        if name not in self._resources:
            self._resources[name] = _Resources(self.state(stack) or {})
        return self._resources[name]

    def _read(self, stack: str) -> Mapping[str, Any] | None:
        # Not `pulumi.runtime.invoke`, which takes a second to build Python objects for a thousand subscriptions.
        request = resource_pb2.ResourceInvokeRequest(tok=READ_STATE)
        request.args["stackName"] = f"{pulumi.get_organization()}/{pulumi.get_project()}/{stack}"
        found: Any = getattr(self.monitor.Invoke(request), "return")
        # A protobuf Struct has no `get`.
        return found["outputs"] if "outputs" in found else None  # noqa: SIM401


class _Resources(Mapping[tuple[str, str], Mapping[str, Any]]):
    """The resources of a state by kind and name, each converted to plain data on demand."""

    def __init__(self, state: Mapping[str, Any]) -> None:
        self._state = state
        named = ((kind_and_name(urn), urn) for urn in state)
        self._urns = {key: urn for key, urn in named if key is not None}

    def __getitem__(self, key: tuple[str, str]) -> Mapping[str, Any]:
        outputs: Mapping[str, Any] = plain(self._state[self._urns[key]]["outputs"])
        return outputs

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(self._urns)

    def __len__(self) -> int:
        return len(self._urns)


def kind_and_name(urn: str) -> tuple[str, str] | None:
    """`urn:pulumi:dev::project::parent$pulumi-python:dynamic/stripe:Price::name` -> `("Price", "name")`.

    None for other types: other providers have prices too.
    """
    _, _, types, name = urn.split("::", 3)
    home, _, kind = types.rpartition("$")[2].rpartition(":")
    return (kind, name) if home in _OURS else None


def plain(value: Any) -> Any:
    """An engine value as plain data, with whole numbers as int."""
    if isinstance(value, Mapping):
        return {key: plain(value[key]) for key in value}
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [plain(each) for each in value]
    return value


_run = Run(None)


def this_run() -> Run:
    """The run of this process's program; under a mock, a process can have several consecutive runs."""
    global _run
    monitor = get_monitor()
    if monitor is not _run.monitor:
        _run = Run(monitor)
    return _run
