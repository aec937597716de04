"""What this process knows of the run that it serves: one object an account, asked by typed questions.

A provider process lives as long as one command of the CLI. Pulumi tells a provider about one resource at a time, in an
order of its own and on four threads; what one resource must know of another is here, whatever kind it is.
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
    """What is known of the resources of one kind; ids are Stripe's, owners are resources."""

    claims: dict[tuple[str, str], str] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    read: dict[str, Inputs] = field(default_factory=dict)
    compared: dict[str, Declaration] = field(default_factory=dict)
    kept: dict[str, str] = field(default_factory=dict)
    replacing: set[str] = field(default_factory=set)
    declared: set[str] = field(default_factory=set)
    creating: set[str] = field(default_factory=set)
    held: dict[str, str] = field(default_factory=dict)
    made: dict[str, StripeObject] = field(default_factory=dict)


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

    # -- what Stripe holds --------------------------------------------------------------------------------------

    def inventory(self, kind: Kind) -> Inventory:
        """What Stripe holds of a kind; kinds at one path share it, as a product and its default price do."""
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
        """Claim a value that only one resource can have; returns the owner of the resource that has it."""
        with self._lock:
            return self._of(kind).claims.setdefault((argument, value), owner)

    def is_named_twice(self, kind: Kind, owner: str, *, is_new: bool) -> bool:
        """Whether a new resource has the name of one in the state: Pulumi allows it under two parents.

        A replacement is checked as new too, after it was checked as what it is.
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
        """A resource in the state is compared with the program, or (refreshing) with what was just read of it."""
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
        """What the program declares of an object in the state; None until it has been compared."""
        with self._lock:
            return self._of(kind).compared.get(id_)

    def when_compared(self, objects: Iterable[tuple[Kind, str]], then: Callable[[], None]) -> None:
        """Call `then` once one of some objects is compared; never, where the run does not compare it."""
        with self._lock:
            for kind, id_ in objects:
                self._waiting.setdefault((kind.name, id_), []).append(then)

    def is_in_state(self, kind: Kind, id_: str) -> bool:
        """Whether the state holds the object, as far as the run has compared."""
        return self.declaration(kind, id_) is not None

    def declares(self, kind: Kind, owner: object) -> bool:
        """Whether the program of this run has the resource, as far as it was compared or created."""
        with self._lock:
            return owner in self._of(kind).declared

    # -- reading ------------------------------------------------------------------------------------------------

    def was_read(self, kind: Kind, id_: str, arguments: Inputs) -> None:
        """A refresh has read an object."""
        with self._lock:
            self._of(kind).read[id_] = arguments

    def just_read(self, kind: Kind, id_: str, arguments: Inputs) -> bool:
        """Whether a refresh has just read this of the object: it then asks how that differs from the state."""
        with self._lock:
            return self._of(kind).read.pop(id_, None) == arguments

    # -- creating -----------------------------------------------------------------------------------------------

    def begin(self, kind: Kind, owner: str) -> bool:
        """A resource is to be created; False where this run has created one of its name already."""
        with self._lock:
            known = self._of(kind)
            if owner in known.creating:
                return False
            known.creating.add(owner)
            known.declared.add(owner)
            return True

    def abandon(self, kind: Kind, owner: str) -> None:
        """It was not created."""
        with self._lock:
            self._of(kind).creating.discard(owner)

    def holds(self, kind: Kind, owner: str, id_: str) -> None:
        """It was created, and this object is its own from now on: made, or taken over from another."""
        with self._lock:
            known = self._of(kind)
            known.held[id_] = owner
            known.names[owner] = _IN_STATE

    # -- deleting -----------------------------------------------------------------------------------------------

    def keeper(self, kind: Kind, id_: str) -> str | None:
        """The owner of the resource of this run's program whose object this is from now on.

        One that the run has created with it: made, or taken over. Or one that was compared with the program and is
        not replaced; a resource whose replacement the engine asks for by itself is checked as a new one after that.
        """
        with self._lock:
            known = self._of(kind)
            owner = known.kept.get(id_)
            return known.held.get(id_) or (owner if owner not in known.replacing else None)

    def kept(self, kind: Kind) -> dict[str, Inputs]:
        """What the program declares of the objects that it has and that this run does not replace, by id."""
        with self._lock:
            known = self._of(kind)
            return {id_: known.compared[id_].arguments for id_ in known.kept if id_ in known.compared}

    def release(self, kind: Kind, id_: str, owner: object) -> bool:
        """A resource gives its object up; returns whether another one in the stack's state still holds it.

        What this run has compared does not tell where it does not take all of the program (`--target`) or does not
        run it (`destroy`), so the state is asked, once. A whole destroy deletes an object with its last holder.
        """
        with self._state_lock:
            self._read_state(owner)
            self._released[kind.name, id_] += 1
            return self._holders(kind.name, id_) > self._released[kind.name, id_]

    def is_held(self, kind_name: str, id_: str) -> bool:
        """Whether a resource that this run has not deleted holds the object, as far as is known."""
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
        """Read who holds what, once; not under the run's lock: the other threads need not wait for it."""
        if self._state_was_read:
            return
        self._state_was_read = True
        stack = str(owner).split("/")[1] if str(owner).count("/") > 1 else ""
        try:
            self._state = self.read_state(stack)
        except StateUnreadable as problem:
            self.tell(
                "warning",
                f"the stack's state cannot be read, so an object that two of its resources hold goes with the first "
                f"of them that is deleted: {problem}",
            )

    def successor(self, kind: Kind, id_: str, owner: object) -> str | None:
        """The id of the object that stands for a resource in place of this one."""
        with self._lock:
            known = self._of(kind)
            owners = {other: each.owner for other, each in known.compared.items()} | known.held
        return next((other for other, each in owners.items() if other != id_ and each == owner), None)

    def began(self, kind: Kind, remote: StripeObject) -> None:
        """This run has made an object, and not found it."""
        with self._lock:
            self._of(kind).made[remote["id"]] = remote

    def begun(self, kind: Kind) -> list[StripeObject]:
        """The objects that this run has made."""
        with self._lock:
            return list(self._of(kind).made.values())

    # -- telling ------------------------------------------------------------------------------------------------

    def tell(self, severity: Literal["info", "warning"], message: str) -> None:
        """Show the person at the terminal one line, once a run."""
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
    """The run that an account was opened for: all providers of a process share it."""
    with _runs_lock:
        return _runs.setdefault(account, Run(account))
