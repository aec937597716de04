"""Replacing a price: its lookup key always finds the price on sale, and is only taken from our own prices."""

from __future__ import annotations

from collections.abc import Callable

from tests.engine.conftest import Project
from tests.engine.support import IMPORTS, Call, Log, control, ids, no_changes

NewProject = Callable[..., Project]

SOLD = f"""{IMPORTS}
product = Product("product", name="Basic")
seat = Price(
    "seat",
    product=product.id,
    currency="usd",
    unit_amount=1000,
    lookup_key="basic:seat",
    recurring={{"interval": "month"}},
)
DefaultPrice("seat", product=product.id, price=seat.id)
customer = Customer("ada", name="Ada")
Subscription(
    "ada",
    customer=customer.id,
    collection_method="send_invoice",
    days_until_due=30,
    items={{"seat": {{"price": seat.id, "quantity": 3}}}},
)
"""


def writes(log: Log) -> list[Call]:
    """What changed something, in order."""
    return [call for call in log.calls() if not call.route.startswith("GET") and call.status < 400]


def test_the_old_price_is_archived_last(new_project: NewProject) -> None:
    project = new_project(SOLD)
    project.up().ok()
    known, client = ids(project), project.client.v1
    old = known["Price seat"]
    project.edit("unit_amount=1000", "unit_amount=1200")

    # The archiving fails, after everything else: what is on sale is the new price already, and the next run archives.
    control(project, "POST", "faults", method="POST", path=f"/v1/prices/{old}", status=400, message="Not today.")
    log = Log(project)
    failed = project.up()
    assert failed.code != 0
    assert "Price 'seat'" in failed.text
    assert "Not today." in failed.text
    new = ids(project)["Price seat"]
    assert new != old
    assert client.prices.retrieve(old).active
    made, *rest = writes(log)
    assert made.route == "POST /v1/prices"
    assert (made.params["lookup_key"], made.params["transfer_lookup_key"]) == ("basic:seat", "true")
    assert sorted(call.route for call in rest) == ["POST /v1/products/*", "POST /v1/subscriptions/*"]
    assert [price.id for price in client.prices.list({"lookup_keys": ["basic:seat"]}).data] == [new]

    log = Log(project)
    project.up().ok()
    assert [(call.path, call.params["active"]) for call in writes(log)] == [(f"/v1/prices/{old}", "false")]
    assert not client.prices.retrieve(old).active
    assert [price.id for price in client.prices.list({"lookup_keys": ["basic:seat"]}).data] == [new]
    assert len(client.prices.list().data) == 2
    items = client.subscriptions.retrieve(known["Subscription ada"])["items"].data
    assert [item.price.id for item in items] == [new]
    no_changes(project)

    # Undisturbed it is one `up`, in the same order: made, moved to, archived.
    project.edit("unit_amount=1200", "unit_amount=1500")
    log = Log(project)
    project.up().ok()
    routes = [call.route for call in writes(log)]
    assert routes[0] == "POST /v1/prices"
    assert routes[-1] == "POST /v1/prices/*"
    assert sorted(routes[1:-1]) == ["POST /v1/products/*", "POST /v1/subscriptions/*"]
    assert not client.prices.retrieve(new).active


OFFER = f"""{IMPORTS}
product = Product("product", name="Basic")
Price("seat-v1", product=product.id, currency="usd", unit_amount=1000, lookup_key="basic:seat")
"""

#: The old version depends on the new one, so that it lets go of the key after the new one has taken it.
NEXT_OFFER = f"""import pulumi
{IMPORTS}
product = Product("product", name="Basic")
v2 = Price("seat-v2", product=product.id, currency="usd", unit_amount=1200, lookup_key="basic:seat")
v1_opts = pulumi.ResourceOptions(depends_on=[v2])
Price("seat-v1", product=product.id, currency="usd", unit_amount=1000, opts=v1_opts)
"""


def test_a_lookup_key_moves_to_the_version_on_offer_and_never_from_another_stack(new_project: NewProject) -> None:
    project = new_project(OFFER)
    project.up().ok()
    known, prices = ids(project), project.client.v1.prices

    # Another stack on the same account wants the key: refused, even if it allows itself a transfer.
    other = new_project(OFFER.replace("lookup_key=", "transfer_lookup_key=True, lookup_key="), stack="staging")
    other.environ["STRIPE_SANDBOX_FILE"] = str(project.sandbox_file)
    log = Log(project)
    refused = other.up()
    assert refused.code != 0
    assert (
        f"Price 'seat-v1': lookup_key 'basic:seat' belongs to {known['Price seat-v1']}, which "
        "stripe-pricing/dev/seat-v1 created"
    ) in refused.text
    assert "Traceback" not in refused.text
    assert not [call for call in log.calls() if "transfer_lookup_key" in call.params]
    assert prices.retrieve(known["Price seat-v1"]).lookup_key == "basic:seat"

    # A new version of this stack takes it over; the old one stays as it is, without the key.
    project.write(NEXT_OFFER)
    log = Log(project)
    project.up().ok()
    first_write = writes(log)[0]
    assert first_write.route == "POST /v1/prices"
    assert (first_write.params["lookup_key"], first_write.params["transfer_lookup_key"]) == ("basic:seat", "true")
    now = ids(project)
    assert now["Price seat-v1"] == known["Price seat-v1"]
    first, second = (prices.retrieve(now[f"Price seat-{version}"]) for version in ("v1", "v2"))
    assert (first.lookup_key, first.active) == (None, True)
    assert (second.lookup_key, second.active) == ("basic:seat", True)
    no_changes(project)
