"""Connected accounts: made by control, named by parameters (`transfer_data[destination]`, `on_behalf_of`, an issuer).

`/v1/accounts` is outside what the sandbox is for; `POST /_sandbox/accounts` stands in for it. An account belongs to one
platform and one mode, as every object does, and holds configurations, which say what it may be used for.
https://docs.stripe.com/connect/accounts-v2
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from .errors import refuse
from .router import Call, Kind, declare_kind
from .store import Obj

declare_kind(Kind("account"))

#: What an account can be: who is charged for (`on_behalf_of`), who receives, who pays.
CONFIGURATIONS: Final = ("customer", "merchant", "recipient")
#: Those of an account that nobody says anything about: what an account of /v1 has.
DEFAULT: Final = ("merchant", "recipient")


def shape(id: str, name: str, created: int | None = None) -> Obj:
    """An account as `GET /v1/account` answers it."""
    account: Obj = {
        "id": id,
        "object": "account",
        "business_profile": {"name": name},
        "charges_enabled": True,
        "country": "US",
        "default_currency": "usd",
        "details_submitted": True,
        "email": None,
        "payouts_enabled": True,
        "type": "standard",
    }
    return account if created is None else {**account, "created": created}


def make(call: Call, id: str | None, configurations: Iterable[str]) -> Obj:
    """Connect an account to the caller's platform, or give one that is connected further configurations."""
    found = None if id is None else call.store.get("account", id)
    name = id if id is not None else call.mint("acct_1", 16)
    account = found or {**shape(name, "Connected account", call.now()), "_configurations": []}
    account["_configurations"] = sorted({*account["_configurations"], *configurations})
    call.store.put(account)
    return account


def account(call: Call, id: str, param: str) -> Obj:
    """The connected account that a parameter names, or Stripe's refusal.

    `param` is spelled as in the request, `transfer_data[destination]`: Stripe calls an account by it.
    """
    name = param.removesuffix("]").rpartition("[")[2]
    if name not in ("destination", "on_behalf_of"):
        return call.fetch("account", id, param=param, status=400)
    if id == call.account:
        raise refuse("own_account", param=param, name=name)
    found = call.fetch("account", id, param=param, status=400, noun=name)
    if not {"merchant", "recipient"} & set(found["_configurations"]):
        raise refuse("account_cannot_receive", param=param)
    return found


def shown(account: Obj, platform: str, *, livemode: bool) -> dict[str, Any]:
    """An account as control tells of it."""
    return {
        "id": account["id"],
        "configurations": account["_configurations"],
        "livemode": livemode,
        "platform": platform,
    }
