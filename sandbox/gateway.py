"""`Sandbox`: one file, one method. Every request goes through control, key, limit, fault, route, parameters,
idempotency, handler, answer and log, in this order. Each request is one transaction."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from . import (
    answers,
    control,
    expand,
    forms,
    idempotency,
    inflight,
    keys,
    kinds,
    limits,
    log,
    router,
    settings,
    spec,
    v2,
    versions,
)
from .errors import StripeError, refuse
from .store import Database, Store, erase, mint
from .wire import ConnectionDropped, Request, Response, SandboxFileError

assert kinds  # imported for its routes

_logger = logging.getLogger("sandbox")


@dataclass(kw_only=True)
class _Passage(log.Entry):
    """A request in progress, with its log entry."""

    path: str
    query: str
    #: Whether it is written to the log.
    logged: bool = True

    @property
    def v2(self) -> bool:
        """Whether it is one of /v2, whose errors have another shape."""
        return self.path.startswith("/v2/")


@dataclass(frozen=True)
class _Visit:
    """A request with its route and everything needed to carry it out."""

    passage: _Passage
    who: keys.Caller
    route: router.Route
    args: dict[str, str]
    path: str
    raw: dict[str, Any]
    key: idempotency.Key | None
    version: str
    fault: control.Fault | None


class Sandbox:
    """A stateful Stripe in one SQLite file. Safe to share between threads; any number may be open on one file."""

    def __init__(
        self, path: str | os.PathLike[str], *, clock: Callable[[], float] | None = None, renew: bool = False
    ) -> None:
        """`path` is created if missing. `clock` returns Unix seconds; the default is the host's. `renew` empties a file
        from another version, which is otherwise refused."""
        self._host_clock = clock if clock is not None else time.time
        self._answers = answers.file_of_this_process()
        self.database = Database(path, renew=renew)
        self._claims = inflight.Claims(self.database.path)
        with self.database.glancing() as connection:
            ready = settings.made(connection)
        if not ready:
            with self.database.writing() as connection:
                settings.first(connection)

    def close(self) -> None:
        """Close the file."""
        self._claims.close()
        self.database.close()

    def handle(self, request: Request) -> Response:
        """Answer one request. Raises ConnectionDropped if a fault says so, SandboxFileError for a bad file."""
        path, _, query = request.url.partition("?")
        if path.startswith("/_sandbox/"):
            return control.handle(self, request, path, query)
        response = self._answer(_Passage(request=request, request_id=mint("req_", 14), path=path, query=query))
        if self._answers:
            answers.write(self._answers, request, response)
        return response

    def _answer(self, passage: _Passage) -> Response:
        try:
            with self.database.glancing() as connection:
                current = settings.read(connection)
            passage.logged = current["log"]
            return self._serve(passage, current)
        except (ConnectionDropped, SandboxFileError):
            raise
        except StripeError as refused:
            return self._refusal(passage, refused)
        except Exception:
            # The only place that catches unexpected errors: the client gets Stripe's own 500, the log the traceback.
            _logger.exception("%s %s failed", passage.request.method, passage.path)
            return self._refusal(passage, refuse("internal"))

    def host_clock(self) -> float:
        """The reference time for the sandbox's own clock, in Unix seconds."""
        return self._host_clock()

    def reset(self) -> None:
        """Empty the file: no objects, no settings, a new account."""
        with self.database.writing() as connection:
            log.empty(connection, lambda: erase(connection))
            settings.first(connection)

    def clock_of(self, current: settings.Settings) -> Callable[[], int]:
        """The sandbox's time under some settings, in Unix seconds."""
        if current["clock_frozen"] is not None:
            frozen = int(current["clock_frozen"])
            return lambda: frozen
        # One request has one time, however often its handler asks.
        moment = int(self._host_clock() + current["clock_offset"])
        return lambda: moment

    # -- handling a request -----------------------------------------------------------------------------------------

    def _serve(self, passage: _Passage, current: settings.Settings) -> Response:
        request = passage.request
        clock = self.clock_of(current)
        if request.method == "POST" and passage.path == v2.STREAM_PATH:
            who = v2.session_caller(self.database, request, clock())
        else:
            who = keys.caller(request, current)
        passage.livemode, passage.key = who.livemode, keys.redacted(who.key)
        limits.check(self.database, current, who, passage.path, time.time())
        fault = control.take_fault(self.database, current, request.method, passage.path)
        if fault is not None:
            passage.fault = fault.name
        version = versions.asked(request.header("stripe-version"))
        path = unquote(passage.path)
        found = router.match(request.method, path)
        if found is None:
            raise self._no_route(request.method, path)
        route, args = found
        keys.check_permission(who, request.method, path)
        for name in ("Stripe-Account", "Stripe-Context"):
            if request.header(name.lower()) not in (None, "", who.account):
                raise refuse("not_implemented_param", param=name)
        raw = _decode(passage, route)
        versions.check(version, route, path, raw)
        given = request.header("idempotency-key") if request.method == "POST" else None
        key = None
        if given is not None:
            key = idempotency.Key.of(given, f"{route.method} {path}", request.body, raw, v2=route.v2)
        visit = _Visit(passage, who, route, args, path, raw, key, version, fault)
        claims = self._claims_of(visit)
        with self._claims.held(who.scope, claims) if claims else nullcontext():
            try:
                response = None if fault is None else control.before(fault, path)
            except ConnectionDropped:
                # There was no answer; the log still records the request.
                self._log(passage, Response(0, {}, b""), clock())
                raise
            if response is not None:
                self._log(passage, response, clock())
                return response
            response = self._run(visit)
        return response if fault is None else control.after(fault, path, response)

    def _claims_of(self, visit: _Visit) -> list[inflight.Claim]:
        claims = []
        if visit.key is not None:
            name = visit.key.name
            claims.append(inflight.Claim(f"idempotency {name}", lambda: refuse("idempotency_in_use", key=name)))
        if visit.route.claim is not None:
            with self.database.glancing() as connection:
                claim = visit.route.claim(Store(connection, visit.who.scope), visit.raw)
            if claim is not None:
                claims.append(claim)
        return claims

    def _run(self, visit: _Visit) -> Response:
        """Carry a request out, or replay the answer of its idempotency key; one transaction with its log entry."""
        passage, writes, key = visit.passage, visit.route.writes, visit.key
        with self.database.writing() if writes else self.database.reading() as connection:
            # The time at this request's turn: another request may have moved the clock while it waited.
            current = settings.read(connection)
            clock = self.clock_of(current)
            store = Store(connection, visit.who.scope)
            remembered = None if key is None else key.answer(store, clock())
            if remembered is not None:
                response = self._again(visit, remembered)
            else:
                call = _call(visit, store, clock, current)
                status, body, stored = self._outcome(visit, call)
                if key is not None and stored:
                    key.remember(store, idempotency.Remembered(status, body, passage.request_id), clock())
                response = Response(status, self._headers(passage, call.headers, key, visit.version), body)
            if writes and passage.logged:
                log.record(connection, passage, response, clock())
        if not writes:
            self._log(passage, response, clock())
        return response

    def _outcome(self, visit: _Visit, call: router.Call) -> tuple[int, bytes, bool]:
        """Status and body of the handler's answer or refusal, and whether an idempotency key stores it.

        The writes of a refused request are undone. A request that only reads has none: its refusal is raised.
        """
        route, fault, connection = visit.route, visit.fault, call.store.connection
        if route.writes:
            connection.execute("SAVEPOINT handler")
        try:
            if fault is not None and fault.when == "stored":
                raise fault.error()
            call.params = spec.parameters(route.method, route.template)(visit.raw, "")
            answer = expand.render(call, route.handler(call))
            body = _json(answer)
            if call.showing:
                connection.execute("ROLLBACK TO shown")
        except StripeError as refused:
            if not route.writes:
                raise
            connection.execute("ROLLBACK TO handler")
            call.headers.update(refused.headers)
            body = _json(v2.error_body(refused) if route.v2 else refused.body())
            return refused.status, body, refused.stored and not route.v2
        return 200, body, True

    def _again(self, visit: _Visit, remembered: idempotency.Remembered) -> Response:
        visit.passage.replayed = True
        headers = self._headers(visit.passage, {}, visit.key, spec.API_VERSION)
        headers["idempotent-replayed"] = "true"
        headers["original-request"] = remembered.request_id
        return Response(remembered.status, headers, remembered.body)

    def _no_route(self, method: str, path: str) -> StripeError:
        if router.known_to_stripe(method, path):
            return refuse("not_implemented", method=method, path=path)
        return refuse("no_route", method=method, path=path)

    # -- answers ----------------------------------------------------------------------------------------------------

    def _headers(
        self, passage: _Passage, more: dict[str, str], key: idempotency.Key | None, version: str
    ) -> dict[str, str]:
        headers = {
            "content-type": "application/json",
            "request-id": passage.request_id,
            "stripe-version": version,
            **more,
        }
        if key is not None:
            headers["idempotency-key"] = key.name
            headers["original-request"] = passage.request_id
        return headers

    def _refusal(self, passage: _Passage, refused: StripeError) -> Response:
        body = _json(v2.error_body(refused) if passage.v2 else refused.body())
        headers = self._headers(passage, refused.headers, None, spec.API_VERSION)
        response = Response(refused.status, headers, body)
        self._log(passage, response, int(self._host_clock()))
        return response

    def _log(self, passage: _Passage, response: Response, now: int) -> None:
        if passage.logged:
            with self.database.writing() as connection:
                log.record(connection, passage, response, now)


