"""A newcomer's checkout: the repository's files in another folder, and a shell without our environment."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.engine.conftest import ROOT

TIMEOUT = 400


@dataclass
class Checkout:
    """The tracked and the new files of this checkout, with this environment linked in as `.venv`."""

    folder: Path

    @classmethod
    def copied_to(cls, folder: Path) -> Checkout:
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT,
            capture_output=True,
            check=True,
            text=True,
        ).stdout
        for name in filter(None, listed.split("\0")):
            if (ROOT / name).is_file():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, folder / name)
        (folder / ".venv").symlink_to(Path(sys.executable).parents[1])
        return cls(folder)

    def edit(self, file: str, old: str, new: str) -> None:
        """Change a file as a person would; the old text must be there once."""
        text = (self.folder / file).read_text()
        assert text.count(old) == 1, f"{old!r} is in {file} {text.count(old)} times"
        (self.folder / file).write_text(text.replace(old, new))

    def run(self, command: str, **environ: str) -> subprocess.CompletedProcess[str]:
        """What a command does in bash, in the checkout, without a terminal."""
        kept = {
            key: value for key, value in os.environ.items() if not key.startswith(("PULUMI_", "STRIPE_", "VIRTUAL_ENV"))
        }
        return subprocess.run(
            ["bash", "-euo", "pipefail", "-c", command],
            cwd=self.folder,
            env={**kept, "NO_COLOR": "1", **self._homes(), **environ},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )

    def _homes(self) -> dict[str, str]:
        """Where Pulumi keeps plugins and `usage` its spool: the checkout's own."""
        return {"PULUMI_HOME": str(self.folder / "pulumi-home"), "XDG_STATE_HOME": str(self.folder / "spools")}

    def bash(self, command: str, **environ: str) -> str:
        """What a command that must work prints on standard output."""
        done = self.run(command, **environ)
        assert done.returncode == 0, f"{command}\nended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def refused(self, command: str, **environ: str) -> str:
        """The one line on which a command that must fail says why."""
        done = self.run(command, **environ)
        assert done.returncode == 1, f"{command}\nended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
        said = [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("script/")]
        assert len(said) == 1, done.stdout + done.stderr
        assert "Traceback" not in done.stdout + done.stderr
        return said[0]
