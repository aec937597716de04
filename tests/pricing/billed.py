"""A sandbox file in which customers of Alpaca.ai have been billed, and the program whose plan they pay."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sandbox import Request, Sandbox

ROOT = Path(__file__).parents[2]
FORM = {"Authorization": "Bearer sk_test_x", "Content-Type": "application/x-www-form-urlencoded"}
V1 = 'Plan("Alpaca.ai", fees=Fee("100.00"), usage=Usage("token", included=1_000, overage=Overage("0.04", per=100)))'
V2 = 'Plan("Alpaca.ai", fees=Fee("120.00"), usage=Usage("token", included=5_000, overage=Overage("0.03", per=100)))'
#: What version 1 is in Stripe: 0.04 cents above 1,000 tokens.
TIERS = (("1000", "0"), ("inf", "0.04"))
PROGRAM = """
from components.plan import PublishedPlan
from components.pricing import Fee, Overage, Plan, Tier, Usage, Version
from components.program import program

with program():
    PublishedPlan("alpaca-ai", {{1: {v1}, 2: Version({v2}, rollout={rollout!r})}}, event_name="alpaca_ai_tokens")
"""


def seconds(day: str) -> int:
    return int(datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp())


class Billing:
    """An account whose customers are billed on test clocks; `folder` holds the program and the sandbox file."""

    def __init__(self, folder: Path, *, tiers: tuple[tuple[str, str], ...] = TIERS) -> None:
        self.folder = folder
        self.path = folder / "stripe.db"
        self.sandbox = Sandbox(self.path)
        self.meter = self.post(
            "billing/meters", {"display_name": "T", "event_name": "t", "default_aggregation": {"formula": "sum"}}
        )["id"]
        self.product = self.post("products", {"name": "Alpaca.ai"})["id"]
        self.license = self.price("license", {"unit_amount": 10000})
        metered = {"recurring": {"usage_type": "metered", "meter": self.meter}, "billing_scheme": "tiered"}
        rows = {str(at): {"up_to": end, "unit_amount_decimal": each} for at, (end, each) in enumerate(tiers)}
        self.usage = self.price("usage", {**metered, "tiers_mode": "graduated", "tiers": rows})

    def price(self, key: str, of: Mapping[str, Any]) -> str:
        """A price as `pulumi up` makes it for version 1."""
        recurring = {"interval": "month", **of.get("recurring", {})}
        terms = {"product": self.product, "currency": "usd", **of, "recurring": recurring}
        owner = {"metadata": {"pulumi": f"shop/dev/alpaca-ai-{key}"}}
        return str(self.post("prices", {**terms, "lookup_key": f"alpaca-ai:{key}", **owner})["id"])

    def post(self, path: str, body: Mapping[str, Any]) -> Any:
        return self._call("POST", f"/v1/{path}", "&".join(_form(body)))

    def get(self, path: str) -> Any:
        return self._call("GET", f"/v1/{path}")

    def clock(self, day: str) -> str:
        return str(self.post("test_helpers/test_clocks", {"frozen_time": seconds(day)})["id"])

    def advance(self, clock: str, day: str) -> None:
        self.post(f"test_helpers/test_clocks/{clock}/advance", {"frozen_time": seconds(day)})

    def subscribe(self, clock: str, seats: int, **terms: Any) -> tuple[str, str]:
        """A customer with a name and an address that must not be seen, and its subscription; the two ids."""
        card = {"invoice_settings": {"default_payment_method": "pm_card_visa"}}
        person = {"name": "Nomen Nescio", "email": "secret@example.com", "test_clock": clock, **card}
        customer = self.post("customers", person)["id"]
        items = {"0": {"price": self.license, "quantity": seats}, "1": {"price": self.usage}}
        mode = {"billing_mode": {"type": "flexible"}}
        return customer, self.post("subscriptions", {"customer": customer, "items": items, **mode, **terms})["id"]

    def use(self, customer: str, units: int, day: str) -> None:
        payload = {"stripe_customer_id": customer, "value": units}
        self.post("billing/meter_events", {"event_name": "t", "timestamp": seconds(day), "payload": payload})

    def program(self, *, v1: str = V1, v2: str = V2, rollout: str = "at_renewal", config: str = "") -> None:
        """Write the program that declares both versions."""
        (self.folder / "Pulumi.yaml").write_text("name: shop\nruntime: python\n")
        (self.folder / "Pulumi.dev.yaml").write_text(
            f"config:\n  stripe-pricing:mode: sandbox\n  stripe-pricing:sandboxFile: {self.path}\n{config}"
        )
        (self.folder / "__main__.py").write_text(PROGRAM.format(v1=v1, v2=v2, rollout=rollout))

    def impact(self, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        """Run `pricing impact` in the folder."""
        command = [sys.executable, "-c", "from pricing.cli import main; raise SystemExit(main())", "impact"]
        versions = [] if arguments and "@" in arguments[0] else ["alpaca-ai@1", "alpaca-ai@2"]
        return subprocess.run(
            [*command, *versions, *arguments],
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=300,
            env={"PYTHONPATH": str(ROOT), **environ},
        )

    def _call(self, method: str, path: str, body: str = "") -> Any:
        response = self.sandbox.handle(Request(method, path, FORM, body.encode()))
        assert response.status == 200, response.body
        return json.loads(response.body)


def _form(values: Mapping[str, Any], prefix: str = "") -> list[str]:
    found = []
    for name, value in values.items():
        path = f"{prefix}[{name}]" if prefix else name
        if isinstance(value, Mapping):
            found += _form(value, path)
        else:
            text = str(value).lower() if isinstance(value, bool) else str(value)
            found.append(f"{quote(path, safe='[]')}={quote(text)}")
    return found
