"""The command `sandbox`: `serve` a sandbox file on a port, `reset` it, show its `requests`."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Sequence
from types import FrameType

from .gateway import Sandbox
from .server import LOOPBACK, serving
from .store import DEFAULT_FOLDER
from .wire import Request, SandboxFileError

DEFAULT_FILE = os.path.join(DEFAULT_FOLDER, "stripe.db")
DEFAULT_PORT = 12121
#: Milliseconds.
MOST_LATENCY = 60_000


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    arguments = _parser().parse_args(argv)
    path = arguments.file or os.environ.get("STRIPE_SANDBOX_FILE") or DEFAULT_FILE
    try:
        sandbox = Sandbox(path, renew=arguments.command == "reset")
        if arguments.command == "serve":
            return _serve(sandbox, path, arguments.host, arguments.port, arguments.latency / 1000)
        if arguments.command == "reset":
            sandbox.reset()
            print(f"The sandbox file {path} is empty.")
            return 0
        return _requests(sandbox)
    except SandboxFileError as problem:
        print(f"sandbox: {problem}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        # Interrupted before there was anything to finish, or a second time while finishing.
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="sandbox", description="A stateful local Stripe in one file.")
    commands = parser.add_subparsers(dest="command", required=True)
    serve = commands.add_parser("serve", help="serve a sandbox file over HTTP")
    serve.add_argument("--port", type=int, default=DEFAULT_PORT, help="0 picks a free one (default: %(default)s)")
    serve.add_argument("--host", default=LOOPBACK, help="listening address (default: %(default)s, this machine only)")
    serve.add_argument(
        "--latency", type=_milliseconds, default=0, metavar="MS", help="let each request wait so long (default: 0)"
    )
    reset = commands.add_parser("reset", help="empty a sandbox file")
    requests = commands.add_parser("requests", help="print the request log, one JSON object a line")
    for command in (serve, reset, requests):
        command.add_argument("--file", help=f"the sandbox file (default: STRIPE_SANDBOX_FILE, then {DEFAULT_FILE})")
    return parser


def _milliseconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1
    if not 0 <= value <= MOST_LATENCY:
        raise argparse.ArgumentTypeError(f"{text} is not a number of milliseconds from 0 to {MOST_LATENCY:,}")
    return value


def _serve(sandbox: Sandbox, path: str, host: str, port: int, latency: float) -> int:
    def stop(signum: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)
    with contextlib.ExitStack() as stack:
        try:
            server = stack.enter_context(serving(sandbox, host, port, latency=latency))
        except (OSError, OverflowError) as problem:
            print(
                f"sandbox: cannot listen on {host}, port {port}: {problem}. Choose another with --port.",
                file=sys.stderr,
            )
            return 1
        # The server runs in its own thread, which no signal interrupts.
        with contextlib.suppress(KeyboardInterrupt):
            said = f"Sandbox on {server.url}, file {path}. Any key that begins with sk_test_ works."
            print(f"{said} Stop it with Ctrl-C.", flush=True)
            while True:
                time.sleep(3600)
    unfinished = server.finish(0)
    if unfinished:
        print(f"sandbox: stopped with {unfinished} requests in progress.", file=sys.stderr)
        return 1
    sandbox.close()
    return 0


def _requests(sandbox: Sandbox) -> int:
    answer = sandbox.handle(Request("GET", "/_sandbox/requests"))
    try:
        for line in json.loads(answer.body)["data"]:
            print(json.dumps(line))
    except BrokenPipeError:
        # The reader closed the pipe (`| head`); leave nothing to flush.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
