"""`/_sandbox/`: what a test or a user can set and see. It needs no key and is not part of Stripe.

docs/sandbox.md lists the calls and the faults (under "Control"). `data/beside.json` describes their parameters, which
are validated like those of Stripe's own calls.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from time import sleep
from typing import Any, Final, Protocol

from . import connect, customers, forms, keys, limits, log, settings, spec, v2
from .errors import ANSWERS, StripeError, refuse
from .router import LAST_MOMENT, Call
from .store import Database, Store, mint
from .wire import ConnectionDropped, Request, Response


class Sandbox(Protocol):
    """What control needs from the sandbox, whose module is above this one."""

    database: Database

    def clock_of(self, current: settings.Settings) -> Callable[[], int]:
        """The sandbox's time with given settings."""

    def host_clock(self) -> float:
        """Its reference time."""

    def reset(self) -> None:
        """Empty the file."""


def _no(sentence: str) -> StripeError:
    """The refusal of an invalid control request."""
    return StripeError(400, sentence)


# -- faults -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Fault:
    """One fault."""

    name: str
    when: str = "before"
    status: int | None = None
    delay: float = 0.0
    drop: bool = False
    half_body: bool = False
    code: str | None = None
    message: str | None = None
    headers: dict[str, str] = field(default_factory=dict)
    body: str | None = None

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
        """The same as bytes, in the shape of the path's API; `body` replaces it (with a proxy's HTML page, say)."""
        if self.body is not None:
            headers = {"content-type": "text/html", **self.headers}
            return Response(self.status or 500, headers, self.body.encode())
        error = self.error()
        body = v2.error_body(error) if path.startswith("/v2/") else error.body()
        headers = {"content-type": "application/json", "request-id": mint("req_", 14), **error.headers}
        return Response(error.status, headers, json.dumps(body).encode())


#: The fields that select requests; the others say what the fault does.
_WHERE: Final[dict[str, Any]] = {"method": "*", "path": "*", "count": 1, "skip": 0}


def take_fault(database: Database, current: settings.Settings, method: str, path: str) -> Fault | None:
    """The fault for this request, if any; counts it down by one."""
    if not any(_meets(entry, method, path) for entry in current["faults"]):
        return None
    with database.writing() as connection:
        # Another thread or process may have used it up in the meantime.
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
    done = {name: value for name, value in hit.items() if name != "id" and name not in _WHERE}
    return Fault(hit["id"], **done)


def _meets(entry: dict[str, Any], method: str, path: str) -> bool:
    return fnmatchcase(method, entry["method"]) and fnmatchcase(path, entry["path"])


def before(fault: Fault, path: str) -> Response | None:
    """What a fault does before the request is carried out; returns a Response to send instead."""
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
    """Answer one control request with JSON; a mistake gets a 400 with one sentence."""
    name = path.removeprefix("/_sandbox").strip("/")
    handler = _HANDLERS.get((request.method, name))
    if request.header("origin") is not None:
        # A web page in the user's browser can reach a loopback port, but must not control the sandbox.
        return _json({"error": {"message": "Control requests from a web page are refused."}}, 403)
    if handler is None:
        known = ", ".join(sorted(f"{method} /_sandbox/{word}" for method, word in _HANDLERS))
        return _json({"error": {"message": f"There is no {request.method} {path}. There is: {known}."}}, 404)
    try:
        params: dict[str, Any] = dict(forms.decode_form(query.encode()))
        if request.body:
            is_form = (request.header("content-type") or "").startswith("application/x-www-form-urlencoded")
            params.update((forms.decode_form if is_form else forms.decode_json)(request.body))
        return _json(handler(sandbox, spec.control_parameters(request.method, name)(params, "")), 200)
    except StripeError as refused:
        return _json(refused.body(), 400)


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


def _check_account(params: dict[str, Any], *names: str) -> None:
    for name in names:
        if not params.get(name, "acct_").startswith("acct_"):
            raise _no(f"{name} must be an id that begins with acct_.")


def _overview(sandbox: Sandbox, params: dict[str, Any]) -> dict[str, Any]:
    with sandbox.database.reading() as connection:
        current = settings.read(connection)
        counts: dict[str, dict[str, int]] = {}
        for scope, kind, count in connection.execute(
            "SELECT scope, kind, count(*) FROM objects GROUP BY scope, kind ORDER BY scope, kind"
        ):
            counts.setdefault(scope, {})[kind] = count
    return {**_shown(sandbox, current), "objects": counts, "file": str(sandbox.database.path)}


def _clock(sandbox: Sandbox, params: dict[str, Any]) -> dict[str, Any]:
    if len(params) != 1:
        raise _no("Give one of now, advance, frozen, real.")
    [(name, value)] = params.items()

    def change(fresh: settings.Settings) -> None:
        if name == "real":
            fresh["clock_frozen"], fresh["clock_offset"] = None, 0
        elif name == "now":
            fresh["clock_frozen"], fresh["clock_offset"] = None, value - sandbox.host_clock()
        elif name == "frozen":
            fresh["clock_frozen"] = int(value)
        elif fresh["clock_frozen"] is not None:
            fresh["clock_frozen"] += int(value)
        else:
            fresh["clock_offset"] += value
        if not 0 <= sandbox.clock_of(fresh)() < LAST_MOMENT:
            raise _no("The clock goes from 1970 to 2099.")

    return _change(sandbox, change)


