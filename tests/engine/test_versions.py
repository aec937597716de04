"""Plans in versions through the real engine: who pays what over two renewals, by the rollout of the second version."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.engine.conftest import Project
from tests.engine.support import Log, control, ids, no_changes, operations

NewProject = Callable[..., Project]

PROGRAM = """import pulumi

from components.plan import PublishedPlan
from components.pricing import Fee, Plan, Usage, Version
from components.program import program
from components.subscriber import Subscriber

with program():
    first = Plan("Basic", fees=Fee("100.00"), usage=Usage("token", included=1_000, overage="0.01"))
    second = Plan("Basic", fees=Fee("120.00"), usage=Usage("token", included=2_000, overage="0.01"))
    basic = PublishedPlan("basic", {1: first}, event_name="tokens")
    for name in ["acme"]:
        Subscriber(name, basic, customer_name=name, email=f"{name}@example.com")
    Subscriber("pinned", basic.version(1), customer_name="Pinned", email="pinned@example.com")
    pulumi.export("catalogue", basic.catalogue)
"""


def day(date: str) -> int:
    return int(datetime.fromisoformat(date).replace(tzinfo=UTC).timestamp())


@pytest.fixture
def basic(new_project: NewProject) -> Project:
    """Version 1 is applied on 1 January 2026; on 11 January two customers are on it, and nothing has changed."""
    project = new_project(PROGRAM)
    control(project, "POST", "clock", frozen=day("2026-01-01"))
    project.up().ok()
    control(project, "POST", "clock", advance=day("2026-01-11") - day("2026-01-01"))
    return project


def go(project: Project, date: str) -> None:
    now = control(project, "POST", "clock", advance=0)["now"]
    control(project, "POST", "clock", advance=day(date) - now)


def bills(project: Project, name: str) -> list[int]:
    """The totals of a customer's invoices, oldest first."""
    found = project.client.v1.invoices.list({"customer": ids(project)[f"Customer {name}"], "limit": 100}).data
    return [each.total for each in sorted(found, key=lambda each: each.created)]


def use(project: Project, name: str, units: int, date: str) -> None:
    payload = {"stripe_customer_id": ids(project)[f"Customer {name}"], "value": str(units)}
    event: Any = {"event_name": "tokens", "payload": payload, "timestamp": day(date)}
    project.client.v1.billing.meter_events.create(event)


@pytest.mark.parametrize(
    ("rollout", "acme"),
    [
        # 500 tokens above 1,000 are 5.00 USD; version 2 includes them.
        ("keep", [10_000, 10_500, 10_500]),
        ("at_renewal", [10_000, 12_500, 12_000]),
        # 21 of 31 days at the new fee: 120.00 - 67.74 + 81.29 = 133.55; January's usage is that of the new price.
        ("now", [10_000, 13_355, 12_000]),
    ],
)
def test_the_old_price_bills_exactly_who_stays(basic: Project, rollout: str, acme: list[int]) -> None:
    basic.edit("{1: first}", f'{{1: first, 2: Version(second, rollout="{rollout}")}}')
    basic.edit('["acme"]', '["acme", "globex"]')
    log = Log(basic)
    basic.up().ok()
    calls = [call for call in log.calls() if call.params.get("lookup_key") is not None]
    assert [call.params.get("transfer_lookup_key") for call in calls] == ["true", "true"]
    no_changes(basic)
    assert basic.outputs()["catalogue"]["1"]["status"] == "kept"
    for month in ("01", "02"):
        go(basic, f"2026-{month}-21")
        for name in ("acme", "globex", "pinned"):
            use(basic, name, 1_500, f"2026-{month}-20")
    go(basic, "2026-03-15")
    assert bills(basic, "acme") == acme
    assert bills(basic, "pinned") == [10_000, 10_500, 10_500]
    # Made on 11 January, at the price that was offered then.
    assert bills(basic, "globex") == [12_000, 12_000, 12_000]
    no_changes(basic)


def test_what_a_preview_refuses(basic: Project) -> None:
    program = (basic.folder / "__main__.py").read_text()
    there = ids(basic)
    for old, new, sentence in (
        ('Fee("100.00")', 'Fee("110.00")', "basic v1 is published in dev; add v2 (license 100.00 USD -> 110.00 USD)"),
        ("{1: first}", "{1: first, 2: second}", "basic v2 needs a rollout, because there are subscribers on v1: acme;"),
    ):
        basic.edit(old, new)
        for result in (basic.preview(), basic.up()):
            assert result.code != 0
            assert sentence in result.text
            assert "Traceback" not in result.text
        assert ids(basic) == there
        basic.write(program)


def test_an_offer_is_one_line_of_the_stacks_config_and_is_promoted(basic: Project) -> None:
    basic.edit("{1: first}", '{1: first, 2: Version(second, rollout="keep")}')
    basic.run("config", "set", "--path", "stripe-pricing:offers.basic", "1").ok()
    basic.up().ok()
    assert basic.outputs()["catalogue"]["1"]["prices"]["license"]["lookup_key"] == "basic:license"
    basic.run("config", "rm", "--path", "stripe-pricing:offers").ok()
    changed = operations(basic)
    assert changed["Price basic-license"] == changed["Price basic-v2-license"] == "update"

    basic.pulumi("stack", "init", "staging").ok()
    staging = Project(basic.folder, {**basic.environ}, "staging")
    staging.config("stripe-pricing:mode", "sandbox")
    staging.config("stripe-pricing:promotedFrom", "dev")
    assert staging.preview().ok()
    staging.edit('Fee("120.00")', 'Fee("125.00")')
    assert (
        "staging cannot offer basic v2: dev, which it is promoted from, has another one (license 120.00 USD -> "
        "125.00 USD)"
    ) in staging.preview().text
    staging.config("stripe-pricing:promotedFrom", "qa")
    assert "staging is promoted from qa, whose state cannot be read: " in staging.preview().text
