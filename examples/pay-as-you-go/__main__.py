"""No fee: only what is used."""

from components.plan import PublishedPlan
from components.pricing import Overage, Plan, Usage
from components.program import program
from components.subscriber import Subscriber

with program():
    plan = Plan("Pay as you go", usage=Usage("token", overage=Overage("0.04", per=100)))
    metered = PublishedPlan("metered", plan, event_name="tokens")
    Subscriber("acme", metered, customer_name="Acme", email="billing@example.com")
