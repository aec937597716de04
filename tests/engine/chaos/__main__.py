"""`script/chaos`: sessions of random cycles, counted and bounded in time."""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
import time
from collections import Counter

from tests.engine.chaos.backends import s3_server
from tests.engine.chaos.session import Tally, Wrong, run_session


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="script/chaos",
        description="Random programs on the real Pulumi engine and the served sandbox, broken by random faults and "
        "kills. After each cycle Stripe and the state must hold exactly what the program declares. Exit code 1 if "
        "they do not: the seed of the session is printed, and --seed runs it again.",
    )
    parser.add_argument("--cycles", type=int, default=300, help="how many in all (default 300)")
    parser.add_argument("--per-session", type=int, default=8, help="cycles on one stack (default 8)")
    parser.add_argument("--minutes", type=float, default=240, help="begin no cycle after that (default 240)")
    parser.add_argument("--first-seed", type=int, default=1, help="the seed of the first session (default 1)")
    parser.add_argument("--seed", type=int, help="run only the session with this seed, and show every run's output")
    parser.add_argument("--keep", action="store_true", help="keep the folders of the sessions")
    given = parser.parse_args()

    def say(line: str) -> None:
        print(line, flush=True)

    until = time.monotonic() + given.minutes * 60
    counts: Counter[str] = Counter()
    failed: list[int] = []
    cycles, seconds, seed = 0, 0.0, given.first_seed if given.seed is None else given.seed
    # A run that is ended cleans up and counts, too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with contextlib.suppress(KeyboardInterrupt), s3_server() as server:
        while cycles < given.cycles and time.monotonic() < until:
            say(f"session {seed}")
            wanted = given.per_session if given.seed is not None else min(given.per_session, given.cycles - cycles)
            tally = Tally()
            try:
                wrong = run_session(seed, wanted, server, say, tally, keep=given.keep, until=until)
            finally:
                cycles, seconds = cycles + tally.cycles, seconds + tally.seconds
                counts += tally.counts
            if wrong is not None:
                failed.append(seed)
                cycles += 1
                _show(seed, wrong, whole=given.seed is not None)
            if given.seed is not None:
                break
            seed += 1
    say(f"\n{cycles} cycles in {seconds:.0f} s, sessions {given.first_seed if given.seed is None else seed} to {seed}")
    for name, count in sorted(counts.items()):
        say(f"  {count:5}  {name}")
    say(f"failed: {', '.join(map(str, failed)) or 'none'}")
    return 1 if failed else 0


def _show(seed: int, wrong: Wrong, *, whole: bool) -> None:
    print(f"FAILED: script/chaos --seed {seed}", flush=True)
    for line in wrong.found:
        print(f"  {line}", flush=True)
    for run in wrong.runs:
        print(f"  -- {run.command}: {run.code}", flush=True)
        lines = run.text.splitlines()
        for line in lines if whole else [each for each in lines if "error" in each.lower()][-12:]:
            print(f"     {line}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
