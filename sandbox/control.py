"""`/_sandbox/`: what a test or a curious user can set and see. No key is needed; it is not part of Stripe.

    GET    /_sandbox/                 settings, time, number of objects of each kind
    POST   /_sandbox/clock            {"now": 1767225600} | {"advance": 3600} | {"frozen": 1767225600} | {"real": true}
    POST   /_sandbox/lag              {"seconds": 2.5}
    POST   /_sandbox/rate_limits      {"test": 25, "live": 100} | {"stripe": true} | {"test": null}
    POST   /_sandbox/keys             {"key": "rk_test_x", "lacks": ["rak_accounts_kyc_basic_read"]} |
                                      {..., "permissions": ["rak_plan_write"]} | {..., "allow": ["GET /v1/prices"]}
    POST   /_sandbox/accounts         {"id": "acct_x", "configurations": ["merchant", "recipient", "customer"]}
    GET    /_sandbox/accounts         the connected accounts
    POST   /_sandbox/faults           {"method": "POST", "path": "/v1/prices*", "count": 2, "status": 500}
    DELETE /_sandbox/faults           forget them all
    GET    /_sandbox/requests         the request log (after=SEQ, limit=N)
    DELETE /_sandbox/requests         empty it
    GET    /_sandbox/state            every object by mode and kind (kind=price for one kind)
    POST   /_sandbox/log              {"on": false}
    POST   /_sandbox/reset            empty everything, settings too

A fault has `method` and `path` (shell patterns), `count` (how many requests, default 1; null is all), `skip` (let that
many pass first), and one of: `status` (with `code`, `message`, `headers`, `body`), `delay` (seconds, may be combined),
`drop: true` (the connection breaks), `half_body: true` (half the answer arrives). `when` is `before` (nothing is done,
the default), `after` (the request is carried out and committed, and then the delay begins) or `stored` (nothing is
done, and an idempotency key remembers the answer).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from time import sleep
from typing import Any, Final, Protocol

from . import connect, customers, forms, keys, limits, log, settings, spec, v2
from .errors import ANSWERS, StripeError, refuse
from .router import Call
from .store import Database, Store, mint
from .wire import ConnectionDropped, Request, Response


class Sandbox(Protocol):
    """What control needs of the sandbox that it controls, which stands above it."""

    database: Database

    def clock_of(self, current: settings.Settings) -> Callable[[], int]:
        """The sandbox's time under some settings."""

    def host_clock(self) -> float:
        """The time that it is set against."""

    def reset(self) -> None:
        """Empty the file."""


#: 2100-01-01: dates beyond it are accidents, and not every calendar reaches them.
LAST_MOMENT: Final = 4_102_444_800


class _Refused(Exception):
    """A control request that makes no sense."""


# -- faults -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Fault:
    """One spoiled request."""

    name: str
    when: str
    status: int | None
    delay: float
    drop: bool
    half_body: bool
    code: str | None
    message: str | None
    headers: dict[str, str]
    body: str | None

    def error(self) -> StripeError:
        """The answer of a `status` fault in Stripe's shape."""
        if self.status == 429 and self.code in (None, "rate_limit") and self.message is None:
            error = refuse("rate_limit_test")
        elif self.status == 429 and self.code == "lock_timeout" and self.message is None:
            error = refuse("lock_timeout")
        else:
            kind = "api_error" if (self.status or 500) >= 500 else "invalid_request_error"
            message = self.message or ANSWERS["internal"].message
            error = StripeError(self.status or 500, message, code=self.code, type=kind)
        error.headers.update(self.headers)
        error.stored = self.when == "stored"
        return error

    def response(self, path: str) -> Response:
        """The same as bytes, as the API behind the path shapes it; `body` replaces that (a proxy's HTML page, say)."""
        if self.body is not None:
            headers = {"content-type": "text/html", **self.headers}
            return Response(self.status or 500, headers, self.body.encode())
        error = self.error()
        body = v2.error_body(error) if path.startswith("/v2/") else error.body()
        headers = {"content-type": "application/json", "request-id": mint("req_", 14), **error.headers}
        return Response(error.status, headers, json.dumps(body).encode())


