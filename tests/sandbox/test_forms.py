"""Form bodies and JSON, decoded: nested brackets, lists, and everything that is broken."""

from __future__ import annotations

from typing import Any

import pytest

from sandbox.errors import StripeError
from sandbox.forms import MAX_DEPTH, MAX_PAIRS, decode_form, decode_json

from .conftest import Raw


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"", {}),
        (b"a=1&b=2", {"a": "1", "b": "2"}),
        (b"a=1&a=2", {"a": "2"}),
        (b"a=", {"a": ""}),
        (b"a", {"a": ""}),
        (b"&&a=1&", {"a": "1"}),
        (b"a=b=c", {"a": "b=c"}),
        (b"a=x+y%20z%26", {"a": "x y z&"}),
        (b"a[b][c]=1", {"a": {"b": {"c": "1"}}}),
        (b"a%5Bb%5D=1", {"a": {"b": "1"}}),
        (b"a[]=1&a[]=2", {"a": ["1", "2"]}),
        (b"a[0]=1&a[1]=2", {"a": {"0": "1", "1": "2"}}),
        (b"a[0][b]=1&a[0][c]=2", {"a": {"0": {"b": "1", "c": "2"}}}),
        (b"t[][up_to]=1&t[][n]=2&t[][up_to]=3&t[][n]=4", {"t": [{"up_to": "1", "n": "2"}, {"up_to": "3", "n": "4"}]}),
        ("n=Zoë".encode(), {"n": "Zoë"}),
        (b"a]=1", {"a]": "1"}),
        (b"[b]=1", {"[b]": "1"}),
        (b"a[b=1", {"a[b": "1"}),
    ],
)
def test_forms(raw: bytes, expected: dict[str, Any]) -> None:
    assert decode_form(raw) == expected


@pytest.mark.parametrize(
    "raw",
    [
        b"a=%ff",
        b"%ff=1",
        b"a=1&a[b]=2",
        b"a[b]=2&a=1",
        b"a[b]=1&a[b][c]=2",
        b"a[]=1&a[b]=2",
        b"a" + b"[b]" * (MAX_DEPTH + 1) + b"=1",
        b"&".join([b"a=1"] * (MAX_PAIRS + 1)),
    ],
)
def test_broken_forms(raw: bytes) -> None:
    with pytest.raises(StripeError) as caught:
        decode_form(raw)
    assert caught.value.status == 400


def test_json() -> None:
    assert decode_json(b' {"a": [1, "x", null]} ') == {"a": [1, "x", None]}
    assert decode_json(b"  ") == {}


@pytest.mark.parametrize(
    "raw",
    [
        b"{",
        b"[]",
        b'"a"',
        b"\xff",
        b'{"a": "\xed\xa0\x80"}',
        '{"a": 1}'.encode("utf-16"),
        b'{"a": NaN}',
        b'{"a": Infinity}',
        b'{"a": "\\ud800"}',
        b'{"\\udfff": 1}',
        b'{"a":' * (MAX_DEPTH + 2) + b"1" + b"}" * (MAX_DEPTH + 2),
        b"[" * 100_000,
    ],
)
def test_broken_json(raw: bytes) -> None:
    with pytest.raises(StripeError) as caught:
        decode_json(raw)
    assert caught.value.status == 400


def test_metadata_with_numbers_for_keys_is_no_list(raw: Raw) -> None:
    product = raw("POST", "/v1/products", "name=A&metadata[0]=x&metadata[1]=y")[1]
    assert product["metadata"] == {"0": "x", "1": "y"}


def test_lists_are_ordered_by_their_indexes(raw: Raw) -> None:
    body = "name=A" + "".join(f"&images[{place}]=https://a.example/{place}" for place in (10, 2, 0))
    images = raw("POST", "/v1/products", body)[1]["images"]
    assert images == ["https://a.example/0", "https://a.example/2", "https://a.example/10"]


def test_json_on_a_form_endpoint_is_refused(raw: Raw) -> None:
    status, answer, _ = raw("POST", "/v1/products", b'{"name": "A"}', Content_Type="application/json")
    assert status == 400
    assert "application/x-www-form-urlencoded" in answer["error"]["message"]


def test_parameters_may_come_in_the_query_of_a_post(raw: Raw) -> None:
    assert raw("POST", "/v1/products?name=A&description=q", "description=b")[1]["description"] == "b"


@pytest.mark.parametrize("body", [b"x" * (9 * 1024 * 1024), b"name=" + b"x" * (9 * 1024 * 1024)])
def test_a_huge_body_is_refused(raw: Raw, body: bytes) -> None:
    assert raw("POST", "/v1/products", body)[0] == 400
