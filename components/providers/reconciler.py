"""Makes what Stripe holds of one kind as the program declares it: find, adopt, make, update, remove.

Nothing is done twice, however often a run is cut short: an object is found before it is made, and every request that
changes something has an idempotency key that the same change always has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final, Literal

from components.account import Account, AccountError, Answer, StripeRefusal
from components.providers import differ
from components.providers.errors import ProviderError, differences, subject
from components.providers.fields import KEEP, projected, setting
from components.providers.inventory import OWNER_KEY, StripeObject, is_gone, owner_of
from components.providers.kind import ADOPT, Kind
from components.providers.run import Run
from components.providers.values import MISSING, Inputs, fingerprint, is_unknown
from components.settings import SettingsError

#: A stored answer that does not hold any more leads to the next generation of its key; nobody gets this far.
MOST_GENERATIONS: Final = 50


class Reconciler:
    """One kind of object in one account. The methods of the second half are what a kind can do its own way."""

    def __init__(self, kind: Kind, account: Account, run: Run) -> None:
        self.kind = kind
        self.account = account
        self.run = run
        self.inventory = run.inventory(kind)

    # -- create -------------------------------------------------------------------------------------------------

    def create(self, new: Inputs) -> StripeObject:
        """The object of a new resource: found, where a run that was cut short has made it, else made."""
        named = self.named(new)
        found = named or self.find(new)
        with self.making(new, found):
            if named is not None:
                remote = self.adopt(named, new)
            else:
                remote = self.make(new) if found is None else self.take_over(found, new)
        return self.complete(remote, new)

    # -- taking over what the program names -----------------------------------------------------------------------

    def named(self, new: Inputs) -> StripeObject | None:
        """The object that the program names with `adopt`; None for none, and for the replacement of that object.

        Raises:
            ProviderError: there is no such object, it is another resource's, or Stripe cannot make it as declared.
        """
        id_ = new.get(ADOPT)
        if id_ is None:
            return None
        declaration = self.run.declaration(self.kind, id_)
        if declaration is not None and declaration.owner == new["owner"]:
            return None
        if declaration is not None:
            raise ProviderError(f"{self.subject(new)}: adopt is {id_}, which is {declaration.subject} of this program")
        remote = self.inventory.fetch(id_)
        if remote is None or is_gone(remote) or self.kind.gone(remote):
            what = "there is none" if remote is None or is_gone(remote) else f"it is {remote.get('status')}"
            raise ProviderError(f"{self.subject(new)}: adopt is {id_}, and {what}; leave adopt out to make a new one")
        if different := self.different(remote, new):
            raise ProviderError(
                f"{self.subject(new)}: adopt is {id_}, which has {differences(different)}, and Stripe cannot change "
                "that; declare it as it is, and change it afterwards"
            )
        return remote

    def preview_adoption(self, new: Inputs) -> None:
        """Say in a preview what taking over the named object changes, where there is a key to look with."""
        id_ = str(new[ADOPT])
        if self.run.is_in_state(self.kind, id_):
            return
        try:
            self.account.settings.require_key()
            remote = self.inventory.fetch(id_)
        except (SettingsError, AccountError) as problem:
            self.run.tell(
                "warning",
                f"{self.subject(new, id_)}: will be taken over; the preview could not look at what that changes: "
                f"{problem}",
            )
            return
        if remote is None or is_gone(remote) or self.kind.gone(remote):
            self.run.tell("warning", f"{self.subject(new, id_)}: cannot be taken over: there is none, or it has ended")
        else:
            self._announce(remote, new)

    def _announce(self, remote: StripeObject, new: Inputs) -> None:
        """Tell what taking an object over changes: the old value and the new one of each argument."""
        known = {name: value for name, value in new.items() if not is_unknown(value)}
        there = self.as_is(known, remote)
        unsaid = {"owner", *self.kind.own_struct.fields} - self.kind.drift_from.keys()
        there, wanted = ({n: v for n, v in each.items() if n not in unsaid} for each in (there, known))
        changes = differ.unequal(there, wanted)
        owner = owner_of(remote)
        parts = [
            "is taken over",
            f"from {owner}" if owner and owner != new["owner"] else "",
            f"and changed: {differ.moves(changes)}" if changes else "as it is",
        ]
        money = self.bill_moves(remote, known)
        line = " ".join(part for part in parts if part) + (f"; {money}" if money else "")
        self.run.tell("warning", f"{self.subject(new, remote['id'])}: {line}")

    def adopt(self, remote: StripeObject, new: Inputs) -> StripeObject:
        """Take the object that the program names over, say what that changes, and make it as declared."""
        self._announce(remote, new)
        return self.conform(remote, new)

    # -- taking over what is found --------------------------------------------------------------------------------

    def find(self, new: Inputs) -> StripeObject | None:
        """The object that a run which was cut short has made for this resource, if there is one."""
        for params in self.listed_apart(new):
            for page, _ in self.account.pages(self.kind.path, params, subject=self.subject(new)):
                for each in page:
                    self.inventory.remember(each)
        mine = [
            remote
            for remote in self.candidates(new)
            if owner_of(remote) == new["owner"]
            and not self.run.is_in_state(self.kind, remote["id"])
            and self.is_alive(remote, new)
        ]
        for remote in mine:
            if not self.different(remote, new):
                return remote
        for remote in mine:
            self.left_behind(remote, new)
        return None

    def is_alive(self, remote: StripeObject, new: Inputs) -> bool:
        """Whether an object still does what a new one would."""
        if self.kind.gone(remote):
            return False
        archivable = "active" in self.kind.update_struct.fields
        return not archivable or bool(remote.get("active")) is bool(new.get("active", True))

    def different(self, remote: StripeObject, new: Inputs) -> dict[str, tuple[Any, Any]]:
        """What cannot be changed and is not as declared, as far as Stripe tells: (in Stripe, declared) by name."""
        kind = self.kind
        declared = {**kind.defaults, **new}
        wanted = kind.comparable(declared)
        unasked = kind.having("computed").keys() | kind.once
        names = [name for name in sorted(kind.create_only - kind.unread) if name in wanted or name not in unasked]
        found = self._returned(names, wanted, remote)
        there = kind.comparable({**kind.defaults, **found})
        moved = self._returned(kind.having("replaces_when"), new, remote)
        special = set(kind.replaces({**found, **moved}, new, set())) - set(names)
        return {
            name: (there.get(name, MISSING), wanted.get(name, MISSING))
            for name in names
            if there.get(name, MISSING) != wanted.get(name, MISSING)
        } | {name: (moved.get(name, MISSING), new.get(name, MISSING)) for name in sorted(special)}

    def take_over(self, remote: StripeObject, new: Inputs) -> StripeObject:
        """Take an object that was found as this resource's, and make it as declared.

        Raises:
            ProviderError: that would change what somebody pays, which no preview has said.
        """
        self.assert_same_terms(remote, new)
        self.run.tell("info", f"{self.subject(new, remote['id'])}: exists already and is taken over")
        return self.conform(remote, new)

    def assert_same_terms(self, remote: StripeObject, new: Inputs) -> None:
        """Return when an object that was found is as declared in everything that anyone pays.

        Raises:
            ProviderError: it is not; with both values.
        """
        unequal = self.unequal_terms(remote, new)
        if unequal:
            both = {path: (_or_none(there), _or_none(declared)) for path, (there, declared) in unequal.items()}
            raise ProviderError(
                f"{self.subject(new)}: {remote['id']} was made for it and has {differences(both)}, which changes what "
                f'is paid; to change it to that declare adopt="{remote["id"]}", whose preview shows it, or declare it '
                "as it is, or end it in Stripe; then run again"
            )

    def conform(self, remote: StripeObject, new: Inputs) -> StripeObject:
        """Make an object as declared, whatever it is now."""
        return self.apply(remote["id"], self.as_is(new, remote), new, remote) or remote

    def make(self, new: Inputs) -> StripeObject:
        """Create the object, under a key that the same declaration always has.

        A run that was cut short after Stripe acted is answered with the stored answer. Where the object of that
        answer has been archived, cancelled or deleted since, the key's next generation makes a new one. So it is
        with a stored failure, once it is certain that it left nothing behind.
        """

        def stored(answer: Answer | None) -> StripeObject | None:
            if answer is None:
                self.inventory.refresh()
                found = self.find(new)
                return None if found is None else self.take_over(found, new)
            current = self.inventory.fetch(answer.data["id"])
            if current is None or is_gone(current) or self.run.is_in_state(self.kind, current["id"]):
                return None
            if not self.is_alive(current, new):
                return None
            self.assert_same_terms(current, new)
            return self.conform(current, new)

        try:
            made = self._once(
                self.kind.path,
                self.create_params(new),
                subject=self.subject(new),
                identity=(new["owner"],),
                stored=stored,
                instead=lambda refusal, params: self.instead(refusal, params, new),
                exhausted=f"made and deleted {MOST_GENERATIONS} times today; wait a day",
            )
        except StripeRefusal as refusal:
            occupant = self.occupant(refusal, new)
            if occupant is None:
                raise
            return self.take_over(occupant, new)
        self.run.began(self.kind, made)
        return made

    def complete(self, remote: StripeObject, new: Inputs) -> StripeObject:
        """Set what Stripe only takes once the object exists."""
        late = {name: new[name] for name in self.kind.update_only if name in new}
        there = self.projection(late, remote) if late else {}
        if late == there:
            return remote
        params = {**late, **self.expanded()}
        return self.post(remote["id"], params, new, fingerprint("complete", remote["id"]), late)

    # -- update -------------------------------------------------------------------------------------------------

    def apply(self, id_: str, old: Inputs, new: Inputs, remote: StripeObject | None) -> StripeObject | None:
        """Change the object from `old` to `new`.

        Returns:
            The object as it is then; what was given where there was nothing to send.
        """
        old, remote = self.before_update(id_, old, new, remote)
        params = self.changes(id_, old, new)
        if params:
            options = {
                name: new[name]
                for name in self.kind.request_options & self.kind.update_struct.fields.keys()
                if name in new and name not in params and not self.kind.fields[name].withheld
            }
            wanted = {name: new.get(name, MISSING) for name in params}
            remote = self.post(id_, {**params, **options, **self.expanded()}, new, fingerprint(old), wanted)
        return self.after_update(id_, old, new, remote)

    def post(self, id_: str, params: Inputs, new: Inputs, before: str, wanted: Mapping[str, Any]) -> StripeObject:
        """Update the object, once.

        The key says what the state was, so that a run which was cut short does not charge twice what an update
        charges. When the stored answer is not how the object is now (changed there and back within a day), the
        next generation of the key does it again.
        """

        def stored(_: Answer | None) -> StripeObject | None:
            current = self.inventory.fetch(id_)
            declared_now = {name: value for name, value in wanted.items() if value is not MISSING}
            return current if current is not None and self._is_as_wanted(declared_now, current) else None

        def instead(refusal: StripeRefusal, params: Inputs) -> Inputs:
            if refusal.code == "resource_missing" and f"'{id_}'" in refusal.message:
                refusal.advise("Run pulumi refresh, which sees that it is gone, and then up, which makes it again.")
            return self.instead(refusal, params, new)

        return self._once(
            f"{self.kind.path}/{id_}",
            params,
            subject=self.subject(new, id_),
            identity=(id_, before),
            stored=stored,
            instead=instead,
            exhausted=f"the same change was made {MOST_GENERATIONS} times today",
        )

    def _once(
        self,
        path: str,
        params: Inputs,
        *,
        subject: str,
        identity: tuple[Any, ...],
        stored: Callable[[Answer | None], StripeObject | None],
        instead: Callable[[StripeRefusal, Inputs], Inputs],
        exhausted: str,
    ) -> StripeObject:
        """Change something in Stripe once, under a key made of what it is.

        Args:
            stored: what stands of an answer that Stripe has stored (None: a failure); None where nothing does.
            instead: what to send instead of what Stripe has refused; raises the refusal where there is no safe way.

        Raises:
            StripeRefusal: as `instead` does.
            ProviderError: no stored answer stands any more, `MOST_GENERATIONS` times over.
        """
        generation = 0
        while generation < MOST_GENERATIONS:
            key = f"{self.kind.noun}-{fingerprint(*identity, params)}-{generation}"
            answer = None
            try:
                answer = self.call("post", path, params, subject=subject, idempotency_key=key)
            except StripeRefusal as refusal:
                if not refusal.replayed:
                    params, generation = instead(refusal, params), 0
                    continue
            if answer is not None and not answer.replayed:
                self.inventory.remember(answer.data)
                return answer.data
            standing = stored(answer)
            if standing is not None:
                return standing
            generation += 1
        raise ProviderError(f"{subject}: {exhausted}")

    # -- read ---------------------------------------------------------------------------------------------------

    def projection(self, known: Inputs, remote: StripeObject) -> Inputs:
        """The declared arguments as Stripe has them now."""
        return self._returned(known, known, remote)

    def as_is(self, known: Inputs, remote: StripeObject) -> Inputs:
        """The declared arguments as Stripe has them now, and what else has drifted from its usual value."""
        found = self.projection(known, remote)
        return {**found, **self.undeclared(found, remote)}

    def undeclared(self, known: Inputs, remote: StripeObject) -> Inputs:
        """What is not declared and has drifted from its usual value."""
        usual = self.kind.drift_from
        found = self._returned(usual.keys() - known.keys(), {}, remote)
        return {name: value for name, value in found.items() if value != usual[name]}

    def _returned(self, names: Any, known: Inputs, remote: StripeObject) -> Inputs:
        found = {name: self._current(name, known.get(name), remote) for name in names}
        return {name: value for name, value in found.items() if value is not MISSING}

    def _current(self, name: str, value: Any, remote: StripeObject) -> Any:
        if name == "owner":
            return owner_of(remote) or MISSING if self.kind.has_metadata else value
        return value if name in self.kind.unread else self.returned(name, value, remote)

    def _is_as_wanted(self, wanted: Inputs, remote: StripeObject) -> bool:
        """Whether an update that was answered from memory has been made and still holds."""
        found = self.projection(wanted, remote)
        for name in self.kind.having("mapping"):
            if name in wanted:
                # Entries that nobody declared are not the update's business.
                found[name] = {key: each for key, each in found.get(name, {}).items() if key in wanted[name]}
        return found == wanted

    # -- what a kind can do its own way -------------------------------------------------------------------------

    def listed_apart(self, new: Inputs) -> Iterator[Inputs]:
        """The lists that Stripe gives only when they are named, in which the object can be."""
        yield from ()

    def candidates(self, new: Inputs) -> list[StripeObject]:
        """The objects among which one that was made for this resource must be."""
        return self.inventory.owned()

    def left_behind(self, remote: StripeObject, new: Inputs) -> None:
        """Say of an object made for this resource that it cannot be it: the program changed before the next run."""
        self.run.tell(
            "warning",
            f"{self.subject(new)}: a new one is made, and {remote['id']} was made for it too and has "
            f"{differences(self.different(remote, new))}; unless this run takes it out, archive or delete it in Stripe",
        )

    def unequal_terms(self, remote: StripeObject, new: Inputs) -> dict[str, tuple[Any, Any]]:
        """What an object that was found has otherwise than declared in what anyone pays: (there, declared) by path."""
        declared = {name: value for name, value in new.items() if name in self.kind.paid - self.kind.unread}
        return differ.unequal(self.projection(declared, remote), declared)

    def bill_moves(self, remote: StripeObject, new: Inputs) -> str:
        """What taking an object over does to a bill that recurs, where amounts are known."""
        return ""

    def making(self, new: Inputs, found: StripeObject | None) -> AbstractContextManager[None]:
        """What surrounds making a new object, or taking over the one that was found."""
        return nullcontext()

    def create_params(self, new: Inputs) -> Inputs:
        """What to send to create it."""
        params = {
            name: value
            for name, value in new.items()
            if name in self.kind.create_struct.fields
            and not (name in self.kind.fields and self.kind.fields[name].withheld)
        }
        if self.kind.has_metadata:
            params["metadata"] = {**params.get("metadata", {}), OWNER_KEY: new["owner"]}
        return {**params, **self.expanded()}

    def changes(self, id_: str, old: Inputs, new: Inputs) -> Inputs:
        """What to send so that `old` becomes `new`."""
        params = {}
        for name, field in self.kind.updatable.items():
            before, after = old.get(name, MISSING), new.get(name, MISSING)
            if before == after:
                continue
            value = setting(name, field, before, after, self.kind.clearing)
            if value is not KEEP:
                params[name] = value
        if self.kind.has_metadata and old.get("owner") != new.get("owner"):
            params["metadata"] = {**params.get("metadata", {}), OWNER_KEY: new["owner"]}
        return params

    def before_update(
        self, id_: str, old: Inputs, new: Inputs, remote: StripeObject | None
    ) -> tuple[Inputs, StripeObject | None]:
        """Change what needs a request of its own.

        Returns:
            What is still to be changed from, and the object as far as it is known.
        """
        return old, remote

    def after_update(self, id_: str, old: Inputs, new: Inputs, remote: StripeObject | None) -> StripeObject | None:
        """Change what can only follow the update; returns the object as far as it is known."""
        return remote

    def instead(self, refusal: StripeRefusal, params: Inputs, new: Inputs) -> Inputs:
        """What to send instead of what Stripe refused, where there is a safe way.

        Raises:
            StripeRefusal: there is none.
        """
        raise refusal

    def occupant(self, refusal: StripeRefusal, new: Inputs) -> StripeObject | None:
        """The object for whose sake Stripe refused to make another, where it is this resource's to take over."""
        return None

    def returned(self, name: str, value: Any, remote: StripeObject) -> Any:
        """One argument as Stripe has it now, or MISSING; `value` is what is declared."""
        return projected(self.kind.struct.fields[name].shape, value, remote.get(name))

    def outputs(self, arguments: Inputs, remote: StripeObject) -> Inputs:
        """The kind's own outputs."""
        return {name: remote.get(name) for name in self.kind.outputs}

    def remove(self, id_: str, known: Inputs, *, being_replaced: bool) -> StripeObject | None:
        """Delete, archive, deactivate or cancel the object; one that is gone already raises Stripe's 404.

        Returns:
            What is left of it in Stripe.
        """
        raise NotImplementedError

    def ours_to_take(self, remote: StripeObject, new: Inputs, argument: str) -> StripeObject:
        """The object that has a chosen id or code already, where this stack made it and has let it go.

        Raises:
            ProviderError: it is somebody else's, or has what Stripe cannot change.
        """
        value, noun, owner = new[argument], self.kind.noun, owner_of(remote)
        # Another resource of this stack made it and has left the program: the resource was renamed.
        has_it = self.run.is_in_state(self.kind, remote["id"]) or self.run.keeper(self.kind, remote["id"])
        renamed = self.is_ours(remote, new) and not has_it
        if owner != new["owner"] and not renamed:
            raise ProviderError(
                f"{self.subject(new)}: the {argument} {value!r} belongs to a {noun} that "
                + (f"{owner} made" if owner else "was not made here")
                + f'; choose another {argument}, or declare adopt="{remote["id"]}" to take it over'
            )
        if different := self.different(remote, new):
            archived = "archived " if remote.get("active") is False else ""
            raise ProviderError(
                f"{self.subject(new)}: the {archived}{noun} {value!r} has another {' and '.join(different)}, which "
                f"Stripe cannot change; choose another {argument}"
            )
        return remote

    # -- small parts --------------------------------------------------------------------------------------------

    def expanded(self, prefix: str = "") -> Inputs:
        """What the answer shall include; in a list under the prefix `data.`."""
        return {"expand": [prefix + path for path in self.kind.expand]} if self.kind.expand else {}

    def call(
        self,
        method: Literal["get", "post", "delete"],
        path: str,
        params: Inputs,
        *,
        subject: str,
        idempotency_key: str | None = None,
    ) -> Answer:
        """Ask Stripe; what it refuses says what to do where the kind knows."""
        try:
            return self.account.request(method, path, params, subject=subject, idempotency_key=idempotency_key)
        except StripeRefusal as refusal:
            for fragment, advice in self.kind.advice.items():
                if fragment in refusal.message:
                    refusal.advise(advice)
            raise

    def is_ours(self, remote: StripeObject, new: Inputs) -> bool:
        """Whether an object is this stack's: its owner is `<project>/<stack>/...`."""
        return (owner_of(remote) or "").rpartition("/")[0] == str(new["owner"]).rpartition("/")[0]

    def subject(self, arguments: Mapping[str, Any], id_: str | None = None) -> str:
        """How messages name the resource: `Price 'alpaca-ai-usage' (price_1)`."""
        return subject(self.kind.name, arguments, id_)


def _or_none(value: Any) -> Any:
    return None if value is MISSING else value
