"""Events: the changes of this account's objects, newest first; and the account itself."""

from __future__ import annotations

from typing import Any

from . import connect
from .router import Call, Kind, declare_kind, retrieves, route
from .store import declare_index
from .wire import Obj

declare_kind(Kind("event"))
retrieves("/v1/events/{id}", "event")
declare_index("event", "type")


@route("GET", "/v1/events")
def list_events(call: Call) -> Obj:
    """GET /v1/events, filtered by `type` (which may end in `*`) or `types`."""
    where: dict[str, Any] = {}
    kind = call.params.get("type")
    if "types" in call.params:
        where["type"] = call.params["types"]
    elif kind is not None and kind.endswith("*"):
        # A prefix as a range: every name with that prefix sorts between it and it plus the last character.
        where["type"] = {"gte": kind[:-1], "lt": kind[:-1] + "\U0010ffff"}
    elif kind is not None:
        where["type"] = kind
    if call.params.get("delivery_success") is False:
        # There are no webhook endpoints here, so nothing has failed.
        where["id"] = ()
    return call.page("event", where)


@route("GET", "/v1/account")
def account(call: Call) -> Obj:
    """GET /v1/account: whose key this is."""
    return connect.shape(call.account, "Stripe sandbox")
