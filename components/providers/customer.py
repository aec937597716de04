"""Customers: who is billed. https://docs.stripe.com/api/customers"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Mapping
from typing import Any, Literal, NotRequired

from typing_extensions import TypedDict

from components.account import StripeRefusal
from components.providers import rules, subscription_items
from components.providers.inventory import StripeObject, is_in_use
from components.providers.kind import Change, Declarations, Kind, Problem
from components.providers.lifecycle import StripeProvider
from components.providers.policy import Field
from components.providers.reconciler import Reconciler
from components.providers.values import MISSING, Inputs, id_of


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
        yield f"starts with {_credit(balance)} (balance), whatever an earlier customer of this name had left"


def _credit(balance: int) -> str:
    """A balance in words: in Stripe a negative balance is a credit."""
    return f"{'a credit' if balance < 0 else 'a debt'} of {abs(balance)} minor units"


def warnings(change: Change) -> Iterator[str]:
    balance = change.new.get("balance")
    if not change.replaces and isinstance(balance, int) and balance != change.old.get("balance"):
        yield f"gets {_credit(balance)} (balance), even if invoices have used some of it since it was declared"
    if change.replaces:
        yield (
            "is deleted permanently, with its subscriptions, balance and payment methods; a new customer is created"
            if change.old.get("on_delete") == "delete"
            else "stays in Stripe (on_delete=keep), with what bills it outside this stack; a new customer is created"
        )


def refusal(change: Change) -> str | None:
    """Stripe never gives an invoice prefix to a second customer, even after the first one is deleted."""
    if not change.replaces or change.old.get("invoice_prefix") is None:
        return None
    if change.old["invoice_prefix"] != change.new.get("invoice_prefix"):
        return None
    return (
        f"changing {' and '.join(change.replaces)} creates a new customer, but the invoice_prefix stays with the old "
        "one permanently, even if that is deleted; choose another or remove it"
    )


CUSTOMER = Kind(
    name="Customer",
    noun="customer",
    path="/v1/customers",
    create="stripe.params:CustomerCreateParams",
    update="stripe.params:CustomerUpdateParams",
    own=OwnArguments,
    natural_key="the owner in its metadata",
    when_deleted="As `on_delete` says: `delete` is permanent, cancels the customer's subscriptions at once and leaves "
    "unpaid invoices without a payment method; `keep` leaves the customer in Stripe and says so. The default is `keep` "
    "on a live stack and `delete` elsewhere. A customer stays while one of its subscriptions runs to the end of its "
    "period.",
    when_gone="A deleted customer is created again.",
    fields={
        "balance": Field(
            write_only="Stripe itself changes it with every invoice; resetting it would credit the customer twice",
            keep="it is money that somebody may count on",
        ),
        "cash_balance.settings.reconciliation_mode": Field(unset_to="merchant_default"),
        "default_source": Field(keep="there is always one while there are sources"),
        "invoice_prefix": Field(keep="a customer always has one"),
        "next_invoice_sequence": Field(
            write_only="Stripe increments it with every invoice", keep="invoice numbers are never reused"
        ),
        "payment_method": Field(
            write_only="attached when the customer is created; Stripe does not return it on the customer",
            keep="it was attached when the customer was created",
        ),
        "preferred_locales": Field(keep="Stripe's API cannot empty the list"),
        "source": Field(
            write_only="Stripe returns the source that it created, not the token", keep="a source that was added stays"
        ),
        "tax.validate_location": Field(keep="it controls how one call validates; Stripe stores nothing"),
        "tax_exempt": Field(paid=True, unset_to="none"),
        "tax_id_data": Field(
            write_only="each becomes an object of its own when the customer is created",
            keep="the tax ids are objects of their own once the customer exists",
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
        rules.exclusive("source", "default_source", why="a new source replaces the default one"),
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
            # Stripe lists the customers of a test clock only when the clock is named.
            yield {"test_clock": new["test_clock"], **self.expanded("data.")}

    def returned(self, name: str, value: Any, remote: StripeObject) -> Any:
        found = super().returned(name, value, remote)
        if name == "tax" and isinstance(value, Mapping) and "validate_location" in value:
            # It controls how one call validates; Stripe does not store it.
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
        # Deleting a customer cancels its subscriptions at once, without a final invoice.
        try:
            subscriptions = self._subscriptions(id_, known)
        except StripeRefusal as refusal:
            if refusal.code != "resource_missing":
                raise
            # Stripe refuses to list by an unknown customer, such as after test data was erased.
            return None
        ending = [each["id"] for each in subscriptions if each.get("cancel_at")]
        if ending:
            self.run.tell(
                "warning",
                f"{self.subject(known, id_)}: stays in Stripe until {' and '.join(ending)} ends with its period; "
                "delete it in Stripe after that",
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
                "warning", f"{self.subject(known, id_)}: deleted together with {each['id']}, which was not cancelled"
            )
        self.call("delete", f"{CUSTOMER.path}/{id_}", {}, subject=self.subject(known, id_))
        return None

    def _subscriptions(self, id_: str, known: Inputs) -> list[StripeObject]:
        """The subscriptions that would end with the customer."""
        # The list has none of a test clock. On a live stack, somebody may subscribe between the list and the deletion.
        if not self.account.livemode and "test_clock" not in known:
            path, expand = subscription_items.PATH, subscription_items.EXPAND
            listed = self.run.inventory_at(path, "subscription", expand=expand, searchable=True).whole()
            if listed is not None:
                return [each for each in listed if id_of(each.get("customer")) == id_ and is_in_use(each)]
        subject = self.subject(known, id_)
        pages = self.account.pages(subscription_items.PATH, {"customer": id_}, subject=subject)
        return [each for page, _ in pages for each in page]

    def _say_what_is_unpaid(self, id_: str, known: Inputs) -> None:
        """A deleted customer has no payment method, so Stripe can no longer charge its final invoices."""
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
                f"{subject}: deleted while unpaid: {' and '.join(unpaid)}, which Stripe can no longer charge; "
                'on_delete="keep" would have kept the customer',
            )


class CustomerProvider(StripeProvider):
    kind = CUSTOMER
    reconciler_type = Customers
