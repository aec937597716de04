"""`pricing rollout`: moves subscriptions that no program declares to another version."""
