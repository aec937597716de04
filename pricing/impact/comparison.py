"""Who pays what when one version of a plan replaces another: closed invoices, rated again with both. Pure.

Each charge's lines are first rated with the version that billed them. Lines that this does not reproduce to the cent
are counted by reason, so that a reader knows how far to trust the figures. Seats and usage stay unchanged.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache
from math import ceil, lcm
from typing import Any, Final

import money
from components.pricing import Fee, Plan, Rate, Usage
from components.prover import MONTHS, cost
from components.rating import Line, rate_lines
from pricing.invoices import Billed, BilledLine, Charged

#: Smaller groups of customers are shown together: a group of one would show a customer.
LEAST_GROUP: Final = 5
#: The share of lines that must be reproduced to the cent.
CALIBRATED: Final = Decimal("0.99")
TOP: Final = 10
MONTHS_AHEAD: Final = 12
_HELD: Final = (
    "Seats and usage are held as they were: nobody is assumed to buy, use or leave otherwise because of the price. "
    "Bills are averages a month over the periods read, before discounts and tax."
)
_MOST_EXAMPLES: Final = 25
_MOST_PACKAGES: Final = 1_000


@dataclass(frozen=True)
class Standing:
    """The present state of a subscription.

    Attributes:
        stays: why it does not move; None if it moves.
    """

    stays: str | None


@dataclass(frozen=True)
class OpenUsage:
    """What one charge of a subscription (by its hash) has used in its open period.

    Attributes:
        start: of the period, UTC seconds.
        units: so far, scaled to the whole period.
    """

    subscription: str
    version: int
    key: str
    start: int
    units: Decimal


@dataclass
class Calibration:
    """How well the plan's versions reproduce what was billed.

    Attributes:
        lines: how many were compared or skipped; `reproduced` of them to the cent.
        others: the rest by reason: `coupon`, `manual`, `proration`, `trial`, `other price`, `amount`, ...
        mismatches: by charge and tier, how often the result differs from the invoice, and an example.
        unreached: charges and tiers of the versions that no invoice reaches, so they could not be compared.
    """

    lines: int = 0
    reproduced: int = 0
    others: Counter[str] = field(default_factory=Counter)
    mismatches: dict[str, tuple[int, str]] = field(default_factory=dict)
    unreached: list[str] = field(default_factory=list)

    @property
    def share(self) -> Decimal:
        """The share of reproduced lines; 0 to 1."""
        return Decimal(self.reproduced) / self.lines if self.lines else Decimal(0)

    @property
    def sentence(self) -> str:
        """`4,912 of 4,930 lines reproduced to the cent; 18 not: 11 coupon, 7 manual`."""
        told = f"{self.reproduced:,} of {self.lines:,} lines reproduced to the cent"
        if self.others:
            reasons = ", ".join(f"{count:,} {reason}" for reason, count in self.others.most_common())
            told += f"; {self.others.total():,} not: {reasons}"
        return told


@dataclass(frozen=True)
class CustomerImpact:
    """One customer's bill a month, in minor units, before discounts and tax; `usage` is units a month by charge."""

    customer: str
    before: int
    after: int
    seats: Decimal
    usage: Mapping[str, Decimal]

    @property
    def change(self) -> int:
        return self.after - self.before

    @property
    def percent(self) -> Decimal | None:
        """None if there was no bill before."""
        return Decimal(100) * self.change / self.before if self.before else None


@dataclass(frozen=True)
class Month:
    """The change of one calendar month's bills: `2027-01`, minor units, and how many customers' prices begin then."""

    name: str
    change: int
    begin: int


