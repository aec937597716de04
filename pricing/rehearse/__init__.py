"""`pricing rehearse`: a change applied to an anonymised copy of the account, and thirteen renewals of it."""
