"""`script/soak`: a year of random customers on test clocks, each invoice compared with what our rating says.

The programs are real ones (`PublishedPlan`, `Subscriber`), applied by the real providers; only Pulumi's engine is left
out. What is billed is predicted by `Customer`, which knows `components.rating` and what docs/pricing.md promises, and
nothing of the sandbox's billing.
"""

from __future__ import annotations

import argparse
import calendar
import contextlib
import io
import logging
import math
import random
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any, Final, Literal

from components.plan import PublishedPlan
from components.pricing import Fee, Plan, Rollout, Version
from components.program import program
from components.rating import rate_lines
from components.resources import Coupon
from components.subscriber import Subscriber
from tests.components.random_plans import usage
from tests.components.world import World
from tests.mocked import event_loop
from tests.sandbox.bills import at
from tests.stack import Stack

HOUR, DAY = 3_600, 86_400
START: Final = at("2026-01-01")
#: Customers of one shop: they share two plans, their versions and a clock.
SHOP: Final = 25
#: percent_off, months; None is for ever. The amounts of fees are whole, so that a percentage of a fee is exact.
COUPONS: Final = {"tenth": (10, None), "half": (50, 3), "quarter": (25, 1)}


class Mismatch(Exception):
    """A bill is not what the rating says."""


def months_later(start: int, count: int) -> int:
    """The same day and time some months later, or the month's last day."""
    moment = datetime.fromtimestamp(start, UTC)
    year, month = divmod(moment.month - 1 + count, 12)
    year, month = moment.year + year, month + 1
    day = min(moment.day, calendar.monthrange(year, month)[1])
    return int(moment.replace(year=year, month=month, day=day).timestamp())


def part(amount: int, seconds: int, whole: int) -> int:
    """The part of an amount for some seconds of a period, to the nearest cent, a half to the lower one.

    Recorded on Stripe (Kiln-AI/stripe_world, cassette 01): 4.5 is billed as 4, -2.5 as -3.
    """
    return math.ceil(Fraction(amount * seconds, whole) - Fraction(1, 2))


@dataclass
class Priced:
    """One plan of a shop: its versions by number, with their rollouts."""

    name: str
    versions: dict[int, tuple[Plan, Rollout | None]]

    @property
    def newest(self) -> int:
        return max(self.versions)


Paid = tuple[str, int]
"""A plan's name and a version."""


@dataclass
class Customer:
    """A customer as the rating sees it: what it pays now, what the program declares, and what is on no invoice yet.

    Attributes:
        debits: fees that this period has charged: (amount, from, until); a change credits the rest of each.
        pending: what a change within the period has added for the next invoice, in cents.
        used: units since the period began, or since the last move.
    """

    id: str
    seats: int
    proration: str
    coupon: str | None
    trial_days: int
    billed: Paid
    declared: Paid
    anchor: int = 0
    born: int = 0
    number: int = 0
    debits: list[tuple[int, int, int]] = field(default_factory=list)
    pending: int = 0
    used: int = 0
    expected: int = 0
    is_charged: bool = False
    is_gone: bool = False

    @property
    def bills_at(self) -> int:
        """When its next fee is due."""
        return self.ends if self.is_charged else self.anchor

    @property
    def begins(self) -> int:
        return months_later(self.anchor, self.number)

    @property
    def ends(self) -> int:
        return months_later(self.anchor, self.number + 1)


