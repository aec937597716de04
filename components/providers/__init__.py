"""The dynamic providers: one lifecycle, and one short description for each kind of Stripe object."""
