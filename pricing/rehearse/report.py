"""A rehearsal as Markdown: whether every bill is explained, who pays what more in which month, how far to trust it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import groupby
from typing import Any, Final

import money
from pricing.impact.comparison import LEAST_GROUP, TOP
from pricing.impact.report import bounded, signed, table
from pricing.rehearse.check import Finding

#: How many subscriptions are shown with one kind of finding.
_MOST: Final = 10
_ID: Final = re.compile(r"\b(?:cus|sub)_\w+")
_WORDS: Final[Mapping[str, str]] = {
    "lost coupon": "a coupon of today's bill is gone",
    "coupon given again": "a coupon applies that today's bill does not have",
    "dropped usage": "usage is on no invoice",
    "double charge": "something is billed twice, or prorated though no proration is declared",
    "wrong item": "a price bills that the declared version does not have there",
    "draft hour": "a bill that was made before the change came out otherwise",
    "fee not billed": "a fee is on no invoice",
    "other quantity": "seats are other than today",
    "wrong amount": "an amount is not what the declared version costs",
    "wrong proration": "a proration is not the rest of the period",
    "not explained": "a price that this change does not concern bills otherwise",
    "not applied": "the pull request cannot be applied to this account",
    "rollout halted": "the rollout stopped itself",
}


@dataclass(frozen=True)
class Bills:
    """What each customer pays in each month, minor units, by currency: (customer, month) to amount.

    Attributes:
        count: how many invoices.
    """

    amounts: Mapping[str, Mapping[tuple[str, str], int]]
    count: int

    @classmethod
    def of(cls, invoices: Mapping[str, Sequence[Mapping[str, Any]]], since: int) -> Bills:
        """The bills made after a moment, UTC seconds."""
        amounts: dict[str, dict[tuple[str, str], int]] = {}
        count = 0
        for each in invoices.values():
            for invoice in each:
                if int(invoice["created"]) > since:
                    count += 1
                    of = amounts.setdefault(str(invoice["currency"]), {})
                    where = (str(invoice["customer"]), _month(int(invoice["created"])))
                    of[where] = of.get(where, 0) + int(invoice["total"])
        return cls(amounts, count)


@dataclass
class Rehearsal:
    """What a rehearsal has found.

    Attributes:
        stack: its name.
        today, then: the bills of both copies; `then` is None if the pull request was not applied.
        names: the pseudonym of each customer and subscription of the copy.
        done: what was done, in sentences; `trust` what to know about the figures.
    """

    stack: str
    subscriptions: int
    customers: int
    renewals: int
    today: Bills
    then: Bills | None
    findings: Sequence[Finding] = ()
    names: Mapping[str, str] = field(default_factory=dict)
    done: Sequence[str] = ()
    trust: Sequence[str] = ()

    @property
    def changes_nothing(self) -> bool:
        """Whether every bill stays as it is, and nothing was found."""
        return not self.findings and self.then is not None and self.then.amounts == self.today.amounts


def markdown(rehearsal: Rehearsal) -> str:
    """The report; bounded."""
    parts = [f"## Pricing rehearsal: {rehearsal.stack}", *_headline(rehearsal), *_findings(rehearsal)]
    if rehearsal.then is not None:
        currencies = sorted(rehearsal.today.amounts.keys() | rehearsal.then.amounts.keys())
        for currency in currencies:
            parts += _currency(rehearsal, rehearsal.then, currency, alone=len(currencies) == 1)
    for title, lines in (("What was done", rehearsal.done), ("How far to trust this", rehearsal.trust)):
        if lines:
            listed = "\n".join(f"- {_pseudonymous(line, rehearsal.names)}" for line in lines)
            parts.append(f"### {title}\n\n{listed}")
    return bounded("\n\n".join(parts) + "\n")


def _headline(rehearsal: Rehearsal) -> Iterator[str]:
    who = (
        f"{rehearsal.subscriptions:,} subscriptions of {rehearsal.customers:,} customers, copied without names, were "
        f"billed {rehearsal.renewals} times on a clock of their own, once as today and once with this change"
    )
    if rehearsal.then is None:
        yield "⛔ **This change cannot be applied to the account.**"
    elif not rehearsal.findings:
        yield f"✅ **Every difference is explained by the declared versions.** {who}."
    else:
        count = len(rehearsal.findings)
        what = "1 difference is" if count == 1 else f"{count:,} differences are"
        yield f"⛔ **{what} not explained by the declared versions.** {who}."


def _findings(rehearsal: Rehearsal) -> Iterator[str]:
    by_name: dict[str, list[Finding]] = {}
    for finding in rehearsal.findings:
        by_name.setdefault(finding.name, []).append(finding)
    if not by_name:
        return
    rows = [
        (f"**{name}**", _WORDS[name], f"{len(some):,}", _amounts(some))
        for name, some in sorted(by_name.items(), key=lambda entry: (-len(entry[1]), entry[0]))
    ]
    yield "### Findings\n\n" + table([("finding", "what it is", "times", "too much, or too little"), *rows], right=2)
    for name, some in by_name.items():
        by_subscription: dict[str, list[Finding]] = {}
        for each in some:
            by_subscription.setdefault(each.subscription, []).append(each)
        lines = [_line(each, rehearsal.names) for each in list(by_subscription.values())[:_MOST]]
        if (rest := len(by_subscription) - _MOST) > 0:
            lines.append(f"- and {rest:,} more subscriptions.")
        yield f"**{name}**\n\n" + "\n".join(lines)


def _line(some: Sequence[Finding], names: Mapping[str, str]) -> str:
    """The findings of a name on one subscription: the first of them in words."""
    first = some[0]
    who = f"`{names.get(first.subscription, 'new')}`, " if first.subscription else ""
    more = f" And {len(some) - 1:,} more until {_day(some[-1].at)}." if len(some) > 1 else ""
    return f"- {who}{_day(first.at)}: {_pseudonymous(first.detail, names).removesuffix('.')}.{more}"


def _pseudonymous(text: str, names: Mapping[str, str]) -> str:
    """A sentence whose ids of the copy are those by which a person can find the customer."""
    return _ID.sub(lambda match: names.get(match[0], match[0]), text)


def _amounts(findings: Sequence[Finding]) -> str:
    totals: dict[str, int] = {}
    for each in findings:
        if each.amount is not None:
            totals[each.currency] = totals.get(each.currency, 0) + each.amount
    return ", ".join(signed(total, currency) for currency, total in sorted(totals.items())) or "—"


def _currency(rehearsal: Rehearsal, then: Bills, currency: str, *, alone: bool) -> Iterator[str]:
    was, is_ = rehearsal.today.amounts.get(currency, {}), then.amounts.get(currency, {})
    title = "" if alone else f" ({currency.upper()})"
    by_customer: dict[str, list[int]] = {}
    by_month: dict[str, list[Any]] = {}
    for side, amounts in enumerate((was, is_)):
        for (customer, month), amount in amounts.items():
            by_customer.setdefault(customer, [0, 0])[side] += amount
            by_month.setdefault(month, [0, 0, set(), set()])[side] += amount
    for customer, month in was.keys() | is_.keys():
        change = is_.get((customer, month), 0) - was.get((customer, month), 0)
        if change:
            by_month[month][2 if change > 0 else 3].add(customer)
    more = sum(after > before for before, after in by_customer.values())
    less = sum(after < before for before, after in by_customer.values())
    before, after = (sum(each[side] for each in by_customer.values()) for side in (0, 1))
    yield (
        f"**{signed(after - before, currency)} in {len(by_month)} months**{title}: "
        f"{money.format_minor(after, currency)} in place of {money.format_minor(before, currency)}. {more:,} customers "
        f"pay more, {len(by_customer) - more - less:,} the same, {less:,} less."
    )
    rows = [
        (month, *_money(old, new, currency), _few(len(up)), _few(len(down)))
        for month, (old, new, up, down) in sorted(by_month.items())
    ]
    yield f"### By month{title}\n\n" + table(
        [("month", "today", "then", "change", "pay more", "pay less"), *_together(rows)]
    )
    changed = [(customer, old, new) for customer, (old, new) in by_customer.items() if old != new]
    top = sorted(changed, key=lambda row: (-abs(row[2] - row[1]), rehearsal.names.get(row[0], row[0])))[:TOP]
    if top:
        yield f"The {len(top)} largest changes in {len(by_month)} months{title}:\n\n" + table(
            [
                ("customer", "today", "then", "change"),
                *(
                    (f"`{rehearsal.names.get(customer, 'new')}`", *_money(old, new, currency))
                    for customer, old, new in top
                ),
            ]
        )


def _money(old: int, new: int, currency: str) -> tuple[str, str, str]:
    return money.format_minor(old, currency), money.format_minor(new, currency), signed(new - old, currency)


def _together(rows: Sequence[tuple[str, ...]]) -> Iterator[tuple[str, ...]]:
    """Months that are all the same in one row."""
    for _, same in groupby(rows, key=lambda row: row[1:]):
        (first, *rest), *more = same
        yield (f"{first} to {more[-1][0]}, each" if more else first, *rest)


def _few(count: int) -> str:
    """A number of customers, which is not told if it is so small that it would show one."""
    return f"{count:,}" if count == 0 or count >= LEAST_GROUP else f"1 to {LEAST_GROUP - 1}"


def _month(at: int) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m")


def _day(at: int) -> str:
    return datetime.fromtimestamp(at, UTC).date().isoformat()
