"""The money arithmetic of the local Stripe: pure functions, Stripe objects in as plain dicts, amounts and lines out."""
