"""`up` of 1,000 objects against a sandbox on a port that answers 25 requests a second, as Stripe's test mode does."""

from __future__ import annotations

from benchmarks._engine import WITHOUT_CHECKPOINTS, Size, control, measured, options, project, show
from sandbox import Sandbox
from sandbox.server import serving

REQUESTS_PER_SECOND = 25
MOST_CALLS_AN_OBJECT = 1.1


def main() -> None:
    size = Size.of(options(__doc__ or "").objects)
    for title, env in (("up", {}), ("up without checkpoints", WITHOUT_CHECKPOINTS)):
        with project(size.program()) as made:
            sandbox = Sandbox(made.sandbox_file)
            with serving(sandbox) as server:
                control(made, "POST", "rate_limits", test=REQUESTS_PER_SECOND)
                took = measured(made, "up", "--yes", "--skip-preview", env={**env, "STRIPE_API_BASE": server.url})
            sandbox.close()
            show(f"{title} of {size.total} objects at {REQUESTS_PER_SECOND} requests a second", took)
            limit = took.total / REQUESTS_PER_SECOND
            print(f"    the limit alone costs {limit:.1f} s: {took.seconds / limit:.2f} times that")
            print(f"    {took.total / size.total:.3f} calls an object, {took.refused} refused")
            assert len(made.state()) == size.total, "everything is in the state"
            assert took.total <= MOST_CALLS_AN_OBJECT * size.total
    with project(size.program()) as made:
        took = measured(made, "up", "--yes", "--skip-preview", env=WITHOUT_CHECKPOINTS)
        show(f"up without checkpoints of {size.total} objects on the embedded sandbox, without a limit", took)
        assert took.total <= MOST_CALLS_AN_OBJECT * size.total


if __name__ == "__main__":
    main()
