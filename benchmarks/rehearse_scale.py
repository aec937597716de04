"""`pricing rehearse` of 300 customers, thirteen renewals each, with the real engine.

    python -m benchmarks.rehearse_scale [--customers 300]

The customers are made on one test clock, on each day of a month, with a month of usage; then the pull request adds a
version that moves all of them. It asserts that every difference is explained, that the account was only read, and that
nobody is missing; never a time. The limit that it compares with is ten minutes on two cores.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

from benchmarks._engine import project
from sandbox import Request, Sandbox
from tests.pricing.rehearsed import TODAY, then

LIMIT = 600.0
ROOT = Path(__file__).parents[1]
DAY = 86_400


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--customers", type=int, default=300, help="default: %(default)s")
    customers = parser.parse_args().customers
    with project(TODAY) as made:
        made.up().ok()
        sandbox = Sandbox(made.sandbox_file)
        clock = fill(sandbox, customers)
        after = max((line["seq"] for line in requests(sandbox)), default=0)
        made.write(then("at_renewal"))
        report = made.folder / "report.md"
        began, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(
            [
                *(sys.executable, "-c", "from pricing.cli import main; raise SystemExit(main())", "rehearse"),
                *("--test-clock", clock, "--customers", str(customers), "--markdown", str(report)),
            ],
            cwd=made.folder,
            env={**made.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )
        seconds, used = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
        assert done.returncode == 0, done.stdout + done.stderr
        text = report.read_text(encoding="utf-8")
        assert "**Every difference is explained by the declared versions.**" in text, text
        assert f"{customers:,} subscriptions of {customers:,} customers" in text, text
        assert re.search(rf"`pricing rollout alpaca-ai@2 --apply`: {customers:,} moved", text), text
        sent = [line for line in requests(sandbox, after) if line["method"] != "GET"]
        assert not sent, sent[:3]
        sandbox.close()
        processor = sum(getattr(used, each) - getattr(before, each) for each in ("ru_utime", "ru_stime"))
        print(
            f"{customers:,} customers, 13 renewals, twice: {seconds:.1f} s ({seconds / LIMIT:.2f} of the limit of "
            f"{LIMIT:.0f} s), {processor:.1f} s on the processor, {used.ru_maxrss / 1024:.0f} MB at most; "
            f"report of {len(text):,} characters"
        )


def fill(sandbox: Sandbox, customers: int) -> str:
    """Customers on a test clock, as many on each day of a month, and a month of usage; returns the clock."""
    chance = random.Random(7)
    start = int(time.time()) - 60 * DAY
    clock = str(post(sandbox, "/v1/test_helpers/test_clocks", {"frozen_time": start})["id"])
    prices = {each["lookup_key"]: each["id"] for each in get(sandbox, "/v1/prices?limit=100")["data"]}
    post(sandbox, "/v1/coupons", {"id": "tenth", "percent_off": 10, "duration": "forever"})
    people = []
    for number in range(customers):
        if number and number * 28 // customers > (number - 1) * 28 // customers:
            advance(sandbox, clock, start + number * 28 // customers * DAY)
        card = {"invoice_settings[default_payment_method]": "pm_card_visa"}
        customer = post(sandbox, "/v1/customers", {"test_clock": clock, **card})["id"]
        terms: dict[str, Any] = {
            "customer": customer,
            "items[0][price]": prices["alpaca-ai:license"],
            "items[0][quantity]": chance.randint(1, 9),
            "items[1][price]": prices["alpaca-ai:usage"],
            "billing_mode[type]": "flexible",
        }
        post(sandbox, "/v1/subscriptions", {**terms, **({"discounts[0][coupon]": "tenth"} if number % 10 == 0 else {})})
        people.append(customer)
    for day in (29, 30):
        advance(sandbox, clock, start + day * DAY)
        for customer in people:
            value = {"payload[stripe_customer_id]": customer, "payload[value]": chance.randint(100, 90_000)}
            at = {"event_name": "tokens", "timestamp": start + day * DAY - 60}
            post(sandbox, "/v1/billing/meter_events", {**at, **value})
    advance(sandbox, clock, start + 59 * DAY)
    return clock


def advance(sandbox: Sandbox, clock: str, moment: int) -> None:
    post(sandbox, f"/v1/test_helpers/test_clocks/{clock}/advance", {"frozen_time": moment})


def requests(sandbox: Sandbox, after: int = 0) -> list[dict[str, Any]]:
    """The sandbox's log."""
    answer = sandbox.handle(Request("GET", f"/_sandbox/requests?after={after}"))
    found: list[dict[str, Any]] = json.loads(answer.body)["data"]
    return found


def get(sandbox: Sandbox, url: str) -> Any:
    return answered(sandbox, Request("GET", url, {"authorization": "Bearer sk_test_x"}))


def post(sandbox: Sandbox, path: str, params: dict[str, Any]) -> Any:
    body = "&".join(f"{quote(name, safe='[]')}={quote(str(value))}" for name, value in params.items())
    headers = {"authorization": "Bearer sk_test_x", "content-type": "application/x-www-form-urlencoded"}
    return answered(sandbox, Request("POST", path, headers, body.encode()))


def answered(sandbox: Sandbox, request: Request) -> Any:
    response = sandbox.handle(request)
    assert response.status == 200, response.body
    return json.loads(response.body)


if __name__ == "__main__":
    main()
