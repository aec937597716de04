"""Mistakes in a declared subscription that Stripe's types cannot express. Pure."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any, Final

from components.providers import paid, rules
from components.providers.customer import CUSTOMER
from components.providers.kind import Declarations, Problem
from components.providers.price import PRICE
from components.providers.shapes import Path
from components.providers.subscription_items import SOURCES
from components.providers.values import Inputs, decimal_string, decimals, is_unknown, mapping

#: https://docs.stripe.com/billing/subscriptions/backdating: "more than 250 line items, which is the default limit".
MOST_LINES: Final = 250
#: The maximum length of each interval, in seconds.
INTERVALS: Final = {"day": 86_400, "week": 7 * 86_400, "month": 31 * 86_400, "year": 366 * 86_400}
#: Of Stripe's 50 keys, one names the owner, and one marks a subscription with waiting prices.
MOST_METADATA: Final = 48
QUANTITY_OF_METERED: Final = "has no meaning for a metered price, which bills the usage; omit it"
#: Stripe treats these like trial offers.
TRIALS: Final = ("trial_end", "trial_from_plan", "trial_period_days")


def one_customer(inputs: Inputs) -> Iterator[Problem]:
    if not rules.given(inputs, "customer") and not rules.given(inputs, "customer_account"):
        yield ("customer",), "is required: the id of a customer (or customer_account)"


def items(inputs: Inputs) -> Iterator[Problem]:
    declared = inputs.get("items")
    if is_unknown(declared):
        return
    if not isinstance(declared, Mapping) or not declared:
        yield ("items",), 'is required: at least one item, with a key of your choice, {"license": {"price": ...}}'
        return
    seen: dict[str, str] = {}
    for key, item in declared.items():
        path: Path = ("items", key)
        if len(key) > 40:
            yield path, f"has a key of {len(key)} characters; at most 40"
        if not isinstance(item, Mapping):
            continue
        sources = [name for name in SOURCES if rules.given(item, name)]
        in_trial = rules.given(item, "current_trial")
        if not sources and not in_trial:
            yield (*path, "price"), "is required: the id of a price (or price_data)"
        elif len(sources) > 1:
            yield (*path, sources[1]), f"cannot be combined with {sources[0]}: an item has one price"
        price = item.get("price")
        if isinstance(price, str) and price in seen:
            yield (*path, "price"), f"is also that of items.{seen[price]}; Stripe allows a price once per subscription"
        elif isinstance(price, str):
            seen[price] = key
        yield from _one_discount(item.get("discounts"), (*path, "discounts"))
        if in_trial:
            yield from _trial_alone(inputs, item, (*path, "current_trial"))
        data = item.get("price_data")
        if isinstance(data, Mapping):
            at: Path = (*path, "price_data")
            yield from rules.one_amount(data, at, ("unit_amount", "unit_amount_decimal"))
            if not any(rules.given(data, name) for name in ("unit_amount", "unit_amount_decimal")):
                yield at, "needs unit_amount or unit_amount_decimal"


def _trial_alone(inputs: Inputs, item: Mapping[str, Any], path: Path) -> Iterator[Problem]:
    """https://docs.stripe.com/billing/subscriptions/trials#limitations"""
    if rules.given(item, "price_data"):
        yield path, "cannot be combined with price_data: the trial offer says which price follows"
    if rules.find(inputs, "billing_mode", "type") == "classic":
        yield path, "needs billing_mode type flexible"
    for name in TRIALS:
        if rules.given(inputs, name):
            yield path, f"cannot be combined with {name}: Stripe accepts only one of them"


def invoice_items(inputs: Inputs) -> Iterator[Problem]:
    for path, item in rules.each(inputs, "add_invoice_items.*"):
        sources = [name for name in ("price", "price_data") if rules.given(item, name)]
        if isinstance(item, Mapping) and len(sources) != 1:
            yield path, "needs price or price_data"
        data = rules.find(item, "price_data")
        if data is not None and rules.given(data, "unit_amount") == rules.given(data, "unit_amount_decimal"):
            yield (*path, "price_data"), "needs unit_amount or unit_amount_decimal"
        yield from _one_discount(rules.find(item, "discounts"), (*path, "discounts"))


