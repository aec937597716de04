"""Random requests, sensible and senseless: never a 500, never a hang, and the file stays whole."""

from __future__ import annotations

import json
import random
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
    max_examples=400, deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
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
    @settings(max_examples=400, deadline=None, derandomize=True, database=None)
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
    return sorted(spec.operation(method, template)["properties"])


#: Whose id a parameter or the last part of a path wants.
_WANTED = {
    "customer": "customer",
    "price": "price",
    "product": "product",
    "products": "product",
    "prices": "price",
    "customers": "customer",
    "default_price": "price",
    "meter": "billing.meter",
    "meters": "billing.meter",
    "subscription": "subscription",
    "subscriptions": "subscription",
    "from_subscription": "subscription",
    "subscription_item": "subscription_item",
    "subscription_items": "subscription_item",
    "subscription_schedules": "subscription_schedule",
    "schedule": "subscription_schedule",
    "invoice": "invoice",
    "invoices": "invoice",
    "invoiceitems": "invoiceitem",
    "coupon": "coupon",
    "coupons": "coupon",
    "discount": "discount",
    "promotion_code": "promotion_code",
    "promotion_codes": "promotion_code",
    "test_clock": "test_helpers.test_clock",
    "test_clocks": "test_helpers.test_clock",
    "events": "event",
}


