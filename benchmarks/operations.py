"""What each operation of a stack takes, and beside it the same with Stripe's Terraform provider: see script/bench.

It asserts what holds on any machine: that an operation succeeds, that everything is in the state, how many calls it
makes. Never a time.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

from benchmarks._engine import WITHOUT_CHECKPOINTS, Measured, Size, measured, processor_seconds, project, run, served
from components.pulumi_speed import PROVIDER_THREADS, STOCK_VARIABLE
from tests.engine.conftest import Project

OPERATIONS = ("first up", "preview", "one change", "refresh", "destroy", "up again")
#: At most so many calls for an object of each operation, and so many for the whole: lists, the account.
CALLS = {
    "first up": (1.0, 10),
    "preview": (0.0, 0),
    "one change": (0.0, 10),
    "refresh": (0.02, 20),
    "destroy": (1.0, 15),
    "up again": (1.0, 50),  # the replies of Stripe's store to the first steps at a time, and what was deleted
}
EVERYBODY = OURS, STOCK, SAVED_ONCE, RIVAL = "ours", "stock", "saved-once", "rival"
PROVIDER_FILE = "terraform-provider-stripe"


@dataclass
class Contestant:
    """One way to have the same objects in Stripe, with an account of its own.

    Attributes:
        address: the served sandbox.
        server: the id of its process.
        operations: by name, what carries it out.
    """

    name: str
    address: str
    server: int
    operations: dict[str, Callable[[], Measured]] = field(default_factory=dict)
    served: float = 0.0

    def measure(self, operation: str) -> tuple[Measured, float]:
        """What an operation took, and the processor seconds of the sandbox meanwhile."""
        before = processor_seconds(self.server)
        took = self.operations[operation]()
        return took, processor_seconds(self.server) - before


@contextmanager
def ours(size: Size, latency: float, rate: float | None, name: str) -> Iterator[Contestant]:
    """This project, as `script/pulumi` runs it; with Pulumi's SDK as it is; or with the state written at the end."""
    with project(size.program()) as made, served(made.sandbox_file, latency=latency, rate=rate) as (address, server):
        made.environ["STRIPE_API_BASE"] = address
        if rate is None:
            made.config("stripe-pricing:requestsPerSecond", "10000")
        made.environ |= {STOCK_VARIABLE: "1"} if name == STOCK else {"PULUMI_PARALLEL": str(PROVIDER_THREADS)}
        made.environ |= WITHOUT_CHECKPOINTS if name == SAVED_ONCE else {}

        def change() -> Measured:
            made.edit('name=f"Product {n}"', 'name=f"Product {n}" if n else "Changed"')
            return applied(made, size)

        yield Contestant(
            name,
            address,
            server,
            {
                "first up": lambda: applied(made, size),
                "preview": lambda: measured(made, "preview", "--expect-no-changes"),
                "one change": change,
                "refresh": lambda: measured(made, "refresh", "--yes", "--skip-preview", "--expect-no-changes"),
                "destroy": lambda: measured(made, "destroy", "--yes", "--skip-preview"),
                "up again": lambda: applied(made, size),
            },
        )


def applied(made: Project, size: Size) -> Measured:
    took = measured(made, "up", "--yes", "--skip-preview")
    assert len(made.state()) == size.total, "everything is in the state"
    return took


# -- the rival --------------------------------------------------------------------------------------------------------

HEAD = """terraform {
  required_providers {
    stripe = { source = "stripe/stripe" }
  }
}
provider "stripe" {}
"""


