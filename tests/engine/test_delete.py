"""Deletes, kind by kind: what `destroy` and removing a resource from the program do in Stripe, and what they print.

Stripe deletes few things for good. What it keeps is named in the output; nothing goes on billing in silence.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import stripe

from sandbox.client import SandboxHTTPClient
from sandbox.server import serving
from tests.engine.conftest import Project, Result
from tests.engine.support import IMPORTS, Log, ids, no_changes, sandbox_of

NewProject = Callable[..., Project]

KINDS = "Meter|Product|DefaultPrice|Price|Customer|Subscription"


def said(result: Result) -> list[str]:
    """What the providers said, without ids and each line once: what stays, what cannot be undone."""
    found = re.findall(rf"(?<!error: )\b((?:{KINDS}) '[^']+'(?: \(\w+\))?: .*)", result.text)
    return sorted({re.sub(r"^(\w+ '[^']+') \(\w+\)", r"\1", line) for line in found})


def is_deleted(client: stripe.StripeClient, id_: str) -> bool:
    """Whether a product or customer is permanently deleted."""
    service = client.v1.customers if id_.startswith("cus_") else client.v1.products
    try:
        return bool(service.retrieve(id_).to_dict().get("deleted"))
    except stripe.InvalidRequestError as error:
        return error.code == "resource_missing"


EVERYTHING = f"""{IMPORTS}
meter = Meter("tokens", display_name="Tokens", event_name="tokens", default_aggregation={{"formula": "sum"}})
product = Product("sold", name="Basic")
Product("bare", name="Never had a price")
seat = Price(
    "seat",
    product=product.id,
    currency="usd",
    unit_amount=1000,
    lookup_key="basic:seat",
    recurring={{"interval": "month"}},
)
usage = Price(
    "usage",
    product=product.id,
    currency="usd",
    unit_amount_decimal="0.04",
    recurring={{"interval": "month", "usage_type": "metered", "meter": meter.id}},
)
DefaultPrice("link", product=product.id, price=seat.id)
customer = Customer("ada", name="Ada")
Subscription(
    "ada",
    customer=customer.id,
    collection_method="send_invoice",
    days_until_due=30,
    items={{"seat": {{"price": seat.id, "quantity": 3}}, "usage": {{"price": usage.id}}}},
)
"""


def test_destroy_leaves_nothing_that_bills_and_names_what_stays(new_project: NewProject) -> None:
    project = new_project(EVERYTHING)
    project.up().ok()
    known, client = ids(project), project.client
    log = Log(project)
    destroyed = project.destroy().ok()
    calls = log.calls()
    assert ids(project) == {}

    assert said(destroyed) == [
        "Meter 'tokens': deactivated; Stripe keeps it and its usage",
        "Price 'seat': archived; Stripe keeps it, and subscriptions on it go on",
        "Price 'usage': archived; Stripe keeps it, and subscriptions on it go on",
        "Product 'sold': archived; Stripe cannot delete a product that has had prices",
    ]
    for name in ("Meter tokens", "Price seat", "Price usage", "Product sold"):
        assert f"({known[name]})" in destroyed.text
    assert client.v1.subscriptions.retrieve(known["Subscription ada"]).status == "canceled"
    assert is_deleted(client, known["Customer ada"])
    assert is_deleted(client, known["Product bare"])
    product = client.v1.products.retrieve(known["Product sold"])
    assert (product.active, product.default_price) == (False, None)
    for name in ("seat", "usage"):
        price = client.v1.prices.retrieve(known[f"Price {name}"])
        assert (price.active, price.lookup_key) == (False, None)
    assert client.v1.billing.meters.retrieve(known["Meter tokens"]).status == "inactive"

    # The order: nobody is subscribed any more when the prices go, and the default price is let go before its price.
    writes = [(call.route, call.path.rpartition("/")[2]) for call in calls if not call.route.startswith("GET")]
    cancelled = writes.index(("DELETE /v1/subscriptions/*", known["Subscription ada"]))
    unlinked = writes.index(("POST /v1/products/*", known["Product sold"]))
    archived = writes.index(("POST /v1/prices/*", known["Price seat"]))
    assert cancelled < archived
    assert unlinked < archived
    assert not [call for call in calls if call.status >= 400]

    # Made again: the meter is the old one, reactivated; nothing is there twice.
    again = project.up().ok()
    assert "Meter 'tokens': reactivated" in said(again)
    now = ids(project)
    assert now["Meter tokens"] == known["Meter tokens"]
    assert not (set(now.values()) - {now["Meter tokens"]}) & set(known.values())
    assert client.v1.prices.retrieve(now["Price seat"]).lookup_key == "basic:seat"
    assert len(client.v1.billing.meters.list().data) == 1
    assert len(client.v1.subscriptions.list().data) == 1
    no_changes(project)


def test_deleting_what_is_already_gone_succeeds(new_project: NewProject) -> None:
    project = new_project(EVERYTHING)
    project.up().ok()
    known, client = ids(project), project.client.v1
    other = client.prices.create({"product": known["Product sold"], "currency": "usd", "unit_amount": 5})
    client.subscriptions.cancel(known["Subscription ada"])
    client.customers.delete(known["Customer ada"])
    client.billing.meters.deactivate(known["Meter tokens"])
    client.products.delete(known["Product bare"])
    client.products.update(known["Product sold"], {"default_price": other.id, "active": False})
    client.prices.update(known["Price seat"], {"active": False})

    destroyed = project.destroy().ok()
    assert ids(project) == {}
    assert "Traceback" not in destroyed.text
    # The default price is somebody else's choice by now.
    assert client.products.retrieve(known["Product sold"]).default_price == other.id
    assert client.prices.retrieve(other.id).active


CANCELLED = f"""{IMPORTS}
meter = Meter("tokens", display_name="Tokens", event_name="tokens", default_aggregation={{"formula": "sum"}})
product = Product("product", name="Basic")
seat = Price("seat", product=product.id, currency="usd", unit_amount=1000, recurring={{"interval": "month"}})
usage = Price(
    "usage",
    product=product.id,
    currency="usd",
    unit_amount=2,
    recurring={{"interval": "month", "usage_type": "metered", "meter": meter.id}},
)
cancels = {{
    "default": None,
    "invoiced": {{"when": "now", "invoice_now": True}},
    "uninvoiced": {{"invoice_now": False, "comment": "Went bankrupt"}},
    "credited": {{"invoice_now": True, "prorate": True}},
    "ending": {{"when": "period_end"}},
}}
kept = list(cancels)
for name in cancels:
    customer = Customer(name, name=name)
    if name in kept:
        Subscription(
            name,
            customer=customer.id,
            collection_method="send_invoice",
            days_until_due=30,
            cancel=cancels[name],
            items={{"seat": {{"price": seat.id, "quantity": 3}}, "usage": {{"price": usage.id}}}},
        )
