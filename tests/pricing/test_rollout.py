"""`pricing rollout` on the sandbox with a test clock: who moves, what each pays, and that it can stop anywhere."""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import re
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from pricing import cli
from pricing.program import plans
from pricing.rollout import moving
from pricing.rollout.decisions import Prediction, Rules, mismatches
from pricing.rollout.journal import Journal
from sandbox import keys
from sandbox.server import serving
from tests.components.test_permissions import accesses, names, table
from tests.pricing.shop import PROGRAM, Shop, opened

ROOT = Path(__file__).parents[2]
DRY, APPLY = (), ("--apply",)
#: `ROLLOUTS=300` for the long form.
ROLLOUTS = int(os.environ.get("ROLLOUTS", "12"))


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    with opened(tmp_path) as made:
        yield made


def everything(shop: Shop) -> Any:
    """All of Stripe that a rollout could change."""
    paths = ("/v1/subscriptions", "/v1/subscription_schedules", "/v1/invoices")
    asked: list[dict[str, Any]] = [{"test_clock": shop.clock}, {}, {}]
    return [shop.world.stripe("get", path, limit=100, **more) for path, more in zip(paths, asked, strict=True)]


# -- who moves ----------------------------------------------------------------------------------------------------


def test_a_dry_run_sends_nothing_that_changes_anything_and_keeps_no_journal(shop: Shop) -> None:
    acme = shop.subscribe(3)
    shop.use(acme, 26_000)
    shop.go("2026-02-02")
    before = everything(shop)
    done = shop.rollout()
    assert (done.code, done.writes) == (0, [])
    assert everything(shop) == before
    assert not (shop.folder / ".pricing").exists()
    assert done.text.splitlines()[-5:] == [
        "",
        "1 subscription: 310.00 USD => 372.75 USD a month, before tax",
        "Usage is from the last invoice; there is none in a first period.",
        "",
        "Nothing was changed. To do it, run the same command with --apply.",
    ]
    assert [line.split() for line in done.text.splitlines() if line.startswith(acme)] == [
        [acme, "2026-03-01", "month", "310.00", "372.75"]
    ]
    assert max(map(len, done.text.splitlines())) <= 80


def test_who_moves_pays_the_new_price_from_the_renewal_on_and_usage_before_it_at_the_old(shop: Shop) -> None:
    """3 x 120.00 + 1,000 x 0.0004 = 360.40; then 3 x 120.00 + 1,500 x 0.0005 = 360.75."""
    acme = shop.subscribe(3)
    shop.go("2026-01-20")
    done = shop.rollout("--apply")
    assert done.text.splitlines()[-1] == "1 subscription scheduled to move at the renewal."
    assert shop.bills(acme) == [30_000]
    shop.use(acme, 2_000)
    shop.go("2026-02-02")
    shop.use(acme, 2_000)
    shop.go("2026-03-02")
    assert shop.bills(acme) == [30_000, 36_040, 36_075]
    assert shop.prices(acme) == {"v2-license", "v2-usage"}
    assert shop.remote(acme)["metadata"] == {}
    assert shop.rollout("--check").text.endswith("1 first invoice as predicted; 0 not there yet.\n")
    assert "on alpaca-ai@2 already" in shop.rollout().text


def locked(shop: Shop) -> str:
    return shop.subscribe(metadata={"price_lock": "until 2027"})


def declared(shop: Shop) -> str:
    return shop.subscribe(metadata={"pulumi": "shop/dev/acme"})


def in_trial(shop: Shop) -> str:
    return shop.subscribe(trial_period_days=60)


def past_due(shop: Shop) -> str:
    return shop.subscribe(collection_method="send_invoice", days_until_due=1)


def ending(shop: Shop) -> str:
    id_ = shop.subscribe()
    shop.world.stripe("post", f"/v1/subscriptions/{id_}", cancel_at_period_end=True)
    return id_


def paused(shop: Shop) -> str:
    id_ = shop.subscribe()
    shop.world.stripe("post", f"/v1/subscriptions/{id_}", pause_collection={"behavior": "void"})
    return id_


def scheduled(shop: Shop) -> str:
    id_ = shop.subscribe()
    schedule = shop.world.stripe("post", "/v1/subscription_schedules", from_subscription=id_)["id"]
    shop.world.stripe("post", f"/v1/subscription_schedules/{schedule}", metadata={"deal": "Finance's"})
    return id_


def bare(shop: Shop) -> str:
    """A schedule as `from_subscription` makes it, and nobody of ours was about to make one."""
    id_ = shop.subscribe()
    shop.world.stripe("post", "/v1/subscription_schedules", from_subscription=id_)
    return id_


