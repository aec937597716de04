"""Cut Stripe's OpenAPI description down to what the sandbox reads, and write it to `sandbox/data/`.

    .venv/bin/python script/cut_description.py path/to/spec3.json

`spec3.json` is `openapi/spec3.json` of https://github.com/stripe/openapi (MIT, copyright Stripe), at the version that
`sandbox/spec.py` names; the Go module github.com/stripe/stripe-mock has it too (`embedded/openapi`).

Two files are written:

- `stripe-openapi.json.gz`: the operations of usage-based billing with their parameters, and the schemas that their
  answers reach. Structure only: no prose, no examples, and an id where an object of another kind would be.
- `stripe-paths.txt.gz`: path and methods of every endpoint that the installed stripe-python can call, names only.

The same input gives the same bytes, and so does an extract that is cut again. What stripe-python has and the
description lacks is in `beside.json`, which is written by hand; the tool reports what the description has now.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import zlib
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

DATA = Path(__file__).resolve().parents[1] / "sandbox" / "data"
#: The paths to keep, as Stripe's description spells them.
KEPT = [
    "/v1/billing/credit_grants",
    "/v1/billing/credit_grants/{id}",
    "/v1/billing/credit_grants/{id}/expire",
    "/v1/billing/credit_grants/{id}/void",
    "/v1/billing/meter_event_adjustments",
    "/v1/billing/meter_events",
    "/v1/billing/meters",
    "/v1/billing/meters/{id}",
    "/v1/billing/meters/{id}/deactivate",
    "/v1/billing/meters/{id}/event_summaries",
    "/v1/billing/meters/{id}/reactivate",
    "/v1/coupons",
    "/v1/coupons/{coupon}",
    "/v1/customers",
    "/v1/customers/search",
    "/v1/customers/{customer}",
    "/v1/entitlements/features",
    "/v1/entitlements/features/{id}",
    "/v1/events",
    "/v1/events/{id}",
    "/v1/invoiceitems",
    "/v1/invoiceitems/{invoiceitem}",
    "/v1/invoices",
    "/v1/invoices/create_preview",
    "/v1/invoices/{invoice}",
    "/v1/invoices/{invoice}/finalize",
    "/v1/invoices/{invoice}/lines",
    "/v1/invoices/{invoice}/pay",
    "/v1/invoices/{invoice}/void",
    "/v1/prices",
    "/v1/prices/search",
    "/v1/prices/{price}",
    "/v1/products",
    "/v1/products/search",
    "/v1/products/{id}",
    "/v1/products/{product}/features",
    "/v1/products/{product}/features/{id}",
    "/v1/promotion_codes",
    "/v1/promotion_codes/{promotion_code}",
    "/v1/subscription_items",
    "/v1/subscription_items/{item}",
    "/v1/subscription_schedules",
    "/v1/subscription_schedules/{schedule}",
    "/v1/subscription_schedules/{schedule}/cancel",
    "/v1/subscription_schedules/{schedule}/release",
    "/v1/subscriptions",
    "/v1/subscriptions/search",
    "/v1/subscriptions/{subscription_exposed_id}",
    "/v1/subscriptions/{subscription}/migrate",
    "/v1/tax_rates",
    "/v1/tax_rates/{tax_rate}",
    "/v1/test_helpers/test_clocks",
    "/v1/test_helpers/test_clocks/{test_clock}",
    "/v1/test_helpers/test_clocks/{test_clock}/advance",
]
#: Kinds that are kept beside those that the operations answer: what an id in an answer becomes when it is expanded.
KINDS = ["card", "cash_balance", "discount", "plan", "tax_id"]
METHODS = ("get", "post", "delete")
#: The parts of a schema that describe structure.
STRUCTURE = {
    *("additionalProperties", "anyOf", "enum", "format", "items", "maxLength", "nullable", "pattern", "properties"),
    *("required", "type", "x-expandableFields"),
}
_PREFIX = "#/components/schemas/"


class Cutter:
    """One description, and what is kept of it."""

    def __init__(self, description: Mapping[str, Any]) -> None:
        self._schemas: Mapping[str, Any] = description["components"]["schemas"]
        self._paths: Mapping[str, Any] = description["paths"]
        self._info: Mapping[str, Any] = description["info"]
        self._openapi: str = description["openapi"]
        answered = (name for _, _, operation in self._operations() for name in references(_answer(operation)))
        self._kept = {*KINDS, *answered}

    def cut(self) -> dict[str, Any]:
        """The description with the kept operations and what they reach."""
        paths: dict[str, Any] = {}
        for path, method, operation in self._operations():
            paths.setdefault(path, {})[method] = self._operation(operation)
        schemas: dict[str, Any] = {}
        # An error has the same shape everywhere, so no operation names it.
        waiting = {"error", *KINDS, *references(paths)} & set(self._schemas)
        while waiting:
            name = waiting.pop()
            schemas[name] = self._schema(self._schemas[name])
            waiting |= set(references(schemas[name])) - set(schemas)
        return {
            "components": {"schemas": schemas},
            "info": {
                "license": {"name": "MIT"},
                "title": "Stripe API, endpoints of usage-based billing, structure only",
                "version": self._info["version"],
                "x-source": "stripe/openapi spec3.json",
            },
            "openapi": self._openapi,
            "paths": paths,
        }

    def _operations(self) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
        for path in KEPT:
            for method in METHODS:
                if method in self._paths.get(path, {}):
                    yield path, method, self._paths[path][method]

    def _operation(self, operation: Mapping[str, Any]) -> dict[str, Any]:
        parameters = [
            {
                "in": each["in"],
                "name": each["name"],
                "required": each["required"],
                "schema": self._schema(each["schema"]),
            }
            for each in operation.get("parameters", ())
        ]
        body = operation.get("requestBody")
        cut: dict[str, Any] = {"parameters": parameters} if "parameters" in operation else {}
        if body is not None:
            content = {kind: {"schema": self._schema(held["schema"])} for kind, held in body["content"].items()}
            cut["requestBody"] = {"content": content, "required": body["required"]}
        cut["responses"] = {"200": {"content": {"application/json": {"schema": self._schema(_answer(operation))}}}}
        return cut

    def _schema(self, schema: Any) -> Any:
        if isinstance(schema, list):
            return [self._schema(item) for item in schema]
        if not isinstance(schema, dict):
            return schema
        cut = {key: self._part(key, value) for key, value in schema.items() if key in STRUCTURE}
        if "$ref" in schema:
            cut.update(self._reference(schema["$ref"]))
        alternatives = cut.get("anyOf", ())
        if len(alternatives) == 1:
            del cut["anyOf"]
            cut.update(alternatives[0])
        return cut

    def _part(self, key: str, value: Any) -> Any:
        if key == "properties":
            return {name: self._schema(each) for name, each in value.items()}
        return value if key in ("enum", "required", "x-expandableFields") else self._schema(value)

    def _reference(self, reference: str) -> dict[str, Any]:
        """A reference stays if its kind is kept, or if it is no kind at all; other kinds become ids."""
        name = reference.removeprefix(_PREFIX)
        other = "x-resourceId" in self._schemas[name] and name not in self._kept
        return {"type": "string"} if other else {"$ref": reference}


def _answer(operation: Mapping[str, Any]) -> Any:
    return operation["responses"]["200"]["content"]["application/json"]["schema"]


def references(value: Any) -> Iterator[str]:
    """The names of the schemas that a part of the description refers to."""
    if isinstance(value, list):
        for item in value:
            yield from references(item)
    elif isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"].removeprefix(_PREFIX)
        for item in value.values():
            yield from references(item)


def endpoints(package: Path) -> str:
    """A line for each path that stripe-python can call: the path, `{}` for each id, and its methods."""
    found: dict[str, set[str]] = {}
    for file in sorted(package.rglob("*.py")):
        for method, path in re.findall(r'"(get|post|delete)",\s*"(/v[12]/[^"]+)"', file.read_text(encoding="utf-8")):
            found.setdefault(re.sub(r"\{[^}]*\}", "{}", path), set()).add(method.upper())
    return "".join(f"{path} {' '.join(sorted(methods))}\n" for path, methods in sorted(found.items()))


def packed(text: str) -> bytes:
    """gzip without a name and a time."""
    packer = zlib.compressobj(9, zlib.DEFLATED, wbits=31)
    return packer.compress(text.encode("ascii")) + packer.flush()


def described_by_now(cut: Mapping[str, Any], beside: Mapping[str, Any]) -> list[str]:
    """What `beside.json` has although the description has it too."""
    have = {f"{method.upper()} {path}" for path, operations in cut["paths"].items() for method in operations}
    return sorted(have & set(beside["operations"]))


def main(argv: list[str] | None = None) -> int:
    """Run the tool; the answer is the exit code."""
    parser = argparse.ArgumentParser(description="Cut Stripe's OpenAPI description down to what the sandbox reads.")
    parser.add_argument("description", type=Path, help="openapi/spec3.json of github.com/stripe/openapi")
    parser.add_argument("--into", type=Path, default=DATA, help="the folder to write to (default: sandbox/data)")
    arguments = parser.parse_args(argv)
    sdk = find_spec("stripe")
    if sdk is None or sdk.origin is None:
        print("stripe-python is not installed here; run script/bootstrap first.", file=sys.stderr)
        return 1
    cut = Cutter(json.loads(arguments.description.read_bytes())).cut()
    text = json.dumps(cut, sort_keys=True, separators=(",", ":"))
    (arguments.into / "stripe-openapi.json.gz").write_bytes(packed(text))
    (arguments.into / "stripe-paths.txt.gz").write_bytes(packed(endpoints(Path(sdk.origin).parent)))
    version, paths, schemas = cut["info"]["version"], cut["paths"], cut["components"]["schemas"]
    print(f"Cut {version}: {len(paths)} paths, {len(schemas)} schemas.")
    for path in sorted(set(KEPT) - set(paths)):
        print(f"Not in this description: {path}")
    for operation in described_by_now(cut, json.loads((DATA / "beside.json").read_bytes())):
        print(f"The description has this now, remove it from beside.json: {operation}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
