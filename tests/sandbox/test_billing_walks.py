"""Random lives of subscriptions: whatever happens in whatever order, nothing breaks and every invoice adds up."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable
from typing import Any

import pytest
import stripe

from .bills import World, at, lines

STEPS = 50


class Walk:
    """A customer to whom random things happen; refusals are fine, an answer 500 or a wrong sum is not."""

    def __init__(self, client: stripe.StripeClient, seed: int) -> None:
        self.random = random.Random(seed)
        self.world = World(client)
        self.now = at("2026-01-01")
        world, meter = self.world, self.world.meter("units")
        self.licensed = [world.price(f"License {cents}", str(cents)) for cents in (1000, 2999, 10_000)]
        self.licensed.append(world.price("Yearly", "100000", interval="year"))
        self.metered = [
            world.usage_price("Graduated", meter, **world.tiered((100, "0", None), (None, "1.5", 0))),
            world.usage_price("Volume", meter, **world.tiered((100, "2", 50), (None, "1", None), mode="volume")),
            world.usage_price("Plain", meter, unit_amount_decimal="0.123456789012"),
        ]
        coupons: list[Any] = [
            {"percent_off": 20, "duration": "forever"},
            {"percent_off": 50, "duration": "repeating", "duration_in_months": 2},
            {"amount_off": 500, "currency": "usd", "duration": "once"},
        ]
        offers: list[Any] = [
            {
                "price": world.price(f"Trial {cents}", cents, interval=interval),
                "duration": {"relative": {"iterations": iterations}},
                "end_behavior": {"transition": {"price": then}},
            }
            for cents, interval, iterations, then in (
                ("0", "week", 1, self.licensed[0]),
                ("500", "month", 2, self.licensed[1]),
                ("99", "day", 3, world.price("After", "700")),
            )
        ]
        self.offers = [world.v1.product_catalog.trial_offers.create(offer).id for offer in offers]
        self.coupons = [world.v1.coupons.create(coupon).id for coupon in coupons]

    # -- what can happen --------------------------------------------------------------------------------------------

    def subscribe(self) -> None:
        items: list[Any] = [(self.random.choice(self.licensed), self.random.randrange(4))]
        if self.random.random() < 0.2:
            items = [{"current_trial": {"trial_offer": self.random.choice(self.offers)}}]
        if self.random.random() < 0.7:
            items.append(self.random.choice(self.metered))
        params: dict[str, Any] = {"billing_mode": {"type": self.random.choice(["flexible", "classic"])}}
        params.update(
            self.random.choice(
                [
                    {},
                    {"trial_period_days": 10},
                    {"billing_cycle_anchor": self.now + 86_400 * 9},
                    {"backdate_start_date": self.now - 86_400 * 40},
                    {"billing_cycle_anchor_config": {"day_of_month": 31}},
                    {"cancel_at": self.now + 86_400 * 45},
                    {"collection_method": "send_invoice", "days_until_due": 5},
                    {"payment_behavior": "default_incomplete"},
                    {"discounts": [{"coupon": self.random.choice(self.coupons)}]},
                    {"proration_behavior": "none", "billing_cycle_anchor": self.now + 86_400 * 3},
                ]
            )
        )
        self.world.subscribe(*items, **params)

    def change(self) -> None:
        subscription = self.any()
        items = subscription["items"].data
        item = self.random.choice(items).id
        entry: dict[str, Any] = self.random.choice(
            [
                {"id": item, "quantity": self.random.randrange(4)},
                {"id": item, "price": self.random.choice(self.licensed + self.metered)},
                {"id": item, "deleted": True},
                {"price": self.random.choice(self.licensed + self.metered)},
                {"id": item, "current_trial": {"trial_offer": self.random.choice(self.offers)}},
                {"current_trial": {"trial_offer": self.random.choice(self.offers)}},
            ]
        )
        behavior = self.random.choice(["create_prorations", "always_invoice", "none"])
        self.world.preview(subscription.id, items=[entry], proration_behavior=behavior)
        self.world.change(subscription.id, entry, proration_behavior=behavior)

    def alter(self) -> None:
        params: dict[str, Any] = self.random.choice(
            [
                {"billing_cycle_anchor": {"type": "now"}},
                {"trial_end": self.now + 86_400 * 5},
                {"trial_end": "now"},
                {"cancel_at_period_end": True},
                {"cancel_at_period_end": False},
                {"cancel_at": self.now + 86_400 * 3},
                {"cancel_at": ""},
                {"pause_collection": {"behavior": "void", "resumes_at": self.now + 86_400 * 20}},
                {"pause_collection": ""},
                {"discounts": ""},
                {"discounts": [{"coupon": self.coupons[0]}]},
            ]
        )
        self.world.change(self.any().id, **params)

    def plan(self) -> None:
        phases = [
            {"items": [{"price": price}], "duration": {"interval": "month"}}
            for price in self.random.sample(self.licensed[:3], 2)
        ]
        given: Any = {
            "customer": self.world.customer.id,
            "start_date": self.random.choice(["now", self.now + 86_400 * 4]),
            "phases": phases,
            "end_behavior": self.random.choice(["release", "cancel"]),
        }
        self.world.v1.subscription_schedules.create(given)

    def cancel(self) -> None:
        self.world.v1.subscriptions.cancel(
            self.any().id,
            {"invoice_now": self.random.random() < 0.5, "prorate": self.random.random() < 0.5},
        )

    def use(self) -> None:
        self.world.use("units", self.random.randrange(-50, 500))

    def charge(self) -> None:
        self.world.v1.invoice_items.create(
            {"customer": self.world.customer.id, "amount": self.random.randrange(-900, 900), "currency": "usd"}
        )

    def collect(self) -> None:
        given: Any = {"customer": self.world.customer.id, "status": self.random.choice(["open", "draft"])}
        invoice = self.random.choice(self.world.v1.invoices.list(given).data or self.world.invoices())
        act: Callable[[str], Any] = self.random.choice(
            [
                self.world.v1.invoices.pay,
                self.world.v1.invoices.void_invoice,
                self.world.v1.invoices.finalize_invoice,
            ]
        )
        act(invoice.id)

    def wait(self) -> None:
        # Refused where it is more than two of the shortest interval.
        until = self.now + self.random.choice([1800, 86_400, 86_400 * 9, 86_400 * 27])
        self.world.v1.test_helpers.test_clocks.advance(self.world.clock.id, {"frozen_time": until})
        self.now = until

    def any(self) -> stripe.Subscription:
        given: Any = {"customer": self.world.customer.id, "status": "all", "limit": 100}
        return self.random.choice(self.world.v1.subscriptions.list(given).data)

    # -- what must hold ---------------------------------------------------------------------------------------------

    def check(self) -> None:
        for invoice in self.world.invoices():
            shown = lines(invoice)
            off = sum(given.amount for given in invoice.total_discount_amounts or ())
            if not invoice.lines.has_more:
                assert sum(amount for _, amount in shown) == invoice.subtotal
            assert invoice.total == invoice.subtotal - off
            assert 0 <= off <= max(0, sum(amount for _, amount in shown if amount > 0)) or invoice.lines.has_more
            due = max(0, invoice.total + invoice.starting_balance)
            assert invoice.amount_due in ({due} if due >= 50 else {due, 0})
            if invoice.status == "paid":
                assert (invoice.amount_remaining, invoice.amount_paid) == (0, invoice.amount_due)
        given: Any = {"customer": self.world.customer.id, "limit": 100}
        for subscription in self.world.v1.subscriptions.list(given).data:
            for item in subscription["items"].data:
                assert item.current_period_start < item.current_period_end
                if subscription.status in ("active", "trialing", "past_due"):
                    assert item.current_period_end > self.now


@pytest.mark.parametrize("seed", range(4))
def test_whatever_happens_nothing_breaks_and_every_invoice_adds_up(
    client: stripe.StripeClient, seed: int, caplog: pytest.LogCaptureFixture
) -> None:
    walk = Walk(client, seed)
    happenings: list[Callable[[], None]] = [
        walk.subscribe, walk.change, walk.change, walk.alter, walk.plan, walk.cancel,
        walk.use, walk.use, walk.charge, walk.collect, walk.wait, walk.wait, walk.wait,
    ]  # fmt: skip
    walk.world.subscribe((walk.licensed[0], 2), walk.metered[0])
    answers = []
    for _ in range(STEPS):
        try:
            walk.random.choice(happenings)()
            answers.append(200)
        except stripe.StripeError as error:
            answers.append(error.http_status or 0)
    walk.check()
    assert set(answers) <= {200, 400, 402, 404, 501}
    assert answers.count(200) > STEPS * 0.3
    # Nothing that fell due was given up either.
    assert [record.getMessage() for record in caplog.records if record.name == "sandbox"] == []


@pytest.mark.parametrize("seed", range(6))
def test_the_next_invoice_is_what_its_preview_said(client: stripe.StripeClient, seed: int) -> None:
    walk = Walk(client, seed)
    mode = walk.random.choice(["flexible", "classic"])
    held = walk.world.subscribe((walk.licensed[0], 2), walk.metered[0], billing_mode={"type": mode})
    compared = 0
    for _ in range(8):
        for _ in range(walk.random.randrange(4)):
            # A refusal is as good a thing to happen as any.
            with contextlib.suppress(stripe.StripeError):
                walk.random.choice([walk.change, walk.change, walk.alter, walk.use, walk.use, walk.charge])()
        if walk.world.v1.subscriptions.retrieve(held.id).status == "canceled":
            break
        try:
            shown = walk.world.preview(held.id)
        except stripe.InvalidRequestError:  # the end comes next, and nothing is to be billed
            break
        walk.now = shown.period_end
        walk.world.v1.test_helpers.test_clocks.advance(walk.world.clock.id, {"frozen_time": walk.now})
        came = walk.world.invoices(held.id)[-1]
        assert (came.created, came.total, lines(came)) == (walk.now, shown.total, lines(shown))
        compared += 1
    assert compared
