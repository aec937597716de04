"""Drift, kind by kind: what happens behind the engine's back shows in `pulumi refresh`, and the next `up` undoes it.

Each test declares one resource for each thing that can happen, lets it all happen, and reads what a person would
read. Fields that the program never declared, and metadata of others, are left alone throughout.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

from tests.engine.conftest import Project
from tests.engine.support import IMPORTS, Log, control, ids, no_changes, operations, shown

NewProject = Callable[..., Project]


def refreshed(project: Project) -> dict[str, list[str]]:
    """What a refresh shows of each resource that is not as the state has it.

    Of one that is gone the engine prints everything it was; here the operation is enough.
    """
    found = shown(project.refresh("--diff").ok().text)
    return {name: lines[:1] if lines[0] == "delete" else lines for name, lines in found.items()}


def put_right(project: Project) -> None:
    """One `up`, after which program, state and Stripe agree."""
    project.up().ok()
    assert refreshed(project) == {}
    no_changes(project)


METERS = f"""{IMPORTS}
def meter(name, **more):
    return Meter(name, display_name="Tokens", event_name=name, default_aggregation={{"formula": "sum"}}, **more)

meter("untouched"), meter("renamed"), meter("deactivated"), meter("off", active=False), meter("remade")
"""


def test_meters(new_project: NewProject) -> None:
    project = new_project(METERS)
    project.up().ok()
    known, meters = ids(project), project.client.v1.billing.meters
    meters.update(known["Meter renamed"], {"display_name": "Renamed in the dashboard"})
    meters.deactivate(known["Meter deactivated"])
    meters.reactivate(known["Meter off"])
    meters.deactivate(known["Meter remade"])
    intruder = meters.create(
        {"display_name": "Mine", "event_name": "remade", "default_aggregation": {"formula": "count"}}
    )

    assert refreshed(project) == {
        "Meter renamed": ["update", '~ display_name: "Tokens" => "Renamed in the dashboard"'],
        "Meter deactivated": ["update", "+ active: false"],
        "Meter off": ["update", "~ active: false => true"],
        "Meter remade": ["update", "+ active: false"],
    }

    # An event name has one active meter: while somebody else's is there, ours cannot come back, and says why.
    blocked = project.up()
    assert blocked.code != 0
    assert "Meter 'remade'" in blocked.text
    assert "An active meter already exists for event name 'remade'" in blocked.text
    assert "Traceback" not in blocked.text
    meters.deactivate(intruder.id)

    put_right(project)
    assert ids(project) == known
    assert meters.retrieve(known["Meter renamed"]).display_name == "Tokens"
    status = {meter.event_name: meter.status for meter in meters.list({"status": "active"}).data}
    assert status == dict.fromkeys(("untouched", "renamed", "deactivated", "remade"), "active")


PRODUCTS = f"""{IMPORTS}
for name in ("untouched", "renamed", "retagged", "archived", "deleted"):
    Product(name, name="Basic", metadata={{"team": "growth"}}, unit_label="token")