@dataclass(frozen=True)
class CurrencyImpact:
    """The effect in one currency.

    Attributes:
        customers: those who move, the largest increase first.
        months: the coming months, each with the change of its bills.
        seats: the median number of seats, which `break_even` assumes.
        break_even: by usage charge, the units at which both versions cost the same.
    """

    currency: str
    customers: Sequence[CustomerImpact]
    months: Sequence[Month]
    seats: Decimal
    break_even: Mapping[str, Sequence[Decimal]]

    @property
    def before(self) -> int:
        return sum(each.before for each in self.customers)

    @property
    def after(self) -> int:
        return sum(each.after for each in self.customers)

    @property
    def more(self) -> int:
        """How many pay more; similarly `same` and `less`."""
        return sum(each.change > 0 for each in self.customers)

    @property
    def same(self) -> int:
        return sum(each.change == 0 for each in self.customers)

    @property
    def less(self) -> int:
        return sum(each.change < 0 for each in self.customers)

    def change_at(self, share: Decimal) -> int:
        """The quantile of the change of bills, in minor units a month."""
        changes = sorted(each.change for each in self.customers)
        return changes[_rank(len(changes), share)]

    def percent_at(self, share: Decimal) -> Decimal | None:
        """The same in percent of the old bill; without customers who had none."""
        known = sorted(each.percent for each in self.customers if each.percent is not None)
        return known[_rank(len(known), share)] if known else None


@dataclass(frozen=True)
class Impact:
    """The effect of a change.

    Attributes:
        old, new: the names of the versions; `plans` are the two plans.
        invoices: how many were read; `first` and `last` are the creation times of the oldest and newest, UTC seconds.
        currencies: the effect in each, the one with the most customers first.
        stay: how many customers do not move, by reason.
        doubts: reasons not to trust the figures, as sentences.
        notes: what the figures include and omit, as sentences.
    """

    old: str
    new: str
    plans: tuple[Plan, Plan]
    invoices: int
    first: int | None
    last: int | None
    calibration: Calibration
    currencies: Sequence[CurrencyImpact]
    stay: Mapping[str, int]
    doubts: Sequence[str]
    notes: Sequence[str]

    @property
    def changes_nothing(self) -> bool:
        """Whether there is nothing to report: no bill changes, and the figures can be trusted."""
        return not self.doubts and all(each.more == each.less == 0 for each in self.currencies)


class _Sum:
    """The bills of one charge of a subscription: sums over its periods, and its newest period."""

    __slots__ = ("after", "before", "end", "newest", "periods", "units")

    def __init__(self) -> None:
        self.before = self.after = 0
        self.units = self.newest = Decimal(0)
        self.periods = 0
        self.end = -1


class _Subscription:
    __slots__ = ("charges", "created", "currency", "customer", "version")

    def __init__(self, customer: str, currency: str) -> None:
        self.customer, self.currency = customer, currency
        self.created = -1
        self.version = 0
        self.charges: dict[str, _Sum] = {}


