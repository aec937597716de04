"""A preview as one Markdown comment: first the money, then who, then what leaves. Its length is bounded.

No name and no e-mail address of a customer is in it: resources have the names that the program gives them.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any, Final

import money
from components.providers import differ, paid
from components.providers.values import MISSING, is_unknown, mapping
from components.redaction import as_line, redact
from pricing.evaluation import SECRET, PlanVersion, PlanVersions
from pricing.review.change import KIND, Fees, Op, Preview, Sentence, Step
from pricing.review.proration import Proration

#: A GitHub comment has at most 65,536 characters; the workflow adds a line.
LONGEST: Final = 59_000
EXAMPLES: Final = 3
_NAMES: Final = 5
_LONGEST_ITEM: Final = 2_000
_LONGEST_FAILURE: Final = 8_000
_LONGEST_CELL: Final = 600
_FEWEST: Final = 2
_MOST_CURRENCIES: Final = 6

#: What deleting a resource does in Stripe.
_DELETED: Final[Mapping[str, str]] = {
    "Price": "archived",
    "Product": "deleted, or archived if it has had prices",
    "Meter": "deactivated",
    "DefaultPrice": "cleared",
    "PromotionCode": "deactivated",
    "Subscription": "cancelled",
}
_ROLLOUTS: Final[Mapping[str, str]] = {
    "keep": "stay on it",
    "at_renewal": "move when their periods end",
    "now": "move at once, prorated",
}
_PLURAL: Final[Mapping[str, str]] = {
    "Meter": "meters",
    "Product": "products",
    "Price": "prices",
    "DefaultPrice": "default prices",
    "Coupon": "coupons",
    "Customer": "customers",
    "PromotionCode": "promotion codes",
    "Subscription": "subscriptions",
}
#: Components, whose children are shown, and arguments that other sentences tell of.
_COMPONENTS: Final = ("PublishedPlan", "Subscriber")
_TOLD: Final[Mapping[str, frozenset[str]]] = {
    "Subscription": frozenset({"items", "plan_versions", "price_changes"}),
    "Price": frozenset({"lookup_key", "archive_when_unused", "active"}),
    "Product": frozenset({"active"}),
    "Meter": frozenset({"active"}),
    "DefaultPrice": frozenset({"price"}),
}
#: Kinds whose arguments say who somebody is, or can.
_PRIVATE: Final = ("Customer", "Subscription")
_AMOUNT: Final = re.compile(r"(?<![\w.])-?\d[\d,]*(?:\.\d+)? (?=[A-Z]{3}\b)")
_QUANTITY: Final = re.compile(r"\bquantity \S+ => \d+")
_DATE: Final = re.compile(r"\b\d{4}-\d{2}-\d{2}\b")
_WORD: Final = re.compile(r"\w+")
_MAIL: Final = re.compile(r"[\w.+%-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63})+")
_SUM, _ONE, _DAY, _COUNT = "\x01", "\x02", "\x03", "\x04"


@dataclass
class Section:
    """A part of the comment.

    Attributes:
        items: Markdown blocks; `shown` of them are in the comment.
        noun: what they are, for the sentence about those left out.
        folded: whether a reader has to open it.
    """

    heading: str
    items: Sequence[str]
    noun: tuple[str, str]
    join: str = "\n"
    folded: bool = False
    head: str = ""
    shown: int = field(init=False)

    def __post_init__(self) -> None:
        self.shown = len(self.items)

    def text(self) -> str:
        if not self.items:
            return ""
        left = len(self.items) - self.shown
        parts = [self.head, *self.items[: self.shown]] if self.head else list(self.items[: self.shown])
        body = self.join.join(parts)
        if left:
            body += f"\n\n**{left:,} more {self.noun[left != 1]} left out: a comment cannot be longer.**"
        if self.folded:
            return f"<details><summary>{self.heading}</summary>\n\n{body}\n\n</details>"
        return f"### {self.heading}\n\n{body}" if self.heading else body


def marker(project: str, stack: str) -> str:
    """The first line of a comment, by which the next one finds it."""
    return f"<!-- pricing review {project}/{stack} -->"


def comment(
    preview: Preview,
    *,
    impacts: Sequence[tuple[Sequence[str], str]] = (),
    prorations: Sequence[Proration] = (),
    notes: Sequence[str] = (),
) -> str:
    """The comment; empty if nothing changes.

    Args:
        impacts: of each plan with an impact, the paragraphs for the top and the rest.
        prorations: of each subscription, what is prorated if the change is applied now.
        notes: sentences about what the review could not look at.
    """
    title = f"{marker(preview.project, preview.stack)}\n## Pricing review: `{preview.stack}`"
    if preview.failure is not None:
        return f"{title}\n\n{failure(preview)}\n"
    if preview.changes_nothing:
        return ""
    private = Private(preview.steps)
    top = [title]
    if preview.doubt:
        why = _plain(private(preview.doubt))
        top.append(f"> **Do not trust this: the preview was cut short.** {why[0].upper()}{why[1:]}.")
    for paragraphs, _ in impacts:
        top += paragraphs
    if preview.steps:
        top += _money(preview.fees, is_whole=preview.is_whole)
    top += _prorated(prorations, private)
    top += [f"_{_plain(private(note))}_" for note in notes]
    sections = [Section("", top, ("paragraph", "paragraphs"), "\n\n"), *_sections(preview, private, impacts)]
    return fitted(sections)


def failure(preview: Preview) -> str:
    """Why nothing can be applied, as one block."""
    said = redact(Private(preview.steps)(preview.failure or ""))
    lines = [line.rstrip() for line in said.strip().splitlines()]
    text = "\n".join(
        "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in line) for line in lines
    )
    if len(text) > _LONGEST_FAILURE:
        # The reason of a traceback is at its end.
        text = f"{text[:500]}\n[...]\n{text[-_LONGEST_FAILURE + 500 :]}"
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
    return f"⛔ **The preview failed: nothing of this change can be applied.**\n\n{fence}text\n{text}\n{fence}"


def fitted(sections: Sequence[Section], longest: int = LONGEST) -> str:
    """The sections, with as many items of each as a comment can hold; what is left out is counted."""
    while True:
        texts = [text for section in sections if (text := section.text())]
        made = "\n\n".join(texts) + "\n"
        if len(made) <= longest:
            return made
        # What is folded is given up first, then the longest.
        able = [each for each in sections if each.shown > _FEWEST]
        if not able:
            end = "\n\n**The rest is left out: a comment cannot be longer.**\n"
            return made[: longest - len(end)].rpartition("\n")[0] + end
        folded = [each for each in able if each.folded]
        largest = max(folded or able, key=lambda each: len(each.text()))
        largest.shown = max(_FEWEST, largest.shown * 3 // 4)


def _sections(preview: Preview, private: Private, impacts: Sequence[tuple[Sequence[str], str]]) -> Iterator[Section]:
    sentences = [replace(each, text=private(each.text)) for each in preview.sentences]
    of_plans, others = _of_plans(preview, sentences)
    final = [each for each in others if each.is_final]
    leaving = [each for each in others if each.leaves and not each.is_final]
    # Subscriptions that move to the price that replaces another are told of under that.
    replaced = {(step.kind, step.name) for step in preview.steps if step.kind == "Price" and step.op == "replace"}
    who = [
        each
        for each in others
        if (each.kind == "Subscription" or (each.kind, each.name) in replaced) and not each.leaves and not each.is_final
    ]
    told = {id(each) for each in (*final, *leaving, *who)}
    rest = [each for each in others if id(each) not in told]
    line = ("entry", "entries")
    yield Section("⛔ Cannot be undone", list(grouped(final, private)), line)
    yield Section("Plans", list(_plans(preview, of_plans)), ("plan", "plans"), "\n\n")
    yield Section("Who is billed differently", [*_begins(preview, private), *grouped(who, private)], line)
    yield Section("What leaves the program", list(grouped(leaving, private)), line)
    yield Section("⚠️ Warnings", list(grouped(rest, private)), line)
    yield Section("In Stripe", list(_objects(preview.steps, private)), line)
    for number, (_, details) in enumerate(impacts, 1):
        of = f" ({number} of {len(impacts)})" if len(impacts) > 1 else ""
        yield Section(f"Who pays what, and how far to trust it{of}", [details], line, folded=True)
    rows = list(_rows(preview.steps, private))
    yield Section(
        f"Ids and URNs of {len(rows):,} {'resource' if len(rows) == 1 else 'resources'}",
        rows,
        ("resource", "resources"),
        folded=True,
        head="| | resource | id | URN |\n| --- | --- | --- | --- |",
    )


# -- money ------------------------------------------------------------------------------------------------------------


def _money(all_fees: Sequence[Fees], *, is_whole: bool) -> Iterator[str]:
    """What the declared subscriptions pay by quantity, together.

    Args:
        is_whole: whether those that stay the same are among them.
    """
    if not all_fees and not is_whole:
        yield "**No declared subscription changes.**"
        return
    if not all_fees:
        yield "**No subscription is declared in the program**, so nobody's bill changes with it."
        return
    known = [each for each in all_fees if not each.unknown]
    keys = sorted({key for each in known for key in (*each.before, *each.after)})
    zero = Decimal(0)
    lines = []
    for key in keys:
        currency, every = key
        pairs = [(each, each.before.get(key, zero), each.after.get(key, zero)) for each in known]
        before, after = sum((was for _, was, _ in pairs), zero), sum((will for _, _, will in pairs), zero)
        changed = [(each, was, will) for each, was, will in pairs if was != will]
        if not changed:
            continue
        share = f" ({Decimal(100) * (after - before) / before:+.1f}%)" if before else ""
        lines.append(
            f"**{_signed(after - before, currency)}{every}{share}** in fees of the declared subscriptions"
            f"{'' if is_whole else ' that change'}: "
            f"{money.format_minor(after, currency)}{every} instead of {money.format_minor(before, currency)}{every}. "
            f"{'; '.join(_who(key, pairs))}."
        )
    unknown = len(all_fees) - len(known)
    held = f" Without {_count(unknown, 'Subscription')} whose prices are not known here." if unknown else ""
    if not lines and known:
        lines = [f"**The fees of {_count(len(known), 'Subscription')} stay the same.**"]
    if len(lines) > _MOST_CURRENCIES:
        left = len(lines) - _MOST_CURRENCIES
        lines = [*lines[:_MOST_CURRENCIES], f"{left:,} more currencies and intervals change."]
    if lines:
        yield "\n\n".join(lines)
    yield f"_Fees by quantity, before usage, discounts, trials and tax.{held}_"


def _who(key: tuple[str, str], pairs: Sequence[tuple[Fees, Decimal, Decimal]]) -> Iterator[str]:
    """`500 pay more (+9,000.00 USD)`, `1 ends (-300.00 USD)`, ..."""
    ways: dict[str, list[tuple[Fees, Decimal]]] = {
        way: []
        for way in (
            "pays more|pay more",
            "pays less|pay less",
            "begins|begin",
            "ends|end",
            "stays the same|stay the same",
        )
    }
    for each, was, will in pairs:
        if key not in each.before and key not in each.after:
            continue
        way = "ends" if each.step.op == "delete" else "begins" if each.step.op in ("create", "adopt") else ""
        way = way or ("stays" if was == will else "pays more" if was < will else "pays less")
        ways[next(name for name in ways if name.startswith(way))].append((each, will - was))
    for way, found in ways.items():
        if not found:
            continue
        one, many = way.split("|")
        told = f"{len(found):,} {one if len(found) == 1 else many}"
        if change := sum((change for _, change in found), Decimal(0)):
            told += f" ({_signed(change, key[0])})"
        later = sum(each.later for each, change in found if change)
        if later == len(found):
            told += ", from its renewal" if later == 1 else ", each from its renewal"
        elif later:
            told += f", {later:,} of them from the renewal"
        yield told


def _prorated(prorations: Sequence[Proration], private: Private) -> Iterator[str]:
    """`Prorated, if applied now: +812.40 USD on the next invoices of 12 subscriptions`, ..."""
    ways: dict[tuple[str, bool], list[tuple[Proration, Decimal]]] = defaultdict(list)
    for each in prorations:
        if each.amount is not None:
            ways[each.currency, each.at_once].append((each, each.amount))
    for (currency, at_once), found in sorted(ways.items()):
        total = sum((amount for _, amount in found), Decimal(0))
        largest = sorted(found, key=lambda each: (-abs(each[1]), _natural(each[0].name)))[:_NAMES]
        names = ", ".join(f"{private.name(each.name)} {_signed(amount, currency)}" for each, amount in largest)
        one = len(found) == 1
        when = "at once, by an invoice" if at_once else "on the next invoice" if one else "on their next invoices"
        most = "the largest: " if len(found) > len(largest) else ""
        ends = sorted({paid.date(each.until) for each, _ in found})
        until = ends[0] if len(ends) == 1 else f"{ends[0]} to {ends[-1]}"
        whose = _count(len(found), "Subscription")
        yield (
            f"**Prorated if applied now: {_signed(total, currency)}** for {whose}, {when}, "
            f"for the rest of {'its period' if one else 'their periods'}, until {until} ({most}{names})."
        )
    if unknown := [private.name(each.name) for each in prorations if each.amount is None]:
        why = "an item gets another interval, or its price is not known"
        yield f"What is prorated of {_names(unknown)} is not known here: {why}."


def _begins(preview: Preview, private: Private) -> Iterator[str]:
    """New subscriptions, and what they pay."""
    new = [each for each in preview.fees if each.step.op == "create"]
    if new:
        names = _names([private.name(name) for name in sorted((each.step.name for each in new), key=_natural)])
        yield f"- **{_count(len(new), 'Subscription')} {_verb(len(new), 'begins', 'begin')}**{_totals(new)}: {names}."


def _totals(all_fees: Iterable[Fees]) -> str:
    found: dict[tuple[str, str], Decimal] = {}
    for each in all_fees:
        for key, amount in each.after.items() if not each.unknown else ():
            found[key] = found.get(key, Decimal(0)) + amount
    texts = [f"{money.format_minor(amount, code)}{every}" for (code, every), amount in sorted(found.items())]
    return f", {' and '.join(texts[:3])}" if texts else ""


def _signed(minor: Decimal, currency: str) -> str:
    return ("+" if minor > 0 else "") + money.format_minor(minor, currency)


# -- plans ------------------------------------------------------------------------------------------------------------


def _of_plans(preview: Preview, sentences: Sequence[Sentence]) -> tuple[dict[str, list[str]], list[Sentence]]:
    """The sentences about what a plan offers, by plan, and the rest."""
    found: dict[str, list[str]] = defaultdict(list)
    rest = []
    for each in sentences:
        name, offers, _ = each.text.partition(" offers v")
        if offers and name in preview.after and not each.kind:
            found[name].append(each.text)
        else:
            rest.append(each)
    return found, rest


def _plans(preview: Preview, said: Mapping[str, list[str]]) -> Iterator[str]:
    """Each plan that changes, old -> new."""
    texts = {step.name: step for step in preview.steps if step.kind == "PublishedPlan" and step.op != "same"}
    for name in dict.fromkeys([*preview.after, *preview.before, *texts]):
        old, new = preview.before.get(name), preview.after.get(name)
        if old is None and new is None:
            yield _plan_in_one_line(texts[name])
        elif new is None and old is not None:
            yield f"**`{name}` leaves the program.** It offers v{old.offered}: {_all(old.versions[old.offered])}"
        elif new is not None and (old != new or name in said or name in texts):
            yield "\n\n".join(_plan(name, old, new, said.get(name, ()), texts.get(name)))


def _plan_in_one_line(step: Step) -> str:
    """A plan of a program that could not be evaluated."""
    was, now = (_plain(str(each.get("price", "?"))) for each in (step.old, step.new))
    match step.op:
        case "create" | "adopt":
            return f"**`{step.name}` is new**: {now}"
        case "delete":
            return f"**`{step.name}` leaves the program**: {was}"
    return f"**`{step.name}`**: {was} → {now}"


def _plan(
    name: str, old: PlanVersions | None, new: PlanVersions, said: Sequence[str], step: Step | None
) -> Iterator[str]:
    number, version = new.offered, new.versions[new.offered]
    if old is None:
        yield f"**`{name}` is new** and offers v{number}."
        yield _table([("charge", f"v{number}"), *version.charges.items()])
    elif old.offered != number:
        yield f"**`{name}` offers v{number} instead of v{old.offered}.** {_rollout(name, number, version.rollout)}"
        yield _compared(old.versions[old.offered], version, old.offered, number)
    else:
        yield f"**`{name}`** still offers v{number}."
        before = old.versions.get(number)
        is_known = before is not None and before.charges.keys() != {"all"}
        if before is not None and before.rollout != version.rollout:
            yield f"Its rollout is `{version.rollout or 'none'}` instead of `{before.rollout or 'none'}`."
        if before is not None and is_known and replace(before, rollout=version.rollout) != version:
            yield _compared(before, version, f"{number} (before)", f"{number} (now)")
        elif step is not None and step.old.get("price") and step.old["price"] != step.new.get("price"):
            yield _table([("before", "now"), (str(step.old["price"]), str(step.new.get("price")))])
    if old is not None:
        added = [each for each in new.versions if each not in old.versions and each != number]
        gone = [each for each in old.versions if each not in new.versions]
        for each in added:
            yield f"v{each} is added and not offered: {_all(new.versions[each])}"
        if gone:
            yield f"{_and([f'v{each}' for each in gone])} {_verb(len(gone), 'leaves', 'leave')} the program."
    yield from (f"{_plain(each)}." for each in said)


def _rollout(name: str, number: int, rollout: str | None) -> str:
    if rollout is None:
        return f"v{number} declares no rollout: subscribers on another version stay on it."
    others = "" if rollout == "keep" else f" Others stay until `pricing rollout {name}@{number}` moves them."
    return f"Rollout `{rollout}`: declared subscribers on another version {_ROLLOUTS[rollout]}.{others}"


def _compared(old: PlanVersion, new: PlanVersion, before: object, now: object) -> str:
    rows = []
    if old.charges.keys() == {"all"} and new.charges.keys() != {"all"}:
        # The program does not declare the old version any more: the state has it in one sentence.
        rows.append(("all charges", old.charges["all"], _all(new)))
    else:
        for key in dict.fromkeys([*old.charges, *new.charges]):
            was, will = old.charges.get(key, "—"), new.charges.get(key, "—")
            rows.append((key, was, "unchanged" if was == will else f"**{_cell(will)}**"))
    if old.trial_days != new.trial_days:
        rows.append(("trial", _trial(old), f"**{_trial(new)}**"))
    return _table([("charge", f"v{before}", f"v{now}"), *rows])


def _trial(version: PlanVersion) -> str:
    return f"{version.trial_days} days" if version.trial_days else "none"


def _all(version: PlanVersion) -> str:
    return _plain(_cut(", ".join(version.charges.values()), _LONGEST_CELL))


# -- sentences --------------------------------------------------------------------------------------------------------


class Private:
    """Takes the names and e-mail addresses of customers out of what the comment quotes."""

    def __init__(self, steps: Iterable[Step]) -> None:
        values = {
            value
            for step in steps
            if step.kind == "Customer"
            for props in (step.outputs, step.old, step.new)
            for name in ("name", "email", "phone", "individual_name", "business_name")
            if isinstance(value := props.get(name), str) and len(value) > 1 and value != SECRET
        }
        self._by_word: dict[str, list[str]] = defaultdict(list)
        for value in values:
            if word := _WORD.search(value):
                self._by_word[word[0]].append(value)

    def __call__(self, text: str) -> str:
        """The text without them."""
        text = _MAIL.sub("[e-mail address]", text)
        found = {each for word in {*_WORD.findall(text)} & self._by_word.keys() for each in self._by_word[word]}
        for value in sorted(found, key=len, reverse=True):
            if value in text:
                text = re.sub(rf"(?<!\w){re.escape(value)}(?!\w)", "[customer]", text)
        return text

    def name(self, text: str) -> str:
        """A resource's name as code."""
        return f"`{self(text).replace('`', chr(39))}`"


