"""Connected accounts: made by control, named by subscriptions and invoices; who is paid and who is billed."""

from __future__ import annotations

import json
from typing import Any

import pytest
import stripe

from sandbox.client import SandboxHTTPClient

from .bills import World, at, refusal
from .conftest import Clock, Control, Raw


def connected(control: Control) -> dict[str, list[str]]:
    """The ids of connected accounts by account and mode of the platform."""
    found = control("GET", "state?kind=account")["objects"]
    return {scope: [account["id"] for account in kinds["account"]] for scope, kinds in found.items()}


def test_control_connects_accounts_and_reset_forgets_them(control: Control) -> None:
    made = control("POST", "accounts", id="acct_shop")
    platform = control("GET", "")["account"]
    assert made == {
        "id": "acct_shop",
        "configurations": ["merchant", "recipient"],
        "customer": None,
        "livemode": False,
    }
    minted = control("POST", "accounts", configurations=["recipient"], livemode=True)
    assert minted["id"].startswith("acct_1")
    assert connected(control) == {f"{platform}:test": ["acct_shop"], f"{platform}:live": [minted["id"]]}
    control("POST", "reset")
    assert connected(control) == {}


def test_an_account_that_is_connected_again_gains_configurations(control: Control) -> None:
    control("POST", "accounts", id="acct_shop", configurations=["recipient"])
    again = control("POST", "accounts", id="acct_shop", configurations=["merchant"])
    assert again["configurations"] == ["merchant", "recipient"]
    assert list(connected(control).values()) == [["acct_shop"]]


@pytest.mark.parametrize(
    "params",
    [
        {"id": "shop"},
        {"id": 1},
        {"livemode": "maybe"},
        {"configurations": ["seller"]},
        {"configurations": "merchant"},
        {"configurations": [{}]},
        {"name": "Shop"},
    ],
)
def test_an_account_that_makes_no_sense_is_refused(raw: Raw, control: Control, params: dict[str, Any]) -> None:
    status, answer, _ = raw("POST", "/_sandbox/accounts", json.dumps(params), Content_Type="application/json")
    assert status == 400
    assert answer["error"]["message"]
    assert connected(control) == {}


# -- subscriptions ----------------------------------------------------------------------------------------------------


@pytest.fixture
def world(client: stripe.StripeClient, control: Control) -> World:
    for id in ("acct_shop", "acct_other"):
        control("POST", "accounts", id=id)
    return World(client)


@pytest.fixture
def license(world: World) -> str:
    return world.price("License", "10000")


def parties(found: Any) -> tuple[Any, Any, Any]:
    transfer = found.transfer_data
    return (
        found.application_fee_percent,
        found.on_behalf_of,
        None if transfer is None else (transfer.destination, transfer.amount_percent),
    )


def test_who_is_paid_is_set_changed_and_cleared(world: World, license: str) -> None:
    made = world.subscribe(
        license, application_fee_percent=12.5, on_behalf_of="acct_shop", transfer_data={"destination": "acct_shop"}
    )
    assert parties(world.v1.subscriptions.retrieve(made.id)) == (12.5, "acct_shop", ("acct_shop", None))
    other = {"destination": "acct_other"}
    changed = world.change(made.id, application_fee_percent=0, on_behalf_of="acct_other", transfer_data=other)
    assert parties(changed) == (0, "acct_other", ("acct_other", None))
    shared = world.change(
        made.id, application_fee_percent="", transfer_data={"destination": "acct_other", "amount_percent": 99.99}
    )
    assert parties(shared) == (None, "acct_other", ("acct_other", 99.99))
    # A transfer is replaced as a whole: without a share everything is transferred.
    assert parties(world.change(made.id, transfer_data=other)) == (None, "acct_other", ("acct_other", None))
    assert parties(world.change(made.id, on_behalf_of="", transfer_data="")) == (None, None, None)
    assert parties(world.v1.subscriptions.retrieve(made.id)) == (None, None, None)