_OF_FAULT: Final = ("when", "status", "delay", "drop", "half_body", "code", "message", "headers", "body")


def take_fault(database: Database, current: settings.Settings, method: str, path: str) -> Fault | None:
    """The fault that this request meets, its count taken down by one."""
    if not any(_meets(entry, method, path) for entry in current["faults"]):
        return None
    with database.writing() as connection:
        # Another thread or process may have used it up since.
        fresh = json.loads(json.dumps(settings.read(connection)))
        hit: dict[str, Any] | None = None
        for entry in fresh["faults"]:
            if not _meets(entry, method, path):
                continue
            if entry["skip"] > 0:
                entry["skip"] -= 1
                continue
            if entry["count"] is not None:
                entry["count"] -= 1
            hit = entry
            break
        fresh["faults"] = [entry for entry in fresh["faults"] if entry["count"] is None or entry["count"] > 0]
        settings.write(connection, fresh)
    if hit is None:
        return None
    return Fault(name=hit["id"], **{field: hit[field] for field in _OF_FAULT})


def _meets(entry: dict[str, Any], method: str, path: str) -> bool:
    return fnmatchcase(method, entry["method"]) and fnmatchcase(path, entry["path"])


def before(fault: Fault, path: str) -> Response | None:
    """What a fault does before the request is carried out; a Response stands in for it."""
    if fault.when == "after":
        return None
    if fault.delay:
        sleep(fault.delay)
    if fault.when == "stored":
        return None
    if fault.drop:
        raise ConnectionDropped("the connection was dropped before the request was carried out")
    if fault.half_body:
        whole = fault.response(path)
        raise ConnectionDropped("half of an answer was sent; nothing was done", _half(whole))
    return None if fault.status is None else fault.response(path)


def after(fault: Fault, path: str, response: Response) -> Response:
    """What a fault does once the request has been carried out and committed."""
    if fault.when != "after":
        return response
    if fault.delay:
        sleep(fault.delay)
    if fault.drop:
        raise ConnectionDropped("the connection was dropped after the request was carried out")
    if fault.half_body:
        raise ConnectionDropped("half of the answer was sent", _half(response))
    return response if fault.status is None else fault.response(path)


