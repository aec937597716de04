"""What the program declares is never deleted, whatever stopped the run before: the real engine, run by run.

tests/components/test_urn_changes.py takes every pair of a way to stop and a way to change a URN without an engine.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.engine.conftest import Project
from tests.engine.support import IMPORTS

PROGRAM = (
    IMPORTS
    + """
import pulumi

class Shop(pulumi.ComponentResource):
    def __init__(self, name):
        super().__init__("test:index:Shop", name)

parent = None
opts = pulumi.ResourceOptions(parent=parent)
meter = Meter("tokens", display_name="T", event_name="tokens", default_aggregation={"formula": "sum"}, opts=opts)
customer = Customer("acme", name="Acme", email="billing@example.com", opts=opts)
product = Product("pro", name="Pro", id="chosen", opts=opts)
price = Price("fee", product=product.id, currency="usd", unit_amount=100, recurring={"interval": "month"}, opts=opts)
link = DefaultPrice("link", product=product.id, price=price.id, opts=opts)
bill = Subscription("bill", customer=customer.id, items={"fee": {"price": price.id}},
                    collection_method="send_invoice", days_until_due=30, opts=opts)
"""
)
#: Fails in the run, after everything above is done.
NEIGHBOUR = """
Price("neighbour", product="prod_nobody", currency="usd", unit_amount=1, opts=pulumi.ResourceOptions(depends_on=[bill]))
"""


def assert_all_there(project: Project) -> None:
    """Everything that the program declares is active in Stripe, once."""
    client = project.client.v1
    assert [meter.status for meter in client.billing.meters.list().data] == ["active"]
    assert [customer.name for customer in client.customers.list().data] == ["Acme"]
    assert [subscription.status for subscription in client.subscriptions.list().data] == ["active"]
    [product] = client.products.list().data
    [price] = client.prices.list({"active": True}).data
    assert (product.active, product.default_price) == (True, price.id)


@pytest.fixture
def moved(new_project: Callable[..., Project]) -> Project:
    """Everything has moved under a component in a run that a failing neighbour stopped: the state holds it twice."""
    project = new_project(PROGRAM)
    project.up().ok()
    project.edit("parent = None", 'parent = Shop("shop")')
    project.write((project.folder / "__main__.py").read_text() + NEIGHBOUR)
    assert "No such product" in project.up().text
    assert len(project.state()) == 12
    project.edit(NEIGHBOUR, "")
    return project


def test_what_a_stopped_run_moved_stays_in_the_next(moved: Project) -> None:
    done = moved.up().ok()
    assert "6 deleted" in done.stdout
    assert "stays in Stripe; 'acme' still holds it" in done.text
    assert_all_there(moved)
    assert len(moved.state()) == 6
    moved.run("preview", "--expect-no-changes").ok()
    moved.refresh("--expect-no-changes").ok()


def test_what_a_stopped_run_moved_stays_when_only_the_old_ones_are_deleted(moved: Project) -> None:
    """No program runs, and nothing else is compared: the state says who else holds each object."""
    old = [each["urn"] for each in moved.state() if "Shop$" not in each["urn"]]
    done = moved.destroy(*(part for urn in old for part in ("--target", urn))).ok()
    assert "another resource of this stack still holds it" in done.text
    assert_all_there(moved)
    # A whole destroy deletes each object with its last holder.
    moved.destroy().ok()
    assert moved.client.v1.customers.list().data == []
    assert moved.client.v1.subscriptions.list().data == []


def test_a_whole_destroy_deletes_what_two_resources_hold(moved: Project) -> None:
    moved.destroy().ok()
    client = moved.client.v1
    assert client.customers.list().data == []
    assert client.subscriptions.list().data == []
    assert client.prices.list({"active": True}).data == []
    assert [meter.status for meter in client.billing.meters.list().data] == ["inactive"]


def test_a_replacement_that_the_engine_asks_for_deletes_the_old_one(new_project: Callable[..., Project]) -> None:
    """The provider's own diff calls it an update, and the object its own: only the second check says otherwise."""
    project = new_project(PROGRAM)
    project.up().ok()
    [before] = project.client.v1.subscriptions.list().data
    project.edit(
        "days_until_due=30, opts=opts",
        "days_until_due=30, description='x', opts=pulumi.ResourceOptions(replace_on_changes=['description'])",
    )
    project.up().ok()
    [after] = project.client.v1.subscriptions.list().data
    assert after.id != before.id
    # Asked for by name, it is taken over, and stays.
    urn = next(each["urn"] for each in project.state() if each["type"].endswith(":Customer"))
    project.up("--replace", urn).ok()
    assert_all_there(project)
