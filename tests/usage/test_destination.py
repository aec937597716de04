"""Where events go is never guessed."""

from __future__ import annotations

import pytest

from usage.client import Client
from usage.destination import resolve
from usage.errors import DestinationError

KEY = "sk_test_51secretSecret"
LIVE = "rk_live_51secretSecret"


def test_a_test_key_is_stripe() -> None:
    where = resolve(environment={"STRIPE_API_KEY": KEY})
    assert (where.mode, where.api_base) == ("test", "https://api.stripe.com")
    assert where.meter_events_base == "https://meter-events.stripe.com"
    assert where.label == "Stripe, test mode"
    assert "secret" not in repr(where).lower()


def test_a_live_key_needs_to_be_asked_for_by_name() -> None:
    with pytest.raises(DestinationError, match="--live"):
        resolve(environment={"STRIPE_API_KEY": LIVE})
    assert resolve(environment={"STRIPE_API_KEY": LIVE, "STRIPE_MODE": "live"}).mode == "live"
    assert resolve(mode="live", environment={"STRIPE_API_KEY": LIVE}).mode == "live"
    with pytest.raises(DestinationError, match="test key"):
        resolve(mode="live", environment={"STRIPE_API_KEY": KEY})


def test_sandbox_mode_is_the_embedded_sandbox_or_a_served_one() -> None:
    embedded = resolve(environment={"STRIPE_MODE": "sandbox"})
    assert (embedded.sandbox, embedded.api_base, embedded.sandbox_file) == (True, None, ".stripe-sandbox/stripe.db")
    served = resolve(environment={"STRIPE_MODE": "sandbox", "STRIPE_API_BASE": "http://127.0.0.1:9000/"})
    assert (served.api_base, served.meter_events_base) == ("http://127.0.0.1:9000", "http://127.0.0.1:9000")
    assert "SANDBOX" in embedded.label
    assert "SANDBOX" in served.label


@pytest.mark.parametrize(
    ("environment", "why"),
    [
        ({}, "STRIPE_API_KEY .* or STRIPE_MODE=sandbox"),
        ({"STRIPE_API_KEY": KEY, "STRIPE_MODE": "sandbox"}, "both"),
        ({"STRIPE_API_KEY": LIVE, "STRIPE_MODE": "sandbox"}, "both"),
        ({"STRIPE_API_KEY": "pk_test_123456"}, "publishable"),
        ({"STRIPE_API_KEY": "hello"}, "not a secret key"),
        ({"STRIPE_API_KEY": f"{KEY}\n"}, "line breaks"),
        ({"STRIPE_MODE": "prod"}, "none of"),
        ({"STRIPE_MODE": "test"}, "nothing says"),
        ({"STRIPE_API_KEY": KEY, "STRIPE_API_BASE": "localhost:9000"}, "address like"),
        ({"STRIPE_API_KEY": KEY, "STRIPE_API_BASE": "http://user:pw@host:1"}, "address like"),
        ({"STRIPE_API_KEY": KEY, "STRIPE_API_BASE": "http://proxy.example"}, "unencrypted"),
        ({"STRIPE_API_KEY": KEY, "STRIPE_API_BASE": "http://proxy.example:8080"}, "unencrypted"),
        ({"STRIPE_API_KEY": KEY, "STRIPE_API_BASE": "http://h:99999"}, "not an address"),
        ({"STRIPE_MODE": "sandbox", "STRIPE_API_BASE": "https://api.stripe.com"}, "Stripe itself"),
    ],
)
def test_what_is_missing_or_contradictory_is_said_without_the_key(environment: dict[str, str], why: str) -> None:
    with pytest.raises(DestinationError, match=why) as caught:
        resolve(environment=environment)
    assert "secretSecret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_recording_works_without_a_destination_and_delivery_says_what_is_missing() -> None:
    client = Client()
    client.record("tokens", "cus_1", 5)
    assert client.status().pending == 1
    assert not client.status().configured
    with pytest.raises(DestinationError, match="STRIPE_API_KEY"):
        client.flush()
    assert client.status().pending == 1
    client.close()


def test_a_mode_asked_for_by_name_fails_at_once() -> None:
    with pytest.raises(DestinationError):
        Client(mode="live")
