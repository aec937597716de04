"""`pricing adopt`: an account that exists becomes a program, and an `up` of it writes owners and nothing else."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pricing.adopt import command as adopt_command
from pricing.impact.reading import catalogue_of
from sandbox import keys
from tests.components.test_permissions import accesses, names, table
from tests.components.world import World
from tests.pricing.an_account import Made, of_the_page
from tests.pricing.existing import WRITTEN, Existing, opened
from tests.stack import Stack


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Existing]:
    with opened(tmp_path) as made:
        yield made


@pytest.mark.parametrize("seed", range(4))
def test_a_generated_account_is_adopted_with_nothing_written_but_owners(shop: Existing, seed: int) -> None:
    made = Made(shop.world, seed).products(32)
    shop.adopts()
    assert set(made.paid_archived) >= {id_ for id_ in shop.ids["Price"].values() if id_ in made.paid_archived}


def test_the_text_is_as_ruff_formats_it(shop: Existing) -> None:
    Made(shop.world, 7).products(48)
    assert shop.adopt() == 0
    command = [
        sys.executable,
        "-m",
        "ruff",
        "format",
        "--isolated",
        "--line-length",
        "120",
        "--diff",
        str(shop.program),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


# -- what a person wrote ----------------------------------------------------------------------------------------------


def of_nobody(world: World) -> None:
    """Take the owners out of all metadata, as in an account that no program has made."""
    for kind in ("products", "prices", "coupons", "promotion_codes", "customers", "subscriptions"):
        for each in world.stripe("get", f"/v1/{kind}", limit=100)["data"]:
            world.stripe("post", f"/v1/{kind}/{each['id']}", metadata={"pulumi": ""})


def written(shop: Existing, program: str = WRITTEN) -> int:
    """Apply what a person wrote, and forget that a program did: its lines as ruff formats them."""
    shop.program.write_text(program)
    subprocess.run([sys.executable, "-m", "ruff", "format", "-q", "--isolated", "--line-length=120", shop.program])
    lines = len(shop.program.read_text().splitlines())
    shop.up()
    of_nobody(shop.world)
    shop.program.unlink()
    shop.stack = Stack(shop.world, project="shop")
    return lines


def test_the_program_is_hardly_longer_than_what_a_person_wrote(shop: Existing) -> None:
    of_a_person = written(shop)
    shop.adopts()
    assert len(shop.program.read_text().splitlines()) <= 1.3 * of_a_person
    assert 'Fee("1000.00", interval="year"), currency="eur"' in shop.program.read_text()


@pytest.mark.parametrize("has_engine", [True, False])
def test_what_this_program_made_is_left_alone(shop: Existing, has_engine: bool) -> None:
    """Meters have no owner: the state tells, and without a pulumi the owner of the prices that bill by them."""
    shop.has_engine = has_engine
    shop.program.write_text(WRITTEN)
    shop.up()
    assert shop.adopt(out="adopted.py") == 0
    assert "there is nothing to adopt; nothing is written" in shop.said
    assert "this stack has them already" in shop.said
    assert not (shop.folder / "adopted.py").exists()
    assert not (shop.folder / "adopted.dev.json").exists()
    assert not shop.up()


# -- customers --------------------------------------------------------------------------------------------------------


def with_customers(shop: Existing) -> Made:
    made = Made(shop.world, 3)
    for number in range(4):
        made.grandfathered(f"Plan {number}")
    return made


def test_customers_and_subscriptions_are_adopted_on_request(shop: Existing) -> None:
    with_customers(shop)
    assert shop.adopt("--customers", out=None) == 0
    assert 'Subscriber("customer-1", plan_0.version(1), customer_name="Customer 1", email="c@example.com"' in shop.said
    assert shop.adopt("--customers") == 0
    writes = shop.up()
    assert not [each for each in writes if re.sub(r"\w*\[?metadata\]?\[pulumi\]", "", each).count("[")]
    assert {"Customer customer-1", "Subscription customer-1"} <= shop.stack.states.keys()
    assert not shop.up()


# -- again, and after a failure ---------------------------------------------------------------------------------------


def test_adopting_twice_changes_nothing(shop: Existing) -> None:
    Made(shop.world, 5).products(8)
    shop.adopts()
    before = (shop.program.read_text(), shop.ids)
    assert shop.adopt() == 0
    assert "__main__.py and adopted.dev.json are as they were; nothing has changed in Stripe" in shop.said
    assert (shop.program.read_text(), shop.ids) == before


def test_what_is_new_since_is_told_from_what_was_adopted(shop: Existing) -> None:
    made = Made(shop.world, 5).products(8)
    shop.adopts()
    made.fee("Newcomer")
    assert shop.adopt() == 2
    assert "__main__.py is there and differs: it was edited, or the account has changed" in shop.said
    shop.program.unlink()
    assert shop.adopt() == 0
    assert "Newcomer" in shop.program.read_text()
    assert {each.partition("/v1/")[2].partition("/")[0] for each in shop.up()} == {"products", "prices"}
    assert not shop.up()


def test_an_up_that_failed_is_continued(shop: Existing) -> None:
    """Whether by `up` alone, or after another adoption, which writes the same files."""
    Made(shop.world, 6).products(8)
    assert shop.adopt() == 0
    before = (shop.program.read_text(), shop.ids)
    shop.world.control("faults", method="POST", path="/v1/prices/*", skip=4, status=400, count=None)
    with pytest.raises(Exception, match="price"):
        shop.up()
    # A plan is not published before all of its prices are adopted: the next run would compare it with a part of it.
    for name in [urn.rpartition("::")[2] for urn, outputs in shop.stack.components.items() if outputs.get("versions")]:
        assert all(key in shop.stack.states for key in shop.stack.declared if key.startswith(f"Price {name}-"))
    shop.world.heal()
    assert shop.adopt() == 0
    assert (shop.program.read_text(), shop.ids) == before
    assert not [each for each in shop.up() if not each.endswith(" metadata[pulumi]")]
    assert {f"Price {name}" for name in shop.ids["Price"]} <= shop.stack.states.keys()
    assert not shop.up()


def test_a_run_that_could_not_read_everything_writes_nothing(shop: Existing) -> None:
    Made(shop.world, 6).products(4)
    shop.world.control("faults", method="GET", path="/v1/coupons", status=402, count=None)
    assert shop.adopt() == 3
    assert re.search(r"^pricing: the account's coupons: .* \(.*HTTP 402", shop.said, re.MULTILINE)
    assert not shop.program.exists()
    assert not (shop.folder / "adopted.dev.json").exists()


def test_ids_that_the_program_does_not_declare_are_named(shop: Existing, caplog: pytest.LogCaptureFixture) -> None:
    Made(shop.world, 6).products(1)
    assert shop.adopt() == 0
    [(name, id_)] = shop.ids["Price"].items()
    shop.program.write_text(
        "from components.program import program\nfrom components.resources import Product\n"
        "with program():\n    Product('another', name='Another')\n"
    )
    shop.up()
    assert (
        f"adopted.dev.json names Price '{name}', which the program does not declare: {id_} is not adopted"
        in caplog.text
    )


@pytest.mark.parametrize("text", ["[1]", "{", '{"Price": {"fee": 1}}'])
def test_an_ids_file_that_is_none_is_one_sentence(shop: Existing, text: str) -> None:
    (shop.folder / "adopted.dev.json").write_text(text)
    assert shop.adopt() == 3
    assert shop.said.startswith("pricing: adopted.dev.json cannot be read: it must be {")
    assert shop.said.count("\n") == 1


# -- what is left alone -----------------------------------------------------------------------------------------------


def test_what_another_stack_owns_is_left_alone(shop: Existing) -> None:
    product = Made(shop.world, 1).product("Theirs", metadata={"pulumi": "other/prod/pro-product"})
    Made(shop.world, 2).price(product, unit_amount=100, recurring={"interval": "month"})
    assert shop.adopt() == 0
    assert f"leaves alone 1: another program has them (other/prod) ({product})" in shop.said
    assert re.search(r"leaves alone 1: their product is left alone \(price_\w+\)", shop.said)
    assert "there is nothing to adopt; nothing is written" in shop.said


@pytest.mark.parametrize(
    ("lacks", "said"),
    [
        ("customers", "this key may not read customers; they are left alone"),
        ("subscriptions", "archived prices; this key may not read subscriptions, so nobody knows who pays"),
        ("coupons", "this key may not read coupons; they are left alone"),
        ("billing/meters", "this key may not read meters; they are left alone"),
    ],
)
def test_a_key_that_may_not_read_everything(shop: Existing, lacks: str, said: str) -> None:
    Made(shop.world, 2).products(8)
    shop.world.control("faults", method="GET", path=f"/v1/{lacks}", status=403, count=None)
    assert shop.adopt("--customers") == 0
    assert said in shop.said
    shop.world.heal()
    assert not [each for each in shop.up() if not each.rpartition(" ")[2].endswith("[pulumi]")]


def test_a_key_that_may_not_read_prices_is_an_error(shop: Existing) -> None:
    Made(shop.world, 2).products(2)
    shop.world.control("faults", method="GET", path="/v1/prices", status=403, count=None)
    assert shop.adopt() == 3
    assert "Give the restricted key this permission" in shop.said
    assert not shop.program.exists()


def test_a_key_with_what_the_page_says_for_it_is_enough(shop: Existing) -> None:
    """And no more is needed: the column of docs/security.md is what the requests need."""
    documented = table()["pricing adopt, export"]
    Made(shop.world, 2).products(8)
    key = "rk_" + "test_adopt"
    shop.world.control("keys", key=key, permissions=[*names(documented), "rak_test_clock_read"])
    assert shop.adopt("--customers", process=shop.world.process(mode="test", apiKey=key)) == 0
    assert "may not read" not in shop.said
    needed = {keys.permission(each.method, each.path) for each in shop.world.sent}
    assert accesses(needed - {"rak_test_clock_read"}) == documented


def test_the_versions_of_an_adopted_plan_are_known_to_the_other_commands(shop: Existing) -> None:
    """`pricing impact` finds the price of each version, which has only its owner to tell."""
    of_the_page(shop.world)
    shop.adopts()
    known = catalogue_of(shop.world.process().account, "team", ["license"], (2, ["license"]))
    assert known == {
        shop.ids["Price"]["team-license"]: (1, "license"),
        shop.ids["Price"]["team-v2-license"]: (2, "license"),
    }


# -- the programs of others -------------------------------------------------------------------------------------------

EXAMPLES = sorted(each.parent for each in (Path(__file__).parents[2] / "examples").glob("*/__main__.py"))
#: Two charges on products of their own are three plans, and an agreed price is a version.
LONGER = {"enterprise": 1.6, "two-meters": 2.2}


@pytest.mark.parametrize(
    "example", [each for each in EXAMPLES if each.name != "existing-account"], ids=lambda each: each.name
)
def test_what_an_example_has_made_is_adopted_in_as_few_lines(shop: Existing, example: Path) -> None:
    for file in example.iterdir():
        if file.is_file() and file.name != "Pulumi.yaml":
            (shop.folder / file.name).write_bytes(file.read_bytes())
    of_a_person = written(shop, shop.program.read_text())
    assert shop.adopt("--customers") == 0
    assert not [each for each in shop.up() if not each.endswith("[pulumi]")]
    assert not shop.up()
    assert len(shop.program.read_text().splitlines()) <= LONGER.get(example.name, 1.3) * of_a_person


def test_what_is_adopted_is_not_doubted(shop: Existing, caplog: pytest.LogCaptureFixture) -> None:
    """A catalogue of hundreds of plans has tens of thousands of pairs, and what they cost was decided before."""
    made = Made(shop.world, 5)
    meter = made.meter("Calls")
    for number in range(3):
        product = made.product(f"Plan {number}")
        made.price(product, unit_amount=1_000 * (number + 1), recurring={"interval": "month"})
        made.metered(product, meter, [{"up_to": "inf", "unit_amount": 2}])
    shop.adopts()
    assert "never costs less" not in caplog.text
    ids = shop.ids
    (shop.folder / "adopted.dev.json").write_text(json.dumps({**ids, "Price": {}}))
    shop.stack.preview(shop.program)
    assert caplog.text.count("never costs less") == 3


def test_progress_is_said_every_two_seconds(capsys: pytest.CaptureFixture[str]) -> None:
    moments = iter([0.0, 1.0, 2.0, 3.0, 4.5])
    assert list(adopt_command.counting("prices", "abcd", lambda: next(moments))) == list("abcd")
    assert capsys.readouterr().err.splitlines() == ["pricing: 2 prices read", "pricing: 4 prices read"]


def test_another_stack_of_the_program_makes_its_own_objects(shop: Existing, tmp_path: Path) -> None:
    """Archived versions too; it has no ids of this account."""
    Made(shop.world, 8).products(16)
    shop.adopts()
    (tmp_path / "other").mkdir()
    other = Existing(tmp_path / "other")
    other.program.write_text(shop.program.read_text())
    other.up()
    assert other.stack.states.keys() == shop.stack.states.keys()
    archived = {key for key, state in other.stack.states.items() if state.outs.get("active") is False}
    assert archived == {key for key, state in shop.stack.states.items() if state.outs.get("active") is False} != set()
    assert not other.up()
    other.world.sandbox.close()
