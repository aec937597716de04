"""`payment_settings` of subscriptions: Stripe's shape and defaults, each payment method's options alone."""

from __future__ import annotations

from typing import Any

import pytest
import stripe

from .catalog import catalog, plain


@pytest.fixture
def subscription(client: stripe.StripeClient) -> stripe.Subscription:
    made = catalog(client)
    return client.v1.subscriptions.create(
        {
            "customer": made.customer.id,
            "collection_method": "send_invoice",
            "days_until_due": 30,
            "items": [{"price": made.license.id}],
        }
    )


def set_options(client: stripe.StripeClient, subscription: stripe.Subscription, **options: Any) -> Any:
    """The options of all payment methods after an update, those without any left out."""
    changed = client.v1.subscriptions.update(
        subscription.id,
        {"payment_settings": {"payment_method_options": options}},  # type: ignore[arg-type]
    )
    settings = plain(changed.payment_settings)
    assert settings == plain(client.v1.subscriptions.retrieve(subscription.id).payment_settings)
    shown = settings["payment_method_options"]
    return shown and {name: option for name, option in shown.items() if option is not None}


def test_what_is_left_out_has_stripes_defaults(client: stripe.StripeClient, subscription: stripe.Subscription) -> None:
    shown = set_options(
        client,
        subscription,
        acss_debit={"mandate_options": {"transaction_type": "business"}},
        card={"network": "visa"},
        pix={"mandate_options": {"amount": 5}},
        us_bank_account={"financial_connections": {"permissions": ["balances"]}},
    )
    assert shown["acss_debit"]["verification_method"] == "automatic"
    assert shown["card"] == {"network": "visa", "request_three_d_secure": "automatic"}
    assert shown["pix"]["expires_after_seconds"] == 14_400
    assert shown["us_bank_account"] == {
        "financial_connections": {"permissions": ["balances"], "prefetch": None},
        "verification_method": "automatic",
    }


def test_every_payment_method_is_shown_once_one_has_options(
    client: stripe.StripeClient, subscription: stripe.Subscription
) -> None:
    set_options(client, subscription, card={"network": "visa"})
    settings = plain(client.v1.subscriptions.retrieve(subscription.id).payment_settings)
    assert settings["payment_method_options"]["konbini"] is None


def test_a_hash_that_is_given_is_shown_whole(client: stripe.StripeClient, subscription: stripe.Subscription) -> None:
    shown = set_options(client, subscription, card={"mandate_options": {"amount": 5}})
    assert shown["card"]["mandate_options"] == {"amount": 5, "amount_type": None, "description": None}


def test_one_payment_methods_options_are_set_and_unset_alone(
    client: stripe.StripeClient, subscription: stripe.Subscription
) -> None:
    set_options(client, subscription, card={"network": "visa"}, blik={"mandate_options": {"expires_at": 5}})
    shown = set_options(client, subscription, card="")
    assert shown == {"blik": {"mandate_options": {"expires_at": 5}}}
    assert set_options(client, subscription, blik="") is None


def test_an_unknown_word_of_bank_transfers_is_refused(
    client: stripe.StripeClient, subscription: stripe.Subscription
) -> None:
    with pytest.raises(stripe.InvalidRequestError) as caught:
        set_options(client, subscription, customer_balance={"bank_transfer": {"eu_bank_transfer": {"country": "PE"}}})
    assert caught.value.param == (
        "payment_settings[payment_method_options][customer_balance][bank_transfer][eu_bank_transfer][country]"
    )
