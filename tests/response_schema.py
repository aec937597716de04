"""Every answer of the sandbox against Stripe's own response schemas, with a hand-made few for /v2 and the account.

`check(request, response)` raises AssertionError where an answer is not what Stripe describes: a wrong type, a missing
field, and also a field that Stripe's object does not have (the schemas themselves allow those).
"""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import jsonschema_rs

from sandbox import Request, Response, router, spec

#: Fields that Stripe's test mode sends (recorded bodies, or stripe-python's types) and the description leaves out.
BEYOND: dict[str, frozenset[str]] = {
    "product": frozenset({"attributes", "type", "tax_details"}),
    "price": frozenset(),
    "recurring": frozenset({"trial_period_days"}),
    "customer": frozenset(),
    "payment_method": frozenset(),
    "invoiceitem": frozenset({"invoicing_rules"}),
    "subscription": frozenset({"plan", "quantity"}),
    "subscription_item": frozenset({"current_trial", "plan"}),
}

_TIME = {"type": "string", "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$"}
_BOOL = {"type": "boolean"}
_STRING = {"type": "string"}


def _closed(properties: dict[str, Any], optional: tuple[str, ...] = ()) -> dict[str, Any]:
    required = [name for name in properties if name not in optional]
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


_INTEGER = {"type": "integer"}


