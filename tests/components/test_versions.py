"""Plans in versions: what is published stays, what is offered has the lookup keys, and who moves is declared."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import pulumi
import pytest

from components.plan import PublishedPlan
from components.pricing import Fee, Overage, Plan, PricingError, Rollout, Tier, Usage, Version
from components.program import program
from components.subscriber import Subscriber
from sandbox.wire import Request
from tests.components.world import Recording, World
from tests.mocked import event_loop
from tests.stack import Stack

Program = Callable[[], Any]
JANUARY, DAY = 1_767_225_600, 86_400
AUTH = {"authorization": "Bearer sk_test_sandbox"}


def plan(fee: str = "100.00", **changes: Any) -> Plan:
    usage = Usage("token", included=1_000, overage=Overage("0.04", per=100))
    return Plan("Alpaca.ai", **{"fees": Fee(fee), "usage": usage, **changes})


def alpaca(versions: Any) -> PublishedPlan:
    return PublishedPlan("alpaca-ai", versions, event_name="tokens")


def subscriber(name: str, plans: Any, **more: Any) -> Subscriber:
    return Subscriber(name, plans, customer_name=name, email=f"{name}@example.com", **more)


def sold(versions: Any, *subscribers: str) -> Program:
    """A program that sells the plan in some versions to some subscribers."""

    def body() -> None:
        with program():
            published = alpaca(versions)
            for name in subscribers:
                subscriber(name, published)

    return body


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    with event_loop():
        yield Stack(World(tmp_path / "stripe.db"))


def refused(stack: Stack, body: Program, **config: str) -> str:
    """The one line with which a preview of a program is refused."""
    done = stack.preview
    with pytest.raises((pulumi.RunError, PricingError)) as caught:
        done(body, **config)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def fee_of(stack: Stack, subscriber: str) -> str:
    """The name of the price that a subscriber pays for its seats, as Stripe has it."""
    subscription = stack.world.stripe("get", f"/v1/subscriptions/{stack.id(f'Subscription {subscriber}')}")
    paid = {item["price"]["id"] for item in subscription["items"]["data"]}
    return next(
        key for key, state in stack.states.items() if key.startswith("Price") and state.id in paid and "license" in key
    )


V1, V2 = plan(), plan("120.00")


def test_a_second_version_is_made_beside_the_first(stack: Stack) -> None:
    stack.up(sold(V1))
    before = dict(stack.states)
    stack.up(sold({1: V1, 2: V2}))
    assert {each for each in stack.done if each.startswith("create")} == {
        "create Price alpaca-ai-v2-license",
        "create Price alpaca-ai-v2-usage",
    }
    assert {key: state.id for key, state in stack.states.items() if key in before} == {
        key: state.id for key, state in before.items()
    }
    stack.up(sold({1: V1, 2: V2}))
    assert stack.done == []


# -- a published version stays as it is -------------------------------------------------------------------------------

TIERS = "usage tiers[0].up_to 1000 -> 2000"


@pytest.mark.parametrize(
    ("edited", "different"),
    [
        (plan("120.00"), "license 100.00 USD -> 120.00 USD"),
        (plan(fees=Fee("100.00", per="subscription")), "license per seat -> subscription"),
        (plan(fees=Fee("100.00", interval="year")), "license recurring.interval month -> year"),
        (plan(fees=()), "license is gone"),
        (plan(fees=[Fee("100.00"), Fee("5.00", key="support")]), "support is new"),
        (plan(currency="eur"), "license currency usd -> eur"),
        (plan(usage=Usage("token", included=2_000, overage=Overage("0.04", per=100))), TIERS),
        (plan(usage=Usage("token", included=1_000, overage="0.04")), "usage tiers[1].unit_amount_decimal 0.0004 USD"),
    ],
)
def test_an_edit_of_a_published_version_is_refused(stack: Stack, edited: Plan, different: str) -> None:
    stack.up(sold(V1, "acme"))
    said = refused(stack, sold(edited, "acme"))
    assert said.startswith(f"alpaca-ai v1 is published in dev; add v2 ({different}")


def test_what_nobody_pays_for_can_be_edited(stack: Stack) -> None:
    both = {"usd": "100.00", "eur": "90.00"}
    more = Usage("token", units="tokens", included=1_000, overage=Overage({"usd": "0.04", "eur": "0.04"}, per=100))
    stack.up(sold(V1))
    stack.up(sold(Plan("Alpaca", fees=Fee(both), usage=more, trial_days=14)))
    assert sorted(stack.done) == [
        "update Meter alpaca-ai-meter",
        "update Price alpaca-ai-license",
        "update Price alpaca-ai-usage",
        "update Product alpaca-ai-product",
    ]
    dearer = Plan("Alpaca", fees=Fee({**both, "eur": "95.00"}), usage=more, trial_days=14)
    assert refused(stack, sold(dearer)) == (
        "alpaca-ai v1 is published in dev; add v2 "
        "(license currency_options.eur.unit_amount_decimal 90.00 EUR -> 95.00 EUR)"
    )


@pytest.mark.parametrize(("before", "after"), [(None, 14), (14, 30), (14, None)])
@pytest.mark.parametrize("rollout", ["now", "at_renewal", None])
def test_a_trial_that_a_plan_gets_changes_or_loses_is_for_new_subscriptions(
    stack: Stack, before: int | None, after: int | None, rollout: Any
) -> None:
    first = plan(trial_days=before)
    stack.up(sold(first, "acme"))
    there = stack.id("Subscription acme")
    second = plan("120.00", trial_days=after)
    stack.up(
        sold({1: first, 2: Version(second, rollout=rollout)} if rollout else plan(trial_days=after), "acme", "new")
    )
    assert stack.id("Subscription acme") == there
    assert "create Subscription acme" not in stack.done
    began = stack.world.stripe("get", f"/v1/subscriptions/{stack.id('Subscription new')}")
    assert bool(began["trial_end"]) == bool(after)


def test_a_version_that_an_interrupted_run_has_begun_is_completed(stack: Stack) -> None:
    stack.up(sold(V1))
    stack.components.clear()
    stack._delete("Price alpaca-ai-usage", stack.world.process())
    stack.up(sold(V1))
    assert stack.done == ["create Price alpaca-ai-usage"]
    stack.components.clear()
    assert "100.00 USD -> 120.00 USD" in refused(stack, sold(V2))


# -- what is offered --------------------------------------------------------------------------------------------------


class Watched:
    """The lookup key of the fee after every request of a run: who has it."""

    def __init__(self, stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
        self.holders: list[list[str]] = []
        request = Recording.request

        def watched(client: Recording, *arguments: Any, **more: Any) -> Any:
            answer = request(client, *arguments, **more)
            found = stack.world.sandbox.handle(Request("GET", "/v1/prices?lookup_keys[]=alpaca-ai:license", AUTH))
            self.holders.append([price["id"] for price in json.loads(found.body)["data"]])
            return answer

        monkeypatch.setattr(Recording, "request", watched)


def test_the_lookup_key_names_what_is_offered_at_every_moment(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    both = {1: V1, 2: Version(V2, rollout="keep")}
    stack.up(sold(V1, "acme"))
    first = stack.id("Price alpaca-ai-license")
    watched = Watched(stack, monkeypatch)
    stack.up(sold(both, "acme"))
    second = stack.id("Price alpaca-ai-v2-license")
    stack.up(sold(both, "acme"), **{"stripe-pricing:offers": '{"alpaca-ai": 1}'})
    stack.up(sold(both, "acme"))
    moves = [holders for holders, _ in groupby(watched.holders)]
    assert moves == [[first], [second], [first], [second]]
    # Moved by the one that takes it, and not unset by the other.
    sent = [str(each.body) for each in stack.world.sent if each.method == "POST" and "lookup_key=" in each.body]
    assert all("transfer_lookup_key=true" in body for body in sent[2:])


def test_a_stack_offers_what_one_line_of_its_config_says(stack: Stack) -> None:
    published: list[PublishedPlan] = []

    def body() -> None:
        with program():
            published.append(alpaca({1: V1, 2: V2}))

    stack.up(body, **{"stripe-pricing:offers": '{"alpaca-ai": 1}'})
    assert published[-1].plan == V1
    assert stack.states["DefaultPrice alpaca-ai-default-price"].outs["price"] == stack.id("Price alpaca-ai-license")
    stack.up(body)
    assert published[-1].plan == V2
    assert stack.states["DefaultPrice alpaca-ai-default-price"].outs["price"] == stack.id("Price alpaca-ai-v2-license")


@pytest.mark.parametrize(
    ("offers", "message"),
    [
        ('{"alpaca-ai": 3}', "stripe-pricing:offers says alpaca-ai: 3; alpaca-ai has versions 1 and 2"),
        ('{"llama": 1}', "stripe-pricing:offers names llama, and there is no such plan; this program has alpaca-ai"),
        ("2", "stripe-pricing:offers is 2; it must map plans to the numbers of their versions: {alpaca-ai: 2}"),
        ('{"alpaca-ai": "2"}', 'stripe-pricing:offers is {"alpaca-ai": "2"}; it must map plans to the numbers'),
        ("{", "stripe-pricing:offers is {; it must map plans"),
    ],
)
def test_an_offer_that_there_is_not_is_one_sentence(stack: Stack, offers: str, message: str) -> None:
    assert refused(stack, sold({1: V1, 2: V2}), **{"stripe-pricing:offers": offers}).startswith(message)


# -- who stays and who moves ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rollout", "paid"),
    [("keep", "Price alpaca-ai-license"), ("now", "Price alpaca-ai-v2-license")],
)
def test_who_is_on_an_older_version_follows_the_rollout(
    stack: Stack, rollout: Rollout, paid: str, caplog: pytest.LogCaptureFixture
) -> None:
    stack.up(sold(V1, "acme"))
    versions = {1: V1, 2: Version(V2, rollout=rollout)}
    stack.up(sold(versions, "acme", "globex"))
    assert fee_of(stack, "acme") == paid
    assert fee_of(stack, "globex") == "Price alpaca-ai-v2-license"
    said = {"keep": "stay on v1", "now": "move from v1 at once"}[rollout]
    assert f"alpaca-ai offers v2; these {said}: acme" in caplog.messages
    caplog.clear()
    stack.up(sold(versions, "acme", "globex"))
    assert stack.done == []
    assert caplog.messages == []


@pytest.mark.parametrize(
    ("rollout", "bills"),
    [
        ("keep", [30_000, 30_000, 30_000]),
        ("at_renewal", [30_000, 36_000, 36_000]),
        # 21 of 31 days: 360.00 - 203.23 + 243.87.
        ("now", [30_000, 40_064, 36_000]),
    ],
)
def test_the_invoices_of_each_rollout_are_those_of_the_page(stack: Stack, rollout: Rollout, bills: list[int]) -> None:
    def body(versions: Any) -> Program:
        def run() -> None:
            with program():
                subscriber("acme", alpaca(versions), seats=3)

        return run

    stack.world.control("clock", frozen=JANUARY)
    stack.up(body(V1))
    stack.world.control("clock", advance=10 * DAY)
    stack.up(body({1: V1, 2: Version(V2, rollout=rollout)}))
    stack.world.control("clock", advance=50 * DAY)
    found = stack.world.stripe("get", "/v1/invoices", customer=stack.id("Customer acme"))["data"]
    assert [each["total"] for each in found][::-1] == bills


def test_a_move_that_waits_for_the_renewal_is_taken_back_by_a_pin(stack: Stack) -> None:
    def body(*, pinned: bool) -> Program:
        def run() -> None:
            with program():
                published = alpaca({1: V1, 2: Version(V2, rollout="at_renewal")})
                subscriber("acme", published.version(1) if pinned else published)

        return run

    stack.world.control("clock", frozen=JANUARY)
    stack.up(sold(V1, "acme"))
    stack.up(body(pinned=False))
    assert fee_of(stack, "acme") == "Price alpaca-ai-license"
    stack.up(body(pinned=True))
    stack.world.control("clock", advance=40 * DAY)
    assert fee_of(stack, "acme") == "Price alpaca-ai-license"
    stack.up(body(pinned=False))
    stack.world.control("clock", advance=40 * DAY)
    assert fee_of(stack, "acme") == "Price alpaca-ai-v2-license"
    stack.up(body(pinned=False))
    assert stack.done == []


@pytest.mark.parametrize("offers", ['{"alpaca-ai": 1}', '{"alpaca-ai": 2}'])
def test_a_move_that_waits_goes_on_waiting_when_the_offer_or_its_rollout_is_taken_back(
    stack: Stack, offers: str
) -> None:
    stack.world.control("clock", frozen=JANUARY)
    stack.up(sold(V1, "acme"))
    stack.up(sold({1: V1, 2: Version(V2, rollout="at_renewal")}, "acme"))
    stack.up(sold({1: V1, 2: Version(V2, rollout="keep")}, "acme"), **{"stripe-pricing:offers": offers})
    assert fee_of(stack, "acme") == "Price alpaca-ai-license"
    stack.up(sold({1: V1, 2: Version(V2, rollout="now")}, "acme"))
    assert fee_of(stack, "acme") == "Price alpaca-ai-v2-license"


def test_a_move_at_renewal_is_asked_of_the_subscription_until_another_rollout(stack: Stack) -> None:
    stack.up(sold(V1, "acme"))
    stack.states["Subscription acme"].outs["price_changes"] = "at_renewal"
    stack.states["Subscription acme"].outs["plan_versions"] = {"alpaca-ai": 2}
    asked: dict[str, Any] = {}
    for rollout in ("at_renewal", "now"):
        asked[rollout] = arguments(stack, sold({1: V1, 2: Version(V2, rollout=rollout)}, "acme", "globex"))
    assert asked["at_renewal"]["acme"]["price_changes"] == "at_renewal"
    assert "price_changes" not in asked["at_renewal"]["globex"]
    assert "price_changes" not in asked["now"]["acme"]


def arguments(stack: Stack, body: Program, **config: str) -> dict[str, dict[str, Any]]:
    """What a preview declares of each subscription."""
    stack.preview(body, **config)
    return {key.partition(" ")[2]: each for key, each in stack.declared.items() if key.startswith("Subscription")}


def test_without_a_rollout_all_who_are_on_an_older_version_are_named(stack: Stack) -> None:
    def body(versions: Any) -> Program:
        def run() -> None:
            with program():
                published = alpaca(versions)
                for name in ("acme", "globex"):
                    subscriber(name, published)
                subscriber("initech", published.version(1))

        return run

    stack.up(body(V1))
    ids = {key: state.id for key, state in stack.states.items()}
    said = refused(stack, body({1: V1, 2: V2}))
    assert said == (
        "alpaca-ai v2 needs a rollout, because there are subscribers on v1: acme, globex; choose one of "
        '"keep" (they stay on it), "at_renewal" (each moves when its period ends), "now" (they move at once, prorated)'
    )
    assert {key: state.id for key, state in stack.states.items()} == ids


def test_without_a_program_around_it_the_first_of_them_stops_the_run(stack: Stack) -> None:
    stack.up(sold(V1, "acme"))
    assert "on v1: acme" in refused(stack, lambda: subscriber("acme", alpaca({1: V1, 2: V2})))


def test_a_pinned_subscriber_stays_and_can_be_moved_there_and_back(stack: Stack) -> None:
    def body(number: int | None) -> Program:
        def run() -> None:
            with program():
                published = alpaca({1: V1, 2: Version(V2, rollout="now")})
                subscriber("acme", published.version(number) if number else published)

        return run

    for number, paid in ((1, "license"), (2, "v2-license"), (1, "license"), (None, "v2-license")):
        stack.up(body(number))
        assert fee_of(stack, "acme") == f"Price alpaca-ai-{paid}"


@pytest.mark.parametrize(("first", "paid"), [(V1, "v2-license"), (Version(V1, rollout="now"), "license")])
def test_an_offer_that_is_taken_back_moves_nobody_unless_it_says_so(stack: Stack, first: Any, paid: str) -> None:
    versions = {1: first, 2: V2}
    stack.up(sold(versions, "acme"))
    stack.up(sold(versions, "acme", "globex"), **{"stripe-pricing:offers": '{"alpaca-ai": 1}'})
    assert fee_of(stack, "acme") == f"Price alpaca-ai-{paid}"
    assert fee_of(stack, "globex") == "Price alpaca-ai-license"


@pytest.mark.parametrize(
    "alias", [pulumi.Alias("acme"), "urn:pulumi:dev::example::stripe-pricing:index:Subscriber::acme"]
)
def test_a_subscriber_with_another_name_under_an_alias_is_the_same_one_on_the_same_version(
    stack: Stack, alias: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Its customer and subscription have the alias too, also after a run that only the component has come through."""
    kept = {1: V1, 2: Version(V2, rollout="keep")}
    own = [Fee("80.00")]

    def body(name: str, opts: pulumi.ResourceOptions | None = None) -> Program:
        def run() -> None:
            with program():
                published = alpaca(kept)
                subscriber(name, published.version(1) if name == "acme" else published, own=own, opts=opts)

        return run

    stack.up(body("acme"))
    before = [stack.id(f"{each} acme") for each in ("Customer", "Subscription")]
    caplog.clear()
    stack.up(body("renamed", pulumi.ResourceOptions(aliases=[alias])))
    assert [stack.id(f"{each} renamed") for each in ("Customer", "Subscription")] == before
    assert sorted(stack.done) == [f"update {each}" for each in sorted(stack.states) if "renamed" in each]
    assert stack.states["Subscription renamed"].outs["plan_versions"] == {"alpaca-ai": 1}
    assert "no longer in the program" not in caplog.text


