"""The short form of `script/soak`: a few customers, some months; the long one has 300 and a year."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.mocked import event_loop
from tests.pricing.soak import Mismatch, Shop, soak


@pytest.mark.parametrize("seed", [2, 3])
def test_every_bill_of_random_customers_is_what_the_rating_says(seed: int) -> None:
    """Seed 2 prorates, seed 3 has coupons and moves prices at the renewal."""
    counts = Counter[str]()
    soak(seed, 5, 4, counts)
    assert counts["renewals"] > 5
    assert counts["comparisons"] > 8


def test_a_cent_too_much_is_found_and_named_with_its_seed(tmp_path: Path) -> None:
    with event_loop():
        shop = Shop(tmp_path, 2, 5, Counter())
        shop.run(1)
        customer = next(iter(shop.customers.values()))
        customer.expected += 1
        with pytest.raises(Mismatch, match=r"seed 2, 2026-03-\d\d, .*: billed \d+, rated \d+\n2026-"):
            shop._compare(customer)
        shop.world.sandbox.close()
