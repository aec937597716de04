"""docs/review.md shows what `pricing impact` writes today."""

from __future__ import annotations

from tests.pricing import review


def test_the_report_and_the_chart_of_the_page_are_those_of_its_sample() -> None:
    page, picture = review.made()
    assert review.PAGE.read_text(encoding="utf-8") == page, "run: python -m tests.pricing.review"
    assert review.PICTURE.read_text(encoding="utf-8") == picture, "run: python -m tests.pricing.review"
