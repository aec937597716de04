"""How much memory an import of millions of rows needs.

    python -m benchmarks.usage_memory [--rows 10000000] [--folder /tmp]

Writes a CSV file of that many rows, imports it into a spool in a process of its own, and prints that process's peak
memory above a bare interpreter's. Needs about 30 bytes a row for the file and 250 for the spool; both are removed.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import time

PEAK = "import resource; print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
IMPORT = """
import sys, usage
result = usage.Client(spool=sys.argv[2]).import_file(sys.argv[1])
assert result.recorded == int(sys.argv[3]), result
"""


def _peak(*arguments: str) -> int:
    """Peak memory in bytes of a Python process."""
    run = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=True)
    return int(run.stdout) * (1 if sys.platform == "darwin" else 1024)


def measure(rows: int, folder: str | None) -> dict[str, float]:
    """Peak bytes of a bare interpreter and of the import, and the seconds it took."""
    with tempfile.TemporaryDirectory(dir=folder) as place:
        path = os.path.join(place, "rows.csv")
        now = int(time.time())
        with open(path, "w") as file:
            file.write("event_name,customer,value,timestamp\n")
            for first in range(0, rows, 10_000):
                file.writelines(
                    f"tokens,cus_{number % 1000},{number % 977},{now - number % 2_000_000}\n"
                    for number in range(first, min(first + 10_000, rows))
                )
        bare = _peak("-c", PEAK)
        start = time.perf_counter()
        peak = _peak("-c", IMPORT + PEAK, path, os.path.join(place, "spool.db"), str(rows))
        seconds = time.perf_counter() - start
        size = os.path.getsize(os.path.join(place, "spool.db"))
    return {"bare": bare, "peak": peak, "seconds": seconds, "spool_bytes": size}


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--folder", help="where the file and the spool are made")
    options = parser.parse_args()
    found = measure(options.rows, options.folder)
    mega = 1024 * 1024
    print(
        f"{time.strftime('%Y-%m-%d', time.gmtime())}, Python {platform.python_version()}, load {os.getloadavg()[0]:.1f}"
    )
    print(f"{options.rows:,} rows in {found['seconds']:.0f} s, {options.rows / found['seconds']:,.0f} a second")
    above = (found["peak"] - found["bare"]) / mega
    print(f"peak {found['peak'] / mega:.1f} MB, {above:.1f} MB above the bare interpreter")
    print(f"spool {found['spool_bytes'] / options.rows:.0f} bytes a row")


if __name__ == "__main__":
    main()
