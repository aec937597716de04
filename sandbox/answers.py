"""Appends every request and answer to a file, to check or keep them: `SANDBOX_ANSWERS`.

The request log drops old requests and is emptied with the sandbox; this file only grows, and any number of processes
and sandboxes can share it.
"""

from __future__ import annotations

import json
import os
from typing import Final

from .wire import Request, Response, SandboxFileError

#: Names the file. Without the prefix `STRIPE_`: it does not choose a destination, so child processes may inherit it.
VARIABLE: Final = "SANDBOX_ANSWERS"


def file_of_this_process() -> str | None:
    """The file that the environment names, created if missing."""
    path = os.environ.get(VARIABLE)
    if not path:
        return None
    try:
        os.close(_opened(path))
    except OSError as problem:
        raise SandboxFileError(f"{VARIABLE} names {path}, which cannot be written: {problem.strerror}.") from problem
    return path


def write(path: str, request: Request, response: Response) -> None:
    """Append one line atomically. Without request headers, because they contain the key."""
    line = {
        "method": request.method,
        "url": request.url,
        "body": request.body.decode("utf-8", "replace"),
        "status": response.status,
        "headers": dict(response.headers),
        "answer": response.body.decode("utf-8", "replace"),
    }
    file = _opened(path)
    try:
        os.write(file, json.dumps(line).encode("ascii") + b"\n")
    finally:
        os.close(file)


def _opened(path: str) -> int:
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