def test_a_version_that_somebody_pays_is_not_taken_out(stack: Stack) -> None:
    stack.up(sold(V1, "acme"))
    stack.up(sold({1: V1, 2: Version(V2, rollout="keep")}, "acme"))
    for rollout in ("keep", "at_renewal"):
        assert refused(stack, sold({2: Version(V2, rollout=rollout)}, "acme")) == (
            "subscriber acme pays alpaca-ai v1, which is not in the program: declare it until no subscriber is on it, "
            'or give v2 the rollout "now"'
        )
    stack.up(sold({2: Version(V2, rollout="now")}, "acme"))
    assert fee_of(stack, "acme") == "Price alpaca-ai-v2-license"
    assert stack.done[-1].startswith("delete Price alpaca-ai-")


def test_a_version_that_is_taken_out_is_said_in_the_preview(stack: Stack, caplog: pytest.LogCaptureFixture) -> None:
    stack.up(sold({1: V1, 2: V2}))
    stack.preview(sold({2: V2}))
    assert caplog.messages == [
        f"Price 'alpaca-ai-{key}' is no longer in the program: it is archived in Stripe, which is refused while a "
        "subscription or a schedule is on it"
        for key in ("license", "usage")
    ]


def test_a_subscriber_that_is_taken_out_ends_with_its_period_if_it_was_applied_so(stack: Stack) -> None:
    def body() -> None:
        with program():
            subscriber("acme", alpaca(V1), cancel={"when": "period_end"})

    stack.up(body)
    id_ = stack.id("Subscription acme")
    stack.up(sold(V1))
    assert stack.states.keys().isdisjoint({"Subscription acme", "Customer acme"})
    there = stack.world.stripe("get", f"/v1/subscriptions/{id_}")
    assert (there["status"], there["cancel_at_period_end"]) == ("active", True)
    assert not stack.world.stripe("get", f"/v1/customers/{there['customer']}").get("deleted")


