"""Search by exact values: `field:"value"`, `metadata["key"]:"value"`, `:null`, `-` for not, joined by AND.

Stripe's language has more (docs.stripe.com/search): parts of words, comparisons and OR are refused by name. Stripe's
search lags behind by up to a minute; the sandbox's does not.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final

from .errors import refuse
from .router import Call, route
from .wire import Obj

MOST_CLAUSES: Final = 10
#: The fields that can be searched, by kind.
FIELDS: Final[Mapping[str, tuple[str, ...]]] = {
    "customer": ("created", "email", "metadata", "name", "phone"),
    "price": ("active", "currency", "lookup_key", "metadata", "product", "type"),
    "product": ("active", "description", "metadata", "name", "shippable", "url"),
    "subscription": ("created", "metadata", "status"),
}

_CLAUSE: Final = re.compile(
    r"""\s*(?P<not>-)?
        (?P<field>[a-z_]+)
        (?:\[(?P<quote>["'])(?P<key>(?:(?!(?P=quote)).)*)(?P=quote)\])?
        \s*(?P<operator><=|>=|:|~|<|>)\s*
        (?:"(?P<double>(?:[^"\\]|\\.)*)"|'(?P<single>(?:[^'\\]|\\.)*)'|(?P<bare>[^\s"']+))
        (?:\s+(?P<join>AND|OR)\s+(?=\S)|\s*\Z|\s+(?=\S))
    """,
    re.VERBOSE | re.IGNORECASE,
)
#: Text that JSON writes as it is, and LIKE reads as it is or takes for more than it is (the underscore).
_AS_STORED: Final = re.compile(r"[^\x00-\x1f\x7f-\U0010ffff\"\\%]+")


@dataclass(frozen=True)
class Clause:
    """One condition. `value` None asks whether the field is there at all."""

    negated: bool
    field: str
    key: str | None
    value: str | None

    def meets(self, obj: Obj) -> bool:
        """Whether an object answers to this clause."""
        found = obj.get(self.field)
        if self.key is not None:
            found = (found or {}).get(self.key)
        if self.value is None or found is None:
            return (found is self.value) != self.negated
        return (str(found).lower() == self.value.lower()) != self.negated

    @property
    def text(self) -> str | None:
        """What is in the stored form of whatever meets this clause."""
        if self.negated:
            wanted = self.key if self.value is None else None
        else:
            wanted = self.value
        return wanted if wanted and _AS_STORED.fullmatch(wanted) else None


def parse(text: str, kind: str) -> list[Clause]:
    """The clauses of a query about a kind, or the refusal that says what is wrong with it."""
    if not text.strip():
        raise refuse("empty", param="query")
    clauses: list[Clause] = []
    place = 0
    while place < len(text):
        match = _CLAUSE.match(text, place)
        if match is None:
            raise refuse("search_query", reason=f"there is no clause at character {place + 1}")
        clauses.append(_clause(match, kind))
        place = match.end()
    if len(clauses) > MOST_CLAUSES:
        raise refuse("search_query", reason=f"it has more than {MOST_CLAUSES} clauses")
    return clauses


def _clause(match: re.Match[str], kind: str) -> Clause:
    field, key = match["field"], match["key"]
    if field not in FIELDS[kind]:
        raise refuse("search_query", reason=f"the field {field} cannot be searched; there is {', '.join(FIELDS[kind])}")
    if (field == "metadata") != (key is not None):
        raise refuse("search_query", reason='metadata is searched by key, metadata["key"], and nothing else is')
    if match["operator"] != ":" or (match["join"] or "AND").upper() != "AND":
        raise refuse("not_implemented_param", param=f"query with {match['join'] or match['operator']}")
    quoted = match["double"] if match["double"] is not None else match["single"]
    value = match["bare"] if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
    return Clause(match["not"] is not None, field, key, None if quoted is None and value == "null" else value)


def _texts(clauses: Sequence[Clause]) -> list[str]:
    """Texts that whatever is found has in it, as it is stored: SQLite passes over the rest before it is read."""
    return [text for clause in clauses if (text := clause.text) is not None]


def search(call: Call, kind: str) -> Obj:
    """The answer of a search endpoint: newest first, in pages."""
    clauses = parse(call.params["query"], kind)
    limit = min(max(call.params.get("limit", 10), 1), 100)
    page = call.params.get("page") or "0"
    if not re.fullmatch(r"[0-9]{1,9}", page):
        raise refuse("search_query", reason="page must be the next_page of an earlier answer", param="page")
    start = int(page)
    candidates = (obj for obj in call.store.holding(kind, _texts(clauses)) if not obj.get("deleted"))
    met = (obj for obj in candidates if all(clause.meets(obj) for clause in clauses))
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


def _route(plural: str, kind: str) -> None:
    @route("GET", f"/v1/{plural}/search")
    def handler(call: Call) -> Obj:
        return search(call, kind)


for _kind in FIELDS:
    _route(f"{_kind}s", _kind)
