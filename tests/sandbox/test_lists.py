"""Lists, cursors, `created` ranges, `expand` and search."""

from __future__ import annotations

from typing import Any

import pytest
import stripe

from .catalog import catalog, plain
from .conftest import NEW_YEAR, Clock, Raw


def make(client: stripe.StripeClient, count: int) -> list[str]:
    """Products, oldest first."""
    return [client.v1.products.create({"name": str(number)}).id for number in range(count)]


# -- lists ------------------------------------------------------------------------------------------------------------


def test_lists_are_newest_first_and_ten_long(client: stripe.StripeClient) -> None:
    ids = make(client, 12)
    page = client.v1.products.list()
    assert [item.id for item in page.data] == ids[:1:-1]
    assert page.has_more is True
    assert [item.id for item in page.auto_paging_iter()] == ids[::-1]


@pytest.mark.parametrize(("limit", "length"), [(-5, 1), (0, 1), (1, 1), (100, 100), (1000, 100)])
def test_limit_is_kept_within_1_and_100_without_a_word(client: stripe.StripeClient, limit: int, length: int) -> None:
    make(client, 101)
    assert len(client.v1.products.list({"limit": limit}).data) == length


def test_pages_go_both_ways(client: stripe.StripeClient) -> None:
    ids = make(client, 7)[::-1]
    after = client.v1.products.list({"limit": 3, "starting_after": ids[1]})
    assert ([item.id for item in after.data], after.has_more) == (ids[2:5], True)
    before = client.v1.products.list({"limit": 3, "ending_before": ids[5]})
    assert ([item.id for item in before.data], before.has_more) == (ids[2:5], True)
    first = client.v1.products.list({"limit": 3, "ending_before": ids[2]})
    assert ([item.id for item in first.data], first.has_more) == (ids[:2], False)


def test_created_ranges(client: stripe.StripeClient, clock: Clock) -> None:
    ids = []
    for _ in range(3):
        ids += make(client, 1)
        clock.advance(10)

    def found(created: Any) -> list[str]:
        return [item.id for item in client.v1.products.list({"created": created}).data]

    assert found(NEW_YEAR + 10) == [ids[1]]
    assert found({"gt": NEW_YEAR, "lt": NEW_YEAR + 20}) == [ids[1]]
    assert found({"gte": NEW_YEAR, "lte": NEW_YEAR + 20}) == ids[::-1]


def test_products_are_filtered(client: stripe.StripeClient) -> None:
    ids = make(client, 3)
    client.v1.products.update(ids[0], {"active": False, "url": "https://example.com"})
    assert [item.id for item in client.v1.products.list({"active": False}).data] == [ids[0]]
    assert [item.id for item in client.v1.products.list({"ids": ids[:2]}).data] == [ids[1], ids[0]]
    assert [item.id for item in client.v1.products.list({"url": "https://example.com"}).data] == [ids[0]]


def test_customers_are_found_by_email(client: stripe.StripeClient) -> None:
    ada = client.v1.customers.create({"email": "ada@example.com"})
    client.v1.customers.create({"email": "eve@example.com"})
    assert [item.id for item in client.v1.customers.list({"email": "ada@example.com"}).data] == [ada.id]


def test_an_update_does_not_move_an_object(client: stripe.StripeClient) -> None:
    ids = make(client, 3)
    client.v1.products.update(ids[0], {"name": "changed"})
    assert [item.id for item in client.v1.products.list().data] == ids[::-1]


# -- expand -----------------------------------------------------------------------------------------------------------


def test_expand_follows_ids_to_any_depth_that_stripe_allows(client: stripe.StripeClient) -> None:
    things = catalog(client)
    client.v1.products.update(things.product.id, {"default_price": things.usage.id})
    price = client.v1.prices.retrieve(things.license.id, {"expand": ["product.default_price.tiers"]})
    product = price.product
    assert isinstance(product, stripe.Product)
    default = product.default_price
    assert isinstance(default, stripe.Price)
    assert default.tiers is not None
    assert len(default.tiers) == 2


def test_expand_in_lists(client: stripe.StripeClient) -> None:
    catalog(client)
    page = client.v1.prices.list({"expand": ["data.product", "data.tiers"]})
    assert all(isinstance(price.product, stripe.Product) for price in page.data)
    assert [len(plain(price)["tiers"]) for price in page.data if "tiers" in price] == [2]


def test_expand_reaches_at_most_four_levels(raw: Raw, client: stripe.StripeClient) -> None:
    price = catalog(client).license.id
    path = "product.default_price.product.default_price.product"
    status, answer, _ = raw("GET", f"/v1/prices/{price}?expand[]={path}")
    assert status == 400
    assert path in answer["error"]["message"]


