"""Meters, which count usage. https://docs.stripe.com/api/billing/meter"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NotRequired

from typing_extensions import TypedDict

from components.account import AccountError, StripeRefusal
from components.providers import rules
from components.providers.errors import ProviderError, differences
from components.providers.inventory import StripeObject
from components.providers.kind import ADOPT, Change, Kind
from components.providers.lifecycle import StripeProvider
from components.providers.policy import Field
from components.providers.reconciler import Reconciler
from components.providers.values import MISSING, Inputs


class OwnArguments(TypedDict):
    owner: str
    active: NotRequired[bool]


# -- what a change means --------------------------------------------------------------------------------------------


def warnings(change: Change) -> Iterator[str]:
    if change.replaces:
        yield (
            "is deactivated and a new meter is created; usage recorded so far stays with this one, and only prices on "
            "it bill that usage"
        )
    elif change.new.get("active", True) is False and change.old.get("active", True) is not False:
        yield "will be inactive: Stripe refuses its meter events, so usage in the meantime is not billed"


METER = Kind(
    name="Meter",
    noun="meter",
    path="/v1/billing/meters",
    create="stripe.params.billing:MeterCreateParams",
    update="stripe.params.billing:MeterUpdateParams",
    own=OwnArguments,
    natural_key="`event_name`, which only one active meter of an account can have",
    when_deleted="Deactivated: Stripe cannot delete a meter. Creating one with the same event name and settings later "
    "reactivates it. A meter that is replaced under its event name is deactivated right before the new one is created.",
    when_gone="An inactive meter shows as `active: false`; a meter that does not exist is created again.",
    fields={
        "active": Field(in_place="through Stripe's deactivate and reactivate", unset_to=True, drift_from=True),
        "customer_mapping": Field(default={"event_payload_key": "stripe_customer_id", "type": "by_id"}),
        "event_name": Field(unique=True),
        "value_settings": Field(default={"event_payload_key": "value"}),
    },
    searchable=False,
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
    warnings=warnings,
)


class Meters(Reconciler):
    @contextmanager
    def making(self, new: Inputs, found: StripeObject | None) -> Iterator[None]:
        replaced = [] if found is not None and _is_active(found) else self._deactivate_replaced(new)
        try:
            yield
        except AccountError as refusal:
            # It is certain that there is no new meter, so the old one goes on recording usage.
            if not isinstance(refusal, StripeRefusal) or refusal.is_certain:
                self._reactivate(replaced, new)
            raise

    def _reactivate(self, replaced: list[str], new: Inputs) -> None:
        """Reactivate what was to be replaced. The first error is the one that counts; a failure here is a warning."""
        for id_ in replaced:
            try:
                self._switch(id_, "reactivate", new)
            except AccountError as problem:
                self.run.tell(
                    "warning", f"{self.subject(new, id_)}: stays deactivated, and its usage is refused: {problem}"
                )
            else:
                self.run.tell("info", f"{self.subject(new, id_)}: reactivated, since the new one was refused")

    def _with_event_name(self, new: Inputs) -> list[StripeObject]:
        """Every meter with that event name, the active one first."""
        same_name = [each for each in self.inventory.all() if each.get("event_name") == new["event_name"]]
        return sorted(same_name, key=lambda each: str(each.get("status")))

    def _deactivate_replaced(self, new: Inputs) -> list[str]:
        """Deactivate the meter that this one replaces, since two active ones cannot share an event name.

        `delete_before_replace` would not do: Pulumi would first delete everything that depends on the meter, so prices
        would be archived and their lookup keys cleared before the new ones exist.

        Returns:
            The ids of those that were deactivated.
        """
        replaced = [
            str(remote["id"])
            for remote in self._with_event_name(new)
            if _is_active(remote) and self._owner_in_state(remote) == new["owner"]
        ]
        for id_ in replaced:
            self._deactivate(id_, new)
        return replaced

    def find(self, new: Inputs) -> StripeObject | None:
        """This stack's meter with that event name: one that its state holds, or an inactive one.

        Meters have no metadata. Stripe's stored answer to the same create tells whether an interrupted run of this
        stack created an active meter that the state does not hold. Any other belongs to somebody else.
        """
        same_name = self._with_event_name(new)
        for remote in same_name:
            different = self.different(remote, new)
            if not _is_active(remote):
                if not different:
                    return remote
                continue
            holder = self._owner_in_state(remote)
            if holder is not None and holder != new["owner"]:
                raise ProviderError(
                    f"{self.subject(new)}: event_name {new['event_name']!r} belongs to {remote['id']}, another meter "
                    "of this stack; change the event_name of one of them"
                )
            if not self.run.state_holds(self.kind, remote["id"], new["owner"]):
                return None
            if not different:
                return remote
            if holder is None:
                raise self._taken(remote, new)
            # The meter that this one replaces.
        for remote in same_name[:1]:
            if not _is_active(remote):
                self.run.tell(
                    "info",
                    f"{self.subject(new)}: a new meter is created; the inactive {remote['id']} with that event_name "
                    f"has {differences(self.different(remote, new))}",
                )
        return None

    def instead(self, refusal: StripeRefusal, params: Inputs, new: Inputs) -> Inputs:
        """Never anything: another meter has the event name, or something else is wrong.

        Raises:
            ProviderError: another meter has it.
        """
        self.inventory.refresh()
        taken = next((each for each in self._with_event_name(new) if _is_active(each)), None)
        if refusal.status != 400 or taken is None or self.run.is_in_state(self.kind, taken["id"]):
            raise refusal
        raise self._taken(taken, new)

    def _taken(self, remote: StripeObject, new: Inputs) -> ProviderError:
        different = self.different(remote, new)
        return ProviderError(
            f"{self.subject(new)}: event_name {new['event_name']!r} belongs to the active meter {remote['id']}, "
            + (
                f"which has {differences(different)}; deactivate that meter or use another event_name"
                if different
                else f"which is not in this stack's state; if no other stack has it, declare "
                f'adopt="{remote["id"]}" to adopt it; otherwise use another event_name'
            )
        )

    def _owner_in_state(self, remote: StripeObject) -> str | None:
        declaration = self.run.declaration(self.kind, remote["id"])
        return declaration.owner if declaration else None

    def complete(self, remote: StripeObject, new: Inputs) -> StripeObject:
        return self._activated(remote["id"], new) if _wants(new) != _is_active(remote) else remote

    def after_update(self, id_: str, old: Inputs, new: Inputs, remote: StripeObject | None) -> StripeObject | None:
        return self._activated(id_, new) if old.get("active", True) != _wants(new) else remote

    def returned(self, name: str, value: Any, remote: StripeObject) -> Any:
        if name == "active":
            return _is_active(remote) if "status" in remote else MISSING
        return super().returned(name, value, remote)

    def remove(self, id_: str, known: Inputs, *, being_replaced: bool) -> StripeObject | None:
        there = self.inventory.read(id_)
        if there is None or not _is_active(there):
            return there
        if known.get(ADOPT) == id_ and (others := self._prices_of_others(id_, known)):
            self.run.tell(
                "warning",
                f"{self.subject(known, id_)}: stays active, since it was adopted and prices that this stack did not "
                f"create still bill by it ({', '.join(others)}); archive those, then deactivate it in Stripe",
            )
            return there
        return self._deactivate(id_, known)

    def _prices_of_others(self, id_: str, known: Inputs) -> list[str]:
        """The active prices on a meter that are not this stack's."""
        wanted = {"active": True, "recurring": {"meter": id_}}
        pages = self.account.pages("/v1/prices", wanted, subject=self.subject(known, id_))
        return [each["id"] for page, _ in pages for each in page if not self.is_ours(each, known)]

    def _deactivate(self, id_: str, known: Inputs) -> StripeObject:
        left = self._switch(id_, "deactivate", known)
        self.run.tell("info", f"{self.subject(known, id_)}: deactivated; Stripe keeps it and its usage")
        return left

    def _activated(self, id_: str, new: Inputs) -> StripeObject:
        if not _wants(new):
            return self._switch(id_, "deactivate", new)
        remote = self._switch(id_, "reactivate", new)
        self.run.tell("info", f"{self.subject(new, id_)}: reactivated")
        return remote

    def _switch(self, id_: str, verb: str, known: Inputs) -> StripeObject:
        remote = self.call("post", f"{METER.path}/{id_}/{verb}", {}, subject=self.subject(known, id_)).data
        self.inventory.remember(remote)
        return remote


class MeterProvider(StripeProvider):
    kind = METER
    reconciler_type = Meters


def _wants(new: Mapping[str, Any]) -> bool:
    return bool(new.get("active", True))


def _is_active(remote: Mapping[str, Any]) -> bool:
    return remote.get("status") == "active"