def grouped(sentences: Sequence[Sentence], private: Private) -> Iterator[str]:
    """The sentences as a list: equal ones of many resources once, with their number, their sum and a few examples."""
    groups: dict[tuple[str, str], list[Sentence]] = defaultdict(list)
    for each in sentences:
        groups[each.kind, _masked(each) if each.kind else each.text].append(each)
    # Money first, then many.
    in_order = sorted(groups.items(), key=lambda group: (_SUM not in group[0][1], -len(group[1]), group[0]))
    for (kind, masked), unordered in in_order:
        members = sorted(unordered, key=lambda each: _natural(each.name))
        first = members[0]
        if not kind:
            yield f"- {_cut(_plain(first.text), _LONGEST_ITEM)}."
        elif len(members) == 1:
            about = f"{KIND[kind].noun.capitalize()} {private.name(first.name)}"
            yield f"- {about}: {_cut(_plain(first.text), _LONGEST_ITEM)}."
        else:
            yield _cut(_group(kind, masked, members, private), _LONGEST_ITEM)


def _group(kind: str, masked: str, members: Sequence[Sentence], private: Private) -> str:
    found = [_slots(each) for each in members]
    amounts = [amounts for amounts, _, _ in found]
    together = [
        sum((Decimal(each[place].replace(",", "")) for each in amounts), Decimal(0)) for place in range(len(amounts[0]))
    ]
    text, number = "", 0
    for part in re.split(f"({_SUM})", masked):
        if part == _SUM:
            text += ("together " if number == 0 else "") + f"{together[number]:,} "
            number += 1
        else:
            text += part
    days = sorted({day for _, days, _ in found for day in days})
    span = "" if not days else days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"
    quantities = {each for _, _, counts in found for each in counts}
    text = text.replace(_DAY, span).replace(_ONE, "its own")
    text = text.replace(_COUNT, quantities.pop() if len(quantities) == 1 else "quantity changes")
    examples = "; ".join(f"{private.name(each.name)}{_own(each)}" for each in members[:EXAMPLES])
    return f"- **{_count(len(members), kind)}**, each: {_plain(text)}. For example {examples}."