class Comparison:
    """Rates closed invoices one by one, and keeps only sums for each subscription.

    Args:
        name: the plan's name, as in `name@1`.
        versions: every version that may have billed the invoices.
        old, new: the two versions to compare.
        share: the share of lines that must be reproduced to the cent for the figures to be trusted.
    """

    def __init__(
        self, name: str, versions: Mapping[int, Plan], old: int, new: int, *, share: Decimal = CALIBRATED
    ) -> None:
        self.name, self.versions, self.old, self.new, self.share = name, versions, old, new, share
        self.calibration = Calibration()
        self.invoices = 0
        self.unknown_layouts: Counter[str] = Counter()
        self._first: int | None = None
        self._last: int | None = None
        self._subscriptions: dict[str, _Subscription] = {}
        self._not_sold: Counter[str] = Counter()
        self._reached: set[tuple[int, str, int | None, bool]] = set()
        self._open: set[str] = set()
        self._keys = {number: frozenset(charge.key for charge in plan.charges) for number, plan in versions.items()}
        sold = {number: frozenset(plan.currencies) for number, plan in versions.items()}
        # The currencies of the version that billed and of the two to compare.
        self._sold = {number: each & sold[old] & sold[new] for number, each in sold.items()}
        self._share = lru_cache(maxsize=None)(self._share_of)
        self._rate = lru_cache(maxsize=None)(self._look_up)
        self._rated = lru_cache(maxsize=4_096)(self._rate_again)
        self._match = _matches(versions[old], versions[new])
        self._came = {ours: theirs for theirs, ours in self._match.items()}

    # -- reading invoices -----------------------------------------------------------------------------------------

    def add(self, invoice: Billed) -> None:
        """Rate one invoice again, with the version that billed it and with the two to compare."""
        self.invoices += 1
        self._first = invoice.created if self._first is None else min(self._first, invoice.created)
        self._last = invoice.created if self._last is None else max(self._last, invoice.created)
        for reason, count in invoice.aside.items():
            self.calibration.lines += count
            self.calibration.others[reason] += count
        there = self._subscriptions.get(invoice.subscription)
        if there is None:
            there = self._subscriptions[invoice.subscription] = _Subscription(invoice.customer, invoice.currency)
        if invoice.created >= there.created:
            there.created = invoice.created
            # After a move, the invoice still has usage of the previous version.
            there.version = max(charged.version for charged in invoice.charged)
        for charged in invoice.charged:
            if self._calibrate(charged, invoice.currency):
                self._sum(there, charged)

    def add_open(self, usage: OpenUsage) -> None:
        """Count an open period like a closed one; a subscription without any invoice stays out, since its seats are
        unknown."""
        there = self._subscriptions.get(usage.subscription)
        if there is None or usage.version != self.old or usage.key not in self._match:
            return
        # It ends the last closed period, so that the next bill is still the one after that.
        line = BilledLine(usage.units, 0)
        self._sum(there, Charged(usage.version, usage.key, usage.start, usage.start, (line,)))
        self._open.add(usage.subscription)

    def _calibrate(self, charged: Charged, currency: str) -> bool:
        """Compare one charge's lines with its version; returns whether they cover a whole period."""
        self.calibration.lines += len(charged.lines)
        if charged.key not in self._keys.get(charged.version, ()):
            self.calibration.others["unknown version"] += len(charged.lines)
            return False
        if currency not in self._sold[charged.version]:
            self._not_sold[currency] += 1
            self.calibration.others[f"in {currency}"] += len(charged.lines)
            return False
        given = self._rated(charged.version, charged.key, currency, charged.quantity)
        billed = charged.lines
        self._reached.update((charged.version, charged.key, line.tier, line.flat) for line in given)
        if not any(line.amount for line in billed) and any(line.amount for line in given):
            self.calibration.others["trial"] += len(billed)
            return False
        if any(line.amount < 0 for line in billed):
            # Of usage that a billing threshold had billed before: https://docs.stripe.com/billing/subscriptions/usage-based/thresholds
            self.calibration.others["threshold"] += len(billed)
            return False
        left = list(given)
        for line in billed:
            match = next(
                (
                    each
                    for each in left
                    if each.amount == line.amount
                    and each.quantity == line.quantity
                    and line.unit_amount in (None, each.unit_amount)
                ),
                None,
            )
            if match is None:
                self.calibration.others["amount"] += 1
            elif line.off:
                self.calibration.others["coupon"] += 1
            else:
                self.calibration.reproduced += 1
            if match is not None:
                left.remove(match)
        for missing in left[:1]:
            self._name_mismatch(charged, missing, currency)
        if not left and len(billed) > len(given):
            self._name_mismatch(charged, given[-1], currency)
        return True

    def _name_mismatch(self, charged: Charged, line: Line, currency: str) -> None:
        where = f"{self.name}@{charged.version} {charged.key}" + ("" if line.tier is None else f", tier {line.tier}")
        where += " (flat)" if line.flat else ""
        count, example = self.calibration.mismatches.get(where, (0, ""))
        if not example:
            billed = " + ".join(
                f"{each.quantity:,} at {_rate_text(each.unit_amount, currency)} = "
                f"{money.format_minor(each.amount, currency)}"
                for each in charged.lines
            )
            example = (
                f"the version gives {line.quantity:,} at {_rate_text(line.unit_amount, currency)} = "
                f"{money.format_minor(line.amount, currency)}, and an invoice has {billed}"
            )
        self.calibration.mismatches[where] = (count + 1, example)

    def _sum(self, there: _Subscription, charged: Charged) -> None:
        key = charged.key
        if key not in self._keys[self.old]:
            return
        kept = there.charges.setdefault(key, _Sum())
        if charged.end > kept.end:
            kept.end, kept.newest = charged.end, charged.quantity
        kept.periods += 1
        kept.units += charged.quantity
        kept.before += self._amount(self.old, key, there.currency, charged.quantity)
        if (ours := self._match.get(key)) is not None:
            kept.after += self._amount(self.new, ours, there.currency, self._quantity(key, ours, charged.quantity))

    def _quantity(self, key: str, ours: str, quantity: Decimal) -> Decimal:
        """Convert a quantity of the old version's charge to the new one's."""
        share = self._share(key, ours)
        if share is None:
            return Decimal(1)
        return quantity if share == 1 else Decimal((quantity * Decimal(share.numerator)) / Decimal(share.denominator))

    def _share_of(self, key: str, ours: str) -> Fraction | None:
        """How many old periods a new one has; None for a fee of the whole subscription."""
        was, now = self.versions[self.old].charge(key), self.versions[self.new].charge(ours)
        if isinstance(now, Fee):
            return Fraction(1) if now.per == "seat" else None
        return _months(now) / _months(was)

    def _look_up(self, version: int, key: str, currency: str) -> Rate:
        plan = self.versions[version]
        return plan.rate(plan.charge(key), currency)

    def _rate_again(self, version: int, key: str, currency: str, quantity: Decimal) -> tuple[Line, ...]:
        return tuple(rate_lines(key, self._rate(version, key, currency), quantity))

    def _amount(self, version: int, key: str, currency: str, quantity: Decimal) -> int:
        return sum(line.amount for line in self._rated(version, key, currency, quantity))

    # -- the result -----------------------------------------------------------------------------------------------

    def result(
        self,
        *,
        now: int,
        standings: Mapping[str, Standing] | None = None,
        stays: str | None = None,
        cut_short: str | None = None,
    ) -> Impact:
        """The effect according to the invoices so far.

        Args:
            now: UTC seconds; the coming months begin with its own.
            standings: the present state of each subscription, by its hash; None if unknown.
            stays: why no customer moves, if the rollout says so.
            cut_short: why not all invoices were read, if so.
        """
        moved: dict[tuple[str, str], list[_Subscription]] = {}
        stay: dict[str, set[str]] = {}
        bare: set[str] = set()
        idle = 0
        usage_keys = [charge.key for charge in self.versions[self.old].usage]
        for name, subscription in self._subscriptions.items():
            standing = (standings or {}).get(name)
            reason = self._reason(subscription, standing, standings is not None, stays)
            if reason is not None and reason != stays:
                stay.setdefault(reason, set()).add(subscription.customer)
                continue
            if stays is not None:
                stay.setdefault(stays, set()).add(subscription.customer)
            if not subscription.charges:
                continue
            if any(key not in subscription.charges for key in usage_keys):
                bare.add(subscription.customer)
            elif usage_keys and all(not subscription.charges[key].units for key in usage_keys):
                idle += 1
            moved.setdefault((subscription.customer, subscription.currency), []).append(subscription)
        currencies = self._currencies(moved, now)
        self.calibration.unreached = list(self._unreached())
        doubts, notes = self._doubts(currencies, cut_short), self._notes(bare, idle, standings, moved)
        return Impact(
            old=f"{self.name}@{self.old}",
            new=f"{self.name}@{self.new}",
            plans=(self.versions[self.old], self.versions[self.new]),
            invoices=self.invoices,
            first=self._first,
            last=self._last,
            calibration=self.calibration,
            currencies=currencies,
            stay=merged({reason: len(customers) for reason, customers in stay.items()}, "other reasons"),
            doubts=doubts,
            notes=notes,
        )

    def _reason(
        self, subscription: _Subscription, standing: Standing | None, known: bool, stays: str | None
    ) -> str | None:
        if subscription.version != self.old:
            verb = "already on" if subscription.version == self.new else "kept on"
            return f"{verb} {self.name}@{subscription.version}"
        if known and standing is None:
            return "no subscription any more"
        return (standing.stays if standing else None) or stays

    def _currencies(self, moved: Mapping[tuple[str, str], list[_Subscription]], now: int) -> list[CurrencyImpact]:
        by_currency: dict[str, list[tuple[CustomerImpact, list[_Subscription]]]] = {}
        for (customer, currency), subscriptions in moved.items():
            by_currency.setdefault(currency, []).append((self._customer(customer, subscriptions), subscriptions))
        found = []
        for currency, rows in by_currency.items():
            rows.sort(key=lambda row: (-row[0].change, row[0].customer))
            customers = [row[0] for row in rows]
            seats = _median(each.seats for each in customers)
            months = self._months_ahead((one for _, several in rows for one in several), now)
            break_even = {
                usage.key: self.break_even(usage.key, currency, seats, _median_usage(customers))
                for usage in self.versions[self.old].usage
                if usage.key in self._match
            }
            found.append(CurrencyImpact(currency, customers, months, seats, break_even))
        return sorted(found, key=lambda each: (-len(each.customers), each.currency))

    def _customer(self, customer: str, subscriptions: Iterable[_Subscription]) -> CustomerImpact:
        before = after = Fraction(0)
        seats = Decimal(0)
        usage: dict[str, Decimal] = {}
        for subscription in subscriptions:
            for key, (was, will) in self._monthly(subscription).items():
                before, after = before + was, after + will
                if key in subscription.charges:
                    charge, kept = self.versions[self.old].charge(key), subscription.charges[key]
                    if isinstance(charge, Usage):
                        units = kept.units / kept.periods / _decimal(_months(charge))
                        usage[key] = usage.get(key, Decimal(0)) + units
            seats += self._seats(subscription)
        return CustomerImpact(customer, _half_up(before), _half_up(after), seats, usage)

    def _monthly(self, subscription: _Subscription) -> dict[str, tuple[Fraction, Fraction]]:
        """Minor units a month, before and after, by the key of the charge in the old version, else in the new."""
        found: dict[str, tuple[Fraction, Fraction]] = {}
        for key, kept in subscription.charges.items():
            was = Fraction(kept.before) / kept.periods / _months(self.versions[self.old].charge(key))
            ours = self._match.get(key)
            will = Fraction(0)
            if ours is not None:
                will = Fraction(kept.after) / kept.periods / _months(self.versions[self.new].charge(ours))
            found[key] = (was, will)
        for fee in self.versions[self.new].fees:
            if fee.key not in self._came:
                quantity = self._seats(subscription) if fee.per == "seat" else Decimal(1)
                amount = self._amount(self.new, fee.key, subscription.currency, quantity)
                found[f"+{fee.key}"] = (Fraction(0), Fraction(amount) / _months(fee))
        return found

    def _seats(self, subscription: _Subscription) -> Decimal:
        for fee in self.versions[self.old].fees:
            if fee.per == "seat" and fee.key in subscription.charges:
                return subscription.charges[fee.key].newest
        return Decimal(1)

    def _months_ahead(self, subscriptions: Iterable[_Subscription], now: int) -> list[Month]:
        """The change of bills by calendar month: fees from the renewal on, usage from the one after it."""
        first = _month_of(now)
        # By the first month that differs, and how many months lie between two bills.
        series: dict[tuple[int, int], Fraction] = {}
        begin: list[set[str]] = [set() for _ in range(MONTHS_AHEAD)]
        begun: set[str] = set()
        for subscription in subscriptions:
            starts = MONTHS_AHEAD
            renews = max((each.end for each in subscription.charges.values()), default=now)
            for key, (was, will) in self._monthly(subscription).items():
                kept = subscription.charges.get(key)
                if kept is None:
                    charge = self.versions[self.new].charge(key[1:])
                else:
                    charge = self.versions[self.old].charge(key)
                every = max(1, round(_months(charge)))
                usage = isinstance(charge, Usage)
                # A fee is billed when its period ends; usage one period later than that of the newest invoice.
                last = renews if kept is None else kept.end
                month = _month_of(last) - first + (every if usage else 0)
                while month < 0 or (month == 0 and _in_month(last) < _in_month(now)):
                    month += every
                starts = min(starts, month)
                # Usage before the renewal is billed at the old price.
                where = (month + (every if usage else 0), every)
                series[where] = series.get(where, Fraction(0)) + (will - was) * every
            if subscription.customer not in begun and starts < MONTHS_AHEAD:
                begun.add(subscription.customer)
                begin[starts].add(subscription.customer)
        changes = [Fraction(0)] * MONTHS_AHEAD
        for (month, every), change in series.items():
            for at in range(month, MONTHS_AHEAD, every):
                changes[at] += change
        return [
            Month(_month_name(first + at), _half_up(change), len(customers))
            for at, (change, customers) in enumerate(zip(changes, begin, strict=True))
        ]

    def break_even(self, key: str, currency: str, seats: Decimal, usage: Mapping[str, Decimal]) -> list[Decimal]:
        """The units a month of one charge at which the more expensive version changes, with the other usage fixed."""
        curve = self.curve(currency, seats, key, usage)
        pairs = ((self.old, key), (self.new, self._match[key]))
        rates = [self._rate(version, name, currency) for version, name in pairs]
        points = {Decimal(0)} | self.corners(key, currency)
        for (version, name), rate in zip(pairs, rates, strict=True):
            if rate.round:
                length = _decimal(_months(self.versions[version].charge(name)))
                packages = (Decimal(number * rate.divide_by) for number in range(_MOST_PACKAGES))
                points |= {each / length for package in packages for each in (package, package + 1)}
        # Beyond the last tier the difference is a straight line: two points show where it crosses zero.
        step = Decimal(lcm(*(rate.divide_by if rate.round else 1 for rate in rates)))
        last = max(points)
        points |= {last + step, last + 2 * step}
        differences = [(units, after - before) for units, before, after in map(curve, sorted(points))]
        found: list[Decimal] = []
        there: tuple[Decimal, Decimal] | None = None
        level: Decimal | None = None
        for units, difference in differences:
            if difference == 0:
                level = units if level is None else level
                continue
            if there is not None and there[1] * difference < 0:
                left, a = there
                found.append(level if level is not None else left + (units - left) * a / (a - difference))
            there, level = (units, difference), None
        (left, a), (right, b) = differences[-2:]
        if b and (b - a) * b < 0:
            found.append(right - b * (right - left) / (b - a))
        return found

    def curve(self, currency: str, seats: Decimal, key: str | None, usage: Mapping[str, Decimal]) -> Any:
        """A function from units a month of one charge (seats if `key` is None) to (units, before, after), in exact
        minor units a month."""

        # What changes with the units: the rate, units for each of them, months that it is for. The rest stands still.
        moving: list[list[tuple[Rate, Decimal, Decimal]]] = []
        still: list[Decimal] = []
        for version, names in ((self.old, None), (self.new, self._came)):
            along: list[tuple[Rate, Decimal, Decimal]] = []
            total = Decimal(0)
            for charge in self.versions[version].charges:
                months, rate = _decimal(_months(charge)), self._rate(version, charge.key, currency)
                if isinstance(charge, Fee):
                    per_seat = charge.per == "seat"
                    moves, quantity = key is None and per_seat, seats if per_seat else Decimal(1)
                else:
                    source = charge.key if names is None else names.get(charge.key)
                    moves, quantity = key is not None and source == key, usage.get(str(source), Decimal(0)) * months
                if moves:
                    along.append((rate, Decimal(1) if key is None else months, months))
                else:
                    total += cost(rate, quantity) / months
            moving.append(along)
            still.append(total)

        def at(units: Decimal) -> tuple[Decimal, Decimal, Decimal]:
            before, after = (
                fixed + sum((cost(rate, units * each) / months for rate, each, months in along), Decimal(0))
                for fixed, along in zip(still, moving, strict=True)
            )
            return units, before, after

        return at

    def typical_usage(self, of: CurrencyImpact) -> dict[str, Decimal]:
        """The median units a month of each usage charge."""
        return _median_usage(of.customers)

    def corners(self, key: str, currency: str) -> set[Decimal]:
        """The units a month of one charge at which a tier of either version ends, and one more."""
        found = set()
        for version, name in ((self.old, key), (self.new, self._match[key])):
            length = _decimal(_months(self.versions[version].charge(name)))
            for band in self._rate(version, name, currency).bands[:-1]:
                found |= {Decimal(band.up_to or 0) / length, Decimal((band.up_to or 0) + 1) / length}
        return found

    # -- doubts and notes -----------------------------------------------------------------------------------------

    def _unreached(self) -> Iterator[str]:
        plan = self.versions[self.old]
        for charge in plan.charges:
            for currency in plan.currencies[:1]:
                rate = self._rate(self.old, charge.key, currency)
                for number in range(1, len(rate.bands) + 1):
                    tier = None if rate.mode == "per_unit" else number
                    if (self.old, charge.key, tier, False) not in self._reached:
                        yield charge.key + ("" if tier is None else f", tier {tier}")

    def _doubts(self, currencies: Sequence[CurrencyImpact], cut_short: str | None) -> list[str]:
        found = []
        if cut_short is not None:
            found.append(f"reading was cut short ({cut_short}): unread customers are missing from every figure")
        if not self.invoices:
            found.append(f"no closed invoice of {self.name} was found: it cannot be told who pays what")
        elif not currencies:
            found.append(f"no customer on {self.name}@{self.old} was found to move: the totals are empty")
        if self.calibration.lines and self.calibration.share < self.share:
            found.append(
                f"{self.calibration.share:.1%} of the lines are reproduced to the cent, but {self.share:.1%} must be"
            )
        if self.calibration.mismatches:
            found.append(
                f"the prices of {self.name} and the invoices differ in "
                f"{', '.join(list(self.calibration.mismatches)[:_MOST_EXAMPLES])}"
            )
        if parts := self.calibration.others["threshold"]:
            found.append(
                f"{parts:,} lines are for periods that billing thresholds had billed in part: their usage is omitted"
            )
        for layout, count in self.unknown_layouts.most_common():
            found.append(f"{count:,} invoices have an unknown layout and are omitted: {layout}")
        for currency, count in self._not_sold.items():
            found.append(
                f"{count:,} charges were billed in {currency}, which {self.name}@{self.old} and @{self.new} are not "
                "both sold in: customers who pay in it are missing"
            )
        unknown = [usage.key for usage in self.versions[self.new].usage if usage.key not in self._came]
        if unknown:
            found.append(
                f"{self.name}@{self.new} bills usage that no invoice shows ({', '.join(unknown)}): the bills after the "
                "change do not include it"
            )
        return found

    def _notes(
        self,
        bare: set[str],
        idle: int,
        standings: Mapping[str, Standing] | None,
        moved: Mapping[tuple[str, str], list[_Subscription]],
    ) -> list[str]:
        found = [_HELD]
        if len({currency for _, currency in moved}) > 1:
            found.append("Currencies are never added up: each has its own figures.")
        if bare:
            found.append(
                f"{_customers(len(bare))} without usage on any invoice (no period has closed yet): only their fees are "
                "compared, so do not trust their change (--open-period reads what they have used so far)."
            )
        if self._open:
            found.append(
                f"The open period of {len(self._open):,} subscription{'s' * (len(self._open) != 1)} is included: what "
                "meters have counted so far, scaled to the whole period."
            )
        if idle:
            found.append(f"Subscriptions that used nothing in any period: {idle:,}.")
        if self.calibration.others["coupon"]:
            found.append("Customers with a coupon pay less than shown here.")
        if self.calibration.unreached:
            found.append(f"Not checked, because no invoice reaches it: {'; '.join(self.calibration.unreached)}.")
        gone = [charge.key for charge in self.versions[self.old].charges if charge.key not in self._match]
        if gone:
            found.append(f"{self.name}@{self.new} no longer bills {', '.join(gone)}: it is 0 after the change.")
        for old, new in self._match.items():
            was, now = self.versions[self.old].charge(old), self.versions[self.new].charge(new)
            if isinstance(now, Usage) and _months(was) != _months(now):
                found.append(f"The period of {new} changes its length: usage is scaled to it.")
            if isinstance(was, Fee) and isinstance(now, Fee) and was.per != now.per and now.per == "seat":
                found.append(f"{new} is per seat and was per subscription: the billed quantity counts as its seats.")
        if standings is None:
            found.append(
                "Subscriptions were not read: customers who have left, are in a trial, locked, or on somebody else's "
                "schedule count as moving."
            )
        return found


