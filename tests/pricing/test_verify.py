"""`pricing verify` on the sandbox: each way in which Stripe can differ from the program is named; nothing is changed.

The stack is applied by the real providers without the engine; drift is made by somebody else, or by an edit of the
program that nobody has applied.
"""

from __future__ import annotations

import io
import json
import re
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import chdir
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from pricing import cli
from pricing.verify import command as verify_command
from pricing.verify.pending import changes
from sandbox import keys
from tests.components.test_permissions import accesses, names, table
from tests.components.world import LIVE_KEY, Process, World
from tests.mocked import event_loop
from tests.pricing.shop import opened
from tests.stack import Stack

PROGRAM = """\
import pulumi
from components.plan import PublishedPlan
from components.pricing import Fee, Overage, Plan, Usage, Version
from components.program import program
from components.resources import Coupon, Customer, DefaultPrice, Meter, Price, Product, PromotionCode, Subscription
from components.subscriber import Subscriber

with program():
    usage = Usage("token", included=1_000, overage=Overage("0.04", per=100))
    dearer = Usage("token", included=500, overage=Overage("0.05", per=100))
    alpaca = PublishedPlan(
        "alpaca-ai",
        {
            1: Plan("Alpaca.ai", fees=Fee("100.00"), usage=usage),
            2: Version(Plan("Alpaca.ai", fees=Fee("120.00"), usage=dearer), rollout="keep"),
        },
        event_name="tokens",
    )
    welcome = Coupon("welcome", name="Welcome", percent_off=20, duration="forever")
    PromotionCode("summer", code="SUMMER", promotion={"type": "coupon", "coupon": welcome.id})
    Subscriber("acme", alpaca.version(1), customer_name="Acme", email="acme@example.com", seats=3)
    Subscriber("bolt", alpaca, customer_name="Bolt", email="bolt@example.com", seats=2, coupon=welcome.id)

    pages = Meter("pages", display_name="Pages", event_name="pages", default_aggregation={"formula": "sum"})
    scans = Product("scans", name="Scans", description="Pages that are read")
    page = Price(
        "page",
        product=scans.id,
        currency="usd",
        recurring={"interval": "month", "usage_type": "metered", "meter": pages.id},
        billing_scheme="tiered",
        tiers_mode="graduated",
        tiers=[{"up_to": 100, "unit_amount_decimal": "5"}, {"up_to": "inf", "unit_amount_decimal": "4"}],
        currency_options={
            "eur": {"tiers": [{"up_to": 100, "unit_amount_decimal": "4"}, {"up_to": "inf", "unit_amount_decimal": "3"}]}
        },
    )
    setup = Price("setup", product=scans.id, currency="usd", unit_amount_decimal="5000", lookup_key="setup")
    DefaultPrice("first", product=scans.id, price=setup.id)
    crate = Customer("crate", name="Crate", email="crate@example.com")
    Subscription(
        "crate",
        customer=crate.id,
        items={"page": {"price": page.id}},
        collection_method="send_invoice",
        days_until_due=30,
    )
"""


class Verified:
    """A stack `shop/dev` that is applied, and what `pricing verify` says of it."""

    def __init__(self, folder: Path, program: str = PROGRAM, like: Verified | None = None) -> None:
        """Apply the program in a folder, or take over what another one has applied."""
        self.folder, self.file = folder / "shop", folder / "stripe.db"
        if like is not None:
            shutil.copytree(like.folder.parent, folder, dirs_exist_ok=True)
        else:
            self.folder.mkdir()
            self.write(program)
            (self.folder / "Pulumi.yaml").write_text("name: shop\nruntime: python\n")
            config = "config:\n  stripe-pricing:mode: sandbox\n  stripe-pricing:sandboxFile: ../stripe.db\n"
            (self.folder / "Pulumi.dev.yaml").write_text(config)
        self.world = World(self.file)
        self.stack = Stack(self.world, project="shop")
        if like is not None:
            self.stack.states, self.stack.urns = dict(like.stack.states), dict(like.stack.urns)
            self.stack.components = dict(like.stack.components)
        else:
            self.stack.up(self.folder / "__main__.py")

    def write(self, program: str) -> None:
        (self.folder / "__main__.py").write_text(program)

    def edit(self, old: str, new: str) -> None:
        """Change the program without applying it."""
        program = (self.folder / "__main__.py").read_text()
        assert program.count(old) == 1, f"{old!r} is {program.count(old)} times in the program"
        self.write(program.replace(old, new))

    def id(self, key: str) -> str:
        return self.stack.id(key)

    def post(self, path: str, **params: Any) -> dict[str, Any]:
        """A change by somebody else."""
        return self.world.stripe("post", path, **params)

    def set(self, path: str, key: str, **params: Any) -> None:
        self.post(f"/v1/{path}/{self.id(key)}", **params)

    def run(self, *words: str, process: Process | None = None) -> tuple[int, str]:
        """The exit code and what it prints; fails if it sends anything but GET."""
        account = (process or self.world.process()).account
        text = io.StringIO()
        self.world.forget_calls()
        with chdir(self.folder):
            arguments = cli.parser().parse_args(["verify", *words])
            code = verify_command.run(arguments, Console(file=text, width=120), account)
        assert {each.method for each in self.world.sent} <= {"GET"}
        return code, text.getvalue()

    def found(self, *words: str, process: Process | None = None) -> dict[str, Any]:
        code, text = self.run("--json", *words, process=process)
        return {"code": code, **json.loads(text)}

    def differences(self) -> list[tuple[Any, ...]]:
        found = self.found()
        assert found["code"] == (2 if found["differences"] else 0)
        return [
            (each["what"], f"{each['kind']} {each['name']}", each["path"], each["stripe"], each["program"])
            for each in found["differences"]
        ]