class Monkey:
    """Makes requests that are mostly plausible, out of Stripe's description and what it was answered before."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.ids: dict[str, list[str]] = {}
        self.token = "none"

    def learn(self, answer: Any) -> None:
        """Remember the ids in an answer, those of its parts too, the newest few of each kind."""
        if isinstance(answer, dict):
            kind, id = answer.get("object"), answer.get("id")
            if isinstance(kind, str) and isinstance(id, str):
                known = self.ids.setdefault(kind, [])
                if id not in known:
                    known.append(id)
                    del known[:-8]
            self.token = answer.get("authentication_token", self.token)
            for part in answer.values():
                self.learn(part)
        elif isinstance(answer, list):
            for part in answer:
                self.learn(part)

    def id(self, wanted: str) -> str:
        """An id that fits a name, most of the time."""
        kind = _WANTED.get(wanted)
        fitting = self.ids.get(kind or "", [])
        if fitting and self.dice.random() < 0.95:
            return self.dice.choice(fitting)
        every = [id for ids in self.ids.values() for id in ids]
        return self.dice.choice(every) if every and self.dice.random() < 0.7 else self.word()

    def word(self) -> str:
        return self.dice.choice(["", "x", "inf", "0", "-1", "1", "é\x00", "[]", "a" * 600, "usd", "tokens", "' OR 1"])

    def request(self) -> Request:
        """The next request."""
        dice = self.dice
        method, template = dice.choice(_CHANGES if dice.random() < 0.7 else _OPERATIONS)
        path, last = "", ""
        for segment in template.split("/")[1:]:
            path += "/" + (quote(self.id(last), safe="") if segment.startswith("{") else segment)
            last = segment
        if dice.random() < 0.02:
            path += dice.choice(["/", "/x", "?", "%00", "//", "?a[b=1"])
        key = self.token if "stream" in path else dice.choice(["sk_test_x"] * 60 + ["sk_live_x", "nope", "rk_test_y"])
        headers = {"Authorization": f"Bearer {key}"}
        if dice.random() < 0.03:
            headers["Idempotency-Key"] = str(dice.randrange(50))
        if dice.random() < 0.03:
            junk = dice.randbytes(dice.randrange(40))
            return Request(dice.choice(["GET", "POST", "DELETE", "PUT", "HEAD"]), path, headers, junk)
        if template.startswith("/v2/"):
            headers["Content-Type"] = "application/json"
            return Request(method, path, headers, b"" if method == "GET" else json.dumps(self.v2(template)).encode())
        pairs = "&".join(self.pairs(spec.operation(method, template), ""))
        if method == "GET":
            return Request(method, f"{path}?{pairs}", headers)
        headers["Content-Type"] = "application/x-www-form-urlencoded"
        return Request(method, path, headers, pairs.encode())

    def v2(self, template: str) -> dict[str, Any]:
        """A JSON body for one of the /v2 operations."""
        dice = self.dice
        event: dict[str, Any] = {
            "event_name": dice.choice(["tokens"] * 9 + ["nope", 7, None]),
            "payload": {
                "stripe_customer_id": self.id("customer"),
                "value": dice.choice(["1"] * 9 + ["x", 3, None, []]),
            },
        }
        if dice.random() < 0.2:
            event["timestamp"] = dice.choice(["2026-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "x", 1, [], None])
        if "stream" in template:
            return {"events": [event] * dice.randrange(4)}
        return dice.choice([event] * 9 + [{}, {"cancel": event, "type": "cancel"}])

    def pairs(self, schema: dict[str, Any], prefix: str) -> list[str]:
        """A random form for a schema: what is required nearly always, the rest now and then."""
        found: list[str] = []
        required = schema.get("required", ())
        for name, part in schema.get("properties", {}).items():
            keep = 0.98 if name in required else 0.5 if name in _LIKELY else 0.06 if not prefix else 0.2
            if self.dice.random() < keep:
                found.extend(self.value(part, name, f"{prefix}[{name}]" if prefix else name))
        if self.dice.random() < 0.01:
            found.append(f"{prefix}[nope]=1" if prefix else "nope=1")
        return found

    def value(self, schema: dict[str, Any], name: str, param: str) -> list[str]:
        """Name and value, or several, for one parameter."""
        dice = self.dice
        if dice.random() < 0.01:
            return [f"{quote(param)}={quote(self.word())}"]
        if "anyOf" in schema:
            return self.value(dice.choice(schema["anyOf"]), name, param)
        kind = schema.get("type")
        if kind == "object":
            more = schema.get("additionalProperties")
            if isinstance(more, dict) and name == "payload":
                customer = f"{param}[stripe_customer_id]={quote(self.id('customer'))}"
                return [customer, f"{param}[value]={dice.choice(['1', '20', 'x'])}"]
            if isinstance(more, dict):
                key = dice.choice(["eur", "gbp"]) if name == "currency_options" else dice.choice(["a", "b"])
                return self.value(more, key, f"{param}[{key}]")
            return self.pairs(schema, param)
        if kind == "array":
            found = []
            for index in range(dice.choice([1, 1, 2, 3]) if name != "expand" else dice.choice([0, 0, 0, 1])):
                found.extend(self.value(schema["items"], name, f"{param}[{index}]"))
            return found
        return [f"{quote(param)}={quote(str(self.leaf(schema, name)))}"]

    def leaf(self, schema: dict[str, Any], name: str) -> Any:
        """A single value."""
        dice = self.dice
        if "enum" in schema:
            return dice.choice(schema["enum"])
        if schema.get("format") == "unix-time":
            # Around the time of the clock, on a day's boundary or not.
            return NEW_YEAR + dice.choice([-86400, -60, 0, 60, 3600, 86400, 20 * 86400, 40 * 86400, 400 * 86400, 7])
        kind = schema.get("type")
        if kind == "integer":
            return dice.choice([0, 1, 1, 2, 3, 5, -1, 10, 1000, 10**17])
        if kind == "boolean":
            return dice.choice(["true", "false"])
        if kind == "number":
            return dice.choice(["0", "12.5", "100", "-3"])
        if schema.get("format") == "decimal":
            return dice.choice(["0.04", "1", "4", "-1", "0.0000000000001", "1e5"])
        if schema.get("format") == "currency":
            return dice.choice(["usd"] * 8 + ["eur", "zzz"])
        if name == "expand":
            return dice.choice(["data", "product", "data.product", "items", "latest_invoice.lines", "a.b.c.d.e.f"])
        if name == "query":
            return dice.choice(['active:"true"', "created>1", 'metadata["a"]:"b"', 'name~"abc" OR email:"x"', "nope"])
        if name == "event_name":
            return dice.choice(["tokens", "tokens", "calls", f"event{dice.randrange(100)}"])
        if name == "identifier":
            return str(dice.randrange(300))
        return self.id(name) if name in _WANTED else self.word() if dice.random() < 0.2 else f"word{dice.randrange(99)}"


_CHANGES = [operation for operation in _OPERATIONS if operation[0] == "POST"]

#: What makes a request likelier to get past the first check, though not required.
_LIKELY = {"product", "unit_amount", "customer", "items", "price", "subscription", "percent_off", "phases"}


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_random_requests_never_break_the_sandbox(tmp_path: Path, seed: int, clock: Clock) -> None:
    sandbox = Sandbox(tmp_path / "stripe.db", clock=clock)
    monkey = Monkey(seed)
    _furnish(sandbox, monkey)
    answered: dict[int, int] = {}
    for number in range(REQUESTS):
        request = monkey.request()
        response = sandbox.handle(request)
        answered[response.status] = answered.get(response.status, 0) + 1
        assert response.status != 500, f"seed {seed}, request {number}: {request}"
        if response.status == 200:
            monkey.learn(json.loads(response.body))
        clock.advance(monkey.dice.choice([0, 0, 1, 60, 3600]))
    # The dice are such that a good part gets through; a fuzz that is always refused tests nothing.
    assert answered[200] > REQUESTS / 5, answered
    with sandbox.database.reading() as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
    sandbox.close()
    Sandbox(tmp_path / "stripe.db").close()


def _furnish(sandbox: Sandbox, monkey: Monkey) -> None:
    """Something to refer to."""

    def post(path: str, body: str) -> str:
        headers = {"Authorization": "Bearer sk_test_x", "Content-Type": "application/x-www-form-urlencoded"}
        answer = json.loads(sandbox.handle(Request("POST", path, headers, body.encode())).body)
        monkey.learn(answer)
        return str(answer["id"])

    product = post("/v1/products", "name=A")
    meter = post("/v1/billing/meters", "display_name=T&event_name=tokens&default_aggregation[formula]=sum")
    customer = post("/v1/customers", "name=Ada&invoice_settings[default_payment_method]=pm_card_visa")
    license = post("/v1/prices", f"currency=usd&product={product}&unit_amount=100&recurring[interval]=month")
    usage = post(
        "/v1/prices",
        f"currency=usd&product={product}&unit_amount_decimal=0.04&recurring[interval]=month"
        f"&recurring[usage_type]=metered&recurring[meter]={meter}",
    )
    post("/v1/subscriptions", f"customer={customer}&items[0][price]={license}&items[1][price]={usage}")
    post("/v1/coupons", "percent_off=50&duration=forever")
