"""An engine run against a sandbox that makes chosen requests fail."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from sandbox.server import serving
from tests.engine.conftest import ENGINE_TIMEOUT, Project, Result
from tests.faulty_sandbox import FaultySandbox

#: How long the providers wait for an answer in these tests: shorter than a stall. A slow machine may take longer over
#: an honest answer now and then; that is one more timeout for the retries to heal.
TIMEOUT_SECONDS: Final = 2.0


@contextmanager
def faulty(project: Project) -> Iterator[FaultySandbox]:
    """Serve the project's sandbox file, and have the project's providers call that."""
    sandbox = FaultySandbox(project.sandbox_file)
    with serving(sandbox) as server:
        project.environ["STRIPE_API_BASE"] = server.url
        # A proxy of this machine's must not come between.
        project.environ |= {"NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
        try:
            yield sandbox
        finally:
            sandbox.closing.set()
    sandbox.close()


def configure(project: Project, **settings: float) -> None:
    """Add `stripe-pricing:` settings to the stack's file, without an engine run for each."""
    path = project.folder / f"Pulumi.{project.stack}.yaml"
    lines = [f'  stripe-pricing:{name}: "{value}"\n' for name, value in settings.items()]
    path.write_text(path.read_text().replace("config:\n", "config:\n" + "".join(lines), 1))


def branch(project: Project, folder: Path) -> Project:
    """A copy of a project with its state, its sandbox and its engine's home, in an empty folder."""
    subprocess.run(["cp", "-R", f"{project.folder}/.", str(folder)], check=True, timeout=60)
    environ = {name: value.replace(str(project.folder), str(folder)) for name, value in project.environ.items()}
    return Project(folder, environ, project.stack)


# -- breaking a run -------------------------------------------------------------------------------------------------


class Run:
    """A running `pulumi up` or `destroy`, which a plan can interrupt; `more` are arguments of the command."""

    def __init__(self, project: Project, verb: str, *more: str, env: Mapping[str, str] | None = None) -> None:
        self.verb = verb
        arguments = [verb, "--stack", project.stack, "--yes", "--skip-preview", "--suppress-progress", *more]
        self.process = subprocess.Popen(
            ["pulumi", *arguments, "--non-interactive", "--color", "never"],
            cwd=project.folder,
            env={**project.environ, **(env or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # A signal for this run must not reach the test.
            start_new_session=True,
        )

    def result(self) -> Result:
        """Wait for the end; a run that does not end is killed, its providers too."""
        try:
            stdout, stderr = self.process.communicate(timeout=ENGINE_TIMEOUT)
        except subprocess.TimeoutExpired:
            for pid in [*descendants(self.process.pid), self.process.pid]:
                end(pid, signal.SIGKILL)
            self.process.communicate(timeout=10)
            raise
        return Result(f"pulumi {self.verb}", self.process.returncode, stdout, stderr)

    def kill_provider(self) -> None:
        """SIGKILL the provider process, and return when it is no more."""
        assert self.kill("-m pulumi.dynamic"), "there is no provider process"

    def kill(self, command: str) -> bool:
        """SIGKILL the processes of the run whose command line has some words, and return when they are no more."""
        found = [pid for pid, line in processes_below(self.process.pid) if command in line]
        for pid in found:
            end(pid, signal.SIGKILL)
        deadline = time.monotonic() + 10
        while any(alive(pid) for pid in found) and time.monotonic() < deadline:
            time.sleep(0.01)
        return bool(found)

    def kill_everything(self) -> None:
        """SIGKILL the engine and all that it has started: no state is written any more."""
        for pid in [self.process.pid, *descendants(self.process.pid)]:
            end(pid, signal.SIGKILL)

    def interrupt(self) -> None:
        """What ^C does: SIGINT to the terminal's process group, once. The engine keeps its plugins out of it."""
        os.killpg(self.process.pid, signal.SIGINT)


def end(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


def alive(pid: int) -> bool:
    """Whether a process still runs; a zombie does not."""
    listed = subprocess.run(
        ["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, timeout=10, check=False
    )
    return bool(listed.stdout.strip()) and not listed.stdout.strip().startswith("Z")


def processes_below(root: int) -> list[tuple[int, str]]:
    """The descendants of a process: (process id, command line)."""
    listed = subprocess.run(
        ["ps", "-A", "-o", "pid=,ppid=,args="], capture_output=True, text=True, timeout=10, check=True
    )
    children: dict[int, list[tuple[int, str]]] = defaultdict(list)
    for line in listed.stdout.splitlines():
        pid, parent, command = line.split(None, 2)
        children[int(parent)].append((int(pid), command))
    found: list[tuple[int, str]] = []
    waiting = [root]
    while waiting:
        below = children.pop(waiting.pop(), [])
        found += below
        waiting += [pid for pid, _ in below]
    return found


def descendants(root: int) -> list[int]:
    return [pid for pid, _ in processes_below(root)]