def another_price(shop: Shop) -> str:
    price = shop.world.stripe(
        "post",
        "/v1/prices",
        currency="usd",
        unit_amount=9_000,
        recurring={"interval": "month"},
        product=shop.stack.id("Product alpaca-ai-product"),
    )["id"]
    own = {"price": price, "metadata": {"pulumi": "license"}}
    return shop.subscribe(items=[own, {"price": shop.price("usage")}])


def half(shop: Shop) -> str:
    return shop.subscribe(items=[{"price": shop.price("license")}])


def twice(shop: Shop) -> str:
    return shop.subscribe(items=[{"price": shop.price("license")}, {"price": shop.price("license"), "quantity": 2}])


STAYS = {
    "locked by metadata (price_lock)": locked,
    "declared in this program, so pulumi up moves it": declared,
    "in its trial": in_trial,
    "past due": past_due,
    "about to end": ending,
    "paused (pause_collection)": paused,
    "with a schedule that somebody else made": scheduled,
    "with a schedule that somebody else made, which": bare,
    "with an item on a price that is not alpaca-ai@1's": another_price,
    "without an item for a charge of alpaca-ai@1": half,
}


@pytest.mark.parametrize("why", STAYS)
def test_who_does_not_move_is_named_with_the_reason_and_untouched(shop: Shop, why: str) -> None:
    id_, acme = STAYS[why](shop), shop.subscribe(2)
    shop.go("2026-01-20")
    before = shop.remote(id_)
    schedule = before["schedule"] and shop.world.stripe("get", f"/v1/subscription_schedules/{before['schedule']}")
    done = shop.rollout("--apply")
    lines = [line.strip() for line in done.text.splitlines()]
    reason = next(n for n, line in enumerate(lines) if line.startswith(f"1  {why}"))
    assert any(line.startswith(id_) for line in lines[reason : reason + 3])
    assert not any(id_ in write for write in done.writes)
    assert shop.remote(id_) == before
    if schedule:
        # Byte for byte.
        there = shop.world.stripe("get", f"/v1/subscription_schedules/{before['schedule']}")
        assert json.dumps(there) == json.dumps(schedule)
    shop.go("2026-02-02")
    assert shop.prices(acme) == {"v2-license", "v2-usage"}
    assert "v2-license" not in shop.prices(id_)


def test_a_subscription_in_a_currency_that_the_new_version_is_not_sold_in_stays(shop: Shop) -> None:
    """The program refuses such a version, but somebody may have given the old price a currency in Stripe."""
    for price in shop.world.stripe("get", "/v1/prices", limit=100)["data"]:
        if not price["metadata"].get("version"):
            amount = {"tiers": [{"up_to": 1000, "unit_amount": 0}, {"up_to": "inf", "unit_amount_decimal": "0.04"}]}
            euro = {"unit_amount": 9_000} if price["billing_scheme"] == "per_unit" else amount
            shop.world.stripe("post", f"/v1/prices/{price['id']}", currency_options={"eur": euro})
    shop.subscribe(2, currency="eur")
    done = shop.rollout("--apply")
    assert "in a currency that alpaca-ai@2 is not sold in" in " ".join(done.text.split())
    assert done.writes == []


def test_a_subscription_in_another_currency_of_both_versions_is_billed_in_it(tmp_path: Path) -> None:
    both = PROGRAM.replace('Fee("100.00")', 'Fee({"usd": "100.00", "eur": "90.00"})')
    both = both.replace('Overage("0.04", per=100)', 'Overage({"usd": "0.04", "eur": "0.04"}, per=100)')
    both = both.replace('Fee("120.00")', 'Fee({"usd": "120.00", "eur": "110.00"})')
    both = both.replace('Overage("0.05", per=100)', 'Overage({"usd": "0.05", "eur": "0.05"}, per=100)')
    with opened(tmp_path, both) as shop:
        euro, dollar = shop.subscribe(2, currency="eur"), shop.subscribe(2)
        done = shop.rollout("--apply")
        assert f"{euro}  2026-02-01  month  180.00 EUR  220.00 EUR" in done.text
        shop.go("2026-02-02")
        assert (shop.bills(euro), shop.bills(dollar)) == ([18_000, 22_000], [20_000, 24_000])


def test_nothing_acts_while_the_invoice_of_a_renewal_is_a_draft(shop: Shop) -> None:
    acme = shop.subscribe(2)
    path = f"/v1/test_helpers/test_clocks/{shop.clock}/advance"
    shop.world.stripe("post", path, frozen_time=shop.remote(acme)["items"]["data"][0]["current_period_end"] + 600)
    done = shop.rollout("--apply")
    assert "just renewed, its invoice still a draft: run again in an hour" in " ".join(done.text.split())
    assert done.writes == []
    shop.go("2026-02-02")
    assert len(shop.rollout("--apply").writes) == 3


YEARLY = PROGRAM.replace('Fee("100.00")', 'Fee("1000.00", interval="year")').replace(
    'Fee("120.00")', 'Fee("1200.00", interval="year")'
)


