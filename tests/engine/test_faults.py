"""Each call of an `up` and a `destroy` goes wrong in turn; the retries, or one more run, bring the declared state."""

from __future__ import annotations

import json
import re
import threading
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import pytest

from sandbox import Request, Sandbox
from tests.engine.conftest import ROOT, Project, Result
from tests.engine.faulty import TIMEOUT_SECONDS, Run, branch, configure, faulty
from tests.engine.support import add_second_version
from tests.faulty_sandbox import RECOVERABLE, SPOILED, Call, FaultySandbox, Spoiled

#: What the program's first `up`, an `up` with a second version, and a `destroy` ask of Stripe.
CREATE: Final = (
    "GET /v1/account",
    "GET /v1/billing/meters",
    "GET /v1/customers",
    "GET /v1/prices",
    "GET /v1/products",
    "GET /v1/subscriptions",
    "POST /v1/billing/meters",
    "POST /v1/customers alpaca-ai-first-customer",
    "POST /v1/prices alpaca-ai-license",
    "POST /v1/prices alpaca-ai-usage",
    "POST /v1/products alpaca-ai-product",
    "POST /v1/products/*",
    "POST /v1/subscriptions alpaca-ai-first-customer",
)
CHANGE: Final = (
    "GET /v1/account",
    "GET /v1/invoices/*",
    "GET /v1/prices",
    "GET /v1/subscriptions/*",
    "POST /v1/prices alpaca-ai-v2-license",
    "POST /v1/prices alpaca-ai-v2-usage",
    "POST /v1/products/*",
    "POST /v1/subscriptions/*",
)
DESTROY: Final = (
    "DELETE /v1/customers/*",
    "DELETE /v1/subscriptions/*",
    "GET /v1/account",
    "GET /v1/billing/meters/*",
    "GET /v1/products/*",
    "GET /v1/subscriptions",
    "GET /v1/subscriptions/*",
    "POST /v1/billing/meters/*/deactivate",
    "POST /v1/prices/*",
    "POST /v1/prices/* #2",
    "POST /v1/products/*",
    "POST /v1/products/* #2",
)
CALLS: Final = {"create": CREATE, "change": CHANGE, "destroy": DESTROY}
#: Every call of the two `up`s, and of the `destroy` those that change something.
EVERY_CALL: Final = [
    (phase, title)
    for phase, titles in CALLS.items()
    for title in titles
    if phase != "destroy" or not title.startswith("GET ")
]
#: How many faults a call meets in one run before it gets through.
FAULTS_A_CALL: Final = 2


#: Bills depend on the time: in these tests it stands still, except for a day between two phases.
NOW: Final = 1_800_000_000
DAY: Final = 86_400


# -- what there is in Stripe ------------------------------------------------------------------------------------------


def control(project: Project, method: str, name: str, **params: Any) -> dict[str, Any]:
    """Call the sandbox's control interface."""
    sandbox = Sandbox(project.sandbox_file)
    body = json.dumps(params).encode() if params else b""
    answer = sandbox.handle(Request(method, f"/_sandbox/{name}", {}, body))
    sandbox.close()
    assert answer.status == 200, answer.body
    parsed: dict[str, Any] = json.loads(answer.body)
    return parsed


def objects(project: Project) -> dict[str, list[dict[str, Any]]]:
    """Everything in the sandbox by kind, deleted and archived things too."""
    scopes = control(project, "GET", "state")["objects"]
    assert len(scopes) == 1, f"more than one account: {list(scopes)}"
    (kinds,) = scopes.values()
    return dict(kinds)