@pytest.fixture(scope="module")
def applied(tmp_path_factory: pytest.TempPathFactory) -> Verified:
    with event_loop():
        made = Verified(tmp_path_factory.mktemp("applied"))
    made.world.sandbox.close()
    return made


@pytest.fixture
def shop(applied: Verified, tmp_path: Path) -> Iterator[Verified]:
    with event_loop():
        made = Verified(tmp_path, like=applied)
        yield made
        made.world.sandbox.close()


# -- equal ----------------------------------------------------------------------------------------------------------


def test_after_an_up_of_every_kind_nothing_differs_and_only_lists_are_read(shop: Verified) -> None:
    code, text = shop.run()
    assert (code, text.splitlines()[-1]) == (0, "Stripe has what the program declares; 20 resources compared.")
    assert len(shop.world.sent) <= 16, [str(each) for each in shop.world.sent]


def test_a_price_that_was_replaced_and_is_archived_is_no_difference(shop: Verified) -> None:
    shop.edit('unit_amount_decimal="5000"', 'unit_amount_decimal="6000"')
    shop.stack.up(shop.folder / "__main__.py")
    assert shop.differences() == []


def test_it_does_not_ask_pulumi_s_state(shop: Verified) -> None:
    shop.stack.states.clear()
    assert shop.differences() == []


# -- what differs ---------------------------------------------------------------------------------------------------

Seed = Callable[[Verified], Any]


def delete_coupon(shop: Verified) -> None:
    shop.world.stripe("delete", f"/v1/coupons/{shop.id('Coupon welcome')}")


def item(shop: Verified, key: str) -> str:
    """The id of an item of bolt's subscription."""
    return str(shop.stack.states["Subscription bolt"].outs["item_ids"][key])


def other_price(shop: Verified, **more: Any) -> str:
    params = {"currency": "usd", "unit_amount": 900, "product": shop.id("Product scans"), **more}
    return str(shop.post("/v1/prices", **params)["id"])


