"""What a change does, from a preview: its steps, what each declared subscription pays, what the providers say. Pure.

The sentences are the providers' own. Where a preview of the engine does not know a price yet that the run creates, the
provider's function is asked again with it, so that the sentence has its amounts.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from functools import cached_property
from typing import Any, Final, Literal

import money
from components.providers import differ, paid
from components.providers.coupon import COUPON
from components.providers.errors import subject
from components.providers.kind import Declaration, Kind
from components.providers.kinds import KINDS
from components.providers.price import PRICE
from components.providers.subscription import SUBSCRIPTION
from components.providers.subscription_preview import Bill
from components.providers.values import Inputs, declared, is_unknown, mapping
from components.publication import price_name
from pricing.evaluation import PlanVersions

#: An output of a subscription: `300.00 USD a month`.
_FEE: Final = re.compile(r"(?P<amount>[\d,]+(?:\.\d+)?) (?P<currency>[A-Z]{3})(?P<every>.*)")
Op = Literal["create", "update", "replace", "delete", "adopt", "same"]

KIND: Final[Mapping[str, Kind]] = {kind.name: kind for kind in KINDS}
_SUBJECT: Final = re.compile(
    r"(?P<kind>[A-Z]\w+) '(?P<name>.*?)'(?: \([^()\s]*\))?(?P<leaves> is no longer in the program)?: (?P<text>.*)",
    re.DOTALL,
)


@dataclass(frozen=True)
class Step:
    """What a run does to one resource.

    Attributes:
        kind: `Price`, `PublishedPlan`, or the type of a resource that is not ours.
        id: the object's id; made up if the run creates it.
        outputs: everything that the state holds for it.
        old, new: the arguments in the state and in the program; empty if there are none.
        prices: of a subscription, the URNs of the resources that its items' prices come from.
    """

    op: Op
    kind: str
    name: str
    urn: str
    id: str = ""
    outputs: Inputs = field(default_factory=dict)
    old: Inputs = field(default_factory=dict)
    new: Inputs = field(default_factory=dict)
    prices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Sentence:
    """One warning.

    Attributes:
        kind, name: the resource that it is about; empty if it is about none.
        leaves: whether that is no longer in the program.
    """

    text: str
    kind: str = ""
    name: str = ""
    leaves: bool = False

    @property
    def is_final(self) -> bool:
        """Whether it says that something cannot be undone."""
        return bool(re.search(r"cannot be undone|is permanent", self.text))


@dataclass(frozen=True)
class Preview:
    """What a run would do.

    Attributes:
        before, after: the plans, by name.
        warnings: what the program and the providers say.
        failure: why nothing can be applied; None if it can.
        doubt: why the preview is not complete; None if it is.
        is_whole: whether the steps include the resources that stay the same.
    """

    project: str
    stack: str
    steps: Sequence[Step] = ()
    before: Mapping[str, PlanVersions] = field(default_factory=dict)
    after: Mapping[str, PlanVersions] = field(default_factory=dict)
    warnings: Sequence[str] = ()
    failure: str | None = None
    doubt: str | None = None
    is_whole: bool = True

    @property
    def changes_nothing(self) -> bool:
        """Whether there is nothing to review."""
        return (
            self.failure is None
            and self.doubt is None
            and self.before == self.after
            and all(step.op == "same" for step in self.steps)
        )

    @property
    def offers(self) -> list[tuple[str, int, int]]:
        """The plans that offer another version than before: name, old and new number."""
        return [
            (name, self.before[name].offered, plan.offered)
            for name, plan in self.after.items()
            if name in self.before and self.before[name].offered != plan.offered
        ]

    @cached_property
    def objects(self) -> Objects:
        return Objects(self.steps)

    @cached_property
    def sentences(self) -> list[Sentence]:
        """The warnings, each with all amounts that are known."""
        return list(_with_amounts([parsed(line) for line in self.warnings], self.steps, self.objects))

    @cached_property
    def fees(self) -> list[Fees]:
        """What each declared subscription pays by quantity, before and after."""
        return [fees(step, self.objects) for step in self.steps if step.kind == "Subscription" and not _is_over(step)]


def parsed(line: str) -> Sentence:
    """A warning with its subject apart."""
    match = _SUBJECT.fullmatch(line)
    if match is None or match["kind"] not in KIND:
        return Sentence(line)
    return Sentence(match["text"], match["kind"], match["name"], match["leaves"] is not None)


def _is_over(step: Step) -> bool:
    return bool(step.outputs.get("has_ended")) and step.op in ("same", "delete")


class Objects:
    """What the program declares for prices and coupons, by id."""

    def __init__(self, steps: Iterable[Step]) -> None:
        self.by_urn = {step.urn: step for step in steps if step.kind in (PRICE.name, COUPON.name)}
        self._by_id = {(step.kind, step.id): step for step in self.by_urn.values()}

    def __call__(self, kind: Kind, id_: str, /) -> Declaration | None:
        step = self._by_id.get((kind.name, id_))
        if step is None:
            return None
        arguments = step.new or step.old
        owner = str(arguments.get("owner"))
        return Declaration(subject(kind.name, arguments), owner, arguments, step.old, step.op == "replace")

    def resolved(self, step: Step) -> Inputs:
        """The arguments of a subscription, with the prices that this run creates."""
        items = step.new.get("items")
        if not isinstance(items, Mapping):
            return step.new
        known = {
            key: {**item, "price": found.id}
            for key, item in items.items()
            if isinstance(item, Mapping)
            and is_unknown(item.get("price"))
            and (found := self._price(step, key)) is not None
        }
        return {**step.new, "items": {**items, **known}}

    def _price(self, step: Step, key: str) -> Step | None:
        """The price of an item that has no id yet; None if that is not certain."""
        linked = [price for urn in step.prices if (price := self.by_urn.get(urn)) and price.op in ("create", "adopt")]
        own = [price for price in linked if price.name == f"{step.name}-{key}"]
        versions = mapping(step.new.get("plan_versions"))
        names = {price_name(plan, number, key) for plan, number in versions.items() if isinstance(number, int)}
        found = own or [price for price in linked if price.name in names]
        if not found and len(linked) == 1 and len(mapping(step.new.get("items"))) == 1:
            found = linked
        return found[0] if len(found) == 1 else None


# -- sentences --------------------------------------------------------------------------------------------------------


def _with_amounts(said: Sequence[Sentence], steps: Sequence[Step], objects: Objects) -> Iterator[Sentence]:
    """The sentences; those of subscriptions again with the prices that this run creates."""
    of: dict[str, set[str]] = defaultdict(set)
    for sentence in said:
        if sentence.kind == SUBSCRIPTION.name and not sentence.leaves:
            of[sentence.name].add(sentence.text)
    fuller: dict[str, list[str]] = {}
    superseded: dict[str, set[str]] = {}
    for step in steps:
        if step.kind != SUBSCRIPTION.name or step.op in ("same", "delete"):
            continue
        plain = set(_asked(step, step.new, objects))
        # The provider says what it knows, and says it again once it has compared the prices.
        early = set(_asked(step, step.new, lambda kind, id_: None))
        if plain <= of[step.name]:
            fuller[step.name] = _asked(step, objects.resolved(step), objects)
            superseded[step.name] = plain | early
    for sentence in said:
        is_old = sentence.kind == SUBSCRIPTION.name and sentence.text in superseded.get(sentence.name, ())
        if sentence.leaves or not is_old:
            yield sentence
        for text in fuller.pop(sentence.name, ()) if is_old else ():
            yield replace(sentence, text=text)
    for name, texts in fuller.items():
        yield from (Sentence(text, SUBSCRIPTION.name, name) for text in texts)


def _asked(step: Step, new: Inputs, declaration: Any) -> list[str]:
    """What the provider says of a subscription."""
    said = list(SUBSCRIPTION.remarks(new, step.op != "update", declaration))
    if step.op in ("update", "replace"):
        said += differ.warnings(differ.compare(SUBSCRIPTION, step.id, step.outputs, new, declaration))
    return said


# -- money ------------------------------------------------------------------------------------------------------------


Recurring = Mapping[tuple[str, str], Decimal]
"""Amounts in minor units by currency and interval: `{("usd", " a month"): Decimal(30000)}`."""


@dataclass(frozen=True)
class Fees:
    """What a subscription pays by quantity in each period, before discounts and tax.

    Attributes:
        later: whether what changes does so at its renewal.
        unknown: whether the program does not tell the price of an item.
    """

    step: Step
    before: Recurring
    after: Recurring
    later: bool
    unknown: bool


def fees(step: Step, objects: Objects) -> Fees:
    """What a subscription pays before and after the run; nothing before it begins and after it ends."""
    new = objects.resolved(step) if step.op != "delete" else {}
    old = step.old if step.op not in ("create", "adopt") else {}
    bill = Bill(step.outputs, old, new, objects)
    before, whole = _recurring(bill, after=False)
    after, also_whole = _recurring(bill, after=True)
    return Fees(step, before, after, bill.is_later and step.op == "update", not (whole and also_whole))


def _recurring(bill: Bill, *, after: bool) -> tuple[Recurring, bool]:
    found: dict[tuple[str, str], Decimal] = {}
    whole = True
    for key in bill.after if after else bill.before:
        price = bill.price_after(key) if after else bill.price_before(key)
        if price is None:
            recorded = _recorded(bill, key, after=after)
            whole &= recorded is not None or bill.is_metered(key)
            if recorded is not None:
                of, amount = recorded
                found[of] = found.get(of, Decimal(0)) + amount
        elif not paid.is_metered(price):
            fee, currency = bill.fee(key, after=after), bill.currency or price.get("currency")
            if fee is None or not isinstance(currency, str):
                whole = False
            else:
                of = (currency, paid.every(price))
                found[of] = found.get(of, Decimal(0)) + fee
    return found, whole


def _recorded(bill: Bill, key: str, *, after: bool) -> tuple[tuple[str, str], Decimal] | None:
    """What the state says of an item whose price the preview does not list: (currency, interval) and minor units."""
    text = _FEE.fullmatch(str(mapping(bill.outputs.get("fees")).get(key)))
    if text is None or (after and bill.after.get(key) != bill.before.get(key)):
        return None
    currency = text["currency"].lower()
    return (currency, text["every"]), money.minor_units(Decimal(text["amount"].replace(",", "")), currency)


def arguments(kind: Kind, props: Mapping[str, Any]) -> Inputs:
    """The arguments among a resource's properties."""
    return kind.arguments(declared(props))
