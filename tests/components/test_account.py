"""The client for one Stripe account: checks, pacing, retries, one-line errors, and no key anywhere."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from pulumi.dynamic import Config, ConfigureRequest

from components.account import ASKING, Account, AccountError, Pacer, StripeRefusal, account_for
from components.providers.meter import MeterProvider
from components.providers.product import ProductProvider
from components.providers.run import run_of
from components.redaction import redact
from components.settings import Settings
from tests.components.world import LIVE_KEY, PULUMI, Clock, Process, Recording, World

TEST_KEY = LIVE_KEY.replace("live", "test")


@pytest.fixture(autouse=True)
def _no_stripe_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("STRIPE_")]:
        monkeypatch.delenv(name)


def get(config: dict[str, str]) -> Any:
    return config.get


# -- guard ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "environment", "expected"),
    [
        ({}, {}, "stripe-pricing:mode is not set"),
        ({"mode": "prod"}, {}, "stripe-pricing:mode is 'prod'"),
        (
            {"mode": "test", "apiKey": LIVE_KEY},
            {},
            "stripe-pricing:apiKey is a live key, but stripe-pricing:mode is test",
        ),
        (
            {"mode": "sandbox"},
            {"STRIPE_API_KEY": LIVE_KEY},
            "STRIPE_API_KEY is a live key, but stripe-pricing:mode is sandbox",
        ),
        (
            {"mode": "live", "apiKey": TEST_KEY},
            {},
            "stripe-pricing:apiKey is a test key, but stripe-pricing:mode is live",
        ),
        ({"mode": "test", "apiKey": "pk_test_1"}, {}, "stripe-pricing:apiKey is not a secret or restricted Stripe key"),
        ({"mode": "test", "requestsPerSecond": "0"}, {}, "stripe-pricing:requestsPerSecond"),
        ({"mode": "test", "account": "1234"}, {}, "stripe-pricing:account is '1234'"),
        ({"mode": "test", "apiBase": "ftp://x"}, {}, "stripe-pricing:apiBase"),
    ],
)
def test_a_wrong_setting_is_one_line_that_names_it(
    monkeypatch: pytest.MonkeyPatch, config: dict[str, str], environment: dict[str, str], expected: str
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(AccountError) as caught:
        account_for(get(config))
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)
    assert LIVE_KEY not in str(caught.value)
    assert TEST_KEY not in str(caught.value)


@pytest.mark.parametrize("mode", ["test", "live"])
def test_a_preview_needs_no_key_and_an_up_says_which_is_missing(mode: str) -> None:
    account = account_for(get({"mode": mode}))
    provider = ProductProvider()
    provider.use(account)
    checked = provider.check({}, {"name": "P", "owner": "project/dev/p", **PULUMI})
    assert checked.failures == []
    assert provider.diff("prod_1", {**checked.inputs, "account": "acct_1"}, checked.inputs).replaces == []
    with pytest.raises(AccountError, match=rf"stripe-pricing:mode is {mode}, but there is no API key: .*sk_{mode}_"):
        provider.create(checked.inputs)
    assert account.calls == 0


def test_all_providers_of_a_process_share_one_account() -> None:
    config = {"mode": "sandbox", "sandboxFile": "shared.db"}
    assert account_for(get(config)) is account_for(get(dict(config)))
    assert account_for(get({**config, "requestsPerSecond": "7"})) is not account_for(get(config))


def test_configure_takes_the_stack_config(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "tracebacklimit", 10, raising=False)
    monkeypatch.chdir(tmp_path)
    provider = MeterProvider()
    provider.configure(
        ConfigureRequest(Config({"stripe-pricing:mode": "sandbox", "stripe-pricing:requestsPerSecond": "3"}, "project"))
    )
    assert provider.account.settings.rate == 3
    # One line at the terminal instead of a traceback.
    assert sys.tracebacklimit == 0
    monkeypatch.setenv("STRIPE_PRICING_TRACEBACK", "1")
    monkeypatch.setattr(sys, "tracebacklimit", 10)
    MeterProvider().configure(ConfigureRequest(Config({"stripe:mode": "sandbox"}, "project")))  # the old name
    assert sys.tracebacklimit == 10


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        (
            {"mode": "test", "apiKey": "sk_" + "test_other"},
            r"has its objects in Stripe account acct_\w+, but the key opens acct_\w+",
        ),
        ({"mode": "sandbox"}, r"are not in the sandbox file \S+\.db but in another: use that one"),
    ],
)
def test_another_account_than_the_state_s_is_refused(
    world: World, tmp_path: Path, config: dict[str, str], sentence: str
) -> None:
    product = world.product()
    other = World(tmp_path / "other.db")
    acts: list[Callable[[], object]] = [
        lambda: other.refresh(ProductProvider, product, other.process(**config)),
        lambda: other.destroy(ProductProvider, product, other.process(**config)),
        lambda: other.up(ProductProvider, "pro", {"name": "New"}, product, other.process(**config)),
    ]
    for act in acts:
        with pytest.raises(AccountError, match=sentence):
            act()
    process = other.process(**config)
    for _ in range(4):  # each object of a refresh, also those that would be read from a list
        with pytest.raises(AccountError, match=sentence):
            other.refresh(ProductProvider, product, process)
    assert [call for call in other.calls() if call != "GET /v1/account"] == []
    other.sandbox.close()


def test_a_declared_account_holds_before_anything_is_made(world: World, tmp_path: Path) -> None:
    """Nothing else protects a first object, created before the run has looked at the state."""
    mine = world.product().outs["account"]
    other = World(tmp_path / "other.db")
    config = {"mode": "test", "apiKey": TEST_KEY, "account": mine}
    with pytest.raises(AccountError, match=rf"this stack is for Stripe account {mine}, but the key opens acct_\w+"):
        other.up(ProductProvider, "new", {"name": "New"}, process=other.process(**config))
    assert other.calls() == ["GET /v1/account"]
    assert world.up(ProductProvider, "new", {"name": "New"}, process=world.process(**config)).outs["account"] == mine
    other.sandbox.close()


@pytest.mark.parametrize(
    ("declared", "sentence"),
    [
        ({}, "state has objects in two Stripe accounts, acct_1 and acct_2"),
        ({"account": "acct_1"}, "stripe-pricing:account is acct_1, but the stack's state has objects in acct_2"),
    ],
)
def test_a_state_of_two_accounts_is_refused_in_the_preview(declared: dict[str, str], sentence: str) -> None:
    """With the key of one, the objects in the other would seem deleted and be created again."""
    provider = ProductProvider()
    provider.use(account_for(get({"mode": "test", **declared})))
    product = {"name": "P", "owner": "project/dev/p"}
    provider.diff("prod_1", {**product, "account": "acct_1"}, product)
    with pytest.raises(AccountError, match=sentence):
        provider.diff("prod_2", {**product, "account": "acct_2"}, product)
    with pytest.raises(AccountError, match=sentence):
        provider.read("prod_2", {**product, "account": "acct_2"})


RESTRICTED = "rk_" + "test_restricted"


def test_a_restricted_key_need_not_read_the_account(world: World) -> None:
    """Stripe's refusal names the account that the key belongs to."""
    world.control("keys", key=RESTRICTED, lacks=["rak_accounts_kyc_basic_read", "rak_billing_meter_write"])
    product = world.product()
    mine = product.outs["account"]
    run = world.process(mode="test", apiKey=RESTRICTED, account=mine)
    state = world.up(ProductProvider, "pro", {"name": "New"}, product, run)
    assert state.outs["account"] == mine
    # Without an account in the config or in the state, it is the key's own all the same.
    alone = world.process(mode="test", apiKey=RESTRICTED)
    assert world.up(ProductProvider, "another", {"name": "Another"}, process=alone).outs["account"] == mine
    with pytest.raises(StripeRefusal, match=r"HTTP 403.*Give the restricted key this permission") as caught:
        world.up(
            MeterProvider,
            "m",
            {"display_name": "M", "event_name": "m", "default_aggregation": {"formula": "sum"}},
            process=run,
        )
    assert "_restricted" not in str(caught.value)


