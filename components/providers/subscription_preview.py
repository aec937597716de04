"""What a preview says of a subscription beside the diff: who pays what, when, and what cannot be undone. Pure.

Each sentence is true of the subscription whose diff it comes from. What other resources do is theirs to say: under
`--target` they may not be part of the run.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from functools import cached_property
from typing import Any, Final

from components.providers import paid
from components.providers.paid import KnownPrice
from components.providers.subscription_items import offer_of, renamed
from components.providers.values import MISSING, Inputs, is_unknown, mapping

#: Usage until now is billed and nothing is given back; Stripe's own default leaves metered usage unbilled.
CANCEL_DEFAULTS: Final = {"when": "now", "invoice_now": True, "prorate": False}


@dataclass(frozen=True)
class Change:
    """A subscription's change.

    Attributes:
        olds: the state's properties, outputs included.
        old, new: the arguments in the state and in the program.
        prices: what is known of prices, by id.
    """

    olds: Inputs
    old: Inputs
    new: Inputs
    prices: Mapping[str, KnownPrice]

    @property
    def is_classic(self) -> bool:
        """Whether it bills in classic mode and goes on to."""
        declared = mapping(self.new.get("billing_mode")).get("type")
        return self.olds.get("billing_mode_type") == "classic" and declared != "flexible"

    @property
    def currency(self) -> Any:
        return self.olds.get("billing_currency") or self.new.get("currency")

    @property
    def prorations(self) -> str:
        return str(self.new.get("proration_behavior", "create_prorations"))

    @cached_property
    def before(self) -> Mapping[str, Any]:
        """The items of the state, under the keys that the program has for them now."""
        items, keys = mapping(self.old.get("items")), self.keys
        return {keys.get(key, key): item for key, item in items.items()}

    @cached_property
    def after(self) -> Mapping[str, Any]:
        return mapping(self.new.get("items"))

    @cached_property
    def keys(self) -> dict[str, str]:
        """The items whose key the program has renamed: new keys by old ones."""
        return renamed(mapping(self.old.get("items")), mapping(self.new.get("items")))

    def is_metered(self, key: str) -> bool:
        """Whether an item of the state is billed by usage."""
        old_keys = {new: old for old, new in self.keys.items()}
        return old_keys.get(key, key) in (self.olds.get("metered_items") or ())

    def price_before(self, key: str) -> Mapping[str, Any] | None:
        """The price of an item of the state, as far as the program tells."""
        return paid.price_of(mapping(self.before.get(key)), {id_: each.before for id_, each in self.prices.items()})

    def price_after(self, key: str) -> Mapping[str, Any] | None:
        """The price that an item shall have, as far as the program tells."""
        if replaced := self.replaced(key):
            return replaced.after
        return paid.price_of(mapping(self.after.get(key)), {id_: each.after for id_, each in self.prices.items()})

    def replaced(self, key: str) -> KnownPrice | None:
        """The price of an item that this run replaces; what takes its place has no id yet."""
        was, now = mapping(self.before.get(key)).get("price"), mapping(self.after.get(key)).get("price")
        known = self.prices.get(str(was))
        return known if known is not None and known.is_replaced and is_unknown(now) else None

    def fee(self, key: str, *, after: bool) -> Decimal | None:
        """What an item costs in each period, before or after the change."""
        item = mapping((self.after if after else self.before).get(key))
        price = self.price_after(key) if after else self.price_before(key)
        return None if price is None else paid.fee(price, item.get("quantity", 1), self.currency)

    def fee_text(self, key: str, *, after: bool) -> str | None:
        """The same for a sentence: `300.00 USD a month`."""
        item = mapping((self.after if after else self.before).get(key))
        price = self.price_after(key) if after else self.price_before(key)
        return None if price is None else paid.fee_text(price, item.get("quantity", 1), self.currency)


def of_change(change: Change) -> Iterator[str]:
    """The sentences of an update in place."""
    if mapping(change.new.get("billing_mode")).get("type") == "flexible" and "classic" in (
        mapping(change.old.get("billing_mode")).get("type"),
        change.olds.get("billing_mode_type"),
    ):
        yield "billing_mode becomes flexible, which cannot be undone"
    yield from _end_taken_back(change)
    yield from _once(change)
    yield from _trial(change)
    if not isinstance(change.new.get("items"), Mapping):
        return
    for key, new_key in sorted(change.keys.items()):
        yield f"item {key} is {new_key} from now on; in Stripe it stays the item that it is"
    for key in sorted(change.before.keys() | change.after.keys()):
        yield from _item(change, key)
    yield from _at_once(change)


def of_replacement(change: Change) -> Iterator[str]:
    """The sentences of one that is cancelled for a new one."""
    if change.olds.get("has_ended"):
        yield "has ended, and a new subscription is made, with a billing period of its own"
        return
    trials = [key for key in sorted(change.after) if mapping(change.after[key]).get("current_trial")]
    anew = f" and the trial of {', '.join(trials)} from its beginning" if trials else ""
    total = total_text(change, change.after)
    yield (
        f"is cancelled now ({ending(change.old)}) and a new subscription made, with a billing period of its "
        f"own{f' ({total})' if total else ''}{anew}; this cannot be undone"
    )
    yield from _end_taken_back(change)


def of_all(change: Change) -> Iterator[str]:
    """What happens alike to every subscription on a price that is replaced: said once, of the price."""
    for key in sorted(change.before.keys() & change.after.keys()):
        known = change.replaced(key)
        if known is None or mapping(change.after[key]).get("current_trial"):
            continue
        one = [paid.fee_text(each, 1, change.currency) for each in (known.before, known.after)]
        amounts = f" ({one[0]} => {one[1]} each)" if None not in one else ""
        yield f"{known.name}: subscriptions on it move to the new price{amounts}; {_the_rest(change, key)}"


def of_new(new: Inputs, prices: Mapping[str, KnownPrice]) -> Iterator[str]:
    """What one that is made bills beside its items: things that are billed once, and a time that has passed."""
    known = {id_: each.after for id_, each in prices.items()}
    once = new.get("add_invoice_items")
    if isinstance(once, list) and once:
        yield (
            f"add_invoice_items charge {paid.once_text(once, known, new.get('currency'))} with the first invoice, "
            "except what an earlier subscription of this name has charged"
        )
    if isinstance(start := new.get("backdate_start_date"), int):
        items = mapping(new.get("items")).values()
        priced = [(paid.price_of(mapping(each), known), mapping(each).get("quantity", 1)) for each in items]
        fees = [paid.fee_text(price, quantity, new.get("currency")) for price, quantity in priced if price is not None]
        amounts = " and ".join(each for each in fees if each)
        yield (
            f"bills the time from {date(start)} on (backdate_start_date){f', {amounts}' if amounts else ''}, unless an "
            "earlier subscription of this name was billed for it"
        )
    in_trial = [name for name in ("trial_period_days", "trial_end") if new.get(name) not in (None, "now")]
    if in_trial and any(
        paid.is_metered(paid.price_of(mapping(each), known) or {}) for each in mapping(new.get("items")).values()
    ):
        yield f"usage until the end of its trial ({in_trial[0]}) is billed at 0"


def ending(old: Mapping[str, Any]) -> str:
    """How a cancellation ends what is billed."""
    cancel = {**CANCEL_DEFAULTS, **mapping(old.get("cancel"))}
    invoice = "with a last invoice for its usage" if cancel["invoice_now"] else "its unbilled usage is not billed"
    return f"{invoice}, unused time is {'' if cancel['prorate'] else 'not '}credited"


def total_text(change: Change, keys: Iterable[str]) -> str | None:
    """What some items cost together in each period after the change; None where the program does not know."""
    prices = [(key, change.price_after(key)) for key in keys]
    licensed = [(key, price) for key, price in prices if price is None or not paid.is_metered(price)]
    fees = [change.fee(key, after=True) for key, _ in licensed]
    if not fees or any(fee is None for fee in fees) or len({paid.every(price or {}) for _, price in licensed}) > 1:
        return None
    currency = change.currency or mapping(licensed[0][1]).get("currency")
    if not isinstance(currency, str):
        return None
    total = sum((fee for fee in fees if fee is not None), Decimal(0))
    return f"{paid.text(total, currency)}{paid.every(licensed[0][1] or {})}"


def date(moment: int) -> str:
    """A moment of Stripe's as a day (UTC)."""
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d")


