"""The scripts of the workflows, as GitHub runs them: in a checkout, with a state and keys from the environment."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import stripe

from sandbox.client import SandboxHTTPClient
from tests.engine.conftest import engine_path
from tests.engine.newcomer import Checkout


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Checkout]:
    """A checkout, whose stack `dev` is in a state of its own."""
    there = Checkout.copied_to(tmp_path_factory.mktemp("checkout"))
    (there.folder / "elsewhere").mkdir()
    there.bash("script/pulumi stack init dev", **environ(there))
    yield there
    shutil.rmtree(there.folder)


def environ(checkout: Checkout) -> dict[str, str]:
    """What the environment of a job has; keys that it does not have arrive empty."""
    return {
        "PATH": engine_path(),
        "PULUMI_BACKEND_URL": f"file://{checkout.folder}/elsewhere",
        "PULUMI_CONFIG_PASSPHRASE_FILE": "/dev/null",
        "PULUMI_CONFIG_PASSPHRASE": "",
        "PULUMI_ACCESS_TOKEN": "",
        "STRIPE_API_KEY": "",
        "STRIPE_SANDBOX_FILE": str(checkout.folder / "stripe.db"),
        "PRICING_STACK": "dev",
        "GITHUB_STEP_SUMMARY": str(checkout.folder / "summary.md"),
    }


def test_a_change_is_reviewed_applied_and_watched(checkout: Checkout) -> None:
    there = environ(checkout)
    summary = checkout.folder / "summary.md"

    # Before anything is applied, all of it is new.
    checkout.bash("script/ci/review out", **there)
    assert "**`alpaca-ai` is new** and offers v1." in (checkout.folder / "out/comment.md").read_text()
    assert (checkout.folder / "out/code").read_text() == "0\n"
    assert "## Pricing review: `dev`" in summary.read_text()
    assert "+ 10 created" in checkout.bash("script/ci/apply dev", **there)
    assert "10 unchanged" in checkout.bash("script/ci/apply dev", **there)

    # Nothing to say: an empty comment, and code 0.
    checkout.bash("script/ci/review out", **there)
    assert (checkout.folder / "out/comment.md").read_text() == ""

    # At night nothing differs, until somebody changes a product in Stripe.
    told = checkout.bash("script/ci/nightly dev", **there)
    assert "pulumi refresh: no difference in dev\npricing verify: no difference in dev\n" in told
    client = stripe.StripeClient("sk_test_x", http_client=SandboxHTTPClient(checkout.folder / "stripe.db"))
    product = client.v1.products.list().data[0].id
    client.v1.products.update(product, {"name": "Renamed by hand"})
    done = checkout.run("script/ci/nightly dev", **there)
    assert done.returncode == 2, done.stdout + done.stderr
    assert '~ name: "Alpaca.ai" => "Renamed by hand"' in done.stdout
    assert "pulumi refresh: dev differs\npricing verify: dev differs\n" in summary.read_text()
    client.v1.products.update(product, {"name": "Alpaca.ai"})


def test_two_checkouts_need_neither_a_state_nor_keys(checkout: Checkout, tmp_path: Path) -> None:
    base = tmp_path / "base"
    base.mkdir()
    for name in ("Pulumi.yaml", "Pulumi.prod.yaml", "__main__.py"):
        shutil.copy(checkout.folder / name, base / name)
    checkout.edit("__main__.py", "Fee, Overage, Plan, Usage\n", "Fee, Overage, Plan, Usage, Version\n")
    second = '{1: first, 2: Version(Plan("Alpaca.ai", fees="120.00", usage=first.usage), rollout="at_renewal")}'
    checkout.edit("__main__.py", '"alpaca-ai", first,', f'"alpaca-ai", {second},')
    try:
        checkout.bash(f"script/ci/review out --base {base}", PATH=engine_path())
        comment = (checkout.folder / "out/comment.md").read_text()
        # `prod` by default.
        assert comment.startswith("<!-- pricing review stripe-pricing/prod -->")
        assert "**`alpaca-ai` offers v2 instead of v1.** Rollout `at_renewal`" in comment
        assert "300.00 USD a month → 360.00 USD a month at its renewal; until then nothing changes" in comment
        refused = checkout.run(f"script/ci/review out --base {base}", PATH=engine_path(), PRICING_STACK="nope")
        assert refused.returncode == 3
        assert "there is no Pulumi.nope.yaml in " in (checkout.folder / "out/log").read_text()
        assert (checkout.folder / "out/code").read_text() == "3\n"
        assert "there is no Pulumi.nope.yaml" in (checkout.folder / "out/comment.md").read_text()
    finally:
        checkout.edit("__main__.py", second, "first")
        checkout.edit("__main__.py", "Fee, Overage, Plan, Usage, Version\n", "Fee, Overage, Plan, Usage\n")


@pytest.mark.parametrize("command", ["script/ci/apply dev", "script/ci/nightly dev", "script/ci/review out"])
def test_without_a_state_nothing_is_done(checkout: Checkout, command: str) -> None:
    done = checkout.run(command, **{**environ(checkout), "PULUMI_BACKEND_URL": ""})
    assert done.returncode == 3
    assert done.stdout == ""
    assert "there is no state: set PULUMI_BACKEND_URL or PULUMI_ACCESS_TOKEN" in done.stderr
