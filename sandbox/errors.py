"""What the sandbox answers when it refuses: one table of texts, each with how well it is known.

`recorded`: seen in a real exchange with Stripe's test mode. `reported`: quoted by several public projects or issues.
`documented`: Stripe's documentation says so, in these words or nearly. `unrecorded`: nobody has published what Stripe
says here, so the words are ours; match on status, type, code and param, never on these texts.

Raise one with `raise refuse("no_such", kind="price", id="price_x", param="price")`. Both halves of the sandbox add
their rows here and nowhere else; `docs/sandbox.md` lists the unrecorded ones from this table.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

RECORDED: Final = "recorded"
REPORTED: Final = "reported"
DOCUMENTED: Final = "documented"
UNRECORDED: Final = "unrecorded"


class StripeError(Exception):
    """An answer that is an error. `stored` says whether an idempotency key remembers it."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        type: str = "invalid_request_error",
        headers: Mapping[str, str] | None = None,
        stored: bool = True,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.param = param
        self.type = type
        self.headers: dict[str, str] = dict(headers or {})
        self.stored = stored
        self.extra: dict[str, Any] = dict(extra or {})

    def body(self) -> dict[str, Any]:
        """The JSON body in Stripe's v1 shape; `doc_url` is there whenever `code` is."""
        error: dict[str, Any] = {"message": self.message, "type": self.type}
        if self.code is not None:
            error["code"] = self.code
            error["doc_url"] = "https://stripe.com/docs/error-codes/" + self.code.replace("_", "-")
        if self.param is not None:
            error["param"] = self.param
        error.update(self.extra)
        return {"error": error}


@dataclass(frozen=True)
class Answer:
    """One row of the table: the text is a `str.format` template."""

    message: str
    evidence: str
    status: int = 400
    code: str | None = None
    param: str | None = None
    type: str = "invalid_request_error"
    #: False for what Stripe refuses before an endpoint starts: an idempotency key does not remember it.
    stored: bool = True
    headers: tuple[tuple[str, str], ...] = ()
    #: Why the bank declines.
    decline_code: str | None = None


def _declined(decline_code: str, evidence: str = DOCUMENTED, message: str = "Your card was declined.") -> Answer:
    return Answer(message, evidence, status=402, code="card_declined", type="card_error", decline_code=decline_code)


