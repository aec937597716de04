"""Imports stripe-python lazily, and in one thread at a time.

Lazily, because a preview needs its types but not its client, and the program's own process needs neither. In one
thread, because its modules import each other in cycles: threads that import two of them at once can see each other's
half imported, and an `ImportError` stops the run (with Python 3.13, whenever Pulumi's worker threads begin a destroy
together).
"""

from __future__ import annotations

import threading
from importlib import import_module
from typing import Any

_lock = threading.RLock()


def load(module: str, name: str | None = None) -> Any:
    """A module of stripe-python, or its attribute `name`, fully imported."""
    with _lock:
        found = import_module(module)
        # Its packages import their modules when a name is first used.
        return found if name is None else getattr(found, name)


def load_client() -> None:
    """Import everything that calling Stripe needs, so that `import stripe` imports nothing more."""
    load("stripe._stripe_client")