def test_a_yearly_fee_and_a_monthly_overage_move_each_at_its_own_renewal(tmp_path: Path) -> None:
    """1,000.00; monthly 1,000 x 0.0004 once more, then 1,500 x 0.0005; after a year 1,200.00 beside it."""
    with opened(tmp_path, YEARLY) as shop:
        acme = shop.subscribe()
        done = shop.rollout("--apply")
        rows = [line.split() for line in done.text.splitlines() if line.rstrip().endswith(".00")]
        assert rows == [
            [acme, "2026-02-01", "month", "0.00", "0.00"],
            ["2027-01-01", "year", "1,000.00", "1,200.00"],
        ]
        for month, bill in ((2, 40), (3, 75), (4, 75)):
            shop.use(acme, 2_000)
            shop.go(f"2026-{month:02}-02")
            assert shop.bills(acme)[-1] == bill
        assert shop.rollout("--check").text.endswith("0 first invoices as predicted; 1 not there yet.\n")
        shop.go("2026-12-20")
        shop.use(acme, 2_000)
        shop.go("2027-01-02")
        assert shop.bills(acme)[-1] == 120_075
        assert shop.rollout("--check").text.endswith("1 first invoice as predicted; 0 not there yet.\n")


OTHER_CHARGES = PROGRAM.replace(
    'fees=Fee("120.00"), usage=dearer', 'fees=[Fee("120.00"), Fee("50.00", key="support", per="subscription")]'
)


def test_a_charge_that_comes_begins_at_the_renewal_and_one_that_goes_is_billed_once_more(tmp_path: Path) -> None:
    """3 x 100.00; then 3 x 120.00 + 50.00 + 1,000 x 0.0004; then 3 x 120.00 + 50.00."""
    with opened(tmp_path, OTHER_CHARGES) as shop:
        acme = shop.subscribe(3)
        shop.rollout("--apply")
        shop.use(acme, 2_000)
        shop.go("2026-03-02")
        assert shop.bills(acme) == [30_000, 41_040, 41_000]
        assert shop.prices(acme) == {"v2-license", "v2-support"}
        assert shop.rollout("--check").code == 0
        assert f"{acme}: moves back on 2026-04-01" in shop.rollout("--undo").text
        shop.go("2026-04-02")
        assert shop.bills(acme)[-1] == 30_000
        assert shop.prices(acme) == {"license", "usage"}


# -- which part -----------------------------------------------------------------------------------------------------


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def chosen(shop: Shop, *words: str) -> set[str]:
    path = shop.folder / "all.csv"
    assert shop.rollout(*words, "--export", str(path)).code == 0
    return {row["subscription"] for row in rows(path) if row["what"] == "moves"}


def test_a_cohort_by_percentage_stays_and_grows(shop: Shop) -> None:
    ids = {shop.subscribe() for _ in range(24)}
    tenth, half_, again = (chosen(shop, "--percent", words) for words in ("20", "60", "20"))
    assert tenth == again
    assert tenth < half_ < ids
    assert chosen(shop, "--percent", "100") == ids


def test_a_cohort_by_a_list_of_ids(shop: Shop) -> None:
    first, second, third = (shop.subscribe() for _ in range(3))
    file = shop.folder / "ids.txt"
    file.write_text(f"# pilot\n{first}\n\n{shop.remote(second)['customer']}\n")
    assert chosen(shop, "--only", str(file)) == {first, second}
    file.write_text(f"{third}\nsub_none\n")
    assert shop.rollout("--only", str(file)).code == 3


# -- notice -----------------------------------------------------------------------------------------------------------


def test_notice_runs_from_the_first_run_and_the_bills_are_there_to_be_told(shop: Shop) -> None:
    """Told on 20 January with 30 days: the renewal on 1 March is the first one after that."""
    acme = shop.subscribe(3)
    shop.use(acme, 26_000)
    shop.go("2026-02-20")
    file = shop.folder / "mails.csv"
    words = ("--notice-days", "30", "--apply")
    done = shop.rollout(*words, "--export", str(file))
    assert done.writes == []
    assert done.text.splitlines()[-1] == "1 subscription waiting. Run the same command every day until none is left."
    [row] = rows(file)
    assert row == {
        "subscription": acme,
        "customer": shop.remote(acme)["customer"],
        "what": "waits",
        "why": "waiting for the notice to end",
        "effect": "2026-04-01",
        "currency": "usd",
        "every": "a month",
        "old": "310.00",
        "new": "372.75",
        "old_after_discounts": "310.00",
        "new_after_discounts": "372.75",
        "discounts": "",
        "quantities": "license=3; usage=26000",
    }
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    # What was promised holds when somebody forgets to say it again.
    assert shop.rollout("--apply").writes == []
    shop.go("2026-03-02")
    assert shop.bills(acme)[-1] == 30_000
    assert len(shop.rollout("--apply").writes) == 3
    shop.go("2026-04-02")
    assert shop.bills(acme)[-2:] == [30_000, 36_000]


