"""A live stack needs a passphrase or a key service, and a backend of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from components.passphrase import opens
from components.safekeeping import objections
from components.settings import Settings

#: Made by Pulumi 3.255 with an empty passphrase, and with "x".
EMPTY = "v1:uL8tKK/TsS8=:v1:yQY1K7mcUZ+Dhanx:IVwTmCCt+TE3l4yXbtnciDTKdPWnZg=="
X = "v1:2vUi0gJBYG8=:v1:I+3RUhwVFNCbzGZF:xmDGa9h9nbEPCr3FoE9pCWpHPApNAA=="
SETTINGS = {mode: Settings.read({"mode": mode}.get, {}) for mode in ("sandbox", "test", "live")}


def test_a_passphrase_opens_its_own_salt_and_no_other() -> None:
    assert opens("", EMPTY)
    assert opens("x", X)
    assert not opens("", X)
    assert not opens("x", EMPTY)


@pytest.mark.parametrize("broken", ["", "v1", "v2:a:v1:b:c", "v1:!:v1:!:!", EMPTY[:-28], "v1:YQ==:v1:YQ==:YQ=="])
def test_what_is_no_salt_is_opened_by_nothing(broken: str) -> None:
    assert not opens("", broken)


@pytest.mark.parametrize(
    ("config", "environ", "objected"),
    [
        # Typed at Pulumi's prompt: nothing but the salt tells.
        (f"encryptionsalt: {EMPTY}", {}, True),
        (f"encryptionsalt: '{EMPTY}'", {"PULUMI_CONFIG_PASSPHRASE": ""}, True),
        (f"encryptionsalt: {X}", {}, False),
        # The engine has opened the stack with it.
        (f"encryptionsalt: {EMPTY}", {"PULUMI_CONFIG_PASSPHRASE": "x"}, False),
        (f"encryptionsalt: {EMPTY}", {"PULUMI_CONFIG_PASSPHRASE_FILE": "full"}, False),
        (f"encryptionsalt: {EMPTY}", {"PULUMI_CONFIG_PASSPHRASE_FILE": "empty"}, True),
        (f"encryptionsalt: {EMPTY}", {"PULUMI_CONFIG_PASSPHRASE_FILE": "not there"}, True),
        # Pulumi's order: the variable, then the file.
        (f"encryptionsalt: {EMPTY}", {"PULUMI_CONFIG_PASSPHRASE": "", "PULUMI_CONFIG_PASSPHRASE_FILE": "full"}, True),
        ("secretsprovider: awskms://alias/pricing\nencryptedkey: AQID", {"PULUMI_CONFIG_PASSPHRASE": ""}, False),
        # Pulumi Cloud keeps the secrets.
        ("config:\n  stripe-pricing:mode: live", {"PULUMI_CONFIG_PASSPHRASE": ""}, False),
        (None, {"PULUMI_CONFIG_PASSPHRASE": ""}, True),
        (None, {}, False),
    ],
)
def test_an_empty_passphrase_is_found_wherever_it_comes_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config: str | None, environ: dict[str, str], objected: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").write_text("x\n")
    (tmp_path / "empty").write_text("\n")
    if config is not None:
        (tmp_path / "Pulumi.prod.yaml").write_text(config + "\n")
    found = list(objections(SETTINGS["live"], tmp_path, "prod", environ))
    assert [("an empty passphrase opens" in each, "\n" in each) for each in found] == [(True, False)] * objected


@pytest.mark.parametrize(
    ("backend", "objected"),
    [
        ("file://{root}/.pulumi-state", True),
        ("file://{root}/x/../.pulumi-state/", True),
        ("file://{root}/mine", False),
        ("s3://bucket", False),
        ("", False),
    ],
)
def test_the_checkout_s_own_state_is_found(tmp_path: Path, backend: str, objected: bool) -> None:
    environ = {"PULUMI_BACKEND_URL": backend.format(root=tmp_path)}
    found = list(objections(SETTINGS["live"], tmp_path, "prod", environ))
    assert ["the state is the folder .pulumi-state" in each for each in found] == [True] * objected


def test_a_stack_that_is_not_live_or_asks_for_it_by_name_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "Pulumi.prod.yaml").write_text(f"encryptionsalt: {EMPTY}\n")
    environ = {"PULUMI_BACKEND_URL": f"file://{tmp_path}/.pulumi-state", "PULUMI_CONFIG_PASSPHRASE": ""}
    asked = {"mode": "live", "allowLocalState": "true", "allowEmptyPassphrase": "true"}
    for settings in (SETTINGS["sandbox"], SETTINGS["test"], Settings.read(asked.get, {})):
        assert list(objections(settings, tmp_path, "prod", environ)) == []
    assert len(list(objections(SETTINGS["live"], tmp_path, "prod", environ))) == 2