@pytest.mark.parametrize("pinned_by", ["the config", "the state"])
def test_a_restricted_key_that_may_not_read_its_account_makes_nothing_in_another(
    world: World, tmp_path: Path, pinned_by: str
) -> None:
    product = world.product()
    other = World(tmp_path / "other.db")
    other.control("keys", key=RESTRICTED, lacks=["rak_accounts_kyc_basic_read"])
    config = {"account": product.outs["account"]} if pinned_by == "the config" else {}

    def run() -> Process:
        return other.process(mode="test", apiKey=RESTRICTED, **config)

    acts: list[Callable[[], object]] = [
        lambda: other.up(ProductProvider, "pro", {"name": "New"}, product, run()),
        lambda: other.refresh(ProductProvider, product, run()),
        lambda: other.destroy(ProductProvider, product, run()),
    ]
    if pinned_by == "the config":
        acts.insert(0, lambda: other.up(ProductProvider, "first", {"name": "First"}, process=run()))
    for act in acts:
        with pytest.raises(AccountError, match=r"Stripe account acct_\w+, but the key opens acct_\w+"):
            act()
    assert set(other.calls()) == {"GET /v1/account"}
    other.sandbox.close()


def test_a_key_whose_account_nothing_tells_is_refused_where_one_is_declared(world: World) -> None:
    product = world.product()
    world.control("faults", method="GET", path="/v1/account", count=None, status=403, message="Not allowed.")
    world.forget_calls()
    process = world.process(mode="test", apiKey=RESTRICTED, account=product.outs["account"])
    with pytest.raises(
        AccountError, match=r"the key cannot read which account it opens: .* the permission rak_accounts_kyc_basic_"
    ):
        world.up(ProductProvider, "new", {"name": "New"}, process=process)
    assert set(world.calls()) == {"GET /v1/account"}


