"""What a large sandbox file costs: the same requests on a file with hundreds and with a hundred thousand objects.

    python -m benchmarks.sandbox_scale [--customers 100000 --subscriptions 10000 --events 1000000]

Two files are filled in process, the small one with a hundredth; a tenth of the events is one customer's. Then each
request is made on both, and the best processor time of it is printed. It asserts counts, never times.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from pathlib import Path
from typing import Any

from sandbox import Request, Sandbox

KEY = {"Authorization": "Bearer sk_test_x", "Content-Type": "application/x-www-form-urlencoded"}
TIERS = "&".join(
    f"tiers[{place}][up_to]={up_to}&tiers[{place}][unit_amount_decimal]={amount}"
    for place, (up_to, amount) in enumerate([("1000", "0"), ("10000", "0.5"), ("inf", "0.3")])
)


class File:
    """A sandbox file that has been filled."""

    def __init__(self, path: Path, customers: int, subscriptions: int, events: int) -> None:
        self.sandbox = Sandbox(path)
        self.number = 0
        self.sandbox.handle(Request("POST", "/_sandbox/log", {}, b'{"on": false}'))
        self.meter = self.post("billing/meters", "display_name=T&event_name=t&default_aggregation[formula]=sum")["id"]
        self.product = self.post("products", "name=A")["id"]
        recurring = f"product={self.product}&currency=usd&recurring[interval]=month"
        self.fee = self.post("prices", f"{recurring}&unit_amount=2000&lookup_key=fee")["id"]
        metered = f"recurring[usage_type]=metered&recurring[meter]={self.meter}"
        tiered = f"billing_scheme=tiered&tiers_mode=graduated&{TIERS}"
        self.usage = self.post("prices", f"{recurring}&{metered}&{tiered}")["id"]
        self.customers = [
            self.post("customers", f"name=c{n}&email=c{n}@example.com&metadata[number]=n{n}")["id"]
            for n in range(customers)
        ]
        self.subscriptions = [self.subscribe(customer) for customer in self.customers[:subscriptions]]
        self.stream(events)
        self.unsubscribed = iter(self.customers[subscriptions:])
        self.sandbox.handle(Request("POST", "/_sandbox/log", {}, b'{"on": true}'))

    def call(self, method: str, path: str, body: str = "", headers: dict[str, str] = KEY) -> Any:
        """One request and what it answers."""
        response = self.sandbox.handle(Request(method, path, headers, body.encode()))
        assert response.status == 200, response.body
        return json.loads(response.body)

    def post(self, path: str, body: str) -> Any:
        """POST under /v1."""
        return self.call("POST", f"/v1/{path}", body)

    def get(self, path: str) -> Any:
        """GET under /v1."""
        return self.call("GET", f"/v1/{path}")

    def subscribe(self, customer: str) -> str:
        """A subscription of a fee and usage; its id."""
        items = f"items[0][price]={self.fee}&items[1][price]={self.usage}"
        terms = "collection_method=send_invoice&days_until_due=30"
        return str(self.post("subscriptions", f"customer={customer}&{terms}&{items}")["id"])

    def stream(self, events: int) -> None:
        """Meter events over the stream, every tenth the first customer's."""
        chance = random.Random(1)
        token = self.call("POST", "/v2/billing/meter_event_session")["authentication_token"]
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        others = self.customers[: len(self.subscriptions)]
        for start in range(0, events, 100):
            batch = [
                {
                    "event_name": "t",
                    "identifier": f"s{number}",
                    "payload": {
                        "stripe_customer_id": self.customers[0] if number % 10 == 0 else chance.choice(others),
                        "value": "1",
                    },
                }
                for number in range(start, min(start + 100, events))
            ]
            self.call("POST", "/v2/billing/meter_event_stream", json.dumps({"events": batch}), headers)

    def summary(self, customer: str) -> Any:
        """What a customer has used."""
        hour = int(time.time()) // 3600 * 3600
        window = f"start_time={hour - 86400}&end_time={hour + 86400}"
        return self.get(f"billing/meters/{self.meter}/event_summaries?customer={customer}&{window}")["data"]

    def event(self) -> None:
        """One more v1 meter event."""
        self.number += 1
        payload = f"payload[stripe_customer_id]={self.customers[1]}&payload[value]=1"
        self.post("billing/meter_events", f"event_name=t&identifier=v{self.number}&{payload}")

    def invoice_clock(self) -> None:
        """A customer on a test clock of its own, a month on."""
        day = int(time.time()) // 86400 * 86400
        clock = self.post("test_helpers/test_clocks", f"frozen_time={day}")["id"]
        self.subscribe(self.post("customers", f"test_clock={clock}")["id"])
        self.post(f"test_helpers/test_clocks/{clock}/advance", f"frozen_time={day + 32 * 86400}")


REQUESTS: dict[str, Any] = {
    "retrieve a customer": lambda file: file.get(f"customers/{file.customers[5]}"),
    "list 10 customers": lambda file: file.get("customers"),
    "customers of an e-mail address": lambda file: file.get("customers?email=c7@example.com"),
    "customers created since tomorrow": lambda file: file.get(f"customers?created[gt]={int(time.time()) + 86400}"),
    "customers by metadata, search": lambda file: file.get('customers/search?query=metadata["number"]:"n7"'),
    "list 10 subscriptions": lambda file: file.get("subscriptions"),
    "subscriptions of a price": lambda file: file.get(f"subscriptions?price={file.fee}"),
    "canceled subscriptions, none": lambda file: file.get("subscriptions?status=canceled"),
    "active subscriptions, search": lambda file: file.get('subscriptions/search?query=status:"active"'),
    "void invoices, none": lambda file: file.get("invoices?status=void"),
    "events of a type that most have": lambda file: file.get("events?type=customer.*"),
    "preview, few events": lambda file: file.post("invoices/create_preview", f"subscription={file.subscriptions[1]}"),
    "preview, a tenth of all events": lambda file: file.post(
        "invoices/create_preview", f"subscription={file.subscriptions[0]}"
    ),
    "summary, few events": lambda file: file.summary(file.customers[1]),
    "summary, a tenth of all events": lambda file: file.summary(file.customers[0]),
    "v1 meter event": lambda file: file.event(),
    "create a customer": lambda file: file.post("customers", "name=Ada&email=ada@example.com"),
    "create a subscription": lambda file: file.subscribe(next(file.unsubscribed)),
    "a clock, a subscription, a month": lambda file: file.invoice_clock(),
}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--customers", type=int, default=100_000, help="default: %(default)s")
    parser.add_argument("--subscriptions", type=int, default=10_000, help="default: %(default)s")
    parser.add_argument("--events", type=int, default=1_000_000, help="default: %(default)s")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        sizes = [(given.customers // share, given.subscriptions // share, given.events // share) for share in (100, 1)]
        files = [File(Path(folder) / f"{place}.db", *size) for place, size in enumerate(sizes)]
        for file, (_, _, events) in zip(files, sizes, strict=True):
            assert file.summary(file.customers[0])[0]["aggregated_value"] >= events // 10
        for name, request in REQUESTS.items():
            small, large = (best(request, file) for file in files)
            print(f"{name:<40}{small * 1000:>9.2f} ms{large * 1000:>9.2f} ms")
        for file in files:
            file.sandbox.close()


def best(request: Any, file: File) -> float:
    """The least processor time of ten requests."""
    found = float("inf")
    for _ in range(10):
        begin = time.process_time()
        request(file)
        found = min(found, time.process_time() - begin)
    return found


if __name__ == "__main__":
    main()
