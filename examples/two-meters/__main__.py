"""Input and output tokens in one plan, on lines that a customer can tell apart."""

from components.plan import PublishedPlan
from components.pricing import Overage, Plan, Usage
from components.program import program
from components.subscriber import Subscriber

with program():
    read = Usage("token", key="input", product="Input tokens", included=1_000, overage=Overage("0.02", per=100))
    written = Usage("token", key="output", product="Output tokens", overage=Overage("0.10", per=100))
    model = PublishedPlan(
        "model",
        Plan("Model", fees="100.00", usage=[read, written]),
        event_name={"input": "input_tokens", "output": "output_tokens"},
    )
    Subscriber("acme", model, customer_name="Acme", email="billing@example.com")
