"""Refresh of 1,000 objects in an account full of other people's: at most two calls an object.

python -m benchmarks.refresh_crowd [--objects 1000]
"""

from __future__ import annotations

from benchmarks._engine import Size, built, measured, options, project, show
from sandbox import Sandbox
from sandbox.store import Store
from tests.engine.conftest import Project

MOST_CALLS_AN_OBJECT = 2
#: So many foreign objects of a kind for each of ours: more pages than single reads would be calls.
FOREIGN = 120


def crowd(made: Project, kind: str, copies: int) -> None:
    """Put newer objects of others beside ours: copies of one of ours, every hundredth owned by another stack."""
    sandbox = Sandbox(made.sandbox_file)
    with sandbox.database.writing() as connection:
        (scope,) = connection.execute("SELECT scope FROM objects LIMIT 1").fetchone()
        store = Store(connection, scope)
        ours = store.query(kind, limit=1)[0]
        # A lookup key is one price's alone.
        taken = {"lookup_key": None} if kind == "price" else {}
        for n in range(copies):
            metadata = {"pulumi": f"another/stack/{n}"} if n % 100 == 0 else {}
            store.put({**ours, "id": f"{ours['id']}F{n}", "metadata": metadata, **taken})
    sandbox.close()


def main() -> None:
    size = Size.of(options(__doc__ or "").objects)
    with project(size.program()) as made:
        built(made)
        for kind, ours in (("customer", size.customers), ("price", size.prices), ("product", size.products)):
            crowd(made, kind, FOREIGN * ours)
        took = measured(made, "refresh", "--yes", "--skip-preview", "--expect-no-changes")
        show(f"refresh of {size.total} objects, {FOREIGN} times as many foreign customers, prices and products", took)
        print(f"    {took.total / size.total:.3f} calls an object")
        assert took.total <= MOST_CALLS_AN_OBJECT * size.total


if __name__ == "__main__":
    main()
