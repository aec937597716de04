"""The chain that script/up runs: preview, apply, send test meter events, preview the invoice, read the summary."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pulumi import automation
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

import money
import usage
from components.settings import DEFAULT_SANDBOX_FILE, key_mode
from usage.results import InvoicePreview

ROOT = Path(__file__).resolve().parents[1]
#: A month of the example customer: 26 events of 1,000 tokens, 1,000 of them included in the fee.
EVENTS, TOKENS_PER_EVENT = 26, 1_000
#: Stripe counts meter events with a delay: a minute or two in test mode.
COUNTING_SECONDS = 180

# Names from Stripe, the program and the environment are printed as text, not as markup.
screen = Console(highlight=False, markup=False)


class Stop(Exception):
    """The run cannot go on; one sentence for the person at the terminal."""


def main() -> int:
    os.chdir(ROOT)
    try:
        if sys.argv[1:]:
            raise Stop("takes no arguments; script/up --help says what it does")
        chain(choose_stack(os.environ))
    except Stop as stop:
        screen.print(f"script/up: {stop}", style="red", soft_wrap=True)
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
    # The example's events have a spool of their own: events that wait in the user's spool are not ours to send.
    os.environ.setdefault("STRIPE_USAGE_SPOOL", str(ROOT / ".stripe-usage" / "spool.db"))
    if stack == "dev":
        os.environ["STRIPE_MODE"] = "sandbox"
        where = address or os.environ.get("STRIPE_SANDBOX_FILE") or DEFAULT_SANDBOX_FILE
        stack_line(stack, f"on the sandbox, a local Stripe that bills nobody ({where})")
    else:
        os.environ.pop("STRIPE_MODE", None)
        stack_line(stack, f"on Stripe's test mode{f', at {address}' if address else ''}")

    changes, outputs = apply(stack)
    event_name, customers = outputs.get("event_name"), outputs.get("customers")
    if not event_name or not customers:
        screen.print(f"\n{outcome(changes)} {why_nothing_sent(event_name, customers)}", soft_wrap=True)
        return
    # The program's first subscriber stands for all of them.
    subscriber, customer = next(iter(customers.items()))
    month = Month(event_name, customer, outputs["subscriptions"][subscriber])
    try:
        step(f"import usage: send a month of meter events for {subscriber}")
        sent = month.send()
        step("read back what Stripe counted, and what it would bill")
        counted = month.wait_until_counted()
        invoice = month.invoice()
    except usage.UsageError as error:
        raise Stop(f"{error}{advice_for_missing(stack, error)}") from None
    screen.print(invoice_table(stack, invoice))
    screen.print(f"Summary: Stripe counted {counted:,} {event_name} this period.")
    sent_text = f"Sent: {sent} meter events." if sent else "Sent: nothing new."
    screen.print(f"{outcome(changes)} {sent_text}", soft_wrap=True)
    hints(stack, event_name, customer)


def why_nothing_sent(event_name: object, customers: object) -> str:
    """Why no usage is sent: the program sells to nobody yet, or does not say to whom."""
    if event_name and customers is not None:
        return "Sent: nothing, the program has no subscribers."
    return (
        "Sent: nothing. script/up sends usage to the first of `customers` under `event_name`, "
        "and __main__.py does not export both."
    )


def advice_for_missing(stack: str, error: usage.UsageError) -> str:
    """What to do when the state names objects that do not exist: the sandbox was emptied."""
    if not (isinstance(error, usage.StripeError) and error.code == "resource_missing"):
        return ""
    start_over = f"script/pulumi stack rm {stack} --force --yes --preserve-config"
    return (
        f". The stack's state names objects that do not exist; to delete that state and start over: {start_over}, then "
        "script/up"
    )


def apply(stack: str) -> tuple[int, dict[str, Any]]:
    """Preview, then apply what differs. Returns how many resources changed, and the stack's outputs."""
    color = "always" if screen.is_terminal else "never"
    try:
        workspace = automation.select_stack(stack_name=stack, work_dir=str(ROOT))
    except automation.StackNotFoundError:
        raise Stop(no_stack(stack, os.environ.get("PULUMI_BACKEND_URL"))) from None
    except automation.CommandError as error:
        raise Stop(f"pulumi could not open stack {stack}: {reason(error)}") from None
    try:
        step(f"pulumi preview --stack {stack}")
        preview = workspace.preview(color=color, on_output=show, suppress_progress=True, suppress_outputs=True)
        changes = sum(count for operation, count in preview.change_summary.items() if operation != "same")
        if changes:
            step(f"pulumi up --stack {stack}")
            workspace.up(color=color, on_output=show, suppress_progress=True, suppress_outputs=True)
        else:
            # Outputs may have changed, which is no change of a resource.
            workspace.up(expect_no_changes=True)
        return changes, {name: output.value for name, output in workspace.outputs().items()}
    except automation.CommandError:
        raise Stop("the lines above say what is wrong; nothing after that was run") from None


