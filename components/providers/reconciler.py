"""Reconciles the objects of one kind with the program: find, adopt, create, update, remove.

Nothing happens twice, however often a run is interrupted: `create` looks for the object first, and the same change
always has the same idempotency key.
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

#: A stored answer that no longer holds leads to the next generation of its key; so many in a row are an error.
MOST_GENERATIONS: Final = 50


class Reconciler:
    """One kind of object in one account. A kind overrides methods of the second half."""

    def __init__(self, kind: Kind, account: Account, run: Run) -> None:
        self.kind = kind
        self.account = account
        self.run = run
        self.inventory = run.inventory(kind)

    # -- create -------------------------------------------------------------------------------------------------

    def create(self, new: Inputs) -> StripeObject:
        """The object of a new resource: adopted, found (an interrupted run created it), or created."""
        named = self.named(new)
        found = named or self.find(new)
        with self.making(new, found):
            if named is not None:
                remote = self.adopt(named, new)
            else:
                remote = self.make(new) if found is None else self.adopt_found(found, new)
        return self.complete(remote, new)

    # -- adopting what the program names --------------------------------------------------------------------------

    def named(self, new: Inputs) -> StripeObject | None:
        """The object that `adopt` names; None without `adopt`, and when this resource's own object is replaced.

        Raises:
            ProviderError: there is no such object, another resource has it, or Stripe cannot change it as declared.
        """
        id_ = new.get(ADOPT)
        if id_ is None:
            return None
        declaration = self.run.declaration(self.kind, id_)
        if declaration is not None and declaration.owner == new["owner"]:
            return None
        if declaration is not None:
            raise ProviderError(
                f"{self.subject(new)}: adopt is {id_}, which already is {declaration.subject} of this program"
            )
        # `check` has just read it in this run.
        remote = self.inventory.known(id_) or self.inventory.fetch(id_)
        if remote is None or is_gone(remote) or self.kind.gone(remote):
            what = "does not exist" if remote is None or is_gone(remote) else f"is {remote.get('status')}"
            raise ProviderError(f"{self.subject(new)}: adopt is {id_}, which {what}; remove adopt to create a new one")
        if different := self.different(remote, new):
            raise ProviderError(
                f"{self.subject(new)}: adopt is {id_}, which has {differences(different)}, and Stripe cannot change "
                "that; declare it as it is in Stripe, and change it afterwards"
            )
        return remote

    def preview_adoption(self, new: Inputs) -> None:
        """Tell in a preview what adopting the object changes, if there is a key to read it with.

        A program that adopts many objects reads pages of Stripe's lists: a hundred objects a call.
        """
        id_ = str(new[ADOPT])
        if self.run.is_in_state(self.kind, id_):
            return
        try:
            remote = self.inventory.read(id_)
        except AccountError as problem:
            self.run.tell(
                "warning",
                f"{self.subject(new, id_)}: will be adopted; the preview cannot tell what that changes: {problem}",
            )
            return
        if remote is None or is_gone(remote) or self.kind.gone(remote):
            self.run.tell("warning", f"{self.subject(new, id_)}: cannot be adopted: it does not exist or has ended")
        else:
            self._announce(remote, new)

    def _announce(self, remote: StripeObject, new: Inputs) -> None:
        """Tell what adopting an object changes: the old and the new value of each argument."""
        changes = self.drift(remote, new)
        owner = owner_of(remote)
        parts = [
            "is adopted",
            f"from {owner}" if owner and owner != new["owner"] else "",
            f"and changed: {differ.moves(changes)}" if changes else "unchanged",
        ]
        money = self.bill_moves(remote, {name: value for name, value in new.items() if not is_unknown(value)})
        if not changes and not money and owner in (None, new["owner"]):
            # One line for all of them: an account can have thousands, and a reviewer looks for the changes.
            self.run.tell("info", "what the program adopts is adopted unchanged, unless a line here names it")
            return
        line = " ".join(part for part in parts if part) + (f"; {money}" if money else "")
        self.run.tell("warning", f"{self.subject(new, remote['id'])}: {line}")

    def adopt(self, remote: StripeObject, new: Inputs) -> StripeObject:
        """Adopt the object that the program names: tell what that changes, then update it as declared."""
        self._announce(remote, new)
        return self.conform(remote, new)

    # -- adopting what is found -----------------------------------------------------------------------------------

    def find(self, new: Inputs) -> StripeObject | None:
        """The object that an interrupted run created for this resource, if there is one."""
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
        """Whether an object can serve as a new one would: it has not ended, and is active if it is declared so."""
        if self.kind.gone(remote):
            return False
        archivable = "active" in self.kind.update_struct.fields
        return not archivable or bool(remote.get("active")) is bool(new.get("active", True))

    def different(self, remote: StripeObject, new: Inputs) -> dict[str, tuple[Any, Any]]:
        """The arguments that cannot be changed and differ, as far as Stripe tells: (in Stripe, declared) by name."""
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

    def adopt_found(self, remote: StripeObject, new: Inputs) -> StripeObject:
        """Adopt an object that was found, and update it as declared.

        Raises:
            ProviderError: that would change what somebody pays, which no preview has shown.
        """
        self.assert_same_terms(remote, new)
        self.run.tell("info", f"{self.subject(new, remote['id'])}: already exists and is adopted")
        return self.conform(remote, new)

    def assert_same_terms(self, remote: StripeObject, new: Inputs) -> None:
        """Refuse an object that was found unless everything that anyone pays is as declared.

        Raises:
            ProviderError: something differs; the message has both values.
        """
        unequal = self.unequal_terms(remote, new)
        if unequal:
            both = {path: (_or_none(there), _or_none(declared)) for path, (there, declared) in unequal.items()}
            raise ProviderError(
                f"{self.subject(new)}: {remote['id']} was created for it and has {differences(both)}, so adopting it "
                f'would change what is paid; to do that, declare adopt="{remote["id"]}", whose preview shows the '
                "change; otherwise declare what it has, or end it in Stripe; then run again"
            )

    def conform(self, remote: StripeObject, new: Inputs) -> StripeObject:
        """Update an object as declared, whatever it is now."""
        return self.apply(remote["id"], self.as_is(new, remote), new, remote) or remote

    def make(self, new: Inputs) -> StripeObject:
        """Create the object, under an idempotency key that the same declaration always has.

        If an interrupted run got as far as Stripe, Stripe returns its stored answer. If the object of that answer has
        been archived, cancelled or deleted since, the key's next generation creates a new one. The same goes for a
        stored failure, once it is certain that it left nothing behind. Objects that are known to have ended are
        counted beforehand: each has used a generation.
        """

        def stored(answer: Answer | None) -> StripeObject | None:
            if answer is None:
                self.inventory.refresh()
                found = self.find(new)
                return None if found is None else self.adopt_found(found, new)
            listed = self.inventory.known(answer.data["id"])
            if listed is not None and not is_gone(listed) and not self.is_alive(listed, new):
                # `find` has just read that it is archived: a destroy did that.
                return None
            current = self.inventory.fetch(answer.data["id"])
            if current is None or is_gone(current):
                # A destroy deletes many at once.
                self.inventory.read_deleted()
                return None
            if self.run.is_in_state(self.kind, current["id"]):
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
                used=lambda: self._ended(new),
                stored=stored,
                instead=lambda refusal, params: self.instead(refusal, params, new),
                exhausted=f"created and deleted {MOST_GENERATIONS} times today; wait a day",
            )
        except StripeRefusal as refusal:
            occupant = self.occupant(refusal, new)
            if occupant is None:
                raise
            return self.adopt_found(occupant, new)
        self.run.add_created(self.kind, made)
        return made

    def _ended(self, new: Inputs) -> int:
        """How many objects were made for this resource as it is declared and have ended, as far as that was read.

        It never counts one that an interrupted run has in flight, so the run that repeats it uses the same key.
        """
        return sum(
            (is_gone(each) or not self.is_alive(each, new)) and not self.different(each, new)
            for each in self.inventory.known_of(new["owner"])
            if not self.run.is_in_state(self.kind, each["id"])
        )

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
            The object after that; `remote` as it was given if there was nothing to send.
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

        The idempotency key includes the old state, so that repeating an interrupted run does not charge twice. If the
        stored answer is no longer how the object is (changed back and forth within a day), the next generation of the
        key sends the change again.
        """

        def stored(_: Answer | None) -> StripeObject | None:
            current = self.inventory.fetch(id_)
            declared_now = {name: value for name, value in wanted.items() if value is not MISSING}
            return current if current is not None and self._is_as_wanted(declared_now, current) else None

        def instead(refusal: StripeRefusal, params: Inputs) -> Inputs:
            if refusal.code == "resource_missing" and f"'{id_}'" in refusal.message:
                refusal.advise(
                    "Run pulumi refresh, which removes it from the state, then pulumi up, which creates it again."
                )
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
        used: Callable[[], int] = int,
    ) -> StripeObject:
        """Change something in Stripe once, under an idempotency key made from the change.

        Args:
            used: how many generations of the key are known to be used up.
            stored: the object that a stored answer (None: a stored failure) still stands for; None if there is none.
            instead: what to send instead after a refusal; raises the refusal if there is no safe alternative.

        Raises:
            StripeRefusal: from `instead`.
            ProviderError: `MOST_GENERATIONS` stored answers no longer hold.
        """
        generation, stale = used(), 0
        while stale < MOST_GENERATIONS:
            key = f"{self.kind.noun}-{fingerprint(*identity, params)}-{generation}"
            answer = None
            try:
                answer = self.call("post", path, params, subject=subject, idempotency_key=key)
            except StripeRefusal as refusal:
                if not refusal.replayed:
                    params, generation, stale = instead(refusal, params), used(), 0
                    continue
            if answer is not None and not answer.replayed:
                self.inventory.remember(answer.data)
                return answer.data
            standing = stored(answer)
            if standing is not None:
                return standing
            generation, stale = max(generation + 1, used()), stale + 1
        raise ProviderError(f"{subject}: {exhausted}")

    # -- read ---------------------------------------------------------------------------------------------------

    def projection(self, known: Inputs, remote: StripeObject) -> Inputs:
        """The declared arguments as Stripe has them now."""
        return self._returned(known, known, remote)

    def as_is(self, known: Inputs, remote: StripeObject) -> Inputs:
        """The declared arguments as Stripe has them now, and undeclared ones that differ from their default."""
        found = self.projection(known, remote)
        return {**found, **self.undeclared(found, remote)}

    def drift(self, remote: StripeObject, new: Inputs) -> dict[str, tuple[Any, Any]]:
        """The arguments that an update would change, by dotted path: (in Stripe, declared); unknown ones left out."""
        known = {name: value for name, value in new.items() if not is_unknown(value)}
        there = self.as_is(known, remote)
        unsaid = {"owner", *self.kind.own_struct.fields} - self.kind.drift_from.keys()
        there, wanted = ({n: v for n, v in each.items() if n not in unsaid} for each in (there, known))
        return differ.unequal(there, wanted)

    def undeclared(self, known: Inputs, remote: StripeObject) -> Inputs:
        """Undeclared arguments that differ from their default."""
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
        """Whether an update that Stripe answered from its store took effect and still holds."""
        found = self.projection(wanted, remote)
        for name in self.kind.having("mapping"):
            if name in wanted:
                # Entries that nobody declared are not part of the update.
                found[name] = {key: each for key, each in found.get(name, {}).items() if key in wanted[name]}
        return found == wanted

    # -- what a kind can override -------------------------------------------------------------------------------

    def listed_apart(self, new: Inputs) -> Iterator[Inputs]:
        """Parameters of further lists that may hold the object, which the default list leaves out."""
        yield from ()

    def candidates(self, new: Inputs) -> list[StripeObject]:
        """The objects among which one that was made for this resource must be."""
        return self.inventory.owned(new["owner"])

    def left_behind(self, remote: StripeObject, new: Inputs) -> None:
        """Warn of an object created for this resource that no longer fits: the program changed before the next run."""
        self.run.tell(
            "warning",
            f"{self.subject(new)}: a new one is created; {remote['id']} was created for it too but has "
            f"{differences(self.different(remote, new))}; unless this run removes it, archive or delete it in Stripe",
        )

    def unequal_terms(self, remote: StripeObject, new: Inputs) -> dict[str, tuple[Any, Any]]:
        """What anyone pays and differs in an object that was found: (in Stripe, declared) by path."""
        declared = {name: value for name, value in new.items() if name in self.kind.paid - self.kind.unread}
        return differ.unequal(self.projection(declared, remote), declared)

    def bill_moves(self, remote: StripeObject, new: Inputs) -> str:
        """What adopting an object does to the recurring bill, where amounts are known."""
        return ""

    def making(self, new: Inputs, found: StripeObject | None) -> AbstractContextManager[None]:
        """A context around creating an object, or adopting the one that was found."""
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
        """What to send to change `old` to `new`."""
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
        """Make the changes that need a request of their own.

        Returns:
            What is left to change from, and the object as far as it is known.
        """
        return old, remote

    def after_update(self, id_: str, old: Inputs, new: Inputs, remote: StripeObject | None) -> StripeObject | None:
        """Make the changes that must follow the update; returns the object as far as it is known."""
        return remote

    def instead(self, refusal: StripeRefusal, params: Inputs, new: Inputs) -> Inputs:
        """What to send instead after a refusal, if there is a safe alternative.

        Raises:
            StripeRefusal: there is none.
        """
        raise refusal

    def occupant(self, refusal: StripeRefusal, new: Inputs) -> StripeObject | None:
        """The object because of which Stripe refused to create another, if this resource may adopt it."""
        return None

    def returned(self, name: str, value: Any, remote: StripeObject) -> Any:
        """One argument as Stripe has it now, or MISSING; `value` is what is declared."""
        return projected(self.kind.struct.fields[name].shape, value, remote.get(name))

    def outputs(self, arguments: Inputs, remote: StripeObject) -> Inputs:
        """The kind's own outputs."""
        return {name: remote.get(name) for name in self.kind.outputs}

    def remove(self, id_: str, known: Inputs, *, being_replaced: bool) -> StripeObject | None:
        """Delete, archive, deactivate or cancel the object; if it is already deleted, Stripe's 404 is raised.

        Returns:
            The object as Stripe keeps it, or None.
        """
        raise NotImplementedError

    def ours_to_take(self, remote: StripeObject, new: Inputs, argument: str) -> StripeObject:
        """The object that already has a chosen id or code, if this stack created it and no longer uses it.

        Raises:
            ProviderError: it is somebody else's, or has what Stripe cannot change.
        """
        value, noun, owner = new[argument], self.kind.noun, owner_of(remote)
        # Another resource of this stack created it and is no longer in the program: the resource was renamed.
        has_it = self.run.is_in_state(self.kind, remote["id"]) or self.run.keeper(self.kind, remote["id"])
        renamed = self.is_ours(remote, new) and not has_it
        if owner != new["owner"] and not renamed:
            raise ProviderError(
                f"{self.subject(new)}: the {argument} {value!r} belongs to a {noun} that "
                + (f"{owner} created" if owner else "no program created")
                + f'; choose another {argument}, or declare adopt="{remote["id"]}" to adopt it'
            )
        if different := self.different(remote, new):
            archived = "archived " if remote.get("active") is False else ""
            raise ProviderError(
                f"{self.subject(new)}: the {archived}{noun} {value!r} differs in {' and '.join(different)}, which "
                f"Stripe cannot change; choose another {argument}"
            )
        return remote

    # -- small parts --------------------------------------------------------------------------------------------

    def expanded(self, prefix: str = "") -> Inputs:
        """The parameter `expand`; in a list with the prefix `data.`."""
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
        """Call Stripe; a refusal says what to do if the kind knows."""
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
