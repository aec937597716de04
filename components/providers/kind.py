"""`Kind`: the description of one kind of Stripe object, as data and pure functions; everything else reads it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from dataclasses import fields as dataclass_fields
from functools import cached_property
from typing import Any, Protocol

from components.providers import policy, shapes
from components.providers.fields import KEEP
from components.providers.shapes import Field, Path, Schema, Struct
from components.providers.values import Inputs

Problem = tuple[Path, str]
Rule = Callable[[Inputs], Iterator[Problem]]
"""Says what is wrong with some declared properties that Stripe's types cannot say; unknown values are no mistake."""

Reasons = Mapping[str, str]

#: The argument of every kind with an object of its own: the id of an existing object that the resource shall be.
ADOPT = "adopt"
#: `expand` only says how much Stripe answers.
NEVER_ARGUMENTS: Reasons = {"expand": "the providers expand what they read"}


@dataclass(frozen=True)
class Declaration:
    """A resource of the program whose object the state holds.

    Attributes:
        subject: how messages name it.
        owner: its `<project>/<stack>/<resource name>`.
        arguments: what the program declares.
        before: the arguments in the state.
        is_replaced: whether another object takes its place in this run.
    """

    subject: str
    owner: str
    arguments: Inputs
    before: Inputs
    is_replaced: bool


class Declarations(Protocol):
    """Answers what the program declares of another object of the state; None where nobody has asked that yet."""

    def __call__(self, kind: Kind, id_: str, /) -> Declaration | None: ...


class TakesBack(Protocol):
    """Answers whether a resource that has no id yet gets an object back, which a run that failed has replaced."""

    def __call__(self, kind: Kind, id_: str, /) -> bool: ...


@dataclass(frozen=True)
class Change:
    """A resource of the state against what the program declares.

    Attributes:
        id: the object's id.
        outputs: everything that the state holds of it.
        old, new: the arguments in the state and in the program; equal where nothing changes.
        replaces: the changed arguments that force a replacement.
        declaration: what the program declares of another object.
    """

    kind: Kind
    id: str
    outputs: Inputs
    old: Inputs
    new: Inputs
    replaces: list[str]
    declaration: Declarations


def _unchanged(arguments: Inputs) -> Inputs:
    return arguments


def _nothing(_: Any) -> Inputs:
    return {}


def _no_problem(_: Inputs, __: Declarations) -> Iterator[Problem]:
    yield from ()


def _silent(_: Change) -> Iterator[str]:
    yield from ()


