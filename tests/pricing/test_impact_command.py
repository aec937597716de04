"""`pricing impact` on an account that the sandbox has billed: what it reads, writes, keeps, refuses and answers."""

from __future__ import annotations

import csv
import json
import re
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from sandbox import Request, keys
from tests.components.test_permissions import accesses, table
from tests.pricing.billed import V1, Billing, seconds
from tests.pricing.changed import reviewed

READ = ("--through", "2026-08")
#: 3 seats or fewer and no usage would make everybody alike.
USAGE = [0, 700, 1_000, 4_999, 26_000, 26_050, 180_000, 730_001]

RECOMPUTED = """
    WITH line AS (
        SELECT json_extract(i.body, '$.customer') AS customer,
               json_extract(l.value, '$.pricing.price_details.price') AS price,
               json_extract(l.value, '$.period.start') AS start,
               json_extract(l.value, '$.quantity') AS quantity
        FROM objects i, json_each(i.body, '$.lines.data') l
        WHERE i.kind = 'invoice' AND json_extract(i.body, '$.created') BETWEEN :first AND :last
    ),
    period AS (SELECT customer, price, start, SUM(quantity) AS units FROM line GROUP BY customer, price, start),
    three AS (
        SELECT customer,
               SUM(CASE price WHEN :license THEN units * 10000 ELSE (MAX(units - 1000, 0) * 4 + 50) / 100 END) AS was,
               SUM(CASE price WHEN :license THEN units * 12000 ELSE (MAX(units - 5000, 0) * 3 + 50) / 100 END) AS will
        FROM period GROUP BY customer
    ),
    monthly AS (SELECT (2 * was + 3) / 6 AS was, (2 * will + 3) / 6 AS will FROM three)
    SELECT COUNT(*), SUM(was), SUM(will), SUM(will > was), SUM(will = was), SUM(will < was) FROM monthly
"""


