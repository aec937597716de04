"""A stack without the engine: programs run one after the other under Pulumi's mocks, on the real providers and a state.

What an `up` does to a resource (check, then create, update, replace or nothing; in the end delete what is not declared
any more) is done in the order in which the program registers; an error stops the run and the state keeps what it had.
"""

from __future__ import annotations

import asyncio
import runpy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pulumi
from pulumi.runtime import rpc
from pulumi.runtime.mocks import MockMonitor

from tests.components.world import PROVIDERS, PULUMI, Process, State, World, as_pulumi_sends

READ_STATE = "pulumi:pulumi:readStackResourceOutputs"


class Stack:
    """One stack of a project on an account.

    Attributes:
        states: the resources that the last run has left, by kind and name: `Price license`.
        components: what components have registered as their outputs, by URN.
        declared: what the last run's program has declared of each.
        done: what the last run did: `create Price license`, in order.
        others: other stacks of the same project and backend, by name.
    """

    def __init__(self, world: World, name: str = "dev", project: str = "example") -> None:
        self.world, self.name, self.project = world, name, project
        self.states: dict[str, State] = {}
        self.urns: dict[str, str] = {}
        self.components: dict[str, Any] = {}
        self.declared: dict[str, dict[str, Any]] = {}
        self.done: list[str] = []
        self.others: dict[str, Stack] = {}

    # -- what a person does ---------------------------------------------------------------------------------------

    def up(self, program: Path | Callable[[], Any], **config: str) -> None:
        """Apply a program: a file, or a function with the body of one."""
        mocks = self._run(program, config, preview=False)
        for key in [key for key in self.states if key not in mocks.registered][::-1]:
            self._delete(key, mocks.process)

    def preview(self, program: Path | Callable[[], Any], **config: str) -> None:
        """Run a program and apply nothing."""
        self._run(program, config, preview=True)

    def id(self, key: str) -> str:
        """The id of a resource: `stack.id("Customer acme")`."""
        return self.states[key].id

    def outputs(self) -> dict[str, Any]:
        """The state as the engine answers it."""
        found = {urn: {"type": "", "outputs": each} for urn, each in self.components.items()}
        return found | {self.urns[key]: {"type": "", "outputs": state.outs} for key, state in self.states.items()}

    # -- how ------------------------------------------------------------------------------------------------------

    def _run(self, program: Path | Callable[[], Any], config: Mapping[str, str], *, preview: bool) -> _Mocks:
        self.done, self.declared = [], {}
        mocks = _Mocks(self, preview)
        pulumi.runtime.set_mocks(
            mocks, project=self.project, stack=self.name, preview=preview, monitor=_Monitor(mocks, self)
        )
        pulumi.runtime.set_all_config({"stripe-pricing:mode": "sandbox", **config})

        @pulumi.runtime.test  # type: ignore[untyped-decorator]
        def run() -> None:
            if isinstance(program, Path):
                runpy.run_path(str(program), run_name="__main__")
            else:
                program()

        loop = asyncio.get_event_loop()
        try:
            run()
        except BaseException:
            # What a failed run has begun comes to its end: an engine's process would be gone by now.
            while tasks := asyncio.all_tasks(loop):
                loop.run_until_complete(asyncio.wait(tasks, timeout=10))
                for task in tasks:
                    task.cancel()
            raise
        return mocks

    def _delete(self, key: str, process: Process) -> None:
        state = self.states[key]
        _provider(key.partition(" ")[0], process).delete(state.id, {**state.outs, **PULUMI})
        del self.states[key]
        self.done.append(f"delete {key}")