def test_a_renewal_that_is_far_is_scheduled_when_it_is_near(shop: Shop) -> None:
    acme = shop.subscribe(3)
    assert shop.rollout("--apply", "--within-days", "3").writes == []
    shop.world.stripe("post", f"/v1/subscriptions/{acme}", items=[{"id": item(shop, acme), "quantity": 5}])
    shop.go("2026-01-30")
    assert len(shop.rollout("--apply", "--within-days", "3").writes) == 3
    shop.go("2026-02-02")
    assert shop.remote(acme)["items"]["data"][0]["quantity"] == 5


def item(shop: Shop, id_: str) -> str:
    return str(shop.remote(id_)["items"]["data"][0]["id"])


def test_seats_that_change_while_a_schedule_waits_are_followed_by_the_next_run(shop: Shop) -> None:
    acme = shop.subscribe(3)
    shop.rollout("--apply")
    shop.world.stripe(
        "post",
        f"/v1/subscriptions/{acme}",
        items=[{"id": item(shop, acme), "quantity": 5}],
        proration_behavior="none",
    )
    assert len(shop.rollout("--apply").writes) == 1
    assert shop.rollout("--apply").writes == []
    shop.go("2026-02-02")
    assert shop.bills(acme) == [30_000, 60_000]
    assert shop.rollout("--check").code == 0


def test_a_lock_that_comes_while_a_schedule_waits_takes_it_away(shop: Shop) -> None:
    acme = shop.subscribe(3)
    shop.rollout("--apply")
    shop.world.stripe("post", f"/v1/subscriptions/{acme}", metadata={"price_lock": "yes"})
    shop.rollout("--apply")
    shop.go("2026-02-02")
    assert shop.bills(acme) == [30_000, 30_000]


# -- halting, undoing -------------------------------------------------------------------------------------------------


def test_a_first_invoice_that_differs_by_a_cent_halts_until_somebody_has_looked(shop: Shop) -> None:
    acme, other = shop.subscribe(3), shop.subscribe(1)
    file = shop.folder / "one.txt"
    file.write_text(acme)
    shop.rollout("--apply", "--only", str(file))
    [entry] = entries(shop)
    # As if Stripe billed a cent less than was predicted.
    rewrite(shop, acme, {price: amount + 1 for price, amount in entry.prediction["fees"].items()})
    shop.go("2026-02-02")
    halted = shop.rollout("--apply")
    assert (halted.code, halted.writes) == (2, [])
    text = " ".join(halted.text.split())
    price = shop.price("v2-license")
    assert f"license of alpaca-ai@2 ({price}): 360.01 USD was predicted, and 360.00 USD is billed" in text
    assert f"continue with --accept {acme}" in text
    assert shop.rollout("--check").code == 2
    assert shop.rollout("--apply", "--accept", other).code == 3
    assert shop.rollout("--apply", "--accept", acme).code == 0
    assert shop.remote(other)["schedule"]


def test_a_coupon_that_a_renewal_has_lost_halts(shop: Shop) -> None:
    coupon = shop.world.stripe("post", "/v1/coupons", percent_off=20, duration="forever")["id"]
    acme = shop.subscribe(2, discounts=[{"coupon": coupon}])
    done = shop.rollout("--apply")
    assert [line.split()[3:] for line in done.text.splitlines() if line.startswith(acme)] == [["160.00", "192.00"]]
    # As Bitwarden lost them: the schedule made again without.
    schedule = shop.world.stripe("get", f"/v1/subscription_schedules/{shop.remote(acme)['schedule']}")
    phases = [
        {
            "start_date": phase["start_date"],
            "end_date": phase["end_date"],
            "discounts": "",
            "items": [{"price": each["price"], "quantity": each.get("quantity")} for each in phase["items"]],
        }
        for phase in schedule["phases"]
    ]
    for phase in phases:
        for each in phase["items"]:
            if each["quantity"] is None:
                del each["quantity"]
    shop.world.stripe("post", f"/v1/subscription_schedules/{schedule['id']}", phases=phases)
    shop.go("2026-02-02")
    halted = shop.rollout("--check")
    assert halted.code == 2
    assert "its discounts are gone" in " ".join(halted.text.split())