def test_one_more_plan_is_taken_in_the_version_that_it_offers(stack: Stack) -> None:
    def body(several: bool) -> Program:
        def run() -> None:
            with program():
                both = [alpaca({1: V1, 2: Version(V2, rollout="keep")})]
                support = {
                    1: Plan("Support", fees=Fee("10.00", key="support")),
                    2: Plan("Support", fees=Fee("12.00", key="support")),
                }
                both += [PublishedPlan("support", support)] if several else []
                subscriber("acme", both)

        return run

    stack.up(sold(V1, "acme"))
    stack.up(body(several=False))
    stack.up(body(several=True))
    assert stack.states["Subscription acme"].outs["plan_versions"] == {"alpaca-ai": 1, "support": 2}


def test_plans_of_one_subscription_that_move_at_different_times_are_refused(stack: Stack) -> None:
    def body(*rollouts: Any) -> Program:
        def run() -> None:
            with program():
                sold = []
                for name, rollout in zip(("basic", "support"), rollouts, strict=True):
                    first, second = (Plan(name, fees=Fee(fee, key=name)) for fee in ("10.00", "12.00"))
                    sold.append(
                        PublishedPlan(name, {1: first, **({2: Version(second, rollout=rollout)} if rollout else {})})
                    )
                subscriber("acme", sold)

        return run

    stack.up(body(None, None))
    assert refused(stack, body("now", "at_renewal")) == (
        "subscriber acme: has one subscription, and its plans move basic now and support at_renewal; declare "
        "price_changes"
    )


