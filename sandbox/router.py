"""Routes, and the argument of every handler: a `Call`.

A kind is one module, named for its path and imported by `kinds.py`; `products.py` is the example. It declares what is
not in Stripe's description of the kind (`declare_kind`, and `declare_index` for the filters of lists). It registers a
handler for each operation, under the description's path; the parameters are then validated and typed.

    @route("POST", "/v1/products")
    def create(call: Call) -> Obj:
        product = {**call.head("product", call.params.get("id") or call.mint("prod_", 14)), ...}
        return call.add(product, "product.created")  # hides private fields, applies `expand`

A handler runs in one transaction: POST and DELETE may write, and any exception undoes them; GET must not write
(pass `writes=True` to `route` if it has to). Never call one handler from another; share functions of (call, obj).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from . import spec
from .errors import refuse
from .inflight import Claim
from .store import Store, mint
from .wire import Obj

#: 2100-01-01: later dates are mistakes, and not every calendar has them.
LAST_MOMENT: Final = 4_102_444_800

Handler = Callable[["Call"], Obj]


@dataclass(frozen=True)
class Kind:
    """What the sandbox knows about a kind of object beyond Stripe's description of it."""

    name: str
    #: The `param` of the 404 when a path names an unknown one.
    missing_param: str = "id"
    #: Fields that are shown only when `expand` names them.
    hidden: frozenset[str] = frozenset()
    #: The word in "No such price: 'price_x'".
    noun: str = ""
    #: From the stored form to the answer, for kinds that embed others.
    wire: Callable[[Call, Obj], Obj] | None = None
    #: Computes a hidden field on request: (call, stored object, field) -> its value.
    reveal: Callable[[Call, Obj, str], Any] | None = None

    @property
    def called(self) -> str:
        """The kind in an error text."""
        return self.noun or self.name


@dataclass(frozen=True)
class Route:
    """One operation that the sandbox implements."""

    method: str
    template: str
    handler: Handler
    writes: bool
    #: What must not run twice at once: (store, raw parameters) -> claim, with one SELECT. See `inflight.py`.
    claim: Callable[[Store, dict[str, Any]], Claim | None] | None
    #: /v2: JSON bodies, a different error shape, different idempotency rules.
    v2: bool


KINDS: Final[dict[str, Kind]] = {}
ROUTES: Final[dict[tuple[str, str], Route]] = {}

#: Templates of paths with arguments, by method, resource and number of segments.
_PATTERNS: Final[dict[tuple[str, str, int], list[tuple[tuple[str, ...], Route]]]] = {}


def declare_kind(kind: Kind) -> Kind:
    """Register a kind; its module calls this once."""
    KINDS[kind.name] = kind
    return kind


def kind_of(name: str) -> Kind:
    """A declared kind, or a default one for objects that need no declaration."""
    return KINDS.get(name) or Kind(name)


def route(
    method: str,
    template: str,
    *,
    writes: bool | None = None,
    claim: Callable[[Store, dict[str, Any]], Claim | None] | None = None,
) -> Callable[[Handler], Handler]:
    """Register the handler of an operation. `template` is spelled as in Stripe's description."""

    def register(handler: Handler) -> Handler:
        may_write = method != "GET" if writes is None else writes
        entry = Route(method, template, handler, may_write, claim, template.startswith("/v2/"))
        ROUTES[method, template] = entry
        if "{" in template:
            segments = tuple(template.split("/"))
            _PATTERNS.setdefault((method, segments[2], len(segments)), []).append((segments, entry))
        return handler

    return register


def retrieves(template: str, kind: str, by: Callable[[str, str], Callable[[Handler], Handler]] = route) -> None:
    """Register `GET` of a path whose last segment names an object of a kind; answers it as stored."""
    name = template.rpartition("{")[2].rstrip("}")
    by("GET", template)(lambda call: call.fetch(kind, call.args[name]))


def match(method: str, path: str) -> tuple[Route, dict[str, str]] | None:
    """The route of a path and its arguments; fixed paths win over `{id}`."""
    exact = ROUTES.get((method, path))
    if exact is not None and "{" not in path:
        return exact, {}
    segments = path.split("/")
    if len(segments) < 3:
        return None
    for pattern, entry in _PATTERNS.get((method, segments[2], len(segments)), ()):
        args = _match(pattern, segments)
        if args is not None:
            return entry, args
    return None


def known_to_stripe(method: str, path: str) -> bool:
    """Whether Stripe has this operation, implemented here or not."""
    segments = path.split("/")
    return any(
        method in methods and len(pattern) == len(segments) and _match(pattern, segments) is not None
        for pattern, methods in spec.stripe_paths()
    )


