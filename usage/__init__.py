"""Send Stripe meter events and read them back: nothing lost, nothing billed twice."""
