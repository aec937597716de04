"""Send Stripe meter events and read them back: nothing lost, nothing billed twice.

    import usage

    usage.record("alpaca_ai_tokens", customer="cus_...", value=1200)

Importing this costs next to nothing: the client loads at first use. `docs/usage.md` is the manual.
"""

from . import errors as _errors
from .errors import *  # noqa: F403 - the tree of errors, which imports nothing else

TYPE_CHECKING = False  # typing itself would cost 4 ms; type checkers take this name as true
if TYPE_CHECKING:
    from .client import *  # noqa: F403

_LAZY = [
    "Client", "cancel", "flush", "preview_invoice", "record", "record_many", "send", "status", "summaries", "verify",
]  # fmt: skip

__all__ = sorted([*_LAZY, *_errors.__all__])


def __getattr__(name: str) -> object:
    if name not in _LAZY:
        raise AttributeError(f"module 'usage' has no attribute {name!r}")
    from . import client

    value = globals()[name] = getattr(client, name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
