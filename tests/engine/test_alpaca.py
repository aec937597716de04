"""The project's own program through the real engine, start to end."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

import pytest

from tests.engine.conftest import ROOT, Project
from tests.engine.support import add_second_version


def operations(project: Project) -> dict[str, str]:
    """What a preview would do, resource name -> operation, unchanged ones left out."""
    steps = project.preview_json()["steps"]
    return {step["urn"].rsplit("::", 1)[1]: step["op"] for step in steps if step["op"] != "same"}


def test_up_edit_refresh_destroy(alpaca: Project) -> None:
    client = alpaca.client
    alpaca.up().ok()
    assert "no changes" in alpaca.preview("--expect-no-changes").ok().text or operations(alpaca) == {}
    outputs = alpaca.outputs()
    assert outputs["event_name"] == "alpaca_ai_tokens"
    assert outputs["lookup_keys"] == {"license": "alpaca-ai:license", "usage": "alpaca-ai:usage"}
    old_license = outputs["license_price"]
    subscription = outputs["subscriptions"]["alpaca-ai-first-customer"]

    # A new price is a new version: it is made, the old one is not touched, and the diff says so and nothing else.
    add_second_version(alpaca)
    assert operations(alpaca) == {
        "alpaca-ai": "update",
        "alpaca-ai-v2-license": "create",
        "alpaca-ai-v2-usage": "create",
        "alpaca-ai-license": "update",
        "alpaca-ai-usage": "update",
        "alpaca-ai-default-price": "update",
        "alpaca-ai-first-customer": "update",
    }
    diff = alpaca.preview("--diff").ok().text
    assert '"100.00 USD per seat and month' in diff
    assert '"12000"' in diff
    assert "event_name" not in diff
    assert "--outputs--" not in diff
    alpaca.up().ok()
    outputs = alpaca.outputs()
    new_license = outputs["license_price"]
    assert new_license != old_license
    assert client.v1.prices.retrieve(new_license).unit_amount_decimal == Decimal(12_000)
    assert client.v1.prices.retrieve(new_license).lookup_key == "alpaca-ai:license"
    old = client.v1.prices.retrieve(old_license)
    assert (old.active, old.lookup_key) == (True, None)
    assert {number: each["status"] for number, each in outputs["catalogue"]["alpaca-ai"].items()} == {
        "1": "retired",
        "2": "offered",
    }
    assert outputs["subscriptions"]["alpaca-ai-first-customer"] == subscription
    prices = {item.price.id for item in client.v1.subscriptions.retrieve(subscription)["items"].data}
    assert prices == {new_license, outputs["usage_price"]}

    # An edit behind the engine's back is found by a refresh and undone by the next up.
    client.v1.products.update(outputs["product"], {"name": "Renamed in the dashboard"})
    refreshed = alpaca.refresh().ok().text
    assert "alpaca-ai-product" in refreshed
    assert operations(alpaca) == {"alpaca-ai-product": "update"}
    alpaca.up().ok()
    assert client.v1.products.retrieve(outputs["product"]).name == "Alpaca.ai"

    # Nothing is left that bills.
    alpaca.destroy().ok()
    assert client.v1.subscriptions.retrieve(subscription).status == "canceled"
    assert list(client.v1.subscriptions.list({"status": "active"}).data) == []
    assert list(client.v1.prices.list({"active": True}).data) == []
    assert list(client.v1.billing.meters.list({"status": "active"}).data) == []
    assert alpaca.state() == []


def test_the_guides_bill(alpaca: Project) -> None:
    """3 seats x 100.00 + 25,000 tokens above the 1,000 included x 0.0004 = 300.00 + 10.00 = 310.00 USD."""
    alpaca.up().ok()
    outputs = alpaca.outputs()
    client = alpaca.client
    customer = outputs["customers"]["alpaca-ai-first-customer"]
    client.v1.billing.meter_events.create(
        {
            "event_name": outputs["event_name"],
            "payload": {"stripe_customer_id": customer, "value": "26000"},
            "identifier": "the-guides-bill",
        }
    )
    invoice = client.v1.invoices.create_preview({"subscription": outputs["subscriptions"]["alpaca-ai-first-customer"]})
    assert invoice.total == 310_00


def test_a_preview_of_prod_needs_neither_key_nor_network(new_project: Callable[..., Project]) -> None:
    prod = new_project((ROOT / "__main__.py").read_text(), mode="live", stack="prod")
    # Nothing listens on the discard port: a request would fail, and nothing is configured to call.
    result = prod.preview(env={"STRIPE_API_BASE": "http://127.0.0.1:9"}).ok()
    assert "alpaca-ai-license" in result.text
    assert not prod.sandbox_file.exists()


def test_up_without_a_key_says_which_and_applies_nothing(new_project: Callable[..., Project]) -> None:
    prod = new_project((ROOT / "__main__.py").read_text(), mode="live", stack="prod")
    result = prod.up()
    assert result.code != 0
    assert "there is no API key: set STRIPE_API_KEY=sk_live_" in result.text
    assert "Traceback" not in result.text
    assert prod.state() == []


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('Fee("100.00")', "Fee(100.00)", "Fee.amount: 100.0 is a float, which cannot hold money exactly"),
        ("included=1_000", "includes=1_000", "Usage: there is no argument includes; did you mean included?"),
        # The plan is declared by then, and not told to the engine.
        ("seats=3", 'seats="three"', "subscriber alpaca-ai-first-customer: seats is 'three'; must be a whole number"),
    ],
)
def test_a_mistake_in_the_program_is_one_line(alpaca: Project, old: str, new: str, message: str) -> None:
    alpaca.edit(old, new)
    result = alpaca.up()
    assert result.code != 0
    assert message in result.text
    assert "Traceback" not in result.text
    assert alpaca.state() == []


@pytest.mark.parametrize(("mode", "key"), [("sandbox", "sk_live_123secret"), ("live", "sk_test_123secret")])
def test_a_key_of_the_other_mode_is_refused(new_project: Callable[..., Project], mode: str, key: str) -> None:
    project = new_project((ROOT / "__main__.py").read_text(), mode=mode)
    for result in (project.preview(env={"STRIPE_API_KEY": key}), project.up(env={"STRIPE_API_KEY": key})):
        assert result.code != 0
        assert "STRIPE_API_KEY is a" in result.text
        assert "secret" not in result.text
    assert project.state() == []


def test_a_damaged_sandbox_file_is_named_in_one_line(alpaca: Project) -> None:
    alpaca.sandbox_file.write_bytes(b"not a sandbox " * 1000)
    result = alpaca.up()
    assert result.code != 0
    errors = [line.strip() for line in result.text.splitlines() if "stripe.db is damaged" in line]
    assert errors
    assert "the sandbox starts empty" in errors[0]
    assert "Traceback" not in result.text
    assert "sqlite3" not in result.text
    assert alpaca.state() == []
