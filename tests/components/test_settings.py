"""Settings: a key of the wrong mode never gets as far as a request."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from components.redaction import redact
from components.settings import SANDBOX_KEY, Settings, SettingsError, StackConfig


def read(environ: dict[str, str] | None = None, **config: str) -> Settings:
    return Settings.read(config.get, environ or {})


# -- namespace --------------------------------------------------------------------------------------------------------


OLD = {
    "stripe:mode": "test",
    "stripe:apiKey": "sk_test_1",
    "stripe:apiBase": "https://a.example",
    "stripe:account": "acct_1",
    "stripe:sandboxFile": "a.db",
    "stripe:requestsPerSecond": "3",
    "stripe:retrySeconds": "4",
    "stripe:timeoutSeconds": "5",
}


def test_settings_are_read_by_their_old_names_too_with_one_hint() -> None:
    new = {name.replace("stripe:", "stripe-pricing:"): value for name, value in OLD.items()}
    assert Settings.read(StackConfig(OLD.get), {}) == Settings.read(StackConfig(new.get), {})
    assert StackConfig(new.get).hint is None
    hint = StackConfig(OLD.get).hint
    assert hint is not None
    assert "\n" not in hint
    assert all(name in hint for name in OLD)
    assert "sk_test_1" not in hint


@pytest.mark.parametrize("name", sorted(OLD))
def test_a_setting_with_two_values_is_refused(name: str) -> None:
    ours = name.replace("stripe:", "stripe-pricing:")
    with pytest.raises(SettingsError, match=f"^{ours} and {name}, its old name, are both set") as caught:
        Settings.read(StackConfig({**OLD, ours: "other"}.get), {})
    assert "sk_test_1" not in str(caught.value)
    both = {**OLD, ours: OLD[name]}
    assert Settings.read(StackConfig(both.get), {}) == Settings.read(StackConfig(OLD.get), {})


def test_the_key_of_the_registry_s_provider_is_not_ours() -> None:
    """Its `stripe:apiKey` stands beside our settings when both are in one program."""
    config = {"stripe-pricing:mode": "test", "stripe-pricing:apiKey": "sk_test_ours", "stripe:apiKey": "sk_test_theirs"}
    assert Settings.read(StackConfig(config.get), {}).require_key() == "sk_test_ours"
    assert StackConfig(config.get).hint is None


# -- mode, key, address -----------------------------------------------------------------------------------------------


def test_a_sandbox_stack_needs_nothing_but_its_mode() -> None:
    settings = read(mode="sandbox")
    assert settings.embedded
    assert settings.require_key() == SANDBOX_KEY
    assert settings.sandbox_file == Path(".stripe-sandbox/stripe.db")
    assert settings.rate is None


def test_a_served_sandbox_is_paced_like_test_mode() -> None:
    settings = read(mode="sandbox", apiBase="http://127.0.0.1:12111/")
    assert not settings.embedded
    assert settings.api_base == "http://127.0.0.1:12111"
    assert settings.rate == 25


def test_a_test_key_in_the_environment_never_reaches_a_sandbox_stack() -> None:
    assert read({"STRIPE_API_KEY": "sk_test_secret"}, mode="sandbox").require_key() == SANDBOX_KEY


def test_stack_config_wins_over_the_environment() -> None:
    environ = {"STRIPE_API_KEY": "sk_test_b", "STRIPE_API_BASE": "https://b.example", "STRIPE_SANDBOX_FILE": "b.db"}
    settings = read(environ, mode="test", apiKey="sk_test_a", apiBase="https://a.example", sandboxFile="a.db")
    assert settings.require_key() == "sk_test_a"
    assert settings.api_base == "https://a.example"
    assert settings.sandbox_file == Path("a.db")


@pytest.mark.parametrize(("mode", "prefix"), [("test", "sk_test_"), ("live", "sk_live_")])
def test_no_key_is_no_error_until_the_first_request(mode: str, prefix: str) -> None:
    settings = read(mode=mode)
    with pytest.raises(SettingsError, match=f"there is no API key: set STRIPE_API_KEY={prefix}"):
        settings.require_key()


def test_limits_are_stripes() -> None:
    assert read(mode="test").rate == 25
    assert read(mode="live").rate == 100
    assert read(mode="live", requestsPerSecond="10").rate == 10


def test_patience_is_configured() -> None:
    usual = read(mode="test")
    assert (usual.retry_seconds, usual.timeout_seconds) == (90, 80)
    mine = read(mode="test", retrySeconds="600", timeoutSeconds="0.5")
    assert (mine.retry_seconds, mine.timeout_seconds) == (600, 0.5)


@pytest.mark.parametrize(
    ("config", "environ", "message"),
    [
        ({}, {}, "stripe-pricing:mode is not set"),
        ({"mode": "production"}, {}, "stripe-pricing:mode is 'production'; it must be sandbox, test or live"),
        (
            {"mode": "sandbox"},
            {"STRIPE_API_KEY": "sk_live_1"},
            "STRIPE_API_KEY is a live key, but stripe-pricing:mode is sandbox",
        ),
        (
            {"mode": "test", "apiKey": "rk_live_1"},
            {},
            "stripe-pricing:apiKey is a live key, but stripe-pricing:mode is test",
        ),
        (
            {"mode": "live"},
            {"STRIPE_API_KEY": "sk_test_1"},
            "STRIPE_API_KEY is a test key, but stripe-pricing:mode is live",
        ),
        ({"mode": "test", "apiKey": "pk_test_1"}, {}, "stripe-pricing:apiKey is not a secret or restricted Stripe key"),
        (
            {"mode": "sandbox", "apiBase": "localhost:12111"},
            {},
            "stripe-pricing:apiBase (or STRIPE_API_BASE) is 'localhost",
        ),
        (
            {"mode": "live", "apiBase": "http://proxy.example"},
            {},
            "stripe-pricing:apiBase (or STRIPE_API_BASE) is 'http://pr",
        ),
        ({"mode": "test", "requestsPerSecond": "0"}, {}, "stripe-pricing:requestsPerSecond is '0'"),
        ({"mode": "test", "requestsPerSecond": "fast"}, {}, "stripe-pricing:requestsPerSecond is 'fast'"),
        ({"mode": "test", "retrySeconds": "nan"}, {}, "stripe-pricing:retrySeconds is 'nan'"),
        ({"mode": "test", "timeoutSeconds": "-1"}, {}, "stripe-pricing:timeoutSeconds is '-1'"),
    ],
)
def test_what_cannot_be_meant_is_one_line(config: dict[str, str], environ: dict[str, str], message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        read(environ, **config)
    line = str(caught.value)
    assert line.startswith(message)
    assert "\n" not in line
    for secret in [config.get("apiKey"), environ.get("STRIPE_API_KEY")]:
        assert secret is None or secret not in line


def test_a_key_shows_nowhere() -> None:
    settings = read(mode="test", apiKey="sk_test_secret")
    assert "secret" not in repr(settings)
    assert "secret" not in settings.model_dump_json()


@pytest.mark.parametrize(
    ("around", "words"),
    [
        ("{}\n", "a line break"),
        ("\n{}", "a line break"),
        ("{}\r\n", "a line break"),
        ("{} ", "a space"),
        (" {}", "a space"),
        ("{}\t", "a space"),
        ("{},", "a comma"),
        ("{},{}", "a comma"),
        ("{}\0", "a NUL"),
        ('{}"', "a quotation mark"),
        ("{}...", "a dot or another stray character"),
        ("{}\u00e9", "a dot or another stray character"),
    ],
)
@pytest.mark.parametrize("source", ["stripe-pricing:apiKey", "STRIPE_API_KEY"])
def test_a_key_with_anything_around_it_is_refused_and_never_shown(source: str, around: str, words: str) -> None:
    secret = "sk_" + "live_51Habc0123456789"
    value = around.format(secret, secret)
    configured = {"apiKey": value} if source == "stripe-pricing:apiKey" else {}
    with pytest.raises(SettingsError) as caught:
        read({"STRIPE_API_KEY": value}, mode="live", **configured)
    assert str(caught.value).startswith(f"{source} has {words}")
    assert "51Habc" not in repr(caught.value)
    # Whatever else fails in this process does not show it either.
    for text in (f"header {value!r}", f"header {value}", f"{secret[:8]}\n{secret[8:]}".replace("\n", "")):
        assert "51Habc" not in redact(text)


def test_a_prefix_alone_is_no_key() -> None:
    with pytest.raises(SettingsError, match="STRIPE_API_KEY has nothing after its prefix"):
        read({"STRIPE_API_KEY": "sk_test_"}, mode="test")
    # What a key begins with is no secret, and stands in advice.
    assert (
        redact("set STRIPE_API_KEY=sk_test_... in the environment")
        == "set STRIPE_API_KEY=sk_test_... in the environment"
    )


def test_what_a_broken_key_is_broken_into_is_cut_out_too() -> None:
    with pytest.raises(SettingsError):
        read({"STRIPE_API_KEY": "rk_live_firsthalf,secondhalf"}, mode="live")
    assert redact("b'Bearer rk_live_firsthalf,secondhalf' and secondhalf") == "b'Bearer rk_live_***,***' and ***"


@pytest.mark.parametrize("name", ["stripe-pricing:apiKey", "stripe:apiKey"])
def test_a_live_key_that_is_not_encrypted_is_refused(name: str) -> None:
    config = {"stripe-pricing:mode": "live", name: "sk_" + "live_51Habc0123456789"}
    with pytest.raises(SettingsError, match=f"^{name} is a live key that is not encrypted") as caught:
        Settings.read(StackConfig(config.get, lambda key: False), {})
    assert "51Habc" not in str(caught.value)
    assert Settings.read(StackConfig(config.get, lambda key: key == name), {}).api_key is not None
    # Test keys open nothing that is worth it; a key of the environment is not in the config.
    Settings.read(StackConfig({"stripe-pricing:mode": "test", name: "sk_test_1"}.get, lambda key: False), {})


@pytest.mark.parametrize(
    "address", ["https://me:hunter22@proxy.example", "http://hunter22@127.0.0.1:1", "https://[::1", "http://x:port"]
)
def test_an_address_shows_no_password(address: str) -> None:
    with pytest.raises(SettingsError, match=r"stripe-pricing:apiBase \(or STRIPE_API_BASE\)") as caught:
        read(mode="test", apiBase=address)
    assert "hunter22" not in str(caught.value)


def test_a_name_and_password_in_an_address_are_cut_out_of_every_text() -> None:
    assert redact("cannot connect to https://me:hunter22@proxy.example:8080/x") == (
        "cannot connect to https://***@proxy.example:8080/x"
    )


@pytest.mark.parametrize("name", ["allowLocalState", "allowEmptyPassphrase"])
def test_what_is_asked_for_by_name_is_true_or_false(name: str) -> None:
    given: dict[str, Any] = {name: "yes"}
    with pytest.raises(SettingsError, match=f"stripe-pricing:{name} is 'yes'; it must be true or false"):
        read(mode="live", **given)


@pytest.mark.parametrize("name", ["mode", "apiBase", "account", "requestsPerSecond", "retrySeconds", "allowLocalState"])
def test_a_key_that_was_put_into_another_setting_is_not_shown(name: str) -> None:
    """The value of a wrong setting is in its sentence."""
    secret = "sk_" + "live_51Habc0123456789"
    with pytest.raises(SettingsError, match=f"stripe-pricing:{name} ") as caught:
        Settings.read({"mode": "live", name: secret}.get, {})
    assert "51Habc" not in repr(caught.value)