class Shop:
    """Two plans, some customers on a test clock, and the stack that declares them."""

    def __init__(self, folder: Path, seed: int, size: int, counts: Counter[str]) -> None:
        self.draw, self.counts, self.seed = random.Random(seed), counts, seed
        self.world = World(folder / "stripe.db")
        self.stack = Stack(self.world)
        self.world.control("clock", frozen=START)
        self.now = START
        self.clock = str(self.world.stripe("post", "/v1/test_helpers/test_clocks", frozen_time=START)["id"])
        #: Coupons and prorations do not meet: what a discount takes off a part of a fee is Stripe's own rounding.
        self.has_coupons = self.draw.random() < 0.4
        self.plans = {name: Priced(name, {1: (self._plan(name, None), None)}) for name in ("basic", "pro")}
        self.customers: dict[str, Customer] = {}
        self.waiting = size
        self.size = size
        self.named = 0

    # -- the year -----------------------------------------------------------------------------------------------

    def run(self, months: int = 12) -> None:
        end = months_later(START, months)
        while self.now < end:
            self._advance(self.now + self.draw.randint(2, 9) * DAY)
            self._use()
            self._advance(self.now + 2 * HOUR)
            self._edit()
            self._apply()
        self._advance(self.now + 32 * DAY)
        self.stack.up(self._program)
        assert self.stack.done == [], f"the program is not settled: {self.stack.done}"

    def _advance(self, moment: int) -> None:
        """Let time pass, keep away from the hour in which an invoice is a draft, and compare the bills."""
        while any(0 <= moment - each.bills_at < 3 * HOUR for each in self.customers.values() if not each.is_gone):
            moment += HOUR
        path = f"/v1/test_helpers/test_clocks/{self.clock}/advance"
        while self.now < moment:
            self.now = min(moment, self.now + 27 * DAY)
            self.world.stripe("post", path, frozen_time=self.now)
            self.world.control("clock", frozen=self.now)
        for each in self.customers.values():
            renewed = False
            while not each.is_gone and each.bills_at <= self.now:
                self._renew(each)
                renewed = True
            if renewed:
                self._compare(each)

    def _use(self) -> None:
        for each in self.customers.values():
            if each.is_gone or not each.is_charged or self.draw.random() < 0.3:
                continue
            units = self.draw.choice([1, self.draw.randint(1, 60), self.draw.randint(1, 700)])
            self.world.stripe(
                "post",
                "/v1/billing/meter_events",
                event_name=f"{each.billed[0]}_units",
                timestamp=self.now,
                payload={"stripe_customer_id": each.id, "value": str(units)},
            )
            each.used += units
            self.counts["usage events"] += 1

    # -- what the program declares ------------------------------------------------------------------------------

    def _plan(self, name: str, before: Plan | None) -> Plan:
        """Another price for each charge of the plan."""
        per: Literal["seat", "subscription"] = "seat" if self.draw.random() < 0.6 else "subscription"
        if before is not None:
            per = before.fees[0].per
        fee = Fee(Decimal(self.draw.randint(1, 400)), per=per, key="license")
        charge = usage(self.draw, "usage")
        return Plan(name.title(), fees=fee, usage=charge)

    def _program(self) -> None:
        with program(meant=_Everything()):
            coupons = {
                name: Coupon(
                    name,
                    percent_off=percent,
                    **(
                        {"duration": "forever"}
                        if months is None
                        else {"duration": "once"}
                        if months == 1
                        else {"duration": "repeating", "duration_in_months": months}
                    ),
                )
                for name, (percent, months) in (COUPONS if self.has_coupons else {}).items()
            }
            published = {}
            for name, priced in self.plans.items():
                versions: dict[int, Plan | Version] = {
                    number: Version(plan, rollout=rollout) if rollout else plan
                    for number, (plan, rollout) in priced.versions.items()
                }
                published[name] = PublishedPlan(name, versions, event_name=f"{name}_units")
            for name, each in self.customers.items():
                if each.is_gone:
                    continue
                more: dict[str, Any] = {"proration": each.proration, "seats": each.seats}
                if each.coupon:
                    more["coupon"] = coupons[each.coupon].id
                if each.trial_days:
                    more["trial_days"] = each.trial_days
                if self.has_coupons:
                    # Nothing is prorated: prices move at the renewal.
                    more["price_changes"] = "at_renewal"
                Subscriber(name, published[each.declared[0]], customer=each.id, **more)

    def _edit(self) -> None:
        """What the program's author does on a day."""
        if self.waiting and self.now < START + 80 * DAY:
            for _ in range(min(self.waiting, self.draw.randint(1, 8))):
                self._sign_up()
        if self.draw.random() < 0.14:
            self._publish(self.draw.choice(list(self.plans.values())))
        for name, each in list(self.customers.items()):
            if each.is_gone or not each.is_charged or self.draw.random() > 0.16:
                continue
            match self.draw.choice(["seats", "seats", "plan", "leave"]):
                case "seats" if each.billed == each.declared:
                    self._seats(each, self.draw.randint(1, 30))
                case "plan" if each.billed == each.declared:
                    self._switch(each)
                case "leave" if self.draw.random() < 0.25:
                    self._leave(name, each)

    def _sign_up(self) -> None:
        self.named += 1
        self.waiting -= 1
        plan = self.draw.choice(list(self.plans.values()))
        customer = self.world.stripe(
            "post",
            "/v1/customers",
            name="Soak",
            email="soak@example.com",
            test_clock=self.clock,
            invoice_settings={"default_payment_method": "pm_card_visa"},
        )
        trial = self.draw.choice([0, 0, 0, 0, 7, 30])
        paid = (plan.name, plan.newest)
        self.customers[f"customer-{self.named}"] = Customer(
            customer["id"],
            seats=self.draw.randint(1, 30),
            proration="none" if self.has_coupons else self.draw.choice(["create_prorations", "always_invoice"]),
            coupon=self.draw.choice([None, *COUPONS]) if self.has_coupons else None,
            trial_days=trial,
            billed=paid,
            declared=paid,
            anchor=self.now + trial * DAY,
            born=self.now,
        )
        self.counts["customers"] += 1
        self.counts["trials"] += bool(trial)
        self.counts["coupons"] += bool(self.customers[f"customer-{self.named}"].coupon)

    def _publish(self, priced: Priced) -> None:
        before, _ = priced.versions[priced.newest]
        ways: list[Rollout] = ["keep", "at_renewal"] if self.has_coupons else ["keep", "at_renewal", "now"]
        rollout = self.draw.choice(ways)
        number = priced.newest + 1
        priced.versions[number] = (self._plan(priced.name, before), rollout)
        self.counts[f"rollouts, {rollout}"] += 1
        for each in self.customers.values():
            if each.is_gone or each.declared[0] != priced.name:
                continue
            if each.born == self.now:
                # Who is new gets what is offered.
                each.billed = each.declared = (priced.name, number)
            elif rollout != "keep":
                self._to(each, (priced.name, number), at_renewal=rollout == "at_renewal")

    def _switch(self, each: Customer) -> None:
        """To the other plan: an upgrade or a downgrade."""
        other = next(priced for name, priced in self.plans.items() if name != each.declared[0])
        more = self._fee(each, (other.name, other.newest)) >= self._fee(each, each.billed)
        self._to(each, (other.name, other.newest), at_renewal=self.has_coupons)
        self.counts["upgrades" if more else "downgrades"] += 1

    # -- what the rating says -----------------------------------------------------------------------------------

    def _plan_of(self, paid: Paid) -> Plan:
        return self.plans[paid[0]].versions[paid[1]][0]

    def _fee(self, each: Customer, paid: Paid) -> int:
        plan = self._plan_of(paid)
        fee = plan.fees[0]
        return sum(
            line.amount for line in rate_lines("license", plan.rate(fee, "usd"), each.seats if fee.per == "seat" else 1)
        )

    def _usage(self, each: Customer) -> int:
        plan = self._plan_of(each.billed)
        return sum(line.amount for line in rate_lines("usage", plan.rate(plan.usage[0], "usd"), each.used))

    def _to(self, each: Customer, paid: Paid, *, at_renewal: bool) -> None:
        """A move: at the renewal, or now with what is left of the fee and the usage so far."""
        each.declared = paid
        if not each.is_charged:
            # In its trial: nothing was charged.
            each.billed = each.billed if at_renewal else paid
            return
        if at_renewal:
            return
        each.pending += self._usage(each)
        each.used = 0
        each.billed = paid
        self._charge_again(each)

    def _charge_again(self, each: Customer) -> None:
        """Credit the rest of what was charged for the period, and charge the rest of what it costs now."""
        each.pending += sum(part(-amount, end - self.now, end - start) for amount, start, end in each.debits)
        rest = part(self._fee(each, each.billed), each.ends - self.now, each.ends - each.begins)
        each.pending += rest
        each.debits = [(rest, self.now, each.ends)]

    def _seats(self, each: Customer, seats: int) -> None:
        if self._plan_of(each.billed).fees[0].per != "seat" or seats == each.seats:
            return
        each.seats = seats
        self.counts["changes of seats"] += 1
        if each.proration != "none":
            self._charge_again(each)

    def _leave(self, name: str, each: Customer) -> None:
        """Out of the program: cancelled at once, with a final invoice for usage and prorations, and no credit."""
        each.is_gone = True
        each.expected += self._off(each, self._usage(each), self.now) + each.pending
        self.counts["cancellations"] += 1

    def _renew(self, each: Customer) -> None:
        """A trial or a period ends: its usage, what was pending, and the fee of the next."""
        now, used = each.bills_at, self._usage(each) if each.is_charged else 0
        each.billed = each.declared
        if each.is_charged:
            each.number += 1
            self.counts["renewals"] += 1
        each.is_charged = True
        fee = self._fee(each, each.billed)
        each.expected += self._off(each, fee + used, now) + each.pending
        each.pending, each.used = 0, 0
        each.debits = [(fee, each.begins, each.ends)]

    def _off(self, each: Customer, amount: int, when: int) -> int:
        """An amount less the coupon, if it still applies; a half cent of the discount counts as one."""
        if each.coupon is None:
            return amount
        percent, months = COUPONS[each.coupon]
        if months == 1:
            applies = when == each.anchor
        else:
            applies = months is None or when < months_later(each.born, months)
        return amount - (math.floor(Fraction(amount * percent, 100) + Fraction(1, 2)) if applies else 0)

    # -- comparing ----------------------------------------------------------------------------------------------

    def _apply(self) -> None:
        """Run the program, then compare who is new, has left or was invoiced at once."""
        self.stack.up(self._program)
        self.counts["runs of the program"] += 1
        for each in self.customers.values():
            if not each.is_gone and each.bills_at == self.now:
                self._renew(each)
                self._compare(each)

    def _compare(self, each: Customer) -> None:
        """Every invoice of the customer so far, pending items left out, is what the rating says."""
        found = self.world.stripe("get", "/v1/invoices", customer=each.id, limit=100)
        assert not found["has_more"]
        total = sum(invoice["total"] for invoice in found["data"])
        self.counts["comparisons"] += 1
        if total != each.expected:
            lines = [
                f"{datetime.fromtimestamp(invoice['created'], UTC):%Y-%m-%d %H:%M} {invoice['total']:>9} "
                + "; ".join(f"{line['description']}: {line['amount']}" for line in invoice["lines"]["data"])
                for invoice in found["data"][:3]
            ]
            raise Mismatch(
                f"seed {self.seed}, {datetime.fromtimestamp(self.now, UTC):%Y-%m-%d}, {each}: billed {total}, "
                f"rated {each.expected}\n" + "\n".join(lines)
            )