def added(old: Any, new: Any) -> list[Any]:
    """The entries of a list that it did not have before."""
    rest = list(old) if isinstance(old, list) else []
    found = []
    for each in new if isinstance(new, list) else ():
        if each in rest:
            rest.remove(each)
        else:
            found.append(each)
    return found


def _item(change: Change, key: str) -> Iterator[str]:
    """What is paid for one item from now on, where that changes."""
    old, new = change.before.get(key), change.after.get(key)
    if new is None:
        yield f"item {key} is removed{_in_brackets(change.fee_text(key, after=False))}; {_the_rest(change, key)}"
        return
    old, new = mapping(old) if old is not None else None, mapping(new)
    trial, was_in = new.get("current_trial"), (old or {}).get("current_trial")
    if was_in and not trial:
        yield f"item {key}: its trial stays as it is in Stripe: a trial that was begun runs on"
    if trial and trial != was_in:
        # Whoever pays the price already pays the trial's again.
        offer = "its trial offer" if is_unknown(mapping(trial).get("trial_offer")) else offer_of(trial)
        yield f"item {key} begins a trial: it bills the price of {offer} until that is over"
    elif old is None:
        yield f"item {key} is added{_in_brackets(change.fee_text(key, after=True))}; {_the_rest(change, key)}"
    else:
        yield from _moved(change, key, old, new)
    if old is not None:
        yield from _other_currency(change, key)


