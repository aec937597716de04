"""Another price on another stack: a setting of the stack, not another program."""

import pulumi

from components.plan import PublishedPlan
from components.pricing import Plan
from components.program import program
from components.subscriber import Subscriber

with program():
    fee = pulumi.Config("example").get("fee") or "100.00"
    basic = PublishedPlan("basic", Plan("Basic", fees=fee))
    Subscriber("acme", basic, customer_name="Acme", email="billing@example.com")
