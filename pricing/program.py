"""What a program declares, its plans and its resources: runs it unchanged, without an engine and without Stripe."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import runpy
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import chdir, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import pulumi
import yaml
from pulumi.runtime import rpc
from pulumi.runtime.mocks import MockMonitor
from pulumi.runtime.settings import get_root_resource

from components.plan import PublishedPlan
from components.settings import Settings, StackConfig
from components.this_run import READ_STATE, Run, this_run

_OURS: Final = "pulumi-python:dynamic/stripe:"

T = TypeVar("T")


class ProgramError(Exception):
    """A program cannot be read; the message is one line."""


@dataclass(frozen=True)
class Declared:
    """A resource of `components.resources`, as a program declares it.

    Attributes:
        kind, name: `Price`, `alpaca-ai-license`.
        properties: what Pulumi would give its provider.
        secret: the properties with a secret in them.
        ignored: the property paths of `ignore_changes`.
    """

    kind: str
    name: str
    properties: Mapping[str, Any]
    secret: frozenset[str]
    ignored: tuple[str, ...]


Found = Callable[[Declared], tuple[str, Mapping[str, Any]]]
"""The id of a declared resource's object ("" if there is none), and its outputs. Called from several threads."""


def plans(directory: Path, stack: str) -> Mapping[str, PublishedPlan]:
    """The plans of the program in a folder, by name.

    Args:
        directory: where `Pulumi.yaml`, `Pulumi.<stack>.yaml` and `__main__.py` are.

    Raises:
        ProgramError: there is no such program or stack, or the program refuses to run.
    """
    return _in_a_thread(lambda: run(directory, stack, _NoEngine())).plans


def resources(
    directory: Path, stack: str, found: Found, last_run: Mapping[tuple[str, str], Mapping[str, Any]] | None = None
) -> tuple[Mapping[str, PublishedPlan], list[Declared]]:
    """The plans and the resources of the program in a folder, the resources in the order of their registration.

    What the program logs is not shown.

    Args:
        found: tells the ids that the program's links get; "" is unknown to the program, as in a first preview.
        last_run: the outputs that the stack's state is to hold, by kind and name.

    Raises:
        ProgramError: as `plans`.
    """
    engine = _Listening(found, stack, last_run or {})
    quiet = logging.getLogger(f"{__name__}.quiet")
    quiet.addHandler(logging.NullHandler())
    quiet.propagate = False
    done = _in_a_thread(lambda: run(directory, stack, engine, monitor=engine.monitor, logger=quiet))
    return done.plans, engine.declared


class _NoEngine(pulumi.runtime.Mocks):
    """Accepts every resource and creates nothing."""

    def new_resource(self, args: pulumi.runtime.MockResourceArgs) -> tuple[str, dict[Any, Any]]:
        return "", args.inputs

    def call(self, args: pulumi.runtime.MockCallArgs) -> tuple[dict[Any, Any], list[tuple[str, str]] | None]:
        return {}, []


class _Listening(pulumi.runtime.Mocks):
    """Records every resource of ours."""

    def __init__(self, found: Found, stack: str, last_run: Mapping[tuple[str, str], Mapping[str, Any]]) -> None:
        self.declared: list[Declared] = []
        self.monitor = _Monitor(self)
        self._found, self._stack, self._last_run = found, stack, last_run

    def new_resource(self, args: pulumi.runtime.MockResourceArgs) -> tuple[str, dict[Any, Any]]:
        open_ = {name: rpc.unwrap_rpc_secret(value) for name, value in args.inputs.items()}
        if not args.typ.startswith(_OURS):
            return "", open_
        secret = frozenset(name for name, value in args.inputs.items() if rpc.is_rpc_secret(value))
        ignored = self.monitor.ignored.get((args.typ, args.name), ())
        declared = Declared(args.typ.removeprefix(_OURS), args.name, open_, secret, ignored)
        self.declared.append(declared)
        id_, outputs = self._found(declared)
        return id_, {**open_, **outputs}

    def call(self, args: pulumi.runtime.MockCallArgs) -> tuple[dict[Any, Any], list[tuple[str, str]] | None]:
        if args.token != READ_STATE or str(args.args.get("stackName")).rpartition("/")[2] != self._stack:
            return {}, []
        return {
            "outputs": {
                f"urn:pulumi:{self._stack}::{pulumi.get_project()}::{_OURS}{kind}::{name}": {
                    "type": f"{_OURS}{kind}",
                    "outputs": dict(outputs),
                }
                for (kind, name), outputs in self._last_run.items()
            }
        }, []


class _Monitor(MockMonitor):
    """Also remembers which changes a resource ignores."""

    def __init__(self, mocks: pulumi.runtime.Mocks) -> None:
        super().__init__(mocks)
        self.ignored: dict[tuple[str, str], tuple[str, ...]] = {}

    def RegisterResource(self, request: Any) -> Any:
        self.ignored[request.type, request.name] = tuple(request.ignoreChanges)
        return super().RegisterResource(request)  # type: ignore[no-untyped-call]