def picture(project: Project) -> dict[str, list[Any]]:
    """Everything in Stripe, archived things too, with names in place of ids: the same after every way to get there."""
    there = objects(project)
    prices = {price["id"]: f"{price['nickname']} {price['unit_amount_decimal']}" for price in there.get("price", ())}

    def facts(each: dict[str, Any], *names: str) -> list[Any]:
        return [each.get(name) for name in names]

    described: dict[str, list[Any]] = {
        "meter": [facts(each, "event_name", "status", "display_name") for each in there.get("billing.meter", ())],
        "product": [
            [*facts(each, "name", "active", "unit_label", "metadata", "deleted"), prices.get(each.get("default_price"))]
            for each in there.get("product", ())
        ],
        "price": [
            [prices[each["id"]], *facts(each, "active", "lookup_key", "metadata", "tiers")]
            for each in there.get("price", ())
        ],
        "customer": [facts(each, "name", "email", "deleted") for each in there.get("customer", ())],
        "subscription": [
            facts(each, "status", "metadata", "cancel_at_period_end") for each in there.get("subscription", ())
        ],
        "subscription_item": [
            [prices[each["price"]["id"] if isinstance(each["price"], dict) else each["price"]], each.get("quantity")]
            for each in there.get("subscription_item", ())
        ],
        # Invoices and their items too: nothing is charged or credited twice.
        "how many": [[kind, len(found)] for kind, found in there.items() if kind != "event"],
    }
    return {kind: sorted(found, key=repr) for kind, found in described.items()}


def alive(project: Project) -> dict[str, set[str]]:
    """The ids of what is in use in Stripe, by kind."""
    there = objects(project)

    def ids(kind: str, name: str, *values: Any) -> set[str]:
        return {each["id"] for each in there.get(kind, ()) if each.get(name) in values}

    return {
        "Meter": ids("billing.meter", "status", "active"),
        "Product": ids("product", "active", True),
        "Price": ids("price", "active", True),
        "Customer": ids("customer", "deleted", None, False),
        "Subscription": {each["id"] for each in there.get("subscription", ())}
        - ids("subscription", "status", "canceled", "incomplete_expired"),
    }


def in_state(project: Project) -> dict[str, set[str]]:
    """The same, as the stack's state has it."""
    found: dict[str, set[str]] = {kind: set() for kind in ("Meter", "Product", "Price", "Customer", "Subscription")}
    stored = json.loads((project.folder / f"state/.pulumi/stacks/stripe-pricing/{project.stack}.json").read_text())
    deployment = stored["checkpoint"]["latest"]
    assert not deployment.get("pending_operations")
    for resource in deployment.get("resources", ()):
        kind = resource["type"].rpartition(":")[2]
        if kind in found:
            found[kind].add(resource["id"])
    return found


# -- the starting points ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Phase:
    """A run to be broken: where it starts, and the picture of Stripe when nothing went wrong.

    Attributes:
        start: a project as it is before; it is only ever copied.
    """

    verb: str
    start: Project
    wanted: dict[str, list[Any]]


@pytest.fixture(scope="module")
def phases(new_project: Callable[..., Project], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Phase]:
    """The three runs, each without a fault, and where they start."""
    fresh = new_project((ROOT / "__main__.py").read_text())
    configure(fresh, timeoutSeconds=TIMEOUT_SECONDS)
    control(fresh, "POST", "clock", frozen=NOW)
    created = branch(fresh, tmp_path_factory.mktemp("created"))

    def run(name: str, verb: str, start: Project, done: Project) -> Phase:
        with faulty(done) as sandbox:
            done.run(verb, "--yes", "--skip-preview").ok()
            assert sandbox.titles() == sorted(CALLS[name]), "the lists of calls in this file are out of date"
        return Phase(verb, start, picture(done))

    create = run("create", "up", fresh, created)
    control(created, "POST", "clock", advance=DAY)
    edited = branch(created, tmp_path_factory.mktemp("edited"))
    add_second_version(edited)
    return {
        "create": create,
        "change": run("change", "up", edited, branch(edited, tmp_path_factory.mktemp("changed"))),
        "destroy": run("destroy", "destroy", created, branch(created, tmp_path_factory.mktemp("destroyed"))),
    }


