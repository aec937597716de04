"""Meters: what usage is recorded under. https://docs.stripe.com/api/billing/meter"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NotRequired

from typing_extensions import TypedDict

from components.providers import rules
from components.providers.inventory import StripeObject
from components.providers.kind import Kind
from components.providers.lifecycle import ProviderError, StripeProvider, differences
from components.providers.notices import tell
from components.providers.values import MISSING, Inputs


class OwnArguments(TypedDict):
    owner: str
    active: NotRequired[bool]


METER = Kind(
    name="Meter",
    noun="meter",
    path="/v1/billing/meters",
    create="stripe.params.billing:MeterCreateParams",
    update="stripe.params.billing:MeterUpdateParams",
    own=OwnArguments,
    natural_key="`event_name`, which only one active meter of an account can have",
    when_deleted="Deactivated: Stripe deletes no meter. A later create with the same event name and shape "
    "reactivates it. One that is replaced under the same event name is deactivated before the new one is made.",
    when_gone="An inactive meter shows as `active: false`; a meter that Stripe does not know is made again.",
    updated={"active": "through Stripe's deactivate and reactivate"},
    watched={"active": True},
    defaults={
        "customer_mapping": {"event_payload_key": "stripe_customer_id", "type": "by_id"},
        "value_settings": {"event_payload_key": "value"},
    },
    searchable=False,
    unique=("event_name",),
    outputs={"status": "`active` or `inactive`"},
    rules=(
        rules.longest(
            {
                "display_name": 250,
                "event_name": 100,
                "customer_mapping.event_payload_key": 100,
                "value_settings.event_payload_key": 100,
            }
        ),
    ),
)


class MeterProvider(StripeProvider):
    kind = METER

    def delete_before_replace(self, old: Inputs, new: Inputs) -> bool:
        # Two active meters cannot share an event name; with another name the old one can wait.
        return old.get("event_name") == new.get("event_name")

    def warnings(self, id_: str, olds: Inputs, old: Inputs, new: Inputs, replaces: list[str]) -> Iterator[str]:
        if replaces:
            yield (
                "is deactivated and a new meter made; usage recorded so far stays with this one and is billed only by "
                "prices on it"
            )
        elif new.get("active", True) is False and old.get("active", True) is not False:
            yield "will be inactive: Stripe refuses its meter events, and nothing that happens meanwhile is billed"

    def find(self, new: Inputs) -> StripeObject | None:
        """The meter of that event name: meters have no metadata, so the name alone says whose it is."""
        same_name = [each for each in self.inventory.all() if each.get("event_name") == new["event_name"]]
        for remote in sorted(same_name, key=lambda each: str(each.get("status"))):
            different = self.different(remote, new)
            active = remote.get("status") == "active"
            if active and remote["id"] in self._in_state:
                raise ProviderError(
                    f"{self.subject(new)}: event_name {new['event_name']!r} belongs to {remote['id']}, another meter "
                    "of this stack; give one of the two another event_name"
                )
            if not different:
                return remote
            if active:
                raise ProviderError(
                    f"{self.subject(new)}: event_name {new['event_name']!r} belongs to the active meter "
                    f"{remote['id']}, which has {differences(different)}; deactivate that meter or use another "
                    "event_name"
                )
        for remote in same_name[:1]:
            tell(
                "info",
                f"{self.subject(new)}: a new meter is made; the inactive {remote['id']} of that event_name has "
                f"{differences(self.different(remote, new))}",
            )
        return None

    def adopt(self, remote: StripeObject, new: Inputs) -> StripeObject:
        if remote.get("status") != "active":
            tell("info", f"{self.subject(new, remote['id'])}: had been deactivated and is reactivated")
            old = self.projection({"active": True, **new}, remote)
            return self.apply(remote["id"], old, new, remote) or remote
        # The answer to a run that was cut short, or somebody else's: a meter does not say.
        tell(
            "warning",
            f"{self.subject(new, remote['id'])}: an active meter of this event_name exists and is taken over; if "
            "another stack has it too, give one of the two another event_name: deleting either deactivates it for both",
        )
        return self.apply(remote["id"], self.projection(new, remote), new, remote) or remote

    def complete(self, remote: StripeObject, new: Inputs) -> StripeObject:
        return self._activated(remote["id"], new) if _wants(new) != _is_active(remote) else remote

    def apply(self, id_: str, old: Inputs, new: Inputs, remote: StripeObject | None) -> StripeObject | None:
        changed = super().apply(id_, old, new, remote)
        return self._activated(id_, new) if old.get("active", True) != _wants(new) else changed

    def own_returned(self, name: str, value: Any, remote: StripeObject) -> Any:
        return _is_active(remote) if name == "active" else value

    def returned(self, name: str, value: Any, remote: StripeObject) -> Any:
        if name == "active":
            return _is_active(remote) if "status" in remote else MISSING
        return super().returned(name, value, remote)

    def remove(self, id_: str, known: Inputs, *, being_replaced: bool) -> StripeObject | None:
        there = self.inventory.read(id_)
        if there is None or not _is_active(there):
            return there
        left = self.call("post", f"{METER.path}/{id_}/deactivate", {}, subject=self.subject(known, id_)).data
        tell("info", f"{self.subject(known, id_)}: deactivated; Stripe keeps it and its usage")
        return left

    def _activated(self, id_: str, new: Inputs) -> StripeObject:
        verb = "reactivate" if _wants(new) else "deactivate"
        remote = self.call("post", f"{METER.path}/{id_}/{verb}", {}, subject=self.subject(new, id_)).data
        self.inventory.remember(remote)
        return remote


def _wants(new: Mapping[str, Any]) -> bool:
    return bool(new.get("active", True))


def _is_active(remote: Mapping[str, Any]) -> bool:
    return remote.get("status") == "active"
