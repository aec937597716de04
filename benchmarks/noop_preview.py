"""A preview of 1,000 objects in which nothing has changed: it asks nothing of Stripe."""

from __future__ import annotations

import time

from benchmarks._engine import Size, built, measured, options, project, show
from components.account import Account
from components.providers.kinds import PROVIDERS
from components.settings import Settings
from tests.engine.conftest import Project


def our_share(made: Project) -> float:
    """Processor seconds of `check` and `diff` for everything in the state, with what they read first."""
    state = [(resource["type"].rpartition(":")[2], resource) for resource in made.state()]
    account = Account(Settings.read({"mode": "sandbox"}.get, {}))
    start = time.process_time()
    providers = {provider.kind.name: provider() for provider in PROVIDERS}
    for provider in providers.values():
        provider.use(account)
    for kind, resource in state:
        checked = providers[kind].check(resource["inputs"], resource["inputs"])
        providers[kind].diff(resource["id"], resource["outputs"], checked.inputs)
    return time.process_time() - start


def main() -> None:
    size = Size.of(options(__doc__ or "").objects)
    with project(size.program()) as made:
        built(made)
        took = measured(made, "preview", "--expect-no-changes")
        show(f"preview of {size.total} objects without a change", took)
        ours = our_share(made)
        print(f"    {1000 * took.seconds / size.total:.1f} ms an object; check and diff of the providers: {ours:.2f} s")
        assert took.total == 0, "a preview asks nothing of Stripe"


if __name__ == "__main__":
    main()
