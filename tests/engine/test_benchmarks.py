"""The benchmarks run, small: what they assert (calls, counts, no failure) holds at any size."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.engine.conftest import ROOT

BENCHMARKS = {
    # The rival is left out, and the first line says why.
    "operations": ["--objects", "20", "--rate", "100", "--who", "ours,rival", "--until", "destroy", "--calls"],
    "refresh_crowd": ["--objects", "50"],
    "up_on_s3": ["--objects", "20", "--latency", "0"],
    "sandbox_throughput": ["--seconds", "0.2"],
    "usage_startup": ["--runs", "2"],
}


@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_benchmark_runs_and_what_it_asserts_holds(name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{name}", *BENCHMARKS[name]],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.strip()
