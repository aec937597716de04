"""The lifecycle that all kinds share: check, diff, create, read, update and delete of one Stripe object.

What differs between kinds is their `Kind` (data) and the few methods below that a kind overrides.
How Pulumi calls a dynamic provider: https://www.pulumi.com/docs/iac/concepts/resources/dynamic-providers/
"""

from __future__ import annotations

import functools
import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar, Final, TypeVar, cast
from weakref import WeakKeyDictionary

from pulumi.dynamic import (
    CheckFailure,
    CheckResult,
    ConfigureRequest,
    CreateResult,
    DiffResult,
    ReadResult,
    ResourceProvider,
    UpdateResult,
)

from components.account import Account, AccountError, Answer, StripeRefusal, account_for, redact
from components.providers.fields import KEEP, projected, setting
from components.providers.inventory import OWNER_KEY, Inventory, StripeObject, is_gone, owner_of
from components.providers.kind import Kind, Problem
from components.providers.notices import tell
from components.providers.values import MISSING, Inputs, declared, fingerprint, path_text

#: Shows whole tracebacks of a provider's failures, for whoever works on the providers.
TRACEBACK_VARIABLE: Final = "STRIPE_PRICING_TRACEBACK"
TWO_OF_A_NAME: Final = "two resources of this kind have this name; give one of them another"
#: A replayed answer whose object is gone leads to the next generation of its key; nobody gets this far.
MOST_GENERATIONS: Final = 50


Method = TypeVar("Method", bound=Callable[..., Any])


class ProviderError(AccountError):
    """A provider refuses or cannot do something; one line that says what, on which object, and what to do."""


# Python prints an exception with its module's name, which tells the person at the terminal nothing.
for _error in (AccountError, StripeRefusal, ProviderError):
    _error.__module__ = "builtins"


def one_line(method: Method) -> Method:
    """A provider method whose failures are all one line, those that nobody foresaw too."""

    @functools.wraps(method)
    def guarded(self: StripeProvider, *args: Any) -> Any:
        try:
            return method(self, *args)
        except AccountError as error:
            if os.environ.get(TRACEBACK_VARIABLE):
                raise
            # Pulumi would print what it came from, too; it says that in its own words.
            raise error from None
        except Exception as error:
            if os.environ.get(TRACEBACK_VARIABLE):
                raise
            owners = [
                each["owner"] for each in args if isinstance(each, Mapping) and isinstance(each.get("owner"), str)
            ]
            raise ProviderError(
                f"{self.subject({'owner': owners[-1]} if owners else {})}: {method.__name__} failed unexpectedly: "
                f"{type(error).__name__}: {error}; {TRACEBACK_VARIABLE}=1 shows where"
            ) from None

    return cast(Method, guarded)


