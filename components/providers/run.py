"""`Run`: what this process knows about the current run of the CLI. One object an account, for all kinds.

A provider process lives as long as one command of the CLI. Pulumi calls a provider for one resource at a time, in an
order of its own and on several threads. Whatever one resource must know about another is kept here.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final, Literal
from weakref import WeakKeyDictionary

from components.account import Account
from components.providers import differ, notices
from components.providers.errors import subject
from components.providers.inventory import Inventory, StripeObject
from components.providers.kind import Declaration, Kind
from components.providers.state import ObjectName, StackState, StateUnreadable, read_state
from components.providers.values import Inputs, declared
from components.redaction import as_line

_NEW, _IN_STATE = "new", "in the state"


@dataclass
class _Known:
    """What the run knows about one kind. Ids are Stripe's; an owner names a resource.

    Attributes:
        claims: owners, by the (argument, value) that they claim.
        names: by owner, whether it was first checked as new or as in the state.
        read: what a refresh has just read, by id.
        compared: what the program declares, by id.
        kept: owners of objects that this run compares and does not replace, by id.
        replacing: owners that were checked again as new: the engine replaces them.
        declared, creating: owners that the program has, and those that this run creates.
        held: owners of objects that this run created or adopted, by id.
        created: the objects that this run created, by id.
    """

    claims: dict[tuple[str, str], str] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    read: dict[str, Inputs] = field(default_factory=dict)
    compared: dict[str, Declaration] = field(default_factory=dict)
    kept: dict[str, str] = field(default_factory=dict)
    replacing: set[str] = field(default_factory=set)
    declared: set[str] = field(default_factory=set)
    creating: set[str] = field(default_factory=set)
    held: dict[str, str] = field(default_factory=dict)
    created: dict[str, StripeObject] = field(default_factory=dict)


class Run:
    """One run of the CLI on one stack."""

    def __init__(self, account: Account, read_state: Callable[[str], StackState | None] = read_state) -> None:
        self._account = account
        self.read_state = read_state
        self._state: StackState | None = None
        self._state_was_read = False
        self._released: Counter[ObjectName] = Counter()
        self._lock = threading.RLock()
        self._state_lock = threading.Lock()
        self._kinds: dict[str, _Known] = {}
        self._inventories: dict[str, Inventory] = {}
        self._waiting: dict[tuple[str, str], list[Callable[[], None]]] = {}
        self._told: set[str] = set()

    # -- inventories --------------------------------------------------------------------------------------------

    def inventory(self, kind: Kind) -> Inventory:
        """The inventory of a kind; kinds with the same path share one, as Product and DefaultPrice do."""
        return self.inventory_at(kind.path, kind.noun, expand=kind.expand, searchable=kind.searchable)

    def inventory_at(
        self, path: str, noun: str, *, expand: tuple[str, ...] = (), searchable: bool = False
    ) -> Inventory:
        with self._lock:
            if path not in self._inventories:
                self._inventories[path] = Inventory(self._account, noun, path, expand=expand, searchable=searchable)
            return self._inventories[path]

    # -- names --------------------------------------------------------------------------------------------------

    def claim(self, kind: Kind, argument: str, value: str, owner: str) -> str:
        """Claim a unique value for a resource; returns the owner of the resource that has it."""
        with self._lock:
            return self._of(kind).claims.setdefault((argument, value), owner)

    def is_named_twice(self, kind: Kind, owner: str, *, is_new: bool) -> bool:
        """Whether a new resource has the name of one in the state, which Pulumi allows under two parents.

        Pulumi checks a replacement twice: as the resource in the state, then as a new one.
        """
        with self._lock:
            names = self._of(kind).names
            if is_new:
                if names.setdefault(owner, _NEW) == _IN_STATE:
                    self._of(kind).replacing.add(owner)
                return False
            return names.setdefault(owner, _IN_STATE) == _NEW

    # -- what the program declares ------------------------------------------------------------------------------

    def compared(
        self, kind: Kind, id_: str, before: Inputs, arguments: Inputs, *, is_replaced: bool, refreshing: bool
    ) -> None:
        """Record that a resource was compared with the program or, if `refreshing`, with what was just read."""
        owner = str(arguments.get("owner"))
        with self._lock:
            known = self._of(kind)
            known.compared[id_] = Declaration(subject(kind.name, arguments), owner, arguments, before, is_replaced)
            if not refreshing:
                known.declared.add(owner)
                known.kept.pop(id_, None)
                if not is_replaced:
                    known.kept[id_] = owner
            waiting = self._waiting.pop((kind.name, id_), [])
        for then in waiting:
            then()

    def declaration(self, kind: Kind, id_: str) -> Declaration | None:
        """What the program declares for an object in the state; None until it has been compared."""
        with self._lock:
            return self._of(kind).compared.get(id_)

    def when_compared(self, objects: Iterable[tuple[Kind, str]], then: Callable[[], None]) -> None:
        """Call `then` when one of the objects is compared, which a run may never do."""
        with self._lock:
            for kind, id_ in objects:
                self._waiting.setdefault((kind.name, id_), []).append(then)

    def is_in_state(self, kind: Kind, id_: str) -> bool:
        """Whether the state holds the object, as far as this run has compared resources."""
        return self.declaration(kind, id_) is not None

    def declares(self, kind: Kind, owner: object) -> bool:
        """Whether the program declares the resource, as far as this run has compared or created it."""
        with self._lock:
            return owner in self._of(kind).declared

    # -- reading ------------------------------------------------------------------------------------------------

    def was_read(self, kind: Kind, id_: str, arguments: Inputs) -> None:
        """Record what a refresh read."""
        with self._lock:
            self._of(kind).read[id_] = arguments

    def has_read(self, kind: Kind, id_: str) -> bool:
        """Whether a refresh has read the object and not yet compared it with the state."""
        with self._lock:
            return id_ in self._of(kind).read

    def just_read(self, kind: Kind, id_: str, arguments: Inputs) -> bool:
        """Whether a refresh has just read these arguments: the engine then compares them with the state."""
        with self._lock:
            return self._of(kind).read.pop(id_, None) == arguments

    # -- creating -----------------------------------------------------------------------------------------------

    def begin(self, kind: Kind, owner: str) -> bool:
        """Begin to create a resource; False if this run has already created one with its name."""
        with self._lock:
            known = self._of(kind)
            if owner in known.creating:
                return False
            known.creating.add(owner)
            known.declared.add(owner)
            return True

    def abandon(self, kind: Kind, owner: str) -> None:
        """The creation failed."""
        with self._lock:
            self._of(kind).creating.discard(owner)

    def holds(self, kind: Kind, owner: str, id_: str) -> None:
        """The creation is done: the resource now holds this object, created or adopted."""
        with self._lock:
            known = self._of(kind)
            known.held[id_] = owner
            known.names[owner] = _IN_STATE

    # -- deleting -----------------------------------------------------------------------------------------------

    def keeper(self, kind: Kind, id_: str) -> str | None:
        """The owner of the resource in the program that keeps this object, if there is one.

        Either this run created the resource with it, or the resource was compared and is not replaced. A replacement
        that the engine itself asks for shows by a second check, as a new resource.
        """
        with self._lock:
            known = self._of(kind)
            owner = known.kept.get(id_)
            return known.held.get(id_) or (owner if owner not in known.replacing else None)

    def kept(self, kind: Kind) -> dict[str, Inputs]:
        """What the program declares for the objects that this run does not replace, by id."""
        with self._lock:
            known = self._of(kind)
            return {id_: known.compared[id_].arguments for id_ in known.kept if id_ in known.compared}

    def release(self, kind: Kind, id_: str, owner: object) -> bool:
        """Release a resource's object; returns whether another resource in the stack's state still holds it.

        The comparisons of this run are not enough: `--target` leaves out a part of the program, and `destroy` does not
        run it. So the state is read, once. A full destroy deletes an object with its last holder.
        """
        with self._state_lock:
            self._read_state(owner)
            self._released[kind.name, id_] += 1
            return self._holders(kind.name, id_) > self._released[kind.name, id_]

    def is_held(self, kind_name: str, id_: str) -> bool:
        """Whether a resource that this run has not deleted is known to hold the object."""
        with self._lock:
            known = self._kinds.get(kind_name, _Known())
            seen = id_ in known.held or id_ in known.compared
        with self._state_lock:
            return max(int(seen), self._holders(kind_name, id_)) > self._released[kind_name, id_]

    def state_holds(self, kind: Kind, id_: str, owner: object) -> bool:
        """Whether the stack's state holds an object, compared in this run or not."""
        if self.is_in_state(kind, id_):
            return True
        with self._state_lock:
            self._read_state(owner)
            return self._holders(kind.name, id_) > 0

    def takes_back(self, kind: Kind, id_: str) -> bool:
        """Whether a resource that has no id yet gets this object back, which a run that failed has replaced.

        Creating the resource finds the object: that run has not deleted it, and the program declares it as it is
        again. False where there is any doubt which object a resource of the kind gets.
        """
        with self._lock:
            known = self._of(kind)
            replaced = [each for each in known.compared.values() if each.is_replaced]
            if id_ in known.compared or not replaced or _NEW in known.names.values():
                return False
        with self._state_lock:
            self._read_state(replaced[0].owner)
            left = self._state.replaced if self._state else {}
        there = {other: kind.arguments(declared(props)) for (name, other), props in left.items() if name == kind.name}
        found = [
            next((other for other, old in there.items() if differ.is_declared(kind, old, each.arguments)), None)
            for each in replaced
        ]
        return id_ in found and None not in found

    def _holders(self, kind_name: str, id_: str) -> int:
        """How many resources of the state hold an object, as far as that was read."""
        return self._state.holders[kind_name, id_] if self._state else 0

    def _read_state(self, owner: object) -> None:
        """Read the holders, once; outside the run's lock, so that other threads do not wait."""
        if self._state_was_read:
            return
        self._state_was_read = True
        stack = str(owner).split("/")[1] if str(owner).count("/") > 1 else ""
        try:
            self._state = self.read_state(stack)
        except StateUnreadable as problem:
            self.tell(
                "warning",
                f"cannot read the stack's state, so an object that two resources hold is deleted with the first of "
                f"them: {problem}",
            )

    def successor(self, kind: Kind, id_: str, owner: object) -> str | None:
        """The id of the object that replaces this one for its resource."""
        with self._lock:
            known = self._of(kind)
            owners = {other: each.owner for other, each in known.compared.items()} | known.held
        return next((other for other, each in owners.items() if other != id_ and each == owner), None)

    def add_created(self, kind: Kind, remote: StripeObject) -> None:
        """Record an object that this run created, as opposed to found."""
        with self._lock:
            self._of(kind).created[remote["id"]] = remote

    def created(self, kind: Kind) -> list[StripeObject]:
        """The objects that this run created."""
        with self._lock:
            return list(self._of(kind).created.values())

    # -- telling ------------------------------------------------------------------------------------------------

    def tell(self, severity: Literal["info", "warning"], message: str) -> None:
        """Show one line at the terminal, once a run."""
        line = as_line(message)
        with self._lock:
            if line in self._told:
                return
            self._told.add(line)
        notices.show(severity, line)

    def _of(self, kind: Kind) -> _Known:
        return self._kinds.setdefault(kind.name, _Known())


_runs: Final[WeakKeyDictionary[Account, Run]] = WeakKeyDictionary()
_runs_lock = threading.Lock()


def run_of(account: Account) -> Run:
    """The run of an account, which all providers of a process share."""
    with _runs_lock:
        return _runs.setdefault(account, Run(account))