Product("off", name="Basic", active=False)
Product("remade", id="basic-plan", name="Basic")
"""


def test_products(new_project: NewProject) -> None:
    project = new_project(PRODUCTS)
    project.up().ok()
    known, products = ids(project), project.client.v1.products
    for name in ("untouched", "renamed"):
        products.update(
            known[f"Product {name}"], {"description": "Written in the dashboard", "metadata": {"campaign": "spring"}}
        )
    products.update(known["Product renamed"], {"name": "Renamed in the dashboard", "unit_label": ""})
    products.update(known["Product retagged"], {"metadata": {"team": "sales", "pulumi": ""}})
    products.update(known["Product archived"], {"active": False})
    products.update(known["Product off"], {"active": True})
    products.delete(known["Product deleted"])
    products.delete("basic-plan")
    products.create({"id": "basic-plan", "name": "Made in the dashboard"})

    assert refreshed(project) == {
        "Product renamed": [
            "update",
            '~ name: "Basic" => "Renamed in the dashboard"',
            '- unit_label: "token"',
        ],
        "Product retagged": [
            "update",
            "~ metadata: {",
            '~ team: "growth" => "sales"',
            "}",
            '- owner: "stripe-pricing/dev/retagged"',
        ],
        "Product archived": ["update", "+ active: false"],
        "Product off": ["update", "~ active: false => true"],
        "Product deleted": ["delete"],
        "Product remade": [
            "update",
            '~ name: "Basic" => "Made in the dashboard"',
            '- owner: "stripe-pricing/dev/remade"',
        ],
    }

    put_right(project)
    assert ids(project).pop("Product deleted") != known.pop("Product deleted")
    assert known.items() <= ids(project).items()
    for name in ("untouched", "renamed"):
        product = products.retrieve(known[f"Product {name}"])
        assert (product.name, product.unit_label, product.active) == ("Basic", "token", True)
        assert product.description == "Written in the dashboard"
        assert product.metadata.to_dict() == {
            "pulumi": f"stripe-pricing/dev/{name}",
            "team": "growth",
            "campaign": "spring",
        }
    assert products.retrieve(known["Product retagged"]).metadata.to_dict() == {
        "pulumi": "stripe-pricing/dev/retagged",
        "team": "growth",
    }
    assert products.retrieve(known["Product archived"]).active
    assert not products.retrieve(known["Product off"]).active
    assert products.retrieve("basic-plan").name == "Basic"


PRICES = f"""{IMPORTS}
product = Product("product", name="Basic")

def price(name, **more):
    return Price(name, product=product.id, currency="usd", recurring={{"interval": "month"}}, **more)

price("untouched", unit_amount=1000, nickname="Seat")
price("renamed", unit_amount_decimal="0.123456789012", nickname="Seat", metadata={{"team": "growth"}})
price("archived", unit_amount=1000)
price("off", unit_amount=1000, active=False)
price("unlocked", unit_amount=1000, lookup_key="basic:unlocked")
price("relocked", unit_amount=1000, lookup_key="basic:relocked")
price("robbed", unit_amount=1000, lookup_key="basic:robbed")
price(
    "tiered",
    billing_scheme="tiered",
    tiers_mode="graduated",
    tiers=[{{"up_to": 1000, "unit_amount_decimal": "0"}}, {{"up_to": "inf", "unit_amount_decimal": "0.04"}}],
)
price("euro", unit_amount=1000, currency_options={{"eur": {{"unit_amount": 900}}, "gbp": {{"unit_amount": 800}}}})
"""


def test_prices(new_project: NewProject) -> None:
    project = new_project(PRICES)
    project.up().ok()
    known, prices = ids(project), project.client.v1.prices
    prices.update(known["Price untouched"], {"metadata": {"campaign": "spring"}, "lookup_key": "of-the-dashboard"})
    prices.update(known["Price renamed"], {"nickname": "Chair", "metadata": {"team": "sales"}})
    prices.update(known["Price archived"], {"active": False})
    prices.update(known["Price off"], {"active": True})
    prices.update(known["Price unlocked"], {"lookup_key": ""})
    prices.update(known["Price relocked"], {"lookup_key": "another-key"})
    prices.update(
        known["Price euro"], {"currency_options": {"eur": {"unit_amount": 950}, "jpy": {"unit_amount": 1500}}}
    )
    robber = prices.create(
        {
            "product": known["Product product"],
            "currency": "usd",
            "unit_amount": 5,
            "recurring": {"interval": "month"},
            "lookup_key": "basic:robbed",
            "transfer_lookup_key": True,
        }
    )

    assert refreshed(project) == {
        "Price renamed": [
            "update",
            "~ metadata: {",
            '~ team: "growth" => "sales"',
            "}",
            '~ nickname: "Seat" => "Chair"',
        ],
        "Price archived": ["update", "+ active: false"],
        "Price off": ["update", "~ active: false => true"],
        "Price unlocked": ["update", '- lookup_key: "basic:unlocked"'],
        "Price relocked": ["update", '~ lookup_key: "basic:relocked" => "another-key"'],
        "Price robbed": ["update", '- lookup_key: "basic:robbed"'],
        "Price euro": [
            "update",
            "~ currency_options: {",
            "~ eur: {",
            "~ unit_amount: 900 => 950",
            "}",
            "}",
        ],
    }

    # The lookup key of a price that nobody's program made is not taken without being asked.
    refused = project.up()
    assert refused.code != 0
    assert (
        f"Price 'robbed': lookup_key 'basic:robbed' belongs to {robber.id}, which no program created; "
        "transfer_lookup_key=True takes the key from it"
    ) in refused.text
    assert "Traceback" not in refused.text
    assert prices.retrieve(robber.id).lookup_key == "basic:robbed"
    project.edit('lookup_key="basic:robbed"', 'lookup_key="basic:robbed", transfer_lookup_key=True')

    put_right(project)
    assert ids(project) == known
    untouched = prices.retrieve(known["Price untouched"])
    assert (untouched.lookup_key, untouched.metadata["campaign"]) == ("of-the-dashboard", "spring")
    renamed = prices.retrieve(known["Price renamed"])
    assert (renamed.nickname, renamed.metadata["team"]) == ("Seat", "growth")
    assert str(renamed.unit_amount_decimal) == "0.123456789012"
    assert prices.retrieve(known["Price archived"]).active
    assert not prices.retrieve(known["Price off"]).active
    for name in ("unlocked", "relocked", "robbed"):
        assert prices.retrieve(known[f"Price {name}"]).lookup_key == f"basic:{name}"
    options = prices.retrieve(known["Price euro"], {"expand": ["currency_options"]}).currency_options
    assert options is not None
    assert {code: option["unit_amount"] for code, option in options.to_dict().items()} == {
        "usd": 1000,
        "eur": 900,
        "gbp": 800,
        "jpy": 1500,
    }


DEFAULT_PRICES = f"""{IMPORTS}
for name in ("untouched", "moved", "cleared", "archived"):
    product = Product(name, name="Basic")
    price = Price(name, product=product.id, currency="usd", unit_amount=1000)
    Price(f"{{name}}-other", product=product.id, currency="usd", unit_amount=2000)
    DefaultPrice(name, product=product.id, price=price.id)