class StripeProvider(ResourceProvider):
    """The dynamic provider of one kind.

    An instance is stateless until `configure()`: its pickle, the class's import path, is part of every stack's
    state. Pulumi's four worker threads share an instance.
    """

    serialize_as_secret_always = False
    kind: ClassVar[Kind]

    account: Account

    def configure(self, req: ConfigureRequest) -> None:
        if not os.environ.get(TRACEBACK_VARIABLE):
            # Pulumi sends `traceback.format_exc()` to the terminal; this leaves its last line, the message.
            sys.tracebacklimit = 0
        self.use(account_for(lambda name: req.config.get(f"stripe:{name}")))

    def use(self, account: Account) -> None:
        """Work with this account."""
        self.account = account
        self.inventory = inventory_of(account, self.kind)
        self._lock = threading.Lock()
        self._claims: dict[tuple[str, str], str] = {}
        self._names: dict[str, str] = {}
        self._made: set[str] = set()
        self._kept: dict[str, str] = {}
        self._in_state: dict[str, str] = {}
        self._declared: set[str] = set()
        self._refreshed: dict[str, Inputs] = {}

    # -- check --------------------------------------------------------------------------------------------------

    @one_line
    def check(self, olds: Inputs, news: Inputs) -> CheckResult:
        inputs, problems = self.kind.schema.check(declared(news))
        inputs = self.with_defaults(inputs)
        known = {path for path, _ in problems}
        problems += self._named_once(inputs, is_new=not declared(olds))
        for rule in (*self.kind.rules, self._claimed_once):
            problems += [(path, sentence) for path, sentence in rule(inputs) if path not in known]
        # Pulumi prints the value of a failing property, secret or not, unless the failure names none.
        failures = [CheckFailure("", redact(f"{path_text(path)}: {sentence}")) for path, sentence in problems]
        for remark in () if failures else self.remarks(inputs, is_new=not declared(olds)):
            tell("warning", f"{self.subject(inputs)}: {remark}")
        return CheckResult(inputs, failures)

    def _named_once(self, inputs: Inputs, *, is_new: bool) -> Iterator[Problem]:
        """A new resource that has the name of one in the state would be taken for it and take its object over.

        Pulumi allows it under two parents. A replacement is checked as new too, after it was checked as what it is.
        """
        owner = str(inputs.get("owner"))
        with self._lock:
            if is_new:
                self._names.setdefault(owner, "new")
            elif self._names.setdefault(owner, "in the state") == "new":
                yield (("owner",), TWO_OF_A_NAME)

    def _claimed_once(self, inputs: Inputs) -> Iterator[Problem]:
        """Two resources of a program that claim the same name in Stripe would take it from each other at each run."""
        owner = inputs.get("owner")
        for name in self.kind.unique:
            value = inputs.get(name)
            if isinstance(value, str) and isinstance(owner, str):
                with self._lock:
                    holder = self._claims.setdefault((name, value), owner)
                if holder != owner:
                    yield (
                        (name,),
                        f"is {value!r}, as in {holder.rpartition('/')[2]}; only one {self.kind.noun} can have it",
                    )

    def remarks(self, inputs: Inputs, *, is_new: bool) -> Iterator[str]:
        """What a reviewer should know of what is declared; of a new object a preview asks nothing else."""
        yield from ()

    def with_defaults(self, inputs: Inputs) -> Inputs:
        """Fill in our own arguments, so that a preview shows what will happen."""
        return inputs

    # -- diff ---------------------------------------------------------------------------------------------------

    @one_line
    def diff(self, id_: str, olds: Inputs, news: Inputs) -> DiffResult:
        old, new = self.arguments(olds), self.arguments(news)
        self.account.pin(olds.get("account"))
        replaces = self.replaces({**self.assigned(olds), **old}, new)
        with self._lock:
            self._in_state[id_] = str(new.get("owner"))
            # A refresh reads an object and then asks how it differs from the state. That changes nothing.
            refreshing = self._refreshed.pop(id_, None) == old
            if not refreshing:
                self._declared.add(str(new.get("owner")))
        self.compared(id_, old, new, replaces)
        if old != new and not refreshing:
            self.guard(id_, olds, old, new, replaces)
            for warning in (*self.warnings(id_, olds, old, new, replaces), *self.staying(old, new, replaces)):
                tell("warning", f"{self.subject(new, id_)}: {warning}")
        # Not True or False: the engine then compares the inputs itself and prints only what changed.
        return DiffResult(
            changes=None,
            replaces=replaces,
            # Said always: the engine also replaces by itself (`replace_on_changes`).
            delete_before_replace=self.delete_before_replace(old, new),
        )

    def compared(self, id_: str, old: Inputs, new: Inputs, replaces: list[str]) -> None:
        """Remember what other kinds ask about."""

    def replaces(self, old: Inputs, new: Inputs) -> list[str]:
        """The changed arguments that Stripe cannot change."""
        before, after = self.comparable(old), self.comparable(new)
        return [
            name
            for name in sorted(self.kind.create_only)
            if before.get(name, MISSING) != after.get(name, MISSING)
            and not (name in self.kind.spent and name not in new)
        ]

    def assigned(self, olds: Inputs) -> Inputs:
        """What Stripe has filled in for arguments that were left out, as the state knows it."""
        return {}

    def comparable(self, arguments: Inputs) -> Inputs:
        """The arguments with what leaving them out means, so that writing that down is no change."""
        return {**self.kind.defaults, **arguments}

    def delete_before_replace(self, old: Inputs, new: Inputs) -> bool:
        """Whether the old object must go before the new one can be."""
        return False

    def guard(self, id_: str, olds: Inputs, old: Inputs, new: Inputs, replaces: list[str]) -> None:
        """Refuse a change that the program must allow by name.

        Raises:
            ProviderError: it does not.
        """

    def warnings(self, id_: str, olds: Inputs, old: Inputs, new: Inputs, replaces: list[str]) -> Iterator[str]:
        """What a reviewer should know and a diff does not say."""
        yield from ()

    def staying(self, old: Inputs, new: Inputs, replaces: list[str]) -> Iterator[str]:
        """Arguments that leave the program and stay in Stripe."""
        for name in sorted(old.keys() - new.keys()) if not replaces else ():
            field = self.kind.updatable.get(name)
            if field is not None and setting(name, field, old[name], MISSING, self.kind.clearing) is KEEP:
                yield f"{name} stays as it is in Stripe: {self.kind.kept.get(name, 'there is no way to unset it')}"

    # -- create -------------------------------------------------------------------------------------------------

    @one_line
    def create(self, props: Inputs) -> CreateResult:
        new = self.arguments(props)
        owner = str(new["owner"])
        with self._lock:
            if owner in self._made:
                raise ProviderError(f"{self.subject(new)}: {TWO_OF_A_NAME}")
            self._made.add(owner)
            self._declared.add(owner)
        try:
            remote = self.complete(self.find_or_make(new), new)
        except Exception:
            with self._lock:
                self._made.discard(owner)
            raise
        with self._lock:
            self._kept[remote["id"]] = owner
            self._names[owner] = "in the state"
        return CreateResult(self.id_of(remote), self.outs(new, remote))

    def find_or_make(self, new: Inputs) -> StripeObject:
        found = self.find(new)
        return self.make(new) if found is None else self.adopt(found, new)

    def find(self, new: Inputs) -> StripeObject | None:
        """The object that a run which was cut short has made for this resource, if there is one."""
        mine = [
            remote
            for remote in self.inventory.owned()
            if owner_of(remote) == new["owner"] and remote["id"] not in self._in_state and self.is_alive(remote, new)
        ]
        for remote in mine:
            if self.same_fixed(remote, new):
                return remote
        for remote in mine:
            self.left_behind(remote, new)
        return None

    def left_behind(self, remote: StripeObject, new: Inputs) -> None:
        """Say of an object made for this resource that it cannot be it: the program changed before the next run."""
        tell(
            "warning",
            f"{self.subject(new)}: a new one is made, and {remote['id']} was made for it too and has "
            f"{differences(self.different(remote, new))}; unless this run takes it out, archive or delete it in Stripe",
        )

    def is_alive(self, remote: StripeObject, new: Inputs) -> bool:
        """Whether the object still does what a new one would."""
        return True

    def same_fixed(self, remote: StripeObject, new: Inputs) -> bool:
        """Whether what cannot be changed is as declared, as far as Stripe tells."""
        return not self.different(remote, new)

    def different(self, remote: StripeObject, new: Inputs) -> dict[str, tuple[Any, Any]]:
        """What cannot be changed and is not as declared: (in Stripe, declared) by name."""
        wanted = self.comparable(new)
        unasked = self.kind.assigned.keys() | self.kind.spent.keys()
        names = [
            name
            for name in sorted(self.kind.create_only - self.kind.unreadable.keys())
            if name in wanted or name not in unasked
        ]
        there = {name: self.returned(name, wanted.get(name), remote) for name in names}
        there = self.comparable({name: value for name, value in there.items() if value is not MISSING})
        return {
            name: (there.get(name, MISSING), wanted.get(name, MISSING))
            for name in names
            if there.get(name, MISSING) != wanted.get(name, MISSING)
        }

    def adopt(self, remote: StripeObject, new: Inputs) -> StripeObject:
        """Take an object that exists as this resource's, and make it as declared."""
        tell("info", f"{self.subject(new, remote['id'])}: exists already and is taken over")
        return self.apply(remote["id"], self.projection(new, remote), new, remote) or remote

    def make(self, new: Inputs, **more: Any) -> StripeObject:
        """Create the object, under a key that the same declaration always has.

        A run that was cut short after Stripe acted is answered with the stored answer. Where the object of that
        answer has been archived, cancelled or deleted since, the key's next generation makes a new one. So it is
        with a stored failure, once it is certain that it left nothing behind.
        """
        params = {**self.create_params(new), **more}
        for generation in range(MOST_GENERATIONS):
            key = f"{self.kind.noun}-{fingerprint(new['owner'], params)}-{generation}"
            try:
                answer = self.call("post", self.kind.path, params, subject=self.subject(new), idempotency_key=key)
            except StripeRefusal as refusal:
                if refusal.replayed:
                    self.inventory.refresh()
                    found = self.find(new)
                    if found is not None:
                        return self.adopt(found, new)
                    continue
                return self.resolve(refusal, new)
            if not answer.replayed:
                self.inventory.remember(answer.data)
                return answer.data
            current = self.inventory.fetch(answer.data["id"])
            if current and not is_gone(current) and current["id"] not in self._in_state and self.is_alive(current, new):
                return self.apply(current["id"], self.projection(new, current), new, current) or current
        raise ProviderError(f"{self.subject(new)}: made and deleted {MOST_GENERATIONS} times today; wait a day")

    def resolve(self, refusal: StripeRefusal, new: Inputs) -> StripeObject:
        """Make the object although Stripe refused it at first, where there is a safe way."""
        raise refusal

    def create_params(self, new: Inputs) -> Inputs:
        """What to send to create it."""
        params = {name: value for name, value in new.items() if name in self.kind.create_struct.fields}
        return self.branded(params, new)

    def complete(self, remote: StripeObject, new: Inputs) -> StripeObject:
        """Set what Stripe only takes once the object exists."""
        late = {name: new[name] for name in self.kind.update_only if name in new}
        there = self.projection(late, remote) if late else {}
        if late == there:
            return remote
        params = {**late, **self.expanded()}
        return self.post(remote["id"], params, new, fingerprint("complete", remote["id"]), late)

    # -- read ---------------------------------------------------------------------------------------------------

    @one_line
    def read(self, id_: str, props: Inputs) -> ReadResult:
        self.account.pin(props.get("account"))
        known = self.arguments(props)
        remote = self.inventory.read(self.stripe_id(id_), known.get("owner"))
        ended = remote is not None and self.has_ended_as_declared(known, remote)
        if remote is None or (self.is_gone(remote) and not ended):
            return ReadResult("", {})
        inputs = dict(known) if ended else self.projection(known, remote)
        for name, usual in self.kind.watched.items():
            value = self.returned(name, inputs.get(name), remote)
            if name not in inputs and value is not MISSING and value != usual:
                inputs[name] = value
        outs = self.outs(inputs, remote, changes_made(props))
        with self._lock:
            self._refreshed[id_] = self.arguments(outs)
        return ReadResult(id_, outs, inputs)

    def is_gone(self, remote: StripeObject) -> bool:
        """Whether the object is there and yet no more, such as a cancelled subscription."""
        return False

    def has_ended_as_declared(self, known: Inputs, remote: StripeObject) -> bool:
        """Whether the object is no more because the program said when it ends: made again, it would begin anew."""
        return False

    def projection(self, known: Inputs, remote: StripeObject) -> Inputs:
        """The declared arguments as Stripe has them now."""
        found = {}
        for name, value in known.items():
            if name == "owner":
                there: Any = owner_of(remote) or MISSING if self.kind.has_metadata else value
            elif name in self.kind.own_struct.fields or name in self.kind.unreadable or name in self.kind.modifiers:
                there = self.own_returned(name, value, remote)
            else:
                there = self.returned(name, value, remote)
            if there is not MISSING:
                found[name] = there
        return found

    def returned(self, name: str, value: Any, remote: StripeObject) -> Any:
        """One declared argument as Stripe has it now, or MISSING."""
        return projected(self.kind.struct.fields[name].shape, value, remote.get(name))

    def own_returned(self, name: str, value: Any, remote: StripeObject) -> Any:
        """One of our own arguments, or one that Stripe does not return: as declared."""
        return value

    # -- update -------------------------------------------------------------------------------------------------

    @one_line
    def update(self, id_: str, olds: Inputs, news: Inputs) -> UpdateResult:
        self.account.pin(olds.get("account"))
        old, new, changes = self.arguments(olds), self.arguments(news), changes_made(olds)
        # The state before is part of the update's idempotency key. With the number of changes in it no two updates
        # have the same key, however often a value goes there and back; one that was cut short has its own again.
        remote = self.apply(self.stripe_id(id_), {**old, CHANGES_KEY: changes}, new, None)
        if remote is not None:
            return UpdateResult(self.outs(new, remote, changes + 1))
        same = {name: olds.get(name) for name in (*self.kind.outputs, *COMMON_OUTPUTS)}
        return UpdateResult({**new, **same, **({CHANGES_KEY: changes} if changes else {})})

    def apply(self, id_: str, old: Inputs, new: Inputs, remote: StripeObject | None) -> StripeObject | None:
        """Change the object from `old` to `new`; None when there was nothing to send."""
        params = self.changes(id_, old, new)
        if not params:
            return None
        modifiers = {
            name: new[name]
            for name in self.kind.modifiers
            if name in new and name in self.kind.update_struct.fields and name not in params
        }
        wanted = {name: new.get(name, MISSING) for name in params}
        return self.post(id_, {**params, **modifiers, **self.expanded()}, new, fingerprint(old), wanted)

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

    def post(self, id_: str, params: Inputs, new: Inputs, before: str, wanted: Mapping[str, Any]) -> StripeObject:
        """Update the object, once.

        The key says what the state was, so that a run which was cut short does not charge twice what an update
        charges. When the stored answer is not how the object is now (changed there and back within a day), the
        next generation of the key does it again.
        """
        for generation in range(MOST_GENERATIONS):
            key = f"{self.kind.noun}-{fingerprint(id_, before, params)}-{generation}"
            try:
                answer = self.call(
                    "post", f"{self.kind.path}/{id_}", params, subject=self.subject(new, id_), idempotency_key=key
                )
            except StripeRefusal as refusal:
                if refusal.code == "resource_missing" and f"'{id_}'" in refusal.message:
                    refusal.advise("Run pulumi refresh, which sees that it is gone, and then up, which makes it again.")
                if not refusal.replayed:
                    params = self.resolve_update(refusal, id_, params, new)
                    continue
            else:
                if not answer.replayed:
                    self.inventory.remember(answer.data)
                    return answer.data
            current = self.inventory.fetch(id_)
            if current is not None:
                declared_now = {name: value for name, value in wanted.items() if value is not MISSING}
                if self.is_as_wanted(declared_now, current):
                    return current
        raise ProviderError(f"{self.subject(new, id_)}: the same change was made {MOST_GENERATIONS} times today")

    def is_as_wanted(self, wanted: Inputs, remote: StripeObject) -> bool:
        """Whether an update that was answered from memory has been made and still holds."""
        return self.projection(wanted, remote) == wanted

    def resolve_update(self, refusal: StripeRefusal, id_: str, params: Inputs, new: Inputs) -> Inputs:
        """What to send instead of what Stripe refused, where there is a safe way."""
        raise refusal

    # -- delete -------------------------------------------------------------------------------------------------

    @one_line
    def delete(self, id_: str, props: Inputs) -> None:
        self.account.pin(props.get("account"))
        with self._lock:
            taken_over = self.stripe_id(id_) in self._kept
            # The engine does not say so. What the program still declares is not taken out of it.
            being_replaced = props.get("owner") in self._declared
        known = self.arguments(props)
        if taken_over:
            tell("info", f"{self.subject(known, id_)}: stays, its replacement has taken it over")
            return
        try:
            left = self.remove(self.stripe_id(id_), known, being_replaced=being_replaced)
        except StripeRefusal as refusal:
            if refusal.status != 404 or refusal.code != "resource_missing":
                raise
            left = None
        if left is None:
            self.inventory.forget(self.stripe_id(id_))
        else:
            self.inventory.remember(left)

    def successor(self, id_: str, known: Inputs) -> str | None:
        """The id of the object that stands for the resource in place of this one, where this process knows it."""
        with self._lock:
            holders = {**self._in_state, **self._kept}
        return next((other for other, owner in holders.items() if other != id_ and owner == known.get("owner")), None)

    def remove(self, id_: str, known: Inputs, *, being_replaced: bool) -> StripeObject | None:
        """Delete, archive, deactivate or cancel the object; one that is gone already raises Stripe's 404.

        Returns:
            What is left of it in Stripe.
        """
        raise NotImplementedError

    # -- small parts --------------------------------------------------------------------------------------------

    def arguments(self, props: Mapping[str, Any]) -> Inputs:
        """The arguments among a resource's properties: not its outputs, not what Pulumi adds."""
        return {name: value for name, value in declared(props).items() if name in self.kind.struct.fields}

    def outs(self, arguments: Inputs, remote: StripeObject, changes: int = 0) -> Inputs:
        """What the state holds: the arguments, and what else the resource says of itself."""
        return {
            **arguments,
            **self.outputs(arguments, remote),
            "livemode": bool(remote.get("livemode")),
            "account": self.account.id,
            **({CHANGES_KEY: changes} if changes else {}),
        }

    def outputs(self, arguments: Inputs, remote: StripeObject) -> Inputs:
        """The kind's own outputs."""
        return {name: remote.get(name) for name in self.kind.outputs}

    def branded(self, params: Inputs, new: Inputs) -> Inputs:
        """The parameters with the owner in their metadata, and with what the answer shall include."""
        if self.kind.has_metadata:
            params = {**params, "metadata": {**params.get("metadata", {}), OWNER_KEY: new["owner"]}}
        return {**params, **self.expanded()}

    def expanded(self, prefix: str = "") -> Inputs:
        """What the answer shall include; in a list under the prefix `data.`."""
        return {"expand": [prefix + path for path in self.kind.expand]} if self.kind.expand else {}

    def call(
        self, method: Any, path: str, params: Inputs, *, subject: str, idempotency_key: str | None = None
    ) -> Answer:
        """Ask Stripe; what it refuses says what to do where the kind knows."""
        try:
            return self.account.request(method, path, params, subject=subject, idempotency_key=idempotency_key)
        except StripeRefusal as refusal:
            for fragment, advice in self.kind.advice.items():
                if fragment in refusal.message:
                    refusal.advise(advice)
            raise

    def id_of(self, remote: StripeObject) -> str:
        """The resource's id."""
        return str(remote["id"])

    def stripe_id(self, id_: str) -> str:
        """The id of the Stripe object behind a resource's id."""
        return id_

    def is_ours(self, remote: StripeObject, new: Inputs) -> bool:
        """Whether an object is this stack's: its owner is `<project>/<stack>/...`."""
        return (owner_of(remote) or "").rpartition("/")[0] == str(new["owner"]).rpartition("/")[0]

    def subject(self, arguments: Mapping[str, Any], id_: str | None = None) -> str:
        """How messages name the resource: `Price 'alpaca-ai-usage' (price_1)`."""
        name = _name(arguments)
        if id_ and name == "?":
            return f"{self.kind.name} {id_}"
        return f"{self.kind.name} '{name}'" + (f" ({id_})" if id_ else "")


