"""Chaos: random programs on the real engine, broken at random, and what must be true after the recovery."""
