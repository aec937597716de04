"""`Kind`: the description of one kind of Stripe object, as data; the lifecycle and the documentation read it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from components.providers import shapes
from components.providers.fields import KEEP
from components.providers.shapes import Field, Path, Schema, Struct
from components.providers.values import Inputs

Problem = tuple[Path, str]
Rule = Callable[[Inputs], Iterator[Problem]]
"""Says what is wrong with some declared properties that Stripe's types cannot say; unknown values are no mistake."""

Reasons = Mapping[str, str]

#: `expand` only says how much Stripe answers; the providers ask for what they need.
NEVER_ARGUMENTS: Reasons = {"expand": "the providers expand what they read"}


@dataclass(frozen=True, eq=False)
class Kind:
    """One kind of object.

    Which fields there are, and which of them an update can change, comes from Stripe's own types: a field in the
    create type and not in the update type forces replacement. The tables here hold the exceptions, each with its
    reason.

    Attributes:
        name, noun, path: `Price`, `price`, `/v1/prices`.
        create, update: the types in `stripe.params`, as `module:Name`.
        own: a TypedDict of the arguments that are ours and not Stripe's.
        excluded: parameters that are not arguments.
        as_map: lists of Stripe's that are declared as a mapping from a key of the program's choice.
        replaced: an update has the field, and yet a change replaces the object.
        replaced_when: changed in place, except in one case, which replaces the object.
        updated: an update has no such field, and yet a change is made in place.
        spent: acts once, when the object is created; taking it out later changes nothing.
        modifiers: says how a call is made, not what the object is; a change of it alone makes no call.
        unreadable: Stripe does not return it, so that drift cannot show.
        partly_readable: what a refresh cannot tell; for the documentation.
        cleared: by path, what is sent for a field taken out, where Stripe takes no empty string.
        kept: by path, what stays as it is when it is taken out, since Stripe cannot unset it.
        unique: arguments whose value only one resource of a program can have.
        watched: shown as drift also when it is not declared and not this value.
        assigned: Stripe fills it in when it is left out.
        defaults: what leaving a create-only field out means; writing that down is no change.
        advice: what to do about an answer of Stripe's, by a part of its message.
        outputs: what the resource has beside its arguments.
        when_deleted, when_gone: for the documentation.
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
    excluded: Reasons = field(default_factory=dict)
    as_map: Reasons = field(default_factory=dict)
    replaced: Reasons = field(default_factory=dict)
    replaced_when: Reasons = field(default_factory=dict)
    updated: Reasons = field(default_factory=dict)
    spent: Reasons = field(default_factory=dict)
    modifiers: Reasons = field(default_factory=dict)
    unreadable: Reasons = field(default_factory=dict)
    partly_readable: Reasons = field(default_factory=dict)
    cleared: Mapping[str, Any] = field(default_factory=dict)
    kept: Reasons = field(default_factory=dict)
    unique: tuple[str, ...] = ()
    watched: Mapping[str, Any] = field(default_factory=dict)
    assigned: Reasons = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)
    expand: tuple[str, ...] = ()
    searchable: bool = True
    advice: Reasons = field(default_factory=dict)
    outputs: Reasons = field(default_factory=dict)
    rules: tuple[Rule, ...] = ()

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
        """Our own arguments."""
        return shapes.read_struct(self.own)

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
        fixed = self.create_struct.fields.keys() - self.update_struct.fields.keys() - self.updated.keys()
        return frozenset(fixed | self.replaced.keys())

    @cached_property
    def update_only(self) -> frozenset[str]:
        """The arguments that Stripe only takes once the object exists."""
        return frozenset(self.update_struct.fields.keys() - self.create_struct.fields.keys() - self.modifiers.keys())

    @cached_property
    def updatable(self) -> Mapping[str, Field]:
        """The arguments that an update sets."""
        fixed = self.replaced.keys() | self.modifiers.keys()
        return {name: self.struct.fields[name] for name in self.update_struct.fields if name not in fixed}

    @cached_property
    def clearing(self) -> Mapping[str, Any]:
        """By path, what is sent for a field taken out, where it is not what Stripe's types say."""
        return {**dict.fromkeys(self.kept, KEEP), **self.cleared}

    @cached_property
    def has_metadata(self) -> bool:
        """Whether an object can say who made it."""
        return "metadata" in self.struct.fields

    def _arguments(self, struct: Struct) -> Struct:
        struct = shapes.without(struct, {**NEVER_ARGUMENTS, **self.excluded})
        fields = dict(struct.fields)
        for name in self.as_map:
            if name in fields and isinstance(fields[name].shape, shapes.Array):
                each = fields[name]
                fields[name] = Field(shapes.Map(each.shape.item), each.required, each.clearable)  # type: ignore[union-attr]
        return Struct(struct.name, fields, struct.excluded)
