"""`pricing adopt`: the program that adopts an account as it is."""