@pytest.mark.parametrize(
    ("params", "param", "message"),
    [
        ({"on_behalf_of": "{}"}, "on_behalf_of", "No such on_behalf_of: '{}'"),
        ({"transfer_data": {"destination": "{}"}}, "transfer_data[destination]", "No such destination: '{}'"),
        (
            {"invoice_settings": {"issuer": {"type": "account", "account": "{}"}}},
            "invoice_settings[issuer][account]",
            "No such account: '{}'",
        ),
    ],
)
def test_an_account_that_is_not_connected_is_refused(
    world: World, control: Control, license: str, params: dict[str, Any], param: str, message: str
) -> None:
    def named(id: str) -> Any:
        return json.loads(json.dumps(params).replace("{}", id))

    made = world.subscribe(license)
    unknown = named("acct_x")
    for refused in (lambda: world.subscribe(license, **unknown), lambda: world.change(made.id, **unknown)):
        error = refusal(refused)
        assert (error.http_status, error.code, error.param) == (400, "resource_missing", param)
        assert error.user_message == message.format("acct_x")
    # One of the other mode is not this platform's.
    control("POST", "accounts", id="acct_live", livemode=True)
    error = refusal(lambda: world.subscribe(license, **named("acct_live")))
    assert str(error.user_message).startswith(message.format("acct_live") + "; a similar object exists in live mode")


def test_another_platform_does_not_see_a_connected_account(
    world: World, http: SandboxHTTPClient, control: Control
) -> None:
    control("POST", "keys", key="sk_test_elsewhere", account="acct_1Elsewhere")
    theirs = World(stripe.StripeClient("sk_test_elsewhere", http_client=http))
    error = refusal(lambda: theirs.subscribe(theirs.price("License", "100"), on_behalf_of="acct_shop"))
    assert error.code == "resource_missing"


def test_an_issuer_is_the_platform_or_a_connected_account(world: World, license: str) -> None:
    issuer = {"type": "account", "account": "acct_shop"}
    made = world.subscribe(license, invoice_settings={"issuer": issuer, "footer": "Thanks"})
    assert made.invoice_settings.issuer.to_dict() == issuer
    assert world.invoices()[-1].issuer.to_dict() == issuer
    # What an update leaves out stays.
    assert world.change(made.id, invoice_settings={"footer": "Bye"}).invoice_settings.issuer.to_dict() == issuer
    changed = world.change(made.id, invoice_settings={"issuer": {"type": "self"}})
    assert (changed.invoice_settings.issuer.to_dict(), changed.invoice_settings.footer) == ({"type": "self"}, "Bye")
    error = refusal(lambda: world.change(made.id, invoice_settings={"issuer": {"type": "account"}}))
    assert (error.code, error.param) == ("parameter_missing", "invoice_settings[issuer][account]")


def test_invoices_of_a_subscription_carry_its_accounts_as_they_are_then(world: World, license: str) -> None:
    issuer = {"type": "account", "account": "acct_shop"}
    made = world.subscribe(license, on_behalf_of="acct_shop", invoice_settings={"issuer": issuer})
    preview = world.preview(made.id)
    assert (preview.on_behalf_of, preview.issuer.to_dict()) == ("acct_shop", issuer)
    world.change(made.id, on_behalf_of="acct_other", invoice_settings={"issuer": {"type": "self"}})
    world.go("2026-02-02")
    first, second = world.invoices()
    assert (first.on_behalf_of, first.issuer.to_dict()) == ("acct_shop", issuer)
    assert (second.on_behalf_of, second.issuer.to_dict()) == ("acct_other", {"type": "self"})


def test_accounts_are_expanded(world: World, license: str) -> None:
    made = world.subscribe(
        license,
        on_behalf_of="acct_shop",
        transfer_data={"destination": "acct_other"},
        invoice_settings={"issuer": {"type": "account", "account": "acct_shop"}},
        expand=["on_behalf_of", "transfer_data.destination", "invoice_settings.issuer.account"],
    ).to_dict()
    found = (made["on_behalf_of"], made["transfer_data"]["destination"], made["invoice_settings"]["issuer"]["account"])
    assert [(each["object"], each["id"]) for each in found] == [
        ("account", "acct_shop"),
        ("account", "acct_other"),
        ("account", "acct_shop"),
    ]


def test_a_preview_is_issued_as_it_is_told(world: World, license: str) -> None:
    made = world.subscribe(license, on_behalf_of="acct_shop")
    issuer: Any = {"type": "account", "account": "acct_other"}
    preview = world.v1.invoices.create_preview({"subscription": made.id, "on_behalf_of": "", "issuer": issuer})
    assert (preview.on_behalf_of, preview.issuer.to_dict()) == (None, issuer)
    error = refusal(lambda: world.v1.invoices.create_preview({"subscription": made.id, "on_behalf_of": "acct_x"}))
    assert (error.code, error.param) == ("resource_missing", "on_behalf_of")
    assert world.v1.subscriptions.retrieve(made.id).on_behalf_of == "acct_shop"


