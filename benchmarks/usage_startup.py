"""What `import usage` costs a script, beside `import stripe` and a bare interpreter.

    python -m benchmarks.usage_startup [--runs 15]

Wall-clock and CPU time of whole interpreter processes; the least and the median of the runs, in milliseconds.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time

PROGRAMS = {
    "bare Python": "pass",
    "import usage": "import usage",
    # without a delivery at the end, which would load stripe-python
    "import usage; client.record(...)": (
        "import usage; client = usage.Client(background=False, on_error=bool); client.record('tokens', 'cus_1')"
    ),
    "import stripe": "import stripe",
}


def measure(runs: int) -> dict[str, tuple[float, float, float]]:
    """Least wall, median wall and least CPU milliseconds by program."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("STRIPE_")}
    walls: dict[str, list[float]] = {name: [] for name in PROGRAMS}
    cpus: dict[str, list[float]] = {name: [] for name in PROGRAMS}
    with tempfile.TemporaryDirectory() as folder:
        environment |= {"STRIPE_USAGE_SPOOL": f"{folder}/spool.db", "STRIPE_MODE": "sandbox"}
        for _ in range(runs):
            for name, program in PROGRAMS.items():  # in turn, so that a noisy moment hits all of them
                before = resource.getrusage(resource.RUSAGE_CHILDREN)
                start = time.perf_counter()
                subprocess.run([sys.executable, "-c", program], check=True, cwd=folder, env=environment)
                walls[name].append((time.perf_counter() - start) * 1000)
                after = resource.getrusage(resource.RUSAGE_CHILDREN)
                spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
                cpus[name].append(spent * 1000)
    return {name: (min(walls[name]), statistics.median(walls[name]), min(cpus[name])) for name in PROGRAMS}


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=15)
    figures = measure(parser.parse_args().runs)
    bare = figures["bare Python"]
    print(
        f"{time.strftime('%Y-%m-%d', time.gmtime())}, Python {platform.python_version()}, load {os.getloadavg()[0]:.1f}"
    )
    print(f"{'':34} {'least ms':>9} {'median ms':>10} {'over bare':>10} {'CPU ms':>8} {'over bare':>10}")
    for name, (least, median, cpu) in figures.items():
        print(f"{name:34} {least:>9.1f} {median:>10.1f} {least - bare[0]:>10.1f} {cpu:>8.1f} {cpu - bare[2]:>10.1f}")


if __name__ == "__main__":
    main()