def billed(folder: Path, customers: int, days: tuple[str, ...]) -> Billing:
    """Customers who began on days of May 2026, each billed for three months that are over by the end of August."""
    billing = Billing(folder)
    chance = Random(500)
    groups = []
    for day in days:
        clock = billing.clock(f"2026-05-{day}")
        people = [billing.subscribe(clock, chance.randint(1, 9)) for _ in range(customers // len(days))]
        groups.append((clock, day, people))
    for month in (6, 7, 8):
        for clock, day, people in groups:
            billing.advance(clock, f"2026-{month - 1:02d}-28")
            for customer, _ in people:
                billing.use(customer, chance.choice(USAGE), f"2026-{month - 1:02d}-28")
            billing.advance(clock, f"2026-{month:02d}-{day}T02:00:00")
    billing.program()
    return billing


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Billing]:
    """Twelve customers."""
    billing = billed(tmp_path_factory.mktemp("few"), 12, ("03", "19"))
    yield billing
    billing.sandbox.close()


def money(text: str) -> int:
    return int(re.sub(r"[^\d-]", "", text))


def headline(report: str) -> list[int]:
    """Customers, cents before and after, how many pay more, the same and less."""
    found = re.search(
        r"([\d,]+) customers pay ([\d.,]+) USD instead of ([\d.,]+) USD. "
        r"([\d,]+) pay more, ([\d,]+) the same, ([\d,]+) less",
        report,
    )
    assert found is not None, report
    customers, after, before, *counts = map(money, found.groups())
    return [customers, before, after, *counts]


@pytest.mark.slow
def test_totals_of_five_hundred_customers_are_those_that_sql_makes_of_the_same_file(tmp_path: Path) -> None:
    billing = billed(tmp_path, 500, ("03", "11", "19", "27"))
    done = billing.impact(*READ, "--save", "sample.jsonl", "--svg", "a.svg", "--html", "a.html", "--markdown", "a.md")
    assert done.returncode == 0, done.stderr
    report = (tmp_path / "a.md").read_text()
    window = {"first": seconds("2026-06-01"), "last": seconds("2026-09-01") - 1, "license": billing.license}
    with sqlite3.connect(billing.path) as file:
        expected = file.execute(RECOMPUTED, window).fetchone()
        clear = {row[0] for row in file.execute("SELECT id FROM objects WHERE kind IN ('customer', 'subscription')")}
    assert headline(report) == list(expected)
    # 1,500 invoices: 15 pages and one begun in each of three months, 5 pages of subscriptions, and a few small lists.
    assert "1,500 invoices read" in done.stderr
    calls = re.search(r"(\d+) calls", done.stderr)
    assert calls is not None
    assert int(calls[1]) <= 32

    # Nothing that is written says who it is.
    written = [tmp_path / name for name in ("sample.jsonl", "a.svg", "a.html", "a.md", ".stripe-pricing/impact.db")]
    for path in written:
        content = path.read_bytes().decode("utf-8", errors="replace")
        assert "Nomen Nescio" not in content
        assert "secret@example.com" not in content
        assert not any(id in content for id in clear), path
    assert (tmp_path / ".stripe-pricing/impact.db").stat().st_mode & 0o777 == 0o600

    # What is over is read once; a sample says the same with no account at all.
    again = billing.impact(*READ)
    sampled = billing.impact("--from", "sample.jsonl", STRIPE_SANDBOX_FILE="nowhere.db")
    unpictured = re.sub(r"!\[.*?\n\n", "", report)
    assert again.stdout == sampled.stdout == unpictured
    calls = re.search(r"(\d+) calls", again.stderr)
    assert calls is not None
    assert int(calls[1]) <= 14

    # So does the comment of the pull request, with what they pay by seat.
    items = "SELECT each.value FROM objects, json_each(body, '$.items.data') AS each WHERE kind = 'subscription'"
    with sqlite3.connect(billing.path) as file:
        found = [json.loads(item) for (item,) in file.execute(items)]
    seats = [item["quantity"] for item in found if item["price"] == billing.license]
    comment = reviewed(tmp_path, seats, tmp_path / "sample.jsonl")
    assert headline(comment) == list(expected)
    assert (
        f"{120 * sum(seats):,}.00 USD a month instead of {100 * sum(seats):,}.00 USD a month. 500 pay more" in comment
    )
    assert "**500 subscriptions**, each: item license moves from Price 'alpaca-ai-license' to Price" in comment
    assert len(comment) < 60_000
    assert "Nomen Nescio" not in comment
    assert "secret@example.com" not in comment
    billing.sandbox.close()


def test_a_change_of_nobodys_bill_says_nothing(few: Billing) -> None:
    few.program(v2=V1)
    done = few.impact(*READ)
    few.program()
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr.splitlines()[-1] == "pricing: nobody's bill changes from alpaca-ai@1 to alpaca-ai@2"


def test_a_limit_is_code_2_until_the_change_acknowledges_it_by_name(few: Billing) -> None:
    limits = "  stripe-pricing:guardrails:\n    largestIncrease: 10%\n    revenueDown: 1%\n"
    few.program(config=limits)
    past = few.impact(*READ)
    few.program(config=limits + "  stripe-pricing:acknowledged:\n    - alpaca-ai@2 largestIncrease\n")
    meant = few.impact(*READ)
    few.program(config=limits + "  stripe-pricing:acknowledged:\n    - alpaca-ai@3 largestIncrease\n")
    of_another = few.impact(*READ)
    few.program(config="  stripe-pricing:acknowledged:\n    - alpaca-ai@2 revenueUp\n")
    idle = few.impact(*READ)
    few.program()
    assert past.returncode == of_another.returncode == 2
    assert "⛔ **Exceeds a limit**: one customer pays 2" in past.stdout
    assert "stripe-pricing:guardrails allows largestIncrease 10%. If that is intended, add `alpaca-ai@2" in past.stdout
    assert meant.returncode == idle.returncode == 0
    assert "⚠️ Exceeds a limit (acknowledged): one customer pays" in meant.stdout
    assert "`alpaca-ai@2 revenueUp` is acknowledged but not exceeded" in idle.stdout


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        (
            "guardrails:\n    largest: 10%",
            "stripe-pricing:guardrails has no limit largest; there are largestIncrease, ",
        ),
        ("guardrails:\n    revenueUp: ten", "revenueUp is 'ten'; it must be a percentage such as 25%"),
        ("guardrails: 10%", "stripe-pricing:guardrails must map limits to percentages"),
        ("acknowledged: yes", "stripe-pricing:acknowledged must be a list of names"),
        ("acknowledged: [largestIncrease]", "'largestIncrease' must name a version and a limit"),
    ],
)
def test_limits_that_cannot_be_meant_are_one_sentence(few: Billing, config: str, sentence: str) -> None:
    few.program(config=f"  stripe-pricing:{config}\n")
    done = few.impact(*READ)
    few.program()
    assert (done.returncode, done.stdout) == (3, "")
    assert sentence in done.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["alpaca-ai@1", "alpaca-ai@9"], "alpaca-ai has no version 9; it has alpaca-ai@1, alpaca-ai@2"),
        (["alpaca-ai@1", "llama@2"], "alpaca-ai@1 and llama@2 are of different plans; compare two versions of"),
        (["alpaca-ai@1", "alpaca-ai@1"], "alpaca-ai@1 is compared with itself; name two versions"),
        (["llama@1", "llama@2"], "there is no plan llama; this program has alpaca-ai"),
        (["alpaca-ai@1", "2"], "'2' is not a version of a plan, such as alpaca-ai@1"),
        (["alpaca-ai@2", "alpaca-ai@1"], "the account has no price of alpaca-ai@2: apply it there first, or name its "),
        (["--months", "0"], "--months is '0'; it must be a number from 1 to 36"),
        (["--through", "August"], "--through is 'August'; it must be a month such as 2026-10"),
        (["--calibration", "most"], "--calibration is 'most'; it must be a percentage such as 99"),
        (["--price", "price_1=license"], "--price is 'price_1=license'; it must be ID=VERSION:CHARGE, such as "),
        (["--from", "nowhere.csv"], "nowhere.csv cannot be read: No such file or directory"),
        (["--markdown", "no/where.md"], "no/where.md: No such file or directory"),
    ],
)
def test_what_makes_no_sense_is_one_sentence_and_code_3(few: Billing, arguments: list[str], sentence: str) -> None:
    done = few.impact(*arguments) if "@" in arguments[0] else few.impact(*READ, *arguments)
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.splitlines()[-1].startswith(f"pricing: {sentence}")