"""


def test_default_prices(new_project: NewProject) -> None:
    project = new_project(DEFAULT_PRICES)
    project.up().ok()
    known, products = ids(project), project.client.v1.products
    products.update(known["Product moved"], {"default_price": known["Price moved-other"]})
    products.update(known["Product cleared"], {"default_price": ""})
    products.update(known["Product archived"], {"active": False, "default_price": ""})
    project.client.v1.prices.update(known["Price archived"], {"active": False})

    assert refreshed(project) == {
        "DefaultPrice moved": ["update", f'~ price: "{known["Price moved"]}" => "{known["Price moved-other"]}"'],
        "DefaultPrice cleared": ["delete"],
        "DefaultPrice archived": ["delete"],
        "Product archived": ["update", "+ active: false"],
        "Price archived": ["update", "+ active: false"],
    }

    put_right(project)
    assert ids(project) == known
    for name in ("untouched", "moved", "cleared", "archived"):
        assert products.retrieve(known[f"Product {name}"]).default_price == known[f"Price {name}"]


CUSTOMERS = f"""{IMPORTS}
for name in ("untouched", "edited", "deleted", "remade"):
    Customer(
        name,
        name="Ada",
        email="ada@example.com",
        metadata={{"crm": "1"}},
        invoice_settings={{"footer": "Thank you"}},
        address={{"country": "DE", "city": "Berlin"}},
    )