def test_whatever_else_an_invoice_bills_than_was_predicted_is_said(shop: Shop) -> None:
    coupon = shop.world.stripe("post", "/v1/coupons", percent_off=20, duration="forever")["id"]
    acme = shop.subscribe(2, discounts=[{"coupon": coupon}])
    shop.rollout("--apply")
    shop.use(acme, 3_500)
    shop.go("2026-02-02")
    [invoice] = shop.world.stripe("get", "/v1/invoices", subscription=acme, limit=1)["data"]
    [entry] = entries(shop)
    predicted, rules = Prediction.of_data(entry.prediction), rules_of(shop)
    lines = invoice["lines"]["data"]
    usage, seats = shop.price("usage"), shop.price("v2-license")

    def said(**changed: Any) -> list[str]:
        return list(mismatches({**invoice, **changed}, predicted, rules))

    def without(price: str) -> list[Any]:
        return [each for each in lines if each["pricing"]["price_details"]["price"] != price]

    other = {**lines[0], "amount": 700, "pricing": {**lines[0]["pricing"], "price_details": {"price": "price_other"}}}
    assert said() == []
    assert f"usage of alpaca-ai@1 ({usage}): its usage is not billed" in said(lines={"data": without(usage)})
    assert said(lines={"data": without(seats)})[0] == (
        f"license of alpaca-ai@2 ({seats}): 240.00 USD was predicted, and 0.00 USD is billed"
    )
    assert "price_other, which it had no item of, is billed with 7.00 USD" in said(lines={"data": [*lines, other]})
    assert said(total_discount_amounts=[]) == [
        "its discounts are gone",
        "discounts of 48.20 USD were predicted, and 0.00 USD are given",
    ]
    less = [{"amount": 4_819, "discount": "di_1"}]
    assert said(total_discount_amounts=less) == ["discounts of 48.20 USD were predicted, and 48.19 USD are given"]


def rules_of(shop: Shop) -> Rules:
    account = shop.world.process().account
    plan = plans(shop.folder, "dev")["alpaca-ai"]
    old, new = moving.offers(account, plan, "shop/dev", (1, 2))
    return Rules(old, new, "shop/dev", "owner", shop.now(), moving.coupons_of(account))


def test_undone_before_the_renewal_all_is_as_before(shop: Shop) -> None:
    acme = shop.subscribe(3)
    before = shop.remote(acme)
    shop.rollout("--apply")
    done = shop.rollout("--undo")
    assert done.text.splitlines()[-2:] == [f"{acme}: stays on the old version", "1 subscription taken back."]
    assert {**shop.remote(acme), "schedule": None} == before
    shop.go("2026-03-02")
    assert shop.bills(acme) == [30_000, 30_000, 30_000]


def test_some_are_taken_back_alone(shop: Shop) -> None:
    acme, other = shop.subscribe(3), shop.subscribe(1)
    shop.rollout("--apply")
    file = shop.folder / "back.txt"
    file.write_text(acme)
    assert shop.rollout("--undo", "--only", str(file)).text.splitlines()[-1] == "1 subscription taken back."
    shop.go("2026-02-02")
    assert (shop.bills(acme)[-1], shop.bills(other)[-1]) == (30_000, 12_000)


def test_undone_after_the_renewal_it_moves_back_at_the_next_one(shop: Shop) -> None:
    acme = shop.subscribe(3)
    shop.rollout("--apply")
    shop.go("2026-02-03")
    done = shop.rollout("--undo")
    assert f"{acme}: moves back on 2026-03-01" in done.text
    assert "moving back at its renewal (--undo)" in shop.rollout().text
    shop.go("2026-04-02")
    assert shop.bills(acme) == [30_000, 36_000, 30_000, 30_000]


# -- stopping anywhere ------------------------------------------------------------------------------------------------


class Killed(Exception):
    """The process is gone."""


def killed_at(shop: Shop, call: int, *words: str, after: bool) -> int:
    """Run the command and kill it at one of its calls, before or after Stripe has acted; how many it made."""
    process = shop.world.process()
    account, send = process.account, process.account._send
    made = 0

    def one(method: Any, path: str, *rest: Any) -> Any:
        nonlocal made
        if method == "post":
            made += 1
            if made == call and not after:
                raise Killed
        answer = send(method, path, *rest)
        if method == "post" and made == call and after:
            raise Killed
        return answer

    account._send = one  # type: ignore[assignment,method-assign]
    try:
        shop.rollout(*words, process=process)
    except Killed:
        return made
    return made


@pytest.mark.parametrize("after", [False, True], ids=["before Stripe acts", "after Stripe acted"])
def test_killed_at_any_call_and_run_again_everybody_has_moved_once(tmp_path: Path, after: bool) -> None:
    for call in range(1, 7):
        folder = tmp_path / str(call)
        folder.mkdir()
        with opened(folder) as shop:
            ids = [shop.subscribe(seats) for seats in (1, 3)]
            assert killed_at(shop, call, "--apply", after=after) == call
            assert shop.rollout("--apply").code == 0
            shop.go("2026-03-02")
            assert [shop.bills(id_) for id_ in ids] == [[10_000, 12_000, 12_000], [30_000, 36_000, 36_000]]
            assert shop.rollout("--check").text.endswith("2 first invoices as predicted; 0 not there yet.\n")


