"""Search: Stripe's query language over customers, prices, products and subscriptions (docs.stripe.com/search).

`field:"exact"`, `field~"part"`, `field>1`, `-field:"not"`, `metadata["key"]:"value"`, `field:null`, joined by AND or by
OR, never both. Stripe's search lags behind by up to a minute; the sandbox's does not.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

from .errors import refuse
from .router import Call, route
from .store import Obj

MAX_CLAUSES: Final = 10
MIN_PART: Final = 3

TOKEN: Final = "token"
TEXT: Final = "text"
NUMBER: Final = "number"

_COMPARE: Final[Mapping[str, Callable[[int, int], bool]]] = {
    ">": operator.gt,
    "<": operator.lt,
    ">=": operator.ge,
    "<=": operator.le,
}

#: The fields that can be searched, by kind.
FIELDS: Final[Mapping[str, Mapping[str, str]]] = {
    "customer": {"created": NUMBER, "email": TEXT, "metadata": TOKEN, "name": TEXT, "phone": TEXT},
    "price": {
        "active": TOKEN,
        "currency": TOKEN,
        "lookup_key": TEXT,
        "metadata": TOKEN,
        "product": TEXT,
        "type": TOKEN,
    },
    "product": {
        "active": TOKEN,
        "description": TEXT,
        "metadata": TOKEN,
        "name": TEXT,
        "shippable": TOKEN,
        "url": TEXT,
    },
    "subscription": {"created": NUMBER, "metadata": TOKEN, "status": TOKEN},
}

_CLAUSE: Final = re.compile(
    r"""\s*(?P<not>-)?
        (?P<field>[a-z_]+)
        (?:\[(?P<quote>["'])(?P<key>(?:(?!(?P=quote)).)*)(?P=quote)\])?
        \s*(?P<operator><=|>=|:|~|<|>)\s*
        (?:"(?P<double>(?:[^"\\]|\\.)*)"|'(?P<single>(?:[^'\\]|\\.)*)'|(?P<bare>[^\s"']+))
    """,
    re.VERBOSE,
)
#: Text that JSON writes as it is, and LIKE reads as it is or takes for more than it is (the underscore).
_AS_STORED: Final = re.compile(r"[^\x00-\x1f\x7f-\U0010ffff\"\\%]+")
_JOIN: Final = re.compile(r"\s+(AND|OR)\s+|\s+", re.IGNORECASE)


@dataclass(frozen=True)
class Clause:
    """One condition. `value` None asks whether the field is there at all."""

    negated: bool
    field: str
    key: str | None
    operator: str
    value: str | None

    def meets(self, obj: Obj) -> bool:
        """Whether an object answers to this clause."""
        found = obj.get(self.field)
        if self.key is not None:
            found = (found or {}).get(self.key)
        return self._compare(found) != self.negated

    def _compare(self, found: Any) -> bool:
        if self.value is None:
            return found is None
        if found is None:
            return False
        if self.operator == "~":
            return self.value.lower() in str(found).lower()
        if self.operator != ":":
            return _COMPARE[self.operator](int(found), int(self.value))
        return str(found).lower() == self.value.lower()


@dataclass(frozen=True)
class Query:
    """Clauses, all or any of which must be met."""

    clauses: tuple[Clause, ...]
    every: bool

    def texts(self) -> list[str]:
        """Texts that whatever is found has in it, as it is stored: SQLite passes over the rest before it is read."""
        if not self.every:
            return []
        values = [clause.value for clause in self.clauses if clause.operator in ":~" and not clause.negated]
        return [value for value in values if value and _AS_STORED.fullmatch(value)]

    def meets(self, obj: Obj) -> bool:
        """Whether an object is found."""
        return (all if self.every else any)(clause.meets(obj) for clause in self.clauses)


def parse(text: str, kind: str) -> Query:
    """A query about a kind, or the refusal that says what is wrong with it."""
    clauses: list[Clause] = []
    joins: set[str] = set()
    place = 0
    text = text.strip()
    if not text:
        raise refuse("empty", param="query")
    while True:
        match = _CLAUSE.match(text, place)
        if match is None:
            raise refuse("search_query", reason=f"there is no clause at character {place + 1}")
        clauses.append(_clause(match, kind))
        place = match.end()
        if place >= len(text):
            break
        join = _JOIN.match(text, place)
        if join is None or join.end() >= len(text):
            raise refuse("search_query", reason=f"clauses must be joined by AND or OR at character {place + 1}")
        joins.add((join.group(1) or "AND").upper())
        place = join.end()
    if len(joins) > 1:
        raise refuse("search_query", reason="AND and OR cannot be combined")
    if len(clauses) > MAX_CLAUSES:
        raise refuse("search_query", reason=f"it has more than {MAX_CLAUSES} clauses")
    return Query(tuple(clauses), joins != {"OR"})


def _clause(match: re.Match[str], kind: str) -> Clause:
    field, key, sign = match["field"], match["key"], match["operator"]
    fields = FIELDS[kind]
    if field not in fields:
        raise refuse("search_query", reason=f"the field {field} cannot be searched; there is {', '.join(fields)}")
    if (field == "metadata") != (key is not None):
        raise refuse("search_query", reason='metadata is searched by key, metadata["key"], and nothing else is')
    quoted = match["double"] if match["double"] is not None else match["single"]
    value = match["bare"] if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
    if sign == "~" and (fields[field] == NUMBER or len(value) < MIN_PART):
        raise refuse("search_query", reason=f"~ needs a text field and at least {MIN_PART} characters")
    if sign in ("<", ">", "<=", ">=") and fields[field] != NUMBER:
        raise refuse("search_query", reason=f"{sign} needs a numeric field")
    wanted = None if quoted is None and value == "null" and sign == ":" else value
    if fields[field] == NUMBER and wanted is not None and not re.fullmatch(r"[0-9]{1,15}", wanted):
        raise refuse("search_query", reason=f"{field} is numeric")
    return Clause(match["not"] is not None, field, key, sign, wanted)


def search(call: Call, kind: str) -> Obj:
    """The answer of a search endpoint: newest first, in pages."""
    query = parse(call.params["query"], kind)
    limit = min(max(call.params.get("limit", 10), 1), 100)
    page = call.params.get("page") or "0"
    if not re.fullmatch(r"[0-9]{1,9}", page):
        raise refuse("search_query", reason="page must be the next_page of an earlier answer", param="page")
    start = int(page)
    met = (obj for obj in call.store.holding(kind, query.texts()) if not obj.get("deleted") and query.meets(obj))
    counted = "total_count" in call.params.get("expand", ())
    found = list(met if counted else islice(met, start + limit + 1))
    more = len(found) > start + limit
    return {
        "object": "search_result",
        "data": found[start : start + limit],
        "has_more": more,
        "next_page": str(start + limit) if more else None,
        "url": call.path,
        # Shown when `expand` asks for it, and right only then.
        "total_count": len(found),
    }


@route("GET", "/v1/customers/search")
def customers(call: Call) -> Obj:
    """GET /v1/customers/search."""
    return search(call, "customer")


@route("GET", "/v1/prices/search")
def prices(call: Call) -> Obj:
    """GET /v1/prices/search."""
    return search(call, "price")


@route("GET", "/v1/products/search")
def products(call: Call) -> Obj:
    """GET /v1/products/search."""
    return search(call, "product")


@route("GET", "/v1/subscriptions/search")
def subscriptions(call: Call) -> Obj:
    """GET /v1/subscriptions/search."""
    return search(call, "subscription")
