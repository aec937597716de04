"""`pricing export --to terraform`: HCL and import blocks of what a stack has.

With Terraform on PATH and `STRIPE_PRICING_TERRAFORM_PROVIDER` naming a built provider (CONTRIBUTING.md says how), the
provider itself says that the plan is empty.
"""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import chdir, contextmanager, redirect_stderr
from pathlib import Path

import pytest

from pricing import cli
from pricing.export import command as export_command
from tests.pricing.an_account import Made
from tests.pricing.existing import WRITTEN, Existing, opened

PROVIDER = os.environ.get("STRIPE_PRICING_TERRAFORM_PROVIDER", "")


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Existing]:
    with opened(tmp_path) as made:
        yield made


def exported(shop: Existing, *words: str) -> tuple[int, str]:
    """`pricing export --to terraform` in the project's folder: the exit code, and what it said."""
    arguments = cli.parser().parse_args(["export", "--to", "terraform", *words])
    text = io.StringIO()
    with chdir(shop.folder), redirect_stderr(text), shop.state_for(export_command):
        shop.world.forget_calls()
        code = export_command.run(arguments, shop.world.process().account)
    assert not shop.writes()
    return code, text.getvalue()


def block(shop: Existing, address: str) -> str:
    """A resource's block in main.tf."""
    kind, _, name = address.partition(".")
    text = (shop.folder / "terraform/main.tf").read_text()
    found = re.search(rf'^resource "{kind}" "{name}" \{{\n(.*?)^\}}', text, re.MULTILINE | re.DOTALL)
    assert found, text
    return found[1]


def test_each_object_has_its_configuration_and_its_import(shop: Existing) -> None:
    shop.program.write_text(WRITTEN)
    shop.up()
    code, said = exported(shop)
    assert code == 0
    assert "which must say 21 to import, 0 to add, 0 to change, 0 to destroy" in said
    assert block(shop, "stripe_price.alpaca_ai_v2_license") == (
        "  product     = stripe_product.alpaca_ai_product.id\n"
        '  currency    = "usd"\n'
        '  nickname    = "Alpaca.ai v2 license"\n'
        '  lookup_key  = "alpaca-ai:license"\n'
        "  unit_amount = 12000\n"
        "  metadata = {\n"
        '    charge  = "license"\n'
        '    plan    = "alpaca-ai"\n'
        '    pulumi  = "shop/dev/alpaca-ai-v2-license"\n'
        '    version = "2"\n'
        "  }\n"
        "\n"
        "  recurring {\n"
        '    interval       = "month"\n'
        "    interval_count = 1\n"
        '    usage_type     = "licensed"\n'
        "  }\n"
    )
    assert 'tiers {\n    up_to               = "inf"\n    unit_amount_decimal = "0.04"\n  }' in block(
        shop, "stripe_price.alpaca_ai_usage"
    )
    assert "coupon = stripe_coupon.welcome.id" in block(shop, "stripe_promotion_code.hello")
    imports = (shop.folder / "terraform/imports.tf").read_text()
    id_ = shop.stack.id("Price alpaca-ai-v2-license")
    assert f'import {{\n  to = stripe_price.alpaca_ai_v2_license\n  id = "{id_}"\n}}\n' in imports


def test_what_the_provider_cannot_express_is_named(shop: Existing) -> None:
    shop.program.write_text(WRITTEN)
    shop.up()
    _, said = exported(shop)
    team = shop.stack.id("Price team-license")
    assert f"amounts in other currencies: the provider does not read them; they stay as they are ({team})" in said
    assert "default prices of products: the provider only reads them; they stay as they are (prod_" in said
    assert "currency_options" not in (shop.folder / "terraform/main.tf").read_text()


def test_only_what_the_stack_has_is_exported(shop: Existing) -> None:
    Made(shop.world, 1).products(8)
    code, said = exported(shop)
    assert (code, (shop.folder / "terraform").exists()) == (0, False)
    assert "dev has nothing in Stripe; nothing is written" in said


def test_files_that_somebody_changed_stay(shop: Existing) -> None:
    shop.program.write_text(WRITTEN)
    shop.up()
    assert exported(shop)[0] == 0
    assert exported(shop)[0] == 0
    main = shop.folder / "terraform/main.tf"
    main.write_text(main.read_text() + "# mine\n")
    code, said = exported(shop)
    assert code == 2
    assert "terraform/main.tf is there and differs; write to another folder (--out), and compare" in said
    assert main.read_text().endswith("# mine\n")


def test_text_is_quoted_as_hcl_needs_it(shop: Existing) -> None:
    shop.program.write_text(
        "from components.program import program\nfrom components.resources import Product\nwith program():\n"
        "    Product('odd', name='A \"${price}\" of 100 %{x} \\\\ €')\n"
    )
    shop.up()
    exported(shop)
    assert 'name = "A \\"$${price}\\" of 100 %%{x} \\\\ €"' in block(shop, "stripe_product.odd")


# -- the provider itself ----------------------------------------------------------------------------------------------


@contextmanager
def served(file: Path) -> Iterator[str]:
    command = [sys.executable, "-m", "sandbox.cli", "serve", "--port", "0", "--file", str(file)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().split()[2].rstrip(",")
        finally:
            process.terminate()


@pytest.mark.skipif(
    not PROVIDER or shutil.which("terraform") is None,
    reason="terraform is not on PATH, or STRIPE_PRICING_TERRAFORM_PROVIDER names no provider (CONTRIBUTING.md)",
)
def test_the_plan_of_stripes_own_provider_is_empty(shop: Existing) -> None:
    """Before the import, and after it."""
    Made(shop.world, 2).products(32)
    assert shop.adopt("--customers") == 0
    shop.up()
    code, said = exported(shop)
    assert code == 0
    folder = shop.folder / "terraform"
    override = f'dev_overrides {{\n    "stripe/stripe" = "{Path(PROVIDER).resolve().parent}"\n  }}'
    (folder / "terraform.rc").write_text(f"provider_installation {{\n  {override}\n  direct {{}}\n}}\n")
    with served(shop.folder.parent / "stripe.db") as address:
        environ = {key: value for key, value in os.environ.items() if not key.startswith(("TF_", "STRIPE_"))}
        environ |= {
            "TF_CLI_CONFIG_FILE": str(folder / "terraform.rc"),
            "STRIPE_API_KEY": "sk_test_anything",
            "STRIPE_API_BASE": address,
            "CHECKPOINT_DISABLE": "1",
        }

        def terraform(*words: str) -> str:
            done = subprocess.run(
                ["terraform", *words], cwd=folder, env=environ, capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, done.stdout + done.stderr
            return done.stdout

        terraform("fmt", "-check", "-diff")
        count = re.search(r"must say (\d+) to import", said)
        assert count
        expected = f"{count[1]} to import, 0 to add, 0 to change, 0 to destroy"
        assert expected in terraform("plan", "-no-color", "-input=false")
        terraform("apply", "-no-color", "-input=false", "-auto-approve")
        assert "No changes." in terraform("plan", "-no-color", "-input=false", "-detailed-exitcode")
