"""Keep what a version leaves behind: `python -m tests.engine.upgrades.keep COMMIT`, as a step of every release.

Runs `program.py` on that version's components, with the real engine on that version's sandbox, and writes next to this
file the stack's state (`<day>-<commit>.json`) and the sandbox's file (`<day>-<commit>.db.gz`).
tests/engine/test_upgrades.py then previews and applies the same program over them with the components of today.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import sqlite3
import subprocess
import sys
import tarfile
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests.engine.conftest import ROOT, engine_path

HERE = Path(__file__).parent
PROGRAM = HERE / "program.py"
#: What a state says of the machine that it was made on.
OF_THE_MACHINE = ("sourcePosition", "stackTrace")


def keep(commit: str) -> Path:
    """Make both files. Returns the state's."""
    day, short = run("git", "log", "-1", "--format=%cs %h", commit, cwd=ROOT).split()
    with TemporaryDirectory() as made:
        folder = Path(made)
        archive = subprocess.run(["git", "archive", commit], cwd=ROOT, check=True, capture_output=True).stdout
        with tarfile.open(fileobj=io.BytesIO(archive)) as tree:
            tree.extractall(folder, filter="data")
        (folder / "Pulumi.yaml").write_text("name: stripe-pricing\nruntime: python\n")
        (folder / "__main__.py").write_text(PROGRAM.read_text())
        (folder / "state").mkdir()
        environ = {key: value for key, value in os.environ.items() if not key.startswith(("PULUMI_", "STRIPE_"))} | {
            "PATH": engine_path(),
            "PULUMI_BACKEND_URL": f"file://{folder / 'state'}",
            "PULUMI_CONFIG_PASSPHRASE": "",
            "PULUMI_HOME": str(folder / "home"),
            "PULUMI_SKIP_UPDATE_CHECK": "true",
            "STRIPE_SANDBOX_FILE": str(folder / "stripe.db"),
        }
        run("pulumi", "stack", "init", "dev", "--non-interactive", cwd=folder, env=environ)
        run("pulumi", "up", "--stack", "dev", "--yes", "--skip-preview", "--non-interactive", cwd=folder, env=environ)
        exported = json.loads(run("pulumi", "stack", "export", "--stack", "dev", cwd=folder, env=environ))
        target = HERE / f"{day}-{short}.json"
        target.write_text(json.dumps(without_the_machine(exported), indent=1, sort_keys=True) + "\n")
        assert str(folder) not in target.read_text()
        database = sqlite3.connect(folder / "stripe.db")
        database.execute("PRAGMA journal_mode = DELETE")
        database.execute("VACUUM")
        database.close()
        # Without a name and a time the same file is the same bytes.
        target.with_suffix(".db.gz").write_bytes(gzip.compress((folder / "stripe.db").read_bytes(), 9, mtime=0))
    return target


def run(*command: str, cwd: Path, env: dict[str, str] | None = None) -> str:
    done = subprocess.run(command, cwd=cwd, env=env, check=False, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


def without_the_machine(exported: dict[str, Any]) -> dict[str, Any]:
    """The exported state without paths, and without the stack's secrets manager: nothing in it is secret."""
    deployment = exported["deployment"]
    deployment.pop("secrets_providers", None)
    for resource in deployment["resources"]:
        for name in OF_THE_MACHINE:
            resource.pop(name, None)
    return exported


if __name__ == "__main__":
    for each in sys.argv[1:] or ["HEAD"]:
        print(keep(each))
