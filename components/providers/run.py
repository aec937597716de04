"""What this process knows of the run that it serves: one object an account, asked by typed questions.

A provider process lives as long as one command of the CLI. Pulumi tells a provider about one resource at a time, in an
order of its own and on four threads; what one resource must know of another is here, whatever kind it is.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final, Literal
from weakref import WeakKeyDictionary

from components.account import Account, redact
from components.providers import notices
from components.providers.errors import subject
from components.providers.inventory import Inventory, StripeObject
from components.providers.kind import Kind
from components.providers.values import Inputs

_NEW, _IN_STATE = "new", "in the state"


@dataclass(frozen=True)
class Declaration:
    """A resource of the program whose object the state holds.

    Attributes:
        subject: how messages name it.
        owner: its `<project>/<stack>/<resource name>`.
        arguments: what the program declares.
    """

    subject: str
    owner: str
    arguments: Inputs


@dataclass
class _Known:
    """What is known of the resources of one kind; ids are Stripe's, owners are resources."""

    claims: dict[tuple[str, str], str] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    read: dict[str, Inputs] = field(default_factory=dict)
    compared: dict[str, Declaration] = field(default_factory=dict)
    declared: set[str] = field(default_factory=set)
    creating: set[str] = field(default_factory=set)
    held: dict[str, str] = field(default_factory=dict)
    made: dict[str, StripeObject] = field(default_factory=dict)


class Run:
    """One run of the CLI on one stack."""

    def __init__(self, account: Account) -> None:
        self._account = account
        self._lock = threading.RLock()
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
                names.setdefault(owner, _NEW)
                return False
            return names.setdefault(owner, _IN_STATE) == _NEW

    # -- what the program declares ------------------------------------------------------------------------------

    def compared(self, kind: Kind, id_: str, arguments: Inputs, *, refreshing: bool) -> None:
        """A resource in the state is compared with the program, or (refreshing) with what was just read of it."""
        owner = str(arguments.get("owner"))
        with self._lock:
            known = self._of(kind)
            known.compared[id_] = Declaration(subject(kind.name, arguments), owner, arguments)
            if not refreshing:
                known.declared.add(owner)
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

    def holder(self, kind: Kind, id_: str) -> str | None:
        """The owner that an object was made for or taken over by in this run."""
        with self._lock:
            return self._of(kind).held.get(id_)

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
        line = redact(" ".join(message.split()))
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
