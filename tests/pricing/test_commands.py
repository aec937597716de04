"""What holds for every command of `pricing` that asks Stripe."""

from __future__ import annotations

from pathlib import Path

import pytest

from pricing.cli import main

PROGRAM = """
from components.plan import PublishedPlan
from components.pricing import Fee, Plan, Version
from components.program import program

with program():
    dearer = Version(Plan("Pro", fees=Fee("12.00")), rollout="keep")
    PublishedPlan("pro", {1: Plan("Pro", fees=Fee("10.00")), 2: dearer})
"""


@pytest.mark.parametrize(
    "command", ["impact pro@1 pro@2", "rehearse", "rollout pro@2", "verify", "adopt", "export --to terraform"]
)
def test_a_key_that_only_the_engine_can_decrypt_is_asked_for_in_one_line(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "Pulumi.yaml").write_text("name: shop\nruntime: python\n")
    secret = "config:\n  stripe-pricing:mode: test\n  stripe-pricing:apiKey:\n    secure: v1:nonce:sealed\n"
    (tmp_path / "Pulumi.test.yaml").write_text(secret)
    (tmp_path / "__main__.py").write_text(PROGRAM)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("STRIPE_API_KEY", raising=False)
    assert main([*command.split(), "--stack", "test"]) == 3
    said = capsys.readouterr().err
    assert said == (
        "pricing: needs a key of stack test: set STRIPE_API_KEY, from the stack's config with "
        'STRIPE_API_KEY="$(pulumi config get stripe-pricing:apiKey --stack test)"\n'
    )