# -- promotion --------------------------------------------------------------------------------------------------------


@pytest.fixture
def prod(stack: Stack, tmp_path: Path) -> Stack:
    """A stack that is promoted from `test`, on an account of its own."""
    stack.name = "test"
    made = Stack(World(tmp_path / "prod.db"), "prod")
    made.others["test"] = stack
    return made


PROMOTED = {"stripe-pricing:promotedFrom": "test"}


def test_a_stack_offers_only_what_the_one_before_it_has_applied(stack: Stack, prod: Stack) -> None:
    assert refused(prod, sold(V1), **PROMOTED) == (
        "prod cannot offer alpaca-ai v1: test, which it is promoted from, has not applied it"
    )
    stack.up(sold(V1))
    prod.up(sold(V1), **PROMOTED)
    assert "prod cannot offer alpaca-ai v2: test" in refused(prod, sold({1: V1, 2: V2}), **PROMOTED)
    prod.up(sold({1: V1, 2: V2}), **PROMOTED, **{"stripe-pricing:offers": '{"alpaca-ai": 1}'})
    stack.up(sold({1: V1, 2: V2}))
    prod.up(sold({1: V1, 2: V2}), **PROMOTED)


def test_what_is_promoted_has_equal_content(stack: Stack, prod: Stack) -> None:
    stack.up(sold(V2))
    assert refused(prod, sold(V1), **PROMOTED) == (
        "prod cannot offer alpaca-ai v1: test, which it is promoted from, has another one "
        "(license 120.00 USD -> 100.00 USD)"
    )


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("qa", 'prod is promoted from qa, whose state cannot be read: unknown stack "qa"'),
        ("prod", "stripe-pricing:promotedFrom is prod, which is this stack; name another stack"),
    ],
)
def test_a_stack_that_cannot_be_read_promotes_nothing(prod: Stack, source: str, message: str) -> None:
    assert refused(prod, sold(V1), **{"stripe-pricing:promotedFrom": source}) == message


