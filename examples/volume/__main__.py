"""Volume: every token at the rate of the tier that the total reaches."""

from components.plan import PublishedPlan
from components.pricing import Plan, Tier, Usage
from components.program import program
from components.subscriber import Subscriber

with program(meant=["falls:basic:usage"]):
    tiers = [Tier("0.05", per=100, up_to=10_000), Tier("0.03", per=100)]
    basic = PublishedPlan(
        "basic", Plan("Basic", usage=Usage("token", tiers=tiers, tiers_mode="volume")), event_name="tokens"
    )
    Subscriber("acme", basic, customer_name="Acme", email="billing@example.com")