def _lag(sandbox: Sandbox, params: dict[str, Any]) -> dict[str, Any]:
    return _change(sandbox, lambda fresh: fresh.update(lag=params["seconds"]))


def _rate_limits(sandbox: Sandbox, params: dict[str, Any]) -> dict[str, Any]:
    stripes = limits.STRIPE if params.pop("stripe", False) else {}
    answer = _change(sandbox, lambda fresh: fresh["rate_limits"].update({**stripes, **params}))
    with sandbox.database.writing() as connection:
        connection.execute("DELETE FROM buckets")
    return answer


def _keys(sandbox: Sandbox, params: dict[str, Any]) -> dict[str, Any]:
    given: dict[str, Any] = {name: params[name] for name in ("allow", "permissions", "lacks") if name in params}
    status = params.get("status", "restricted" if given else "accepted")
    if bool(given) != (status == "restricted"):
        raise _no("A restricted key, and no other, has allow, permissions or lacks.")
    if not all(" " in rule for rule in given.get("allow", ())):
        raise _no('allow must be a list such as ["GET /v1/prices", "* /v1/billing"].')
    known = keys.known_permissions()
    for name in ("permissions", "lacks"):
        if not set(given.get(name, ())) <= set(known):
            raise _no(f"{name} must be a list of some of {', '.join(known)}.")
    _check_account(params, "account")
    entry = {"status": status, **given, "account": params.get("account")}
    return _change(sandbox, lambda fresh: fresh["keys"].update({params["key"]: entry}))


def _accounts(sandbox: Sandbox, params: dict[str, Any]) -> dict[str, Any]:
    _check_account(params, "id")
    livemode = params.get("livemode", False)
    with sandbox.database.writing() as connection:
        current = settings.read(connection)
        platform = current["account"]
        if params.get("id") == platform:
            raise _no("A platform is not connected to itself.")
        # The account's kind acts as a request of its platform.
        call = Call(
            path="/_sandbox/accounts",
            store=Store(connection, f"{platform}:{'live' if livemode else 'test'}"),
            livemode=livemode,
            account=platform,
            request_id=mint("req_", 14),
            clock=sandbox.clock_of(current),
            settings=current,
        )
        configurations = params.get("configurations", connect.DEFAULT)
        made = connect.make(call, params.get("id"), configurations, customers.new_customer)
    shown = {"id": made["id"], "configurations": made["_configurations"], "customer": made.get("_customer")}
    return {**shown, "livemode": livemode}


def _faults(sandbox: Sandbox, params: dict[str, Any]) -> dict[str, Any]:
    if not any(params.get(name) for name in ("status", "delay", "drop", "half_body")):
        raise _no("A fault needs one of status, delay, drop, half_body.")
    if params.get("when") == "stored" and "status" not in params:
        raise _no("when=stored needs a status.")
    entry: dict[str, Any] = {"id": mint("fault_", 8), **_WHERE, **params}
    entry["method"] = entry["method"].upper()
    entry["headers"] = {name.lower(): value for name, value in params.get("headers", {}).items()}
    _change(sandbox, lambda fresh: fresh["faults"].append(entry))
    return entry


def _read_faults(sandbox: Sandbox, params: dict[str, Any]) -> dict[str, Any]:
    with sandbox.database.reading() as connection:
        return {"data": settings.read(connection)["faults"]}


def _drop_faults(sandbox: Sandbox, params: dict[str, Any]) -> dict[str, Any]:
    return _change(sandbox, lambda fresh: fresh.update(faults=[]))


def _requests(sandbox: Sandbox, params: dict[str, Any]) -> dict[str, Any]:
    with sandbox.database.reading() as connection:
        return {"data": log.read(connection, params.get("after", 0), params.get("limit", log.KEEP))}


def _drop_requests(sandbox: Sandbox, params: dict[str, Any]) -> dict[str, Any]:
    with sandbox.database.writing() as connection:
        log.empty(connection)
    return {}


def _log(sandbox: Sandbox, params: dict[str, Any]) -> dict[str, Any]:
    return _change(sandbox, lambda fresh: fresh.update(log=params["on"]))


def _state(sandbox: Sandbox, params: dict[str, Any]) -> dict[str, Any]:
    objects: dict[str, dict[str, list[Any]]] = {}
    with sandbox.database.reading() as connection:
        for scope, kind, body in connection.execute("SELECT scope, kind, body FROM objects ORDER BY seq"):
            if params.get("kind") in (None, kind):
                objects.setdefault(scope, {}).setdefault(kind, []).append(json.loads(body))
    return {"objects": objects}


def _reset(sandbox: Sandbox, params: dict[str, Any]) -> dict[str, Any]:
    sandbox.reset()
    return _overview(sandbox, {})


_HANDLERS: Final[dict[tuple[str, str], Callable[[Any, dict[str, Any]], dict[str, Any]]]] = {
    ("GET", ""): _overview,
    ("POST", "clock"): _clock,
    ("POST", "lag"): _lag,
    ("POST", "rate_limits"): _rate_limits,
    ("POST", "keys"): _keys,
    ("POST", "accounts"): _accounts,
    ("POST", "faults"): _faults,
    ("GET", "faults"): _read_faults,
    ("DELETE", "faults"): _drop_faults,
    ("GET", "requests"): _requests,
    ("DELETE", "requests"): _drop_requests,
    ("GET", "state"): _state,
    ("POST", "log"): _log,
    ("POST", "reset"): _reset,
}
