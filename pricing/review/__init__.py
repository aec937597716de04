"""`pricing review`: what a pull request does, as one comment."""