# -- the catalogue ----------------------------------------------------------------------------------------------------


def test_the_catalogue_has_every_version_and_what_it_costs(stack: Stack) -> None:
    found: dict[str, Any] = {}

    def body() -> None:
        with program():
            published = alpaca({1: V1, 2: Version(V2, rollout="keep"), 3: Version(plan("140.00"), rollout="keep")})
            subscriber("acme", published.version(1))
            pulumi.Output.from_input(published.catalogue).apply(found.update)

    stack.up(body)
    assert {number: each["status"] for number, each in found.items()} == {"1": "kept", "2": "retired", "3": "offered"}
    assert found["3"]["price"] == "140.00 USD per seat and month, 0.04 USD per 100 tokens above 1,000"
    assert found["3"]["prices"]["license"] == {
        "id": stack.id("Price alpaca-ai-v3-license"),
        "price": "140.00 USD per seat and month",
        "lookup_key": "alpaca-ai:license",
    }
    assert found["1"]["prices"]["usage"] == {
        "id": stack.id("Price alpaca-ai-usage"),
        "price": "0.04 USD per 100 tokens above 1,000",
    }


# -- what cannot be meant ---------------------------------------------------------------------------------------------


def test_a_mistake_that_is_found_last_applies_nothing(stack: Stack) -> None:
    """An `up` without a preview, too: the plan and the first subscriber were declared before the mistake."""
    with pytest.raises(pulumi.RunError):
        stack.up(sold(V1, "acme", "acme"))
    assert (stack.done, stack.states) == ([], {})
    stack.up(sold(V1, "acme"))
    with pytest.raises(pulumi.RunError, match="needs a rollout"):
        stack.up(sold({1: V1, 2: V2}, "acme"))
    assert stack.done == []


