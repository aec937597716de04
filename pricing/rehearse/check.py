"""Every bill of a rehearsal against what the declared versions cost. Pure: it reads invoices of both copies.

Today's bills are the measure: the same seats, the same usage, the same coupons. What a rollout is declared to do to a
subscription says which version each of its periods is billed on; `components.rating` says what that costs. A bill that
comes out otherwise is a finding with a name.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final, Literal

import money
from components.pricing import Fee, Plan, Usage
from components.providers.values import id_of, mapping
from components.rating import rate_lines
from pricing.rollout.decisions import discounted

Name = Literal[
    "lost coupon",
    "coupon given again",
    "dropped usage",
    "double charge",
    "wrong item",
    "draft hour",
    "fee not billed",
    "other quantity",
    "wrong amount",
    "wrong proration",
    "not explained",
    "not applied",
    "rollout halted",
]
How = Literal["stays", "at_renewal", "now"]
#: The rounding of a proration: Stripe rounds each of its lines.
_ROUNDING: Final = 2


@dataclass(frozen=True)
class Finding:
    """Something that the declared versions do not explain.

    Attributes:
        subscription: its id in the copy; "" for the rehearsal as a whole.
        at: when the bill was made, UTC seconds.
        amount: what is billed more (or less) than it should be, minor units; None if it is no amount.
    """

    name: Name
    subscription: str
    at: int
    detail: str
    amount: int | None = None
    currency: str = "usd"


@dataclass(frozen=True)
class Course:
    """What is declared to happen to one subscription's plan.

    Attributes:
        old, new: the version before and after.
        at: when the move was applied, UTC seconds: periods that begin later are on the new version.
    """

    old: int
    new: int
    how: How
    at: int


@dataclass
class Declared:
    """What the pull request declares, and what it was applied to.

    Attributes:
        at: when it was applied, UTC seconds.
        plans: each plan's versions, by number.
        catalogue: the plan, version and charge of each price.
        courses: by subscription and plan; without one, a plan stays on its version.
        edited: subscriptions that the pull request also changes otherwise, which no rating explains.
    """

    at: int
    plans: dict[str, Mapping[int, Plan]] = field(default_factory=dict)
    catalogue: dict[str, tuple[str, int, str]] = field(default_factory=dict)
    courses: dict[str, dict[str, Course]] = field(default_factory=dict)
    edited: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class _Charge:
    """What one charge billed for a period on one invoice.

    Attributes:
        quantity: seats or units.
        amount: minor units, before discounts.
        created: when its invoice was, UTC seconds.
        groups: how many subscription items billed it.
    """

    plan: str
    version: int
    key: str
    start: int
    end: int
    quantity: Decimal
    amount: int
    created: int
    groups: int

    def with_(self, other: _Charge) -> _Charge:
        """Both together: a billing threshold bills a period in parts."""
        return replace(self, quantity=self.quantity + other.quantity, amount=self.amount + other.amount)


Invoices = Sequence[Mapping[str, Any]]
"""Invoices of one subscription with all of their lines, oldest first."""


def findings(before: Mapping[str, Invoices], after: Mapping[str, Invoices], declared: Declared) -> list[Finding]:
    """Everything that is not explained, in the order of subscription and time.

    Args:
        before: today's bills by subscription; `after`: those with the pull request.
    """
    found = []
    for subscription in sorted(before.keys() | after.keys()):
        if subscription not in declared.edited:
            one = _Subscription(subscription, before.get(subscription, ()), after.get(subscription, ()), declared)
            found += sorted(one.findings(), key=lambda each: each.at)
    return found


class _Subscription:
    """The bills of one subscription, today's and those with the pull request."""

    def __init__(self, id_: str, before: Invoices, after: Invoices, declared: Declared) -> None:
        self.id, self.before, self.after, self.declared = id_, before, after, declared
        self.currency = str((*before, *after)[0]["currency"]) if (*before, *after) else "usd"
        self.courses = declared.courses.get(id_, {})
        #: When the invoices were made that were there before the change.
        self.earlier = {made for each in before if (made := int(each["created"])) <= declared.at}

    def findings(self) -> Iterator[Finding]:
        expected: dict[tuple[str, str, int, int], _Charge] = {}
        for each in self._expected():
            where = (each.plan, each.key, each.start, each.end)
            expected[where] = each.with_(expected[where]) if where in expected else each
        there: dict[tuple[str, str, int, int], list[_Charge]] = {}
        for charge in self._charges(self.after):
            there.setdefault((charge.plan, charge.key, charge.start, charge.end), []).append(charge)
        for where, wanted in expected.items():
            yield from self._compared(wanted, self._taken(wanted, where, there))
        for charges in there.values():
            for charge in charges:
                yield self._surplus(charge, expected.values())
        yield from self._prorations()
        yield from self._other_lines()
        yield from self._discounts()

    # -- charges ------------------------------------------------------------------------------------------------

    def _charges(self, invoices: Invoices) -> Iterator[_Charge]:
        """What the plans' prices billed for whole periods, by invoice."""
        for invoice in invoices:
            groups: dict[tuple[str, int, int], list[Mapping[str, Any]]] = {}
            for line in invoice["lines"]["data"]:
                price = _price_of(line)
                if price in self.declared.catalogue and not _is_proration(line):
                    period = line["period"]
                    groups.setdefault((str(price), int(period["start"]), int(period["end"])), []).append(line)
            for (price, start, end), lines in groups.items():
                items = {
                    str(mapping(line["parent"]).get("subscription_item_details", {}).get("subscription_item"))
                    for line in lines
                }
                yield _Charge(
                    *self.declared.catalogue[price],
                    start,
                    end,
                    sum((_quantity(line) for line in lines), Decimal(0)),
                    sum(int(line["amount"]) for line in lines),
                    int(invoice["created"]),
                    len(items),
                )

    def _expected(self) -> Iterator[_Charge]:
        """Today's charges on the version that is declared for each period."""
        seats: dict[tuple[str, int, int, int], Decimal] = {}
        for charge in self._charges(self.before):
            version = self._version(charge)
            plan = self.declared.plans[charge.plan].get(version)
            was = self.declared.plans[charge.plan].get(charge.version)
            if plan is None or was is None:
                yield charge
                continue
            fee = next((each for each in was.fees if each.key == charge.key), None)
            if version != charge.version and fee is not None:
                per_seat = charge.quantity if fee.per == "seat" else Decimal(1)
                where = (charge.plan, version, charge.start, charge.end)
                seats[where] = max(seats.get(where, Decimal(1)), per_seat)
            now = next((each for each in plan.charges if each.key == charge.key), None)
            if now is not None and isinstance(now, Usage) == (fee is None):
                yield self._rated(charge, version, plan, charge.quantity)
        # A fee that the new version has and the old one had not.
        for (name, version, start, end), quantity in seats.items():
            plan = self.declared.plans[name][version]
            old = self.declared.plans[name][self.courses[name].old]
            for fee in plan.fees:
                if all(each.key != fee.key for each in old.fees):
                    blank = _Charge(name, version, fee.key, start, end, Decimal(0), 0, start, 1)
                    yield self._rated(blank, version, plan, quantity if fee.per == "seat" else Decimal(1))

    def _rated(self, charge: _Charge, version: int, plan: Plan, quantity: Decimal) -> _Charge:
        lines = rate_lines(charge.key, plan.rate(plan.charge(charge.key), self.currency), quantity)
        amount = sum(line.amount for line in lines)
        about = (charge.plan, version, charge.key, charge.start, charge.end)
        return _Charge(*about, quantity, amount, charge.created, charge.groups)

    def _version(self, charge: _Charge) -> int:
        course = self.courses.get(charge.plan)
        if course is None or course.how == "stays" or charge.start <= course.at:
            return charge.version
        return course.new

    def _taken(
        self, wanted: _Charge, where: tuple[str, str, int, int], there: dict[tuple[str, str, int, int], list[_Charge]]
    ) -> list[_Charge]:
        """The charges that are this one; of usage, also those for parts of its period."""
        found = there.pop(where, [])
        if self._is_usage(wanted):
            plan, key, start, end = where
            for other in [each for each in there if each[:2] == (plan, key) and start <= each[2] < each[3] <= end]:
                found += there.pop(other)
        return found

    def _is_usage(self, charge: _Charge) -> bool:
        plan = self.declared.plans[charge.plan].get(charge.version)
        return plan is not None and any(each.key == charge.key for each in plan.usage)

    def _compared(self, wanted: _Charge, found: list[_Charge]) -> Iterator[Finding]:
        is_usage = self._is_usage(wanted)
        label = f"{wanted.key} of {wanted.plan}@{wanted.version}, {_span(wanted)}"
        billed = sum(each.amount for each in found)
        quantity = sum((each.quantity for each in found), Decimal(0))

        def finding(name: Name, detail: str) -> Finding:
            name = self._or_draft(name, wanted.created)
            return Finding(name, self.id, wanted.created, f"{label}: {detail}", billed - wanted.amount, self.currency)

        if not found:
            if is_usage and wanted.quantity:
                yield finding("dropped usage", f"{_units(wanted.quantity)} units are on no invoice")
            elif not is_usage and wanted.amount:
                yield finding("fee not billed", f"{money.format_minor(wanted.amount, self.currency)} is on no invoice")
            return
        if is_usage and quantity < wanted.quantity - self._unseen(wanted, found):
            yield finding(
                "dropped usage",
                f"{_units(wanted.quantity - quantity)} of {_units(wanted.quantity)} units are not billed",
            )
        elif sum(each.groups for each in found) > wanted.groups and not (is_usage and quantity <= wanted.quantity):
            yield finding("double charge", f"it is billed {sum(each.groups for each in found)} times")
        elif quantity > wanted.quantity and is_usage:
            extra = _units(quantity - wanted.quantity)
            yield finding("double charge", f"{extra} units more than were used are billed")
        elif quantity != wanted.quantity and not is_usage:
            yield finding("other quantity", f"{_units(quantity)} in place of {_units(wanted.quantity)}")
        elif wrong := sorted({each.version for each in found} - self._allowed(wanted)):
            yield finding("wrong item", f"it is billed on version {', '.join(map(str, wrong))}")
        elif billed != wanted.amount and self._allowed(wanted) == {wanted.version}:
            was, now = (money.format_minor(each, self.currency) for each in (wanted.amount, billed))
            yield finding("wrong amount", f"{now} in place of {was}")

    def _unseen(self, wanted: _Charge, found: list[_Charge]) -> Decimal:
        """Units that are billed without a line: free ones, in a period within which the price has moved at once.

        Stripe bills the usage until then by invoice items, and has none of 0.
        """
        if self._allowed(wanted) == {wanted.version}:
            return Decimal(0)
        free = Decimal(0)
        for version in {each.version for each in found}:
            plan = self.declared.plans[wanted.plan][version]
            band = plan.rate(plan.charge(wanted.key), self.currency).bands[0]
            if not band.unit_amount and not band.flat_amount and band.up_to is not None:
                free += band.up_to
        return free

    def _allowed(self, wanted: _Charge) -> set[int]:
        course = self.courses.get(wanted.plan)
        if course is not None and course.how == "now" and wanted.start <= course.at < wanted.end:
            return {course.old, course.new}
        return {wanted.version}

    def _or_draft(self, name: Name, created: int) -> Name:
        """The name of a finding: on an invoice that was there before the change, that is what is wrong."""
        return "draft hour" if created in self.earlier else name

    def _surplus(self, charge: _Charge, expected: Iterable[_Charge]) -> Finding:
        """A charge that nothing explains: twice for the same time, or of what it should not have."""
        same = [
            each
            for each in expected
            if (each.plan, each.key) == (charge.plan, charge.key)
            and charge.start < each.end
            and each.start < charge.end
        ]
        name: Name = "double charge" if same else "wrong item"
        amount = money.format_minor(charge.amount, self.currency)
        detail = f"{charge.key} of {charge.plan}@{charge.version}, {_span(charge)}: {amount} is billed for "
        detail += "time that is billed already" if same else "what it should not have"
        named = self._or_draft(name, charge.created)
        return Finding(named, self.id, charge.created, detail, charge.amount, self.currency)

    # -- prorations ---------------------------------------------------------------------------------------------

    def _prorations(self) -> Iterator[Finding]:
        """What is prorated: nothing at a renewal; at once, the rest of the period at the new fee for the old."""
        before, after = (dict(_prorated(each)) for each in (self.before, self.after))
        for invoice, lines in after.items():
            if invoice in before:
                continue
            by_plan: dict[str, list[Mapping[str, Any]]] = {}
            for line in lines:
                plan = self.declared.catalogue.get(str(_price_of(line)), ("", 0, ""))[0]
                by_plan.setdefault(plan, []).append(line)
            for plan, some in by_plan.items():
                course = self.courses.get(plan)
                total = sum(int(line["amount"]) for line in some)
                at = min(int(line["period"]["start"]) for line in some)
                if course is None or course.how != "now":
                    amount = money.format_minor(total, self.currency)
                    yield Finding(
                        self._or_draft("double charge", invoice),
                        self.id,
                        at,
                        f"{amount} is prorated, and no proration is declared",
                        total,
                        self.currency,
                    )
                elif (wanted := self._prorated_fee(plan, course)) is not None and abs(total - wanted) > _ROUNDING * len(
                    some
                ):
                    was, now = (money.format_minor(each, self.currency) for each in (wanted, total))
                    detail = f"{plan}: {now} is prorated in place of {was}"
                    yield Finding("wrong proration", self.id, at, detail, total - wanted, self.currency)

    def _prorated_fee(self, plan: str, course: Course) -> int | None:
        """What a move at once charges for the rest of the period; None if discounts or several intervals are in it."""
        total = Decimal(0)
        old, new = (self.declared.plans[plan].get(number) for number in (course.old, course.new))
        if old is None or new is None or any(_coupons(invoice) for invoice in self.before):
            return None
        if {fee.key for fee in old.fees} != {fee.key for fee in new.fees}:
            return None
        for charge in self._charges(self.before):
            if charge.plan != plan or not charge.start <= course.at < charge.end:
                continue
            if any(isinstance(each, Fee) and each.key == charge.key for each in old.charges):
                rest = Decimal(charge.end - course.at) / (charge.end - charge.start)
                then = self._rated(charge, course.new, new, charge.quantity)
                total += (then.amount - charge.amount) * rest
        return int(total)

    # -- the rest of an invoice ---------------------------------------------------------------------------------

    def _other_lines(self) -> Iterator[Finding]:
        """Lines of other prices, which a pull request about a plan must not change."""
        before, after = (self._others(each) for each in (self.before, self.after))
        for where in sorted(before.keys() | after.keys()):
            was, now = before.get(where, 0), after.get(where, 0)
            if was != now:
                created, price, start, end = where
                texts = (money.format_minor(each, self.currency) for each in (now, was))
                about = "a line without a price" if price == "None" else price
                detail = f"{about}, {_day(start)} to {_day(end)}: {' in place of '.join(texts)}"
                name = self._or_draft("wrong item" if not was else "not explained", created)
                yield Finding(name, self.id, created, detail, now - was, self.currency)

    def _others(self, invoices: Invoices) -> dict[tuple[int, str, int, int], int]:
        found: dict[tuple[int, str, int, int], int] = {}
        for invoice in invoices:
            for line in invoice["lines"]["data"]:
                price = _price_of(line)
                if price not in self.declared.catalogue and not _is_proration(line):
                    period = line["period"]
                    where = (int(invoice["created"]), str(price), int(period["start"]), int(period["end"]))
                    found[where] = found.get(where, 0) + int(line["amount"])
        return found

    def _discounts(self) -> Iterator[Finding]:
        """The coupons of each bill: today's, no other, and what they deduct."""
        before = {int(invoice["created"]): invoice for invoice in self.before}
        for invoice in self.after:
            today = before.get(int(invoice["created"]))
            if today is None:
                continue
            given, now = _coupons(today), _coupons(invoice)
            if _total(invoice) <= 0 or _total(today) <= 0:
                continue
            for coupon in sorted(given.keys() - now.keys()):
                off = money.format_minor(given[coupon], self.currency)
                name = self._or_draft("lost coupon", int(invoice["created"]))
                detail = f"{coupon} takes off {off} today, and nothing then"
                yield Finding(name, self.id, int(invoice["created"]), detail, given[coupon], self.currency)
            for coupon in sorted(now.keys() - given.keys()):
                off = money.format_minor(now[coupon], self.currency)
                detail = f"{coupon} takes off {off}, and nothing today"
                yield Finding(
                    "coupon given again", self.id, int(invoice["created"]), detail, -now[coupon], self.currency
                )
            yield from self._deducted(today, invoice, given.keys() == now.keys())

    def _deducted(self, today: Mapping[str, Any], invoice: Mapping[str, Any], same: bool) -> Iterator[Finding]:
        """Whether coupons of the whole invoice deduct what they say; those of a part are compared by today's share."""
        coupons = [dict(mapping(mapping(each["discount"])["source"])["coupon"]) for each in _amounts(invoice)]
        if not same:
            return
        taken, total = sum(_coupons(invoice).values()), _total(invoice)
        plain = not any(mapping(each["discount"]).get("subscription_item") for each in _amounts(invoice))
        whole = plain and not any(mapping(each.get("applies_to")).get("products") for each in coupons)
        rest = discounted(total, coupons, self.currency) if whole else None
        wanted = sum(_coupons(today).values()) if total == _total(today) else None
        wanted = total - rest if rest is not None else wanted
        if wanted is not None and abs(wanted - taken) > 1:
            was, now = (money.format_minor(each, self.currency) for each in (wanted, taken))
            detail = f"discounts of {now} in place of {was}"
            yield Finding("wrong amount", self.id, int(invoice["created"]), detail, wanted - taken, self.currency)


