"""What a preview says of a subscription beside the diff: who pays what, when, and what cannot be undone. Pure.

Each sentence is true of the subscription whose diff it comes from. What other resources do is theirs to say: under
`--target` they may not be part of the run.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from typing import Any, Final

from components.providers import paid
from components.providers.coupon import COUPON, takes_off
from components.providers.kind import Change, Declaration, Declarations
from components.providers.paid import date as date
from components.providers.price import PRICE
from components.providers.subscription_items import offer_of, renamed
from components.providers.values import MISSING, Inputs, is_unknown, mapping

#: Usage until now is billed and nothing is given back; Stripe's own default leaves metered usage unbilled.
CANCEL_DEFAULTS: Final = {"when": "now", "invoice_now": True, "prorate": False}


@dataclass(frozen=True)
class Bill:
    """What a subscription bills before and after a bill.

    Attributes:
        outputs: what the state says of it.
        old, new: the arguments in the state and in the program.
        declaration: what the program declares of another object.
    """

    outputs: Inputs
    old: Inputs
    new: Inputs
    declaration: Declarations

    @property
    def is_classic(self) -> bool:
        """Whether it bills in classic mode and goes on to."""
        declared = mapping(self.new.get("billing_mode")).get("type")
        return self.outputs.get("billing_mode_type") == "classic" and declared != "flexible"

    @property
    def currency(self) -> Any:
        return self.outputs.get("billing_currency") or self.new.get("currency")

    @property
    def prorations(self) -> str:
        return str(self.new.get("proration_behavior", "create_prorations"))

    @property
    def is_later(self) -> bool:
        """Whether items come, go and move to another price at the renewal."""
        return self.new.get("price_changes") == "at_renewal"

    @cached_property
    def waiting(self) -> Mapping[str, Any]:
        """What the items bill whose move waits for the renewal, by key; an item that comes then bills nothing."""
        return mapping(self.outputs.get("billed_until_then"))

    @cached_property
    def before(self) -> Mapping[str, Any]:
        """The items that are billed now, under the keys that the program has for them now."""
        items, keys = mapping(self.old.get("items")), self.keys
        billed = {key: {**mapping(items.get(key)), **each} if each else None for key, each in self.waiting.items()}
        return {keys.get(key, key): item for key, item in {**items, **billed}.items() if item is not None}

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
        return old_keys.get(key, key) in (self.outputs.get("metered_items") or ())

    def price_before(self, key: str) -> Mapping[str, Any] | None:
        """The price of an item of the state, as far as the program tells."""
        return paid.price_of(mapping(self.before.get(key)), lambda id_: _arguments(self.price(id_), after=False))

    def price_after(self, key: str) -> Mapping[str, Any] | None:
        """The price that an item shall have, as far as the program tells."""
        if replaced := self.replaced(key):
            return replaced.arguments
        return paid.price_of(mapping(self.after.get(key)), lambda id_: _arguments(self.price(id_), after=True))

    def price(self, id_: object) -> Declaration | None:
        """A price of this run, by its id."""
        return self.declaration(PRICE, id_) if isinstance(id_, str) else None

    def replaced(self, key: str) -> Declaration | None:
        """The price of an item that this run replaces; what takes its place has no id yet."""
        was, now = mapping(self.before.get(key)).get("price"), mapping(self.after.get(key)).get("price")
        known = self.price(was)
        return known if known is not None and known.is_replaced and is_unknown(now) else None

    def costs_the_same(self, key: str) -> bool:
        """Whether an item moves between two prices that cost the same, as far as the program tells."""
        before, after = self.price_before(key), self.price_after(key)
        if (
            before is None
            or after is None
            or _source(mapping(self.before.get(key))) == _source(mapping(self.after[key]))
        ):
            return False
        both = [PRICE.comparable(dict(price)) for price in (before, after)]
        return all(both[0].get(name) == both[1].get(name) for name in paid.COSTS)

    def fee(self, key: str, *, after: bool) -> Decimal | None:
        """What an item costs in each period, before or after the bill."""
        item = mapping((self.after if after else self.before).get(key))
        price = self.price_after(key) if after else self.price_before(key)
        return None if price is None else paid.fee(price, item.get("quantity", 1), self.currency)

    def fee_text(self, key: str, *, after: bool) -> str | None:
        """The same for a sentence: `300.00 USD a month`."""
        item = mapping((self.after if after else self.before).get(key))
        price = self.price_after(key) if after else self.price_before(key)
        return None if price is None else paid.fee_text(price, item.get("quantity", 1), self.currency)


def _of_change(bill: Bill) -> Iterator[str]:
    """The sentences of an update in place."""
    if mapping(bill.new.get("billing_mode")).get("type") == "flexible" and "classic" in (
        mapping(bill.old.get("billing_mode")).get("type"),
        bill.outputs.get("billing_mode_type"),
    ):
        yield "billing_mode becomes flexible, which cannot be undone"
    yield from _end_taken_back(bill)
    yield from _once(bill)
    yield from _trial(bill)
    yield from _discounts(bill)
    if not isinstance(bill.new.get("items"), Mapping):
        return
    for key, new_key in sorted(bill.keys.items()):
        yield f"item {key} is {new_key} from now on; in Stripe it stays the same item"
    for key in sorted(bill.before.keys() | bill.after.keys()):
        yield from _item(bill, key)
    yield from _at_once(bill)


def _of_replacement(bill: Bill) -> Iterator[str]:
    """The sentences of one that is cancelled for a new one."""
    if bill.outputs.get("has_ended"):
        yield "has ended, and a new subscription is created, with a billing period of its own"
        return
    trials = [key for key in sorted(bill.after) if mapping(bill.after[key]).get("current_trial")]
    begun = [f"the trial of {', '.join(trials)}"] if trials else []
    begun += ["its trial"] if bill.new.get("trial_period_days") else []
    begun += ["its discounts"] if bill.new.get("discounts") else []
    total = total_text(bill, bill.after)
    yield (
        f"is cancelled now ({ending(bill.old)}) and a new subscription is created, with a billing period of its "
        f"own{_in_brackets(total)}{f', and {_and(begun)} from the beginning' if begun else ''}; this cannot be undone"
    )
    yield from _end_taken_back(bill)


def notices(change: Change) -> Iterator[str]:
    """What happens alike to every subscription on a price that is replaced: said once, of the price."""
    if not change.replaces:
        yield from _of_all(_bill(change))


def warnings(change: Change) -> Iterator[str]:
    """What happens to one subscription."""
    bill = _bill(change)
    yield from _of_replacement(bill) if change.replaces else _of_change(bill)


def _bill(change: Change) -> Bill:
    return Bill(change.outputs, change.old, change.new, change.declaration)


def _arguments(price: Declaration | None, *, after: bool) -> Inputs | None:
    return None if price is None else price.arguments if after else price.before


def _of_all(bill: Bill) -> Iterator[str]:
    for key in sorted(bill.before.keys() & bill.after.keys()):
        known = bill.replaced(key)
        if known is None or mapping(bill.after[key]).get("current_trial"):
            continue
        one = [paid.fee_text(each, 1, bill.currency) for each in (known.before, known.arguments)]
        amounts = f" ({one[0]} => {one[1]} each)" if None not in one else ""
        when = " at their renewals (price_changes)" if bill.is_later else ""
        moves = f"subscriptions that this run updates move to the new price{amounts}{when}"
        yield f"{known.subject}: {moves}; {_the_rest(bill, key)}"


def of_new(new: Inputs, declaration: Declarations) -> Iterator[str]:
    """What one that is made bills beside its items: things that are billed once, and a time that has passed."""

    def known(id_: str) -> Mapping[str, Any] | None:
        return _arguments(declaration(PRICE, id_), after=True)

    once = new.get("add_invoice_items")
    if isinstance(once, list) and once:
        yield (
            f"add_invoice_items charge {paid.once_text(once, known, new.get('currency'))} with the first invoice, "
            "except what an earlier subscription of this name already charged"
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
    invoice = "with a final invoice for its usage" if cancel["invoice_now"] else "its unbilled usage is not billed"
    return f"{invoice}, unused time is {'' if cancel['prorate'] else 'not '}credited"


def total_text(bill: Bill, keys: Iterable[str]) -> str | None:
    """What some items cost together in each period after the change; None where the program does not know."""
    prices = [(key, bill.price_after(key)) for key in keys]
    licensed = [(key, price) for key, price in prices if price is None or not paid.is_metered(price)]
    fees = [bill.fee(key, after=True) for key, _ in licensed]
    if not fees or any(fee is None for fee in fees) or len({paid.every(price or {}) for _, price in licensed}) > 1:
        return None
    currency = bill.currency or mapping(licensed[0][1]).get("currency")
    if not isinstance(currency, str):
        return None
    total = sum((fee for fee in fees if fee is not None), Decimal(0))
    return f"{paid.text(total, currency)}{paid.every(licensed[0][1] or {})}"


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


def _item(bill: Bill, key: str) -> Iterator[str]:
    """What is paid for one item from now on, where that changes."""
    old, new = bill.before.get(key), bill.after.get(key)
    if new is None:
        if bill.is_later and key in bill.waiting and key not in mapping(bill.old.get("items")):
            return
        fee = _in_brackets(bill.fee_text(key, after=False))
        yield f"item {key} is removed{fee}{_when(bill)}; {_the_rest(bill, key)}"
        return
    old, new = mapping(old) if old is not None else None, mapping(new)
    trial, was_in = new.get("current_trial"), (old or {}).get("current_trial")
    if was_in and not trial:
        yield f"item {key}: its trial stays in Stripe: a trial that has begun runs on"
    if trial and trial != was_in:
        # Whoever pays the price already pays the trial's again.
        offer = "its trial offer" if is_unknown(mapping(trial).get("trial_offer")) else offer_of(trial)
        yield f"item {key} begins a trial: it bills the price of {offer} until that is over"
    elif old is None:
        if bill.is_later and mapping(bill.old.get("items")).get(key) == new:
            return
        yield f"item {key} is added{_in_brackets(bill.fee_text(key, after=True))}{_when(bill)}; {_the_rest(bill, key)}"
    else:
        yield from _moved(bill, key, old, new)
    if old is not None:
        yield from _other_currency(bill, key)


def _moved(bill: Bill, key: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    before, after = (bill.fee_text(key, after=each) for each in (False, True))
    amounts = f", {before} => {after}" if before and after and before != after else ""
    was, now = (_source(each) for each in (old, new))
    declared = mapping(mapping(bill.old.get("items")).get(key))
    if key in bill.waiting and was == now:
        yield f"item {key} stays on {_named(bill, old)}: its move at the renewal{_on(bill)} is taken back"
    if bill.is_later and was != now and key in bill.waiting and _source(declared) == now:
        yield from _while_it_waits(bill, key, old, declared, new)
        return
    seats = tuple(1 if each.get("quantity") is None else each["quantity"] for each in (old, new))
    quantity = f"quantity {seats[0]} => {seats[1]}"
    if was != now and bill.replaced(key) is None:
        more = f", {quantity}{amounts}" if seats[0] != seats[1] else amounts
        moves = f"moves from {_named(bill, old)} to {_named(bill, new)}{more}{_when(bill)}"
        yield f"item {key} {moves}; {_the_rest(bill, key)}"
    elif seats[0] != seats[1] and not bill.is_metered(key):
        yield f"item {key}: {quantity}{amounts}; {_the_rest(bill, key)}"


def _while_it_waits(
    bill: Bill, key: str, billed: Mapping[str, Any], declared: Mapping[str, Any], new: Mapping[str, Any]
) -> Iterator[str]:
    """The sentences of an item whose price waits for the renewal and stays the one that waits."""
    seats = [each.get("quantity") or 1 for each in (billed, declared, new)]
    if seats[1] == seats[2] or bill.is_metered(key):
        return
    if seats[0] == seats[1]:
        yield f"item {key}: quantity {seats[1]} => {seats[2]}, now and after its renewal; {_prorated(bill)}"
    else:
        yield f"item {key}: quantity {seats[1]} => {seats[2]} with its move at the renewal{_on(bill)}"


def _when(bill: Bill) -> str:
    return f" at its renewal{_on(bill)}" if bill.is_later else ""


def _on(bill: Bill) -> str:
    moment = bill.outputs.get("moves_at")
    return f" ({paid.date(int(moment))})" if moment else ""


def _other_currency(bill: Bill, key: str) -> Iterator[str]:
    item = mapping(bill.after.get(key))
    was, now = mapping(bill.before.get(key)).get("price"), item.get("price")
    # A price that is replaced has no id yet: what it will be is declared under the old one's.
    known = bill.price(was if is_unknown(now) else now)
    billed = bill.outputs.get("billing_currency")
    currency = known.arguments.get("currency") if known else None
    if known is None or not billed or not isinstance(currency, str):
        return
    if paid.in_currency(known.arguments, billed) is not None:
        return
    yield (
        f"item {key}: {known.subject} is in {currency}, and the subscription bills in {billed}; Stripe refuses to mix "
        f'them: move the item to a price in {billed}, or declare currency="{currency}", which makes a new subscription'
    )


def _the_rest(bill: Bill, key: str) -> str:
    """What becomes of the current period of an item that comes, goes, or moves to another price.

    https://docs.stripe.com/billing/subscriptions/usage-based/manage-billing-setup
    """
    if bill.is_later:
        if key not in bill.before:
            return "nothing is billed for it until then"
        return "until then nothing changes, usage included, and nothing is prorated"
    how = bill.prorations
    when = "at once" if how == "always_invoice" else "on the next invoice"
    after = bill.price_after(key) if key in bill.after else None
    anew = f", and {paid.included(after):,} included units start over" if after and paid.included(after) else ""
    if key not in bill.before and after is not None and paid.is_metered(after):
        return "its usage is counted from now on"
    if key in bill.before and bill.is_metered(key):
        if not bill.is_classic and how == "always_invoice" and bill.costs_the_same(key):
            return f"usage so far is billed on the next invoice{anew}"
        if bill.is_classic or how == "none":
            return f"usage in this period is not billed{anew}"
        return f"usage so far is billed {when}{anew}"
    if bill.costs_the_same(key):
        return "they cost the same, and nothing is prorated"
    return _prorated(bill)


def _prorated(bill: Bill) -> str:
    if bill.prorations == "none":
        return "the rest of the period is not prorated"
    when = "at once" if bill.prorations == "always_invoice" else "on the next invoice"
    return f"the rest of the period is prorated {when}"


def _at_once(bill: Bill) -> Iterator[str]:
    """An invoice that comes with the change, and billing periods that restart.

    https://docs.stripe.com/billing/subscriptions/billing-mode/compare
    """
    anchor = bill.new.get("billing_cycle_anchor")
    # An object since API version 2026-10-28.endive, a word before.
    anew = anchor in ("now", {"type": "now"}) and anchor != bill.old.get("billing_cycle_anchor")
    if anew and not bill.is_classic:
        yield (
            "its billing periods restart now (billing_cycle_anchor): usage so far and the added time are billed on "
            "the next invoice, and included units start over"
        )
        return
    why = "billing_cycle_anchor" if anew else _why_anew(bill)
    if why is None:
        return
    total = total_text(bill, bill.after)
    unused = ", less the unused time of the old ones" if bill.prorations != "none" else ""
    yield f"its billing periods restart now, with an invoice at once{f': {total}{unused}' if total else unused} ({why})"


def _why_anew(bill: Bill) -> str | None:
    """Why classic billing begins new periods though nobody asks for it."""
    if not bill.is_classic or bill.is_later:
        return None
    before = [bill.price_before(key) for key in bill.before]
    after = [bill.price_after(key) for key in bill.after]
    known = [each for each in (*before, *after) if each is not None]
    if len(known) < len(before) + len(after):
        return None
    was, now = ({paid.interval(each or {}) for each in prices} for prices in (before, after))
    if was != now:
        return "classic billing_mode, and another interval"
    free, stays_free = (all(paid.is_free(each or {}) for each in prices) for prices in (before, after))
    return "classic billing_mode, and what was free is paid" if free and not stays_free else None


def _end_taken_back(bill: Bill) -> Iterator[str]:
    """An end that the state has and the program does not: the customer may have cancelled, in the portal."""
    if any(bill.new.get(name) for name in ("cancel_at", "cancel_at_period_end")):
        return
    end = bill.old.get("cancel_at")
    when = f"on {date(end)}" if isinstance(end, int) else "with its period"
    if end or bill.old.get("cancel_at_period_end"):
        total = total_text(bill, bill.after)
        yield (
            f"was to end {when}, and now continues{f', {total}' if total else ''}: if the customer cancelled it, in "
            "the portal for example, declare that end (cancel_at_period_end or cancel_at)"
        )


def _once(bill: Bill) -> Iterator[str]:
    fresh = added(bill.old.get("add_invoice_items"), bill.new.get("add_invoice_items"))
    if fresh:
        charged = paid.once_text(fresh, lambda id_: _arguments(bill.price(id_), after=True), bill.currency)
        yield f"add_invoice_items charge {charged} once, on the next invoice"


def _trial(bill: Bill) -> Iterator[str]:
    was, now = bill.old.get("trial_end"), bill.new.get("trial_end")
    if now == was or now is None:
        return
    if now == "now":
        total = total_text(bill, bill.after)
        yield f"its trial, if it is in one, ends now, with an invoice at once{f': {total}' if total else ''}"
    elif isinstance(now, int):
        yield (
            f"nothing is paid until {date(now)} (trial_end): what was paid for that time is credited, and usage in "
            "it is billed at 0"
        )


def _discounts(bill: Bill) -> Iterator[str]:
    """What the coupons of the program take off that it gives, or takes back."""
    before, after = bill.old.get("discounts"), bill.new.get("discounts")
    for verb, changed in (("is given", added(before, after)), ("no longer has", added(after, before))):
        for each in changed:
            coupon = mapping(each).get("coupon")
            known = bill.declaration(COUPON, coupon) if isinstance(coupon, str) else None
            if known is not None:
                yield f"{verb} {takes_off(known.arguments)} ({known.subject})"


def _source(item: Mapping[str, Any]) -> Any:
    """What an item says of its price."""
    return next((item[name] for name in ("price", "price_data", "plan") if item.get(name) is not None), MISSING)


def _named(bill: Bill, item: Mapping[str, Any]) -> str:
    source = _source(item)
    if isinstance(source, Mapping):
        return "a price of its own"
    if is_unknown(source):
        return "a price that this run creates"
    known = bill.price(source)
    return known.subject if known else str(source)


def _and(parts: list[str]) -> str:
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)


def _in_brackets(text: str | None) -> str:
    return f" ({text})" if text else ""
