"""docs/providers.md, written from the tables that the providers run on: `python -m components.providers.reference`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from components.providers.fields import KEEP, clearing
from components.providers.kind import ADOPT, Kind
from components.providers.kinds import KINDS
from components.providers.lifecycle import COMMON_OUTPUTS, TRACEBACK_VARIABLE
from components.providers.policy import Field
from components.providers.shapes import Map, Struct
from components.providers.values import MISSING

PATH = Path(__file__).parents[2] / "docs" / "providers.md"


def api_version() -> str:
    """The API version that every request names."""
    from stripe._api_version import _ApiVersion

    return _ApiVersion.CURRENT


INTRODUCTION = f"""\
# Providers

What changing, taking out or deleting a resource does in Stripe. This page is written from the tables that the
providers run on (`python -m components.providers.reference`); a test fails when it is not current. What the
parameters mean is in [Stripe's reference](https://docs.stripe.com/api); every parameter that the installed
stripe-python has is an argument, and `check` holds it to Stripe's own types before anything is sent.

- **In place**: an update changes it. **Replaces**: Stripe cannot change it, so a new object is made first and the
  old one then deleted, unless the kind says otherwise.
- **Taken out**: an argument that leaves the program is unset in Stripe. An argument that was never declared is left
  alone, and so are metadata keys that others have set.
- **Whose it is**: every object's metadata has `pulumi` = `<project>/<stack>/<resource name>` (meters have no
  metadata). `create` looks for that before it makes anything, so a run that was cut short leaves no duplicate. What
  is found is taken over only if it is as declared in everything that anyone pays; else the run is refused with both
  values. A meter is taken over when the stack's state holds it, or when Stripe's stored answer to the same create
  (kept for a day) says that this resource made it.
- **What exists already** becomes a resource's with `adopt="<id>"`. The preview, when it has a key, reads the object
  and shows the old and the new value of each argument; without a key it says that it could not look.
- **Held twice**: what another resource of the program or of the state still holds stays as it is when one of the two
  is deleted, and a line says so. A whole destroy deletes it with its last holder.
- **Renamed**, a resource is another one to Pulumi, and a preview shows one created and one deleted: a subscription
  then begins anew, billed from that day, before the old one is cancelled. `aliases` in its `ResourceOptions` make it
  the same one, updated in place; `adopt` under the new name takes the object along.
- **A run that was killed** leaves Pulumi's lock: `pulumi cancel` takes it away. The next `up` then finds what Stripe
  has already done, by owner or by the stored answer, and goes on from there; run `pulumi refresh` first if days passed.
- **Links**: link resources by `.id`; other outputs are unknown in the preview of an update.
- **Amounts** are strings, `Decimal`s or whole numbers in minor units. A float is refused: `0.04` is not 0.04.
- **Refused in the preview**: what Stripe would refuse, as far as the program alone says it. The sentence names the
  argument by its path and never repeats a value, since that may be a secret.
- **Traces**: a failure is one line; `{TRACEBACK_VARIABLE}=1` in the environment shows where in the code it was.
- **API version**: every request names `{api_version()}`, the one that the pinned stripe-python is made for.
- **Warnings** about what cannot be undone come with the preview. They are sent by `diff`, which sees a replacement
  as one; Pulumi's resource hooks see it as a creation, and stop `pulumi destroy` when they are bound to deletes.
  Customers and subscriptions that leave the program are said by `components.program.program()`, which compares with
  the stack's last state. A replacement that `replace_on_changes` asks for is known to the engine alone.
- **Amounts in warnings** are what the program declares of its prices times the quantity. Discounts, taxes and usage are
  not in them. Where a price is not part of the run (`--target`, an id written down), there is none.
- **Only what the program changes is sent**: what somebody set in Stripe beside it stays until a refresh has shown it.
  An item whose price changes keeps the quantity that Stripe has.
