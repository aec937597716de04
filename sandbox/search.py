"""Search by one key of metadata: `metadata["key"]:"value"`, `metadata["key"]:null`, `-` in front negates.

The rest of Stripe's query language (https://docs.stripe.com/search) is refused by name. Stripe's search lags by up to a
minute; the sandbox's does not.
"""

from __future__ import annotations

import re
from typing import Final

from .errors import refuse
from .router import Call, route
from .wire import Obj

_QUERY: Final = re.compile(
    r"""\s*(?P<negated>-?)metadata\[(["'])(?P<key>[^"'\\]+)\2\]:(?:null|(["'])(?P<value>[^"'\\]*)\4)\s*"""
)


def _search(call: Call, kind: str) -> Obj:
    """The answer of a search endpoint: newest first, in pages."""
    asked = _QUERY.fullmatch(call.params["query"])
    if asked is None:
        raise refuse("not_implemented_param", param='query other than metadata["key"]:"value"')
    page = call.params.get("page") or None
    if page is not None and not re.fullmatch(r"[0-9]{1,15}", page):
        raise refuse("search_page")
    limit = min(max(call.params.get("limit", 10), 1), 100)
    where = {"deleted": None, ("metadata", asked["key"]): {"is_not" if asked["negated"] else "is": asked["value"]}}
    rows = call.store.query(kind, where, before=None if page is None else int(page), limit=limit + 1)
    more = len(rows) > limit
    following = str(call.store.seq(kind, rows[limit - 1]["id"])) if more else None
    found = {"data": rows[:limit], "has_more": more, "next_page": following, "url": call.path}
    return {"object": "search_result", **found}


def _route(kind: str) -> None:
    route("GET", f"/v1/{kind}s/search")(lambda call: _search(call, kind))


for _kind in ("customer", "price", "product", "subscription"):
    _route(_kind)