def _own(sentence: Sentence) -> str:
    """The amounts of one of a group: ` 100.00 USD a month => 120.00 USD a month`."""
    amounts = re.findall(rf"{_AMOUNT.pattern}[A-Z]{{3}}(?: (?:a \w+|every \d+ \w+))?", sentence.text)
    return f" {' → '.join(amounts)}" if 0 < len(amounts) <= 2 else ""


def _masked(sentence: Sentence) -> str:
    """The sentence without what differs from resource to resource."""
    text = sentence.text.replace(f"'{sentence.name}-", f"'{_ONE} ").replace(f"'{sentence.name}'", f"'{_ONE}'")
    return _DATE.sub(_DAY, _AMOUNT.sub(_SUM, _QUANTITY.sub(_COUNT, text)))


def _slots(sentence: Sentence) -> tuple[list[str], list[str], list[str]]:
    """What `_masked` takes out: amounts, days, quantities."""
    text = sentence.text
    counts = _QUANTITY.findall(text)
    amounts = [each.strip() for each in _AMOUNT.findall(_QUANTITY.sub("", text))]
    return amounts, _DATE.findall(text), counts


# -- objects ----------------------------------------------------------------------------------------------------------


def _objects(steps: Sequence[Step], private: Private) -> Iterator[str]:
    """What is created, adopted, moved, changed, archived and deleted."""
    ours = sorted(
        (step for step in steps if step.op != "same" and step.kind not in _COMPONENTS),
        key=lambda step: _natural(step.name),
    )
    for verb, op in (("Created", "create"), ("Adopted", "adopt"), ("Replaced", "replace")):
        if of := [step for step in ours if step.op == op]:
            yield f"- {verb}: {_listed(of, private)}"
    switched: Mapping[str, Callable[[Step], bool]] = {
        "Archived or deactivated": lambda step: step.new.get("active") is False and step.old.get("active") is not False,
        "Active again": lambda step: step.old.get("active") is False and step.new.get("active") is not False,
    }
    for verb, is_so in switched.items():
        if of := [step for step in ours if step.op == "update" and is_so(step)]:
            yield f"- {verb}: {_listed(of, private)}"
    moved = [
        f"{private.name(key)} from {private.name(old)} to {private.name(new)}"
        for key, old, new in _keys_that_move(ours)
    ]
    if moved:
        yield f"- Lookup keys that move: {_names(moved)}"
    if of := [step for step in ours if step.kind == "DefaultPrice" and step.op == "update"]:
        yield f"- Default prices that move: {_names([private.name(step.name) for step in of])}"
    if of := [step for step in ours if step.kind == "Subscription" and _moves(step)]:
        yield f"- Moved to another price: {_listed(of, private)}"
    yield from _changed(ours, private)
    for kind, of in _by_kind(step for step in ours if step.op == "delete").items():
        kept = kind == "Customer" and all(step.outputs.get("on_delete") == "keep" for step in of)
        what = "kept in Stripe" if kept else _DELETED.get(kind, "deleted")
        yield f"- {what[0].upper()}{what[1:]}: {_listed(of, private)}"


