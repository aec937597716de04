"""A customer moves to another plan within its period: in place, with the rest of both prorated."""

import pulumi

from components.plan import PublishedPlan
from components.pricing import Plan
from components.program import program
from components.subscriber import Subscriber

with program():
    basic = PublishedPlan("basic", Plan("Basic", fees="100.00"))
    pro = PublishedPlan("pro", Plan("Pro", fees="400.00"))
    chosen = pro if pulumi.Config("example").get("acme") == "pro" else basic
    Subscriber("acme", chosen, customer_name="Acme", email="billing@example.com")
