"""`pricing export`: a stack for another tool."""
