"""docs/providers.md, written from the tables that the providers run on: `python -m components.providers.reference`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from components.providers.customer import CustomerProvider
from components.providers.default_price import DefaultPriceProvider
from components.providers.kind import Kind
from components.providers.lifecycle import COMMON_OUTPUTS, TRACEBACK_VARIABLE, StripeProvider
from components.providers.meter import MeterProvider
from components.providers.price import PriceProvider
from components.providers.product import ProductProvider
from components.providers.subscription import SubscriptionProvider

PATH = Path(__file__).parents[2] / "docs" / "providers.md"

PROVIDERS: tuple[type[StripeProvider], ...] = (
    MeterProvider,
    ProductProvider,
    DefaultPriceProvider,
    PriceProvider,
    CustomerProvider,
    SubscriptionProvider,
)


def api_version() -> str:
    """The API version that every request names."""
    from stripe._api_version import _ApiVersion

    return _ApiVersion.CURRENT


INTRODUCTION = f"""\
# Providers

What changing, taking out or deleting a resource does in Stripe. This page is written from the tables that the
providers run on (`python -m components.providers.reference`); a test fails when it is not current. What the
parameters mean is in [Stripe's reference](https://docs.stripe.com/api); every parameter that the pinned
stripe-python has is an argument, and `check` holds it to Stripe's own types before anything is sent.

- **In place**: an update changes it. **Replaces**: Stripe cannot change it, so a new object is made first and the
  old one then deleted, unless the kind says otherwise.
- **Taken out**: an argument that leaves the program is unset in Stripe. An argument that was never declared is left
  alone, and so are metadata keys that others have set.
- **Whose it is**: every object's metadata has `pulumi` = `<project>/<stack>/<resource name>` (meters have no
  metadata). `create` looks for that before it makes anything, so a run that was cut short leaves no duplicate.
  What `pulumi state delete` forgot and what moved into a component under its name is taken over in the same way.
  `pulumi up --replace` looks no different to a provider: it takes the object over too, says so, and makes no new one.
- **Renamed**, a resource is another one to Pulumi, and a preview shows one created and one deleted: a subscription
  then begins anew, billed from that day, before the old one is cancelled. `aliases` in its `ResourceOptions` make it
  the same one, updated in place.
- **What exists already** becomes a resource's when its metadata says so: set `pulumi` in Stripe, then declare it.
  (`pulumi import` cannot read dynamic resources.) A meter is known by its event name alone, so that an active one of
  that name and shape is taken over with a warning: it may be another stack's.
- **Links**: link resources by `.id`; other outputs are unknown in the preview of an update.
- **Amounts** are strings, `Decimal`s or whole numbers in minor units. A float is refused: `0.04` is not 0.04.
- **Traces**: a failure is one line; `{TRACEBACK_VARIABLE}=1` in the environment shows where in the code it was.
- **API version**: every request names `{api_version()}`, the one that the pinned stripe-python is made for.
- **Warnings** about what cannot be undone come with the preview. They are sent by `diff`, which sees a replacement
  as one; Pulumi's resource hooks see it as a creation, and stop `pulumi destroy` when they are bound to deletes.
  What the engine alone knows is not warned of: a replacement that `replace_on_changes` asks for, and what leaves the
  program; the preview shows both.
"""


def render() -> str:
    """The whole page."""
    return "\n".join([INTRODUCTION, *(section(provider.kind) for provider in PROVIDERS)])


def section(kind: Kind) -> str:
    """What one kind does."""
    watched = kind.watched.items()
    lines = [f"## {kind.name}", ""]
    lines += [
        f"- **Known by** {kind.natural_key}.",
        f"- **Deleted**: {kind.when_deleted}",
        f"- **Drift**: {kind.when_gone}",
    ]
    lines += [f"- **In place**: {codes(sorted({*kind.updatable, *kind.updated}))}."]
    lines += [f"- **Replaces**: {codes(sorted(kind.create_only))}."]
    lines += reasons("Changed in place though Stripe's update does not take it", kind.updated)
    lines += reasons("In place, but replaces when", kind.replaced_when)
    lines += reasons("Replaces though Stripe's update takes it", kind.replaced)
    lines += reasons("Acts once; taking it out later changes nothing", kind.spent)
    lines += reasons("Says how a call is made; alone it makes none", kind.modifiers)
    lines += reasons("Not read back, so its drift does not show", kind.unreadable)
    lines += reasons("Read back in part", kind.partly_readable)
    lines += reasons("Stays when it is taken out", kind.kept)
    lines += reasons("Taken out, it gets this value", {name: f"`{value!r}`" for name, value in kind.cleared.items()})
    lines += reasons(
        "Shown as drift also when it is not declared",
        {name: f"unless it is `{usual!r}`" if usual is not None else "when it is set" for name, usual in watched},
    )
    lines += reasons(
        "Left out it means this, and writing this down is no change",
        {name: f"`{value!r}`" for name, value in kind.defaults.items()},
    )
    lines += reasons("No arguments", kind.excluded)
    lines += reasons("Outputs beside the arguments", {**kind.outputs, **COMMON_OUTPUTS})
    return "\n".join(lines) + "\n"


def codes(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names) or "nothing"


def reasons(title: str, table: Mapping[str, str]) -> list[str]:
    if not table:
        return []
    return [f"- **{title}**:", *(f"  - `{name}`: {why}" for name, why in sorted(table.items()))]


if __name__ == "__main__":
    PATH.write_text(render())