@pytest.fixture
def broken(
    phases: dict[str, Phase], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., tuple[Phase, Project, FaultySandbox]]]:
    """Create a project at the start of a phase, behind a sandbox that can make its calls fail."""
    open_: list[Any] = []

    def make(name: str, **settings: float) -> tuple[Phase, Project, FaultySandbox]:
        phase = phases[name]
        project = branch(phase.start, tmp_path_factory.mktemp("broken"))
        configure(project, **settings)
        context = faulty(project)
        sandbox = context.__enter__()
        open_.append(context)
        return phase, project, sandbox

    yield make
    for context in reversed(open_):
        context.__exit__(None, None, None)


def assert_converged(phase: Phase, project: Project, sandbox: FaultySandbox) -> None:
    """One more run without faults: the declared state, no duplicate, no orphan."""
    sandbox.start_over()
    project.run(phase.verb, "--yes", "--skip-preview").ok()
    assert picture(project) == phase.wanted
    assert in_state(project) == alive(project)


def assert_a_clean_failure(result: Result) -> None:
    """It failed, and says why in lines that a person can read."""
    assert result.code != 0, result.text
    assert "Traceback" not in result.text
    assert "sk_test_" not in result.text


# -- faults that a retry heals ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("turn", range(0, len(RECOVERABLE), FAULTS_A_CALL))
def test_a_run_in_which_every_call_fails_twice_ends_as_if_none_had(
    turn: int, broken: Callable[..., tuple[Phase, Project, FaultySandbox]], phases: dict[str, Phase]
) -> None:
    """Over all turns every call meets every fault: a create, a second version and a destroy."""

    def spoiled(call: Call) -> Spoiled | None:
        if call.attempt > FAULTS_A_CALL:
            return None
        return RECOVERABLE[(zlib.crc32(call.title.encode()) + turn + call.attempt) % len(RECOVERABLE)]

    _, project, sandbox = broken("create")
    for name in CALLS:
        sandbox.start_over()
        sandbox.plan = spoiled
        if name != "create":
            control(project, "POST", "clock", advance=DAY)
        if name == "change":
            add_second_version(project)
        project.run(phases[name].verb, "--yes", "--skip-preview").ok()
        assert set(sandbox.titles()) >= set(CALLS[name])
        assert_retried_with_the_same_key(sandbox)
        assert in_state(project) == alive(project)
        if name != "destroy":
            assert picture(project) == phases[name].wanted
    assert not any(alive(project).values())


def assert_retried_with_the_same_key(sandbox: FaultySandbox) -> None:
    """Every call failed and was sent again unchanged: same parameters, same idempotency key."""
    attempts = Counter(seen.call.identity for seen in sandbox.seen)
    healed = {seen.call.identity for seen in sandbox.seen if seen.spoiled is None}
    for seen in sandbox.seen:
        assert (seen.spoiled is not None) is (seen.call.attempt <= FAULTS_A_CALL)
        assert seen.call.idempotency_key or seen.call.request.method != "POST"
    assert healed == attempts.keys()


# -- faults that end the run ------------------------------------------------------------------------------------------


@contextmanager
def at(sandbox: FaultySandbox, title: str, act: Callable[[], None]) -> Iterator[threading.Event]:
    """Act once when Stripe has carried out a call and its answer has not been sent. The event says that it was."""
    reached = threading.Event()

    def on_answer(call: Call) -> None:
        if call.title == title and not reached.is_set():
            reached.set()
            act()

    sandbox.on_answer = on_answer
    yield reached
    assert reached.is_set(), f"there was no {title}"


