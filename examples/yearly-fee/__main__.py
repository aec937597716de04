"""A yearly fee and a monthly overage on one subscription."""

from components.plan import PublishedPlan
from components.pricing import Fee, Overage, Plan, Usage
from components.program import program
from components.subscriber import Subscriber

with program():
    usage = Usage("token", included=1_000, overage=Overage("0.04", per=100))
    yearly = PublishedPlan(
        "yearly", Plan("Yearly", fees=Fee("1000.00", interval="year"), usage=usage), event_name="tokens"
    )
    Subscriber("acme", yearly, customer_name="Acme", email="billing@example.com")