def _call(visit: _Visit, store: Store, clock: Callable[[], int], current: settings.Settings) -> router.Call:
    """A request as its handler sees it; the parameters are checked later."""
    return router.Call(
        path=visit.path,
        store=store,
        livemode=visit.who.livemode,
        account=visit.who.account,
        request_id=visit.passage.request_id,
        clock=clock,
        args=visit.args,
        version=visit.version,
        idempotency_key=None if visit.key is None else visit.key.name,
        settings=current,
    )


_encode = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode


def _json(value: Any) -> bytes:
    return _encode(value).encode("ascii")


def _decode(passage: _Passage, route: router.Route) -> dict[str, Any]:
    """Query and body as raw parameters; the body wins where both name one."""
    request = passage.request
    if len(request.body) > forms.MAX_BODY:
        raise refuse("body", reason=f"it has {len(request.body)} bytes, more than {forms.MAX_BODY}")
    raw = forms.decode_form(passage.query.encode("utf-8", "surrogateescape"))
    if not request.body:
        return raw
    content = (request.header("content-type") or "").partition(";")[0].strip().lower()
    if route.v2:
        body = forms.decode_json(request.body)
    elif content in ("", "application/x-www-form-urlencoded"):
        body = forms.decode_form(request.body)
    else:
        raise refuse("body", reason=f"its content type is {content}, and /v1 takes application/x-www-form-urlencoded")
    return {**raw, **body}
