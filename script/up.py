"""The chain that script/up runs: preview, apply, send test meter events, preview the invoice, read the summary."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from pulumi import automation
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from components.pricing import minor_unit_exponent
from components.settings import DEFAULT_SANDBOX_FILE, key_mode

ROOT = Path(__file__).resolve().parents[1]
#: A month of the example customer: 26 events of 1,000 tokens, 1,000 of them included in the fee.
EVENTS, TOKENS_PER_EVENT = 26, 1_000
#: Stripe counts meter events some time after it took them: a minute or two in test mode.
COUNTING_SECONDS = 180

screen = Console(highlight=False)


class Stop(Exception):
    """What the person at the terminal has to know, in one sentence."""


def main() -> int:
    os.chdir(ROOT)
    try:
        chain(choose_stack(os.environ))
    except Stop as stop:
        screen.print(f"script/up: {stop}", style="red", markup=False)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def choose_stack(environ: Mapping[str, str]) -> str:
    """`dev` (the sandbox) without a key, `test` (Stripe's test mode) with a test key; a live key is refused."""
    key = environ.get("STRIPE_API_KEY")
    if not key:
        return "dev"
    mode = key_mode(key)
    if mode is None:
        raise Stop("STRIPE_API_KEY is not a secret Stripe key: it must start with sk_test_ or rk_test_")
    if mode == "live":
        raise Stop("STRIPE_API_KEY is a live key, and this command sends test usage: use a sk_test_ key, or none")
    return "test"


def chain(stack: str) -> None:
    address = os.environ.get("STRIPE_API_BASE")
    if stack == "dev":
        os.environ["STRIPE_MODE"] = "sandbox"
        where = address or os.environ.get("STRIPE_SANDBOX_FILE") or DEFAULT_SANDBOX_FILE
        screen.print(f"Stack [bold]dev[/] on the sandbox, a local Stripe that bills nobody ({where}).", soft_wrap=True)
    else:
        os.environ.pop("STRIPE_MODE", None)
        screen.print(f"Stack [bold]test[/] on Stripe's test mode{f', at {address}' if address else ''}.")

    changes, outputs = apply(stack)
    customer, subscription = outputs["customers"]["first-customer"], outputs["subscriptions"]["first-customer"]
    usage = Usage(outputs["event_name"], customer, subscription)

    step("usage import: a month of meter events")
    sent = usage.send()
    step("usage summary, usage preview-invoice: what Stripe counted, and what it would bill")
    counted = usage.wait_until_counted()
    screen.print()
    screen.print(invoice_table(stack, usage.preview_invoice()))
    screen.print(f"Summary: Stripe counted {counted:,} tokens this period.")
    screen.print(outcome(changes, sent))
    hints(stack, customer)


def apply(stack: str) -> tuple[int, dict[str, Any]]:
    """Preview, then apply what differs. Returns how many resources changed, and the stack's outputs."""
    color = "always" if screen.is_terminal else "never"
    workspace = automation.select_stack(stack_name=stack, work_dir=str(ROOT))
    try:
        step(f"pulumi preview --stack {stack}")
        preview = workspace.preview(color=color, on_output=show, suppress_progress=True, suppress_outputs=True)
        changes = sum(count for operation, count in preview.change_summary.items() if operation != "same")
        if changes:
            step(f"pulumi up --stack {stack}")
            workspace.up(color=color, on_output=show, suppress_progress=True, suppress_outputs=True)
    except automation.CommandError:
        raise Stop("the lines above say what is wrong; nothing after it was done") from None
    return changes, {name: output.value for name, output in workspace.outputs().items()}


def show(line: str) -> None:
    """A line of Pulumi's output; blank ones at either end would only push the table off the screen."""
    if line.strip():
        print(line.rstrip(), flush=True)


def step(command: str) -> None:
    screen.print(f"\n[bold]==[/] {command}", soft_wrap=True)


@dataclass
class Usage:
    """The usage commands, as a script would call them."""

    event_name: str
    customer: str
    subscription: str

    def send(self) -> int:
        """Send what this billing period still lacks of the example's events. Returns how many."""
        period_start = self.preview_invoice()["period_start"]
        if self.counted() >= EVENTS * TOKENS_PER_EVENT:
            screen.print("This period's events are there already: nothing to send.")
            return 0
        # An identifier is billed once, however often it is sent.
        events = [
            {
                "customer": self.customer,
                "value": TOKENS_PER_EVENT,
                "identifier": f"script-up-{self.subscription}-{period_start}-{number}",
            }
            for number in range(EVENTS)
        ]
        self._run(
            [
                *["import", "-", "--format", "jsonl", "--event", self.event_name, "--timestamp", "now"],
                *["--import-id", f"script-up-{self.subscription}-{period_start}"],
            ],
            input="\n".join(json.dumps(event) for event in events),
            show=True,
        )
        return EVENTS

    def counted(self) -> int:
        """What Stripe has counted for the customer in this billing period."""
        start = str(self.preview_invoice()["period_start"])
        words = ["summary", self.event_name, "--customer", self.customer, "--start", start, "--json"]
        return int(Decimal(json.loads(self._run(words))["total"]))

    def wait_until_counted(self) -> int:
        deadline = time.monotonic() + COUNTING_SECONDS
        with screen.status("Waiting for Stripe to count the events (a minute or two in test mode) ..."):
            while (counted := self.counted()) < EVENTS * TOKENS_PER_EVENT and time.monotonic() < deadline:
                time.sleep(2)
        return counted

    def preview_invoice(self) -> dict[str, Any]:
        parsed: dict[str, Any] = json.loads(
            self._run(["preview-invoice", "--subscription", self.subscription, "--json"])
        )
        return parsed

    def _run(self, words: list[str], *, input: str | None = None, show: bool = False) -> str:
        done = subprocess.run(
            ["usage", *words], check=False, text=True, input=input, stdout=None if show else subprocess.PIPE
        )
        if done.returncode != 0:
            raise Stop(f"`usage {words[0]}` ended with exit code {done.returncode}; the lines above say why")
        return done.stdout or ""


def invoice_table(stack: str, invoice: Mapping[str, Any]) -> Table:
    where = "the sandbox" if stack == "dev" else "Stripe's test mode"
    table = Table(title=f"The next invoice, previewed by {where}", title_justify="left", box=SIMPLE_HEAD)
    table.add_column("line")
    table.add_column("quantity", justify="right")
    table.add_column("amount", justify="right")
    for line in invoice["lines"]:
        table.add_row(str(line["description"]), f"{Decimal(line['quantity'] or 0):,}", money(line["amount"], invoice))
    table.add_section()
    table.add_row("total", "", money(invoice["total"], invoice), style="bold")
    return table


def money(minor: int, invoice: Mapping[str, Any]) -> str:
    currency = str(invoice["currency"])
    exponent = minor_unit_exponent(currency)
    return f"{Decimal(minor).scaleb(-exponent):,.{exponent}f} {currency.upper()}"


def outcome(changes: int, sent: int) -> str:
    applied = (
        f"Applied: {changes} resource{'s' * (changes != 1)} changed."
        if changes
        else "Applied: no changes, everything is as declared."
    )
    return f"{applied} {f'Sent: {sent} meter events.' if sent else 'Sent: nothing, the events were there already.'}"


def hints(stack: str, customer: str) -> None:
    mode = "STRIPE_MODE=sandbox " if stack == "dev" else ""
    screen.print("\nNext: change a number in __main__.py, and read what it does before it does it:")
    screen.print(f"  script/pulumi preview --stack {stack} --diff", soft_wrap=True)
    screen.print(f"  {mode}.venv/bin/usage send alpaca_ai_tokens --customer {customer} --value 1200", soft_wrap=True)


if __name__ == "__main__":
    sys.exit(main())
