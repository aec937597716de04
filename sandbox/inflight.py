"""One at a time: requests that Stripe refuses with 409 while another of the same kind is in progress.

Within a process, a set is enough. Between processes, each locks a byte of the file `<sandbox file>-claims`, which stays
empty: that costs a thousandth of a transaction, and the system releases the locks of a killed process.
"""

from __future__ import annotations

import os
import sys
import threading
import weakref
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from .errors import StripeError
from .wire import SandboxFileError

if sys.platform != "win32":
    import fcntl

_lock = threading.Lock()
_held: set[str] = set()


@dataclass(frozen=True)
class Claim:
    """What must be alone: its name, and the refusal of a second request."""

    name: str
    refusal: Callable[[], StripeError]


def _place(entry: str) -> int:
    """The byte of a claim; two claims that are held at once share one only by chance."""
    return zlib.crc32(entry.encode("utf-8", "surrogatepass"))


class Claims:
    """The claims on one sandbox file, shared with other instances and processes."""

    def __init__(self, path: Path) -> None:
        """`path` is the sandbox file's."""
        self._path = f"{os.path.realpath(path)}-claims"
        self._file: int | None = None
        self._closing: Callable[[], object] = lambda: None

    def close(self) -> None:
        """Close the file; it is reopened when needed."""
        with _lock:
            self._closing()
            self._file = None

    @contextmanager
    def held(self, scope: str, claims: Sequence[Claim]) -> Iterator[None]:
        """Hold claims while the block runs, or raise the refusal of the first that is taken."""
        mine: list[str] = []
        try:
            for claim in claims:
                entry = f"{self._path} {scope} {claim.name}"
                with _lock:
                    if entry in _held or not self._lock_byte(_place(entry)):
                        raise claim.refusal()
                    _held.add(entry)
                    mine.append(entry)
            yield
        finally:
            for entry in mine:
                with _lock:
                    _held.discard(entry)
                    if sys.platform != "win32" and self._file is not None:
                        fcntl.lockf(self._file, fcntl.LOCK_UN, 1, _place(entry))

    def _lock_byte(self, place: int) -> bool:
        """Whether no other process had the byte. Windows has no such locks: other processes are not detected there."""
        if sys.platform == "win32":
            return True
        try:
            if self._file is None:
                self._file = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
                self._closing = weakref.finalize(self, os.close, self._file)
        except OSError as problem:
            raise SandboxFileError(
                f"The file {self._path} cannot be opened ({problem.strerror}): check its folder."
            ) from problem
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, place)
        except (BlockingIOError, PermissionError):
            return False
        return True