def _moved(change: Change, key: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    before, after = (change.fee_text(key, after=each) for each in (False, True))
    amounts = f", {before} => {after}" if before and after and before != after else ""
    was, now = (_source(each) for each in (old, new))
    seats = tuple(1 if each.get("quantity") is None else each["quantity"] for each in (old, new))
    quantity = f"quantity {seats[0]} => {seats[1]}"
    if was != now and change.replaced(key) is None:
        more = f", {quantity}{amounts}" if seats[0] != seats[1] else amounts
        yield f"item {key} moves from {_named(change, old)} to {_named(change, new)}{more}; {_the_rest(change, key)}"
    elif seats[0] != seats[1] and not change.is_metered(key):
        yield f"item {key}: {quantity}{amounts}; {_the_rest(change, key)}"


def _other_currency(change: Change, key: str) -> Iterator[str]:
    item = mapping(change.after.get(key))
    was, now = mapping(change.before.get(key)).get("price"), item.get("price")
    # A price that is replaced has no id yet: what it will be is declared under the old one's.
    known = change.prices.get(str(was if is_unknown(now) else now))
    billed = change.olds.get("billing_currency")
    currency = known.after.get("currency") if known else None
    if known is None or not billed or not isinstance(currency, str):
        return
    if paid.in_currency(known.after, billed) is not None:
        return
    yield (
        f"item {key}: {known.name} is in {currency}, and the subscription bills in {billed}; Stripe refuses to mix "
        f'them: move the item to a price in {billed}, or declare currency="{currency}", which makes a new subscription'
    )


def _the_rest(change: Change, key: str) -> str:
    """What becomes of the current period of an item that comes, goes, or moves to another price.

    https://docs.stripe.com/billing/subscriptions/usage-based/manage-billing-setup
    """
    how = change.prorations
    when = "at once" if how == "always_invoice" else "on the next invoice"
    after = change.price_after(key) if key in change.after else None
    anew = f", and {paid.included(after):,} included units begin anew" if after and paid.included(after) else ""
    if key not in change.before and after is not None and paid.is_metered(after):
        return "its usage is counted from now on"
    if key in change.before and change.is_metered(key):
        if change.is_classic or how == "none":
            return f"its usage in this period is not billed{anew}"
        return f"its usage so far is billed {when}{anew}"
    if how == "none":
        return "the rest of the period is not prorated"
    return f"the rest of the period is prorated {when}"


def _at_once(change: Change) -> Iterator[str]:
    """An invoice that comes with the change, and periods that begin anew.

    https://docs.stripe.com/billing/subscriptions/billing-mode/compare
    """
    anchor = change.new.get("billing_cycle_anchor")
    anew = mapping(anchor).get("type") == "now" and anchor != change.old.get("billing_cycle_anchor")
    if anew and not change.is_classic:
        yield (
            "its periods begin anew now (billing_cycle_anchor): usage so far and the time that is added are billed on "
            "the next invoice, and included units begin anew"
        )
        return
    why = "billing_cycle_anchor" if anew else _why_anew(change)
    if why is None:
        return
    total = total_text(change, change.after)
    unused = ", less the unused time of the old ones" if change.prorations != "none" else ""
    yield f"its periods begin anew now, with an invoice at once{f': {total}{unused}' if total else unused} ({why})"


def _why_anew(change: Change) -> str | None:
    """Why classic billing begins new periods though nobody asks for it."""
    if not change.is_classic:
        return None
    before = [change.price_before(key) for key in change.before]
    after = [change.price_after(key) for key in change.after]
    known = [each for each in (*before, *after) if each is not None]
    if len(known) < len(before) + len(after):
        return None
    was, now = ({paid.interval(each or {}) for each in prices} for prices in (before, after))
    if was != now:
        return "classic billing_mode, and another interval"
    free, stays_free = (all(paid.is_free(each or {}) for each in prices) for prices in (before, after))
    return "classic billing_mode, and what was free is paid" if free and not stays_free else None


def _end_taken_back(change: Change) -> Iterator[str]:
    """An end that the state has and the program does not: the customer may have cancelled, in the portal."""
    if any(change.new.get(name) for name in ("cancel_at", "cancel_at_period_end")):
        return
    end = change.old.get("cancel_at")
    when = f"on {date(end)}" if isinstance(end, int) else "with its period"
    if end or change.old.get("cancel_at_period_end"):
        total = total_text(change, change.after)
        yield (
            f"was to end {when}, and goes on{f', {total}' if total else ''}: if the customer has cancelled, in the "
            "portal say, declare that end (cancel_at_period_end or cancel_at)"
        )


def _once(change: Change) -> Iterator[str]:
    fresh = added(change.old.get("add_invoice_items"), change.new.get("add_invoice_items"))
    if fresh:
        known = {id_: each.after for id_, each in change.prices.items()}
        yield f"add_invoice_items charge {paid.once_text(fresh, known, change.currency)} once, on the next invoice"


def _trial(change: Change) -> Iterator[str]:
    was, now = change.old.get("trial_end"), change.new.get("trial_end")
    if now == was or now is None:
        return
    if now == "now":
        total = total_text(change, change.after)
        yield f"its trial, if it is in one, ends now, with an invoice at once{f': {total}' if total else ''}"
    elif isinstance(now, int):
        yield (
            f"nothing is paid until {date(now)} (trial_end): what was paid for that time is credited, and usage in it is "
            "billed at 0"
        )


def _source(item: Mapping[str, Any]) -> Any:
    """What an item says of its price."""
    return next((item[name] for name in ("price", "price_data", "plan") if item.get(name) is not None), MISSING)


def _named(change: Change, item: Mapping[str, Any]) -> str:
    source = _source(item)
    if isinstance(source, Mapping):
        return "a price of its own"
    if is_unknown(source):
        return "a price that is made in this run"
    known = change.prices.get(str(source))
    return known.name if known else str(source)


def _in_brackets(text: str | None) -> str:
    return f" ({text})" if text else ""