@pytest.mark.parametrize(("name", "title"), EVERY_CALL)
def test_a_provider_killed_at_a_call_leaves_nothing_that_the_next_run_does_not_find(
    name: str, title: str, broken: Callable[..., tuple[Phase, Project, FaultySandbox]]
) -> None:
    phase, project, sandbox = broken(name)
    run: list[Run] = []
    with at(sandbox, title, lambda: run[0].kill_provider()):
        run.append(Run(project, phase.verb))
        result = run[0].result()
    assert result.code != 0, result.text
    assert_converged(phase, project, sandbox)


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("create", "POST /v1/prices alpaca-ai-usage"),
        ("create", "POST /v1/subscriptions alpaca-ai-first-customer"),
        ("change", "POST /v1/prices alpaca-ai-v2-license"),
        ("change", "POST /v1/subscriptions/*"),
    ],
)
def test_a_call_whose_answers_are_all_lost_fails_cleanly_and_the_next_run_finds_what_it_did(
    name: str, title: str, broken: Callable[..., tuple[Phase, Project, FaultySandbox]]
) -> None:
    # Two attempts, and no more than that: the second finds the stored answer, and loses it too. All other calls of
    # all faults, without an engine: tests/components/test_fault_matrix.py.
    phase, project, sandbox = broken(name, retrySeconds=0.6)
    sandbox.plan = lambda call: SPOILED["lost response"] if call.title == title else None
    result = project.run(phase.verb, "--yes", "--skip-preview")
    assert_a_clean_failure(result)
    assert "Stripe could not be reached" in result.text
    assert_converged(phase, project, sandbox)


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("create", "POST /v1/products alpaca-ai-product"),
        ("create", "POST /v1/billing/meters"),
        ("change", "POST /v1/prices alpaca-ai-v2-license"),
        ("destroy", "DELETE /v1/subscriptions/*"),
    ],
)
def test_a_run_interrupted_once_keeps_what_it_did_in_the_state(
    name: str, title: str, broken: Callable[..., tuple[Phase, Project, FaultySandbox]]
) -> None:
    phase, project, sandbox = broken(name)
    run: list[Run] = []

    def interrupt() -> None:
        run[0].interrupt()
        # The engine has the signal before it has the answer.
        sandbox.closing.wait(0.5)

    with at(sandbox, title, interrupt):
        run.append(Run(project, phase.verb))
        result = run[0].result()
    assert "^C received" in result.text
    assert picture(project) != phase.wanted, "it ended before it was interrupted"
    # What was under way was finished and written down.
    assert in_state(project) == alive(project)
    assert_converged(phase, project, sandbox)


NO_CHECKPOINTS: Final = {"PULUMI_SKIP_CHECKPOINTS": "true"}
#: What docs/providers.md says to run after a run that was killed.
[ADVICE] = re.findall(r"- \*\*A run that was killed\*\*(.*?)\n- ", (ROOT / "docs/providers.md").read_text(), re.DOTALL)
WAY_BACK: Final = [command.split() for command in re.findall(r"`pulumi (.*?)`", ADVICE)]


def test_the_page_says_what_to_do_after_a_run_that_was_killed() -> None:
    assert WAY_BACK == [["cancel"], ["refresh", "--clear-pending-creates"]]


@pytest.mark.parametrize(
    ("name", "title", "env"),
    [
        ("create", "POST /v1/subscriptions alpaca-ai-first-customer", {}),
        ("create", "POST /v1/subscriptions alpaca-ai-first-customer", NO_CHECKPOINTS),
        ("change", "POST /v1/subscriptions/*", NO_CHECKPOINTS),
        ("destroy", "POST /v1/billing/meters/*/deactivate", NO_CHECKPOINTS),
    ],
)
def test_after_a_killed_engine_what_the_page_says_and_one_more_run_bring_the_declared_state(
    name: str, title: str, env: dict[str, str], broken: Callable[..., tuple[Phase, Project, FaultySandbox]]
) -> None:
    """Without checkpoints the state knows nothing of the run; with them, it says what was interrupted."""
    phase, project, sandbox = broken(name)
    before = in_state(project) if name != "create" else None
    run: list[Run] = []
    with at(sandbox, title, lambda: run[0].kill_everything()):
        run.append(Run(project, phase.verb, env=env))
        assert run[0].result().code != 0
    if before is not None:
        assert in_state(project) == before, "a checkpoint was written"
    assert "pulumi cancel" in project.run(phase.verb, "--yes", "--skip-preview").text
    for verb, *words in WAY_BACK:
        project.run(verb, "--yes", *words).ok()
    # This also finds that the state has no operation that is pending.
    assert_converged(phase, project, sandbox)
