"""What people do with a pricing model besides applying it; the command is `pricing`."""
