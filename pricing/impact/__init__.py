"""`pricing impact`: who pays what when one version replaces another, from closed invoices."""
