"""Customers. https://docs.stripe.com/api/customers"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Mapping
from typing import Any, Literal, NotRequired

from typing_extensions import TypedDict

from components.account import StripeRefusal
from components.providers import rules
from components.providers.inventory import StripeObject
from components.providers.kind import Change, Declarations, Kind, Problem
from components.providers.lifecycle import StripeProvider
from components.providers.policy import Field
from components.providers.reconciler import Reconciler
from components.providers.values import MISSING, Inputs


class OwnArguments(TypedDict):
    owner: str
    on_delete: NotRequired[Literal["delete", "keep"]]


_PREFIX = re.compile(r"\A[A-Z0-9]{1,12}\Z")


def invoice_prefix(inputs: Inputs) -> Iterator[Problem]:
    value = rules.find(inputs, "invoice_prefix")
    if isinstance(value, str) and not _PREFIX.match(value):
        yield ("invoice_prefix",), "must be 1 to 12 capital letters or digits"


def ip_address(inputs: Inputs) -> Iterator[Problem]:
    value = rules.find(inputs, "tax", "ip_address")
    if isinstance(value, str):
        try:
            ipaddress.ip_address(value)
        except ValueError:
            yield ("tax", "ip_address"), "is not an IP address such as 203.0.113.1"


# -- what a change means --------------------------------------------------------------------------------------------


def fill(inputs: Inputs, livemode: bool) -> Inputs:
    return {"on_delete": "keep" if livemode else "delete", **inputs}


def remarks(inputs: Inputs, is_new: bool, declaration: Declarations) -> Iterator[str]:
    balance = inputs.get("balance")
    if is_new and isinstance(balance, int) and balance:
        yield f"begins with {_credit(balance)} (balance), whatever an earlier customer of this name had"


def _credit(balance: int) -> str:
    """A balance in words: Stripe counts what a customer has as less than nothing."""
    return f"{'a credit' if balance < 0 else 'a debt'} of {abs(balance)} minor units"


def warnings(change: Change) -> Iterator[str]:
    balance = change.new.get("balance")
    if not change.replaces and isinstance(balance, int) and balance != change.old.get("balance"):
        yield f"has {_credit(balance)} from now on (balance), whatever invoices have used of it since it was declared"
    if change.replaces:
        yield (
            "is deleted for good, with its subscriptions, balance and payment methods, and a new customer made"
            if change.old.get("on_delete") == "delete"
            else "stays in Stripe (on_delete=keep), with whatever bills it outside this stack, and a new customer "
            "is made"
        )


def refusal(change: Change) -> str | None:
    """Stripe never gives an invoice prefix to a second customer, not even that of a deleted one."""
    if not change.replaces or change.old.get("invoice_prefix") is None:
        return None
    if change.old["invoice_prefix"] != change.new.get("invoice_prefix"):
        return None
    return (
        f"{' and '.join(change.replaces)} makes a new customer, and the invoice_prefix stays with the old one "
        "for good, even when that is deleted; choose another or leave it out"
    )


CUSTOMER = Kind(
    name="Customer",
    noun="customer",
    path="/v1/customers",
    create="stripe.params:CustomerCreateParams",
    update="stripe.params:CustomerUpdateParams",
    own=OwnArguments,
    natural_key="the owner in its metadata",
    when_deleted="As `on_delete` says: `delete` is for good, cancels the customer's subscriptions at once and leaves "
    "invoices that are not paid without a payment method; `keep` "
    "leaves the customer in Stripe and says so. The default is `keep` on a live stack and `delete` elsewhere. A "
    "customer stays while it has a subscription that goes on to the end of its period.",
    when_gone="A deleted customer is made again.",
    fields={
        "balance": Field(
            write_only="Stripe itself changes it with every invoice; resetting it would credit the customer twice",
            keep="an amount of money that somebody may count on",
        ),
        "cash_balance.settings.reconciliation_mode": Field(unset_to="merchant_default"),
        "default_source": Field(keep="Stripe has always one while there are sources"),
        "invoice_prefix": Field(keep="a customer has always one"),
        "next_invoice_sequence": Field(
            write_only="Stripe counts it up with every invoice", keep="numbers of invoices are never used twice"
        ),
        "payment_method": Field(
            write_only="attached when the customer is made; Stripe returns it nowhere on the customer",
            keep="it is attached when the customer is made",
        ),
        "preferred_locales": Field(keep="Stripe's API cannot empty the list"),
        "source": Field(
            write_only="Stripe returns the source that it made, not the token", keep="a source that was added stays"
        ),
        "tax.validate_location": Field(keep="says how one call validates; Stripe stores nothing"),
        "tax_exempt": Field(paid=True, unset_to="none"),
        "tax_id_data": Field(
            write_only="become objects of their own when the customer is made",
            keep="the tax ids are objects of their own once the customer is made",
        ),
        "validate": Field(request_option="says whether Stripe validates a payment source in this call"),
    },
    expand=("tax", "cash_balance"),
    rules=(
        rules.metadata,
        rules.longest(
            {
                "name": 256,
                "email": 512,
                "phone": 20,
                "description": 350,
                "business_name": 150,
                "individual_name": 150,
                "invoice_settings.custom_fields.*.name": 40,
                "invoice_settings.custom_fields.*.value": 140,
            }
        ),
        rules.at_most_items({"invoice_settings.custom_fields": 4, "tax_id_data": 5}),
        rules.between({"next_invoice_sequence": (1, None)}),
        rules.emails("email"),
        rules.exclusive("source", "default_source", why="a new source becomes the default, and the one before goes"),
        invoice_prefix,
        ip_address,
    ),
    fill=fill,
    warnings=warnings,
    refusal=refusal,
    remarks=remarks,
)


class Customers(Reconciler):
    def listed_apart(self, new: Inputs) -> Iterator[Inputs]:
        if "test_clock" in new:
            # Stripe lists the customers of a clock only when it is named.
            yield {"test_clock": new["test_clock"], **self.expanded("data.")}

    def returned(self, name: str, value: Any, remote: StripeObject) -> Any:
        found = super().returned(name, value, remote)
        if name == "tax" and isinstance(value, Mapping) and "validate_location" in value:
            # Says how a call validates; Stripe does not store it.
            return {**(found or {}), "validate_location": value["validate_location"]}
        if name == "cash_balance":
            settings = (remote.get("cash_balance") or {}).get("settings") or {}
            if settings.get("using_merchant_default"):
                return {"settings": {"reconciliation_mode": "merchant_default"}} if value else MISSING
        return found

    def remove(self, id_: str, known: Inputs, *, being_replaced: bool) -> StripeObject | None:
        if known.get("on_delete") == "keep":
            self.run.tell("info", f"{self.subject(known, id_)}: stays in Stripe (on_delete=keep)")
            return self.inventory.read(id_)
        # Deleting a customer cancels what it is subscribed to, at once and without a last invoice.
        pages = self.account.pages("/v1/subscriptions", {"customer": id_}, subject=self.subject(known, id_))
        try:
            subscriptions = [each for page, _ in pages for each in page]
        except StripeRefusal as refusal:
            if refusal.code != "resource_missing":
                raise
            # Stripe refuses a list by a customer that it does not know, such as one of erased test data.
            return None
        ending = [each["id"] for each in subscriptions if each.get("cancel_at")]
        if ending:
            self.run.tell(
                "warning",
                f"{self.subject(known, id_)}: stays in Stripe, since {' and '.join(ending)} goes on to the end of its "
                "period; delete it in Stripe after that",
            )
            return self.inventory.read(id_)
        held = [each["id"] for each in subscriptions if self.run.is_held("Subscription", each["id"])]
        if held:
            self.run.tell(
                "warning",
                f"{self.subject(known, id_)}: stays in Stripe, since this stack still has {' and '.join(held)}, which "
                "would be cancelled with it; delete it in Stripe after that",
            )
            return self.inventory.read(id_)
        if self.account.livemode:
            self._say_what_is_unpaid(id_, known)
        for each in subscriptions:
            self.run.tell(
                "warning", f"{self.subject(known, id_)}: deleted, and {each['id']}, which nobody cancelled, with it"
            )
        self.call("delete", f"{CUSTOMER.path}/{id_}", {}, subject=self.subject(known, id_))
        return None

    def _say_what_is_unpaid(self, id_: str, known: Inputs) -> None:
        """A deleted customer has no payment method any more: the last invoice of what it was subscribed to is lost."""
        subject = self.subject(known, id_)
        try:
            pages = list(self.account.pages("/v1/invoices", {"customer": id_}, subject=subject))
        except StripeRefusal as refusal:
            if refusal.status != 403:
                raise
            # A restricted key need not be allowed to read invoices.
            return
        unpaid = [each["id"] for page, _ in pages for each in page if each.get("status") in ("draft", "open")]
        if unpaid:
            self.run.tell(
                "warning",
                f"{subject}: deleted while {' and '.join(unpaid)} is not paid, which Stripe cannot charge any more; "
                'on_delete="keep" would have kept it',
            )


class CustomerProvider(StripeProvider):
    kind = CUSTOMER
    reconciler_type = Customers