class _Mocks(pulumi.runtime.Mocks):
    def __init__(self, stack: Stack, preview: bool) -> None:
        self.stack, self.is_preview = stack, preview
        self.process = stack.world.process()
        self.registered: list[str] = []

    def new_resource(self, args: pulumi.runtime.MockResourceArgs) -> tuple[str | None, dict[Any, Any]]:
        kind = args.typ.rpartition("stripe:")[2]
        provider = _provider(kind, self.process)
        # The engine gives a provider what is in a secret.
        inputs = {name: rpc.unwrap_rpc_secret(value) for name, value in args.inputs.items()}
        if provider is None:
            return "", inputs
        key = f"{kind} {args.name}"
        self.registered.append(key)
        self.stack.declared[key] = inputs
        old = self.stack.states.get(key)
        if self.is_preview:
            return (old.id if old else "new"), inputs
        state = self._applied(key, provider, old, as_pulumi_sends(inputs))
        self.stack.states[key] = state
        return state.id, {**inputs, **state.outs}

    def _applied(self, key: str, provider: Any, old: State | None, inputs: dict[str, Any]) -> State:
        checked = provider.check({**(old.inputs if old else {}), **PULUMI}, {**inputs, **PULUMI})
        assert not checked.failures, [failure.reason for failure in checked.failures]
        news = as_pulumi_sends(checked.inputs)
        news.pop("__provider", None)
        if old is None:
            return self._created(key, provider, news)
        difference = provider.diff(old.id, {**old.outs, **PULUMI}, {**news, **PULUMI})
        if difference.replaces:
            made = self._created(key, provider, news)
            provider.delete(old.id, {**old.outs, **PULUMI})
            return made
        if news == old.inputs:
            return old
        updated = provider.update(old.id, {**old.outs, **PULUMI}, {**news, **PULUMI})
        self.stack.done.append(f"update {key}")
        return State(old.id, news, as_pulumi_sends(updated.outs or {}))

    def _created(self, key: str, provider: Any, news: dict[str, Any]) -> State:
        created = provider.create({**news, **PULUMI})
        self.stack.done.append(f"create {key}")
        return State(created.id, news, as_pulumi_sends(created.outs or {}))

    def call(self, args: pulumi.runtime.MockCallArgs) -> tuple[dict[Any, Any], list[tuple[str, str]] | None]:
        if args.token != READ_STATE:
            return {}, []
        name = str(args.args["stackName"]).rpartition("/")[2]
        known = {**self.stack.others, self.stack.name: self.stack}
        if name not in known:
            raise LookupError(f'unknown stack "{name}"')
        return {"outputs": known[name].outputs()}, []


class _Monitor(MockMonitor):
    """Keeps what components register, and the URNs of all resources."""

    def __init__(self, mocks: _Mocks, stack: Stack) -> None:
        super().__init__(mocks)
        self._mocks, self._stack = mocks, stack

    def RegisterResource(self, request: Any) -> Any:
        key = f"{request.type.rpartition('stripe:')[2]} {request.name}"
        self._stack.urns[key] = self.make_urn(request.parent, request.type, request.name)
        if not self._mocks.is_preview:
            self._rename(key, request)
        return super().RegisterResource(request)  # type: ignore[no-untyped-call]

    def _rename(self, key: str, request: Any) -> None:
        """Find what an alias of the resource's own says it was. Nothing is inherited from a component."""
        for alias in request.aliases if key not in self._stack.states else ():
            spec = alias.spec
            parent = "" if spec.noParent else spec.parentUrn or request.parent
            former = alias.urn or self.make_urn(parent, spec.type or request.type, spec.name or request.name)
            for old in [each for each in self._stack.states if self._stack.urns[each] == former]:
                self._stack.states[key] = self._stack.states.pop(old)

    def RegisterResourceOutputs(self, request: Any) -> Any:
        if ":Stack::" not in request.urn and not self._mocks.is_preview:
            self._stack.components[request.urn] = as_pulumi_sends(rpc.deserialize_properties(request.outputs))
        return super().RegisterResourceOutputs(request)  # type: ignore[no-untyped-call]


def _provider(kind: str, process: Process) -> Any:
    match = [each for each in PROVIDERS if each.kind.name == kind]
    return process.provider(match[0]) if match else None
