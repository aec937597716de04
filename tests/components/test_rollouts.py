"""Random subscriptions with random histories of price changes: each bill is the one that a small model predicts.

`ROLLOUTS=300 pytest tests/components/test_rollouts.py` runs 300 of them; the suite runs a few.
"""

from __future__ import annotations

import os
import random
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from components.providers.subscription import SubscriptionProvider
from tests.components.test_price_changes import AT_RENEWAL, Acme, Killing
from tests.components.test_schedules import DAY, MONTH, START
from tests.components.world import World

#: What one seat or one unit costs in three versions, in cents: hundreds, so that percentages are exact.
AMOUNTS = {"seats": (1000, 1500, 2500), "support": (4000, 6000, 5000), "usage": (100, 200, 300)}
METERED = {"usage"}
PERIODS = 4


@dataclass
class Item:
    version: int
    quantity: int = 1


@dataclass
class Model:
    """What is billed now, and what the program declares: billed from the renewal on. It knows nothing of Stripe."""

    percent_off: int
    billed: dict[str, Item]
    declared: dict[str, Item] = field(default_factory=dict)
    used: int = 0

    def __post_init__(self) -> None:
        self.declared = copied(self.billed)

    def seats(self, key: str, quantity: int) -> None:
        """A quantity alone changes now, if it is billed now as the program has declared it."""
        now = self.billed.get(key)
        if now is not None and now.quantity == self.declared[key].quantity:
            now.quantity = quantity
        self.declared[key].quantity = quantity

    def settled(self) -> dict[str, Item]:
        """What is billed now once the program has run: the quantity of what it declares at the price of now."""
        billed = copied(self.billed)
        for key, item in self.declared.items():
            if key in billed and billed[key].version == item.version:
                billed[key].quantity = item.quantity
        return billed

    def bill(self, then: dict[str, Item]) -> int:
        """The bill of a renewal after which some items are billed: their fees, and usage as it was billed before."""
        fees = sum(AMOUNTS[key][item.version] * item.quantity for key, item in then.items() if key not in METERED)
        usage = self.used * AMOUNTS["usage"][self.billed["usage"].version] if "usage" in self.billed else 0
        return (fees + usage) * (100 - self.percent_off) // 100

    def renew(self, then: dict[str, Item]) -> None:
        self.billed, self.used = copied(then), 0


def copied(items: dict[str, Item]) -> dict[str, Item]:
    return {key: Item(item.version, item.quantity) for key, item in items.items()}


