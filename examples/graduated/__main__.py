"""Graduated tiers: 1,000 tokens free, the next 9,000 at 0.04 USD per hundred, above that 0.03."""

from components.plan import PublishedPlan
from components.pricing import Plan, Tier, Usage
from components.program import program
from components.subscriber import Subscriber

with program():
    tiers = [Tier("0.04", per=100, up_to=10_000), Tier("0.03", per=100)]
    plan = Plan("Basic", fees="100.00", usage=Usage("token", included=1_000, tiers=tiers))
    basic = PublishedPlan("basic", plan, event_name="tokens")
    Subscriber("acme", basic, customer_name="Acme", email="billing@example.com")
