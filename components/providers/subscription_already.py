"""What a subscription has had already, and must not have twice: one-time charges, a time that was billed, discounts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from components.account import StripeRefusal
from components.providers import discounts as discounts_of
from components.providers import paid, rules
from components.providers.inventory import StripeObject, is_gone, owner_of
from components.providers.reconciler import Reconciler
from components.providers.values import Inputs, decimal_string, id_of, mapping


def uncharged(reconciler: Reconciler, new: Inputs) -> Inputs:
    """The arguments without what an earlier subscription of this name has already billed to the customer.

    A subscription that is replaced, or was cancelled in Stripe, is created again; one-time charges are not.
    """
    if not new.get("customer") or not (new.get("add_invoice_items") or new.get("backdate_start_date")):
        return new
    customer, subject = {"customer": new["customer"]}, reconciler.subject(new)
    pages = reconciler.account.pages(reconciler.kind.path, {**customer, "status": "canceled"}, subject=subject)
    earlier = [each for page, _ in pages for each in page if owner_of(each) == new["owner"]]
    if not earlier:
        return new
    result, start = dict(new), new.get("backdate_start_date")
    billed = next((each["id"] for each in earlier if start and each.get("start_date", start + 1) <= start), None)
    if billed:
        del result["backdate_start_date"]
        reconciler.run.tell(
            "warning", f"{subject}: starts now, since {billed} was billed from {paid.date(int(start or 0))} on"
        )
    if new.get("add_invoice_items"):
        ids = {each["id"] for each in earlier}
        pages = reconciler.account.pages("/v1/invoiceitems", customer, subject=subject)
        charged = [each for page, _ in pages for each in page if _subscription_of(each) in ids]
        fresh = _not_charged(new["add_invoice_items"], charged)
        result["add_invoice_items"] = fresh
        if len(fresh) < len(new["add_invoice_items"]):
            reconciler.run.tell(
                "warning",
                f"{subject}: {len(new['add_invoice_items']) - len(fresh)} of add_invoice_items are not charged "
                f"again: {' and '.join(sorted(ids))} charged them",
            )
        if not fresh:
            del result["add_invoice_items"]
    return result


def used_up(reconciler: Reconciler, remote: StripeObject) -> discounts_of.UsedUp:
    """Tells whether a declared discount that Stripe no longer has was used up.

    Only then does it read the coupon, and the invoices that it reduced.
    """

    def is_used_up(declared: Inputs) -> bool:
        if "discount" in declared:
            # It has ended, and nothing grants it again.
            return True
        try:
            coupon = _coupon(reconciler, declared)
            if coupon is None:
                return True
            starts = [
                int(each["start"])
                for each in _discounts_billed(reconciler, str(remote["id"]))
                if discounts_of.as_declared(each) == declared
            ]
        except StripeRefusal as refusal:
            if refusal.status != 403:
                raise
            # A restricted key may not be allowed to read them. To grant it twice is worse than not to show drift.
            return True
        ends = [int(item.get("current_period_end") or 0) for item in (remote.get("items") or {}).get("data", [])]
        return discounts_of.is_over(coupon, starts, int(remote.get("start_date") or 0), max(ends, default=0))

    return is_used_up


def _coupon(reconciler: Reconciler, declared: Inputs) -> StripeObject | None:
    """The coupon behind a declared discount; None where it is deleted."""
    name = declared.get("coupon")
    if name is None:
        codes = reconciler.run.inventory_at("/v1/promotion_codes", "promotion code")
        code = codes.known(str(declared["promotion_code"])) or codes.fetch(str(declared["promotion_code"]))
        promotion = (code or {}).get("promotion") or {}
        name = id_of(promotion.get("coupon") or (code or {}).get("coupon"))
    if name is None:
        return None
    coupons = reconciler.run.inventory_at("/v1/coupons", "coupon")
    found = coupons.known(name) or coupons.fetch(name)
    return None if found is None or is_gone(found) else found


def _discounts_billed(reconciler: Reconciler, id_: str) -> list[StripeObject]:
    """The discounts on the invoices of a subscription, those of its items too."""
    params = {"subscription": id_, "expand": ["data.total_discount_amounts.discount"]}
    pages = reconciler.account.pages("/v1/invoices", params, subject=f"invoices of {id_}")
    amounts = [each for page, _ in pages for invoice in page for each in invoice.get("total_discount_amounts") or ()]
    return [each["discount"] for each in amounts if isinstance(each.get("discount"), Mapping)]


def _subscription_of(invoice_item: Mapping[str, Any]) -> Any:
    return rules.find(invoice_item, "parent", "subscription_details", "subscription")


def _not_charged(declared: list[Any], charged: list[StripeObject]) -> list[Any]:
    """The entries of `add_invoice_items` that no invoice item is of."""
    rest, fresh = list(charged), []
    for entry in declared:
        found = next((each for each in rest if _is_charge_of(entry, each)), None)
        if found is None:
            fresh.append(entry)
        else:
            rest.remove(found)
    return fresh


def _is_charge_of(entry: Mapping[str, Any], item: StripeObject) -> bool:
    data, details = mapping(entry.get("price_data")), rules.find(item, "pricing", "price_details") or {}
    if item.get("quantity") != entry.get("quantity", 1):
        return False
    if not data:
        return bool(details.get("price") == entry.get("price"))
    amount = decimal_string(str(rules.find(item, "pricing", "unit_amount_decimal")))
    same = decimal_string(data.get("unit_amount_decimal", data.get("unit_amount")))
    return (details.get("product"), item.get("currency"), amount) == (data.get("product"), data.get("currency"), same)