class History:
    """A subscription of the program and what happens to it, drawn from a seed."""

    def __init__(self, world: World, seed: int, killing: Killing) -> None:
        self.draw, self.killing = random.Random(seed), killing
        keys = sorted(self.draw.sample(sorted(AMOUNTS), self.draw.randint(1, 3)) or ["seats"])
        if keys == ["usage"]:
            keys = ["seats", "usage"]
        self.model = Model(
            self.draw.choice([0, 0, 10, 50]),
            {key: Item(0, 1 if key in METERED else self.draw.randint(1, 9)) for key in keys},
        )
        more: dict[str, Any] = {"billing_mode": {"type": self.draw.choice(["classic", "flexible"])}, **AT_RENEWAL}
        if self.model.percent_off:
            duration: dict[str, Any] = self.draw.choice(
                [{"duration": "forever"}, {"duration": "repeating", "duration_in_months": 12}]
            )
            coupon = world.stripe("post", "/v1/coupons", percent_off=self.model.percent_off, **duration)
            more["discounts"] = [{"coupon": coupon["id"]}]
        self.acme = Acme(world)
        world.destroy(SubscriptionProvider, self.acme.state)
        self.prices = {
            key: [
                (self.acme.usage_price if key in METERED else self.acme.price)(f"{key}-v{version}", amount)
                for version, amount in enumerate(amounts)
            ]
            for key, amounts in AMOUNTS.items()
        }
        self.acme.arguments = {**self.acme.arguments, **more, "items": self.items(), "proration_behavior": "none"}
        self.acme.state = world.up(SubscriptionProvider, "acme", self.acme.arguments)
        self.seen = len(self.acme.bills())

    def items(self) -> dict[str, Any]:
        return {
            key: {"price": self.prices[key][item.version]} | ({} if key in METERED else {"quantity": item.quantity})
            for key, item in self.model.declared.items()
        }

    def shown(self, items: dict[str, Item]) -> dict[str, tuple[str, int | None]]:
        """Some items as Stripe shows them: by key, their prices and quantities."""
        return {
            key: (self.prices[key][item.version], None if key in METERED else item.quantity)
            for key, item in items.items()
        }

    def run(self) -> None:
        for period in range(PERIODS):
            begins = self.renewal(period)
            days = sorted(self.draw.sample(range(3, 27), self.draw.randint(1, 4)))
            for day in days:
                self.acme.until(begins + day * DAY)
                self.happens()
            self.finish(self.renewal(period + 1))

    def finish(self, renewal: int) -> None:
        """Sometimes the last change of a period is cut short, and no run comes before the renewal."""
        model, before = self.model, copied(self.model.declared)
        late = self.draw.random() < 0.2
        if late:
            self.move(model)
        if late and model.settled() != model.billed:
            # What changes now may have changed or not.
            late, model.declared = False, copied(before)
        if late:
            number, after = self.draw.randint(1, 8), self.draw.random() < 0.5
            self.killing.at(number, partial(self.acme.up, self.items()), after=after)
        self.acme.until(renewal + 2 * DAY)
        invoices = self.acme.bills()[self.seen :]
        self.seen += len(invoices)
        assert len(invoices) <= 1
        # Nothing to pay may be no invoice at all.
        new = sum(invoices)
        assert new in (model.bill(before), model.bill(model.declared))
        then = next((then for then in (before, model.declared) if self.shown(then) == self.acme.prices()), {})
        assert new == model.bill(then)
        model.renew(then)
        if late:
            model.billed = model.settled()
            self.acme.up(self.items())
        self.matches()

    def renewal(self, number: int) -> int:
        """The 15th of January 2027 at 8 o'clock, and of the months after it."""
        days = (0, 31, 59, 90, 120, 151)
        return START + days[number] * DAY

    def happens(self) -> None:
        """Something that a program or a customer does."""
        model, acme = self.model, self.acme
        match self.draw.choice(["move", "move", "back", "seats", "use", "use", "words", "end", "come", "go"]):
            case "move":
                self.move(model)
            case "back":
                model.declared = copied(model.billed)
            case "seats":
                key = self.draw.choice([key for key in model.declared if key not in METERED] or [""])
                if key:
                    model.seats(key, self.draw.randint(1, 9))
            case "use" if "usage" in model.billed:
                units = self.draw.randint(1, 50)
                acme.use(units)
                model.used += units
            case "words":
                self.up(metadata={"crm": str(self.draw.randint(1, 99))})
            case "end":
                self.up(cancel_at_period_end=True)
                self.up(cancel_at_period_end=None)
            case "come":
                key = self.draw.choice(sorted(AMOUNTS))
                model.declared.setdefault(key, Item(self.draw.randint(0, 2)))
            case "go" if len(model.declared) > 1:
                del model.declared[self.draw.choice(sorted(model.declared))]
        self.up()

    def move(self, model: Model) -> None:
        for key in sorted(self.draw.sample(sorted(model.declared), self.draw.randint(1, len(model.declared)))):
            item = model.declared[key]
            if key not in model.billed or self.draw.random() < 0.7:
                item.version = self.draw.randint(0, 2)
            elif key not in METERED and item.version != 2:
                # A quantity that changes with the price waits with it.
                model.declared[key] = Item(2, self.draw.randint(1, 9))

    def up(self, **more: Any) -> None:
        """A run of the program, which is sometimes cut short and run again."""
        self.model.billed = self.model.settled()
        if self.draw.random() < 0.4:
            number, after = self.draw.randint(1, 8), self.draw.random() < 0.5
            self.killing.at(number, partial(self.acme.up, self.items(), **more), after=after)
        self.acme.up(self.items(), **more)
        self.matches()

    def matches(self) -> None:
        """Stripe bills now what the model says, and a refresh shows what the program declares."""
        assert self.acme.prices() == self.shown(self.model.billed)
        assert self.acme.refreshed().inputs == self.acme.state.inputs
        assert len(self.acme.running()) <= 1


@pytest.mark.parametrize("seed", range(int(os.environ.get("ROLLOUTS", "8"))))
def test_every_bill_is_the_old_or_the_predicted_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    world = World(tmp_path / "stripe.db")
    History(world, seed, Killing(monkeypatch)).run()
    world.sandbox.close()


def test_the_months_of_the_model_are_those_of_the_clock() -> None:
    assert START + 31 * DAY == START + MONTH