"""


def test_customers(new_project: NewProject) -> None:
    project = new_project(CUSTOMERS)
    project.up().ok()
    known, customers = ids(project), project.client.v1.customers
    for name in ("untouched", "edited"):
        customers.update(
            known[f"Customer {name}"],
            {
                "phone": "+49 30 1234",
                "metadata": {"segment": "a"},
                "address": {"country": "DE", "city": "Berlin", "line1": "Am Tor 1"},
            },
        )
    customers.update(
        known["Customer edited"],
        {
            "email": "new@example.com",
            "name": "",
            "metadata": {"crm": ""},
            "invoice_settings": {"footer": "Bye"},
            "address": {"country": "DE", "city": "Köln", "line1": "Am Tor 1"},
        },
    )
    for name in ("deleted", "remade"):
        customers.delete(known[f"Customer {name}"])
    stranger = customers.create({"name": "Ada", "email": "ada@example.com"})

    assert refreshed(project) == {
        "Customer edited": [
            "update",
            "~ address: {",
            '~ city: "Berlin" => "Köln"',
            "}",
            '~ email: "ada@example.com" => "new@example.com"',
            "~ invoice_settings: {",
            '~ footer: "Thank you" => "Bye"',
            "}",
            "~ metadata: {",
            '- crm: "1"',
            "}",
            '- name: "Ada"',
        ],
        "Customer deleted": ["delete"],
        "Customer remade": ["delete"],
    }

    put_right(project)
    edited = customers.retrieve(known["Customer edited"])
    assert (edited.name, edited.email, edited.phone) == ("Ada", "ada@example.com", "+49 30 1234")
    assert edited.metadata is not None
    assert edited.metadata.to_dict() == {"pulumi": "stripe-pricing/dev/edited", "crm": "1", "segment": "a"}
    assert edited.address is not None
    assert edited.address.city == "Berlin"
    for name in ("deleted", "remade"):
        again = ids(project)[f"Customer {name}"]
        assert again not in (known[f"Customer {name}"], stranger.id)
        assert customers.retrieve(again).email == "ada@example.com"
    assert "pulumi" not in customers.retrieve(stranger.id).to_dict()["metadata"]


SUBSCRIPTIONS = f"""{IMPORTS}
product = Product("product", name="Basic")
meter = Meter("tokens", display_name="Tokens", event_name="tokens", default_aggregation={{"formula": "sum"}})
seat = Price("seat", product=product.id, currency="usd", unit_amount=1000, recurring={{"interval": "month"}})
gold = Price("gold", product=product.id, currency="usd", unit_amount=9000, recurring={{"interval": "month"}})
usage = Price(
    "usage",
    product=product.id,
    currency="usd",
    unit_amount_decimal="0.04",
    recurring={{"interval": "month", "usage_type": "metered", "meter": meter.id}},
)
customer = Customer("ada", name="Ada")
for name in (
    "untouched", "seats", "added", "removed", "moved", "ending", "paused", "retagged", "cancelled", "remade"
):
    Subscription(
        name,
        customer=customer.id,
        collection_method="send_invoice",
        days_until_due=30,
        metadata={{"crm": "1"}},
        items={{"seat": {{"price": seat.id, "quantity": 3}}, "usage": {{"price": usage.id}}}},
    )
