"""Send Stripe meter events and read them back: nothing lost, nothing billed twice.

    import usage

    usage.record("alpaca_ai_tokens", customer="cus_...", value=1200)

Importing this costs next to nothing: every name is loaded when it is first used. `docs/usage.md` is the manual.
"""

TYPE_CHECKING = False  # typing itself would cost 4 ms; type checkers take this name as true
if TYPE_CHECKING:
    from .aio import AsyncClient as AsyncClient
    from .client import Client as Client
    from .default import cancel as cancel
    from .default import flush as flush
    from .default import preview_invoice as preview_invoice
    from .default import record as record
    from .default import record_many as record_many
    from .default import send as send
    from .default import status as status
    from .default import summaries as summaries
    from .default import verify as verify
    from .errors import AuthenticationFailed as AuthenticationFailed
    from .errors import DestinationError as DestinationError
    from .errors import IdentifierConflict as IdentifierConflict
    from .errors import ImportFailed as ImportFailed
    from .errors import InvalidEvent as InvalidEvent
    from .errors import NotDelivered as NotDelivered
    from .errors import NotStripe as NotStripe
    from .errors import SpoolDamaged as SpoolDamaged
    from .errors import SpoolError as SpoolError
    from .errors import SpoolFull as SpoolFull
    from .errors import SpoolLocked as SpoolLocked
    from .errors import SpoolMissing as SpoolMissing
    from .errors import StripeError as StripeError
    from .errors import Unreachable as Unreachable
    from .errors import UsageError as UsageError

_NAMES = {
    "aio": "AsyncClient",
    "client": "Client",
    "default": "cancel flush preview_invoice record record_many send status summaries verify",
    "errors": "AuthenticationFailed DestinationError IdentifierConflict ImportFailed InvalidEvent NotDelivered "
    "NotStripe SpoolDamaged SpoolError SpoolFull SpoolLocked SpoolMissing StripeError Unreachable UsageError",
}
_HOMES = {name: home for home, names in _NAMES.items() for name in names.split()}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'usage' has no attribute {name!r}")
    from importlib import import_module

    value: object = getattr(import_module(f"usage.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
