"""Payment sources: cards made of Stripe's test tokens; create, retrieve, list, delete, and whose they are.

They are what customers were charged with before payment methods, and can be charged still. A customer's `source` makes
one in place of the default, `POST /v1/customers/{customer}/sources` one beside it.
https://docs.stripe.com/testing (tokens), https://docs.stripe.com/api/customers/update (`source`)
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from . import spec
from .errors import refuse
from .router import Call, Kind, changes, declare_kind, route
from .store import Obj, declare_index

declare_kind(Kind("card", noun="source"))
declare_index("card", "customer")
spec.declare_reference("card", "customer", "customer")
for _holder in ("customer", "invoice", "subscription"):
    spec.declare_reference(_holder, "default_source", "card")

_PATH: Final = "/v1/customers/{customer}/sources"
_EXPAND: Final = {"expand": {"type": "array", "items": {"type": "string"}}}
_PAGE: Final = {"ending_before": {"type": "string"}, "limit": {"type": "integer"}, "starting_after": {"type": "string"}}
_METADATA: Final = {"type": "object", "additionalProperties": {"type": "string"}}

spec.declare_operation(
    "POST",
    _PATH,
    {**_EXPAND, "source": {"type": "string"}, "validate": {"type": "boolean"}, "metadata": _METADATA},
    required=("source",),
)
spec.declare_operation("GET", _PATH, {**_EXPAND, **_PAGE, "object": {"type": "string"}})
spec.declare_operation("GET", _PATH + "/{id}", _EXPAND)
spec.declare_operation("DELETE", _PATH + "/{id}", _EXPAND)

#: A list inside an object holds as many as a page does by default.
SHOWN: Final = 10


@dataclass(frozen=True)
class _Token:
    """What one of Stripe's test tokens stands for."""

    brand: str
    last4: str
    funding: str = "credit"
    #: The refusal when the card is attached, for Stripe asks the bank then; None where it is fine.
    refusal: str | None = None
    #: The refusal when it is charged; None where it pays.
    fails: str | None = None


_TOKENS: Final = {
    "visa": _Token("Visa", "4242"),
    "visa_debit": _Token("Visa", "5556", "debit"),
    "mastercard": _Token("MasterCard", "4444"),
    "mastercard_debit": _Token("MasterCard", "3222", "debit"),
    "mastercard_prepaid": _Token("MasterCard", "5100", "prepaid"),
    "amex": _Token("American Express", "8431"),
    "discover": _Token("Discover", "9424"),
    "diners": _Token("Diners Club", "0004"),
    "jcb": _Token("JCB", "0505"),
    "unionpay": _Token("UnionPay", "0005"),
    "chargeCustomerFail": _Token("Visa", "0341", fails="card_declined"),
    "chargeDeclined": _Token("Visa", "0002", refusal="card_declined", fails="card_declined"),
    "chargeDeclinedExpiredCard": _Token("Visa", "0069", refusal="card_expired", fails="card_expired"),
    "chargeDeclinedFraudulent": _Token("Visa", "0019", refusal="card_fraudulent", fails="card_fraudulent"),
    "chargeDeclinedIncorrectCvc": _Token("Visa", "0127", refusal="card_cvc", fails="card_cvc"),
    "chargeDeclinedInsufficientFunds": _Token("Visa", "9995", refusal="card_funds", fails="card_funds"),
    "chargeDeclinedLostCard": _Token("Visa", "9987", refusal="card_lost", fails="card_lost"),
    "chargeDeclinedProcessingError": _Token("Visa", "0119", refusal="card_processing", fails="card_processing"),
    "chargeDeclinedStolenCard": _Token("Visa", "9979", refusal="card_stolen", fails="card_stolen"),
    "chargeDeclinedVelocityLimitExceeded": _Token("Visa", "6975", refusal="card_velocity", fails="card_velocity"),
}
#: Banks that want to see the customer: payment methods only, for a source is charged without anybody there.
_WATCHFUL: Final = {
    "authenticationRequired": _Token("Visa", "3184", fails="action_required"),
    "threeDSecure2Required": _Token("Visa", "3220", fails="action_required"),
    "threeDSecureRequired": _Token("Visa", "3063", fails="action_required"),
}
#: Tokens that Stripe has besides: by country, for checks, reviews and disputes; and what is no card.
_OTHER_TOKENS: Final = re.compile(
    r"\A(tok_([a-z]{2}|(avs|bypass|createDispute|cvcCheck|radar|refund|risk|threeDSecure)\w*)|(btok|ba|src)_\w+)\Z"
)


def payment_method_token(name: str) -> _Token:
    """What the payment method `pm_card_<name>` stands for: a card that pays where the name says nothing else.

    Stripe names what it declines with and without the brand: `pm_card_visa_chargeDeclined`, `pm_card_chargeDeclined`.
    """
    known = _TOKENS | _WATCHFUL
    return known.get(name) or known.get(name.removeprefix("visa_")) or _TOKENS["visa"]


