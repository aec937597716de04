"""Connected accounts: made by control, named by subscriptions and invoices; who is paid and who is billed."""

from __future__ import annotations

import json
from typing import Any

import pytest

from .conftest import Control, Raw


def test_control_connects_accounts_and_reset_forgets_them(control: Control) -> None:
    made = control("POST", "accounts", id="acct_shop")
    platform = control("GET", "")["account"]
    assert made == {
        "id": "acct_shop",
        "configurations": ["merchant", "recipient"],
        "livemode": False,
        "platform": platform,
    }
    minted = control("POST", "accounts", configurations=["recipient"], livemode=True)
    assert minted["id"].startswith("acct_1")
    assert control("GET", "accounts") == {"data": [made, minted]}
    assert control("GET", "")["objects"] == {f"{platform}:test": {"account": 1}, f"{platform}:live": {"account": 1}}
    control("POST", "reset")
    assert control("GET", "accounts") == {"data": []}


def test_an_account_that_is_connected_again_gains_configurations(control: Control) -> None:
    control("POST", "accounts", id="acct_shop", configurations=["recipient"])
    again = control("POST", "accounts", id="acct_shop", configurations=["merchant"])
    assert again["configurations"] == ["merchant", "recipient"]
    assert control("GET", "accounts")["data"] == [again]


@pytest.mark.parametrize(
    "params",
    [
        {"id": "shop"},
        {"id": 1},
        {"platform": "shop"},
        {"configurations": ["seller"]},
        {"configurations": "merchant"},
        {"configurations": [{}]},
        {"name": "Shop"},
    ],
)
def test_an_account_that_makes_no_sense_is_refused(raw: Raw, control: Control, params: dict[str, Any]) -> None:
    status, answer, _ = raw("POST", "/_sandbox/accounts", json.dumps(params), Content_Type="application/json")
    assert status == 400
    assert answer["error"]["message"]
    assert control("GET", "accounts") == {"data": []}
