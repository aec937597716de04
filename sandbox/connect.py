"""Connected accounts: created by control, named in parameters (`transfer_data[destination]`, `on_behalf_of`, issuers).

The sandbox has no `/v1/accounts`; `POST /_sandbox/accounts` replaces it. It keeps and shows who is paid, but moves no
money. https://docs.stripe.com/connect/accounts-v2
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from .errors import refuse, within
from .router import Call, Kind, declare_kind
from .wire import Obj

declare_kind(Kind("account"))

#: The default configurations of an account, those of a /v1 account. The third is `customer`.
DEFAULT: Final = ("merchant", "recipient")
#: The parameters of subscriptions, phases and their defaults about it.
PARTIES: Final = ("application_fee_percent", "on_behalf_of", "transfer_data")


def shape(id: str, name: str, created: int | None = None) -> Obj:
    """An account in the shape of `GET /v1/account`."""
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


def make(call: Call, id: str | None, configurations: Iterable[str], new_customer: Callable[[Call, str], Obj]) -> Obj:
    """Connect an account to the caller's platform, or add configurations to a connected one.

    As at Stripe, the `customer` configuration adds a customer of the platform; `new_customer` creates it.
    """
    found = None if id is None else call.store.get("account", id)
    name = id if id is not None else call.mint("acct_1", 16)
    account = found or {**shape(name, "Connected account", call.now()), "_configurations": []}
    account["_configurations"] = sorted({*account["_configurations"], *configurations})
    if "customer" in account["_configurations"] and account.get("_customer") is None:
        account["_customer"] = new_customer(call, name)["id"]
    call.store.put(account)
    return account


def account(call: Call, id: str, param: str) -> str:
    """The id of the connected account that a parameter names, such as `transfer_data[destination]`; Stripe's refusal of
    an unknown one names the parameter."""
    name = param.removesuffix("]").rpartition("[")[2]
    called = name if name in ("destination", "on_behalf_of") else None
    return str(call.fetch("account", id, param=param, status=400, noun=called)["id"])


def payer(call: Call, params: Mapping[str, Any], *, status: int = 404) -> Obj | None:
    """The customer that `customer` or `customer_account` names; None if neither is given.

    `status` is the HTTP status of the refusal of an unknown customer.
    """
    if params.get("customer") and params.get("customer_account"):
        raise refuse("only_one", param="customer_account", names="customer, customer_account")
    if params.get("customer_account"):
        found = call.fetch("account", params["customer_account"], param="customer_account", status=400)
        if found.get("_customer") is None:
            raise refuse("account_no_customer", account=found["id"])
        return call.fetch("customer", found["_customer"], param="customer_account", status=400)
    if not params.get("customer"):
        return None
    return call.fetch("customer", params["customer"], param="customer", status=status)


def reference(call: Call, given: Mapping[str, Any], param: str) -> Obj:
    """An issuer or a liable party: the platform itself or a connected account. `param` is such as `issuer`."""
    if given["type"] == "self":
        return {"type": "self"}
    if not given.get("account"):
        raise refuse("missing", param=f"{param}[account]")
    return {"type": "account", "account": account(call, given["account"], f"{param}[account]")}


def set_parties(call: Call, holder: Obj, params: Mapping[str, Any], prefix: str = "") -> None:
    """`application_fee_percent`, `on_behalf_of` and `transfer_data` of a subscription, a phase or its defaults.

    "" unsets; a new `transfer_data` replaces the old one as a whole.
    """

    if "application_fee_percent" in params:
        fee = params["application_fee_percent"]
        holder["application_fee_percent"] = None if fee == "" else fee
    if "on_behalf_of" in params:
        given = params["on_behalf_of"]
        holder["on_behalf_of"] = account(call, given, within(prefix, "on_behalf_of")) if given else None
    if "transfer_data" in params:
        given = params["transfer_data"] or None
        holder["transfer_data"] = given and {
            "amount_percent": given.get("amount_percent"),
            "destination": account(call, given["destination"], within(prefix, "transfer_data") + "[destination]"),
        }
