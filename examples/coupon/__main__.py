"""20 % off for one customer, for three months."""

from components.plan import PublishedPlan
from components.pricing import Plan
from components.program import program
from components.resources import Coupon
from components.subscriber import Subscriber

with program():
    basic = PublishedPlan("basic", Plan("Basic", fees="200.00"))
    welcome = Coupon("welcome", name="Welcome", percent_off=20, duration="repeating", duration_in_months=3)
    Subscriber("acme", basic, customer_name="Acme", email="billing@example.com", coupon=welcome.id)
