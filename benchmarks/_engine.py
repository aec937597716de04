"""What the engine benchmarks share: a program of n objects, a project to run it in, its calls and its time."""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from sandbox import Request, Sandbox
from tests.engine.conftest import Project, engine_path

#: A catalogue with its customers: of a thousand objects 10 meters, 90 products, 300 of each other kind.
PROGRAM = '''"""A benchmark's program: {total} objects."""
from components.program import program
from components.resources import Customer, Meter, Price, Product, Subscription

with program():
    meters = [
        Meter(
            f"meter-{{n}}", display_name=f"{{n}}", event_name=f"event_{{n}}", default_aggregation={{"formula": "sum"}}
        )
        for n in range({meters})
    ]
    products = [Product(f"product-{{n}}", name=f"Product {{n}}", unit_label="token") for n in range({products})]
    prices = []
    for n in range({prices}):
        product = products[n % {products}]
        if n % 2:
            prices.append(Price(
                f"price-{{n}}", product=product.id, currency="usd", lookup_key=f"price:{{n}}",
                unit_amount_decimal="10000", recurring={{"interval": "month", "usage_type": "licensed"}},
            ))
        else:
            prices.append(Price(
                f"price-{{n}}", product=product.id, currency="usd", lookup_key=f"price:{{n}}", billing_scheme="tiered",
                tiers_mode="graduated",
                tiers=[
                    {{"up_to": 1000, "unit_amount_decimal": "0"}}, {{"up_to": "inf", "unit_amount_decimal": "0.04"}},
                ],
                recurring={{"interval": "month", "usage_type": "metered", "meter": meters[n % {meters}].id}},
            ))
    for n in range({customers}):
        customer = Customer(f"customer-{{n}}", name=f"Customer {{n}}", email=f"customer-{{n}}@example.com")
        if n < {subscriptions}:
            Subscription(
                f"subscription-{{n}}", customer=customer.id, collection_method="send_invoice", days_until_due=30,
                items={{"usage": {{"price": prices[2 * n % {prices}].id}},
                       "license": {{"price": prices[(2 * n + 1) % {prices}].id, "quantity": 3}}}},
            )
'''


#: For one engine command; a busy machine takes minutes over a thousand objects.
TIMEOUT_SECONDS = 1800.0


