"""Every command in the README, run in its order as a newcomer would, in a copy of the checkout."""

from __future__ import annotations

import re
import socket
from pathlib import Path

import pytest

from tests.engine.conftest import ROOT
from tests.engine.newcomer import Checkout

README = (ROOT / "README.md").read_text()
#: Blocks of commands; what they print is in blocks marked `text`.
COMMANDS = [
    line for block in re.findall(r"^```sh\n(.*?)^```", README, re.MULTILINE | re.DOTALL) for line in block.splitlines()
]
#: Runs beside the tests already: it is what runs them.
ELSEWHERE = {"script/test"}


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def without_prices(text: str) -> str:
    """The text without ids, which differ every time."""
    return re.sub(r"price_\w+", "price_", text)


def test_the_two_commands_come_first() -> None:
    assert COMMANDS[:2] == ["script/up", "script/test"]


@pytest.mark.timeout(900)
def test_every_command_of_the_readme(tmp_path: Path) -> None:
    checkout = Checkout.copied_to(tmp_path)
    bash = checkout.bash
    first = bash("script/up")
    assert re.search(r"total +310\.00 USD", first)
    assert "Stripe counted 26,000 alpaca_ai_tokens" in first
    assert "Applied: 10 resources changed. Sent: 26 meter events." in first
    # What the README shows is what it prints.
    table = first[first.index("The next invoice") : first.index("Applied:")]
    for line in filter(None, map(str.strip, table.splitlines())):
        assert line in README, f"the README does not show: {line}"

    again = bash("script/up")
    assert "no changes" in again
    assert "Sent: nothing" in again

    customer = re.search(r"cus_\w+", again)
    assert customer
    port = free_port()
    commands = [line.replace("cus_...", customer[0]).replace("12121", str(port)) for line in COMMANDS]
    rest = [line for line in commands if line not in ELSEWHERE and line != "script/up"]
    test_mode = next(line for line in rest if "sk_test_..." in line)
    at = next(number for number, line in enumerate(rest) if line.startswith("pricing estimate"))
    estimate = rest[at - 1 : at + 1]
    at = rest.index("export STRIPE_MODE=sandbox")
    usage_block = rest[at - 1 : at + 4]
    serve, through_port = rest[-2:]
    pulumi = [line for line in rest if line.startswith("script/pulumi")]
    run = [test_mode, *estimate, *usage_block, serve, through_port, *pulumi]
    assert sorted(run) == sorted(rest), "a command is not run here"

    preview, up, refresh, destroy = pulumi
    assert "310.00 USD" in bash("\n".join(estimate))
    text = bash("\n".join(usage_block))
    assert re.search(r"^delivered: [0-9a-f]+$", text, re.MULTILINE)
    assert re.search(r"27,200", text)
    assert "no real customer is billed" in text

    [version] = re.findall(r"^(\{1: first, .*\})$", README, re.MULTILINE)
    checkout.edit("__main__.py", "Overage, Plan, Usage", "Overage, Plan, Usage, Version")
    checkout.edit("__main__.py", '"alpaca-ai", first,', f'"alpaca-ai", {version},')
    text = without_prices(bash(preview))
    shown = re.search(r"^```text\n( +~ stripe-pricing:index.*?)^```", README, re.MULTILINE | re.DOTALL)
    assert shown
    for line in without_prices(shown[1]).splitlines():
        assert line in text, f"the preview does not print what the README shows: {line}"
    bash(up)
    assert "unchanged" in bash(refresh)
    assert "12 deleted" in bash(destroy)

    # A sandbox that is emptied under its stack.
    bash("script/up; source .venv/bin/activate; sandbox reset")
    stopped = bash("! script/up")
    advice = re.search(r"start over: (script/pulumi .*?), then script/up", " ".join(stopped.split()))
    assert advice, stopped
    bash(f"{advice[1]}; script/up")
    assert (checkout.folder / "Pulumi.dev.yaml").exists()

    # A served sandbox stands in for Stripe where the README's reader has a key and an account.
    server = (
        f"{serve} >served.log 2>&1 & server=$!; trap 'kill $server' EXIT; until [ -s served.log ]; do sleep 0.1; done"
    )
    text = bash(f"source .venv/bin/activate; {server}; {through_port}")
    assert "Stripe's test mode" in text
    assert re.search(r"total +370\.00 USD", text)  # 3 x 120.00 + 10.00
    through = f"export STRIPE_API_BASE=http://127.0.0.1:{port}; {test_mode.replace('sk_test_...', 'sk_test_readme')}"
    assert "no changes" in bash(f"source .venv/bin/activate; {server}; {through}")
