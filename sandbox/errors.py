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
    "expand": Answer("This property cannot be expanded ({path}).", RECORDED),
    "expand_deep": Answer("You cannot expand more than 4 levels of a property ({path}).", UNRECORDED),
    "metadata_key": Answer("Metadata keys must be at most 40 characters: {key}", UNRECORDED, param="metadata"),
    "metadata_value": Answer("Metadata values must be at most 500 characters: {key}", UNRECORDED, param="metadata"),
    "metadata_count": Answer("Metadata can hold at most 50 keys.", UNRECORDED, param="metadata"),
    "search_query": Answer("The search query could not be read: {reason}.", UNRECORDED, param="query"),
    # -- objects ------------------------------------------------------------------------------------------------
    "no_such": Answer("No such {kind}: '{id}'", RECORDED, code="resource_missing"),
    "other_mode": Answer(
        "No such {kind}: '{id}'; a similar object exists in {there} mode, but a {here} mode key was used to make this "
        "request.",
        REPORTED,
        code="resource_missing",
    ),
    "exists": Answer("{kind} already exists.", UNRECORDED, code="resource_already_exists", param="id"),
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
        "This sandbox speaks Stripe API versions {spoken}, and the request asks for {version}.",
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
    # -- products -----------------------------------------------------------------------------------------------
    "product_has_prices": Answer(
        "This product cannot be deleted because it has one or more user-created prices.", RECORDED
    ),
    "product_exists": Answer("Product already exists.", UNRECORDED, code="resource_already_exists"),
    "product_type": Answer(
        "This sandbox only has products of type service; goods are a part of Stripe's retired Orders API.",
        UNRECORDED,
        param="type",
    ),
    "default_price_foreign": Answer(
        "The price {price} belongs to the product {other}; a default price must belong to the product itself.",
        UNRECORDED,
        param="default_price",
    ),
}


def refuse(
    name: str, /, *, status: int | None = None, param: str | None = None, stored: bool | None = None, **values: object
) -> StripeError:
    """The error of a row of the table, its template filled in; raise what this returns."""
    row = ANSWERS[name]
    shown = param if param is not None else row.param
    return StripeError(
        status if status is not None else row.status,
        row.message.format(param=shown, **values),
        code=row.code,
        param=shown,
        type=row.type,
        headers=dict(row.headers),
        stored=row.stored if stored is None else stored,
    )