@pytest.mark.parametrize(
    ("versions", "message"),
    [
        ({}, "alpaca-ai: needs a Plan, or its versions by number: {1: Plan(...), 2: Version(Plan(...))}"),
        ({0: V1}, "alpaca-ai: versions are numbered 1, 2, ...; 0 is no version"),
        ({"1": V1}, "alpaca-ai: versions are numbered 1, 2, ...; '1' is no version"),
        ({1: "100.00"}, "alpaca-ai v1: is str; must be a Plan or a Version"),
        (
            {1: V1, 2: plan(currency="eur")},
            "alpaca-ai v2 is not sold in usd, and v1 is: who pays in it could not move; give every charge an amount ",
        ),
        ({1: plan(fees=Fee("1.00", key="v2-license"))}, "alpaca-ai v1: the key 'v2-license' begins like a version; "),
    ],
)
def test_versions_that_cannot_be_meant_are_refused(stack: Stack, versions: Any, message: str) -> None:
    assert refused(stack, sold(versions)).startswith(message)
    assert stack.done == []


def test_a_name_is_given_once(stack: Stack) -> None:
    def twice() -> None:
        alpaca(V1)
        alpaca(V1)

    assert refused(stack, twice) == "two plans are called alpaca-ai, and both claim the lookup key alpaca-ai:license"
    assert refused(stack, sold(V1, "acme", "acme")) == "subscriber acme is declared twice"