#: By a name: what somebody does in Stripe, and the one difference that is found.
IN_STRIPE: dict[str, tuple[Seed, tuple[Any, ...]]] = {
    "a product's name": (
        lambda s: s.set("products", "Product scans", name="Scanner"),
        ("differs", "Product scans", "name", "Scanner", "Scans"),
    ),
    "an archived product": (
        lambda s: s.set("products", "Product scans", active=False),
        ("differs", "Product scans", "active", False, True),
    ),
    "an archived price": (
        lambda s: s.set("prices", "Price alpaca-ai-usage", active=False),
        ("differs", "Price alpaca-ai-usage", "active", False, True),
    ),
    "a lookup key that is gone": (
        lambda s: s.set("prices", "Price setup", lookup_key=""),
        ("differs", "Price setup", "lookup_key", None, "setup"),
    ),
    "a lookup key where none is declared": (
        lambda s: s.set("prices", "Price page", lookup_key="old"),
        ("differs", "Price page", "lookup_key", "old", None),
    ),
    "a currency that was added": (
        lambda s: s.set("prices", "Price setup", currency_options={"eur": {"unit_amount": 4500}}),
        ("differs", "Price setup", "currency_options.eur", "4500", None),
    ),
    "an amount in another currency": (
        lambda s: s.set(
            "prices",
            "Price page",
            currency_options={"eur": {"tiers": [{"up_to": 100, "unit_amount": 9}, {"up_to": "inf", "unit_amount": 3}]}},
        ),
        (
            "differs",
            "Price page",
            "currency_options.eur.tiers",
            [{"unit_amount_decimal": "9", "up_to": 100}, {"unit_amount_decimal": "3", "up_to": "inf"}],
            [{"unit_amount_decimal": "4", "up_to": 100}, {"unit_amount_decimal": "3", "up_to": "inf"}],
        ),
    ),
    "a tax behavior": (
        lambda s: s.set("prices", "Price setup", tax_behavior="inclusive"),
        ("differs", "Price setup", "tax_behavior", "inclusive", "unspecified"),
    ),
    "a meter that is off": (
        lambda s: s.post(f"/v1/billing/meters/{s.id('Meter pages')}/deactivate"),
        ("differs", "Meter pages", "active", False, True),
    ),
    "a meter's display name": (
        lambda s: s.set("billing/meters", "Meter pages", display_name="Sheets"),
        ("differs", "Meter pages", "display_name", "Sheets", "Pages"),
    ),
    "a coupon's name": (
        lambda s: s.set("coupons", "Coupon welcome", name="Hello"),
        ("differs", "Coupon welcome", "name", "Hello", "Welcome"),
    ),
    "a promotion code that is off": (
        lambda s: s.set("promotion_codes", "PromotionCode summer", active=False),
        ("differs", "PromotionCode summer", "active", False, True),
    ),
    "a customer's e-mail": (
        lambda s: s.set("customers", "Customer crate", email="new@example.com"),
        ("differs", "Customer crate", "email", "new@example.com", "crate@example.com"),
    ),
    "seats": (
        lambda s: s.post(f"/v1/subscription_items/{item(s, 'license')}", quantity=9),
        ("differs", "Subscription bolt", "items.license.quantity", 9, 2),
    ),
    "a discount that was taken away": (
        lambda s: s.set("subscriptions", "Subscription bolt", discounts=""),
        ("differs", "Subscription bolt", "discounts", None, [{"coupon": "COUPON"}]),
    ),
    "a discount that somebody gave": (
        lambda s: s.set(
            "subscriptions", "Subscription crate", discounts=[{"coupon": s.post("/v1/coupons", percent_off=9)["id"]}]
        ),
        ("differs", "Subscription crate", "discounts", "ANY", []),
    ),
    "a discount on an item": (
        lambda s: s.post(
            f"/v1/subscription_items/{item(s, 'license')}",
            discounts=[{"coupon": s.post("/v1/coupons", percent_off=9)["id"]}],
        ),
        ("differs", "Subscription bolt", "items.license.discounts", "ANY", []),
    ),
    "thresholds": (
        lambda s: s.set("subscriptions", "Subscription crate", billing_thresholds={"amount_gte": 5_000}),
        ("differs", "Subscription crate", "billing_thresholds", "ANY", None),
    ),
    "an item that was added": (
        lambda s: s.post(
            "/v1/subscription_items",
            subscription=s.id("Subscription crate"),
            price=other_price(s, recurring={"interval": "month"}),
        ),
        ("differs", "Subscription crate", "ITEM", "ANY", None),
    ),
    "a customer who is exempt": (
        lambda s: s.set("customers", "Customer crate", tax_exempt="exempt"),
        ("differs", "Customer crate", "tax_exempt", "exempt", "none"),
    ),
    "a subscription that will end": (
        lambda s: s.set("subscriptions", "Subscription crate", cancel_at_period_end=True),
        ("differs", "Subscription crate", "cancel_at_period_end", True, False),
    ),
    "a subscription that has ended": (
        lambda s: s.world.stripe("delete", f"/v1/subscriptions/{s.id('Subscription crate')}"),
        ("missing", "Subscription crate", "", None, None),
    ),
    "another stack's product": (
        lambda s: s.set("products", "Product scans", metadata={"pulumi": "shop/other/scans"}),
        ("missing", "Product scans", "", None, None),
    ),
    "a second price of a resource": (
        lambda s: other_price(s, metadata={"pulumi": "shop/dev/setup"}),
        ("left", "Price setup", "", None, None),
    ),
    "a price that is not in the program": (
        lambda s: other_price(s, metadata={"pulumi": "shop/dev/older"}),
        ("left", "Price older", "", None, None),
    ),
    "a default price": (
        lambda s: s.set("products", "Product alpaca-ai-product", default_price=s.id("Price alpaca-ai-license")),
        ("differs", "DefaultPrice alpaca-ai-default-price", "price", "OLD", "NEW"),
    ),
    "no default price": (
        lambda s: s.set("products", "Product scans", default_price=""),
        ("missing", "DefaultPrice first", "", None, None),
    ),
}


@pytest.mark.parametrize("what", IN_STRIPE)
def test_a_change_in_stripe_is_named_with_both_values(shop: Verified, what: str) -> None:
    seed, (kind, name, path, there, declared) = IN_STRIPE[what]
    seed(shop)
    words = {
        "OLD": shop.id("Price alpaca-ai-license"),
        "NEW": shop.id("Price alpaca-ai-v2-license"),
        "COUPON": shop.id("Coupon welcome"),
    }
    text = json.dumps([kind, name, path, there, declared])
    expected = json.loads(re.sub(r"OLD|NEW|COUPON", lambda word: words[word[0]], text))
    first, *rest = shop.differences()
    wild = {2: "ITEM", 3: "ANY"}
    assert [v for n, v in enumerate(first) if expected[n] != wild.get(n)] == [
        v for n, v in enumerate(expected) if v != wild.get(n)
    ]
    # What depends on a missing object is unknown, and no difference of its own; a link to it is missing too.
    also = {"another stack's product": ["DefaultPrice first"], "an item that was added": [name]}
    assert [each[1] for each in rest] == also.get(what, [])