def terraform(size: Size, *, changed: bool = False) -> str:
    """The same objects as `Size.program` declares, for Stripe's Terraform provider."""
    parts = [HEAD]

    def add(kind: str, name: str, body: str) -> None:
        parts.append(f'resource "stripe_{kind}" "{name}" {{\n{body}\n}}\n')

    for n in range(size.meters):
        add(
            "billing_meter",
            f"m{n}",
            f'display_name = "{n}"\nevent_name = "event_{n}"\ndefault_aggregation {{\nformula = "sum"\n}}\n'
            # Left out, it takes Stripe's defaults for an error of its own.
            'customer_mapping {\nevent_payload_key = "stripe_customer_id"\ntype = "by_id"\n}\n'
            'value_settings {\nevent_payload_key = "value"\n}',
        )
    for n in range(size.products):
        name = "Changed" if changed and n == 0 else f"Product {n}"
        add("product", f"p{n}", f'name = "{name}"\nunit_label = "token"')
    for n in range(size.prices):
        common = f'product = stripe_product.p{n % size.products}.id\ncurrency = "usd"\nlookup_key = "price:{n}"\n'
        if n % 2:
            own = 'unit_amount = 10000\nrecurring {\ninterval = "month"\nusage_type = "licensed"\n}'
        else:
            own = (
                'billing_scheme = "tiered"\ntiers_mode = "graduated"\n'
                'tiers {\nup_to = "1000"\nunit_amount_decimal = "0"\n}\n'
                'tiers {\nup_to = "inf"\nunit_amount_decimal = "0.04"\n}\n'
                f'recurring {{\ninterval = "month"\nusage_type = "metered"\n'
                f"meter = stripe_billing_meter.m{n % size.meters}.id\n}}"
            )
        add("price", f"pr{n}", common + own)
    for n in range(size.customers):
        add("customer", f"c{n}", f'name = "Customer {n}"\nemail = "customer-{n}@example.com"')
        if n < size.subscriptions:
            usage, license = 2 * n % size.prices, (2 * n + 1) % size.prices
            add(
                "subscription",
                f"s{n}",
                f'customer = stripe_customer.c{n}.id\ncollection_method = "send_invoice"\ndays_until_due = 30\n'
                f"items = [{{ price = stripe_price.pr{usage}.id }}, "
                f"{{ price = stripe_price.pr{license}.id, quantity = 3 }}]",
            )
    return "\n".join(parts)


@contextmanager
def rival(size: Size, latency: float, rate: float | None, provider: Path) -> Iterator[Contestant]:
    """Stripe's Terraform provider with Terraform's own settings."""
    with tempfile.TemporaryDirectory(prefix="rival-") as name:
        folder = Path(name)
        file = folder / "stripe.db"
        (folder / "main.tf").write_text(terraform(size))
        (folder / "terraform.rc").write_text(
            'provider_installation {\n  dev_overrides {\n    "stripe/stripe" = '
            f'"{provider.parent}"\n  }}\n  direct {{}}\n}}\n'
        )
        environ = {key: value for key, value in os.environ.items() if not key.startswith(("TF_", "STRIPE_"))}
        environ |= {
            "TF_CLI_CONFIG_FILE": str(folder / "terraform.rc"),
            "CHECKPOINT_DISABLE": "1",
            "STRIPE_API_KEY": "sk_test_rival",
            "NO_PROXY": "127.0.0.1",
            "no_proxy": "127.0.0.1",
        }
        with served(file, latency=latency, rate=rate) as (address, server):
            environ["STRIPE_API_BASE"] = address

            def go(*arguments: str) -> Measured:
                command = ["terraform", arguments[0], "-no-color", "-input=false", *arguments[1:]]
                return run(command, folder, environ, file)

            def change() -> Measured:
                (folder / "main.tf").write_text(terraform(size, changed=True))
                return go("apply", "-auto-approve")

            yield Contestant(
                RIVAL,
                address,
                server,
                {
                    "first up": lambda: go("apply", "-auto-approve"),
                    "preview": lambda: go("plan"),
                    "one change": change,
                    "refresh": lambda: go("apply", "-refresh-only", "-auto-approve"),
                    # Its prices stay there, archived and with their lookup keys, so it cannot make them again.
                    "destroy": lambda: go("destroy", "-auto-approve"),
                },
            )


def why_no_rival(provider: Path | None) -> str | None:
    """Why the comparison cannot run; None if it can."""
    if shutil.which("terraform") is None:
        return "terraform is not on PATH"
    if provider is None or not provider.is_file():
        return (
            f"there is no {PROVIDER_FILE} at {provider or '--rival-provider'}; script/bench --help says how to build it"
        )
    if provider.name != PROVIDER_FILE:
        return f"Terraform looks for a file named {PROVIDER_FILE}, not {provider.name}"
    return None