def _half(response: Response) -> Response:
    return Response(response.status, response.headers, response.body[: len(response.body) // 2])


# -- requests ---------------------------------------------------------------------------------------------------------


def handle(sandbox: Sandbox, request: Request, path: str, query: str) -> Response:
    """Answer one control request; the answer is JSON, a mistake is a 400 with a sentence."""
    name = path.removeprefix("/_sandbox").strip("/")
    handler = _HANDLERS.get((request.method, name))
    if request.header("origin") is not None:
        # A web page in the user's browser could reach a loopback port; it has no business here.
        return _json({"error": {"message": "Control requests from a web page are refused."}}, 403)
    try:
        if handler is None:
            known = ", ".join(sorted(f"{method} /_sandbox/{word}" for method, word in _HANDLERS))
            return _json({"error": {"message": f"There is no {request.method} {path}. There is: {known}."}}, 404)
        params: dict[str, Any] = dict(forms.decode_form(query.encode()))
        if request.body:
            if (request.header("content-type") or "").startswith("application/x-www-form-urlencoded"):
                params.update(forms.decode_form(request.body))
            else:
                params.update(forms.decode_json(request.body))
        return _json(handler(sandbox, params), 200)
    except (_Refused, StripeError) as refused:
        return _json({"error": {"message": str(refused), "type": "invalid_request_error"}}, 400)


def _json(value: Any, status: int) -> Response:
    return Response(status, {"content-type": "application/json"}, json.dumps(value).encode())


def _change(sandbox: Sandbox, change: Callable[[settings.Settings], None]) -> dict[str, Any]:
    with sandbox.database.writing() as connection:
        fresh = json.loads(json.dumps(settings.read(connection)))
        change(fresh)
        settings.write(connection, fresh)
    return _shown(sandbox, fresh)


def _shown(sandbox: Sandbox, current: settings.Settings) -> dict[str, Any]:
    return {**current, "now": sandbox.clock_of(current)()}


def _number(params: dict[str, Any], name: str) -> float:
    value = params[name]
    try:
        if isinstance(value, bool):
            raise ValueError
        number = float(value)
        if not -1e11 < number < 1e11:
            raise ValueError
    except (TypeError, ValueError) as problem:
        raise _Refused(f"{name} must be a number, not {value!r}.") from problem
    return number


def _only(params: dict[str, Any], *names: str) -> None:
    strange = sorted(set(params) - set(names))
    if strange:
        raise _Refused(f"{', '.join(strange)} is not known here; there is {', '.join(names)}.")


def _flag(params: dict[str, Any], name: str) -> bool:
    return params.get(name, False) in (True, "true", "1")


def _overview(sandbox: Sandbox, params: dict[str, Any]) -> dict[str, Any]:
    _only(params)
    with sandbox.database.reading() as connection:
        current = settings.read(connection)
        counts: dict[str, dict[str, int]] = {}
        for scope, kind, count in connection.execute(
            "SELECT scope, kind, count(*) FROM objects GROUP BY scope, kind ORDER BY scope, kind"
        ):
            counts.setdefault(scope, {})[kind] = count
    return {**_shown(sandbox, current), "objects": counts, "file": str(sandbox.database.path)}


def _clock(sandbox: Sandbox, params: dict[str, Any]) -> dict[str, Any]:
    _only(params, "now", "advance", "frozen", "real")
    if len(params) != 1:
        raise _Refused("Give one of now, advance, frozen, real.")

    def change(fresh: settings.Settings) -> None:
        host = sandbox.host_clock()
        if "real" in params:
            fresh["clock_frozen"], fresh["clock_offset"] = None, 0
        elif "now" in params:
            fresh["clock_frozen"], fresh["clock_offset"] = None, _number(params, "now") - host
        elif "frozen" in params:
            fresh["clock_frozen"] = int(_number(params, "frozen"))
        elif fresh["clock_frozen"] is not None:
            fresh["clock_frozen"] += int(_number(params, "advance"))
        else:
            fresh["clock_offset"] += _number(params, "advance")
        if not 0 <= sandbox.clock_of(fresh)() < LAST_MOMENT:
            raise _Refused("The clock goes from 1970 to 2099.")

    return _change(sandbox, change)


def _lag(sandbox: Sandbox, params: dict[str, Any]) -> dict[str, Any]:
    _only(params, "seconds")
    if "seconds" not in params:
        raise _Refused("Give seconds.")
    seconds = _number(params, "seconds")
    if seconds < 0:
        raise _Refused("seconds must not be negative.")
    return _change(sandbox, lambda fresh: fresh.update(lag=seconds))


def _rate_limits(sandbox: Sandbox, params: dict[str, Any]) -> dict[str, Any]:
    _only(params, *limits.STRIPE, "stripe")
    wanted: dict[str, float | None] = dict(limits.STRIPE) if _flag(params, "stripe") else {}
    for mode in limits.STRIPE:
        if mode in params:
            rate = None if params[mode] in (None, "") else _number(params, mode)
            if rate is not None and rate < 1:
                raise _Refused(f"{mode} must be at least 1 request a second, or null for no limit.")
            wanted[mode] = rate

    def change(fresh: settings.Settings) -> None:
        fresh["rate_limits"].update(wanted)

    answer = _change(sandbox, change)
    with sandbox.database.writing() as connection:
        connection.execute("DELETE FROM buckets")
    return answer


def _keys(sandbox: Sandbox, params: dict[str, Any]) -> dict[str, Any]:
    _only(params, "key", "status", "allow", "permissions", "lacks", "account")
    key = params.get("key")
    limits_given = [name for name in ("allow", "permissions", "lacks") if params.get(name) is not None]
    status = params.get("status", "restricted" if limits_given else "accepted")
    if not isinstance(key, str) or not key:
        raise _Refused("Give the key.")
    if status not in ("accepted", "expired", "unknown", "restricted"):
        raise _Refused("status must be accepted, expired, unknown or restricted.")
    if bool(limits_given) != (status == "restricted"):
        raise _Refused("A restricted key, and no other, has allow, permissions or lacks.")
    allow, known = params.get("allow"), keys.known_permissions()
    if allow is not None and not (
        isinstance(allow, list) and all(isinstance(rule, str) and " " in rule for rule in allow)
    ):
        raise _Refused('allow must be a list such as ["GET /v1/prices", "* /v1/billing"].')
    for name in ("permissions", "lacks"):
        given = params.get(name)
        if given is not None and not (isinstance(given, list) and all(word in known for word in given)):
            raise _Refused(f"{name} must be a list of some of {', '.join(known)}.")
    account = params.get("account")
    if account is not None and (not isinstance(account, str) or not account.startswith("acct_")):
        raise _Refused("account must be an id that begins with acct_.")

    def change(fresh: settings.Settings) -> None:
        limits_of_key = {name: params[name] for name in limits_given}
        fresh["keys"][key] = {"status": status, **limits_of_key, "account": account}

    return _change(sandbox, change)


def _accounts(sandbox: Sandbox, params: dict[str, Any]) -> dict[str, Any]:
    _only(params, "id", "configurations", "livemode", "platform")
    configurations = params.get("configurations", list(connect.DEFAULT))
    if not isinstance(configurations, list) or not all(name in connect.CONFIGURATIONS for name in configurations):
        raise _Refused(f"configurations must be a list of some of {', '.join(connect.CONFIGURATIONS)}.")
    for name in ("id", "platform"):
        if name in params and not (isinstance(params[name], str) and params[name].startswith("acct_")):
            raise _Refused(f"{name} must be an id that begins with acct_.")
    livemode = _flag(params, "livemode")
    with sandbox.database.writing() as connection:
        current = settings.read(connection)
        platform = params.get("platform") or current["account"]
        if params.get("id") == platform:
            raise _Refused("A platform is not connected to itself.")
        # What the account's kind does, it does as a request of its platform.
        call = Call(
            method="POST",
            path="/_sandbox/accounts",
            params={},
            args={},
            store=Store(connection, f"{platform}:{'live' if livemode else 'test'}"),
            livemode=livemode,
            account=platform,
            key="",
            request_id=mint("req_", 14),
            version=spec.API_VERSION,
            idempotency_key=None,
            clock=sandbox.clock_of(current),
            settings=current,
        )
        made = connect.make(call, params.get("id"), configurations, customers.new_customer)
    return connect.shown(made, platform, livemode=livemode)


def _read_accounts(sandbox: Sandbox, params: dict[str, Any]) -> dict[str, Any]:
    _only(params)
    with sandbox.database.reading() as connection:
        rows = connection.execute("SELECT scope, body FROM objects WHERE kind = 'account' ORDER BY seq").fetchall()
    data = []
    for scope, body in rows:
        platform, _, mode = scope.rpartition(":")
        data.append(connect.shown(json.loads(body), platform, livemode=mode == "live"))
    return {"data": data}


def _faults(sandbox: Sandbox, params: dict[str, Any]) -> dict[str, Any]:
    _only(
        params,
        *("method", "path", "count", "skip", "when", "status", "delay", "drop", "half_body"),
        *("code", "message", "headers", "body"),
    )
    headers = params.get("headers") or {}
    if not isinstance(headers, dict) or not all(isinstance(value, str) for value in headers.values()):
        raise _Refused("headers must be an object of strings.")
    entry: dict[str, Any] = {
        "id": mint("fault_", 8),
        "method": str(params.get("method", "*")).upper(),
        "path": str(params.get("path", "*")),
        "count": None if params.get("count", 1) is None else int(_number({"count": 1, **params}, "count")),
        "skip": int(_number({"skip": 0, **params}, "skip")),
        "when": params.get("when", "before"),
        "status": None if params.get("status") is None else int(_number(params, "status")),
        "delay": _number({"delay": 0, **params}, "delay"),
        "drop": _flag(params, "drop"),
        "half_body": _flag(params, "half_body"),
        "code": params.get("code"),
        "message": params.get("message"),
        "headers": {name.lower(): value for name, value in headers.items()},
        "body": params.get("body"),
    }
    for name in ("code", "message", "body"):
        if entry[name] is not None and not isinstance(entry[name], str):
            raise _Refused(f"{name} must be text.")
    _check_fault(entry)
    _change(sandbox, lambda fresh: fresh["faults"].append(entry))
    return entry


def _check_fault(entry: dict[str, Any]) -> None:
    count, status = entry["count"], entry["status"]
    rules = {
        "count must be at least 1, or null for every request, and skip at least 0.": (count is None or count >= 1)
        and entry["skip"] >= 0,
        "when must be before, after or stored.": entry["when"] in ("before", "after", "stored"),
        "status must be an HTTP status from 200 to 599.": status is None or 200 <= status <= 599,
        "delay must be 0 to 600 seconds.": 0 <= entry["delay"] <= 600,
        "A fault needs one of status, delay, drop, half_body.": status is not None
        or any(entry[name] for name in ("delay", "drop", "half_body")),
        "when=stored needs a status.": entry["when"] != "stored" or status is not None,
    }
    for sentence, kept in rules.items():
        if not kept:
            raise _Refused(sentence)


def _read_faults(sandbox: Sandbox, params: dict[str, Any]) -> dict[str, Any]:
    _only(params)
    with sandbox.database.reading() as connection:
        return {"data": settings.read(connection)["faults"]}


def _drop_faults(sandbox: Sandbox, params: dict[str, Any]) -> dict[str, Any]:
    _only(params)
    return _change(sandbox, lambda fresh: fresh.update(faults=[]))


def _requests(sandbox: Sandbox, params: dict[str, Any]) -> dict[str, Any]:
    _only(params, "after", "limit")
    after = int(_number({"after": 0, **params}, "after"))
    limit = int(_number({"limit": log.KEEP, **params}, "limit"))
    with sandbox.database.reading() as connection:
        return {"data": log.read(connection, after, limit)}


def _drop_requests(sandbox: Sandbox, params: dict[str, Any]) -> dict[str, Any]:
    _only(params)
    with sandbox.database.writing() as connection:
        log.empty(connection)
    return {}


def _log(sandbox: Sandbox, params: dict[str, Any]) -> dict[str, Any]:
    _only(params, "on")
    if "on" not in params:
        raise _Refused("Give on.")
    return _change(sandbox, lambda fresh: fresh.update(log=_flag(params, "on")))


def _state(sandbox: Sandbox, params: dict[str, Any]) -> dict[str, Any]:
    _only(params, "kind")
    objects: dict[str, dict[str, list[Any]]] = {}
    with sandbox.database.reading() as connection:
        for scope, kind, body in connection.execute("SELECT scope, kind, body FROM objects ORDER BY seq"):
            if params.get("kind") in (None, kind):
                objects.setdefault(scope, {}).setdefault(kind, []).append(json.loads(body))
    return {"objects": objects}


def _reset(sandbox: Sandbox, params: dict[str, Any]) -> dict[str, Any]:
    _only(params)
    sandbox.reset()
    return _overview(sandbox, {})


_HANDLERS: Final[dict[tuple[str, str], Callable[[Any, dict[str, Any]], dict[str, Any]]]] = {
    ("GET", ""): _overview,
    ("POST", "clock"): _clock,
    ("POST", "lag"): _lag,
    ("POST", "rate_limits"): _rate_limits,
    ("POST", "keys"): _keys,
    ("POST", "accounts"): _accounts,
    ("GET", "accounts"): _read_accounts,
    ("POST", "faults"): _faults,
    ("GET", "faults"): _read_faults,
    ("DELETE", "faults"): _drop_faults,
    ("GET", "requests"): _requests,
    ("DELETE", "requests"): _drop_requests,
    ("GET", "state"): _state,
    ("POST", "log"): _log,
    ("POST", "reset"): _reset,
}