#: What somebody edits in the program, and the differences.
IN_THE_PROGRAM: dict[str, tuple[str, str, list[tuple[Any, ...]]]] = {
    "an amount": (
        'unit_amount_decimal="5000"',
        'unit_amount_decimal="6000"',
        [("differs", "Price setup", "unit_amount_decimal", "5000", "6000")],
    ),
    "a tier's bound": (
        'tiers=[{"up_to": 100, "unit_amount_decimal": "5"}',
        'tiers=[{"up_to": 200, "unit_amount_decimal": "5"}',
        [
            (
                "differs",
                "Price page",
                "tiers",
                [{"unit_amount_decimal": "5", "up_to": 100}, {"unit_amount_decimal": "4", "up_to": "inf"}],
                [{"unit_amount_decimal": "5", "up_to": 200}, {"unit_amount_decimal": "4", "up_to": "inf"}],
            )
        ],
    ),
    "a plan's fee": (
        'Fee("120.00")',
        'Fee("130.00")',
        [("differs", "Price alpaca-ai-v2-license", "unit_amount_decimal", "12000", "13000")],
    ),
    "an interval count": (
        '"interval": "month", "usage_type"',
        '"interval": "month", "interval_count": 3, "usage_type"',
        [("differs", "Price page", "recurring.interval_count", 1, 3)],
    ),
    "a meter's aggregation": (
        'event_name="pages", default_aggregation={"formula": "sum"}',
        'event_name="pages", default_aggregation={"formula": "count"}',
        [("differs", "Meter pages", "default_aggregation.formula", "sum", "count")],
    ),
    "a meter's key": (
        'event_name="pages", ',
        'event_name="pages", value_settings={"event_payload_key": "sheets"}, ',
        [("differs", "Meter pages", "value_settings.event_payload_key", "value", "sheets")],
    ),
    "a meter's event name": (
        'event_name="pages", ',
        'event_name="sheets", ',
        [("missing", "Meter pages", "", None, None)],
    ),
    "a percentage": ("percent_off=20", "percent_off=25", [("differs", "Coupon welcome", "percent_off", "20", "25")]),
    "a duration that is left out": (
        ', duration="forever"',
        "",
        [("differs", "Coupon welcome", "duration", "forever", "once")],
    ),
    "a code": (
        'code="SUMMER"',
        'code="WINTER"',
        [("differs", "PromotionCode summer", "code", "SUMMER", "WINTER")],
    ),
    "a new price": (
        '    crate = Customer("crate"',
        '    Price("more", product=scans.id, currency="usd", unit_amount=1)\n    crate = Customer("crate"',
        [("missing", "Price more", "", None, None)],
    ),
    "a removed price": (
        '    DefaultPrice("first", product=scans.id, price=setup.id)\n',
        "",
        [("differs", "Product scans", "default_price", "SETUP", None)],
    ),
    "seats": (
        'email="acme@example.com", seats=3',
        'email="acme@example.com", seats=4',
        [("differs", "Subscription acme", "items.license.quantity", 3, 4)],
    ),
    "who stays on a version": (
        "alpaca.version(1), customer_name",
        "alpaca.version(2), customer_name",
        [
            ("differs", "Subscription acme", "items.license.price", "OLD", "NEW"),
            ("differs", "Subscription acme", "items.usage.price", "OLD", "NEW"),
        ],
    ),
}


@pytest.mark.parametrize("what", IN_THE_PROGRAM)
def test_what_the_program_declares_and_nobody_applied_is_named(shop: Verified, what: str) -> None:
    old, new, expected = IN_THE_PROGRAM[what]
    shop.edit(old, new)
    found = shop.differences()
    versions = {
        shop.id(f"Price alpaca-ai-{version}{key}"): word
        for key in ("license", "usage")
        for version, word in (("", "OLD"), ("v2-", "NEW"))
    } | {shop.id("Price setup"): "SETUP"}
    assert [tuple(versions.get(v, v) if isinstance(v, str) else v for v in each) for each in found] == expected


def test_text_names_the_object_and_both_values(shop: Verified) -> None:
    shop.set("products", "Product scans", name="Scanner")
    delete_coupon(shop)
    code, text = shop.run()
    lines = text.splitlines()
    assert code == 2
    at = lines.index(f"Product 'scans' ({shop.id('Product scans')})")
    assert lines[at + 1] == "  name: Scanner in Stripe, Scans in the program"
    assert lines[lines.index("Coupon 'welcome'") + 1] == "  is not in Stripe"
    assert lines[-1] == "2 differences; 20 resources compared."