"""


def test_a_subscription_ends_as_declared(new_project: NewProject) -> None:
    project = new_project(CANCELLED)
    project.up().ok()
    known, client = ids(project), project.client.v1
    names = ("default", "invoiced", "uninvoiced", "credited", "ending")
    for name in names:
        client.billing.meter_events.create(
            {
                "event_name": "tokens",
                "payload": {"stripe_customer_id": known[f"Customer {name}"], "value": "50"},
                "identifier": name,
            }
        )
    before = {name: client.subscriptions.retrieve(known[f"Subscription {name}"]).latest_invoice for name in names}

    # How each ends is in the preview of taking it out.
    project.edit("kept = list(cancels)", "kept = []")
    preview = project.preview("--diff").ok().text
    assert re.search(r"invoice_now: false", preview)
    assert re.search(r'when\s*: "period_end"', preview)

    log = Log(project)
    removed = project.up().ok()
    cancels = {
        call.path.rpartition("/")[2]: (call.params.get("invoice_now"), call.params.get("prorate"))
        for call in log.calls()
        if call.route == "DELETE /v1/subscriptions/*"
    }
    assert cancels == {
        known["Subscription default"]: ("true", "false"),
        known["Subscription invoiced"]: ("true", "false"),
        known["Subscription uninvoiced"]: ("false", "false"),
        known["Subscription credited"]: ("true", "true"),
    }
    ended = {name: client.subscriptions.retrieve(known[f"Subscription {name}"]) for name in names}
    assert {name: each.status for name, each in ended.items()} == {
        **dict.fromkeys(names, "canceled"),
        "ending": "active",
    }
    # The usage until now, 50 tokens at 0.02, is on a last invoice; unless declared otherwise.
    for name in ("default", "invoiced"):
        assert ended[name].latest_invoice != before[name]
        assert client.invoices.retrieve(str(ended[name].latest_invoice)).total == 100
    assert ended["uninvoiced"].latest_invoice == before["uninvoiced"]
    details = ended["uninvoiced"].cancellation_details
    assert details is not None
    assert details.comment == "Went bankrupt"
    # The three seats are given back, but for the seconds that they were there.
    credit = client.invoices.retrieve(str(ended["credited"].latest_invoice)).total
    assert -3000 <= credit - 100 <= -2990
    assert ended["ending"].cancel_at_period_end
    assert ended["ending"].latest_invoice == before["ending"]
    assert "Subscription 'ending': ends with its current period" in said(removed)
    no_changes(project)


def test_a_customer_stays_while_a_subscription_goes_on_to_its_end(new_project: NewProject) -> None:
    """A deleted customer would take a subscription along at once that was to end with its period."""
    project = new_project(EVERYTHING.replace("days_until_due=30,", 'days_until_due=30, cancel={"when": "period_end"},'))
    project.up().ok()
    known, client = ids(project), project.client.v1
    destroyed = project.destroy().ok()
    subscription = client.subscriptions.retrieve(known["Subscription ada"])
    assert (subscription.status, subscription.cancel_at_period_end) == ("active", True)
    assert not is_deleted(project.client, known["Customer ada"])
    assert "Subscription 'ada': ends with its current period" in said(destroyed)
    assert (
        f"Customer 'ada': stays in Stripe until {subscription.id} ends with its period; delete it in Stripe after that"
    ) in said(destroyed)
    assert not client.prices.retrieve(known["Price seat"]).active

    # Declared again before that, both are taken over and go on.
    project.up().ok()
    for name in ("Customer ada", "Subscription ada"):
        assert ids(project)[name] == known[name]
    subscription = client.subscriptions.retrieve(known["Subscription ada"])
    assert (subscription.status, subscription.cancel_at_period_end) == ("active", False)
    seat = ids(project)["Price seat"]
    assert seat in {item.price.id for item in subscription["items"].data}
    assert seat != known["Price seat"]
    no_changes(project)


MOVED = f"""{IMPORTS}
product = Product("product", name="Basic")
seat = Price("seat", product=product.id, currency="usd", unit_amount=1000, recurring={{"interval": "month"}})
customers = [Customer("ada", name="Ada"), Customer("bob", name="Bob")]
Subscription(
    "moved",
    customer=customers[0].id,
    collection_method="send_invoice",
    days_until_due=30,
    cancel={{"when": "period_end"}},
    items={{"seat": {{"price": seat.id, "quantity": 3}}}},
)
"""


def test_a_replaced_subscription_is_cancelled_before_the_new_one_bills(new_project: NewProject) -> None:
    project = new_project(MOVED)
    project.up().ok()
    known, client = ids(project), project.client.v1
    old = known["Subscription moved"]
    project.edit("customer=customers[0].id", "customer=customers[1].id")
    preview = project.preview().ok()
    assert said(preview) == [
        (
            "Subscription 'moved': is cancelled now (with a final invoice for its usage, unused time is not credited) "
            "and a new subscription is created, with a billing period of its own (30.00 USD a month); "
            "this cannot be undone"
        )
    ]

    log = Log(project)
    project.up().ok()
    writes = [call.route for call in log.calls() if call.route.startswith(("POST /v1/sub", "DELETE /v1/sub"))]
    assert writes == ["DELETE /v1/subscriptions/*", "POST /v1/subscriptions"]
    new = ids(project)["Subscription moved"]
    assert client.subscriptions.retrieve(old).status == "canceled"
    assert [each.id for each in client.subscriptions.list().data] == [new]
    assert client.subscriptions.retrieve(new).customer == known["Customer bob"]
    no_changes(project)


METERS = f"""{IMPORTS}
Meter("same-name", display_name="Tokens", event_name="tokens", default_aggregation={{"formula": "sum"}})
Meter("new-name", display_name="Calls", event_name="calls", default_aggregation={{"formula": "sum"}})
Meter("gone", display_name="Gone", event_name="gone", default_aggregation={{"formula": "sum"}})
"""


def test_meters_are_replaced_and_come_back(new_project: NewProject) -> None:
    project = new_project(METERS)
    project.up().ok()
    known, meters = ids(project), project.client.v1.billing.meters
    program = (project.folder / "__main__.py").read_text()
    changed = program.replace(
        'event_name="tokens", default_aggregation={"formula": "sum"}',
        'event_name="tokens", default_aggregation={"formula": "count"}',
    ).replace('event_name="calls"', 'event_name="api_calls"')
    project.write(changed[: changed.index('Meter("gone"')])

    # Two active meters cannot share an event name: with the same name the old one goes first, else it goes last.
    log = Log(project)
    replaced = project.up().ok()
    writes = [
        (call.route, call.params.get("event_name") or call.path.split("/")[-2])
        for call in log.calls()
        if call.route.startswith("POST")
    ]
    assert writes.index(("POST /v1/billing/meters/*/deactivate", known["Meter same-name"])) < writes.index(
        ("POST /v1/billing/meters", "tokens")
    )
    assert writes.index(("POST /v1/billing/meters", "api_calls")) < writes.index(
        ("POST /v1/billing/meters/*/deactivate", known["Meter new-name"])
    )
    assert "Meter 'gone': deactivated; Stripe keeps it and its usage" in said(replaced)
    active = {meter.event_name: meter.id for meter in meters.list({"status": "active"}).data}
    assert active == {"tokens": ids(project)["Meter same-name"], "api_calls": ids(project)["Meter new-name"]}

    # Back to what was: the first meters are there still, and have the shape that is declared. Of another shape under
    # a name that only an inactive meter has, a new meter is made, and it is said what differs.
    program = program.replace('event_name="gone", default_aggregation={"formula": "sum"}', OTHER_SHAPE)
    project.write(program)
    back = project.up().ok()
    now = ids(project)
    gone = known.pop("Meter gone")
    assert now.pop("Meter gone") != gone
    assert now == known
    assert len(meters.list({"status": "active"}).data) == 3
    assert (
        f"Meter 'gone': a new meter is created; the inactive {gone} with that event_name has default_aggregation "
        "{'formula': 'sum'} (declared: {'formula': 'last'})"
    ) in said(back)
    no_changes(project)

    # Under a name that somebody else's active meter has: refused, with what differs.
    taken = meters.create({"display_name": "Mine", "event_name": "taken", "default_aggregation": {"formula": "sum"}})
    project.write(
        program + 'Meter("taken", display_name="Taken", event_name="taken", default_aggregation={"formula": "count"})\n'
    )
    refused = project.up()
    assert refused.code != 0
    assert (
        f"Meter 'taken': event_name 'taken' belongs to the active meter {taken.id}, which has default_aggregation "
        "{'formula': 'sum'} (declared: {'formula': 'count'}); deactivate that meter or use another event_name"
    ) in refused.text


OTHER_SHAPE = 'event_name="gone", default_aggregation={"formula": "last"}'

REMOVED = f"""{IMPORTS}
for name in ("linked", "unlinked", "chosen"):
    product = Product(name, name="Basic")
    price = Price(name, product=product.id, currency="usd", unit_amount=1000, lookup_key=name)
    if name == "linked":
        DefaultPrice(name, product=product.id, price=price.id)
    if name == "unlinked":
        DefaultPrice(name, product=product.id, price=price.id)
