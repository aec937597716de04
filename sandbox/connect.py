"""Connected accounts: made by control, named by parameters (`transfer_data[destination]`, `on_behalf_of`, an issuer).

`/v1/accounts` is outside what the sandbox is for; `POST /_sandbox/accounts` stands in for it. An account belongs to one
platform and one mode, as every object does, and holds configurations, which say what it may be used for.
https://docs.stripe.com/connect/accounts-v2
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
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


def make(call: Call, id: str | None, configurations: Iterable[str], new_customer: Callable[[Call, str], Obj]) -> Obj:
    """Connect an account to the caller's platform, or give one that is connected further configurations.

    With the `customer` configuration comes a customer of the platform, as at Stripe; `new_customer` makes it.
    """
    found = None if id is None else call.store.get("account", id)
    name = id if id is not None else call.mint("acct_1", 16)
    account = found or {**shape(name, "Connected account", call.now()), "_configurations": []}
    account["_configurations"] = sorted({*account["_configurations"], *configurations})
    if "customer" in account["_configurations"] and account.get("_customer") is None:
        account["_customer"] = new_customer(call, name)["id"]
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


def payer(call: Call, params: Mapping[str, Any], *, status: int = 404) -> Obj | None:
    """The customer that `customer` or `customer_account` names; None where neither is given.

    `status` is that of the refusal of an unknown customer.
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


# -- who is charged for, and who is paid -------------------------------------------------------------------------------


def reference(call: Call, given: Mapping[str, Any], param: str) -> Obj:
    """An issuer or a liable party: the platform itself or a connected account. `param` is such as `issuer`."""
    if given["type"] == "self":
        if "account" in given:
            raise refuse("liability_account", param=f"{param}[account]")
        return {"type": "self"}
    if not given.get("account"):
        raise refuse("missing", param=f"{param}[account]")
    return {"type": "account", "account": account(call, given["account"], f"{param}[account]")["id"]}


def set_parties(call: Call, holder: Obj, params: Mapping[str, Any], prefix: str = "") -> None:
    """`application_fee_percent`, `on_behalf_of` and `transfer_data` of a subscription, a phase or its defaults.

    "" unsets; a `transfer_data` replaces the one before as a whole.
    """
    if "application_fee_percent" in params:
        fee = params["application_fee_percent"]
        where = _name(prefix, "application_fee_percent")
        holder["application_fee_percent"] = None if fee == "" else _percent(fee, where)
    if "on_behalf_of" in params:
        given = params["on_behalf_of"]
        holder["on_behalf_of"] = account(call, given, _name(prefix, "on_behalf_of"))["id"] if given else None
    if "transfer_data" in params:
        where = _name(prefix, "transfer_data")
        given = params["transfer_data"]
        holder["transfer_data"] = None
        if given:
            percent = given.get("amount_percent")
            holder["transfer_data"] = {
                "amount_percent": None if percent is None else _percent(percent, f"{where}[amount_percent]"),
                "destination": account(call, given["destination"], f"{where}[destination]")["id"],
            }


def check_fee(fee: float | int | None, transfer: Mapping[str, Any] | None, what: str, prefix: str = "") -> None:
    """A fee is taken of what an account receives, and is one of two ways to say how much that is.

    `what` is `percent` of subscriptions and `amount` of invoices.
    """
    if fee is None:
        return
    name = f"application_fee_{what}"
    share = f"amount_{what}" if what == "percent" else what
    if transfer is None:
        raise refuse("fee_without_account", param=_name(prefix, name), name=name)
    if transfer[share] is not None:
        names = f"{name}, transfer_data[{share}]"
        raise refuse("only_one", param=_name(prefix, name), names=names)


def set_on_subscription(call: Call, subscription: Obj, params: Mapping[str, Any]) -> None:
    """Who is charged for and paid by a subscription's invoices."""
    if {"application_fee_percent", "on_behalf_of", "transfer_data"} & set(params):
        set_parties(call, subscription, params)
        check_fee(subscription["application_fee_percent"], subscription["transfer_data"], "percent")


def set_on_invoice(call: Call, invoice: Obj, params: Mapping[str, Any]) -> None:
    """The same of one invoice, and who issues it.

    Since 2025-03-31 Stripe's invoices do not show the fee and the transfer: they are the payment's.
    """
    if "issuer" in params:
        invoice["issuer"] = reference(call, params["issuer"], "issuer")
    if "on_behalf_of" in params:
        given = params["on_behalf_of"]
        invoice["on_behalf_of"] = account(call, given, "on_behalf_of")["id"] if given else None
    if "application_fee_amount" in params:
        invoice["_application_fee_amount"] = _amount(params["application_fee_amount"], "application_fee_amount")
    if "transfer_data" in params:
        given = params["transfer_data"]
        invoice["_transfer_data"] = None
        if given:
            amount = given.get("amount")
            invoice["_transfer_data"] = {
                "amount": None if amount is None else _amount(amount, "transfer_data[amount]"),
                "destination": account(call, given["destination"], "transfer_data[destination]")["id"],
            }
    if {"application_fee_amount", "transfer_data"} & set(params):
        check_fee(invoice.get("_application_fee_amount"), invoice.get("_transfer_data"), "amount")


def _percent(value: float, param: str) -> float:
    """0 to 100 with at most two decimals."""
    if value < 0:
        raise refuse("too_small", param=param, least=0, value=value)
    if value > 100:
        raise refuse("too_great", param=param, most=100, value=value)
    exponent = Decimal(repr(value)).as_tuple().exponent
    if isinstance(exponent, int) and exponent < -2:
        raise refuse("percent_decimals", param=param)
    return value


def _amount(value: int, param: str) -> int:
    if value < 0:
        raise refuse("negative_quantity", param=param)
    return value


def _name(prefix: str, name: str) -> str:
    return f"{prefix}[{name}]" if prefix else name


# -- control -----------------------------------------------------------------------------------------------------------


def shown(account: Obj, platform: str, *, livemode: bool) -> dict[str, Any]:
    """An account as control tells of it."""
    return {
        "id": account["id"],
        "configurations": account["_configurations"],
        "customer": account.get("_customer"),
        "livemode": livemode,
        "platform": platform,
    }
