"""The dynamic providers: one lifecycle, one short description a kind of Stripe object."""
