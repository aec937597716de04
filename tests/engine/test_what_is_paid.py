"""What a preview says about money, with the real engine: removed resources, and what `--target` leaves out."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.engine.conftest import Project
from tests.engine.support import ids

PROGRAM = """import pulumi

from components.plan import PublishedPlan
from components.pricing import Fee, Overage, Plan, Usage
from components.program import program
from components.resources import Customer
from components.subscriber import Subscriber

with program():
    alpaca = PublishedPlan(
        "alpaca", Plan("Alpaca", fees=Fee("100"), usage=Usage("token", overage=Overage("0.04"))), event_name="tokens"
    )
    Subscriber("first", alpaca, customer_name="First", email="first@example.com", seats=3, own=[Fee("100.00")])
    Subscriber("second", alpaca, customer_name="Second", email="second@example.com", seats=2)
    Customer("kept", name="Kept", on_delete="keep")
"""
SECOND = '    Subscriber("second", alpaca, customer_name="Second", email="second@example.com", seats=2)\n'


@pytest.fixture(scope="module")
def applied(new_project: Callable[..., Project]) -> Project:
    project = new_project(PROGRAM)
    project.up().ok()
    return project


def test_what_leaves_the_program_is_reported_in_the_preview_and_nothing_else(applied: Project) -> None:
    quiet = applied.preview("--expect-no-changes").ok()
    assert "no longer in the program" not in quiet.text
    before = ids(applied)
    try:
        applied.edit(SECOND, "")
        applied.edit('    Customer("kept", name="Kept", on_delete="keep")\n', "")
        text = applied.preview().ok().text
    finally:
        applied.write(PROGRAM)
    lines = {line.partition("warning: ")[2] for line in text.splitlines() if "no longer in the program" in line}
    assert sorted(lines) == [
        "Customer 'kept' is no longer in the program: it stays in Stripe (on_delete=keep)",
        (
            "Customer 'second' is no longer in the program: deleting it is permanent, with its balance, payment "
            'methods and subscriptions, and unpaid amounts can no longer be charged (on_delete="keep" keeps it)'
        ),
        (
            "Subscription 'second' is no longer in the program: deleting it cancels it now, with a final invoice "
            "for its usage, unused time is not credited, and 200.00 USD a month is no longer billed; if it "
            "only has a new name, give it an alias"
        ),
    ]
    assert ids(applied) == before


def test_a_resource_that_has_another_name_under_an_alias_does_not_leave(applied: Project) -> None:
    renamed = 'Customer("renamed", name="Kept", on_delete="keep", opts=pulumi.ResourceOptions(aliases=[{alias}]))'
    for alias in (
        'pulumi.Alias(name="kept")',
        '"urn:pulumi:dev::stripe-pricing::pulumi-python:dynamic/stripe:Customer::kept"',
    ):
        try:
            applied.edit('Customer("kept", name="Kept", on_delete="keep")', renamed.format(alias=alias))
            text = applied.preview().ok().text
        finally:
            applied.write(PROGRAM)
        assert "no longer in the program" not in text


def test_who_moves_to_a_new_price_is_reported_only_where_they_are_part_of_the_run(applied: Project) -> None:
    parent = "urn:pulumi:dev::stripe-pricing::stripe-pricing:index:Subscriber"
    move = (
        "Price 'first-license': subscriptions that this run updates move to the new price (100.00 USD a month => "
        "120.00 USD a month each)"
    )
    try:
        applied.edit('Fee("100.00")', 'Fee("120.00")')
        everything = applied.preview().ok().text
        targeted = applied.preview("--target", f"{parent}$pulumi-python:dynamic/stripe:Price::first-license").ok().text
    finally:
        applied.write(PROGRAM)
    assert move in everything
    assert "stays in Stripe, archived; subscriptions on it go on paying it" in targeted
    assert "move to the new price" not in targeted


def test_seats_that_somebody_set_stay_when_the_price_changes(applied: Project) -> None:
    """Under `ignore_changes` too, through the engine's own order."""
    subscription = ids(applied)["Subscription first"]
    items = applied.client.v1.subscription_items
    [license] = [item for item in items.list({"subscription": subscription}).data if "quantity" in item]
    items.update(license.id, {"quantity": 11})
    applied.edit('Fee("100.00")', 'Fee("120.00")')
    applied.up().ok()
    moved = items.retrieve(license.id)
    assert (moved.quantity, moved.price.unit_amount) == (11, 12_000)