"""


def render() -> str:
    """The whole page."""
    return "\n".join([INTRODUCTION, *(section(kind) for kind in KINDS)])


def section(kind: Kind) -> str:
    """What one kind does: a table of its arguments, and what is true of all of them."""
    nested = sorted(path for path in kind.fields if "." in path)
    lines = [
        f"## {kind.name}",
        "",
        f"- **Known by** {kind.natural_key}.",
        f"- **Deleted**: {kind.when_deleted}",
        f"- **Drift**: {kind.when_gone}",
        "",
        "| argument | change | taken out | drift |",
        "|---|---|---|---|",
        *(row(kind, name) for name in sorted(kind.struct.fields.keys() - {"owner"})),
        *(nested_row(path, kind.fields[path]) for path in nested),
        "",
        "| output | |",
        "|---|---|",
        *(f"| `{name}` | {cell(what)} |" for name, what in sorted({**kind.outputs, **COMMON_OUTPUTS}.items())),
    ]
    return "\n".join(lines) + "\n"


def row(kind: Kind, name: str) -> str:
    """One argument."""
    field = kind.fields.get(name, Field())
    cells = [f"`{name}`", changed(kind, name, field), taken_out(kind, name, field), drift(kind, name, field)]
    return "| " + " | ".join(cell(text) for text in cells) + " |"


def changed(kind: Kind, name: str, field: Field) -> str:
    """What a change does."""
    if field.request_option:
        return f"no request: {field.request_option}"
    if field.replaces_when:
        return sentence(
            "in place" + (f" ({field.in_place})" if field.in_place else ""), f"replaces when {field.replaces_when}"
        )
    if field.in_place:
        return f"in place: {field.in_place}"
    if name in kind.create_only:
        return "replaces" + (f": {field.create_only}" if field.create_only else "")
    if name == ADOPT:
        return "none: the object that a new resource takes over"
    if name in kind.own_struct.fields:
        return "in the state only"
    return "in place"


def taken_out(kind: Kind, name: str, field: Field) -> str:
    """What happens when it leaves the program."""
    if kind.struct.fields[name].required:
        return "required"
    if field.request_option or (name in kind.own_struct.fields and not field.in_place):
        return ""
    if field.keep:
        return f"stays: {field.keep}"
    if field.replaces_when and name in kind.replaces({name: {"any": "value"}}, {}, set()):
        return "replaces"
    if field.unset_to is not MISSING:
        return f"becomes {shown(field.unset_to)}"
    if name in kind.create_only or field.in_place:
        return sentence(
            "replaces" if name in kind.create_only else "",
            f"left out it is {field.computed}" if field.computed else "",
            f"left out it is {shown(field.default)}" if field.default is not MISSING else "",
        )
    sent = clearing(name, kind.struct.fields[name], sample(kind, name), kind.clearing)
    return "stays" if sent is KEEP else "unset"


def sample(kind: Kind, name: str) -> Mapping[str, None]:
    """Some value of an argument, as far as unsetting it looks at it: its optional fields, or one key."""
    match kind.struct.fields[name].shape:
        case Struct(fields=fields):
            return {inner: None for inner, each in fields.items() if not each.required}
        case Map():
            return {"key": None}
    return {}


def drift(kind: Kind, name: str, field: Field) -> str:
    """What a refresh shows."""
    if field.request_option or (name in kind.own_struct.fields and name not in kind.drift_from):
        return ""
    usual = (
        ""
        if field.drift_from is MISSING
        else "when it is set"
        if field.drift_from is None
        else "unless it is " + shown(field.drift_from)
    )
    return sentence(
        f"not seen: {field.write_only}" if field.write_only else "shown",
        f"also undeclared, {usual}" if usual else "",
        field.drift,
    )


def nested_row(path: str, field: Field) -> str:
    """What is said of a field inside an argument."""
    change = f"no argument: {field.excluded}" if field.excluded else "with the whole"
    out = (
        f"stays: {field.keep}"
        if field.keep
        else ""
        if field.unset_to is MISSING
        else f"becomes {shown(field.unset_to)}"
    )
    return "| " + " | ".join(cell(text) for text in (f"`{path}`", change, out, field.drift)) + " |"


def sentence(*parts: str) -> str:
    return "; ".join(part for part in parts if part)


def shown(value: object) -> str:
    return f"`{value!r}`"


def cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    PATH.write_text(render())