Customer("deleted", name="Ada")
Customer("kept", name="Bob", on_delete="keep")
"""


def test_taking_one_resource_out(new_project: NewProject) -> None:
    project = new_project(REMOVED)
    project.up().ok()
    known, client = ids(project), project.client.v1
    client.products.update(known["Product chosen"], {"default_price": known["Price chosen"]})

    # The link alone; a price that is its product's default by somebody's choice in the dashboard; customers.
    project.write(
        REMOVED.replace('if name == "unlinked":', "if False:")
        .replace("    price = Price(", '    price = name != "chosen" and Price(')
        .partition("Customer(")[0]
    )
    removed = project.up().ok()
    assert set(known) - set(ids(project)) == {
        "DefaultPrice unlinked",
        "Price chosen",
        "Customer deleted",
        "Customer kept",
    }
    assert client.products.retrieve(known["Product linked"]).default_price == known["Price linked"]
    assert client.products.retrieve(known["Product unlinked"]).default_price is None
    assert client.prices.retrieve(known["Price unlinked"]).active
    assert client.products.retrieve(known["Product chosen"]).default_price is None
    assert not client.prices.retrieve(known["Price chosen"]).active
    assert is_deleted(project.client, known["Customer deleted"])
    assert not is_deleted(project.client, known["Customer kept"])
    assert said(removed) == [
        "Customer 'kept': stays in Stripe (on_delete=keep)",
        "Price 'chosen': archived; Stripe keeps it, and subscriptions on it go on",
        f"Price 'chosen': was the default price of {known['Product chosen']}, which now has none",
    ]
    no_changes(project)


LIVE = f"""{IMPORTS}
Customer("default", name="Ada")
Customer("declared", name="Bob", on_delete="delete")
"""


def test_a_live_stack_keeps_its_customers_unless_the_program_says_otherwise(new_project: NewProject) -> None:
    project = new_project(LIVE, mode="live")
    with serving(sandbox_of(project)) as server:
        project.config("stripe-pricing:apiBase", server.url)
        environ = {"STRIPE_API_KEY": "sk_live_test"}
        live = stripe.StripeClient("sk_live_test", http_client=SandboxHTTPClient(server.sandbox))
        project.up(env=environ).ok()
        known = ids(project)
        assert live.v1.customers.retrieve(known["Customer default"]).livemode
        # Which of the two it will be stands in the preview.
        preview = project.run("destroy", "--preview-only", "--diff", "--suppress-progress", env=environ).ok().text
        assert sorted(re.findall(r'on_delete *: "(\w+)"', preview)) == ["delete", "keep"]
        destroyed = project.destroy(env=environ).ok()
    assert said(destroyed) == ["Customer 'default': stays in Stripe (on_delete=keep)"]
    assert not is_deleted(live, known["Customer default"])
    assert is_deleted(live, known["Customer declared"])
    assert ids(project) == {}