def test_a_missing_argument_is_code_3_too(few: Billing) -> None:
    done = few.impact("alpaca-ai@1")
    assert done.returncode == 3
    assert "the following arguments are required: new" in done.stderr


def test_a_month_without_invoices_is_no_figure_to_trust(few: Billing) -> None:
    done = few.impact("--through", "2025-03")
    assert done.returncode == 3
    assert "> **Do not trust these figures.**\n> - no closed invoice of alpaca-ai was found" in done.stdout
    assert "0.00" not in done.stdout.split("###")[0].split("| charge")[0]


def test_who_is_not_moved_is_read_from_the_subscriptions(tmp_path: Path) -> None:
    billing = Billing(tmp_path)
    clock = billing.clock("2026-05-03")
    people = [billing.subscribe(clock, 2) for _ in range(12)]
    billing.advance(clock, "2026-06-03T02:00:00")
    for _, subscription in people[:5]:
        billing.post(f"subscriptions/{subscription}", {"metadata": {"price_lock": "until 2028"}})
    billing.post("subscription_schedules", {"from_subscription": people[5][1]})
    billing.post(f"subscriptions/{people[6][1]}", {"cancel_at_period_end": True})
    ours = billing.post("subscription_schedules", {"from_subscription": people[7][1]})["id"]
    billing.post(f"subscription_schedules/{ours}", {"metadata": {"pulumi": "shop/dev/acme"}})
    billing.program()
    done = billing.impact("--through", "2026-06")
    assert "| 5 | locked by metadata (price_lock) |\n| 2 | other reasons |" in done.stdout, done.stdout + done.stderr
    assert headline(done.stdout)[0] == 5
    billing.sandbox.close()


def test_the_open_period_is_read_where_it_is_asked_for(tmp_path: Path) -> None:
    """2 seats, 1,000 tokens in the closed month; 15,500 by the middle of the open one of 31 days: 31,000 in the whole.

    (1,000 + 31,000) / 2: 0.00 and 12.00 for tokens, 6.00 on average.
    """
    billing = Billing(tmp_path)
    clock = billing.clock("2026-05-03")
    people = [billing.subscribe(clock, 2) for _ in range(6)]
    billing.advance(clock, "2026-05-28")
    for customer, _ in people:
        billing.use(customer, 1_000, "2026-05-27")
    billing.advance(clock, "2026-07-03T02:00:00")
    billing.advance(clock, "2026-07-18T12:00:00")
    for customer, _ in people:
        billing.use(customer, 15_500, "2026-07-10")
    billing.program()

    closed, opened = (billing.impact("--through", "2026-06", "--no-cache", *more) for more in ((), ("--open-period",)))

    assert (closed.returncode, opened.returncode) == (0, 0), opened.stdout + opened.stderr
    assert headline(closed.stdout)[:2] == [6, 120_000]
    assert headline(opened.stdout)[:2] == [6, 123_600]
    assert "The open period of 6 subscriptions is included" in opened.stdout
    refused = billing.impact("--open-period", "--from", "lines.csv")
    assert (refused.returncode, refused.stderr) == (
        3,
        "pricing: --open-period reads the account, so it does not go with --from\n",
    )
    billing.sandbox.close()


