"""Send Stripe meter events and read them back: nothing lost, nothing billed twice.

    import usage

    usage.record("alpaca_ai_tokens", customer="cus_...", value=1200)

Importing this costs next to nothing: clients are loaded when they are first used. `docs/usage.md` is the manual.
"""

from . import errors as _errors
from .errors import *  # noqa: F403 - the tree of errors, which needs nothing else

TYPE_CHECKING = False  # typing itself would cost 4 ms; type checkers take this name as true
if TYPE_CHECKING:
    from .aio import *  # noqa: F403
    from .client import *  # noqa: F403

_FUNCTIONS = "Client cancel flush preview_invoice record record_many send status summaries verify"
_HOMES = {"AsyncClient": "aio", **dict.fromkeys(_FUNCTIONS.split(), "client")}

__all__ = sorted([*_HOMES, *_errors.__all__])


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'usage' has no attribute {name!r}")
    from importlib import import_module

    value = globals()[name] = getattr(import_module(f"usage.{_HOMES[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