@pytest.mark.parametrize("after", [False, True], ids=["before Stripe acts", "after Stripe acted"])
def test_killed_while_it_is_undone_and_run_again_everybody_is_back(tmp_path: Path, after: bool) -> None:
    for call in range(1, 5):
        folder = tmp_path / str(call)
        folder.mkdir()
        with opened(folder) as shop:
            ids = [shop.subscribe(seats) for seats in (1, 3)]
            shop.rollout("--apply")
            assert killed_at(shop, call, "--undo", after=after) == call
            assert shop.rollout("--undo").code == 0
            shop.go("2026-03-02")
            assert [shop.bills(id_) for id_ in ids] == [[10_000] * 3, [30_000] * 3]


def test_ctrl_c_finishes_what_is_begun_and_the_same_command_goes_on(shop: Shop) -> None:
    ids = [shop.subscribe() for _ in range(3)]
    process = shop.world.process()
    send = process.account._send

    def one(method: Any, path: str, *rest: Any) -> Any:
        answer = send(method, path, *rest)
        if path == "/v1/subscription_schedules":
            signal.raise_signal(signal.SIGINT)
        return answer

    process.account._send = one  # type: ignore[assignment,method-assign]
    stopped = shop.rollout("--apply", process=process)
    assert stopped.code == 2
    assert stopped.text.splitlines()[-1] == "Stopped after 1 of 3. Run the same command again to continue."
    assert len(stopped.writes) == 3
    assert len(shop.rollout("--apply").writes) == 6
    shop.go("2026-02-02")
    assert [shop.bills(id_)[-1] for id_ in ids] == [12_000] * 3


# -- the journal ------------------------------------------------------------------------------------------------------


def journal(shop: Shop) -> Path:
    return shop.folder / ".pricing/dev/alpaca-ai@1-2.db"


ROLLOUT = "rollout alpaca-ai@1 to alpaca-ai@2 in shop/dev"


def entries(shop: Shop) -> list[Any]:
    with Journal(journal(shop), ROLLOUT) as opened_:
        return list(opened_.entries())


def rewrite(shop: Shop, id_: str, fees: dict[str, int]) -> None:
    with Journal(journal(shop), ROLLOUT) as opened_:
        entry = opened_.entry(id_)
        assert entry is not None
        assert entry.prediction is not None
        opened_.write(replace(entry, prediction={**entry.prediction, "fees": fees}))


def test_the_journal_is_its_owner_s_alone_and_has_no_names(shop: Shop) -> None:
    shop.subscribe(3)
    shop.rollout("--apply")
    assert stat.S_IMODE(journal(shop).stat().st_mode) == 0o600
    assert stat.S_IMODE(journal(shop).parent.stat().st_mode) == 0o700
    content = journal(shop).read_bytes()
    assert b"Paca" not in content
    assert b"example.com" not in content


def test_two_do_not_work_on_a_rollout_at_once(shop: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    shop.subscribe()
    with Journal(journal(shop), ROLLOUT):
        assert shop.rollout("--apply").code == 3
    assert "another pricing rollout is using" in capsys.readouterr().err


def test_a_lost_journal_loses_predictions_and_moves_nobody_twice(shop: Shop) -> None:
    acme = shop.subscribe(3)
    shop.rollout("--apply")
    journal(shop).unlink()
    assert shop.rollout("--apply").writes == []
    assert shop.rollout("--undo").code == 0
    shop.go("2026-02-02")
    assert shop.bills(acme) == [30_000, 30_000]


# -- bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["alpaca@2"], "there is no plan alpaca; this program has alpaca-ai"),
        (["alpaca-ai@3"], "alpaca-ai@3 is not a version; name one of alpaca-ai@1, alpaca-ai@2"),
        (["alpaca-ai"], "alpaca-ai is not a version; name one of alpaca-ai@1, alpaca-ai@2"),
        (["alpaca-ai@1"], "name the old version with --from; alpaca-ai has alpaca-ai@1, alpaca-ai@2"),
        (["alpaca-ai@2", "--percent", "0"], "'0' is not a percentage above 0, such as 10"),
        (["alpaca-ai@2", "--notice-days", "x"], "'x' is not a number of days, 730 at most"),
        (["alpaca-ai@2", "--only", "names.txt"], "names.txt, line 1: is not an id of a subscription"),
        (["alpaca-ai@2", "--stack", "none"], "there is no Pulumi.none.yaml in"),
    ],
)
def test_what_cannot_be_meant_is_one_sentence_and_exit_3(shop: Shop, words: list[str], sentence: str) -> None:
    (shop.folder / "names.txt").write_text("Paca Inc.\n")
    done = command(shop.folder, *words)
    assert done.returncode == 3, done.stderr
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr


