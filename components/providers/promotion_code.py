"""Promotion codes: words with which customers redeem a coupon. https://docs.stripe.com/api/promotion_codes"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from typing_extensions import TypedDict

from components.account import AccountError, StripeRefusal
from components.providers import paid, rules
from components.providers.coupon import COUPON, takes_off
from components.providers.inventory import StripeObject
from components.providers.kind import Change, Declarations, Kind, Problem
from components.providers.lifecycle import StripeProvider
from components.providers.policy import Field
from components.providers.reconciler import Reconciler
from components.providers.values import Inputs, mapping


class OwnArguments(TypedDict):
    owner: str


_CODE = re.compile(r"\A[A-Za-z0-9_-]+\Z")
_TAKEN = "An active promotion code with"


def code(inputs: Inputs) -> Iterator[Problem]:
    if not rules.given(inputs, "code"):
        yield ("code",), "is required: the word that customers enter"
    value = rules.find(inputs, "code")
    if isinstance(value, str) and not _CODE.match(value):
        yield ("code",), "can only have letters, digits, - and _"


def promotion(inputs: Inputs) -> Iterator[Problem]:
    declared = rules.find(inputs, "promotion")
    if isinstance(declared, Mapping) and not rules.given(declared, "coupon"):
        yield ("promotion", "coupon"), "is required: the id of a coupon"


def restrictions(inputs: Inputs) -> Iterator[Problem]:
    declared, at = mapping(rules.find(inputs, "restrictions")), "restrictions"
    least = [name for name in ("minimum_amount", "minimum_amount_currency") if rules.given(declared, name)]
    if len(least) == 1:
        other = {"minimum_amount", "minimum_amount_currency"} - set(least)
        yield (at, *other), f"is required with {least[0]}"
    if not least and rules.given(declared, "currency_options"):
        yield (at, "minimum_amount"), "is required with currency_options"
    for path, _ in rules.each(inputs, f"{at}.currency_options.*"):
        if path[-1] == rules.find(declared, "minimum_amount_currency"):
            yield path, "is the code's own currency; its amount is minimum_amount"


# -- what a change means --------------------------------------------------------------------------------------------


def replaces(old: Inputs, new: Inputs, names: set[str]) -> set[str]:
    """Stripe can set the minimum amount in another currency, and change nothing else of the restrictions."""
    before, after = (mapping(each.get("restrictions")) for each in (old, new))
    gone = mapping(before.get("currency_options")).keys() - mapping(after.get("currency_options")).keys()
    return names | {"restrictions"} if gone or _fixed(before) != _fixed(after) else names


def _fixed(restrictions: Mapping[str, Any]) -> Inputs:
    given = {name: value for name, value in restrictions.items() if name != "currency_options" and value is not None}
    return {"first_time_transaction": False, **given}


def warnings(change: Change) -> Iterator[str]:
    if change.replaces:
        again = " under the same code, redeemed 0 times" if change.old.get("code") == change.new.get("code") else ""
        yield f"is deactivated and another one is created{again}; existing discounts continue"
    elif change.new.get("active", True) is not change.old.get("active", True):
        is_off = change.new.get("active", True) is False
        yield (
            "can no longer be redeemed; existing discounts continue"
            if is_off
            else f"can be redeemed again: {_terms(change.new, change.declaration)}"
        )


def remarks(inputs: Inputs, is_new: bool, declaration: Declarations) -> Iterator[str]:
    if is_new and inputs.get("active", True) is True:
        yield _terms(inputs, declaration)


def _terms(inputs: Inputs, declaration: Declarations) -> str:
    """Who gets what with a code: `anybody who enters SUMMER gets 20 % off for 3 months, at most 100 times`."""
    coupon = rules.find(inputs, "promotion", "coupon")
    known = declaration(COUPON, coupon) if isinstance(coupon, str) else None
    one = rules.given(inputs, "customer") or rules.given(inputs, "customer_account")
    times, until = inputs.get("max_redemptions"), inputs.get("expires_at")
    word = rules.find(inputs, "code")
    return (
        f"{'one customer' if one else 'anybody'} who enters {word or 'its code'} gets "
        f"{takes_off(known.arguments) if known else 'what its coupon takes off'}"
        + (", before anything was paid" if rules.find(inputs, "restrictions", "first_time_transaction") else "")
        + (f", at most {times:,} time{'' if times == 1 else 's'}" if isinstance(times, int) else "")
        + (f", until {paid.date(until)}" if isinstance(until, int) else "")
    )


PROMOTION_CODE = Kind(
    name="PromotionCode",
    noun="promotion code",
    path="/v1/promotion_codes",
    create="stripe.params:PromotionCodeCreateParams",
    update="stripe.params:PromotionCodeUpdateParams",
    own=OwnArguments,
    searchable=False,
    natural_key="`code`, and the owner in its metadata",
    when_deleted="Deactivated: Stripe cannot delete a promotion code. Existing discounts continue. One that is "
    "replaced under the same code is deactivated right before the new one is created.",
    when_gone="An inactive code shows as `active: false`, except one that has expired, has reached its maximum of "
    "redemptions, or whose coupon can no longer be redeemed: that is not drift.",
    fields={
        "active": Field(
            unset_to=True,
            drift_from=True,
            drift="a code that has run out is not drift: Stripe does not activate it again",
        ),
        "customer_account": Field(computed="that of the customer, or none"),
        "expires_at": Field(computed="when its coupon can no longer be redeemed"),
        "restrictions": Field(
            paid=True, replaces_when="anything changes except the minimum amount in another currency"
        ),
    },
    expand=("promotion.coupon",),
    advice={"No such coupon": 'Link it by the id of a Coupon: promotion={"type": "coupon", "coupon": coupon.id}.'},
    rules=(
        rules.metadata,
        rules.longest({"code": 500}),
        rules.currencies("restrictions.minimum_amount_currency", "restrictions.currency_options.*"),
        rules.between({"max_redemptions": (1, None), "restrictions.minimum_amount": (1, None)}),
        rules.exclusive("customer", "customer_account", why="a code is for one payer, or for everybody"),
        code,
        promotion,
        restrictions,
    ),
    replaces=replaces,
    warnings=warnings,
    remarks=remarks,
)


class PromotionCodes(Reconciler):
    def candidates(self, new: Inputs) -> list[StripeObject]:
        """Only those with this code: an account can have very many others."""
        found = []
        params = {"code": new["code"], **self.expanded("data.")}
        for page, _ in self.account.pages(self.kind.path, params, subject=self.subject(new)):
            found += page
        for each in found:
            self.inventory.remember(each)
        return found

    @contextmanager
    def making(self, new: Inputs, found: StripeObject | None) -> Iterator[None]:
        """Deactivate the code that this one replaces: two active ones cannot be the same."""
        replaced = []
        if found is None and new.get("active", True):
            for remote in self.candidates(new):
                before = self.run.declaration(self.kind, remote["id"])
                if remote["active"] and before is not None and before.owner == new["owner"]:
                    self._switch(remote["id"], new, active=False)
                    replaced.append(remote["id"])
        try:
            yield
        except AccountError as refusal:
            # It is certain that there is no new one, so customers can go on redeeming the old one.
            for id_ in replaced if not isinstance(refusal, StripeRefusal) or refusal.is_certain else ():
                self._reactivate(id_, new)
            raise

    def _reactivate(self, id_: str, new: Inputs) -> None:
        try:
            self._switch(id_, new, active=True)
        except AccountError as problem:
            self.run.tell("warning", f"{self.subject(new, id_)}: stays deactivated: {problem}")
        else:
            self.run.tell("info", f"{self.subject(new, id_)}: is active again, since the new one was refused")

    def occupant(self, refusal: StripeRefusal, new: Inputs) -> StripeObject | None:
        if _TAKEN not in refusal.message:
            return None
        active = [each for each in self.candidates(new) if each["active"]]
        payers = [(each.get("customer"), new.get("customer")) for each in active]
        same = [each for each, payer in zip(active, payers, strict=True) if None in payer or len(set(payer)) == 1]
        return self.ours_to_take(same[0], new, "code") if same else None

    def changes(self, id_: str, old: Inputs, new: Inputs) -> Inputs:
        params = super().changes(id_, old, new)
        options = mapping(params.pop("restrictions", None)).get("currency_options")
        return {**params, **({"restrictions": {"currency_options": options}} if options else {})}

    def returned(self, name: str, value: Any, remote: StripeObject) -> Any:
        if name == "active" and not remote.get("active") and _is_over(remote):
            return True if value is None else value
        if name == "promotion" and not mapping(remote.get("promotion")).get("coupon"):
            # The coupon was deleted; a code for it cannot be created again.
            return value
        return super().returned(name, value, remote)

    def remove(self, id_: str, known: Inputs, *, being_replaced: bool) -> StripeObject | None:
        left = self._switch(id_, known, active=False)
        self.run.tell(
            "info", f"{self.subject(known, id_)}: deactivated; Stripe keeps it, and existing discounts continue"
        )
        return left

    def _switch(self, id_: str, known: Inputs, *, active: bool) -> StripeObject:
        params = {"active": active, **self.expanded()}
        remote = self.call("post", f"{PROMOTION_CODE.path}/{id_}", params, subject=self.subject(known, id_)).data
        self.inventory.remember(remote)
        return remote


class PromotionCodeProvider(StripeProvider):
    kind = PROMOTION_CODE
    reconciler_type = PromotionCodes


def _is_over(remote: StripeObject) -> bool:
    """Whether a code is inactive by itself: too late, redeemed too often, or without a coupon to redeem."""
    expires_at, most = remote.get("expires_at"), remote.get("max_redemptions")
    coupon = mapping(remote.get("promotion")).get("coupon")
    return (
        (expires_at is not None and expires_at <= time.time())
        or (most is not None and remote.get("times_redeemed", 0) >= most)
        or not isinstance(coupon, Mapping)
        or not coupon.get("valid")
    )
