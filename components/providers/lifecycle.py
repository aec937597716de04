"""Pulumi's six methods, the same for every kind: check, diff, create, read, update, delete.

How Pulumi calls a dynamic provider: https://www.pulumi.com/docs/iac/concepts/resources/dynamic-providers/
"""

from __future__ import annotations

import functools
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar, Final, TypeVar, cast

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

from components.account import Account, AccountError, StripeRefusal, account_for
from components.providers import differ
from components.providers.errors import ProviderError as ProviderError
from components.providers.errors import name_in, subject
from components.providers.inventory import StripeObject
from components.providers.kind import ADOPT, Change, Declaration, Kind, Problem
from components.providers.reconciler import Reconciler
from components.providers.run import Run, run_of
from components.providers.state import runs_under_engine
from components.providers.values import Inputs, declared, path_text
from components.pulumi_speed import speed_up_providers
from components.redaction import as_line
from components.settings import StackConfig

#: Shows full tracebacks of failures, for work on the providers.
TRACEBACK_VARIABLE: Final = "STRIPE_PRICING_TRACEBACK"
TWO_OF_A_NAME: Final = "another resource of this kind has the same name; rename one of them"

COMMON_OUTPUTS: Final = {
    "livemode": "whether it is in live mode, with real money",
    "account": "the Stripe account that it is in; a key of another account is refused",
}
#: In the state, how often the stack has updated an object; omitted at 0.
CHANGES_KEY: Final = "changes"

Method = TypeVar("Method", bound=Callable[..., Any])


def one_line(method: Method) -> Method:
    """Decorates a provider method so that every failure is one line, even an unforeseen one."""

    @functools.wraps(method)
    def guarded(self: StripeProvider, *args: Any) -> Any:
        try:
            return method(self, *args)
        except AccountError as error:
            if os.environ.get(TRACEBACK_VARIABLE):
                raise
            # Pulumi would print the cause too, which the message already states.
            raise error from None
        except Exception as error:
            if os.environ.get(TRACEBACK_VARIABLE):
                raise
            owners = [
                each["owner"] for each in args if isinstance(each, Mapping) and isinstance(each.get("owner"), str)
            ]
            # An error in check may quote a declared value, which may be a secret.
            what = type(error).__name__ + ("" if method.__name__ == "check" else f": {error}")
            raise ProviderError(
                f"{subject(self.kind.name, {'owner': owners[-1]} if owners else {})}: {method.__name__} failed "
                f"unexpectedly: {what}; {TRACEBACK_VARIABLE}=1 shows where"
            ) from None

    return cast(Method, guarded)


