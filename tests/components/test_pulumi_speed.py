"""What this project changes in Pulumi's SDK, and that the SDK still needs it."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from pulumi.dynamic.dynamic import serialize_provider
from pulumi.runtime import stack
from pulumi.runtime.proto import provider_pb2, provider_pb2_grpc
from pulumi.runtime.settings import SETTINGS

from components import pulumi_speed
from tests.components.pulumi_sdk import OUTPUTS, RESOURCES, Meeting

ROOT = Path(__file__).parents[2]
#: For what never ends unless something is wrong.
LONG = 60.0


def environment(*, stock: bool) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name != pulumi_speed.STOCK_VARIABLE}
    return {**kept, **({pulumi_speed.STOCK_VARIABLE: "1"} if stock else {})}


@cache
def figures(*, stock: bool) -> dict[str, int]:
    command = [sys.executable, "-m", "tests.components.pulumi_sdk"]
    done = subprocess.run(
        command, cwd=ROOT, env=environment(stock=stock), capture_output=True, text=True, timeout=LONG, check=False
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, int] = json.loads(done.stdout)
    return found


def no_longer_needed(name: str) -> str:
    return f"Pulumi's SDK no longer needs {name}: remove it from components/pulumi_speed.py and docs/performance.md"


# -- the program ----------------------------------------------------------------------------------------------------


def test_no_stack_trace_goes_into_the_state() -> None:
    assert figures(stock=False)["frames"] == 0
    assert figures(stock=True)["frames"] > 0, no_longer_needed("leave_out_stack_traces")


def test_a_program_waits_for_all_outputs_together() -> None:
    assert figures(stock=False)["looked_at"] <= 2 * OUTPUTS
    assert figures(stock=True)["looked_at"] > OUTPUTS * OUTPUTS / 4, no_longer_needed("wait_once")


def test_the_annotations_of_a_class_are_read_once() -> None:
    # The stack has a class of its own.
    assert figures(stock=False)["read"] <= 2
    assert figures(stock=True)["read"] >= RESOURCES, no_longer_needed("remember_types")


def test_the_sdk_sends_no_debug_messages_and_the_program_does() -> None:
    assert figures(stock=False)["debug"] == 0
    assert figures(stock=False)["own"] == 1
    assert figures(stock=True)["debug"] > 5, no_longer_needed("leave_out_debug_messages")


@contextmanager
def patient(monkeypatch: pytest.MonkeyPatch, pause: float) -> Iterator[None]:
    with monkeypatch.context() as changed:
        changed.setattr(stack, "asyncio", asyncio)
        changed.setattr(pulumi_speed, "NOTICED_AFTER_SECONDS", pause)
        assert pulumi_speed.wait_once(stack)
        yield


@pytest.mark.parametrize("pause", [LONG, 0.01])
def test_an_output_that_fails_ends_the_wait_whatever_else_is_outstanding(
    pause: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def program() -> None:
        SETTINGS.outputs.clear()
        never, failing = asyncio.get_running_loop().create_future(), asyncio.get_running_loop().create_future()
        SETTINGS.outputs.update({never, failing})
        asyncio.get_running_loop().call_later(0.02, failing.set_exception, ValueError("the price has no product"))
        try:
            await asyncio.wait_for(stack.wait_for_rpcs(), LONG)
        finally:
            SETTINGS.outputs.clear()

    with patient(monkeypatch, pause), pytest.raises(ValueError, match="the price has no product"):
        asyncio.run(program())


@pytest.mark.parametrize("end", ["fails", "is cancelled"])
def test_an_output_that_is_made_during_the_wait_and_ends_badly_is_noticed(
    end: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def program() -> None:
        loop = asyncio.get_running_loop()
        SETTINGS.outputs.clear()
        never, late = loop.create_future(), loop.create_future()
        SETTINGS.outputs.add(never)

        def make() -> None:
            SETTINGS.outputs.add(late)
            if end == "fails":
                late.set_exception(ValueError("late"))
            else:
                late.cancel()

        loop.call_later(0.02, make)
        try:
            await asyncio.wait_for(stack.wait_for_rpcs(), LONG)
        finally:
            SETTINGS.outputs.clear()

    expected: type[BaseException] = ValueError if end == "fails" else asyncio.CancelledError
    with patient(monkeypatch, 0.01), pytest.raises(expected):
        asyncio.run(program())


# -- the providers --------------------------------------------------------------------------------------------------


@contextmanager
def provider_process(*, stock: bool, people: int, patience: float) -> Iterator[provider_pb2_grpc.ResourceProviderStub]:
    """Pulumi's own process for dynamic providers, configured."""
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "pulumi.dynamic", "127.0.0.1:1"],
        cwd=ROOT,
        env=environment(stock=stock),
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        with grpc.insecure_channel(f"127.0.0.1:{process.stdout.readline().strip()}") as channel:
            stub = provider_pb2_grpc.ResourceProviderStub(channel)
            variables = {"people": str(people), "patience": str(patience)}
            request = provider_pb2.ConfigureRequest()
            request.args.update({f"project:{name}": value for name, value in variables.items()})
            stub.Configure(request, timeout=LONG)
            yield stub
    finally:
        process.terminate()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def meet(people: int, *, stock: bool, patience: float) -> None:
    """Delete so many resources at a time, as a destroy begins."""
    request = provider_pb2.DeleteRequest(id="x")
    request.properties.update({"__provider": serialize_provider(Meeting())})
    with provider_process(stock=stock, people=people, patience=patience) as stub:
        for call in [stub.Delete.future(request, timeout=LONG) for _ in range(people)]:
            call.result()


def test_a_destroy_deletes_sixteen_objects_at_a_time() -> None:
    meet(pulumi_speed.PROVIDER_THREADS, stock=False, patience=LONG)


def test_pulumi_itself_makes_four_calls_at_a_time() -> None:
    """If this fails, Pulumi's SDK no longer needs `add_threads`."""
    with pytest.raises(grpc.RpcError, match="BrokenBarrierError"):
        meet(5, stock=True, patience=1.0)


# -- an SDK without the names ---------------------------------------------------------------------------------------


def test_an_sdk_without_the_names_works_as_it_is() -> None:
    async def wait_for_rpcs() -> None:
        await asyncio.gather()

    bare: Any = SimpleNamespace()
    pulumi_speed.leave_out_stack_traces(bare)
    pulumi_speed.remember_types(bare)
    assert vars(bare) == {}
    assert pulumi_speed.wait_once(bare) is False
    another: Any = SimpleNamespace(asyncio=asyncio, wait_for_rpcs=wait_for_rpcs)
    assert pulumi_speed.wait_once(another) is False
    assert another.asyncio is asyncio


def test_a_thread_of_another_kind_of_pool_is_left_alone() -> None:
    pulumi_speed.add_threads(threading.current_thread())
    pulumi_speed.add_threads(threading.Thread(target=print, args=(print,)))
    with ThreadPoolExecutor(64) as wide:
        wide.submit(lambda: pulumi_speed.add_threads(threading.current_thread())).result()
        assert wide._max_workers == 64
