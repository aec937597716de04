"""Random requests, sensible and senseless: never a 500, never a hang, and the file stays whole."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sandbox import Request, Sandbox, router, spec
from sandbox.errors import StripeError
from sandbox.forms import decode_form, decode_json

from .conftest import NEW_YEAR, Clock

#: Requests a seed sends; the seeds together send ten thousand.
REQUESTS = 2_500
SEEDS = (1, 2, 3, 4)

_bytes = st.one_of(
    st.binary(max_size=200),
    st.text(alphabet="ab[]=&%+0129\x00é", max_size=80).map(lambda text: text.encode("utf-8")),
)


@given(_bytes)
@settings(max_examples=1000, deadline=None, derandomize=True, database=None)
def test_any_bytes_are_a_form_or_a_refusal(raw: bytes) -> None:
    try:
        decoded = decode_form(raw)
    except StripeError:
        return
    json.dumps(decoded).encode("ascii")


@given(st.one_of(st.binary(max_size=100), st.text(alphabet='{}[]":,0123truefalsn\\ude ', max_size=60).map(str.encode)))
@settings(max_examples=1000, deadline=None, derandomize=True, database=None)
def test_any_bytes_are_json_or_a_refusal(raw: bytes) -> None:
    try:
        decoded = decode_json(raw)
    except StripeError:
        return
    assert isinstance(decoded, dict)
    json.dumps(decoded).encode("ascii")


_leaf = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=30)
)
_tree = st.recursive(
    _leaf, lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=8), inner, max_size=4))
)
_OPERATIONS = sorted(router.ROUTES)


@given(st.sampled_from(_OPERATIONS), st.dictionaries(st.text(max_size=12), _tree, max_size=5), st.data())
@settings(
    max_examples=1500, deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)
def test_any_parameters_are_typed_or_refused(
    operation: tuple[str, str], params: dict[str, Any], data: st.DataObject
) -> None:
    names = _names(*operation)
    if names:
        params[data.draw(st.sampled_from(names))] = data.draw(_tree)
    answer: StripeError | None = None
    try:
        spec.parameters(*operation)(params, "")
    except StripeError as refused:
        answer = refused
    assert answer is None or (answer.status == 400 and answer.param is not None)


_CONTROL = ["clock", "lag", "rate_limits", "keys", "faults", "log", "requests", "state", ""]
_CONTROL_NAMES = [
    *("now", "advance", "frozen", "real", "seconds", "test", "live", "stripe", "key", "status", "allow", "account"),
    *("method", "path", "count", "skip", "when", "delay", "drop", "half_body", "code", "message", "headers", "body"),
    *("on", "after", "limit", "kind"),
]


def test_any_control_request_is_answered(tmp_path: Path) -> None:
    sandbox = Sandbox(tmp_path / "stripe.db")

    @given(
        st.sampled_from(["GET", "POST", "DELETE"]),
        st.sampled_from(_CONTROL),
        st.dictionaries(st.sampled_from(_CONTROL_NAMES), _tree, max_size=3),
    )
    @settings(max_examples=1000, deadline=None, derandomize=True, database=None)
    def check(method: str, name: str, params: dict[str, Any]) -> None:
        if isinstance(params.get("delay"), (int, float)):
            params["delay"] = 0
        response = sandbox.handle(Request(method, f"/_sandbox/{name}", {}, json.dumps(params).encode()))
        assert response.status in (200, 400, 404)
        sandbox.handle(Request("DELETE", "/_sandbox/faults"))
        assert sandbox.handle(Request("GET", "/v1/products", {"Authorization": "Bearer sk_test_x"})).status in (
            200,
            429,
        )

    check()


def _names(method: str, template: str) -> list[str]:
    schema = _schema(method, template)
    return sorted(schema["properties"])


def _schema(method: str, template: str) -> dict[str, Any]:
    operation = spec.document()["paths"].get(template, {}).get(method.lower())
    if operation is None:
        return {"properties": {}}
    properties = {p["name"]: p["schema"] for p in operation.get("parameters", ()) if p["in"] == "query"}
    for content in operation.get("requestBody", {}).get("content", {}).values():
        properties.update(content["schema"].get("properties", {}))
    return {"type": "object", "properties": properties}


class Monkey:
    """Makes requests that are mostly plausible, out of Stripe's description and what it was answered before."""

    def __init__(self, seed: int, ids: list[str]) -> None:
        self.dice = random.Random(seed)
        self.ids = ids

    def request(self) -> Request:
        dice = self.dice
        method, template = dice.choice(_OPERATIONS)
        path = template
        while "{" in path:
            head, _, rest = path.partition("{")
            path = head + quote(self.word() if dice.random() < 0.2 else self.id(), safe="") + rest.partition("}")[2]
        if dice.random() < 0.02:
            path += dice.choice(["/", "/x", "?", "%00", "//", "?a[b=1"])
        headers = {"Authorization": f"Bearer {dice.choice(['sk_test_x'] * 20 + ['sk_live_x', 'nope', 'rk_test_y'])}"}
        if dice.random() < 0.3:
            headers["Idempotency-Key"] = str(dice.randrange(50))
        if dice.random() < 0.03:
            pick = dice.randbytes(dice.randrange(40))
            return Request(dice.choice(["GET", "POST", "DELETE", "PUT", "HEAD"]), path, headers, pick)
        if template.startswith("/v2/"):
            headers["Content-Type"] = "application/json"
            body = json.dumps(self.v2()).encode()
            return Request(method, path, headers, b"" if method == "GET" else body)
        pairs = "&".join(self.pairs(_schema(method, template), ""))
        if method == "GET":
            return Request(method, f"{path}?{pairs}", headers)
        headers["Content-Type"] = "application/x-www-form-urlencoded"
        return Request(method, path, headers, pairs.encode())

    def id(self) -> str:
        return self.dice.choice(self.ids) if self.ids else "nope"

    def word(self) -> str:
        return self.dice.choice(["", "x", "inf", "0", "-1", "1", "é\x00", "[]", "a" * 600, "usd", "tokens", "' OR 1"])

    def v2(self) -> dict[str, Any]:
        event: dict[str, Any] = {
            "event_name": self.dice.choice(["tokens", "nope", 7, None]),
            "payload": {"stripe_customer_id": self.id(), "value": self.dice.choice(["1", "x", 3, None, []])},
        }
        if self.dice.random() < 0.5:
            event["timestamp"] = self.dice.choice(["2026-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "x", 1, [], None])
        return self.dice.choice([event, {"events": [event] * self.dice.randrange(4)}, {}, {"cancel": event}])

    def pairs(self, schema: dict[str, Any], prefix: str) -> list[str]:
        """A random form for a schema: each part left out, plausible or odd."""
        found: list[str] = []
        for name, part in schema.get("properties", {}).items():
            keep = 0.5 if not prefix and name in _LIKELY else 0.12 if not prefix else 0.6
            if self.dice.random() < keep:
                found.extend(self.value(part, f"{prefix}[{name}]" if prefix else name))
        if self.dice.random() < 0.03:
            found.append(f"{prefix}[nope]=1" if prefix else "nope=1")
        return found

    def value(self, schema: dict[str, Any], name: str) -> list[str]:
        dice = self.dice
        if dice.random() < 0.05:
            return [f"{quote(name)}={quote(self.word())}"]
        if "anyOf" in schema:
            return self.value(dice.choice(schema["anyOf"]), name)
        kind = schema.get("type")
        if kind == "object":
            more = schema.get("additionalProperties")
            if isinstance(more, dict):
                return self.value(more, f"{name}[{dice.choice(['eur', 'a', 'stripe_customer_id', 'value'])}]")
            return self.pairs(schema, name)
        if kind == "array":
            found = []
            for index in range(dice.randrange(3)):
                found.extend(self.value(schema["items"], f"{name}[{index}]"))
            return found
        if "enum" in schema:
            value = dice.choice(schema["enum"])
        elif kind == "integer":
            value = dice.choice([0, 1, 2, -1, 10, 1000, 10**17, NEW_YEAR, NEW_YEAR + 86400, NEW_YEAR - 60])
        elif kind == "boolean":
            value = dice.choice(["true", "false"])
        elif kind == "number":
            value = dice.choice(["0", "12.5", "100", "-3"])
        elif schema.get("format") == "decimal":
            value = dice.choice(["0.04", "1", "-1", "0.0000000000001", "1e5"])
        elif schema.get("format") == "currency":
            value = dice.choice(["usd", "usd", "eur", "zzz"])
        elif name in ("expand[0]", "expand[1]"):
            value = dice.choice(["data", "product", "data.product", "items", "latest_invoice.lines", "a.b.c.d.e.f"])
        else:
            value = dice.choice([self.id(), self.id(), self.word(), "tokens"])
        return [f"{quote(name)}={quote(str(value))}"]


#: What most requests need to get past the first check.
_LIKELY = {
    *("name", "currency", "product", "unit_amount", "display_name", "event_name", "default_aggregation", "customer"),
    *("items", "price", "subscription", "percent_off", "duration", "phases", "frozen_time", "query"),
    *("start_time", "end_time"),
}


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_random_requests_never_break_the_sandbox(tmp_path: Path, seed: int, clock: Clock) -> None:
    sandbox = Sandbox(tmp_path / "stripe.db", clock=clock)
    monkey = Monkey(seed, [])
    _furnish(sandbox, monkey.ids.append)
    answered: dict[int, int] = {}
    for number in range(REQUESTS):
        request = monkey.request()
        response = sandbox.handle(request)
        answered[response.status] = answered.get(response.status, 0) + 1
        assert response.status != 500, f"seed {seed}, request {number}: {request}"
        body = json.loads(response.body)
        if response.status == 200 and isinstance(body.get("id"), str) and request.method == "POST":
            monkey.ids.append(body["id"])
            del monkey.ids[:-60]
        clock.advance(monkey.dice.choice([0, 0, 1, 60]))
    # The dice are such that a good part gets through; a fuzz that is always refused tests nothing.
    assert answered[200] > REQUESTS / 20, answered
    with sandbox.database.reading() as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
    sandbox.close()
    Sandbox(tmp_path / "stripe.db").close()


def _furnish(sandbox: Sandbox, keep: Callable[[str], None]) -> None:
    """Something to refer to."""

    def post(path: str, body: str) -> str:
        headers = {"Authorization": "Bearer sk_test_x", "Content-Type": "application/x-www-form-urlencoded"}
        answer = json.loads(sandbox.handle(Request("POST", path, headers, body.encode())).body)
        keep(answer["id"])
        return str(answer["id"])

    product = post("/v1/products", "name=A")
    meter = post("/v1/billing/meters", "display_name=T&event_name=tokens&default_aggregation[formula]=sum")
    post("/v1/customers", "name=Ada&invoice_settings[default_payment_method]=pm_card_visa")
    post("/v1/prices", f"currency=usd&product={product}&unit_amount=100&recurring[interval]=month")
    post(
        "/v1/prices",
        f"currency=usd&product={product}&unit_amount_decimal=0.04&recurring[interval]=month"
        f"&recurring[usage_type]=metered&recurring[meter]={meter}",
    )
