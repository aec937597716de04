"""The table of what real Stripe answers to mistakes, row by row: status, type, code, param and message."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import stripe

from sandbox import errors
from sandbox.errors import ANSWERS, DOCUMENTED, RECORDED, REPORTED, UNRECORDED

from .catalog import Catalog, catalog
from .conftest import NEW_YEAR, Raw


@dataclass(frozen=True)
class Row:
    """A mistake and its answer. `{name}` in URL, body and message stands for an id of the catalog."""

    name: str
    method: str
    url: str
    body: str
    message: str
    status: int = 400
    code: str | None = None
    param: str | None = None
    type: str = "invalid_request_error"
    headers: dict[str, str] = field(default_factory=dict)


PRICE = "currency=usd&product={product}"
TIERED = PRICE + "&billing_scheme=tiered&tiers_mode=graduated&recurring[interval]=month"
METER = "display_name=X&default_aggregation[formula]=sum"
EVENT = "event_name=alpaca_ai_tokens&payload[stripe_customer_id]={customer}"

ROWS = [
    # -- prices
    Row(
        "duplicate lookup_key",
        "POST",
        "/v1/prices",
        PRICE + "&unit_amount=1&lookup_key=taken",
        "A price (`{holder}`) already uses that lookup key.",
        param="lookup_key",
    ),
    Row(
        "duplicate lookup_key on update",
        "POST",
        "/v1/prices/{license}",
        "lookup_key=taken",
        "A price (`{holder}`) already uses that lookup key.",
        param="lookup_key",
    ),
    Row(
        "delete a price",
        "DELETE",
        "/v1/prices/{license}",
        "",
        "Unrecognized request URL (DELETE: /v1/prices/{license}). Please see https://stripe.com/docs or we can help at "
        "https://support.stripe.com/.",
        status=404,
    ),
    *(
        Row(
            f"change {name} of a price",
            "POST",
            "/v1/prices/{license}",
            body,
            f"Received unknown parameter: {name}",
            code="parameter_unknown",
            param=name,
        )
        for name, body in [
            ("unit_amount", "unit_amount=2"),
            ("recurring", "recurring[interval]=year"),
            ("tiers", "tiers[0][up_to]=inf"),
        ]
    ),
    Row(
        "metered without meter",
        "POST",
        "/v1/prices",
        PRICE + "&unit_amount=1&recurring[interval]=month&recurring[usage_type]=metered",
        "Starting with Stripe version `2025-03-31.basil`, metered prices must be backed by meters.",
    ),
    Row(
        "no amount",
        "POST",
        "/v1/prices",
        PRICE,
        "Prices require an `unit_amount` or `unit_amount_decimal` parameter to be set.",
    ),
    Row(
        "no product",
        "POST",
        "/v1/prices",
        "currency=usd&unit_amount=1",
        "You must specify either `product` or `product_data` when creating a price.",
    ),
    Row(
        "two products",
        "POST",
        "/v1/prices",
        PRICE + "&unit_amount=1&product_data[name]=x",
        "You may only specify one of these parameters: product, product_data.",
        param="product",
    ),
    Row(
        "tiered one-time",
        "POST",
        "/v1/prices",
        PRICE + "&billing_scheme=tiered&tiers_mode=graduated&tiers[0][up_to]=inf&tiers[0][unit_amount]=1",
        "Prices with `type=one_time` are not supported with tiered billing.",
        param="interval",
    ),
    Row(
        "tier without up_to",
        "POST",
        "/v1/prices",
        TIERED + "&tiers[0][up_to]=10&tiers[0][unit_amount]=1&tiers[1][unit_amount]=1",
        "Missing required param: tiers[1][up_to].",
        code="parameter_missing",
        param="tiers[1][up_to]",
    ),
    Row(
        "tier without amount",
        "POST",
        "/v1/prices",
        TIERED + "&tiers[0][up_to]=inf",
        "An entry in the tiers array is missing an amount.",
        param="tiers",
    ),
    Row(
        "last tier not inf",
        "POST",
        "/v1/prices",
        TIERED + "&tiers[0][up_to]=10&tiers[0][unit_amount]=1",
        "The last tier, and only the last, must have `up_to` set to `inf`.",
        param="tiers[0][up_to]",
    ),
    Row(
        "tiers not ascending",
        "POST",
        "/v1/prices",
        TIERED
        + "&tiers[0][up_to]=10&tiers[0][unit_amount]=1&tiers[1][up_to]=10&tiers[1][unit_amount]=1"
        + "&tiers[2][up_to]=inf&tiers[2][unit_amount]=1",
        "The `up_to` of each tier must be a whole number greater than that of the tier before it.",
        param="tiers[1][up_to]",
    ),
    Row(
        "tiers with transform_quantity",
        "POST",
        "/v1/prices",
        TIERED
        + "&tiers[0][up_to]=inf&tiers[0][unit_amount]=1&transform_quantity[divide_by]=2&transform_quantity[round]=up",
        "`transform_quantity` cannot be combined with `tiers`.",
        param="transform_quantity",
    ),
    Row(
        "both amounts",
        "POST",
        "/v1/prices",
        PRICE + "&unit_amount=1&unit_amount_decimal=1.5",
        "You may only specify one of these parameters: unit_amount, unit_amount_decimal.",
        param="unit_amount",
    ),
    Row(
        "unknown product",
        "POST",
        "/v1/prices",
        "currency=usd&unit_amount=1&product=prod_nope",
        "No such product: 'prod_nope'",
        code="resource_missing",
        param="product",
    ),
    Row(
        "unknown meter",
        "POST",
        "/v1/prices",
        PRICE + "&unit_amount=1&recurring[interval]=month&recurring[usage_type]=metered&recurring[meter]=mtr_nope",
        "No such meter: 'mtr_nope'",
        code="resource_missing",
        param="recurring[meter]",
    ),
    Row(
        "unknown currency",
        "POST",
        "/v1/prices",
        "currency=zzz&unit_amount=1&product={product}",
        "Invalid currency: zzz. Use a three-letter code that Stripe supports.",
        param="currency",
    ),
    # -- products
    Row(
        "delete product with prices",
        "DELETE",
        "/v1/products/{product}",
        "",
        "This product cannot be deleted because it has one or more user-created prices.",
    ),
    Row(
        "retrieve deleted product",
        "GET",
        "/v1/products/{deleted}",
        "",
        "No such product: '{deleted}'",
        status=404,
        code="resource_missing",
        param="id",
    ),
    # -- meters
    Row(
        "duplicate meter event_name",
        "POST",
        "/v1/billing/meters",
        METER + "&event_name=alpaca_ai_tokens",
        "An active meter already exists for event name 'alpaca_ai_tokens'. To create a new meter with the same event "
        "name, first deactivate the currently active meter.",
    ),
    Row(
        "meter event without meter",
        "POST",
        "/v1/billing/meter_events",
        "event_name=nope&payload[stripe_customer_id]={customer}&payload[value]=1",
        'No active meter found for event name "nope".',
    ),
    Row(
        "duplicate meter event identifier",
        "POST",
        "/v1/billing/meter_events",
        EVENT + "&payload[value]=1&identifier=seen",
        "An event already exists with identifier seen.",
        headers={"stripe-should-retry": "false"},
    ),
    Row(
        "36 days old",
        "POST",
        "/v1/billing/meter_events",
        EVENT + f"&payload[value]=1&timestamp={NEW_YEAR - 36 * 86400}",
        "The timestamp of the meter event must be within the past 35 calendar days.",
        param="timestamp",
    ),
    Row(
        "six minutes ahead",
        "POST",
        "/v1/billing/meter_events",
        EVENT + f"&payload[value]=1&timestamp={NEW_YEAR + 360}",
        "The timestamp of the meter event must be at most 5 minutes in the future.",
        param="timestamp",
    ),
    # -- customers
    *(
        Row(
            f"invoice prefix {prefix}",
            "POST",
            "/v1/customers",
            f"invoice_prefix={prefix}",
            "Invoice number prefix must be 1–12 uppercase letters or numbers.",
        )
        for prefix in ("a", "abc", "AB_1", "ABCDEFGHIJKLM")
    ),
    Row(
        "invoice prefix of another",
        "POST",
        "/v1/customers",
        "invoice_prefix=TAKEN",
        "This invoice number prefix is taken by customer: {prefixed}. Please enter a different prefix.",
        param="invoice_prefix",
    ),
    Row(
        "invoice prefix of another on update",
        "POST",
        "/v1/customers/{customer}",
        "invoice_prefix=TAKEN",
        "This invoice number prefix is taken by customer: {prefixed}. Please enter a different prefix.",
        param="invoice_prefix",
    ),
    # -- coupons
    *(
        Row(f"coupon {name}", "POST", "/v1/coupons", body, message, code=code, param=param)
        for name, body, message, code, param in [
            ("of nothing", "duration=once", "Must provide percent_off or amount_off.", "parameter_missing", None),
            (
                "of both",
                "percent_off=10&amount_off=500&currency=usd",
                "Received both percent_off and amount_off parameters. Please pass in only one.",
                None,
                None,
            ),
            (
                "without currency",
                "amount_off=500",
                "You must pass currency when passing amount_off",
                None,
                "currency",
            ),
            (
                "without months",
                "percent_off=10&duration=repeating",
                "The duration_in_months param must be set when creating a coupon with a repeating duration",
                None,
                "duration",
            ),
            (
                "of no percent",
                "percent_off=0",
                "This value must be greater than or equal to 0.01 (it currently is '0.0').",
                None,
                "percent_off",
            ),
            (
                "over before it begins",
                "percent_off=10&redeem_by=1000",
                (
                    "The parameter `redeem_by` expects a unix timestamp representing a date and time in the future. "
                    "You specified the value `1000` which is in the past."
                ),
                None,
                "redeem_by",
            ),
            (
                "of a percentage in currencies",
                "percent_off=5&currency_options[eur][amount_off]=4",
                "You may only specify one of these parameters: currency_options, percent_off.",
                None,
                "currency_options",
            ),
            (
                "in a currency of capitals",
                "amount_off=500&currency=usd&currency_options[EUR][amount_off]=4",
                "Currencies must be lowercase when used as keys in a map. Use `eur` instead of `EUR`.",
                None,
                "currency_options",
            ),
            (
                "that is there",
                "id=HALF&percent_off=5",
                "Coupon already exists.",
                "resource_already_exists",
                None,
            ),
        ]
    ),
    # -- invoices
    *(
        Row(
            f"no such invoice, {method} {path}",
            method,
            f"/v1/invoices/in_nope{path}",
            "",
            "No such invoice: 'in_nope'",
            status=404,
            code="resource_missing",
            param=param,
        )
        for method, path, param in [
            ("GET", "", "invoice"),
            ("POST", "/pay", "id"),
            ("POST", "/finalize", "id"),
            ("POST", "/void", "id"),
        ]
    ),
    Row(
        "an amount of several",
        "POST",
        "/v1/invoiceitems",
        "customer={customer}&currency=usd&amount=100&quantity=2",
        "You may only specify one of these parameters: amount, quantity.",
        param="amount",
    ),
    Row(
        "no such invoice item",
        "GET",
        "/v1/invoiceitems/ii_nope",
        "",
        "No such Invoice Item: 'ii_nope'(livemode=false)",
        status=404,
        code="resource_missing",
        param="id",
    ),
    # -- lists
    Row(
        "both cursors",
        "GET",
        "/v1/products?starting_after={product}&ending_before={product}",
        "",
        "Received both starting_after and ending_before parameters. Please pass in only one.",
    ),
    *(
        Row(
            f"the states of {path}",
            "GET",
            f"{path}?status=bogus",
            "",
            f"Invalid status: must be {words}",
            param="status",
        )
        for path, words in {
            "/v1/invoices": "one of draft, open, void, paid, or uncollectible",
            "/v1/subscriptions": "one of active, past_due, unpaid, canceled, incomplete, incomplete_expired, trialing, "
            "paused, all, or ended",
        }.items()
    ),
    Row(
        "one of two values",
        "POST",
        "/v1/invoices/create_preview",
        "customer={customer}&preview_mode=x",
        "Invalid preview_mode: must be one of next or recurring",
        param="preview_mode",
    ),
    # -- by path
    *(
        Row(
            f"no such {kind}",
            "GET",
            f"/v1/{path}/nope",
            "",
            f"No such {kind}: 'nope'",
            status=404,
            code="resource_missing",
            param=param,
        )
        for kind, path, param in [
            ("product", "products", "id"),
            ("customer", "customers", "id"),
            ("price", "prices", "price"),
        ]
    ),
    Row(
        "wrong prefix",
        "GET",
        "/v1/prices/prod_1",
        "",
        "No such price: 'prod_1'",
        status=404,
        code="resource_missing",
        param="price",
    ),
    # -- parameters
    Row(
        "missing",
        "POST",
        "/v1/products",
        "",
        "Missing required param: name.",
        code="parameter_missing",
        param="name",
    ),
    Row(
        "missing, nested",
        "POST",
        "/v1/billing/meters",
        "display_name=X&event_name=y&default_aggregation[x]=1",
        "Missing required param: default_aggregation[formula].",
        code="parameter_missing",
        param="default_aggregation[formula]",
    ),
    Row(
        "unknown",
        "POST",
        "/v1/products",
        "name=a&nope=1",
        "Received unknown parameter: nope",
        code="parameter_unknown",
        param="nope",
    ),
    Row(
        "unknown, nested",
        "POST",
        "/v1/customers",
        "invoice_settings[nope]=1",
        "Received unknown parameter: invoice_settings[nope]",
        code="parameter_unknown",
        param="invoice_settings[nope]",
    ),
    Row(
        "unknown in the query",
        "GET",
        "/v1/products?nope=1",
        "",
        "Received unknown parameter: nope",
        code="parameter_unknown",
        param="nope",
    ),
    Row(
        "enum of three",
        "POST",
        "/v1/billing/meters",
        "display_name=X&event_name=y&default_aggregation[formula]=max",
        "Invalid default_aggregation[formula]: must be one of count, last, or sum",
        param="default_aggregation[formula]",
    ),
    Row(
        "integer",
        "POST",
        "/v1/prices",
        PRICE + "&unit_amount=abc",
        "Invalid integer: abc",
        code="parameter_invalid_integer",
        param="unit_amount",
    ),
    Row(
        "a float for an integer",
        "POST",
        "/v1/prices",
        PRICE + "&unit_amount=1.5",
        "Invalid integer: 1.5",
        code="parameter_invalid_integer",
        param="unit_amount",
    ),
    Row("boolean", "POST", "/v1/products", "name=a&active=maybe", "Invalid boolean: maybe", param="active"),
    Row(
        "too long",
        "POST",
        "/v1/billing/meters",
        METER + "&event_name=" + "x" * 101,
        "Invalid string: " + "x" * 30 + "..." + "x" * 10 + "; must be at most 100 characters",
        param="event_name",
    ),
    Row("hash", "POST", "/v1/products", "name=a&package_dimensions=x", "Invalid object", param="package_dimensions"),
    Row("array", "POST", "/v1/products", "name=a&images=x", "Invalid array", param="images"),
    Row("bad expand", "GET", "/v1/prices/{license}?expand[]=x", "", "This property cannot be expanded (x)."),
    Row(
        "bad expand in a list",
        "GET",
        "/v1/prices?expand[]=data.nope",
        "",
        "This property cannot be expanded (data.nope).",
    ),
    Row(
        "bad cursor",
        "GET",
        "/v1/prices?starting_after=price_nope",
        "",
        "No such price: 'price_nope'",
        code="resource_missing",
        param="starting_after",
    ),
    Row(
        "no such path",
        "GET",
        "/v1/nope",
        "",
        "Unrecognized request URL (GET: /v1/nope). Please see https://stripe.com/docs or we can help at "
        "https://support.stripe.com/.",
        status=404,
    ),
    Row(
        "not implemented here",
        "GET",
        "/v1/billing/credit_grants",
        "",
        "This sandbox does not implement GET /v1/billing/credit_grants, which Stripe has. Nothing was done; "
        "docs/sandbox.md lists what it covers.",
        status=501,
        type="api_error",
    ),
]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/charges"),
        ("POST", "/v1/payment_intents/pi_1/confirm"),
        ("GET", "/v1/billing/alerts"),
        ("GET", "/v1/products/prod_1/features"),
        ("GET", "/v2/core/accounts"),
        ("POST", "/v1/checkout/sessions"),
        ("POST", "/v1/subscriptions/sub_1/resume"),
        ("POST", "/v1/invoices/in_1"),
        ("DELETE", "/v1/invoices/in_1"),
        ("POST", "/v1/invoiceitems/ii_1"),
        ("DELETE", "/v1/invoiceitems/ii_1"),
        ("GET", "/v1/customers/cus_1/sources"),
        ("DELETE", "/v1/customers/cus_1/sources/card_1"),
        ("POST", "/v2/billing/meter_events"),
        ("POST", "/v2/billing/meter_event_adjustments"),
    ],
)
def test_what_stripe_has_and_the_sandbox_has_not_is_refused_by_name(raw: Raw, method: str, path: str) -> None:
    status, answer, _ = raw(method, path)
    assert status == 501
    assert f"does not implement {method} {path}, which Stripe has" in answer["error"]["message"]


@pytest.mark.parametrize(
    ("path", "form", "named"),
    [
        ("/v1/customers", "tax[validate_location]=immediately", "tax[validate_location]=immediately"),
        ("/v1/invoiceitems", "customer=cus_1&currency=usd&amount=1&invoice=in_1", "invoice"),
        ("/v1/invoices", "customer=cus_1&auto_advance=true", "auto_advance"),
    ],
)
def test_what_a_covered_endpoint_does_not_do_is_refused_by_name(raw: Raw, path: str, form: str, named: str) -> None:
    status, answer, _ = raw("POST", path, form)
    assert status == 501
    assert f"does not implement the parameter {named}, which Stripe has" in answer["error"]["message"]


@pytest.mark.parametrize(
    "path", ["/", "/v1", "/v1/", "/v1/products/", "/v3/products", "/v1/charges/ch_1/nope", "/v1//x"]
)
def test_what_nobody_has_is_not_found(raw: Raw, path: str) -> None:
    assert raw("GET", path)[0] == 404


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_mistake(row: Row, client: stripe.StripeClient, raw: Raw) -> None:
    things = catalog(client)
    names = _names(client, things)
    status, answer, headers = raw(row.method, _fill(row.url, names), _fill(row.body, names))
    error = dict(answer["error"])
    assert error.pop("message") == _fill(row.message, names)
    assert status == row.status
    assert error.pop("type") == row.type
    assert error.pop("code", None) == row.code
    assert error.pop("param", None) == row.param
    error.pop("doc_url", None)
    assert error == {}
    assert {name: headers.get(name) for name in row.headers} == row.headers
    assert headers["request-id"].startswith("req_")


def _names(client: stripe.StripeClient, things: Catalog) -> dict[str, str]:
    holder = client.v1.prices.create(
        {"currency": "usd", "product": things.product.id, "unit_amount": 1, "lookup_key": "taken"}
    )
    client.v1.coupons.create({"id": "HALF", "percent_off": 50})
    deleted = client.v1.products.create({"name": "gone"})
    client.v1.products.delete(deleted.id)
    client.v1.billing.meter_events.create(
        {
            "event_name": things.meter.event_name,
            "payload": {"stripe_customer_id": things.customer.id, "value": "1"},
            "identifier": "seen",
        }
    )
    return {
        "product": things.product.id,
        "license": things.license.id,
        "customer": things.customer.id,
        "holder": holder.id,
        "deleted": deleted.id,
        "prefixed": client.v1.customers.create({"invoice_prefix": "TAKEN"}).id,
    }


def _fill(text: str, names: dict[str, str]) -> str:
    return re.sub(r"\{([a-z]+)\}", lambda match: names[match.group(1)], text)


def test_every_text_says_how_well_it_is_known() -> None:
    assert {row.evidence for row in ANSWERS.values()} <= {RECORDED, REPORTED, DOCUMENTED, UNRECORDED}


def test_every_answer_has_one_row() -> None:
    names: list[str] = []

    def noted(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        names.extend(name for name, value in pairs if isinstance(value, dict) and "evidence" in value)
        return dict(pairs)

    json.loads((Path(errors.__file__).parent / "data" / "answers.json").read_bytes(), object_pairs_hook=noted)
    assert names == list(ANSWERS)


@pytest.mark.parametrize("name", sorted(ANSWERS))
def test_every_answer_can_be_worded(name: str) -> None:
    """Each template names only what its refusals give; a stray brace would be an error in an error."""
    row: Any = ANSWERS[name]
    for text in (row.message, row.param or ""):
        for match in re.finditer(r"[{}]", re.sub(r"\{[a-z_]+\}", "", text)):
            pytest.fail(f"{name}: stray {match.group()} in {text}")
