"""The way back from a run without a preview that was refused in the middle, with the real engine's own state.

tests/components/test_ways_back.py takes every kind of refusal without an engine.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.engine.conftest import Project
from tests.engine.support import IMPORTS, ids, no_changes, operations

PROGRAM = f"""{IMPORTS}
meter = Meter("tokens", display_name="Tokens", event_name="tokens", default_aggregation={{"formula": "sum"}})
product = Product("pro", name="Pro")
recurring = {{"interval": "month", "usage_type": "metered", "meter": meter.id}}
usage = Price(
    "usage", product=product.id, currency="usd", unit_amount_decimal="4", lookup_key="usage", recurring=recurring
)
acme = Customer("acme", name="Acme", email="billing@example.com")
Subscription(
    "acme", customer=acme.id, items={{"usage": {{"price": usage.id}}}}, HOW, collection_method="send_invoice",
    days_until_due=30,
)
"""
REFUSED = "which Stripe does not bill the usage of this period once the item is moved to another price"


@pytest.mark.parametrize(
    ("how", "refreshes"), [('billing_mode={"type": "classic"}', False), ('proration_behavior="none"', True)]
)
def test_a_rate_that_was_refused_is_taken_back_and_the_preview_passes(
    new_project: Callable[..., Project], how: str, refreshes: bool
) -> None:
    project = new_project(PROGRAM.replace("HOW", how))
    project.up().ok()
    known = ids(project)
    project.edit('unit_amount_decimal="4"', 'unit_amount_decimal="5"')
    for refused in (project.preview(), project.up()):
        assert refused.code == 1
        assert REFUSED in refused.text
    # The new price is made, and the old one is not archived yet: the item is still on it.
    prices = project.client.v1.prices
    assert {price.unit_amount: price.active for price in prices.list().data} == {4: True, 5: True}
    if refreshes:
        project.refresh().ok()
    assert REFUSED in project.preview().text

    project.edit('unit_amount_decimal="5"', 'unit_amount_decimal="4"')
    assert operations(project).keys() == {"Price usage", "Subscription acme"}
    # Of the selected stack, which nothing names.
    preview = project.pulumi("preview", "--suppress-progress").ok()
    assert "item usage" not in preview.text
    assert "cannot be read" not in preview.text
    project.up().ok()

    assert ids(project) == known
    [item] = project.client.v1.subscription_items.list({"subscription": known["Subscription acme"]}).data
    assert item.price.id == known["Price usage"]
    assert {price.unit_amount: price.active for price in prices.list().data} == {4: True, 5: False}
    assert prices.retrieve(item.price.id).lookup_key == "usage"
    no_changes(project)
