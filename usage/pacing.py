"""Stripe's limits as a schedule, and how long to wait before trying again."""

from __future__ import annotations

import random
import threading
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

# https://docs.stripe.com/rate-limits and .../usage-based/recording-usage-api, in calls a second. We plan for a tenth
# less: a server counts calls when they arrive, and the network bunches what left evenly.
LIMITS: dict[str, dict[str, float]] = {
    # test mode counts meter events, the stream and everything else together: 25 a second
    "test": {"all": 22.5},
    # 1,000 meter events a second beside the basic 100; the stream takes 10,000 events, 100 a call
    "live": {"api": 90.0, "meter_events": 900.0, "stream": 90.0},
    "none": {},
}

BACKOFF_FIRST = 0.5
BACKOFF_MOST = 8.0


class Pacer:
    """Lets one call through every 1/rate seconds, whichever thread asks. No bursts: evenly spaced calls stay under a
    limit however the server draws its seconds."""

    def __init__(
        self,
        rate: float,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.interval = 1 / rate if rate else 0.0
        self._next = 0.0
        self._lock = threading.Lock()
        self._monotonic = monotonic
        self._sleep = sleep

    def wait(self) -> None:
        """Return when the next call may leave."""
        with self._lock:
            now = self._monotonic()
            at = max(now, self._next)
            self._next = at + self.interval
        if at > now:
            self._sleep(at - now)

    def hold(self, seconds: float) -> None:
        """Let nothing through for that long: the server asked for it."""
        with self._lock:
            self._next = max(self._next, self._monotonic() + seconds)


class Paces:
    """One pacer for each kind of call: `api`, `meter_events` (v1) and `stream`; in test mode they share one."""

    def __init__(self, limits: str, share: int = 1) -> None:
        if limits not in LIMITS:
            raise ValueError(f"limits {limits!r} is none of {', '.join(LIMITS)}")
        if share < 1:
            raise ValueError("share is the number of workers that share the account's limits, at least 1")
        rates = LIMITS[limits]
        common = Pacer(rates.get("all", 0.0) / share)
        self._pacers = {
            kind: Pacer(rates[kind] / share) if kind in rates else common for kind in ("api", "meter_events", "stream")
        }

    def __getitem__(self, kind: str) -> Pacer:
        return self._pacers[kind]


def backoff(attempt: int, *, rand: Callable[[], float] = random.random) -> float:
    """Seconds to wait after that attempt (from 0): exponential, with jitter over the upper half."""
    most: float = min(BACKOFF_MOST, BACKOFF_FIRST * 2.0**attempt)
    return most * (0.5 + rand() / 2)