# -- the table --------------------------------------------------------------------------------------------------------

HEADINGS = ("objects", "latency", "operation", "who", "seconds", "calls", "processor", "program", "engine", "providers")


def row(*cells: str) -> str:
    widths = (7, 7, 10, 10, 8, 6, 9, 7, 7, 9, 5)
    return "  ".join(
        cell.ljust(width) if number in (2, 3) else cell.rjust(width)
        for number, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ).rstrip()


def line(size: Size, latency: float, operation: str, who: str, took: Measured, api: float) -> str:
    whole = sum(took.parts.values())
    shares = [
        f"{100 * took.parts[part] / whole:.0f} %" if whole else "-" for part in ("program", "engine", "providers")
    ]
    return row(
        f"{size.total:,}",
        f"{latency:g} ms",
        operation,
        who,
        f"{took.seconds:.2f}",
        f"{took.total:,}",
        f"{took.processor:.1f} s",
        *shares,
        f"{api:.1f} s",
    )


def main() -> None:
    arguments = parsed()
    # A shell's background job ignores it. So would the engine's plugins, and it waits five seconds for each.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    provider = Path(arguments.rival_provider).resolve() if arguments.rival_provider else None
    reason = why_no_rival(provider) if RIVAL in arguments.who else None
    if reason:
        print(f"The rival is left out: {reason}.\n", flush=True)
        arguments.who.remove(RIVAL)
    print(
        f"{date.today()}; Python {platform.python_version()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}\n"
    )
    print(row(*HEADINGS, "API"), flush=True)
    for objects in arguments.objects:
        for latency in arguments.latency:
            compare(Size.of(objects), latency, arguments, provider)


def compare(size: Size, latency: float, arguments: argparse.Namespace, provider: Path | None) -> None:
    """Run every operation, each by every contestant in turn, and print what it took."""
    with ExitStack() as stack:
        contestants = [
            stack.enter_context(
                rival(size, latency, arguments.rate, provider)
                if who == RIVAL and provider
                else ours(size, latency, arguments.rate, who)
            )
            for who in arguments.who
        ]
        for operation in OPERATIONS[: OPERATIONS.index(arguments.until) + 1]:
            for contestant in contestants:
                if operation not in contestant.operations:
                    continue
                took, api = contestant.measure(operation)
                print(line(size, latency, operation, contestant.name, took, api), flush=True)
                if arguments.calls:
                    for call, count in sorted(took.calls.items()):
                        print(f"    {count:6} {call}")
                if contestant.name != RIVAL:
                    each, once = CALLS[operation]
                    assert took.total <= each * size.total + once, took.calls


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="script/bench", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--objects", type=counts, default=[10, 100, 1000, 3000], help="how many, by commas")
    parser.add_argument("--latency", type=milliseconds, default=[0.0], help="what a request waits, by commas")
    parser.add_argument("--rate", type=float, help="requests a second that Stripe takes (default: any)")
    everybody = ", ".join(EVERYBODY)
    parser.add_argument("--who", type=chosen(EVERYBODY), default=[OURS], help=f"{everybody}: by commas")
    parser.add_argument("--until", choices=OPERATIONS, default=OPERATIONS[-1], help="the last operation")
    parser.add_argument("--rival-provider", metavar="FILE", help="the built terraform-provider-stripe")
    parser.add_argument("--calls", action="store_true", help="print each operation's calls too")
    return parser.parse_args()


def counts(text: str) -> list[int]:
    found = [int(each.replace("_", "")) for each in text.split(",")]
    if min(found) < 8:
        raise argparse.ArgumentTypeError(f"{min(found)} objects are too few for one of each kind: at least 8")
    return found


def milliseconds(text: str) -> list[float]:
    return [float(each) for each in text.split(",")]


def chosen(known: tuple[str, ...]) -> Callable[[str], list[str]]:
    def of(text: str) -> list[str]:
        names = text.split(",")
        if unknown := [name for name in names if name not in known]:
            raise argparse.ArgumentTypeError(f"{unknown[0]} is none of {', '.join(known)}")
        return names

    return of


if __name__ == "__main__":
    main()
