"""What a newcomer does in the first hour: asks for help, renames, breaks something. It works, or says one sentence."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import pty
import re
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.engine.conftest import ROOT, Project
from tests.engine.newcomer import Checkout

SCRIPTS = sorted(file.name for file in (ROOT / "script").iterdir() if file.is_file() and not file.suffix)
VERSION = re.findall(r"^PULUMI_ENGINE_VERSION=(\S+)$", (ROOT / "script/bootstrap").read_text(), re.MULTILINE)[0]
PLATFORMS = ("darwin-arm64", "darwin-x64", "linux-arm64", "linux-x64")


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    """In a folder whose name has spaces, as on many desktops."""
    return Checkout.copied_to(tmp_path / "my pricing project")


@pytest.fixture
def bare(checkout: Checkout) -> Checkout:
    """Without an environment, and with nothing on PATH but what every machine has."""
    (checkout.folder / ".venv").unlink()
    (checkout.folder / "bin").mkdir()
    return checkout


def program(checkout: Checkout, name: str, text: str) -> None:
    """Put a command on the PATH that `path` gives."""
    file = checkout.folder / "bin" / name
    file.write_text(f"#!/bin/bash\n{text}\n")
    file.chmod(0o755)


def path(checkout: Checkout) -> str:
    return f"{checkout.folder}/bin:/usr/bin:/bin"


# -- help, and what is not understood ---------------------------------------------------------------------------------


@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_says_what_a_script_does_and_does_nothing(script: str, flag: str, bare: Checkout) -> None:
    before = set(bare.folder.iterdir())
    done = bare.run(f"script/{script} {flag}", PATH=path(bare))
    assert (done.returncode, done.stderr) == (0, "")
    assert f"\n  script/{script}" in done.stdout
    assert "#" not in done.stdout
    assert set(bare.folder.iterdir()) == before


@pytest.mark.parametrize("script", ["bootstrap", "up"])
def test_an_argument_that_is_not_understood_does_nothing(script: str, bare: Checkout) -> None:
    said = bare.refused(f"script/{script} --stack prod", PATH=path(bare))
    assert (
        said == f"script/{script}: takes no arguments, and got: --stack prod. script/{script} --help says what it does."
    )
    assert not (bare.folder / ".venv").exists()


def test_a_missing_version_is_asked_for(checkout: Checkout) -> None:
    assert checkout.refused("script/try-stripe") == (
        "script/try-stripe: needs a version of stripe-python, such as 15.6.2; script/try-stripe --help says more."
    )


def test_a_named_python_that_is_none_is_not_passed_over(bare: Checkout) -> None:
    said = bare.refused("script/up", PYTHON="/usr/bin/false", PATH=path(bare))
    assert said == "script/up: PYTHON=/usr/bin/false is not a Python 3.11 or newer. Name another one, or unset PYTHON."


# -- the environment --------------------------------------------------------------------------------------------------


def test_a_terminal_shows_how_far_the_environment_is(bare: Checkout) -> None:
    # It waits 30 seconds until its line was seen, and then fails, so that nothing is installed.
    wait = "for i in {1..300}; do if [ -e seen ]; then break; fi; sleep 0.1; done"
    program(bare, "uv", f'[ "$1" = venv ] && exit; echo Downloading a-package; {wait}; exit 1')
    child, screen = pty.fork()
    if not child:
        os.chdir(bare.folder)
        os.execve("/bin/bash", ["bash", "script/bootstrap"], {"PATH": path(bare), "HOME": str(bare.folder)})
    shown = b""
    try:
        while not re.search(rb"\d+s  Downloading a-package", shown):
            # A terminal whose programs have all ended cannot be read.
            with contextlib.suppress(OSError):
                more = os.read(screen, 1024)
                shown += more
                if more:
                    continue
            pytest.fail(f"the terminal showed no progress, only {shown.decode()!r}")
    finally:
        (bare.folder / "seen").touch()
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        os.close(screen)
    assert status == 1
    assert re.match(rb"Setting up the Python environment in .venv: \d+ packages, about a minute, once.", shown)


def test_what_stopped_the_environment_is_shown(bare: Checkout) -> None:
    program(bare, "uv", 'echo "no route to the index"; exit 1')
    done = bare.run("script/up", PATH=path(bare))
    assert done.returncode == 1
    assert "no route to the index\nscript/up: could not set up the Python environment; the lines above" in done.stderr
    assert not (bare.folder / ".venv").exists()


# -- the engine -------------------------------------------------------------------------------------------------------


@pytest.fixture
def without_engine(checkout: Checkout) -> Checkout:
    """An environment, no Pulumi, no Go, and a `curl` that gives `archive.tar.gz`, or `published` for checksums."""
    (checkout.folder / "bin").mkdir()
    (checkout.folder / "script/engine/checksums").unlink(missing_ok=True)
    gives = 'case "$*" in *-checksums.txt*) cp published "${@: -1}" ;; *) cp archive.tar.gz "${@: -1}" ;; esac'
    program(checkout, "curl", f'echo "$*" >>curl.log; {gives}')
    files = checkout.folder / "pulumi"
    files.mkdir()
    for name, text in {"pulumi": f"echo v{VERSION}", "pulumi-language-python": ":"}.items():
        (files / name).write_text(f"#!/bin/sh\n{text}\n")
        (files / name).chmod(0o755)
    with tarfile.open(checkout.folder / "archive.tar.gz", "w:gz") as archive:
        archive.add(files, "pulumi")
    return checkout


def set_up(checkout: Checkout) -> subprocess.CompletedProcess[str]:
    # With a backend of one's own no state is made, which this `pulumi` could not.
    # The interpreter of the environment that is there: another one would make it anew.
    cache, python = str(checkout.folder / "cache"), f"{checkout.folder}/.venv/bin/python"
    more = {"XDG_CACHE_HOME": cache, "PYTHON": python, "PULUMI_BACKEND_URL": "file:///"}
    return checkout.run("script/bootstrap", PATH=path(checkout), **more)


def checksums(checkout: Checkout, text: str) -> None:
    """Publish a checksum for the archive of every platform."""
    names = [f"pulumi-v{VERSION}-{platform}.tar.gz" for platform in PLATFORMS]
    (checkout.folder / "published").write_text("".join(f"{text}  {name}\n" for name in names))


def real_checksum(checkout: Checkout) -> str:
    return hashlib.sha256((checkout.folder / "archive.tar.gz").read_bytes()).hexdigest()


def test_a_release_with_the_checksum_that_pulumi_publishes_is_used_and_named(without_engine: Checkout) -> None:
    checksums(without_engine, real_checksum(without_engine))
    done = set_up(without_engine)
    assert done.returncode == 0, done.stderr
    engine = without_engine.folder / f"cache/stripe-pricing/pulumi-{VERSION}/bin/pulumi"
    assert f"Pulumi {VERSION} ({engine}), Python " in done.stderr
    assert "the one that Pulumi publishes with its release on GitHub decides" in done.stderr
    published, archive = (without_engine.folder / "curl.log").read_text().splitlines()
    assert f"https://github.com/pulumi/pulumi/releases/download/v{VERSION}/pulumi-{VERSION}-checksums.txt" in published
    assert f"https://get.pulumi.com/releases/sdk/pulumi-v{VERSION}-" in archive
    # The second time nothing is downloaded.
    (without_engine.folder / "curl.log").unlink()
    assert set_up(without_engine).returncode == 0
    assert not (without_engine.folder / "curl.log").exists()


def test_a_pinned_checksum_decides_alone(without_engine: Checkout) -> None:
    checksums(without_engine, real_checksum(without_engine))
    (without_engine.folder / "published").rename(without_engine.folder / "script/engine/checksums")
    done = set_up(without_engine)
    assert done.returncode == 0, done.stderr
    assert "GitHub" not in done.stderr
    assert "checksums" not in (without_engine.folder / "curl.log").read_text()


@pytest.mark.parametrize("where", ["pinned", "published"])
def test_an_archive_of_another_checksum_is_not_used(where: str, without_engine: Checkout) -> None:
    checksums(without_engine, hashlib.sha256(b"another archive").hexdigest())
    source = f"https://github.com/pulumi/pulumi/releases/download/v{VERSION}/pulumi-{VERSION}-checksums.txt"
    if where == "pinned":
        source = "script/engine/checksums"
        (without_engine.folder / "published").rename(without_engine.folder / source)
    done = set_up(without_engine)
    assert done.returncode == 1
    assert f"does not have the checksum in {source}, and is not used" in done.stderr
    assert "go: go is not installed" in done.stderr
    assert not list((without_engine.folder / "cache").rglob("pulumi"))


def test_what_is_pinned_is_one_version() -> None:
    assert f"github.com/pulumi/pulumi/pkg/v3 v{VERSION}\n" in (ROOT / "script/engine/engine/go.mod").read_text()
    pinned = ROOT / "script/engine/checksums"
    archives = re.findall(r"^[0-9a-f]{64}  (\S+)$", pinned.read_text() if pinned.exists() else "", re.MULTILINE)
    assert sorted(archives) in ([], [f"pulumi-v{VERSION}-{platform}.tar.gz" for platform in PLATFORMS])
    for module in ("engine", "host"):
        assert "/go.mod h1:" in (ROOT / "script/engine" / module / "go.sum").read_text()


# -- the project ------------------------------------------------------------------------------------------------------


def customers(checkout: Checkout) -> dict[str, str]:
    found: dict[str, str] = json.loads(checkout.bash("script/pulumi stack output customers --stack dev"))
    return found


def test_a_renamed_project_and_a_renamed_subscriber(checkout: Checkout) -> None:
    checkout.edit("__main__.py", '"alpaca-ai-first-customer"', '"acme"')
    checkout.edit("__main__.py", '"First Customer"', '"[bold]Acme[/]"')
    first = checkout.run(f"cd / && '{checkout.folder}/script/up'")
    assert first.returncode == 0, first.stdout + first.stderr
    assert "a month of meter events for acme" in first.stdout
    assert "Sent: 26 meter events." in first.stdout
    there = customers(checkout)

    checkout.edit("Pulumi.yaml", "name: stripe-pricing", 'name: "acme-pricing" # ours')
    again = checkout.run("script/up")
    assert again.returncode == 0, again.stdout + again.stderr
    assert "The project is now called acme-pricing: moving stack dev of stripe-pricing to it." in again.stderr
    # The same objects under another owner: nothing is made, deleted or billed a second time.
    assert "7 to update" in again.stdout
    assert not re.search(r"to (create|delete|replace)", again.stdout)
    assert customers(checkout) == there
    assert "moving" not in checkout.run("script/up").stderr

    program = checkout.folder / "__main__.py"
    program.write_text(re.sub(r"subscribers = \[.*?\n    \]", "subscribers = []", program.read_text(), flags=re.DOTALL))
    assert checkout.bash("script/up").endswith(" Sent: nothing, the program has no subscribers.\n")
    checkout.edit("__main__.py", '    pulumi.export("event_name"', '    #pulumi.export("event_name"')
    assert "and __main__.py does not export both." in checkout.bash("script/up")


def test_a_backend_of_ones_own_without_the_stack(checkout: Checkout) -> None:
    backend = (checkout.folder / "team").as_uri()
    (checkout.folder / "team").mkdir()
    said = checkout.refused("script/up", PULUMI_BACKEND_URL=backend)
    assert said == (
        f"script/up: there is no stack dev in PULUMI_BACKEND_URL={backend}: "
        "create it with script/pulumi stack init dev, "
        "or unset PULUMI_BACKEND_URL to keep state in this checkout. For secrets under your own passphrase, first "
        "delete the line encryptionsalt from Pulumi.dev.yaml"
    )
    assert not (checkout.folder / ".pulumi-state").exists()


def test_a_backend_that_cannot_be_reached(checkout: Checkout) -> None:
    said = checkout.refused("script/up", PULUMI_BACKEND_URL="file:///there/is/no/such/folder")
    assert said.startswith("script/up: pulumi could not open stack dev: unable to open ")


def test_the_program_of_the_install_page_is_applied(new_project: Callable[..., Project]) -> None:
    (text,) = re.findall(r"^```python\n(# __main__\.py.*?)^```", (ROOT / "docs/install.md").read_text(), re.M | re.S)
    assert "+ 8 created" in new_project(text).up().ok().text