# -- lines ------------------------------------------------------------------------------------------------------------


def _price_of(line: Mapping[str, Any]) -> str | None:
    price = id_of(mapping(mapping(line.get("pricing")).get("price_details")).get("price"))
    return price if isinstance(price, str) else None


def _is_proration(line: Mapping[str, Any]) -> bool:
    parent = mapping(line.get("parent"))
    return bool(mapping(parent.get(str(parent.get("type")))).get("proration"))


def _quantity(line: Mapping[str, Any]) -> Decimal:
    return Decimal(str(line.get("quantity_decimal") or line.get("quantity") or 0))


def _prorated(invoices: Invoices) -> Iterator[tuple[int, list[Mapping[str, Any]]]]:
    """The proration lines by when their invoice was created."""
    for invoice in invoices:
        lines = [line for line in invoice["lines"]["data"] if _is_proration(line)]
        if lines:
            yield int(invoice["created"]), lines


def _amounts(invoice: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [each for each in invoice.get("total_discount_amounts") or () if each["amount"]]


def _coupons(invoice: Mapping[str, Any]) -> dict[str, int]:
    """What each coupon deducts, minor units, by its id; the discounts are expanded."""
    found: dict[str, int] = {}
    for each in _amounts(invoice):
        coupon = str(id_of(mapping(mapping(each["discount"]).get("source")).get("coupon")))
        found[coupon] = found.get(coupon, 0) + int(each["amount"])
    return found


def _total(invoice: Mapping[str, Any]) -> int:
    return sum(int(line["amount"]) for line in invoice["lines"]["data"])


def _units(quantity: Decimal) -> str:
    return f"{quantity.normalize():,f}"


def _span(charge: _Charge) -> str:
    return f"{_day(charge.start)} to {_day(charge.end)}"


def _day(at: int) -> str:
    return datetime.fromtimestamp(at, UTC).date().isoformat()
