"""The reports of rehearsals in docs/review.md, made from a shop of five customers.

    python -m tests.pricing.rehearsal_page

writes both again. Pseudonyms differ in each run, and are not compared.
"""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

from pricing.rehearse.report import markdown
from tests.pricing.billed import ROOT
from tests.pricing.rehearsed import Rehearsed, rehearsed, then
from tests.pricing.test_rehearse import LostCoupon, fill

PAGE = ROOT / "docs" / "review.md"
_PSEUDONYM = re.compile(r"\b([cs])-[0-9a-f]{10}\b")
_CHOSEN = re.compile(r"\bx-[0-9a-f]{20}\b")


def shop_of(shop: Rehearsed) -> None:
    """The customers of the page."""
    fill(shop)
    shop.shop.subscribe(2, metadata={"price_lock": "until 2028"})


def made(page: str) -> str:
    """The page with its reports."""
    with tempfile.TemporaryDirectory() as folder, rehearsed(Path(folder)) as shop:
        shop_of(shop)
        right = markdown(shop.rehearse(then()))
        wrong = markdown(shop.rehearse(then(), LostCoupon))
    # Up to the money, which the other one shows.
    short = re.split(r"\n\n\*\*[+-]", wrong)[0] + "\n"
    return _within(_within(page, "rehearsal", right), "mistake", short)


def _within(page: str, name: str, text: str) -> str:
    """The page with a report between two marks, below the page's own headings."""
    before, _, rest = page.partition(f"<!-- {name} -->\n")
    _, _, after = rest.partition(f"<!-- /{name} -->")
    inside = re.sub(r"^#", "##", text, flags=re.MULTILINE)
    return f"{before}<!-- {name} -->\n{inside}<!-- /{name} -->{after}"


def plain(page: str) -> str:
    """A page whose pseudonyms are all the same, and whose rows are in order."""
    text = _CHOSEN.sub("x-0", _PSEUDONYM.sub(r"\1-0", page))
    return "\n".join(sorted(text.splitlines()))


if __name__ == "__main__":
    PAGE.write_text(made(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