def command(folder: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    code = "from pricing.cli import main; raise SystemExit(main())"
    environment = {
        "PYTHONPATH": str(ROOT),
        **{k: v for k, v in os.environ.items() if k.startswith("SANDBOX")},
        **environment,
    }
    return subprocess.run(
        [sys.executable, "-c", code, "rollout", *words],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        env=environment,
    )


def test_the_commands_of_the_page_are_the_command_s(shop: Shop) -> None:
    page = (ROOT / "docs/rollout.md").read_text()
    commands = re.findall(r"^pricing (rollout .*)$", page, re.M)
    assert len(commands) >= 4
    for words in commands:
        assert cli.parser().parse_args(words.split()).version == "alpaca-ai@2"
    options = {word for action in options_of(cli.parser()) for word in action.option_strings if word.startswith("--")}
    assert set(re.findall(r"--[a-z]+[a-z-]*", page)) - {"--stack"} <= options
    # Every reason that the page names is one that the command gives.
    given = (ROOT / "pricing/rollout/decisions.py").read_text()
    reasons = page.partition("| reason |")[2].partition("\n\n")[0]
    for reason in re.findall(r"^\| ([a-z][^|`]+?)(?: \(`\w+`\))? \| ", reasons, re.M):
        for part in reason.split(", ") if "trial" in reason else [reason]:
            assert re.split(r" that is not| for a charge| that the new", part)[0] in given, part


def options_of(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    [commands] = [each for each in parser._actions if isinstance(each, argparse._SubParsersAction)]
    return list(commands.choices["rollout"]._actions)


def test_prices_that_are_not_applied_yet_are_named(shop: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    shop.world.stripe("post", f"/v1/prices/{shop.price('v2-usage')}", active=False)
    assert shop.rollout().code == 3
    assert (
        "alpaca-ai@2: Stripe has no active price alpaca-ai-v2-usage of shop/dev; run pulumi up"
        in capsys.readouterr().err
    )


def test_a_program_that_is_not_what_is_applied_is_refused(shop: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    """What it predicts would not be what Stripe bills."""
    program = shop.folder / "__main__.py"
    program.write_text(PROGRAM.replace("120.00", "130.00"))
    assert shop.rollout().code == 3
    said = "alpaca-ai@2: the price alpaca-ai-v2-license in Stripe differs from the program"
    assert said in capsys.readouterr().err


def test_a_file_that_is_no_journal_is_named(shop: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    other = shop.folder / "notes.db"
    other.write_text("buy hay\n" * 200)
    assert shop.rollout("--apply", "--journal", str(other)).code == 3
    assert f"{other} cannot be read as a journal" in capsys.readouterr().err


def test_it_runs_on_a_served_sandbox_as_a_command(shop: Shop) -> None:
    acme = shop.subscribe(3)
    with serving(shop.world.sandbox) as server:
        done = command(shop.folder, "alpaca-ai@2", "--test-clock", shop.clock, "--apply", STRIPE_API_BASE=server.url)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == "1 subscription scheduled to move at the renewal."
    shop.go("2026-02-02")
    assert shop.bills(acme) == [30_000, 36_000]


def test_a_key_with_what_the_page_says_for_it_does_it(shop: Shop) -> None:
    """And no more is needed: the column of docs/security.md is what its requests need."""
    documented = table()["pricing rollout"]
    coupon = shop.world.stripe("post", "/v1/coupons", percent_off=20, duration="forever")["id"]
    shop.subscribe(discounts=[{"coupon": coupon}])
    world, key = shop.world, "rk_" + "test_rollout"
    world.control("keys", key=key, permissions=[*names(documented), "rak_test_clock_read"])
    process = world.process(mode="test", apiKey=key)
    needed: set[str] = set()
    for words in (("--apply",), ("--check",), ("--undo",), ("--apply",)):
        done = shop.rollout(*words, process=process)
        assert done.code == 0, words
        needed |= {keys.permission(each.method, each.path) for each in done.sent}
    shop.go("2026-02-02")
    checked = shop.rollout("--check", process=process)
    needed |= {keys.permission(each.method, each.path) for each in checked.sent}
    assert accesses(needed - {"rak_test_clock_read"}) == documented


# -- at random --------------------------------------------------------------------------------------------------------


def random_subscription(shop: Shop, chance: random.Random, coupons: list[str]) -> str:
    """One with a history: seats, a coupon, usage, add-ons; some that stay."""
    more: dict[str, Any] = {}
    if chance.random() < 0.4:
        more["discounts"] = [{"coupon": chance.choice(coupons)}]
    if chance.random() < 0.1:
        more["metadata"] = {"price_lock": "yes"}
    if chance.random() < 0.1:
        more["trial_period_days"] = chance.choice([10, 45])
    if chance.random() < 0.3:
        more["billing_mode"] = {"type": chance.choice(["flexible", "classic"])}
    id_ = shop.subscribe(chance.randint(1, 30), **more)
    if chance.random() < 0.1:
        scheduled_ = shop.world.stripe("post", "/v1/subscription_schedules", from_subscription=id_)["id"]
        shop.world.stripe("post", f"/v1/subscription_schedules/{scheduled_}", metadata={"deal": "yes"})
    return id_


def test_nobody_pays_anything_but_the_old_or_the_predicted_bill(tmp_path: Path) -> None:
    """Killed at random calls, run again, checked: every renewal is the old bill, or the new one that was exported."""
    chance = random.Random(20261128)
    for batch in range(0, ROLLOUTS, 12):
        folder = tmp_path / str(batch)
        folder.mkdir()
        with opened(folder) as shop:
            one_batch(shop, chance, min(12, ROLLOUTS - batch))


def one_batch(shop: Shop, chance: random.Random, count: int) -> None:
    terms: list[dict[str, Any]] = [
        {"percent_off": 15, "duration": "forever"},
        {"percent_off": 33.33, "duration": "repeating", "duration_in_months": 2},
        {"amount_off": 2_500, "currency": "usd", "duration": "forever"},
        {"percent_off": 50, "duration": "once"},
    ]
    coupons = [shop.world.stripe("post", "/v1/coupons", **each)["id"] for each in terms]
    ids = [random_subscription(shop, chance, coupons) for _ in range(count)]
    shop.go("2026-01-20")
    used = {id_: some_usage(shop, chance, id_) for id_ in ids}
    for id_ in ids:
        if chance.random() < 0.3 and not shop.remote(id_)["schedule"]:
            change_seats(shop, chance, id_)
    for _ in range(4):
        killed_at(shop, chance.randint(1, 3 * count), "--apply", after=chance.random() < 0.5)
    assert shop.rollout("--apply").code == 0
    moves = {entry.subscription for entry in entries(shop) if entry.state == "scheduled"}
    for id_ in moves:
        if chance.random() < 0.2:
            change_seats(shop, chance, id_)
    killed_at(shop, 1, "--apply", after=chance.random() < 0.5)
    assert shop.rollout("--apply").code == 0
    # Whose trial has ended on 11 January is renewed on 11 February.
    shop.go("2026-02-12")
    assert_billed(shop, ids, moves, used, rates=(Decimal("0.04"), 1_000))
    checked = shop.rollout("--check")
    assert checked.code == 0, checked.text
    assert {entry.subscription for entry in entries(shop) if entry.state == "verified"} == moves
    assert moves
    used = {id_: some_usage(shop, chance, id_) for id_ in ids}
    shop.go("2026-03-12")
    assert_billed(shop, ids, moves, used, rates=(Decimal("0.05"), 500))


def some_usage(shop: Shop, chance: random.Random, id_: str) -> int:
    units = chance.choice([0, 700, chance.randint(1, 60_000)])
    shop.use(id_, units)
    return units


def change_seats(shop: Shop, chance: random.Random, id_: str) -> None:
    changed = {"id": item(shop, id_), "quantity": chance.randint(1, 30)}
    behavior = chance.choice(["none", "create_prorations"])
    shop.world.stripe("post", f"/v1/subscriptions/{id_}", items=[changed], proration_behavior=behavior)


def assert_billed(
    shop: Shop, ids: list[str], moves: set[str], used: dict[str, int], rates: tuple[Decimal, int]
) -> None:
    """The newest renewal of each is the old bill or the new one.

    Args:
        rates: what those who move pay for a unit (minor units), and from how many on: the old version's at the first
            renewal, since usage is billed when its period is over.
    """
    for id_ in ids:
        there = shop.remote(id_)
        found = shop.world.stripe("get", "/v1/invoices", subscription=id_, limit=100)["data"]
        renewal = next((each for each in found if each["billing_reason"] == "subscription_cycle"), None)
        assert ("v2-license" in shop.prices(id_)) is (id_ in moves), id_
        if renewal is None or (there["trial_end"] and id_ not in moves):
            assert id_ not in moves
            continue
        seats = next(each["quantity"] for each in there["items"]["data"] if each.get("quantity"))
        per_unit, included = rates if id_ in moves else (Decimal("0.04"), 1_000)
        overage = round_half_up(max(used[id_] - included, 0) * per_unit)
        lines = [
            each["amount"]
            for each in renewal["lines"]["data"]
            if not (each["parent"].get("subscription_item_details") or {"proration": True})["proration"]
        ]
        assert sum(lines) == seats * (12_000 if id_ in moves else 10_000) + overage, (id_, seats, used[id_])
        off = sum(each["amount"] for each in renewal["total_discount_amounts"])
        assert renewal["total"] == sum(each["amount"] for each in renewal["lines"]["data"]) - off


def round_half_up(amount: Decimal) -> int:
    return int((amount + Decimal("0.5")) // 1)