def test_coupons_and_manual_items_are_counted_by_name(tmp_path: Path) -> None:
    billing = Billing(tmp_path)
    billing.post("coupons", {"id": "ten", "percent_off": 10, "duration": "forever"})
    clock = billing.clock("2026-05-03")
    billing.subscribe(clock, 2, discounts={"0": {"coupon": "ten"}})
    for _ in range(5):
        customer, subscription = billing.subscribe(clock, 2)
    item = {"customer": customer, "subscription": subscription, "amount": 500, "currency": "usd"}
    billing.post("invoiceitems", item)
    billing.advance(clock, "2026-06-03T02:00:00")
    billing.program()
    done = billing.impact("--through", "2026-06", "--months", "1", "--calibration", "70")
    # A fee and the first tier of each of six; the free tier bears the coupon without an amount.
    assert "11 of 13 lines reproduced to the cent; 2 not: 1 manual, 1 coupon" in done.stdout, done.stdout
    assert done.returncode == 0
    assert "Customers with a coupon pay less than shown here." in done.stdout
    strict = billing.impact("--through", "2026-06", "--months", "1")
    assert strict.returncode == 3
    assert "84.6% of the lines are reproduced to the cent, but 99.0% must be" in strict.stdout
    billing.sandbox.close()


HEADING = "invoice_id,subscription_id,price_id,quantity,amount,currency,period_start,period_end\n"


def fault(billing: Billing, **of: object) -> None:
    body = json.dumps({"path": "/v1/invoices", "count": 1, **of}).encode()
    answer = billing.sandbox.handle(Request("POST", "/_sandbox/faults", {}, body))
    assert answer.status == 200, answer.body


def test_a_read_that_stripe_refuses_halfway_is_no_figure_to_trust(few: Billing) -> None:
    """August is read, July is refused."""
    fault(few, skip=1, status=403, message="no such permission")
    done = few.impact(*READ, "--no-cache")
    assert done.returncode == 3
    assert "> - reading was cut short (the account's invoices: no such permission" in done.stdout
    assert "12 closed invoices, 2026-08-03 to 2026-08-19" in done.stdout
    assert "12 invoices read" in done.stderr
    assert few.impact(*READ, "--no-cache").returncode == 0


def test_a_key_that_may_not_read_test_clocks_is_enough(few: Billing) -> None:
    """The customers here are all on one, so that none is known to be there still."""
    fault(few, path="/v1/test_helpers/test_clocks", status=403, message="no such permission")
    done = few.impact(*READ)
    assert "| 12 | no subscription any more |" in done.stdout, done.stderr


def test_a_key_that_may_read_nothing_is_one_sentence(few: Billing) -> None:
    fault(few, path="/v1/prices", status=403, message="no such permission")
    done = few.impact(*READ)
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.startswith("pricing: the account's prices: no such permission")
    assert "Give the restricted key this permission" in done.stderr


# -- exports ----------------------------------------------------------------------------------------------------------


def invoices_of(billing: Billing) -> list[dict[str, object]]:
    """Every invoice of June to August, as the API answers it."""
    found = billing.get(f"invoices?limit=100&created[gte]={seconds('2026-06-01')}")["data"]
    assert len(found) == 36
    return found  # type: ignore[no-any-return]


def write_csv(billing: Billing, path: Path, *, columns: int = 9) -> None:
    """The lines as Stripe's own tables have them."""
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        heading = ["invoice_id", "customer_id", "subscription_id", "price_id", "quantity", "amount", "currency"]
        rows.writerow([*heading, "period_start", "period_end"][:columns])
        for invoice in invoices_of(billing):
            for line in invoice["lines"]["data"]:  # type: ignore[index]
                rows.writerow(
                    [
                        invoice["id"],
                        invoice["customer"],
                        invoice["parent"]["subscription_details"]["subscription"],  # type: ignore[index]
                        line["pricing"]["price_details"]["price"],
                        line["quantity"],
                        line["amount"],
                        "usd",
                        line["period"]["start"],
                        line["period"]["end"],
                    ][:columns]
                )


