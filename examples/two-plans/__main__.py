"""Two plans that share one meter: each bills the usage of its own customers."""

from components.plan import PublishedPlan
from components.pricing import Fee, Overage, Plan, Usage
from components.program import program
from components.resources import Meter
from components.subscriber import Subscriber

with program():
    tokens = Meter("tokens", display_name="Tokens", event_name="tokens", default_aggregation={"formula": "sum"})
    small = Usage("token", included=1_000, overage=Overage("0.04", per=100), meter="tokens")
    large = Usage("token", included=10_000, overage=Overage("0.03", per=100), meter="tokens")
    basic = PublishedPlan("basic", Plan("Basic", fees=Fee("100.00"), usage=small), meters={"tokens": tokens})
    pro = PublishedPlan("pro", Plan("Pro", fees=Fee("400.00"), usage=large), meters={"tokens": tokens})
    Subscriber("acme", basic, customer_name="Acme", email="billing@example.com")
    Subscriber("globex", pro, customer_name="Globex", email="accounts@example.com")
