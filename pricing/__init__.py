"""Tools for a pricing model besides applying it; the command is `pricing`."""
