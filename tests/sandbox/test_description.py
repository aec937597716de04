"""The tool that cuts Stripe's description, and that what it cut is what the sandbox reads."""

from __future__ import annotations

import gzip
import json
import runpy
from pathlib import Path
from typing import Any

import stripe

from sandbox import kinds, router, spec

assert kinds  # imported for its routes

ROOT = Path(__file__).parents[2]
DATA = ROOT / "sandbox" / "data"
TOOL = runpy.run_path(str(ROOT / "script" / "cut_description.py"))

_ID = {"maxLength": 5000, "type": "string", "description": "An id."}


def _resource(name: str, **properties: Any) -> dict[str, Any]:
    return {"title": name, "type": "object", "x-resourceId": name, "properties": {"id": _ID, **properties}}


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def _answers(schema: dict[str, Any]) -> dict[str, Any]:
    return {"200": {"content": {"application/json": {"schema": schema}}}, "default": {"description": "A refusal."}}


#: Written as Stripe writes it: prose, kinds that are kept and others, an operation that is kept and one that is not.
SMALL: dict[str, Any] = {
    "openapi": "3.0.0",
    "info": {"version": "2026-01-01.test", "contact": {"name": "Stripe"}},
    "paths": {
        "/v1/prices/{price}": {
            "get": {
                "description": "<p>Retrieves a price.</p>",
                "parameters": [
                    {"in": "path", "name": "price", "required": True, "schema": _ID, "style": "simple"},
                ],
                "requestBody": {
                    "content": {"application/x-www-form-urlencoded": {"encoding": {}, "schema": {"properties": {}}}},
                    "required": False,
                },
                "responses": _answers(_ref("price")),
            }
        },
        "/v1/products/{id}": {"get": {"responses": _answers(_ref("product"))}},
        "/v1/charges/{charge}": {"get": {"responses": _answers(_ref("charge"))}},
    },
    "components": {
        "schemas": {
            "price": _resource(
                "price",
                charge={"anyOf": [_ID, _ref("charge")], "nullable": True},
                product={"anyOf": [_ID, _ref("product")]},
                recurring={"anyOf": [_ref("recurring")], "nullable": True, "description": "How often."},
            ),
            "product": _resource("product"),
            "charge": _resource("charge", refund=_ref("refund")),
            "refund": _resource("refund"),
            "recurring": {"type": "object", "properties": {"interval": {"enum": ["day", "month"], "type": "string"}}},
            "error": {"type": "object", "properties": {"message": {"type": "string"}}, "description": "What failed."},
        }
    },
}


def _cut(folder: Path, description: dict[str, Any]) -> bytes:
    source = folder / "spec3.json"
    source.write_text(json.dumps(description))
    assert TOOL["main"]([str(source), "--into", str(folder)]) == 0
    return (folder / "stripe-openapi.json.gz").read_bytes()


def test_kept_are_the_operations_of_billing_and_the_structure_that_they_reach(tmp_path: Path) -> None:
    cut = json.loads(gzip.decompress(_cut(tmp_path, SMALL)))
    assert cut["info"]["version"] == "2026-01-01.test"
    assert sorted(cut["paths"]) == ["/v1/prices/{price}", "/v1/products/{id}"]
    assert sorted(cut["components"]["schemas"]) == ["error", "price", "product", "recurring"]
    assert "description" not in json.dumps(cut)
    shown = cut["components"]["schemas"]["price"]["properties"]
    plain = {"maxLength": 5000, "type": "string"}
    # Of a kind that is not kept there are ids alone.
    assert shown["charge"] == {"anyOf": [plain, {"type": "string"}], "nullable": True}
    assert shown["product"] == {"anyOf": [plain, _ref("product")]}
    assert shown["recurring"] == {**_ref("recurring"), "nullable": True}


def test_the_same_description_gives_the_same_bytes_and_is_cut_no_further(tmp_path: Path) -> None:
    once = _cut(tmp_path, SMALL)
    assert _cut(tmp_path, SMALL) == once
    assert _cut(tmp_path, json.loads(gzip.decompress(once))) == once


def test_the_committed_data_is_what_the_tool_cuts(tmp_path: Path, capsys: Any) -> None:
    committed = gzip.decompress((DATA / "stripe-openapi.json.gz").read_bytes())
    assert gzip.decompress(_cut(tmp_path, json.loads(committed))) == committed
    endpoints = gzip.decompress((DATA / "stripe-paths.txt.gz").read_bytes()).decode()
    assert TOOL["endpoints"](Path(str(stripe.__file__)).parent) == endpoints
    # Nothing is said twice: what the description has is not written by hand.
    assert "take it out of beside.json" not in capsys.readouterr().out


def test_the_committed_data_is_what_the_sandbox_reads() -> None:
    assert spec.document()["info"]["version"] == spec.API_VERSION
    assert set(spec.document()["paths"]) <= set(TOOL["KEPT"])
    routes = {f"{method} {path}" for method, path in router.ROUTES}
    for operation in routes:
        spec.parameters(*operation.split(" ", 1))
    beside = spec.beside()
    assert set(beside["operations"]) <= routes
    assert {*beside["parameters"], *beside["values"]} <= routes