def test_a_secret_value_is_not_shown(shop: Verified) -> None:
    shop.edit('email="crate@example.com"', 'email=pulumi.Output.secret("secret@example.com")')
    _, text = shop.run()
    assert "email: [secret] in Stripe, [secret] in the program" in text
    assert "secret@example.com" not in text + json.dumps(shop.found())


def test_what_the_program_ignores_is_no_difference(shop: Verified) -> None:
    shop.edit(
        '        items={"page": {"price": page.id}},\n',
        '        items={"page": {"price": page.id}},\n        description="Scans",\n'
        '        opts=pulumi.ResourceOptions(ignore_changes=["description", "metadata[\\"team\\"]"]),\n'
        '        metadata={"team": "billing", "cost": "1"},\n',
    )
    assert shop.differences() == [("differs", "Subscription crate", "metadata.cost", None, "1")]


def test_one_who_has_ended_when_the_program_says_is_no_difference(tmp_path: Path) -> None:
    program = PROGRAM.replace(
        "        days_until_due=30,\n", "        days_until_due=30,\n        cancel_at_period_end=True,\n"
    )
    clock = 'Customer("crate", name="Crate", email="crate@example.com", test_clock="CLOCK")'
    with event_loop():
        folder = tmp_path / "clocked"
        folder.mkdir()
        world = World(folder / "stripe.db")
        made = world.stripe("post", "/v1/test_helpers/test_clocks", frozen_time=1_767_225_600)["id"]
        clocked = program.replace('Customer("crate", name="Crate", email="crate@example.com")', clock)
        shop = Verified(folder, clocked.replace("CLOCK", made))
        assert shop.differences() == []
        shop.post(f"/v1/test_helpers/test_clocks/{made}/advance", frozen_time=1_767_225_600 + 40 * 86_400)
        assert shop.found("--strict")["differences"] == []
        shop.edit("        cancel_at_period_end=True,\n", "")
        assert shop.differences() == [("missing", "Subscription crate", "", None, None)]
        shop.world.sandbox.close()
        world.sandbox.close()


# -- versions and schedules -------------------------------------------------------------------------------------------


def follower(program: str, rollout: str) -> str:
    """The program with acme following the plan's offer."""
    return program.replace('alpaca.version(1), customer_name="Acme"', 'alpaca, customer_name="Acme"').replace(
        'rollout="keep"', f'rollout="{rollout}"'
    )


def test_a_subscriber_whom_a_rollout_keeps_is_as_declared(shop: Verified) -> None:
    """Which version that is tells Stripe, since there is no state."""
    shop.write(follower(PROGRAM, "keep"))
    assert shop.differences() == []


def test_a_subscriber_whom_a_rollout_moves_is_on_the_wrong_prices_until_it_has(shop: Verified) -> None:
    shop.write(follower(PROGRAM, "now"))
    assert [each[1:3] for each in shop.differences()] == [
        ("Subscription acme", "items.license.price"),
        ("Subscription acme", "items.usage.price"),
    ]


def test_a_move_that_waits_for_the_renewal_is_as_declared_and_pending(shop: Verified) -> None:
    shop.write(follower(PROGRAM, "at_renewal"))
    assert [each[1] for each in shop.differences()] == ["Subscription acme"] * 2
    shop.stack.up(shop.folder / "__main__.py")
    found = shop.found()
    assert (found["code"], found["differences"]) == (0, [])
    [change] = found["pending"]
    old, new = (shop.id(f"Price alpaca-ai-{version}license") for version in ("", "v2-"))
    assert change["subscription"] == shop.id("Subscription acme")
    assert change["made_by"] == "shop/dev/acme"
    assert f"3 x alpaca-ai@1 license ({old})" in change["change"]
    assert f"3 x alpaca-ai@2 license ({new})" in change["change"]
    assert shop.found("--strict")["code"] == 0


def plan_of_finance(shop: Verified, subscription: str) -> dict[str, Any]:
    """Somebody's schedule that moves a subscription to a price of their own."""
    price = other_price(shop, recurring={"interval": "month"})
    schedule = shop.post("/v1/subscription_schedules", from_subscription=subscription)
    [phase] = schedule["phases"]
    now = {"items": [{"price": each["price"]} for each in phase["items"]]}
    phases = [
        {**now, "start_date": phase["start_date"], "end_date": phase["end_date"]},
        {"items": [{"price": price, "quantity": 7}], "duration": {"interval": "month"}},
    ]
    return shop.post(f"/v1/subscription_schedules/{schedule['id']}", phases=phases)


