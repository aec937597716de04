"""What an account has already: a product, its price, a customer and a live subscription, taken over as they are."""

import pulumi

from components.program import program
from components.resources import Customer, Price, Product, Subscription

with program():
    there = pulumi.Config("example")  # in a program of your own, write the ids down: adopt="prod_..."
    product = Product("basic", adopt=there.require("product"), name="Basic")
    month = {"currency": "usd", "unit_amount": 10_000, "recurring": {"interval": "month"}}
    fee = Price("basic-license", adopt=there.require("price"), product=product.id, **month)
    acme = Customer("acme", adopt=there.require("customer"), name="Acme", email="billing@example.com")
    invoiced = {"collection_method": "send_invoice", "days_until_due": 30}
    items = {"license": {"price": fee.id, "quantity": 3}}
    Subscription("acme", adopt=there.require("subscription"), customer=acme.id, items=items, **invoiced)