def merged(groups: Mapping[str, int], name: str) -> dict[str, int]:
    """Groups by size, with groups under five customers combined."""
    large = {group: count for group, count in groups.items() if count >= LEAST_GROUP}
    small = {group: count for group, count in groups.items() if count < LEAST_GROUP}
    if len(small) == 1 and not large:
        return dict(small)
    found = dict(sorted(large.items(), key=lambda each: (-each[1], each[0])))
    if small:
        found[name] = sum(small.values())
    return found


def _matches(old: Plan, new: Plan) -> dict[str, str]:
    """The new version's charge that replaces each old one: with the same key, else on the same meter."""
    found: dict[str, str] = {}
    for charge in old.charges:
        for other in new.charges:
            if type(other) is type(charge) and other.key == charge.key:
                found[charge.key] = other.key
    for usage in old.usage:
        if usage.key not in found and usage.meter is not None:
            for each in new.usage:
                if each.meter == usage.meter and each.key not in found.values():
                    found[usage.key] = each.key
    return found


def _months(charge: Fee | Usage) -> Fraction:
    return Fraction(MONTHS[charge.interval]) * charge.interval_count


def _decimal(value: Fraction) -> Decimal:
    return Decimal(value.numerator) / Decimal(value.denominator)


def _scaled(units: int, charge: Fee | Usage) -> Decimal:
    """Units of a charge's period as units a month."""
    return Decimal(units) / _decimal(_months(charge))