@dataclass(frozen=True, eq=False)
class Kind:
    """One kind of object.

    Which fields there are, and which of them an update can change, comes from Stripe's own types: a field in the
    create type and not in the update type forces replacement. `fields` holds the exceptions.

    Attributes:
        name, noun, path: `Price`, `price`, `/v1/prices`.
        create, update: the types in `stripe.params`, as `module:Name`.
        own: a TypedDict of the arguments that are ours and not Stripe's.
        fields: the policy of each argument that Stripe's types do not describe wholly, by path.
        outputs: what the resource has beside its arguments.
        advice: what to do about an answer of Stripe's, by a part of its message.
        expand: what an answer shall include.
        searchable: whether Stripe can search the kind by metadata.
        is_link: a link between two objects, without an object of its own.
        delete_before_replace: the old object must go before the new one is made.
        natural_key, when_deleted, when_gone: for the documentation.

    Pure functions, where a kind needs more than its fields say:

    Attributes:
        rules: what is wrong with the arguments.
        linked_rules: what is wrong with them beside what the program declares of others: (arguments, declaration).
        fill: our own arguments with their defaults, so that a preview shows what will happen: (arguments, livemode).
        comparable: the arguments in the one form in which two can be compared.
        foreseen: the arguments with what is not known yet and can be told: (old, new, whether the run takes an object
            back that a run which failed has replaced).
        computed: what Stripe has filled in for arguments that were left out, as the state's outputs know it.
        replaces: the changed arguments that force a replacement: (old, new, what `fields` and types say).
        warnings: what a reviewer should know of a change and its diff does not say.
        notices: whole sentences that are the same for many resources, told once a run.
        remarks: what a reviewer should know of what is declared: (arguments, whether it is new, declarations).
        refusal: why a change is refused that the program must allow by name; None for none.
        gone: whether an object of Stripe's is there and yet no more, such as a cancelled subscription.
        ended_as_declared: whether it is no more because the program said when it ends: (arguments, object).
    """

    name: str
    noun: str
    path: str
    create: str
    update: str
    own: Any
    when_deleted: str
    when_gone: str
    natural_key: str
    fields: Mapping[str, policy.Field] = field(default_factory=dict)
    outputs: Reasons = field(default_factory=dict)
    advice: Reasons = field(default_factory=dict)
    expand: tuple[str, ...] = ()
    searchable: bool = True
    is_link: bool = False
    delete_before_replace: bool = False
    rules: tuple[Rule, ...] = ()
    linked_rules: Callable[[Inputs, Declarations], Iterator[Problem]] = _no_problem
    fill: Callable[[Inputs, bool], Inputs] = lambda inputs, livemode: inputs
    comparable: Callable[[Inputs], Inputs] = _unchanged
    foreseen: Callable[[Inputs, Inputs, TakesBack], Inputs] = lambda old, new, takes_back: new
    computed: Callable[[Inputs], Inputs] = _nothing
    replaces: Callable[[Inputs, Inputs, set[str]], Iterable[str]] = lambda old, new, names: names
    warnings: Callable[[Change], Iterator[str]] = _silent
    notices: Callable[[Change], Iterator[str]] = _silent
    remarks: Callable[[Inputs, bool, Declarations], Iterable[str]] = lambda inputs, is_new, declaration: ()
    refusal: Callable[[Change], str | None] = lambda change: None
    gone: Callable[[Mapping[str, Any]], bool] = lambda remote: False
    ended_as_declared: Callable[[Inputs, Mapping[str, Any]], bool] = lambda known, remote: False

    # -- fields -------------------------------------------------------------------------------------------------

    def having(self, attribute: str) -> Mapping[str, Any]:
        """The fields with a policy of some name, and what it says: `having("keep")`."""
        return self._policies[attribute]

    @cached_property
    def _policies(self) -> Mapping[str, Mapping[str, Any]]:
        found: dict[str, dict[str, Any]] = {each.name: {} for each in dataclass_fields(policy.Field)}
        for path, entry in self.fields.items():
            for each in dataclass_fields(entry):
                if getattr(entry, each.name) != each.default:
                    found[each.name][path] = getattr(entry, each.name)
        return found

    @cached_property
    def create_struct(self) -> Struct:
        """What Stripe takes to create one."""
        return self._arguments(shapes.struct_of(self.create))

    @cached_property
    def update_struct(self) -> Struct:
        """What Stripe takes to update one."""
        return self._arguments(shapes.struct_of(self.update))

    @cached_property
    def own_struct(self) -> Struct:
        """Our own arguments; what has an object of its own can take one over by its id."""
        own = shapes.read_struct(self.own)
        return own if self.is_link else Struct(own.name, {**own.fields, ADOPT: Field(shapes.Scalar("string"))})

    @cached_property
    def struct(self) -> Struct:
        """Every argument."""
        stripe = shapes.merge(self.create_struct, self.update_struct)
        return Struct(self.name, {**stripe.fields, **self.own_struct.fields}, stripe.excluded)

    @cached_property
    def schema(self) -> Schema:
        return Schema(self.struct)

    @cached_property
    def create_only(self) -> frozenset[str]:
        """The arguments that Stripe cannot change: a change of one replaces the object."""
        fixed = self.create_struct.fields.keys() - self.update_struct.fields.keys() - self.having("in_place").keys()
        return frozenset(fixed | self.having("create_only").keys())

    @cached_property
    def update_only(self) -> frozenset[str]:
        """The arguments that Stripe only takes once the object exists."""
        return frozenset(self.update_struct.fields.keys() - self.create_struct.fields.keys() - self.request_options)

    @cached_property
    def updatable(self) -> Mapping[str, Field]:
        """The arguments that an update sets."""
        fixed = self.having("create_only").keys() | self.request_options
        return {name: self.struct.fields[name] for name in self.update_struct.fields if name not in fixed}

    @cached_property
    def request_options(self) -> frozenset[str]:
        """The arguments that say how a request is made."""
        return frozenset(self.having("request_option"))

    @cached_property
    def unread(self) -> frozenset[str]:
        """The arguments that Stripe does not return: a refresh leaves them as declared."""
        ours = self.own_struct.fields.keys() - self.drift_from.keys()
        return frozenset({*ours, *self.having("write_only"), *self.request_options})

    @cached_property
    def paid(self) -> frozenset[str]:
        """The arguments that say what somebody pays, and when."""
        return frozenset(self.having("paid"))

    @cached_property
    def once(self) -> frozenset[str]:
        """The arguments that act when the object is created: taking one out later replaces nothing."""
        return frozenset(self.create_only & self.having("keep").keys())

    @cached_property
    def defaults(self) -> Mapping[str, Any]:
        """What leaving out a create-only argument means."""
        return self.having("default")

    @cached_property
    def drift_from(self) -> Mapping[str, Any]:
        """The usual value of each argument that shows as drift even when it is not declared."""
        return self.having("drift_from")

    @cached_property
    def clearing(self) -> Mapping[str, Any]:
        """By path, what is sent for a field taken out, where it is not what Stripe's types say."""
        return {**dict.fromkeys(self.having("keep"), KEEP), **self.having("unset_to")}

    @cached_property
    def has_metadata(self) -> bool:
        """Whether an object can say who made it."""
        return "metadata" in self.struct.fields

    def arguments(self, props: Mapping[str, Any]) -> Inputs:
        """The arguments among some properties."""
        return {name: value for name, value in props.items() if name in self.struct.fields}

    def _arguments(self, struct: Struct) -> Struct:
        struct = shapes.without(struct, {**NEVER_ARGUMENTS, **self.having("excluded")})
        fields = dict(struct.fields)
        for name in self.having("mapping"):
            if name in fields and isinstance(fields[name].shape, shapes.Array):
                each = fields[name]
                fields[name] = Field(shapes.Map(each.shape.item), each.required, each.clearable)  # type: ignore[union-attr]
        return Struct(struct.name, fields, struct.excluded)
