"""A stateful local Stripe: embedded in process, or served on a loopback port."""
