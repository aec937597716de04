"""Pulumi's SDK at work in a process of its own: what it registers, sends and waits for, printed as JSON.

    python -m tests.components.pulumi_sdk

`components.pulumi_speed.STOCK_VARIABLE` in the environment leaves the SDK as it is.
"""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import typing
from typing import Any

import pulumi
from pulumi import _types
from pulumi.dynamic import ConfigureRequest, ResourceProvider
from pulumi.runtime import mocks, stack
from pulumi.runtime.settings import SETTINGS

from components import pulumi_speed

OUTPUTS = 100
RESOURCES = 10


class Meeting(ResourceProvider):
    """A provider whose `delete` returns once `people` threads are in it at a time."""

    serialize_as_secret_always = False

    def configure(self, req: ConfigureRequest) -> None:
        pulumi_speed.speed_up_providers()
        self.barrier = threading.Barrier(int(req.config.require("people")))
        self.patience = float(req.config.require("patience"))

    def delete(self, id_: str, props: Any) -> None:
        self.barrier.wait(self.patience)


class Monitor(mocks.MockMonitor):
    """Keeps what is registered."""

    def __init__(self) -> None:
        super().__init__(Mocks())
        self.frames: list[int] = []

    def RegisterResource(self, request: Any) -> Any:
        self.frames.append(len(request.stackTrace.frames))
        return super().RegisterResource(request)  # type: ignore[no-untyped-call]


class Mocks(mocks.Mocks):
    def new_resource(self, args: mocks.MockResourceArgs) -> tuple[str, dict[str, Any]]:
        return args.name, args.inputs

    def call(self, args: mocks.MockCallArgs) -> tuple[dict[str, Any], None]:
        return {}, None


class Kept(logging.Handler):
    """Keeps what the engine is told."""

    def __init__(self, sent: list[str]) -> None:
        super().__init__()
        self.sent = sent

    def emit(self, record: logging.LogRecord) -> None:
        self.sent.append(record.getMessage())


class Thing(pulumi.CustomResource):
    name: pulumi.Output[str]

    def __init__(self, name: str) -> None:
        super().__init__("test:index:Thing", name, {"name": name})


def figures() -> dict[str, Any]:
    """The stack frames of a resource, the debug messages of the SDK and of the program, how many outputs the SDK looked
    at while `OUTPUTS` of them were done one after another, how often it read annotations for `RESOURCES` resources."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    sent: list[str] = []
    logger = logging.Logger("engine", logging.DEBUG)
    logger.addHandler(Kept(sent))
    monitor = Monitor()
    pulumi.runtime.set_mocks(monitor.mocks, project="shop", stack="dev", preview=False, logger=logger, monitor=monitor)
    pulumi_speed.NOTICED_AFTER_SECONDS = 600.0
    pulumi_speed.speed_up_program()
    sent.clear()
    looked_at, wait = 0, asyncio.wait

    async def counted(tasks: Any, **options: Any) -> Any:
        nonlocal looked_at
        looked_at += len(tasks)
        return await wait(tasks, **options)

    async def one_after_another() -> None:
        waiting = [asyncio.get_running_loop().create_future() for _ in range(OUTPUTS)]
        outputs = [pulumi.Output.from_input(each) for each in waiting]
        finishing = asyncio.ensure_future(finish(waiting))
        await stack.wait_for_rpcs()
        await finishing
        assert not SETTINGS.outputs, "nothing is left to wait for"
        assert [await each.future() for each in outputs] == list(range(OUTPUTS))

    async def finish(waiting: list[asyncio.Future[int]]) -> None:
        for number, each in enumerate(waiting):
            each.set_result(number)
            for _ in range(20):
                await asyncio.sleep(0)

    read, evaluated = 0, typing.get_type_hints

    def hints(*args: Any, **options: Any) -> dict[str, Any]:
        nonlocal read
        read += 1
        return evaluated(*args, **options)

    async def program() -> None:
        _types.get_type_hints = hints  # type: ignore[attr-defined]
        for number in range(RESOURCES):
            Thing(f"thing-{number}")
        await stack.wait_for_rpcs()
        pulumi.log.debug("the program's own")
        asyncio.wait = counted  # type: ignore[assignment]
        await one_after_another()
        asyncio.wait = wait

    loop.run_until_complete(program())
    own = sent.count("the program's own")
    return {"frames": monitor.frames[-1], "debug": len(sent) - own, "own": own, "looked_at": looked_at, "read": read}


if __name__ == "__main__":
    print(json.dumps(figures()))