class _Everything:
    """All warnings of a program are meant: random prices are odd ones."""

    def __contains__(self, name: object) -> bool:
        return True

    def __iter__(self) -> Any:
        return iter(())

    def __len__(self) -> int:
        return 0


def soak(seed: int, size: int, months: int, counts: Counter[str]) -> None:
    """One shop's year.

    Raises:
        Mismatch: a bill differs.
    """
    # The providers' warnings, which the engine would show.
    quiet = contextlib.redirect_stderr(io.StringIO())
    with tempfile.TemporaryDirectory(prefix="soak-") as folder, event_loop(), quiet:
        shop = Shop(Path(folder), seed, size, counts)
        try:
            shop.run(months)
        finally:
            shop.world.sandbox.close()


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="script/soak",
        description="A virtual year of random customers on test clocks: sign-ups, trials, coupons, seats, upgrades, "
        "downgrades, rollouts, cancellations, usage. Every invoice is compared with what components.rating says, to "
        "the cent. Exit code 1 if one differs: the seed of its shop is printed, and --seed runs it again.",
    )
    parser.add_argument("--customers", type=int, default=300, help="how many in all (default 300)")
    parser.add_argument("--months", type=int, default=12, help="how long (default 12)")
    parser.add_argument("--minutes", type=float, default=60, help="begin no shop after that (default 60)")
    parser.add_argument("--first-seed", type=int, default=1, help="the seed of the first shop (default 1)")
    parser.add_argument("--seed", type=int, help="run only the shop with this seed")
    given = parser.parse_args()
    logging.disable(logging.WARNING)
    seeds = (
        [given.seed]
        if given.seed is not None
        else range(given.first_seed, given.first_seed - (-given.customers // SHOP))
    )
    counts, failed, begun = Counter[str](), [], time.monotonic()
    for seed in seeds:
        if time.monotonic() - begun > given.minutes * 60:
            break
        started = time.monotonic()
        try:
            soak(seed, SHOP, given.months, counts)
        except Mismatch as found:
            failed.append(seed)
            print(f"FAILED: script/soak --seed {seed}\n{found}", flush=True)
        else:
            print(f"seed {seed}: every bill as rated, {time.monotonic() - started:.0f} s", flush=True)
    for name, count in sorted(counts.items()):
        print(f"  {count:7,}  {name}")
    print(f"{time.monotonic() - begun:.0f} s; failed: {', '.join(map(str, failed)) or 'none'}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
