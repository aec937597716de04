"""Shows a line at the terminal, from the provider process, through the engine's own diagnostics.

Resource hooks, Pulumi's supported way to warn in a preview, cannot see a replacement (a `before_create` hook has no old
inputs), and a hook on deletes stops `pulumi destroy`. `diff` sees everything, so warnings come from there. They go to
the engine's address, which the provider process gets as its argument.
"""

from __future__ import annotations

import sys
from typing import Literal

from components.providers.state import runs_under_engine


def show(severity: Literal["info", "warning"], line: str) -> None:
    """Show one line, in the engine's diagnostics if there is an engine."""
    if not _log_to_engine(severity, line):
        print(f"{severity}: {line}", file=sys.stderr, flush=True)


def _log_to_engine(severity: Literal["info", "warning"], line: str) -> bool:
    if not runs_under_engine():
        return False
    import grpc
    from pulumi.runtime.proto import engine_pb2, engine_pb2_grpc

    level = engine_pb2.WARNING if severity == "warning" else engine_pb2.INFO
    try:
        with grpc.insecure_channel(sys.argv[1]) as channel:
            engine_pb2_grpc.EngineStub(channel).Log(engine_pb2.LogRequest(severity=level, message=line), timeout=5)
    except grpc.RpcError:
        return False
    return True