def test_somebody_else_s_schedule_on_a_declared_subscription_is_a_difference(shop: Verified) -> None:
    subscription = shop.id("Subscription crate")
    schedule = plan_of_finance(shop, subscription)
    [(what, name, _, said, _)] = shop.differences()
    assert (what, name) == ("schedule", "Subscription crate")
    assert "=> 7 x price_" in said
    assert schedule["id"] in said
    _, text = shop.run()
    assert "will be changed by a schedule that this stack did not make: " in text
    assert " no program" in text


def test_somebody_else_s_schedule_beside_the_program_is_only_shown(shop: Verified) -> None:
    customer = shop.post("/v1/customers", name="Dune")["id"]
    items = [{"price": shop.id("Price page")}]
    made = shop.post(
        "/v1/subscriptions", customer=customer, items=items, collection_method="send_invoice", days_until_due=9
    )
    plan_of_finance(shop, made["id"])
    found = shop.found()
    assert (found["code"], found["differences"]) == (0, [])
    assert [(each["subscription"], each["made_by"], each["declared"]) for each in found["pending"]] == [
        (made["id"], None, False)
    ]
    assert shop.found("--strict")["code"] == 2


def test_a_schedule_that_has_not_started_and_one_that_ends_are_shown(shop: Verified) -> None:
    customer = shop.post("/v1/customers", name="Elm")["id"]
    phase = {
        "items": [{"price": shop.id("Price page")}],
        "duration": {"interval": "month"},
        "collection_method": "send_invoice",
    }
    schedule = shop.post(
        "/v1/subscription_schedules",
        customer=customer,
        start_date=2_524_608_000,
        end_behavior="cancel",
        phases=[phase],
        default_settings={"invoice_settings": {"days_until_due": 30}},
    )
    start, end = shop.found()["pending"]
    assert (start["schedule"], start["at"], start["customer"]) == (schedule["id"], 2_524_608_000, customer)
    assert start["change"] == f"nothing => page ({shop.id('Price page')})"
    assert (end["change"], end["at"] > start["at"]) == ("the subscription ends", True)
    assert f"a new one of {customer}" in shop.run()[1]


def test_what_a_schedule_has_done_already_is_not_pending() -> None:
    def phase(start: int, price: str) -> dict[str, Any]:
        return {"start_date": start, "end_date": start + 10, "items": [{"price": price, "quantity": 1}]}

    phases = [phase(10, "price_1"), phase(20, "price_2"), phase(30, "price_2"), phase(40, "price_3")]
    schedule = {"id": "sub_sched_1", "customer": "cus_1", "phases": phases, "current_phase": {"start_date": 20}}
    [change] = changes({**schedule, "end_behavior": "release"}, None)
    assert (change.at, change.change, change.prices) == (40, "1 x price_2 => 1 x price_3", frozenset(["price_3"]))


# -- the census -----------------------------------------------------------------------------------------------------


def counted(file: Path) -> dict[str, tuple[int, int]]:
    """By price, straight from the file: how many customers pay it, and how much they do a month in dollar cents."""
    rows = sqlite3.connect(file).execute(
        """
        SELECT json_extract(item.value, '$.price'),
               count(DISTINCT json_extract(sub.body, '$.customer')),
               sum(coalesce(json_extract(item.value, '$.quantity'), 0)
                   * coalesce(json_extract(price.body, '$.unit_amount'), 0)
                   / CASE json_extract(price.body, '$.recurring.interval') WHEN 'year' THEN 12.0 ELSE 1.0 END
                   / json_extract(price.body, '$.recurring.interval_count'))
        FROM objects sub, json_each(sub.body, '$.items.data') item
        JOIN objects price ON price.kind = 'price' AND price.id = json_extract(item.value, '$.price')
        WHERE sub.kind = 'subscription' AND json_extract(sub.body, '$.status') IN ('active', 'trialing', 'past_due')
        GROUP BY 1
        """
    )
    return {price: (customers, round(cents)) for price, customers, cents in rows}