def add(call: Call, customer: Obj, token: str, *, validate: bool = True) -> Obj:
    """The card that a token makes for a customer. `validate` asks the bank, as Stripe does by itself."""
    stands_for = _TOKENS.get(token.removeprefix("tok_")) if token.startswith("tok_") else None
    if _OTHER_TOKENS.match(token):
        raise refuse("not_implemented_param", param=f"source={token}")
    if stands_for is not None and call.livemode:
        raise refuse("other_mode", param="source", kind="token", id=token, here="live", there="test")
    if stands_for is None:
        raise refuse("no_such", param="source", kind="token", id=token)
    if validate and stands_for.refusal is not None:
        raise refuse(stands_for.refusal)
    card: Obj = {
        "id": call.mint("card_1", 23),
        "object": "card",
        "address_city": None,
        "address_country": None,
        "address_line1": None,
        "address_line1_check": None,
        "address_line2": None,
        "address_state": None,
        "address_zip": None,
        "address_zip_check": None,
        "allow_redisplay": "unspecified",
        "brand": stands_for.brand,
        "country": "US",
        "customer": customer["id"],
        "cvc_check": None,
        "dynamic_last4": None,
        "exp_month": 12,
        "exp_year": 2040,
        "fingerprint": None,
        "funding": stands_for.funding,
        "last4": stands_for.last4,
        "metadata": {},
        "name": None,
        "regulated_status": "unregulated",
        "tokenization_method": None,
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


def delete_card(call: Call, customer: Obj, card: Obj) -> Obj:
    """Delete a source; what named it as its own default names none. Gives what Stripe answers."""
    call.store.remove("card", card["id"])
    call.event("customer.source.deleted", card, now=call.now(customer))
    for kind in ("subscription", "invoice"):
        for holder in call.store.query(kind, {"customer": customer["id"], "default_source": card["id"]}):
            holder["default_source"] = None
            call.store.put(holder)
    return {"id": card["id"], "object": "card", "deleted": True}


def listed(call: Call, customer: Obj) -> Obj:
    """A customer's `sources`, the newest first."""
    cards = call.store.query("card", {"customer": customer["id"]}, limit=SHOWN + 1)
    data = [call.wire(card) for card in cards[:SHOWN]]
    url = f"/v1/customers/{customer['id']}/sources"
    return {"object": "list", "data": data, "has_more": len(cards) > SHOWN, "url": url}


def set_default(call: Call, customer: Obj, id: str | None) -> None:
    """Make a source the customer's default."""
    old = dict(customer)
    customer["default_source"] = id
    changed = changes(old, customer)
    if changed:
        call.store.put(customer)
        call.event("customer.updated", customer, changed)


# -- routes -----------------------------------------------------------------------------------------------------------


@route("POST", _PATH)
def create(call: Call) -> Obj:
    """POST /v1/customers/{customer}/sources: one more; the default stays, if there is one."""
    customer = call.fetch("customer", call.args["customer"], param="customer")
    card = add(call, customer, call.params["source"], validate=call.params.get("validate", True))
    if "metadata" in call.params:
        card["metadata"] = call.metadata({})
        call.store.put(card)
    if customer["default_source"] is None:
        set_default(call, customer, card["id"])
    return card


@route("GET", _PATH)
def list_sources(call: Call) -> Obj:
    """GET /v1/customers/{customer}/sources; with `object` those of one kind, of which there are cards alone."""
    customer = call.fetch("customer", call.args["customer"], param="customer")
    of_kind = {"object": call.params["object"]} if "object" in call.params else {}
    return call.page("card", {"customer": customer["id"], **of_kind})


@route("GET", _PATH + "/{id}")
def retrieve(call: Call) -> Obj:
    """GET /v1/customers/{customer}/sources/{id}."""
    return _named(call)[1]


@route("DELETE", _PATH + "/{id}")
def delete(call: Call) -> Obj:
    """DELETE /v1/customers/{customer}/sources/{id}: where it was the default, the newest of the rest becomes it."""
    customer, card = _named(call)
    gone = delete_card(call, customer, card)
    if customer["default_source"] == card["id"]:
        newest = call.store.first("card", {"customer": customer["id"]})
        set_default(call, customer, None if newest is None else newest["id"])
    return gone


def _named(call: Call) -> tuple[Obj, Obj]:
    customer = call.fetch("customer", call.args["customer"], param="customer")
    card = call.store.get("card", call.args["id"])
    if card is None or card["customer"] != customer["id"]:
        raise refuse("no_such", status=404, kind="source", id=call.args["id"], param="id")
    return customer, card