"""


def test_subscriptions(new_project: NewProject) -> None:
    project = new_project(SUBSCRIPTIONS)
    project.up().ok()
    known, client = ids(project), project.client.v1
    seat, gold, usage = (known[f"Price {name}"] for name in ("seat", "gold", "usage"))
    items = {
        name.removeprefix("Subscription "): {
            item.price.id: item.id for item in client.subscriptions.retrieve(id_)["items"].data
        }
        for name, id_ in known.items()
        if name.startswith("Subscription ")
    }

    client.subscriptions.update(
        known["Subscription untouched"], {"metadata": {"segment": "a"}, "description": "Written in the dashboard"}
    )
    client.subscription_items.update(items["seats"][seat], {"quantity": 7})
    added = client.subscription_items.create(
        {"subscription": known["Subscription added"], "price": gold, "quantity": 2}
    )
    client.subscription_items.delete(items["removed"][usage])
    client.subscription_items.update(items["moved"][seat], {"price": gold, "quantity": 3})
    client.subscriptions.update(known["Subscription ending"], {"cancel_at_period_end": True})
    client.subscriptions.update(known["Subscription paused"], {"pause_collection": {"behavior": "void"}})
    client.subscriptions.update(known["Subscription retagged"], {"metadata": {"crm": "2"}, "days_until_due": 10})
    for name in ("cancelled", "remade"):
        client.subscriptions.cancel(known[f"Subscription {name}"])
    stranger = client.subscriptions.create(
        {
            "customer": known["Customer ada"],
            "items": [{"price": seat, "quantity": 3}],
            "collection_method": "send_invoice",
            "days_until_due": 30,
        }
    )

    assert refreshed(project) == {
        "Subscription seats": ["update", "~ items: {", "~ seat: {", "~ quantity: 3 => 7", "}", "}"],
        "Subscription added": [
            "update",
            "~ items: {",
            f"+ {added.id}: {{",
            f'+ price: "{gold}"',
            "+ quantity: 2",
            "}",
            "}",
        ],
        "Subscription removed": ["update", "~ items: {", "- usage: {", f'- price: "{usage}"', "}", "}"],
        "Subscription moved": [
            "update",
            "~ items: {",
            "~ seat: {",
            f'~ price: "{seat}" => "{gold}"',
            "}",
            "}",
        ],
        "Subscription ending": ["update", "+ cancel_at_period_end: true"],
        "Subscription paused": [
            "update",
            "+ pause_collection: {",
            '+ behavior: "void"',
            "}",
        ],
        "Subscription retagged": [
            "update",
            "~ days_until_due: 30 => 10",
            "~ metadata: {",
            '~ crm: "1" => "2"',
            "}",
        ],
        "Subscription cancelled": ["delete"],
        "Subscription remade": ["delete"],
    }

    put_right(project)
    now = ids(project)
    for name in ("untouched", "seats", "added", "removed", "moved", "ending", "paused", "retagged"):
        assert now[f"Subscription {name}"] == known[f"Subscription {name}"]
    for name in items:
        subscription = client.subscriptions.retrieve(now[f"Subscription {name}"])
        assert subscription.status == "active", name
        quantities = {item["price"]["id"]: item.get("quantity") for item in subscription.to_dict()["items"]["data"]}
        assert quantities == {seat: 3, usage: None}
        assert subscription.metadata["crm"] == "1"
        assert not subscription.cancel_at_period_end
        assert subscription.pause_collection is None
        assert subscription.days_until_due == 30
    untouched = client.subscriptions.retrieve(known["Subscription untouched"])
    assert (untouched.description, untouched.metadata["segment"]) == ("Written in the dashboard", "a")
    # Those made again are new ones; the one that somebody else made stays somebody else's.
    alive = {each.id for each in client.subscriptions.list({"limit": 100}).data}
    assert alive == {now[f"Subscription {name}"] for name in items} | {stranger.id}
    assert "pulumi" not in client.subscriptions.retrieve(stranger.id).to_dict()["metadata"]


MANY = f"""{IMPORTS}
for number in range(12):
    meter = Meter(
        f"m-{{number}}", display_name="Tokens", event_name=f"m-{{number}}", default_aggregation={{"formula": "sum"}}
    )
    product = Product(f"p-{{number}}", name="Basic")
    price = Price(
        f"p-{{number}}", product=product.id, currency="usd", unit_amount=1000, recurring={{"interval": "month"}}
    )
    DefaultPrice(f"p-{{number}}", product=product.id, price=price.id)
    customer = Customer(f"c-{{number}}", name="Ada")
    Subscription(
        f"c-{{number}}",
        customer=customer.id,
        collection_method="send_invoice",
        days_until_due=30,
        items={{"seat": {{"price": price.id}}}},
    )