class StripeProvider(ResourceProvider):
    """The dynamic provider of one kind.

    An instance is stateless until `configure()`: its pickle, the class's import path, is part of every stack's
    state. Pulumi's worker threads, sixteen here (`pulumi_speed`), share an instance.
    """

    serialize_as_secret_always = False
    kind: ClassVar[Kind]
    reconciler_type: ClassVar[type[Reconciler]]

    account: Account
    run: Run
    reconciler: Reconciler

    def configure(self, req: ConfigureRequest) -> None:
        if not os.environ.get(TRACEBACK_VARIABLE):
            # Pulumi sends `traceback.format_exc()` to the terminal; this leaves its last line, the message.
            sys.tracebacklimit = 0
        speed_up_providers()
        self.use(account_for(StackConfig(req.config.get)))

    def use(self, account: Account) -> None:
        """Work with this account."""
        self.account = account
        self.run = run_of(account)
        self.reconciler = self.reconciler_type(self.kind, account, self.run)

    # -- check --------------------------------------------------------------------------------------------------

    @one_line
    def check(self, olds: Inputs, news: Inputs) -> CheckResult:
        before, given = declared(olds), declared(news)
        is_new = not before
        problems: list[Problem] = []
        # What the state holds was checked when it was declared. Reading Stripe's types again takes a tenth of a second.
        inputs = before
        if is_new or not self._is_in_state(given, before):
            inputs, problems = self.kind.schema.check(given)
            inputs = self.kind.fill(inputs, self.account.livemode)
        known = {path for path, _ in problems}
        problems += self._named_once(inputs, is_new=is_new)
        for rule in (*self.kind.rules, self._linked, self._claimed_once):
            problems += [(path, sentence) for path, sentence in rule(inputs) if path not in known]
        # Pulumi prints the value of a failing property, secret or not, unless the failure names no property.
        if is_new and not problems and isinstance(inputs.get(ADOPT), str):
            self.reconciler.preview_adoption(inputs)
        failures = [CheckFailure("", as_line(f"{path_text(path)}: {sentence}")) for path, sentence in problems]
        # What exists already is no news.
        is_made = is_new and ADOPT not in inputs
        for remark in () if failures else self.kind.remarks(inputs, is_made, self.run.declaration):
            self.run.tell("warning", f"{subject(self.kind.name, inputs)}: {remark}")
        # The inputs of a failure hold placeholders, which the engine would report instead of the sentences.
        return CheckResult(inputs if not failures else {}, failures)

    def _is_in_state(self, given: Inputs, before: Inputs) -> bool:
        """Whether the state holds just what is declared, types included: `1` is not `True`."""
        try:
            filled = self.kind.fill(given, self.account.livemode)
            return json.dumps(filled, sort_keys=True) == json.dumps(before, sort_keys=True)
        except TypeError:
            # Something is not known yet, or is not what `fill` expects.
            return False

    def _linked(self, inputs: Inputs) -> Iterator[Problem]:
        return self.kind.linked_rules(inputs, self.run.declaration)

    def _named_once(self, inputs: Inputs, *, is_new: bool) -> Iterator[Problem]:
        """A new resource with the name of one in the state would be mistaken for it and adopt its object."""
        if self.run.is_named_twice(self.kind, str(inputs.get("owner")), is_new=is_new):
            yield (("owner",), TWO_OF_A_NAME)

    def _claimed_once(self, inputs: Inputs) -> Iterator[Problem]:
        """Two resources that claim the same name in Stripe would take it from each other in every run."""
        owner = inputs.get("owner")
        for name in (*self.kind.having("unique"), ADOPT):
            value = inputs.get(name)
            if isinstance(value, str) and isinstance(owner, str):
                holder = self.run.claim(self.kind, name, value, owner)
                if holder != owner:
                    yield (name,), f"is also used by {name_in(holder)}; only one {self.kind.noun} can have it"

    # -- diff ---------------------------------------------------------------------------------------------------

    @one_line
    def diff(self, id_: str, olds: Inputs, news: Inputs) -> DiffResult:
        outputs, new = declared(olds), declared(news)
        if self._is_unchanged(id_, outputs, new):
            self.account.pin(olds.get("account"))
            self.run.compared(self.kind, id_, new, new, is_replaced=False, refreshing=False)
            return DiffResult(changes=None, replaces=[], delete_before_replace=self.kind.delete_before_replace)
        new = self.kind.arguments(new)
        new = self.kind.foreseen(self.kind.arguments(outputs), new, self.run.takes_back)
        self.account.pin(olds.get("account"))
        change = differ.compare(self.kind, id_, outputs, new, self.run.declaration)
        # A refresh compares what it has just read with the state. That changes nothing in Stripe.
        refreshing = self.run.just_read(self.kind, id_, change.old)
        self.run.compared(self.kind, id_, change.old, new, is_replaced=bool(change.replaces), refreshing=refreshing)
        if change.old != new and not refreshing:
            refusal = differ.refusal(change)
            if refusal:
                raise ProviderError(f"{subject(self.kind.name, new, id_)}: {refusal}")
            self._warn(change)
        # With changes=None the engine compares the inputs itself and prints only what changed. delete_before_replace is
        # always set, because the engine also replaces on its own (`replace_on_changes`).
        return DiffResult(changes=None, replaces=change.replaces, delete_before_replace=self.kind.delete_before_replace)

    def _is_unchanged(self, id_: str, outputs: Inputs, new: Inputs) -> bool:
        """Whether the program declares exactly what the state holds, told without Stripe's types."""
        extra = (*self.kind.outputs, *COMMON_OUTPUTS, CHANGES_KEY)
        old = {name: value for name, value in outputs.items() if name not in extra}
        return old == new and not self.run.has_read(self.kind, id_)

    def _warn(self, change: Change) -> None:
        """Tell what a reviewer should know, and again with more detail once other objects are compared."""
        unanswered: set[tuple[Kind, str]] = set()

        def declaration(kind: Kind, id_: str) -> Declaration | None:
            found = self.run.declaration(kind, id_)
            if found is None:
                unanswered.add((kind, id_))
            return found

        asking = Change(**{**vars(change), "declaration": declaration})
        for notice in self.kind.notices(asking):
            self.run.tell("warning", notice)
        for warning in differ.warnings(asking):
            self.run.tell("warning", f"{subject(self.kind.name, change.new, change.id)}: {warning}")
        self.run.when_compared(unanswered, lambda: self._warn(change))

    # -- create -------------------------------------------------------------------------------------------------

    @one_line
    def create(self, props: Inputs) -> CreateResult:
        new = self.kind.arguments(declared(props))
        owner = str(new["owner"])
        if not self.run.begin(self.kind, owner):
            raise ProviderError(f"{subject(self.kind.name, new)}: {TWO_OF_A_NAME}")
        if runs_under_engine():
            self.account.ask_ahead()
        try:
            remote = self.reconciler.create(new)
        except Exception:
            self.run.abandon(self.kind, owner)
            raise
        self.run.holds(self.kind, owner, remote["id"])
        return CreateResult(str(remote["id"]), self._outs(new, remote))

    # -- read ---------------------------------------------------------------------------------------------------

    @one_line
    def read(self, id_: str, props: Inputs) -> ReadResult:
        self.account.pin(props.get("account"))
        known = self.kind.arguments(declared(props))
        remote = self.reconciler.inventory.read(id_, known.get("owner"))
        ended = remote is not None and self.kind.ended_as_declared(known, remote)
        if remote is None or (self.kind.gone(remote) and not ended):
            return ReadResult("", {})
        there = known if ended else self.reconciler.projection(known, remote)
        inputs = {**there, **self.reconciler.undeclared(there, remote)}
        outs = self._outs(inputs, remote, changes_made(props))
        self.run.was_read(self.kind, id_, self.kind.arguments(declared(outs)))
        return ReadResult(id_, outs, inputs)

    # -- update -------------------------------------------------------------------------------------------------

    @one_line
    def update(self, id_: str, olds: Inputs, news: Inputs) -> UpdateResult:
        self.account.pin(olds.get("account"))
        old, new = (self.kind.arguments(declared(each)) for each in (olds, news))
        changes = changes_made(olds)
        # The old state and its count of updates are part of the idempotency key. So no two updates have the same key,
        # however often a value goes back and forth, and an update that was interrupted gets its own key again.
        remote = self.reconciler.apply(id_, {**old, CHANGES_KEY: changes}, new, None)
        if remote is not None:
            return UpdateResult(self._outs(new, remote, changes + 1))
        same = {name: olds.get(name) for name in (*self.kind.outputs, *COMMON_OUTPUTS)}
        return UpdateResult({**new, **same, **({CHANGES_KEY: changes} if changes else {})})

    # -- delete -------------------------------------------------------------------------------------------------

    @one_line
    def delete(self, id_: str, props: Inputs) -> None:
        self.account.pin(props.get("account"))
        known = self.kind.arguments(declared(props))
        keeper = self.run.keeper(self.kind, id_)
        if keeper is not None or self.run.release(self.kind, id_, known.get("owner")):
            holder = f"'{name_in(keeper)}'" if keeper else "another resource of this stack"
            self.run.tell("info", f"{subject(self.kind.name, known, id_)}: stays in Stripe; {holder} still holds it")
            return
        # The engine does not tell. A resource that the program still declares is replaced, not removed.
        being_replaced = self.run.declares(self.kind, known.get("owner"))
        try:
            left = self.reconciler.remove(id_, known, being_replaced=being_replaced)
        except StripeRefusal as refusal:
            if refusal.status != 404 or refusal.code != "resource_missing":
                raise
            left = None
        if left is None:
            self.reconciler.inventory.forget(id_)
        else:
            self.reconciler.inventory.remember(left)

    def _outs(self, arguments: Inputs, remote: StripeObject, changes: int = 0) -> Inputs:
        """What goes into the state: arguments and outputs."""
        return {
            **arguments,
            **self.reconciler.outputs(arguments, remote),
            "livemode": bool(remote.get("livemode")),
            "account": self.account.id,
            **({CHANGES_KEY: changes} if changes else {}),
        }


def changes_made(props: Mapping[str, Any]) -> int:
    """How often the stack has updated the object, according to the state."""
    return int(props.get(CHANGES_KEY) or 0)