def _name(arguments: Mapping[str, Any]) -> str:
    owner = arguments.get("owner")
    return owner.rpartition("/")[2] if isinstance(owner, str) else "?"


def differences(different: Mapping[str, tuple[Any, Any]]) -> str:
    """What `different` found, for a sentence: `customer 'cus_1' where 'cus_2' is declared`."""
    return " and ".join(
        f"{name} {there!r} where {declared!r} is declared" for name, (there, declared) in different.items()
    )


COMMON_OUTPUTS: Final = {
    "livemode": "whether it is real money",
    "account": "the Stripe account that it is in; a key of another account is refused",
}

#: How often the stack has changed an object, in its state; left out at 0.
CHANGES_KEY: Final = "changes"


def changes_made(props: Mapping[str, Any]) -> int:
    """How often the stack has changed the object, as its state says."""
    return int(props.get(CHANGES_KEY) or 0)


_inventories: WeakKeyDictionary[Account, dict[str, Inventory]] = WeakKeyDictionary()
_inventories_lock = threading.Lock()


def inventory_of(account: Account, kind: Kind) -> Inventory:
    """The process's inventory of one kind in one account: the default-price link reads products too."""
    with _inventories_lock:
        mine = _inventories.setdefault(account, {})
        if kind.path not in mine:
            mine[kind.path] = Inventory(account, kind.noun, kind.path, expand=kind.expand, searchable=kind.searchable)
        return mine[kind.path]
