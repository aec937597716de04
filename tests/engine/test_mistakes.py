"""What a check refuses, as the engine prints it: our sentence, in a preview and in a run, and never a secret."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.engine.conftest import Project
from tests.engine.support import IMPORTS, ids

NewProject = Callable[..., Project]

SECRET = "Zq7x-secret"
PROGRAM = f"""{IMPORTS}
import pulumi

product = Product("pro", name="Pro")
"""
TIERED = """
Price(
    "fee",
    product=product.id,
    currency="usd",
    billing_scheme="tiered",
    tiers_mode="volume",
    recurring={"interval": "month"},
    tiers=[{"up_to": "inf", "unit_amount": "few"}],
)
"""
#: Each with what is wrong only once the product exists, or at once; and the sentence.
MISTAKES = {
    "at once": (
        'Price("fee", product=product.id, currency="usd", unit_amount="many")',
        "unit_amount: must be a whole number, not a string",
    ),
    "inside a list": (
        TIERED,
        "tiers[0].unit_amount: must be a whole number, not a string",
    ),
    "once it is known": (
        'Price("fee", product=product.id, currency="usd", unit_amount=product.id)',
        "unit_amount: must be a whole number, not a string",
    ),
    "in a secret": (
        f'Product("fee", name="Fee", url=pulumi.Output.secret("{SECRET}"))',
        "url: must be a public web address",
    ),
}


@pytest.mark.parametrize("when", MISTAKES)
def test_a_mistake_keeps_its_sentence(new_project: NewProject, when: str) -> None:
    """Not "unexpected unknown property value", which the engine reports for placeholders of a failed check."""
    mistake, sentence = MISTAKES[when]
    project = new_project(PROGRAM + mistake)
    preview, applied = project.preview(), project.up()
    assert preview.code == (0 if when == "once it is known" else 1)
    assert applied.code == 1
    for result in (preview, applied):
        if result.code:
            assert f"resource 'fee' has a problem: {sentence}" in result.text
        assert "unexpected unknown" not in result.text
        assert SECRET not in result.text
    assert ids(project).keys() <= {"Product pro"}