def test_hidden_parts_of_a_customer(client: stripe.StripeClient) -> None:
    customer = client.v1.customers.create({"tax_id_data": [{"type": "eu_vat", "value": "DE123456789"}]})
    assert "tax_ids" not in customer
    assert "subscriptions" not in customer
    full = client.v1.customers.retrieve(customer.id, {"expand": ["tax_ids", "subscriptions", "tax", "sources"]})
    assert isinstance(full, stripe.Customer)
    assert full.tax_ids is not None
    assert full.tax_ids.data[0].value == "DE123456789"
    assert full.subscriptions is not None
    assert full.subscriptions.data == []


def test_a_write_with_a_bad_expand_writes_nothing(client: stripe.StripeClient) -> None:
    with pytest.raises(stripe.InvalidRequestError, match="cannot be expanded"):
        client.v1.products.create({"name": "A", "expand": ["nope"]})
    assert client.v1.products.list().data == []


# -- metadata ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "metadata",
    [{"k" * 41: "v"}, {"k": "v" * 501}, {str(number): "v" for number in range(51)}],
    ids=["long key", "long value", "51 keys"],
)
def test_metadata_has_limits(client: stripe.StripeClient, metadata: dict[str, str]) -> None:
    with pytest.raises(stripe.InvalidRequestError) as caught:
        client.v1.products.create({"name": "A", "metadata": metadata})
    assert caught.value.param == "metadata"


def test_metadata_keeps_foreign_keys(client: stripe.StripeClient) -> None:
    product = client.v1.products.create({"name": "A", "metadata": {"mine": "1", "theirs": "2"}})
    changed = client.v1.products.update(product.id, {"metadata": {"mine": ""}})
    assert plain(changed.metadata) == {"theirs": "2"}


# -- search -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def shop(client: stripe.StripeClient, clock: Clock) -> stripe.StripeClient:
    client.v1.products.create({"name": "Alpaca Pro", "metadata": {"plan": "pro", "pulumi": "p/s/a"}})
    client.v1.products.create({"name": "Alpaca Basic", "metadata": {"plan": "basic"}, "active": False})
    client.v1.products.create({"name": 'The "best"', "description": "none better"})
    client.v1.customers.create({"name": "Ada", "email": "ada@example.com"})
    clock.advance(100)
    client.v1.customers.create({"name": "Eve", "email": "eve@example.org", "metadata": {"a.b": "c"}})
    return client


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ('metadata["plan"]:"pro"', ["Alpaca Pro"]),
        ("metadata['plan']:'PRO'", ["Alpaca Pro"]),
        ('-metadata["plan"]:"pro"', ['The "best"', "Alpaca Basic"]),
        ('metadata["plan"]:null', ['The "best"']),
        ('-metadata["plan"]:null', ["Alpaca Basic", "Alpaca Pro"]),
        ('metadata["plan"]:"nobody"', []),
        ('metadata["plan"]:""', []),
        ('metadata["pulumi"]:"p/s/a"', ["Alpaca Pro"]),
    ],
)
def test_search_products(shop: stripe.StripeClient, query: str, names: list[str]) -> None:
    assert [found.name for found in shop.v1.products.search({"query": query}).data] == names


def test_search_customers_and_not_those_that_are_deleted(shop: stripe.StripeClient) -> None:
    def names(query: str) -> list[str | None]:
        return [found.name for found in shop.v1.customers.search({"query": query}).data]

    assert names('metadata["a.b"]:"c"') == ["Eve"]
    assert names('metadata["a.b"]:null') == ["Ada"]
    shop.v1.customers.delete(shop.v1.customers.list({"email": "ada@example.com"}).data[0].id)
    assert names('metadata["a.b"]:null') == []
    assert shop.v1.prices.search({"query": 'metadata["a.b"]:"c"'}).data == []


@pytest.mark.parametrize(
    "query", ["name", 'active:"true"', 'metadata["a"]~"b"', "created>1", 'metadata["a"]:"b" OR metadata["c"]:"d"']
)
def test_what_search_does_not_do_is_refused_by_name(client: stripe.StripeClient, query: str) -> None:
    with pytest.raises(stripe.APIError) as caught:
        client.v1.customers.search({"query": query})
    assert (caught.value.http_status, "query other than" in str(caught.value.user_message)) == (501, True)


def test_search_pages(client: stripe.StripeClient) -> None:
    ids = make(client, 5)
    params: Any = {"query": 'metadata["plan"]:null', "limit": 2}
    assert [found.id for found in client.v1.products.search(params).auto_paging_iter()] == ids[::-1]
    with pytest.raises(stripe.InvalidRequestError) as caught:
        client.v1.products.search(params | {"page": "next"})
    assert caught.value.param == "page"