def no_stack(stack: str, backend: str | None) -> str:
    """What to do if the user's own backend has no such stack."""
    if backend:
        where, local = f"PULUMI_BACKEND_URL={backend}", "unset PULUMI_BACKEND_URL to keep state in this checkout"
    else:
        where = "the backend of pulumi login or of Pulumi.yaml"
        local = f"keep state in this checkout: PULUMI_BACKEND_URL=file://{ROOT}/.pulumi-state script/up"
    file = ROOT / f"Pulumi.{stack}.yaml"
    own = (
        f". For secrets under your own passphrase, first delete the line encryptionsalt from {file.name}"
        if file.exists() and "encryptionsalt:" in file.read_text()
        else ""
    )
    return f"there is no stack {stack} in {where}: create it with script/pulumi stack init {stack}, or {local}{own}"


def reason(error: automation.CommandError) -> str:
    """Pulumi's own sentence, from the output of the failed command."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return next((line.partition("error: ")[2] for line in lines if "error: " in line), lines[-1])


def show(line: str) -> None:
    """Print a line of Pulumi's output; blank lines would only push the table off the screen."""
    if line.strip():
        print(line.rstrip(), flush=True)


def stack_line(stack: str, where: str) -> None:
    screen.print(Text.assemble("Stack ", (stack, "bold"), f" {where}."), soft_wrap=True)


def step(command: str) -> None:
    screen.print(Text.assemble(("\n==", "bold"), f" {command}"), soft_wrap=True)


@dataclass
class Month:
    """The example customer's billing period, as a script of your own would fill it and read it back."""

    event_name: str
    customer: str
    subscription: str

    def send(self) -> int:
        """Send the period's meter events, unless Stripe has them. Returns how many were sent."""
        if self.counted() >= EVENTS * TOKENS_PER_EVENT:
            screen.print("Stripe has this period's events already: nothing to send.")
            return 0
        period_start = self.invoice().period_start
        usage.record_many(
            {
                "event_name": self.event_name,
                "customer": self.customer,
                "value": TOKENS_PER_EVENT,
                # Stripe bills an identifier once, however often it is sent.
                "identifier": f"script-up-{self.subscription}-{period_start}-{number}",
            }
            for number in range(EVENTS)
        )
        flushed = usage.flush(timeout=COUNTING_SECONDS)
        if not flushed.complete:
            raise Stop("not every meter event was delivered; `usage status` and `usage errors` say why")
        screen.print(
            f"{EVENTS} events of {TOKENS_PER_EVENT:,} tokens delivered to {flushed.destination}.", soft_wrap=True
        )
        return EVENTS

    def counted(self) -> int:
        """What Stripe has counted for the customer in this billing period."""
        return int(usage.summaries(self.event_name, self.customer, self.invoice().period_start).total)

    def wait_until_counted(self) -> int:
        deadline = time.monotonic() + COUNTING_SECONDS
        with screen.status("Waiting for Stripe to count the events (a minute or two in test mode) ..."):
            while (counted := self.counted()) < EVENTS * TOKENS_PER_EVENT and time.monotonic() < deadline:
                time.sleep(2)
        return counted

    def invoice(self) -> InvoicePreview:
        return usage.preview_invoice(subscription=self.subscription)


def invoice_table(stack: str, invoice: InvoicePreview) -> Table:
    where = "the sandbox" if stack == "dev" else "Stripe's test mode"
    table = Table(title=f"The next invoice, previewed by {where}", title_justify="left", box=SIMPLE_HEAD)
    table.add_column("line")
    table.add_column("quantity", justify="right")
    table.add_column("amount", justify="right")
    for line in invoice.lines:
        amount = money.format_minor(line.amount, invoice.currency)
        table.add_row(line.description, f"{line.quantity:,}", amount)
    table.add_section()
    table.add_row("total", "", money.format_minor(invoice.total, invoice.currency), style="bold")
    return table


def outcome(changes: int) -> str:
    if not changes:
        return "Applied: no changes."
    return f"Applied: {changes} resource{'s' * (changes != 1)} changed."


def hints(stack: str, event_name: str, customer: str) -> None:
    mode = "STRIPE_MODE=sandbox " if stack == "dev" else ""
    screen.print("\nNext: change a number in __main__.py, and see what it would do:")
    screen.print(f"  script/pulumi preview --stack {stack} --diff", soft_wrap=True)
    screen.print(f"  {mode}.venv/bin/usage send {event_name} --customer {customer} --value 1200", soft_wrap=True)


if __name__ == "__main__":
    sys.exit(main())
