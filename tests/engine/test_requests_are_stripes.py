"""Every v1 request of a whole life through the real engine is one that stripe-mock, Stripe's own validator, takes."""

from __future__ import annotations

import json
import subprocess

import pytest

from tests.engine.conftest import Project
from tests.engine.support import add_second_version
from tests.sandbox.stripe_mock import replay, running


@pytest.mark.timeout(900)
def test_up_update_refresh_usage_and_destroy(alpaca: Project) -> None:
    alpaca.up().ok()
    outputs = alpaca.outputs()
    customer, subscription = (
        outputs["customers"]["alpaca-ai-first-customer"],
        outputs["subscriptions"]["alpaca-ai-first-customer"],
    )
    for words in (
        ["send", "alpaca_ai_tokens", "--customer", customer, "--value", "26000"],
        ["summary", "alpaca_ai_tokens", "--customer", customer, "--group", "day"],
        ["preview-invoice", "--subscription", subscription],
    ):
        run(alpaca, "usage", *words)
    add_second_version(alpaca)
    alpaca.edit("seats=3", "seats=5")
    alpaca.edit('name="First Customer"', 'name="First Customer Inc."')
    alpaca.up().ok()
    alpaca.refresh().ok()
    alpaca.destroy().ok()

    lines = [json.loads(line) for line in run(alpaca, "sandbox", "requests").splitlines()]
    assert [(line["method"], line["url"]) for line in lines if line["status"] != 200] == []
    assert {"POST", "GET", "DELETE"} <= {line["method"] for line in lines}
    with running() as address:
        sent, complaints = replay(address, lines)
    assert complaints == []
    assert sent >= 20


def run(project: Project, *words: str) -> str:
    done = subprocess.run(
        words,
        cwd=project.folder,
        env={**project.environ, "STRIPE_MODE": "sandbox"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, f"{' '.join(words)}:\n{done.stdout}\n{done.stderr}"
    return done.stdout