ANSWERS: Final[dict[str, Answer]] = {
    # -- parameters ---------------------------------------------------------------------------------------------
    "missing": Answer("Missing required param: {param}.", RECORDED, code="parameter_missing", stored=False),
    "unknown": Answer("Received unknown parameter: {param}", RECORDED, code="parameter_unknown", stored=False),
    "unknown_many": Answer("Received unknown parameters: {params}", REPORTED, code="parameter_unknown", stored=False),
    "enum": Answer("Invalid {param}: must be {choices}", RECORDED, stored=False),
    "integer": Answer("Invalid integer: {value}", RECORDED, code="parameter_invalid_integer", stored=False),
    "boolean": Answer("Invalid boolean: {value}", UNRECORDED, stored=False),
    "decimal": Answer("Invalid decimal: {value}", UNRECORDED, stored=False),
    "number": Answer("Invalid number: {value}", UNRECORDED, stored=False),
    "string": Answer("Invalid string: {value}", REPORTED, stored=False),
    "array": Answer("Invalid array", REPORTED, stored=False),
    "hash": Answer("Invalid object", REPORTED, stored=False),
    "too_long": Answer("Invalid string: {value}; must be at most {most} characters", REPORTED, stored=False),
    "empty": Answer(
        "You passed an empty string for '{param}'. We assume empty values are an attempt to unset a parameter; however "
        "'{param}' cannot be unset. You should remove '{param}' from your request or supply a non-empty value.",
        REPORTED,
        code="parameter_invalid_empty",
        stored=False,
    ),
    "out_of_range": Answer("Invalid {param}: must be {rule}", UNRECORDED, stored=False),
    "body": Answer("The request body could not be read: {reason}.", UNRECORDED, stored=False),
    "currency": Answer("Invalid currency: {value}. Use a three-letter code that Stripe supports.", REPORTED),
    "both_cursors": Answer(
        "Received both starting_after and ending_before parameters. Please pass in only one.", RECORDED
    ),
    "expand": Answer("This property cannot be expanded ({path}).", RECORDED),
    "expand_deep": Answer("You cannot expand more than 4 levels of a property ({path}).", UNRECORDED),
    "currency_key_case": Answer(
        "Currencies must be lowercase when used as keys in a map. Use `{lower}` instead of `{code}`.", RECORDED
    ),
    "metadata_key": Answer(
        "Metadata keys can have up to 40 characters, but you passed in a key that is {length} characters. Invalid key: "
        "{key}",
        REPORTED,
        param="metadata",
    ),
    "metadata_value": Answer(
        "Metadata values can have up to 500 characters, but you passed in a value that is {length} characters. Invalid "
        "value: {value}",
        REPORTED,
        param="metadata",
    ),
    "metadata_count": Answer("Metadata can have up to 50 keys, but you've set {count}.", REPORTED, param="metadata"),
    "url_scheme": Answer(
        "Invalid URL: An explicit scheme (such as https) must be provided.", REPORTED, code="url_invalid"
    ),
    "url": Answer("Not a valid URL", REPORTED, code="url_invalid"),
    "url_long": Answer("Invalid URL: URL must be 2048 characters or less.", REPORTED, code="url_invalid"),
    "too_many": Answer("The array `{param}` can have at most {most} entries; this one has {count}.", UNRECORDED),
    "search_query": Answer("The search query could not be read: {reason}.", UNRECORDED, param="query"),
    # -- objects ------------------------------------------------------------------------------------------------
    "no_such": Answer("No such {kind}: '{id}'", RECORDED, code="resource_missing"),
    "no_such_invoice_item": Answer(
        "No such Invoice Item: '{id}'(livemode={livemode})", RECORDED, status=404, code="resource_missing", param="id"
    ),
    "other_mode": Answer(
        "No such {kind}: '{id}'; a similar object exists in {there} mode, but a {here} mode key was used to make this "
        "request.",
        REPORTED,
        code="resource_missing",
    ),
    # -- routes -------------------------------------------------------------------------------------------------
    "no_route": Answer(
        "Unrecognized request URL ({method}: {path}). Please see https://stripe.com/docs or we can help at "
        "https://support.stripe.com/.",
        RECORDED,
        status=404,
        stored=False,
    ),
    "not_implemented": Answer(
        "This sandbox does not implement {method} {path}, which Stripe has. Nothing was done; "
        "docs/sandbox.md lists what it covers.",
        UNRECORDED,
        status=501,
        type="api_error",
        stored=False,
        headers=(("stripe-should-retry", "false"),),
    ),
    "not_implemented_param": Answer(
        "This sandbox does not implement the parameter {param}, which Stripe has. Nothing was done; docs/sandbox.md "
        "lists what it covers.",
        UNRECORDED,
        status=501,
        type="api_error",
        stored=False,
        headers=(("stripe-should-retry", "false"),),
    ),
    "version": Answer("Invalid Stripe API version: {version}", REPORTED, stored=False),
    "version_not_spoken": Answer(
        "This sandbox takes Stripe API versions from {oldest} to {newest}, and the request asks for {version}.",
        UNRECORDED,
        stored=False,
    ),
    "version_shape": Answer(
        "In API version {version} {what} has another shape than in {since} and later, and this sandbox has the later "
        "one only. Nothing was done: ask for a later version (the Stripe-Version header), or use a newer SDK.",
        UNRECORDED,
        stored=False,
    ),
    # -- keys ---------------------------------------------------------------------------------------------------
    "no_key": Answer(
        "You did not provide an API key. You need to provide your API key in the Authorization header, using Bearer "
        "auth (e.g. 'Authorization: Bearer YOUR_SECRET_KEY'). See https://stripe.com/docs/api#authentication for "
        "details, or we can help at https://support.stripe.com/.",
        REPORTED,
        status=401,
        stored=False,
        headers=(("www-authenticate", 'Bearer realm="Stripe"'),),
    ),
    "wrong_key": Answer(
        "Invalid API Key provided: {key}",
        REPORTED,
        status=401,
        stored=False,
        headers=(("www-authenticate", 'Bearer realm="Stripe"'),),
    ),
    "expired_key": Answer(
        "Expired API Key provided: {key}",
        REPORTED,
        status=401,
        code="api_key_expired",
        stored=False,
        headers=(("www-authenticate", 'Bearer realm="Stripe"'),),
    ),
    "publishable_key": Answer(
        "This API call cannot be made with a publishable API key. Please use a secret API key. You can find a list of "
        "your API keys at https://dashboard.stripe.com/account/apikeys.",
        REPORTED,
        status=401,
        code="secret_key_required",
        stored=False,
        headers=(("www-authenticate", 'Bearer realm="Stripe"'),),
    ),
    "restricted_key": Answer(
        "The provided key '{key}' does not have the required permissions for this endpoint on account '{account}'. "
        "Having the '{permission}' permission would allow this request to continue.",
        REPORTED,
        status=403,
        code="more_permissions_required",
        stored=False,
    ),
    # -- the platform -------------------------------------------------------------------------------------------
    "rate_limit_test": Answer(
        "Testmode request rate limit exceeded, the rate limits in testmode are lower than livemode. You can learn more "
        "about rate limits here https://stripe.com/docs/rate-limits.",
        REPORTED,
        status=429,
        code="rate_limit",
        stored=False,
        headers=(("stripe-rate-limited-reason", "global-rate"),),
    ),
    "rate_limit_live": Answer(
        "Request rate limit exceeded. You can learn more about rate limits here https://stripe.com/docs/rate-limits.",
        REPORTED,
        status=429,
        code="rate_limit",
        stored=False,
        headers=(("stripe-rate-limited-reason", "global-rate"),),
    ),
    "lock_timeout": Answer(
        "This object cannot be accessed right now because another API request or Stripe process is currently accessing "
        "it. If you see this error intermittently, retry the request. If you see this error frequently and are making "
        "multiple concurrent requests to a single object, make your requests serially or at a lower rate. For more "
        "details, see https://stripe.com/docs/rate-limits#object-lock-timeouts.",
        REPORTED,
        status=429,
        code="lock_timeout",
        stored=False,
    ),
    "idempotency_params": Answer(
        "Keys for idempotent requests can only be used with the same parameters they were first used with. Try using a "
        "key other than '{key}' if you meant to execute a different request.",
        RECORDED,
        type="idempotency_error",
        stored=False,
    ),
    "idempotency_endpoint": Answer(
        "Keys for idempotent requests can only be used for the same endpoint they were first used for ('{path}'). Try "
        "using a key other than '{key}' if you meant to execute a different request.",
        REPORTED,
        type="idempotency_error",
        stored=False,
    ),
    "idempotency_long": Answer(
        "Idempotency keys may be at most 255 characters; this one has {length}.", UNRECORDED, stored=False
    ),
    "idempotency_in_use": Answer(
        "There is currently another in-progress request using this Idempotent Key (that probably means you submitted "
        "twice, and the other request is still going through): {key}. Please try again later.",
        REPORTED,
        status=409,
        code="idempotency_key_in_use",
        type="idempotency_error",
        stored=False,
    ),
    "internal": Answer("An unknown error occurred.", REPORTED, status=500, type="api_error", stored=False),
    # -- prices -------------------------------------------------------------------------------------------------
    "lookup_key_taken": Answer("A price (`{price}`) already uses that lookup key.", RECORDED, param="lookup_key"),
    "transfer_without_key": Answer(
        "You must specify `lookup_key` when `transfer_lookup_key` is set.", UNRECORDED, param="transfer_lookup_key"
    ),
    "metered_without_meter": Answer(
        "Starting with Stripe version `2025-03-31.basil`, metered prices must be backed by meters.", RECORDED
    ),
    "meter_without_metered": Answer(
        "A price with a meter must have `recurring[usage_type]` set to `metered`.",
        UNRECORDED,
        param="recurring[usage_type]",
    ),
    "meter_inactive": Answer(
        "The meter {meter} is inactive and cannot be attached to a price. Reactivate it first.",
        UNRECORDED,
        param="recurring[meter]",
    ),
    "no_amount": Answer("Prices require an `unit_amount` or `unit_amount_decimal` parameter to be set.", RECORDED),
    "no_product": Answer("You must specify either `product` or `product_data` when creating a price.", RECORDED),
    "only_one": Answer("You may only specify one of these parameters: {names}.", RECORDED),
    "tiered_one_time": Answer(
        "Prices with `type=one_time` are not supported with tiered billing.", RECORDED, param="interval"
    ),
    "tiers_without_scheme": Answer(
        "`tiers` and `tiers_mode` can only be used with `billing_scheme=tiered`.", UNRECORDED, param="{name}"
    ),
    "tiers_missing": Answer("Missing required param: {param}.", RECORDED, code="parameter_missing"),
    "tiered_with_amount": Answer(
        "A price with `billing_scheme=tiered` takes its amounts from `tiers` and not from `{param}`.", UNRECORDED
    ),
    "tiered_with_transform": Answer(
        "`transform_quantity` cannot be combined with `tiers`.", DOCUMENTED, param="transform_quantity"
    ),
    "tier_without_amount": Answer("An entry in the tiers array is missing an amount.", REPORTED, param="tiers"),
    "tiers_order": Answer(
        "The `up_to` of each tier must be a whole number greater than that of the tier before it.", UNRECORDED
    ),
    "tiers_end": Answer("The last tier, and only the last, must have `up_to` set to `inf`.", UNRECORDED),
    "decimal_places": Answer("Invalid decimal: {value}; must contain at maximum 12 decimal places.", REPORTED),
    "flat_decimal_whole": Answer(
        "Invalid decimal: {value}; a flat amount must be a whole number of the smallest currency unit.", DOCUMENTED
    ),
    "negative": Answer("Invalid non-negative integer", REPORTED, code="parameter_invalid_integer"),
    "divide_by": Answer("Invalid positive integer", REPORTED, code="parameter_invalid_integer"),
    "interval_too_long": Answer(
        "`recurring[interval_count]` must make an interval of at most three years.",
        DOCUMENTED,
        param="recurring[interval_count]",
    ),
    "tax_behavior_fixed": Answer(
        "The `tax_behavior` of this price is already {current} and cannot be changed.", DOCUMENTED, param="tax_behavior"
    ),
    "custom_amount_recurring": Answer(
        "`custom_unit_amount` can only be used with one-time prices.", DOCUMENTED, param="custom_unit_amount"
    ),
    "currency_option_own": Answer(
        "`currency_options` cannot have the currency `{currency}`, which is the object's own: set its amount itself.",
        UNRECORDED,
    ),
    "currency_option_shape": Answer(
        "The currency option `{currency}` must have the shape of the price itself: tiers where the price is tiered, an "
        "amount where it is not.",
        UNRECORDED,
    ),
    "price_is_default": Answer(
        "This price cannot be archived because it is the default price of its product.", REPORTED
    ),
    "lookup_keys_many": Answer("At most 10 lookup keys can be given.", DOCUMENTED, param="lookup_keys"),
    # -- meters -------------------------------------------------------------------------------------------------
    "meter_event_name_taken": Answer(
        "An active meter already exists for event name '{event_name}'. To create a new meter with the same event name, "
        "first deactivate the currently active meter.",
        REPORTED,
    ),
    "meter_status": Answer("The meter {meter} is already {already}.", UNRECORDED),
    "no_active_meter": Answer('No active meter found for event name "{event_name}".', REPORTED),
    "summary_aligned": Answer("`{param}` must be aligned with {unit} boundaries.", UNRECORDED),
    "summary_order": Answer("`end_time` must be after `start_time`.", UNRECORDED, param="end_time"),
    "v2_timestamp": Answer(
        "Invalid timestamp: {value}; must be an RFC 3339 time such as 2026-01-31T12:00:00Z.", UNRECORDED, stored=False
    ),
    "event_payload_key": Answer(
        "The payload of the meter event must have the key '{key}'.", UNRECORDED, param="payload"
    ),
    "event_value": Answer(
        "The value of the meter event must be a number of at most 12 decimal places written as a string; this is "
        "'{value}'.",
        UNRECORDED,
        param="payload[{key}]",
    ),
    "event_value_digits": Answer(
        "The value in the event payload can have at most {most} digits. Received {value}.",
        DOCUMENTED,
        param="payload[{key}]",
    ),
    "event_too_old": Answer(
        "The timestamp of the meter event must be within the past 35 calendar days.", DOCUMENTED, param="timestamp"
    ),
    "event_in_future": Answer(
        "The timestamp of the meter event must be at most 5 minutes in the future.", DOCUMENTED, param="timestamp"
    ),
    "event_exists": Answer(
        "An event already exists with identifier {identifier}.", REPORTED, headers=(("stripe-should-retry", "false"),)
    ),
    "event_in_flight": Answer(
        "There is another meter event of this customer and meter in progress. Send one at a time, or retry later.",
        UNRECORDED,
        status=409,
        code="too_many_concurrent_requests",
        stored=False,
    ),
    "no_event": Answer(
        "No meter event found with identifier {identifier}.",
        UNRECORDED,
        code="resource_missing",
        param="cancel[identifier]",
    ),
    "event_cancel_late": Answer(
        "Meter events can only be cancelled within 24 hours of Stripe receiving them.",
        DOCUMENTED,
        param="cancel[identifier]",
    ),
    "event_cancelled": Answer(
        "The meter event with identifier {identifier} has already been cancelled.",
        UNRECORDED,
        param="cancel[identifier]",
    ),
    "stream_size": Answer("A stream request holds 1 to 100 events; this one has {count}.", DOCUMENTED, param="events"),
    # -- customers and coupons ----------------------------------------------------------------------------------
    "email": Answer("Invalid email address: {value}", REPORTED, code="email_invalid", param="email"),
    "payment_method_foreign": Answer(
        "The customer does not have a payment method with the given id. Attach the payment method to the customer "
        "first.",
        REPORTED,
        code="resource_missing",
    ),
    "source_not_linked": Answer(
        "Customer {customer} does not have a linked source with ID {id}.", REPORTED, status=404, code="missing"
    ),
    "invoice_prefix": Answer("Invoice number prefix must be 1–12 uppercase letters or numbers.", RECORDED),
    "invoice_prefix_taken": Answer(
        "This invoice number prefix is taken by customer: {customer}. Please enter a different prefix.",
        RECORDED,
        param="invoice_prefix",
    ),
    "customer_on_clock": Answer(
        "Test clocks exist in test mode only, and live customers cannot be attached to one.",
        UNRECORDED,
        param="test_clock",
    ),
    "coupon_discount": Answer("Must provide percent_off or amount_off.", RECORDED, code="parameter_missing"),
    "coupon_both": Answer("Received both percent_off and amount_off parameters. Please pass in only one.", RECORDED),
    "coupon_currency": Answer("You must pass currency when passing amount_off", RECORDED, param="currency"),
    "coupon_months_missing": Answer(
        "The duration_in_months param must be set when creating a coupon with a repeating duration",
        RECORDED,
        param="duration",
    ),
    "coupon_months": Answer(
        "`duration_in_months` is required when `duration` is `repeating`, and only then.",
        DOCUMENTED,
        param="duration_in_months",
    ),
    "coupon_exists": Answer("Coupon already exists.", RECORDED, code="resource_already_exists"),
    "promotion_coupon": Answer(
        "You must pass promotion.coupon when passing promotion", RECORDED, param="promotion.coupon"
    ),
    "promotion_code_text": Answer(
        "This value must match the regex pattern. (/\\A[a-zA-Z0-9\\-_]+\\z/ does not match for the value {code}).",
        RECORDED,
        param="code",
    ),
    "promotion_code_taken": Answer("An active promotion code with `code: {code}` already exists.", RECORDED),
    "promotion_code_far": Answer(
        "Invalid timestamp: can be no more than five years in the future.", RECORDED, param="expires_at"
    ),
    "promotion_code_over": Answer(
        "This promotion code cannot be activated again: it or its coupon has expired or run out.",
        UNRECORDED,
        param="active",
    ),
    # -- products -----------------------------------------------------------------------------------------------
    "product_has_prices": Answer(
        "This product cannot be deleted because it has one or more user-created prices.", RECORDED
    ),
    "statement_descriptor_character": Answer(
        "The statement descriptor cannot include {character}.", REPORTED, param="statement_descriptor"
    ),
    "statement_descriptor_letter": Answer(
        "The statement descriptor must contain at least one Latin character.", REPORTED, param="statement_descriptor"
    ),
    "product_exists": Answer("Product already exists.", UNRECORDED, code="resource_already_exists"),
    "product_good": Answer(
        "Plans may only be created with products of type service, but the supplied product ({product}) had type good.",
        REPORTED,
        param="product",
    ),
    "default_price_foreign": Answer(
        "The price {price} belongs to the product {other}; a default price must belong to the product itself.",
        UNRECORDED,
        param="default_price",
    ),
    # -- subscriptions ------------------------------------------------------------------------------------------
    "no_payment_method": Answer(
        "This customer has no attached payment source or default payment method. Please consider adding a default "
        "payment method. For more information, visit "
        "https://stripe.com/docs/billing/subscriptions/payment-methods-setting#payment-method-priority.",
        RECORDED,
        code="resource_missing",
    ),
    "card_declined": _declined("generic_decline", RECORDED),
    "action_required": Answer(
        "This payment requires additional user action before it can be completed successfully, and the sandbox has "
        "nobody to take it.",
        UNRECORDED,
        status=402,
        code="invoice_payment_intent_requires_action",
        type="card_error",
    ),
    "subscription_action_required": Answer(
        "Payment for this subscription requires additional user action, but the requested payment behavior doesn't "
        "save the invoice or PaymentIntent. Retry the request with `payment_behavior=allow_incomplete` or "
        "`payment_behavior=default_incomplete`, then complete the PaymentIntent on the subscription's latest invoice. "
        "Additional information is available here: "
        "https://stripe.com/docs/billing/subscriptions/overview#requires-action",
        RECORDED,
        status=402,
        code="subscription_payment_intent_requires_action",
        type="card_error",
    ),
    "card_cvc": Answer(
        "Your card's security code is incorrect.",
        DOCUMENTED,
        status=402,
        code="incorrect_cvc",
        param="cvc",
        type="card_error",
    ),
    "card_expired": Answer(
        "Your card has expired.", DOCUMENTED, status=402, code="expired_card", param="exp_month", type="card_error"
    ),
    "card_fraudulent": _declined("fraudulent"),
    "card_funds": _declined("insufficient_funds", message="Your card has insufficient funds."),
    "card_lost": _declined("lost_card"),
    "card_processing": Answer(
        "An error occurred while processing your card. Try again in a little bit.",
        DOCUMENTED,
        status=402,
        code="processing_error",
        type="card_error",
    ),
    "card_stolen": _declined("stolen_card"),
    "card_velocity": _declined("card_velocity_exceeded"),
    "price_inactive": Answer("The price specified is inactive. This field only accepts active prices.", REPORTED),
    "price_one_time": Answer(
        "The price specified is set to `type=one_time` but this field only accepts prices with `type=recurring`.",
        REPORTED,
    ),
    "price_recurring": Answer(
        "The price specified is set to `type=recurring` but this field only accepts prices with `type=one_time`.",
        REPORTED,
    ),
    "product_inactive": Answer(
        "The product {product} is marked as inactive, and thus no new subscriptions can be create to any plans of this "
        "product. You provided the plan {price}.",
        REPORTED,
    ),
    "metered_quantity": Answer(
        "Quantity should not be specified where usage_type is `metered`. Remove quantity from `{item}`.", REPORTED
    ),
    "negative_quantity": Answer("Invalid non-negative integer", REPORTED, code="parameter_invalid_integer"),
    "same_price_twice": Answer(
        "Cannot create a Subscription with multiple Subscription Items with the same Price: {price}",
        RECORDED,
        param="plan",
    ),
    "price_on_other_item": Answer(
        "A new item with Price {price} can't be added to this Subscription because an existing Subscription Item "
        "{item} is already using that Price. If you want to update the existing item (e.g., to adjust the quantity), "
        "pass the existing Subscription Item's `id` in your update request: "
        "https://stripe.com/docs/api/subscriptions/update#update_subscription-items-id",
        RECORDED,
        param="plan",
    ),
    "item_price": Answer("Each item needs either a `price` or `price_data`.", UNRECORDED),
    "invalid_item_id": Answer("Invalid subscription_item id: {id}", RECORDED),
    "item_unknown": Answer("No such subscription item: '{id}'", REPORTED, code="resource_missing"),
    "last_item": Answer(
        "A subscription must have at least one active plan. To cancel a subscription, please use the cancel API "
        "endpoint on /v1/subscriptions.",
        REPORTED,
    ),
    "mixed_intervals": Answer(
        "All prices on a subscription must have the same `recurring.interval` and `recurring.interval_count`.",
        REPORTED,
        param="items",
    ),
    "uneven_intervals": Answer(
        "The longer intervals of a subscription must be whole multiples of its shortest.", UNRECORDED, param="items"
    ),
    "mixed_currencies": Answer(
        "This `price` has `currency={own}`, but other items use `currency={currency}`. All items must have pricing in "
        "the same currency. When using multi-currency prices, you can specify `currency` at the top level, to be used "
        "by all items.",
        RECORDED,
    ),
    "other_currency": Answer(
        "The price specified only supports `{own}`. This doesn't match the expected currency: `{currency}`.",
        RECORDED,
        param="price",
    ),
    "customer_currency": Answer(
        "You cannot combine currencies on a single customer. This customer has an active subscription, subscription "
        "schedule, discount, quote, or invoice item with currency {currency}",
        REPORTED,
        param="currency",
    ),
    "days_until_due_missing": Answer(
        "If invoice collection method is 'send_invoice', you must specify 'days_until_due'.", RECORDED
    ),
    "days_until_due_charged": Answer(
        "You can only specify 'days_until_due' if invoice collection method is 'send_invoice'.", RECORDED
    ),
    "invoice_due_missing": Answer(
        "If invoice collection method is 'send_invoice', you must specify 'due_date' or 'days_until_due'.", RECORDED
    ),
    "invoice_due_charged": Answer(
        "You can only specify 'due_date' or 'days_until_due' if invoice collection method is 'send_invoice'.", RECORDED
    ),
    "pending_if_incomplete_create": Answer(
        "Setting `payment_behavior` to `pending_if_incomplete` has no effect when creating a subscription.",
        RECORDED,
        param="payment_behavior",
    ),
    "in_the_past": Answer("Invalid timestamp: must be an integer Unix timestamp in the future.", REPORTED),
    "time_past": Answer(
        "The parameter `{param}` expects a unix timestamp representing a date and time in the future. You specified "
        "the value `{value}` which is in the past.",
        RECORDED,
    ),
    "trial_from_plan_alone": Answer(
        "You cannot set `trial_end` or `trial_period_days` when `trial_from_plan=true`.", RECORDED
    ),
    "timestamp_range": Answer("Invalid timestamp: this sandbox's calendar goes from 1970 to 2099.", UNRECORDED),
    "trial_too_long": Answer("The maximum number of trial period days is 730 (2 years).", REPORTED),
    "trial_offer_archived": Answer("The trial offer {offer} is archived and begins no more trials.", UNRECORDED),
    "trial_offer_classic": Answer("Trial offers need billing_mode flexible.", UNRECORDED),
    "trial_offer_legacy": Answer(
        "Trial offers cannot be used together with `trial_end`, `trial_from_plan` and `trial_period_days`.", UNRECORDED
    ),
    "trial_offer_runs": Answer(
        "The item {item} is in the time of a trial offer until {end}, whose length cannot be changed.", UNRECORDED
    ),
    "anchor_too_late": Answer(
        "billing_cycle_anchor cannot be later than next natural billing date ({latest}) for plan",
        REPORTED,
        param="billing_cycle_anchor",
    ),
    "backdate_lines": Answer(
        "Backdating isn't supported when an invoice has more than {most} line items; this one would have {count}.",
        DOCUMENTED,
        param="backdate_start_date",
    ),
    "clear_usage": Answer(
        "`clear_usage` cannot be used with billing_mode flexible: usage up to now is billed.", UNRECORDED
    ),
    "backdate_future": Answer("`backdate_start_date` must be in the past.", DOCUMENTED, param="backdate_start_date"),
    "anchor_config_range": Answer("Invalid billing_cycle_anchor_config: {rule}", UNRECORDED),
    "proration_date_range": Answer(
        "`proration_date` must lie between the start and the end of the current period.",
        DOCUMENTED,
        param="proration_date",
    ),
    "coupon_expired": Answer("Coupon expired: {coupon}", UNRECORDED, code="coupon_expired"),
    "promotion_code_inactive": Answer("The promotion code {code} is not active.", UNRECORDED),
    "promotion_code_customer": Answer("The promotion code {code} is for another customer than {customer}.", UNRECORDED),
    "promotion_code_not_first": Answer(
        "This promotion code cannot be redeemed because the associated customer has prior transactions.", REPORTED
    ),
    "promotion_code_minimum": Answer(
        "This promotion code cannot be redeemed because the associated purchase does not meet the minimum amount "
        "requirement.",
        REPORTED,
    ),
    "promotion_code_amounts": Answer(
        "The promotion code {code} has a minimum amount, and can be redeemed for a new subscription or an invoice "
        "only.",
        UNRECORDED,
    ),
    "discount_twice": Answer("Each entry of `{param}` must be of another coupon; {coupon} is there twice.", UNRECORDED),
    "discount_form": Answer(
        "An entry of `discounts` needs one of `coupon`, `discount` and `promotion_code`.", UNRECORDED
    ),
    "too_many_discounts": Answer("There can be at most 20 discounts; this would be {count}.", UNRECORDED),
    "trial_after_phase": Answer("`{param}` must not be later than the end of the phase.", UNRECORDED),
    "anchor_in_trial": Answer("`{param}` cannot be `phase_start` in a phase with a trial.", UNRECORDED),
    "period_order": Answer("`{param}[start]` must not be later than `{param}[end]`.", UNRECORDED),
    "coupon_other_currency": Answer("The coupon {coupon} takes off an amount, and has none in {currency}.", UNRECORDED),
    "subscription_canceled": Answer(
        "A canceled subscription can only update its cancellation_details and metadata.",
        RECORDED,
        code="invalid_canceled_subscription_fields",
    ),
    "subscription_incomplete": Answer(
        "The first payment of this subscription is still to be made. Until then only its metadata, description and "
        "payment method can be updated.",
        UNRECORDED,
        code="status_transition_invalid",
    ),
    "migrate_status": Answer("cannot migrate a subscription that is currently in the {state} status", REPORTED),
    "migrate_flexible": Answer("The subscription is already in flexible billing mode.", UNRECORDED),
    "migrate_schedule": Answer("A subscription that a schedule manages cannot be migrated by itself.", UNRECORDED),
    # -- invoices -----------------------------------------------------------------------------------------------
    "no_upcoming": Answer(
        "No upcoming invoices for customer: {customer}", REPORTED, status=404, code="invoice_upcoming_none"
    ),
    "preview_of_nothing": Answer(
        "You must provide at least one of: `subscription`, `schedule`, `subscription_details.items`, "
        "`schedule_details.phases`, `invoice_items`.",
        REPORTED,
    ),
    "preview_conflict": Answer("`{param}` cannot be combined with `{other}`.", DOCUMENTED),
    "subscription_of_other": Answer(
        "The subscription {subscription} does not belong to the customer {customer}.", UNRECORDED, param="subscription"
    ),
    "invoice_finalized": Answer(
        "This invoice is already finalized, you can't re-finalize a non-draft invoice.", RECORDED
    ),
    "invoice_customer_gone": Answer("Invoice can't be paid: Customer deleted", REPORTED),
    "invoice_paid": Answer("Invoice is already paid", RECORDED),
    "invoice_not_open": Answer("You can only pass in open invoices. This invoice isn't open.", RECORDED),
    "invoice_void_paid": Answer("Invoices with `paid` payments cannot be voided.", RECORDED),
    "invoice_item_amount": Answer(
        "An invoice item needs one of `amount`, `pricing`, `price_data` and `unit_amount_decimal`.", UNRECORDED
    ),
    # -- connected accounts -------------------------------------------------------------------------------------
    "account_no_customer": Answer(
        "The account {account} has no customer configuration, so it cannot be billed.",
        UNRECORDED,
        param="customer_account",
    ),
    "too_great": Answer("This value must be less than or equal to {most} (it currently is '{value}').", REPORTED),
    "too_small": Answer("This value must be greater than or equal to {least} (it currently is '{value}').", RECORDED),
    # -- tax ----------------------------------------------------------------------------------------------------
    "tax_percentage": Answer(
        "Invalid percentage: {value}; a tax rate is 0 to 100 with at most 4 decimals.", UNRECORDED, param="percentage"
    ),
    "country": Answer("Country '{value}' is unknown. Try using a 2-character alphanumeric country code.", REPORTED),
    "too_many_tax_rates": Answer("You can set up to ten tax rates.", UNRECORDED),
    "tax_rate_inactive": Answer("The tax rate {id} is inactive and can no longer be chosen.", UNRECORDED),
    "tax_rate_twice": Answer("The tax rate {id} is given twice.", UNRECORDED),
    "tax_behavior_conflict": Answer(
        "One or more prices has a `tax_behavior` that conflicts with the tax rates that apply to the corresponding "
        "line item.",
        REPORTED,
    ),
    "automatic_tax_and_rates": Answer(
        "`automatic_tax[enabled]` cannot be combined with `default_tax_rates` or `tax_rates`; clear them first.",
        UNRECORDED,
    ),
    # -- schedules and test clocks ------------------------------------------------------------------------------
    "schedule_from": Answer("You must specify either `customer` with `phases`, or `from_subscription`.", UNRECORDED),
    "prebill": Answer("Invalid billing_schedules: {rule}", UNRECORDED),
    "threshold_amount": Answer("A monetary billing threshold must be at least {least} in this case.", UNRECORDED),
    "threshold_licensed": Answer("Only metered items can have a usage threshold.", UNRECORDED),
    "threshold_reset_last": Answer(
        "The billing cycle anchor cannot be reset by thresholds while an item's meter has the formula `last`.",
        UNRECORDED,
    ),
    "schedule_taken": Answer(
        "The subscription {subscription} already has the schedule {schedule}.", UNRECORDED, param="from_subscription"
    ),
    "schedule_over": Answer("The schedule is {state} and can no longer be changed.", UNRECORDED),
    "schedule_dates": Answer(
        "Each phase must start where the one before it ends, and end after it starts.", DOCUMENTED, param="phases"
    ),
    "schedule_past": Answer(
        "A phase that has begun keeps its start; pass the current phase first, with its `start_date`.",
        DOCUMENTED,
        param="phases",
    ),
    "managed_by_schedule": Answer(
        "The subscription is managed by the subscription schedule `{schedule}`, and updating any cancelation behavior "
        "directly is not allowed. Please update the schedule instead.",
        REPORTED,
    ),
    "clock_live": Answer("Test clocks cannot be used in live mode.", UNRECORDED),
    "clock_backwards": Answer(
        "The `frozen_time` must be later than the test clock's current time.", UNRECORDED, param="frozen_time"
    ),
    "clock_too_far": Answer(
        "Cannot advance a test clock more than two intervals of the shortest subscription on it; the furthest is "
        "{furthest}.",
        DOCUMENTED,
        param="frozen_time",
    ),
}


def refuse(
    name: str, /, *, status: int | None = None, param: str | None = None, stored: bool | None = None, **values: object
) -> StripeError:
    """The error of a row of the table, its template filled in; raise what this returns."""
    row = ANSWERS[name]
    shown = param if param is not None else row.param
    if shown is not None and param is None:
        shown = shown.format(**values)
    return StripeError(
        status if status is not None else row.status,
        row.message.format(param=shown, **values),
        code=row.code,
        param=shown,
        type=row.type,
        headers=dict(row.headers),
        stored=row.stored if stored is None else stored,
        extra=None if row.decline_code is None else {"decline_code": row.decline_code},
    )
