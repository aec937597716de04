"""The plans that a program declares: runs the program unchanged, without an engine and without Stripe."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import runpy
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import chdir, contextmanager
from pathlib import Path
from typing import Any

import pulumi
import yaml
from pulumi.runtime.mocks import MockMonitor
from pulumi.runtime.settings import get_root_resource

from components.plan import PublishedPlan
from components.this_run import Run, this_run


class ProgramError(Exception):
    """A program cannot be read; the message is one line."""


class _NoEngine(pulumi.runtime.Mocks):
    """Accepts every resource and creates nothing."""

    def new_resource(self, args: pulumi.runtime.MockResourceArgs) -> tuple[str, dict[Any, Any]]:
        return "", args.inputs

    def call(self, args: pulumi.runtime.MockCallArgs) -> tuple[dict[Any, Any], list[tuple[str, str]] | None]:
        return {}, []


def plans(directory: Path, stack: str) -> Mapping[str, PublishedPlan]:
    """The plans of the program in a folder, by name.

    Args:
        directory: where `Pulumi.yaml`, `Pulumi.<stack>.yaml` and `__main__.py` are.

    Raises:
        ProgramError: there is no such program or stack, or the program refuses to run.
    """
    found: list[Mapping[str, PublishedPlan]] = []
    problems: list[Exception] = []

    def run() -> None:
        try:
            found.append(_run(directory, stack))
        except Exception as problem:  # noqa: BLE001 - raised again below, by the calling thread
            problems.append(problem)

    # Pulumi uses the thread's event loop, and leaves unfinished tasks in it.
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if problems:
        raise problems[0]
    return found[0]


def _run(directory: Path, stack: str) -> Mapping[str, PublishedPlan]:
    return run(directory, stack, _NoEngine()).plans


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
