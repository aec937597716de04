"""`pricing verify`: Stripe compared with the program."""
