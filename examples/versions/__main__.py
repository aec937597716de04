"""A new price for new customers while the others stay, and later one to which everybody moves at the renewal."""

from components.plan import PublishedPlan
from components.pricing import Plan, Version
from components.program import program
from components.subscriber import Subscriber

with program():
    first = Plan("Basic", fees="100.00")
    second = Version(Plan("Basic", fees="120.00"), rollout="keep")
    third = Version(Plan("Basic", fees="130.00"), rollout="at_renewal")
    basic = PublishedPlan("basic", {1: first, 2: second, 3: third})
    Subscriber("acme", basic, customer_name="Acme", email="billing@example.com")
    Subscriber("globex", basic, customer_name="Globex", email="accounts@example.com")
