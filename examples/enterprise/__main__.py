"""A customer with a fee and an allowance of its own, on lines of the same product."""

from components.plan import PublishedPlan
from components.pricing import Fee, Overage, Plan, Usage
from components.program import program
from components.subscriber import Subscriber

with program():
    usage = Usage("token", included=1_000, overage=Overage("0.04", per=100))
    basic = PublishedPlan("basic", Plan("Basic", fees="100.00", usage=usage), event_name="tokens")
    agreed = [Fee("80.00"), Usage("token", included=50_000, overage=Overage("0.02", per=100))]
    Subscriber("acme", basic, customer_name="Acme", email="billing@example.com", seats=10, own=agreed)