def _or_null(schema: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": [schema, {"type": "null"}]}


#: From stripe-python's response types: what the description lacks.
_TEXTS = _or_null(_STRING)
_BILLIE = _closed(
    {
        "company_details": _or_null(
            _closed(
                {
                    "registered_address": _or_null(
                        _closed(dict.fromkeys(("city", "country", "line1", "line2", "postal_code", "state"), _TEXTS))
                    ),
                    "registered_name": _TEXTS,
                    "registration_number": _TEXTS,
                    "registration_type": _TEXTS,
                    "vat": _TEXTS,
                },
                optional=("registered_address",),
            )
        )
    },
    optional=("company_details",),
)
_BLIK = _closed({"mandate_options": _closed({"expires_at": _or_null(_INTEGER)})}, optional=("mandate_options",))

_THIN_EVENT = _closed(
    {
        "id": _STRING,
        "object": {"const": "v2.core.event"},
        "changes": {"type": "null"},
        "context": {"type": "null"},
        "created": _TIME,
        "data": {"type": "object"},
        "livemode": _BOOL,
        "reason": {"type": "null"},
        "related_object": _closed({"id": _STRING, "type": _STRING, "url": _STRING}),
        "snapshot_event": {"type": "null"},
        "type": _STRING,
    },
    optional=("related_object",),
)
_URL = {"anyOf": [_STRING, {"type": "null"}]}


#: From stripe-python's response types; the v1 description has none of them.
OWN: dict[tuple[str, str], dict[str, Any]] = {
    ("POST", "/v2/billing/meter_event_session"): _closed(
        {
            "object": {"const": "v2.billing.meter_event_session"},
            "authentication_token": _STRING,
            "created": _TIME,
            "expires_at": _TIME,
            "id": _STRING,
            "livemode": _BOOL,
        }
    ),
    ("POST", "/v2/billing/meter_event_stream"): _closed({}),
    ("GET", "/v2/core/events"): _closed(
        {"data": {"type": "array", "items": _THIN_EVENT}, "next_page_url": _URL, "previous_page_url": _URL}
    ),
    ("GET", "/v2/core/events/{id}"): _THIN_EVENT,
    ("GET", "/v1/account"): {
        "type": "object",
        "properties": {"id": {"type": "string", "pattern": "^acct_"}, "object": {"const": "account"}},
        "required": ["id", "object"],
    },
}

_ID = {"type": "string", "maxLength": 5000}
_NULLABLE_ID = {"anyOf": [_ID, {"type": "null"}]}
_PRICE = {"anyOf": [_ID, {"$ref": "#/components/schemas/price"}]}

#: From stripe-python's response types: an item's trial, which the description lacks.
_CURRENT_TRIAL = _closed(
    {"end_date": _INTEGER, "start_date": _INTEGER, "trial_offer": {"type": "string", "pattern": "^to_"}}
)

#: What the description does not have, and accounts, of which the sandbox shows a part: from stripe-python's types.
LOST: dict[str, dict[str, Any]] = {
    "account": _closed(
        {
            "id": {"type": "string", "pattern": "^acct_"},
            "object": {"const": "account"},
            "business_profile": {"type": "object"},
            "charges_enabled": _BOOL,
            "country": _STRING,
            "created": {"type": "integer"},
            "default_currency": _STRING,
            "details_submitted": _BOOL,
            "email": _NULLABLE_ID,
            "payouts_enabled": _BOOL,
            "type": {"enum": ["custom", "express", "none", "standard"]},
        },
        optional=("created",),
    ),
    "product_catalog.trial_offer": _closed(
        {
            "id": {"type": "string", "pattern": "^to_"},
            "object": {"const": "product_catalog.trial_offer"},
            "active": _BOOL,
            "duration": _closed(
                {"relative": _closed({"iterations": {"type": "integer"}}), "type": {"const": "relative"}}
            ),
            "end_behavior": _closed({"transition": _closed({"price": _PRICE}), "type": {"const": "transition"}}),
            "livemode": _BOOL,
            "nickname": _NULLABLE_ID,
            "price": _PRICE,
        }
    ),
}


def _list_of(name: str) -> dict[str, Any]:
    items = {"$ref": f"#/components/schemas/{name}"}
    data = {"type": "array", "items": items}
    return _closed({"object": {"const": "list"}, "data": data, "has_more": _BOOL, "url": _STRING})


_OFFERS = "/v1/product_catalog/trial_offers"
#: Answers of operations that are not in the description, as it was cut.
LOST_ANSWERS: dict[tuple[str, str], dict[str, Any]] = {
    ("POST", _OFFERS): LOST["product_catalog.trial_offer"],
    ("GET", _OFFERS): _list_of("product_catalog.trial_offer"),
    ("GET", _OFFERS + "/{id}"): LOST["product_catalog.trial_offer"],
    ("POST", _OFFERS + "/{id}"): LOST["product_catalog.trial_offer"],
    ("POST", "/v1/customers/{customer}/sources"): {"$ref": "#/components/schemas/card"},
}

#: What an id of these fields can become, which is not in the description, as it was cut.
_EXPANDED = {"account": "account", "destination": "account", "on_behalf_of": "account"}

_V2_ERROR = {
    "type": "object",
    "properties": {
        "error": {
            "type": "object",
            "properties": {"code": _STRING, "message": _STRING},
            "required": ["code", "message"],
        }
    },
    "required": ["error"],
}


def check(request: Request, response: Response) -> None:
    """Raise AssertionError where the answer is not what Stripe describes for this request."""
    path = request.url.partition("?")[0]
    if path.startswith("/_sandbox/") or response.headers.get("content-type") != "application/json":
        return
    body = json.loads(response.body)
    if response.status >= 400:
        if path.startswith("/v2/"):
            problem = _problem(_v2_error(), body)
        else:
            problem = _problem(_error(), body)
            error = body.get("error", {})
            assert ("doc_url" in error) == ("code" in error), f"doc_url must go with code: {error}"
    else:
        found = router.match(request.method, path)
        assert found is not None, f"{request.method} {path} answered {response.status} without a route"
        key = (found[0].method, found[0].template)
        if body.get("deleted") is True:
            # Retrieving a deleted customer: the description, as it was cut down, lost this alternative.
            problem = _problem(_component(f"deleted_{body['object']}"), body)
        else:
            problem = _problem(_operation(*key), body)
        _check_names(body, f"{request.method} {path}")
    assert problem is None, f"{request.method} {request.url} -> {response.status}: {problem}\n{body}"


def check_object(name: str, value: Any) -> None:
    """The same for one object, by the name of its schema."""
    problem = _problem(_component(name), value)
    assert problem is None, f"{name}: {problem}\n{value}"


def _problem(validator: Any, value: Any) -> str | None:
    for error in validator.iter_errors(value):
        return f"{'/'.join(str(part) for part in error.instance_path)}: {error.message}"
    return None


def _check_names(value: Any, where: str) -> None:
    """Objects have only the fields of their schema, at any depth."""
    if isinstance(value, list):
        for item in value:
            _check_names(item, where)
    elif isinstance(value, dict):
        name = value.get("object")
        schemas = spec.document()["components"]["schemas"]
        if isinstance(name, str) and name in schemas and not value.get("deleted"):
            strange = set(value) - set(schemas[name]["properties"]) - BEYOND.get(name, frozenset())
            assert not strange, f"{where}: Stripe's {name} has no {', '.join(sorted(strange))}"
            if name == "event" and value["data"]["object"].get("object") in schemas:
                check_object(value["data"]["object"]["object"], value["data"]["object"])
        # Recorded: items have a plan, of which their own schema says nothing.
        if isinstance(name, str) and name in ("plan", *LOST) and not value.get("deleted"):
            check_object(name, value)
        for item in value.values():
            _check_names(item, where)


@cache
def _components() -> dict[str, Any]:
    converted = _convert(spec.document()["components"])
    assert isinstance(converted, dict)
    options = converted["schemas"]["subscriptions_resource_payment_method_options"]["properties"]
    options["billie"], options["blik"] = _or_null(_BILLIE), _or_null(_BLIK)
    types = converted["schemas"]["subscriptions_resource_payment_settings"]["properties"]["payment_method_types"]
    types["anyOf"][0]["items"]["enum"] += ["blik", "sequra"]
    item = converted["schemas"]["subscription_item"]
    item["properties"]["current_trial"] = _or_null(_CURRENT_TRIAL)
    item["required"].append("current_trial")
    converted["schemas"].update(LOST)
    for schema in list(converted["schemas"].values()):
        properties = schema.get("properties", {})
        for field in _EXPANDED.keys() & properties.keys():
            properties[field] = {"anyOf": [properties[field], {"$ref": f"#/components/schemas/{_EXPANDED[field]}"}]}
    return converted


def _convert(schema: Any) -> Any:
    """OpenAPI's `nullable` in terms of JSON Schema."""
    if isinstance(schema, list):
        return [_convert(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    inner = {key: _convert(value) for key, value in schema.items() if key not in ("nullable", "x-expandableFields")}
    return {"anyOf": [inner, {"type": "null"}]} if schema.get("nullable") is True else inner


def _validator(schema: dict[str, Any]) -> Any:
    return jsonschema_rs.validator_for({**_convert(schema), "components": _components()})


@cache
def _operation(method: str, template: str) -> Any:
    if (method, template) in OWN:
        return jsonschema_rs.validator_for(OWN[method, template])
    if (method, template) in LOST_ANSWERS:
        return _validator(LOST_ANSWERS[method, template])
    operation = spec.document()["paths"][template][method.lower()]
    return _validator(operation["responses"]["200"]["content"]["application/json"]["schema"])


@cache
def _component(name: str) -> Any:
    return _validator({"$ref": f"#/components/schemas/{name}"})


@cache
def _error() -> Any:
    return _component("error")


@cache
def _v2_error() -> Any:
    return jsonschema_rs.validator_for(_V2_ERROR)
