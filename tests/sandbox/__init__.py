"""Tests of the local Stripe, through stripe-python and over a port."""
