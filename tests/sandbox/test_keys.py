"""Keys and modes: wrong, missing, expired and restricted keys; test and live objects that do not mix."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
import stripe

from sandbox import Request, Sandbox, keys, router
from sandbox.client import SandboxHTTPClient
from sandbox.keys import redacted

from .catalog import catalog
from .conftest import Control, Raw


def client_with(http: SandboxHTTPClient, key: str) -> stripe.StripeClient:
    return stripe.StripeClient(key, http_client=http)


def test_no_key(raw: Raw) -> None:
    status, answer, headers = raw("GET", "/v1/products", Authorization="")
    assert status == 401
    assert answer["error"]["message"].startswith("You did not provide an API key.")
    assert headers["www-authenticate"] == 'Bearer realm="Stripe"'


@pytest.mark.parametrize("key", ["nope", "sk_nope", "sk_test_", "sk_prod_1", "whsec_1", "sk_test_a-b"])
def test_a_key_that_is_none(http: SandboxHTTPClient, key: str) -> None:
    with pytest.raises(stripe.AuthenticationError, match="Invalid API Key provided") as caught:
        client_with(http, key).v1.products.list()
    assert caught.value.http_status == 401


def test_a_publishable_key(http: SandboxHTTPClient) -> None:
    with pytest.raises(stripe.AuthenticationError, match="publishable API key") as caught:
        client_with(http, "pk_test_1").v1.products.list()
    assert caught.value.error is not None
    assert caught.value.error.code == "secret_key_required"


def test_a_revoked_and_an_expired_key(http: SandboxHTTPClient, control: Control) -> None:
    control("POST", "keys", key="sk_test_revoked1234", status="unknown")
    control("POST", "keys", key="rk_test_old1234", status="expired")
    with pytest.raises(stripe.AuthenticationError, match=r"Invalid API Key provided: sk_test_\*+1234"):
        client_with(http, "sk_test_revoked1234").v1.products.list()
    with pytest.raises(stripe.AuthenticationError, match=r"Expired API Key provided: rk_test_\*+1234") as caught:
        client_with(http, "rk_test_old1234").v1.products.list()
    assert caught.value.error is not None
    assert caught.value.error.code == "api_key_expired"


def test_a_restricted_key_may_do_what_it_may(http: SandboxHTTPClient, control: Control) -> None:
    control("POST", "keys", key="rk_test_narrow", status="restricted", allow=["GET /v1/prices", "* /v1/billing/*"])
    narrow = client_with(http, "rk_test_narrow")
    narrow.v1.prices.list()
    narrow.v1.billing.meters.list()
    for call in (narrow.v1.products.list, lambda: narrow.v1.products.create({"name": "A"})):
        refused: Any = call
        with pytest.raises(stripe.PermissionError, match="does not have the required permissions") as caught:
            refused()
        assert caught.value.http_status == 403
        assert "rk_test_narrow" not in str(caught.value)


def test_a_key_that_lacks_one_permission_may_do_all_else(http: SandboxHTTPClient, control: Control) -> None:
    control("POST", "keys", key="rk_test_noaccount", lacks=["rak_accounts_kyc_basic_read"])
    narrow = client_with(http, "rk_test_noaccount")
    narrow.v1.products.create({"name": "A"})
    with pytest.raises(stripe.PermissionError) as caught:
        narrow.v1.accounts.retrieve_current()
    assert caught.value.error is not None
    assert (caught.value.http_status, caught.value.error.code) == (403, "more_permissions_required")
    account = control("GET", "")["account"]
    assert caught.value.user_message == (
        f"The provided key 'rk_test_*****ount' does not have the required permissions for this endpoint on account "
        f"'{account}'. Having the 'rak_accounts_kyc_basic_read' permission would allow this request to continue."
    )


def test_a_key_with_named_permissions_may_do_what_they_say(http: SandboxHTTPClient, control: Control) -> None:
    control("POST", "keys", key="rk_test_named", permissions=["rak_product_write", "rak_plan_read"])
    named = client_with(http, "rk_test_named")
    product = named.v1.products.create({"name": "A"})
    named.v1.products.retrieve(product.id)  # whoever may write may read
    named.v1.prices.list()
    refused: list[tuple[Any, str]] = [
        (
            lambda: named.v1.prices.create({"currency": "usd", "unit_amount": 1, "product": product.id}),
            "rak_plan_write",
        ),
        (named.v1.customers.list, "rak_customer_read"),
        (named.v1.accounts.retrieve_current, "rak_accounts_kyc_basic_read"),
        (lambda: named.v1.subscription_items.list({"subscription": "sub_1"}), "rak_subscription_read"),
        (named.v1.billing.meters.list, "rak_billing_meter_read"),
        (
            lambda: named.v1.billing.meter_events.create({"event_name": "e", "payload": {}}),
            "rak_billing_meter_event_write",
        ),
        (lambda: named.v2.billing.meter_event_session.create(), "rak_billing_meter_event_write"),
    ]
    for call, needed in refused:
        with pytest.raises(stripe.PermissionError, match=f"Having the '{needed}' permission"):
            call()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"permissions": ["rak_price_write"]}, "permissions must be a list of some of rak_accounts_kyc_basic_read, "),
        ({"lacks": ["rak_price_read"]}, "lacks must be a list of some of "),
        ({"lacks": "rak_plan_read"}, "Invalid array"),
        ({"status": "expired", "lacks": ["rak_plan_read"]}, "A restricted key, and no other"),
        ({"status": "restricted"}, "A restricted key, and no other"),
    ],
)
def test_a_key_is_set_up_with_permissions_that_exist(sandbox: Sandbox, given: dict[str, Any], said: str) -> None:
    body = json.dumps({"key": "rk_test_x", **given}).encode()
    response = sandbox.handle(Request("POST", "/_sandbox/keys", {}, body))
    assert response.status == 400
    assert said in json.loads(response.body)["error"]["message"]


def test_every_endpoint_names_its_permission() -> None:
    for method, template in router.ROUTES:
        if template != "/v2/billing/meter_event_stream":  # a session's own token opens it
            assert keys.permission(method, template) in keys.known_permissions()


def test_an_unrestricted_restricted_key_may_everything(http: SandboxHTTPClient) -> None:
    assert client_with(http, "rk_test_wide").v1.products.create({"name": "A"}).livemode is False


def test_keys_can_come_as_a_user_name(raw: Raw) -> None:
    """As `curl -u sk_test_...:` sends them."""
    basic = base64.b64encode(b"sk_test_x:").decode()
    assert raw("GET", "/v1/products", Authorization=f"Basic {basic}")[0] == 200
    assert raw("GET", "/v1/products", Authorization="Basic ???")[0] == 401


def test_modes_do_not_mix(client: stripe.StripeClient, live: stripe.StripeClient) -> None:
    ours = client.v1.products.create({"name": "test"})
    theirs = live.v1.products.create({"name": "live"})
    assert (ours.livemode, theirs.livemode) == (False, True)
    assert [found.id for found in client.v1.products.list().data] == [ours.id]
    with pytest.raises(stripe.InvalidRequestError) as caught:
        client.v1.products.retrieve(theirs.id)
    assert caught.value.user_message == (
        f"No such product: '{theirs.id}'; a similar object exists in live mode, but a test mode key was used to make "
        "this request."
    )
    with pytest.raises(stripe.InvalidRequestError, match="exists in test mode, but a live mode key") as caught:
        live.v1.prices.create({"currency": "usd", "unit_amount": 1, "product": ours.id})
    assert (caught.value.http_status, caught.value.code) == (400, "resource_missing")


def test_the_same_chosen_id_lives_in_both_modes(client: stripe.StripeClient, live: stripe.StripeClient) -> None:
    client.v1.products.create({"id": "alpaca", "name": "test"})
    live.v1.products.create({"id": "alpaca", "name": "live"})
    assert client.v1.products.retrieve("alpaca").name == "test"


def test_keys_of_another_account_see_another_account(http: SandboxHTTPClient, control: Control) -> None:
    control("POST", "keys", key="sk_test_other", account="acct_other")
    other, own = client_with(http, "sk_test_other"), client_with(http, "sk_test_own")
    product = own.v1.products.create({"name": "A"})
    assert other.v1.accounts.retrieve_current().id == "acct_other"
    with pytest.raises(stripe.InvalidRequestError, match=f"No such product: '{product.id}'$"):
        other.v1.products.retrieve(product.id)


def test_a_connected_account_is_refused_by_name(raw: Raw) -> None:
    status, answer, _ = raw("GET", "/v1/products", Stripe_Account="acct_other")
    assert status == 501
    assert "Stripe-Account" in answer["error"]["message"]
    assert raw("GET", "/v1/products", Stripe_Context="ctx_other")[0] == 501


def test_keys_are_never_shown_whole(control: Control, client: stripe.StripeClient) -> None:
    client.v1.products.list()
    (line,) = control("GET", "requests")["data"]
    assert line["key"] == "sk_test_***dbox"
    assert redacted("sk_live_abc") == "sk_live_***"


def test_a_customer_can_cancel_without_our_key(http: SandboxHTTPClient, client: stripe.StripeClient) -> None:
    """What Stripe's portal does: the same account, another key, and `cancel_at` with the reason beside it."""
    things = catalog(client)
    made = client.v1.subscriptions.create(
        {
            "customer": things.customer.id,
            "collection_method": "send_invoice",
            "days_until_due": 30,
            "items": [{"price": things.license.id}],
        }
    )
    portal = client_with(http, "sk_test_portal")
    portal.v1.subscriptions.update(
        made.id, {"cancel_at": "min_period_end", "cancellation_details": {"feedback": "too_expensive"}}
    )
    seen = client.v1.subscriptions.retrieve(made.id)
    assert seen.cancel_at == seen["items"].data[0].current_period_end
    assert seen.cancellation_details is not None
    assert (seen.cancellation_details.reason, seen.cancellation_details.feedback) == (
        "cancellation_requested",
        "too_expensive",
    )