class KeyOfItsOwn(Recording):
    """A proxy that calls Stripe with its own key."""

    def request(
        self, method: str, url: str, headers: Mapping[str, str] | None, post_data: Any = None, **more: Any
    ) -> tuple[str, int, Mapping[str, str]]:
        changed = {**(headers or {}), "Authorization": f"Bearer {LIVE_KEY}"}
        return super().request(method, url, changed, post_data, **more)


@pytest.mark.parametrize("act", ["make", "list", "read"])
def test_an_answer_of_the_other_mode_is_refused(world: World, act: str) -> None:
    world.mode = "live"
    made = world.stripe("post", "/v1/products", name="P")
    world.mode = "sandbox"
    settings = Settings.read({"mode": "test", "apiKey": TEST_KEY}.get, {})
    account = Account(settings, http_client=KeyOfItsOwn(world.sandbox, world.sent))
    method, path, params = {
        "make": ("post", "/v1/products", {"name": "Q"}),
        "list": ("get", "/v1/products", {}),
        "read": ("get", f"/v1/products/{made['id']}", {}),
    }[act]
    sentence = r"^Product 'q': the answer is about real money \(livemode is true\), but stripe-pricing:mode is test"
    with pytest.raises(AccountError, match=sentence) as caught:
        account.request(method, path, params, subject="Product 'q'")  # type: ignore[arg-type]
    assert "look for prod_" in str(caught.value)


@pytest.mark.parametrize("fault", [{"status": 500}, {"status": 401}, {"drop": True}])
def test_an_account_that_cannot_be_asked_for_is_not_worked_in(world: World, fault: dict[str, Any]) -> None:
    """Only a 403 is tolerated; after any other error the account would stay unknown."""
    product = world.product()
    world.control("faults", method="GET", path="/v1/account", count=None, **fault)
    world.forget_calls()
    with pytest.raises(StripeRefusal, match=r"^Stripe account: "):
        world.up(ProductProvider, "pro", {"name": "New"}, product)
    assert set(world.calls()) == {"GET /v1/account"}


# -- errors ---------------------------------------------------------------------------------------------------------


def test_a_refusal_says_what_failed_on_which_object_and_what_stripe_said(world: World) -> None:
    with pytest.raises(StripeRefusal) as caught:
        world.customer("acme", test_clock="clock_nope")
    text = str(caught.value)
    assert text.startswith("Customer 'acme': No such ")
    assert "parameter test_clock, HTTP 400, request req_" in text
    assert "\n" not in text


def test_a_refusal_says_what_to_do_where_that_is_known(world: World) -> None:
    fee, customer = world.price(world.product().id), world.customer()
    items = {"license": {"price": fee.id}}
    with pytest.raises(StripeRefusal, match="no attached payment source") as caught:
        world.subscription(customer.id, items, collection_method=None, days_until_due=None)
    assert 'Declare collection_method="send_invoice" with days_until_due' in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_exception_prints_without_its_module(world: World) -> None:
    for error in (AccountError, StripeRefusal):
        assert error.__module__ == "builtins"


@pytest.mark.parametrize("key", [LIVE_KEY, TEST_KEY, "rk_" + "live_abc", "pk_" + "test_abc", "whsec_" + "abc"])
def test_keys_are_cut_out_of_every_message(world: World, key: str) -> None:
    assert redact(f"a {key} b") == f"a {key[: key.rindex('_')]}_*** b"
    world.control("faults", method="POST", path="/v1/products", status=400, message=f"Bad key {key}")
    with pytest.raises(StripeRefusal) as caught:
        world.product()
    assert key not in str(caught.value)
    assert key not in repr(caught.value)
    assert key not in str(vars(caught.value))


