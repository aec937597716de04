"""Customers from a CSV: one loop, seats as text."""

import csv
from pathlib import Path

from components.plan import PublishedPlan
from components.pricing import Plan
from components.program import program
from components.subscriber import Subscriber

with program():
    basic = PublishedPlan("basic", Plan("Basic", fees="100.00"))
    with Path(__file__).with_name("customers.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            Subscriber(row["key"], basic, customer_name=row["name"], email=row["email"], seats=row["seats"])
