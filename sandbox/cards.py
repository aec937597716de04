"""Cards for Stripe's test tokens: payment methods (`pm_card_visa`) and older sources (`tok_visa`).

A customer's `source` replaces the default one, `POST /v1/customers/{customer}/sources` adds another.
https://docs.stripe.com/testing (tokens), https://docs.stripe.com/api/customers/update (`source`)
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from .errors import refuse
from .router import Call, Kind, declare_kind, route
from .store import declare_index
from .wire import Obj

declare_kind(Kind("card", noun="source"))
declare_kind(Kind("payment_method", noun="PaymentMethod"))
declare_index("card", "customer")

#: Fields of a card that do not depend on the token.
_NOT_GIVEN: Final = (
    *("address_city", "address_country", "address_line1", "address_line1_check", "address_line2", "address_state"),
    *("address_zip", "address_zip_check", "cvc_check", "dynamic_last4", "fingerprint", "name", "tokenization_method"),
)
#: A list inside an object has the default page size.
SHOWN: Final = 10


@dataclass(frozen=True)
class _Token:
    """One of Stripe's test tokens: a row of `data/cards.json`."""

    last4: str
    brand: str = "Visa"
    funding: str = "credit"
    #: The refusal of a charge, a row of `errors.py`; None if it succeeds.
    fails: str | None = None
    #: Whether attaching it is already refused: Stripe asks the bank then.
    declined: bool = False


def _tokens(name: str) -> dict[str, _Token]:
    return {token: _Token(**row) for token, row in json.loads(_DATA.read_bytes())[name].items()}


_DATA: Final = Path(__file__).parent / "data" / "cards.json"
_TOKENS: Final = _tokens("tokens")
#: Only payment methods include cards whose banks require an action: a source is charged without the customer.
_METHODS: Final = {**_TOKENS, **_tokens("payment_methods")}
#: The brands of payment methods, as Stripe spells them; any other name is a Visa.
_BRANDS: Final = ("amex", "diners", "discover", "jcb", "mastercard")
#: Stripe's other tokens: by country, for checks, reviews and disputes; and those that are not cards.
_OTHER_TOKENS: Final = re.compile(
    r"\A(tok_([a-z]{2}|(avs|bypass|createDispute|cvcCheck|radar|refund|risk|threeDSecure)\w*)|(btok|ba|src)_\w+)\Z"
)


def attach(call: Call, customer: Obj, name: str, param: str) -> str:
    """The id of a payment method of this customer; Stripe's test tokens (`pm_card_visa`) create a new one.

    Recorded: a card whose charges are declined is checked, and refused, when it is attached. Stripe names those with
    and without the brand: `pm_card_visa_chargeDeclined`, `pm_card_chargeDeclined`.
    """
    if name.startswith("card_"):
        return of_customer(call, customer, name, param)
    if not name.startswith("pm_card_") or call.livemode:
        method = call.fetch("payment_method", name, param=param, status=400)
        if method["customer"] != customer["id"]:
            raise refuse("payment_method_foreign", param=param)
        return str(method["id"])
    word = name.removeprefix("pm_card_")
    token = _METHODS.get(word) or _METHODS.get(word.removeprefix("visa_")) or _TOKENS["visa"]
    if token.declined and token.fails is not None:
        raise refuse(token.fails)
    brand = word if word in _BRANDS else "visa"
    method = {
        **call.head("payment_method", call.mint("pm_1", 23), at=call.now(customer)),
        "customer": customer["id"],
        "metadata": {},
        "type": "card",
        "card": {"brand": brand, "last4": token.last4, "exp_month": 12, "exp_year": 2040},
        "_fails": token.fails,
    }
    call.store.put(method)
    return str(method["id"])


def add(call: Call, customer: Obj, token: str, *, validate: bool = True) -> Obj:
    """The card that a token creates for a customer. `validate` asks the bank, as Stripe does by default."""
    stands_for = _TOKENS.get(token.removeprefix("tok_")) if token.startswith("tok_") else None
    if _OTHER_TOKENS.match(token):
        raise refuse("not_implemented_param", param=f"source={token}")
    if stands_for is not None and call.livemode:
        raise refuse("other_mode", param="source", kind="token", id=token, here="live", there="test")
    if stands_for is None:
        raise refuse("no_such", param="source", kind="token", id=token)
    if validate and stands_for.declined and stands_for.fails is not None:
        raise refuse(stands_for.fails)
    card: Obj = {
        "id": call.mint("card_1", 23),
        "object": "card",
        **dict.fromkeys(_NOT_GIVEN),
        "allow_redisplay": "unspecified",
        "brand": stands_for.brand,
        "country": "US",
        "customer": customer["id"],
        "exp_month": 12,
        "exp_year": 2040,
        "funding": stands_for.funding,
        "last4": stands_for.last4,
        "metadata": {},
        "regulated_status": "unregulated",
        "_fails": stands_for.fails,
    }
    call.store.put(card)
    call.event("customer.source.created", card, now=call.now(customer))
    return card


def of_customer(call: Call, customer: Obj, id: str, param: str) -> str:
    """The id of a source that a parameter names, one of this customer's."""
    card = call.store.get("card", id)
    if card is None or card["customer"] != customer["id"]:
        raise refuse("source_not_linked", param=param, customer=customer["id"], id=id)
    return id


def delete(call: Call, customer: Obj, id: str) -> None:
    """Delete a source, also wherever it is the default."""
    card = call.store.get("card", id)
    if card is None:
        return
    call.store.remove("card", id)
    call.event("customer.source.deleted", card, now=call.now(customer))
    for kind in ("subscription", "invoice"):
        for holder in call.store.query(kind, {"customer": customer["id"], "default_source": id}):
            holder["default_source"] = None
            call.store.put(holder)


def listed(call: Call, customer: Obj) -> Obj:
    """A customer's `sources`, the newest first."""
    cards = call.store.query("card", {"customer": customer["id"]}, limit=SHOWN + 1)
    data = [call.wire(card) for card in cards[:SHOWN]]
    url = f"/v1/customers/{customer['id']}/sources"
    return {"object": "list", "data": data, "has_more": len(cards) > SHOWN, "url": url}


@route("POST", "/v1/customers/{customer}/sources")
def create(call: Call) -> Obj:
    """POST /v1/customers/{customer}/sources: adds a card; the first becomes the default."""
    customer = call.fetch("customer", call.args["customer"], param="customer")
    card = add(call, customer, call.params["source"], validate=call.params.get("validate", True))
    card["metadata"] = call.metadata({})
    call.store.put(card)
    if customer["default_source"] is None:
        old = dict(customer)
        customer["default_source"] = card["id"]
        call.save(customer, old, "customer.updated")
    return card