def _moves(step: Step) -> bool:
    if step.op != "update":
        return False
    was, now = (mapping(each.get("items")) for each in (step.old, step.new))
    return any(mapping(item).get("price") != mapping(was[key]).get("price") for key, item in now.items() if key in was)


def _keys_that_move(steps: Iterable[Step]) -> Iterator[tuple[str, str, str]]:
    """Lookup keys with the names of the prices that lose and get them."""
    prices = [step for step in steps if step.kind == "Price"]
    lost = {
        step.old["lookup_key"]: step.name
        for step in prices
        if step.old.get("lookup_key") and step.old["lookup_key"] != step.new.get("lookup_key")
    }
    for step in prices:
        key = step.new.get("lookup_key")
        if isinstance(key, str) and key in lost and lost[key] != step.name:
            yield key, lost[key], step.name


def _changed(steps: Iterable[Step], private: Private) -> Iterator[str]:
    """Updates that nothing else tells of, with old and new values."""
    steps = list(steps)
    moved = {key for key, *_ in _keys_that_move(steps)}
    groups: dict[tuple[str, str], list[str]] = defaultdict(list)
    for step in steps:
        kind = KIND.get(step.kind)
        if step.op != "update":
            continue
        if kind is None:
            groups[step.kind, ""].append(step.name)
            continue
        different = differ.unequal(kind.comparable(step.old), kind.comparable(step.new))
        paths = {
            path: values
            for path, values in different.items()
            if path.partition(".")[0] not in _TOLD.get(step.kind, ())
            or (path == "lookup_key" and not moved & {*values})
        }
        if not paths:
            continue
        if step.kind in _PRIVATE:
            text = ", ".join(f"`{path}`" for path in paths)
        else:
            text = ", ".join(f"{path} {_value(old)} → {_value(new)}" for path, (old, new) in paths.items())
        groups[step.kind, private(text)].append(step.name)
    for (of, text), names in groups.items():
        about = _names([private.name(name) for name in names])
        yield _cut(f"- Changed: {_count(len(names), of)} ({about}){f': {text}' if text else ''}", _LONGEST_ITEM)


