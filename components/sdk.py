"""stripe-python, loaded late and by one thread at a time.

Late, because a preview of a program needs its types and not its client, and the program's own process neither.
By one thread, because its modules import each other in circles: threads that load two of them at once can each see
the other's half loaded, and then an `ImportError` stops a run (Python 3.13 does so whenever Pulumi's worker threads
begin a destroy together).
"""

from __future__ import annotations

import threading
from importlib import import_module
from typing import Any

_lock = threading.RLock()


def load(module: str, name: str | None = None) -> Any:
    """A module of stripe-python, or what it calls `name`, whole."""
    with _lock:
        found = import_module(module)
        # Its packages load their modules when a name of theirs is first asked for.
        return found if name is None else getattr(found, name)


def load_client() -> None:
    """Everything that calling Stripe takes, so that `import stripe` and its names load nothing any more."""
    load("stripe._stripe_client")
