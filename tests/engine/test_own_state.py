"""The scripts use the state and the passphrase of the user where there are any; an empty one never guards a secret."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.engine.newcomer import Checkout

KEY = "sk_" + "test_0123456789abcdef"
WHERE = (
    'script/pulumi whoami --verbose; source script/bootstrap; echo "passphrase: ${PULUMI_CONFIG_PASSPHRASE-not set}"'
)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    return Checkout.copied_to(tmp_path).folder


def bash(script: str, checkout: Path) -> str:
    return Checkout(checkout).bash(script)


def refused(script: str, checkout: Path) -> str:
    """What a script says that must fail."""
    return bash(f"if {{ {script}; }} >said 2>&1; then cat said; exit 1; fi; cat said", checkout)


@pytest.mark.parametrize(
    "own",
    [
        'export PULUMI_BACKEND_URL="file://$PWD/mine"',
        'pulumi login "file://$PWD/mine"',
        'printf "backend:\\n  url: file://$PWD/mine\\n" >>Pulumi.yaml',
        'mkdir elsewhere; export PULUMI_CREDENTIALS_PATH=$PWD/elsewhere; pulumi login "file://$PWD/mine"',
    ],
    ids=["environment", "login", "Pulumi.yaml", "credentials elsewhere"],
)
def test_a_backend_of_the_user_s_own_is_used_and_its_passphrase_left_alone(checkout: Path, own: str) -> None:
    engine = 'PATH="$PATH:$(script/bootstrap >/dev/null 2>&1; source script/bootstrap >/dev/null 2>&1; echo "$PATH")"'
    said = bash(f"mkdir mine; {engine}; {own}; rm -rf .pulumi-state; {WHERE}", checkout)
    assert f"Backend URL: file://{checkout}/mine" in said
    assert "passphrase: not set" in said
    assert not (checkout / ".pulumi-state").exists()


@pytest.mark.parametrize(
    "own",
    ["export PULUMI_CONFIG_PASSPHRASE=mine", "echo mine >phrase; export PULUMI_CONFIG_PASSPHRASE_FILE=$PWD/phrase"],
)
def test_a_passphrase_of_the_user_s_own_guards_the_checkout_s_state(checkout: Path, own: str) -> None:
    bash(f"{own}; script/pulumi config set --secret stripe-pricing:apiKey {KEY} --stack test", checkout)
    assert bash(f"{own}; script/pulumi config get stripe-pricing:apiKey --stack test", checkout).strip() == KEY
    assert KEY not in (checkout / "Pulumi.test.yaml").read_text()
    assert "incorrect passphrase" in refused("script/pulumi config get stripe-pricing:apiKey --stack test", checkout)


@pytest.mark.parametrize(
    "command",
    [
        f"config set --secret stripe-pricing:apiKey {KEY} --stack test",
        f"config set-all --secret stripe-pricing:apiKey={KEY} --stack=prod",
        f"--stack organization/stripe-pricing/dev config set some:token {KEY} --secret=true",
    ],
)
def test_no_secret_is_kept_under_the_empty_passphrase_of_the_checkout_s_state(checkout: Path, command: str) -> None:
    files = {file: file.read_text() for file in checkout.glob("Pulumi.*yaml")}
    said = refused(f"script/pulumi {command}", checkout)
    assert "the passphrase of this checkout's own state is empty" in said
    assert said.strip().count("\n") == 0
    assert KEY not in said
    assert {file: file.read_text() for file in checkout.glob("Pulumi.*yaml")} == files


def test_a_live_stack_is_not_made_in_the_checkout_s_state(checkout: Path) -> None:
    assert "no stack named 'prod'" in refused("script/pulumi preview --stack prod", checkout)
    assert "encryptionsalt" not in (checkout / "Pulumi.prod.yaml").read_text()
    assert bash("script/pulumi stack ls", checkout).split("\n")[1].startswith("dev")


def test_the_salts_that_are_committed_are_of_the_empty_passphrase_and_of_no_live_stack() -> None:
    root = Path(__file__).resolve().parents[2]
    listed = subprocess.run(["git", "ls-files", "Pulumi.*.yaml"], cwd=root, capture_output=True, check=True, text=True)
    texts = {name: (root / name).read_text() for name in listed.stdout.split()}
    assert sorted(texts) == ["Pulumi.dev.yaml", "Pulumi.prod.yaml", "Pulumi.test.yaml"]
    assert not any("secure:" in text for text in texts.values())
    assert [name for name, text in texts.items() if "encryptionsalt" in text and "mode: live" in text] == []