# -- schedules --------------------------------------------------------------------------------------------------------


def plan(world: World, *phases: dict[str, Any], **params: Any) -> stripe.SubscriptionSchedule:
    given: Any = {"customer": world.customer.id, "start_date": "now", "phases": list(phases), **params}
    return world.v1.subscription_schedules.create(given)


def month(price: str, **params: Any) -> dict[str, Any]:
    return {"items": [{"price": price}], "duration": {"interval": "month", "interval_count": 1}, **params}


def test_phases_say_who_is_paid_and_else_the_defaults_do(world: World, license: str) -> None:
    issuer = {"type": "account", "account": "acct_shop"}
    schedule = plan(
        world,
        month(license, application_fee_percent=10, invoice_settings={"issuer": issuer, "footer": "First"}),
        month(license, on_behalf_of="acct_other", transfer_data={"destination": "acct_other", "amount_percent": 50}),
        default_settings={
            "on_behalf_of": "acct_shop",
            "transfer_data": {"destination": "acct_shop"},
            "invoice_settings": {"footer": "Always"},
        },
    )
    assert parties(schedule.default_settings) == (None, "acct_shop", ("acct_shop", None))
    assert [parties(phase) for phase in schedule.phases] == [
        (10, None, None),
        (None, "acct_other", ("acct_other", 50)),
    ]
    assert isinstance(schedule.subscription, str)
    first = world.v1.subscriptions.retrieve(schedule.subscription)
    assert parties(first) == (10, "acct_shop", ("acct_shop", None))
    assert (first.invoice_settings.issuer.to_dict(), first.invoice_settings.to_dict()["footer"]) == (issuer, "First")
    world.go("2026-02-02")
    second = world.v1.subscriptions.retrieve(schedule.subscription)
    assert parties(second) == (None, "acct_other", ("acct_other", 50))
    settings = second.invoice_settings.to_dict()
    assert (settings["issuer"], settings["footer"]) == ({"type": "self"}, "Always")
    assert [(bill.on_behalf_of, bill.issuer.type, bill.footer) for bill in world.invoices()] == [
        ("acct_shop", "account", "First"),
        ("acct_other", "self", "Always"),
    ]


def test_a_change_of_defaults_reaches_the_phase_that_runs(world: World, license: str) -> None:
    schedule = plan(world, month(license), default_settings={"transfer_data": {"destination": "acct_shop"}})
    assert isinstance(schedule.subscription, str)
    changed = world.v1.subscription_schedules.update(
        schedule.id,
        {"default_settings": {"transfer_data": {"destination": "acct_other"}, "on_behalf_of": "acct_other"}},
    )
    assert parties(changed.default_settings) == (None, "acct_other", ("acct_other", None))
    now = world.v1.subscriptions.retrieve(schedule.subscription)
    assert parties(now) == (None, "acct_other", ("acct_other", None))
    world.v1.subscription_schedules.update(schedule.id, {"default_settings": {"transfer_data": "", "on_behalf_of": ""}})
    assert parties(world.v1.subscriptions.retrieve(schedule.subscription)) == (None, None, None)


def test_a_schedule_around_a_subscription_keeps_who_is_paid(world: World, license: str) -> None:
    made = world.subscribe(license, application_fee_percent=10, transfer_data={"destination": "acct_shop"})
    schedule = world.v1.subscription_schedules.create({"from_subscription": made.id})
    assert parties(schedule.default_settings) == (10, None, ("acct_shop", None))
    phase: Any = month(license, start_date=schedule.phases[0].start_date, on_behalf_of="acct_shop")
    world.v1.subscription_schedules.update(schedule.id, {"phases": [phase]})
    assert parties(world.v1.subscriptions.retrieve(made.id)) == (10, "acct_shop", ("acct_shop", None))


@pytest.mark.parametrize(
    ("params", "param"),
    [
        ({"transfer_data": {"destination": "acct_x"}}, "phases[0][transfer_data][destination]"),
        ({"on_behalf_of": "acct_x"}, "phases[0][on_behalf_of]"),
        (
            {"invoice_settings": {"issuer": {"type": "account", "account": "acct_x"}}},
            "phases[0][invoice_settings][issuer][account]",
        ),
    ],
)
def test_what_a_phase_cannot_name_is_refused(world: World, license: str, params: dict[str, Any], param: str) -> None:
    error = refusal(lambda: plan(world, month(license, **params)))
    assert (error.http_status, error.param) == (400, param)