@dataclass(frozen=True)
class Size:
    """How many objects of each kind."""

    meters: int
    products: int
    prices: int
    customers: int
    subscriptions: int

    @classmethod
    def of(cls, total: int) -> Size:
        """The same mix for another total."""
        meters, products, each = max(1, total // 100), max(1, total * 9 // 100), max(2, total * 3 // 10 // 2 * 2)
        return cls(meters, products, each, total - meters - products - 2 * each, each)

    @property
    def total(self) -> int:
        return self.meters + self.products + self.prices + self.customers + self.subscriptions

    def program(self) -> str:
        return PROGRAM.format(total=self.total, **vars(self))


@dataclass(frozen=True)
class Measured:
    """What one command took.

    Attributes:
        seconds, processor: on the clock, and of all its processes' time on the processor.
        calls: what it asked of Stripe: method and path without ids -> how often.
        refused: answers that were no success (429 among them).
        parts: seconds on the processor of each part: engine, program, providers, other; empty where there is no /proc.
    """

    seconds: float
    processor: float
    calls: Counter[str]
    refused: int
    parts: dict[str, float]

    @property
    def total(self) -> int:
        return self.calls.total()


def options(description: str) -> argparse.Namespace:
    """The command line of every benchmark here."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--objects", type=int, default=1000, help="how many objects (default: %(default)s)")
    return parser.parse_args()


@contextmanager
def project(program: str) -> Iterator[Project]:
    """A project in sandbox mode, in a temporary folder."""
    with tempfile.TemporaryDirectory(prefix="benchmark-") as name:
        folder = Path(name)
        (folder / "Pulumi.yaml").write_text("name: stripe-pricing\nruntime: python\n")
        (folder / "state").mkdir()
        environ = {key: value for key, value in os.environ.items() if not key.startswith(("PULUMI_", "STRIPE_"))}
        environ |= {
            "PATH": engine_path(),
            "VIRTUAL_ENV": str(Path(sys.executable).parents[1]),
            "PULUMI_BACKEND_URL": f"file://{folder / 'state'}",
            "PULUMI_CONFIG_PASSPHRASE": "",
            "PULUMI_SKIP_UPDATE_CHECK": "true",
            "PULUMI_HOME": str(folder / "home"),
            "STRIPE_SANDBOX_FILE": str(folder / "stripe.db"),
            "NO_PROXY": "127.0.0.1",
            "no_proxy": "127.0.0.1",
        }
        # As everywhere but in some containers; every run would compile the project's modules.
        environ.pop("PYTHONDONTWRITEBYTECODE", None)
        made = Project(folder, environ, timeout=TIMEOUT_SECONDS)
        made.write(program)
        made.pulumi("stack", "init", made.stack).ok()
        made.config("stripe-pricing:mode", "sandbox")
        yield made


#: Lets the engine write its state once, at the end: https://www.pulumi.com/docs/iac/cli/environment-variables/
WITHOUT_CHECKPOINTS = {"PULUMI_SKIP_CHECKPOINTS": "true"}


def built(made: Project) -> None:
    """Bring a project's objects into its embedded sandbox, as fast as it goes."""
    made.up(env=WITHOUT_CHECKPOINTS).ok()


def measured(made: Project, verb: str, *arguments: str, env: dict[str, str] | None = None) -> Measured:
    """Run one engine command, which must succeed, and say what it took."""
    command = ["pulumi", verb, "--stack", made.stack, "--suppress-progress", "--non-interactive", "--color", "never"]
    return run([*command, *arguments], made.folder, {**made.environ, **(env or {})}, made.sandbox_file)


def run(command: Sequence[str], folder: Path, environ: dict[str, str], sandbox_file: Path) -> Measured:
    """Run a command that works on a sandbox file, and must succeed; say what it took."""
    sandbox = Sandbox(sandbox_file)
    try:
        _control(sandbox, "DELETE", "requests")
        before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        with tempfile.TemporaryFile("w+") as output:
            process = subprocess.Popen(
                command, cwd=folder, env=environ, stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
            parts = _watch(process)
            seconds, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
            output.seek(0)
            text = output.read()
        lines = _control(sandbox, "GET", "requests")["data"]
    finally:
        sandbox.close()
    if process.returncode:
        # The steps of a thousand objects are no help; what went wrong stands at the end.
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}:\n{text[-3000:]}")
    calls = Counter(f"{line['method']} {_without_id(urlsplit(line['url']).path)}" for line in lines)
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    if parts:
        parts["other"] = max(0.0, processor - sum(parts[part] for part in ("engine", "program", "providers")))
    return Measured(seconds, processor, calls, sum(line["status"] >= 400 for line in lines), parts)


#: What a process of the tree is, by a word of its command line; the first that fits.
PARTS = {
    "pulumi.dynamic": "providers",
    "terraform-provider-": "providers",
    "pulumi-language-python-exec": "program",
    "pulumi-language-python": "other",
    "pulumi-resource-": "other",
    "pulumi ": "engine",
    "terraform ": "engine",
}
#: A process that ends loses at most so much of its time to "other".
SAMPLE_SECONDS = 0.2
TICKS = os.sysconf("SC_CLK_TCK")


def _watch(process: subprocess.Popen[bytes]) -> dict[str, float]:
    """Wait for a process; the seconds that it and its descendants had on the processor, by part."""
    took: dict[int, tuple[str, float]] = {}
    while True:
        try:
            process.wait(SAMPLE_SECONDS)
        except subprocess.TimeoutExpired:
            _sample(process.pid, took)
            continue
        break
    return (
        {part: sum(seconds for of, seconds in took.values() if of == part) for part in PARTS.values()} if took else {}
    )


def _sample(root: int, took: dict[int, tuple[str, float]]) -> None:
    """Note what a process and its descendants have had so far."""
    parents, seconds = dict[int, int](), dict[int, float]()
    for name in os.listdir("/proc") if os.path.isdir("/proc") else ():
        if name.isdigit():
            with suppress(OSError):
                fields = Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()
                parents[int(name)] = int(fields[1])
                seconds[int(name)] = (int(fields[11]) + int(fields[12])) / TICKS
    for pid in parents:
        above = pid
        while above != root and above in parents:
            above = parents[above]
        if above == root:
            with suppress(OSError):
                words = Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
                part = next((part for word, part in PARTS.items() if word in words), "other")
                # One that has ended and is not yet waited for has no command line.
                took[pid] = part if words else took.get(pid, (part,))[0], seconds[pid]


@contextmanager
def served(file: Path, *, latency: float = 0.0, rate: float | None = None) -> Iterator[tuple[str, int]]:
    """The sandbox of a file on a port, in a process of its own: its address and the process's id.

    Args:
        latency: how long each request waits, in milliseconds.
        rate: how many requests a second it takes in test mode; 429 beyond that.
    """
    sandbox = Sandbox(file)
    _control(sandbox, "POST", "rate_limits", test=rate)
    sandbox.close()
    command = [sys.executable, "-m", "sandbox.cli", "serve", "--port", "0", "--file", str(file), f"--latency={latency}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().split()[2].rstrip(","), process.pid
        finally:
            process.terminate()


def processor_seconds(pid: int) -> float:
    """What a running process has had on the processor; 0 where there is no /proc."""
    took: dict[int, tuple[str, float]] = {}
    _sample(pid, took)
    return took[pid][1] if pid in took else 0.0


def _control(sandbox: Sandbox, method: str, name: str, **params: object) -> dict[str, Any]:
    answer = sandbox.handle(Request(method, f"/_sandbox/{name}", {}, json.dumps(params).encode() if params else b""))
    assert answer.status == 200, answer.body
    parsed: dict[str, Any] = json.loads(answer.body)
    return parsed


def _without_id(path: str) -> str:
    head, _, last = path.rpartition("/")
    return f"{head}/*" if "_" in last and last not in ("meter_events", "subscription_items") else path


def show(title: str, took: Measured) -> None:
    """Print one command's figures."""
    print(f"{title}: {took.seconds:.1f} s ({took.processor:.1f} s on the processor), {took.total} calls")
    for call, count in sorted(took.calls.items()):
        print(f"    {count:6} {call}")
