"""`pricing impact alpaca-ai@1 alpaca-ai@2`: who pays what when one version replaces another."""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from components.account import Account, AccountError
from components.pricing import Version
from components.providers.inventory import StripeObject
from components.settings import SettingsError
from pricing import lists
from pricing.ending import DECIDE, DONE, ERROR, reported
from pricing.impact import chart, report
from pricing.impact.comparison import CALIBRATED, Comparison, Impact, Standing
from pricing.impact.guardrails import Exceeded, GuardrailError, exceeded, idle_acknowledgements
from pricing.impact.reading import (
    Cache,
    ExportError,
    File,
    Read,
    Sample,
    catalogue_of,
    from_account,
    open_usage,
    standing,
    subscribers,
)
from pricing.invoices import Billed, Catalogue
from pricing.program import ProgramError, configuration, plans, settings_of

CACHE: Final = Path(".stripe-pricing/impact.db")
LOCK: Final = "price_lock"
_PRICE: Final = re.compile(r"(\w+)=(\d+):([a-z0-9][a-z0-9_-]*)")


class CommandError(Exception):
    """An invalid request; the message is one line."""


def add_to(commands: Any) -> None:
    """Add the command to `pricing`."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "impact",
        help="who pays what when one version replaces another, from closed invoices",
        description="Exit codes: 0 no objection, 2 an exceeded guardrail without acknowledgement, 3 an error or "
        "no trustworthy figures. It only reads: a restricted key with read access to prices, invoices and "
        "subscriptions is enough (STRIPE_API_KEY).",
    )
    parser.add_argument("old", help="the present version, such as alpaca-ai@1")
    parser.add_argument("new", help="the new version, such as alpaca-ai@2")
    parser.add_argument("--stack", default="dev", help="whose account and limits (default: %(default)s)")
    parser.add_argument(
        "--from", dest="file", type=Path, metavar="FILE", help="an export or a saved sample instead of the account"
    )
    parser.add_argument("--save", type=Path, metavar="FILE", help="write the hashed data, for --from")
    add_sources(parser)
    parser.add_argument(
        "--markdown", type=Path, metavar="FILE", help="write the report there (default: standard output)"
    )
    parser.add_argument("--svg", type=Path, metavar="FILE", help="write the chart there")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write a page to explore there")
    parser.set_defaults(run=run)


def add_sources(parser: argparse.ArgumentParser) -> None:
    """Add the options that say which invoices to read, and how."""
    parser.add_argument("--months", default="3", help="how many whole calendar months to read (default: %(default)s)")
    parser.add_argument("--through", metavar="YYYY-MM", help="the last of them (default: the last complete one)")
    parser.add_argument(
        "--price",
        action="append",
        default=[],
        metavar="ID=VERSION:CHARGE",
        help="a price of an export, if no key can look it up: price_1=1:license",
    )
    parser.add_argument(
        "--calibration",
        default=f"{CALIBRATED * 100:f}",
        metavar="PERCENT",
        help="the share of lines to reproduce to the cent (default: %(default)s)",
    )
    parser.add_argument(
        "--locked-by",
        metavar="KEY",
        dest="lock",
        default=LOCK,
        help="the metadata key of a subscription that must not move (default: %(default)s)",
    )
    parser.add_argument(
        "--open-period",
        action="store_true",
        help="also read what was used in the present period, scaled to the whole: a call for each customer and meter",
    )
    parser.add_argument("--no-cache", action="store_true", help=f"read months again that {CACHE} has")


@dataclass
class _Job:
    """A validated request."""

    name: str
    versions: Mapping[int, Version]
    old: int
    new: int
    config: Mapping[str, Any]
    first: int
    until: int
    arguments: argparse.Namespace

    def account(self) -> Account:
        return Account(settings_of(Path.cwd(), self.arguments.stack))


@dataclass(frozen=True)
class Measured:
    """An impact with the exceeded limits, and the acknowledgements of limits that it does not exceed."""

    comparison: Comparison
    impact: Impact
    limits: list[Exceeded]
    idle: list[str]

    @property
    def code(self) -> int:
        """The exit code."""
        if self.impact.doubts:
            return ERROR
        return DECIDE if any(not each.acknowledged for each in self.limits) else DONE


def measured(arguments: argparse.Namespace) -> Measured:
    """Read the invoices and compare the two versions.

    Raises:
        ProgramError, CommandError, ExportError, AccountError, SettingsError, GuardrailError, OSError:
            it cannot be done.
    """
    job = _job(arguments)
    comparison = Comparison(
        job.name,
        {number: version.plan for number, version in job.versions.items()},
        job.old,
        job.new,
        share=_share(arguments.calibration),
    )
    now = int(time.time())
    known, cut_short = _read(job, comparison)
    rollout = job.versions[job.new].rollout
    impact = comparison.result(
        now=now,
        standings=known,
        stays=f"{job.name}@{job.new} keeps them where they are" if rollout == "keep" else None,
        cut_short=cut_short,
    )
    limits = exceeded(impact, job.config)
    return Measured(comparison, impact, limits, idle_acknowledgements(impact, job.config, limits))


@reported(ProgramError, CommandError, ExportError, GuardrailError)
def run(arguments: argparse.Namespace) -> int:
    """Run the command; returns the exit code."""
    found = measured(arguments)
    impact, limits = found.impact, found.limits
    if impact.changes_nothing and not limits:
        print(f"pricing: nobody's bill changes from {impact.old} to {impact.new}", file=sys.stderr)
        return DONE
    drawn = chart.curve(found.comparison, impact) if arguments.svg or arguments.html else None
    picture = arguments.svg.name if arguments.svg and drawn else None
    _write(arguments, impact, drawn, report.markdown(impact, limits, idle=found.idle, chart=picture))
    return found.code


def _job(arguments: argparse.Namespace) -> _Job:
    (name, old), (other, new) = _named(arguments.old), _named(arguments.new)
    if name != other:
        raise CommandError(
            f"{arguments.old} and {arguments.new} are of different plans; compare two versions of one plan"
        )
    if old == new:
        raise CommandError(f"{arguments.old} is compared with itself; name two versions")
    declared = plans(Path.cwd(), arguments.stack)
    if name not in declared:
        raise CommandError(f"there is no plan {name}; this program has {', '.join(sorted(declared)) or 'none'}")
    published = declared[name]
    versions = {number: Version(each.plan, rollout=each.rollout) for number, each in published.versions.items()}
    for number in (old, new):
        if number not in versions:
            known = ", ".join(f"{name}@{each}" for each in versions)
            raise CommandError(f"{name} has no version {number}; it has {known}")
    config = configuration(Path.cwd(), arguments.stack)
    first, until = _window(arguments.months, arguments.through, datetime.now(UTC))
    return _Job(name, versions, old, new, config, first, until, arguments)


def _named(given: str) -> tuple[str, int]:
    name, at, version = given.partition("@")
    if not at or not version.isdecimal():
        raise CommandError(f"{given!r} is not a version of a plan, such as alpaca-ai@1")
    return name, int(version)


def _window(months: str, through: str | None, now: datetime) -> tuple[int, int]:
    """The whole calendar months to read, as UTC seconds: the first's start and the last's end."""
    if not months.isdecimal() or not 1 <= int(months) <= 36:
        raise CommandError(f"--months is {months!r}; it must be a number from 1 to 36")
    after = now.year * 12 + now.month - 1
    if through is not None:
        try:
            last = datetime.strptime(through, "%Y-%m")
        except ValueError:
            raise CommandError(f"--through is {through!r}; it must be a month such as 2026-10") from None
        after = last.year * 12 + last.month
    start, end = (datetime(month // 12, month % 12 + 1, 1, tzinfo=UTC) for month in (after - int(months), after))
    return int(start.timestamp()), int(end.timestamp())


def _share(given: str) -> Decimal:
    try:
        percent = Decimal(given.removesuffix("%"))
    except InvalidOperation:
        percent = Decimal(-1)
    if not 0 <= percent <= 100:
        raise CommandError(f"--calibration is {given!r}; it must be a percentage such as 99")
    return percent / 100


# -- reading ----------------------------------------------------------------------------------------------------------


def _read(job: _Job, comparison: Comparison) -> tuple[Mapping[str, Standing] | None, str | None]:
    """Read all invoices into a comparison; returns the state of subscriptions, and why reading was cut short, if so."""
    path: Path | None = job.arguments.save
    sample = Sample(path, job.name) if path else None
    known: dict[str, Standing] | None = None
    cut_short = None
    try:
        if job.arguments.file is not None:
            if job.arguments.open_period:
                raise CommandError("--open-period reads the account, so it does not go with --from")
            file = File(job.arguments.file, job.name)
            try:
                for invoice in file.invoices(_catalogue_of_export(job, file)):
                    _take(comparison, sample, invoice)
            except ExportError as problem:
                if not comparison.invoices:
                    raise
                cut_short = str(problem)
            comparison.unknown_layouts.update(file.read.unknown_layouts)
            known = file.standings
        else:
            account = job.account()
            catalogue = _catalogue(job, account)
            known, there = {}, []
            for each in subscribers(account, catalogue):
                name, state = standing(each, job.arguments.lock)
                known[name] = state
                # All of them are needed for their open periods alone.
                there += [each] if job.arguments.open_period else []
            try:
                for invoice in _from_account(job, account, catalogue, comparison):
                    _take(comparison, sample, invoice)
                if job.arguments.open_period:
                    _read_open(account, catalogue, there, comparison)
            except AccountError as problem:
                cut_short = str(problem)
        if sample is not None and known is not None:
            sample.standings(known)
    except KeyboardInterrupt:
        cut_short = "interrupted"
    finally:
        if sample is not None:
            sample.close()
    return known, cut_short


def _read_open(
    account: Account, catalogue: Catalogue, subscriptions: Sequence[StripeObject], comparison: Comparison
) -> None:
    """Add the open periods of subscriptions."""
    clocks = {each.get("test_clock") for each in subscriptions}
    now = {clock: lists.now(account, clock) for clock in clocks}
    progress = _Progress()
    for number, subscription in enumerate(subscriptions, start=1):
        for used in open_usage(account, subscription, catalogue, now[subscription.get("test_clock")]):
            comparison.add_open(used)
        progress(f"the open periods of {number:,} of {len(subscriptions):,} subscriptions read")


def _take(comparison: Comparison, sample: Sample | None, invoice: Billed) -> None:
    comparison.add(invoice)
    if sample is not None:
        sample.add(invoice)


def _catalogue(job: _Job, account: Account) -> dict[str, tuple[int, str]]:
    keys = {number: [charge.key for charge in version.plan.charges] for number, version in job.versions.items()}
    found = catalogue_of(account, job.name, keys.get(1, ()), (job.old, keys[job.old])) | _given_prices(job)
    if not any(number == job.old for number, _ in found.values()):
        raise CommandError(
            f"the account has no price of {job.name}@{job.old}: apply it there first, or name its prices (--price)"
        )
    return found


def _catalogue_of_export(job: _Job, file: File) -> Catalogue:
    if file.is_sample:
        return {}
    given = _given_prices(job)
    if given:
        return given
    try:
        return _catalogue(job, job.account())
    except (AccountError, ProgramError, SettingsError) as problem:
        few = ", ".join(sorted(file.prices())[:5])
        raise CommandError(
            f"the prices of {file.path.name} ({few}, ...) cannot be looked up, so name those of {job.name} "
            f"(--price ID=VERSION:CHARGE): {problem}"
        ) from None


def _given_prices(job: _Job) -> dict[str, tuple[int, str]]:
    found = {}
    for given in job.arguments.price:
        match = _PRICE.fullmatch(given)
        if match is None:
            raise CommandError(f"--price is {given!r}; it must be ID=VERSION:CHARGE, such as price_1=1:license")
        number, key = int(match[2]), match[3]
        if number not in job.versions or all(charge.key != key for charge in job.versions[number].plan.charges):
            raise CommandError(f"--price {given}: {job.name} has no charge {key} in version {number}")
        found[match[1]] = (number, key)
    return found


def _from_account(job: _Job, account: Account, catalogue: Catalogue, comparison: Comparison) -> Iterator[Billed]:
    cache = None
    if not job.arguments.no_cache:
        # With other prices, the same invoices mean something else.
        digest = sha256(repr((account.id, job.name, sorted(catalogue.items()))).encode()).hexdigest()
        cache = Cache(CACHE, digest)
    progress = _Progress()
    read = Read()
    try:
        yield from from_account(account, catalogue, job.first, job.until, read=read, cache=cache, progress=progress)
    finally:
        if cache is not None:
            cache.close()
        comparison.unknown_layouts.update(read.unknown_layouts)
        print(
            f"pricing: {read.seen:,} invoices read, {read.not_closed:,} of them not closed and omitted; "
            f"{account.calls:,} calls",
            file=sys.stderr,
        )


class _Progress:
    """Says on standard error how far it is, every two seconds at most."""

    def __init__(self) -> None:
        self._said = time.monotonic()

    def __call__(self, sentence: str) -> None:
        if time.monotonic() - self._said >= 2:
            self._said = time.monotonic()
            print(f"pricing: {sentence}", file=sys.stderr, flush=True)


# -- writing ----------------------------------------------------------------------------------------------------------


def _write(arguments: argparse.Namespace, impact: Impact, drawn: chart.Curve | None, text: str) -> None:
    if drawn is not None:
        for path, made in ((arguments.svg, chart.svg), (arguments.html, chart.html)):
            if path is not None:
                path.write_text(made(impact, drawn), encoding="utf-8")
    elif arguments.svg or arguments.html:
        print("pricing: there is nothing to draw, because no customer moves", file=sys.stderr)
    if arguments.markdown is not None:
        arguments.markdown.write_text(text, encoding="utf-8")
    else:
        sys.stdout.write(text)