def test_a_pin_to_a_version_that_there_is_not_says_which_there_are(stack: Stack) -> None:
    assert refused(stack, lambda: alpaca({1: V1, 2: V2}).version(3)) == (
        "alpaca-ai has no version 3; it has versions 1 and 2"
    )


def test_a_usage_charge_that_a_later_version_adds_leaves_the_meter_of_the_first(stack: Stack) -> None:
    both = plan(usage=[V1.usage[0], Usage("call", key="calls", overage="0.01")])

    def body() -> None:
        with program():
            names = {"usage": "tokens", "calls": "calls"}
            PublishedPlan("alpaca-ai", {1: V1, 2: Version(both, rollout="keep")}, event_name=names)

    stack.up(sold(V1))
    stack.up(body)
    assert [each for each in stack.done if "Meter" in each] == ["create Meter alpaca-ai-calls-meter"]


# -- what is surely not meant -----------------------------------------------------------------------------------------


def slipped() -> Plan:
    return plan(usage=Usage("token", included=1_000, overage="0.04"))


def test_a_slip_of_unit_between_versions_is_warned_of_until_it_is_meant(
    stack: Stack, caplog: pytest.LogCaptureFixture
) -> None:
    def body(*meant: str) -> Program:
        def run() -> None:
            with program(meant=meant):
                alpaca({1: V1, 2: slipped()})

        return run

    said = "alpaca-ai@2: 1 token is 100 times dearer than in alpaca-ai@1: 0.0004 USD becomes 0.04 USD"
    stack.preview(body())
    assert caplog.messages == [f'{said}; if that is meant: program(meant=["slip:alpaca-ai@2:usage"])']
    caplog.clear()
    stack.preview(body("slip:alpaca-ai@2:usage"))
    # The version that is offered has no such slip; the one that may come is told of before it is offered.
    assert caplog.messages == []
    stack.preview(body(), **{"stripe-pricing:offers": '{"alpaca-ai": 1}'})
    assert len(caplog.messages) == 1


def test_what_was_meant_of_the_only_version_is_meant_of_the_first(
    stack: Stack, caplog: pytest.LogCaptureFixture
) -> None:
    falling = Usage("token", tiers=[Tier("5.00", up_to=20), Tier("4.00")], tiers_mode="volume")

    def body(versions: Any) -> Program:
        def run() -> None:
            with program(meant=["falls:alpaca-ai:usage"]):
                alpaca(versions)

        return run

    stack.preview(body(plan(usage=falling)))
    offered = {"stripe-pricing:offers": '{"alpaca-ai": 1}'}
    rising = Usage("token", tiers=[Tier("5.00", up_to=20), Tier("4.90")], tiers_mode="volume")
    stack.preview(body({1: plan(usage=falling), 2: plan(usage=rising)}), **offered)
    assert caplog.messages == []


def test_a_catalogue_s_doubts_are_counted_beyond_the_first_twenty(
    stack: Stack, caplog: pytest.LogCaptureFixture
) -> None:
    def run() -> None:
        with program():
            for number in range(8):
                PublishedPlan(f"p{number}", plan(f"{10 + number}.00"), event_name=f"p{number}_tokens")

    stack.preview(run)
    assert ["never costs less than" in message for message in caplog.messages] == [True] * 20 + [False]
    assert caplog.messages[-1] == "there are 8 more warnings of what plans cost"


def test_plans_are_compared_in_the_versions_that_are_offered(stack: Stack, caplog: pytest.LogCaptureFixture) -> None:
    def run() -> None:
        with program():
            alpaca({1: plan("100.00"), 2: plan("90.00")})
            PublishedPlan("llama", plan("95.00"), event_name="llama_tokens")

    stack.preview(run)
    assert ["llama never costs less than alpaca-ai@2" in message for message in caplog.messages] == [True]
