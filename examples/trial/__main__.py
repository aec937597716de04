"""Two weeks free; what is used in them costs nothing."""

from components.plan import PublishedPlan
from components.pricing import Overage, Plan, Usage
from components.program import program
from components.subscriber import Subscriber

with program():
    usage = Usage("token", included=1_000, overage=Overage("0.04", per=100))
    basic = PublishedPlan("basic", Plan("Basic", fees="100.00", usage=usage, trial_days=14), event_name="tokens")
    Subscriber("acme", basic, customer_name="Acme", email="billing@example.com")