def _in_a_thread(work: Callable[[], T]) -> T:
    """Do something in a thread of its own: Pulumi uses the thread's event loop, and leaves unfinished tasks in it."""
    results: list[T] = []
    problems: list[Exception] = []

    def run() -> None:
        try:
            results.append(work())
        except Exception as problem:  # noqa: BLE001 - raised again below, by the calling thread
            problems.append(problem)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if problems:
        raise problems[0]
    return results[0]


def run(
    directory: Path,
    stack: str,
    mocks: pulumi.runtime.Mocks,
    *,
    monitor: MockMonitor | None = None,
    logger: logging.Logger | None = None,
) -> Run:
    """Run the program in a folder under mocks, as a preview; returns what it declares.

    Args:
        logger: gets the program's warnings.

    Raises:
        ProgramError: there is no such program or stack, or the program refuses to run.
    """
    name, settings = project(directory), dict(config(directory, stack))
    sys.path.insert(0, os.fspath(directory))
    try:
        with _event_loop() as loop, chdir(directory):
            pulumi.runtime.set_mocks(mocks, project=name, stack=stack, preview=True, monitor=monitor, logger=logger)
            pulumi.runtime.set_all_config(settings)
            if (root := get_root_resource()) is not None:
                # A program that fails cancels what was begun after it, and the end waits for the stack itself.
                loop.run_until_complete(root.urn.future())

            @pulumi.runtime.test  # type: ignore[untyped-decorator]
            def program() -> None:
                runpy.run_path("__main__.py", run_name="__main__")

            program()
            return this_run()
    except pulumi.ConfigMissingError as error:
        if configuration(directory, stack).get(error.key) is None:
            raise ProgramError(" ".join(str(error).split())) from None
        raise ProgramError(
            f"the program cannot do without {error.key}, which is encrypted in Pulumi.{stack}.yaml and not decrypted "
            "here; read it with get_secret, and go on without it"
        ) from None
    except pulumi.RunError as error:
        raise ProgramError(str(error)) from None
    finally:
        sys.path.remove(os.fspath(directory))


@contextmanager
def _event_loop() -> Iterator[asyncio.AbstractEventLoop]:
    """The thread's event loop, closed at the end, as are those that Pulumi creates in its worker threads."""
    make, made = asyncio.new_event_loop, list[asyncio.AbstractEventLoop]()

    def kept() -> asyncio.AbstractEventLoop:
        made.append(make())
        return made[-1]

    asyncio.new_event_loop = kept
    loop = kept()
    asyncio.set_event_loop(loop)
    try:
        yield loop
    finally:
        asyncio.new_event_loop = make
        asyncio.set_event_loop(None)
        loop.run_until_complete(loop.shutdown_default_executor())
        for each in made:
            each.close()


def project(directory: Path) -> str:
    """The name of the project in a folder.

    Raises:
        ProgramError: there is none.
    """
    return str(_read(directory / "Pulumi.yaml").get("name"))


def config(directory: Path, stack: str) -> Mapping[str, str]:
    """A stack's config as a program sees it, without encrypted values.

    Raises:
        ProgramError: there is no such stack.
    """
    return {name: text for name, value in configuration(directory, stack).items() if (text := _as_text(value))}


def configuration(directory: Path, stack: str) -> Mapping[str, Any]:
    """The config of a stack as in its file; encrypted values stay encrypted.

    Raises:
        ProgramError: there is no such stack.
    """
    found = _read(directory / f"Pulumi.{stack}.yaml").get("config") or {}
    return found if isinstance(found, dict) else {}


def settings_of(directory: Path, stack: str) -> Settings:
    """The settings of Stripe from a stack's config and the environment; an encrypted key is not read.

    Raises:
        ProgramError: there is no such stack, or no key.
        SettingsError: a setting is invalid.
    """
    settings = Settings.read(StackConfig(config(directory, stack).get), os.environ)
    if settings.api_key is None:
        raise ProgramError(
            f"needs a key of stack {stack}: set STRIPE_API_KEY, from the stack's config with "
            f'STRIPE_API_KEY="$(pulumi config get stripe-pricing:apiKey --stack {stack})"'
        )
    return settings


def _as_text(value: Any) -> str | None:
    """A value of a stack's config as a program sees it; None for an encrypted one."""
    if isinstance(value, str):
        return value
    return None if isinstance(value, dict) and value.keys() == {"secure"} else json.dumps(value)


def _read(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        raise ProgramError(f"there is no {path.name} in {path.parent}; run it in a project's folder") from None
    except yaml.YAMLError as error:
        raise ProgramError(f"{path.name} is not YAML: {' '.join(str(error).split())}") from None
    return content if isinstance(content, dict) else {}
