"""The scripts use the user's own backend and passphrase, if any; an empty passphrase never protects a secret."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.engine.newcomer import Checkout

KEY = "sk_" + "test_0123456789abcdef"
#: The engine on PATH, without the state.
ENGINE = 'set +e; PATH=$(source script/bootstrap >/dev/null 2>&1; echo "$PATH"); set -e; rm -rf .pulumi-state'
WHERE = (
    'script/pulumi whoami --verbose; source script/bootstrap; echo "passphrase: ${PULUMI_CONFIG_PASSPHRASE-not set}"'
)


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout.copied_to(tmp_path)


def refused(checkout: Checkout, script: str) -> str:
    """What a script says that must fail, whichever command of it does."""
    return checkout.bash(f"if {{ {script}; }} >said 2>&1; then cat said; exit 1; fi; cat said")


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
def test_a_backend_of_the_user_s_own_is_used_and_its_passphrase_not_touched(checkout: Checkout, own: str) -> None:
    said = checkout.bash(f"mkdir mine; {ENGINE}; {own}; {WHERE}")
    assert f"Backend URL: file://{checkout.folder}/mine" in said
    assert "passphrase: not set" in said
    assert not (checkout.folder / ".pulumi-state").exists()


@pytest.mark.parametrize(
    "own",
    ["export PULUMI_CONFIG_PASSPHRASE=mine", "echo mine >phrase; export PULUMI_CONFIG_PASSPHRASE_FILE=$PWD/phrase"],
)
def test_a_passphrase_of_the_user_s_own_guards_the_checkout_s_state(checkout: Checkout, own: str) -> None:
    checkout.bash(f"{own}; script/pulumi config set --secret stripe-pricing:apiKey {KEY} --stack test")
    assert checkout.bash(f"{own}; script/pulumi config get stripe-pricing:apiKey --stack test").strip() == KEY
    assert KEY not in (checkout.folder / "Pulumi.test.yaml").read_text()
    assert "incorrect passphrase" in refused(checkout, "script/pulumi config get stripe-pricing:apiKey --stack test")


@pytest.mark.parametrize(
    "command",
    [
        f"config set --secret stripe-pricing:apiKey {KEY} --stack test",
        f"config set-all --secret stripe-pricing:apiKey={KEY} --stack=prod",
        f"--stack organization/stripe-pricing/dev config set some:token {KEY} --secret=true",
    ],
)
def test_no_secret_is_kept_under_the_empty_passphrase_of_the_checkout_s_state(checkout: Checkout, command: str) -> None:
    files = {file: file.read_text() for file in checkout.folder.glob("Pulumi.*yaml")}
    said = refused(checkout, f"script/pulumi {command}")
    assert "the passphrase of this checkout's own state is empty" in said
    assert said.strip().count("\n") == 0
    assert KEY not in said
    assert {file: file.read_text() for file in checkout.folder.glob("Pulumi.*yaml")} == files


def test_a_live_stack_is_not_made_in_the_checkout_s_state(checkout: Checkout) -> None:
    assert "no stack named 'prod'" in refused(checkout, "script/pulumi preview --stack prod")
    assert "encryptionsalt" not in (checkout.folder / "Pulumi.prod.yaml").read_text()
    assert checkout.bash("script/pulumi stack ls").split("\n")[1].startswith("dev")


def test_a_state_beside_which_a_killed_run_has_left_an_empty_file_can_be_read(checkout: Checkout) -> None:
    """Pulumi's own commands fail: `failed to load checkpoint: EOF`."""
    empty = ": >.pulumi-state/.pulumi/stacks/stripe-pricing/dev.json.attrs"
    said = checkout.bash(
        f"script/pulumi whoami; source script/bootstrap; {empty}; pulumi stack export -s dev 2>&1 || true"
    )
    assert "failed to load checkpoint: EOF" in said
    assert '"deployment"' in checkout.bash("script/pulumi stack export --stack dev")


def test_the_salts_that_are_committed_are_of_the_empty_passphrase_and_of_no_live_stack() -> None:
    root = Path(__file__).resolve().parents[2]
    listed = subprocess.run(["git", "ls-files", "Pulumi.*.yaml"], cwd=root, capture_output=True, check=True, text=True)
    texts = {name: (root / name).read_text() for name in listed.stdout.split()}
    assert sorted(texts) == ["Pulumi.dev.yaml", "Pulumi.prod.yaml", "Pulumi.test.yaml"]
    assert not any("secure:" in text for text in texts.values())
    assert [name for name, text in texts.items() if "encryptionsalt" in text and "mode: live" in text] == []


def test_a_login_of_the_user_s_own_takes_a_stack_as_the_sentence_says(checkout: Checkout) -> None:
    checkout.bash(f'{ENGINE}; mkdir mine; pulumi login "file://$PWD/mine"')
    said = checkout.refused("script/up")
    assert (
        "there is no stack dev in the backend of pulumi login or of Pulumi.yaml: create it with script/pulumi" in said
    )
    assert f"PULUMI_BACKEND_URL=file://{checkout.folder}/.pulumi-state script/up" in said
    assert "first delete the line encryptionsalt from Pulumi.dev.yaml" in said
    file = checkout.folder / "Pulumi.dev.yaml"
    file.write_text("".join(line for line in file.read_text().splitlines(True) if "encryptionsalt" not in line))
    mine = {"PULUMI_CONFIG_PASSPHRASE": "mine"}
    checkout.bash("script/pulumi stack init dev --no-select", **mine)
    assert "310.00 USD" in checkout.bash("script/up", **mine)
    assert len(list((checkout.folder / "mine").rglob("dev.json"))) == 1