def _match(pattern: tuple[str, ...], segments: list[str]) -> dict[str, str] | None:
    args: dict[str, str] = {}
    for wanted, segment in zip(pattern, segments, strict=True):
        if wanted.startswith("{"):
            if not segment:
                return None
            args[wanted[1:-1]] = segment
        elif wanted != segment:
            return None
    return args


@dataclass
class Call:
    """One request inside a handler."""

    path: str
    store: Store
    livemode: bool
    account: str
    request_id: str
    #: The sandbox's own time, Unix seconds; use `now()`.
    clock: Callable[[], int]
    params: dict[str, Any] = field(default_factory=dict)
    args: dict[str, str] = field(default_factory=dict)
    version: str = spec.API_VERSION
    idempotency_key: str | None = None
    #: Control settings (lag and the like), set by `/_sandbox/`.
    settings: Mapping[str, Any] = field(default_factory=dict)
    #: Response headers that a handler adds.
    headers: dict[str, str] = field(default_factory=dict)
    #: Whether writes after `only_show` are undone after the answer.
    showing: bool = False

    def only_show(self) -> None:
        """Keep nothing from here on: a preview redeems and bills like the change itself, but leaves no trace."""
        self.store.connection.execute("SAVEPOINT shown")
        self.showing = True

    # -- time -------------------------------------------------------------------------------------------------------

    def now(self, of: Mapping[str, Any] | None = None) -> int:
        """Unix seconds: the sandbox's clock, or the frozen time of the test clock that `of["test_clock"]` names."""
        if of is not None:
            clock_id = of.get("test_clock")
            if isinstance(clock_id, str):
                test_clock = self.store.get("test_helpers.test_clock", clock_id)
                if test_clock is not None:
                    return int(test_clock["frozen_time"])
        return self.clock()

    # -- objects ----------------------------------------------------------------------------------------------------

    def mint(self, prefix: str, length: int = 24) -> str:
        """A new id."""
        return mint(prefix, length)

    def head(self, kind: str, id: str, *, at: int | None = None) -> Obj:
        """A new object with only its id, kind, creation time and mode."""
        made = {"created": self.now() if at is None else at, "livemode": self.livemode}
        return {"id": id, "object": kind, **spec.blank(kind), **made}

    def add(self, obj: Obj, type: str) -> Obj:
        """Store a new object and record its event."""
        self.store.put(obj)
        self.event(type, obj)
        return obj

    def fetch(self, kind: str, id: str, *, param: str | None = None, status: int = 404, noun: str | None = None) -> Obj:
        """The object; raises Stripe's resource_missing for a missing or deleted one, naming the other mode if it exists
        there. `param` defaults to the kind's own, which is right for an id in the path; `noun` is for objects that
        Stripe names by the parameter instead of the kind ("No such destination")."""
        found = self.store.get(kind, id)
        if found is not None and not found.get("deleted"):
            return found
        shown = kind_of(kind)
        called = shown.called if noun is None else noun
        where = param if param is not None else shown.missing_param
        if found is None:
            here, there = ("live", "test") if self.livemode else ("test", "live")
            if self.store.in_scope(f"{self.account}:{there}").get(kind, id) is not None:
                raise refuse("other_mode", status=status, param=where, kind=called, id=id, here=here, there=there)
        raise refuse("no_such", status=status, param=where, kind=called, id=id)

    def wire(self, obj: Obj) -> Obj:
        """An object in Stripe's shape, before `expand`."""
        if obj.get("deleted") is True:
            return obj
        kind = kind_of(obj.get("object", ""))
        if kind.wire is not None:
            obj = kind.wire(self, obj)
        return {key: value for key, value in obj.items() if key[0] != "_" and key not in kind.hidden}

    def check_filters(self, **kinds: str) -> None:
        """Refuse a list that is filtered by an unknown id; `kinds` maps parameters to kinds.

        A deleted object is not unknown: its subscriptions and invoices can be listed.
        """
        for name, kind in kinds.items():
            id = self.params.get(name)
            if isinstance(id, str) and self.store.get(kind, id) is None:
                self.fetch(kind, id, param=name, status=400)

    def page(self, kind: str, where: Mapping[str, Any] | None = None, *, url: str | None = None) -> Obj:
        """A list answer: newest first, `limit` silently clamped to 1..100, cursors, a `created` range."""
        wanted = dict(where or {})
        if "created" in self.params:
            wanted["created"] = self.params["created"]
        limit, cursor = self._window()
        before = self._cursor(kind, cursor) if cursor == "starting_after" else None
        after = self._cursor(kind, cursor) if cursor == "ending_before" else None
        backwards = after is not None
        rows = self.store.query(kind, wanted, before=before, after=after, limit=limit + 1, oldest_first=backwards)
        has_more = len(rows) > limit
        rows = rows[:limit]
        if backwards:
            rows.reverse()
        return {"object": "list", "data": rows, "has_more": has_more, "url": url or self.path}

    def page_of(self, rows: list[Obj], noun: str, *, url: str | None = None) -> Obj:
        """A list answer from given rows, in their order; `noun` names an unknown cursor."""
        limit, cursor = self._window()
        first, last = 0, len(rows)
        if cursor is not None:
            id = self.params[cursor]
            place = next((index for index, row in enumerate(rows) if row["id"] == id), None)
            if place is None:
                raise refuse("no_such", param=cursor, kind=noun, id=id)
            first, last = (place + 1, last) if cursor == "starting_after" else (first, place)
        start = max(first, last - limit) if cursor == "ending_before" else first
        shown = rows[start:last][:limit]
        return {"object": "list", "data": shown, "has_more": last - first > limit, "url": url or self.path}

    def _window(self) -> tuple[int, str | None]:
        """The size of a page, and which of the two cursors it uses."""
        named = [name for name in ("starting_after", "ending_before") if self.params.get(name)]
        if len(named) == 2:
            raise refuse("both_cursors")
        return min(max(self.params.get("limit", 10), 1), 100), named[0] if named else None

    def _cursor(self, kind: str, name: str) -> int:
        id = self.params[name]
        place = self.store.seq(kind, id)
        if place is None:
            self.fetch(kind, id, param=name, status=400)
            raise refuse("no_such", param=name, kind=kind_of(kind).called, id=id)
        return place

    def metadata(self, current: Mapping[str, str] | None = None, given: Any = None) -> dict[str, str]:
        """`params["metadata"]` (or `given`) merged into `current`: "" removes a key, and "" alone clears all."""
        given = self.params.get("metadata") if given is None else given
        if given == "":
            return {}
        merged = dict(current or {})
        for key, value in (given or {}).items():
            if value == "":
                merged.pop(key, None)
                continue
            if len(key) > 40:
                raise refuse("metadata_key", key=key, length=len(key))
            if len(value) > 500:
                raise refuse("metadata_value", value=value, length=len(value))
            merged[key] = value
        if len(merged) > 50:
            raise refuse("metadata_count", count=len(merged))
        return merged

    def set_metadata(self, obj: Obj) -> None:
        """Merge `params["metadata"]`, if given, into an object's."""
        if "metadata" in self.params:
            obj["metadata"] = self.metadata(obj["metadata"])

    # -- events -----------------------------------------------------------------------------------------------------

    def event(self, type: str, obj: Obj, previous: Mapping[str, Any] | None = None, *, now: int | None = None) -> Obj:
        """Record an event with a snapshot of `obj`; `previous` are the old values of the attributes that an update
        changed."""
        data: dict[str, Any] = {"object": self.wire(obj)}
        if previous is not None:
            data["previous_attributes"] = dict(previous)
        event: Obj = {
            "id": mint("evt_1"),
            "object": "event",
            "api_version": spec.API_VERSION,
            "created": self.now(obj) if now is None else now,
            "data": data,
            "livemode": self.livemode,
            "pending_webhooks": 0,
            "request": {"id": self.request_id, "idempotency_key": self.idempotency_key},
            "type": type,
        }
        self.store.put(event)
        return event

    def given(self, *names: str) -> dict[str, Any]:
        """Those of the named parameters that were given."""
        return {name: self.params[name] for name in names if name in self.params}

    def save(self, obj: Obj, old: Obj, type: str) -> Obj:
        """Store an updated object and record its event, if anything visible has changed since `old`."""
        changed = changes(old, obj)
        if changed:
            self.store.put(obj)
            self.event(type, obj, changed)
        return obj


def assign(obj: Obj, params: Mapping[str, Any], *names: str) -> None:
    """Set the given fields of an object; an empty value unsets a field."""
    for name in names:
        if name in params:
            obj[name] = params[name] or None


def changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """`previous_attributes` of an update: the values of `old` that differ in `new`, without private fields.

    Recorded: a hash is compared key by key, and a key that it lacked was null.
    """
    found: dict[str, Any] = {}
    for key in [*new, *(key for key in old if key not in new)]:
        before, after = old.get(key), new.get(key)
        if key.startswith("_") or key == "updated" or before == after:
            continue
        hashes = isinstance(before, dict) and isinstance(after, dict)
        found[key] = changes(before or {}, after or {}) if hashes else before
    return found