def test_a_key_that_stripe_does_not_know(world: World) -> None:
    world.control("keys", key=TEST_KEY, status="expired")
    with pytest.raises(StripeRefusal, match=r"HTTP 401.*Check stripe-pricing:apiKey or STRIPE_API_KEY") as caught:
        world.up(ProductProvider, "p", {"name": "P"}, process=world.process(mode="test", apiKey=TEST_KEY))
    assert TEST_KEY not in str(caught.value)
    # Which config a run without the program has, Pulumi does not say.
    assert str(caught.value).endswith("after a change, add --run-program.")


# -- retries --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fault",
    [
        {"status": 429},
        {"status": 429, "code": "lock_timeout"},
        {"status": 409},
        {"status": 500},
        {"status": 502, "body": "<html>Bad gateway</html>"},
        {"status": 503},
        {"drop": True},
        {"half_body": True},
        {"status": 200, "body": '{"id": "cus_1", "obj'},
        {"status": 400, "headers": {"stripe-should-retry": "true"}},
    ],
)
@pytest.mark.parametrize("when", ["before", "after"])
def test_what_may_pass_is_retried_with_the_same_key(world: World, fault: dict[str, Any], when: str) -> None:
    world.control("faults", method="POST", path="/v1/products", when=when, count=3, **fault)
    process = world.process()
    world.up(ProductProvider, "p", {"name": "P"}, process=process)
    posts = [call for call in world.sent if call.method == "POST"]
    keys = {call.headers["idempotency-key"] for call in posts}
    assert len(posts) == 4
    assert len(keys) == 1
    assert len(world.stripe("get", "/v1/products")["data"]) == 1
    # Full backoff, with jitter: each wait is between half of its step and the step.
    waits = [slept for slept in process.clock.slept if slept > 0.2]
    assert len(waits) == 3
    for wait, step in zip(waits, (0.5, 1.0, 2.0), strict=True):
        assert step / 2 <= wait <= step


@pytest.mark.parametrize(
    "fault",
    [{"status": 400}, {"status": 402}, {"status": 404}, {"status": 500, "headers": {"stripe-should-retry": "false"}}],
)
def test_what_cannot_pass_is_not_retried(world: World, fault: dict[str, Any]) -> None:
    world.control("faults", method="POST", path="/v1/products", **fault)
    process = world.process()
    with pytest.raises(StripeRefusal):
        world.up(ProductProvider, "p", {"name": "P"}, process=process)
    assert world.calls().count("POST /v1/products") == 1


def test_a_stored_answer_is_asked_for_no_more_than_once(world: World) -> None:
    """Stripe repeats it for a day."""
    world.control("faults", method="POST", path="/v1/products", when="stored", status=500)
    with pytest.raises(StripeRefusal) as caught:
        world.process().account.request("post", "/v1/products", {"name": "P"}, subject="P", idempotency_key="k")
    assert caught.value.replayed
    assert world.calls().count("POST /v1/products") == 2


def test_a_line_is_told_once_and_without_a_key(capfd: pytest.CaptureFixture[str], world: World) -> None:
    run = run_of(world.process().account)
    for _ in range(2):
        run.tell("warning", f"two\nlines with {LIVE_KEY}")
    assert capfd.readouterr().err == "warning: two lines with sk_live_***\n"


def test_retries_end_at_the_deadline(world: World) -> None:
    world.control("faults", method="POST", path="/v1/products", count=None, status=429)
    process = world.process(retrySeconds="30")
    with pytest.raises(StripeRefusal, match=r"HTTP 429.*Lower stripe-pricing:requestsPerSecond"):
        world.up(ProductProvider, "p", {"name": "P"}, process=process)
    assert 15 < sum(process.clock.slept) <= 30


# -- pace -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "config", "rate"),
    [
        ("test", {}, 25),
        ("live", {}, 100),
        ("sandbox", {}, None),
        ("sandbox", {"apiBase": "http://127.0.0.1:1"}, 25),
        ("live", {"requestsPerSecond": "10"}, 10),
    ],
)
def test_the_pace_is_stripe_s_limit(mode: str, config: dict[str, str], rate: float | None) -> None:
    assert Account(Settings.read({"mode": mode, **config}.get, {})).pacer.rate == rate