def test_an_export_says_what_the_account_says(few: Billing) -> None:
    write_csv(few, few.folder / "lines.csv")
    (few.folder / "all.json").write_text(json.dumps({"object": "list", "data": invoices_of(few)}))
    (few.folder / "each.jsonl").write_text("".join(json.dumps(each) + "\n" for each in invoices_of(few)))
    expected = headline(few.impact(*READ).stdout)
    for name in ("lines.csv", "all.json", "each.jsonl"):
        done = few.impact("--from", name)
        assert (done.returncode, headline(done.stdout)) == (0, expected), name
        assert "Subscriptions were not read" in done.stdout


def test_an_export_needs_no_key_where_its_prices_are_named(few: Billing) -> None:
    write_csv(few, few.folder / "lines.csv")
    stack = few.folder / "Pulumi.dev.yaml"
    before = stack.read_text()
    stack.write_text(before.replace("mode: sandbox", "mode: test"))
    without = few.impact("--from", "lines.csv")
    named = few.impact("--from", "lines.csv", "--price", f"{few.license}=1:license", "--price", f"{few.usage}=1:usage")
    stack.write_text(before)
    assert without.returncode == 3
    assert without.stderr.startswith("pricing: the prices of lines.csv (price_")
    assert named.returncode == 0


def test_an_export_that_was_cut_short_is_no_figure_to_trust(few: Billing) -> None:
    whole = "".join(json.dumps(each) + "\n" for each in invoices_of(few))
    (few.folder / "cut.jsonl").write_text(whole[: len(whole) // 2])
    done = few.impact("--from", "cut.jsonl")
    assert done.returncode == 3
    assert "> - reading was cut short (cut.jsonl, line 1" in done.stdout
    assert "unread customers are missing from every figure" in done.stdout


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("", "is empty"),
        ("invoice_id,amount\nin_1,5\n", "is not a known export of invoice lines: it has no column subscr"),
        ("\x00\x01", "is not a known export of invoice lines"),
        ('{"object": "customer", "id": "cus_1"}', "contains something that is not an invoice of Stripe's API"),
        ('[{"id": "in_1"', "line 1: is not JSON; is the file complete?"),
        (
            '{"kind": "stripe-pricing invoice sample", "format": 9, "plan": "alpaca-ai"}\n',
            "is of format 9; save it again",
        ),
        (
            '{"kind": "stripe-pricing invoice sample", "format": 1, "plan": "llama"}\n',
            "is a sample of llama, not of alp",
        ),
        (
            HEADING + "in_1,sub_1,price_1,1,10.00,usd,2026-06-01,2026-07-01\n",
            "line 2: amount is '10.00'; it must be whole minor units (cents)",
        ),
        (
            HEADING + "in_1,sub_1,price_1,1,1000,usd,June,2026-07-01\n",
            "line 2: 'June' is not a date",
        ),
        (
            HEADING + "in_1,sub_1,price_1,1\n",
            "line 2: has too few columns; is the file complete?",
        ),
        (
            HEADING + "".join(f"in_{n},sub_1,price_1,1,1000,usd,2026-06-01,2026-07-01\n" for n in (1, 2, 1)),
            "has lines of an invoice in two places",
        ),
    ],
)
def test_a_file_that_is_no_export_is_one_sentence(few: Billing, content: str, sentence: str) -> None:
    (few.folder / "broken").write_text(content)
    done = few.impact("--from", "broken", "--price", f"{few.license}=1:license")
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.startswith("pricing: broken")
    assert sentence in done.stderr


def test_an_unknown_layout_is_named_and_no_figure_to_trust(few: Billing) -> None:
    strange = invoices_of(few)
    for line in strange[0]["lines"]["data"]:  # type: ignore[index]
        line["pricing"] = {"type": "rate_card_details"}
    (few.folder / "strange.json").write_text(json.dumps(strange))
    done = few.impact("--from", "strange.json")
    assert done.returncode == 3
    assert "1 invoices have an unknown layout and are omitted: a line has no price" in done.stdout


def test_the_page_has_what_its_requests_need(few: Billing) -> None:
    shutil.rmtree(few.folder / ".stripe-pricing", ignore_errors=True)
    few.sandbox.handle(Request("DELETE", "/_sandbox/requests", {}, b""))
    assert few.impact(*READ).returncode == 0
    log = json.loads(few.sandbox.handle(Request("GET", "/_sandbox/requests", {}, b"")).body)
    needed = {keys.permission(each["method"], each["url"].partition("?")[0]) for each in log["data"]}
    assert accesses(needed - {"rak_test_clock_read"}) == table()["pricing impact"]
