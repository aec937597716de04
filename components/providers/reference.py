"""Writes docs/providers.md from the tables that the providers run on: `python -m components.providers.reference`."""

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

What happens in Stripe when you change, remove or delete something. This page is written from the tables that the
providers run on (`python -m components.providers.reference`), and a test fails when it is out of date. What the
parameters mean is in [Stripe's reference](https://docs.stripe.com/api). Every parameter of the installed stripe-python
is an argument, and `check` validates it against Stripe's own types before anything is sent.

- **In place**: an update changes it. **Replaces**: Stripe cannot change it, so a new object is created first and the
  old one is deleted after that, unless the kind says otherwise.
- **Removed**: an argument that you remove from the program is unset in Stripe. Arguments that the program never
  declared keep their value, and so do metadata keys that others set.
- **Ownership**: every object has metadata `pulumi` = `<project>/<stack>/<resource name>` (meters have no metadata).
  `create` looks for that before it creates anything, so an interrupted run leaves no duplicate. It adopts what it finds
  only if everything that anyone pays is as declared; otherwise it refuses and names both values. It adopts a meter if
  the stack's state holds it, or if Stripe's stored answer to the same create (kept for a day) says that this resource
  created it.
- **Adoption**: `adopt="<id>"` makes an existing object the resource's own, and so does an id in `adopted.<stack>.json`
  ([adopt.md](adopt.md)). If there is a key, the preview reads the object and shows the old and the new value of each
  argument that changes; one line says that the others are adopted unchanged. Without a key it says that it cannot.
- **Two holders**: an object that another resource of the program or of the state still holds stays when one of them is
  deleted, and a line says so. A full destroy deletes it with its last holder.
- **Renaming**: to Pulumi, a renamed resource is another one, so the preview shows one created and one deleted. A
  subscription would start over, billed from that day, before the old one is cancelled. `aliases` in its
  `ResourceOptions` keep it the same and update it in place; `adopt` under the new name keeps the object. The aliases of
  a `Subscriber` hold for its customer, its subscription and its own prices, and it stays on its version.
- **A run that was killed** leaves Pulumi's lock, which `pulumi cancel` removes, and a note of what it was doing, which
  `pulumi refresh --clear-pending-creates` removes; that also reads how far Stripe got. The next `up` of the same
  program finds what Stripe has created, by owner or by the stored answer, and continues from there. If the state is in
  a folder and the run was killed while it wrote it, every command can end with `failed to load checkpoint: EOF`: delete
  the empty `<stack>.json.attrs` beside the state, as `script/pulumi` does.
- **A killed run that is taken back**: what it created for its program is in no state, and goes on billing. So let the
  program run to its end, then take it back. If it is too late for that, run `pulumi refresh` and `pulumi up`: a lookup
  key returns to its price. `pricing verify` then names what is left, to be ended in Stripe.
- **Links**: link resources by `.id`; other outputs are unknown in the preview of an update.
- **Amounts** are strings, `Decimal`s or whole numbers in minor units. A float is refused: `0.04` is not exactly 0.04.
- **Refused in the preview**: what Stripe would refuse, as far as the program alone tells. The message names the
  argument by its path and never repeats a value, which may be a secret.
- **Tracebacks**: a failure is one line. `{TRACEBACK_VARIABLE}=1` in the environment shows where in the code it was.
- **API version**: every request names `{api_version()}`, the version of the pinned stripe-python.
- **Warnings** about what cannot be undone are part of the preview. `diff` sends them, because it sees a replacement as
  one; Pulumi's resource hooks see a creation instead, and a hook on deletes stops `pulumi destroy`. Of customers and
  subscriptions that were removed from the program, `components.program.program()` warns: it compares the program with
  the stack's last state. Only the engine knows of a replacement that `replace_on_changes` asks for.
- **Amounts in warnings** are the declared prices times the quantity, without discounts, taxes and usage. No
  amount is shown for a price that is not part of the run (`--target`, or a literal id).
- **Prices at the renewal**: with `price_changes="at_renewal"` on a subscription, items come, go and move to another
  price when their period ends, through a subscription schedule that carries everything else over; nothing is
  prorated. Until then a refresh shows what is declared, and `billed_until_then` what is billed. A quantity that
  changes together with its price waits with it. Anything else, a quantity alone too, changes now. The old price in
  the program before the renewal takes the move back, and an end of the subscription (`cancel_at_period_end`) comes
  before it. While a schedule is there, Stripe refuses cancellations from the API and from its customer portal. A
  schedule that somebody else made is never touched: what it holds is refused by name. No price moves while the
  invoice of a renewal is a draft, about an hour.
- **Prices that cost the same**: a move between them is never prorated and never invoiced, whatever
  `proration_behavior` is. Usage is billed with the next invoice.
- **Retired prices**: `archive_when_unused=True` on a price refuses to remove it while a subscription is on it or a
  schedule names it. Stripe accepts no schedule that names an archived price.
- **Only changes are sent**: what somebody else set in Stripe stays until a refresh has shown it. An item whose price
  changes keeps the quantity that it has in Stripe.
"""


def render() -> str:
    """The whole page."""
    return "\n".join([INTRODUCTION, *(section(kind) for kind in KINDS)])


def section(kind: Kind) -> str:
    """The section of one kind: a table of its arguments, and what holds for all of them."""
    nested = sorted(path for path in kind.fields if "." in path)
    lines = [
        f"## {kind.name}",
        "",
        f"- **Identified by** {kind.natural_key}.",
        f"- **Deleted**: {kind.when_deleted}",
        f"- **Drift**: {kind.when_gone}",
        "",
        "| argument | changed | removed | drift |",
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
    """What changing an argument does."""
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
        return "none: names the object that a new resource adopts"
    if name in kind.own_struct.fields:
        return "only in the state"
    return "in place"


def taken_out(kind: Kind, name: str, field: Field) -> str:
    """What removing an argument from the program does."""
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
            f"if omitted, {field.computed}" if field.computed else "",
            f"if omitted, {shown(field.default)}" if field.default is not MISSING else "",
        )
    sent = clearing(name, kind.struct.fields[name], sample(kind, name), kind.clearing)
    return "stays" if sent is KEEP else "unset"


def sample(kind: Kind, name: str) -> Mapping[str, None]:
    """A value of an argument, in as much detail as unsetting needs: its optional fields, or one key."""
    match kind.struct.fields[name].shape:
        case Struct(fields=fields):
            return {inner: None for inner, each in fields.items() if not each.required}
        case Map():
            return {"key": None}
    return {}


def drift(kind: Kind, name: str, field: Field) -> str:
    """What a refresh sees of an argument."""
    if field.request_option or (name in kind.own_struct.fields and name not in kind.drift_from):
        return ""
    usual = (
        ""
        if field.drift_from is MISSING
        else "when set"
        if field.drift_from is None
        else "unless " + shown(field.drift_from)
    )
    return sentence(
        f"not seen: {field.write_only}" if field.write_only else "seen",
        f"also if undeclared, {usual}" if usual else "",
        field.drift,
    )


def nested_row(path: str, field: Field) -> str:
    """The row of a field inside an argument."""
    change = f"not an argument: {field.excluded}" if field.excluded else "with its parent"
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