"""


def test_a_refresh_lists_instead_of_fetching_one_by_one(new_project: NewProject) -> None:
    project = new_project(MANY)
    project.up().ok()
    client = project.client.v1

    log = Log(project)
    assert refreshed(project) == {}
    counts = log.counts()
    assert counts.pop("GET /v1/account") == 1
    # The first object of a kind is fetched, for the second a page of a hundred is read; the default-price links are
    # on the products.
    for path in ("billing/meters", "products", "prices", "customers", "subscriptions"):
        assert counts.pop(f"GET /v1/{path}/*", 0) + counts.pop(f"GET /v1/{path}", 0) <= 2, log.counts()
    assert counts == {}

    # In an account full of others' objects it is at most two calls an object, and what is gone is seen.
    customers = ids(project)
    for number in range(300):
        client.customers.create({"name": f"Other {number}"})
    client.customers.delete(customers["Customer c-3"])
    log = Log(project)
    assert refreshed(project) == {"Customer c-3": ["delete"], "Subscription c-3": ["delete"]}
    counts = log.counts()
    assert counts["GET /v1/customers/*"] + counts["GET /v1/customers"] <= 2 * 12, counts
    assert operations(project) == {"Customer c-3": "create", "Subscription c-3": "create"}


def test_what_all_test_data_deleted_leaves_is_filled_again(new_project: NewProject) -> None:
    """After `Delete all test data` in the dashboard: the account is the same, and idempotency keys are remembered."""
    project = new_project(MANY.replace("range(12)", "range(2)"))
    project.up().ok()
    known, client = ids(project), project.client.v1
    with sqlite3.connect(project.sandbox_file) as database:
        database.execute("DELETE FROM objects")
    database.close()
    assert refreshed(project) == {name: ["delete"] for name in known}

    put_right(project)
    again = ids(project)
    assert again.keys() == known.keys()
    assert not set(again.values()) & set(known.values())
    assert len(client.subscriptions.list().data) == 2
    assert len(client.prices.list().data) == 2


TRIAL = f"""{IMPORTS}
pro = Product("pro", name="Pro")
month = Price("month", product=pro.id, currency="usd", unit_amount=3000, recurring={{"interval": "month"}})
week = Price("week", product=pro.id, currency="usd", unit_amount=400, recurring={{"interval": "week"}})
acme = Customer("acme", name="Acme")
"""
SUBSCRIBED = """
Subscription(
    "acme", customer=acme.id, collection_method="send_invoice", days_until_due=30,
    items={"seat": {"price": month.id, "quantity": 1, "current_trial": {"trial_offer": "$offer"}}},
)
"""


def test_a_trial_offer(new_project: NewProject) -> None:
    """Stripe ends it and moves the item to another price by itself: that is not drift, and an up undoes nothing."""
    project = new_project(TRIAL)
    project.up().ok()
    known = ids(project)
    offer = project.client.v1.product_catalog.trial_offers.create(
        {
            "price": known["Price week"],
            "duration": {"type": "relative", "relative": {"iterations": 1}},
            "end_behavior": {"transition": {"price": known["Price month"]}},
        }
    )
    project.write(TRIAL + SUBSCRIBED.replace("$offer", offer.id))
    project.up().ok()
    subscription = ids(project)["Subscription acme"]
    assert refreshed(project) == {}
    no_changes(project)

    control(project, "POST", "clock", advance=8 * 86_400)
    assert refreshed(project) == {}
    no_changes(project)
    project.edit('"quantity": 1', '"quantity": 2')
    project.up().ok()
    [item] = project.client.v1.subscriptions.retrieve(subscription)["items"].data
    assert (item.price.id, item.quantity, item.current_trial) == (known["Price month"], 2, None)
    invoices = project.client.v1.invoices.list({"subscription": subscription})
    assert [invoice.total for invoice in invoices] == [3000, 400]

    again = project.client.v1.product_catalog.trial_offers.create(
        {
            "price": known["Price week"],
            "duration": {"type": "relative", "relative": {"iterations": 1}},
            "end_behavior": {"transition": {"price": known["Price month"]}},
        }
    )
    project.edit(offer.id, again.id)
    preview = project.preview("--diff").ok().text
    assert f"item seat begins a trial: it bills the price of {again.id} until that is over" in " ".join(preview.split())
    project.edit("month.id", "week.id")
    blocked = project.up()
    assert blocked.code != 0
    assert f"ends in {known['Price month']}; declare that" in " ".join(blocked.text.split())
