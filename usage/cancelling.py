"""Taking an event back: before it is sent, inside Stripe's 24 hours, or by a negative event after them."""

from __future__ import annotations

from .errors import StripeError, UsageError
from .events import Event, derived_identifier
from .results import Cancelled
from .spool import UNIQUENESS_SECONDS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .client import Client
    from .spool import Kept


def cancel(client: Client, identifier: str, *, event_name: str | None, correct: bool) -> Cancelled:
    """See `Client.cancel`."""
    kept = client.spool.find(identifier)
    if kept is None:
        if event_name is None:
            raise UsageError(
                f"{identifier} is not in the spool {client.spool.path}; name its event name to cancel it at Stripe"
            )
        _at_stripe(client, identifier, event_name)
        return _done(client, identifier, "cancelled")
    if kept.state == "cancelled":
        return _done(client, identifier, "cancelled")
    if kept.state == "dead" or (kept.state in ("pending", "aggregating") and kept.unknown_since is None):
        if not client.spool.move([kept.id], kept.state, "cancelled"):
            raise UsageError(f"{identifier} is being sent at this moment; cancel it again when `usage flush` is done")
        return _done(client, identifier, "not sent")
    if kept.state == "delivered":
        if kept.destination != client.destination.mode:
            raise UsageError(
                f"{identifier} was delivered to {kept.destination} and this client talks to {client.destination.label}"
            )
        assert kept.settled_at is not None
        if client.clock() - kept.settled_at < UNIQUENESS_SECONDS:
            _at_stripe(client, identifier, kept.event.event_name)
            client.spool.move([kept.id], "delivered", "cancelled")
            return _done(client, identifier, "cancelled")
        why = "was delivered more than 24 hours ago, and Stripe cancels only inside 24 hours"
    elif kept.state == "aggregated":
        why = "went out as a part of an aggregated event"
    else:
        reasons = {
            "queued": "is with the outbox queue; cancel it where it was drained",
            "unknown": "may or may not have arrived; settle it with `usage verify` first",
            "replaced": "was sent again under another identifier; cancel that one",
            "pending": "is being sent, or its last answer was lost; run `usage flush` first",
        }
        raise UsageError(f"{identifier} {reasons.get(kept.state, 'cannot be cancelled')}")
    if not correct:
        raise StripeError(
            f"{identifier} {why}; a negative event of the same time takes its {kept.event.value} units back: "
            f"`usage cancel {identifier} --correct`"
        )
    return _corrected(client, kept)


def _at_stripe(client: Client, identifier: str, event_name: str) -> None:
    # https://docs.stripe.com/api/billing/meter-event_adjustment/create
    form = [("event_name", event_name), ("type", "cancel"), ("cancel[identifier]", identifier)]
    client.api.call("POST", "/v1/billing/meter_event_adjustments", form=form)


def _corrected(client: Client, kept: Kept) -> Cancelled:
    from .events import check_window

    event = kept.event
    check_window(event.timestamp, client.clock())
    # derived, so that asking twice corrects once
    name = derived_identifier("correction", event.identifier)
    negative = Event(name, event.event_name, event.customer, -event.value, event.timestamp, event.dimensions)
    client.spool.add([negative], kept.destination)
    return _done(client, event.identifier, "corrected", name)


def _done(client: Client, identifier: str, outcome: str, correction: str | None = None) -> Cancelled:
    where = client._destination
    return Cancelled(
        where.label if where else "not delivered anywhere",
        bool(where and where.sandbox),
        identifier,
        outcome,
        correction,
    )
