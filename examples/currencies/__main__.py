"""Dollars, euros and yen on one meter: one price with an option for each currency."""

from components.plan import PublishedPlan
from components.pricing import Fee, Overage, Plan, Usage
from components.program import program
from components.subscriber import Subscriber

with program():
    fee = Fee({"usd": "100.00", "eur": "90.00", "jpy": 15_000})
    overage = Overage({"usd": "0.04", "eur": "0.036", "jpy": 6}, per=100)
    basic = PublishedPlan("basic", Plan("Basic", fees=fee, usage=Usage("token", overage=overage)), event_name="tokens")
    Subscriber("acme", basic, customer_name="Acme", email="billing@example.com")
    Subscriber("globex", basic, customer_name="Globex", email="accounts@example.com", currency="eur")
    Subscriber("initech", basic, customer_name="Initech", email="office@example.com", currency="jpy")
