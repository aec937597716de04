"""What people do with a pricing model beside applying it; the command is `pricing`."""