def test_the_census_is_what_the_sandbox_s_file_says(shop: Verified) -> None:
    yearly = other_price(shop, recurring={"interval": "year"}, unit_amount=12_000, nickname="Legacy")
    shared = shop.post("/v1/customers", name="Shared")["id"]
    terms = {"collection_method": "send_invoice", "days_until_due": 30}
    license_ = shop.id("Price alpaca-ai-license")
    for number in range(5):
        customer = shared if number < 2 else shop.post("/v1/customers", name=f"Customer {number}")["id"]
        shop.post("/v1/subscriptions", customer=customer, items=[{"price": yearly, "quantity": number + 1}], **terms)
        shop.post("/v1/subscriptions", customer=customer, items=[{"price": license_, "quantity": 2}], **terms)
    quarterly = other_price(shop, recurring={"interval": "month", "interval_count": 3}, unit_amount=9_000)
    shop.post("/v1/subscriptions", customer=shared, items=[{"price": quarterly}], **terms)
    # Neither one that has ended nor one whose first payment was never made is billed.
    unpaid = {"payment_behavior": "default_incomplete"}
    shop.post("/v1/subscriptions", customer=shared, items=[{"price": yearly}], **unpaid)
    ended = shop.post("/v1/subscriptions", customer=shared, items=[{"price": yearly}], **terms)["id"]
    shop.world.stripe("delete", f"/v1/subscriptions/{ended}")
    found = shop.found()
    assert found["code"] == 0
    expected = counted(shop.file)
    assert (expected[yearly], expected[quarterly]) == ((4, 15_000), (1, 3_000))
    assert {each["price"]: (each["customers"], int(each["monthly"]["usd"])) for each in found["payers"]} == expected
    assert {each["price"]: each["in_program"] for each in found["payers"]} == {
        yearly: None,
        quarterly: None,
        license_: "alpaca-ai@1 license",
        shop.id("Price alpaca-ai-usage"): "alpaca-ai@1 usage",
        shop.id("Price alpaca-ai-v2-license"): "alpaca-ai@2 license",
        shop.id("Price alpaca-ai-v2-usage"): "alpaca-ai@2 usage",
        shop.id("Price page"): "page",
    }
    code, text = shop.run("--strict")
    assert code == 2
    assert "4 customers on 2 prices that the program does not declare." in text
    first = text[text.index("Who pays what") :].splitlines()[2]
    assert first.split() == [yearly, "(Legacy)", "no", "4", "150.00", "USD"]


def test_usage_counts_as_on_the_last_invoice_with_all_of_its_lines(tmp_path: Path) -> None:
    """3,000 tokens, 1,000 of them free, at 0.04 USD a hundred; and 3,000 in thirty tiers of 100 at a cent each."""
    with opened(tmp_path) as shop:
        tiers = [{"up_to": 100 * n, "unit_amount": 1} for n in range(1, 30)] + [{"up_to": "inf", "unit_amount": 1}]
        steps = shop.world.stripe(
            "post",
            "/v1/prices",
            product=shop.stack.id("Product alpaca-ai-product"),
            currency="usd",
            recurring={
                "interval": "month",
                "usage_type": "metered",
                "meter": shop.stack.id("Meter alpaca-ai-meter"),
            },
            billing_scheme="tiered",
            tiers_mode="graduated",
            tiers=tiers,
        )["id"]
        for items in (None, [{"price": steps}]):
            shop.use(shop.subscribe(3, items), 3_000)
        shop.go("2026-02-02")
        text = io.StringIO()
        with chdir(shop.folder):
            arguments = cli.parser().parse_args(["verify", "--json"])
            assert verify_command.run(arguments, Console(file=text), shop.world.process().account) == 0
        payers = {each["price"]: each["monthly"] for each in json.loads(text.getvalue())["payers"]}
        assert payers == {
            shop.price("license"): {"usd": "30000"},
            shop.price("usage"): {"usd": "80"},
            steps: {"usd": "3000"},
        }


# -- keys and mistakes ------------------------------------------------------------------------------------------------


def restricted(shop: Verified, permissions: list[str]) -> Process:
    key = "rk_" + "test_verify"
    shop.world.control("keys", key=key, permissions=permissions)
    return shop.world.process(mode="test", apiKey=key)


def documented() -> list[str]:
    return [*names(table()["pricing verify"]), "rak_test_clock_read"]


def test_a_key_with_what_the_page_says_is_enough_and_no_more_is_needed(shop: Verified) -> None:
    found = shop.found(process=restricted(shop, documented()))
    assert (found["code"], found["differences"], found["unread"]) == (0, [], [])
    needed = {keys.permission(each.method, each.path) for each in shop.world.sent}
    needed |= {"rak_accounts_kyc_basic_read", "rak_customer_read"}
    assert accesses(needed - {"rak_test_clock_read"}) == table()["pricing verify"]


@pytest.mark.parametrize(
    "lacking", ["product", "plan", "customer", "coupon", "promotion_code", "subscription", "billing_meter"]
)
def test_what_the_key_may_not_read_is_said_and_is_not_equal(shop: Verified, lacking: str) -> None:
    permitted = [name for name in documented() if name != f"rak_{lacking}_read"]
    found = shop.found(process=restricted(shop, permitted))
    assert (found["code"], found["differences"], found["complete"]) == (3, [], False)
    assert any(f"rak_{lacking}_read" in each["why"] for each in found["unread"])
    code, text = shop.run(process=restricted(shop, permitted))
    assert code == 3
    assert "Not read, since the key may not:" in text
    assert "No difference in what could be read" in text