def test_requests_are_spaced_evenly() -> None:
    clock = Clock()
    pacer = Pacer(25, clock, clock.sleep)
    started = clock.now
    for _ in range(100):
        pacer.wait()
    # The tenth of a second that an idle pacer may catch up, and no more.
    assert 100 / 25 - 0.15 <= clock.now - started <= 100 / 25


def test_threads_share_the_pace() -> None:
    clock = Clock()
    lock = threading.Lock()

    def sleep(seconds: float) -> None:
        with lock:
            clock.slept.append(seconds)

    pacer = Pacer(10, clock, sleep)

    def five_turns() -> None:
        for _ in range(5):
            pacer.wait()

    threads = [threading.Thread(target=five_turns) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # Twenty turns of a tenth of a second; time stands still, so the last one waits longest.
    assert max(clock.slept) == pytest.approx(20 / 10 - 0.1 - 0.1)


def test_a_limit_that_nobody_told_us_is_learnt(world: World) -> None:
    world.control("faults", method="POST", path="/v1/products", status=429)
    process = world.process()
    assert process.account.pacer.rate is None
    world.up(ProductProvider, "p", {"name": "P"}, process=process)
    assert process.account.pacer.rate == 25


def test_the_api_version_is_the_pinned_sdk_s(world: World) -> None:
    from stripe._api_version import _ApiVersion

    world.product()
    versions = {call.headers["stripe-version"] for call in world.sent}
    assert versions == {_ApiVersion.CURRENT}


# -- threads --------------------------------------------------------------------------------------------------------

AT_ONCE = """
import sys, threading
from components.account import Account
from components.providers.customer import CUSTOMER
from components.providers.meter import METER
from components.providers.price import PRICE
from components.providers.product import PRODUCT
from components.providers.subscription import SUBSCRIPTION
from components.redaction import redact
from components.settings import Settings

sys.setswitchinterval(1e-6)
account = Account(Settings.read({"mode": "sandbox", "sandboxFile": sys.argv[1]}.get, {}))
kinds = (METER, PRODUCT, PRICE, CUSTOMER, SUBSCRIPTION)
work = [lambda: account.request("get", "/v1/prices", subject="prices"), lambda: account.id]
work += [lambda kind=kind: kind.schema for kind in kinds]
start, wrong = threading.Barrier(len(work)), []

def run(each):
    start.wait()
    try:
        each()
    except BaseException as problem:
        wrong.append(repr(problem))

threads = [threading.Thread(target=run, args=(each,)) for each in work]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(wrong, account.calls)
"""


def test_the_first_calls_may_come_at_the_same_moment(tmp_path: Path) -> None:
    """Modules of stripe-python import each other in cycles, which two threads must not enter."""
    for number in range(3):
        run = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", AT_ONCE, str(tmp_path / f"{number}.db")],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        # The account is asked for once, the prices once.
        assert run.stdout == "[] 2\n", run.stdout + run.stderr


def test_other_calls_go_on_while_the_account_is_asked_for(world: World) -> None:
    """Otherwise sixteen threads wait for one answer, and then each for its own."""
    asked, answered = threading.Event(), threading.Event()

    class Waiting(Recording):
        def request(self, method: str, url: str, *more: Any, **options: Any) -> tuple[str, int, Mapping[str, str]]:
            if url.endswith("/v1/account"):
                asked.set()
                assert answered.wait(60)
            return super().request(method, url, *more, **options)

    account = Account(Settings.read({"mode": "sandbox"}.get, {}), http_client=Waiting(world.sandbox, world.sent))
    with ThreadPoolExecutor(2) as threads:
        id_ = threads.submit(lambda: account.id)
        assert asked.wait(60)
        made = threads.submit(account.request, "post", "/v1/products", {"name": "P"}, subject="Product")
        try:
            assert made.result(20).data["name"] == "P"
        finally:
            answered.set()
        assert id_.result(20).startswith("acct_")


def asked() -> None:
    """Wait for the threads that ask ahead."""
    for thread in threading.enumerate():
        if thread.name == ASKING:
            thread.join()


def test_the_account_is_asked_for_ahead_and_once(world: World) -> None:
    process = world.process()
    for _ in range(2):
        process.account.ask_ahead()
    asked()
    assert process.account.id.startswith("acct_")
    assert world.calls() == ["GET /v1/account"]


def test_what_is_wrong_is_said_to_who_needs_the_account(world: World) -> None:
    world.control("faults", method="GET", path="/v1/account", status=401, count=None)
    process = world.process()
    process.account.ask_ahead()
    asked()
    with pytest.raises(StripeRefusal, match="Stripe account: "):
        _ = process.account.id
