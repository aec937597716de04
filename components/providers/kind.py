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
"""Yields what is wrong with declared properties beyond Stripe's types; unknown values are not errors."""

Reasons = Mapping[str, str]

#: The argument that names an existing object to adopt, by id. Every kind has it, except links.
ADOPT = "adopt"
#: `expand` only controls how much Stripe returns.
NEVER_ARGUMENTS: Reasons = {"expand": "the providers expand what they read"}


@dataclass(frozen=True)
class Declaration:
    """What the program declares for an object in the state.

    Attributes:
        subject: how messages name it.
        owner: its `<project>/<stack>/<resource name>`.
        arguments: what the program declares.
        before: the arguments in the state.
        is_replaced: whether this run replaces it.
    """

    subject: str
    owner: str
    arguments: Inputs
    before: Inputs
    is_replaced: bool


class Declarations(Protocol):
    """Looks up what the program declares for another object in the state; None until this run has compared it."""

    def __call__(self, kind: Kind, id_: str, /) -> Declaration | None: ...


class TakesBack(Protocol):
    """Answers whether a resource that has no id yet gets an object back, which a run that failed has replaced."""

    def __call__(self, kind: Kind, id_: str, /) -> bool: ...


@dataclass(frozen=True)
class Change:
    """A resource in the state, compared with the program.

    Attributes:
        id: the object's id.
        outputs: everything that the state holds for it.
        old, new: the arguments in the state and in the program; equal if nothing changes.
        replaces: the changed arguments that force a replacement.
        declaration: looks up what the program declares for another object.
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

    Stripe's own types list the fields and which of them an update can change: a field that only the create type has
    forces replacement. `fields` holds the exceptions.

    Attributes:
        name, noun, path: `Price`, `price`, `/v1/prices`.
        create, update: the types in `stripe.params`, as `module:Name`.
        own: a TypedDict of the arguments that are ours and not Stripe's.
        fields: by path, the policy of each argument that Stripe's types do not describe fully.
        outputs: by name, what each output of the resource is.
        advice: what to do about an error from Stripe, by a part of its message.
        expand: what Stripe's answers include beyond the default.
        searchable: whether Stripe can search the kind by metadata.
        is_link: a link between two objects, without an object of its own.
        delete_before_replace: the old object must be deleted before the new one is created.
        natural_key, when_deleted, when_gone: for the documentation.

    Pure functions, where a kind needs more than its fields say:

    Attributes:
        rules: what is wrong with the arguments.
        linked_rules: what is wrong with them, given what the program declares for others: (arguments, declaration).
        fill: the arguments with defaults for our own, so that a preview shows them: (arguments, livemode).
        comparable: the arguments in a canonical form, in which they can be compared.
        foreseen: the arguments with unknown values that can be foreseen: (old, new, whether this run gets back an
            object that a failed run has replaced).
        computed: what Stripe filled in for omitted arguments, from the state's outputs.
        replaces: the changed arguments that force a replacement: (old, new, what `fields` and types say).
        warnings: what a reviewer should know about a change that the diff does not show.
        notices: complete sentences that are the same for many resources, shown once a run.
        remarks: what a reviewer should know about a declaration: (arguments, whether it is new, declarations).
        refusal: why a change is refused unless the program allows it explicitly; None if it is not.
        gone: whether an object that Stripe still returns has ended, such as a cancelled subscription.
        ended_as_declared: whether it ended when the program said it would: (arguments, object).
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
        """The fields whose policy sets an attribute, and its value, by path: `having("keep")`."""
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
        """What Stripe takes to create an object."""
        return self._arguments(shapes.struct_of(self.create))

    @cached_property
    def update_struct(self) -> Struct:
        """What Stripe takes to update an object."""
        return self._arguments(shapes.struct_of(self.update))

    @cached_property
    def own_struct(self) -> Struct:
        """Our own arguments, with `adopt` unless the kind is a link."""
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
        """The arguments that Stripe cannot change: changing one replaces the object."""
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
        """The arguments that affect how a request is made, not the object."""
        return frozenset(self.having("request_option"))

    @cached_property
    def unread(self) -> frozenset[str]:
        """The arguments that Stripe does not return: a refresh leaves them as declared."""
        ours = self.own_struct.fields.keys() - self.drift_from.keys()
        return frozenset({*ours, *self.having("write_only"), *self.request_options})

    @cached_property
    def paid(self) -> frozenset[str]:
        """The arguments that determine what somebody pays, and when."""
        return frozenset(self.having("paid"))

    @cached_property
    def once(self) -> frozenset[str]:
        """The arguments that act only at creation: removing one later does not replace the object."""
        return frozenset(self.create_only & self.having("keep").keys())

    @cached_property
    def defaults(self) -> Mapping[str, Any]:
        """What omitting a create-only argument means."""
        return self.having("default")

    @cached_property
    def drift_from(self) -> Mapping[str, Any]:
        """The default of each argument whose drift shows even if it is not declared."""
        return self.having("drift_from")

    @cached_property
    def clearing(self) -> Mapping[str, Any]:
        """By path, what is sent for a removed field, where that is not what Stripe's types say."""
        return {**dict.fromkeys(self.having("keep"), KEEP), **self.having("unset_to")}

    @cached_property
    def has_metadata(self) -> bool:
        """Whether an object can record its owner."""
        return "metadata" in self.struct.fields

    def arguments(self, props: Mapping[str, Any]) -> Inputs:
        """The arguments among the properties."""
        return {name: value for name, value in props.items() if name in self.struct.fields}

    def _arguments(self, struct: Struct) -> Struct:
        struct = shapes.without(struct, {**NEVER_ARGUMENTS, **self.having("excluded")})
        fields = dict(struct.fields)
        for name in self.having("mapping"):
            if name in fields and isinstance(fields[name].shape, shapes.Array):
                each = fields[name]
                fields[name] = Field(shapes.Map(each.shape.item), each.required, each.clearable)  # type: ignore[union-attr]
        return Struct(struct.name, fields, struct.excluded)