def linked_rules(inputs: Inputs, declaration: Declarations) -> Iterator[Problem]:
    """Mistakes in the items' prices, if the program declares them and this process has compared them."""
    recurring: list[Any] = []
    for path, item in rules.each(inputs, "items.*"):
        linked = declaration(PRICE, str(rules.find(item, "price")))
        recurring.append(rules.find(linked.arguments if linked else rules.find(item, "price_data"), "recurring"))
        if rules.given(item, "quantity") and is_metered_by(recurring[-1]):
            yield (*path, "quantity"), QUANTITY_OF_METERED
        if linked and not _bills_in(linked.arguments, inputs.get("currency")):
            one, other = linked.arguments["currency"], inputs["currency"]
            yield (*path, "price"), f"is in {one}, and currency is {other}: declare a price in {other}"
    customer = declaration(CUSTOMER, str(inputs.get("customer")))
    # A test clock has its own date.
    if not (customer and customer.arguments.get("test_clock")):
        yield from _backdating(inputs, recurring)


def _bills_in(price: Inputs, currency: Any) -> bool:
    """Whether a price has amounts in a currency, as far as both are known."""
    known = isinstance(price.get("currency"), str) and not is_unknown(price.get("currency_options"))
    return not known or paid.in_currency(price, currency) is not None


def is_metered_by(recurring: Any) -> bool:
    return bool(rules.find(recurring, "usage_type") == "metered")


def _backdating(inputs: Inputs, items: list[Any]) -> Iterator[Problem]:
    """In flexible mode the first invoice has a line for each period of each item since then.

    https://docs.stripe.com/billing/subscriptions/backdating
    """
    start = rules.find(inputs, "backdate_start_date")
    classic = rules.find(inputs, "billing_mode", "type") == "classic"
    if not isinstance(start, int) or classic or inputs.get("proration_behavior") == "none":
        return
    lines = 0
    for recurring in items:
        interval, count = rules.find(recurring, "interval"), rules.find(recurring, "interval_count") or 1
        if interval in INTERVALS and isinstance(count, int) and not is_metered_by(recurring):
            lines += int(time.time() - start) // (INTERVALS[interval] * count)
    if lines > MOST_LINES:
        what = f"makes a first invoice of more than {MOST_LINES} lines, one for each period since then"
        yield ("backdate_start_date",), f"{what}, Stripe's maximum; choose a later date"


def discounts(inputs: Inputs) -> Iterator[Problem]:
    yield from _one_discount(inputs.get("discounts"), ("discounts",))


def _one_discount(values: Any, path: Path) -> Iterator[Problem]:
    for index, each in enumerate(values if isinstance(values, list) else ()):
        names = [name for name in ("coupon", "promotion_code", "discount") if rules.given(each, name)]
        if isinstance(each, Mapping) and len(names) != 1:
            yield (*path, index), "needs one of coupon, promotion_code or discount"


def collection(inputs: Inputs) -> Iterator[Problem]:
    """A sent invoice has a due date; a charge has none."""
    method = inputs.get("collection_method", "charge_automatically")
    if method == "send_invoice" and not rules.given(inputs, "days_until_due"):
        yield ("days_until_due",), "is required with collection_method send_invoice"
    if method == "charge_automatically" and rules.given(inputs, "days_until_due"):
        yield ("days_until_due",), "needs collection_method send_invoice"


def billing_mode(inputs: Inputs) -> Iterator[Problem]:
    mode = rules.find(inputs, "billing_mode", "type")
    if mode == "classic" and rules.given(rules.find(inputs, "billing_mode"), "flexible"):
        yield ("billing_mode", "flexible"), "needs type flexible"
    if mode == "classic" and rules.given(inputs, "billing_schedules"):
        yield ("billing_schedules",), "needs billing_mode type flexible"


def fee_percent(inputs: Inputs) -> Iterator[Problem]:
    for path in (("application_fee_percent",), ("transfer_data", "amount_percent")):
        text = decimal_string(rules.find(inputs, *path))
        if text is not None and (text.startswith("-") or decimals(text) > 2 or float(text) > 100):
            yield path, "must be 0 to 100 with at most 2 decimals"
    share = ("transfer_data", "amount_percent")
    if rules.given(inputs, "application_fee_percent") and rules.find(inputs, *share) is not None:
        yield share, "cannot be combined with application_fee_percent: they are two ways to say the same"


def price_changes(inputs: Inputs) -> Iterator[Problem]:
    """A schedule moves items only to existing prices."""
    if inputs.get("price_changes") != "at_renewal":
        return
    if len(mapping(inputs.get("metadata"))) > MOST_METADATA:
        yield ("metadata",), f"has more than {MOST_METADATA} keys; price_changes at_renewal needs one of Stripe's 50"
    for path, item in rules.each(inputs, "items.*"):
        for name in ("price_data", "plan"):
            if rules.given(item, name):
                yield (
                    (*path, name),
                    "cannot be combined with price_changes at_renewal: declare a Price, and link it by its id",
                )
        if rules.given(item, "current_trial"):
            yield (
                (*path, "current_trial"),
                "cannot be combined with price_changes at_renewal: Stripe schedules no trial offers",
            )