def _value(value: Any) -> str:
    if value is MISSING:
        return "none"
    if is_unknown(value):
        return "(known after the run)"
    return f"`{_cut(as_line(str(value)), 80)}`".replace("|", "\\|")


def _listed(steps: Iterable[Step], private: Private) -> str:
    """`2 prices (`a`, `b`), 1 meter (`c`)`."""
    kinds = _by_kind(steps).items()
    return ", ".join(
        f"{_count(len(of), kind)} ({_names([private.name(step.name) for step in of])})" for kind, of in kinds
    )


def _by_kind(steps: Iterable[Step]) -> dict[str, list[Step]]:
    found: dict[str, list[Step]] = {}
    order = list(_PLURAL)
    for step in sorted(steps, key=lambda step: order.index(step.kind) if step.kind in order else len(order)):
        found.setdefault(step.kind, []).append(step)
    return found


_SIGNS: Final[Mapping[Op, str]] = {
    "create": "created",
    "adopt": "adopted",
    "update": "updated",
    "replace": "replaced",
    "delete": "deleted",
}


def _rows(steps: Iterable[Step], private: Private) -> Iterator[str]:
    for step in sorted(steps, key=lambda step: (_natural(step.name), step.urn)):
        if step.op != "same" and step.kind not in _COMPONENTS:
            id_ = f"`{step.id}`" if re.fullmatch(r"[a-zA-Z]+_\w+", step.id) else ""
            urn = _cell(private(step.urn)).replace("`", "'")
            yield f"| {_SIGNS[step.op]} | {step.kind} {_cell(private.name(step.name))} | {id_} | `{urn}` |"