def test_usage_is_unknown_to_a_key_that_may_not_read_invoices(shop: Verified) -> None:
    permitted = [name for name in documented() if name != "rak_invoice_read"]
    code, text = shop.run(process=restricted(shop, permitted))
    assert code == 0
    assert "usage on the last invoices: " in text
    assert "unknown for 1" in text


def test_what_the_key_may_not_read_and_nothing_declares_is_only_said(tmp_path: Path) -> None:
    only = """\
from components.program import program
from components.resources import Product

with program():
    Product("pro", name="Pro")
"""
    with event_loop():
        shop = Verified(tmp_path, only)
        found = shop.found(process=restricted(shop, ["rak_accounts_kyc_basic_read", "rak_product_read"]))
        assert (found["code"], found["complete"], found["differences"]) == (0, True, [])
        assert {each["what"] for each in found["unread"]} >= {"Price", "Coupon", "Subscription"}
        shop.world.sandbox.close()


@pytest.mark.parametrize(
    ("edit", "sentence"),
    [
        (("percent_off=20", "percent=20"), "Coupon 'welcome': percent: Stripe has no such parameter"),
        (('Fee("100.00")', "Fee(100.0)"), "float"),
        (('rollout="keep"', 'rollout="later"'), "rollout"),
    ],
)
def test_a_mistake_in_the_program_is_one_line_and_no_difference(
    shop: Verified, edit: tuple[str, str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    shop.edit(*edit)
    code, text = shop.run()
    err = capsys.readouterr().err
    assert (code, text) == (3, "")
    assert sentence in err
    assert "Traceback" not in err


def test_an_adopted_object_is_compared_before_and_after_it_is_the_stack_s_own(shop: Verified) -> None:
    customer = shop.post("/v1/customers", name="Dune", email="dune@example.com")["id"]
    adopted = f'Customer("dune", adopt="{customer}", name="Dune", email="new@example.com")'
    shop.edit("    crate = ", f"    {adopted}\n    crate = ")
    assert shop.differences() == [
        ("differs", "Customer dune", "email", "dune@example.com", "new@example.com"),
        ("differs", "Customer dune", "metadata.pulumi", None, "shop/dev/dune"),
    ]
    shop.stack.up(shop.folder / "__main__.py")
    assert shop.differences() == []


@pytest.mark.parametrize("path", ["/v1/prices", "/v1/customers", "/v1/subscriptions"])
def test_stripe_s_error_is_one_line_and_no_difference(
    shop: Verified, path: str, capsys: pytest.CaptureFixture[str]
) -> None:
    shop.world.control("faults", path=path, status=400, message="Not today.", count=None)
    assert shop.run() == (3, "")
    [line] = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("warning")]
    assert line.startswith("pricing: ")
    assert "Not today." in line


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ("{secure: AAABAN}", "cannot do without shop:token, which is encrypted in Pulumi.dev.yaml"),
        (None, "Missing required configuration variable 'shop:token'"),
    ],
)
def test_a_secret_that_the_program_needs_is_named(
    shop: Verified, value: str | None, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    shop.edit("with program():\n", 'with program():\n    pulumi.Config().require_secret("token")\n')
    config = shop.folder / "Pulumi.dev.yaml"
    config.write_text(config.read_text() + (f"  shop:token: {value}\n" if value else ""))
    assert shop.run() == (3, "")
    [line] = capsys.readouterr().err.splitlines()
    assert sentence in line


def test_an_unknown_stack_and_a_missing_key_are_said(shop: Verified, capsys: pytest.CaptureFixture[str]) -> None:
    (shop.folder / "Pulumi.test.yaml").write_text("config:\n  stripe-pricing:mode: test\n")
    with chdir(shop.folder):
        assert cli.main(["verify", "--stack", "nowhere"]) == 3
        assert cli.main(["verify", "--stack", "test"]) == 3
    said = capsys.readouterr().err.splitlines()
    assert said[0].startswith("pricing: there is no Pulumi.nowhere.yaml in ")
    assert "needs a key of stack test: set STRIPE_API_KEY" in said[1]


def test_customers_that_stay_on_a_live_stack_are_only_mentioned(shop: Verified) -> None:
    """`on_delete` is `keep` there, so an offboarded customer keeps its owner."""
    gone = {"name": "Gone", "metadata": {"pulumi": "shop/dev/gone"}}
    shop.post("/v1/customers", **gone)
    assert shop.differences() == [("left", "Customer gone", "", None, None)]
    shop.world.mode = "live"
    customer = shop.post("/v1/customers", **gone)["id"]
    shop.write("from components.program import program\n\nwith program():\n    pass\n")
    found = shop.found(process=shop.world.process(mode="live", apiKey=LIVE_KEY))
    assert (found["code"], found["differences"]) == (0, [])
    assert found["notes"] == [f"Customer 'gone' ({customer}) stays in Stripe; the program does not have it"]
