"""Taking an event back: before it is sent, inside Stripe's 24 hours, or by a negative event after them."""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import suppress

from .api import Api
from .errors import InvalidEvent, SpoolMissing, StripeError, UsageError
from .events import Event, check_window, digest_of
from .spool import UNIQUENESS_SECONDS, Kept, Spool

_NO_WAY = {
    "queued": "is with the outbox queue; cancel it where it was drained",
    "replaced": "was sent again under another identifier; cancel that one",
    "pending": "is being sent at this moment; cancel it again when `usage flush` is done",
    "unknown": "may have arrived more than 24 hours ago, too long for Stripe to cancel; compare with `usage verify`",
}


def cancel(
    spool: Spool,
    api: Callable[[], Api],
    mine: Callable[[], Collection[str]],
    identifier: str,
    event_name: str | None,
    correct: bool,
    patience: float,
) -> tuple[str, str | None]:
    """What became of the event ("not sent", "cancelled", "corrected"), and the identifier of the negative event.

    See `Client.cancel`. `patience`: seconds to wait for a delivery that has the event in hand.
    """
    kept = None
    with suppress(SpoolMissing):
        kept = spool.find(identifier)
    if kept is None:
        if event_name is None:
            where = f"is not in the spool {spool.path}"
            raise UsageError(f"{identifier} {where}; give its event name (`--event`) to cancel it at Stripe")
        _at_stripe(api(), identifier, event_name)
        return "cancelled", None
    if spool.withdraw(identifier):
        return "not sent", None
    kept = spool.find(identifier) or kept
    if kept.state == "cancelled":
        return "cancelled", None
    if kept.destination not in mine():
        raise UsageError(f"{identifier} was recorded for {kept.destination}, which is not where this client delivers")
    if kept.state != "pending":
        return _decided(spool, api, kept, correct)
    # it is in somebody's hands, or its answer was lost: the lock tells which, and keeps it from being sent meanwhile
    with spool.delivering(patience) as alone:
        if not alone:
            raise UsageError(f"{identifier} {_NO_WAY['pending']}")
        if spool.withdraw(identifier):
            return "not sent", None
        return _decided(spool, api, spool.find(identifier) or kept, correct)


def _decided(spool: Spool, api: Callable[[], Api], kept: Kept, correct: bool) -> tuple[str, str | None]:
    """Take back an event that Stripe has or may have."""
    identifier = kept.identifier
    since = kept.unknown_since or kept.settled_at or kept.recorded_at
    possible = kept.state in ("delivered", "pending", "unknown", "dead", "cancelling")
    if possible and spool.clock() - since < UNIQUENESS_SECONDS:
        # first set aside, so that a crash leaves neither an event that is sent again nor one that counts as delivered
        if not spool.move(kept.id, kept.state, "cancelling"):
            raise UsageError(f"{identifier} {_NO_WAY['pending']}")
        try:
            _at_stripe(api(), identifier, kept.event_name)
        except UsageError as problem:
            refused = isinstance(problem, StripeError)
            if refused or not problem.maybe_done:
                spool.move(kept.id, "cancelling", "delivered" if kept.state == "delivered" else "unknown")
            if refused and kept.state != "delivered":
                raise UsageError(
                    f"Stripe does not know {identifier} (yet), whose first answer was lost: {problem}. It is set aside "
                    f"and not sent; cancel it again in a minute, or compare with `usage verify`"
                ) from None
            raise
        spool.move(kept.id, "cancelling", "cancelled")
        return "cancelled", None
    if kept.state != "delivered":
        raise UsageError(f"{identifier} {_NO_WAY.get(kept.state, 'cannot be cancelled any more')}")
    if not correct:
        raise StripeError(
            f"{identifier} was delivered more than 24 hours ago, and Stripe cancels only inside 24 hours; a negative "
            f"event of the same time takes its {kept.value} units back: `usage cancel {identifier} --correct`"
        )
    try:
        check_window(kept.timestamp, spool.clock(), future=False)
    except InvalidEvent as problem:
        raise UsageError(f"{identifier} cannot be corrected: {problem.problem}") from None
    # derived, so that asking twice corrects once
    name = f"correction-{digest_of(identifier)}"
    negative = kept.value[1:] if kept.value.startswith("-") else "0" if kept.value == "0" else f"-{kept.value}"
    negative_event = Event(name, kept.event_name, kept.customer, negative, kept.timestamp, kept.dimensions)
    spool.add([negative_event], kept.destination)
    return "corrected", name


def _at_stripe(api: Api, identifier: str, event_name: str) -> None:
    # https://docs.stripe.com/api/billing/meter-event_adjustment/create
    form = [("event_name", event_name), ("type", "cancel"), ("cancel[identifier]", identifier)]
    try:
        api.call("POST", "/v1/billing/meter_event_adjustments", form=form)
    except StripeError as problem:
        text = str(problem.args[0]).lower()
        if not ("already" in text and "cancel" in text):  # then an earlier answer was lost, and it is done
            raise