def _natural(name: str) -> list[tuple[int, int, str]]:
    """Orders `customer-2` before `customer-10`."""
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in re.split(r"(\d+)", name) if part]


# -- Markdown ---------------------------------------------------------------------------------------------------------


def _names(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMES:,} more" if len(names) > _NAMES else ""
    return f"{', '.join(names[:_NAMES])}{more}"


def _count(number: int, kind: str) -> str:
    if kind not in _PLURAL:
        return f"{number:,} {kind}"
    return f"{number:,} {KIND[kind].noun if number == 1 else _PLURAL[kind]}"


def _verb(number: int, one: str, many: str) -> str:
    return one if number == 1 else many


def _and(parts: list[str]) -> str:
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[: longest - 2]} …"


def _plain(text: str) -> str:
    """Text in which nothing is Markdown, a link, or the mention of a person."""
    text = text.replace(" => ", " → ").replace(" -> ", " → ")
    text = re.sub(r"(?<![\w`])@(?=\w)", "@\N{ZERO WIDTH SPACE}", as_line(text)).replace(
        "://", ":\N{ZERO WIDTH SPACE}//"
    )
    return re.sub(r"([\\`*_<>\[\]|#~])", r"\\\1", text)


def _table(rows: Sequence[Sequence[str]]) -> str:
    heading, *body = rows
    return "\n".join(
        f"| {' | '.join(cell if cell.startswith('**') else _cell(cell) for cell in row)} |"
        for row in (heading, ["---"] * len(heading), *body)
    )


def _cell(text: str) -> str:
    return _cut(as_line(text), _LONGEST_CELL).replace("|", "\\|")