def _half_up(value: Fraction) -> int:
    sign = -1 if value < 0 else 1
    return sign * int((abs(value) * 2 + 1) // 2)


def _rank(count: int, share: Decimal) -> int:
    """The index of a quantile in sorted values, by nearest rank."""
    return min(max(0, ceil(share * count) - 1), count - 1)


def _median(values: Iterable[Decimal]) -> Decimal:
    ordered = sorted(values)
    return ordered[_rank(len(ordered), Decimal("0.5"))]


def _median_usage(customers: Sequence[CustomerImpact]) -> dict[str, Decimal]:
    keys = {key for each in customers for key in each.usage}
    return {key: _median(each.usage.get(key, Decimal(0)) for each in customers) for key in keys}


def _month_of(at: int) -> int:
    day = datetime.fromtimestamp(at, UTC)
    return day.year * 12 + day.month - 1


def _in_month(at: int) -> tuple[int, int]:
    """A moment's position in its month: day, second."""
    return datetime.fromtimestamp(at, UTC).day, at % 86_400


def _month_name(month: int) -> str:
    return f"{month // 12}-{month % 12 + 1:02d}"


def _rate_text(unit_amount: Decimal | None, currency: str) -> str:
    return "an unknown rate" if unit_amount is None else money.format_minor(unit_amount, currency)


def _customers(count: int) -> str:
    return f"{count:,} customer is" if count == 1 else f"{count:,} customers are"