# -- accounts that are billed -----------------------------------------------------------------------------------------


@pytest.fixture
def payer(world: World, control: Control) -> str:
    """The customer of `acct_payer`."""
    made = control("POST", "accounts", id="acct_payer", configurations=["customer", "merchant"])
    world.v1.customers.update(made["customer"], {"source": "tok_visa"})
    return str(made["customer"])


def test_an_account_that_is_a_customer_has_one(world: World, control: Control, payer: str) -> None:
    customer = world.v1.customers.retrieve(payer)
    assert customer.to_dict()["customer_account"] == "acct_payer"
    # Once: whatever else the account becomes.
    again = control("POST", "accounts", id="acct_payer", configurations=["recipient"])
    assert (again["customer"], again["configurations"]) == (payer, ["customer", "merchant", "recipient"])


def test_a_subscription_of_an_account_names_both(world: World, license: str, payer: str) -> None:
    items: Any = [{"price": license}]
    made = world.v1.subscriptions.create({"customer_account": "acct_payer", "items": items})
    assert (made.customer, made.customer_account, made.status) == (payer, "acct_payer", "active")
    world.subscribe(license)
    listed = world.v1.subscriptions.list({"customer_account": "acct_payer"}).data
    assert [found.id for found in listed] == [made.id]
    [invoice] = world.v1.invoices.list({"customer_account": "acct_payer"}).data
    assert (invoice.customer, invoice.customer_account, invoice.status) == (payer, "acct_payer", "paid")
    shown: Any = {"customer_account": "acct_payer", "subscription": made.id}
    preview = world.v1.invoices.create_preview(shown)
    assert preview.customer_account == "acct_payer"


def test_everything_billed_to_an_account_names_it(world: World, clock: Clock, license: str, payer: str) -> None:
    item = world.v1.invoice_items.create({"customer_account": "acct_payer", "amount": 500, "currency": "usd"})
    assert (item.customer, item.customer_account) == (payer, "acct_payer")
    assert [each.id for each in world.v1.invoice_items.list({"customer_account": "acct_payer"}).data] == [item.id]
    phases: Any = [month(license)]
    schedule = world.v1.subscription_schedules.create(
        {"customer_account": "acct_payer", "start_date": "now", "phases": phases}
    )
    assert (schedule.customer, schedule.customer_account) == (payer, "acct_payer")
    listed = world.v1.subscription_schedules.list({"customer_account": "acct_payer"}).data
    assert [each.id for each in listed] == [schedule.id]
    assert isinstance(schedule.subscription, str)
    assert world.v1.subscriptions.retrieve(schedule.subscription).customer_account == "acct_payer"
    clock.now = float(at("2026-02-02"))
    names = {bill.customer_account for bill in world.v1.invoices.list({"customer": payer}).data}
    assert names == {"acct_payer"}


def test_discounts_and_codes_of_an_account_name_it(world: World, license: str, payer: str) -> None:
    coupon = world.v1.coupons.create({"percent_off": 50, "duration": "forever"})
    code: Any = {"promotion": {"type": "coupon", "coupon": coupon.id}, "customer_account": "acct_payer"}
    made = world.v1.promotion_codes.create(code)
    assert (made.customer, made.customer_account) == (payer, "acct_payer")
    assert [each.id for each in world.v1.promotion_codes.list({"customer_account": "acct_payer"}).data] == [made.id]
    items: Any = [{"price": license}]
    given: Any = {
        "customer_account": "acct_payer",
        "items": items,
        "discounts": [{"promotion_code": made.id}],
        "expand": ["discounts"],
    }
    [discount] = world.v1.subscriptions.create(given).to_dict()["discounts"]
    assert (discount["customer"], discount["customer_account"]) == (payer, "acct_payer")


def test_who_is_billed_is_named_once(world: World, license: str, payer: str) -> None:
    items: Any = [{"price": license}]
    given: Any = {"customer": payer, "customer_account": "acct_payer", "items": items}
    error = refusal(lambda: world.v1.subscriptions.create(given))
    assert error.user_message == "You may only specify one of these parameters: customer, customer_account."
    error = refusal(lambda: world.v1.subscriptions.create({"customer_account": "acct_x", "items": items}))
    assert (error.http_status, error.code, error.param) == (400, "resource_missing", "customer_account")
    error = refusal(lambda: world.v1.subscriptions.create({"customer_account": "acct_shop", "items": items}))
    assert (error.http_status, error.param) == (400, "customer_account")
