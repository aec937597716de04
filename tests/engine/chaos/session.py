"""A session: one stack, a sandbox on a port, and cycles of a program that is edited, run, broken and recovered."""

from __future__ import annotations

import contextlib
import itertools
import json
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from sandbox import Request, Response, Sandbox
from sandbox.server import serving
from tests.engine.chaos import programs
from tests.engine.chaos.backends import Backend, Bucket, Folder
from tests.engine.chaos.checks import Account, Expectation, held_by, is_left, lost, made_twice, state_problems
from tests.engine.chaos.programs import Model
from tests.engine.conftest import Result, project_in
from tests.engine.faulty import Run, configure, end, processes_below

DAY: Final = 86_400
#: How many runs a recovery may take.
RECOVERY_RUNS: Final = 3
#: A program fails in this after everything else.
NEIGHBOUR: Final = """
    Price("neighbour", product="prod_nobody", currency="usd", unit_amount=1, opts=pulumi.ResourceOptions(
        depends_on=[{}]))
"""


class Wrong(Exception):
    """What a check has found, one line each."""

    def __init__(self, found: list[str], runs: list[Result]) -> None:
        super().__init__("\n".join(found))
        self.found, self.runs = found, runs


class Watched(Sandbox):
    """A sandbox that says when a request arrives and when its answer is ready."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.on_call: Callable[[int, str], None] = lambda number, when: None
        self.numbers = itertools.count(1)

    def handle(self, request: Request) -> Response:
        if request.url.startswith("/_sandbox/"):
            return super().handle(request)
        number = next(self.numbers)
        self.on_call(number, "before")
        response = super().handle(request)
        self.on_call(number, "after")
        return response

    def control(self, method: str, name: str, /, **params: Any) -> Any:
        body = json.dumps(params).encode() if params else b""
        answer = self.handle(Request(method, f"/_sandbox/{name}", {"content-type": "application/json"}, body))
        assert answer.status == 200, answer.body
        return json.loads(answer.body)


# -- what goes wrong --------------------------------------------------------------------------------------------------

#: Faults of the sandbox's control; a retry heals those that Stripe or a network has now and then.
FAULTS: Final[dict[str, dict[str, Any]]] = {
    "429": {"status": 429},
    "lock timeout": {"status": 429, "code": "lock_timeout"},
    "500": {"status": 500},
    "500 after": {"status": 500, "when": "after"},
    "dropped": {"drop": True},
    "lost answer": {"drop": True, "when": "after"},
    "half an answer": {"half_body": True, "when": "after"},
    "refused": {"status": 400, "message": "refused by chaos"},
    "refused (403)": {"status": 403, "message": "refused by chaos"},
    "proxy's 502": {"status": 502, "body": "<html>Bad gateway</html>"},
    "slow": {"delay": 0.4},
}
PATHS: Final = (
    "/v1/*",
    "/v1/*",
    "/v1/prices*",
    "/v1/products*",
    "/v1/subscription*",
    "/v1/customers*",
    "/v1/billing/meters*",
)
#: What strikes a run.
STRIKES: Final = (
    "kill the provider",
    "kill the provider",
    "kill the program",
    "kill the CLI",
    "kill the CLI",
    "kill everything",
    "kill everything",
    "interrupt",
)
#: Against a state on S3: for some seconds, or until a person gives up and kills the run, since it would retry for long.
CUTS: Final = ("cut off the state for seconds", "cut off the state for good") * 2
CUT_SECONDS: Final = 5.0


@dataclass(frozen=True)
class Strike:
    """Something that hits a run once: at a call (before or after Stripe has acted), or after a time."""

    what: str
    call: int | None
    when: str
    share: float

    def __str__(self) -> str:
        moment = f"{self.when} call {self.call}" if self.call else f"after {self.share:.2f} of a run"
        return f"{self.what} {moment}"


@dataclass(frozen=True)
class Trouble:
    """What goes wrong in a run."""

    faults: list[tuple[str, dict[str, Any]]]
    strike: Strike | None
    neighbour: bool
    verb: str
    targets: float

    @classmethod
    def drawn(cls, draw: random.Random, *, can_be_cut: bool) -> Trouble:
        faults = []
        for _ in range(draw.choice([0, 1, 1, 2, 3, 5])):
            name = draw.choice(list(FAULTS))
            where = {"method": draw.choice(["*", "*", "POST", "GET", "DELETE"]), "path": draw.choice(PATHS)}
            often = {"count": draw.choice([1, 1, 2, 3, 20]), "skip": draw.choice([0, 0, 1, 2, 4, 7])}
            faults.append((name, {**FAULTS[name], **where, **often}))
        strike = None
        if draw.random() < 0.8 or not faults:
            what = draw.choice([*STRIKES, *(CUTS if can_be_cut else ())])
            call = draw.choice([None, draw.randint(1, 4), draw.randint(1, 14)])
            strike = Strike(what, call, draw.choice(["before", "after"]), draw.uniform(0.2, 1.0))
        return cls(
            faults,
            strike,
            neighbour=draw.random() < 0.12,
            verb="refresh" if draw.random() < 0.06 else "up",
            targets=draw.choice([0.2, 0.5, 0.8]) if draw.random() < 0.15 else 0.0,
        )

    def __str__(self) -> str:
        faults = [
            f"{name} x{params['count']} on {params['method']} {params['path']}"
            + (f" from the {params['skip'] + 1}th" if params["skip"] else "")
            for name, params in self.faults
        ]
        said = [self.verb + (" --target" if self.targets and self.verb == "up" else ""), *faults]
        return ", ".join(said + ([str(self.strike)] if self.strike else []) + ["a neighbour fails"] * self.neighbour)


# -- the session ------------------------------------------------------------------------------------------------------


@dataclass
class Tally:
    """What a session has done."""

    cycles: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0


class Session:
    """One stack, from its first `up` to its destruction. All of it is drawn from the seed."""

    def __init__(
        self, seed: int, folder: Path, s3: tuple[str, int] | None, say: Callable[[str], None], tally: Tally
    ) -> None:
        self.seed, self.say = seed, say
        draw = random.Random(seed)
        self.folder = folder
        self.is_plans = draw.random() < 0.4
        self.model: Model = (programs.plans if self.is_plans else programs.parts)(draw)
        self.project = project_in(folder, self.model.source())
        on_s3 = draw.random() < 0.5 and s3 is not None
        self.backend: Backend = Bucket(self.project, s3, f"chaos-{seed}") if on_s3 and s3 else Folder(self.project)
        self.sandbox = Watched(self.project.sandbox_file)
        self.tally = tally
        self.runs: list[Result] = []
        self.usual_seconds = 3.0
        self._left_over: set[tuple[int, str]] = set()
        self._timer: threading.Timer | None = None

    @contextlib.contextmanager
    def opened(self) -> Iterator[None]:
        with serving(self.sandbox) as server:
            self.project.environ |= {
                "STRIPE_API_BASE": server.url,
                # A proxy of this machine's must not come between.
                "NO_PROXY": "127.0.0.1",
                "no_proxy": "127.0.0.1",
            }
            try:
                yield
            finally:
                self._reap()
        self.sandbox.close()
        if isinstance(self.backend, Bucket):
            self.backend.close()

    def begin(self) -> None:
        """The first `up`, which nothing breaks."""
        self.project.pulumi("stack", "init", "dev").ok()
        self.project.config("stripe-pricing:mode", "sandbox")
        configure(self.project, retrySeconds=2, timeoutSeconds=10)
        self.runs = [self.project.up()]
        if self.runs[0].code != 0:
            raise Wrong(["the first up failed"], self.runs)
        self.account = Account.read(self.project.sandbox_file)
        self.seen = self._expectation(self.account)
        self._assert([*self.seen.wrong, *state_problems(self.backend.deployment(), self.seen)])

    def _expectation(self, account: Account) -> Expectation:
        return Expectation(self.model, account, held_by(self.backend.deployment()))

    def _assert(self, found: list[str]) -> None:
        if found:
            raise Wrong(found, self.runs)

    def cycle(self, number: int) -> None:
        """One edit, one broken run of it, and the recovery."""
        begun = time.monotonic()
        draw = random.Random(f"{self.seed}/{number}")
        trouble = Trouble.drawn(draw, can_be_cut=self.backend.can_be_cut)
        way = "" if self.is_plans else draw.choice(["", "", "", "taken back", "edited again"])
        variants = self._variants(way, draw)
        while programs.is_refused(variants):
            variants = self._variants(way, draw)
        days = draw.choice([0, 0, 0, 0, 2])
        self.runs = []
        self.say(f"  {number}: {'; '.join(variants[1].said)} | {trouble}")
        self._broken_run(variants[1], trouble, draw)
        self.model = variants[-1]
        if way:
            self.say(f"     then {way}{': ' if variants[-1].said else ''}{'; '.join(variants[-1].said)}")
        took = self._recover(days, refresh=bool(way))
        account = Account.read(self.project.sandbox_file)
        now = self._expectation(account)
        if now.orphans and all(is_left(each, variants) for each in now.orphans):
            self._end_what_is_left(now.orphans)
            account = Account.read(self.project.sandbox_file)
            now = self._expectation(account)
        self._assert(
            [
                *now.wrong,
                *(f"orphan: {kind} {id_} ({name})" for kind, id_, name in now.orphans),
                *lost(self.seen, now, variants),
                *made_twice(self.account, account, variants),
                *state_problems(self.backend.deployment(), now),
            ]
        )
        self.runs.append(self.project.preview("--expect-no-changes"))
        self._assert(["the preview is not empty"] if self.runs[-1].code else [])
        self.account, self.seen = account, now
        self._reap()
        self.tally.cycles += 1
        self.tally.counts.update([f"recovered by {took} up" + "s" * (took > 1), *([way] if way else [])])
        self.tally.counts.update(["days passed"] if days else [])
        self.tally.seconds += time.monotonic() - begun

    def _variants(self, way: str, draw: random.Random) -> list[Model]:
        """The program as it was, as it is when the run is broken, and as the recovery runs it."""
        variants = [self.model, programs.edited(self.model, draw)]
        if way == "taken back":
            variants.append(self.model.copy())
        elif way:
            variants.append(programs.edited(variants[-1], draw, keep_aliases=True))
        return variants

    def finish(self, number: int) -> None:
        """A destroy that is broken too: in the end nothing is in use."""
        draw = random.Random(f"{self.seed}/{number}")
        trouble = Trouble.drawn(draw, can_be_cut=self.backend.can_be_cut)
        self.runs = []
        self.say(f"  destroy: {trouble}")
        self._strike_run(trouble, "destroy")
        self._unlock()
        for _ in range(RECOVERY_RUNS):
            self.runs.append(self.project.destroy())
            if self.runs[-1].code == 0:
                break
        else:
            raise Wrong(["the destroy did not recover"], self.runs)
        there = Account.read(self.project.sandbox_file)
        self._assert([f"{kind} is in use after a destroy: {sorted(ids)}" for kind, ids in there.alive.items() if ids])
        self._reap()

    # -- breaking -----------------------------------------------------------------------------------------------

    def _broken_run(self, model: Model, trouble: Trouble, draw: random.Random) -> None:
        last = list(model.things)[-1]
        self.project.write(model.source(NEIGHBOUR.format(last) if trouble.neighbour else ""))
        more: list[str] = []
        if trouble.targets and trouble.verb == "up":
            urns = self._urns_of_both(model)
            chosen = [urn for urn in urns if draw.random() < trouble.targets] or urns[:1]
            more = [part for urn in chosen for part in ("--target", urn)]
        self._strike_run(trouble, trouble.verb, *more)

    def _urns_of_both(self, model: Model) -> list[str]:
        """What can be targeted: the URNs of the state that the program still has. Any other is deleted as asked."""
        gone = [
            each.name
            for key, each in self.model.things.items()
            if key not in model.things or (each.name, each.parent) != (model.things[key].name, model.things[key].parent)
        ]
        urns = [each["urn"] for each in self.backend.deployment().get("resources", ())][1:]
        return [urn for urn in urns if not urn.rpartition("::")[2].startswith(tuple(gone))]

    def _strike_run(self, trouble: Trouble, verb: str, *more: str) -> None:
        begun = time.monotonic()
        ordered = {self.sandbox.control("POST", "faults", **params)["id"]: params for _, params in trouble.faults}
        struck, runs = threading.Event(), list[Run]()

        def act() -> None:
            if not struck.is_set() and trouble.strike is not None and runs:
                struck.set()
                self._strike(trouble.strike.what, runs[0])

        timer = None
        if trouble.strike is not None and trouble.strike.call is not None:
            self.sandbox.numbers = itertools.count(1)
            wanted = (trouble.strike.call, trouble.strike.when)
            self.sandbox.on_call = lambda *at: act() if at == wanted else None
        elif trouble.strike is not None:
            timer = threading.Timer(trouble.strike.share * self.usual_seconds, act)
            timer.start()
        runs.append(Run(self.project, verb, *more))
        try:
            result = runs[0].result()
        except subprocess.TimeoutExpired as error:
            raise Wrong([f"it hung: {error}"], self.runs) from None
        finally:
            if runs[0].process.poll() is None:
                runs[0].kill_everything()
            for each in (timer, self._timer):
                if each is not None:
                    each.cancel()
                    each.join()
            self.sandbox.on_call = lambda number, when: None
            left = {each["id"]: each["count"] for each in self.sandbox.control("GET", "faults")["data"]}
            self.sandbox.control("DELETE", "faults")
            self.backend.restore()
        self.runs.append(result)
        if trouble.strike is not None:
            self.tally.counts[trouble.strike.what if struck.is_set() else "a strike that came too late"] += 1
            if struck.is_set() and result.code == 0:
                self.tally.counts["a struck run that succeeded"] += 1
        elif result.code == 0:
            self.usual_seconds = time.monotonic() - begun
        self.tally.counts["broken runs that failed" if result.code else "broken runs that succeeded"] += 1
        hit = sum(params["count"] - left.get(id_, 0) for id_, params in ordered.items())
        self.tally.counts["requests that a fault has hit"] += hit
        if trouble.neighbour:
            self.tally.counts["a neighbour failed"] += 1

    def _strike(self, what: str, run: Run) -> None:
        self._left_over |= set(processes_below(run.process.pid))
        match what:
            case "kill the provider":
                run.kill("-m pulumi.dynamic")
            case "kill the program":
                run.kill("pulumi-language-python-exec")
            case "kill the CLI":
                end(run.process.pid, signal.SIGKILL)
            case "kill everything":
                run.kill_everything()
            case "interrupt":
                run.interrupt()
            case "cut off the state for seconds":
                self.backend.cut()
                self._later(self.backend.restore)
            case "cut off the state for good":
                self.backend.cut()
                self._later(run.kill_everything)

    def _later(self, act: Callable[[], None]) -> None:
        self._timer = threading.Timer(CUT_SECONDS, act)
        self._timer.start()

    def _reap(self) -> None:
        """End what a killed CLI has left behind. A process of another command line has only the same number."""
        if self._left_over:
            for pid, _ in self._left_over & set(processes_below(1)):
                end(pid, signal.SIGKILL)
        self._left_over.clear()

    # -- recovering ---------------------------------------------------------------------------------------------

    def _end_what_is_left(self, orphans: list[tuple[str, str, str]]) -> None:
        """What a killed run has created for a program that was taken back: `pricing verify` names it, and a person
        ends it.
        """
        command = [sys.executable, "-c", "from pricing.cli import main; raise SystemExit(main())", "verify", "--json"]
        done = subprocess.run(
            command, cwd=self.folder, env=self.project.environ, capture_output=True, text=True, timeout=120, check=False
        )
        unnamed = [f"pricing verify does not name {kind} {id_}" for kind, id_, _ in orphans if id_ not in done.stdout]
        self._assert(unnamed + ([] if done.returncode == 2 else [f"pricing verify: {done.returncode}: {done.stderr}"]))
        ways = {
            "Price": ("POST", "prices/{}", b"active=false"),
            "Product": ("POST", "products/{}", b"active=false"),
            "Subscription": ("DELETE", "subscriptions/{}", b""),
            "Customer": ("DELETE", "customers/{}", b""),
            "Coupon": ("DELETE", "coupons/{}", b""),
            "PromotionCode": ("POST", "promotion_codes/{}", b"active=false"),
        }
        form = {"authorization": "Bearer sk_test_sandbox", "content-type": "application/x-www-form-urlencoded"}
        for kind, id_, _ in sorted(orphans, key=lambda each: list(ways).index(each[0]) if each[0] in ways else -1):
            self.tally.counts["left by a killed run that was taken back, named by pricing verify"] += 1
            method, path, body = ways[kind]
            answer = self.sandbox.handle(Request(method, f"/v1/{path.format(id_)}", form, body))
            self._assert([] if answer.status == 200 else [f"{method} {path}: {answer.body!r}"])

    def _recover(self, days: int, refresh: bool) -> int:
        """As docs/providers.md says: `pulumi cancel` for a lock, `up`; before that a `refresh`, if days have passed or
        the program has changed since.
        """
        self._unlock()
        self.project.write(self.model.source())
        if days:
            self.sandbox.control("POST", "clock", advance=days * DAY)
        pending = self.backend.deployment().get("pending_operations")
        if days or pending or refresh:
            self.tally.counts["refreshes"] += 1
            self.runs.append(self.project.refresh("--clear-pending-creates"))
        for attempt in range(1, RECOVERY_RUNS + 1):
            begun = time.monotonic()
            self.runs.append(self.project.up())
            if self.runs[-1].code == 0:
                self.usual_seconds = time.monotonic() - begun
                return attempt
        raise Wrong([f"{RECOVERY_RUNS} runs did not recover"], self.runs)

    def _unlock(self) -> None:
        if self.backend.mend():
            self.tally.counts["an empty file beside the state"] += 1
        if self.backend.is_locked():
            self.tally.counts["pulumi cancel"] += 1
            self.runs.append(self.project.run("cancel", "--yes"))


def run_session(
    seed: int,
    cycles: int,
    s3: tuple[str, int] | None,
    say: Callable[[str], None],
    tally: Tally,
    *,
    keep: bool = False,
    until: float = float("inf"),
) -> Wrong | None:
    """One session in a temporary folder; `until` (of `time.monotonic`) no more cycles are begun."""
    folder = Path(tempfile.mkdtemp(prefix=f"chaos-{seed}-"))
    wrong: Wrong | None = None
    session = Session(seed, folder, s3, say, tally)
    try:
        with session.opened():
            try:
                session.begin()
                for number in range(1, cycles + 1):
                    if time.monotonic() > until:
                        break
                    session.cycle(number)
                session.finish(cycles + 1)
            except Wrong as found:
                wrong = found
    finally:
        if keep:
            say(f"  kept: {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    return wrong
